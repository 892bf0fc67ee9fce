// SPDX-License-Identifier: Apache-2.0
// `/v2/` inside a job: what clients of registries do, and what attackers would like to do.
#include "executor/broker/registry_endpoint.hpp"
#include "executor/broker/server.hpp"
#include "tests/fakes/sample_image.hpp"

#include <gtest/gtest.h>

#include <poll.h>
#include <sys/socket.h>
#include <sys/un.h>

#include <atomic>
#include <cstring>
#include <functional>
#include <map>
#include <mutex>
#include <thread>

namespace slipway::broker {
namespace {

using std::chrono::milliseconds;

/// A registry that takes what the verdict lets through.
class FakeQuarantineService final : public QuarantineService {
public:
  std::optional<std::string> registry_at(const std::string& host) const override {
    if (host == "reg.example:5000" || host == "second.example") return host;
    return std::nullopt;
  }
  Status may_push(const oci::Reference& repository) override {
    if (repository.repository().starts_with("grp/")) return {};
    return Error{ErrorKind::denied, "policy does not let this project push there", "", {}};
  }
  Status push_quarantined(const oci::Reference& reference, const oci::Digest& manifest,
                          const Cancelled& cancelled) override {
    ++at_once;
    if (judging) judging(cancelled);
    const auto tree = oci::read_tree(quarantine->layout(), manifest);
    const bool is_bad = denied && manifest == *denied;
    {
      const std::lock_guard guard{mutex};
      most_at_once = std::max(most_at_once, at_once.load());
      if (tree && !is_bad) {
        pushed.push_back(reference.str() + " " + manifest.str());
        if (reference.tag()) tags.insert_or_assign(reference.str(), manifest);
      }
    }
    --at_once;
    if (!tree) return tree.error();
    if (is_bad) return Error{ErrorKind::gate_rejected, "CVE-2024-1 blocks", "", {}};
    return {};
  }

  Result<oci::Digest> current(const oci::Reference& tag, const Cancelled&) override {
    const std::lock_guard guard{mutex};
    const auto found = tags.find(tag.str());
    if (found == tags.end()) return Error{ErrorKind::not_found, "no such tag", "", {}};
    return found->second;
  }

  state::Quarantine* quarantine = nullptr;
  std::optional<oci::Digest> denied;
  std::function<void(const Cancelled&)> judging;
  std::mutex mutex;
  std::vector<std::string> pushed;         ///< "reference digest"
  std::map<std::string, oci::Digest> tags; ///< by reference
  std::atomic<int> at_once = 0;
  int most_at_once = 0;
};

class RegistryEndpointTest : public testing::Test {
protected:
  void SetUp() override { start({}); }
  void start(const state::QuarantineLimits& limits) {
    server_.reset();
    endpoint_.reset();
    quarantine_ = *state::Quarantine::open(dir_.path() / "q", limits);
    service_.quarantine = quarantine_.get();
    endpoint_ = std::make_unique<RegistryEndpoint>(*quarantine_, service_);
    auto started = Server::start(dir_.path() / "s", *endpoint_, limits_);
    ASSERT_TRUE(started) << started.error().text();
    server_ = *std::move(started);
  }
  UniqueFd connect() const {
    UniqueFd fd{::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0)};
    sockaddr_un address{};
    address.sun_family = AF_UNIX;
    std::strncpy(address.sun_path, (dir_.path() / "s").c_str(), sizeof address.sun_path - 1);
    EXPECT_EQ(::connect(fd.get(), reinterpret_cast<sockaddr*>(&address), sizeof address), 0);
    return fd;
  }
  static std::string receive(const UniqueFd& fd) {
    std::string text;
    char part[4096];
    for (;;) {
      pollfd polled{fd.get(), POLLIN, 0};
      if (::poll(&polled, 1, 10000) <= 0) return text + "<open>";
      const ssize_t got = ::recv(fd.get(), part, sizeof part, 0);
      if (got <= 0) return text;
      text.append(part, static_cast<std::size_t>(got));
    }
  }
  std::string send(const std::string& text) {
    const auto fd = connect();
    (void)!::send(fd.get(), text.data(), text.size(), MSG_NOSIGNAL);
    return receive(fd);
  }
  std::string ask(const std::string& method, const std::string& path, const std::string& body = "",
                  const std::string& headers = "", const std::string& host = "reg.example:5000") {
    return send(method + " " + path + " HTTP/1.1\r\nHost: " + host + "\r\nConnection: close\r\n" +
                headers + "Content-Length: " + std::to_string(body.size()) + "\r\n\r\n" + body);
  }
  static int status(const std::string& answer) { return std::stoi(answer.substr(9, 3)); }
  static std::string header(const std::string& answer, const std::string& name) {
    const auto at = answer.find("\r\n" + name + ": ");
    if (at == std::string::npos) return "";
    const auto begin = at + name.size() + 4;
    return answer.substr(begin, answer.find("\r\n", begin) - begin);
  }
  std::string begin(const std::string& repository = "grp/app") {
    return header(ask("POST", "/v2/" + repository + "/blobs/uploads/"), "Location");
  }
  void upload(const std::string& bytes, const std::string& repository = "grp/app") {
    const auto answer =
        ask("PUT", begin(repository) + "?digest=" + oci::Digest::of(bytes).str(), bytes);
    EXPECT_EQ(status(answer), 201) << answer;
  }
  /// The manifest of an image of one layer; its blobs are uploaded where `with_blobs`.
  std::string image(const std::string& layer, bool with_blobs = true) {
    const std::string config =
        R"({"architecture":"amd64","os":"linux","config":{},"rootfs":{"type":"layers","diff_ids":[")" +
        oci::Digest::of(layer).str() + "\"]}}";
    if (with_blobs) {
      upload(layer);
      upload(config);
    }
    return std::string{R"({"schemaVersion":2,"mediaType":")"} + oci::kMediaTypeOciManifest +
           "\",\"config\":" +
           fakes::descriptor_json("application/vnd.oci.image.config.v1+json",
                                  oci::Digest::of(config).str(), config.size()) +
           ",\"layers\":[" +
           fakes::descriptor_json("application/vnd.oci.image.layer.v1.tar",
                                  oci::Digest::of(layer).str(), layer.size()) +
           "]}";
  }
  static std::string index(const std::string& child) {
    return std::string{R"({"schemaVersion":2,"mediaType":")"} + oci::kMediaTypeOciIndex +
           "\",\"manifests\":[" +
           fakes::descriptor_json(oci::kMediaTypeOciManifest, oci::Digest::of(child).str(),
                                  child.size()) +
           "]}";
  }
  std::string put(const std::string& manifest, const std::string& target = "1",
                  const std::string& repository = "grp/app",
                  const std::string& type = oci::kMediaTypeOciManifest) {
    return ask("PUT", "/v2/" + repository + "/manifests/" + target, manifest,
               "Content-Type: " + type + "\r\n");
  }
  static void expect_refused(const std::string& answer, int status_wanted, const char* code,
                             const char* words = "") {
    EXPECT_EQ(status(answer), status_wanted) << answer;
    EXPECT_NE(answer.find("{\"errors\":[{\"code\":\"" + std::string{code} + "\""),
              std::string::npos)
        << answer;
    EXPECT_NE(answer.find(words), std::string::npos) << answer;
  }

  fakes::TempDir dir_;
  ServerLimits limits_;
  FakeQuarantineService service_;
  std::unique_ptr<state::Quarantine> quarantine_;
  std::unique_ptr<RegistryEndpoint> endpoint_;
  std::unique_ptr<Server> server_;
};

TEST_F(RegistryEndpointTest, AsksForNoLoginAndTakesAny) {
  for (const char* login :
       {"", "Authorization: Basic dXNlcjpwYXNzd29yZA==\r\n", "Authorization: Bearer abc\r\n"}) {
    const auto answer = ask("GET", "/v2/", "", login);
    EXPECT_EQ(status(answer), 200) << answer;
    EXPECT_EQ(header(answer, "Docker-Distribution-Api-Version"), "registry/2.0");
    EXPECT_EQ(header(answer, "WWW-Authenticate"), "");
  }
}

TEST_F(RegistryEndpointTest, PushesWhatTheGateLetsPassAndAnswersForIt) {
  const auto manifest = image("layer");
  const auto digest = oci::Digest::of(manifest).str();

  const auto answer = put(manifest);

  EXPECT_EQ(status(answer), 201) << answer;
  EXPECT_EQ(header(answer, "Docker-Content-Digest"), digest);
  EXPECT_EQ(service_.pushed, std::vector<std::string>{"reg.example:5000/grp/app:1 " + digest});
  for (const auto& name : {std::string{"1"}, digest}) {
    const auto got = ask("GET", "/v2/grp/app/manifests/" + name);
    EXPECT_TRUE(got.ends_with("\r\n\r\n" + manifest)) << got;
    EXPECT_EQ(header(got, "Content-Type"), oci::kMediaTypeOciManifest);
    const auto head = ask("HEAD", "/v2/grp/app/manifests/" + name);
    EXPECT_EQ(header(head, "Content-Length"), std::to_string(manifest.size()));
    EXPECT_TRUE(head.ends_with("\r\n\r\n"));
  }
  EXPECT_TRUE(
      ask("GET", "/v2/grp/app/tags/list").ends_with("{\"name\":\"grp/app\",\"tags\":[\"1\"]}\n"));
  const auto blob = "/v2/grp/app/blobs/" + oci::Digest::of("layer").str();
  EXPECT_TRUE(ask("GET", blob).ends_with("\r\n\r\nlayer"));
  EXPECT_EQ(header(ask("HEAD", blob), "Content-Length"), "5");
}

TEST_F(RegistryEndpointTest, TakesBlobsInPartsInOneAndByMount) {
  const auto place = begin();
  auto answer = ask("PATCH", place, "first ", "Content-Range: 0-5\r\n");
  EXPECT_EQ(status(answer), 202);
  EXPECT_EQ(header(answer, "Range"), "0-5");
  EXPECT_EQ(status(ask("PATCH", place, "second", "Content-Range: 6-11\r\n")), 202);
  EXPECT_EQ(header(ask("GET", place), "Range"), "0-11");
  const auto digest = oci::Digest::of("first second").str();
  EXPECT_EQ(status(ask("PUT", place + "?digest=" + digest)), 201);

  EXPECT_EQ(status(ask("POST", "/v2/grp/app/blobs/uploads/?digest=" + oci::Digest::of("one").str(),
                       "one")),
            201);
  EXPECT_EQ(status(ask("HEAD", "/v2/grp/app/blobs/" + oci::Digest::of("one").str())), 200);
  // What this job sent may be mounted; what it did not has to be uploaded.
  EXPECT_EQ(status(ask("POST", "/v2/grp/two/blobs/uploads/?from=grp/app&mount=" + digest)), 201);
  answer =
      ask("POST", "/v2/grp/two/blobs/uploads/?from=base/x&mount=" + oci::Digest::of("other").str());
  EXPECT_EQ(status(answer), 202);
  EXPECT_FALSE(header(answer, "Location").empty());
  EXPECT_EQ(status(ask("DELETE", header(answer, "Location"))), 204);
}

TEST_F(RegistryEndpointTest, TakesABodyInChunks) {
  const auto answer = send("PUT " + begin() + "?digest=" + oci::Digest::of("chunked").str() +
                           " HTTP/1.1\r\nHost: reg.example:5000\r\nConnection: close\r\n"
                           "Transfer-Encoding: chunked\r\n\r\n3\r\nchu\r\n4\r\nnked\r\n0\r\n\r\n");
  EXPECT_EQ(status(answer), 201) << answer;
}

TEST_F(RegistryEndpointTest, SaysThatWhatWasPushedWasPushedWhereItsNameFindsNoRoom) {
  state::QuarantineLimits limits;
  limits.names = 0;
  start(limits);
  const auto manifest = image("layer");

  const auto answer = put(manifest);

  EXPECT_EQ(status(answer), 201) << answer;
  EXPECT_EQ(service_.pushed.size(), 1U);
  EXPECT_EQ(status(ask("GET", "/v2/grp/app/manifests/1")), 404);
}

TEST_F(RegistryEndpointTest, TakesUploadsThoughSixtyFourClientsWentAway) {
  for (int i = 0; i < 64; ++i)
    EXPECT_FALSE(begin().empty());

  upload("layer");
}

TEST_F(RegistryEndpointTest, SaysWhyTheGateDeniesAndKnowsNothingOfItAfterwards) {
  const auto manifest = image("layer");
  service_.denied = oci::Digest::of(manifest);

  expect_refused(put(manifest), 403, "DENIED", "CVE-2024-1 blocks");

  EXPECT_TRUE(service_.pushed.empty());
  EXPECT_EQ(status(ask("HEAD", "/v2/grp/app/manifests/1")), 404);
  expect_refused(ask("GET", "/v2/grp/app/manifests/" + service_.denied->str()), 404,
                 "MANIFEST_UNKNOWN");
  service_.denied.reset();
  EXPECT_EQ(status(put(manifest)), 201);
}

TEST_F(RegistryEndpointTest, AnswersForNothingThatTheJobDidNotPush) {
  expect_refused(ask("GET", "/v2/grp/app/manifests/latest"), 404, "MANIFEST_UNKNOWN",
                 "pull with docker pull");
  expect_refused(ask("GET", "/v2/grp/app/blobs/" + oci::Digest::of("x").str()), 404,
                 "BLOB_UNKNOWN");
  expect_refused(ask("GET", "/v2/_catalog"), 403, "DENIED");
  expect_refused(ask("GET", "/v2/grp/app/tags/list"), 404, "NAME_UNKNOWN");
  // Not NAME_UNKNOWN: oras takes that for a repository that is not there.
  expect_refused(ask("GET", "/v2/grp/app/referrers/" + oci::Digest::of("x").str()), 404,
                 "UNSUPPORTED");
  expect_refused(ask("DELETE", "/v2/grp/app/manifests/1"), 405, "UNSUPPORTED");
}

// ---- attacks

TEST_F(RegistryEndpointTest, RefusesAManifestWhoseBlobWasNeverUploaded) {
  const auto manifest = image("layer", false);
  expect_refused(put(manifest), 400, "MANIFEST_BLOB_UNKNOWN", "was not uploaded by this job");
  EXPECT_TRUE(service_.pushed.empty());

  image("layer"); // control
  EXPECT_EQ(status(put(manifest)), 201);
}

TEST_F(RegistryEndpointTest, RefusesADescriptorWithAnotherSize) {
  auto manifest = image("layer");
  manifest.replace(manifest.rfind("\"size\":5"), 8, "\"size\":4");
  expect_refused(put(manifest), 400, "MANIFEST_BLOB_UNKNOWN", "in that size");
}

TEST_F(RegistryEndpointTest, RefusesBytesOfAnotherDigest) {
  const auto good = oci::Digest::of("good").str();
  expect_refused(ask("PUT", begin() + "?digest=" + good, "evil"), 400, "DIGEST_INVALID");
  expect_refused(ask("POST", "/v2/grp/app/blobs/uploads/?digest=" + good, "evil"), 400,
                 "DIGEST_INVALID");
  EXPECT_EQ(status(ask("HEAD", "/v2/grp/app/blobs/" + good)), 404);
  const auto manifest = image("layer");
  expect_refused(put(manifest, good), 400, "DIGEST_INVALID");

  EXPECT_EQ(status(put(manifest, oci::Digest::of(manifest).str())), 201); // control
  EXPECT_EQ(service_.pushed.front(), "reg.example:5000/grp/app@" + oci::Digest::of(manifest).str() +
                                         " " + oci::Digest::of(manifest).str());
}

TEST_F(RegistryEndpointTest, RefusesTheUploadOfAnotherRepository) {
  const auto place = begin("grp/app");
  const auto id = place.substr(place.rfind('/'));
  const auto query = "?digest=" + oci::Digest::of("x").str();
  expect_refused(ask("PUT", "/v2/grp/other/blobs/uploads" + id + query, "x"), 404,
                 "BLOB_UPLOAD_UNKNOWN");
  expect_refused(ask("PATCH", "/v2/grp/other/blobs/uploads" + id, "x"), 404, "BLOB_UPLOAD_UNKNOWN");

  EXPECT_EQ(status(ask("PUT", place + query, "x")), 201); // control
}

TEST_F(RegistryEndpointTest, RefusesPathsInNamesAndIds) {
  for (const char* repository : {"grp/../../etc", "grp/%2e%2e/x", "../grp", "grp//app", "grp/App",
                                 "grp/app:1", "grp/app@sha256:x", "%2fgrp", "grp/app%00"}) {
    const auto answer = ask("POST", std::string{"/v2/"} + repository + "/blobs/uploads/");
    EXPECT_TRUE(status(answer) == 400 || status(answer) == 404) << repository << answer;
    EXPECT_EQ(header(answer, "Location"), "") << repository;
  }
  for (const char* id : {"../x", "%2e%2e", "..", "x", "..%2f..%2fnames"}) {
    const auto answer = ask("PATCH", std::string{"/v2/grp/app/blobs/uploads/"} + id, "x");
    EXPECT_TRUE(status(answer) == 400 || status(answer) == 404) << id << answer;
  }
  for (const char* digest : {"sha256:../../names", "sha256:ABC", "../layout/index.json", ".."})
    EXPECT_EQ(status(ask("GET", std::string{"/v2/grp/app/blobs/"} + digest)), 400) << digest;
  EXPECT_FALSE(begin("grp/a-b_c/manifests").empty()); // control: words of the protocol in a name
}

TEST_F(RegistryEndpointTest, RefusesOtherRegistriesAndRepositories) {
  expect_refused(ask("GET", "/v2/", "", "", "other.example"), 404, "NAME_UNKNOWN");
  expect_refused(ask("POST", "/v2/elsewhere/app/blobs/uploads/"), 403, "DENIED",
                 "policy does not let");
  const auto manifest = image("layer");
  expect_refused(put(manifest, "1", "elsewhere/app"), 403, "DENIED", "policy does not let");
  expect_refused(put("no manifest", "1", "elsewhere/app"), 403, "DENIED", "policy does not let");
  EXPECT_TRUE(service_.pushed.empty());
}

TEST_F(RegistryEndpointTest, RefusesWhatIsTooLarge) {
  state::QuarantineLimits limits;
  limits.bytes = 1000;
  start(limits);
  expect_refused(
      ask("PUT", begin() + "?digest=" + oci::Digest::of("x").str(), std::string(1001, 'x')), 403,
      "DENIED", "more than slipway keeps");
  expect_refused(put(std::string(oci::kMaxManifestBytes + 1, ' ')), 400, "MANIFEST_INVALID",
                 "larger than");
  start({});
  upload(std::string(1001, 'x')); // control
}

TEST_F(RegistryEndpointTest, RefusesAPartThatDoesNotFollow) {
  const auto place = begin();
  ASSERT_EQ(status(ask("PATCH", place, "abc", "Content-Range: 0-2\r\n")), 202);
  for (const char* range : {"0-2", "5-7", "x", "-1"}) {
    const auto answer = ask("PATCH", place, "def", std::string{"Content-Range: "} + range + "\r\n");
    EXPECT_EQ(status(answer), 416) << answer;
    EXPECT_EQ(header(answer, "Range"), "0-2");
  }
}

TEST_F(RegistryEndpointTest, JudgesAManifestThatChangedAfterTheVerdictAnew) {
  const auto good = image("layer");
  const auto bad = image("other");
  service_.denied = oci::Digest::of(bad);
  ASSERT_EQ(status(put(good)), 201);

  expect_refused(put(bad), 403, "DENIED");

  EXPECT_EQ(service_.pushed.size(), 1U);
  EXPECT_TRUE(ask("GET", "/v2/grp/app/manifests/1").ends_with(good));
}

TEST_F(RegistryEndpointTest, KnowsOfOneRegistryNothingOfAnother) {
  const auto manifest = image("layer");
  const auto digest = oci::Digest::of(manifest).str();
  ASSERT_EQ(status(put(manifest)), 201);

  for (const auto& name : {std::string{"1"}, digest})
    expect_refused(ask("GET", "/v2/grp/app/manifests/" + name, "", "", "second.example"), 404,
                   "MANIFEST_UNKNOWN");
  expect_refused(ask("GET", "/v2/grp/app/tags/list", "", "", "second.example"), 404,
                 "NAME_UNKNOWN");
  expect_refused(ask("PATCH", begin(), "x", "", "second.example"), 404, "BLOB_UPLOAD_UNKNOWN");

  const auto answer =
      ask("PUT", "/v2/grp/app/manifests/1", manifest,
          "Content-Type: " + std::string{oci::kMediaTypeOciManifest} + "\r\n", "second.example");
  EXPECT_EQ(status(answer), 201) << answer;
  EXPECT_EQ(service_.pushed, (std::vector<std::string>{"reg.example:5000/grp/app:1 " + digest,
                                                       "second.example/grp/app:1 " + digest}));
  EXPECT_EQ(status(ask("HEAD", "/v2/grp/app/manifests/1", "", "", "second.example")), 200);
}

TEST_F(RegistryEndpointTest, AnswersForATagAsTheRegistryHasItNow) {
  const auto first = image("one");
  const auto second = image("two");
  ASSERT_EQ(status(put(first)), 201);
  ASSERT_EQ(status(put(second, "2")), 201);
  const auto tag = [](const char* name) { return std::string{"/v2/grp/app/manifests/"} + name; };
  auto& now = service_.tags.at("reg.example:5000/grp/app:1");

  now = oci::Digest::of(second); // by docker push, say
  EXPECT_EQ(header(ask("HEAD", tag("1")), "Docker-Content-Digest"), oci::Digest::of(second).str());
  now = oci::Digest::of("what somebody else pushed");
  expect_refused(ask("GET", tag("1")), 404, "MANIFEST_UNKNOWN", "another image by now");
  service_.tags.erase("reg.example:5000/grp/app:1");
  expect_refused(ask("GET", tag("1")), 404, "MANIFEST_UNKNOWN", "no such tag");

  EXPECT_EQ(status(ask("GET", tag(oci::Digest::of(first).str().c_str()))), 200);
}

TEST_F(RegistryEndpointTest, JudgesManifestsOfOneTagOneAfterTheOther) {
  const std::vector<std::string> manifests{image("one"), image("two"), image("three")};
  service_.judging = [](const Cancelled&) { std::this_thread::sleep_for(milliseconds{20}); };
  std::vector<std::thread> clients;
  for (const auto& manifest : manifests)
    clients.emplace_back([&] { EXPECT_EQ(status(put(manifest)), 201); });
  for (auto& client : clients)
    client.join();

  EXPECT_EQ(service_.most_at_once, 1);
  ASSERT_EQ(service_.pushed.size(), 3U);
  EXPECT_NE(service_.pushed.back().find(
                header(ask("HEAD", "/v2/grp/app/manifests/1"), "Docker-Content-Digest")),
            std::string::npos)
      << "the last that was pushed is the one that the tag names";
}

TEST_F(RegistryEndpointTest, RefusesAnIndexOverWhatTheJobDidNotSend) {
  const auto child = image("layer");
  const auto parent = index(child);
  expect_refused(put(parent, "1", "grp/app", oci::kMediaTypeOciIndex), 400,
                 "MANIFEST_BLOB_UNKNOWN");
  EXPECT_TRUE(service_.pushed.empty());

  ASSERT_EQ(status(put(child, oci::Digest::of(child).str())), 201); // control
  EXPECT_EQ(status(put(parent, "1", "grp/app", oci::kMediaTypeOciIndex)), 201);
}

TEST_F(RegistryEndpointTest, RefusesManifestsThatTwoReadersReadInTwoWays) {
  const auto manifest = image("layer");
  auto both = manifest;
  both.replace(0, 1, "{\"manifests\":[],");
  expect_refused(put(both), 400, "MANIFEST_INVALID", "beside 'layers'");
  auto twice = manifest;
  twice.replace(0, 1, "{\"schemaVersion\":2,");
  expect_refused(put(twice), 400, "MANIFEST_INVALID");
  expect_refused(put(manifest, "1", "grp/app", oci::kMediaTypeOciIndex), 400, "MANIFEST_INVALID",
                 "the request says");
  expect_refused(put("no json"), 400, "MANIFEST_INVALID");
  expect_refused(put(R"({"schemaVersion":1,"fsLayers":[]})"), 400, "MANIFEST_INVALID");

  EXPECT_EQ(status(put(manifest)), 201); // control
}

TEST_F(RegistryEndpointTest, RefusesRequestsThatTwoReadersReadInTwoWays) {
  const auto place = begin();
  const auto head = "PATCH " + place + " HTTP/1.1\r\nHost: reg.example:5000\r\n";
  EXPECT_EQ(status(send(head + "Content-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n")),
            400);
  EXPECT_EQ(status(send(head + "Content-Length: 4\r\nContent-Length: 5\r\n\r\nabcde")), 400);
  EXPECT_EQ(status(send("GET /v2/ HTTP/1.1\r\nHost: reg.example:5000\r\nHost: x\r\n\r\n")), 400);
}

TEST_F(RegistryEndpointTest, GivesUpClientsThatStopSending) {
  limits_.idle_deadline = milliseconds{500};
  start({});
  const auto place = begin();
  const auto fd = connect();
  const auto text = "PATCH " + place +
                    " HTTP/1.1\r\nHost: reg.example:5000\r\n"
                    "Content-Length: 100\r\n\r\nabc";
  (void)!::send(fd.get(), text.data(), text.size(), MSG_NOSIGNAL);
  const auto answer = receive(fd);
  EXPECT_TRUE(answer.empty() || status(answer) >= 400) << answer;
  EXPECT_EQ(status(ask("GET", place)), 204) << "the upload is free again";
}

TEST_F(RegistryEndpointTest, TellsTheGateWhenTheClientHasGone) {
  const auto manifest = image("layer");
  std::atomic<bool> told = false;
  service_.judging = [&](const Cancelled& cancelled) {
    for (int i = 0; i < 2000 && !(told = cancelled()); ++i)
      std::this_thread::sleep_for(milliseconds{5});
  };
  {
    const auto fd = connect();
    const auto text =
        "PUT /v2/grp/app/manifests/1 HTTP/1.1\r\nHost: reg.example:5000\r\nContent-Length: " +
        std::to_string(manifest.size()) + "\r\n\r\n" + manifest;
    (void)!::send(fd.get(), text.data(), text.size(), MSG_NOSIGNAL);
    for (int i = 0; i < 2000 && service_.at_once == 0; ++i)
      std::this_thread::sleep_for(milliseconds{5});
  }
  server_->stop(std::chrono::seconds{10});
  EXPECT_TRUE(told);
}

} // namespace
} // namespace slipway::broker
