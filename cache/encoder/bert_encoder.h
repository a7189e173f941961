#pragma once

// A BERT encoder: ids of word pieces to one unit vector for each text. The matrix products are
// oneDNN's, in the number format that the processor does best; what lies between them is in
// kernels.h. SentenceEmbedder owns one. Safe from any thread; a call computes on its caller's
// thread alone (it sets that thread's OpenMP thread count to 1).

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "absl/status/statusor.h"
#include "cache/encoder/model_file.h"

namespace holdfast::cache {

// kBytes: weights as signed bytes with a scale for each output, rows of activations as unsigned
// bytes with a scale and a zero for each row, sums as integers.
enum class Arithmetic { kFloat, kBfloat16, kBytes };

// What is fastest here: bfloat16 where the processor multiplies whole tiles of it (AMX), bytes
// where it sums their products (VNNI), else floats. ONEDNN_MAX_CPU_ISA, oneDNN's own variable,
// makes it believe in a lesser processor.
Arithmetic FastestArithmetic();

const char* Name(Arithmetic arithmetic);

class BertEncoder {
 public:
  // Keeps its own form of the layers' weights, and reads the embeddings from `model`, which must
  // outlive it.
  static absl::StatusOr<std::unique_ptr<BertEncoder>> Create(const ModelFile& model,
                                                             Arithmetic arithmetic);
  ~BertEncoder();

  // A unit vector for each of `texts`, which have 1 to `longest` ids below `vocabulary`.
  absl::StatusOr<std::vector<std::vector<float>>> Encode(
      std::span<const std::vector<int32_t>> texts) const;

 private:
  class Implementation;

  explicit BertEncoder(std::unique_ptr<Implementation> implementation);

  const std::unique_ptr<Implementation> implementation_;
};

}  // namespace holdfast::cache
