#include "resilience/plan.h"

#include <algorithm>

namespace holdfast::resilience {

using core::Duration;
using core::SteadyTime;

TimePlan::TimePlan(const Route& route, SteadyTime arrival,
                   std::optional<SteadyTime> caller_deadline, Duration max_timeout)
    : arrival_(arrival), total_(std::min(route.timeout, max_timeout)), tail_(kLadderEnd) {
  using std::chrono::milliseconds;
  if (caller_deadline) total_ = std::min(total_, *caller_deadline - arrival);
  const Duration margin =
      std::clamp<Duration>(core::Scale(total_, 0.02), milliseconds(50), milliseconds(500));
  soft_deadline_ = core::SaturatingAdd(arrival, total_ - margin);
  if (route.partial.target) tail_ += route.min_useful;
}

bool IsUseful(Duration left, Duration min_useful, bool after_others) {
  if (!after_others) return left >= min_useful;
  const Duration lateness = std::min<Duration>(min_useful / 10, std::chrono::milliseconds(50));
  return core::SaturatingAdd(left, lateness) >= min_useful;
}

Duration Reserve(Duration remaining, Duration min_useful, int later_targets) {
  Duration reserve{};
  for (int i = 0; i < later_targets; ++i) {
    if (!IsUseful(remaining - reserve - min_useful, min_useful, /*after_others=*/true)) break;
    reserve += min_useful;
  }
  return reserve;
}

namespace {

// Walks the plan of a route on paper. `hang`: every attempt uses all it is given and shows no
// content; otherwise it fails at once and is retried without delay.
class Walk {
 public:
  Walk(const Route& route, const TimePlan& plan, bool hang)
      : route_(route), plan_(plan), hang_(hang), now_(plan.arrival()) {}

  std::vector<PlannedStage> Run() {
    const size_t steps =
        route_.worst_acceptable == core::Degradation::kNone ? 1 : route_.chain.size();
    for (size_t i = 0; i < steps; ++i) WalkStep(i, static_cast<int>(steps - i) - 1);
    AddStale();
    AddPartial();
    return std::move(stages_);
  }

 private:
  void WalkStep(size_t index, int later) {
    const Step& step = route_.chain[index];
    const Duration at_start = plan_.Remaining(now_);
    const SteadyTime step_end =
        step.share ? now_ + core::Scale(at_start, *step.share) : plan_.chain_end();
    const int tries = 1 + route_.retry.max_retries;
    for (int attempt = 1; attempt <= tries; ++attempt) {
      if (attempt > 1 && used_ + 1 + later > route_.retry.max_attempts) return;
      PlannedStage stage{.stage = "attempt", .target = step.target, .attempt = attempt};
      stage.start_offset = now_ - plan_.arrival();
      const Duration remaining = plan_.Remaining(now_);
      if (!IsUseful(remaining, route_.min_useful, used_ > 0)) {
        if (attempt > 1) return;
        stage.skipped = "no_time";
        stages_.push_back(std::move(stage));
        return;
      }
      const Duration given =
          step.share ? step_end - now_ : remaining - Reserve(remaining, route_.min_useful, later);
      stage.allotted = std::min(given, step.timeouts.first_token);
      ++used_;
      // A timeout of its full length is retried only where no other target is left.
      const bool again = !hang_ || (later == 0 && stage.allotted == step.timeouts.first_token);
      if (hang_) now_ += stage.allotted;
      stages_.push_back(std::move(stage));
      if (!again) return;
    }
  }

  void AddStale() {
    PlannedStage stage{.stage = "stale", .start_offset = now_ - plan_.arrival()};
    if (!route_.cache.enabled) stage.skipped = "not_configured";
    if (route_.worst_acceptable < core::Degradation::kStale) stage.skipped = "not_acceptable";
    if (stage.skipped.empty()) stage.allotted = std::max(Duration{}, plan_.soft_deadline() - now_);
    stages_.push_back(std::move(stage));
  }

  void AddPartial() {
    PlannedStage basic{.stage = "partial_target", .start_offset = now_ - plan_.arrival()};
    PlannedStage notice{.stage = "notice", .start_offset = basic.start_offset};
    const Duration left = plan_.soft_deadline() - now_ - kLadderEnd;
    if (!route_.partial.target) {
      basic.skipped = "not_configured";
    } else {
      basic.target = route_.partial.target->target;
      basic.attempt = 1;
      if (!IsUseful(left, route_.min_useful, used_ > 0)) {
        basic.skipped = "no_time";
      } else {
        basic.allotted = left;
      }
    }
    if (route_.worst_acceptable < core::Degradation::kPartial) {
      basic.skipped = notice.skipped = "not_acceptable";
      basic.allotted = {};
    } else {
      notice.allotted = std::max(Duration{}, plan_.soft_deadline() - now_);
    }
    stages_.push_back(std::move(basic));
    stages_.push_back(std::move(notice));
  }

  const Route& route_;
  const TimePlan& plan_;
  const bool hang_;
  SteadyTime now_;
  int used_ = 0;
  std::vector<PlannedStage> stages_;
};

}  // namespace

ExplainedPlan Explain(const Route& route, std::optional<Duration> deadline, Duration max_timeout) {
  const SteadyTime arrival{};
  std::optional<SteadyTime> caller;
  if (deadline) caller = core::SaturatingAdd(arrival, *deadline);
  const TimePlan plan(route, arrival, caller, max_timeout);
  return {.total = plan.total(),
          .soft_deadline = plan.soft_deadline() - arrival,
          .tail = plan.tail(),
          .if_all_hang = Walk(route, plan, true).Run(),
          .if_all_fail = Walk(route, plan, false).Run()};
}

}  // namespace holdfast::resilience
