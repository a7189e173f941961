#include "server/utf8_repair.h"

#include <algorithm>
#include <cstdint>
#include <map>

#include "google/protobuf/io/coded_stream.h"
#include "google/protobuf/wire_format_lite.h"
#include "server/text.h"

namespace holdfast::server {
namespace {

using google::protobuf::Descriptor;
using google::protobuf::FieldDescriptor;
using google::protobuf::internal::WireFormatLite;

constexpr size_t kMaxPaths = 100;

class Repair {
 public:
  explicit Repair(std::vector<std::string>& paths) : paths_(paths) {}

  // Walks the message that fills [data, data + size).
  bool Message(const Descriptor& type, char* data, int size, const std::string& path) {
    google::protobuf::io::CodedInputStream in(reinterpret_cast<const uint8_t*>(data), size);
    std::map<int, int> seen;  // occurrences by field number
    while (const uint32_t tag = in.ReadTag()) {
      const FieldDescriptor* field = type.FindFieldByNumber(WireFormatLite::GetTagFieldNumber(tag));
      if (field == nullptr ||
          WireFormatLite::GetTagWireType(tag) != WireFormatLite::WIRETYPE_LENGTH_DELIMITED) {
        if (!WireFormatLite::SkipField(&in, tag)) return false;
        continue;
      }
      uint32_t length = 0;
      if (!in.ReadVarint32(&length) || length > static_cast<uint32_t>(size)) return false;
      char* const begin = data + in.CurrentPosition();
      if (!in.Skip(static_cast<int>(length))) return false;
      std::string field_path = path + (path.empty() ? "" : ".") + field->name();
      if (field->is_repeated()) {
        field_path += "[" + std::to_string(seen[field->number()]++) + "]";
      }
      if (!Field(*field, begin, static_cast<int>(length), field_path)) return false;
    }
    return in.ConsumedEntireMessage();
  }

 private:
  bool Field(const FieldDescriptor& field, char* data, int size, const std::string& path) {
    if (field.type() == FieldDescriptor::TYPE_MESSAGE) {
      return Message(*field.message_type(), data, size, path);
    }
    if (field.type() != FieldDescriptor::TYPE_STRING) return true;
    const std::string_view text(data, static_cast<size_t>(size));
    if (IsUtf8(text)) return true;
    std::fill_n(data, size, '?');
    if (paths_.size() < kMaxPaths) paths_.push_back(path);
    return true;
  }

  std::vector<std::string>& paths_;
};

}  // namespace

std::optional<std::vector<std::string>> RepairUtf8(const Descriptor& type, std::string& bytes) {
  std::vector<std::string> paths;
  // The API's messages nest five deep, and no type contains itself, so recursion is bounded.
  if (!Repair(paths).Message(type, bytes.data(), static_cast<int>(bytes.size()), "")) return {};
  return paths;
}

}  // namespace holdfast::server
