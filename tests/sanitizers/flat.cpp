// Steps of a rule that takes its leaf flat, under every option that the engine can set.
#include <algorithm>
#include <cmath>
#include <limits>
#include <sstream>
#include <string>
#include <utility>

#include "checks.hpp"

namespace stepsize {
namespace checks {
namespace {

constexpr double infinity = std::numeric_limits<double>::infinity();

struct Known {
    const char* name;
    double value;
};
// Hyperparameters that are switches, and those whose value is not 0.1.
constexpr const char* switches[] = {"nesterov",
                                    "no_prox",
                                    "decouple",
                                    "use_clipping",
                                    "decouple_decay",
                                    "silent_sgd_phase",
                                    "adapt",
                                    "positive",
                                    "use_fstar",
                                    "bias_correction",
                                    "use_bias_correction",
                                    "safeguard_warmup",
                                    "ns_table",
                                    "adjust_lr_fn",
                                    "use_muon",
                                    "flatten"};
constexpr Known known[] = {{"lr", 0.01},
                           {"beta1", 0.9},
                           {"beta2", 0.99},
                           {"beta3", 0.999},
                           {"eps", 1e-8},
                           {"momentum", 0.9},
                           {"eta1", 0.5},
                           {"eta2", 1.2},
                           {"step_size1", 1e-6},
                           {"step_size2", 50},
                           {"rho", 0.9},
                           {"momentum_decay", 0.004},
                           {"alpha", 0.9},
                           {"alpha_warmup", 10},
                           {"beta3_warmup", 10},
                           {"t0", 1},
                           {"warmup_steps", 2},
                           {"r", 0.5},
                           {"weight_lr_power", 2},
                           {"beta2_decay", -0.8},
                           {"eps1", 1e-30},
                           {"eps2", 1e-3},
                           {"d", 1},
                           {"reps_rel", 1e-6},
                           {"d0", 1e-6},
                           {"growth_rate", 1.5},
                           {"d_coef", 1},
                           {"scaling", 1},
                           {"f_min", 0},
                           {"lb", 0},
                           {"loss", 1.5},
                           {"ns_steps", 5},
                           {"ns_coefficient1", 3.4445},
                           {"ns_coefficient2", -4.775},
                           {"ns_coefficient3", 2.0315},
                           {"row_beta2", 0.95},
                           {"adamw_beta1", 0.9},
                           {"adamw_beta2", 0.95},
                           {"adamw_eps", 1e-8},
                           {"precondition_frequency", 2},
                           {"max_dim", 50}};

double number_of(const std::string& name, uint64_t options, int& switched) {
    for (const char* word : switches)
        if (name == word)
            return double(options >> switched++ & 1);
    for (const Known& entry : known)
        if (name == entry.name)
            return entry.value;
    return 0.1;
}

} // namespace

void numbers_of(const Rule& rule, uint64_t options, double* numbers) {
    std::stringstream names(rule.numbers);
    int switched = 0;
    size_t count = 0;
    for (std::string name; names >> name; ++count) {
        if (name.back() == ',')
            name.pop_back();
        numbers[count] = number_of(name, options, switched);
    }
}

void scalars_of(const Rule& rule, double* scalars) {
    const std::string name = rule.name;
    if (name == "NAdam" || name == "LARS" || name == "LAMB")
        scalars[0] = 1;
    if (name == "MoMo" || name == "MoMoAdam") {
        scalars[2] = -1e308;
        scalars[4] = 1;
    }
}

void fill(const Block& block, Dtype dtype, Source& source, bool special) {
    const double smallest = dtype == Dtype::float64 ? 0x1p-1074 : 0x1p-149;
    const double largest = dtype == Dtype::float64 ? 1.7976931348623157e308 : 0x1.fffffep127;
    const double words[] = {0.0,      -0.0,     smallest,  -smallest,    largest,
                            -largest, infinity, -infinity, std::nan(""), 1.0};
    const size_t width = width_of(dtype);
    Source own(source.word() + 77); // a fuzzer's words are for choices
    for (size_t i = 0; i < block.bytes() / width; ++i) {
        const double scale[] = {1e-3, 1, 1e3, 0};
        double value = (own.unit() - 0.5) * scale[own.below(4)];
        if (special)
            value = words[own.below(10)];
        const float single = float(value);
        uint32_t bits;
        std::memcpy(&bits, &single, 4);
        const uint16_t half = uint16_t(bits >> 16); // as bfloat16; as float16 it is some number
        const void* from = width == 8   ? static_cast<const void*>(&value)
                           : width == 4 ? static_cast<const void*>(&single)
                                        : static_cast<const void*>(&half);
        std::memcpy(block.data() + i * width, from, width);
    }
}

namespace {

// One leaf with its gradient and its state.
class Leaf {
  public:
    Leaf(const Table& table, int rule, Dtype dtype, size_t size, Source& source)
        : table_(table), rule_(table.rules[rule]), dtype_(dtype), width_(width_of(dtype)),
          size_(size) {
        const size_t offset = source.below(4) ? source.below(16) : 0;
        const bool coded = source.below(3) == 0;
        special_ = !coded && source.below(4) == 0;
        options_ = source.word();
        stats_ = source.below(3) == 0;
        choose_options(source);
        span_.ahead = source.flag();
        span_.place = uint32_t(source.below(5));
        span_.size = size;
        span_.coded = coded;
        place_gradient(coded, offset, source);
        place_parameters(coded, offset, source);
        place_state(coded, offset, source);
        place_bounds(source);
        if (!span_.half.data && source.below(4) == 0)
            span_.average = place(size * width_, offset * width_);
        span_.followed = span_.average || span_.bounds.low;
        scalars_of(rule_, scalars_);
        const double scales[] = {1, -1, 0.5}, decays[] = {0, 0.01};
        const double taken = source.flag() ? 0 : 0.001; // by a decoupled decay
        prologue_ = {scales[source.below(3)], source.flag() ? infinity : 0.5,
                     decays[source.below(2)], cautious_ & 2 ? taken : 1 - taken,
                     double(cautious_),       0.125};
    }

    void step(int64_t t, Source& source) {
        fill(gradient_, span_.g_dtype, source, special_);
        double numbers[max_numbers] = {};
        numbers_of(rule_, options_, numbers);
        threshold_ = numbers[0] * 0.1;
        const std::vector<Span> chunks = split();
        look(chunks, numbers, t);
        const auto prepare = [&] {
            rule_.prepare[int(dtype_)](numbers, t, scalars_, prologue_, bound_);
        };
        prepare();
        if (rule_.sums) {
            measure(chunks, numbers, t);
            prepare();
        }
        std::vector<Sums> sums(chunks.size());
        share(chunks.size(), [&](size_t i) {
            rule_.run[int(dtype_)](bound_, chunks[i], stats_ ? &sums[i] : nullptr);
        });
        for (const Sums& part : sums)
            digest_.numbers<double>(&part, sizeof part / sizeof(double));
    }

    uint64_t digest() {
        const auto results = [&](const void* data) {
            if (data)
                digest_.numbers(dtype_, data, size_);
        };
        results(span_.x);
        results(span_.average);
        if (span_.half.data)
            digest_.halves(span_.half.dtype, span_.half.data, size_);
        for (int k = 0; k < slots(); ++k) {
            const Slot& slot = span_.slots[k];
            if (slot.storage == Storage::native)
                results(slot.data);
            else if (slot.storage == Storage::bfloat16)
                digest_.halves(Dtype::bfloat16, slot.data, size_);
            else
                digest_.bytes(slot.data, size_);
            if (slot.scales)
                digest_.numbers<float>(slot.scales, (size_ + tile - 1) / tile);
        }
        digest_.numbers<double>(scalars_, max_scalars);
        return digest_.value();
    }

  private:
    // MARS keeps the last gradient in a slot of its own.
    bool corrects() const { return cautious_ & 4; }
    int slots() const { return rule_.slots + corrects(); }

    void choose_options(Source& source) {
        const bool room = !rule_.sums && rule_.slots < max_slots; // as Python offers them
        cautious_ = source.flag() ? int(source.below(room ? 8 : 4)) : 0;
        if (!rule_.sums && rule_.slots > 0 && source.below(4) == 0)
            squares_ = int(source.below(size_t(rule_.slots)));
        span_.correction = &correction_;
    }
    char* place(size_t bytes, size_t offset) {
        blocks_.emplace_back(bytes, offset);
        return blocks_.back().data();
    }
    void place_gradient(bool coded, size_t offset, Source& source) {
        const Dtype given[] = {dtype_, Dtype::float16, Dtype::bfloat16};
        span_.g_dtype = given[coded ? source.below(3) : 0];
        const size_t width = width_of(span_.g_dtype);
        gradient_ = Block(size_ * width, offset * width);
        span_.g = gradient_.data();
    }
    void place_parameters(bool coded, size_t offset, Source& source) {
        const bool half = coded && dtype_ == Dtype::float32 && source.flag();
        if (half) {
            span_.half.dtype = source.flag() ? Dtype::float16 : Dtype::bfloat16;
            span_.half.data = place(size_ * 2, offset * 2);
        }
        if (half && source.flag())
            return; // no master weights
        span_.x = place(size_ * width_, offset * width_);
        if (!half)
            fill(blocks_.back(), dtype_, source, false);
    }
    void place_state(bool coded, size_t offset, Source& source) {
        const Storage one = Storage(source.below(3));
        for (int k = 0; k < slots(); ++k) {
            Slot& slot = span_.slots[k];
            slot.storage = coded && source.below(4) ? one : Storage::native;
            if (slot.storage == Storage::signed8 && k > 0 && k < rule_.slots)
                slot.storage = Storage::unsigned8; // as squares are
            const bool native = slot.storage == Storage::native;
            const size_t width = native ? width_ : slot.storage == Storage::bfloat16 ? 2 : 1;
            slot.data = place(size_ * width, offset * width);
            if (!native && width == 1)
                slot.scales = reinterpret_cast<float*>(place((size_ + tile - 1) / tile * 4, 0));
        }
    }
    void place_bounds(Source& source) {
        const size_t kind = source.below(4);
        if (kind < 2)
            return;
        span_.bounds.each = kind == 3;
        const size_t count = span_.bounds.each ? size_ : 1;
        const void** sides[] = {&span_.bounds.low, &span_.bounds.high};
        for (int side = 0; side < 2; ++side) {
            char* at = place(count * width_, 0);
            *sides[side] = at;
            for (size_t i = 0; i < count; ++i) {
                const double value = side ? 0.3 : -0.2;
                const float single = float(value);
                std::memcpy(at + i * width_,
                            width_ == 8 ? static_cast<const void*>(&value) : &single, width_);
            }
        }
        span_.bounds.threshold = &threshold_;
    }

    std::vector<Span> split() const {
        std::vector<Span> chunks;
        for (size_t at = 0; at < size_; at += chunk_size) {
            chunks.push_back(span_);
            Span& span = chunks.back();
            span.size = std::min(chunk_size, size_ - at);
            const auto move = [&](void* data, size_t width) {
                return data ? static_cast<char*>(data) + at * width : nullptr;
            };
            span.x = move(span.x, width_);
            span.average = move(span.average, width_);
            span.half.data = move(span.half.data, 2);
            span.g = static_cast<const char*>(span.g) + at * width_of(span.g_dtype);
            if (span.bounds.each) {
                span.bounds.low = static_cast<const char*>(span.bounds.low) + at * width_;
                span.bounds.high = static_cast<const char*>(span.bounds.high) + at * width_;
            }
            for (int k = 0; k < slots(); ++k) {
                Slot& slot = span.slots[k];
                const size_t widths[] = {width_, 2, 1, 1};
                slot.data = move(slot.data, widths[int(slot.storage)]);
                slot.scales = slot.scales ? slot.scales + at / tile : nullptr;
            }
            span.first = uint32_t(at / tile);
        }
        return chunks;
    }

    // The sums of MARS, then those of update clipping, which see the gradient that it corrects.
    void look(const std::vector<Span>& chunks, double* numbers, int64_t t) {
        correction_ = {t == 1 ? 0 : 0.9, 1};
        if (corrects())
            correction_.factor = within(1, std::sqrt(looked(chunks, -1, t)));
        if (squares_ >= 0)
            numbers[0] *= within(1, std::sqrt(looked(chunks, squares_, t) / double(size_)));
    }
    double looked(const std::vector<Span>& chunks, int squares, int64_t t) {
        const double beta2 = 0.99, unbias = 1 / (1 - table_.power(beta2, t));
        const Look terms = {prologue_, correction_, corrects() ? rule_.slots : -1, squares, beta2,
                            unbias,    1e-16};
        std::vector<double> sums(chunks.size());
        share(chunks.size(),
              [&](size_t i) { sums[i] = table_.look[int(dtype_)](terms, chunks[i]); });
        double total = 0;
        for (const double sum : sums)
            total += sum;
        digest_.numbers<double>(&total, 1);
        return total;
    }
    static double within(double most, double size) { return size > most ? most / size : 1; }

    void measure(const std::vector<Span>& chunks, const double* numbers, int64_t t) {
        struct Parts {
            double of[max_sums + 1] = {};
        };
        std::vector<Parts> parts(chunks.size());
        share(chunks.size(),
              [&](size_t i) { rule_.measure[int(dtype_)](bound_, chunks[i], parts[i].of); });
        Parts total;
        for (const Parts& part : parts)
            for (int k = 0; k < rule_.sums; ++k)
                total.of[k] += part.of[k];
        total.of[rule_.sums] = double(size_);
        rule_.settle(numbers, t, scalars_, total.of);
    }

    const Table& table_;
    const Rule& rule_;
    const Dtype dtype_;
    const size_t width_, size_;
    bool special_, stats_;
    int cautious_ = 0, squares_ = -1; // as in Prologue and in Look
    uint64_t options_;
    Span span_ = {};
    Prologue prologue_ = {};
    Correction correction_ = {};
    Block gradient_;
    std::vector<Block> blocks_;
    double scalars_[max_scalars] = {};
    double threshold_ = 0;
    alignas(64) unsigned char bound_[max_bound_rule];
    Digest digest_;
};

} // namespace

uint64_t flat(const Table& table, int rule, Dtype dtype, size_t size, Source source) {
    Leaf leaf(table, rule, dtype, size, source);
    for (int64_t t = 1; t <= 3; ++t)
        leaf.step(t, source);
    return leaf.digest();
}

} // namespace checks
} // namespace stepsize
