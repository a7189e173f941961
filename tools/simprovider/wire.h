// One provider's wire format: requests in, answers and errors out, byte-true to the real one.
// Stateless, so one instance of each serves all worker threads.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "tools/simprovider/chat.h"
#include "tools/simprovider/http_parser.h"

namespace simprovider {

// The model is set whenever the request names one, even when it is refused.
struct ParsedRequest {
  ChatRequest chat;
  std::optional<ApiError> error;
};

// What makes one response differ from the next one for the same request.
struct Stamp {
  uint64_t id = 0;
  int64_t unix_seconds = 0;
};

enum class EventKind {
  kOpen,           // preamble: roles, message_start, pings
  kContent,        // a piece of text
  kToolArguments,  // a fragment of a tool call's arguments
  kOther,
  kFinish,  // carries the finish reason
  kUsage,
  kDone,  // [DONE], message_stop
};

struct Event {
  EventKind kind;
  std::string bytes;
};

struct ErrorReply {
  int status = 500;
  std::string headers;  // complete lines
  std::string body;
};

class Wire {
 public:
  virtual ~Wire() = default;

  virtual std::string_view Name() const = 0;
  virtual ParsedRequest Parse(const HttpRequest& request) const = 0;
  virtual std::string Whole(const ChatRequest& request, const Answer& answer,
                            const Stamp& stamp) const = 0;
  virtual std::vector<Event> Stream(const ChatRequest& request, const Answer& answer,
                                    const Stamp& stamp) const = 0;
  virtual ErrorReply Error(const ApiError& error, const Stamp& stamp) const = 0;
  // The error as an event within a stream that has begun.
  virtual std::string StreamError(const ApiError& error, const Stamp& stamp) const = 0;
  virtual ApiError Known(KnownError kind, std::string_view model) const = 0;
  virtual std::string_view Ping() const = 0;
  virtual std::string_view StreamContentType(const ChatRequest&) const {
    return "text/event-stream; charset=utf-8";
  }
  // Header lines of a good response.
  virtual std::string Headers(const Stamp& stamp) const = 0;

  // The API key a request carries, empty if none.
  virtual std::string_view Key(const HttpRequest& request) const = 0;
  virtual ApiError Unauthorized(bool key_given) const = 0;
};

const Wire& OpenAiWire();
const Wire& AnthropicWire();
const Wire& GeminiWire();

}  // namespace simprovider
