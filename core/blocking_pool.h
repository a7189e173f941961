#pragma once

// A few threads for what may block: RocksDB, the vector index, embedding. Urgent work (lookups)
// goes before the rest (stores). Both queues are bounded and a full one refuses, so the pool never
// makes anybody wait. Thread safe. The destructor runs what is queued, then joins.

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

  BlockingPool(size_t threads, size_t max_queued);
  ~BlockingPool();

  // False if the queue of that priority is full; `job` is then dropped.
  [[nodiscard]] bool Submit(Priority priority, Job job);

  size_t queued(Priority priority) const;

  // Returns when nothing is queued or running.
  void Drain();

 private:
  void Work();
  std::deque<Job>& QueueOf(Priority priority) {
    return priority == Priority::kUrgent ? urgent_ : normal_;
  }

  const size_t max_queued_;
  mutable std::mutex mutex_;
  std::condition_variable wake_;
  std::condition_variable idle_;
  std::deque<Job> urgent_;
  std::deque<Job> normal_;
  size_t running_ = 0;
  bool stopping_ = false;
  std::vector<std::thread> threads_;
};

}  // namespace holdfast::core
