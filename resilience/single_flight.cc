#include "resilience/single_flight.h"

#include <algorithm>
#include <utility>

namespace holdfast::resilience {

void SingleFlight::Lead::Land(Landed landed) {
  SingleFlight& flights = *std::exchange(flights_, nullptr);
  Waiters waiters;
  {
    const std::lock_guard lock(flights.mutex_);
    waiters = std::move(flights.flights_.extract(key_).mapped());
  }
  const auto shared = std::make_shared<const Landed>(std::move(landed));
  for (std::shared_ptr<Waiter>& waiter : waiters) {
    Boarding boarding;
    boarding.landed = shared;
    Tell(std::move(waiter), std::move(boarding));
  }
}

core::Task<SingleFlight::Boarding> SingleFlight::Board(core::Loop& loop, std::string key,
                                                       core::SteadyTime until,
                                                       std::stop_token stop) {
  const auto waiter = std::make_shared<Waiter>(loop);
  Boarding boarding;
  if (Join(key, waiter)) {
    boarding.lead = std::make_unique<Lead>(*this, std::move(key));
    co_return boarding;
  }
  const core::TimerId timer = loop.CallAt(until, [waiter] { waiter->boarding.Set(Boarding()); });
  const std::stop_callback on_stop(stop, [&waiter] { waiter->boarding.Set(Boarding()); });
  boarding = co_await waiter->boarding;
  loop.CancelTimer(timer);
  Leave(key, waiter);
  co_return boarding;
}

bool SingleFlight::Join(const std::string& key, const std::shared_ptr<Waiter>& waiter) {
  const std::lock_guard lock(mutex_);
  const auto [flight, first] = flights_.try_emplace(key);
  if (!first) flight->second.push_back(waiter);
  return first;
}

void SingleFlight::Leave(const std::string& key, const std::shared_ptr<Waiter>& waiter) {
  const std::lock_guard lock(mutex_);
  const auto flight = flights_.find(key);
  if (flight != flights_.end()) std::erase(flight->second, waiter);
}

void SingleFlight::HandOver(std::string key) {
  std::shared_ptr<Waiter> next;
  {
    const std::lock_guard lock(mutex_);
    const auto flight = flights_.find(key);
    if (flight->second.empty()) {
      flights_.erase(flight);
      return;
    }
    next = std::move(flight->second.front());
    flight->second.pop_front();
  }
  Boarding boarding;
  boarding.lead = std::make_unique<Lead>(*this, std::move(key));
  Tell(std::move(next), std::move(boarding));
}

// A waiter that has left meanwhile does not take what it is given, and a lead goes on by itself.
void SingleFlight::Tell(std::shared_ptr<Waiter> waiter, Boarding boarding) {
  core::Loop& loop = waiter->loop;
  loop.Post([waiter = std::move(waiter), boarding = std::move(boarding)]() mutable {
    waiter->boarding.Set(std::move(boarding));
  });
}

std::string FlightKey(std::string question_id, const core::Request& request) {
  std::string key = std::move(question_id);
  const auto add = [&key](const auto& value) {
    key += '\n';
    if (value) key += std::to_string(*value);
  };
  add(request.max_output_tokens);
  add(request.temperature);
  add(request.top_p);
  add(request.seed);
  for (const std::string& stop : request.stop) {
    key += '\n' + std::to_string(stop.size()) + ':' + stop;
  }
  return key;
}

}  // namespace holdfast::resilience
