#pragma once

// CurlMulti: libcurl's multi handle under epoll, with its kept connections and a pool of easy
// handles. CurlLoop owns it and drives it: OnSocket and OnTime when epoll or the clock say so,
// then Settle. Loop thread only.

#include <curl/curl.h>

#include <cstdint>
#include <optional>
#include <vector>

#include "core/clock.h"
#include "providers/http/curl_transfer.h"

namespace holdfast::providers {

class CurlMulti {
 public:
  CurlMulti(const core::Clock& clock, int epoll_fd);
  ~CurlMulti();  // with no transfer in progress
  CurlMulti(const CurlMulti&) = delete;
  CurlMulti& operator=(const CurlMulti&) = delete;

  // Begins `transfer`; it ends by setting transfer.done(), never inside this call.
  void Start(CurlTransfer& transfer);

  // Ends it as kCancelled: now, or in the next Settle if a libcurl callback is running.
  void Cancel(CurlTransfer& transfer);

  // Its valve is open again: in the next Settle it reads on, if it has stopped at all.
  void Resume(CurlTransfer& transfer);

  // Ends them all, and from now on also each that is started.
  void CancelAll();
  bool closed() const { return closed_; }

  void OnSocket(int fd, uint32_t epoll_events);
  void OnTime();
  std::optional<core::SteadyTime> due() const { return due_; }

  // Ends the transfers that are over or were cancelled inside a callback, and lets those read on
  // that may. The loop calls it before it sleeps.
  void Settle();

  bool in_curl() const { return in_curl_; }

 private:
  static constexpr size_t kMaxIdleHandles = 1024;

  void WatchSocket(int fd, int what, void* known);
  void Act(int fd, int events);
  void ReadOn(CurlTransfer& transfer);
  void End(CurlTransfer& transfer, HttpEnd end);
  CURL* TakeHandle();
  void ReturnHandle(CURL* easy, bool reusable);

  const core::Clock& clock_;
  const int epoll_fd_;
  CURLM* const multi_;
  std::optional<core::SteadyTime> due_;  // when libcurl wants to be called though no socket moved
  bool in_curl_ = false;
  bool closed_ = false;
  std::vector<CurlTransfer*> active_;
  std::vector<CurlTransfer*> cancelled_;  // inside a callback; Settle ends them
  std::vector<CurlTransfer*> resumed_;
  std::vector<CURL*> idle_handles_;
};

}  // namespace holdfast::providers
