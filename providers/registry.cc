#include "providers/registry.h"

#include "core/check.h"
#include "providers/anthropic.h"
#include "providers/gemini.h"
#include "providers/openai.h"
#include "providers/target_provider.h"

namespace holdfast::providers {
namespace {

std::unique_ptr<WireFormat> MakeFormat(Kind kind, const ModelOptions& model) {
  switch (kind) {
    case Kind::kOpenAi:
      return MakeOpenAiFormat(model);
    case Kind::kAnthropic:
      return MakeAnthropicFormat(model);
    case Kind::kGemini:
      return MakeGeminiFormat(model);
  }
  HOLDFAST_CHECK(false);
  return nullptr;
}

}  // namespace

std::unique_ptr<core::Provider> MakeProvider(const ProviderOptions& provider,
                                             const ModelOptions& model, HttpClient& http,
                                             core::Loop& loop) {
  return std::make_unique<TargetProvider>(MakeFormat(provider.kind, model), provider, model, http,
                                          loop);
}

}  // namespace holdfast::providers
