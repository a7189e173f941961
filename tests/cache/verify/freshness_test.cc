#include "cache/verify/freshness.h"

#include <gtest/gtest.h>

#include <chrono>
#include <string>

namespace holdfast::cache {
namespace {

using namespace std::chrono_literals;  // NOLINT: test code

TEST(FreshnessTest, KnowsQuestionsAboutNow) {
  for (const char* question : {"What is the weather in Oslo?",
                               "weather berlin",
                               "What's the weather like today?",
                               "What is the current price of gold?",
                               "Who is the current CEO of Apple?",
                               "What is the latest version of Node?",
                               "What happened in Paris today?",
                               "What time is it in Tokyo?",
                               "what's the time",
                               "Is it raining in London right now?",
                               "Who is leading the league now?",
                               "Any news about the strike?",
                               "What is on TV tonight?",
                               "What is the price of Bitcoin?",
                               "bitcoin price",
                               "How much is Tesla stock worth?",
                               "Tesla share price?",
                               "What is the exchange rate of the dollar to the euro?",
                               "What are today’s headlines?",
                               "How many days until Christmas?",
                               "Wie ist das Wetter in Bonn?",
                               "What is the temperature in Madrid?",
                               "I am in Lyon. What should I wear tomorrow?",
                               "latest iphone model",
                               "What did the stock market do yesterday?",
                               "events in berlin this weekend"}) {
    EXPECT_NE(AsksAboutNow(question), "") << question;
  }
}

TEST(FreshnessTest, LeavesOtherQuestionsAlone) {
  for (const char* question :
       {"What is the capital of France?",
        "How do I get the current date in Python?",
        "What is electric current?",
        "What is the current in a series circuit?",
        "How do I calculate the current ratio from a balance sheet?",
        "How do I delete all keys in the current Redis database?",
        "lost debit card what now",
        "I resigned and am not working now. How do I get my provident fund out?",
        "My server is too slow now. What are the steps for resizing it?",
        "Now that the order is placed, who ships it?",
        "Why does the weather change?",
        "How can I add VAT at 20% to a price?",
        "Why do bond prices fall when interest rates rise?",
        "How do I build a weather app?",
        "What does the weather API return?",
        "I left my phone in a taxi last night. How do I get into my account?",
        "We're preparing a report: how do I get the latest order per customer in SQL?",
        "Is the current or the voltage the same in a series circuit?",
        "",
        "?!",
        "now"}) {
    EXPECT_EQ(AsksAboutNow(question), "") << question;
  }
  AsksAboutNow(std::string("\xff\xfe\x00\x01", 4));
}

class FreshnessJudgeTest : public testing::Test {
 protected:
  Verdict At(core::Duration age, std::string_view asked, std::string_view stored,
             bool pinned = false) {
    return judge.Compare(asked, {stored, 0.97, age, pinned});
  }

  FreshnessJudge judge{CosineJudge::Instance(), 10min};
};

TEST_F(FreshnessJudgeTest, RefusesBeyondTheLimitOnly) {
  const char* asked = "What is the weather in Oslo?";
  EXPECT_FALSE(At(10min - 1ns, asked, asked).refused);
  EXPECT_FALSE(At(10min, asked, asked).refused);
  const Verdict verdict = At(10min + 1ns, asked, asked);
  EXPECT_TRUE(verdict.refused);
  EXPECT_EQ(verdict.reason, "about now (weather), and the answer is older than 10m");
  ASSERT_EQ(verdict.findings.size(), 1u);
  EXPECT_EQ(verdict.findings[0].name, "now");
  EXPECT_EQ(verdict.similarity, 0.97);
}

TEST_F(FreshnessJudgeTest, EitherQuestionCounts) {
  EXPECT_TRUE(At(11min, "gold price please", "What does gold cost?").refused);
  EXPECT_TRUE(At(11min, "What does gold cost?", "What is the current price of gold?").refused);
  EXPECT_FALSE(At(100h, "What is the capital of France?", "capital of france").refused);
}

TEST_F(FreshnessJudgeTest, WhatAPersonPinnedIsServed) {
  EXPECT_FALSE(At(100h, "What is on today?", "What is on today?", true).refused);
}

TEST_F(FreshnessJudgeTest, TheJudgeBehindItKeepsItsFloor) {
  EXPECT_EQ(judge.CosineFloor(0.9), CosineJudge::Instance().CosineFloor(0.9));
}

}  // namespace
}  // namespace holdfast::cache
