// SPDX-License-Identifier: Apache-2.0
#include "executor/oci/exported_image.hpp"

#include <gtest/gtest.h>

#include <stdlib.h>

#include <filesystem>
#include <string>

namespace slipway::oci {
namespace {

const std::string kBaseDiff = Digest::of("base, expanded").str();
const std::string kOwnDiff = Digest::of("own, expanded").str();

Descriptor layer(std::string_view bytes, const std::string& type) {
  return {type, Digest::of(bytes), bytes.size(), {}, {}, "", false};
}

std::string docker_config(const std::string& diff_ids, const std::string& more = "") {
  return R"({"created":"2026-01-02T03:04:05Z","container":"abc","parent":"sha256:x","docker_version":"","container_config":{"Cmd":["secret"]},"config":{"Hostname":"f41","Domainname":"","User":"u","AttachStdin":false,"Env":["A=b"],"Cmd":["/bin/sh","-c","x"],"Healthcheck":{"Test":["CMD-SHELL","true"]},"Image":"","Volumes":{},"WorkingDir":"","Entrypoint":[],"OnBuild":["RUN 2"],"Labels":{},"Shell":["/bin/sh","-e","-c"])" +
         more + R"(},"architecture":"amd64","os":"linux","rootfs":{"type":"layers","diff_ids":[)" +
         diff_ids + R"(]},"history":[{"created_by":"x","empty_layer":true}]})";
}

std::string exported(const std::vector<Descriptor>& layers) {
  std::string text =
      R"({"schemaVersion":2,"mediaType":"application/vnd.oci.image.manifest.v1+json","config":)" +
      to_json(layer("dropped", "application/vnd.oci.image.config.v1+json")) + R"(,"layers":[)";
  for (std::size_t i = 0; i < layers.size(); ++i)
    text += (i == 0 ? "" : ",") + to_json(layers[i]);
  return text + "]}";
}

constexpr const char* kGzip = "application/vnd.oci.image.layer.v1.tar+gzip";

TEST(ExportedConfig, KeepsWhatOciHasNoPlaceForAndDropsWhatDockerKeepsForItself) {
  const auto config = oci_config(docker_config("\"" + kOwnDiff + "\""));

  ASSERT_TRUE(config.ok()) << config.error().what;
  EXPECT_EQ(
      *config,
      R"({"created":"2026-01-02T03:04:05Z","architecture":"amd64","os":"linux","config":{"User":"u","Env":["A=b"],"Cmd":["/bin/sh","-c","x"],"Healthcheck":{"Test":["CMD-SHELL","true"]},"OnBuild":["RUN 2"],"Shell":["/bin/sh","-e","-c"]},"rootfs":{"type":"layers","diff_ids":[")" +
          kOwnDiff + R"("]},"history":[{"created_by":"x","empty_layer":true}]})");
}

TEST(ExportedConfig, IsReadStrictly) {
  EXPECT_TRUE(oci_config(docker_config("")).ok());
  EXPECT_FALSE(oci_config(docker_config("", R"(,"User":"other")")).ok());
  EXPECT_FALSE(oci_config(docker_config("", R"(,"user":"other")")).ok());
  EXPECT_FALSE(oci_config("[]").ok());
}

TEST(ExportedImage, StandsOnSlipwaysOwnLayers) {
  const BaseLayers known{
      {kBaseDiff, layer("base", "application/vnd.docker.image.rootfs.diff.tar.gzip")}};
  const auto config = docker_config("\"" + kBaseDiff + "\",\"" + kOwnDiff + "\"");

  // What the store says of the base's layer does not count.
  const auto made =
      convert_exported(config, exported({layer("forged", kGzip), layer("own", kGzip)}), known);

  ASSERT_TRUE(made.ok()) << made.error().what;
  ASSERT_EQ(made->from_bases.size(), 1U);
  EXPECT_EQ(made->from_bases[0].digest, Digest::of("base"));
  ASSERT_EQ(made->from_store.size(), 1U);
  EXPECT_EQ(made->from_store[0].digest, Digest::of("own"));
  const auto manifest = parse_manifest(made->manifest);
  ASSERT_TRUE(manifest.ok());
  const auto& image = std::get<Manifest>(*manifest);
  EXPECT_EQ(image.media_type, kMediaTypeOciManifest);
  EXPECT_EQ(image.config.digest, Digest::of(made->config));
  ASSERT_EQ(image.layers.size(), 2U);
  EXPECT_EQ(image.layers[0].digest, Digest::of("base"));
  EXPECT_EQ(image.layers[0].media_type, kGzip);
  EXPECT_EQ(image.layers[1].digest, Digest::of("own"));
}

TEST(ExportedImage, WithAnotherNumberOfLayersIsRefused) {
  const auto made = convert_exported(docker_config("\"" + kOwnDiff + "\""), exported({}), {});

  ASSERT_FALSE(made.ok());
  EXPECT_EQ(made.error().what, "the image has 0 layers and 1 diff ids");
}

TEST(ExportedImage, WithAnEmptyLayerFileIsRefused) {
  // A placeholder for a base's layer that the result does not stand on.
  const auto made =
      convert_exported(docker_config("\"" + kOwnDiff + "\""), exported({layer("", kGzip)}), {});

  ASSERT_FALSE(made.ok());
  EXPECT_EQ(made.error().kind, ErrorKind::bad_input);
}

TEST(ExportedImage, ThatIsAnIndexIsRefused) {
  const auto made =
      convert_exported(docker_config(""), R"({"schemaVersion":2,"manifests":[]})", {});

  ASSERT_FALSE(made.ok());
}

TEST(ExportedImage, IsTheOnlyOneOfItsExport) {
  const auto index_of = [](int images) {
    std::string text =
        R"({"schemaVersion":2,"mediaType":"application/vnd.oci.image.index.v1+json","manifests":[)";
    for (int i = 0; i < images; ++i)
      text += (i == 0 ? "" : ",") + to_json(layer("m", kMediaTypeOciManifest));
    return text + "]}";
  };
  EXPECT_EQ(*only_image(index_of(1)), Digest::of("m"));
  for (const auto& other : {index_of(0), index_of(2), exported({}), std::string{"{"}})
    EXPECT_EQ(only_image(other).error().kind, ErrorKind::bad_input) << other;
}

TEST(ExportedImage, LearnsTheLayersOfABase) {
  char name[] = "/tmp/slipway-image-XXXXXX";
  const std::filesystem::path dir = ::mkdtemp(name);
  auto layout = *Layout::create(dir);
  const auto config = docker_config("\"" + kBaseDiff + "\"");
  ASSERT_TRUE(layout.write_blob(config).ok());
  ASSERT_TRUE(layout.write_blob("base").ok());
  const auto config_descriptor = Descriptor{"application/vnd.oci.image.config.v1+json",
                                            Digest::of(config),
                                            config.size(),
                                            {},
                                            {},
                                            "",
                                            false};
  const auto manifest = layout.write_blob(
      R"({"schemaVersion":2,"mediaType":"application/vnd.oci.image.manifest.v1+json","config":)" +
      to_json(config_descriptor) + R"(,"layers":[)" + to_json(layer("base", kGzip)) + "]}");
  BaseLayers known;

  const auto learnt = learn_layers(layout, *manifest, known);

  EXPECT_TRUE(learnt.ok()) << learnt.error().what;
  ASSERT_EQ(known.size(), 1U);
  EXPECT_EQ(known.at(kBaseDiff).digest, Digest::of("base"));
  std::filesystem::remove_all(dir);
}

} // namespace
} // namespace slipway::oci
