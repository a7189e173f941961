#include "tools/simprovider/schema_instance.h"

#include <algorithm>
#include <nlohmann/json.hpp>

#include "tools/simprovider/text.h"

namespace simprovider {
namespace {

using Json = nlohmann::ordered_json;

constexpr int kMaxDepth = 32;

class Builder {
 public:
  Builder(const Json& root, std::string_view text) : root_(root), text_(text) {}

  Json Build(const Json& schema, int depth) const {
    if (!schema.is_object() || depth > kMaxDepth) return nullptr;
    if (schema.contains("$ref")) return Build(Resolve(schema["$ref"]), depth + 1);
    for (const char* fixed : {"const", "default"}) {
      if (schema.contains(fixed)) return schema[fixed];
    }
    if (IsFilledArray(schema, "enum")) return schema["enum"][0];
    for (const char* choice : {"anyOf", "oneOf", "allOf"}) {
      if (IsFilledArray(schema, choice)) return Build(schema[choice][0], depth + 1);
    }
    return BuildTyped(TypeOf(schema), schema, depth);
  }

 private:
  static bool IsFilledArray(const Json& schema, const char* key) {
    return schema.contains(key) && schema[key].is_array() && !schema[key].empty();
  }

  // Gemini writes types in capitals.
  static std::string TypeOf(const Json& schema) {
    Json type = schema.value("type", Json());
    if (type.is_array() && !type.empty()) type = type[0];
    if (!type.is_string()) return schema.contains("properties") ? "object" : "string";
    std::string name = type.get<std::string>();
    std::transform(name.begin(), name.end(), name.begin(),
                   [](unsigned char c) { return static_cast<char>(std::tolower(c)); });
    return name;
  }

  const Json& Resolve(const Json& reference) const {
    static const Json kNothing;
    if (!reference.is_string()) return kNothing;
    const std::string pointer = reference.get<std::string>();
    if (pointer.rfind("#/", 0) != 0) return kNothing;
    const Json::json_pointer path(pointer.substr(1));
    return root_.contains(path) ? root_[path] : kNothing;
  }

  Json BuildTyped(const std::string& type, const Json& schema, int depth) const {
    if (type == "object") return BuildObject(schema, depth);
    if (type == "array") return BuildArray(schema, depth);
    if (type == "integer") return static_cast<int64_t>(schema.value("minimum", 0.0));
    if (type == "number") return schema.value("minimum", 0.0);
    if (type == "boolean") return false;
    if (type == "null") return nullptr;
    return BuildString(schema);
  }

  Json BuildObject(const Json& schema, int depth) const {
    Json object = Json::object();
    const Json properties = schema.value("properties", Json::object());
    for (const Json& name : schema.value("required", Json::array())) {
      if (!name.is_string()) continue;
      const std::string key = name.get<std::string>();
      object[key] = properties.contains(key) ? Build(properties[key], depth + 1) : Json(nullptr);
    }
    return object;
  }

  Json BuildArray(const Json& schema, int depth) const {
    Json array = Json::array();
    const int count = std::min(schema.value("minItems", 0), 1000);
    for (int i = 0; i < count; ++i) {
      array.push_back(Build(schema.value("items", Json::object()), depth + 1));
    }
    return array;
  }

  Json BuildString(const Json& schema) const {
    std::string value(text_);
    const int longest = schema.value("maxLength", -1);
    const int shortest = std::min(schema.value("minLength", 0), 10000);
    if (longest >= 0) value = CutAtCodePoint(value, static_cast<size_t>(longest));
    while (static_cast<int>(value.size()) < shortest) value.push_back('x');
    return value;
  }

  const Json& root_;
  std::string_view text_;
};

}  // namespace

std::string MinimalInstance(std::string_view schema, std::string_view text) {
  if (schema.empty()) return "{}";
  try {
    const Json root = Json::parse(schema);
    return Builder(root, text).Build(root, 0).dump();
  } catch (const Json::exception&) {
    return "{}";
  }
}

}  // namespace simprovider
