#include "cache/encoder/sentence_embedder.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <numeric>
#include <thread>

#include "absl/strings/escaping.h"
#include "tests/cache/encoder/encoder_fixture.h"

namespace holdfast::cache {
namespace {

using ::testing::Each;
using ::testing::HasSubstr;

std::unique_ptr<SentenceEmbedder> Load(const std::string& path,
                                       std::optional<Arithmetic> arithmetic = std::nullopt) {
  auto embedder = SentenceEmbedder::Load(path, arithmetic);
  EXPECT_TRUE(embedder.ok()) << embedder.status();
  return embedder.ok() ? *std::move(embedder) : nullptr;
}

// Bytes and bfloat16 are only for processors that we would choose one of them on: on others
// oneDNN does not have them, or lets sums of bytes overflow.
bool CanDo(Arithmetic arithmetic) {
  return arithmetic == Arithmetic::kFloat || FastestArithmetic() != Arithmetic::kFloat;
}

// A model of two layers with random weights, its vectors computed in numpy: rounding shows more
// in it than in a trained one.
class TinyModelTest : public ::testing::TestWithParam<std::tuple<const char*, Arithmetic>> {
 protected:
  void SetUp() override {
    if (!CanDo(arithmetic_)) GTEST_SKIP() << "not on this processor";
  }

  const std::string name_ = std::get<0>(GetParam());
  const Arithmetic arithmetic_ = std::get<1>(GetParam());
  const double least_ = arithmetic_ == Arithmetic::kFloat      ? 0.999999
                        : arithmetic_ == Arithmetic::kBfloat16 ? 0.999
                                                               : 0.99;
};

TEST_P(TinyModelTest, VectorsAreTheOriginals) {
  const auto embedder = Load(TestData(name_ + ".hfm"), arithmetic_);
  for (const auto& entry : ReadJsonLines(TestData(name_ + ".jsonl"))) {
    const auto vector = embedder->Embed(entry["text"].get<std::string>());
    EXPECT_GE(Cosine(vector, entry["vector"].get<std::vector<float>>()), least_) << entry["text"];
    EXPECT_NEAR(Cosine(vector, vector), 1.0, 1e-5);
    EXPECT_NEAR(std::inner_product(vector.begin(), vector.end(), vector.begin(), 0.0), 1.0, 1e-5);
  }
}

TEST_P(TinyModelTest, ABatchGivesWhatSingleCallsGive) {
  const auto embedder = Load(TestData(name_ + ".hfm"), arithmetic_);
  std::vector<std::string> texts;
  for (int i = 0; i < 40; ++i) {
    for (const auto& entry : ReadJsonLines(TestData(name_ + ".jsonl"))) {
      texts.push_back(entry["text"]);
    }
  }
  const std::vector<std::string_view> views(texts.begin(), texts.end());
  const auto batch = embedder->EmbedBatch(views);
  ASSERT_EQ(batch.size(), texts.size());
  for (size_t i = 0; i < texts.size(); ++i) {
    ASSERT_TRUE(batch[i].ok());
    EXPECT_GE(Cosine(batch[i]->vector, embedder->Embed(texts[i])), 0.99999);
  }
}

INSTANTIATE_TEST_SUITE_P(All, TinyModelTest,
                         ::testing::Combine(::testing::Values("tiny_mean", "tiny_cls"),
                                            ::testing::Values(Arithmetic::kFloat,
                                                              Arithmetic::kBfloat16,
                                                              Arithmetic::kBytes)),
                         [](const auto& info) {
                           return std::string(std::get<0>(info.param)) + "_" +
                                  Name(std::get<1>(info.param));
                         });

TEST(SentenceEmbedderTest, SaysWhatItCannotRead) {
  const auto embedder = Load(TestData("tiny_mean.hfm"));
  const std::string bad = "the \xFF cat";
  const std::vector<std::string_view> texts = {"the cat", bad, "", " \t\u200b", "a dog"};
  const auto results = embedder->EmbedBatch(texts);
  ASSERT_EQ(results.size(), 5u);
  EXPECT_GE(Cosine(results[0]->vector, embedder->Embed("the cat")), 0.99999);
  EXPECT_EQ(results[1].status().code(), absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(std::string(results[1].status().message()), HasSubstr("not UTF-8 at byte 4"));
  EXPECT_THAT(results[2]->vector, Each(0.0f));
  EXPECT_THAT(results[3]->vector, Each(0.0f));
  EXPECT_GE(Cosine(results[4]->vector, embedder->Embed("a dog")), 0.99999);
  EXPECT_THAT(embedder->Embed(bad), Each(0.0f));
  EXPECT_EQ(embedder->Embed(bad).size(), embedder->dimension());
  EXPECT_TRUE(embedder->EmbedBatch({}).empty());
}

TEST(SentenceEmbedderTest, NothingButThePrefixIsNothing) {
  const auto embedder = Load(TestData("tiny_cls.hfm"));
  EXPECT_THAT(embedder->Embed(""), Each(0.0f));
  EXPECT_THAT(embedder->Embed("a"), ::testing::Contains(::testing::Ne(0.0f)));
}

TEST(SentenceEmbedderTest, ALongTextIsCutAndCounted) {
  const auto embedder = Load(TestData("tiny_mean.hfm"));
  const auto words = [](int count) {
    std::string text;
    for (int i = 0; i < count; ++i) text += i % 2 == 0 ? "cat " : "dog ";
    return text;
  };
  const auto embed = [&](const std::string& text) {
    const std::string_view view = text;
    return *embedder->EmbedBatch({&view, 1}).front();
  };
  EXPECT_FALSE(embed(words(21)).cut);
  EXPECT_FALSE(embed(words(22)).cut);
  EXPECT_EQ(embedder->texts_cut(), 0u);
  EXPECT_TRUE(embed(words(23)).cut);
  EXPECT_EQ(embedder->texts_cut(), 1u);
  EXPECT_EQ(embed(words(500)).vector, embed(words(22)).vector);
  EXPECT_EQ(embedder->texts_cut(), 2u);
}

TEST(SentenceEmbedderTest, DamagedFilesAreRefused) {
  const std::string path = ::testing::TempDir() + "sentence_embedder_test.hfm";
  std::string bytes = ReadFile(TestData("tiny_mean.hfm"));
  bytes[bytes.size() / 2] ^= 1;
  std::ofstream(path, std::ios::binary) << bytes;
  EXPECT_EQ(SentenceEmbedder::Load(path).status().code(), absl::StatusCode::kDataLoss);
  std::filesystem::remove(path);
}

TEST(SentenceEmbedderTest, ManyThreadsGetTheSameVectors) {
  const auto embedder = Load(TestData("tiny_mean.hfm"));
  const std::vector<std::string_view> texts = {"the cat", "a dog sat on the mat.", "run", "?"};
  const auto expected = embedder->EmbedBatch(texts);
  std::vector<std::jthread> threads;
  for (size_t t = 0; t < 4; ++t) {
    threads.emplace_back([&, t] {
      for (size_t i = 0; i < 50; ++i) {
        const size_t which = (t + i) % texts.size();
        if (i % 5 == 0) {
          const auto batch = embedder->EmbedBatch(texts);
          EXPECT_GE(Cosine(batch[which]->vector, expected[which]->vector), 0.99999);
        }
        EXPECT_GE(Cosine(embedder->Embed(texts[which]), expected[which]->vector), 0.99999);
      }
    });
  }
}

// The model that ships, against the original's vectors.
class MinilmTest : public ::testing::Test {
 protected:
  void SetUp() override {
    if (!Exists(MinilmPath())) GTEST_SKIP() << MinilmPath() << " is missing: tools/fetch_model";
    if (!Exists(StsbPath())) GTEST_SKIP() << StsbPath() << " is missing";
    texts_ = StsbTexts();
    expected_ = nlohmann::json::parse(ReadFile(TestData("stsb_vectors.json")));
  }

  struct Cosines {
    double least = 1;
    double mean = 0;
  };

  Cosines ToOriginal(const SentenceEmbedder& embedder) const {
    Cosines cosines;
    for (const auto& [index, packed] : expected_["vectors"].items()) {
      std::string bytes;
      EXPECT_TRUE(absl::Base64Unescape(packed.get<std::string>(), &bytes));
      std::vector<float> vector;
      for (const char byte : bytes) vector.push_back(static_cast<signed char>(byte));
      EXPECT_EQ(vector.size(), embedder.dimension());
      const double cosine = Cosine(embedder.Embed(texts_[std::stoul(index)]), vector);
      cosines.least = std::min(cosines.least, cosine);
      cosines.mean += cosine / static_cast<double>(expected_["vectors"].size());
    }
    return cosines;
  }

  std::vector<std::string> texts_;
  nlohmann::json expected_;
};

TEST_F(MinilmTest, FloatsAreTheOriginal) {
  EXPECT_GE(ToOriginal(*Load(MinilmPath(), Arithmetic::kFloat)).least, 0.9999);
}

TEST_F(MinilmTest, Bfloat16IsTheOriginal) {
  if (!CanDo(Arithmetic::kBfloat16)) GTEST_SKIP() << "not on this processor";
  EXPECT_GE(ToOriginal(*Load(MinilmPath(), Arithmetic::kBfloat16)).least, 0.9998);
}

// 0.9950 and 0.9989 over all sentences.
TEST_F(MinilmTest, BytesAreNearTheOriginal) {
  if (!CanDo(Arithmetic::kBytes)) GTEST_SKIP() << "not on this processor";
  const Cosines cosines = ToOriginal(*Load(MinilmPath(), Arithmetic::kBytes));
  EXPECT_GE(cosines.least, 0.994);
  EXPECT_GE(cosines.mean, 0.9985);
}

std::vector<double> Ranks(const std::vector<double>& values) {
  std::vector<size_t> order(values.size());
  std::iota(order.begin(), order.end(), 0u);
  std::ranges::sort(order, {}, [&](size_t i) { return values[i]; });
  std::vector<double> ranks(values.size());
  for (size_t first = 0; first < order.size();) {
    size_t last = first;
    while (last < order.size() && values[order[last]] == values[order[first]]) ++last;
    for (size_t i = first; i < last; ++i) {
      ranks[order[i]] = static_cast<double>(first + last - 1) / 2;
    }
    first = last;
  }
  return ranks;
}

double Spearman(const std::vector<double>& a, const std::vector<double>& b) {
  const auto x = Ranks(a);
  const auto y = Ranks(b);
  const double mean = static_cast<double>(a.size() - 1) / 2;
  double xy = 0;
  double xx = 0;
  double yy = 0;
  for (size_t i = 0; i < x.size(); ++i) {
    xy += (x[i] - mean) * (y[i] - mean);
    xx += (x[i] - mean) * (x[i] - mean);
    yy += (y[i] - mean) * (y[i] - mean);
  }
  return xy / std::sqrt(xx * yy);
}

TEST_F(MinilmTest, OrdersPairsAsTheOriginalDoes) {
  const auto embedder = Load(MinilmPath());
  const std::vector<std::string_view> views(texts_.begin(), texts_.end());
  const auto vectors = embedder->EmbedBatch(views);
  std::vector<double> cosines;
  std::vector<double> scores;
  for (const auto& pair : ReadJsonLines(StsbPath())) {
    const size_t i = 2 * scores.size();
    cosines.push_back(Cosine(vectors[i]->vector, vectors[i + 1]->vector));
    scores.push_back(pair["score"]);
  }
  const double ours = Spearman(cosines, scores);
  std::printf("STS-B dev Spearman in %s: %.5f, the original's %.5f\n", Name(embedder->arithmetic()),
              ours, expected_["spearman"].get<double>());
  EXPECT_NEAR(ours, expected_["spearman"].get<double>(), 0.003);
}

}  // namespace
}  // namespace holdfast::cache
