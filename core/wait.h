#pragma once

// The awaitables that suspend: Sleep, OneShot and Bell. All of them resume by Loop::Post, on the
// loop they were made for.

#include <coroutine>
#include <memory>
#include <optional>
#include <stop_token>
#include <utility>

#include "core/check.h"
#include "core/loop.h"
#include "core/task.h"

namespace holdfast::core {

// A value that arrives once. One coroutine waits; Set is called on the loop's thread, before or
// after the wait begins; a second Set is ignored and returns false. Must outlive the wait.
template <typename T>
class OneShot {
 public:
  explicit OneShot(Loop& loop) : loop_(loop) {}
  OneShot(const OneShot&) = delete;
  OneShot& operator=(const OneShot&) = delete;

  bool Set(T value) {
    if (value_) return false;
    value_.emplace(std::move(value));
    if (waiter_) loop_.Post([waiter = std::exchange(waiter_, {})] { waiter.resume(); });
    return true;
  }
  bool IsSet() const { return value_.has_value(); }

  struct Awaiter {
    OneShot& shot;
    bool await_ready() const { return shot.value_.has_value(); }
    void await_suspend(std::coroutine_handle<> waiter) const {
      HOLDFAST_CHECK(!shot.waiter_);
      shot.waiter_ = waiter;
    }
    T await_resume() const { return std::move(*shot.value_); }
  };
  Awaiter operator co_await() { return Awaiter{*this}; }

 private:
  Loop& loop_;
  std::optional<T> value_;
  std::coroutine_handle<> waiter_;
};

// Wakes one coroutine, again and again: `co_await bell` returns once it was rung after the last
// return. Rung on the loop's thread. Must outlive the wait.
class Bell {
 public:
  explicit Bell(Loop& loop) : loop_(loop) {}
  Bell(const Bell&) = delete;
  Bell& operator=(const Bell&) = delete;

  void Ring() {
    rung_ = true;
    if (waiter_) loop_.Post([waiter = std::exchange(waiter_, {})] { waiter.resume(); });
  }

  struct Awaiter {
    Bell& bell;
    bool await_ready() const { return bell.rung_; }
    void await_suspend(std::coroutine_handle<> waiter) const {
      HOLDFAST_CHECK(!bell.waiter_);
      bell.waiter_ = waiter;
    }
    void await_resume() const { bell.rung_ = false; }
  };
  Awaiter operator co_await() { return Awaiter{*this}; }

 private:
  Loop& loop_;
  bool rung_ = false;
  std::coroutine_handle<> waiter_;
};

// Waits until `when`; false if `stop` was requested first (then at once). request_stop() must be
// called on the loop's thread.
inline Task<bool> Sleep(Loop& loop, SteadyTime when, std::stop_token stop) {
  if (stop.stop_requested()) co_return false;
  OneShot<bool> done(loop);
  const TimerId timer = loop.CallAt(when, [&done] { done.Set(true); });
  std::stop_callback on_stop(stop, [&] {
    if (done.Set(false)) loop.CancelTimer(timer);
  });
  co_return co_await done;
}

}  // namespace holdfast::core
