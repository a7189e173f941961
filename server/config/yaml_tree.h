#pragma once

// A YAML file as a small tree in which every value and every key knows where it stands. Stricter
// than YAML: anchors, aliases, tags, several documents, control characters and deep nesting are
// faults, so that each setting stands in exactly one place and no file can blow up. Pure.

#include <string>
#include <string_view>
#include <vector>

namespace holdfast::server {

struct Position {
  int line = 0;    // from 1; 0 = the file as a whole
  int column = 0;  // from 1, in characters

  friend auto operator<=>(const Position&, const Position&) = default;
};

// Why a configuration is refused.
struct Fault {
  std::string file;  // or the flag it came by: "--listen"
  Position at;
  std::string key;  // "routes[0].chain[1].share"; empty = the file as a whole
  std::string reason;
};

struct Member;

struct Node {
  enum class Kind { kNull, kScalar, kSequence, kMap, kBroken };  // broken: already reported
  Kind kind = Kind::kNull;
  Position at;
  std::string text;    // of a scalar
  bool plain = false;  // a scalar without quotes
  std::vector<Node> items;
  std::vector<Member> members;  // in order; duplicates included
};

struct Member {
  std::string key;
  Position at;
  Node value;
};

inline constexpr size_t kMaxFileBytes = 4 << 20;
inline constexpr size_t kMaxDepth = 32;

// The tree; kBroken where there is none. Adds to `faults`; never throws.
Node ParseYaml(const std::string& file, const std::string& text, std::vector<Fault>& faults);

}  // namespace holdfast::server
