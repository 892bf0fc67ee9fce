// SPDX-License-Identifier: Apache-2.0
// What the readers of all command lines share: a table of flags for each command, the words of a
// refusal, and the parts of a build that every tool names in its own way.
#pragma once

#include "executor/base/result.hpp"
#include "executor/shim/command.hpp"
#include "executor/shim/flags.hpp"
#include "executor/shim/remote_context.hpp"

#include <cstddef>
#include <functional>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace slipway::shim {

using Words = std::vector<std::string>;

constexpr std::size_t kAny = 1000000;
constexpr std::string_view kNotYet = "not in this version of slipway";
constexpr std::string_view kNoLimits = "the operator sets the limits of builds, not the job";
constexpr std::string_view kNoWeakening = "builds run without privilege and nothing weakens that";
constexpr std::string_view kOwnCache = "slipway keeps this project's build cache itself";
constexpr std::string_view kOwnCredential =
    "slipway brings its own credential for each push and pull; the job's is not used";
constexpr std::string_view kOwnTls = "how a registry is spoken to is the operator's to say";

/// The tool whose command line is read. Reading adds the notes of flags without effect.
struct Tool {
  std::string name;
  Manner manner;
  std::vector<std::string> notes = {};
  std::vector<Flag> everywhere = {}; ///< behind every command too, where it has none of that name
};

/// A command with its usage line, flags and the function that makes sense of them.
struct Table {
  std::string_view usage;
  std::vector<Flag> flags;
  std::size_t least = 0; ///< arguments
  std::size_t most = 0;
  std::function<Command(const Line&)> understand;
};

/// Flags, help and number of arguments by the table; the rest is for `understand`.
Command read_command(Tool& tool, const std::string& called, const Words& words, const Table& table);

/// "TEXT, See 'CALLED --help'." with the exit code of a wrong command line.
Say usage_error(const Manner& manner, const std::string& called, const std::string& text);

/// TEXT as an error of the tool.
Say refusal(const Manner& manner, const std::string& text);

std::string unsupported(const std::string& flag, const std::string& reason);

/// What goes to the broker as JSON can hold nothing else, and has to arrive as it was meant.
Error not_utf8(const std::string& called);

/// The last part of a path: the program's name of argv[0].
std::string base_name(const std::string& path);

/// One record of CSV: `type=image,"name=a,b"` is two fields. A quote within a field is itself.
std::vector<std::string> comma_parts(const std::string& text);

/// The fields as KEY=VALUE; a part without "=" is under "".
std::map<std::string, std::string> comma_fields(const std::string& text);

// Each adds to the build what the values of one flag say, and returns the text of a refusal, or "".
std::string add_build_args(const std::vector<std::string>& values, const Environment& env,
                           Build& build);
std::string add_labels(const std::vector<std::string>& values, Build& build);
/// KEY=VALUE; none: it is not.
std::optional<std::pair<std::string, std::string>> split_annotation(const std::string& text);
/// Docker's [OF[PLATFORM][,OF…]:]KEY=VALUE, as many as it says an OF; none: it is not. Source:
/// buildx util/buildflags/annotations.go.
std::optional<std::vector<BuildAnnotation>> read_annotation(const std::string& text);
/// That, and KEY=VALUE alone of other tools.
std::string add_annotations(const std::vector<std::string>& values, Build& build);
std::string add_plain_annotations(const std::vector<std::string>& values, Build& build);
/// What --attest says, in a message called SHOWN. Asked for may be what slipway attaches itself to
/// what it pushes: provenance without what only `mode=max` has, and an SBOM by no generator.
std::string add_attestation(const std::string& shown, const std::string& text, Build& build);
/// The value of --provenance or --sbom as --attest has it. Source: CanonicalizeAttest in buildx
/// util/buildflags/attests.go.
std::string attestation_of(const std::string& type, const std::string& value);
/// --provenance and --sbom of a line: how each was asked, and what --attest would say.
Pairs short_attestations(const Line& line);
std::string add_hosts(const std::vector<std::string>& values, Build& build);
std::string add_secrets(const std::vector<std::string>& values, const Environment& env,
                        Build& build);
/// A name alone stands for the agent of SSH_AUTH_SOCK.
std::string add_ssh_keys(const std::vector<std::string>& values, const Environment& env,
                         Build& build);
std::string add_named_contexts(const std::vector<std::string>& values, Build& build);
std::string add_output(const std::string& text, Build& build);
/// Once all is read: a build that is asked for files alone gives the image no name, as with
/// BuildKit.
std::string settle_outputs(Build& build);
/// Each value may be a list with commas.
void add_platforms(const std::vector<std::string>& values, Build& build);
std::string set_network(const std::string& value, Build& build);
std::string check_tags(const Build& build);

/// What every tool's `login` takes; the user's name is also `user` with img.
Login login_of(const Line& line);

/// Stages that may take nothing from the cache: then none does, which is as right and slower.
void take_no_cache_filter(const std::string& flag, const std::string& stages, Build& build);

/// Sources and goals of a cache in BuildKit's form (`type=registry,ref=…`, or a bare reference):
/// taken with a note, for the cache of the project is slipway's, and comes from and goes nowhere
/// else. The folder of `type=local` is made and stays empty, for what scripts do with it later.
/// Refused is a type that is none of BuildKit's.
void note_cache_source(const std::string& flag, const std::string& value, Build& build);
std::string note_cache_goal(const std::string& flag, const std::string& value, Build& build);

/// Where the context is behind an address, that is read; nothing is fetched yet. Text of the
/// refusal, or "".
std::string take_remote_context(Build& build);

/// The command; in its place a refusal where docker would carry it out on a machine behind ssh, by
/// the --host and --context of `line` or by DOCKER_HOST. What needs no daemon stays.
Command unless_by_ssh(Command command, const Line& line, const Environment& env);

/// The same of an endpoint of a context, `host=…`. The refusal, or none.
std::optional<Say> refuse_ssh_endpoint(const std::string& called, const std::string& endpoint);

} // namespace slipway::shim
