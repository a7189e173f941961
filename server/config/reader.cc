#include "server/config/reader.h"

#include <sys/stat.h>

#include <algorithm>
#include <fstream>
#include <iterator>
#include <utility>

#include "server/config/values.h"

namespace holdfast::server {
namespace {

constexpr size_t kMaxFaults = 100;
constexpr size_t kMaxSecretBytes = 64 << 10;
constexpr std::string_view kFilePrefix = "file:";

const char* Describe(const Node& node) {
  switch (node.kind) {
    case Node::Kind::kMap:
      return "a map";
    case Node::Kind::kSequence:
      return "a list";
    case Node::Kind::kScalar:
      return "a single value";
    case Node::Kind::kNull:
      return "nothing";
    case Node::Kind::kBroken:
      return "unreadable";
  }
  return "";
}

bool IsVariableName(std::string_view name) {
  if (name.empty() || (name[0] >= '0' && name[0] <= '9')) return false;
  return std::all_of(name.begin(), name.end(), [](char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_';
  });
}

size_t Distance(std::string_view a, std::string_view b) {
  std::vector<size_t> row(b.size() + 1);
  for (size_t j = 0; j <= b.size(); ++j) row[j] = j;
  for (size_t i = 1; i <= a.size(); ++i) {
    size_t diagonal = std::exchange(row[0], i);
    for (size_t j = 1; j <= b.size(); ++j) {
      const size_t change = diagonal + (a[i - 1] == b[j - 1] ? 0 : 1);
      diagonal = std::exchange(row[j], std::min({row[j] + 1, row[j - 1] + 1, change}));
    }
  }
  return row[b.size()];
}

std::string DidYouMean(const std::string& key, const std::set<std::string>& known) {
  if (key.size() > 40) return "";
  for (const std::string& candidate : known) {
    if (Distance(key, candidate) <= 2) return "; did you mean " + candidate + "?";
  }
  return "";
}

// Keys are the file's own words; a line of a log is not the place for all of a long one.
std::string Bounded(const std::string& text) {
  constexpr size_t kMost = 60;
  std::string shown;
  for (const char c : text.substr(0, kMost)) {
    shown += static_cast<unsigned char>(c) < 0x20 ? '?' : c;
  }
  if (text.size() <= kMost) return shown;
  while (FirstInvalidUtf8(shown)) shown.pop_back();
  return shown + "...";
}

}  // namespace

std::string FormatPlace(const std::string& file, const Position& at) {
  if (at.line == 0) return file;
  return file + ":" + std::to_string(at.line) + ":" + std::to_string(at.column);
}

std::string Child(const std::string& parent, const std::string& name) {
  return parent.empty() ? name : parent + "." + name;
}

void Reader::Add(Fault fault) {
  full_ = faults_.size() >= kMaxFaults;
  if (!full_) faults_.push_back(std::move(fault));
}

void Reader::Fail(const Position& at, const std::string& key, std::string reason) {
  faulty_.insert(key);
  Add({file_, at, key, std::move(reason)});
}

const Reader::Where& Reader::WhereOf(const std::string& key) const {
  static const Where kNowhere;
  for (std::string at = key;;) {
    if (const auto place = places_.find(at); place != places_.end()) return place->second;
    const size_t cut = at.find_last_of(".[");
    if (cut == std::string::npos) break;
    at.resize(cut);
  }
  const auto root = places_.find("");
  return root != places_.end() ? root->second : kNowhere;
}

void Reader::FailKey(const std::string& key, std::string reason) {
  if (!faulty_.insert(key).second) return;
  const Where& where = WhereOf(key);
  Add({where.file.empty() ? file_ : where.file, where.at, key, std::move(reason)});
}

void Reader::Warn(const std::string& key, const std::string& text) {
  const Where& where = WhereOf(key);
  warnings_.push_back(FormatPlace(where.file.empty() ? file_ : where.file, where.at) + ": " + key +
                      ": " + text);
}

std::set<std::string> Reader::WrittenBelow(const std::string& key) const {
  std::set<std::string> names;
  const std::string prefix = key + ".";
  for (auto it = places_.lower_bound(prefix); it != places_.end(); ++it) {
    if (!it->first.starts_with(prefix)) break;
    names.insert(it->first.substr(prefix.size()));
  }
  return names;
}

bool Reader::Faulty(const std::string& key) const {
  return std::any_of(faulty_.begin(), faulty_.end(), [&](const std::string& faulty) {
    return faulty == key || faulty.starts_with(key + ".") || faulty.starts_with(key + "[");
  });
}

bool Reader::ExpectKind(const Node& node, Node::Kind kind, const char* wanted,
                        const std::string& key) {
  if (node.kind == kind) return true;
  if (node.kind == Node::Kind::kNull) {
    Fail(node.at, key, "has no value: give it one or leave the key out");
  } else if (node.kind == Node::Kind::kBroken) {
    faulty_.insert(key);
  } else {
    Fail(node.at, key, std::string("must be ") + wanted + ", not " + Describe(node));
  }
  return false;
}

bool Reader::ExpectMap(const Node& node, const std::string& key) {
  return ExpectKind(node, Node::Kind::kMap, "a map", key);
}

bool Reader::ExpectList(const Node& node, const std::string& key) {
  return ExpectKind(node, Node::Kind::kSequence, "a list", key);
}

std::map<std::string, const Node*> Reader::Members(const Node& node, const std::string& key,
                                                   const std::set<std::string>& known) {
  std::map<std::string, const Node*> members;
  for (const Member& member : node.members) {
    if (full_) break;
    const std::string path = Child(key, Bounded(member.key));
    if (!known.empty() && !known.contains(member.key)) {
      Fail(member.at, path, "unknown key" + DidYouMean(member.key, known));
    } else if (!members.emplace(member.key, &member.value).second) {
      Fail(member.at, path, "duplicate key");
    }
  }
  return members;
}

std::optional<std::string> Reader::Expand(const Node& node, const std::string& key) {
  std::string out;
  bool good = true;
  std::string_view rest = node.text;
  while (!rest.empty()) {
    const size_t start = rest.find("${");
    out += rest.substr(0, start);
    if (start == std::string_view::npos) break;
    rest.remove_prefix(start + 2);
    if (start > 0 && !out.empty() && out.back() == '$') {  // "$${" stands for "${"
      out += '{';
      continue;
    }
    const size_t end = rest.find('}');
    const std::string name(rest.substr(0, end));
    if (end == std::string_view::npos || !IsVariableName(name)) {
      Fail(node.at, key, "${ must be followed by a variable's name and }; write $${ for ${ itself");
      return std::nullopt;
    }
    rest.remove_prefix(end + 1);
    const std::optional<std::string> value = environment_(name);
    if (!value || value->empty()) {
      Fail(node.at, key,
           "the environment variable " + Bounded(name) + (value ? " is empty" : " is not set"));
      good = false;
    } else {
      out += *value;
    }
  }
  if (!good) return std::nullopt;
  return out;
}

std::optional<std::string> Reader::ReadSecretFile(const Node& node, const std::string& key,
                                                  const std::string& path) {
  const auto fail = [&](const char* reason) {
    Fail(node.at, key, "file:" + Bounded(path) + " " + reason);
    return std::nullopt;
  };
  struct stat info;
  if (path.empty() || path.front() != '/') return fail("must be an absolute path");
  if (stat(path.c_str(), &info) != 0) return fail("cannot be read");
  // Anything else, a pipe say, might never end.
  if (!S_ISREG(info.st_mode)) return fail("is not a regular file");
  std::ifstream in(path, std::ios::binary);
  std::string text(kMaxSecretBytes + 1, '\0');
  in.read(text.data(), static_cast<std::streamsize>(text.size()));
  if (!in.is_open() || in.bad()) return fail("cannot be read");
  text.resize(static_cast<size_t>(in.gcount()));
  if (text.size() > kMaxSecretBytes) return fail("is too large for a secret");
  while (!text.empty() && (text.back() == '\n' || text.back() == '\r')) text.pop_back();
  if (text.empty()) return fail("is empty");
  return text;
}

std::optional<std::string> Reader::Text(const Node& node, const std::string& key, Syntax syntax,
                                        bool secret) {
  if (!ExpectKind(node, Node::Kind::kScalar, "a single value", key)) return std::nullopt;
  if (syntax == Syntax::kText && node.plain && LooksLikeNonText(node.text)) {
    Fail(node.at, key, "must be a text: put it in quotes");
    return std::nullopt;
  }
  if (syntax == Syntax::kLiteral && !node.plain && node.text.find("${") == std::string::npos) {
    Fail(node.at, key, "must not be in quotes: a number or a truth value is expected");
    return std::nullopt;
  }
  std::optional<std::string> text = Expand(node, key);
  // By the file's own words: a variable's value is never taken for a path.
  if (text && secret && node.text.starts_with(kFilePrefix)) {
    text = ReadSecretFile(node, key, text->substr(kFilePrefix.size()));
  }
  if (text && FirstInvalidUtf8(*text)) {
    Fail(node.at, key, "is not valid UTF-8");
    return std::nullopt;
  }
  return text;
}

}  // namespace holdfast::server
