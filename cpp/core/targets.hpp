// The instruction sets this build has, best first, and the one in use.
#pragma once

#include <string>
#include <vector>

#include "core/whole.hpp"

namespace stepsize {

// Tables this processor can run, best first.
const std::vector<const Table*>& available_tables();

// The table in use: the best one until choose_target says otherwise.
const Table& table();
const WholeTable& whole_table();

// Whether large steps prefetch in software: Intel's processors gain by it, AMD's lose.
bool prefetches();
void set_prefetches(bool on);

// Throws std::invalid_argument, naming the available ones, for a name that cannot be used here.
void choose_target(const std::string& name);

} // namespace stepsize
