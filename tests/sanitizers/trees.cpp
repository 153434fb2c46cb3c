// Schedules: random trees of every kind of node, evaluated at steps in and out of order.
#include <algorithm>
#include <deque>

#include "checks.hpp"
#include "core/schedule.hpp"

namespace stepsize {
namespace checks {
namespace {

using schedule::Kind;

struct Form {
    Kind kind;
    int params, children;
    const char* data;
};
constexpr int any = -1;
constexpr Form forms[] = {
#define NODE(name, params, children, data) {Kind::name, params, children, #data},
#include "core/nodes.def"
#undef NODE
};

void call(void*, const double* steps, double* out, size_t n) {
    for (size_t i = 0; i < n; ++i)
        out[i] = 1 / (1 + steps[i]);
}

class Tree {
  public:
    explicit Tree(Source& source) : source_(source) {
        const size_t count = 1 + source.below(24);
        for (size_t i = 0; i < count; ++i)
            add(forms[source.below(sizeof forms / sizeof forms[0])]);
    }

    void evaluate(const Table& table, Digest& digest) {
        const size_t counts[] = {1, 7, 255, 256, 257, 1000};
        const size_t n = counts[source_.below(6)];
        const Block steps(n * 8, 8 * source_.below(8)), out(n * 8, 8 * source_.below(8));
        double* at = reinterpret_cast<double*>(steps.data());
        for (size_t i = 0; i < n; ++i)
            at[i] = source_.below(4) ? double(i * 3) : double(source_.word() >> 12);
        for (size_t i = 0; i < n; ++i)
            at[i] = std::min(at[i], schedule::last_step);
        const size_t wide = std::min(n, schedule::block);
        const size_t scratch = size_t(depth_.back() + schedule::more_scratch) * wide;
        const Block room(scratch * 8, 0);
        table.evaluate(nodes_.data(), nodes_.size() - 1, at, reinterpret_cast<double*>(out.data()),
                       n, reinterpret_cast<double*>(room.data()));
        digest.numbers<double>(out.data(), n);
    }

  private:
    void add(const Form& form) {
        schedule::Node node = {};
        node.kind = form.kind;
        std::vector<int32_t>& children = children_.emplace_back();
        std::vector<double>& data = data_.emplace_back();
        int deepest = 0;
        const int wanted = form.children == any ? 1 + int(source_.below(3)) : form.children;
        if (wanted > 0 && nodes_.empty())
            return add(forms[0]);
        for (int k = 0; k < wanted; ++k) {
            // Of the last ones, so that trees are deep but seldom share much.
            const size_t last = nodes_.size(), back = std::min(last, size_t(1 + k));
            children.push_back(int32_t(last - back));
            deepest = std::max(deepest, depth_[last - back]);
        }
        for (int k = 0; k < form.params; ++k)
            node.p[k] = param(k);
        put_data(form, size_t(wanted), data);
        node.child_count = int32_t(wanted);
        node.children = children.data();
        node.data = data.data();
        node.data_count = data.size();
        node.call = call;
        nodes_.push_back(node);
        depth_.push_back(deepest + 1);
    }
    // Positive, and most of them good for a length.
    double param(int) {
        const double choices[] = {1, 2, 0.5, 10, 100, 1e-3, 1e6, 1 + source_.unit()};
        return choices[source_.below(8)];
    }
    void put_data(const Form& form, size_t children, std::vector<double>& data) {
        const char kind = form.data[0]; // levels, points, cycles, starts, or none
        const size_t n = kind == 's' ? children : 1 + source_.below(5);
        if (kind == 'n' || (kind == 'c' && source_.flag()))
            return;
        double at = 0;
        for (size_t k = 0; k < n + (kind == 'c'); ++k) {
            data.push_back(at);
            at += double(1 + source_.below(100));
        }
        for (size_t k = 0; k < (kind == 'l' ? n + 1 : kind == 'p' ? n : 0); ++k)
            data.push_back(source_.unit());
    }

    Source& source_;
    std::vector<schedule::Node> nodes_;
    std::deque<std::vector<int32_t>> children_;
    std::deque<std::vector<double>> data_;
    std::vector<int> depth_;
};

} // namespace

uint64_t trees(const Table& table, Source source) {
    Digest digest;
    Tree tree(source);
    tree.evaluate(table, digest);
    return digest.value();
}

} // namespace checks
} // namespace stepsize
