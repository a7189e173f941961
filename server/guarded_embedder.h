#pragma once

// A remote embedder with its own breaker: while that is open the endpoint is not called, and a call
// costs nothing. server/ owns it; any thread.

#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "core/clock.h"
#include "core/embedder.h"
#include "core/random.h"
#include "resilience/breaker.h"

namespace holdfast::server {

class GuardedEmbedder final : public core::Embedder {
 public:
  // `longest`: how long a call of `embedder` may take. Clock and random are borrowed.
  GuardedEmbedder(std::unique_ptr<const core::Embedder> embedder, core::Duration longest,
                  resilience::BreakerOptions options, const core::Clock& clock,
                  core::Random& random);

  std::string id() const override { return embedder_->id(); }
  size_t dimension() const override { return embedder_->dimension(); }
  std::vector<float> Embed(std::string_view text) const override;
  // UNAVAILABLE without a call while the breaker is open.
  std::vector<absl::StatusOr<core::Embedding>> EmbedBatch(
      std::span<const std::string_view> texts) const override;

  const resilience::Breaker& breaker() const { return breaker_; }

 private:
  const std::unique_ptr<const core::Embedder> embedder_;
  const core::Duration longest_;
  const core::Clock& clock_;
  mutable resilience::Breaker breaker_;
};

}  // namespace holdfast::server
