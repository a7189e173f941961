// SingleFlight from several threads: every waiter gets the answer, the lead or its own end.

#include "resilience/single_flight.h"

#include <gtest/gtest.h>

#include <atomic>
#include <thread>
#include <vector>

#include "tests/fakes/fake_loop.h"

namespace holdfast::resilience {
namespace {

using namespace std::chrono_literals;  // NOLINT: test code

struct Counts {
  std::atomic<int> led = 0;
  std::atomic<int> landed = 0;
  std::atomic<int> ended = 0;
  std::atomic<int> leading = 0;
};

// Of each call, by its number: every third leader shares, the others end without an answer.
core::Task<void> Fly(core::Loop& loop, SingleFlight& flights, int number, Counts& counts) {
  SingleFlight::Boarding boarding =
      co_await flights.Board(loop, "key", loop.Now() + 1h, std::stop_token());
  if (boarding.lead) {
    ++counts.led;
    EXPECT_EQ(++counts.leading, 1);
    co_await core::Sleep(loop, loop.Now() + 1ms, std::stop_token());
    --counts.leading;
    if (number % 3 == 0) boarding.lead->Land({});
    boarding.lead.reset();
  } else if (boarding.landed) {
    ++counts.landed;
  }
  ++counts.ended;
}

TEST(SingleFlightTest, ManyLoopsHaveOneLeaderAtATimeAndNobodyIsForgotten) {
  constexpr int kLoops = 4;
  constexpr int kCalls = 500;
  SingleFlight flights;
  Counts counts;
  std::vector<std::unique_ptr<testing::FakeLoop>> loops;
  for (int i = 0; i < kLoops; ++i) loops.push_back(std::make_unique<testing::FakeLoop>());
  std::vector<std::thread> threads;
  for (int i = 0; i < kLoops; ++i) {
    threads.emplace_back([&, i] {
      testing::FakeLoop& loop = *loops[static_cast<size_t>(i)];
      loop.RunReady();
      for (int call = 0; call < kCalls; ++call) {
        core::Spawn(Fly(loop, flights, i + call, counts));
        loop.Advance(100us);
      }
      // Time moves a little at a time, so that nobody's patience runs out for want of a leader.
      while (counts.ended < kLoops * kCalls) {
        loop.Advance(100us);
        std::this_thread::yield();
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(counts.ended, kLoops * kCalls);
  EXPECT_EQ(counts.led + counts.landed, kLoops * kCalls);
  EXPECT_GT(counts.landed, 0);
  EXPECT_GT(counts.led, 1);
}

TEST(SingleFlightTest, TheKeyTellsApartWhatTheModelIsTold) {
  core::Request a;
  core::Request b;
  EXPECT_EQ(FlightKey("q", a), FlightKey("q", b));
  EXPECT_NE(FlightKey("q", a), FlightKey("r", b));
  a.stop = {"x", "y"};
  b.stop = {"x\n1:y"};
  EXPECT_NE(FlightKey("q", a), FlightKey("q", b));
  a = b = {};
  a.max_output_tokens = 1;
  b.seed = 1;
  EXPECT_NE(FlightKey("q", a), FlightKey("q", b));
}

}  // namespace
}  // namespace holdfast::resilience
