#include "server/config/values.h"

#include <gtest/gtest.h>

#include <limits>
#include <string>

namespace holdfast::server {
namespace {

using std::chrono::hours;
using std::chrono::milliseconds;
using std::chrono::minutes;
using std::chrono::nanoseconds;
using std::chrono::seconds;

TEST(DurationTest, ReadsWhatPeopleWrite) {
  EXPECT_EQ(ParseDuration("30s"), seconds(30));
  EXPECT_EQ(ParseDuration("250ms"), milliseconds(250));
  EXPECT_EQ(ParseDuration("1m30s"), seconds(90));
  EXPECT_EQ(ParseDuration("168h"), hours(168));
  EXPECT_EQ(ParseDuration("1.5s"), milliseconds(1500));
  EXPECT_EQ(ParseDuration("1h1m1s1ms1us1ns"),
            hours(1) + minutes(1) + seconds(1) + milliseconds(1) + nanoseconds(1001));
  EXPECT_EQ(ParseDuration("0s"), seconds(0));
  EXPECT_EQ(ParseDuration("0.000000001s"), nanoseconds(1));
  EXPECT_EQ(ParseDuration("1.50s"), milliseconds(1500));
}

TEST(DurationTest, RefusesTheRest) {
  for (const char* text : {"",
                           "30",
                           "0",
                           "s",
                           "-1s",
                           "+1s",
                           "1 s",
                           "1s ",
                           "1S",
                           "1d",
                           "1s1m",
                           "1s1s",
                           ".5s",
                           "1.s",
                           "1,5s",
                           "1e3s",
                           "nan",
                           "inf",
                           "0.0000000001s",
                           "1sec",
                           "9223372036854775808ns",
                           "2562048h",
                           "99999999999999999999s"}) {
    EXPECT_EQ(ParseDuration(text), std::nullopt) << text;
  }
}

TEST(DurationTest, ReadsWhatIsFormatted) {
  for (const int64_t ns : {1L, 999L, 1'000L, 1'500'000L, 60'000'000'000L, 90'000'000'000L,
                           604'800'000'000'000L, std::numeric_limits<int64_t>::max()}) {
    EXPECT_EQ(ParseDuration(core::FormatDuration(nanoseconds(ns))), nanoseconds(ns));
  }
}

TEST(SizeTest, ReadsAndRefuses) {
  EXPECT_EQ(ParseSize("1MiB"), 1u << 20);
  EXPECT_EQ(ParseSize("16MiB"), 16u << 20);
  EXPECT_EQ(ParseSize("512KiB"), 512u << 10);
  EXPECT_EQ(ParseSize("3MB"), 3'000'000u);
  EXPECT_EQ(ParseSize("1048576"), 1u << 20);
  EXPECT_EQ(ParseSize("7B"), 7u);
  for (const char* text : {"", "MiB", "-1", "1.5MiB", "1 MiB", "1mib", "1M", "1TiB",
                           "9223372036854775808", "8796093022208MiB"}) {
    EXPECT_EQ(ParseSize(text), std::nullopt) << text;
  }
  EXPECT_EQ(FormatSize(3 << 20), "3MiB");
  EXPECT_EQ(FormatSize(1000), "1000");
  EXPECT_EQ(FormatSize(0), "0");
}

TEST(NumberTest, OnlyFiniteDecimals) {
  EXPECT_EQ(ParseNumber("0.5"), 0.5);
  EXPECT_EQ(ParseNumber(".85"), 0.85);
  EXPECT_EQ(ParseNumber("3"), 3.0);
  EXPECT_EQ(ParseNumber("-1"), -1.0);
  for (const char* text : {"", "nan", "inf", "-inf", "0x1p3", "1.0.0", "1,5", " 1", "1e999"}) {
    EXPECT_EQ(ParseNumber(text), std::nullopt) << text;
  }
  EXPECT_EQ(FormatNumber(0.1), "0.1");
  EXPECT_EQ(FormatNumber(10), "10");
  EXPECT_EQ(FormatNumber(1e6), "1000000");
  EXPECT_EQ(ParseInteger("12"), 12);
  for (const char* text : {"", "1.0", "1e3", "0x10", "9223372036854775808", "+1", "1_000"}) {
    EXPECT_EQ(ParseInteger(text), std::nullopt) << text;
  }
}

TEST(AddressTest, HostPortAndLoopback) {
  const auto loopback = [](const char* text) { return ParseAddress(text)->loopback; };
  EXPECT_TRUE(loopback("127.0.0.1:50051"));
  EXPECT_TRUE(loopback("127.9.9.9:0"));
  EXPECT_TRUE(loopback("[::1]:1"));
  EXPECT_TRUE(loopback("localhost:65535"));
  EXPECT_TRUE(loopback("LocalHost:1"));
  EXPECT_FALSE(loopback("0.0.0.0:1"));
  EXPECT_FALSE(loopback("[::]:1"));
  EXPECT_FALSE(loopback("128.0.0.1:1"));
  EXPECT_FALSE(loopback("127.0.0.1.example.com:1"));
  EXPECT_FALSE(loopback("localhost.example.com:1"));
  EXPECT_FALSE(loopback("[::ffff:10.0.0.1]:1"));
  EXPECT_EQ(ParseAddress("[::1]:80")->host, "::1");
  EXPECT_EQ(ParseAddress("h:80")->port, 80);
  for (const char* text : {"", ":80", "h", "h:", "h:65536", "h:-1", "h:8o", "::1:80", "[::1]",
                           "[x]:1", "h:80/", "a b:1", "unix:/x"}) {
    EXPECT_FALSE(ParseAddress(text)) << text;
  }
}

TEST(UrlTest, Parts) {
  const auto url = ParseUrl("HTTPS://user:p@ss@example.com:8443/a/b?c#d");
  ASSERT_TRUE(url);
  EXPECT_EQ(url->scheme, "https");
  EXPECT_EQ(url->userinfo, "user:p@ss");
  EXPECT_EQ(url->host, "example.com");
  EXPECT_EQ(url->port, 8443);
  EXPECT_EQ(url->path, "/a/b");
  EXPECT_TRUE(url->has_query);
  EXPECT_TRUE(url->has_fragment);
  EXPECT_EQ(ParseUrl("http://[::1]:80/v1")->host, "::1");
  for (const char* text :
       {"", "example.com", "//example.com", "http://", "http:///v1", "http://a b", "http://h:0",
        "http://h:x", "http://h:99999", "http://[::1", "http://h\\x", "http://h\n"}) {
    EXPECT_FALSE(ParseUrl(text)) << text;
  }
}

TEST(Utf8Test, FindsTheFirstBadByte) {
  EXPECT_EQ(FirstInvalidUtf8("aé€😀"), std::nullopt);
  EXPECT_EQ(FirstInvalidUtf8("a\xFF"), 1u);
  EXPECT_EQ(FirstInvalidUtf8("\xC0\x80"), 0u);          // overlong
  EXPECT_EQ(FirstInvalidUtf8("ab\xED\xA0\x80"), 2u);    // surrogate
  EXPECT_EQ(FirstInvalidUtf8("\xF4\x90\x80\x80"), 0u);  // above U+10FFFF
  EXPECT_EQ(FirstInvalidUtf8("\xE2\x82"), 0u);          // cut short
}

TEST(TextTest, WhatYamlTakesForSomethingElse) {
  for (const char* text : {"1", "-1.5", "1e3", ".5", "true", "No", "null", "~", ".inf", "0x1F"}) {
    EXPECT_TRUE(LooksLikeNonText(text)) << text;
  }
  for (const char* text : {"gpt-4o", "1.2.3.4", "30s", "1MiB", "nan", "infinity", "0xyz", "-"}) {
    EXPECT_FALSE(LooksLikeNonText(text)) << text;
  }
}

}  // namespace
}  // namespace holdfast::server
