#include "tools/holdfastctl/similarity_command.h"

#include <memory>
#include <nlohmann/json.hpp>
#include <string>
#include <utility>
#include <vector>

#include "core/clock.h"
#include "resilience/route.h"
#include "server/embedding.h"
#include "tools/holdfastctl/json_lines.h"
#include "tools/holdfastctl/similarity.h"
#include "tools/holdfastctl/terminal_text.h"

namespace holdfast::ctl {
namespace {

using Json = nlohmann::ordered_json;

// A file's questions, and where each line's stand among them.
template <typename Question>
struct Questions {
  std::vector<Question> all;
  std::vector<absl::StatusOr<size_t>> lines;  // in `all`, or why there is none
};

absl::StatusOr<QuestionPair> ReadPair(const nlohmann::json& object) {
  auto a = ReadText(object, "a");
  if (!a.ok()) return a.status();
  auto b = ReadText(object, "b");
  if (!b.ok()) return b.status();
  return QuestionPair(*std::move(a), *std::move(b));
}

absl::StatusOr<std::string> ReadQuestion(const nlohmann::json& object) {
  return ReadText(object, "q");
}

std::string Text(const absl::Status& status) {
  return {status.message().data(), status.message().size()};
}

class Command {
 public:
  Command(const SimilarityOptions& options, Console& console)
      : options_(options), console_(console) {}

  std::optional<CallError> Run() {
    if (options_.pairs.empty()) {
      const auto stored = Read<std::string>(options_.stored, ReadQuestion);
      const auto asked = Read<std::string>(options_.asked, ReadQuestion);
      Load();
      if (!error_) WriteMatches(stored, asked);
    } else {
      const auto pairs = Read<QuestionPair>(options_.pairs, ReadPair);
      Load();
      if (!error_) WritePairs(pairs);
    }
    if (error_) return error_;
    if (!console_.out.flush()) return Failed("WRITE", "cannot write to standard output");
    if (bad_ == 0) return std::nullopt;
    return Failed("BAD_LINES", std::to_string(bad_) + (bad_ == 1 ? " line" : " lines") +
                                   " could not be compared");
  }

 private:
  template <typename Question, typename ReadOne>
  Questions<Question> Read(const std::string& path, const ReadOne& read_one) {
    Questions<Question> questions;
    JsonLines lines(path, console_.in);
    while (const auto line = lines.Next()) {
      auto object = ParseObject(*line);
      auto question = object.ok() ? read_one(*object) : object.status();
      if (question.ok()) {
        questions.lines.push_back(questions.all.size());
        questions.all.push_back(*std::move(question));
        continue;
      }
      ++bad_;
      console_.err << EscapeLine(lines.At(Text(question.status()))) << "\n";
      questions.lines.push_back(question.status());
    }
    if (!lines.fault().empty() && !error_) error_ = UsageError(lines.fault());
    return questions;
  }

  void Load() {
    if (error_) return;
    server::EmbedderOptions options;
    if (options_.hash) options.kind = server::EmbedderOptions::Kind::kHash;
    options.model = options_.model;
    auto embedder = server::MakeEmbedder(options);
    if (!embedder.ok()) {
      error_ = UsageError("the sentence encoder: " + Text(embedder.status()));
      return;
    }
    embedder_ = *std::move(embedder);
    judge_ = server::MakeJudge(options);
  }

  void WritePairs(const Questions<QuestionPair>& pairs) {
    Progress progress(clock_, console_.err, console_.err_is_terminal, "comparing",
                      kPairSteps * pairs.all.size());
    const auto compared = ComparePairs(TheComparer(), pairs.all, progress);
    progress.Clear();
    for (const auto& line : pairs.lines) {
      const Similarity& similarity =
          line.ok() ? compared[*line] : Similarity{.reason = Text(line.status())};
      Json json;
      json["cosine"] = OrNull(similarity.cosine);
      Write(std::move(json), similarity);
    }
  }

  void WriteMatches(const Questions<std::string>& stored, const Questions<std::string>& asked) {
    std::vector<size_t> numbers(stored.all.size());  // of their lines
    for (size_t i = 0; i < stored.lines.size(); ++i) {
      if (stored.lines[i].ok()) numbers[*stored.lines[i]] = i + 1;
    }
    Progress progress(clock_, console_.err, console_.err_is_terminal, "looking up",
                      kFindSteps * (stored.all.size() + asked.all.size()));
    const auto matches = FindMatches(TheComparer(), stored.all, asked.all, progress);
    progress.Clear();
    for (const auto& line : asked.lines) {
      const Match match =
          line.ok() ? matches[*line] : Match{.similarity = {.reason = Text(line.status())}};
      Json json;
      json["entry"] = match.entry ? Json(numbers[*match.entry]) : Json();
      Write(std::move(json), match.similarity);
    }
  }

  void Write(Json json, const Similarity& similarity) {
    json["score"] = OrNull(similarity.score);
    json["serve"] = similarity.serve;
    json["reason"] = similarity.reason;
    console_.out << EscapeJson(json.dump(-1, ' ', false, Json::error_handler_t::replace)) << "\n";
  }

  Comparer TheComparer() const {
    return {*embedder_, *judge_, resilience::RouteCacheOptions().min_similarity};
  }

  static Json OrNull(const std::optional<double>& number) {
    return number ? Json(*number) : Json();
  }

  static CallError Failed(std::string code, std::string message) {
    CallError error;
    error.code = std::move(code);
    error.message = std::move(message);
    return error;
  }

  const SimilarityOptions& options_;
  Console& console_;
  const core::SystemClock clock_;
  std::optional<CallError> error_;
  size_t bad_ = 0;
  std::unique_ptr<const core::Embedder> embedder_;
  std::unique_ptr<const cache::Judge> judge_;
};

}  // namespace

std::optional<CallError> RunSimilarity(const SimilarityOptions& options, Console& console) {
  return Command(options, console).Run();
}

}  // namespace holdfast::ctl
