#pragma once

// Reads a stream of Server-Sent Events as it arrives, cut into pieces anywhere. Follows the HTML
// standard: lines end in LF, CRLF or CR; a BOM at the start, comments and unknown fields are
// skipped; data lines are joined by LF; an event without data is none. A line or an event longer
// than the limit is skipped and counted, so memory is bounded. One parser a stream, one thread;
// buffers are reused, so after the first events it allocates nothing.

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "absl/functional/function_ref.h"

namespace holdfast::providers {

class SseParser {
 public:
  // `event` is "message" if the stream named none. Both are valid during the call only. The
  // callback must not call the parser.
  using OnEvent = absl::FunctionRef<void(std::string_view event, std::string_view data)>;

  static constexpr size_t kDefaultMaxLine = 1 << 20;

  // `max_line` bounds a line without its end, and the joined data of an event.
  explicit SseParser(size_t max_line = kDefaultMaxLine) : max_line_(max_line) {}

  void Feed(std::string_view bytes, OnEvent on_event);

  // The stream has ended. The standard drops an event that no blank line has ended; this delivers
  // it, for servers that leave out the last blank line or line end. Callers that want the standard
  // do not call it.
  void Finish(OnEvent on_event);

  const std::string& last_event_id() const { return last_event_id_; }
  std::optional<uint64_t> retry_millis() const { return retry_millis_; }

  // Lines that were skipped because they, or the data they added to, were over the limit.
  uint64_t skipped_lines() const { return skipped_lines_; }

 private:
  void EndLine(std::string_view tail, OnEvent on_event);
  void OnLine(std::string_view line, OnEvent on_event);
  void OnField(std::string_view name, std::string_view value);
  void OnData(std::string_view value);
  void Dispatch(OnEvent on_event);
  void Buffer(std::string_view part);

  const size_t max_line_;
  std::string line_;       // the part of the current line that came with earlier pieces
  bool too_long_ = false;  // the current line is; nothing of it is kept
  bool after_cr_ = false;  // the next byte, if LF, belongs to the line end before
  bool first_line_ = true;

  std::string event_;
  std::string data_;
  bool has_data_ = false;
  bool drop_event_ = false;  // its data got too long
  std::string last_event_id_;
  std::optional<uint64_t> retry_millis_;
  uint64_t skipped_lines_ = 0;
};

}  // namespace holdfast::providers
