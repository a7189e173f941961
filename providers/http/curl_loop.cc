#include "providers/http/curl_loop.h"

#include <pthread.h>
#include <signal.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <limits>
#include <stop_token>
#include <utility>

#include "core/check.h"
#include "providers/http/curl_multi.h"
#include "providers/http/curl_transfer.h"

namespace holdfast::providers {
namespace {

// With NOSIGNAL libcurl leaves SIGPIPE alone, and OpenSSL raises it on a dead connection.
void BlockSigpipe() {
  sigset_t set;
  sigemptyset(&set);
  sigaddset(&set, SIGPIPE);
  pthread_sigmask(SIG_BLOCK, &set, nullptr);
}

// Says when a request's valve opens.
class OnOpen final : core::Valve::Listener {
 public:
  OnOpen(core::Valve* valve, CurlMulti& multi, CurlTransfer& transfer)
      : valve_(valve), multi_(multi), transfer_(transfer) {
    if (valve_ != nullptr) valve_->Add(*this);
  }
  ~OnOpen() {
    if (valve_ != nullptr) valve_->Remove(*this);
  }
  OnOpen(const OnOpen&) = delete;
  OnOpen& operator=(const OnOpen&) = delete;

 private:
  void OnValve(bool open) override {
    if (open) multi_.Resume(transfer_);
  }

  core::Valve* const valve_;
  CurlMulti& multi_;
  CurlTransfer& transfer_;
};

}  // namespace

CurlLoop::CurlLoop(const core::Clock& clock)
    : clock_(clock),
      epoll_fd_(epoll_create1(EPOLL_CLOEXEC)),
      wake_fd_(eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)) {
  HOLDFAST_CHECK(epoll_fd_ >= 0 && wake_fd_ >= 0);
  epoll_event event{};
  event.events = EPOLLIN | EPOLLET;  // each write wakes once and nobody needs to read
  event.data.fd = wake_fd_;
  HOLDFAST_CHECK(epoll_ctl(epoll_fd_, EPOLL_CTL_ADD, wake_fd_, &event) == 0);
  curl_ = std::make_unique<CurlMulti>(clock_, epoll_fd_);
  thread_ = std::thread([this] { Work(); });
}

CurlLoop::~CurlLoop() {
  Stop();
  close(wake_fd_);
  close(epoll_fd_);
}

void CurlLoop::Stop() {
  HOLDFAST_CHECK(!InLoop());
  {
    std::lock_guard lock(mutex_);
    stopping_ = true;
  }
  Wake();
  if (thread_.joinable()) thread_.join();
}

void CurlLoop::Post(Callback fn) {
  bool wake = false;
  {
    std::lock_guard lock(mutex_);
    if (ended_) return;
    posted_.push_back(std::move(fn));
    wake = std::exchange(sleeping_, false);
  }
  if (wake) Wake();
}

core::TimerId CurlLoop::CallAt(core::SteadyTime when, Callback fn) {
  HOLDFAST_CHECK(InLoop());
  return timers_.Add(when, std::move(fn));
}

bool CurlLoop::CancelTimer(core::TimerId id) {
  HOLDFAST_CHECK(InLoop());
  return timers_.Cancel(id);
}

bool CurlLoop::InLoop() const { return thread_id_ == std::this_thread::get_id(); }

core::Task<HttpEnd> CurlLoop::Send(HttpRequest request, HttpSink& sink) {
  HOLDFAST_CHECK(InLoop() && !curl_->in_curl());
  if (request.stop.stop_requested() || curl_->closed()) {
    co_return HttpEnd{HttpEnd::Kind::kCancelled, "cancelled"};
  }
  if (!CurlHeaderList::Valid(request)) {
    co_return HttpEnd{HttpEnd::Kind::kConnect, "a request header is not valid"};
  }
  CurlTransfer transfer(*this, request, sink);
  curl_->Start(transfer);
  std::stop_callback on_stop(request.stop, [&] { curl_->Cancel(transfer); });
  const OnOpen on_open(request.valve, *curl_, transfer);
  co_return co_await transfer.done();
}

void CurlLoop::Work() {
  thread_id_ = std::this_thread::get_id();
  pthread_setname_np(pthread_self(), "loop");
  BlockSigpipe();
  while (true) {
    RunPosted();
    RunTimers();
    curl_->OnTime();
    curl_->Settle();
    const std::optional<int> timeout = PrepareToSleep();
    if (!timeout) break;
    WaitForSockets(*timeout);
    curl_->Settle();
  }
  while (RunPosted()) {
  }
  curl_->CancelAll();
  while (!EndIfIdle()) RunPosted();
  curl_.reset();
  thread_id_ = std::thread::id();
}

bool CurlLoop::RunPosted() {
  {
    std::lock_guard lock(mutex_);
    sleeping_ = false;
    std::swap(posted_, running_);
  }
  if (running_.empty()) return false;
  for (Callback& fn : running_) {
    fn();
    fn = nullptr;  // before the next one runs
  }
  running_.clear();
  return true;
}

void CurlLoop::RunTimers() {
  if (timers_.size() == 0) return;
  // What a timer sets anew waits for the next round, or sockets could starve.
  const core::TimerId last = timers_.last_id();
  const core::SteadyTime now = Now();
  while (Callback fn = timers_.TakeDue(now, last)) {
    fn();
    fn = nullptr;
    RunPosted();
  }
}

std::optional<int> CurlLoop::PrepareToSleep() {
  std::lock_guard lock(mutex_);
  if (stopping_) return std::nullopt;
  if (!posted_.empty()) return 0;
  sleeping_ = true;
  return MillisToNextTimer();
}

int CurlLoop::MillisToNextTimer() {
  std::optional<core::SteadyTime> next = timers_.Next();
  if (const auto due = curl_->due(); due && (!next || *due < *next)) next = due;
  if (!next) return -1;
  const core::SteadyTime now = Now();
  if (*next <= now) return 0;
  // Rounded up: waking early would spin. An hour at most, since what is left may overflow.
  constexpr core::Duration kMost = std::chrono::hours(1);
  const core::Duration left = *next > core::SaturatingAdd(now, kMost) ? kMost : *next - now;
  return static_cast<int>(std::chrono::ceil<std::chrono::milliseconds>(left).count());
}

void CurlLoop::WaitForSockets(int timeout_millis) {
  epoll_event events[64];
  const int count = epoll_wait(epoll_fd_, events, std::size(events), timeout_millis);
  for (int i = 0; i < count; ++i) {
    if (events[i].data.fd != wake_fd_) curl_->OnSocket(events[i].data.fd, events[i].events);
  }
}

bool CurlLoop::EndIfIdle() {
  std::lock_guard lock(mutex_);
  if (posted_.empty()) ended_ = true;
  return ended_;
}

void CurlLoop::Wake() {
  const uint64_t one = 1;
  [[maybe_unused]] const ssize_t written = write(wake_fd_, &one, sizeof one);
}

}  // namespace holdfast::providers
