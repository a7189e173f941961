#pragma once

// Text to vector. Implementations are safe from any thread and need no network at run time.

#include <cstddef>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"

namespace holdfast::core {

// One text's vector, with what a caller may want to know about it.
struct Embedding {
  std::vector<float> vector;  // as Embed() returns it
  bool cut = false;           // the text is over the model's limit; only its beginning was read
};

class Embedder {
 public:
  virtual ~Embedder() = default;

  // Stored with each entry; vectors of different ids are never compared.
  virtual std::string id() const = 0;
  virtual size_t dimension() const = 0;

  // A unit vector of dimension(), or all zeros if `text` has nothing to embed or cannot be.
  virtual std::vector<float> Embed(std::string_view text) const = 0;

  // One result for each of `texts`, in their order; a status says why a text cannot be embedded,
  // without quoting it. Costs less than as many calls of Embed() where the implementation can
  // work on several texts at once.
  virtual std::vector<absl::StatusOr<Embedding>> EmbedBatch(
      std::span<const std::string_view> texts) const {
    std::vector<absl::StatusOr<Embedding>> results;
    results.reserve(texts.size());
    for (const std::string_view text : texts) results.push_back(Embedding{Embed(text)});
    return results;
  }
};

}  // namespace holdfast::core
