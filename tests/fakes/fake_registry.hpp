// SPDX-License-Identifier: Apache-2.0
// A registry with its token server as a Transport: it keeps blobs, manifests, uploads and tokens,
// and misbehaves on demand. Paths and statuses as in the OCI distribution-spec.
#pragma once

#include "executor/http/transport.hpp"
#include "executor/oci/digest.hpp"

#include <algorithm>
#include <deque>
#include <functional>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <vector>

namespace slipway::fakes {

class FakeRegistry final : public http::Transport {
public:
  // what it is
  std::string host = "reg.example";
  std::string realm = "https://reg.example/token";
  bool anonymous = false; ///< answers everybody
  bool basic_only = false;
  long token_seconds = 300;
  std::set<std::string> good_tokens;
  // what it keeps
  std::map<std::string, std::string> blobs;                      ///< digest -> bytes
  std::map<std::string, std::set<std::string>> repository_blobs; ///< repository -> digests
  std::map<std::string, std::pair<std::string, std::string>>
      manifests;                              ///< repo:target -> type, bytes
  std::map<std::string, std::string> uploads; ///< id -> bytes
  // what it was asked
  struct Seen {
    std::string method;
    std::string url;
    std::string authorization;
    std::uint64_t body_size = 0;
  };
  std::vector<Seen> seen;
  // how it misbehaves
  /// Asked first; an answer here is given instead of the real one.
  std::function<std::optional<Result<http::Response>>(const http::Request&)> fault;
  /// Each PATCH or PUT with a body loses the wire after so many bytes, as often as there are
  /// entries.
  std::deque<std::uint64_t> cut_after;
  /// Blobs are served from there by redirect ("" = by itself).
  std::string storage_host;
  /// Each blob download loses the wire after so many bytes.
  std::deque<std::uint64_t> cut_download_after;
  bool ignores_range = false;
  bool forgets_uploads_at_cut = false;
  std::string location_host; ///< "" = relative Locations
  /// What it says of a manifest with a subject; "" = nothing, as before referrers were specified.
  std::string oci_subject;

  std::size_t count(const std::string& method, const std::string& part) const {
    return static_cast<std::size_t>(std::count_if(seen.begin(), seen.end(), [&](const Seen& one) {
      return one.method == method && one.url.find(part) != std::string::npos;
    }));
  }

  Result<http::Response> send(const http::Request& request) override {
    seen.push_back({request.method, request.url.str(), std::string{request.authorization.reveal()},
                    request.stream ? request.stream->size : request.body.size()});
    if (fault) {
      if (auto answer = fault(request)) return *std::move(answer);
    }
    if (!storage_host.empty() && request.url.authority == storage_host) {
      return give_blob(request, "sha256:" + request.url.target.substr(1));
    }
    const std::string path = request.url.target.substr(0, request.url.target.find('?'));
    if (request.url.str().rfind(realm, 0) == 0) return mint();
    if (!anonymous && !authorized(request)) return unauthorized();
    return answer(request, path);
  }

  static http::Response status(int code, std::multimap<std::string, std::string> headers = {},
                               std::string body = "") {
    http::Response response;
    response.status = code;
    response.headers = std::move(headers);
    response.body = std::move(body);
    return response;
  }
  static Error cut() {
    return Error{ErrorKind::unavailable, "connection reset by the fake", "", {}};
  }

  std::string query(const http::Request& request, const std::string& name) const {
    const auto at = request.url.target.find(name + "=");
    if (at == std::string::npos) return "";
    const auto from = at + name.size() + 1;
    std::string value = request.url.target.substr(from, request.url.target.find('&', from) - from);
    for (std::size_t i = value.find('%'); i != std::string::npos; i = value.find('%', i + 1)) {
      value.replace(i, 3, 1, static_cast<char>(std::stoi(value.substr(i + 1, 2), nullptr, 16)));
    }
    return value;
  }

private:
  bool authorized(const http::Request& request) const {
    const std::string value{request.authorization.reveal()};
    if (basic_only) return value == "Basic cHVzaGVyOm9wZW4tc2VzYW1l"; // pusher:open-sesame
    return value.rfind("Bearer ", 0) == 0 && good_tokens.count(value.substr(7)) != 0;
  }
  http::Response unauthorized() const {
    const std::string challenge =
        basic_only ? "Basic realm=\"reg\""
                   : "Bearer realm=\"" + realm + "\",service=\"reg\",scope=\"repository:evil:*\"";
    return status(401, {{"www-authenticate", challenge}},
                  R"({"errors":[{"code":"UNAUTHORIZED","message":"authentication required"}]})");
  }
  http::Response mint() {
    const std::string token = "token-" + std::to_string(++minted_);
    good_tokens.insert(token);
    return status(200, {},
                  "{\"token\":\"" + token + "\",\"expires_in\":" + std::to_string(token_seconds) +
                      "}");
  }

  Result<http::Response> give_blob(const http::Request& request, const std::string& digest) {
    const auto found = blobs.find(digest);
    if (found == blobs.end()) return status(404);
    std::size_t from = 0;
    for (const auto& [name, value] : request.headers) {
      if (name == "Range" && !ignores_range) from = std::stoul(value.substr(6));
    }
    const int code = from > 0 ? 206 : 200;
    std::string_view bytes = std::string_view{found->second}.substr(from);
    bool is_cut = false;
    if (!cut_download_after.empty()) {
      bytes = bytes.substr(0, cut_download_after.front());
      cut_download_after.pop_front();
      is_cut = true;
    }
    if (request.on_status) request.on_status(code);
    while (!bytes.empty()) {
      const auto piece = bytes.substr(0, 1000);
      if (auto taken = request.sink(piece); !taken) return std::move(taken).error();
      bytes.remove_prefix(piece.size());
    }
    if (is_cut) return cut();
    return status(code);
  }

  /// Reads the body into `into`, or the first part of it where the wire is cut.
  Status take_body(const http::Request& request, std::string& into) {
    if (!request.stream) {
      into += request.body;
      return {};
    }
    std::uint64_t limit = request.stream->size;
    bool is_cut = false;
    if (!cut_after.empty()) {
      limit = std::min(limit, cut_after.front());
      cut_after.pop_front();
      is_cut = true;
    }
    char buffer[4096];
    for (std::uint64_t left = limit; left > 0;) {
      auto got = request.stream->read(
          buffer, static_cast<std::size_t>(std::min<std::uint64_t>(left, sizeof buffer)));
      if (!got) return std::move(got).error();
      if (*got == 0) return Error{ErrorKind::bad_input, "request body ended early", "", {}};
      into.append(buffer, *got);
      left -= *got;
    }
    if (is_cut) return cut();
    return {};
  }

  std::string location(const std::string& path) const {
    return location_host.empty() ? path : "https://" + location_host + path;
  }

  Result<http::Response> answer(const http::Request& request, const std::string& path) {
    const auto& method = request.method;
    if (path == "/v2/") return status(200);
    const auto blob_at = path.find("/blobs/");
    const auto manifest_at = path.find("/manifests/");
    if (blob_at == std::string::npos && manifest_at == std::string::npos) return status(404);
    const std::string repository = path.substr(4, std::min(blob_at, manifest_at) - 4);
    if (manifest_at != std::string::npos)
      return manifest(request, repository, path.substr(manifest_at + 11));
    const std::string rest = path.substr(blob_at + 7);
    if (rest.rfind("uploads/", 0) == 0) return upload(request, path, repository, rest.substr(8));
    const bool here = repository_blobs[repository].count(rest) != 0;
    if (!here)
      return status(404, {}, R"({"errors":[{"code":"BLOB_UNKNOWN","message":"blob unknown"}]})");
    if (method == "HEAD")
      return status(200, {{"content-length", std::to_string(blobs[rest].size())}});
    if (!storage_host.empty())
      return status(307, {{"location", "https://" + storage_host + "/" + rest.substr(7)}});
    return give_blob(request, rest);
  }

  Result<http::Response> upload(const http::Request& request, const std::string& path,
                                const std::string& repository, const std::string& id) {
    const auto& method = request.method;
    if (method == "POST") {
      const auto mount = query(request, "mount");
      if (!mount.empty() && repository_blobs[query(request, "from")].count(mount) != 0) {
        repository_blobs[repository].insert(mount);
        return status(201);
      }
      const std::string made = "u" + std::to_string(++sessions_);
      uploads[made];
      return status(202, {{"location", location("/v2/" + repository + "/blobs/uploads/" + made +
                                                "?_state=x")}});
    }
    const auto found = uploads.find(id);
    if (found == uploads.end())
      return status(404, {},
                    R"({"errors":[{"code":"BLOB_UPLOAD_UNKNOWN","message":"upload unknown"}]})");
    auto& bytes = found->second;
    const auto headers = [&] {
      return std::multimap<std::string, std::string>{
          {"location", location(path + "?_state=y")},
          {"range", "0-" + std::to_string(bytes.empty() ? 0 : bytes.size() - 1)}};
    };
    if (method == "GET") return status(204, headers());
    if (method == "DELETE") {
      uploads.erase(found);
      return status(204);
    }
    if (method == "PATCH") {
      for (const auto& [name, value] : request.headers) {
        if (name == "Content-Range" && std::stoul(value) != bytes.size())
          return status(416, headers());
      }
    }
    if (auto taken = take_body(request, bytes); !taken) {
      if (forgets_uploads_at_cut) uploads.erase(found);
      return std::move(taken).error();
    }
    if (method == "PATCH") return status(202, headers());
    const auto digest = oci::Digest::of(bytes).str();
    if (digest != query(request, "digest"))
      return status(
          400, {},
          R"({"errors":[{"code":"DIGEST_INVALID","message":"provided digest did not match"}]})");
    repository_blobs[repository].insert(digest);
    blobs[digest] = std::move(bytes);
    uploads.erase(found);
    return status(201);
  }

  Result<http::Response> manifest(const http::Request& request, const std::string& repository,
                                  const std::string& target) {
    if (request.method == "PUT") {
      std::string type;
      for (const auto& [name, value] : request.headers) {
        if (name == "Content-Type") type = value;
      }
      const auto digest = oci::Digest::of(request.body).str();
      manifests[repository + ":" + target] =
          manifests[repository + ":" + digest] = {type, request.body};
      std::multimap<std::string, std::string> headers{{"docker-content-digest", digest}};
      if (!oci_subject.empty() && request.body.find("\"subject\":") != std::string::npos)
        headers.emplace("oci-subject", oci_subject);
      return status(201, std::move(headers));
    }
    const auto found = manifests.find(repository + ":" + target);
    if (found == manifests.end())
      return status(404, {},
                    R"({"errors":[{"code":"MANIFEST_UNKNOWN","message":"manifest unknown"}]})");
    const auto& [type, bytes] = found->second;
    return status(200,
                  {{"content-type", type}, {"docker-content-digest", oci::Digest::of(bytes).str()}},
                  request.method == "HEAD" ? "" : bytes);
  }

  int minted_ = 0;
  int sessions_ = 0;
};

} // namespace slipway::fakes
