// SPDX-License-Identifier: Apache-2.0
// slipway-push as a process, against Debian's docker-registry with TLS and token authentication,
// and against a wire that breaks.
#include "executor/base/clock.hpp"
#include "executor/base/file.hpp"
#include "executor/engine_api/push_protocol.hpp"
#include "executor/engine_api/script_protocol.hpp"
#include "executor/process/process.hpp"
#include "tests/fakes/push_blobs.hpp"
#include "tests/fakes/sample_image.hpp"

#include <gtest/gtest.h>

#include <arpa/inet.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/socket.h>

#include <atomic>
#include <chrono>
#include <fstream>
#include <mutex>
#include <sstream>
#include <thread>

namespace slipway {
namespace {

using namespace std::chrono_literals;
namespace fs = std::filesystem;

const fs::path kRegistry = "/usr/bin/docker-registry";
const fs::path kOpenssl = "/usr/bin/openssl";

fs::path build_dir() {
  return fs::read_symlink("/proc/self/exe").parent_path().parent_path();
}
fs::path source_dir() {
  return fs::path{SLIPWAY_TESTDATA}
      .parent_path()
      .parent_path()
      .parent_path()
      .parent_path()
      .parent_path();
}

UniqueFd listen_on_loopback(int& port) {
  UniqueFd fd{::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0)};
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  socklen_t length = sizeof address;
  ::bind(fd.get(), reinterpret_cast<sockaddr*>(&address), length);
  ::listen(fd.get(), 16);
  ::getsockname(fd.get(), reinterpret_cast<sockaddr*>(&address), &length);
  port = ntohs(address.sin_port);
  return fd;
}

int free_port() {
  int port = 0;
  listen_on_loopback(port);
  return port;
}

UniqueFd connect_to_loopback(int port) {
  UniqueFd fd{::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0)};
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_port = htons(static_cast<std::uint16_t>(port));
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  if (::connect(fd.get(), reinterpret_cast<sockaddr*>(&address), sizeof address) != 0)
    return UniqueFd{};
  return fd;
}

process::Command command_of(std::vector<std::string> argv) {
  process::Command command;
  command.argv = std::move(argv);
  return command;
}

void wait_for_port(int port) {
  for (int i = 0; i < 200 && !connect_to_loopback(port); ++i)
    std::this_thread::sleep_for(50ms);
}

void write(const fs::path& file, const std::string& text) {
  std::ofstream{file} << text;
}

/// A wire to `target` that is cut once, after `cut_after` bytes from the client.
class CutWire {
public:
  CutWire(int target, std::uint64_t cut_after) : target_{target}, cut_after_{cut_after} {
    listener_ = listen_on_loopback(port_);
    acceptor_ = std::thread{[this] {
      while (!stop_) {
        pollfd waiting{listener_.get(), POLLIN, 0};
        if (::poll(&waiting, 1, 50) <= 0) continue;
        UniqueFd client{::accept4(listener_.get(), nullptr, nullptr, SOCK_CLOEXEC)};
        workers_.emplace_back(
            [this, held = std::move(client)]() mutable { relay(std::move(held)); });
      }
    }};
  }
  ~CutWire() {
    stop_ = true;
    acceptor_.join();
    for (auto& worker : workers_)
      worker.join();
  }
  int port() const { return port_; }
  int cuts() const { return cuts_; }

private:
  void relay(UniqueFd client) {
    UniqueFd server = connect_to_loopback(target_);
    std::vector<char> buffer(64 << 10);
    std::uint64_t from_client = 0;
    while (!stop_) {
      pollfd both[2] = {{client.get(), POLLIN, 0}, {server.get(), POLLIN, 0}};
      if (::poll(both, 2, 50) < 0) return;
      for (int i = 0; i < 2; ++i) {
        if (both[i].revents == 0) continue;
        const ssize_t got = ::read(both[i].fd, buffer.data(), buffer.size());
        if (got <= 0) return;
        if (i == 0) from_client += static_cast<std::uint64_t>(got);
        if (i == 0 && from_client > cut_after_ && cuts_ == 0) {
          ++cuts_;
          return;
        }
        if (!write_all(both[1 - i].fd, {buffer.data(), static_cast<std::size_t>(got)})) return;
      }
    }
  }
  int target_;
  std::uint64_t cut_after_;
  int port_ = 0;
  UniqueFd listener_;
  std::atomic<bool> stop_{false};
  std::atomic<int> cuts_{0};
  std::thread acceptor_;
  std::vector<std::thread> workers_;
};

class RealRegistry : public ::testing::Test {
protected:
  static void SetUpTestSuite() {
    if (!fs::exists(kRegistry) || !fs::exists(kOpenssl)) return;
    dir_ = new fakes::TempDir;
    const auto& dir = dir_->path();
    process::LocalRunner runner;
    const auto made = runner.run(command_of(
        {kOpenssl, "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj",
         "/CN=slipway test", "-addext", "subjectAltName=IP:127.0.0.1,DNS:localhost", "-keyout",
         dir / "key.pem", "-out", dir / "cert.pem"}));
    ASSERT_TRUE(made && process::succeeded(made->ending)) << made->err;
    registry_port_ = free_port();
    token_port_ = free_port();
    write(dir / "users.json",
          R"({"pusher":{"password":"open-sesame","repos":{"grp/*":["pull","push"]}},
      "reader":{"password":"only-reading","repos":{"grp/*":["pull"]}},
      "long":{"password":"long-lasting","lifetime":7200,"repos":{"*":["pull","push"]}}})");
    const std::string token_host = "127.0.0.1:" + std::to_string(token_port_);
    write(dir / "registry.yml",
          "version: 0.1\nlog: {level: error}\nstorage:\n  filesystem: {rootdirectory: " +
              (dir / "store").string() + "}\n  delete: {enabled: true}\nhttp:\n  addr: 127.0.0.1:" +
              std::to_string(registry_port_) +
              "\n  secret: s\n  tls: {certificate: " + (dir / "cert.pem").string() +
              ", key: " + (dir / "key.pem").string() + "}\nauth:\n  token: {realm: 'https://" +
              token_host + "/token', service: reg, issuer: slipway-test-issuer, rootcertbundle: " +
              (dir / "cert.pem").string() + "}\n");
    start({kRegistry, "serve", dir / "registry.yml"});
    start({"/usr/bin/python3", source_dir() / "tests/lib/token_server.py", "--listen", token_host,
           "--cert", dir / "cert.pem", "--key", dir / "key.pem", "--signer-cert", dir / "cert.pem",
           "--signer-key", dir / "key.pem", "--users", dir / "users.json", "--log",
           dir / "token.log"});
    harbor_port_ = free_port();
    fs::create_directory(dir / "harbor");
    write(dir / "harbor-password", "only-for-making-robots");
    start({"/usr/bin/python3", source_dir() / "tests/lib/harbor_server.py", "--listen",
           "127.0.0.1:" + std::to_string(harbor_port_), "--cert", dir / "cert.pem", "--key",
           dir / "key.pem", "--users", dir / "users.json", "--state", dir / "harbor", "--username",
           "robot$slipway", "--password-file", dir / "harbor-password", "--projects", "other,grp"});
    wait_for_port(registry_port_);
    wait_for_port(token_port_);
    wait_for_port(harbor_port_);
  }
  static void TearDownTestSuite() {
    servers_.clear(); // kills their groups
    delete dir_;
    dir_ = nullptr;
  }
  static void start(std::vector<std::string> argv) {
    auto command = command_of(std::move(argv));
    command.env = {{"PATH", "/usr/bin:/bin"}};
    auto child = process::spawn(command);
    ASSERT_TRUE(child) << child.error().text();
    servers_.push_back(*std::move(child));
  }

  void SetUp() override {
    if (dir_ == nullptr) GTEST_SKIP() << "docker-registry or openssl is not installed";
    auto made = oci::Layout::create(work_.path() / "layout");
    ASSERT_TRUE(made) << made.error().text();
    layout_ = *std::move(made);
  }

  static std::string host(int port = registry_port_) { return "127.0.0.1:" + std::to_string(port); }

  engine_api::RegistryAccess access(const std::string& user = "pusher",
                                    const std::string& password = "open-sesame",
                                    int port = registry_port_) {
    engine_api::RegistryAccess made;
    made.host = host(port);
    made.ca_file = dir_->path() / "cert.pem";
    made.realm_hosts = {host(token_port_)};
    made.username = user;
    made.password = Secret{std::string_view{password}};
    return made;
  }
  engine_api::PushRequest push_of(const oci::Digest& root, const std::string& repository,
                                  engine_api::RegistryAccess registry) {
    engine_api::PushRequest request;
    request.repository = repository;
    request.tags = {"v1"};
    request.layout_dir = layout_->path();
    request.root_digest = request.pass_digest = root.str();
    request.blobs = fakes::blobs_to_push(*layout_, root);
    request.pass_repository = registry.host + "/" + repository;
    request.pass_expires_at = rfc3339(SystemClock{}.now() + 1h);
    request.registry = std::move(registry);
    request.deadline_seconds = 60;
    return request;
  }
  engine_api::PullRequest pull_of(const std::string& target, const std::string& repository,
                                  const fs::path& into) {
    engine_api::PullRequest request;
    request.registry = access();
    request.repository = repository;
    request.target = target;
    request.layout_dir = into;
    request.deadline_seconds = 60;
    return request;
  }

  /// One slipway-push process.
  engine_api::WorkerAnswer ask(const std::string& request) {
    int ends[2];
    EXPECT_EQ(::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends), 0);
    UniqueFd ours{ends[0]};
    UniqueFd theirs{ends[1]};
    auto command = command_of({build_dir() / "bin/slipway-push"});
    command.fds = {{theirs.get(), 3}};
    auto child = process::spawn(command);
    EXPECT_TRUE(child);
    theirs.reset();
    EXPECT_TRUE(engine_api::send_frame(ours.get(), request, {}, 5s));
    while (true) {
      auto frame = engine_api::receive_frame(ours.get(), 120s);
      if (!frame) {
        ADD_FAILURE() << frame.error().text();
        return {};
      }
      read_peak_memory(child->pid());
      if (auto line = engine_api::decode_progress(frame->body)) {
        const std::lock_guard lock{mutex_};
        progress_.push_back(*line);
        continue;
      }
      if (auto note = engine_api::decode_lease_note(frame->body)) {
        const std::lock_guard lock{mutex_};
        notes_.push_back(*note);
        robots_at_note_.push_back(robots());
        continue;
      }
      EXPECT_EQ(frame->body.find("open-sesame"), std::string::npos);
      auto answer = engine_api::decode_worker_answer(frame->body);
      EXPECT_TRUE(answer);
      EXPECT_EQ(process::describe(child->wait(5s, 1s)), process::describe(process::Exited{0}));
      return *answer;
    }
  }
  void read_peak_memory(pid_t pid) {
    const std::lock_guard lock{mutex_};
    std::ifstream status{"/proc/" + std::to_string(pid) + "/status"};
    for (std::string line; std::getline(status, line);) {
      if (line.rfind("VmHWM:", 0) == 0) peak_kib_ = std::max(peak_kib_, std::stol(line.substr(6)));
    }
  }

  /// A login that Harbor has to make first.
  engine_api::RegistryAccess ordered(const std::string& name) {
    auto made = access();
    made.username.clear();
    made.password = Secret{};
    made.lease.emplace();
    made.lease->issuer = {"robots",
                          "harbor",
                          {{"url", "https://" + host(harbor_port_)},
                           {"username", "robot$slipway"},
                           {"password_file", dir_->path() / "harbor-password"},
                           {"ca_file", dir_->path() / "cert.pem"},
                           {"timeout", "10"},
                           {"max_lifetime", "0"}}};
    made.lease->name = name;
    made.lease->job = "j7-00000000";
    return made;
  }
  /// What Harbor holds just now.
  static std::string robots() {
    std::ifstream file{dir_->path() / "harbor/robots.json"};
    std::stringstream text;
    text << file.rdbuf();
    return text.str();
  }
  static void harbor_faults(const std::string& json) {
    write(dir_->path() / "harbor/faults.json", json);
  }

  static inline fakes::TempDir* dir_ = nullptr;
  static inline int registry_port_ = 0;
  static inline int token_port_ = 0;
  static inline int harbor_port_ = 0;
  static inline std::vector<process::ChildProcess> servers_;
  fakes::TempDir work_;
  std::optional<oci::Layout> layout_;
  std::vector<std::string> progress_;
  std::vector<engine_api::LeaseNote> notes_;
  std::vector<std::string> robots_at_note_;
  long peak_kib_ = 0;
  std::mutex mutex_; // a test may run two workers at once
};

TEST_F(RealRegistry, FetchesAPublicKeySetOverTlsWithinItsLimit) {
  engine_api::KeysRequest request;
  request.url = "https://" + host(token_port_) + "/healthz"; // answers "{}"
  request.ca_file = dir_->path() / "cert.pem";
  request.limit = 2;
  const auto fetched = ask(engine_api::encode(request));
  ASSERT_TRUE(fetched.ok) << fetched.what;
  EXPECT_EQ(fetched.body, "{}");

  request.limit = 1;
  EXPECT_EQ(ask(engine_api::encode(request)).kind, "bad_input");
  request.limit = 100;
  request.ca_file = "";
  EXPECT_EQ(ask(engine_api::encode(request)).kind, "misconfigured") << "not its authority";
  request.ca_file = dir_->path() / "cert.pem";
  request.url = "https://" + host(token_port_) + "/nothing";
  EXPECT_EQ(ask(engine_api::encode(request)).kind, "misconfigured") << "404";
  request.url = "http://" + host(token_port_) + "/healthz";
  EXPECT_EQ(ask(engine_api::encode(request)).kind, "denied") << "without TLS";
}

TEST_F(RealRegistry, PushesAnImageAndPullsItBackByTagAndDigest) {
  const auto root = fakes::write_image(*layout_, {1000, 300000}, 1);

  const auto pushed = ask(engine_api::encode(push_of(root, "grp/app", access())));
  ASSERT_TRUE(pushed.ok) << pushed.what;
  EXPECT_EQ(pushed.digest, root.str());
  EXPECT_EQ(pushed.token_seconds, 300U);
  EXPECT_GT(pushed.uploaded_bytes, 301000U);

  auto into = oci::Layout::create(work_.path() / "pulled");
  ASSERT_TRUE(into);
  for (const std::string& target : {std::string{"v1"}, root.str()}) {
    const auto pulled = ask(engine_api::encode(pull_of(target, "grp/app", into->path())));
    ASSERT_TRUE(pulled.ok) << pulled.what;
    EXPECT_EQ(pulled.digest, root.str());
  }
  EXPECT_TRUE(oci::verify_tree(*into, *oci::read_tree(*into, root), 1UL << 30));
}

TEST_F(RealRegistry, PushesWithARobotThatLivesForThePushAlone) {
  const auto root = fakes::write_image(*layout_, {1000, 300000}, 71);

  const auto pushed =
      ask(engine_api::encode(push_of(root, "grp/robot", ordered("slipway-71-j7-00000000"))));

  ASSERT_TRUE(pushed.ok) << pushed.what;
  EXPECT_EQ(pushed.token_seconds, 300U);
  ASSERT_EQ(notes_.size(), 2U);
  EXPECT_EQ(notes_[0].state, engine_api::LeaseNote::State::minted);
  EXPECT_NE(robots_at_note_[0].find("robot$grp+slipway-71-j7-00000000"), std::string::npos);
  EXPECT_EQ(notes_[1].state, engine_api::LeaseNote::State::ended);
  EXPECT_EQ(robots(), "[]");
  const auto pulled = ask(engine_api::encode(pull_of("v1", "grp/robot", layout_->path())));
  EXPECT_EQ(pulled.digest, root.str());
}

TEST_F(RealRegistry, LeavesNoRobotWhereThePushFailsOrTheAnswerIsLost) {
  const auto root = fakes::write_image(*layout_, {1000}, 72);

  // A robot of one project cannot push to what the token server gives it nothing for.
  auto refused = push_of(root, "other/robot", ordered("slipway-72-j7-00000000"));
  refused.registry.host = host(token_port_); // not a registry
  refused.pass_repository = refused.registry.host + "/other/robot";
  EXPECT_FALSE(ask(engine_api::encode(refused)).ok);
  EXPECT_EQ(notes_.back().state, engine_api::LeaseNote::State::ended);
  EXPECT_EQ(robots(), "[]");

  harbor_faults(R"({"lose_answers":1})");
  const auto pushed =
      ask(engine_api::encode(push_of(root, "grp/lost", ordered("slipway-73-j7-00000000"))));
  EXPECT_TRUE(pushed.ok) << pushed.what;
  EXPECT_EQ(notes_.back().state, engine_api::LeaseNote::State::ended);
  EXPECT_EQ(robots(), "[]");
}

TEST_F(RealRegistry, AnIssuerThatIsDownIsLeftToTheReaper) {
  const auto root = fakes::write_image(*layout_, {1000}, 74);
  harbor_faults(R"({"down":true})");

  const auto refused =
      ask(engine_api::encode(push_of(root, "grp/down", ordered("slipway-74-j7-00000000"))));

  EXPECT_EQ(refused.kind, "unavailable");
  EXPECT_EQ(notes_.back().state, engine_api::LeaseNote::State::left);
  harbor_faults("{}");

  engine_api::IssuerRequest reaper;
  reaper.action = engine_api::IssuerRequest::Action::revoke;
  reaper.issuer = ordered("").lease->issuer;
  reaper.lease_name = "slipway-74-j7-00000000";
  reaper.repository = "grp/down";
  reaper.since = rfc3339(SystemClock{}.now() - 10min);
  EXPECT_TRUE(ask(engine_api::encode(reaper)).ok);
  EXPECT_EQ(notes_.back().state, engine_api::LeaseNote::State::ended);
}

TEST_F(RealRegistry, SkipsWhatIsThereAndMountsFromOtherRepositories) {
  const auto root = fakes::write_image(*layout_, {200000}, 11);
  ASSERT_TRUE(ask(engine_api::encode(push_of(root, "grp/first", access()))).ok);

  const auto again = ask(engine_api::encode(push_of(root, "grp/first", access())));
  EXPECT_TRUE(again.ok) << again.what;
  EXPECT_EQ(again.skipped_blobs, 2U);
  EXPECT_EQ(again.uploaded_bytes, 0U);

  auto request = push_of(root, "grp/second", access());
  request.mount_from = {"grp/nothing", "grp/first"};
  const auto mounted = ask(engine_api::encode(request));
  EXPECT_TRUE(mounted.ok) << mounted.what;
  EXPECT_EQ(mounted.mounted_blobs, 2U);
}

TEST_F(RealRegistry, RefusesWhatAListThatLeavesABlobOutMakes) {
  const auto amd64 = fakes::write_image(*layout_, {1000}, 23, "amd64");
  const auto arm64 = fakes::write_image(*layout_, {2000}, 24, "arm64");
  const auto root = fakes::write_index_of(*layout_, amd64, arm64);
  const auto all = push_of(root, "grp/part", access()).blobs;
  ASSERT_EQ(all.size(), 7U);
  for (std::size_t i = 0; i + 1 < all.size(); ++i) {
    auto request = push_of(root, "grp/part" + std::to_string(i), access());
    request.blobs.erase(request.blobs.begin() + static_cast<std::ptrdiff_t>(i));

    const auto answer = ask(engine_api::encode(request));

    EXPECT_EQ(answer.kind, "bad_input") << all[i].digest << ": " << answer.what;
    EXPECT_NE(answer.what.find("MANIFEST_BLOB_UNKNOWN"), std::string::npos) << answer.what;
  }
  EXPECT_TRUE(ask(engine_api::encode(push_of(root, "grp/part", access()))).ok) << "the control";
}

TEST_F(RealRegistry, PushesAnIndexAndPullsOnePlatform) {
  const auto amd64 = fakes::write_image(*layout_, {1000}, 21, "amd64");
  const auto arm64 = fakes::write_image(*layout_, {2000}, 22, "arm64");
  const auto root = fakes::write_index_of(*layout_, amd64, arm64);
  ASSERT_TRUE(ask(engine_api::encode(push_of(root, "grp/multi", access()))).ok);
  auto into = oci::Layout::create(work_.path() / "pulled");

  auto request = pull_of("v1", "grp/multi", into->path());
  request.platform = "linux/arm64";
  const auto pulled = ask(engine_api::encode(request));

  ASSERT_TRUE(pulled.ok) << pulled.what;
  EXPECT_EQ(pulled.digest, root.str());
  EXPECT_EQ(pulled.child_digest, arm64.str());
  EXPECT_TRUE(into->has_blob(root));
  EXPECT_FALSE(into->has_blob(amd64));
  request.platform = "linux/s390x";
  const auto missing = ask(engine_api::encode(request));
  EXPECT_EQ(missing.kind, "not_found");
  EXPECT_NE(missing.what.find("it has linux/amd64, linux/arm64"), std::string::npos)
      << missing.what;
}

TEST_F(RealRegistry, GoesOnWithAnUploadAfterTheWireWasCut) {
  const auto root = fakes::write_image(*layout_, {80UL << 20}, 31); // three chunks of 32 MiB
  CutWire wire{registry_port_, 50UL << 20};

  const auto pushed = ask(
      engine_api::encode(push_of(root, "grp/cut", access("pusher", "open-sesame", wire.port()))));

  EXPECT_TRUE(pushed.ok) << pushed.what;
  EXPECT_EQ(wire.cuts(), 1);
}

TEST_F(RealRegistry, RefusesToPushWithoutAMatchingPass) {
  const auto root = fakes::write_image(*layout_, {1000}, 41);
  const auto other = fakes::write_image(*layout_, {1000}, 42);
  auto request = push_of(root, "grp/denied", access());
  request.pass_digest = other.str();

  const auto answer = ask(engine_api::encode(request));

  EXPECT_FALSE(answer.ok);
  EXPECT_EQ(answer.kind, "denied");
  EXPECT_NE(answer.what.find("no permit to push"), std::string::npos) << answer.what;
}

TEST_F(RealRegistry, SaysThatAReaderMayNotPush) {
  const auto root = fakes::write_image(*layout_, {1000}, 51);

  const auto answer =
      ask(engine_api::encode(push_of(root, "grp/read", access("reader", "only-reading"))));

  EXPECT_EQ(answer.kind, "denied");
  EXPECT_NE(answer.what.find("requested access to the resource is denied"), std::string::npos)
      << answer.what;
  EXPECT_NE(answer.hint.find("[[registry]]"), std::string::npos) << answer.hint;
}

TEST_F(RealRegistry, SaysThatThePasswordIsWrong) {
  const auto root = fakes::write_image(*layout_, {1000}, 61);

  const auto answer = ask(engine_api::encode(push_of(root, "grp/app", access("pusher", "wrong"))));

  EXPECT_EQ(answer.kind, "denied");
  EXPECT_NE(answer.hint.find("password_file"), std::string::npos) << answer.hint;
}

TEST_F(RealRegistry, RefusesTokensThatLiveTooLong) {
  const auto root = fakes::write_image(*layout_, {1000}, 71);

  const auto answer =
      ask(engine_api::encode(push_of(root, "grp/app", access("long", "long-lasting"))));

  EXPECT_EQ(answer.kind, "denied");
  EXPECT_NE(answer.what.find("7200 s"), std::string::npos) << answer.what;
  EXPECT_NE(answer.hint.find("[push] token_lifetime"), std::string::npos) << answer.hint;
}

TEST_F(RealRegistry, SendsNoCredentialToATokenServerThatIsNotAllowed) {
  const auto root = fakes::write_image(*layout_, {1000}, 81);
  auto registry = access();
  registry.realm_hosts = {"tokens.example"};

  const auto answer = ask(engine_api::encode(push_of(root, "grp/app", std::move(registry))));

  EXPECT_EQ(answer.kind, "misconfigured");
  EXPECT_NE(answer.hint.find("realm_hosts"), std::string::npos) << answer.hint;
}

TEST_F(RealRegistry, SaysThatTheCertificateIsForAnotherName) {
  auto request = pull_of("v1", "grp/app", work_.path() / "layout");
  request.registry.host = "wrong.localhost:" + std::to_string(registry_port_);

  const auto answer = ask(engine_api::encode(request));

  EXPECT_EQ(answer.kind, "misconfigured");
  EXPECT_NE(answer.what.find("certificate"), std::string::npos) << answer.what;
  EXPECT_NE(answer.hint.find("ca_file"), std::string::npos) << answer.hint;
}

TEST_F(RealRegistry, DoesNotTrustAnUnknownAuthority) {
  auto request = pull_of("v1", "grp/app", work_.path() / "layout");
  request.registry.ca_file = "";

  const auto answer = ask(engine_api::encode(request));

  EXPECT_EQ(answer.kind, "misconfigured");
  EXPECT_NE(answer.hint.find("ca_file"), std::string::npos) << answer.hint;
}

TEST_F(RealRegistry, SaysThatAnImageDoesNotExist) {
  const auto answer = ask(engine_api::encode(pull_of("v9", "grp/app", work_.path() / "layout")));

  EXPECT_EQ(answer.kind, "not_found");
  EXPECT_NE(answer.what.find("there is no image " + host() + "/grp/app:v9"), std::string::npos)
      << answer.what;
}

TEST_F(RealRegistry, GivesUpOnARegistryThatIsDown) {
  auto request = pull_of("v1", "grp/app", work_.path() / "layout");
  request.registry.host = host(free_port());
  request.deadline_seconds = 60; // more than all of its tries take

  const auto answer = ask(engine_api::encode(request));

  EXPECT_EQ(answer.kind, "unavailable");
}

TEST_F(RealRegistry, EndsAtItsDeadlineWhereTheRegistryNeverAnswers) {
  int port = 0;
  const auto silent = listen_on_loopback(port);
  auto request = pull_of("v1", "grp/app", work_.path() / "layout");
  request.registry.host = host(port);
  request.deadline_seconds = 1;

  const auto answer = ask(engine_api::encode(request));

  EXPECT_FALSE(answer.ok);
  EXPECT_EQ(answer.kind, "timed_out");
  EXPECT_NE(answer.what.find("the deadline for talking to"), std::string::npos) << answer.what;
}

TEST_F(RealRegistry, IsConfinedWhileItWorksAndEndsWhenNobodyWaitsForTheAnswer) {
  int port = 0;
  const auto silent = listen_on_loopback(port);
  auto request = pull_of("v1", "grp/app", work_.path() / "layout");
  request.registry.host = host(port);
  int ends[2];
  ASSERT_EQ(::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends), 0);
  UniqueFd ours{ends[0]};
  UniqueFd theirs{ends[1]};
  auto command = command_of({build_dir() / "bin/slipway-push"});
  command.fds = {{theirs.get(), 3}};
  auto child = process::spawn(command);
  ASSERT_TRUE(child);
  theirs.reset();
  ASSERT_TRUE(engine_api::send_frame(ours.get(), engine_api::encode(request), {}, 5s));
  pollfd called{silent.get(), POLLIN, 0};
  ASSERT_EQ(::poll(&called, 1, 30000), 1);
  const auto status = read_file("/proc/" + std::to_string(child->pid()) + "/status", 64 << 10);
  ASSERT_TRUE(status) << status.error().text();
  EXPECT_NE(status->find("\nSeccomp:\t2\n"), std::string::npos) << *status;
  EXPECT_NE(status->find("\nNoNewPrivs:\t1\n"), std::string::npos) << *status;

  ours.reset();

  const auto ending = child->wait(5s, 1s);
  EXPECT_TRUE(std::holds_alternative<process::Exited>(ending)) << process::describe(ending);
}

TEST_F(RealRegistry, ReadsThePasswordFromAFile) {
  const auto root = fakes::write_image(*layout_, {1000}, 101);
  write(work_.path() / "password", "open-sesame\n");
  auto registry = access("pusher", "");
  registry.password_file = work_.path() / "password";

  const auto pushed = ask(engine_api::encode(push_of(root, "grp/file", std::move(registry))));

  EXPECT_TRUE(pushed.ok) << pushed.what;
}

TEST_F(RealRegistry, TwoPushesOfOneTagAtOnceLeaveOneOfThem) {
  const auto first = fakes::write_image(*layout_, {3000000}, 111);
  const auto second = fakes::write_image(*layout_, {3000000}, 112);
  engine_api::WorkerAnswer answers[2];

  std::thread other{
      [&] { answers[0] = ask(engine_api::encode(push_of(first, "grp/race", access()))); }};
  answers[1] = ask(engine_api::encode(push_of(second, "grp/race", access())));
  other.join();

  EXPECT_TRUE(answers[0].ok) << answers[0].what;
  EXPECT_TRUE(answers[1].ok) << answers[1].what;
  auto request = pull_of("v1", "grp/race", work_.path() / "layout");
  request.manifest_only = true;
  const auto tagged = ask(engine_api::encode(request));
  EXPECT_TRUE(tagged.digest == first.str() || tagged.digest == second.str());
}

TEST_F(RealRegistry, LargeLayersDoNotGrowTheWorker) {
  const auto root = fakes::write_image(*layout_, {200UL << 20}, 91);

  const auto pushed = ask(engine_api::encode(push_of(root, "grp/large", access())));

  EXPECT_TRUE(pushed.ok) << pushed.what;
  EXPECT_LT(peak_kib_, 64L << 10);
}

TEST(PushWorker, RefusesToRunWithoutItsSocket) {
  process::LocalRunner runner;

  const auto output = runner.run(command_of({build_dir() / "bin/slipway-push"}));

  ASSERT_TRUE(output);
  EXPECT_EQ(process::describe(output->ending), process::describe(process::Exited{2}));
  EXPECT_NE(output->err.find("wants a socket"), std::string::npos);
}

} // namespace
} // namespace slipway
