#pragma once

// Says what happened to requests: one line for each, and one warning for each retry, breaker
// change, degraded answer, and (once) model that a provider does not know. Of providers' words only
// the outcome's class is written: their texts may quote the prompt. One for the whole server; any
// thread.

#include <mutex>
#include <optional>
#include <set>
#include <string>
#include <utility>

#include "core/answer.h"
#include "core/request.h"
#include "resilience/engine.h"
#include "server/log.h"

namespace holdfast::server {

// Who asked for what, as far as it is known and fit for the log.
struct RequestInfo {
  std::string request_id;
  std::string tenant;
  std::string route;
  std::vector<std::pair<std::string, std::string>> labels;
};

class RequestLog final : public resilience::Observer {
 public:
  explicit RequestLog(Log& log) : log_(log) {}

  // The one line. `used`: from arrival to the end; `first_token`: to the first content of a stream.
  void OnDone(const RequestInfo& info, const core::Result& result, core::Duration used,
              std::optional<core::Duration> first_token);
  // The one line of a request that never reached the engine.
  void OnRejected(const RequestInfo& info, const core::Error& error, core::Duration used);

  // A whole answer, logged as such, that its caller did not read.
  void OnReaderTooSlow(const RequestInfo& info);

  void OnBreaker(const core::TargetName& target, const resilience::BreakerEvent& event);

  // resilience::Observer
  void OnAttempt(const core::Request& request, const core::AttemptRecord& record) override;
  void OnRetry(const core::Request& request, const core::AttemptRecord& failed,
               core::Duration delay) override;
  void OnExpired(const core::Request& request, core::Duration late) override;

 private:
  void WarnDegraded(const RequestInfo& info, const core::Answer& answer);

  Log& log_;
  std::mutex mutex_;
  std::set<std::pair<std::string, std::string>> unknown_models_;  // guarded by mutex_
};

}  // namespace holdfast::server
