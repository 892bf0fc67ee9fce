// SPDX-License-Identifier: Apache-2.0
#include "executor/gate_worker/package_history.hpp"
#include "tests/fakes/alpine_image.hpp"
#include "tests/fakes/packed.hpp"
#include "tests/unit/executor/gate_worker/layers.hpp"

#include <gtest/gtest.h>

#include <cstdio>

namespace slipway::gate_worker {
namespace {

std::string dpkg(const std::string& version,
                 const std::string& maintainer = "Debian <a@debian.org>",
                 const std::string& more = "") {
  return "Package: libssl3\nStatus: install ok installed\nArchitecture: amd64\nMaintainer: " +
         maintainer + "\nVersion: " + version + "\nDescription: SSL\n more of it\n\n" + more;
}

class PackageHistory : public testing::Test {
protected:
  Result<std::vector<oci::PackageChange>> of(const std::vector<std::vector<Item>>& layers) {
    fakes::PackedImage image;
    const char* packings[] = {"gzip", "", "zstd"};
    for (const auto& items : layers)
      image.layers.push_back({layer(items), packings[image.layers.size() % 3]});
    return package_changes(layout_, image.write(layout_), 16UL << 20);
  }
  /// "NAME OLD NEW" of packages without files, "NAME by OLD, NEW" of other maintainers.
  std::string said(const std::vector<std::vector<Item>>& layers) {
    const auto changes = of(layers);
    if (!changes) return changes.error().text();
    std::string all;
    for (const auto& one : *changes) {
      if (!one.has_files) all += one.name + " " + one.old_version + " " + one.new_version + "\n";
      if (one.old_maintainer != one.new_maintainer)
        all += one.name + " by " + one.old_maintainer + ", " + one.new_maintainer + "\n";
    }
    return all;
  }
  std::vector<Item> base(const std::string& library = "usr/lib/x/libssl.so.3") const {
    return {{"var/lib/dpkg/status", 'f', dpkg("1")},
            {"var/lib/dpkg/info/libssl3:amd64.list", 'f',
             "/.\n/usr\n/usr/lib/x\n/usr/lib/x/libssl.so.3\n/usr/share/doc/libssl3/copyright\n"},
            {library, 'f', "one"},
            {"usr/share/doc/libssl3/copyright", 'f', "c"}};
  }

  const fakes::TempDir dir_;
  oci::Layout layout_ = *oci::Layout::create(dir_.path() / "layout");
};

TEST_F(PackageHistory, AVersionThatComesWithoutFilesIsTold) {
  EXPECT_EQ(said({base(), {{"var/lib/dpkg/status", 'f', dpkg("2")}}}), "libssl3 1 2\n");
  // The control: an upgrade.
  EXPECT_EQ(
      said({base(),
            {{"var/lib/dpkg/status", 'f', dpkg("2")}, {"usr/lib/x/libssl.so.3", 'f', "two"}}}),
      "");
}
TEST_F(PackageHistory, AnyFileCountsThatCameSinceTheOldVersion) {
  const std::vector<Item> database{{"var/lib/dpkg/status", 'f', dpkg("2")}};
  const std::vector<Item> files{{"usr/lib/x/libssl.so.3", 'f', "two"}};
  EXPECT_EQ(said({base(), database, files}), "");
  EXPECT_EQ(said({base(), files, database}), "") << "as COPY --from=build /usr, then /var has it";
  auto third = dpkg("3");
  EXPECT_EQ(said({base(), files, database, {{"var/lib/dpkg/status", 'f', third}}}),
            "libssl3 2 3\n");
}
TEST_F(PackageHistory, TheListThatComesWithAVersionIsAFile) {
  // Of a package that has configuration alone, which an upgrade leaves as it is.
  EXPECT_EQ(said({base(),
                  {{"var/lib/dpkg/status", 'f', dpkg("2")},
                   {"var/lib/dpkg/info/libssl3:amd64.list", 'f', "/usr\n"}}}),
            "");
}
TEST_F(PackageHistory, AParagraphIsReadAsTheScannerReadsIt) {
  const auto forged = [&](const std::string& paragraph) {
    return said({base(), {{"var/lib/dpkg/status", 'f', paragraph + "\n"}}});
  };
  const std::string begin =
      "Package: libssl3\nArchitecture: amd64\nMaintainer: Debian <a@debian.org>\n";
  EXPECT_EQ(forged(begin + "Status: install ok unpacked\nVersion: 2\n"), "libssl3 1 2\n");
  EXPECT_EQ(forged(begin + "Version: 2\nVersion: 1\n"), "libssl3 1 2\n");
  EXPECT_EQ(forged("package: libssl3\nVERSION: 2\nMaintainer: Debian <a@debian.org>\n"),
            "libssl3 1 2\n");
  EXPECT_EQ(forged("Package:\n libssl3\nVersion:\n\t2\nMaintainer: Debian <a@debian.org>\n"),
            "libssl3 1 2\n");
  EXPECT_EQ(
      forged(
          "Package: libssl3\nArchitecture: all\nVersion: 2\nMaintainer: Debian <a@debian.org>\n"),
      "libssl3 1 2\n");
  EXPECT_EQ(forged(begin + "Source: other (9)\nVersion: 1\n"), "libssl3 1 1 of other (9)\n");
  EXPECT_EQ(forged(begin + "Status: deinstall ok config-files\nVersion: 2\n"), "");
}
TEST_F(PackageHistory, ARootInsideTheImageIsAnother) {
  const std::vector<Item> lower{
      {"lib/apk/db/installed", 'f', "P:musl\nV:1\nF:lib\nR:ld-musl.so\n\n"},
      {"lib/ld-musl.so", 'f', "one"}};
  EXPECT_EQ(said({lower, {{"rootfs/lib/apk/db/installed", 'f', "P:musl\nV:2\n\n"}}}), "");
}
TEST_F(PackageHistory, WhatRuntimesWouldSeeOtherwiseIsRefused) {
  std::string inner;
  fakes::add_tar_file(inner, "usr/lib/x/libssl.so.3", "old");
  const auto refused = [&](const std::string& size) {
    std::string tar;
    fakes::add_tar_file(tar, "app", inner);
    tar.replace(124, 12, size);
    unsigned sum = 0;
    for (std::size_t i = 0; i < 512; ++i)
      sum += i >= 148 && i < 156 ? ' ' : static_cast<unsigned char>(tar[i]);
    char text[8];
    (void)std::snprintf(text, sizeof text, "%06o", sum);
    tar.replace(148, 8, std::string{text, 6} + std::string{"\0 ", 2});
    fakes::PackedImage image;
    image.layers = {{layer(base()), ""}, {tar + std::string(1024, '\0'), ""}};
    const auto changes = package_changes(layout_, image.write(layout_), 16UL << 20);
    return changes ? "" : changes.error().text();
  };
  ASSERT_EQ(inner.size(), 1024U);
  EXPECT_EQ(refused("00000002000 "), "");
  // Behind a NUL: no content to one reader, so what follows is an entry.
  EXPECT_NE(refused(std::string(1, '\0') + "0000002000 ").find("runtimes would see"),
            std::string::npos)
      << refused(std::string(1, '\0') + "0000002000 ");
}
TEST_F(PackageHistory, FoldersAndDocumentationAreNoFiles) {
  EXPECT_EQ(said({base(),
                  {{"var/lib/dpkg/status", 'f', dpkg("2")},
                   {"usr/lib/x", 'd', "", 0755},
                   {"usr/share/doc/libssl3/copyright", 'f', "new"}}}),
            "libssl3 1 2\n");
}
TEST_F(PackageHistory, AListThatIsTakenAwayHelpsNothing) {
  EXPECT_EQ(said({base(),
                  {{"var/lib/dpkg/status", 'f', dpkg("2")},
                   {"var/lib/dpkg/info/.wh.libssl3:amd64.list", 'f', ""}}}),
            "libssl3 1 2\n");
}
TEST_F(PackageHistory, AMergedUsrIsOnePlace) {
  const std::vector<Item> upgrade{{"var/lib/dpkg/status", 'f', dpkg("2")},
                                  {"lib/x/libssl.so.3", 'f', "two"}};
  EXPECT_EQ(said({base(), upgrade}), "");
  EXPECT_EQ(said({base("lib/x/libssl.so.3"), {{"var/lib/dpkg/status", 'f', dpkg("2")}}}),
            "libssl3 1 2\n");
}
TEST_F(PackageHistory, APackageWithoutFilesHasNothingToMiss) {
  EXPECT_EQ(
      said({{{"var/lib/dpkg/status", 'f', dpkg("1")}}, {{"var/lib/dpkg/status", 'f', dpkg("2")}}}),
      "");
  EXPECT_EQ(said({{{"var/lib/dpkg/status", 'f', dpkg("1")},
                   {"var/lib/dpkg/info/libssl3.list", 'f', "/usr\n/usr/share/doc/libssl3/c\n"},
                   {"usr/share/doc/libssl3/c", 'f', "c"}},
                  {{"var/lib/dpkg/status", 'f', dpkg("2")}}}),
            "");
}
TEST_F(PackageHistory, AnotherMaintainerIsToldAlsoWithTheSameVersion) {
  EXPECT_EQ(said({base(), {{"var/lib/dpkg/status", 'f', dpkg("1", "support@docker.com")}}}),
            "libssl3 by Debian <a@debian.org>, support@docker.com\n");
}
TEST_F(PackageHistory, WhatIsNewOrWasRemovedIsNoChange) {
  const auto other =
      std::string{"Package: curl\nStatus: install ok installed\nArchitecture: amd64\n"
                  "Version: 8\n\n"};
  EXPECT_EQ(
      said({base(), {{"var/lib/dpkg/status", 'f', dpkg("1", "Debian <a@debian.org>", other)}}}),
      "");
  auto removed = dpkg("2");
  removed.replace(removed.find("install ok installed"), 20, "deinstall ok config-files");
  EXPECT_EQ(said({base(), {{"var/lib/dpkg/status", 'f', removed}}}), "");
}
TEST_F(PackageHistory, TwoArchitecturesAreNoChange) {
  auto both = dpkg("1");
  auto second = dpkg("9");
  second.replace(second.find("amd64"), 5, "i386");
  EXPECT_EQ(said({{{"var/lib/dpkg/status", 'f', both + second}}}), "");
}
TEST_F(PackageHistory, PartsOfADatabaseAreReadToo) {
  const std::vector<Item> lower{
      {"var/lib/dpkg/status.d/libssl3", 'f', dpkg("1")},
      {"var/lib/dpkg/status.d/libssl3.md5sums", 'f', "d41d8cd98f  usr/lib/x/libssl.so.3\n"},
      {"usr/lib/x/libssl.so.3", 'f', "one"}};
  EXPECT_EQ(said({lower, {{"var/lib/dpkg/status.d/libssl3", 'f', dpkg("2")}}}), "libssl3 1 2\n");
  EXPECT_EQ(said({lower,
                  {{"var/lib/dpkg/status.d/libssl3", 'f', dpkg("2")},
                   {"usr/lib/x/libssl.so.3", 'f', "two"}}}),
            "");
}
TEST_F(PackageHistory, AlpinesDatabaseNamesItsFilesItself) {
  const auto apk = [](const std::string& version) {
    return "P:libssl3\nV:" + version +
           "\nA:x86_64\nm:a@alpinelinux.org\nF:usr/lib\nR:libssl.so.3\na:0:0:755\nZ:Q1x\n\n";
  };
  const std::vector<Item> lower{{"lib/apk/db/installed", 'f', apk("1")},
                                {"usr/lib/libssl.so.3", 'f', "one"}};
  EXPECT_EQ(said({lower, {{"lib/apk/db/installed", 'f', apk("2")}}}), "libssl3 1 2\n");
  EXPECT_EQ(
      said({lower, {{"lib/apk/db/installed", 'f', apk("2")}, {"usr/lib/libssl.so.3", 'f', "two"}}}),
      "");
}
TEST_F(PackageHistory, HasLimits) {
  EXPECT_NE(said({{{"../x", 'f', "x"}}, base()}).find("leads out of the image"), std::string::npos);
  std::string many;
  std::string more;
  for (std::size_t i = 0; i <= kMostPackageChanges; ++i) {
    const auto stanza = "Package: p" + std::to_string(i) + "\nVersion: ";
    many += stanza + "1\n\n";
    more += stanza + "2\n\n";
  }
  EXPECT_NE(said({{{"var/lib/dpkg/status", 'f', many}}, {{"var/lib/dpkg/status", 'f', more}}})
                .find("change more than 10000 packages"),
            std::string::npos);
}

} // namespace
} // namespace slipway::gate_worker
