#include "providers/http/curl_transfer.h"

#include <strings.h>
#include <sys/socket.h>

#include <algorithm>

#include "core/check.h"

namespace holdfast::providers {
namespace {

// The least libcurl takes: every request in flight to a TLS server holds one. The receive buffer
// stays at its default of 16 KiB, and must: curl_easy_reset restores the default size but keeps a
// smaller buffer that an early failure has left behind, and libcurl 7.88 then writes past its end.
constexpr long kSendBuffer = 16 << 10;
constexpr long kConnectLimitMillis = 300'000;

template <typename Value>
void Set(CURL* easy, CURLoption option, Value value) {
  HOLDFAST_CHECK(curl_easy_setopt(easy, option, value) == CURLE_OK);
}

std::string_view Trim(std::string_view s) {
  constexpr std::string_view kSpace = " \t\r\n";
  const size_t first = s.find_first_not_of(kSpace);
  if (first == std::string_view::npos) return {};
  return s.substr(first, s.find_last_not_of(kSpace) - first + 1);
}

bool HasLineBreak(std::string_view s) {
  return s.find_first_of(std::string_view("\r\n\0", 3)) != std::string_view::npos;
}

// Without a CA directory libcurl keeps the parsed CA file for all connections of a multi handle;
// with one it parses it anew for each, which costs milliseconds. And a directory would add the
// system's CAs to the ones of `ca_file`.
bool SystemHasCaFile() {
  static const bool has = curl_version_info(CURLVERSION_NOW)->cainfo != nullptr;
  return has;
}

// Something answered, and it was not HTTP: no sign of a connection that had gone stale.
bool Unreadable(CURLcode code) {
  return code == CURLE_UNSUPPORTED_PROTOCOL || code == CURLE_WEIRD_SERVER_REPLY;
}

// Without a proxy libcurl's own words for these name hosts, addresses and system errors only, never
// the URL, its query or a header. With one they may quote its URL, password included.
bool DetailIsSafe(CURLcode code) {
  switch (code) {
    case CURLE_COULDNT_RESOLVE_HOST:
    case CURLE_COULDNT_CONNECT:
    case CURLE_SSL_CONNECT_ERROR:
    case CURLE_PEER_FAILED_VERIFICATION:
    case CURLE_PARTIAL_FILE:
    case CURLE_SEND_ERROR:
    case CURLE_RECV_ERROR:
    case CURLE_GOT_NOTHING:
      return true;
    default:
      return false;
  }
}

}  // namespace

CurlHeaderList::CurlHeaderList(const HttpRequest& request) {
  size_t bytes = 64;
  bool has_content_type = false;
  for (const auto& [name, value] : request.headers) bytes += name.size() + value.size() + 3;
  lines_.reserve(bytes);
  nodes_.reserve(request.headers.size() + 2);
  for (const auto& [name, value] : request.headers) {
    has_content_type |= strcasecmp(name.c_str(), "content-type") == 0;
    if (value.empty()) {
      Add(name, ";");  // an empty value; "name:" would remove the header
    } else {
      Add(name, ": ", value);
    }
  }
  // Names without a value take away what libcurl would add.
  Add("Expect:");
  if (!has_content_type) Add("Content-Type:");
  for (size_t i = 0; i + 1 < nodes_.size(); ++i) nodes_[i].next = &nodes_[i + 1];
}

void CurlHeaderList::Add(std::string_view a, std::string_view b, std::string_view c) {
  const size_t size = a.size() + b.size() + c.size() + 1;
  HOLDFAST_CHECK(lines_.size() + size <= lines_.capacity());  // the nodes point into it
  nodes_.push_back({lines_.data() + lines_.size(), nullptr});
  lines_.append(a).append(b).append(c).push_back('\0');
}

bool CurlHeaderList::Valid(const HttpRequest& request) {
  return std::none_of(request.headers.begin(), request.headers.end(), [](const auto& header) {
    return header.first.empty() || header.first.find_first_of(":; ") != std::string::npos ||
           HasLineBreak(header.first) || HasLineBreak(header.second);
  });
}

CurlTransfer::CurlTransfer(core::Loop& loop, const HttpRequest& request, HttpSink& sink)
    : request_(request), sink_(sink), done_(loop), header_list_(request) {}

void CurlTransfer::Configure(CURL* easy) {
  Set(easy, CURLOPT_PROTOCOLS_STR, "http,https");
  // HTTP/2 streams cannot be paused in libcurl 7.88 without hanging.
  Set(easy, CURLOPT_HTTP_VERSION, static_cast<long>(CURL_HTTP_VERSION_1_1));
  Set(easy, CURLOPT_FOLLOWLOCATION, 0L);
  Set(easy, CURLOPT_NOSIGNAL, 1L);
  // Without it, ending a request waits for its DNS lookup and the whole loop stands still.
  Set(easy, CURLOPT_QUICK_EXIT, 1L);
  Set(easy, CURLOPT_CONNECTTIMEOUT_MS, kConnectLimitMillis);
  Set(easy, CURLOPT_TCP_NODELAY, 1L);
  Set(easy, CURLOPT_UPLOAD_BUFFERSIZE, kSendBuffer);
  Set(easy, CURLOPT_NOPROXY, "");
  Set(easy, CURLOPT_SUPPRESS_CONNECT_HEADERS, 1L);
  Set(easy, CURLOPT_SSL_VERIFYPEER, 1L);
  Set(easy, CURLOPT_SSL_VERIFYHOST, 2L);
  Set(
      easy, CURLOPT_OPENSOCKETFUNCTION,
      +[](void* self, curlsocktype, curl_sockaddr* address) -> curl_socket_t {
        return static_cast<CurlTransfer*>(self)->OnOpenSocket(*address);
      });
  Set(
      easy, CURLOPT_PREREQFUNCTION, +[](void* self, char*, char*, int, int) -> int {
        return static_cast<CurlTransfer*>(self)->OnSend();
      });
  Set(
      easy, CURLOPT_HEADERFUNCTION, +[](char* data, size_t, size_t size, void* self) -> size_t {
        return static_cast<CurlTransfer*>(self)->OnHeaderLine({data, size});
      });
  Set(
      easy, CURLOPT_WRITEFUNCTION, +[](char* data, size_t, size_t size, void* self) -> size_t {
        return static_cast<CurlTransfer*>(self)->OnBody({data, size});
      });
}

void CurlTransfer::Prepare(CURL* handle) {
  easy = handle;
  Set(easy, CURLOPT_PRIVATE, this);
  Set(easy, CURLOPT_ERRORBUFFER, error_);
  Set(easy, CURLOPT_OPENSOCKETDATA, this);
  Set(easy, CURLOPT_PREREQDATA, this);
  Set(easy, CURLOPT_HEADERDATA, this);
  Set(easy, CURLOPT_WRITEDATA, this);
  Set(easy, CURLOPT_URL, request_.url.c_str());
  Set(easy, CURLOPT_HTTPHEADER, header_list_.get());
  // Set even when empty: unset means the environment's.
  Set(easy, CURLOPT_PROXY, request_.proxy.c_str());
  SetMethodAndBody();
  SetCa();
}

bool CurlTransfer::Reusable() const {
  return request_.method == "POST" && request_.ca_file.empty();
}

void CurlTransfer::SetMethodAndBody() {
  // The handle may have posted before, and would do so again, with a body that is gone.
  if (request_.method != "POST") Set(easy, CURLOPT_HTTPGET, 1L);
  if (request_.method == "HEAD") {
    Set(easy, CURLOPT_NOBODY, 1L);
    return;
  }
  if (request_.method == "GET" && request_.body.empty()) return;
  Set(easy, CURLOPT_POST, 1L);
  Set(easy, CURLOPT_POSTFIELDSIZE_LARGE, static_cast<curl_off_t>(request_.body.size()));
  Set(easy, CURLOPT_POSTFIELDS, request_.body.data());
  if (request_.method != "POST") Set(easy, CURLOPT_CUSTOMREQUEST, request_.method.c_str());
}

void CurlTransfer::SetCa() {
  if (!request_.ca_file.empty()) Set(easy, CURLOPT_CAINFO, request_.ca_file.c_str());
  if (!request_.ca_file.empty() || SystemHasCaFile()) {
    Set(easy, CURLOPT_CAPATH, static_cast<const char*>(nullptr));
  }
}

curl_socket_t CurlTransfer::OnOpenSocket(const curl_sockaddr& address) {
  // A new connection after the request has been sent could only be for sending it again.
  if (sends_ > 0 || cancelled_) return CURL_SOCKET_BAD;
  opened_ = true;
  return socket(address.family, address.socktype | SOCK_CLOEXEC, address.protocol);
}

int CurlTransfer::OnSend() {
  if (cancelled_ || ++sends_ > 1) return CURL_PREREQFUNC_ABORT;
  sink_.OnConnected();
  return cancelled_ ? CURL_PREREQFUNC_ABORT : CURL_PREREQFUNC_OK;
}

size_t CurlTransfer::OnHeaderLine(std::string_view line) {
  if (cancelled_) return kAbort;
  header_bytes_ += line.size();
  if (header_bytes_ > kMaxHeaderBytes) {
    too_large_ = true;
    return kAbort;
  }
  if (headers_done_) return line.size();  // a trailer
  if (status_line_next_) {
    status_line_next_ = false;
    return line.size();
  }
  const std::string_view text = Trim(line);
  if (text.empty()) return OnHeadersEnd(line.size());
  if (line.front() == ' ' || line.front() == '\t') {
    headers_.Continue(text);
    return line.size();
  }
  const size_t colon = text.find(':');
  if (colon == 0 || colon == std::string_view::npos) return line.size();
  headers_.Add(Trim(text.substr(0, colon)), Trim(text.substr(colon + 1)));
  return line.size();
}

size_t CurlTransfer::OnHeadersEnd(size_t handled) {
  long status = 0;
  curl_easy_getinfo(easy, CURLINFO_RESPONSE_CODE, &status);
  if (status < 200) {  // interim: the response is still to come
    status_line_next_ = true;
    headers_.Clear();
    return handled;
  }
  headers_done_ = true;
  sink_.OnHeaders(static_cast<int>(status), headers_);
  return cancelled_ ? kAbort : handled;
}

size_t CurlTransfer::OnBody(std::string_view bytes) {
  if (cancelled_) return kAbort;
  if (request_.valve != nullptr && !request_.valve->open()) {
    paused_ = true;
    return CURL_WRITEFUNC_PAUSE;  // the same bytes come again
  }
  if (bytes.size() > request_.max_response_bytes - body_bytes_) {
    too_large_ = true;
    return kAbort;
  }
  body_bytes_ += bytes.size();
  sink_.OnBody(bytes);
  return cancelled_ ? kAbort : bytes.size();
}

HttpEnd CurlTransfer::EndOf(CURLcode code) const {
  const HttpEnd::Kind kind = KindOf(code);
  return {kind, TextOf(kind, code), reused()};
}

HttpEnd::Kind CurlTransfer::KindOf(CURLcode code) const {
  if (cancelled_) return HttpEnd::Kind::kCancelled;
  // Out of memory is what libcurl 7.88 says to a single header line over its own limit of 100 KiB.
  if (too_large_ || (code == CURLE_OUT_OF_MEMORY && sends_ > 0)) return HttpEnd::Kind::kTooLarge;
  if (headers_done_) return code == CURLE_OK ? HttpEnd::Kind::kComplete : HttpEnd::Kind::kCut;
  if (reused() && header_bytes_ == 0 && !Unreadable(code)) return HttpEnd::Kind::kPooledReset;
  return HttpEnd::Kind::kConnect;
}

std::string CurlTransfer::TextOf(HttpEnd::Kind kind, CURLcode code) const {
  switch (kind) {
    case HttpEnd::Kind::kComplete:
      return {};
    case HttpEnd::Kind::kCancelled:
      return "cancelled";
    case HttpEnd::Kind::kTooLarge:
      return "the response is over the size limit";
    case HttpEnd::Kind::kPooledReset:
      return "the kept connection was closed before any response";
    case HttpEnd::Kind::kConnect:
    case HttpEnd::Kind::kCut:
      break;
  }
  const bool detailed = request_.proxy.empty() && DetailIsSafe(code) && error_[0] != '\0';
  return detailed ? error_ : curl_easy_strerror(code);
}

}  // namespace holdfast::providers
