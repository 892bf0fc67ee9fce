// SPDX-License-Identifier: Apache-2.0
#include "tests/component/executor/backends/buildah/world.hpp"

#include "executor/base/file.hpp"

#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include <pwd.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <sys/stat.h>
#include <unistd.h>

#include <variant>

namespace slipway::backends::buildah {
namespace {

namespace fs = std::filesystem;
using namespace std::chrono_literals;

std::string environment(const char* name) {
  const char* value = ::getenv(name);
  return value == nullptr ? "" : value;
}

} // namespace

WebServer::WebServer(sandbox::Engine engine, fs::path folder)
    : stop_{::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)}, runner_{stop_.get()},
      podman_{[&] {
                engine.deadline = 30min;
                return engine;
              }(),
              runner_},
      thread_{[this, folder = std::move(folder)] {
        (void)podman_.unshare(
            {"/bin/sh", "-ec",
             "/usr/sbin/ip address replace 192.0.2.80/32 dev lo\n"
             "exec /usr/bin/python3 \"$1\" --smart --listen 192.0.2.80:80 --root \"$2\"",
             "sh", std::string{SLIPWAY_SOURCE_DIR} + "/tests/lib/git_server.py", folder.string()},
            "", true);
      }} {}

WebServer::~WebServer() {
  (void)::eventfd_write(stop_.get(), 1);
  thread_.join();
}

std::string WebServer::await() {
  process::LocalRunner runner;
  sandbox::Podman podman{podman_.engine(), runner};
  const auto tried = podman.unshare({"/usr/bin/python3", "-c",
                                     "import socket, time\n"
                                     "for left in range(200, -1, -1):\n"
                                     "    try:\n"
                                     "        socket.create_connection(('192.0.2.80', 80), 5)\n"
                                     "        break\n"
                                     "    except OSError:\n"
                                     "        if not left: raise\n"
                                     "        time.sleep(0.1)\n"},
                                    "", true);
  if (!tried) return tried.error().text();
  return process::succeeded(tried->ending) ? "" : "the web server does not answer: " + tried->err;
}

std::string World::why_not() {
  if (::geteuid() == 0) return "runs as an unprivileged user only: tests/lib/as-user";
  if (environment("XDG_RUNTIME_DIR").empty()) return "XDG_RUNTIME_DIR is not set";
  if (::access("/usr/bin/buildah", X_OK) != 0) return "install buildah";
  if (environment("SLIPWAY_TEST_BUSYBOX").empty()) return "SLIPWAY_TEST_BUSYBOX names no layout";
  return "";
}

World::World() {
  char name[] = "/tmp/slipway-buildah-XXXXXX";
  dir = ::mkdtemp(name);
  fs::create_directory(dir / "conf");
  sandbox::Engine engine;
  engine.home = ::getpwuid(::geteuid())->pw_dir;
  engine.runtime_dir = environment("XDG_RUNTIME_DIR");
  if (auto written = sandbox::write_containers_conf(engine, dir / "conf"); !written) {
    problem = written.error().text();
    return;
  }
  podman = std::make_unique<sandbox::Podman>(engine, runner);
  config.state_dir = dir / "stores";
  config.owner = "test-" + std::to_string(::getpid());
  config.slots = sandbox::plan_slots(12 * 65536, {4, 2, 4});
  const fs::path bin = fs::read_symlink("/proc/self/exe").parent_path().parent_path() / "bin";
  config.init_dir = environment("SLIPWAY_BIN").empty() ? bin : fs::path{environment("SLIPWAY_BIN")};
  pool = std::make_unique<StorePool>(config, *podman, clock);
  auto newer = config;
  newer.program_dir = newer_buildah().parent_path();
  newer_pool = std::make_unique<StorePool>(newer, *podman, clock);
  kaniko::PoolConfig workshop_config;
  workshop_config.state_dir = dir / "kaniko";
  workshop_config.executor = kaniko_executor();
  workshop_config.init = config.init_dir / "slipway-init";
  workshop_config.owner = config.owner;
  workshop_config.max_idle = -1s;
  workshops = std::make_unique<kaniko::WorkshopPool>(workshop_config, *podman, clock);
  volume = "slipway-test-buildah-" + std::to_string(::getpid());
  sandbox_name = volume + "-build";
  make_bases();
  start();
}

World::~World() {
  if (!podman) return;
  (void)podman->remove({sandbox_name}).ok();
  (void)podman->remove_volumes({volume}).ok();
  for (const char* key : {"first", "second", "newer"})
    (void)pool->discard(key).ok();
  (void)workshops->reap().ok();
  builder_.reset();
  if (builders_) (void)builders_->discard("first").ok();
  std::error_code ignored;
  fs::remove_all(dir, ignored);
}

/// busybox as the tests' images have it, and twins of it whose configs say more.
void World::make_bases() {
  auto source = oci::Layout::open(environment("SLIPWAY_TEST_BUSYBOX"));
  auto made = oci::Layout::create(dir / "bases");
  if (!source || !made) {
    problem = "no base images: " + (source ? made.error().text() : source.error().text());
    return;
  }
  bases = std::make_unique<oci::Layout>(*std::move(made));
  (void)::chmod((dir / "bases").c_str(), 0755);
  result = std::make_unique<oci::Layout>(*oci::Layout::create(dir / "result"));
  const auto root = (*source->index()).at(0).digest;
  const auto tree = *oci::read_tree(*source, root);
  for (const auto& blob : tree.blobs)
    ASSERT_TRUE(bases->link_blob(*source, blob.digest).ok());

  const auto& manifest = tree.images.at(0).manifest;
  const auto twin = [&](const std::string& reference, const char* key, nlohmann::json value) {
    auto facts =
        nlohmann::json::parse(*bases->read_blob(manifest.config.digest, oci::kMaxConfigBytes));
    facts["config"][key] = std::move(value);
    // Buildah finds nothing in its cache for a base whose history has no times.
    for (auto& step : facts["history"])
      step["created"] = "2026-01-01T00:00:00Z";
    const auto text = facts.dump();
    auto document = nlohmann::json::parse(*bases->read_blob(root, oci::kMaxManifestBytes));
    document["config"]["digest"] = bases->write_blob(text)->str();
    document["config"]["size"] = text.size();
    base_images.push_back({reference, *bases->write_blob(document.dump())});
  };
  twin("busybox:latest", "WorkingDir", "/");
  twin("onb:1", "OnBuild", {"RUN echo ran > /onbuild"});
  twin("shell:1", "Shell", {"/bin/sh", "-e", "-c"});

  // One with another layer, whose files have extended attributes.
  process::Command attributes;
  attributes.argv = {"/usr/bin/python3",
                     std::string{SLIPWAY_SOURCE_DIR} + "/tests/lib/attribute_layer.py"};
  const auto layer = runner.run(attributes);
  ASSERT_TRUE(layer.ok() && process::succeeded(layer->ending));
  const auto changed = [&](const oci::Digest& from, auto change) {
    auto document = nlohmann::json::parse(*bases->read_blob(from, oci::kMaxManifestBytes));
    auto facts = nlohmann::json::parse(
        *bases->read_blob(*oci::Digest::parse(document["config"]["digest"].get<std::string>()),
                          oci::kMaxConfigBytes));
    change(document, facts);
    const auto text = facts.dump();
    document["config"]["digest"] = bases->write_blob(text)->str();
    document["config"]["size"] = text.size();
    return std::pair{*bases->write_blob(document.dump()), document.dump().size()};
  };
  const auto plain = base_images.front().digest;
  const auto noted = changed(plain, [&](auto& document, auto& facts) {
    const auto digest = bases->write_blob(layer->out)->str();
    document["layers"].push_back({{"mediaType", "application/vnd.oci.image.layer.v1.tar"},
                                  {"digest", digest},
                                  {"size", layer->out.size()}});
    facts["rootfs"]["diff_ids"].push_back(digest);
    facts["history"].push_back({{"created", "2026-01-01T00:00:00Z"}, {"created_by", "attributes"}});
  });
  base_images.push_back({"attributes:1", noted.first});
  // And an index of images for two platforms, of which one cannot be run here.
  const auto other = changed(plain, [](auto&, auto& facts) { facts["architecture"] = "arm64"; });
  const auto bytes = bases->read_blob(plain, oci::kMaxManifestBytes)->size();
  const auto entry = [](const oci::Digest& digest, std::size_t size, const char* architecture) {
    return nlohmann::json{{"mediaType", "application/vnd.oci.image.manifest.v1+json"},
                          {"digest", digest.str()},
                          {"size", size},
                          {"platform", {{"os", "linux"}, {"architecture", architecture}}}};
  };
  base_images.push_back(
      {"both:1",
       *bases->write_blob(nlohmann::json{
           {"schemaVersion", 2},
           {"mediaType", "application/vnd.oci.image.index.v1+json"},
           {"manifests", {entry(plain, bytes, "amd64"), entry(other.first, other.second, "arm64")}}}
                              .dump())});
}

void World::start() {
  if (!problem.empty()) return;
  const auto fail = [this](const Error& error) { problem = error.text() + " " + error.hint; };
  if (auto made = podman->create_volume(volume, {}); !made) return fail(made.error());
  auto listener = sandbox::listen_for_scripts(socket());
  if (!listener) return fail(listener.error());
  buildkit::BuildSandbox parts;
  parts.name = sandbox_name;
  parts.ids = config.slots.slot(1);
  parts.workspace_volume = volume;
  auto sockets = buildkit::BuilderPool::socket_dir(builder_config(), "first");
  if (!sockets) return fail(sockets.error());
  parts.builder_socket_dir = *sockets;
  parts.bases = dir / "bases";
  parts.tools = builder_config().tools_dir;
  parts.init_dir = config.init_dir;
  parts.script_listener = listener->get();
  auto spec = buildkit::build_sandbox_spec(parts);
  for (auto& mount : spec.volumes)
    if (mount.source == volume) mount.read_only = false; // tests write their own contexts
  if (auto root = sandbox::use_host_tools(*podman, spec); !root) return fail(root.error());
  if (auto started = podman->start(spec); !started) return fail(started.error());
}

buildkit::BuilderConfig World::builder_config() const {
  buildkit::BuilderConfig builder;
  builder.state_dir = dir / "builders";
  builder.tools_dir = buildkit_tools().empty() ? dir / "conf" : buildkit_tools();
  builder.owner = config.owner;
  builder.slots = config.slots;
  return builder;
}

fs::path World::buildkit_tools() {
  return environment("SLIPWAY_BUILDKIT_TOOLS");
}

BuildBackend* World::buildkit() {
  if (buildkit_tools().empty()) return nullptr;
  if (buildkit_) return buildkit_.get();
  builders_ = std::make_unique<buildkit::BuilderPool>(builder_config(), *podman, clock);
  auto acquired = builders_->acquire("first");
  EXPECT_TRUE(acquired.ok()) << acquired.error().text();
  if (!acquired) return nullptr;
  builder_ = std::make_unique<buildkit::Builder>(*std::move(acquired));
  buildkit_ = std::make_unique<buildkit::BuildkitBackend>(client(), "0.34.2");
  return buildkit_.get();
}

sandbox::ScriptRunner World::client() const {
  return
      [socket = socket()](const engine_api::ScriptRequest& request, const sandbox::ScriptIo& io) {
        return sandbox::run_script(socket, request, io);
      };
}

void World::write(const std::string& path, const std::string& text) {
  const sandbox::BuildClock quick{nullptr, 60s};
  const auto done = sandbox::read_program(
      client(),
      sandbox::program_request({"/bin/sh", "-ec",
                                R"sh(mkdir -p "$(dirname "$1")"; cat > "$1"; chmod 0600 "$1")sh",
                                "sh", path},
                               "/"),
      1000, quick, {text});
  ASSERT_TRUE(done.ok()) << done.error().text();
}

void World::bring(const fs::path& from, const std::string& to) {
  process::Command pack;
  pack.argv = {"/usr/bin/tar", "--xattrs", "-C", from.string(), "-cf", "-", "."};
  const auto packed = runner.run(pack);
  ASSERT_TRUE(packed.ok() && process::succeeded(packed->ending));
  const sandbox::BuildClock quick{nullptr, 60s};
  const auto done = sandbox::read_program(
      client(),
      sandbox::program_request(
          {"/bin/sh", "-ec",
           R"(umask 022; rm -rf "$1"; mkdir -p "$1"; exec tar --xattrs --xattrs-include="*" -C "$1" -xf -)",
           "sh", to},
          "/"),
      1000, quick, {packed->out});
  ASSERT_TRUE(done.ok()) << done.error().text();
}

std::string World::in_build_sandbox(const std::string& script) {
  const sandbox::BuildClock quick{nullptr, 60s};
  const auto printed = sandbox::read_program(
      client(), sandbox::program_request({"/bin/sh", "-ec", script}, "/"), 1UL << 20, quick);
  return printed ? *printed : printed.error().text();
}

BuildJob World::job(const std::string& dockerfile) {
  BuildJob one;
  one.context_dir = "/builds/app";
  one.context_key = "context-7";
  one.dockerfile_dir = "/builds/app";
  one.dockerfile_name = "Dockerfile";
  one.bases.assign(base_images.begin(), base_images.begin() + 3);
  one.progress = [this](std::string_view text) {
    const std::lock_guard guard{saying};
    said += text;
  };
  one.deadline = 5min;
  said.clear();
  write("/builds/app/hello", "hello\n");
  write("/builds/app/Dockerfile", dockerfile);
  return one;
}

std::unique_ptr<BuildahBackend> World::backend(Tool tool, const std::string& store,
                                               const fs::path& path, bool is_checked) {
  auto program = probe(runner, tool,
                       !path.empty()          ? path
                       : tool == Tool::podman ? "/usr/bin/podman"
                                              : "/usr/bin/buildah");
  EXPECT_TRUE(program.ok()) << program.error().text();
  program->is_checked = is_checked;
  auto& stores = path.empty() ? *pool : *newer_pool;
  const OpenWorkshop open = [this, store, &stores](bool network, const sandbox::BuildClock& build,
                                                   const std::function<void()>& waiting) {
    Opening opening;
    opening.bases = dir / "bases";
    opening.socket_dir = dir / ("open-" + store);
    fs::create_directories(opening.socket_dir);
    opening.network = network;
    return stores.open(store, opening, build, waiting);
  };
  return std::make_unique<BuildahBackend>(*std::move(program), client(), open, dir / "bases");
}

Result<Built> World::build(const BuildJob& one, Tool tool) {
  return backend(tool)->build(one, *result);
}

Result<Built> World::build_unchecked(const BuildJob& one, Tool tool, const fs::path& program) {
  return backend(tool, program.empty() ? "first" : "newer", program, false)->build(one, *result);
}

fs::path World::newer_buildah() {
  return environment("SLIPWAY_TEST_BUILDAH");
}

Result<Built> World::build_with_newer(const BuildJob& one) {
  return backend(Tool::buildah, "newer", newer_buildah())->build(one, *result);
}

std::string World::kaniko_executor() {
  return environment("SLIPWAY_TEST_KANIKO");
}

Result<Built> World::build_with_kaniko(const BuildJob& one) {
  const auto program = kaniko::probe(runner, kaniko_executor());
  if (!program) return Error{program.error()};
  const kaniko::OpenWorkshop open = [this](const kaniko::FillInputs& fill) {
    kaniko::Opening opening;
    opening.socket_dir = dir / "open-kaniko";
    fs::create_directories(opening.socket_dir);
    return workshops->open("first", opening, fill);
  };
  return kaniko::KanikoBackend{*program, client(), open, dir / "bases"}.build(one, *result);
}

fs::path World::newer_dockerd() {
  return environment("SLIPWAY_TEST_DOCKERD");
}

Result<Built> World::build_with_dind(const BuildJob& one, const fs::path& folder) {
  const auto program = dockerd::probe(runner, dockerd::find_daemon(folder), folder);
  if (!program) return Error{program.error()};
  const dockerd::OpenWorkshop open = [this, &folder](bool network) {
    dockerd::BuilderParts parts;
    parts.job = "test-" + config.owner;
    parts.owner = config.owner;
    parts.name = "slipway-" + config.owner + "-dind";
    parts.ids = config.slots.slot(1);
    parts.folder = dir / "dind";
    parts.socket_dir = dir / "open-dind";
    fs::create_directories(parts.socket_dir);
    parts.init_dir = config.init_dir;
    parts.bases = dir / "bases";
    parts.tools = folder;
    parts.network = network;
    return dockerd::open_builder(*podman, parts);
  };
  return dockerd::DockerdBackend{*program, client(), open, dir / "bases"}.build(one, *result);
}

oci::ImageConfig World::config_of(const oci::Digest& manifest) {
  const auto tree = oci::read_tree(*result, manifest);
  EXPECT_TRUE(tree.ok()) << tree.error().text();
  const auto verified = oci::verify_tree(*result, *tree, 1ULL << 30);
  EXPECT_TRUE(verified.ok()) << verified.error().text();
  return *tree->images.at(0).config;
}

} // namespace slipway::backends::buildah
