// The vocabulary between the wire formats, the answers and the faults: a request and an answer
// that know nothing of a provider's JSON. Plain values.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace simprovider {

struct Tool {
  std::string name;
  std::string schema;  // JSON, may be empty
};

struct Turn {
  std::string role;  // system, user, assistant, tool
  std::string text;
};

enum class ToolChoice { kAuto, kNone, kRequired, kNamed };
enum class AnswerFormat { kText, kJson, kJsonSchema };

struct ChatRequest {
  std::string model;
  std::vector<Turn> turns;
  bool stream = false;
  bool include_usage = false;      // OpenAI's stream_options.include_usage
  bool server_sent_events = true;  // false: Gemini's JSON array stream
  int max_tokens = -1;             // -1: not asked for
  std::vector<std::string> stop;
  std::vector<Tool> tools;
  ToolChoice tool_choice = ToolChoice::kAuto;
  std::string named_tool;
  bool parallel_tools = true;
  AnswerFormat format = AnswerFormat::kText;
  std::string schema;      // of kJsonSchema
  bool thinking = false;   // Anthropic: a thinking block is asked for
  bool reasons = false;    // the model spends hidden reasoning tokens
  bool cacheable = false;  // part of the prompt is read from the provider's cache
  size_t image_count = 0;
};

struct ToolCall {
  std::string id;
  std::string name;
  std::string arguments;  // JSON
};

enum class Finish { kStop, kStopSequence, kLength, kToolCalls, kContentFilter, kRefusal };

struct Usage {
  int input = 0;  // cached ones included
  int cached = 0;
  int output = 0;  // reasoning not included
  int reasoning = 0;
};

struct Answer {
  std::vector<std::string> deltas;  // the text, in the pieces a stream sends
  std::string thinking;
  std::string refusal;
  std::vector<ToolCall> tool_calls;
  Finish finish = Finish::kStop;
  std::string stop_sequence;
  bool prompt_blocked = false;  // Gemini's promptFeedback.blockReason
  Usage usage;

  std::string Text() const {
    std::string text;
    for (const std::string& delta : deltas) text += delta;
    return text;
  }
};

// An error as a provider would report it; each wire format puts it into its own shape. Empty
// type: what the provider says for that status.
struct ApiError {
  int status = 400;
  std::string type;   // OpenAI and Anthropic "type", Gemini "status"
  std::string code;   // OpenAI only
  std::string param;  // OpenAI only
  std::string message;
  std::string reason;       // Gemini: the reason of an ErrorInfo detail
  std::string quota_id;     // Gemini: a QuotaFailure detail
  double retry_after = -1;  // seconds; < 0: not told
};

// The errors the convenience faults ask for.
enum class KnownError {
  kContextLength,
  kModelNotFound,
  kQuota,
  kRateLimit,
  kOverloaded,
  kAuth,
  kContentFilter,
};

}  // namespace simprovider
