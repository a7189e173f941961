#include "cache/verify/question.h"

#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "cache/verify/lexicon.h"

namespace holdfast::cache::verify {
namespace {

std::vector<std::string> Words(std::string_view text) {
  std::vector<std::string> words;
  for (const Token& token : Analyze(text).tokens) words.push_back(token.text);
  return words;
}

TEST(QuestionTest, CutsWordsNumbersAndCodes) {
  using Strings = std::vector<std::string>;
  EXPECT_EQ(Words("What's 1,000 km?"), (Strings{"what", "is", "1000", "km"}));
  EXPECT_EQ(Words("5k in C++ and node.js 3.12"),
            (Strings{"5000", "in", "c++", "and", "node.js", "3.12"}));
  EXPECT_EQ(Words("10kg, 100°C, $5"), (Strings{"10", "kg", "100", "celsius", "$", "5"}));
  EXPECT_EQ(Words("I can't, won't, isn't"),
            (Strings{"i", "can", "not", "will", "not", "is", "not"}));
  EXPECT_EQ(Words("the S5's price"), (Strings{"the", "s5", "price"}));
  EXPECT_TRUE(Words("").empty());
  EXPECT_TRUE(Words("?! ...").empty());
}

TEST(QuestionTest, HostileTextIsJustText) {
  for (const std::string& text : {std::string("\xff\xfe\x00\x01", 4), std::string(100000, 'a'),
                                  std::string("\xF0\x9F\x98\x80 \xe4\xbd\xa0\xe5\xa5\xbd"),
                                  std::string("'''\"\"\"---...###+++")}) {
    EXPECT_LE(Analyze(text).tokens.size(), kLongest);
  }
  std::string many;
  for (int i = 0; i < 5000; ++i) many += "don't ";
  EXPECT_LE(Analyze(many).tokens.size(), kLongest + 1);
}

TEST(QuestionTest, StemsMeetAndStayApart) {
  for (const auto& [a, b] :
       std::vector<std::pair<const char*, const char*>>{{"sorting", "sorted"},
                                                        {"merging", "merge"},
                                                        {"cancelling", "cancel"},
                                                        {"countries", "country"},
                                                        {"bought", "buy"}}) {
    EXPECT_EQ(Stem(a), Stem(b)) << a << ' ' << b;
  }
  EXPECT_NE(Stem("alkane"), Stem("alkene"));
  EXPECT_NE(Stem("import"), Stem("export"));
}

TEST(QuestionTest, TellsKinds) {
  EXPECT_TRUE(Analyze("Why did the Roman Empire fall?").kinds & kWhy);
  EXPECT_TRUE(Analyze("at what age are children dry").kinds & kAge);
  const KindSet days = Analyze("How many days does it take?").kinds;
  EXPECT_TRUE(days & kHowLong);
  EXPECT_FALSE(days & kHowMany);
  EXPECT_TRUE(Analyze("Is it far?").kinds & kYesNo);
}

TEST(QuestionTest, TellsLanguages) {
  const int english = Analyze("How do I get a toddler to sleep through the night?").language;
  EXPECT_NE(Analyze("Wie bringen wir ein Kleinkind dazu, durchzuschlafen?").language, english);
  EXPECT_NE(Analyze("Como faço para baixar meu colesterol sem remédio?").language, english);
  EXPECT_NE(Analyze("Как приготовить борщ?").language, english);
  EXPECT_EQ(Analyze("What does \"de facto\" mean in La La Land?").language, english);
  EXPECT_EQ(Analyze("git merge vs rebase").language, english);
}

TEST(QuestionTest, PointsElsewhereOnlyIfNothingFollows) {
  EXPECT_TRUE(Analyze("What does this code do?").points_elsewhere);
  EXPECT_TRUE(Analyze("Rewrite the sentence above in the passive voice.").points_elsewhere);
  EXPECT_FALSE(Analyze("What does this code do?:\nprint(1)").points_elsewhere);
  EXPECT_FALSE(Analyze("Proofread this sentence: \"Their going to the park.\"").points_elsewhere);
}

}  // namespace
}  // namespace holdfast::cache::verify
