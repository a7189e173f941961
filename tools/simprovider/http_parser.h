// An incremental HTTP/1.1 request parser, bounded and without copies for plain bodies.
// Pure; the views of a request point into the buffer it was parsed from (a chunked body is
// decoded into the request itself) and die with it.
#pragma once

#include <array>
#include <cstddef>
#include <string>
#include <string_view>

namespace simprovider {

struct HttpHeader {
  std::string_view name;
  std::string_view value;
};

struct HttpRequest {
  std::string_view method;
  std::string_view path;
  std::string_view query;
  std::string_view body;
  std::string decoded_body;  // owns `body` when it came chunked
  std::array<HttpHeader, 64> headers;
  size_t header_count = 0;
  size_t bytes = 0;  // head and body as received
  bool keep_alive = true;
  bool reused_connection = false;

  // Empty when absent; names compare without case.
  std::string_view Header(std::string_view name) const;
};

enum class ParseResult {
  kComplete,
  kIncomplete,
  kIncompleteExpectsContinue,  // the client waits for "100 Continue" before its body
  kBad,
  kTooLarge,
};

// Parses the request at the start of `buffer`; on kComplete `request.bytes` are consumed.
ParseResult ParseHttpRequest(std::string_view buffer, HttpRequest& request);

}  // namespace simprovider
