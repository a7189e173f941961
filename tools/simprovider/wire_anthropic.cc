// Anthropic Messages.
#include <algorithm>
#include <cmath>
#include <ctime>
#include <string>

#include "tools/simprovider/request_json.h"
#include "tools/simprovider/text.h"
#include "tools/simprovider/wire.h"

namespace simprovider {
namespace {

ApiError Of(int status, std::string type, std::string message) {
  ApiError error;
  error.status = status;
  error.type = std::move(type);
  error.message = std::move(message);
  return error;
}

ApiError Invalid(std::string message) {
  return Of(400, "invalid_request_error", std::move(message));
}

// What the blocks of one message hold.
struct Blocks {
  std::string text;
  bool tool_use = false;
  bool tool_result = false;
  bool empty_text = false;
  size_t count = 0;
};

void ReadBlock(const JsonValue& block, ChatRequest& chat, Blocks& blocks) {
  ++blocks.count;
  const std::string_view type = StringMember(block, "type");
  if (type == "text") {
    const std::string_view text = StringMember(block, "text");
    blocks.empty_text = blocks.empty_text || text.empty();
    blocks.text += text;
  }
  if (type == "image") ++chat.image_count;
  if (type == "tool_use") blocks.tool_use = true;
  if (type != "tool_result") return;
  blocks.tool_result = true;
  blocks.text += StringMember(block, "content");
  if (const auto parts = ArrayMember(block, "content")) {
    for (const JsonValue part : *parts) blocks.text += StringMember(part, "text");
  }
}

Blocks ReadContent(const JsonValue& message, std::string_view key, ChatRequest& chat) {
  Blocks blocks;
  const std::string_view plain = StringMember(message, key);
  if (!plain.empty()) {
    blocks.text = plain;
    blocks.count = 1;
  }
  if (const auto list = ArrayMember(message, key)) {
    for (const JsonValue block : *list) ReadBlock(block, chat, blocks);
  }
  return blocks;
}

bool EndsInSpace(std::string_view text) {
  return !text.empty() && std::string_view(" \n\t\r").find(text.back()) != std::string_view::npos;
}

std::optional<ApiError> ReadMessage(const JsonValue& message, size_t index, size_t count,
                                    bool after_tool_use, ChatRequest& chat, Blocks& blocks) {
  const std::string at = "messages." + std::to_string(index);
  const std::string_view role = StringMember(message, "role");
  if (role.empty()) return Invalid(at + ".role: Field required");
  if (role == "system") {
    return Invalid(
        "messages: Unexpected role \"system\". The Messages API accepts a top-level "
        "`system` parameter, not \"system\" as an input message role.");
  }
  if (role != "user" && role != "assistant") {
    return Invalid(at + ".role: Input should be 'user' or 'assistant'");
  }
  if (!Member(message, "content")) return Invalid(at + ".content: Field required");
  blocks = ReadContent(message, "content", chat);
  const bool final_assistant = index + 1 == count && role == "assistant";
  if (blocks.count == 0 && !final_assistant) {
    return Invalid(at +
                   ": all messages must have non-empty content except for the optional final "
                   "assistant message");
  }
  if (blocks.empty_text) return Invalid("messages: text content blocks must be non-empty");
  if (final_assistant && EndsInSpace(blocks.text)) {
    return Invalid("messages: final assistant content cannot end with trailing whitespace");
  }
  if (blocks.tool_result && !after_tool_use) {
    return Invalid(at +
                   ".content.0: unexpected `tool_use_id` found in `tool_result` blocks. Each "
                   "`tool_result` block must have a corresponding `tool_use` block in the "
                   "previous message.");
  }
  chat.turns.push_back({blocks.tool_result ? "tool" : std::string(role), blocks.text});
  return std::nullopt;
}

std::optional<ApiError> ReadMessages(const JsonValue& root, ChatRequest& chat) {
  if (!Member(root, "messages")) return Invalid("messages: Field required");
  const auto messages = ArrayMember(root, "messages");
  if (!messages) return Invalid("messages: Input should be a valid list");
  if (messages->size() == 0) return Invalid("messages: at least one message is required");
  bool after_tool_use = false;
  size_t index = 0;
  for (const JsonValue message : *messages) {
    Blocks blocks;
    const auto error =
        ReadMessage(message, index++, messages->size(), after_tool_use, chat, blocks);
    if (error) return error;
    after_tool_use = blocks.tool_use;
  }
  return std::nullopt;
}

std::optional<ApiError> ReadLimits(const JsonValue& root, ChatRequest& chat) {
  if (!Member(root, "max_tokens")) return Invalid("max_tokens: Field required");
  const int64_t limit = IntMember(root, "max_tokens", 0);
  if (limit < 1) return Invalid("max_tokens: must be greater than or equal to 1");
  chat.max_tokens = static_cast<int>(std::min<int64_t>(limit, 1 << 30));
  for (const char* key : {"temperature", "top_p"}) {
    const auto value = NumberMember(root, key);
    if (value && *value < 0) {
      return Invalid(std::string(key) + ": Input should be greater than or equal to 0");
    }
    if (value && *value > 1) {
      return Invalid(std::string(key) + ": Input should be less than or equal to 1");
    }
  }
  if (const auto list = ArrayMember(root, "stop_sequences")) {
    for (const JsonValue item : *list) {
      if (item.is_string()) chat.stop.emplace_back(std::string_view(item));
    }
  }
  return std::nullopt;
}

std::optional<ApiError> ReadTools(const JsonValue& root, ChatRequest& chat) {
  if (const auto tools = ArrayMember(root, "tools")) {
    size_t index = 0;
    for (const JsonValue tool : *tools) {
      const std::string at = "tools." + std::to_string(index++);
      const std::string_view name = StringMember(tool, "name");
      if (name.empty()) return Invalid(at + ".name: Field required");
      const auto schema = Member(tool, "input_schema");
      if (!schema) return Invalid(at + ".input_schema: Field required");
      chat.tools.push_back({std::string(name), RawJson(*schema)});
    }
  }
  const auto choice = Member(root, "tool_choice");
  if (!choice) return std::nullopt;
  if (chat.tools.empty()) {
    return Invalid("tool_choice may only be specified while providing tools");
  }
  const std::string_view type = StringMember(*choice, "type");
  if (type == "none") chat.tool_choice = ToolChoice::kNone;
  if (type == "any") chat.tool_choice = ToolChoice::kRequired;
  if (type == "tool") {
    chat.tool_choice = ToolChoice::kNamed;
    chat.named_tool = StringMember(*choice, "name");
  }
  chat.parallel_tools = !BoolMember(*choice, "disable_parallel_tool_use");
  return std::nullopt;
}

void ReadOutputFormat(const JsonValue& root, ChatRequest& chat) {
  auto format = Member(root, "output_format");
  if (const auto config = Member(root, "output_config")) format = Member(*config, "format");
  if (!format || StringMember(*format, "type") != "json_schema") return;
  if (const auto schema = Member(*format, "schema")) {
    chat.format = AnswerFormat::kJsonSchema;
    chat.schema = RawJson(*schema);
  }
}

std::optional<ApiError> ReadRequest(const HttpRequest& http, const JsonValue& root,
                                    ChatRequest& chat) {
  if (http.Header("anthropic-version").empty()) {
    return Invalid("anthropic-version: header is required");
  }
  if (chat.model.empty()) return Invalid("model: Field required");
  chat.cacheable = http.body.find("\"cache_control\"") != std::string_view::npos;
  const Blocks system = ReadContent(root, "system", chat);
  if (!system.text.empty()) chat.turns.push_back({"system", system.text});
  if (auto error = ReadMessages(root, chat)) return error;
  if (auto error = ReadLimits(root, chat)) return error;
  if (auto error = ReadTools(root, chat)) return error;
  ReadOutputFormat(root, chat);
  if (const auto thinking = Member(root, "thinking")) {
    const std::string_view type = StringMember(*thinking, "type");
    chat.thinking = type == "enabled" || type == "adaptive";
  }
  return std::nullopt;
}

std::string_view StopReason(Finish finish) {
  switch (finish) {
    case Finish::kStopSequence:
      return "stop_sequence";
    case Finish::kLength:
      return "max_tokens";
    case Finish::kToolCalls:
      return "tool_use";
    case Finish::kContentFilter:
    case Finish::kRefusal:
      return "refusal";
    default:
      return "end_turn";
  }
}

void AppendStop(std::string& out, const Answer& answer) {
  out += "\"stop_reason\":";
  AppendQuoted(out, StopReason(answer.finish));
  out += ",\"stop_sequence\":";
  out += answer.finish == Finish::kStopSequence ? Quoted(answer.stop_sequence) : "null";
}

void AppendUsage(std::string& out, const Usage& usage, int output) {
  out += "\"usage\":{\"input_tokens\":" + std::to_string(usage.input - usage.cached);
  out += ",\"cache_creation_input_tokens\":0,\"cache_read_input_tokens\":";
  out += std::to_string(usage.cached);
  out += ",\"output_tokens\":" + std::to_string(output);
}

void AppendHead(std::string& out, const ChatRequest& request, const Stamp& stamp) {
  out += "{\"id\":\"msg_01" + Base62(stamp.id, 22);
  out += "\",\"type\":\"message\",\"role\":\"assistant\",\"model\":";
  AppendQuoted(out, request.model);
}

std::string Signature() { return Base62(42, 64); }

// Writes the events of one stream, block by block.
class EventWriter {
 public:
  void Event(EventKind kind, std::string_view name, std::string_view data) {
    std::string bytes;
    bytes.reserve(name.size() + data.size() + 20);
    bytes += "event: ";
    bytes += name;
    bytes += "\ndata: ";
    bytes += data;
    bytes += "\n\n";
    events_.push_back({kind, std::move(bytes)});
  }

  void StartBlock(std::string_view block) {
    Event(EventKind::kOther, "content_block_start",
          "{\"type\":\"content_block_start\",\"index\":" + std::to_string(index_) +
              ",\"content_block\":" + std::string(block) + "}");
  }

  void Delta(EventKind kind, std::string_view type, std::string_view key, std::string_view text) {
    std::string data = "{\"type\":\"content_block_delta\",\"index\":" + std::to_string(index_);
    data += ",\"delta\":{\"type\":\"";
    data += type;
    data += "\",\"";
    data += key;
    data += "\":";
    AppendQuoted(data, text);
    data += "}}";
    Event(kind, "content_block_delta", data);
  }

  void StopBlock() {
    Event(EventKind::kOther, "content_block_stop",
          "{\"type\":\"content_block_stop\",\"index\":" + std::to_string(index_++) + "}");
  }

  std::vector<simprovider::Event> Take() { return std::move(events_); }

 private:
  int index_ = 0;
  std::vector<simprovider::Event> events_;
};

constexpr std::string_view kPing = "event: ping\ndata: {\"type\": \"ping\"}\n\n";

class Anthropic final : public Wire {
 public:
  std::string_view Name() const override { return "anthropic"; }

  ParsedRequest Parse(const HttpRequest& request) const override {
    ParsedRequest parsed;
    const auto root = ParseObject(request.body);
    if (!root) {
      parsed.error = Invalid("The request body is not valid JSON: expected a JSON object");
      return parsed;
    }
    parsed.chat.model = StringMember(*root, "model");
    parsed.chat.stream = BoolMember(*root, "stream");
    parsed.error = ReadRequest(request, *root, parsed.chat);
    return parsed;
  }

  std::string Whole(const ChatRequest& request, const Answer& answer,
                    const Stamp& stamp) const override {
    std::string out;
    AppendHead(out, request, stamp);
    out += ",\"content\":[";
    std::string_view separator;
    if (!answer.thinking.empty()) {
      out += "{\"type\":\"thinking\",\"thinking\":" + Quoted(answer.thinking) +
             ",\"signature\":\"" + Signature() + "\"}";
      separator = ",";
    }
    const std::string text = answer.Text() + answer.refusal;
    if (!text.empty()) {
      out += separator;
      out += "{\"type\":\"text\",\"text\":";
      AppendQuoted(out, text);
      out += '}';
      separator = ",";
    }
    for (const ToolCall& call : answer.tool_calls) {
      out += separator;
      out += "{\"type\":\"tool_use\",\"id\":\"toolu_01" + call.id +
             "\",\"name\":" + Quoted(call.name) + ",\"input\":" + call.arguments + "}";
      separator = ",";
    }
    out += "],";
    AppendStop(out, answer);
    out += ',';
    AppendUsage(out, answer.usage, answer.usage.output + answer.usage.reasoning);
    out += ",\"service_tier\":\"standard\"}}";
    return out;
  }

  std::vector<Event> Stream(const ChatRequest& request, const Answer& answer,
                            const Stamp& stamp) const override {
    EventWriter writer;
    writer.Event(EventKind::kOpen, "message_start", MessageStart(request, answer, stamp));
    if (!answer.thinking.empty()) StreamThinking(answer, writer);
    bool pinged = false;
    const auto ping_once = [&] {
      if (!pinged) writer.Event(EventKind::kOpen, "ping", R"({"type": "ping"})");
      pinged = true;
    };
    if (!answer.deltas.empty() || !answer.refusal.empty()) {
      writer.StartBlock(R"({"type":"text","text":""})");
      ping_once();
      for (const std::string& delta : answer.deltas) {
        writer.Delta(EventKind::kContent, "text_delta", "text", delta);
      }
      if (!answer.refusal.empty()) {
        writer.Delta(EventKind::kContent, "text_delta", "text", answer.refusal);
      }
      writer.StopBlock();
    }
    for (const ToolCall& call : answer.tool_calls) {
      writer.StartBlock("{\"type\":\"tool_use\",\"id\":\"toolu_01" + call.id +
                        "\",\"name\":" + Quoted(call.name) + ",\"input\":{}}");
      ping_once();
      StreamArguments(call, writer);
      writer.StopBlock();
    }
    ping_once();
    writer.Event(EventKind::kFinish, "message_delta", MessageDelta(answer));
    writer.Event(EventKind::kDone, "message_stop", R"({"type":"message_stop"})");
    return writer.Take();
  }

  ErrorReply Error(const ApiError& error, const Stamp& stamp) const override {
    ErrorReply reply;
    reply.status = error.status;
    reply.headers = Headers(stamp);
    if (error.retry_after >= 0) {
      const double wait = std::ceil(error.retry_after);
      reply.headers += "retry-after: " + std::to_string(static_cast<int64_t>(wait)) +
                       "\r\nanthropic-ratelimit-requests-limit: 50\r\n"
                       "anthropic-ratelimit-requests-remaining: 0\r\n"
                       "anthropic-ratelimit-requests-reset: " +
                       Rfc3339(stamp.unix_seconds + static_cast<int64_t>(wait)) + "\r\n";
    }
    reply.body = Body(error, stamp);
    return reply;
  }

  std::string StreamError(const ApiError& error, const Stamp& stamp) const override {
    return "event: error\ndata: " + Body(error, stamp) + "\n\n";
  }

  ApiError Known(KnownError kind, std::string_view model) const override {
    switch (kind) {
      case KnownError::kContextLength:
        return Invalid("prompt is too long: 212345 tokens > 200000 maximum");
      case KnownError::kModelNotFound:
        return Of(404, "not_found_error", "model: " + std::string(model));
      case KnownError::kQuota:
        return Invalid(
            "Your credit balance is too low to access the Anthropic API. Please go to "
            "Plans & Billing to upgrade or purchase credits.");
      case KnownError::kRateLimit:
        return Of(429, "rate_limit_error",
                  "This request would exceed your organization's rate limit of 50 requests per "
                  "minute. For details, refer to: "
                  "https://docs.anthropic.com/en/api/rate-limits.");
      case KnownError::kOverloaded:
        return Of(529, "overloaded_error", "Overloaded");
      case KnownError::kContentFilter:
        return Invalid("Output blocked by content filtering policy");
      case KnownError::kAuth:
        break;
    }
    return Unauthorized(true);
  }

  std::string_view Ping() const override { return kPing; }

  std::string Headers(const Stamp& stamp) const override {
    return "request-id: " + RequestId(stamp) + "\r\n";
  }

  std::string_view Key(const HttpRequest& request) const override {
    const std::string_view key = request.Header("x-api-key");
    if (!key.empty()) return key;
    const std::string_view bearer = request.Header("authorization");
    static constexpr std::string_view kBearer = "Bearer ";
    return bearer.substr(0, kBearer.size()) == kBearer ? bearer.substr(kBearer.size()) : "";
  }

  ApiError Unauthorized(bool key_given) const override {
    return Of(401, "authentication_error",
              key_given ? "invalid x-api-key" : "x-api-key header is required");
  }

 private:
  static std::string RequestId(const Stamp& stamp) { return "req_011" + Base62(stamp.id, 21); }

  static std::string Rfc3339(int64_t unix_seconds) {
    const std::time_t time = unix_seconds;
    std::tm utc{};
    gmtime_r(&time, &utc);
    char text[40];
    std::strftime(text, sizeof(text), "%Y-%m-%dT%H:%M:%SZ", &utc);
    return text;
  }

  static std::string MessageStart(const ChatRequest& request, const Answer& answer,
                                  const Stamp& stamp) {
    std::string data = "{\"type\":\"message_start\",\"message\":";
    AppendHead(data, request, stamp);
    data += ",\"content\":[],\"stop_reason\":null,\"stop_sequence\":null,";
    AppendUsage(data, answer.usage, 1);
    data += ",\"service_tier\":\"standard\"}}}";
    return data;
  }

  static std::string MessageDelta(const Answer& answer) {
    std::string data = "{\"type\":\"message_delta\",\"delta\":{";
    AppendStop(data, answer);
    data += "},";
    AppendUsage(data, answer.usage, answer.usage.output + answer.usage.reasoning);
    data += "}}";
    return data;
  }

  static void StreamThinking(const Answer& answer, EventWriter& writer) {
    writer.StartBlock(R"({"type":"thinking","thinking":"","signature":""})");
    for (std::string_view piece : EvenPieces(answer.thinking, 3)) {
      writer.Delta(EventKind::kOther, "thinking_delta", "thinking", piece);
    }
    writer.Delta(EventKind::kOther, "signature_delta", "signature", Signature());
    writer.StopBlock();
  }

  static void StreamArguments(const ToolCall& call, EventWriter& writer) {
    writer.Delta(EventKind::kToolArguments, "input_json_delta", "partial_json", "");
    const size_t pieces = std::max<size_t>(2, call.arguments.size() / 12);
    for (std::string_view piece : EvenPieces(call.arguments, pieces)) {
      writer.Delta(EventKind::kToolArguments, "input_json_delta", "partial_json", piece);
    }
  }

  static std::string_view DefaultType(int status) {
    switch (status) {
      case 401:
        return "authentication_error";
      case 402:
        return "billing_error";
      case 403:
        return "permission_error";
      case 404:
        return "not_found_error";
      case 413:
        return "request_too_large";
      case 429:
        return "rate_limit_error";
      case 504:
        return "timeout_error";
      case 503:
      case 529:
        return "overloaded_error";
      default:
        return status >= 500 ? "api_error" : "invalid_request_error";
    }
  }

  static std::string_view DefaultMessage(std::string_view type) {
    if (type == "overloaded_error") return "Overloaded";
    if (type == "api_error") return "Internal server error";
    if (type == "rate_limit_error") return "This request would exceed your rate limit.";
    return "The request was refused by the simulated provider.";
  }

  static std::string Body(const ApiError& error, const Stamp& stamp) {
    const std::string_view type =
        error.type.empty() ? DefaultType(error.status) : std::string_view(error.type);
    std::string out = "{\"type\":\"error\",\"error\":{\"type\":";
    AppendQuoted(out, type);
    out += ",\"message\":";
    AppendQuoted(out, error.message.empty() ? DefaultMessage(type) : error.message);
    out += "},\"request_id\":\"" + RequestId(stamp) + "\"}";
    return out;
  }
};

}  // namespace

const Wire& AnthropicWire() {
  static const Anthropic wire;
  return wire;
}

}  // namespace simprovider
