#include "cache/verify/align.h"

#include <algorithm>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace holdfast::cache::verify {
namespace {

constexpr size_t kLongestFrame = 64;  // tokens; the frame of longer texts is that of their start

// Whether `limit` edits at most make one word of the other. `exchange`: a letter may stand for
// another one in a single edit.
bool WithinEdits(size_t limit, std::string_view a, std::string_view b, bool exchange) {
  if (a.size() > b.size()) std::swap(a, b);
  if (a.size() < 4 || b.size() - a.size() > limit || b.size() > 24 || a[0] != b[0]) return false;
  uint8_t rows[3][32] = {};
  for (size_t j = 0; j <= b.size(); ++j) rows[0][j] = static_cast<uint8_t>(j);
  for (size_t i = 1; i <= a.size(); ++i) {
    uint8_t* now = rows[i % 3];
    const uint8_t* last = rows[(i + 2) % 3];
    const uint8_t* before = rows[(i + 1) % 3];
    now[0] = static_cast<uint8_t>(i);
    for (size_t j = 1; j <= b.size(); ++j) {
      const int change = a[i - 1] == b[j - 1] ? 0 : exchange ? 1 : 3;
      int best = std::min({last[j] + 1, now[j - 1] + 1, last[j - 1] + change});
      if (i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1])
        best = std::min(best, before[j - 2] + 1);
      now[j] = static_cast<uint8_t>(best);
    }
  }
  return rows[a.size() % 3][b.size()] <= limit;
}

// One edit, or two in long words. An exchange between two unknown words is rather another name
// ("alkane, alkene").
bool NearlySame(std::string_view a, std::string_view b, bool exchange) {
  return WithinEdits(std::max(a.size(), b.size()) >= 8 ? 2 : 1, a, b, exchange);
}

class Aligner {
 public:
  Aligner(const Question& stored, const Question& asked) : a_(stored.tokens), b_(asked.tokens) {
    result_.partner_of_stored.assign(a_.size(), -1);
    result_.partner_of_asked.assign(b_.size(), -1);
  }

  Alignment Run() {
    Pair([](const Token& x, const Token& y) { return x.word.id == y.word.id; });
    Pair([](const Token& x, const Token& y) {
      return !x.function && !y.function && x.word.meaning == y.word.meaning;
    });
    Pair([](const Token& x, const Token& y) {
      return x.family.family != 0 && x.family.family == y.family.family &&
             x.family.member == y.family.member;
    });
    Pair([](const Token& x, const Token& y) {
      return !x.number && !y.number && x.unit != 0 && x.unit == y.unit;
    });
    // A misspelling is a word that nobody knows beside one that is nearly it.
    Pair([](const Token& x, const Token& y) {
      return !x.number && !y.number && !x.code && !y.code && (!x.word.common || !y.word.common) &&
             NearlySame(x.text, y.text, x.word.common || y.word.common);
    });
    PairParts(a_, result_.partner_of_stored, b_, result_.partner_of_asked);
    PairParts(b_, result_.partner_of_asked, a_, result_.partner_of_stored);
    PairInitials(a_, result_.partner_of_stored, b_, result_.partner_of_asked);
    PairInitials(b_, result_.partner_of_asked, a_, result_.partner_of_stored);
    MeasureFrame();
    CountMisspelt();
    return std::move(result_);
  }

 private:
  template <typename Same>
  void Pair(Same same) {
    for (size_t i = 0; i < a_.size(); ++i) {
      if (result_.partner_of_stored[i] >= 0) continue;
      for (size_t j = 0; j < b_.size(); ++j) {
        if (result_.partner_of_asked[j] >= 0 || !same(a_[i], b_[j])) continue;
        result_.partner_of_stored[i] = static_cast<int>(j);
        result_.partner_of_asked[j] = static_cast<int>(i);
        break;
      }
    }
  }

  // "check in" and "checkin".
  static void PairParts(const std::vector<Token>& parts, std::vector<int>& of_parts,
                        const std::vector<Token>& wholes, std::vector<int>& of_wholes) {
    for (size_t i = 0; i + 1 < parts.size(); ++i) {
      if (of_parts[i] >= 0 && of_parts[i + 1] >= 0) continue;
      const size_t size = parts[i].text.size() + parts[i + 1].text.size();
      for (size_t j = 0; j < wholes.size(); ++j) {
        const std::string& whole = wholes[j].text;
        if (of_wholes[j] >= 0 || whole.size() != size || !whole.starts_with(parts[i].text) ||
            !whole.ends_with(parts[i + 1].text))
          continue;
        of_wholes[j] = static_cast<int>(i);
        of_parts[i] = of_parts[i + 1] = static_cast<int>(j);
      }
    }
  }

  // "game of thrones" and "got".
  static void PairInitials(const std::vector<Token>& words, std::vector<int>& of_words,
                           const std::vector<Token>& wholes, std::vector<int>& of_wholes) {
    for (size_t j = 0; j < wholes.size(); ++j) {
      const std::string& whole = wholes[j].text;
      if (of_wholes[j] >= 0 || whole.size() < 2 || whole.size() > 5) continue;
      for (size_t i = 0; i + whole.size() <= words.size(); ++i) {
        bool same = of_words[i] < 0 && words[i].word.weight > 0;
        for (size_t k = 0; k < whole.size() && same; ++k)
          same = words[i + k].text[0] == whole[k] && words[i + k].text.size() > 1;
        if (!same) continue;
        of_wholes[j] = static_cast<int>(i);
        for (size_t k = 0; k < whole.size(); ++k) of_words[i + k] = static_cast<int>(j);
        break;
      }
    }
  }

  // Stricter than for partners, since it speaks for serving: one letter too many, too few or in its
  // neighbour's place, in a word that nobody knows and that is no name; and none where words have
  // changed places, for more misspelt words are no proof against "from A to B" and "from B to A".
  void CountMisspelt() {
    int last = -1;
    for (const int partner : result_.partner_of_stored) {
      if (partner >= 0 && partner < last) return;
      last = std::max(last, partner);
    }
    const auto unknown = [](const Token& x) {
      return !x.word.common && !x.named && !x.number && !x.code && x.family.family == 0;
    };
    for (size_t i = 0; i < a_.size(); ++i) {
      if (result_.partner_of_stored[i] < 0) continue;
      const Token& x = a_[i];
      const Token& y = b_[static_cast<size_t>(result_.partner_of_stored[i])];
      const bool one = unknown(x) ? y.word.common : unknown(y) && x.word.common;
      if (one && x.text != y.text && WithinEdits(1, x.text, y.text, false)) ++result_.misspelt;
    }
  }

  // The longest common subsequence; between its members, what differs stands in the same place.
  void MeasureFrame() {
    const size_t n = std::min(a_.size(), kLongestFrame);
    const size_t m = std::min(b_.size(), kLongestFrame);
    if (n == 0 || m == 0) return;
    static thread_local uint8_t length[kLongestFrame + 1][kLongestFrame + 1];
    for (size_t i = 0; i <= n; ++i) length[i][m] = 0;
    for (size_t j = 0; j <= m; ++j) length[n][j] = 0;
    for (size_t i = n; i-- > 0;) {
      for (size_t j = m; j-- > 0;) {
        length[i][j] = Same(i, j) ? static_cast<uint8_t>(length[i + 1][j + 1] + 1)
                                  : std::max(length[i + 1][j], length[i][j + 1]);
      }
    }
    result_.frame = 2.0f * length[0][0] / static_cast<float>(n + m);
    float alone_a = 0;
    float alone_b = 0;
    size_t i = 0;
    size_t j = 0;
    const auto close = [&] {
      const float both = std::min(alone_a, alone_b);
      result_.substituted += both;
      result_.added_stored += alone_a - both;
      result_.added_asked += alone_b - both;
      alone_a = alone_b = 0;
    };
    while (i < n || j < m) {
      if (i < n && j < m && Same(i, j)) {
        close();
        ++i;
        ++j;
      } else if (j == m || (i < n && length[i + 1][j] >= length[i][j + 1])) {
        if (result_.partner_of_stored[i] < 0) Leave(a_[i], alone_a, result_.added_names);
        ++i;
      } else {
        if (result_.partner_of_asked[j] < 0) Leave(b_[j], alone_b, result_.added_names);
        ++j;
      }
    }
    close();
  }

  // What is told before or behind the question itself says little about what is asked.
  static void Leave(const Token& token, float& alone, float& names) {
    if (token.context) return;
    alone += token.word.weight;
    if (token.named || token.code || token.family.family != 0) names += token.word.weight;
  }

  bool Same(size_t i, size_t j) const {
    return a_[i].word.id == b_[j].word.id || result_.partner_of_stored[i] == static_cast<int>(j);
  }

  const std::vector<Token>& a_;
  const std::vector<Token>& b_;
  Alignment result_;
};

}  // namespace

Alignment Align(const Question& stored, const Question& asked) {
  return Aligner(stored, asked).Run();
}

}  // namespace holdfast::cache::verify
