#pragma once

// A core::Provider whose attempts follow a script in virtual time, and a log of what was asked of
// it. For policy tests on FakeLoop; used on the test's thread.

#include <deque>
#include <functional>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "core/loop.h"
#include "core/provider.h"
#include "core/wait.h"

namespace holdfast::testing {

// What one attempt does: events at times after the one before, then its outcome.
struct AttemptScript {
  struct Event {
    core::Duration after{};
    std::function<void(core::AttemptSink&)> fire;
  };
  std::vector<Event> events;
  core::Duration end_after{};  // after the last event
  bool hangs = false;          // never ends by itself
  core::Outcome outcome;

  AttemptScript Connect(core::Duration after = {}) && {
    return std::move(*this).Add(after, [](core::AttemptSink& s) { s.OnConnected(); });
  }
  AttemptScript Say(std::string text, core::Duration after = {}) && {
    return std::move(*this).Add(after,
                                [text = std::move(text)](core::AttemptSink& s) { s.OnText(text); });
  }
  AttemptScript Think(core::Duration after = {}) && {
    return std::move(*this).Add(after, [](core::AttemptSink& s) { s.OnReasoning(30); });
  }
  AttemptScript Call(std::string name, std::string arguments, core::Duration after = {}) && {
    return std::move(*this).Add(after, [name, arguments](core::AttemptSink& s) {
      s.OnToolCall(0, "call_1", name, arguments);
    });
  }
  AttemptScript Use(core::Usage usage) && {
    return std::move(*this).Add({}, [usage](core::AttemptSink& s) { s.OnUsage(usage); });
  }
  AttemptScript Done(core::FinishReason reason = core::FinishReason::kStop,
                     core::Duration after = {}) && {
    outcome.kind = core::OutcomeKind::kComplete;
    outcome.http_status = 200;
    return std::move(*this).Add(after, [reason](core::AttemptSink& s) { s.OnFinish(reason); });
  }
  AttemptScript End(core::OutcomeKind kind, core::Duration after = {}) && {
    outcome.kind = kind;
    end_after = after;
    return std::move(*this);
  }
  AttemptScript Hang() && {
    hangs = true;
    return std::move(*this);
  }

 private:
  AttemptScript Add(core::Duration after, std::function<void(core::AttemptSink&)> fire) && {
    events.push_back({after, std::move(fire)});
    return std::move(*this);
  }
};

inline AttemptScript Script() { return AttemptScript().Connect(); }
inline AttemptScript Answers(std::string text, core::Duration after = {}) {
  return Script().Say(std::move(text), after).Use({.input_tokens = 10, .output_tokens = 5}).Done();
}
inline AttemptScript Fails(core::OutcomeKind kind, core::Duration after = {}) {
  return Script().End(kind, after);
}
inline AttemptScript Fails(core::Outcome outcome, core::Duration after = {}) {
  AttemptScript script = Script().End(outcome.kind, after);
  script.outcome = std::move(outcome);
  return script;
}
inline AttemptScript Hangs() { return Script().Hang(); }

class ScriptedProvider final : public core::Provider {
 public:
  struct Seen {
    core::SteadyTime at;
    core::SteadyTime ended;
    std::string idempotency_key;
    int number;
    std::string question;
    std::string prefix;
  };

  explicit ScriptedProvider(core::Loop& loop) : loop_(loop) {}

  // The next attempt; when all are used up, `otherwise` is repeated.
  void Then(AttemptScript script) { scripts_.push_back(std::move(script)); }
  void Otherwise(AttemptScript script) { otherwise_ = std::move(script); }
  void CanContinue() { continues_ = true; }
  void CannotExpress(std::string why) { inexpressible_ = std::move(why); }
  const std::vector<Seen>& seen() const { return seen_; }
  // When a Retry-After was told, and until when nobody may come back.
  const std::vector<std::pair<core::SteadyTime, core::SteadyTime>>& told() const { return told_; }

  std::optional<std::string> Inexpressible(const core::Request&) const override {
    return inexpressible_;
  }

  bool ContinuesPrefix() const override { return continues_; }

  core::Task<core::Outcome> Stream(const core::Request& request, const core::Attempt& attempt,
                                   core::AttemptSink& sink) override {
    const size_t mine = seen_.size();
    const auto* text = std::get_if<core::Text>(&request.messages.back().parts.front());
    seen_.push_back({loop_.Now(),
                     {},
                     attempt.idempotency_key,
                     attempt.number,
                     text == nullptr ? "" : text->text,
                     attempt.prefix});
    const AttemptScript script = NextScript();
    core::Outcome cancelled;
    cancelled.kind = core::OutcomeKind::kCancelled;
    for (const AttemptScript::Event& event : script.events) {
      if (event.after > core::Duration::zero()) {
        const bool slept = co_await core::Sleep(loop_, loop_.Now() + event.after, attempt.stop);
        if (!slept) {
          seen_[mine].ended = loop_.Now();
          co_return cancelled;
        }
      }
      event.fire(sink);
    }
    const core::SteadyTime end =
        script.hangs ? core::SteadyTime::max() : loop_.Now() + script.end_after;
    const bool finished = co_await core::Sleep(loop_, end, attempt.stop);
    seen_[mine].ended = loop_.Now();
    if (finished && script.outcome.retry_after) {
      told_.emplace_back(loop_.Now(), loop_.Now() + *script.outcome.retry_after);
    }
    co_return finished ? script.outcome : cancelled;
  }

 private:
  AttemptScript NextScript() {
    if (scripts_.empty()) return otherwise_;
    AttemptScript script = std::move(scripts_.front());
    scripts_.pop_front();
    return script;
  }

  core::Loop& loop_;
  std::deque<AttemptScript> scripts_;
  AttemptScript otherwise_ = Answers("an answer");
  std::optional<std::string> inexpressible_;
  bool continues_ = false;
  std::vector<Seen> seen_;
  std::vector<std::pair<core::SteadyTime, core::SteadyTime>> told_;
};

}  // namespace holdfast::testing
