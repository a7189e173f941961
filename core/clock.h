#pragma once

// Time as the rest of the code sees it. Everything that measures or waits takes a `const Clock&`
// in its constructor; there is no global now(). Implementations are safe to call from any thread
// and outlive whoever borrows them. Tests use tests/fakes/fake_loop.h.

#include <chrono>
#include <string>

namespace holdfast::core {

using Duration = std::chrono::nanoseconds;
using SteadyTime = std::chrono::time_point<std::chrono::steady_clock, Duration>;
using WallTime = std::chrono::time_point<std::chrono::system_clock, Duration>;

class Clock {
 public:
  virtual ~Clock() = default;

  // For every decision and every measurement.
  virtual SteadyTime Now() const = 0;

  // Only to read dates in headers, and to stamp and age what is stored or logged.
  virtual WallTime WallNow() const = 0;
};

class SystemClock final : public Clock {
 public:
  SteadyTime Now() const override;
  WallTime WallNow() const override;
};

// `a + b` and `a * factor` that stop at the ends of the range instead of wrapping.
Duration SaturatingAdd(Duration a, Duration b);
SteadyTime SaturatingAdd(SteadyTime t, Duration d);
Duration Scale(Duration d, double factor);

// Shortest exact form people read: "1.5s", "250ms", "2m", "168h".
std::string FormatDuration(Duration d);

inline double ToSeconds(Duration d) { return std::chrono::duration<double>(d).count(); }
Duration FromSeconds(double seconds);  // saturates; NaN is 0

}  // namespace holdfast::core
