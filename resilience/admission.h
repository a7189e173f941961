#pragma once

// The cap on requests in progress over the whole server, with a bounded FIFO queue before it.
// Shared by all loops; thread safe. A waiter is resumed on its own loop. Nothing here looks at the
// request: shedding costs the same for any prompt.

#include <cstdint>
#include <list>
#include <mutex>
#include <optional>
#include <stop_token>

#include "core/clock.h"
#include "core/loop.h"
#include "core/task.h"

namespace holdfast::resilience {

struct AdmissionOptions {
  int max_in_progress = 10'000;  // >= 1
  int max_queue = 1'000;         // >= 0

  friend bool operator==(const AdmissionOptions&, const AdmissionOptions&) = default;
};

class Admission {
 public:
  // A place among the requests in progress; giving it up admits the longest waiter.
  class Ticket {
   public:
    Ticket(Ticket&& other) noexcept;
    Ticket& operator=(Ticket&& other) noexcept;
    ~Ticket();

   private:
    friend class Admission;
    explicit Ticket(Admission* admission);
    Admission* admission_;
  };

  enum class Refusal { kQueueFull, kQueueTimeout, kCancelled, kClosed };
  struct Entry {
    std::optional<Ticket> ticket;
    std::optional<Refusal> refusal;
    core::Duration waited{};
  };

  explicit Admission(AdmissionOptions options);

  // Waits at most min(2 s, 10 % of `remaining`). On `loop`'s thread; `stop` is requested there.
  core::Task<Entry> Enter(core::Loop& loop, core::Duration remaining, std::stop_token stop);

  // From now on everybody is refused with kClosed, waiters too. For shutdown.
  void Close();

  int in_progress() const;
  int queued() const;
  uint64_t shed() const;  // refused by kQueueFull or kQueueTimeout

 private:
  using Verdict = std::optional<Refusal>;  // nothing: admitted
  struct Waiter;

  void Knock(Waiter& waiter, bool may_wait);
  core::Task<Verdict> Wait(Waiter& waiter, core::SteadyTime until, std::stop_token stop);
  void GiveUp(Waiter& waiter, Refusal refusal);
  void Leave();
  Entry Refuse(Refusal refusal, core::Duration waited);

  const AdmissionOptions options_;
  mutable std::mutex mutex_;
  int in_progress_ = 0;
  // Whoever takes a waiter out of here, under the lock, decides its fate, alone. While somebody
  // waits, every place is taken: a place that gets free goes from hand to hand.
  std::list<Waiter*> waiters_;
  bool closed_ = false;
  uint64_t shed_ = 0;
};

}  // namespace holdfast::resilience
