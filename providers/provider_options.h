#pragma once

// How to reach a provider and what one of its models can do, as the configuration says it. The
// server fills these in; providers/registry.h makes core::Providers of them.

#include <cstdint>
#include <optional>
#include <string>
#include <utility>
#include <vector>

namespace holdfast::providers {

enum class Kind { kOpenAi, kAnthropic, kGemini };

struct ProviderOptions {
  std::string name;
  Kind kind = Kind::kOpenAi;
  std::string base_url;  // openai kinds with their /v1, the others bare; no trailing slash
  // Replaces the path of the request, query included, after base_url (Azure's deployments);
  // "{model}" stands for the model. Empty = the kind's own.
  std::string path;
  std::string api_key;  // empty = none is sent
  // The header that carries the key. Empty = the kind's own (Authorization: Bearer, x-api-key,
  // x-goog-api-key); any other name carries the bare key (Azure's "api-key").
  std::string api_key_header;
  std::vector<std::pair<std::string, std::string>> headers;  // sent with every request
  std::string proxy;
  std::string ca_file;
  uint64_t max_response_bytes = 3 << 20;
};

struct ModelOptions {
  std::string model;
  int64_t max_output_tokens = 4096;  // sent where the kind demands a number and none was asked for
  bool tools = true;
  bool images = true;
  bool image_urls = true;      // false: the server does not fetch images by URL
  bool json_schema = true;     // false: the model knows json_object at most
  bool seed = true;            // anthropic kinds never can
  double max_temperature = 2;  // anthropic kinds: at most 1
  // How many stop sequences it takes. Unset: openai kinds 4, gemini kinds 5, anthropic any.
  std::optional<int> max_stop_sequences;
  // openai kinds: the name of the output limit on the wire; newer models demand the second.
  enum class MaxTokensField { kMaxTokens, kMaxCompletionTokens };
  MaxTokensField max_tokens_field = MaxTokensField::kMaxTokens;
  // openai kinds: how the server is told to go on from an assistant's message at the end of the
  // conversation: vLLM and SGLang by continue_final_message and add_generation_prompt, DeepSeek and
  // Mistral by "prefix" in the message. None: it begins a new one, or the message alone says it.
  enum class Continuation { kNone, kContinueFinalMessage, kPrefix };
  Continuation continuation = Continuation::kNone;
  // openai kinds: ask for usage in streams by stream_options; a few old servers refuse it.
  bool stream_usage = true;
};

}  // namespace holdfast::providers
