#pragma once

// Whether the answer to one question may serve another: the step between the search by cosine and
// what is served. AnswerBook shows a Judge the nearest valid entries and serves the one that it
// rates highest, if that reaches the threshold. Implementations are immutable or lock for
// themselves: Compare is called from any of the pool's threads, several at once.

#include <string>
#include <string_view>
#include <vector>

#include "core/clock.h"

namespace holdfast::cache {

// One stored entry, of the asked question's scope and not expired. Views last for the call.
struct Candidate {
  std::string_view question;  // as it was stored
  double cosine = 0;          // to the asked question; 1 if they are the same when normalised
  core::Duration age{};
  bool pinned = false;  // approved by a person; its age says nothing
};

// Something that a comparison noticed.
struct Finding {
  std::string name;
  std::string reason;  // for a person; may quote the questions, so it never reaches a log
};

struct Verdict {
  double similarity = 0;  // what the threshold is held against
  bool refused = false;   // never served, whatever the threshold
  std::string reason;     // the chief one, of a refusal or of a low similarity; may be empty
  std::vector<Finding> findings;
};

class Judge {
 public:
  virtual ~Judge() = default;

  virtual Verdict Compare(std::string_view asked, const Candidate& candidate) const = 0;

  // Entries of a lower cosine need not be shown where `threshold` is to be reached.
  virtual double CosineFloor(double threshold) const = 0;
};

// The cosine is the similarity.
class CosineJudge final : public Judge {
 public:
  Verdict Compare(std::string_view, const Candidate& candidate) const override {
    return {.similarity = candidate.cosine};
  }
  double CosineFloor(double threshold) const override { return threshold; }

  static const Judge& Instance() {
    static const CosineJudge judge;
    return judge;
  }
};

}  // namespace holdfast::cache
