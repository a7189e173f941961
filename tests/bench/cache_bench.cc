// A million entries in one scope: what storing them, starting with them and finding among them
// costs. `make bench-cache` runs it; it is no test and compares with no limit but what it prints.
//
//   cache_bench [--entries N] [--queries N] [--directory D] [--only PHASE] [--encrypted yes]
//               [--model FILE --sentences FILE]
//
// Vectors are a centre each plus Gaussian noise, so that their cosine to it is between .6 and .95;
// so are the questions. Centres are the sentences of a file (a JSON object a line, with the
// sentences "a" and "b"), embedded by the shipped encoder; without them, random directions.
// Exact neighbours come from all vectors in full precision. Each phase is a process of its own, so
// that what is resident is the cache's alone.

#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <ctime>
#include <filesystem>
#include <fstream>
#include <functional>
#include <map>
#include <nlohmann/json.hpp>
#include <random>
#include <set>
#include <string>
#include <thread>
#include <vector>

#include "cache/answer_book.h"
#include "cache/encoder/sentence_embedder.h"
#include "core/random.h"

namespace holdfast::cache {
namespace {

namespace fs = std::filesystem;

constexpr size_t kDimension = 384;
constexpr size_t kNeighbours = 10;

struct Settings {
  size_t entries = 1'000'000;
  size_t queries = 300;
  fs::path directory;
  fs::path model;
  fs::path sentences;
  bool encrypted = false;

  fs::path centres() const { return directory / "centres"; }  // floats, kDimension each
};

using Vector = std::vector<float>;

void Normalize(Vector& vector) {
  double squares = 0;
  for (const float value : vector) squares += static_cast<double>(value) * value;
  const auto norm = static_cast<float>(std::sqrt(squares));
  for (float& value : vector) value /= norm;
}

float Dot(const float* a, const float* b) {
  constexpr size_t kLanes = 16;
  float sums[kLanes] = {};
  for (size_t i = 0; i < kDimension; i += kLanes) {
    for (size_t lane = 0; lane < kLanes; ++lane) sums[lane] += a[i + lane] * b[i + lane];
  }
  float sum = 0;
  for (const float lane : sums) sum += lane;
  return sum;
}

Vector Gaussian(std::mt19937_64& random) {
  // Twelve bytes of chance a number, summed, are near enough to normal, and fast.
  Vector vector(kDimension);
  for (float& value : vector) {
    uint64_t bits = random();
    int sum = -510 * 2;
    for (int i = 0; i < 8; ++i, bits >>= 8) sum += static_cast<int>(bits & 255);
    value = static_cast<float>(sum);
  }
  Normalize(vector);
  return vector;
}

// The number's vector, always the same: entries count up from 0, queries down from the top.
class Source {
 public:
  explicit Source(const fs::path& file) {
    std::ifstream in(file, std::ios::binary);
    Vector centre(kDimension);
    while (in.read(reinterpret_cast<char*>(centre.data()), kDimension * sizeof(float))) {
      centres_.push_back(centre);
    }
    std::mt19937_64 random(1);
    constexpr size_t kRandomCentres = 3000;
    if (centres_.empty()) {
      while (centres_.size() < kRandomCentres) centres_.push_back(Gaussian(random));
    }
  }

  Vector At(uint64_t number) const {
    std::mt19937_64 random(number * 0x9E3779B97F4A7C15u + 7);
    const Vector& centre = centres_[random() % centres_.size()];
    const float cosine =
        0.6f + 0.35f * static_cast<float>(static_cast<double>(random() >> 11) * 0x1.0p-53);
    Vector vector = Gaussian(random);
    const float along = Dot(vector.data(), centre.data());
    for (size_t i = 0; i < kDimension; ++i) vector[i] -= along * centre[i];
    Normalize(vector);
    const float across = std::sqrt(1 - cosine * cosine);
    for (size_t i = 0; i < kDimension; ++i) vector[i] = vector[i] * across + centre[i] * cosine;
    return vector;
  }
  Vector Query(size_t i) const { return At(~static_cast<uint64_t>(i)); }
  size_t centres() const { return centres_.size(); }

 private:
  std::vector<Vector> centres_;
};

// "q<i>" is the vector of query i; the entries' are given.
class BenchEmbedder final : public core::Embedder {
 public:
  explicit BenchEmbedder(const Source& source) : source_(source) {}
  std::string id() const override { return "bench"; }
  size_t dimension() const override { return kDimension; }
  std::vector<float> Embed(std::string_view text) const override {
    const auto found = ready_.find(std::string(text));
    return found != ready_.end() ? found->second : Vector(kDimension);
  }
  void Prepare(size_t queries) {
    for (size_t i = 0; i < queries; ++i) ready_["q" + std::to_string(i)] = source_.Query(i);
  }

 private:
  const Source& source_;
  std::map<std::string, Vector> ready_;
};

// Shows all candidates, however far, so that a lookup reads and judges all that it may.
class ShowAll final : public Judge {
 public:
  Verdict Compare(std::string_view, const Candidate& candidate) const override {
    return {.similarity = candidate.cosine};
  }
  double CosineFloor(double) const override { return 0.3; }
};

double Seconds(std::chrono::steady_clock::time_point since) {
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - since).count();
}

// Of this process so far: on a machine that others use too it tells more than the clock.
double CpuSeconds() { return static_cast<double>(std::clock()) / CLOCKS_PER_SEC; }

double ThreadSeconds() {
  timespec now{};
  clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
  return static_cast<double>(now.tv_sec) + static_cast<double>(now.tv_nsec) * 1e-9;
}

double StatusMiB(const char* field) {
  std::ifstream status("/proc/self/status");
  std::string line;
  while (std::getline(status, line)) {
    if (line.starts_with(field)) return std::atof(line.c_str() + std::strlen(field) + 1) / 1024;
  }
  return 0;
}

struct Cache {
  explicit Cache(const Settings& settings)
      : source(settings.centres()), embedder(source), random(1) {
    embedder.Prepare(settings.queries);
    SemanticCacheOptions options;
    options.directory = settings.directory / "cache";
    if (settings.encrypted) options.encryption_key = std::string(Cipher::kKeySize, 'k');
    options.warn = [](const std::string& text) { std::printf("WARNING %s\n", text.c_str()); };
    book = std::make_unique<AnswerBook>(options, embedder, clock, random, judge);
  }
  void TendAll() {
    while (book->work_due()) book->Tend();
  }

  const Source source;
  BenchEmbedder embedder;
  const ShowAll judge;
  const core::SystemClock clock;
  core::SeededRandom random;
  const ScopeSource scope{"tenant", "route", ""};
  std::unique_ptr<AnswerBook> book;
};

void PrintTimes(const char* what, std::vector<double> seconds) {
  std::sort(seconds.begin(), seconds.end());
  const auto at = [&](double share) {
    return seconds[std::min(seconds.size() - 1,
                            static_cast<size_t>(share * static_cast<double>(seconds.size())))] *
           1000;
  };
  std::printf("%s: p50 %.2f ms, p99 %.2f ms, most %.2f ms (%zu)\n", what, at(0.5), at(0.99),
              seconds.back() * 1000, seconds.size());
}

int Embed(const Settings& settings) {
  if (settings.model.empty() || settings.sentences.empty()) {
    std::printf("no model or no sentences given: centres are random directions\n");
    return 0;
  }
  const auto embedder = SentenceEmbedder::Load(settings.model.string());
  std::ifstream in(settings.sentences);
  if (!embedder.ok() || !in || (*embedder)->dimension() != kDimension) {
    std::printf("the model or the sentences cannot be read\n");
    return 1;
  }
  std::ofstream out(settings.centres(), std::ios::binary);
  std::set<std::string> seen;
  for (std::string line; std::getline(in, line);) {
    const auto json = nlohmann::json::parse(line, nullptr, false);
    for (const char* field : {"a", "b"}) {
      if (!json.is_object() || !json.contains(field) || !json[field].is_string()) continue;
      const auto text = json[field].get<std::string>();
      if (!seen.insert(text).second) continue;
      const Vector vector = (*embedder)->Embed(text);
      out.write(reinterpret_cast<const char*>(vector.data()), kDimension * sizeof(float));
    }
  }
  std::printf("%zu sentences embedded\n", seen.size());
  return out && !seen.empty() ? 0 : 1;
}

int Insert(const Settings& settings) {
  Cache cache(settings);
  std::printf("%zu centres, vectors read by %s\n", cache.source.centres(), DotInstructions());
  const std::string filler(940, 'x');
  constexpr size_t kBlock = 2000;
  double busy = 0, cpu = 0;
  double slowest = 0;
  for (size_t from = 0; from < settings.entries; from += kBlock) {
    const size_t count = std::min(kBlock, settings.entries - from);
    std::vector<InsertOptions> vectors(count);
    for (size_t i = 0; i < count; ++i) vectors[i].vector = cache.source.At(from + i);
    const auto start = std::chrono::steady_clock::now();
    const double cpu_start = CpuSeconds();
    for (size_t i = 0; i < count; ++i) {
      const std::string number = std::to_string(from + i);
      const std::string question = "What does entry number " + number + " say about its matter?";
      if (!cache.book->Insert(cache.scope, question, {number + " " + filler, "provider", "model"},
                              cache.clock.WallNow(), vectors[i])) {
        std::printf("not stored\n");
        return 1;
      }
    }
    cache.TendAll();
    const double seconds = Seconds(start);
    busy += seconds;
    cpu += CpuSeconds() - cpu_start;
    slowest = std::max(slowest, seconds / static_cast<double>(count));
    if ((from / kBlock) % 50 == 49) {
      std::printf("  %zu entries, %.0f a second so far, %.0f a CPU second, index %zu MiB\n",
                  from + count, static_cast<double>(from + count) / busy,
                  static_cast<double>(from + count) / cpu, cache.book->index_bytes() >> 20);
      std::fflush(stdout);
    }
  }
  std::printf(
      "insert: %.0f a second over all, %.0f a CPU second, %.0f in the slowest 2,000; resident %.0f "
      "MiB, peak %.0f\n",
      static_cast<double>(settings.entries) / busy, static_cast<double>(settings.entries) / cpu,
      1 / slowest, StatusMiB("VmRSS:"), StatusMiB("VmHWM:"));
  const auto closing = std::chrono::steady_clock::now();
  cache.book.reset();
  std::printf("close: %.1f s\n", Seconds(closing));
  return 0;
}

// Per query its nearest entries' numbers, as text.
int Exact(const Settings& settings) {
  const Source source(settings.centres());
  std::vector<Vector> queries;
  for (size_t i = 0; i < settings.queries; ++i) queries.push_back(source.Query(i));
  using Found = std::vector<std::pair<float, size_t>>;  // a heap, the farthest first
  std::vector<Found> best(queries.size());
  const auto work = [&](size_t first, size_t step, std::vector<Found>& mine) {
    for (size_t number = first; number < settings.entries; number += step) {
      const Vector vector = source.At(number);
      for (size_t q = 0; q < queries.size(); ++q) {
        const float distance = -Dot(vector.data(), queries[q].data());
        Found& found = mine[q];
        if (found.size() == kNeighbours && distance >= found.front().first) continue;
        found.emplace_back(distance, number);
        std::push_heap(found.begin(), found.end());
        if (found.size() <= kNeighbours) continue;
        std::pop_heap(found.begin(), found.end());
        found.pop_back();
      }
    }
  };
  std::vector<Found> other(queries.size());
  std::thread half([&] { work(1, 2, other); });
  work(0, 2, best);
  half.join();
  std::ofstream out(settings.directory / "exact");
  for (size_t q = 0; q < queries.size(); ++q) {
    best[q].insert(best[q].end(), other[q].begin(), other[q].end());
    std::sort(best[q].begin(), best[q].end());
    for (size_t i = 0; i < kNeighbours; ++i) out << best[q][i].second << ' ';
    out << '\n';
  }
  return out ? 0 : 1;
}

int Start(const Settings& settings) {
  const auto start = std::chrono::steady_clock::now();
  Cache cache(settings);
  const double opened = Seconds(start);
  const auto give_up = [] { return false; };
  const core::CacheQuery query{0.3, std::chrono::hours(24)};
  // Serving while it loads: a lookup between the steps.
  std::vector<double> early;
  size_t asked = 0;
  while (!cache.book->ready()) {
    cache.book->Tend();
    if (++asked % 10 != 0) continue;
    const auto begin = std::chrono::steady_clock::now();
    cache.book->Find(cache.scope, "q" + std::to_string(asked % settings.queries), query, give_up);
    early.push_back(Seconds(begin));
  }
  std::printf(
      "start: answers after %.1f s, ready after %.1f s (%.1f s of CPU); resident %.0f MiB, peak "
      "%.0f; index %zu MiB\n",
      opened, Seconds(start), CpuSeconds(), StatusMiB("VmRSS:"), StatusMiB("VmHWM:"),
      cache.book->index_bytes() >> 20);
  if (!early.empty()) PrintTimes("lookups while it loads", early);

  std::ifstream exact(settings.directory / "exact");
  size_t found = 0, wanted = 0;
  std::vector<double> times, cpu_times;
  for (int round = 0; round < 3; ++round) {
    for (size_t q = 0; q < settings.queries; ++q) {
      const std::string text = "q" + std::to_string(q);
      const auto begin = std::chrono::steady_clock::now();
      const double cpu_begin = ThreadSeconds();
      cache.book->Find(cache.scope, text, query, give_up);
      cpu_times.push_back(ThreadSeconds() - cpu_begin);
      times.push_back(Seconds(begin));
      if (round > 0) continue;
      const auto ranked = cache.book->Explain(cache.scope, text, -1, std::chrono::hours(24));
      for (size_t i = 0; i < kNeighbours; ++i) {
        size_t number = 0;
        exact >> number;
        ++wanted;
        for (size_t j = 0; j < std::min(kNeighbours, ranked.size()); ++j) {
          if (std::strtoull(ranked[j].entry.answer.c_str(), nullptr, 10) == number) ++found;
        }
      }
    }
  }
  PrintTimes("lookups, one after the other, 16 judged", times);
  PrintTimes("  of that on the CPU", cpu_times);
  std::printf("recall at 10 of exact: %.4f\n",
              static_cast<double>(found) / static_cast<double>(wanted));

  // Beside stores, as they are in use.
  std::atomic<bool> done = false;
  size_t stored = 0;
  std::thread storing([&] {
    for (; !done; ++stored) {
      InsertOptions how;
      how.vector = cache.source.At(settings.entries + stored);
      cache.book->Insert(cache.scope, "another one " + std::to_string(stored),
                         {std::string(900, 'y'), "provider", "model"}, cache.clock.WallNow(), how);
    }
  });
  std::vector<double> beside, beside_cpu;
  const auto begin_all = std::chrono::steady_clock::now();
  for (size_t q = 0; q < settings.queries * 2; ++q) {
    const std::string text = "q" + std::to_string(q % settings.queries);
    const auto begin = std::chrono::steady_clock::now();
    const double cpu_begin = ThreadSeconds();
    cache.book->Find(cache.scope, text, query, give_up);
    beside_cpu.push_back(ThreadSeconds() - cpu_begin);
    beside.push_back(Seconds(begin));
  }
  done = true;
  storing.join();
  PrintTimes("lookups beside stores", beside);
  PrintTimes("  of that on the CPU", beside_cpu);
  std::printf("stores beside lookups: %.0f a second\n",
              static_cast<double>(stored) / Seconds(begin_all));
  std::printf("at the end: resident %.0f MiB, peak %.0f\n", StatusMiB("VmRSS:"),
              StatusMiB("VmHWM:"));
  return 0;
}

// Scopes of ten entries each: 100,000 at full size.
int InsertScopes(const Settings& settings) {
  const Source source(settings.centres());
  BenchEmbedder embedder(source);
  const core::SystemClock clock;
  core::SeededRandom random(1);
  SemanticCacheOptions options;
  options.directory = settings.directory / "scopes";
  AnswerBook book(options, embedder, clock, random);
  for (size_t i = 0; i < settings.entries; ++i) {
    InsertOptions how;
    how.vector = source.At(i);
    const ScopeSource scope{"tenant", "route", std::to_string(i / 10)};
    book.Insert(scope, "question " + std::to_string(i), {"answer", "provider", "model"},
                clock.WallNow(), how);
  }
  return 0;
}

int ManyScopes(const Settings& settings) {
  const Source source(settings.centres());
  BenchEmbedder embedder(source);
  const core::SystemClock clock;
  core::SeededRandom random(1);
  SemanticCacheOptions options;
  options.directory = settings.directory / "scopes";
  const size_t scopes = settings.entries / 10;
  const double before = StatusMiB("VmRSS:");
  const auto start = std::chrono::steady_clock::now();
  AnswerBook book(options, embedder, clock, random);
  const double opened = Seconds(start);
  while (!book.ready()) book.Tend();
  const double bytes = static_cast<double>(scopes * 10 * (kDimension * 2 + 36)) / (1 << 20);
  std::printf(
      "%zu scopes of 10: open after %.1f s, all loaded after %.1f s (%.1f s of CPU); resident "
      "+ %.0f MiB, index %zu MiB, vectors and keys alone %.0f MiB\n",
      scopes, opened, Seconds(start), CpuSeconds(), StatusMiB("VmRSS:") - before,
      book.index_bytes() >> 20, bytes);
  return 0;
}

bool InItsOwnProcess(const std::function<int()>& phase) {
  std::fflush(stdout);
  const pid_t child = fork();
  if (child == 0) {
    const int result = phase();
    std::fflush(stdout);
    _exit(result);
  }
  int status = 0;
  waitpid(child, &status, 0);
  return WIFEXITED(status) && WEXITSTATUS(status) == 0;
}

int Main(int argc, char** argv) {
  Settings settings;
  bool keep = false;
  std::string only;
  for (int i = 1; i + 1 < argc; i += 2) {
    const std::string flag = argv[i];
    if (flag == "--entries") settings.entries = std::strtoull(argv[i + 1], nullptr, 10);
    if (flag == "--queries") settings.queries = std::strtoull(argv[i + 1], nullptr, 10);
    if (flag == "--directory") settings.directory = argv[i + 1];
    if (flag == "--model") settings.model = argv[i + 1];
    if (flag == "--sentences") settings.sentences = argv[i + 1];
    if (flag == "--encrypted") settings.encrypted = std::string(argv[i + 1]) == "yes";
    if (flag == "--only") only = argv[i + 1];
  }
  if (settings.directory.empty()) {
    std::string name = (fs::temp_directory_path() / "cache-bench-XXXXXX").string();
    if (mkdtemp(name.data()) == nullptr) return 1;
    settings.directory = name;
  } else {
    keep = true;
    fs::create_directories(settings.directory);
  }
  const std::vector<std::pair<std::string, int (*)(const Settings&)>> phases = {
      {"embed", &Embed},
      {"insert", &Insert},
      {"exact", &Exact},
      {"start", &Start},
      {"insert-scopes", &InsertScopes},
      {"scopes", &ManyScopes}};
  bool all = true;
  for (const auto& [name, phase] : phases) {
    if (!only.empty() && only != name) continue;
    all = InItsOwnProcess([&] { return phase(settings); }) && all;
  }
  std::error_code ignored;
  if (!keep) fs::remove_all(settings.directory, ignored);
  return all ? 0 : 1;
}

}  // namespace
}  // namespace holdfast::cache

int main(int argc, char** argv) { return holdfast::cache::Main(argc, argv); }
