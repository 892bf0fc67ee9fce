// SPDX-License-Identifier: Apache-2.0
#include "stages/image/build_secrets.hpp"
#include "stages/image/leak_scanner.hpp"
#include "tests/fakes/sample_image.hpp"

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

TEST(JobsLeakScanner, DeniesInALaterScriptWhatABuildWasLent) {
  const fakes::TempDir dir;
  auto layout = *oci::Layout::create(dir.path() / "layout");
  config::Config config;
  config.slipway.state_dir = dir.path();
  const SystemClock clock;
  const auto marks = dir.path() / "marks";
  const auto baked = *oci::read_tree(layout, image_with(layout, "T=Zq7-v4lue-Of-the-t0ken"));
  const auto clean = *oci::read_tree(layout, image_with(layout, "T=nothing"));

  JobsLeakScanner builds{config, config.gate, "", {}, clock, marks};
  builds.learn(known_secrets(lending("token", "Zq7-v4lue-Of-the-t0ken\n")));
  ASSERT_TRUE(builds.mark_leaks(layout, baked).ok());
  ASSERT_TRUE(builds.mark_leaks(layout, clean).ok());
  // Does not know the value.
  JobsLeakScanner later{config, config.gate, "", {}, clock, marks};

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

} // namespace
} // namespace slipway::image
