#include "cache/text.h"

#include <gtest/gtest.h>

namespace holdfast::cache {
namespace {

TEST(NormalizeQuestion, CaseWhiteSpaceAndFinalPunctuationDoNotMatter) {
  const std::string expected = "why is the sky blue";
  for (const char* question :
       {"Why is the sky blue?", "why  is\tthe\nsky blue", "  WHY IS THE SKY BLUE ?! ",
        "Why is the sky blue...", "Why\u00A0is the sky\u3000blue\uFF1F",
        "why is the sky blue\u2026"}) {
    EXPECT_EQ(NormalizeQuestion(question), expected) << question;
  }
}

TEST(NormalizeQuestion, EverythingElseMatters) {
  EXPECT_NE(NormalizeQuestion("a-b"), NormalizeQuestion("a b"));
  EXPECT_NE(NormalizeQuestion("1.5"), NormalizeQuestion("15"));
  EXPECT_NE(NormalizeQuestion("ab"), NormalizeQuestion("a b"));
  EXPECT_NE(NormalizeQuestion("f(x)"), NormalizeQuestion("f(x"));
}

TEST(NormalizeQuestion, NothingButPunctuationStays) {
  EXPECT_EQ(NormalizeQuestion(" ?? "), "??");
  EXPECT_NE(NormalizeQuestion("?"), NormalizeQuestion("!"));
  EXPECT_EQ(NormalizeQuestion(" \n"), "");
}

TEST(NormalizeQuestion, LowersLatinGreekAndCyrillic) {
  EXPECT_EQ(NormalizeQuestion("\u00C4RGER \u0160KODA \u0179d\u0178"),
            "\u00E4rger \u0161koda \u017Ad\u00FF");
  EXPECT_EQ(NormalizeQuestion("\u0391\u03A9 \u041C\u0418\u0420 \u0401"),
            "\u03B1\u03C9 \u043C\u0438\u0440 \u0451");
  EXPECT_EQ(NormalizeQuestion("\u00D7 \u00F7 \u0138"), "\u00D7 \u00F7 \u0138");
}

TEST(DecodeUtf8, ReadsWholeCharactersAndReplacesTheRest) {
  EXPECT_EQ(DecodeUtf8("a\u00E4\u20AC\U0001F600"), U"a\u00E4\u20AC\U0001F600");
  const std::u32string bad(1, 0xFFFD);
  EXPECT_EQ(DecodeUtf8("\xC3"), bad);
  EXPECT_EQ(DecodeUtf8("\xC3(").back(), U'(');
  EXPECT_EQ(DecodeUtf8("\xC0\xAF"), bad + bad);            // overlong
  EXPECT_EQ(DecodeUtf8("\xED\xA0\x80"), bad + bad + bad);  // a surrogate
  EXPECT_EQ(DecodeUtf8("\xF4\x90\x80\x80").size(), 4u);    // beyond the last character
}

TEST(DecodeUtf8, AppendUtf8IsItsInverse) {
  for (char32_t c = 0; c <= 0x10FFFF; c += c < 0x3000 ? 1 : 97) {
    if (c >= 0xD800 && c <= 0xDFFF) continue;
    std::string text;
    AppendUtf8(text, c);
    ASSERT_EQ(DecodeUtf8(text), std::u32string(1, c)) << static_cast<uint32_t>(c);
  }
}

}  // namespace
}  // namespace holdfast::cache
