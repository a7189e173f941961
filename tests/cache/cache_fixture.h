#pragma once

// What the cache's tests share: a directory that goes away, an embedder whose vectors the test
// writes down, and requests in a line.

#include <unistd.h>

#include <atomic>
#include <cmath>
#include <cstdlib>
#include <filesystem>
#include <map>
#include <mutex>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "core/answer_cache.h"
#include "core/check.h"
#include "core/embedder.h"
#include "core/request.h"

namespace holdfast::cache::testing {

class TempDir {
 public:
  TempDir() {
    std::string name = (std::filesystem::temp_directory_path() / "holdfast-cache-XXXXXX").string();
    HOLDFAST_CHECK(mkdtemp(name.data()) != nullptr);
    path_ = name;
  }
  TempDir(const TempDir&) = delete;
  ~TempDir() {
    std::error_code ignored;
    std::filesystem::remove_all(path_, ignored);
  }

  const std::filesystem::path& path() const { return path_; }

 private:
  std::filesystem::path path_;
};

// Texts that were given a vector get it; others get a unit vector of their own by their hash.
class ScriptedEmbedder final : public core::Embedder {
 public:
  explicit ScriptedEmbedder(size_t dimension = 2, std::string id = "scripted")
      : dimension_(dimension), id_(std::move(id)) {}

  std::string id() const override { return id_; }
  size_t dimension() const override { return dimension_; }
  std::vector<float> Embed(std::string_view text) const override {
    ++calls_;
    const std::lock_guard lock(mutex_);
    const auto it = vectors_.find(std::string(text));
    if (it != vectors_.end()) return it->second;
    std::vector<float> vector(dimension_);
    uint64_t state = std::hash<std::string_view>()(text) | 1;
    double squares = 0;
    for (float& value : vector) {
      state = state * 6364136223846793005u + 1442695040888963407u;
      value = static_cast<float>(static_cast<double>(state >> 11) * 0x1.0p-52 - 1);
      squares += static_cast<double>(value) * value;
    }
    for (float& value : vector) value = static_cast<float>(value / std::sqrt(squares));
    return vector;
  }

  void Set(const std::string& text, std::vector<float> vector) {
    const std::lock_guard lock(mutex_);
    vectors_[text] = std::move(vector);
  }
  // The vector whose cosine to (1, 0) is `cosine`.
  void SetCosine(const std::string& text, double cosine) {
    Set(text, {static_cast<float>(cosine), static_cast<float>(std::sqrt(1 - cosine * cosine))});
  }
  int calls() const { return calls_; }

 private:
  const size_t dimension_;
  const std::string id_;
  mutable std::mutex mutex_;
  std::map<std::string, std::vector<float>> vectors_;
  mutable std::atomic<int> calls_ = 0;
};

inline core::Message Say(core::Role role, std::string text) {
  return {role, {core::Text{std::move(text)}}};
}

inline core::Request Ask(std::string question, std::string tenant = "default",
                         std::string route = "default") {
  core::Request request;
  request.tenant = std::move(tenant);
  request.route = std::move(route);
  request.messages.push_back(Say(core::Role::kUser, std::move(question)));
  return request;
}

inline core::NewEntry Answered(std::string text) { return {std::move(text), "provider", "model"}; }

}  // namespace holdfast::cache::testing
