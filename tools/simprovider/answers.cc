#include "tools/simprovider/answers.h"

#include <algorithm>
#include <array>

#include "tools/simprovider/schema_instance.h"
#include "tools/simprovider/text.h"

namespace simprovider {
namespace {

constexpr size_t kMaxEchoBytes = 300;
constexpr size_t kTokensPerDelta = 4;
constexpr int kTokensPerImage = 85;
constexpr int kReasoningTokens = 64;
constexpr int kCacheableTokens = 1024;
constexpr int kCacheStep = 128;

// Always there, so that every reader meets code points of two, three and four bytes.
constexpr std::string_view kUnicodeSentence = " Voilà: a naïve, made-up reply ✓ 🙂.";

constexpr std::array<std::string_view, 12> kFillers = {
    " It comes from a simulated provider and costs nothing.",
    " The same question always gets the same answer.",
    " Nothing here was computed by a language model.",
    " Short sentences keep the stream easy to follow.",
    " A real model would say more, and cost more.",
    " Each word stands where the seed has put it.",
    " There is no knowledge behind these lines.",
    " They only have to arrive whole and in order.",
    " Whatever breaks on the way was asked to break.",
    " The rest is padding of a predictable kind.",
    " Readers in a hurry may stop here.",
    " Tests may rely on every single byte.",
};

const Turn* LastTurn(const ChatRequest& request, std::string_view role, size_t count) {
  for (size_t i = count; i-- > 0;) {
    if (request.turns[i].role == role) return &request.turns[i];
  }
  return nullptr;
}

uint64_t HashOfConversation(const ChatRequest& request, size_t count, uint64_t seed) {
  uint64_t hash = Mix(HashOf(request.model) ^ Mix(seed));
  for (size_t i = 0; i < count; ++i) {
    hash = HashOf(request.turns[i].role, hash);
    hash = HashOf(request.turns[i].text, hash ^ 0x1F);
  }
  return hash;
}

// What follows "[model] simulated answer to: " with the sentences after it.
std::string FullText(const ChatRequest& request, size_t count, const AnswerOptions& options) {
  std::string text = "[" + request.model + "] simulated answer to: ";
  const Turn* question = LastTurn(request, "user", count);
  const std::string_view echo =
      question ? CutAtCodePoint(question->text, kMaxEchoBytes) : std::string_view("(no question)");
  text += echo;
  if (question && echo.size() < question->text.size()) text += "...";
  if (echo.empty() || std::string_view(".?!").find(echo.back()) == std::string_view::npos) {
    text += '.';
  }
  if (count > 0 && request.turns[count - 1].role == "tool") {
    text += " The tool said: ";
    text += CutAtCodePoint(request.turns[count - 1].text, kMaxEchoBytes);
    text += '.';
  }
  text += kUnicodeSentence;
  const uint64_t hash = HashOfConversation(request, count, options.seed);
  const size_t first = hash % kFillers.size();
  size_t next = 0;
  while (next < 3 || text.size() < options.answer_bytes) {
    text += kFillers[(first + 5 * next++) % kFillers.size()];
  }
  if (options.answer_bytes > 0) text = CutAtCodePoint(text, options.answer_bytes);
  return text;
}

// The text for a conversation; when it ends in an assistant's turn, what is still missing of it.
std::string TextFor(const ChatRequest& request, const AnswerOptions& options) {
  const size_t count = request.turns.size();
  const bool continues = count > 0 && request.turns.back().role == "assistant";
  if (!continues) return FullText(request, count, options);
  std::string full = FullText(request, count - 1, options);
  const std::string& prefix = request.turns.back().text;
  if (full.compare(0, prefix.size(), prefix) == 0) full.erase(0, prefix.size());
  return full;
}

std::string FormattedText(const ChatRequest& request, const AnswerOptions& options,
                          const AnswerTweaks& tweaks) {
  const std::string text = TextFor(request, options);
  if (request.format == AnswerFormat::kText) return text;
  if (tweaks.invalid_json) return "Sure! Here is the JSON: {\"answer\": " + text;
  if (request.format == AnswerFormat::kJson) return "{\"answer\":" + Quoted(text) + "}";
  return MinimalInstance(request.schema, text);
}

void ApplyStopSequences(const ChatRequest& request, std::string& text, Answer& answer) {
  size_t earliest = std::string::npos;
  for (const std::string& stop : request.stop) {
    if (stop.empty()) continue;
    const size_t at = text.find(stop);
    if (at >= earliest) continue;
    earliest = at;
    answer.stop_sequence = stop;
  }
  if (earliest == std::string::npos) return;
  text.resize(earliest);
  answer.finish = Finish::kStopSequence;
}

void CutToTokens(std::string& text, int limit, Finish finish, Answer& answer) {
  const auto tokens = Tokens(text);
  if (limit < 0 || tokens.size() <= static_cast<size_t>(limit)) return;
  size_t bytes = 0;
  for (int i = 0; i < limit; ++i) bytes += tokens[static_cast<size_t>(i)].size();
  text.resize(bytes);
  answer.finish = finish;
}

void SplitIntoDeltas(std::string_view text, const AnswerOptions& options,
                     const AnswerTweaks& tweaks, Answer& answer) {
  const auto tokens = Tokens(text);
  answer.usage.output = static_cast<int>(tokens.size());
  if (options.chunks > 0 && !tweaks.one_token_deltas) {
    for (std::string_view piece : EvenPieces(text, options.chunks)) {
      answer.deltas.emplace_back(piece);
    }
    return;
  }
  const size_t stride = tweaks.one_token_deltas ? 1 : kTokensPerDelta;
  for (size_t i = 0; i < tokens.size(); i += stride) {
    const std::string_view last = tokens[std::min(i + stride, tokens.size()) - 1];
    answer.deltas.emplace_back(tokens[i].data(), last.data() + last.size());
  }
}

bool WantsTools(const ChatRequest& request) {
  if (request.tools.empty() || request.tool_choice == ToolChoice::kNone) return false;
  if (request.tool_choice != ToolChoice::kAuto) return true;
  return !request.turns.empty() && request.turns.back().role == "user" &&
         ContainsIgnoringCase(request.turns.back().text, "use the tool");
}

void CallTools(const ChatRequest& request, const AnswerOptions& options, Answer& answer) {
  const size_t turns = request.turns.size();
  const Turn* question = LastTurn(request, "user", turns);
  const std::string_view text = question ? std::string_view(question->text) : std::string_view();
  const bool twice = request.parallel_tools && ContainsIgnoringCase(text, "in parallel");
  const uint64_t hash = HashOfConversation(request, turns, options.seed);
  for (size_t i = 0; i < (twice ? 2U : 1U); ++i) {
    const Tool* tool = &request.tools[i % request.tools.size()];
    for (const Tool& candidate : request.tools) {
      if (request.tool_choice == ToolChoice::kNamed && candidate.name == request.named_tool) {
        tool = &candidate;
      }
    }
    std::string arguments = MinimalInstance(tool->schema, "simulated");
    answer.usage.output += TokensOfBytes(arguments.size() + tool->name.size());
    answer.tool_calls.push_back({Base62(hash + i, 24), tool->name, std::move(arguments)});
  }
  answer.finish = Finish::kToolCalls;
}

void CountInput(const ChatRequest& request, Usage& usage) {
  int before_last = 0;
  int last = 0;
  for (const Turn& turn : request.turns) {
    before_last += last;
    last = TokensOfBytes(turn.text.size()) + 4;
  }
  usage.input = before_last + last + kTokensPerImage * static_cast<int>(request.image_count);
  if (request.cacheable || before_last >= kCacheableTokens) {
    usage.cached = request.cacheable ? before_last : before_last / kCacheStep * kCacheStep;
  }
  if (request.reasons) usage.reasoning = kReasoningTokens;
}

}  // namespace

Answer ComposeAnswer(const ChatRequest& request, const AnswerOptions& options,
                     const AnswerTweaks& tweaks) {
  Answer answer;
  CountInput(request, answer.usage);
  if (tweaks.prompt_blocked) {
    answer.prompt_blocked = true;
    answer.finish = Finish::kContentFilter;
    return answer;
  }
  if (tweaks.refusal) {
    answer.refusal = "I'm sorry, but I can't help with that request.";
    answer.finish = Finish::kRefusal;
    answer.usage.output = 10;
    return answer;
  }
  if (tweaks.empty) return answer;
  if (request.thinking) {
    answer.thinking = "The question is simulated, so the thought is too.";
    answer.usage.reasoning = static_cast<int>(Tokens(answer.thinking).size());
  }
  if (WantsTools(request) && tweaks.filter_after < 0) {
    CallTools(request, options, answer);
    return answer;
  }
  std::string text = FormattedText(request, options, tweaks);
  ApplyStopSequences(request, text, answer);
  CutToTokens(text, request.max_tokens, Finish::kLength, answer);
  if (tweaks.filter_after >= 0) {
    CutToTokens(text, tweaks.filter_after, Finish::kContentFilter, answer);
    answer.finish = Finish::kContentFilter;
  }
  SplitIntoDeltas(text, options, tweaks, answer);
  return answer;
}

}  // namespace simprovider
