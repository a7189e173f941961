#include "tools/simprovider/request_json.h"

namespace simprovider {

std::optional<JsonValue> ParseObject(std::string_view body) {
  thread_local simdjson::dom::parser parser;
  JsonValue root;
  if (parser.parse(body.data(), body.size()).get(root) != simdjson::SUCCESS) return std::nullopt;
  if (!root.is_object()) return std::nullopt;
  return root;
}

std::optional<JsonValue> Member(const JsonValue& object, std::string_view key) {
  JsonValue value;
  if (object.at_key(key).get(value) != simdjson::SUCCESS || value.is_null()) return std::nullopt;
  return value;
}

std::string_view StringMember(const JsonValue& object, std::string_view key) {
  std::string_view value;
  if (object.at_key(key).get(value) != simdjson::SUCCESS) return {};
  return value;
}

bool BoolMember(const JsonValue& object, std::string_view key, bool fallback) {
  bool value = fallback;
  return object.at_key(key).get(value) == simdjson::SUCCESS ? value : fallback;
}

int64_t IntMember(const JsonValue& object, std::string_view key, int64_t fallback) {
  int64_t value = fallback;
  return object.at_key(key).get(value) == simdjson::SUCCESS ? value : fallback;
}

std::optional<double> NumberMember(const JsonValue& object, std::string_view key) {
  double value = 0;
  if (object.at_key(key).get(value) != simdjson::SUCCESS) return std::nullopt;
  return value;
}

std::optional<simdjson::dom::array> ArrayMember(const JsonValue& object, std::string_view key) {
  simdjson::dom::array value;
  if (object.at_key(key).get(value) != simdjson::SUCCESS) return std::nullopt;
  return value;
}

std::string RawJson(const JsonValue& value) { return simdjson::minify(value); }

}  // namespace simprovider
