#include "cache/encoder/model_file.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <openssl/sha.h>

#include <cstring>

#include "tests/cache/encoder/encoder_fixture.h"

namespace holdfast::cache {
namespace {

using ::testing::HasSubstr;
using ::testing::MatchesRegex;

constexpr size_t kShapeStart = 48;

class ModelFileTest : public ::testing::Test {
 protected:
  absl::Status Open(const std::string& bytes) const {
    std::ofstream(path_, std::ios::binary | std::ios::trunc) << bytes;
    return ModelFile::Open(path_).status();
  }

  // As a converter gone wrong would write it: damaged, with a checksum that fits.
  absl::Status OpenSigned(std::string bytes) const {
    const uint64_t size = bytes.size();
    std::memcpy(bytes.data() + 8, &size, sizeof(size));
    const std::string rest = bytes.substr(0, 16) + bytes.substr(48);
    SHA256(reinterpret_cast<const unsigned char*>(rest.data()), rest.size(),
           reinterpret_cast<unsigned char*>(bytes.data() + 16));
    return Open(bytes);
  }

  void TearDown() override { std::filesystem::remove(path_); }

  const std::string path_ = ::testing::TempDir() + "model_file_test_" +
                            ::testing::UnitTest::GetInstance()->current_test_info()->name() +
                            ".hfm";
  const std::string good_ = ReadFile(TestData("tiny_mean.hfm"));
};

TEST_F(ModelFileTest, ReadsShapeAndTexts) {
  const auto model = ModelFile::Open(TestData("tiny_cls.hfm"));
  ASSERT_TRUE(model.ok()) << model.status();
  EXPECT_THAT((*model)->id(), MatchesRegex("tiny@1#[0-9a-f]+"));
  EXPECT_EQ((*model)->shape().layers, 2u);
  EXPECT_EQ((*model)->shape().width, 32u);
  EXPECT_EQ((*model)->shape().inner, 64u);
  EXPECT_EQ((*model)->shape().heads, 2u);
  EXPECT_EQ((*model)->shape().longest, 24u);
  EXPECT_EQ((*model)->shape().pooling, Pooling::kFirst);
  EXPECT_EQ((*model)->prefix(), "run: ");
  EXPECT_TRUE((*model)->vocabulary().starts_with("[PAD]\n[UNK]\n"));
  EXPECT_EQ((*model)->layers().size(), 2u);
  EXPECT_EQ((*model)->layers()[1].outer_norm.bias.size(), 32u);
}

TEST_F(ModelFileTest, AnotherFileHasAnotherId) {
  EXPECT_NE((*ModelFile::Open(TestData("tiny_cls.hfm")))->id(),
            (*ModelFile::Open(TestData("tiny_mean.hfm")))->id());
}

TEST_F(ModelFileTest, EveryFlippedBitIsFound) {
  ASSERT_TRUE(Open(good_).ok());
  for (size_t at = 0; at < good_.size(); at += at < 600 ? 1 : 97) {
    std::string bad = good_;
    bad[at] = static_cast<char>(bad[at] ^ (1 << at % 8));
    EXPECT_FALSE(Open(bad).ok()) << "byte " << at;
  }
}

TEST_F(ModelFileTest, EveryTruncationIsFound) {
  for (size_t size = 0; size < good_.size(); size += size < 200 ? 1 : 211) {
    EXPECT_FALSE(Open(good_.substr(0, size)).ok()) << size;
  }
  EXPECT_THAT(std::string(Open(good_.substr(0, good_.size() - 1)).message()),
              HasSubstr("damaged: its size"));
  EXPECT_FALSE(Open(good_ + '\0').ok());
}

TEST_F(ModelFileTest, AShapeThatDoesNotFitTheWeightsIsRefusedThoughTheChecksumFits) {
  ASSERT_TRUE(OpenSigned(good_).ok());
  for (size_t field = 0; field < 12; ++field) {
    if (field == 6 || field == 7) continue;  // pooling and epsilon: any may be meant
    for (const uint32_t value : {0u, 1u, 3u, 48u, 1u << 20, 1u << 31, ~0u}) {
      std::string bad = good_;
      std::memcpy(bad.data() + kShapeStart + field * 4, &value, sizeof(value));
      // One head of 32 and one token more or less of no text are shapes as good as the file's.
      if (bad == good_ || (field == 3 && value == 1) || field >= 8) {
        (void)OpenSigned(bad);  // must not crash
      } else {
        EXPECT_FALSE(OpenSigned(bad).ok()) << "field " << field << " = " << value;
      }
    }
  }
}

TEST_F(ModelFileTest, WhatIsNoModelFileSaysSo) {
  EXPECT_THAT(std::string(Open(std::string(5000, 'x')).message()), HasSubstr("no model file"));
  EXPECT_THAT(std::string(Open("").message()), HasSubstr("too short"));
  EXPECT_FALSE(ModelFile::Open("/nowhere/at/all").ok());
  EXPECT_FALSE(ModelFile::Open(::testing::TempDir()).ok());
}

TEST_F(ModelFileTest, LayersStayReadableWhenForgotten) {
  const auto model = ModelFile::Open(TestData("tiny_mean.hfm"));
  const auto weight = (*model)->layers()[1].outer.weight;
  const std::vector<Half> before(weight.begin(), weight.end());
  (*model)->ForgetLayers();
  EXPECT_TRUE(std::ranges::equal(before, weight));
}

}  // namespace
}  // namespace holdfast::cache
