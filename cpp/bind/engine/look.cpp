// The sums over a leaf that options of the loop take before its update.
#include <cmath>

#include "bind/chunks.hpp"
#include "bind/engine/plan.hpp"
#include "core/targets.hpp"

namespace stepsize {

// What the loop sums up before the update: the norm of the corrected gradient of each leaf, or how
// much larger than their average its squares are.
void Plan::look(const StepTerms& terms, bool squares, const Host* ranks) {
    for (const Chunk& chunk : chunks_) {
        Leaf& leaf = leaves_[chunk.leaf];
        const Group& group = leaves_.group_of(leaf);
        if (!squares && group.mars_gamma >= 0) {
            const double beta1 = group.value(group.beta1);
            // The first gradient has none before it.
            const double gain = group.value(group.mars_gamma) * (beta1 / (1 - beta1));
            leaf.correction = {leaf.t == 0 ? 0 : gain, 1};
        }
    }
    // Squares leave the range of double long before the numbers.
    if (look(terms, squares, ranks, 1) && !squares)
        look(terms, squares, ranks, 0x1p-600);
}

// The same, of gradients times `unit`; where that is below 1, of the leaves whose sum was infinite.
// Returns whether one is.
bool Plan::look(const StepTerms& terms, bool squares, const Host* ranks, double unit) {
    const auto wanted = [&](const Chunk& chunk) {
        const Leaf& leaf = leaves_[chunk.leaf];
        const Group& group = leaves_.group_of(leaf);
        if (squares)
            return group.update_clip >= 0;
        return group.mars_gamma >= 0 && (unit == 1 || leaf.correction.factor == 0);
    };
    std::vector<double> sums(2 * chunks_.size());
    std::vector<int64_t> places;
    for (const Chunk& chunk : chunks_)
        places.push_back(int64_t(chunk.leaf));
    run_chunks(chunks_.size(), elements_, [&](size_t i) {
        const Chunk& chunk = chunks_[i];
        const Leaf& leaf = leaves_[chunk.leaf];
        const Group& group = leaves_.group_of(leaf);
        sums[2 * i + 1] = double(chunk.span.size);
        if (!wanted(chunk))
            return;
        const double beta2 = group.value(group.beta2), eps = group.value(group.eps);
        const Look look = {prologue_of(group, terms),
                           squares ? leaf.correction : Correction{leaf.correction.gain, unit},
                           group.mars_gamma >= 0 ? group.rule->slots : -1,
                           squares ? group.squares : -1,
                           beta2,
                           squares ? 1 / (1 - table().power(beta2, leaf.t + 1)) : 1,
                           eps * eps};
        sums[2 * i] = table().look[int(chunk.dtype)](look, chunk.span);
    });
    bool infinite = false;
    if (ranks) {
        const std::vector<double> totals = ranks->combine(true, places, sums, 2);
        for (size_t i = 0; i < chunks_.size(); ++i)
            if (wanted(chunks_[i]) && (i == 0 || places[i] != places[i - 1]))
                take(leaves_[chunks_[i].leaf], squares, totals[2 * chunks_[i].leaf],
                     totals[2 * chunks_[i].leaf + 1], unit);
        // Of all leaves, so that all ranks look again or none.
        for (size_t i = 0; i < totals.size(); i += 2)
            infinite = infinite || std::isinf(totals[i]);
        return infinite;
    }
    double sum = 0, size = 0;
    for (size_t i = 0; i < chunks_.size(); ++i) {
        sum += sums[2 * i];
        size += sums[2 * i + 1];
        if (i + 1 < chunks_.size() && places[i + 1] == places[i])
            continue;
        if (wanted(chunks_[i]))
            take(leaves_[chunks_[i].leaf], squares, sum, size, unit);
        infinite = infinite || std::isinf(sum);
        sum = size = 0;
    }
    return infinite;
}

// NaN changes nothing.
void Plan::take(Leaf& leaf, bool squares, double sum, double size, double unit) {
    const Group& group = leaves_.group_of(leaf);
    if (squares) {
        const double clip = group.value(group.update_clip), rms = std::sqrt(sum / size);
        leaf.rate = rms > clip ? clip / rms : 1;
    } else {
        const double norm = std::sqrt(sum) / unit;
        leaf.correction.factor = norm > 1 ? 1 / norm : 1;
    }
}

} // namespace stepsize
