#pragma once

// Reading JSON that somebody else wrote: simdjson's DOM, since deltas are the hot path of a stream
// and it parses one in a fraction of a microsecond, behind look-ups that take a missing or
// mistyped field as absent. Nothing here throws.

#include <simdjson.h>

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

namespace holdfast::providers {

using JsonValue = simdjson::dom::element;

class JsonReader {
 public:
  // False if `text` is no JSON. Strings that are no valid UTF-8 are mended (providers/utf8.h).
  bool Parse(std::string_view text);

  // Valid until the next Parse, as is all that was found in it.
  const JsonValue& root() const { return root_; }

  // Strings hold stand-ins that Utf8Joiner must take out.
  bool mended() const { return mended_; }

 private:
  bool ParseStrictly(std::string_view text);

  simdjson::dom::parser parser_;
  std::string padded_;
  JsonValue root_;
  bool mended_ = false;
};

// The field's value; nothing if it is absent or null, or `object` is no object.
std::optional<JsonValue> Find(JsonValue object, std::string_view key);

// Nothing is "", 0 or false. Numbers are clamped to the range of int64_t.
std::string_view FindString(JsonValue object, std::string_view key);
int64_t FindInt(JsonValue object, std::string_view key);
// A count of something: never negative, and small enough that a few add up without overflow.
int64_t FindCount(JsonValue object, std::string_view key);
bool FindBool(JsonValue object, std::string_view key);

std::string_view AsString(JsonValue value);
std::optional<int64_t> AsInt(JsonValue value);

// Calls `fn` with each element of the array there, if there is one.
template <typename Fn>
void ForEach(JsonValue object, std::string_view key, Fn fn) {
  const std::optional<JsonValue> value = Find(object, key);
  simdjson::dom::array array;
  if (!value || value->get(array) != simdjson::SUCCESS) return;
  for (const JsonValue element : array) fn(element);
}

// Without stand-ins; halves of characters are U+FFFD.
std::string PlainText(std::string_view text);

}  // namespace holdfast::providers
