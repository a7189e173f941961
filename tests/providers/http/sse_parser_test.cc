#include "providers/http/sse_parser.h"

#include <random>
#include <string>
#include <utility>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace holdfast::providers {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;
using ::testing::Pair;
using Events = std::vector<std::pair<std::string, std::string>>;

struct Collector {
  void operator()(std::string_view event, std::string_view data) const {
    events.emplace_back(event, data);
  }
  mutable Events events;
};

Events Parse(std::string_view text, size_t piece = std::string::npos, bool finish = false) {
  SseParser parser;
  Collector collector;
  for (size_t at = 0; at < text.size(); at += std::min(piece, text.size() - at)) {
    parser.Feed(text.substr(at, piece), collector);
  }
  if (finish) parser.Finish(collector);
  return collector.events;
}

TEST(SseParserTest, LineEnds) {
  for (const char* text : {"data: a\n\ndata: b\n\n", "data: a\r\n\r\ndata: b\r\n\r\n",
                           "data: a\r\rdata: b\r\r", "data: a\n\rdata: b\r\n\n"}) {
    for (size_t piece = 1; piece < 20; ++piece) {
      EXPECT_THAT(Parse(text, piece), ElementsAre(Pair("message", "a"), Pair("message", "b")))
          << text << piece;
    }
  }
}

TEST(SseParserTest, CrLfIsOneLineEnd) {
  for (size_t piece = 1; piece < 30; ++piece) {
    EXPECT_THAT(Parse("event: x\r\ndata: a\r\ndata: b\r\n\r\n", piece),
                ElementsAre(Pair("x", "a\nb")));
  }
}

TEST(SseParserTest, AnEventIsDeliveredWithItsLastByte) {
  SseParser parser;
  Collector collector;
  parser.Feed("data: a\n", collector);
  EXPECT_THAT(collector.events, IsEmpty());
  parser.Feed("\r", collector);  // no waiting for an LF that may never come
  EXPECT_THAT(collector.events, ElementsAre(Pair("message", "a")));
  parser.Feed("\n\ndata: b\n\n", collector);
  EXPECT_THAT(collector.events, ElementsAre(Pair("message", "a"), Pair("message", "b")));
}

TEST(SseParserTest, Fields) {
  EXPECT_THAT(Parse(": comment\nevent: ping\ndata: 1\nunknown: x\ndata:  2\nDATA: no\ndata\n\n"),
              ElementsAre(Pair("ping", "1\n 2\n")));
  EXPECT_THAT(Parse("data:x\n\n"), ElementsAre(Pair("message", "x")));
  EXPECT_THAT(Parse("data: a: b\n\n"), ElementsAre(Pair("message", "a: b")));
  EXPECT_THAT(Parse(":\n: ping\n\n\n"), IsEmpty());
}

TEST(SseParserTest, EventWithoutDataIsNoneAndItsNameIsForgotten) {
  EXPECT_THAT(Parse("event: x\n\ndata: a\n\n"), ElementsAre(Pair("message", "a")));
  EXPECT_THAT(Parse("data\n\n"), ElementsAre(Pair("message", "")));
  EXPECT_THAT(Parse("event: a\nevent: b\ndata:\n\n"), ElementsAre(Pair("b", "")));
}

TEST(SseParserTest, IdAndRetry) {
  SseParser parser;
  Collector collector;
  EXPECT_EQ(parser.retry_millis(), std::nullopt);
  parser.Feed("id: 7\nretry: 1500\ndata: a\n\n", collector);
  EXPECT_EQ(parser.last_event_id(), "7");
  EXPECT_EQ(parser.retry_millis(), 1500u);
  parser.Feed(std::string_view("id: 8\0\nretry: 1s\nretry: -1\nretry:\n", 34), collector);
  EXPECT_EQ(parser.last_event_id(), "7");
  EXPECT_EQ(parser.retry_millis(), 1500u);
  parser.Feed("id\n", collector);
  EXPECT_EQ(parser.last_event_id(), "");
}

TEST(SseParserTest, ByteOrderMarkAtTheStartOnly) {
  for (size_t piece = 1; piece < 5; ++piece) {
    EXPECT_THAT(Parse("\xEF\xBB\xBF"
                      "data: a\n\n",
                      piece),
                ElementsAre(Pair("message", "a")));
  }
  EXPECT_THAT(Parse("\n\xEF\xBB\xBF"
                    "data: a\n\n"),
              IsEmpty());
}

TEST(SseParserTest, FinishDeliversWhatNoBlankLineEnded) {
  EXPECT_THAT(Parse("data: a\n\ndata: [DONE]\n"), ElementsAre(Pair("message", "a")));
  EXPECT_THAT(Parse("data: [DONE]\n", 3, true), ElementsAre(Pair("message", "[DONE]")));
  EXPECT_THAT(Parse("data: [DONE]", 3, true), ElementsAre(Pair("message", "[DONE]")));
  EXPECT_THAT(Parse("data: a\n\n", 3, true), ElementsAre(Pair("message", "a")));
}

TEST(SseParserTest, LineLimit) {
  constexpr size_t kMax = 100;
  for (const auto& [length, delivered] :
       std::vector<std::pair<size_t, bool>>{{99, true}, {100, true}, {101, false}}) {
    for (size_t piece : {size_t{1}, size_t{7}, size_t{1000}}) {
      SseParser parser(kMax);
      Collector collector;
      const std::string text = "data:" + std::string(length - 5, 'x') + "\n\ndata: next\n\n";
      for (size_t at = 0; at < text.size(); at += piece) {
        parser.Feed(std::string_view(text).substr(at, piece), collector);
      }
      EXPECT_EQ(collector.events.size(), delivered ? 2u : 1u) << length << " " << piece;
      EXPECT_EQ(collector.events.back().second, "next");
      EXPECT_EQ(parser.skipped_lines(), delivered ? 0u : 1u);
    }
  }
}

TEST(SseParserTest, TooLongCommentSpoilsNothing) {
  SseParser parser(20);
  Collector collector;
  parser.Feed("data: a\n:" + std::string(50, 'c') + "\ndata: b\n\n", collector);
  EXPECT_THAT(collector.events, ElementsAre(Pair("message", "a\nb")));
  EXPECT_EQ(parser.skipped_lines(), 1u);
}

TEST(SseParserTest, DataOfManyLinesIsBoundedToo) {
  SseParser parser(20);
  Collector collector;
  for (int i = 0; i < 1000; ++i) parser.Feed("data: 123456789\n", collector);
  parser.Feed("\ndata: next\n\n", collector);
  EXPECT_THAT(collector.events, ElementsAre(Pair("message", "next")));
  EXPECT_EQ(parser.skipped_lines(), 998u);  // two fit: 9 + 1 + 9
}

TEST(SseParserTest, HowItIsCutChangesNothing) {
  std::mt19937 random(11);
  const std::vector<std::string> atoms = {
      "data",  ":",  " ", "\n",   "\r",   "\r\n", "é", "\xF0\x9F\x98\x80",
      "event", "id", "x", "\n\n", "retry"};
  for (int round = 0; round < 3000; ++round) {
    std::string text;
    for (int i = 0; i < 30; ++i) text += atoms[random() % atoms.size()];
    const Events whole = Parse(text, std::string::npos, true);
    SseParser parser;
    Collector collector;
    for (size_t at = 0; at < text.size();) {
      const size_t piece = random() % 6;
      parser.Feed(std::string_view(text).substr(at, piece), collector);
      at += piece;
    }
    parser.Finish(collector);
    ASSERT_EQ(collector.events, whole) << text;
  }
}

}  // namespace
}  // namespace holdfast::providers
