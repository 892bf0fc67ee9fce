// SPDX-License-Identifier: Apache-2.0
#include "executor/sandbox/build_inputs.hpp"

#include <sys/utsname.h>

#include <algorithm>
#include <utility>

namespace slipway::sandbox {

namespace {

constexpr std::size_t kMaxDockerfileRead = 2UL << 20;
constexpr std::size_t kMaxIgnoreFile = 1UL << 20;
constexpr std::size_t kMaxPath = 8192;

bool is_below(const std::string& path, const std::string& root) {
  return path == root || path.starts_with(root + "/");
}

} // namespace

std::string host_platform() {
  utsname system{};
  if (::uname(&system) != 0) return "linux/amd64";
  const std::string machine = system.machine;
  return "linux/" + (machine == "x86_64" ? "amd64" : machine == "aarch64" ? "arm64" : machine);
}

Result<std::string> read_dockerfile(const ScriptRunner& client, const std::string& dir,
                                    const std::string& name, const BuildClock& clock) {
  const std::string source = dir + "/" + name;
  auto found = read_program(client, program_request({"/usr/bin/cat", "--", source}, "/"),
                            kMaxDockerfileRead, clock);
  if (found) return found;
  if (found.error().kind == ErrorKind::bad_input)
    return Error{
        ErrorKind::bad_input, "cannot read the Dockerfile " + source, "name it with -f", {}};
  return std::move(found).error().in("reading the Dockerfile");
}

Result<std::string> find_context(const ScriptRunner& client, const std::string& dir,
                                 const std::vector<std::string>& roots, const BuildClock& clock) {
  auto real = read_program(
      client, program_request({"/usr/bin/realpath", "-e", "-z", "--", dir}, "/"), kMaxPath, clock);
  if (!real) {
    if (real.error().kind == ErrorKind::bad_input)
      return Error{ErrorKind::bad_input, "build context " + dir + " does not exist", "", {}};
    return std::move(real).error().in("looking for the build context");
  }
  std::string context = real->substr(0, real->find('\0'));
  const bool is_inside = std::any_of(
      roots.begin(), roots.end(), [&](const std::string& root) { return is_below(context, root); });
  if (!is_inside)
    return Error{ErrorKind::bad_input,
                 "build context " + dir + " leads to " + context + ", which is outside " +
                     roots.front(),
                 "",
                 {}};
  return context;
}

Result<std::string> read_ignore_file(const ScriptRunner& client, const std::string& dockerfile,
                                     const std::string& context, const BuildClock& clock) {
  auto ignored =
      read_program(client,
                   program_request({"/bin/sh", "-c",
                                    R"(if [ -f "$1" ]; then file=$1; else file=$2; fi
[ ! -f "$file" ] || exec head -c 1048577 -- "$file")",
                                    "sh", dockerfile + ".dockerignore", context + "/.dockerignore"},
                                   "/"),
                   kMaxIgnoreFile, clock);
  if (!ignored) return std::move(ignored).error().in("reading the ignore file");
  return ignored;
}

engine_api::ScriptRequest pack_context(const std::string& context, bool compress) {
  std::vector<std::string> argv{"/usr/bin/tar",
                                "--create",
                                "--file=-",
                                "--format=posix",
                                "--owner=0",
                                "--group=0",
                                "--numeric-owner",
                                "--xattrs",
                                "--xattrs-include=user.*",
                                "--xattrs-include=security.capability",
                                "--directory=" + context,
                                "."};
  if (compress) argv.insert(argv.begin() + 1, "--use-compress-program=gzip -1");
  return program_request(std::move(argv), "/");
}

Status packed_well(const engine_api::ScriptEnding& ending) {
  // 1: a file changed while it was read, which no build can exclude. Source: tar(1).
  if (succeeded(ending) || ending.exit_code == 1) return {};
  return Error{ErrorKind::bad_input,
               "reading it " + describe(ending),
               "see that every file in it can be read",
               {}};
}

} // namespace slipway::sandbox
