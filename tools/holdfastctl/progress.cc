#include "tools/holdfastctl/progress.h"

#include <algorithm>
#include <chrono>
#include <utility>

namespace holdfast::ctl {
namespace {

constexpr core::Duration kFirst = std::chrono::milliseconds(300);
constexpr core::Duration kBetween = std::chrono::milliseconds(100);
constexpr uint64_t kWidth = 30;

}  // namespace

Progress::Progress(const core::Clock& clock, std::ostream& err, bool is_terminal, std::string label,
                   uint64_t total)
    : clock_(clock),
      err_(err),
      is_terminal_(is_terminal),
      label_(std::move(label)),
      total_(total),
      draw_after_(clock.Now() + kFirst) {}

Progress::~Progress() { Clear(); }

void Progress::Add(uint64_t done) {
  const std::lock_guard lock(mutex_);
  done_ += done;
  const core::SteadyTime now = clock_.Now();
  if (!is_terminal_ || now < draw_after_) return;
  draw_after_ = now + kBetween;
  drawn_ = true;
  err_ << "\r" << Bar() << std::flush;
}

void Progress::Clear() {
  const std::lock_guard lock(mutex_);
  if (drawn_) err_ << "\r\x1b[K" << std::flush;
  drawn_ = false;
}

std::string Progress::Bar() const {
  if (total_ == 0) return label_ + " " + std::to_string(done_);
  const uint64_t done = std::min(done_, total_);
  const uint64_t filled = done * kWidth / total_;
  return label_ + " [" + std::string(filled, '#') + std::string(kWidth - filled, '.') + "] " +
         std::to_string(done * 100 / total_) + " %";
}

}  // namespace holdfast::ctl
