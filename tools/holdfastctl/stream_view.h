#pragma once

// Shows a streamed answer as it comes: the text on standard output, on standard error who begins,
// who takes over, what is void, and in the end how it came to be. Used on the main thread; borrows
// the console.

#include <string>
#include <vector>

#include "holdfast/v1/generate.pb.h"
#include "tools/holdfastctl/commands.h"
#include "tools/holdfastctl/terminal_text.h"

namespace holdfast::ctl {

class StreamView {
 public:
  // `quiet`: nothing but the answer, and what of it is void.
  StreamView(Console& console, const Paint& err_paint, bool quiet)
      : console_(console), paint_(err_paint), quiet_(quiet) {}

  void On(const v1::GenerateStreamResponse& event);
  // No more will come: what was written ends its line.
  void End();

 private:
  void OnDelta(const v1::StreamDelta& delta);
  void OnFinished(const v1::GenerateResponse& response);
  void Note(Colour colour, const std::string& text);
  void Write(const std::string& text);

  Console& console_;
  const Paint& paint_;
  const bool quiet_;
  bool in_line_ = false;
  std::vector<v1::ToolCall> tool_calls_;
};

}  // namespace holdfast::ctl
