#include "cache/snapshots.h"

#include <algorithm>
#include <charconv>
#include <cstdint>
#include <string_view>
#include <system_error>
#include <utility>
#include <vector>

#include "cache/scope.h"

namespace holdfast::cache {
namespace {

namespace fs = std::filesystem;

std::string NameOf(const std::string& scope_key) {
  constexpr char kDigits[] = "0123456789abcdef";
  constexpr size_t kBytes = 16;
  std::string name;
  for (const char c : Sha256(scope_key).substr(0, kBytes)) {
    name += kDigits[static_cast<uint8_t>(c) >> 4];
    name += kDigits[static_cast<uint8_t>(c) & 15];
  }
  return name + ".";
}

// The directories of a scope with their numbers.
std::vector<std::pair<uint64_t, fs::path>> Numbered(const fs::path& directory,
                                                    const std::string& name) {
  std::vector<std::pair<uint64_t, fs::path>> found;
  std::error_code error;
  for (fs::directory_iterator it(directory, error), end; !error && it != end; it.increment(error)) {
    const std::string file = it->path().filename().string();
    if (!file.starts_with(name)) continue;
    uint64_t number = 0;
    const char* last = file.data() + file.size();
    const auto result = std::from_chars(file.data() + name.size(), last, number);
    if (result.ec == std::errc() && result.ptr == last) found.emplace_back(number, it->path());
  }
  return found;
}

}  // namespace

fs::path Snapshots::Latest(const std::string& scope_key) const {
  std::pair<uint64_t, fs::path> latest;
  if (!enabled()) return {};
  for (auto& one : Numbered(directory_, NameOf(scope_key))) {
    if (one.first > latest.first) latest = std::move(one);
  }
  return latest.second;
}

fs::path Snapshots::Begin(const std::string& scope_key) const {
  if (!enabled()) return {};
  const fs::path path = directory_ / (NameOf(scope_key) + "new");
  std::error_code error;
  fs::remove_all(path, error);
  fs::create_directories(path, error);
  return error ? fs::path() : path;
}

bool Snapshots::Commit(const std::string& scope_key) const {
  const std::string name = NameOf(scope_key);
  const auto before = Numbered(directory_, name);
  uint64_t number = 1;
  for (const auto& [n, path] : before) number = std::max(number, n + 1);
  std::error_code error;
  fs::rename(directory_ / (name + "new"), directory_ / (name + std::to_string(number)), error);
  if (error) return false;
  for (const auto& [n, path] : before) fs::remove_all(path, error);
  return true;
}

void Snapshots::Drop(const std::string& scope_key) const {
  if (!enabled()) return;
  const std::string name = NameOf(scope_key);
  std::error_code error;
  for (const auto& [n, path] : Numbered(directory_, name)) fs::remove_all(path, error);
  fs::remove_all(directory_ / (name + "new"), error);
}

void Snapshots::DropAll() const {
  std::error_code error;
  if (enabled()) fs::remove_all(directory_, error);
}

}  // namespace holdfast::cache
