// Gemini generateContent and streamGenerateContent.
#include <algorithm>
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

ApiError Invalid(std::string message) { return Of(400, "INVALID_ARGUMENT", std::move(message)); }

// Google takes both spellings of every name.
std::optional<JsonValue> Either(const JsonValue& object, std::string_view camel,
                                std::string_view snake) {
  const auto value = Member(object, camel);
  return value ? value : Member(object, snake);
}

bool IsKnownName(std::string_view name) {
  for (std::string_view known :
       {"contents", "systemInstruction", "system_instruction", "tools", "toolConfig", "tool_config",
        "safetySettings", "safety_settings", "generationConfig", "generation_config",
        "cachedContent", "cached_content", "labels", "model"}) {
    if (name == known) return true;
  }
  return false;
}

struct Parts {
  std::string text;
  bool tool_result = false;
  size_t count = 0;
};

Parts ReadParts(const JsonValue& content, ChatRequest& chat) {
  Parts parts;
  const auto list = ArrayMember(content, "parts");
  if (!list) return parts;
  for (const JsonValue part : *list) {
    ++parts.count;
    parts.text += StringMember(part, "text");
    if (Either(part, "inlineData", "inline_data") || Either(part, "fileData", "file_data")) {
      ++chat.image_count;
    }
    if (const auto result = Either(part, "functionResponse", "function_response")) {
      parts.tool_result = true;
      const auto response = Member(*result, "response");
      if (response) parts.text += RawJson(*response);
    }
  }
  return parts;
}

std::optional<ApiError> ReadContents(const JsonValue& root, ChatRequest& chat) {
  if (const auto system = Either(root, "systemInstruction", "system_instruction")) {
    chat.turns.push_back({"system", ReadParts(*system, chat).text});
  }
  const auto contents = ArrayMember(root, "contents");
  if (!contents || contents->size() == 0) {
    return Invalid("* GenerateContentRequest.contents: contents is not specified\n");
  }
  size_t index = 0;
  for (const JsonValue content : *contents) {
    const std::string_view role = StringMember(content, "role");
    if (!role.empty() && role != "user" && role != "model" && role != "function") {
      return Invalid("Please use a valid role: user, model.");
    }
    const Parts parts = ReadParts(content, chat);
    const std::string at = "GenerateContentRequest.contents[" + std::to_string(index++) + "]";
    if (parts.count == 0) return Invalid("* " + at + ".parts: contents.parts must not be empty.\n");
    const char* neutral = role == "model" ? "assistant" : "user";
    chat.turns.push_back({parts.tool_result ? "tool" : neutral, parts.text});
  }
  return std::nullopt;
}

void ReadThinking(const JsonValue& config, ChatRequest& chat) {
  chat.reasons = chat.model.find("2.5") != std::string::npos ||
                 chat.model.find("gemini-3") != std::string::npos;
  const auto thinking = Either(config, "thinkingConfig", "thinking_config");
  if (thinking && IntMember(*thinking, "thinkingBudget", -1) == 0) chat.reasons = false;
}

void ReadFormat(const JsonValue& config, ChatRequest& chat) {
  const auto type = Either(config, "responseMimeType", "response_mime_type");
  if (!type || !type->is_string() || std::string_view(*type) != "application/json") return;
  chat.format = AnswerFormat::kJson;
  auto schema = Either(config, "responseSchema", "response_schema");
  if (!schema) schema = Either(config, "responseJsonSchema", "response_json_schema");
  if (!schema) return;
  chat.format = AnswerFormat::kJsonSchema;
  chat.schema = RawJson(*schema);
}

std::optional<ApiError> ReadGenerationConfig(const JsonValue& root, ChatRequest& chat) {
  const auto config = Either(root, "generationConfig", "generation_config");
  ReadThinking(config ? *config : root, chat);
  if (!config) return std::nullopt;
  const auto temperature = NumberMember(*config, "temperature");
  if (temperature && (*temperature < 0 || *temperature > 2)) {
    return Invalid(
        "* GenerateContentRequest.generation_config.temperature: temperature must be "
        "in the range [0.0, 2.0].\n");
  }
  if (const auto limit = Either(*config, "maxOutputTokens", "max_output_tokens")) {
    int64_t tokens = 0;
    if (limit->get(tokens) != simdjson::SUCCESS || tokens < 1) {
      return Invalid(
          "* GenerateContentRequest.generation_config.max_output_tokens: "
          "max_output_tokens must be positive.\n");
    }
    chat.max_tokens = static_cast<int>(std::min<int64_t>(tokens, 1 << 30));
  }
  const auto stop = Either(*config, "stopSequences", "stop_sequences");
  if (stop && stop->is_array()) {
    for (const JsonValue item : simdjson::dom::array(*stop)) {
      if (item.is_string()) chat.stop.emplace_back(std::string_view(item));
    }
  }
  ReadFormat(*config, chat);
  return std::nullopt;
}

std::optional<ApiError> ReadFunction(const JsonValue& function, ChatRequest& chat) {
  const std::string_view name = StringMember(function, "name");
  if (name.empty()) {
    return Invalid(
        "* GenerateContentRequest.tools[0].function_declarations[0].name: Invalid "
        "function name.\n");
  }
  auto schema = Member(function, "parameters");
  if (!schema) schema = Either(function, "parametersJsonSchema", "parameters_json_schema");
  chat.tools.push_back({std::string(name), schema ? RawJson(*schema) : ""});
  return std::nullopt;
}

void ReadToolConfig(const JsonValue& root, ChatRequest& chat) {
  const auto config = Either(root, "toolConfig", "tool_config");
  if (!config) return;
  const auto calling = Either(*config, "functionCallingConfig", "function_calling_config");
  if (!calling) return;
  const std::string_view mode = StringMember(*calling, "mode");
  if (mode == "NONE") chat.tool_choice = ToolChoice::kNone;
  if (mode != "ANY") return;
  chat.tool_choice = ToolChoice::kRequired;
  const auto names = Either(*calling, "allowedFunctionNames", "allowed_function_names");
  if (!names || !names->is_array()) return;
  for (const JsonValue name : simdjson::dom::array(*names)) {
    if (!name.is_string()) continue;
    chat.tool_choice = ToolChoice::kNamed;
    chat.named_tool = std::string_view(name);
  }
}

std::optional<ApiError> ReadTools(const JsonValue& root, ChatRequest& chat) {
  if (const auto tools = ArrayMember(root, "tools")) {
    for (const JsonValue tool : *tools) {
      const auto functions = Either(tool, "functionDeclarations", "function_declarations");
      if (!functions || !functions->is_array()) continue;
      for (const JsonValue function : simdjson::dom::array(*functions)) {
        if (auto error = ReadFunction(function, chat)) return error;
      }
    }
  }
  ReadToolConfig(root, chat);
  return std::nullopt;
}

std::optional<ApiError> ReadRequest(const JsonValue& root, ChatRequest& chat) {
  for (const auto& member : simdjson::dom::object(root)) {
    if (IsKnownName(member.key)) continue;
    return Invalid("Invalid JSON payload received. Unknown name \"" + std::string(member.key) +
                   "\": Cannot find field.");
  }
  if (auto error = ReadContents(root, chat)) return error;
  if (auto error = ReadGenerationConfig(root, chat)) return error;
  return ReadTools(root, chat);
}

// The {model} of .../models/{model}:method.
std::string ModelInPath(std::string_view path) {
  const size_t models = path.rfind("/models/");
  const size_t colon = path.rfind(':');
  if (models == std::string_view::npos || colon == std::string_view::npos) return "";
  const size_t begin = models + 8;
  return colon < begin ? "" : PercentDecoded(path.substr(begin, colon - begin));
}

std::string_view FinishReason(Finish finish) {
  switch (finish) {
    case Finish::kLength:
      return "MAX_TOKENS";
    case Finish::kContentFilter:
    case Finish::kRefusal:
      return "SAFETY";
    default:
      return "STOP";
  }
}

std::string CallPart(const ToolCall& call) {
  return "{\"functionCall\":{\"name\":" + Quoted(call.name) + ",\"args\":" + call.arguments + "}}";
}

std::string TextPart(std::string_view text) {
  std::string part = "{\"text\":";
  AppendQuoted(part, text);
  part += '}';
  return part;
}

constexpr std::string_view kSafetyRatings =
    ",\"safetyRatings\":[{\"category\":\"HARM_CATEGORY_DANGEROUS_CONTENT\",\"probability\":"
    "\"HIGH\",\"blocked\":true}]";

std::string Candidate(std::string_view parts, const Answer& answer, bool last) {
  std::string out = "\"candidates\":[{";
  const bool content = !parts.empty();
  if (content) {
    out += "\"content\":{\"parts\":[";
    out += parts;
    out += "],\"role\":\"model\"},";
  } else if (answer.finish == Finish::kStop) {
    out += "\"content\":{\"role\":\"model\"},";
  }
  if (last) {
    out += "\"finishReason\":\"";
    out += FinishReason(answer.finish);
    out += "\",";
  }
  out += "\"index\":0";
  if (last && FinishReason(answer.finish) == "SAFETY") out += kSafetyRatings;
  out += "}],";
  return out;
}

std::string UsageMetadata(const Usage& usage, int output) {
  std::string out = "\"usageMetadata\":{\"promptTokenCount\":" + std::to_string(usage.input);
  if (output > 0) out += ",\"candidatesTokenCount\":" + std::to_string(output);
  out += ",\"totalTokenCount\":" + std::to_string(usage.input + output + usage.reasoning);
  if (usage.cached > 0) out += ",\"cachedContentTokenCount\":" + std::to_string(usage.cached);
  out += ",\"promptTokensDetails\":[{\"modality\":\"TEXT\",\"tokenCount\":" +
         std::to_string(usage.input) + "}]";
  if (usage.reasoning > 0) out += ",\"thoughtsTokenCount\":" + std::to_string(usage.reasoning);
  out += "},";
  return out;
}

std::string Ending(const ChatRequest& request, const Stamp& stamp) {
  return "\"modelVersion\":" + Quoted(request.model) + ",\"responseId\":\"" + Base62(stamp.id, 22) +
         "\"}";
}

std::string Blocked(const ChatRequest& request, const Answer& answer, const Stamp& stamp) {
  return "{\"promptFeedback\":{\"blockReason\":\"SAFETY\"" + std::string(kSafetyRatings) + "}," +
         UsageMetadata(answer.usage, 0) + Ending(request, stamp);
}

class Gemini final : public Wire {
 public:
  std::string_view Name() const override { return "gemini"; }

  ParsedRequest Parse(const HttpRequest& request) const override {
    ParsedRequest parsed;
    ChatRequest& chat = parsed.chat;
    chat.model = ModelInPath(request.path);
    static constexpr std::string_view kStream = ":streamGenerateContent";
    chat.stream = request.path.size() > kStream.size() &&
                  request.path.substr(request.path.size() - kStream.size()) == kStream;
    chat.server_sent_events = QueryValue(request.query, "alt") == "sse";
    const auto root = ParseObject(request.body);
    if (!root) {
      parsed.error = Invalid("Invalid JSON payload received. Unexpected token.\n");
      return parsed;
    }
    parsed.error = ReadRequest(*root, chat);
    return parsed;
  }

  std::string Whole(const ChatRequest& request, const Answer& answer,
                    const Stamp& stamp) const override {
    if (answer.prompt_blocked) return Blocked(request, answer, stamp);
    std::string parts;
    const std::string text = answer.Text();
    if (!text.empty()) parts = TextPart(text);
    for (const ToolCall& call : answer.tool_calls) {
      if (!parts.empty()) parts += ',';
      parts += CallPart(call);
    }
    return "{" + Candidate(parts, answer, true) + UsageMetadata(answer.usage, answer.usage.output) +
           Ending(request, stamp);
  }

  std::vector<Event> Stream(const ChatRequest& request, const Answer& answer,
                            const Stamp& stamp) const override {
    std::vector<Event> events;
    if (answer.prompt_blocked) {
      events.push_back({EventKind::kFinish, Blocked(request, answer, stamp)});
    } else {
      const std::string ending = Ending(request, stamp);
      for (const std::string& delta : answer.deltas) {
        events.push_back({EventKind::kContent, "{" + Candidate(TextPart(delta), answer, false) +
                                                   UsageMetadata(answer.usage, 0) + ending});
      }
      for (const ToolCall& call : answer.tool_calls) {
        events.push_back({EventKind::kToolArguments, "{" +
                                                         Candidate(CallPart(call), answer, false) +
                                                         UsageMetadata(answer.usage, 0) + ending});
      }
      const std::string last = answer.deltas.empty() ? "" : TextPart("");
      events.push_back({EventKind::kFinish, "{" + Candidate(last, answer, true) +
                                                UsageMetadata(answer.usage, answer.usage.output) +
                                                ending});
    }
    Frame(request.server_sent_events, events);
    return events;
  }

  ErrorReply Error(const ApiError& error, const Stamp& stamp) const override {
    return {error.status, Headers(stamp), Body(error)};
  }

  std::string StreamError(const ApiError& error, const Stamp&) const override {
    return "data: " + Body(error) + "\r\n\r\n";
  }

  ApiError Known(KnownError kind, std::string_view model) const override {
    switch (kind) {
      case KnownError::kContextLength:
        return Invalid(
            "The input token count (1500000) exceeds the maximum number of tokens "
            "allowed (1048576).");
      case KnownError::kModelNotFound:
        return Of(404, "NOT_FOUND",
                  "models/" + std::string(model) +
                      " is not found for API version v1beta, or is not supported for "
                      "generateContent. Call ListModels to see the list of available models and "
                      "their supported methods.");
      case KnownError::kQuota: {
        ApiError error = Exhausted();
        error.quota_id = "GenerateRequestsPerDayPerProjectPerModel-FreeTier";
        return error;
      }
      case KnownError::kRateLimit: {
        ApiError error = Exhausted();
        error.quota_id = "GenerateRequestsPerMinutePerProjectPerModel";
        return error;
      }
      case KnownError::kOverloaded:
        return Of(503, "UNAVAILABLE", "The model is overloaded. Please try again later.");
      case KnownError::kContentFilter:
        return Invalid("The prompt was blocked.");
      case KnownError::kAuth:
        break;
    }
    return Unauthorized(true);
  }

  std::string_view Ping() const override { return ": keep-alive\r\n\r\n"; }

  std::string_view StreamContentType(const ChatRequest& request) const override {
    return request.server_sent_events ? "text/event-stream" : "application/json; charset=UTF-8";
  }

  std::string Headers(const Stamp&) const override {
    return "Vary: Origin\r\nServer: scaffolding on HTTPServer2\r\n";
  }

  std::string_view Key(const HttpRequest& request) const override {
    const std::string_view key = request.Header("x-goog-api-key");
    if (!key.empty()) return key;
    for (std::string_view query = request.query; !query.empty();) {
      const size_t end = std::min(query.find('&'), query.size());
      if (query.substr(0, 4) == "key=") return query.substr(4, end - 4);
      query.remove_prefix(std::min(end + 1, query.size()));
    }
    return {};
  }

  ApiError Unauthorized(bool key_given) const override {
    if (!key_given) {
      return Of(403, "PERMISSION_DENIED",
                "Method doesn't allow unregistered callers (callers without established "
                "identity). Please use API Key or other form of API consumer identity to call "
                "this API.");
    }
    ApiError error = Invalid("API key not valid. Please pass a valid API key.");
    error.reason = "API_KEY_INVALID";
    return error;
  }

 private:
  static ApiError Exhausted() {
    return Of(429, "RESOURCE_EXHAUSTED",
              "You exceeded your current quota, please check your plan and billing details. For "
              "more information on this error, head to: "
              "https://ai.google.dev/gemini-api/docs/rate-limits.");
  }

  static void Frame(bool server_sent_events, std::vector<Event>& events) {
    for (size_t i = 0; i < events.size(); ++i) {
      std::string& bytes = events[i].bytes;
      if (server_sent_events) {
        bytes = "data: " + bytes + "\r\n\r\n";
      } else {
        bytes = (i == 0 ? "[" : ",\r\n") + bytes + (i + 1 == events.size() ? "]" : "");
      }
    }
  }

  static std::string_view DefaultStatus(int status) {
    switch (status) {
      case 400:
        return "INVALID_ARGUMENT";
      case 401:
        return "UNAUTHENTICATED";
      case 403:
        return "PERMISSION_DENIED";
      case 404:
        return "NOT_FOUND";
      case 429:
        return "RESOURCE_EXHAUSTED";
      case 500:
        return "INTERNAL";
      case 503:
        return "UNAVAILABLE";
      case 504:
        return "DEADLINE_EXCEEDED";
      default:
        return "UNKNOWN";
    }
  }

  static std::string_view DefaultMessage(int status) {
    switch (status) {
      case 429:
        return "Resource has been exhausted (e.g. check quota).";
      case 500:
        return "An internal error has occurred. Please retry or report in "
               "https://developers.generativeai.google/guide/troubleshooting";
      case 503:
        return "The model is overloaded. Please try again later.";
      case 504:
        return "Deadline expired before operation could complete.";
      default:
        return "The request was refused by the simulated provider.";
    }
  }

  static std::string Details(const ApiError& error) {
    std::string details;
    const auto add = [&details](const std::string& detail) {
      if (!details.empty()) details += ',';
      details += detail;
    };
    if (!error.reason.empty()) {
      add("{\"@type\":\"type.googleapis.com/google.rpc.ErrorInfo\",\"reason\":" +
          Quoted(error.reason) +
          ",\"domain\":\"googleapis.com\",\"metadata\":{\"service\":"
          "\"generativelanguage.googleapis.com\"}}");
    }
    if (!error.quota_id.empty()) {
      add("{\"@type\":\"type.googleapis.com/google.rpc.QuotaFailure\",\"violations\":["
          "{\"quotaMetric\":\"generativelanguage.googleapis.com/generate_content_requests\","
          "\"quotaId\":" +
          Quoted(error.quota_id) + "}]}");
    }
    if (error.retry_after >= 0) {
      add("{\"@type\":\"type.googleapis.com/google.rpc.RetryInfo\",\"retryDelay\":\"" +
          SecondsText(error.retry_after) + "\"}");
    }
    return details;
  }

  static std::string Body(const ApiError& error) {
    std::string out = "{\"error\":{\"code\":" + std::to_string(error.status) + ",\"message\":";
    AppendQuoted(out, error.message.empty() ? DefaultMessage(error.status) : error.message);
    out += ",\"status\":";
    AppendQuoted(out, error.type.empty() ? DefaultStatus(error.status) : error.type);
    const std::string details = Details(error);
    if (!details.empty()) out += ",\"details\":[" + details + "]";
    out += "}}";
    return out;
  }
};

}  // namespace

const Wire& GeminiWire() {
  static const Gemini wire;
  return wire;
}

}  // namespace simprovider
