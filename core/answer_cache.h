#pragma once

// The seam to the store of earlier answers. cache/semantic_cache.h implements it. Used from any
// loop; a fault of the cache is a miss and never an error of the request.

#include <cstdint>
#include <optional>
#include <string>

#include "core/clock.h"
#include "core/loop.h"
#include "core/request.h"
#include "core/task.h"

namespace holdfast::core {

struct CacheHit {
  std::string entry_id;
  std::string text;
  double similarity = 0;  // [-1, 1]: how safe serving it is, by the cache's checks
  double threshold = 0;   // what the similarity had to reach
  double cosine = 0;      // [-1, 1]: how near the two questions' vectors are
  Duration age{};
  WallTime created_at{};
  std::string provider;  // who made it
  std::string model;
};

struct CacheQuery {
  double min_similarity = 0;  // the effective threshold
  Duration max_age{};         // the effective limit
};

struct NewEntry {
  std::string text;
  std::string provider;
  std::string model;
};

class AnswerCache {
 public:
  virtual ~AnswerCache() = default;

  // Whether the last turn is one plain user text: what is not is neither stored nor looked up.
  static bool Cacheable(const Request& request);

  // The same for requests that ask the same question of the same scope. Of a cacheable request.
  virtual std::string QuestionId(const Request& request) const = 0;

  // The nearest earlier answer of the same scope at or above the threshold, or none. Completes on
  // `loop` by `deadline`; a lookup that cannot finish by then counts as skipped and is a miss.
  virtual Task<std::optional<CacheHit>> Lookup(Loop& loop, const Request& request, CacheQuery query,
                                               SteadyTime deadline) = 0;

  // Queues the answer for storing, off the caller's path; never waits, may drop (counted).
  virtual void Store(const Request& request, NewEntry entry) = 0;
};

}  // namespace holdfast::core
