// Zeroed memory for optimizer state, in large pages where the system has them.
#pragma once

#include "bind/numpy.hpp"

namespace stepsize {

// A byte array that owns its memory: aligned to 64 bytes, and to 2 MiB when it is that large.
py::array allocate(size_t bytes);

} // namespace stepsize
