// Streams: commit, continue, restart, partial, the seam, backpressure (section 7 of the rules).

#include "resilience/attempt.h"
#include "tests/resilience/engine_fixture.h"

namespace holdfast::resilience {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;

class StreamTest : public EngineTest {
 protected:
  static AttemptScript Breaks(std::string text, OutcomeKind kind = OutcomeKind::kCut) {
    return Script().Say(std::move(text)).End(kind);
  }
  static core::Request AskWith(core::OnBreak on_break) {
    core::Request request = Ask();
    request.stream.on_break = on_break;
    return request;
  }
  const std::vector<std::string>& events() const { return stream->events; }
};

TEST_F(StreamTest, TextComesAsItIsMade) {
  Build(1);
  provider(0).Then(Script().Say("Blue ", 1s).Say("light", 1s).Done(core::FinishReason::kStop, 1s));
  const core::Result result = RunStream();
  EXPECT_THAT(events(), ElementsAre("started p0 none", "\"Blue \"", "\"light\""));
  EXPECT_EQ(AnswerOf(result).text, "Blue light");
  EXPECT_EQ(stream->started_at, testing::FakeClock::kStart + 1s);
  ASSERT_EQ(cache.stored.size(), 1u);
  EXPECT_EQ(cache.stored[0].text, "Blue light");
}

TEST_F(StreamTest, BeforeTheFirstContentNothingOfAFailureIsVisible) {
  Build(2);
  random.Always(0);
  provider(0).Otherwise(Fails(OutcomeKind::kServerError));
  provider(1).Then(Answers("Rayleigh"));
  const core::Result result = RunStream();
  EXPECT_THAT(events(), ElementsAre("started p1 fallback_model", "\"Rayleigh\""));
  EXPECT_EQ(AnswerOf(result).degradation, Degradation::kFallbackModel);
}

TEST_F(StreamTest, TheNextTargetContinuesWhereTheStreamBroke) {
  Build(2);
  provider(0).Then(Breaks("Blue li"));
  provider(1).CanContinue();
  provider(1).Then(Answers("ght scatters."));
  const core::Result result = RunStream();
  EXPECT_THAT(events(), ElementsAre("started p0 none", "\"Blue li\"", "continued p1 fallback_model",
                                    "\"ght scatters.\""));
  EXPECT_EQ(provider(1).seen()[0].prefix, "Blue li");
  EXPECT_EQ(AnswerOf(result).text, "Blue light scatters.");
  EXPECT_EQ(AnswerOf(result).degradation, Degradation::kFallbackModel);
  EXPECT_EQ(AnswerOf(result).served_by->provider, "p1");
  EXPECT_EQ(cache.stored[0].text, "Blue light scatters.");
  EXPECT_EQ(calls(0), 1u);
}

TEST_F(StreamTest, ATargetThatCannotContinueRestarts) {
  Build(2);
  provider(0).Then(Breaks("Blue li"));
  provider(1).Then(Answers("It scatters."));
  const core::Result result = RunStream();
  EXPECT_THAT(events(), ElementsAre("started p0 none", "\"Blue li\"", "reset p1 fallback_model",
                                    "\"It scatters.\""));
  EXPECT_EQ(provider(1).seen()[0].prefix, "");
  EXPECT_EQ(AnswerOf(result).text, "It scatters.");
}

TEST_F(StreamTest, TheRoutesSettingSaysWhoCanContinue) {
  for (const bool can : {false, true}) {
    route = {};
    route.chain = {StepOf(0), StepOf(1)};
    route.chain[1].can_continue = can;
    providers.clear();
    Build(2);
    if (!can) provider(1).CanContinue();
    provider(0).Then(Breaks("Blue li"));
    provider(1).Then(Answers("ght"));
    RunStream();
    EXPECT_EQ(events()[2], can ? "continued p1 fallback_model" : "reset p1 fallback_model");
  }
}

TEST_F(StreamTest, OnBreakRestartNeverContinues) {
  Build(2);
  provider(1).CanContinue();
  provider(0).Then(Breaks("Blue li"));
  provider(1).Then(Answers("It scatters."));
  RunStream(AskWith(core::OnBreak::kRestart));
  EXPECT_EQ(events()[2], "reset p1 fallback_model");
}

TEST_F(StreamTest, CommittedStreamThenAnInStream500OnBreakPartialZeroFurtherCallsEndsPartial) {
  Build(2);
  provider(1).CanContinue();
  provider(0).Then(Breaks("Blue li", OutcomeKind::kServerError));
  const core::Result result = RunStream(AskWith(core::OnBreak::kPartial));
  EXPECT_THAT(events(), ElementsAre("started p0 none", "\"Blue li\""));
  EXPECT_EQ(calls(0), 1u);
  EXPECT_EQ(calls(1), 0u);
  EXPECT_EQ(AnswerOf(result).degradation, Degradation::kPartial);
  EXPECT_EQ(AnswerOf(result).text, "Blue li");
  EXPECT_EQ(AnswerOf(result).notice, route.partial.notice);
  EXPECT_EQ(result.attempts[0].retry_skipped, "on_break");
  EXPECT_THAT(cache.stored, IsEmpty());
}

TEST_F(StreamTest, TheRequestsOnBreakGoesBeforeTheRoutes) {
  route.on_break = core::OnBreak::kPartial;
  Build(2);
  provider(0).Otherwise(Breaks("Blue"));
  RunStream();
  EXPECT_EQ(calls(1), 0u);
  RunStream(AskWith(core::OnBreak::kRestart));
  EXPECT_EQ(calls(1), 1u);
}

TEST_F(StreamTest, WithoutANextTargetTheSameOneIsAskedOnceMoreThenPartial) {
  Build(1);
  random.Always(0);
  provider(0).CanContinue();
  provider(0).Then(Breaks("Blue li"));
  provider(0).Then(Breaks("ght sca"));
  const core::Result result = RunStream();
  EXPECT_EQ(calls(0), 2u);
  EXPECT_EQ(provider(0).seen()[1].prefix, "Blue li");
  EXPECT_EQ(AnswerOf(result).text, "Blue light sca");
  EXPECT_EQ(AnswerOf(result).degradation, Degradation::kPartial);
  EXPECT_EQ(result.attempts[1].retry_skipped, "max_retries");
}

TEST_F(StreamTest, TheOneMoreAttemptMayBringItToItsEnd) {
  Build(1);
  random.Always(0);
  provider(0).CanContinue();
  provider(0).Then(Breaks("Blue li"));
  provider(0).Then(Answers("ght"));
  const core::Result result = RunStream();
  EXPECT_THAT(events(),
              ElementsAre("started p0 none", "\"Blue li\"", "continued p0 none", "\"ght\""));
  EXPECT_EQ(AnswerOf(result).degradation, Degradation::kNone);
  EXPECT_DOUBLE_EQ(routes["default"]->budget().level(), 8);  // a cut may have been billed
}

TEST_F(StreamTest, TheOneMoreAttemptObeysTheRetryBudget) {
  route.retry.budget = {.tokens = 1, .per_success = 0, .per_minute = 0};
  Build(1);
  random.Always(0);
  provider(0).Then(Breaks("Blue li"));
  const core::Result result = RunStream();
  EXPECT_EQ(calls(0), 1u);
  EXPECT_EQ(result.attempts[0].retry_skipped, "retry_budget");
  EXPECT_EQ(AnswerOf(result).text, "Blue li");
}

TEST_F(StreamTest, ALaterTargetThatFailsWithoutContentLeavesTheStreamAsItWas) {
  Build(3);
  random.Always(0);
  provider(1).CanContinue();
  provider(2).CanContinue();
  provider(0).Then(Breaks("Blue li"));
  provider(1).Otherwise(Fails(OutcomeKind::kConnect));
  provider(2).Then(Answers("ght"));
  RunStream();
  EXPECT_THAT(events(), ElementsAre("started p0 none", "\"Blue li\"", "continued p2 fallback_model",
                                    "\"ght\""));
}

TEST_F(StreamTest, ARefusedPrefixIsLearntAndNeverShown) {
  Build(2);
  provider(1).CanContinue();
  core::Outcome refused{.kind = OutcomeKind::kBadRequest, .http_status = 400};
  refused.error = "prefill is not supported";
  provider(0).Otherwise(Breaks("Blue li"));
  provider(1).Then(Fails(refused));
  provider(1).Otherwise(Answers("It scatters."));
  const core::Result result = RunStream();
  EXPECT_THAT(events(), ElementsAre("started p0 none", "\"Blue li\"", "reset p1 fallback_model",
                                    "\"It scatters.\""));
  EXPECT_EQ(provider(1).seen()[0].prefix, "Blue li");
  EXPECT_EQ(provider(1).seen()[1].prefix, "");
  EXPECT_TRUE(result.ok());
  RunStream();
  EXPECT_EQ(provider(1).seen()[2].prefix, "");
  EXPECT_EQ(calls(1), 3u);
}

TEST_F(StreamTest, ARequestFaultAfterTheCommitIsNeverTheCallersError) {
  Build(2);
  provider(0).Then(Breaks("Blue li"));
  provider(1).Otherwise(Fails({.kind = OutcomeKind::kBadRequest, .http_status = 400}));
  const core::Result result = RunStream();
  EXPECT_EQ(AnswerOf(result).text, "Blue li");
  EXPECT_EQ(AnswerOf(result).degradation, Degradation::kPartial);
}

TEST_F(StreamTest, NorIsItThatOfTheOneMoreAttempt) {
  Build(1);
  random.Always(0);
  provider(0).Then(Breaks("Blue li"));
  provider(0).Otherwise(Fails({.kind = OutcomeKind::kBadRequest, .http_status = 400}));
  const core::Result result = RunStream();
  EXPECT_EQ(AnswerOf(result).text, "Blue li");
  EXPECT_EQ(AnswerOf(result).degradation, Degradation::kPartial);
}

struct Seam {
  const char* sent;
  const char* prefix;
  const char* more;
  const char* whole;
};

class SeamTest : public StreamTest, public ::testing::WithParamInterface<Seam> {};

TEST_P(SeamTest, NoCharacterIsLostOrDoubled) {
  Build(2);
  provider(1).CanContinue();
  provider(0).Then(Breaks(GetParam().sent));
  AttemptScript script = Script();
  for (const char* byte = GetParam().more; *byte != 0; ++byte) {
    script = std::move(script).Say(std::string(1, *byte));
  }
  provider(1).Then(std::move(script).Done());
  const core::Result result = RunStream();
  EXPECT_EQ(provider(1).seen()[0].prefix, GetParam().prefix);
  EXPECT_EQ(AnswerOf(result).text, GetParam().whole);
}

INSTANTIATE_TEST_SUITE_P(
    Seams, SeamTest,
    ::testing::Values(Seam{"Hello,", "Hello,", " world", "Hello, world"},
                      Seam{"Hello, ", "Hello,", " world", "Hello, world"},
                      Seam{"Hello, ", "Hello,", "world", "Hello, world"},
                      Seam{"Hello,\n\n", "Hello,", "\n\n\nworld", "Hello,\n\n\nworld"},
                      Seam{"Hello,\n\n", "Hello,", "\nworld", "Hello,\n\n\nworld"},
                      Seam{"Hello, \t\n", "Hello,", " \t\nworld", "Hello, \t\nworld"},
                      Seam{"Hello,\xC2\xA0", "Hello,", "\xC2\xA0world", "Hello,\xC2\xA0world"},
                      Seam{"\xE4\xBD\xA0\xE3\x80\x80", "\xE4\xBD\xA0", "\xE5\xA5\xBD",
                           "\xE4\xBD\xA0\xE3\x80\x80\xE5\xA5\xBD"},
                      Seam{"caf\xC3\xA9", "caf\xC3\xA9", "\xC3\xA9", "caf\xC3\xA9\xC3\xA9"},
                      Seam{"a  ", "a", "  ", "a  "}));

TEST_F(StreamTest, OnlyWhiteSpaceIsNothingToContinue) {
  Build(2);
  provider(1).CanContinue();
  provider(0).Then(Breaks("\n "));
  provider(1).Then(Answers("Rayleigh"));
  RunStream();
  EXPECT_EQ(events()[2], "reset p1 fallback_model");
}

TEST_F(StreamTest, HalfAToolCallIsNeverContinued) {
  Build(2);
  provider(1).CanContinue();
  provider(0).Then(Script().Say("Let me see.").Call("f", "{\"a\":").End(OutcomeKind::kCut));
  provider(1).Then(Script().Call("f", "{\"a\":1}").Done(core::FinishReason::kToolCalls));
  const core::Result result = RunStream();
  EXPECT_THAT(events(), ElementsAre("started p0 none", "\"Let me see.\"",
                                    "tool {\"a\":", "reset p1 fallback_model", "tool {\"a\":1}"));
  EXPECT_EQ(AnswerOf(result).tool_calls[0].arguments, "{\"a\":1}");
}

TEST_F(StreamTest, HalfAToolCallIsNoPartialAnswerEither) {
  for (const core::OnBreak on_break : {core::OnBreak::kContinue, core::OnBreak::kPartial}) {
    route = {};
    providers.clear();
    Build(1);
    random.Always(0);
    provider(0).Otherwise(Script().Call("f", "{\"a\":").End(OutcomeKind::kCut));
    const core::Result result = RunStream(AskWith(on_break));
    EXPECT_THAT(stream->tool_calls, IsEmpty());
    EXPECT_EQ(stream->text, route.partial.notice);
    EXPECT_EQ(AnswerOf(result).degradation, Degradation::kPartial);
  }
}

TEST_F(StreamTest, JsonUnderWayRestarts) {
  Build(2);
  provider(1).CanContinue();
  provider(0).Then(Breaks("{\"a\":"));
  provider(1).Then(Answers("{\"a\":1}"));
  core::Request request = Ask();
  request.response_format.kind = core::ResponseFormat::Kind::kJsonObject;
  const core::Result result = RunStream(std::move(request));
  EXPECT_EQ(events()[2], "reset p1 fallback_model");
  EXPECT_EQ(AnswerOf(result).text, "{\"a\":1}");
}

TEST_F(StreamTest, AWholeAnswerThatIsNotTheJsonAskedForRestarts) {
  Build(2);
  provider(0).Then(Answers("not JSON"));
  provider(1).Then(Answers("{}"));
  core::Request request = Ask();
  request.response_format.kind = core::ResponseFormat::Kind::kJsonObject;
  RunStream(std::move(request));
  EXPECT_EQ(stream->text, "{}");
}

TEST_F(StreamTest, ACommittedStreamThatMayNotEndPartialEndsWithAStatus) {
  Build(1);
  random.Always(0);
  provider(0).Otherwise(Breaks("Blue"));
  for (const core::OnBreak on_break :
       {core::OnBreak::kContinue, core::OnBreak::kRestart, core::OnBreak::kPartial}) {
    core::Request request = AskWith(on_break);
    request.worst_acceptable = Degradation::kStale;
    const core::Result result = RunStream(std::move(request));
    ASSERT_FALSE(result.ok());
    EXPECT_EQ(ErrorOf(result).code, ErrorCode::kUnavailable);
  }
}

TEST_F(StreamTest, NoStaleAnswerAfterTheCommit) {
  Build(1);
  random.Always(0);
  cache.hit = core::CacheHit{.entry_id = "1", .text = "stored", .similarity = .9};
  provider(0).Otherwise(Breaks("Blue"));
  const core::Result result = RunStream();
  EXPECT_THAT(cache.queries, IsEmpty());
  EXPECT_EQ(AnswerOf(result).text, "Blue");
}

TEST_F(StreamTest, AStaleAnswerIsMarkedBeforeItsFirstToken) {
  Build(1);
  random.Always(0);
  cache.hit = core::CacheHit{
      .entry_id = "1", .text = "stored", .similarity = .9, .provider = "p0", .model = "m0"};
  provider(0).Otherwise(Fails(OutcomeKind::kServerError));
  const core::Result result = RunStream();
  EXPECT_THAT(events(), ElementsAre("started p0 stale", "\"stored\""));
  EXPECT_EQ(AnswerOf(result).degradation, Degradation::kStale);
}

TEST_F(StreamTest, TheNoticeAloneIsStreamedToo) {
  Build(1);
  random.Always(0);
  provider(0).Otherwise(Fails(OutcomeKind::kServerError));
  RunStream();
  EXPECT_THAT(events(), ElementsAre("started nobody partial", "\"" + route.partial.notice + "\""));
}

TEST_F(StreamTest, ThePartialTargetStreams) {
  route.partial.target = StepOf(9);
  route.chain = {StepOf(0)};
  Build(1);
  random.Always(0);
  provider(0).Otherwise(Fails(OutcomeKind::kServerError));
  provider(1).Then(Script().Say("Ba").Say("sic").Done());
  const core::Result result = RunStream();
  EXPECT_THAT(events(), ElementsAre("started p9 partial", "\"Ba\"", "\"sic\""));
  EXPECT_EQ(AnswerOf(result).degradation, Degradation::kPartial);
}

TEST_F(StreamTest, ARefusalToGoOnWithAnothersTextEndsPartial) {
  Build(2);
  provider(1).CanContinue();
  provider(0).Then(Breaks("Blue"));
  provider(1).Then(Script().End(OutcomeKind::kRefusal));
  const core::Result result = RunStream();
  EXPECT_EQ(AnswerOf(result).text, "Blue");
  EXPECT_EQ(AnswerOf(result).degradation, Degradation::kPartial);
}

TEST_F(StreamTest, ARefusalIsFinalByDefault) {
  Build(2);
  provider(0).Then(Script().Say("I will not").Done(core::FinishReason::kContentFilter));
  const core::Result result = RunStream();
  EXPECT_THAT(events(), ElementsAre("started p0 none", "\"I will not\""));
  EXPECT_EQ(calls(1), 0u);
  EXPECT_EQ(AnswerOf(result).finish_reason, core::FinishReason::kContentFilter);
}

class RefusalTest : public StreamTest {
 protected:
  RefusalTest() { route.on_refusal = OnRefusal::kNext; }

  static AttemptScript Refuses(const std::string& text) {
    return Script().Say(text).Done(core::FinishReason::kRefusal);
  }
};

// As the unary call does, but for the reset: what has been shown is void, and never continued.
TEST_F(RefusalTest, AfterItsTextTheNextTargetBeginsAgain) {
  for (const core::OnBreak on_break : {core::OnBreak::kContinue, core::OnBreak::kRestart}) {
    providers.clear();
    Build(2);
    provider(1).CanContinue();
    provider(0).Otherwise(Refuses("I will not"));
    provider(1).Otherwise(Answers("It scatters."));
    const core::Result result = RunStream(AskWith(on_break));
    EXPECT_THAT(events(), ElementsAre("started p0 none", "\"I will not\"",
                                      "reset p1 fallback_model", "\"It scatters.\""));
    EXPECT_EQ(provider(1).seen()[0].prefix, "");
    EXPECT_EQ(AnswerOf(result).finish_reason, core::FinishReason::kStop);
    EXPECT_EQ(breaker(0).Snapshot().successes, 1);
    const core::Result unary = Run();
    EXPECT_EQ(AnswerOf(unary).text, AnswerOf(result).text);
    EXPECT_EQ(AnswerOf(unary).served_by, AnswerOf(result).served_by);
  }
}

// Who asks for no second beginning gets none: the refusal is the answer.
TEST_F(RefusalTest, OnBreakPartialEndsWithTheTextThatWasShown) {
  Build(2);
  provider(0).Then(Refuses("I will not"));
  const core::Result result = RunStream(AskWith(core::OnBreak::kPartial));
  EXPECT_THAT(events(), ElementsAre("started p0 none", "\"I will not\""));
  EXPECT_EQ(calls(1), 0u);
  EXPECT_EQ(AnswerOf(result).finish_reason, core::FinishReason::kRefusal);
  EXPECT_EQ(AnswerOf(result).degradation, Degradation::kNone);
}

TEST_F(RefusalTest, WhereNoLaterTargetAnswersItStandsAsItWasShown) {
  const std::vector<AttemptScript> others = {Fails(OutcomeKind::kAuth),
                                             Fails(OutcomeKind::kBadRequest),
                                             Script().End(OutcomeKind::kRefusal)};
  for (const AttemptScript& other : others) {
    providers.clear();
    Build(2);
    provider(0).Otherwise(Refuses("I will not"));
    provider(1).Otherwise(other);
    const core::Result result = RunStream();
    EXPECT_THAT(events(), ElementsAre("started p0 none", "\"I will not\""));
    EXPECT_EQ(calls(1), 1u);
    EXPECT_EQ(AnswerOf(result).finish_reason, core::FinishReason::kRefusal);
    EXPECT_EQ(AnswerOf(result).text, "I will not");
    EXPECT_EQ(AnswerOf(Run()).text, "I will not");
  }
}

TEST_F(RefusalTest, WhatBreaksAfterItIsMendedAsEver) {
  Build(3);
  provider(2).CanContinue();
  provider(0).Then(Refuses("I will not"));
  provider(1).Then(Breaks("Blue li"));
  provider(2).Then(Answers("ght"));
  RunStream();
  EXPECT_THAT(events(), ElementsAre("started p0 none", "\"I will not\"", "reset p1 fallback_model",
                                    "\"Blue li\"", "continued p2 fallback_model", "\"ght\""));
}

TEST_F(RefusalTest, OfTwoTheFirstStands) {
  Build(2);
  provider(0).Otherwise(Refuses("I will not"));
  provider(1).Otherwise(Refuses("Nor will I"));
  const core::Result result = RunStream();
  EXPECT_THAT(events(), ElementsAre("started p0 none", "\"I will not\"", "reset p1 fallback_model",
                                    "\"Nor will I\"", "reset p0 none", "\"I will not\""));
  EXPECT_EQ(AnswerOf(Run()).text, AnswerOf(result).text);
}

TEST_F(StreamTest, TheTimeThatRunsOutMidTextLeavesAPartialAnswer) {
  Build(1);
  provider(0).Then(Script().Say("Blue").Hang());
  route.chain[0].timeouts.idle = 60s;
  const core::Result result = RunStream(Ask(), 5s);
  EXPECT_EQ(AnswerOf(result).text, "Blue");
  EXPECT_EQ(AnswerOf(result).degradation, Degradation::kPartial);
  EXPECT_LT(took, 5s);
}

TEST_F(StreamTest, AttemptTimeoutHoldsOnlyUntilTheCommit) {
  route.chain = {StepOf(0)};
  route.chain[0].timeouts.attempt = 3s;
  Build(1);
  provider(0).Then(Script().Say("Blue ", 1s).Say("light", 5s).Done());
  EXPECT_EQ(AnswerOf(RunStream()).text, "Blue light");
}

// ------------------------------------------------------------------------------ backpressure

class PausedTest : public StreamTest {
 protected:
  void SetUp() override {
    route.timeout = 300s;
    Build(1);
  }
  // Closes the valve `at` after the start, for `length`.
  void Pause(Duration at, std::optional<Duration> length) {
    stream = std::make_unique<NotingStream>(loop);
    loop.CallAt(loop.Now() + at, [this] { stream->valve().Close(); });
    if (length) loop.CallAt(loop.Now() + at + *length, [this] { stream->valve().Open(); });
  }
  core::Result RunPaused() {
    return loop.Await(engine->Run(Ask(), Context(), std::nullopt, stream.get()));
  }
};

TEST_F(PausedTest, TimersStandStillWhileTheCallerDoesNotRead) {
  Pause(1s, 59s);
  // Idle is 10 s: 1 s before the pause and 8 after it are 9.
  provider(0).Then(Script().Say("Blue ").Say("light", 68s).Done());
  const core::Result result = RunPaused();
  EXPECT_EQ(AnswerOf(result).text, "Blue light");
}

TEST_F(PausedTest, SoDoesTheFirstTokenTimer) {
  Pause(1s, 20s);
  provider(0).Then(Script().Say("late", 29s).Done());
  const core::Result result = RunPaused();
  EXPECT_THAT(Outcomes(result), ElementsAre("complete"));
}

TEST_F(PausedTest, TheyGoOnAfterwards) {
  random.Always(0);
  Pause(1s, 59s);
  provider(0).Then(Script().Say("Blue ").Say("light", 69s + 1ms).Done());
  provider(0).Otherwise(Fails(OutcomeKind::kServerError));
  const core::Result result = RunPaused();
  EXPECT_EQ(Outcomes(result)[0], "timeout");
}

TEST_F(PausedTest, SixtySecondsArePaused60sEndsWithResourceExhaustedNeutral) {
  Pause(0s, std::nullopt);
  provider(0).Then(Script().Say("Blue ").Hang());
  const core::SteadyTime start = loop.Now();
  const core::Result result = RunPaused();
  EXPECT_EQ(loop.Now() - start, kMaxPause);
  ASSERT_FALSE(result.ok());
  EXPECT_EQ(ErrorOf(result).code, ErrorCode::kResourceExhausted);
  EXPECT_EQ(ErrorOf(result).reason, "READER_TOO_SLOW");
  EXPECT_EQ(Outcomes(result), std::vector<std::string>{"paused"});
  EXPECT_EQ(breaker(0).Snapshot().failures, 0);
}

TEST_F(PausedTest, ThePlanStillBinds) {
  route.timeout = 30s;
  providers.clear();
  Build(1);
  Pause(1s, std::nullopt);
  provider(0).Then(Script().Say("Blue").Hang());
  const core::Result result = RunPaused();
  EXPECT_EQ(AnswerOf(result).text, "Blue");
  EXPECT_EQ(Outcomes(result)[0], "out_of_time");
}

TEST_F(StreamTest, ACancelBooksWhatWasStreamed) {
  Build(1);
  provider(0).Then(Script().Say("Blue light scatters").Hang());
  loop.CallAt(loop.Now() + 1s, [this] { cancel.request_stop(); });
  const core::Result result = RunStream();
  EXPECT_EQ(ErrorOf(result).code, ErrorCode::kCancelled);
  EXPECT_EQ(took, 1s);
  EXPECT_TRUE(result.attempts[0].usage_estimated);
  EXPECT_GT(result.cost_usd, 0);
}

}  // namespace
}  // namespace holdfast::resilience
