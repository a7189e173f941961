#pragma once

// FakeLoop: a core::Loop with virtual time, and its FakeClock. Time moves only when the test moves
// it, so an outage of hours runs in milliseconds and every run is the same.
//
// The test's thread is the loop's thread: the one that made the loop, or ran it last. Post may
// come from any thread; everything else is for the loop's thread. Whoever makes it owns it.
//
// Order: what was posted runs first, in order of posting. Only when nothing is posted does the
// earliest timer fire (by time, then by order of CallAt), followed again by what it posted. Time
// stands still while anything is posted or due.
//
// What is still posted or waiting when the loop is destroyed is dropped without being run; a
// coroutine suspended on it leaks. Run() to the end first.

#include <atomic>
#include <condition_variable>
#include <cstddef>
#include <deque>
#include <functional>
#include <map>
#include <mutex>
#include <optional>
#include <thread>
#include <unordered_map>
#include <utility>

#include "core/check.h"
#include "core/clock.h"
#include "core/loop.h"
#include "core/task.h"

namespace holdfast::testing {

// Both times move together; the wall clock can also be set on its own, as administrators do.
class FakeClock final : public core::Clock {
 public:
  // Steady time does not start at 0, so that "0 = never" in the code under test shows.
  static constexpr core::SteadyTime kStart{std::chrono::hours(1000)};
  // 2026-01-01T00:00:00Z
  static constexpr core::WallTime kWallStart{std::chrono::seconds(1'767'225'600)};

  core::SteadyTime Now() const override;
  core::WallTime WallNow() const override;

  void Advance(core::Duration d);
  void SetWall(core::WallTime t);

 private:
  std::atomic<int64_t> steady_{kStart.time_since_epoch().count()};
  std::atomic<int64_t> wall_offset_{
      (kWallStart.time_since_epoch() - kStart.time_since_epoch()).count()};
};

class FakeLoop final : public core::Loop {
 public:
  void Post(Callback fn) override;
  core::TimerId CallAt(core::SteadyTime when, Callback fn) override;
  bool CancelTimer(core::TimerId id) override;
  bool InLoop() const override { return owner_ == std::this_thread::get_id(); }
  const core::Clock& clock() const override { return clock_; }

  FakeClock& fake_clock() { return clock_; }

  // Runs until nothing is posted and no timer is left, jumping from timer to timer. Returns how
  // many callbacks ran. Ends the process after kMaxEvents of them: something re-arms for ever.
  size_t Run();

  // Runs what is posted and due, without moving time.
  size_t RunReady() { return RunUntil(Now()); }

  // Runs everything up to and including `t`, and what it posts; then it is `t` (never earlier
  // than it was).
  size_t RunUntil(core::SteadyTime t);
  size_t Advance(core::Duration d) { return RunUntil(core::SaturatingAdd(Now(), d)); }

  // For work that another thread will post the end of (a BlockingPool): waits for posts and runs
  // them until `done()`. Time stands still, so the result does not depend on how long it took.
  void RunReadyUntil(const std::function<bool()>& done);

  // Runs `task` and whatever else comes up, jumping from timer to timer, until it has completed.
  // Ends the process if it cannot complete because nothing is left to run.
  template <typename T>
  T Await(core::Task<T> task) {
    owner_ = std::this_thread::get_id();
    std::optional<T> result;
    core::Spawn(Keep(std::move(task), result));
    size_t events = 0;
    while (!result) HOLDFAST_CHECK(RunOne(core::SteadyTime::max()) && ++events < kMaxEvents);
    return std::move(*result);
  }
  void Await(core::Task<void> task) { Await(Done(std::move(task))); }

  size_t timers() const { return timers_.size(); }
  // When the next timer fires; none if there is none.
  std::optional<core::SteadyTime> NextTimer() const;

  static constexpr size_t kMaxEvents = 50'000'000;

 private:
  using TimerKey = std::pair<core::SteadyTime, core::TimerId>;

  template <typename T>
  static core::Task<void> Keep(core::Task<T> task, std::optional<T>& result) {
    result.emplace(co_await std::move(task));
  }
  static core::Task<bool> Done(core::Task<void> task) {
    co_await std::move(task);
    co_return true;
  }

  // Runs the next callback that is posted, or else due by `limit`, moving time to it.
  bool RunOne(core::SteadyTime limit);
  bool RunOnePosted();

  FakeClock clock_;
  std::atomic<std::thread::id> owner_{std::this_thread::get_id()};

  std::mutex mutex_;
  std::condition_variable posted_changed_;
  std::deque<Callback> posted_;  // guarded by mutex_

  core::TimerId last_timer_ = 0;
  std::map<TimerKey, Callback> timers_;
  std::unordered_map<core::TimerId, core::SteadyTime> timer_times_;
};

}  // namespace holdfast::testing
