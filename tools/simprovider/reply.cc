#include "tools/simprovider/reply.h"

#include <charconv>
#include <utility>

namespace simprovider {

void Reply::Add(std::string bytes, double delay_ms) {
  steps.push_back(Step{std::move(bytes), delay_ms});
}

std::string_view ReasonPhrase(int status) {
  switch (status) {
    case 200:
      return "OK";
    case 204:
      return "No Content";
    case 400:
      return "Bad Request";
    case 401:
      return "Unauthorized";
    case 402:
      return "Payment Required";
    case 403:
      return "Forbidden";
    case 404:
      return "Not Found";
    case 405:
      return "Method Not Allowed";
    case 408:
      return "Request Timeout";
    case 409:
      return "Conflict";
    case 413:
      return "Payload Too Large";
    case 422:
      return "Unprocessable Entity";
    case 429:
      return "Too Many Requests";
    case 500:
      return "Internal Server Error";
    case 501:
      return "Not Implemented";
    case 502:
      return "Bad Gateway";
    case 503:
      return "Service Unavailable";
    case 504:
      return "Gateway Timeout";
    default:
      return "Status";
  }
}

std::string WholeResponse(int status, std::string_view content_type, std::string_view headers,
                          std::string_view body) {
  std::string out;
  out.reserve(160 + headers.size() + body.size());
  out += "HTTP/1.1 ";
  out += std::to_string(status);
  out += ' ';
  out += ReasonPhrase(status);
  out += "\r\nContent-Type: ";
  out += content_type;
  out += "\r\nContent-Length: ";
  out += std::to_string(body.size());
  out += "\r\n";
  out += headers;
  out += "\r\n";
  out += body;
  return out;
}

std::string StreamHead(std::string_view content_type, std::string_view headers) {
  std::string out = "HTTP/1.1 200 OK\r\nContent-Type: ";
  out += content_type;
  out += "\r\nCache-Control: no-cache\r\nTransfer-Encoding: chunked\r\n";
  out += headers;
  out += "\r\n";
  return out;
}

void AppendChunk(std::string& out, std::string_view bytes) {
  if (bytes.empty()) return;
  char size[20];
  const auto [end, error] = std::to_chars(size, size + sizeof(size), bytes.size(), 16);
  out.append(size, static_cast<size_t>(end - size));
  out += "\r\n";
  out += bytes;
  out += "\r\n";
}

}  // namespace simprovider
