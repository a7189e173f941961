#include "providers/json.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "providers/utf8.h"

namespace holdfast::providers {
namespace {

int64_t ClampToInt(double number) {
  constexpr double kEdge = 9.2e18;
  if (std::isnan(number)) return 0;
  return static_cast<int64_t>(std::clamp(number, -kEdge, kEdge));
}

}  // namespace

bool JsonReader::Parse(std::string_view text) {
  mended_ = false;
  if (ParseStrictly(text)) return true;
  const std::string mended = MendJson(text);
  if (mended == text) return false;
  mended_ = true;
  return ParseStrictly(mended);
}

bool JsonReader::ParseStrictly(std::string_view text) {
  padded_.reserve(text.size() + simdjson::SIMDJSON_PADDING);
  padded_.assign(text);
  constexpr bool kCopyFirst = false;
  return parser_.parse(padded_.data(), padded_.size(), kCopyFirst).get(root_) == simdjson::SUCCESS;
}

std::optional<JsonValue> Find(JsonValue object, std::string_view key) {
  JsonValue value;
  if (object.at_key(key).get(value) != simdjson::SUCCESS) return std::nullopt;
  if (value.is_null()) return std::nullopt;
  return value;
}

std::string_view FindString(JsonValue object, std::string_view key) {
  const std::optional<JsonValue> value = Find(object, key);
  return value ? AsString(*value) : std::string_view();
}

int64_t FindInt(JsonValue object, std::string_view key) {
  const std::optional<JsonValue> value = Find(object, key);
  return value ? AsInt(*value).value_or(0) : 0;
}

int64_t FindCount(JsonValue object, std::string_view key) {
  return std::clamp<int64_t>(FindInt(object, key), 0, int64_t{1} << 40);
}

bool FindBool(JsonValue object, std::string_view key) {
  const std::optional<JsonValue> value = Find(object, key);
  bool flag = false;
  return value && value->get(flag) == simdjson::SUCCESS && flag;
}

std::string_view AsString(JsonValue value) {
  std::string_view text;
  return value.get(text) == simdjson::SUCCESS ? text : std::string_view();
}

std::optional<int64_t> AsInt(JsonValue value) {
  int64_t number = 0;
  if (value.get(number) == simdjson::SUCCESS) return number;
  if (value.is_uint64()) return std::numeric_limits<int64_t>::max();
  double real = 0;
  if (value.get(real) == simdjson::SUCCESS) return ClampToInt(real);
  return std::nullopt;
}

std::string PlainText(std::string_view text) {
  std::string out;
  Utf8Joiner joiner;
  joiner.Feed(text, out);
  joiner.Flush(out);
  return out;
}

}  // namespace holdfast::providers
