#pragma once

// A core::Embedder at any OpenAI-compatible /v1/embeddings endpoint: one HTTP request for a batch,
// nothing tried again. The seam is synchronous, so a call waits on its own thread while the request
// runs on the loop, for at most LongestCall: the blocking pool's threads call it, never a loop's.
// server/ owns it and wraps it in a breaker; loop and client outlive it and its calls.

#include <cstddef>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "core/clock.h"
#include "core/embedder.h"
#include "core/loop.h"
#include "core/task.h"
#include "providers/http/http_client.h"

namespace holdfast::providers {

struct RemoteEmbedderOptions {
  std::string url;      // "https://api.openai.com/v1/embeddings"
  std::string api_key;  // empty = none is sent
  std::string model;
  std::string version;  // the operator's; part of the id, for a model that changes under its name
  size_t dimension = 0;
  core::Duration timeout{};  // of a call for one text
};

// Of a call for so many texts: as much for each, up to 10 s in all, or `timeout` if that is longer.
core::Duration LongestCall(core::Duration timeout, size_t texts);

class RemoteEmbedder final : public core::Embedder {
 public:
  RemoteEmbedder(RemoteEmbedderOptions options, HttpClient& http, core::Loop& loop);

  // "text-embedding-3-small@1#1536"
  std::string id() const override;
  size_t dimension() const override { return options_.dimension; }

  std::vector<float> Embed(std::string_view text) const override;
  // UNAVAILABLE: the endpoint failed, was too slow, or sent what is no vector of dimension().
  // INVALID_ARGUMENT: it refused the texts.
  std::vector<absl::StatusOr<core::Embedding>> EmbedBatch(
      std::span<const std::string_view> texts) const override;

 private:
  struct Wait;

  core::Task<void> Run(std::string body, size_t count, std::shared_ptr<Wait> wait) const;

  const RemoteEmbedderOptions options_;
  HttpClient& http_;
  core::Loop& loop_;
};

// The vectors in a response to `count` texts, each made a unit vector; else what is wrong with it.
absl::StatusOr<std::vector<core::Embedding>> ReadEmbeddings(std::string_view body, size_t count,
                                                            size_t dimension);

}  // namespace holdfast::providers
