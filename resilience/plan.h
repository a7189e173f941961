#pragma once

// The arithmetic of a call's time: from the caller's deadline to the soft deadline S, the tail that
// is kept for the ladder's end, the reserve that is kept for later targets, and what each attempt
// is given. Pure; no clock inside.

#include <optional>
#include <string>
#include <vector>

#include "core/clock.h"
#include "resilience/route.h"

namespace holdfast::resilience {

class TimePlan {
 public:
  // total = min(caller's deadline - arrival, route's timeout, server's maximum).
  TimePlan(const Route& route, core::SteadyTime arrival,
           std::optional<core::SteadyTime> caller_deadline, core::Duration max_timeout);

  core::SteadyTime arrival() const { return arrival_; }
  core::Duration total() const { return total_; }  // <= 0: already expired
  core::SteadyTime deadline() const { return core::SaturatingAdd(arrival_, total_); }
  // S: every answer is written by then.
  core::SteadyTime soft_deadline() const { return soft_deadline_; }
  // .2 s for cache and notice, plus min_useful if the route has a partial target.
  core::Duration tail() const { return tail_; }
  // The latest end of whatever the chain does: S - tail.
  core::SteadyTime chain_end() const { return core::SaturatingAdd(soft_deadline_, -tail_); }
  core::Duration Remaining(core::SteadyTime now) const { return chain_end() - now; }

 private:
  core::SteadyTime arrival_;
  core::Duration total_;
  core::SteadyTime soft_deadline_;
  core::Duration tail_;
};

inline constexpr core::Duration kLadderEnd = std::chrono::milliseconds(200);

// Whether `left` is worth an attempt. After others, less than min_useful by as little as a timer
// may fire late (a tenth of it, at most 50 ms) still is: else what was kept for a stage would
// always be lost when the one before it ran its time out.
bool IsUseful(core::Duration left, core::Duration min_useful, bool after_others);

// min_useful for each of `later_targets`, nearest first, each whole or not at all, and only while
// this attempt keeps min_useful itself.
core::Duration Reserve(core::Duration remaining, core::Duration min_useful, int later_targets);

// What one stage of a route would be given; see AdminService.ExplainPlan.
struct PlannedStage {
  std::string stage;  // "attempt", "stale", "partial_target", "notice"
  std::optional<core::TargetName> target;
  int attempt = 0;
  core::Duration start_offset{};
  core::Duration allotted{};
  std::string skipped;  // "no_time", "not_configured", "not_acceptable"; empty = it would happen
};

struct ExplainedPlan {
  core::Duration total{};
  core::Duration soft_deadline{};  // from arrival
  core::Duration tail{};
  std::vector<PlannedStage> if_all_hang;  // every attempt uses all of its time
  std::vector<PlannedStage> if_all_fail;  // every attempt fails at once, retried without delay
};

ExplainedPlan Explain(const Route& route, std::optional<core::Duration> deadline,
                      core::Duration max_timeout);

}  // namespace holdfast::resilience
