// Reading a provider's request with simdjson. Values are views into a parser owned by the calling
// thread and live until it parses again.
#pragma once

#include <simdjson.h>

#include <optional>
#include <string>
#include <string_view>

namespace simprovider {

using JsonValue = simdjson::dom::element;

// The request body as an object, or nothing.
std::optional<JsonValue> ParseObject(std::string_view body);

// The member, or nothing when it is absent or null.
std::optional<JsonValue> Member(const JsonValue& object, std::string_view key);

// Empty / fallback when absent or of another type.
std::string_view StringMember(const JsonValue& object, std::string_view key);
bool BoolMember(const JsonValue& object, std::string_view key, bool fallback = false);
int64_t IntMember(const JsonValue& object, std::string_view key, int64_t fallback);
std::optional<double> NumberMember(const JsonValue& object, std::string_view key);
std::optional<simdjson::dom::array> ArrayMember(const JsonValue& object, std::string_view key);

std::string RawJson(const JsonValue& value);

}  // namespace simprovider
