#include "server/config/config.h"

#include <algorithm>
#include <thread>

namespace holdfast::server {

int DefaultLoops() {
  return std::max(1, static_cast<int>(std::thread::hardware_concurrency() / 2));
}

const ProviderConfig* FindProvider(const Config& config, const std::string& name) {
  for (const ProviderConfig& provider : config.providers) {
    if (provider.options.name == name) return &provider;
  }
  return nullptr;
}

ModelConfig DefaultModel(const ProviderConfig& provider, const std::string& model) {
  ModelConfig config;
  config.options.model = model;
  if (provider.options.kind == providers::Kind::kAnthropic) {
    config.options.seed = false;
    config.options.max_temperature = 1;
  }
  config.rate_limit_scope = provider.rate_limit_scope;
  config.breaker = provider.breaker;
  config.limiter = provider.limiter;
  return config;
}

ModelConfig ModelAt(const ProviderConfig& provider, const std::string& model) {
  const auto own = provider.models.find(model);
  return own != provider.models.end() ? own->second : DefaultModel(provider, model);
}

std::vector<Deployment> Deployments(const Config& config) {
  std::vector<Deployment> all;
  const auto add = [&](const core::TargetName& name) {
    const bool known = std::any_of(all.begin(), all.end(), [&](const Deployment& deployment) {
      return deployment.target.name == name;
    });
    const ProviderConfig* provider = FindProvider(config, name.provider);
    if (known || provider == nullptr) return;
    const ModelConfig model = ModelAt(*provider, name.model);
    all.push_back(
        {{name, model.breaker, model.limiter, model.rate_limit_scope}, provider, model.options});
  };
  for (const resilience::Route& route : config.routes) {
    for (const resilience::Step& step : route.chain) add(step.target);
    if (route.partial.target) add(route.partial.target->target);
  }
  return all;
}

}  // namespace holdfast::server
