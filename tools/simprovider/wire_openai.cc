// OpenAI Chat Completions, and what speaks it.
#include <algorithm>
#include <cmath>
#include <string>

#include "tools/simprovider/request_json.h"
#include "tools/simprovider/text.h"
#include "tools/simprovider/wire.h"

namespace simprovider {
namespace {

ApiError Invalid(std::string message, std::string param, std::string code) {
  ApiError error;
  error.status = 400;
  error.type = "invalid_request_error";
  error.message = std::move(message);
  error.param = std::move(param);
  error.code = std::move(code);
  return error;
}

bool IsReasoningModel(std::string_view model) {
  for (std::string_view prefix : {"o1", "o3", "o4", "gpt-5"}) {
    if (model.substr(0, prefix.size()) == prefix) return true;
  }
  return false;
}

bool IsKnownRole(std::string_view role) {
  for (std::string_view known : {"system", "developer", "user", "assistant", "tool", "function"}) {
    if (role == known) return true;
  }
  return false;
}

void AppendPart(const JsonValue& part, ChatRequest& chat, std::string& text) {
  const std::string_view type = StringMember(part, "type");
  if (type == "image_url") ++chat.image_count;
  if (type == "text" || type == "refusal") text += StringMember(part, type);
}

// The text of a message's content; false when it has none and needs one.
bool ReadContent(const JsonValue& message, bool required, ChatRequest& chat, std::string& text) {
  const auto content = Member(message, "content");
  if (!content) return !required;
  if (content->is_string()) {
    text = StringMember(message, "content");
    return true;
  }
  const auto parts = ArrayMember(message, "content");
  if (!parts) return false;
  for (const JsonValue part : *parts) AppendPart(part, chat, text);
  return true;
}

std::optional<ApiError> ReadMessages(const JsonValue& root, ChatRequest& chat) {
  if (!Member(root, "messages")) {
    return Invalid("Missing required parameter: 'messages'.", "messages",
                   "missing_required_parameter");
  }
  const auto messages = ArrayMember(root, "messages");
  if (!messages) {
    return Invalid("Invalid type for 'messages': expected an array of objects.", "messages",
                   "invalid_type");
  }
  if (messages->size() == 0) {
    return Invalid(
        "Invalid 'messages': empty array. Expected an array with minimum length 1, "
        "but got an empty array instead.",
        "messages", "empty_array");
  }
  bool tool_calls_open = false;
  size_t index = 0;
  for (const JsonValue message : *messages) {
    const std::string at = "messages[" + std::to_string(index++) + "]";
    const std::string_view role = StringMember(message, "role");
    if (!IsKnownRole(role)) {
      if (role.empty()) {
        return Invalid("Missing required parameter: '" + at + ".role'.", at + ".role",
                       "missing_required_parameter");
      }
      return Invalid("Invalid value: '" + std::string(role) +
                         "'. Supported values are: 'system', 'assistant', 'user', 'function', "
                         "'tool', and 'developer'.",
                     at + ".role", "invalid_value");
    }
    if (role == "tool" && !tool_calls_open) {
      return Invalid(
          "Invalid parameter: messages with role 'tool' must be a response to a "
          "preceeding message with 'tool_calls'.",
          at + ".role", "");
    }
    const bool calls_tools = ArrayMember(message, "tool_calls").has_value();
    if (role != "tool") tool_calls_open = calls_tools;
    Turn turn{std::string(role), ""};
    if (role == "developer") turn.role = "system";
    if (!ReadContent(message, !calls_tools, chat, turn.text)) {
      return Invalid("Invalid value for 'content': expected a string, got null.", at + ".content",
                     "");
    }
    chat.turns.push_back(std::move(turn));
  }
  return std::nullopt;
}

std::optional<ApiError> CheckRange(const JsonValue& root, const std::string& key, double low,
                                   double high) {
  const auto value = NumberMember(root, key);
  if (!value) return std::nullopt;
  char got[40];
  std::snprintf(got, sizeof(got), "%g", *value);
  char bound[40];
  std::snprintf(bound, sizeof(bound), "%g", *value < low ? low : high);
  if (*value < low) {
    return Invalid("Invalid '" + key + "': decimal below minimum value. Expected a value >= " +
                       bound + ", but got " + got + " instead.",
                   key, "decimal_below_min_value");
  }
  if (*value > high) {
    return Invalid("Invalid '" + key + "': decimal above maximum value. Expected a value <= " +
                       bound + ", but got " + got + " instead.",
                   key, "decimal_above_max_value");
  }
  return std::nullopt;
}

std::optional<ApiError> ReadLimits(const JsonValue& root, ChatRequest& chat) {
  if (auto error = CheckRange(root, "temperature", 0, 2)) return error;
  if (auto error = CheckRange(root, "top_p", 0, 1)) return error;
  if (Member(root, "max_tokens") && IsReasoningModel(chat.model)) {
    return Invalid(
        "Unsupported parameter: 'max_tokens' is not supported with this model. Use "
        "'max_completion_tokens' instead.",
        "max_tokens", "unsupported_parameter");
  }
  for (const char* key : {"max_tokens", "max_completion_tokens"}) {
    if (!Member(root, key)) continue;
    const int64_t limit = IntMember(root, key, -1);
    if (limit < 1) {
      return Invalid("Invalid '" + std::string(key) +
                         "': integer below minimum value. Expected a value >= 1, but got " +
                         std::to_string(limit) + " instead.",
                     key, "integer_below_min_value");
    }
    chat.max_tokens = static_cast<int>(std::min<int64_t>(limit, 1 << 30));
  }
  if (const auto stop = Member(root, "stop")) {
    if (stop->is_string()) chat.stop.emplace_back(StringMember(root, "stop"));
    if (const auto list = ArrayMember(root, "stop")) {
      if (list->size() > 4) {
        return Invalid(
            "Invalid 'stop': array too long. Expected an array with maximum length 4, "
            "but got an array with length " +
                std::to_string(list->size()) + " instead.",
            "stop", "array_above_max_length");
      }
      for (const JsonValue item : *list) {
        if (item.is_string()) chat.stop.emplace_back(std::string_view(item));
      }
    }
  }
  return std::nullopt;
}

std::optional<ApiError> ReadTools(const JsonValue& root, ChatRequest& chat) {
  if (const auto tools = ArrayMember(root, "tools")) {
    size_t index = 0;
    for (const JsonValue item : *tools) {
      const std::string at = "tools[" + std::to_string(index++) + "].function";
      const auto function = Member(item, "function");
      if (!function || StringMember(*function, "name").empty()) {
        return Invalid("Missing required parameter: '" + at + ".name'.", at + ".name",
                       "missing_required_parameter");
      }
      const auto schema = Member(*function, "parameters");
      chat.tools.push_back(
          {std::string(StringMember(*function, "name")), schema ? RawJson(*schema) : ""});
    }
  }
  const auto choice = Member(root, "tool_choice");
  if (!choice) return std::nullopt;
  if (chat.tools.empty()) {
    return Invalid(
        "Invalid value for 'tool_choice': 'tool_choice' is only allowed when 'tools' "
        "are specified.",
        "tool_choice", "");
  }
  const std::string_view name = StringMember(root, "tool_choice");
  if (name == "none") chat.tool_choice = ToolChoice::kNone;
  if (name == "required") chat.tool_choice = ToolChoice::kRequired;
  if (choice->is_object()) {
    chat.tool_choice = ToolChoice::kNamed;
    if (const auto function = Member(*choice, "function")) {
      chat.named_tool = StringMember(*function, "name");
    }
  }
  chat.parallel_tools = BoolMember(root, "parallel_tool_calls", true);
  return std::nullopt;
}

std::optional<ApiError> ReadResponseFormat(const JsonValue& root, ChatRequest& chat) {
  const auto format = Member(root, "response_format");
  if (!format) return std::nullopt;
  const std::string_view type = StringMember(*format, "type");
  if (type == "json_object") {
    chat.format = AnswerFormat::kJson;
    for (const Turn& turn : chat.turns) {
      if (ContainsIgnoringCase(turn.text, "json")) return std::nullopt;
    }
    return Invalid(
        "'messages' must contain the word 'json' in some form, to use "
        "'response_format' of type 'json_object'.",
        "messages", "");
  }
  if (type != "json_schema") return std::nullopt;
  const auto named = Member(*format, "json_schema");
  const auto schema = named ? Member(*named, "schema") : std::nullopt;
  if (!schema || StringMember(*named, "name").empty()) {
    return Invalid("Missing required parameter: 'response_format.json_schema'.",
                   "response_format.json_schema", "missing_required_parameter");
  }
  chat.format = AnswerFormat::kJsonSchema;
  chat.schema = RawJson(*schema);
  return std::nullopt;
}

std::optional<ApiError> ReadRequest(const JsonValue& root, ChatRequest& chat) {
  chat.stream = BoolMember(root, "stream");
  if (const auto options = Member(root, "stream_options")) {
    chat.include_usage = BoolMember(*options, "include_usage");
    if (!chat.stream) {
      return Invalid("The 'stream_options' parameter is only allowed when 'stream' is enabled.",
                     "stream_options", "");
    }
  }
  if (chat.model.empty()) return Invalid("you must provide a model parameter", "", "");
  chat.reasons = IsReasoningModel(chat.model);
  if (auto error = ReadMessages(root, chat)) return error;
  if (auto error = ReadLimits(root, chat)) return error;
  if (auto error = ReadTools(root, chat)) return error;
  return ReadResponseFormat(root, chat);
}

// Azure names the deployment in the path: /openai/deployments/{name}/chat/completions.
std::string_view ModelInPath(std::string_view path) {
  static constexpr std::string_view kBefore = "/deployments/";
  const size_t at = path.find(kBefore);
  if (at == std::string_view::npos) return {};
  path.remove_prefix(at + kBefore.size());
  return path.substr(0, path.find('/'));
}

std::string_view FinishName(Finish finish) {
  switch (finish) {
    case Finish::kLength:
      return "length";
    case Finish::kToolCalls:
      return "tool_calls";
    case Finish::kContentFilter:
      return "content_filter";
    default:
      return "stop";
  }
}

void AppendUsage(std::string& out, const Usage& usage) {
  const int completion = usage.output + usage.reasoning;
  out += "\"usage\":{\"prompt_tokens\":" + std::to_string(usage.input);
  out += ",\"completion_tokens\":" + std::to_string(completion);
  out += ",\"total_tokens\":" + std::to_string(usage.input + completion);
  out += ",\"prompt_tokens_details\":{\"cached_tokens\":" + std::to_string(usage.cached);
  out += ",\"audio_tokens\":0},\"completion_tokens_details\":{\"reasoning_tokens\":";
  out += std::to_string(usage.reasoning);
  out +=
      ",\"audio_tokens\":0,\"accepted_prediction_tokens\":0,"
      "\"rejected_prediction_tokens\":0}}";
}

void AppendHead(std::string& out, std::string_view object, const ChatRequest& request,
                const Stamp& stamp) {
  out += "{\"id\":\"chatcmpl-" + Base62(stamp.id, 29) + "\",\"object\":\"";
  out += object;
  out += "\",\"created\":" + std::to_string(stamp.unix_seconds) + ",\"model\":";
  AppendQuoted(out, request.model);
}

constexpr std::string_view kTail =
    "\"service_tier\":\"default\",\"system_fingerprint\":\"fp_simprovider\"";

void AppendToolCalls(std::string& out, const Answer& answer) {
  out += ",\"tool_calls\":[";
  for (const ToolCall& call : answer.tool_calls) {
    if (&call != &answer.tool_calls.front()) out += ',';
    out += "{\"id\":\"call_" + call.id + "\",\"type\":\"function\",\"function\":{\"name\":";
    AppendQuoted(out, call.name);
    out += ",\"arguments\":";
    AppendQuoted(out, call.arguments);
    out += "}}";
  }
  out += ']';
}

// Writes the chunks of one stream.
class ChunkWriter {
 public:
  ChunkWriter(const ChatRequest& request, const Stamp& stamp) : request_(request) {
    prefix_ = "data: ";
    AppendHead(prefix_, "chat.completion.chunk", request, stamp);
    prefix_ += ',';
    prefix_ += kTail;
    prefix_ += ",\"choices\":[";
  }

  void Delta(EventKind kind, std::string_view delta, std::string_view finish = {}) {
    std::string bytes;
    bytes.reserve(prefix_.size() + delta.size() + 120);
    bytes += prefix_;
    bytes += "{\"index\":0,\"delta\":";
    bytes += delta;
    bytes += ",\"logprobs\":null,\"finish_reason\":";
    if (finish.empty()) {
      bytes += "null";
    } else {
      AppendQuoted(bytes, finish);
    }
    bytes += request_.include_usage ? "}],\"usage\":null}\n\n" : "}]}\n\n";
    events_.push_back({kind, std::move(bytes)});
  }

  void UsageChunk(const Usage& usage) {
    std::string bytes = prefix_ + "],";
    AppendUsage(bytes, usage);
    bytes += "}\n\n";
    events_.push_back({EventKind::kUsage, std::move(bytes)});
  }

  void Done() { events_.push_back({EventKind::kDone, "data: [DONE]\n\n"}); }

  std::vector<Event> Take() { return std::move(events_); }

 private:
  const ChatRequest& request_;
  std::string prefix_;
  std::vector<Event> events_;
};

std::string StringDelta(std::string_view key, std::string_view text) {
  std::string delta = "{\"";
  delta += key;
  delta += "\":";
  AppendQuoted(delta, text);
  delta += '}';
  return delta;
}

void StreamToolCall(const ToolCall& call, size_t index, ChunkWriter& writer) {
  const std::string at = "{\"tool_calls\":[{\"index\":" + std::to_string(index);
  writer.Delta(EventKind::kOther, at + ",\"id\":\"call_" + call.id +
                                      "\",\"type\":\"function\",\"function\":{\"name\":" +
                                      Quoted(call.name) + ",\"arguments\":\"\"}}]}");
  const size_t pieces = std::max<size_t>(2, call.arguments.size() / 12);
  for (std::string_view piece : EvenPieces(call.arguments, pieces)) {
    writer.Delta(EventKind::kToolArguments,
                 at + ",\"function\":{\"arguments\":" + Quoted(piece) + "}}]}");
  }
}

class OpenAi final : public Wire {
 public:
  std::string_view Name() const override { return "openai"; }

  ParsedRequest Parse(const HttpRequest& request) const override {
    ParsedRequest parsed;
    const auto root = ParseObject(request.body);
    if (!root) {
      parsed.error = Invalid(
          "We could not parse the JSON body of your request. (HINT: This likely means you "
          "aren't using your HTTP library correctly. The OpenAI API expects a JSON "
          "payload, but what was sent was not valid JSON.)",
          "", "");
      return parsed;
    }
    parsed.chat.model = StringMember(*root, "model");
    if (parsed.chat.model.empty()) parsed.chat.model = PercentDecoded(ModelInPath(request.path));
    parsed.error = ReadRequest(*root, parsed.chat);
    return parsed;
  }

  std::string Whole(const ChatRequest& request, const Answer& answer,
                    const Stamp& stamp) const override {
    std::string out;
    AppendHead(out, "chat.completion", request, stamp);
    out += ",\"choices\":[{\"index\":0,\"message\":{\"role\":\"assistant\",\"content\":";
    const std::string text = answer.Text();
    const bool no_text = text.empty() && (!answer.tool_calls.empty() || !answer.refusal.empty());
    if (no_text) {
      out += "null";
    } else {
      AppendQuoted(out, text);
    }
    if (!answer.tool_calls.empty()) AppendToolCalls(out, answer);
    out += ",\"refusal\":";
    out += answer.refusal.empty() ? "null" : Quoted(answer.refusal);
    out += ",\"annotations\":[]},\"logprobs\":null,\"finish_reason\":";
    AppendQuoted(out, FinishName(answer.finish));
    out += "}],";
    AppendUsage(out, answer.usage);
    out += ',';
    out += kTail;
    out += '}';
    return out;
  }

  std::vector<Event> Stream(const ChatRequest& request, const Answer& answer,
                            const Stamp& stamp) const override {
    ChunkWriter writer(request, stamp);
    writer.Delta(EventKind::kOpen, answer.tool_calls.empty()
                                       ? R"({"role":"assistant","content":"","refusal":null})"
                                       : R"({"role":"assistant","content":null})");
    for (const std::string& delta : answer.deltas) {
      writer.Delta(EventKind::kContent, StringDelta("content", delta));
    }
    if (!answer.refusal.empty()) {
      writer.Delta(EventKind::kContent, StringDelta("refusal", answer.refusal));
    }
    for (size_t i = 0; i < answer.tool_calls.size(); ++i) {
      StreamToolCall(answer.tool_calls[i], i, writer);
    }
    writer.Delta(EventKind::kFinish, "{}", FinishName(answer.finish));
    if (request.include_usage) writer.UsageChunk(answer.usage);
    writer.Done();
    return writer.Take();
  }

  ErrorReply Error(const ApiError& error, const Stamp& stamp) const override {
    ErrorReply reply;
    reply.status = error.status;
    reply.headers = Headers(stamp);
    if (error.retry_after >= 0) {
      char seconds[40];
      std::snprintf(seconds, sizeof(seconds), "%.0f", std::ceil(error.retry_after));
      reply.headers += "retry-after: " + std::string(seconds) + "\r\nretry-after-ms: ";
      std::snprintf(seconds, sizeof(seconds), "%.0f", error.retry_after * 1000);
      reply.headers += std::string(seconds) +
                       "\r\nx-ratelimit-limit-requests: 500\r\n"
                       "x-ratelimit-remaining-requests: 0\r\nx-ratelimit-reset-requests: " +
                       SecondsText(error.retry_after) + "\r\n";
    }
    reply.body = Body(error);
    return reply;
  }

  std::string StreamError(const ApiError& error, const Stamp&) const override {
    return "data: " + Body(error) + "\n\n";
  }

  ApiError Known(KnownError kind, std::string_view model) const override {
    const std::string name(model);
    switch (kind) {
      case KnownError::kContextLength:
        return Invalid(
            "This model's maximum context length is 128000 tokens. However, your "
            "messages resulted in 150000 tokens. Please reduce the length of the "
            "messages.",
            "messages", "context_length_exceeded");
      case KnownError::kModelNotFound: {
        ApiError error =
            Invalid("The model `" + name + "` does not exist or you do not have access to it.", "",
                    "model_not_found");
        error.status = 404;
        return error;
      }
      case KnownError::kQuota:
        return Of(429, "insufficient_quota", "insufficient_quota",
                  "You exceeded your current quota, please check your plan and billing details. "
                  "For more information on this error, read the docs: "
                  "https://platform.openai.com/docs/guides/error-codes/api-errors.");
      case KnownError::kRateLimit:
        return Of(429, "requests", "rate_limit_exceeded",
                  "Rate limit reached for " + name +
                      " in organization org-simulated on requests per min (RPM): Limit 500, Used "
                      "500, Requested 1. Visit https://platform.openai.com/account/rate-limits to "
                      "learn more.");
      case KnownError::kOverloaded:
        return Of(503, "server_error", "",
                  "The server is currently overloaded with other requests. Sorry about that! You "
                  "can retry your request, or contact us through our help center at "
                  "help.openai.com if the error persists.");
      case KnownError::kContentFilter: {
        ApiError error = Of(400, "", "content_filter",
                            "The response was filtered due to the prompt triggering the content "
                            "management policy. Please modify your prompt and retry.");
        error.param = "prompt";
        return error;
      }
      case KnownError::kAuth:
        break;
    }
    return Unauthorized(true);
  }

  std::string_view Ping() const override { return ": keep-alive\n\n"; }

  std::string Headers(const Stamp& stamp) const override {
    return "x-request-id: req_" + Base62(stamp.id, 24) +
           "\r\nopenai-processing-ms: 1\r\nopenai-version: 2020-10-01\r\n";
  }

  std::string_view Key(const HttpRequest& request) const override {
    std::string_view bearer = request.Header("authorization");
    static constexpr std::string_view kBearer = "Bearer ";
    if (bearer.substr(0, kBearer.size()) == kBearer) return bearer.substr(kBearer.size());
    return request.Header("api-key");
  }

  ApiError Unauthorized(bool key_given) const override {
    if (!key_given) {
      return Of(401, "invalid_request_error", "",
                "You didn't provide an API key. You need to provide your API key in an "
                "Authorization header using Bearer auth (i.e. Authorization: Bearer YOUR_KEY).");
    }
    return Of(401, "invalid_request_error", "invalid_api_key",
              "Incorrect API key provided. You can find your API key at "
              "https://platform.openai.com/account/api-keys.");
  }

 private:
  static ApiError Of(int status, std::string type, std::string code, std::string message) {
    ApiError error;
    error.status = status;
    error.type = std::move(type);
    error.code = std::move(code);
    error.message = std::move(message);
    return error;
  }

  static std::string_view DefaultType(int status) {
    if (status == 429) return "requests";
    return status >= 500 ? "server_error" : "invalid_request_error";
  }

  static std::string_view DefaultCode(int status) {
    if (status == 401) return "invalid_api_key";
    return status == 429 ? "rate_limit_exceeded" : "";
  }

  static std::string_view DefaultMessage(int status) {
    if (status == 429) return "Rate limit reached for requests";
    if (status == 503) return "The engine is currently overloaded, please try again later";
    if (status >= 500) {
      return "The server had an error while processing your request. Sorry about that!";
    }
    return "The request was refused by the simulated provider.";
  }

  static std::string Body(const ApiError& error) {
    std::string out = "{\"error\":{\"message\":";
    AppendQuoted(out, error.message.empty() ? DefaultMessage(error.status) : error.message);
    out += ",\"type\":";
    AppendQuoted(out, error.type.empty() ? DefaultType(error.status) : error.type);
    out += ",\"param\":";
    out += error.param.empty() ? "null" : Quoted(error.param);
    out += ",\"code\":";
    const std::string_view code = error.code.empty() && error.type.empty()
                                      ? DefaultCode(error.status)
                                      : std::string_view(error.code);
    out += code.empty() ? "null" : Quoted(code);
    out += "}}";
    return out;
  }
};

}  // namespace

const Wire& OpenAiWire() {
  static const OpenAi wire;
  return wire;
}

}  // namespace simprovider
