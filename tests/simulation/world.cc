#include "tests/simulation/world.h"

#include <algorithm>
#include <cmath>
#include <memory>
#include <utility>

#include "cache/answer_book.h"
#include "cache/hash_embedder.h"
#include "core/wait.h"
#include "resilience/attempt.h"
#include "resilience/backoff.h"
#include "resilience/engine.h"
#include "tests/fakes/fake_loop.h"

namespace holdfast::simulation {
namespace {

using core::Duration;
using core::SteadyTime;

// The real cache without its threads, so that virtual time need not wait for them.
class InlineCache final : public core::AnswerCache {
 public:
  InlineCache(const core::Clock& clock, core::Random& random, size_t max_entries)
      : clock_(clock), book_(Options(max_entries), embedder_, clock, random) {}

  std::string QuestionId(const core::Request& request) const override {
    return cache::ScopeKey(cache::DescribeScope(request)) + Question(request);
  }
  core::Task<std::optional<core::CacheHit>> Lookup(core::Loop&, const core::Request& request,
                                                   core::CacheQuery query, SteadyTime) override {
    co_return book_.Find(cache::DescribeScope(request), Question(request), query,
                         [] { return false; });
  }
  void Store(const core::Request& request, core::NewEntry entry) override {
    book_.Insert(cache::DescribeScope(request), Question(request), std::move(entry),
                 clock_.WallNow());
  }

 private:
  static cache::SemanticCacheOptions Options(size_t max_entries) {
    cache::SemanticCacheOptions options;
    options.max_entries = max_entries;
    options.flat_limit = 1 << 24;  // far more stores than lookups here
    return options;
  }
  static const std::string& Question(const core::Request& request) {
    return std::get<core::Text>(request.messages.back().parts.front()).text;
  }

  const core::Clock& clock_;
  const cache::HashEmbedder embedder_{128};
  cache::AnswerBook book_;
};

class NoObserver final : public resilience::Observer {
 public:
  void OnAttempt(const core::Request&, const core::AttemptRecord&) override {}
  void OnRetry(const core::Request&, const core::AttemptRecord&, Duration) override {}
  void OnExpired(const core::Request&, Duration) override {}
};

class World {
 public:
  explicit World(const Scenario& scenario)
      : scenario_(scenario),
        random_(scenario.seed),
        start_(loop_.Now()),
        cache_(loop_.clock(), random_, scenario.questions) {
    MakeRoute();
    std::vector<resilience::TargetOptions> options;
    for (const resilience::Step& step : route_.chain) options.push_back({.name = step.target});
    targets_ = std::make_unique<resilience::TargetSet>(std::move(options), loop_.clock(), random_,
                                                       nullptr);
    routes_["default"] = std::make_unique<resilience::LiveRoute>(route_, *targets_, loop_.clock());
    resilience::Engine::Providers providers;
    for (int i = 0; i < scenario.targets; ++i) {
      providers.emplace_back(route_.chain[i].target, MakeProvider(i, i));
      providers_.push_back(static_cast<CalendarProvider*>(providers.back().second.get()));
    }
    direct_ = MakeProvider(0, 100);
    retried_ = MakeProvider(0, 200);
    engine_ = std::make_unique<resilience::Engine>(loop_, random_, admission_, routes_, &cache_,
                                                   std::move(providers), observer_);
    week_.rungs_by_hour.resize(Hours());
    week_.direct_lost_by_hour.resize(Hours());
  }

  Week Run() {
    core::Spawn(Arrive());
    loop_.Run();
    Settle();
    return std::move(week_);
  }

 private:
  size_t Hours() const {
    return static_cast<size_t>(std::ceil(core::ToSeconds(scenario_.length) / 3600)) + 1;
  }
  size_t HourNow() const {
    return static_cast<size_t>(core::ToSeconds(loop_.Now() - start_) / 3600);
  }

  void MakeRoute() {
    constexpr resilience::Price kPrices[] = {
        {3, 0.3, 15}, {2.5, 1.25, 10}, {0.8, 0.08, 4}, {0, 0, 0}};
    route_.name = "default";
    route_.timeout = scenario_.timeout;
    for (int i = 0; i < scenario_.targets; ++i) {
      resilience::Step step;
      step.target = {"provider" + std::to_string(i), "model"};
      step.price = kPrices[i % 4];
      route_.chain.push_back(step);
    }
  }

  std::unique_ptr<CalendarProvider> MakeProvider(int target, uint64_t draw_seed) {
    std::vector<Episode> episodes;
    if (target == 0 && !scenario_.always_first.empty()) {
      episodes.push_back({start_, SteadyTime::max(), scenario_.always_first.front()});
    } else if (scenario_.down > 0) {
      episodes = MakeEpisodes(scenario_.seed * 1000 + static_cast<uint64_t>(target), start_,
                              scenario_.length, scenario_.down, scenario_.mean_episode,
                              scenario_.troubles);
    }
    if (scenario_.all_down > Duration::zero()) {
      const SteadyTime begin = start_ + scenario_.all_down_after;
      episodes.insert(episodes.begin(), {begin, begin + scenario_.all_down, Trouble::kErrors});
    }
    return std::make_unique<CalendarProvider>(loop_, scenario_.seed * 7919 + draw_seed,
                                              std::move(episodes), scenario_.calls_per_second);
  }

  core::Task<void> Arrive() {
    const double mean = core::ToSeconds(scenario_.length) / static_cast<double>(scenario_.requests);
    for (uint64_t i = 0; i < scenario_.requests; ++i) {
      const Duration gap = core::FromSeconds(-mean * std::log(1 - random_.Uniform()));
      co_await core::Sleep(loop_, loop_.Now() + gap, {});
      const std::string question = DrawQuestion();
      core::Spawn(ServeByHoldfast(Ask(question)));
      core::Spawn(ServeDirect(Ask(question), *direct_, 0, week_.direct));
      core::Spawn(ServeDirect(Ask(question), *retried_, 3, week_.retries_only));
    }
  }

  // Zipf over the questions, and each of them in one of three wordings.
  std::string DrawQuestion() {
    const double n = static_cast<double>(scenario_.questions);
    const auto id = static_cast<uint64_t>(std::pow(n + 1, random_.Uniform())) - 1;
    static constexpr const char* kWordings[] = {"How do I %?", "how do I %", "How can I %?"};
    std::string text = kWordings[static_cast<int>(random_.Uniform() * 3)];
    return text.replace(text.find('%'), 1, Errand(id));
  }

  // Different ids want different things.
  static std::string Errand(uint64_t id) {
    static constexpr const char* kVerbs[] = {"cancel", "renew",    "export",   "share",
                                             "rename", "merge",    "schedule", "archive",
                                             "verify", "duplicate"};
    static constexpr const char* kThings[] = {
        "invoice",  "subscription", "password", "calendar", "warehouse", "shipment", "playlist",
        "firewall", "certificate",  "budget",   "payroll",  "webhook",   "contract", "dashboard",
        "mailbox",  "spreadsheet",  "passport", "voucher",  "mortgage",  "ticket"};
    static constexpr const char* kPlaces[] = {"Lisbon", "Nairobi", "Oslo",   "Quito",  "Tokyo",
                                              "Warsaw", "Zagreb",  "Dublin", "Havana", "Jakarta",
                                              "Lima",   "Manila",  "Prague", "Riga",   "Sofia"};
    return std::string(kVerbs[id % 10]) + " the " + kThings[id / 10 % 20] + " of the office in " +
           kPlaces[id / 200 % 15];
  }

  core::Request Ask(const std::string& question) const {
    core::Request request;
    request.tenant = "default";
    request.route = "default";
    request.messages.push_back({core::Role::kUser, {core::Text{question}}});
    return request;
  }

  core::Task<void> ServeByHoldfast(core::Request request) {
    resilience::CallContext context;
    context.call_id = std::to_string(++week_.holdfast.requests);
    context.arrival = loop_.Now();
    context.deadline = loop_.Now() + scenario_.timeout;
    const SteadyTime deadline = *context.deadline;
    const size_t hour = HourNow();
    const bool any_up = std::ranges::any_of(providers_, [](const auto* p) { return p->up(); });
    core::Task<core::Result> run = engine_->Run(std::move(request), std::move(context));
    const core::Result result = co_await std::move(run);
    Tally& tally = week_.holdfast;
    tally.cost_usd += result.cost_usd;
    if (loop_.Now() > deadline) ++tally.late;
    if (!result.ok()) {
      ++tally.lost;
      ++tally.errors[std::get<core::Error>(result.value).reason];
      co_return;
    }
    const auto& answer = std::get<core::Answer>(result.value);
    const auto rung = static_cast<size_t>(answer.degradation);
    ++tally.by_rung[rung];
    ++week_.rungs_by_hour[std::min(hour, week_.rungs_by_hour.size() - 1)][rung];
    if (answer.degradation == core::Degradation::kPartial && !answer.served_by) {
      ++tally.notice_alone;
      if (any_up) ++tally.notice_while_up;
    }
    if (answer.degradation == core::Degradation::kNone) NoteFirstAnswers();
  }

  core::Task<void> ServeDirect(core::Request request, CalendarProvider& provider, int retries,
                               Tally& tally) {
    ++tally.requests;
    const size_t hour = HourNow();
    const SteadyTime deadline = loop_.Now() + scenario_.timeout;
    for (int attempt = 0;; ++attempt) {
      resilience::AttemptLimits limits;
      limits.timeouts.connect = limits.timeouts.first_token = limits.timeouts.idle =
          scenario_.timeout;
      limits.first_content_by = limits.end_by = deadline;
      core::Task<resilience::AttemptEnd> run =
          resilience::RunAttempt(loop_, provider, request, {}, limits, {});
      const resilience::AttemptEnd end = co_await std::move(run);
      if (end.outcome.kind == core::OutcomeKind::kComplete) {
        ++tally.by_rung[0];
        co_return;
      }
      const SteadyTime next = loop_.Now() + resilience::FullJitter({}, attempt, random_);
      if (attempt >= retries || next >= deadline) break;
      co_await core::Sleep(loop_, next, {});
    }
    ++tally.lost;
    if (&tally == &week_.direct) {
      ++week_.direct_lost_by_hour[std::min(hour, week_.direct_lost_by_hour.size() - 1)];
    }
  }

  // The first provider has answered: how long after its last episode was that?
  void NoteFirstAnswers() {
    while (next_episode_ < first_episodes_.size() &&
           first_episodes_[next_episode_].end <= loop_.Now()) {
      recoveries_.push_back(loop_.Now() - first_episodes_[next_episode_].end);
      ++next_episode_;
    }
  }

  void Settle() {
    for (const CalendarProvider* provider : providers_) {
      week_.holdfast.upstream += provider->calls();
      week_.holdfast.too_soon += provider->too_soon();
    }
    week_.direct.upstream = direct_->calls();
    week_.retries_only.upstream = retried_->calls();
    std::ranges::sort(recoveries_);
    if (!recoveries_.empty()) {
      week_.holdfast.recovery_median = recoveries_[recoveries_.size() / 2];
      week_.holdfast.recovery_longest = recoveries_.back();
    }
  }

  const Scenario scenario_;
  testing::FakeLoop loop_;
  core::SeededRandom random_;
  const SteadyTime start_;
  InlineCache cache_;
  NoObserver observer_;
  resilience::Route route_;
  resilience::Admission admission_{{.max_in_progress = 100'000, .max_queue = 0}};
  std::unique_ptr<resilience::TargetSet> targets_;
  resilience::Engine::Routes routes_;
  std::vector<CalendarProvider*> providers_;  // owned by the engine
  std::unique_ptr<CalendarProvider> direct_;
  std::unique_ptr<CalendarProvider> retried_;
  std::unique_ptr<resilience::Engine> engine_;
  std::vector<Episode> first_episodes_ = MakeFirstEpisodes();
  size_t next_episode_ = 0;
  std::vector<Duration> recoveries_;
  Week week_;

  std::vector<Episode> MakeFirstEpisodes() const {
    if (!scenario_.always_first.empty() || scenario_.down == 0) return {};
    return MakeEpisodes(scenario_.seed * 1000, start_, scenario_.length, scenario_.down,
                        scenario_.mean_episode, scenario_.troubles);
  }
};

}  // namespace

Week Simulate(const Scenario& scenario) { return World(scenario).Run(); }

}  // namespace holdfast::simulation
