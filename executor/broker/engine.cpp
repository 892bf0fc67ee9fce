// SPDX-License-Identifier: Apache-2.0
#include "executor/broker/engine.hpp"

#include "executor/backends/build_backend.hpp"
#include "executor/base/clock.hpp"
#include "executor/engine_api/docker_version.hpp"

#include <nlohmann/json.hpp>

#include <string.h>
#include <sys/sysinfo.h>
#include <sys/utsname.h>

#include <algorithm>
#include <array>
#include <atomic>

namespace slipway::broker {
namespace {

using Json = nlohmann::json;

constexpr std::size_t kAuthBytes = 64UL << 10;
constexpr std::size_t kQuietTail = 64UL << 10;
constexpr const char* kJsonType = "application/json";
constexpr std::string_view kAgentsPath = "/slipway/v1/ssh-agents/";

std::string dump(const Json& json) {
  return json.dump(-1, ' ', false, Json::error_handler_t::replace);
}

std::string short_id(const oci::Digest& id) {
  return id.hex().substr(0, 12);
}

std::int64_t unix_seconds(const std::string& created) {
  WallTime time{};
  return parse_rfc3339(created, time) ? time.time_since_epoch().count() : 0;
}

Json tags_of(const ImageSummary& image) {
  Json tags = Json::array();
  for (const auto& tag : image.tags)
    tags.push_back(tag.familiar());
  return tags;
}

void send_json(Answer& answer, int status, const Json& json) {
  answer.whole(status, kJsonType, dump(json) + "\n");
}

void send_error(Answer& answer, int status, const std::string& message) {
  answer.whole(status, kJsonType, error_json(message) + "\n");
}

void send_error(Answer& answer, const Error& error) {
  send_error(answer, status_of(error.kind), readable(error));
}

/// The stream of JSON messages that builds, pushes, pulls and loads answer with. The status line
/// waits for the first message, so that an early failure is a plain HTTP error.
class Messages {
public:
  explicit Messages(Answer& answer) : answer_{answer} {}

  void send(const Json& message) {
    const std::lock_guard lock{mutex_};
    send_locked(message);
  }

  /// Progress as `{"stream":…}`: clients print it as it is.
  void stream(std::string_view text) {
    if (!text.empty()) send(Json{{"stream", text}});
  }

  /// Progress as `{"status":…}`, a line each: clients add the line end.
  void status_lines(std::string_view text) {
    const std::lock_guard lock{mutex_};
    partial_ += text;
    for (;;) {
      const auto end = partial_.find('\n');
      if (end == std::string::npos) break;
      std::string line = partial_.substr(0, end);
      partial_.erase(0, end + 1);
      if (!line.empty()) send_locked(Json{{"status", line}});
    }
    if (partial_.size() > kQuietTail) flush_locked();
  }

  void fail(const Error& error) {
    const std::lock_guard lock{mutex_};
    if (!answer_.begun()) return send_error(answer_, error);
    flush_locked();
    const std::string message = readable(error);
    send_locked(Json{{"errorDetail",
                      {{"code", backends::step_exit_code(error).value_or(status_of(error.kind))},
                       {"message", message}}},
                     {"error", message}});
    answer_.end_stream();
  }

  void end() {
    const std::lock_guard lock{mutex_};
    flush_locked();
    answer_.begin_stream(200, kJsonType);
    answer_.end_stream();
  }

private:
  void flush_locked() {
    if (partial_.empty()) return;
    send_locked(Json{{"status", partial_}});
    partial_.clear();
  }
  void send_locked(const Json& message) {
    answer_.begin_stream(200, kJsonType);
    answer_.chunk(dump(message) + "\r\n");
  }

  Answer& answer_;
  std::mutex mutex_;
  std::string partial_;
};

Error no_such_endpoint(const std::string& method, const std::string& path) {
  return Error{ErrorKind::not_found,
               "slipway's broker has no endpoint " + method + " " + path.substr(0, 200),
               "it serves the image part of the Docker Engine API: build, images, tag, push, pull, "
               "save, load",
               {}};
}

struct Unsupported {
  std::string_view prefix;
  const char* what;
  const char* instead;
};

/// First path members of the Engine API that stand for things that a job's broker does not have.
constexpr Unsupported kUnsupported[] = {
    {"/containers", "containers",
     "run the command in the job's script, or list the image under services: in .gitlab-ci.yml, or "
     "ask the operator for dind = true"},
    {"/exec", "containers",
     "run the command in the job's script, or ask the operator for dind = true"},
    {"/commit", "containers",
     "write a Dockerfile and use docker build, or ask the operator for dind = true"},
    {"/networks", "networks",
     "services of the job are reachable by their alias without one, or ask the operator for dind = "
     "true"},
    {"/volumes", "volumes",
     "use the job's workspace, cache: or artifacts:, or ask the operator for dind = true"},
    {"/swarm", "Swarm", "deploy from the script with the target's own client"},
    {"/nodes", "Swarm", "deploy from the script with the target's own client"},
    {"/services", "Swarm", "deploy from the script with the target's own client"},
    {"/tasks", "Swarm", "deploy from the script with the target's own client"},
    {"/secrets", "Swarm", "use CI/CD variables"},
    {"/configs", "Swarm", "use CI/CD variables"},
    {"/plugins", "plugins", "ask the operator"},
    {"/events", "events", "use the exit codes of docker build and docker push"},
};

bool is_below(std::string_view path, std::string_view prefix) {
  return path == prefix || (path.starts_with(prefix) && path[prefix.size()] == '/');
}

} // namespace

void Engine::answer(const Request& request, Answer& answer) {
  auto target = parse_target(request.target);
  if (containers_) answer.speak_api(containers_->told_api());
  if (!target) return send_error(answer, target.error());
  try {
    route(Call{request, *target, answer});
  } catch (const std::exception& problem) {
    if (!answer.begun()) send_error(answer, 500, std::string{"internal: "} + problem.what());
    answer.close_after();
  }
}

bool Engine::route_fixed(const Call& call) {
  const std::string& path = call.target.path;
  const bool get = call.request.method == "GET" || call.request.method == "HEAD";
  const bool post = call.request.method == "POST";
  if (get && path == "/_ping") {
    call.answer.whole(200, "text/plain; charset=utf-8", "OK");
  } else if (get && path == "/version") {
    version(call);
  } else if (get && path == "/info") {
    info(call);
  } else if (get && path == "/system/df") {
    disk_usage(call);
  } else if (get && path == "/images/json") {
    list_images(call);
  } else if (get && path == "/images/get") {
    save(call, call.target.query.all("names"));
  } else if (get && path == "/containers/json") {
    send_json(call.answer, 200, Json::array());
  } else if (get && path == "/images/search") {
    send_error(call.answer, 501,
               "slipway does not search registries: use the registry's own page or API");
  } else if (get && path == "/slipway/v1/reports") {
    reports(call);
  } else if (get && path == "/slipway/v1/manifest") {
    manifest(call);
  } else if (get && path == "/slipway/v1/platforms") {
    platforms(call);
  } else if (get && path == "/slipway/v1/files") {
    files(call);
  } else if (post && path == "/auth") {
    auth(call);
  } else if (post && path == "/build") {
    build_from_tar(call);
  } else if (post && (path == "/grpc" || path == "/session")) {
    const auto served = path == "/grpc" ? buildkit_.serve_calls(call.request, call.answer)
                                        : buildkit_.serve_session(call.request, call.answer);
    if (!served) send_error(call.answer, served.error());
  } else if (post && path == "/slipway/v1/build") {
    build_from_workspace(call);
  } else if (post && sessions_ && path == "/slipway/v1/buildah") {
    sessions_->serve(call.request, call.answer);
  } else if (post && fetches_ != nullptr && path == "/slipway/v1/fetch") {
    serve_fetch(*fetches_, limits_, call.request, call.answer);
  } else if (post && path == "/slipway/v1/index") {
    edit_index(call);
  } else if (post && (path == "/build/prune" || path == "/build/cancel")) {
    send_json(call.answer, 200, Json{{"CachesDeleted", nullptr}, {"SpaceReclaimed", 0}});
  } else if (post && path == "/images/load") {
    load(call);
  } else if (post && path == "/images/create") {
    pull(call);
  } else if (post && path == "/images/prune") {
    prune_images(call);
  } else if (post && path == "/containers/prune") { // these three: of a job without an engine
    send_json(call.answer, 200, Json{{"ContainersDeleted", nullptr}, {"SpaceReclaimed", 0}});
  } else if (post && path == "/networks/prune") {
    send_json(call.answer, 200, Json{{"NetworksDeleted", nullptr}});
  } else if (post && path == "/volumes/prune") {
    send_json(call.answer, 200, Json{{"VolumesDeleted", nullptr}, {"SpaceReclaimed", 0}});
  } else if (post && path == "/swarm/leave") {
    // What every engine outside of a swarm says: clients that tidy up expect it.
    send_error(call.answer, 503, "This node is not part of a swarm");
  } else {
    return false;
  }
  return true;
}

void Engine::route(const Call& call) {
  if (containers_ && containers_->answer(call.request, call.target, call.answer)) return;
  if (route_fixed(call)) return;
  const std::string& path = call.target.path;
  if (path.starts_with("/images/")) return route_image(call, std::string_view{path}.substr(8));
  if (call.request.method == "POST" && path.starts_with(kAgentsPath)) {
    const auto served = agents_.serve(call.request, path.substr(kAgentsPath.size()), call.answer);
    if (!served) send_error(call.answer, served.error());
    return;
  }
  if (call.request.method == "GET" && path.starts_with("/distribution/") &&
      path.ends_with("/json") && path.size() > 19) {
    return distribution(call, path.substr(14, path.size() - 19));
  }
  for (const auto& [prefix, what, instead] : kUnsupported) {
    if (!is_below(path, prefix)) continue;
    // `docker inspect NAME` asks for a container, network, volume of that name first and wants a
    // plain "no such" to go on to images.
    if (call.request.method == "GET" && path.size() > prefix.size() + 1) {
      return send_error(call.answer, 404,
                        "No such object: slipway does not run " + std::string{what} +
                            " in this job: " + instead);
    }
    return send_error(call.answer, 501,
                      "slipway does not run " + std::string{what} + " in this job: " + instead);
  }
  send_error(call.answer, no_such_endpoint(call.request.method, path));
}

void Engine::route_image(const Call& call, std::string_view rest) {
  const std::string& method = call.request.method;
  // The name may contain slashes, so the verb is what stands behind the last one.
  const auto slash = rest.rfind('/');
  const std::string_view verb =
      slash == std::string_view::npos ? std::string_view{} : rest.substr(slash + 1);
  const std::string name{slash == std::string_view::npos ? rest : rest.substr(0, slash)};
  if (method == "DELETE" && !rest.empty()) return remove(call, std::string{rest});
  if (method == "GET" && verb == "json") return inspect_image(call, name);
  if (method == "GET" && verb == "history") return history(call, name);
  if (method == "GET" && verb == "get") return save(call, {name});
  if (method == "POST" && verb == "tag") return tag(call, name);
  if (method == "POST" && verb == "push") return push(call, name);
  send_error(call.answer, no_such_endpoint(method, call.target.path));
}

void Engine::auth(const Call& call) {
  // For a registry that slipway brokers there is no use for a login: slipway mints its own after
  // the verdict. Nothing of it stays here.
  std::string body(kAuthBytes + 1, '\0');
  std::size_t seen = 0;
  call.request.body->limit_time(limits_.header_deadline);
  Result<std::size_t> got = std::size_t{0};
  do {
    got = call.request.body->read(body.data() + seen, body.size() - seen);
    if (got) seen += *got;
  } while (got && *got > 0 && seen < body.size());
  RegistryLogin login;
  bool is_readable = true;
  if (got && seen <= kAuthBytes) {
    std::string key;
    const auto read = [&](int depth, Json::parse_event_t event, Json& value) {
      if (event == Json::parse_event_t::key) key = value.get<std::string>();
      if (event != Json::parse_event_t::value || !value.is_string()) return true;
      auto& text = value.get_ref<std::string&>();
      if (depth == 1 && key == "serveraddress") login.server = text;
      if (depth == 1 && key == "username") login.username = text;
      if (depth == 1 && key == "password") login.password = Secret{text};
      ::explicit_bzero(text.data(), text.size());
      return true;
    };
    if (seen > 0 && Json::parse(std::string_view{body}.substr(0, seen), read, false).is_discarded())
      is_readable = false;
  }
  ::explicit_bzero(body.data(), body.size());
  call.request.body->wipe();
  if (!got) return send_error(call.answer, got.error());
  if (seen > kAuthBytes)
    return send_error(call.answer, 413, "the body of /auth is larger than 64 KiB");
  if (!is_readable) return send_error(call.answer, 400, "the body of /auth is no JSON");
  const auto forwarded = images_.log_in(std::move(login));
  if (!forwarded) return send_error(call.answer, forwarded.error());
  Json answer{{"Status", "Login Succeeded"}, {"IdentityToken", ""}};
  if (*forwarded) answer["Forwarded"] = true; // no client but ours looks at it
  send_json(call.answer, 200, answer);
}

void Engine::version(const Call& call) {
  utsname system{};
  ::uname(&system);
  const auto api = api_text(containers_ ? containers_->told_api() : kOldestApi);
  const Json component{{"Name", "Engine"},
                       {"Version", engine_api::kDockerVersion},
                       {"Details",
                        {{"ApiVersion", api},
                         {"MinAPIVersion", "1.24"},
                         {"Os", "linux"},
                         {"Arch", "amd64"},
                         {"Experimental", "false"}}}};
  const auto told = [](bool is_so) { return is_so ? "true" : "false"; };
  const Json own{
      {"Name", "slipway"},
      {"Version", SLIPWAY_VERSION},
      {"Details",
       {{"Provenance", told(statements_.provenance)}, {"SBOM", told(statements_.sbom)}}}};
  send_json(call.answer, 200,
            Json{{"Platform", {{"Name", "slipway"}}},
                 {"Components", Json::array({component, own})},
                 {"Version", engine_api::kDockerVersion},
                 {"Experimental", false},
                 {"ApiVersion", api},
                 {"MinAPIVersion", "1.24"},
                 {"GitCommit", ""},
                 {"GoVersion", ""},
                 {"Os", "linux"},
                 {"Arch", "amd64"},
                 {"KernelVersion", system.release},
                 {"BuildTime", ""}});
}

void Engine::info(const Call& call) {
  auto images = images_.list();
  utsname system{};
  ::uname(&system);
  struct sysinfo memory {};
  ::sysinfo(&memory);
  const Json commit{{"ID", ""}, {"Expected", ""}};
  send_json(call.answer, 200,
            Json{{"ID", "slipway"},
                 {"Containers", 0},
                 {"ContainersRunning", 0},
                 {"ContainersPaused", 0},
                 {"ContainersStopped", 0},
                 {"Images", images ? images->size() : 0},
                 {"Driver", "slipway"},
                 {"DriverStatus", Json::array()},
                 {"Plugins",
                  {{"Volume", Json::array()},
                   {"Network", Json::array()},
                   {"Authorization", nullptr},
                   {"Log", Json::array()}}},
                 {"MemoryLimit", true},
                 {"SwapLimit", true},
                 {"CpuCfsPeriod", true},
                 {"CpuCfsQuota", true},
                 {"CPUShares", true},
                 {"CPUSet", true},
                 {"PidsLimit", true},
                 {"KernelMemory", true},
                 {"OomKillDisable", true},
                 {"IPv4Forwarding", true},
                 {"BridgeNfIptables", true},
                 {"BridgeNfIp6tables", true},
                 {"Debug", false},
                 {"NFd", 0},
                 {"NGoroutines", 0},
                 {"SystemTime", rfc3339(SystemClock{}.now())},
                 {"LoggingDriver", "none"},
                 {"CgroupDriver", "none"},
                 {"CgroupVersion", "2"},
                 {"NEventsListener", 0},
                 {"KernelVersion", system.release},
                 {"OperatingSystem", "slipway job broker"},
                 {"OSVersion", ""},
                 {"OSType", "linux"},
                 {"Architecture", system.machine},
                 {"IndexServerAddress", "https://index.docker.io/v1/"},
                 {"RegistryConfig",
                  {{"InsecureRegistryCIDRs", Json::array()},
                   {"IndexConfigs", Json::object()},
                   {"Mirrors", Json::array()}}},
                 {"NCPU", ::get_nprocs()},
                 {"MemTotal", static_cast<std::uint64_t>(memory.totalram) * memory.mem_unit},
                 {"DockerRootDir", "/"},
                 {"HttpProxy", ""},
                 {"HttpsProxy", ""},
                 {"NoProxy", ""},
                 {"Name", "slipway"},
                 {"Labels", Json::array()},
                 {"ExperimentalBuild", false},
                 {"ServerVersion", engine_api::kDockerVersion},
                 {"Runtimes", Json::object()},
                 {"DefaultRuntime", ""},
                 {"Swarm",
                  {{"NodeID", ""},
                   {"NodeAddr", ""},
                   {"LocalNodeState", "inactive"},
                   {"ControlAvailable", false},
                   {"Error", ""},
                   {"RemoteManagers", nullptr}}},
                 {"LiveRestoreEnabled", false},
                 {"Isolation", ""},
                 {"InitBinary", ""},
                 {"ContainerdCommit", commit},
                 {"RuncCommit", commit},
                 {"InitCommit", commit},
                 {"SecurityOptions", Json::array({"name=rootless"})},
                 {"Warnings", nullptr}});
}

namespace {

Json listed(const ImageSummary& image) {
  Json digests = image.repo_digests.empty() ? Json::array() : Json(image.repo_digests);
  Json tags = tags_of(image);
  return Json{
      {"Id", image.image_id.str()},
      {"ParentId", ""},
      {"RepoTags", std::move(tags)},
      {"RepoDigests", std::move(digests)},
      {"Created", unix_seconds(image.created)},
      {"Size", image.size},
      {"VirtualSize", image.size},
      {"SharedSize", -1},
      {"Containers", -1},
      {"Descriptor", {{"mediaType", image.media_type}, {"digest", image.manifest_digest.str()}}},
      {"Labels", image.config.labels.empty() ? Json(nullptr) : Json(image.config.labels)}};
}

} // namespace

void Engine::disk_usage(const Call& call) {
  auto images = images_.list();
  if (!images) return send_error(call.answer, images.error());
  Json list = Json::array();
  std::uint64_t total = 0;
  for (const auto& image : *images) {
    Json item = listed(image);
    item["SharedSize"] = 0;
    item["Containers"] = 0;
    list.push_back(std::move(item));
    total += image.size;
  }
  send_json(call.answer, 200,
            Json{{"LayersSize", total},
                 {"Images", std::move(list)},
                 {"Containers", Json::array()},
                 {"Volumes", Json::array()},
                 {"BuildCache", Json::array()},
                 {"BuilderSize", 0}});
}

void Engine::build_from_tar(const Call& call) {
  auto options = parse_build_query(call.target.query);
  if (!options) return send_error(call.answer, options.error());
  if (!options->remote.empty()) return build_from_address(call, *std::move(options));
  Body* const body = call.request.body;
  options->request.context_tar = [body](char* buffer, std::size_t capacity) {
    return body->read(buffer, capacity);
  };
  build(call, std::move(options->request), options->quiet, false);
}

void Engine::build_from_address(const Call& call, BuildOptions options) {
  if (fetches_ == nullptr)
    return send_error(call.answer, 501, "a build context by URL (remote) cannot be fetched here");
  const RemoteContext wanted{std::move(options.remote), options.request.dockerfile};
  const auto fetched = fetches_->context(
      wanted,
      [&](const auto& tar, const std::string& said) {
        options.request.context_tar = tar;
        build(call, std::move(options.request), options.quiet, false, said);
      },
      [&] { return call.answer.gone(); });
  // What comes after the build began, the build says.
  if (!fetched && !call.answer.begun()) send_error(call.answer, fetched.error());
}

void Engine::build_from_workspace(const Call& call) {
  auto json = call.request.body->read_whole(limits_.json_body_bytes, limits_.header_deadline);
  if (!json) return send_error(call.answer, json.error());
  auto request =
      parse_build_json(*json, [this](const std::string& name) { return agents_.find(name); });
  ::explicit_bzero(json->data(), json->size()); // it may hold the build's secrets
  if (!request) return send_error(call.answer, request.error());
  build(call, *std::move(request), false, true);
}

void Engine::build(const Call& call, BuildRequest request, bool quiet, bool with_manifest,
                   const std::string& said) {
  Messages messages{call.answer};
  const auto tags = request.tags;
  std::string tail; // of a quiet build, shown when it fails
  std::mutex tail_mutex;
  const Progress progress = [&](std::string_view text) {
    if (!quiet) return messages.stream(text);
    const std::lock_guard lock{tail_mutex};
    tail += text;
    if (tail.size() > 2 * kQuietTail) tail.erase(0, tail.size() - kQuietTail);
  };
  if (!said.empty()) progress(said);
  auto outcome = images_.build(std::move(request), progress, [&] { return call.answer.gone(); });
  if (!outcome) {
    if (quiet) messages.stream(tail);
    return messages.fail(outcome.error());
  }
  Json aux{{"ID", outcome->image_id.str()}};
  if (with_manifest) aux["Manifest"] = outcome->manifest_digest.str();
  messages.send(Json{{"aux", std::move(aux)}});
  if (quiet) {
    messages.stream(outcome->image_id.str() + "\n");
  } else {
    messages.stream("Successfully built " + short_id(outcome->image_id) + "\n");
    for (const auto& tag : tags)
      messages.stream("Successfully tagged " + tag.familiar() + "\n");
  }
  messages.end();
}

void Engine::list_images(const Call& call) {
  std::string text = call.target.query.get("filters");
  auto filters = parse_image_filters(text);
  if (!filters) return send_error(call.answer, filters.error());
  // Before API 1.28 `docker images NAME` sent the name so.
  if (auto name = call.target.query.get("filter"); !name.empty())
    filters->references.push_back(std::move(name));
  auto images = images_.list();
  if (!images) return send_error(call.answer, images.error());
  Json list = Json::array();
  for (auto& image : *images) {
    if (!matches(*filters, image)) continue;
    if (!filters->references.empty()) {
      // Only the names that were asked for are shown.
      std::erase_if(image.tags, [&](const auto& tag) {
        ImageSummary one = image;
        one.tags = {tag};
        return !matches(ImageFilters{filters->references, std::nullopt, {}}, one);
      });
    }
    list.push_back(listed(image));
  }
  std::stable_sort(list.begin(), list.end(), [](const Json& a, const Json& b) {
    return a["Created"].get<std::int64_t>() > b["Created"].get<std::int64_t>();
  });
  send_json(call.answer, 200, list);
}

void Engine::inspect_image(const Call& call, const std::string& name) {
  auto image = images_.find(name);
  if (!image) return send_error(call.answer, image.error());
  const Json document = Json::parse(image->config_json, nullptr, false);
  Json config = Json::object();
  std::string author;
  if (document.is_object()) {
    if (document.contains("config") && document["config"].is_object()) config = document["config"];
    if (document.contains("author") && document["author"].is_string()) author = document["author"];
  }
  for (const char* member : {"Hostname", "Domainname", "User", "Image", "WorkingDir"}) {
    if (!config.contains(member)) config[member] = "";
  }
  for (const char* member : {"Env", "Cmd", "Volumes", "Entrypoint", "OnBuild", "Labels"}) {
    if (!config.contains(member)) config[member] = nullptr;
  }
  Json layers = Json::array();
  for (const auto& diff_id : image->config.diff_ids)
    layers.push_back(diff_id.str());
  Json answer{
      {"Id", image->image_id.str()},
      {"RepoTags", tags_of(*image)},
      {"RepoDigests", image->repo_digests.empty() ? Json::array() : Json(image->repo_digests)},
      {"Parent", ""},
      {"Comment", image->config.history.empty() ? "" : image->config.history.back().comment},
      {"Created", image->created.empty() ? "1970-01-01T00:00:00Z" : image->created},
      {"Container", ""},
      {"DockerVersion", ""},
      {"Author", author},
      {"Config", std::move(config)},
      {"Architecture", image->config.platform.architecture},
      {"Os", image->config.platform.os},
      {"Size", image->size},
      {"VirtualSize", image->size},
      {"GraphDriver", {{"Name", "slipway"}, {"Data", nullptr}}},
      {"RootFS", {{"Type", "layers"}, {"Layers", std::move(layers)}}},
      {"Metadata", {{"LastTagTime", "0001-01-01T00:00:00Z"}}},
      {"Descriptor", {{"mediaType", image->media_type}, {"digest", image->manifest_digest.str()}}}};
  if (!image->config.platform.variant.empty()) answer["Variant"] = image->config.platform.variant;
  send_json(call.answer, 200, answer);
}

void Engine::history(const Call& call, const std::string& name) {
  auto image = images_.find(name);
  if (!image) return send_error(call.answer, image.error());
  std::vector<Json> entries;
  std::size_t layer = 0;
  for (const auto& step : image->config.history) {
    std::uint64_t size = 0;
    if (!step.empty_layer && layer < image->layer_sizes.size()) size = image->layer_sizes[layer++];
    entries.push_back(Json{{"Id", "<missing>"},
                           {"Created", unix_seconds(step.created)},
                           {"CreatedBy", step.created_by},
                           {"Tags", nullptr},
                           {"Size", size},
                           {"Comment", step.comment}});
  }
  // A config need not have a history; the layers are there all the same.
  for (; layer < image->layer_sizes.size(); ++layer) {
    entries.push_back(Json{{"Id", "<missing>"},
                           {"Created", 0},
                           {"CreatedBy", ""},
                           {"Tags", nullptr},
                           {"Size", image->layer_sizes[layer]},
                           {"Comment", ""}});
  }
  std::reverse(entries.begin(), entries.end());
  if (!entries.empty()) {
    entries.front()["Id"] = image->image_id.str();
    if (!image->tags.empty()) entries.front()["Tags"] = tags_of(*image);
  }
  send_json(call.answer, 200, Json(entries));
}

void Engine::tag(const Call& call, const std::string& name) {
  const std::string repository = call.target.query.get("repo");
  const std::string tag = call.target.query.get("tag");
  auto target = oci::Reference::parse(tag.empty() ? repository : repository + ":" + tag);
  if (!target) return send_error(call.answer, target.error());
  if (target->digest())
    return send_error(call.answer, 400, "refusing to create a tag with a digest reference");
  const auto status = images_.tag(name, *target);
  if (!status) return send_error(call.answer, status.error());
  call.answer.whole(201, "", "");
}

void Engine::push(const Call& call, const std::string& name) {
  const std::string tag = call.target.query.get("tag");
  auto reference = oci::Reference::parse(tag.empty() ? name : name + ":" + tag);
  if (!reference) return send_error(call.answer, reference.error());
  if (reference->digest()) return send_error(call.answer, 400, "cannot push a digest reference");
  // A body (old clients send their credential here too) is read past.
  std::vector<oci::Reference> wanted;
  const auto last = name.substr(name.rfind('/') == std::string::npos ? 0 : name.rfind('/'));
  if (tag.empty() && last.find(':') == std::string::npos) {
    auto images = images_.list();
    if (!images) return send_error(call.answer, images.error());
    for (const auto& image : *images) {
      for (const auto& candidate : image.tags) {
        if (candidate.name() == reference->name()) wanted.push_back(candidate);
      }
    }
    if (wanted.empty()) {
      return send_error(call.answer, 404,
                        "An image does not exist locally with the tag: " +
                            reference->familiar_name());
    }
  } else {
    auto image = images_.find(reference->familiar());
    if (!image) {
      if (image.error().kind != ErrorKind::not_found) return send_error(call.answer, image.error());
      return send_error(call.answer, 404,
                        "An image does not exist locally with the tag: " + reference->familiar());
    }
    wanted.push_back(*reference);
  }
  Messages messages{call.answer};
  messages.send(Json{{"status", "The push refers to repository [" + reference->name() + "]"}});
  for (const auto& item : wanted) {
    auto outcome = images_.push(
        item, [&](std::string_view text) { messages.status_lines(text); },
        [&] { return call.answer.gone(); });
    if (!outcome) return messages.fail(outcome.error());
    const std::string item_tag = item.tag().value_or("latest");
    messages.status_lines("\n");
    messages.send(Json{{"status", item_tag + ": digest: " + outcome->digest.str() +
                                      " size: " + std::to_string(outcome->manifest_size)}});
    messages.send(Json{{"progressDetail", Json::object()},
                       {"aux",
                        {{"Tag", item_tag},
                         {"Digest", outcome->digest.str()},
                         {"Size", outcome->manifest_size}}}});
  }
  messages.end();
}

void Engine::reports(const Call& call) {
  auto reference = oci::Reference::parse(call.target.query.get("image"));
  if (!reference) return send_error(call.answer, reference.error());
  auto known = images_.reports(*reference);
  if (!known) return send_error(call.answer, known.error());
  const auto wanted = call.target.query.get("format");
  Json all = Json::object();
  std::string formats;
  for (const auto& report : *known) {
    if (report.format == wanted)
      return call.answer.whole(200, "application/octet-stream", report.text);
    all[report.file] = report.text;
    formats += (formats.empty() ? "" : ", ") + report.format;
  }
  if (!wanted.empty())
    return send_error(call.answer, 400,
                      "there is no format '" + wanted.substr(0, 100) + "'; there are " + formats);
  send_json(call.answer, 200, all);
}

void Engine::manifest(const Call& call) {
  auto found =
      images_.manifest(call.target.query.get("name"), call.target.query.get("from") == "registry");
  if (!found) return send_error(call.answer, found.error());
  call.answer.whole(200, found->media_type, found->json);
}

void Engine::platforms(const Call& call) {
  Json list = Json::array();
  for (const auto& platform : images_.platforms())
    list.push_back(platform.str());
  send_json(call.answer, 200, Json{{"platforms", std::move(list)}});
}

void Engine::edit_index(const Call& call) {
  auto text = call.request.body->read_whole(limits_.json_body_bytes, limits_.header_deadline);
  if (!text) return send_error(call.answer, text.error());
  auto request = parse_index_json(*text);
  if (!request) return send_error(call.answer, request.error());
  Messages messages{call.answer};
  auto made = images_.edit_index(
      *request, [&](std::string_view line) { messages.status_lines(line); },
      [&] { return call.answer.gone(); });
  if (!made) return messages.fail(made.error());
  messages.status_lines("\n");
  messages.send(Json{
      {"aux",
       {{"Digest", made->digest.str()}, {"MediaType", made->media_type}, {"Index", made->json}}}});
  messages.end();
}

void Engine::remove(const Call& call, const std::string& name) {
  auto lines = images_.remove(name, call.target.query.flag("force"));
  if (!lines) {
    const Error& error = lines.error();
    // The one conflict that there is: an image with several names, removed by its ID.
    return send_error(call.answer, error.kind == ErrorKind::denied ? 409 : status_of(error.kind),
                      readable(error));
  }
  Json answer = Json::array();
  for (const auto& line : *lines) {
    const auto colon = line.find(": ");
    if (colon == std::string::npos) continue;
    answer.push_back(Json{{line.substr(0, colon), line.substr(colon + 2)}});
  }
  send_json(call.answer, 200, answer);
}

void Engine::save(const Call& call, const std::vector<std::string>& names) {
  if (names.empty()) return send_error(call.answer, 400, "no image is named: use names=");
  send_tar(call,
           [&](const auto& sink) { return images_.save(names, ImageService::Taker::job, sink); });
}

void Engine::files(const Call& call) {
  const auto name = call.target.query.get("name");
  send_tar(call, [&](const auto& sink) {
    return images_.files(name, sink, [&] { return call.answer.gone(); });
  });
}

void Engine::send_tar(
    const Call& call,
    const std::function<Status(const std::function<Status(std::string_view)>&)>& write) {
  const auto status = write([&](std::string_view bytes) -> Status {
    call.answer.begin_stream(200, "application/x-tar");
    if (call.answer.chunk(bytes)) return {};
    return Error{ErrorKind::unavailable, "the client has gone", "", {}};
  });
  if (!status) {
    // A cut stream without its last chunk is the only way to say so once it has begun.
    if (!call.answer.begun()) send_error(call.answer, status.error());
    call.answer.close_after();
    return;
  }
  call.answer.begin_stream(200, "application/x-tar");
  call.answer.end_stream();
}

void Engine::load(const Call& call) {
  auto loaded = images_.load([&](char* buffer, std::size_t capacity) {
    return call.request.body->read(buffer, capacity);
  });
  if (!loaded) return send_error(call.answer, loaded.error());
  Messages messages{call.answer};
  for (const auto& name : *loaded) {
    messages.stream((name.starts_with("sha256:") ? "Loaded image ID: " : "Loaded image: ") + name +
                    "\n");
  }
  messages.end();
}

void Engine::pull(const Call& call) {
  const Query& query = call.target.query;
  if (!query.get("fromSrc").empty()) {
    return send_error(
        call.answer, 501,
        "slipway does not import file systems as images: use a Dockerfile (FROM scratch, ADD)");
  }
  const std::string name = query.get("fromImage");
  const std::string tag = query.get("tag");
  const std::string text =
      tag.empty() ? name : name + (tag.starts_with("sha256:") ? "@" : ":") + tag;
  auto reference = oci::Reference::parse(text);
  if (!reference) return send_error(call.answer, reference.error());
  Messages messages{call.answer};
  const auto before = images_.find(reference->familiar());
  auto image = images_.pull(
      *reference, query.get("platform"),
      [&](std::string_view line) { messages.status_lines(line); },
      [&] { return call.answer.gone(); });
  if (!image) return messages.fail(image.error());
  messages.status_lines("\n");
  messages.send(
      Json{{"status", "Digest: " + image->pulled.value_or(image->manifest_digest).str()}});
  const bool same = before && before->manifest_digest == image->manifest_digest;
  messages.send(Json{{"status", (same ? "Status: Image is up to date for "
                                      : "Status: Downloaded newer image for ") +
                                    reference->familiar()}});
  messages.end();
}

void Engine::distribution(const Call& call, const std::string& name) {
  auto reference = oci::Reference::parse(name);
  if (!reference) return send_error(call.answer, reference.error());
  auto remote = images_.remote(*reference);
  if (!remote) return send_error(call.answer, remote.error());
  const auto& [descriptor, platforms] = *remote;
  Json list = Json::array();
  for (const auto& platform : platforms) {
    Json item{{"architecture", platform.architecture}, {"os", platform.os}};
    if (!platform.variant.empty()) item["variant"] = platform.variant;
    list.push_back(std::move(item));
  }
  send_json(call.answer, 200,
            Json{{"Descriptor",
                  {{"mediaType", descriptor.media_type},
                   {"digest", descriptor.digest.str()},
                   {"size", descriptor.size}}},
                 {"Platforms", std::move(list)}});
}

void Engine::prune_images(const Call& call) {
  auto filters = parse_image_filters(call.target.query.get("filters"), true);
  if (!filters) return send_error(call.answer, filters.error());
  const bool all = filters->dangling.has_value() && !*filters->dangling;
  filters->dangling.reset();
  auto images = images_.list();
  if (!images) return send_error(call.answer, images.error());
  Json deleted = Json::array();
  std::uint64_t reclaimed = 0;
  for (const auto& image : *images) {
    if (filters->keeps_all || (!all && !image.tags.empty()) || !matches(*filters, image)) continue;
    auto lines = images_.remove(image.image_id.str(), true);
    if (!lines) continue; // another request was quicker
    reclaimed += image.size;
    for (const auto& line : *lines) {
      const auto colon = line.find(": ");
      if (colon != std::string::npos)
        deleted.push_back(Json{{line.substr(0, colon), line.substr(colon + 2)}});
    }
  }
  send_json(call.answer, 200,
            Json{{"ImagesDeleted", deleted.empty() ? Json(nullptr) : deleted},
                 {"SpaceReclaimed", reclaimed}});
}

} // namespace slipway::broker
