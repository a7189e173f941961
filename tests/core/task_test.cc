#include "core/task.h"

#include <cstdint>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "core/wait.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/fakes/fake_loop.h"

namespace holdfast::core {
namespace {

using holdfast::testing::FakeLoop;
using ::testing::ElementsAre;

Task<int> Value(int value) { co_return value; }

Task<void> Note(std::vector<std::string>& log, std::string text) {
  log.push_back(std::move(text));
  co_return;
}

TEST(TaskTest, IsLazy) {
  std::vector<std::string> log;
  {
    Task<void> never = Note(log, "never");
  }
  EXPECT_THAT(log, ElementsAre());
  Spawn(Note(log, "spawned"));
  EXPECT_THAT(log, ElementsAre("spawned"));
}

Task<void> MoveOnlyParent(int& out) {
  Task<std::unique_ptr<int>> task = []() -> Task<std::unique_ptr<int>> {
    co_return std::make_unique<int>(5);
  }();
  std::unique_ptr<int> value = co_await std::move(task);
  out = *value;
}

TEST(TaskTest, CarriesMoveOnlyValues) {
  int out = 0;
  Spawn(MoveOnlyParent(out));
  EXPECT_EQ(out, 5);
}

Task<void> SumOf(int count, int64_t& sum, uintptr_t& lowest, uintptr_t& highest) {
  for (int i = 0; i < count; ++i) {
    sum += co_await Value(i);
    const auto here = reinterpret_cast<uintptr_t>(__builtin_frame_address(0));
    lowest = std::min(lowest, here);
    highest = std::max(highest, here);
  }
}

TEST(TaskTest, StackStaysFlatOver200000SynchronousChildren) {
  int64_t sum = 0;
  uintptr_t lowest = UINTPTR_MAX, highest = 0;
  Spawn(SumOf(200'000, sum, lowest, highest));
  EXPECT_EQ(sum, int64_t{200'000} * 199'999 / 2);
  EXPECT_LT(highest - lowest, 4096u);
}

Task<int> Later(Loop& loop, int value) {
  co_await Sleep(loop, loop.Now() + Duration(1), {});
  co_return value;
}

Task<void> SumOfLater(Loop& loop, int count, int64_t& sum, uintptr_t& lowest, uintptr_t& highest) {
  for (int i = 0; i < count; ++i) {
    sum += co_await Later(loop, i);
    const auto here = reinterpret_cast<uintptr_t>(__builtin_frame_address(0));
    lowest = std::min(lowest, here);
    highest = std::max(highest, here);
  }
}

TEST(TaskTest, StackStaysFlatOver200000SuspendedChildren) {
  FakeLoop loop;
  int64_t sum = 0;
  uintptr_t lowest = UINTPTR_MAX, highest = 0;
  Spawn(SumOfLater(loop, 200'000, sum, lowest, highest));
  loop.Run();
  EXPECT_EQ(sum, int64_t{200'000} * 199'999 / 2);
  EXPECT_LT(highest - lowest, 64u << 10);
}

struct NoteOnExit {
  std::vector<std::string>& log;
  std::string text;
  ~NoteOnExit() { log.push_back(text); }
};

Task<void> Child(Loop& loop, std::vector<std::string>& log) {
  NoteOnExit exit{log, "child frame"};
  co_await Sleep(loop, loop.Now() + Duration(1), {});
  log.push_back("child");
}

Task<void> Parent(Loop& loop, std::vector<std::string>& log) {
  NoteOnExit exit{log, "parent frame"};
  co_await Child(loop, log);
  log.push_back("parent");
}

TEST(TaskTest, FramesEndInnermostFirstAndNothingLeaks) {
  FakeLoop loop;
  std::vector<std::string> log;
  Spawn(Parent(loop, log));
  EXPECT_THAT(log, ElementsAre());
  loop.Run();
  EXPECT_THAT(log, ElementsAre("child", "child frame", "parent", "parent frame"));
}

}  // namespace
}  // namespace holdfast::core
