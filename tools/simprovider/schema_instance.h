// A minimal JSON value that a JSON Schema accepts: required properties only, first enum value,
// smallest numbers. Pure; meant for tool arguments and schema-bound answers, not for every corner
// of the standard.
#pragma once

#include <string>
#include <string_view>

namespace simprovider {

// "{}" when `schema` is empty or no JSON. `text` becomes the value of unconstrained strings.
std::string MinimalInstance(std::string_view schema, std::string_view text);

}  // namespace simprovider
