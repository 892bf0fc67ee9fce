// SPDX-License-Identifier: Apache-2.0
#include "executor/gate_worker/package_history.hpp"
#include "executor/gate_worker/rpm_database.hpp"
#include "tests/fakes/alpine_image.hpp"
#include "tests/fakes/packed.hpp"
#include "tests/fakes/rpm_databases.hpp"
#include "tests/unit/executor/gate_worker/layers.hpp"

#include <gtest/gtest.h>

#include <cstdio>
#include <functional>

namespace slipway::gate_worker {
namespace {

std::string dpkg(const std::string& version,
                 const std::string& maintainer = "Debian <a@debian.org>",
                 const std::string& more = "") {
  return "Package: libssl3\nStatus: install ok installed\nArchitecture: amd64\nMaintainer: " +
         maintainer + "\nVersion: " + version + "\nDescription: SSL\n more of it\n\n" + more;
}

const std::string kCurl = "Package: curl\nStatus: install ok installed\nVersion: 8\n\n";

class PackageHistory : public testing::Test {
protected:
  Result<std::vector<oci::PackageChange>> of(const std::vector<std::vector<Item>>& layers) {
    fakes::PackedImage image;
    const char* packings[] = {"gzip", "", "zstd"};
    for (const auto& items : layers)
      image.layers.push_back({layer(items), packings[image.layers.size() % 3]});
    return package_changes(layout_, image.write(layout_), 16UL << 20);
  }
  /// "NAME OLD NEW" of packages without files, "NAME by OLD, NEW" of other maintainers,
  /// "NAME VERSION is gone, not FILE" of removed ones.
  std::string said(const std::vector<std::vector<Item>>& layers) {
    const auto changes = of(layers);
    if (!changes) return changes.error().text();
    std::string all;
    for (const auto& one : *changes) {
      if (!one.remains.empty())
        all += one.name + " " + one.old_version + " is gone, not " + one.remains + "\n";
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
TEST_F(PackageHistory, WhatIsNewIsNoChange) {
  const auto other =
      std::string{"Package: curl\nStatus: install ok installed\nArchitecture: amd64\n"
                  "Version: 8\n\n"};
  EXPECT_EQ(
      said({base(), {{"var/lib/dpkg/status", 'f', dpkg("1", "Debian <a@debian.org>", other)}}}),
      "");
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
TEST_F(PackageHistory, APackageThatTheDatabaseNamesNoLongerIsToldWhileItsFilesAreThere) {
  const auto removed = [&](std::vector<Item> more) {
    more.push_back({"var/lib/dpkg/status", 'f', kCurl});
    return said({base(), more});
  };
  const std::string told = "libssl3 1 is gone, not usr/lib/x/libssl.so.3\n";
  EXPECT_EQ(removed({}), told);
  EXPECT_EQ(said({base(), {{"app", 'f', "x"}}, {{"var/lib/dpkg/status", 'f', kCurl}}}), told);
  EXPECT_EQ(removed({{"var/lib/dpkg/info/.wh.libssl3:amd64.list"}}), told);
  EXPECT_EQ(removed({{"usr/lib/x/.wh.libssl"}}), told) << "of another file";
  EXPECT_EQ(removed({{"lib/x/.wh.libssl.so.3"}}), told) << "of another place";
  EXPECT_EQ(removed({{"usr/lib/x/.wh..wh.plnk"}}), told) << "a storage driver's own";
  // The controls: apt-get purge, of which a file, its folder or all that is in it is gone.
  EXPECT_EQ(removed({{"usr/lib/x/.wh.libssl.so.3"}}), "");
  EXPECT_EQ(removed({{"usr/lib/.wh.x"}}), "");
  EXPECT_EQ(removed({{"usr/lib/x/.wh..wh..opq"}}), "");
  EXPECT_EQ(removed({{".wh.usr"}}), "");
  EXPECT_EQ(removed({{"usr/lib/x", 'l', "y"}}), "") << "what was below is gone";
  EXPECT_EQ(removed({{"usr/lib/x/libssl.so.3", 'd'}}), "");
}
TEST_F(PackageHistory, APackageThatIsSaidToBeDeinstalledIsNamedNoLonger) {
  auto removed = dpkg("1") + kCurl;
  removed.replace(removed.find("install ok installed"), 20, "deinstall ok config-files");
  EXPECT_EQ(said({base(), {{"var/lib/dpkg/status", 'f', removed}}}),
            "libssl3 1 is gone, not usr/lib/x/libssl.so.3\n");
  EXPECT_EQ(said({base(), {{"var/lib/dpkg/status", 'f', removed}, {"usr/lib/x/.wh.libssl.so.3"}}}),
            "");
}
TEST_F(PackageHistory, AWhiteoutTakesWhatIsBelowItsLayerAlone) {
  const std::vector<Item> database{{"var/lib/dpkg/status", 'f', kCurl}};
  const std::vector<Item> gone{{"usr/lib/x/.wh.libssl.so.3"}};
  const std::vector<Item> again{{"usr/lib/x/libssl.so.3", 'f', "one"}};
  EXPECT_EQ(said({base(), gone, again, database}),
            "libssl3 1 is gone, not usr/lib/x/libssl.so.3\n");
  EXPECT_EQ(said({base(), again, database, gone}), "");
}
TEST_F(PackageHistory, APackageThatIsNamedAgainIsThere) {
  EXPECT_EQ(said({base(),
                  {{"var/lib/dpkg/status", 'f', kCurl}},
                  {{"var/lib/dpkg/status", 'f', dpkg("1") + kCurl}}}),
            "");
}
TEST_F(PackageHistory, FilesThatCameSinceAPackageWasRemovedAreOthers) {
  const std::vector<Item> purged{{"var/lib/dpkg/status", 'f', kCurl},
                                 {"usr/lib/x/libssl.so.3", 'f', "of make install"}};
  EXPECT_EQ(said({base(), purged}), "");
  // A file that was changed before does not make it another's: the package manager removes it.
  EXPECT_EQ(said({base(),
                  {{"usr/lib/x/libssl.so.3", 'f', "of chmod"}},
                  {{"var/lib/dpkg/status", 'f', kCurl}}}),
            "libssl3 1 is gone, not usr/lib/x/libssl.so.3\n");
}
TEST_F(PackageHistory, FilesOfAnotherPackageAreItsOwn) {
  const std::string list = "/usr/lib/x/libssl.so.3\n/usr/bin/curl\n";
  auto shared = base();
  shared.push_back({"var/lib/dpkg/info/curl.list", 'f', list});
  const std::vector<Item> purged{{"var/lib/dpkg/status", 'f', kCurl}};
  EXPECT_EQ(said({shared, purged}), "");
  // Under its new name, with files that differ, and one that does not.
  auto lower = base();
  for (const std::string name : {"a", "b"}) {
    lower[1].text += "/usr/lib/x/" + name + "\n";
    lower.push_back({"usr/lib/x/" + name, 'f', name});
  }
  const auto renamed = [&](const std::vector<Item>& files) {
    std::vector<Item> upper{
        {"var/lib/dpkg/status", 'f', kCurl},
        {"var/lib/dpkg/info/curl.list", 'f', lower[1].text + "/usr/bin/curl\n"}};
    upper.insert(upper.end(), files.begin(), files.end());
    return said({lower, upper});
  };
  EXPECT_EQ(renamed({{"usr/lib/x/libssl.so.3", 'f', "2"}, {"usr/lib/x/a", 'f', "2"}}), "");
  // The attacks: a list alone, or with one file more.
  const std::string told = "libssl3 1 is gone, not usr/lib/x/";
  EXPECT_TRUE(renamed({}).starts_with(told));
  EXPECT_TRUE(renamed({{"usr/bin/curl", 'f', "new"}}).starts_with(told));
  EXPECT_TRUE(renamed({{"usr/lib/x/a", 'f', "2"}}).starts_with(told));
}
TEST_F(PackageHistory, WhatPackageManagersLeaveIsNoTrace) {
  const auto with = [&](const std::string& file, const std::string& text) {
    auto lower = base();
    lower[1].text += "/" + file + "\n";
    lower.push_back({file, 'f', text});
    return said(
        {lower, {{"var/lib/dpkg/status", 'f', kCurl}, {"usr/lib/x/.wh.libssl.so.3", 'f', ""}}});
  };
  EXPECT_EQ(with("etc/ssl/openssl.cnf", "c"), "");
  EXPECT_EQ(with("usr/share/doc/libssl3/changelog", "c"), "");
  EXPECT_EQ(with("usr/lib/x/libcrypto.so.3", "c"),
            "libssl3 1 is gone, not usr/lib/x/libcrypto.so.3\n")
      << "the control: one of two";
  // One of many: a file that was put in the place of a diverted one.
  auto lower = base();
  for (const std::string name : {"a", "b", "c"}) {
    lower[1].text += "/usr/bin/" + name + "\n";
    lower.push_back({"usr/bin/" + name, 'f', name});
  }
  EXPECT_EQ(said({lower,
                  {{"var/lib/dpkg/status", 'f', kCurl},
                   {"usr/bin/.wh.a"},
                   {"usr/bin/.wh.b"},
                   {"usr/lib/x/.wh.libssl.so.3"}}}),
            "");
}
TEST_F(PackageHistory, WithoutListsNothingCanBeCompared) {
  auto lower = base();
  lower.erase(lower.begin() + 1);
  EXPECT_EQ(said({lower, {{"var/lib/dpkg/status", 'f', kCurl}}}), "");
}
TEST_F(PackageHistory, ThatNoPackageIsNamedAnyMoreIsForOthersToTell) {
  EXPECT_EQ(said({base(), {{"var/lib/dpkg/.wh.status"}}}), "");
  EXPECT_EQ(said({base(), {{"var/lib/dpkg/status", 'f', ""}}}), "");
  EXPECT_EQ(
      said({base(), {{"var/lib/dpkg/.wh.status"}, {"var/lib/dpkg/status.d/curl", 'f', kCurl}}}),
      "libssl3 1 is gone, not usr/lib/x/libssl.so.3\n");
  EXPECT_EQ(said({base(),
                  {{"var/lib/dpkg/.wh.status"},
                   {"lib/apk/db/installed", 'f', "P:libssl3\nV:1\nm:Debian <a@debian.org>\n\n"}}}),
            "libssl3 1 is gone, not usr/lib/x/libssl.so.3\n")
      << "of another package manager's";
}
TEST_F(PackageHistory, ADatabaseThatIsTwiceInALayerNamesWhatBothName) {
  const std::string told = "libssl3 1 is gone, not usr/lib/x/libssl.so.3\n";
  const Item without{"var/lib/dpkg/status", 'f', kCurl};
  const Item with{"var/lib/dpkg/status", 'f', dpkg("1") + kCurl};
  EXPECT_EQ(said({base(), {with, without}}), told);
  EXPECT_EQ(said({base(), {without, with}}), told);
  EXPECT_EQ(said({base(), {with, with}}), "");
}
TEST_F(PackageHistory, APartThatIsTakenOutIsARemovedPackage) {
  const std::vector<Item> lower{
      {"var/lib/dpkg/status.d/curl", 'f', kCurl},
      {"var/lib/dpkg/status.d/libssl3", 'f', dpkg("1")},
      {"var/lib/dpkg/status.d/libssl3.md5sums", 'f', "d41d8cd98f  usr/lib/x/libssl.so.3\n"},
      {"usr/lib/x/libssl.so.3", 'f', "one"}};
  const std::string told = "libssl3 1 is gone, not usr/lib/x/libssl.so.3\n";
  EXPECT_EQ(said({lower, {{"var/lib/dpkg/status.d/.wh.libssl3"}}}), told);
  EXPECT_EQ(
      said({lower, {{"var/lib/dpkg/.wh.status.d"}, {"var/lib/dpkg/status.d/curl", 'f', kCurl}}}),
      told);
  EXPECT_EQ(
      said({lower,
            {{"var/lib/dpkg/status.d/.wh..wh..opq"}, {"var/lib/dpkg/status.d/curl", 'f', kCurl}}}),
      told);
  EXPECT_EQ(
      said({lower,
            {{"var/lib/dpkg/.wh.status.d"}, {"var/lib/dpkg/status", 'f', kCurl + dpkg("1")}}}),
      "")
      << "the control: it is named elsewhere";
  EXPECT_EQ(said({lower, {{"var/lib/dpkg/status.d/other", 'f', "Package: other\nVersion: 1\n"}}}),
            "")
      << "and a part more is no other database";
  EXPECT_EQ(said({lower, {{"var/lib/dpkg/status.d/.wh.libssl3"}, {"usr/lib/x/.wh.libssl.so.3"}}}),
            "");
}
TEST_F(PackageHistory, ARemovedPackageOfAlpineIsTold) {
  const std::string musl = "P:musl\nV:1\nF:lib\nR:ld-musl.so\n\n";
  const std::string ssl = "P:libssl3\nV:1\nF:usr/lib\nR:libssl.so.3\n\n";
  const std::vector<Item> lower{{"lib/apk/db/installed", 'f', musl + ssl},
                                {"lib/ld-musl.so", 'f', "m"},
                                {"usr/lib/libssl.so.3", 'f', "one"}};
  EXPECT_EQ(said({lower, {{"lib/apk/db/installed", 'f', musl}}}),
            "libssl3 1 is gone, not usr/lib/libssl.so.3\n");
  EXPECT_EQ(said({lower, {{"lib/apk/db/installed", 'f', musl}, {"usr/lib/.wh.libssl.so.3"}}}), "");
  EXPECT_EQ(
      said({lower, {{"lib/apk/db/.wh.installed"}, {"usr/lib/apk/db/installed", 'f', musl + ssl}}}),
      "")
      << "the database moved";
  EXPECT_EQ(
      said({lower,
            {{"lib/apk/db/installed", 'f', musl + "P:all\nV:1\nF:usr/lib\nR:libssl.so.3\n\n"}}}),
      "libssl3 1 is gone, not usr/lib/libssl.so.3\n")
      << "under another name";
}
TEST_F(PackageHistory, APackageThatTheScannerPassesOverIsNotNamed) {
  const std::string told = "libssl3 1 is gone, not usr/lib/x/libssl.so.3\n";
  auto tabbed = dpkg("1");
  tabbed.replace(tabbed.find("install ok"), 10, "deinstall\tok");
  for (const auto& upper : {kCurl + "\r\n" + dpkg("1"), kCurl + "\n" + dpkg("1"), kCurl + tabbed,
                            kCurl + "Package: libssl3\nStatus: install ok installed\n\n"})
    EXPECT_EQ(said({base(), {{"var/lib/dpkg/status", 'f', upper}}}), told) << upper;
}
TEST_F(PackageHistory, APackageOfAlpineThatTheScannerPassesOverIsNotNamed) {
  const std::string musl = "P:musl\nV:7\nF:lib\nR:ld-musl.so\n\n";
  const std::string ssl = "P:libssl3\nV:1\no:openssl\nF:usr/lib\nR:libssl.so.3\n\n";
  const auto with = [&](const std::string& upper) {
    return said({{{"lib/apk/db/installed", 'f', musl + ssl},
                  {"lib/ld-musl.so", 'f', "m"},
                  {"usr/lib/libssl.so.3", 'f', "one"}},
                 {{"lib/apk/db/installed", 'f', upper}}});
  };
  EXPECT_EQ(with(musl + ssl), "");
  const std::string told = "libssl3 1 of openssl is gone, not usr/lib/libssl.so.3\n";
  EXPECT_EQ(with(musl + "P:libssl3\nx\nV:1\no:openssl\nF:usr/lib\nR:libssl.so.3\n\n"), told);
  EXPECT_EQ(with(musl + "X:" + std::string(70000, 'x') + "\n\n" + ssl), told);
  const auto behind = [&](std::size_t bytes, const std::string& end) {
    return with(musl + "X:" + std::string(bytes - 2, 'x') + end + "\n" + ssl);
  };
  EXPECT_EQ(behind(65'535, "\n"), "") << "the longest line that the scanner reads";
  EXPECT_EQ(behind(65'534, "\r\n"), "");
  EXPECT_EQ(behind(65'535, "\r\n"), told);
  EXPECT_EQ(behind(65'536, "\n"), told);
  // The source's version is what stands before it: advisories are asked about another one.
  EXPECT_EQ(with(musl + "P:libssl3\no:openssl\nV:1\nF:usr/lib\nR:libssl.so.3\n\n"),
            "libssl3 1 of openssl 1 of openssl 7\n");
}
TEST_F(PackageHistory, ListsThatComeWithoutFilesHideNoPackage) {
  const std::string told = "libssl3 1 is gone, not usr/lib/x/libssl.so.3\n";
  const std::vector<Item> removed{{"var/lib/dpkg/status", 'f', kCurl}};
  EXPECT_EQ(said({base(),
                  {{"var/lib/dpkg/status", 'f', dpkg("1") + kCurl},
                   {"var/lib/dpkg/info/curl.list", 'f', "/usr/lib/x/libssl.so.3\n"}},
                  removed}),
            told);
  const auto with = [&](const std::string& file) {
    return said({base(),
                 {{"var/lib/dpkg/status", 'f', dpkg("1") + kCurl},
                  {"var/lib/dpkg/info/curl.list", 'f', "/usr/lib/x/libssl.so.3\n/usr/bin/curl\n"},
                  {file, 'f', "new"}},
                 removed});
  };
  EXPECT_EQ(with("usr/bin/curl"), told) << "not with this file";
  EXPECT_EQ(with("usr/lib/x/libssl.so.3"), "");
  EXPECT_EQ(
      said({base(),
            {{"var/lib/dpkg/info/libssl3:amd64.list", 'f',
              "/usr/lib/x/libssl.so.3\n/usr/a\n/usr/b\n/usr/c\n"},
             {"usr/a", 'f', "a"},
             {"usr/b", 'f', "b"},
             {"usr/c", 'f', "c"}},
            {{"var/lib/dpkg/status", 'f', kCurl}, {"usr/.wh.a"}, {"usr/.wh.b"}, {"usr/.wh.c"}}}),
      told);
}

// The library, its configuration, and what rpm does not bring or images leave out.
fakes::Rpm openssl(const std::string& version = "1") {
  return {.name = "openssl-libs",
          .version = version,
          .files = {{"/usr/lib64/libssl.so.3"},
                    {"/usr/lib64/pki", 0, 0040755},
                    {"/etc/pki/openssl.cnf", 1},
                    {"/usr/share/doc/openssl/README", 2},
                    {"/var/log/openssl.log", 64},
                    {"/usr/share/licenses/openssl/COPYING", 128}}};
}
const fakes::Rpm kBash{.name = "bash", .files = {{"/usr/bin/bash"}}};
constexpr const char* kRpmSqlite = "var/lib/rpm/rpmdb.sqlite";

Item rpms(const std::vector<fakes::Rpm>& packages, const char* path = kRpmSqlite,
          std::string (*make)(const std::vector<std::string>&) = fakes::rpm_sqlite) {
  std::vector<std::string> headers;
  for (const auto& one : packages)
    headers.push_back(one.header());
  return {path, 'f', make(headers)};
}
std::string bdb_of(const std::vector<std::string>& headers) {
  return fakes::rpm_bdb(headers);
}
Item old_rpms(const std::vector<fakes::Rpm>& packages) {
  return rpms(packages, "var/lib/rpm/Packages", bdb_of);
}
std::vector<Item> rpm_base(const Item& database) {
  return {database,
          {"usr/lib64/libssl.so.3", 'f', "one"},
          {"etc/pki/openssl.cnf", 'f', "c"},
          {"usr/share/doc/openssl/README", 'f', "d"},
          {"usr/share/licenses/openssl/COPYING", 'f', "l"},
          {"var/log/openssl.log", 'f', ""},
          {"usr/bin/bash", 'f', "bash"}};
}
const std::string kRpmForged =
    "openssl-libs 1-1.el9.x86_64 of openssl-3.0.7-1.el9.src.rpm 2-1.el9.x86_64 of "
    "openssl-3.0.7-1.el9.src.rpm\n";
const std::string kRpmGone = "openssl-libs 1-1.el9.x86_64 of openssl-3.0.7-1.el9.src.rpm is gone, "
                             "not usr/lib64/libssl.so.3\n";

TEST_F(PackageHistory, ARpmThatComesWithoutFilesIsTold) {
  using Rpms = std::vector<fakes::Rpm>;
  const auto of_each = [&](const std::function<Item(const Rpms&)>& database) {
    const auto lower = rpm_base(database({openssl(), kBash}));
    const auto upper = database({openssl("2"), kBash});
    EXPECT_EQ(said({lower, {upper}}), kRpmForged) << upper.path;
    EXPECT_EQ(said({lower, {upper, {"app", 'f', "x"}, {"usr/lib64/pki", 'd', "", 0755}}}),
              kRpmForged)
        << upper.path;
    // The control: dnf update.
    EXPECT_EQ(said({lower, {upper, {"usr/lib64/libssl.so.3", 'f', "two"}}}), "") << upper.path;
    // And rpm --rebuilddb, dnf install.
    EXPECT_EQ(said({lower, {database({kBash, openssl()})}}), "") << upper.path;
    EXPECT_EQ(said({lower, {database({openssl(), kBash, {.name = "new"}})}}), "") << upper.path;
  };
  of_each([](const Rpms& packages) { return rpms(packages); });
  of_each([](const Rpms& packages) {
    return rpms(packages, "usr/lib/sysimage/rpm/Packages.db", fakes::rpm_ndb);
  });
  of_each([](const Rpms& packages) { return old_rpms(packages); });
}
// dnf upgrade, and rm in the same step: no layer has the files that came.
TEST_F(PackageHistory, AnUpgradeWhoseFilesAreGoneHasNothingToMiss) {
  auto rpm = openssl();
  rpm.files.push_back({"/usr/lib64/engines/a.so"});
  auto lower = rpm_base(rpms({rpm, kBash}));
  lower.push_back({"usr/lib64/engines/a.so", 'f', "a"});
  rpm.version = "2";
  const auto upgraded = [&](std::vector<Item> gone) {
    gone.insert(gone.begin(), rpms({rpm, kBash}));
    return said({lower, gone});
  };
  EXPECT_EQ(upgraded({{"usr/lib64/.wh.libssl.so.3"}, {"usr/lib64/.wh.engines"}}), "");
  EXPECT_EQ(upgraded({{"usr/.wh.lib64"}}), "");
  // The attacks: one that matters less, or nothing at all, is gone.
  EXPECT_EQ(upgraded({{"usr/lib64/.wh.engines"}}), kRpmForged);
  EXPECT_EQ(upgraded({{"usr/lib64/.wh.libssl"}, {"usr/lib64/.wh.engines"}}), kRpmForged);
  EXPECT_EQ(said({lower, {{"usr/lib64/.wh.engines"}}, {rpms({rpm, kBash})}}), kRpmForged);

  const auto apk = [](const std::string& version) {
    return Item{"lib/apk/db/installed", 'f',
                "P:tzdata\nV:" + version + "\nF:usr/share/zoneinfo\nR:UTC\nR:CET\n\n"};
  };
  const std::vector<Item> alpine{
      apk("1"), {"usr/share/zoneinfo/UTC", 'f', "u"}, {"usr/share/zoneinfo/CET", 'f', "c"}};
  EXPECT_EQ(said({alpine, {apk("2"), {"usr/share/.wh.zoneinfo"}}}), "");
  EXPECT_EQ(said({alpine, {apk("2"), {"usr/share/zoneinfo/.wh.CET"}}}), "tzdata 1 2\n");
}
TEST_F(PackageHistory, WhatAnUpgradeOfARpmLeavesIsNoFile) {
  const auto upgraded = [&](const std::string& path) {
    return said({rpm_base(rpms({openssl()})), {rpms({openssl("2")}), {path, 'f', "new"}}});
  };
  for (const auto* path : {"etc/pki/openssl.cnf", "usr/share/doc/openssl/README",
                           "var/log/openssl.log", "usr/share/licenses/openssl/COPYING"})
    EXPECT_EQ(upgraded(path), kRpmForged) << path;
  // Of a package that has nothing else, an upgrade brings nothing.
  const auto repos = [](const std::string& version) {
    return rpms({{.name = "repos", .version = version, .files = {{"/etc/yum.repos.d/r", 1 | 16}}}});
  };
  EXPECT_EQ(said({{repos("1"), {"etc/yum.repos.d/r", 'f', "r"}}, {repos("2")}}), "");
  // Nor of one without files.
  const auto key = [](const std::string& version) {
    return fakes::Rpm{.name = "gpg-pubkey", .version = version, .files = {}};
  };
  EXPECT_EQ(said({{rpms({key("1")})}, {rpms({key("1"), key("2")})}, {rpms({key("2")})}}), "");
}
// Builders leave a file out of a layer that the package manager wrote as it was before.
TEST_F(PackageHistory, ARpmThatLeavesItsFilesAsTheyWereBringsNone) {
  fakes::Rpm rpm{.name = "vim-filesystem",
                 .version = "1",
                 .files = {{"/usr/lib/rpm/macros.d/macros.vim", 0, 0100644, "d1"}}};
  const auto one = [](const std::string& header) {
    return Item{kRpmSqlite, 'f', fakes::rpm_sqlite({header})};
  };
  const std::vector<Item> lower{one(rpm.built_header()),
                                {"usr/lib/rpm/macros.d/macros.vim", 'f', "macro"}};
  const auto with = [&](const std::string& header) { return said({lower, {one(header)}}); };
  rpm.version = "2";
  EXPECT_EQ(with(rpm.built_header()), "");
  const std::string told = "vim-filesystem 1-1.el9.x86_64 of openssl-3.0.7-1.el9.src.rpm "
                           "2-1.el9.x86_64 of openssl-3.0.7-1.el9.src.rpm\n";
  EXPECT_EQ(with(rpm.header()), told) << "its header is no package's";
  rpm.version = "3";
  auto edited = rpm.built_header();
  edited[edited.find(std::string{"\0"
                                 "3\0",
                                 3}) +
         1] = '2';
  EXPECT_EQ(with(edited), told) << "its header was another's";
  EXPECT_EQ(with(rpm.built_header("2")), told) << "and so it was here";
  rpm.version = "2";
  rpm.files[0].color = 2;
  EXPECT_EQ(with(rpm.built_header()), told) << "each build makes another ELF";
  rpm.files[0].color = 0;
  rpm.files[0].digest = "d2";
  EXPECT_EQ(with(rpm.built_header()), told) << "rpm -U --justdb";
  rpm.files[0].digest = "";
  EXPECT_EQ(with(rpm.built_header()), told);
  rpm.files[0].digest = "d1";
  rpm.files.push_back({"/usr/lib/rpm/macros.d/macros.new", 0, 0100644, "d3"});
  EXPECT_EQ(with(rpm.built_header()), told) << "a file more";
}
TEST_F(PackageHistory, AllThatAdvisoriesOfRpmsGoByIsTheVersion) {
  const auto forged = [&](const fakes::Rpm& rpm) {
    return said({rpm_base(rpms({openssl()})), {rpms({rpm})}});
  };
  auto other = openssl();
  EXPECT_EQ(forged(other), "");
  other.epoch = 9;
  EXPECT_NE(forged(other), "");
  other = openssl();
  other.release = "9";
  EXPECT_NE(forged(other), "");
  other = openssl();
  other.arch = "s390x";
  EXPECT_NE(forged(other), "");
  other = openssl();
  other.source = "harmless-1-1.src.rpm";
  EXPECT_NE(forged(other), "");
  other = openssl();
  other.module = "m:1:2:3";
  EXPECT_NE(forged(other), "");
  other = openssl();
  other.vendor = "Somebody";
  EXPECT_EQ(forged(other), "") << "the scanner looks up every vendor's";
}
TEST_F(PackageHistory, TwoArchitecturesOfARpmAreNoChange) {
  auto other = openssl();
  other.arch = "i686";
  other.files = {{"/usr/lib/libssl.so.3"}};
  const auto lower = rpm_base(rpms({openssl()}));
  EXPECT_EQ(said({lower, {rpms({openssl(), other}), {"usr/lib/libssl.so.3", 'f', "32"}}}), "");
  EXPECT_EQ(said({lower,
                  {rpms({openssl(), other}), {"usr/lib/libssl.so.3", 'f', "32"}},
                  {rpms({openssl()}), {"usr/lib/.wh.libssl.so.3"}}}),
            "");
}
// Files that came with one say nothing of the other, in whatever order the database has them.
TEST_F(PackageHistory, AnArchitectureThatCameHidesNoForgedVersionOfAnother) {
  auto other = openssl();
  other.arch = "i686";
  other.files = {{"/usr/lib/libssl.so.3"}};
  const auto lower = rpm_base(rpms({openssl()}));
  const std::string told =
      "openssl-libs 1-1.el9.i686 of openssl-3.0.7-1.el9.src.rpm 2-1.el9.x86_64 of "
      "openssl-3.0.7-1.el9.src.rpm\n";
  const auto with = [&](const std::vector<fakes::Rpm>& both, const std::string& file) {
    return said({lower,
                 {rpms(both), {"usr/lib/libssl.so.3", 'f', "32"}},
                 {rpms({other, openssl("2")}), {file, 'f', "new"}}});
  };
  EXPECT_EQ(with({openssl(), other}, "app"), told);
  EXPECT_EQ(with({other, openssl()}, "app"), told);
  EXPECT_EQ(with({other, openssl()}, "usr/lib64/libssl.so.3"), "");
}
TEST_F(PackageHistory, ARpmThatTheDatabaseNamesNoLongerIsTold) {
  const auto lower = rpm_base(rpms({openssl(), kBash}));
  EXPECT_EQ(said({lower, {rpms({kBash})}}), kRpmGone) << "rpm -e --justdb";
  // The control: dnf remove, which leaves changed configuration, logs and what it never brought.
  EXPECT_EQ(said({lower, {rpms({kBash}), {"usr/lib64/.wh.libssl.so.3"}}}), "");
  auto minimal = openssl();
  minimal.name = "openssl-minimal";
  EXPECT_EQ(said({lower, {rpms({minimal, kBash}), {"usr/lib64/libssl.so.3", 'f', "two"}}}), "")
      << "dnf swap";
}
TEST_F(PackageHistory, ADatabaseOfRpmInAnotherFormatIsTheSameOne) {
  const auto lower = rpm_base(old_rpms({openssl(), kBash}));
  const Item gone{"var/lib/rpm/.wh.Packages"};
  const Item all_gone{"var/lib/rpm/.wh..wh..opq"};
  EXPECT_EQ(said({lower, {gone, rpms({openssl(), kBash})}}), "");
  EXPECT_EQ(said({lower, {all_gone, rpms({openssl(), kBash})}}), "");
  EXPECT_EQ(
      said({lower,
            {{"var/.wh.lib"}, rpms({openssl(), kBash}, "usr/lib/sysimage/rpm/rpmdb.sqlite")}}),
      "");
  EXPECT_EQ(said({lower, {gone, rpms({kBash})}}), kRpmGone);
  EXPECT_EQ(said({lower, {gone, rpms({openssl("2"), kBash})}}), kRpmForged);
  EXPECT_EQ(said({lower, {rpms({kBash})}}), "") << "the scanner reads the old one, too";
  // What an upgrade of the distribution left behind is no change.
  auto two = lower;
  two.push_back(rpms({openssl("2"), kBash}));
  EXPECT_EQ(said({two, {rpms({openssl("2"), kBash, {.name = "new"}})}}), "");
  EXPECT_EQ(said({lower, {rpms({openssl("2"), kBash})}}), kRpmForged);
}
TEST_F(PackageHistory, ThatRpmNamesNoPackageAnyMoreIsForOthersToTell) {
  const auto lower = rpm_base(rpms({openssl(), kBash}));
  EXPECT_EQ(said({lower, {{"var/lib/.wh.rpm"}}}), "");
  EXPECT_EQ(said({lower, {{"var/lib/rpm/.wh.rpmdb.sqlite"}}}), "");
  EXPECT_EQ(said({lower, {rpms({})}}), "");
}
TEST_F(PackageHistory, WhatTheScannerPassesOverLeavesTheRpmsBelow) {
  const auto lower = rpm_base(rpms({openssl(), kBash}));
  EXPECT_EQ(said({lower, {{kRpmSqlite, 'f', ""}}, {rpms({kBash})}}), kRpmGone);
  EXPECT_EQ(said({lower, {{kRpmSqlite, 'f', ""}}}), "");
  // A log beside it is no database.
  EXPECT_EQ(said({lower, {{"var/lib/rpm/rpmdb.sqlite-wal", 'f', "x"}}}), "");
}
TEST_F(PackageHistory, OfADatabaseOfRpmThatCannotBeReadNothingIsKnown) {
  const auto lower = rpm_base(rpms({openssl(), kBash}));
  for (const auto& bad : {std::string(5000, 'x'), rpms({kBash}).text.substr(0, 6000)}) {
    const auto words = said({lower, {{kRpmSqlite, 'f', bad}}});
    EXPECT_NE(words.find("the rpm database "), std::string::npos) << words;
    EXPECT_NE(words.find(kRpmSqlite), std::string::npos) << words;
  }
}
TEST_F(PackageHistory, AListOfRpmsInTheDatabasesPlaceIsOneToo) {
  const auto list = [](const std::string& version) {
    return Item{"var/lib/rpmmanifest/container-manifest-2", 'f',
                "openssl-libs\t" + version +
                    "-1.el9\t1\t2\t\t(none)\t3\tx86_64\t0\t"
                    "openssl-3.0.7-1.el9.src.rpm\n"};
  };
  const auto lower = rpm_base(rpms({openssl(), kBash}));
  const Item gone{"var/lib/.wh.rpm"};
  EXPECT_EQ(said({lower, {gone, list("2")}}),
            kRpmForged + "bash 3.0.7-1.el9.x86_64 of openssl-3.0.7-1.el9.src.rpm is gone, not "
                         "usr/bin/bash\n");
  EXPECT_EQ(said({rpm_base(rpms({openssl()})), {gone, list("1")}}), "");
  // What the scanner reads and we would not: forged lines would not be compared.
  const auto with_epoch = [&](const std::string& epoch) {
    auto item = list("1");
    item.text.replace(item.text.find("\t0\t"), 3, "\t" + epoch + "\t");
    return said({rpm_base(rpms({openssl()})), {gone, item}});
  };
  EXPECT_NE(with_epoch("4294967296").find(" 4294967296:1-1.el9"), std::string::npos);
  EXPECT_NE(with_epoch("x").find("container-manifest-2"), std::string::npos) << with_epoch("x");
}
TEST_F(PackageHistory, ARpmIsNoOtherKindsPackage) {
  const std::vector<Item> both{{"var/lib/dpkg/status", 'f', dpkg("1")},
                               rpms({{.name = "libssl3", .files = {{"/opt/libssl"}}}, kBash}),
                               {"opt/libssl", 'f', "x"}};
  EXPECT_NE(said({both, {rpms({kBash})}}).find("libssl3 "), std::string::npos);
}
TEST_F(PackageHistory, HasLimits) {
  for (const auto* name : {"var/lib/dpkg/x/../status", "var/lib/dpkg/status.d/x/../.wh.libssl3"})
    EXPECT_NE(said({base(), {{name, 'f', kCurl}}}).find("leads out of the image"),
              std::string::npos)
        << name;
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
  const auto named = [](const std::string& kind, std::size_t count) {
    std::string all;
    for (std::size_t i = 0; i < count; ++i)
      all += "P:" + kind + std::to_string(i) + "\nV:1\n\n";
    return Item{"lib/apk/db/installed", 'f', all};
  };
  const std::string more_than = "name more than 100000";
  EXPECT_NE(said({base(), {named("a", kMostPackages + 1)}}).find(more_than), std::string::npos);
  EXPECT_EQ(said({base(), {named("a", kMostPackages / 2)}}), "");
  EXPECT_NE(said({base(), {named("a", kMostPackages / 2)}, {named("b", kMostPackages / 2)}})
                .find(more_than),
            std::string::npos)
      << "of all layers";
  EXPECT_NE(said({base(),
                  {named("a", kMostPackages / 2),
                   {"usr/lib/apk/db/installed", 'f', named("a", kMostPackages / 2 + 1).text}}})
                .find(more_than),
            std::string::npos)
      << "of one";
}

} // namespace
} // namespace slipway::gate_worker
