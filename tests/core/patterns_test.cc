#include "core/patterns.h"

#include <gtest/gtest.h>

namespace holdfast::core {
namespace {

TEST(PatternsTest, BlanksEveryMatchAndNothingElse) {
  const Patterns date({R"(Today is \d{4}-\d\d-\d\d)", "v[0-9]+"});
  EXPECT_EQ(date.Blank("Today is 2026-11-24. Be kind. v12"), "\x1A. Be kind. \x1A");
  EXPECT_EQ(date.Blank("Today is 2026-11-24."), date.Blank("Today is 1999-01-01."));
  EXPECT_NE(date.Blank("Today is 2026-11-24."), date.Blank("."));
  EXPECT_EQ(date.Blank("Today is Monday."), "Today is Monday.");
  EXPECT_EQ(date.Blank(""), "");
  EXPECT_TRUE(Patterns().empty());
  EXPECT_EQ(Patterns().Blank("as it is"), "as it is");
}

TEST(PatternsTest, NamesWhatIsWrong) {
  EXPECT_EQ(Patterns::Fault("a+"), "");
  EXPECT_NE(Patterns::Fault("(a"), "");
  EXPECT_NE(Patterns::Fault("a{2,1}"), "");
  EXPECT_NE(Patterns::Fault(R"((a)\1)"), "");
  EXPECT_EQ(Patterns::Fault(".*"), "matches the empty text");
  EXPECT_EQ(Patterns::Fault(""), "matches the empty text");
}

}  // namespace
}  // namespace holdfast::core
