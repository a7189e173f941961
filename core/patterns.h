#pragma once

// Parts of texts that do not count, by regular expressions (RE2: a match takes time in proportion
// to the text, whatever the expression). Immutable; safe from any thread.

#include <memory>
#include <string>
#include <string_view>
#include <vector>

namespace re2 {
class RE2;
}

namespace holdfast::core {

class Patterns {
 public:
  Patterns() = default;
  // Each without a Fault.
  explicit Patterns(const std::vector<std::string>& patterns);

  // What is wrong with `pattern`, in RE2's words; empty if nothing.
  static std::string Fault(const std::string& pattern);

  bool empty() const { return patterns_.empty(); }
  // `text` with a mark in place of each match, so that it stays apart from texts without one.
  std::string Blank(std::string_view text) const;

 private:
  std::vector<std::shared_ptr<const re2::RE2>> patterns_;
};

}  // namespace holdfast::core
