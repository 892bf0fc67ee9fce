// SPDX-License-Identifier: Apache-2.0
// What found no route, of the kernel's own counters.
#include "executor/init/unrouted.hpp"

#include <gtest/gtest.h>

#include <string>

namespace slipway::init {
namespace {

const std::string kSnmp = "Ip: Forwarding DefaultTTL OutDiscards OutNoRoutes ReasmTimeout\n"
                          "Ip: 2 64 7 12 0\n"
                          "Icmp: InMsgs InErrors\n"
                          "Icmp: 3 4\n";

TEST(Unrouted, CounterIsFoundByItsName) {
  EXPECT_EQ(snmp_counter(kSnmp, "Ip:", "OutNoRoutes"), 12U);
  EXPECT_EQ(snmp_counter(kSnmp, "Icmp:", "InErrors"), 4U);
}

TEST(Unrouted, WhatIsNotThereIsNothing) {
  EXPECT_EQ(snmp_counter(kSnmp, "Ip:", "Missing"), 0U);
  EXPECT_EQ(snmp_counter(kSnmp, "Udp:", "OutNoRoutes"), 0U);
  EXPECT_EQ(snmp_counter("Ip: OutNoRoutes\n", "Ip:", "OutNoRoutes"), 0U);
  EXPECT_EQ(snmp_counter("Ip: A OutNoRoutes\nIp: 1\n", "Ip:", "OutNoRoutes"), 0U);
  EXPECT_EQ(snmp_counter("", "Ip:", "OutNoRoutes"), 0U);
}

} // namespace
} // namespace slipway::init
