#include "core/blocking_pool.h"

#include <sched.h>

#include <atomic>
#include <future>
#include <thread>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace holdfast::core {
namespace {

using Priority = BlockingPool::Priority;
using ::testing::ElementsAre;

// Keeps one thread of a pool busy until it is opened.
class Gate {
 public:
  explicit Gate(BlockingPool& pool) {
    std::promise<void> entered;
    EXPECT_TRUE(pool.Submit(Priority::kUrgent, [&, open = open_.get_future()]() mutable {
      entered.set_value();
      open.get();
    }));
    entered.get_future().get();
  }
  void Open() { open_.set_value(); }

 private:
  std::promise<void> open_;
};

TEST(BlockingPoolTest, UrgentFirstThenInOrder) {
  BlockingPool pool(1, 10);
  Gate gate(pool);
  std::vector<int> ran;
  EXPECT_TRUE(pool.Submit(Priority::kNormal, [&] { ran.push_back(3); }));
  EXPECT_TRUE(pool.Submit(Priority::kNormal, [&] { ran.push_back(4); }));
  EXPECT_TRUE(pool.Submit(Priority::kUrgent, [&] { ran.push_back(1); }));
  EXPECT_TRUE(pool.Submit(Priority::kUrgent, [&] { ran.push_back(2); }));
  gate.Open();
  pool.Drain();
  EXPECT_THAT(ran, ElementsAre(1, 2, 3, 4));
}

TEST(BlockingPoolTest, FullQueueRefusesAndQueuesAreApart) {
  BlockingPool pool(1, 2);
  Gate gate(pool);
  for (const Priority priority : {Priority::kNormal, Priority::kUrgent}) {
    EXPECT_EQ(pool.queued(priority), 0u);
    EXPECT_TRUE(pool.Submit(priority, [] {}));
    EXPECT_TRUE(pool.Submit(priority, [] {}));
    EXPECT_FALSE(pool.Submit(priority, [] { ADD_FAILURE() << "was refused"; }));
    EXPECT_EQ(pool.queued(priority), 2u);
  }
  gate.Open();
  pool.Drain();
  EXPECT_EQ(pool.queued(Priority::kNormal), 0u);
  EXPECT_TRUE(pool.Submit(Priority::kNormal, [] {}));
}

TEST(BlockingPoolTest, DestructorRunsWhatIsQueued) {
  int ran = 0;
  {
    BlockingPool pool(1, 100);
    Gate gate(pool);
    for (int i = 0; i < 100; ++i) EXPECT_TRUE(pool.Submit(Priority::kNormal, [&] { ++ran; }));
    gate.Open();
  }
  EXPECT_EQ(ran, 100);
}

TEST(BlockingPoolTest, JobsMaySubmit) {
  BlockingPool pool(1, 10);
  std::promise<void> inner;
  EXPECT_TRUE(pool.Submit(Priority::kNormal, [&] {
    EXPECT_TRUE(pool.Submit(Priority::kNormal, [&] { inner.set_value(); }));
  }));
  inner.get_future().get();
}

TEST(BlockingPoolTest, YieldingThreadsAloneDoNormalWork) {
  BlockingPool pool(1, 10, 1);
  const auto policy = [] { return sched_getscheduler(0); };
  const int own = policy();
  std::promise<void> open;
  std::promise<int> normal;
  EXPECT_TRUE(pool.Submit(Priority::kNormal, [&, gate = open.get_future()]() mutable {
    normal.set_value(policy());
    gate.get();
  }));
  EXPECT_EQ(normal.get_future().get(), SCHED_IDLE);
  bool ran = false;
  EXPECT_TRUE(pool.Submit(Priority::kNormal, [&] { ran = true; }));
  for (int i = 0; i < 3; ++i) {
    std::promise<int> urgent;
    EXPECT_TRUE(pool.Submit(Priority::kUrgent, [&] { urgent.set_value(policy()); }));
    EXPECT_EQ(urgent.get_future().get(), own);
  }
  EXPECT_EQ(pool.queued(Priority::kNormal), 1u);
  open.set_value();
  pool.Drain();
  EXPECT_TRUE(ran);
}

TEST(BlockingPoolTest, JobIsDestroyedBeforeDrainReturns) {
  BlockingPool pool(2, 1000);
  std::atomic<int> alive = 0;
  struct Tracked {
    explicit Tracked(std::atomic<int>& c) : count(&c) { ++*count; }
    Tracked(const Tracked&) = delete;
    ~Tracked() { --*count; }
    std::atomic<int>* count;
  };
  for (int i = 0; i < 1000; ++i) {
    auto tracked = std::make_unique<Tracked>(alive);
    (void)pool.Submit(Priority::kNormal, [tracked = std::move(tracked)] {});
  }
  pool.Drain();
  EXPECT_EQ(alive, 0);
}

TEST(BlockingPoolTest, ManySubmittersLoseNothing) {
  std::atomic<int> accepted = 0, ran = 0;
  BlockingPool pool(3, 64);
  std::vector<std::thread> threads;
  for (int t = 0; t < 4; ++t) {
    threads.emplace_back([&, t] {
      const Priority priority = t % 2 == 0 ? Priority::kUrgent : Priority::kNormal;
      for (int i = 0; i < 5000; ++i) accepted += pool.Submit(priority, [&] { ++ran; });
    });
  }
  for (std::thread& thread : threads) thread.join();
  pool.Drain();
  EXPECT_EQ(ran, accepted);
  EXPECT_GT(accepted, 0);
}

}  // namespace
}  // namespace holdfast::core
