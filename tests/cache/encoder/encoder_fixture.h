#pragma once

// Where the encoder's tests find their data. testdata/ is committed (make_fixtures writes it);
// the model comes with tools/fetch_model, the STS-B sentences lie in a folder beside the source.
// Tests of the latter two are skipped, saying so, where they are missing.

#include <zlib.h>

#include <cmath>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <nlohmann/json.hpp>
#include <span>
#include <string>
#include <vector>

namespace holdfast::cache {

inline std::string Environment(const char* name, const std::string& otherwise) {
  const char* value = std::getenv(name);
  return value != nullptr ? value : otherwise;
}

inline std::string SourceDir() { return Environment("HOLDFAST_SOURCE_DIR", "."); }

inline std::string TestData(const std::string& name) {
  return SourceDir() + "/tests/cache/encoder/testdata/" + name;
}

inline std::string MinilmPath() {
  return Environment("HOLDFAST_MINILM", SourceDir() + "/build/models/minilm-plain.hfm");
}

inline std::string StsbPath() {
  return Environment("HOLDFAST_SHARED", SourceDir() + "/../shared") + "/data/stsb-dev.jsonl";
}

inline bool Exists(const std::string& path) { return std::filesystem::exists(path); }

inline std::string ReadFile(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(file), {}};
}

inline std::vector<std::string> ReadLines(const std::string& path) {
  std::ifstream file(path);
  std::vector<std::string> lines;
  for (std::string line; std::getline(file, line);) lines.push_back(line);
  return lines;
}

inline std::vector<nlohmann::json> ReadJsonLines(const std::string& path) {
  std::vector<nlohmann::json> values;
  for (const std::string& line : ReadLines(path)) values.push_back(nlohmann::json::parse(line));
  return values;
}

// Both sentences of each pair, one after the other.
inline std::vector<std::string> StsbTexts() {
  std::vector<std::string> texts;
  for (const auto& pair : ReadJsonLines(StsbPath())) {
    texts.push_back(pair["a"]);
    texts.push_back(pair["b"]);
  }
  return texts;
}

inline uint32_t Checksum(const std::vector<int32_t>& ids, uint32_t before = 0) {
  return static_cast<uint32_t>(crc32(before, reinterpret_cast<const Bytef*>(ids.data()),
                                     static_cast<uInt>(ids.size() * sizeof(int32_t))));
}

inline double Cosine(std::span<const float> a, std::span<const float> b) {
  double product = 0;
  double squares_a = 0;
  double squares_b = 0;
  for (size_t i = 0; i < a.size(); ++i) {
    product += static_cast<double>(a[i]) * static_cast<double>(b[i]);
    squares_a += static_cast<double>(a[i]) * static_cast<double>(a[i]);
    squares_b += static_cast<double>(b[i]) * static_cast<double>(b[i]);
  }
  return product / std::sqrt(squares_a * squares_b);
}

}  // namespace holdfast::cache
