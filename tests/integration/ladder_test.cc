// Each rung of the ladder, with every field that says how the answer came to be.

#include <set>
#include <thread>

#include "gmock/gmock.h"
#include "tests/integration/service_fixture.h"

namespace holdfast::testing {
namespace {

using ::testing::AllOf;
using ::testing::AnyOf;
using ::testing::ElementsAre;
using ::testing::Ge;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::Le;
using ::testing::Lt;
using ::testing::Not;
using ::testing::SizeIs;
using ::testing::StartsWith;
using namespace std::chrono_literals;

constexpr char k503[] = R"({"kind": "status", "status": 503})";
constexpr char k500[] = R"({"kind": "status", "status": 500})";
constexpr char kSky[] = "Why is the sky blue on Earth?";

class LadderTest : public ServiceByBothCalls {};

TEST_P(LadderTest, ThePrimaryAnswers) {
  Start();
  v1::GenerateRequest request = Question(kSky);
  request.set_request_id("my id");
  (*request.mutable_labels())["team"] = "blue";
  const Reply reply = Generate(request);
  ASSERT_TRUE(reply.ok()) << reply.status.error_message();
  const v1::GenerateResponse& r = reply.response;
  EXPECT_EQ(r.request_id(), "my id");
  EXPECT_EQ(r.message().role(), "assistant");
  EXPECT_THAT(reply.text(), StartsWith(std::string("[claude] simulated answer to: ") + kSky));
  EXPECT_THAT(r.message().parts(), IsEmpty());
  EXPECT_EQ(r.finish_reason(), v1::FINISH_REASON_STOP);
  EXPECT_EQ(r.degradation(), v1::DEGRADATION_NONE);
  EXPECT_FALSE(r.stale());
  EXPECT_FALSE(r.partial());
  EXPECT_EQ(r.notice(), "");
  EXPECT_EQ(r.served_by().provider(), "anthropic");
  EXPECT_EQ(r.served_by().model(), "claude");
  EXPECT_FALSE(r.has_cache_hit());
  EXPECT_GT(r.usage().input_tokens(), 0);
  EXPECT_GT(r.usage().output_tokens(), 0);
  ASSERT_THAT(r.attempts(), SizeIs(1));
  const v1::Attempt& attempt = r.attempts(0);
  EXPECT_EQ(attempt.target().provider(), "anthropic");
  EXPECT_EQ(attempt.outcome(), "complete");
  EXPECT_EQ(attempt.http_status(), 200);
  EXPECT_EQ(attempt.error(), "");
  EXPECT_EQ(attempt.retry_skipped(), "");
  EXPECT_GE(Seconds(attempt.start_offset()), 0);
  EXPECT_GT(Seconds(attempt.duration()), 0);
  EXPECT_EQ(Seconds(attempt.delay_before()), 0);
  EXPECT_EQ(attempt.usage().output_tokens(), r.usage().output_tokens());
  EXPECT_FALSE(attempt.usage_estimated());
  const double cost = (3.0 * static_cast<double>(r.usage().input_tokens()) +
                       15.0 * static_cast<double>(r.usage().output_tokens())) /
                      1e6;
  EXPECT_NEAR(attempt.cost_usd(), cost, 1e-9);
  EXPECT_NEAR(r.cost_usd(), cost, 1e-9);
  EXPECT_EQ(Seconds(r.time_budget().total()), 8);
  EXPECT_GT(Seconds(r.time_budget().used()), 0);
  EXPECT_LT(Seconds(r.time_budget().used()), 8);
  const std::vector<Json> lines = WaitForLog("request", 1);
  EXPECT_EQ(lines[0]["request_id"], "my id");
  EXPECT_EQ(lines[0]["route"], "default");
  EXPECT_EQ(lines[0]["served_by"], "anthropic/claude");
  EXPECT_EQ(lines[0]["degradation"], "none");
  EXPECT_EQ(lines[0]["attempts"], 1);
  EXPECT_EQ(lines[0]["label.team"], "blue");
  EXPECT_EQ(lines[0]["output_tokens"], r.usage().output_tokens());
  EXPECT_TRUE(lines[0].contains("time_ms"));
  EXPECT_EQ(lines[0].contains("first_token_ms"), streamed_);
  EXPECT_TRUE(lines[0].contains("cost_usd"));
}

TEST_P(LadderTest, TransientErrorsAreRetriedAndSayTheirNumber) {
  Start();
  sim_->Break("claude", R"([{"kind": "status", "status": 500, "times": 2}])");
  const Reply reply = Ask(kSky);
  ASSERT_TRUE(reply.ok());
  EXPECT_EQ(reply.response.degradation(), v1::DEGRADATION_NONE);
  EXPECT_THAT(reply.Outcomes(),
              ElementsAre("claude:server_error", "claude:server_error", "claude:complete"));
  const auto& attempts = reply.response.attempts();
  EXPECT_EQ(attempts[0].http_status(), 500);
  EXPECT_THAT(attempts[0].error(), Not(IsEmpty()));
  EXPECT_LE(Seconds(attempts[1].delay_before()), 0.02);  // full jitter: U[0, base)
  EXPECT_LE(Seconds(attempts[2].delay_before()), 0.04);
  EXPECT_GE(Seconds(attempts[1].start_offset()), Seconds(attempts[0].start_offset()) +
                                                     Seconds(attempts[0].duration()) +
                                                     Seconds(attempts[1].delay_before()));
  const Json log = sim_->Attempts();
  ASSERT_THAT(log, SizeIs(3));
  EXPECT_EQ(log[0]["holdfast_attempt"], nullptr);
  EXPECT_EQ(log[1]["holdfast_attempt"], "2");
  EXPECT_EQ(log[2]["holdfast_attempt"], "3");
  std::set<std::string> keys;
  for (const Json& attempt : log) {
    keys.insert(attempt["idempotency_key"]);
    EXPECT_EQ(attempt["authorized"], true);
    EXPECT_EQ(attempt["streamed"], true);
  }
  EXPECT_THAT(keys, AllOf(SizeIs(1), Not(ElementsAre(""))));
  WaitForLog("retry", 2);
}

TEST_P(LadderTest, EachTargetAndRequestHasItsOwnIdempotencyKey) {
  Start();
  sim_->Break("claude", k503);
  sim_->Break("gpt", R"([{"kind": "status", "status": 500, "times": 1}])");
  ASSERT_TRUE(Ask(kSky).ok());
  ASSERT_TRUE(Ask(kSky).ok());
  std::set<std::string> keys;
  for (const Json& attempt : sim_->Attempts()) keys.insert(attempt["idempotency_key"]);
  EXPECT_THAT(keys, SizeIs(4));  // two targets, two requests
}

TEST_P(LadderTest, RetryAfterIsWaitedForAndNeverSooner) {
  Start();
  sim_->Break("claude", R"([{"kind": "rate_limit", "retry_after": 0.5, "times": 1}])");
  const Reply reply = Ask(kSky);
  ASSERT_TRUE(reply.ok());
  EXPECT_THAT(reply.Outcomes(), ElementsAre("claude:rate_limited", "claude:complete"));
  EXPECT_EQ(reply.response.attempts(0).http_status(), 429);
  EXPECT_GE(Seconds(reply.response.attempts(1).delay_before()), 0.5);
  const Json log = sim_->Attempts("claude");
  EXPECT_GE(log[1]["ms"].get<double>() - log[0]["ms"].get<double>(), 499);
}

TEST_P(LadderTest, ALongRetryAfterSendsThisAndLaterRequestsToTheNextTarget) {
  Start();
  sim_->Break("claude", R"([{"kind": "rate_limit", "retry_after": 30, "times": 1}])");
  Reply reply = Ask(kSky);
  ASSERT_TRUE(reply.ok());
  EXPECT_THAT(reply.Outcomes(), ElementsAre("claude:rate_limited", "gpt:complete"));
  EXPECT_EQ(reply.response.attempts(0).retry_skipped(), "retry_after");
  reply = Ask(kSky);
  EXPECT_THAT(reply.Outcomes(), ElementsAre("claude:skipped cooldown", "gpt:complete"));
  EXPECT_EQ(sim_->CountOf("claude"), 1);
  const v1::TargetStatus status = StatusOf("claude");
  EXPECT_EQ(status.cooldown_reason(), "rate_limited");
  EXPECT_GT(Seconds(status.cooldown()), 20);
  EXPECT_EQ(status.breaker().failures(), 0);  // a rate limit is no failure
  EXPECT_EQ(status.last_error(), "rate_limited");
}

TEST_P(LadderTest, FallbackModel) {
  Start();
  sim_->Break("claude", R"({"kind": "overloaded"})");
  const Reply reply = Ask(kSky);
  ASSERT_TRUE(reply.ok());
  EXPECT_EQ(reply.response.degradation(), v1::DEGRADATION_FALLBACK_MODEL);
  EXPECT_FALSE(reply.response.stale());
  EXPECT_FALSE(reply.response.partial());
  EXPECT_EQ(reply.response.notice(), "");
  EXPECT_EQ(reply.response.served_by().model(), "gpt");
  EXPECT_THAT(reply.Outcomes(), ElementsAre("claude:overloaded", "gpt:complete"));
  EXPECT_EQ(reply.response.attempts(0).http_status(), 529);
  EXPECT_EQ(reply.response.attempts(0).retry_skipped(), "next_target_preferred");
  EXPECT_EQ(WaitForLog("request", 1)[0]["degradation"], "fallback_model");
}

TEST_P(LadderTest, TheBreakerOpensAndTheTargetIsSkipped) {
  Settings settings;
  settings.breaker = "{consecutive_failures: 3, failure_rate: 0, black_hole: 0, open: 60s}";
  settings.retry = "{max_retries: 1, base: 5ms, cap: 10ms, budget: {tokens: 1000}}";
  Start(settings);
  sim_->Break("claude", k500);
  EXPECT_THAT(Ask(kSky).Outcomes(),
              ElementsAre("claude:server_error", "claude:server_error", "gpt:complete"));
  // The third failure in a row: no sleep, since the breaker would deny.
  const Reply third = Ask(kSky);
  EXPECT_THAT(third.Outcomes(), ElementsAre("claude:server_error", "gpt:complete"));
  EXPECT_EQ(third.response.attempts(0).retry_skipped(), "breaker_open");
  EXPECT_THAT(Ask(kSky).Outcomes(), ElementsAre("claude:skipped breaker_open", "gpt:complete"));
  EXPECT_EQ(sim_->CountOf("claude"), 3);
  const v1::TargetStatus status = StatusOf("claude");
  EXPECT_EQ(status.breaker().state(), v1::BREAKER_STATE_OPEN);
  EXPECT_EQ(status.last_error(), "server_error");
  EXPECT_GT(Seconds(status.breaker().open_for()), 30);
  const std::vector<Json> events = WaitForLog("breaker", 1);
  EXPECT_EQ(events[0]["model"], "claude");
  EXPECT_EQ(events[0]["to"], "open");
}

TEST_P(LadderTest, AnOpenBreakerTriesTheTargetOutAndCloses) {
  Settings settings;
  settings.breaker =
      "{consecutive_failures: 1, failure_rate: 0, black_hole: 0, open: 300ms, open_jitter: 0}";
  Start(settings);
  sim_->Break("claude", k503);
  EXPECT_EQ(Ask(kSky).response.degradation(), v1::DEGRADATION_FALLBACK_MODEL);
  EXPECT_EQ(StatusOf("claude").breaker().state(), v1::BREAKER_STATE_OPEN);
  sim_->Heal();
  EXPECT_TRUE(Eventually([&] { return Ask(kSky).response.degradation() == v1::DEGRADATION_NONE; }));
  EXPECT_EQ(StatusOf("claude").breaker().state(), v1::BREAKER_STATE_CLOSED);
  WaitForLog("breaker", 3);  // open, half_open, closed
}

TEST_P(LadderTest, FirstTokenAndIdleTimersGoToTheNextTarget) {
  for (const char* fault :
       {R"({"kind": "hang"})", R"({"kind": "silence"})", R"({"kind": "pings", "interval_ms": 50})",
        R"({"kind": "slow_headers", "ms": 20000})", R"({"kind": "stall", "after": 3})"}) {
    SCOPED_TRACE(fault);
    if (!server_) Start();
    sim_->ForgetAttempts();
    sim_->Break("claude", fault);
    const Reply reply = Ask(kSky);
    EXPECT_THAT(reply.Outcomes(), ElementsAre("claude:timeout", "gpt:complete"));
    EXPECT_GE(Seconds(reply.response.attempts(0).duration()), 0.6);
    EXPECT_TRUE(Eventually([&] { return sim_->Attempts("claude")[0]["end"] == "client_closed"; }));
  }
}

TEST_P(LadderTest, StaleAnswerToASimilarQuestion) {
  Start();
  ASSERT_TRUE(Ask("What is the capital of France?").ok());
  WaitForEntries(1);
  BreakAll(k503);
  const Reply reply = Ask("what's the capital of france");
  ASSERT_TRUE(reply.ok());
  const v1::GenerateResponse& r = reply.response;
  EXPECT_EQ(r.degradation(), v1::DEGRADATION_STALE);
  EXPECT_TRUE(r.stale());
  EXPECT_FALSE(r.partial());
  EXPECT_EQ(r.notice(), "");
  EXPECT_THAT(reply.text(), HasSubstr("[claude] simulated answer to: What is the capital"));
  EXPECT_EQ(r.served_by().model(), "claude");
  const v1::CacheHit& hit = r.cache_hit();
  EXPECT_EQ(hit.threshold(), 0.85);
  EXPECT_GE(hit.similarity(), 0.85);
  EXPECT_LE(hit.similarity(), 1.000001);
  EXPECT_GT(Seconds(hit.age()), 0);
  EXPECT_LT(Seconds(hit.age()), 60);
  EXPECT_GT(hit.created_at().seconds(), 1700000000);
  EXPECT_EQ(hit.made_by().provider(), "anthropic");
  EXPECT_EQ(hit.made_by().model(), "claude");
  EXPECT_THAT(hit.entry_id(), Not(IsEmpty()));
  EXPECT_THAT(r.attempts(), SizeIs(Ge(3)));  // every one, failed ones too
  EXPECT_EQ(r.cost_usd(), 0);
  EXPECT_EQ(WaitForLog("degraded_answer", 1)[0]["degradation"], "stale");
  EXPECT_EQ(WaitForLog("request", 2)[1]["degradation"], "stale");
}

TEST_P(LadderTest, ACutStreamIsSalvaged) {
  Start();
  BreakAll(k503);
  sim_->Break("claude", R"({"kind": "cut", "after": 9, "how": "rst"})");
  const Reply reply = Ask(kSky);
  ASSERT_TRUE(reply.ok());
  const v1::GenerateResponse& r = reply.response;
  EXPECT_EQ(r.degradation(), v1::DEGRADATION_PARTIAL);
  EXPECT_TRUE(r.partial());
  EXPECT_FALSE(r.stale());
  EXPECT_EQ(r.served_by().model(), "claude");
  EXPECT_THAT(reply.text(), StartsWith("[claude] simulated answer to: "));
  EXPECT_THAT(reply.text(), Not(HasSubstr("naïve")));  // it is only the beginning
  EXPECT_THAT(r.notice(), Not(IsEmpty()));
  EXPECT_NE(r.notice(), reply.text());
  EXPECT_EQ(r.finish_reason(), v1::FINISH_REASON_UNSPECIFIED);
  EXPECT_EQ(r.attempts(0).outcome(), "cut");
  EXPECT_TRUE(r.attempts(0).usage_estimated());
  EXPECT_GT(r.attempts(0).cost_usd(), 0);  // tokens that came are booked
  EXPECT_GE(r.cost_usd(), r.attempts(0).cost_usd());
  EXPECT_EQ(sim_->CountOf("llama"), 0);  // salvaged text goes before a basic answer
}

TEST_P(LadderTest, TheLongestTextIsSalvaged) {
  Start();
  BreakAll(k503);
  sim_->Break("claude", R"({"kind": "cut", "after": 4, "how": "fin"})");
  sim_->Break("gpt", R"({"kind": "cut", "after": 14, "how": "error_event"})");
  const Reply reply = Ask(kSky);
  EXPECT_TRUE(reply.response.partial());
  EXPECT_EQ(reply.response.served_by().model(), "gpt");
  EXPECT_THAT(reply.text(), StartsWith("[gpt] simulated answer"));
}

TEST_P(LadderTest, NothingIsSalvagedFromJson) {
  Start();
  BreakAll(k503);
  sim_->Break("claude", R"({"kind": "cut", "after": 9, "how": "rst"})");
  v1::GenerateRequest request = Question("Give me json, please.");
  request.mutable_response_format()->set_kind(v1::ResponseFormat::KIND_JSON_OBJECT);
  const Reply reply = Generate(request);
  ASSERT_TRUE(reply.ok()) << reply.status.error_message();
  EXPECT_TRUE(reply.response.partial());
  EXPECT_EQ(reply.text(), reply.response.notice());
}

TEST_P(LadderTest, ABasicAnswerFromThePartialTarget) {
  Start();
  BreakChain(k503);
  const Reply reply = Ask(kSky);
  ASSERT_TRUE(reply.ok());
  EXPECT_EQ(reply.response.degradation(), v1::DEGRADATION_PARTIAL);
  EXPECT_TRUE(reply.response.partial());
  EXPECT_EQ(reply.response.served_by().provider(), "local");
  EXPECT_THAT(reply.text(), StartsWith("[llama] simulated answer"));
  EXPECT_THAT(reply.response.notice(), Not(IsEmpty()));
  EXPECT_EQ(reply.Outcomes().back(), "llama:complete");
  EXPECT_EQ(sim_->CountOf("llama"), 1);
}

TEST_P(LadderTest, ThePartialTargetGetsItsTimeAfterAChainThatHangs) {
  Settings settings;
  settings.timeouts = "{connect: 2s, first_token: 10s, idle: 10s}";
  settings.route = "timeout: 1700ms\n    min_useful: 500ms";
  Start(settings);
  BreakChain(R"({"kind": "hang"})");
  const Reply reply = Ask(kSky);
  EXPECT_EQ(reply.response.served_by().model(), "llama") << reply.response.ShortDebugString();
}

TEST_P(LadderTest, EveryTargetOfAChainThatHangsGetsItsTime) {
  Settings settings;
  settings.timeouts = "{connect: 2s, first_token: 10s, idle: 10s}";
  settings.route = "timeout: 2500ms\n    min_useful: 500ms";
  Start(settings);
  for (const char* model : {"claude", "gpt"}) sim_->Break(model, R"({"kind": "hang"})");
  const Reply reply = Ask(kSky);
  EXPECT_EQ(reply.response.served_by().model(), "flash") << reply.response.ShortDebugString();
}

TEST_P(LadderTest, TheNoticeAlone) {
  Settings settings;
  settings.partial = "{notice: \"Nothing but this.\", target: {provider: local, model: llama}}";
  Start(settings);
  BreakAll(k503);
  const Reply reply = Ask(kSky);
  ASSERT_TRUE(reply.ok());
  EXPECT_TRUE(reply.response.partial());
  EXPECT_EQ(reply.text(), "Nothing but this.");
  EXPECT_EQ(reply.response.notice(), "Nothing but this.");
  EXPECT_FALSE(reply.response.has_served_by());
  EXPECT_FALSE(reply.response.has_usage() && reply.response.usage().output_tokens() > 0);
  EXPECT_EQ(sim_->CountOf("llama"), 1);  // one attempt, never retried
}

TEST_P(LadderTest, WorstAcceptableCutsTheLadder) {
  Start();
  ASSERT_TRUE(Ask(kSky).ok());
  WaitForEntries(1);
  const auto ask = [&](v1::Degradation worst, const std::string& text = kSky) {
    v1::GenerateRequest request = Question(text);
    request.set_worst_acceptable(worst);
    return Generate(request);
  };
  sim_->Break("claude", k503);
  Reply reply = ask(v1::DEGRADATION_NONE);
  EXPECT_EQ(reply.status.error_code(), grpc::UNAVAILABLE);
  EXPECT_EQ(reply.info.reason(), "ALL_TARGETS_FAILED");
  EXPECT_EQ(reply.info.domain(), "holdfast");
  EXPECT_TRUE(reply.retry);
  EXPECT_TRUE(reply.pushback);
  for (const v1::Attempt& attempt : reply.attempts()) {
    EXPECT_EQ(attempt.target().model(), "claude");
  }
  EXPECT_EQ(sim_->CountOf("gpt"), 0);
  EXPECT_EQ(ask(v1::DEGRADATION_FALLBACK_MODEL).response.served_by().model(), "gpt");
  BreakChain(k503);
  EXPECT_EQ(ask(v1::DEGRADATION_FALLBACK_MODEL).status.error_code(), grpc::UNAVAILABLE);
  EXPECT_TRUE(ask(v1::DEGRADATION_STALE).response.stale());
  EXPECT_EQ(ask(v1::DEGRADATION_STALE, "How do magnets work?").status.error_code(),
            grpc::UNAVAILABLE);
  EXPECT_TRUE(ask(v1::DEGRADATION_PARTIAL, "How do magnets work?").response.partial());
}

TEST_P(LadderTest, RefusalsAreFinalUnlessTheRouteSaysNext) {
  Start();
  sim_->Break("claude", R"({"kind": "refusal"})");
  Reply reply = Ask(kSky);
  ASSERT_TRUE(reply.ok());
  EXPECT_THAT(reply.response.finish_reason(),
              AnyOf(v1::FINISH_REASON_REFUSAL, v1::FINISH_REASON_CONTENT_FILTER));
  EXPECT_EQ(reply.response.degradation(), v1::DEGRADATION_NONE);
  EXPECT_THAT(reply.Outcomes(), ElementsAre("claude:refusal"));
  EXPECT_EQ(CacheStats().stores(), 0u);
  EXPECT_EQ(StatusOf("claude").breaker().failures(), 0);

  Settings next;
  next.route += "\n    on_refusal: next";
  EXPECT_EQ(Stop(), 0);
  Start(next);
  for (const char* fault : {R"({"kind": "refusal"})", R"({"kind": "content_filter", "after": 3})",
                            R"({"kind": "content_filter", "at": "prompt"})"}) {
    sim_->Break("claude", fault);
    reply = Ask(kSky);
    EXPECT_THAT(reply.Outcomes(), ElementsAre("claude:refusal", "gpt:complete")) << fault;
    EXPECT_EQ(reply.response.degradation(), v1::DEGRADATION_FALLBACK_MODEL);
    EXPECT_THAT(reply.text(), StartsWith("[gpt] "));
  }
  BreakChain(R"({"kind": "refusal"})");
  reply = Ask(kSky);
  EXPECT_THAT(reply.response.finish_reason(),
              AnyOf(v1::FINISH_REASON_REFUSAL, v1::FINISH_REASON_CONTENT_FILTER));
  EXPECT_EQ(reply.response.served_by().model(), "claude");  // the first refusal
}

TEST_P(LadderTest, MaxCostSkipsWhatIsTooDear) {
  Start();
  v1::GenerateRequest request = Question(kSky);
  request.set_max_output_tokens(1000);
  request.set_max_cost_usd(0.005);  // claude: 15, gpt: 10, flash: 2.5 for a million tokens out
  Reply reply = Generate(request);
  EXPECT_THAT(reply.Outcomes(),
              ElementsAre("claude:skipped cost", "gpt:skipped cost", "flash:complete"));
  EXPECT_LE(reply.response.cost_usd(), 0.005);
  request.set_max_cost_usd(0);
  request.set_worst_acceptable(v1::DEGRADATION_FALLBACK_MODEL);
  reply = Generate(request);
  EXPECT_EQ(reply.status.error_code(), grpc::RESOURCE_EXHAUSTED);
  EXPECT_EQ(reply.info.reason(), "ALL_TARGETS_LIMITED");
  EXPECT_THAT(reply.Outcomes(),
              ElementsAre("claude:skipped cost", "gpt:skipped cost", "flash:skipped cost"));
  request.clear_worst_acceptable();
  request.mutable_messages(0)->set_content("How do magnets work?");
  EXPECT_TRUE(Generate(request).response.partial());
}

TEST_P(LadderTest, FourTargetsThatFailGet4And2And1And1) {
  StartYaml(R"(
embedder: {kind: hash}
listen: 127.0.0.1:0
admin_listen: 127.0.0.1:0
log: {format: json}
providers:
  - {name: p, kind: openai, base_url: "${SIM}/v1", breaker: {consecutive_failures: 100}}
routes:
  - name: default
    min_useful: 100ms
    chain: [{provider: p, model: a}, {provider: p, model: b}, {provider: p, model: c},
            {provider: p, model: d}]
    retry: {max_retries: 3, max_attempts: 8, base: 5ms, cap: 10ms, budget: {tokens: 100}}
)");
  sim_->Break("*", k500);
  const Reply reply = Ask(kSky);
  EXPECT_TRUE(reply.response.partial());
  EXPECT_EQ(sim_->CountOf("a"), 4);
  EXPECT_EQ(sim_->CountOf("b"), 2);
  EXPECT_EQ(sim_->CountOf("c"), 1);
  EXPECT_EQ(sim_->CountOf("d"), 1);
}

TEST_P(LadderTest, TheRetryBudgetRunsOut) {
  Settings settings;
  settings.breaker = "{consecutive_failures: 1000, failure_rate: 0, black_hole: 0}";
  settings.retry = "{max_retries: 3, base: 1ms, cap: 1ms, budget: {tokens: 2, per_minute: 0}}";
  Start(settings);
  sim_->Break("claude", k500);
  const Reply reply = Ask(kSky);
  EXPECT_THAT(reply.Outcomes(), ElementsAre("claude:server_error", "claude:server_error",
                                            "claude:server_error", "gpt:complete"));
  EXPECT_EQ(reply.response.attempts(2).retry_skipped(), "retry_budget");
  EXPECT_LT(Status().retry_budgets(0).tokens() + Status().retry_budgets(1).tokens(), 1000);
}

TEST_P(LadderTest, AuthFailuresRestTheWholeCredential) {
  Start();
  sim_->Break("claude", R"({"kind": "auth"})");
  EXPECT_THAT(Ask(kSky).Outcomes(), ElementsAre("claude:auth", "gpt:complete"));
  EXPECT_THAT(Ask(kSky).Outcomes(), ElementsAre("claude:auth", "gpt:complete"));
  EXPECT_THAT(Ask(kSky).Outcomes(), ElementsAre("claude:skipped cooldown", "gpt:complete"));
  const v1::TargetStatus status = StatusOf("claude");
  EXPECT_GT(Seconds(status.credential_cooldown()), 240);
  EXPECT_EQ(status.breaker().failures(), 0);
  sim_->Break("gpt", R"({"kind": "quota"})");
  EXPECT_THAT(Ask(kSky).Outcomes(),
              ElementsAre("claude:skipped cooldown", "gpt:quota", "flash:complete"));
  EXPECT_GT(Seconds(StatusOf("gpt").credential_cooldown()), 600);
}

TEST_P(LadderTest, WhenEveryTargetIsLimitedTheErrorSaysSo) {
  Start();
  BreakChain(R"({"kind": "quota"})");
  v1::GenerateRequest request = Question(kSky);
  request.set_worst_acceptable(v1::DEGRADATION_STALE);
  for (int i = 0; i < 2; ++i) {
    const Reply reply = Generate(request);
    EXPECT_EQ(reply.status.error_code(), grpc::RESOURCE_EXHAUSTED) << i;
    EXPECT_EQ(reply.info.reason(), "ALL_TARGETS_LIMITED");
    ASSERT_TRUE(reply.retry);
    EXPECT_GT(Seconds(reply.retry->retry_delay()), 600);
    EXPECT_TRUE(reply.pushback);
  }
}

TEST_P(LadderTest, ACooldownOfTheOnlyTargetIsWaitedFor) {
  Start();
  sim_->Break("gpt", R"([{"kind": "rate_limit", "retry_after": 1, "times": 1}])");
  std::vector<Reply> replies(2);
  std::thread first([&] { replies[0] = Generate(Question(kSky, "openai")); });
  ASSERT_TRUE(Eventually([&] { return !StatusOf("gpt").cooldown_reason().empty(); }));
  replies[1] = Generate(Question(kSky, "openai"));
  first.join();
  EXPECT_THAT(replies[0].Outcomes(), ElementsAre("gpt:rate_limited", "gpt:complete"));
  EXPECT_THAT(replies[1].Outcomes(), ElementsAre("gpt:skipped cooldown", "gpt:complete"));
  const Json log = sim_->Attempts("gpt");
  for (size_t i = 1; i < log.size(); ++i) {
    EXPECT_GE(log[i]["ms"].get<double>() - log[0]["ms"].get<double>(), 999);
  }
}

TEST_P(LadderTest, AnOutageAndItsEnd) {
  Start();
  for (const char* model : {"claude", "gpt", "flash", "llama"}) {
    sim_->Break(model, R"({"kind": "outage", "seconds": 0.5})");
  }
  EXPECT_TRUE(Ask(kSky).ok());  // whatever it is
  EXPECT_TRUE(Eventually([&] {
    for (const char* model : {"anthropic/claude", "openai/gpt"}) {
      grpc::ClientContext context;
      v1::SetBreakerRequest request;
      const std::string name = model;
      request.mutable_target()->set_provider(name.substr(0, name.find('/')));
      request.mutable_target()->set_model(name.substr(name.find('/') + 1));
      request.set_action(v1::SetBreakerRequest::ACTION_RESET);
      v1::SetBreakerResponse response;
      EXPECT_TRUE(admin_->SetBreaker(&context, request, &response).ok());
    }
    return Ask(kSky).response.degradation() == v1::DEGRADATION_NONE;
  }));
}

TEST_P(LadderTest, EverythingBreaksAtOnceAndEveryCallerHearsInTime) {
  Start();
  BreakAll(R"({"kind": "failure_rate", "p": 0.6, "seed": 3, "fault": {"kind": "reset"}})");
  std::vector<std::thread> callers;
  for (int i = 0; i < 16; ++i) {
    callers.emplace_back([this, i] {
      for (int n = 0; n < 10; ++n) {
        const Reply reply =
            Ask("Question " + std::to_string(i * 100 + n) + " of many?", {.deadline = 4s});
        EXPECT_TRUE(reply.ok()) << reply.status.error_message();
        EXPECT_LT(Seconds(reply.response.time_budget().used()), 4);
        EXPECT_THAT(reply.text(), Not(IsEmpty()));
      }
    });
  }
  for (std::thread& caller : callers) caller.join();
  EXPECT_EQ(Status().in_progress(), 0);
  const v1::GetStatusResponse status = Status();
  for (const v1::TargetStatus& target : status.targets()) {
    EXPECT_EQ(target.limiter().in_flight(), 0);
  }
}

INSTANTIATE_TEST_SUITE_P(BothCalls, LadderTest, ::testing::Bool(), CallName);

}  // namespace
}  // namespace holdfast::testing
