#include "providers/retry_after.h"

#include <gtest/gtest.h>

#include "tests/fakes/fake_loop.h"

namespace holdfast::providers {
namespace {

using core::Duration;
using std::chrono::milliseconds;
using std::chrono::seconds;

// It is 2026-01-01T00:00:00Z, a Thursday.
class RetryAfter : public ::testing::Test {
 protected:
  std::optional<Duration> Read(const HttpHeaders& headers, std::string_view body_delay = {}) {
    return ReadRetryAfter(headers, body_delay, clock_);
  }
  std::optional<Duration> Header(std::string_view value) {
    return Read({{"retry-after", std::string(value)}});
  }

  testing::FakeClock clock_;
};

TEST_F(RetryAfter, WorkedCases) {
  EXPECT_EQ(Header("20"), seconds(20));
  EXPECT_EQ(Header("0"), std::nullopt);
  EXPECT_EQ(Header("-10"), std::nullopt);
  EXPECT_EQ(Header("nan"), std::nullopt);
  EXPECT_EQ(Header("inf"), std::nullopt);
  EXPECT_EQ(Header("Zun, 29 Sep 2030 00:00:20 GMT"), std::nullopt);
  EXPECT_EQ(Header("Thu, 01 Jan 2026 00:00:20 GMT"), seconds(20));
  EXPECT_EQ(Read({{"retry-after-ms", "1500"}, {"retry-after", "9"}}), milliseconds(1500));
}

TEST_F(RetryAfter, Seconds) {
  EXPECT_EQ(Header("1.5"), milliseconds(1500));
  EXPECT_EQ(Header(" 2\t"), seconds(2));
  EXPECT_EQ(Header("0.001"), milliseconds(1));
  for (const char* bad : {"", " ", "2s", "1,5", "0x10", "+5", "1 2", "-inf", "NaN", "infinity",
                          "1e999", "-0", "0.0", "soon", "1e-30"}) {
    EXPECT_EQ(Header(bad), std::nullopt) << bad;
  }
  EXPECT_GT(Header("1e300"), std::chrono::hours(1000));  // clamping is the engine's
}

TEST_F(RetryAfter, Dates) {
  EXPECT_EQ(Header("Thursday, 01-Jan-26 00:00:20 GMT"), seconds(20));
  EXPECT_EQ(Header("Thu Jan  1 00:00:20 2026"), seconds(20));
  EXPECT_EQ(Header("Thu, 01 Jan 2026 00:00:01 GMT"), seconds(1));
  EXPECT_GT(Header("Fri, 31 Dec 9999 23:59:59 GMT"), std::chrono::hours(1000));
  for (const char* bad : {"Thu, 01 Jan 2026 00:00:00 GMT", "Wed, 31 Dec 2025 23:59:59 GMT",
                          "Thu, 32 Jan 2026 00:00:20 GMT", "Thu, 01 Jax 2026 00:00:20 GMT",
                          "Mon, 30 Feb 2026 00:00:20 GMT", "Thu, 01 Jan 2026 25:00:20 GMT",
                          "Thu, 01 Jan 2026 00:60:20 GMT", "Thu, 01 Jan 2026 00:00:20",
                          "Thu, 1 Jan 2026 00:00:20 GMT", "Thu, 01 Jan 2026 00:00:20 GMT+1",
                          "01 Jan 2026 00:00:20 GMT", "Thu, 01 Jan"}) {
    EXPECT_EQ(Header(bad), std::nullopt) << bad;
  }
}

TEST_F(RetryAfter, ABadHeaderGivesWayToTheNext) {
  EXPECT_EQ(Read({{"retry-after-ms", "x"}, {"retry-after", "9"}}), seconds(9));
  EXPECT_EQ(Read({{"retry-after-ms", "0"}, {"retry-after", "9"}}), seconds(9));
  EXPECT_EQ(Read({{"retry-after", "x"},
                  {"x-ratelimit-remaining-requests", "0"},
                  {"x-ratelimit-reset-requests", "3s"}}),
            seconds(3));
  EXPECT_EQ(Read({{"retry-after", "-1"}}, "4s"), seconds(4));
}

TEST_F(RetryAfter, TheLatestResetAmongThoseWithNothingLeft) {
  EXPECT_EQ(Read({{"x-ratelimit-remaining-requests", "0"},
                  {"x-ratelimit-reset-requests", "120ms"},
                  {"x-ratelimit-remaining-tokens", "0"},
                  {"x-ratelimit-reset-tokens", "1m2s"},
                  {"x-ratelimit-remaining-images", "5"},
                  {"x-ratelimit-reset-images", "2h"}}),
            seconds(62));
  EXPECT_EQ(Read({{"x-ratelimit-remaining-requests", "1"}, {"x-ratelimit-reset-requests", "1s"}}),
            std::nullopt);
  EXPECT_EQ(Read({{"x-ratelimit-reset-requests", "1s"}}), std::nullopt);
  EXPECT_EQ(Read({{"x-ratelimit-remaining-requests", "0"}, {"x-ratelimit-reset-requests", "?"}}),
            std::nullopt);
}

TEST_F(RetryAfter, AnthropicsResetsAreDates) {
  EXPECT_EQ(Read({{"anthropic-ratelimit-requests-remaining", "0"},
                  {"anthropic-ratelimit-requests-reset", "2026-01-01T00:00:07Z"},
                  {"anthropic-ratelimit-input-tokens-remaining", "0"},
                  {"anthropic-ratelimit-input-tokens-reset", "2026-01-01T01:00:09.5+01:00"},
                  {"anthropic-ratelimit-tokens-remaining", "9000"},
                  {"anthropic-ratelimit-tokens-reset", "2026-01-01T00:01:00Z"}}),
            milliseconds(9500));
  EXPECT_EQ(Read({{"anthropic-ratelimit-requests-remaining", "0"},
                  {"anthropic-ratelimit-requests-reset", "2025-12-31T23:59:59Z"}}),
            std::nullopt);
}

TEST_F(RetryAfter, TheBodyComesLast) {
  EXPECT_EQ(Read({}, "38s"), seconds(38));
  EXPECT_EQ(Read({{"retry-after", "2"}}, "38s"), seconds(2));
  EXPECT_EQ(Read({}, ""), std::nullopt);
}

TEST(RetryDuration, Forms) {
  const std::vector<std::pair<const char*, Duration>> good = {
      {"120ms", milliseconds(120)},
      {"1m2s", seconds(62)},
      {"6m0s", seconds(360)},
      {"2m59.56s", milliseconds(179560)},
      {"1h", seconds(3600)},
      {"1h2m3.5s", milliseconds(3723500)},
      {"7.66s", milliseconds(7660)},
      {"12", seconds(12)},
      {"500us", std::chrono::microseconds(500)},
      {"10ns", Duration(10)},
      {"33011.5", milliseconds(33011500)}};
  for (const auto& [text, duration] : good) EXPECT_EQ(ParseRetryDuration(text), duration) << text;
  for (const char* bad :
       {"", "0s", "-1s", "s", "1x", "1m-2s", "1 s", "..s", "nans", "1700000000"}) {
    EXPECT_EQ(ParseRetryDuration(bad), std::nullopt) << bad;
  }
}

TEST(Rfc3339, Forms) {
  const core::WallTime midnight = testing::FakeClock::kWallStart;
  EXPECT_EQ(ParseRfc3339("2026-01-01T00:00:00Z"), midnight);
  EXPECT_EQ(ParseRfc3339("2026-01-01t00:00:00.25z"), midnight + milliseconds(250));
  EXPECT_EQ(ParseRfc3339("2026-01-01T02:30:00+02:30"), midnight);
  EXPECT_EQ(ParseRfc3339("2025-12-31T19:00:00-05:00"), midnight);
  for (const char* bad :
       {"", "2026-01-01", "2026-13-01T00:00:00Z", "2026-01-01T00:00:00", "2026-01-01T00:00:00.Z",
        "2026-01-01T00:00:00Zx", "2026-02-29T00:00:00Z"}) {
    EXPECT_EQ(ParseRfc3339(bad), std::nullopt) << bad;
  }
}

}  // namespace
}  // namespace holdfast::providers
