#include "resilience/admission.h"

#include <algorithm>
#include <utility>

#include "core/wait.h"

namespace holdfast::resilience {
namespace {

constexpr core::Duration kMaxWait = std::chrono::seconds(2);

}  // namespace

// Lives in the frame of Enter, which stays suspended until it is decided.
struct Admission::Waiter {
  explicit Waiter(core::Loop& l) : loop(l), decided(l) {}

  core::Loop& loop;
  core::OneShot<Verdict> decided;
  // Under the admission's lock:
  bool queued = false;
  std::list<Waiter*>::iterator place;
};

Admission::Ticket::Ticket(Admission* admission) : admission_(admission) {}

Admission::Ticket::Ticket(Ticket&& other) noexcept
    : admission_(std::exchange(other.admission_, nullptr)) {}

Admission::Ticket& Admission::Ticket::operator=(Ticket&& other) noexcept {
  if (this == &other) return *this;
  Ticket old(std::move(*this));
  admission_ = std::exchange(other.admission_, nullptr);
  return *this;
}

Admission::Ticket::~Ticket() {
  if (admission_) admission_->Leave();
}

Admission::Admission(AdmissionOptions options) : options_(options) {}

core::Task<Admission::Entry> Admission::Enter(core::Loop& loop, core::Duration remaining,
                                              std::stop_token stop) {
  if (stop.stop_requested()) co_return Refuse(Refusal::kCancelled, {});
  const core::SteadyTime arrival = loop.Now();
  const core::Duration max_wait = std::min<core::Duration>(kMaxWait, remaining / 10);
  Waiter waiter(loop);
  Knock(waiter, max_wait > core::Duration::zero());
  const Verdict refused = co_await Wait(waiter, arrival + max_wait, stop);
  const core::Duration waited = loop.Now() - arrival;
  if (refused) co_return Refuse(*refused, waited);
  Ticket ticket(this);
  if (stop.stop_requested()) co_return Refuse(Refusal::kCancelled, waited);  // passes it on
  co_return Entry{.ticket = std::move(ticket), .waited = waited};
}

// Decides at once or puts the waiter into the queue.
void Admission::Knock(Waiter& waiter, bool may_wait) {
  Verdict verdict;
  {
    std::lock_guard lock(mutex_);
    if (closed_) {
      verdict = Refusal::kClosed;
    } else if (in_progress_ < options_.max_in_progress) {
      ++in_progress_;
    } else if (waiters_.size() >= static_cast<size_t>(options_.max_queue)) {
      verdict = Refusal::kQueueFull;
    } else if (!may_wait) {
      verdict = Refusal::kQueueTimeout;
    } else {
      waiter.place = waiters_.insert(waiters_.end(), &waiter);
      waiter.queued = true;
      return;
    }
  }
  waiter.decided.Set(verdict);
}

core::Task<Admission::Verdict> Admission::Wait(Waiter& waiter, core::SteadyTime until,
                                               std::stop_token stop) {
  if (waiter.decided.IsSet()) co_return co_await waiter.decided;
  const core::TimerId timer =
      waiter.loop.CallAt(until, [&] { GiveUp(waiter, Refusal::kQueueTimeout); });
  std::stop_callback on_stop(stop, [&] { GiveUp(waiter, Refusal::kCancelled); });
  const Verdict verdict = co_await waiter.decided;
  waiter.loop.CancelTimer(timer);
  co_return verdict;
}

// Comes to nothing if somebody has just decided: their post is on its way.
void Admission::GiveUp(Waiter& waiter, Refusal refusal) {
  {
    std::lock_guard lock(mutex_);
    if (!waiter.queued) return;
    waiter.queued = false;
    waiters_.erase(waiter.place);
  }
  waiter.decided.Set(refusal);
}

void Admission::Leave() {
  Waiter* next = nullptr;
  {
    std::lock_guard lock(mutex_);
    if (waiters_.empty()) {
      --in_progress_;
      return;
    }
    next = waiters_.front();
    waiters_.pop_front();
    next->queued = false;
  }
  next->loop.Post([next] { next->decided.Set(std::nullopt); });
}

void Admission::Close() {
  std::list<Waiter*> waiters;
  {
    std::lock_guard lock(mutex_);
    closed_ = true;
    waiters.swap(waiters_);
    for (Waiter* waiter : waiters) waiter->queued = false;
  }
  for (Waiter* waiter : waiters) {
    waiter->loop.Post([waiter] { waiter->decided.Set(Refusal::kClosed); });
  }
}

Admission::Entry Admission::Refuse(Refusal refusal, core::Duration waited) {
  if (refusal == Refusal::kQueueFull || refusal == Refusal::kQueueTimeout) {
    std::lock_guard lock(mutex_);
    ++shed_;
  }
  return Entry{.refusal = refusal, .waited = waited};
}

int Admission::in_progress() const {
  std::lock_guard lock(mutex_);
  return in_progress_;
}

int Admission::queued() const {
  std::lock_guard lock(mutex_);
  return static_cast<int>(waiters_.size());
}

uint64_t Admission::shed() const {
  std::lock_guard lock(mutex_);
  return shed_;
}

}  // namespace holdfast::resilience
