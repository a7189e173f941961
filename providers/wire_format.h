#pragma once

// What differs between providers, and nothing else: how a request is written and how a reply is
// read. One WireFormat serves one target; it is immutable, so any thread may use it. A Decoder
// reads one reply on one loop.

#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "core/request.h"
#include "providers/json.h"
#include "providers/provider_options.h"
#include "providers/reply.h"

namespace holdfast::providers {

class Decoder {
 public:
  virtual ~Decoder() = default;

  // One event of the stream, or a whole reply of a server that does not stream.
  virtual void OnEvent(std::string_view event, JsonValue data, Reply& reply) = 0;
};

class WireFormat {
 public:
  virtual ~WireFormat() = default;

  virtual Kind kind() const = 0;

  // After base_url, query included; "{model}" stands for the model.
  virtual std::string_view DefaultPath() const = 0;
  virtual std::string_view KeyHeader() const = 0;
  // Further headers of this kind, in lower case.
  virtual std::vector<std::pair<std::string, std::string>> Headers() const { return {}; }

  // Why the target cannot express the request; nothing if it can.
  virtual std::optional<std::string> Inexpressible(const core::Request& request) const = 0;

  // Whether the model goes on from an assistant's message at the end of the conversation.
  virtual bool ContinuesPrefix() const = 0;

  // The body. A `prefix` that is not empty goes in as a last message of the assistant, which
  // models that can continue take as the start of their answer. Only for what is expressible.
  virtual std::string Encode(const core::Request& request, std::string_view prefix) const = 0;

  virtual std::unique_ptr<Decoder> NewDecoder(const core::Request& request) const = 0;
};

}  // namespace holdfast::providers
