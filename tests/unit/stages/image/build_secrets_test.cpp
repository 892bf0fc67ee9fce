// SPDX-License-Identifier: Apache-2.0
#include "stages/image/build_secrets.hpp"
#include "stages/image/leak_scanner.hpp"
#include "tests/fakes/alpine_image.hpp"
#include "tests/fakes/sample_image.hpp"
#include "tests/fakes/streams.hpp"

#include <gtest/gtest.h>

namespace slipway::image {
namespace {

broker::BuildRequest lending(const std::string& id, const std::string& value) {
  broker::BuildRequest request;
  request.secrets.emplace_back(id, Secret{value});
  return request;
}

TEST(SecretMask, HidesEachLineOfASecret) {
  const SecretMask mask{lending("npm", "first-line-of-it\r\nshort\nfirst-line-of-it-and-more\n")};

  EXPECT_EQ(mask.hide("#5 0.1 first-line-of-it-and-more, first-line-of-it. short\n"),
            "#5 0.1 [MASKED], [MASKED]. short\n");
  EXPECT_TRUE(SecretMask{broker::BuildRequest{}}.empty());
}

TEST(KnownSecrets, SearchForALineWholeAndForItsRandomWords) {
  auto request = lending("npmrc", "//packages.example/:_authToken=npm_9Xk2LmQ7rT4vW8zB3nP6\n");
  request.ssh_keys.emplace_back("default", Secret{"-----BEGIN OPENSSH PRIVATE KEY-----\n"
                                                  "b3BlbnNzaC1rZXktdjEAAAAABG5vbmUAAAAEbm9uZQ\n"
                                                  "-----END OPENSSH PRIVATE KEY-----\n"});

  const auto set = leaks::SecretSet::from(known_secrets(request), {});

  std::string parts;
  for (const auto& part : set.parts())
    parts += part.names.front() + ": " + std::string{part.value.reveal()} + "\n";
  EXPECT_NE(parts.find("build secret npmrc: //packages.example/:_authToken=npm_9X"),
            std::string::npos)
      << parts;
  EXPECT_NE(parts.find("SSH key default: b3BlbnNzaC1r"), std::string::npos) << parts;
}

oci::Digest image_with(oci::Layout& layout, const std::string& variable) {
  const std::string config = R"({"architecture":"amd64","os":"linux","config":{"Env":[")" +
                             variable + R"("]},"rootfs":{"type":"layers","diff_ids":[]}})";
  return *layout.write_blob(std::string{R"({"schemaVersion":2,"mediaType":")"} +
                            oci::kMediaTypeOciManifest + R"(","config":)" +
                            fakes::descriptor_json("application/vnd.oci.image.config.v1+json",
                                                   layout.write_blob(config)->str(),
                                                   config.size()) +
                            R"(,"layers":[]})");
}

class JobsLeakScannerTest : public testing::Test {
protected:
  JobsLeakScannerTest() { config.slipway.state_dir = dir.path(); }
  std::unique_ptr<gate_worker::ImageReader> reader() {
    return std::make_unique<gate_worker::ReadsHere>(clock);
  }
  JobsLeakScanner scanner() { return {config, config.gate, "", {}, reader(), marks}; }

  const fakes::TempDir dir;
  oci::Layout layout = *oci::Layout::create(dir.path() / "layout");
  config::Config config;
  const SystemClock clock;
  const std::filesystem::path marks = dir.path() / "leaking/domain";
};

TEST_F(JobsLeakScannerTest, DeniesInALaterScriptWhatABuildWasLent) {
  const auto baked = *oci::read_tree(layout, image_with(layout, "T=Zq7-v4lue-Of-the-t0ken"));
  const auto clean = *oci::read_tree(layout, image_with(layout, "T=nothing"));

  auto builds = scanner();
  EXPECT_FALSE(builds.has_lent());
  ASSERT_TRUE(builds.lend(known_secrets(lending("token", "Zq7-v4lue-Of-the-t0ken\n"))).ok());
  EXPECT_TRUE(builds.has_lent());
  EXPECT_TRUE(*builds.mark_leaks(layout, baked, {}));
  EXPECT_FALSE(*builds.mark_leaks(layout, clean, {}));
  // Does not know the value.
  auto later = scanner();

  for (JobsLeakScanner* scanner : {&builds, &later}) {
    const auto found = scanner->search(layout, baked);
    ASSERT_TRUE(found.ok()) << found.error().text();
    ASSERT_FALSE(found->denials.empty());
    EXPECT_EQ(found->denials.front().code, "secret_leaked");
    EXPECT_TRUE(found->denials.front().message.starts_with(
        "The value of build secret token is in the image (as it is): image config sha256:"))
        << found->denials.front().message;
    for (const auto& denial : found->denials)
      EXPECT_EQ(denial.message.find("Zq7-v4lue"), std::string::npos) << denial.message;
    const auto nothing = scanner->search(layout, clean);
    ASSERT_TRUE(nothing.ok());
    EXPECT_TRUE(nothing->denials.empty());
  }
}

TEST_F(JobsLeakScannerTest, KnowsALeakingLayerAgainUnderAnotherManifestAndUnpacked) {
  const std::string value = "Zq7-v4lue-Of-the-t0ken";
  const auto tar = fakes::tar_of({{"baked", value}});
  const auto diff_id = oci::Digest::of(tar).str();
  const auto image = [&](const std::string& bytes, const std::string& type) {
    return *oci::read_tree(layout, fakes::write_image_of(layout, {{bytes, diff_id, type}}));
  };
  auto builds = scanner();
  ASSERT_TRUE(builds.lend(known_secrets(lending("token", value))).ok());
  ASSERT_TRUE(*builds.mark_leaks(
      layout, image(fakes::gzip(tar), "application/vnd.oci.image.layer.v1.tar+gzip"), {}));

  auto later = scanner();
  const auto unpacked = later.search(layout, image(tar, "application/vnd.oci.image.layer.v1.tar"));

  ASSERT_TRUE(unpacked.ok());
  ASSERT_EQ(unpacked->denials.size(), 1U);
  EXPECT_EQ(unpacked->denials.front().code, "secret_leaked");
  // Where the operator exempts what the mark is about.
  auto section = config.gate;
  section.leak_exempt = {"build secret token"};
  JobsLeakScanner exempted{config, section, "", {}, reader(), marks};
  EXPECT_TRUE(exempted.search(layout, image(tar, "application/vnd.oci.image.layer.v1.tar"))
                  ->denials.empty());
  // The control: a scanner of another trust domain has no marks.
  JobsLeakScanner elsewhere{config, config.gate, "", {}, reader(), dir.path() / "leaking/other"};
  EXPECT_TRUE(elsewhere.search(layout, image(tar, "application/vnd.oci.image.layer.v1.tar"))
                  ->denials.empty());
}

TEST_F(JobsLeakScannerTest, MarksEveryLeakingBlobBeyondThoseThatAreShown) {
  const std::string value = "Zq7-v4lue-Of-the-t0ken";
  std::vector<fakes::SampleLayer> layers;
  for (std::size_t i = 0; i < leaks::kMaxHits + 5; ++i) {
    const auto tar = fakes::tar_of({{"f" + std::to_string(i), value}});
    layers.push_back({tar, oci::Digest::of(tar).str(), "application/vnd.oci.image.layer.v1.tar"});
  }
  const auto last = *oci::read_tree(layout, fakes::write_image_of(layout, {layers.back()}));
  auto builds = scanner();
  ASSERT_TRUE(builds.lend(known_secrets(lending("token", value))).ok());
  ASSERT_TRUE(*builds.mark_leaks(
      layout, *oci::read_tree(layout, fakes::write_image_of(layout, layers)), {}));

  auto later = scanner();

  EXPECT_FALSE(later.search(layout, last)->denials.empty());
}

// A base that happens to hold the value was in the registry before: the project could not push
// anything on it any more.
TEST_F(JobsLeakScannerTest, DoesNotMarkWhatCameFromARegistry) {
  const std::string value = "Zq7-v4lue-Of-the-t0ken";
  const auto base = *oci::read_tree(layout, image_with(layout, "T=" + value));
  auto builds = scanner();
  ASSERT_TRUE(builds.lend(known_secrets(lending("token", value))).ok());

  EXPECT_FALSE(*builds.mark_leaks(layout, base, leaks::keys_of(base)));

  EXPECT_FALSE(builds.search(layout, base)->denials.empty()) << "this script knows the value";
  EXPECT_TRUE(scanner().search(layout, base)->denials.empty());
}

TEST_F(JobsLeakScannerTest, TakesASecretOnceAndRefusesMoreThanItCanSearchFor) {
  auto builds = scanner();
  const std::string large(kMostLent / 2 - 100, 'q');
  for (int i = 0; i < 10; ++i)
    EXPECT_TRUE(builds.lend(known_secrets(lending("same", large))).ok()) << i;
  EXPECT_TRUE(builds.lend(known_secrets(lending("other", large))).ok());

  const auto refused = builds.lend(known_secrets(lending("third", large)));

  ASSERT_FALSE(refused.ok());
  EXPECT_EQ(refused.error().kind, ErrorKind::bad_input);
}

} // namespace
} // namespace slipway::image
