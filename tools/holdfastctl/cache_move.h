#pragma once

// `cache import` and `cache export`: JSON lines, a CacheEntry each, to and from a running server,
// many calls each. Run on the main thread; block it.

#include <variant>

#include "tools/holdfastctl/commands.h"
#include "tools/holdfastctl/options.h"
#include "tools/holdfastctl/status_details.h"

namespace holdfast::ctl {

struct ImportReport {
  uint64_t stored = 0;
  uint64_t kept = 0;  // for one that is newer, or pinned
  uint64_t too_old = 0;
  std::vector<std::pair<size_t, std::string>> bad_lines;  // number and reason, in order
};

// Bad lines are told on standard error as they are met, and the rest goes on. After an error, what
// was stored by then stays; to do it again does no harm.
std::variant<ImportReport, CallError> RunImport(const std::string& admin,
                                                const CacheImportOptions& options,
                                                Console& console);

// Returns how many entries were written. A file is there whole or not at all, and for its owner's
// eyes alone.
std::variant<uint64_t, CallError> RunExport(const std::string& admin,
                                            const CacheExportOptions& options, Console& console);

}  // namespace holdfast::ctl
