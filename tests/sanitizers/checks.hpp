// What is checked, one case at a time: work in blocks of memory that end where they must, whose
// results become a digest that may not depend on the instruction set or the number of threads.
#pragma once

#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <new>
#include <vector>

#include "core/driver.hpp"
#include "core/table.hpp"

namespace stepsize {
namespace checks {

// A pseudorandom source, splitmix64, which may first give the words of a fuzzer.
class Source {
  public:
    explicit Source(uint64_t seed) : state_(seed) {}
    Source(const uint8_t* data, size_t size) : state_(size), data_(data), left_(size) {}

    uint64_t word() {
        if (left_ >= 2) {
            uint16_t given;
            std::memcpy(&given, data_, 2);
            data_ += 2;
            left_ -= 2;
            return given;
        }
        uint64_t a = state_ += 0x9e3779b97f4a7c15u;
        a = (a ^ a >> 30) * 0xbf58476d1ce4e5b9u;
        a = (a ^ a >> 27) * 0x94d049bb133111ebu;
        return a ^ a >> 31;
    }
    size_t below(size_t count) { return size_t(word() % count); }
    bool flag() { return word() & 1; }
    double unit() { return double(word() % 65536) / 65536; }

  private:
    uint64_t state_;
    const uint8_t* data_ = nullptr;
    size_t left_ = 0;
};

// Bytes that begin `offset` after a cache line and end with the allocation, so that a sanitizer
// sees the first one too many.
class Block {
  public:
    Block() = default;
    Block(size_t bytes, size_t offset) : bytes_(bytes), offset_(offset) {
        void* found = nullptr;
        if (posix_memalign(&found, 64, offset + bytes + !(offset + bytes)))
            throw std::bad_alloc();
        memory_.reset(static_cast<char*>(found));
        std::memset(found, 0, offset + bytes);
    }
    char* data() const { return memory_.get() + offset_; }
    size_t bytes() const { return bytes_; }

  private:
    struct Free {
        void operator()(char* memory) const { std::free(memory); }
    };
    std::unique_ptr<char, Free> memory_;
    size_t bytes_ = 0, offset_ = 0;
};

// FNV-1a over the bits, with one NaN for all: IEEE 754 leaves its sign and payload open.
class Digest {
  public:
    uint64_t value() const { return value_; }
    void bytes(const void* data, size_t count) {
        const unsigned char* at = static_cast<const unsigned char*>(data);
        for (size_t i = 0; i < count; ++i)
            value_ = (value_ ^ at[i]) * 0x100000001b3u;
    }
    template <class F> void numbers(const void* data, size_t count) {
        for (size_t i = 0; i < count; ++i) {
            F number;
            std::memcpy(&number, static_cast<const char*>(data) + i * sizeof(F), sizeof(F));
            if (number != number) {
                bytes("NaN", 3);
                continue;
            }
            bytes(&number, sizeof(F));
        }
    }
    void halves(Dtype dtype, const void* data, size_t count) {
        const uint16_t most = dtype == Dtype::float16 ? 0x7c00 : 0x7f80; // infinity
        for (size_t i = 0; i < count; ++i) {
            uint16_t bits;
            std::memcpy(&bits, static_cast<const char*>(data) + i * 2, 2);
            if ((bits & 0x7fff) > most)
                bits = 0x7fff;
            bytes(&bits, 2);
        }
    }
    void numbers(Dtype dtype, const void* data, size_t count) {
        dtype == Dtype::float32 ? numbers<float>(data, count) : numbers<double>(data, count);
    }

  private:
    uint64_t value_ = 0xcbf29ce484222325u;
};

inline size_t width_of(Dtype dtype) {
    return dtype == Dtype::float32 ? 4 : dtype == Dtype::float64 ? 8 : 2;
}

// The blocks of a case: parameters and state, whose numbers make its digest, and others.
class Memory {
  public:
    explicit Memory(Dtype dtype) : dtype_(dtype), width_(width_of(dtype)) {}

    const Block& block(size_t bytes) {
        blocks_.push_back(std::make_unique<Block>(bytes, 0));
        return *blocks_.back();
    }
    const Block& state(size_t count) {
        kept_.push_back(&block(count * width_));
        return *kept_.back();
    }
    Digest digest() const {
        Digest found;
        for (const Block* block : kept_)
            found.numbers(dtype_, block->data(), block->bytes() / width_);
        return found;
    }

  private:
    const Dtype dtype_;
    const size_t width_;
    std::vector<std::unique_ptr<Block>> blocks_;
    std::vector<const Block*> kept_;
};

// Numbers over some orders of magnitude, some of them 0 and, if wanted, every special one.
void fill(const Block& block, Dtype dtype, Source& source, bool special);

// The values of a rule's hyperparameters, in its order; bits of `options` decide its switches.
void numbers_of(const Rule& rule, uint64_t options, double* numbers);
// The scalars that it starts with.
void scalars_of(const Rule& rule, double* scalars);

// Everything about a case follows from its source. `threads` share the work, as many as there are
// chunks at most.
uint64_t flat(const Table& table, int rule, Dtype dtype, size_t size, Source source);
uint64_t matrices(const Table& table, int rule, Dtype dtype, size_t shape, Source source);
uint64_t reductions(const Table& table, size_t size, Source source);
uint64_t trees(const Table& table, Source source);
uint64_t wholes(const Table& table, int rule, Dtype dtype, size_t shape, Source source);
uint64_t decompositions(const Table& table, size_t n, Source source); // of n x n numbers

constexpr size_t shape_count = 8; // of matrices
constexpr size_t whole_shape_count = 11;

// Of rules that update a leaf as a whole.
int whole_rule_count();
const char* whole_rule_name(int rule);

// Shares jobs among threads however small they are.
template <class Job> void share(size_t count, const Job& job) {
    parallel_for(count, size_t(1) << 40, job);
}

} // namespace checks
} // namespace stepsize
