// Steps of the rules that update a leaf as a whole, and the decompositions that they are made of.
#include <algorithm>
#include <cmath>
#include <string>

#include "checks.hpp"
#include "core/targets.hpp"

namespace stepsize {
namespace checks {
namespace {

// Wide, tall, one row, blocks of terms that are not whole, vectors, more axes than two, a number.
struct Shape {
    int axes;
    size_t lengths[5];
};
constexpr Shape shapes[whole_shape_count] = {{2, {1, 1}},
                                             {2, {1, 17}},
                                             {2, {17, 1}},
                                             {2, {33, 65}},
                                             {2, {70, 31}},
                                             {2, {3, 2 * depth_block + 9}},
                                             {2, {depth_block + 5, 4}},
                                             {1, {37}},
                                             {3, {2, 20, 5}},
                                             {5, {3, 2, 1, 4, 3}},
                                             {0, {}}};

void alone(size_t count, size_t, void (*job)(void*, size_t), void* context) {
    for (size_t i = 0; i < count; ++i)
        job(context, i);
}

void together(size_t count, size_t, void (*job)(void*, size_t), void* context) {
    share(count, [=](size_t i) { job(context, i); });
}

const WholeTable& wholes_of(const Table& table) {
    choose_target(table.target);
    return whole_table();
}

class Whole {
  public:
    Whole(const Table& table, int rule, Dtype dtype, const Shape& shape, Source& source)
        : rule_(wholes_of(table).rules[rule]), dtype_(dtype), memory_(dtype) {
        numbers_of(rule_.rule, source.word(), numbers_);
        view_.axes = shape.axes;
        std::copy(shape.lengths, shape.lengths + shape.axes, view_.lengths);
        view_.size = 1;
        for (int axis = 0; axis < view_.axes; ++axis)
            view_.size *= view_.lengths[axis];
        const Block& x = memory_.state(view_.size);
        fill(x, dtype_, source, false);
        view_.x = x.data();
        gradient_ = &memory_.block(view_.size * width_of(dtype_));
        view_.g = gradient_->data();
        for (const size_t count : slot_sizes(source)) {
            view_.slot_sizes[view_.slot_count] = count;
            view_.slots[view_.slot_count++] = memory_.state(count).data();
        }
        view_.share = source.flag() ? together : alone;
        prologue_ = {1, 1e300, 0.01 * double(source.below(2)), 1, 0, 0};
        // As much as it asks for: a job that takes more is seen.
        view_.scratch = memory_.block(rule_.scratch[int(dtype_)](numbers_, view_)).data();
    }

    void step(int64_t t, Source& source) {
        fill(*gradient_, dtype_, source, false);
        if (source.below(4) == 0)
            enlarge();
        double scalars[max_scalars] = {};
        rule_.run[int(dtype_)](numbers_, t, scalars, prologue_, view_);
    }

    uint64_t digest() const { return memory_.digest().value(); }

  private:
    double number(const std::string& name) const {
        const std::string names = std::string(rule_.rule.numbers) + ",";
        int k = 0;
        for (size_t at = 0; at < names.size(); ++k) {
            const size_t end = names.find(',', at);
            if (names.substr(at, end - at) == name)
                return numbers_[k];
            at = end + 2;
        }
        return 0;
    }
    // As the Python classes declare them.
    std::vector<size_t> slot_sizes(Source& source) const {
        const std::string name = rule_.rule.name;
        if (name == "Muon") {
            const bool axes = view_.axes == 2 || (view_.axes > 2 && number("flatten") > 0);
            if (!axes || number("use_muon") == 0)
                return {view_.size, view_.size};
            return source.flag() ? std::vector<size_t>{view_.size}
                                 : std::vector<size_t>{view_.size, view_.lengths[0]};
        }
        if (name == "Kron") { // triangular factors are square, diagonal ones as long as their axis
            std::vector<size_t> kept(1, view_.size);
            for (int axis = 0; axis < std::min(view_.axes, 4); ++axis) {
                const size_t n = view_.lengths[axis];
                kept.push_back(n > 1 && source.flag() ? n * n : n);
            }
            if (view_.axes == 0)
                kept.push_back(1);
            return kept;
        }
        std::vector<size_t> found(name == "SOAP" ? 2 : 1, view_.size);
        std::vector<size_t> squares;
        const double most = name == "SOAP" && view_.axes < 2 ? 0 : number("max_dim");
        for (int axis = 0; axis < std::min(view_.axes, 4); ++axis)
            if (view_.lengths[axis] > 1 && double(view_.lengths[axis]) <= most)
                squares.push_back(view_.lengths[axis] * view_.lengths[axis]);
        for (int twice = 0; twice < 2; ++twice)
            found.insert(found.end(), squares.begin(), squares.end());
        return found;
    }
    // Numbers whose squares are beyond the range.
    void enlarge() {
        for (size_t i = 0; i < view_.size; ++i)
            if (dtype_ == Dtype::float32)
                reinterpret_cast<float*>(gradient_->data())[i] *= 0x1p100f;
            else
                reinterpret_cast<double*>(gradient_->data())[i] *= 0x1p900;
    }

    const WholeRule& rule_;
    const Dtype dtype_;
    Memory memory_;
    double numbers_[max_numbers] = {};
    WholeView view_ = {};
    Prologue prologue_ = {};
    const Block* gradient_ = nullptr;
};

template <class F>
void solved(const WholeTable& known, size_t n, const Block& wide, Source& source, Digest& digest) {
    constexpr Dtype dtype = sizeof(F) == 4 ? Dtype::float32 : Dtype::float64;
    const size_t columns = 1 + source.below(40);
    const Block q(n * n * sizeof(F), 0), b(n * columns * sizeof(F), 0);
    const Block c(n * columns * sizeof(F), 0);
    fill(b, dtype, source, false);
    F* const to = reinterpret_cast<F*>(q.data());
    for (size_t i = 0; i < n * n; ++i)
        to[i] = F(reinterpret_cast<const double*>(wide.data())[i]);
    const size_t width = known.strip_columns[int(dtype)];
    share((columns + width - 1) / width, [&](size_t strip) {
        known.product[int(dtype)](q.data(), b.data(), c.data(), n, columns, n, strip);
    });
    for (size_t i = 0; i < n; ++i)
        to[i * n + i] = F(1 + std::fabs(to[i * n + i]));
    known.solve_turned[int(dtype)](q.data(), b.data(), n, columns);
    digest.numbers<F>(c.data(), n * columns);
    digest.numbers<F>(b.data(), n * columns);
}

} // namespace

int whole_rule_count() { return whole_table().rule_count; }
const char* whole_rule_name(int rule) { return whole_table().rules[rule].rule.name; }

uint64_t wholes(const Table& table, int rule, Dtype dtype, size_t shape, Source source) {
    Whole whole(table, rule, dtype, shapes[shape], source);
    for (int64_t t = 1; t <= 4; ++t)
        whole.step(t, source);
    return whole.digest();
}

uint64_t decompositions(const Table& table, size_t n, Source source) {
    const WholeTable& known = wholes_of(table);
    Digest digest;
    const size_t bytes = n * n * sizeof(double);
    const Block a(bytes, 0), vectors(bytes, 0), values(n * sizeof(double), 0);
    const Block work((n + 4) * n * sizeof(double), 0);
    double* const matrix = reinterpret_cast<double*>(a.data());
    fill(a, Dtype::float64, source, false);
    solved<float>(known, n, a, source, digest);
    solved<double>(known, n, a, source, digest);
    const Block copy(bytes, 0);
    std::memcpy(copy.data(), matrix, bytes);
    for (size_t i = 0; i < n; ++i)
        for (size_t j = 0; j < i; ++j)
            matrix[i * n + j] = matrix[j * n + i];
    known.eigen(matrix, reinterpret_cast<double*>(values.data()),
                reinterpret_cast<double*>(vectors.data()), n,
                reinterpret_cast<double*>(work.data()));
    digest.numbers<double>(values.data(), n);
    digest.numbers<double>(vectors.data(), n * n);
    known.orthonormal(reinterpret_cast<double*>(copy.data()),
                      reinterpret_cast<double*>(vectors.data()), n,
                      reinterpret_cast<double*>(work.data()));
    digest.numbers<double>(vectors.data(), n * n);
    return digest.value();
}

} // namespace checks
} // namespace stepsize
