// The faults a model can have, their JSON, and the book that says which one the next attempt gets.
// README.md lists every kind with its keys.
#pragma once

#include <atomic>
#include <chrono>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <nlohmann/json.hpp>
#include <optional>
#include <random>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace simprovider {

enum class FaultKind {
  kNone,
  kStatus,
  kRefuse,
  kReset,
  kHang,
  kSlowHeaders,
  kSilence,
  kPings,
  kCut,
  kStall,
  kDrip,
  kMalformed,
  kSplitUtf8,
  kNoDone,
  kEmpty,
  kRefusal,
  kContentFilter,
  kOutage,
  kFlapping,
  kFailureRate,
  kDeadKeepalive,
  kInvalidJsonAnswer,
  kContextLength,
  kModelNotFound,
  kQuota,
  kRateLimit,
  kOverloaded,
  kAuth,
};

// One fault as its JSON says it; a key that a kind does not take keeps its default.
struct Fault {
  FaultKind kind = FaultKind::kNone;
  std::string name;    // the kind as written
  int64_t times = -1;  // attempts it applies to; < 0: for ever
  int64_t status = 0;
  std::vector<std::pair<std::string, std::string>> headers;
  std::optional<std::string> body;
  std::string type;
  std::string message;
  double retry_after = -1;
  double seconds = 0;
  double ms = 0;
  double interval_ms = 100;
  double up = 0;
  double down = 0;
  bool starts_down = false;
  double probability = 1;
  uint64_t seed = 1;
  int64_t after = -1;  // tokens
  int64_t size = 0;
  std::string how;
  std::string at;
  std::string per;
  std::string what;
  bool crlf = false;
  std::shared_ptr<const Fault> inner;
  nlohmann::ordered_json source;
};

// Parses one fault or a list of them. Empty with `error` naming field and reason when refused.
std::vector<Fault> ParseFaults(const nlohmann::ordered_json& json, std::string& error);

// The scripts, by model ("*" for all models without an active one). Thread-safe; Take() costs one
// atomic read while there are none.
class FaultBook {
 public:
  using TimePoint = std::chrono::steady_clock::time_point;

  // `on_refuse` is called when a `refuse` fault becomes the current one of a script.
  void OnRefuse(std::function<void(double seconds)> on_refuse);

  void Set(const std::string& model, std::vector<Fault> script, TimePoint now);
  bool Remove(const std::string& model);
  void Clear();
  nlohmann::ordered_json Describe() const;

  struct Taken {
    std::shared_ptr<const Fault> fault;
    std::string name;  // "outage" even when it is the reset within that applies
  };
  // The fault for the next attempt at `model`, if any.
  std::optional<Taken> Take(const std::string& model, bool reused_connection, TimePoint now);

 private:
  struct Script {
    std::vector<std::shared_ptr<const Fault>> faults;
    size_t current = 0;
    int64_t used = 0;  // attempts the current fault has had
    TimePoint active_since;
    std::mt19937_64 random;
  };

  void Activate(Script& script, size_t index, TimePoint now);
  std::optional<Taken> TakeFrom(Script& script, bool reused_connection, TimePoint now);

  std::atomic<bool> any_{false};
  mutable std::mutex mutex_;
  std::map<std::string, Script> scripts_;
  std::function<void(double)> on_refuse_;
};

}  // namespace simprovider
