// SPDX-License-Identifier: Apache-2.0
#include "executor/base/unique_fd.hpp"
#include "executor/sandbox/egress.hpp"

#include <gtest/gtest.h>

#include <fcntl.h>
#include <sys/file.h>
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
	set same_bridge {
		type ifname . ifname
	}
	set closed {
		type ifname . ifname
@CLOSED@	}
	set refused4 {
		type ifname . ipv4_addr
		size 4096
		flags dynamic,timeout
		timeout 3600s
	}
	set refused6 {
		type ifname . ipv6_addr
		size 4096
		flags dynamic,timeout
		timeout 3600s
	}
	chain forward {
		type filter hook forward priority -300; policy accept;
		iifname "swc*" iifname . oifname != @closed meta l4proto tcp reject with tcp reset
		iifname "swc*" iifname . oifname != @closed reject with icmpx admin-prohibited
		oifname "swc*" iifname . oifname != @closed drop
		ip daddr @blocked4 update @refused4 { iifname . ip daddr }
		ip6 daddr @blocked6 update @refused6 { iifname . ip6 daddr }
		ip daddr @blocked4 meta l4proto tcp reject with tcp reset
		ip6 daddr @blocked6 meta l4proto tcp reject with tcp reset
		ip daddr @blocked4 reject with icmpx admin-prohibited
		ip6 daddr @blocked6 reject with icmpx admin-prohibited
	}
	chain input {
		type filter hook input priority -300; policy accept;
		iifname "swc*" meta l4proto tcp reject with tcp reset
		iifname "swc*" reject with icmpx admin-prohibited
	}
	chain postrouting {
		type nat hook postrouting priority 100; policy accept;
		oifname "tap0" masquerade
	}
}
)";

TEST(EgressScript, RefusesBothFamiliesInOneTransaction) {
  std::string elements;
  for (int i = 0; i < 256; ++i) {
    const auto name = "\"swc" + std::to_string(i) + "\"";
    elements += (i == 0 ? "\t\telements = { " : ",\n\t\t\t     ") + name + " . " + name;
  }
  std::string script = kScript;
  script.replace(script.find("@CLOSED@"), 8, elements + " }\n");
  EXPECT_EQ(egress_script({"192.0.2.1", "192.0.2.9"}, {"2001:db8::1"}, false), script);
}

TEST(EgressScript, HasNoElementsLineForAnEmptySet) {
  const auto script = egress_script({"192.0.2.1"}, {}, false);

  EXPECT_NE(script.find("type ipv6_addr\n\t}"), std::string::npos);
}

TEST(EgressScript, KeepsBridgesApartWhereAsked) {
  const auto script = egress_script({}, {}, true);

  EXPECT_NE(script.find("iifname . oifname != @same_bridge drop"), std::string::npos);
  EXPECT_NE(script.find("elements = { \"podman0\" . \"podman0\",\n"), std::string::npos);
  EXPECT_NE(script.find("\"podman255\" . \"podman255\" }"), std::string::npos);
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

// What one job read and another wrote meanwhile would be lost.
TEST_F(BlockedAddresses, AreReadAndWrittenByOneJobAtATime) {
  Engine engine;
  engine.runtime_dir = dir_;
  engine.deadline = std::chrono::milliseconds{50};
  const Egress egress{{"192.0.2.1"}};
  EXPECT_EQ(registry_addresses(engine, egress)->v4, std::set<std::string>{"192.0.2.1"});
  const UniqueFd others{::open((dir_ / "slipway-egress.lock").c_str(), O_RDWR | O_CLOEXEC)};
  ASSERT_EQ(::flock(others.get(), LOCK_EX), 0);

  const auto now = registry_addresses(engine, egress);

  ASSERT_FALSE(now.ok());
  EXPECT_EQ(now.error().kind, ErrorKind::timed_out);
}

TEST_F(BlockedAddresses, RefuseAHostThatNeverResolved) {
  ASSERT_TRUE(ask({"r.example"}, {{"192.0.2.1"}, {}}).ok());

  auto other = ask({"r.example", "s.example"}, {});

  ASSERT_FALSE(other.ok());
  EXPECT_EQ(other.error().kind, ErrorKind::unavailable);
  EXPECT_NE(other.error().what.find("s.example does not resolve"), std::string::npos);
}

std::string pairs_of(const std::string& stem, const std::string& other) {
  std::string pairs;
  for (int i = 0; i < 255; ++i) {
    const auto name = "\"" + stem + std::to_string(i) + "\"";
    pairs += R"({"concat": [)" + name + "," + name + "]},";
  }
  return pairs + R"({"concat": [")" + stem + R"(255",")" + other + R"("]})";
}

std::string listing(const std::string& elements4, const std::string& rules,
                    const std::string& pairs = "") {
  return R"({"nftables": [{"metainfo": {"version": "1.0.6"}},
    {"table": {"family": "inet", "name": "slipway_egress", "handle": 5}},
    {"set": {"family": "inet", "name": "blocked4", "table": "slipway_egress", "elem": [)" +
         elements4 + R"(]}},
    {"set": {"family": "inet", "name": "blocked6", "table": "slipway_egress"}},
    {"set": {"family": "inet", "name": "same_bridge", "table": "slipway_egress", "elem": [)" +
         pairs + R"(]}},
    {"set": {"family": "inet", "name": "closed", "table": "slipway_egress", "elem": [)" +
         pairs_of("swc", "swc255") + R"(]}},
    {"chain": {"family": "inet", "name": "forward", "hook": "forward", "prio": -300, "policy": "accept"}},
    {"chain": {"family": "inet", "name": "input", "hook": "input", "prio": -300, "policy": "accept"}},
    {"chain": {"family": "inet", "name": "postrouting", "hook": "postrouting", "prio": 100}},
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
std::string noted(const std::string& set) {
  return R"({"set": {"op": "update", "elem": {"concat": []}, "set": ")" + set + R"("}})";
}
constexpr const char* kAll = R"({"reject": {"type": "icmpx", "expr": "admin-prohibited"}})";

constexpr const char* kMasquerade = R"({"rule": {"chain": "postrouting", "expr": [{"match":
    {"op": "==", "left": {"meta": {"key": "oifname"}}, "right": "tap0"}}, {"masquerade": null}]}})";
constexpr const char* kIsolate = R"({"rule": {"chain": "forward", "expr": [
    {"match": {"op": "==", "left": {"meta": {"key": "iifname"}}, "right": "podman*"}},
    {"match": {"op": "==", "left": {"meta": {"key": "oifname"}}, "right": "podman*"}},
    {"match": {"op": "!=", "left": {"concat": [{"meta": {"key": "iifname"}},
      {"meta": {"key": "oifname"}}]}, "right": "@same_bridge"}}, {"drop": null}]}})";

std::string named(const char* key, const char* name) {
  return std::string{R"({"match": {"op": "==", "left": {"meta": {"key": ")"} + key +
         R"("}}, "right": ")" + name + R"("}})";
}

std::string closed_rules() {
  const std::string leaves = R"({"match": {"op": "!=", "left": {"concat": [{"meta": {"key":
    "iifname"}}, {"meta": {"key": "oifname"}}]}, "right": "@closed"}})";
  const auto from = named("iifname", "swc*");
  std::string rules;
  for (const auto& expression : {from + "," + leaves + "," + kTcp, from + "," + leaves + "," + kAll,
                                 named("oifname", "swc*") + "," + leaves + R"(,{"drop": null})",
                                 from + "," + kTcp, from + "," + kAll})
    rules += R"({"rule": {"expr": [)" + expression + "]}},";
  return rules;
}

std::string good_rules() {
  return closed_rules() + kMasquerade +
         ("," + rule("@blocked4", noted("@refused4")) + "," +
          rule("@blocked6", noted("@refused6")) + "," + rule("@blocked4", kTcp) + "," +
          rule("@blocked6", kTcp) + "," + rule("@blocked4", kAll) + "," + rule("@blocked6", kAll));
}

TEST(IsInForce, WantsEveryRuleOfClosedNetworks) {
  const auto rules = good_rules();
  const auto without = [&](const std::string& part) {
    auto fewer = rules;
    const auto at = fewer.find(part);
    EXPECT_NE(at, std::string::npos) << part;
    return fewer.replace(at, part.size(), part == "\"@closed\"" ? "\"@other\"" : "\"other\"");
  };

  EXPECT_TRUE(is_in_force(listing("", rules), {}, false));
  EXPECT_FALSE(is_in_force(listing("", without("\"@closed\"")), {}, false));
  EXPECT_FALSE(is_in_force(listing("", without("\"swc*\"")), {}, false));
  EXPECT_FALSE(is_in_force(listing("", rules.substr(closed_rules().size())), {}, false));
}

TEST(IsInForce, TakesNoWayOutForANote) {
  auto rules = good_rules();
  const auto note = rule("@blocked4", noted("@refused4"));
  rules.replace(rules.find(note), note.size(),
                rule("@blocked4", R"({"accept": null}, )" + noted("@refused4")));

  EXPECT_FALSE(is_in_force(listing(R"("192.0.2.1")", rules), {{"192.0.2.1"}, {}}, false));
}

TEST(NotedIn, TellsWhatTheTableHasNoted) {
  const auto noted = noted_in(R"({"nftables": [
    {"set": {"name": "refused4", "timeout": 3600, "elem": [
      {"elem": {"val": {"concat": ["podman1", "192.0.2.1"]}, "expires": 3595}},
      {"elem": {"val": {"concat": ["podman2", "192.0.2.1"]}, "expires": 12}},
      {"elem": {"val": {"concat": ["podman1", "192.0.2.1"]}, "expires": 3601}},
      {"elem": {"val": {"concat": ["podman1"]}, "expires": 3595}}, 7]}},
    {"set": {"name": "refused6", "timeout": 3600, "elem": [
      {"elem": {"val": {"concat": ["podman1", "2001:db8::1"]}, "expires": 3599}}]}},
    {"set": {"name": "blocked4", "elem": ["192.0.2.1"]}}]})");

  ASSERT_EQ(noted.size(), 3U);
  EXPECT_EQ(noted[1].bridge, "podman2");
  EXPECT_EQ(noted[1].address, "192.0.2.1");
  EXPECT_EQ(noted[1].left, std::chrono::seconds{12});
  EXPECT_EQ(noted[2].address, "2001:db8::1");
  EXPECT_TRUE(noted_in("not what nft prints").empty());
}

// A registry whose name gets another address makes the table anew, while jobs run.
TEST(EgressScript, KeepsWhatWasNoted) {
  const auto script = egress_script({"192.0.2.1"}, {}, false,
                                    {{"podman1", "192.0.2.1", std::chrono::seconds{7}},
                                     {"podman2", "2001:db8::1", std::chrono::seconds{8}}});

  EXPECT_NE(script.find("timeout 3600s\n\t\telements = { \"podman1\" . 192.0.2.1 expires 7s }\n"),
            std::string::npos)
      << script;
  EXPECT_NE(script.find("elements = { \"podman2\" . 2001:db8::1 expires 8s }\n"),
            std::string::npos);
}

TEST(IsInForce, AcceptsWhatWasInstalled) {
  EXPECT_TRUE(is_in_force(listing(R"("192.0.2.1")", good_rules()), {{"192.0.2.1"}, {}}, false));
}

TEST(IsInForce, WantsTheIsolationThatWasAskedFor) {
  const Addresses none;
  const auto rules = good_rules();
  const auto isolating = std::string{kIsolate} + "," + rules;

  EXPECT_TRUE(is_in_force(listing("", isolating, pairs_of("podman", "podman255")), none, true));
  EXPECT_FALSE(is_in_force(listing("", rules, pairs_of("podman", "podman255")), none, true));
  EXPECT_FALSE(is_in_force(listing("", isolating, pairs_of("podman", "podman0")), none, true));
  EXPECT_FALSE(is_in_force(listing("", isolating, R"({"concat": ["a", "a"]})"), none, true));
  EXPECT_FALSE(is_in_force(listing("", isolating, pairs_of("podman", "podman255")), none, false));
}

TEST(IsInForce, SeesEveryDifference) {
  const Addresses one{{"192.0.2.1"}, {}};
  const auto tcp_only = rule("@blocked4", kTcp) + "," + rule("@blocked6", kTcp);
  const auto all_only = rule("@blocked4", kAll) + "," + rule("@blocked6", kAll);

  EXPECT_FALSE(is_in_force("", one, false));
  EXPECT_FALSE(is_in_force(listing("", good_rules()), one, false));
  EXPECT_FALSE(is_in_force(listing(R"("192.0.2.1", "192.0.2.2")", good_rules()), one, false));
  EXPECT_FALSE(is_in_force(listing(R"("192.0.2.1")", tcp_only), one, false));
  EXPECT_FALSE(is_in_force(listing(R"("192.0.2.1")", tcp_only + "," + tcp_only), one, false));
  EXPECT_FALSE(is_in_force(listing(R"("192.0.2.1")", all_only), one, false));
  EXPECT_FALSE(is_in_force(listing(R"("192.0.2.1")", tcp_only + "," +
                                                         rule("@blocked4", R"({"accept": null})") +
                                                         "," + rule("@blocked6", kAll)),
                           one, false));
  EXPECT_FALSE(is_in_force(
      listing(R"("192.0.2.1")", rule("@blocked4", R"({"accept": null})") + "," + good_rules()), one,
      false));
}

} // namespace
} // namespace slipway::sandbox
