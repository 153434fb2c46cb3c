// Python bindings of what is done with matrices in a fixed order; see kernels/product.hpp and
// kernels/decompose.hpp.
#include <cstring>

#include <pybind11/stl.h>

#include "bind/chunks.hpp"
#include "core/fpenv.hpp"
#include "core/targets.hpp"

namespace stepsize {
namespace {

[[noreturn]] void refuse(const char* name, const char* needs) {
    throw py::type_error(std::string(name) + ": needs " + needs);
}

Dtype dtype_of(const py::array& a, const py::array& b, const char* name) {
    const Dtype dtype = is_plain(a.ptr(), Dtype::float32) ? Dtype::float32 : Dtype::float64;
    if (!is_plain(a.ptr(), dtype) || !is_plain(b.ptr(), dtype) || a.ndim() != 2 || b.ndim() != 2 ||
        a.shape(1) != b.shape(0))
        refuse(name, "two contiguous matrices of one dtype, float32 or float64, that fit each "
                     "other");
    return dtype;
}

py::array matrix(const py::dtype& dtype, py::ssize_t rows, py::ssize_t columns) {
    return py::array(dtype, std::vector<py::ssize_t>{rows, columns});
}

py::array product(const py::array& a, const py::array& b) {
    const Dtype dtype = dtype_of(a, b, "product");
    py::array c = matrix(a.dtype(), a.shape(0), b.shape(1));
    const size_t rows = size_t(a.shape(0)), columns = size_t(b.shape(1));
    const size_t depth = size_t(a.shape(1));
    char* const out = proxy(c.ptr())->data;
    if (depth == 0)
        std::memset(out, 0, size_t(c.nbytes()));
    if (rows == 0 || columns == 0 || depth == 0)
        return c;
    Pins pins;
    pins.add(a.ptr());
    pins.add(b.ptr());
    const char *left = proxy(a.ptr())->data, *right = proxy(b.ptr())->data;
    const WholeTable& known = whole_table();
    const size_t strip = known.strip_columns[int(dtype)];
    const DefaultFloatingPoint environment;
    run_chunks((columns + strip - 1) / strip, rows * columns * depth / 16, [=, &known](size_t i) {
        known.product[int(dtype)](left, right, out, rows, columns, depth, i);
    });
    return c;
}

// A copy of a square float64 matrix, which a decomposition overwrites, and its memory.
struct Square {
    size_t n;
    std::vector<double> copy, work;
    py::array found;
    double* out;

    Square(const py::array& a, const char* name) {
        if (!is_plain(a.ptr(), Dtype::float64) || a.ndim() != 2 || a.shape(0) != a.shape(1) ||
            a.size() == 0)
            refuse(name, "a contiguous square float64 matrix");
        n = size_t(a.shape(0));
        const double* data = reinterpret_cast<const double*>(proxy(a.ptr())->data);
        copy.assign(data, data + n * n);
        work.resize((n + 4) * n);
        found = matrix(a.dtype(), a.shape(0), a.shape(0));
        out = reinterpret_cast<double*>(proxy(found.ptr())->data);
    }
};

py::tuple eigen(const py::array& a) {
    Square square(a, "eigen");
    py::array_t<double> values(py::ssize_t(square.n));
    double* const numbers = values.mutable_data();
    {
        const InterpreterReleased released;
        const DefaultFloatingPoint environment;
        whole_table().eigen(square.copy.data(), numbers, square.out, square.n, square.work.data());
    }
    return py::make_tuple(values, square.found);
}

py::array orthonormal(const py::array& a) {
    Square square(a, "orthonormal");
    {
        const InterpreterReleased released;
        const DefaultFloatingPoint environment;
        whole_table().orthonormal(square.copy.data(), square.out, square.n, square.work.data());
    }
    return square.found;
}

py::array solve_turned(const py::array& q, const py::array& b) {
    const Dtype dtype = dtype_of(q, b, "solve_turned");
    if (q.shape(0) != q.shape(1))
        refuse("solve_turned", "a square matrix");
    py::array x = matrix(b.dtype(), b.shape(0), b.shape(1));
    std::memcpy(proxy(x.ptr())->data, proxy(b.ptr())->data, size_t(b.nbytes()));
    const DefaultFloatingPoint environment;
    whole_table().solve_turned[int(dtype)](proxy(q.ptr())->data, proxy(x.ptr())->data,
                                           size_t(b.shape(0)), size_t(b.shape(1)));
    return x;
}

} // namespace

void bind_matrices(py::module_& m) {
    m.attr("depth_block") = depth_block;
    m.def("product", product, py::arg("a"), py::arg("b"),
          "The product of two matrices, in its fixed order");
    m.def("eigen", eigen, py::arg("a"),
          "Eigenvalues of a symmetric matrix in ascending order, and its eigenvectors as columns");
    m.def("orthonormal", orthonormal, py::arg("a"),
          "The orthonormal factor of a matrix, by Householder's reflections");
    m.def("solve_turned", solve_turned, py::arg("q"), py::arg("b"),
          "The solution x of q^T x = b for an upper triangular q");
}

} // namespace stepsize
