#include "server/log.h"

#include <fcntl.h>
#include <pthread.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <charconv>
#include <chrono>
#include <cmath>
#include <cstdio>
#include <cstring>
#include <filesystem>
#include <type_traits>

#include "nlohmann/json.hpp"

namespace holdfast::server {
namespace {

constexpr size_t kMaxWaitingLines = 8192;
constexpr std::chrono::milliseconds kGather{5};

bool IsPlain(std::string_view text) {
  return std::all_of(text.begin(), text.end(),
                     [](char c) { return c >= 0x20 && c < 0x7F && c != '"' && c != '\\'; });
}

// Quoted as JSON does it, control characters and line ends included.
void AppendQuoted(std::string& line, const std::string& text) {
  if (IsPlain(text)) {
    line.append("\"").append(text).append("\"");
  } else {
    line += nlohmann::json(text).dump(-1, ' ', false, nlohmann::json::error_handler_t::replace);
  }
}

bool IsBare(std::string_view text) {
  return !text.empty() && IsPlain(text) && text.find_first_of(" =") == std::string_view::npos;
}

template <typename Number>
void AppendNumber(std::string& line, Number number) {
  std::array<char, 32> digits;
  const auto end = std::to_chars(digits.data(), digits.data() + digits.size(), number).ptr;
  const std::string_view text(digits.data(), static_cast<size_t>(end - digits.data()));
  line += text;
  const bool whole = text.find_first_of(".e") == std::string_view::npos;
  if (std::is_floating_point_v<Number> && whole) line += ".0";
}

void AppendValue(std::string& line, const LogValue& value, bool quote_always) {
  if (const auto* text = std::get_if<std::string>(&value)) {
    quote_always || !IsBare(*text) ? AppendQuoted(line, *text) : void(line += *text);
  } else if (const auto* number = std::get_if<int64_t>(&value)) {
    AppendNumber(line, *number);
  } else if (const auto* real = std::get_if<double>(&value)) {
    std::isfinite(*real) ? AppendNumber(line, *real) : void(line += "null");
  } else {
    line += std::get<bool>(value) ? "true" : "false";
  }
}

std::string_view NameOf(Log::Level level) {
  switch (level) {
    case Log::Level::kInfo:
      return "info";
    case Log::Level::kWarning:
      return "warning";
    case Log::Level::kError:
      return "error";
  }
  return "error";
}

// 2026-01-31T23:59:59.999Z
void AppendTime(std::string& line, std::chrono::system_clock::time_point now) {
  const auto day = std::chrono::floor<std::chrono::days>(now);
  const std::chrono::year_month_day date(day);
  const std::chrono::hh_mm_ss time(std::chrono::floor<std::chrono::milliseconds>(now - day));
  std::array<char, 40> text;
  const int size = std::snprintf(
      text.data(), text.size(), "%04d-%02u-%02uT%02d:%02d:%02d.%03dZ",
      static_cast<int>(date.year()), static_cast<unsigned>(date.month()),
      static_cast<unsigned>(date.day()), static_cast<int>(time.hours().count()),
      static_cast<int>(time.minutes().count()), static_cast<int>(time.seconds().count()),
      static_cast<int>(time.subseconds().count()));
  line.append(text.data(), static_cast<size_t>(size));
}

std::string JsonLine(Log::Level level, std::string_view event, const LogFields& fields) {
  std::string line = "{\"time\":\"";
  AppendTime(line, std::chrono::system_clock::now());
  line.append("\",\"level\":\"").append(NameOf(level)).append("\",\"event\":");
  AppendQuoted(line, std::string(event));
  for (const auto& [key, value] : fields) {
    line += ',';
    AppendQuoted(line, key);
    line += ':';
    AppendValue(line, value, true);
  }
  return line + "}\n";
}

std::string TextLine(Log::Level level, std::string_view event, const LogFields& fields) {
  std::string line;
  AppendTime(line, std::chrono::system_clock::now());
  line.append(" ").append(NameOf(level)).append(" ").append(event);
  for (const auto& [key, value] : fields) {
    line += ' ';
    IsBare(key) ? void(line += key) : AppendQuoted(line, key);
    line += '=';
    AppendValue(line, value, false);
  }
  return line + "\n";
}

}  // namespace

absl::StatusOr<std::unique_ptr<Log>> Log::Open(const LogOptions& options) {
  int fd = STDERR_FILENO;
  if (!options.file.empty()) {
    std::error_code ignored;  // opening the file tells
    std::filesystem::create_directories(std::filesystem::path(options.file).parent_path(), ignored);
    fd = open(options.file.c_str(), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0644);
    if (fd < 0) {
      return absl::UnavailableError("cannot log to \"" + options.file +
                                    "\": " + std::strerror(errno));
    }
  }
  return std::unique_ptr<Log>(new Log(options.format, fd));
}

Log::Log(LogOptions::Format format, int fd)
    : format_(format), fd_(fd), thread_([this] { Work(); }) {}

Log::~Log() {
  {
    std::lock_guard lock(mutex_);
    stopping_ = true;
  }
  wake_.notify_one();
  thread_.join();
  if (fd_ != STDERR_FILENO) close(fd_);
}

void Log::Write(Level level, std::string_view event, const LogFields& fields) {
  std::string line = format_ == LogOptions::Format::kJson ? JsonLine(level, event, fields)
                                                          : TextLine(level, event, fields);
  bool first = false;
  {
    std::lock_guard lock(mutex_);
    first = waiting_.empty();
    waiting_.push_back(std::move(line));
    if (waiting_.size() > kMaxWaitingLines) {
      waiting_.pop_front();
      ++dropped_;
    }
  }
  if (first) wake_.notify_one();
}

void Log::Work() {
  pthread_setname_np(pthread_self(), "log");
  std::unique_lock lock(mutex_);
  while (true) {
    wake_.wait(lock, [this] { return stopping_ || !waiting_.empty(); });
    wake_.wait_for(lock, kGather, [this] { return stopping_; });
    const bool last = stopping_;
    const std::deque<std::string> lines = std::exchange(waiting_, {});
    lock.unlock();
    WriteOut(lines);
    lock.lock();
    if (last && waiting_.empty()) break;
  }
  if (dropped_ > 0) {
    const LogFields count = {{"count", static_cast<int64_t>(dropped_)}};
    WriteOut({format_ == LogOptions::Format::kJson
                  ? JsonLine(Level::kWarning, "log_lines_dropped", count)
                  : TextLine(Level::kWarning, "log_lines_dropped", count)});
  }
}

// What cannot be written is lost: there is nobody to tell.
void Log::WriteOut(const std::deque<std::string>& lines) {
  std::string text;
  for (const std::string& line : lines) text += line;
  std::string_view left = text;
  while (!left.empty()) {
    const ssize_t written = write(fd_, left.data(), left.size());
    if (written < 0 && errno != EINTR) return;
    if (written > 0) left.remove_prefix(static_cast<size_t>(written));
  }
}

}  // namespace holdfast::server
