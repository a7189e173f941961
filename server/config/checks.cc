#include "server/config/checks.h"

#include <unistd.h>

#include <algorithm>
#include <map>
#include <set>
#include <string>
#include <vector>

#include "absl/strings/match.h"
#include "resilience/plan.h"
#include "resilience/validate.h"
#include "server/config/values.h"

namespace holdfast::server {
namespace {

using resilience::OptionFault;
using resilience::Route;
using resilience::Step;

std::string Indexed(const std::string& list, size_t i) {
  return list + "[" + std::to_string(i) + "]";
}

// A step and where it is written.
struct PlacedStep {
  const Step* step;
  std::string path;
};

std::vector<PlacedStep> AllSteps(const Config& config) {
  std::vector<PlacedStep> steps;
  for (size_t r = 0; r < config.routes.size(); ++r) {
    const Route& route = config.routes[r];
    const std::string path = Indexed("routes", r);
    for (size_t i = 0; i < route.chain.size(); ++i) {
      steps.push_back({&route.chain[i], Indexed(path + ".chain", i)});
    }
    if (route.partial.target) steps.push_back({&*route.partial.target, path + ".partial.target"});
  }
  return steps;
}

// --- What follows from other keys --------------------------------------------------------------

void InheritFromChain(const Route& route, const std::string& path, const Reader& reader,
                      Step& target) {
  const auto same = std::find_if(route.chain.begin(), route.chain.end(),
                                 [&](const Step& step) { return step.target == target.target; });
  if (same == route.chain.end()) return;
  const auto unwritten = [&](const char* key) { return !reader.Written(path + "." + key); };
  if (unwritten("context_window")) target.context_window = same->context_window;
  if (unwritten("price")) target.price = same->price;
  if (unwritten("timeouts.connect")) target.timeouts.connect = same->timeouts.connect;
  if (unwritten("timeouts.first_token")) target.timeouts.first_token = same->timeouts.first_token;
  if (unwritten("timeouts.idle")) target.timeouts.idle = same->timeouts.idle;
  if (unwritten("timeouts.attempt_timeout")) target.timeouts.attempt = same->timeouts.attempt;
}

void CompleteStep(const Config& config, const std::string& path, const Reader& reader, Step& step) {
  if (step.price && !reader.Written(path + ".price.cached_input")) {
    step.price->cached_input = step.price->input;
  }
  if (const ProviderConfig* provider = FindProvider(config, step.target.provider)) {
    step.max_output_tokens = ModelAt(*provider, step.target.model).options.max_output_tokens;
  }
}

void Complete(Config& config, const Reader& reader) {
  for (ProviderConfig& provider : config.providers) {
    provider.options.max_response_bytes = config.limits.response;
  }
  for (size_t r = 0; r < config.routes.size(); ++r) {
    Route& route = config.routes[r];
    const std::string path = Indexed("routes", r);
    for (size_t i = 0; i < route.chain.size(); ++i) {
      CompleteStep(config, Indexed(path + ".chain", i), reader, route.chain[i]);
    }
    if (route.partial.target) {
      const std::string target = path + ".partial.target";
      CompleteStep(config, target, reader, *route.partial.target);
      InheritFromChain(route, target, reader, *route.partial.target);
    }
  }
}

// --- The server --------------------------------------------------------------------------------

void CheckServer(const Config& config, Reader& reader) {
  if (config.cache.sample_share <= 0 && reader.Written("cache.sample_cpu")) {
    reader.FailKey("cache.sample_cpu", "cannot take effect: cache.sample_share is 0");
  }
  const auto listen = ParseAddress(config.listen);
  const auto admin = ParseAddress(config.admin_listen);
  if (!listen->loopback && !config.allow_unauthenticated) {
    reader.FailKey("listen",
                   "must be a loopback address: callers are not authenticated; "
                   "allow_unauthenticated: true lifts this");
  } else if (!listen->loopback) {
    reader.Warn("listen",
                "anybody who reaches this address can use the service: callers are not "
                "authenticated");
  }
  if (!admin->loopback) reader.FailKey("admin_listen", "must be a loopback address");
  if (listen->port != 0 && listen->port == admin->port && listen->host == admin->host) {
    reader.FailKey("admin_listen", "must not be the address of listen");
  }
  if (config.embedder.kind == EmbedderOptions::Kind::kHash && reader.Written("embedder.model")) {
    reader.FailKey("embedder.model", "cannot take effect: embedder.kind is hash");
  }
  if (!config.cache.encryption_key_previous.empty()) {
    const std::string& key = config.cache.encryption_key;
    if (key.empty()) {
      reader.FailKey("cache.encryption_key_previous",
                     "cannot take effect: cache.encryption_key is not set");
    } else if (absl::EqualsIgnoreCase(key, config.cache.encryption_key_previous)) {
      reader.FailKey("cache.encryption_key_previous",
                     "cannot take effect: it is the same as cache.encryption_key");
    }
  }
  if (config.cache.max_entry_bytes > config.cache.max_bytes) {
    const bool named = reader.Written("cache.max_entry_bytes");
    reader.FailKey(named ? "cache.max_entry_bytes" : "cache.max_bytes",
                   "cannot take effect: max_entry_bytes (" +
                       FormatSize(config.cache.max_entry_bytes) + ") must be at most max_bytes (" +
                       FormatSize(config.cache.max_bytes) + ")");
  }
  const bool endpoint = config.embedder.kind == EmbedderOptions::Kind::kOpenAi;
  if (endpoint && !config.embedder.openai && !reader.Faulty("embedder")) {
    reader.FailKey("embedder.openai", "is required: embedder.kind is openai");
  } else if (!endpoint && config.embedder.openai) {
    reader.FailKey("embedder.openai", "cannot take effect: embedder.kind is not openai");
  }
  if (config.limits.prompt_text > config.limits.request) {
    const bool named = reader.Written("limits.prompt_text");
    reader.FailKey(named ? "limits.prompt_text" : "limits.request",
                   "cannot take effect: prompt_text (" + FormatSize(config.limits.prompt_text) +
                       ") must be at most request (" + FormatSize(config.limits.request) + ")");
  }
}

// --- Providers ---------------------------------------------------------------------------------

void CheckUrl(const ProviderConfig& provider, const std::string& path, Reader& reader) {
  const auto url = ParseUrl(provider.options.base_url);
  if (!url) return;  // reported
  const bool openai = provider.options.kind == providers::Kind::kOpenAi;
  if (url->scheme == "http" && !IsLoopbackHost(url->host) &&
      (!provider.options.api_key.empty() || !provider.options.headers.empty())) {
    reader.Warn(path + ".base_url", "keys and headers go over the network in clear: use https");
  }
  if (openai && url->path.empty() && provider.options.path.empty()) {
    reader.Warn(path + ".base_url", "openai kinds have a path here, most often /v1");
  }
  if (!openai && (url->path == "/v1" || url->path == "/v1beta")) {
    reader.Warn(path + ".base_url", "this kind adds " + url->path + " itself");
  }
  if (!provider.options.ca_file.empty()) {
    if (url->scheme == "http") {
      reader.FailKey(path + ".ca_file", "cannot take effect: base_url is http");
    } else if (access(provider.options.ca_file.c_str(), R_OK) != 0) {
      reader.FailKey(path + ".ca_file", "the file cannot be read");
    }
  }
}

// The header in which the key goes, in lower case.
std::string KeyHeader(const providers::ProviderOptions& options) {
  if (!options.api_key_header.empty()) return ToLower(options.api_key_header);
  switch (options.kind) {
    case providers::Kind::kOpenAi:
      return "authorization";
    case providers::Kind::kAnthropic:
      return "x-api-key";
    case providers::Kind::kGemini:
      return "x-goog-api-key";
  }
  return "";
}

void CheckKey(const ProviderConfig& provider, const std::string& path, Reader& reader) {
  const providers::ProviderOptions& options = provider.options;
  if (options.api_key.empty()) {
    const bool lost = reader.Faulty(path + ".api_key");
    if (!options.api_key_header.empty() && !lost) {
      reader.FailKey(path + ".api_key_header", "cannot take effect without api_key");
    }
    return;
  }
  for (const auto& [name, value] : options.headers) {
    if (ToLower(name) == KeyHeader(options)) {
      reader.FailKey(path + ".headers." + name, "api_key is sent in this header: set only one");
    }
  }
}

void CheckModel(const ProviderConfig& provider, const std::string& path, const ModelConfig& model,
                Reader& reader) {
  const providers::ModelOptions defaults;
  if (provider.options.kind != providers::Kind::kOpenAi) {
    if (model.options.max_tokens_field != defaults.max_tokens_field) {
      reader.FailKey(path + ".max_tokens_field", "cannot take effect: only openai kinds have it");
    }
    if (model.options.continuation != defaults.continuation) {
      reader.FailKey(path + ".continuation", "cannot take effect: only openai kinds have it");
    }
    if (model.options.stream_usage != defaults.stream_usage) {
      reader.FailKey(path + ".stream_usage", "cannot take effect: only openai kinds have it");
    }
  }
  if (provider.options.kind == providers::Kind::kAnthropic) {
    if (model.options.seed) {
      reader.FailKey(path + ".seed", "cannot take effect: anthropic kinds take no seed");
    }
    if (model.options.max_temperature > 1) {
      reader.FailKey(path + ".max_temperature", "must be at most 1 at anthropic kinds");
    }
  }
}

void CheckProviders(const Config& config, Reader& reader) {
  // What is unused or unknown can only be told if every step was understood.
  const bool steps_known = !reader.Faulty("routes") && !config.routes.empty();
  std::set<std::string> names;
  std::set<std::pair<std::string, std::string>> used;
  for (const PlacedStep& placed : AllSteps(config)) {
    used.emplace(placed.step->target.provider, placed.step->target.model);
  }
  for (size_t i = 0; i < config.providers.size(); ++i) {
    const ProviderConfig& provider = config.providers[i];
    const std::string& name = provider.options.name;
    const std::string path = Indexed("providers", i);
    CheckUrl(provider, path, reader);
    CheckKey(provider, path, reader);
    for (const auto& [model, settings] : provider.models) {
      CheckModel(provider, path + ".models." + model, settings, reader);
    }
    if (name.empty()) continue;  // reported
    if (!names.insert(name).second) {
      reader.FailKey(path + ".name", "duplicate name: another provider is called " + name);
      continue;
    }
    if (!steps_known) continue;
    const auto first = used.lower_bound({name, ""});
    if (first == used.end() || first->first != name) {
      reader.FailKey(path + ".name", "cannot take effect: no route uses the provider");
      continue;
    }
    for (const auto& [model, settings] : provider.models) {
      if (!used.contains({name, model})) {
        reader.FailKey(path + ".models." + model, "cannot take effect: no route uses the model");
      }
    }
  }
}

// --- Routes ------------------------------------------------------------------------------------

void CheckTime(const Config& config, const Route& route, const std::string& path, Reader& reader) {
  const auto fail = [&](const std::vector<std::string>& keys, const std::string& reason) {
    for (const std::string& key : keys) {
      if (reader.Written(path + "." + key)) return reader.FailKey(path + "." + key, reason);
    }
    reader.FailKey(path + "." + keys.front(), reason);
  };
  if (route.timeout > config.max_timeout) {
    if (reader.Written(path + ".timeout")) {
      reader.FailKey(path + ".timeout", "cannot take effect: max_timeout is " +
                                            core::FormatDuration(config.max_timeout));
    } else {
      reader.FailKey("max_timeout", "must be at least the timeout of each route; " + path +
                                        " has " + core::FormatDuration(route.timeout));
    }
  }
  const core::SteadyTime arrival{};
  const resilience::TimePlan plan(route, arrival, std::nullopt, config.max_timeout);
  if (plan.Remaining(arrival) < route.min_useful) {
    fail({"min_useful", "timeout"},
         "the chain would never be tried: of a timeout of " + core::FormatDuration(route.timeout) +
             ", " +
             core::FormatDuration(std::max(plan.Remaining(arrival), core::Duration::zero())) +
             " are left for it, and min_useful is " + core::FormatDuration(route.min_useful));
  }
}

void CheckStep(const Config& config, const PlacedStep& placed, Reader& reader) {
  const core::TargetName& target = placed.step->target;
  const bool names_known =
      !std::any_of(config.providers.begin(), config.providers.end(),
                   [](const ProviderConfig& provider) { return provider.options.name.empty(); });
  if (!target.provider.empty() && names_known && !config.providers.empty() &&
      FindProvider(config, target.provider) == nullptr) {
    reader.FailKey(placed.path + ".provider", "unknown provider: " + target.provider);
  }
}

void CheckPrice(const PlacedStep& placed, Reader& reader) {
  if (!placed.step->price || !reader.Written(placed.path + ".price")) return;
  for (const char* key : {"input", "output"}) {
    const std::string path = placed.path + ".price." + key;
    if (!reader.Written(path)) reader.Warn(path, "is not set and counts as 0");
  }
}

void WarnAboutTimeouts(const Route& route, const PlacedStep& placed, Reader& reader) {
  const std::string path = placed.path + ".timeouts.first_token";
  if (reader.Written(path) && placed.step->timeouts.first_token > route.timeout) {
    reader.Warn(path, "is longer than the route's timeout, so it never runs its whole length");
  }
}

void CheckCache(const Config& config, const Route& route, const std::string& path, Reader& reader) {
  const resilience::RouteCacheOptions& cache = route.cache;
  if (cache.max_error && config.cache.sample_share <= 0) {
    reader.FailKey(path + ".cache.max_error", "cannot take effect: cache.sample_share is 0");
  }
  if (cache.enabled) {
    const std::string prefer = path + ".cache.prefer_similarity";
    if (reader.Written(prefer) && cache.prefer_similarity < cache.min_similarity) {
      reader.FailKey(prefer, "cannot take effect: it is below min_similarity");
    }
    return;
  }
  for (const char* key : {".cache.mode", ".cache.min_similarity", ".cache.prefer_similarity",
                          ".cache.scope_ignore", ".cache.max_error", ".cache.max_age"}) {
    if (!reader.Written(path + key)) continue;
    reader.FailKey(path + key, "cannot take effect: cache.enabled is false");
  }
}

void CheckChain(const Route& route, const std::string& path, Reader& reader) {
  for (size_t i = 0; i < route.chain.size(); ++i) {
    const core::TargetName& target = route.chain[i].target;
    if (target.provider.empty() || target.model.empty()) continue;  // reported
    const auto earlier = route.chain.begin() + static_cast<std::ptrdiff_t>(i);
    if (std::any_of(route.chain.begin(), earlier,
                    [&](const Step& step) { return step.target == target; })) {
      reader.FailKey(
          Indexed(path + ".chain", i) + ".model",
          "duplicate target: the chain has " + target.provider + " / " + target.model + " already");
    }
  }
}

void CheckRetry(const Route& route, const std::string& path, Reader& reader) {
  const std::string retry = path + ".retry";
  for (const OptionFault& fault : resilience::Validate(route.retry, route.chain.size())) {
    reader.FailKey(retry + "." + fault.field, fault.reason);
  }
  for (const OptionFault& fault :
       resilience::Ineffective(route.retry, reader.WrittenBelow(retry))) {
    reader.FailKey(retry + "." + fault.field, fault.reason);
  }
}

void CheckHedge(const Route& route, const std::string& path, Reader& reader) {
  if (!route.hedge) return;
  if (route.chain.size() < 2) {
    reader.FailKey(path + ".hedge", "cannot take effect: the chain has one target");
  } else if (route.hedge->max >= static_cast<int>(route.chain.size())) {
    reader.FailKey(path + ".hedge.max", "cannot take effect: the chain has " +
                                            std::to_string(route.chain.size()) + " targets");
  }
}

void CheckRoutes(const Config& config, Reader& reader) {
  std::set<std::string> names;
  for (size_t r = 0; r < config.routes.size(); ++r) {
    const Route& route = config.routes[r];
    const std::string path = Indexed("routes", r);
    if (!route.name.empty() && !names.insert(route.name).second) {
      reader.FailKey(path + ".name", "duplicate name: another route is called " + route.name);
    }
    CheckTime(config, route, path, reader);
    CheckChain(route, path, reader);
    CheckRetry(route, path, reader);
    CheckCache(config, route, path, reader);
    CheckHedge(route, path, reader);
    for (const PlacedStep& placed : AllSteps(config)) {
      if (placed.path.starts_with(path + ".")) WarnAboutTimeouts(route, placed, reader);
    }
  }
  for (const PlacedStep& placed : AllSteps(config)) {
    CheckStep(config, placed, reader);
    CheckPrice(placed, reader);
  }
  if (!reader.Faulty("routes") && !names.contains("default")) {
    reader.Warn("routes", "none is called default, so requests that name no route are refused");
  }
}

// --- Breakers, each as its deployment gets it ----------------------------------------------------

core::Duration LongestFirstToken(const std::vector<PlacedStep>& steps,
                                 const core::TargetName& target) {
  core::Duration longest{};
  for (const PlacedStep& placed : steps) {
    if (placed.step->target == target) {
      longest = std::max(longest, placed.step->timeouts.first_token);
    }
  }
  return longest;
}

// Where a setting of a model's breaker stands: with the model, or with the provider.
std::string BreakerKey(const std::string& provider, const std::string& model,
                       const std::string& field, const Reader& reader) {
  const std::string own = provider + ".models." + model + ".breaker." + field;
  return reader.Written(own) ? own : provider + ".breaker." + field;
}

void CheckBreakers(const Config& config, Reader& reader) {
  const std::vector<PlacedStep> steps = AllSteps(config);
  for (size_t i = 0; i < config.providers.size(); ++i) {
    const std::string path = Indexed("providers", i);
    if (reader.Faulty(path + ".breaker")) continue;
    // A setting of the provider is dead only if it is for every model.
    std::map<std::string, std::pair<size_t, std::string>> dead;
    size_t models = 0;
    for (const Deployment& deployment : Deployments(config)) {
      if (deployment.provider != &config.providers[i]) continue;
      ++models;
      const std::string& model = deployment.target.name.model;
      const std::string own = path + ".models." + model + ".breaker";
      if (reader.Faulty(own)) continue;
      const core::Duration longest = LongestFirstToken(steps, deployment.target.name);
      const auto shared = resilience::Validate(config.providers[i].breaker, longest);
      for (const OptionFault& fault : resilience::Validate(deployment.target.breaker, longest)) {
        const bool of_provider = !reader.Written(own + "." + fault.field) &&
                                 std::find(shared.begin(), shared.end(), fault) != shared.end();
        reader.FailKey((of_provider ? path + ".breaker" : own) + "." + fault.field, fault.reason);
      }
      std::set<std::string> written = reader.WrittenBelow(own);
      written.merge(reader.WrittenBelow(path + ".breaker"));
      for (const OptionFault& fault : resilience::Ineffective(deployment.target.breaker, written)) {
        const std::string key = BreakerKey(path, model, fault.field, reader);
        if (key.starts_with(own + ".")) {
          reader.FailKey(key, fault.reason);
        } else {
          ++dead[key].first;
          dead[key].second = fault.reason;
        }
      }
    }
    for (const auto& [key, found] : dead) {
      if (found.first == models) reader.FailKey(key, found.second);
    }
  }
}

void CheckEmbedderBreaker(const Config& config, Reader& reader) {
  const std::string path = "embedder.openai.breaker";
  if (!config.embedder.openai || reader.Faulty(path)) return;
  const resilience::BreakerOptions& breaker = config.embedder.openai->breaker;
  const core::Duration timeout = config.embedder.openai->timeout;
  for (const OptionFault& fault : resilience::Validate(breaker, timeout)) {
    const bool of_window = fault.field == "window";  // a call has no first token
    reader.FailKey(path + "." + fault.field,
                   of_window ? "must be at least twice the embedder's timeout (" +
                                   core::FormatDuration(timeout) + ")"
                             : fault.reason);
  }
  for (const OptionFault& fault : resilience::Ineffective(breaker, reader.WrittenBelow(path))) {
    reader.FailKey(path + "." + fault.field, fault.reason);
  }
}

}  // namespace

void Check(Config& config, Reader& reader) {
  Complete(config, reader);
  CheckServer(config, reader);
  CheckRoutes(config, reader);
  CheckProviders(config, reader);
  CheckBreakers(config, reader);
  CheckEmbedderBreaker(config, reader);
}

}  // namespace holdfast::server
