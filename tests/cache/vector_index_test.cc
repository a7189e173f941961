#include "cache/vector_index.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <map>
#include <random>
#include <set>

#include "cache/scope_index.h"

namespace holdfast::cache {
namespace {

constexpr size_t kDimension = 32;

std::vector<float> RandomUnit(std::mt19937& random, size_t dimension = kDimension) {
  std::normal_distribution<float> normal;
  std::vector<float> vector(dimension);
  double squares = 0;
  for (float& value : vector) {
    value = normal(random);
    squares += static_cast<double>(value) * value;
  }
  for (float& value : vector) value = static_cast<float>(value / std::sqrt(squares));
  return vector;
}

double Dot(const std::vector<float>& a, const std::vector<float>& b) {
  double sum = 0;
  for (size_t i = 0; i < a.size(); ++i) sum += static_cast<double>(a[i]) * b[i];
  return sum;
}

std::vector<uint32_t> Exact(const std::map<uint32_t, std::vector<float>>& all,
                            const std::vector<float>& query, size_t k) {
  std::vector<std::pair<double, uint32_t>> order;
  for (const auto& [slot, vector] : all) order.emplace_back(-Dot(query, vector), slot);
  std::sort(order.begin(), order.end());
  std::vector<uint32_t> slots;
  for (size_t i = 0; i < std::min(k, order.size()); ++i) slots.push_back(order[i].second);
  return slots;
}

std::vector<uint32_t> Slots(const std::vector<VectorIndex::Candidate>& candidates) {
  std::vector<uint32_t> slots;
  for (const auto& candidate : candidates) slots.push_back(candidate.slot);
  return slots;
}

// Random adds and removes against a map; returns the recall at 10 that it saw.
double Churn(size_t flat_limit, int operations, bool exact) {
  std::mt19937 random(7);
  VectorIndex index(kDimension, flat_limit);
  std::map<uint32_t, std::vector<float>> all;
  size_t found = 0, asked = 0;
  for (int i = 0; i < operations; ++i) {
    if (random() % 10 < 3 && !all.empty()) {
      const auto victim = std::next(all.begin(), static_cast<ptrdiff_t>(random() % all.size()));
      index.Remove(victim->first);
      all.erase(victim);
    } else {
      const auto vector = RandomUnit(random);
      const uint32_t slot = index.Add(vector);
      EXPECT_TRUE(all.emplace(slot, vector).second) << "a slot in use was given away";
    }
    index.ExtendGraph(4);
    EXPECT_EQ(index.size(), all.size());
    if (i % 20 != 0) continue;
    const auto query = RandomUnit(random);
    const auto expected = Exact(all, query, 10);
    const auto candidates = index.Search(query, 10, -2);
    EXPECT_TRUE(std::is_sorted(candidates.begin(), candidates.end(),
                               [](auto& a, auto& b) { return a.similarity > b.similarity; }));
    for (const auto& candidate : candidates) {
      EXPECT_TRUE(all.contains(candidate.slot)) << "a removed one was found";
      if (!all.contains(candidate.slot)) continue;
      EXPECT_NEAR(candidate.similarity, Dot(query, all[candidate.slot]), 1e-5);
    }
    const auto slots = Slots(candidates);
    if (exact) EXPECT_EQ(slots, expected);
    const std::set<uint32_t> seen(slots.begin(), slots.end());
    for (const uint32_t slot : expected) found += seen.count(slot);
    asked += expected.size();
  }
  EXPECT_EQ(index.graphed() > 0, !exact);
  return static_cast<double>(found) / static_cast<double>(asked);
}

TEST(VectorIndex, FlatIsExactUnderChurn) { EXPECT_EQ(Churn(100000, 1500, true), 1); }

TEST(VectorIndex, GraphAgreesWithBruteForceUnderChurn) { EXPECT_GE(Churn(200, 4000, false), 0.97); }

TEST(VectorIndex, AGraphOfMostlyRemovedOnesIsBuiltAnew) {
  std::mt19937 random(4);
  VectorIndex index(kDimension, 20);
  std::map<uint32_t, std::vector<float>> all;
  const auto add = [&] {
    const auto vector = RandomUnit(random);
    all.emplace(index.Add(vector), vector);
  };
  for (int i = 0; i < 200; ++i) add();
  while (index.ExtendGraph(100)) {
  }
  EXPECT_EQ(index.graphed(), 200u);
  for (int i = 0; i < 100; ++i) {
    index.Remove(all.begin()->first);
    all.erase(all.begin());
  }
  EXPECT_EQ(index.graphed(), 200u);
  index.Remove(all.begin()->first);
  all.erase(all.begin());
  EXPECT_EQ(index.graphed(), 0u);
  for (int i = 0; i < 101; ++i) add();
  EXPECT_EQ(index.slots(), 200u) << "their places are taken first";
  while (index.ExtendGraph(7)) {
  }
  EXPECT_EQ(index.graphed(), 200u);
  EXPECT_EQ(index.size(), 200u);
  for (const auto& [slot, vector] : all) EXPECT_EQ(index.Search(vector, 1, 0.99f).at(0).slot, slot);
}

TEST(VectorIndex, FindsNothingInNothing) {
  VectorIndex index(kDimension);
  std::mt19937 random(1);
  EXPECT_TRUE(index.Search(RandomUnit(random), 10, -2).empty());
  const uint32_t slot = index.Add(RandomUnit(random));
  index.Remove(slot);
  EXPECT_TRUE(index.Search(RandomUnit(random), 10, -2).empty());
}

TEST(VectorIndex, TheGraphBeginsJustPastTheLimit) {
  std::mt19937 random(1);
  VectorIndex index(kDimension, 10);
  for (int i = 0; i < 10; ++i) index.Add(RandomUnit(random));
  EXPECT_FALSE(index.ExtendGraph(100));
  EXPECT_EQ(index.graphed(), 0u);
  index.Add(RandomUnit(random));
  EXPECT_TRUE(index.ExtendGraph(10));
  EXPECT_EQ(index.graphed(), 10u);
  EXPECT_FALSE(index.ExtendGraph(10));
  EXPECT_EQ(index.graphed(), 11u);
}

TEST(VectorIndex, AHalfBuiltGraphMissesNothing) {
  std::mt19937 random(3);
  VectorIndex index(kDimension, 10);
  std::map<uint32_t, std::vector<float>> all;
  for (int i = 0; i < 300; ++i) {
    const auto vector = RandomUnit(random);
    all.emplace(index.Add(vector), vector);
  }
  index.ExtendGraph(150);
  for (const auto& [slot, vector] : all) {
    const auto candidates = index.Search(vector, 1, 0.99f);
    ASSERT_EQ(candidates.size(), 1u);
    EXPECT_EQ(candidates[0].slot, slot);
  }
}

TEST(VectorIndex, AThresholdCutsTheList) {
  VectorIndex index(2);
  index.Add(std::vector<float>{1, 0});
  index.Add(std::vector<float>{0.8f, 0.6f});
  index.Add(std::vector<float>{0, 1});
  const std::vector<float> query = {1, 0};
  EXPECT_EQ(index.Search(query, 9, 0.9f).size(), 1u);
  EXPECT_EQ(index.Search(query, 9, 0.8f).size(), 2u);
  EXPECT_EQ(index.Search(query, 9, -1).size(), 3u);
  EXPECT_EQ(index.Search(query, 2, -1).size(), 2u);
}

std::string KeyNumber(int i) {
  std::string key = std::to_string(i);
  key.resize(kQuestionKeySize, '.');
  return key;
}

core::WallTime At(int seconds) { return core::WallTime(std::chrono::seconds(seconds)); }

// More equals than one round shows, and with a graph that knows nothing of age.
TEST(ScopeIndex, OfEqualsTheNewestComesFirstHoweverMany) {
  for (const size_t flat_limit : {10u, 100000u}) {
    ScopeIndex index(2, flat_limit);
    std::vector<int> order(500);
    std::iota(order.begin(), order.end(), 0);
    std::shuffle(order.begin(), order.end(), std::mt19937(5));
    for (const int i : order) {
      index.Put(KeyNumber(i), At(i), std::vector<float>{1, 0});
      index.ExtendGraph(4);
    }
    std::vector<int> seen;
    index.Visit(
        std::vector<float>{1, 0}, 0.5, [&](const ScopeIndex::Item& item, double similarity) {
          EXPECT_EQ(similarity, 1);
          seen.push_back(static_cast<int>(
              std::chrono::duration_cast<std::chrono::seconds>(item.created_at.time_since_epoch())
                  .count()));
          return false;
        });
    ASSERT_EQ(seen.size(), 500u);
    EXPECT_TRUE(std::is_sorted(seen.rbegin(), seen.rend()));
  }
}

TEST(ScopeIndex, ShowsAllAboveTheThresholdNearestFirstAndStopsWhenTold) {
  std::mt19937 random(9);
  ScopeIndex index(kDimension, 50);
  std::vector<std::vector<float>> vectors;
  for (int i = 0; i < 400; ++i) {
    vectors.push_back(RandomUnit(random));
    index.Put(KeyNumber(i), At(i), vectors.back());
    index.ExtendGraph(4);
  }
  const auto query = RandomUnit(random);
  const auto expected =
      std::count_if(vectors.begin(), vectors.end(), [&](auto& v) { return Dot(query, v) >= -0.2; });
  std::vector<double> seen;
  index.Visit(query, -0.2, [&](const ScopeIndex::Item&, double similarity) {
    seen.push_back(similarity);
    return false;
  });
  EXPECT_EQ(seen.size(), static_cast<size_t>(expected));
  EXPECT_GT(seen.size(), 128u) << "all the rounds are needed";
  EXPECT_TRUE(std::is_sorted(seen.rbegin(), seen.rend()));
  int shown = 0;
  index.Visit(query, -0.2, [&](const ScopeIndex::Item&, double) { return ++shown == 20; });
  EXPECT_EQ(shown, 20);
}

TEST(ScopeIndex, PutReplacesAndRemoveForgets) {
  ScopeIndex index(2, 100);
  index.Put(KeyNumber(1), At(1), std::vector<float>{1, 0});
  index.Put(KeyNumber(1), At(2), std::vector<float>{0, 1});
  EXPECT_EQ(index.size(), 1u);
  int shown = 0;
  index.Visit(std::vector<float>{0, 1}, 0.9, [&](const ScopeIndex::Item& item, double) {
    EXPECT_EQ(item.created_at, At(2));
    ++shown;
    return false;
  });
  EXPECT_EQ(shown, 1);
  index.Remove(KeyNumber(1));
  index.Remove(KeyNumber(2));
  EXPECT_EQ(index.size(), 0u);
}

TEST(ScopeIndex, SimilarityIsInMillionthsAndNeverAboveOne) {
  ScopeIndex index(2, 100);
  index.Put(KeyNumber(1), At(1), std::vector<float>{0.7f, std::sqrt(1 - 0.49f)});
  double seen = 0;
  const auto look = [&](double threshold) {
    seen = 0;
    index.Visit(std::vector<float>{1, 0}, threshold, [&](const ScopeIndex::Item&, double s) {
      seen = s;
      return true;
    });
    return seen != 0;
  };
  EXPECT_TRUE(look(0.7 - 1e-6));
  EXPECT_TRUE(look(0.7));  // as a float, 0.7 is a little less
  EXPECT_EQ(seen, 0.7);
  EXPECT_FALSE(look(0.7 + 1e-6));
}

}  // namespace
}  // namespace holdfast::cache
