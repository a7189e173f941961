#include "resilience/admission.h"

#include <atomic>
#include <list>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "core/random.h"
#include "core/wait.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/fakes/fake_loop.h"

namespace holdfast::resilience {
namespace {

using core::Duration;
using ::holdfast::testing::FakeLoop;
using std::chrono::milliseconds;
using std::chrono::nanoseconds;
using std::chrono::seconds;
using ::testing::ElementsAre;
using Refusal = Admission::Refusal;

// One caller: enters when made, and holds what it got.
struct Caller {
  std::stop_source stop;
  std::optional<Admission::Entry> entry;

  bool admitted() const { return entry && entry->ticket; }
  bool waiting() const { return !entry; }
  std::optional<Refusal> refusal() const { return entry ? entry->refusal : std::nullopt; }
  void Leave() { entry->ticket.reset(); }
};

core::Task<void> EnterInto(Admission& admission, core::Loop& loop, Duration remaining,
                           Caller& caller, std::vector<Caller*>* order) {
  caller.entry = co_await admission.Enter(loop, remaining, caller.stop.get_token());
  if (order) order->push_back(&caller);
}

class AdmissionTest : public ::testing::Test {
 protected:
  void Make(int max_in_progress, int max_queue) {
    admission.emplace(AdmissionOptions{max_in_progress, max_queue});
  }
  Caller& Enter(Duration remaining = seconds(30)) {
    Caller& caller = callers.emplace_back();
    core::Spawn(EnterInto(*admission, loop, remaining, caller, &order));
    loop.RunReady();
    return caller;
  }
  void TearDown() override {
    if (admission) admission->Close();
    loop.Run();
  }

  std::optional<Admission> admission;
  FakeLoop loop;
  std::list<Caller> callers;
  std::vector<Caller*> order;  // in which they came out of Enter
};

TEST_F(AdmissionTest, DefaultsAreTheShippedOnes) {
  EXPECT_EQ(AdmissionOptions().max_in_progress, 10'000);
  EXPECT_EQ(AdmissionOptions().max_queue, 1'000);
}

TEST_F(AdmissionTest, AdmitsUpToTheCapAtOnce) {
  Make(3, 5);
  for (int i = 0; i < 3; ++i) {
    Caller& caller = Enter();
    EXPECT_TRUE(caller.admitted());
    EXPECT_EQ(caller.entry->waited, Duration::zero());
    EXPECT_EQ(admission->in_progress(), i + 1);
  }
  EXPECT_TRUE(Enter().waiting());
  EXPECT_EQ(admission->in_progress(), 3);
  EXPECT_EQ(admission->queued(), 1);
}

TEST_F(AdmissionTest, GivingUpAPlaceAdmitsTheLongestWaiter) {
  Make(1, 5);
  Caller& first = Enter();
  Caller& second = Enter();
  Caller& third = Enter();
  loop.Advance(milliseconds(100));
  first.Leave();
  loop.RunReady();
  EXPECT_TRUE(second.admitted());
  EXPECT_EQ(second.entry->waited, milliseconds(100));
  EXPECT_TRUE(third.waiting());
  EXPECT_EQ(admission->in_progress(), 1);
  loop.Advance(milliseconds(50));
  second.Leave();
  loop.RunReady();
  EXPECT_TRUE(third.admitted());
  EXPECT_EQ(third.entry->waited, milliseconds(150));
  third.Leave();
  EXPECT_EQ(admission->in_progress(), 0);
  EXPECT_EQ(admission->shed(), 0u);
}

TEST_F(AdmissionTest, NobodyOvertakesAWaiter) {
  Make(1, 5);
  Caller& first = Enter();
  Caller& second = Enter();
  first.Leave();  // the place is second's already, though it has not run yet
  Caller& third = callers.emplace_back();
  core::Spawn(EnterInto(*admission, loop, seconds(30), third, &order));
  EXPECT_TRUE(third.waiting());
  loop.RunReady();
  EXPECT_TRUE(second.admitted());
  EXPECT_TRUE(third.waiting());
}

TEST_F(AdmissionTest, FifoOverMany) {
  Make(2, 100);
  Caller& a = Enter();
  Caller& b = Enter();
  std::vector<Caller*> want = {&a, &b};
  for (int i = 0; i < 50; ++i) want.push_back(&Enter());
  for (size_t i = 0; i < want.size(); ++i) {
    ASSERT_TRUE(want[i]->admitted());
    want[i]->Leave();
    loop.RunReady();
  }
  EXPECT_EQ(order, want);
}

TEST_F(AdmissionTest, QueueBoundary) {
  Make(1, 2);
  Enter();
  EXPECT_TRUE(Enter().waiting());
  EXPECT_TRUE(Enter().waiting());
  EXPECT_EQ(admission->queued(), 2);
  EXPECT_EQ(admission->shed(), 0u);
  EXPECT_EQ(Enter().refusal(), Refusal::kQueueFull);
  EXPECT_EQ(admission->shed(), 1u);
  EXPECT_EQ(admission->queued(), 2);
}

TEST_F(AdmissionTest, NoQueueAtAll) {
  Make(1, 0);
  Caller& first = Enter();
  EXPECT_EQ(Enter().refusal(), Refusal::kQueueFull);
  first.Leave();
  EXPECT_TRUE(Enter().admitted());
}

TEST_F(AdmissionTest, WaitsAtMostATenthOfWhatRemainsAndAtMost2s) {
  const std::pair<Duration, Duration> kCases[] = {
      {seconds(5), milliseconds(500)}, {milliseconds(19'990), milliseconds(1'999)},
      {seconds(20), seconds(2)},       {milliseconds(20'010), seconds(2)},
      {Duration::max(), seconds(2)},   {nanoseconds(10), nanoseconds(1)},
  };
  for (const auto& [remaining, most] : kCases) {
    Make(1, 5);
    Caller& first = Enter();
    Caller& waiter = Enter(remaining);
    loop.Advance(most - nanoseconds(1));
    EXPECT_TRUE(waiter.waiting()) << remaining.count();
    loop.Advance(nanoseconds(1));
    EXPECT_EQ(waiter.refusal(), Refusal::kQueueTimeout) << remaining.count();
    EXPECT_EQ(waiter.entry->waited, most);
    EXPECT_EQ(admission->queued(), 0);
    EXPECT_EQ(admission->shed(), 1u);
    first.Leave();
    EXPECT_EQ(admission->in_progress(), 0);
  }
}

TEST_F(AdmissionTest, WithNothingLeftItAdmitsOrRefusesButNeverWaits) {
  for (Duration remaining : {Duration(9), Duration::zero(), Duration(-1), Duration::min()}) {
    Make(1, 5);
    Caller& first = Enter(remaining);
    EXPECT_TRUE(first.admitted());
    EXPECT_EQ(Enter(remaining).refusal(), Refusal::kQueueTimeout);
    EXPECT_EQ(admission->queued(), 0);
    EXPECT_EQ(admission->shed(), 1u);
    first.Leave();
  }
}

TEST_F(AdmissionTest, ATimeoutLeavesTheOthersInOrder) {
  Make(1, 5);
  Caller& first = Enter();
  Caller& hurried = Enter(seconds(1));
  Caller& patient = Enter();
  loop.Advance(milliseconds(100));
  EXPECT_EQ(hurried.refusal(), Refusal::kQueueTimeout);
  first.Leave();
  loop.RunReady();
  EXPECT_TRUE(patient.admitted());
}

TEST_F(AdmissionTest, AdmittedWaitersLeaveNoTimerBehind) {
  Make(1, 5);
  Caller& first = Enter();
  Caller& second = Enter();
  EXPECT_EQ(loop.timers(), 1u);
  first.Leave();
  loop.RunReady();
  ASSERT_TRUE(second.admitted());
  EXPECT_EQ(loop.timers(), 0u);
}

TEST_F(AdmissionTest, CancelEndsTheWaitAtOnceAndIsNotShedding) {
  Make(1, 5);
  Enter();
  Caller& waiter = Enter();
  loop.Advance(milliseconds(10));
  waiter.stop.request_stop();
  loop.RunReady();
  EXPECT_EQ(waiter.refusal(), Refusal::kCancelled);
  EXPECT_EQ(waiter.entry->waited, milliseconds(10));
  EXPECT_EQ(admission->queued(), 0);
  EXPECT_EQ(admission->shed(), 0u);
  EXPECT_EQ(loop.timers(), 0u);
}

TEST_F(AdmissionTest, WhoIsCancelledBeforeItEntersTakesNothing) {
  Make(1, 5);
  Caller& caller = callers.emplace_back();
  caller.stop.request_stop();
  core::Spawn(EnterInto(*admission, loop, seconds(30), caller, nullptr));
  EXPECT_EQ(caller.refusal(), Refusal::kCancelled);
  EXPECT_EQ(admission->in_progress(), 0);
}

TEST_F(AdmissionTest, APlaceGivenToACancelledWaiterPassesOn) {
  Make(1, 5);
  Caller& first = Enter();
  Caller& second = Enter();
  Caller& third = Enter();
  first.Leave();               // posted to second
  second.stop.request_stop();  // before second has run
  loop.RunReady();
  EXPECT_EQ(second.refusal(), Refusal::kCancelled);
  EXPECT_TRUE(third.admitted());
  third.Leave();
  EXPECT_EQ(admission->in_progress(), 0);
}

TEST_F(AdmissionTest, APlaceGivenAtTheLastMomentBeatsTheTimeout) {
  Make(1, 5);
  Caller& first = Enter();
  Caller& second = Enter();
  loop.Advance(seconds(2) - nanoseconds(1));
  EXPECT_TRUE(second.waiting());
  first.Leave();
  loop.Advance(nanoseconds(1));
  EXPECT_TRUE(second.admitted());
}

TEST_F(AdmissionTest, CloseRefusesEverybodyWaitersToo) {
  Make(1, 5);
  Caller& first = Enter();
  Caller& second = Enter();
  Caller& third = Enter();
  admission->Close();
  loop.RunReady();
  EXPECT_EQ(second.refusal(), Refusal::kClosed);
  EXPECT_EQ(third.refusal(), Refusal::kClosed);
  EXPECT_EQ(Enter().refusal(), Refusal::kClosed);
  EXPECT_EQ(admission->queued(), 0);
  EXPECT_EQ(admission->in_progress(), 1);
  first.Leave();
  EXPECT_EQ(admission->in_progress(), 0);
  EXPECT_EQ(Enter().refusal(), Refusal::kClosed);
  admission->Close();
  EXPECT_EQ(admission->shed(), 0u);
}

TEST_F(AdmissionTest, MovedTicketsAreGivenBackOnce) {
  Make(3, 0);
  Caller& a = Enter();
  Caller& b = Enter();
  {
    Admission::Ticket ticket = std::move(*a.entry->ticket);
    EXPECT_EQ(admission->in_progress(), 2);
    ticket = std::move(*b.entry->ticket);
    EXPECT_EQ(admission->in_progress(), 1);
  }
  EXPECT_EQ(admission->in_progress(), 0);
}

TEST_F(AdmissionTest, RandomSequencesLoseNobody) {
  for (uint64_t seed = 0; seed < 500; ++seed) {
    core::SeededRandom random(seed);
    const int cap = 1 + static_cast<int>(random.Uniform() * 4);
    const int queue = static_cast<int>(random.Uniform() * 5);
    Make(cap, queue);
    callers.clear();
    order.clear();
    for (int i = 0; i < 200; ++i) {
      const double what = random.Uniform();
      if (what < 0.5) {
        Enter(core::Scale(seconds(30), random.Uniform()));
      } else if (what < 0.75) {
        for (Caller& caller : callers) {
          if (!caller.admitted()) continue;
          caller.Leave();
          break;
        }
      } else if (what < 0.85 && !callers.empty()) {
        callers.back().stop.request_stop();
      } else {
        loop.Advance(core::Scale(seconds(1), random.Uniform()));
      }
      loop.RunReady();
      int admitted = 0, waiting = 0;
      for (const Caller& caller : callers) {
        admitted += caller.admitted();
        waiting += caller.waiting();
      }
      ASSERT_EQ(admission->in_progress(), admitted);
      ASSERT_EQ(admission->queued(), waiting);
      ASSERT_LE(admitted, cap);
      ASSERT_LE(waiting, queue);
      ASSERT_TRUE(waiting == 0 || admitted == cap) << "somebody waits before a free place";
    }
    loop.Run();
    for (const Caller& caller : callers) ASSERT_FALSE(caller.waiting());
    callers.clear();
    ASSERT_EQ(admission->in_progress(), 0);
  }
}

// Several loops, each on a thread of its own.

TEST_F(AdmissionTest, ATicketIsHandedToAWaiterOnAnotherLoopWhichRunsThere) {
  Make(1, 5);
  Caller& here = Enter();
  std::atomic<bool> queued = false;
  std::thread other([&] {
    FakeLoop its_loop;
    Caller caller;
    std::thread::id resumed_on;
    const auto enter = [](Admission& a, FakeLoop& l, Caller& c,
                          std::thread::id& id) -> core::Task<void> {
      c.entry = co_await a.Enter(l, seconds(30), c.stop.get_token());
      id = std::this_thread::get_id();
    };
    core::Spawn(enter(*admission, its_loop, caller, resumed_on));
    EXPECT_TRUE(caller.waiting());
    queued = true;
    queued.notify_one();
    its_loop.RunReadyUntil([&] { return !caller.waiting(); });
    EXPECT_TRUE(caller.admitted());
    EXPECT_EQ(resumed_on, std::this_thread::get_id());
  });
  queued.wait(false);
  here.Leave();
  other.join();
  EXPECT_EQ(admission->in_progress(), 0);
}

core::Task<void> WorkOnce(Admission& admission, FakeLoop& loop, std::stop_token stop, int turn,
                          std::atomic<int>& inside, std::atomic<int>& most, int& admitted,
                          int& refused, int& finished) {
  Admission::Entry entry =
      co_await admission.Enter(loop, turn % 5 == 0 ? seconds(1) : seconds(30), stop);
  if (entry.ticket) {
    ++admitted;
    const int now = ++inside;
    for (int seen = most; now > seen && !most.compare_exchange_weak(seen, now);) {
    }
    if (turn % 3 == 0) co_await core::Sleep(loop, loop.Now(), {});
    --inside;
  } else {
    ++refused;
  }
  entry.ticket.reset();
  ++finished;
}

TEST_F(AdmissionTest, NoWakeupIsLostBetweenManyLoops) {
  constexpr int kThreads = 4, kRounds = 200, kAtOnce = 8;
  Make(3, 12);
  std::atomic<int> inside = 0, most = 0, total_admitted = 0, total_refused = 0;
  std::vector<std::thread> threads;
  for (int t = 0; t < kThreads; ++t) {
    threads.emplace_back([&, t] {
      FakeLoop its_loop;
      int admitted = 0, refused = 0, finished = 0;
      for (int round = 0; round < kRounds; ++round) {
        std::vector<std::stop_source> stops(kAtOnce);
        finished = 0;
        for (int i = 0; i < kAtOnce; ++i) {
          core::Spawn(WorkOnce(*admission, its_loop, stops[i].get_token(), round + i + t, inside,
                               most, admitted, refused, finished));
        }
        if (round % 4 == t) stops[round % kAtOnce].request_stop();
        if (round % 7 == t) its_loop.Advance(milliseconds(100));  // runs into the short limits
        its_loop.RunReadyUntil([&] { return finished == kAtOnce; });
      }
      total_admitted += admitted;
      total_refused += refused;
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(total_admitted + total_refused, kThreads * kRounds * kAtOnce);
  EXPECT_GT(total_admitted, kRounds);
  EXPECT_LE(most, 3);
  EXPECT_EQ(admission->in_progress(), 0);
  EXPECT_EQ(admission->queued(), 0);
}

TEST_F(AdmissionTest, CloseWhileManyLoopsWait) {
  for (int round = 0; round < 50; ++round) {
    Make(2, 100);
    std::atomic<int> closed = 0, admitted = 0, entered = 0;
    std::vector<std::thread> threads;
    for (int t = 0; t < 4; ++t) {
      threads.emplace_back([&] {
        FakeLoop its_loop;
        std::list<Caller> mine(10);
        for (Caller& caller : mine) {
          core::Spawn(EnterInto(*admission, its_loop, seconds(30), caller, nullptr));
          ++entered;
          entered.notify_one();
        }
        its_loop.RunReadyUntil([&] {
          for (Caller& caller : mine) {
            if (caller.admitted()) {
              ++admitted;
              caller.Leave();
            }
            if (caller.waiting()) return false;
          }
          return true;
        });
        for (Caller& caller : mine) closed += caller.refusal() == Refusal::kClosed;
      });
    }
    for (int seen = entered; seen < 20; seen = entered) entered.wait(seen);
    admission->Close();
    for (std::thread& thread : threads) thread.join();
    EXPECT_EQ(admitted + closed, 40);
    EXPECT_EQ(admission->in_progress(), 0);
    EXPECT_EQ(admission->queued(), 0);
  }
}

}  // namespace
}  // namespace holdfast::resilience
