#include "cache/verify/findings.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <string>
#include <string_view>

#include "cache/verify/finding_judge.h"

namespace holdfast::cache::verify {
namespace {

constexpr double kShipped = .85;

Verdict Of(std::string_view stored, std::string_view asked, double cosine = .97) {
  return Compare(Analyze(stored), Analyze(asked), cosine);
}

float Value(Feature feature, std::string_view stored, std::string_view asked) {
  return Measure(Analyze(stored), Analyze(asked), .97)[static_cast<size_t>(feature)];
}

struct Case {
  Feature feature;
  std::string_view stored, asked;
};

// Each finding sees what it is named for, whichever question comes first.
TEST(FindingsTest, EachSeesItsKind) {
  const Case cases[] = {
      {Feature::kNumbersDiffer, "What is the pH of 0.1 M HCl?", "What is the pH of 0.001 M HCl?"},
      {Feature::kNumbersDiffer, "who won the 1966 world cup", "who won the 1962 world cup"},
      {Feature::kUnitsDiffer, "How far is it in miles?", "How far is it in kilometres?"},
      {Feature::kSiblings, "How do I sort a list in Python?",
       "How do I sort a list in JavaScript?"},
      {Feature::kOpposites, "How do I rename a local branch?", "How do I rename a remote branch?"},
      {Feature::kNegation, "How do I know if he loves me?", "How do I know if he doesn't love me?"},
      {Feature::kDirection, "How do I convert radians to degrees?",
       "How do I convert degrees to radians?"},
      {Feature::kDirection, "What is 100°F in Celsius?",
       "What's 100 degrees Celsius in Fahrenheit?"},
      {Feature::kRolesSwapped, "What did Freud think of Jung's theories?",
       "What did Jung think of Freud's theories?"},
      {Feature::kVersionOneSided, "How do I freeze the top row in Excel?",
       "How do I freeze the top row in Excel 2003?"},
      {Feature::kContext, "My Wi-Fi is connected but there is no internet. What should I do?",
       "My mobile data is on but there is no internet. What should I do?"},
      {Feature::kQuestionWord, "Why do cats purr?", "How do cats purr?"},
      {Feature::kPointsOneSided, "Is it better to rent or buy a house?",
       "Is it better to rent or buy this house?"},
      {Feature::kFormDiffers, "What new features came with ES6?",
       "What new features came with ES6? Answer as a JSON array."},
      {Feature::kKindDiffers, "Why did the Roman Empire fall?", "When did the Roman Empire fall?"},
      {Feature::kSubstitution, "What is the general formula of alkenes?",
       "What is the general formula of alkanes?"},
      {Feature::kLanguage, "Wie viele Tage hat der Monat und was kann ich tun?",
       "How many days are in the month?"},
      {Feature::kQuoted, "Proofread: \"Their going to the park now.\"",
       "Proofread: \"He dont know the way home.\""},
      {Feature::kAnswerLanguage, "Write a thank-you note.", "Write a thank-you note in French."},
  };
  for (const Case& c : cases) {
    EXPECT_GT(Value(c.feature, c.stored, c.asked), 0) << c.stored << " / " << c.asked;
    EXPECT_GT(Value(c.feature, c.asked, c.stored), 0) << c.asked << " / " << c.stored;
    EXPECT_EQ(Value(c.feature, c.stored, c.stored), 0) << c.stored;
  }
}

TEST(FindingsTest, NamesWhichSideAddsSomething) {
  constexpr std::string_view plain = "Is it safe to take ibuprofen?";
  constexpr std::string_view more = "Is it safe to take ibuprofen in pregnancy?";
  EXPECT_GT(Value(Feature::kAddedAsked, plain, more), 0);
  EXPECT_EQ(Value(Feature::kAddedAsked, more, plain), 0);
  EXPECT_GT(Value(Feature::kAddedStored, more, plain), 0);
  EXPECT_GT(Value(Feature::kQualifierAsked, "How do I delete all keys?",
                  "How do I delete all keys except one?"),
            0);
  EXPECT_GT(
      Value(Feature::kPointsAsked, "How long should a letter be?", "Is this letter too long?"), 0);
  EXPECT_GT(
      Value(Feature::kPointsStored, "Is this letter too long?", "How long should a letter be?"), 0);
}

TEST(FindingsTest, OrderOfEqualsIsNoSwap) {
  EXPECT_EQ(Value(Feature::kRolesSwapped, "git merge vs rebase", "git rebase vs merge"), 0);
  EXPECT_EQ(Value(Feature::kDirection, "How far is Paris from Rome?",
                  "How far is Paris from Rome by car?"),
            0);
  EXPECT_EQ(Value(Feature::kRolesSwapped, "Can I take ibuprofen and paracetamol together?",
                  "Can I take paracetamol and ibuprofen at the same time?"),
            0);
  EXPECT_EQ(Value(Feature::kRolesSwapped, "Compare a Roth IRA with a 401k plan for me.",
                  "Compare a 401k plan with a Roth IRA for me."),
            0);
  for (const Feature feature : {Feature::kRolesSwapped, Feature::kDirection}) {
    EXPECT_EQ(Value(feature, "What is the distance from Berlin to Munich?",
                    "What is the distance from Munich to Berlin?"),
              0);
    EXPECT_GT(Value(feature, "How do I get from Berlin to Munich?",
                    "How do I get from Munich to Berlin?"),
              0);
  }
  // A clause that only moved.
  EXPECT_EQ(Value(Feature::kRolesSwapped, "How do I convert a String to a &str in Rust?",
                  "In Rust, how do I convert a String to a &str?"),
            0);
  EXPECT_EQ(Value(Feature::kDirection, "How do I remove duplicates from an array in JavaScript?",
                  "How do I remove duplicates from a JavaScript array?"),
            0);
  EXPECT_EQ(Value(Feature::kDirection, "How can I teach Spanish to my child quickly?",
                  "What is the fastest way to teach my kid Spanish?"),
            0);
}

TEST(FindingsTest, TheSameWordsMisspelt) {
  constexpr std::string_view right = "How do I change my password without losing my contacts?";
  EXPECT_GT(
      Value(Feature::kMisspelt, right, "how do i chnage my pasword without losing my contacts"),
      Value(Feature::kMisspelt, right, "how do i change my pasword without losing my contacts"));
  EXPECT_GT(
      Value(Feature::kMisspelt, "how do i change my pasword without losing my contacts", right), 0);
  EXPECT_EQ(Value(Feature::kMisspelt, right, right), 0);
  // Something more, a letter that stands for another one, and what may be a name.
  EXPECT_EQ(Value(Feature::kMisspelt, right,
                  "how do i change my pasword and email without losing my contacts"),
            0);
  EXPECT_EQ(
      Value(Feature::kMisspelt, right, "how do i change my passwort without losing my contacts"),
      0);
  EXPECT_EQ(Value(Feature::kMisspelt, "Where is the street of that name?",
                  "Where is the Streeet of that name?"),
            0);
  EXPECT_EQ(Value(Feature::kMisspelt, "How many calories has a bagel?",
                  "How many calories has a beagle?"),
            0);
  // Words that have changed places.
  EXPECT_EQ(Value(Feature::kMisspelt, "How do I convert radians to degrees in Excel?",
                  "how do i convret degrees to radians in excel"),
            0);
}

// An addition to the same wording weighs more than words that differ between free wordings.
TEST(FindingsTest, PartnersAreFoundThroughWordingAndTypos) {
  EXPECT_EQ(
      Value(Feature::kSubstitution, "How do I erase a directory?", "How do I delete a folder?"), 0);
  EXPECT_EQ(Value(Feature::kSubstitution, "Can I drive in Portugal?", "Can I drvie in Portugual?"),
            0);
  EXPECT_EQ(Value(Feature::kSubstitution, "What is a checkin?", "What is a check in?"), 0);
}

TEST(ScoreTest, ServesPlainRewordingsAndNotNearMisses) {
  EXPECT_GE(Of("How do I take a screenshot on a Mac?",
               "Please tell me how I can take a screenshot on a Mac", .98)
                .score,
            kShipped);
  EXPECT_LT(Of("How do I sort a list in Python?", "How do I sort a list in JavaScript?").score,
            kShipped);
  EXPECT_LT(Of("How do I convert radians to degrees?", "How do I convert degrees to radians?", .995)
                .score,
            kShipped);
  EXPECT_LT(Of("Why did the Roman Empire fall?", "When did the Roman Empire fall?", .9).score,
            kShipped);
}

TEST(ScoreTest, TheSameQuestionIsAlwaysServed) {
  EXPECT_EQ(Of("What does this code do?", "what does  this code do", 1).score, 1);
}

TEST(ScoreTest, AnotherLanguageIsRefused) {
  const Verdict verdict = Of("How do I lower my cholesterol without medication?",
                             "Como faço para baixar meu colesterol sem remédio?", .99);
  EXPECT_TRUE(verdict.refused);
  EXPECT_EQ(verdict.score, 0);
}

TEST(ScoreTest, RisesWithTheCosineAndStaysWithinZeroAndOne) {
  const Question stored = Analyze("How do I boil an egg?");
  const Question asked = Analyze("How long do I boil eggs?");
  double last = 0;
  for (int i = -100; i <= 100; ++i) {
    const double score = Compare(stored, asked, i / 100.0).score;
    EXPECT_GE(score, last);
    EXPECT_LE(score, 1);
    last = score;
  }
}

// No two raw scores become one, so the score orders as finely as they do.
TEST(ScoreTest, CalibrationRisesEverywhere) {
  for (double raw = -40; raw < 40; raw += .001) EXPECT_LT(Calibrate(raw), Calibrate(raw + .001));
  EXPECT_GT(Calibrate(-1e6), 0);
  EXPECT_LT(Calibrate(1e6), 1);
}

// A weight with the wrong sign would make a finding mean its opposite.
TEST(ScoreTest, EveryWeightHasItsSign) {
  for (const FeatureInfo& info : FeatureTable()) {
    Features none{};
    Features one{};
    one[static_cast<size_t>(info.feature)] = 1;
    EXPECT_GE((RawScore(one) - RawScore(none)) * info.sign, 0) << info.name;
  }
}

TEST(ScoreTest, TheTableIsInTheOrderOfTheEnum) {
  for (size_t i = 0; i < kFeatures; ++i)
    EXPECT_EQ(static_cast<size_t>(FeatureTable()[i].feature), i);
}

TEST(ReasonTest, SaysWhatAndWhich) {
  const Verdict verdict =
      Of("How do I sort a list in Python?", "How do I sort a list in JavaScript?");
  EXPECT_NE(verdict.reason.find("same kind of thing"), std::string::npos) << verdict.reason;
  EXPECT_NE(verdict.reason.find("javascript"), std::string::npos) << verdict.reason;
  EXPECT_TRUE(
      std::is_sorted(verdict.findings.begin(), verdict.findings.end(),
                     [](const Finding& a, const Finding& b) { return a.effect < b.effect; }));
}

TEST(FindingJudgeTest, TellsTheSameAsCompare) {
  const FindingJudge judge;
  const std::string asked = "When did the Roman Empire fall?";
  for (const std::string& stored : {std::string("Why did the Roman Empire fall?"),
                                    std::string("when did the roman empire fall")}) {
    const cache::Verdict verdict = judge.Compare(asked, {.question = stored, .cosine = .95});
    EXPECT_EQ(verdict.similarity, Of(stored, asked, .95).score);
    EXPECT_EQ(verdict.reason, Of(stored, asked, .95).reason);
  }
}

}  // namespace
}  // namespace holdfast::cache::verify
