// The simulated provider as a whole: routes requests to wire formats or the admin paths, applies
// faults, logs attempts. Owned by main or a test, which must stop the server before it goes;
// called on the server's workers.
#pragma once

#include <atomic>
#include <functional>
#include <string>

#include "tools/simprovider/attempt_log.h"
#include "tools/simprovider/embeddings.h"
#include "tools/simprovider/faults.h"
#include "tools/simprovider/http_server.h"
#include "tools/simprovider/options.h"

namespace simprovider {

class Simulator final : public HttpHandler {
 public:
  explicit Simulator(const Options& options);

  Reply Handle(const HttpRequest& request) override;
  void Ended(uint64_t attempt, AttemptEnd end, uint64_t bytes_sent) override;

  // Loads {"model": fault or list, ...}. False with `error` set when it is refused.
  bool LoadFaults(const std::string& json, std::string& error);

  FaultBook& faults() { return faults_; }
  AttemptLog& attempts() { return attempts_; }

 private:
  Reply HandleChat(const Wire& wire, const HttpRequest& request);
  Reply HandleEmbeddings(const HttpRequest& request);
  // The fault, the missing key or the request's own error, whichever comes first; then `good`.
  Reply Answer(const Exchange& exchange, const HttpRequest& request,
               const std::optional<ApiError>& error, std::string_view kind,
               const std::function<Played()>& good);
  bool KeyIsGood(std::string_view key) const;
  Stamp NextStamp();

  const Options options_;
  FaultBook faults_;
  AttemptLog attempts_;
  std::atomic<uint64_t> last_stamp_{0};
};

}  // namespace simprovider
