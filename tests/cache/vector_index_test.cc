#include "cache/vector_index.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <map>
#include <random>
#include <set>

#include "cache/scope_index.h"
#include "tests/cache/cache_fixture.h"

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
      EXPECT_NEAR(candidate.similarity, Dot(query, all[candidate.slot]), 1e-4);
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

TEST(VectorIndex, AGraphWithManyRemovedOnesIsBuiltAnewBesideTheOld) {
  std::mt19937 random(4);
  VectorIndex index(kDimension, 20);
  std::map<uint32_t, std::vector<float>> all;
  const auto add = [&] {
    const auto vector = RandomUnit(random);
    all.emplace(index.Add(vector), vector);
  };
  const auto remove = [&] {
    index.Remove(all.begin()->first);
    all.erase(all.begin());
  };
  const auto all_are_found = [&] {
    for (const auto& [slot, vector] : all) {
      EXPECT_EQ(index.Search(vector, 1, 0.99f).at(0).slot, slot);
    }
  };
  for (int i = 0; i < 200; ++i) add();
  while (index.ExtendGraph(100)) {
  }
  EXPECT_EQ(index.graphed(), 200u);
  for (int i = 0; i < 50; ++i) remove();
  EXPECT_FALSE(index.ExtendGraph(1)) << "a third of the living: not more";
  EXPECT_FALSE(index.rebuilding());
  remove();
  EXPECT_TRUE(index.ExtendGraph(1));
  EXPECT_TRUE(index.rebuilding());
  while (index.ExtendGraph(10)) {
    EXPECT_EQ(index.graphed(), index.slots()) << "the old one serves until then";
    all_are_found();
    remove();
    add();
  }
  EXPECT_FALSE(index.rebuilding());
  EXPECT_EQ(index.graphed(), index.slots());
  all_are_found();
  const size_t slots = index.slots();
  const size_t dead = slots - all.size();
  EXPECT_GT(dead, 50u);
  for (int i = 0; i < 40; ++i) add();
  EXPECT_EQ(index.slots(), slots) << "their places are taken first";
  all_are_found();
}

// Vectors that have a cluster each, as questions have.
std::vector<float> Around(const std::vector<float>& centre, std::mt19937& random) {
  auto noise = RandomUnit(random, centre.size());
  const auto cosine = std::uniform_real_distribution<float>(0.6f, 0.95f)(random);
  double squares = 0;
  const auto along = static_cast<float>(Dot(noise, centre));
  for (size_t i = 0; i < noise.size(); ++i) {
    noise[i] = (noise[i] - along * centre[i]) * std::sqrt(1 - cosine * cosine) + cosine * centre[i];
    squares += static_cast<double>(noise[i]) * noise[i];
  }
  for (float& value : noise) value = static_cast<float>(value / std::sqrt(squares));
  return noise;
}

TEST(VectorIndex, HalfTheEntriesChangeAndRecallStays) {
  constexpr size_t kWide = 96, kCount = 3000;
  std::mt19937 random(12);
  std::vector<std::vector<float>> centres(60);
  for (auto& centre : centres) centre = RandomUnit(random, kWide);
  const auto draw = [&] { return Around(centres[random() % centres.size()], random); };
  VectorIndex index(kWide, 500);
  std::map<uint32_t, std::vector<float>> all;
  const auto add = [&] {
    const auto vector = draw();
    all.emplace(index.Add(vector), vector);
    index.ExtendGraph(4);
  };
  for (size_t i = 0; i < kCount; ++i) add();
  const auto recall = [&] {
    EXPECT_EQ(index.graphed(), index.slots());
    size_t found = 0, asked = 0;
    for (int i = 0; i < 100; ++i) {
      const auto query = draw();
      const auto slots = Slots(index.Search(query, 10, -1));
      const std::set<uint32_t> seen(slots.begin(), slots.end());
      for (const uint32_t slot : Exact(all, query, 10)) found += seen.count(slot);
      asked += 10;
    }
    return static_cast<double>(found) / static_cast<double>(asked);
  };
  EXPECT_GE(recall(), 0.98);
  for (int round = 0; round < 2; ++round) {
    // Half go and as many come, in turns or all at once.
    for (size_t i = 0; i < kCount / 2; ++i) {
      const auto victim = std::next(all.begin(), static_cast<ptrdiff_t>(random() % all.size()));
      index.Remove(victim->first);
      all.erase(victim);
      if (round != 1) add();
    }
    EXPECT_GE(recall(), 0.98) << round;
    while (all.size() < kCount) add();
    EXPECT_GE(recall(), 0.98) << round;
  }
  EXPECT_LE(index.slots(), kCount * 2) << "places come back";
}

TEST(Quantized, ItsCosinesAreExactToFourPlacesAndToItselfOne) {
  std::mt19937 random(3);
  for (const size_t dimension : {1u, 2u, 31u, 32u, 33u, 384u, 1000u}) {
    for (int i = 0; i < 50; ++i) {
      const auto a = RandomUnit(random, dimension), b = RandomUnit(random, dimension);
      const QuantizedVector q = Quantize(b);
      std::vector<int8_t> upper, lower;
      for (const int16_t value : q.values) {
        upper.push_back(UpperHalf(value));
        lower.push_back(LowerHalf(value));
        EXPECT_EQ(upper.back() * 256 + lower.back(), value);
      }
      const auto dot = [&](const std::vector<float>& query) {
        return Dot16(query.data(), upper.data(), lower.data(), dimension) * q.scale;
      };
      EXPECT_NEAR(dot(a), Dot(a, b), 5e-5) << dimension;
      EXPECT_NEAR(dot(b), 1, 1e-6) << dimension;
      int32_t plain = 0;
      for (const int8_t value : upper) plain += value * value;
      EXPECT_EQ(Dot8(upper.data(), upper.data(), dimension), plain);
    }
  }
  EXPECT_EQ(Quantize(std::vector<float>{0, 0}).scale, 0);
  const std::vector<int8_t> largest(100'000, -127);
  EXPECT_EQ(Dot8(largest.data(), largest.data(), largest.size()), 127 * 127 * 100'000);
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

void Put(ScopeIndex& index, int number, int seconds, const std::vector<float>& vector) {
  const std::string key = KeyNumber(number);
  const std::string id = "id " + std::to_string(number) + " " + std::to_string(seconds);
  index.Put({key, id, At(seconds)}, Quantize(vector));
}

// More equals than one round shows, and with a graph that knows nothing of age.
TEST(ScopeIndex, OfEqualsTheNewestComesFirstHoweverMany) {
  for (const size_t flat_limit : {10u, 100000u}) {
    ScopeIndex index(2, flat_limit);
    std::vector<int> order(500);
    std::iota(order.begin(), order.end(), 0);
    std::shuffle(order.begin(), order.end(), std::mt19937(5));
    for (const int i : order) {
      Put(index, i, i, {1, 0});
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
    Put(index, i, i, vectors.back());
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
  EXPECT_GT(seen.size(), 256u) << "all the rounds are needed";
  EXPECT_TRUE(std::is_sorted(seen.rbegin(), seen.rend()));
  int shown = 0;
  index.Visit(query, -0.2, [&](const ScopeIndex::Item&, double) { return ++shown == 20; });
  EXPECT_EQ(shown, 20);
}

TEST(ScopeIndex, AScanThatIsStoppedShowsWhatItHasSeen) {
  constexpr int kSteps = 3;
  constexpr int kCount = kSteps * static_cast<int>(VectorIndex::kScanStep);
  ScopeIndex index(2, kCount);
  for (int i = 0; i < kCount; ++i) Put(index, i, i, {0.6f, 0.8f});
  const int last[] = {0, static_cast<int>(VectorIndex::kScanStep), kCount - 1};  // of each step
  for (const int i : last) Put(index, i, i, {1, 0});  // takes its slot again
  const std::vector<float> query = {1, 0};
  for (int steps = 1; steps <= kSteps; ++steps) {
    int asked = 0, shown = 0;
    index.Visit(
        query, 0.9,
        [&](const ScopeIndex::Item&, double) {
          ++shown;
          return false;
        },
        [&] { return ++asked == steps; });
    EXPECT_EQ(shown, steps);
  }
}

TEST(ScopeIndex, PutReplacesAndRemoveForgets) {
  ScopeIndex index(2, 100);
  Put(index, 1, 1, {1, 0});
  Put(index, 1, 2, {0, 1});
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

TEST(ScopeIndex, SimilarityIsInTenThousandthsAndNeverAboveOne) {
  ScopeIndex index(2, 100);
  Put(index, 1, 1, {0.7f, std::sqrt(1 - 0.49f)});
  double seen = 0;
  const auto look = [&](double threshold) {
    seen = 0;
    index.Visit(std::vector<float>{1, 0}, threshold, [&](const ScopeIndex::Item&, double s) {
      seen = s;
      return true;
    });
    return seen != 0;
  };
  EXPECT_TRUE(look(0.7 - 1e-4));
  EXPECT_TRUE(look(0.7));  // in 16 bits, 0.7 is a little more or less
  EXPECT_EQ(seen, 0.7);
  EXPECT_FALSE(look(0.7 + 1e-4));
}

TEST(ScopeIndex, RecallStaysWhenMostOfASavedGraphIsGone) {
  constexpr size_t kWide = 96;
  constexpr int kCount = 2500;
  testing::TempDir dir;
  std::mt19937 random(8);
  std::vector<std::vector<float>> centres(40);
  for (auto& centre : centres) centre = RandomUnit(random, kWide);
  const auto draw = [&] { return Around(centres[random() % centres.size()], random); };
  std::map<int, std::vector<float>> vectors;
  {
    ScopeIndex index(kWide, 500);
    for (int i = 0; i < kCount; ++i) Put(index, i, 1, vectors[i] = draw());
    while (index.ExtendGraph(100)) {
    }
    ASSERT_TRUE(index.Save(dir.path(), "embedder"));
  }
  std::erase_if(vectors, [](const auto& one) { return one.first % 10 < 8; });
  ScopeIndex index(kWide, 500);
  index.BeginRestore(*ScopeIndex::ReadSaved(dir.path(), "embedder", kWide));
  for (const auto& [number, vector] : vectors) {
    const std::string key = KeyNumber(number);
    index.Load({key, "id " + std::to_string(number) + " 1", At(1)}, Quantize(vector));
  }
  index.PrepareGraph();
  index.FinishLoad();
  ASSERT_TRUE(index.GraphIsWhole());
  int found = 0;
  constexpr int kQueries = 100, kNeighbours = 10;
  for (int q = 0; q < kQueries; ++q) {
    const auto query = draw();
    std::vector<std::pair<double, std::string>> exact;
    for (const auto& [number, vector] : vectors) {
      exact.emplace_back(-Dot(query, vector), KeyNumber(number));
    }
    std::sort(exact.begin(), exact.end());
    std::set<std::string> nearest;
    for (int i = 0; i < kNeighbours; ++i) nearest.insert(exact[static_cast<size_t>(i)].second);
    int seen = 0;
    index.Visit(query, -1, [&](const ScopeIndex::Item& item, double) {
      found += static_cast<int>(nearest.count(std::string(item.question_key())));
      return ++seen == kNeighbours;
    });
  }
  EXPECT_GE(found, kQueries * kNeighbours * 98 / 100);
}

// An index of 300 in a graph, saved; what the store "has" when it is taken up again is up to the
// test.
class SavedIndex : public ::testing::Test {
 protected:
  static constexpr size_t kFlatLimit = 50;

  SavedIndex() {
    ScopeIndex index(kDimension, kFlatLimit);
    for (int i = 0; i < 300; ++i) {
      vectors_[i] = RandomUnit(random_);
      Put(index, i, 1, vectors_[i]);
    }
    for (int i = 0; i < 30; ++i) Forget(index, i);
    while (index.ExtendGraph(50)) {
    }
    EXPECT_TRUE(index.GraphIsWhole());
    EXPECT_TRUE(index.Save(dir_.path(), "embedder"));
  }
  void Forget(ScopeIndex& index, int number) {
    index.Remove(KeyNumber(number));
    vectors_.erase(number);
  }
  // Returns whether there was a graph to take up.
  bool Restore(ScopeIndex& index, int changed_from = 1000) {
    const auto saved = ScopeIndex::ReadSaved(dir_.path(), "embedder", kDimension);
    if (saved) index.BeginRestore(*saved);
    for (const auto& [number, vector] : vectors_) {
      const std::string key = KeyNumber(number);
      const int seconds = number < changed_from ? 1 : 2;
      const std::string id = "id " + std::to_string(number) + " " + std::to_string(seconds);
      index.Load({key, id, At(seconds)}, Quantize(vector));
      index.Load({key, "another", At(9)}, Quantize(RandomUnit(random_)));  // it is in already
    }
    index.PrepareGraph();
    index.FinishLoad();
    return index.HasGraph();
  }
  void ExpectAllFound(ScopeIndex& index) {
    EXPECT_EQ(index.size(), vectors_.size());
    std::set<std::string> found;
    for (const auto& [number, vector] : vectors_) {
      index.Visit(vector, 0.999, [&](const ScopeIndex::Item& item, double) {
        EXPECT_EQ(item.question_key(), KeyNumber(number));
        found.emplace(item.question_key());
        return true;
      });
    }
    EXPECT_EQ(found.size(), vectors_.size());
    size_t seen = 0;
    index.Visit(RandomUnit(random_), -1, [&](const ScopeIndex::Item& item, double) {
      EXPECT_TRUE(vectors_.contains(std::atoi(std::string(item.question_key()).c_str())));
      ++seen;
      return false;
    });
    EXPECT_EQ(seen, vectors_.size());
  }
  void Flip(const std::string& file, std::streamoff at) {
    std::fstream stream(dir_.path() / file, std::ios::in | std::ios::out | std::ios::binary);
    stream.seekg(at);
    const char byte = static_cast<char>(stream.get() ^ 4);
    stream.seekp(at);
    stream.put(byte);
  }

  testing::TempDir dir_;
  std::mt19937 random_{21};
  std::map<int, std::vector<float>> vectors_;
};

TEST_F(SavedIndex, IsTakenUpAsItWas) {
  ScopeIndex index(kDimension, kFlatLimit);
  EXPECT_TRUE(Restore(index));
  EXPECT_EQ(index.ungraphed(), 0u);
  ExpectAllFound(index);
}

TEST_F(SavedIndex, TheStoreSaysWhatThereIs) {
  for (int i = 100; i < 150; ++i) vectors_.erase(i);
  for (int i = 200; i < 300; ++i) vectors_[i] = RandomUnit(random_);  // replaced since
  for (int i = 300; i < 320; ++i) vectors_[i] = RandomUnit(random_);  // new
  ScopeIndex index(kDimension, kFlatLimit);
  EXPECT_TRUE(Restore(index, 200));
  ExpectAllFound(index);
  while (index.ExtendGraph(10)) {
  }
  EXPECT_TRUE(index.GraphIsWhole());
  ExpectAllFound(index);
  for (int i = 320; i < 400; ++i) {
    vectors_[i] = RandomUnit(random_);
    Put(index, i, 1, vectors_[i]);
  }
  ExpectAllFound(index);
}

TEST_F(SavedIndex, ChangesWhileItLoadsHold) {
  ScopeIndex index(kDimension, kFlatLimit);
  index.BeginRestore(*ScopeIndex::ReadSaved(dir_.path(), "embedder", kDimension));
  for (int i = 60; i < 80; ++i) {
    vectors_[i] = RandomUnit(random_);
    Put(index, i, 2, vectors_[i]);
    EXPECT_TRUE(index.Contains(KeyNumber(i)));
  }
  EXPECT_FALSE(index.Contains(KeyNumber(90))) << "it waits for its vector";
  for (int i = 80; i < 90; ++i) Forget(index, i);
  for (const auto& [number, vector] : vectors_) {
    const std::string key = KeyNumber(number);
    index.Load({key, "id " + std::to_string(number) + " 1", At(1)}, Quantize(vector));
  }
  index.PrepareGraph();
  index.FinishLoad();
  EXPECT_TRUE(index.HasGraph());
  ExpectAllFound(index);
}

TEST_F(SavedIndex, ADamagedOneIsAsNone) {
  const auto graph_size =
      static_cast<std::streamoff>(std::filesystem::file_size(dir_.path() / "graph"));
  const auto table_size =
      static_cast<std::streamoff>(std::filesystem::file_size(dir_.path() / "slots"));
  for (int i = 0; i < 40; ++i) {
    const bool graph = i % 2 == 0;
    const auto at = static_cast<std::streamoff>(
        random_() % static_cast<uint64_t>(graph ? graph_size : table_size));
    Flip(graph ? "graph" : "slots", at);
    EXPECT_FALSE(ScopeIndex::ReadSaved(dir_.path(), "embedder", kDimension)) << at;
    Flip(graph ? "graph" : "slots", at);
  }
  EXPECT_TRUE(ScopeIndex::ReadSaved(dir_.path(), "embedder", kDimension));
  EXPECT_FALSE(ScopeIndex::ReadSaved(dir_.path(), "another", kDimension));
  EXPECT_FALSE(ScopeIndex::ReadSaved(dir_.path(), "embedder", kDimension + 1));
  for (const char* file : {"graph", "slots"}) {
    std::filesystem::resize_file(dir_.path() / file,
                                 std::filesystem::file_size(dir_.path() / file) - 1);
    EXPECT_FALSE(ScopeIndex::ReadSaved(dir_.path(), "embedder", kDimension));
  }
  ScopeIndex index(kDimension, kFlatLimit);
  EXPECT_FALSE(Restore(index));
  ExpectAllFound(index);
}

}  // namespace
}  // namespace holdfast::cache
