// SPDX-License-Identifier: Apache-2.0
#include "executor/base/base64.hpp"
#include "executor/base/file.hpp"
#include "executor/gate/database.hpp"
#include "executor/vulndb/package.hpp"
#include "executor/vulndb/update.hpp"
#include "tests/fakes/sample_image.hpp"
#include "tests/fakes/signing_key.hpp"
#include "tests/fakes/vulnerability_db.hpp"

#include <gtest/gtest.h>

#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <utility>

namespace slipway::vulndb {
namespace {

namespace fs = std::filesystem;
using fakes::advisory_db;
using fakes::db_metadata;
using fakes::write_bytes;

const std::map<std::string, int> kFull{{"alpine 3.21", 20}, {"debian 12", 20}, {"debian 13", 10}};
const std::string kDay1 = "2026-11-01T00:00:00Z";
const std::string kDay2 = "2026-11-02T00:00:00Z";
const std::string kDay3 = "2026-11-03T00:00:00Z";

class NotedAudit final : public audit::AuditLog {
public:
  std::vector<std::string> events;
  Result<std::string> append(const std::string& event, const Fields& fields) override {
    events.push_back(event + (fields.empty() ? "" : " " + fields.back().second));
    return std::string(64, '0');
  }
};

/// Registries as they keep what was put there.
class FakeMirror final : public Mirror {
public:
  struct Artifact {
    std::string manifest;
    std::vector<std::string> blobs;
  };
  std::map<std::string, Artifact> tags; ///< "registry/repository:tag"
  std::function<void()> before_pull = [] {};
  std::uint64_t asked_bytes = 0;

  Result<oci::Digest> pull(const oci::Reference& reference, const std::string& target,
                           oci::Layout* into, std::uint64_t max_bytes) override {
    if (into != nullptr) before_pull();
    for (const auto& [name, artifact] : tags) {
      const auto digest = oci::Digest::of(artifact.manifest);
      if (name != reference.name() + ":" + target &&
          !(name.starts_with(reference.name() + ":") && digest.str() == target))
        continue;
      if (into == nullptr) return digest;
      asked_bytes = std::max(asked_bytes, max_bytes);
      for (const auto& blob : artifact.blobs)
        (void)into->write_blob(blob).value();
      return into->write_blob(artifact.manifest);
    }
    return Error{ErrorKind::not_found, "there is no " + reference.name() + ":" + target, "", {}};
  }

  static Artifact artifact_of(const std::string& archive,
                              const std::string& type = kAdvisories.layer_type) {
    const std::string config = "{}";
    return {
        R"({"schemaVersion":2,"config":)" +
            fakes::descriptor_json("application/vnd.aquasec.trivy.config.v1+json",
                                   oci::Digest::of(config).str(), config.size()) +
            R"(,"layers":[)" +
            fakes::descriptor_json(type.c_str(), oci::Digest::of(archive).str(), archive.size()) +
            "]}",
        {config, archive}};
  }
  static Artifact signature_of(const std::string& payload, const std::string& signature) {
    const std::string config = "{}";
    return {R"({"schemaVersion":2,"config":)" +
                fakes::descriptor_json("application/vnd.oci.image.config.v1+json",
                                       oci::Digest::of(config).str(), config.size()) +
                R"(,"layers":[)" +
                fakes::descriptor_json("application/vnd.dev.cosign.simplesigning.v1+json",
                                       oci::Digest::of(payload).str(), payload.size(),
                                       R"(,"annotations":{"dev.cosignproject.cosign/signature":")" +
                                           base64(signature) + R"("})") +
                "]}",
            {config, payload}};
  }
};

std::string payload_on(const std::string& digest) {
  return R"({"critical":{"identity":{"docker-reference":"reg/db"},"image":{"docker-manifest-digest":")" +
         digest + R"("},"type":"cosign container image signature"},"optional":null})";
}

class Update : public testing::Test {
protected:
  void SetUp() override {
    write_bytes(key_file_, key_.public_pem());
    rules_.key = load_key(key_file_).value();
  }
  /// An archive that the operator signed.
  fs::path signed_archive(const std::string& updated_at,
                          const std::map<std::string, int>& counts = kFull,
                          const std::string& name = "db.tar.gz") {
    const auto file = dir_.path() / "in" / name;
    fakes::write_tar_gz(
        file, {{"trivy.db", advisory_db(counts)}, {"metadata.json", db_metadata(updated_at)}});
    sign(file);
    return file;
  }
  void sign(const fs::path& file, const Kind& kind = kAdvisories) {
    write_bytes(file.string() + ".sig", key_.sign(statement(kind, digest_of(kind, file).value())));
  }
  Result<Outcome> update(const std::vector<Source>& sources) {
    return vulndb::update(store_, sources, rules_, mirror_, audit_, clock_);
  }
  Result<Outcome> update_from(const fs::path& file) { return update({Source{file}}); }
  void expect_refused(const fs::path& file, const std::string& words) {
    const auto before = store_.current();
    const auto done = update_from(file);
    ASSERT_FALSE(done.ok());
    EXPECT_EQ(done.error().kind, ErrorKind::denied) << done.error().text();
    EXPECT_NE(done.error().text().find(words), std::string::npos) << done.error().text();
    const auto after = store_.current();
    ASSERT_EQ(before.ok(), after.ok());
    if (before) {
      EXPECT_EQ(before->sha256, after->sha256);
    }
    EXPECT_FALSE(audit_.events.empty());
    EXPECT_TRUE(audit_.events.back().starts_with("db_refused")) << audit_.events.back();
  }
  static oci::Reference ref(const std::string& text) { return oci::Reference::parse(text).value(); }
  /// The same with [db] key_file off, where whoever has two places vouches for it.
  bool is_taken_without_the_key(const fs::path& file) {
    const auto copy = dir_.path() / "elsewhere" / file.filename();
    fs::create_directories(copy.parent_path());
    fs::copy_file(file, copy);
    rules_.key.reset();
    const auto done = update({file, copy});
    return done.ok() && done->changed;
  }
  std::string archive_bytes(const std::string& updated_at) {
    return read_file(signed_archive(updated_at, kFull, "bytes.tar.gz"), 1UL << 20).value();
  }

  fakes::TempDir dir_;
  fakes::SigningKey key_ = fakes::SigningKey::ed25519();
  fs::path key_file_ = dir_.path() / "key.pem";
  fs::path db_dir_ = dir_.path() / "state" / "trivy-db";
  fs::path versions_ = dir_.path() / "state" / "trivy-db.versions";
  Store store_{kAdvisories, db_dir_};
  Rules rules_;
  FakeMirror mirror_;
  NotedAudit audit_;
  FixedClock clock_{std::chrono::sys_days{std::chrono::year{2026} / 11 / 3}};
};

TEST_F(Update, TakesASignedArchive) {
  const auto done = update_from(signed_archive(kDay1));

  ASSERT_TRUE(done.ok()) << done.error().text();
  EXPECT_TRUE(done->changed);
  EXPECT_EQ(rfc3339(gate::read_database(db_dir_)->updated_at), kDay1);
  EXPECT_TRUE(*gate::has_advisories(db_dir_, "debian 12"));
  const auto facts = store_.current();
  ASSERT_TRUE(facts.ok());
  EXPECT_EQ(facts->advisories,
            (std::map<std::string, std::uint64_t>{{"alpine", 20}, {"debian", 30}}));
  EXPECT_EQ(facts->accepted, "signed with [db] key_file");
  EXPECT_EQ(facts->digest, digest_of(kAdvisories, dir_.path() / "in/db.tar.gz")->str());
  EXPECT_EQ(fs::status(db_dir_ / "trivy.db").permissions(), fs::perms{0444});
  ASSERT_EQ(audit_.events.size(), 1U);
  EXPECT_EQ(audit_.events[0], "db_update 50");
}
/// A DB of Java archives as its header has it: `pages` of 4 KiB, of which nothing but the first
/// says anything.
std::string java_db(unsigned pages) {
  std::string file(std::size_t{pages} * 4096, '\0');
  file.replace(0, 16, "SQLite format 3\0", 16);
  file[16] = 0x10; // of the page size
  file[18] = 1;
  file[31] = static_cast<char>(pages);
  const std::string index = "CREATE UNIQUE INDEX indices_sha1_idx ON indices(sha1)";
  return file.replace(3000, index.size(), index);
}
class JavaUpdate : public Update {
protected:
  fs::path signed_folder(const std::string& updated_at, unsigned pages) {
    const auto folder = dir_.path() / "in" / ("java-" + updated_at.substr(0, 10));
    write_bytes(folder / "trivy-java.db", java_db(pages));
    write_bytes(folder / "metadata.json", db_metadata(updated_at, 1));
    sign(folder, kJavaArchives);
    return folder;
  }
  Result<Outcome> take(const fs::path& folder) {
    return vulndb::update(java_, {Source{folder}}, rules_, mirror_, audit_, clock_);
  }
  fs::path java_dir_ = dir_.path() / "state" / "trivy-java-db";
  Store java_{kJavaArchives, java_dir_};
};
TEST_F(JavaUpdate, IsTakenByTheSameRulesAndGoesBackToTheFormerOne) {
  ASSERT_TRUE(take(signed_folder(kDay1, 10)).ok());
  const auto newer = take(signed_folder(kDay2, 9));

  ASSERT_TRUE(newer.ok()) << newer.error().text();
  EXPECT_EQ(newer->facts.advisories, (std::map<std::string, std::uint64_t>{{"bytes", 9 * 4096}}));
  EXPECT_EQ(rfc3339(gate::read_java_database(java_dir_)->updated_at), kDay2);
  EXPECT_EQ(audit_.events.back(), "db_update " + std::to_string(9 * 4096));
  ASSERT_TRUE(java_.rollback().ok());
  EXPECT_EQ(rfc3339(java_.current()->updated_at), kDay1);
  EXPECT_NE(take(signed_folder(kDay2, 9)).error().hint.find("`slipway db rollback --java`"),
            std::string::npos);
  EXPECT_FALSE(store_.current().ok()); // of the other kind there is none
}
TEST_F(JavaUpdate, StaysOutWhereItIsOlderSmallerOrNone) {
  ASSERT_TRUE(take(signed_folder(kDay2, 10)).ok());

  EXPECT_NE(take(signed_folder(kDay1, 10)).error().text().find("older than the one in force"),
            std::string::npos);
  const auto smaller = signed_folder(kDay3, 7);
  EXPECT_NE(take(smaller).error().text().find("bytes: 40960 before, 28672 now"), std::string::npos);
  rules_.accepted_losses = {"bytes"};
  EXPECT_TRUE(take(smaller).ok());

  const auto torn = dir_.path() / "in" / "torn";
  write_bytes(torn / "trivy-java.db", java_db(10).substr(0, 30000));
  write_bytes(torn / "metadata.json", db_metadata(kDay3, 1));
  sign(torn, kJavaArchives);
  EXPECT_NE(take(torn).error().text().find("is not of the size that it names"), std::string::npos);
  EXPECT_EQ(java_.current()->advisories.at("bytes"), 7 * 4096U);
}
TEST_F(JavaUpdate, WantsASignatureThatSaysJava) {
  const auto folder = signed_folder(kDay1, 10);
  write_bytes(folder.string() + ".sig",
              key_.sign(statement(kAdvisories, digest_of(kJavaArchives, folder).value())));

  EXPECT_NE(take(folder).error().text().find("is no signature of"), std::string::npos);
  fs::remove(folder.string() + ".sig");
  EXPECT_NE(take(folder).error().hint.find("slipway db digest --java "), std::string::npos);
  // And neither kind is taken for the other.
  EXPECT_FALSE(take(signed_archive(kDay1)).ok());
  EXPECT_FALSE(update_from(signed_folder(kDay2, 10)).ok());
}

TEST_F(Update, TakesASignedFolderAndAKeyOfP256) {
  key_ = fakes::SigningKey::ec("P-256");
  write_bytes(key_file_, key_.public_pem());
  rules_.key = load_key(key_file_).value();
  const auto folder = dir_.path() / "in" / "folder";
  write_bytes(folder / "trivy.db", advisory_db(kFull));
  write_bytes(folder / "metadata.json", db_metadata(kDay1));
  sign(folder);

  const auto done = update_from(folder);
  ASSERT_TRUE(done.ok()) << done.error().text();

  // One other byte in either file, and it is another folder.
  write_bytes(folder / "metadata.json", db_metadata(kDay2));
  expect_refused(folder, "is no signature of");
}
TEST_F(Update, DoesNothingWhereTheSameIsInForce) {
  const auto file = signed_archive(kDay1);
  ASSERT_TRUE(update_from(file).ok());
  const auto link = fs::read_symlink(db_dir_);

  const auto again = update_from(file);

  ASSERT_TRUE(again.ok());
  EXPECT_FALSE(again->changed);
  EXPECT_EQ(fs::read_symlink(db_dir_), link);
}
TEST_F(Update, RefusesWhatTheOperatorDidNotSign) {
  const auto file = signed_archive(kDay1);
  const auto digest = digest_of(kAdvisories, file).value();
  const auto sig = fs::path{file.string() + ".sig"};
  const auto good = read_file(sig, 4096).value();

  fs::remove(sig);
  expect_refused(file, "is not signed");
  write_bytes(sig, fakes::SigningKey::ed25519().sign(statement(kAdvisories, digest)));
  expect_refused(file, "is no signature of");
  write_bytes(sig, key_.sign(statement(kAdvisories, oci::Digest::of("another"))));
  expect_refused(file, "is no signature of");
  write_bytes(sig, key_.sign(digest.str())); // signed for something else
  expect_refused(file, "is no signature of");
  write_bytes(sig, "");
  expect_refused(file, "is no signature of");

  write_bytes(sig, base64(good) + "\n"); // in base64 it is the same
  EXPECT_TRUE(update_from(file).ok());

  const auto unsigned_one = signed_archive(kDay2, kFull, "unsigned.tar.gz");
  fs::remove(unsigned_one.string() + ".sig");
  expect_refused(unsigned_one, "is not signed");
  EXPECT_TRUE(is_taken_without_the_key(unsigned_one));
}
TEST_F(Update, RefusesAnotherArchiveUnderTheSignature) {
  const auto file = signed_archive(kDay1);
  fakes::write_tar_gz(file, {{"trivy.db", advisory_db({{"alpine 3.21", 1}})},
                             {"metadata.json", db_metadata(kDay2)}});
  expect_refused(file, "is no signature of");
  EXPECT_TRUE(is_taken_without_the_key(file));
}
TEST_F(Update, TakesWhatTwoRegistriesAgreeOn) {
  rules_.key.reset();
  const auto one = ref("one.example/trivy-db:2");
  const auto two = ref("two.example/mirror/trivy-db:2");
  mirror_.tags[one.str()] = mirror_.tags[two.str()] = FakeMirror::artifact_of(archive_bytes(kDay1));

  const auto done = update({one, two});

  ASSERT_TRUE(done.ok()) << done.error().text();
  EXPECT_EQ(done->facts.accepted, one.str() + " and " + two.str() + " agree");
  EXPECT_EQ(mirror_.asked_bytes, rules_.max_bytes);
  EXPECT_TRUE(*gate::has_advisories(db_dir_, "alpine 3.21"));
}
TEST_F(Update, RefusesWhatOneRegistryAloneHas) {
  rules_.key.reset();
  const auto one = ref("one.example/trivy-db:2");
  const auto copy = ref("one.example/copy:2"); // whoever rules the registry rules both
  const auto two = ref("two.example/trivy-db:2");
  mirror_.tags[one.str()] = mirror_.tags[copy.str()] =
      FakeMirror::artifact_of(archive_bytes(kDay1));
  mirror_.tags[two.str()] = FakeMirror::artifact_of(archive_bytes(kDay2));

  for (const auto& sources : {std::vector<Source>{one}, std::vector<Source>{one, copy},
                              std::vector<Source>{one, two}, std::vector<Source>{one, one}}) {
    const auto done = update(sources);
    ASSERT_FALSE(done.ok());
    EXPECT_EQ(done.error().kind, ErrorKind::denied);
    EXPECT_NE(done.error().text().find("nobody vouches for"), std::string::npos);
  }
  EXPECT_FALSE(fs::exists(db_dir_));
}
TEST_F(Update, WithAKeyAgreementCountsForNothing) {
  const auto one = ref("one.example/trivy-db:2");
  const auto two = ref("two.example/trivy-db:2");
  mirror_.tags[one.str()] = mirror_.tags[two.str()] = FakeMirror::artifact_of(archive_bytes(kDay1));

  const auto done = update({one, two});

  ASSERT_FALSE(done.ok());
  EXPECT_NE(done.error().text().find("is not signed: there is no one.example/trivy-db:sha256-"),
            std::string::npos)
      << done.error().text();
  rules_.key.reset(); // the control
  EXPECT_TRUE(update({one, two})->changed);
}
TEST_F(Update, TakesASignatureThatLiesInTheRegistry) {
  const auto one = ref("one.example/trivy-db:2");
  const auto artifact = FakeMirror::artifact_of(archive_bytes(kDay1));
  const auto digest = oci::Digest::of(artifact.manifest);
  const auto payload = payload_on(digest.str());
  const auto tag = one.name() + ":sha256-" + digest.hex() + ".sig";
  mirror_.tags[one.str()] = artifact;

  const auto other = payload_on(oci::Digest::of("another").str());
  for (const auto& [name, signature] : std::vector<std::pair<std::string, FakeMirror::Artifact>>{
           {"of another key",
            FakeMirror::signature_of(payload, fakes::SigningKey::ed25519().sign(payload))},
           {"on another digest", FakeMirror::signature_of(other, key_.sign(other))},
           {"on another payload", FakeMirror::signature_of(payload, key_.sign(other))},
           {"on a statement",
            FakeMirror::signature_of(statement(kAdvisories, digest),
                                     key_.sign(statement(kAdvisories, digest)))}}) {
    mirror_.tags[tag] = signature;
    const auto refused = update({one});
    ASSERT_FALSE(refused.ok()) << name;
    EXPECT_EQ(refused.error().kind, ErrorKind::denied) << name;
  }

  mirror_.tags[tag] = FakeMirror::signature_of(payload, key_.sign(payload));
  const auto done = update({one});
  EXPECT_TRUE(done.ok()) << done.error().text();
}
TEST_F(Update, RefusesAnArtifactOfAnotherType) {
  rules_.key.reset();
  const auto one = ref("one.example/trivy-db:2");
  const auto two = ref("two.example/trivy-db:2");
  mirror_.tags[one.str()] = mirror_.tags[two.str()] =
      FakeMirror::artifact_of(archive_bytes(kDay1), "application/vnd.oci.image.layer.v1.tar+gzip");

  const auto done = update({one, two});

  ASSERT_FALSE(done.ok());
  EXPECT_NE(done.error().text().find("no artifact with one layer of the type"), std::string::npos);
}
TEST_F(Update, RefusesAnOlderOne) {
  ASSERT_TRUE(update_from(signed_archive(kDay2)).ok());
  expect_refused(signed_archive(kDay1, kFull, "older.tar.gz"), "older than the one in force");
  EXPECT_TRUE(update_from(signed_archive(kDay3, kFull, "newer.tar.gz"))->changed);
}
TEST_F(Update, RefusesOneFromTheFuture) {
  expect_refused(signed_archive("2026-11-05T00:00:00Z"), "which lies ahead");
}
TEST_F(Update, RefusesTheLossOfMoreThanAFifthOfASource) {
  ASSERT_TRUE(update_from(signed_archive(kDay1)).ok());
  auto poorer = kFull;
  poorer["alpine 3.21"] = 15; // of 20; of all it is a tenth
  expect_refused(signed_archive(kDay2, poorer, "poorer.tar.gz"), "alpine: 20 before, 15 now");
  poorer["alpine 3.21"] = 16; // a fifth
  EXPECT_TRUE(update_from(signed_archive(kDay2, poorer, "fifth.tar.gz"))->changed);

  poorer["alpine 3.21"] = 12;
  const auto again = signed_archive(kDay3, poorer, "again.tar.gz");
  expect_refused(again, "alpine: 16 before, 12 now");
  rules_.accepted_losses = {"alpine"}; // the control
  EXPECT_TRUE(update_from(again)->changed);
}
TEST_F(Update, RefusesTheLossOfASourceUnlessTheOperatorSaysSo) {
  ASSERT_TRUE(update_from(signed_archive(kDay1)).ok());
  auto without = kFull;
  without.erase("alpine 3.21");
  const auto file = signed_archive(kDay2, without, "without.tar.gz");
  expect_refused(file, "alpine: 20 before, 0 now; all: 50 before, 30 now");
  rules_.accepted_losses = {"debian"};
  expect_refused(file, "alpine: 20 before, 0 now");
  rules_.accepted_losses = {"alpine"};
  EXPECT_TRUE(update_from(file)->changed);
}
TEST_F(Update, RefusesAReleaseLessOnlyWhereItsSourceLosesMuch) {
  ASSERT_TRUE(update_from(signed_archive(kDay1, {{"debian 11", 4}, {"debian 12", 20}})).ok());
  EXPECT_TRUE(update_from(signed_archive(kDay2, {{"debian 12", 20}}, "b.tar.gz"))->changed);
}
TEST_F(Update, RefusesWhatIsNoDatabase) {
  const auto file = dir_.path() / "in/db.tar.gz";
  const auto db = advisory_db(kFull);
  auto circle = db;
  circle[4 * fakes::BoltBytes::kPage + 8] = 1; // a leaf that says it is a branch
  const auto refuses = [&](const fakes::Entries& files, const std::string& words) {
    fakes::write_tar_gz(file, files);
    sign(file);
    expect_refused(file, words);
  };
  const auto fresh = db_metadata(kDay1);
  refuses({{"trivy.db", db}, {"metadata.json", db_metadata(kDay1, 1)}}, "another schema than 2");
  refuses({{"trivy.db", db}, {"metadata.json", "{\"Version\":2}"}}, "no UpdatedAt");
  refuses({{"trivy.db", circle}, {"metadata.json", fresh}}, "reading ");
  refuses({{"trivy.db", db.substr(0, 5 * fakes::BoltBytes::kPage)}, {"metadata.json", fresh}},
          "outside of the file");
  refuses({{"trivy.db", "no db"}, {"metadata.json", fresh}}, "is no bbolt database");
  refuses({{"trivy.db", db}}, "it lacks trivy.db or metadata.json");
  refuses({{"trivy.db", db}, {"metadata.json", fresh}, {"../evil", "x"}}, "something else than");
  refuses({{"trivy.db>", "/etc/passwd"}, {"metadata.json", fresh}}, "something else than");
  refuses({{"trivy.db", db}, {"trivy.db", db}, {"metadata.json", fresh}}, "something else than");
  write_bytes(file, "no archive");
  sign(file);
  expect_refused(file, "it is no db.tar.gz");

  fakes::write_tar_gz(file, {{"./trivy.db", db}, {"./metadata.json", fresh}});
  sign(file);
  EXPECT_TRUE(update_from(file).ok());
}
TEST_F(Update, RefusesWhatIsTooLarge) {
  rules_.max_bytes = advisory_db(kFull).size();
  expect_refused(signed_archive(kDay1), "that [db] max_size allows");
  rules_.max_bytes += 1000;
  EXPECT_TRUE(update_from(signed_archive(kDay1)).ok());
}
TEST_F(Update, RefusesOneWithoutTheCanary) {
  rules_.canaries = {parse_canary("alpine 3.21/openssl/CVE-2026-1003").value()};
  const auto poor = signed_archive(kDay1, {{"alpine 3.21", 3}}, "a.tar.gz");
  expect_refused(poor, "alpine 3.21/openssl/CVE-2026-1003 is not in it");
  expect_refused(signed_archive(kDay1, {{"alpine 3.20", 9}}, "b.tar.gz"), "is not in it");
  const auto canaries = std::exchange(rules_.canaries, {}); // the control
  EXPECT_TRUE(update_from(poor)->changed);
  rules_.canaries = canaries;
  EXPECT_TRUE(update_from(signed_archive(kDay1, {{"alpine 3.21", 4}}, "c.tar.gz")).ok());
}
TEST_F(Update, GoesOnWithoutASourceThatDoesNotAnswer) {
  const auto gone = ref("gone.example/trivy-db:2");

  const auto done = update({gone, signed_archive(kDay1)});
  ASSERT_TRUE(done.ok()) << done.error().text();
  ASSERT_EQ(done->notes.size(), 1U);
  EXPECT_NE(done->notes[0].find("gone.example"), std::string::npos);

  const auto none = update({gone});
  EXPECT_EQ(none.error().kind, ErrorKind::unavailable);
  EXPECT_EQ(update({}).error().kind, ErrorKind::misconfigured);
}
TEST_F(Update, AMirrorThatLagsBehindIsNoFailure) {
  const auto file = signed_archive(kDay2);
  ASSERT_TRUE(update_from(file).ok());
  const auto done = update({signed_archive(kDay1, kFull, "older.tar.gz"), file});
  ASSERT_TRUE(done.ok());
  EXPECT_FALSE(done->changed);
  EXPECT_EQ(done->notes.size(), 1U);
}
TEST_F(Update, TakesTheNextWhereTheFirstIsRefused) {
  const auto bad = signed_archive(kDay1, kFull, "bad.tar.gz");
  fs::remove(bad.string() + ".sig");
  const auto done = update({bad, signed_archive(kDay2)});
  ASSERT_TRUE(done.ok()) << done.error().text();
  EXPECT_EQ(rfc3339(done->facts.updated_at), kDay2);
  EXPECT_EQ(done->notes.size(), 1U);
}
TEST_F(Update, ReplacesOneThatWasPutThereByHandAndGoesBackToIt) {
  write_bytes(db_dir_ / "trivy.db", advisory_db(kFull));
  write_bytes(db_dir_ / "metadata.json", db_metadata(kDay1));
  ASSERT_TRUE(update_from(signed_archive(kDay2)).ok());
  EXPECT_TRUE(fs::is_symlink(db_dir_));
  EXPECT_EQ(rfc3339(gate::read_database(db_dir_)->updated_at), kDay2);

  ASSERT_TRUE(store_.rollback().ok());
  EXPECT_EQ(rfc3339(gate::read_database(db_dir_)->updated_at), kDay1);
  EXPECT_TRUE(store_.current()->source.empty());
}
TEST_F(Update, RollsBackAndDoesNotTakeTheSameAgain) {
  ASSERT_FALSE(store_.rollback().ok());
  ASSERT_TRUE(update_from(signed_archive(kDay1, kFull, "1.tar.gz")).ok());
  EXPECT_EQ(store_.rollback().error().kind, ErrorKind::not_found);
  clock_.advance(std::chrono::seconds{1});
  const auto second = signed_archive(kDay2, kFull, "2.tar.gz");
  ASSERT_TRUE(update_from(second).ok());

  EXPECT_EQ(rfc3339(store_.rollback()->updated_at), kDay1);
  expect_refused(second, "went back from");

  EXPECT_EQ(rfc3339(store_.rollback()->updated_at), kDay2); // and back
  clock_.advance(std::chrono::seconds{1});
  EXPECT_TRUE(update_from(signed_archive(kDay3, kFull, "3.tar.gz"))->changed);
}
TEST_F(Update, OneAtATime) {
  ASSERT_TRUE(fs::create_directories(db_dir_.parent_path()));
  auto held = store_.lock();
  ASSERT_TRUE(held.ok());
  const auto file = signed_archive(kDay1);
  EXPECT_EQ(update_from(file).error().kind, ErrorKind::unavailable);
  held->reset();
  EXPECT_TRUE(update_from(file).ok());
}
TEST_F(Update, KilledInTheMiddleLeavesTheOldOne) {
  ASSERT_TRUE(update_from(signed_archive(kDay1)).ok());
  rules_.key.reset();
  const auto one = ref("one.example/trivy-db:2");
  const auto two = ref("two.example/trivy-db:2");
  mirror_.tags[one.str()] = mirror_.tags[two.str()] = FakeMirror::artifact_of(archive_bytes(kDay2));
  const auto child = ::fork();
  if (child == 0) {
    mirror_.before_pull = [] { ::raise(SIGKILL); };
    (void)update({one, two}).ok();
    ::_exit(1);
  }
  int ending = 0;
  ASSERT_EQ(::waitpid(child, &ending, 0), child);
  ASSERT_TRUE(WIFSIGNALED(ending));
  const auto leftover = versions_ / (".new-" + std::to_string(child));
  EXPECT_TRUE(fs::exists(leftover));
  EXPECT_EQ(rfc3339(gate::read_database(db_dir_)->updated_at), kDay1);

  clock_.advance(std::chrono::seconds{1});
  const auto done = update({one, two});
  ASSERT_TRUE(done.ok()) << done.error().text();
  EXPECT_FALSE(fs::exists(leftover));
  EXPECT_EQ(rfc3339(gate::read_database(db_dir_)->updated_at), kDay2);
}
TEST_F(Update, KeepsTheDatabaseThatAGateJudgesWith) {
  ASSERT_TRUE(update_from(signed_archive(kDay1, kFull, "1.tar.gz")).ok());
  const auto first = gate::database_in_force(db_dir_);
  auto held = gate::hold_database(first);
  for (const auto* name : {"2.tar.gz", "3.tar.gz"}) {
    clock_.advance(std::chrono::seconds{1});
    ASSERT_TRUE(update_from(signed_archive(kDay2, kFull, name)).ok());
    write_bytes(dir_.path() / "in" / name, "");
  }
  EXPECT_NE(gate::database_in_force(db_dir_), first);
  EXPECT_TRUE(gate::read_database(first).ok());

  held.reset();
  clock_.advance(std::chrono::seconds{1});
  ASSERT_TRUE(update_from(signed_archive(kDay3, kFull, "4.tar.gz")).ok());
  EXPECT_FALSE(fs::exists(first));
}
TEST_F(Update, FactsOfAReplacedFileAreReadAnew) {
  ASSERT_TRUE(update_from(signed_archive(kDay1)).ok());
  fs::remove(db_dir_ / "trivy.db");
  write_bytes(db_dir_ / "trivy.db", advisory_db({{"alpine 3.21", 1}}));
  EXPECT_EQ(store_.current()->total(), 1U);
  EXPECT_TRUE(store_.current()->source.empty());
}

TEST(KeyFile, IsNamedWhereItCannotBeUsed) {
  const fakes::TempDir dir;
  const auto file = dir.path() / "key.pem";
  EXPECT_EQ(load_key(file).error().kind, ErrorKind::misconfigured);
  write_bytes(file, fakes::SigningKey::ed25519().private_pem());
  EXPECT_TRUE(load_key(file).error().what.starts_with("[db] key_file " + file.string() +
                                                      " holds a private key"));
}
TEST(Canary, IsReadWithSlashesInThePackage) {
  const auto canary = parse_canary("npm::GHSA/@scope/name/CVE-1");
  ASSERT_TRUE(canary.ok());
  EXPECT_EQ(canary->bucket, "npm::GHSA");
  EXPECT_EQ(canary->package, "@scope/name");
  EXPECT_EQ(canary->id, "CVE-1");
  for (const auto* text : {"", "a", "a/b", "/b/c", "a//c", "a/b/"})
    EXPECT_FALSE(parse_canary(text).ok()) << text;
}
TEST(Losses, CountMoreThanAFifth) {
  Facts before;
  Facts now;
  before.advisories = {{"a", 4}, {"b", 100}};
  now.advisories = {{"a", 3}, {"b", 200}, {"c", 1}};
  EXPECT_EQ(losses(before, now, {}), std::vector<std::string>{"a: 4 before, 3 now"});
  now.advisories = {{"a", 4}, {"b", 80}};
  EXPECT_TRUE(losses(before, now, {}).empty());
  now.advisories = {{"a", 4}, {"b", 79}};
  EXPECT_EQ(losses(before, now, {}).size(), 2U); // and of all
}
TEST(FactsFile, IsReadAsItWasWritten) {
  Facts facts;
  facts.updated_at = WallTime{std::chrono::seconds{1790000000}};
  facts.identity = "i";
  facts.sha256 = "sha256:1";
  facts.advisories = {{"alpine", 7}};
  facts.source = "s";
  const auto again = facts_from(to_json(facts));
  ASSERT_TRUE(again.has_value());
  EXPECT_EQ(again->updated_at, facts.updated_at);
  EXPECT_EQ(again->advisories, facts.advisories);
  for (const auto* text : {"", "[]", "{}", R"({"updated_at":1})"})
    EXPECT_FALSE(facts_from(text).has_value()) << text;
}

} // namespace
} // namespace slipway::vulndb
