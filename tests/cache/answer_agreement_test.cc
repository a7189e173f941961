#include "cache/answer_agreement.h"

#include <gtest/gtest.h>

#include <string>

namespace holdfast::cache {
namespace {

TEST(AnswerAgreementTest, TheSameAnswerAgreesWhateverTheVectorsSay) {
  EXPECT_EQ(AnswerAgreement("Paris.", "Paris.", 0), 1);
  EXPECT_EQ(AnswerAgreement("", "", 0), 1);
}

TEST(AnswerAgreementTest, TheCosineIsTheMeasureWhereNothingElseDiffers) {
  EXPECT_DOUBLE_EQ(AnswerAgreement("It is Paris.", "Paris it is.", 0.83), 0.83);
}

TEST(AnswerAgreementTest, OtherNumbersCountMoreInAShortAnswer) {
  EXPECT_LT(AnswerAgreement("It boils at 100 degrees.", "It boils at 90 degrees.", 0.98),
            kAgreeing);
  EXPECT_GE(AnswerAgreement("It costs 1,000 euros.", "The price is 1000 euros.", 0.9), kAgreeing);
  const std::string filler(300, 'x');
  EXPECT_GE(AnswerAgreement(filler + " 12 steps", filler + " 13 steps", 0.95), kAgreeing);
}

TEST(AnswerAgreementTest, YesIsNotNo) {
  EXPECT_EQ(AnswerAgreement("Yes, it is.", "No, it is not.", 0.95), 0);
  EXPECT_GT(AnswerAgreement("Now it is.", "Yes, it is.", 0.95), 0);
  EXPECT_GT(AnswerAgreement("Yesterday.", "No.", 0.95), 0);
}

TEST(AnswerAgreementTest, AFarShorterAnswerAgreesLess) {
  const std::string shorter(100, 'a');
  EXPECT_DOUBLE_EQ(AnswerAgreement(shorter, std::string(400, 'b'), 0.9), 0.9);
  EXPECT_LT(AnswerAgreement(shorter, std::string(800, 'b'), 0.9), 0.9);
  EXPECT_NEAR(AnswerAgreement("", std::string(800, 'b'), 0.9), 0.7, 1e-9);
}

}  // namespace
}  // namespace holdfast::cache
