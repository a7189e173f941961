#include "tools/simprovider/attempt_log.h"

#include <algorithm>
#include <cstdio>
#include <utility>

#include "tools/simprovider/text.h"

namespace simprovider {
namespace {

std::string_view EndName(AttemptEnd end) {
  switch (end) {
    case AttemptEnd::kOpen:
      return "open";
    case AttemptEnd::kComplete:
      return "complete";
    case AttemptEnd::kCut:
      return "cut";
    case AttemptEnd::kClientClosed:
      return "client_closed";
    case AttemptEnd::kServerStopped:
      return "server_stopped";
  }
  return "";
}

std::string Milliseconds(double ms) {
  char text[40];
  std::snprintf(text, sizeof(text), "%.3f", ms);
  return text;
}

std::string OrNull(const std::string& text) { return text.empty() ? "null" : Quoted(text); }

void AppendAttempt(std::string& out, const Attempt& attempt) {
  const bool open = attempt.end == AttemptEnd::kOpen;
  out += "{\"seq\":" + std::to_string(attempt.sequence);
  out += ",\"unix_ms\":" + std::to_string(attempt.unix_ms);
  out += ",\"ms\":" + Milliseconds(attempt.ms);
  out += ",\"kind\":" + Quoted(attempt.kind);
  out += ",\"model\":" + Quoted(attempt.model);
  out += ",\"path\":" + Quoted(attempt.path);
  out += ",\"streamed\":" + std::string(attempt.streamed ? "true" : "false");
  out += ",\"status\":" + std::to_string(attempt.status);
  out += ",\"fault\":" + OrNull(attempt.fault);
  out += ",\"idempotency_key\":" + OrNull(attempt.idempotency_key);
  out += ",\"holdfast_attempt\":" + OrNull(attempt.holdfast_attempt);
  out += ",\"authorized\":" + std::string(attempt.authorized ? "true" : "false");
  out += ",\"request_bytes\":" + std::to_string(attempt.request_bytes);
  out += ",\"response_bytes\":" + std::to_string(attempt.response_bytes);
  out += ",\"end\":" + Quoted(EndName(attempt.end));
  out += ",\"end_ms\":" + (open ? "null" : Milliseconds(attempt.end_ms));
  out += ",\"duration_ms\":" + (open ? "null" : Milliseconds(attempt.end_ms - attempt.ms));
  out += '}';
}

void PrintAttempt(const Attempt& attempt) {
  std::fprintf(stderr, "%12.3f ms #%llu %s %s%s status=%d fault=%s end=%s after=%.3f ms\n",
               attempt.ms, static_cast<unsigned long long>(attempt.sequence), attempt.kind.data(),
               attempt.model.c_str(), attempt.streamed ? " streamed" : "", attempt.status,
               attempt.fault.empty() ? "-" : attempt.fault.c_str(), EndName(attempt.end).data(),
               attempt.end_ms - attempt.ms);
}

}  // namespace

double AttemptLog::Elapsed() const {
  return std::chrono::duration<double, std::milli>(std::chrono::steady_clock::now() - start_)
      .count();
}

uint64_t AttemptLog::Add(Attempt attempt) {
  attempt.ms = Elapsed();
  attempt.unix_ms = std::chrono::duration_cast<std::chrono::milliseconds>(
                        std::chrono::system_clock::now().time_since_epoch())
                        .count();
  std::lock_guard<std::mutex> lock(mutex_);
  const uint64_t sequence = ++last_sequence_;
  attempt.sequence = sequence;
  const size_t slot = (sequence - 1) % kCapacity;
  if (slot == ring_.size()) {
    ring_.push_back(std::move(attempt));
  } else {
    ring_[slot] = std::move(attempt);
  }
  return sequence;
}

void AttemptLog::End(uint64_t sequence, AttemptEnd end, uint64_t response_bytes) {
  const double now = Elapsed();
  std::lock_guard<std::mutex> lock(mutex_);
  Attempt& attempt = ring_[(sequence - 1) % kCapacity];
  if (attempt.sequence != sequence) return;  // overwritten since
  attempt.end = end;
  attempt.end_ms = now;
  attempt.response_bytes = response_bytes;
  if (print_) PrintAttempt(attempt);
}

void AttemptLog::Clear() {
  std::lock_guard<std::mutex> lock(mutex_);
  first_kept_ = last_sequence_ + 1;
}

std::string AttemptLog::ToJson(std::string_view model, uint64_t since) const {
  std::string out = "[";
  std::lock_guard<std::mutex> lock(mutex_);
  const uint64_t oldest = last_sequence_ > kCapacity ? last_sequence_ - kCapacity + 1 : 1;
  const uint64_t first = std::max({oldest, first_kept_, since + 1});
  for (uint64_t sequence = first; sequence <= last_sequence_; ++sequence) {
    const Attempt& attempt = ring_[(sequence - 1) % kCapacity];
    if (!model.empty() && attempt.model != model) continue;
    if (out.size() > 1) out += ',';
    AppendAttempt(out, attempt);
  }
  out += ']';
  return out;
}

}  // namespace simprovider
