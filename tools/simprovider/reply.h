// What the server does on a connection after a request: bytes with pauses between them, then an
// end. Every fault is nothing but a different script. Built by the simulator, owned and played by
// the connection, on its worker's thread.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace simprovider {

struct Step {
  std::string bytes;
  double delay_ms = 0;  // before the bytes
};

enum class ReplyEnd {
  kKeepAlive,  // a whole, valid answer
  kFin,        // closes the connection
  kRst,        // resets it
  kHang,       // says nothing more until the client goes
};

struct Reply {
  static constexpr size_t kNoRepeat = static_cast<size_t>(-1);

  std::vector<Step> steps;
  size_t repeat_from = kNoRepeat;  // after the last step go back to this one, for ever
  ReplyEnd end = ReplyEnd::kKeepAlive;
  uint64_t attempt = 0;  // its entry in the attempt log; 0: not logged

  void Add(std::string bytes, double delay_ms = 0);
};

// The name of a status ("Too Many Requests"); "Status" for those nobody has named.
std::string_view ReasonPhrase(int status);

// A whole response with its Content-Length. `headers` are complete lines ending in CRLF.
std::string WholeResponse(int status, std::string_view content_type, std::string_view headers,
                          std::string_view body);

// The head of a chunked response.
std::string StreamHead(std::string_view content_type, std::string_view headers);

void AppendChunk(std::string& out, std::string_view bytes);
inline constexpr std::string_view kLastChunk = "0\r\n\r\n";

}  // namespace simprovider
