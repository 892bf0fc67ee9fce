// SPDX-License-Identifier: Apache-2.0
// A broker that keeps images in memory, over a real unix socket: enough of the Engine API for the
// shim.
#pragma once

#include "executor/base/unique_fd.hpp"

#include <nlohmann/json.hpp>

#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <filesystem>
#include <functional>
#include <map>
#include <mutex>
#include <set>
#include <string>
#include <thread>
#include <vector>

namespace slipway::shim {

class FakeBroker {
public:
  using Json = nlohmann::json;
  struct Seen {
    std::string method;
    std::string path; ///< decoded, without the query
    std::multimap<std::string, std::string> query;
    std::string content_type;
    std::string body;
    std::string first(const std::string& key) const {
      const auto found = query.find(key);
      return found == query.end() ? "" : found->second;
    }
  };
  struct Image {
    std::vector<std::string> tags;
    std::vector<std::string> repo_digests;
    std::map<std::string, std::string> labels;
  };

  FakeBroker() {
    char name[] = "/tmp/slipway-fake-broker-XXXXXX";
    dir_ = ::mkdtemp(name);
    socket_ = dir_ + "/docker.sock";
    sockaddr_un address{};
    address.sun_family = AF_UNIX;
    ::memcpy(address.sun_path, socket_.c_str(), socket_.size() + 1);
    listener_ = UniqueFd{::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0)};
    if (::bind(listener_.get(), reinterpret_cast<sockaddr*>(&address), sizeof address) != 0 ||
        ::listen(listener_.get(), 8) != 0)
      ::abort();
    thread_ = std::thread{[this] { serve(); }};
  }
  ~FakeBroker() {
    stop_ = true;
    thread_.join();
    std::filesystem::remove_all(dir_);
  }
  FakeBroker(const FakeBroker&) = delete;
  FakeBroker& operator=(const FakeBroker&) = delete;

  const std::string& socket() const { return socket_; }
  const std::string& dir() const { return dir_; }
  std::vector<Seen> seen() const {
    const std::lock_guard lock{mutex_};
    return seen_;
  }
  Seen last() const { return seen().back(); }

  // State, set before the call under test.
  std::map<std::string, Image> images;        ///< by image ID
  std::map<std::string, std::string> pushed;  ///< "reg/app:1" -> digest
  std::string build_error;                    ///< builds fail with it
  std::map<std::string, std::string> reports; ///< file name -> text; of every image
  std::string push_error;                     ///< pushes are refused with it
  std::map<std::string, std::string> lists;   ///< "reg/app:1" -> JSON of the job's index
  std::map<std::string, std::string> remote;  ///< "reg/app:1" -> what the registry has, JSON
  std::string raw_answer;                     ///< sent as is, instead of anything else
  bool refuse_before_body = false;            ///< answers 413 without reading the body
  bool head_alone = false;                    ///< an answer's body comes a while after its header
  std::map<std::string, std::string> files;   ///< of the container "c1": path -> tar
  std::set<std::string> engine;               ///< "/containers/c1", "/networks/n1": what is there

  std::map<std::string, std::string> answers; ///< "POST /path" -> the answer, sent as is

  std::string image_files;            ///< of every image: a tar
  std::vector<std::string> platforms; ///< that steps run for; empty: not known

  static std::string json_answer(const std::string& body) {
    return "HTTP/1.1 200 OK\r\nContent-Length: " + std::to_string(body.size()) +
           "\r\nConnection: close\r\n\r\n" + body;
  }

  static std::string id(char c) { return "sha256:" + std::string(64, c); }

private:
  void serve() {
    while (!stop_) {
      pollfd one{listener_.get(), POLLIN, 0};
      if (::poll(&one, 1, 20) <= 0) continue;
      const UniqueFd client{::accept4(listener_.get(), nullptr, nullptr, SOCK_CLOEXEC)};
      if (client) handle(client.get());
    }
  }

  static void send_all(int fd, std::string_view bytes) {
    while (!bytes.empty()) {
      const auto sent = ::send(fd, bytes.data(), bytes.size(), MSG_NOSIGNAL);
      if (sent <= 0) return;
      bytes.remove_prefix(static_cast<std::size_t>(sent));
    }
  }

  static bool more(int fd, std::string& buffer) {
    char bytes[65536];
    const auto got = ::recv(fd, bytes, sizeof bytes, 0);
    if (got <= 0) return false;
    buffer.append(bytes, static_cast<std::size_t>(got));
    return true;
  }

  static std::string decoded(const std::string& text) {
    std::string out;
    for (std::size_t i = 0; i < text.size(); ++i) {
      if (text[i] == '%' && i + 2 < text.size()) {
        out += static_cast<char>(std::stoi(text.substr(i + 1, 2), nullptr, 16));
        i += 2;
      } else {
        out += text[i];
      }
    }
    return out;
  }

  static bool read_body(int fd, const std::string& header, std::string& buffer, std::string& body) {
    if (header.find("Transfer-Encoding: chunked") != std::string::npos) {
      for (;;) {
        auto end = buffer.find("\r\n");
        while (end == std::string::npos) {
          if (!more(fd, buffer)) return false;
          end = buffer.find("\r\n");
        }
        const auto size = static_cast<std::size_t>(std::stoul(buffer.substr(0, end), nullptr, 16));
        while (buffer.size() < end + 2 + size + 2)
          if (!more(fd, buffer)) return false;
        body += buffer.substr(end + 2, size);
        buffer.erase(0, end + 2 + size + 2);
        if (size == 0) return true;
      }
    }
    const auto at = header.find("Content-Length: ");
    const std::size_t length =
        at == std::string::npos ? 0 : static_cast<std::size_t>(std::stoul(header.substr(at + 16)));
    while (buffer.size() < length)
      if (!more(fd, buffer)) return false;
    body = buffer.substr(0, length);
    return true;
  }

  void handle(int fd) {
    std::string buffer;
    while (buffer.find("\r\n\r\n") == std::string::npos)
      if (!more(fd, buffer)) return;
    const auto cut = buffer.find("\r\n\r\n") + 4;
    const std::string header = buffer.substr(0, cut);
    buffer.erase(0, cut);
    if (refuse_before_body) return answer(fd, 413, R"({"message":"the context is too large"})");
    Seen seen;
    const auto space = header.find(' ');
    seen.method = header.substr(0, space);
    std::string target = header.substr(space + 1, header.find(' ', space + 1) - space - 1);
    const auto question = target.find('?');
    if (question != std::string::npos) {
      std::string rest = target.substr(question + 1) + "&";
      for (auto end = rest.find('&'); end != std::string::npos;
           rest.erase(0, end + 1), end = rest.find('&')) {
        const auto part = rest.substr(0, end);
        const auto equals = part.find('=');
        if (!part.empty())
          seen.query.emplace(part.substr(0, equals), decoded(part.substr(equals + 1)));
      }
      target.resize(question);
    }
    seen.path = decoded(target);
    if (const auto at = header.find("Content-Type: "); at != std::string::npos)
      seen.content_type = header.substr(at + 14, header.find("\r\n", at) - at - 14);
    if (!read_body(fd, header, buffer, seen.body)) return;
    {
      const std::lock_guard lock{mutex_};
      seen_.push_back(seen);
    }
    if (!raw_answer.empty()) return send_all(fd, raw_answer);
    if (const auto fixed = answers.find(seen.method + " " + seen.path); fixed != answers.end())
      return send_all(fd, fixed->second);
    dispatch(fd, seen);
  }

  void answer(int fd, int status, const std::string& body) const {
    const std::string head =
        "HTTP/1.1 " + std::to_string(status) +
        " X\r\nContent-Type: application/json\r\nContent-Length: " + std::to_string(body.size()) +
        "\r\nConnection: close\r\n\r\n";
    if (!head_alone) return send_all(fd, head + body);
    send_all(fd, head);
    ::usleep(100000);
    send_all(fd, body);
  }

  /// One chunk a message, and each message cut in two, so that a reader must put them together.
  static void answer_stream(int fd, const std::vector<std::string>& lines) {
    send_all(fd, "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nTransfer-Encoding: "
                 "chunked\r\nConnection: close\r\n\r\n");
    const auto chunk = [fd](const std::string& text) {
      char size[24];
      ::snprintf(size, sizeof size, "%zx\r\n", text.size());
      send_all(fd, size + text + "\r\n");
    };
    for (const auto& line : lines) {
      chunk(line.substr(0, line.size() / 2));
      chunk(line.substr(line.size() / 2) + "\n");
    }
    send_all(fd, "0\r\n\r\n");
  }

  std::string find(const std::string& name) const {
    const auto slash = name.rfind('/');
    const bool tagged = name.find(':', slash == std::string::npos ? 0 : slash) != std::string::npos;
    for (const auto& [id, image] : images)
      for (const auto& tag : image.tags)
        if (tag == name || (!tagged && tag == name + ":latest")) return id;
    for (const auto& [id, image] : images)
      if (id == name || id.substr(7).starts_with(name)) return id;
    return "";
  }

  void build(int fd, std::vector<std::string> tags) {
    if (!build_error.empty())
      return answer_stream(fd, {R"({"stream":"#1 RUN false\n"})",
                                Json{{"error", build_error},
                                     {"errorDetail", {{"message", build_error}, {"code", 3}}}}
                                    .dump()});
    for (auto& tag : tags)
      if (tag.find(':', tag.rfind('/') == std::string::npos ? 0 : tag.rfind('/')) ==
          std::string::npos)
        tag += ":latest";
    images[id('a')] = {tags, {}, {}};
    answer_stream(fd, {R"({"stream":"#1 building\n"})",
                       Json{{"aux", {{"ID", id('a')}, {"Manifest", id('b')}}}}.dump()});
  }

  void dispatch(int fd, const Seen& request) {
    const auto& path = request.path;
    const auto between = [&](const std::string& prefix, const std::string& suffix) {
      return path.starts_with(prefix) && path.ends_with(suffix) &&
                     path.size() > prefix.size() + suffix.size()
                 ? path.substr(prefix.size(), path.size() - prefix.size() - suffix.size())
                 : "";
    };
    if (path == "/slipway/v1/build")
      return build(fd, Json::parse(request.body)["tags"].get<std::vector<std::string>>());
    if (path == "/slipway/v1/manifest") {
      const auto& known = request.first("from") == "registry" ? remote : lists;
      const auto found = known.find(request.first("name"));
      if (found == known.end())
        return answer(fd, 404, Json{{"message", "no " + request.first("name")}}.dump());
      return answer(fd, 200, found->second);
    }
    if (path == "/slipway/v1/platforms" && !platforms.empty())
      return answer(fd, 200, Json{{"platforms", platforms}}.dump());
    if (path == "/slipway/v1/files") {
      if (image_files.empty())
        return answer(fd, 400, R"({"message":"it cannot be read as a tar to its end"})");
      return send_all(fd, "HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n" + image_files);
    }
    if (path == "/slipway/v1/index") {
      const auto body = Json::parse(request.body);
      Json children = Json::array();
      for (const auto& part : body["add"]) {
        if (part["image"] == "gone") return answer(fd, 404, R"({"message":"No such image: gone"})");
        children.push_back({{"digest", id('c')}});
      }
      const auto text = Json{{"schemaVersion", 2}, {"manifests", children}}.dump();
      for (const auto& name : body["names"])
        lists[name.get<std::string>()] = text;
      return answer_stream(
          fd,
          {R"({"status":"Pulling from x"})",
           Json{{"aux", {{"Digest", id('e')}, {"MediaType", "index"}, {"Index", text}}}}.dump()});
    }
    if (path == "/build") {
      std::vector<std::string> tags;
      for (const auto& [key, value] : request.query)
        if (key == "t") tags.push_back(value);
      return build(fd, tags);
    }
    if (const auto name = between("/containers/", "/archive"); !name.empty()) {
      const auto wanted = request.first("path");
      if (name != "c1")
        return answer(fd, 404, Json{{"message", "No such container: " + name}}.dump());
      if (request.method == "PUT") return answer(fd, 200, "");
      if (!files.contains(wanted))
        return answer(
            fd, 404,
            Json{{"message", "Could not find the file " + wanted + " in container " + name}}
                .dump());
      return send_all(fd, "HTTP/1.1 200 OK\r\nContent-Type: application/x-tar\r\nConnection: "
                          "close\r\n\r\n" +
                              files[wanted]);
    }
    if (path == "/containers/create") {
      engine.insert("/containers/c9");
      return answer(fd, 201, R"({"Id":"c9"})");
    }
    if (path == "/volumes/create") {
      const auto name = Json::parse(request.body)["Name"].get<std::string>();
      engine.insert("/volumes/" + name);
      return answer(fd, 201, Json{{"Name", name}}.dump());
    }
    if (path == "/containers/c9/start") return answer(fd, 204, "");
    if (const auto name = between("/networks/", "/connect"); !name.empty())
      return engine.contains("/networks/" + name)
                 ? answer(fd, 200, "")
                 : answer(fd, 404, Json{{"message", "network " + name + " not found"}}.dump());
    if (request.method == "GET" && engine.contains(path))
      return answer(fd, 200, Json{{"Name", path.substr(path.rfind('/') + 1)}}.dump());
    if (path == "/containers/json") return answer(fd, 200, "[]");
    if (path == "/system/df") {
      Json list = Json::array();
      for (const auto& [id, image] : images)
        list.push_back({{"Id", id}, {"Size", 4261234}, {"SharedSize", 0}, {"Containers", 0}});
      return answer(fd, 200,
                    Json{{"LayersSize", 4261234 * images.size()}, {"Images", list}}.dump());
    }
    if (path == "/auth") {
      const auto server = Json::parse(request.body).at("serveraddress").get<std::string>();
      if (server == "useless.example")
        return answer(fd, 403, Json{{"message", "a login is of no use there"}}.dump());
      Json done{{"Status", "Login Succeeded"}, {"IdentityToken", ""}};
      if (server == "elsewhere.example") done["Forwarded"] = true;
      return answer(fd, 200, done.dump());
    }
    if (path == "/info")
      return answer(
          fd, 200,
          R"({"ID":"x","ServerVersion":"24.0.0","OSType":"linux","Driver":"overlay2","Containers":0})");
    if (path == "/version")
      return answer(
          fd, 200,
          R"({"Version":"24.0.0","ApiVersion":"1.41","MinAPIVersion":"1.24","Os":"linux","Arch":"amd64"})");
    if (const auto name = between("/distribution/", "/json"); !name.empty()) {
      if (!pushed.contains(name))
        return answer(fd, 404, Json{{"message", "manifest unknown: " + name}}.dump());
      return answer(
          fd, 200,
          Json{{"Descriptor", {{"mediaType", "m"}, {"digest", pushed[name]}, {"size", 7}}},
               {"Platforms", {{{"os", "linux"}, {"architecture", "amd64"}}}}}
              .dump());
    }
    if (path == "/images/prune" || path == "/build/prune")
      return answer(fd, 404, R"({"message":"page not found"})");
    if (path == "/images/json") {
      Json list = Json::array();
      for (const auto& [id, image] : images)
        list.push_back({{"Id", id},
                        {"RepoTags", image.tags},
                        {"RepoDigests", image.repo_digests},
                        {"Created", 1700000000},
                        {"Size", 4260000},
                        {"Descriptor", {{"digest", this->id('b')}}},
                        {"Labels", image.labels}});
      return answer(fd, 200, list.dump());
    }
    if (path == "/images/create") {
      const std::string name = request.first("fromImage") + ":" + request.first("tag");
      if (!pushed.contains(name))
        return answer(fd, 404, Json{{"message", "manifest for " + name + " not found"}}.dump());
      images[id('c')].tags.push_back(name);
      return answer_stream(fd, {R"({"status":"Pulling from x","id":"1"})",
                                Json{{"status", "Digest: " + pushed[name]}}.dump()});
    }
    if (path == "/images/load") {
      images[id('d')].tags.push_back("loaded:1");
      return answer_stream(fd, {R"({"stream":"Loaded image: loaded:1\n"})"});
    }
    if (path == "/images/get")
      return send_all(fd, "HTTP/1.1 200 OK\r\nConnection: close\r\n\r\ntar of " +
                              request.first("names")); // ends by close
    if (request.path == "/slipway/v1/reports") {
      if (reports.empty()) return answer(fd, 404, R"({"message":"there is no verdict"})");
      return answer(fd, 200, Json(reports).dump());
    }
    if (const auto name = between("/images/", "/push"); !name.empty()) {
      if (!push_error.empty())
        return answer_stream(
            fd, {R"({"status":"scanning"})",
                 Json{{"error", push_error}, {"errorDetail", {{"message", push_error}}}}.dump()});
      pushed[name + ":" + request.first("tag")] = id('b');
      return answer_stream(
          fd, {R"({"status":"Pushed","id":"layer","progressDetail":{}})",
               R"({"status":"Pushing","id":"layer","progressDetail":{"current":1,"total":2}})",
               Json{{"aux", {{"Tag", request.first("tag")}, {"Digest", id('b')}, {"Size", 528}}}}
                   .dump()});
    }
    if (const auto name = between("/images/", "/tag"); !name.empty()) {
      const auto found = find(name);
      if (found.empty()) return answer(fd, 404, Json{{"message", "No such image: " + name}}.dump());
      images[found].tags.push_back(request.first("repo") + ":" + request.first("tag"));
      return answer(fd, 201, "");
    }
    if (const auto name = between("/images/", "/json"); !name.empty()) {
      const auto found = find(name);
      if (found.empty()) return answer(fd, 404, Json{{"message", "No such image: " + name}}.dump());
      return answer(fd, 200,
                    Json{{"Id", found},
                         {"RepoTags", images[found].tags},
                         {"RepoDigests", images[found].repo_digests},
                         {"Architecture", "amd64"},
                         {"Os", "linux"},
                         {"Descriptor", {{"digest", id('b')}}},
                         {"Config", {{"Labels", images[found].labels}}}}
                        .dump());
    }
    if (const auto name = between("/images/", "/history"); !name.empty())
      return answer(fd, 200,
                    Json::array({{{"Id", "<missing>"},
                                  {"Created", 1700000000},
                                  {"CreatedBy", "RUN " + std::string(60, 'x')},
                                  {"Size", 10},
                                  {"Comment", ""}}})
                        .dump());
    if (request.method == "DELETE" && !path.starts_with("/images/")) {
      if (engine.erase(path) > 0 || request.first("force") + path == "1/volumes/gone")
        return answer(fd, 204, "");
      return answer(fd, 404, Json{{"message", "No such thing: " + path}}.dump());
    }
    if (request.method == "DELETE" && lists.erase(path.substr(8)) > 0)
      return answer(fd, 200, Json::array({{{"Untagged", path.substr(8)}}}).dump());
    if (request.method == "DELETE") {
      const auto found = find(path.substr(8));
      if (found.empty())
        return answer(fd, 404, Json{{"message", "No such image: " + path.substr(8)}}.dump());
      const std::string name = path.substr(8);
      auto& tags = images[found].tags;
      if (tags.size() > 1 && found != name) {
        std::erase_if(
            tags, [&](const std::string& tag) { return tag == name || tag == name + ":latest"; });
        return answer(fd, 200, Json::array({{{"Untagged", name}}}).dump());
      }
      images.erase(found);
      return answer(fd, 200, Json::array({{{"Untagged", name}}, {{"Deleted", found}}}).dump());
    }
    answer(fd, 404, R"({"message":"page not found"})");
  }

  std::string dir_;
  std::string socket_;
  UniqueFd listener_;
  mutable std::mutex mutex_;
  std::vector<Seen> seen_;
  std::atomic<bool> stop_ = false;
  std::thread thread_;
};

} // namespace slipway::shim
