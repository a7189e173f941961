#include "core/blocking_pool.h"

#include <pthread.h>
#include <sched.h>

#include <utility>

namespace holdfast::core {
namespace {

// The calling thread alone runs when no other has work: whoever wakes takes its core at once, where
// a thread that is merely nice goes on embedding for up to 3 ms. A full machine starves it, which
// fills its queue. If the system refuses, nothing is lost but the courtesy.
void GiveWay() {
  const sched_param none{};
  sched_setscheduler(0, SCHED_IDLE, &none);
}

}  // namespace

BlockingPool::BlockingPool(size_t threads, size_t max_queued, size_t yielding)
    : max_queued_(max_queued), split_(yielding > 0) {
  for (size_t i = 0; i < threads; ++i) threads_.emplace_back([this] { Work(true, !split_); });
  for (size_t i = 0; i < yielding; ++i) {
    threads_.emplace_back([this] {
      GiveWay();
      Work(false, true);
    });
  }
}

BlockingPool::~BlockingPool() {
  {
    std::lock_guard lock(mutex_);
    stopping_ = true;
  }
  wake_.notify_all();
  wake_yielding_.notify_all();
  for (std::thread& thread : threads_) thread.join();
}

bool BlockingPool::Submit(Priority priority, Job job) {
  {
    std::lock_guard lock(mutex_);
    std::deque<Job>& queue = QueueOf(priority);
    if (queue.size() >= max_queued_) return false;
    queue.push_back(std::move(job));
  }
  (split_ && priority == Priority::kNormal ? wake_yielding_ : wake_).notify_one();
  return true;
}

size_t BlockingPool::queued(Priority priority) const {
  std::lock_guard lock(mutex_);
  return (priority == Priority::kUrgent ? urgent_ : normal_).size();
}

void BlockingPool::Drain() {
  std::unique_lock lock(mutex_);
  idle_.wait(lock, [this] { return urgent_.empty() && normal_.empty() && running_ == 0; });
}

void BlockingPool::Work(bool urgent, bool normal) {
  pthread_setname_np(pthread_self(), "pool");  // operators and the benchmark tell threads by name
  const auto has_work = [&] {
    return (urgent && !urgent_.empty()) || (normal && !normal_.empty());
  };
  std::unique_lock lock(mutex_);
  while (true) {
    (urgent ? wake_ : wake_yielding_).wait(lock, [&] { return stopping_ || has_work(); });
    if (!has_work()) return;  // stopping, and nothing is left
    std::deque<Job>& queue = urgent && !urgent_.empty() ? urgent_ : normal_;
    {
      Job job = std::move(queue.front());
      queue.pop_front();
      ++running_;
      lock.unlock();
      std::move(job)();
    }
    lock.lock();
    --running_;
    if (urgent_.empty() && normal_.empty() && running_ == 0) idle_.notify_all();
  }
}

}  // namespace holdfast::core
