#include "providers/target_provider.h"

#include <algorithm>
#include <exception>
#include <stop_token>
#include <utility>

#include "providers/error_text.h"
#include "providers/reply_reader.h"

namespace holdfast::providers {
namespace {

bool SameName(std::string_view a, std::string_view b) {
  const auto lower = [](char c) { return c >= 'A' && c <= 'Z' ? static_cast<char>(c + 32) : c; };
  return std::equal(a.begin(), a.end(), b.begin(), b.end(),
                    [lower](char x, char y) { return lower(x) == lower(y); });
}

void SetHeader(HttpRequest& http, std::string_view name, std::string value) {
  for (auto& header : http.headers) {
    if (!SameName(header.first, name)) continue;
    header.second = std::move(value);
    return;
  }
  http.headers.emplace_back(name, std::move(value));
}

// Configured headers often are credentials too.
std::vector<std::string> SecretsOf(const ProviderOptions& options) {
  std::vector<std::string> secrets;
  if (!options.api_key.empty()) secrets.push_back(options.api_key);
  constexpr size_t kLikelySecret = 12;
  constexpr std::string_view kBearer = "Bearer ";
  for (const auto& [name, value] : options.headers) {
    std::string_view secret = value;
    if (secret.starts_with(kBearer)) secret.remove_prefix(kBearer.size());
    if (secret.size() >= kLikelySecret) secrets.emplace_back(secret);
  }
  return secrets;
}

std::string EncodeForPath(std::string_view model) {
  constexpr std::string_view kPlain = "-._~/:@";
  std::string encoded;
  for (const char c : model) {
    const bool alnum = (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
    if (alnum || kPlain.find(c) != std::string_view::npos) {
      encoded.push_back(c);
    } else {
      constexpr std::string_view kHex = "0123456789ABCDEF";
      const auto byte = static_cast<unsigned char>(c);
      encoded.append({'%', kHex[byte >> 4], kHex[byte & 0xF]});
    }
  }
  return encoded;
}

// Ends a request whose reply is known before its connection is.
class Ending {
 public:
  Ending(core::Loop& loop, std::stop_source stop, const core::Valve* valve)
      : loop_(loop), stop_(std::move(stop)), valve_(valve) {}
  ~Ending() { Disarm(); }
  Ending(const Ending&) = delete;
  Ending& operator=(const Ending&) = delete;

  // After each piece of the body. What is posted holds the stop's state, so it may outlive all
  // else.
  void OnProgress(const ReplyReader& reader) {
    if (!reader.has_all() || stop_.stop_requested()) return;
    if (reader.failed()) {
      if (!posted_) loop_.Post([stop = stop_]() mutable { stop.request_stop(); });
      posted_ = true;
      return;
    }
    Linger();
  }

 private:
  void Linger() {
    Disarm();
    timer_ = loop_.CallAt(loop_.Now() + TargetProvider::kLinger, [this] {
      timer_ = 0;
      // What it waits for is held up by ourselves.
      if (valve_ != nullptr && !valve_->open()) return Linger();
      stop_.request_stop();
    });
  }

  void Disarm() {
    if (timer_ != 0) loop_.CancelTimer(timer_);
    timer_ = 0;
  }

  core::Loop& loop_;
  std::stop_source stop_;
  const core::Valve* const valve_;
  core::TimerId timer_ = 0;
  bool posted_ = false;
};

class EndingReader final : public ReplyReader {
 public:
  EndingReader(Setup setup, core::AttemptSink& sink, Ending& ending)
      : ReplyReader(std::move(setup), sink), ending_(ending) {}
  void OnBody(std::string_view bytes) override {
    ReplyReader::OnBody(bytes);
    ending_.OnProgress(*this);
  }

 private:
  Ending& ending_;
};

core::Outcome Failed(core::OutcomeKind kind, std::string error) {
  core::Outcome outcome;
  outcome.kind = kind;
  outcome.error = std::move(error);
  return outcome;
}

}  // namespace

TargetProvider::TargetProvider(std::unique_ptr<WireFormat> format, ProviderOptions options,
                               ModelOptions model, HttpClient& http, core::Loop& loop)
    : format_(std::move(format)),
      options_(std::move(options)),
      model_(std::move(model)),
      secrets_(SecretsOf(options_)),
      http_(http),
      loop_(loop) {}

core::Task<core::Outcome> TargetProvider::Stream(const core::Request& request,
                                                 const core::Attempt& attempt,
                                                 core::AttemptSink& sink) {
  if (attempt.stop.stop_requested()) co_return Failed(core::OutcomeKind::kCancelled, "cancelled");
  HttpRequest http;
  std::unique_ptr<Decoder> decoder;
  try {
    http = MakeHttpRequest(request, attempt);
    decoder = format_->NewDecoder(request);
  } catch (const std::exception& e) {
    co_return Failed(
        core::OutcomeKind::kBadRequest,
        CleanErrorText(std::string("the request cannot be written: ") + e.what(), secrets_));
  }

  std::stop_source stop;
  const std::stop_callback forward(attempt.stop, [&stop] { stop.request_stop(); });
  http.stop = stop.get_token();
  http.valve = attempt.valve;
  Ending ending(loop_, stop, attempt.valve);
  ReplyReader::Setup setup{.kind = format_->kind(),
                           .decoder = std::move(decoder),
                           .secrets = secrets_,
                           .clock = loop_.clock(),
                           .max_response_bytes = options_.max_response_bytes,
                           .tool_id_seed = attempt.idempotency_key};
  EndingReader reader(std::move(setup), sink, ending);

  sink.OnStart();
  core::Task<HttpEnd> send = http_.Send(std::move(http), reader);
  const HttpEnd end = co_await std::move(send);
  const bool ended_early = end.kind == HttpEnd::Kind::kCancelled && attempt.stop.stop_requested();
  if (ended_early && !reader.has_all()) {
    core::Outcome cancelled = Failed(core::OutcomeKind::kCancelled, "cancelled");
    cancelled.http_status = reader.status();
    cancelled.reused_connection = end.reused_connection;
    co_return cancelled;
  }
  co_return reader.Finish(end);
}

HttpRequest TargetProvider::MakeHttpRequest(const core::Request& request,
                                            const core::Attempt& attempt) const {
  HttpRequest http;
  http.url = Url();
  http.body = format_->Encode(request, attempt.prefix);
  http.proxy = options_.proxy;
  http.ca_file = options_.ca_file;
  http.max_response_bytes = options_.max_response_bytes;
  SetHeader(http, "content-type", "application/json");
  SetHeader(http, "accept", "text/event-stream");
  for (auto& [name, value] : format_->Headers()) SetHeader(http, name, std::move(value));
  AddKey(http);
  for (const auto& [name, value] : options_.headers) SetHeader(http, name, value);
  if (!attempt.idempotency_key.empty()) {
    SetHeader(http, "Idempotency-Key", attempt.idempotency_key);
  }
  if (attempt.number >= 2) SetHeader(http, "x-holdfast-attempt", std::to_string(attempt.number));
  return http;
}

std::string TargetProvider::Url() const {
  std::string base = options_.base_url;
  while (!base.empty() && base.back() == '/') base.pop_back();
  std::string path(options_.path.empty() ? format_->DefaultPath() : options_.path);
  if (!path.starts_with('/')) path.insert(0, "/");
  constexpr std::string_view kModel = "{model}";
  const std::string model = EncodeForPath(model_.model);
  for (size_t at = path.find(kModel); at != std::string::npos; at = path.find(kModel, at)) {
    path.replace(at, kModel.size(), model);
    at += model.size();
  }
  return base + path;
}

void TargetProvider::AddKey(HttpRequest& http) const {
  if (options_.api_key.empty()) return;
  const std::string_view name =
      options_.api_key_header.empty() ? format_->KeyHeader() : options_.api_key_header;
  const bool bearer = SameName(name, "authorization");
  SetHeader(http, name, bearer ? "Bearer " + options_.api_key : options_.api_key);
}

}  // namespace holdfast::providers
