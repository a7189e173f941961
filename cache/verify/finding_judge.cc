#include "cache/verify/finding_judge.h"

#include <string>
#include <utility>

#include "cache/verify/findings.h"
#include "cache/verify/question.h"

namespace holdfast::cache {

Verdict FindingJudge::Compare(std::string_view asked, const Candidate& candidate) const {
  // The candidates of one lookup come one after the other, and all meet the same question.
  thread_local std::string last_text;
  thread_local verify::Question last;
  if (last_text != asked || last_text.empty()) {
    last = verify::Analyze(asked);
    last_text = asked;
  }
  verify::Verdict found =
      verify::Compare(verify::Analyze(candidate.question), last, candidate.cosine);
  Verdict verdict{.similarity = found.score, .refused = found.refused};
  verdict.reason = std::move(found.reason);
  for (const verify::Finding& finding : found.findings) {
    std::string reason(verify::FeatureTable()[static_cast<size_t>(finding.feature)].reason);
    if (!finding.detail.empty()) reason += ": " + finding.detail;
    verdict.findings.push_back({std::string(finding.name), std::move(reason)});
  }
  return verdict;
}

}  // namespace holdfast::cache
