// SPDX-License-Identifier: Apache-2.0
#include "executor/init/image_setup.hpp"
#include "executor/init/program.hpp"

#include <gtest/gtest.h>

#include <stdlib.h>

#include <fstream>

namespace slipway::init {
namespace {
namespace fs = std::filesystem;

constexpr const char* kShim = "/run/slipway/bin/slipway-shim";

class ImageSetup : public testing::Test {
protected:
  void SetUp() override {
    char name[] = "/tmp/slipway-image-XXXXXX";
    root = ::mkdtemp(name);
  }
  void TearDown() override { fs::remove_all(root); }
  void add(const std::string& path) const {
    fs::create_directories((root / path).parent_path());
    std::ofstream{root / path} << "original";
    fs::permissions(root / path, fs::perms::owner_all | fs::perms::others_exec);
  }
  bool is_shim(const std::string& path) const {
    std::error_code failed;
    return fs::read_symlink(root / path, failed) == kShim;
  }
  fs::path root;
};

TEST_F(ImageSetup, PutsTheShimInPlaceOfEveryDockerClient) {
  add("usr/bin/docker");
  add("usr/local/bin/docker");
  add("usr/libexec/docker/cli-plugins/docker-buildx");
  add("root/.docker/cli-plugins/docker-buildx");
  add("usr/libexec/docker/cli-plugins/docker-compose");
  add("usr/bin/skopeo");

  EXPECT_EQ(install_shim(root, kShim), 4);
  EXPECT_TRUE(is_shim("usr/bin/docker"));
  EXPECT_TRUE(is_shim("usr/local/bin/docker"));
  EXPECT_TRUE(is_shim("usr/libexec/docker/cli-plugins/docker-buildx"));
  EXPECT_TRUE(is_shim("root/.docker/cli-plugins/docker-buildx"));
  EXPECT_TRUE(fs::is_regular_file(root / "usr/libexec/docker/cli-plugins/docker-compose"));
  EXPECT_TRUE(fs::is_regular_file(root / "usr/bin/skopeo"));
  EXPECT_FALSE(fs::exists(root / "usr/bin/docker.slipway-new"));
}

TEST(Registries, AreReadFromAVariable) {
  const auto read = parse_registries("tls:reg.example:443 plain:other:5000 x y:z tls:a:b tls:c:0 ");
  ASSERT_EQ(read.size(), 2U);
  EXPECT_EQ(read[0].host, "reg.example");
  EXPECT_EQ(read[0].port, 443);
  EXPECT_FALSE(read[0].plain_http);
  EXPECT_TRUE(read[1].plain_http);
}

TEST_F(ImageSetup, LetsClientsTrustTheRegistryEndpointBesideWhatTheImageTrusts) {
  add("own/ca.pem");
  add("own/0123abcd.0");
  add("own/key.pem");
  add("etc/ssl/certs/ca-certificates.crt");
  add("etc/pki/tls/certs/ca-bundle.crt");
  add("etc/containers/certs.d/reg.example/slipway.crt");

  trust_registries(root, root / "own",
                   parse_registries("tls:reg.example:443 tls:two:5000 plain:three:5001"));

  const auto leads_to = [&](const std::string& place) {
    std::error_code failed;
    return fs::read_symlink(root / place, failed).filename().string();
  };
  for (const auto* certs : {"etc/ssl/certs/", "etc/pki/tls/certs/"}) {
    EXPECT_EQ(leads_to(std::string{certs} + "slipway-registry.pem"), "ca.pem");
    EXPECT_EQ(leads_to(std::string{certs} + "0123abcd.0"), "0123abcd.0");
  }
  for (const auto* place :
       {"etc/docker/certs.d/reg.example/", "etc/docker/certs.d/reg.example:443/",
        "etc/docker/certs.d/two:5000/", "etc/containers/certs.d/two:5000/"})
    EXPECT_EQ(leads_to(std::string{place} + "slipway.crt"), "ca.pem") << place;
  EXPECT_TRUE(fs::is_regular_file(
      fs::symlink_status(root / "etc/containers/certs.d/reg.example/slipway.crt")))
      << "the image's own stays";
  EXPECT_FALSE(fs::exists(root / "etc/docker/certs.d/three:5001"));
  EXPECT_EQ(fs::file_size(root / "etc/ssl/certs/ca-certificates.crt"), 8U) << "nothing is changed";
}

TEST_F(ImageSetup, TakesThePlaceOfOtherBuildToolsThatAreThere) {
  for (const auto* tool :
       {"usr/bin/podman", "usr/bin/buildah", "usr/local/bin/img", "usr/bin/buildctl",
        "usr/bin/buildctl-daemonless.sh", "kaniko/executor", "kaniko/warmer"})
    add(tool);

  EXPECT_EQ(install_shim(root, kShim), 7) << "six tools, and docker is added";
  for (const auto* tool : {"usr/bin/podman", "usr/bin/buildah", "usr/local/bin/img",
                           "usr/bin/buildctl", "usr/bin/buildctl-daemonless.sh", "kaniko/executor"})
    EXPECT_TRUE(is_shim(tool)) << tool;
  EXPECT_TRUE(fs::is_regular_file(root / "kaniko/warmer"));
}

TEST_F(ImageSetup, KeepsTheImagesOwnComposeBesideTheShim) {
  add("usr/bin/docker-compose");
  add("usr/local/libexec/docker/cli-plugins/docker-compose");
  fs::create_directories(root / "usr/local/bin");
  fs::create_symlink("../libexec/docker/cli-plugins/docker-compose",
                     root / "usr/local/bin/docker-compose");

  EXPECT_EQ(install_shim(root, kShim), 3) << "two, and docker is added";
  EXPECT_TRUE(is_shim("usr/bin/docker-compose") && is_shim("usr/local/bin/docker-compose"));
  EXPECT_TRUE(fs::is_regular_file(root / "usr/bin/.docker-compose.image"));
  EXPECT_TRUE(fs::equivalent(root / "usr/local/bin/.docker-compose.image",
                             root / "usr/local/libexec/docker/cli-plugins/docker-compose"));

  install_shim(root, kShim);
  EXPECT_TRUE(fs::is_regular_file(root / "usr/bin/.docker-compose.image"))
      << "a second start does not take the link for the image's own";
}

TEST_F(ImageSetup, InventsNoToolThatTheImageLacks) {
  add("usr/bin/podman");

  install_shim(root, kShim);

  for (const auto* tool :
       {"usr/bin/buildah", "usr/local/bin/podman", "usr/bin/img", "usr/bin/buildctl",
        "usr/bin/docker-compose", "kaniko/executor", "kaniko"})
    EXPECT_FALSE(fs::exists(fs::symlink_status(root / tool))) << tool;
}

TEST_F(ImageSetup, AddsDockerWhereTheImageHasNone) {
  fs::create_directories(root / "usr/bin");

  EXPECT_EQ(install_shim(root, kShim), 1);
  EXPECT_TRUE(is_shim("usr/bin/docker"));
  EXPECT_EQ(install_shim(root, kShim), 1) << "a second start finds its own link";
}

TEST_F(ImageSetup, AddsDockerToAnEmptyImage) {
  EXPECT_EQ(install_shim(root, kShim), 1);
  EXPECT_TRUE(is_shim("usr/local/bin/docker"));
}

TEST_F(ImageSetup, LeavesAFolderOfThatNameAlone) {
  fs::create_directories(root / "usr/bin/docker");
  fs::create_directories(root / "usr/local/bin");

  EXPECT_EQ(install_shim(root, kShim), 1);
  EXPECT_TRUE(fs::is_directory(root / "usr/bin/docker"));
  EXPECT_TRUE(is_shim("usr/local/bin/docker"));
}

TEST_F(ImageSetup, LooksIntoTheFoldersOfTheImagesOwnPath) {
  add("opt/docker/bin/docker");
  add("opt/docker/bin/buildah");
  add("elsewhere/docker");
  fs::create_directories(root / "usr/local/bin");

  EXPECT_EQ(install_shim(root, kShim, {"/usr/bin:/opt/x/../docker/bin/:elsewhere:", ""}), 2);
  EXPECT_TRUE(is_shim("opt/docker/bin/docker"));
  EXPECT_TRUE(is_shim("opt/docker/bin/buildah"));
  EXPECT_TRUE(fs::is_regular_file(root / "elsewhere/docker")) << "a relative folder is nobody's";
  EXPECT_FALSE(fs::exists(fs::symlink_status(root / "usr/local/bin/docker")));
}

TEST_F(ImageSetup, FindsThePluginsInTheHomesOfTheImagesUsers) {
  add("home/ci/.docker/cli-plugins/docker-buildx");
  add("srv/build/.docker/cli-plugins/docker-buildx");
  add("home/ci/.docker/cli-plugins/docker-compose");
  fs::create_directories(root / "etc");
  std::ofstream{root / "etc/passwd"} << "root:x:0:0:root:/root:/bin/sh\nbroken\n"
                                        "ci:x:1000:1000::/home/ci:/bin/sh\n";

  EXPECT_EQ(install_shim(root, kShim, {"", "/srv/build"}), 3);
  EXPECT_TRUE(is_shim("home/ci/.docker/cli-plugins/docker-buildx"));
  EXPECT_TRUE(is_shim("srv/build/.docker/cli-plugins/docker-buildx"));
  EXPECT_TRUE(fs::is_regular_file(root / "home/ci/.docker/cli-plugins/docker-compose"));
}

TEST_F(ImageSetup, AddsDockerWhereTheImageLooksForPrograms) {
  fs::create_directories(root / "usr/local/bin");
  fs::create_directories(root / "tools/bin");

  EXPECT_EQ(install_shim(root, kShim, {"/nowhere:/tools/bin", ""}), 1);
  EXPECT_TRUE(is_shim("tools/bin/docker"));
}

TEST_F(ImageSetup, LooksNeitherIntoSlipwaysFoldersNorIntoEndlessOnes) {
  add("run/slipway/bin/docker");
  add("last/docker");
  std::string path = "/run/slipway/bin:/usr/../run/slipway/bin";
  for (std::size_t i = 0; i < kMostFolders; ++i)
    path += ":/folder" + std::to_string(i);
  fs::create_directories(root / "usr/bin");

  EXPECT_EQ(install_shim(root, kShim, {path + ":/last", ""}), 1);
  EXPECT_TRUE(fs::is_regular_file(root / "run/slipway/bin/docker"));
  EXPECT_TRUE(fs::is_regular_file(root / "last/docker"));
  EXPECT_TRUE(is_shim("usr/bin/docker"));
}

TEST_F(ImageSetup, LinksTheDockerSocketUnlessTheImageBringsOne) {
  add("run/docker.sock");

  link_docker_socket(root, "/run/slipway/sock/docker.sock");

  EXPECT_TRUE(fs::is_regular_file(root / "run/docker.sock"));
  EXPECT_EQ(fs::read_symlink(root / "var/run/docker.sock"), "/run/slipway/sock/docker.sock");
}

TEST_F(ImageSetup, FindsTheShellsOfTheImageInOrder) {
  EXPECT_EQ(find_shell("bash", root), "");
  add("busybox/sh");
  EXPECT_EQ(find_shell("bash", root), "/busybox/sh");
  add("bin/sh");
  EXPECT_EQ(find_shell("bash", root), "/bin/sh");
  add("bin/bash");
  EXPECT_EQ(find_shell("bash", root), "/bin/bash");
  EXPECT_EQ(find_shell("sh", root), "/bin/sh");
  fs::permissions(root / "bin/bash", fs::perms::owner_read);
  EXPECT_EQ(find_shell("bash", root), "/bin/sh") << "what cannot run is no shell";
}

} // namespace
} // namespace slipway::init
