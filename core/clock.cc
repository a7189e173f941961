#include "core/clock.h"

#include <cmath>
#include <cstdint>
#include <cstdio>

namespace holdfast::core {

SteadyTime SystemClock::Now() const { return std::chrono::steady_clock::now(); }

WallTime SystemClock::WallNow() const { return std::chrono::system_clock::now(); }

Duration SaturatingAdd(Duration a, Duration b) {
  int64_t sum;
  if (__builtin_add_overflow(a.count(), b.count(), &sum)) {
    return b.count() > 0 ? Duration::max() : Duration::min();
  }
  return Duration(sum);
}

SteadyTime SaturatingAdd(SteadyTime t, Duration d) {
  return SteadyTime(SaturatingAdd(t.time_since_epoch(), d));
}

Duration FromSeconds(double seconds) {
  const double ns = seconds * 1e9;
  if (std::isnan(ns)) return Duration::zero();
  if (ns >= 9.2e18) return Duration::max();
  if (ns <= -9.2e18) return Duration::min();
  return Duration(std::llround(ns));
}

Duration Scale(Duration d, double factor) {
  const double ns = static_cast<double>(d.count()) * factor;
  if (std::isnan(ns)) return Duration::zero();
  if (ns >= 9.2e18) return Duration::max();
  if (ns <= -9.2e18) return Duration::min();
  return Duration(std::llround(ns));
}

std::string FormatDuration(Duration d) {
  struct Unit {
    int64_t ns;
    const char* name;
  };
  constexpr Unit kUnits[] = {{3'600'000'000'000, "h"}, {60'000'000'000, "m"}, {1'000'000'000, "s"},
                             {1'000'000, "ms"},        {1'000, "us"},         {1, "ns"}};
  const int64_t ns = d.count();
  if (ns == 0) return "0s";
  const int64_t millis = ns / 1'000'000;
  if (ns % 1'000'000 == 0 && millis % 1000 != 0 && (millis > 1000 || millis < -1000)) {
    char text[32];
    std::snprintf(text, sizeof text, "%.3f", static_cast<double>(millis) / 1000);
    std::string seconds = text;
    seconds.erase(seconds.find_last_not_of('0') + 1);
    return seconds + "s";
  }
  for (const Unit& unit : kUnits) {
    if (ns % unit.ns == 0) return std::to_string(ns / unit.ns) + unit.name;
  }
  return std::to_string(ns) + "ns";
}

}  // namespace holdfast::core
