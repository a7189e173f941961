#include "core/patterns.h"

#include <re2/re2.h>

#include "core/check.h"

namespace holdfast::core {
namespace {

constexpr char kMark[] = "\x1A";  // nothing that a text has by itself

re2::RE2::Options Quiet() {
  re2::RE2::Options options;
  options.set_log_errors(false);
  return options;
}

}  // namespace

Patterns::Patterns(const std::vector<std::string>& patterns) {
  for (const std::string& pattern : patterns) {
    patterns_.push_back(std::make_shared<const re2::RE2>(pattern, Quiet()));
    HOLDFAST_CHECK(patterns_.back()->ok());
  }
}

std::string Patterns::Fault(const std::string& pattern) {
  const re2::RE2 compiled(pattern, Quiet());
  if (!compiled.ok()) return compiled.error();
  return re2::RE2::FullMatch("", compiled) ? "matches the empty text" : "";
}

std::string Patterns::Blank(std::string_view text) const {
  std::string blanked(text);
  for (const auto& pattern : patterns_) re2::RE2::GlobalReplace(&blanked, *pattern, kMark);
  return blanked;
}

}  // namespace holdfast::core
