#include "server/embedding.h"

#include <filesystem>
#include <system_error>
#include <utility>

#include "cache/encoder/sentence_embedder.h"
#include "cache/hash_embedder.h"
#include "cache/verify/finding_judge.h"

namespace holdfast::server {

absl::StatusOr<std::unique_ptr<const core::Embedder>> MakeEmbedder(const EmbedderOptions& options) {
  if (options.kind == EmbedderOptions::Kind::kHash) {
    return std::make_unique<const cache::HashEmbedder>();
  }
  std::filesystem::path model = options.model;
  if (model.empty()) {
    std::error_code error;
    const std::filesystem::path program = std::filesystem::read_symlink("/proc/self/exe", error);
    model = program.parent_path().parent_path() / "models" / "minilm.hfm";
  }
  auto embedder = cache::SentenceEmbedder::Load(model.string());
  if (!embedder.ok()) return embedder.status();
  return std::move(*embedder);
}

// The findings are weighed with a sentence encoder's cosines; those of hashes mean less.
std::unique_ptr<const cache::Judge> MakeJudge(const EmbedderOptions& options) {
  if (options.kind == EmbedderOptions::Kind::kHash) {
    return std::make_unique<const cache::CosineJudge>();
  }
  return std::make_unique<const cache::FindingJudge>();
}

}  // namespace holdfast::server
