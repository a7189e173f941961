#include "cache/hash_embedder.h"

#include <cmath>
#include <cstdint>

#include "cache/text.h"

namespace holdfast::cache {
namespace {

// Words carry most of it; stretches of letters forgive inflection and typing errors.
constexpr float kWordWeight = 1.0f;
constexpr float kPairWeight = 0.5f;
constexpr float kStretchWeight = 0.35f;
constexpr size_t kShortestStretch = 3;
constexpr size_t kLongestStretch = 4;
constexpr char32_t kWordEdge = 1;

enum class Feature : uint64_t { kWord = 1, kPair = 2, kStretch = 3 };

// FNV-1a over code points, then the finaliser of MurmurHash3: written out, since stored vectors
// must mean the same on every machine and with every standard library.
class FeatureHash {
 public:
  explicit FeatureHash(Feature kind) { Add(static_cast<uint64_t>(kind)); }

  FeatureHash& Add(std::u32string_view text) {
    for (const char32_t c : text) Add(static_cast<uint64_t>(c));
    return *this;
  }
  FeatureHash& Add(uint64_t value) {
    state_ = (state_ ^ value) * 0x100000001B3;
    return *this;
  }
  uint64_t value() const {
    uint64_t h = state_;
    h = (h ^ h >> 33) * 0xFF51AFD7ED558CCD;
    h = (h ^ h >> 33) * 0xC4CEB9FE1A85EC53;
    return h ^ h >> 33;
  }

 private:
  uint64_t state_ = 0xCBF29CE484222325;
};

std::vector<std::u32string> Split(const std::u32string& text, bool keep_punctuation) {
  std::vector<std::u32string> words;
  bool in_word = false;
  for (const char32_t c : text) {
    if (IsSpace(c) || (IsPunctuation(c) && !keep_punctuation)) {
      in_word = false;
      continue;
    }
    if (!in_word) words.emplace_back();
    in_word = true;
    words.back() += LowerCase(c);
  }
  return words;
}

std::vector<std::u32string> Words(std::string_view text) {
  const std::u32string characters = DecodeUtf8(text);
  std::vector<std::u32string> words = Split(characters, /*keep_punctuation=*/false);
  if (words.empty()) words = Split(characters, /*keep_punctuation=*/true);
  return words;
}

void AddFeature(std::vector<float>& vector, const FeatureHash& hash, float weight) {
  const uint64_t h = hash.value();
  vector[(h >> 1) % vector.size()] += (h & 1) == 0 ? weight : -weight;
}

void AddStretches(std::vector<float>& vector, const std::u32string& word) {
  const std::u32string edged = kWordEdge + word + kWordEdge;
  for (size_t length = kShortestStretch; length <= kLongestStretch; ++length) {
    for (size_t at = 0; at + length <= edged.size(); ++at) {
      const std::u32string_view stretch = std::u32string_view(edged).substr(at, length);
      AddFeature(vector, FeatureHash(Feature::kStretch).Add(stretch), kStretchWeight);
    }
  }
}

// All zeros stay all zeros.
void MakeUnit(std::vector<float>& vector) {
  double squares = 0;
  for (const float value : vector) squares += static_cast<double>(value) * value;
  if (squares == 0) return;
  const double norm = std::sqrt(squares);
  for (float& value : vector) value = static_cast<float>(value / norm);
}

}  // namespace

std::vector<float> HashEmbedder::Embed(std::string_view text) const {
  std::vector<float> vector(dimension_);
  const std::vector<std::u32string> words = Words(text);
  for (size_t i = 0; i < words.size(); ++i) {
    AddFeature(vector, FeatureHash(Feature::kWord).Add(words[i]), kWordWeight);
    AddStretches(vector, words[i]);
    if (i == 0) continue;
    AddFeature(vector, FeatureHash(Feature::kPair).Add(words[i - 1]).Add(kWordEdge).Add(words[i]),
               kPairWeight);
  }
  MakeUnit(vector);
  return vector;
}

}  // namespace holdfast::cache
