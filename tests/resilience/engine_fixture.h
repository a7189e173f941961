#pragma once

// An engine on virtual time with scripted providers and a scripted cache.

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "resilience/engine.h"
#include "tests/fakes/fake_loop.h"
#include "tests/fakes/scripted_provider.h"
#include "tests/fakes/scripted_random.h"

namespace holdfast::resilience {

using namespace std::chrono_literals;  // NOLINT: test code
using core::Degradation;
using core::Duration;
using core::ErrorCode;
using core::OutcomeKind;
using testing::Answers;
using testing::AttemptScript;
using testing::Fails;
using testing::Hangs;
using testing::Script;
using testing::ScriptedProvider;

class FakeCache final : public core::AnswerCache {
 public:
  std::string QuestionId(const core::Request& request) const override {
    return request.tenant + "/" + std::get<core::Text>(request.messages.back().parts.front()).text;
  }
  core::Task<std::optional<core::CacheHit>> Lookup(core::Loop& loop, const core::Request&,
                                                   core::CacheQuery query,
                                                   core::SteadyTime deadline) override {
    queries.push_back(query);
    looked_up_at.push_back(loop.Now());
    deadlines.push_back(deadline);
    co_return hit;
  }
  void Store(const core::Request&, core::NewEntry entry) override {
    stored.push_back(std::move(entry));
  }

  std::optional<core::CacheHit> hit;
  std::vector<core::CacheQuery> queries;
  std::vector<core::SteadyTime> looked_up_at;
  std::vector<core::SteadyTime> deadlines;
  std::vector<core::NewEntry> stored;
};

class NotingObserver final : public Observer {
 public:
  void OnAttempt(const core::Request&, const core::AttemptRecord& record) override {
    records.push_back(record);
  }
  void OnRetry(const core::Request&, const core::AttemptRecord&, Duration delay) override {
    delays.push_back(delay);
  }
  void OnExpired(const core::Request&, Duration late) override { expired.push_back(late); }

  std::vector<core::AttemptRecord> records;
  std::vector<Duration> delays;
  std::vector<Duration> expired;
};

// A caller that reads a stream as the documentation says: it appends, and forgets at a reset.
class NotingStream final : public core::AnswerStream {
 public:
  explicit NotingStream(core::Loop& loop) : loop_(loop) {}

  void OnStarted(const core::StreamStart& start) override {
    Note("started", start);
    started_at = loop_.Now();
  }
  void OnText(std::string_view piece) override {
    text += piece;
    events.push_back("\"" + std::string(piece) + "\"");
  }
  void OnToolCall(int index, std::string_view id, std::string_view name,
                  std::string_view arguments) override {
    if (tool_calls.size() <= static_cast<size_t>(index)) tool_calls.resize(index + 1);
    if (!id.empty()) tool_calls[index].id = id;
    if (!name.empty()) tool_calls[index].name = name;
    tool_calls[index].arguments += arguments;
    events.push_back("tool " + std::string(arguments));
  }
  void OnContinued(const core::StreamStart& start) override { Note("continued", start); }
  void OnReset(const core::StreamStart& start) override {
    text.clear();
    tool_calls.clear();
    Note("reset", start);
  }
  core::Valve& valve() override { return valve_; }

  std::vector<std::string> events;  // "started p0 none", "\"Hello\"", "continued p1 fallback_model"
  std::string text;
  std::vector<core::ToolCall> tool_calls;
  core::SteadyTime started_at{};

 private:
  void Note(std::string what, const core::StreamStart& start) {
    what += " " + (start.served_by ? start.served_by->provider : "nobody");
    events.push_back(what + " " + core::Name(start.degradation));
  }

  core::Loop& loop_;
  core::Valve valve_;
};

class EngineTest : public ::testing::Test {
 protected:
  // A chain of n targets p0/m0, p1/m1, ... on the route "default".
  void Build(int n) {
    if (route.chain.empty()) {
      for (int i = 0; i < n; ++i) route.chain.push_back(StepOf(i));
    }
    std::vector<core::TargetName> names;
    for (const Step& step : route.chain) names.push_back(step.target);
    if (route.partial.target) names.push_back(route.partial.target->target);
    std::vector<TargetOptions> options;
    for (const core::TargetName& name : names) {
      TargetOptions target = target_options;
      target.name = name;
      options.push_back(target);
    }
    route.name = "default";
    targets = std::make_unique<TargetSet>(std::move(options), loop.clock(), random, nullptr);
    routes["default"] = std::make_unique<LiveRoute>(route, *targets, loop.clock());
    Engine::Providers made;
    for (const core::TargetName& name : names) {
      auto provider = std::make_unique<ScriptedProvider>(loop);
      providers.push_back(provider.get());
      made.emplace_back(name, std::move(provider));
    }
    admission = std::make_unique<Admission>(admission_options);
    engine = std::make_unique<Engine>(loop, random, *admission, routes, &cache, std::move(made),
                                      observer);
  }

  static Step StepOf(int i) {
    Step step;
    step.target = {"p" + std::to_string(i), "m" + std::to_string(i)};
    step.price = Price{.input = 1, .cached_input = 0.1, .output = 2};
    return step;
  }

  static core::Request Ask(std::string question = "Why is the sky blue?") {
    core::Request request;
    request.request_id = "r1";
    request.tenant = "default";
    request.route = "default";
    request.messages.push_back({core::Role::kUser, {core::Text{std::move(question)}}});
    return request;
  }

  CallContext Context(std::optional<Duration> deadline = std::nullopt) {
    CallContext context;
    context.call_id = "call";
    context.arrival = loop.Now();
    if (deadline) context.deadline = loop.Now() + *deadline;
    context.cancelled = cancel.get_token();
    context.hurry = hurry.get_token();
    return context;
  }

  core::Result Run(core::Request request, std::optional<Duration> deadline = std::nullopt) {
    const core::SteadyTime start = loop.Now();
    core::Result result = loop.Await(engine->Run(std::move(request), Context(deadline)));
    took = loop.Now() - start;
    return result;
  }
  core::Result Run(std::optional<Duration> deadline = std::nullopt) { return Run(Ask(), deadline); }

  // The same as a stream; what its caller has in the end is checked against the result.
  core::Result RunStream(core::Request request, std::optional<Duration> deadline = std::nullopt) {
    const core::SteadyTime start = loop.Now();
    stream = std::make_unique<NotingStream>(loop);
    core::Result result =
        loop.Await(engine->Run(std::move(request), Context(deadline), std::nullopt, stream.get()));
    took = loop.Now() - start;
    if (result.ok()) {
      EXPECT_EQ(stream->text, AnswerOf(result).text);
      EXPECT_EQ(stream->tool_calls.size(), AnswerOf(result).tool_calls.size());
      EXPECT_THAT(stream->events.front(), ::testing::StartsWith("started"));
    }
    return result;
  }
  core::Result RunStream() { return RunStream(Ask()); }

  Target& target(int i) { return *targets->all()[i]; }
  ScriptedProvider& provider(int i) { return *providers[i]; }
  size_t calls(int i) { return providers[i]->seen().size(); }
  Breaker& breaker(int i) { return target(i).breaker; }

  static const core::Answer& AnswerOf(const core::Result& result) {
    return std::get<core::Answer>(result.value);
  }
  static const core::Error& ErrorOf(const core::Result& result) {
    return std::get<core::Error>(result.value);
  }
  static std::vector<std::string> Outcomes(const core::Result& result) {
    std::vector<std::string> all;
    for (const core::AttemptRecord& record : result.attempts) {
      all.push_back((record.skipped ? "skipped:" : "") + record.outcome);
    }
    return all;
  }

  testing::FakeLoop loop;
  testing::ScriptedRandom random;
  Route route;
  TargetOptions target_options{.breaker = {.open_jitter = 0}};
  AdmissionOptions admission_options;
  FakeCache cache;
  NotingObserver observer;
  std::stop_source cancel;
  std::stop_source hurry;
  std::unique_ptr<TargetSet> targets;
  Engine::Routes routes;
  std::vector<ScriptedProvider*> providers;
  std::unique_ptr<Admission> admission;
  std::unique_ptr<Engine> engine;
  std::unique_ptr<NotingStream> stream;
  Duration took{};
};

}  // namespace holdfast::resilience
