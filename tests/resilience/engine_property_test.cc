// Invariants of a call over thousands of seeds: random chains, options, faults and deadlines, with
// several requests at once on shared targets.

#include <algorithm>
#include <map>
#include <random>

#include "resilience/outcome_rules.h"
#include "tests/resilience/engine_fixture.h"

namespace holdfast::resilience {
namespace {

class Dice {
 public:
  explicit Dice(uint64_t seed) : engine_(seed) {}
  int Below(int n) { return static_cast<int>(engine_() % static_cast<uint64_t>(n)); }
  bool Chance(int percent) { return Below(100) < percent; }
  Duration UpTo(Duration most) {
    return Duration(static_cast<int64_t>(engine_() % static_cast<uint64_t>(most.count() + 1)));
  }

 private:
  std::mt19937_64 engine_;
};

class EnginePropertyTest : public EngineTest {
 protected:
  // What a provider may do, save the request's own faults.
  AttemptScript RandomScript(Dice& dice) {
    constexpr OutcomeKind kFaults[] = {
        OutcomeKind::kServerError, OutcomeKind::kServerError,    OutcomeKind::kOverloaded,
        OutcomeKind::kRateLimited, OutcomeKind::kRateLimited,    OutcomeKind::kCut,
        OutcomeKind::kConnect,     OutcomeKind::kRequestTimeout, OutcomeKind::kConflict,
        OutcomeKind::kQuota,       OutcomeKind::kAuth,           OutcomeKind::kModelNotFound,
        OutcomeKind::kPooledReset, OutcomeKind::kMalformed};
    AttemptScript script = dice.Chance(90) ? Script() : AttemptScript();
    if (dice.Chance(20)) script = std::move(script).Think(dice.UpTo(3s));
    if (dice.Chance(15)) return std::move(script).Hang();
    const bool talks = dice.Chance(50);
    for (int i = dice.Below(6); talks && i > 0; --i) {
      script = std::move(script).Say("some words ", dice.UpTo(2s));
    }
    if (dice.Chance(10)) return std::move(script).Hang();
    if (dice.Chance(35)) return std::move(script).Say("the end", dice.UpTo(1s)).Done();
    core::Outcome outcome;
    outcome.kind = kFaults[dice.Below(std::size(kFaults))];
    const bool may_tell = RuleOf(outcome.kind).cooldown != OutcomeRule::Cooldown::kNone;
    if (may_tell && dice.Chance(40)) outcome.retry_after = dice.UpTo(30s) + 1ms;
    if (dice.Chance(10)) outcome.should_retry = dice.Chance(50);
    const Duration after = dice.UpTo(1s);
    script = std::move(script).End(outcome.kind, after);
    script.outcome = outcome;
    return script;
  }
};

struct Finished {
  core::Result result;
  Duration took{};
  Duration soft{};
};

core::Task<void> RunOne(Engine& engine, core::Loop& loop, core::Request request,
                        CallContext context, Duration start, std::vector<Finished>& out,
                        Duration soft) {
  co_await core::Sleep(loop, loop.Now() + start, {});
  context.arrival = loop.Now();
  if (context.deadline) context.deadline = *context.deadline + start;
  core::Result result = co_await engine.Run(std::move(request), context);
  Finished finished;
  finished.took = loop.Now() - context.arrival;
  finished.result = std::move(result);
  finished.soft = soft;
  out.push_back(std::move(finished));
}

TEST_F(EnginePropertyTest, HoldsForThousandsOfSeeds) {
  size_t by_rung[4] = {};
  for (uint64_t seed = 1; seed <= 3000; ++seed) {
    SCOPED_TRACE(seed);
    Dice dice(seed);
    route = Route{};
    providers.clear();
    const int n = 1 + dice.Below(4);
    for (int i = 0; i < n; ++i) {
      route.chain.push_back(StepOf(i));
      if (dice.Chance(20)) route.chain.back().share = (1 + dice.Below(10)) / 10.0;
      if (dice.Chance(20)) route.chain.back().timeouts.attempt = dice.UpTo(5s) + 100ms;
    }
    if (dice.Chance(30)) route.partial.target = StepOf(9);
    route.retry.max_retries = dice.Below(5);
    route.retry.max_attempts = n + dice.Below(6);
    route.min_useful = dice.UpTo(2s) + 1ms;
    if (dice.Chance(30)) route.retry.budget = {.tokens = 2, .per_success = 0.1, .per_minute = 0};
    cache.hit.reset();
    if (dice.Chance(30)) cache.hit = core::CacheHit{.entry_id = "e", .text = "stored"};
    Build(n);
    for (ScriptedProvider* provider : providers) {
      for (int k = 0; k < 30; ++k) provider->Then(RandomScript(dice));
    }

    std::vector<Finished> finished;
    const int requests = 1 + dice.Below(5);
    for (int r = 0; r < requests; ++r) {
      CallContext context = Context();
      Duration total = route.timeout;
      if (dice.Chance(60)) {
        total = dice.UpTo(20s) + 60ms;
        context.deadline = loop.Now() + total;
      }
      const Duration soft = total - std::clamp<Duration>(total / 50, 50ms, 500ms);
      core::Spawn(RunOne(*engine, loop, Ask(), context, dice.UpTo(5s), finished, soft));
    }
    loop.Run();

    ASSERT_EQ(finished.size(), static_cast<size_t>(requests)) << "every call ends";
    for (const Finished& one : finished) {
      ASSERT_TRUE(one.result.ok()) << ErrorOf(one.result).message;
      ++by_rung[static_cast<int>(AnswerOf(one.result).degradation)];
      ASSERT_LE(one.took, one.soft) << "never past the soft deadline";
      ASSERT_FALSE(AnswerOf(one.result).text.empty());
      int attempts = 0;
      std::map<std::string, int> by_target;
      for (const core::AttemptRecord& record : one.result.attempts) {
        if (record.skipped || record.outcome == "pooled_reset") continue;
        if (record.target.provider == "p9") continue;  // the partial target
        ++attempts;
        ++by_target[record.target.provider];
      }
      ASSERT_LE(attempts, route.retry.max_attempts);
      for (const auto& [name, count] : by_target) ASSERT_LE(count, 1 + route.retry.max_retries);
    }
    for (size_t i = 0; i < targets->all().size(); ++i) {
      ASSERT_EQ(target(i).limiter.in_flight(), 0) << "every permit is given back";
      ASSERT_EQ(breaker(i).Snapshot().leaked, 0u) << "and reported";
      ASSERT_EQ(target(i).cooldown_waiters, 0);
    }
    ASSERT_EQ(routes["default"]->budget().in_flight(), 0);
    ASSERT_GE(routes["default"]->budget().level(), 0);
    ASSERT_EQ(admission->in_progress(), 0);
    ASSERT_EQ(loop.timers(), 0u) << "no timer is left behind";

    // Never sooner than a Retry-After: by any request, at any target that it binds.
    for (size_t i = 0; i < providers.size(); ++i) {
      const auto& seen = providers[i]->seen();
      const auto& told = providers[i]->told();
      for (const auto& [at, until] : told) {
        for (const auto& attempt : seen) {
          ASSERT_FALSE(attempt.at > at && attempt.at < until) << "sooner than a Retry-After";
        }
      }
    }
  }
  for (size_t count : by_rung) EXPECT_GT(count, 100u) << "the seeds reach every rung";
}

}  // namespace
}  // namespace holdfast::resilience
