#include "providers/classify.h"

#include <gtest/gtest.h>

#include "tests/fakes/fake_loop.h"

namespace holdfast::providers {
namespace {

using core::OutcomeKind;

const std::vector<std::string> kSecrets = {"sk-test-key-0123456789"};

core::Outcome Classify(Kind kind, int status, std::string_view body,
                       const HttpHeaders& headers = {}) {
  const testing::FakeClock clock;
  return ClassifyResponse({.kind = kind,
                           .http_status = status,
                           .headers = headers,
                           .clock = clock,
                           .secrets = kSecrets},
                          body);
}

struct Case {
  Kind kind;
  int status;
  const char* body;
  OutcomeKind outcome;
};

void Expect(const std::vector<Case>& cases) {
  for (const Case& c : cases) {
    const core::Outcome outcome = Classify(c.kind, c.status, c.body);
    EXPECT_STREQ(core::Name(outcome.kind), core::Name(c.outcome)) << c.status << " " << c.body;
    EXPECT_EQ(outcome.http_status, c.status);
    EXPECT_FALSE(outcome.error.empty());
  }
}

TEST(Classify, ByStatusWhereTheBodySaysNothing) {
  const std::vector<std::pair<int, OutcomeKind>> cases = {
      {400, OutcomeKind::kBadRequest},    {401, OutcomeKind::kAuth},
      {402, OutcomeKind::kQuota},         {403, OutcomeKind::kAuth},
      {404, OutcomeKind::kModelNotFound}, {408, OutcomeKind::kRequestTimeout},
      {409, OutcomeKind::kConflict},      {413, OutcomeKind::kBadRequest},
      {422, OutcomeKind::kBadRequest},    {425, OutcomeKind::kConflict},
      {429, OutcomeKind::kRateLimited},   {500, OutcomeKind::kServerError},
      {501, OutcomeKind::kServerError},   {502, OutcomeKind::kServerError},
      {503, OutcomeKind::kOverloaded},    {504, OutcomeKind::kServerError},
      {520, OutcomeKind::kServerError},   {529, OutcomeKind::kOverloaded},
      {301, OutcomeKind::kServerError},   {418, OutcomeKind::kServerError},
      {499, OutcomeKind::kServerError},   {999, OutcomeKind::kServerError}};
  for (const Kind kind : {Kind::kOpenAi, Kind::kAnthropic, Kind::kGemini}) {
    for (const auto& [status, outcome] : cases) {
      for (const char* body : {"", "<html><h1>Bad Gateway</h1></html>", "upstream error", "{}",
                               "{\"error\":", "[]", "null", "\"text\"", "17", "{\"error\":{}}",
                               "{\"error\":null}", "{\"error\":{\"code\":null,\"type\":7}}"}) {
        EXPECT_EQ(Classify(kind, status, body).kind, outcome) << status << body;
      }
    }
  }
}

TEST(Classify, OpenAi) {
  constexpr Kind k = Kind::kOpenAi;
  Expect({
      {k, 401,
       R"({"error":{"message":"Incorrect API key provided: sk-x","type":"invalid_request_error","param":null,"code":"invalid_api_key"}})",
       OutcomeKind::kAuth},
      {k, 401,
       R"({"error":{"message":"You didn't provide an API key.","type":"invalid_request_error","param":null,"code":null}})",
       OutcomeKind::kAuth},
      {k, 403,
       R"({"error":{"code":"unsupported_country_region_territory","message":"Country, region, or territory not supported","param":null,"type":"request_forbidden"}})",
       OutcomeKind::kAuth},
      {k, 400,
       R"({"error":{"message":"This model's maximum context length is 8192 tokens.","type":"invalid_request_error","param":"messages","code":"context_length_exceeded"}})",
       OutcomeKind::kContextLength},
      {k, 400,
       R"({"object":"error","message":"This model's maximum context length is 2048 tokens.","type":"BadRequestError","param":null,"code":400})",
       OutcomeKind::kContextLength},
      {k, 400,
       R"({"error":{"code":400,"message":"the request exceeds the available context size.","type":"exceed_context_size_error","n_ctx":4096}})",
       OutcomeKind::kContextLength},
      {k, 429,
       R"({"error":{"message":"You exceeded your current quota, please check your plan and billing details.","type":"insufficient_quota","param":null,"code":"insufficient_quota"}})",
       OutcomeKind::kQuota},
      {k, 429,
       R"({"error":{"message":"Rate limit reached for gpt-4o on tokens per min.","type":"tokens","param":null,"code":"rate_limit_exceeded"}})",
       OutcomeKind::kRateLimited},
      {k, 429,
       R"({"error":{"message":"Billing hard limit has been reached","type":"invalid_request_error","param":null,"code":"billing_hard_limit_reached"}})",
       OutcomeKind::kQuota},
      {k, 404,
       R"({"error":{"message":"The model `gpt-9` does not exist or you do not have access to it.","type":"invalid_request_error","param":null,"code":"model_not_found"}})",
       OutcomeKind::kModelNotFound},
      {k, 400,
       R"({"error":{"message":"The model `x` has been decommissioned","type":"invalid_request_error","code":"model_decommissioned"}})",
       OutcomeKind::kModelNotFound},
      {k, 404,
       R"({"error":{"message":"model 'x' not found, try pulling it first","type":"api_error","param":null,"code":null}})",
       OutcomeKind::kModelNotFound},
      {k, 404,
       R"({"error":{"code":"DeploymentNotFound","message":"The API deployment for this resource does not exist."}})",
       OutcomeKind::kModelNotFound},
      {k, 400,
       R"({"error":{"message":"The response was filtered due to the prompt triggering Azure OpenAI's content management policy.","type":null,"param":"prompt","code":"content_filter","status":400,"innererror":{"code":"ResponsibleAIPolicyViolation"}}})",
       OutcomeKind::kRefusal},
      {k, 400,
       R"({"error":{"message":"Your request was rejected as a result of our safety system.","type":"invalid_request_error","code":"content_policy_violation"}})",
       OutcomeKind::kRefusal},
      {k, 400,
       R"({"error":{"message":"Invalid value: 'robot'","type":"invalid_request_error","param":"messages[0].role","code":"invalid_value"}})",
       OutcomeKind::kBadRequest},
      {k, 500,
       R"({"error":{"message":"The server had an error","type":"server_error","param":null,"code":null}})",
       OutcomeKind::kServerError},
      {k, 503,
       R"({"error":{"message":"The engine is currently overloaded","type":"server_error","code":null}})",
       OutcomeKind::kOverloaded},
      {k, 503, R"({"error":{"message":"Slow down","type":"slow_down","code":"slow_down"}})",
       OutcomeKind::kOverloaded},
      {k, 402,
       R"({"error":{"message":"Insufficient Balance","type":"unknown_error","param":null,"code":"invalid_request_error"}})",
       OutcomeKind::kQuota},
      {k, 402, R"({"error":{"code":402,"message":"This request requires more credits"}})",
       OutcomeKind::kQuota},
      {k, 502,
       R"({"error":{"code":429,"message":"Provider returned error","metadata":{"raw":"slow"}}})",
       OutcomeKind::kRateLimited},
      {k, 422, R"({"detail":[{"loc":["body"],"msg":"field required"}]})", OutcomeKind::kBadRequest},
      {k, 401, R"({"detail":"Unauthorized"})", OutcomeKind::kAuth},
      {k, 400, R"({"error":"model is required"})", OutcomeKind::kBadRequest},
      {k, 500, R"({"error":{"message":"bad","type":"invalid_request_error"}})",
       OutcomeKind::kBadRequest},
      {k, 400,
       R"([{"error":{"code":400,"message":"API key not valid.","status":"INVALID_ARGUMENT","details":[{"reason":"API_KEY_INVALID"}]}}])",
       OutcomeKind::kAuth},
  });
}

TEST(Classify, Anthropic) {
  constexpr Kind k = Kind::kAnthropic;
  Expect({
      {k, 401,
       R"({"type":"error","error":{"type":"authentication_error","message":"invalid x-api-key"}})",
       OutcomeKind::kAuth},
      {k, 403, R"({"type":"error","error":{"type":"permission_error","message":"no"}})",
       OutcomeKind::kAuth},
      {k, 403, R"({"error":{"type":"forbidden","message":"Request not allowed"}})",
       OutcomeKind::kAuth},
      {k, 404, R"({"type":"error","error":{"type":"not_found_error","message":"model: claude-9"}})",
       OutcomeKind::kModelNotFound},
      {k, 400,
       R"({"type":"error","error":{"type":"invalid_request_error","message":"Your credit balance is too low to access the Anthropic API."}})",
       OutcomeKind::kQuota},
      {k, 400,
       R"({"type":"error","error":{"type":"invalid_request_error","message":"You have reached your specified API usage limits."}})",
       OutcomeKind::kQuota},
      {k, 402, R"({"type":"error","error":{"type":"billing_error","message":"pay"}})",
       OutcomeKind::kQuota},
      {k, 400,
       R"({"type":"error","error":{"type":"invalid_request_error","message":"prompt is too long: 215000 tokens > 200000 maximum"}})",
       OutcomeKind::kContextLength},
      {k, 400,
       R"({"type":"error","error":{"type":"invalid_request_error","message":"input length and `max_tokens` exceed context limit: 1 + 2 > 2"}})",
       OutcomeKind::kContextLength},
      {k, 400,
       R"({"type":"error","error":{"type":"invalid_request_error","message":"Output blocked by content filtering policy"}})",
       OutcomeKind::kRefusal},
      {k, 400,
       R"({"type":"error","error":{"type":"invalid_request_error","message":"messages: roles must alternate"}})",
       OutcomeKind::kBadRequest},
      {k, 400,
       R"({"type":"error","error":{"type":"invalid_request_error","message":"This organization has been disabled."}})",
       OutcomeKind::kAuth},
      {k, 413, R"({"type":"error","error":{"type":"request_too_large","message":"x"}})",
       OutcomeKind::kBadRequest},
      {k, 429, R"({"type":"error","error":{"type":"rate_limit_error","message":"x"}})",
       OutcomeKind::kRateLimited},
      {k, 500, R"({"type":"error","error":{"type":"api_error","message":"Internal server error"}})",
       OutcomeKind::kServerError},
      {k, 504, R"({"type":"error","error":{"type":"timeout_error","message":"x"}})",
       OutcomeKind::kServerError},
      {k, 529, R"({"type":"error","error":{"type":"overloaded_error","message":"Overloaded"}})",
       OutcomeKind::kOverloaded},
      {k, 500, R"({"type":"error","error":{"type":"overloaded_error","message":"Overloaded"}})",
       OutcomeKind::kOverloaded},
      {k, 529, R"({"type":"error","error":{"type":"api_error","message":"x"}})",
       OutcomeKind::kOverloaded},
  });
}

TEST(Classify, Gemini) {
  constexpr Kind k = Kind::kGemini;
  Expect({
      {k, 400,
       R"({"error":{"code":400,"message":"API key not valid. Please pass a valid API key.","status":"INVALID_ARGUMENT","details":[{"@type":"type.googleapis.com/google.rpc.ErrorInfo","reason":"API_KEY_INVALID","domain":"googleapis.com"}]}})",
       OutcomeKind::kAuth},
      {k, 400,
       R"({"error":{"code":400,"message":"User location is not supported for the API use.","status":"FAILED_PRECONDITION"}})",
       OutcomeKind::kAuth},
      {k, 400,
       R"({"error":{"code":400,"message":"Gemini API free tier is not available in your country. Please enable billing on your project.","status":"FAILED_PRECONDITION"}})",
       OutcomeKind::kQuota},
      {k, 400,
       R"({"error":{"code":400,"message":"The input token count (1200000) exceeds the maximum number of tokens allowed (1048576).","status":"INVALID_ARGUMENT"}})",
       OutcomeKind::kContextLength},
      {k, 400,
       R"({"error":{"code":400,"message":"Invalid JSON payload received.","status":"INVALID_ARGUMENT"}})",
       OutcomeKind::kBadRequest},
      {k, 403, R"({"error":{"code":403,"message":"denied","status":"PERMISSION_DENIED"}})",
       OutcomeKind::kAuth},
      {k, 404,
       R"({"error":{"code":404,"message":"models/x is not found for API version v1beta","status":"NOT_FOUND"}})",
       OutcomeKind::kModelNotFound},
      {k, 429,
       R"({"error":{"code":429,"message":"You exceeded your current quota, please check your plan and billing details.","status":"RESOURCE_EXHAUSTED","details":[{"violations":[{"quotaId":"GenerateRequestsPerMinutePerProjectPerModel-FreeTier"}]}]}})",
       OutcomeKind::kRateLimited},
      {k, 429,
       R"({"error":{"code":429,"message":"You exceeded your current quota","status":"RESOURCE_EXHAUSTED","details":[{"violations":[{"quotaId":"GenerateRequestsPerDayPerProjectPerModel-FreeTier"}]}]}})",
       OutcomeKind::kQuota},
      {k, 429,
       R"({"error":{"code":429,"message":"Your prepayment credits are depleted.","status":"RESOURCE_EXHAUSTED"}})",
       OutcomeKind::kQuota},
      {k, 500,
       R"({"error":{"code":500,"message":"An internal error has occurred.","status":"INTERNAL"}})",
       OutcomeKind::kServerError},
      {k, 503,
       R"({"error":{"code":503,"message":"The model is overloaded.","status":"UNAVAILABLE"}})",
       OutcomeKind::kOverloaded},
      {k, 504,
       R"({"error":{"code":504,"message":"Deadline expired","status":"DEADLINE_EXCEEDED"}})",
       OutcomeKind::kServerError},
      {k, 400,
       R"([{"error":{"code":400,"message":"API Key not found.","status":"INVALID_ARGUMENT"}}])",
       OutcomeKind::kAuth},
  });
}

TEST(Classify, RetryInfoOfTheBody) {
  const core::Outcome outcome =
      Classify(Kind::kGemini, 429,
               R"({"error":{"code":429,"message":"x","status":"RESOURCE_EXHAUSTED","details":[
          {"@type":"type.googleapis.com/google.rpc.RetryInfo","retryDelay":"38.5s"}]}})");
  EXPECT_EQ(outcome.retry_after, std::chrono::milliseconds(38500));
}

TEST(Classify, ShouldRetry) {
  EXPECT_EQ(Classify(Kind::kOpenAi, 500, "", {{"x-should-retry", "false"}}).should_retry, false);
  EXPECT_EQ(Classify(Kind::kOpenAi, 400, "", {{"x-should-retry", "True"}}).should_retry, true);
  EXPECT_EQ(Classify(Kind::kOpenAi, 400, "", {{"x-should-retry", "maybe"}}).should_retry,
            std::nullopt);
  EXPECT_EQ(Classify(Kind::kOpenAi, 400, "").should_retry, std::nullopt);
}

TEST(Classify, ABadHeaderNeverChangesTheKind) {
  for (const char* value : {"", "nan", "-1", "\xFF", "Zun, 29 Sep", "99999999999999999999"}) {
    const core::Outcome outcome =
        Classify(Kind::kAnthropic, 429, "", {{"retry-after", value}, {"retry-after-ms", value}});
    EXPECT_EQ(outcome.kind, OutcomeKind::kRateLimited);
  }
}

TEST(Classify, TheTextIsTheProvidersWithoutItsSecrets) {
  EXPECT_EQ(Classify(Kind::kOpenAi, 400, R"({"error":{"message":"messages[0] is\nwrong"}})").error,
            "messages[0] is wrong");
  EXPECT_EQ(
      Classify(Kind::kOpenAi, 401,
               R"({"error":{"message":"Incorrect API key provided: sk-test-key-0123456789."}})")
          .error,
      "Incorrect API key provided: ***.");
  EXPECT_EQ(Classify(Kind::kOpenAi, 502, "<html>nginx</html>").error, "HTTP 502");
  EXPECT_EQ(Classify(Kind::kOpenAi, 502, "no healthy upstream\n").error, "no healthy upstream");
  EXPECT_EQ(Classify(Kind::kOpenAi, 400, R"({"error":{"code":"weird"}})").error, "weird");
}

}  // namespace
}  // namespace holdfast::providers
