// The floating-point environment of a thread while kernels run in it.
#pragma once

#if defined(__SSE2__) || defined(_M_X64)
#include <xmmintrin.h>
#define STEPSIZE_HAS_MXCSR
#endif

namespace stepsize {

// Sets rounding to nearest and keeps subnormal numbers, whatever other libraries have set in this
// thread, so that a step gives the same bits in every thread. The old state is restored at the end.
class DefaultFloatingPoint {
  public:
    DefaultFloatingPoint(const DefaultFloatingPoint&) = delete;
    DefaultFloatingPoint& operator=(const DefaultFloatingPoint&) = delete;

#if defined(STEPSIZE_HAS_MXCSR)
    DefaultFloatingPoint() : found_(_mm_getcsr()) {
        if (changed())
            _mm_setcsr(standard);
    }
    ~DefaultFloatingPoint() {
        if (changed())
            _mm_setcsr(found_);
    }

  private:
    static constexpr unsigned standard = 0x1f80, flags = 0x3f; // flags: what has happened
    bool changed() const { return (found_ & ~flags) != standard; }
    const unsigned found_;
#elif defined(__aarch64__) && defined(__GNUC__)
    DefaultFloatingPoint() {
        __asm__ volatile("mrs %0, fpcr" : "=r"(found_));
        if (found_)
            set(0);
    }
    ~DefaultFloatingPoint() {
        if (found_)
            set(found_);
    }

  private:
    static void set(unsigned long long bits) { __asm__ volatile("msr fpcr, %0" : : "r"(bits)); }
    unsigned long long found_;
#else
    DefaultFloatingPoint() {}
    ~DefaultFloatingPoint() {}
#endif
};

} // namespace stepsize
