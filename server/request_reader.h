#pragma once

// Makes a core::Request from the bytes of a GenerateRequest, or says everything that is wrong with
// them, each fault with the path of its field. The only judge of a request: what passes here is
// valid for the engine. One for the whole server, immutable, used on every loop.

#include <cstddef>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "core/answer.h"
#include "core/request.h"
#include "grpcpp/support/byte_buffer.h"
#include "holdfast/v1/generate.pb.h"

namespace holdfast::server {

struct RequestLimits {
  size_t prompt_text = 1 << 20;  // bytes of text over all messages, tools and schemas
  size_t request = 16 << 20;     // bytes of the encoded GenerateRequest
};

struct FieldFault {
  std::string field;   // "messages[1].parts[0].image.mime_type"
  std::string reason;  // one clause: "must be in [0, 2]"; never quotes the prompt

  friend bool operator==(const FieldFault&, const FieldFault&) = default;
};

// Why a request is refused before the engine sees it.
struct Rejection {
  core::Error error;
  std::vector<FieldFault> faults;  // in the message's order; at most kMaxFaults
  size_t more_faults = 0;          // found beyond those

  static constexpr size_t kMaxFaults = 100;
};

struct Reading {
  // Complete only without `rejection`; request_id and labels are fit for the log in any case.
  core::Request request;
  std::optional<Rejection> rejection;
};

class RequestReader {
 public:
  RequestReader(RequestLimits limits, std::set<std::string> routes);

  // `tenant` is checked by ReadTenant. The request's id is left empty if the caller gave none.
  // `streamed`: the options of a stream are read too; for Generate they are not there.
  Reading Read(const grpc::ByteBuffer& bytes, std::string tenant, bool streamed = false) const;
  // Of a message that was read already, without the options of a stream.
  Reading Read(v1::GenerateRequest message, std::string tenant) const;

  // The route that the request names, by a look at its first bytes only: where encoders put it.
  // Costs the same for any prompt. "default" if it is not there; may be none of the routes.
  static std::string PeekRoute(const grpc::ByteBuffer& bytes);

 private:
  const RequestLimits limits_;
  const std::set<std::string> routes_;
};

}  // namespace holdfast::server
