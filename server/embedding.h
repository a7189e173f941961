#pragma once

// What the configuration says of embedding, made: the embedder, and the judge that goes with it.
// Called once at start, by the server and by holdfastctl's `similarity`, so that both mean the
// same; the caller owns what it gets.

#include <memory>

#include "absl/status/statusor.h"
#include "cache/judge.h"
#include "core/embedder.h"
#include "server/config/config.h"

namespace holdfast::server {

// Fails if the model file cannot be read, or is damaged. Without one in the options, it is
// models/minilm.hfm beside the folder of the running program.
absl::StatusOr<std::unique_ptr<const core::Embedder>> MakeEmbedder(const EmbedderOptions& options);

std::unique_ptr<const cache::Judge> MakeJudge(const EmbedderOptions& options);

}  // namespace holdfast::server
