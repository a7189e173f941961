#include "providers/reply_reader.h"

#include "tests/providers/transcripts.h"

namespace holdfast::testing {
namespace {

const char kHello[] = R"({"choices":[{"delta":{"content":"Hello"}}]})";
const char kStop[] = R"({"choices":[{"delta":{},"finish_reason":"stop"}]})";

Transcript OpenAi(std::string body, HttpEnd::Kind end = HttpEnd::Kind::kComplete) {
  return {.body = std::move(body), .end = end};
}

TEST(EndOfAttempt, AMissingDoneAfterTheReasonIsAClean) {
  EXPECT_EQ(HearHoweverCut(OpenAi(Events({kHello, kStop}))).outcome.kind, OutcomeKind::kComplete);
  EXPECT_EQ(HearHoweverCut(OpenAi(Events({kHello, kStop, "[DONE]"}))).outcome.kind,
            OutcomeKind::kComplete);
}

TEST(EndOfAttempt, AMissingLastBlankLineOrLineEndLosesNothing) {
  std::string body = Events({kHello, kStop});
  body.pop_back();
  EXPECT_EQ(HearHoweverCut(OpenAi(body)).outcome.kind, OutcomeKind::kComplete);
  body.pop_back();
  EXPECT_EQ(HearHoweverCut(OpenAi(body)).outcome.kind, OutcomeKind::kComplete);
  // But a broken connection may have broken the event.
  EXPECT_EQ(Hear(OpenAi(body, HttpEnd::Kind::kCut)).outcome.kind, OutcomeKind::kCut);
}

TEST(EndOfAttempt, NoReasonIsACut) {
  const Heard heard = HearHoweverCut(OpenAi(Events({kHello})));
  EXPECT_EQ(heard.outcome.kind, OutcomeKind::kCut);
  EXPECT_EQ(heard.sink.text, "Hello");
  EXPECT_EQ(heard.outcome.http_status, 200);
  EXPECT_EQ(Hear(OpenAi(Events({kHello, "[DONE]"}))).outcome.kind, OutcomeKind::kCut);
  EXPECT_EQ(Hear(OpenAi(Events({kHello}), HttpEnd::Kind::kCut)).outcome.kind, OutcomeKind::kCut);
  EXPECT_EQ(Hear(OpenAi("", HttpEnd::Kind::kCut)).outcome.kind, OutcomeKind::kCut);
}

TEST(EndOfAttempt, ACutAfterTheReasonLostNothing) {
  EXPECT_EQ(Hear(OpenAi(Events({kHello, kStop}), HttpEnd::Kind::kCut)).outcome.kind,
            OutcomeKind::kComplete);
}

TEST(EndOfAttempt, AnEmptyAnswerIsMalformed) {
  const Heard heard = HearHoweverCut(OpenAi(Events({kStop, "[DONE]"})));
  EXPECT_EQ(heard.outcome.kind, OutcomeKind::kMalformed);
  EXPECT_EQ(heard.outcome.error, "the reply is empty");
  EXPECT_EQ(heard.sink.finishes, 0);
}

TEST(EndOfAttempt, A200ThatIsNoReplyIsMalformed) {
  for (const char* body : {"", "<html>busy</html>", ": ping\n\n: ping\n\n", "data: nonsense\n\n",
                           "{\"broken\":", "[1,2", "Hello", "{\"hello\":1}", "null", "\n\n"}) {
    for (const char* type : {"text/event-stream", "application/json", "text/html", ""}) {
      Transcript transcript = OpenAi(body);
      transcript.headers = {{"content-type", type}};
      EXPECT_EQ(
          HearHoweverCut(transcript).outcome.kind,
          std::string_view(body) == "{\"hello\":1}" && std::string_view(type) == "text/event-stream"
              ? OutcomeKind::kCut
              : OutcomeKind::kMalformed)
          << body << " as " << type;
    }
  }
}

TEST(EndOfAttempt, TheBodyDecidesAndNotItsContentType) {
  const std::string whole = R"({"choices":[{"message":{"content":"Hi"},"finish_reason":"stop"}]})";
  for (const char* type : {"text/event-stream", "application/json", "text/plain", ""}) {
    Transcript transcript = OpenAi(whole);
    transcript.headers = {{"content-type", type}};
    EXPECT_EQ(HearHoweverCut(transcript).sink.text, "Hi") << type;
    transcript.body = "\n\n" + Events({kHello, kStop});
    EXPECT_EQ(HearHoweverCut(transcript).sink.text, "Hello") << type;
  }
}

TEST(EndOfAttempt, ABadEventIsSkippedAndCounted) {
  const Heard heard =
      HearHoweverCut(OpenAi("data: {\"choices\":[{\"delta\":{\"content\":\"lost\n\ndata: 17\n\n" +
                            Events({kHello, "{\"a\":}", kStop})));
  EXPECT_EQ(heard.outcome.kind, OutcomeKind::kComplete);
  EXPECT_EQ(heard.outcome.skipped_events, 3u);
  EXPECT_EQ(heard.sink.text, "Hello");
}

TEST(EndOfAttempt, WhatTheHttpClientSays) {
  const std::vector<std::pair<HttpEnd::Kind, OutcomeKind>> cases = {
      {HttpEnd::Kind::kConnect, OutcomeKind::kConnect},
      {HttpEnd::Kind::kPooledReset, OutcomeKind::kPooledReset},
      {HttpEnd::Kind::kCancelled, OutcomeKind::kCancelled},
      {HttpEnd::Kind::kTooLarge, OutcomeKind::kMalformed}};
  for (const auto& [end, kind] : cases) {
    const Heard heard = Hear({.status = 0, .end = end});
    EXPECT_EQ(heard.outcome.kind, kind);
    EXPECT_EQ(heard.outcome.http_status, 0);
  }
  EXPECT_EQ(Hear(OpenAi(Events({kHello, kStop}), HttpEnd::Kind::kTooLarge)).outcome.kind,
            OutcomeKind::kMalformed);
  EXPECT_EQ(Hear(OpenAi(Events({kHello}), HttpEnd::Kind::kCancelled)).outcome.kind,
            OutcomeKind::kCancelled);
}

TEST(EndOfAttempt, AnErrorStatusDecidesHoweverItEnds) {
  for (const HttpEnd::Kind end :
       {HttpEnd::Kind::kComplete, HttpEnd::Kind::kCut, HttpEnd::Kind::kTooLarge}) {
    const Heard heard = Hear({.body = "no", .status = 429, .headers = {}, .end = end});
    EXPECT_EQ(heard.outcome.kind, OutcomeKind::kRateLimited);
    EXPECT_EQ(heard.outcome.http_status, 429);
    EXPECT_EQ(heard.outcome.error, "no");
  }
}

TEST(EndOfAttempt, AHugeErrorBodyIsCutAndStillClassified) {
  std::string body = R"({"error":{"code":"insufficient_quota","message":")";
  body.append(providers::ReplyReader::kMaxErrorBody, 'x').append("\"}}");
  EXPECT_EQ(Hear({.body = body, .status = 429}).outcome.kind, OutcomeKind::kRateLimited);
  EXPECT_LE(Hear({.body = body, .status = 429}).outcome.error.size(), 512u);
}

TEST(EndOfAttempt, ARefusalByStatusHasItsReason) {
  const Heard heard = HearHoweverCut(
      {.body = R"({"error":{"message":"The response was filtered","type":null,"param":"prompt",
          "code":"content_filter","status":400}})",
       .status = 400});
  EXPECT_EQ(heard.outcome.kind, OutcomeKind::kRefusal);
  EXPECT_EQ(heard.sink.reason, FinishReason::kContentFilter);
}

TEST(EndOfAttempt, ARateLimitInsideTheStreamReadsItsHeaders) {
  const Heard heard = Hear({.body = Events({R"({"error":{"code":429,"message":"x"}})"}),
                            .headers = {{"retry-after", "7"}, {"x-should-retry", "false"}}});
  EXPECT_EQ(heard.outcome.kind, OutcomeKind::kRateLimited);
  EXPECT_EQ(heard.outcome.retry_after, std::chrono::seconds(7));
  EXPECT_EQ(heard.outcome.should_retry, false);
}

// A piece of text as JSON inside an event, in raw bytes.
std::string ContentEvent(std::string_view raw) {
  return "data: {\"choices\":[{\"delta\":{\"content\":\"" + std::string(raw) + "\"}}]}\n\n";
}

TEST(BrokenText, CharactersCutBetweenDeltasAreJoined) {
  const auto text = [](std::vector<std::string_view> pieces) {
    std::string body;
    for (const std::string_view piece : pieces) body += ContentEvent(piece);
    const Heard heard = HearHoweverCut(OpenAi(body + Events({kStop})));
    EXPECT_EQ(heard.outcome.skipped_events, 0u);
    return heard.sink.text;
  };
  EXPECT_EQ(text({R"(a\ud83d)", R"(\ude00b)"}), "a😀b");
  EXPECT_EQ(text({"a\xF0\x9F",
                  "\x98\x80"
                  "b"}),
            "a😀b");
  EXPECT_EQ(text({"\xF0", "\x9F", "\x98", "\x80"}), "😀");
  EXPECT_EQ(text({R"(a\ud83d)", "b"}), "a\uFFFDb");
  EXPECT_EQ(text({R"(a\ud83d)"}), "a\uFFFD");
  EXPECT_EQ(text({R"(a\ude00b)"}), "a\uFFFDb");
  EXPECT_EQ(text({"a\xFFz"}), "a\uFFFDz");
  EXPECT_EQ(text({"a\xE2\x82", "b"}), "a\uFFFDb");
}

// What was heard of a reply that breaks may be continued, so it ends with a whole character.
TEST(BrokenText, HalfACharacterOfABrokenReplyIsNotHeard) {
  for (const std::string_view half : {"\xE2", "\xE2\x82", R"(\ud83d)"}) {
    const Heard heard = HearHoweverCut({.kind = Kind::kOpenAi,
                                        .body = ContentEvent("ab") + ContentEvent(half),
                                        .end = providers::HttpEnd::Kind::kCut});
    EXPECT_EQ(heard.outcome.kind, OutcomeKind::kCut);
    EXPECT_EQ(heard.sink.text, "ab");
  }
}

TEST(BrokenText, ToolArgumentsToo) {
  const auto call = [](std::string_view start, std::string_view piece) {
    return "data: {\"choices\":[{\"delta\":{\"tool_calls\":[{\"index\":0," + std::string(start) +
           "\"arguments\":\"" + std::string(piece) + "\"}}]}}]}\n\n";
  };
  const Heard heard =
      HearHoweverCut(OpenAi(call(R"("id":"c","function":{"name":"f",)", "{\\\"a\\\":\\\"\xF0\x9F") +
                            call(R"("function":{)", "\x98\x80\\\"}") + Events({kStop})));
  ASSERT_EQ(heard.sink.calls.size(), 1u);
  EXPECT_EQ(heard.sink.calls[0].arguments, "{\"a\":\"😀\"}");
}

}  // namespace
}  // namespace holdfast::testing
