#include "core/blocking_pool.h"

#include <pthread.h>

#include <utility>

namespace holdfast::core {

BlockingPool::BlockingPool(size_t threads, size_t max_queued) : max_queued_(max_queued) {
  for (size_t i = 0; i < threads; ++i) threads_.emplace_back([this] { Work(); });
}

BlockingPool::~BlockingPool() {
  {
    std::lock_guard lock(mutex_);
    stopping_ = true;
  }
  wake_.notify_all();
  for (std::thread& thread : threads_) thread.join();
}

bool BlockingPool::Submit(Priority priority, Job job) {
  {
    std::lock_guard lock(mutex_);
    std::deque<Job>& queue = QueueOf(priority);
    if (queue.size() >= max_queued_) return false;
    queue.push_back(std::move(job));
  }
  wake_.notify_one();
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

void BlockingPool::Work() {
  pthread_setname_np(pthread_self(), "pool");  // operators and the benchmark tell threads by name
  std::unique_lock lock(mutex_);
  while (true) {
    wake_.wait(lock, [this] { return stopping_ || !urgent_.empty() || !normal_.empty(); });
    std::deque<Job>& queue = urgent_.empty() ? normal_ : urgent_;
    if (queue.empty()) return;  // stopping, and nothing is left
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
