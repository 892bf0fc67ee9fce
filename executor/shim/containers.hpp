// SPDX-License-Identifier: Apache-2.0
// What podman and buildah have in common: flags, names of images, transports.
// - An image that a job builds or tags without naming a registry is called localhost/NAME, as with
//   these tools. It can also be named without localhost/, in a FROM too.
// - A name without a registry that the job has no image of means docker.io.
// - docker:// pushes through the gate; docker-archive: and oci-archive: write a file.
#pragma once

#include "executor/shim/parsing.hpp"

#include <optional>
#include <string>
#include <vector>

namespace slipway::shim {

/// "Error: " and 125, as both do.
Manner containers_manner();

Command containers_build(Tool& tool, const std::string& called, const Words& words,
                         const Environment& env);
Command containers_push(Tool& tool, const std::string& called, const Words& words, Style style);
Command containers_pull(Tool& tool, const std::string& called, const Words& words, Style style);
Command containers_tag(Tool& tool, const std::string& called, const Words& words);
Command containers_images(Tool& tool, const std::string& called, const Words& words, Style style);
Command containers_remove(Tool& tool, const std::string& called, const Words& words, Style style);
Command containers_login(Tool& tool, const std::string& called, const Words& words);
Command containers_logout(Tool& tool, const std::string& called, const Words& words);

/// The names under which the job's store keeps what is tagged `name`: with localhost/ first, and
/// as a FROM would name it.
std::vector<std::string> stored_names(const std::string& name);

/// --creds, --tls-verify and the others that say how a registry is to be spoken to.
const std::vector<Flag>& containers_registry_flags();

/// The image's name without docker:// or containers-storage:, which may stand before it; nothing
/// where another transport does.
std::optional<std::string> containers_image_of_registry(const std::string& text);

/// --format of a push. Docker's own manifest is asked for with a note that there is none; text of
/// the refusal of another, or "".
std::string note_format(const std::string& format, Tool& tool);

/// Flags before the command: where the tool keeps its things, which slipway does for it.
const std::vector<Flag>& containers_global_flags();
/// Those of them that may stand behind the command as well.
std::vector<Flag> containers_flags_everywhere();

} // namespace slipway::shim
