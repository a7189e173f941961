// Shows the sentence encoder at work:
//   encoder_probe MODEL dump [f32|bf16|int8]   a JSON string a line in, {"ids","cut","vector"} out
//   encoder_probe MODEL bench [f32|bf16|int8]  speed of single questions and of batches
// `dump` is what compare_with_original reads. Times are those of the calling thread on the
// processor, beside those on the clock: on a busy machine only the former mean something.

#include <sys/resource.h>
#include <time.h>

#include <algorithm>
#include <cstdio>
#include <functional>
#include <iostream>
#include <nlohmann/json.hpp>
#include <string>
#include <thread>

#include "cache/encoder/sentence_embedder.h"

namespace holdfast::cache {

namespace {

double Seconds(clockid_t clock) {
  timespec now{};
  clock_gettime(clock, &now);
  return static_cast<double>(now.tv_sec) + 1e-9 * static_cast<double>(now.tv_nsec);
}

void Dump(const SentenceEmbedder& embedder, const std::string& path) {
  const auto model = ModelFile::Open(path);
  const auto tokenizer = WordPiece::Create((*model)->vocabulary());
  std::string line;
  while (std::getline(std::cin, line)) {
    const auto text = nlohmann::json::parse(line).get<std::string>();
    const std::string_view view = text;
    const auto result = embedder.EmbedBatch({&view, 1});
    const auto tokens = tokenizer->Encode(text, embedder.longest());
    nlohmann::json out;
    if (tokens.ok() && result[0].ok()) {
      out = {{"ids", tokens->ids}, {"cut", result[0]->cut}, {"vector", result[0]->vector}};
    } else {
      out = {{"error", std::string(result[0].status().message())}};
    }
    std::cout << out.dump() << "\n";
  }
}

struct Times {
  double best = 1e9;
  double median = 0;
};

Times Measure(clockid_t clock, int rounds, const std::function<void()>& work) {
  std::vector<double> times;
  for (int i = 0; i < rounds; ++i) {
    const double start = Seconds(clock);
    work();
    times.push_back(Seconds(clock) - start);
  }
  std::ranges::sort(times);
  return {times.front(), times[times.size() / 2]};
}

// A question of about `tokens` tokens, [CLS] and [SEP] included.
std::string Question(size_t tokens, size_t number) {
  static constexpr std::array kWords = {"how", "do",    "i",  "sort",  "a",    "large",  "list",
                                        "of",  "names", "by", "their", "last", "letter", "now"};
  std::string text;
  for (size_t i = 2; i < tokens; ++i) {
    text += std::string(kWords[(i + number) % kWords.size()]) + " ";
  }
  return text;
}

void BenchSingle(const SentenceEmbedder& embedder, size_t tokens) {
  const std::string text = Question(tokens, 0);
  const auto work = [&] { (void)embedder.Embed(text); };
  work();
  const int rounds = tokens > 64 ? 40 : 200;
  const Times wall = Measure(CLOCK_MONOTONIC, rounds, work);
  const Times thread = Measure(CLOCK_THREAD_CPUTIME_ID, rounds, work);
  std::printf(
      "%4zu tokens, one thread: clock best %6.2f median %6.2f ms; "
      "processor best %6.2f median %6.2f ms\n",
      tokens, wall.best * 1e3, wall.median * 1e3, thread.best * 1e3, thread.median * 1e3);
}

void BenchBatch(const SentenceEmbedder& embedder) {
  constexpr size_t kQuestions = 64;
  std::vector<std::string> texts;
  for (size_t i = 0; i < kQuestions; ++i) texts.push_back(Question(16, i));
  const std::vector<std::string_view> views(texts.begin(), texts.end());
  const auto batch = [&] { (void)embedder.EmbedBatch(views); };
  batch();
  const Times thread = Measure(CLOCK_THREAD_CPUTIME_ID, 30, batch);
  constexpr int kRounds = 10;
  const Times wall = Measure(CLOCK_MONOTONIC, 5, [&] {
    const auto several = [&] {
      for (int i = 0; i < kRounds; ++i) batch();
    };
    std::thread other(several);
    several();
    other.join();
  });
  const double both = 2.0 * kRounds * kQuestions;
  std::printf(
      "64 x 16 tokens: two threads %5.0f a second at best, median %5.0f (clock); "
      "one thread %5.0f, median %5.0f (processor)\n",
      both / wall.best, both / wall.median, kQuestions / thread.best, kQuestions / thread.median);
}

int Run(int count, char** arguments) {
  if (count < 3) {
    std::fprintf(stderr, "usage: encoder_probe MODEL dump|bench [f32|bf16|int8]\n");
    return 2;
  }
  std::optional<Arithmetic> arithmetic;
  for (const auto known : {Arithmetic::kFloat, Arithmetic::kBfloat16, Arithmetic::kBytes}) {
    if (count > 3 && std::string_view(arguments[3]) == Name(known)) arithmetic = known;
  }
  const double start = Seconds(CLOCK_PROCESS_CPUTIME_ID);
  const auto embedder = SentenceEmbedder::Load(arguments[1], arithmetic);
  if (!embedder.ok()) {
    std::fprintf(stderr, "%s\n", std::string(embedder.status().message()).c_str());
    return 1;
  }
  if (std::string_view(arguments[2]) == "dump") {
    Dump(**embedder, arguments[1]);
    return 0;
  }
  rusage usage{};
  getrusage(RUSAGE_SELF, &usage);
  std::printf("%s in %s, loaded in %.0f ms of processor time\n", (*embedder)->id().c_str(),
              Name((*embedder)->arithmetic()), 1e3 * (Seconds(CLOCK_PROCESS_CPUTIME_ID) - start));
  for (const size_t tokens : {8, 16, 32, 64, 128, 256}) BenchSingle(**embedder, tokens);
  BenchBatch(**embedder);
  return 0;
}

}  // namespace

}  // namespace holdfast::cache

int main(int count, char** arguments) { return holdfast::cache::Run(count, arguments); }
