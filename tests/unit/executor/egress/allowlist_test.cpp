// SPDX-License-Identifier: Apache-2.0
#include "executor/egress/allowlist.hpp"

#include <gtest/gtest.h>

#include <dlfcn.h>
#include <ifaddrs.h>

#include <cerrno>

namespace {
bool g_no_interfaces = false;
} // namespace

// In place of the C library's, which has no reason to fail here.
extern "C" int getifaddrs(ifaddrs** all) noexcept {
  if (g_no_interfaces) {
    errno = ENOMEM;
    return -1;
  }
  using Real = int (*)(ifaddrs**);
  return reinterpret_cast<Real>(::dlsym(RTLD_NEXT, "getifaddrs"))(all);
}

namespace slipway::egress {
namespace {

Target target(std::string_view text) {
  auto parsed = Target::parse(text);
  EXPECT_TRUE(parsed.ok()) << text;
  return parsed ? *parsed : Target{};
}

Listed find(const std::vector<std::string>& entries, std::string_view text) {
  auto list = Allowlist::parse(entries);
  EXPECT_TRUE(list.ok());
  return list->find(target(text));
}

TEST(EgressTarget, IsReadInOneForm) {
  EXPECT_EQ(target("Host.Example.:443").str(), "host.example:443");
  EXPECT_EQ(target("192.0.2.1:80").str(), "192.0.2.1:80");
  EXPECT_TRUE(target("192.0.2.1:80").literal);
  EXPECT_EQ(target("[2001:DB8:0::1]:443").str(), "[2001:db8::1]:443");
  EXPECT_EQ(Target::parse("host.example", 80)->port, 80);
}

struct BadTarget {
  const char* name;
  const char* text;
};
class BadTargets : public testing::TestWithParam<BadTarget> {};

TEST_P(BadTargets, AreRefused) {
  const auto parsed = Target::parse(GetParam().text);

  ASSERT_FALSE(parsed.ok());
  EXPECT_EQ(parsed.error().kind, ErrorKind::bad_input);
}

// What inet_aton, and so a resolver, takes for an address is among them: "127.1" is 127.0.0.1.
INSTANTIATE_TEST_SUITE_P(
    Texts, BadTargets,
    testing::Values(
        BadTarget{"NoPort", "host.example"}, BadTarget{"PortZero", "host.example:0"},
        BadTarget{"PortTooLarge", "host.example:65536"},
        BadTarget{"PortWithSign", "host.example:+443"}, BadTarget{"Empty", ""},
        BadTarget{"NoHost", ":443"}, BadTarget{"ShortAddress", "127.1:80"},
        BadTarget{"Decimal", "2130706433:80"}, BadTarget{"Hexadecimal", "0x7f000001:80"},
        BadTarget{"HexadecimalPart", "127.0.0.0x1:80"}, BadTarget{"Octal", "0177.0.0.1:80"},
        BadTarget{"EmptyLabel", "a..example:80"}, BadTarget{"UserInfo", "user@host.example:80"},
        BadTarget{"Blank", "host example:80"}, BadTarget{"Nul", "host.exa\x01mple:80"},
        BadTarget{"Path", "host.example/x:80"}, BadTarget{"SixWithoutBrackets", "::1:80"},
        BadTarget{"NameInBrackets", "[host.example]:80"},
        BadTarget{"FourInBrackets", "[127.0.0.1]:80"}, BadTarget{"Zone", "[fe80::1%eth0]:80"}),
    [](const auto& tested) { return std::string{tested.param.name}; });

TEST(EgressAllowlist, TakesAHostAtTheWebsPortsOnly) {
  EXPECT_EQ(find({"api.example"}, "api.example:443"), Listed::exact);
  EXPECT_EQ(find({"api.example"}, "API.example.:80"), Listed::exact);
  EXPECT_EQ(find({"api.example"}, "api.example:22"), Listed::no);
  EXPECT_EQ(find({"api.example:22"}, "api.example:22"), Listed::exact);
  EXPECT_EQ(find({"api.example:22"}, "api.example:443"), Listed::no);
  EXPECT_EQ(find({"api.example:*"}, "api.example:9418"), Listed::exact);
}

TEST(EgressAllowlist, TakesNamesBelowAtTheirDot) {
  EXPECT_EQ(find({"*.example"}, "a.example:443"), Listed::below);
  EXPECT_EQ(find({"*.example"}, "a.b.example:443"), Listed::below);
  EXPECT_EQ(find({"*.example"}, "example:443"), Listed::no);
  EXPECT_EQ(find({"*.example"}, "badexample:443"), Listed::no);
  EXPECT_EQ(find({"*.example"}, "a.example.evil:443"), Listed::no);
  EXPECT_EQ(find({"*.example", "a.example"}, "a.example:443"), Listed::exact);
}

TEST(EgressAllowlist, TakesAddressesByThemselvesOnly) {
  EXPECT_EQ(find({"192.0.2.1"}, "192.0.2.1:80"), Listed::exact);
  EXPECT_EQ(find({"192.0.2.1"}, "192.0.2.10:80"), Listed::no);
  EXPECT_EQ(find({"[2001:DB8::1]:8080"}, "[2001:db8:0::1]:8080"), Listed::exact);
}

TEST(EgressAllowlist, SaysWhatIsWrongWithAnEntry) {
  for (const char* text : {"https://host.example", "host.example/x", "a*.example", "*", "*.", "",
                           "host.example:0", "host.example:https", "127.1", "*.1.2", "[::1"}) {
    const auto entry = Entry::parse(text);
    ASSERT_FALSE(entry.ok()) << text;
    EXPECT_EQ(entry.error().kind, ErrorKind::misconfigured);
    EXPECT_NE(entry.error().what.find("'" + std::string{text} + "'"), std::string::npos);
  }
}

TEST(InterfaceAddresses, AreNeverMistakenForNone) {
  const auto own = interface_addresses();
  ASSERT_TRUE(own.ok()) << own.error().text();
  EXPECT_TRUE(own->contains("127.0.0.1") || own->empty()); // a namespace may have none

  g_no_interfaces = true;
  const auto unknown = interface_addresses();
  g_no_interfaces = false;

  ASSERT_FALSE(unknown.ok());
  EXPECT_EQ(unknown.error().kind, ErrorKind::io);
}

TEST(EgressReach, TellsWhoseAddressItIs) {
  for (const char* address : {"93.184.216.34", "8.8.8.8", "2606:2800:220:1::1", "172.32.0.1",
                              "::ffff:8.8.8.8", "64:ff9b::808:808", "2002:808:808::1"})
    EXPECT_EQ(reach_of(address), Reach::everywhere) << address;
  for (const char* address :
       {"10.1.2.3", "172.16.0.1", "172.31.255.255", "192.168.1.1", "100.64.0.1", "fd12::1",
        "fc00::1", "::ffff:10.1.2.3", "64:ff9b::a01:203", "2002:a01:203::1"})
    EXPECT_EQ(reach_of(address), Reach::local_net) << address;
  for (const char* address : {"127.0.0.1",
                              "127.255.0.1",
                              "0.0.0.0",
                              "0.1.2.3",
                              "169.254.169.254",
                              "224.0.0.1",
                              "255.255.255.255",
                              "100.100.100.200",
                              "168.63.129.16",
                              "192.0.0.192",
                              "::1",
                              "::",
                              "fe80::1",
                              "ff02::1",
                              "fd00:ec2::254",
                              "::ffff:127.0.0.1",
                              "64:ff9b::7f00:1",
                              "2002:7f00:1::1",
                              "::7f00:1",
                              "not an address",
                              ""})
    EXPECT_EQ(reach_of(address), Reach::this_host) << address;
}

} // namespace
} // namespace slipway::egress
