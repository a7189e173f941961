#include "providers/gemini.h"

#include <algorithm>
#include <array>
#include <string>
#include <utility>

#include "providers/encoding.h"

namespace holdfast::providers {
namespace {

using core::FinishReason;
using core::Request;
using core::Role;

constexpr size_t kMaxStop = 5;

bool WantsJson(const Request& request) {
  return request.response_format.kind != core::ResponseFormat::Kind::kText;
}

// ---- Writing the request

Json TextPart(std::string_view text) { return {{"text", text}}; }

struct FileType {
  std::string_view ending;
  std::string_view mime_type;
};
constexpr std::array<FileType, 7> kFileTypes = {{{".png", "image/png"},
                                                 {".jpg", "image/jpeg"},
                                                 {".jpeg", "image/jpeg"},
                                                 {".webp", "image/webp"},
                                                 {".gif", "image/gif"},
                                                 {".heic", "image/heic"},
                                                 {".heif", "image/heif"}}};

std::string_view TypeByEnding(std::string_view url) {
  url = url.substr(0, url.find_first_of("?#"));
  for (const FileType& type : kFileTypes) {
    if (url.ends_with(type.ending)) return type.mime_type;
  }
  return {};
}

Json ImagePart(const core::Image& image) {
  const ImageSource source = ReadImage(image);
  if (source.url.empty()) {
    return {{"inlineData", {{"mimeType", source.mime_type}, {"data", source.Base64()}}}};
  }
  Json file = Json::object();
  const std::string_view type =
      source.mime_type.empty() ? TypeByEnding(source.url) : source.mime_type;
  if (!type.empty()) file["mimeType"] = type;
  file["fileUri"] = source.url;
  return {{"fileData", std::move(file)}};
}

Json CallPart(const core::ToolCall& call) {
  return {{"functionCall", {{"name", call.name}, {"args", ParseObjectOrEmpty(call.arguments)}}}};
}

// A result may come without the name that Gemini goes by; its call has it.
std::string NameOfResult(const core::ToolResult& result, const Request& request) {
  if (!result.name.empty()) return result.name;
  for (const core::Message& message : request.messages) {
    for (const core::Part& part : message.parts) {
      const auto* call = std::get_if<core::ToolCall>(&part);
      if (call != nullptr && call->id == result.tool_call_id) return call->name;
    }
  }
  return {};
}

Json ResultPart(const core::ToolResult& result, const Request& request) {
  std::optional<Json> object;
  if (!result.is_error) object = ParseObject(result.content);
  if (!object) {
    object = Json::object();
    (*object)[result.is_error ? "error" : "output"] = result.content;
  }
  Json response = {{"name", NameOfResult(result, request)}};
  response["response"] = std::move(*object);
  return {{"functionResponse", std::move(response)}};
}

void AddPart(const core::Part& part, const Request& request, Json& parts) {
  if (const auto* text = std::get_if<core::Text>(&part)) {
    if (!text->text.empty()) parts.push_back(TextPart(text->text));
  } else if (const auto* image = std::get_if<core::Image>(&part)) {
    parts.push_back(ImagePart(*image));
  } else if (const auto* call = std::get_if<core::ToolCall>(&part)) {
    parts.push_back(CallPart(*call));
  } else if (const auto* result = std::get_if<core::ToolResult>(&part)) {
    parts.push_back(ResultPart(*result, request));
  }
}

void AddParts(const char* role, Json parts, Json& contents) {
  if (parts.empty()) return;
  if (contents.empty() || contents.back()["role"] != role) {
    contents.push_back({{"role", role}, {"parts", std::move(parts)}});
    return;
  }
  for (Json& part : parts) contents.back()["parts"].push_back(std::move(part));
}

Json Contents(const Request& request, std::string_view prefix) {
  Json contents = Json::array();
  for (const core::Message& message : request.messages) {
    if (message.role == Role::kSystem) continue;
    Json parts = Json::array();
    for (const core::Part& part : message.parts) AddPart(part, request, parts);
    const char* role = message.role == Role::kAssistant ? "model" : "user";
    AddParts(role, std::move(parts), contents);
  }
  if (!prefix.empty()) {
    Json parts = Json::array();
    parts.push_back(TextPart(prefix));
    AddParts("model", std::move(parts), contents);
  }
  return contents;
}

// Whether the schema keeps to the part of OpenAPI that the older fields take; the newer ones take
// any JSON Schema but not every model and server knows them.
constexpr std::array<std::string_view, 22> kOpenApiKeys = {
    "type",     "format",    "title",    "description",   "nullable",  "enum",
    "maxItems", "minItems",  "required", "minProperties", "maxLength", "maxProperties",
    "pattern",  "minLength", "example",  "anyOf",         "default",   "propertyOrdering",
    "items",    "minimum",   "maximum",  "properties"};

bool IsOpenApi(const Json& schema) {
  if (!schema.is_object()) return false;
  for (const auto& [key, value] : schema.items()) {
    if (std::find(kOpenApiKeys.begin(), kOpenApiKeys.end(), key) == kOpenApiKeys.end()) {
      return false;
    }
    if (key == "type" && !value.is_string()) return false;
    if (key == "items" && !IsOpenApi(value)) return false;
    const bool of_schemas = key == "properties" || key == "anyOf";
    if (of_schemas && !std::all_of(value.begin(), value.end(), IsOpenApi)) return false;
  }
  return true;
}

Json Tools(const Request& request) {
  Json functions = Json::array();
  for (const core::Tool& tool : request.tools) {
    Json function = {{"name", tool.name}};
    if (!tool.description.empty()) function["description"] = tool.description;
    // A function without parameters has none; an object without properties is a 400.
    if (!tool.parameters.empty()) {
      Json schema = ToolSchema(tool);
      if (!schema.value("properties", Json::object()).empty()) {
        const bool open_api = IsOpenApi(schema);
        function[open_api ? "parameters" : "parametersJsonSchema"] = std::move(schema);
      }
    }
    functions.push_back(std::move(function));
  }
  Json tools = Json::array();
  tools.push_back({{"functionDeclarations", std::move(functions)}});
  return tools;
}

Json ToolConfig(const core::ToolChoice& choice) {
  Json config = Json::object();
  switch (choice.kind) {
    case core::ToolChoice::Kind::kAuto:
      config["mode"] = "AUTO";
      break;
    case core::ToolChoice::Kind::kNone:
      config["mode"] = "NONE";
      break;
    case core::ToolChoice::Kind::kRequired:
      config["mode"] = "ANY";
      break;
    case core::ToolChoice::Kind::kNamed:
      config["mode"] = "ANY";
      config["allowedFunctionNames"] = Json::array({choice.name});
      break;
  }
  return {{"functionCallingConfig", std::move(config)}};
}

Json GenerationConfig(const Request& request) {
  Json config = Json::object();
  if (request.max_output_tokens) config["maxOutputTokens"] = *request.max_output_tokens;
  if (request.temperature) config["temperature"] = *request.temperature;
  if (request.top_p) config["topP"] = *request.top_p;
  if (!request.stop.empty()) config["stopSequences"] = request.stop;
  if (request.seed) config["seed"] = *request.seed;
  if (WantsJson(request)) config["responseMimeType"] = "application/json";
  if (request.response_format.kind == core::ResponseFormat::Kind::kJsonSchema) {
    Json schema = ParseObjectOrEmpty(request.response_format.schema);
    const bool open_api = IsOpenApi(schema);
    config[open_api ? "responseSchema" : "responseJsonSchema"] = std::move(schema);
  }
  return config;
}

// ---- Reading the reply

struct FinishWord {
  std::string_view word;
  FinishReason reason;
};
constexpr std::array<FinishWord, 10> kFinishWords = {{
    {"STOP", FinishReason::kStop},
    {"FUNCTION_CALL", FinishReason::kToolCalls},  // gateways and mocks; Google says STOP
    {"MAX_TOKENS", FinishReason::kLength},
    {"SAFETY", FinishReason::kContentFilter},
    {"RECITATION", FinishReason::kContentFilter},
    {"BLOCKLIST", FinishReason::kContentFilter},
    {"PROHIBITED_CONTENT", FinishReason::kContentFilter},
    {"SPII", FinishReason::kContentFilter},
    {"IMAGE_SAFETY", FinishReason::kContentFilter},
    {"MODEL_ARMOR", FinishReason::kContentFilter},
}};

// Finish reasons of a model that produced nothing usable.
struct FailureWord {
  std::string_view word;
  core::OutcomeKind kind;
};
constexpr std::array<FailureWord, 8> kFailureWords = {{
    {"MALFORMED_FUNCTION_CALL", core::OutcomeKind::kMalformed},
    {"MALFORMED_RESPONSE", core::OutcomeKind::kMalformed},
    {"UNEXPECTED_TOOL_CALL", core::OutcomeKind::kMalformed},
    {"TOO_MANY_TOOL_CALLS", core::OutcomeKind::kMalformed},
    {"NO_IMAGE", core::OutcomeKind::kMalformed},
    {"LANGUAGE", core::OutcomeKind::kServerError},
    {"OTHER", core::OutcomeKind::kServerError},
    {"MISSING_THOUGHT_SIGNATURE", core::OutcomeKind::kBadRequest},
}};

class GeminiDecoder final : public Decoder {
 public:
  void OnEvent(std::string_view event, JsonValue data, Reply& reply) override;

 private:
  void OnCandidate(JsonValue candidate, Reply& reply);
  void OnPart(JsonValue part, Reply& reply);
  void OnUsage(JsonValue usage, Reply& reply);
  void OnFinish(std::string_view word, Reply& reply);
};

void GeminiDecoder::OnEvent(std::string_view event, JsonValue data, Reply& reply) {
  if (Find(data, "error") || event == "error") {
    reply.Fail(ReadApiError(data));
    return;
  }
  if (const auto usage = Find(data, "usageMetadata")) OnUsage(*usage, reply);
  if (const auto feedback = Find(data, "promptFeedback")) {
    const std::string_view why = FindString(*feedback, "blockReason");
    if (!why.empty()) reply.RefusePrompt("the prompt was blocked: " + std::string(why));
  }
  ForEach(data, "candidates", [&](JsonValue candidate) {
    if (FindInt(candidate, "index") == 0) OnCandidate(candidate, reply);
  });
}

void GeminiDecoder::OnCandidate(JsonValue candidate, Reply& reply) {
  if (const auto content = Find(candidate, "content")) {
    ForEach(*content, "parts", [&](JsonValue part) { OnPart(part, reply); });
  }
  OnFinish(FindString(candidate, "finishReason"), reply);
}

void GeminiDecoder::OnPart(JsonValue part, Reply& reply) {
  if (FindBool(part, "thought")) {
    reply.Reasoning(FindString(part, "text").size());
    return;
  }
  reply.Text(FindString(part, "text"));
  const auto call = Find(part, "functionCall");
  if (!call) return;
  const int index = reply.OpenTool(FindString(*call, "id"), FindString(*call, "name"));
  if (const auto args = Find(*call, "args"); args && args->is_object()) {
    reply.ToolArguments(index, simdjson::minify(*args));
  }
}

void GeminiDecoder::OnUsage(JsonValue usage, Reply& reply) {
  core::Usage total;
  total.input_tokens =
      FindCount(usage, "promptTokenCount") + FindCount(usage, "toolUsePromptTokenCount");
  total.cached_input_tokens = FindCount(usage, "cachedContentTokenCount");
  total.reasoning_tokens = FindCount(usage, "thoughtsTokenCount");
  total.output_tokens = FindCount(usage, "candidatesTokenCount") + total.reasoning_tokens;
  reply.Usage(total);
}

void GeminiDecoder::OnFinish(std::string_view word, Reply& reply) {
  if (word.empty() || word == "FINISH_REASON_UNSPECIFIED") return;
  for (const FailureWord& failure : kFailureWords) {
    if (failure.word != word) continue;
    reply.Fail(failure.kind, "the model ended with " + std::string(word));
    return;
  }
  const auto known = std::find_if(kFinishWords.begin(), kFinishWords.end(),
                                  [word](const FinishWord& f) { return f.word == word; });
  reply.Finish(known != kFinishWords.end() ? known->reason : FinishReason::kUnspecified);
}

// ---- The format

class GeminiFormat final : public WireFormat {
 public:
  explicit GeminiFormat(const ModelOptions& model) : model_(model) {}

  Kind kind() const override { return Kind::kGemini; }
  // Model names may be given as the API lists them: "models/gemini-2.5-flash".
  std::string_view DefaultPath() const override {
    return model_.model.find('/') != std::string::npos
               ? "/v1beta/{model}:streamGenerateContent?alt=sse"
               : "/v1beta/models/{model}:streamGenerateContent?alt=sse";
  }
  std::string_view KeyHeader() const override { return "x-goog-api-key"; }
  std::optional<std::string> Inexpressible(const Request& request) const override;
  bool ContinuesPrefix() const override { return true; }
  std::string Encode(const Request& request, std::string_view prefix) const override;
  std::unique_ptr<Decoder> NewDecoder(const Request&) const override {
    return std::make_unique<GeminiDecoder>();
  }

 private:
  const ModelOptions model_;
};

std::optional<std::string> GeminiFormat::Inexpressible(const Request& request) const {
  if (auto reason = CommonInexpressible(request, model_, kMaxStop)) return reason;
  const bool urls_fit = EveryImage(request, [](const ImageSource& image) {
    return image.url.empty() || image.url.starts_with("https://") || image.url.starts_with("gs://");
  });
  if (!urls_fit) return "images by URL must be https, gs or base64 data";
  if (WantsJson(request) && !request.tools.empty()) {
    return "tools and a JSON response format cannot be combined";
  }
  const bool only_system =
      std::all_of(request.messages.begin(), request.messages.end(),
                  [](const core::Message& message) { return message.role == Role::kSystem; });
  if (only_system) return "a conversation needs a message besides the system's";
  return std::nullopt;
}

std::string GeminiFormat::Encode(const Request& request, std::string_view prefix) const {
  Json body = Json::object();
  const std::string system = JoinSystem(request);
  if (!system.empty()) {
    Json parts = Json::array();
    parts.push_back(TextPart(system));
    body["systemInstruction"] = {{"parts", std::move(parts)}};
  }
  body["contents"] = Contents(request, prefix);
  if (!request.tools.empty()) {
    body["tools"] = Tools(request);
    if (request.tool_choice.kind != core::ToolChoice::Kind::kAuto) {
      body["toolConfig"] = ToolConfig(request.tool_choice);
    }
  }
  Json config = GenerationConfig(request);
  if (!config.empty()) body["generationConfig"] = std::move(config);
  return Dump(body);
}

}  // namespace

std::unique_ptr<WireFormat> MakeGeminiFormat(const ModelOptions& model) {
  return std::make_unique<GeminiFormat>(model);
}

}  // namespace holdfast::providers
