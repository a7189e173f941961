// Turns an answer and a fault into what happens on the wire. Pure but for the stamp, any thread.
#pragma once

#include "tools/simprovider/answers.h"
#include "tools/simprovider/faults.h"
#include "tools/simprovider/reply.h"
#include "tools/simprovider/wire.h"

namespace simprovider {

struct Pace {
  double first_token_delay_ms = 0;
  double token_delay_ms = 0;  // between the deltas of a stream
};

struct Exchange {
  const Wire& wire;
  const ChatRequest& request;
  const Stamp& stamp;
  const AnswerOptions& options;
  const Pace& pace;
};

struct Played {
  Reply reply;
  int status = 0;  // 0: no headers will be sent
};

Played PlayGood(const Exchange& exchange);
Played PlayError(const Exchange& exchange, const ApiError& error);
Played PlayFault(const Exchange& exchange, const Fault& fault);

}  // namespace simprovider
