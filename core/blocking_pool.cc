#include "core/blocking_pool.h"

#include <pthread.h>
#include <sched.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cstdint>
#include <utility>

namespace holdfast::core {
namespace {

// What sched_setattr(2) takes; the C library has no declaration of it.
struct SchedulingAttributes {
  uint32_t size;
  uint32_t policy;
  uint64_t flags;
  int32_t nice;
  uint32_t priority;
  uint64_t slice_ns;
  uint64_t deadline_ns;
  uint64_t period_ns;
};

// Of the calling thread alone: a tenth of the weight of others, and the shortest turns that there
// are, since by itself a thread that embeds keeps its core for up to 3 ms when another wakes. If
// the system refuses, or knows no turns (Linux before 6.12), nothing is lost but the courtesy.
void GiveWay() {
  SchedulingAttributes attributes{};
  attributes.size = sizeof attributes;
  attributes.policy = SCHED_OTHER;
  attributes.nice = 10;
  attributes.slice_ns = 100'000;
  syscall(SYS_sched_setattr, 0, &attributes, 0);
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
