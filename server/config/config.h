#pragma once

// The whole configuration as plain values: what the YAML file says, with every default filled in.
// config_loader.h makes it and refuses what cannot work; docs/configuration.md describes each key.
// Immutable once loaded; owned by main, read by whoever wires the server, on any thread.

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "core/clock.h"
#include "providers/provider_options.h"
#include "resilience/admission.h"
#include "resilience/breaker.h"
#include "resilience/limiter.h"
#include "resilience/route.h"
#include "resilience/target.h"

namespace holdfast::server {

// Bytes. All > 0; prompt_text <= request.
struct Limits {
  uint64_t prompt_text = 1 << 20;
  uint64_t request = 16 << 20;
  uint64_t response = 3 << 20;  // of an upstream reply
};

struct LogOptions {
  enum class Format { kText, kJson };
  Format format = Format::kText;
  std::string file;  // empty = standard error
};

// An OpenAI-compatible endpoint for embeddings.
struct OpenAiEmbedder {
  std::string base_url;
  std::string api_key;
  std::string model;
  std::string version = "1";
  int64_t dimension = 0;
  core::Duration timeout = std::chrono::milliseconds(100);
  // Lookups do without it at once, so it may be given up soon and tried again soon.
  resilience::BreakerOptions breaker = {.consecutive_failures = 3,
                                        .open = std::chrono::seconds(10)};
};

// What makes vectors of questions.
struct EmbedderOptions {
  enum class Kind { kSentence, kHash, kOpenAi };
  Kind kind = Kind::kSentence;
  std::optional<OpenAiEmbedder> openai;  // set if and only if kind is kOpenAi
  std::string model;  // the model file; empty = models/minilm.hfm beside the program's folder
};

// What holds for the whole cache; the rest is each route's.
struct CacheConfig {
  core::Duration now_max_age = std::chrono::minutes(10);  // of answers to questions about now
  double sample_share = 0.2;  // [0, 1]: of the stored answers, compared with what would be served
  double sample_cpu = 0.02;   // (0, 1]: of one core, at most, for that
  int64_t max_entries = 1'000'000;
  uint64_t max_bytes = uint64_t{8} << 30;        // of questions and answers
  uint64_t max_entry_bytes = 256 << 10;          // of one question and its answer
  uint64_t index_memory = uint64_t{1536} << 20;  // about how much memory its vectors take
  std::string encryption_key;                    // 64 hexadecimal digits; empty = in clear
  std::string encryption_key_previous;           // likewise; empty = none
};

// One model at one provider entry: the provider's settings with the model's own laid over them.
struct ModelConfig {
  providers::ModelOptions options;  // options.model is what the provider calls it
  resilience::RateLimitScope rate_limit_scope = resilience::RateLimitScope::kTarget;
  resilience::BreakerOptions breaker;
  resilience::LimiterOptions limiter;
};

struct ProviderConfig {
  providers::ProviderOptions options;
  resilience::RateLimitScope rate_limit_scope = resilience::RateLimitScope::kTarget;
  resilience::BreakerOptions breaker;
  resilience::LimiterOptions limiter;
  std::map<std::string, ModelConfig> models;  // those with settings of their own
};

// Half of the cores, at least one: the other half is gRPC's and the blocking pool's.
int DefaultLoops();

struct Config {
  std::string listen = "127.0.0.1:50051";
  std::string admin_listen = "127.0.0.1:50052";  // loopback only
  bool allow_unauthenticated = false;            // needed where `listen` is not loopback
  std::string data_dir = "./data";
  core::Duration drain = std::chrono::seconds(20);
  core::Duration max_timeout = std::chrono::seconds(300);  // the server's maximum for any request
  int loops = DefaultLoops();
  LogOptions log;
  EmbedderOptions embedder;
  CacheConfig cache;
  resilience::AdmissionOptions admission;
  Limits limits;
  std::vector<ProviderConfig> providers;  // never empty; names are unique; each is used by a route
  std::vector<resilience::Route> routes;  // never empty; names are unique
};

// One (provider entry, model) that some route uses, in a chain or as its partial target.
struct Deployment {
  resilience::TargetOptions target;
  const ProviderConfig* provider;  // inside the Config it was made from
  providers::ModelOptions model;
};

// Every deployment once, in order of first use.
std::vector<Deployment> Deployments(const Config& config);

const ProviderConfig* FindProvider(const Config& config, const std::string& name);  // null if none

// The settings of `model` at `provider`: its own or, without any, the provider's.
ModelConfig ModelAt(const ProviderConfig& provider, const std::string& model);
// What a model has where it says nothing: the provider's settings and the kind's capabilities.
ModelConfig DefaultModel(const ProviderConfig& provider, const std::string& model);

}  // namespace holdfast::server
