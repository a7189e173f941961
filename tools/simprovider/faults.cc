#include "tools/simprovider/faults.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <limits>

namespace simprovider {
namespace {

using Json = nlohmann::ordered_json;

struct KindEntry {
  std::string_view name;
  FaultKind kind;
  std::string_view keys;  // besides "kind" and "times"; '!' marks the required ones
};

constexpr std::array<KindEntry, 30> kKinds = {{
    {"none", FaultKind::kNone, ""},
    {"status", FaultKind::kStatus, "status! headers body type message retry_after"},
    {"refuse", FaultKind::kRefuse, "seconds!"},
    {"reset", FaultKind::kReset, ""},
    {"hang", FaultKind::kHang, ""},
    {"slow_headers", FaultKind::kSlowHeaders, "ms!"},
    {"silence", FaultKind::kSilence, ""},
    {"pings", FaultKind::kPings, "interval_ms"},
    {"cut", FaultKind::kCut, "after at how status type message"},
    {"before_content", FaultKind::kCut, "how status type message"},
    {"stall", FaultKind::kStall, "after at ms"},
    {"drip", FaultKind::kDrip, "ms! per"},
    {"malformed", FaultKind::kMalformed, "what after"},
    {"split_utf8", FaultKind::kSplitUtf8, "crlf size"},
    {"no_done", FaultKind::kNoDone, ""},
    {"empty", FaultKind::kEmpty, "what"},
    {"refusal", FaultKind::kRefusal, ""},
    {"content_filter", FaultKind::kContentFilter, "after at"},
    {"outage", FaultKind::kOutage, "seconds! fault status"},
    {"flapping", FaultKind::kFlapping, "up! down! starts fault status"},
    {"failure_rate", FaultKind::kFailureRate, "p! seed fault status"},
    {"dead_keepalive", FaultKind::kDeadKeepalive, ""},
    {"invalid_json_answer", FaultKind::kInvalidJsonAnswer, ""},
    {"context_length", FaultKind::kContextLength, "headers"},
    {"model_not_found", FaultKind::kModelNotFound, "headers"},
    {"quota", FaultKind::kQuota, "retry_after headers"},
    {"rate_limit", FaultKind::kRateLimit, "retry_after headers"},
    {"overloaded", FaultKind::kOverloaded, "retry_after headers"},
    {"auth", FaultKind::kAuth, "headers"},
    {"ok", FaultKind::kNone, ""},
}};

const KindEntry* FindKind(std::string_view name) {
  for (const KindEntry& entry : kKinds) {
    if (entry.name == name) return &entry;
  }
  return nullptr;
}

std::string KindNames() {
  std::string names;
  for (const KindEntry& entry : kKinds) {
    if (!names.empty()) names += ", ";
    names += entry.name;
  }
  return names;
}

// The keys of an entry: calls visit(key, required).
template <typename Visit>
void ForEachKey(std::string_view keys, Visit visit) {
  while (!keys.empty()) {
    const size_t end = std::min(keys.find(' '), keys.size());
    std::string_view key = keys.substr(0, end);
    const bool required = key.back() == '!';
    if (required) key.remove_suffix(1);
    visit(key, required);
    keys.remove_prefix(std::min(end + 1, keys.size()));
  }
}

std::string KeyNames(const KindEntry& entry) {
  std::string names = "kind, times";
  ForEachKey(entry.keys, [&names](std::string_view key, bool) {
    names += ", ";
    names += key;
  });
  return names;
}

bool Takes(const KindEntry& entry, std::string_view key) {
  if (key == "kind" || key == "times") return true;
  bool found = false;
  ForEachKey(entry.keys, [&](std::string_view name, bool) { found = found || name == key; });
  return found;
}

// Reads one fault object; the first problem stops it.
class FaultReader {
 public:
  FaultReader(const Json& json, std::string path, int depth)
      : json_(json), path_(std::move(path)), depth_(depth) {}

  bool Read(Fault& fault) {
    if (!json_.is_object()) return Fail("", "must be an object with a \"kind\"");
    if (depth_ > 4) return Fail("", "is nested too deep");
    if (!json_.contains("kind")) return Fail("kind", "is required; one of " + KindNames());
    if (!json_["kind"].is_string()) return Fail("kind", "must be a string");
    fault.name = json_["kind"].get<std::string>();
    const KindEntry* entry = FindKind(fault.name);
    if (entry == nullptr) return Fail("kind", "is unknown; one of " + KindNames());
    fault.kind = entry->kind;
    fault.source = json_;
    for (const auto& [key, value] : json_.items()) {
      if (!Takes(*entry, key)) {
        return Fail(key,
                    "is unknown for kind \"" + fault.name + "\"; it takes: " + KeyNames(*entry));
      }
      if (!ReadKey(key, value, fault)) return false;
    }
    ForEachKey(entry->keys, [&](std::string_view key, bool required) {
      if (required && error_.empty() && !json_.contains(key)) Fail(key, "is required");
    });
    return error_.empty() && Complete(fault);
  }

  const std::string& error() const { return error_; }

 private:
  bool Fail(std::string_view key, const std::string& reason) {
    error_ = path_;
    if (!key.empty()) error_ += (error_.empty() ? "" : ".") + std::string(key);
    if (error_.empty()) error_ = "fault";
    error_ += " " + reason;
    return false;
  }

  bool Integer(std::string_view key, const Json& value, int64_t low, int64_t high, int64_t& out) {
    const bool good =
        value.is_number_integer() && value.get<int64_t>() >= low && value.get<int64_t>() <= high;
    if (!good) {
      return Fail(key,
                  "must be an integer from " + std::to_string(low) + " to " + std::to_string(high));
    }
    out = value.get<int64_t>();
    return true;
  }

  bool Number(std::string_view key, const Json& value, double low, double high, double& out) {
    const bool good =
        value.is_number() && value.get<double>() >= low && value.get<double>() <= high;
    if (!good) {
      return Fail(key, "must be a number from " + Json(low).dump() + " to " + Json(high).dump());
    }
    out = value.get<double>();
    return true;
  }

  bool Word(std::string_view key, const Json& value, std::initializer_list<const char*> words,
            std::string& out) {
    std::string list;
    for (const char* word : words) {
      if (value.is_string() && value.get<std::string>() == word) {
        out = word;
        return true;
      }
      list += (list.empty() ? "\"" : ", \"") + std::string(word) + "\"";
    }
    return Fail(key, "must be one of " + list);
  }

  bool Text(std::string_view key, const Json& value, std::string& out) {
    if (!value.is_string()) return Fail(key, "must be a string");
    out = value.get<std::string>();
    return true;
  }

  bool ReadKey(const std::string& key, const Json& value, Fault& fault) {
    static constexpr double kMaxSeconds = 86400;
    static constexpr double kMaxMs = 86400000;
    static constexpr int64_t kMaxCount = 1000000000;
    if (key == "kind") return true;
    if (key == "times") return Integer(key, value, 1, kMaxCount, fault.times);
    if (key == "status") return Integer(key, value, 100, 999, fault.status);
    if (key == "headers") return ReadHeaders(value, fault);
    if (key == "body") return ReadBody(value, fault);
    if (key == "type") return Text(key, value, fault.type);
    if (key == "message") return Text(key, value, fault.message);
    if (key == "retry_after") return Number(key, value, 0, kMaxSeconds * 30, fault.retry_after);
    if (key == "seconds") return Number(key, value, 0.001, kMaxSeconds, fault.seconds);
    if (key == "ms") return Number(key, value, 0.01, kMaxMs, fault.ms);
    if (key == "interval_ms") return Number(key, value, 1, kMaxMs, fault.interval_ms);
    if (key == "up") return Number(key, value, 0.001, kMaxSeconds, fault.up);
    if (key == "down") return Number(key, value, 0.001, kMaxSeconds, fault.down);
    if (key == "p") return Number(key, value, 0, 1, fault.probability);
    if (key == "after") return Integer(key, value, 0, kMaxCount, fault.after);
    if (key == "size") return Integer(key, value, 1, kMaxCount, fault.size);
    if (key == "per") return Word(key, value, {"byte", "token"}, fault.per);
    if (key == "how") return Word(key, value, {"rst", "fin", "error_event", "end"}, fault.how);
    if (key == "fault") return ReadInner(value, fault);
    if (key == "at") return ReadAt(value, fault);
    if (key == "what") return ReadWhat(value, fault);
    if (key == "seed") {
      int64_t seed = 0;
      if (!Integer(key, value, 0, std::numeric_limits<int64_t>::max(), seed)) return false;
      fault.seed = static_cast<uint64_t>(seed);
      return true;
    }
    if (key == "starts") {
      std::string word;
      if (!Word(key, value, {"up", "down"}, word)) return false;
      fault.starts_down = word == "down";
      return true;
    }
    if (!value.is_boolean()) return Fail(key, "must be true or false");
    fault.crlf = value.get<bool>();
    return true;
  }

  bool ReadAt(const Json& value, Fault& fault) {
    if (fault.kind == FaultKind::kContentFilter) {
      return Word("at", value, {"prompt", "answer"}, fault.at);
    }
    return Word("at", value,
                {"tokens", "first_token", "mid_character", "mid_tool_call", "after_finish"},
                fault.at);
  }

  bool ReadWhat(const Json& value, Fault& fault) {
    if (fault.kind == FaultKind::kEmpty) return Word("what", value, {"answer", "body"}, fault.what);
    return Word("what", value, {"line", "json", "truncated"}, fault.what);
  }

  bool ReadHeaders(const Json& value, Fault& fault) {
    if (!value.is_object()) return Fail("headers", "must be an object of strings");
    for (const auto& [name, text] : value.items()) {
      if (!text.is_string()) return Fail("headers." + name, "must be a string");
      const std::string content = text.get<std::string>();
      const bool breaks = (name + content).find_first_of("\r\n") != std::string::npos;
      if (breaks || name.empty() || name.find(':') != std::string::npos) {
        return Fail("headers." + name, "is no valid header");
      }
      fault.headers.emplace_back(name, content);
    }
    return true;
  }

  bool ReadBody(const Json& value, Fault& fault) {
    fault.body = value.is_string() ? value.get<std::string>() : value.dump();
    return true;
  }

  bool ReadInner(const Json& value, Fault& fault) {
    Fault inner;
    FaultReader reader(value, path_ + (path_.empty() ? "fault" : ".fault"), depth_ + 1);
    if (!reader.Read(inner)) {
      error_ = reader.error();
      return false;
    }
    if (inner.kind == FaultKind::kRefuse || inner.kind == FaultKind::kOutage ||
        inner.kind == FaultKind::kFlapping || inner.kind == FaultKind::kFailureRate) {
      return Fail("fault", "cannot be of kind \"" + inner.name + "\"");
    }
    fault.inner = std::make_shared<const Fault>(std::move(inner));
    return true;
  }

  static bool IsWrapper(FaultKind kind) {
    return kind == FaultKind::kOutage || kind == FaultKind::kFlapping ||
           kind == FaultKind::kFailureRate;
  }

  // Fills in what the JSON may leave out.
  bool Complete(Fault& fault) {
    if (IsWrapper(fault.kind)) {
      if (fault.inner && fault.status != 0) return Fail("status", "cannot stand beside \"fault\"");
      if (!fault.inner) {
        auto inner = std::make_shared<Fault>();
        inner->kind = fault.status != 0 ? FaultKind::kStatus : FaultKind::kReset;
        inner->status = fault.status;
        fault.inner = std::move(inner);
      }
    }
    if (fault.name == "before_content") fault.after = 0;
    if (fault.at == "first_token") fault.after = 1;
    if (fault.at == "first_token") fault.at = "tokens";
    if (fault.at.empty()) fault.at = "tokens";
    if (fault.how.empty()) fault.how = "rst";
    if (fault.per.empty()) fault.per = "token";
    if (fault.what.empty()) fault.what = fault.kind == FaultKind::kEmpty ? "answer" : "line";
    if (fault.after < 0 && fault.kind != FaultKind::kContentFilter) fault.after = 1;
    return true;
  }

  const Json& json_;
  const std::string path_;
  const int depth_;
  std::string error_;
};

double SecondsSince(FaultBook::TimePoint then, FaultBook::TimePoint now) {
  return std::chrono::duration<double>(now - then).count();
}

bool HasPassed(const Fault& fault, double age) {
  const bool ends = fault.kind == FaultKind::kOutage || fault.kind == FaultKind::kRefuse;
  return ends && age >= fault.seconds;
}

bool IsDown(const Fault& fault, double age) {
  const double phase = std::fmod(age, fault.up + fault.down);
  return fault.starts_down ? phase < fault.down : phase >= fault.up;
}

}  // namespace

std::vector<Fault> ParseFaults(const Json& json, std::string& error) {
  std::vector<Fault> faults;
  const bool list = json.is_array();
  if (list && json.empty()) error = "fault list must not be empty";
  const size_t count = list ? json.size() : 1;
  for (size_t i = 0; i < count && error.empty(); ++i) {
    FaultReader reader(list ? json[i] : json, list ? "[" + std::to_string(i) + "]" : "", 0);
    if (!reader.Read(faults.emplace_back())) error = reader.error();
  }
  if (!error.empty()) faults.clear();
  return faults;
}

void FaultBook::OnRefuse(std::function<void(double)> on_refuse) {
  on_refuse_ = std::move(on_refuse);
}

void FaultBook::Activate(Script& script, size_t index, TimePoint now) {
  script.current = index;
  script.used = 0;
  script.active_since = now;
  if (index >= script.faults.size()) return;
  const Fault& fault = *script.faults[index];
  script.random.seed(fault.seed);
  if (fault.kind == FaultKind::kRefuse && on_refuse_) on_refuse_(fault.seconds);
}

void FaultBook::Set(const std::string& model, std::vector<Fault> faults, TimePoint now) {
  Script script;
  for (Fault& fault : faults) {
    script.faults.push_back(std::make_shared<const Fault>(std::move(fault)));
  }
  std::lock_guard<std::mutex> lock(mutex_);
  Activate(script, 0, now);
  scripts_[model] = std::move(script);
  any_ = true;
}

bool FaultBook::Remove(const std::string& model) {
  std::lock_guard<std::mutex> lock(mutex_);
  const bool removed = scripts_.erase(model) > 0;
  any_ = !scripts_.empty();
  return removed;
}

void FaultBook::Clear() {
  std::lock_guard<std::mutex> lock(mutex_);
  scripts_.clear();
  any_ = false;
}

Json FaultBook::Describe() const {
  std::lock_guard<std::mutex> lock(mutex_);
  Json all = Json::object();
  for (const auto& [model, script] : scripts_) {
    Json& entry = all[model];
    entry["script"] = Json::array();
    for (const auto& fault : script.faults) entry["script"].push_back(fault->source);
    entry["current"] = script.current;
    entry["used"] = script.used;
    entry["done"] = script.current >= script.faults.size();
  }
  return all;
}

std::optional<FaultBook::Taken> FaultBook::Take(const std::string& model, bool reused_connection,
                                                TimePoint now) {
  if (!any_.load(std::memory_order_relaxed)) return std::nullopt;
  std::lock_guard<std::mutex> lock(mutex_);
  for (const std::string& key : {model, std::string("*")}) {
    const auto found = scripts_.find(key);
    if (found == scripts_.end()) continue;
    if (auto taken = TakeFrom(found->second, reused_connection, now)) {
      if (taken->fault == nullptr) return std::nullopt;
      return taken;
    }
  }
  return std::nullopt;
}

// Nothing: the script is used up. A Taken without a fault: this attempt is to go well.
std::optional<FaultBook::Taken> FaultBook::TakeFrom(Script& script, bool reused_connection,
                                                    TimePoint now) {
  while (script.current < script.faults.size() &&
         HasPassed(*script.faults[script.current], SecondsSince(script.active_since, now))) {
    Activate(script, script.current + 1, now);
  }
  if (script.current >= script.faults.size()) return std::nullopt;
  const std::shared_ptr<const Fault> fault = script.faults[script.current];
  if (fault->kind == FaultKind::kDeadKeepalive && !reused_connection) return Taken{};
  const double age = SecondsSince(script.active_since, now);
  bool applies = fault->kind != FaultKind::kNone;
  if (fault->kind == FaultKind::kFlapping) applies = IsDown(*fault, age);
  if (fault->kind == FaultKind::kFailureRate) {
    applies = std::uniform_real_distribution<double>(0, 1)(script.random) < fault->probability;
  }
  if (fault->times > 0 && ++script.used >= fault->times) {
    Activate(script, script.current + 1, now);
  }
  if (!applies) return Taken{};
  return Taken{fault->inner ? fault->inner : fault, fault->name};
}

}  // namespace simprovider
