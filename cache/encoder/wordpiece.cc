#include "cache/encoder/wordpiece.h"

#include <algorithm>
#include <array>
#include <optional>
#include <string>

#include "cache/encoder/unicode_tables.h"

namespace holdfast::cache {

namespace {

constexpr size_t kMaxWordChars = 100;  // a longer word is unknown
constexpr std::string_view kContinuation = "##";
constexpr std::array<std::string_view, 5> kSpecials = {"[PAD]", "[UNK]", "[CLS]", "[SEP]",
                                                       "[MASK]"};
constexpr size_t kLongestSpecial = 6;

constexpr char32_t kFirstHangul = 0xAC00;
constexpr char32_t kLastHangul = 0xD7A3;

bool Contains(std::span<const CodeRange> ranges, char32_t code) {
  const auto after = std::ranges::upper_bound(ranges, code, {}, &CodeRange::first);
  return after != ranges.begin() && code <= std::prev(after)->last;
}

// The code point that starts at `at`, which moves behind it; nothing if it is not UTF-8 there.
std::optional<char32_t> NextCode(std::string_view text, size_t& at) {
  const auto byte = [&](size_t i) { return static_cast<unsigned char>(text[i]); };
  const unsigned lead = byte(at);
  if (lead < 0x80) return text[at++];
  const size_t size = lead >= 0xF0 ? 4 : lead >= 0xE0 ? 3 : 2;
  if (lead < 0xC2 || lead > 0xF4 || text.size() - at < size) return std::nullopt;
  char32_t code = lead & (0x7Fu >> size);
  for (size_t i = 1; i < size; ++i) {
    if ((byte(at + i) & 0xC0u) != 0x80) return std::nullopt;
    code = code << 6 | (byte(at + i) & 0x3Fu);
  }
  constexpr std::array<char32_t, 5> kLeast = {0, 0, 0x80, 0x800, 0x10000};
  if (code < kLeast[size] || code > 0x10FFFF || (code >= 0xD800 && code < 0xE000)) {
    return std::nullopt;
  }
  at += size;
  return code;
}

void Append(std::string& text, char32_t code) {
  const auto put = [&](char32_t byte) { text.push_back(static_cast<char>(byte)); };
  if (code < 0x80) {
    put(code);
  } else if (code < 0x800) {
    put(0xC0 | code >> 6);
    put(0x80 | (code & 0x3F));
  } else if (code < 0x10000) {
    put(0xE0 | code >> 12);
    put(0x80 | (code >> 6 & 0x3F));
    put(0x80 | (code & 0x3F));
  } else {
    put(0xF0 | code >> 18);
    put(0x80 | (code >> 12 & 0x3F));
    put(0x80 | (code >> 6 & 0x3F));
    put(0x80 | (code & 0x3F));
  }
}

// The code points that stand for `code` in lower case and without accents; 0 ends them.
std::array<char32_t, 4> Plain(char32_t code) {
  if (code >= kFirstHangul && code <= kLastHangul) {
    const char32_t index = code - kFirstHangul;
    const char32_t last = index % 28;
    return {0x1100 + index / 588, 0x1161 + index % 588 / 28, last ? 0x11A7 + last : 0, 0};
  }
  const auto found = std::ranges::lower_bound(kMapped, code, {}, &CodeMapping::from);
  if (found == kMapped.end() || found->from != code) return {code, 0, 0, 0};
  return {found->to[0], found->to[1], found->to[2], 0};
}

absl::Status CheckUtf8(std::string_view text) {
  for (size_t at = 0; at < text.size();) {
    if (!NextCode(text, at)) {
      return absl::InvalidArgumentError("the text is not UTF-8 at byte " + std::to_string(at));
    }
  }
  return absl::OkStatus();
}

}  // namespace

// One text on its way to ids.
class WordPiece::Run {
 public:
  Run(const WordPiece& pieces, size_t longest) : pieces_(pieces), room_(longest - 2) {
    tokens_.ids.push_back(pieces.first_);
  }

  Tokens Encode(std::string_view text) && {
    for (size_t at = 0; at < text.size() && !tokens_.cut;) {
      if (text[at] == '[' && TakeSpecial(text, at)) continue;
      Take(*NextCode(text, at));
    }
    EndWord();
    if (tokens_.ids.size() > room_ + 1) tokens_.ids.resize(room_ + 1);
    tokens_.ids.push_back(pieces_.last_);
    return std::move(tokens_);
  }

 private:
  bool TakeSpecial(std::string_view text, size_t& at) {
    const std::string_view near = text.substr(at, kLongestSpecial);
    const auto found = pieces_.specials_.find(near.substr(0, near.find(']') + 1));
    if (found == pieces_.specials_.end()) return false;
    EndWord();
    Put(found->second);
    at += found->first.size();
    return true;
  }

  void Take(char32_t code) {
    if (code > ' ' && code < 0x7F)
      return TakePlain(code >= 'A' && code <= 'Z' ? code | 0x20 : code);
    if (Contains(kSpaces, code)) return EndWord();
    if (Contains(kDropped, code)) return;
    const bool isolated = Contains(kIsolated, code);
    if (isolated) EndWord();
    for (const char32_t plain : Plain(code)) {
      if (plain == 0) break;
      TakePlain(plain);
    }
    if (isolated) EndWord();
  }

  void TakePlain(char32_t code) {
    if (code < 0x80 ? IsAsciiPunctuation(code) : Contains(kPunctuation, code)) {
      EndWord();
      AddToWord(code);
      EndWord();
    } else {
      AddToWord(code);
    }
  }

  static bool IsAsciiPunctuation(char32_t code) {
    return !((code >= '0' && code <= '9') || (code >= 'a' && code <= 'z'));
  }

  void AddToWord(char32_t code) {
    if (++word_chars_ <= kMaxWordChars) Append(word_, code);
  }

  void EndWord() {
    if (word_chars_ == 0) return;
    const size_t before = tokens_.ids.size();
    if (word_chars_ > kMaxWordChars || !PutPieces()) {
      tokens_.ids.resize(before);
      Put(pieces_.unknown_);
    }
    if (tokens_.ids.size() > room_ + 1) tokens_.cut = true;
    word_.clear();
    word_chars_ = 0;
  }

  bool PutPieces() {
    std::string_view rest = word_;
    while (!rest.empty()) {
      const Pieces& known = rest.size() == word_.size() ? pieces_.starts_ : pieces_.continues_;
      size_t size = std::min(rest.size(), pieces_.longest_piece_);
      auto found = known.find(rest.substr(0, size));
      while (found == known.end() && size > 1) found = known.find(rest.substr(0, --size));
      if (found == known.end()) return false;
      tokens_.ids.push_back(found->second);
      rest.remove_prefix(size);
    }
    return true;
  }

  void Put(int32_t id) {
    tokens_.ids.push_back(id);
    if (tokens_.ids.size() > room_ + 1) tokens_.cut = true;
  }

  const WordPiece& pieces_;
  const size_t room_;  // for ids beside [CLS] and [SEP]
  Tokens tokens_;
  std::string word_;
  size_t word_chars_ = 0;
};

absl::StatusOr<WordPiece> WordPiece::Create(std::string_view vocabulary) {
  WordPiece pieces;
  if (const absl::Status checked = CheckUtf8(vocabulary); !checked.ok()) return checked;
  while (!vocabulary.empty()) {
    const size_t end = std::min(vocabulary.find('\n'), vocabulary.size());
    std::string_view piece = vocabulary.substr(0, end);
    vocabulary.remove_prefix(std::min(end + 1, vocabulary.size()));
    const auto id = static_cast<int32_t>(pieces.size_++);
    if (std::ranges::find(kSpecials, piece) != kSpecials.end()) pieces.specials_[piece] = id;
    pieces.starts_.emplace(piece, id);
    if (piece.starts_with(kContinuation)) {
      piece.remove_prefix(kContinuation.size());
      pieces.continues_.emplace(piece, id);
    }
    pieces.longest_piece_ = std::max(pieces.longest_piece_, piece.size());
  }
  for (const auto& [name, id] :
       {std::pair{"[UNK]", &pieces.unknown_}, std::pair{"[CLS]", &pieces.first_},
        std::pair{"[SEP]", &pieces.last_}}) {
    const auto found = pieces.specials_.find(name);
    if (found == pieces.specials_.end()) {
      return absl::InvalidArgumentError("the vocabulary has no " + std::string(name));
    }
    *id = found->second;
  }
  return pieces;
}

absl::StatusOr<Tokens> WordPiece::Encode(std::string_view text, size_t longest) const {
  if (const absl::Status checked = CheckUtf8(text); !checked.ok()) return checked;
  return Run(*this, longest).Encode(text);
}

}  // namespace holdfast::cache
