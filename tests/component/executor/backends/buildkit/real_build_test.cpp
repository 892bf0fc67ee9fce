// SPDX-License-Identifier: Apache-2.0
// Builds for real: rootless Podman, a buildkitd in its sandbox, a build sandbox with slipway-init.
// Runs as an unprivileged user (tests/lib/as-user USER PROGRAM) with SLIPWAY_BUILDKIT_TOOLS naming
// a folder with bin/buildkitd.
#include "executor/backends/buildkit/backend.hpp"
#include "executor/backends/buildkit/builder.hpp"
#include "executor/base/file.hpp"
#include "executor/oci/layout.hpp"

#include <gtest/gtest.h>

#include <fcntl.h>
#include <pwd.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <filesystem>
#include <fstream>
#include <iostream>
#include <memory>
#include <sstream>
#include <string>
#include <thread>
#include <utility>

namespace slipway::backends::buildkit {
namespace {

namespace fs = std::filesystem;
using namespace std::chrono_literals;
using Steady = std::chrono::steady_clock;

std::string environment(const char* name) {
  const char* value = ::getenv(name);
  return value == nullptr ? "" : value;
}

std::string why_not() {
  if (::geteuid() == 0) return "runs as an unprivileged user only: tests/lib/as-user";
  if (environment("XDG_RUNTIME_DIR").empty()) return "XDG_RUNTIME_DIR is not set";
  if (::access((environment("SLIPWAY_BUILDKIT_TOOLS") + "/bin/buildkitd").c_str(), X_OK) != 0)
    return "SLIPWAY_BUILDKIT_TOOLS names no folder with bin/buildkitd";
  return "";
}

/// A tar of one busybox and a few links, made here: no image is pulled.
std::string ustar(const std::string& name, char type, const std::string& content,
                  const std::string& link, unsigned mode) {
  std::string header(512, '\0');
  const auto put = [&header](std::size_t at, const std::string& text) {
    header.replace(at, text.size(), text);
  };
  const auto octal = [](std::uint64_t value, int digits) {
    char text[24];
    (void)std::snprintf(text, sizeof text, "%0*llo", digits,
                        static_cast<unsigned long long>(value));
    return std::string{text};
  };
  put(0, name);
  put(100, octal(mode, 7));
  put(108, octal(0, 7));
  put(116, octal(0, 7));
  put(124, octal(content.size(), 11));
  put(136, octal(0, 11));
  put(148, "        ");
  header[156] = type;
  put(157, link);
  put(257, std::string("ustar\0"
                       "00",
                       8));
  unsigned sum = 0;
  for (const char c : header)
    sum += static_cast<unsigned char>(c);
  put(148, octal(sum, 6) + std::string("\0 ", 2));
  std::string member = header + content;
  member.append((512 - content.size() % 512) % 512, '\0');
  return member;
}

oci::Digest make_base(oci::Layout& layout, const std::string& extra_config,
                      const std::string& architecture = "amd64") {
  std::string tar;
  for (const char* dir : {"bin/", "etc/", "proc/", "sys/", "dev/", "tmp/"})
    tar += ustar(dir, '5', "", "", 0755);
  const auto busybox = read_file("/bin/busybox", 8UL << 20);
  EXPECT_TRUE(busybox.ok()) << "install busybox-static";
  tar += ustar("bin/busybox", '0', busybox.ok() ? *busybox : "", "", 0755);
  for (const char* tool : {"sh", "cat", "ls", "id", "echo", "sleep", "find", "mount", "ps", "wget",
                           "ip", "test", "kill", "grep"})
    tar += ustar(std::string{"bin/"} + tool, '2', "", "busybox", 0777);
  tar +=
      ustar("etc/passwd", '0', "root:x:0:0:root:/:/bin/sh\nu:x:1000:1000::/:/bin/sh\n", "", 0644);
  tar.append(1024, '\0');
  const auto layer = *layout.write_blob(tar);
  const std::string config =
      R"({"architecture":")" + architecture + R"(","os":"linux","config":{"Env":["PATH=/bin"])" +
      extra_config + R"(},"rootfs":{"type":"layers","diff_ids":[")" + layer.str() + R"("]}})";
  const auto config_digest = *layout.write_blob(config);
  const std::string manifest =
      R"({"schemaVersion":2,"mediaType":"application/vnd.oci.image.manifest.v1+json","config":{"mediaType":"application/vnd.oci.image.config.v1+json","digest":")" +
      config_digest.str() + R"(","size":)" + std::to_string(config.size()) +
      R"(},"layers":[{"mediaType":"application/vnd.oci.image.layer.v1.tar","digest":")" +
      layer.str() + R"(","size":)" + std::to_string(tar.size()) + "}]}";
  return *layout.write_blob(manifest);
}

/// One machine's worth: a builder pool, one build sandbox, a workspace. One is shared by all tests
/// of this program.
class World {
public:
  explicit World(const std::string& name_of_it = "", std::uint64_t most_bytes = 0)
      : own_{name_of_it + std::to_string(::getpid())} {
    if (most_bytes > 0) config.max_cache_bytes = most_bytes;
    char name[] = "/tmp/slipway-buildkit-XXXXXX";
    dir = ::mkdtemp(name);
    sandbox::Engine engine;
    engine.home = ::getpwuid(::geteuid())->pw_dir;
    engine.runtime_dir = environment("XDG_RUNTIME_DIR");
    podman = std::make_unique<sandbox::Podman>(engine, runner);
    config.state_dir = dir / "builders";
    config.tools_dir = environment("SLIPWAY_BUILDKIT_TOOLS");
    config.owner = "test-" + own_;
    config.slots = sandbox::plan_slots(12 * 65536, {4, 4, 2});
    pool = std::make_unique<BuilderPool>(config, *podman, clock);

    auto layout = oci::Layout::create(dir / "bases");
    base = std::make_unique<oci::Digest>(make_base(*layout, ""));
    onbuild = std::make_unique<oci::Digest>(
        make_base(*layout, R"(,"OnBuild":["RUN echo ran > /onbuild"])"));
    const auto arm = make_base(*layout, R"(,"Labels":{"of":"arm64"})", "arm64");
    std::string children;
    for (const auto& [digest, architecture] : {std::pair{*base, "amd64"}, {arm, "arm64"}})
      children += (children.empty() ? "" : ",") +
                  (R"({"mediaType":"application/vnd.oci.image.manifest.v1+json","digest":")" +
                   digest.str() + R"(","size":)" + std::to_string(*layout->blob_size(digest)) +
                   R"(,"platform":{"os":"linux","architecture":")" + architecture + R"("}})");
    both = std::make_unique<oci::Digest>(*layout->write_blob(
        R"({"schemaVersion":2,"mediaType":"application/vnd.oci.image.index.v1+json","manifests":[)" +
        children + "]}"));
    (void)::chmod((dir / "bases").c_str(), 0755);
    result = std::make_unique<oci::Layout>(*oci::Layout::create(dir / "result"));
    start();
  }
  ~World() {
    if (!podman) return;
    (void)podman->remove({sandbox_name()});
    (void)podman->remove_volumes({volume()});
    (void)pool->discard("first");
    (void)pool->discard("second");
    std::error_code ignored;
    fs::remove_all(dir, ignored);
  }
  /// First and last host id of a builder's root, as the kernel has them; {0, 0} where it has none.
  std::pair<std::uint64_t, std::uint64_t> host_ids(const Builder& of) const {
    const auto facts = podman->inspect(of.names().container());
    if (!facts) return {};
    std::ifstream map{"/proc/" + std::to_string(facts->host_pid) + "/uid_map"};
    std::uint64_t inside = 0;
    std::uint64_t first = 0;
    std::uint64_t count = 0;
    map >> inside >> first >> count;
    return {first, first + count};
  }
  std::string sandbox_name() const { return "slipway-test-build-" + own_; }
  std::string volume() const { return "slipway-test-builds-" + own_; }

  void start() {
    const auto from = Steady::now();
    auto acquired = pool->acquire("first");
    cold = std::chrono::duration_cast<std::chrono::milliseconds>(Steady::now() - from);
    if (!acquired) {
      problem = acquired.error().text() + " " + acquired.error().hint;
      return;
    }
    builder = std::make_unique<Builder>(*std::move(acquired));
    if (auto made = podman->create_volume(volume(), {}); !made) {
      problem = made.error().text();
      return;
    }
    auto listener = sandbox::listen_for_scripts(dir / "init.sock");
    if (!listener) {
      problem = listener.error().text();
      return;
    }
    const fs::path bin = fs::read_symlink("/proc/self/exe").parent_path().parent_path() / "bin";
    BuildSandbox parts;
    parts.name = sandbox_name();
    parts.ids.first = 1;
    parts.ids.size = 65535;
    parts.workspace_volume = volume();
    parts.builder_socket_dir = builder->socket_dir();
    parts.bases = dir / "bases";
    parts.tools = config.tools_dir;
    parts.init_dir =
        environment("SLIPWAY_BIN").empty() ? bin : fs::path{environment("SLIPWAY_BIN")};
    parts.script_listener = listener->get();
    auto spec = build_sandbox_spec(parts);
    for (auto& mount : spec.volumes)
      if (mount.source == volume()) mount.read_only = false; // these tests write their own contexts
    if (auto root = sandbox::use_host_tools(*podman, spec); !root) {
      problem = root.error().text();
      return;
    }
    if (auto started = podman->start(spec); !started) {
      problem = started.error().text();
      return;
    }
    backend = std::make_unique<BuildkitBackend>(dir / "init.sock", "0.34.2");
  }

  void write(const std::string& path, const std::string& text) {
    engine_api::ScriptRequest request;
    request.argv = {"/bin/sh", "-ec",
                    R"sh(mkdir -p "$(dirname "$1")"; cat > "$1"; chmod 0600 "$1")sh", "sh", path};
    request.env = {{"PATH", "/usr/bin:/bin"}};
    request.keep_others = true;
    sandbox::ScriptIo io;
    io.input = text;
    io.deadline = 10s;
    const auto ran = sandbox::run_script(dir / "init.sock", request, io);
    ASSERT_TRUE(ran.ok()) << ran.error().text();
    ASSERT_EQ(ran->ending.exit_code, 0) << ran->ending.error;
  }

  BuildJob job(const std::string& dockerfile) {
    BuildJob one;
    one.context_dir = "/builds/app";
    one.context_key = "context-7";
    one.dockerfile_dir = "/builds/app";
    one.dockerfile_name = "Dockerfile";
    one.bases = {{"busybox", *base}, {"onb:1", *onbuild}, {"both:1", *both}};
    one.progress = [this](std::string_view text) { said += text; };
    one.deadline = 60s;
    said.clear();
    write("/builds/app/hello", "hello\n");
    write("/builds/app/Dockerfile", dockerfile);
    return one;
  }
  Result<Built> build(const BuildJob& one) { return backend->build(one, *result); }
  /// What the builder keeps, by its own account.
  std::uint64_t cached_bytes() const {
    engine_api::ScriptRequest request;
    request.argv = {
        "/tools/bin/buildctl",         "--addr", "unix://" + Places{}.socket, "du", "--format",
        "{{range .}}{{.Size}} {{end}}"};
    request.env = {{"PATH", "/usr/bin:/bin"}};
    request.keep_others = true;
    std::string text;
    sandbox::ScriptIo io;
    io.deadline = 30s;
    io.out = [&](std::string_view bytes) { text += bytes; };
    const auto ran = sandbox::run_script(dir / "init.sock", request, io);
    EXPECT_TRUE(ran.ok() && ran->ending.exit_code == 0) << text;
    std::istringstream sizes{text};
    std::uint64_t total = 0;
    for (std::uint64_t size = 0; sizes >> size;)
      total += size;
    return total;
  }
  oci::ImageConfig config_of(const oci::Digest& manifest) {
    const auto tree = oci::read_tree(*result, manifest);
    EXPECT_TRUE(tree.ok()) << tree.error().text();
    EXPECT_TRUE(oci::verify_tree(*result, *tree, 1ULL << 30).ok());
    return *tree->images.at(0).config;
  }

  fs::path dir;
  process::LocalRunner runner;
  SystemClock clock;
  std::unique_ptr<sandbox::Podman> podman;
  BuilderConfig config;
  std::unique_ptr<BuilderPool> pool;
  std::unique_ptr<Builder> builder;
  std::unique_ptr<BuildkitBackend> backend;
  std::unique_ptr<oci::Layout> result;
  std::unique_ptr<oci::Digest> base;
  std::unique_ptr<oci::Digest> onbuild;
  std::unique_ptr<oci::Digest> both; ///< an index: amd64 is `base`, arm64 another
  std::chrono::milliseconds cold{0};
  std::string said;
  std::string problem;

private:
  std::string own_;
};

class RealBuild : public testing::Test {
protected:
  static void SetUpTestSuite() {
    if (why_not().empty()) world = std::make_unique<World>();
  }
  static void TearDownTestSuite() { world.reset(); }
  void SetUp() override {
    if (!world) GTEST_SKIP() << why_not();
    ASSERT_EQ(world->problem, "");
  }
  static std::unique_ptr<World> world;
};
std::unique_ptr<World> RealBuild::world;

TEST_F(RealBuild, MakesAnImageFromALocalBase) {
  auto job = world->job(
      "# syntax=docker/dockerfile:1\nFROM busybox\nARG WHO=nobody\nHEALTHCHECK CMD true\n"
      "COPY hello /hello\nRUN echo $WHO; cat /hello\nUSER u\n");
  job.build_args = {{"WHO", "somebody, here=1"}};
  job.labels = {{"org.example", "a b"}};

  const auto built = world->build(job);

  ASSERT_TRUE(built.ok()) << built.error().text() << "\n" << world->said;
  const auto config = world->config_of(built->manifest);
  EXPECT_TRUE(config.has_healthcheck);
  EXPECT_EQ(config.user, "u");
  EXPECT_EQ(config.labels.at("org.example"), "a b");
  EXPECT_NE(world->said.find("somebody, here=1"), std::string::npos) << world->said;
  EXPECT_EQ(world->said.find("fsverity"), std::string::npos);
}

TEST_F(RealBuild, IsCachedTheSecondTimeUnlessToldOtherwise) {
  auto job = world->job("FROM busybox\nCOPY hello /hello\nRUN echo once > /once\n");
  ASSERT_TRUE(world->build(job).ok());
  world->said.clear();

  auto cached = std::chrono::milliseconds::max();
  for (int i = 0; i < 5; ++i) {
    const auto from = Steady::now();
    ASSERT_TRUE(world->build(job).ok());
    cached = std::min(cached,
                      std::chrono::duration_cast<std::chrono::milliseconds>(Steady::now() - from));
  }
  EXPECT_NE(world->said.find("CACHED"), std::string::npos);

  world->said.clear();
  job.no_cache = true;
  ASSERT_TRUE(world->build(job).ok());
  EXPECT_EQ(world->said.find("RUN echo once > /once\n#6 CACHED"), std::string::npos) << world->said;
  std::cout << "cold start " << world->cold.count() << " ms, all cached " << cached.count()
            << " ms\n";
}

TEST_F(RealBuild, StopsAtTheTarget) {
  auto job = world->job("FROM busybox AS one\nRUN echo 1 > /1\nFROM busybox AS two\nRUN exit 3\n");
  job.target = "one";

  EXPECT_TRUE(world->build(job).ok()) << world->said;
}

TEST_F(RealBuild, RunsTheTriggersOfABase) {
  EXPECT_TRUE(world->build(world->job("FROM onb:1\nRUN cat /onbuild\n")).ok()) << world->said;
}

TEST_F(RealBuild, TakesFilesFromNamedImages) {
  const auto built =
      world->build(world->job("FROM busybox AS a\nCOPY --from=onb:1 /etc/passwd /p\n"
                              "RUN --mount=from=onb:1,target=/m ls /m/bin/sh\n"
                              "RUN <<EOF\necho in > /heredoc\nEOF\nRUN cat /heredoc /p\n"));

  EXPECT_TRUE(built.ok()) << built.error().text() << world->said;
}

TEST_F(RealBuild, TakesOneImageForEachPlatformThatItIsWantedFor) {
  for (const char* name : {"made", "both"}) { // the second is pinned by its digest
    auto job =
        world->job("FROM --platform=$BUILDPLATFORM both:1 AS " + std::string{name} +
                   "\nRUN echo 1 > /made\nFROM both:1\nCOPY --from=" + name + " /made /made\n");
    job.platform = "linux/arm64";

    const auto built = world->build(job);

    ASSERT_TRUE(built.ok()) << built.error().text() << world->said;
    const auto config = world->config_of(built->manifest);
    EXPECT_EQ(config.platform.architecture, "arm64");
    EXPECT_EQ(config.labels.count("of"), 1U) << "it stands on the image for amd64";
  }
}

TEST_F(RealBuild, KeepsTheStageThatHasItsBasesName) {
  const auto built = world->build(
      world->job("FROM busybox AS busybox\nRUN echo made > /made\nFROM busybox\nRUN cat /made\n"));

  EXPECT_TRUE(built.ok()) << world->said;
}

TEST_F(RealBuild, ReportsTheStepThatFailed) {
  const auto built = world->build(world->job("FROM busybox\nRUN echo before; exit 42\n"));

  ASSERT_FALSE(built.ok());
  EXPECT_EQ(built.error().kind, ErrorKind::backend_failed);
  EXPECT_EQ(built.error().what.substr(0, 51),
            "Dockerfile:2: a step ended with exit code 42: proce");
  EXPECT_NE(world->said.find("before"), std::string::npos);
}

TEST_F(RealBuild, AsksNoRegistry) {
  const auto from = Steady::now();

  const auto built = world->build(world->job("FROM registry.invalid/other:1\nRUN true\n"));

  ASSERT_FALSE(built.ok());
  EXPECT_EQ(built.error().kind, ErrorKind::bad_input);
  EXPECT_NE(built.error().what.find("registry.invalid/other:1 is not among the base images"),
            std::string::npos)
      << built.error().what;
  EXPECT_LT(Steady::now() - from, 10s);
}

TEST_F(RealBuild, RefusesAForeignFrontendNamingTheLine) {
  const auto built = world->build(world->job("# syntax=evil/frontend:1\nFROM busybox\n"));

  ASSERT_FALSE(built.ok());
  EXPECT_EQ(built.error().kind, ErrorKind::denied);
  EXPECT_EQ(built.error().what.substr(0, 13), "Dockerfile:1:");
}

TEST_F(RealBuild, GrantsNoPrivilegedStep) {
  const auto built = world->build(world->job("FROM busybox\nRUN --security=insecure true\n"));

  ASSERT_FALSE(built.ok());
  EXPECT_EQ(built.error().kind, ErrorKind::denied) << built.error().what;
}

TEST_F(RealBuild, HidesTheDaemonFromItsSteps) {
  const auto built =
      world->build(world->job("FROM busybox\n"
                              "RUN ! find / -xdev -name '*.sock' | grep sock\n"
                              "RUN test ! -e /run/slipway-builder; test ! -e /tools; test ! -e "
                              "/var/lib/buildkit; test ! -e /usr/bin/bash\n"
                              "RUN ! ps | grep -v grep | grep buildkitd\n"
                              "RUN ! mount -t tmpfs none /tmp\n"));

  EXPECT_TRUE(built.ok()) << (built.ok() ? "" : built.error().text()) << world->said;
}

TEST_F(RealBuild, GivesNoNetworkWhereNoneIsAskedFor) {
  auto job = world->job("FROM busybox\nRUN ! ip addr | grep eth0\n");
  job.network = "none";

  EXPECT_TRUE(world->build(job).ok()) << world->said;
}

TEST_F(RealBuild, EndsWhenTheJobIsCancelled) {
  auto job = world->job("FROM busybox\nRUN sleep 47\n");
  const std::vector<std::string> find_step{"/bin/sh", "-c",
                                           "for p in /proc/[0-9]*; do tr '\\0' ' ' <$p/cmdline "
                                           "2>/dev/null | grep -x 'sleep 47 '; done; true"};
  std::atomic<bool> cancel{false};
  std::string while_running;
  job.cancelled = [&] { return cancel.load(); };
  std::thread later{[&] {
    for (int i = 0; i < 50 && while_running.empty(); ++i) {
      std::this_thread::sleep_for(200ms);
      if (auto seen = world->podman->unshare(find_step)) while_running = seen->out;
    }
    cancel = true;
  }};

  const auto built = world->build(job);
  later.join();

  ASSERT_FALSE(built.ok());
  EXPECT_EQ(built.error().what, "the build was cancelled");
  EXPECT_NE(while_running, "");
  std::this_thread::sleep_for(1s); // the daemon ends the step on its own, once its client has gone
  auto after = world->podman->unshare(find_step);
  ASSERT_TRUE(after.ok());
  EXPECT_EQ(after->out, "");
}

TEST_F(RealBuild, ContextMayNotLeaveTheWorkspace) {
  auto job = world->job("FROM busybox\n");
  job.context_dir = "/builds/app/../../usr";

  const auto built = world->build(job);

  ASSERT_FALSE(built.ok());
  EXPECT_EQ(built.error().kind, ErrorKind::bad_input);
  EXPECT_NE(built.error().what.find("leads to /usr"), std::string::npos) << built.error().what;
}

TEST_F(RealBuild, WithoutDockerfileSaysSo) {
  auto job = world->job("FROM busybox\n");
  job.dockerfile_name = "Dockerfile.none";

  const auto built = world->build(job);

  ASSERT_FALSE(built.ok());
  EXPECT_EQ(built.error().what, "cannot read the Dockerfile /builds/app/Dockerfile.none");
}

TEST_F(RealBuild, HonoursTheIgnoreFileOfTheDockerfile) {
  world->write("/builds/app/Dockerfile.dockerignore", "secret\n");
  world->write("/builds/app/secret", "x\n");

  const auto built = world->build(
      world->job("FROM busybox\nCOPY . /c\nRUN test ! -e /c/secret && test -e /c/hello\n"));

  EXPECT_TRUE(built.ok()) << world->said;
}

TEST_F(RealBuild, BuildersOfTwoDomainsShareNothing) {
  auto other = world->pool->acquire("second");

  ASSERT_TRUE(other.ok()) << other.error().text();
  EXPECT_NE(other->socket_dir(), world->builder->socket_dir());
  EXPECT_NE(other->names().volume(), world->builder->names().volume());
  const auto [first, second] = std::pair{world->host_ids(*world->builder), world->host_ids(*other)};
  EXPECT_TRUE(first.second <= second.first || second.second <= first.first)
      << first.first << " to " << first.second << ", " << second.first << " to " << second.second;
  { auto ended = *std::move(other); }
  EXPECT_TRUE(world->pool->discard("second").ok());
}

TEST_F(RealBuild, BuildersShareTheirHostIdsWhereThereAreTooFewAndItIsSaid) {
  auto few = world->config;
  few.owner += "-few";
  few.state_dir = world->dir / "few";
  few.slots = sandbox::plan_slots(65536, {4, 4, 2});
  BuilderPool pool{few, *world->podman, world->clock};
  {
    auto one = pool.acquire("one");
    auto two = pool.acquire("two");

    ASSERT_TRUE(one.ok() && two.ok());
    EXPECT_EQ(world->host_ids(*one), world->host_ids(*two));
    EXPECT_TRUE(one->ids().shared);
    EXPECT_TRUE(two->ids().shared);
    EXPECT_FALSE(world->builder->ids().shared);
  }
  EXPECT_TRUE(pool.discard("one").ok());
  EXPECT_TRUE(pool.discard("two").ok());
}

// BuildKit looks a minute after a build has ended.
TEST_F(RealBuild, ABuilderKeepsNoMoreThanItsDiskBound) {
  constexpr std::uint64_t kBound = 64UL << 20;
  World small{"small-", kBound};
  ASSERT_EQ(small.problem, "");
  for (int i = 0; i < 4; ++i) {
    const auto number = std::to_string(i);
    const auto built = small.build(small.job(
        "FROM busybox\nRUN busybox head -c 33554432 /dev/urandom > /file-" + number + "\n"));
    ASSERT_TRUE(built.ok()) << built.error().text() << "\n" << small.said;
  }
  EXPECT_GT(small.cached_bytes(), kBound) << "the control: there is something to remove";

  const auto patience = Steady::now() + 4min;
  while (small.cached_bytes() > kBound && Steady::now() < patience)
    std::this_thread::sleep_for(2s);

  EXPECT_LE(small.cached_bytes(), kBound);
}

TEST_F(RealBuild, AKilledDaemonIsReplaced) {
  ASSERT_TRUE(world->podman->remove({world->builder->names().container()}).ok());

  const auto gone = world->build(world->job("FROM busybox\nRUN true\n"));
  auto again = world->pool->acquire("first");

  ASSERT_FALSE(gone.ok());
  EXPECT_EQ(gone.error().kind, ErrorKind::unavailable) << gone.error().text();
  ASSERT_TRUE(again.ok()) << again.error().text();
  EXPECT_TRUE(again->was_cold());
  EXPECT_TRUE(world->build(world->job("FROM busybox\nRUN true\n")).ok()) << world->said;
}

} // namespace
} // namespace slipway::backends::buildkit
