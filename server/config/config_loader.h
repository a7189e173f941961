#pragma once

// Reads the configuration file. Everything wrong with it is found in one run: syntax, unknown and
// duplicate keys, types, ranges, and settings that cannot take effect. Called by main and by
// `--check`, before any thread runs. Never throws.

#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "server/config/config.h"
#include "server/config/reader.h"
#include "server/config/yaml_tree.h"

namespace holdfast::server {

struct LoadResult {
  std::optional<Config> config;  // set if and only if there is no fault
  std::vector<Fault> faults;
  std::vector<std::string> warnings;  // to be logged; they stop nothing
};

// Settings from the command line, which win over the file: {"listen", "127.0.0.1:0"}. Only single
// values of the top level. They are checked as if they stood in the file, and their faults are
// told by the flag's name ("--listen").
using Overrides = std::vector<std::pair<std::string, std::string>>;

LoadResult LoadConfig(const std::string& path, const Environment& environment,
                      const Overrides& overrides = {});
// The same for a text; `name` stands for the file in faults.
LoadResult LoadConfigText(const std::string& name, const std::string& text,
                          const Environment& environment, const Overrides& overrides = {});

Environment ProcessEnvironment();

// "file:line:column: key.path: reason".
std::string Format(const Fault& fault);

}  // namespace holdfast::server
