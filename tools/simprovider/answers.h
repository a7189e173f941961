// The deterministic answers: the same model, messages and options give the same answer, always.
// Pure functions, any thread.
#pragma once

#include <cstddef>
#include <string>
#include <string_view>

#include "tools/simprovider/chat.h"

namespace simprovider {

struct AnswerOptions {
  size_t answer_bytes = 0;  // 0: as long as it comes
  size_t chunks = 0;        // 0: a handful of words per delta
  uint64_t seed = 0;        // another seed, other filler sentences
};

// What a fault wants changed in an otherwise good answer.
struct AnswerTweaks {
  bool one_token_deltas = false;
  bool invalid_json = false;
  bool empty = false;
  bool refusal = false;
  bool prompt_blocked = false;
  int filter_after = -1;  // >= 0: a content filter ends the text after that many tokens
};

Answer ComposeAnswer(const ChatRequest& request, const AnswerOptions& options,
                     const AnswerTweaks& tweaks);

}  // namespace simprovider
