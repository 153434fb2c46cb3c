#include "bind/update.hpp"

#include <algorithm>
#include <atomic>
#include <cmath>
#include <cstring>
#include <stdexcept>

#include <pybind11/stl.h>

#include "bind/chunks.hpp"
#include "bind/engine/leaves.hpp"
#include "bind/errors.hpp"
#include "core/fpenv.hpp"
#include "core/targets.hpp"

namespace stepsize {
namespace {

// The reason why a call is refused.
struct Misfit {
    const char* kind;
    size_t argument, leaf, other_argument, other_leaf;
};

// An array, or the members of a list or tuple of arrays.
struct Members {
    PyObject* single = nullptr;
    PyObject* const* items = nullptr;
    size_t count = 0;

    explicit Members(PyObject* object) {
        if (is_array(object)) {
            single = object;
            count = 1;
        } else if (PyList_Check(object) || PyTuple_Check(object)) {
            items = PySequence_Fast_ITEMS(object);
            count = size_t(PySequence_Fast_GET_SIZE(object));
        } else {
            throw Misfit{"kind", 0, 0, 0, 0};
        }
    }
    PyObject* at(size_t i) const { return single ? single : items[i]; }
};

// Many arrays usually have the addresses of the last call, which `known` holds.
void check_apart(std::vector<Access>& accesses, std::vector<Access>& known) {
    constexpr size_t many = 64;
    if (accesses.size() >= many && accesses == known)
        return;
    std::vector<Access> given;
    if (accesses.size() >= many)
        given = accesses;
    const auto [next, before] = find_conflict(accesses);
    if (next)
        throw Misfit{"overlap", next->argument, next->leaf, before->argument, before->leaf};
    if (!given.empty())
        known = given;
}

struct Work {
    Dtype dtype;
    size_t leaf;
    Span span;
};

// Everything one call reads and writes, checked.
class Call {
  public:
    std::vector<Work> work;
    size_t elements = 0;
    bool uses[dtype_count] = {};

    Call(py::handle params, py::handle grads, const py::tuple& state, py::handle scalars,
         size_t scalar_count, std::vector<Access>& known) {
        const Members x = members(params, 0, nullptr), g = members(grads, 1, &x);
        std::vector<Members> slots;
        for (size_t k = 0; k < state.size(); ++k)
            slots.push_back(members(state[k], 2 + k, &x));
        accesses_.reserve(x.count * (2 + slots.size()) + 1);
        work.reserve(x.count);
        for (size_t i = 0; i < x.count; ++i)
            add(x.at(i), g.at(i), slots, i);
        if (scalar_count > 0) {
            const size_t argument = 2 + state.size();
            const bool fits = is_array(scalars.ptr()) && is_plain(scalars.ptr(), Dtype::float64) &&
                              has_shape(proxy(scalars.ptr()), {Py_ssize_t(scalar_count)});
            if (!fits || !(proxy(scalars.ptr())->flags & writeable_flag))
                throw Misfit{"scalars", argument, 0, 0, 0};
            occupy(scalars.ptr(), scalar_count * sizeof(double), argument, 0, true);
        }
        check_apart(accesses_, known);
        if (elements < release_elements)
            return;
        pins_.reserve(accesses_.size());
        for (const py::handle lists : {params, grads})
            hold(lists);
        for (const py::handle lists : state)
            hold(lists);
    }

    // Calls job(work) for every chunk.
    template <class Job> void run(const Job& job) const {
        run_chunks(work.size(), elements, [&](size_t i) { job(work[i]); });
    }

  private:
    std::vector<Access> accesses_;
    std::vector<py::tuple> held_; // other threads may empty the lists while the kernels run,
    Pins pins_;                   // and resize arrays

    static Members members(py::handle object, size_t argument, const Members* like) {
        try {
            const Members found(object.ptr());
            if (like && (found.single == nullptr) != (like->single == nullptr))
                throw Misfit{"kind", argument, 0, 0, 0};
            if (like && found.count != like->count)
                throw Misfit{"length", argument, 0, 0, 0};
            return found;
        } catch (Misfit& misfit) {
            misfit.argument = argument;
            throw;
        }
    }

    void hold(py::handle lists) {
        if (PyList_Check(lists.ptr()))
            held_.push_back(py::reinterpret_steal<py::tuple>(PyList_AsTuple(lists.ptr())));
        const Members arrays(PyList_Check(lists.ptr()) ? held_.back().ptr() : lists.ptr());
        for (size_t i = 0; i < arrays.count; ++i)
            if (arrays.at(i) != Py_None)
                pins_.add(arrays.at(i));
    }

    // The array's memory, if the array fits its leaf.
    static char* memory(PyObject* array, Dtype dtype, const ArrayProxy* like, size_t argument,
                        size_t leaf) {
        const auto stop = [=](const char* kind) { throw Misfit{kind, argument, leaf, 0, 0}; };
        if (!is_array(array))
            stop("array");
        if (is_subclass(array) && PyObject_HasAttrString(array, "mask"))
            stop("mask");
        if (!has_dtype(array, dtype))
            stop("dtype");
        const ArrayProxy* found = proxy(array);
        if (!has_shape(found, size_t(like->nd), like->dimensions))
            stop("shape");
        if (!is_plain(array, dtype))
            stop("layout");
        if (argument != 1 && !(found->flags & writeable_flag))
            stop("read-only");
        return found->data;
    }

    void occupy(PyObject* array, size_t bytes, size_t argument, size_t leaf, bool written) {
        const char* begin = proxy(array)->data;
        accesses_.push_back({begin, begin + bytes, argument, leaf, written});
    }

    void add(PyObject* array, PyObject* gradient, const std::vector<Members>& slots, size_t leaf) {
        if (!is_array(array))
            throw Misfit{"array", 0, leaf, 0, 0};
        Work whole = {};
        whole.leaf = leaf;
        whole.dtype = has_dtype(array, Dtype::float64) ? Dtype::float64 : Dtype::float32;
        const ArrayProxy* like = proxy(array);
        whole.span.g_dtype = whole.dtype;
        whole.span.x = memory(array, whole.dtype, like, 0, leaf);
        size_t size = 1;
        for (int axis = 0; axis < like->nd; ++axis)
            size *= size_t(like->dimensions[axis]);
        const size_t bytes = size * item_size(whole.dtype);
        const bool still = gradient == Py_None; // the leaf is not updated
        if (!still)
            whole.span.g = memory(gradient, whole.dtype, like, 1, leaf);
        for (size_t k = 0; k < slots.size(); ++k)
            whole.span.slots[k].data = memory(slots[k].at(leaf), whole.dtype, like, 2 + k, leaf);
        if (size == 0)
            return;
        occupy(array, bytes, 0, leaf, true);
        if (!still && whole.span.g != whole.span.x) // reading in place is harmless
            occupy(gradient, bytes, 1, leaf, false);
        for (size_t k = 0; k < slots.size(); ++k)
            occupy(slots[k].at(leaf), bytes, 2 + k, leaf, true);
        if (still)
            return;
        elements += size;
        uses[int(whole.dtype)] = true;
        whole.span.size = size;
        split(work, whole, int(slots.size()), prefetches());
    }
};

void check_finite(const Call& call, int octaves) {
    const auto holds = [=](const Work& part) {
        return table().all_finite[int(part.dtype)](part.span.g, part.span.size, octaves);
    };
    std::atomic<bool> finite{true};
    call.run([&](const Work& part) {
        if (!holds(part))
            finite.store(false, std::memory_order_relaxed);
    });
    for (const Work& part : call.work)
        if (!finite && !holds(part))
            throw Misfit{"nonfinite", 1, part.leaf, 0, 0};
}

} // namespace

Update::Update(const std::string& kernel, const std::vector<double>& numbers, double coupled,
               double decoupled, double max_lr, double cautious, double limit, double sign,
               bool check, size_t scalar_count, const std::vector<double>& bounds, double l1)
    : rule_(int(find_rule(kernel) - table().rules)), numbers_(numbers),
      prologue_{sign, limit, coupled, decoupled, cautious, 0}, check_(check),
      scalar_count_(scalar_count), bounded_(!bounds.empty()), l1_(l1), max_lr_(max_lr) {
    const std::string names = table().rules[rule_].numbers;
    if (numbers.size() != size_t(std::count(names.begin(), names.end(), ',')) ||
        scalar_count > max_scalars || table().rules[rule_].sums > 0 ||
        (bounded_ && bounds.size() != 4))
        throw std::invalid_argument(kernel + " cannot be made of these numbers");
    for (size_t k = 0; bounded_ && k < 2; ++k) {
        single_[k] = float(bounds[k]);
        double_[k] = bounds[2 + k];
    }
}

py::object Update::apply(py::handle params, py::handle grads, const py::tuple& state, int64_t t,
                         double lr, double factor, py::handle scalars) {
    const Rule& rule = table().rules[rule_];
    if (int(state.size()) != rule.slots)
        throw std::invalid_argument(std::string(rule.name) + ": wrong number of state arrays");
    const DefaultFloatingPoint environment;
    try {
        const Call call(params, grads, state, scalars, scalar_count_, known_);
        if (check_)
            check_finite(call, std::isinf(prologue_.limit) ? headroom : 1);
        double* kept =
            scalar_count_ ? reinterpret_cast<double*>(proxy(scalars.ptr())->data) : nullptr;
        double after[max_scalars] = {}, numbers[max_numbers] = {lr};
        std::copy(numbers_.begin(), numbers_.end(), numbers + 1);
        Prologue prologue = prologue_;
        prologue.scale *= factor;
        const double share = lr * prologue_.shrink;
        const double taken = max_lr_ > 0 ? share * (lr / max_lr_) : share;
        prologue.shrink = int(prologue_.cautious) & 2 ? taken : 1 - taken;
        alignas(64) unsigned char bound[dtype_count][max_bound_rule];
        for (int dtype = 0; dtype < dtype_count; ++dtype) {
            if (!call.uses[dtype])
                continue;
            std::copy(kept, kept + scalar_count_, after); // each starts from the caller's scalars
            rule.prepare[dtype](numbers, t, after, prologue, bound[dtype]);
        }
        if (!call.work.empty())
            std::copy(after, after + scalar_count_, kept);
        const double threshold = lr * l1_;
        const Bounds bounds[dtype_count] = {{&single_[0], &single_[1], &threshold, false},
                                            {&double_[0], &double_[1], &threshold, false}};
        call.run([&](const Work& part) {
            Span span = part.span;
            span.followed = bounded_;
            if (bounded_)
                span.bounds = bounds[int(part.dtype)];
            rule.run[int(part.dtype)](bound[int(part.dtype)], span, nullptr);
        });
    } catch (const Misfit& misfit) {
        return py::make_tuple(misfit.kind, misfit.argument, misfit.leaf, misfit.other_argument,
                              misfit.other_leaf);
    }
    return py::none();
}

namespace {

// Update.apply(params, grads, state, step, lr, factor, scalars)
PyObject* apply(PyObject* self, PyObject* const* args, Py_ssize_t count) {
    if (count != 7 || !PyTuple_Check(args[2])) {
        PyErr_SetString(PyExc_TypeError,
                        "apply needs params, grads, a tuple, step, lr, factor and scalars");
        return nullptr;
    }
    const long long t = PyLong_AsLongLong(args[3]);
    const double lr = PyFloat_AsDouble(args[4]), factor = PyFloat_AsDouble(args[5]);
    if (PyErr_Occurred())
        return nullptr;
    try {
        const auto state = py::reinterpret_borrow<py::tuple>(args[2]);
        return py::handle(self)
            .cast<Update&>()
            .apply(args[0], args[1], state, t, lr, factor, args[6])
            .release()
            .ptr();
    } catch (...) {
        return raise_current();
    }
}

} // namespace

void bind_update(py::module_& m) {
    py::class_<Update> type(m, "Update");
    // A raw method of the type: pybind11's dispatcher costs more than a small step.
    static PyMethodDef method = {
        "apply", reinterpret_cast<PyCFunction>(reinterpret_cast<void*>(apply)), METH_FASTCALL,
        "apply(params, grads, state, step, lr, factor, scalars)"};
    type.attr("apply") = py::reinterpret_steal<py::object>(
        PyDescr_NewMethod(reinterpret_cast<PyTypeObject*>(type.ptr()), &method));
    type.def(py::init<const std::string&, const std::vector<double>&, double, double, double,
                      double, double, double, bool, size_t, const std::vector<double>&, double>(),
             py::arg("kernel"), py::arg("numbers"), py::arg("coupled"), py::arg("decoupled"),
             py::arg("max_lr"), py::arg("cautious"), py::arg("limit"), py::arg("sign"),
             py::arg("check"), py::arg("scalars"), py::arg("bounds"), py::arg("l1"));
}

} // namespace stepsize
