#include "tools/holdfastctl/json_lines.h"

#include <cerrno>
#include <cstring>
#include <filesystem>
#include <system_error>
#include <utility>

namespace holdfast::ctl {
namespace {

std::string Name(const std::string& path) { return path == "-" ? "standard input" : path; }

}  // namespace

JsonLines::JsonLines(std::string path, std::istream& input)
    : path_(std::move(path)), stream_(path_ == "-" ? input : file_) {
  if (path_ == "-") return;
  std::error_code error;
  if (std::filesystem::is_directory(path_, error)) {
    fault_ = path_ + ": is a folder";
    return;
  }
  file_.open(path_, std::ios::binary);
  if (!file_) {
    fault_ = path_ + ": " + std::strerror(errno);
    return;
  }
  const uintmax_t size = std::filesystem::file_size(path_, error);
  if (!error) size_ = size;
}

std::optional<std::string> JsonLines::Next() {
  if (!fault_.empty()) return std::nullopt;
  std::string line;
  if (!std::getline(stream_, line)) {
    if (stream_.bad()) fault_ = Name(path_) + ": cannot be read to its end";
    return std::nullopt;
  }
  ++number_;
  bytes_ += line.size() + 1;
  return line;
}

std::string JsonLines::At(std::string_view text) const {
  return Name(path_) + ":" + std::to_string(number_) + ": " + std::string(text);
}

absl::StatusOr<nlohmann::json> ParseObject(std::string_view line) {
  using nlohmann::json;
  size_t place = 0;
  try {
    json object = json::parse(line);
    if (object.is_object()) return object;
    return absl::InvalidArgumentError("not a JSON object");
  } catch (const json::parse_error& error) {
    place = error.byte;
  } catch (const json::exception&) {  // a number out of range
  }
  return absl::InvalidArgumentError("not JSON, at byte " + std::to_string(place));
}

absl::StatusOr<std::string> ReadText(const nlohmann::json& object, const char* key) {
  const auto found = object.find(key);
  const std::string name = "\"" + std::string(key) + "\"";
  if (found == object.end()) return absl::InvalidArgumentError(name + " is missing");
  if (!found->is_string()) return absl::InvalidArgumentError(name + " is not a text");
  return found->get<std::string>();
}

}  // namespace holdfast::ctl
