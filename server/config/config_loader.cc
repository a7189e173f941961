#include "server/config/config_loader.h"

#include <sys/stat.h>

#include <algorithm>
#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <string_view>
#include <tuple>

#include "server/config/checks.h"
#include "server/config/keys.h"

namespace holdfast::server {
namespace {

LoadResult Refused(const std::string& file, std::string reason) {
  LoadResult result;
  result.faults.push_back({file, {}, "", std::move(reason)});
  return result;
}

// Those of flags, which have no line, come last.
bool InFileOrder(const Fault& a, const Fault& b) {
  return std::tuple(a.at.line == 0, a.at, std::string_view(a.key)) <
         std::tuple(b.at.line == 0, b.at, std::string_view(b.key));
}

void Apply(const Overrides& overrides, Reader& reader, Config& config) {
  for (const auto& [key, value] : overrides) {
    std::string flag = "--" + key;
    std::replace(flag.begin(), flag.end(), '_', '-');
    const Reader::Source source(reader, flag);
    if (!ReadTopLevelKey(reader, key, value, config)) {
      reader.Fail({}, key, "no such setting");
    }
  }
}

}  // namespace

LoadResult LoadConfigText(const std::string& name, const std::string& text,
                          const Environment& environment, const Overrides& overrides) {
  LoadResult result;
  const Node root = ParseYaml(name, text, result.faults);
  Reader reader(name, environment);
  Config config;
  if (root.kind != Node::Kind::kBroken) {
    reader.Place("", root.at);
    ReadConfig(reader, root, config);
    Apply(overrides, reader, config);
    if (root.kind == Node::Kind::kMap) Check(config, reader);
  }
  for (Fault& fault : reader.TakeFaults()) result.faults.push_back(std::move(fault));
  std::sort(result.faults.begin(), result.faults.end(), InFileOrder);
  if (reader.full()) {
    result.faults.push_back({name, {}, "", "and there is more: only the first faults are shown"});
  }
  result.warnings = reader.TakeWarnings();
  if (result.faults.empty()) result.config = std::move(config);
  return result;
}

LoadResult LoadConfig(const std::string& path, const Environment& environment,
                      const Overrides& overrides) {
  struct stat info;
  if (stat(path.c_str(), &info) != 0) {
    return Refused(path, std::string("cannot be read: ") + std::strerror(errno));
  }
  if (S_ISDIR(info.st_mode)) return Refused(path, "cannot be read: it is a directory");
  std::ifstream in(path, std::ios::binary);
  if (!in.is_open()) return Refused(path, std::string("cannot be read: ") + std::strerror(errno));
  std::string text(kMaxFileBytes + 1, '\0');
  in.read(text.data(), static_cast<std::streamsize>(text.size()));
  if (in.bad()) return Refused(path, "cannot be read");
  text.resize(static_cast<size_t>(in.gcount()));
  return LoadConfigText(path, text, environment, overrides);
}

Environment ProcessEnvironment() {
  return [](const std::string& name) -> std::optional<std::string> {
    const char* value = std::getenv(name.c_str());
    if (value == nullptr) return std::nullopt;
    return std::string(value);
  };
}

std::string Format(const Fault& fault) {
  std::string text = FormatPlace(fault.file, fault.at) + ": ";
  if (!fault.key.empty()) text += fault.key + ": ";
  return text + fault.reason;
}

}  // namespace holdfast::server
