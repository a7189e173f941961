#include "cache/encoder/sentence_embedder.h"

#include <utility>

namespace holdfast::cache {

absl::StatusOr<std::unique_ptr<SentenceEmbedder>> SentenceEmbedder::Load(
    const std::string& path, std::optional<Arithmetic> arithmetic) {
  auto model = ModelFile::Open(path);
  if (!model.ok()) return model.status();
  auto tokenizer = WordPiece::Create((*model)->vocabulary());
  if (!tokenizer.ok()) return tokenizer.status();
  if (tokenizer->size() != (*model)->shape().vocabulary) {
    return absl::DataLossError("the model file's vocabulary does not fit its embeddings");
  }
  const auto empty = tokenizer->Encode((*model)->prefix(), (*model)->shape().longest);
  if (!empty.ok()) return empty.status();

  const Arithmetic chosen = arithmetic.value_or(FastestArithmetic());
  auto encoder = BertEncoder::Create(**model, chosen);
  if (!encoder.ok()) return encoder.status();
  (*model)->ForgetLayers();
  return std::unique_ptr<SentenceEmbedder>(new SentenceEmbedder(
      *std::move(model), *std::move(tokenizer), *std::move(encoder), chosen, empty->ids.size()));
}

SentenceEmbedder::SentenceEmbedder(std::unique_ptr<ModelFile> model, WordPiece tokenizer,
                                   std::unique_ptr<BertEncoder> encoder, Arithmetic arithmetic,
                                   size_t empty_size)
    : model_(std::move(model)),
      tokenizer_(std::move(tokenizer)),
      encoder_(std::move(encoder)),
      arithmetic_(arithmetic),
      empty_size_(empty_size) {}

std::vector<float> SentenceEmbedder::Embed(std::string_view text) const {
  auto results = EmbedBatch({&text, 1});
  if (!results.front().ok()) return std::vector<float>(dimension(), 0.0f);
  return std::move(results.front()->vector);
}

std::vector<absl::StatusOr<core::Embedding>> SentenceEmbedder::EmbedBatch(
    std::span<const std::string_view> texts) const {
  std::vector<absl::StatusOr<core::Embedding>> results(texts.size());
  std::vector<std::vector<int32_t>> ids;
  std::vector<size_t> places;  // in `results`, of each of `ids`
  for (size_t i = 0; i < texts.size(); ++i) {
    auto tokens = Tokenize(texts[i]);
    if (!tokens.ok()) {
      results[i] = tokens.status();
      continue;
    }
    if (tokens->cut) texts_cut_.fetch_add(1, std::memory_order_relaxed);
    results[i] = core::Embedding{std::vector<float>(dimension(), 0.0f), tokens->cut};
    if (tokens->ids.size() <= empty_size_) continue;
    ids.push_back(std::move(tokens->ids));
    places.push_back(i);
  }
  auto vectors = encoder_->Encode(ids);
  for (size_t i = 0; i < places.size(); ++i) {
    if (vectors.ok()) {
      results[places[i]]->vector = std::move((*vectors)[i]);
    } else {
      results[places[i]] = vectors.status();
    }
  }
  return results;
}

absl::StatusOr<Tokens> SentenceEmbedder::Tokenize(std::string_view text) const {
  if (model_->prefix().empty()) return tokenizer_.Encode(text, longest());
  return tokenizer_.Encode(std::string(model_->prefix()).append(text), longest());
}

}  // namespace holdfast::cache
