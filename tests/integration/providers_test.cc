// The three wire formats, streamed, through the whole service: the same request of any kind means
// the same at each, and each way to break is told for what it is.

#include <nlohmann/json.hpp>

#include "gmock/gmock.h"
#include "tests/integration/service_fixture.h"

namespace holdfast::testing {
namespace {

using ::testing::AnyOf;
using ::testing::ElementsAre;
using ::testing::EndsWith;
using ::testing::HasSubstr;
using ::testing::Not;
using ::testing::SizeIs;
using ::testing::StartsWith;

constexpr char kUnicode[] = " Voilà: a naïve, made-up reply ✓ 🙂.";

struct Kind {
  std::string route;
  std::string model;
};

void PrintTo(const Kind& kind, std::ostream* out) { *out << kind.route; }

class ProvidersTest : public ServiceFixture, public ::testing::WithParamInterface<Kind> {
 protected:
  void SetUp() override {
    ServiceFixture::SetUp();
    Settings settings;
    settings.retry = "{max_retries: 0}";
    settings.breaker = "{consecutive_failures: 1000, failure_rate: 0, black_hole: 0}";
    Start(settings);
  }
  const std::string& model() const { return GetParam().model; }
  v1::GenerateRequest Ours(const std::string& text) { return Question(text, GetParam().route); }
};

v1::Tool& AddTool(v1::GenerateRequest& request, const std::string& name) {
  v1::Tool& tool = *request.add_tools();
  tool.set_name(name);
  tool.set_description("Looks things up.");
  tool.set_parameters_json_schema(
      R"({"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]})");
  return tool;
}

TEST_P(ProvidersTest, TextStreamedWithUsage) {
  const Reply reply = Generate(Ours("What is a fjord?"));
  ASSERT_TRUE(reply.ok()) << reply.status.error_message();
  EXPECT_THAT(reply.text(),
              StartsWith("[" + model() + "] simulated answer to: What is a fjord?" + kUnicode));
  EXPECT_EQ(reply.response.finish_reason(), v1::FINISH_REASON_STOP);
  EXPECT_GT(reply.response.usage().input_tokens(), 0);
  EXPECT_GT(reply.response.usage().output_tokens(), 10);
  EXPECT_FALSE(reply.response.attempts(0).usage_estimated());
  EXPECT_EQ(sim_->Attempts(model())[0]["streamed"], true);
}

TEST_P(ProvidersTest, ConversationsWithASystemPrompt) {
  v1::GenerateRequest request = Ours("And Spain?");
  const v1::Message last = request.messages(0);
  request.clear_messages();
  for (const auto& [role, text] :
       {std::pair("system", "Answer briefly."), std::pair("user", "What is the capital of France?"),
        std::pair("assistant", "Paris.")}) {
    v1::Message& message = *request.add_messages();
    message.set_role(role);
    message.set_content(text);
  }
  *request.add_messages() = last;
  const Reply reply = Generate(request);
  ASSERT_TRUE(reply.ok()) << reply.status.error_message();
  EXPECT_THAT(reply.text(), HasSubstr("And Spain?"));
  EXPECT_GT(reply.response.usage().input_tokens(),
            Generate(Ours("And Spain?")).response.usage().input_tokens());
}

TEST_P(ProvidersTest, ParallelToolCallsAndTheirResults) {
  v1::GenerateRequest request = Ours("Use the tool in parallel for Rome and Oslo.");
  AddTool(request, "weather");
  AddTool(request, "time");
  const Reply reply = Generate(request);
  ASSERT_TRUE(reply.ok()) << reply.status.error_message();
  EXPECT_EQ(reply.response.finish_reason(), v1::FINISH_REASON_TOOL_CALLS);
  EXPECT_EQ(reply.text(), "");
  const auto& parts = reply.response.message().parts();
  ASSERT_THAT(parts, SizeIs(2));
  EXPECT_EQ(parts[0].tool_call().name(), "weather");
  EXPECT_EQ(parts[1].tool_call().name(), "time");
  EXPECT_NE(parts[0].tool_call().id(), parts[1].tool_call().id());
  EXPECT_NE(parts[0].tool_call().id(), "");
  for (const v1::Part& part : parts) {
    EXPECT_TRUE(Json::parse(part.tool_call().arguments()).contains("city"));
  }
  // The answer goes back as it came, with what the tools said.
  *request.add_messages() = reply.response.message();
  v1::Message& results = *request.add_messages();
  results.set_role("tool");
  for (const v1::Part& part : parts) {
    v1::ToolResult& result = *results.add_parts()->mutable_tool_result();
    result.set_tool_call_id(part.tool_call().id());
    result.set_content("sunny");
  }
  const Reply second = Generate(request);
  ASSERT_TRUE(second.ok()) << second.status.error_message();
  EXPECT_THAT(second.text(), HasSubstr("sunny"));
}

TEST_P(ProvidersTest, ToolChoice) {
  v1::GenerateRequest request = Ours("Please use the tool.");
  AddTool(request, "weather");
  AddTool(request, "time");
  request.mutable_tool_choice()->set_mode(v1::ToolChoice::MODE_NONE);
  EXPECT_EQ(Generate(request).response.finish_reason(), v1::FINISH_REASON_STOP);
  request.mutable_messages(0)->set_content("What is a fjord?");
  request.mutable_tool_choice()->set_mode(v1::ToolChoice::MODE_REQUIRED);
  EXPECT_EQ(Generate(request).response.finish_reason(), v1::FINISH_REASON_TOOL_CALLS);
  request.mutable_tool_choice()->set_mode(v1::ToolChoice::MODE_NAMED);
  request.mutable_tool_choice()->set_name("time");
  const Reply reply = Generate(request);
  ASSERT_TRUE(reply.ok()) << reply.status.error_message();
  EXPECT_EQ(reply.response.message().parts(0).tool_call().name(), "time");
  request.clear_tool_choice();
  EXPECT_EQ(Generate(request).response.finish_reason(), v1::FINISH_REASON_STOP);
}

TEST_P(ProvidersTest, JsonObjectsAndSchemas) {
  v1::GenerateRequest request = Ours("Give me json about fjords.");
  request.mutable_response_format()->set_kind(v1::ResponseFormat::KIND_JSON_OBJECT);
  Reply reply = Generate(request);
  ASSERT_TRUE(reply.ok()) << reply.status.error_message();
  EXPECT_TRUE(Json::parse(reply.text(), nullptr, false).is_object()) << reply.text();
  EXPECT_EQ(reply.response.finish_reason(), v1::FINISH_REASON_STOP);
  request.mutable_response_format()->set_kind(v1::ResponseFormat::KIND_JSON_SCHEMA);
  request.mutable_response_format()->set_json_schema(
      R"({"type": "object", "properties": {"depth": {"type": "integer"}}, "required": ["depth"],
          "additionalProperties": false})");
  reply = Generate(request);
  ASSERT_TRUE(reply.ok()) << reply.status.error_message();
  EXPECT_TRUE(Json::parse(reply.text(), nullptr, false)["depth"].is_number_integer())
      << reply.text();
  if (model() == "claude") return;  // there the JSON is a tool call's, which is always JSON
  sim_->Break(model(), R"({"kind": "invalid_json_answer"})");
  EXPECT_EQ(Generate(request).response.attempts(0).outcome(), "invalid_json");
}

TEST_P(ProvidersTest, Images) {
  v1::GenerateRequest request = Ours("x");
  request.mutable_messages(0)->clear_content();
  request.mutable_messages(0)->add_parts()->set_text("What is in these pictures?");
  v1::Image& data = *request.mutable_messages(0)->add_parts()->mutable_image();
  data.set_data(std::string("\x89PNG\r\n\x1a\n\0\0", 10));
  data.set_mime_type("image/png");
  request.mutable_messages(0)->add_parts()->mutable_image()->set_url("https://example.com/a.png");
  const Reply reply = Generate(request);
  ASSERT_TRUE(reply.ok()) << reply.status.error_message();
  EXPECT_THAT(reply.text(), HasSubstr("What is in these pictures?"));
  EXPECT_GT(reply.response.usage().input_tokens(), 2 * 85);
}

TEST_P(ProvidersTest, StopAndLength) {
  v1::GenerateRequest request = Ours("What is a fjord?");
  request.add_stop("naïve");
  Reply reply = Generate(request);
  ASSERT_TRUE(reply.ok()) << reply.status.error_message();
  EXPECT_THAT(reply.text(), EndsWith("Voilà: a "));
  EXPECT_EQ(reply.response.finish_reason(), v1::FINISH_REASON_STOP);
  request.clear_stop();
  request.set_max_output_tokens(4);
  reply = Generate(request);
  EXPECT_EQ(reply.response.finish_reason(), v1::FINISH_REASON_LENGTH);
  EXPECT_EQ(reply.response.usage().output_tokens(), 4);
}

TEST_P(ProvidersTest, CachedTokensAreAPartOfTheInput) {
  v1::GenerateRequest request = Ours("What was that?");
  const v1::Message last = request.messages(0);
  request.mutable_messages(0)->set_content(std::string(20000, 'x'));
  v1::Message& answer = *request.add_messages();
  answer.set_role("assistant");
  answer.set_content("Many an x.");
  *request.add_messages() = last;
  const v1::Usage usage = Generate(request).response.usage();
  EXPECT_GT(usage.cached_input_tokens(), 1000);
  EXPECT_GT(usage.input_tokens(), usage.cached_input_tokens());
}

TEST_P(ProvidersTest, RefusalsAreTold) {
  for (const char* fault :
       {R"({"kind": "refusal"})", R"({"kind": "content_filter", "after": 3})"}) {
    sim_->Break(model(), fault);
    const Reply reply = Generate(Ours("What is a fjord?"));
    ASSERT_TRUE(reply.ok()) << reply.status.error_message();
    EXPECT_EQ(reply.response.attempts(0).outcome(), "refusal") << fault;
    EXPECT_THAT(reply.response.finish_reason(),
                AnyOf(v1::FINISH_REASON_REFUSAL, v1::FINISH_REASON_CONTENT_FILTER));
    EXPECT_FALSE(reply.response.partial());
  }
}

TEST_P(ProvidersTest, OddButGoodStreams) {
  const std::string whole = Generate(Ours("What is a fjord?")).text();
  std::vector<std::string> faults = {R"({"kind": "split_utf8", "size": 5})",
                                     R"({"kind": "split_utf8", "crlf": true, "size": 7})",
                                     R"({"kind": "malformed", "what": "line", "after": 2})",
                                     R"({"kind": "slow_headers", "ms": 20})"};
  if (model() != "flash") faults.emplace_back(R"({"kind": "no_done"})");
  for (const std::string& fault : faults) {
    sim_->Break(model(), fault);
    const Reply reply = Generate(Ours("What is a fjord?"));
    EXPECT_EQ(reply.text(), whole) << fault;
    EXPECT_EQ(reply.response.finish_reason(), v1::FINISH_REASON_STOP) << fault;
    EXPECT_FALSE(reply.response.partial()) << fault;
  }
}

TEST_P(ProvidersTest, EveryWayToBreakIsToldForWhatItIs) {
  struct Case {
    std::string fault;
    std::string outcome;
    int status;
  };
  const bool anthropic = model() == "claude";
  const Case cases[] = {
      {R"({"kind": "status", "status": 500})", "server_error", 500},
      {R"({"kind": "status", "status": 502, "body": "<html>bad gateway</html>"})", "server_error",
       502},
      {R"({"kind": "status", "status": 503})", "overloaded", 503},
      {R"({"kind": "status", "status": 408})", "request_timeout", 408},
      {R"({"kind": "status", "status": 409})", "conflict", 409},
      {R"({"kind": "model_not_found"})", "model_not_found", 404},
      {R"({"kind": "empty", "what": "answer"})", "malformed", 200},
      {R"({"kind": "empty", "what": "body"})", "malformed", 200},
      {R"({"kind": "malformed", "what": "json"})", "malformed", 200},
      {R"({"kind": "reset"})", "connect", 0},
      {R"({"kind": "cut", "after": 5, "how": "rst"})", "cut", 200},
      {R"({"kind": "cut", "after": 5, "how": "fin"})", "cut", 200},
      {R"({"kind": "cut", "after": 5, "how": "end"})", "cut", 200},
      {R"({"kind": "cut", "at": "mid_character", "how": "rst"})", "cut", 200},
      {R"({"kind": "cut", "after": 5, "how": "error_event"})",
       model() == "gpt" ? "server_error" : "overloaded", 200},  // OpenAI has no word for it
      {R"({"kind": "before_content", "how": "fin"})", "cut", 200},
      {R"({"kind": "auth"})", "auth", anthropic ? 401 : -1},
  };
  for (const Case& c : cases) {
    sim_->Break(model(), c.fault);
    const Reply reply = Generate(Ours("What is a fjord?"));
    ASSERT_FALSE(reply.response.attempts().empty()) << c.fault << reply.status.error_message();
    // The last: a kept connection that is reset is tried once more, free of charge.
    const v1::Attempt& attempt = *reply.response.attempts().rbegin();
    EXPECT_EQ(attempt.outcome(), c.outcome) << c.fault;
    if (c.status >= 0) EXPECT_EQ(attempt.http_status(), c.status) << c.fault;
    EXPECT_TRUE(reply.response.partial()) << c.fault;
  }
}

TEST_P(ProvidersTest, ADeadKeptConnectionIsReplacedAtOnce) {
  ASSERT_TRUE(Generate(Ours("What is a fjord?")).ok());
  sim_->Break(model(), R"([{"kind": "dead_keepalive", "times": 1}])");
  const Reply reply = Generate(Ours("What is a fjord?"));
  EXPECT_THAT(reply.Outcomes(), ElementsAre(model() + ":pooled_reset", model() + ":complete"));
  EXPECT_EQ(StatusOf(model()).breaker().failures(), 0);
  for (const Json& attempt : sim_->Attempts(model())) {
    EXPECT_EQ(attempt["holdfast_attempt"], nullptr);  // takes no number
  }
}

TEST_P(ProvidersTest, NobodyListens) {
  sim_->Break(model(), R"({"kind": "refuse", "seconds": 0.3})");
  const Reply reply = Generate(Ours("What is a fjord?"));
  EXPECT_EQ(reply.response.attempts().rbegin()->outcome(), "connect");
  EXPECT_EQ(reply.response.attempts().rbegin()->http_status(), 0);
}

INSTANTIATE_TEST_SUITE_P(Kinds, ProvidersTest,
                         ::testing::Values(Kind{"anthropic", "claude"}, Kind{"openai", "gpt"},
                                           Kind{"gemini", "flash"}),
                         [](const auto& test) { return test.param.route; });

TEST_F(ServiceFixture, ReasoningTokens) {
  StartYaml(R"(
embedder: {kind: hash}
listen: 127.0.0.1:0
admin_listen: 127.0.0.1:0
providers:
  - {name: openai, kind: openai, base_url: "${SIM}/v1"}
  - {name: gemini, kind: gemini, base_url: "${SIM}"}
routes:
  - {name: openai, chain: [{provider: openai, model: o3-mini}]}
  - {name: gemini, chain: [{provider: gemini, model: gemini-2.5-pro}]}
)");
  for (const char* route : {"openai", "gemini"}) {
    const Reply reply = Generate(Question("What is a fjord?", route));
    ASSERT_TRUE(reply.ok()) << reply.status.error_message();
    EXPECT_GT(reply.response.usage().reasoning_tokens(), 0) << route;
    EXPECT_GT(reply.response.usage().output_tokens(), reply.response.usage().reasoning_tokens());
  }
}

}  // namespace
}  // namespace holdfast::testing
