// Cache mode PREFER: stored answers before any target, and one call for identical requests.

#include "tests/resilience/engine_fixture.h"

namespace holdfast::resilience {
namespace {

using Mode = core::CacheControl::Mode;
using ::testing::ElementsAre;
using ::testing::IsEmpty;

class PreferTest : public EngineTest {
 protected:
  static core::Request Prefer(std::string question = "Why is the sky blue?") {
    core::Request request = Ask(std::move(question));
    request.cache.mode = Mode::kPrefer;
    return request;
  }
  static core::CacheHit Hit() {
    core::CacheHit hit{.entry_id = "e1", .text = "stored", .similarity = 0.97};
    hit.provider = "p0";
    hit.model = "m0";
    return hit;
  }

  struct Asked {
    std::optional<core::Result> result;
    core::SteadyTime ended{};
    std::stop_source cancel;
  };
  static core::Task<void> Keep(core::Loop& loop, core::Task<core::Result> task, Asked& asked) {
    core::Result result = co_await std::move(task);
    asked.result = std::move(result);
    asked.ended = loop.Now();
  }
  // Starts a call beside others.
  Asked& Begin(core::Request request, std::optional<Duration> deadline = std::nullopt) {
    Asked& asked = *all.emplace_back(std::make_unique<Asked>());
    CallContext context = Context(deadline);
    context.cancelled = asked.cancel.get_token();
    core::Spawn(Keep(loop, engine->Run(std::move(request), context), asked));
    return asked;
  }
  Duration Took(const Asked& asked) const { return asked.ended - begin; }

  std::vector<std::unique_ptr<Asked>> all;
  core::SteadyTime begin = loop.Now();
};

TEST_F(PreferTest, AHitIsServedBeforeAnyTargetAndIsNotDegraded) {
  Build(1);
  cache.hit = Hit();
  core::Request request = Prefer();
  request.worst_acceptable = Degradation::kNone;
  const core::Result result = Run(request);
  EXPECT_EQ(AnswerOf(result).text, "stored");
  EXPECT_EQ(AnswerOf(result).degradation, Degradation::kNone);
  EXPECT_EQ(AnswerOf(result).cache_hit->entry_id, "e1");
  EXPECT_EQ(AnswerOf(result).served_by->provider, "p0");
  EXPECT_EQ(calls(0), 0u);
  EXPECT_THAT(result.attempts, IsEmpty());
  EXPECT_THAT(cache.stored, IsEmpty());
}

TEST_F(PreferTest, AHitIsStreamedToo) {
  Build(1);
  cache.hit = Hit();
  const core::Result result = RunStream(Prefer());
  EXPECT_THAT(stream->events, ::testing::ElementsAre("started p0 none", "\"stored\""));
  EXPECT_EQ(AnswerOf(result).cache_hit->entry_id, "e1");
}

TEST_F(PreferTest, IsOffByDefaultAndTheRouteOrTheRequestTurnsItOn) {
  cache.hit = Hit();
  Build(1);
  provider(0).Otherwise(Answers("fresh"));
  EXPECT_EQ(AnswerOf(Run()).text, "fresh");
  route.cache.mode = Mode::kPrefer;
  providers.clear();
  Build(1);
  provider(0).Otherwise(Answers("fresh"));
  EXPECT_EQ(AnswerOf(Run()).text, "stored");
  core::Request fallback = Ask();
  fallback.cache.mode = Mode::kFallback;
  EXPECT_EQ(AnswerOf(Run(fallback)).text, "fresh");
  core::Request off = Ask();
  off.cache.mode = Mode::kOff;
  EXPECT_EQ(AnswerOf(Run(off)).text, "fresh");
}

TEST_F(PreferTest, HasAStricterThresholdThatTheCallerMayRaise) {
  route.cache.min_similarity = 0.8;
  route.cache.prefer_similarity = 0.96;
  Build(1);
  provider(0).Otherwise(Fails(OutcomeKind::kAuth));
  core::Request request = Prefer();
  request.cache.max_age = 1h;
  Run(request);
  request.cache.min_similarity = 0.99;
  Run(request);
  ASSERT_EQ(cache.queries.size(), 4u);  // first, and again at the ladder's end
  EXPECT_EQ(cache.queries[0].min_similarity, 0.96);
  EXPECT_EQ(cache.queries[0].max_age, 1h);
  EXPECT_EQ(cache.queries[1].min_similarity, 0.8);
  EXPECT_EQ(cache.queries[2].min_similarity, 0.99);
  EXPECT_EQ(cache.queries[3].min_similarity, 0.99);
  EXPECT_EQ(RouteCacheOptions().prefer_similarity, 0.95);
}

TEST_F(PreferTest, TheLookupLeavesTimeForTheChain) {
  Build(1);
  provider(0).Otherwise(Answers("fresh"));
  Run(Prefer(), 20s);
  EXPECT_EQ(cache.deadlines[0], cache.looked_up_at[0] + 150ms);
  Run(Prefer(), 1300ms);  // 1.25 s to S, .2 s tail: .05 s more than min_useful
  EXPECT_EQ(cache.deadlines[1], cache.looked_up_at[1] + 50ms);
}

TEST_F(PreferTest, IdenticalRequestsShareOneCall) {
  Build(1);
  provider(0).Otherwise(Answers("fresh", 2s));
  Begin(Prefer());
  loop.Advance(500ms);
  Begin(Prefer());
  Begin(Prefer("Another question?"));
  Begin(Ask());  // does not prefer the cache
  loop.Run();
  EXPECT_EQ(calls(0), 3u);
  EXPECT_EQ(Took(*all[1]), 2s);
  const core::Result& shared = *all[1]->result;
  EXPECT_EQ(AnswerOf(shared).text, "fresh");
  EXPECT_EQ(AnswerOf(shared).degradation, Degradation::kNone);
  EXPECT_EQ(AnswerOf(shared).cache_hit->entry_id, "");
  EXPECT_EQ(AnswerOf(shared).cache_hit->similarity, 1);
  EXPECT_EQ(shared.cost_usd, 0);
  EXPECT_THAT(shared.attempts, IsEmpty());
  EXPECT_FALSE(AnswerOf(*all[0]->result).cache_hit);
  EXPECT_EQ(cache.stored.size(), 3u);  // of the shared one, once
  Begin(Prefer());                     // nobody leads any more
  loop.Run();
  EXPECT_EQ(calls(0), 4u);
}

TEST_F(PreferTest, OtherParametersOrTenantsShareNothing) {
  Build(1);
  provider(0).Otherwise(Answers("fresh", 2s));
  const auto changed = [](const std::function<void(core::Request&)>& change) {
    core::Request request = Prefer();
    change(request);
    return request;
  };
  Begin(Prefer());
  Begin(changed([](core::Request& r) { r.tenant = "other"; }));
  Begin(changed([](core::Request& r) { r.temperature = 0.5; }));
  Begin(changed([](core::Request& r) { r.top_p = 0.5; }));
  Begin(changed([](core::Request& r) { r.max_output_tokens = 5; }));
  Begin(changed([](core::Request& r) { r.seed = 5; }));
  Begin(changed([](core::Request& r) { r.stop = {"5"}; }));
  loop.Run();
  EXPECT_EQ(calls(0), 7u);
}

TEST_F(PreferTest, ACancelledLeaderHandsOverToOneOfTheOthers) {
  Build(1);
  provider(0).Otherwise(Answers("fresh", 2s));
  Asked& leader = Begin(Prefer());
  Begin(Prefer());
  Begin(Prefer());
  loop.Advance(500ms);
  leader.cancel.request_stop();
  loop.Run();
  EXPECT_EQ(ErrorOf(*leader.result).code, ErrorCode::kCancelled);
  EXPECT_EQ(calls(0), 2u);
  for (size_t i : {1, 2}) {
    EXPECT_EQ(AnswerOf(*all[i]->result).text, "fresh");
    EXPECT_EQ(Took(*all[i]), 2500ms);
  }
}

TEST_F(PreferTest, AFailedLeaderDoesNotFailTheOthers) {
  Build(1);
  route.retry.max_retries = 0;
  provider(0).Then(Fails(OutcomeKind::kAuth, 1s));
  provider(0).Otherwise(Answers("fresh", 1s));
  for (int i = 0; i < 4; ++i) Begin(Prefer());
  loop.Run();
  EXPECT_EQ(AnswerOf(*all[0]->result).degradation, Degradation::kPartial);
  for (size_t i : {1, 2, 3}) EXPECT_EQ(AnswerOf(*all[i]->result).text, "fresh") << i;
  EXPECT_EQ(calls(0), 2u);
}

TEST_F(PreferTest, ALeaderWhoseChainFailedLetsTheOthersGoOnWhileItWalksDownTheLadder) {
  route.partial.target = StepOf(9);
  route.chain = {StepOf(0)};
  Build(1);
  provider(0).Then(Fails(OutcomeKind::kAuth, 1s));
  provider(0).Otherwise(Answers("fresh", 1s));
  provider(1).Otherwise(Answers("basic", 5s));
  for (int i = 0; i < 2; ++i) Begin(Prefer());
  loop.Run();
  EXPECT_EQ(AnswerOf(*all[0]->result).text, "basic");
  EXPECT_EQ(Took(*all[0]), 6s);
  EXPECT_EQ(AnswerOf(*all[1]->result).text, "fresh");
  EXPECT_EQ(Took(*all[1]), 2s);
}

TEST_F(PreferTest, ACancelledFollowerEndsAtOnceAndTakesNobodyAlong) {
  Build(1);
  provider(0).Otherwise(Answers("fresh", 2s));
  Begin(Prefer());
  Asked& follower = Begin(Prefer());
  Begin(Prefer());
  loop.Advance(500ms);
  follower.cancel.request_stop();
  loop.RunReady();
  ASSERT_TRUE(follower.result);
  EXPECT_EQ(ErrorOf(*follower.result).code, ErrorCode::kCancelled);
  loop.Run();
  EXPECT_EQ(AnswerOf(*all[2]->result).text, "fresh");
  EXPECT_EQ(calls(0), 1u);
}

TEST_F(PreferTest, AFollowerWaitsNoLongerThanHalfOfItsOwnTime) {
  Build(1);
  provider(0).Then(Hangs());
  provider(0).Otherwise(Answers("fresh"));
  Begin(Prefer());
  Asked& follower = Begin(Prefer(), 4s);  // 3.92 s to S, less .2 s
  loop.RunUntil(begin + 1859ms);
  EXPECT_FALSE(follower.result);
  loop.RunUntil(begin + 1861ms);
  ASSERT_TRUE(follower.result);
  EXPECT_EQ(AnswerOf(*follower.result).text, "fresh");
  EXPECT_FALSE(AnswerOf(*follower.result).cache_hit);
  loop.Run();
}

TEST_F(PreferTest, AFollowerTakesNoWorseAnswerThanItAccepts) {
  Build(2);
  provider(0).Then(Fails(OutcomeKind::kAuth, 1s));
  provider(0).Otherwise(Answers("first", 1s));
  provider(1).Otherwise(Answers("second", 1s));
  Begin(Prefer());
  core::Request strict = Prefer();
  strict.worst_acceptable = Degradation::kNone;
  Begin(strict);
  Begin(Prefer());
  loop.Run();
  EXPECT_EQ(AnswerOf(*all[0]->result).text, "second");
  EXPECT_EQ(AnswerOf(*all[1]->result).text, "first");
  EXPECT_EQ(AnswerOf(*all[2]->result).text, "second");
  EXPECT_EQ(AnswerOf(*all[2]->result).degradation, Degradation::kFallbackModel);
}

TEST_F(PreferTest, ALeadersAnswerThatIsNotWholeIsNotShared) {
  Build(1);
  provider(0).Then(Script().Say("cut", 1s).Done(core::FinishReason::kLength));
  provider(0).Otherwise(Answers("whole", 1s));
  Begin(Prefer());
  Begin(Prefer());
  Begin(Prefer());
  loop.Run();
  EXPECT_EQ(AnswerOf(*all[0]->result).text, "cut");
  EXPECT_EQ(AnswerOf(*all[1]->result).text, "whole");
  EXPECT_EQ(AnswerOf(*all[2]->result).text, "whole");
  EXPECT_EQ(calls(0), 2u);
}

TEST_F(PreferTest, NoStoreIsEachCallersOwn) {
  Build(1);
  provider(0).Otherwise(Answers("fresh", 1s));
  core::Request secret = Prefer();
  secret.cache.no_store = true;
  Begin(secret);
  Begin(secret);
  loop.Run();
  EXPECT_EQ(calls(0), 1u);
  EXPECT_THAT(cache.stored, IsEmpty());
  Begin(secret);
  Begin(Prefer());
  loop.Run();
  EXPECT_EQ(calls(0), 2u);
  ASSERT_EQ(cache.stored.size(), 1u);
  EXPECT_EQ(cache.stored[0].text, "fresh");
  EXPECT_EQ(cache.stored[0].model, "m0");
}

TEST_F(PreferTest, AHurriedFollowerGoesDownTheLadder) {
  Build(1);
  provider(0).Otherwise(Hangs());
  Begin(Prefer());
  Begin(Prefer());
  loop.Advance(100ms);
  hurry.request_stop();
  loop.Run();
  EXPECT_EQ(AnswerOf(*all[1]->result).degradation, Degradation::kPartial);
  EXPECT_LE(Took(*all[1]), 200ms);
}

TEST_F(PreferTest, WithoutACacheNothingIsShared) {
  route.cache.enabled = false;
  Build(1);
  provider(0).Otherwise(Answers("fresh", 1s));
  Begin(Prefer());
  Begin(Prefer());
  loop.Run();
  EXPECT_EQ(calls(0), 2u);
  EXPECT_THAT(cache.queries, IsEmpty());
}

}  // namespace
}  // namespace holdfast::resilience
