#include "tools/holdfastctl/cache_move.h"

#include <fcntl.h>
#include <google/protobuf/util/json_util.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <memory>
#include <optional>
#include <thread>
#include <utility>

#include "core/clock.h"
#include "holdfast/v1/admin.grpc.pb.h"
#include "tools/holdfastctl/connection.h"
#include "tools/holdfastctl/json_lines.h"
#include "tools/holdfastctl/progress.h"
#include "tools/holdfastctl/terminal_text.h"

namespace holdfast::ctl {
namespace {

namespace fs = std::filesystem;

constexpr int kEntriesAtOnce = 100;
constexpr size_t kBytesAtOnce = 512 << 10;
constexpr size_t kMostBytes = 3 << 20;  // of a call
constexpr std::chrono::seconds kCallTimeout{60};
constexpr int kTries = 20;  // while the server is busy, or starts again
constexpr std::chrono::milliseconds kBetweenTries{250};

// One connection for many calls.
class Caller {
 public:
  explicit Caller(const std::string& address) : connection_(address, std::nullopt) {}

  std::optional<CallError> Connect() {
    if (auto error = connection_.Connect()) return error;
    stub_ = v1::AdminService::NewStub(connection_.channel());
    return std::nullopt;
  }

  template <typename Request, typename Response>
  std::optional<CallError> Call(grpc::Status (v1::AdminService::Stub::*method)(grpc::ClientContext*,
                                                                               const Request&,
                                                                               Response*),
                                const Request& request, Response& response) {
    for (int tries = 1;; ++tries) {
      grpc::ClientContext context;
      context.set_deadline(std::chrono::system_clock::now() + kCallTimeout);
      response.Clear();
      const grpc::Status status = ((*stub_).*method)(&context, request, &response);
      if (status.ok()) return std::nullopt;
      if (status.error_code() != grpc::UNAVAILABLE || tries == kTries) return DecodeStatus(status);
      std::this_thread::sleep_for(kBetweenTries);
    }
  }

 private:
  Connection connection_;
  std::unique_ptr<v1::AdminService::Stub> stub_;
};

CallError FileError(const std::string& path) {
  return UsageError(path + ": " + std::strerror(errno));
}

bool IsBlank(const std::string& line) {
  return line.find_first_not_of(" \t\r") == std::string::npos;
}

// The entry in a line, or what is wrong with it.
std::variant<v1::CacheEntry, std::string> ParseEntry(const std::string& line,
                                                     const CacheImportOptions& options) {
  if (!IsValidUtf8(line)) return "not UTF-8";
  v1::CacheEntry entry;
  const auto status = google::protobuf::util::JsonStringToMessage(line, &entry);
  if (!status.ok()) {
    return "not an entry: " + std::string(status.message().data(), status.message().size());
  }
  if (entry.tenant().empty()) entry.set_tenant(options.tenant);
  if (entry.route().empty()) entry.set_route(options.route);
  if (options.pinned) entry.set_pinned(true);
  if (entry.ByteSizeLong() > kMostBytes) return "longer than 3 MiB";
  return entry;
}

class Import {
 public:
  Import(const std::string& admin, const CacheImportOptions& options, Console& console)
      : options_(options),
        console_(console),
        lines_(options.path, console.in),
        caller_(admin),
        progress_(clock_, console.err, console.err_is_terminal, "importing", lines_.size()) {}

  std::variant<ImportReport, CallError> Run() {
    if (!lines_.fault().empty()) return UsageError(lines_.fault());
    if (auto error = caller_.Connect()) return *std::move(error);
    while (const auto line = lines_.Next()) {
      if (!IsBlank(*line)) Take(*line);
      if (batch_.entries_size() == kEntriesAtOnce || bytes_ >= kBytesAtOnce) Send();
      if (error_) return *std::move(error_);
      // Without a size, lines are counted.
      progress_.Add(lines_.size() > 0 ? line->size() + 1 : 1);
    }
    if (batch_.entries_size() > 0) Send();
    progress_.Clear();
    if (error_) return *std::move(error_);
    if (!lines_.fault().empty()) return UsageError(lines_.fault());
    std::sort(report_.bad_lines.begin(), report_.bad_lines.end());
    return std::move(report_);
  }

 private:
  void Take(const std::string& line) {
    auto parsed = ParseEntry(line, options_);
    if (const auto* fault = std::get_if<std::string>(&parsed)) return Bad(lines_.number(), *fault);
    auto& entry = std::get<v1::CacheEntry>(parsed);
    const size_t size = entry.ByteSizeLong();
    if (bytes_ + size > kMostBytes) Send();
    bytes_ += size;
    *batch_.add_entries() = std::move(entry);
    numbers_.push_back(lines_.number());
  }

  void Send() {
    if (error_) return;
    v1::ImportCacheResponse response;
    error_ = caller_.Call(&v1::AdminService::Stub::ImportCache, batch_, response);
    if (error_) {
      progress_.Clear();
      error_->message +=
          "; up to line " + std::to_string(numbers_.front() - 1) + " all was imported";
      return;
    }
    report_.stored += response.stored();
    report_.kept += response.kept();
    report_.too_old += response.too_old();
    for (const v1::ImportFault& fault : response.faults()) {
      const size_t index = static_cast<size_t>(std::max(0, fault.index()));
      if (index >= numbers_.size()) continue;
      Bad(numbers_[index], (fault.field().empty() ? "" : fault.field() + " ") + fault.reason());
    }
    batch_.Clear();
    numbers_.clear();
    bytes_ = 0;
  }

  void Bad(size_t number, const std::string& reason) {
    progress_.Clear();
    console_.err << "line " << number << ": " << EscapeLine(reason) << "\n";
    report_.bad_lines.emplace_back(number, reason);
  }

  const CacheImportOptions& options_;
  Console& console_;
  const core::SystemClock clock_;
  JsonLines lines_;
  Caller caller_;
  Progress progress_;
  v1::ImportCacheRequest batch_;
  std::vector<size_t> numbers_;  // of the batch's lines
  size_t bytes_ = 0;
  ImportReport report_;
  std::optional<CallError> error_;
};

// Where an export goes: standard output, or a file that gets its name when it is whole.
class Sink {
 public:
  Sink(std::string path, std::ostream& out)
      : path_(std::move(path)), part_(path_ + ".part"), out_(path_ == "-" ? out : file_) {}
  ~Sink() {
    if (opened_ && !finished_) unlink(part_.c_str());
  }

  std::optional<CallError> Open() {
    if (path_ == "-") return std::nullopt;
    // Made here, since a stream cannot say for whose eyes.
    const int fd = open(part_.c_str(), O_CREAT | O_TRUNC | O_WRONLY | O_CLOEXEC, S_IRUSR | S_IWUSR);
    if (fd < 0) return FileError(part_);
    close(fd);
    opened_ = true;
    file_.open(part_, std::ios::binary);
    if (!file_) return FileError(part_);
    return std::nullopt;
  }

  std::ostream& out() { return out_; }

  std::optional<CallError> Finish() {
    out_.flush();
    if (!out_)
      return UsageError((path_ == "-" ? "standard output" : part_) + ": cannot be written");
    if (path_ == "-") return std::nullopt;
    file_.close();
    if (std::rename(part_.c_str(), path_.c_str()) != 0) return FileError(path_);
    finished_ = true;
    return std::nullopt;
  }

 private:
  const std::string path_;
  const std::string part_;
  std::ofstream file_;
  std::ostream& out_;
  bool opened_ = false;
  bool finished_ = false;
};

std::string Line(const v1::CacheEntry& entry) {
  google::protobuf::util::JsonPrintOptions options;
  options.preserve_proto_field_names = true;
  std::string text;
  if (!google::protobuf::util::MessageToJsonString(entry, &text, options).ok()) return "";
  return EscapeJson(text) + "\n";
}

}  // namespace

std::variant<ImportReport, CallError> RunImport(const std::string& admin,
                                                const CacheImportOptions& options,
                                                Console& console) {
  return Import(admin, options, console).Run();
}

std::variant<uint64_t, CallError> RunExport(const std::string& admin,
                                            const CacheExportOptions& options, Console& console) {
  Caller caller(admin);
  if (auto error = caller.Connect()) return *std::move(error);
  Sink sink(options.path, console.out);
  if (auto error = sink.Open()) return *std::move(error);
  const core::SystemClock clock;
  const bool visible = console.err_is_terminal && !(options.path == "-" && console.out_is_terminal);
  std::optional<Progress> progress;
  v1::ExportCacheRequest request = options.request;
  uint64_t count = 0;
  do {
    v1::ExportCacheResponse page;
    if (auto error = caller.Call(&v1::AdminService::Stub::ExportCache, request, page)) {
      return *std::move(error);
    }
    if (!progress) progress.emplace(clock, console.err, visible, "exporting", page.total());
    for (const v1::CacheEntry& entry : page.entries()) sink.out() << Line(entry);
    if (!sink.out()) break;
    count += static_cast<uint64_t>(page.entries_size());
    progress->Add(static_cast<uint64_t>(page.entries_size()));
    request.set_page_token(page.next_page_token());
  } while (!request.page_token().empty());
  progress->Clear();
  if (auto error = sink.Finish()) return *std::move(error);
  return count;
}

}  // namespace holdfast::ctl
