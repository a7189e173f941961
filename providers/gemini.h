#pragma once

// Google's generateContent, streamed. Tool calls come whole, often without an id, and results go
// back by the function's name.

#include <memory>

#include "providers/wire_format.h"

namespace holdfast::providers {

std::unique_ptr<WireFormat> MakeGeminiFormat(const ModelOptions& model);

}  // namespace holdfast::providers
