#include "providers/anthropic.h"

#include <nlohmann/json.hpp>

#include "tests/providers/transcripts.h"

namespace holdfast::testing {
namespace {

using Json = nlohmann::json;
using core::Request;
using core::Role;

Json Encoded(const Request& request, const providers::ModelOptions& model = {},
             std::string_view prefix = {}) {
  const auto format = MakeFormat(Kind::kAnthropic, model);
  EXPECT_EQ(format->Inexpressible(request), std::nullopt);
  return Json::parse(format->Encode(request, prefix));
}

bool Expressible(const Request& request, const providers::ModelOptions& model = {}) {
  return !MakeFormat(Kind::kAnthropic, model)->Inexpressible(request);
}

// The event's name is its type.
std::string NamedEvents(const std::vector<std::string>& data) {
  std::string body;
  for (const std::string& line : data) {
    body += "event: " + Json::parse(line)["type"].get<std::string>() + "\ndata: " + line + "\n\n";
  }
  return body;
}

Transcript Stream(const std::vector<std::string>& data, Request request = {}) {
  return {.kind = Kind::kAnthropic, .body = NamedEvents(data), .request = std::move(request)};
}

const char kStart[] =
    R"({"type":"message_start","message":{"id":"msg_1","type":"message","role":"assistant","content":[],
     "model":"claude","stop_reason":null,"stop_sequence":null,"usage":{"input_tokens":25,
     "cache_creation_input_tokens":100,"cache_read_input_tokens":1000,"output_tokens":1}}})";
const char kTextStart[] =
    R"({"type":"content_block_start","index":0,"content_block":{"type":"text","text":""}})";
const char kPing[] = R"({"type":"ping"})";
const char kMessageStop[] = R"({"type":"message_stop"})";

std::string Start() {
  std::string line = kStart;
  std::erase(line, '\n');
  return line;
}
std::string TextDelta(const std::string& text) {
  return R"({"type":"content_block_delta","index":0,"delta":{"type":"text_delta","text":")" + text +
         "\"}}";
}
std::string InputDelta(int index, const std::string& json) {
  return Json{{"type", "content_block_delta"},
              {"index", index},
              {"delta", {{"type", "input_json_delta"}, {"partial_json", json}}}}
      .dump();
}
std::string ToolStart(int index, const std::string& id, const std::string& name) {
  return Json{{"type", "content_block_start"},
              {"index", index},
              {"content_block",
               {{"type", "tool_use"}, {"id", id}, {"name", name}, {"input", Json::object()}}}}
      .dump();
}
std::string BlockStop(int index) {
  return Json{{"type", "content_block_stop"}, {"index", index}}.dump();
}
std::string MessageDelta(const std::string& reason) {
  return R"({"type":"message_delta","delta":{"stop_reason":")" + reason +
         R"(","stop_sequence":null},"usage":{"output_tokens":15}})";
}

TEST(AnthropicEncode, Continuation) {
  const std::string prefix = " \xE2\x82\xAC\n\"so\" far";
  const Json messages = Encoded(UserAsks("Hi"), {}, prefix)["messages"];
  ASSERT_EQ(messages.size(), 2u);
  EXPECT_EQ(messages[1]["role"], "assistant");
  EXPECT_EQ(messages[1]["content"].back()["text"], prefix);
}

TEST(AnthropicEncode, ModelsThatTakeAPrefill) {
  const auto takes = [](const std::string& model) {
    return MakeFormat(Kind::kAnthropic, {.model = model})->ContinuesPrefix();
  };
  for (const char* model :
       {"claude-3-haiku-20240307", "claude-3-5-sonnet-20241022", "claude-2.1", "claude-opus-4-0",
        "claude-opus-4-20250514", "claude-sonnet-4-5-20250929", "claude-haiku-4-5",
        "anthropic.claude-opus-4-5-20251101-v1:0", "claude-sonnet-4-5@20250929", "claude-instant",
        "my-own", ""}) {
    EXPECT_TRUE(takes(model)) << model;
  }
  for (const char* model :
       {"claude-opus-4-6", "claude-sonnet-4-6-20260217", "anthropic/claude-opus-4.6",
        "claude-opus-4-7", "claude-opus-4-10", "claude-sonnet-5", "claude-opus-5-20260801",
        "us.anthropic.claude-sonnet-4-6-v1:0", "claude-fable-5", "claude-mythos-preview"}) {
    EXPECT_FALSE(takes(model)) << model;
  }
}

TEST(AnthropicEncode, TheSmallestRequest) {
  EXPECT_EQ(Encoded(UserAsks("Hi")), Json::parse(R"({
    "model": "model-1", "max_tokens": 4096, "stream": true,
    "messages": [{"role": "user", "content": [{"type": "text", "text": "Hi"}]}]})"));
}

TEST(AnthropicEncode, Settings) {
  Request request = UserAsks("Hi");
  request.max_output_tokens = 7;
  request.temperature = 1;
  request.top_p = 0.5;
  request.stop = {"END"};
  const Json body = Encoded(request);
  EXPECT_EQ(body["max_tokens"], 7);
  EXPECT_EQ(body["temperature"], 1);
  EXPECT_EQ(body["top_p"], 0.5);
  EXPECT_EQ(body["stop_sequences"], Json::parse(R"(["END"])"));
  EXPECT_EQ(Encoded(UserAsks("Hi"), {.max_output_tokens = 99})["max_tokens"], 99);
}

TEST(AnthropicEncode, SystemMessagesAreJoinedAndNeighboursMerged) {
  Request request;
  request.messages = {
      {Role::kSystem, {core::Text{"Be brief."}}},
      {Role::kUser, {core::Text{"One"}}},
      {Role::kSystem, {core::Text{"Be kind."}}},
      {Role::kUser, {core::Text{""}, core::Text{"Two"}}},
      {Role::kAssistant, {core::Text{"Three"}}},
      {Role::kAssistant, {core::Text{"Four"}}},
      {Role::kUser, {core::Text{"Five"}}},
  };
  const Json body = Encoded(request);
  EXPECT_EQ(body["system"], "Be brief.\n\nBe kind.");
  EXPECT_EQ(body["messages"], Json::parse(R"([
    {"role": "user", "content": [{"type": "text", "text": "One"}, {"type": "text", "text": "Two"}]},
    {"role": "assistant", "content": [{"type": "text", "text": "Three"}, {"type": "text", "text": "Four"}]},
    {"role": "user", "content": [{"type": "text", "text": "Five"}]}])"));
}

TEST(AnthropicEncode, ToolsAndTheirResultsInOneUserTurn) {
  Request request;
  request.messages = {
      {Role::kUser, {core::Text{"Weather?"}}},
      {Role::kAssistant,
       {core::Text{"Let me see."}, core::ToolCall{"call.a", "weather", R"({"city":"Oslo"})"},
        core::ToolCall{"call_b", "weather", ""}}},
      {Role::kTool, {core::ToolResult{"call.a", "weather", "cold", false}}},
      {Role::kTool, {core::ToolResult{"call_b", "weather", "no city", true}}},
      {Role::kUser, {core::Text{"So?"}}},
  };
  request.tools = {{"weather", "Looks out", R"({"type":"object","properties":{}})"}};
  request.tool_choice.kind = core::ToolChoice::Kind::kRequired;
  const Json body = Encoded(request);
  EXPECT_EQ(body["messages"][1], Json::parse(R"({"role": "assistant", "content": [
    {"type": "text", "text": "Let me see."},
    {"type": "tool_use", "id": "call_a", "name": "weather", "input": {"city": "Oslo"}},
    {"type": "tool_use", "id": "call_b", "name": "weather", "input": {}}]})"));
  EXPECT_EQ(body["messages"][2], Json::parse(R"({"role": "user", "content": [
    {"type": "tool_result", "tool_use_id": "call_a", "content": "cold"},
    {"type": "tool_result", "tool_use_id": "call_b", "content": "no city", "is_error": true},
    {"type": "text", "text": "So?"}]})"));
  EXPECT_EQ(body["tools"], Json::parse(R"([{"name": "weather", "description": "Looks out",
    "input_schema": {"type": "object", "properties": {}}}])"));
  EXPECT_EQ(body["tool_choice"], Json::parse(R"({"type": "any"})"));
}

TEST(AnthropicEncode, Images) {
  Request request;
  request.messages = {
      {Role::kUser,
       {core::Image{"https://x.test/a.png", "", ""}, core::Image{"", "png", "image/png"},
        core::Image{"data:image/gif;base64,R0lG", "", ""}}}};
  EXPECT_EQ(Encoded(request)["messages"][0]["content"], Json::parse(R"([
    {"type": "image", "source": {"type": "url", "url": "https://x.test/a.png"}},
    {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "cG5n"}},
    {"type": "image", "source": {"type": "base64", "media_type": "image/gif", "data": "R0lG"}}])"));
}

TEST(AnthropicEncode, APrefixContinuesTheAssistantsTurn) {
  const Json body = Encoded(UserAsks("Tell"), {}, "Once");
  EXPECT_EQ(body["messages"][1],
            Json::parse(R"({"role":"assistant","content":[{"type":"text","text":"Once"}]})"));
}

Request AsksForJson() {
  Request request = UserAsks("Hi");
  request.response_format = {core::ResponseFormat::Kind::kJsonSchema, "answer",
                             R"({"type":"object","properties":{"a":{"type":"integer"}}})"};
  return request;
}

TEST(AnthropicEncode, AResponseFormatIsAForcedTool) {
  const Json body = Encoded(AsksForJson());
  ASSERT_EQ(body["tools"].size(), 1u);
  EXPECT_EQ(body["tools"][0]["name"], "answer");
  EXPECT_EQ(body["tools"][0]["input_schema"],
            Json::parse(R"({"type":"object","properties":{"a":{"type":"integer"}}})"));
  EXPECT_EQ(body["tool_choice"]["type"], "tool");
  EXPECT_EQ(body["tool_choice"]["name"], "answer");
}

TEST(AnthropicInexpressible, WhatTheKindCannot) {
  Request request = UserAsks("Hi");
  request.seed = 1;
  EXPECT_FALSE(Expressible(request));

  request = UserAsks("Hi");
  for (const auto& [temperature, fits] : {std::pair{0.99, true}, {1.0, true}, {1.01, false}}) {
    request.temperature = temperature;
    EXPECT_EQ(Expressible(request), fits) << temperature;
  }

  request = AsksForJson();
  EXPECT_TRUE(Expressible(request));
  request.tools = {{"t", "", ""}};
  EXPECT_FALSE(Expressible(request));
  request = AsksForJson();
  EXPECT_FALSE(Expressible(request, {.json_schema = false}));
  request.response_format.schema = R"({"type":"array"})";
  EXPECT_FALSE(Expressible(request));

  request = UserAsks("Hi");
  request.stop = {" \n"};
  EXPECT_FALSE(Expressible(request));

  request.messages = {{Role::kUser, {core::Image{"http://x.test/a.png", "", ""}}}};
  request.stop.clear();
  EXPECT_FALSE(Expressible(request));
  request.messages = {{Role::kUser, {core::Image{"", "x", "image/tiff"}}}};
  EXPECT_FALSE(Expressible(request));

  request.messages = {{Role::kAssistant, {core::Text{"Hello!"}}},
                      {Role::kUser, {core::Text{"Hi"}}}};
  EXPECT_FALSE(Expressible(request));
  request.messages = {{Role::kSystem, {core::Text{"Be brief"}}}};
  EXPECT_FALSE(Expressible(request));
}

TEST(AnthropicDecode, ATextWithUsage) {
  const Heard heard = HearHoweverCut(
      Stream({Start(), kTextStart, kPing, TextDelta("Hello"), TextDelta(" w\\u00f6rld 😀"),
              BlockStop(0), MessageDelta("end_turn"), kMessageStop}));
  EXPECT_EQ(heard.outcome.kind, OutcomeKind::kComplete);
  EXPECT_EQ(heard.sink.text, "Hello wörld 😀");
  EXPECT_EQ(heard.sink.reason, FinishReason::kStop);
  EXPECT_EQ(heard.sink.usage.input_tokens, 1125);
  EXPECT_EQ(heard.sink.usage.cached_input_tokens, 1000);
  EXPECT_EQ(heard.sink.usage.output_tokens, 15);
}

TEST(AnthropicDecode, StopReasons) {
  const std::vector<std::pair<std::string, FinishReason>> cases = {
      {"end_turn", FinishReason::kStop},
      {"stop_sequence", FinishReason::kStop},
      {"pause_turn", FinishReason::kStop},
      {"max_tokens", FinishReason::kLength},
      {"model_context_window_exceeded", FinishReason::kLength},
      {"tool_use", FinishReason::kToolCalls},
      {"something_new", FinishReason::kUnspecified}};
  for (const auto& [word, reason] : cases) {
    const Heard heard = Hear(Stream({Start(), kTextStart, TextDelta("x"), MessageDelta(word)}));
    EXPECT_EQ(heard.outcome.kind, OutcomeKind::kComplete) << word;
    EXPECT_EQ(heard.sink.reason, reason) << word;
  }
}

TEST(AnthropicDecode, ARefusal) {
  const Heard silent = Hear(Stream({Start(), MessageDelta("refusal"), kMessageStop}));
  EXPECT_EQ(silent.outcome.kind, OutcomeKind::kRefusal);
  EXPECT_EQ(silent.sink.reason, FinishReason::kRefusal);
  const Heard spoken =
      Hear(Stream({Start(), kTextStart, TextDelta("No."), MessageDelta("refusal"), kMessageStop}));
  EXPECT_EQ(spoken.outcome.kind, OutcomeKind::kRefusal);
  EXPECT_EQ(spoken.sink.text, "No.");
}

TEST(AnthropicDecode, ParallelToolCalls) {
  const Heard heard = HearHoweverCut(
      Stream({Start(), kTextStart, TextDelta("Let me see."), BlockStop(0),
              ToolStart(1, "toolu_a", "weather"), InputDelta(1, ""), InputDelta(1, R"({"city": )"),
              InputDelta(1, R"("Oslo"})"), BlockStop(1), ToolStart(2, "toolu_b", "now"),
              BlockStop(2), MessageDelta("tool_use"), kMessageStop}));
  EXPECT_EQ(heard.outcome.kind, OutcomeKind::kComplete);
  EXPECT_EQ(heard.sink.text, "Let me see.");
  EXPECT_EQ(heard.sink.reason, FinishReason::kToolCalls);
  EXPECT_EQ(heard.sink.calls,
            (std::vector<RecordedCall>{{"toolu_a", "weather", R"({"city": "Oslo"})"},
                                       {"toolu_b", "now", "{}"}}));
}

TEST(AnthropicDecode, AToolsInputGivenAtItsStart) {
  const Heard heard = Hear(Stream(
      {Start(),
       R"({"type":"content_block_start","index":0,"content_block":{"type":"tool_use","id":"t","name":"f","input":{"a":1}}})",
       MessageDelta("tool_use"), kMessageStop}));
  EXPECT_EQ(heard.sink.calls, (std::vector<RecordedCall>{{"t", "f", R"({"a":1})"}}));
}

TEST(AnthropicDecode, TheForcedToolsInputIsTheAnswer) {
  const Heard heard = HearHoweverCut(
      Stream({Start(), kTextStart, TextDelta("Here you are:"), BlockStop(0),
              ToolStart(1, "toolu_a", "answer"), InputDelta(1, R"({"a")"), InputDelta(1, ": 1}"),
              BlockStop(1), MessageDelta("tool_use"), kMessageStop},
             AsksForJson()));
  EXPECT_EQ(heard.outcome.kind, OutcomeKind::kComplete);
  EXPECT_EQ(heard.sink.text, R"({"a": 1})");
  EXPECT_EQ(heard.sink.reason, FinishReason::kStop);
  EXPECT_TRUE(heard.sink.calls.empty());
}

TEST(AnthropicDecode, ThinkingIsNoContent) {
  const Heard heard = HearHoweverCut(Stream(
      {Start(),
       R"({"type":"content_block_start","index":0,"content_block":{"type":"thinking","thinking":"","signature":""}})",
       R"({"type":"content_block_delta","index":0,"delta":{"type":"thinking_delta","thinking":"hmm"}})",
       R"({"type":"content_block_delta","index":0,"delta":{"type":"signature_delta","signature":"Eq=="}})",
       BlockStop(0),
       R"({"type":"content_block_start","index":1,"content_block":{"type":"text","text":"4"}})",
       MessageDelta("end_turn"), kMessageStop}));
  EXPECT_EQ(heard.sink.reasonings, 1);
  EXPECT_EQ(heard.sink.text, "4");
}

TEST(AnthropicDecode, AnErrorInsideTheStream) {
  const auto error = [](const std::string& type) {
    return R"({"type":"error","error":{"type":")" + type + R"(","message":"Sorry"}})";
  };
  const std::vector<std::pair<std::string, OutcomeKind>> cases = {
      {"overloaded_error", OutcomeKind::kOverloaded},
      {"api_error", OutcomeKind::kServerError},
      {"rate_limit_error", OutcomeKind::kRateLimited},
      {"invalid_request_error", OutcomeKind::kBadRequest},
      {"something_new", OutcomeKind::kServerError}};
  for (const auto& [type, kind] : cases) {
    const Heard heard =
        HearHoweverCut(Stream({Start(), kTextStart, TextDelta("Hel"), error(type)}));
    EXPECT_EQ(heard.outcome.kind, kind) << type;
    EXPECT_EQ(heard.outcome.error, "Sorry");
    EXPECT_EQ(heard.sink.text, "Hel");
  }
}

TEST(AnthropicDecode, EndsWithoutAReasonAreCuts) {
  EXPECT_EQ(Hear(Stream({Start(), kTextStart, TextDelta("Hel")})).outcome.kind, OutcomeKind::kCut);
  EXPECT_EQ(Hear(Stream({Start(), kTextStart, TextDelta("x"), kMessageStop})).outcome.kind,
            OutcomeKind::kCut);
  // message_stop may be missing where the reason is there.
  EXPECT_EQ(
      Hear(Stream({Start(), kTextStart, TextDelta("x"), MessageDelta("end_turn")})).outcome.kind,
      OutcomeKind::kComplete);
}

TEST(AnthropicDecode, AWholeReplyInsteadOfAStream) {
  const Heard heard =
      HearHoweverCut({.kind = Kind::kAnthropic,
                      .body = R"({"id":"msg_1","type":"message","role":"assistant","content":[
          {"type":"thinking","thinking":"hm","signature":"x"},{"type":"text","text":"Hi"},
          {"type":"tool_use","id":"t","name":"f","input":{"a":[1]}}],
          "stop_reason":"tool_use","usage":{"input_tokens":5,"output_tokens":6}})",
                      .headers = {{"content-type", "application/json"}}});
  EXPECT_EQ(heard.outcome.kind, OutcomeKind::kComplete);
  EXPECT_EQ(heard.sink.text, "Hi");
  EXPECT_EQ(heard.sink.calls, (std::vector<RecordedCall>{{"t", "f", R"({"a":[1]})"}}));
  EXPECT_EQ(heard.sink.usage.input_tokens, 5);
}

}  // namespace
}  // namespace holdfast::testing
