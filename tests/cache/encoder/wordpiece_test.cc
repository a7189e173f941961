#include "cache/encoder/wordpiece.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdio>

#include "cache/encoder/model_file.h"
#include "tests/cache/encoder/encoder_fixture.h"

namespace holdfast::cache {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

constexpr size_t kLongest = 256;

// [PAD] 0 [UNK] 1 [CLS] 2 [SEP] 3 [MASK] 4, then a 5 and so on.
constexpr std::string_view kVocabulary = "[PAD]\n[UNK]\n[CLS]\n[SEP]\n[MASK]\na\nb\n##b\nab\n!\n";

std::vector<int32_t> Ids(std::string_view text, size_t longest = kLongest) {
  const auto tokenizer = WordPiece::Create(kVocabulary);
  return tokenizer->Encode(text, longest)->ids;
}

TEST(WordPieceTest, TakesTheLongestPieceFirst) {
  EXPECT_THAT(Ids("ab abb ba"), ElementsAre(2, 8, 8, 7, 1, 3));
  EXPECT_THAT(Ids("A\u0301B!a"), ElementsAre(2, 8, 9, 5, 3));
  EXPECT_THAT(Ids(""), ElementsAre(2, 3));
  EXPECT_THAT(Ids("a[SEP]b[sep]"), ElementsAre(2, 5, 3, 6, 1, 1, 1, 3));
}

TEST(WordPieceTest, CutsAtTheLimitAndSaysSo) {
  const auto tokenizer = WordPiece::Create(kVocabulary);
  const auto cut = [&](const std::string& text) { return tokenizer->Encode(text, 5)->cut; };
  EXPECT_FALSE(cut("a a"));
  EXPECT_FALSE(cut("a a a "));
  EXPECT_TRUE(cut("a a a a"));
  EXPECT_TRUE(cut("abbbb"));
  EXPECT_TRUE(cut("a a a [SEP]"));
  EXPECT_THAT(Ids("a a a a", 5), ElementsAre(2, 5, 5, 5, 3));
  EXPECT_THAT(Ids("abbbb", 5), ElementsAre(2, 8, 7, 7, 3));
  EXPECT_THAT(Ids("a", 2), ElementsAre(2, 3));
}

TEST(WordPieceTest, WhatIsNotUtf8IsAnErrorThatNamesThePlaceAndNotTheText) {
  const auto tokenizer = WordPiece::Create(kVocabulary);
  for (const std::string& bad :
       {std::string("\x80"), std::string("\xC3"), std::string("\xC0\x80"), std::string("\xC1\xBF"),
        std::string("\xE0\x80\x80"), std::string("\xE0\x9F\xBF"), std::string("\xED\xA0\x80"),
        std::string("\xED\xBF\xBF"), std::string("\xF0\x80\x80\x80"),
        std::string("\xF4\x90\x80\x80"), std::string("\xF5\x80\x80\x80"), std::string("\xFF"),
        std::string("\xE2\x82"), std::string("\xE2\x28\xA1"), std::string("\xF0\x9F\x98")}) {
    const auto result = tokenizer->Encode("secret " + bad, kLongest);
    ASSERT_EQ(result.status().code(), absl::StatusCode::kInvalidArgument);
    const std::string message(result.status().message());
    EXPECT_THAT(message, HasSubstr("byte 7"));
    EXPECT_THAT(message, ::testing::Not(HasSubstr("secret")));
  }
  // Also behind the limit, where nothing would be read any more.
  std::string text(2000, 'a');
  for (size_t i = 1; i < text.size(); i += 2) text[i] = ' ';
  EXPECT_TRUE(tokenizer->Encode(text, kLongest).ok());
  EXPECT_FALSE(tokenizer->Encode(text + "\xFF", kLongest).ok());
  for (const char* good : {"\u0080", "\u07FF", "\u0800", "\uFFFF", "\U00010000", "\U0010FFFF"}) {
    EXPECT_TRUE(tokenizer->Encode(good, kLongest).ok());
  }
}

TEST(WordPieceTest, AVocabularyWithoutItsSpecialPiecesIsRefused) {
  EXPECT_THAT(std::string(WordPiece::Create("a\n[CLS]\n[SEP]\n").status().message()),
              HasSubstr("[UNK]"));
  EXPECT_FALSE(WordPiece::Create("").ok());
}

// Against the original tokenizer, whose answers are in testdata/.
class OriginalTokensTest : public ::testing::Test {
 protected:
  void SetUp() override {
    if (!Exists(MinilmPath())) GTEST_SKIP() << MinilmPath() << " is missing: tools/fetch_model";
    auto model = ModelFile::Open(MinilmPath());
    ASSERT_TRUE(model.ok()) << model.status();
    model_ = *std::move(model);
    auto tokenizer = WordPiece::Create(model_->vocabulary());
    ASSERT_TRUE(tokenizer.ok());
    tokenizer_.emplace(*std::move(tokenizer));
  }

  std::vector<int32_t> Ids(const std::string& text) const {
    return tokenizer_->Encode(text, kLongest)->ids;
  }

  std::unique_ptr<ModelFile> model_;
  std::optional<WordPiece> tokenizer_;
};

TEST_F(OriginalTokensTest, HostileTexts) {
  const auto entries = ReadJsonLines(TestData("hostile_tokens.jsonl"));
  ASSERT_GT(entries.size(), 350u);
  for (const auto& entry : entries) {
    const std::string once = entry["text"];
    std::string text;
    for (int i = 0; i < entry["times"]; ++i) text += once;
    EXPECT_EQ(Ids(text), entry["ids"].get<std::vector<int32_t>>()) << entry["text"];
  }
}

std::string Utf8(char32_t code) {
  const auto byte = [](char32_t value) { return static_cast<char>(value); };
  if (code < 0x80) return {byte(code)};
  if (code < 0x800) return {byte(0xC0 | code >> 6), byte(0x80 | (code & 0x3F))};
  if (code < 0x10000) {
    return {byte(0xE0 | code >> 12), byte(0x80 | (code >> 6 & 0x3F)), byte(0x80 | (code & 0x3F))};
  }
  return {byte(0xF0 | code >> 18), byte(0x80 | (code >> 12 & 0x3F)),
          byte(0x80 | (code >> 6 & 0x3F)), byte(0x80 | (code & 0x3F))};
}

TEST_F(OriginalTokensTest, EveryCodePoint) {
  const auto expected = ReadLines(TestData("code_points.txt"));
  ASSERT_EQ(expected.size(), 0x110000u / 4096);
  for (char32_t block = 0; block < 0x110000; block += 4096) {
    uint32_t checksum = 0;
    for (char32_t code = block; code < block + 4096; ++code) {
      if (code >= 0xD800 && code < 0xE000) continue;
      const std::string c = Utf8(code);
      checksum = Checksum(Ids("a" + c + "b " + c + " é" + c + "ö"), checksum);
    }
    char text[16];
    std::snprintf(text, sizeof(text), "%08x", checksum);
    EXPECT_EQ(text, expected[block / 4096]) << "code points from " << static_cast<uint32_t>(block);
  }
}

TEST_F(OriginalTokensTest, SentencesOfStsb) {
  if (!Exists(StsbPath())) GTEST_SKIP() << StsbPath() << " is missing";
  const auto texts = StsbTexts();
  const auto expected = ReadLines(TestData("stsb_tokens.txt"));
  ASSERT_EQ(texts.size(), expected.size());
  for (size_t i = 0; i < texts.size(); ++i) {
    char text[16];
    std::snprintf(text, sizeof(text), "%08x", Checksum(Ids(texts[i])));
    EXPECT_EQ(text, expected[i]) << texts[i];
  }
}

}  // namespace
}  // namespace holdfast::cache
