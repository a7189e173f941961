#include "resilience/json_check.h"

#include <algorithm>
#include <cmath>
#include <nlohmann/json.hpp>

namespace holdfast::resilience {
namespace {

using Json = nlohmann::json;

bool HasType(const Json& value, const std::string& type) {
  if (type == "object") return value.is_object();
  if (type == "array") return value.is_array();
  if (type == "string") return value.is_string();
  if (type == "boolean") return value.is_boolean();
  if (type == "null") return value.is_null();
  if (type == "number") return value.is_number();
  if (type == "integer") {
    if (value.is_number_integer()) return true;
    return value.is_number_float() && std::trunc(value.get<double>()) == value.get<double>();
  }
  return true;
}

bool MatchesType(const Json& schema, const Json& value) {
  const auto type = schema.find("type");
  if (type == schema.end()) return true;
  if (type->is_string()) return HasType(value, type->get<std::string>());
  if (!type->is_array()) return true;
  return std::any_of(type->begin(), type->end(), [&](const Json& one) {
    return one.is_string() && HasType(value, one.get<std::string>());
  });
}

std::string Mismatch(const Json& schema, const Json& value, const std::string& path, int depth);

std::string MismatchInObject(const Json& schema, const Json& value, const std::string& path,
                             int depth) {
  if (const auto required = schema.find("required");
      required != schema.end() && required->is_array()) {
    for (const Json& name : *required) {
      if (name.is_string() && !value.contains(name.get<std::string>())) {
        return path + "." + name.get<std::string>() + " is missing";
      }
    }
  }
  const auto properties = schema.find("properties");
  const bool known = properties != schema.end() && properties->is_object();
  const auto additional = schema.find("additionalProperties");
  const bool closed = additional != schema.end() && *additional == false;
  for (const auto& [name, member] : value.items()) {
    if (known && properties->contains(name)) {
      if (auto why = Mismatch((*properties)[name], member, path + "." + name, depth);
          !why.empty()) {
        return why;
      }
    } else if (closed) {
      return path + " has a property that the schema does not allow";
    }
  }
  return "";
}

std::string Mismatch(const Json& schema, const Json& value, const std::string& path, int depth) {
  if (!schema.is_object() || depth > 64) return "";
  if (!MatchesType(schema, value)) return path + " is of the wrong type";
  if (const auto allowed = schema.find("enum"); allowed != schema.end() && allowed->is_array()) {
    if (std::find(allowed->begin(), allowed->end(), value) == allowed->end()) {
      return path + " is none of the allowed values";
    }
  }
  if (const auto constant = schema.find("const"); constant != schema.end() && *constant != value) {
    return path + " is not the required value";
  }
  if (value.is_object()) return MismatchInObject(schema, value, path, depth + 1);
  if (const auto items = schema.find("items"); items != schema.end() && value.is_array()) {
    for (const Json& item : value) {
      if (auto why = Mismatch(*items, item, path + "[]", depth + 1); !why.empty()) return why;
    }
  }
  return "";
}

}  // namespace

std::string WhyNotJson(const core::ResponseFormat& format, std::string_view text) {
  if (format.kind == core::ResponseFormat::Kind::kText) return "";
  const Json value = Json::parse(text, nullptr, /*allow_exceptions=*/false);
  if (value.is_discarded()) return "the answer is not JSON";
  if (format.kind == core::ResponseFormat::Kind::kJsonObject) {
    return value.is_object() ? "" : "the answer is not a JSON object";
  }
  const Json schema = Json::parse(format.schema, nullptr, /*allow_exceptions=*/false);
  if (schema.is_discarded()) return "";
  return Mismatch(schema, value, "$", 0);
}

}  // namespace holdfast::resilience
