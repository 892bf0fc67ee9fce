// SPDX-License-Identifier: Apache-2.0
// The broker's answers in the layouts of podman, buildah and img. All take and give JSON or text.
// - Image IDs are bare hexadecimal, repositories are spelled out ("docker.io/library/alpine").
// - A second name that exists only for FROM (see containers.hpp) is not shown.
#pragma once

#include "executor/base/result.hpp"
#include "executor/shim/command.hpp"

#include <cstdint>
#include <string>

namespace slipway::shim {

/// `podman images`, `buildah images` and `img ls` of the answer of /images/json. What does not
/// match the list's patterns is left out. Errors: bad_input (no list; a template's error);
/// not_found (buildah, a name that nothing matches).
Result<std::string> shown_images(const std::string& listed, const ListImages& list,
                                 std::int64_t now);

/// One image of /images/NAME/json as `podman inspect` has it.
Result<std::string> podman_image(const std::string& inspected);

/// The same for `buildah inspect`: `document` for people, `fields` for templates, which use the
/// names of Go's structures.
struct BuildahImage {
  std::string document;
  std::string fields;
};
Result<BuildahImage> buildah_image(const std::string& inspected);

/// `podman info`, `buildah info` of the answer of /info, as JSON. The keys of `fields` are Go's.
struct ContainersInfo {
  std::string document;
  std::string fields;
};
Result<ContainersInfo> containers_info(const std::string& info, Style style);

/// "version" of podman and buildah: text, and JSON for templates. No broker is asked.
std::string version_text(Style style);
std::string version_fields(Style style);

/// "sha256:ab…" as "ab…".
std::string bare_id(const std::string& id);

} // namespace slipway::shim
