#include "tools/simprovider/fault_player.h"

#include <algorithm>
#include <utility>

#include "tools/simprovider/text.h"

namespace simprovider {
namespace {

constexpr std::string_view kJsonType = "application/json";
constexpr double kBeforeClosingMs = 5;    // so that what was sent arrives before a reset
constexpr double kBetweenPiecesMs = 0.3;  // so that each piece is a read of its own

bool IsMultibyte(char c) { return static_cast<unsigned char>(c) >= 0x80; }
bool IsContinuation(char c) { return (static_cast<unsigned char>(c) & 0xC0) == 0x80; }

// A response before it is framed: its head, then its body in events (one, when not streamed).
struct Draft {
  std::string head;
  std::vector<Event> events;
  bool streamed = false;
};

std::string Framed(const Draft& draft, std::string_view bytes) {
  if (!draft.streamed) return std::string(bytes);
  std::string out;
  out.reserve(bytes.size() + 16);
  AppendChunk(out, bytes);
  return out;
}

Draft DraftOf(const Exchange& exchange, const Answer& answer) {
  Draft draft;
  draft.streamed = exchange.request.stream;
  const std::string headers = exchange.wire.Headers(exchange.stamp);
  if (draft.streamed) {
    draft.head = StreamHead(exchange.wire.StreamContentType(exchange.request), headers);
    draft.events = exchange.wire.Stream(exchange.request, answer, exchange.stamp);
    return draft;
  }
  std::string body = exchange.wire.Whole(exchange.request, answer, exchange.stamp);
  draft.head = WholeResponse(200, kJsonType, headers, body);
  draft.head.resize(draft.head.size() - body.size());
  draft.events.push_back({EventKind::kContent, std::move(body)});
  return draft;
}

bool IsToken(const Event& event) {
  return event.kind == EventKind::kContent || event.kind == EventKind::kToolArguments;
}

bool IsDelayed(const Pace& pace) {
  return pace.first_token_delay_ms > 0 || pace.token_delay_ms > 0;
}

// The reply's steps without its end, as fast as the pace says.
void AddPaced(const Draft& draft, const Pace& pace, Reply& reply) {
  std::string now = draft.head;
  bool first = true;
  for (const Event& event : draft.events) {
    const bool paced = draft.streamed ? IsToken(event) : true;
    const double delay = !paced ? 0 : first ? pace.first_token_delay_ms : pace.token_delay_ms;
    if (paced) first = false;
    if (delay > 0) {
      if (!now.empty() && draft.streamed) reply.Add(std::exchange(now, {}));
      reply.Add(now + Framed(draft, event.bytes), delay);
      now.clear();
    } else if (draft.streamed) {
      AppendChunk(now, event.bytes);
    } else {
      now += event.bytes;
    }
  }
  if (draft.streamed) now += kLastChunk;
  if (!now.empty()) reply.Add(std::move(now));
}

Played Good(const Exchange& exchange, const Draft& draft) {
  Played played;
  played.status = 200;
  AddPaced(draft, exchange.pace, played.reply);
  return played;
}

Played GoodWith(const Exchange& exchange, const AnswerTweaks& tweaks) {
  return Good(exchange,
              DraftOf(exchange, ComposeAnswer(exchange.request, exchange.options, tweaks)));
}

Played Ending(ReplyEnd end) {
  Played played;
  played.reply.end = end;
  return played;
}

std::string HeaderLines(const Fault& fault) {
  std::string lines;
  for (const auto& [name, value] : fault.headers) lines += name + ": " + value + "\r\n";
  return lines;
}

bool NamesContentType(const Fault& fault) {
  for (const auto& [name, value] : fault.headers) {
    if (EqualsIgnoringCase(name, "content-type")) return true;
  }
  return false;
}

Played ErrorWithHeaders(const Exchange& exchange, const ApiError& error, const Fault& fault) {
  const ErrorReply reply = exchange.wire.Error(error, exchange.stamp);
  const std::string body = fault.body ? *fault.body : reply.body;
  std::string response =
      WholeResponse(reply.status, kJsonType, reply.headers + HeaderLines(fault), body);
  if (NamesContentType(fault)) {
    static constexpr std::string_view kOurs = "Content-Type: application/json\r\n";
    response.erase(response.find(kOurs), kOurs.size());
  }
  Played played;
  played.status = reply.status;
  played.reply.Add(std::move(response));
  return played;
}

Played PlayStatus(const Exchange& exchange, const Fault& fault) {
  ApiError error;
  error.status = static_cast<int>(fault.status);
  error.type = fault.type;
  error.message = fault.message;
  error.retry_after = fault.retry_after;
  return ErrorWithHeaders(exchange, error, fault);
}

Played PlayKnown(const Exchange& exchange, KnownError kind, const Fault& fault) {
  ApiError error = exchange.wire.Known(kind, exchange.request.model);
  error.retry_after = fault.retry_after;
  return ErrorWithHeaders(exchange, error, fault);
}

Draft PlainDraft(const Exchange& exchange, bool one_token_deltas) {
  AnswerTweaks tweaks;
  tweaks.one_token_deltas = one_token_deltas;
  return DraftOf(exchange, ComposeAnswer(exchange.request, exchange.options, tweaks));
}

Played PlaySilence(const Exchange& exchange) {
  Played played = Ending(ReplyEnd::kHang);
  played.status = 200;
  played.reply.Add(PlainDraft(exchange, false).head);
  return played;
}

Played PlayPings(const Exchange& exchange, const Fault& fault) {
  Played played = Ending(ReplyEnd::kHang);
  played.status = 200;
  // White space before a JSON body is what some gateways keep a connection alive with; its length
  // is unknown then, so it is chunked too.
  const bool streamed = exchange.request.stream;
  Draft draft;
  draft.streamed = true;
  played.reply.Add(
      StreamHead(streamed ? exchange.wire.StreamContentType(exchange.request) : kJsonType,
                 exchange.wire.Headers(exchange.stamp)));
  played.reply.Add(Framed(draft, streamed ? exchange.wire.Ping() : "\n"), fault.interval_ms);
  played.reply.repeat_from = 1;
  return played;
}

// Where a fault strikes: whole events before it, then `partial` of the next one.
struct Position {
  size_t events = 0;
  std::string partial;
};

size_t IndexAfterTokens(const std::vector<Event>& events, int64_t tokens) {
  for (size_t i = 0; i < events.size(); ++i) {
    if (IsToken(events[i]) && tokens-- == 0) return i;
    if (events[i].kind == EventKind::kFinish) return i;
  }
  return events.size();
}

Position InMidCharacter(const std::vector<Event>& events) {
  for (size_t i = 0; i < events.size(); ++i) {
    const std::string& bytes = events[i].bytes;
    const auto at = std::find_if(bytes.begin(), bytes.end(), IsMultibyte);
    if (at == bytes.end()) continue;
    return {i, std::string(bytes.begin(), at + 1)};
  }
  return {IndexAfterTokens(events, 1), ""};
}

// Behind about half of the tool's arguments, in the middle of an event when there is only one.
Position InMidToolCall(const std::vector<Event>& events) {
  std::vector<size_t> fragments;
  for (size_t i = 0; i < events.size(); ++i) {
    if (events[i].kind == EventKind::kToolArguments) fragments.push_back(i);
  }
  if (fragments.empty()) return {IndexAfterTokens(events, 1), ""};
  const size_t middle = fragments[fragments.size() / 2];
  if (fragments.size() > 1) return {middle, ""};
  return {middle, events[middle].bytes.substr(0, events[middle].bytes.size() / 2)};
}

Position PositionOf(const std::vector<Event>& events, const Fault& fault) {
  if (fault.at == "mid_character") return InMidCharacter(events);
  if (fault.at == "mid_tool_call") return InMidToolCall(events);
  if (fault.at == "after_finish") {
    for (size_t i = 0; i < events.size(); ++i) {
      if (events[i].kind == EventKind::kFinish) return {i + 1, ""};
    }
  }
  return {IndexAfterTokens(events, fault.after), ""};
}

// A body that is not streamed has no events to count: it is struck in its middle, in its first
// multi-byte character, or behind its last byte but one.
Position PositionInBody(const std::vector<Event>& events, const Fault& fault) {
  if (fault.at == "mid_character") return InMidCharacter(events);
  const std::string& body = events[0].bytes;
  if (fault.at == "after_finish") return {0, body.substr(0, body.size() - 1)};
  if (fault.at == "tokens" && fault.after == 0) return {0, ""};
  return {0, std::string(CutAtCodePoint(body, body.size() / 2))};
}

// The draft up to where the fault strikes.
struct Struck {
  Played played;
  Draft draft;
  Position position;
};

Struck StrikeAt(const Exchange& exchange, const Fault& fault) {
  Struck struck;
  struck.draft = PlainDraft(exchange, true);
  Draft& draft = struck.draft;
  struck.position =
      draft.streamed ? PositionOf(draft.events, fault) : PositionInBody(draft.events, fault);
  Draft sent = draft;
  sent.events.resize(struck.position.events);
  if (!struck.position.partial.empty()) {
    sent.events.push_back({EventKind::kOther, struck.position.partial});
  }
  AddPaced(sent, exchange.pace, struck.played.reply);
  if (draft.streamed) {
    std::string& last = struck.played.reply.steps.back().bytes;
    last.resize(last.size() - kLastChunk.size());
  }
  struck.played.status = 200;
  return struck;
}

ApiError InStreamError(const Exchange& exchange, const Fault& fault) {
  ApiError error;
  if (fault.status == 0 && fault.type.empty()) {
    error = exchange.wire.Known(KnownError::kOverloaded, exchange.request.model);
  }
  if (fault.status != 0) error.status = static_cast<int>(fault.status);
  if (fault.status == 0 && !fault.type.empty()) error.status = 500;
  if (!fault.type.empty()) error.type = fault.type;
  if (!fault.message.empty()) error.message = fault.message;
  return error;
}

Played PlayCut(const Exchange& exchange, const Fault& fault) {
  Struck struck = StrikeAt(exchange, fault);
  Reply& reply = struck.played.reply;
  if (fault.how == "error_event" && struck.draft.streamed) {
    std::string last;
    AppendChunk(last, exchange.wire.StreamError(InStreamError(exchange, fault), exchange.stamp));
    last += kLastChunk;
    reply.Add(std::move(last));
    return std::move(struck.played);
  }
  if (fault.how == "end" && struck.draft.streamed) {
    reply.Add(std::string(kLastChunk));
    return std::move(struck.played);
  }
  reply.Add("", kBeforeClosingMs);
  reply.end = fault.how == "rst" ? ReplyEnd::kRst : ReplyEnd::kFin;
  return std::move(struck.played);
}

Played PlayStall(const Exchange& exchange, const Fault& fault) {
  Struck struck = StrikeAt(exchange, fault);
  Reply& reply = struck.played.reply;
  if (fault.ms == 0) {
    reply.end = ReplyEnd::kHang;
    return std::move(struck.played);
  }
  std::string rest;
  for (size_t i = struck.position.events; i < struck.draft.events.size(); ++i) {
    std::string_view bytes = struck.draft.events[i].bytes;
    if (i == struck.position.events) bytes.remove_prefix(struck.position.partial.size());
    rest += Framed(struck.draft, bytes);
  }
  if (struck.draft.streamed) rest += kLastChunk;
  reply.Add(std::move(rest), fault.ms);
  return std::move(struck.played);
}

Played PlayDrip(const Exchange& exchange, const Fault& fault) {
  const Draft draft = PlainDraft(exchange, true);
  if (fault.per == "token" && draft.streamed) {
    Played played;
    played.status = 200;
    AddPaced(draft, Pace{fault.ms, fault.ms}, played.reply);
    return played;
  }
  Played whole =
      Good({exchange.wire, exchange.request, exchange.stamp, exchange.options, Pace{}}, draft);
  std::string bytes;
  for (Step& step : whole.reply.steps) bytes += step.bytes;
  whole.reply.steps.clear();
  const size_t stride = fault.per == "byte" ? 1 : 8;
  for (size_t at = 0; at < bytes.size(); at += stride) {
    whole.reply.Add(bytes.substr(at, stride), fault.ms);
  }
  return whole;
}

Played NotJson(const Exchange& exchange) {
  static constexpr std::string_view kPage =
      "<html><head><title>502 Bad Gateway</title></head><body>502 Bad Gateway</body></html>\n";
  Played played;
  played.status = 200;
  const std::string headers = exchange.wire.Headers(exchange.stamp);
  const std::string_view type =
      exchange.request.stream ? exchange.wire.StreamContentType(exchange.request) : kJsonType;
  played.reply.Add(WholeResponse(200, type, headers, kPage));
  return played;
}

// Half a body in a valid HTTP response: nothing but the JSON is broken.
Played TruncatedJson(const Exchange& exchange, const Fault& fault) {
  Draft draft = PlainDraft(exchange, true);
  if (!draft.streamed) {
    const std::string& body = draft.events[0].bytes;
    Played played;
    played.status = 200;
    played.reply.Add(WholeResponse(200, kJsonType, exchange.wire.Headers(exchange.stamp),
                                   CutAtCodePoint(body, body.size() / 2)));
    return played;
  }
  const size_t at = IndexAfterTokens(draft.events, fault.after);
  draft.events.resize(std::min(at + 1, draft.events.size()));
  std::string& last = draft.events.back().bytes;
  last = CutAtCodePoint(last, last.size() / 2);
  return Good(exchange, draft);
}

Played PlayMalformed(const Exchange& exchange, const Fault& fault) {
  if (fault.what == "truncated") return TruncatedJson(exchange, fault);
  if (fault.what == "json" || !exchange.request.stream) return NotJson(exchange);
  Draft draft = PlainDraft(exchange, true);
  const auto at = static_cast<std::ptrdiff_t>(IndexAfterTokens(draft.events, fault.after));
  draft.events.insert(draft.events.begin() + at,
                      {EventKind::kOther, "data: {\"choices\":[{\"delta\":{\"content\":\"bro\n\n"});
  return Good(exchange, draft);
}

void UseCrLf(std::vector<Event>& events) {
  for (Event& event : events) {
    std::string out;
    for (size_t i = 0; i < event.bytes.size(); ++i) {
      if (event.bytes[i] == '\n' && (i == 0 || event.bytes[i - 1] != '\r')) out += '\r';
      out += event.bytes[i];
    }
    event.bytes = std::move(out);
  }
}

// Splits behind the first byte of every multi-byte character, between CR and LF, and every `size`
// bytes.
std::vector<std::string> SplitPieces(const std::string& bytes, size_t size) {
  std::vector<std::string> pieces(1);
  for (size_t i = 0; i < bytes.size(); ++i) {
    pieces.back() += bytes[i];
    const bool last = i + 1 == bytes.size();
    const bool splits = !last && ((IsMultibyte(bytes[i]) && IsContinuation(bytes[i + 1])) ||
                                  (bytes[i] == '\r' && bytes[i + 1] == '\n') ||
                                  (size > 0 && pieces.back().size() >= size));
    if (splits) pieces.emplace_back();
  }
  return pieces;
}

Played PlaySplitUtf8(const Exchange& exchange, const Fault& fault) {
  Draft draft = PlainDraft(exchange, false);
  if (fault.crlf && draft.streamed) UseCrLf(draft.events);
  std::string body;
  for (const Event& event : draft.events) body += event.bytes;
  Played played;
  played.status = 200;
  played.reply.Add(draft.head);
  for (const std::string& piece : SplitPieces(body, static_cast<size_t>(fault.size))) {
    played.reply.Add(Framed(draft, piece), kBetweenPiecesMs);
  }
  if (draft.streamed) played.reply.Add(std::string(kLastChunk));
  return played;
}

// Gemini has no event to mark the end; there the finish reason is what goes missing.
Played PlayNoDone(const Exchange& exchange) {
  Draft draft = PlainDraft(exchange, false);
  const bool has_done = !draft.events.empty() && draft.events.back().kind == EventKind::kDone;
  const EventKind missing = has_done ? EventKind::kDone : EventKind::kFinish;
  if (draft.streamed) {
    std::erase_if(draft.events, [missing](const Event& event) { return event.kind == missing; });
  }
  return Good(exchange, draft);
}

Played PlayEmpty(const Exchange& exchange, const Fault& fault) {
  if (fault.what == "body") {
    Played played;
    played.status = 200;
    played.reply.Add(WholeResponse(
        200,
        exchange.request.stream ? exchange.wire.StreamContentType(exchange.request) : kJsonType,
        exchange.wire.Headers(exchange.stamp), ""));
    return played;
  }
  AnswerTweaks tweaks;
  tweaks.empty = true;
  return GoodWith(exchange, tweaks);
}

Played PlayContentFilter(const Exchange& exchange, const Fault& fault) {
  AnswerTweaks tweaks;
  if (fault.at == "prompt") {
    if (exchange.wire.Name() != "gemini") {
      return PlayKnown(exchange, KnownError::kContentFilter, fault);
    }
    tweaks.prompt_blocked = true;
  } else {
    tweaks.filter_after = static_cast<int>(std::max<int64_t>(0, fault.after));
  }
  return GoodWith(exchange, tweaks);
}

}  // namespace

Played PlayGood(const Exchange& exchange) {
  if (IsDelayed(exchange.pace) || exchange.request.stream) return GoodWith(exchange, {});
  const Answer answer = ComposeAnswer(exchange.request, exchange.options, {});
  Played played;
  played.status = 200;
  played.reply.Add(WholeResponse(200, kJsonType, exchange.wire.Headers(exchange.stamp),
                                 exchange.wire.Whole(exchange.request, answer, exchange.stamp)));
  return played;
}

Played PlayError(const Exchange& exchange, const ApiError& error) {
  return ErrorWithHeaders(exchange, error, Fault());
}

Played PlayFault(const Exchange& exchange, const Fault& fault) {
  switch (fault.kind) {
    case FaultKind::kStatus:
      return PlayStatus(exchange, fault);
    case FaultKind::kRefuse:
    case FaultKind::kReset:
    case FaultKind::kDeadKeepalive:
      return Ending(ReplyEnd::kRst);
    case FaultKind::kHang:
      return Ending(ReplyEnd::kHang);
    case FaultKind::kSlowHeaders: {
      Played played = PlayGood(exchange);
      played.reply.steps.front().delay_ms += fault.ms;
      return played;
    }
    case FaultKind::kSilence:
      return PlaySilence(exchange);
    case FaultKind::kPings:
      return PlayPings(exchange, fault);
    case FaultKind::kCut:
      return PlayCut(exchange, fault);
    case FaultKind::kStall:
      return PlayStall(exchange, fault);
    case FaultKind::kDrip:
      return PlayDrip(exchange, fault);
    case FaultKind::kMalformed:
      return PlayMalformed(exchange, fault);
    case FaultKind::kSplitUtf8:
      return PlaySplitUtf8(exchange, fault);
    case FaultKind::kNoDone:
      return PlayNoDone(exchange);
    case FaultKind::kEmpty:
      return PlayEmpty(exchange, fault);
    case FaultKind::kContentFilter:
      return PlayContentFilter(exchange, fault);
    case FaultKind::kContextLength:
      return PlayKnown(exchange, KnownError::kContextLength, fault);
    case FaultKind::kModelNotFound:
      return PlayKnown(exchange, KnownError::kModelNotFound, fault);
    case FaultKind::kQuota:
      return PlayKnown(exchange, KnownError::kQuota, fault);
    case FaultKind::kRateLimit:
      return PlayKnown(exchange, KnownError::kRateLimit, fault);
    case FaultKind::kOverloaded:
      return PlayKnown(exchange, KnownError::kOverloaded, fault);
    case FaultKind::kAuth:
      return PlayKnown(exchange, KnownError::kAuth, fault);
    case FaultKind::kRefusal: {
      AnswerTweaks tweaks;
      tweaks.refusal = true;
      return GoodWith(exchange, tweaks);
    }
    case FaultKind::kInvalidJsonAnswer: {
      AnswerTweaks tweaks;
      tweaks.invalid_json = true;
      return GoodWith(exchange, tweaks);
    }
    case FaultKind::kNone:
    case FaultKind::kOutage:
    case FaultKind::kFlapping:
    case FaultKind::kFailureRate:
      break;
  }
  return PlayGood(exchange);
}

}  // namespace simprovider
