#pragma once

// Providers that fail by the calendar, in virtual time: outages, rate-limit storms, stalls and cut
// streams from a published seed. Used by the simulated weeks and by the tests of invariants.

#include <cstdint>
#include <random>
#include <string>
#include <vector>

#include "core/loop.h"
#include "core/provider.h"

namespace holdfast::simulation {

// What a provider does for a while.
enum class Trouble {
  kRefuses,     // connections are refused
  kErrors,      // 500, 502 and 503
  kHangs,       // accepts and never answers
  kRateLimits,  // 429 with Retry-After
  kOverloaded,  // 529
  kStalls,      // answers, and stops in the middle
  kCuts,        // breaks the stream off
  kEmpty,       // 200 without an answer
  kSlow,        // ten times as slow
};

struct Episode {
  core::SteadyTime begin;
  core::SteadyTime end;
  Trouble trouble;
};

// A share `down` of [start, start + length) spent in episodes of `troubles`, each about
// `mean_length` long.
std::vector<Episode> MakeEpisodes(uint64_t seed, core::SteadyTime start, core::Duration length,
                                  double down, core::Duration mean_length,
                                  const std::vector<Trouble>& troubles);

class CalendarProvider final : public core::Provider {
 public:
  // `calls_per_second`: more than that, and it answers 429; 0 = no limit.
  CalendarProvider(core::Loop& loop, uint64_t seed, std::vector<Episode> episodes,
                   double calls_per_second = 0);

  std::optional<std::string> Inexpressible(const core::Request&) const override { return {}; }
  core::Task<core::Outcome> Stream(const core::Request& request, const core::Attempt& attempt,
                                   core::AttemptSink& sink) override;

  const Episode* Current() const;
  bool up() const { return Current() == nullptr; }
  uint64_t calls() const { return calls_; }
  // A call came sooner than the last Retry-After allowed.
  uint64_t too_soon() const { return too_soon_; }

 private:
  core::Task<core::Outcome> Fail(Trouble trouble, const core::Attempt& attempt,
                                 core::AttemptSink& sink);
  core::Task<core::Outcome> Answer(std::string text, double slowness, const core::Attempt& attempt,
                                   core::AttemptSink& sink);
  core::Outcome RateLimited(core::Duration retry_after);
  bool OverLimit();
  double Draw();

  core::Loop& loop_;
  std::mt19937_64 random_;
  const std::vector<Episode> episodes_;
  const double calls_per_second_;
  double tokens_ = 0;
  core::SteadyTime refilled_;
  core::SteadyTime not_before_;
  uint64_t calls_ = 0;
  uint64_t too_soon_ = 0;
};

}  // namespace holdfast::simulation
