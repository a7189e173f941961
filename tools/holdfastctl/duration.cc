#include "tools/holdfastctl/duration.h"

#include <array>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <limits>
#include <utility>

namespace holdfast::ctl {
namespace {

constexpr double kMillisecond = 1e6;
constexpr double kSecond = 1e9;
constexpr double kMinute = 60 * kSecond;
constexpr double kHour = 60 * kMinute;
constexpr double kDay = 24 * kHour;
constexpr int64_t kNanosPerSecond = 1'000'000'000;

// Longest first where one is another's prefix.
constexpr std::array<std::pair<std::string_view, double>, 7> kUnits = {{
    {"ns", 1},
    {"us", 1e3},
    {"ms", kMillisecond},
    {"s", kSecond},
    {"m", kMinute},
    {"h", kHour},
    {"d", kDay},
}};

// Takes a decimal number off the front.
std::optional<double> TakeNumber(std::string_view& text) {
  double value = 0;
  double scale = 1;
  bool fraction = false;
  bool digits = false;
  size_t used = 0;
  for (; used < text.size(); ++used) {
    const char c = text[used];
    if (c == '.' && !fraction && digits) {
      fraction = true;
    } else if (c >= '0' && c <= '9') {
      digits = true;
      value = value * 10 + (c - '0');
      if (fraction) scale *= 10;
    } else {
      break;
    }
  }
  if (!digits || text[used - 1] == '.') return std::nullopt;
  text.remove_prefix(used);
  return value / scale;
}

std::optional<double> TakeUnit(std::string_view& text) {
  for (const auto& [name, nanos] : kUnits) {
    if (text.substr(0, name.size()) == name) {
      text.remove_prefix(name.size());
      return nanos;
    }
  }
  return std::nullopt;
}

std::string Print(const char* format, double value) {
  char buffer[64];
  std::snprintf(buffer, sizeof(buffer), format, value);
  return buffer;
}

std::string PrintPair(const char* format, double value, double unit, double smaller) {
  const auto parts = static_cast<long long>(value / smaller);
  const auto ratio = static_cast<long long>(unit / smaller);
  char buffer[64];
  std::snprintf(buffer, sizeof(buffer), format, parts / ratio, parts % ratio);
  return buffer;
}

}  // namespace

std::optional<Nanos> ParseDuration(std::string_view text) {
  if (text.empty()) return std::nullopt;
  double total = 0;
  while (!text.empty()) {
    const std::optional<double> number = TakeNumber(text);
    if (!number) return std::nullopt;
    const std::optional<double> unit = TakeUnit(text);
    if (!unit) return std::nullopt;
    total += *number * *unit;
  }
  if (!(total < static_cast<double>(std::numeric_limits<int64_t>::max()))) return std::nullopt;
  return Nanos(static_cast<int64_t>(std::round(total)));
}

std::string FormatDuration(Nanos value) {
  const auto nanos = static_cast<double>(value.count());
  if (nanos < 0) return "-" + FormatDuration(value == Nanos::min() ? Nanos::max() : -value);
  if (nanos == 0) return "0 s";
  if (nanos < kMillisecond) return Print("%.2g ms", nanos / kMillisecond);
  if (nanos < 999.5 * kMillisecond) return Print("%.0f ms", nanos / kMillisecond);
  if (nanos < 9.995 * kSecond) return Print("%.2f s", nanos / kSecond);
  if (nanos < 59.95 * kSecond) return Print("%.1f s", nanos / kSecond);
  if (nanos < kHour) return PrintPair("%lldm %02llds", nanos, kMinute, kSecond);
  if (nanos < kDay) return PrintPair("%lldh %02lldm", nanos, kHour, kMinute);
  return PrintPair("%lldd %lldh", nanos, kDay, kHour);
}

std::string FormatDuration(const google::protobuf::Duration& value) {
  return FormatDuration(FromProto(value));
}

google::protobuf::Duration ToProto(Nanos value) {
  google::protobuf::Duration proto;
  proto.set_seconds(value.count() / kNanosPerSecond);
  proto.set_nanos(static_cast<int32_t>(value.count() % kNanosPerSecond));
  return proto;
}

Nanos FromProto(const google::protobuf::Duration& value) {
  constexpr int64_t kMaxSeconds = std::numeric_limits<int64_t>::max() / kNanosPerSecond - 1;
  if (value.seconds() > kMaxSeconds) return Nanos::max();
  if (value.seconds() < -kMaxSeconds) return Nanos::min();
  return Nanos(value.seconds() * kNanosPerSecond + value.nanos());
}

}  // namespace holdfast::ctl
