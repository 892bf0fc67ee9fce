// SPDX-License-Identifier: Apache-2.0
// Attempts to get past the gate, in bytes. The scanner always says "clean", as Trivy does of each
// of these; so what denies is the gate. The control is the same image with the row allowed, or,
// where no operator can allow it, the same image without the trick. tests/component/executor/gate
// has those where the real scanner's behaviour is the point.
#include "tests/fakes/streams.hpp"
#include "tests/unit/executor/gate/gate_fixture.hpp"

#include <nlohmann/json.hpp>

namespace slipway::gate {
namespace {

constexpr const char* kGzip = "application/vnd.oci.image.layer.v1.tar+gzip";
constexpr const char* kZstd = "application/vnd.oci.image.layer.v1.tar+zstd";

class Bypass : public Gate {
protected:
  std::string tar_ = fakes::alpine_layer("3.3.2-r0");
  std::string id_ = oci::Digest::of(tar_).str();

  // Denied with this code and nothing else, and the scanner was not even asked.
  void expect_denied(const std::string& code) {
    scanner_.seen.clear();
    EXPECT_EQ(only_code(), code);
    EXPECT_TRUE(scanner_.seen.empty());
  }
  // The same with the row allowed: it passes.
  void expect_denied_unless_allowed(const std::string& code) {
    expect_denied(code);
    expect_passes_with(code);
  }
  void use(const std::vector<fakes::SampleLayer>& layers) {
    root_ = fakes::write_image_of(layout_, layers);
  }
  // The image of `use`, its manifest changed as text.
  void edit_manifest(const std::string& from, const std::string& to) {
    auto text = *layout_.read_blob(root_, oci::kMaxManifestBytes);
    text.replace(text.find(from), from.size(), to);
    root_ = *layout_.write_blob(text);
  }
  void expect_passes() {
    const auto judged = verdict();
    EXPECT_TRUE(judged.passed) << judged.for_people();
  }
};

TEST_F(Bypass, LazyPullingByAnnotation) {
  use({{fakes::gzip(tar_), id_, kGzip}});
  expect_passes();
  const auto end = "\"size\":" + std::to_string(fakes::gzip(tar_).size());
  edit_manifest(end,
                end + R"(,"annotations":{"containerd.io/snapshot/stargz/toc.digest":"sha256:0"})");
  expect_denied_unless_allowed("layer_lazy");
}
TEST_F(Bypass, LazyPullingByAnAnnotationOfTheImage) {
  use({{fakes::gzip(tar_), id_, kGzip}});
  expect_passes();
  edit_manifest("\"layers\":",
                R"("annotations":{"com.amazon.soci.index-digest":"sha256:0"},"layers":)");
  expect_denied_unless_allowed("layer_lazy");
}
TEST_F(Bypass, LazyPullingByAFooter) {
  use({{fakes::gzip(tar_) + fakes::stargz_footer(), id_, kGzip}});
  expect_denied("layer_lazy");
  // Both rows: it is lazy, and its footer is hidden.
  policy_.allowances = {allowance("layer_lazy"), allowance("layer_hidden_bytes")};
  expect_passes();
  EXPECT_EQ(verdict().allowed.size(), 2U);
  policy_.allowances.pop_back();
  EXPECT_EQ(only_code(), "layer_hidden_bytes");
}
TEST_F(Bypass, ZstdChunked) {
  use({{fakes::zstd(tar_) + fakes::chunked_footer(), id_, kZstd}});
  expect_denied("layer_lazy");
  // Both rows: it is lazy, and its footer is hidden.
  policy_.allowances = {allowance("layer_lazy"), allowance("layer_hidden_bytes")};
  expect_passes();
  use({{fakes::zstd(tar_), id_, kZstd}});
  expect_passes();
}
TEST_F(Bypass, BytesInASkippableFrame) {
  use({{fakes::zstd(tar_) + fakes::skippable_frame("payload"), id_, kZstd}});
  expect_denied_unless_allowed("layer_hidden_bytes");
}
TEST_F(Bypass, BytesInAGzipHeader) {
  use({{fakes::gzip(tar_, "", "payload"), id_, kGzip}});
  expect_denied_unless_allowed("layer_hidden_bytes");
}
TEST_F(Bypass, ASecondArchiveBehindTheFirst) {
  const auto evil = fakes::tar_of({{"bin/evil", "x"}});
  use({{fakes::gzip(tar_) + fakes::gzip(evil), oci::Digest::of(tar_ + evil).str(), kGzip}});
  expect_denied_unless_allowed("layer_hidden_bytes");
}
TEST_F(Bypass, BytesBehindTheStream) {
  use({{fakes::gzip(tar_) + "payload", id_, kGzip}});
  expect_denied("layer_hidden_bytes");
  // No allowance helps: nobody can say what this expands to.
  policy_.allowances = {allowance("layer_hidden_bytes")};
  EXPECT_FALSE(verdict().passed);
}
TEST_F(Bypass, ContentFromElsewhere) {
  use({{tar_, id_}});
  expect_passes();
  const auto size = "\"size\":" + std::to_string(tar_.size());
  edit_manifest(size, size + R"(,"urls":["https://elsewhere.example/layer"])");
  expect_denied("foreign_content");
}
TEST_F(Bypass, ALayerThatMustNotBeDistributed) {
  use({{tar_, id_, "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip"}});
  expect_denied("foreign_content");
}
TEST_F(Bypass, AnEncryptedLayer) {
  use({{tar_, id_, "application/vnd.oci.image.layer.v1.tar+encrypted"}});
  expect_denied("layer_encrypted");
}
TEST_F(Bypass, ALayerOfAnUnknownType) {
  use({{tar_, id_, "application/vnd.example.squashfs"}});
  expect_denied("layer_type_unknown");
}
TEST_F(Bypass, ALayerThatIsNotOfItsType) {
  use({{fakes::gzip(tar_), oci::Digest::of(fakes::gzip(tar_)).str()}});
  expect_denied("layer_type_false");
  use({{fakes::gzip(tar_), id_, kGzip}});
  expect_passes();
}
TEST_F(Bypass, ABomb) {
  const std::string zeros(8UL << 20, '\0');
  use({{fakes::gzip(zeros), oci::Digest::of(zeros).str(), kGzip}});
  expect_passes();
  policy_.max_layer_bytes = 1UL << 20;
  expect_denied("layer_too_large");
  policy_.max_layer_bytes = 1UL << 30;
  policy_.max_image_bytes = 1UL << 20;
  expect_denied("layer_too_large");
}
TEST_F(Bypass, AnotherLayerUnderAKnownDiffId) {
  use({{tar_, id_}, {fakes::gzip(fakes::tar_of({{"bin/evil", "x"}})), id_, kGzip}});
  expect_denied("diff_id_duplicate");
  use({{tar_, id_}, {tar_, id_}});
  expect_passes();
}
TEST_F(Bypass, ADiffIdOfAnInnocentLayer) {
  use({{tar_, oci::Digest::of("innocent").str()}});
  expect_denied("diff_id_false");
}
TEST_F(Bypass, MoreLayersThanDiffIds) {
  use({{tar_, id_}});
  const auto layer = fakes::blob_json("application/vnd.oci.image.layer.v1.tar",
                                      oci::Digest::of(tar_), tar_.size());
  edit_manifest("[" + layer, "[" + layer + "," + layer);
  expect_denied("diff_id_false");
}
TEST_F(Bypass, ABlobWithOtherBytes) {
  use({{tar_, id_}});
  expect_passes();
  auto changed = tar_;
  changed[600] = static_cast<char>(changed[600] ^ 1);
  ASSERT_TRUE(replace_file(layout_.blob_path(oci::Digest::of(tar_)), changed, 0444).ok());
  policy_.threshold = Severity::critical; // not the remembered verdict
  expect_denied("blob_mismatch");
}

// What two readers see in one document: the control is that a common reader takes it.
TEST_F(Bypass, AKeyThatStandsTwice) {
  use({{tar_, id_}});
  edit_manifest("\"schemaVersion\":2", R"("layers":[],"schemaVersion":2)");
  const auto text = *layout_.read_blob(root_, oci::kMaxManifestBytes);
  EXPECT_EQ(nlohmann::json::parse(text)["layers"].size(), 1U); // the last; others take the first
  expect_denied("json_ambiguous");
}
TEST_F(Bypass, AKeyInAnotherCase) {
  use({{tar_, id_}});
  edit_manifest("\"schemaVersion\":2", R"("LAYERS":[],"schemaVersion":2)");
  expect_denied("json_ambiguous");
}
TEST_F(Bypass, AKeyInAnotherCaseInTheConfig) {
  const std::string config =
      R"({"architecture":"amd64","os":"linux","rootfs":{"type":"layers","diff_ids":[],"Diff_IDs":[]}})";
  const auto digest = *layout_.write_blob(config);
  root_ = *layout_.write_blob(
      R"({"schemaVersion":2,"config":)" +
      fakes::blob_json("application/vnd.oci.image.config.v1+json", digest, config.size()) +
      R"(,"layers":[]})");
  expect_denied("json_ambiguous");
}
TEST_F(Bypass, AnImageThatIsAnIndexToo) {
  use({{tar_, id_}});
  edit_manifest("\"schemaVersion\":2", R"("manifests":[],"schemaVersion":2)");
  expect_denied("manifest_ambiguous");
}
TEST_F(Bypass, EmbeddedDataThatIsNotTheBlob) {
  use({{tar_, id_}});
  const auto size = "\"size\":" + std::to_string(tar_.size());
  edit_manifest(size, size + R"(,"data":"ZXZpbA==")");
  expect_denied("manifest_ambiguous");
}
TEST_F(Bypass, ADigestInUpperCase) {
  use({{tar_, id_}});
  auto upper = oci::Digest::of(tar_).hex();
  std::transform(upper.begin(), upper.end(), upper.begin(),
                 [](unsigned char c) { return static_cast<char>(std::toupper(c)); });
  edit_manifest(oci::Digest::of(tar_).hex(), upper);
  expect_denied("digest_not_canonical");
}

// Disguises: what is no attestation, and what is no image.
class Disguise : public Bypass {
protected:
  const std::string marks_ =
      R"(,"platform":{"os":"unknown","architecture":"unknown"},"annotations":{"vnd.docker.reference.type":"attestation-manifest"})";
  const std::string statement_ =
      R"({"_type":"https://in-toto.io/Statement/v1","subject":[],"predicate":{}})";

  // An index of the good image and a child with these marks.
  void use_beside_the_image(const oci::Digest& child, const std::string& marks) {
    const auto good = fakes::write_alpine(layout_, "3.3.3-r0");
    root_ = *layout_.write_blob(
        R"({"schemaVersion":2,"manifests":[)" +
        fakes::blob_json(oci::kMediaTypeOciManifest, good, *layout_.blob_size(good),
                         R"(,"platform":{"os":"linux","architecture":"amd64"})") +
        "," +
        fakes::blob_json(oci::kMediaTypeOciManifest, child, *layout_.blob_size(child), marks) +
        "]}");
  }
  const std::string of_another_ =
      fakes::blob_json(oci::kMediaTypeOciManifest, oci::Digest::of("another"), 7);
};

TEST_F(Disguise, ARealAttestationIsNotScanned) {
  use_beside_the_image(
      fakes::write_image_of(layout_, {{statement_, oci::Digest::of(statement_).str(),
                                       "application/vnd.in-toto+json"}}),
      marks_);
  expect_passes();
  EXPECT_EQ(scanner_.seen.size(), 1U);
}
TEST_F(Disguise, AnImageCalledAttestation) {
  use_beside_the_image(fakes::write_alpine(layout_, "3.3.2-r0"), marks_);
  expect_denied("attestation_disguise");
  // Without the name it is one more image, and is scanned.
  use_beside_the_image(fakes::write_alpine(layout_, "3.3.2-r0"),
                       R"(,"platform":{"os":"linux","architecture":"arm64"})");
  expect_passes();
  EXPECT_EQ(scanner_.seen.size(), 2U);
}
TEST_F(Disguise, AFileSystemCalledStatement) {
  use_beside_the_image(
      fakes::write_image_of(layout_, {{tar_, id_, "application/vnd.in-toto+json"}}), marks_);
  expect_denied("attestation_disguise");
}
TEST_F(Disguise, AStatementThatIsAFileSystemToo) {
  auto text = fakes::document_and_tar(R"("_type":"https://in-toto.io/Statement/v1",)");
  const auto use = [&] {
    use_beside_the_image(fakes::write_image_of(layout_, {{text, oci::Digest::of(text).str(),
                                                          "application/vnd.in-toto+json"}}),
                         marks_);
  };
  use();
  expect_denied("attestation_disguise");
  text[150] = text[150] == '7' ? '6' : '7'; // the control: another sum
  use();
  expect_passes();
}
TEST_F(Disguise, AnAttestationWithTheConfigOfAnImage) {
  use_beside_the_image(
      fakes::write_image_of(layout_, {{statement_, id_, "application/vnd.in-toto+json"}}), marks_);
  expect_denied("attestation_disguise");
}
TEST_F(Disguise, AnAttestationAloneIsNoImage) {
  const auto child = fakes::write_image_of(
      layout_, {{statement_, oci::Digest::of(statement_).str(), "application/vnd.in-toto+json"}});
  root_ = *layout_.write_blob(
      R"({"schemaVersion":2,"manifests":[)" +
      fakes::blob_json(oci::kMediaTypeOciManifest, child, *layout_.blob_size(child), marks_) +
      "]}");
  expect_denied("no_image");
}
TEST_F(Disguise, AnImageThatCallsItselfAnArtifact) {
  use({{tar_, id_}});
  edit_manifest("\"schemaVersion\":2",
                R"("artifactType":"application/vnd.example.sbom","schemaVersion":2)");
  expect_denied_unless_allowed("artifact_disguise");
}
TEST_F(Disguise, AnImageThatItsIndexCallsAnArtifact) {
  use_beside_the_image(fakes::write_alpine(layout_, "3.3.2-r0"),
                       R"(,"artifactType":"application/vnd.example.sbom")");
  expect_denied_unless_allowed("artifact_disguise");
}
// A registry would list it as belonging to another manifest, whoever pushed that.
TEST_F(Disguise, AnImageThatBelongsToAnotherManifest) {
  use({{tar_, id_}});
  edit_manifest("\"schemaVersion\":2", R"("subject":)" + of_another_ + R"(,"schemaVersion":2)");
  expect_denied_unless_allowed("artifact_disguise");
}
TEST_F(Disguise, AnIndexThatBelongsToAnotherManifest) {
  const auto image = fakes::write_alpine(layout_, "3.3.2-r0");
  const auto other = fakes::write_alpine(layout_, "3.3.3-r0", "arm64");
  root_ = fakes::write_index_of(layout_, image, other);
  expect_passes();
  root_ = fakes::write_index_of(layout_, image, other, "arm64", ",\"subject\":" + of_another_);
  expect_denied_unless_allowed("artifact_disguise");
  root_ = fakes::write_index_of(layout_, image, other, "arm64",
                                R"(,"artifactType":"application/vnd.example.sbom")");
  expect_denied_unless_allowed("artifact_disguise");
}
TEST_F(Disguise, AnArtifactIsNoImage) {
  use({{tar_, id_}});
  edit_manifest("application/vnd.oci.image.config.v1+json", "application/vnd.example.config+json");
  expect_denied("not_an_image");
}

// What the scanner passes in silence.
TEST_F(Bypass, AReleaseThatTheDatabaseDoesNotKnow) {
  parts_.os = R"({"Family":"alpine","Name":"3.99"})";
  diagnostics_ = "WARN This OS version is not on the EOL list family=\"alpine\" version=\"3.99\"\n";
  EXPECT_EQ(only_code(), "release_not_covered");
  expect_passes_with("release_not_covered");
}
TEST_F(Bypass, ADatabaseThatLacksTheDistribution) {
  write_db("2026-11-24T10:00:00Z", "2", fakes::bolt_file({"debian 12"}));
  EXPECT_EQ(only_code(), "release_not_covered");
  write_db("2026-11-24T10:00:00Z", "2", fakes::bolt_file({"debian 12"}, {"alpine 3.21"}));
  EXPECT_EQ(only_code(), "release_not_covered");
  expect_passes_with("release_not_covered");
  write_db("2026-11-24T10:00:00Z");
  expect_passes();
}
TEST_F(Bypass, ADatabaseThatIsNone) {
  write_db("2026-11-24T10:00:00Z", "2", "not a database");
  EXPECT_EQ(only_code(), "db_invalid");
  EXPECT_TRUE(verdict().could_not_judge());
}
TEST_F(Bypass, AReleaseOfRedHatWhoseProductsTheDatabaseDoesNotName) {
  parts_.os = R"({"Family":"redhat","Name":"9.3"})";
  EXPECT_EQ(only_code(), "release_not_covered");
  expect_passes_with("release_not_covered");
}
TEST_F(Bypass, AReleaseThatNobodyKnows) {
  parts_.os = R"({"Family":"opensuse","Name":"99"})"; // no bucket of the DB answers for it
  expect_passes();
  diagnostics_ = "WARN This OS version is not on the EOL list family=\"opensuse\" version=\"99\"\n";
  policy_.threshold = Severity::critical; // not the remembered verdict
  EXPECT_EQ(only_code(), "release_unknown");
  expect_passes_with("release_unknown");
}
// A release that is newer than the scanner, and that the DB knows, is no gap.
TEST_F(Bypass, AReleaseNewerThanTheScannerPassesWhereTheDatabaseKnowsIt) {
  diagnostics_ = "WARN This OS version is not on the EOL list family=\"alpine\" version=\"3.21\"\n";
  const auto judged = verdict();
  EXPECT_TRUE(judged.passed) << judged.for_people();
  EXPECT_EQ(judged.warnings.size(), 1U);
}
TEST_F(Bypass, RepositoriesOfAnotherRelease) {
  diagnostics_ =
      "WARN [alpine] Mixing Alpine versions is unsupported os=\"3.21\" repository=\"3.99\"\n";
  EXPECT_EQ(only_code(), "release_mixed");
  expect_passes_with("release_mixed");
}
TEST_F(Bypass, APackageThatTheScannerCannotRead) {
  for (const char* line :
       {"WARN [dpkg] Parse error file_path=\"var/lib/dpkg/status\" err=\"malformed\"\n",
        "WARN [dpkg] Invalid version OS=\"debian\" package=\"a\"\n",
        "WARN [apk] Invalid version found name=\"a\" version=\"x\"\n"}) {
    diagnostics_ = line;
    EXPECT_EQ(only_code(), "coverage_partial") << line;
  }
  expect_passes_with("coverage_partial");
  diagnostics_ = "WARN [dpkg] Parse error file_path=\"var/lib/dpkg/available\" err=\"malformed\"\n";
  policy_.threshold = Severity::critical; // not the remembered verdict
  EXPECT_TRUE(verdict().passed) << "of what could be installed";
}
TEST_F(Bypass, AFileThatIsAnSbomByNameAlone) {
  leaks_.named_as_sboms = [](const auto&) {
    return std::vector<std::string>{"server.cdx", "key.spdx"};
  };
  EXPECT_EQ(only_code(), "coverage_partial");
  EXPECT_NE(verdict().for_people().find("/server.cdx and at least 1 more are none"),
            std::string::npos);
  expect_passes_with("coverage_partial");
}
TEST_F(Bypass, LayersInWhichNobodyCouldLookForSuchFiles) {
  leaks_.named_as_sboms = [](const auto&) -> Result<std::vector<std::string>> {
    return Error{ErrorKind::bad_input, "no tar", "", {}};
  };
  EXPECT_EQ(only_code(), "coverage_partial");
  expect_passes_with("coverage_partial");
  leaks_.named_as_sboms = [](const auto&) -> Result<std::vector<std::string>> {
    return Error{ErrorKind::timed_out, "slipway-gate did not come to an end in time", "", {}};
  };
  policy_.threshold = Severity::critical; // not the remembered verdict
  EXPECT_FALSE(
      (TrivyGate{config_, scanner_, leaks_, clock_}.judge(layout_, root_, policy_, "").ok()))
      << "that is not the image's fault";
}
TEST_F(Bypass, NoSystemNoPackagesNoSupport) {
  for (const auto& [os, packages, code] :
       {std::tuple{"", "", "no_os"}, std::tuple{R"({"Family":"none"})", "", "no_os"},
        std::tuple{R"({"Family":"fedora","Name":"40"})", R"([{"Name":"a"}])", "os_unsupported"},
        std::tuple{R"({"Family":"bottlerocket","Name":"1.20"})", R"([{"Name":"a"}])",
                   "os_unsupported"},
        std::tuple{R"({"Family":"alpine","Name":"3.21"})", "[]", "no_packages"},
        std::tuple{R"({"Family":"alpine","Name":"3.21","EOSL":true})", R"([{"Name":"a"}])",
                   "os_end_of_life"}}) {
    parts_.os = os;
    parts_.packages = packages;
    EXPECT_EQ(only_code(), code);
    expect_passes_with(code);
    policy_.pass_lifetime += std::chrono::seconds{1}; // not the remembered verdict
  }
}

// Trivy looks for no secrets below a CMD of the history, and the image's author writes that.
TEST_F(Bypass, AHistoryThatHidesLayersFromTheSearchForSecrets) {
  const std::string history =
      R"("history":[{"created_by":"COPY key /"},{"created_by":"CMD [\"sh\"]","empty_layer":true},{"created_by":"/bin/sh -c #(nop)  CMD [\"x\"]","empty_layer":true},{"created_by":"COPY x /"}])";
  const std::string config =
      R"({"architecture":"amd64","os":"linux","rootfs":{"type":"layers","diff_ids":[")" + id_ +
      R"("]},)" + history + "}";
  const auto digest = *layout_.write_blob(config);
  use({{tar_, id_}});
  const auto text = *layout_.read_blob(root_, oci::kMaxManifestBytes);
  auto manifest = nlohmann::json::parse(text);
  manifest["config"]["digest"] = digest.str();
  manifest["config"]["size"] = config.size();
  root_ = *layout_.write_blob(manifest.dump());

  std::string shown;
  scanner_.answer = [&](const std::filesystem::path& dir,
                        const oci::Digest& scanned) -> Result<Scanner::Report> {
    const auto copy = oci::Layout::open(dir);
    const auto tree = oci::read_tree(*copy, scanned);
    shown = *copy->read_blob(tree->images.front().manifest.config.digest, oci::kMaxConfigBytes);
    return Scanner::Report{.json = report_for(dir, scanned), .diagnostics = ""};
  };
  expect_passes();
  EXPECT_NE(shown.find(R"(# CMD [)"), std::string::npos) << shown;
  EXPECT_NE(shown.find(R"(# /bin/sh -c #(nop)  CMD)"), std::string::npos) << shown;
  EXPECT_NE(shown.find("COPY key /"), std::string::npos);
  // The control: as the author wrote it.
  policy_.base_secrets = false;
  expect_passes();
  EXPECT_EQ(shown, config);
}

} // namespace
} // namespace slipway::gate
