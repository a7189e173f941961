#include "resilience/attempt.h"

#include <algorithm>
#include <utility>

namespace holdfast::resilience {
namespace {

using core::OutcomeKind;
using core::SteadyTime;

// After the finish reason only usage and the end of the stream can follow.
constexpr core::Duration kTrailerWait = std::chrono::seconds(1);

class TimedSink final : public core::AttemptSink, private core::Valve::Listener {
 public:
  TimedSink(core::Loop& loop, AttemptLimits limits, ContentListener* listener, bool commits,
            core::Valve* valve)
      : loop_(loop),
        limits_(std::move(limits)),
        listener_(listener),
        commits_(commits),
        valve_(valve) {
    end_.started = last_sign_ = loop_.Now();
    if (valve_ != nullptr) {
      valve_->Add(*this);
      if (!valve_->open()) paused_since_ = loop_.Now();
    }
    Arm();
  }
  ~TimedSink() override {
    if (valve_ != nullptr) valve_->Remove(*this);
    loop_.CancelTimer(timer_);
  }

  std::stop_token stop_token() const { return stop_.get_token(); }

  void Interrupt(OutcomeKind verdict) {
    if (verdict_) return;
    verdict_ = verdict;
    stop_.request_stop();
  }
  void Hurry() { Interrupt(end_.has_content() ? OutcomeKind::kOutOfTime : kShortened); }

  AttemptEnd Finish(core::Outcome outcome) {
    end_.outcome = std::move(outcome);
    end_.ended = loop_.Now();
    if (end_.outcome.kind == OutcomeKind::kCancelled && verdict_) {
      end_.outcome.kind = *verdict_;
      end_.outcome.error = TextOf(*verdict_);
    }
    if (end_.outcome.kind == OutcomeKind::kComplete) SettleComplete();
    return std::move(end_);
  }

  void OnStart() override {
    end_.started = last_sign_ = loop_.Now();
    Arm();
  }
  void OnConnected() override {
    connected_ = true;
    Arm();
  }
  void OnText(std::string_view text) override {
    if (text.empty()) return;
    const bool first = !end_.has_content();
    end_.text += text;
    SignOfContent(first);
    if (listener_ != nullptr) listener_->OnText(text);
  }
  void OnToolCall(int index, std::string_view id, std::string_view name,
                  std::string_view arguments) override {
    const bool first = !end_.has_content();
    if (end_.tool_calls.size() <= static_cast<size_t>(index)) end_.tool_calls.resize(index + 1);
    core::ToolCall& call = end_.tool_calls[index];
    if (!id.empty()) call.id = id;
    if (!name.empty()) call.name = name;
    call.arguments += arguments;
    SignOfContent(first);
    if (listener_ != nullptr) listener_->OnToolCall(index, id, name, arguments);
  }
  void OnReasoning(size_t bytes) override {
    end_.reasoning_bytes += bytes;
    Sign(!any_sign_);
  }
  void OnUsage(const core::Usage& usage) override {
    end_.usage = usage;
    end_.usage_told = true;
  }
  void OnFinish(core::FinishReason reason) override {
    end_.finish_reason = reason;
    finished_at_ = loop_.Now();
    Arm();
  }

 private:
  static constexpr OutcomeKind kShortened = OutcomeKind::kTimeoutShortened;

  struct Limit {
    SteadyTime at = SteadyTime::max();
    OutcomeKind verdict = OutcomeKind::kTimeout;

    // The earlier one; of two at the same time the one that was there first.
    void Tighten(SteadyTime other, OutcomeKind other_verdict) {
      if (other < at) *this = {other, other_verdict};
    }
  };

  Limit Next() const {
    Limit limit;
    if (finished_at_) {
      limit.Tighten(core::SaturatingAdd(*finished_at_, kTrailerWait), OutcomeKind::kComplete);
      limit.Tighten(limits_.end_by, OutcomeKind::kComplete);
      return limit;
    }
    const AttemptTimeouts& timeouts = limits_.timeouts;
    const bool content = end_.has_content();
    if (paused_since_) {
      limit.Tighten(core::SaturatingAdd(*paused_since_, kMaxPause), OutcomeKind::kPaused);
      limit.Tighten(limits_.end_by, content ? OutcomeKind::kOutOfTime : kShortened);
      return limit;
    }
    if (any_sign_) {
      limit.Tighten(core::SaturatingAdd(last_sign_, timeouts.idle), OutcomeKind::kTimeout);
    } else {
      limit.Tighten(After(timeouts.first_token), OutcomeKind::kTimeout);
      if (!connected_) limit.Tighten(After(timeouts.connect), OutcomeKind::kTimeout);
    }
    if (timeouts.attempt && !(content && commits_)) {
      limit.Tighten(After(*timeouts.attempt),
                    content ? OutcomeKind::kOutOfTime : OutcomeKind::kTimeout);
    }
    if (content) {
      limit.Tighten(limits_.end_by, OutcomeKind::kOutOfTime);
    } else {
      limit.Tighten(limits_.first_content_by, kShortened);
    }
    return limit;
  }

  SteadyTime After(core::Duration d) const {
    return core::SaturatingAdd(end_.started + stood_still_, d);
  }

  void OnValve(bool open) override {
    const SteadyTime now = loop_.Now();
    if (open && paused_since_) {
      stood_still_ += now - *paused_since_;
      last_sign_ += now - *paused_since_;
      paused_since_.reset();
    } else if (!open) {
      paused_since_ = now;
    }
    Arm();
  }

  void SignOfContent(bool first) {
    Sign(first);
    if (first) end_.first_content_after = last_sign_ - end_.started;
  }

  // Content or reasoning has come. Only the first of a kind changes which limits apply; later ones
  // only move the idle limit on, which the timer finds out when it fires.
  void Sign(bool rearm) {
    last_sign_ = loop_.Now();
    any_sign_ = true;
    if (rearm) Arm();
  }

  void Arm() {
    loop_.CancelTimer(timer_);
    timer_ = loop_.CallAt(Next().at, [this] { OnTimer(); });
  }

  void OnTimer() {
    const Limit limit = Next();
    if (loop_.Now() < limit.at) {
      Arm();
    } else {
      Interrupt(limit.verdict);
    }
  }

  static const char* TextOf(OutcomeKind verdict) {
    switch (verdict) {
      case OutcomeKind::kTimeout:
        return "no connection, no first token or no further token in time";
      case kShortened:
        return "no first token in the time that could be given";
      case OutcomeKind::kPaused:
        return "the caller did not read for too long";
      case OutcomeKind::kOutOfTime:
        return "the answer was under way when its time ran out";
      default:
        return "";
    }
  }

  void SettleComplete() {
    using core::FinishReason;
    if (end_.finish_reason == FinishReason::kContentFilter ||
        end_.finish_reason == FinishReason::kRefusal) {
      end_.outcome.kind = OutcomeKind::kRefusal;
    } else if (!end_.has_content()) {
      end_.outcome.kind = OutcomeKind::kMalformed;
      end_.outcome.error = "the answer is empty";
    }
  }

  core::Loop& loop_;
  const AttemptLimits limits_;
  ContentListener* const listener_;
  const bool commits_;
  core::Valve* const valve_;
  std::stop_source stop_;
  std::optional<OutcomeKind> verdict_;
  core::TimerId timer_ = 0;
  bool connected_ = false;
  bool any_sign_ = false;
  SteadyTime last_sign_;
  std::optional<SteadyTime> paused_since_;
  core::Duration stood_still_{};
  std::optional<SteadyTime> finished_at_;
  AttemptEnd end_;
};

}  // namespace

core::Task<AttemptEnd> RunAttempt(core::Loop& loop, core::Provider& provider,
                                  const core::Request& request, core::Attempt attempt,
                                  AttemptLimits limits, AttemptWiring wiring) {
  TimedSink sink(loop, std::move(limits), wiring.listener, wiring.commits, attempt.valve);
  std::stop_callback on_cancel(wiring.cancelled, [&] { sink.Interrupt(OutcomeKind::kCancelled); });
  std::stop_callback on_hurry(wiring.hurry, [&] { sink.Hurry(); });
  std::stop_callback on_beaten(wiring.beaten, [&] { sink.Interrupt(OutcomeKind::kBeaten); });
  attempt.stop = sink.stop_token();
  core::Outcome outcome = co_await provider.Stream(request, attempt, sink);
  co_return sink.Finish(std::move(outcome));
}

}  // namespace holdfast::resilience
