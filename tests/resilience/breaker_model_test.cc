// The breaker against a reference model that is written from the rules and shares no code or
// structure with it: it keeps every sample, and every permit with what it knows of it. All times
// are whole buckets, so that bucketing cannot show.

#include <algorithm>
#include <cmath>
#include <map>
#include <string>
#include <vector>

#include "gtest/gtest.h"
#include "resilience/breaker.h"
#include "tests/fakes/fake_loop.h"
#include "tests/fakes/scripted_random.h"

namespace holdfast::resilience {
namespace {

using std::chrono::seconds;

constexpr int kForever = 1'000'000'000;

// Seconds throughout.
class Model {
 public:
  explicit Model(const BreakerOptions& o) : o_(o) {}

  struct Ticket {
    int generation;
    bool probe;
    int lease_end;
    bool slot = true;  // still holds it
  };

  int now = 0;
  std::string state = "closed";
  int generation = 0, step = 0, open_until = 0, late = 0, leaked = 0, events = 0, won = 0;
  std::map<int, Ticket> tickets;  // in flight, by the test's own number

  bool Acquire(int number, int latest_end) {
    if (state == "forced_open" || (state == "open" && now < open_until)) return false;
    if (state == "open") Go("half_open");
    if (state == "half_open" && Probes(now) + won >= o_.half_open_probes) return false;
    tickets[number] = {generation, state == "half_open", latest_end + 5};
    return true;
  }

  void Report(int number, char what, int retry_after) {
    const Ticket t = tickets.at(number);
    tickets.erase(number);
    if (what == 'L') ++leaked;
    if (t.generation != generation || (t.probe && now >= t.lease_end)) {
      if (what != 'L' && what != 'R') ++late;
      return;
    }
    if (what == 'L' || what == 'R' || what == 'N') return;
    if (t.probe) return ReportProbe(what, retry_after);
    samples_.push_back({now, what});
    if (state == "closed" && Trips(what)) {
      step = Step();
      OpenFor(what == 'F' ? retry_after : 0);
    }
  }

  void Force(bool open) {
    const std::string to = open ? "forced_open" : "forced_closed";
    if (state == to) return;
    Go(to);
    if (!open) Fresh();
  }

  void Reset() {
    Go("closed");
    Fresh();
    step = 0;
  }

  int Count(char what) const {
    return static_cast<int>(std::count_if(samples_.begin(), samples_.end(), [&](const Sample& s) {
      return s.what == what && now - s.at < Seconds(o_.window);
    }));
  }
  int Row() const {
    int row = 0, newest = -kForever;
    for (size_t i = samples_.size(); i-- > 0 && samples_[i].what != 'S';) {
      if (samples_[i].what != 'F') continue;
      const int gap = (newest == -kForever ? now : newest) - samples_[i].at;
      if (gap >= 2 * Seconds(o_.window)) break;
      newest = samples_[i].at;
      ++row;
    }
    return row;
  }
  int Step() const {
    return state == "closed" ? std::max(0, step - (now - closed_at_) / Seconds(o_.step_decay))
                             : step;
  }
  int Probes(int at) const {
    return static_cast<int>(std::count_if(tickets.begin(), tickets.end(), [&](const auto& t) {
      return t.second.probe && t.second.generation == generation && at < t.second.lease_end;
    }));
  }
  bool WouldAdmit(int at) const {
    if (state == "open") return at >= open_until;
    if (state == "half_open") return Probes(at) + won < o_.half_open_probes;
    return state != "forced_open";
  }

 private:
  struct Sample {
    int at;
    char what;
  };
  static int Seconds(core::Duration d) { return static_cast<int>(d / seconds(1)); }

  bool Trips(char what) const {
    const int s = Count('S'), f = Count('F'), c = Count('C');
    if (what == 'F' && o_.consecutive_failures && Row() >= o_.consecutive_failures) return true;
    if (what != 'C' && o_.failure_rate > 0 && s + f >= o_.min_calls &&
        f * 100 >= std::lround(o_.failure_rate * 100) * (s + f)) {
      return true;
    }
    return o_.black_hole && s == 0 && f + c >= o_.black_hole;
  }
  void ReportProbe(char what, int retry_after) {
    if (what == 'S') {
      if (++won < o_.half_open_successes) return;
      Go("closed");
      return Fresh();
    }
    if (what == 'F') step = std::min(step + 1, TopStep());
    OpenFor(what == 'F' ? retry_after : 0);
  }
  int TopStep() const {
    int top = 0;
    while (Seconds(o_.open) << top < Seconds(o_.open_max)) ++top;
    return top;
  }
  void OpenFor(int retry_after) {
    const int planned = std::min(Seconds(o_.open) << step, Seconds(o_.open_max));
    Go("open");
    open_until = now + std::max(planned, std::min(retry_after, 300));
  }
  void Go(const std::string& to) {
    ++generation;
    won = 0;
    if (state != to) ++events;
    state = to;
  }
  void Fresh() {
    samples_.clear();
    closed_at_ = now;
  }

  const BreakerOptions o_;
  std::vector<Sample> samples_;
  int closed_at_ = 0;
};

class Pair {
 public:
  using Seen = std::map<std::string, int>;  // how often each kind of event came

  Pair(BreakerOptions options, uint64_t seed, Seen& seen)
      : seen_(seen),
        draws_(seed),
        model_(options),
        breaker_(options, clock_, unused_, [this](const auto& e) {
          EXPECT_GT(e.generation, last_generation_);
          ++seen_[std::string(Name(e.from)) + ">" + Name(e.to) + " " + e.reason];
          last_generation_ = e.generation;
          ++events_;
        }) {}

  void Run(int operations) {
    for (int i = 0; i < operations && !::testing::Test::HasFailure(); ++i) {
      const std::string did = DoOne();
      Compare(did + " as operation " + std::to_string(i));
    }
  }

 private:
  int Draw(int n) { return static_cast<int>(draws_.Uniform() * n); }

  std::string DoOne() {
    const int what = Draw(100);
    if (what < 38) return Acquire();
    if (what < 84) return Report();
    if (what < 98) return Advance();
    if (Draw(4) > 0) {
      breaker_.Reset();
      model_.Reset();
      return "reset";
    }
    const bool open = Draw(2) == 0;
    open ? breaker_.ForceOpen() : breaker_.ForceClosed();
    model_.Force(open);
    return open ? "force open" : "force closed";
  }
  std::string Acquire() {
    const int end = model_.now + Draw(40);
    auto permit = breaker_.Acquire(At(end));
    EXPECT_EQ(permit.has_value(), model_.Acquire(++number_, end));
    if (permit) permits_.emplace(number_, std::move(*permit));
    return "acquire";
  }
  std::string Report() {
    if (permits_.empty()) return "nothing";
    auto it = std::next(permits_.begin(), Draw(static_cast<int>(permits_.size())));
    const char what = "SSSSFFFFFFCCCNNRL"[Draw(17)];
    const int retry_after = Draw(3) == 0 ? Draw(400) - 20 : 0;
    Breaker::Permit permit = std::move(it->second);
    if (what == 'S') permit.Success();
    if (what == 'F' && retry_after != 0) permit.Failure(seconds(retry_after));
    if (what == 'F') permit.Failure();  // without effect if it has been reported just before
    if (what == 'C') permit.Censored();
    if (what == 'N') permit.Neutral();
    if (what == 'R') permit.Release();
    model_.Report(it->first, what, retry_after);
    permits_.erase(it);
    return std::string("report ") + what;
  }
  std::string Advance() {
    const int by = Draw(5) == 0 ? Draw(200) : Draw(10);
    clock_.Advance(seconds(by));
    model_.now += by;
    return "advance " + std::to_string(by);
  }
  core::SteadyTime At(int t) const { return clock_.kStart + seconds(t); }

  void Compare(const std::string& after) {
    SCOPED_TRACE("after " + after + " at " + std::to_string(model_.now) + " s");
    const BreakerSnapshot s = breaker_.Snapshot();
    EXPECT_EQ(Name(s.state), model_.state);
    EXPECT_EQ(static_cast<int>(s.generation), model_.generation);
    EXPECT_EQ(s.open_step, model_.Step());
    const int open_for = model_.state == "open" ? std::max(0, model_.open_until - model_.now) : 0;
    EXPECT_EQ(s.open_for, seconds(open_for));
    EXPECT_EQ(s.successes, model_.Count('S'));
    EXPECT_EQ(s.failures, model_.Count('F'));
    EXPECT_EQ(s.censored, model_.Count('C'));
    EXPECT_EQ(s.consecutive_failures, model_.Row());
    EXPECT_EQ(s.probes_in_flight, model_.Probes(model_.now));
    EXPECT_EQ(s.probe_successes, model_.won);
    EXPECT_EQ(static_cast<int>(s.late_results), model_.late);
    EXPECT_EQ(static_cast<int>(s.leaked), model_.leaked);
    EXPECT_EQ(events_, model_.events);
    const int later = model_.now + Draw(70);
    EXPECT_EQ(breaker_.WouldAdmit(At(later)), model_.WouldAdmit(later));
    const core::SteadyTime ready = breaker_.ReadyAt();
    if (model_.state == "forced_open") {
      EXPECT_EQ(ready, core::SteadyTime::max());
      return;
    }
    EXPECT_TRUE(breaker_.WouldAdmit(ready));
    EXPECT_GE(ready, clock_.Now());
    if (ready > clock_.Now()) {
      EXPECT_FALSE(breaker_.WouldAdmit(ready - core::Duration(1)));
    }
  }

  Seen& seen_;
  core::SeededRandom draws_;
  ::holdfast::testing::FakeClock clock_;
  ::holdfast::testing::ScriptedRandom unused_;
  Model model_;
  int events_ = 0;
  uint64_t last_generation_ = 0;
  Breaker breaker_;
  std::map<int, Breaker::Permit> permits_;
  int number_ = 0;
};

BreakerOptions RandomOptions(uint64_t seed) {
  core::SeededRandom random(seed * 7919 + 1);
  const auto draw = [&](int n) { return static_cast<int>(random.Uniform() * n); };
  BreakerOptions o;
  o.consecutive_failures = draw(6);
  o.failure_rate = draw(3) == 0 ? 0 : (1 + draw(100)) / 100.0;
  o.buckets = 1 + draw(20);
  o.window = seconds(o.buckets);
  if (draw(2) == 0) {
    o.buckets = 10;
    o.window = seconds(10);
  }
  o.buckets = static_cast<int>(o.window / seconds(1));  // one bucket a second
  o.min_calls = 1 + draw(12);
  o.black_hole = draw(8);
  o.open = seconds(1 + draw(60));
  o.open_max = o.open + seconds(draw(240));
  o.open_jitter = 0;
  o.half_open_probes = 1 + draw(5);
  o.half_open_successes = 1 + draw(o.half_open_probes);
  o.step_decay = seconds(1 + draw(120));
  return o;
}

TEST(BreakerModelTest, AgreesOverThousandsOfSeeds) {
  Pair::Seen seen;
  for (uint64_t seed = 0; seed < 3'000 && !::testing::Test::HasFailure(); ++seed) {
    SCOPED_TRACE("seed " + std::to_string(seed));
    Pair(RandomOptions(seed), seed, seen).Run(250);
  }
  for (const char* kind :
       {"closed>open consecutive_failures", "closed>open failure_rate", "closed>open black_hole",
        "open>half_open open_time_over", "half_open>closed probes_succeeded",
        "half_open>open probe_failed", "half_open>open probe_censored",
        "half_open>forced_open operator", "forced_closed>closed operator"}) {
    EXPECT_GT(seen[kind], 30) << kind;
  }
}

}  // namespace
}  // namespace holdfast::resilience
