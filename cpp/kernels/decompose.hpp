// Eigenvectors, orthonormal bases and triangular systems in a fixed order: loops go along rows, and
// sums of a row use 16 lanes. Matrices are n x n, row after row.
#pragma once

#include "kernels/product.hpp"
#include "kernels/reduce.hpp"

namespace stepsize {
namespace {

STEPSIZE_SHARED_CODE inline double dot(const double* a, const double* b, size_t count) {
    Lanes sum;
    sum.add(count, 0, [=](size_t i) { return a[i] * b[i]; });
    return sum.total();
}

// y += factor * x
template <class F> inline void add_row(F factor, const F* x, F* y, size_t count) {
#pragma omp simd
    for (size_t i = 0; i < count; ++i)
        y[i] += factor * x[i];
}

// sum = v[0] a[0] + v[1] a[1] + ..., row after row; four at a time, which read `sum` once.
STEPSIZE_SHARED_CODE inline void sum_rows(const double* v, size_t rows, MatrixRef<const double> a,
                                          double* sum, size_t count) {
    for (size_t j = 0; j < count; ++j)
        sum[j] = 0;
    size_t i = 0;
    for (; i + 4 <= rows; i += 4) {
        const double *one = a.row(i), *two = a.row(i + 1), *three = a.row(i + 2);
        const double *four = a.row(i + 3), *w = v + i;
#pragma omp simd
        for (size_t j = 0; j < count; ++j)
            sum[j] =
                (((sum[j] + w[0] * one[j]) + w[1] * two[j]) + w[2] * three[j]) + w[3] * four[j];
    }
    for (; i < rows; ++i)
        add_row(v[i], a.row(i), sum, count);
}

// Turns v into the vector of the reflection I - beta v v^T that leaves of v only its first number,
// and returns beta; 0 where nothing else is there.
inline double reflector(double* v, size_t count, double& left) {
    left = v[0];
    double top = 0;
    for (size_t i = 1; i < count; ++i)
        top = maximum(top, abs_(v[i]));
    if (!(top > 0))
        return 0;
    top = maximum(top, abs_(v[0])); // the length of v does not matter, but its square has to be one
    for (size_t i = 0; i < count; ++i)
        v[i] /= top;
    const double rest = dot(v + 1, v + 1, count - 1);
    const double length = root(v[0] * v[0] + rest), leaves = v[0] > 0 ? -length : length;
    v[0] -= leaves;
    left = leaves * top;
    return 2 / (v[0] * v[0] + rest);
}

// a = (I - beta v v^T) a for rows and columns from `first` on; `row` is memory of n numbers.
STEPSIZE_SHARED_CODE inline void reflect(double* a, size_t n, size_t first, size_t column,
                                         const double* v, double beta, double* row) {
    const size_t count = n - column;
    sum_rows(v, n - first, {a + first * n + column, n}, row, count);
    for (size_t i = first; i < n; ++i)
        add_row(-beta * v[i - first], row, a + i * n + column, count);
}

// q = the product of the reflections, of which `vectors` has one in each row, from the diagonal on.
STEPSIZE_SHARED_CODE inline void collect(const double* vectors, const double* betas, size_t n,
                                         size_t count, size_t shift, double* q, double* row) {
    for (size_t i = 0; i < n * n; ++i)
        q[i] = 0;
    for (size_t i = 0; i < n; ++i)
        q[i * n + i] = 1;
    for (size_t k = count; k-- > 0;)
        if (betas[k] != 0)
            reflect(q, n, k + shift, k + shift, vectors + k * n, betas[k], row);
}

// The orthonormal factor of a = q r by Householder's reflections, with the signs of LAPACK; a is
// overwritten. `work` is of (n + 2) n numbers.
STEPSIZE_SHARED_CODE inline void orthonormal(double* a, double* q, size_t n, double* work) {
    double *betas = work, *row = work + n, *vectors = work + 2 * n;
    for (size_t k = 0; k < n; ++k) {
        double* v = vectors + k * n;
        double left;
        for (size_t i = k; i < n; ++i)
            v[i - k] = a[i * n + k];
        betas[k] = reflector(v, n - k, left);
        if (betas[k] != 0)
            reflect(a, n, k, k, v, betas[k], row);
    }
    collect(vectors, betas, n, n, 0, q, row);
}

// The symmetric a as q t q^T with t of three diagonals: its numbers d, and e before them.
inline void tridiagonal(double* a, double* q, size_t n, double* d, double* e, double* work) {
    double *betas = work, *row = work + n, *vectors = work + 2 * n;
    e[0] = 0;
    for (size_t k = 0; k + 2 < n; ++k) {
        const size_t count = n - k - 1;
        double* v = vectors + k * n;
        for (size_t i = 0; i < count; ++i)
            v[i] = a[k * n + k + 1 + i];
        const double beta = betas[k] = reflector(v, count, e[k + 1]);
        if (beta == 0)
            continue;
        sum_rows(v, count, {a + (k + 1) * n + k + 1, n}, row, count);
        const double share = beta * beta / 2 * dot(v, row, count);
#pragma omp simd
        for (size_t i = 0; i < count; ++i)
            row[i] = beta * row[i] - share * v[i];
        for (size_t i = 0; i < count; ++i) {
            double* to = a + (k + 1 + i) * n + k + 1;
            const double one = v[i], two = row[i];
#pragma omp simd
            for (size_t j = 0; j < count; ++j)
                to[j] -= one * row[j] + two * v[j];
        }
    }
    for (size_t i = 0; i < n; ++i)
        d[i] = a[i * n + i];
    if (n > 1)
        e[n - 1] = a[(n - 1) * n + n - 2];
    collect(vectors, betas, n, n > 2 ? n - 2 : 0, 1, q, row);
}

// One implicit QL step on the block from `first` to `last`; z has the vectors in its rows.
STEPSIZE_SHARED_CODE inline void ql_step(double* d, double* e, double* z, size_t n, size_t first,
                                         size_t last) {
    const double half = (d[first + 1] - d[first]) / (2 * e[first]);
    const double size = root(half * half + 1);
    double g = d[last] - d[first] + e[first] / (half + (half < 0 ? -size : size));
    double s = 1, c = 1, p = 0;
    for (size_t i = last; i-- > first;) {
        const double f = s * e[i], b = c * e[i], top = maximum(abs_(f), abs_(g));
        if (!(top > 0)) { // both have left the range of numbers
            e[i + 1] = 0;
            d[i + 1] -= p;
            e[last] = 0;
            return;
        }
        const double x = f / top, y = g / top, length = root(x * x + y * y);
        e[i + 1] = top * length;
        s = x / length;
        c = y / length;
        g = d[i + 1] - p;
        const double t = (d[i] - g) * s + 2 * c * b;
        p = s * t;
        d[i + 1] = g + p;
        g = c * t - b;
        double *one = z + i * n, *two = one + n;
#pragma omp simd
        for (size_t k = 0; k < n; ++k) {
            const double upper = one[k], lower = two[k];
            two[k] = s * upper + c * lower;
            one[k] = c * upper - s * lower;
        }
    }
    d[first] -= p;
    e[first] = g;
    e[last] = 0;
}

// Eigenvalues of the symmetric a in ascending order, and the eigenvectors in the columns of
// `vectors`, by tridiagonalization and the implicit QL method (Golub & Van Loan 2013, 8.3); a is
// overwritten. `work` is of (n + 4) n numbers.
STEPSIZE_SHARED_CODE inline void eigen(double* a, double* values, double* vectors, size_t n,
                                       double* work) {
    double* const e = work + (n + 2) * n;
    double top = 0;
    for (size_t i = 0; i < n * n; ++i)
        top = maximum(top, abs_(a[i]));
    const double unit = top > 0 ? top : 1;
    for (size_t i = 0; i < n * n; ++i)
        a[i] /= unit;
    tridiagonal(a, vectors, n, values, e, work);
    for (size_t i = 1; i < n; ++i)
        e[i - 1] = e[i];
    e[n - 1] = 0;
    transpose<double>({vectors, n}, n, n, {a, n});
    for (size_t first = 0; first < n; ++first)
        for (int round = 0; round < 60; ++round) {
            size_t last = first;
            for (; last + 1 < n; ++last)
                if (abs_(e[last]) <=
                    0x1p-53 * (abs_(values[last]) + abs_(values[last + 1])) + 0x1p-200)
                    break;
            if (last == first)
                break;
            ql_step(values, e, a, n, first, last);
        }
    // In order, by an insertion sort of the places, of which there are few.
    size_t* const places = reinterpret_cast<size_t*>(work);
    for (size_t i = 0; i < n; ++i) {
        size_t at = i;
        for (; at > 0 && values[places[at - 1]] > values[i]; --at)
            places[at] = places[at - 1];
        places[at] = i;
    }
    double* const sorted = work + n;
    for (size_t i = 0; i < n; ++i) {
        sorted[i] = values[places[i]] * unit;
        for (size_t k = 0; k < n; ++k)
            vectors[k * n + i] = a[places[i] * n + k];
    }
    for (size_t i = 0; i < n; ++i)
        values[i] = sorted[i];
}

// b, of n rows, becomes the solution x of q^T x = b with an upper triangular q.
template <class F> void solve_turned(const F* q, F* b, size_t n, size_t columns) {
    for (size_t i = 0; i < n; ++i) {
        F* const row = b + i * columns;
        const F diagonal = q[i * n + i];
#pragma omp simd
        for (size_t j = 0; j < columns; ++j)
            row[j] /= diagonal;
        for (size_t k = i + 1; k < n; ++k)
            add_row(-q[i * n + k], row, b + k * columns, columns);
    }
}

} // namespace
} // namespace stepsize
