#include "providers/retry_after.h"

#include <algorithm>
#include <array>
#include <charconv>
#include <chrono>
#include <cmath>
#include <string>

namespace holdfast::providers {
namespace {

using core::Duration;
using core::WallTime;

constexpr std::array<std::string_view, 7> kDays = {"Monday", "Tuesday",  "Wednesday", "Thursday",
                                                   "Friday", "Saturday", "Sunday"};
constexpr std::array<std::string_view, 12> kMonths = {"Jan", "Feb", "Mar", "Apr", "May", "Jun",
                                                      "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"};
// A bare number above this in a reset header is a Unix time and no delay of 30 years.
constexpr double kMaxBareSeconds = 1e9;

std::string_view Trim(std::string_view text) {
  const size_t first = text.find_first_not_of(" \t");
  if (first == std::string_view::npos) return {};
  return text.substr(first, text.find_last_not_of(" \t") - first + 1);
}

// All of `text` as a finite number.
std::optional<double> ReadNumber(std::string_view text) {
  double number = 0;
  const char* const end = text.data() + text.size();
  const auto [rest, error] = std::from_chars(text.data(), end, number);
  if (error != std::errc() || rest != end || !std::isfinite(number)) return std::nullopt;
  return number;
}

std::optional<Duration> Positive(std::optional<double> seconds) {
  if (!seconds) return std::nullopt;
  const Duration duration = core::FromSeconds(*seconds);
  if (duration <= Duration::zero()) return std::nullopt;
  return duration;
}

// Takes fields off the front of a text. After the first that does not fit, failed() is true.
class Scanner {
 public:
  explicit Scanner(std::string_view text) : rest_(text) {}

  bool Take(std::string_view literal) {
    if (!rest_.starts_with(literal)) return false;
    rest_.remove_prefix(literal.size());
    return true;
  }
  void Expect(std::string_view literal) { failed_ |= !Take(literal); }

  // Exactly `width` digits.
  int Digits(size_t width) {
    int value = 0;
    if (rest_.size() < width) return Fail();
    for (const char c : rest_.substr(0, width)) {
      if (c < '0' || c > '9') return Fail();
      value = value * 10 + (c - '0');
    }
    rest_.remove_prefix(width);
    return value;
  }

  // One of the names; its place.
  template <size_t N>
  int OneOf(const std::array<std::string_view, N>& names, size_t length) {
    for (size_t i = 0; i < N; ++i) {
      if (Take(length == 0 ? names[i] : names[i].substr(0, length))) return static_cast<int>(i);
    }
    return Fail();
  }

  // ".5" as nanoseconds; 0 if there is no fraction.
  Duration Fraction() {
    if (!Take(".")) return Duration::zero();
    int64_t nanos = 0;
    int64_t unit = 100'000'000;
    const size_t before = rest_.size();
    while (!rest_.empty() && rest_.front() >= '0' && rest_.front() <= '9') {
      nanos += (rest_.front() - '0') * unit;
      unit /= 10;
      rest_.remove_prefix(1);
    }
    failed_ |= rest_.size() == before;
    return Duration(nanos);
  }

  bool failed() const { return failed_; }
  bool empty() const { return rest_.empty(); }

 private:
  int Fail() {
    failed_ = true;
    return 0;
  }

  std::string_view rest_;
  bool failed_ = false;
};

struct CivilTime {
  int year = 0, month = 0, day = 0, hour = 0, minute = 0, second = 0;
};

std::optional<WallTime> ToWallTime(const CivilTime& t) {
  const std::chrono::year_month_day date(std::chrono::year(t.year),
                                         std::chrono::month(static_cast<unsigned>(t.month)),
                                         std::chrono::day(static_cast<unsigned>(t.day)));
  if (!date.ok() || t.hour > 23 || t.minute > 59 || t.second > 60) return std::nullopt;
  // Nanoseconds since 1970 end in 2262. What is long past is as good as absent.
  if (t.year < 1970) return std::nullopt;
  if (t.year > 2261) return WallTime::max();
  return WallTime(std::chrono::sys_days(date).time_since_epoch() + std::chrono::hours(t.hour) +
                  std::chrono::minutes(t.minute) + std::chrono::seconds(t.second));
}

void ReadTimeOfDay(Scanner& in, CivilTime& t) {
  t.hour = in.Digits(2);
  in.Expect(":");
  t.minute = in.Digits(2);
  in.Expect(":");
  t.second = in.Digits(2);
}

std::optional<WallTime> Done(const Scanner& in, const CivilTime& t) {
  if (in.failed() || !in.empty()) return std::nullopt;
  return ToWallTime(t);
}

// "Sun, 06 Nov 1994 08:49:37 GMT"
std::optional<WallTime> ParseFixdate(std::string_view text) {
  Scanner in(text);
  CivilTime t;
  in.OneOf(kDays, 3);
  in.Expect(", ");
  t.day = in.Digits(2);
  in.Expect(" ");
  t.month = in.OneOf(kMonths, 0) + 1;
  in.Expect(" ");
  t.year = in.Digits(4);
  in.Expect(" ");
  ReadTimeOfDay(in, t);
  in.Expect(" GMT");
  return Done(in, t);
}

// "Sunday, 06-Nov-94 08:49:37 GMT"
std::optional<WallTime> ParseRfc850(std::string_view text) {
  Scanner in(text);
  CivilTime t;
  in.OneOf(kDays, 0);
  in.Expect(", ");
  t.day = in.Digits(2);
  in.Expect("-");
  t.month = in.OneOf(kMonths, 0) + 1;
  in.Expect("-");
  const int year = in.Digits(2);
  t.year = year < 70 ? 2000 + year : 1900 + year;
  in.Expect(" ");
  ReadTimeOfDay(in, t);
  in.Expect(" GMT");
  return Done(in, t);
}

// "Sun Nov  6 08:49:37 1994"
std::optional<WallTime> ParseAsctime(std::string_view text) {
  Scanner in(text);
  CivilTime t;
  in.OneOf(kDays, 3);
  in.Expect(" ");
  t.month = in.OneOf(kMonths, 0) + 1;
  in.Expect(" ");
  t.day = in.Take(" ") ? in.Digits(1) : in.Digits(2);
  in.Expect(" ");
  ReadTimeOfDay(in, t);
  in.Expect(" ");
  t.year = in.Digits(4);
  return Done(in, t);
}

std::optional<Duration> Until(std::optional<WallTime> when, const core::Clock& clock) {
  if (!when || *when <= clock.WallNow()) return std::nullopt;
  return *when - clock.WallNow();
}

std::optional<Duration> ReadStandard(const HttpHeaders& headers, const core::Clock& clock) {
  if (const std::string* ms = headers.Find("retry-after-ms")) {
    std::optional<double> number = ReadNumber(Trim(*ms));
    if (number) *number /= 1000;
    if (const auto delay = Positive(number)) return delay;
  }
  const std::string* header = headers.Find("retry-after");
  if (header == nullptr) return std::nullopt;
  const std::string_view value = Trim(*header);
  if (const auto delay = Positive(ReadNumber(value))) return delay;
  return Until(ParseHttpDate(value), clock);
}

// A provider's own headers: its reset counts only where nothing remains.
struct ResetHeader {
  std::string remaining;  // the name of the header that belongs to it
  bool is_date;
};

std::optional<ResetHeader> AsResetHeader(const std::string& name) {
  constexpr std::string_view kReset = "x-ratelimit-reset-";
  constexpr std::string_view kAnthropic = "anthropic-ratelimit-";
  constexpr std::string_view kAnthropicEnd = "-reset";
  if (name.starts_with(kReset)) {
    return ResetHeader{"x-ratelimit-remaining-" + name.substr(kReset.size()), false};
  }
  if (name.starts_with(kAnthropic) && name.ends_with(kAnthropicEnd) &&
      name.size() > kAnthropic.size() + kAnthropicEnd.size()) {
    return ResetHeader{name.substr(0, name.size() - kAnthropicEnd.size()) + "-remaining", true};
  }
  return std::nullopt;
}

std::optional<Duration> ReadResets(const HttpHeaders& headers, const core::Clock& clock) {
  std::optional<Duration> latest;
  for (const auto& [name, value] : headers) {
    const std::optional<ResetHeader> reset = AsResetHeader(name);
    if (!reset) continue;
    const std::string* remaining = headers.Find(reset->remaining);
    if (remaining == nullptr) continue;
    const std::optional<double> left = ReadNumber(Trim(*remaining));
    if (!left || *left > 0) continue;
    const std::optional<Duration> delay =
        reset->is_date ? Until(ParseRfc3339(value), clock) : ParseRetryDuration(value);
    if (delay && (!latest || *delay > *latest)) latest = delay;
  }
  return latest;
}

}  // namespace

std::optional<Duration> ReadRetryAfter(const HttpHeaders& headers, std::string_view body_delay,
                                       const core::Clock& clock) {
  if (const auto delay = ReadStandard(headers, clock)) return delay;
  if (const auto delay = ReadResets(headers, clock)) return delay;
  return ParseRetryDuration(body_delay);
}

std::optional<Duration> ParseRetryDuration(std::string_view text) {
  struct Unit {
    std::string_view name;
    double seconds;
  };
  constexpr std::array<Unit, 6> kUnits = {
      {{"ms", 1e-3}, {"us", 1e-6}, {"ns", 1e-9}, {"h", 3600}, {"m", 60}, {"s", 1}}};
  std::string_view rest = Trim(text);
  if (const auto bare = ReadNumber(rest)) {
    return *bare < kMaxBareSeconds ? Positive(bare) : std::nullopt;
  }
  if (rest.empty()) return std::nullopt;
  double total = 0;
  while (!rest.empty()) {
    const size_t digits = std::min(rest.find_first_not_of("0123456789."), rest.size());
    const std::optional<double> number = ReadNumber(rest.substr(0, digits));
    if (!number) return std::nullopt;
    rest.remove_prefix(digits);
    const auto unit = std::find_if(kUnits.begin(), kUnits.end(),
                                   [rest](const Unit& u) { return rest.starts_with(u.name); });
    if (unit == kUnits.end()) return std::nullopt;
    rest.remove_prefix(unit->name.size());
    total += *number * unit->seconds;
  }
  return Positive(total);
}

std::optional<WallTime> ParseHttpDate(std::string_view text) {
  text = Trim(text);
  if (const auto time = ParseFixdate(text)) return time;
  if (const auto time = ParseRfc850(text)) return time;
  return ParseAsctime(text);
}

std::optional<WallTime> ParseRfc3339(std::string_view text) {
  Scanner in(Trim(text));
  CivilTime t;
  t.year = in.Digits(4);
  in.Expect("-");
  t.month = in.Digits(2);
  in.Expect("-");
  t.day = in.Digits(2);
  if (!in.Take("T") && !in.Take("t")) in.Expect(" ");
  ReadTimeOfDay(in, t);
  const Duration fraction = in.Fraction();
  Duration offset{};
  if (!in.Take("Z") && !in.Take("z")) {
    const bool behind = in.Take("-");
    if (!behind) in.Expect("+");
    offset = std::chrono::hours(in.Digits(2));
    in.Expect(":");
    offset += std::chrono::minutes(in.Digits(2));
    if (behind) offset = -offset;
  }
  const std::optional<WallTime> local = Done(in, t);
  if (!local || *local == WallTime::max()) return local;
  return *local + fraction - offset;
}

}  // namespace holdfast::providers
