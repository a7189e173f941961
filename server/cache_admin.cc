#include "server/cache_admin.h"

#include <algorithm>
#include <iterator>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <variant>
#include <vector>

#include "cache/scope.h"
#include "core/check.h"
#include "server/admin_refusal.h"
#include "server/generate_call.h"
#include "server/proto_convert.h"
#include "server/response_writer.h"
#include "server/text.h"

namespace holdfast::server {
namespace {

constexpr size_t kDigestBytes = 32;  // of a scope's key, behind tenant and route
constexpr int kPageEntries = 256;
constexpr size_t kPageBytes = 512 << 10;
constexpr size_t kMostSeen = 20'000;  // of entries that a page passes over
constexpr int kMostImported = 1000;
constexpr size_t kShownAnswer = 1000;

// The conditions of a purge, or why they are none.
std::variant<cache::PurgeFilter, grpc::Status> ReadFilter(const v1::PurgeCacheRequest& in) {
  cache::PurgeFilter filter;
  if (!in.tenant().empty()) filter.tenant = in.tenant();
  if (!in.route().empty()) filter.route = in.route();
  if (!in.entry_id().empty()) filter.entry_id = in.entry_id();
  filter.labels = {in.labels().begin(), in.labels().end()};
  if (in.has_older_than()) {
    filter.older_than = FromProto(in.older_than());
    if (!filter.older_than || *filter.older_than <= core::Duration::zero()) {
      return BadField("older_than", "must be a duration longer than 0");
    }
  }
  const bool limited = filter.tenant || filter.route || filter.entry_id || filter.older_than ||
                       !filter.labels.empty();
  if (in.everything() && limited) return BadField("everything", "must be the only condition");
  if (!in.everything() && !limited) return BadField("everything", "must be set to purge all");
  return filter;
}

std::string TenantOr(const std::string& tenant) { return tenant.empty() ? kDefaultTenant : tenant; }

// The caller's own limits can only be stricter.
core::CacheQuery QueryOf(double min_similarity, const resilience::RouteCacheOptions& route,
                         const core::CacheControl& own) {
  return {.min_similarity = std::max(min_similarity, own.min_similarity.value_or(0)),
          .max_age = std::min(route.max_age, own.max_age.value_or(core::Duration::max()))};
}

std::string WhyNotAsked(const resilience::Route& route, const core::Request& request) {
  if (!route.cache.enabled) return "the route's cache is off";
  if (request.cache.mode == core::CacheControl::Mode::kOff)
    return "the request's cache mode is OFF";
  if (!core::AnswerCache::Cacheable(request)) return "the last turn is not one plain user text";
  return "";
}

std::string WhyNotAskedAsAFallback(const resilience::Route& route, const core::Request& request) {
  std::string why = WhyNotAsked(route, request);
  if (!why.empty()) return why;
  if (request.worst_acceptable.value_or(route.worst_acceptable) < core::Degradation::kStale) {
    return "no stale answer is acceptable to the request";
  }
  return "";
}

const char* FateOf(const cache::Considered& one, const core::CacheQuery& query, double floor,
                   bool served_already) {
  if (!one.entry.pinned && one.age > query.max_age) return "too_old";
  if (one.cosine < floor) return "too_far";
  if (one.verdict.refused) return "refused";
  if (one.verdict.similarity < query.min_similarity) return "below_threshold";
  return served_already ? "outranked" : "served";
}

v1::ConsideredEntry ToProto(cache::Considered one, std::string fate) {
  v1::ConsideredEntry out;
  out.set_entry_id(std::move(one.entry.id));
  out.set_question(ToUtf8(std::move(one.entry.question)));
  std::string answer = ToUtf8(std::move(one.entry.answer));
  out.set_answer(fate == "served" ? std::move(answer) : std::string(CutUtf8(answer, kShownAnswer)));
  if (!one.verdict.refused) out.set_similarity(one.verdict.similarity);
  out.set_cosine(one.cosine);
  *out.mutable_age() = server::ToProto(one.age);
  out.set_pinned(one.entry.pinned);
  out.set_fate(std::move(fate));
  out.set_reason(ToUtf8(std::move(one.verdict.reason)));
  for (cache::Finding& finding : one.verdict.findings) {
    v1::CacheFinding& shown = *out.add_findings();
    shown.set_name(std::move(finding.name));
    shown.set_reason(ToUtf8(std::move(finding.reason)));
  }
  return out;
}

v1::CalibratedThreshold::State ToProto(cache::Calibrated state) {
  switch (state) {
    case cache::Calibrated::kOff:
      return v1::CalibratedThreshold::STATE_OFF;
    case cache::Calibrated::kTooFew:
      return v1::CalibratedThreshold::STATE_TOO_FEW_SAMPLES;
    case cache::Calibrated::kHeld:
      return v1::CalibratedThreshold::STATE_HELD;
    case cache::Calibrated::kNotHeld:
      return v1::CalibratedThreshold::STATE_NOT_HELD;
  }
  HOLDFAST_CHECK(false);
}

v1::CalibratedThreshold ToProto(double configured, const cache::ErrorCurve::Choice& choice) {
  v1::CalibratedThreshold out;
  out.set_configured(configured);
  out.set_in_force(choice.threshold);
  out.set_state(ToProto(choice.state));
  out.set_needed(choice.needed);
  return out;
}

v1::RouteCalibration ToProto(const cache::RouteErrors& errors) {
  v1::RouteCalibration out;
  out.set_route(errors.route);
  out.set_samples(errors.samples);
  if (errors.max_error) out.set_max_error(*errors.max_error);
  for (const cache::RouteErrors::InForce& in_force : errors.thresholds) {
    *out.add_thresholds() = ToProto(in_force.configured, in_force.choice);
  }
  for (const cache::CurvePoint& point : errors.curve) {
    v1::CalibrationPoint& added = *out.add_curve();
    added.set_threshold(point.threshold);
    added.set_served(point.served);
    added.set_wrong(point.wrong);
    added.set_bound(point.bound);
  }
  return out;
}

// An embedder's id is "model@version#digest"; that of hashes has no version.
v1::EmbeddingProgress ToProto(const cache::EmbeddingProgress& progress) {
  v1::EmbeddingProgress out;
  const size_t at = progress.embedder.rfind('@');
  out.set_embedder(ToUtf8(progress.embedder.substr(0, at)));
  if (at != std::string::npos) out.set_version(ToUtf8(progress.embedder.substr(at + 1)));
  out.set_remote(progress.remote);
  out.set_done(progress.done);
  out.set_total(progress.total);
  out.set_counting(progress.counting);
  return out;
}

v1::CacheEntry ToProto(const cache::ExportedEntry& one, const cache::ParsedScope& scope) {
  v1::CacheEntry out;
  out.set_tenant(std::string(scope.tenant));
  out.set_route(std::string(scope.route));
  out.set_question(ToUtf8(one.entry.question));
  out.set_answer(ToUtf8(one.entry.answer));
  out.set_scope(one.scope_key.substr(one.scope_key.size() - kDigestBytes));
  if (!one.entry.provider.empty() || !one.entry.model.empty()) {
    *out.mutable_made_by() = server::ToProto(core::TargetName{one.entry.provider, one.entry.model});
  }
  *out.mutable_created_at() = server::ToProto(one.entry.created_at);
  out.set_pinned(one.entry.pinned);
  for (const auto& [key, value] : one.details.labels) (*out.mutable_labels())[key] = value;
  out.set_id(one.entry.id);
  return out;
}

// One entry of an import, read: what to store, or what is wrong with it.
class EntryReader {
 public:
  EntryReader(const CacheAdminDeps& deps, const v1::CacheEntry& in) : deps_(deps), in_(in) {}

  std::variant<cache::ImportedEntry, v1::ImportFault> Read() {
    const int places =
        int{!in_.system().empty()} + int{in_.has_context()} + int{!in_.scope().empty()};
    if (places > 1) return Fault("system", "context and scope exclude each other");
    if (!in_.tenant().empty() && !IsTenantName(in_.tenant())) {
      return Fault("tenant", "must be 1 to 128 printable ASCII characters");
    }
    if (!in_.scope().empty() && in_.scope().size() != kDigestBytes) {
      return Fault("scope", "must be 32 bytes");
    }
    if (in_.question().empty()) return Fault("question", "must not be empty");
    if (in_.answer().empty()) return Fault("answer", "must not be empty");
    const size_t most = deps_.cache.max_entry_bytes();
    if (in_.question().size() + in_.answer().size() > most) {
      return Fault("answer",
                   "must be at most " + std::to_string(most) + " bytes together with the question");
    }
    Reading reading = deps_.reader.Read(WholeRequest(), TenantOr(in_.tenant()));
    if (reading.rejection) return FaultOf(*reading.rejection);
    cache::ImportedEntry entry{
        .request = std::move(reading.request),
        .scope_digest = in_.scope(),
        .entry = {in_.answer(), in_.made_by().provider(), in_.made_by().model()},
        .created_at = deps_.clock.WallNow(),
        .pinned = in_.pinned()};
    if (in_.has_created_at()) {
      const auto time = FromProto(in_.created_at());
      if (!time) return Fault("created_at", "is no date from 1970 on");
      entry.created_at = std::min(entry.created_at, *time);
    }
    return entry;
  }

 private:
  v1::GenerateRequest WholeRequest() const {
    v1::GenerateRequest request = in_.context();
    request.set_route(in_.route());
    *request.mutable_labels() = in_.labels();
    if (!in_.system().empty()) AddMessage(request, "system", in_.system());
    AddMessage(request, "user", in_.question());
    return request;
  }

  static void AddMessage(v1::GenerateRequest& request, const char* role, const std::string& text) {
    v1::Message& message = *request.add_messages();
    message.set_role(role);
    message.set_content(text);
  }

  static v1::ImportFault Fault(std::string field, std::string reason) {
    v1::ImportFault fault;
    fault.set_field(std::move(field));
    fault.set_reason(std::move(reason));
    return fault;
  }

  static v1::ImportFault FaultOf(const Rejection& rejection) {
    if (rejection.faults.empty()) return Fault("", rejection.error.message);
    return Fault(rejection.faults.front().field, rejection.faults.front().reason);
  }

  const CacheAdminDeps& deps_;
  const v1::CacheEntry& in_;
};

void Count(cache::Inserted outcome, int index, v1::ImportCacheResponse& response) {
  const auto fault = [&](const char* field, const char* reason) {
    v1::ImportFault& added = *response.add_faults();
    added.set_index(index);
    added.set_field(field);
    added.set_reason(reason);
  };
  switch (outcome) {
    case cache::Inserted::kStored:
      return response.set_stored(response.stored() + 1);
    case cache::Inserted::kKept:
      return response.set_kept(response.kept() + 1);
    case cache::Inserted::kTooOld:
      return response.set_too_old(response.too_old() + 1);
    case cache::Inserted::kNoVector:
      return fault("question", "has no words");
    case cache::Inserted::kFailed:
      return fault("", "cannot be written: the server's log says why");
  }
}

}  // namespace

void CacheAdmin::FillStatus(v1::CacheStatus& status) const {
  status.set_ready(deps_.cache.ready());
  for (const cache::EmbeddingProgress& one : deps_.cache.Progress()) {
    *status.add_embeddings() = ToProto(one);
  }
}

void CacheAdmin::FillStats(v1::GetCacheStatsResponse& response) const {
  const cache::CacheStats stats = deps_.cache.Stats();
  response.set_entries(stats.entries);
  response.set_scopes(stats.scopes);
  response.set_bytes(stats.bytes_on_disk);
  response.set_lookups(stats.lookups);
  response.set_hits(stats.hits);
  response.set_misses(stats.misses);
  response.set_skipped(stats.skipped);
  response.set_stores(stats.stores);
  response.set_dropped(stats.dropped);
  response.set_rejected_vectors(stats.rejected_vectors);
  response.set_read_errors(stats.read_errors);
  response.set_write_errors(stats.write_errors);
  response.set_queued(stats.urgent_queued + stats.normal_queued);
  response.set_embedder(stats.embedder);
  response.set_degraded(stats.degraded);
  response.set_ready(stats.ready);
  response.set_indexed(stats.indexed);
  response.set_index_bytes(stats.index_bytes);
  response.set_pending(stats.debts);
  response.set_text_bytes(stats.entry_bytes);
  response.set_not_stored(stats.not_stored);
  response.set_evicted(stats.evicted);
  response.set_expired(stats.expired);
  response.set_read_only(stats.read_only);
  response.set_texts_cut(stats.texts_cut);
  response.set_scans_cut(stats.scans_cut);
  response.set_rewriting(stats.rewriting);
  for (const cache::EmbeddingProgress& one : deps_.cache.Progress()) {
    *response.add_embeddings() = ToProto(one);
  }
}

void CacheAdmin::FillCalibration(const std::string& route,
                                 v1::GetCalibrationResponse& response) const {
  for (const cache::RouteErrors& errors : deps_.cache.Errors()) {
    if (route.empty() || route == errors.route) *response.add_routes() = ToProto(errors);
  }
  const cache::CacheStats stats = deps_.cache.Stats();
  response.set_compared(stats.compared);
  response.set_not_compared(stats.not_compared);
}

grpc::Status CacheAdmin::Purge(const v1::PurgeCacheRequest& request,
                               v1::PurgeCacheResponse& response) {
  const auto filter = ReadFilter(request);
  if (const auto* refused = std::get_if<grpc::Status>(&filter)) return *refused;
  response.set_deleted(deps_.cache.Purge(std::get<cache::PurgeFilter>(filter)));
  return grpc::Status::OK;
}

CacheAdmin::Limits CacheAdmin::LimitsOf(const core::Request& request,
                                        core::CacheQuery query) const {
  const double configured = query.min_similarity;
  const auto choice = deps_.cache.ThresholdInForce(request.route, configured);
  query.min_similarity = choice.threshold;
  return {query, deps_.cache.judge().CosineFloor(choice.threshold), ToProto(configured, choice)};
}

void CacheAdmin::ExplainPreferred(const resilience::Route& route, const core::Request& request,
                                  v1::PreferredLookup& out) {
  const double configured = std::max(route.cache.min_similarity, route.cache.prefer_similarity);
  const Limits limits = LimitsOf(request, QueryOf(configured, route.cache, request.cache));
  out.set_threshold(limits.query.min_similarity);
  out.set_min_cosine(limits.min_cosine);
  *out.mutable_calibrated() = limits.calibrated;
  out.set_not_served(WhyNotAsked(route, request));
  if (!out.not_served().empty()) return;
  const auto ranked = deps_.cache.Explain(request, limits.min_cosine, limits.query.max_age);
  if (ranked.empty()) return out.set_not_served("no entry is near enough");
  const cache::Considered& best = ranked.front();
  const std::string fate = FateOf(best, limits.query, limits.min_cosine, false);
  if (fate == "served") return out.set_entry_id(best.entry.id);
  out.set_not_served("none of the entries passes; the first is " + fate +
                     (best.verdict.reason.empty() ? "" : ": " + ToUtf8(best.verdict.reason)));
}

grpc::Status CacheAdmin::Explain(const v1::ExplainCacheRequest& request,
                                 v1::ExplainCacheResponse& response) {
  if (!request.tenant().empty() && !IsTenantName(request.tenant())) {
    return BadField("tenant", "must be 1 to 128 printable ASCII characters");
  }
  Reading reading = deps_.reader.Read(request.request(), TenantOr(request.tenant()));
  if (reading.rejection) {
    for (FieldFault& fault : reading.rejection->faults) fault.field = "request." + fault.field;
    reading.rejection->error.message = "request." + reading.rejection->error.message;
    return WriteRejection("", *reading.rejection).status;
  }
  const core::Request& asked = reading.request;
  const resilience::Route& route = deps_.routes.at(asked.route)->options();
  const Limits limits =
      LimitsOf(asked, QueryOf(route.cache.min_similarity, route.cache, asked.cache));
  const core::CacheQuery& query = limits.query;
  const double floor = limits.min_cosine;
  response.set_threshold(query.min_similarity);
  response.set_min_cosine(floor);
  *response.mutable_calibrated() = limits.calibrated;
  *response.mutable_max_age() = server::ToProto(query.max_age);
  response.set_not_served(WhyNotAskedAsAFallback(route, asked));
  if (asked.cache.mode.value_or(route.cache.mode) == core::CacheControl::Mode::kPrefer) {
    ExplainPreferred(route, asked, *response.mutable_preferred());
  }

  std::vector<cache::Considered> entries, others;
  for (cache::Considered& one : deps_.cache.Explain(asked, -1, query.max_age)) {
    (one.cosine >= floor ? entries : others).push_back(std::move(one));
  }
  for (cache::Considered& one : deps_.cache.Explain(asked, -1, core::Duration::max())) {
    const bool valid = one.entry.pinned || one.age <= query.max_age;
    if (!valid) others.push_back(std::move(one));
  }
  std::move(others.begin(), others.end(), std::back_inserter(entries));
  bool served = !response.not_served().empty();
  for (cache::Considered& one : entries) {
    const std::string fate = FateOf(one, query, floor, served);
    served = served || fate == "served";
    *response.add_entries() = ToProto(std::move(one), fate);
  }
  if (served) return grpc::Status::OK;
  if (response.entries().empty()) {
    response.set_not_served("nothing is stored for this tenant, route and context");
  } else {
    const v1::ConsideredEntry& best = response.entries(0);
    response.set_not_served("none of the entries passes; the first is " + best.fate() +
                            (best.reason().empty() ? "" : ": " + best.reason()));
  }
  return grpc::Status::OK;
}

grpc::Status CacheAdmin::Export(const v1::ExportCacheRequest& request,
                                v1::ExportCacheResponse& response) const {
  size_t seen = 0, bytes = 0;
  std::string last;
  bool more = false;
  deps_.cache.Export(
      request.tenant(), request.route(), request.page_token(),
      [&](const cache::ExportedEntry& one) {
        if (response.entries_size() == kPageEntries || bytes >= kPageBytes || seen++ == kMostSeen) {
          more = true;
          return false;
        }
        last = one.key;
        const auto scope = cache::ParseScope(one.scope_key);
        if (!scope || (!request.route().empty() && scope->route != request.route())) {
          return true;
        }
        *response.add_entries() = ToProto(one, *scope);
        bytes += response.entries(response.entries_size() - 1).ByteSizeLong();
        return true;
      });
  if (more) response.set_next_page_token(last);
  response.set_total(deps_.cache.entries());
  return grpc::Status::OK;
}

grpc::Status CacheAdmin::Import(const v1::ImportCacheRequest& request,
                                v1::ImportCacheResponse& response) {
  if (request.entries_size() > kMostImported) {
    return BadField("entries", "must be at most " + std::to_string(kMostImported));
  }
  std::vector<cache::ImportedEntry> entries;
  std::vector<int> indexes;
  for (int i = 0; i < request.entries_size(); ++i) {
    auto read = EntryReader(deps_, request.entries(i)).Read();
    if (auto* fault = std::get_if<v1::ImportFault>(&read)) {
      fault->set_index(i);
      *response.add_faults() = std::move(*fault);
      continue;
    }
    entries.push_back(std::get<cache::ImportedEntry>(std::move(read)));
    indexes.push_back(i);
  }
  const std::vector<cache::Inserted> outcomes = deps_.cache.Import(std::move(entries));
  for (size_t i = 0; i < outcomes.size(); ++i) Count(outcomes[i], indexes[i], response);
  return grpc::Status::OK;
}

}  // namespace holdfast::server
