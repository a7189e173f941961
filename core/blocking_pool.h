#pragma once

// A few threads for what may block: RocksDB, the vector index, embedding. Urgent work (lookups)
// goes before the rest (stores), and the rest, on a thread of its own, gives way to whatever else
// the machine has to do. Both queues are bounded and a full one refuses, so the pool never makes
// anybody wait. Thread safe. The destructor runs what is queued, then joins.

#include <condition_variable>
#include <cstddef>
#include <deque>
#include <mutex>
#include <thread>
#include <vector>

#include "absl/functional/any_invocable.h"

namespace holdfast::core {

class BlockingPool {
 public:
  using Job = absl::AnyInvocable<void()>;
  enum class Priority { kUrgent, kNormal };

  // With `yielding` threads, which the system runs when nothing else wants the core, normal work is
  // theirs alone and `threads` do urgent work; without, `threads` do all of it.
  BlockingPool(size_t threads, size_t max_queued, size_t yielding = 0);
  ~BlockingPool();

  // False if the queue of that priority is full; `job` is then dropped.
  [[nodiscard]] bool Submit(Priority priority, Job job);

  size_t queued(Priority priority) const;

  // Returns when nothing is queued or running.
  void Drain();

 private:
  void Work(bool urgent, bool normal);
  std::deque<Job>& QueueOf(Priority priority) {
    return priority == Priority::kUrgent ? urgent_ : normal_;
  }

  const size_t max_queued_;
  const bool split_;
  mutable std::mutex mutex_;
  std::condition_variable wake_;
  std::condition_variable wake_yielding_;
  std::condition_variable idle_;
  std::deque<Job> urgent_;
  std::deque<Job> normal_;
  size_t running_ = 0;
  bool stopping_ = false;
  std::vector<std::thread> threads_;
};

}  // namespace holdfast::core
