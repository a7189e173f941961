#pragma once

// The in-process sentence encoder behind core::Embedder: a model file (all-MiniLM-L6-v2 unless
// set otherwise), its tokenizer and its encoder. Made by server/'s wiring, which owns it; safe
// from any thread. A call computes on its caller's thread, about a millisecond for a question,
// so it belongs into the blocking pool.

#include <atomic>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>

#include "cache/encoder/bert_encoder.h"
#include "cache/encoder/model_file.h"
#include "cache/encoder/wordpiece.h"
#include "core/embedder.h"

namespace holdfast::cache {

class SentenceEmbedder final : public core::Embedder {
 public:
  // The processor's fastest arithmetic, unless one is given. Vectors of all of them are compared
  // with each other (their cosine to each other is above .995), so the id does not tell them
  // apart.
  static absl::StatusOr<std::unique_ptr<SentenceEmbedder>> Load(
      const std::string& path, std::optional<Arithmetic> arithmetic = std::nullopt);

  std::string id() const override { return model_->id(); }
  size_t dimension() const override { return model_->shape().width; }

  // Zeros also for what EmbedBatch() refuses: text that is not UTF-8.
  std::vector<float> Embed(std::string_view text) const override;
  std::vector<absl::StatusOr<core::Embedding>> EmbedBatch(
      std::span<const std::string_view> texts) const override;

  // For the status page.
  Arithmetic arithmetic() const { return arithmetic_; }
  size_t longest() const { return model_->shape().longest; }
  uint64_t texts_cut() const { return texts_cut_.load(std::memory_order_relaxed); }

 private:
  SentenceEmbedder(std::unique_ptr<ModelFile> model, WordPiece tokenizer,
                   std::unique_ptr<BertEncoder> encoder, Arithmetic arithmetic, size_t empty_size);

  absl::StatusOr<Tokens> Tokenize(std::string_view text) const;

  const std::unique_ptr<ModelFile> model_;
  const WordPiece tokenizer_;
  const std::unique_ptr<BertEncoder> encoder_;
  const Arithmetic arithmetic_;
  const size_t empty_size_;  // tokens of a text that says nothing
  mutable std::atomic<uint64_t> texts_cut_{0};
};

}  // namespace holdfast::cache
