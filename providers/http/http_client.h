#pragma once

// One HTTP/1.1 request whose response is delivered as it arrives: exactly one send. No redirects,
// no proxy from the environment, TLS verified, size bounded. Used only on its loop's thread;
// providers/http/curl_loop.h implements it.

#include <cstddef>
#include <initializer_list>
#include <stop_token>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "core/task.h"
#include "core/valve.h"

namespace holdfast::providers {

struct HttpRequest {
  std::string method = "POST";
  std::string url;
  std::vector<std::pair<std::string, std::string>> headers;
  std::string body;
  std::string proxy;    // URL; empty = none, whatever the environment says
  std::string ca_file;  // PEM; empty = the system's
  size_t max_response_bytes = 3 << 20;
  std::stop_token stop;  // requested on the loop's thread
  // While it is closed nothing more is read from the socket; null = never closed. Outlives the
  // request.
  core::Valve* valve = nullptr;
};

// The headers of one response, in the order they came, names in lower case, values without white
// space at either end. There are few, so Find just looks at each. Of a repeated header the last
// value counts.
class HttpHeaders {
 public:
  using Header = std::pair<std::string, std::string>;

  HttpHeaders() = default;
  HttpHeaders(std::initializer_list<Header> headers) {
    for (const Header& header : headers) Add(header.first, header.second);
  }

  // Takes any case.
  void Add(std::string_view name, std::string_view value) {
    std::string& lower = headers_.emplace_back(name, value).first;
    for (char& c : lower) {
      if (c >= 'A' && c <= 'Z') c = static_cast<char>(c - 'A' + 'a');
    }
  }

  // More of the value of the header added last (a folded line).
  void Continue(std::string_view more) {
    if (!headers_.empty()) headers_.back().second.append(" ").append(more);
  }

  // Null if there is none; valid until the next Add.
  const std::string* Find(std::string_view lower_name) const {
    for (auto it = headers_.rbegin(); it != headers_.rend(); ++it) {
      if (it->first == lower_name) return &it->second;
    }
    return nullptr;
  }

  auto begin() const { return headers_.begin(); }
  auto end() const { return headers_.end(); }
  size_t size() const { return headers_.size(); }
  bool empty() const { return headers_.empty(); }
  void Clear() { headers_.clear(); }

 private:
  std::vector<Header> headers_;
};

class HttpSink {
 public:
  virtual ~HttpSink() = default;
  virtual void OnConnected() = 0;  // DNS, connect and TLS are done
  virtual void OnHeaders(int status, const HttpHeaders& headers) = 0;
  virtual void OnBody(std::string_view bytes) = 0;
};

struct HttpEnd {
  enum class Kind {
    kComplete,     // the response came to its end as HTTP defines it
    kConnect,      // DNS, connect, TLS, or a reset or close before the response's headers
    kPooledReset,  // the same, on a reused connection
    kCut,          // broken after the headers
    kTooLarge,     // over max_response_bytes; ended by us
    kCancelled,    // `stop` was requested
  };
  Kind kind = Kind::kComplete;
  std::string error;  // without URL query or secret; empty if complete
  bool reused_connection = false;
};

class HttpClient {
 public:
  virtual ~HttpClient() = default;

  // Calls `sink` on the loop's thread, never after the task has completed.
  virtual core::Task<HttpEnd> Send(HttpRequest request, HttpSink& sink) = 0;
};

}  // namespace holdfast::providers
