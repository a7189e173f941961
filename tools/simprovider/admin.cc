#include "tools/simprovider/admin.h"

#include <charconv>
#include <chrono>

#include "tools/simprovider/text.h"

namespace simprovider {
namespace {

constexpr std::string_view kFaults = "/sim/faults";
constexpr std::string_view kAttempts = "/sim/attempts";

Reply JsonReply(int status, std::string_view body) {
  Reply reply;
  reply.Add(WholeResponse(status, "application/json", "", std::string(body) + "\n"));
  return reply;
}

Reply ErrorReplyOf(int status, const std::string& message) {
  return JsonReply(status, "{\"error\":" + Quoted(message) + "}");
}

Reply Fine() { return JsonReply(200, "{\"ok\":true}"); }

Reply PutFaults(const std::string& model, std::string_view body, FaultBook& faults) {
  const auto json = nlohmann::ordered_json::parse(body, nullptr, false);
  if (json.is_discarded()) return ErrorReplyOf(400, "body is no valid JSON");
  std::string error;
  std::vector<Fault> script = ParseFaults(json, error);
  if (!error.empty()) return ErrorReplyOf(400, error);
  faults.Set(model, std::move(script), std::chrono::steady_clock::now());
  return Fine();
}

Reply HandleFaults(const HttpRequest& request, FaultBook& faults) {
  std::string_view rest = request.path.substr(kFaults.size());
  if (rest.size() <= 1) {
    if (request.method == "GET") return JsonReply(200, faults.Describe().dump());
    if (request.method != "DELETE") return ErrorReplyOf(405, "use GET or DELETE, or name a model");
    faults.Clear();
    return Fine();
  }
  const std::string model = PercentDecoded(rest.substr(1));
  if (request.method == "PUT") return PutFaults(model, request.body, faults);
  if (request.method != "DELETE") return ErrorReplyOf(405, "use PUT or DELETE");
  if (!faults.Remove(model)) return ErrorReplyOf(404, "model \"" + model + "\" has no faults");
  return Fine();
}

Reply HandleAttempts(const HttpRequest& request, AttemptLog& attempts) {
  if (request.method == "DELETE") {
    attempts.Clear();
    return Fine();
  }
  if (request.method != "GET") return ErrorReplyOf(405, "use GET or DELETE");
  const std::string since_text = QueryValue(request.query, "since");
  uint64_t since = 0;
  const char* end = since_text.data() + since_text.size();
  const auto [parsed, error] = std::from_chars(since_text.data(), end, since);
  if (!since_text.empty() && (error != std::errc() || parsed != end)) {
    return ErrorReplyOf(400, "since must be the number of an attempt");
  }
  return JsonReply(200, attempts.ToJson(QueryValue(request.query, "model"), since));
}

}  // namespace

Reply HandleAdmin(const HttpRequest& request, FaultBook& faults, AttemptLog& attempts) {
  const std::string_view path = request.path;
  if (path == kFaults || path.substr(0, kFaults.size() + 1) == "/sim/faults/") {
    return HandleFaults(request, faults);
  }
  if (path == kAttempts) return HandleAttempts(request, attempts);
  if (path == "/sim/health") return Fine();
  if (path != "/sim/reset") return ErrorReplyOf(404, "no such admin path");
  if (request.method != "POST") return ErrorReplyOf(405, "use POST");
  faults.Clear();
  attempts.Clear();
  return Fine();
}

}  // namespace simprovider
