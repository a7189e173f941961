#pragma once

// A week, or an hour, of a product's traffic over virtual time: the real engine, breakers, budgets
// and cache against providers that fail by the calendar; beside it what a direct caller and what
// retries alone would have got from the same providers at the same moments.

#include <array>
#include <cstdint>
#include <functional>
#include <map>
#include <string>
#include <vector>

#include "resilience/route.h"
#include "tests/simulation/providers.h"

namespace holdfast::simulation {

struct Scenario {
  std::string name;
  uint64_t seed = 1;
  core::Duration length = std::chrono::hours(168);
  uint64_t requests = 168'000;
  int targets = 4;
  double down = 0.005;  // of each provider's time
  core::Duration mean_episode = std::chrono::minutes(6);
  std::vector<Trouble> troubles = {Trouble::kErrors, Trouble::kErrors,     Trouble::kRefuses,
                                   Trouble::kHangs,  Trouble::kRateLimits, Trouble::kOverloaded,
                                   Trouble::kStalls, Trouble::kCuts};
  // All providers down together for this long; 0 = never.
  core::Duration all_down{};
  core::Duration all_down_after = std::chrono::hours(84);
  // One trouble of the first provider for all of the time, instead of episodes.
  std::vector<Trouble> always_first;
  double calls_per_second = 0;  // each provider's limit; 0 = none
  size_t questions = 3000;      // different ones, asked with Zipf's frequencies
  core::Duration timeout = std::chrono::seconds(30);
};

struct Tally {
  uint64_t requests = 0;
  std::array<uint64_t, 4> by_rung{};  // by core::Degradation
  uint64_t notice_alone = 0;          // counted in partial too
  uint64_t notice_while_up = 0;       // the notice alone while some target was up
  uint64_t lost = 0;                  // ended with a status other than OK
  uint64_t late = 0;                  // past the deadline
  uint64_t upstream = 0;              // attempts that reached a provider
  uint64_t too_soon = 0;              // attempts sooner than a Retry-After
  double cost_usd = 0;
  std::map<std::string, uint64_t> errors;
  // From the end of each of the first provider's episodes to its next answer.
  core::Duration recovery_median{};
  core::Duration recovery_longest{};

  double amplification() const {
    return requests == 0 ? 0 : static_cast<double>(upstream) / static_cast<double>(requests);
  }
};

struct Week {
  Tally direct;        // one attempt, the first provider
  Tally retries_only;  // the same with three retries, full jitter
  Tally holdfast;
  // By hour, for the picture: requests lost by the direct caller, degraded by Holdfast.
  std::vector<uint64_t> direct_lost_by_hour;
  std::vector<std::array<uint64_t, 4>> rungs_by_hour;
};

Week Simulate(const Scenario& scenario);

}  // namespace holdfast::simulation
