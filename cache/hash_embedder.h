#pragma once

// Feature hashing: a text's words, pairs of words and stretches of letters are hashed, with a
// sign, into a vector of fixed length. It knows spelling and nothing of meaning, so it finds
// a question asked again in nearly the same words; a trained encoder takes its place behind
// core::Embedder. Immutable: safe from any thread.
//
// Vectors are stored, so what "hash-v1" computes never changes: another recipe gets another id.

#include <cstddef>
#include <string>
#include <string_view>
#include <vector>

#include "core/embedder.h"

namespace holdfast::cache {

class HashEmbedder final : public core::Embedder {
 public:
  explicit HashEmbedder(size_t dimension = 512) : dimension_(dimension) {}

  std::string id() const override { return "hash-v1"; }
  size_t dimension() const override { return dimension_; }
  std::vector<float> Embed(std::string_view text) const override;

 private:
  const size_t dimension_;
};

}  // namespace holdfast::cache
