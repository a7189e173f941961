#include "cache/verify/question.h"

#include <algorithm>
#include <array>
#include <bit>
#include <cstdlib>
#include <string>
#include <utility>

#include "cache/text.h"

namespace holdfast::cache::verify {
namespace {

bool IsDigit(char32_t c) { return c >= '0' && c <= '9'; }

// Scripts that are not Latin are languages of their own, numbered behind those of the tables.
int ScriptOf(char32_t c) {
  if (c >= 0x370 && c < 0x400) return 16;    // Greek
  if (c >= 0x400 && c < 0x530) return 17;    // Cyrillic
  if (c >= 0x590 && c < 0x600) return 18;    // Hebrew
  if (c >= 0x600 && c < 0x700) return 19;    // Arabic
  if (c >= 0x900 && c < 0xE00) return 20;    // of India
  if (c >= 0xE00 && c < 0xE80) return 21;    // Thai
  if (c >= 0x3040 && c < 0x3100) return 22;  // Japanese
  if (c >= 0x3400 && c < 0xA000) return 23;  // Chinese characters
  if (c >= 0xAC00 && c < 0xD7B0) return 24;  // Korean
  return -1;
}

bool IsLetter(char32_t c) {
  if (c < 0x80) return (c | 32) >= 'a' && (c | 32) <= 'z';
  return !IsSpace(c) && !IsPunctuation(c) && c != 0xB0 && c != 0xFFFD &&
         !(c >= 0x2190 && c < 0x2C00) && !(c >= 0x20A0 && c < 0x20D0) && !(c >= 0x1F000);
}

bool IsApostrophe(char32_t c) { return c == '\'' || c == 0x2019; }

bool IsUpper(char32_t c) { return LowerCase(c) != c; }

// Signs that stand for a word of their own.
std::string_view SignWord(char32_t c) {
  switch (c) {
    case '%':
      return "%";
    case '$':
      return "$";
    case 0x20AC:
      return "€";
    case 0xA3:
      return "£";
    case 0x20B9:
      return "₹";
    case 0xA5:
      return "¥";
    default:
      return {};
  }
}

struct Piece {
  std::string text;  // lower case
  bool capital = false;
  bool opens = false;  // a sentence
  int sentence = 0;
};

// And misspelt words without content, which align.cc does not pair: they are too short.
constexpr std::pair<std::string_view, std::string_view> kContractions[] = {
    {"ww1", "world war 1"},
    {"wwi", "world war 1"},
    {"ww2", "world war 2"},
    {"wwii", "world war 2"},
    {"can't", "can not"},
    {"cannot", "can not"},
    {"cant", "can not"},
    {"won't", "will not"},
    {"wont", "will not"},
    {"shan't", "shall not"},
    {"dont", "do not"},
    {"doesnt", "does not"},
    {"didnt", "did not"},
    {"isnt", "is not"},
    {"arent", "are not"},
    {"couldnt", "could not"},
    {"wouldnt", "would not"},
    {"shouldnt", "should not"},
    {"whats", "what is"},
    {"hows", "how is"},
    {"wheres", "where is"},
    {"whos", "who is"},
    {"thats", "that is"},
    {"im", "i am"},
    {"ive", "i have"},
    {"u", "you"},
    {"ur", "your"},
    {"r", "are"},
    {"wanna", "want to"},
    {"gonna", "going to"},
    {"w/o", "without"},
    {"w/", "with"},
    {"ppl", "people"},
    {"thx", "thanks"},
    {"let's", "let us"},
    {"lets", "let us"},
    {"teh", "the"},
    {"hte", "the"},
    {"adn", "and"},
    {"waht", "what"},
    {"wat", "what"},
    {"wht", "what"},
    {"hwat", "what"},
    {"hwo", "how"},
    {"wich", "which"},
    {"whcih", "which"},
    {"whihc", "which"},
    {"wehn", "when"},
    {"whne", "when"},
    {"whn", "when"},
    {"whre", "where"},
    {"hwy", "why"},
    {"thier", "their"},
    {"ther", "there"},
    {"thsi", "this"},
    {"htis", "this"},
    {"taht", "that"},
    {"tht", "that"},
    {"wiht", "with"},
    {"wtih", "with"},
    {"witout", "without"},
    {"wihtout", "without"},
    {"frm", "from"},
    {"betwen", "between"},
    {"diffrence", "difference"},
    {"cna", "can"},
    {"shoud", "should"},
    {"shuold", "should"},
    {"shld", "should"},
    {"woud", "would"},
    {"wud", "would"},
    {"doesent", "does not"},
    {"dosent", "does not"},
    {"plz", "please"},
    {"pls", "please"},
    {"thru", "through"},
    {"abt", "about"},
    {"bcoz", "because"},
    {"becuase", "because"},
    {"becasue", "because"},
};

class Cutter {
 public:
  explicit Cutter(std::u32string_view text) : text_(text) {}

  // By sentence, whether it ends in a question mark.
  const std::vector<bool>& asks() const { return asks_; }

  std::vector<Piece> Cut() {
    while (at_ < text_.size() && pieces_.size() < kLongest) Step();
    return std::move(pieces_);
  }

 private:
  char32_t At(size_t i) const { return i < text_.size() ? text_[i] : 0; }

  void Step() {
    const char32_t c = text_[at_];
    if (IsLetter(c) || IsDigit(c) ||
        (c == '.' && IsLetter(At(at_ + 1)) && (at_ == 0 || IsSpace(text_[at_ - 1])))) {
      ReadWord();
      return;
    }
    if (const std::string_view sign = SignWord(c); !sign.empty()) Add(std::string(sign), false);
    if (c == 0xB0) ReadDegrees();
    const bool arrow = (c == '-' && At(at_ + 1) == '>') || c == 0x2192;
    if (arrow) Add("to", false);
    if (c == '.' || c == '?' || c == '!' || c == ':' || c == '\n' || c == '"' || c == 0x201C) {
      opens_ = true;
    }
    if ((c == '.' || c == '?' || c == '!') && (at_ + 1 == text_.size() || IsSpace(At(at_ + 1)))) {
      asks_.resize(static_cast<size_t>(sentence_) + 1);
      asks_.back() = c == '?';
      ++sentence_;
    }
    ++at_;
  }

  void ReadDegrees() {  // "°C" is one unit
    const char32_t next = LowerCase(At(at_ + 1));
    if ((next == 'c' || next == 'f') && !IsLetter(At(at_ + 2))) {
      Add(next == 'c' ? "celsius" : "fahrenheit", false);
      ++at_;
    }
  }

  void ReadWord() {
    const size_t start = at_;
    bool any_upper = false;
    bool all_upper = true;
    size_t letters = 0;
    std::string word;
    for (; at_ < text_.size(); ++at_) {
      const char32_t c = text_[at_];
      if (IsLetter(c)) {
        // "10kg" is a number and a unit, "5k" a number; "s5" and "a4" stay whole.
        if (letters == 0 && !word.empty() && word[0] != '.' && SplitsNumber(at_)) break;
        ++letters;
        any_upper = any_upper || IsUpper(c);
        all_upper = all_upper && (IsUpper(c) || LowerCase(c) == c);
        all_upper = all_upper && !(c >= 'a' && c <= 'z');
        AppendUtf8(word, LowerCase(c));
      } else if (IsDigit(c)) {
        word += static_cast<char>(c);
      } else if (c == ',' && letters == 0 && IsDigit(At(at_ + 1)) && IsDigit(At(at_ + 2)) &&
                 IsDigit(At(at_ + 3)) && !word.empty()) {
        continue;  // 1,000
      } else if ((c == '.' || c == '_' || c == '-') && at_ > start && IsJoined(at_, c)) {
        word += static_cast<char>(c);
      } else if (c == '.' && at_ == start) {
        word += '.';
      } else if (IsApostrophe(c) && IsLetter(At(at_ + 1))) {
        word += '\'';
      } else if ((c == '+' || c == '#') && at_ > start && letters <= 2 && letters > 0) {
        word += static_cast<char>(c);
      } else if (c == '/' && word == "w") {
        word += '/';
      } else {
        break;
      }
    }
    const bool first = opens_;
    opens_ = false;
    const bool capital =
        any_upper && (!first || (all_upper && letters > 1) || letters != word.size());
    AddExpanded(std::move(word), capital, first);
  }

  // Whether the letters at `i`, behind digits, are a word of their own (a unit, most likely).
  bool SplitsNumber(size_t i) const {
    std::string rest;
    for (; IsLetter(At(i)); ++i) AppendUtf8(rest, LowerCase(At(i)));
    return UnitOf(rest) != 0 || rest == "k" || rest == "st" || rest == "nd" || rest == "rd" ||
           rest == "th";
  }

  // Signs inside a word: "node.js", "3.12", "docker_compose", "wi-fi".
  bool IsJoined(size_t i, char32_t c) const {
    const char32_t before = At(i - 1);
    const char32_t after = At(i + 1);
    if (c == '_') return true;
    if (c == '.')
      return (IsDigit(before) && IsDigit(after)) ||
             (IsLetter(before) && IsLetter(after) && !IsUpper(after));
    // A dash keeps codes together; between words it parts them.
    return (IsDigit(before) && IsLetter(after)) || (IsLetter(before) && IsDigit(after)) ||
           (IsDigit(before) && IsDigit(after));
  }

  void AddExpanded(std::string word, bool capital, bool first) {
    for (const auto& [from, to] : kContractions) {
      if (word != from) continue;
      AddWords(to);
      return;
    }
    if (word.ends_with("n't")) {
      Add(word.substr(0, word.size() - 3), capital, first);
      Add("not", false);
      return;
    }
    static constexpr std::string_view kEndings[] = {"'s", "'re", "'ll", "'ve", "'d", "'m"};
    for (std::string_view ending : kEndings) {
      if (!word.ends_with(ending)) continue;
      word.resize(word.size() - ending.size());
      Add(word, capital, first);
      static constexpr std::string_view kAskers[] = {"what", "how",  "who", "where", "when",
                                                     "why",  "that", "it",  "there"};
      if (ending == "'s" &&
          std::find(std::begin(kAskers), std::end(kAskers), word) != std::end(kAskers))
        Add("is", false);
      return;
    }
    const bool after_digit =
        !pieces_.empty() && IsDigit(static_cast<uint8_t>(pieces_.back().text[0]));
    if (after_digit && (word == "st" || word == "nd" || word == "rd" || word == "th")) return;
    if (word == "us" && capital) word = "usa";
    if (word == "k" && !pieces_.empty() && IsDigit(pieces_.back().text[0])) {
      pieces_.back().text += "000";
      return;
    }
    Add(std::move(word), capital, first);
  }

  void AddWords(std::string_view words) {
    while (!words.empty()) {
      const size_t space = std::min(words.find(' '), words.size());
      Add(std::string(words.substr(0, space)), false);
      words.remove_prefix(std::min(words.size(), space + 1));
    }
  }

  void Add(std::string word, bool capital, bool first = false) {
    if (!word.empty()) pieces_.push_back({std::move(word), capital, first, sentence_});
  }

  std::u32string_view text_;
  size_t at_ = 0;
  bool opens_ = true;
  int sentence_ = 0;
  std::vector<bool> asks_;  // by sentence
  std::vector<Piece> pieces_;
};

Token MakeToken(const Piece& piece) {
  Token token;
  token.text = piece.text;
  // ".loc" and "loc" are one word.
  token.word = Describe(std::string_view(piece.text).substr(piece.text[0] == '.' ? 1 : 0));
  token.function = IsFunctionWord(piece.text);
  const bool digits = std::any_of(piece.text.begin(), piece.text.end(),
                                  [](char c) { return IsDigit(static_cast<unsigned char>(c)); });
  const bool only_number = piece.text.find_first_not_of("0123456789.") == std::string::npos;
  if (digits && only_number) {
    token.number = true;
    token.value = std::strtod(piece.text.c_str(), nullptr);
    token.year = token.value >= 1000 && token.value <= 2100 && piece.text.size() == 4;
  } else if (NumberWord(piece.text, &token.value)) {
    token.number = piece.text != "one" && piece.text != "second";
  } else if (digits || piece.text.find_first_of("+#_") != std::string::npos) {
    token.code = true;
  }
  if (token.number) {
    token.word.id = token.word.meaning = IdOf("number " + std::to_string(token.value));
    token.word.weight = .8f;
    token.function = false;
  }
  if (piece.text.size() > 1 || piece.text[0] == '%' || piece.text[0] == '$')
    token.unit = UnitOf(piece.text);
  token.family = FamilyOf(piece.text);
  if (token.family.family == 0 && token.word.id != 0) token.family = FamilyOf(Stem(piece.text));
  token.named = piece.capital && !token.function && !token.number;
  return token;
}

// Before a language's name: the text is to be in it. Elsewhere the name says where or what.
bool LeadsToLanguage(std::string_view word) {
  static constexpr std::string_view kLeading[] = {"in", "into",   "to", "en", "auf",   "em",
                                                  "po", "simple", "i",  "på", "plain", "translate"};
  return std::find(std::begin(kLeading), std::end(kLeading), word) != std::end(kLeading);
}

// The language that most of the words speak for.
int LanguageOf(const std::vector<Token>& tokens, std::u32string_view text) {
  int script[32] = {};
  int letters = 0;
  for (char32_t c : text) {
    letters += IsLetter(c) ? 1 : 0;
    if (const int s = ScriptOf(c); s >= 0) ++script[s];
  }
  const int* most = std::max_element(std::begin(script), std::end(script));
  if (*most * 3 > letters)
    return *most >= 1 && (script[22] > 0) ? 22 : static_cast<int>(most - script);
  int votes[8] = {};
  for (const Token& token : tokens) {
    const uint32_t languages = LanguagesOf(token.text);
    for (int i = 0; i < 8; ++i) votes[i] += (languages >> i & 1) != 0 ? 1 : 0;
  }
  const int* best = std::max_element(std::begin(votes), std::end(votes));
  const int language = static_cast<int>(best - votes);
  if (*best == 0 || votes[0] == *best) return 0;
  // Two words must speak for it; short English questions have foreign names in them.
  return *best >= 2 && *best > votes[0] ? language : 0;
}

// What stands between quotation marks, if it is more than a word or two.
std::string QuotedIn(std::string_view text) {
  const size_t open = text.find('"');
  if (open == std::string_view::npos) return {};
  const size_t close = text.rfind('"');
  if (close < open + 12) return {};
  return NormalizeQuestion(text.substr(open + 1, close - open - 1));
}

}  // namespace

Question Analyze(std::string_view text) {
  Question question;
  const std::u32string characters = DecodeUtf8(text);
  Cutter cutter(characters);
  const std::vector<Piece> pieces = cutter.Cut();
  const auto first_asking = std::find(cutter.asks().begin(), cutter.asks().end(), true);
  const bool asks = first_asking != cutter.asks().end();
  for (const Piece& piece : pieces) {
    question.tokens.push_back(MakeToken(piece));
    question.tokens.back().context = asks && piece.sentence < first_asking - cutter.asks().begin();
  }
  question.normalized = NormalizeQuestion(text);
  question.spaced = " ";
  bool preposition = false;
  for (size_t i = 0; i < question.tokens.size(); ++i) {
    Token& token = question.tokens[i];
    question.spaced += token.text;
    question.spaced += ' ';
    if (i > 0 && question.tokens[i - 1].number) {
      if (token.unit == 0) token.unit = UnitOf(token.text);
      question.tokens[i - 1].unit = token.unit;
    }
    token.after_preposition = preposition;
    if (!token.function) preposition = false;
    if (IsPreposition(token.text)) preposition = true;
    question.forms |= FormOf(token.text);
    question.tasks |= TaskOf(token.text);
    const std::string_view before = i > 0 ? question.tokens[i - 1].text : std::string_view();
    const std::string_view behind =
        i + 1 < question.tokens.size() ? question.tokens[i + 1].text : std::string_view();
    if (LeadsToLanguage(before)) question.languages_named |= LanguageNamed(token.text);
    if (question.question_word == 0 && !token.context)
      question.question_word = QuestionWord(token.text);
    if (i > 0 && pieces[i].sentence > pieces[i - 1].sentence && OpensInstruction(token.text))
      question.instructs = true;
    if (IsPointing(before) && !token.function && !IsNotPointedAt(token.text))
      question.points = true;
    // "I don't want to" is how people open a request; "no 1024" is a number.
    const bool negates = IsNegation(token.text) && behind != "want" && before != "or" &&
                         !(i + 1 < question.tokens.size() && question.tokens[i + 1].number);
    (token.context ? question.negations_of_context : question.negations) += negates ? 1 : 0;
    question.qualifiers |= QualifierOf(token.text);
    question.asks_now = question.asks_now || IsNow(token.text);
    question.asks_past = question.asks_past || IsPast(token.text);
  }
  question.kinds = KindsOf(question.spaced);
  question.language = LanguageOf(question.tokens, characters);
  question.quoted = QuotedIn(text);
  question.points = question.points && question.quoted.empty() &&
                    text.find_first_of("{=\n") == std::string_view::npos;
  question.points_elsewhere = question.quoted.empty() && text.size() < 400 &&
                              text.find(":\n") == std::string_view::npos &&
                              PointsElsewhere(question.spaced);
  return question;
}

}  // namespace holdfast::cache::verify
