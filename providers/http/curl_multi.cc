#include "providers/http/curl_multi.h"

#include <sys/epoll.h>

#include <algorithm>
#include <chrono>
#include <utility>

#include "core/check.h"

namespace holdfast::providers {
namespace {

// Kept connections in all; the default, four times the requests in flight, closes them whenever
// traffic ebbs. Dead and old ones are weeded out by libcurl itself.
constexpr long kMaxConnections = 1 << 16;

CURLM* NewMulti() {
  static const CURLcode global = curl_global_init(CURL_GLOBAL_DEFAULT);
  HOLDFAST_CHECK(global == CURLE_OK);
  CURLM* multi = curl_multi_init();
  HOLDFAST_CHECK(multi != nullptr);
  return multi;
}

}  // namespace

CurlMulti::CurlMulti(const core::Clock& clock, int epoll_fd)
    : clock_(clock), epoll_fd_(epoll_fd), multi_(NewMulti()) {
  curl_multi_setopt(multi_, CURLMOPT_MAXCONNECTS, kMaxConnections);
  curl_multi_setopt(multi_, CURLMOPT_SOCKETDATA, this);
  curl_multi_setopt(
      multi_, CURLMOPT_SOCKETFUNCTION,
      +[](CURL*, curl_socket_t fd, int what, void* self, void* known) -> int {
        static_cast<CurlMulti*>(self)->WatchSocket(fd, what, known);
        return 0;
      });
  curl_multi_setopt(multi_, CURLMOPT_TIMERDATA, this);
  curl_multi_setopt(
      multi_, CURLMOPT_TIMERFUNCTION, +[](CURLM*, long millis, void* self) -> int {
        auto& multi = *static_cast<CurlMulti*>(self);
        multi.due_.reset();
        if (millis >= 0) multi.due_ = multi.clock_.Now() + std::chrono::milliseconds(millis);
        return 0;
      });
}

CurlMulti::~CurlMulti() {
  HOLDFAST_CHECK(active_.empty());
  for (CURL* easy : idle_handles_) curl_easy_cleanup(easy);
  curl_multi_cleanup(multi_);
}

void CurlMulti::Start(CurlTransfer& transfer) {
  HOLDFAST_CHECK(!in_curl_);
  transfer.Prepare(TakeHandle());
  transfer.index = active_.size();
  active_.push_back(&transfer);
  HOLDFAST_CHECK(curl_multi_add_handle(multi_, transfer.easy) == CURLM_OK);
}

void CurlMulti::Cancel(CurlTransfer& transfer) {
  if (transfer.easy == nullptr) return;  // over; its coroutine is about to hear of it
  transfer.MarkCancelled();
  if (in_curl_) {
    cancelled_.push_back(&transfer);
  } else {
    End(transfer, transfer.EndOf(CURLE_OK));
  }
}

void CurlMulti::Resume(CurlTransfer& transfer) {
  if (transfer.easy == nullptr || !transfer.paused()) return;
  if (std::ranges::find(resumed_, &transfer) == resumed_.end()) resumed_.push_back(&transfer);
}

void CurlMulti::CancelAll() {
  closed_ = true;
  while (!active_.empty()) Cancel(*active_.back());
}

void CurlMulti::OnSocket(int fd, uint32_t epoll_events) {
  int events = 0;
  if (epoll_events & EPOLLIN) events |= CURL_CSELECT_IN;
  if (epoll_events & EPOLLOUT) events |= CURL_CSELECT_OUT;
  if (epoll_events & (EPOLLERR | EPOLLHUP)) events |= CURL_CSELECT_ERR;
  Act(fd, events);
}

void CurlMulti::OnTime() {
  if (!due_ || *due_ > clock_.Now()) return;
  due_.reset();
  Act(CURL_SOCKET_TIMEOUT, 0);
}

void CurlMulti::Settle() {
  // What reads on may cancel and resume others.
  while (!resumed_.empty()) {
    CurlTransfer& transfer = *resumed_.back();
    resumed_.pop_back();
    ReadOn(transfer);
  }
  for (CurlTransfer* transfer : std::exchange(cancelled_, {})) {
    End(*transfer, transfer->EndOf(CURLE_OK));
  }
  int left = 0;
  while (CURLMsg* message = curl_multi_info_read(multi_, &left)) {
    if (message->msg != CURLMSG_DONE) continue;
    const CURLcode code = message->data.result;
    char* transfer = nullptr;
    curl_easy_getinfo(message->easy_handle, CURLINFO_PRIVATE, &transfer);
    auto& ended = *static_cast<CurlTransfer*>(static_cast<void*>(transfer));
    End(ended, ended.EndOf(code));
  }
}

// libcurl delivers from inside this call what it had read before the pause.
void CurlMulti::ReadOn(CurlTransfer& transfer) {
  transfer.MarkResumed();
  in_curl_ = true;
  const CURLcode code = curl_easy_pause(transfer.easy, CURLPAUSE_CONT);
  in_curl_ = false;
  // A delivery that failed ends no transfer by itself here, as it does elsewhere.
  const bool cancelled = std::ranges::find(cancelled_, &transfer) != cancelled_.end();
  if (code != CURLE_OK && !cancelled) End(transfer, transfer.EndOf(code));
}

void CurlMulti::WatchSocket(int fd, int what, void* known) {
  if (what == CURL_POLL_REMOVE) {
    epoll_ctl(epoll_fd_, EPOLL_CTL_DEL, fd, nullptr);
    curl_multi_assign(multi_, fd, nullptr);
    return;
  }
  epoll_event event{};
  event.data.fd = fd;
  if (what & CURL_POLL_IN) event.events |= EPOLLIN;
  if (what & CURL_POLL_OUT) event.events |= EPOLLOUT;
  const int operation = known == nullptr ? EPOLL_CTL_ADD : EPOLL_CTL_MOD;
  HOLDFAST_CHECK(epoll_ctl(epoll_fd_, operation, fd, &event) == 0);
  if (known == nullptr) curl_multi_assign(multi_, fd, this);
}

void CurlMulti::Act(int fd, int events) {
  in_curl_ = true;
  int running = 0;
  curl_multi_socket_action(multi_, fd, events, &running);
  in_curl_ = false;
}

void CurlMulti::End(CurlTransfer& transfer, HttpEnd end) {
  CURL* const easy = std::exchange(transfer.easy, nullptr);
  std::erase(resumed_, &transfer);
  curl_multi_remove_handle(multi_, easy);
  ReturnHandle(easy, transfer.Reusable());
  active_[transfer.index] = active_.back();
  active_[transfer.index]->index = transfer.index;
  active_.pop_back();
  transfer.done().Set(std::move(end));
}

CURL* CurlMulti::TakeHandle() {
  if (idle_handles_.empty()) {
    CURL* easy = curl_easy_init();
    HOLDFAST_CHECK(easy != nullptr);
    CurlTransfer::Configure(easy);
    return easy;
  }
  CURL* easy = idle_handles_.back();
  idle_handles_.pop_back();
  return easy;
}

void CurlMulti::ReturnHandle(CURL* easy, bool reusable) {
  if (idle_handles_.size() >= kMaxIdleHandles) {
    curl_easy_cleanup(easy);
    return;
  }
  if (reusable) {
    curl_easy_setopt(easy, CURLOPT_ERRORBUFFER, nullptr);  // the transfer's, which is about to end
  } else {
    curl_easy_reset(easy);  // keeps what is worth keeping: TLS sessions
    CurlTransfer::Configure(easy);
  }
  idle_handles_.push_back(easy);
}

}  // namespace holdfast::providers
