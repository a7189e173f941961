#pragma once

// What a load in progress knows: the environment, the faults and warnings so far, and where each
// key was written. The key table (keys.h) reads through it, the cross checks (checks.h) ask it.

#include <cstddef>
#include <functional>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <vector>

#include "server/config/yaml_tree.h"

namespace holdfast::server {

// The value of an environment variable; nothing if it is unset.
using Environment = std::function<std::optional<std::string>(const std::string& name)>;

// How a scalar may be written.
enum class Syntax {
  kText,     // unquoted text that YAML takes for a number, truth value or null is refused
  kLiteral,  // a number or truth value: not in quotes, unless it is a ${NAME}
  kAny,
};

class Reader {
 public:
  Reader(std::string file, const Environment& environment)
      : file_(std::move(file)), environment_(environment) {}

  // A fault at a node of the tree.
  void Fail(const Position& at, const std::string& key, std::string reason);
  // A fault of a key, or of the nearest enclosing one that was written. Silent if the key has one
  // already: the first reason is the cause.
  void FailKey(const std::string& key, std::string reason);
  void Warn(const std::string& key, const std::string& text);

  void Place(const std::string& key, const Position& at) { places_[key] = {file_, at}; }
  bool Written(const std::string& key) const { return places_.contains(key); }
  // Names of what was written below `key`: "open", "budget.tokens".
  std::set<std::string> WrittenBelow(const std::string& key) const;
  // Whether the key, or anything below it, has a fault.
  bool Faulty(const std::string& key) const;

  // While it lives, faults are reported as of `name` ("--listen") instead of the file.
  class Source {
   public:
    Source(Reader& reader, std::string name) : reader_(reader), saved_(std::move(reader.file_)) {
      reader_.file_ = std::move(name);
    }
    ~Source() { reader_.file_ = std::move(saved_); }
    Source(const Source&) = delete;
    Source& operator=(const Source&) = delete;

   private:
    Reader& reader_;
    std::string saved_;
  };

  // The members of a map by name; unknown and duplicate keys are reported. Empty `known`: any.
  std::map<std::string, const Node*> Members(const Node& node, const std::string& key,
                                             const std::set<std::string>& known);
  bool ExpectMap(const Node& node, const std::string& key);
  bool ExpectList(const Node& node, const std::string& key);

  // The scalar's text with every ${NAME} replaced and, for a secret, a file: reference read.
  std::optional<std::string> Text(const Node& node, const std::string& key, Syntax syntax,
                                  bool secret);

  std::vector<Fault> TakeFaults() { return std::move(faults_); }
  bool full() const { return full_; }  // there were more faults than are kept
  std::vector<std::string> TakeWarnings() { return std::move(warnings_); }

 private:
  struct Where {
    std::string file;
    Position at;
  };

  void Add(Fault fault);
  bool ExpectKind(const Node& node, Node::Kind kind, const char* wanted, const std::string& key);
  const Where& WhereOf(const std::string& key) const;
  std::optional<std::string> Expand(const Node& node, const std::string& key);
  std::optional<std::string> ReadSecretFile(const Node& node, const std::string& key,
                                            const std::string& path);

  std::string file_;
  const Environment& environment_;
  std::map<std::string, Where> places_;
  std::vector<Fault> faults_;
  bool full_ = false;
  std::set<std::string> faulty_;
  std::vector<std::string> warnings_;
};

std::string FormatPlace(const std::string& file, const Position& at);
std::string Child(const std::string& parent, const std::string& name);

}  // namespace holdfast::server
