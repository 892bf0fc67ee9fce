// SPDX-License-Identifier: Apache-2.0
// Sources of a build that are no folders of the job: a repository, or a file behind an address, as
// build tools name them. Reading an address touches neither files nor network.
#pragma once

#include "executor/base/result.hpp"
#include "executor/base/secret.hpp"

#include <memory>
#include <optional>
#include <string>
#include <variant>
#include <vector>

namespace slipway::shim {

/// A login for one server. Neither part has a control character.
struct GitLogin {
  std::shared_ptr<const Secret> user;
  std::shared_ptr<const Secret> password;
};

/// A repository, and what of it is wanted.
struct GitSource {
  std::string url;               ///< what git is given; by http and https without a login
  std::string server;            ///< SCHEME://HOST[:PORT] of http and https, else ""
  std::string ref;               ///< branch, tag, another reference, or a commit; "" = HEAD
  bool is_branch_first = false;  ///< `ref` is a branch's name, and where there is none a tag's
  std::string commit;            ///< what `ref` has to be, or how that begins; "" = whatever it is
  std::string folder;            ///< of the repository; "" = all of it
  std::optional<GitLogin> login; ///< for `server` alone; none: the job's own git knows one or not
  std::shared_ptr<const Secret> header; ///< for `server` alone: what it is sent to know the job by
  std::optional<bool> keeps_git_dir;    ///< else as the tool has it
  bool has_submodules = true;
  bool has_tls_check = true;
};

/// An archive or a single file by http or https.
struct WebSource {
  std::string url; ///< as typed
};

using RemoteSource = std::variant<GitSource, WebSource>;

/// By URL or by another scheme: what a builder would fetch by itself.
bool is_remote_context(const std::string& context);

/// By http or https.
bool is_web_address(const std::string& text);

/// Reads https://HOST/REPOSITORY.git, git://, ssh://, USER@HOST:PATH and github.com/…, each with
/// `#REF:FOLDER` or `?ref=…&subdir=…`; any other http and https address is a file. Errors:
/// bad_input (not such an address, or one with an unknown part); the text shows no login. Source:
/// Docker's manual, "Build context", URL fragments and URL queries; BuildKit
/// frontend/dockerfile/dfgitutil.
Result<RemoteSource> read_remote(const std::string& text);

/// kaniko's git://REPOSITORY[#REFERENCE][#COMMIT] without its scheme, which `method` says (http,
/// https). Errors: as read_remote. Source: kaniko pkg/buildcontext/git.go.
Result<GitSource> read_kaniko_repository(const std::string& text, const std::string& method);

/// Whether git would take it for the name of a branch, tag or commit, and for nothing else. Source:
/// git-check-ref-format(1).
bool is_git_ref(const std::string& ref);

/// The address without a login and without a query, for messages; where its server cannot be read,
/// its scheme alone.
std::string shown_address(const std::string& text);

/// TEXT with "***" in the place of what an address holds of a login or a query.
std::string without_secrets(std::string text, const RemoteSource& source);

} // namespace slipway::shim
