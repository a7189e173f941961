#pragma once

// A sentence encoder's model in one file (.hfm, made by tools/convert_model), memory-mapped: what
// WordPiece and BertEncoder read their data from. Immutable: safe from any thread. Whoever opens
// it owns it, and keeps it for as long as its views are in use.
//
// The format; numbers are little-endian, texts UTF-8:
//     0  8 bytes   "HFMODEL1"
//     8  u64       size of the file
//    16  32 bytes  SHA-256 of the file without these 32 bytes
//    48  u32 x 7   layers, width, inner, heads, longest, vocabulary, pooling (0 mean, 1 first)
//    76  f32       epsilon of the layer norms
//    80  u32 x 4   sizes of the four texts that follow
//    96  texts     name, version, prefix, vocabulary (a piece a line, in the order of their ids)
//  then, each at the next multiple of 64, the weights as IEEE half floats, matrices row by row:
//     embeddings of the pieces (vocabulary x width), of the positions (longest x width, with that
//     of token type 0 added), their layer norm (gain, bias); for each layer: query, key and value
//     as one matrix (3 width x width) and bias, attention output (width x width) and bias, layer
//     norm, inner (inner x width) and bias, outer (width x inner) and bias, layer norm.
//
// A file in use may be replaced (rename another over it) but never be written into.

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"

namespace holdfast::cache {

using Half = uint16_t;  // the bits of an IEEE half float

enum class Pooling : uint32_t { kMean = 0, kFirst = 1 };

struct ModelShape {
  uint32_t layers;
  uint32_t width;
  uint32_t inner;
  uint32_t heads;
  uint32_t longest;  // tokens of a text, [CLS] and [SEP] included
  uint32_t vocabulary;
  Pooling pooling;
  float epsilon;
};

struct DenseWeights {
  std::span<const Half> weight;  // outputs x inputs
  std::span<const Half> bias;
};

struct LayerNormWeights {
  std::span<const Half> gain;
  std::span<const Half> bias;
};

struct LayerWeights {
  DenseWeights query_key_value;
  DenseWeights attention_output;
  LayerNormWeights attention_norm;
  DenseWeights inner;
  DenseWeights outer;
  LayerNormWeights outer_norm;
};

class ModelFile {
 public:
  // Reads the whole file once, to check it; a damaged one is refused.
  static absl::StatusOr<std::unique_ptr<ModelFile>> Open(const std::string& path);
  ~ModelFile();

  ModelFile(const ModelFile&) = delete;
  ModelFile& operator=(const ModelFile&) = delete;

  // "name@version#start of the digest": another file, another id.
  const std::string& id() const { return id_; }
  const ModelShape& shape() const { return shape_; }
  std::string_view prefix() const { return prefix_; }
  std::string_view vocabulary() const { return vocabulary_; }

  std::span<const Half> piece_embeddings() const { return piece_embeddings_; }
  std::span<const Half> position_embeddings() const { return position_embeddings_; }
  const LayerNormWeights& embedding_norm() const { return embedding_norm_; }
  const std::vector<LayerWeights>& layers() const { return layers_; }

  // Gives back the memory of layers(), whose users have made their own form of it. They stay
  // readable, from the file.
  void ForgetLayers() const;

 private:
  explicit ModelFile(std::span<const std::byte> mapped) : mapped_(mapped) {}

  absl::Status Parse();
  void FindWeights(class WeightCursor& cursor);

  const std::span<const std::byte> mapped_;
  std::string id_;
  ModelShape shape_{};
  std::string_view prefix_;
  std::string_view vocabulary_;
  std::span<const Half> piece_embeddings_;
  std::span<const Half> position_embeddings_;
  LayerNormWeights embedding_norm_;
  std::vector<LayerWeights> layers_;
};

}  // namespace holdfast::cache
