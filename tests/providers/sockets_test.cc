// Each kind over real sockets: CurlLoop against a scripted server.

#include <future>

#include "core/clock.h"
#include "providers/http/curl_loop.h"
#include "providers/registry.h"
#include "tests/fakes/scripted_http_server.h"
#include "tests/providers/transcripts.h"

namespace holdfast::testing {
namespace {

using core::Outcome;

class Sockets : public ::testing::Test {
 protected:
  Outcome Stream(Kind kind, core::Attempt attempt = {.idempotency_key = "idem"}) {
    const providers::ProviderOptions options{
        .kind = kind, .base_url = server_.url(""), .api_key = "key-123456"};
    const auto provider = providers::MakeProvider(options, {.model = "m"}, loop_, loop_);
    std::promise<Outcome> promise;
    loop_.Post([&] { core::Spawn(Run(*provider, attempt, promise)); });
    return promise.get_future().get();
  }

  core::Task<void> Run(core::Provider& provider, const core::Attempt& attempt,
                       std::promise<Outcome>& promise) {
    Outcome outcome = co_await provider.Stream(request_, attempt, sink_);
    promise.set_value(std::move(outcome));
  }

  const HttpHeaderList sse_ = {{"content-type", "text/event-stream"}};
  core::SystemClock clock_;
  ScriptedHttpServer server_;
  core::Request request_ = UserAsks("Hi");
  RecordingSink sink_;
  providers::CurlLoop loop_{clock_};
};

TEST_F(Sockets, OpenAi) {
  server_.Expect(HttpScript::Stream(
      200, sse_,
      {"data: {\"choices\":[{\"delta\":{\"content\":\"H\xC3", "\xA9\"}}]}\r\n\r\n",
       Events({R"({"choices":[{"delta":{},"finish_reason":"stop"}]})", "[DONE]"})}));
  const Outcome outcome = Stream(Kind::kOpenAi);
  EXPECT_EQ(outcome.kind, OutcomeKind::kComplete) << outcome.error;
  EXPECT_EQ(sink_.text, "Hé");
  EXPECT_EQ(sink_.connected, 1);
  const auto request = server_.requests().at(0);
  EXPECT_EQ(request.target, "/chat/completions");
  EXPECT_EQ(*request.Find("authorization"), "Bearer key-123456");
  EXPECT_EQ(*request.Find("idempotency-key"), "idem");
  EXPECT_EQ(request.Find("expect"), nullptr);
}

TEST_F(Sockets, Anthropic) {
  server_.Expect(HttpScript::Stream(
      200, sse_,
      {Events(
           {R"({"type":"content_block_delta","index":0,"delta":{"type":"text_delta","text":"Hi"}})"}),
       Events({R"({"type":"message_delta","delta":{"stop_reason":"end_turn"}})",
               R"({"type":"message_stop"})"})}));
  EXPECT_EQ(Stream(Kind::kAnthropic).kind, OutcomeKind::kComplete);
  EXPECT_EQ(sink_.text, "Hi");
  EXPECT_EQ(server_.requests().at(0).target, "/v1/messages");
  EXPECT_EQ(*server_.requests().at(0).Find("x-api-key"), "key-123456");
}

TEST_F(Sockets, Gemini) {
  server_.Expect(HttpScript::Stream(
      200, sse_,
      {Events(
          {R"({"candidates":[{"content":{"parts":[{"text":"Hi"}]},"finishReason":"STOP"}]})"})}));
  EXPECT_EQ(Stream(Kind::kGemini).kind, OutcomeKind::kComplete);
  EXPECT_EQ(sink_.text, "Hi");
  EXPECT_EQ(server_.requests().at(0).target, "/v1beta/models/m:streamGenerateContent?alt=sse");
}

TEST_F(Sockets, ARateLimitWithItsHeader) {
  server_.Expect(HttpScript::Reply(
      429, {{"Retry-After", "7"}, {"x-should-retry", "true"}},
      R"({"error":{"message":"slow","type":"requests","code":"rate_limit_exceeded"}})"));
  const Outcome outcome = Stream(Kind::kOpenAi);
  EXPECT_EQ(outcome.kind, OutcomeKind::kRateLimited);
  EXPECT_EQ(outcome.http_status, 429);
  EXPECT_EQ(outcome.retry_after, std::chrono::seconds(7));
  EXPECT_EQ(outcome.should_retry, true);
  EXPECT_EQ(outcome.error, "slow");
}

TEST_F(Sockets, AResetInTheMiddle) {
  server_.Expect(HttpScript::Begin(200, sse_)
                     .Chunk(Events({R"({"choices":[{"delta":{"content":"Hal"}}]})"}))
                     .Reset());
  EXPECT_EQ(Stream(Kind::kOpenAi).kind, OutcomeKind::kCut);
  EXPECT_EQ(sink_.text, "Hal");
}

TEST_F(Sockets, AnEndWithoutAReason) {
  server_.Expect(
      HttpScript::Stream(200, sse_, {Events({R"({"choices":[{"delta":{"content":"Hal"}}]})"})}));
  EXPECT_EQ(Stream(Kind::kOpenAi).kind, OutcomeKind::kCut);
}

TEST_F(Sockets, ConnectionRefused) {
  server_.StopListening();
  const Outcome outcome = Stream(Kind::kOpenAi);
  EXPECT_EQ(outcome.kind, OutcomeKind::kConnect);
  EXPECT_EQ(outcome.http_status, 0);
  EXPECT_FALSE(outcome.error.empty());
}

TEST_F(Sockets, AServerThatSaysAllAndHangs) {
  server_.Expect(
      HttpScript::Begin(200, sse_)
          .Chunk(Events({R"({"choices":[{"delta":{"content":"Hi"},"finish_reason":"stop"}]})"}))
          .Gate());
  EXPECT_EQ(Stream(Kind::kOpenAi).kind, OutcomeKind::kComplete);
  EXPECT_EQ(sink_.text, "Hi");
}

TEST_F(Sockets, AnErrorEventEndsTheRequestAtOnce) {
  server_.Expect(HttpScript::Begin(200, sse_)
                     .Chunk("event: error\ndata: {\"type\":\"error\",\"error\":{\"type\":"
                            "\"overloaded_error\",\"message\":\"Overloaded\"}}\n\n")
                     .Gate());
  EXPECT_EQ(Stream(Kind::kAnthropic).kind, OutcomeKind::kOverloaded);
}

}  // namespace
}  // namespace holdfast::testing
