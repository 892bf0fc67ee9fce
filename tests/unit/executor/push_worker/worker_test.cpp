// SPDX-License-Identifier: Apache-2.0
#include "executor/base/base64.hpp"
#include "executor/push_worker/attest.hpp"
#include "executor/push_worker/worker.hpp"
#include "tests/fakes/fake_registry.hpp"
#include "tests/fakes/push_blobs.hpp"
#include "tests/fakes/sample_image.hpp"

#include <gtest/gtest.h>

#include <fstream>

namespace slipway::push_worker {
namespace {

using namespace std::chrono_literals;
using fakes::FakeRegistry;

class Worker : public ::testing::Test {
protected:
  Worker() : layout_{*oci::Layout::create(dir_.path() / "layout")} {
    pacing_.pause = [this](std::chrono::milliseconds wait) { waits_.push_back(wait); };
    pacing_.random = [] { return 0.0; };
    pacing_.deadline = std::chrono::steady_clock::now() + 1h;
  }

  engine_api::PushRequest push_of(const oci::Digest& root) {
    engine_api::PushRequest request;
    request.registry = access();
    request.repository = "grp/app";
    request.tags = {"v1"};
    request.layout_dir = layout_.path();
    request.root_digest = request.pass_digest = root.str();
    request.blobs = fakes::blobs_to_push(layout_, root);
    request.pass_repository = "reg.example/grp/app";
    request.pass_expires_at = rfc3339(clock_.now() + 1h);
    return request;
  }
  engine_api::RegistryAccess access() {
    engine_api::RegistryAccess made;
    made.host = "reg.example";
    made.username = "pusher";
    made.password = Secret{std::string_view{"open-sesame"}};
    return made;
  }
  engine_api::PullRequest pull_of(const std::string& target, const oci::Layout& into) {
    engine_api::PullRequest request;
    request.registry = access();
    request.repository = "grp/app";
    request.target = target;
    request.layout_dir = into.path();
    return request;
  }
  engine_api::WorkerAnswer serve(engine_api::PushRequest request) {
    engine_api::WorkerRequest wrapped;
    wrapped.push = std::move(request);
    return serve(std::move(wrapped));
  }
  engine_api::WorkerAnswer serve(engine_api::PullRequest request) {
    engine_api::WorkerRequest wrapped;
    wrapped.pull = std::move(request);
    return serve(std::move(wrapped));
  }
  engine_api::WorkerAnswer serve(engine_api::WorkerRequest request) {
    World world{registry_,
                [](const engine_api::IssuerSpec&) { return nullptr; },
                clock_,
                runner_,
                pacing_,
                pacing_.pause,
                [this](const std::string& line) { lines_.push_back(line); },
                [](const engine_api::LeaseNote&) {},
                [] { return false; }};
    return push_worker::serve(std::move(request), world);
  }
  /// Puts an image there without a push.
  void stock(const oci::Digest& root) {
    const auto tree = *oci::read_tree(layout_, root);
    for (const auto& blob : tree.blobs) {
      const auto bytes = *layout_.read_blob(blob.digest, 1UL << 30);
      registry_.blobs[blob.digest.str()] = bytes;
      registry_.repository_blobs["grp/app"].insert(blob.digest.str());
      if (oci::is_manifest_type(blob.media_type) || oci::is_index_type(blob.media_type))
        registry_.manifests["grp/app:" + blob.digest.str()] = {blob.media_type, bytes};
    }
    registry_.manifests["grp/app:v1"] = registry_.manifests["grp/app:" + root.str()];
  }

  fakes::TempDir dir_;
  oci::Layout layout_;
  FakeRegistry registry_;
  FixedClock clock_{WallTime{std::chrono::seconds{1800000000}}};
  process::LocalRunner runner_;
  registry::Pacing pacing_;
  std::vector<std::chrono::milliseconds> waits_;
  std::vector<std::string> lines_;
};

TEST_F(Worker, PushesBlobsThenManifestByDigestThenTag) {
  const auto root = fakes::write_image(layout_, {5000}, 1);

  const auto answer = serve(push_of(root));

  ASSERT_TRUE(answer.ok) << answer.what;
  EXPECT_EQ(answer.digest, root.str());
  EXPECT_EQ(answer.token_seconds, 300U);
  std::vector<std::string> puts;
  for (const auto& one : registry_.seen) {
    if (one.method == "PUT") puts.push_back(one.url.substr(0, one.url.find("?")));
  }
  ASSERT_EQ(puts.size(), 4U);
  EXPECT_NE(puts[1].find("/blobs/uploads/"), std::string::npos);
  EXPECT_NE(puts[2].find("/manifests/" + root.str()), std::string::npos);
  EXPECT_NE(puts[3].find("/manifests/v1"), std::string::npos);
  EXPECT_TRUE(registry_.uploads.empty());
}

/// A signing order with a new key.
engine_api::SigningOrder order_in(const std::filesystem::path& dir,
                                  process::ProcessRunner& runner) {
  process::Command make;
  make.argv = {"/usr/bin/openssl",        "genpkey", "-algorithm",   "EC", "-pkeyopt",
               "ec_paramgen_curve:P-256", "-out",    dir / "key.pem"};
  EXPECT_TRUE(process::succeeded(runner.run(make)->ending));
  engine_api::SigningOrder order;
  order.key_file = dir / "key.pem";
  order.provenance = R"({"buildDefinition":{}})";
  return order;
}

TEST_F(Worker, SignsTheManifestBeforeItSetsATag) {
  const auto root = fakes::write_image(layout_, {100}, 40);
  auto request = push_of(root);
  request.signing = order_in(dir_.path(), runner_);
  const std::string list = "grp/app:sha256-" + root.hex();

  const auto answer = serve(std::move(request));

  ASSERT_TRUE(answer.ok) << answer.what;
  EXPECT_EQ(answer.attached, 2U);
  const auto index = std::get<oci::Index>(*oci::parse_manifest(registry_.manifests[list].second));
  ASSERT_EQ(index.manifests.size(), 2U);
  for (const auto& one : index.manifests) {
    const auto& bytes = registry_.manifests["grp/app:" + one.digest.str()].second;
    EXPECT_NE(bytes.find("\"subject\":{"), std::string::npos);
    EXPECT_NE(bytes.find(root.str()), std::string::npos);
    EXPECT_TRUE(std::get<oci::Manifest>(*oci::parse_manifest(bytes)).has_subject);
  }
  std::string last;
  for (const auto& one : registry_.seen) {
    if (one.method == "PUT") last = one.url;
  }
  EXPECT_NE(last.find("/manifests/v1"), std::string::npos);
}

TEST_F(Worker, SigningAgainReplacesWhatTheSameKeySaidAndNothingElse) {
  const auto root = fakes::write_image(layout_, {100}, 41);
  const std::string list = "grp/app:sha256-" + root.hex();
  const auto order = order_in(dir_.path(), runner_);
  const std::string others = oci::Digest::of("somebody else's").str();
  registry_.manifests[list] = {
      oci::kMediaTypeOciIndex,
      R"({"schemaVersion":2,"mediaType":"application/vnd.oci.image.index.v1+json","manifests":[)"
      R"({"mediaType":"application/vnd.oci.image.manifest.v1+json","size":2,"digest":")" +
          others + "\"}]}"};
  for (int i = 0; i < 2; ++i) {
    auto request = push_of(root);
    request.signing = order;
    const auto answer = serve(std::move(request));
    ASSERT_TRUE(answer.ok) << answer.what;
  }

  const auto index = std::get<oci::Index>(*oci::parse_manifest(registry_.manifests[list].second));
  EXPECT_EQ(index.manifests.size(), 3U);
  EXPECT_EQ(index.manifests[0].digest.str(), others);
}

TEST_F(Worker, ASimpleSignatureJoinsThoseOfOthersUnderItsTag) {
  const auto root = fakes::write_image(layout_, {100}, 43);
  const std::string list = "grp/app:sha256-" + root.hex() + ".sig";
  auto order = order_in(dir_.path(), runner_);
  order.as_simple = true;
  order.as_bundle = false;
  const std::string others = oci::Digest::of("somebody else's").str();
  registry_.manifests[list] = {
      oci::kMediaTypeOciManifest,
      R"({"schemaVersion":2,"mediaType":"application/vnd.oci.image.manifest.v1+json","config":{)"
      R"("mediaType":"application/vnd.oci.image.config.v1+json","size":2,"digest":")" +
          others +
          R"("},"annotations":{"a":"\"b\""},"layers":[{"mediaType":)"
          R"("application/vnd.dev.cosign.simplesigning.v1+json","size":2,"digest":")" +
          others +
          R"(","annotations":{"dev.cosignproject.cosign/signature":"QQ==","dev.sigstore.cosign/bundle":"{\"x\":1}"}}]})"};
  for (int i = 0; i < 2; ++i) {
    auto request = push_of(root);
    request.signing = order;
    const auto answer = serve(std::move(request));
    ASSERT_TRUE(answer.ok) << answer.what;
    EXPECT_EQ(answer.attached, 2U) << "it and the provenance";
  }

  const auto manifest =
      std::get<oci::Manifest>(*oci::parse_manifest(registry_.manifests[list].second));
  ASSERT_EQ(manifest.layers.size(), 2U) << "of the same key there is one";
  EXPECT_EQ(manifest.layers[0].digest.str(), others);
  EXPECT_EQ(manifest.layers[0].annotations.at("dev.sigstore.cosign/bundle"), R"({"x":1})");
  EXPECT_EQ(manifest.annotations.at("a"), "\"b\"");
  const auto payload = registry_.blobs.at(manifest.layers[1].digest.str());
  EXPECT_EQ(payload,
            R"({"critical":{"identity":{"docker-reference":"reg.example/grp/app"},"image":{)"
            R"("docker-manifest-digest":")" +
                root.str() + R"("},"type":"cosign container image signature"},"optional":null})");
}

TEST_F(Worker, ASimpleSignatureThatIsThereIsNotWrittenAgain) {
  const auto root = fakes::write_image(layout_, {100}, 48);
  const std::string list = "grp/app:sha256-" + root.hex() + ".sig";
  const auto order = order_in(dir_.path(), runner_);
  const auto push = [&] {
    auto request = push_of(root);
    request.signing = order;
    request.signing->as_simple = true;
    const auto answer = serve(std::move(request));
    EXPECT_TRUE(answer.ok) << answer.what;
    return registry_.manifests.at(list).second;
  };
  const auto first = push();

  EXPECT_EQ(push(), first) << "a registry may keep tags from being written twice";
  // One that only says that it is this key's does not stand for it.
  auto& there = registry_.manifests.at(list).second;
  const std::string name = R"("dev.cosignproject.cosign/signature":")";
  const auto at = there.find(name) + name.size();
  there.replace(at, 4, "AAAA");
  const auto forged = there;
  EXPECT_NE(push(), forged);
}

TEST_F(Worker, ATagThatIsNoListOfSimpleSignaturesIsLeftAlone) {
  const auto root = fakes::write_image(layout_, {100}, 44);
  const std::string list = "grp/app:sha256-" + root.hex() + ".sig";
  const std::string digest = oci::Digest::of("x").str();
  const auto manifest = [&](const std::string& members, const std::string& layer) {
    return R"({"schemaVersion":2,"mediaType":"application/vnd.oci.image.manifest.v1+json",)" +
           members +
           R"("config":{"mediaType":"application/vnd.oci.image.config.v1+json","size":2,"digest":")" +
           digest + R"("},"layers":[)" + layer + "]}";
  };
  const auto layer = [&](const std::string& type, const std::string& members = "") {
    return R"({"mediaType":")" + type + R"(","size":2,"digest":")" + digest + '"' + members + "}";
  };
  const auto signature = layer("application/vnd.dev.cosign.simplesigning.v1+json");
  const auto order = order_in(dir_.path(), runner_);
  const struct {
    std::string there;
    bool is_joined = false;
    const char* type = oci::kMediaTypeOciManifest;
  } rows[] = {
      {R"({"schemaVersion":2,"mediaType":"application/vnd.oci.image.index.v1+json","manifests":[]})",
       false, oci::kMediaTypeOciIndex},
      {"{]"},
      {*layout_.read_blob(root, 1 << 20)}, // an ordinary image
      {manifest("", "")},
      {manifest("", signature + "," + layer("application/vnd.oci.image.layer.v1.tar+gzip"))},
      {manifest(R"("artifactType":"application/x",)", signature)},
      {manifest("", layer("application/vnd.dev.cosign.simplesigning.v1+json",
                          R"(,"urls":["https://elsewhere.example/x"])"))},
      {manifest("", signature), true}}; // the control
  for (const auto& row : rows) {
    registry_.manifests.clear();
    registry_.manifests[list] = {row.type, row.there};
    auto request = push_of(root);
    request.signing = order;
    request.signing->as_simple = true;

    const auto answer = serve(std::move(request));

    EXPECT_EQ(answer.ok, row.is_joined) << row.there << ": " << answer.what;
    EXPECT_EQ(registry_.manifests[list].second != row.there, row.is_joined) << row.there;
    EXPECT_EQ(registry_.manifests.contains("grp/app:v1"), row.is_joined);
    if (row.is_joined) continue;
    EXPECT_EQ(answer.kind, "misconfigured");
    EXPECT_NE(answer.what.find("is no list of signatures"), std::string::npos) << answer.what;
  }
}

TEST_F(Worker, WithoutASignatureNoTagIsSet) {
  const auto root = fakes::write_image(layout_, {100}, 42);
  auto request = push_of(root);
  request.signing = order_in(dir_.path(), runner_);
  process::Command publish;
  publish.argv = {"/usr/bin/openssl",        "pkey",    "-in",
                  request.signing->key_file, "-pubout", "-out",
                  dir_.path() / "pub.pem"};
  ASSERT_TRUE(process::succeeded(runner_.run(publish)->ending));
  request.signing->public_key_file = dir_.path() / "pub.pem";
  request.signing->command = {"/bin/false"};

  const auto answer = serve(std::move(request));

  EXPECT_FALSE(answer.ok);
  EXPECT_NE(answer.what.find("/bin/false"), std::string::npos) << answer.what;
  EXPECT_EQ(registry_.manifests.count("grp/app:v1"), 0U);
  EXPECT_EQ(registry_.manifests.count("grp/app:" + root.str()), 1U);
}

TEST_F(Worker, AKeyThatDoesNotFitCostsNoRequest) {
  const auto root = fakes::write_image(layout_, {100}, 43);
  auto request = push_of(root);
  request.signing.emplace();
  request.signing->key_file = dir_.path() / "absent";

  EXPECT_FALSE(serve(std::move(request)).ok);
  EXPECT_TRUE(registry_.seen.empty());
}

TEST_F(Worker, AnImageDoesNotTakeTheTagOfSignatures) {
  const auto root = fakes::write_image(layout_, {100}, 44);
  const auto order = order_in(dir_.path(), runner_);
  for (const char* suffix : {"", ".sig", ".att", ".sbom"}) {
    for (const bool is_signed : {true, false}) {
      auto request = push_of(root);
      request.tags = {"sha256-" + oci::Digest::of("another image").hex() + suffix};
      if (is_signed) request.signing = order;
      request.guards_signatures = !is_signed;

      const auto answer = serve(std::move(request));

      EXPECT_EQ(answer.kind, "denied") << suffix;
      EXPECT_TRUE(registry_.seen.empty());
    }
  }
  // The control: where the operator signs nothing, they are tags like others.
  auto request = push_of(root);
  request.tags = {"sha256-" + oci::Digest::of("another image").hex() + ".sig"};
  EXPECT_TRUE(serve(std::move(request)).ok);
}

TEST_F(Worker, SignsNoOtherDigestThanThePermits) {
  const auto root = fakes::write_image(layout_, {100}, 45);
  const auto other = fakes::write_image(layout_, {100}, 46);
  auto request = push_of(root);
  request.signing = order_in(dir_.path(), runner_);
  const auto order = *request.signing;
  const auto permit = *credentials::PushPermit::from(request, clock_);
  const auto blobs = *registry::BlobList::from(request.blobs, root);
  const auto signer = *signer_of(request, runner_);
  request.pass_digest = other.str();

  EXPECT_EQ(attest(other, permit, blobs, order, layout_, *signer).error().kind, ErrorKind::denied);
  EXPECT_TRUE(attest(root, permit, blobs, order, layout_, *signer));
  // A pass for another image gets neither of them signed.
  EXPECT_EQ(serve(std::move(request)).kind, "denied");
  EXPECT_TRUE(registry_.manifests.empty());
  EXPECT_TRUE(registry_.blobs.empty());
}

TEST_F(Worker, SignsEachImageOfAnIndexBeforeTheIndexAndNoOther) {
  const auto amd64 = fakes::write_image(layout_, {100}, 48);
  const auto arm64 = fakes::write_image(layout_, {100}, 49);
  const auto root = fakes::write_index_of(layout_, amd64, arm64);
  auto request = push_of(root);
  request.signing = order_in(dir_.path(), runner_);
  request.signing->as_simple = true;
  const auto order = *request.signing;
  const auto permit = *credentials::PushPermit::from(request, clock_);
  const auto blobs = *registry::BlobList::from(request.blobs, root);
  const auto signer = *signer_of(request, runner_);

  const auto answer = serve(std::move(request));

  ASSERT_TRUE(answer.ok) << answer.what;
  EXPECT_EQ(answer.attached, 7U) << "two of each image, three of the index";
  std::vector<std::string> lists;
  for (const auto& one : registry_.seen) {
    const auto at = one.url.find("/manifests/sha256-");
    if (one.method == "PUT" && at != std::string::npos && !one.url.ends_with(".sig"))
      lists.push_back(one.url.substr(at + 11));
  }
  ASSERT_FALSE(lists.empty());
  EXPECT_EQ(lists.front(), "sha256-" + amd64.hex());
  EXPECT_EQ(lists.back(), "sha256-" + root.hex());
  for (const auto& one : {amd64, arm64}) {
    const auto list = std::get<oci::Index>(
        *oci::parse_manifest(registry_.manifests["grp/app:sha256-" + one.hex()].second));
    EXPECT_EQ(list.manifests.size(), 1U);
    const auto made = attest(one, permit, blobs, order, layout_, *signer);
    ASSERT_TRUE(made) << made.error().text();
    EXPECT_NE(made->at(0).bytes.find(one.str()), std::string::npos) << made->at(0).bytes;
  }
  // An image that the index does not list has none.
  const auto other = fakes::write_image(layout_, {100}, 50);
  EXPECT_EQ(attest(other, permit, blobs, order, layout_, *signer).error().kind, ErrorKind::denied);
}

TEST_F(Worker, ASimpleSignatureNamesDockerHubAsReferencesDo) {
  const auto root = fakes::write_image(layout_, {100}, 47);
  auto request = push_of(root);
  request.registry.host = "registry-1.docker.io";
  request.pass_repository = "registry-1.docker.io/grp/app";
  request.signing = order_in(dir_.path(), runner_);
  request.signing->as_simple = true;
  const auto permit = *credentials::PushPermit::from(request, clock_);
  const auto blobs = *registry::BlobList::from(request.blobs, root);
  const auto signer = *signer_of(request, runner_);

  const auto made = attest(root, permit, blobs, *request.signing, layout_, *signer);

  ASSERT_TRUE(made);
  EXPECT_NE(made->at(0).bytes.find(R"("docker-reference":"index.docker.io/grp/app")"),
            std::string::npos)
      << made->at(0).bytes;
}

TEST_F(Worker, AttachesTheSbomThatWasOrderedOrSetsNoTag) {
  const auto sbom = *layout_.write_blob(R"({"bomFormat":"CycloneDX"})");
  const auto spoilt = *layout_.write_blob(R"({"bomFormat":"CycloneDX","version":1})");
  std::ofstream{layout_.blob_path(spoilt)} << R"({"bomFormat":"CycloneDX","version":2})";
  const struct {
    std::string digest;
    std::string says; ///< "" = the push ends well
  } rows[] = {{sbom.str(), ""},
              {oci::Digest::of("absent").str(), "reading the SBOM"},
              {spoilt.str(), "reading the SBOM"},
              {"nonsense", "reading the SBOM"},
              {layout_.write_blob("[]")->str(), "no JSON object"}};
  unsigned seed = 90;
  for (const auto& row : rows) {
    const auto root = fakes::write_image(layout_, {100}, seed++);
    registry_.manifests.clear();
    auto request = push_of(root);
    request.signing = order_in(dir_.path(), runner_);
    request.signing->sbom_digest = row.digest;

    const auto answer = serve(std::move(request));

    EXPECT_EQ(answer.ok, row.says.empty()) << answer.what;
    EXPECT_EQ(answer.attached, row.says.empty() ? 3U : 0U);
    EXPECT_NE(answer.what.find(row.says), std::string::npos) << answer.what;
    EXPECT_EQ(registry_.manifests.count("grp/app:v1"), row.says.empty() ? 1U : 0U) << row.digest;
  }
}

TEST_F(Worker, ARegistryThatTakesNoSignatureGetsNoTag) {
  const auto is_artifact = [](const http::Request& request) {
    return request.method == "PUT" && request.body.find("\"subject\":") != std::string::npos;
  };
  const auto is_list = [](const http::Request& request) {
    return request.url.target.find("/manifests/sha256-") != std::string::npos;
  };
  using Fault = std::function<std::optional<Result<http::Response>>(const http::Request&)>;
  const struct {
    std::string name;
    Fault fault;
    std::string list; ///< what the fallback tag is before
    std::string says; ///< "" = the push ends well
  } rows[] = {
      {"an honest one", nullptr, "", ""},
      {"refuses manifests with a subject",
       [&](const http::Request& request) -> std::optional<Result<http::Response>> {
         if (is_artifact(request))
           return FakeRegistry::status(400, {}, R"({"errors":[{"code":"MANIFEST_INVALID"}]})");
         return std::nullopt;
       },
       "", "MANIFEST_INVALID"},
      {"stores another artifact",
       [&](const http::Request& request) -> std::optional<Result<http::Response>> {
         if (is_artifact(request))
           return FakeRegistry::status(201,
                                       {{"docker-content-digest", oci::Digest::of("other").str()}});
         return std::nullopt;
       },
       "", "another manifest"},
      {"refuses the list",
       [&](const http::Request& request) -> std::optional<Result<http::Response>> {
         if (request.method == "PUT" && is_list(request)) return FakeRegistry::status(403);
         return std::nullopt;
       },
       "", "403"},
      {"does not give the list",
       [&](const http::Request& request) -> std::optional<Result<http::Response>> {
         if (request.method == "GET" && is_list(request)) return FakeRegistry::status(403);
         return std::nullopt;
       },
       "", "403"},
      {"has an image where the list is", nullptr,
       R"({"schemaVersion":2,"mediaType":"application/vnd.oci.image.manifest.v1+json","config":)" +
           fakes::descriptor_json("application/vnd.oci.image.config.v1+json",
                                  oci::Digest::of("{}").str(), 2) +
           R"(,"layers":[]})",
       "no list of signatures"},
      {"has nonsense where the list is", nullptr, "{]", "reading the tag sha256-"}};
  unsigned seed = 50;
  for (const auto& row : rows) {
    const auto root = fakes::write_image(layout_, {100}, seed++);
    registry_.manifests.clear();
    registry_.fault = row.fault;
    if (!row.list.empty()) {
      registry_.manifests["grp/app:sha256-" + root.hex()] = {oci::kMediaTypeOciManifest, row.list};
    }
    auto request = push_of(root);
    request.signing = order_in(dir_.path(), runner_);

    const auto answer = serve(std::move(request));

    EXPECT_EQ(answer.ok, row.says.empty()) << row.name << ": " << answer.what;
    EXPECT_NE(answer.what.find(row.says), std::string::npos) << row.name << ": " << answer.what;
    EXPECT_EQ(registry_.manifests.count("grp/app:v1"), row.says.empty() ? 1U : 0U) << row.name;
    if (!row.says.empty()) {
      EXPECT_NE(answer.what.find("attaching a signature to " + root.str()), std::string::npos)
          << row.name << ": " << answer.what;
    }
  }
}

TEST_F(Worker, BelievesARegistrysListOfReferrersForThisImageOnly) {
  const auto root = fakes::write_image(layout_, {100}, 47);
  const std::string list = "grp/app:sha256-" + root.hex();
  for (const bool own : {true, false}) {
    registry_.manifests.clear();
    registry_.oci_subject = own ? root.str() : oci::Digest::of("another image").str();
    auto request = push_of(root);
    request.signing = order_in(dir_.path(), runner_);

    EXPECT_TRUE(serve(std::move(request)).ok);
    EXPECT_EQ(registry_.manifests.count(list), own ? 0U : 1U);
  }
}

TEST_F(Worker, ACommandThatHangsOrPrintsGarbageGetsNoTag) {
  const auto order = order_in(dir_.path(), runner_);
  process::Command publish;
  publish.argv = {"/usr/bin/openssl",     "pkey", "-in", order.key_file, "-pubout", "-out",
                  dir_.path() / "pub.pem"};
  ASSERT_TRUE(process::succeeded(runner_.run(publish)->ending));
  const std::string good = "/usr/bin/openssl dgst -sha256 -sign " + order.key_file;
  const struct {
    std::string script;
    std::string says; ///< "" = the push ends well
  } rows[] = {
      {good + " | /usr/bin/base64 -w0", ""},
      {"exec /bin/sleep 600", "did not end within 1 s"},
      {"/bin/sleep 600 & exec /bin/sleep 600", "did not end within 1 s"},
      {"", "no base64"},
      {"echo '-----BEGIN PRIVATE KEY-----'", "no base64"},
      {good, "no base64"},
      {"exec /usr/bin/yes", "more than"},
      // The signature of other bytes.
      {"echo other | " + good + " | /usr/bin/base64 -w0", "is no signature of these bytes"}};
  unsigned seed = 70;
  for (const auto& row : rows) {
    const auto root = fakes::write_image(layout_, {100}, seed++);
    registry_.manifests.clear();
    auto request = push_of(root);
    request.signing = order;
    request.signing->key_file.clear();
    request.signing->command = {"/bin/sh", "-c", row.script};
    request.signing->public_key_file = dir_.path() / "pub.pem";
    request.signing->timeout_seconds = row.script.find("sleep") == std::string::npos ? 60 : 1;

    const auto answer = serve(std::move(request));

    EXPECT_EQ(answer.ok, row.says.empty()) << row.script << ": " << answer.what;
    EXPECT_NE(answer.what.find(row.says), std::string::npos) << row.script << ": " << answer.what;
    EXPECT_EQ(registry_.manifests.count("grp/app:v1"), row.says.empty() ? 1U : 0U) << row.script;
    EXPECT_EQ(answer.what.find("PRIVATE KEY"), std::string::npos) << answer.what;
    // Nothing half-signed is left either: without both statements none is sent.
    EXPECT_EQ(registry_.manifests.count("grp/app:sha256-" + root.hex()), row.says.empty() ? 1U : 0U)
        << row.script;
  }
}

TEST_F(Worker, TheKeyIsInNothingThatIsSentOrSaid) {
  const auto root = fakes::write_image(layout_, {100}, 48);
  auto request = push_of(root);
  request.signing = order_in(dir_.path(), runner_);
  std::ifstream file{request.signing->key_file};
  std::string line;
  std::vector<std::string> needles;
  while (std::getline(file, line)) {
    if (line.find("-----") != std::string::npos) continue;
    needles.push_back(line);
    needles.push_back(*base64_decode(line));
  }
  ASSERT_EQ(needles.size(), 6U);
  // That it would be found where it is.
  std::ifstream again{request.signing->key_file};
  const std::string whole{std::istreambuf_iterator<char>{again}, {}};

  const auto answer = serve(std::move(request));

  ASSERT_TRUE(answer.ok) << answer.what;
  std::string all = answer.what;
  for (const auto& [digest, bytes] : registry_.blobs)
    all += bytes;
  for (const auto& [name, manifest] : registry_.manifests)
    all += manifest.second;
  for (const auto& said : lines_)
    all += said;
  // The public half is in the file too, and in its hint as a hash alone.
  for (const auto& needle : needles)
    EXPECT_EQ(all.find(needle), std::string::npos);
  EXPECT_NE(whole.find(needles.front()), std::string::npos);
}

TEST_F(Worker, AsksForExactlyTheScopesOfThisPush) {
  const auto root = fakes::write_image(layout_, {100}, 2);
  auto request = push_of(root);
  request.mount_from = {"grp/base"};

  ASSERT_TRUE(serve(std::move(request)).ok);

  std::string token_url;
  for (const auto& one : registry_.seen) {
    if (one.url.find("/token?") != std::string::npos) token_url = one.url;
  }
  EXPECT_EQ(token_url, "https://reg.example/"
                       "token?service=reg&scope=repository%3Agrp%2Fapp%3Apull%2Cpush&scope="
                       "repository%3Agrp%2Fbase%3Apull&account=pusher");
}

TEST_F(Worker, TouchesNoNetworkWithoutAPermit) {
  const auto root = fakes::write_image(layout_, {100}, 3);
  const auto other = fakes::write_image(layout_, {100}, 4);
  struct Case {
    const char* name;
    std::function<void(engine_api::PushRequest&)> spoil;
  };
  const Case cases[] = {
      {"another digest", [&](auto& request) { request.pass_digest = other.str(); }},
      {"no digest", [&](auto& request) { request.pass_digest = ""; }},
      {"another repository", [&](auto& request) { request.repository = "grp/other"; }},
      {"another registry", [&](auto& request) { request.registry.host = "evil.example"; }},
      {"over", [&](auto& request) { request.pass_expires_at = rfc3339(clock_.now()); }},
      {"no end", [&](auto& request) { request.pass_expires_at = ""; }},
  };
  for (const auto& one : cases) {
    auto request = push_of(root);
    one.spoil(request);

    const auto answer = serve(std::move(request));

    EXPECT_EQ(answer.kind, "denied") << one.name;
    EXPECT_NE(answer.what.find("no permit to push"), std::string::npos) << one.name;
    EXPECT_TRUE(registry_.seen.empty()) << one.name;
  }
}

TEST_F(Worker, TriesAgainAfter429AndHonoursRetryAfter) {
  const auto root = fakes::write_image(layout_, {100}, 5);
  int times = 0;
  registry_.fault = [&](const http::Request& request) -> std::optional<Result<http::Response>> {
    if (request.method == "HEAD" && times++ == 0)
      return FakeRegistry::status(429, {{"retry-after", "7"}});
    return std::nullopt;
  };

  EXPECT_TRUE(serve(push_of(root)).ok);

  ASSERT_EQ(waits_.size(), 1U);
  EXPECT_EQ(waits_[0], 7s);
}

TEST_F(Worker, ResumesAChunkedUploadWhereTheWireWasCut) {
  const auto root = fakes::write_image(layout_, {100000}, 6);
  auto permit = credentials::PushPermit::from(push_of(root), clock_);
  auto tokens = credentials::TokenClient::load(access(), registry_, clock_);
  registry::Registry registry{registry_, *tokens, clock_,
                              "grp/app", pacing_, [](const std::string&) {}};
  registry.chunk_bytes = 30000;
  registry_.cut_after = {10000, 12345};

  const auto blobs = *registry::BlobList::from(fakes::blobs_to_push(layout_, root), root);
  auto pushed = registry.push(layout_, *permit, blobs, {}, {});

  ASSERT_TRUE(pushed) << pushed.error().text();
  EXPECT_GE(waits_.size(), 2U);
  std::uint64_t sent = 0;
  for (const auto& one : registry_.seen) {
    if (one.method == "PATCH") sent += one.body_size;
  }
  EXPECT_LT(sent, 200000U); // it did not begin anew
  EXPECT_TRUE(registry_.manifests.count("grp/app:" + root.str()));
}

TEST_F(Worker, BeginsAnewWhereTheRegistryLostTheUpload) {
  const auto root = fakes::write_image(layout_, {100000}, 7);
  registry_.cut_after = {10000};
  registry_.forgets_uploads_at_cut = true;

  const auto answer = serve(push_of(root));

  EXPECT_TRUE(answer.ok) << answer.what;
}

TEST_F(Worker, GivesUpOnAWireThatIsAlwaysCutAndTagsNothing) {
  const auto root = fakes::write_image(layout_, {100000}, 8);
  registry_.cut_after = std::deque<std::uint64_t>(100, 10);

  const auto answer = serve(push_of(root));

  EXPECT_EQ(answer.kind, "unavailable");
  EXPECT_TRUE(registry_.manifests.empty());
  EXPECT_TRUE(registry_.uploads.empty()) << "the upload session was left behind";
}

TEST_F(Worker, A401LoopEnds) {
  const auto root = fakes::write_image(layout_, {100}, 9);
  registry_.fault = [&](const http::Request& request) -> std::optional<Result<http::Response>> {
    if (request.url.target.rfind("/v2/", 0) == 0)
      return FakeRegistry::status(
          401, {{"www-authenticate", "Bearer realm=\"https://reg.example/token\""}});
    return std::nullopt;
  };

  const auto answer = serve(push_of(root));

  EXPECT_EQ(answer.kind, "denied");
  EXPECT_NE(answer.what.find("requested access to the resource is denied"), std::string::npos);
  EXPECT_EQ(registry_.seen.size(), 5U); // three tries, two tokens
}

TEST_F(Worker, MintsAnewWhenTheTokenEndsDuringThePush) {
  const auto root = fakes::write_image(layout_, {100, 200, 300}, 10);
  registry_.fault = [&](const http::Request& request) -> std::optional<Result<http::Response>> {
    if (request.method == "PUT") clock_.advance(295s);
    return std::nullopt;
  };

  const auto answer = serve(push_of(root));

  EXPECT_TRUE(answer.ok) << answer.what;
  EXPECT_GE(registry_.count("GET", "/token"), 3U);
}

TEST_F(Worker, StopsMintingWhenThePassEndsDuringThePush) {
  const auto root = fakes::write_image(layout_, {100, 200, 300}, 11);
  registry_.fault = [&](const http::Request& request) -> std::optional<Result<http::Response>> {
    if (request.method == "PUT") clock_.advance(3601s);
    return std::nullopt;
  };

  const auto answer = serve(push_of(root));

  EXPECT_EQ(answer.kind, "denied");
  EXPECT_TRUE(registry_.manifests.empty());
}

TEST_F(Worker, WithAPassThatEndsDuringThePushNothingMoreIsSent) {
  const auto root = fakes::write_image(layout_, {100, 200, 300}, 60);
  const auto order = order_in(dir_.path(), runner_);
  enum class Login { basic, anonymous, token };
  struct Row {
    const char* name;
    Login login;
    const char* at;     ///< the hour passes with a PUT whose URL has this
    std::size_t before; ///< of such PUTs, one that the registry still takes
    bool is_signed;
  };
  const std::string by_digest = "/manifests/" + root.str();
  const Row rows[] = {
      {"a blob, Basic", Login::basic, "/blobs/", 2, false},
      {"a blob, anonymous", Login::anonymous, "/blobs/", 2, false},
      {"the manifest, Basic", Login::basic, by_digest.c_str(), 0, false},
      {"the manifest, anonymous", Login::anonymous, by_digest.c_str(), 0, false},
      {"the manifest, a token that lives on", Login::token, by_digest.c_str(), 0, false},
      {"the manifest, before signing", Login::basic, by_digest.c_str(), 0, true},
      {"a signature", Login::basic, "/manifests/sha256-", 0, true},
      {"a tag of two", Login::anonymous, "/manifests/v1", 0, false},
  };
  for (const auto& row : rows) {
    for (const auto life : {1h, 3h}) { // the longer one is the control
      registry_ = FakeRegistry{};
      registry_.basic_only = row.login == Login::basic;
      registry_.anonymous = row.login == Login::anonymous;
      registry_.token_seconds = 86400;
      auto request = push_of(root);
      request.registry.basic_auth = true;
      request.registry.max_token_seconds = 86400;
      request.tags = {"v1", "v2"};
      request.pass_expires_at = rfc3339(clock_.now() + life);
      if (row.is_signed) request.signing = order;
      std::size_t puts = 0;
      bool is_late = false;
      std::size_t sent_late = 0;
      registry_.fault = [&](const http::Request& sent) -> std::optional<Result<http::Response>> {
        if (is_late && sent.method != "DELETE") ++sent_late;
        if (sent.method == "PUT" && sent.url.target.find(row.at) != std::string::npos &&
            puts++ == row.before && !is_late) {
          clock_.advance(3601s);
          is_late = true;
        }
        return std::nullopt;
      };

      const auto answer = serve(std::move(request));

      EXPECT_TRUE(is_late) << row.name;
      EXPECT_EQ(answer.ok, life == 3h) << row.name << ": " << answer.what;
      EXPECT_EQ(registry_.manifests.count("grp/app:v2"), life == 3h ? 1U : 0U) << row.name;
      if (life == 3h) {
        EXPECT_GT(sent_late, 0U) << row.name;
        continue;
      }
      EXPECT_EQ(answer.kind, "denied") << row.name;
      EXPECT_NE(answer.what.find("the scan's pass ended at"), std::string::npos) << answer.what;
      EXPECT_EQ(sent_late, 0U) << row.name;
    }
  }
}

TEST_F(Worker, MakesNoSignatureWithoutAPassThatLives) {
  const auto root = fakes::write_image(layout_, {100}, 61);
  registry_.anonymous = true;
  auto tokens = credentials::TokenClient::load(access(), registry_, clock_);
  const auto blobs = *registry::BlobList::from(fakes::blobs_to_push(layout_, root), root);
  for (const auto passes : {3601s, 3599s}) { // the shorter one is the control
    auto permit = *credentials::PushPermit::from(push_of(root), clock_);
    bool asked = false;
    registry_.fault = [&](const http::Request& sent) -> std::optional<Result<http::Response>> {
      if (sent.method == "HEAD" && sent.url.target.find("/manifests/") != std::string::npos)
        clock_.advance(passes);
      return std::nullopt;
    };
    const auto sign = [&](const oci::Digest&) -> Result<std::vector<registry::Attachment>> {
      asked = true;
      return std::vector<registry::Attachment>{};
    };
    registry::Registry registry{registry_, *tokens, clock_,
                                "grp/app", pacing_, [](const std::string&) {}};

    const auto pushed = registry.push(layout_, permit, blobs, {}, {}, sign);

    EXPECT_EQ(pushed.ok(), passes == 3599s);
    EXPECT_EQ(asked, passes == 3599s);
  }
}

TEST_F(Worker, ParsesNothingOfTheImage) {
  const auto layer = *layout_.write_blob("a layer");
  const auto child = *layout_.write_blob("{]");
  const auto root = *layout_.write_blob(std::string(1000, '['));
  auto request = push_of(root);
  request.blobs = {{layer.str(), 7, "", false, false},
                   {child.str(), 2, oci::kMediaTypeOciManifest, true, true},
                   {root.str(), 1000, oci::kMediaTypeOciIndex, true, false}};
  request.signing = order_in(dir_.path(), runner_);

  const auto answer = serve(std::move(request));

  ASSERT_TRUE(answer.ok) << answer.what;
  EXPECT_EQ(answer.attached, 3U) << "a signature of the child, two statements about the root";
  EXPECT_EQ(registry_.manifests.at("grp/app:v1").second, std::string(1000, '['));
  EXPECT_EQ(registry_.manifests.at("grp/app:" + child.str()).first, oci::kMediaTypeOciManifest);
  EXPECT_FALSE(oci::read_tree(layout_, root).ok()) << "the control: it cannot be parsed";
}

TEST_F(Worker, RefusesAListOfBlobsThatIsNoneBeforeAnythingIsSent) {
  const auto root = fakes::write_image(layout_, {100}, 62);
  const auto other = fakes::write_image(layout_, {100}, 63);
  using Blobs = std::vector<engine_api::PushBlob>;
  struct Case {
    const char* says;
    std::function<void(Blobs&)> spoil;
  };
  const Case cases[] = {
      {"does not end with the judged manifest", [](Blobs& blobs) { blobs.pop_back(); }},
      {"does not end with the judged manifest",
       [](Blobs& blobs) { std::swap(blobs.front(), blobs.back()); }},
      {"does not end with the judged manifest",
       [&](Blobs& blobs) { blobs = fakes::blobs_to_push(layout_, other); }},
      {"does not end with the judged manifest",
       [](Blobs& blobs) { blobs.back().is_manifest = false; }},
      {"twice", [](Blobs& blobs) { blobs.insert(blobs.begin(), blobs.front()); }},
      {"no manifest's type", [](Blobs& blobs) { blobs.back().media_type = "text/html"; }},
      {"no manifest's type", [](Blobs& blobs) { blobs.back().media_type += "\r\nX: y"; }},
      {"bytes; at most", [](Blobs& blobs) { blobs.back().size = oci::kMaxManifestBytes + 1; }},
      {"no image's manifest", [](Blobs& blobs) { blobs.front().is_image = true; }},
      {"reading the list", [](Blobs& blobs) { blobs.front().digest = "../../etc/passwd"; }},
      {"entries; at most",
       [](Blobs& blobs) { blobs.insert(blobs.begin(), engine_api::kMaxPushBlobs, blobs.front()); }},
  };
  for (const auto& one : cases) {
    auto request = push_of(root);
    one.spoil(request.blobs);

    const auto answer = serve(std::move(request));

    EXPECT_EQ(answer.kind, "bad_input") << one.says;
    EXPECT_NE(answer.what.find(one.says), std::string::npos) << answer.what;
    EXPECT_TRUE(registry_.seen.empty()) << one.says;
  }
  // One of a slipway before an upgrade has no list: that is not the job's fault.
  auto older = push_of(root);
  older.blobs.clear();
  EXPECT_EQ(serve(std::move(older)).kind, "unavailable");
  EXPECT_TRUE(registry_.seen.empty());
  EXPECT_TRUE(serve(push_of(root)).ok) << "the control";
}

TEST_F(Worker, PushesNoManifestOfAnotherSizeThanTheListSays) {
  const auto root = fakes::write_image(layout_, {100}, 64);
  auto request = push_of(root);
  ++request.blobs.back().size;

  const auto answer = serve(std::move(request));

  EXPECT_EQ(answer.kind, "bad_input");
  EXPECT_NE(answer.what.find("the list of what to push says"), std::string::npos) << answer.what;
  EXPECT_TRUE(registry_.manifests.empty());
}

TEST_F(Worker, SendsNeitherBytesNorCredentialToAnotherHost) {
  const auto root = fakes::write_image(layout_, {100}, 12);
  registry_.location_host = "evil.example";

  const auto answer = serve(push_of(root));

  EXPECT_EQ(answer.kind, "denied");
  EXPECT_NE(answer.what.find("evil.example"), std::string::npos) << answer.what;
  for (const auto& one : registry_.seen)
    EXPECT_EQ(one.url.find("evil.example"), std::string::npos);
}

TEST_F(Worker, SendsThePasswordToNoTokenServerButTheAllowedOnes) {
  const auto root = fakes::write_image(layout_, {100}, 13);
  for (const char* realm :
       {"https://evil.example/token", "http://reg.example/token",
        "https://reg.example@evil.example/token", "https://reg.example:8443/token",
        "https://reg.example\\@evil.example/", "ftp://reg.example/", ""}) {
    registry_.realm = "https://unused.example/";
    registry_.fault = [&](const http::Request&) -> std::optional<Result<http::Response>> {
      return FakeRegistry::status(
          401, {{"www-authenticate", std::string{"Bearer realm=\""} + realm + "\""}});
    };
    registry_.seen.clear();

    const auto answer = serve(push_of(root));

    EXPECT_FALSE(answer.ok) << realm;
    EXPECT_EQ(registry_.seen.size(), 1U) << realm;
    EXPECT_EQ(registry_.seen[0].authorization, "") << realm;
  }
}

TEST_F(Worker, AllowsAConfiguredTokenServerOnAnotherHost) {
  const auto root = fakes::write_image(layout_, {100}, 14);
  registry_.realm = "https://tokens.example/token";
  auto request = push_of(root);
  request.registry.realm_hosts = {"tokens.example"};

  EXPECT_TRUE(serve(std::move(request)).ok);
}

TEST_F(Worker, RefusesTokensAboveTheLimitForPushesOnly) {
  const auto root = fakes::write_image(layout_, {100}, 15);
  stock(root);
  registry_.token_seconds = 3600;

  const auto pushed = serve(push_of(root));
  const auto pulled = serve(pull_of("v1", layout_));

  EXPECT_EQ(pushed.kind, "denied");
  EXPECT_NE(pushed.what.find("3600 s"), std::string::npos) << pushed.what;
  EXPECT_TRUE(pulled.ok) << pulled.what;
}

TEST_F(Worker, PushesWithBasicOnlyWherePolicySaysSo) {
  const auto root = fakes::write_image(layout_, {100}, 16);
  registry_.basic_only = true;

  const auto refused = serve(push_of(root));
  auto request = push_of(root);
  request.registry.basic_auth = true;
  const auto pushed = serve(std::move(request));

  EXPECT_EQ(refused.kind, "denied");
  EXPECT_NE(refused.hint.find("basic_auth"), std::string::npos);
  EXPECT_TRUE(pushed.ok) << pushed.what;
  EXPECT_EQ(pushed.token_seconds, 0U);
}

TEST_F(Worker, MountsFromARepositoryThatHasTheLayer) {
  const auto root = fakes::write_image(layout_, {100}, 17);
  stock(root);
  registry_.repository_blobs["grp/base"] = registry_.repository_blobs["grp/app"];
  registry_.repository_blobs["grp/app"].clear();
  auto request = push_of(root);
  request.mount_from = {"grp/none", "grp/base"};

  const auto answer = serve(std::move(request));

  EXPECT_TRUE(answer.ok) << answer.what;
  EXPECT_EQ(answer.mounted_blobs, 2U);
  EXPECT_EQ(answer.uploaded_bytes, 0U);
  EXPECT_TRUE(registry_.uploads.empty()) << "sessions of mounts that failed were left behind";
}

TEST_F(Worker, UploadsWhereTheTokenServerGivesNothingForAForeignRepository) {
  const auto root = fakes::write_image(layout_, {100}, 19);
  int refused = 0;
  registry_.fault = [&](const http::Request& request) -> std::optional<Result<http::Response>> {
    if (request.url.target.find("/token?") == std::string::npos) return std::nullopt;
    if (request.url.target.find("base") == std::string::npos) return std::nullopt;
    ++refused;
    return fakes::FakeRegistry::status(403, {}, R"({"errors":[{"code":"DENIED"}]})");
  };
  auto request = push_of(root);
  request.mount_from = {"grp/base"};

  const auto answer = serve(std::move(request));

  EXPECT_TRUE(answer.ok) << answer.what;
  EXPECT_EQ(refused, 1);
  EXPECT_EQ(answer.mounted_blobs, 0U);
  EXPECT_GT(answer.uploaded_bytes, 0U);
}

TEST_F(Worker, NoticesARegistryThatStoresAnotherManifest) {
  const auto root = fakes::write_image(layout_, {100}, 18);
  registry_.fault = [&](const http::Request& request) -> std::optional<Result<http::Response>> {
    if (request.method == "PUT" && request.url.target.find("/manifests/") != std::string::npos) {
      return FakeRegistry::status(201, {{"docker-content-digest", oci::Digest::of("other").str()}});
    }
    return std::nullopt;
  };

  const auto answer = serve(push_of(root));

  EXPECT_FALSE(answer.ok);
  EXPECT_NE(answer.what.find("stored another manifest"), std::string::npos) << answer.what;
}

TEST_F(Worker, RefusesLayersThatChangedAfterTheScan) {
  const auto root = fakes::write_image(layout_, {5000}, 19);
  const auto tree = *oci::read_tree(layout_, root);
  const auto file = layout_.blob_path(tree.images[0].manifest.layers[0].digest);
  std::filesystem::permissions(file, std::filesystem::perms::owner_all);
  std::fstream{file, std::ios::in | std::ios::out}.seekp(100).write("evil", 4);

  const auto answer = serve(push_of(root));

  EXPECT_EQ(answer.kind, "bad_input");
  EXPECT_TRUE(registry_.manifests.empty());
}

TEST_F(Worker, KeepsSecretsOutOfErrors) {
  const auto root = fakes::write_image(layout_, {100}, 20);
  registry_.fault = [&](const http::Request& request) -> std::optional<Result<http::Response>> {
    if (request.url.target.rfind("/v2/", 0) == 0 && !request.authorization.empty()) {
      return FakeRegistry::status(
          403, {}, R"({"errors":[{"code":"DENIED","message":"bad \u001b[31m open-sesame"}]})");
    }
    return std::nullopt;
  };

  const auto answer = serve(push_of(root));

  EXPECT_EQ(answer.kind, "denied");
  EXPECT_NE(answer.what.find("DENIED: bad ?[31m [hidden]"), std::string::npos) << answer.what;
}

TEST_F(Worker, PullsAndFollowsRedirectsWithoutTheCredential) {
  const auto root = fakes::write_image(layout_, {50000}, 21);
  stock(root);
  registry_.storage_host = "storage.example";
  auto into = *oci::Layout::create(dir_.path() / "pulled");

  const auto answer = serve(pull_of("v1", into));

  ASSERT_TRUE(answer.ok) << answer.what;
  EXPECT_TRUE(oci::verify_tree(into, *oci::read_tree(into, root), 1UL << 20));
  for (const auto& one : registry_.seen) {
    if (one.url.find("storage.example") != std::string::npos) {
      EXPECT_EQ(one.authorization, "");
    }
  }
}

TEST_F(Worker, ResumesADownloadWithAndWithoutRanges) {
  const auto root = fakes::write_image(layout_, {50000}, 22);
  stock(root);
  for (const bool ignores_range : {false, true}) {
    registry_.ignores_range = ignores_range;
    registry_.cut_download_after = {100, 20000, 30000};
    auto into = *oci::Layout::create(dir_.path() / (ignores_range ? "whole" : "ranges"));

    const auto answer = serve(pull_of("v1", into));

    ASSERT_TRUE(answer.ok) << answer.what;
    EXPECT_TRUE(oci::verify_tree(into, *oci::read_tree(into, root), 1UL << 20));
  }
}

TEST_F(Worker, RefusesALyingRegistry) {
  const auto root = fakes::write_image(layout_, {5000}, 23);
  const auto other = fakes::write_image(layout_, {5000}, 24);
  stock(root);
  auto into = *oci::Layout::create(dir_.path() / "pulled");

  registry_.manifests["grp/app:" + root.str()].second = *layout_.read_blob(other, 1UL << 20);
  EXPECT_EQ(serve(pull_of(root.str(), into)).kind, "bad_input");

  stock(root);
  const auto layer = oci::read_tree(layout_, root)->images[0].manifest.layers[0].digest;
  for (const auto& lie : {std::string(5000, 'x'), std::string(6000, 'x')}) {
    registry_.blobs[layer.str()] = lie;
    const auto answer = serve(pull_of(root.str(), into));
    EXPECT_EQ(answer.kind, "bad_input") << answer.what;
    EXPECT_FALSE(into.has_blob(layer));
  }
}

TEST_F(Worker, ManifestOnlyFetchesNoLayer) {
  const auto root = fakes::write_image(layout_, {5000}, 25);
  stock(root);
  auto request = pull_of("v1", layout_);
  request.manifest_only = true;
  request.layout_dir = "";

  const auto answer = serve(std::move(request));

  ASSERT_TRUE(answer.ok) << answer.what;
  EXPECT_EQ(answer.digest, root.str());
  EXPECT_EQ(answer.platforms, std::vector<std::string>{"linux/amd64"});
  EXPECT_EQ(registry_.count("GET", "/blobs/"), 1U); // the config
}

TEST_F(Worker, WithoutLayersItFetchesTheConfigAndStillRefusesForeignOnes) {
  const auto root = fakes::write_image(layout_, {5000}, 25);
  stock(root);
  auto into = *oci::Layout::create(dir_.path() / "into");
  auto request = pull_of("v1", into);
  request.without_layers = true;
  ASSERT_TRUE(serve(std::move(request)).ok);
  EXPECT_EQ(registry_.count("GET", "/blobs/"), 1U); // the config

  auto& manifest = registry_.manifests["grp/app:v1"].second;
  const std::string size = "\"size\":5000";
  ASSERT_NE(manifest.find(size), std::string::npos) << manifest;
  manifest.insert(manifest.find(size) + size.size(), R"(,"urls":["https://elsewhere.example/x"])");
  for (const bool without_layers : {false, true}) {
    auto foreign = pull_of("v1", into);
    foreign.without_layers = without_layers;
    const auto answer = serve(std::move(foreign));
    EXPECT_EQ(answer.kind, "denied") << answer.what;
    EXPECT_NE(answer.what.find("lies on a foreign server"), std::string::npos) << answer.what;
  }
}

TEST_F(Worker, FetchesNoBlobWhereThereAreMoreBytesThanMayBe) {
  const auto root = fakes::write_image(layout_, {5000}, 25);
  stock(root);
  auto into = *oci::Layout::create(dir_.path() / "into");
  const auto tree = oci::read_tree(layout_, root);
  const auto& config = tree->images[0].manifest.config;
  auto request = pull_of("v1", into);
  request.max_bytes = 4999 + config.size;
  const auto refused = serve(std::move(request));
  EXPECT_EQ(refused.kind, "bad_input") << refused.what;
  EXPECT_EQ(registry_.count("GET", "/blobs/"), 0U);

  auto enough = pull_of("v1", into);
  enough.max_bytes = 5000 + config.size;
  EXPECT_TRUE(serve(std::move(enough)).ok);
}

TEST_F(Worker, RefusesNamesThatWouldChangeTheUrl) {
  for (const char* target : {"../../../token", "v1?x=y", "v1/..", ""}) {
    EXPECT_EQ(serve(pull_of(target, layout_)).kind, "bad_input") << target;
  }
  auto request = pull_of("v1", layout_);
  request.repository = "grp/../../token";
  EXPECT_EQ(serve(std::move(request)).kind, "bad_input");
  EXPECT_TRUE(registry_.seen.empty());
}

/// Answers every request alike.
class OneAnswer final : public http::Transport {
public:
  http::Response response;
  std::optional<Error> failure;
  std::size_t limit = 0;
  Result<http::Response> send(const http::Request& request) override {
    limit = request.response_limit;
    if (failure) return *failure;
    return response;
  }
};

TEST(FetchKeys, TakesTheBodyOfA200AndNothingElse) {
  OneAnswer server;
  const FixedClock clock{WallTime{}};
  process::LocalRunner runner;
  World world{server,
              [](const engine_api::IssuerSpec&) { return nullptr; },
              clock,
              runner,
              {},
              [](std::chrono::milliseconds) {},
              [](const std::string&) {},
              [](const engine_api::LeaseNote&) {},
              [] { return false; }};
  const auto fetch = [&](int status) {
    server.response.status = status;
    server.response.body = "{\"keys\":[]}";
    engine_api::WorkerRequest request;
    request.keys.emplace();
    request.keys->url = "https://gitlab.example/oauth/discovery/keys?x=1";
    request.keys->limit = 99;
    return push_worker::serve(std::move(request), world);
  };

  const auto fetched = fetch(200);
  EXPECT_TRUE(fetched.ok);
  EXPECT_EQ(fetched.body, "{\"keys\":[]}");
  EXPECT_EQ(server.limit, 99U);
  for (const int status : {204, 301, 302, 307, 401, 404})
    EXPECT_EQ(fetch(status).kind, "misconfigured") << status;
  for (const int status : {500, 503})
    EXPECT_EQ(fetch(status).kind, "unavailable") << status;
  EXPECT_EQ(fetch(302).body, "");
  EXPECT_EQ(fetch(302).what, "https://gitlab.example/oauth/discovery/keys answered 302");
  server.failure = Error{ErrorKind::timed_out, "too slow", "", {}};
  EXPECT_EQ(fetch(200).kind, "timed_out");
}

} // namespace
} // namespace slipway::push_worker
