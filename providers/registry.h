#pragma once

// From configuration to a core::Provider. server/ calls it once per target and loop.

#include <memory>

#include "core/loop.h"
#include "core/provider.h"
#include "providers/http/http_client.h"
#include "providers/provider_options.h"

namespace holdfast::providers {

// `http` and `loop` (in production the same CurlLoop) must outlive the provider.
std::unique_ptr<core::Provider> MakeProvider(const ProviderOptions& provider,
                                             const ModelOptions& model, HttpClient& http,
                                             core::Loop& loop);

}  // namespace holdfast::providers
