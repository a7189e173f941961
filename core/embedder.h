#pragma once

// Text to vector. Implementations are safe from any thread and need no network at run time.

#include <cstddef>
#include <string>
#include <string_view>
#include <vector>

namespace holdfast::core {

class Embedder {
 public:
  virtual ~Embedder() = default;

  // Stored with each entry; vectors of different ids are never compared.
  virtual std::string id() const = 0;
  virtual size_t dimension() const = 0;

  // A unit vector of dimension(), or all zeros if `text` has nothing to embed.
  virtual std::vector<float> Embed(std::string_view text) const = 0;
};

}  // namespace holdfast::core
