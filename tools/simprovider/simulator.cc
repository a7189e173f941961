#include "tools/simprovider/simulator.h"

#include <chrono>

#include "tools/simprovider/admin.h"
#include "tools/simprovider/text.h"

namespace simprovider {
namespace {

bool EndsWith(std::string_view text, std::string_view end) {
  return text.size() >= end.size() && text.substr(text.size() - end.size()) == end;
}

bool StartsWith(std::string_view text, std::string_view start) {
  return text.substr(0, start.size()) == start;
}

const Wire* WireFor(std::string_view path) {
  if (EndsWith(path, "/chat/completions")) return &OpenAiWire();
  if (EndsWith(path, "/v1/messages")) return &AnthropicWire();
  if (EndsWith(path, ":generateContent") || EndsWith(path, ":streamGenerateContent")) {
    return &GeminiWire();
  }
  return nullptr;
}

Reply PlainReply(int status, std::string_view body) {
  Reply reply;
  reply.Add(WholeResponse(status, "application/json", "", body));
  return reply;
}

}  // namespace

Simulator::Simulator(const Options& options) : options_(options), attempts_(options.log_attempts) {}

bool Simulator::LoadFaults(const std::string& text, std::string& error) {
  const auto json = nlohmann::ordered_json::parse(text, nullptr, false);
  if (!json.is_object()) {
    error = "expected a JSON object of faults by model";
    return false;
  }
  std::vector<std::pair<std::string, std::vector<Fault>>> scripts;
  for (const auto& [model, value] : json.items()) {
    scripts.emplace_back(model, ParseFaults(value, error));
    if (error.empty()) continue;
    error = model + ": " + error;
    return false;
  }
  const auto now = std::chrono::steady_clock::now();
  for (auto& [model, script] : scripts) faults_.Set(model, std::move(script), now);
  return true;
}

Reply Simulator::Handle(const HttpRequest& request) {
  if (StartsWith(request.path, "/sim/")) return HandleAdmin(request, faults_, attempts_);
  const Wire* wire = WireFor(request.path);
  const bool embeddings = EndsWith(request.path, "/embeddings");
  if (wire == nullptr && !embeddings) {
    return PlainReply(404,
                      "{\"error\":{\"message\":\"Unknown request URL\",\"type\":"
                      "\"invalid_request_error\",\"param\":null,\"code\":\"unknown_url\"}}");
  }
  if (request.method != "POST") {
    return PlainReply(405,
                      "{\"error\":{\"message\":\"Not allowed to use this method on this "
                      "resource; use POST\",\"type\":\"invalid_request_error\",\"param\":"
                      "null,\"code\":\"method_not_supported\"}}");
  }
  return embeddings ? HandleEmbeddings(request) : HandleChat(*wire, request);
}

void Simulator::Ended(uint64_t attempt, AttemptEnd end, uint64_t bytes_sent) {
  attempts_.End(attempt, end, bytes_sent);
}

Stamp Simulator::NextStamp() {
  const auto now = std::chrono::system_clock::now().time_since_epoch();
  return {Mix(last_stamp_.fetch_add(1, std::memory_order_relaxed)),
          std::chrono::duration_cast<std::chrono::seconds>(now).count()};
}

bool Simulator::KeyIsGood(std::string_view key) const {
  return options_.api_key.empty() || key == options_.api_key;
}

Reply Simulator::HandleChat(const Wire& wire, const HttpRequest& request) {
  const ParsedRequest parsed = wire.Parse(request);
  const Stamp stamp = NextStamp();
  const Exchange exchange{wire, parsed.chat, stamp, options_.answers, options_.pace};
  return Answer(exchange, request, parsed.error, wire.Name(),
                [&exchange] { return PlayGood(exchange); });
}

Reply Simulator::HandleEmbeddings(const HttpRequest& request) {
  const EmbeddingRequest parsed = ParseEmbeddingRequest(request);
  const Stamp stamp = NextStamp();
  const Exchange exchange{OpenAiWire(), parsed.chat, stamp, options_.answers, options_.pace};
  return Answer(exchange, request, parsed.error, "embeddings",
                [&] { return PlayEmbeddings(parsed, stamp); });
}

Reply Simulator::Answer(const Exchange& exchange, const HttpRequest& request,
                        const std::optional<ApiError>& error, std::string_view kind,
                        const std::function<Played()>& good) {
  const std::string_view key = exchange.wire.Key(request);
  const auto taken = faults_.Take(exchange.request.model, request.reused_connection,
                                  std::chrono::steady_clock::now());
  Played played;
  if (taken) {
    played = PlayFault(exchange, *taken->fault);
  } else if (!KeyIsGood(key)) {
    played = PlayError(exchange, exchange.wire.Unauthorized(!key.empty()));
  } else if (error) {
    played = PlayError(exchange, *error);
  } else {
    played = good();
  }
  Attempt attempt;
  attempt.kind = kind;
  attempt.model = exchange.request.model;
  attempt.path = request.path;
  attempt.streamed = exchange.request.stream;
  attempt.status = played.status;
  if (taken) attempt.fault = taken->name;
  attempt.idempotency_key = request.Header("idempotency-key");
  attempt.holdfast_attempt = request.Header("x-holdfast-attempt");
  attempt.authorized = !key.empty();
  attempt.request_bytes = request.bytes;
  played.reply.attempt = attempts_.Add(std::move(attempt));
  return std::move(played.reply);
}

}  // namespace simprovider
