// SPDX-License-Identifier: Apache-2.0
#include "executor/backends/buildkit/output.hpp"

#include "executor/backends/build_backend.hpp"

#include <utility>
#include <vector>

namespace slipway::backends::buildkit {

namespace {

std::vector<std::string_view> lines_of(std::string_view text) {
  std::vector<std::string_view> lines;
  while (!text.empty()) {
    const std::size_t end = text.find('\n');
    std::string_view line = text.substr(0, end);
    if (!line.empty() && line.back() == '\r') line.remove_suffix(1);
    lines.push_back(line);
    if (end == std::string_view::npos) break;
    text.remove_prefix(end + 1);
  }
  return lines;
}

bool has(std::string_view text, std::string_view part) {
  return text.find(part) != std::string_view::npos;
}

std::string_view after(std::string_view text, std::string_view part) {
  const std::size_t at = text.find(part);
  return at == std::string_view::npos ? std::string_view{} : text.substr(at + part.size());
}

/// The kernel's word on a program that is none of this host's.
// slipway's own tells the daemon who builds: docs/decisions/0010-contexts-of-a-warm-builder.md.
constexpr const char* kAnothers =
    "this BuildKit is not the one that slipway builds with: its buildctl has no --shared-key";
constexpr const char* kForeign =
    "the step is for a platform that this host does not run: run it in a stage FROM "
    "--platform=$BUILDPLATFORM and copy its result, or have the operator register an emulator with "
    "binfmt_misc and the flag F, as Debian's qemu-user-static does; `slipway backends` lists the "
    "platforms";

/// "Dockerfile:4" as buildctl prints it before the lines of the file.
std::string place_in(const std::vector<std::string_view>& lines, const std::string& name) {
  for (std::size_t i = lines.size(); i-- > 0;) {
    if (!lines[i].starts_with(name + ":")) continue;
    const std::string_view number = lines[i].substr(name.size() + 1);
    if (!number.empty() && number.find_first_not_of("0123456789") == std::string_view::npos)
      return std::string{lines[i]};
  }
  return "";
}

} // namespace

Error explain_failure(std::string_view tail, const std::string& dockerfile_name) {
  const auto lines = lines_of(tail);
  std::string_view last;
  for (const std::string_view line : lines)
    if (line.starts_with("error: ")) last = line.substr(7);
  std::string place = place_in(lines, dockerfile_name);
  const std::string at = place.empty() ? "" : place + ": ";
  if (last.empty())
    return Error{ErrorKind::unavailable, "buildctl ended without saying why", "", {}};
  if (last.starts_with("failed to solve: ")) last.remove_prefix(17);
  const std::string text{last};

  if (has(last, "did not complete successfully: exit code: ")) {
    std::string_view code = after(last, "did not complete successfully: exit code: ");
    code = code.substr(0, code.find_first_not_of("0123456789"));
    return Error{ErrorKind::backend_failed,
                 at + std::string{kStepEnded} + std::string{code} + ": " + text,
                 has(tail, "exec format error") ? kForeign : "",
                 {}};
  }
  if (has(last, "denied by policy") && has(last, "docker-image://")) {
    std::string_view image = after(last, "docker-image://");
    image = image.substr(0, image.find('"'));
    return Error{ErrorKind::bad_input,
                 at + "image " + std::string{image} +
                     " is not among the base images that slipway fetched for this build",
                 "name it in a FROM of its own: FROM " + std::string{image} + " AS name",
                 {}};
  }
  if (has(last, "is not allowed") &&
      (has(last, "security.insecure") || has(last, "network.host") || has(last, "entitlement")))
    return Error{ErrorKind::denied,
                 at + "the build asks for a privilege that builders do not have: " + text,
                 "remove --security=insecure, --network=host or --device from RUN",
                 {}};
  if (has(last, "flag provided but not defined: -shared-key"))
    return Error{ErrorKind::unavailable,
                 kAnothers,
                 "build it with `packaging/tools/build buildkit`, and name it in [buildkit]",
                 {}};
  // The same words as below, but said of a server that ADD named.
  if (has(last, "Get \"http"))
    return Error{ErrorKind::backend_failed, at + "ADD could not fetch: " + text, "", {}};
  for (const std::string_view gone :
       {"connection refused", "error reading from server", "transport is closing",
        "connection error", "no active session", "failed to list workers",
        "context deadline exceeded while waiting for connections", "connection reset by peer",
        "frontend grpc server closed unexpectedly", "code = Unavailable"})
    if (has(last, gone))
      return Error{ErrorKind::unavailable, "the builder did not answer: " + text, "", {}};
  for (const std::string_view full : {"no space left on device", "disk quota exceeded"})
    if (has(last, full))
      return Error{ErrorKind::backend_failed, at + "the builder's disk is full: " + text, "", {}};
  for (const std::string_view broken :
       {"dockerfile parse error", "failed to read dockerfile", "target stage", "failed to parse",
        "invalid", "circular dependency", "file with no instructions",
        "variable expansion is not supported", "not found", "failed to process"})
    if (has(last, broken)) return Error{ErrorKind::bad_input, at + text, "", {}};
  return Error{ErrorKind::backend_failed, at + text, "", {}};
}

bool never_began(const Error& error) {
  return error.kind == ErrorKind::unavailable &&
         (error.what == kAnothers ||
          error.what.find("listing workers for Build: failed to list workers") !=
              std::string::npos);
}

} // namespace slipway::backends::buildkit
