#pragma once

// The server's log: one line an event, as text ("event key=value ...") or as a JSON object, to
// standard error or a file. Owned by the server; Write may be called from any thread and never
// waits: a thread of its own writes, some milliseconds later so that under load many lines are one
// write. When 8,192 lines wait for it the oldest are dropped and counted: losing log lines while a
// disk hangs beats stalling every request.
//
// Nobody writes a prompt, an answer, a secret or a provider's free text here.

#include <condition_variable>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <initializer_list>
#include <memory>
#include <mutex>
#include <string>
#include <string_view>
#include <thread>
#include <utility>
#include <variant>
#include <vector>

#include "absl/status/statusor.h"
#include "server/config/config.h"

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
  Log(LogOptions::Format format, int fd);

  void Work();
  void WriteOut(const std::deque<std::string>& lines);

  const LogOptions::Format format_;
  const int fd_;
  std::mutex mutex_;
  std::condition_variable wake_;
  std::deque<std::string> waiting_;  // guarded by mutex_, like the two below
  size_t dropped_ = 0;
  bool stopping_ = false;
  std::thread thread_;
};

}  // namespace holdfast::server
