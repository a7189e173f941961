#pragma once

// The table of all keys of the configuration: the loader reads by it, the printer prints by it, and
// docs/configuration.md is held against it.

#include <string>
#include <string_view>
#include <vector>

#include "server/config/config.h"
#include "server/config/yaml_tree.h"

namespace YAML {
class Emitter;
}

namespace holdfast::server {

class Reader;

inline constexpr const char* kRequired = "required";

struct KeyDoc {
  std::string path;  // "routes[].chain[].share"
  std::string type;
  std::string default_text;
  std::string range;
  std::string effect;
};

std::vector<KeyDoc> DescribeKeys();
// The same as the Markdown tables of docs/configuration.md.
std::string KeysAsMarkdown();

void ReadConfig(Reader& reader, const Node& root, Config& out);
// One key of the top level by itself, as from a flag. False if there is none of that name.
bool ReadTopLevelKey(Reader& reader, const std::string& key, const std::string& value, Config& out);
void EmitConfig(YAML::Emitter& out, const Config& config);

}  // namespace holdfast::server
