// Hedging (section 11 of the rules) and its worked cases.

#include "resilience/delivery.h"
#include "tests/resilience/engine_fixture.h"

namespace holdfast::resilience {
namespace {

using ::testing::ElementsAre;

class HedgeTest : public EngineTest {
 protected:
  void BuildHedged(int n) {
    route.hedge = HedgeOptions{.delay = 2s, .max = max_hedges};
    Build(n);
    random.Always(0);
    Sample(0, 100ms, FirstTokenTimes::kEnough);
  }
  void Sample(int i, Duration first_token, size_t count) {
    for (size_t k = 0; k < count; ++k) target(i).first_token_times.Add(first_token);
  }
  size_t InFlight() const {
    size_t n = 0;
    for (const ScriptedProvider* p : providers) {
      for (const auto& seen : p->seen()) n += seen.ended == core::SteadyTime{} ? 1 : 0;
    }
    return n;
  }
  // What is in flight at `at` after the start of a streamed call.
  void NoteAt(Duration at, size_t& in_flight) {
    loop.CallAt(loop.Now() + at, [this, &in_flight] { in_flight = InFlight(); });
  }
  double level() { return routes["default"]->budget().level(); }

  int max_hedges = 1;
};

TEST_F(HedgeTest, Delay2sMax1At1Point999sOneAt2sTwoInFlight) {
  BuildHedged(3);
  provider(0).Then(Answers("late", 8s));
  provider(1).Then(Answers("later", 8s));
  size_t before = 0;
  size_t after = 0;
  size_t much_later = 0;
  NoteAt(1999ms, before);
  NoteAt(2001ms, after);
  NoteAt(7s, much_later);
  const core::Result result = RunStream();
  EXPECT_EQ(before, 1u);
  EXPECT_EQ(after, 2u);
  EXPECT_EQ(much_later, 2u);
  EXPECT_EQ(AnswerOf(result).text, "late");
  EXPECT_EQ(provider(1).seen()[0].at - provider(0).seen()[0].at, 2s);
}

TEST_F(HedgeTest, BudgetEmptyPrimaryTakes3s0HedgesPrimarysSuccessReturned) {
  route.retry.budget = {.tokens = 1, .per_success = 0, .per_minute = 0};
  BuildHedged(2);
  auto spent = routes["default"]->budget().Withdraw(1);
  provider(0).Then(Answers("primary", 3s));
  const core::Result result = RunStream();
  EXPECT_EQ(calls(1), 0u);
  EXPECT_EQ(AnswerOf(result).text, "primary");
  EXPECT_EQ(took, 3s);
}

TEST_F(HedgeTest, ThePrimaryLosesCensoredAndIsBookedAsAnEstimate) {
  BuildHedged(2);
  provider(0).Then(Hangs());
  provider(1).Then(Answers("hedge", 1s));
  const core::Result result = RunStream();
  EXPECT_EQ(took, 3s);
  EXPECT_THAT(stream->events, ElementsAre("started p1 fallback_model", "\"hedge\""));
  EXPECT_THAT(Outcomes(result), ElementsAre("beaten", "complete"));
  EXPECT_TRUE(result.attempts[0].usage_estimated);
  EXPECT_GT(result.attempts[0].cost_usd, 0);
  EXPECT_EQ(breaker(0).Snapshot().censored, 1);
  EXPECT_EQ(provider(0).seen()[0].ended - provider(0).seen()[0].at, 3s);
  EXPECT_DOUBLE_EQ(level(), 9 + 3.0 / 60);
}

TEST_F(HedgeTest, AHedgeThatLosesIsNeutral) {
  BuildHedged(2);
  provider(0).Then(Answers("primary", 6s));
  provider(1).Then(Hangs());
  const core::Result result = RunStream();
  EXPECT_THAT(Outcomes(result), ElementsAre("beaten", "complete"));
  EXPECT_EQ(result.attempts[0].target.provider, "p1");
  EXPECT_EQ(breaker(1).Snapshot().censored, 0);
  EXPECT_EQ(AnswerOf(result).degradation, Degradation::kNone);
  EXPECT_EQ(target(0).limiter.in_flight(), 0);
  EXPECT_EQ(target(1).limiter.in_flight(), 0);
}

TEST_F(HedgeTest, ARetryableFailureOfTheFirstStartsTheHedgeAtOnce) {
  BuildHedged(2);
  random.Always(.9);
  provider(0).Then(Fails(OutcomeKind::kServerError, 500ms));
  provider(1).Then(Answers("hedge", 1s));
  const core::Result result = RunStream();
  EXPECT_EQ(took, 1500ms);
  EXPECT_EQ(calls(0), 1u);
  EXPECT_EQ(result.attempts[0].retry_skipped, "hedged");
  EXPECT_EQ(breaker(0).Snapshot().failures, 1);
}

TEST_F(HedgeTest, ADeniedHedgeLeavesTheRetriesAsTheyWere) {
  route.hedge = HedgeOptions{};
  Build(2);
  random.Always(0);
  Sample(0, 100ms, FirstTokenTimes::kEnough);
  for (int i = 0; i < 5; ++i) breaker(1).Acquire(loop.Now() + 1s)->Failure();
  provider(0).Then(Fails(OutcomeKind::kServerError));
  provider(0).Then(Answers("again"));
  const core::Result result = RunStream();
  EXPECT_THAT(Outcomes(result), ElementsAre("server_error", "complete"));
  EXPECT_EQ(calls(1), 0u);
}

TEST_F(HedgeTest, AHedgeIsNoProbe) {
  BuildHedged(2);
  for (int i = 0; i < 5; ++i) breaker(1).Acquire(loop.Now() + 1s)->Failure();
  loop.Advance(target_options.breaker.open);
  ASSERT_TRUE(breaker(1).WouldAdmit(loop.Now()));
  provider(0).Then(Answers("primary", 5s));
  EXPECT_EQ(AnswerOf(RunStream()).text, "primary");
  EXPECT_EQ(calls(1), 0u);
}

TEST_F(HedgeTest, OnlyTheFirstTurnIsHeard) {
  NotingStream sink(loop);
  const core::Request request = Ask();
  Delivery delivery(&sink, request);
  int firsts = 0;
  Delivery::Turn one(delivery, {core::TargetName{"p0", "m0"}}, false, [&] { ++firsts; });
  Delivery::Turn two(delivery, {core::TargetName{"p1", "m1"}}, false, [&] { ++firsts; });
  two.OnText("two");
  one.OnText("one");
  one.OnToolCall(0, "id", "f", "{}");
  two.OnText(" more");
  EXPECT_THAT(sink.events, ElementsAre("started p1 none", "\"two\"", "\" more\""));
  EXPECT_TRUE(two.heard());
  EXPECT_EQ(firsts, 1);
}

TEST_F(HedgeTest, AFailedHedgeLeavesThePrimaryAlone) {
  BuildHedged(2);
  provider(0).Then(Answers("primary", 5s));
  provider(1).Then(Fails(OutcomeKind::kServerError, 1s));
  const core::Result result = RunStream();
  EXPECT_EQ(AnswerOf(result).text, "primary");
  EXPECT_THAT(Outcomes(result), ElementsAre("server_error", "complete"));
}

TEST_F(HedgeTest, BothFailAndTheChainGoesOnBehindTheHedge) {
  BuildHedged(3);
  provider(0).Then(Fails(OutcomeKind::kConnect, 4s));
  provider(1).Then(Fails(OutcomeKind::kAuth, 3s));
  provider(2).Then(Answers("third"));
  const core::Result result = RunStream();
  EXPECT_EQ(AnswerOf(result).text, "third");
}

TEST_F(HedgeTest, NeedsFiftySamplesAndWaitsForTheP95) {
  for (const size_t samples : {FirstTokenTimes::kEnough - 1, FirstTokenTimes::kEnough}) {
    route = {};
    route.hedge = HedgeOptions{.delay = 2s};
    providers.clear();
    Build(2);
    random.Always(0);
    Sample(0, 3s, samples);
    provider(0).Then(Answers("late", 6s));
    provider(1).Then(Answers("hedge", 1s));
    RunStream();
    EXPECT_EQ(calls(1), samples == FirstTokenTimes::kEnough ? 1u : 0u);
    if (calls(1) == 1) EXPECT_EQ(provider(1).seen()[0].at - provider(0).seen()[0].at, 3s);
  }
}

TEST_F(HedgeTest, OffByDefaultAndTheCallersToSay) {
  Build(2);
  Sample(0, 100ms, FirstTokenTimes::kEnough);
  provider(0).Otherwise(Answers("late", 5s));
  provider(1).Otherwise(Answers("hedge"));
  RunStream();
  EXPECT_EQ(calls(1), 0u);
  core::Request request = Ask();
  request.stream.hedge = true;
  EXPECT_EQ(AnswerOf(RunStream(request)).text, "hedge");
  EXPECT_EQ(took, 1s);
  Run(request);  // no stream: its options are not read
  EXPECT_EQ(calls(1), 1u);
}

TEST_F(HedgeTest, TheCallerMaySwitchItOff) {
  BuildHedged(2);
  provider(0).Then(Answers("late", 5s));
  core::Request request = Ask();
  request.stream.hedge = false;
  EXPECT_EQ(AnswerOf(RunStream(std::move(request))).text, "late");
  EXPECT_EQ(calls(1), 0u);
}

TEST_F(HedgeTest, AUnaryCallIsHedgedByTheSameRules) {
  BuildHedged(2);
  provider(0).Then(Hangs());
  provider(1).Then(Answers("hedge", 1s));
  const core::Result result = Run();
  EXPECT_EQ(AnswerOf(result).text, "hedge");
  EXPECT_EQ(took, 3s);
}

TEST_F(HedgeTest, ACancelEndsBoth) {
  BuildHedged(2);
  provider(0).Then(Hangs());
  provider(1).Then(Hangs());
  loop.CallAt(loop.Now() + 3s, [this] { cancel.request_stop(); });
  const core::Result result = RunStream();
  EXPECT_EQ(ErrorOf(result).code, ErrorCode::kCancelled);
  EXPECT_EQ(InFlight(), 0u);
  EXPECT_EQ(took, 3s);
}

TEST_F(HedgeTest, AHedgeCountsWithItsCost) {
  BuildHedged(2);
  provider(0).Then(Answers("late", 5s));
  core::Request request = Ask();
  request.max_output_tokens = 1000;
  // Either alone fits: about 2 thousandths of a dollar each.
  request.max_cost_usd = 0.003;
  RunStream(std::move(request));
  EXPECT_EQ(calls(1), 0u);
}

TEST_F(HedgeTest, AtMostMaxAtOnce) {
  max_hedges = 2;
  BuildHedged(4);
  for (int i = 0; i < 4; ++i) provider(i).Otherwise(Hangs());
  size_t two = 0;
  size_t three = 0;
  size_t still_three = 0;
  NoteAt(3s, two);
  NoteAt(4001ms, three);
  NoteAt(9s, still_three);
  RunStream();
  EXPECT_EQ(two, 2u);
  EXPECT_EQ(three, 3u);
  EXPECT_EQ(still_three, 3u);
}

TEST_F(HedgeTest, ABrokenWinnerFollowsTheRulesOfAStream) {
  BuildHedged(3);
  provider(0).Then(Hangs());
  provider(1).Then(Script().Say("He", 1s).End(OutcomeKind::kCut));
  provider(2).CanContinue();
  provider(2).Then(Answers("dge"));
  const core::Result result = RunStream();
  EXPECT_EQ(AnswerOf(result).text, "Hedge");
  EXPECT_THAT(stream->events, ElementsAre("started p1 fallback_model", "\"He\"",
                                          "continued p2 fallback_model", "\"dge\""));
}

}  // namespace
}  // namespace holdfast::resilience
