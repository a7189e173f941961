#pragma once

// Task<T>: a lazy coroutine that starts when it is awaited and hands its value to the awaiter.
//
// One thread: a task and everything it awaits run on one Loop, and whatever resumes it does so by
// Loop::Post or a timer of that loop. That is why the two flags below need no atomics.
// No symmetric transfer: await_suspend returns bool, so a loop that awaits a million tasks which
// finish at once keeps a flat stack in every build mode, sanitizers included.
// A suspended coroutine is never destroyed to cancel it: cancel by std::stop_token and let it run
// to its end. Exceptions do not cross tasks; one that escapes ends the process.

#include <coroutine>
#include <exception>
#include <optional>
#include <utility>

#include "core/check.h"

namespace holdfast::core {

template <typename T>
class Task;

namespace internal {

struct TaskPromiseBase {
  std::coroutine_handle<> parent;
  bool done = false;
  bool parent_suspended = false;

  struct FinalAwaiter {
    bool await_ready() const noexcept { return false; }
    template <typename Promise>
    void await_suspend(std::coroutine_handle<Promise> self) const noexcept {
      TaskPromiseBase& promise = self.promise();
      promise.done = true;
      if (promise.parent_suspended) promise.parent.resume();  // may destroy this frame
    }
    void await_resume() const noexcept {}
  };

  std::suspend_always initial_suspend() const noexcept { return {}; }
  FinalAwaiter final_suspend() const noexcept { return {}; }
  void unhandled_exception() const noexcept { std::terminate(); }
};

template <typename T>
struct TaskPromise final : TaskPromiseBase {
  std::optional<T> value;

  Task<T> get_return_object();
  template <typename U>
  void return_value(U&& v) {
    value.emplace(std::forward<U>(v));
  }
  T Take() { return std::move(*value); }
};

template <>
struct TaskPromise<void> final : TaskPromiseBase {
  Task<void> get_return_object();
  void return_void() const noexcept {}
  void Take() const noexcept {}
};

}  // namespace internal

template <typename T = void>
class [[nodiscard]] Task {
 public:
  using promise_type = internal::TaskPromise<T>;
  using Handle = std::coroutine_handle<promise_type>;

  explicit Task(Handle handle) : handle_(handle) {}
  Task(Task&& other) noexcept : handle_(std::exchange(other.handle_, {})) {}
  Task& operator=(Task&&) = delete;
  ~Task() {
    if (handle_) handle_.destroy();
  }

  struct Awaiter {
    Handle handle;
    bool await_ready() const noexcept { return false; }
    bool await_suspend(std::coroutine_handle<> parent) const {
      internal::TaskPromiseBase& promise = handle.promise();
      promise.parent = parent;
      handle.resume();
      if (promise.done) return false;
      promise.parent_suspended = true;
      return true;
    }
    T await_resume() const { return handle.promise().Take(); }
  };

  Awaiter operator co_await() && { return Awaiter{handle_}; }

 private:
  Handle handle_;
};

namespace internal {

template <typename T>
Task<T> TaskPromise<T>::get_return_object() {
  return Task<T>(std::coroutine_handle<TaskPromise>::from_promise(*this));
}

inline Task<void> TaskPromise<void>::get_return_object() {
  return Task<void>(std::coroutine_handle<TaskPromise>::from_promise(*this));
}

struct Detached {
  struct promise_type {
    Detached get_return_object() const noexcept { return {}; }
    std::suspend_never initial_suspend() const noexcept { return {}; }
    std::suspend_never final_suspend() const noexcept { return {}; }
    void return_void() const noexcept {}
    void unhandled_exception() const noexcept { std::terminate(); }
  };
};

}  // namespace internal

// Starts `task` at once, on the calling loop, and lets it run to its end on its own.
inline void Spawn(Task<void> task) {
  [](Task<void> t) -> internal::Detached { co_await std::move(t); }(std::move(task));
}

}  // namespace holdfast::core
