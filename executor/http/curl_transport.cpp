// SPDX-License-Identifier: Apache-2.0
#include "executor/http/curl_transport.hpp"

#include <curl/curl.h>

#include <string.h>

#include <algorithm>
#include <cctype>
#include <cstring>

namespace slipway::http {

namespace {

constexpr std::size_t kMaxHeaderBytes = 64UL << 10;
constexpr std::size_t kFirstReserve = 64UL << 10; // tokens then never move and leave copies behind

/// A curl header list whose lines are overwritten before they are freed.
class HeaderList {
public:
  HeaderList() = default;
  HeaderList(const HeaderList&) = delete;
  HeaderList& operator=(const HeaderList&) = delete;
  ~HeaderList() {
    for (curl_slist* node = head_; node != nullptr; node = node->next) {
      ::explicit_bzero(node->data, std::strlen(node->data));
    }
    curl_slist_free_all(head_);
  }
  void add(const char* line) { head_ = curl_slist_append(head_, line); }
  curl_slist* get() const { return head_; }

private:
  curl_slist* head_ = nullptr;
};

/// What the callbacks of one exchange share.
struct Exchange {
  const Request* request = nullptr;
  const std::function<bool()>* cancelled = nullptr;
  CURL* easy = nullptr;
  Response response;
  std::size_t header_bytes = 0;
  std::uint64_t sent = 0;
  std::optional<Error> failure;
};

std::size_t on_header(char* bytes, std::size_t one, std::size_t count, void* opaque) {
  auto& exchange = *static_cast<Exchange*>(opaque);
  const std::size_t size = one * count;
  exchange.header_bytes += size;
  if (exchange.header_bytes > kMaxHeaderBytes) {
    exchange.failure = Error{ErrorKind::bad_input, "response headers above 64 KiB", "", {}};
    return 0;
  }
  const std::string_view line{bytes, size};
  if (line.substr(0, 5) == "HTTP/") { // a new response begins (100 Continue before it)
    exchange.response.headers.clear();
    return size;
  }
  const auto colon = line.find(':');
  if (colon == std::string_view::npos) return size;
  std::string name{line.substr(0, colon)};
  std::transform(name.begin(), name.end(), name.begin(),
                 [](unsigned char c) { return static_cast<char>(std::tolower(c)); });
  const auto first = line.find_first_not_of(" \t\r\n", colon + 1);
  const auto last = line.find_last_not_of(" \t\r\n");
  if (first != std::string_view::npos && last >= first) {
    exchange.response.headers.emplace(std::move(name), line.substr(first, last - first + 1));
  }
  return size;
}

std::size_t on_body(char* bytes, std::size_t one, std::size_t count, void* opaque) {
  auto& exchange = *static_cast<Exchange*>(opaque);
  const std::size_t size = one * count;
  long status = 0;
  curl_easy_getinfo(exchange.easy, CURLINFO_RESPONSE_CODE, &status);
  if (exchange.request->sink && (status == 200 || status == 206)) {
    if (exchange.response.status == 0 && exchange.request->on_status) {
      exchange.request->on_status(static_cast<int>(status));
    }
    exchange.response.status = static_cast<int>(status);
    auto taken = exchange.request->sink({bytes, size});
    if (taken) return size;
    exchange.failure = std::move(taken).error();
    return 0;
  }
  auto& body = exchange.response.body;
  if (body.size() + size > exchange.request->response_limit) {
    exchange.failure = Error{ErrorKind::bad_input,
                             "response above its limit of " +
                                 std::to_string(exchange.request->response_limit) + " bytes",
                             "",
                             {}};
    return 0;
  }
  if (body.capacity() < kFirstReserve) body.reserve(kFirstReserve);
  body.append(bytes, size);
  return size;
}

std::size_t on_read(char* buffer, std::size_t one, std::size_t count, void* opaque) {
  auto& exchange = *static_cast<Exchange*>(opaque);
  const auto& stream = *exchange.request->stream;
  const std::size_t capacity =
      static_cast<std::size_t>(std::min<std::uint64_t>(one * count, stream.size - exchange.sent));
  if (capacity == 0) return 0;
  auto got = stream.read(buffer, capacity);
  if (got && *got > 0) {
    exchange.sent += *got;
    return *got;
  }
  exchange.failure = got ? Error{ErrorKind::bad_input, "request body ended early", "", {}}
                         : std::move(got).error();
  return CURL_READFUNC_ABORT;
}

int on_progress(void* opaque, curl_off_t, curl_off_t, curl_off_t, curl_off_t) {
  const auto& exchange = *static_cast<Exchange*>(opaque);
  if (exchange.request->even_if_cancelled) return 0;
  return *exchange.cancelled && (*exchange.cancelled)() ? 1 : 0;
}

Error curl_error(CURLcode code, const Request& request, const char* detail,
                 const CurlOptions& options) {
  const std::string& entry = options.entry;
  const std::string where = request.method + " " + request.url.display();
  std::string said = *detail != '\0' ? detail : curl_easy_strerror(code);
  // What libcurl cannot use it repeats, with user and password.
  constexpr std::string_view kTheProxy = "the proxy";
  for (auto at = said.find(options.proxy); !options.proxy.empty() && at != std::string::npos;
       at = said.find(options.proxy, at + kTheProxy.size()))
    said.replace(at, options.proxy.size(), kTheProxy);
  switch (code) {
  case CURLE_OPERATION_TIMEDOUT: {
    // curl reports connect timeouts, stalls and the deadline alike
    if (said.find("too slow") != std::string::npos ||
        said.find("onnection timed out") != std::string::npos ||
        said.find("Failed to connect") != std::string::npos) {
      return {ErrorKind::unavailable, where + ": " + said, "", {}};
    }
    return {ErrorKind::timed_out, where + ": " + said, "", {}};
  }
  case CURLE_COULDNT_RESOLVE_HOST:
    return {ErrorKind::unavailable,
            where + ": host name does not resolve",
            "check the host of the " + entry +
                " and this machine's DNS: /etc/hosts and DNS "
                "servers are asked, no local service (nscd, sssd, avahi)",
            {}};
  case CURLE_PEER_FAILED_VERIFICATION:
    return {ErrorKind::misconfigured,
            where + ": the server's certificate is not accepted: " + said,
            "if a private authority signed it, set ca_file in the " + entry +
                "; if the name does not match, use the name that the certificate carries",
            {}};
  case CURLE_SSL_CACERT_BADFILE:
    return {ErrorKind::misconfigured,
            where + ": the CA file cannot be used: " + said,
            "check ca_file in the " + entry + ": a readable PEM file",
            {}};
  case CURLE_SSL_CERTPROBLEM:
    return {ErrorKind::misconfigured,
            where + ": the client certificate cannot be used: " + said,
            "check client_cert_file and client_key_file in the " + entry + ": readable PEM files",
            {}};
  case CURLE_COULDNT_RESOLVE_PROXY:
    return {ErrorKind::misconfigured,
            where + ": the proxy's name does not resolve",
            "check proxy in the " + entry,
            {}};
  case CURLE_SSL_CONNECT_ERROR:
    return {
        ErrorKind::misconfigured,
        where + ": TLS failed: " + said,
        "it must speak TLS 1.2 or newer on this port; for one without TLS set plain_http in the " +
            entry,
        {}};
  case CURLE_UNSUPPORTED_PROTOCOL:
    return {ErrorKind::denied,
            where + ": plain http is not allowed here",
            "set plain_http in the " + entry + " if the operator accepts that",
            {}};
  default:
    return {ErrorKind::unavailable, where + ": " + said, "", {}};
  }
}

} // namespace

struct CurlTransport::State {
  CURL* easy = nullptr;
};

CurlTransport::CurlTransport(CurlOptions options)
    : options_{std::move(options)}, state_{std::make_unique<State>()} {
  static const CURLcode once = curl_global_init(CURL_GLOBAL_DEFAULT);
  (void)once;
  state_->easy = curl_easy_init();
}

CurlTransport::~CurlTransport() {
  if (state_->easy != nullptr) curl_easy_cleanup(state_->easy);
}

Result<Response> CurlTransport::send(const Request& request) {
  CURL* const easy = state_->easy;
  if (easy == nullptr)
    return Error{ErrorKind::internal, "libcurl could not be initialised", "", {}};
  curl_easy_reset(easy); // keeps connections, the DNS cache and TLS sessions

  char detail[CURL_ERROR_SIZE] = "";
  Exchange exchange;
  exchange.request = &request;
  exchange.cancelled = &options_.cancelled;
  exchange.easy = easy;

  const std::string url = request.url.str();
  curl_easy_setopt(easy, CURLOPT_URL, url.c_str());
  curl_easy_setopt(easy, CURLOPT_ERRORBUFFER, detail);
  curl_easy_setopt(easy, CURLOPT_NOSIGNAL, 1L);
  curl_easy_setopt(easy, CURLOPT_PROTOCOLS_STR, options_.plain_http ? "http,https" : "https");
  curl_easy_setopt(easy, CURLOPT_FOLLOWLOCATION, 0L);
  curl_easy_setopt(easy, CURLOPT_PROXY, options_.proxy.c_str());
  curl_easy_setopt(easy, CURLOPT_NETRC, static_cast<long>(CURL_NETRC_IGNORED));
  curl_easy_setopt(easy, CURLOPT_HTTP_VERSION, static_cast<long>(CURL_HTTP_VERSION_1_1));
  curl_easy_setopt(easy, CURLOPT_PATH_AS_IS, 1L);
  curl_easy_setopt(easy, CURLOPT_SSLVERSION, static_cast<long>(CURL_SSLVERSION_TLSv1_2));
  curl_easy_setopt(easy, CURLOPT_SSL_VERIFYPEER, 1L);
  curl_easy_setopt(easy, CURLOPT_SSL_VERIFYHOST, 2L);
  if (!options_.ca_file.empty()) {
    curl_easy_setopt(easy, CURLOPT_CAINFO, options_.ca_file.c_str());
    // Debian's libcurl has a default CApath, which would go on being trusted beside the file
    curl_easy_setopt(easy, CURLOPT_CAPATH, request.trust_system_cas ? "/etc/ssl/certs" : nullptr);
  }
  if (!options_.client_cert_file.empty()) {
    curl_easy_setopt(easy, CURLOPT_SSLCERT, options_.client_cert_file.c_str());
    if (!options_.client_key_file.empty())
      curl_easy_setopt(easy, CURLOPT_SSLKEY, options_.client_key_file.c_str());
  }
  curl_easy_setopt(easy, CURLOPT_CONNECTTIMEOUT_MS,
                   static_cast<long>(options_.connect_timeout.count()));
  curl_easy_setopt(easy, CURLOPT_TIMEOUT_MS, static_cast<long>(request.deadline.count()));
  curl_easy_setopt(easy, CURLOPT_LOW_SPEED_LIMIT, 1024L);
  curl_easy_setopt(easy, CURLOPT_LOW_SPEED_TIME, static_cast<long>(options_.stall_timeout.count()));
  curl_easy_setopt(easy, CURLOPT_BUFFERSIZE, 256L << 10);
  curl_easy_setopt(easy, CURLOPT_UPLOAD_BUFFERSIZE, 256L << 10);
  curl_easy_setopt(easy, CURLOPT_USERAGENT, "slipway/" SLIPWAY_VERSION);
  curl_easy_setopt(easy, CURLOPT_HEADERFUNCTION, on_header);
  curl_easy_setopt(easy, CURLOPT_HEADERDATA, &exchange);
  curl_easy_setopt(easy, CURLOPT_WRITEFUNCTION, on_body);
  curl_easy_setopt(easy, CURLOPT_WRITEDATA, &exchange);
  curl_easy_setopt(easy, CURLOPT_NOPROGRESS, 0L);
  curl_easy_setopt(easy, CURLOPT_XFERINFOFUNCTION, on_progress);
  curl_easy_setopt(easy, CURLOPT_XFERINFODATA, &exchange);

  if (request.metadata_service) { // no name that a certificate could be for
    curl_easy_setopt(easy, CURLOPT_PROTOCOLS_STR, "http");
    curl_easy_setopt(easy, CURLOPT_PROXY, "");
  }

  HeaderList headers;
  headers.add("Expect:"); // a 100-continue wait costs a second where servers do not know it
  for (const auto& [name, value] : request.headers)
    headers.add((name + ": " + value).c_str());
  if (!request.authorization.empty()) {
    std::string line;
    line.reserve(request.authorization.reveal().size() + 32);
    line.append("Authorization: ").append(request.authorization.reveal());
    headers.add(line.c_str());
    ::explicit_bzero(line.data(), line.size());
  }

  if (request.stream) {
    curl_easy_setopt(easy, CURLOPT_UPLOAD, 1L);
    curl_easy_setopt(easy, CURLOPT_READFUNCTION, on_read);
    curl_easy_setopt(easy, CURLOPT_READDATA, &exchange);
    curl_easy_setopt(easy, CURLOPT_INFILESIZE_LARGE, static_cast<curl_off_t>(request.stream->size));
  } else if (request.method == "POST" || request.method == "PUT" || request.method == "PATCH") {
    curl_easy_setopt(easy, CURLOPT_POST, 1L);
    curl_easy_setopt(easy, CURLOPT_POSTFIELDS, request.body.c_str());
    curl_easy_setopt(easy, CURLOPT_POSTFIELDSIZE_LARGE,
                     static_cast<curl_off_t>(request.body.size()));
    const bool typed = std::any_of(request.headers.begin(), request.headers.end(),
                                   [](const auto& h) { return h.first == "Content-Type"; });
    if (!typed) headers.add("Content-Type:");
  } else if (request.method == "HEAD") {
    curl_easy_setopt(easy, CURLOPT_NOBODY, 1L);
  }
  curl_easy_setopt(easy, CURLOPT_HTTPHEADER, headers.get());
  if (request.method != "HEAD") {
    curl_easy_setopt(easy, CURLOPT_CUSTOMREQUEST, request.method.c_str());
  }

  const CURLcode code = curl_easy_perform(easy);
  curl_easy_setopt(easy, CURLOPT_HTTPHEADER, nullptr);
  curl_easy_setopt(easy, CURLOPT_ERRORBUFFER, nullptr);
  if (exchange.failure) {
    return std::move(*exchange.failure).in(request.method + " " + request.url.display());
  }
  if (code == CURLE_ABORTED_BY_CALLBACK) {
    return Error{
        ErrorKind::timed_out, request.method + " " + request.url.display() + ": cancelled", "", {}};
  }
  long status = 0;
  curl_easy_getinfo(easy, CURLINFO_RESPONSE_CODE, &status);
  if (code != CURLE_OK) {
    // A server that refuses an upload may answer and close before it has read the body.
    const bool answered_early =
        request.stream && status >= 400 && (code == CURLE_SEND_ERROR || code == CURLE_RECV_ERROR);
    if (!answered_early) return curl_error(code, request, detail, options_);
  }
  exchange.response.status = static_cast<int>(status);
  return std::move(exchange.response);
}

} // namespace slipway::http
