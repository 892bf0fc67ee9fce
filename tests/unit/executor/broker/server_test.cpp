// SPDX-License-Identifier: Apache-2.0
// The broker's socket with clients that mean no good.
#include "executor/base/unique_fd.hpp"
#include "executor/broker/server.hpp"
#include "tests/fakes/fake_image_service.hpp"

#include <gtest/gtest.h>

#include <poll.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>

#include <array>
#include <atomic>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <future>
#include <thread>
#include <tuple>

namespace slipway::broker {
namespace {

namespace fs = std::filesystem;
using std::chrono::milliseconds;
using std::chrono::steady_clock;

/// An engine that answers on one end of a socket pair.
class FakeContainerService final : public ContainerService {
public:
  Status may_run() override {
    if (allowed) return {};
    return Error{ErrorKind::denied, "this job may not run containers", "dind = true", {}};
  }
  Result<UniqueFd> connect() override {
    int ends[2];
    EXPECT_EQ(::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends), 0);
    theirs = ends[1];
    return UniqueFd{ends[0]};
  }
  bool is_started() override { return started; }
  unsigned api() override { return newest; }
  const ContainerRules& rules() const override { return rules_; }

  unsigned newest = kOldestApi;
  bool allowed = true;
  std::atomic<bool> started = true;
  std::atomic<int> theirs = -1; ///< the engine's end, the test's to close

private:
  ContainerRules rules_{"/builds", "/sock"};
};

constexpr std::size_t kMuch = 4UL << 20; ///< more than a socket holds

/// Working containers that say what they were asked and what they were given.
class FakeSessionService final : public SessionService {
public:
  Result<int> run(const SessionOrder& order, const SessionStreams& streams) override {
    ++running;
    if (order.verb == "from") return Error{ErrorKind::denied, "no buildah here", "ask", {}};
    if (order.verb == "hang") {
      while (!streams.cancelled())
        std::this_thread::sleep_for(milliseconds{5});
      ++cancellations;
      return Error{ErrorKind::unavailable, "cancelled", "", {}};
    }
    if (!order.arguments.empty() && order.arguments.front() == "much")
      streams.out(std::string(kMuch, 'x'));
    streams.out(order.verb + " " + (order.arguments.empty() ? "" : order.arguments.front()));
    if (streams.input >= 0) {
      std::array<char, 100> bytes{};
      ssize_t got = 0;
      while ((got = ::read(streams.input, bytes.data(), bytes.size())) > 0)
        streams.err({bytes.data(), static_cast<std::size_t>(got)});
    }
    if (streams.files) {
      std::array<char, 100> bytes{};
      for (;;) {
        auto got = streams.files(bytes.data(), bytes.size());
        if (!got) return std::move(got).error();
        if (*got == 0) break;
        streams.err({bytes.data(), *got});
      }
    }
    return 5;
  }
  std::atomic<int> running = 0;
  std::atomic<int> cancellations = 0;
};

/// Sources at one address alone.
class FakeFetchService final : public FetchService {
public:
  Result<int> run(const FetchOrder& order, const SessionStreams& streams) override {
    if (order.program == "waits") {
      streams.out("began");
      while (!streams.cancelled())
        std::this_thread::sleep_for(milliseconds{5});
      ++cancellations;
      return Error{ErrorKind::unavailable, "cancelled", "", {}};
    }
    if (order.program != "git") return Error{ErrorKind::misconfigured, "no such program", "", {}};
    streams.out(order.program + " " + order.arguments.at(0));
    streams.err(std::to_string(order.peer.uid) + ":" + std::to_string(order.peer.gid) + ":" +
                std::to_string(order.peer.pid));
    return 128;
  }
  Status context(const RemoteContext& wanted, const Use& use, const Cancelled&) override {
    if (wanted.address != "https://x/y.git")
      return Error{ErrorKind::bad_input, "nothing at " + wanted.address, "", {}};
    std::string left = "a tar with " + wanted.dockerfile;
    use(
        [&](char* buffer, std::size_t capacity) -> Result<std::size_t> {
          const auto count = left.copy(buffer, capacity);
          left.erase(0, count);
          return count;
        },
        "building from it\n");
    return {};
  }
  std::atomic<int> cancellations = 0;
};

std::string session_frame(char kind, const std::string& text) {
  std::string head{kind, 0, 0, 0, 0, 0, 0};
  head += static_cast<char>(text.size());
  return head + text;
}

class BrokerServer : public testing::Test {
protected:
  void SetUp() override {
    std::string name = (fs::temp_directory_path() / "slipway-broker-XXXXXX").string();
    ASSERT_NE(::mkdtemp(name.data()), nullptr);
    dir = name;
    images = std::make_unique<tests::FakeImageService>(dir / "layout");
    limits.header_deadline = milliseconds{300};
    limits.idle_deadline = milliseconds{600};
    limits.connections = 4;
  }
  void TearDown() override {
    server.reset();
    fs::remove_all(dir);
  }
  void start() {
    auto started = Server::start(dir / "docker.sock", *images, limits, containers, sessions,
                                 fetches, statements);
    ASSERT_TRUE(started) << started.error().text();
    server = *std::move(started);
  }
  UniqueFd connect() const {
    UniqueFd fd{::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0)};
    sockaddr_un address{};
    address.sun_family = AF_UNIX;
    std::strncpy(address.sun_path, (dir / "docker.sock").c_str(), sizeof address.sun_path - 1);
    EXPECT_EQ(::connect(fd.get(), reinterpret_cast<sockaddr*>(&address), sizeof address), 0);
    return fd;
  }
  static void send(const UniqueFd& fd, std::string_view text) {
    (void)!::send(fd.get(), text.data(), text.size(), MSG_NOSIGNAL);
  }
  /// Everything until the server closes, or until `wait` without a byte.
  static std::string receive(const UniqueFd& fd, milliseconds wait = milliseconds{3000}) {
    std::string text;
    char part[4096];
    for (;;) {
      pollfd polled{fd.get(), POLLIN, 0};
      if (::poll(&polled, 1, static_cast<int>(wait.count())) <= 0) return text + "<open>";
      const ssize_t got = ::recv(fd.get(), part, sizeof part, 0);
      if (got <= 0) return text;
      text.append(part, static_cast<std::size_t>(got));
    }
  }
  std::string ask(std::string_view text) {
    const auto fd = connect();
    send(fd, text);
    return receive(fd);
  }
  /// The engine's end of the next connection; none where there is none.
  static UniqueFd next_engine(FakeContainerService& service) {
    eventually([&] { return service.theirs >= 0; });
    return UniqueFd{service.theirs.exchange(-1)};
  }
  static bool eventually(const std::function<bool()>& condition) {
    const auto until = steady_clock::now() + std::chrono::seconds{5};
    while (steady_clock::now() < until) {
      if (condition()) return true;
      std::this_thread::sleep_for(milliseconds{5});
    }
    return false;
  }

  fs::path dir;
  ServerLimits limits;
  ContainerService* containers = nullptr;
  SessionService* sessions = nullptr;
  FetchService* fetches = nullptr;
  PushStatements statements;
  std::unique_ptr<tests::FakeImageService> images;
  std::unique_ptr<Server> server;
};

constexpr const char* kBuild = "{\"context_path\":\"/builds/p\",\"tags\":[\"app:1\"]}";

std::string post(const std::string& path, const std::string& body, const std::string& more = "") {
  return "POST " + path + " HTTP/1.1\r\nHost: d\r\nConnection: close\r\n" + more +
         "Content-Length: " + std::to_string(body.size()) + "\r\n\r\n" + body;
}

TEST_F(BrokerServer, PingsWithAndWithoutVersion) {
  start();
  for (const char* path : {"/_ping", "/v1.24/_ping", "/v1.47/_ping"}) {
    const auto answer =
        ask(std::string{"GET "} + path + " HTTP/1.1\r\nHost: d\r\nConnection: close\r\n\r\n");
    EXPECT_TRUE(answer.starts_with("HTTP/1.1 200 OK\r\n")) << answer;
    EXPECT_NE(answer.find("Api-Version: 1.41\r\n"), std::string::npos);
    EXPECT_NE(answer.find("Builder-Version: 1\r\n"), std::string::npos);
    EXPECT_TRUE(answer.ends_with("\r\n\r\nOK"));
  }
  EXPECT_TRUE(
      ask("HEAD /_ping HTTP/1.1\r\nHost: d\r\nConnection: close\r\n\r\n").ends_with("\r\n\r\n"));
  EXPECT_NE(ask("GET /v2.0/_ping HTTP/1.1\r\nHost: d\r\nConnection: close\r\n\r\n").find(" 400 "),
            std::string::npos);
}

TEST_F(BrokerServer, KeepsAConnectionForTheNextRequest) {
  start();
  const auto fd = connect();
  send(fd, "GET /_ping HTTP/1.1\r\nHost: d\r\n\r\nGET /_ping HTTP/1.1\r\nHost: d\r\nConnection: "
           "close\r\n\r\n");

  const auto answer = receive(fd);

  EXPECT_NE(answer.find("OK", answer.find("\r\n\r\nOK") + 6), std::string::npos) << answer;
}

struct Malformed {
  const char* name;
  std::string text;
  const char* status;
};

std::string bulk(std::size_t size) {
  return std::string(size, 'a');
}

class BrokerRefuses : public BrokerServer, public testing::WithParamInterface<Malformed> {};

TEST_P(BrokerRefuses, WithAStatus) {
  start();

  const auto answer = ask(GetParam().text);

  EXPECT_EQ(answer.substr(9, 3), GetParam().status) << answer;
  EXPECT_NE(answer.find("{\"message\":\""), std::string::npos) << answer;
  EXPECT_TRUE(ask("GET /_ping HTTP/1.1\r\nHost: d\r\nConnection: close\r\n\r\n").ends_with("OK"));
}

INSTANTIATE_TEST_SUITE_P(
    Table, BrokerRefuses,
    testing::Values(
        Malformed{"NoHttp", "\x16\x03\x01\x02 hello\r\n\r\n", "400"},
        Malformed{"LengthAndChunked",
                  "POST /auth HTTP/1.1\r\nHost: d\r\nContent-Length: 4\r\nTransfer-Encoding: "
                  "chunked\r\n\r\n0\r\n\r\n",
                  "400"},
        Malformed{"ChunkedAndLength",
                  "POST /auth HTTP/1.1\r\nHost: d\r\nTransfer-Encoding: chunked\r\nContent-Length: "
                  "4\r\n\r\n0\r\n\r\n",
                  "400"},
        Malformed{
            "TwoLengths",
            "POST /auth HTTP/1.1\r\nHost: d\r\nContent-Length: 4\r\nContent-Length: 4\r\n\r\nabcd",
            "400"},
        Malformed{
            "OtherEncoding",
            "POST /auth HTTP/1.1\r\nHost: d\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
            "400"},
        Malformed{"NegativeLength", "POST /auth HTTP/1.1\r\nHost: d\r\nContent-Length: -1\r\n\r\n",
                  "400"},
        Malformed{"TwoHosts", "GET /_ping HTTP/1.1\r\nHost: d\r\nHost: e\r\n\r\n", "400"},
        Malformed{"HugeHeader", "GET /_ping HTTP/1.1\r\nHost: d\r\nX: " + bulk(70000) + "\r\n\r\n",
                  "431"},
        Malformed{"HugeQuery",
                  "GET /images/json?filters=" + bulk(200000) + " HTTP/1.1\r\nHost: d\r\n\r\n",
                  "431"},
        Malformed{
            "HugeChunkExtension",
            "POST /slipway/v1/build HTTP/1.1\r\nHost: d\r\nTransfer-Encoding: chunked\r\n\r\n1;" +
                bulk(200000) + "\r\na\r\n0\r\n\r\n",
            "400"},
        Malformed{"BadChunkSize",
                  "POST /slipway/v1/build HTTP/1.1\r\nHost: d\r\nTransfer-Encoding: "
                  "chunked\r\n\r\nzz\r\n",
                  "400"},
        Malformed{"BadEscape",
                  "GET /images/%zz/json HTTP/1.1\r\nHost: d\r\nConnection: close\r\n\r\n", "400"},
        Malformed{"NulInPath",
                  "GET /images/%00/json HTTP/1.1\r\nHost: d\r\nConnection: close\r\n\r\n", "400"},
        Malformed{"BadFilter",
                  "GET /images/json?filters=%7B HTTP/1.1\r\nHost: d\r\nConnection: close\r\n\r\n",
                  "400"},
        Malformed{"BadJson", post("/slipway/v1/build", "{\"context_path\":"), "400"},
        Malformed{"DeepJson", post("/slipway/v1/build", std::string(100000, '[')), "400"},
        Malformed{"BuildKitSession", post("/build?version=2", ""), "403"},
        Malformed{"MemoryLimit", post("/build?memory=100", ""), "403"},
        Malformed{"RemoteContext", post("/build?remote=https%3A%2F%2Fx%2Fy.tar", ""), "501"},
        Malformed{"Fetch", post("/slipway/v1/fetch", "{}"), "404"},
        Malformed{"ImportOfRootFs", post("/images/create?fromSrc=-", ""), "501"},
        Malformed{
            "NoSuchImage",
            "GET /images/reg:5000/a/b:1/json HTTP/1.1\r\nHost: d\r\nConnection: close\r\n\r\n",
            "404"},
        Malformed{"CreateContainer", post("/v1.41/containers/create", "{}"), "501"},
        Malformed{"LeaveOfNoSwarm", post("/swarm/leave?force=True", ""), "503"},
        Malformed{"InitOfASwarm", post("/swarm/init", "{}"), "501"},
        Malformed{"Unknown", post("/nothing", "{}"), "404"}),
    [](const auto& row) { return row.param.name; });

TEST_F(BrokerServer, APullSaysWhetherTheNameStoodForTheSame) {
  start();
  const auto pull = [&] { return ask(post("/images/create?fromImage=reg%2Fapp&tag=1", "")); };

  EXPECT_NE(pull().find("Status: Downloaded newer image for reg/app:1"), std::string::npos);
  EXPECT_NE(pull().find("Status: Image is up to date for reg/app:1"), std::string::npos);

  images->keep(images->make_image("another"), {oci::Reference::parse("reg/app:1").value()});
  EXPECT_NE(pull().find("Status: Downloaded newer image for reg/app:1"), std::string::npos);
}

TEST_F(BrokerServer, IsADockerOfOneVersion) {
  start();
  const auto version = ask("GET /version HTTP/1.1\r\nHost: d\r\nConnection: close\r\n\r\n");
  EXPECT_NE(version.find(R"("Version":"27.5.1")"), std::string::npos) << version;
  EXPECT_NE(version.find(R"("Experimental":false)"), std::string::npos) << version;
  EXPECT_NE(version.find(R"("Name":"slipway","Version":")" SLIPWAY_VERSION "\""), std::string::npos)
      << version;
  const auto info = ask("GET /info HTTP/1.1\r\nHost: d\r\nConnection: close\r\n\r\n");
  EXPECT_NE(info.find(R"("ServerVersion":"27.5.1")"), std::string::npos) << info;
}

TEST_F(BrokerServer, TellsWhatPushesGet) {
  statements.provenance = true;
  start();
  const auto version = ask("GET /version HTTP/1.1\r\nHost: d\r\nConnection: close\r\n\r\n");
  EXPECT_NE(version.find(R"("Details":{"Provenance":"true","SBOM":"false"},"Name":"slipway")"),
            std::string::npos)
      << version;
}

TEST_F(BrokerServer, ABodyThatNobodyWantedIsReadPast) {
  start();

  // Docker's SDK for Go sends one with each push.
  const auto said = ask("POST /build/prune HTTP/1.1\r\nHost: d\r\nContent-Length: 3\r\n\r\n{}\n"
                        "POST /build/prune HTTP/1.1\r\nHost: d\r\nTransfer-Encoding: chunked\r\n"
                        "\r\n3\r\n{}\n\r\n0\r\n\r\n"
                        "GET /_ping HTTP/1.1\r\nHost: d\r\nConnection: close\r\n\r\n");

  EXPECT_TRUE(said.ends_with("\r\n\r\nOK")) << said;
}

TEST_F(BrokerServer, RefusesJsonAboveItsLimit) {
  limits.json_body_bytes = 1000;
  start();

  EXPECT_NE(ask(post("/slipway/v1/build", bulk(2000))).find("larger than 1000 bytes"),
            std::string::npos);
}

TEST_F(BrokerServer, RefusesAStreamAboveItsLimit) {
  limits.stream_body_bytes = 1000;
  start();

  EXPECT_NE(ask(post("/build", bulk(2000))).find(" 413 "), std::string::npos);
  EXPECT_NE(ask("POST /build HTTP/1.1\r\nHost: d\r\nConnection: close\r\nTransfer-Encoding: "
                "chunked\r\n\r\n7d0\r\n" +
                bulk(2000) + "\r\n0\r\n\r\n")
                .find("too large"),
            std::string::npos);
  EXPECT_TRUE(images->builds.empty());
}

TEST_F(BrokerServer, EndsAClientThatSendsItsHeaderSlowly) {
  start();
  const auto fd = connect();
  const auto begin = steady_clock::now();
  std::string answer;
  for (int i = 0; i < 40 && answer.empty(); ++i) {
    send(fd, i == 0 ? "GET /_ping HTTP/1.1\r\nX: " : "a");
    answer = receive(fd, milliseconds{50});
    if (answer == "<open>") answer.clear();
  }

  EXPECT_NE(answer.find(" 408 "), std::string::npos) << answer;
  EXPECT_LT(steady_clock::now() - begin, std::chrono::seconds{2});
}

TEST_F(BrokerServer, EndsAClientThatSaysNothing) {
  start();
  const auto fd = connect();

  EXPECT_EQ(receive(fd), "");
}

TEST_F(BrokerServer, EndsABodyThatStops) {
  start();
  const auto fd = connect();
  send(fd, "POST /build HTTP/1.1\r\nHost: d\r\nContent-Length: 100\r\n\r\nabc");

  EXPECT_NE(receive(fd).find("504"), std::string::npos);
  EXPECT_TRUE(images->builds.empty());
}

TEST_F(BrokerServer, EndsABodyThatTricklesForEver) {
  limits.stream_deadline = milliseconds{300};
  start();
  const auto fd = connect();
  std::string answer;
  for (int i = 0; i < 100 && answer.empty(); ++i) {
    send(fd, i == 0 ? "POST /build HTTP/1.1\r\nHost: d\r\nContent-Length: 1000\r\n\r\nabc" : "a");
    answer = receive(fd, milliseconds{50}); // never as long as the idle deadline
    if (answer == "<open>") answer.clear();
  }

  EXPECT_NE(answer.find("504"), std::string::npos) << answer;
  EXPECT_TRUE(images->builds.empty());
}

TEST_F(BrokerServer, AnswersTooManyConnectionsAtOnce) {
  start();
  std::vector<UniqueFd> held;
  for (std::size_t i = 0; i < limits.connections; ++i)
    held.push_back(connect());
  send(held[0], "GET /_ping HTTP/1.1\r\nHost: d\r\n\r\n");
  EXPECT_NE(receive(held[0], milliseconds{100}).find("OK"), std::string::npos);

  const auto fd = connect();

  EXPECT_TRUE(receive(fd).starts_with("HTTP/1.1 503 "));
  held.clear();
  EXPECT_TRUE(eventually([&] {
    return ask("GET /_ping HTTP/1.1\r\nHost: d\r\nConnection: close\r\n\r\n").ends_with("OK");
  }));
}

TEST_F(BrokerServer, CancelsABuildWhoseClientHasGone) {
  images->hang = true;
  start();
  {
    const auto fd = connect();
    send(fd, post("/slipway/v1/build", kBuild));
    ASSERT_TRUE(eventually([&] { return images->running == 1; }));
  }

  EXPECT_TRUE(eventually([&] { return images->cancellations == 1; }));
}

TEST_F(BrokerServer, ACommandOfAWorkingContainerEndsWithItsCode) {
  FakeSessionService service;
  sessions = &service;
  start();
  const auto said = ask(post("/slipway/v1/buildah", R"({"verb":"rm","arguments":["c"]})"));
  EXPECT_NE(said.find(session_frame(1, "rm c")), std::string::npos) << said;
  EXPECT_NE(said.find(session_frame(3, "5")), std::string::npos) << said;
  EXPECT_NE(ask(post("/slipway/v1/buildah", R"({"verb":"from"})")).find("403"), std::string::npos);
}

TEST_F(BrokerServer, AProgramThatFetchesEndsWithItsCode) {
  FakeFetchService service;
  fetches = &service;
  start();
  const auto order = [&](const std::string& program) {
    return ask(
        post("/slipway/v1/fetch", R"({"program":")" + program + R"(","arguments":["init"]})"));
  };
  const auto said = order("git");
  EXPECT_NE(said.find(session_frame(1, "git init")), std::string::npos) << said;
  const auto own = std::to_string(::geteuid()) + ":" + std::to_string(::getegid()) + ":" +
                   std::to_string(::getpid());
  EXPECT_NE(said.find(session_frame(2, own)), std::string::npos) << said;
  EXPECT_NE(said.find(session_frame(3, "128")), std::string::npos) << said;
  EXPECT_NE(order("curl").find("no such program"), std::string::npos);
  EXPECT_NE(ask(post("/slipway/v1/fetch", R"({"user":"0:0"})")).find("400"), std::string::npos);
}

TEST_F(BrokerServer, AProgramThatFetchesEndsWhenItsClientGoes) {
  FakeFetchService service;
  fetches = &service;
  start();
  {
    const auto fd = connect();
    send(fd, post("/slipway/v1/fetch", R"({"program":"waits"})"));
    pollfd begun{fd.get(), POLLIN, 0};
    ASSERT_EQ(::poll(&begun, 1, 5000), 1);
    EXPECT_EQ(service.cancellations, 0);
  }
  EXPECT_TRUE(eventually([&] { return service.cancellations == 1; }));
}

TEST_F(BrokerServer, ABuildTakesItsContextFromAnAddress) {
  FakeFetchService service;
  fetches = &service;
  images->keep_context = true;
  start();
  const auto said = ask(post("/build?remote=https%3A%2F%2Fx%2Fy.git&dockerfile=Other&t=app", ""));
  EXPECT_NE(said.find("building from it"), std::string::npos) << said;
  EXPECT_NE(said.find("Successfully tagged app:latest"), std::string::npos) << said;
  EXPECT_EQ(images->kept_context, "a tar with Other");

  const auto refused = ask(post("/build?remote=https%3A%2F%2Fx%2Fz.git", ""));
  EXPECT_NE(refused.find("400"), std::string::npos) << refused;
  EXPECT_NE(refused.find("nothing at https://x/z.git"), std::string::npos) << refused;
  EXPECT_EQ(images->builds.size(), 1U);
}

TEST_F(BrokerServer, ACommandOfAWorkingContainerHasItsFilesFromTheBody) {
  FakeSessionService service;
  sessions = &service;
  start();
  const auto sent = [&](const std::string& body) {
    return ask(
        post("/slipway/v1/buildah", body, "Content-Type: application/vnd.slipway.session+tar\r\n"));
  };
  const auto said = sent("{\"verb\":\"copy\"}\na tar\n");
  EXPECT_NE(said.find(session_frame(2, "a tar\n")), std::string::npos) << said;
  EXPECT_NE(sent(R"({"verb":"copy"})").find("no order before the files"), std::string::npos);
  EXPECT_NE(sent("{\na tar").find("order is not valid JSON"), std::string::npos);
  EXPECT_NE(sent(std::string(limits.json_body_bytes + 1, ' ') + "\n{}").find("no order"),
            std::string::npos);
  std::string much = R"({"verb":"copy","arguments":["c")";
  for (int i = 0; i < 5000; ++i)
    much += ",\"0/name" + std::to_string(i) + '"';
  EXPECT_NE(sent(much + "]}\na tar").find(session_frame(2, "a tar")), std::string::npos);
}

TEST_F(BrokerServer, ACommandOfAWorkingContainerHasItsStdinFromTheStream) {
  FakeSessionService service;
  sessions = &service;
  start();
  const auto fd = connect();
  send(fd, post("/slipway/v1/buildah", R"({"verb":"run"})", "Upgrade: tcp\r\n"));
  send(fd, "typed");
  ::shutdown(fd.get(), SHUT_WR); // the end of stdin is not the client's
  const auto said = receive(fd);
  EXPECT_TRUE(said.starts_with("HTTP/1.1 101")) << said;
  EXPECT_NE(said.find(session_frame(2, "typed")), std::string::npos) << said;
  EXPECT_TRUE(said.ends_with(session_frame(3, "5"))) << said;
}

TEST_F(BrokerServer, WhoReadsACommandOfAWorkingContainerMayPause) {
  FakeSessionService service;
  sessions = &service;
  limits.idle_deadline = milliseconds{50};
  start();
  const auto after_a_pause = [&](const char* verb, const char* more) {
    const auto fd = connect();
    send(fd, post("/slipway/v1/buildah",
                  std::string{R"({"verb":")"} + verb + R"(","arguments":["much"]})", more));
    if (*more != '\0') ::shutdown(fd.get(), SHUT_WR); // no stdin
    std::this_thread::sleep_for(milliseconds{500});
    return receive(fd);
  };

  for (const auto* more : {"", "Upgrade: tcp\r\n"}) {
    const auto said = after_a_pause("run", more);
    EXPECT_GT(said.size(), kMuch) << more;
    EXPECT_NE(said.find(session_frame(3, "5")), std::string::npos) << more;
  }
  // The control: what else is asked has to be read at once.
  EXPECT_LT(after_a_pause("inspect", "").size(), kMuch);
}

TEST_F(BrokerServer, ACommandOfAWorkingContainerEndsWithItsClient) {
  FakeSessionService service;
  sessions = &service;
  start();
  for (const auto* more : {"", "Upgrade: tcp\r\n"}) {
    const int before = service.running;
    {
      const auto fd = connect();
      send(fd, post("/slipway/v1/buildah", R"({"verb":"hang"})", more));
      ASSERT_TRUE(eventually([&] { return service.running == before + 1; }));
    }
    EXPECT_TRUE(eventually([&] { return service.cancellations == before + 1; })) << more;
  }
}

struct BadOrder {
  const char* name;
  const char* order;
  const char* words;
};
class BrokerSessionOrder : public BrokerServer, public testing::WithParamInterface<BadOrder> {};
TEST_P(BrokerSessionOrder, IsRefused) {
  FakeSessionService service;
  sessions = &service;
  start();
  const auto said = ask(post("/slipway/v1/buildah", GetParam().order));
  EXPECT_NE(said.find("400"), std::string::npos) << said;
  EXPECT_NE(said.find(GetParam().words), std::string::npos) << said;
  EXPECT_EQ(service.running, 0);
}
INSTANTIATE_TEST_SUITE_P(
    Cases, BrokerSessionOrder,
    testing::Values(BadOrder{"NoJson", "{", "order is not valid JSON"},
                    BadOrder{"List", "[]", "order is not a JSON object"},
                    BadOrder{"UnknownMember", R"({"verb":"rm","mount":"/"})", "mount"},
                    BadOrder{"Options", R"({"verb":"rm","options":["all"]})", "options"},
                    BadOrder{"Nul", R"({"verb":"rm","arguments":["a\u0000"]})", "arguments"},
                    BadOrder{"Name", R"({"verb":"commit","names":["A"]})", "A"},
                    BadOrder{"Pull", R"({"verb":"from","pull":"maybe"})", "pull"}),
    [](const auto& row) { return row.param.name; });

TEST_F(BrokerServer, StopCancelsABuildAndTellsItsClient) {
  images->hang = true;
  start();
  const auto fd = connect();
  send(fd, post("/slipway/v1/build", kBuild));
  ASSERT_TRUE(eventually([&] { return images->running == 1; }));

  server->stop(milliseconds{3000});

  EXPECT_EQ(images->cancellations, 1);
  EXPECT_NE(receive(fd).find("\"error\":\"cancelled\""), std::string::npos);
  EXPECT_FALSE(fs::exists(dir / "docker.sock"));
}

TEST_F(BrokerServer, StopsThoughAClientHasAlwaysSomethingMoreToAsk) {
  limits.idle_deadline = std::chrono::minutes{1};
  start();
  const auto fd = connect();
  std::atomic<std::size_t> answered{0};
  std::thread asking{[&] {
    std::string many;
    for (int i = 0; i < 100; ++i)
      many += "GET /_ping HTTP/1.1\r\nHost: d\r\n\r\n";
    while (::send(fd.get(), many.data(), many.size(), MSG_NOSIGNAL) > 0) {
    }
  }};
  std::thread reading{[&] {
    char part[65536];
    for (ssize_t got = 1; got > 0;) {
      got = ::recv(fd.get(), part, sizeof part, 0);
      if (got > 0) answered += static_cast<std::size_t>(got);
    }
  }};
  EXPECT_TRUE(eventually([&] { return answered > 10000; }));

  server.reset(); // hangs where it waits for the client's last question

  asking.join();
  reading.join();
}

TEST_F(BrokerServer, BuildsFromTheWorkspace) {
  start();

  const auto answer = ask(post(
      "/slipway/v1/build",
      R"({"context_path":"/builds/p","dockerfile":"a/Dockerfile","tags":["reg:5000/app:1"],"build_args":[["A","1"]],"no_cache":true,"network":"none","extra_hosts":[["h","10.0.0.1"]],"dialect":"docker"})"));

  EXPECT_NE(answer.find("\"Manifest\":\"sha256:"), std::string::npos) << answer;
  EXPECT_NE(answer.find("Successfully tagged reg:5000/app:1\\n"), std::string::npos) << answer;
  ASSERT_EQ(images->builds.size(), 1U);
  EXPECT_EQ(images->builds[0].context_path, "/builds/p");
  EXPECT_EQ(images->builds[0].dockerfile, "a/Dockerfile");
  EXPECT_TRUE(images->builds[0].no_cache);
}

TEST_F(BrokerServer, GivesReportsOnWhatWasPushedOnly) {
  images->reported = "reg.example/app:1";
  start();
  const auto get = [&](const std::string& target) {
    return ask("GET /slipway/v1/reports" + target +
               " HTTP/1.1\r\nHost: d\r\nConnection: close\r\n\r\n");
  };
  EXPECT_TRUE(get("?image=reg.example%2Fapp:1")
                  .ends_with(R"({"gl.json":"{}\n","page.html":"<p>"})"
                             "\n"));
  EXPECT_TRUE(get("?image=reg.example%2Fapp:1&format=html").ends_with("\r\n\r\n<p>"));
  EXPECT_NE(get("?image=reg.example%2Fapp:1&format=pdf").find(" 400 "), std::string::npos);
  EXPECT_NE(get("?image=reg.example%2Fother:1").find(" 404 "), std::string::npos);
  EXPECT_NE(get("?image=..%2F..%2Fetc").find(" 400 "), std::string::npos);
  EXPECT_NE(get("").find(" 400 "), std::string::npos);
  EXPECT_NE(ask(post("/slipway/v1/reports?image=reg.example%2Fapp:1", "{}")).find(" 404 "),
            std::string::npos);
}

TEST_F(BrokerServer, SaysForWhichPlatformsStepsRun) {
  start();
  EXPECT_NE(ask("GET /slipway/v1/platforms HTTP/1.1\r\nHost: d\r\nConnection: close\r\n\r\n")
                .find(R"({"platforms":["linux/amd64","linux/arm/v7"]})"),
            std::string::npos);
}

TEST_F(BrokerServer, TheFilesOfAnImageAreATar) {
  images->keep(images->make_image("what the layer has"), {oci::Reference::parse("app:1").value()});
  start();
  const auto get = [&](const std::string& target) {
    return ask("GET /slipway/v1/files" + target +
               " HTTP/1.1\r\nHost: d\r\nConnection: close\r\n\r\n");
  };
  const auto tar = get("?name=app:1");
  EXPECT_NE(tar.find("Content-Type: application/x-tar"), std::string::npos) << tar;
  EXPECT_NE(tar.find("what the layer has"), std::string::npos) << tar;
  EXPECT_NE(get("?name=app:2").find(" 404 "), std::string::npos);
}

TEST_F(BrokerServer, AnIndexIsMadeAndItsManifestIsShown) {
  images->keep(images->make_image("one"), {oci::Reference::parse("app:amd64").value()});
  start();

  const auto made =
      ask(post("/slipway/v1/index", R"({"names": ["app:1"], "add": [{"image": "app:amd64"}]})"));
  EXPECT_NE(made.find(R"({"status":"looking for 1 images"})"), std::string::npos) << made;
  EXPECT_NE(made.find(R"("MediaType":"application/vnd.oci.image.index.v1+json")"),
            std::string::npos)
      << made;
  ASSERT_EQ(images->indexes.size(), 1U);
  EXPECT_EQ(images->indexes[0].start, IndexRequest::Start::fresh);

  const auto get = [&](const std::string& query) {
    return ask("GET /slipway/v1/manifest?name=" + query +
               " HTTP/1.1\r\nHost: d\r\nConnection: close\r\n\r\n");
  };
  EXPECT_NE(get("app:amd64").find(R"("layers":[)"), std::string::npos);
  EXPECT_NE(get("app:other").find(" 404 "), std::string::npos);
  EXPECT_NE(get("app:amd64&from=registry").find(" 404 "), std::string::npos);
  EXPECT_NE(ask(post("/slipway/v1/index", R"({"names": ["app:2"], "push": true})")).find(" 400 "),
            std::string::npos);
  EXPECT_NE(ask(post("/slipway/v1/index", R"({"names": ["app:2"], "add": [{"image": "gone"}]})"))
                .find("gone"),
            std::string::npos);
}

TEST_F(BrokerServer, AnErrorBeforeAnyProgressIsAStatus) {
  images->build_output.clear();
  images->build_error =
      Error{ErrorKind::denied, "FROM of a forbidden registry", "use the mirror", {}};
  start();

  const auto answer = ask(post("/slipway/v1/build", kBuild));

  EXPECT_NE(answer.find(" 403 "), std::string::npos) << answer;
  EXPECT_NE(answer.find("FROM of a forbidden registry: use the mirror"), std::string::npos)
      << answer;
}

TEST_F(BrokerServer, ABuildThatFailedTellsTheCodeOfItsStep) {
  images->build_error = Error{
      ErrorKind::backend_failed, "Dockerfile:2: a step ended with exit code 42: RUN x", "", {}};
  start();
  EXPECT_NE(ask(post("/slipway/v1/build", kBuild)).find("\"code\":42"), std::string::npos);

  // What is not a step's is HTTP's, whatever a job makes the words say.
  for (const char* what : {"a step ended with exit code 256: RUN x", "a step ended with exit code ",
                           "a step ended with exit code 0", "the builder's disk is full"}) {
    images->build_error = Error{ErrorKind::backend_failed, what, "", {}};
    EXPECT_NE(ask(post("/slipway/v1/build", kBuild)).find("\"code\":500"), std::string::npos)
        << what;
  }
  images->build_error =
      Error{ErrorKind::unavailable, "a step ended with exit code 42: RUN x", "", {}};
  EXPECT_NE(ask(post("/slipway/v1/build", kBuild)).find("\"code\":503"), std::string::npos);
}

TEST_F(BrokerServer, LimitsTheBodyOfAuth) {
  start();

  EXPECT_NE(ask(post("/auth", R"({"username":"u","password":"p"})")).find("Login Succeeded"),
            std::string::npos);
  EXPECT_NE(ask(post("/auth", bulk(100000))).find(" 413 "), std::string::npos);
}

TEST_F(BrokerServer, ALoginIsHandedOnAndInNoAnswer) {
  start();
  const auto login = [&](const std::string& body) { return ask(post("/auth", body)); };

  EXPECT_NE(login(R"({"username":"u","password":"useless.example","serveraddress":"r.example"})")
                .find(" 200 "),
            std::string::npos);
  const auto refused = login(R"({"serveraddress":"useless.example","password":"hunter2"})");
  EXPECT_NE(refused.find(" 403 "), std::string::npos) << refused;
  EXPECT_NE(refused.find("is of no use"), std::string::npos) << refused;
  EXPECT_EQ(refused.find("hunter2"), std::string::npos) << refused;
  EXPECT_NE(login(R"({"a":{"serveraddress":"useless.example"}})").find(" 200 "), std::string::npos);
  const auto forwarded = login(
      R"({"username":"me","password":"hunter2","serveraddress":"elsewhere.example","a":{"password":"x"}})");
  EXPECT_NE(forwarded.find("\"Forwarded\":true"), std::string::npos) << forwarded;
  EXPECT_EQ(forwarded.find("hunter2"), std::string::npos) << forwarded;
  EXPECT_EQ(images->passwords["me"], "hunter2");
  EXPECT_NE(login("no JSON").find(" 400 "), std::string::npos);
  EXPECT_EQ(images->logins,
            (std::vector<std::string>{"r.example", "useless.example", "", "elsewhere.example"}));
}

TEST_F(BrokerServer, ReplacesAStaleSocketButNoFile) {
  start();
  auto again = Server::start(dir / "docker.sock", *images, limits);
  EXPECT_TRUE(again);
  std::ofstream{dir / "file"} << "precious";

  EXPECT_FALSE(Server::start(dir / "file", *images, limits));
  EXPECT_TRUE(fs::exists(dir / "file"));
}

TEST_F(BrokerServer, BindsAPathLongerThanAnAddress) {
  const auto deep = dir / std::string(120, 'd');
  fs::create_directories(deep);

  auto started = Server::start(deep / "docker.sock", *images, limits);

  EXPECT_TRUE(started);
  EXPECT_TRUE(fs::is_socket(deep / "docker.sock"));
}

TEST_F(BrokerServer, WithoutTheGrantNoCallReachesTheEngine) {
  FakeContainerService service;
  service.allowed = false;
  containers = &service;
  start();
  const auto client = connect();

  send(client, "POST /v1.41/containers/create HTTP/1.1\r\nHost: d\r\nConnection: close\r\n"
               "Content-Length: 13\r\n\r\n{\"Image\":\"a\"}");

  const auto said = receive(client);
  EXPECT_NE(said.find("403"), std::string::npos) << said;
  EXPECT_NE(said.find("dind = true"), std::string::npos) << said;
  EXPECT_EQ(service.theirs, -1);
}

TEST_F(BrokerServer, ANewerEngineIsAskedAsItsClientAsksAndToldOfAsFarAsSlipwayGoes) {
  FakeContainerService service;
  service.newest = 51;
  containers = &service;
  start();

  const auto said = ask("GET /version HTTP/1.1\r\nHost: d\r\nConnection: close\r\n\r\n");
  EXPECT_NE(said.find("Api-Version: 1.44\r\n"), std::string::npos) << said;
  EXPECT_NE(said.find(R"("ApiVersion":"1.44")"), std::string::npos) << said;
  EXPECT_EQ(said.find("1.41"), std::string::npos) << said;

  struct Asked {
    const char* by;
    const char* engine;
  };
  for (const auto& [by, engine_path] :
       {Asked{"/v1.24/containers/web/json", "/v1.41/containers/web/json"},
        Asked{"/containers/web/json", "/v1.41/containers/web/json"},
        Asked{"/v1.44/containers/web/json", "/v1.44/containers/web/json"},
        Asked{"/v1.51/containers/web/json", "/v1.51/containers/web/json"},
        Asked{"/v1.60/containers/web/json", "/v1.51/containers/web/json"},
        Asked{"/v1.42/containers/web/stop?signal=USR1",
              "/v1.42/containers/web/stop?signal=USR1"}}) {
    const bool stops = std::string{by}.find("/stop") != std::string::npos;
    const auto client = connect();
    send(client, stops ? post(by, "") : std::string{"GET "} + by + " HTTP/1.1\r\nHost: d\r\n\r\n");
    auto engine = next_engine(service);
    const auto asked = receive(engine, milliseconds{300});
    EXPECT_TRUE(asked.starts_with((stops ? "POST " : "GET ") + std::string{engine_path} + " HTTP"))
        << asked;
    engine.reset();
    (void)receive(client);
  }
}

TEST_F(BrokerServer, AnAttachedStreamGoesBothWaysAndEndsWithItsEngine) {
  FakeContainerService service;
  containers = &service;
  start();
  const auto client = connect();

  send(client, "POST /v1.30/containers/web/attach?stream=1 HTTP/1.1\r\nHost: d\r\n"
               "Connection: Upgrade\r\nUpgrade: tcp\r\nX-Registry-Auth: secret\r\n\r\n");
  for (int tries = 0; service.theirs < 0 && tries < 300; ++tries)
    std::this_thread::sleep_for(milliseconds{10});
  UniqueFd engine{service.theirs.load()};
  const auto asked = receive(engine, milliseconds{300});
  EXPECT_TRUE(asked.starts_with("POST /v1.41/containers/web/attach?stream=1 HTTP/1.1\r\n"))
      << asked;
  EXPECT_NE(asked.find("Upgrade: tcp"), std::string::npos);
  EXPECT_EQ(asked.find("secret"), std::string::npos);

  send(engine, "HTTP/1.1 101 UPGRADED\r\n\r\nhello");
  send(client, "typed");
  ::shutdown(client.get(), SHUT_WR);
  EXPECT_EQ(receive(engine), "typed");
  engine.reset();
  EXPECT_EQ(receive(client), "HTTP/1.1 101 UPGRADED\r\n\r\nhello");
}

TEST_F(BrokerServer, WhatAStreamSaysComesAfterItsHeadHasBeenRead) {
  FakeContainerService service;
  containers = &service;
  start();
  const auto client = connect();

  send(client, "POST /v1.41/containers/web/attach?logs=1 HTTP/1.1\r\nHost: d\r\n"
               "Connection: Upgrade\r\nUpgrade: tcp\r\n\r\n");
  for (int tries = 0; service.theirs < 0 && tries < 300; ++tries)
    std::this_thread::sleep_for(milliseconds{10});
  UniqueFd engine{service.theirs.load()};
  receive(engine, milliseconds{300});
  send(engine, "HTTP/1.1 101 UPGRADED\r\n\r\nhello");
  engine.reset();

  // One read with much room, as buffered readers do it.
  std::array<char, 4096> part{};
  const auto got = ::recv(client.get(), part.data(), part.size(), 0);
  ASSERT_GT(got, 0);
  EXPECT_EQ(std::string(part.data(), static_cast<std::size_t>(got)),
            "HTTP/1.1 101 UPGRADED\r\n\r\n");
  EXPECT_EQ(receive(client), "hello");
}

TEST_F(BrokerServer, AfterARefusedAttachNothingOfTheClientsReachesTheEngine) {
  FakeContainerService service;
  containers = &service;
  start();
  const auto client = connect();

  send(client, "POST /v1.41/containers/none/attach HTTP/1.1\r\nHost: d\r\n"
               "Connection: Upgrade\r\nUpgrade: tcp\r\n\r\n"
               "POST /v1.41/images/create?fromImage=x HTTP/1.1\r\nHost: d\r\n\r\n");
  for (int tries = 0; service.theirs < 0 && tries < 300; ++tries)
    std::this_thread::sleep_for(milliseconds{10});
  UniqueFd engine{service.theirs.load()};
  const auto asked = receive(engine, milliseconds{300});
  EXPECT_TRUE(asked.ends_with("\r\n\r\n<open>")) << asked;
  EXPECT_NE(asked.find("close"), std::string::npos) << asked;
  EXPECT_EQ(asked.find("images"), std::string::npos) << asked;

  send(engine, "HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n");
  send(client, "POST /v1.41/images/create?fromImage=x HTTP/1.1\r\nHost: d\r\n\r\n");
  EXPECT_EQ(receive(engine, milliseconds{300}), "<open>");
  engine.reset();
  EXPECT_NE(receive(client).find("404"), std::string::npos);
}

TEST_F(BrokerServer, ACommittedContainerGetsItsNameHereAndNotInTheEngine) {
  tests::FakeImageService inside{dir / "inside"};
  const auto made = inside.summary(inside.keep(inside.make_image("committed"), {}));
  std::string archive;
  const auto saved = inside.save({made.image_id.str()}, ImageService::Taker::job,
                                 [&](std::string_view bytes) -> Status {
                                   archive += bytes;
                                   return {};
                                 });
  ASSERT_TRUE(saved) << saved.error().text();
  FakeContainerService service;
  containers = &service;
  start();
  const auto engine_is_asked = [&] {
    EXPECT_TRUE(eventually([&] { return service.theirs >= 0; }));
    return UniqueFd{service.theirs.exchange(-1)};
  };
  const auto client = connect();

  send(client, "POST /v1.41/commit?container=c1&repo=reg.example/app&tag=2&changes=USER+me "
               "HTTP/1.1\r\nHost: d\r\nConnection: close\r\nContent-Length: 0\r\n\r\n");
  auto engine = engine_is_asked();
  EXPECT_TRUE(receive(engine, milliseconds{300})
                  .starts_with("POST /v1.41/commit?container=c1&changes=USER%20me HTTP/1.1\r\n"));
  send(engine, "HTTP/1.1 201 Created\r\n\r\n{\"Id\":\"" + made.image_id.str() + "\"}\n");
  engine.reset();
  engine = engine_is_asked();
  EXPECT_TRUE(receive(engine, milliseconds{300})
                  .starts_with("GET /v1.41/images/" + made.image_id.str() + "/get HTTP/1.0\r\n"));
  send(engine, "HTTP/1.0 200 OK\r\n\r\n" + archive);
  engine.reset();

  const auto said = receive(client);
  EXPECT_NE(said.find("201"), std::string::npos) << said;
  const auto found = images->find("reg.example/app:2");
  ASSERT_TRUE(found) << found.error().text();
  EXPECT_EQ(found->image_id, made.image_id);
}

TEST_F(BrokerServer, PrunesWithoutAnEngineWhatIsNotThereAndAsksAStartedOne) {
  FakeContainerService service;
  service.allowed = false;
  service.started = false;
  containers = &service;
  start();

  for (const auto* kind : {"containers", "networks", "volumes"}) {
    const auto said = ask(post("/v1.41/" + std::string{kind} + "/prune", ""));
    EXPECT_TRUE(said.starts_with("HTTP/1.1 200")) << said;
    EXPECT_NE(said.find("Deleted\":null"), std::string::npos) << said;
  }

  service.started = true;
  const auto said = ask(post("/v1.41/volumes/prune", ""));
  EXPECT_NE(said.find("this job may not run containers"), std::string::npos) << said;
}

TEST_F(BrokerServer, APruneByAgeLeavesTheJobsImagesThere) {
  images->keep(images->make_image("app"), {});
  start();
  const auto prune = [&](const std::string& filters) {
    return ask(
        post("/v1.41/images/prune?filters={\"dangling\":{\"false\":true}" + filters + "}", ""));
  };

  for (const auto* filters : {",\"until\":{\"24h\":true}", ",\"label!\":{\"keep\":true}"})
    EXPECT_NE(prune(filters).find("\"ImagesDeleted\":null"), std::string::npos) << filters;
  EXPECT_TRUE(prune(",\"age\":{\"24h\":true}").starts_with("HTTP/1.1 400"));
  EXPECT_TRUE(ask("GET /images/json?filters={\"until\":{\"24h\":true}} HTTP/1.1\r\nHost: d\r\n"
                  "Connection: close\r\n\r\n")
                  .starts_with("HTTP/1.1 400"));
  EXPECT_EQ(prune("").find("\"ImagesDeleted\":null"), std::string::npos) << "the control";
}

TEST_F(BrokerServer, BeforeItsEngineStartsListsAreEmptyAndNamesAreNotThere) {
  FakeContainerService service;
  service.started = false;
  containers = &service;
  start();
  const auto said = [&](const std::string& method, const std::string& path) {
    return ask(method + " /v1.41" + path + " HTTP/1.1\r\nHost: d\r\nConnection: close\r\n\r\n");
  };

  for (const auto* list : {"/containers/json", "/networks?filters=%7B%7D"})
    EXPECT_TRUE(said("GET", list).ends_with("\r\n\r\n[]\n")) << list << said("GET", list);
  EXPECT_TRUE(said("GET", "/volumes").ends_with("{\"Volumes\":[],\"Warnings\":null}\n"));
  for (const auto& [method, path, words] :
       {std::tuple{"DELETE", "/containers/old?force=1", "No such container: old"},
        {"GET", "/containers/old/json", "No such container: old"},
        {"HEAD", "/containers/old/archive?path=/x", "404"},
        {"GET", "/exec/1/json", "No such exec instance: 1"},
        {"GET", "/networks/app_default", "network app_default not found"},
        {"DELETE", "/networks/app_default", "network app_default not found"},
        {"GET", "/volumes/v", "get v: no such volume"},
        {"DELETE", "/volumes/v", "get v: no such volume"}}) {
    const auto answer = said(method, path);
    EXPECT_TRUE(answer.starts_with("HTTP/1.1 404")) << method << path << answer;
    EXPECT_NE(answer.find(words), std::string::npos) << method << path << answer;
  }
  EXPECT_TRUE(said("DELETE", "/volumes/v?force=1").starts_with("HTTP/1.1 204"));
  EXPECT_EQ(service.theirs, -1) << "an engine was asked";

  service.allowed = false;
  EXPECT_NE(said("DELETE", "/containers/old").find("slipway does not run containers in this job"),
            std::string::npos);
}

TEST_F(BrokerServer, EventsAreSilentUntilTheEngineStartsAndThenItsOwn) {
  FakeContainerService service;
  service.started = false;
  containers = &service;
  start();
  const auto client = connect();
  send(client, "GET /v1.41/events?filters=%7B%7D HTTP/1.1\r\nHost: d\r\n\r\n");
  const auto before = receive(client, milliseconds{700});
  EXPECT_TRUE(before.starts_with("HTTP/1.1 200 OK\r\n")) << before;
  EXPECT_TRUE(before.ends_with("\r\n\r\n<open>")) << before;
  EXPECT_EQ(service.theirs, -1) << "an engine was started";

  service.started = true;
  const auto engine = next_engine(service);
  const auto asked = receive(engine, milliseconds{300});
  EXPECT_TRUE(asked.starts_with("GET /v1.41/events?filters=%7B%7D&since=")) << asked;
  send(engine, "HTTP/1.0 200 OK\r\n\r\n{\"Type\":");
  send(engine, "\"container\"}\n");
  ::shutdown(engine.get(), SHUT_RDWR);

  const auto said = receive(client);
  EXPECT_NE(said.find("{\"Type\":"), std::string::npos) << said;
  EXPECT_TRUE(said.ends_with("\r\n0\r\n\r\n")) << said;
}

TEST_F(BrokerServer, EventsBeforeAnEngineEndAtTheirTimeOrWithTheirClient) {
  FakeContainerService service;
  service.started = false;
  containers = &service;
  start();
  const auto events = [&](const std::string& query) {
    return ask("GET /v1.41/events?" + query + " HTTP/1.1\r\nHost: d\r\nConnection: close\r\n\r\n");
  };

  EXPECT_TRUE(events("until=1").ends_with("\r\n\r\n0\r\n\r\n"));
  const auto soon = std::chrono::system_clock::now() + milliseconds{400};
  const auto nanos = std::chrono::nanoseconds{soon.time_since_epoch()}.count();
  EXPECT_TRUE(events("since=1&until=" + std::to_string(nanos / 1'000'000'000) + "." +
                     std::to_string(1'000'000'000 + nanos % 1'000'000'000).substr(1))
                  .ends_with("\r\n\r\n0\r\n\r\n"));
  EXPECT_GE(std::chrono::system_clock::now(), soon);
  for (const auto* query : {"until=tomorrow", "until=1.x", "until=1.1234567890", "since=-",
                            "until=99999999999999999999", "since=5&until=4"})
    EXPECT_TRUE(events(query).starts_with("HTTP/1.1 400")) << query;
  EXPECT_EQ(service.theirs, -1) << "an engine was asked";

  service.allowed = false;
  EXPECT_TRUE(events("until=1").starts_with("HTTP/1.1 501")) << events("until=1");
  service.allowed = true;
  limits.connections = 1;
  server.reset();
  start();
  send(connect(), "GET /events HTTP/1.1\r\nHost: d\r\n\r\n"); // and gone
  EXPECT_TRUE(eventually([&] { return events("until=1").starts_with("HTTP/1.1 200"); }));
}

TEST_F(BrokerServer, StreamsWithoutAnEndLeaveConnectionsToOthers) {
  FakeContainerService service;
  service.started = false;
  containers = &service;
  limits.watches = 2;
  start();
  std::vector<UniqueFd> open;
  for (int i = 0; i < 2; ++i) {
    open.push_back(connect());
    send(open.back(), "GET /v1.41/events HTTP/1.1\r\nHost: d\r\n\r\n");
    EXPECT_TRUE(receive(open.back(), milliseconds{200}).starts_with("HTTP/1.1 200 OK"));
  }
  const auto said = [&](const std::string& path) {
    return ask("GET /v1.41" + path + " HTTP/1.1\r\nHost: d\r\nConnection: close\r\n\r\n");
  };

  const auto refused = said("/events");
  EXPECT_TRUE(refused.starts_with("HTTP/1.1 503")) << refused;
  EXPECT_NE(refused.find("2 streams of events and statistics"), std::string::npos) << refused;
  EXPECT_TRUE(said("/containers/json").starts_with("HTTP/1.1 200"));
  service.started = true;
  for (std::size_t i = 0; i < open.size(); ++i)
    (void)next_engine(service); // which ends at once
  open.clear();
  EXPECT_TRUE(eventually([&] {
    const auto again = connect();
    send(again, "GET /v1.41/containers/web/stats HTTP/1.1\r\nHost: d\r\n\r\n");
    const auto engine = next_engine(service);
    return engine && receive(engine, milliseconds{100}).starts_with("GET /v1.41/containers/web/");
  }));
}

TEST_F(BrokerServer, OneSampleOfStatisticsIsNoStreamAndTheOthersAre) {
  FakeContainerService service;
  containers = &service;
  limits.watches = 0;
  limits.connections = 16; // those that have their answer may not have ended yet
  start();
  const auto said = [&](const std::string& path) {
    return ask("GET /v1.41" + path + " HTTP/1.1\r\nHost: d\r\nConnection: close\r\n\r\n");
  };

  for (const auto* path : {"/containers/web/stats", "/containers/web/stats?stream=1",
                           "/containers/web/stats?stream=true&one-shot=1", "/events?until=1"})
    EXPECT_TRUE(said(path).starts_with("HTTP/1.1 503")) << path;
  EXPECT_EQ(service.theirs, -1) << "the engine was asked";
  for (const auto* query : {"stream=0", "stream=false", "stream=False&one-shot=1"}) {
    const auto client = connect();
    send(client,
         std::string{"GET /containers/web/stats?"} + query + " HTTP/1.1\r\nHost: d\r\n\r\n");
    const auto engine = next_engine(service);
    ASSERT_TRUE(engine) << query;
    EXPECT_NE(receive(engine, milliseconds{100}).find(query), std::string::npos);
  }
}

struct StopBySignal {
  const char* name;
  const char* path;
  std::vector<std::pair<std::string, std::string>> calls; ///< what the engine is asked, its answer
  const char* status;
};
class BrokerStopsBySignal : public BrokerServer,
                            public testing::WithParamInterface<StopBySignal> {};
constexpr const char* kRuns = "200 OK\r\n\r\n{\"State\":{\"Running\":true}}";

TEST_P(BrokerStopsBySignal, ByCallsThatTheEngineKnows) {
  FakeContainerService service;
  containers = &service;
  start();
  const auto client = connect();
  send(client, post(GetParam().path, ""));

  for (const auto& [call, said] : GetParam().calls) {
    const auto engine = next_engine(service);
    ASSERT_TRUE(engine) << call;
    const auto asked = receive(engine, milliseconds{200});
    EXPECT_TRUE(asked.starts_with(call + " HTTP/1.0\r\n")) << asked;
    if (!said.empty()) {
      send(engine, "HTTP/1.0 " + said);
    } else { // no answer: the broker gives up waiting, and nothing else
      EXPECT_EQ(receive(engine).find("<open>"), std::string::npos);
    }
  }

  const auto answer = receive(client);
  EXPECT_TRUE(answer.starts_with("HTTP/1.1 " + std::string{GetParam().status})) << answer;
}

INSTANTIATE_TEST_SUITE_P(
    Cases, BrokerStopsBySignal,
    testing::Values(
        StopBySignal{"Stop",
                     "/v1.47/containers/web/stop?signal=USR1&t=60",
                     {{"GET /v1.41/containers/web/json", kRuns},
                      {"POST /v1.41/containers/web/kill?signal=USR1", "204 No Content\r\n\r\n"},
                      {"POST /v1.41/containers/web/wait?condition=not-running",
                       "200 OK\r\n\r\n{\"StatusCode\":3}"},
                      {"POST /v1.41/containers/web/stop?t=0", "304 Not Modified\r\n\r\n"}},
                     "204"},
        StopBySignal{"ByForceWhatDoesNotListen",
                     "/containers/web/stop?signal=USR1&t=1",
                     {{"GET /v1.41/containers/web/json", kRuns},
                      {"POST /v1.41/containers/web/kill?signal=USR1", "204 No Content\r\n\r\n"},
                      {"POST /v1.41/containers/web/wait?condition=not-running", ""},
                      {"POST /v1.41/containers/web/stop?t=0", "204 No Content\r\n\r\n"}},
                     "204"},
        StopBySignal{"Restart",
                     "/containers/web/restart?signal=9",
                     {{"GET /v1.41/containers/web/json", kRuns},
                      {"POST /v1.41/containers/web/kill?signal=9", "204 No Content\r\n\r\n"},
                      {"POST /v1.41/containers/web/wait?condition=not-running",
                       "200 OK\r\n\r\n{\"StatusCode\":137}"},
                      {"POST /v1.41/containers/web/restart?t=0", "204 No Content\r\n\r\n"}},
                     "204"},
        StopBySignal{
            "OneThatHasEnded",
            "/containers/web/stop?signal=TERM",
            {{"GET /v1.41/containers/web/json", "200 OK\r\n\r\n{\"State\":{\"Running\":false}}"},
             {"POST /v1.41/containers/web/stop?t=0", "304 Not Modified\r\n\r\n"}},
            "304"},
        StopBySignal{"OneThatIsNotThere",
                     "/containers/web/stop?signal=TERM",
                     {{"GET /v1.41/containers/web/json",
                       "404 Not Found\r\n\r\n{\"message\":\"No such container: web\"}"}},
                     "404"},
        StopBySignal{"NoSignal",
                     "/containers/web/stop?signal=NO%2FSUCH",
                     {{"GET /v1.41/containers/web/json", kRuns},
                      {"POST /v1.41/containers/web/kill?signal=NO%2FSUCH",
                       "400 Bad Request\r\n\r\n{\"message\":\"Invalid signal: NO/SUCH\"}"}},
                     "400"},
        StopBySignal{"NoTime",
                     "/containers/web/stop?signal=TERM&t=soon",
                     {{"GET /v1.41/containers/web/json", kRuns}},
                     "400"},
        StopBySignal{"WithoutAnEngineThatSpeaks",
                     "/containers/web/stop?signal=TERM",
                     {{"GET /v1.41/containers/web/json", "200 OK\r\n\r\nnonsense"}},
                     "503"}),
    [](const auto& one) { return std::string{one.param.name}; });

TEST_F(BrokerServer, StopWaitsForNoEngineThatSaysNothing) {
  const auto image = images->summary(images->keep(images->make_image("app"), {}));
  FakeContainerService service;
  containers = &service;
  limits.header_deadline = milliseconds{3000};
  const std::string body = "{\"Image\":\"" + image.image_id.str() + "\"}";
  for (const auto& call :
       {post("/v1.41/commit?container=c1", ""), post("/v1.41/containers/create", body),
        post("/v1.41/containers/web/attach", "")}) {
    service.theirs = -1;
    start();
    const auto client = connect();
    send(client, call);
    ASSERT_TRUE(eventually([&] { return service.theirs >= 0; })) << call;
    const UniqueFd engine{service.theirs.load()};
    receive(engine, milliseconds{300}); // and no answer

    const auto before = steady_clock::now();
    server.reset();

    EXPECT_LT(steady_clock::now() - before, std::chrono::seconds{5}) << call;
  }
}

TEST_F(BrokerServer, AnImageForAnotherPlatformThanAContainerIsToHaveIsNotThere) {
  const auto image = images->summary(images->keep(images->make_image("app"), {}));
  FakeContainerService service;
  containers = &service;
  start();
  const auto create = [&](const std::string& platform) {
    auto client = connect();
    send(client, post("/v1.41/containers/create?platform=" + platform,
                      "{\"Image\":\"" + image.image_id.str() + "\"}"));
    return client;
  };

  const auto foreign = create("linux/s390x");
  const auto answer = receive(foreign);
  EXPECT_TRUE(answer.starts_with("HTTP/1.1 404")) << answer;
  EXPECT_NE(answer.find("No such image: " + image.image_id.str() +
                        " (the one that is here is for linux/amd64, not for linux/s390x)"),
            std::string::npos)
      << answer;
  EXPECT_EQ(service.theirs, -1) << "an engine was asked";
  const auto own = create("amd64"); // the control
  EXPECT_TRUE(eventually([&] { return service.theirs >= 0; }));
  const UniqueFd engine{service.theirs.exchange(-1)};
}

TEST_F(BrokerServer, AContainerOfSeveralNetworksJoinsThemOrIsNotThere) {
  const auto image = images->summary(images->keep(images->make_image("app"), {}));
  const auto id = image.image_id.str();
  FakeContainerService service;
  containers = &service;
  start();
  const auto create = [&](const std::vector<std::pair<std::string, std::string>>& calls) {
    const auto client = connect();
    send(client,
         post("/v1.41/containers/create?name=web",
              "{\"Image\":\"" + id +
                  "\",\"HostConfig\":{\"NetworkMode\":\"front\"},\"NetworkingConfig\":"
                  "{\"EndpointsConfig\":{\"front\":{},\"ba ck\":{\"Aliases\":[\"db\"]}}}}"));
    for (const auto& [call, said] : calls) {
      const auto engine = next_engine(service);
      EXPECT_TRUE(engine) << call;
      const auto asked = receive(engine, milliseconds{200});
      EXPECT_NE((asked.substr(0, asked.find(" HTTP/")) + asked.substr(asked.find("\r\n\r\n") + 4))
                    .find(call),
                std::string::npos)
          << asked;
      send(engine, "HTTP/1.1 " + said);
    }
    return receive(client);
  };
  const std::pair<std::string, std::string> there{"GET /v1.41/images/" + id + "/json",
                                                  "200 OK\r\n\r\n{}"};
  const std::pair<std::string, std::string> made{"POST /v1.41/containers/create?name=web",
                                                 "201 Created\r\n\r\n{\"Id\":\"c0ffee\"}"};
  const std::string join = "POST /v1.41/networks/ba%20ck/connect{\"Container\":\"c0ffee\","
                           "\"EndpointConfig\":{\"Aliases\":[\"db\"]}}";

  const auto joined = create({there, made, {join, "200 OK\r\n\r\n"}});
  EXPECT_TRUE(joined.starts_with("HTTP/1.1 201")) << joined;
  EXPECT_NE(joined.find("c0ffee"), std::string::npos) << joined;
  const auto refused =
      create({there,
              made,
              {join, "404 Not Found\r\n\r\n{\"message\":\"network back not found\"}"},
              {"DELETE /v1.41/containers/c0ffee?force=1&v=1", "204 No Content\r\n\r\n"}});
  EXPECT_TRUE(refused.starts_with("HTTP/1.1 404")) << refused;
  EXPECT_NE(refused.find("network back not found"), std::string::npos) << refused;
  const auto nonsense =
      create({there, {made.first, "201 Created\r\n\r\n{\"Id\":\"../networks\"}"}});
  EXPECT_TRUE(nonsense.starts_with("HTTP/1.1 503")) << nonsense;
}

TEST_F(BrokerServer, ABuilderInAContainerIsToldOfTheOneThatThereIs) {
  FakeContainerService service;
  containers = &service;
  start();
  const auto create = [&](const std::string& name) {
    return ask(post("/containers/create?name=" + name, "{\"Image\":\"none\"}"));
  };

  service.allowed = false;
  const auto builder = create("buildx_buildkit_b10");
  EXPECT_TRUE(builder.starts_with("HTTP/1.1 403")) << builder;
  EXPECT_NE(builder.find("docker buildx use default"), std::string::npos) << builder;
  EXPECT_EQ(create("web").find("buildx"), std::string::npos);
  service.allowed = true; // the control
  EXPECT_TRUE(create("buildx_buildkit_b10").starts_with("HTTP/1.1 404"));
}

TEST_F(BrokerServer, AContainerWhoseClientHasGoneWaitsNoLongerForItsEngine) {
  const auto image = images->summary(images->keep(images->make_image("app"), {}));
  FakeContainerService service;
  containers = &service;
  start();
  const auto create =
      post("/v1.41/containers/create", "{\"Image\":\"" + image.image_id.str() + "\"}");
  auto client = connect();
  send(client, create);
  ASSERT_TRUE(eventually([&] { return service.theirs >= 0; }));
  const UniqueFd engine{service.theirs.exchange(-1)};

  client.reset();

  // The next one's turn comes without a word of the engine.
  client = connect();
  send(client, create);
  EXPECT_TRUE(eventually([&] { return service.theirs >= 0; }));
  const UniqueFd next{service.theirs.exchange(-1)};
}

/// What the shim sends for an agent of this name.
std::string lend_agent(const std::string& name) {
  return "POST /slipway/v1/ssh-agents/" + name +
         " HTTP/1.1\r\nHost: d\r\nConnection: Upgrade\r\nUpgrade: tcp\r\n\r\n";
}

class LendsAgents : public BrokerServer {
protected:
  void SetUp() override {
    BrokerServer::SetUp();
    start();
  }
  /// The agent's end of a connection that was taken.
  UniqueFd lent(const std::string& name) {
    auto fd = connect();
    send(fd, lend_agent(name));
    std::string head;
    for (char c = 0; !head.ends_with("\r\n\r\n"); head += c)
      if (::recv(fd.get(), &c, 1, 0) != 1) break;
    EXPECT_TRUE(head.starts_with("HTTP/1.1 101 ")) << head;
    return fd;
  }
  std::string build_with(const std::string& name) {
    return ask(post("/slipway/v1/build",
                    R"({"context_path":"/b","ssh_agents":[["default",")" + name + R"("]]})"));
  }
  engine_api::SshAgent built_with(const std::string& name) {
    const auto answer = build_with(name);
    EXPECT_TRUE(answer.starts_with("HTTP/1.1 200 ")) << answer;
    const std::lock_guard lock{images->mutex};
    EXPECT_EQ(images->builds.back().ssh_agents.front().first, "default");
    return images->builds.back().ssh_agents.front().second;
  }
};

TEST_F(LendsAgents, ToABuildAsLongAsTheConnectionLasts) {
  auto connection = lent("a1");
  const auto agent = built_with("a1");

  auto asking = std::async(std::launch::async, [&] { return agent("\x0b"); });
  std::string question(5, '\0');
  EXPECT_EQ(::recv(connection.get(), question.data(), question.size(), MSG_WAITALL), 5);
  EXPECT_EQ(question, engine_api::agent_frame("\x0b"));
  send(connection, engine_api::agent_frame("\x0c keys").substr(0, 6));
  send(connection, engine_api::agent_frame("\x0c keys").substr(6));
  const auto answer = asking.get();
  ASSERT_TRUE(answer.ok()) << answer.error().text();
  EXPECT_EQ(*answer, "\x0c keys");

  connection.reset();
  EXPECT_FALSE(agent("\x0b").ok());
  EXPECT_TRUE(eventually([&] { return build_with("a1").starts_with("HTTP/1.1 404 "); }));
}

TEST_F(LendsAgents, UntilOneAnswersNonsense) {
  const auto connection = lent("a1");
  const auto agent = built_with("a1");
  send(connection, std::string{"\xff\xff\xff\xff", 4});

  const auto answer = agent("\x0b");
  ASSERT_FALSE(answer.ok());
  EXPECT_EQ(answer.error().kind, ErrorKind::bad_input) << answer.error().text();
  // What it says later would be taken for the answer to the next question.
  send(connection, engine_api::agent_frame("\x0c late"));
  EXPECT_FALSE(agent("\x0b").ok());
}

TEST_F(LendsAgents, OnlyUnderNamesOfItsOwn) {
  const auto connection = lent("a1");
  for (const auto& [request, status] : std::vector<std::pair<std::string, std::string>>{
           {lend_agent("a1"), "400"},
           {lend_agent("A"), "400"},
           {lend_agent(std::string(65, 'a')), "400"},
           {lend_agent("..%2fx"), "400"},
           {post("/slipway/v1/ssh-agents/a2", ""), "400"}})
    EXPECT_TRUE(ask(request).starts_with("HTTP/1.1 " + status)) << request;
  EXPECT_TRUE(build_with("a2").starts_with("HTTP/1.1 404 "));
}

TEST_F(LendsAgents, AndStopsWaitingForThemWhenTheJobEnds) {
  const auto connection = lent("a1");
  const auto agent = built_with("a1");
  auto asking = std::async(std::launch::async, [&] { return agent("\x0b"); });
  std::string question(5, '\0');
  EXPECT_EQ(::recv(connection.get(), question.data(), question.size(), MSG_WAITALL), 5);

  server.reset();

  EXPECT_FALSE(asking.get().ok());
}

std::string plain_get(const std::string& path) {
  return "GET " + path + " HTTP/1.1\r\nHost: d\r\nConnection: close\r\n\r\n";
}

TEST_F(BrokerServer, TellsWhatARemoteReferenceIs) {
  start();
  const auto answer = ask(plain_get("/v1.41/distribution/reg.io:5000/grp/app:1/json"));

  EXPECT_TRUE(answer.starts_with("HTTP/1.1 200 ")) << answer;
  EXPECT_NE(answer.find(R"("digest":")" + oci::Digest::of("reg.io:5000/grp/app:1").str()),
            std::string::npos)
      << answer;
  EXPECT_NE(answer.find(R"("Platforms":[{"architecture":)"), std::string::npos) << answer;
  EXPECT_TRUE(ask(plain_get("/distribution/A%20B/json")).starts_with("HTTP/1.1 400 "));
  EXPECT_TRUE(ask(plain_get("/distribution/reg.io/absent:1/json")).starts_with("HTTP/1.1 404 "));
}

} // namespace
} // namespace slipway::broker
