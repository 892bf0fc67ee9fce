// SPDX-License-Identifier: Apache-2.0
// The text of an Engine API request turned into types, once: target, query, build options, filters.
// Everything here is pure and reads hostile input.
#pragma once

#include "executor/base/result.hpp"
#include "executor/broker/fetch_service.hpp"
#include "executor/broker/image_service.hpp"
#include "executor/broker/session_service.hpp"

#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace slipway::broker {

constexpr std::size_t kMaxQueryParameters = 2048;
/// Of all secrets of a build together, and of all its SSH keys. BuildKit takes as much of one.
constexpr std::size_t kMaxSecretBytes = 500UL << 10;
constexpr std::size_t kMaxAgents = 16; ///< that one build is lent

/// Decodes %XX (and '+' where `plus_is_space`). Errors: bad_input (cut or non-hex escape, NUL).
Result<std::string> percent_decode(std::string_view text, bool plus_is_space);

/// Does the text nest more than oci::kMaxJsonDepth lists and objects, as it would be read if it is
/// JSON? The reader takes any depth, but whoever walks through what it gives runs out of stack.
bool is_too_deep(std::string_view json);

/// The decoded parameters of a query string, in order.
class Query {
public:
  /// Errors: bad_input (bad escape, over kMaxQueryParameters).
  static Result<Query> parse(std::string_view text);

  /// The first value, "" where there is none.
  std::string get(std::string_view name) const;
  std::vector<std::string> all(std::string_view name) const;
  /// Docker's reading of a switch: everything but "", "0", "no", "false", "none" is on.
  bool flag(std::string_view name) const;
  /// All of it, encoded anew.
  std::string text() const;

private:
  std::vector<std::pair<std::string, std::string>> parameters_;
};

/// Of what ("manifest", "index", "manifest-descriptor", as buildx says it) and for which platform
/// ("": all) an annotation is. Errors: bad_input; denied (one of an index's descriptor).
Status set_annotation(const std::string& of, const std::string& platform, oci::Annotation& into);

/// What a build is to be called. Errors: bad_input (no reference; one with a digest).
Result<oci::Reference> parse_tag(const std::string& text);

/// "a,,b" are "a" and "b".
std::vector<std::string> split_commas(std::string_view text);

/// A request target: the decoded path without the version prefix, and the query.
struct Target {
  std::string path; ///< "/images/json"
  Query query;
  unsigned api = 0; ///< N of the prefix "/v1.N"; 0: there was none
};

/// Origin form only; "/v1.41/x" and "/x" are the same. Errors: bad_input.
Result<Target> parse_target(std::string_view text);

struct BuildOptions {
  BuildRequest request; ///< without context_tar
  bool quiet = false;
  std::string remote; ///< an address in the body's place; "": the body is the context
};

/// The query of POST /build. Errors: bad_input; denied (an option that slipway does not support,
/// by name).
Result<BuildOptions> parse_build_query(const Query& query);

/// The agent that the job lends under a name. Errors: not_found.
using FindAgent = std::function<Result<engine_api::SshAgent>(const std::string& name)>;

/// The body of POST /slipway/v1/build. Unknown members are refused, so that a newer shim is not
/// half understood. Errors: bad_input, naming the member; those of `find_agent`.
Result<BuildRequest> parse_build_json(std::string_view json, const FindAgent& find_agent = {});

/// The body of POST /slipway/v1/index. Errors: bad_input, naming the member.
Result<IndexRequest> parse_index_json(std::string_view json);

/// The order of POST /slipway/v1/buildah. Errors: bad_input, naming the member.
Result<SessionOrder> parse_session_json(std::string_view json);

/// The order of POST /slipway/v1/fetch. Errors: bad_input, naming the member; nothing of a value is
/// in them.
Result<FetchOrder> parse_fetch_json(std::string_view json);

/// Filters of images/json. Empty: everything.
struct ImageFilters {
  std::vector<std::string> references; ///< patterns as in `docker images --filter reference=`
  std::optional<bool> dangling;
  std::vector<std::string> labels; ///< "key" or "key=value"; all have to match
  bool keeps_all = false; ///< of a prune: `until`, `label!`, as cleaning of a host has them
};

/// `{"reference":{"x":true}}` or the older `{"reference":["x"]}`. Errors: bad_input (also a filter
/// that slipway does not know).
Result<ImageFilters> parse_image_filters(std::string_view json, bool of_prune = false);

bool matches(const ImageFilters& filters, const ImageSummary& image);

} // namespace slipway::broker
