#include "providers/utf8.h"

#include <gtest/gtest.h>

#include <random>

#include "providers/json.h"

namespace holdfast::providers {
namespace {

TEST(Utf8, LengthOfWhatIsValid) {
  EXPECT_EQ(Utf8Length("a"), 1u);
  EXPECT_EQ(Utf8Length("\xC3\xB6z"), 2u);
  EXPECT_EQ(Utf8Length("\xE2\x82\xAC"), 3u);
  EXPECT_EQ(Utf8Length("\xF0\x9F\x98\x80"), 4u);
  for (const std::string_view bad :
       {"", "\x80", "\xC0\x80", "\xC1\xBF", "\xC3", "\xE0\x80\x80", "\xE0\x9F\xBF", "\xED\xA0\x80",
        "\xF0\x8F\xBF\xBF", "\xF4\x90\x80\x80", "\xF5\x80\x80\x80", "\xFF", "\xE2\x82"}) {
    EXPECT_EQ(Utf8Length(bad), 0u);
  }
}

TEST(Utf8, PrefixCutsNoCharacter) {
  EXPECT_EQ(Utf8Prefix("a\xE2\x82\xAC", 5), "a\xE2\x82\xAC");
  EXPECT_EQ(Utf8Prefix("a\xE2\x82\xAC", 4), "a\xE2\x82\xAC");
  EXPECT_EQ(Utf8Prefix("a\xE2\x82\xAC", 3), "a");
  EXPECT_EQ(Utf8Prefix("a\xE2\x82\xAC", 1), "a");
  EXPECT_EQ(Utf8Prefix("\xE2\x82\xAC", 2), "");
}

TEST(Utf8, ReplaceKeepsWhatIsValid) {
  EXPECT_EQ(ReplaceInvalidUtf8("h\xC3\xB6 \xF0\x9F\x98\x80"), "hö 😀");
  EXPECT_EQ(ReplaceInvalidUtf8("\xFF"
                               "a\xE2\x82"
                               "b\xF0"),
            "\uFFFDa\uFFFDb\uFFFD");
  EXPECT_EQ(ReplaceInvalidUtf8("\xED\xA0\x80"), "\uFFFD\uFFFD\uFFFD");
}

// What JSON text comes to after mending, parsing and joining.
std::string ThroughJson(std::string_view raw) {
  JsonReader reader;
  EXPECT_TRUE(reader.Parse("[\"" + std::string(raw) + "\"]"));
  const std::string_view text = AsString(reader.root().get_array().value_unsafe().at(0));
  return reader.mended() ? PlainText(text) : std::string(text);
}

TEST(MendJson, LeavesGoodJsonAlone) {
  for (const char* json : {R"({"a":"\ud83d\ude00 \\ud83d \" é"})", "[]", "", "\"\\"}) {
    EXPECT_EQ(MendJson(json), json);
  }
}

TEST(MendJson, AnEscapedBackslashStartsNoSurrogate) {
  EXPECT_EQ(ThroughJson(R"(\\ud83d\ud83d)"), "\\ud83d\uFFFD");
}

TEST(MendJson, RealCharactersOfTheStandInsRangeSurvive) {
  EXPECT_EQ(ThroughJson("\xF4\x8F\x80\x80\xFF"), "\xF4\x8F\x80\x80\uFFFD");
  EXPECT_EQ(ThroughJson("\xF4\x8F\xBF\xBF\xFF"), "\xF4\x8F\xBF\xBF\uFFFD");
  EXPECT_EQ(ThroughJson(R"(\udbfc\udc41\ud800)"), "\xF4\x8F\x81\x81\uFFFD");
  EXPECT_EQ(ThroughJson(R"(\udbff\udfff\ud800)"), "\xF4\x8F\xBF\xBF\uFFFD");
}

// However a text is cut into JSON strings, byte by byte, it comes out as it was.
TEST(Utf8Joiner, AnyTextCutAnywhere) {
  const std::string text = "aé€😀\xF4\x8F\x80\x80z";
  std::mt19937 random(1);
  for (int round = 0; round < 200; ++round) {
    Utf8Joiner joiner;
    std::string out;
    for (size_t at = 0; at < text.size();) {
      const size_t length = 1 + random() % 3;
      JsonReader reader;
      const std::string piece = text.substr(at, length);
      // A stray byte beside it, so that the piece is mended even where it is whole.
      ASSERT_TRUE(reader.Parse("[\"" + piece + "\",\"\xFF\"]"));
      ASSERT_TRUE(reader.mended());
      joiner.Feed(AsString(reader.root().get_array().value_unsafe().at(0)), out);
      at += length;
    }
    joiner.Flush(out);
    ASSERT_EQ(out, text);
  }
}

}  // namespace
}  // namespace holdfast::providers
