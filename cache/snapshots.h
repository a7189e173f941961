#pragma once

// Where the saved indexes of large scopes lie: in a directory of the database's, one directory for
// each, named after the hash of its scope's key and a number that grows. A new one is written under
// another name and then renamed, so what has a number is whole, unless the machine lost power,
// which the checksums inside tell. AnswerBook owns it; safe from any thread for different scopes.

#include <filesystem>
#include <string>

namespace holdfast::cache {

class Snapshots {
 public:
  // Empty: nothing is kept.
  explicit Snapshots(std::filesystem::path directory) : directory_(std::move(directory)) {}

  bool enabled() const { return !directory_.empty(); }

  // The latest of the scope; empty if there is none.
  std::filesystem::path Latest(const std::string& scope_key) const;
  // A new, empty directory to write into; empty if none can be made.
  std::filesystem::path Begin(const std::string& scope_key) const;
  // It takes the place of those before.
  bool Commit(const std::string& scope_key) const;
  void Drop(const std::string& scope_key) const;
  void DropAll() const;

 private:
  std::filesystem::path directory_;
};

}  // namespace holdfast::cache
