// SPDX-License-Identifier: Apache-2.0
// A Podman API that keeps what exists: images, containers, networks, volumes. What it is asked can
// be looked up, and made to fail.
#pragma once

#include "executor/sandbox/podman_api.hpp"

#include <nlohmann/json.hpp>

#include <algorithm>
#include <functional>
#include <map>
#include <mutex>
#include <optional>
#include <string>
#include <vector>

namespace slipway::fakes {

class FakePodmanApi final : public sandbox::PodmanApi {
public:
  using Json = nlohmann::json;
  struct Container {
    Json body = Json::object(); ///< as it was asked for
    bool running = false;
    std::string id = {};
  };
  std::map<std::string, Json> images; ///< by reference, as the API describes them
  bool any_image = true;              ///< what is not in `images` is there all the same
  std::map<std::string, Container> containers;
  std::map<std::string, Json> networks;
  std::map<std::string, Json> volumes;
  std::vector<sandbox::ApiRequest> asked;
  std::vector<std::string> removed; ///< names, in order
  /// Of every container: above what the kernel gives, as one that has ended already. proc(5).
  std::int64_t pid = (1L << 22) + 1;
  /// Answers instead of the fake where it returns something.
  std::function<std::optional<sandbox::ApiAnswer>(const sandbox::ApiRequest&)> instead;
  std::function<void(const std::string& name)> on_start;
  std::function<void(const std::string& name)> on_remove;

  static sandbox::ApiAnswer trouble(int status, const std::string& words) {
    return {status, Json{{"cause", words}, {"message", words}, {"response", status}}.dump()};
  }

  Result<sandbox::ApiAnswer> ask(const sandbox::ApiRequest& request) override {
    const std::lock_guard guard{mutex_};
    asked.push_back(request);
    if (instead) {
      if (auto answer = instead(request)) return *std::move(answer);
    }
    const auto path = request.target.substr(0, request.target.find('?'));
    const auto slash = path.find('/', 1);
    const auto kind = path.substr(1, slash - 1);
    const auto rest = path.substr(slash + 1);
    const auto name = rest.substr(0, rest.find('/'));
    if (kind == "images") return image(name);
    if (kind == "containers") return container(request, name, rest);
    return thing(kind == "networks" ? networks : volumes, kind == "networks" ? "name" : "Name",
                 request, name);
  }

private:
  sandbox::ApiAnswer image(const std::string& name) const {
    const auto found = images.find(name);
    if (found == images.end() && !any_image) return trouble(404, "no such image");
    return {200, (found == images.end() ? Json{{"Id", name}} : found->second).dump()};
  }

  sandbox::ApiAnswer container(const sandbox::ApiRequest& request, const std::string& name,
                               const std::string& rest) {
    if (name == "json") {
      Json all = Json::array();
      for (const auto& [key, one] : containers) {
        all.push_back({{"Id", one.id.empty() ? key : one.id},
                       {"Names", {key}},
                       {"State", one.running ? "running" : "created"},
                       {"Labels", one.body.value("labels", Json::object())}});
      }
      return {200, all.dump()};
    }
    if (name == "create") {
      auto body = Json::parse(request.body);
      const auto wanted = body.at("name").get<std::string>();
      if (containers.contains(wanted))
        return trouble(500, "the container name \"" + wanted + "\" is already in use by 0123");
      const auto id = "id" + std::to_string(++created_);
      containers[wanted] = {std::move(body), false, id};
      return {201, Json{{"Id", id}}.dump()};
    }
    const auto found = std::find_if(containers.begin(), containers.end(), [&](const auto& one) {
      return one.first == name || (!one.second.id.empty() && one.second.id == name);
    });
    if (found == containers.end()) return trouble(404, "no such container");
    if (rest.ends_with("/start")) {
      found->second.running = true;
      if (on_start) on_start(found->first);
      return {204, ""};
    }
    if (request.method == "DELETE") {
      const auto gone = found->first;
      containers.erase(found);
      removed.push_back(gone);
      if (on_remove) on_remove(gone);
      return {200, "[]"};
    }
    return {200, Json{{"Id", found->second.id.empty() ? name : found->second.id},
                      {"Name", found->first},
                      {"State",
                       {{"Status", found->second.running ? "running" : "created"}, {"Pid", pid}}},
                      {"Config", {{"Labels", found->second.body.value("labels", Json::object())}}},
                      {"NetworkSettings", {{"Networks", {{"n", {{"IPAddress", "10.89.0.2"}}}}}}}}
                     .dump()};
  }

  sandbox::ApiAnswer thing(std::map<std::string, Json>& things, const char* key,
                           const sandbox::ApiRequest& request, const std::string& name) {
    if (name == "json") {
      Json all = Json::array();
      for (const auto& [unused, one] : things)
        all.push_back(one);
      return {200, all.dump()};
    }
    if (name == "create") {
      auto body = Json::parse(request.body);
      const auto wanted = body.at(key).get<std::string>();
      if (things.contains(wanted)) return trouble(409, wanted + " already exists");
      // Podman gives a network addresses, and tells what it made.
      if (&things == &networks)
        body["subnets"] = {{{"subnet", "10.89." + std::to_string(things.size()) + ".0/24"}}};
      return {201, (things[wanted] = std::move(body)).dump()};
    }
    const auto found = things.find(name);
    if (found == things.end()) return trouble(404, "no such thing");
    if (request.method == "GET") return {200, found->second.dump()};
    things.erase(found);
    removed.push_back(name);
    return {204, ""};
  }

  std::mutex mutex_;
  int created_ = 0;
};

} // namespace slipway::fakes
