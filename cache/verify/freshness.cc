#include "cache/verify/freshness.h"

#include <algorithm>
#include <array>
#include <span>
#include <vector>

#include "cache/text.h"

namespace holdfast::cache {
namespace {

using Words = std::vector<std::string>;

// Wherever they stand. Phrases are words with single spaces between them.
constexpr std::string_view kAlways[] = {
    "right now", "breaking news", "what time is it", "what's the time", "what is the time",
    "time is it in", "what day is it", "which day is it", "what's the date", "what is the date",
    "what date is it", "what year is it", "what month is it", "is it raining", "is it snowing",
    "will it rain", "will it snow", "going to rain", "going to snow", "stock price", "share price",
    "spot price", "exchange rate", "exchange rates", "trading at", "market cap", "mortgage rates",
    "live score", "live scores", "open now", "how many days until",
    // Other languages that callers ask in.
    "heute", "jetzt", "derzeit", "momentan", "aktuell", "aktuelle", "aktueller", "aktuellen",
    "aktuelles", "gestern", "wetter", "aujourd'hui", "maintenant", "actuellement", "météo", "hoy",
    "ahora", "actualmente"};

// In a question; in a story about oneself ("I moved yesterday.") they tell what has happened.
constexpr std::string_view kInQuestions[] = {
    "just now",    "as of now",     "today",          "today's",      "tonight",   "tonight's",
    "currently",   "at the moment", "at this moment", "at present",   "nowadays",  "these days",
    "so far this", "this morning",  "this afternoon", "this evening", "this week", "this weekend",
    "this month",  "this quarter",  "this season",    "this year",    "yesterday", "yesterday's",
    "tomorrow",    "tomorrow's",    "last night",     "last night's"};

// What is newest, unless one asks how to get at it in one's own things.
constexpr std::string_view kNewest[] = {"latest", "newest", "most recent", "most recently"};

// A price of these moves from minute to minute; that of a subscription does not.
constexpr std::string_view kTraded[] = {
    "bitcoin", "btc",  "ethereum", "eth",    "crypto", "gold",     "silver",  "oil",    "crude",
    "brent",   "gas",  "petrol",   "diesel", "fuel",   "stock",    "stocks",  "share",  "shares",
    "dollar",  "euro", "pound",    "yen",    "usd",    "eur",      "gbp",     "copper", "wheat",
    "coffee",  "corn", "nasdaq",   "dow",    "s&p",    "bitcoins", "platinum"};

// "current" before these is a place in a program or a kind of thing, no moment.
constexpr std::string_view kCurrentThings[] = {
    "account", "accounts",    "ratio",    "assets",    "liabilities", "directory", "folder",
    "branch",  "user",        "line",     "path",      "thread",      "process",   "row",
    "column",  "page",        "url",      "element",   "window",      "session",   "file",
    "commit",  "node",        "index",    "selection", "object",      "class",     "function",
    "method",  "tab",         "cursor",   "frame",     "scope",       "shell",     "working",
    "context", "namespace",   "database", "employer",  "job",         "and",       "or",
    "of",      "in",          "through",  "flow",      "flows",       "is",        "to",
    "limiter", "transformer", "density",  "divider"};
constexpr std::string_view kBeforeElectricCurrent[] = {
    "electric", "electrical", "alternating", "direct", "eddy", "ocean", "a", "rip", "my"};
// "weather" as a subject of study or of software.
constexpr std::string_view kWeatherThings[] = {
    "api",  "app",     "apps",     "balloon",   "balloons", "front", "fronts", "map",
    "maps", "pattern", "patterns", "stripping", "station",  "vs",    "and"};
// "now" after these is a turn of speech.
constexpr std::string_view kBeforeIdleNow[] = {"what", "until", "till", "by", "from", "up"};
constexpr std::string_view kSpeakers[] = {"i", "i'm", "i've", "i'd", "my", "me", "we", "we've"};

bool In(std::string_view word, std::span<const std::string_view> list) {
  return std::find(list.begin(), list.end(), word) != list.end();
}

bool InWord(char32_t c) {
  return c == U'\'' || c == U'&' || c == U'’' || (c > ' ' && !IsSpace(c) && !IsPunctuation(c));
}

// The words of each sentence, in lower case.
std::vector<Words> SentencesOf(std::string_view text) {
  std::vector<Words> sentences(1);
  std::string word;
  const auto end_word = [&] {
    if (!word.empty()) sentences.back().push_back(std::move(word));
    word.clear();
  };
  for (const char32_t c : DecodeUtf8(text)) {
    if (InWord(c)) {
      AppendUtf8(word, c == U'’' ? U'\'' : LowerCase(c));
      continue;
    }
    end_word();
    if ((c == '.' || c == '!' || c == '?' || c == '\n') && !sentences.back().empty()) {
      sentences.emplace_back();
    }
  }
  end_word();
  return sentences;
}

bool AsksHowTo(const Words& words) {
  if (words.size() < 2 || words[0] != "how") return false;
  static constexpr std::string_view kNext[] = {"do", "can", "to", "does", "should", "would"};
  return In(words[1], kNext);
}

bool OfOneself(const Words& words) {
  return std::any_of(words.begin(), words.end(),
                     [](const std::string& word) { return In(word, kSpeakers); });
}

bool IsQuestion(const Words& words) {
  static constexpr std::string_view kFirst[] = {
      "what", "what's", "who", "who's", "which", "where", "when", "is",  "are", "was",   "were",
      "will", "should", "do",  "does",  "did",   "has",   "have", "any", "can", "could", "how"};
  return In(words[0], kFirst) && !AsksHowTo(words);
}

bool IsNow(const Words& words, size_t i) {
  if (i == 0) return false;  // "Now how do I ..."
  if (In(words[i - 1], kBeforeIdleNow)) return false;
  if (i + 1 < words.size() && words[i + 1] == "that") return false;
  // In a story about oneself it tells what has happened, not what is asked.
  return !OfOneself(words);
}

bool IsCurrent(const Words& words, size_t i) {
  if (i + 1 == words.size() || In(words[i + 1], kCurrentThings) || AsksHowTo(words)) return false;
  return i == 0 || !In(words[i - 1], kBeforeElectricCurrent);
}

bool IsWeather(const Words& words, size_t i) {
  if (i + 1 < words.size() && In(words[i + 1], kWeatherThings)) return false;
  static constexpr std::string_view kStudies[] = {"why", "explain", "define", "write"};
  return !AsksHowTo(words) && !In(words[0], kStudies);
}

bool IsTradedPrice(const Words& words) {
  if (In(words[0], std::array<std::string_view, 2>{"why", "explain"}) || AsksHowTo(words)) {
    return false;
  }
  return std::any_of(words.begin(), words.end(),
                     [](const std::string& word) { return In(word, kTraded); });
}

bool IsNews(const Words& words, size_t i) {
  static constexpr std::string_view kAfter[] = {"about", "on", "from", "in", "regarding"};
  return i + 1 == words.size() || In(words[i + 1], kAfter);
}

bool IsAboutNow(const Words& words, size_t i) {
  const std::string& word = words[i];
  if (word == "now") return IsNow(words, i);
  if (word == "current") return IsCurrent(words, i);
  if (word == "weather") return IsWeather(words, i);
  if (word == "price" || word == "prices" || word == "worth") return IsTradedPrice(words);
  if (word == "news" || word == "headlines") return IsNews(words, i);
  if (word == "temperature" && i + 1 < words.size()) {
    return words[i + 1] == "outside" || (words[i + 1] == "in" && !AsksHowTo(words));
  }
  return false;
}

std::string FirstOf(std::span<const std::string_view> phrases, const Words& words) {
  std::string spaced = " ";
  for (const std::string& word : words) spaced += word + " ";
  for (const std::string_view phrase : phrases) {
    if (spaced.find(" " + std::string(phrase) + " ") != std::string::npos) {
      return std::string(phrase);
    }
  }
  return "";
}

}  // namespace

std::string AsksAboutNow(std::string_view question) {
  for (const Words& words : SentencesOf(question)) {
    if (words.empty()) continue;
    if (const auto phrase = FirstOf(kAlways, words); !phrase.empty()) return phrase;
    if (IsQuestion(words) || !OfOneself(words)) {
      if (const auto phrase = FirstOf(kInQuestions, words); !phrase.empty()) return phrase;
    }
    if (!AsksHowTo(words) && !OfOneself(words)) {
      if (const auto phrase = FirstOf(kNewest, words); !phrase.empty()) return phrase;
    }
    for (size_t i = 0; i < words.size(); ++i) {
      if (IsAboutNow(words, i)) return words[i];
    }
  }
  return "";
}

Verdict FreshnessJudge::Compare(std::string_view asked, const Candidate& candidate) const {
  Verdict verdict = judge_.Compare(asked, candidate);
  if (candidate.age <= limit_ || candidate.pinned) return verdict;
  std::string about = AsksAboutNow(asked);
  if (about.empty()) about = AsksAboutNow(candidate.question);
  if (about.empty()) return verdict;
  verdict.refused = true;
  verdict.reason =
      "about now (" + about + "), and the answer is older than " + core::FormatDuration(limit_);
  verdict.findings.insert(verdict.findings.begin(), {"now", verdict.reason});
  return verdict;
}

}  // namespace holdfast::cache
