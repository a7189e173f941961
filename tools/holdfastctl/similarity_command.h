#pragma once

// `similarity`: reads the files, compares, and writes a line of JSON for each line that asks. Asks
// no server. Run on the main thread.

#include <optional>

#include "tools/holdfastctl/commands.h"
#include "tools/holdfastctl/options.h"
#include "tools/holdfastctl/status_details.h"

namespace holdfast::ctl {

// None if every line was compared. Lines that could not be are told on standard error and have
// their line of output all the same; that is an error too.
std::optional<CallError> RunSimilarity(const SimilarityOptions& options, Console& console);

}  // namespace holdfast::ctl
