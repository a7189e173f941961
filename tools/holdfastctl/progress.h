#pragma once

// A bar on standard error that says how far a long command is; silent where that is no terminal,
// and until there is something to wait for. Safe from any thread.

#include <cstdint>
#include <mutex>
#include <ostream>
#include <string>

#include "core/clock.h"

namespace holdfast::ctl {

class Progress {
 public:
  // `clock` and `err` are borrowed. `total` in whatever is counted; 0 = not known.
  Progress(const core::Clock& clock, std::ostream& err, bool is_terminal, std::string label,
           uint64_t total);
  ~Progress();  // Clear()
  Progress(const Progress&) = delete;

  void Add(uint64_t done);
  // Takes the bar away, so that a line may be written. The next Add draws it again.
  void Clear();

 private:
  std::string Bar() const;

  const core::Clock& clock_;
  std::ostream& err_;
  const bool is_terminal_;
  const std::string label_;
  const uint64_t total_;
  std::mutex mutex_;
  uint64_t done_ = 0;
  core::SteadyTime draw_after_;
  bool drawn_ = false;
};

}  // namespace holdfast::ctl
