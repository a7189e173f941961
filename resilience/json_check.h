#pragma once

// Whether an answer is the JSON that `response_format` asked for.

#include <string>
#include <string_view>

#include "core/request.h"

namespace holdfast::resilience {

// Empty if `text` satisfies `format`, else why not. Text always does. A schema is checked by its
// keywords type, enum, const, required, properties, additionalProperties and items; others, and a
// schema that is not understood, are taken as satisfied. The reason never quotes the answer.
std::string WhyNotJson(const core::ResponseFormat& format, std::string_view text);

}  // namespace holdfast::resilience
