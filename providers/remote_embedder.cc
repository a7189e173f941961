#include "providers/remote_embedder.h"

#include <cmath>
#include <condition_variable>
#include <memory>
#include <mutex>
#include <nlohmann/json.hpp>
#include <optional>
#include <stop_token>

#include "absl/status/status.h"
#include "providers/json.h"

namespace holdfast::providers {
namespace {

using Embeddings = absl::StatusOr<std::vector<core::Embedding>>;

// A vector of 4,096 numbers is some 50 kB of JSON.
constexpr size_t kMaxResponseBytes = 8 << 20;

class Collector final : public HttpSink {
 public:
  void OnConnected() override {}
  void OnHeaders(int status, const HttpHeaders&) override { status_ = status; }
  void OnBody(std::string_view bytes) override { body_ += bytes; }
  int status() const { return status_; }
  const std::string& body() const { return body_; }

 private:
  int status_ = 0;
  std::string body_;
};

bool RefusesTexts(int status) { return status == 400 || status == 413 || status == 422; }

std::optional<core::Embedding> ReadVector(JsonValue item, size_t dimension) {
  core::Embedding embedding;
  double squares = 0;
  bool numbers = true;
  ForEach(item, "embedding", [&](JsonValue value) {
    double number = 0;
    numbers = numbers && value.get(number) == simdjson::SUCCESS;
    embedding.vector.push_back(static_cast<float>(number));
    squares += number * number;
  });
  const double length = std::sqrt(squares);
  if (!numbers || embedding.vector.size() != dimension || !std::isfinite(length) || length <= 0) {
    return std::nullopt;
  }
  for (float& value : embedding.vector) value = static_cast<float>(value / length);
  return embedding;
}

}  // namespace

// Shared by the waiting thread and the coroutine.
struct RemoteEmbedder::Wait {
  void Set(Embeddings value) {
    const std::lock_guard lock(mutex);
    result.emplace(std::move(value));
    ready.notify_one();
  }

  std::mutex mutex;
  std::condition_variable ready;
  std::optional<Embeddings> result;  // guarded by mutex
};

core::Duration LongestCall(core::Duration timeout, size_t texts) {
  constexpr core::Duration kLongest = std::chrono::seconds(10);
  return std::min(timeout * static_cast<int64_t>(texts), std::max(timeout, kLongest));
}

RemoteEmbedder::RemoteEmbedder(RemoteEmbedderOptions options, HttpClient& http, core::Loop& loop)
    : options_(std::move(options)), http_(http), loop_(loop) {}

std::string RemoteEmbedder::id() const {
  return options_.model + "@" + options_.version + "#" + std::to_string(options_.dimension);
}

std::vector<float> RemoteEmbedder::Embed(std::string_view text) const {
  auto results = EmbedBatch(std::span(&text, 1));
  if (results[0].ok()) return std::move(results[0]->vector);
  return std::vector<float>(options_.dimension, 0);
}

std::vector<absl::StatusOr<core::Embedding>> RemoteEmbedder::EmbedBatch(
    std::span<const std::string_view> texts) const {
  std::vector<absl::StatusOr<core::Embedding>> results;
  if (texts.empty()) return results;
  nlohmann::json body = {{"model", options_.model}, {"encoding_format", "float"}};
  for (const std::string_view text : texts) body["input"].push_back(std::string(text));
  const auto wait = std::make_shared<Wait>();
  loop_.Post(
      [this, wait, count = texts.size(),
       text = body.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace)]() mutable {
        core::Spawn(Run(std::move(text), count, wait));
      });
  std::unique_lock lock(wait->mutex);
  wait->ready.wait(lock, [&wait] { return wait->result.has_value(); });
  for (size_t i = 0; i < texts.size(); ++i) {
    if (wait->result->ok()) {
      results.emplace_back(std::move((**wait->result)[i]));
    } else {
      results.emplace_back(wait->result->status());
    }
  }
  return results;
}

core::Task<void> RemoteEmbedder::Run(std::string body, size_t count,
                                     std::shared_ptr<Wait> wait) const {
  HttpRequest request;
  request.url = options_.url;
  request.headers = {{"content-type", "application/json"}};
  if (!options_.api_key.empty()) {
    request.headers.emplace_back("authorization", "Bearer " + options_.api_key);
  }
  request.body = std::move(body);
  request.max_response_bytes = kMaxResponseBytes;
  std::stop_source stop;
  request.stop = stop.get_token();
  const core::TimerId timer = loop_.CallAt(loop_.Now() + LongestCall(options_.timeout, count),
                                           [stop]() mutable { stop.request_stop(); });
  Collector collector;
  const HttpEnd end = co_await http_.Send(std::move(request), collector);
  loop_.CancelTimer(timer);
  if (end.kind == HttpEnd::Kind::kCancelled) {
    wait->Set(absl::UnavailableError("the embedder did not answer in time"));
  } else if (end.kind != HttpEnd::Kind::kComplete) {
    wait->Set(absl::UnavailableError("the embedder's connection failed"));
  } else if (RefusesTexts(collector.status())) {
    wait->Set(absl::InvalidArgumentError("the embedder refused the text"));
  } else if (collector.status() != 200) {
    wait->Set(absl::UnavailableError("the embedder answered with status " +
                                     std::to_string(collector.status())));
  } else {
    wait->Set(ReadEmbeddings(collector.body(), count, options_.dimension));
  }
}

Embeddings ReadEmbeddings(std::string_view body, size_t count, size_t dimension) {
  JsonReader reader;
  if (!reader.Parse(body)) return absl::UnavailableError("the embedder's answer is no JSON");
  std::vector<core::Embedding> embeddings(count);
  size_t read = 0;
  bool good = true;
  ForEach(reader.root(), "data", [&](JsonValue item) {
    const auto index = static_cast<size_t>(FindCount(item, "index"));
    auto embedding = ReadVector(item, dimension);
    if (!embedding || index >= count || !embeddings[index].vector.empty()) {
      good = false;
      return;
    }
    embeddings[index] = *std::move(embedding);
    ++read;
  });
  if (!good || read != count) {
    return absl::UnavailableError("the embedder's answer has not one vector of " +
                                  std::to_string(dimension) + " numbers for each text");
  }
  return embeddings;
}

}  // namespace holdfast::providers
