#include "tests/fakes/fake_loop.h"

#include <algorithm>

namespace holdfast::testing {

core::SteadyTime FakeClock::Now() const { return core::SteadyTime(core::Duration(steady_)); }

core::WallTime FakeClock::WallNow() const {
  return core::WallTime(core::SaturatingAdd(core::Duration(steady_), core::Duration(wall_offset_)));
}

void FakeClock::Advance(core::Duration d) {
  HOLDFAST_CHECK(d >= core::Duration::zero());
  steady_ = core::SaturatingAdd(core::Duration(steady_), d).count();
}

void FakeClock::SetWall(core::WallTime t) { wall_offset_ = t.time_since_epoch().count() - steady_; }

void FakeLoop::Post(Callback fn) {
  std::lock_guard lock(mutex_);
  posted_.push_back(std::move(fn));
  posted_changed_.notify_one();
}

core::TimerId FakeLoop::CallAt(core::SteadyTime when, Callback fn) {
  HOLDFAST_CHECK(InLoop());
  const core::TimerId id = ++last_timer_;
  timers_.emplace(TimerKey(when, id), std::move(fn));
  timer_times_.emplace(id, when);
  return id;
}

bool FakeLoop::CancelTimer(core::TimerId id) {
  HOLDFAST_CHECK(InLoop());
  const auto it = timer_times_.find(id);
  if (it == timer_times_.end()) return false;
  // The callback is destroyed last: its destructor may come back here.
  const auto timer = timers_.extract(TimerKey(it->second, id));
  timer_times_.erase(it);
  return true;
}

size_t FakeLoop::Run() {
  owner_ = std::this_thread::get_id();
  size_t events = 0;
  while (RunOne(core::SteadyTime::max())) HOLDFAST_CHECK(++events < kMaxEvents);
  return events;
}

size_t FakeLoop::RunUntil(core::SteadyTime t) {
  owner_ = std::this_thread::get_id();
  const core::SteadyTime limit = std::max(t, Now());
  size_t events = 0;
  while (RunOne(limit)) HOLDFAST_CHECK(++events < kMaxEvents);
  if (limit > Now()) clock_.Advance(limit - Now());
  return events;
}

void FakeLoop::RunReadyUntil(const std::function<bool()>& done) {
  owner_ = std::this_thread::get_id();
  while (!done()) {
    if (RunOne(Now())) continue;
    std::unique_lock lock(mutex_);
    posted_changed_.wait(lock, [this] { return !posted_.empty(); });
  }
}

std::optional<core::SteadyTime> FakeLoop::NextTimer() const {
  if (timers_.empty()) return std::nullopt;
  return timers_.begin()->first.first;
}

bool FakeLoop::RunOne(core::SteadyTime limit) {
  if (RunOnePosted()) return true;
  if (timers_.empty()) return false;
  const auto [when, id] = timers_.begin()->first;
  if (when > limit) return false;
  if (when > Now()) clock_.Advance(when - Now());
  auto timer = timers_.extract(timers_.begin());
  timer_times_.erase(id);
  std::move(timer.mapped())();
  return true;
}

bool FakeLoop::RunOnePosted() {
  Callback fn;
  {
    std::lock_guard lock(mutex_);
    if (posted_.empty()) return false;
    fn = std::move(posted_.front());
    posted_.pop_front();
  }
  std::move(fn)();
  return true;
}

}  // namespace holdfast::testing
