#include "cache/verify/findings.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstdint>
#include <initializer_list>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "cache/verify/align.h"

namespace holdfast::cache::verify {
namespace {

// kWeights: [kFeatures], in the order of Feature; kBias; kCalibration: {raw score, similarity}
// points, both rising.
#include "cache/verify/weights.inc"

constexpr std::array<FeatureInfo, kFeatures> kTable = {{
    {Feature::kCosine, "cosine", +1, "the meanings lie apart"},
    {Feature::kCosineNear, "cosine_near", +1, "the meanings lie apart"},
    {Feature::kMisspelt, "misspelt", +1, "the same words, not all spelt right"},
    {Feature::kAddedAsked, "added_asked", -1,
     "the same wording with something added in the asked question"},
    {Feature::kAddedStored, "added_stored", -1,
     "the same wording with something added in the stored question"},
    {Feature::kAddedNames, "added_names", -1, "the same wording with another name in it"},
    {Feature::kContext, "context", -1, "another situation is told"},
    {Feature::kNamesAsked, "names_asked", -1,
     "the asked question names something that the stored one does not"},
    {Feature::kNamesStored, "names_stored", -1,
     "the stored question names something that the asked one does not"},
    {Feature::kNamesDiffer, "names_differ", -1, "each names something that the other does not"},
    {Feature::kSiblings, "siblings", -1, "another one of the same kind of thing"},
    {Feature::kSubstitution, "substitution", -1, "the same wording about something else"},
    {Feature::kNumbersDiffer, "numbers_differ", -1, "other numbers"},
    {Feature::kNumberOneSided, "number_one_sided", -1, "a number on one side only"},
    {Feature::kVersionOneSided, "version_one_sided", -1, "a version or a year on one side only"},
    {Feature::kUnitsDiffer, "units_differ", -1, "other units"},
    {Feature::kCodesDiffer, "codes_differ", -1, "other codes or versions"},
    {Feature::kNegation, "negation", -1, "a negation on one side only"},
    {Feature::kOpposites, "opposites", -1, "opposites"},
    {Feature::kRolesSwapped, "roles_swapped", -1, "the same words with their roles swapped"},
    {Feature::kDirection, "direction", -1, "from and to exchanged"},
    {Feature::kConditionAsked, "condition_asked", -1,
     "the asked question has a condition that the stored one lacks"},
    {Feature::kConditionStored, "condition_stored", -1,
     "the stored question has a condition that the asked one lacks"},
    {Feature::kQualifierAsked, "qualifier_asked", -1, "the asked question is narrowed or widened"},
    {Feature::kQualifierStored, "qualifier_stored", -1,
     "the stored question is narrowed or widened"},
    {Feature::kKindDiffers, "kind_differs", -1, "another kind of question"},
    {Feature::kKindLoose, "kind_loose", -1, "asked for in another way"},
    {Feature::kQuestionWord, "question_word", -1, "the same words behind another question word"},
    {Feature::kYesNo, "yes_no", -1, "only one asks for yes or no"},
    {Feature::kFormDiffers, "form_differs", -1, "another form of answer"},
    {Feature::kTaskDiffers, "task_differs", -1, "another task"},
    {Feature::kAnswerLanguage, "answer_language", -1, "an answer in, or about, another language"},
    {Feature::kLanguage, "language", -1, "written in another language"},
    {Feature::kPointsAsked, "points_asked", -1, "the asked question points at something unseen"},
    {Feature::kPointsStored, "points_stored", -1, "the stored question points at something unseen"},
    {Feature::kPointsOneSided, "points_one_sided", -1, "only one points at something at hand"},
    {Feature::kTime, "time", -1, "another time"},
    {Feature::kQuoted, "quoted", -1, "another quoted text"},
}};

// What the unpaired words of one side add up to.
struct Leftover {
  float words = 0;
  float names = 0;
  float conditions = 0;
  float context = 0;
  int numbers = 0;
  int years = 0;
  int versions = 0;  // numbers right behind a name
  int codes = 0;
  std::vector<const Token*> tokens;
};

bool IsName(const Token& token) { return token.named || token.code || token.family.family != 0; }

Leftover LeftoverOf(const Question& question, const std::vector<int>& partners) {
  Leftover left;
  for (size_t i = 0; i < question.tokens.size(); ++i) {
    const Token& token = question.tokens[i];
    if (partners[i] >= 0) continue;
    const bool negation = IsNegation(token.text);
    if (token.function && token.family.family == 0 && PolesOf(token.text).empty() && !negation)
      continue;
    left.tokens.push_back(&token);
    if (token.number) {
      ++left.numbers;
      left.years += token.year ? 1 : 0;
      left.versions += i > 0 && IsName(question.tokens[i - 1]) ? 1 : 0;
      continue;
    }
    if (token.function || negation) continue;
    left.codes += token.code ? 1 : 0;
    if (token.context) {
      left.context += token.word.weight;
      continue;
    }
    (IsName(token) ? left.names : left.words) += token.word.weight;
    if (token.after_preposition) left.conditions += token.word.weight;
  }
  return left;
}

float Saturated(float x) { return std::log1p(x); }

bool Siblings(const Token& a, const Token& b) {
  return a.family.family != 0 && a.family.family == b.family.family &&
         a.family.member != b.family.member;
}

bool Opposite(const Token& a, const Token& b) {
  for (const Pole& x : PolesOf(a.text)) {
    for (const Pole& y : PolesOf(b.text)) {
      if (x.pair == y.pair && x.side != y.side) return true;
    }
  }
  return false;
}

template <typename Relation>
int CountRelated(const Leftover& stored, const Leftover& asked, Relation related) {
  int count = 0;
  for (const Token* a : stored.tokens) {
    count += std::any_of(asked.tokens.begin(), asked.tokens.end(),
                         [&](const Token* b) { return related(*a, *b); })
                 ? 1
                 : 0;
  }
  return count;
}

bool UnitsDiffer(const Leftover& stored, const Leftover& asked) {
  return CountRelated(stored, asked, [](const Token& a, const Token& b) {
           return a.unit != 0 && b.unit != 0 && a.unit != b.unit;
         }) > 0;
}

bool IsArticle(std::string_view text) {
  return text == "the" || text == "a" || text == "an" || text == "my" || text == "your";
}

// "Paracetamol and ibuprofen": the order says nothing. Nor does it in "free video editing
// software", where nothing stands between but what they are made of.
bool Joined(const Question& question, size_t x, size_t y) {
  bool only_content = true;
  for (size_t i = x + 1; i < y; ++i) {
    if (question.tokens[i].text == "and") return true;
    only_content = only_content && !question.tokens[i].function;
  }
  return only_content;
}

// How many words the two have in the same order, when two partners of stored words change places.
size_t WordsInOrder(std::vector<int> partners, size_t x, size_t y) {
  std::swap(partners[x], partners[y]);
  std::vector<int> rising;  // the last partner of the best run of each length
  for (const int partner : partners) {
    if (partner < 0) continue;
    const auto at = std::lower_bound(rising.begin(), rising.end(), partner);
    if (at == rising.end()) {
      rising.push_back(partner);
    } else {
      *at = partner;
    }
  }
  return rising.size();
}

// As far there as back.
constexpr std::initializer_list<std::string_view> kDistances = {"distance", "far"};

bool Mentions(const Question& question, std::initializer_list<std::string_view> words) {
  return std::any_of(question.tokens.begin(), question.tokens.end(), [&](const Token& token) {
    return std::find(words.begin(), words.end(), token.text) != words.end();
  });
}

// Two words that stand in each other's place: "What did Freud think of Jung?" A clause that only
// moved puts more than two words out of order, and exchanging two of them does not help.
bool RolesSwapped(const Question& stored, const Question& asked, const Alignment& alignment,
                  float leftover) {
  constexpr size_t kMostTokens = 48;
  constexpr float kLeastFrame = .5f;
  if (leftover > 1.2f || alignment.frame < kLeastFrame || stored.tokens.size() > kMostTokens)
    return false;
  if (Mentions(asked, {"vs", "versus", "or", "difference", "between", "compare"}) ||
      Mentions(asked, kDistances))
    return false;
  // Articles go where they must.
  std::vector<int> partners = alignment.partner_of_stored;
  for (size_t i = 0; i < partners.size(); ++i) {
    if (IsArticle(stored.tokens[i].text)) partners[i] = -1;
  }
  const size_t in_order = WordsInOrder(partners, 0, 0);
  for (size_t x = 0; x < partners.size(); ++x) {
    if (partners[x] < 0 || stored.tokens[x].function) continue;
    for (size_t y = x + 2; y < partners.size(); ++y) {
      if (partners[y] < 0 || partners[y] > partners[x] || stored.tokens[y].function) continue;
      if (Joined(stored, x, y)) continue;
      if (WordsInOrder(partners, x, y) >= in_order + 2) return true;
    }
  }
  return false;
}

// What stands at each end of a movement or a conversion: from it, or to it.
struct Ends {
  std::vector<uint64_t> from;
  std::vector<uint64_t> to;
  std::vector<uint64_t> before_to;  // the start, where no "from" says it
};

// "in" ends a movement only where something is measured or worded anew: "100°F in Celsius".
bool LeadsTo(const std::vector<Token>& tokens, size_t i) {
  const std::string& text = tokens[i].text;
  if (text == "to" || text == "into" || text == "onto") return true;
  return text == "in" && i + 1 < tokens.size() &&
         (tokens[i + 1].unit != 0 || tokens[i + 1].text == "degrees");
}

// The words of one end: "from a CSV file", from `at` on.
void ReadEnd(const std::vector<Token>& tokens, size_t at, std::vector<uint64_t>& end) {
  constexpr size_t kLongestEnd = 4;
  const auto says_little = [&](size_t i) {
    return IsArticle(tokens[i].text) || (tokens[i].text == "degrees" && i + 1 < tokens.size());
  };
  while (at < tokens.size() && says_little(at)) ++at;
  for (size_t i = at; i < std::min(tokens.size(), at + kLongestEnd); ++i) {
    // Words of one letter count: "from A to Z".
    if (tokens[i].function && tokens[i].text.size() > 1) break;
    if (!tokens[i].number) end.push_back(tokens[i].word.meaning);
  }
}

Ends EndsOf(const Question& question) {
  Ends ends;
  const std::vector<Token>& tokens = question.tokens;
  for (size_t i = 0; i < tokens.size(); ++i) {
    if (tokens[i].text == "from") {
      ReadEnd(tokens, i + 1, ends.from);
    } else if (LeadsTo(tokens, i)) {
      ReadEnd(tokens, i + 1, ends.to);
      for (size_t back = 1; back <= 3 && back <= i && !tokens[i - back].function; ++back) {
        if (!tokens[i - back].number) ends.before_to.push_back(tokens[i - back].word.meaning);
      }
    } else if (i > 0 && tokens[i - 1].number && tokens[i].unit != 0) {
      ReadEnd(tokens, i, ends.before_to);
    }
  }
  return ends;
}

bool Has(const std::vector<uint64_t>& ids, uint64_t id) {
  return std::find(ids.begin(), ids.end(), id) != ids.end();
}

// Whether something is at the first end that is not also at the second.
bool Moved(const std::vector<uint64_t>& here, const std::vector<uint64_t>& also_here,
           const std::vector<uint64_t>& there, const std::vector<uint64_t>& also_there) {
  return std::any_of(here.begin(), here.end(), [&](uint64_t id) {
    return Has(there, id) && !Has(also_here, id) && !Has(also_there, id);
  });
}

bool Overlap(const std::vector<uint64_t>& a, const std::vector<uint64_t>& b) {
  return std::any_of(a.begin(), a.end(), [&](uint64_t id) { return Has(b, id); });
}

bool Mentions(const Question& question, const std::vector<uint64_t>& ids) {
  return std::any_of(question.tokens.begin(), question.tokens.end(),
                     [&](const Token& token) { return Has(ids, token.word.meaning); });
}

bool DirectionsDiffer(const Question& stored, const Question& asked) {
  if (Mentions(stored, kDistances) && Mentions(asked, kDistances)) return false;
  const Ends a = EndsOf(stored);
  const Ends b = EndsOf(asked);
  // "RNA from DNA" and "DNA from RNA": both name both, and start from the other.
  if (!a.from.empty() && !b.from.empty() && !Overlap(a.from, b.from) && Mentions(asked, a.from) &&
      Mentions(stored, b.from))
    return true;
  const auto start = [](const Ends& ends) {
    return ends.from.empty() ? ends.before_to : ends.from;
  };
  const std::vector<uint64_t> start_a = start(a);
  const std::vector<uint64_t> start_b = start(b);
  return Moved(start_a, a.to, b.to, start_b) && Moved(a.to, start_a, start_b, b.to);
}

// A "not" in the story before the question may stand in the question itself in another wording.
bool NegationsDiffer(const Question& stored, const Question& asked) {
  const auto all = [](const Question& q) { return q.negations + q.negations_of_context; };
  return stored.negations % 2 != asked.negations % 2 && all(stored) % 2 != all(asked) % 2;
}

float Bit(bool condition) { return condition ? 1.0f : 0.0f; }

bool Disjoint(uint32_t a, uint32_t b) { return a != 0 && b != 0 && (a & b) == 0; }

std::string WordsOf(const Leftover& left) {
  std::string words;
  for (const Token* token : left.tokens) {
    if (token->function && !IsNegation(token->text)) continue;
    if (words.size() > 60) break;
    if (!words.empty()) words += ' ';
    words += token->text;
  }
  return words;
}

struct Comparison {
  Features features{};
  std::string only_stored;
  std::string only_asked;
};

Comparison Examine(const Question& stored, const Question& asked, double cosine) {
  const Alignment alignment = Align(stored, asked);
  const Leftover a = LeftoverOf(stored, alignment.partner_of_stored);
  const Leftover b = LeftoverOf(asked, alignment.partner_of_asked);
  Comparison result;
  const auto set = [&](Feature feature, float value) {
    result.features[static_cast<size_t>(feature)] = value;
  };

  const float alone = a.words + a.names + b.words + b.names;
  const auto c = static_cast<float>(std::clamp(cosine, -1.0, 1.0));
  set(Feature::kCosine, c);
  set(Feature::kCosineNear, -std::log(1.03f - c));
  // The encoder sees pieces of words, so a misspelling looks to it like another word.
  const bool same_words = a.tokens.empty() && b.tokens.empty();
  set(Feature::kMisspelt, Bit(same_words) * Saturated(static_cast<float>(alignment.misspelt)));
  // A difference decides where all else is the same; between free wordings it is weaker evidence.
  const float sure = .25f + alignment.frame;
  set(Feature::kAddedAsked, std::min(alignment.added_asked, 2.0f) * alignment.frame);
  set(Feature::kAddedStored, std::min(alignment.added_stored, 2.0f) * alignment.frame);
  set(Feature::kAddedNames, std::min(alignment.added_names, 2.0f) * alignment.frame);
  set(Feature::kContext, Saturated(std::min(a.context, b.context)));
  set(Feature::kNamesAsked, Saturated(b.names));
  set(Feature::kNamesStored, Saturated(a.names));
  set(Feature::kNamesDiffer, Saturated(std::min(a.names, b.names)));
  set(Feature::kSiblings, sure * Saturated(static_cast<float>(CountRelated(a, b, Siblings))));
  set(Feature::kSubstitution, std::min(alignment.substituted, 2.0f) * alignment.frame);
  set(Feature::kNumbersDiffer, sure * Bit(a.numbers > 0 && b.numbers > 0));
  set(Feature::kNumberOneSided, Bit((a.numbers > 0) != (b.numbers > 0)));
  set(Feature::kVersionOneSided,
      Bit((a.numbers > 0) != (b.numbers > 0) && a.years + b.years + a.versions + b.versions > 0));
  set(Feature::kUnitsDiffer, Bit(UnitsDiffer(a, b)));
  set(Feature::kCodesDiffer, Bit(a.codes > 0 || b.codes > 0));
  set(Feature::kNegation, sure * Bit(NegationsDiffer(stored, asked)));
  set(Feature::kOpposites, sure * Saturated(static_cast<float>(CountRelated(a, b, Opposite))));
  set(Feature::kRolesSwapped, Bit(RolesSwapped(stored, asked, alignment, alone)));
  set(Feature::kDirection, Bit(DirectionsDiffer(stored, asked)));
  set(Feature::kConditionAsked, Saturated(b.conditions));
  set(Feature::kConditionStored, Saturated(a.conditions));
  const auto qualified = [](const Question& by, const Question& other) {
    return Saturated(static_cast<float>(std::popcount(by.qualifiers & ~other.qualifiers)));
  };
  set(Feature::kQualifierAsked, qualified(asked, stored));
  set(Feature::kQualifierStored, qualified(stored, asked));
  const KindSet sharp_a = stored.kinds & kSharpKinds;
  const KindSet sharp_b = asked.kinds & kSharpKinds;
  set(Feature::kKindDiffers, sure * alignment.frame * Bit(Disjoint(sharp_a, sharp_b)));
  set(Feature::kKindLoose, Bit(Disjoint(stored.kinds, asked.kinds) && !Disjoint(sharp_a, sharp_b)));
  set(Feature::kQuestionWord, alignment.frame * alignment.frame *
                                  Bit(stored.question_word != 0 && asked.question_word != 0 &&
                                      stored.question_word != asked.question_word));
  set(Feature::kYesNo, Bit((stored.kinds & kYesNo) != (asked.kinds & kYesNo)));
  set(Feature::kFormDiffers, Bit(stored.instructs != asked.instructs) +
                                 .5f * alignment.frame * Bit(Disjoint(stored.forms, asked.forms)));
  set(Feature::kTaskDiffers,
      Saturated(static_cast<float>(std::popcount(stored.tasks ^ asked.tasks))));
  set(Feature::kAnswerLanguage, Bit(stored.languages_named != asked.languages_named));
  set(Feature::kLanguage, Bit(stored.language != asked.language));
  set(Feature::kPointsAsked, Bit(asked.points_elsewhere));
  set(Feature::kPointsStored, Bit(stored.points_elsewhere));
  set(Feature::kPointsOneSided, Bit(stored.points != asked.points));
  set(Feature::kTime,
      .5f * (Bit(stored.asks_now != asked.asks_now) + Bit(stored.asks_past != asked.asks_past)));
  set(Feature::kQuoted,
      Bit(!stored.quoted.empty() && !asked.quoted.empty() && stored.quoted != asked.quoted));
  result.only_stored = WordsOf(a);
  result.only_asked = WordsOf(b);
  return result;
}

std::string ReasonOf(const Verdict& verdict, const Comparison& comparison) {
  std::string reason;
  for (const Finding& finding : verdict.findings) {
    if (reason.size() > 120) break;
    if (!reason.empty()) reason += "; ";
    reason += kTable[static_cast<size_t>(finding.feature)].reason;
  }
  if (reason.empty()) return "nothing speaks against it";
  if (!comparison.only_stored.empty()) reason += "; only stored: " + comparison.only_stored;
  if (!comparison.only_asked.empty()) reason += "; only asked: " + comparison.only_asked;
  return reason;
}

// Of answers with this raw score, the share that was acceptable, between the table's points.
double TableShare(double raw_score) {
  const auto* const end = std::end(kCalibration);
  const auto* const above = std::find_if(std::begin(kCalibration), end,
                                         [&](const auto& point) { return point[0] > raw_score; });
  if (above == std::begin(kCalibration)) return kCalibration[0][1];
  if (above == end) return (end - 1)[0][1];
  const auto* const below = above - 1;
  const double share = (raw_score - (*below)[0]) / ((*above)[0] - (*below)[0]);
  return (*below)[1] + share * ((*above)[1] - (*below)[1]);
}

}  // namespace

const std::array<FeatureInfo, kFeatures>& FeatureTable() { return kTable; }

Features Measure(const Question& stored, const Question& asked, double cosine) {
  return Examine(stored, asked, cosine).features;
}

double RawScore(const Features& features) {
  double sum = kBias;
  for (size_t i = 0; i < kFeatures; ++i) sum += kWeights[i] * features[i];
  return sum;
}

double Calibrate(double raw_score) {
  // The table is flat beyond its ends, and may be between its points. A grain of a curve that rises
  // everywhere keeps the order of what it would make equal; it changes no share that anyone sees.
  constexpr double kGrain = .001;
  const double rising = (1 + raw_score / (1 + std::abs(raw_score))) / 2;
  return (1 - kGrain) * TableShare(raw_score) + kGrain * rising;
}

Verdict Compare(const Question& stored, const Question& asked, double cosine) {
  Verdict verdict;
  if (stored.normalized == asked.normalized) {
    verdict.score = 1;
    verdict.reason = "the same question";
    return verdict;
  }
  const Comparison comparison = Examine(stored, asked, cosine);
  for (const FeatureInfo& info : kTable) {
    const size_t i = static_cast<size_t>(info.feature);
    const double effect = kWeights[i] * comparison.features[i];
    if (info.sign < 0 && effect < -.1)
      verdict.findings.push_back({info.feature, info.name, effect, {}});
  }
  std::sort(verdict.findings.begin(), verdict.findings.end(),
            [](const Finding& x, const Finding& y) {
              return std::pair(x.effect, x.feature) < std::pair(y.effect, y.feature);
            });
  // Unmistakable: an answer in another language is of no use.
  verdict.refused = stored.language != asked.language;
  verdict.score = verdict.refused ? 0 : Calibrate(RawScore(comparison.features));
  verdict.reason = ReasonOf(verdict, comparison);
  return verdict;
}

}  // namespace holdfast::cache::verify
