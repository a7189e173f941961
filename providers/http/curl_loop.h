#pragma once

// CurlLoop: the core::Loop that runs in production. One thread, one epoll, one libcurl multi
// handle with its connections, one timer heap, and every coroutine of the requests pinned to it.
// It is the HttpClient of the providers that serve those requests. server/ makes N of them and
// owns them; Post may be called from any thread, everything else on the loop's own.
//
// Who may call what, and when:
// - Callbacks of an HttpSink run inside libcurl. They may request the stop of any request, their
//   own too, post, and set timers; they must not call Send (checked).
// - Once stop was requested a request's sink is not called again; its socket is closed before
//   request_stop() returns, or, from within a sink, before the loop does anything else.
// - No request times out here. The engine owns all timers and ends requests by their stop token;
//   curl's own connect limit is set out of the way, to 300 s.
//
// A request is sent once. libcurl sends again by itself when a kept connection turns out dead;
// that second send is refused before any byte of it leaves, and the request ends as kPooledReset,
// so that the engine books and repeats it by its own rules.
//
// Response headers over 64 KiB end as kTooLarge, like a body over max_response_bytes: both mean
// that the server said more than we are willing to hold, and not that the network broke.
//
// Backpressure: while a request's valve is closed its transfer is paused (CURL_WRITEFUNC_PAUSE in
// CurlTransfer::OnBody), libcurl stops reading its socket and TCP holds the server back. It reads
// on (curl_easy_pause) in the loop's next round after the valve was opened, never inside a
// callback.

#include <atomic>
#include <cstddef>
#include <memory>
#include <mutex>
#include <optional>
#include <thread>
#include <vector>

#include "core/clock.h"
#include "core/loop.h"
#include "core/task.h"
#include "providers/http/http_client.h"
#include "providers/http/timer_heap.h"

namespace holdfast::providers {

class CurlMulti;

class CurlLoop final : public core::Loop, public HttpClient {
 public:
  // Starts the thread. `clock` must run as the system's steady clock does: epoll waits by it.
  explicit CurlLoop(const core::Clock& clock);
  ~CurlLoop() override;
  CurlLoop(const CurlLoop&) = delete;
  CurlLoop& operator=(const CurlLoop&) = delete;

  // Ends the loop and joins its thread: first what was posted runs, then requests in progress end
  // as kCancelled and their coroutines run on until nothing is posted any more. Timers that have
  // not fired by then are dropped, so a coroutine asleep must have been stopped before. Later
  // posts are dropped and later requests end as kCancelled. From any thread but the loop's own;
  // the destructor calls it; a second call does nothing.
  void Stop();

  // core::Loop
  void Post(Callback fn) override;
  core::TimerId CallAt(core::SteadyTime when, Callback fn) override;
  bool CancelTimer(core::TimerId id) override;
  bool InLoop() const override;
  const core::Clock& clock() const override { return clock_; }

  // HttpClient
  core::Task<HttpEnd> Send(HttpRequest request, HttpSink& sink) override;

 private:
  void Work();
  bool RunPosted();  // false if nothing was posted
  void RunTimers();
  std::optional<int> PrepareToSleep();  // for how many milliseconds; none: stop instead
  int MillisToNextTimer();
  void WaitForSockets(int timeout_millis);
  bool EndIfIdle();
  void Wake();

  const core::Clock& clock_;
  const int epoll_fd_;
  const int wake_fd_;

  std::mutex mutex_;
  std::vector<Callback> posted_;  // guarded by mutex_, as are the three below
  bool sleeping_ = false;         // a post must write to wake_fd_
  bool stopping_ = false;
  bool ended_ = false;  // nothing posted from here on will run

  // Of the loop's thread alone.
  std::vector<Callback> running_;
  TimerHeap timers_;
  std::unique_ptr<CurlMulti> curl_;

  std::atomic<std::thread::id> thread_id_;
  std::thread thread_;
};

}  // namespace holdfast::providers
