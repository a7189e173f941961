#pragma once

// CurlTransfer: one HttpRequest on one easy handle. It sets the handle's options, turns libcurl's
// callbacks into HttpSink's, and says what the end means. Lives in the frame of CurlLoop::Send;
// CurlMulti runs it. Loop thread only.

#include <curl/curl.h>

#include <cstddef>
#include <string>
#include <string_view>
#include <vector>

#include "core/loop.h"
#include "core/wait.h"
#include "providers/http/http_client.h"

namespace holdfast::providers {

// Header lines in the form libcurl wants, in two allocations however many there are.
class CurlHeaderList {
 public:
  explicit CurlHeaderList(const HttpRequest& request);
  CurlHeaderList(const CurlHeaderList&) = delete;
  CurlHeaderList& operator=(const CurlHeaderList&) = delete;

  curl_slist* get() { return nodes_.data(); }

  // Whether every name and value can stand in a header line.
  static bool Valid(const HttpRequest& request);

 private:
  void Add(std::string_view a, std::string_view b = {}, std::string_view c = {});

  std::string lines_;  // each ends in NUL
  std::vector<curl_slist> nodes_;
};

class CurlTransfer {
 public:
  // All three must outlive it.
  CurlTransfer(core::Loop& loop, const HttpRequest& request, HttpSink& sink);
  CurlTransfer(const CurlTransfer&) = delete;
  CurlTransfer& operator=(const CurlTransfer&) = delete;

  // What every request wants, for a handle that is fresh or reset.
  static void Configure(CURL* easy);

  // Sets all that is this request's on a handle that is configured.
  void Prepare(CURL* easy);

  // Whether the next Prepare overwrites all that this one has set; else the handle is to be reset.
  bool Reusable() const;

  // From here on the sink is not called.
  void MarkCancelled() { cancelled_ = true; }

  // What the end of the transfer means. While the handle still exists.
  HttpEnd EndOf(CURLcode code) const;

  core::OneShot<HttpEnd>& done() { return done_; }

  // It met a closed valve, and libcurl keeps what it had read for it and reads no more.
  bool paused() const { return paused_; }
  void MarkResumed() { paused_ = false; }

  // CurlMulti's: the handle while in progress, else null; and the place in its list.
  CURL* easy = nullptr;
  size_t index = 0;

 private:
  static constexpr size_t kMaxHeaderBytes = 64 << 10;
  static constexpr size_t kAbort = 0;  // what a callback returns to end the transfer

  void SetMethodAndBody();
  void SetCa();

  curl_socket_t OnOpenSocket(const curl_sockaddr& address);
  int OnSend();
  size_t OnHeaderLine(std::string_view line);
  size_t OnHeadersEnd(size_t handled);
  size_t OnBody(std::string_view bytes);

  HttpEnd::Kind KindOf(CURLcode code) const;
  std::string TextOf(HttpEnd::Kind kind, CURLcode code) const;
  bool reused() const { return sends_ > 0 && !opened_; }

  const HttpRequest& request_;
  HttpSink& sink_;
  core::OneShot<HttpEnd> done_;
  CurlHeaderList header_list_;

  int sends_ = 0;        // how often libcurl was about to send; the second is refused
  bool opened_ = false;  // a socket was opened for it
  bool cancelled_ = false;
  bool too_large_ = false;
  bool paused_ = false;
  bool status_line_next_ = true;
  bool headers_done_ = false;
  size_t header_bytes_ = 0;
  size_t body_bytes_ = 0;
  HttpHeaders headers_;
  char error_[CURL_ERROR_SIZE] = "";
};

}  // namespace holdfast::providers
