#include "tools/simprovider/http_parser.h"

#include <algorithm>
#include <charconv>

#include "tools/simprovider/text.h"

namespace simprovider {
namespace {

constexpr size_t kMaxHeadBytes = 64 * 1024;
constexpr size_t kMaxBodyBytes = 64 * 1024 * 1024;

std::string_view Trimmed(std::string_view text) {
  while (!text.empty() && (text.front() == ' ' || text.front() == '\t')) text.remove_prefix(1);
  while (!text.empty() && (text.back() == ' ' || text.back() == '\t')) text.remove_suffix(1);
  return text;
}

bool ParseRequestLine(std::string_view line, HttpRequest& request) {
  const size_t first = line.find(' ');
  const size_t last = line.rfind(' ');
  if (first == std::string_view::npos || last == first) return false;
  request.method = line.substr(0, first);
  const std::string_view target = line.substr(first + 1, last - first - 1);
  const size_t question = std::min(target.find('?'), target.size());
  request.path = target.substr(0, question);
  request.query = question < target.size() ? target.substr(question + 1) : std::string_view();
  const std::string_view version = line.substr(last + 1);
  request.keep_alive = version == "HTTP/1.1";
  return !request.path.empty() && (request.keep_alive || version == "HTTP/1.0");
}

bool ParseHeaders(std::string_view head, HttpRequest& request) {
  request.header_count = 0;
  while (!head.empty()) {
    const size_t end = std::min(head.find("\r\n"), head.size());
    const std::string_view line = head.substr(0, end);
    head.remove_prefix(std::min(end + 2, head.size()));
    const size_t colon = line.find(':');
    if (colon == std::string_view::npos || colon == 0) return false;
    if (request.header_count == request.headers.size()) return false;
    request.headers[request.header_count++] = {line.substr(0, colon),
                                               Trimmed(line.substr(colon + 1))};
  }
  return true;
}

// Decodes the chunks at the start of `raw`; kComplete sets `used`.
ParseResult DecodeChunked(std::string_view raw, std::string& out, size_t& used) {
  size_t at = 0;
  for (;;) {
    const size_t line_end = raw.find("\r\n", at);
    if (line_end == std::string_view::npos) return ParseResult::kIncomplete;
    size_t size = 0;
    const char* begin = raw.data() + at;
    const auto [end, error] = std::from_chars(begin, raw.data() + line_end, size, 16);
    if (error != std::errc() || end == begin) return ParseResult::kBad;
    if (size > kMaxBodyBytes || out.size() + size > kMaxBodyBytes) return ParseResult::kTooLarge;
    at = line_end + 2;
    if (size == 0) break;
    if (raw.size() < at + size + 2) return ParseResult::kIncomplete;
    out.append(raw, at, size);
    at += size + 2;
  }
  for (;;) {  // trailers, up to the empty line
    const size_t line_end = raw.find("\r\n", at);
    if (line_end == std::string_view::npos) return ParseResult::kIncomplete;
    const bool last = line_end == at;
    at = line_end + 2;
    if (last) break;
  }
  used = at;
  return ParseResult::kComplete;
}

ParseResult Waiting(const HttpRequest& request, bool body_begun) {
  const bool expects = EqualsIgnoringCase(request.Header("expect"), "100-continue");
  return expects && !body_begun ? ParseResult::kIncompleteExpectsContinue
                                : ParseResult::kIncomplete;
}

ParseResult ParseBody(std::string_view rest, size_t head_bytes, HttpRequest& request) {
  if (ContainsIgnoringCase(request.Header("transfer-encoding"), "chunked")) {
    size_t used = 0;
    request.decoded_body.clear();
    const ParseResult result = DecodeChunked(rest, request.decoded_body, used);
    if (result == ParseResult::kIncomplete) return Waiting(request, !rest.empty());
    request.body = request.decoded_body;
    request.bytes = head_bytes + used;
    return result;
  }
  const std::string_view length_text = request.Header("content-length");
  size_t length = 0;
  if (!length_text.empty()) {
    const char* end = length_text.data() + length_text.size();
    const auto [parsed, error] = std::from_chars(length_text.data(), end, length);
    if (error != std::errc() || parsed != end) return ParseResult::kBad;
  }
  if (length > kMaxBodyBytes) return ParseResult::kTooLarge;
  if (rest.size() < length) return Waiting(request, !rest.empty());
  request.body = rest.substr(0, length);
  request.bytes = head_bytes + length;
  return ParseResult::kComplete;
}

}  // namespace

std::string_view HttpRequest::Header(std::string_view name) const {
  for (size_t i = 0; i < header_count; ++i) {
    if (EqualsIgnoringCase(headers[i].name, name)) return headers[i].value;
  }
  return {};
}

ParseResult ParseHttpRequest(std::string_view buffer, HttpRequest& request) {
  const size_t head_end = buffer.find("\r\n\r\n");
  if (head_end == std::string_view::npos) {
    return buffer.size() > kMaxHeadBytes ? ParseResult::kTooLarge : ParseResult::kIncomplete;
  }
  const std::string_view head = buffer.substr(0, head_end);
  const size_t line_end = std::min(head.find("\r\n"), head.size());
  if (!ParseRequestLine(head.substr(0, line_end), request)) return ParseResult::kBad;
  if (!ParseHeaders(head.substr(std::min(line_end + 2, head.size())), request)) {
    return ParseResult::kBad;
  }
  const std::string_view connection = request.Header("connection");
  if (EqualsIgnoringCase(connection, "close")) request.keep_alive = false;
  return ParseBody(buffer.substr(head_end + 4), head_end + 4, request);
}

}  // namespace simprovider
