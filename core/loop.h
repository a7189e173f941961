#pragma once

// A single-threaded event loop. Every request is pinned to one Loop and all of its coroutines run
// there, so nothing on a request's path needs a lock. providers/http/curl_loop.h is the real one;
// tests/fakes/fake_loop.h has virtual time.

#include <cstdint>

#include "absl/functional/any_invocable.h"
#include "core/clock.h"

namespace holdfast::core {

using TimerId = uint64_t;  // never 0, never reused

class Loop {
 public:
  using Callback = absl::AnyInvocable<void()>;

  virtual ~Loop() = default;

  // Runs `fn` on the loop's thread, after what was posted before. From any thread.
  virtual void Post(Callback fn) = 0;

  // Runs `fn` on the loop's thread at `when` or soon after; a time that has passed means as soon
  // as possible, never from inside this call. Loop thread only.
  virtual TimerId CallAt(SteadyTime when, Callback fn) = 0;

  // False if it has run already or was cancelled. Loop thread only.
  virtual bool CancelTimer(TimerId id) = 0;

  virtual bool InLoop() const = 0;

  // The clock by which timers fire. From any thread.
  virtual const Clock& clock() const = 0;

  SteadyTime Now() const { return clock().Now(); }
};

}  // namespace holdfast::core
