// SPDX-License-Identifier: Apache-2.0
#include "executor/sandbox/seccomp.hpp"

#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include <fstream>
#include <set>
#include <string>
#include <vector>

namespace slipway::sandbox {
namespace {

using Json = nlohmann::json;
using Names = std::set<std::string>;

/// Every call that this machine's kernel headers know.
Names calls_of(const char* header) {
  std::ifstream in{header};
  Names calls;
  const std::string begin = "#define __NR_";
  for (std::string line; std::getline(in, line);)
    if (line.starts_with(begin))
      calls.insert(line.substr(begin.size(), line.find(' ', begin.size()) - begin.size()));
  return calls;
}

/// What the rules name that do `action`, whatever they ask for besides.
Names named(const Json& profile, const std::string& action) {
  Names names;
  for (const auto& rule : profile["syscalls"])
    if (rule["action"] == action)
      for (const auto& name : rule["names"])
        names.insert(name.get<std::string>());
  return names;
}

std::vector<Json> rules_for(const Json& profile, const std::string& call) {
  std::vector<Json> rules;
  for (const auto& rule : profile["syscalls"])
    for (const auto& name : rule["names"])
      if (name == call) rules.push_back(rule);
  return rules;
}

class KernelsList : public testing::TestWithParam<const char*> {};

TEST_P(KernelsList, HasNoCallThatNobodyThoughtOf) {
  const auto profile = Json::parse(container_seccomp());
  const auto allowed = named(profile, "SCMP_ACT_ALLOW");
  const auto refused = refused_calls();

  const auto calls = calls_of(GetParam());

  EXPECT_GT(calls.size(), 300U) << "is this the kernel's list?";
  for (const auto& call : calls)
    EXPECT_NE(allowed.contains(call), refused.contains(call)) << call;
}

TEST_P(KernelsList, HasNoCallOfWhichBuildersWereForgotten) {
  for (const auto steps : {StepsBy::runc, StepsBy::changed_root}) {
    const auto profile = Json::parse(builder_seccomp(steps));
    const auto allowed = named(profile, "SCMP_ACT_ALLOW");
    auto refused = named(profile, "SCMP_ACT_ERRNO");
    // Of 32-bit programs: a rule for it would be one for all their sockets.
    EXPECT_TRUE(refused.insert("socketcall").second);

    EXPECT_EQ(refused, calls_refused_to_builders(steps));
    for (const auto& call : calls_of(GetParam()))
      EXPECT_NE(allowed.contains(call), refused.contains(call)) << call;
  }
}

INSTANTIATE_TEST_SUITE_P(Architectures, KernelsList,
                         testing::Values("/usr/include/x86_64-linux-gnu/asm/unistd_64.h",
                                         "/usr/include/x86_64-linux-gnu/asm/unistd_32.h"),
                         [](const auto& header) {
                           return std::string{header.index == 0 ? "SixtyFourBit" : "ThirtyTwoBit"};
                         });

TEST(ContainerSeccomp, RefusesWhatItDoesNotName) {
  const auto profile = Json::parse(container_seccomp());

  EXPECT_EQ(profile["defaultAction"], "SCMP_ACT_ERRNO");
  for (const auto& call : named(profile, "SCMP_ACT_ALLOW"))
    EXPECT_FALSE(refused_calls().contains(call)) << call;
}

TEST(ContainerSeccomp, MakesNamespacesAndMountsOnlyWithTheCapability) {
  const auto profile = Json::parse(container_seccomp());
  const Json admin{{"caps", {"CAP_SYS_ADMIN"}}};

  for (const char* call : {"mount", "umount2", "unshare", "setns", "fsopen", "move_mount",
                           "pivot_root", "mount_setattr"}) {
    const auto rules = rules_for(profile, call);
    ASSERT_EQ(rules.size(), 1U) << call;
    EXPECT_EQ(rules[0]["includes"], admin) << call;
  }
  for (const auto& rule : rules_for(profile, "clone")) {
    if (rule.contains("includes")) continue;
    EXPECT_EQ(rule["excludes"], admin);
    EXPECT_EQ(rule["args"], Json::parse(R"([{"index":0,"value":2114060288,"valueTwo":0,
                                             "op":"SCMP_CMP_MASKED_EQ"}])"));
  }
  const auto clone3 = rules_for(profile, "clone3");
  ASSERT_EQ(clone3.size(), 2U);
  EXPECT_EQ(clone3[1]["errnoRet"], 38) << "C libraries take clone then";
}

TEST(ContainerSeccomp, LooksAtAllOfAnArgumentThatTheKernelReads) {
  const auto profile = Json::parse(container_seccomp());

  std::set<int> families;
  for (const auto& rule : rules_for(profile, "socket")) {
    ASSERT_EQ(rule["args"].size(), 1U) << "two of one argument are two rules for some runtimes";
    EXPECT_EQ(rule["args"][0]["op"], "SCMP_CMP_MASKED_EQ");
    EXPECT_EQ(rule["args"][0]["value"], 0xffffffff);
    families.insert(rule["args"][0]["valueTwo"].get<int>());
  }
  EXPECT_EQ(families, (std::set<int>{1, 2, 10, 16, 17, 31}));
  for (const auto& rule : rules_for(profile, "personality"))
    EXPECT_TRUE(rule.contains("args"));
}

TEST(EngineSeccomp, RefusesWhatNoSandboxOfAJobMayCallAndLetsAnEngineWork) {
  const auto profile = Json::parse(engine_seccomp());

  EXPECT_EQ(profile["defaultAction"], "SCMP_ACT_ALLOW");
  const auto refused = named(profile, "SCMP_ACT_ERRNO");
  for (const char* call : {"bpf", "io_uring_setup", "kexec_load", "finit_module", "add_key",
                           "perf_event_open", "userfaultfd", "open_by_handle_at", "settimeofday"})
    EXPECT_TRUE(refused.contains(call)) << call;
  for (const char* call : {"mount", "unshare", "setns", "clone3", "keyctl", "pivot_root", "reboot",
                           "socket", "socketcall"}) // 32-bit programs of glibc have no other
    EXPECT_FALSE(refused.contains(call)) << call;
}

TEST(BuilderSeccomp, RefusesAllThatAnEngineIsRefusedAndMore) {
  const auto engine = named(Json::parse(engine_seccomp()), "SCMP_ACT_ERRNO");
  for (const auto steps : {StepsBy::runc, StepsBy::changed_root}) {
    const auto profile = Json::parse(builder_seccomp(steps));
    const auto refused = named(profile, "SCMP_ACT_ERRNO");
    for (const auto& call : engine)
      EXPECT_TRUE(refused.contains(call)) << call;
    for (const char* call : {"syslog", "reboot", "vhangup", "move_pages", "uselib"})
      EXPECT_TRUE(refused.contains(call)) << call;
    for (const auto& rule : rules_for(profile, "bpf"))
      EXPECT_EQ(rule["errnoRet"], 1) << "EPERM";
  }
}

TEST(BuilderSeccomp, LetsBuildersMountAndMakeNamespacesAndOnlyRuncMakeKeyrings) {
  for (const auto steps : {StepsBy::runc, StepsBy::changed_root}) {
    const auto allowed = named(Json::parse(builder_seccomp(steps)), "SCMP_ACT_ALLOW");
    for (const char* call :
         {"mount", "umount2", "unshare", "setns", "clone", "clone3", "pivot_root", "chroot",
          "mknod", "fsopen", "move_mount", "mount_setattr", "ptrace", "personality", "seccomp"})
      EXPECT_TRUE(allowed.contains(call)) << call;
    EXPECT_EQ(allowed.contains("keyctl"), steps == StepsBy::runc);
  }
}

TEST(BuilderSeccomp, GivesUnknownCallsAndOtherSocketsAnErrorThatProgramsKnow) {
  const auto profile = Json::parse(builder_seccomp(StepsBy::runc));

  EXPECT_EQ(profile["defaultAction"], "SCMP_ACT_ERRNO");
  EXPECT_EQ(profile["defaultErrnoRet"], 38) << "C libraries take an older call then";
  std::set<int> families;
  std::set<int> of_netlink;
  for (const auto& rule : rules_for(profile, "socket")) {
    const int family = rule["args"][0]["valueTwo"].get<int>();
    families.insert(family);
    ASSERT_EQ(rule["args"].size(), family == 16 ? 2U : 1U);
    if (family != 16) continue;
    EXPECT_EQ(rule["args"][1]["index"], 2);
    of_netlink.insert(rule["args"][1]["valueTwo"].get<int>());
  }
  EXPECT_EQ(families, (std::set<int>{1, 2, 10, 16}));
  EXPECT_EQ(of_netlink, (std::set<int>{0, 4, 9, 15, 16})) << "neither nftables nor IPsec";
  for (const auto& rule : rules_for(profile, "add_key"))
    EXPECT_EQ(rule["errnoRet"], 38) << "as from a kernel without keys";
}

// Kinds of socketcall that have no call of their own on x86-64; libseccomp knows them by name.
TEST(EverySeccomp, LetsThirtyTwoBitProgramsSendAndReceive) {
  for (const auto& text : {container_seccomp(), builder_seccomp(StepsBy::runc),
                           builder_seccomp(StepsBy::changed_root)}) {
    const auto allowed = named(Json::parse(text), "SCMP_ACT_ALLOW");
    for (const char* call : {"send", "recv", "sendto", "recvfrom", "socket", "connect"})
      EXPECT_TRUE(allowed.contains(call)) << call;
  }
}

} // namespace
} // namespace slipway::sandbox
