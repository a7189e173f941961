#include "server/guarded_embedder.h"

#include <optional>
#include <utility>

#include "absl/status/status.h"

namespace holdfast::server {

GuardedEmbedder::GuardedEmbedder(std::unique_ptr<const core::Embedder> embedder,
                                 core::Duration longest, resilience::BreakerOptions options,
                                 const core::Clock& clock, core::Random& random)
    : embedder_(std::move(embedder)),
      longest_(longest),
      clock_(clock),
      breaker_(options, clock, random) {}

std::vector<float> GuardedEmbedder::Embed(std::string_view text) const {
  auto results = EmbedBatch(std::span(&text, 1));
  if (results[0].ok()) return std::move(results[0]->vector);
  return std::vector<float>(dimension(), 0);
}

std::vector<absl::StatusOr<core::Embedding>> GuardedEmbedder::EmbedBatch(
    std::span<const std::string_view> texts) const {
  if (texts.empty()) return {};
  std::optional<resilience::Breaker::Permit> permit =
      breaker_.Acquire(core::SaturatingAdd(clock_.Now(), longest_));
  if (!permit) {
    return std::vector<absl::StatusOr<core::Embedding>>(
        texts.size(), absl::UnavailableError("the embedder's breaker is open"));
  }
  auto results = embedder_->EmbedBatch(texts);
  if (results[0].ok()) {
    permit->Success();
  } else if (absl::IsInvalidArgument(results[0].status())) {
    permit->Neutral();  // the texts were at fault
  } else {
    permit->Failure();
  }
  return results;
}

}  // namespace holdfast::server
