#include "server/config/yaml_tree.h"

#include <yaml-cpp/eventhandler.h>
#include <yaml-cpp/exceptions.h>
#include <yaml-cpp/parser.h>

#include <exception>
#include <optional>
#include <sstream>
#include <utility>

#include "server/config/values.h"

namespace holdfast::server {
namespace {

// The source by lines, to turn yaml-cpp's byte columns into characters.
class Source {
 public:
  explicit Source(const std::string& text) : text_(text) {
    starts_.push_back(0);
    for (size_t i = 0; i < text.size(); ++i) {
      if (text[i] == '\n') starts_.push_back(i + 1);
    }
  }

  // From offsets that count from 0, the column in bytes.
  Position At(int line, int column) const {
    if (line < 0 || column < 0) return {};
    return {line + 1, Characters(LineText(line).substr(0, static_cast<size_t>(column))) + 1};
  }

  Position AtOffset(size_t offset) const {
    size_t line = starts_.size() - 1;
    while (starts_[line] > offset) --line;
    return At(static_cast<int>(line), static_cast<int>(offset - starts_[line]));
  }

  std::string_view LineText(int line) const {
    if (static_cast<size_t>(line) >= starts_.size()) return {};
    const std::string_view rest = std::string_view(text_).substr(starts_[line]);
    return rest.substr(0, rest.find('\n'));
  }

  // yaml-cpp takes a quoted text that never ends for one that ends with the file.
  bool QuoteEnds(int line, int column) const {
    const size_t open = starts_[line] + static_cast<size_t>(column);
    if (open >= text_.size()) return true;
    const char quote = text_[open];
    if (quote != '"' && quote != '\'') return true;
    for (size_t i = open + 1; i < text_.size(); ++i) {
      if (quote == '"' && text_[i] == '\\') {
        ++i;
      } else if (text_[i] == quote) {
        if (quote == '"' || i + 1 >= text_.size() || text_[i + 1] != '\'') return true;
        ++i;
      }
    }
    return false;
  }

 private:
  static int Characters(std::string_view bytes) {
    int count = 0;
    for (const char c : bytes) count += (static_cast<unsigned char>(c) & 0xC0) != 0x80;
    return count;
  }

  const std::string& text_;
  std::vector<size_t> starts_;
};

// Thrown out of the parser, which cannot be stopped otherwise; never leaves this file.
struct Stop : std::exception {};

class Builder final : public YAML::EventHandler {
 public:
  Builder(const std::string& file, const Source& source, std::vector<Fault>& faults)
      : file_(file), source_(source), faults_(faults) {}

  void OnDocumentStart(const YAML::Mark& mark) override {
    if (++documents_ == 1) return;
    Fail(mark, "one file holds one document; here a second one begins");
    throw Stop();  // on some malformed texts yaml-cpp finds documents without end
  }
  void OnDocumentEnd() override {}

  void OnNull(const YAML::Mark& mark, YAML::anchor_t anchor) override {
    CheckAnchor(mark, anchor);
    Add(mark, MakeNode(Node::Kind::kNull, mark));
  }

  void OnAlias(const YAML::Mark& mark, YAML::anchor_t) override {
    Fail(mark, "aliases (*name) are not supported: write the value out");
    Add(mark, MakeNode(Node::Kind::kBroken, mark));
  }

  void OnScalar(const YAML::Mark& mark, const std::string& tag, YAML::anchor_t anchor,
                const std::string& value) override {
    CheckAnchor(mark, anchor);
    CheckTag(mark, tag);
    Node node = MakeNode(Node::Kind::kScalar, mark);
    node.text = value;
    node.plain = tag == "?" || tag.empty();
    if (!node.plain && !source_.QuoteEnds(mark.line, mark.column)) {
      Fail(mark, "the quote that opens here is never closed");
      node.kind = Node::Kind::kBroken;
    }
    Add(mark, std::move(node));
  }

  void OnSequenceStart(const YAML::Mark& mark, const std::string& tag, YAML::anchor_t anchor,
                       YAML::EmitterStyle::value) override {
    Open(Node::Kind::kSequence, mark, tag, anchor);
  }
  void OnSequenceEnd() override { Close(); }

  void OnMapStart(const YAML::Mark& mark, const std::string& tag, YAML::anchor_t anchor,
                  YAML::EmitterStyle::value) override {
    Open(Node::Kind::kMap, mark, tag, anchor);
  }
  void OnMapEnd() override { Close(); }

  std::optional<Node> TakeRoot() { return std::move(root_); }

 private:
  struct Frame {
    YAML::Mark mark;
    Node node;
    std::optional<Member> pending;  // a key that waits for its value
  };

  Position At(const YAML::Mark& mark) const { return source_.At(mark.line, mark.column); }

  void Fail(const YAML::Mark& mark, std::string reason) {
    constexpr size_t kMost = 100;
    if (faults_.size() < kMost) faults_.push_back({file_, At(mark), "", std::move(reason)});
  }

  Node MakeNode(Node::Kind kind, const YAML::Mark& mark) const {
    Node node;
    node.kind = kind;
    node.at = At(mark);
    return node;
  }

  void CheckAnchor(const YAML::Mark& mark, YAML::anchor_t anchor) {
    if (anchor != 0) Fail(mark, "anchors (&name) are not supported: write the value out");
  }

  void CheckTag(const YAML::Mark& mark, const std::string& tag) {
    if (!tag.empty() && tag != "?" && tag != "!") Fail(mark, "tags (!name) are not supported");
  }

  void Open(Node::Kind kind, const YAML::Mark& mark, const std::string& tag,
            YAML::anchor_t anchor) {
    if (stack_.size() >= kMaxDepth) {
      Fail(mark, "nested more than " + std::to_string(kMaxDepth) + " deep");
      throw Stop();
    }
    CheckAnchor(mark, anchor);
    CheckTag(mark, tag);
    stack_.push_back({mark, MakeNode(kind, mark), std::nullopt});
  }

  void Close() {
    Frame frame = std::move(stack_.back());
    stack_.pop_back();
    Add(frame.mark, std::move(frame.node));
  }

  void Add(const YAML::Mark& mark, Node node) {
    if (stack_.empty()) {
      if (!root_) root_ = std::move(node);
      return;
    }
    Frame& parent = stack_.back();
    if (parent.node.kind == Node::Kind::kSequence) {
      parent.node.items.push_back(std::move(node));
    } else if (!parent.pending) {
      if (node.kind != Node::Kind::kScalar) Fail(mark, "a key must be a plain text");
      parent.pending = Member{std::move(node.text), node.at, {}};
      if (node.kind != Node::Kind::kScalar) parent.pending->key.clear();
    } else {
      // An empty value has no place of its own; its key has.
      if (node.kind == Node::Kind::kNull) node.at = parent.pending->at;
      parent.pending->value = std::move(node);
      // A nameless key has been reported.
      if (!parent.pending->key.empty()) parent.node.members.push_back(std::move(*parent.pending));
      parent.pending.reset();
    }
  }

  const std::string& file_;
  const Source& source_;
  std::vector<Fault>& faults_;
  std::vector<Frame> stack_;
  std::optional<Node> root_;
  int documents_ = 0;
};

Node Broken() {
  Node node;
  node.kind = Node::Kind::kBroken;
  return node;
}

// What yaml-cpp would misread or silently stop at.
bool CheckBytes(const std::string& file, const std::string& text, const Source& source,
                std::vector<Fault>& faults) {
  if (text.size() > kMaxFileBytes) {
    faults.push_back({file, {}, "", "the file is larger than " + FormatSize(kMaxFileBytes)});
    return false;
  }
  if (const auto bad = FirstInvalidUtf8(text)) {
    faults.push_back({file, source.AtOffset(*bad), "", "the file is not valid UTF-8"});
    return false;
  }
  for (size_t i = 0; i < text.size(); ++i) {
    const auto c = static_cast<unsigned char>(text[i]);
    if ((c < 0x20 && c != '\t' && c != '\n' && c != '\r') || c == 0x7F) {
      faults.push_back({file, source.AtOffset(i), "", "a control character is not allowed"});
      return false;
    }
  }
  return true;
}

Fault SyntaxFault(const std::string& file, const Source& source, const YAML::Exception& error) {
  std::string reason = "not valid YAML: " + error.msg;
  const int line = error.mark.line;
  if (line >= 0 && source.LineText(line).find("${") != std::string_view::npos) {
    reason += " (inside { } and [ ] write \"${NAME}\" in quotes)";
  } else if (line >= 0 && source.LineText(line).find('\t') != std::string_view::npos) {
    reason += " (YAML is not indented by tabs)";
  }
  return {file, source.At(line, error.mark.column), "", std::move(reason)};
}

}  // namespace

Node ParseYaml(const std::string& file, const std::string& text, std::vector<Fault>& faults) {
  const Source source(text);
  if (!CheckBytes(file, text, source, faults)) return Broken();
  const size_t before = faults.size();
  try {
    std::istringstream in(text);
    YAML::Parser parser(in);
    Builder builder(file, source, faults);
    while (parser.HandleNextDocument(builder)) {
    }
    std::optional<Node> root = builder.TakeRoot();
    if (root && root->kind != Node::Kind::kNull) return std::move(*root);
    if (faults.size() == before) faults.push_back({file, {1, 1}, "", "the file is empty"});
  } catch (const Stop&) {
    // reported
  } catch (const YAML::Exception& error) {
    faults.push_back(SyntaxFault(file, source, error));
  } catch (const std::exception&) {
    faults.push_back({file, {}, "", "the file could not be parsed"});
  }
  return Broken();
}

}  // namespace holdfast::server
