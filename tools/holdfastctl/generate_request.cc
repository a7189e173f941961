#include "tools/holdfastctl/generate_request.h"

#include <google/protobuf/util/json_util.h>

#include <cerrno>
#include <cstring>
#include <fstream>
#include <optional>
#include <utility>

#include "tools/holdfastctl/terminal_text.h"

namespace holdfast::ctl {
namespace {

// Through read(), which tells a failure by badbit; the stream's buffer alone would throw.
std::string ReadAll(std::istream& stream) {
  std::string text;
  char buffer[4096];
  while (stream.read(buffer, sizeof(buffer)) || stream.gcount() > 0) {
    text.append(buffer, static_cast<size_t>(stream.gcount()));
  }
  return text;
}

// Collects the first fault, so that the steps of a build read one below the other.
class Builder {
 public:
  Builder(const GenerateOptions& options, std::istream& input) : o_(options), input_(input) {}

  std::variant<v1::GenerateRequest, std::string> Build() {
    if (!o_.request_file.empty()) ReadRequest();
    AddMessages();
    SetSampling();
    SetFormat();
    SetCache();
    SetRest();
    if (!fault_.empty()) return fault_;
    return std::move(request_);
  }

 private:
  void ReadRequest() {
    const std::string json = Read(o_.request_file);
    if (!fault_.empty()) return;
    const auto status = google::protobuf::util::JsonStringToMessage(json, &request_);
    if (status.ok()) return;
    fault_ = o_.request_file + ": not a GenerateRequest as JSON: " +
             std::string(status.message().data(), status.message().size());
  }

  void AddMessages() {
    if (!o_.system.empty()) {
      AddMessage("system", o_.system);
      auto& messages = *request_.mutable_messages();
      for (int i = messages.size() - 1; i > 0; --i) messages.SwapElements(i, i - 1);
    }
    if (!o_.question) return;
    AddMessage("user", *o_.question == "-" ? ReadQuestion() : *o_.question);
  }

  void AddMessage(const std::string& role, const std::string& content) {
    v1::Message& message = *request_.add_messages();
    message.set_role(role);
    message.set_content(content);
  }

  void SetSampling() {
    if (o_.max_output_tokens) request_.set_max_output_tokens(*o_.max_output_tokens);
    if (o_.temperature) request_.set_temperature(*o_.temperature);
  }

  void SetFormat() {
    if (o_.json_object) {
      request_.mutable_response_format()->set_kind(v1::ResponseFormat::KIND_JSON_OBJECT);
    }
    if (o_.json_schema_file.empty()) return;
    request_.mutable_response_format()->set_kind(v1::ResponseFormat::KIND_JSON_SCHEMA);
    request_.mutable_response_format()->set_json_schema(Read(o_.json_schema_file));
  }

  void SetCache() {
    if (o_.cache != v1::CacheControl::MODE_UNSPECIFIED) {
      request_.mutable_cache()->set_mode(o_.cache);
    }
    if (o_.min_similarity) request_.mutable_cache()->set_min_similarity(*o_.min_similarity);
    if (o_.max_age) *request_.mutable_cache()->mutable_max_age() = ToProto(*o_.max_age);
    if (o_.no_store) request_.mutable_cache()->set_no_store(true);
  }

  void SetRest() {
    if (!o_.route.empty()) request_.set_route(o_.route);
    if (!o_.request_id.empty()) request_.set_request_id(o_.request_id);
    if (o_.max_cost) request_.set_max_cost_usd(*o_.max_cost);
    if (o_.worst_acceptable != v1::DEGRADATION_UNSPECIFIED) {
      request_.set_worst_acceptable(o_.worst_acceptable);
    }
    if (o_.on_break != v1::ON_BREAK_UNSPECIFIED) {
      request_.mutable_stream()->set_on_break(o_.on_break);
    }
    for (const auto& [key, value] : o_.labels) (*request_.mutable_labels())[key] = value;
  }

  // Less the line feed that `echo` adds.
  std::string ReadQuestion() {
    std::string text = Read("-");
    if (!text.empty() && text.back() == '\n') text.pop_back();
    if (!text.empty() && text.back() == '\r') text.pop_back();
    return text;
  }

  std::string Read(const std::string& path) {
    std::ifstream file;
    if (path != "-") file.open(path, std::ios::binary);
    std::istream& stream = path == "-" ? input_ : file;
    if (!stream) return Fail(path + ": " + std::strerror(errno));
    std::string text = ReadAll(stream);
    if (stream.bad()) return Fail(path + ": cannot be read");
    if (!IsValidUtf8(text)) return Fail((path == "-" ? "standard input" : path) + ": not UTF-8");
    return text;
  }

  std::string Fail(std::string fault) {
    if (fault_.empty()) fault_ = std::move(fault);
    return "";
  }

  const GenerateOptions& o_;
  std::istream& input_;
  v1::GenerateRequest request_;
  std::string fault_;
};

}  // namespace

std::variant<v1::GenerateRequest, std::string> BuildRequest(const GenerateOptions& options,
                                                            std::istream& input) {
  return Builder(options, input).Build();
}

}  // namespace holdfast::ctl
