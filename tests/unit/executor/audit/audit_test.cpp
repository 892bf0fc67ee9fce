// SPDX-License-Identifier: Apache-2.0
#include "executor/audit/audit.hpp"

#include <gtest/gtest.h>

#include <sys/wait.h>
#include <unistd.h>

#include <fstream>
#include <sstream>

namespace slipway::audit {
namespace {

class Audit : public testing::Test {
protected:
  Audit() {
    char name[] = "/tmp/slipway-audit-XXXXXX";
    dir_ = mkdtemp(name);
    file_ = dir_ / "audit.jsonl";
  }
  ~Audit() override { std::filesystem::remove_all(dir_); }

  std::string add(const std::string& event) {
    return *FileAuditLog{file_, clock_}.append(event, {{"image", "a:1"}});
  }
  std::vector<std::string> lines() const {
    std::ifstream in{file_};
    std::vector<std::string> all;
    for (std::string line; std::getline(in, line);)
      all.push_back(line);
    return all;
  }
  void put(const std::vector<std::string>& all) const {
    std::ofstream out{file_, std::ios::trunc};
    for (const auto& line : all)
      out << line << "\n";
  }

  std::filesystem::path dir_;
  std::filesystem::path file_;
  FixedClock clock_{WallTime{std::chrono::seconds{1700000000}}};
};

TEST_F(Audit, IntactChainVerifiesWithEachHead) {
  const auto first = add("push");
  const auto second = add("denied");

  EXPECT_EQ(verify(file_, std::nullopt)->records, 2U);
  EXPECT_TRUE(verify(file_, first));
  EXPECT_EQ(verify(file_, second)->head, second);
}

TEST_F(Audit, EditedRecordIsFound) {
  add("push");
  add("push");
  auto all = lines();
  all[0].replace(all[0].find("a:1"), 3, "b:1");
  put(all);

  const auto verified = verify(file_, std::nullopt);

  ASSERT_FALSE(verified);
  EXPECT_NE(verified.error().what.find("audit.jsonl:1: this record was edited"), std::string::npos)
      << verified.error().what;
}

TEST_F(Audit, RemovedAndMovedRecordsAreFound) {
  for (int i = 0; i < 3; ++i)
    add("push");
  const auto all = lines();

  put({all[0], all[2]});
  EXPECT_NE(verify(file_, std::nullopt).error().what.find(":2: the chain breaks here"),
            std::string::npos);
  put({all[1], all[0], all[2]});
  EXPECT_NE(verify(file_, std::nullopt).error().what.find(":1: the chain breaks here"),
            std::string::npos);
}

TEST_F(Audit, TruncationIsFoundWithAHeadOnly) {
  add("push");
  const auto head = add("push");
  put({lines()[0]});

  EXPECT_TRUE(verify(file_, std::nullopt));
  const auto verified = verify(file_, head);
  ASSERT_FALSE(verified);
  EXPECT_EQ(verified.error().kind, ErrorKind::not_found);
}

TEST_F(Audit, AppendRefusesToContinueAForeignLine) {
  add("push");
  std::ofstream{file_, std::ios::app} << "not ours\n";

  const auto appended = FileAuditLog{file_, clock_}.append("push", {});

  ASSERT_FALSE(appended);
  EXPECT_EQ(appended.error().kind, ErrorKind::misconfigured) << "never the job's fault";
  EXPECT_NE(appended.error().what.find("is no audit record"), std::string::npos);
}

TEST_F(Audit, AnEmptyLineIsNoEmptyLog) {
  add("push");
  std::ofstream{file_, std::ios::app} << "\n";

  const auto appended = FileAuditLog{file_, clock_}.append("push", {});

  ASSERT_FALSE(appended);
  EXPECT_EQ(appended.error().kind, ErrorKind::misconfigured);
}

std::string read_whole(const std::filesystem::path& file) {
  std::ifstream in{file};
  return {std::istreambuf_iterator<char>{in}, {}};
}

// A power loss within an append.
TEST_F(Audit, ALineThatWasCutOffGoesToAFileBesideTheLogAndTheChainGoesOn) {
  const auto first = add("push");
  add("denied");
  const auto whole = read_whole(file_);
  std::filesystem::resize_file(file_, whole.size() - 20);
  const auto torn = lines()[1];
  const auto cut = verify(file_, std::nullopt);
  ASSERT_FALSE(cut);
  EXPECT_NE(cut.error().what.find(":2: an incomplete line"), std::string::npos) << cut.error().what;

  const auto head = add("push");

  const auto verified = verify(file_, first);
  ASSERT_TRUE(verified) << verified.error().what;
  EXPECT_EQ(verified->records, 3U);
  EXPECT_EQ(verified->repairs, 1U);
  EXPECT_EQ(verified->head, head);
  EXPECT_NE(lines()[1].find("\"event\":\"audit_repaired\""), std::string::npos) << lines()[1];
  EXPECT_NE(lines()[1].find("\"bytes\":\"" + std::to_string(torn.size()) + "\""), std::string::npos)
      << lines()[1];
  int aside = 0;
  for (const auto& entry : std::filesystem::directory_iterator{dir_}) {
    const auto name = entry.path().filename().string();
    if (name == "audit.jsonl") continue;
    ++aside;
    EXPECT_EQ(name.find("audit.jsonl.torn-20231114T221320Z-"), 0U) << name;
    EXPECT_EQ(read_whole(entry.path()), torn);
    EXPECT_NE(lines()[1].find(name), std::string::npos) << lines()[1];
  }
  EXPECT_EQ(aside, 1);
}

TEST_F(Audit, AFirstLineThatWasCutOffIsMovedToo) {
  std::ofstream{file_} << "{\"n\":1,";

  add("push");

  const auto verified = verify(file_, std::nullopt);
  ASSERT_TRUE(verified) << verified.error().what;
  EXPECT_EQ(verified->records, 2U);
}

// Whoever takes the newline off makes slipway set a record aside, not without a trace: the control
// is the same record with its newline, which is one.
TEST_F(Audit, AttackATailThatLooksLikeAWholeRecordIsNone) {
  add("push");
  const auto denied = add("denied");
  const auto whole = read_whole(file_);
  EXPECT_TRUE(verify(file_, denied));
  std::filesystem::resize_file(file_, whole.size() - 1);

  EXPECT_FALSE(verify(file_, denied));
  add("push");

  EXPECT_EQ(verify(file_, std::nullopt)->repairs, 1U);
  EXPECT_EQ(verify(file_, denied).error().kind, ErrorKind::not_found);
  EXPECT_EQ(lines().size(), 3U);
}

TEST_F(Audit, MoreThanARecordWithoutANewlineIsRefused) {
  add("push");
  std::ofstream{file_, std::ios::app} << std::string((64UL << 10) + 1, 'x');
  const auto before = read_whole(file_);

  const auto appended = FileAuditLog{file_, clock_}.append("push", {});

  ASSERT_FALSE(appended);
  EXPECT_EQ(appended.error().kind, ErrorKind::misconfigured);
  EXPECT_EQ(read_whole(file_), before);
}

TEST_F(Audit, ConcurrentProcessesKeepOneChain) {
  std::vector<pid_t> children;
  for (int i = 0; i < 4; ++i) {
    const pid_t child = ::fork();
    if (child == 0) {
      for (int n = 0; n < 10; ++n)
        add("push");
      ::_exit(0);
    }
    children.push_back(child);
  }
  for (const pid_t child : children) {
    int status = 0;
    ::waitpid(child, &status, 0);
    EXPECT_EQ(status, 0);
  }

  const auto verified = verify(file_, std::nullopt);
  ASSERT_TRUE(verified) << verified.error().what;
  EXPECT_EQ(verified->records, 40U);
}

TEST_F(Audit, ARecordThatTheNextOneCouldNotReadIsRefused) {
  add("push");
  AuditLog::Fields fields;
  for (int i = 0; i < 20; ++i)
    fields.emplace_back("field" + std::to_string(i), std::string(4096, '\x01')); // six bytes each

  const auto appended = FileAuditLog{file_, clock_}.append("push", fields);

  ASSERT_FALSE(appended);
  EXPECT_EQ(appended.error().kind, ErrorKind::bad_input);
  EXPECT_NE(appended.error().what.find("of a line"), std::string::npos) << appended.error().what;
  add("push");
  EXPECT_EQ(verify(file_, std::nullopt)->records, 2U);
}

TEST_F(Audit, InvalidUtf8IsKeptVerifiable) {
  ASSERT_TRUE(FileAuditLog(file_, clock_).append("push", {{"image", "\xff\xfe\n\x1b[0m"}}));

  EXPECT_TRUE(verify(file_, std::nullopt));
}

} // namespace
} // namespace slipway::audit
