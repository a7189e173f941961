#pragma once

// The server's log: one line an event, as text ("event key=value ...") or as a JSON object, to
// standard error or a file. Owned by the server; Write may be called from any thread and never
// waits: a thread of its own writes, and when 8,192 lines wait for it the oldest are dropped and
// counted. Losing log lines while a disk hangs beats stalling every request.
//
// Nobody writes a prompt, an answer, a secret or a provider's free text here.

#include <cstddef>
#include <cstdint>
#include <initializer_list>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <variant>
#include <vector>

#include "absl/status/statusor.h"
#include "server/config/config.h"

namespace spdlog {
class logger;
namespace details {
class thread_pool;
}
}  // namespace spdlog

namespace holdfast::server {

using LogValue = std::variant<std::string, int64_t, double, bool>;
using LogFields = std::vector<std::pair<std::string, LogValue>>;

class Log {
 public:
  enum class Level { kInfo, kWarning, kError };

  static absl::StatusOr<std::unique_ptr<Log>> Open(const LogOptions& options);
  ~Log();  // writes what is queued

  void Write(Level level, std::string_view event, const LogFields& fields);

 private:
  Log(LogOptions::Format format, std::shared_ptr<spdlog::details::thread_pool> pool,
      std::shared_ptr<spdlog::logger> logger);

  const LogOptions::Format format_;
  std::shared_ptr<spdlog::details::thread_pool> pool_;
  std::shared_ptr<spdlog::logger> logger_;
};

}  // namespace holdfast::server
