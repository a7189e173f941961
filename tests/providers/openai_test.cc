#include "providers/openai.h"

#include <nlohmann/json.hpp>

#include "tests/providers/transcripts.h"

namespace holdfast::testing {
namespace {

using Json = nlohmann::json;
using core::Request;
using core::Role;

Json Encoded(const Request& request, const providers::ModelOptions& model = {},
             std::string_view prefix = {}) {
  const auto format = MakeFormat(Kind::kOpenAi, model);
  EXPECT_EQ(format->Inexpressible(request), std::nullopt);
  return Json::parse(format->Encode(request, prefix));
}

std::optional<std::string> Inexpressible(const Request& request,
                                         const providers::ModelOptions& model = {}) {
  return MakeFormat(Kind::kOpenAi, model)->Inexpressible(request);
}

Transcript Stream(std::vector<std::string> data) {
  return {.kind = Kind::kOpenAi, .body = Events(data)};
}

std::string Delta(const std::string& delta, const std::string& finish = "null") {
  return R"({"id":"chatcmpl-1","object":"chat.completion.chunk","choices":[{"index":0,"delta":)" +
         delta + R"(,"logprobs":null,"finish_reason":)" + finish + "}]}";
}

TEST(OpenAiEncode, TheSmallestRequest) {
  EXPECT_EQ(Encoded(UserAsks("Hi")), Json::parse(R"({
    "model": "model-1", "messages": [{"role": "user", "content": "Hi"}],
    "stream": true, "stream_options": {"include_usage": true}})"));
}

// What was sent so far goes in byte for byte, as the beginning of the one last message.
TEST(OpenAiEncode, Continuation) {
  using Continuation = providers::ModelOptions::Continuation;
  const std::string prefix = " \xE2\x82\xAC\n\"so\" far";
  EXPECT_EQ(Encoded(UserAsks("Hi"), {}, prefix)["messages"],
            Json::parse(R"([{"role": "user", "content": "Hi"},
                            {"role": "assistant", "content": " €\n\"so\" far"}])"));
  const Json vllm =
      Encoded(UserAsks("Hi"), {.continuation = Continuation::kContinueFinalMessage}, prefix);
  EXPECT_EQ(vllm["continue_final_message"], true);
  EXPECT_EQ(vllm["add_generation_prompt"], false);
  EXPECT_EQ(vllm["messages"][1]["content"], prefix);
  const Json deepseek = Encoded(UserAsks("Hi"), {.continuation = Continuation::kPrefix}, prefix);
  EXPECT_EQ(deepseek["messages"][1]["prefix"], true);
  EXPECT_FALSE(deepseek.contains("continue_final_message"));

  Request begun = UserAsks("Hi");
  begun.messages.push_back({Role::kAssistant, {core::Text{"It is"}}});
  const Json messages = Encoded(begun, {.continuation = Continuation::kPrefix}, " so")["messages"];
  ASSERT_EQ(messages.size(), 2u);
  EXPECT_EQ(messages[1]["content"], "It is so");

  for (const Continuation continuation :
       {Continuation::kNone, Continuation::kContinueFinalMessage, Continuation::kPrefix}) {
    EXPECT_EQ(Encoded(UserAsks("Hi"), {.continuation = continuation}), Encoded(UserAsks("Hi")))
        << "a fresh answer is asked for as ever";
    EXPECT_EQ(MakeFormat(Kind::kOpenAi, {.continuation = continuation})->ContinuesPrefix(),
              continuation != Continuation::kNone);
  }
}

TEST(OpenAiEncode, Settings) {
  Request request = UserAsks("Hi");
  request.max_output_tokens = 7;
  request.temperature = 0;
  request.top_p = 0.5;
  request.stop = {"END", "\n"};
  request.seed = 0;
  const Json body = Encoded(request, {.stream_usage = false});
  EXPECT_EQ(body["max_tokens"], 7);
  EXPECT_EQ(body["temperature"], 0);
  EXPECT_EQ(body["top_p"], 0.5);
  EXPECT_EQ(body["stop"], Json::parse(R"(["END", "\n"])"));
  EXPECT_EQ(body["seed"], 0);
  EXPECT_FALSE(body.contains("stream_options"));
  const Json newer = Encoded(
      request, {.max_tokens_field = providers::ModelOptions::MaxTokensField::kMaxCompletionTokens});
  EXPECT_EQ(newer["max_completion_tokens"], 7);
  EXPECT_FALSE(newer.contains("max_tokens"));
}

TEST(OpenAiEncode, AConversationWithToolsKeepsItsOrder) {
  Request request;
  request.messages = {
      {Role::kSystem, {core::Text{"Be brief."}}},
      {Role::kUser, {core::Text{"Weather in Oslo and Rome?"}}},
      {Role::kAssistant,
       {core::ToolCall{"call_a", "weather", R"({"city":"Oslo"})"},
        core::ToolCall{"call_b", "weather", ""}}},
      {Role::kTool, {core::ToolResult{"call_a", "weather", "cold", false}}},
      {Role::kTool, {core::ToolResult{"call_b", "weather", "no city", true}}},
      {Role::kSystem, {core::Text{"Now in German."}}},
      {Role::kAssistant, {core::Text{"Kalt"}, core::Text{"."}}},
      {Role::kUser, {core::Text{"Danke"}}},
  };
  request.tools = {{"weather", "Looks out of the window",
                    R"({"type":"object","properties":{"city":{"type":"string"}}})"},
                   {"now", "", ""}};
  request.tool_choice = {core::ToolChoice::Kind::kNamed, "weather"};
  const Json body = Encoded(request);
  EXPECT_EQ(body["messages"], Json::parse(R"([
    {"role": "system", "content": "Be brief."},
    {"role": "user", "content": "Weather in Oslo and Rome?"},
    {"role": "assistant", "content": null, "tool_calls": [
      {"id": "call_a", "type": "function", "function": {"name": "weather", "arguments": "{\"city\":\"Oslo\"}"}},
      {"id": "call_b", "type": "function", "function": {"name": "weather", "arguments": "{}"}}]},
    {"role": "tool", "tool_call_id": "call_a", "content": "cold"},
    {"role": "tool", "tool_call_id": "call_b", "content": "Error: no city"},
    {"role": "system", "content": "Now in German."},
    {"role": "assistant", "content": "Kalt."},
    {"role": "user", "content": "Danke"}])"));
  EXPECT_EQ(body["tools"], Json::parse(R"([
    {"type": "function", "function": {"name": "weather", "description": "Looks out of the window",
     "parameters": {"type": "object", "properties": {"city": {"type": "string"}}}}},
    {"type": "function", "function": {"name": "now",
     "parameters": {"type": "object", "properties": {}}}}])"));
  EXPECT_EQ(body["tool_choice"],
            Json::parse(R"({"type": "function", "function": {"name": "weather"}})"));
}

TEST(OpenAiEncode, ToolChoices) {
  Request request = UserAsks("Hi");
  request.tools = {{"t", "", ""}};
  EXPECT_FALSE(Encoded(request).contains("tool_choice"));
  request.tool_choice.kind = core::ToolChoice::Kind::kNone;
  EXPECT_EQ(Encoded(request)["tool_choice"], "none");
  request.tool_choice.kind = core::ToolChoice::Kind::kRequired;
  EXPECT_EQ(Encoded(request)["tool_choice"], "required");
}

TEST(OpenAiEncode, ImagesByUrlAndBytes) {
  Request request;
  request.messages = {{Role::kUser,
                       {core::Text{"What is this?"}, core::Image{"https://x.test/a.png", "", ""},
                        core::Image{"", std::string("\x00\xFFpng", 5), "image/png"}}}};
  EXPECT_EQ(Encoded(request)["messages"][0]["content"], Json::parse(R"([
    {"type": "text", "text": "What is this?"},
    {"type": "image_url", "image_url": {"url": "https://x.test/a.png"}},
    {"type": "image_url", "image_url": {"url": "data:image/png;base64,AP9wbmc="}}])"));
}

TEST(OpenAiEncode, ResponseFormats) {
  Request request = UserAsks("Give me JSON");
  request.response_format.kind = core::ResponseFormat::Kind::kJsonObject;
  EXPECT_EQ(Encoded(request)["response_format"], Json::parse(R"({"type": "json_object"})"));
  EXPECT_EQ(Encoded(request)["messages"].size(), 1);

  request.response_format = {core::ResponseFormat::Kind::kJsonSchema, "my answer",
                             R"({"type":"object","properties":{"b":{"type":"string"},"a":{}}})"};
  EXPECT_EQ(Encoded(request)["response_format"], Json::parse(R"({"type": "json_schema",
    "json_schema": {"name": "my_answer",
      "schema": {"type":"object","properties":{"b":{"type":"string"},"a":{}}}}})"));
  // The order of properties is the order in which the model writes.
  const std::string text = MakeFormat(Kind::kOpenAi)->Encode(request, {});
  EXPECT_LT(text.find("\"b\""), text.find("\"a\""));
}

TEST(OpenAiEncode, StrictOnlyWhereTheSchemaAllowsIt) {
  Request request = UserAsks("Hi");
  request.response_format = {
      core::ResponseFormat::Kind::kJsonSchema, "r",
      R"({"type":"object","properties":{"a":{"type":"string"}},"required":["a"],"additionalProperties":false})"};
  EXPECT_EQ(Encoded(request)["response_format"]["json_schema"]["strict"], true);
  request.response_format.schema =
      R"({"type":"object","properties":{"a":{"type":"object"}},"required":["a"],"additionalProperties":false})";
  EXPECT_FALSE(Encoded(request)["response_format"]["json_schema"].contains("strict"));
}

TEST(OpenAiEncode, JsonModeSaysTheWordThatTheProviderDemands) {
  Request request = UserAsks("List three colours");
  request.response_format.kind = core::ResponseFormat::Kind::kJsonObject;
  EXPECT_EQ(Encoded(request)["messages"][0]["role"], "system");
  EXPECT_EQ(Encoded(request)["messages"][1]["content"], "List three colours");
}

TEST(OpenAiEncode, APrefixIsTheLastMessage) {
  const Json body = Encoded(UserAsks("Tell"), {}, "Once upon ");
  EXPECT_EQ(body["messages"][1], Json::parse(R"({"role":"assistant","content":"Once upon "})"));
}

TEST(OpenAiEncode, InvalidUtf8CannotBreakTheBody) {
  EXPECT_EQ(Encoded(UserAsks("a\xFFz"))["messages"][0]["content"], "a\uFFFDz");
}

TEST(OpenAiInexpressible, WhatTheModelCannot) {
  Request tools = UserAsks("Hi");
  tools.tools = {{"t", "", ""}};
  EXPECT_TRUE(Inexpressible(tools, {.tools = false}));
  EXPECT_FALSE(Inexpressible(tools));

  Request history = UserAsks("Hi");
  history.messages.push_back({Role::kAssistant, {core::ToolCall{"1", "t", "{}"}}});
  EXPECT_TRUE(Inexpressible(history, {.tools = false}));

  Request image;
  image.messages = {{Role::kUser, {core::Image{"https://x.test/a.png", "", ""}}}};
  EXPECT_TRUE(Inexpressible(image, {.images = false}));
  EXPECT_TRUE(Inexpressible(image, {.image_urls = false}));
  EXPECT_FALSE(Inexpressible(image));
  image.messages[0].parts = {core::Image{"gs://bucket/a.png", "", ""}};
  EXPECT_TRUE(Inexpressible(image));
  image.messages = {{Role::kAssistant, {core::Image{"https://x.test/a.png", "", ""}}}};
  EXPECT_TRUE(Inexpressible(image));

  Request schema = UserAsks("Hi");
  schema.response_format = {core::ResponseFormat::Kind::kJsonSchema, "r", "{}"};
  EXPECT_TRUE(Inexpressible(schema, {.json_schema = false}));
  EXPECT_FALSE(Inexpressible(schema));

  Request seed = UserAsks("Hi");
  seed.seed = 1;
  EXPECT_TRUE(Inexpressible(seed, {.seed = false}));
}

TEST(OpenAiInexpressible, TemperatureAboveTheModelsRange) {
  Request request = UserAsks("Hi");
  request.temperature = 1.5;
  EXPECT_FALSE(Inexpressible(request, {.max_temperature = 1.6}));
  EXPECT_FALSE(Inexpressible(request, {.max_temperature = 1.5}));
  EXPECT_TRUE(Inexpressible(request, {.max_temperature = 1.4}));
}

TEST(OpenAiInexpressible, MoreStopSequencesThanItTakes) {
  Request request = UserAsks("Hi");
  request.stop = {"a", "b", "c"};
  EXPECT_FALSE(Inexpressible(request));
  request.stop.push_back("d");
  EXPECT_FALSE(Inexpressible(request));
  request.stop.push_back("e");
  EXPECT_TRUE(Inexpressible(request));
  EXPECT_FALSE(Inexpressible(request, {.max_stop_sequences = 16}));
}

TEST(OpenAiInexpressible, ASchemaTooDeepToBeWritten) {
  Request request = UserAsks("Hi");
  const std::string deep =
      "{\"a\":" + std::string(1'000'000, '[') + std::string(1'000'000, ']') + "}";
  request.tools = {{"t", "", deep}};
  EXPECT_TRUE(Inexpressible(request));
}

TEST(OpenAiDecode, ATextWithUsage) {
  const Heard heard = HearHoweverCut(Stream({
      Delta(R"({"role":"assistant","content":"","refusal":null})"),
      Delta(R"({"content":"Hello"})"),
      Delta(R"({"content":", w\u00f6rld \ud83d\ude00 \u20ac"})"),
      Delta("{}", R"("stop")"),
      R"({"id":"x","choices":[],"usage":{"prompt_tokens":11,"completion_tokens":20,"total_tokens":31,
          "prompt_tokens_details":{"cached_tokens":8},"completion_tokens_details":{"reasoning_tokens":5}}})",
      "[DONE]",
  }));
  EXPECT_EQ(heard.outcome.kind, OutcomeKind::kComplete);
  EXPECT_EQ(heard.outcome.http_status, 200);
  EXPECT_EQ(heard.outcome.error, "");
  EXPECT_EQ(heard.sink.text, "Hello, wörld 😀 €");
  EXPECT_EQ(heard.sink.texts, 2);
  EXPECT_EQ(heard.sink.reason, FinishReason::kStop);
  EXPECT_EQ(heard.sink.usage.input_tokens, 11);
  EXPECT_EQ(heard.sink.usage.cached_input_tokens, 8);
  EXPECT_EQ(heard.sink.usage.output_tokens, 20);
  EXPECT_EQ(heard.sink.usage.reasoning_tokens, 5);
}

TEST(OpenAiDecode, CrLfCommentsPaddingAndUnknownThings) {
  const Heard heard = HearHoweverCut(
      {.body = ": OPENROUTER PROCESSING\r\n\r\nevent: message\r\nid: 7\r\nretry: 10\r\n"
               "data:   " +
               Delta(R"({"content":"A","new_field":[1,{"x":null}]})") +
               "  \r\n\r\n"
               "data: {\"type\":\"telemetry\",\"obfuscation\":\"xyz\"}\r\n\r\n"
               "unknown: field\r\ndata: {\"choices\":\r\ndata: "
               "[{\"delta\":{\"content\":\"B\"}}]}\r\n\r\n"
               "data: " +
               Delta("{}", R"("length")") + "\r\n\r\ndata: [DONE]\r\n\r\n"});
  EXPECT_EQ(heard.outcome.kind, OutcomeKind::kComplete);
  EXPECT_EQ(heard.sink.text, "AB");
  EXPECT_EQ(heard.sink.reason, FinishReason::kLength);
  EXPECT_EQ(heard.outcome.skipped_events, 0u);
}

TEST(OpenAiDecode, ParallelToolCallsWithArgumentsInFragments) {
  const Heard heard = HearHoweverCut(Stream({
      Delta(
          R"({"role":"assistant","content":null,"tool_calls":[{"index":0,"id":"call_a","type":"function","function":{"name":"weather","arguments":""}}]})"),
      Delta(R"({"tool_calls":[{"index":0,"function":{"arguments":"{\"ci"}}]})"),
      Delta(
          R"({"tool_calls":[{"index":1,"id":"call_b","type":"function","function":{"name":"clock","arguments":""}}]})"),
      Delta(R"({"tool_calls":[{"index":0,"function":{"arguments":"ty\":\"\u00d8\"}"}}]})"),
      Delta("{}", R"("tool_calls")"),
      "[DONE]",
  }));
  EXPECT_EQ(heard.outcome.kind, OutcomeKind::kComplete);
  EXPECT_EQ(heard.sink.reason, FinishReason::kToolCalls);
  EXPECT_EQ(heard.sink.calls, (std::vector<RecordedCall>{{"call_a", "weather", R"({"city":"Ø"})"},
                                                         {"call_b", "clock", "{}"}}));
}

TEST(OpenAiDecode, ToolCallsOfServersWithLooseHabits) {
  // Every call has index 0; the whole call at once; ends with "stop".
  const Heard same_index = HearHoweverCut(Stream({
      Delta(
          R"({"tool_calls":[{"index":0,"id":"a","function":{"name":"f","arguments":"{\"x\":1}"}}]})"),
      Delta(
          R"({"tool_calls":[{"index":0,"id":"b","function":{"name":"g","arguments":"{\"x\":2}"}}]})"),
      Delta("{}", R"("stop")"),
  }));
  EXPECT_EQ(same_index.sink.calls,
            (std::vector<RecordedCall>{{"a", "f", R"({"x":1})"}, {"b", "g", R"({"x":2})"}}));
  EXPECT_EQ(same_index.sink.reason, FinishReason::kToolCalls);

  // No index, id and name repeated, arguments as an object, no id at all.
  const Heard loose = HearHoweverCut(Stream({
      Delta(R"({"tool_calls":[{"id":"a","function":{"name":"f","arguments":"{"}}]})"),
      Delta(R"({"tool_calls":[{"id":"a","function":{"name":"f","arguments":"}"}}]})"),
      Delta("{}", R"("tool_calls")"),
  }));
  EXPECT_EQ(loose.sink.calls, (std::vector<RecordedCall>{{"a", "f", "{}"}}));

  const Heard object = HearHoweverCut(Stream({
      Delta(
          R"({"tool_calls":[{"function":{"name":"f","arguments":{"a": [1, "x"]}}},{"function":{"name":"g"}}]})"),
      Delta("{}", R"("tool_calls")"),
  }));
  ASSERT_EQ(object.sink.calls.size(), 2u);
  EXPECT_EQ(object.sink.calls[0].arguments, R"({"a":[1,"x"]})");
  EXPECT_EQ(object.sink.calls[1].arguments, "{}");
  EXPECT_NE(object.sink.calls[0].id, object.sink.calls[1].id);

  // The old way.
  const Heard legacy = HearHoweverCut(Stream({
      Delta(R"({"function_call":{"name":"f","arguments":"{\"a\""}})"),
      Delta(R"({"function_call":{"arguments":":1}"}})"),
      Delta("{}", R"("function_call")"),
  }));
  ASSERT_EQ(legacy.sink.calls.size(), 1u);
  EXPECT_EQ(legacy.sink.calls[0].arguments, R"({"a":1})");
  EXPECT_EQ(legacy.sink.reason, FinishReason::kToolCalls);
}

TEST(OpenAiDecode, ARefusalIsNoAnswer) {
  const Heard heard = HearHoweverCut(Stream({
      Delta(R"({"role":"assistant","content":null})"),
      Delta(R"({"refusal":"I can't "})"),
      Delta(R"({"refusal":"help."})"),
      Delta("{}", R"("stop")"),
      "[DONE]",
  }));
  EXPECT_EQ(heard.outcome.kind, OutcomeKind::kRefusal);
  EXPECT_EQ(heard.sink.text, "I can't help.");
  EXPECT_EQ(heard.sink.reason, FinishReason::kRefusal);
}

TEST(OpenAiDecode, AContentFilterIsARefusal) {
  const Heard heard = HearHoweverCut(
      Stream({Delta(R"({"content":"Well"})"), Delta("{}", R"("content_filter")"), "[DONE]"}));
  EXPECT_EQ(heard.outcome.kind, OutcomeKind::kRefusal);
  EXPECT_EQ(heard.sink.reason, FinishReason::kContentFilter);
  EXPECT_EQ(heard.sink.text, "Well");
}

TEST(OpenAiDecode, ReasoningIsNoContent) {
  const Heard heard = HearHoweverCut(Stream({
      Delta(R"({"reasoning_content":"hmm"})"),
      Delta(R"({"reasoning":"hmm"})"),
      Delta(R"({"content":[{"type":"thinking","thinking":[]},{"type":"text","text":"4"}]})"),
      Delta("{}", R"("stop")"),
  }));
  EXPECT_EQ(heard.sink.reasonings, 3);
  EXPECT_EQ(heard.sink.text, "4");
  const Heard only =
      Hear(Stream({Delta(R"({"reasoning_content":"hmm"})"), Delta("{}", R"("stop")")}));
  EXPECT_EQ(only.outcome.kind, OutcomeKind::kMalformed);
}

TEST(OpenAiDecode, UsageOfOtherServers) {
  const std::string answer = Delta(R"({"content":"x"})");
  const Heard groq = Hear(Stream(
      {answer,
       R"({"choices":[{"index":0,"delta":{},"finish_reason":"stop"}],"x_groq":{"usage":{"prompt_tokens":3,"completion_tokens":4}}})"}));
  EXPECT_EQ(groq.sink.usage.input_tokens, 3);
  const Heard deepseek = Hear(Stream(
      {answer, Delta("{}", R"("stop")"),
       R"({"usage":{"prompt_tokens":3,"completion_tokens":4,"prompt_cache_hit_tokens":2}})"}));
  EXPECT_EQ(deepseek.sink.usage.cached_input_tokens, 2);
  const Heard xai = Hear(Stream(
      {answer, Delta("{}", R"("stop")"),
       R"({"usage":{"prompt_tokens":3,"completion_tokens":4,"total_tokens":17,"completion_tokens_details":{"reasoning_tokens":10}}})"}));
  EXPECT_EQ(xai.sink.usage.output_tokens, 14);
  const Heard odd = Hear(
      Stream({answer, Delta("{}", R"("stop")"),
              R"({"usage":{"prompt_tokens":-3,"completion_tokens":4.0,"total_tokens":"x"}})"}));
  EXPECT_EQ(odd.sink.usage.input_tokens, 0);
  EXPECT_EQ(odd.sink.usage.output_tokens, 4);
}

TEST(OpenAiDecode, AReasonSaidAgainAsStopKeepsItsMeaning) {
  const Heard heard = HearHoweverCut(
      Stream({Delta(R"({"content":"x"})", R"("length")"), Delta("{}", R"("stop")"), "[DONE]"}));
  EXPECT_EQ(heard.sink.reason, FinishReason::kLength);
}

TEST(OpenAiDecode, OnlyTheFirstChoiceCounts) {
  const Heard heard = Hear(Stream(
      {R"({"choices":[{"index":1,"delta":{"content":"no"}},{"index":0,"delta":{"content":"yes"},"finish_reason":"stop"}]})"}));
  EXPECT_EQ(heard.sink.text, "yes");
}

TEST(OpenAiDecode, AnErrorInsideTheStream) {
  const Heard heard = HearHoweverCut(Stream({
      Delta(R"({"content":"Hel"})"),
      R"({"error":{"message":"Rate limit reached","type":"tokens","param":null,"code":"rate_limit_exceeded"}})",
  }));
  EXPECT_EQ(heard.outcome.kind, OutcomeKind::kRateLimited);
  EXPECT_EQ(heard.outcome.http_status, 200);
  EXPECT_EQ(heard.outcome.error, "Rate limit reached");
  EXPECT_EQ(heard.sink.text, "Hel");

  EXPECT_EQ(Hear(Stream({R"({"error":{"code":502,"message":"upstream"}})"})).outcome.kind,
            OutcomeKind::kServerError);
  EXPECT_EQ(Hear(Stream({R"({"error":{"code":"429","message":"slow"}})"})).outcome.kind,
            OutcomeKind::kRateLimited);
  EXPECT_EQ(Hear(Stream({R"({"error":{"code":503,"message":"x"}})"})).outcome.kind,
            OutcomeKind::kOverloaded);
  EXPECT_EQ(Hear({.body = "event: error\ndata: boom\n\n"}).outcome.kind, OutcomeKind::kServerError);
  EXPECT_EQ(Hear(Stream({Delta(R"({"content":"a"})"), Delta("{}", R"("error")")})).outcome.kind,
            OutcomeKind::kServerError);
  EXPECT_EQ(Hear(Stream({Delta("{}", R"("insufficient_system_resource")")})).outcome.kind,
            OutcomeKind::kOverloaded);
}

TEST(OpenAiDecode, AnErrorAfterTheFinishReasonChangesNothing) {
  const Heard heard = HearHoweverCut(Stream({Delta(R"({"content":"All"})", R"("stop")"),
                                             R"({"error":{"message":"late","code":"500"}})"}));
  EXPECT_EQ(heard.outcome.kind, OutcomeKind::kComplete);
}

TEST(OpenAiDecode, ANullErrorIsNone) {
  const Heard heard = Hear(
      Stream({R"({"error":null,"choices":[{"delta":{"content":"a"},"finish_reason":"stop"}]})"}));
  EXPECT_EQ(heard.outcome.kind, OutcomeKind::kComplete);
}

TEST(OpenAiDecode, AWholeReplyInsteadOfAStream) {
  const Heard heard = HearHoweverCut(
      {.body =
           R"(  {"id":"x","object":"chat.completion","choices":[{"index":0,"message":{"role":"assistant",
          "content":"Hi","tool_calls":[{"id":"c","type":"function","function":{"name":"f","arguments":"{}"}}]},
          "finish_reason":"tool_calls"}],"usage":{"prompt_tokens":1,"completion_tokens":2}})",
       .headers = {{"content-type", "application/json; charset=utf-8"}}});
  EXPECT_EQ(heard.outcome.kind, OutcomeKind::kComplete);
  EXPECT_EQ(heard.sink.text, "Hi");
  EXPECT_EQ(heard.sink.calls.size(), 1u);
  EXPECT_EQ(heard.sink.usage.output_tokens, 2);
}

}  // namespace
}  // namespace holdfast::testing
