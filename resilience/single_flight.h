#pragma once

// One upstream call for identical requests in progress at once, without joining their fates: the
// first leads, the others wait for its answer, each until its own time and as long as its own
// caller wants. A leader that ends without an answer to share hands its lead to the next waiter.
// One for each route, owned by LiveRoute; thread safe, since calls of several loops share it. The
// loops outlive the calls that wait on them.

#include <deque>
#include <memory>
#include <mutex>
#include <optional>
#include <stop_token>
#include <string>
#include <unordered_map>

#include "core/answer.h"
#include "core/loop.h"
#include "core/request.h"
#include "core/task.h"
#include "core/wait.h"

namespace holdfast::resilience {

class SingleFlight {
 public:
  // What a leader shares.
  struct Landed {
    core::Answer answer;
    bool stored = false;  // it went to the cache
  };

  // Held by the leader while its call goes on. Destroyed without Land: the next one leads.
  class Lead {
   public:
    Lead(SingleFlight& flights, std::string key) : flights_(&flights), key_(std::move(key)) {}
    Lead(Lead&& other) noexcept
        : flights_(std::exchange(other.flights_, nullptr)), key_(std::move(other.key_)) {}
    Lead& operator=(Lead&&) = delete;
    ~Lead() {
      if (flights_ != nullptr) flights_->HandOver(std::move(key_));
    }

    // Gives every waiter the answer. Once.
    void Land(Landed landed);

   private:
    SingleFlight* flights_;
    std::string key_;
  };

  // Neither: the wait ended first, and the call goes its own way.
  struct Boarding {
    std::unique_ptr<Lead> lead;
    std::shared_ptr<const Landed> landed;
  };

  SingleFlight() = default;
  SingleFlight(const SingleFlight&) = delete;

  // Leads at once if nobody does, else waits on `loop` until `until` or a stop, which is requested
  // on the loop's thread.
  core::Task<Boarding> Board(core::Loop& loop, std::string key, core::SteadyTime until,
                             std::stop_token stop);

 private:
  struct Waiter {
    explicit Waiter(core::Loop& l) : loop(l), boarding(l) {}
    core::Loop& loop;
    core::OneShot<Boarding> boarding;  // on the loop's thread only
  };
  using Waiters = std::deque<std::shared_ptr<Waiter>>;

  // Whether the caller leads; else `waiter` waits.
  bool Join(const std::string& key, const std::shared_ptr<Waiter>& waiter);
  void Leave(const std::string& key, const std::shared_ptr<Waiter>& waiter);
  void HandOver(std::string key);
  static void Tell(std::shared_ptr<Waiter> waiter, Boarding boarding);

  std::mutex mutex_;
  std::unordered_map<std::string, Waiters> flights_;  // guarded by mutex_; one has a leader each
};

// The same for requests whose answers may stand for one another: the cache's question, and all that
// is told to the model besides.
std::string FlightKey(std::string question_id, const core::Request& request);

}  // namespace holdfast::resilience
