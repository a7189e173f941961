#pragma once

// Anthropic's Messages.
//
// It has no JSON mode: a response format becomes a tool that the model must call, and the tool's
// input is handed out as the answer's text. With tools of the caller's as well it cannot be
// expressed. It demands user and assistant in turns, the user first, so neighbours are merged.

#include <memory>

#include "providers/wire_format.h"

namespace holdfast::providers {

std::unique_ptr<WireFormat> MakeAnthropicFormat(const ModelOptions& model);

}  // namespace holdfast::providers
