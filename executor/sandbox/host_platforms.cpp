// SPDX-License-Identifier: Apache-2.0
#include "executor/sandbox/host_platforms.hpp"

#include "executor/base/file.hpp"
#include "executor/oci/platform.hpp"

#include <algorithm>
#include <optional>
#include <string_view>

namespace slipway::sandbox {
namespace {

constexpr std::size_t kMaxEntryBytes = 8192;
/// How an ELF file of the machine begins: class (1 = 32 bits), byte order (1 = little), e_machine.
struct Machine {
  int elf_class;
  int order;
  int machine;
  oci::Platform platform;
};

const std::vector<Machine>& machines() {
  static const std::vector<Machine> kAll{
      {1, 1, 0x03, {"386", "linux", ""}},      {2, 1, 0x3e, {"amd64", "linux", ""}},
      {1, 1, 0x28, {"arm", "linux", "v7"}},    {2, 1, 0xb7, {"arm64", "linux", ""}},
      {2, 1, 0xf3, {"riscv64", "linux", ""}},  {2, 1, 0x15, {"ppc64le", "linux", ""}},
      {2, 2, 0x16, {"s390x", "linux", ""}},    {2, 1, 0x08, {"mips64le", "linux", ""}},
      {2, 1, 0x102, {"loong64", "linux", ""}},
  };
  return kAll;
}

/// The byte at `place` of a magic written in hex; nothing where it is shorter.
std::optional<int> byte_at(std::string_view hex, std::size_t place) {
  if (hex.size() < place * 2 + 2) return std::nullopt;
  int value = 0;
  for (const char c : hex.substr(place * 2, 2)) {
    const bool digit = c >= '0' && c <= '9';
    if (!digit && (c < 'a' || c > 'f')) return std::nullopt;
    value = value * 16 + (digit ? c - '0' : c - 'a' + 10);
  }
  return value;
}

std::optional<oci::Platform> platform_of(std::string_view magic) {
  constexpr std::string_view kElf = "7f454c46";
  if (!magic.starts_with(kElf)) return std::nullopt;
  const auto elf_class = byte_at(magic, 4);
  const auto order = byte_at(magic, 5);
  const auto first = byte_at(magic, 18);
  const auto second = byte_at(magic, 19);
  if (!first || !second) return std::nullopt;
  for (const auto& known : machines()) {
    const int machine = known.order == 1 ? *first + *second * 256 : *first * 256 + *second;
    if (known.elf_class == elf_class && known.order == order && known.machine == machine)
      return known.platform;
  }
  return std::nullopt;
}

/// "KEY VALUE" or "KEY: VALUE" in one of the entry's lines; "" where there is none.
std::string_view value_of(std::string_view entry, std::string_view key) {
  while (!entry.empty()) {
    auto line = entry.substr(0, entry.find('\n'));
    entry.remove_prefix(std::min(entry.size(), line.size() + 1));
    if (!line.starts_with(key)) continue;
    line.remove_prefix(key.size());
    if (line.starts_with(':')) line.remove_prefix(1);
    if (line.starts_with(' ')) return line.substr(1);
  }
  return {};
}

} // namespace

HostPlatforms host_platforms(const std::filesystem::path& binfmt) {
  HostPlatforms found;
  const auto own = oci::host_platform();
  found.platforms.push_back({own, "", true});
  if (own.architecture == "amd64") found.platforms.push_back({{"386", "linux", ""}, "", true});
  found.emulators_known = read_file(binfmt / "status", kMaxEntryBytes).ok();
  std::vector<HostPlatform> emulated;
  std::error_code failed;
  for (const auto& file : std::filesystem::directory_iterator{binfmt, failed}) {
    const auto entry = read_file(file.path(), kMaxEntryBytes);
    if (!entry || !entry->starts_with("enabled")) continue;
    auto platform = platform_of(value_of(*entry, "magic"));
    const bool is_known = !platform || std::any_of(found.platforms.begin(), found.platforms.end(),
                                                   [&](const HostPlatform& known) {
                                                     return known.platform == *platform;
                                                   });
    if (is_known) continue;
    emulated.push_back({*std::move(platform), file.path().filename().string(),
                        value_of(*entry, "flags").find('F') != std::string_view::npos});
  }
  std::sort(emulated.begin(), emulated.end(), [](const HostPlatform& a, const HostPlatform& b) {
    return a.platform.str() < b.platform.str();
  });
  found.platforms.insert(found.platforms.end(), emulated.begin(), emulated.end());
  return found;
}

std::vector<std::string> platform_lines(const HostPlatforms& platforms) {
  std::string usable;
  std::vector<std::string> lines;
  for (const auto& one : platforms.platforms) {
    if (one.in_sandboxes) {
      usable += (usable.empty() ? "" : ", ") + one.platform.str() +
                (one.emulator.empty() ? "" : " (" + one.emulator + ")");
      continue;
    }
    lines.push_back("  " + one.platform.str() + ": " + one.emulator +
                    " is registered without the flag F, so builds do not find it");
    lines.push_back("    what to do: register it with F, as Debian's qemu-user-static does");
  }
  lines.insert(lines.begin(), "steps run for: " + usable);
  if (!platforms.emulators_known)
    lines.emplace_back("  binfmt_misc is not mounted here, so emulators are not known");
  return lines;
}

} // namespace slipway::sandbox
