#include "cache/answer_agreement.h"

#include <algorithm>
#include <cstddef>
#include <iterator>
#include <set>
#include <string>

#include "cache/text.h"

namespace holdfast::cache {
namespace {

// Other numbers in a short answer are most of what it says; a long one has many by the way.
constexpr double kNumbersOfShort = 0.4;
constexpr double kNumbersOfLong = 0.15;
constexpr size_t kShortBytes = 200;
constexpr double kLength = 0.2;
constexpr double kUsualRatio = 0.25;  // of the lengths; from here down it counts

bool IsDigit(char c) { return c >= '0' && c <= '9'; }

// "1,000" and "1000" are one number, and so are "5" and "5.".
std::set<std::string> NumbersIn(std::string_view text) {
  std::set<std::string> numbers;
  for (size_t i = 0; i < text.size();) {
    if (!IsDigit(text[i])) {
      ++i;
      continue;
    }
    std::string number;
    for (; i < text.size(); ++i) {
      const bool inside = i + 1 < text.size() && IsDigit(text[i + 1]);
      if (IsDigit(text[i]) || (text[i] == '.' && inside)) {
        number += text[i];
      } else if (text[i] != ',' || !inside) {
        break;
      }
    }
    numbers.insert(std::move(number));
  }
  return numbers;
}

// Of the numbers in either, the part that both have; 1 if there are none.
double SharedNumbers(std::string_view a, std::string_view b) {
  const auto in_a = NumbersIn(a);
  const auto in_b = NumbersIn(b);
  std::set<std::string> both;
  std::set_intersection(in_a.begin(), in_a.end(), in_b.begin(), in_b.end(),
                        std::inserter(both, both.end()));
  const size_t either = in_a.size() + in_b.size() - both.size();
  return either == 0 ? 1 : static_cast<double>(both.size()) / static_cast<double>(either);
}

// 1 yes, -1 no, 0 neither.
int YesOrNo(std::string_view text) {
  const std::string start = NormalizeQuestion(text.substr(0, 8));
  const auto begins = [&start](std::string_view word) {
    if (start.substr(0, word.size()) != word) return false;
    const char next = start.size() > word.size() ? start[word.size()] : ' ';
    return next < 'a' || next > 'z';
  };
  return begins("yes") ? 1 : begins("no") ? -1 : 0;
}

}  // namespace

double AnswerAgreement(std::string_view stored, std::string_view fresh, double cosine) {
  if (stored == fresh) return 1;
  if (YesOrNo(stored) * YesOrNo(fresh) < 0) return 0;
  const auto shorter = static_cast<double>(std::min(stored.size(), fresh.size()));
  const auto longer =
      static_cast<double>(std::max<size_t>(1, std::max(stored.size(), fresh.size())));
  const double numbers = longer <= kShortBytes ? kNumbersOfShort : kNumbersOfLong;
  const double missing = std::max(0.0, 1 - shorter / longer / kUsualRatio);
  return cosine - numbers * (1 - SharedNumbers(stored, fresh)) - kLength * missing;
}

}  // namespace holdfast::cache
