// SPDX-License-Identifier: Apache-2.0
// What a build can ask of a backend, and which backend gives it, from which version on, as slipway
// runs it. What a backend would ignore, or get wrong without an error, it does not have.
#pragma once

#include "executor/backends/build_backend.hpp"

#include <set>
#include <string>
#include <string_view>
#include <vector>

namespace slipway::router {

enum class Feature {
  frontend,
  escape_directive,
  run_mount_cache,
  run_mount_cache_private,
  run_mount_cache_from,
  run_mount_secret,
  run_mount_secret_env,
  run_mount_ssh,
  run_mount_bind,
  run_mount_bind_from,
  run_mount_tmpfs,
  run_mount_tmpfs_size,
  run_mount_unknown,
  run_network_none,
  run_network_host,
  run_security_insecure,
  run_device,
  run_heredoc,
  run_heredoc_quoted,
  run_heredoc_stdin,
  copy_heredoc,
  copy_heredoc_expanded,
  copy_link,
  copy_chmod,
  copy_chmod_folder,
  copy_chmod_special,
  copy_chmod_symbolic,
  copy_folder,
  copy_of_link,
  copy_owner,
  copy_parents,
  copy_exclude,
  copy_from_digest,
  add_url,
  add_checksum,
  add_git,
  add_keep_git_dir,
  add_unpack,
  add_archive,
  from_platform,
  from_platform_args,
  base_platforms,
  platform_args,
  variable_modifiers,
  arg_with_equals,
  arg_after_env,
  arg_in_stages,
  stage_name_twice,
  shell,
  shell_form_command,
  text_after_json,
  label_variables,
  label_twice,
  healthcheck,
  healthcheck_start_interval,
  onbuild,
  onbuild_from,
  user_group,
  volume,
  volume_changes,
  workdir_last,
  workdir_of_user,
  expose_range,
  expose_protocol,
  dockerfile_ignore_file,
  dockerfile_beside,
  container_ignore_file,
  scoped_ignore_file,
  multi_platform,
  other_platform,
  build_secrets,
  build_ssh,
  network_none,
  network_host,
  named_contexts,
  cache_backends,
  buildkit_args,
  extra_hosts,
  squash,
  squash_base,
};

/// What one family of backends makes of a feature.
struct Ability {
  std::string_view since;     ///< first version that has it; "" = none does
  std::string_view trait;     ///< needed in Descriptor::capabilities as well; "" = nothing
  std::string_view otherwise; ///< "…s it": what the backend does that does not have it
};

/// One row: a feature, what it is called, and each family's ability.
struct Row {
  Feature feature;
  std::string_view name;  ///< "run-mount-cache": in JSON
  std::string_view words; ///< "a cache mount (RUN --mount=type=cache)"
  Ability buildkit;
  Ability buildah; ///< and Podman, by the Buildah that it holds
  Ability kaniko;
  Ability kaniko_fork; ///< osscontainertools/kaniko
  Ability classic;     ///< dockerd without BuildKit
  std::string_view source;
};

/// The whole table, in the order of Feature.
const std::vector<Row>& table();
const Row& row_of(Feature feature);

/// The words that the table knows in Descriptor::capabilities: a descriptor says no others.
const std::set<std::string_view>& traits();

/// The names that policy knows, in the default order.
const std::vector<std::string>& backend_names();

/// True where no backend has it: slipway gives it to no build.
bool is_refused_to_all(Feature feature);

struct Answer {
  bool can = false;
  std::string otherwise; ///< why not: "kaniko 1.24.0 ignores it without a word"
};
/// Can this backend do it? By its name, its probed version, and what else was found of it: words in
/// `capabilities` that the table asks for. An unknown name or version can nothing.
Answer can(const backends::Descriptor& backend, Feature feature);

/// A backend of that name as a well-kept host would have it: to say which one could, where it is
/// not set up.
backends::Descriptor well_kept(std::string_view name);

/// True where dotted VERSION ("v0.34.2", "1.28.2+ds1") is at least LEAST; false where it is none.
bool is_at_least(std::string_view version, std::string_view least);

} // namespace slipway::router
