#pragma once

// core::Provider over HTTP, the same for every wire format: builds the request, sends it once and
// lets a ReplyReader say how it ended. Serves one target on one loop; borrows the client and the
// loop.

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "core/loop.h"
#include "core/provider.h"
#include "providers/http/http_client.h"
#include "providers/provider_options.h"
#include "providers/wire_format.h"

namespace holdfast::providers {

class TargetProvider final : public core::Provider {
 public:
  // How long a reply that has all it needs may take to end by itself. Waiting keeps the
  // connection for the next request; not waiting for ever frees the caller from a server that
  // says everything and then hangs. No policy: the outcome is the same either way.
  static constexpr core::Duration kLinger = std::chrono::seconds(1);

  TargetProvider(std::unique_ptr<WireFormat> format, ProviderOptions options, ModelOptions model,
                 HttpClient& http, core::Loop& loop);

  std::optional<std::string> Inexpressible(const core::Request& request) const override {
    return format_->Inexpressible(request);
  }
  bool ContinuesPrefix() const override { return format_->ContinuesPrefix(); }
  core::Task<core::Outcome> Stream(const core::Request& request, const core::Attempt& attempt,
                                   core::AttemptSink& sink) override;

 private:
  HttpRequest MakeHttpRequest(const core::Request& request, const core::Attempt& attempt) const;
  std::string Url() const;
  void AddKey(HttpRequest& http) const;

  const std::unique_ptr<WireFormat> format_;
  const ProviderOptions options_;
  const ModelOptions model_;
  const std::vector<std::string> secrets_;
  HttpClient& http_;
  core::Loop& loop_;
};

}  // namespace holdfast::providers
