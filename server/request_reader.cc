#include "server/request_reader.h"

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <map>
#include <string_view>
#include <utility>

#include "core/clock.h"
#include "google/protobuf/io/coded_stream.h"
#include "grpcpp/support/proto_buffer_reader.h"
#include "server/proto_convert.h"
#include "server/text.h"
#include "server/utf8_repair.h"
#include "simdjson.h"

namespace holdfast::server {
namespace {

// Each is an object on the wire to every provider tried: more would hold its loop up.
constexpr int kMaxParts = 10'000;
constexpr size_t kMaxRequestId = 128;
constexpr size_t kMaxLabels = 16;
constexpr size_t kMaxLabelCharacters = 64;
constexpr size_t kMaxName = 64;
constexpr uint32_t kMaxPeekedRoute = 256;

std::string At(std::string_view list, int index) {
  return std::string(list) + "[" + std::to_string(index) + "]";
}

bool IsPrintableAscii(std::string_view text) {
  return std::all_of(text.begin(), text.end(), [](char c) { return c >= 0x20 && c <= 0x7E; });
}

// What all three providers take as the name of a tool or a schema.
bool IsName(std::string_view text) {
  const auto fits = [](char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_' ||
           c == '-';
  };
  return !text.empty() && text.size() <= kMaxName && std::all_of(text.begin(), text.end(), fits);
}

bool IsImageType(std::string_view text) {
  constexpr std::string_view kPrefix = "image/";
  const auto fits = [](char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '.' ||
           c == '+' || c == '-';
  };
  return text.size() > kPrefix.size() && text.size() <= 100 && text.substr(0, 6) == kPrefix &&
         std::all_of(text.begin() + kPrefix.size(), text.end(), fits);
}

bool IsWebUrl(std::string_view text) {
  for (const std::string_view scheme : {"https://", "http://"}) {
    if (text.substr(0, scheme.size()) != scheme || text.size() == scheme.size()) continue;
    return std::all_of(text.begin(), text.end(),
                       [](char c) { return static_cast<unsigned char>(c) > 0x20 && c != 0x7F; });
  }
  return false;
}

bool IsJsonObject(const std::string& text) {
  simdjson::dom::parser parser;
  return parser.parse(text).is_object();
}

// A JSON Schema for the arguments of a function: an object, and of type object if it says a type.
bool IsObjectSchema(const std::string& text) {
  simdjson::dom::parser parser;
  simdjson::dom::object schema;
  if (parser.parse(text).get_object().get(schema) != simdjson::SUCCESS) return false;
  std::string_view type;
  return schema["type"].get_string().get(type) != simdjson::SUCCESS || type == "object";
}

// Reads one message; collects its faults.
class MessageReader {
 public:
  MessageReader(const RequestLimits& limits, const std::set<std::string>& routes,
                std::vector<std::string> invalid_utf8, Reading& out)
      : limits_(limits),
        routes_(routes),
        invalid_utf8_(invalid_utf8.begin(), invalid_utf8.end()),
        request_(out.request),
        rejection_(out.rejection) {
    for (const std::string& path : invalid_utf8) Add(path, "is not valid UTF-8");
  }

  void Read(v1::GenerateRequest& in) {
    ReadRoute(in);
    ReadTools(in);  // before the messages, which refer to them
    ReadMessages(in);
    ReadNumbers(in);
    ReadStop(in);
    ReadToolChoice(in.tool_choice());
    ReadResponseFormat(*in.mutable_response_format());
    ReadCache(in.cache());
    ReadWorstAcceptable(in.worst_acceptable());
    ReadIdentity(in);
    ReadStream(in.stream());
    CheckPromptSize();
    if (rejection_) Conclude();
  }

 private:
  // Unless the field was reported for its bytes: what is there now is not what was sent.
  void Fault(const std::string& field, std::string reason) {
    if (!invalid_utf8_.contains(field)) Add(field, std::move(reason));
  }

  void Add(const std::string& field, std::string reason) {
    if (!rejection_) rejection_.emplace();
    if (rejection_->faults.size() < Rejection::kMaxFaults) {
      rejection_->faults.push_back({field, std::move(reason)});
    } else {
      ++rejection_->more_faults;
    }
  }

  void Conclude() {
    const FieldFault& first = rejection_->faults.front();
    const size_t others = rejection_->faults.size() - 1 + rejection_->more_faults;
    core::Error& error = rejection_->error;
    error.code = core::ErrorCode::kInvalidArgument;
    error.reason = "INVALID_REQUEST";
    error.message = first.field + " " + first.reason;
    if (others > 0) {
      error.message +=
          " (and " + std::to_string(others) + " more fault" + (others == 1 ? ")" : "s)");
    }
    error.field = first.field;
  }

  void ReadRoute(v1::GenerateRequest& in) {
    request_.route = in.route().empty() ? "default" : std::move(*in.mutable_route());
    if (!routes_.contains(request_.route)) {
      Fault("route", "names no route of the server's configuration");
      request_.route.clear();
    }
  }

  void ReadTools(v1::GenerateRequest& in) {
    for (int i = 0; i < in.tools_size(); ++i) {
      v1::Tool& tool = *in.mutable_tools(i);
      const std::string path = At("tools", i);
      if (!IsName(tool.name())) {
        Fault(path + ".name", "must be 1 to 64 characters of [A-Za-z0-9_-]");
      } else if (!tool_names_.insert(tool.name()).second) {
        Fault(path + ".name", "must be unique in the request");
      }
      if (!tool.parameters_json_schema().empty() &&
          !IsObjectSchema(tool.parameters_json_schema())) {
        Fault(path + ".parameters_json_schema", "must be a JSON Schema of type object");
      }
      request_.tools.push_back({std::move(*tool.mutable_name()),
                                std::move(*tool.mutable_description()),
                                std::move(*tool.mutable_parameters_json_schema())});
    }
  }

  void ReadMessages(v1::GenerateRequest& in) {
    if (in.messages().empty()) Fault("messages", "must hold at least one message");
    int parts = 0;
    for (const v1::Message& message : in.messages()) parts += std::max(1, message.parts_size());
    if (parts > kMaxParts) {
      return Fault("messages", "hold " + std::to_string(parts) + " messages and parts; at most " +
                                   std::to_string(kMaxParts));
    }
    request_.messages.reserve(static_cast<size_t>(in.messages_size()));
    for (int i = 0; i < in.messages_size(); ++i) {
      ReadMessage(*in.mutable_messages(i), At("messages", i));
    }
  }

  void ReadMessage(v1::Message& in, const std::string& path) {
    core::Message message;
    const std::optional<core::Role> role = RoleOf(in.role());
    if (!role) Fault(path + ".role", "must be \"system\", \"user\", \"assistant\" or \"tool\"");
    message.role = role.value_or(core::Role::kUser);
    if (!in.content().empty() && !in.parts().empty()) {
      Fault(path + ".content", "must not be set beside parts");
    }
    if (in.content().empty() && in.parts().empty()) {
      Fault(path + ".content", "must not be empty, unless there are parts");
    }
    if (!in.content().empty()) {
      if (role == core::Role::kTool) {
        Fault(path + ".content", "must be tool_result parts in a message of role \"tool\"");
      }
      message.parts.emplace_back(core::Text{std::move(*in.mutable_content())});
    }
    message.parts.reserve(message.parts.size() + static_cast<size_t>(in.parts_size()));
    for (int i = 0; i < in.parts_size(); ++i) {
      ReadPart(*in.mutable_parts(i), role, At(path + ".parts", i), message);
    }
    const bool has_result = std::any_of(in.parts().begin(), in.parts().end(),
                                        [](const v1::Part& p) { return p.has_tool_result(); });
    if (role == core::Role::kTool && !in.parts().empty() && !has_result) {
      Fault(path + ".parts", "must hold a tool_result in a message of role \"tool\"");
    }
    request_.messages.push_back(std::move(message));
  }

  static std::optional<core::Role> RoleOf(std::string_view name) {
    for (const core::Role role :
         {core::Role::kSystem, core::Role::kUser, core::Role::kAssistant, core::Role::kTool}) {
      if (name == core::Name(role)) return role;
    }
    return std::nullopt;
  }

  void ReadPart(v1::Part& in, std::optional<core::Role> role, const std::string& path,
                core::Message& message) {
    switch (in.kind_case()) {
      case v1::Part::kText:
        if (in.text().empty()) Fault(path + ".text", "must not be empty");
        message.parts.emplace_back(core::Text{std::move(*in.mutable_text())});
        return;
      case v1::Part::kImage:
        Require(role, core::Role::kUser, path + ".image");
        return ReadImage(*in.mutable_image(), path + ".image", message);
      case v1::Part::kToolCall:
        Require(role, core::Role::kAssistant, path + ".tool_call");
        return ReadToolCall(*in.mutable_tool_call(), path + ".tool_call", message);
      case v1::Part::kToolResult:
        Require(role, core::Role::kTool, path + ".tool_result");
        return ReadToolResult(*in.mutable_tool_result(), path + ".tool_result", message);
      case v1::Part::KIND_NOT_SET:
        return Fault(path, "must be a text, an image, a tool_call or a tool_result");
    }
  }

  void Require(std::optional<core::Role> role, core::Role wanted, const std::string& path) {
    if (role && role != wanted) {
      Fault(path, std::string("must stand in a message of role \"") + core::Name(wanted) + "\"");
    }
  }

  void ReadImage(v1::Image& in, const std::string& path, core::Message& message) {
    core::Image image;
    switch (in.source_case()) {
      case v1::Image::kUrl:
        if (!IsWebUrl(in.url())) Fault(path + ".url", "must be an https or http URL");
        if (!in.mime_type().empty()) Fault(path + ".mime_type", "is only for data");
        image.url = std::move(*in.mutable_url());
        break;
      case v1::Image::kData:
        if (in.data().empty()) Fault(path + ".data", "must not be empty");
        if (!IsImageType(in.mime_type())) {
          Fault(path + ".mime_type", "must be an image's type, as \"image/png\"");
        }
        image.bytes = std::move(*in.mutable_data());
        image.mime_type = std::move(*in.mutable_mime_type());
        break;
      case v1::Image::SOURCE_NOT_SET:
        Fault(path, "must have a url or data");
        break;
    }
    message.parts.emplace_back(std::move(image));
  }

  void ReadToolCall(v1::ToolCall& in, const std::string& path, core::Message& message) {
    if (in.id().empty()) {
      Fault(path + ".id", "must not be empty");
    } else if (!calls_.try_emplace(in.id(), OpenCall{in.name(), false}).second) {
      Fault(path + ".id", "must be unique in the request");
    }
    if (!tool_names_.contains(in.name())) {
      Fault(path + ".name", "must be the name of one of the request's tools");
    }
    if (!IsJsonObject(in.arguments())) Fault(path + ".arguments", "must be a JSON object");
    message.parts.emplace_back(core::ToolCall{std::move(*in.mutable_id()),
                                              std::move(*in.mutable_name()),
                                              std::move(*in.mutable_arguments())});
  }

  void ReadToolResult(v1::ToolResult& in, const std::string& path, core::Message& message) {
    core::ToolResult result;
    const auto call = calls_.find(in.tool_call_id());
    if (call == calls_.end()) {
      Fault(path + ".tool_call_id", "must be the id of a tool_call in an earlier message");
    } else if (std::exchange(call->second.answered, true)) {
      Fault(path + ".tool_call_id", "must not have a result already");
    } else {
      result.name = call->second.name;
    }
    result.tool_call_id = std::move(*in.mutable_tool_call_id());
    result.content = std::move(*in.mutable_content());
    result.is_error = in.is_error();
    message.parts.emplace_back(std::move(result));
  }

  void ReadNumbers(const v1::GenerateRequest& in) {
    if (in.has_max_output_tokens()) {
      if (in.max_output_tokens() < 1) Fault("max_output_tokens", "must be at least 1");
      request_.max_output_tokens = in.max_output_tokens();
    }
    if (in.has_temperature()) {
      request_.temperature = Within(in.temperature(), 0, 2, "temperature");
    }
    if (in.has_top_p()) request_.top_p = Within(in.top_p(), 0, 1, "top_p");
    if (in.has_seed()) request_.seed = in.seed();
    if (in.has_max_cost_usd()) {
      if (!std::isfinite(in.max_cost_usd()) || in.max_cost_usd() < 0) {
        Fault("max_cost_usd", "must be a number of at least 0");
      }
      request_.max_cost_usd = in.max_cost_usd();
    }
  }

  double Within(double value, int low, int high, const std::string& field) {
    // Written so that NaN, of which every comparison is false, is a fault.
    if (!(value >= low && value <= high)) {
      Fault(field, "must be in [" + std::to_string(low) + ", " + std::to_string(high) + "]");
    }
    return value;
  }

  void ReadStop(v1::GenerateRequest& in) {
    for (int i = 0; i < in.stop_size(); ++i) {
      if (in.stop(i).empty()) Fault(At("stop", i), "must not be empty");
      request_.stop.push_back(std::move(*in.mutable_stop(i)));
    }
  }

  void ReadToolChoice(const v1::ToolChoice& in) {
    core::ToolChoice& choice = request_.tool_choice;
    switch (in.mode()) {
      case v1::ToolChoice::MODE_UNSPECIFIED:
      case v1::ToolChoice::MODE_AUTO:
        choice.kind = core::ToolChoice::Kind::kAuto;
        break;
      case v1::ToolChoice::MODE_NONE:
        choice.kind = core::ToolChoice::Kind::kNone;
        break;
      case v1::ToolChoice::MODE_REQUIRED:
        choice.kind = core::ToolChoice::Kind::kRequired;
        break;
      case v1::ToolChoice::MODE_NAMED:
        choice.kind = core::ToolChoice::Kind::kNamed;
        break;
      default:
        return Fault("tool_choice.mode", "is unknown");
    }
    if (choice.kind == core::ToolChoice::Kind::kRequired && request_.tools.empty()) {
      Fault("tool_choice.mode", "needs tools");
    }
    if (choice.kind == core::ToolChoice::Kind::kNamed) {
      if (!tool_names_.contains(in.name())) {
        Fault("tool_choice.name", "must be the name of one of the request's tools");
      }
      choice.name = in.name();
    } else if (!in.name().empty()) {
      Fault("tool_choice.name", "is only for MODE_NAMED");
    }
  }

  void ReadResponseFormat(v1::ResponseFormat& in) {
    core::ResponseFormat& format = request_.response_format;
    switch (in.kind()) {
      case v1::ResponseFormat::KIND_UNSPECIFIED:
      case v1::ResponseFormat::KIND_TEXT:
        format.kind = core::ResponseFormat::Kind::kText;
        break;
      case v1::ResponseFormat::KIND_JSON_OBJECT:
        format.kind = core::ResponseFormat::Kind::kJsonObject;
        break;
      case v1::ResponseFormat::KIND_JSON_SCHEMA:
        format.kind = core::ResponseFormat::Kind::kJsonSchema;
        break;
      default:
        return Fault("response_format.kind", "is unknown");
    }
    if (!in.name().empty() && !IsName(in.name())) {
      Fault("response_format.name", "must be at most 64 characters of [A-Za-z0-9_-]");
    }
    if (format.kind != core::ResponseFormat::Kind::kJsonSchema) {
      if (!in.json_schema().empty()) {
        Fault("response_format.json_schema", "is only for KIND_JSON_SCHEMA");
      }
      return;
    }
    if (!IsJsonObject(in.json_schema())) {
      Fault("response_format.json_schema", "must be a JSON Schema: a JSON object");
    }
    format.name = in.name().empty() ? "response" : std::move(*in.mutable_name());
    format.schema = std::move(*in.mutable_json_schema());
  }

  void ReadCache(const v1::CacheControl& in) {
    core::CacheControl& cache = request_.cache;
    switch (in.mode()) {
      case v1::CacheControl::MODE_UNSPECIFIED:
        break;
      case v1::CacheControl::MODE_FALLBACK:
        cache.mode = core::CacheControl::Mode::kFallback;
        break;
      case v1::CacheControl::MODE_OFF:
        cache.mode = core::CacheControl::Mode::kOff;
        break;
      case v1::CacheControl::MODE_PREFER:
        cache.mode = core::CacheControl::Mode::kPrefer;
        break;
      default:
        Fault("cache.mode", "is unknown");
        break;
    }
    if (in.has_min_similarity()) {
      cache.min_similarity = Within(in.min_similarity(), 0, 1, "cache.min_similarity");
    }
    if (in.has_max_age()) ReadMaxAge(in.max_age());
    cache.no_store = in.no_store();
  }

  void ReadMaxAge(const google::protobuf::Duration& in) {
    const std::optional<core::Duration> age = FromProto(in);
    if (!age) return Fault("cache.max_age", "is no valid duration");
    if (*age <= core::Duration::zero()) return Fault("cache.max_age", "must be longer than 0");
    request_.cache.max_age = *age;
  }

  void ReadWorstAcceptable(v1::Degradation in) {
    switch (in) {
      case v1::DEGRADATION_UNSPECIFIED:
        return;
      case v1::DEGRADATION_NONE:
        request_.worst_acceptable = core::Degradation::kNone;
        return;
      case v1::DEGRADATION_FALLBACK_MODEL:
        request_.worst_acceptable = core::Degradation::kFallbackModel;
        return;
      case v1::DEGRADATION_STALE:
        request_.worst_acceptable = core::Degradation::kStale;
        return;
      case v1::DEGRADATION_PARTIAL:
        request_.worst_acceptable = core::Degradation::kPartial;
        return;
      default:
        return Fault("worst_acceptable", "is unknown");
    }
  }

  void ReadIdentity(v1::GenerateRequest& in) {
    if (in.request_id().size() <= kMaxRequestId && IsPrintableAscii(in.request_id())) {
      request_.request_id = std::move(*in.mutable_request_id());
    } else {
      Fault("request_id", "must be at most 128 printable ASCII characters");
    }
    if (in.labels().size() > kMaxLabels) return Fault("labels", "must be at most 16");
    const std::map<std::string, std::string> labels(in.labels().begin(), in.labels().end());
    for (const auto& [key, value] : labels) {
      if (key.empty() || CountCharacters(key) > kMaxLabelCharacters) {
        Fault("labels", "must have keys of 1 to 64 characters");
      } else if (CountCharacters(value) > kMaxLabelCharacters) {
        Fault("labels[\"" + key + "\"]", "must be at most 64 characters");
      } else {
        request_.labels.emplace_back(key, value);
      }
    }
  }

  void ReadStream(const v1::StreamOptions& in) {
    core::StreamOptions& stream = request_.stream;
    switch (in.on_break()) {
      case v1::ON_BREAK_UNSPECIFIED:
        break;
      case v1::ON_BREAK_CONTINUE:
        stream.on_break = core::OnBreak::kContinue;
        break;
      case v1::ON_BREAK_RESTART:
        stream.on_break = core::OnBreak::kRestart;
        break;
      case v1::ON_BREAK_PARTIAL:
        stream.on_break = core::OnBreak::kPartial;
        break;
      default:
        return Fault("stream.on_break", "is unknown");
    }
    if (in.has_hedge()) stream.hedge = in.hedge();
    stream.assembled_message = in.assembled_message();
  }

  void CheckPromptSize() {
    const uint64_t bytes = core::MeasurePrompt(request_).text_bytes;
    if (bytes <= limits_.prompt_text) return;
    Fault("messages", "hold " + std::to_string(bytes) + " bytes of text, tools included; at most " +
                          std::to_string(limits_.prompt_text) + " are allowed");
  }

  struct OpenCall {
    std::string name;
    bool answered;
  };

  const RequestLimits& limits_;
  const std::set<std::string>& routes_;
  const std::set<std::string> invalid_utf8_;
  core::Request& request_;
  std::optional<Rejection>& rejection_;
  std::set<std::string> tool_names_;
  std::map<std::string, OpenCall> calls_;
};

Rejection Unreadable(std::string field, std::string reason, const std::string& message) {
  Rejection rejection;
  rejection.error.code = core::ErrorCode::kInvalidArgument;
  rejection.error.reason = "INVALID_REQUEST";
  rejection.error.message = message;
  rejection.error.field = field;
  rejection.faults.push_back({std::move(field), std::move(reason)});
  return rejection;
}

Rejection TooLarge(size_t size, size_t limit) {
  const std::string reason = "make a request of " + std::to_string(size) +
                             " bytes, images included; at most " + std::to_string(limit) +
                             " are allowed";
  return Unreadable("messages", reason, "messages " + reason);
}

bool Parse(const grpc::ByteBuffer& bytes, v1::GenerateRequest& message) {
  grpc::ByteBuffer copy(bytes);  // shares the slices
  grpc::ProtoBufferReader reader(&copy);
  return reader.status().ok() && message.ParseFromZeroCopyStream(&reader);
}

std::string Flatten(const grpc::ByteBuffer& bytes) {
  std::vector<grpc::Slice> slices;
  std::string flat;
  if (!bytes.Dump(&slices).ok()) return flat;
  flat.reserve(bytes.Length());
  for (const grpc::Slice& slice : slices) {
    flat.append(reinterpret_cast<const char*>(slice.begin()), slice.size());
  }
  return flat;
}

}  // namespace

RequestReader::RequestReader(RequestLimits limits, std::set<std::string> routes)
    : limits_(limits), routes_(std::move(routes)) {}

Reading RequestReader::Read(const grpc::ByteBuffer& bytes, std::string tenant,
                            bool streamed) const {
  Reading reading;
  reading.request.tenant = std::move(tenant);
  if (bytes.Length() > limits_.request) {
    reading.rejection = TooLarge(bytes.Length(), limits_.request);
    return reading;
  }
  v1::GenerateRequest message;
  std::vector<std::string> invalid_utf8;
  if (!Parse(bytes, message)) {
    std::string flat = Flatten(bytes);
    auto found = RepairUtf8(*v1::GenerateRequest::descriptor(), flat);
    if (!found || !message.ParseFromString(flat)) {
      reading.rejection = Unreadable("", "is no holdfast.v1.GenerateRequest",
                                     "the bytes are no holdfast.v1.GenerateRequest");
      return reading;
    }
    invalid_utf8 = *std::move(found);
  }
  if (!streamed) message.clear_stream();
  MessageReader(limits_, routes_, std::move(invalid_utf8), reading).Read(message);
  return reading;
}

Reading RequestReader::Read(v1::GenerateRequest message, std::string tenant) const {
  Reading reading;
  reading.request.tenant = std::move(tenant);
  message.clear_stream();
  MessageReader(limits_, routes_, {}, reading).Read(message);
  return reading;
}

std::string RequestReader::PeekRoute(const grpc::ByteBuffer& bytes) {
  constexpr uint32_t kTag = v1::GenerateRequest::kRouteFieldNumber << 3 | 2;
  grpc::ByteBuffer copy(bytes);  // shares the slices
  grpc::ProtoBufferReader reader(&copy);
  google::protobuf::io::CodedInputStream in(&reader);
  uint32_t length = 0;
  std::string route;
  if (!reader.status().ok() || in.ReadTag() != kTag || !in.ReadVarint32(&length) ||
      length > kMaxPeekedRoute || !in.ReadString(&route, static_cast<int>(length)) ||
      route.empty()) {
    return "default";
  }
  return route;
}

}  // namespace holdfast::server
