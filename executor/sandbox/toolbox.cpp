// SPDX-License-Identifier: Apache-2.0
#include "executor/sandbox/toolbox.hpp"

#include "executor/sandbox/sandbox.hpp"

#include <openssl/sha.h>

#include <algorithm>
#include <array>
#include <cstdio>
#include <filesystem>
#include <string_view>

namespace slipway::sandbox {
namespace {

constexpr std::size_t kBlock = 512;

void put(std::string& header, std::size_t at, std::string_view text) {
  std::copy(text.begin(), text.end(), header.begin() + static_cast<std::ptrdiff_t>(at));
}

std::string octal(std::uint64_t number, int digits) {
  std::array<char, 24> text{};
  (void)std::snprintf(text.data(), text.size(), "%0*llo", digits,
                      static_cast<unsigned long long>(number));
  return text.data();
}

// One member in the ustar format: owner 0, time 0. Source: POSIX pax, "ustar Interchange Format".
void add_member(std::string& tar, const std::string& name, char type, unsigned mode,
                std::string_view content, std::string_view link = {}) {
  std::string header(kBlock, '\0');
  put(header, 0, name);
  put(header, 100, octal(mode, 7));
  put(header, 108, octal(0, 7));
  put(header, 116, octal(0, 7));
  put(header, 124, octal(content.size(), 11));
  put(header, 136, octal(0, 11));
  put(header, 148, "        ");
  header[156] = type;
  put(header, 157, link);
  put(header, 257,
      std::string_view{"ustar\0"
                       "00",
                       8});
  unsigned sum = 0;
  for (const char byte : header)
    sum += static_cast<unsigned char>(byte);
  put(header, 148, octal(sum, 6) + std::string{"\0 ", 2});
  tar += header;
  tar += content;
  tar.append((kBlock - content.size() % kBlock) % kBlock, '\0');
}

} // namespace

std::string toolbox_tar() {
  std::string tar;
  for (const char* dir : {"usr/", "etc/", "etc/ssl/", "var/", "run/", "proc/", "sys/", "dev/",
                          "root/", "builds/", "home/", "opt/", "var/lib/", "var/cache/"}) {
    add_member(tar, dir, '5', dir == std::string_view{"root/"} ? 0700 : 0755, "");
  }
  for (const char* dir : {"tmp/", "var/tmp/"})
    add_member(tar, dir, '5', 01777, "");
  for (const char* name : {"bin", "sbin", "lib", "lib64"}) {
    add_member(tar, name, '2', 0777, "", std::string{"usr/"} + name);
  }
  add_member(tar, "var/run", '2', 0777, "", "../run");
  add_member(tar, "etc/passwd", '0', 0644,
             "root:x:0:0:root:/root:/bin/sh\n"
             "nobody:x:65534:65534:nobody:/nonexistent:/usr/sbin/nologin\n");
  add_member(tar, "etc/group", '0', 0644, "root:x:0:\ntty:x:5:\nnogroup:x:65534:\n");
  add_member(tar, "etc/nsswitch.conf", '0', 0644,
             "passwd: files\ngroup: files\nshadow: files\nhosts: files dns\n");
  // What `git lfs install` writes: without it a checkout leaves pointers where files should be.
  add_member(tar, "etc/gitconfig", '0', 0644,
             "[filter \"lfs\"]\n"
             "\tclean = git-lfs clean -- %f\n"
             "\tsmudge = git-lfs smudge -- %f\n"
             "\tprocess = git-lfs filter-process\n"
             "\trequired = true\n");
  tar.append(2 * kBlock, '\0');
  return tar;
}

std::string bare_tar(const std::string& folder) {
  std::string tar;
  add_member(tar, folder + "/", '5', 0755, "");
  tar.append(2 * kBlock, '\0');
  return tar;
}

std::string toolbox_version(const std::string& tar) {
  std::array<unsigned char, SHA256_DIGEST_LENGTH> hash{};
  (void)::SHA256(reinterpret_cast<const unsigned char*>(tar.data()), tar.size(), hash.data());
  static constexpr std::string_view kDigits = "0123456789abcdef";
  std::string version;
  for (std::size_t i = 0; i < 6; ++i) {
    version += kDigits[hash[i] >> 4];
    version += kDigits[hash[i] & 15U];
  }
  return version;
}

Status use_host_tools(Podman& podman, SandboxSpec& spec) {
  auto image = podman.toolbox_image();
  if (!image) return std::move(image).error();
  spec.image = *std::move(image);
  // What the host's programs look for outside /usr; nothing of it is secret or writable.
  for (const char* path : {"/usr", "/etc/ssl/certs", "/etc/alternatives", "/etc/ld.so.cache"}) {
    std::error_code failed;
    if (!std::filesystem::exists(path, failed)) continue;
    spec.allow(HostMount{Mount{path, path, true}, "the host's own programs, read-only, as tools"});
  }
  return {};
}

} // namespace slipway::sandbox
