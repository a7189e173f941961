// POST /v1/embeddings: deterministic unit vectors of hashed words and letter trigrams, so that
// texts which share words lie near each other. Any thread.
#pragma once

#include "tools/simprovider/fault_player.h"
#include "tools/simprovider/http_parser.h"

namespace simprovider {

struct EmbeddingRequest {
  ChatRequest chat;  // the model, for faults and errors
  std::vector<std::string> inputs;
  int dimensions = 384;
  bool base64 = false;
  std::optional<ApiError> error;
};

EmbeddingRequest ParseEmbeddingRequest(const HttpRequest& request);
std::vector<float> Embed(std::string_view text, int dimensions);
Played PlayEmbeddings(const EmbeddingRequest& request, const Stamp& stamp);

}  // namespace simprovider
