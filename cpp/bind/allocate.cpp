#include "bind/allocate.hpp"

#include <cstdlib>
#include <cstring>
#include <new>

#if defined(__unix__) || defined(__APPLE__)
#include <sys/mman.h>
#define STEPSIZE_HAS_MMAP
#endif

namespace stepsize {
namespace {

constexpr size_t huge = size_t(2) << 20;

struct Memory {
    void* start;
    size_t mapped; // bytes to unmap; 0: allocated with new
    ~Memory() {
#ifdef STEPSIZE_HAS_MMAP
        if (mapped) {
            munmap(start, mapped);
            return;
        }
#endif
        ::operator delete[](start, std::align_val_t(64));
    }
};

} // namespace

py::array allocate(size_t bytes) {
    char* data = nullptr;
    Memory* memory = nullptr;
#ifdef STEPSIZE_HAS_MMAP
    if (bytes >= huge) {
        // Fresh pages are zero and belong to the thread that first writes them.
        const size_t mapped = bytes + huge;
        void* start =
            mmap(nullptr, mapped, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        if (start == MAP_FAILED)
            throw std::bad_alloc();
        const size_t address = reinterpret_cast<size_t>(start);
        data = static_cast<char*>(start) + ((huge - address % huge) % huge);
        memory = new Memory{start, mapped};
#ifdef MADV_HUGEPAGE
        madvise(data, bytes, MADV_HUGEPAGE);
#endif
    }
#endif
    if (!memory) {
        const size_t size = bytes ? bytes : 1;
        data = static_cast<char*>(::operator new[](size, std::align_val_t(64)));
        std::memset(data, 0, size);
        memory = new Memory{data, 0};
    }
    const py::capsule owner(memory, [](void* held) { delete static_cast<Memory*>(held); });
    return py::array(py::dtype::of<unsigned char>(), {py::ssize_t(bytes)}, {}, data, owner);
}

} // namespace stepsize
