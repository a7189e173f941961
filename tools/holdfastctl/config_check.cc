#include "tools/holdfastctl/config_check.h"

#include <nlohmann/json.hpp>

#include "server/config/config_loader.h"
#include "tools/holdfastctl/status_details.h"
#include "tools/holdfastctl/terminal_text.h"

namespace holdfast::ctl {
namespace {

using Json = nlohmann::ordered_json;

// What a route's cache passes over in system prompts: answers cross it, so people should see it.
std::vector<std::string> Notes(const server::LoadResult& result) {
  std::vector<std::string> notes;
  if (!result.config) return notes;
  for (const resilience::Route& route : result.config->routes) {
    for (const std::string& pattern : route.cache.scope_ignore) {
      notes.push_back("route " + route.name + ": its cache ignores, in system prompts, /" +
                      pattern + "/");
    }
  }
  return notes;
}

std::string Text(const std::string& path, const server::LoadResult& result) {
  std::string text;
  for (const server::Fault& fault : result.faults) {
    text += EscapeLine(server::Format(fault)) + "\n";
  }
  for (const std::string& warning : result.warnings) {
    text += "warning: " + EscapeLine(warning) + "\n";
  }
  for (const std::string& note : Notes(result)) text += EscapeLine(note) + "\n";
  if (result.faults.empty()) text += EscapeLine(path) + ": no faults\n";
  return text;
}

Json FaultsJson(const server::LoadResult& result) {
  Json error;
  const size_t count = result.faults.size();
  error["code"] = "INVALID_CONFIG";
  error["message"] = std::to_string(count) + (count == 1 ? " fault" : " faults");
  error["exit_code"] = kExitFailed;
  for (const server::Fault& fault : result.faults) {
    error["faults"].push_back({{"file", fault.file},
                               {"line", fault.at.line},
                               {"column", fault.at.column},
                               {"key", fault.key},
                               {"reason", fault.reason}});
  }
  error["warnings"] = result.warnings;
  return Json{{"error", error}};
}

std::string Document(const std::string& path, const server::LoadResult& result) {
  const Json document = result.faults.empty() ? Json{{"file", path},
                                                     {"ok", true},
                                                     {"warnings", result.warnings},
                                                     {"notes", Notes(result)}}
                                              : FaultsJson(result);
  return EscapeJson(document.dump(2, ' ', false, Json::error_handler_t::replace)) + "\n";
}

}  // namespace

ConfigReport CheckConfig(const std::string& path, const Environment& env) {
  const server::LoadResult result = server::LoadConfig(path, env);
  return {result.faults.empty(), Text(path, result), Document(path, result)};
}

}  // namespace holdfast::ctl
