// SPDX-License-Identifier: Apache-2.0
#include "executor/gate/release_marks.hpp"

#include <algorithm>
#include <array>
#include <string_view>
#include <utility>

namespace slipway::gate {
namespace {

constexpr std::array<std::pair<std::string_view, std::string_view>, 7> kReaders{
    {{"alpine", "apk"},
     {"chainguard", "apk"},
     {"debian", "dpkg"},
     {"echo", "dpkg"},
     {"minimos", "apk"},
     {"ubuntu", "dpkg"},
     {"wolfi", "apk"}}};
constexpr std::string_view kOtherReader = "rpm"; ///< and its like: "rpmqa"

// The package that brings the release file, and whose it is. Oracle has one of Red Hat's name, too.
constexpr std::array<std::pair<std::string_view, std::string_view>, 9> kReleasePackages{
    {{"almalinux-release", "alma"},
     {"azurelinux-release", "azurelinux"},
     {"centos-linux-release", "centos"},
     {"centos-release", "centos"},
     {"mariner-release", "cbl-mariner"},
     {"oraclelinux-release", "oracle"},
     {"photon-release", "photon"},
     {"redhat-release", "redhat"},
     {"rocky-release", "rocky"}}};

// What stands before "ubuntu" in the version of a release's base-files. Of those that get updates
// for years; others are not compared.
constexpr std::array<std::pair<std::string_view, std::string_view>, 4> kUbuntus{
    {{"18.04", "10"}, {"20.04", "11"}, {"22.04", "12"}, {"24.04", "13"}}};

std::string_view before(std::string_view text, std::string_view ends) {
  return text.substr(0, text.find_first_of(ends));
}

// "3.21" of "3.21.3" and of "3.21.0_alpha20240923-r0".
std::string_view two_parts(std::string_view version) {
  const auto dot = version.find('.');
  if (dot == std::string_view::npos) return before(version, "-_");
  return version.substr(0, version.find_first_of(".-_", dot + 1));
}

bool has_other_reader(const ScanReport& report, std::string_view wanted) {
  return !report.package_readers.empty() &&
         std::none_of(report.package_readers.begin(), report.package_readers.end(),
                      [&](const std::string& reader) { return reader.starts_with(wanted); });
}

std::string is_of(const Package& package, std::string_view whose) {
  return "its " + package.name + " " + printable(package.version, 60) + " is of " +
         std::string{whose};
}

} // namespace

std::string contradiction(const ScanReport& report) {
  const std::string_view family = report.os_family;
  const auto known = std::find_if(kReaders.begin(), kReaders.end(),
                                  [&](const auto& one) { return one.first == family; });
  const auto wanted = known == kReaders.end() ? kOtherReader : known->second;
  if (family != "bottlerocket" && has_other_reader(report, wanted))
    return "its packages are those of " + *report.package_readers.begin();
  for (const auto& package : report.packages) {
    const std::string_view version = package.version;
    if (package.name == "base-files" && package.purl.starts_with("pkg:deb/")) {
      const bool is_ubuntus = version.find("ubuntu") != std::string_view::npos;
      if (family == "ubuntu" && !is_ubuntus) return is_of(package, "Debian");
      for (const auto& [release, number] : kUbuntus)
        if (family == "ubuntu" && report.os_name == release && before(version, ".u") != number)
          return is_of(package, "another Ubuntu");
      if (family != "debian") continue;
      if (is_ubuntus) return is_of(package, "Ubuntu");
      const bool is_numbered =
          !report.os_name.empty() && report.os_name.front() >= '0' && report.os_name.front() <= '9';
      if (is_numbered && before(version, ".+-") != before(report.os_name, "."))
        return is_of(package, "Debian " + std::string{before(version, ".+-")});
    } else if (package.name == "alpine-release" && package.purl.starts_with("pkg:apk/")) {
      // What will be the next release moves on under one name.
      const bool is_edge = version.find("_alpha") != std::string_view::npos &&
                           report.os_name.find("_alpha") != std::string::npos;
      if (family == "alpine" && !is_edge && two_parts(version) != two_parts(report.os_name))
        return is_of(package, "Alpine " + std::string{two_parts(version)});
    } else if (package.purl.starts_with("pkg:rpm/")) {
      for (const auto& [name, whose] : kReleasePackages) {
        if (package.name != name || (family == "oracle" && whose == "redhat")) continue;
        if (family != whose) return is_of(package, whose);
        const auto number = version.substr(version.find(':') + 1); // npos + 1: all of it
        if (before(number, ".-") != before(report.os_name, "."))
          return is_of(package, std::string{whose} + " " + std::string{before(number, ".-")});
      }
    }
  }
  return "";
}

} // namespace slipway::gate
