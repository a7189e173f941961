#include "server/log.h"

#include <pthread.h>

#include <algorithm>
#include <exception>
#include <type_traits>

#include "nlohmann/json.hpp"
#include "spdlog/async.h"
#include "spdlog/async_logger.h"
#include "spdlog/pattern_formatter.h"
#include "spdlog/sinks/basic_file_sink.h"
#include "spdlog/sinks/stdout_sinks.h"

namespace holdfast::server {
namespace {

constexpr size_t kMaxQueuedLines = 8192;

// Quoted as JSON does it, control characters and line ends included.
std::string Quote(const std::string& text) {
  return nlohmann::json(text).dump(-1, ' ', false, nlohmann::json::error_handler_t::replace);
}

bool IsBare(const std::string& text) {
  return !text.empty() && std::all_of(text.begin(), text.end(), [](char c) {
    return c > 0x20 && c < 0x7F && c != '"' && c != '=' && c != '\\';
  });
}

std::string Format(const LogValue& value, bool quote_always) {
  return std::visit(
      [quote_always](const auto& v) -> std::string {
        if constexpr (std::is_same_v<std::decay_t<decltype(v)>, std::string>) {
          return quote_always || !IsBare(v) ? Quote(v) : v;
        } else {
          return nlohmann::json(v).dump();
        }
      },
      value);
}

// The inside of a JSON object; the pattern adds time, level and the braces.
std::string JsonLine(std::string_view event, const LogFields& fields) {
  std::string line = "\"event\":" + Quote(std::string(event));
  for (const auto& [key, value] : fields) line += "," + Quote(key) + ":" + Format(value, true);
  return line;
}

std::string TextLine(std::string_view event, const LogFields& fields) {
  std::string line(event);
  for (const auto& [key, value] : fields) {
    line += " " + (IsBare(key) ? key : Quote(key)) + "=" + Format(value, false);
  }
  return line;
}

spdlog::level::level_enum ToSpdlog(Log::Level level) {
  switch (level) {
    case Log::Level::kInfo:
      return spdlog::level::info;
    case Log::Level::kWarning:
      return spdlog::level::warn;
    case Log::Level::kError:
      return spdlog::level::err;
  }
  return spdlog::level::err;
}

spdlog::sink_ptr OpenSink(const LogOptions& options) {
  if (options.file.empty()) return std::make_shared<spdlog::sinks::stderr_sink_mt>();
  return std::make_shared<spdlog::sinks::basic_file_sink_mt>(options.file);
}

}  // namespace

absl::StatusOr<std::unique_ptr<Log>> Log::Open(const LogOptions& options) {
  try {
    auto pool = std::make_shared<spdlog::details::thread_pool>(
        kMaxQueuedLines, 1, [] { pthread_setname_np(pthread_self(), "log"); });
    auto logger = std::make_shared<spdlog::async_logger>(
        "holdfast", OpenSink(options), pool, spdlog::async_overflow_policy::overrun_oldest);
    const char* pattern = options.format == LogOptions::Format::kJson
                              ? R"({"time":"%Y-%m-%dT%H:%M:%S.%eZ","level":"%l",%v})"
                              : "%Y-%m-%dT%H:%M:%S.%eZ %l %v";
    logger->set_formatter(
        std::make_unique<spdlog::pattern_formatter>(pattern, spdlog::pattern_time_type::utc));
    logger->flush_on(spdlog::level::info);  // on the log's thread
    return std::unique_ptr<Log>(new Log(options.format, std::move(pool), std::move(logger)));
  } catch (const std::exception& e) {
    return absl::UnavailableError("cannot log to \"" + options.file + "\": " + e.what());
  }
}

Log::Log(LogOptions::Format format, std::shared_ptr<spdlog::details::thread_pool> pool,
         std::shared_ptr<spdlog::logger> logger)
    : format_(format), pool_(std::move(pool)), logger_(std::move(logger)) {}

Log::~Log() {
  const size_t dropped = pool_->overrun_counter();
  if (dropped > 0) {
    Write(Level::kWarning, "log_lines_dropped", {{"count", static_cast<int64_t>(dropped)}});
  }
  // Destroying the pool writes what is queued; the logger's only sink lives in its messages.
  logger_->flush();
  pool_.reset();
}

void Log::Write(Level level, std::string_view event, const LogFields& fields) {
  try {
    logger_->log(ToSpdlog(level), format_ == LogOptions::Format::kJson ? JsonLine(event, fields)
                                                                       : TextLine(event, fields));
  } catch (const std::exception&) {
    // A line that cannot be formatted (memory) is lost; no request suffers for it.
  }
}

}  // namespace holdfast::server
