#include <gtest/gtest.h>

#include <cmath>
#include <numeric>

#include "cache/hash_embedder.h"

namespace holdfast::cache {
namespace {

double Cosine(const std::vector<float>& a, const std::vector<float>& b) {
  return std::inner_product(a.begin(), a.end(), b.begin(), 0.0);
}

double CosineOf(const std::string& a, const std::string& b) {
  const HashEmbedder embedder;
  return Cosine(embedder.Embed(a), embedder.Embed(b));
}

TEST(HashEmbedder, GivesUnitVectorsOfItsDimension) {
  const std::string long_text(100000, 'x');
  for (const size_t dimension : {1u, 7u, 512u}) {
    const HashEmbedder embedder(dimension);
    EXPECT_EQ(embedder.dimension(), dimension);
    for (const std::string& text :
         {std::string("Why is the sky blue?"), std::string("?"), std::string("\U0001F600"),
          std::string("\xFF\xFE"), long_text}) {
      const auto vector = embedder.Embed(text);
      ASSERT_EQ(vector.size(), dimension);
      const double norm = Cosine(vector, vector);
      // With very few dimensions signs may cancel out to nothing.
      if (dimension == 512) EXPECT_NEAR(norm, 1, 1e-5) << text.substr(0, 20);
    }
  }
}

TEST(HashEmbedder, HasNothingToSayOfBlankText) {
  const HashEmbedder embedder;
  for (const char* text : {"", " ", "\t\n", "\u00A0\u3000"}) {
    const auto vector = embedder.Embed(text);
    EXPECT_EQ(vector, std::vector<float>(512)) << text;
  }
}

TEST(HashEmbedder, CaseSpacesAndPunctuationDoNotMatter) {
  EXPECT_NEAR(CosineOf("Why is the sky blue?", "  why is THE sky, blue"), 1, 1e-6);
}

TEST(HashEmbedder, TellsNearFromFar) {
  const double near = CosineOf("How do I reset my password?", "How can I reset my password?");
  const double far = CosineOf("How do I reset my password?", "What does shipping to Norway cost?");
  EXPECT_GT(near, 0.6);
  EXPECT_LT(far, 0.3);
  EXPECT_GT(CosineOf("resetting passwords", "reset password"), 0.3);
}

TEST(HashEmbedder, TheRecipeOfHashV1NeverChanges) {
  // Vectors are stored: whoever changes these numbers needs a new id.
  const HashEmbedder embedder(16);
  EXPECT_EQ(embedder.id(), "hash-v1");
  std::string rounded;
  for (const float value : embedder.Embed("Why is the sky bl\u00FCe?")) {
    rounded += std::to_string(std::lround(value * 1000)) + " ";
  }
  EXPECT_EQ(rounded, "668 -117 284 -234 50 234 117 351 0 0 -117 -117 351 17 117 -217 ");
}

}  // namespace
}  // namespace holdfast::cache
