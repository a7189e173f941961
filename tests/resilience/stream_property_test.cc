// Over thousands of seeds on virtual time: what a caller of a stream has in the end is the whole
// answer, or marked partial, or a refusal, or no answer. All providers here know one answer; they
// cut it into pieces, break off anywhere, refuse prefixes or the whole, and go on exactly where a
// prefix ends.

#include <algorithm>
#include <memory>
#include <random>

#include "resilience/delivery.h"
#include "tests/resilience/engine_fixture.h"

namespace holdfast::resilience {
namespace {

class Dice {
 public:
  explicit Dice(uint64_t seed) : engine_(seed) {}
  int Below(int n) { return static_cast<int>(engine_() % static_cast<uint64_t>(n)); }
  bool Chance(int percent) { return Below(100) < percent; }
  Duration UpTo(Duration most) {
    return Duration(static_cast<int64_t>(engine_() % static_cast<uint64_t>(most.count() + 1)));
  }

 private:
  std::mt19937_64 engine_;
};

std::vector<std::string> Characters(const std::string& text) {
  std::vector<std::string> all;
  for (const char c : text) {
    if ((c & 0xC0) == 0x80) {
      all.back() += c;
    } else {
      all.emplace_back(1, c);
    }
  }
  return all;
}

std::string RandomAnswer(Dice& dice) {
  constexpr const char* kPieces[] = {
      "word", " ", " ", "\n\n", "\xC3\xA9", "\t", "\xE3\x80\x80", "\xF0\x9F\x98\x80", "a", "."};
  std::string text = "A";
  for (int i = dice.Below(20); i > 0; --i) text += kPieces[dice.Below(std::size(kPieces))];
  return text + "Z";
}

constexpr char kRefusal[] = "<no>";

class HonestProvider final : public core::Provider {
 public:
  HonestProvider(core::Loop& loop, Dice& dice, const std::string& answer, bool tool)
      : loop_(loop), dice_(dice), answer_(answer), tool_(tool) {}

  std::optional<std::string> Inexpressible(const core::Request&) const override { return {}; }
  bool ContinuesPrefix() const override { return true; }

  core::Task<core::Outcome> Stream(const core::Request&, const core::Attempt& attempt,
                                   core::AttemptSink& sink) override {
    EXPECT_TRUE(answer_.starts_with(attempt.prefix)) << "'" << attempt.prefix << "'";
    EXPECT_EQ(TrailingSpace(attempt.prefix), 0u);
    EXPECT_TRUE(attempt.prefix.empty() || !tool_);
    sink.OnStart();
    if (dice_.Chance(95)) sink.OnConnected();
    if (!attempt.prefix.empty() && dice_.Chance(20)) {
      co_return core::Outcome{.kind = OutcomeKind::kBadRequest, .http_status = 400};
    }
    if (dice_.Chance(8)) {
      if (dice_.Chance(50)) co_return core::Outcome{.kind = OutcomeKind::kRefusal};
      sink.OnText(kRefusal);
      sink.OnFinish(core::FinishReason::kRefusal);
      co_return core::Outcome{.kind = OutcomeKind::kComplete, .http_status = 200};
    }
    const std::vector<std::string> characters = Characters(answer_.substr(attempt.prefix.size()));
    const size_t stop =
        dice_.Chance(40)
            ? characters.size()
            : static_cast<size_t>(dice_.Below(static_cast<int>(characters.size()) + 1));
    for (size_t i = 0; i < stop;) {
      std::string piece;
      for (int n = 1 + dice_.Below(5); n > 0 && i < stop; --n) piece += characters[i++];
      const bool slept = co_await core::Sleep(loop_, loop_.Now() + Pause(), attempt.stop);
      if (!slept) co_return core::Outcome{.kind = OutcomeKind::kCancelled};
      tool_ ? sink.OnToolCall(0, "id", "f", piece) : sink.OnText(piece);
    }
    if (stop == characters.size() && dice_.Chance(80)) {
      sink.OnFinish(tool_ ? core::FinishReason::kToolCalls : core::FinishReason::kStop);
      co_return core::Outcome{.kind = OutcomeKind::kComplete, .http_status = 200};
    }
    if (dice_.Chance(20)) {
      co_await core::Sleep(loop_, core::SteadyTime::max(), attempt.stop);
      co_return core::Outcome{.kind = OutcomeKind::kCancelled};
    }
    constexpr OutcomeKind kFaults[] = {OutcomeKind::kCut, OutcomeKind::kServerError,
                                       OutcomeKind::kOverloaded, OutcomeKind::kRateLimited,
                                       OutcomeKind::kConnect};
    co_return core::Outcome{.kind = kFaults[dice_.Below(std::size(kFaults))]};
  }

 private:
  Duration Pause() { return dice_.Chance(10) ? dice_.UpTo(15s) : dice_.UpTo(300ms); }

  core::Loop& loop_;
  Dice& dice_;
  const std::string answer_;
  const bool tool_;
};

class StreamPropertyTest : public EngineTest {
 protected:
  void BuildHonest(Dice& dice, int n, const std::string& answer, bool tool) {
    Build(n);
    Engine::Providers made;
    for (const auto& live : targets->all()) {
      made.emplace_back(live->options.name,
                        std::make_unique<HonestProvider>(loop, dice, answer, tool));
      for (size_t i = 0; i < FirstTokenTimes::kEnough; ++i) live->first_token_times.Add(100ms);
    }
    engine = std::make_unique<Engine>(loop, random, *admission, routes, &cache, std::move(made),
                                      observer);
  }

  // Closes the valve now and then, for so long that it may matter.
  core::Task<void> ReadByFits(Dice& dice, core::Valve& valve, int fits) {
    for (; fits > 0; --fits) {
      co_await core::Sleep(loop, loop.Now() + dice.UpTo(3s), {});
      valve.Close();
      co_await core::Sleep(loop, loop.Now() + dice.UpTo(8s), {});
      valve.Open();
    }
  }
};

TEST_F(StreamPropertyTest, TheTextIsTheWholeAnswerOrPartialOrAnError) {
  size_t whole = 0;
  size_t continued = 0;
  size_t restarted = 0;
  size_t partial = 0;
  size_t errors = 0;
  size_t refused = 0;
  for (uint64_t seed = 1; seed <= 5000; ++seed) {
    SCOPED_TRACE(seed);
    Dice dice(seed);
    route = Route{};
    providers.clear();
    const bool tool = dice.Chance(15);
    const std::string answer = RandomAnswer(dice);
    if (dice.Chance(50))
      route.hedge = HedgeOptions{.delay = dice.UpTo(2s), .max = 1 + dice.Below(2)};
    if (dice.Chance(20)) route.worst_acceptable = Degradation::kStale;
    if (dice.Chance(50)) route.on_refusal = OnRefusal::kNext;
    BuildHonest(dice, 1 + dice.Below(4), answer, tool);
    core::Request request = Ask();
    request.stream.on_break = static_cast<core::OnBreak>(dice.Below(3));
    const bool cancels = dice.Chance(10);
    cancel = {};
    if (cancels) {
      loop.CallAt(loop.Now() + dice.UpTo(5s), [this] { cancel.request_stop(); });
    }
    stream = std::make_unique<NotingStream>(loop);
    core::Spawn(ReadByFits(dice, stream->valve(), dice.Below(3)));
    const core::Result result =
        loop.Await(engine->Run(request, Context(), std::nullopt, stream.get()));
    loop.Run();

    for (const std::string& event : stream->events) {
      continued += event.starts_with("continued") ? 1 : 0;
      restarted += event.starts_with("reset") ? 1 : 0;
    }
    if (!result.ok()) {
      ++errors;
      ASSERT_TRUE(cancels || route.worst_acceptable == Degradation::kStale);
      continue;
    }
    const core::Answer& got = AnswerOf(result);
    ASSERT_EQ(stream->text, got.text) << "the stream and its result agree";
    ASSERT_EQ(stream->tool_calls.size(), got.tool_calls.size());
    ASSERT_EQ(std::ranges::count_if(stream->events,
                                    [](const auto& e) { return e.starts_with("started"); }),
              1);
    if (got.finish_reason == core::FinishReason::kRefusal ||
        got.finish_reason == core::FinishReason::kContentFilter) {
      ++refused;
      std::string begun = got.text;
      if (begun.ends_with(kRefusal)) begun.resize(begun.size() - sizeof(kRefusal) + 1);
      ASSERT_TRUE(answer.starts_with(begun)) << got.text;
    } else if (got.degradation == Degradation::kPartial) {
      ++partial;
      ASSERT_TRUE(answer.starts_with(got.text) || got.text == route.partial.notice) << got.text;
      ASSERT_TRUE(got.tool_calls.empty());
    } else {
      ++whole;
      ASSERT_EQ(tool ? got.tool_calls.at(0).arguments : got.text, answer);
    }
    for (const auto& live : targets->all()) {
      ASSERT_EQ(live->limiter.in_flight(), 0);
      ASSERT_EQ(live->breaker.Snapshot().leaked, 0u);
    }
    ASSERT_EQ(routes["default"]->budget().in_flight(), 0);
    ASSERT_EQ(admission->in_progress(), 0);
    ASSERT_EQ(loop.timers(), 0u);
  }
  for (const size_t count : {whole, continued, restarted, partial, errors, refused}) {
    EXPECT_GT(count, 100u);
  }
}

}  // namespace
}  // namespace holdfast::resilience
