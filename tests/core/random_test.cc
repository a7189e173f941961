#include "core/random.h"

#include <set>
#include <string>

#include "gtest/gtest.h"
#include "tests/fakes/scripted_random.h"

namespace holdfast::core {
namespace {

TEST(RandomTest, UniformIsInRangeAndRepeatsBySeed) {
  SeededRandom a(42), b(42), other(43);
  double sum = 0;
  bool differs = false;
  for (int i = 0; i < 10'000; ++i) {
    const double value = a.Uniform();
    ASSERT_GE(value, 0);
    ASSERT_LT(value, 1);
    ASSERT_EQ(value, b.Uniform());
    differs |= value != other.Uniform();
    sum += value;
  }
  EXPECT_NEAR(sum / 10'000, 0.5, 0.02);
  EXPECT_TRUE(differs);
}

TEST(RandomTest, IdsHave26CharactersSortByTimeAndDiffer) {
  SeededRandom random(1);
  const std::string early = NewId(random, 1'700'000'000'000);
  const std::string late = NewId(random, 1'700'000'000'001);
  EXPECT_EQ(early.size(), 26u);
  EXPECT_LT(early.substr(0, 10), late.substr(0, 10));
  std::set<std::string> ids;
  for (int i = 0; i < 10'000; ++i) ids.insert(NewId(random, 5));
  EXPECT_EQ(ids.size(), 10'000u);
}

TEST(RandomTest, IdAtTheEndsOfChanceAndTime) {
  testing::ScriptedRandom low({}, 0.0), high({}, 0x1.fffffffffffffp-1);
  EXPECT_EQ(NewId(low, 0), std::string(26, '0'));
  EXPECT_EQ(NewId(high, (uint64_t{1} << 48) - 1), "7" + std::string(25, 'Z'));
}

}  // namespace
}  // namespace holdfast::core
