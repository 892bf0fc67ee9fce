// SPDX-License-Identifier: Apache-2.0
#include "executor/sandbox/egress.hpp"

#include <gtest/gtest.h>

#include <unistd.h>

namespace slipway::sandbox {
namespace {

constexpr const char* kScript = R"(table inet slipway_egress
delete table inet slipway_egress
table inet slipway_egress {
	set blocked4 {
		type ipv4_addr
		elements = { 192.0.2.1,
			     192.0.2.9 }
	}
	set blocked6 {
		type ipv6_addr
		elements = { 2001:db8::1 }
	}
	chain forward {
		type filter hook forward priority -300; policy accept;
		ip daddr @blocked4 meta l4proto tcp reject with tcp reset
		ip6 daddr @blocked6 meta l4proto tcp reject with tcp reset
		ip daddr @blocked4 reject with icmpx admin-prohibited
		ip6 daddr @blocked6 reject with icmpx admin-prohibited
	}
}
)";

TEST(EgressScript, RefusesBothFamiliesInOneTransaction) {
  EXPECT_EQ(egress_script({"192.0.2.1", "192.0.2.9"}, {"2001:db8::1"}), kScript);
}

TEST(EgressScript, HasNoElementsLineForAnEmptySet) {
  const auto script = egress_script({"192.0.2.1"}, {});

  EXPECT_NE(script.find("type ipv6_addr\n\t}"), std::string::npos);
}

TEST(HostOf, CutsThePort) {
  EXPECT_EQ(host_of("registry.example"), "registry.example");
  EXPECT_EQ(host_of("registry.example:5000"), "registry.example");
  EXPECT_EQ(host_of("192.0.2.1:5000"), "192.0.2.1");
  EXPECT_EQ(host_of("[2001:db8::1]:5000"), "2001:db8::1");
  EXPECT_EQ(host_of("2001:db8::1"), "2001:db8::1");
  EXPECT_EQ(host_of("[2001:db8::1"), "");
  EXPECT_EQ(host_of(":5000"), "");
}

TEST(Resolve, TakesLiteralsInCanonicalForm) {
  const std::chrono::milliseconds at_once{1};

  EXPECT_EQ(resolve("192.0.2.7", at_once).v4, std::set<std::string>{"192.0.2.7"});
  EXPECT_EQ(resolve("2001:DB8:0:0:0:0:0:1", at_once).v6, std::set<std::string>{"2001:db8::1"});
}

class BlockedAddresses : public testing::Test {
protected:
  void SetUp() override {
    std::string pattern = testing::TempDir() + "egress-XXXXXX";
    ASSERT_NE(::mkdtemp(pattern.data()), nullptr);
    dir_ = pattern;
  }
  void TearDown() override { std::filesystem::remove_all(dir_); }

  Result<Addresses> ask(const std::vector<std::string>& hosts, const Addresses& answer) {
    return blocked_addresses(
        hosts, [&answer](const std::string&) { return answer; }, dir_ / "memory.json");
  }
  std::filesystem::path dir_;
};

TEST_F(BlockedAddresses, KeepEarlierAnswersOfANameThatRotates) {
  ASSERT_TRUE(ask({"r.example:443"}, {{"192.0.2.1"}, {"2001:db8::1"}}).ok());

  auto now = ask({"r.example:443"}, {{"192.0.2.2"}, {}});

  EXPECT_EQ(now->v4, (std::set<std::string>{"192.0.2.1", "192.0.2.2"}));
  EXPECT_EQ(now->v6, (std::set<std::string>{"2001:db8::1"}));
}

TEST_F(BlockedAddresses, AreRememberedWhileDnsIsDown) {
  ASSERT_TRUE(ask({"r.example"}, {{"192.0.2.1"}, {}}).ok());

  EXPECT_EQ(ask({"r.example"}, {})->v4, std::set<std::string>{"192.0.2.1"});
}

TEST_F(BlockedAddresses, RefuseAHostThatNeverResolved) {
  ASSERT_TRUE(ask({"r.example"}, {{"192.0.2.1"}, {}}).ok());

  auto other = ask({"r.example", "s.example"}, {});

  ASSERT_FALSE(other.ok());
  EXPECT_EQ(other.error().kind, ErrorKind::unavailable);
  EXPECT_NE(other.error().what.find("s.example does not resolve"), std::string::npos);
}

std::string listing(const std::string& elements4, const std::string& rules) {
  return R"({"nftables": [{"metainfo": {"version": "1.0.6"}},
    {"table": {"family": "inet", "name": "slipway_egress", "handle": 5}},
    {"set": {"family": "inet", "name": "blocked4", "table": "slipway_egress", "elem": [)" +
         elements4 + R"(]}},
    {"set": {"family": "inet", "name": "blocked6", "table": "slipway_egress"}},
    {"chain": {"family": "inet", "name": "forward", "hook": "forward", "prio": -300, "policy": "accept"}},
    )" + rules +
         "]}";
}

std::string rule(const std::string& set, const std::string& more) {
  return R"({"rule": {"chain": "forward", "expr": [{"match": {"op": "==", "left": {"payload":
    {"protocol": "ip", "field": "daddr"}}, "right": ")" +
         set + R"("}}, )" + more + "]}}";
}

constexpr const char* kTcp = R"({"match": {"op": "==", "left": {"meta": {"key": "l4proto"}},
    "right": "tcp"}}, {"reject": {"type": "tcp reset"}})";
constexpr const char* kAll = R"({"reject": {"type": "icmpx", "expr": "admin-prohibited"}})";

std::string good_rules() {
  return rule("@blocked4", kTcp) + "," + rule("@blocked6", kTcp) + "," + rule("@blocked4", kAll) +
         "," + rule("@blocked6", kAll);
}

TEST(IsInForce, AcceptsWhatWasInstalled) {
  EXPECT_TRUE(is_in_force(listing(R"("192.0.2.1")", good_rules()), {{"192.0.2.1"}, {}}));
}

TEST(IsInForce, SeesEveryDifference) {
  const Addresses one{{"192.0.2.1"}, {}};
  const auto tcp_only = rule("@blocked4", kTcp) + "," + rule("@blocked6", kTcp);
  const auto all_only = rule("@blocked4", kAll) + "," + rule("@blocked6", kAll);

  EXPECT_FALSE(is_in_force("", one));
  EXPECT_FALSE(is_in_force(listing("", good_rules()), one));
  EXPECT_FALSE(is_in_force(listing(R"("192.0.2.1", "192.0.2.2")", good_rules()), one));
  EXPECT_FALSE(is_in_force(listing(R"("192.0.2.1")", tcp_only), one));
  EXPECT_FALSE(is_in_force(listing(R"("192.0.2.1")", tcp_only + "," + tcp_only), one));
  EXPECT_FALSE(is_in_force(listing(R"("192.0.2.1")", all_only), one));
  EXPECT_FALSE(is_in_force(listing(R"("192.0.2.1")", tcp_only + "," +
                                                         rule("@blocked4", R"({"accept": null})") +
                                                         "," + rule("@blocked6", kAll)),
                           one));
  EXPECT_FALSE(is_in_force(
      listing(R"("192.0.2.1")", rule("@blocked4", R"({"accept": null})") + "," + good_rules()),
      one));
}

} // namespace
} // namespace slipway::sandbox
