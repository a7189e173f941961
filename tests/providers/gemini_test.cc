#include "providers/gemini.h"

#include <nlohmann/json.hpp>

#include "tests/providers/transcripts.h"

namespace holdfast::testing {
namespace {

using Json = nlohmann::json;
using core::Request;
using core::Role;

Json Encoded(const Request& request, const providers::ModelOptions& model = {},
             std::string_view prefix = {}) {
  const auto format = MakeFormat(Kind::kGemini, model);
  EXPECT_EQ(format->Inexpressible(request), std::nullopt);
  return Json::parse(format->Encode(request, prefix));
}

bool Expressible(const Request& request, const providers::ModelOptions& model = {}) {
  return !MakeFormat(Kind::kGemini, model)->Inexpressible(request);
}

Transcript Stream(const std::vector<std::string>& data) {
  std::string body;
  for (const std::string& line : data) body += "data: " + line + "\r\n\r\n";
  return {.kind = Kind::kGemini, .body = body};
}

std::string Parts(const std::string& parts, const std::string& finish = "") {
  std::string reason;
  if (!finish.empty()) reason = R"(,"finishReason":")" + finish + "\"";
  return R"({"candidates":[{"content":{"parts":[)" + parts + R"(],"role":"model"},"index":0)" +
         reason + R"(}],"modelVersion":"gemini"})";
}

TEST(GeminiEncode, Continuation) {
  EXPECT_EQ(Encoded(UserAsks("Hi"), {}, " \xE2\x82\xAC\nso far")["contents"],
            Json::parse(R"([{"role": "user", "parts": [{"text": "Hi"}]},
                            {"role": "model", "parts": [{"text": " €\nso far"}]}])"));
  EXPECT_TRUE(MakeFormat(Kind::kGemini, {})->ContinuesPrefix());
}

TEST(GeminiEncode, TheSmallestRequest) {
  EXPECT_EQ(Encoded(UserAsks("Hi")),
            Json::parse(R"({"contents": [{"role": "user", "parts": [{"text": "Hi"}]}]})"));
}

TEST(GeminiEncode, SettingsAndSystem) {
  Request request = UserAsks("Hi");
  request.messages.insert(request.messages.begin(), {Role::kSystem, {core::Text{"One"}}});
  request.messages.push_back({Role::kSystem, {core::Text{"Two"}}});
  request.max_output_tokens = 7;
  request.temperature = 2;
  request.top_p = 0.5;
  request.stop = {"END"};
  request.seed = 3;
  const Json body = Encoded(request);
  EXPECT_EQ(body["systemInstruction"], Json::parse(R"({"parts": [{"text": "One\n\nTwo"}]})"));
  EXPECT_EQ(body["generationConfig"],
            Json::parse(R"({"maxOutputTokens": 7, "temperature": 2.0, "topP": 0.5,
              "stopSequences": ["END"], "seed": 3})"));
}

TEST(GeminiEncode, ToolsByName) {
  Request request;
  request.messages = {
      {Role::kUser, {core::Text{"Weather?"}}},
      {Role::kAssistant,
       {core::ToolCall{"a", "weather", R"({"city":"Oslo"})"}, core::ToolCall{"b", "now", ""}}},
      {Role::kTool, {core::ToolResult{"a", "weather", R"({"t":-3})", false}}},
      {Role::kTool, {core::ToolResult{"b", "", "no clock", true}}},
      {Role::kUser, {core::Text{"So?"}}},
  };
  request.tools = {
      {"weather", "Looks out", R"({"type":"object","properties":{"city":{"type":"string"}}})"},
      {"now", "", ""},
      {"strict", "", R"({"type":"object","properties":{"a":{}},"additionalProperties":false})"}};
  request.tool_choice = {core::ToolChoice::Kind::kNamed, "weather"};
  const Json body = Encoded(request);
  EXPECT_EQ(body["contents"], Json::parse(R"([
    {"role": "user", "parts": [{"text": "Weather?"}]},
    {"role": "model", "parts": [{"functionCall": {"name": "weather", "args": {"city": "Oslo"}}},
                                {"functionCall": {"name": "now", "args": {}}}]},
    {"role": "user", "parts": [
      {"functionResponse": {"name": "weather", "response": {"t": -3}}},
      {"functionResponse": {"name": "now", "response": {"error": "no clock"}}},
      {"text": "So?"}]}])"));
  EXPECT_EQ(body["tools"], Json::parse(R"([{"functionDeclarations": [
    {"name": "weather", "description": "Looks out",
     "parameters": {"type": "object", "properties": {"city": {"type": "string"}}}},
    {"name": "now"},
    {"name": "strict", "parametersJsonSchema":
      {"type": "object", "properties": {"a": {}}, "additionalProperties": false}}]}])"));
  EXPECT_EQ(
      body["toolConfig"],
      Json::parse(
          R"({"functionCallingConfig": {"mode": "ANY", "allowedFunctionNames": ["weather"]}})"));
}

TEST(GeminiEncode, Images) {
  Request request;
  request.messages = {
      {Role::kUser,
       {core::Image{"", "png", "image/png"}, core::Image{"https://x.test/a.jpg?v=1", "", ""},
        core::Image{"data:image/webp;base64,AAAA", "", ""}}}};
  EXPECT_EQ(Encoded(request)["contents"][0]["parts"], Json::parse(R"([
    {"inlineData": {"mimeType": "image/png", "data": "cG5n"}},
    {"fileData": {"mimeType": "image/jpeg", "fileUri": "https://x.test/a.jpg?v=1"}},
    {"inlineData": {"mimeType": "image/webp", "data": "AAAA"}}])"));
}

TEST(GeminiEncode, ResponseFormats) {
  Request request = UserAsks("Hi");
  request.response_format.kind = core::ResponseFormat::Kind::kJsonObject;
  EXPECT_EQ(Encoded(request)["generationConfig"],
            Json::parse(R"({"responseMimeType": "application/json"})"));
  request.response_format = {core::ResponseFormat::Kind::kJsonSchema, "r",
                             R"({"type":"array","items":{"type":"string"}})"};
  EXPECT_EQ(Encoded(request)["generationConfig"],
            Json::parse(R"({"responseMimeType": "application/json",
                            "responseSchema": {"type":"array","items":{"type":"string"}}})"));
  request.response_format.schema = R"({"$ref":"#/$defs/a"})";
  EXPECT_TRUE(Encoded(request)["generationConfig"].contains("responseJsonSchema"));
}

TEST(GeminiEncode, APrefixIsTheModelsTurn) {
  EXPECT_EQ(Encoded(UserAsks("Tell"), {}, "Once")["contents"][1],
            Json::parse(R"({"role": "model", "parts": [{"text": "Once"}]})"));
}

TEST(GeminiInexpressible, WhatTheKindCannot) {
  Request request = UserAsks("Hi");
  request.tools = {{"t", "", ""}};
  EXPECT_TRUE(Expressible(request));
  request.response_format.kind = core::ResponseFormat::Kind::kJsonObject;
  EXPECT_FALSE(Expressible(request));
  request.messages = {{Role::kUser, {core::Image{"http://x.test/a.png", "", ""}}}};
  request.tools.clear();
  EXPECT_FALSE(Expressible(request));
  request.messages = {{Role::kSystem, {core::Text{"Be brief"}}}};
  EXPECT_FALSE(Expressible(request));
}

TEST(GeminiDecode, ATextWithUsage) {
  const Heard heard = HearHoweverCut(Stream({
      Parts(R"({"text":"Hello"})"),
      R"({"candidates":[{"content":{"parts":[{"text":" wörld 😀"}],"role":"model"},"finishReason":"STOP"}],"usageMetadata":{"promptTokenCount":10,"cachedContentTokenCount":4,"candidatesTokenCount":5,"thoughtsTokenCount":7,"totalTokenCount":22}})",
  }));
  EXPECT_EQ(heard.outcome.kind, OutcomeKind::kComplete);
  EXPECT_EQ(heard.sink.text, "Hello wörld 😀");
  EXPECT_EQ(heard.sink.reason, FinishReason::kStop);
  EXPECT_EQ(heard.sink.usage.input_tokens, 10);
  EXPECT_EQ(heard.sink.usage.cached_input_tokens, 4);
  EXPECT_EQ(heard.sink.usage.output_tokens, 12);
  EXPECT_EQ(heard.sink.usage.reasoning_tokens, 7);
}

TEST(GeminiDecode, AReasonInEveryChunkEndsNothing) {
  const Heard heard =
      HearHoweverCut(Stream({Parts(R"({"text":"a"})", "STOP"), Parts(R"({"text":"b"})", "STOP")}));
  EXPECT_EQ(heard.sink.text, "ab");
  EXPECT_EQ(heard.outcome.kind, OutcomeKind::kComplete);
}

TEST(GeminiDecode, ParallelFunctionCallsWithAndWithoutIds) {
  const Heard heard = HearHoweverCut(Stream({
      Parts(
          R"({"functionCall":{"name":"weather","args":{"city": "Oslo"}},"thoughtSignature":"x"},{"functionCall":{"name":"now"}})"),
      Parts(R"({"functionCall":{"id":"given","name":"now","args":{}}})", "STOP"),
  }));
  EXPECT_EQ(heard.outcome.kind, OutcomeKind::kComplete);
  EXPECT_EQ(heard.sink.reason, FinishReason::kToolCalls);
  ASSERT_EQ(heard.sink.calls.size(), 3u);
  EXPECT_EQ(heard.sink.calls[0].arguments, R"({"city":"Oslo"})");
  EXPECT_EQ(heard.sink.calls[1].arguments, "{}");
  EXPECT_EQ(heard.sink.calls[2].id, "given");
  EXPECT_NE(heard.sink.calls[0].id, heard.sink.calls[1].id);
}

TEST(GeminiDecode, ToolCallsUnderOtherReasons) {
  for (const char* word : {"FUNCTION_CALL", "SOMETHING_NEW"}) {
    const Heard heard = Hear(Stream({Parts(R"({"functionCall":{"name":"now"}})", word)}));
    EXPECT_EQ(heard.sink.reason, FinishReason::kToolCalls) << word;
  }
}

TEST(GeminiDecode, ThoughtsAreNoContent) {
  const Heard heard =
      Hear(Stream({Parts(R"({"text":"hmm","thought":true})"), Parts(R"({"text":"4"})", "STOP")}));
  EXPECT_EQ(heard.sink.reasonings, 1);
  EXPECT_EQ(heard.sink.text, "4");
}

TEST(GeminiDecode, FinishReasons) {
  const std::vector<std::tuple<std::string, OutcomeKind, FinishReason>> cases = {
      {"STOP", OutcomeKind::kComplete, FinishReason::kStop},
      {"MAX_TOKENS", OutcomeKind::kComplete, FinishReason::kLength},
      {"SAFETY", OutcomeKind::kRefusal, FinishReason::kContentFilter},
      {"RECITATION", OutcomeKind::kRefusal, FinishReason::kContentFilter},
      {"BLOCKLIST", OutcomeKind::kRefusal, FinishReason::kContentFilter},
      {"PROHIBITED_CONTENT", OutcomeKind::kRefusal, FinishReason::kContentFilter},
      {"SPII", OutcomeKind::kRefusal, FinishReason::kContentFilter},
      {"MALFORMED_FUNCTION_CALL", OutcomeKind::kMalformed, FinishReason::kUnspecified},
      {"OTHER", OutcomeKind::kServerError, FinishReason::kUnspecified},
      {"SOMETHING_NEW", OutcomeKind::kComplete, FinishReason::kUnspecified}};
  for (const auto& [word, kind, reason] : cases) {
    const Heard heard = Hear(Stream({Parts(R"({"text":"a"})", word)}));
    EXPECT_EQ(heard.outcome.kind, kind) << word;
    EXPECT_EQ(heard.sink.reason, reason) << word;
    EXPECT_EQ(heard.sink.text, "a") << word;
  }
  EXPECT_EQ(Hear(Stream({R"({"candidates":[{"finishReason":"SAFETY","index":0}]})"})).outcome.kind,
            OutcomeKind::kRefusal);
}

TEST(GeminiDecode, ABlockedPrompt) {
  const Heard heard = HearHoweverCut(Stream(
      {R"({"promptFeedback":{"blockReason":"PROHIBITED_CONTENT"},"usageMetadata":{"promptTokenCount":3}})"}));
  EXPECT_EQ(heard.outcome.kind, OutcomeKind::kRefusal);
  EXPECT_EQ(heard.sink.reason, FinishReason::kContentFilter);
  EXPECT_EQ(heard.outcome.error, "the prompt was blocked: PROHIBITED_CONTENT");
}

TEST(GeminiDecode, AnErrorInsideTheStream) {
  const Heard heard = HearHoweverCut(Stream(
      {Parts(R"({"text":"Hel"})"),
       R"({"error":{"code":503,"message":"The model is overloaded.","status":"UNAVAILABLE"}})"}));
  EXPECT_EQ(heard.outcome.kind, OutcomeKind::kOverloaded);
  EXPECT_EQ(heard.sink.text, "Hel");
  EXPECT_EQ(heard.outcome.error, "The model is overloaded.");
}

TEST(GeminiDecode, AWholeReplyAndAnArrayOfThem) {
  const HttpHeaders json = {{"content-type", "application/json; charset=UTF-8"}};
  const Heard one = HearHoweverCut(
      {.kind = Kind::kGemini, .body = Parts(R"({"text":"Hi"})", "STOP"), .headers = json});
  EXPECT_EQ(one.outcome.kind, OutcomeKind::kComplete);
  EXPECT_EQ(one.sink.text, "Hi");
  const Heard array = HearHoweverCut(
      {.kind = Kind::kGemini,
       .body = "[" + Parts(R"({"text":"H"})") + "\n,\r\n" + Parts(R"({"text":"i"})", "STOP") + "]",
       .headers = json});
  EXPECT_EQ(array.outcome.kind, OutcomeKind::kComplete);
  EXPECT_EQ(array.sink.text, "Hi");
}

}  // namespace
}  // namespace holdfast::testing
