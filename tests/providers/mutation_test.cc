// Whatever a server sends, there is one outcome, the sink's rules hold, and nothing crashes.

#include <random>

#include "tests/providers/transcripts.h"

namespace holdfast::testing {
namespace {

constexpr int kSeeds = 3000;

const std::vector<Transcript>& Originals() {
  static const std::vector<Transcript> originals = [] {
    core::Request json = UserAsks("Hi");
    json.response_format.kind = core::ResponseFormat::Kind::kJsonObject;
    return std::vector<Transcript>{
        {.kind = Kind::kOpenAi,
         .body = Events(
             {R"({"choices":[{"index":0,"delta":{"role":"assistant","content":"H\u00e9 \ud83d\ude00"}}]})",
              R"({"choices":[{"index":0,"delta":{"tool_calls":[{"index":0,"id":"a","function":{"name":"f","arguments":"{\"a\":"}}]}}]})",
              R"({"choices":[{"index":0,"delta":{"tool_calls":[{"index":0,"function":{"arguments":"1}"}}]}}]})",
              R"({"choices":[{"index":0,"delta":{"refusal":"no","reasoning":"hm"},"finish_reason":"tool_calls"}]})",
              R"({"choices":[],"usage":{"prompt_tokens":11,"completion_tokens":20,"prompt_tokens_details":{"cached_tokens":8}}})",
              "[DONE]"})},
        {.kind = Kind::kOpenAi,
         .body =
             R"({"choices":[{"index":0,"message":{"content":"Hi"},"finish_reason":"stop"}],"usage":{"prompt_tokens":1}})",
         .headers = {{"content-type", "application/json"}}},
        {.kind = Kind::kAnthropic,
         .body = Events(
             {R"({"type":"message_start","message":{"role":"assistant","content":[],"usage":{"input_tokens":25,"output_tokens":1}}})",
              R"({"type":"content_block_start","index":0,"content_block":{"type":"text","text":""}})",
              R"({"type":"content_block_delta","index":0,"delta":{"type":"text_delta","text":"H\ud83d\ude00"}})",
              R"({"type":"content_block_start","index":1,"content_block":{"type":"tool_use","id":"t","name":"f","input":{}}})",
              R"({"type":"content_block_delta","index":1,"delta":{"type":"input_json_delta","partial_json":"{\"a\":1}"}})",
              R"({"type":"content_block_stop","index":1})",
              R"({"type":"message_delta","delta":{"stop_reason":"tool_use"},"usage":{"output_tokens":15}})",
              R"({"type":"message_stop"})"}),
         .request = json},
        {.kind = Kind::kGemini,
         .body = Events(
             {R"({"candidates":[{"content":{"parts":[{"text":"H"},{"text":"hm","thought":true},{"functionCall":{"name":"f","args":{"a":[1,{}]}}}]},"index":0}]})",
              R"({"candidates":[{"finishReason":"STOP"}],"usageMetadata":{"promptTokenCount":10,"thoughtsTokenCount":7}})"})},
        {.kind = Kind::kGemini,
         .body =
             R"({"error":{"code":429,"message":"quota","status":"RESOURCE_EXHAUSTED","details":[{"retryDelay":"38s"},{"violations":[{"quotaId":"PerDay"}]}]}})",
         .status = 429,
         .headers = {{"retry-after", "Thu, 01 Jan 2026 00:00:20 GMT"},
                     {"x-ratelimit-remaining-a", "0"},
                     {"x-ratelimit-reset-a", "1m2s"},
                     {"anthropic-ratelimit-b-remaining", "0"},
                     {"anthropic-ratelimit-b-reset", "2026-01-01T00:00:07.5+00:00"}}},
        {.kind = Kind::kAnthropic,
         .body = R"({"type":"error","error":{"type":"rate_limit_error","message":"slow"}})",
         .status = 529},
    };
  }();
  return originals;
}

class Mutator {
 public:
  explicit Mutator(unsigned seed) : random_(seed) {}

  size_t Below(size_t n) { return n == 0 ? 0 : random_() % n; }

  void Mutate(std::string& text) {
    static const std::vector<std::string> kPieces = {"null",
                                                     "\"",
                                                     "{",
                                                     "}",
                                                     "[",
                                                     "]",
                                                     ",",
                                                     "\\",
                                                     "\\ud83d",
                                                     "\\ude00",
                                                     "\xFF",
                                                     "\xF0\x9F",
                                                     "\n",
                                                     "\n\n",
                                                     "\r",
                                                     "data: ",
                                                     "event: error\n",
                                                     "-1",
                                                     "1e308",
                                                     "99999999999999999999",
                                                     "0",
                                                     "\0",
                                                     "{\"error\":{}}",
                                                     "\"finish_reason\":\"stop\"",
                                                     "[DONE]",
                                                     ":",
                                                     "true",
                                                     "\"index\":-7,"};
    const size_t at = Below(text.size() + 1);
    switch (Below(4)) {
      case 0:
        text.insert(at, kPieces[Below(kPieces.size())]);
        break;
      case 1:
        text.erase(at, Below(12));
        break;
      case 2:
        if (at < text.size()) text[at] = static_cast<char>(Below(256));
        break;
      case 3:
        text.insert(at, text.substr(Below(text.size()), Below(40)));
        break;
    }
  }

 private:
  std::mt19937 random_;
};

TEST(Mutation, AlwaysOneOutcomeHoweverItIsCut) {
  for (unsigned seed = 0; seed < kSeeds; ++seed) {
    Mutator mutator(seed);
    Transcript transcript = Originals()[seed % Originals().size()];
    for (size_t n = 1 + mutator.Below(4); n > 0; --n) mutator.Mutate(transcript.body);
    HttpHeaders headers;
    for (const auto& [name, value] : transcript.headers) {
      std::string mutated = value;
      if (mutator.Below(2) == 0) mutator.Mutate(mutated);
      headers.Add(name, mutated);
    }
    transcript.headers = headers;
    if (mutator.Below(4) == 0) transcript.end = HttpEnd::Kind::kCut;
    if (mutator.Below(6) == 0) transcript.kind = static_cast<Kind>(mutator.Below(3));
    SCOPED_TRACE("seed " + std::to_string(seed));
    const Heard whole = Hear(transcript);
    const std::string_view body = transcript.body;
    const size_t cut = mutator.Below(body.size() + 1);
    ExpectSame(whole, Hear(transcript, {body.substr(0, cut), body.substr(cut)}));
    EXPECT_LE(whole.outcome.error.size(), 512u);
    if (whole.outcome.retry_after) {
      EXPECT_GT(*whole.outcome.retry_after, core::Duration::zero());
    }
    if (transcript.status != 200) {
      EXPECT_TRUE(whole.sink.text.empty());
    }
    if (HasFailure()) return;
  }
}

TEST(Mutation, NestingHasALimitAndNoStack) {
  for (const char open : {'[', '{'}) {
    std::string deep(2'000'000, open);
    EXPECT_EQ(Hear({.body = "data: " + deep + "\n\n"}).outcome.kind, OutcomeKind::kMalformed);
    EXPECT_EQ(Hear({.body = deep, .status = 500}).outcome.kind, OutcomeKind::kServerError);
  }
}

}  // namespace
}  // namespace holdfast::testing
