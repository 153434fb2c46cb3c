// To be preloaded: lets allocations fail, from the k-th on that the chosen libraries make in the
// thread that asked for it. Python's own are for `_testcapi.set_nomemory`.

#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <new>

#include <dlfcn.h>
#include <sys/mman.h>

extern "C" {
void* __libc_malloc(size_t);
void* __libc_calloc(size_t, size_t);
void* __libc_realloc(void*, size_t);
void* __libc_memalign(size_t, size_t);
}

namespace {

constexpr size_t most_ranges = 16;
constexpr size_t large = size_t(2) << 20; // from here on the extension asks for pages

struct Range {
    uintptr_t start, end;
};
Range ranges[most_ranges];
size_t range_count = 0;

thread_local bool counting = false;
thread_local long seen = 0, failing = 0, more = 0;

bool of_a_library(const void* caller) {
    const uintptr_t at = reinterpret_cast<uintptr_t>(caller);
    for (size_t i = 0; i < range_count; ++i)
        if (at >= ranges[i].start && at < ranges[i].end)
            return true;
    return false;
}

// Whether this allocation is the one, or one of those, that fail.
bool fails_for(const void* caller) {
    if (!counting || !of_a_library(caller))
        return false;
    ++seen;
    return failing > 0 && seen >= failing && seen < failing + more;
}

void* made(size_t size, size_t alignment, const void* caller) {
    if (fails_for(caller))
        throw std::bad_alloc();
    void* found =
        alignment ? __libc_memalign(alignment, size ? size : 1) : __libc_malloc(size ? size : 1);
    if (!found)
        throw std::bad_alloc();
    return found;
}

} // namespace

extern "C" {

void allocations_of(uintptr_t start, uintptr_t end) {
    if (range_count < most_ranges)
        ranges[range_count++] = {start, end};
}

// The `first`-th allocation from now on fails, and so many in all; 0 for none.
void allocations_fail(long first, long count) {
    seen = 0;
    failing = first;
    more = count;
    counting = true;
}

// How many there were.
long allocations_end() {
    counting = false;
    return seen;
}

void* malloc(size_t size) {
    if (fails_for(__builtin_return_address(0))) {
        errno = ENOMEM;
        return nullptr;
    }
    return __libc_malloc(size);
}

void* calloc(size_t count, size_t size) {
    if (fails_for(__builtin_return_address(0))) {
        errno = ENOMEM;
        return nullptr;
    }
    return __libc_calloc(count, size);
}

void* realloc(void* memory, size_t size) {
    if (fails_for(__builtin_return_address(0))) {
        errno = ENOMEM;
        return nullptr;
    }
    return __libc_realloc(memory, size);
}

void* mmap(void* address, size_t size, int protection, int flags, int file, off_t offset) {
    using Function = void* (*)(void*, size_t, int, int, int, off_t);
    static const Function next = reinterpret_cast<Function>(dlsym(RTLD_NEXT, "mmap"));
    if (size >= large && file == -1 && fails_for(__builtin_return_address(0))) {
        errno = ENOMEM;
        return MAP_FAILED;
    }
    return next(address, size, protection, flags, file, offset);
}

} // extern "C"

void* operator new(size_t size) { return made(size, 0, __builtin_return_address(0)); }
void* operator new[](size_t size) { return made(size, 0, __builtin_return_address(0)); }
void* operator new(size_t size, std::align_val_t alignment) {
    return made(size, size_t(alignment), __builtin_return_address(0));
}
void* operator new[](size_t size, std::align_val_t alignment) {
    return made(size, size_t(alignment), __builtin_return_address(0));
}
void* operator new(size_t size, const std::nothrow_t&) noexcept {
    return fails_for(__builtin_return_address(0)) ? nullptr : __libc_malloc(size ? size : 1);
}
void* operator new[](size_t size, const std::nothrow_t&) noexcept {
    return fails_for(__builtin_return_address(0)) ? nullptr : __libc_malloc(size ? size : 1);
}
void* operator new(size_t size, std::align_val_t alignment, const std::nothrow_t&) noexcept {
    return fails_for(__builtin_return_address(0))
               ? nullptr
               : __libc_memalign(size_t(alignment), size ? size : 1);
}
void* operator new[](size_t size, std::align_val_t alignment, const std::nothrow_t&) noexcept {
    return fails_for(__builtin_return_address(0))
               ? nullptr
               : __libc_memalign(size_t(alignment), size ? size : 1);
}
void operator delete(void* memory) noexcept { std::free(memory); }
void operator delete[](void* memory) noexcept { std::free(memory); }
void operator delete(void* memory, size_t) noexcept { std::free(memory); }
void operator delete[](void* memory, size_t) noexcept { std::free(memory); }
void operator delete(void* memory, std::align_val_t) noexcept { std::free(memory); }
void operator delete[](void* memory, std::align_val_t) noexcept { std::free(memory); }
void operator delete(void* memory, size_t, std::align_val_t) noexcept { std::free(memory); }
void operator delete[](void* memory, size_t, std::align_val_t) noexcept { std::free(memory); }
