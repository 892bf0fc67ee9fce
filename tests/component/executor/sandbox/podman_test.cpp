// SPDX-License-Identifier: Apache-2.0
// On the real rootless Podman, with a store and a runtime folder of its own, so that nothing of the
// user's is touched. Needs subordinate ids, a cgroup v2 view and an unprivileged user.
#include "executor/base/file.hpp"
#include "executor/sandbox/id_slots.hpp"
#include "executor/sandbox/podman_api.hpp"
#include "executor/sandbox/sandbox.hpp"

#include <gtest/gtest.h>

#include <arpa/inet.h>
#include <fcntl.h>
#include <ifaddrs.h>
#include <net/if.h>
#include <netinet/in.h>
#include <poll.h>
#include <pwd.h>
#include <signal.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include <array>
#include <chrono>
#include <cstdlib>
#include <fstream>
#include <functional>
#include <iostream>
#include <memory>
#include <sstream>
#include <thread>

namespace slipway::sandbox {
namespace {

using process::succeeded;
using Steady = std::chrono::steady_clock;

std::string variable(const char* name) {
  const char* value = std::getenv(name); // NOLINT(concurrency-mt-unsafe): before any thread
  return value == nullptr ? "" : value;
}

long milliseconds_since(Steady::time_point start) {
  return std::chrono::duration_cast<std::chrono::milliseconds>(Steady::now() - start).count();
}

// Keeps the command lines it passes on.
class RecordingRunner final : public process::ProcessRunner {
public:
  Result<process::Output> run(const process::Command& command) override {
    argvs.push_back(command.argv);
    return local_.run(command);
  }
  std::vector<std::vector<std::string>> argvs;

private:
  process::LocalRunner local_;
};

struct World {
  std::filesystem::path home;
  std::filesystem::path runtime;
  Engine engine;
  RecordingRunner runner;
  std::unique_ptr<Podman> podman;
  std::string toolbox;
};

class Sandboxes : public testing::Test {
protected:
  static void SetUpTestSuite() {
    const auto must_run = variable("SLIPWAY_TESTS_MUST_RUN") == "1";
    if (::getuid() == 0) {
      skip_ = "rootless Podman is not run as root";
    } else if (::access("/usr/bin/podman", X_OK) != 0 || ::access("/usr/sbin/nft", X_OK) != 0) {
      skip_ = "podman and nft are not installed";
    } else if (variable("HOME").empty() || variable("XDG_RUNTIME_DIR").empty()) {
      skip_ = "HOME and XDG_RUNTIME_DIR are not set";
    }
    if (!skip_.empty()) {
      ASSERT_FALSE(must_run) << skip_;
      return;
    }
    world_ = std::make_unique<World>();
    std::string home = variable("HOME") + "/sbx-XXXXXX";
    std::string runtime = variable("XDG_RUNTIME_DIR") + "/sbx-XXXXXX";
    ASSERT_NE(::mkdtemp(home.data()), nullptr);
    ASSERT_NE(::mkdtemp(runtime.data()), nullptr);
    world_->home = home;
    world_->runtime = runtime;
    auto& engine = world_->engine;
    engine.home = variable("HOME");
    engine.runtime_dir = runtime;
    engine.global_args = {"--root=" + home + "/store", "--runroot=" + runtime + "/run",
                          "--storage-driver=overlay",
                          // Podman 4.3 keeps networks per user, not per store.
                          "--network-config-dir=" + home + "/networks"};
    ASSERT_TRUE(use_stand_ins(engine, runtime).ok());
    world_->podman = std::make_unique<Podman>(engine, world_->runner);
    auto toolbox = world_->podman->toolbox_image();
    ASSERT_TRUE(toolbox.ok()) << toolbox.error().text();
    world_->toolbox = *toolbox;
  }

  static void TearDownTestSuite() {
    if (!world_) return;
    auto left = world_->podman->list("io.slipway.test", "");
    std::vector<std::string> names;
    if (left.ok()) {
      for (const auto& facts : *left)
        names.push_back(facts.name);
    }
    EXPECT_TRUE(world_->podman->remove(names).ok());
    auto networks = world_->podman->list_networks("io.slipway.test", "");
    if (networks.ok()) {
      EXPECT_TRUE(world_->podman->remove_networks(*networks).ok());
    }
    (void)world_->podman->unshare({"/usr/bin/rm", "-rf", (world_->home / "store").string()});
    // Podman's pause process holds the user namespace; the number is the one it wrote itself.
    std::ifstream pause(world_->runtime / "libpod/tmp/pause.pid");
    pid_t pid = 0;
    if (pause >> pid && pid > 1) (void)::kill(pid, SIGKILL);
    std::error_code failed;
    std::filesystem::remove_all(world_->home, failed);
    std::filesystem::remove_all(world_->runtime, failed);
    world_.reset();
  }

  void SetUp() override {
    if (!skip_.empty()) GTEST_SKIP() << skip_;
    ASSERT_NE(world_, nullptr);
    ASSERT_FALSE(world_->toolbox.empty());
  }

  // A sandbox of the host's own tools that sleeps.
  SandboxSpec spec(const std::string& role) {
    SandboxSpec spec;
    spec.name = "sbx-" + std::to_string(::getpid()) + "-" + role;
    spec.labels = {{"io.slipway.test", "1"}, {"io.slipway.role", role}};
    EXPECT_TRUE(use_host_tools(podman(), spec).ok());
    spec.command = {"/usr/bin/sleep", "600"};
    spec.limits.pids = 200;
    return spec;
  }
  std::string network(const std::string& role, bool isolate = true) {
    const auto name = "sbx-" + std::to_string(::getpid()) + "-" + role;
    auto made = podman().create_network(name, {{"io.slipway.test", "1"}}, isolate);
    EXPECT_TRUE(made.ok()) << (made.ok() ? "" : made.error().text());
    return name;
  }
  ContainerFacts start(const SandboxSpec& spec) {
    auto facts = podman().start(spec);
    EXPECT_TRUE(facts.ok()) << (facts.ok() ? "" : facts.error().text());
    return facts.ok() ? *facts : ContainerFacts{};
  }
  // The whole command line as a shell script inside a running sandbox, as its root.
  process::Output inside(const std::string& name, const std::string& script) {
    process::Command command;
    command.argv = {engine().podman.string()};
    command.argv.insert(command.argv.end(), engine().global_args.begin(),
                        engine().global_args.end());
    for (const std::string& argument :
         {std::string{"--cgroup-manager=cgroupfs"}, std::string{"exec"}, name,
          std::string{"/bin/bash"}, std::string{"-c"}, script}) {
      command.argv.push_back(argument);
    }
    command.env = {{"HOME", engine().home.string()},
                   {"XDG_RUNTIME_DIR", engine().runtime_dir.string()},
                   {"PATH", "/usr/sbin:/usr/bin"}};
    command.no_new_privileges = false;
    command.deadline = std::chrono::seconds{60};
    auto output = process::LocalRunner{}.run(command);
    EXPECT_TRUE(output.ok());
    return output.ok() ? *output : process::Output{};
  }
  bool can_reach(const std::string& name, const std::string& address, int port) {
    const auto output = inside(name, "timeout 3 bash -c ': </dev/tcp/" + address + "/" +
                                         std::to_string(port) + "'");
    return succeeded(output.ending);
  }
  template <typename Target> void send_datagram(const std::string& name, const Target& target) {
    (void)inside(name, "echo x >/dev/udp/" + target.address + "/" + std::to_string(target.port));
  }
  void remove(const std::vector<std::string>& names) {
    auto removed = podman().remove(names);
    EXPECT_TRUE(removed.ok()) << (removed.ok() ? "" : removed.error().text());
  }

  static Podman& podman() { return *world_->podman; }
  static const Engine& engine() { return world_->engine; }
  static std::unique_ptr<World> world_;
  static std::string skip_;
};

std::unique_ptr<World> Sandboxes::world_;
std::string Sandboxes::skip_;

// What an operator may do at any time, and what setting up subordinate ids asks for.
TEST_F(Sandboxes, AfterPodmanMadeNewNamespacesItsServiceIsInThose) {
  ASSERT_TRUE(podman().list("io.slipway.test", "").ok()) << "a service listens from now on";
  process::Command migrate;
  migrate.argv = {engine().podman.string()};
  migrate.argv.insert(migrate.argv.end(), engine().global_args.begin(), engine().global_args.end());
  migrate.argv.insert(migrate.argv.end(), {"system", "migrate"});
  migrate.env = {{"HOME", engine().home.string()},
                 {"XDG_RUNTIME_DIR", engine().runtime_dir.string()},
                 {"PATH", "/usr/sbin:/usr/bin"}};
  migrate.no_new_privileges = false;
  migrate.deadline = std::chrono::seconds{60};
  ASSERT_TRUE(process::LocalRunner{}.run(migrate).ok());
  ASSERT_TRUE(podman().unshare({"/bin/true"}).ok()) << "Podman's own program makes new ones";

  auto one = spec("anew");
  one.network = network("anew");
  start(one);

  const auto seen = inside(one.name, "echo from-the-new-one");
  EXPECT_EQ(seen.out, "from-the-new-one\n") << seen.err;
  remove({one.name});
  EXPECT_TRUE(podman().remove_networks({one.network}).ok());
}

// A stage that has to end begins nothing more; what it has begun goes all the same.
TEST_F(Sandboxes, AnAttachedOneThatIsStoppedIsRemoved) {
  const UniqueFd stop{::eventfd(0, EFD_CLOEXEC)};
  process::LocalRunner runner{stop.get()};
  Podman stopped{engine(), runner, std::make_shared<PodmanService>(engine(), stop.get())};
  auto one = spec("attached");
  one.entrypoint = {"/bin/bash", "-c", "trap '' TERM; while :; do read -t 1; done"};
  one.command = {};
  std::size_t there = 0;

  const auto output = stopped.run_attached(one, std::chrono::seconds{60}, 1000, [&](const auto&) {
    const auto running = podman().list("io.slipway.role", "attached");
    there = running.ok() ? running->size() : 0;
    EXPECT_EQ(::eventfd_write(stop.get(), 1), 0);
  });

  EXPECT_EQ(there, 1U) << "the control";
  const auto left = podman().list("io.slipway.role", "attached");
  ASSERT_TRUE(left.ok());
  EXPECT_TRUE(left->empty());
  EXPECT_FALSE(stopped.list("io.slipway.role", "attached").ok()) << "nothing is asked any more";
}

TEST_F(Sandboxes, StartAndRemoveReturnPromptlyAlthoughConmonStays) {
  auto warm = spec("warm");
  start(warm);
  remove({warm.name});
  const auto net = network("prompt");
  for (const auto& [title, network_name] : {std::pair<std::string, std::string>{"no network", ""},
                                            {"bridge, first", net},
                                            {"bridge", net}}) {
    auto timed = spec("timed");
    timed.network = network_name;
    const auto begin = Steady::now();
    const auto facts = start(timed);
    const auto started = milliseconds_since(begin);
    const auto middle = Steady::now();
    remove({timed.name});
    std::cout << title << ": run and inspect " << started << " ms, remove "
              << milliseconds_since(middle) << " ms\n";

    EXPECT_TRUE(facts.running);
    EXPECT_EQ(facts.address.empty(), network_name.empty());
    EXPECT_LT(started, 20000); // not the 600 s that the sandbox sleeps
  }
  EXPECT_TRUE(podman().remove_networks({net}).ok());
}

TEST_F(Sandboxes, EndWithoutAProcessOfPodmans) {
  auto job = spec("ends");
  const auto facts = start(job);
  std::ifstream stat("/proc/" + std::to_string(facts.host_pid) + "/stat");
  std::string pid;
  std::string name;
  std::string state;
  std::string parent;
  stat >> pid >> name >> state >> parent;
  std::ifstream file("/proc/" + parent + "/cmdline");
  const std::string words{std::istreambuf_iterator<char>{file}, {}};

  EXPECT_NE(words.find(facts.id), std::string::npos) << "its conmon";
  EXPECT_EQ(words.find("--exit-command"), std::string::npos);
  remove({job.name});
}

TEST_F(Sandboxes, OfAJobGoWithTheirBridgeWhileAnotherJobsStay) {
  const auto bridges = [this] {
    auto output = podman().unshare({"/usr/sbin/ip", "-o", "link"}, "", true);
    std::string text = output.ok() ? output->out : "";
    int count = 0;
    for (auto at = text.find(": podman"); at != std::string::npos;
         at = text.find(": podman", at + 1))
      ++count;
    EXPECT_EQ(text.find(": sw-"), std::string::npos) << text;
    EXPECT_EQ(text.find(": sx-"), std::string::npos) << text;
    return count;
  };
  const auto net_a = network("job-a");
  const auto net_b = network("job-b");
  auto going = spec("going");
  going.network = net_a;
  auto staying = spec("staying");
  staying.network = net_b;
  start(going);
  start(staying);
  ASSERT_EQ(bridges(), 2);

  EXPECT_TRUE(podman().remove_job({going.name, "never-made"}, net_a).ok());

  EXPECT_EQ(bridges(), 1);
  EXPECT_TRUE(podman().inspect(staying.name)->running);
  EXPECT_EQ(podman().inspect(going.name).error().kind, ErrorKind::not_found);
  EXPECT_TRUE(podman().remove_job({going.name}, net_a).ok()) << "again";
  EXPECT_TRUE(podman().remove_job({staying.name}, net_b).ok());
  EXPECT_TRUE(podman().list_networks("io.slipway.test", "")->empty());
}

TEST_F(Sandboxes, DoNotMapTheServiceUser) {
  auto job = spec("ids");
  const auto facts = start(job);

  const auto map = inside(job.name, "cat /proc/self/uid_map /proc/self/gid_map").out;
  // Seen from outside: the first number after 0 is the host id of the sandbox's root.
  auto outer = read_file("/proc/" + std::to_string(facts.host_pid) + "/uid_map", 4096);
  ASSERT_TRUE(outer.ok());
  std::istringstream lines(*outer);
  unsigned long in = 0;
  unsigned long host = 0;
  unsigned long size = 0;
  bool any = false;
  while (lines >> in >> host >> size) {
    any = true;
    EXPECT_FALSE(host <= ::getuid() && ::getuid() < host + size) << *outer;
  }
  EXPECT_TRUE(any);
  EXPECT_NE(map.find(" 1 "), std::string::npos) << map;
  remove({job.name});
}

TEST_F(Sandboxes, HaveNoHostMountNoDeviceAndNoNewPrivileges) {
  SandboxSpec job = spec("bare");
  const auto facts = start(job);

  const auto status = inside(job.name, "grep -E 'NoNewPrivs|CapBnd|Seccomp:' /proc/1/status").out;
  const auto devices = inside(job.name, "ls /dev").out;
  const auto mounts = inside(job.name, "cat /proc/self/mountinfo").out;

  EXPECT_NE(status.find("NoNewPrivs:\t1"), std::string::npos) << status;
  EXPECT_NE(status.find("Seccomp:\t2"), std::string::npos) << status;
  EXPECT_NE(status.find("CapBnd:\t00000000800405fb"), std::string::npos) << status;
  for (const char* device : {"fuse", "net", "kvm", "sda", "vda", "mem", "loop0", "kmsg"}) {
    EXPECT_EQ(("\n" + devices).find(std::string{"\n"} + device + "\n"), std::string::npos)
        << device;
  }
  EXPECT_EQ(mounts.find(variable("HOME") + "/."), std::string::npos);
  EXPECT_NE(mounts.find(" /usr ro"), std::string::npos) << mounts;
  EXPECT_FALSE(succeeded(inside(job.name, "touch /usr/x").ending));
  // Another PID, network, IPC and UTS namespace than ours.
  for (const char* kind : {"pid", "net", "ipc", "uts", "mnt", "user", "cgroup"}) {
    const auto theirs = inside(job.name, std::string{"readlink /proc/self/ns/"} + kind).out;
    const auto ours = std::filesystem::read_symlink(std::string{"/proc/self/ns/"} + kind).string();
    EXPECT_NE(theirs, ours + "\n");
  }
  EXPECT_TRUE(facts.running);
  remove({job.name});
}

TEST_F(Sandboxes, GetTheirEnvironmentVerbatimAndNotThroughArgv) {
  auto job = spec("env");
  const std::string odd = R"( a="b" # c $HOME \n 'x' )";
  job.env = {{"ODD", odd},
             {"LINES3", "swordfish 1\nswordfish 2\n"},
             {"LONG", std::string(100000, 'x')},
             {"EMPTY", ""},
             {"LD_LIBRARY_PATH", "/swordfish"}};
  world_->runner.argvs.clear();
  start(job);

  const auto seen = inside(job.name, "tr '\\0' '\\1' </proc/1/environ").out;

  EXPECT_NE(seen.find("ODD=" + odd + "\1"), std::string::npos);
  EXPECT_NE(seen.find("LINES3=swordfish 1\nswordfish 2\n\1"), std::string::npos);
  EXPECT_NE(seen.find("LONG=" + std::string(100000, 'x') + "\1"), std::string::npos);
  EXPECT_NE(seen.find("EMPTY=\1"), std::string::npos);
  for (const auto& argv : world_->runner.argvs) {
    for (const auto& argument : argv)
      EXPECT_EQ(argument.find("swordfish"), std::string::npos);
  }
  // Nor in the command line of anything that stays (conmon).
  for (const auto& entry : std::filesystem::directory_iterator("/proc")) {
    const auto line = read_file(entry.path() / "cmdline", 1UL << 20);
    if (line.ok()) {
      EXPECT_EQ(line->find("swordfish"), std::string::npos) << entry.path();
    }
  }
  remove({job.name});
}

TEST_F(Sandboxes, HandTheirListenerToTheFirstProcessOnly) {
  std::array<int, 2> ends{};
  ASSERT_EQ(::pipe2(ends.data(), O_CLOEXEC), 0);
  const UniqueFd read_end{ends[0]};
  UniqueFd write_end{ends[1]};
  auto job = spec("fds");
  job.env = {{"WORD", "hello"}};
  job.script_listener = write_end.get();
  job.command = {"/usr/bin/python3", "-c", R"(
import os, socket, time
def take():
    peer = socket.socket(socket.AF_UNIX)
    peer.connect('/run/slipway/handover/s')
    return socket.recv_fds(peer, 1, 1)[1][0]
fd = take()
os.write(fd, os.environ['WORD'].encode() + b'\n')
for attempt in range(200):
    try:
        os.write(take(), b'twice\n')
    except OSError:
        os.write(fd, b'once\n')
        break
    time.sleep(0.05)
time.sleep(600)
)"};
  start(job);
  write_end.reset();

  ASSERT_EQ(::fcntl(read_end.get(), F_SETFL, O_NONBLOCK), 0);
  std::string text;
  for (int i = 0; i < 100 && text.find("ce\n") == std::string::npos; ++i) {
    std::array<char, 4096> chunk{};
    const auto got = ::read(read_end.get(), chunk.data(), chunk.size());
    if (got > 0) text.append(chunk.data(), static_cast<std::size_t>(got));
    std::this_thread::sleep_for(std::chrono::milliseconds{20});
  }

  EXPECT_EQ(text, "hello\nonce\n");
  remove({job.name});
}

TEST_F(Sandboxes, ReadBackSaysWhatHolds) {
  auto job = spec("limits");
  job.limits.memory_bytes = 64UL << 20;
  job.limits.file_bytes = 8UL << 20;
  const auto facts = start(job);

  auto report = podman().read_back_limits(facts, job.limits);

  ASSERT_TRUE(report.ok());
  if (!report->pids_enforced) {
    EXPECT_NE(limits_notice(report->missing).find("at most 200 processes per user id"),
              std::string::npos)
        << limits_notice(report->missing);
  }
  std::cout << limits_notice(report->missing) << "\n";
  // Whichever way, it really holds.
  const auto small = inside(job.name, "head -c 1000000 /dev/zero >/tmp/small");
  EXPECT_TRUE(succeeded(small.ending)) << small.err;
  const auto big = inside(job.name, "head -c 16000000 /dev/zero >/tmp/big");
  EXPECT_FALSE(succeeded(big.ending)) << "16 MB were written under a limit of 8 MiB";
  const auto forks =
      inside(job.name, "/usr/bin/perl -e 'for (1..400) { $p = fork; last unless defined $p; "
                       "if (!$p) { sleep 5; exit } $n++ } print $n'")
          .out;
  EXPECT_GT(std::atoi(forks.c_str()), 20) << forks;
  EXPECT_LT(std::atoi(forks.c_str()), 200) << forks;
  remove({job.name});
}

TEST_F(Sandboxes, IsolatedNetworksDoNotSeeEachOther) {
  for (const bool isolate : {true, false}) {
    const std::string kind = isolate ? "iso" : "open";
    const auto net_a = network(kind + "-a", isolate);
    const auto net_b = network(kind + "-b", isolate);
    auto server = spec(kind + "-server");
    server.network = net_b;
    server.network_aliases = {"db"};
    server.command = {"/usr/bin/perl", "-MIO::Socket::INET", "-e",
                      "$s = IO::Socket::INET->new(LocalPort => 7000, Listen => 9) or die; "
                      "while ($c = $s->accept) { close $c }"};
    auto near = spec(kind + "-near");
    near.network = net_b;
    auto far = spec(kind + "-far");
    far.network = net_a;
    const auto facts = start(server);
    start(near);
    start(far);
    Egress egress;
    egress.isolate = isolate;
    const auto enforced = enforce_egress(podman(), egress);
    ASSERT_TRUE(enforced.ok()) << enforced.error().text();

    EXPECT_TRUE(can_reach(near.name, facts.address, 7000));
    EXPECT_TRUE(can_reach(near.name, "db", 7000)) << "by its alias";
    EXPECT_EQ(can_reach(far.name, facts.address, 7000), !isolate);
    EXPECT_FALSE(can_reach(far.name, "db", 7000)) << "names of another network";

    remove({server.name, near.name, far.name});
    EXPECT_TRUE(podman().remove_networks({net_a, net_b}).ok());
  }
}

// A listener of this test on an address that sandboxes can reach through slirp4netns.
class Listener {
public:
  Listener() {
    ifaddrs* all = nullptr;
    if (::getifaddrs(&all) != 0) return;
    for (const ifaddrs* entry = all; entry != nullptr; entry = entry->ifa_next) {
      if (entry->ifa_addr == nullptr || entry->ifa_addr->sa_family != AF_INET) continue;
      if ((entry->ifa_flags & IFF_LOOPBACK) != 0) continue;
      std::array<char, INET_ADDRSTRLEN> text{};
      (void)::inet_ntop(AF_INET, &reinterpret_cast<const sockaddr_in*>(entry->ifa_addr)->sin_addr,
                        text.data(), text.size());
      address = text.data();
      break;
    }
    ::freeifaddrs(all);
    fd_ = UniqueFd{::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0)};
    sockaddr_in any{};
    any.sin_family = AF_INET;
    socklen_t size = sizeof any;
    if (::bind(fd_.get(), reinterpret_cast<const sockaddr*>(&any), size) != 0) return;
    if (::listen(fd_.get(), 100) != 0) return; // never accepted: connecting is enough
    if (::getsockname(fd_.get(), reinterpret_cast<sockaddr*>(&any), &size) != 0) return;
    udp_ = UniqueFd{::socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0)};
    if (::bind(udp_.get(), reinterpret_cast<const sockaddr*>(&any), size) != 0) return;
    port = ntohs(any.sin_port);
  }
  // Whether a datagram arrives within a second after `send`.
  bool gets_datagram_from(const std::function<void()>& send) const {
    std::array<char, 64> bytes{};
    while (::recv(udp_.get(), bytes.data(), bytes.size(), MSG_DONTWAIT) >= 0) {
    }
    send();
    pollfd ready{udp_.get(), POLLIN, 0};
    return ::poll(&ready, 1, 1000) == 1;
  }
  std::string address;
  int port = 0;

private:
  UniqueFd fd_;
  UniqueFd udp_;
};

TEST_F(Sandboxes, CannotReachABlockedHostNorFlushTheRule) {
  const Listener registry;
  if (registry.address.empty()) GTEST_SKIP() << "this namespace has no address but loopback";
  const auto net = network("egress");
  auto job = spec("egress-job");
  job.network = net;
  auto builder = spec("egress-builder");
  builder.network = net;
  builder.allow(PrivilegedInUserNamespace{"test: a root that may change its own ruleset"});
  builder.allow(AllSystemCalls{"test: what it does not is another defence's doing"});
  start(job);
  start(builder);
  Egress egress;
  egress.blocked_hosts = {registry.address + ":" + std::to_string(registry.port)};

  // Control: without the rule both get through.
  egress.enabled = false;
  ASSERT_TRUE(enforce_egress(podman(), egress).ok());
  ASSERT_TRUE(can_reach(job.name, registry.address, registry.port));
  ASSERT_TRUE(can_reach(builder.name, registry.address, registry.port));
  ASSERT_TRUE(registry.gets_datagram_from([&] { send_datagram(builder.name, registry); }));

  egress.enabled = true;
  auto enforced = enforce_egress(podman(), egress);
  ASSERT_TRUE(enforced.ok()) << enforced.error().text();
  EXPECT_FALSE(can_reach(job.name, registry.address, registry.port));
  EXPECT_FALSE(can_reach(builder.name, registry.address, registry.port));

  // The job's root has no say at all; the builder's root may flush, but only its own namespace.
  EXPECT_FALSE(succeeded(inside(job.name, "/usr/sbin/nft flush ruleset").ending));
  EXPECT_TRUE(succeeded(inside(builder.name, "/usr/sbin/nft flush ruleset").ending));
  EXPECT_FALSE(can_reach(job.name, registry.address, registry.port));
  EXPECT_FALSE(can_reach(builder.name, registry.address, registry.port));
  EXPECT_FALSE(registry.gets_datagram_from([&] { send_datagram(builder.name, registry); }));

  // Idempotent: a second time changes nothing and asks nft once.
  world_->runner.argvs.clear();
  ASSERT_TRUE(enforce_egress(podman(), egress).ok());
  EXPECT_EQ(world_->runner.argvs.size(), 1U);

  // A sandbox that starts later is under the rule from its first packet.
  auto late = spec("egress-late");
  late.network = network("egress-late");
  start(late);
  EXPECT_FALSE(can_reach(late.name, registry.address, registry.port));

  egress.enabled = false;
  EXPECT_TRUE(enforce_egress(podman(), egress).ok());
  EXPECT_TRUE(can_reach(late.name, registry.address, registry.port));
  remove({job.name, builder.name, late.name});
  EXPECT_TRUE(podman().remove_networks({net, late.network}).ok());
}

// slirp4netns takes no IPv6 out, so the host that is blocked is a sandbox on another bridge: the
// same way through the same hook. Podman's networks have IPv4 only; what an operator's may have is
// laid here by hand.
TEST_F(Sandboxes, CannotReachABlockedHostByIpv6NorFlushTheRule) {
  const auto net = network("six", false);
  const auto away = network("six-away", false);
  const auto six = [&](const std::string& role, const std::string& on) {
    auto one = spec(role);
    one.network = on;
    one.allow(
        PrivilegedInUserNamespace{"test: a root that may change its own addresses and rules"});
    one.allow(AllSystemCalls{"test: what it does not is another defence's doing"});
    start(one);
    return one;
  };
  const auto builder = six("six-builder", net);
  const auto server = six("six-server", away);
  const auto settle = [](const std::string& address, const std::string& gateway) {
    return "/usr/sbin/sysctl -qw net.ipv6.conf.eth0.disable_ipv6=0; set -e; "
           "/usr/sbin/ip -6 addr add " +
           address + "/64 dev eth0 nodad; /usr/sbin/ip -6 route add default via " + gateway;
  };
  // In the router's namespace: an address on the bridge that has this IPv4 gateway.
  const auto on_bridge_of = [&](const SandboxSpec& one, const std::string& address) {
    const auto route = inside(one.name, "/usr/sbin/ip -4 route show default").out;
    std::istringstream words{route};
    std::string gateway;
    words >> gateway >> gateway >> gateway; // default via GATEWAY
    auto laid =
        podman().unshare({"/bin/bash", "-c",
                          "set -e; bridge=$(/usr/sbin/ip -o -4 addr | awk -v a=\"$1\" 'index($4, a "
                          "\"/\") == 1 { print "
                          "$2 }'); echo 0 >/proc/sys/net/ipv6/conf/$bridge/disable_ipv6; echo 1 "
                          ">/proc/sys/net/ipv6/conf/all/forwarding; /usr/sbin/ip -6 addr add $2/64 "
                          "dev $bridge nodad",
                          "bash", gateway, address},
                         "", true);
    ASSERT_TRUE(laid.ok()) << laid.error().text();
    ASSERT_TRUE(succeeded(laid->ending)) << gateway << ": " << laid->err;
  };
  on_bridge_of(builder, "fd00:5119:a::1");
  on_bridge_of(server, "fd00:5119:b::1");
  const auto settled = inside(builder.name, settle("fd00:5119:a::2", "fd00:5119:a::1"));
  ASSERT_TRUE(succeeded(settled.ending)) << settled.err;
  const auto listening =
      inside(server.name, settle("fd00:5119:b::2", "fd00:5119:b::1") +
                              "; /usr/bin/python3 -c 'import socket, os, time\n"
                              "tcp = socket.create_server((\"::\", 4443), family=socket.AF_INET6)\n"
                              "udp = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)\n"
                              "udp.bind((\"::\", 4443))\n"
                              "os.fork() and os._exit(0)\n"
                              "[os.dup2(os.open(\"/dev/null\", os.O_RDWR), n) for n in (0, 1, 2)]\n"
                              "got = udp.recv(100)\n"
                              "open(\"/tmp/got\", \"wb\").write(got)\n"
                              "time.sleep(600)'");
  ASSERT_TRUE(succeeded(listening.ending)) << listening.err;
  const std::string address = "fd00:5119:b::2";
  Egress egress;
  egress.blocked_hosts = {"[" + address + "]:4443"};
  egress.isolate = false;

  // Control: without the rule TCP gets through.
  egress.enabled = false;
  ASSERT_TRUE(enforce_egress(podman(), egress).ok());
  ASSERT_TRUE(can_reach(builder.name, address, 4443));

  egress.enabled = true;
  auto enforced = enforce_egress(podman(), egress);
  ASSERT_TRUE(enforced.ok()) << enforced.error().text();
  EXPECT_FALSE(can_reach(builder.name, address, 4443));
  EXPECT_TRUE(succeeded(inside(builder.name, "/usr/sbin/nft flush ruleset").ending));
  EXPECT_FALSE(can_reach(builder.name, address, 4443));
  const auto datagram = "echo x >/dev/udp/" + address + "/4443";
  (void)inside(builder.name, datagram);
  EXPECT_FALSE(succeeded(inside(server.name, "sleep 0.3; test -e /tmp/got").ending));

  egress.enabled = false;
  ASSERT_TRUE(enforce_egress(podman(), egress).ok());
  EXPECT_TRUE(can_reach(builder.name, address, 4443));
  (void)inside(builder.name, datagram);
  EXPECT_TRUE(succeeded(
      inside(server.name, "for i in {1..50}; do test -e /tmp/got && exit; sleep 0.1; done; false")
          .ending));
  remove({builder.name, server.name});
  EXPECT_TRUE(podman().remove_networks({net, away}).ok());
}

// Netavark gives the bridge of an internal network no address, so that nothing would be routed
// there anyway. With one, and a route that the sandbox's root makes, the table is what holds. The
// first closed network of a store has the first number.
Status make_router_of(Podman& podman, const Network& closed) {
  auto made = podman.unshare(
      {"/usr/sbin/ip", "address", "add", closed.address(1) + "/24", "dev", "swc0"}, "", true);
  if (!made) return std::move(made).error();
  if (succeeded(made->ending)) return {};
  return Error{ErrorKind::io, made->err, "", {}};
}

// A question for "own" to a name server.
constexpr const char* kAsk = R"(perl -MIO::Socket::INET -e 'alarm 2;
  $s = IO::Socket::INET->new(PeerAddr => $ARGV[0], PeerPort => 53, Proto => "udp") or exit 1;
  $s->send(pack("n6", 7, 0x100, 1, 0, 0, 0) . pack("C/a*", "own") . pack("Cnn", 0, 1, 1)) or exit 1;
  exit(defined $s->recv($got, 512) && length $got ? 0 : 1)' )";

TEST_F(Sandboxes, InAClosedNetworkReachOnlyEachOther) {
  const Listener outside;
  if (outside.address.empty()) GTEST_SKIP() << "this namespace has no address but loopback";
  const std::map<std::string, std::string> labels{{"io.slipway.test", "1"}};
  const auto closed_name = "sbx-closed-" + std::to_string(::getpid());
  const auto closed = podman().create_closed_network(closed_name, labels);
  ASSERT_TRUE(closed.ok()) << closed.error().text();
  EXPECT_EQ(podman().create_closed_network(closed_name, labels)->prefix, closed->prefix)
      << "a second prepare finds its own";
  const auto other_name = closed_name + "-other";
  ASSERT_TRUE(podman().create_closed_network(other_name, labels).ok());
  EXPECT_FALSE(podman().create_closed_network(closed_name, {}).ok()) << "another's";
  const auto serve = [](SandboxSpec& server) {
    server.command = {"/usr/bin/perl", "-MIO::Socket::INET", "-e",
                      "$s = IO::Socket::INET->new(LocalPort => 7000, Listen => 9) or die; "
                      "while ($c = $s->accept) { close $c }"};
  };
  auto server = spec("closed-server");
  server.network = closed_name;
  server.address = closed->address(101);
  serve(server);
  auto job = spec("closed-job");
  job.network = closed_name;
  job.hosts = {{"db", closed->address(101)}};
  auto builder = spec("closed-builder");
  builder.network = closed_name;
  builder.allow(PrivilegedInUserNamespace{"test: a root that may change its own ruleset"});
  builder.allow(AllSystemCalls{"test: what it does not is another defence's doing"});
  auto neighbour = spec("closed-neighbour");
  neighbour.network = other_name;
  serve(neighbour);
  auto open = spec("closed-open");
  open.network = network("closed-open");
  open.network_aliases = {"own"};
  serve(open);
  EXPECT_EQ(start(server).address, closed->address(101));
  const auto routed = make_router_of(podman(), *closed);
  ASSERT_TRUE(routed.ok()) << routed.error().text();
  start(job);
  start(builder);
  const auto other = start(neighbour);
  const auto of_open = start(open);
  // Without a route the rule would not be what is tested.
  const auto route = [&](const std::string& command) {
    return inside(builder.name,
                  "/usr/sbin/ip route " + command + " default via " + closed->address(1))
        .ending;
  };
  ASSERT_TRUE(succeeded(route("add")));
  Egress egress;
  egress.isolate = false;
  ASSERT_TRUE(enforce_egress(podman(), egress).ok());

  EXPECT_TRUE(can_reach(job.name, "db", 7000)) << "by its name in the hosts file";
  EXPECT_TRUE(can_reach(open.name, outside.address, outside.port)) << "control";
  EXPECT_TRUE(outside.gets_datagram_from([&] { send_datagram(open.name, outside); })) << "control";
  const auto nothing_gets_out = [&] {
    for (const auto& name : {job.name, builder.name}) {
      EXPECT_FALSE(can_reach(name, outside.address, outside.port)) << name;
      EXPECT_FALSE(can_reach(name, other.address, 7000)) << name << " to another closed network";
      EXPECT_FALSE(can_reach(name, of_open.address, 7000)) << name << " to an open network";
      EXPECT_FALSE(outside.gets_datagram_from([&] { send_datagram(name, outside); })) << name;
    }
  };
  nothing_gets_out();
  EXPECT_FALSE(can_reach(open.name, closed->address(101), 7000)) << "nothing gets in";

  // The name server of an open network is another address of the same router.
  const auto name_server = of_open.address.substr(0, of_open.address.rfind('.')) + ".1";
  EXPECT_TRUE(succeeded(inside(open.name, kAsk + name_server).ending)) << "control";
  EXPECT_FALSE(succeeded(inside(builder.name, kAsk + name_server).ending));

  EXPECT_FALSE(succeeded(inside(job.name, "/usr/sbin/nft flush ruleset").ending));
  EXPECT_TRUE(succeeded(inside(builder.name, "/usr/sbin/nft flush ruleset").ending));
  nothing_gets_out();

  remove({server.name, job.name, builder.name, neighbour.name, open.name});
  EXPECT_TRUE(podman().remove_networks({closed_name, other_name, open.network}).ok());
}

TEST_F(Sandboxes, AreFoundByLabelAndRemovedTwice) {
  auto job = spec("twice");
  job.labels["io.slipway.job"] = "j-twice";
  start(job);
  const auto volume = job.name + "-builds";
  ASSERT_TRUE(podman().create_volume(volume, {{"io.slipway.job", "j-twice"}}).ok());
  ASSERT_TRUE(podman().create_volume(volume, {{"io.slipway.job", "j-twice"}}).ok());

  auto found = podman().list("io.slipway.job", "j-twice");
  ASSERT_TRUE(found.ok());
  ASSERT_EQ(found->size(), 1U);
  EXPECT_EQ(found->front().name, job.name);
  EXPECT_TRUE(found->front().running);
  EXPECT_EQ(*podman().list_volumes("io.slipway.job", "j-twice"), std::vector<std::string>{volume});

  for (int time = 0; time < 2; ++time) {
    remove({job.name, "sbx-never-there"});
    EXPECT_TRUE(podman().remove_volumes({volume, "sbx-never-there"}).ok());
    EXPECT_TRUE(podman().remove_networks({"sbx-never-there"}).ok());
  }
  EXPECT_TRUE(podman().list("io.slipway.job", "j-twice")->empty());
  EXPECT_TRUE(podman().list_volumes("io.slipway.job", "j-twice")->empty());
  EXPECT_EQ(podman().inspect(job.name).error().kind, ErrorKind::not_found);
}

TEST_F(Sandboxes, ThatCannotStartLeaveNothingAndSayWhy) {
  auto job = spec("nope");
  job.command = {"/no/such/program"};

  auto facts = podman().start(job);

  ASSERT_FALSE(facts.ok());
  EXPECT_EQ(facts.error().kind, ErrorKind::bad_input) << facts.error().text();
  EXPECT_EQ(podman().inspect(job.name).error().kind, ErrorKind::not_found);

  job.image = "sha256:0000000000000000000000000000000000000000000000000000000000000000";
  auto other = podman().start(job);
  ASSERT_FALSE(other.ok());
  EXPECT_EQ(other.error().kind, ErrorKind::not_found) << other.error().text();
}

TEST_F(Sandboxes, KeepWhatTheirFirstProcessSaidForDiagnosis) {
  auto job = spec("says");
  job.command = {"/bin/bash", "-c", "echo out; echo trouble >&2; exit 3"};
  (void)podman().start(job);

  std::string text;
  for (int i = 0; i < 50 && text.find("trouble") == std::string::npos; ++i) {
    auto logs = podman().logs(job.name, 4096);
    if (logs.ok()) text = *logs;
    std::this_thread::sleep_for(std::chrono::milliseconds{50});
  }

  EXPECT_NE(text.find("trouble"), std::string::npos);
  EXPECT_EQ(podman().logs(job.name, 4)->size(), 4U);
  auto facts = podman().inspect(job.name);
  EXPECT_FALSE(facts->running);
  EXPECT_EQ(facts->exit_code, 3);
  remove({job.name});
}

TEST_F(Sandboxes, OfDifferentSlotsShareNoId) {
  std::string user = ::getpwuid(::getuid())->pw_name;
  auto first = take_id_slot(world_->runtime / "slots", user, 8);
  auto second = take_id_slot(world_->runtime / "slots", user, 8);
  ASSERT_TRUE(first.ok() && second.ok());
  if (second->slot.shared) GTEST_SKIP() << "this user has too few subordinate ids for two slots";
  auto one = spec("slot-one");
  one.ids = first->slot;
  auto two = spec("slot-two");
  two.ids = second->slot;

  const auto volume = one.name + "-v";
  EXPECT_TRUE(podman().create_volume(volume, {{"io.slipway.test", "1"}}).ok());
  one.volumes = {{volume, "/builds", false}};
  two.volumes = {{volume, "/builds", false}};

  const auto a = read_file("/proc/" + std::to_string(start(one).host_pid) + "/uid_map", 4096);
  EXPECT_TRUE(succeeded(inside(one.name, "umask 077; echo mine >/builds/file").ending));
  const auto b = read_file("/proc/" + std::to_string(start(two).host_pid) + "/uid_map", 4096);

  ASSERT_TRUE(a.ok() && b.ok());
  EXPECT_NE(*a, *b);
  EXPECT_TRUE(succeeded(inside(one.name, "cat /builds/file").ending));
  EXPECT_FALSE(succeeded(inside(two.name, "cat /builds/file").ending)); // not even as its root
  remove({one.name, two.name});
  EXPECT_TRUE(podman().remove_volumes({volume}).ok());
}

} // namespace
} // namespace slipway::sandbox
