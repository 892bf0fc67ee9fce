// SPDX-License-Identifier: Apache-2.0
#include "executor/gate_worker/rpm_database.hpp"
#include "tests/fakes/rpm_databases.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <functional>

namespace slipway::gate_worker {
namespace {

using fakes::big;
using fakes::little;
using fakes::Rpm;

/// "NAME|VERSION|FILE FILE" of each package; "none"; else what is wrong.
std::string said(const std::string& bytes) {
  const auto packages = read_rpm_database(bytes);
  if (!packages) return packages.error().text();
  if (!*packages) return "none";
  std::string all;
  for (const auto& package : **packages) {
    all += package.name + "|" + package.version + "|";
    for (const auto& file : package.files)
      all += file + " ";
    all += "\n";
  }
  return all;
}
std::string said_of(const std::string& header) {
  std::size_t names = kMostRpmFileNames;
  const auto package = read_rpm_header(header, names);
  return package ? package->name + " " + package->version : package.error().text();
}
bool refuses(const std::string& said, const std::string& words) {
  return said.find(words) != std::string::npos;
}
/// That part of `bytes` is `to` instead; `from` has to be there once.
std::string with(std::string bytes, const std::string& from, const std::string& to) {
  const auto at = bytes.find(from);
  EXPECT_NE(at, std::string::npos);
  EXPECT_EQ(bytes.find(from, at + 1), std::string::npos);
  return bytes.replace(at, from.size(), to);
}
std::string at(std::string bytes, std::size_t where, const std::string& to) {
  return bytes.replace(where, to.size(), to);
}

struct Format {
  const char* name;
  std::function<std::string(const std::vector<std::string>&)> make;
};
class RpmDatabase : public testing::TestWithParam<Format> {};

TEST_P(RpmDatabase, SaysWhatItsHeadersSay) {
  Rpm large{.name = "glibc", .files = {}};
  for (int i = 0; i < 200; ++i)
    large.files.push_back({"/usr/lib64/gconv/" + std::to_string(i)});
  std::string files;
  for (const auto& file : large.files)
    files += "/usr/lib64/gconv//" + file.path.substr(file.path.rfind('/') + 1) + " ";

  EXPECT_EQ(said(GetParam().make({Rpm{}.header(), large.header(), Rpm{.name = "z"}.header()})),
            "openssl-libs|3.0.7-1.el9.x86_64 of openssl-3.0.7-1.el9.src.rpm|"
            "/usr/lib64//libssl.so.3 \n"
            "glibc|3.0.7-1.el9.x86_64 of openssl-3.0.7-1.el9.src.rpm|" +
                files +
                "\n"
                "z|3.0.7-1.el9.x86_64 of openssl-3.0.7-1.el9.src.rpm|/usr/lib64//libssl.so.3 \n");
  EXPECT_EQ(said(GetParam().make({})), "");
}
TEST_P(RpmDatabase, IsRefusedWhereItsBytesEnd) {
  const auto bytes = GetParam().make({Rpm{}.header(), Rpm{.name = "z"}.header()});
  for (const auto left : {1UL, 15UL, 16UL, 99UL, 512UL, bytes.size() / 2})
    EXPECT_TRUE(refuses(said(bytes.substr(0, left)), "the rpm database ")) << left;
}
TEST_P(RpmDatabase, IsRefusedWithOneHeaderThatCannotBeRead) {
  EXPECT_TRUE(refuses(said(GetParam().make({Rpm{}.header(), std::string(600, 'x')})),
                      "has a header that cannot be read"));
}

INSTANTIATE_TEST_SUITE_P(
    Formats, RpmDatabase,
    testing::Values(Format{"sqlite", fakes::rpm_sqlite}, Format{"ndb", fakes::rpm_ndb},
                    Format{"bdb", [](const auto& headers) { return fakes::rpm_bdb(headers); }},
                    Format{"bdbOfABigEndianMachine",
                           [](const auto& headers) { return fakes::rpm_bdb(headers, big); }}),
    [](const auto& one) { return std::string{one.param.name}; });

TEST(RpmDatabases, WhatTheScannerPassesOverIsNone) {
  EXPECT_EQ(said(""), "none");
  EXPECT_EQ(said(fakes::sqlite_of({"CREATE TABLE 'Name' (key 'TEXT')"})), "none");
}
TEST(RpmDatabases, AreWhereTheScannerLooks) {
  for (const auto* path : {"var/lib/rpm/Packages", "var/lib/rpm/Packages.db",
                           "usr/lib/sysimage/rpm/rpmdb.sqlite", "usr/share/rpm/rpmdb.sqlite"})
    EXPECT_TRUE(is_rpm_database(path)) << path;
  for (const auto* path : {"var/lib/rpm/rpmdb.sqlite-wal", "x/var/lib/rpm/Packages",
                           "usr/share/rpm/Packages", "var/lib/rpm/Name"})
    EXPECT_FALSE(is_rpm_database(path)) << path;
}

TEST(RpmHeader, NamesAllThatAdvisoriesGoBy) {
  EXPECT_EQ(said_of(Rpm{.epoch = 2, .arch = "noarch", .source = "(none)"}.header()),
            "openssl-libs 2:3.0.7-1.el9.noarch");
  EXPECT_EQ(said_of(Rpm{.source = "a-1-1.src.rpm", .module = "nodejs:18:9:x"}.header()),
            "openssl-libs 3.0.7-1.el9.x86_64 of a-1-1.src.rpm in nodejs:18:9:x");
}
TEST(RpmHeader, WhatStandsBehindItsRegionCountsMore) {
  auto entries = Rpm{}.entries();
  entries.push_back({1001, 6, 1, std::string{"9.9\0", 4}});
  entries.push_back({1008, 4, 1, big(1)});
  EXPECT_EQ(said_of(fakes::rpm_header(entries, 2)),
            "openssl-libs 9.9-1.el9.x86_64 of openssl-3.0.7-1.el9.src.rpm");
}
TEST(RpmHeader, MayHaveNoRegion) {
  EXPECT_EQ(said_of(fakes::rpm_header(Rpm{}.entries(), -1)),
            "openssl-libs 3.0.7-1.el9.x86_64 of openssl-3.0.7-1.el9.src.rpm");
}
TEST(RpmHeader, OnlyWhatEachUpgradeWritesIsAFile) {
  const Rpm rpm{.files = {{"/usr/lib64/a"},
                          {"/usr/lib64/l", 0, 0120777},
                          {"/usr/lib64/d", 0, 0040755},
                          {"/etc/a.conf", 1 | 16},
                          {"/usr/share/a/README", 2},
                          {"/var/log/a", 64},
                          {"/usr/share/licenses/a/COPYING", 128},
                          {"/usr/lib/.build-id/00/1", 4096, 0120777}}};
  std::size_t names = kMostRpmFileNames;
  const auto package = read_rpm_header(rpm.header(), names);
  ASSERT_TRUE(package.ok()) << package.error().text();
  EXPECT_EQ(package->files, (std::vector<std::string>{"/usr/lib64//a", "/usr/lib64//l"}));
  EXPECT_LT(names, kMostRpmFileNames);
}
// Of each the scanner drops the whole database, without a word, or readers could differ.
TEST(RpmHeader, ThatIsNotSoundIsRefused) {
  using Entries = std::vector<fakes::RpmEntry>;
  const auto changed = [](const std::function<void(Entries&)>& change) {
    auto entries = Rpm{}.entries();
    change(entries);
    return said_of(fakes::rpm_header(entries));
  };
  const auto of = [](Entries& all, std::uint32_t tag) -> fakes::RpmEntry& {
    return *std::find_if(all.begin(), all.end(), [&](const auto& one) { return one.tag == tag; });
  };
  const std::string unread = "has a header that cannot be read";
  const auto sound = Rpm{}.header();
  const auto first = 8UL + 16; // of the entries behind the region's
  const auto store = first + 16 * Rpm{}.entries().size();
  struct Case {
    const char* name;
    std::string said;
  };
  const std::vector<Case> cases{
      {"nothing", said_of("")},
      {"no entry", said_of(big(0) + big(0))},
      {"more entries than bytes", said_of(at(sound, 0, big(0x10000000)))},
      {"more bytes than there are", said_of(at(sound, 4, big(0x7fffffff)))},
      {"a number below all tags", said_of(at(sound, first, big(50)))},
      {"no such type", said_of(at(sound, first + 4, big(10)))},
      {"behind the end", said_of(at(sound, first + 8, big(0x7fffffff)))},
      {"before the begin", said_of(at(sound, first + 8, big(0xffffffff)))},
      {"two texts of one", said_of(at(sound, first + 12, big(2)))},
      {"out of order", said_of(at(sound, first + 8, big(20)))},
      {"the region's count", said_of(at(sound, 20, big(17)))},
      {"the region's end", said_of(at(sound, 16, big(0x7ffffff0)))},
      {"the region is longer than it", said_of(at(sound, sound.size() - 8, big(-16U * 200)))},
      {"the region goes on", said_of(at(sound, sound.size() - 8, big(16)))},
      {"a text without an end", said_of(at(sound, store, std::string(sound.size() - store, 'x')))},
      {"bytes behind the entries",
       said_of(at(sound, 4, big(static_cast<std::uint32_t>(sound.size() - store - 1))))},
      {"a name that is a number", changed([](auto& all) {
         all[0].type = 4;
         all[0].data = big(1);
       })},
      {"a name that is two", changed([](auto& all) {
         all[0].data = std::string{"a\0b\0", 4};
       })},
      {"a folder that is none", changed([&](auto& all) { of(all, 1116).data = big(7); })},
      {"more folders than files", changed([&](auto& all) {
         of(all, 1118).count = 2;
         of(all, 1118).data += of(all, 1118).data;
       })},
      {"more folders than it says",
       changed([&](auto& all) { of(all, 1118).data += of(all, 1118).data; })},
      {"a signature without an end", changed([](auto& all) {
         all.insert(all.begin(), {259, 7, 4, std::string{"\x89\1\1\1", 4}});
       })},
      {"the name of a file is too long", changed([&](auto& all) {
         of(all, 1118).data = "/" + std::string(5000, 'x') + std::string(1, '\0');
       })}};
  for (const auto& [name, words] : cases)
    EXPECT_TRUE(refuses(words, unread)) << name << ": " << words;
  EXPECT_FALSE(refuses(said_of(sound), unread));
}
TEST(RpmHeader, EntriesThatShareBytesAreRefused) {
  fakes::RpmEntry large{1500, 8, 60'000, {}};
  for (int i = 0; i < 60'000; ++i)
    large.data += std::string{"x\0", 2};
  std::vector<fakes::RpmEntry> entries{large};
  for (int i = 0; i < 50'000; ++i)
    entries.push_back({1500, 8, 1, std::string(1, '\0')});
  auto header = fakes::rpm_header(entries);
  for (std::size_t i = 2; i < entries.size(); ++i)
    header.replace(8 + 16 * i + 8, 8, big(0) + big(60'000));
  EXPECT_TRUE(refuses(said_of(header), "the length of tag 1500")) << said_of(header);
}
TEST(RpmHeader, NamesOfFilesHaveALimit) {
  std::size_t names = kRpmFileCost + 10;
  EXPECT_TRUE(refuses(read_rpm_header(Rpm{}.header(), names).error().text(), "too many files"));
  names = kMostRpmFileNames;
  auto entries = Rpm{.files = {}}.entries();
  const auto count = static_cast<std::uint32_t>(kMostRpmFileNames / kRpmFileCost + 1);
  entries.push_back({1117, 8, count, std::string(count, '\0')});
  EXPECT_TRUE(
      refuses(read_rpm_header(fakes::rpm_header(entries), names).error().text(), "too many files"));
}

// The scanner reads whatever answers to the name of the table.
TEST(RpmSqlite, OnlyAPlainTableIsRead) {
  const std::vector<std::string> headers{Rpm{}.header()};
  const auto made = [&](const std::vector<std::string>& statements) {
    return said(fakes::sqlite_of(statements, headers));
  };
  const std::string other = "CREATE TABLE 'P' (hnum INTEGER PRIMARY KEY, blob BLOB NOT NULL)";
  ASSERT_TRUE(made({fakes::kRpmTable, fakes::kRpmRow}).starts_with("openssl-libs|"));

  EXPECT_TRUE(refuses(made({other, "INSERT INTO P VALUES (?2, ?1)",
                            "CREATE VIEW Packages AS SELECT hnum, blob FROM P"}),
                      "its packages are in no table"));
  EXPECT_TRUE(refuses(made({"CREATE VIRTUAL TABLE packages USING fts5(blob)"}),
                      "its packages are in no table"));
  EXPECT_TRUE(
      refuses(made({fakes::kRpmTable, fakes::kRpmRow, "CREATE INDEX i ON Packages(blob, hnum)"}),
              "has an index"));
  EXPECT_TRUE(refuses(made({"CREATE TABLE Packages (hnum INTEGER PRIMARY KEY, b BLOB, blob BLOB AS "
                            "(substr(b, 1)))",
                            "INSERT INTO Packages VALUES (?2, ?1)"}),
                      "a column that is computed"));
  EXPECT_TRUE(refuses(made({fakes::kRpmTable, "INSERT INTO Packages VALUES (1, 'x')"}),
                      "a header is no blob"));
  EXPECT_TRUE(refuses(made({"CREATE TABLE Packages (hnum INTEGER PRIMARY KEY)"}),
                      "cannot be read as SQLite's"));
}
TEST(RpmSqlite, ThatIsDamagedIsRefused) {
  auto bytes = fakes::rpm_sqlite({Rpm{}.header(), Rpm{.name = "z"}.header()});
  // The scanner stops there and takes what it has.
  constexpr std::size_t kPage = 4096;
  ASSERT_EQ(bytes[kPage], 13) << "the root of the table is a leaf";
  EXPECT_TRUE(refuses(said(at(bytes, kPage, "\7")), "cannot be read as SQLite's"));
  EXPECT_TRUE(refuses(said(with(bytes, "CREATE INDEX 'Name", "CREATE INDEX (Name")),
                      "cannot be read as SQLite's"));
}
// SQLite reads all of it before the first step that it counts.
TEST(RpmSqlite, ItsDefinitionsHaveALimit) {
  const auto with_tables = [](int tables) {
    std::vector<std::string> all{fakes::kRpmTable, fakes::kRpmRow};
    for (int i = 0; i < tables; ++i)
      all.push_back("CREATE TABLE t" + std::to_string(i) + "(a)");
    return said(fakes::sqlite_of(all, {Rpm{}.header()}));
  };
  EXPECT_TRUE(with_tables(490).starts_with("openssl-libs|")) << "several pages of them";
  EXPECT_TRUE(refuses(with_tables(500), "it defines too many tables")) << with_tables(500);
  const auto with_statement = [](std::size_t bytes) {
    const std::string begin = "CREATE TABLE t(a CHECK (a <> '";
    return said(fakes::sqlite_of({fakes::kRpmTable, fakes::kRpmRow,
                                  begin + std::string(bytes - begin.size() - 3, 'x') + "'))"},
                                 {Rpm{}.header()}));
  };
  EXPECT_TRUE(with_statement(2000).starts_with("openssl-libs|"));
  EXPECT_TRUE(refuses(with_statement(2100), "cannot be read as SQLite's"));
  EXPECT_TRUE(refuses(with_statement(90'000), "the text of a statement is too long"));
}
TEST(RpmSqlite, DefinitionsThatSharePagesAreRefused) {
  std::vector<std::string> all{fakes::kRpmTable};
  for (int i = 0; i < 200; ++i)
    all.push_back("CREATE TABLE t" + std::to_string(i) + "(a)");
  const auto bytes = fakes::sqlite_of(all);
  constexpr std::size_t kHeader = 100;
  ASSERT_EQ(bytes[kHeader], 5) << "the table of tables has pages of its own";
  ASSERT_EQ(said(bytes), "");
  const auto first = static_cast<unsigned char>(bytes[kHeader + 12]) * 256UL +
                     static_cast<unsigned char>(bytes[kHeader + 13]);
  const auto words = [&](std::size_t where, const std::string& to) {
    return said(at(bytes, where, to));
  };
  for (const auto& page : {bytes.substr(first, 4), big(1), big(0), big(0xffffffff)})
    EXPECT_TRUE(refuses(words(kHeader + 8, page), "cannot be read as SQLite's"));
  EXPECT_TRUE(refuses(words(kHeader + 3, big(5000, 2)), "cannot be read as SQLite's"));
  EXPECT_TRUE(refuses(words(kHeader + 12, big(4095, 2)), "cannot be read as SQLite's"));
  EXPECT_TRUE(refuses(words(kHeader, std::string{"\2"}), "cannot be read as SQLite's"));
  EXPECT_TRUE(refuses(words(16, big(3, 2)), "cannot be read as SQLite's"));
}
TEST(RpmDatabases, NameNoMorePackagesThanTheLimit) {
  const auto least = fakes::rpm_header({{1000, 6, 1, std::string{"a\0", 2}}}, -1);
  const std::vector<std::string> many(kMostPackages + 1, least);
  EXPECT_EQ(said_of(least), "a -");
  EXPECT_TRUE(refuses(said(fakes::rpm_sqlite(many)), "name more than 100000"));
}
TEST(RpmSqlite, RowsThatShareBytesAreRefused) {
  auto entries = Rpm{}.entries();
  entries.push_back({1500, 8, 1, std::string(60'000, 'x') + std::string(1, '\0')});
  auto bytes = fakes::rpm_sqlite({fakes::rpm_header(entries)});
  constexpr std::size_t kPage = 4096;
  constexpr std::size_t kPointers = kPage + 8;
  ASSERT_EQ(bytes.substr(kPage, 5), (std::string{13, 0, 0, 0, 1}));
  ASSERT_TRUE(said(bytes).starts_with("openssl-libs|"));

  bytes[kPage + 4] = 100; // rows, each of which is the first one
  for (std::size_t i = 1; i < 100; ++i)
    bytes.replace(kPointers + 2 * i, 2, bytes.substr(kPointers, 2));

  EXPECT_TRUE(refuses(said(bytes), "its headers are more than it")) << said(bytes);
}

TEST(RpmNdb, ThatIsDamagedIsRefused) {
  const auto bytes = fakes::rpm_ndb({Rpm{}.header(), Rpm{.name = "z"}.header()});
  const auto words = [&](std::size_t where, const std::string& to) {
    return said(at(bytes, where, to));
  };
  EXPECT_TRUE(refuses(words(4, little(1)), "none of the known formats"));
  EXPECT_TRUE(refuses(words(12, little(0)), "none of the known formats"));
  EXPECT_TRUE(refuses(said(at(bytes, 12, little(2)) + std::string(4096, 'x')), "a slot is none"));
  EXPECT_TRUE(refuses(words(12, little(2049)), "not as many slots"));
  EXPECT_TRUE(refuses(words(32, "slot"), "a slot is none"));
  EXPECT_TRUE(refuses(words(36, little(7)), "a slot has no blob"));
  EXPECT_TRUE(refuses(words(40, little(0xffffffff)), "a slot has no blob"));
  EXPECT_TRUE(refuses(words(4096, "BlbX"), "a slot has no blob"));
  EXPECT_TRUE(refuses(words(4108, little(0xffffffff)), "a blob is larger"));
  // As the first one: each slot would be the whole file.
  auto shared = fakes::rpm_ndb({std::string(5000, 'x')});
  shared = at(shared, 48, shared.substr(32, 16));
  EXPECT_TRUE(refuses(said(shared), "cannot be read"));
  EXPECT_EQ(words(36, little(0)), said(fakes::rpm_ndb({Rpm{.name = "z"}.header()})))
      << "a slot that is free";
}
TEST(RpmBdb, ThatIsDamagedIsRefused) {
  const auto bytes = fakes::rpm_bdb({Rpm{.name = std::string(700, 'x')}.header()});
  const auto words = [&](std::size_t where, const std::string& to) {
    return said(at(bytes, where, to));
  };
  constexpr std::size_t kPage = 512;
  ASSERT_TRUE(said(bytes).starts_with("xxx"));
  EXPECT_TRUE(refuses(words(12, little(1)), "none of the known formats"));
  EXPECT_TRUE(refuses(words(20, little(513)), "the size of its pages"));
  EXPECT_TRUE(refuses(words(20, little(0)), "the size of its pages"));
  EXPECT_TRUE(refuses(words(24, "\1"), "encrypted"));
  EXPECT_TRUE(refuses(words(25, "\7"), "none of the known formats"));
  EXPECT_TRUE(refuses(words(32, little(0xffffffff)), "not as many pages"));
  EXPECT_TRUE(refuses(words(kPage + 20, little(3, 2)), "the entries of a page"));
  EXPECT_TRUE(refuses(words(kPage + 20, little(0xfffe, 2)), "the entries of a page"));
  EXPECT_TRUE(refuses(words(kPage + 32, little(0xffff, 2)), "an entry of a page"));
  // The last entry begins at the end of the page.
  EXPECT_TRUE(refuses(said(at(at(bytes, kPage + 32, little(511, 2)), 2 * kPage - 1, "\3")),
                      "an entry of a page"));
  EXPECT_TRUE(refuses(words(2 * kPage + 16, little(2)), "a value that leads nowhere"));
  EXPECT_TRUE(refuses(words(2 * kPage + 16, little(1)), "a value that leads nowhere"));
  EXPECT_TRUE(refuses(words(2 * kPage + 16, little(0xffffffff)), "a value that leads nowhere"));
  EXPECT_TRUE(refuses(words(2 * kPage + 16, little(0)), "has a header that cannot be read"));
  EXPECT_TRUE(refuses(words(bytes.size() - kPage + 22, little(500, 2)), "the end of a value"));
}

TEST(RpmManifest, IsReadAsTheScannerReadsIt) {
  const auto read = [](const std::string& text) {
    const auto packages = read_rpm_manifest(text);
    std::string all;
    if (!packages) return packages.error().text();
    for (const auto& one : *packages)
      all += one.name + "|" + one.version + "\n";
    return all;
  };
  const std::string line = "glibc\t2.38-1.azl3\t1\t2\tMicrosoft Corporation\t(none)\t3\tx86_64\t0\t"
                           "glibc-2.38-1.azl3.src.rpm\n";
  const std::string glibc = "glibc|2.38-1.azl3.x86_64 of glibc-2.38-1.azl3.src.rpm\n";
  EXPECT_EQ(read(line), glibc);
  EXPECT_EQ(read(with(line, "\t0\t", "\t1\t")), with(glibc, "|2.38", "|1:2.38"));
  EXPECT_EQ(read(line + line.substr(0, line.size() - 1)), glibc + glibc);
  EXPECT_EQ(read(""), "");
  for (const auto& bad :
       {line + "\n", line + "x", with(line, "2.38-1.azl3\t", "2.38\t"),
        with(line, "\t0\t", "\tx\t"), with(line, "\t0\t", "\t\t"), with(line, "\t0\t", "\t+-1\t"),
        with(line, "\t0\t", "\t9223372036854775808\t"),
        with(line, "glibc-2.38-1.azl3.src.rpm", "(none)"), std::string{"\n"}})
    EXPECT_TRUE(refuses(read(bad), "the list of rpm's packages cannot be read: its line ")) << bad;
  for (const std::string number : {"4294967296", "-1", "9223372036854775807"})
    EXPECT_EQ(read(with(line, "\t0\t", "\t" + number + "\t")),
              with(glibc, "|2.38", "|" + number + ":2.38"));
  EXPECT_EQ(read(with(line, "\t0\t", "\t+1\t")), with(glibc, "|2.38", "|1:2.38"));
  // The longest line that the scanner reads, and one at which it stops.
  const auto as_long_as = [&](std::size_t bytes) {
    const std::string vendor(bytes + 1 - line.size(), 'x');
    return with(line, "Microsoft Corporation", "Microsoft Corporation" + vendor) + line;
  };
  EXPECT_EQ(read(as_long_as(65'535)), glibc + glibc);
  EXPECT_TRUE(refuses(read(as_long_as(65'536)), "its line 1"));
  std::string many;
  for (std::size_t i = 0; i <= kMostPackages; ++i)
    many += line;
  EXPECT_TRUE(refuses(read(many), "name more than 100000"));
}

} // namespace
} // namespace slipway::gate_worker
