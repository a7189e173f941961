#pragma once

// What the tests of the configuration share: a smallest file and short ways to load one.

#include <fstream>
#include <iterator>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "server/config/config_loader.h"

namespace holdfast::server {

using Variables = std::map<std::string, std::string>;

inline Environment EnvironmentOf(Variables variables) {
  return [variables](const std::string& name) -> std::optional<std::string> {
    const auto found = variables.find(name);
    if (found == variables.end()) return std::nullopt;
    return found->second;
  };
}

inline LoadResult Load(const std::string& text, const Variables& variables = {},
                       const Overrides& overrides = {}) {
  return LoadConfigText("t.yaml", text, EnvironmentOf(variables), overrides);
}

// Each fault as it is shown.
inline std::vector<std::string> Faults(const std::string& text, const Variables& variables = {},
                                       const Overrides& overrides = {}) {
  std::vector<std::string> shown;
  for (const Fault& fault : Load(text, variables, overrides).faults) shown.push_back(Format(fault));
  return shown;
}

inline std::string ReadFile(const std::string& path) {
  std::ifstream in(path, std::ios::binary);
  return std::string(std::istreambuf_iterator<char>(in), {});
}

inline std::string SourceFile(const std::string& path) {
  const char* root = std::getenv("HOLDFAST_SOURCE_DIR");
  return std::string(root != nullptr ? root : ".") + "/" + path;
}

inline const Variables kShippedVariables = {{"ANTHROPIC_API_KEY", "sk-ant-1"},
                                            {"OPENAI_API_KEY", "sk-2"},
                                            {"LOCAL_BASE_URL", "http://127.0.0.1:8080/v1"}};

// All that is required and no more; seven lines.
inline const std::string kProviders =
    "providers:\n"
    "  - {name: p, kind: openai, base_url: http://127.0.0.1:1/v1}\n";
inline const std::string kRoutes =
    "routes:\n"
    "  - name: default\n"
    "    chain:\n"
    "      - {provider: p, model: m}\n";
inline const std::string kMinimal = kProviders + kRoutes;

}  // namespace holdfast::server
