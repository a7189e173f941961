#include "providers/anthropic.h"

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

constexpr double kMaxTemperature = 1;
constexpr size_t kAnyStop = static_cast<size_t>(-1);
constexpr std::array<std::string_view, 4> kImageTypes = {"image/jpeg", "image/png", "image/gif",
                                                         "image/webp"};

bool WantsJson(const Request& request) {
  return request.response_format.kind != core::ResponseFormat::Kind::kText;
}

// ---- Writing the request

Json ImageBlock(const core::Image& image) {
  const ImageSource source = ReadImage(image);
  Json json = {{"type", "image"}};
  if (!source.url.empty()) {
    json["source"] = {{"type", "url"}, {"url", source.url}};
  } else {
    json["source"] = {
        {"type", "base64"}, {"media_type", source.mime_type}, {"data", source.Base64()}};
  }
  return json;
}

Json ToolUseBlock(const core::ToolCall& call) {
  return {{"type", "tool_use"},
          {"id", SafeName(call.id)},
          {"name", call.name},
          {"input", ParseObjectOrEmpty(call.arguments)}};
}

Json ToolResultBlock(const core::ToolResult& result) {
  Json json = {{"type", "tool_result"}, {"tool_use_id", SafeName(result.tool_call_id)}};
  if (!result.content.empty()) json["content"] = result.content;
  if (result.is_error) json["is_error"] = true;
  return json;
}

void AddBlock(const core::Part& part, Json& blocks) {
  if (const auto* text = std::get_if<core::Text>(&part)) {
    // An empty text block is a 400.
    if (!text->text.empty()) blocks.push_back({{"type", "text"}, {"text", text->text}});
  } else if (const auto* image = std::get_if<core::Image>(&part)) {
    blocks.push_back(ImageBlock(*image));
  } else if (const auto* call = std::get_if<core::ToolCall>(&part)) {
    blocks.push_back(ToolUseBlock(*call));
  } else if (const auto* result = std::get_if<core::ToolResult>(&part)) {
    blocks.push_back(ToolResultBlock(*result));
  }
}

void AddBlocks(const char* role, Json blocks, Json& messages) {
  if (blocks.empty()) return;
  if (messages.empty() || messages.back()["role"] != role) {
    messages.push_back({{"role", role}, {"content", std::move(blocks)}});
    return;
  }
  for (Json& block : blocks) messages.back()["content"].push_back(std::move(block));
}

Json Messages(const Request& request, std::string_view prefix) {
  Json messages = Json::array();
  for (const core::Message& message : request.messages) {
    if (message.role == Role::kSystem) continue;
    Json blocks = Json::array();
    for (const core::Part& part : message.parts) AddBlock(part, blocks);
    const char* role = message.role == Role::kAssistant ? "assistant" : "user";
    AddBlocks(role, std::move(blocks), messages);
  }
  if (!prefix.empty()) {
    Json blocks = Json::array();
    blocks.push_back({{"type", "text"}, {"text", prefix}});
    AddBlocks("assistant", std::move(blocks), messages);
  }
  return messages;
}

Json Tools(const Request& request) {
  Json tools = Json::array();
  for (const core::Tool& tool : request.tools) {
    Json json = {{"name", tool.name}};
    if (!tool.description.empty()) json["description"] = tool.description;
    json["input_schema"] = ToolSchema(tool);
    tools.push_back(std::move(json));
  }
  return tools;
}

Json ToolChoiceOf(const core::ToolChoice& choice) {
  switch (choice.kind) {
    case core::ToolChoice::Kind::kAuto:
      return {{"type", "auto"}};
    case core::ToolChoice::Kind::kNone:
      return {{"type", "none"}};
    case core::ToolChoice::Kind::kRequired:
      return {{"type", "any"}};
    case core::ToolChoice::Kind::kNamed:
      break;
  }
  return {{"type", "tool"}, {"name", choice.name}};
}

// The tool whose input is the answer.
void AddAnswerTool(const core::ResponseFormat& format, Json& body) {
  std::string name = SafeName(format.name);
  if (name.empty()) name = "response";
  Json schema = {{"type", "object"}};
  if (format.kind == core::ResponseFormat::Kind::kJsonSchema) {
    schema = ParseObjectOrEmpty(format.schema);
    if (!schema.contains("type")) schema["type"] = "object";
  }
  body["tools"] = Json::array();
  body["tools"].push_back({{"name", name},
                           {"description", "Gives the answer. Its input is the whole answer."},
                           {"input_schema", std::move(schema)}});
  body["tool_choice"] = {{"type", "tool"}, {"name", name}, {"disable_parallel_tool_use", true}};
}

// ---- Reading the reply

struct FinishWord {
  std::string_view word;
  FinishReason reason;
};
constexpr std::array<FinishWord, 7> kFinishWords = {{
    {"end_turn", FinishReason::kStop},
    {"stop_sequence", FinishReason::kStop},
    {"pause_turn", FinishReason::kStop},
    {"max_tokens", FinishReason::kLength},
    {"model_context_window_exceeded", FinishReason::kLength},
    {"tool_use", FinishReason::kToolCalls},
    {"refusal", FinishReason::kRefusal},
}};

class AnthropicDecoder final : public Decoder {
 public:
  explicit AnthropicDecoder(bool answer_is_tool_input) : answer_is_input_(answer_is_tool_input) {}

  void OnEvent(std::string_view event, JsonValue data, Reply& reply) override;

 private:
  struct Block {
    bool is_tool = false;
    int tool = -1;  // index of the tool call; -1 while its input is the answer
    bool has_input = false;
    std::string initial_input;  // what the start of the block brought; real deltas replace it
  };

  void OnMessage(JsonValue message, Reply& reply);
  void OnBlockStart(int64_t index, JsonValue block, Reply& reply);
  void OnToolStart(JsonValue block_json, Block& block, Reply& reply);
  void OnBlockDelta(int64_t index, JsonValue delta, Reply& reply);
  void OnInput(Block& block, std::string_view json, Reply& reply);
  void OnBlockStop(Block& block, Reply& reply);
  void OnText(std::string_view text, Reply& reply);
  void OnUsage(JsonValue usage, Reply& reply);
  void OnStopReason(std::string_view word, Reply& reply);

  const bool answer_is_input_;
  std::map<int64_t, Block> blocks_;
  core::Usage usage_;
  int64_t uncached_input_ = 0;
  int64_t cache_creation_ = 0;
};

void AnthropicDecoder::OnEvent(std::string_view event, JsonValue data, Reply& reply) {
  std::string_view type = FindString(data, "type");
  if (type.empty()) type = event;
  if (type == "error" || Find(data, "error")) {
    reply.Fail(ReadApiError(data));
  } else if (type == "message") {
    if (!FindString(data, "role").empty()) OnMessage(data, reply);
  } else if (type == "message_start") {
    if (const auto message = Find(data, "message")) OnMessage(*message, reply);
  } else if (type == "content_block_start") {
    if (const auto block = Find(data, "content_block")) {
      OnBlockStart(FindInt(data, "index"), *block, reply);
    }
  } else if (type == "content_block_delta") {
    if (const auto delta = Find(data, "delta")) OnBlockDelta(FindInt(data, "index"), *delta, reply);
  } else if (type == "content_block_stop") {
    const auto block = blocks_.find(FindInt(data, "index"));
    if (block != blocks_.end()) OnBlockStop(block->second, reply);
  } else if (type == "message_delta") {
    if (const auto usage = Find(data, "usage")) OnUsage(*usage, reply);
    if (const auto delta = Find(data, "delta")) {
      OnStopReason(FindString(*delta, "stop_reason"), reply);
    }
  } else if (type == "message_stop") {
    reply.EndMarker();
  }
}

// The start of a stream, with nothing in it yet, or a whole reply.
void AnthropicDecoder::OnMessage(JsonValue message, Reply& reply) {
  int64_t index = 0;
  ForEach(message, "content", [&](JsonValue block) {
    OnBlockStart(index, block, reply);
    OnBlockStop(blocks_[index++], reply);
  });
  if (const auto usage = Find(message, "usage")) OnUsage(*usage, reply);
  OnStopReason(FindString(message, "stop_reason"), reply);
}

void AnthropicDecoder::OnBlockStart(int64_t index, JsonValue json, Reply& reply) {
  Block& block = blocks_[index] = Block();
  const std::string_view type = FindString(json, "type");
  if (type == "text") OnText(FindString(json, "text"), reply);
  const std::string_view thought = type == "thinking" ? FindString(json, "thinking") : "";
  if (!thought.empty()) reply.Reasoning(thought.size());
  if (type == "tool_use") OnToolStart(json, block, reply);
}

void AnthropicDecoder::OnToolStart(JsonValue json, Block& block, Reply& reply) {
  block.is_tool = true;
  if (!answer_is_input_) {
    block.tool = reply.OpenTool(FindString(json, "id"), FindString(json, "name"));
  }
  const auto input = Find(json, "input");
  simdjson::dom::object object;
  if (input && input->get(object) == simdjson::SUCCESS && object.size() > 0) {
    block.initial_input = PlainText(simdjson::minify(*input));
  }
}

void AnthropicDecoder::OnBlockDelta(int64_t index, JsonValue delta, Reply& reply) {
  const std::string_view type = FindString(delta, "type");
  if (type == "text_delta") {
    OnText(FindString(delta, "text"), reply);
  } else if (type == "thinking_delta") {
    const std::string_view thought = FindString(delta, "thinking");
    if (!thought.empty()) reply.Reasoning(thought.size());
  } else if (type == "input_json_delta") {
    const auto block = blocks_.find(index);
    if (block != blocks_.end() && block->second.is_tool) {
      OnInput(block->second, FindString(delta, "partial_json"), reply);
    }
  }
}

void AnthropicDecoder::OnInput(Block& block, std::string_view json, Reply& reply) {
  if (json.empty()) return;
  block.has_input = true;
  if (block.tool >= 0) {
    reply.ToolArguments(block.tool, json);
  } else {
    reply.Text(json);
  }
}

void AnthropicDecoder::OnBlockStop(Block& block, Reply& reply) {
  if (!block.is_tool || block.has_input) return;
  OnInput(block, block.initial_input.empty() ? "{}" : block.initial_input, reply);
}

// Words around the answer would spoil its JSON.
void AnthropicDecoder::OnText(std::string_view text, Reply& reply) {
  if (!answer_is_input_) reply.Text(text);
}

// message_delta repeats some of what message_start said and leaves out the rest.
void AnthropicDecoder::OnUsage(JsonValue usage, Reply& reply) {
  const auto update = [usage](std::string_view key, int64_t& count) {
    if (Find(usage, key)) count = FindCount(usage, key);
  };
  update("input_tokens", uncached_input_);
  update("cache_creation_input_tokens", cache_creation_);
  update("cache_read_input_tokens", usage_.cached_input_tokens);
  update("output_tokens", usage_.output_tokens);
  usage_.input_tokens = uncached_input_ + cache_creation_ + usage_.cached_input_tokens;
  reply.Usage(usage_);
}

void AnthropicDecoder::OnStopReason(std::string_view word, Reply& reply) {
  if (word.empty()) return;
  for (auto& [index, block] : blocks_) OnBlockStop(block, reply);
  const auto known = std::find_if(kFinishWords.begin(), kFinishWords.end(),
                                  [word](const FinishWord& f) { return f.word == word; });
  FinishReason reason = known != kFinishWords.end() ? known->reason : FinishReason::kUnspecified;
  if (answer_is_input_ && reason == FinishReason::kToolCalls) reason = FinishReason::kStop;
  reply.Finish(reason);
}

// ---- The format

// Claude 4.6 and what came after it answer a conversation that ends with the assistant's turn by a
// 400. The version stands in the model's name ("claude-3-5-haiku-20241022", "claude-opus-4-6",
// "anthropic.claude-sonnet-4-5-v1:0"); of names without one, those that are known to be newer.
bool TakesPrefill(std::string_view model) {
  for (const std::string_view newer : {"claude-fable", "claude-mythos"}) {
    if (model.find(newer) != std::string_view::npos) return false;
  }
  std::vector<int> version;
  size_t at = model.find("claude-");
  while (at < model.size() && version.size() < 2) {
    const size_t begin = model.find_first_not_of("-.@", at);
    if (begin == std::string_view::npos) break;
    at = std::min(model.find_first_of("-.@", begin), model.size());
    const std::string_view word = model.substr(begin, at - begin);
    const bool number = word.size() <= 2 && std::all_of(word.begin(), word.end(), [](char c) {
                          return c >= '0' && c <= '9';
                        });
    if (number) {
      version.push_back(std::stoi(std::string(word)));
    } else if (!version.empty()) {
      break;
    }
  }
  version.resize(2);
  return version < std::vector<int>{4, 6};
}

class AnthropicFormat final : public WireFormat {
 public:
  explicit AnthropicFormat(const ModelOptions& model) : model_(Limited(model)) {}

  Kind kind() const override { return Kind::kAnthropic; }
  std::string_view DefaultPath() const override { return "/v1/messages"; }
  std::string_view KeyHeader() const override { return "x-api-key"; }
  std::vector<std::pair<std::string, std::string>> Headers() const override {
    return {{"anthropic-version", "2023-06-01"}};
  }
  std::optional<std::string> Inexpressible(const Request& request) const override;
  bool ContinuesPrefix() const override { return TakesPrefill(model_.model); }
  std::string Encode(const Request& request, std::string_view prefix) const override;
  std::unique_ptr<Decoder> NewDecoder(const Request& request) const override {
    return std::make_unique<AnthropicDecoder>(WantsJson(request));
  }

 private:
  static ModelOptions Limited(ModelOptions model) {
    model.seed = false;
    model.max_temperature = std::min(model.max_temperature, kMaxTemperature);
    return model;
  }

  const ModelOptions model_;
};

std::optional<std::string> ImageFault(const Request& request) {
  const bool urls_fit = EveryImage(request, [](const ImageSource& image) {
    return image.url.empty() || image.url.starts_with("https://");
  });
  if (!urls_fit) return "images by URL must be https or base64 data";
  const bool types_fit = EveryImage(request, [](const ImageSource& image) {
    return !image.url.empty() ||
           std::find(kImageTypes.begin(), kImageTypes.end(), image.mime_type) != kImageTypes.end();
  });
  if (!types_fit) return "images must be JPEG, PNG, GIF or WebP";
  return std::nullopt;
}

std::optional<std::string> FormatFault(const Request& request, const ModelOptions& model) {
  if (!WantsJson(request)) return std::nullopt;
  if (!model.tools) return "a JSON response format needs tools, which are not supported";
  if (!request.tools.empty()) return "tools and a JSON response format cannot be combined";
  if (request.response_format.kind == core::ResponseFormat::Kind::kJsonSchema) {
    const Json schema = ParseObjectOrEmpty(request.response_format.schema);
    if (schema.value("type", Json("object")) != "object") {
      return "the response schema must be of type object";
    }
  }
  return std::nullopt;
}

std::optional<std::string> StartFault(const Request& request) {
  for (const core::Message& message : request.messages) {
    if (message.role == Role::kSystem) continue;
    if (message.role != Role::kAssistant) return std::nullopt;
    break;
  }
  return "the conversation must start with a user message";
}

std::optional<std::string> AnthropicFormat::Inexpressible(const Request& request) const {
  if (auto reason = CommonInexpressible(request, model_, kAnyStop)) return reason;
  if (auto reason = ImageFault(request)) return reason;
  if (auto reason = FormatFault(request, model_)) return reason;
  const bool blank_stop =
      std::any_of(request.stop.begin(), request.stop.end(), [](const std::string& stop) {
        return stop.find_first_not_of(" \t\r\n") == std::string::npos;
      });
  if (blank_stop) return "stop sequences of white space are not supported";
  return StartFault(request);
}

std::string AnthropicFormat::Encode(const Request& request, std::string_view prefix) const {
  Json body = {{"model", model_.model},
               {"max_tokens", request.max_output_tokens.value_or(model_.max_output_tokens)},
               {"stream", true}};
  const std::string system = JoinSystem(request);
  if (!system.empty()) body["system"] = system;
  body["messages"] = Messages(request, prefix);
  if (request.temperature) body["temperature"] = *request.temperature;
  if (request.top_p) body["top_p"] = *request.top_p;
  if (!request.stop.empty()) body["stop_sequences"] = request.stop;
  if (WantsJson(request)) {
    AddAnswerTool(request.response_format, body);
  } else if (!request.tools.empty()) {
    body["tools"] = Tools(request);
    if (request.tool_choice.kind != core::ToolChoice::Kind::kAuto) {
      body["tool_choice"] = ToolChoiceOf(request.tool_choice);
    }
  }
  return Dump(body);
}

}  // namespace

std::unique_ptr<WireFormat> MakeAnthropicFormat(const ModelOptions& model) {
  return std::make_unique<AnthropicFormat>(model);
}

}  // namespace holdfast::providers
