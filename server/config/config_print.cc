#include "server/config/config_print.h"

#include <yaml-cpp/emitter.h>

#include <exception>

#include "server/config/keys.h"

namespace holdfast::server {

std::string PrintConfig(const Config& config) {
  try {
    YAML::Emitter out;
    EmitConfig(out, config);
    return std::string(out.c_str(), out.size()) + "\n";
  } catch (const std::exception&) {
    return "";  // out of memory; there is nothing else to go wrong
  }
}

}  // namespace holdfast::server
