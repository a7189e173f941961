#pragma once

// Files of JSON lines, for the commands that take them: an object a line, numbered from 1. Used on
// the main thread.

#include <cstddef>
#include <cstdint>
#include <fstream>
#include <istream>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <string_view>

#include "absl/status/statusor.h"

namespace holdfast::ctl {

class JsonLines {
 public:
  // "-" is `input`, which is borrowed.
  JsonLines(std::string path, std::istream& input);

  // The next line; none at the end of what can be read.
  std::optional<std::string> Next();
  // What is wrong with the file as a whole, then also where Next ended; empty if nothing is.
  const std::string& fault() const { return fault_; }

  size_t number() const { return number_; }  // of the line that Next returned last
  uint64_t bytes_read() const { return bytes_; }
  uint64_t size() const { return size_; }  // of the file; 0 = not known

  // "FILE:7: TEXT", for the line that Next returned last.
  std::string At(std::string_view text) const;

 private:
  const std::string path_;
  std::ifstream file_;
  std::istream& stream_;
  std::string fault_;
  size_t number_ = 0;
  uint64_t bytes_ = 0;
  uint64_t size_ = 0;
};

// The object in a line. Errors never quote it.
absl::StatusOr<nlohmann::json> ParseObject(std::string_view line);
// What stands under `key`, which must be a text.
absl::StatusOr<std::string> ReadText(const nlohmann::json& object, const char* key);

}  // namespace holdfast::ctl
