#pragma once

// The means to describe keys once and have them read, printed and documented from that: a
// Schema<T> is the list of the keys of one map, each bound to its place in T. keys.cc is the table.

#include <yaml-cpp/emitter.h>
#include <yaml-cpp/emittermanip.h>

#include <functional>
#include <optional>
#include <set>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>

#include "server/config/keys.h"
#include "server/config/reader.h"
#include "server/config/values.h"

namespace holdfast::server {

// A kind of single value.
template <typename V>
struct Type {
  std::string name;   // "duration", for the documentation
  std::string range;  // "> 0s, <= 24h"; empty = any
  Syntax syntax = Syntax::kAny;
  bool secret = false;  // may be a file: reference; not repeated by faults
  bool quiet = false;   // not repeated by faults
  // Fills in the value; what is wrong, or nothing.
  std::function<std::string(const std::string& text, V& out)> parse;
  std::function<std::string(const V&)> format;
  std::function<std::string(const V&)> mask = nullptr;  // what is printed instead, if anything
};

template <typename T>
struct Field {
  std::string key;
  bool required = false;
  std::function<void(Reader&, const Node&, const std::string& path, T&)> read;
  std::function<void(YAML::Emitter&, const T&)> print;  // nothing if it is unset
  std::function<void(const std::string& path, const T& defaults, std::vector<KeyDoc>&)> describe;
};

template <typename T>
using Schema = std::vector<Field<T>>;

template <typename T>
void ReadMap(Reader& reader, const Node& node, const std::string& path, const Schema<T>& schema,
             T& out) {
  if (!reader.ExpectMap(node, path)) return;
  std::set<std::string> known;
  for (const Field<T>& field : schema) known.insert(field.key);
  const auto members = reader.Members(node, path, known);
  for (const Field<T>& field : schema) {
    const std::string child = Child(path, field.key);
    const auto member = members.find(field.key);
    if (member != members.end()) {
      reader.Place(child, member->second->at);
      field.read(reader, *member->second, child, out);
    } else if (field.required) {
      reader.Fail(node.at, child, "is required");
    }
  }
}

template <typename T>
void PrintMap(YAML::Emitter& out, const Schema<T>& schema, const T& value,
              const std::set<std::string>& omitted = {}) {
  out << YAML::BeginMap;
  for (const Field<T>& field : schema) {
    if (!omitted.contains(field.key)) field.print(out, value);
  }
  out << YAML::EndMap;
}

template <typename T>
void DescribeMap(const std::string& path, const Schema<T>& schema, const T& defaults,
                 std::vector<KeyDoc>& docs) {
  for (const Field<T>& field : schema) field.describe(Child(path, field.key), defaults, docs);
}

template <typename V>
void ReadValue(Reader& reader, const Node& node, const std::string& path, const Type<V>& type,
               V& out) {
  const auto text = reader.Text(node, path, type.syntax, type.secret);
  if (!text) return;
  std::string reason = type.parse(*text, out);
  if (reason.empty()) return;
  // Only what stands in the file itself is repeated: a variable's value may be a secret.
  const bool shown =
      !type.secret && !type.quiet && node.text == *text && !HasControlCharacter(*text);
  if (shown && text->size() <= 40) reason += ", not \"" + *text + "\"";
  reader.Fail(node.at, path, reason);
}

// Quotes, so that "123" stays a text, and what looks like a variable stays what it is.
void PrintText(YAML::Emitter& out, const std::string& text);

template <typename V>
void PrintValue(YAML::Emitter& out, const Type<V>& type, const V& value) {
  const std::string text = type.mask ? type.mask(value) : type.format(value);
  if (type.syntax == Syntax::kText) {
    PrintText(out, text);
  } else {
    out << text;
  }
}

template <typename S>
struct IsOptional : std::false_type {};
template <typename V>
struct IsOptional<std::optional<V>> : std::true_type {};

// A single value. An optional one, or an empty text, is not printed when unset.
template <typename T, typename V, typename Accessor>
Field<T> Value(const std::string& key, Accessor at, const Type<V>& type, const std::string& effect,
               const std::string& default_text = "") {
  Field<T> field;
  field.key = key;
  field.required = default_text == kRequired;
  field.read = [at, type](Reader& reader, const Node& node, const std::string& path, T& object) {
    auto& slot = at(object);
    if constexpr (IsOptional<std::remove_reference_t<decltype(slot)>>::value) {
      V value{};
      bool read = false;
      Type<V> noting = type;
      noting.parse = [&](const std::string& text, V& out) {
        std::string reason = type.parse(text, out);
        read = reason.empty();
        return reason;
      };
      ReadValue(reader, node, path, noting, value);
      if (read) slot = std::move(value);
    } else {
      ReadValue(reader, node, path, type, slot);
    }
  };
  const auto shown = [at](const T& object) -> const V* {
    const auto& slot = at(object);
    if constexpr (IsOptional<std::remove_cvref_t<decltype(slot)>>::value) {
      return slot ? &*slot : nullptr;
    } else if constexpr (std::is_same_v<V, std::string>) {
      return slot.empty() ? nullptr : &slot;
    } else {
      return &slot;
    }
  };
  field.print = [key, type, shown](YAML::Emitter& out, const T& object) {
    if (const V* value = shown(object)) {
      out << YAML::Key << key << YAML::Value;
      PrintValue(out, type, *value);
    }
  };
  field.describe = [type, effect, default_text, shown](const std::string& path, const T& defaults,
                                                       std::vector<KeyDoc>& docs) {
    const V* value = shown(defaults);
    std::string text = value ? type.format(*value) : "unset";
    if (!default_text.empty()) text = default_text;
    docs.push_back({path, type.name, std::move(text), type.range, effect});
  };
  return field;
}

// A map with keys of its own; `omit` names those not worth printing.
template <typename T, typename U, typename Accessor>
Field<T> Section(const std::string& key, Accessor at, const Schema<U>& schema,
                 const std::string& effect,
                 std::function<std::set<std::string>(const U&)> omit = nullptr) {
  Field<T> field;
  field.key = key;
  field.read = [at, &schema](Reader& reader, const Node& node, const std::string& path, T& object) {
    auto& slot = at(object);
    if constexpr (IsOptional<std::remove_reference_t<decltype(slot)>>::value) {
      ReadMap(reader, node, path, schema, slot.emplace());
    } else {
      ReadMap(reader, node, path, schema, slot);
    }
  };
  field.print = [key, at, &schema, omit](YAML::Emitter& out, const T& object) {
    const auto& slot = at(object);
    const U* value = nullptr;
    if constexpr (IsOptional<std::remove_cvref_t<decltype(slot)>>::value) {
      if (slot) value = &*slot;
    } else {
      value = &slot;
    }
    if (value == nullptr) return;
    out << YAML::Key << key << YAML::Value;
    PrintMap(out, schema, *value, omit ? omit(*value) : std::set<std::string>{});
  };
  field.describe = [at, effect, &schema](const std::string& path, const T& defaults,
                                         std::vector<KeyDoc>& docs) {
    const auto& slot = at(defaults);
    if constexpr (IsOptional<std::remove_cvref_t<decltype(slot)>>::value) {
      docs.push_back({path, "map", "unset", "", effect});
      DescribeMap(path, schema, slot ? *slot : U{}, docs);
    } else {
      docs.push_back({path, "map", "", "", effect});
      DescribeMap(path, schema, slot, docs);
    }
  };
  return field;
}

// A list of single values; not printed when empty.
template <typename T, typename V, typename Accessor>
Field<T> Values(const std::string& key, Accessor at, const Type<V>& type,
                const std::string& effect) {
  Field<T> field;
  field.key = key;
  field.read = [at, type](Reader& reader, const Node& node, const std::string& path, T& object) {
    if (!reader.ExpectList(node, path)) return;
    for (size_t i = 0; i < node.items.size(); ++i) {
      const std::string child = path + "[" + std::to_string(i) + "]";
      reader.Place(child, node.items[i].at);
      ReadValue(reader, node.items[i], child, type, at(object).emplace_back());
    }
  };
  field.print = [key, at, type](YAML::Emitter& out, const T& object) {
    if (at(object).empty()) return;
    out << YAML::Key << key << YAML::Value << YAML::BeginSeq;
    for (const V& value : at(object)) PrintValue(out, type, value);
    out << YAML::EndSeq;
  };
  field.describe = [type, effect](const std::string& path, const T&, std::vector<KeyDoc>& docs) {
    docs.push_back({path, "list of " + type.name, "empty", type.range, effect});
  };
  return field;
}

// A required list of maps, never empty.
template <typename T, typename U, typename Accessor>
Field<T> List(const std::string& key, Accessor at, const Schema<U>& schema,
              const std::string& effect) {
  Field<T> field;
  field.key = key;
  field.required = true;
  field.read = [at, &schema](Reader& reader, const Node& node, const std::string& path, T& object) {
    if (!reader.ExpectList(node, path)) return;
    if (node.items.empty()) reader.Fail(node.at, path, "must not be empty");
    for (size_t i = 0; i < node.items.size(); ++i) {
      const std::string child = path + "[" + std::to_string(i) + "]";
      reader.Place(child, node.items[i].at);
      ReadMap(reader, node.items[i], child, schema, at(object).emplace_back());
    }
  };
  field.print = [key, at, &schema](YAML::Emitter& out, const T& object) {
    out << YAML::Key << key << YAML::Value << YAML::BeginSeq;
    for (const U& item : at(object)) PrintMap(out, schema, item);
    out << YAML::EndSeq;
  };
  field.describe = [effect, &schema](const std::string& path, const T&, std::vector<KeyDoc>& docs) {
    docs.push_back({path, "list of maps", kRequired, "at least one", effect});
    DescribeMap(path + "[]", schema, U{}, docs);
  };
  return field;
}

}  // namespace holdfast::server
