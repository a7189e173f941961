#include "providers/http/timer_heap.h"

#include <map>
#include <random>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace holdfast::providers {
namespace {

using ::testing::ElementsAre;

core::SteadyTime At(int ns) { return core::SteadyTime(core::Duration(ns)); }

void RunDue(TimerHeap& heap, core::SteadyTime now) {
  const core::TimerId last = heap.last_id();
  while (auto fn = heap.TakeDue(now, last)) fn();
}

TEST(TimerHeapTest, OrderIsTimeThenSequence) {
  TimerHeap heap;
  std::vector<int> ran;
  heap.Add(At(2), [&] { ran.push_back(3); });
  heap.Add(At(1), [&] { ran.push_back(1); });
  heap.Add(At(1), [&] { ran.push_back(2); });
  EXPECT_EQ(heap.Next(), At(1));
  RunDue(heap, At(0));
  EXPECT_THAT(ran, ElementsAre());
  RunDue(heap, At(1));
  EXPECT_THAT(ran, ElementsAre(1, 2));
  RunDue(heap, At(2));
  EXPECT_THAT(ran, ElementsAre(1, 2, 3));
  EXPECT_EQ(heap.Next(), std::nullopt);
}

TEST(TimerHeapTest, TimerAddedByATimerWaitsForTheNextRound) {
  TimerHeap heap;
  int ran = 0;
  heap.Add(At(1), [&] {
    ++ran;
    heap.Add(At(0), [&] { ++ran; });
  });
  RunDue(heap, At(1));
  EXPECT_EQ(ran, 1);
  RunDue(heap, At(1));
  EXPECT_EQ(ran, 2);
}

TEST(TimerHeapTest, CancelledTimersTakeNoRoomForLong) {
  TimerHeap heap;
  heap.Add(At(1), [] {});
  for (int i = 0; i < 100'000; ++i) EXPECT_TRUE(heap.Cancel(heap.Add(At(5), [] {})));
  EXPECT_EQ(heap.size(), 1u);
  EXPECT_LT(heap.heap_size(), 100u);
}

TEST(TimerHeapTest, AgreesWithAMapUnderRandomOperations) {
  std::mt19937 random(7);
  TimerHeap heap;
  std::map<std::pair<core::SteadyTime, core::TimerId>, int> model;
  std::map<core::TimerId, core::SteadyTime> ids;
  std::vector<int> ran;
  int now = 0;
  for (int i = 0; i < 20'000; ++i) {
    const unsigned what = random() % 4;
    if (what <= 1) {
      const core::SteadyTime when = At(now + static_cast<int>(random() % 50));
      const core::TimerId id = heap.Add(when, [&ran, i] { ran.push_back(i); });
      ASSERT_NE(id, 0u);
      ASSERT_TRUE(ids.emplace(id, when).second);
      model.emplace(std::pair(when, id), i);
    } else if (what == 2 && !ids.empty()) {
      const auto it = std::next(ids.begin(), static_cast<long>(random() % ids.size()));
      EXPECT_EQ(heap.Cancel(it->first), model.erase({it->second, it->first}) == 1);
    } else {
      now += static_cast<int>(random() % 5);
      std::vector<int> expected;
      while (!model.empty() && model.begin()->first.first <= At(now)) {
        expected.push_back(model.begin()->second);
        model.erase(model.begin());
      }
      ran.clear();
      RunDue(heap, At(now));
      ASSERT_EQ(ran, expected);
    }
    ASSERT_EQ(heap.size(), model.size());
    ASSERT_EQ(heap.Next(),
              model.empty() ? std::nullopt : std::optional(model.begin()->first.first));
  }
}

}  // namespace
}  // namespace holdfast::providers
