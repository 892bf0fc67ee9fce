// SPDX-License-Identifier: Apache-2.0
#include "executor/gate/release_marks.hpp"

#include <gtest/gtest.h>

#include <array>
#include <set>
#include <string>
#include <utility>
#include <vector>

namespace slipway::gate {
namespace {

ScanReport report_of(const std::string& family, const std::string& name,
                     const std::vector<std::array<std::string, 3>>& packages,
                     const std::set<std::string>& readers = {}) {
  ScanReport report;
  report.has_os = true;
  report.os_family = family;
  report.os_name = name;
  report.package_readers = readers;
  for (const auto& [type, package, version] : packages)
    report.packages.push_back(
        {package, version, "pkg:" + type + "/x/" + package + "@1", "", {}, {}});
  return report;
}

TEST(Contradiction, IsNoneWhereThePackagesAreTheSystems) {
  for (const auto& report :
       {report_of("debian", "12.5", {{"deb", "base-files", "12.4+deb12u5"}}, {"dpkg"}),
        report_of("debian", "10", {{"deb", "base-files", "10.3+deb10u13"}}, {"dpkg"}),
        report_of("debian", "trixie/sid", {{"deb", "base-files", "13.2"}}, {"dpkg"}),
        report_of("ubuntu", "22.04", {{"deb", "base-files", "12ubuntu4.6"}}, {"dpkg"}),
        report_of("alpine", "3.21.3", {{"apk", "alpine-release", "3.21.3-r0"}}, {"apk"}),
        report_of("alpine", "3.22.0_alpha20250108",
                  {{"apk", "alpine-release", "3.22.0_alpha20250108-r0"}}, {"apk"}),
        report_of("wolfi", "20230201", {{"apk", "wolfi-baselayout", "20230201-r7"}}, {"apk"}),
        report_of("rocky", "9.3", {{"rpm", "rocky-release", "9.3-1.2.el9"}}, {"rpm"}),
        report_of("redhat", "9.4", {{"rpm", "redhat-release", "9.4-0.5.el9"}}, {"rpm"}),
        report_of("azurelinux", "3.0", {{"rpm", "azurelinux-release", "3.0-20.azl3"}}, {"rpmqa"}),
        report_of("oracle", "8.10",
                  {{"rpm", "redhat-release", "2:8.10-0.2.0.1.el8"},
                   {"rpm", "oraclelinux-release", "8:8.10-1.0.8.el8"}},
                  {"rpm"}),
        report_of("centos", "7.9.2009", {{"rpm", "centos-release", "7-9.2009.1.el7"}}, {"rpm"}),
        report_of("ubuntu", "24.04", {{"deb", "base-files", "13ubuntu10.3"}}, {"dpkg"}),
        report_of("ubuntu", "18.04", {{"deb", "base-files", "10.1ubuntu2.12"}}, {"dpkg"}),
        report_of("ubuntu", "25.10", {{"deb", "base-files", "14ubuntu3"}}, {"dpkg"}),
        report_of("alpine", "3.22.0_alpha20250108",
                  {{"apk", "alpine-release", "3.23.0_alpha20250612-r0"}}, {"apk"}),
        report_of("amazon", "2023", {{"rpm", "system-release", "2023.5-0"}}, {"rpm"}),
        // A tool of another system, and packages whose reader is not told.
        report_of("debian", "12.5", {}, {"dpkg", "rpm"}), report_of("redhat", "9", {}),
        report_of("bottlerocket", "1.20", {}, {"bottlerocket-inventory"})})
    EXPECT_EQ(contradiction(report), "") << report.os_family << " " << report.os_name;
}

TEST(Contradiction, IsAPackageOfAnotherSystemOrRelease) {
  for (const auto& [report, said] :
       {std::pair{report_of("ubuntu", "22.04", {{"deb", "base-files", "12.4+deb12u5"}}),
                  "its base-files 12.4+deb12u5 is of Debian"},
        std::pair{report_of("ubuntu", "22.04", {{"deb", "base-files", "13ubuntu10.3"}}),
                  "its base-files 13ubuntu10.3 is of another Ubuntu"},
        std::pair{report_of("rocky", "8.9", {{"rpm", "rocky-release", "9.3-1.2.el9"}}),
                  "its rocky-release 9.3-1.2.el9 is of rocky 9"},
        std::pair{report_of("debian", "12.5", {{"deb", "base-files", "12ubuntu4.6"}}),
                  "its base-files 12ubuntu4.6 is of Ubuntu"},
        std::pair{report_of("debian", "11.8", {{"deb", "base-files", "12.4+deb12u5"}}),
                  "its base-files 12.4+deb12u5 is of Debian 12"},
        std::pair{report_of("alpine", "3.2.3", {{"apk", "alpine-release", "3.21.3-r0"}}),
                  "its alpine-release 3.21.3-r0 is of Alpine 3.21"},
        std::pair{report_of("rocky", "9.3", {{"rpm", "redhat-release", "9.4-0.5.el9"}}),
                  "its redhat-release 9.4-0.5.el9 is of redhat"},
        std::pair{report_of("rocky", "9.3", {}, {"dpkg"}), "its packages are those of dpkg"},
        std::pair{report_of("debian", "12", {}, {"apk"}), "its packages are those of apk"}})
    EXPECT_EQ(contradiction(report), said);
}

} // namespace
} // namespace slipway::gate
