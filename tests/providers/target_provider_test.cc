#include "providers/target_provider.h"

#include <gtest/gtest.h>

#include <functional>
#include <optional>

#include "core/wait.h"
#include "providers/registry.h"
#include "tests/providers/transcripts.h"

namespace holdfast::testing {
namespace {

using core::Attempt;
using core::Outcome;
using providers::HttpRequest;
using providers::HttpSink;
using providers::ModelOptions;
using providers::ProviderOptions;
using providers::TargetProvider;

// Keeps the request, hands it to a script, and ends when told to or by its stop token.
class FakeHttpClient final : public providers::HttpClient {
 public:
  explicit FakeHttpClient(core::Loop& loop) : loop_(loop) {}

  // Returns how the exchange ends; nothing: not before it is stopped.
  std::function<std::optional<HttpEnd>(HttpSink&)> script = [](HttpSink&) { return HttpEnd{}; };
  std::vector<HttpRequest> requests;

  core::Task<HttpEnd> Send(HttpRequest request, HttpSink& sink) override {
    requests.push_back(request);
    core::OneShot<HttpEnd> ended(loop_);
    const std::stop_callback on_stop(request.stop, [&ended] {
      ended.Set({.kind = HttpEnd::Kind::kCancelled, .error = "cancelled"});
    });
    if (auto end = script(sink)) ended.Set(*end);
    co_return co_await ended;
  }

  std::string Header(const std::string& name) const {
    std::string value = "absent";
    int found = 0;
    for (const auto& [key, v] : requests.back().headers) {
      std::string lower = key;
      for (char& c : lower) c = static_cast<char>(std::tolower(c));
      if (lower == name) value = v, ++found;
    }
    EXPECT_LE(found, 1) << name;
    return value;
  }

 private:
  core::Loop& loop_;
};

class TargetProviderTest : public ::testing::Test {
 protected:
  Outcome Stream(const Attempt& attempt = {.idempotency_key = "idem-1"}) {
    const auto provider = providers::MakeProvider(options_, model_, http_, loop_);
    return loop_.Await(provider->Stream(request_, attempt, sink_));
  }

  FakeLoop loop_;
  FakeHttpClient http_{loop_};
  ProviderOptions options_{.base_url = "https://api.test/v1", .api_key = "key-123456"};
  ModelOptions model_{.model = "m-1"};
  core::Request request_ = UserAsks("Hi");
  RecordingSink sink_;
};

TEST_F(TargetProviderTest, HeadersOfEachKind) {
  Stream();
  EXPECT_EQ(http_.requests[0].method, "POST");
  EXPECT_EQ(http_.requests[0].url, "https://api.test/v1/chat/completions");
  EXPECT_EQ(http_.Header("authorization"), "Bearer key-123456");
  EXPECT_EQ(http_.Header("content-type"), "application/json");
  EXPECT_EQ(http_.Header("accept"), "text/event-stream");
  EXPECT_EQ(http_.Header("idempotency-key"), "idem-1");

  options_.kind = Kind::kAnthropic;
  options_.base_url = "https://api.test";
  Stream();
  EXPECT_EQ(http_.requests[1].url, "https://api.test/v1/messages");
  EXPECT_EQ(http_.Header("x-api-key"), "key-123456");
  EXPECT_EQ(http_.Header("anthropic-version"), "2023-06-01");
  EXPECT_EQ(http_.Header("authorization"), "absent");

  options_.kind = Kind::kGemini;
  Stream();
  EXPECT_EQ(http_.requests[2].url,
            "https://api.test/v1beta/models/m-1:streamGenerateContent?alt=sse");
  EXPECT_EQ(http_.Header("x-goog-api-key"), "key-123456");
}

TEST_F(TargetProviderTest, AReplyHeldUpByOurselvesIsNotHurriedToItsEnd) {
  core::Valve valve;
  http_.script = [&](HttpSink& sink) -> std::optional<HttpEnd> {
    EXPECT_EQ(http_.requests.back().valve, &valve);
    sink.OnHeaders(200, {{"content-type", "text/event-stream"}});
    sink.OnBody(Events({R"({"choices":[{"delta":{"content":"x"},"finish_reason":"stop"}]})"}));
    valve.Close();
    loop_.CallAt(loop_.Now() + std::chrono::seconds(30), [&] { valve.Open(); });
    return std::nullopt;
  };
  const core::SteadyTime begun = loop_.Now();
  const Outcome outcome = Stream({.idempotency_key = "idem-1", .valve = &valve});
  EXPECT_EQ(outcome.kind, OutcomeKind::kComplete);
  EXPECT_GE(loop_.Now() - begun, std::chrono::seconds(30));
  EXPECT_LE(loop_.Now() - begun, std::chrono::seconds(32));
}

TEST_F(TargetProviderTest, ThreeAttemptsOnOneTarget) {
  for (const auto& [number, header] :
       {std::pair{1, "absent"}, std::pair{2, "2"}, std::pair{3, "3"}}) {
    Stream({.idempotency_key = "same", .number = number});
    EXPECT_EQ(http_.Header("x-holdfast-attempt"), header);
    EXPECT_EQ(http_.Header("idempotency-key"), "same");
  }
}

TEST_F(TargetProviderTest, PathKeyHeaderAndHeadersAreSettings) {
  options_.base_url = "https://x.test/";
  options_.path = "/openai/deployments/{model}/chat?api-version=1";
  options_.api_key_header = "api-key";
  options_.headers = {{"X-Team", "blue"}, {"Accept", "*/*"}};
  model_.model = "a b/c";
  Stream();
  EXPECT_EQ(http_.requests[0].url, "https://x.test/openai/deployments/a%20b/c/chat?api-version=1");
  EXPECT_EQ(http_.Header("api-key"), "key-123456");
  EXPECT_EQ(http_.Header("authorization"), "absent");
  EXPECT_EQ(http_.Header("x-team"), "blue");
  EXPECT_EQ(http_.Header("accept"), "*/*");
}

TEST_F(TargetProviderTest, NoKeyNoHeader) {
  options_.api_key.clear();
  Stream();
  EXPECT_EQ(http_.Header("authorization"), "absent");
}

TEST_F(TargetProviderTest, TheClientsSettingsArePassedOn) {
  options_.proxy = "http://proxy.test:3128";
  options_.ca_file = "ca.pem";
  options_.max_response_bytes = 77;
  Stream();
  EXPECT_EQ(http_.requests[0].proxy, "http://proxy.test:3128");
  EXPECT_EQ(http_.requests[0].ca_file, "ca.pem");
  EXPECT_EQ(http_.requests[0].max_response_bytes, 77u);
}

const HttpHeaders kSse = {{"content-type", "text/event-stream"}};
const std::string kWhole =
    Events({R"({"choices":[{"delta":{"content":"Hi"},"finish_reason":"stop"}]})"});

TEST_F(TargetProviderTest, AnAnswerIsDelivered) {
  http_.script = [](HttpSink& sink) {
    sink.OnConnected();
    sink.OnHeaders(200, kSse);
    sink.OnBody(kWhole);
    return HttpEnd{.reused_connection = true};
  };
  const Outcome outcome = Stream();
  EXPECT_EQ(outcome.kind, OutcomeKind::kComplete);
  EXPECT_TRUE(outcome.reused_connection);
  EXPECT_EQ(sink_.connected, 1);
  EXPECT_EQ(sink_.text, "Hi");
  EXPECT_EQ(loop_.timers(), 0u);
}

TEST_F(TargetProviderTest, AServerThatSaysAllAndHangsIsLeft) {
  http_.script = [](HttpSink& sink) -> std::optional<HttpEnd> {
    sink.OnHeaders(200, kSse);
    sink.OnBody(kWhole);
    return std::nullopt;
  };
  const core::SteadyTime start = loop_.Now();
  EXPECT_EQ(Stream().kind, OutcomeKind::kComplete);
  EXPECT_EQ(loop_.Now() - start, TargetProvider::kLinger);
  EXPECT_EQ(sink_.text, "Hi");
}

TEST_F(TargetProviderTest, AnErrorInsideTheStreamEndsItAtOnce) {
  http_.script = [](HttpSink& sink) -> std::optional<HttpEnd> {
    sink.OnHeaders(200, kSse);
    sink.OnBody(Events({R"({"error":{"message":"busy","code":503}})"}));
    return std::nullopt;
  };
  const core::SteadyTime start = loop_.Now();
  EXPECT_EQ(Stream().kind, OutcomeKind::kOverloaded);
  EXPECT_EQ(loop_.Now(), start);
}

TEST_F(TargetProviderTest, ItsStopTokenEndsItAsCancelled) {
  std::stop_source stop;
  http_.script = [](HttpSink& sink) -> std::optional<HttpEnd> {
    sink.OnHeaders(200, kSse);
    return std::nullopt;
  };
  loop_.CallAt(loop_.Now() + std::chrono::seconds(5), [&stop] { stop.request_stop(); });
  const Outcome outcome = Stream({.stop = stop.get_token()});
  EXPECT_EQ(outcome.kind, OutcomeKind::kCancelled);
  EXPECT_EQ(outcome.http_status, 200);
  EXPECT_EQ(http_.requests.size(), 1u);
  EXPECT_EQ(Stream({.stop = stop.get_token()}).kind, OutcomeKind::kCancelled);
  EXPECT_EQ(http_.requests.size(), 1u) << "stopped before it was sent";
}

TEST_F(TargetProviderTest, TheKeyIsNeverInTheErrorsText) {
  options_.api_key = "my.private/key";
  options_.headers = {{"x-gateway", "Bearer gateway-secret-1"}};
  http_.script = [](HttpSink& sink) -> std::optional<HttpEnd> {
    sink.OnHeaders(401, {});
    sink.OnBody("no such key my.private/key or gateway-secret-1");
    return HttpEnd{};
  };
  EXPECT_EQ(Stream().error, "no such key *** or ***");
}

}  // namespace
}  // namespace holdfast::testing
