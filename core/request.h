#pragma once

// What a caller asks for, free of any wire format. server/ makes it from the API's protobuf and
// validates it; from then on it is immutable and shared by every attempt.

#include <cstdint>
#include <optional>
#include <string>
#include <utility>
#include <variant>
#include <vector>

#include "core/clock.h"

namespace holdfast::core {

enum class Role { kSystem, kUser, kAssistant, kTool };

struct Text {
  std::string text;  // UTF-8
};

struct Image {
  std::string url;        // exactly one of url and bytes is set
  std::string bytes;      // raw, not base64
  std::string mime_type;  // with bytes
};

struct ToolCall {
  std::string id;
  std::string name;
  std::string arguments;  // a JSON object as text
};

struct ToolResult {
  std::string tool_call_id;
  std::string name;     // of the tool that was called
  std::string content;  // UTF-8
  bool is_error = false;
};

using Part = std::variant<Text, Image, ToolCall, ToolResult>;

struct Message {
  Role role = Role::kUser;
  std::vector<Part> parts;  // never empty
};

struct Tool {
  std::string name;
  std::string description;
  std::string parameters;  // JSON Schema as text; empty = no parameters
};

struct ToolChoice {
  enum class Kind { kAuto, kNone, kRequired, kNamed };
  Kind kind = Kind::kAuto;
  std::string name;  // with kNamed
};

struct ResponseFormat {
  enum class Kind { kText, kJsonObject, kJsonSchema };
  Kind kind = Kind::kText;
  std::string name;    // with kJsonSchema; "response" if the caller named none
  std::string schema;  // with kJsonSchema
};

// The rungs of the ladder, best first. The order is the meaning.
enum class Degradation { kNone, kFallbackModel, kStale, kPartial };

struct CacheControl {
  enum class Mode { kFallback, kOff, kPrefer };
  std::optional<Mode> mode;              // unset = the route's
  std::optional<double> min_similarity;  // [0, 1]; can only raise the route's
  std::optional<Duration> max_age;       // > 0; can only shorten the route's
  bool no_store = false;
};

// What becomes of a streamed answer that breaks after content has reached the caller.
enum class OnBreak { kContinue, kRestart, kPartial };

// Read only where the answer is streamed.
struct StreamOptions {
  std::optional<OnBreak> on_break;  // unset = the route's
  std::optional<bool> hedge;        // unset = the route's
  bool assembled_message = false;   // the last event repeats the whole answer
};

struct Request {
  std::string request_id;
  std::string tenant;
  std::string route;
  std::vector<Message> messages;  // never empty
  std::optional<int64_t> max_output_tokens;
  std::optional<double> temperature;
  std::optional<double> top_p;
  std::vector<std::string> stop;
  std::optional<int64_t> seed;
  std::vector<Tool> tools;
  ToolChoice tool_choice;
  ResponseFormat response_format;
  CacheControl cache;
  std::optional<Degradation> worst_acceptable;  // unset = the route's
  std::optional<double> max_cost_usd;
  std::vector<std::pair<std::string, std::string>> labels;
  StreamOptions stream;
};

const char* Name(Role role);                // "system", "user", "assistant", "tool"
const char* Name(Degradation degradation);  // "none", "fallback_model", "stale", "partial"

// Bytes of text and number of images over all messages and tools: what costs are estimated from.
struct PromptSize {
  uint64_t text_bytes = 0;
  uint64_t images = 0;
};
PromptSize MeasurePrompt(const Request& request);

}  // namespace holdfast::core
