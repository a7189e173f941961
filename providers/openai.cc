#include "providers/openai.h"

#include <algorithm>
#include <array>
#include <map>
#include <utility>

#include "providers/encoding.h"

namespace holdfast::providers {
namespace {

using core::FinishReason;
using core::Request;
using core::Role;

// ---- Writing the request

constexpr size_t kMaxStop = 4;

Json ImagePart(const core::Image& image) {
  const ImageSource source = ReadImage(image);
  std::string url(source.url);
  if (url.empty()) url = "data:" + std::string(source.mime_type) + ";base64," + source.Base64();
  return {{"type", "image_url"}, {"image_url", {{"url", std::move(url)}}}};
}

// A single text goes as a plain string, which the simplest of servers understand.
Json UserContent(const core::Message& message) {
  Json parts = Json::array();
  for (const core::Part& part : message.parts) {
    if (const auto* text = std::get_if<core::Text>(&part)) {
      parts.push_back({{"type", "text"}, {"text", text->text}});
    } else if (const auto* image = std::get_if<core::Image>(&part)) {
      parts.push_back(ImagePart(*image));
    }
  }
  if (parts.size() == 1 && parts[0]["type"] == "text") return parts[0]["text"];
  return parts;
}

Json ToolCalls(const core::Message& message) {
  Json calls = Json::array();
  for (const core::Part& part : message.parts) {
    const auto* call = std::get_if<core::ToolCall>(&part);
    if (call == nullptr) continue;
    const std::string arguments = call->arguments.empty() ? "{}" : call->arguments;
    calls.push_back({{"id", call->id},
                     {"type", "function"},
                     {"function", {{"name", call->name}, {"arguments", arguments}}}});
  }
  return calls;
}

Json AssistantMessage(const core::Message& message) {
  Json json = {{"role", "assistant"}};
  const std::string text = JoinText(message, "");
  Json calls = ToolCalls(message);
  json["content"] = text.empty() && !calls.empty() ? Json(nullptr) : Json(text);
  if (!calls.empty()) json["tool_calls"] = std::move(calls);
  return json;
}

// Each result is a message of its own, in front of what else its message says.
void AddToolResults(const core::Message& message, Json& messages) {
  for (const core::Part& part : message.parts) {
    const auto* result = std::get_if<core::ToolResult>(&part);
    if (result == nullptr) continue;
    const std::string content = result->is_error ? "Error: " + result->content : result->content;
    messages.push_back(
        {{"role", "tool"}, {"tool_call_id", result->tool_call_id}, {"content", content}});
  }
}

void AddMessage(const core::Message& message, Json& messages) {
  AddToolResults(message, messages);
  switch (message.role) {
    case Role::kSystem:
      messages.push_back({{"role", "system"}, {"content", JoinText(message, "\n\n")}});
      return;
    case Role::kAssistant:
      messages.push_back(AssistantMessage(message));
      return;
    case Role::kUser:
    case Role::kTool:
      Json content = UserContent(message);
      if (content.empty()) return;
      messages.push_back({{"role", "user"}, {"content", std::move(content)}});
  }
}

bool SaysJson(const Request& request) {
  for (const core::Message& message : request.messages) {
    std::string text = JoinText(message, " ");
    std::transform(text.begin(), text.end(), text.begin(),
                   [](char c) { return c >= 'A' && c <= 'Z' ? static_cast<char>(c + 32) : c; });
    if (text.find("json") != std::string::npos) return true;
  }
  return false;
}

// One message, even where the request itself ends with the beginning of an answer: a second one
// would be a turn of its own.
void AddPrefix(std::string_view prefix, ModelOptions::Continuation continuation, Json& messages) {
  Json* last = messages.empty() ? nullptr : &messages.back();
  if (last == nullptr || (*last)["role"] != "assistant" || last->contains("tool_calls")) {
    messages.push_back({{"role", "assistant"}, {"content", ""}});
    last = &messages.back();
  }
  (*last)["content"] = (*last)["content"].get<std::string>().append(prefix);
  if (continuation == ModelOptions::Continuation::kPrefix) (*last)["prefix"] = true;
}

Json Messages(const Request& request) {
  Json messages = Json::array();
  // OpenAI refuses JSON mode with a 400 unless some message says the word.
  if (request.response_format.kind == core::ResponseFormat::Kind::kJsonObject &&
      !SaysJson(request)) {
    messages.push_back({{"role", "system"}, {"content", "Answer with a JSON object."}});
  }
  for (const core::Message& message : request.messages) AddMessage(message, messages);
  return messages;
}

Json Tools(const Request& request) {
  Json tools = Json::array();
  for (const core::Tool& tool : request.tools) {
    Json function = {{"name", tool.name}};
    if (!tool.description.empty()) function["description"] = tool.description;
    function["parameters"] = ToolSchema(tool);
    tools.push_back({{"type", "function"}, {"function", std::move(function)}});
  }
  return tools;
}

Json ToolChoiceOf(const core::ToolChoice& choice) {
  switch (choice.kind) {
    case core::ToolChoice::Kind::kAuto:
      return "auto";
    case core::ToolChoice::Kind::kNone:
      return "none";
    case core::ToolChoice::Kind::kRequired:
      return "required";
    case core::ToolChoice::Kind::kNamed:
      break;
  }
  return {{"type", "function"}, {"function", {{"name", choice.name}}}};
}

// Whether OpenAI's strict mode takes the schema: every object closed and all it has required.
// Others go unstrict, where a strict one would be a 400.
bool StrictCapable(const Json& schema) {
  if (schema.is_array()) return std::all_of(schema.begin(), schema.end(), StrictCapable);
  if (!schema.is_object()) return true;
  if (schema.contains("properties") && schema["properties"].is_object()) {
    const Json closed = schema.value("additionalProperties", Json());
    const Json required = schema.value("required", Json::array());
    if (closed != Json(false) || required.size() != schema["properties"].size()) return false;
  } else if (schema.value("type", Json()) == "object") {
    return false;
  }
  return std::all_of(schema.begin(), schema.end(), StrictCapable);
}

Json ResponseFormatOf(const core::ResponseFormat& format) {
  if (format.kind == core::ResponseFormat::Kind::kJsonObject) return {{"type", "json_object"}};
  Json schema = ParseObjectOrEmpty(format.schema);
  const std::string name = SafeName(format.name);
  Json json_schema = {{"name", name.empty() ? "response" : name}};
  if (schema.value("type", Json()) == "object" && StrictCapable(schema)) {
    json_schema["strict"] = true;
  }
  json_schema["schema"] = std::move(schema);
  return {{"type", "json_schema"}, {"json_schema", std::move(json_schema)}};
}

// ---- Reading the reply

struct FinishWord {
  std::string_view word;
  FinishReason reason;
};
constexpr std::array<FinishWord, 15> kFinishWords = {{
    {"stop", FinishReason::kStop},
    {"eos", FinishReason::kStop},        // Together
    {"eos_token", FinishReason::kStop},  // TGI
    {"end_turn", FinishReason::kStop},
    {"stop_sequence", FinishReason::kStop},
    {"length", FinishReason::kLength},
    {"max_tokens", FinishReason::kLength},
    {"model_length", FinishReason::kLength},  // Mistral
    {"tool_calls", FinishReason::kToolCalls},
    {"tool_use", FinishReason::kToolCalls},
    {"function_call", FinishReason::kToolCalls},
    {"content_filter", FinishReason::kContentFilter},
    {"safety", FinishReason::kContentFilter},
    {"sensitive", FinishReason::kContentFilter},  // Zhipu
    {"refusal", FinishReason::kRefusal},
}};

// Finish reasons that say the server gave up.
struct FailureWord {
  std::string_view word;
  core::OutcomeKind kind;
};
constexpr std::array<FailureWord, 4> kFailureWords = {{
    {"error", core::OutcomeKind::kServerError},
    {"abort", core::OutcomeKind::kServerError},
    {"network_error", core::OutcomeKind::kServerError},
    {"insufficient_system_resource", core::OutcomeKind::kOverloaded},  // DeepSeek
}};

class OpenAiDecoder final : public Decoder {
 public:
  void OnEvent(std::string_view event, JsonValue data, Reply& reply) override;

 private:
  // A call under construction; `index` < 0 until its name is known.
  struct Call {
    std::string id;
    std::string early_arguments;
    int index = -1;
  };

  void OnChoice(JsonValue choice, Reply& reply);
  void OnDelta(JsonValue delta, Reply& reply);
  void OnContent(JsonValue content, Reply& reply);
  void OnToolCall(JsonValue fragment, Reply& reply);
  int64_t KeyOf(JsonValue fragment, std::string_view id) const;
  void OnFunction(JsonValue function, Call& call, Reply& reply);
  void OnUsage(JsonValue usage, Reply& reply);
  void OnFinish(std::string_view word, Reply& reply);

  std::map<int64_t, Call> calls_;  // by the wire's index
};

void OpenAiDecoder::OnEvent(std::string_view event, JsonValue data, Reply& reply) {
  if (Find(data, "error") || event == "error" || FindString(data, "object") == "error") {
    reply.Fail(ReadApiError(data));
    return;
  }
  ForEach(data, "choices", [&](JsonValue choice) {
    if (FindInt(choice, "index") == 0) OnChoice(choice, reply);
  });
  if (const auto usage = Find(data, "usage")) OnUsage(*usage, reply);
  if (const auto groq = Find(data, "x_groq")) {
    if (const auto usage = Find(*groq, "usage")) OnUsage(*usage, reply);
  }
}

void OpenAiDecoder::OnChoice(JsonValue choice, Reply& reply) {
  if (const auto delta = Find(choice, "delta")) OnDelta(*delta, reply);
  if (const auto message = Find(choice, "message")) OnDelta(*message, reply);
  const std::string_view finish = FindString(choice, "finish_reason");
  if (finish.empty()) return;
  if (Find(choice, "error")) {
    reply.Fail(ReadApiError(choice));
  } else {
    OnFinish(finish, reply);
  }
}

void OpenAiDecoder::OnDelta(JsonValue delta, Reply& reply) {
  const size_t thought = std::max(FindString(delta, "reasoning_content").size(),
                                  FindString(delta, "reasoning").size());
  if (thought > 0) reply.Reasoning(thought);
  if (const auto content = Find(delta, "content")) OnContent(*content, reply);
  reply.RefusalText(FindString(delta, "refusal"));
  ForEach(delta, "tool_calls", [&](JsonValue fragment) { OnToolCall(fragment, reply); });
  if (const auto function = Find(delta, "function_call")) {
    OnFunction(*function, calls_[0], reply);
  }
}

// A string, or parts: Mistral's, whose thinking is a part too.
void OpenAiDecoder::OnContent(JsonValue content, Reply& reply) {
  simdjson::dom::array parts;
  if (content.get(parts) != simdjson::SUCCESS) {
    reply.Text(AsString(content));
    return;
  }
  for (const JsonValue part : parts) {
    const std::string_view type = FindString(part, "type");
    if (type == "thinking") reply.Reasoning(FindString(part, "text").size());
    if (type == "text") reply.Text(FindString(part, "text"));
  }
}

// By the wire's index, if the server gives one: some do not, and Gemini's counts every parallel
// call as 0. So another id is another call all the same, and without either a name begins one.
int64_t OpenAiDecoder::KeyOf(JsonValue fragment, std::string_view id) const {
  if (Find(fragment, "index")) {
    const int64_t index = FindCount(fragment, "index");
    const auto known = calls_.find(index);
    const bool is_other =
        known != calls_.end() && !id.empty() && !known->second.id.empty() && known->second.id != id;
    if (!is_other) return index;
  }
  const int64_t next = calls_.empty() ? 0 : calls_.rbegin()->first + 1;
  if (!id.empty()) {
    const auto same = std::find_if(calls_.begin(), calls_.end(),
                                   [id](const auto& call) { return call.second.id == id; });
    return same != calls_.end() ? same->first : next;
  }
  const auto function = Find(fragment, "function");
  const bool begins = function && !FindString(*function, "name").empty();
  return begins || calls_.empty() ? next : next - 1;
}

void OpenAiDecoder::OnToolCall(JsonValue fragment, Reply& reply) {
  const std::string id = PlainText(FindString(fragment, "id"));
  Call& call = calls_[KeyOf(fragment, id)];
  if (call.id.empty()) call.id = id;
  if (const auto function = Find(fragment, "function")) OnFunction(*function, call, reply);
}

void OpenAiDecoder::OnFunction(JsonValue function, Call& call, Reply& reply) {
  const std::string_view name = FindString(function, "name");
  if (call.index < 0 && !name.empty()) {
    call.index = reply.OpenTool(call.id, name);
    reply.ToolArguments(call.index, call.early_arguments);
  }
  std::string object;  // arguments as an object instead of text: Ollama has done that
  std::string_view arguments = FindString(function, "arguments");
  if (const auto value = Find(function, "arguments"); value && value->is_object()) {
    object = simdjson::minify(*value);
    arguments = object;
  }
  if (call.index >= 0) {
    reply.ToolArguments(call.index, arguments);
  } else {
    call.early_arguments.append(PlainText(arguments));
  }
}

void OpenAiDecoder::OnUsage(JsonValue usage, Reply& reply) {
  core::Usage total;
  total.input_tokens = FindCount(usage, "prompt_tokens");
  total.output_tokens = FindCount(usage, "completion_tokens");
  total.cached_input_tokens = FindCount(usage, "prompt_cache_hit_tokens");  // DeepSeek
  if (const auto details = Find(usage, "prompt_tokens_details")) {
    total.cached_input_tokens = FindCount(*details, "cached_tokens");
  }
  if (const auto details = Find(usage, "completion_tokens_details")) {
    total.reasoning_tokens = FindCount(*details, "reasoning_tokens");
  }
  // xAI counts reasoning beside the completion; its total gives it away.
  if (total.reasoning_tokens > 0 &&
      FindCount(usage, "total_tokens") - total.input_tokens - total.output_tokens ==
          total.reasoning_tokens) {
    total.output_tokens += total.reasoning_tokens;
  }
  reply.Usage(total);
}

void OpenAiDecoder::OnFinish(std::string_view word, Reply& reply) {
  std::string lower(word);
  for (char& c : lower) {
    if (c >= 'A' && c <= 'Z') c = static_cast<char>(c + 32);
  }
  for (const FailureWord& failure : kFailureWords) {
    if (failure.word != lower) continue;
    reply.Fail(failure.kind, "the provider ended its answer with \"" + lower + "\"");
    return;
  }
  const auto known = std::find_if(kFinishWords.begin(), kFinishWords.end(),
                                  [&lower](const FinishWord& f) { return f.word == lower; });
  reply.Finish(known != kFinishWords.end() ? known->reason : FinishReason::kUnspecified);
}

// ---- The format

class OpenAiFormat final : public WireFormat {
 public:
  explicit OpenAiFormat(const ModelOptions& model) : model_(model) {}

  Kind kind() const override { return Kind::kOpenAi; }
  std::string_view DefaultPath() const override { return "/chat/completions"; }
  std::string_view KeyHeader() const override { return "authorization"; }
  std::optional<std::string> Inexpressible(const Request& request) const override;
  bool ContinuesPrefix() const override {
    return model_.continuation != ModelOptions::Continuation::kNone;
  }
  std::string Encode(const Request& request, std::string_view prefix) const override;
  std::unique_ptr<Decoder> NewDecoder(const Request&) const override {
    return std::make_unique<OpenAiDecoder>();
  }

 private:
  const ModelOptions model_;
};

std::optional<std::string> OpenAiFormat::Inexpressible(const Request& request) const {
  if (auto reason = CommonInexpressible(request, model_, kMaxStop)) return reason;
  const bool fetchable = EveryImage(request, [](const ImageSource& image) {
    return image.url.empty() || image.url.starts_with("http://") ||
           image.url.starts_with("https://");
  });
  if (!fetchable) return "images by URL must be http, https or base64 data";
  return std::nullopt;
}

std::string OpenAiFormat::Encode(const Request& request, std::string_view prefix) const {
  Json messages = Messages(request);
  if (!prefix.empty()) AddPrefix(prefix, model_.continuation, messages);
  Json body = {{"model", model_.model}, {"messages", std::move(messages)}, {"stream", true}};
  if (!prefix.empty() && model_.continuation == ModelOptions::Continuation::kContinueFinalMessage) {
    body["continue_final_message"] = true;
    body["add_generation_prompt"] = false;
  }
  if (model_.stream_usage) body["stream_options"] = {{"include_usage", true}};
  if (request.max_output_tokens) {
    const bool newer =
        model_.max_tokens_field == ModelOptions::MaxTokensField::kMaxCompletionTokens;
    body[newer ? "max_completion_tokens" : "max_tokens"] = *request.max_output_tokens;
  }
  if (request.temperature) body["temperature"] = *request.temperature;
  if (request.top_p) body["top_p"] = *request.top_p;
  if (!request.stop.empty()) body["stop"] = request.stop;
  if (request.seed) body["seed"] = *request.seed;
  if (!request.tools.empty()) {
    body["tools"] = Tools(request);
    if (request.tool_choice.kind != core::ToolChoice::Kind::kAuto) {
      body["tool_choice"] = ToolChoiceOf(request.tool_choice);
    }
  }
  if (request.response_format.kind != core::ResponseFormat::Kind::kText) {
    body["response_format"] = ResponseFormatOf(request.response_format);
  }
  return Dump(body);
}

}  // namespace

std::unique_ptr<WireFormat> MakeOpenAiFormat(const ModelOptions& model) {
  return std::make_unique<OpenAiFormat>(model);
}

}  // namespace holdfast::providers
