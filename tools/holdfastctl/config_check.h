#pragma once

// `config check`: the server's own loader, run here on a file. Asks no server.

#include <string>

#include "tools/holdfastctl/options.h"

namespace holdfast::ctl {

struct ConfigReport {
  bool ok = false;
  std::string text;  // a line each: faults as "file:line:column: key: reason", and warnings
  // {"file", "ok": true, "warnings"}, or {"error": {"code": "INVALID_CONFIG", "message",
  // "exit_code", "faults": [{"file", "line", "column", "key", "reason"}], "warnings"}}
  std::string json;
};

ConfigReport CheckConfig(const std::string& path, const Environment& env);

}  // namespace holdfast::ctl
