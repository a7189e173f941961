// The worked cases of the rules that concern a whole call, under their own words, and the rules
// around them.

#include "resilience/engine.h"

#include "tests/resilience/engine_fixture.h"

namespace holdfast::resilience {
namespace {

using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::Ge;
using ::testing::IsEmpty;
using ::testing::Le;
using ::testing::SizeIs;

core::Outcome Told(OutcomeKind kind, Duration retry_after) {
  core::Outcome outcome;
  outcome.kind = kind;
  outcome.http_status = 429;
  outcome.retry_after = retry_after;
  return outcome;
}

core::Outcome Hint(OutcomeKind kind, bool should_retry) {
  core::Outcome outcome;
  outcome.kind = kind;
  outcome.should_retry = should_retry;
  return outcome;
}

TEST_F(EngineTest, APrimaryThatAnswersIsNotDegraded) {
  Build(2);
  provider(0).Then(Answers("because"));
  const core::Result result = Run();
  const core::Answer& answer = AnswerOf(result);
  EXPECT_EQ(answer.text, "because");
  EXPECT_EQ(answer.degradation, Degradation::kNone);
  EXPECT_EQ(answer.served_by->provider, "p0");
  EXPECT_EQ(answer.finish_reason, core::FinishReason::kStop);
  EXPECT_THAT(answer.notice, IsEmpty());
  EXPECT_THAT(Outcomes(result), ElementsAre("complete"));
  EXPECT_DOUBLE_EQ(result.cost_usd, (10 * 1.0 + 5 * 2.0) / 1e6);
  EXPECT_THAT(cache.stored, SizeIs(1));
  EXPECT_EQ(calls(1), 0u);
}

// ------------------------------------------------------------------------- retry and Retry-After

TEST_F(EngineTest, FourTargetsEveryAttempt500TimeEnoughAttemptsPerTarget4211) {
  route.timeout = 300s;
  Build(4);
  for (int i = 0; i < 4; ++i) provider(i).Otherwise(Fails(OutcomeKind::kServerError));
  const core::Result result = Run();
  EXPECT_THAT((std::vector{calls(0), calls(1), calls(2), calls(3)}), ElementsAre(4, 2, 1, 1));
  EXPECT_EQ(AnswerOf(result).degradation, Degradation::kPartial);
}

TEST_F(EngineTest, FullJitterGrowsAndIsListedAsTheDelayBeforeAnAttempt) {
  Build(1);
  provider(0).Then(Fails(OutcomeKind::kServerError));
  provider(0).Then(Fails(OutcomeKind::kServerError));
  random.Push(0.5);
  random.Push(0.75);
  const core::Result result = Run();
  EXPECT_THAT(Outcomes(result), ElementsAre("server_error", "server_error", "complete"));
  EXPECT_EQ(result.attempts[1].delay_before, 500ms);
  EXPECT_EQ(result.attempts[2].delay_before, 1500ms);
  EXPECT_EQ(took, 2s);
  EXPECT_THAT(observer.delays, ElementsAre(500ms, 1500ms));
}

TEST_F(EngineTest, RateLimitedWithRetryAfter2AndNextTargetAdmittingWaits2To2Point2OnTheSameTarget) {
  Build(2);
  provider(0).Then(Fails(Told(OutcomeKind::kRateLimited, 2s)));
  random.Push(0.999999);
  const core::Result result = Run();
  EXPECT_EQ(AnswerOf(result).degradation, Degradation::kNone);
  EXPECT_THAT(took, AllOf(Ge(Duration(2s)), Le(Duration(2200ms))));
  EXPECT_EQ(calls(1), 0u);
}

TEST_F(EngineTest, RateLimitedWithRetryAfter4AndNextTargetAdmittingGoesToTheNextAtOnce) {
  Build(2);
  provider(0).Then(Fails(Told(OutcomeKind::kRateLimited, 4s)));
  const core::Result result = Run();
  EXPECT_EQ(AnswerOf(result).degradation, Degradation::kFallbackModel);
  EXPECT_EQ(took, 0s);
  EXPECT_EQ(result.attempts[0].retry_skipped, "retry_after");
  EXPECT_EQ(target(0).cooldown.until(), loop.Now() + 4s);
}

TEST_F(EngineTest, PreferWaitBoundary) {
  for (const auto& [wait, waits] :
       std::vector<std::pair<Duration, bool>>{{3s - 1ms, true}, {3s, true}, {3s + 1ms, false}}) {
    providers.clear();
    Build(2);
    provider(0).Then(Fails(Told(OutcomeKind::kRateLimited, wait)));
    EXPECT_EQ(AnswerOf(Run()).degradation == Degradation::kNone, waits);
  }
}

TEST_F(EngineTest, MaxWaitBoundaryWithoutAnotherTarget) {
  route.timeout = 120s;
  for (const auto& [wait, waits] :
       std::vector<std::pair<Duration, bool>>{{20s - 1ms, true}, {20s, true}, {20s + 1ms, false}}) {
    providers.clear();
    Build(1);
    provider(0).Then(Fails(Told(OutcomeKind::kRateLimited, wait)));
    EXPECT_EQ(AnswerOf(Run()).degradation == Degradation::kNone, waits);
    EXPECT_EQ(calls(0), waits ? 2u : 1u);
  }
}

TEST_F(EngineTest, OneTargetCooldown5s29sRemainARequestArrivesAnsweredAfter5To6s) {
  Build(1);
  target(0).cooldown.ExtendTo(loop.Now() + 5s, "rate_limited");
  random.Push(0.999999);
  const core::Result result = Run();
  EXPECT_EQ(AnswerOf(result).degradation, Degradation::kNone);
  EXPECT_THAT(took, AllOf(Ge(Duration(5s)), Le(Duration(6s))));
  EXPECT_THAT(Outcomes(result), ElementsAre("skipped:cooldown", "complete"));
}

TEST_F(EngineTest, ARequestDuringACooldownSkipsTheTargetWhileAnotherAdmits) {
  Build(2);
  target(0).cooldown.ExtendTo(loop.Now() + 1s, "rate_limited");
  EXPECT_EQ(AnswerOf(Run()).degradation, Degradation::kFallbackModel);
  EXPECT_EQ(took, 0s);
  EXPECT_EQ(calls(0), 0u);
}

TEST_F(EngineTest, AtMost100WaitersATarget) {
  Build(1);
  target(0).cooldown.ExtendTo(loop.Now() + 5s, "rate_limited");
  target(0).cooldown_waiters = 99;
  EXPECT_EQ(AnswerOf(Run()).degradation, Degradation::kNone);
  target(0).cooldown.ExtendTo(loop.Now() + 5s, "rate_limited");
  target(0).cooldown_waiters = 100;
  EXPECT_EQ(AnswerOf(Run()).degradation, Degradation::kPartial);
  EXPECT_EQ(target(0).cooldown_waiters, 100);
}

TEST_F(EngineTest, ARateLimitWithoutAHeaderCoolsTheTargetByThisRequestsOwnDelay) {
  Build(2);
  provider(0).Then(Fails(OutcomeKind::kRateLimited));
  random.Push(0.25);
  const core::Result result = Run();
  EXPECT_EQ(AnswerOf(result).degradation, Degradation::kNone);
  EXPECT_EQ(took, 250ms);
}

TEST_F(EngineTest, ARateLimitOfCredentialScopeBindsTheWholeProviderEntry) {
  target_options.rate_limit_scope = RateLimitScope::kCredential;
  route.chain = {StepOf(0), StepOf(1), StepOf(2)};
  route.chain[1].target.provider = "p0";
  Build(3);
  provider(0).Then(Fails(Told(OutcomeKind::kRateLimited, 10s)));
  const core::Result result = Run();
  EXPECT_THAT(Outcomes(result), ElementsAre("rate_limited", "skipped:cooldown", "complete"));
}

TEST_F(EngineTest, AnIndexOfJitterRestartsAt0AfterARetryAfter) {
  Build(1);
  provider(0).Then(Fails(OutcomeKind::kServerError));
  provider(0).Then(Fails(Told(OutcomeKind::kServerError, 1s)));
  provider(0).Then(Fails(OutcomeKind::kServerError));
  random.Push(0.5);  // .5 of 1 s
  random.Push(0);    // exactly the 1 s told
  random.Push(0.5);  // .5 of 1 s again, not of 4 s
  const core::Result result = Run();
  EXPECT_EQ(result.attempts[3].delay_before, 500ms);
}

TEST_F(EngineTest, ServerErrorWithShouldRetryFalseIsNotRetriedButCountsInTheBreaker) {
  Build(1);
  provider(0).Then(Fails(Hint(OutcomeKind::kServerError, false)));
  const core::Result result = Run();
  EXPECT_EQ(calls(0), 1u);
  EXPECT_EQ(result.attempts[0].retry_skipped, "not_retryable");
  EXPECT_EQ(breaker(0).Snapshot().failures, 1);
}

TEST_F(EngineTest, BadRequestWithShouldRetryTrueIsRetriedOnceAndNeutralInTheBreaker) {
  Build(1);
  provider(0).Otherwise(Fails(Hint(OutcomeKind::kBadRequest, true)));
  const core::Result result = Run();
  EXPECT_EQ(calls(0), 2u);
  EXPECT_EQ(breaker(0).Snapshot().failures, 0);
  EXPECT_EQ(ErrorOf(result).code, ErrorCode::kInvalidArgument);
}

TEST_F(EngineTest, ReusedPooledConnectionResetTwiceInstantUncountedNeutralThenFailureAndBackoff) {
  route.retry.max_attempts = 2;
  Build(1);
  provider(0).Then(Fails(OutcomeKind::kPooledReset));
  provider(0).Then(Fails(OutcomeKind::kPooledReset));
  const core::Result result = Run();
  EXPECT_THAT(Outcomes(result), ElementsAre("pooled_reset", "connect", "complete"));
  EXPECT_EQ(result.attempts[1].start_offset, 0s);
  EXPECT_EQ(result.attempts[1].delay_before, 0s);
  EXPECT_EQ(result.attempts[2].delay_before, 500ms);
  EXPECT_EQ(breaker(0).Snapshot().failures, 1);
  EXPECT_THAT((std::vector{provider(0).seen()[0].number, provider(0).seen()[1].number,
                           provider(0).seen()[2].number}),
              ElementsAre(1, 1, 2));
  EXPECT_NEAR(routes["default"]->budget().level(), 9 + 0.5 * 3 / 60, 1e-6);
}

TEST_F(EngineTest, FifthConsecutiveFailureRetriesLeftNoSleepTheBreakerWouldDenyNextTarget) {
  Build(2);
  provider(0).Otherwise(Fails(OutcomeKind::kServerError));
  for (int i = 0; i < 4; ++i) breaker(0).Acquire(loop.Now())->Failure();
  const core::Result result = Run();
  EXPECT_EQ(took, 0s);
  EXPECT_EQ(calls(0), 1u);
  EXPECT_EQ(result.attempts[0].retry_skipped, "breaker_open");
  EXPECT_EQ(AnswerOf(result).degradation, Degradation::kFallbackModel);
}

TEST_F(EngineTest, RouteTimeout120BaseCap40Draw35CallerCancelsAt1s) {
  route.timeout = 120s;
  route.retry.backoff = {.base = 40s, .cap = 40s};
  Build(1);
  provider(0).Otherwise(Fails(OutcomeKind::kServerError));
  random.Push(35.0 / 40);
  loop.CallAt(loop.Now() + 1s, [this] { cancel.request_stop(); });
  const core::Result result = Run();
  EXPECT_EQ(took, 1s);
  EXPECT_EQ(calls(0), 1u);
  EXPECT_EQ(ErrorOf(result).code, ErrorCode::kCancelled);
  EXPECT_DOUBLE_EQ(routes["default"]->budget().level(), 10);
  EXPECT_EQ(routes["default"]->budget().in_flight(), 0);
}

TEST_F(EngineTest, ThreeAttemptsOnOneTargetOneIdempotencyKey) {
  Build(2);
  provider(0).Then(Fails(OutcomeKind::kServerError));
  provider(0).Then(Fails(OutcomeKind::kServerError));
  Run();
  const auto& seen = provider(0).seen();
  ASSERT_THAT(seen, SizeIs(3));
  EXPECT_THAT((std::vector{seen[0].number, seen[1].number, seen[2].number}), ElementsAre(1, 2, 3));
  EXPECT_EQ(seen[0].idempotency_key, seen[1].idempotency_key);
  EXPECT_EQ(seen[0].idempotency_key, seen[2].idempotency_key);
}

TEST_F(EngineTest, AnotherTargetHasAnotherIdempotencyKey) {
  Build(2);
  provider(0).Otherwise(Fails(OutcomeKind::kAuth));
  Run();
  EXPECT_NE(provider(0).seen()[0].idempotency_key, provider(1).seen()[0].idempotency_key);
}

TEST_F(EngineTest, Request3sAttempt1FailsAt2Point5RetryOnlyWithDelayUpToPoint14) {
  route.min_useful = 100ms;
  for (const auto& [draw, retried] :
       std::vector<std::pair<double, bool>>{{0.139, true}, {0.14, true}, {0.141, false}}) {
    providers.clear();
    Build(1);
    provider(0).Then(Fails(OutcomeKind::kServerError, 2500ms));
    random.Push(draw);
    const core::Result result = Run(3s);
    EXPECT_EQ(calls(0), retried ? 2u : 1u) << draw;
    EXPECT_EQ(result.attempts[0].retry_skipped, retried ? "" : "no_time");
  }
}

TEST_F(EngineTest, Request3sAttempt1FailsAt2Point5WithTheDefaultMinUsefulIsSkippedAtOnce) {
  Build(1);
  provider(0).Then(Fails(OutcomeKind::kServerError, 2500ms));
  random.Push(0);
  const core::Result result = Run(3s);
  EXPECT_EQ(calls(0), 1u);
  EXPECT_EQ(took, 2500ms);
  EXPECT_EQ(result.attempts[0].retry_skipped, "no_time");
}

TEST_F(EngineTest, AnEmptyRetryBudgetEndsTheTargetAtOnce) {
  route.retry.budget = {.tokens = 1, .per_success = 0, .per_minute = 0};
  Build(2);
  provider(0).Otherwise(Fails(OutcomeKind::kServerError));
  const core::Result result = Run();
  EXPECT_THAT(Outcomes(result), ElementsAre("server_error", "server_error", "complete"));
  EXPECT_EQ(result.attempts[1].retry_skipped, "retry_budget");
}

TEST_F(EngineTest, ARetryAfterACutStreamCostsTwoTokens) {
  route.retry.budget = {.tokens = 10, .per_success = 0, .per_minute = 0};
  Build(1);
  provider(0).Then(Script().Say("so far").End(OutcomeKind::kCut));
  Run();
  EXPECT_DOUBLE_EQ(routes["default"]->budget().level(), 8);
}

TEST_F(EngineTest, OverloadPrefersTheNextTargetWithoutSleeping) {
  Build(2);
  provider(0).Then(Fails(Told(OutcomeKind::kOverloaded, 1s)));
  const core::Result result = Run();
  EXPECT_EQ(took, 0s);
  EXPECT_EQ(result.attempts[0].retry_skipped, "next_target_preferred");
}

TEST_F(EngineTest, OverloadIsRetriedWhereNoOtherTargetAdmits) {
  Build(2);
  breaker(1).ForceOpen();
  provider(0).Then(Fails(OutcomeKind::kOverloaded));
  EXPECT_EQ(AnswerOf(Run()).degradation, Degradation::kNone);
  EXPECT_EQ(calls(0), 2u);
}

TEST_F(EngineTest, ATimeoutIsRetriedOnlyWhenNoOtherTargetIsLeft) {
  Build(2);
  provider(0).Then(Hangs());
  EXPECT_EQ(AnswerOf(Run()).degradation, Degradation::kFallbackModel);
  EXPECT_EQ(calls(0), 1u);
  breaker(1).ForceOpen();
  provider(0).Then(Hangs());
  EXPECT_EQ(AnswerOf(Run()).degradation, Degradation::kNone);
  EXPECT_EQ(calls(0), 3u);
}

TEST_F(EngineTest, RequestTimeoutAndConflictAreRetriedOnce) {
  for (OutcomeKind kind : {OutcomeKind::kRequestTimeout, OutcomeKind::kConflict}) {
    providers.clear();
    Build(2);
    provider(0).Otherwise(Fails(kind));
    Run();
    EXPECT_EQ(calls(0), 2u);
    EXPECT_EQ(breaker(0).Snapshot().failures, kind == OutcomeKind::kRequestTimeout ? 2 : 0);
  }
}

TEST_F(EngineTest, ADenialAfterTheSleepRefundsTheTokenAndGoesToTheNextTarget) {
  Build(2);
  provider(0).Otherwise(Fails(OutcomeKind::kServerError));
  random.Push(0.5);
  loop.CallAt(loop.Now() + 100ms, [this] { breaker(0).ForceOpen(); });
  const core::Result result = Run();
  EXPECT_THAT(Outcomes(result), ElementsAre("server_error", "skipped:breaker_open", "complete"));
  EXPECT_GE(routes["default"]->budget().level(), 10);
}

TEST_F(EngineTest, SuccessOnARetryBringsNoCredit) {
  route.retry.budget = {.tokens = 10, .per_success = 1, .per_minute = 0};
  Build(1);
  provider(0).Then(Fails(OutcomeKind::kServerError));
  Run();
  EXPECT_DOUBLE_EQ(routes["default"]->budget().level(), 9);
  Run();
  EXPECT_DOUBLE_EQ(routes["default"]->budget().level(), 10);
}

// ------------------------------------------------------------------------------- time budget

TEST_F(EngineTest, Shares3_8_1With10Point2sToSEachUsesAllOfItsShare3_5Point6_1Point4) {
  route.chain = {StepOf(0), StepOf(1), StepOf(2)};
  route.chain[0].share = 0.3;
  route.chain[1].share = 0.8;
  route.chain[2].share = 1;
  Build(3);
  for (int i = 0; i < 3; ++i) provider(i).Otherwise(Hangs());
  const Duration total = Duration(10200ms) * 100 / 98;  // 2 % margin
  const core::Result result = Run(total);
  ASSERT_THAT(result.attempts, SizeIs(3));
  const Duration ns = 1us;
  EXPECT_LT(std::chrono::abs(result.attempts[0].duration - 3s), ns);
  EXPECT_LT(std::chrono::abs(result.attempts[1].duration - 5600ms), ns);
  EXPECT_LT(std::chrono::abs(result.attempts[2].duration - 1400ms), ns);
}

TEST_F(EngineTest, ThreeTargetsNothingEverAnswers29Point5sToSGives20_6Point3_3) {
  route.min_useful = 3s;
  route.timeout = 120s;
  route.chain = {StepOf(0), StepOf(1), StepOf(2)};
  for (Step& step : route.chain) step.timeouts.first_token = 20s;
  Build(3);
  for (int i = 0; i < 3; ++i) provider(i).Otherwise(Hangs());
  const core::Result result = Run(30s);  // margin 500 ms
  ASSERT_THAT(result.attempts, SizeIs(3));
  EXPECT_EQ(result.attempts[0].duration, 20s);
  EXPECT_EQ(result.attempts[1].duration, 6300ms);
  EXPECT_EQ(result.attempts[2].duration, 3s);
  EXPECT_THAT(Outcomes(result), ElementsAre("timeout", "timeout_shortened", "timeout_shortened"));
}

TEST_F(EngineTest, ThreeTargetsNothingEverAnswers7Point7sToSGives4Point5_3_Stop) {
  route.min_useful = 3s;
  route.chain = {StepOf(0), StepOf(1), StepOf(2)};
  for (Step& step : route.chain) step.timeouts.first_token = 20s;
  Build(3);
  for (int i = 0; i < 3; ++i) provider(i).Otherwise(Hangs());
  const core::Result result = Run(Duration(7700ms) * 100 / 98);
  ASSERT_THAT(result.attempts, SizeIs(3));
  EXPECT_LT(std::chrono::abs(result.attempts[0].duration - 4500ms), Duration(1us));
  EXPECT_EQ(result.attempts[1].duration, 3s);
  EXPECT_THAT(Outcomes(result),
              ElementsAre("timeout_shortened", "timeout_shortened", "skipped:no_time"));
}

TEST_F(EngineTest, Deadline200msDequeued1sLaterDeadlineExceeded0UpstreamExpired800ms) {
  Build(1);
  CallContext context = Context(200ms);
  loop.Advance(1s);
  const core::Result result = loop.Await(engine->Run(Ask(), context));
  EXPECT_EQ(ErrorOf(result).code, ErrorCode::kDeadlineExceeded);
  EXPECT_EQ(calls(0), 0u);
  EXPECT_THAT(observer.expired, ElementsAre(800ms));
}

TEST_F(EngineTest, RemainingBelowMinUsefulGoesStraightToTheLadder) {
  Build(1);
  // S = total - 50 ms; remaining = S - 200 ms.
  for (const auto& [deadline, called] : std::vector<std::pair<Duration, bool>>{
           {1250ms - 1ns, false}, {1250ms, true}, {1250ms + 1ns, true}}) {
    const size_t before = calls(0);
    const core::Result result = Run(deadline);
    EXPECT_EQ(calls(0) > before, called);
    EXPECT_EQ(AnswerOf(result).degradation == Degradation::kPartial, !called);
  }
}

TEST_F(EngineTest, EveryAnswerIsThereBySoftDeadline) {
  for (Duration deadline : {Duration(100ms), Duration(2s), Duration(10s), Duration(29s)}) {
    providers.clear();
    Build(3);
    for (int i = 0; i < 3; ++i) provider(i).Otherwise(Hangs());
    const core::Result result = Run(deadline);
    EXPECT_TRUE(result.ok());
    EXPECT_LE(took, deadline - std::clamp<Duration>(deadline / 50, 50ms, 500ms));
    EXPECT_EQ(result.time_budget.total, deadline);
    EXPECT_EQ(result.time_budget.used, took);
  }
}

TEST_F(EngineTest, OnceContentFlowsItMayUseAllThatRemains) {
  Build(2);
  AttemptScript slow = Script();
  for (int i = 0; i < 27; ++i) slow = std::move(slow).Say("word ", 1s);
  provider(0).Then(std::move(slow).Done());
  const core::Result result = Run();
  EXPECT_EQ(AnswerOf(result).degradation, Degradation::kNone);
  EXPECT_EQ(took, 27s);
}

TEST_F(EngineTest, ReasoningFeedsFirstTokenAndIdleButThePlanStillBinds) {
  Build(2);
  AttemptScript thinks = Script();
  for (int i = 0; i < 4; ++i) thinks = std::move(thinks).Think(5s);
  provider(0).Then(std::move(thinks).Say("done", 5s).Done());
  EXPECT_EQ(AnswerOf(Run()).degradation, Degradation::kNone);
  EXPECT_EQ(took, 25s);
  AttemptScript forever = Script();
  for (int i = 0; i < 50; ++i) forever = std::move(forever).Think(5s);
  provider(0).Then(std::move(forever));
  const core::Result result = Run();
  EXPECT_EQ(Outcomes(result)[0], "timeout_shortened");
  EXPECT_EQ(AnswerOf(result).degradation, Degradation::kFallbackModel);
}

TEST_F(EngineTest, TheConnectTimerIsItsOwn) {
  Build(2);
  provider(0).Then(AttemptScript().Hang());
  const core::Result result = Run();
  EXPECT_EQ(result.attempts[0].duration, 2s);
  EXPECT_EQ(result.attempts[0].outcome, "timeout");
  EXPECT_EQ(breaker(0).Snapshot().failures, 1);
}

TEST_F(EngineTest, TheIdleTimerRunsBetweenContent) {
  Build(2);
  provider(0).Then(Script().Say("a", 1s).Say("b", 9s).Hang());
  const core::Result result = Run();
  EXPECT_EQ(result.attempts[0].duration, 20s);
  EXPECT_EQ(result.attempts[0].outcome, "timeout");
}

TEST_F(EngineTest, AttemptTimeoutWithContentFlowingIsNeutral) {
  route.chain = {StepOf(0), StepOf(1)};
  route.chain[0].timeouts.attempt = 5s;
  Build(2);
  AttemptScript slow = Script();
  for (int i = 0; i < 60; ++i) slow = std::move(slow).Say("w", 500ms);
  provider(0).Then(std::move(slow).Done());
  const core::Result result = Run();
  EXPECT_THAT(Outcomes(result), ElementsAre("out_of_time", "complete"));
  EXPECT_EQ(result.attempts[0].duration, 5s);
  EXPECT_EQ(breaker(0).Snapshot().failures, 0);
}

TEST_F(EngineTest, AShortenedTimeIsCensoredFromMinObservationOn) {
  for (const auto& [deadline, censored] :
       std::vector<std::pair<Duration, int>>{{2250ms - 1ns, 0}, {2250ms, 1}, {2250ms + 1ns, 1}}) {
    providers.clear();
    Build(1);
    provider(0).Otherwise(Hangs());
    Run(deadline);  // S = deadline - 50 ms, tail 200 ms
    EXPECT_EQ(breaker(0).Snapshot().censored, censored);
    EXPECT_EQ(breaker(0).Snapshot().failures, 0);
  }
}

TEST_F(EngineTest, AStreamThatHangsAfterItsFinishReasonIsComplete) {
  Build(1);
  provider(0).Then(Script().Say("whole").Done().Hang());
  const core::Result result = Run();
  EXPECT_THAT(Outcomes(result), ElementsAre("complete"));
  EXPECT_EQ(took, 1s);
}

// ------------------------------------------------------------------------------ the table's rows

TEST_F(EngineTest, ABadRequestReachesTheCallerWithTheProvidersReason) {
  Build(2);
  core::Outcome outcome{.kind = OutcomeKind::kBadRequest, .http_status = 400};
  outcome.error = "temperature is out of range";
  provider(0).Then(Fails(outcome));
  const core::Result result = Run();
  EXPECT_EQ(ErrorOf(result).code, ErrorCode::kInvalidArgument);
  EXPECT_EQ(ErrorOf(result).reason, "PROVIDER_REJECTED");
  EXPECT_THAT(ErrorOf(result).message, ::testing::HasSubstr("temperature is out of range"));
  EXPECT_EQ(calls(1), 0u);
  EXPECT_THAT(cache.queries, IsEmpty());
}

TEST_F(EngineTest, ABadRequestOfALaterTargetAfterAFailureGoesOnAndThenDownTheLadder) {
  Build(3);
  provider(0).Otherwise(Fails(OutcomeKind::kAuth));
  provider(1).Otherwise(Fails(OutcomeKind::kBadRequest));
  EXPECT_EQ(AnswerOf(Run()).served_by->provider, "p2");
  provider(2).Otherwise(Fails(OutcomeKind::kBadRequest));
  EXPECT_EQ(AnswerOf(Run()).degradation, Degradation::kPartial);
}

TEST_F(EngineTest, ABadRequestAfterASkippedTargetIsTheRequestsFault) {
  Build(2);
  breaker(0).ForceOpen();
  provider(1).Otherwise(Fails(OutcomeKind::kBadRequest));
  EXPECT_EQ(ErrorOf(Run()).code, ErrorCode::kInvalidArgument);
}

TEST_F(EngineTest, ContextLengthGoesToTheNextTargetWithALargerOrUnknownWindow) {
  route.chain = {StepOf(0), StepOf(1), StepOf(2), StepOf(3)};
  route.chain[0].context_window = 1000;
  route.chain[1].context_window = 1000;
  route.chain[2].context_window = 1001;
  Build(4);
  provider(0).Then(Fails(OutcomeKind::kContextLength));
  provider(2).Then(Fails(OutcomeKind::kContextLength));
  const core::Result result = Run();
  EXPECT_THAT(Outcomes(result), ElementsAre("context_length", "skipped:context_window",
                                            "context_length", "complete"));
}

TEST_F(EngineTest, ContextLengthWithNoLargerWindowIsInvalidArgument) {
  route.chain = {StepOf(0), StepOf(1)};
  route.chain[0].context_window = 1000;
  route.chain[1].context_window = 999;
  Build(2);
  provider(0).Then(Fails(OutcomeKind::kContextLength));
  const core::Result result = Run();
  EXPECT_EQ(ErrorOf(result).reason, "CONTEXT_LENGTH_EXCEEDED");
  EXPECT_EQ(ErrorOf(result).code, ErrorCode::kInvalidArgument);
}

TEST_F(EngineTest, ARefusalIsFinalByDefault) {
  Build(2);
  provider(0).Then(Script().Say("I cannot").Done(core::FinishReason::kRefusal));
  const core::Result result = Run();
  EXPECT_EQ(AnswerOf(result).text, "I cannot");
  EXPECT_EQ(AnswerOf(result).finish_reason, core::FinishReason::kRefusal);
  EXPECT_EQ(AnswerOf(result).degradation, Degradation::kNone);
  EXPECT_EQ(breaker(0).Snapshot().successes, 1);
  EXPECT_EQ(calls(1), 0u);
  EXPECT_THAT(cache.stored, IsEmpty());
}

TEST_F(EngineTest, ARefusalGoesOnWhereTheRouteSaysSo) {
  route.on_refusal = OnRefusal::kNext;
  Build(2);
  provider(0).Otherwise(Fails(OutcomeKind::kRefusal));
  EXPECT_EQ(AnswerOf(Run()).served_by->provider, "p1");
  provider(1).Otherwise(Fails(OutcomeKind::kAuth));
  const core::Result refused = Run();
  EXPECT_EQ(AnswerOf(refused).finish_reason, core::FinishReason::kContentFilter);
  EXPECT_EQ(AnswerOf(refused).served_by->provider, "p0");
}

TEST_F(EngineTest, TwoAuthFailuresInARowQuarantineTheCredential) {
  route.chain = {StepOf(0), StepOf(1)};
  Build(2);
  provider(0).Otherwise(Fails(OutcomeKind::kAuth));
  Run();
  EXPECT_TRUE(target(0).credential.cooldown.Passed(loop.Now()));
  Run();
  EXPECT_EQ(target(0).credential.cooldown.until(), loop.Now() + 5min);
  const core::Result result = Run();
  EXPECT_THAT(Outcomes(result), ElementsAre("skipped:cooldown", "complete"));
  EXPECT_EQ(breaker(0).Snapshot().failures, 0);
}

TEST_F(EngineTest, AuthFailuresThatWereInFlightTogetherDoNotDoubleTheQuarantine) {
  Build(1);
  provider(0).Otherwise(Fails(OutcomeKind::kAuth, 1s));
  for (int i = 0; i < 10; ++i) {
    core::Spawn([](Engine* e, core::Request r, CallContext c) -> core::Task<void> {
      co_await e->Run(std::move(r), std::move(c));
    }(engine.get(), Ask(), Context()));
  }
  loop.Run();
  EXPECT_EQ(target(0).credential.cooldown.until(), loop.Now() + 5min);
}

TEST_F(EngineTest, ExhaustedQuotaRestsTheCredentialFor15MinutesOrUntilTheReset) {
  Build(2);
  provider(0).Then(Fails(OutcomeKind::kQuota));
  Run();
  EXPECT_EQ(target(0).credential.cooldown.until(), loop.Now() + 15min);
  loop.Advance(15min);
  provider(0).Then(Fails(Told(OutcomeKind::kQuota, 30min)));
  Run();
  EXPECT_EQ(target(0).credential.cooldown.until(), loop.Now() + 30min);
}

TEST_F(EngineTest, AReplyThatIsNotTheJsonAskedForIsTriedOnceMoreThenNext) {
  Build(2);
  provider(0).Otherwise(Answers("no JSON"));
  provider(1).Otherwise(Answers("{\"a\": 1}"));
  core::Request request = Ask();
  request.response_format.kind = core::ResponseFormat::Kind::kJsonObject;
  const core::Result result = Run(request);
  EXPECT_THAT(Outcomes(result), ElementsAre("invalid_json", "invalid_json", "complete"));
  EXPECT_EQ(breaker(0).Snapshot().failures, 0);
}

TEST_F(EngineTest, AnEmptyAnswerIsMalformed) {
  Build(2);
  provider(0).Otherwise(Script().Done());
  Run();
  EXPECT_EQ(observer.records[0].outcome, "malformed");
  EXPECT_GE(breaker(0).Snapshot().failures, 1);
}

TEST_F(EngineTest, LimiterDropsOnlyOnTheRowsThatSaySo) {
  const std::vector<std::pair<OutcomeKind, bool>> rows = {
      {OutcomeKind::kRateLimited, true},  {OutcomeKind::kOverloaded, true},
      {OutcomeKind::kServerError, false}, {OutcomeKind::kAuth, false},
      {OutcomeKind::kConnect, false},     {OutcomeKind::kQuota, false}};
  for (const auto& [kind, drops] : rows) {
    providers.clear();
    Build(2);
    provider(0).Then(Fails(kind));
    Run();
    EXPECT_EQ(target(0).limiter.limit() < 1000, drops) << core::Name(kind);
  }
}

TEST_F(EngineTest, InexpressibleTargetsAreSkippedWithAReason) {
  Build(2);
  provider(0).CannotExpress("tools are not supported");
  const core::Result result = Run();
  EXPECT_THAT(Outcomes(result), ElementsAre("skipped:inexpressible", "complete"));
  EXPECT_EQ(result.attempts[0].error, "tools are not supported");
}

TEST_F(EngineTest, WhereNoTargetCanExpressTheRequestItIsInvalidArgument) {
  Build(2);
  provider(0).CannotExpress("tools are not supported");
  provider(1).CannotExpress("tools are not supported");
  const core::Result result = Run();
  EXPECT_EQ(ErrorOf(result).code, ErrorCode::kInvalidArgument);
  EXPECT_EQ(ErrorOf(result).reason, "NO_CAPABLE_TARGET");
}

// ------------------------------------------------------------------------------------- ladder

core::CacheHit Hit() {
  core::CacheHit hit;
  hit.entry_id = "e1";
  hit.text = "stored";
  hit.similarity = 0.91;
  hit.threshold = 0.85;
  hit.provider = "p9";
  hit.model = "m9";
  return hit;
}

TEST_F(EngineTest, WhenTheChainFailsAStaleAnswerIsServedAndMarked) {
  Build(1);
  provider(0).Otherwise(Fails(OutcomeKind::kAuth));
  cache.hit = Hit();
  const core::Result result = Run();
  EXPECT_EQ(AnswerOf(result).degradation, Degradation::kStale);
  EXPECT_EQ(AnswerOf(result).text, "stored");
  EXPECT_EQ(AnswerOf(result).cache_hit->similarity, 0.91);
  EXPECT_EQ(AnswerOf(result).served_by->provider, "p9");
  EXPECT_THAT(cache.stored, IsEmpty());
}

TEST_F(EngineTest, TheCallerMayRaiseTheThresholdAndShortenTheAgeNeverTheOtherWay) {
  Build(1);
  provider(0).Otherwise(Fails(OutcomeKind::kAuth));
  core::Request strict = Ask();
  strict.cache.min_similarity = 0.9;
  strict.cache.max_age = 1h;
  Run(strict);
  core::Request lax = Ask();
  lax.cache.min_similarity = 0.1;
  lax.cache.max_age = 10000h;
  Run(lax);
  EXPECT_EQ(cache.queries[0].min_similarity, 0.9);
  EXPECT_EQ(cache.queries[0].max_age, 1h);
  EXPECT_EQ(cache.queries[1].min_similarity, 0.85);
  EXPECT_EQ(cache.queries[1].max_age, 168h);
}

TEST_F(EngineTest, ALookupMustFitTheLaddersEnd) {
  Build(1);
  provider(0).Otherwise(Hangs());
  Run(3s);
  EXPECT_EQ(cache.deadlines[0], cache.looked_up_at[0] + 150ms);
}

TEST_F(EngineTest, CacheModeOffAndALastTurnThatIsNotPlainTextAreNeitherStoredNorLookedUp) {
  Build(1);
  provider(0).Then(Answers("x"));
  provider(0).Otherwise(Fails(OutcomeKind::kAuth));
  core::Request off = Ask();
  off.cache.mode = core::CacheControl::Mode::kOff;
  Run(off);
  Run(off);
  core::Request image = Ask();
  image.messages.back().parts.push_back(core::Image{.url = "https://x/y.png"});
  Run(image);
  EXPECT_THAT(cache.queries, IsEmpty());
  EXPECT_THAT(cache.stored, IsEmpty());
}

TEST_F(EngineTest, OnlyWholeAnswersAreStored) {
  Build(1);
  provider(0).Then(Script().Say("cut").Done(core::FinishReason::kLength));
  provider(0).Then(Script().Call("f", "{}").Done(core::FinishReason::kToolCalls));
  core::Request no_store = Ask();
  no_store.cache.no_store = true;
  Run();
  Run();
  Run(no_store);
  EXPECT_THAT(cache.stored, IsEmpty());
}

TEST_F(EngineTest, TheLongestTextIsSalvagedAndMarkedPartial) {
  Build(3);
  provider(0).Otherwise(Script().Say("short").End(OutcomeKind::kCut));
  provider(1).Otherwise(Script().Say("the longest of them").End(OutcomeKind::kCut));
  provider(2).Otherwise(Script().Say("medium text").End(OutcomeKind::kCut));
  const core::Result result = Run();
  const core::Answer& answer = AnswerOf(result);
  EXPECT_EQ(answer.text, "the longest of them");
  EXPECT_EQ(answer.degradation, Degradation::kPartial);
  EXPECT_EQ(answer.served_by->provider, "p1");
  EXPECT_EQ(answer.notice, route.partial.notice);
}

TEST_F(EngineTest, NothingIsSalvagedForAResponseFormatOrFromToolCalls) {
  Build(1);
  provider(0).Otherwise(Script().Say("{\"a\":").End(OutcomeKind::kCut));
  core::Request json = Ask();
  json.response_format.kind = core::ResponseFormat::Kind::kJsonObject;
  EXPECT_EQ(AnswerOf(Run(json)).text, route.partial.notice);
  provider(0).Otherwise(Script().Say("I call").Call("f", "{\"a").End(OutcomeKind::kCut));
  EXPECT_EQ(AnswerOf(Run()).text, route.partial.notice);
}

TEST_F(EngineTest, ThePartialTargetGetsOneAttemptAndItsAnswerIsPartial) {
  route.partial.target = StepOf(9);
  Build(1);
  provider(0).Otherwise(Fails(OutcomeKind::kAuth));
  provider(1).Then(Answers("basic"));
  const core::Result basic = Run();
  EXPECT_EQ(AnswerOf(basic).text, "basic");
  EXPECT_EQ(AnswerOf(basic).degradation, Degradation::kPartial);
  EXPECT_EQ(AnswerOf(basic).served_by->provider, "p9");
  EXPECT_EQ(AnswerOf(basic).notice, route.partial.notice);
  provider(1).Otherwise(Fails(OutcomeKind::kServerError));
  const core::Result notice = Run();
  EXPECT_EQ(AnswerOf(notice).text, route.partial.notice);
  EXPECT_FALSE(AnswerOf(notice).served_by.has_value());
  EXPECT_EQ(calls(1), 2u);
}

TEST_F(EngineTest, ThePartialTargetIsSkippedWhenLessThanMinUsefulIsLeft) {
  route.partial.target = StepOf(9);
  Build(1);
  provider(0).Otherwise(Hangs());
  const core::Result result = Run(1300ms);  // S = 1.25 s; 1.05 s for the partial target
  EXPECT_EQ(AnswerOf(result).text, "an answer");
  const core::Result late = Run(1200ms);
  EXPECT_THAT(Outcomes(late), ElementsAre("skipped:no_time", "skipped:no_time"));
}

TEST_F(EngineTest, WorstAcceptableCutsTheLadder) {
  Build(2);
  provider(0).Otherwise(Fails(OutcomeKind::kAuth));
  provider(1).Otherwise(Fails(OutcomeKind::kAuth));
  cache.hit = Hit();
  core::Request request = Ask();
  request.worst_acceptable = Degradation::kNone;
  EXPECT_EQ(ErrorOf(Run(request)).code, ErrorCode::kUnavailable);
  EXPECT_EQ(calls(1), 0u);
  request.worst_acceptable = Degradation::kFallbackModel;
  EXPECT_EQ(ErrorOf(Run(request)).code, ErrorCode::kUnavailable);
  EXPECT_EQ(calls(1), 1u);
  EXPECT_THAT(cache.queries, IsEmpty());
  request.worst_acceptable = Degradation::kStale;
  EXPECT_EQ(AnswerOf(Run(request)).degradation, Degradation::kStale);
  cache.hit.reset();
  EXPECT_EQ(ErrorOf(Run(request)).code, ErrorCode::kResourceExhausted);  // quarantined by now
  request.worst_acceptable = Degradation::kPartial;
  EXPECT_EQ(AnswerOf(Run(request)).degradation, Degradation::kPartial);
}

TEST_F(EngineTest, TheRoutesWorstAcceptableHoldsWhereTheCallerNamesNone) {
  route.worst_acceptable = Degradation::kNone;
  Build(2);
  provider(0).Otherwise(Fails(OutcomeKind::kModelNotFound));
  EXPECT_FALSE(Run().ok());
  core::Request request = Ask();
  request.worst_acceptable = Degradation::kFallbackModel;
  EXPECT_TRUE(Run(request).ok());
}

TEST_F(EngineTest, ResourceExhaustedWithTheEarliestReadyTimeIfEveryTargetWasStoppedByLimits) {
  route.worst_acceptable = Degradation::kFallbackModel;
  Build(2);
  target(0).cooldown.ExtendTo(loop.Now() + 50s, "rate_limited");
  provider(1).Then(Fails(Told(OutcomeKind::kRateLimited, 40s)));
  const core::Result result = Run();
  EXPECT_EQ(ErrorOf(result).code, ErrorCode::kResourceExhausted);
  EXPECT_EQ(ErrorOf(result).retry_after, Duration(40s));
}

TEST_F(EngineTest, UnavailableWithTheEarliestReadyTimeOtherwise) {
  route.worst_acceptable = Degradation::kFallbackModel;
  Build(2);
  breaker(0).ForceOpen();
  for (int i = 0; i < 5; ++i) breaker(1).Acquire(loop.Now())->Failure();
  const core::Result result = Run();
  EXPECT_EQ(ErrorOf(result).code, ErrorCode::kUnavailable);
  EXPECT_EQ(ErrorOf(result).retry_after, Duration(60s));
}

TEST_F(EngineTest, CostSkipsWhatDoesNotFitAndWhatHasNoPrice) {
  route.chain = {StepOf(0), StepOf(1), StepOf(2)};
  route.chain[0].price = Price{.input = 1000, .cached_input = 100, .output = 1000};
  route.chain[1].price.reset();
  Build(3);
  core::Request request = Ask();
  request.max_output_tokens = 100;
  request.max_cost_usd = 0.01;
  const core::Result result = Run(request);
  EXPECT_THAT(Outcomes(result), ElementsAre("skipped:cost", "skipped:no_price", "complete"));
}

TEST_F(EngineTest, TheEstimateIsExactAtItsBoundary) {
  // 19 bytes -> 7 prompt tokens at 1, 100 output tokens at 2 -> 207 millionths.
  for (const auto& [limit, fits] :
       std::vector<std::pair<double, bool>>{{206.9e-6, false}, {207e-6, true}, {207.1e-6, true}}) {
    providers.clear();
    Build(1);
    core::Request request = Ask("Why is the sky red?");
    request.max_output_tokens = 100;
    request.max_cost_usd = limit;
    EXPECT_EQ(AnswerOf(Run(request)).degradation == Degradation::kNone, fits);
  }
}

TEST_F(EngineTest, SunkCostCountsAndBrokenAttemptsAreBookedAsEstimates) {
  Build(1);
  provider(0).Otherwise(Script().Say(std::string(300, 'x')).End(OutcomeKind::kCut));
  core::Request request = Ask("Why is the sky red?");
  request.max_output_tokens = 100;
  request.max_cost_usd = 300e-6;
  const core::Result result = Run(request);
  EXPECT_EQ(calls(0), 1u);  // 207 sunk + 207 > 300
  EXPECT_EQ(result.attempts[0].retry_skipped, "cost");
  EXPECT_TRUE(result.attempts[0].usage_estimated);
  EXPECT_EQ(result.attempts[0].usage.output_tokens, 100);
  EXPECT_DOUBLE_EQ(result.cost_usd, 207e-6);
}

// --------------------------------------------------------------------------- cancel and drain

TEST_F(EngineTest, ACancelEndsTheAttemptAtOnce) {
  Build(1);
  provider(0).Otherwise(Hangs());
  loop.CallAt(loop.Now() + 1s, [this] { cancel.request_stop(); });
  const core::Result result = Run();
  EXPECT_EQ(ErrorOf(result).code, ErrorCode::kCancelled);
  EXPECT_EQ(took, 1s);
  EXPECT_EQ(provider(0).seen()[0].ended - provider(0).seen()[0].at, 1s);
  EXPECT_EQ(breaker(0).Snapshot().censored, 0);
  EXPECT_EQ(breaker(0).Snapshot().leaked, 0u);
  EXPECT_EQ(target(0).limiter.in_flight(), 0);
}

TEST_F(EngineTest, HurryEndsByTheLadderAsIfTheTimeWereUp) {
  Build(3);
  provider(0).Otherwise(Script().Say("so far", 500ms).Hang());
  loop.CallAt(loop.Now() + 1s, [this] { hurry.request_stop(); });
  const core::Result result = Run();
  EXPECT_EQ(took, 1s);
  EXPECT_EQ(AnswerOf(result).text, "so far");
  EXPECT_EQ(AnswerOf(result).degradation, Degradation::kPartial);
  EXPECT_THAT(Outcomes(result), ElementsAre("out_of_time", "skipped:no_time", "skipped:no_time"));
}

TEST_F(EngineTest, HurryEndsASleepAndAWaitForACooldown) {
  Build(1);
  target(0).cooldown.ExtendTo(loop.Now() + 10s, "rate_limited");
  loop.CallAt(loop.Now() + 1s, [this] { hurry.request_stop(); });
  const core::Result result = Run();
  EXPECT_EQ(took, 1s);
  EXPECT_EQ(AnswerOf(result).text, route.partial.notice);
}

TEST_F(EngineTest, AFullServerShedsWithRetryInfoAndNothingElse) {
  admission_options = {.max_in_progress = 1, .max_queue = 0};
  Build(1);
  provider(0).Otherwise(Hangs());
  core::Spawn([](EngineTest* test, Engine* e, core::Request r, CallContext c) -> core::Task<void> {
    co_await e->Run(std::move(r), std::move(c));
    (void)test;
  }(this, engine.get(), Ask(), Context()));
  loop.RunReady();
  const core::Result result = Run();
  EXPECT_EQ(ErrorOf(result).code, ErrorCode::kResourceExhausted);
  EXPECT_EQ(ErrorOf(result).reason, "SHED");
  EXPECT_TRUE(ErrorOf(result).retry_after.has_value());
  EXPECT_THAT(result.attempts, IsEmpty());
  cancel.request_stop();
  loop.Run();
}

}  // namespace
}  // namespace holdfast::resilience
