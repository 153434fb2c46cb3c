// Limits that other libraries put on the threads of all.
#pragma once

namespace stepsize {

// The fewest threads that a copy of GCC's OpenMP in this process allows the calling thread. There
// may be several, since wheels bring their own, and what torch.set_num_threads tells torch's is
// meant for what runs beside torch too. A large number where there is none.
int openmp_limit();

} // namespace stepsize
