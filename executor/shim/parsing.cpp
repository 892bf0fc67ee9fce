// SPDX-License-Identifier: Apache-2.0
#include "executor/shim/parsing.hpp"

#include "executor/shim/image_name.hpp"

#include <algorithm>
#include <array>
#include <memory>
#include <string_view>
#include <utility>
#include <variant>

namespace slipway::shim {
namespace {

std::string see_help(const std::string& called) {
  return "See '" + called + " --help'.";
}

std::string plural(std::size_t count) {
  return count == 1 ? "1 argument" : std::to_string(count) + " arguments";
}

std::string help_of(const std::string& called, const Table& table) {
  std::string help = "\nUsage:  " + called + " " + std::string{table.usage} +
                     "\n\nOptions that slipway honours or accepts:\n";
  for (const auto& flag : table.flags) {
    if (flag.use == Use::refuse) continue;
    help += flag.letter != 0 ? std::string{"  -"} + flag.letter + ", " : std::string{"      "};
    help += "--" + std::string{flag.name};
    help += flag.takes == Takes::value      ? " value\n"
            : flag.takes == Takes::optional ? "[=value]\n"
                                            : "\n";
  }
  return help;
}

/// Docker's words for a wrong number of arguments.
std::string argument_text(const std::string& called, const Table& table) {
  std::string want;
  if (table.most == 0)
    want = "accepts no arguments";
  else if (table.least == table.most)
    want = "requires exactly " + plural(table.least);
  else if (table.most == kAny)
    want = "requires at least " + plural(table.least);
  else
    want = "requires at most " + plural(table.most);
  return "\"" + called + "\" " + want + ".\n" + see_help(called) + "\n\nUsage:  " + called + " " +
         std::string{table.usage};
}

bool is_on(const std::string& value) {
  return value == "true" || value == "1";
}

/// buildctl's own reader would split an id with other characters.
bool is_secret_id(const std::string& id) {
  constexpr std::size_t kLongest = 256;
  return !id.empty() && id.size() <= kLongest && std::all_of(id.begin(), id.end(), [](char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
           std::string_view{"._-/:@+"}.find(c) != std::string_view::npos;
  });
}

/// What asks for an image's files. Text of the refusal, or "".
std::string add_files_output(const std::string& type, const std::string& flag,
                             const std::map<std::string, std::string>& fields, Build& build) {
  std::string goal;
  for (const auto& [key, value] : fields) {
    if (key == "dest")
      goal = value;
    else if (key != "type" && key != "platform-split" && !(key == "mode" && value == "copy"))
      return unsupported(flag, (key.empty() ? value : key) + " is not in this version of slipway");
  }
  if (type == "tar") {
    build.tars.push_back(goal.empty() ? "-" : goal);
    return {};
  }
  if (goal.empty()) return "--output " + type + ": dest is required for local exporter";
  if (goal == "-") return "--output " + type + ": dest cannot be stdout for local exporter";
  build.folders.push_back(goal);
  return {};
}

/// The last one of an id counts, as with BuildKit.
void put(std::vector<SecretSource>& list, SecretSource one) {
  std::erase_if(list, [&](const SecretSource& other) { return other.id == one.id; });
  list.push_back(std::move(one));
}

} // namespace

Command read_command(Tool& tool, const std::string& called, const Words& words,
                     const Table& table) {
  auto flags = table.flags;
  for (const auto& flag : tool.everywhere)
    if (std::none_of(table.flags.begin(), table.flags.end(),
                     [&](const Flag& own) { return own.name == flag.name; }))
      flags.push_back(flag);
  const auto read = read_flags(words, flags);
  if (const auto* error = std::get_if<FlagError>(&read))
    return usage_error(tool.manner, called, error->text);
  const auto& line = std::get<Line>(read);
  if (line.help) return Say{help_of(called, table), "", 0};
  if (line.arguments.size() < table.least || line.arguments.size() > table.most)
    return refusal(tool.manner, argument_text(called, table));
  tool.notes.insert(tool.notes.end(), line.notes.begin(), line.notes.end());
  return table.understand(line);
}

Say usage_error(const Manner& manner, const std::string& called, const std::string& text) {
  return {"", std::string{manner.error} + text + "\n" + see_help(called) + "\n", manner.usage_exit};
}

Say refusal(const Manner& manner, const std::string& text) {
  return {"", std::string{manner.error} + text + "\n", manner.exit_code};
}

std::string unsupported(const std::string& flag, const std::string& reason) {
  return "slipway does not support " + flag + ": " + reason;
}

Error not_utf8(const std::string& called) {
  return Error{ErrorKind::bad_input,
               "a word of " + called + ", or a file that it names, is not in UTF-8",
               "write it in UTF-8, or rename the file",
               {}};
}

Login login_of(const Line& line) {
  Login login;
  if (!line.arguments.empty()) login.server = line.arguments.front();
  login.username = line.last(line.last("user").empty() ? "username" : "user");
  login.password = line.last("password");
  login.password_from_stdin = line.has("password-stdin");
  return login;
}

std::string base_name(const std::string& path) {
  return path.substr(path.rfind('/') + 1);
}

std::vector<std::string> comma_parts(const std::string& text) {
  std::vector<std::string> parts{""};
  bool quoted = false;
  for (std::size_t at = 0; at < text.size(); ++at) {
    const char c = text[at];
    if (quoted && c == '"' && at + 1 < text.size() && text[at + 1] == '"') {
      parts.back() += c;
      ++at;
    } else if (c == '"' && (quoted || parts.back().empty())) {
      quoted = !quoted;
    } else if (c == ',' && !quoted) {
      parts.emplace_back();
    } else {
      parts.back() += c;
    }
  }
  return parts;
}

std::map<std::string, std::string> comma_fields(const std::string& text) {
  std::map<std::string, std::string> fields;
  for (const auto& part : comma_parts(text)) {
    const auto equals = part.find('=');
    if (equals == std::string::npos)
      fields[""] = part;
    else
      fields[part.substr(0, equals)] = part.substr(equals + 1);
  }
  return fields;
}

std::string add_build_args(const std::vector<std::string>& values, const Environment& env,
                           Build& build) {
  for (const auto& text : values) {
    const auto equals = text.find('=');
    if (equals == 0 || text.empty())
      return "invalid argument \"" + text + "\" for \"--build-arg\" flag: no name";
    if (equals != std::string::npos)
      build.build_args.emplace_back(text.substr(0, equals), text.substr(equals + 1));
    else if (const auto found = env.find(text); found != env.end())
      build.build_args.emplace_back(text, found->second);
  }
  return {};
}

std::string add_labels(const std::vector<std::string>& values, Build& build) {
  for (const auto& text : values) {
    const auto equals = std::min(text.find('='), text.size());
    if (equals == 0) return "invalid argument \"" + text + "\" for \"--label\" flag: no name";
    build.labels.emplace_back(text.substr(0, equals),
                              equals < text.size() ? text.substr(equals + 1) : "");
  }
  return {};
}

std::optional<std::pair<std::string, std::string>> split_annotation(const std::string& text) {
  const auto equals = text.find('=');
  if (equals == 0 || equals == std::string::npos) return std::nullopt;
  return std::pair{text.substr(0, equals), text.substr(equals + 1)};
}

std::optional<std::vector<BuildAnnotation>> read_annotation(const std::string& text) {
  constexpr std::string_view kLetters = "abcdefghijklmnopqrstuvwxyz-";
  auto parts = split_annotation(text);
  if (!parts) return std::nullopt;
  auto& [key, value] = *parts;
  const auto colon = key.find(':');
  if (colon == std::string::npos) return std::vector{BuildAnnotation{"manifest", "", key, value}};
  std::vector<BuildAnnotation> annotations;
  for (std::size_t at = 0; at <= colon;) {
    const auto end = std::min(key.find(',', at), colon);
    auto of = key.substr(at, end - at);
    std::string platform;
    if (const auto open = of.find('['); open != std::string::npos && of.back() == ']') {
      platform = of.substr(open + 1, of.size() - open - 2);
      of.resize(open);
    }
    if (of.empty() || of.find_first_not_of(kLetters) != std::string::npos) return std::nullopt;
    annotations.push_back({std::move(of), std::move(platform), key.substr(colon + 1), value});
    at = end + 1;
  }
  if (colon + 1 == key.size()) return std::nullopt;
  return annotations;
}

std::string add_annotations(const std::vector<std::string>& values, Build& build) {
  for (const auto& text : values) {
    if (text.empty()) continue;
    const auto read = read_annotation(text);
    if (!read) return "invalid annotation \"" + text + "\", expected <type>:<key>=<value>";
    build.annotations.insert(build.annotations.end(), read->begin(), read->end());
  }
  return {};
}

std::string add_plain_annotations(const std::vector<std::string>& values, Build& build) {
  for (const auto& text : values) {
    auto parts = split_annotation(text);
    if (!parts) return "invalid annotation \"" + text + "\": it has to be KEY=VALUE";
    build.annotations.push_back(
        {"manifest", "", std::move(parts->first), std::move(parts->second)});
  }
  return {};
}

std::string attestation_of(const std::string& type, const std::string& value) {
  const bool is_off = value == "false" || value == "0" || value == "f" || value == "False" ||
                      value == "FALSE" || value == "F";
  if (is_off) return "type=" + type + ",disabled=true";
  return "type=" + type + (is_on(value) ? "" : "," + value);
}

Pairs short_attestations(const Line& line) {
  Pairs asked;
  for (const std::string type : {"provenance", "sbom"})
    if (const auto value = line.last(type); !value.empty())
      asked.emplace_back("--" + type + "=" + value, attestation_of(type, value));
  return asked;
}

std::string add_attestation(const std::string& shown, const std::string& text, Build& build) {
  auto fields = comma_fields(text);
  const std::string type = fields["type"];
  if (type != "provenance" && type != "sbom")
    return unsupported(shown, "type=provenance and type=sbom are the attestations there are");
  if (is_on(fields["disabled"])) {
    build.attestations.erase(type);
    return {};
  }
  for (const auto& [key, value] : fields) {
    if (key == "type" || (key == "disabled" && !is_on(value))) continue;
    if (type == "sbom")
      return unsupported(shown, key == "generator"
                                    ? "the SBOM of a push is slipway's own, of what the gate "
                                      "found; leave generator away"
                                    : (key.empty() ? value : key) + " is not known");
    if ((key == "mode" && value == "min") || (key == "version" && value == "v1")) continue;
    return unsupported(shown,
                       key == "mode" && value == "max"
                           ? "the provenance of a push is slipway's own, and has neither build "
                             "arguments nor sources; use mode=min, or --provenance=false"
                           : (key.empty() ? value : key + "=" + value) +
                                 " is not what slipway's own provenance is; mode=min is");
  }
  build.attestations[type] = shown;
  return {};
}

std::string add_hosts(const std::vector<std::string>& values, Build& build) {
  for (const auto& text : values) {
    const auto cut = text.find_first_of("=:");
    if (cut == std::string::npos || cut == 0 || cut + 1 == text.size())
      return "invalid argument \"" + text +
             "\" for \"--add-host\" flag: bad format for add-host: \"" + text + "\"";
    if (text.substr(cut + 1) == "host-gateway")
      return unsupported("--add-host " + text, "builds have no way to the host");
    build.extra_hosts.emplace_back(text.substr(0, cut), text.substr(cut + 1));
  }
  return {};
}

// Source: buildx util/buildflags/secrets.go, BuildKit session/secrets/secretsprovider/store.go.
std::string add_secrets(const std::vector<std::string>& values, const Environment& env,
                        Build& build) {
  for (const auto& text : values) {
    const std::string bad = "invalid argument \"" + text + "\" for \"--secret\" flag: ";
    std::string type;
    std::string variable;
    SecretSource secret;
    for (const auto& part : comma_parts(text)) {
      const auto equals = part.find('=');
      if (equals == std::string::npos)
        return bad + "invalid field '" + part + "' must be a key=value pair";
      const std::string key = part.substr(0, equals);
      const std::string value = part.substr(equals + 1);
      if (key == "id")
        secret.id = value;
      else if (key == "src" || key == "source")
        secret.file = value;
      else if (key == "env")
        variable = value;
      else if (key == "type")
        type = value;
      else
        return bad + "unexpected key '" + key + "'";
    }
    if (!type.empty() && type != "file" && type != "env")
      return bad + "unsupported secret type \"" + type + "\"";
    if (!is_secret_id(secret.id))
      return bad +
             (secret.id.empty() ? "secret missing ID" : "an id is letters, digits and ._-/:@+");
    if (type == "env" && variable.empty()) variable = std::exchange(secret.file, "");
    if (variable.empty() && secret.file.empty()) {
      if (type != "file" && (type == "env" || env.contains(secret.id)))
        variable = secret.id;
      else
        secret.file = secret.id;
    }
    if (!variable.empty()) {
      const auto found = env.find(variable);
      secret.file.clear();
      secret.value = std::make_shared<const Secret>(
          found == env.end() ? std::string_view{} : std::string_view{found->second});
    }
    put(build.secrets, std::move(secret));
  }
  return {};
}

std::string add_ssh_keys(const std::vector<std::string>& values, const Environment& env,
                         Build& build) {
  for (const auto& text : values) {
    const auto equals = text.find('=');
    SecretSource key;
    key.id = text.substr(0, equals);
    if (!is_secret_id(key.id))
      return "invalid argument \"" + text + "\" for \"--ssh\" flag: no name";
    if (equals != std::string::npos) key.file = text.substr(equals + 1);
    if (key.file.empty()) {
      const auto agent = env.find("SSH_AUTH_SOCK");
      if (agent == env.end() || agent->second.empty())
        return "--ssh " + text +
               ": invalid empty ssh agent socket: start an agent in the script (eval $(ssh-agent "
               "-s); ssh-add KEYFILE), or give a key without a passphrase: --ssh " +
               key.id + "=KEYFILE";
      key.file = agent->second;
    } else if (key.file.find(',') != std::string::npos) {
      return unsupported("--ssh " + text, "one key file or agent for each name");
    }
    put(build.ssh_keys, std::move(key));
  }
  return {};
}

std::string add_named_contexts(const std::vector<std::string>& values, Build& build) {
  constexpr std::string_view kImage = "docker-image://";
  for (const auto& text : values) {
    const auto equals = text.find('=');
    if (equals == std::string::npos || equals == 0 || equals + 1 == text.size())
      return "invalid argument \"" + text +
             "\" for \"--build-context\" flag: expected NAME=FOLDER, NAME=ADDRESS or "
             "NAME=docker-image://REFERENCE";
    const std::string flag =
        "--build-context " + text.substr(0, equals + 1) + shown_address(text.substr(equals + 1));
    const std::string name = text.substr(0, equals);
    std::string value = text.substr(equals + 1);
    if (!parse_image_name(name)) return flag + ": invalid context name " + name;
    // The containers' spellings.
    for (const std::string_view other : {"container-image://", "docker://"})
      if (value.starts_with(other)) value = std::string{kImage} + value.substr(other.size());
    if (value.starts_with(kImage)) {
      if (!parse_image_name(value.substr(kImage.size())))
        return flag + ": invalid reference format";
    } else if (value.starts_with("oci-layout://") || value.starts_with("target:")) {
      return unsupported(flag, "a named context is a folder of the job, a repository, a file by "
                               "https or http, or docker-image://REFERENCE");
    } else if (value.find("://") != std::string::npos) { // else a folder may be called so
      if (auto source = read_remote(value); !source) return flag + ": " + source.error().what;
    }
    std::erase_if(build.named_contexts, [&](const auto& other) { return other.first == name; });
    build.named_contexts.emplace_back(name, std::move(value));
  }
  return {};
}

std::string add_output(const std::string& text, Build& build) {
  const std::string flag = "--output " + text;
  // Source: buildx util/buildflags/export.go: what is no list of fields is a folder.
  if (comma_parts(text).size() == 1 && !text.starts_with("type=")) {
    if (text.empty()) return "invalid argument \"\" for \"-o, --output\" flag: no destination";
    (text == "-" ? build.tars : build.folders).push_back(text);
    return {};
  }
  auto fields = comma_fields(text);
  const std::string type = fields["type"];
  if (type == "cacheonly") return {};
  if (type == "local" || type == "tar") return add_files_output(type, flag, fields, build);
  if (type != "registry" && type != "image" && type != "docker" && type != "oci")
    return unsupported(flag, "only type=local, tar, docker, oci, image and registry");
  build.keeps_image = true;
  const bool archive = type == "docker" || type == "oci";
  for (const auto& [key, value] : fields) {
    const bool honoured = key == "type" || key == "name" || (archive && key == "dest") ||
                          (!archive && key == "push") ||
                          ((key == "oci-mediatypes" || key == "store") && is_on(value));
    if (honoured) continue;
    if (archive && key == "tar") {
      if (is_on(value)) continue;
      return unsupported(flag, "only the archive form is written; leave tar=false away");
    }
    if ((key == "unpack" || key == "push-by-digest" || key == "rewrite-timestamp" ||
         key == "force-compression" || key == "registry.insecure") &&
        !is_on(value))
      continue;
    return unsupported(flag, (key.empty() ? value : key) + " is not in this version of slipway");
  }
  for (const auto& name : comma_parts(fields["name"]))
    if (!name.empty()) build.tags.push_back(name);
  if (type == "registry" || (type == "image" && is_on(fields["push"]))) build.push = true;
  if (archive && fields.contains("dest"))
    build.archives.push_back(fields["dest"]);
  else if (type == "oci")
    build.archives.emplace_back("-");
  return {};
}

std::string settle_outputs(Build& build) {
  if (build.folders.empty() && build.tars.empty()) return {};
  if (build.platforms.size() > 1)
    return unsupported("--output of files for several platforms",
                       "build for one platform at a time, each into a place of its own");
  if (!build.keeps_image && !build.push) build.tags.clear();
  return {};
}

void add_platforms(const std::vector<std::string>& values, Build& build) {
  for (const auto& value : values)
    for (const auto& platform : comma_parts(value))
      if (!platform.empty()) build.platforms.push_back(platform);
}

std::string set_network(const std::string& value, Build& build) {
  build.network = value;
  if (value.empty() || value == "default" || value == "none") return {};
  return unsupported(
      "--network " + value,
      "builds have a network of their own; only `default` and `none` can be asked for");
}

std::string check_tags(const Build& build) {
  for (const auto& tag : build.tags) {
    const auto name = parse_image_name(tag);
    if (!name || !name->digest.empty())
      return "invalid argument \"" + tag + "\" for \"-t, --tag\" flag: invalid reference format";
  }
  return {};
}

namespace {

/// FLAG VALUE without the keys to a bucket that it may hold.
std::string shown_cache(const std::string& flag, const std::string& value) {
  std::string shown;
  for (const auto& part : comma_parts(value)) {
    const bool is_told = part.find('=') == std::string::npos || part.starts_with("type=") ||
                         part.starts_with("ref=") || part.starts_with("src=") ||
                         part.starts_with("dest=") || part.starts_with("mode=");
    if (is_told) shown += (shown.empty() ? "" : ",") + part;
  }
  return flag + " " + shown;
}

} // namespace

void take_no_cache_filter(const std::string& flag, const std::string& stages, Build& build) {
  if (stages.empty()) return;
  build.no_cache = true;
  build.notes.push_back("slipway: " + flag + " " + stages +
                        " is taken for all stages: nothing of this build comes from the cache");
}

void note_cache_source(const std::string& flag, const std::string& value, Build& build) {
  if (value.empty()) return;
  build.notes.push_back("slipway: " + shown_cache(flag, value) +
                        " is not needed: " + std::string{kOwnCache});
}

std::string note_cache_goal(const std::string& flag, const std::string& value, Build& build) {
  if (value.empty()) return {};
  auto fields = comma_fields(value);
  const std::string type = fields.contains("type") ? fields["type"] : "registry";
  constexpr std::array<std::string_view, 6> kTypes{"inline", "registry", "local",
                                                   "gha",    "s3",       "azblob"};
  if (std::find(kTypes.begin(), kTypes.end(), type) == kTypes.end())
    return unsupported(shown_cache(flag, value), "a cache of this type is not known");
  std::string effect = " has no effect: ";
  if (type == "local") {
    if (fields["dest"].empty()) return shown_cache(flag, value) + ": dest is required";
    build.cache_folders.push_back(fields["dest"]);
    effect = " leaves its folder empty: ";
  }
  build.notes.push_back("slipway: " + shown_cache(flag, value) + effect + std::string{kOwnCache});
  return {};
}

std::string take_remote_context(Build& build) {
  if (!is_remote_context(build.context)) return {};
  auto source = read_remote(build.context);
  // A folder may be called so.
  if (!source && build.context.find("://") == std::string::npos) {
    build.wrong_address = source.error().what;
    return {};
  }
  if (!source) return source.error().what;
  build.remote = *std::move(source);
  return {};
}

namespace {

bool is_by_ssh(const std::string& host) {
  const auto first = host.find_first_not_of(" \t");
  return first != std::string::npos && host.substr(first).starts_with("ssh://");
}

Say ssh_refusal(const std::string& what) {
  // The address itself is not repeated: it may hold more than a name.
  return {"",
          "slipway: " + what +
              " names a machine behind ssh, and slipway's docker talks to the job's own broker "
              "alone. Nothing was done. Say it to the ssh client itself: ssh USER@HOST docker …\n",
          1};
}

bool needs_daemon(const Command& command) {
  if (const auto* compose = std::get_if<Compose>(&command))
    return compose->verb != Compose::Verb::config;
  if (const auto* bake = std::get_if<Bake>(&command)) return !bake->print;
  return !std::holds_alternative<Say>(command) && !std::holds_alternative<Contexts>(command) &&
         !std::holds_alternative<OldComposeVersion>(command) &&
         !std::holds_alternative<InspectRemote>(command) &&
         !std::holds_alternative<InspectIndex>(command);
}

} // namespace

Command unless_by_ssh(Command command, const Line& line, const Environment& env) {
  if (!needs_daemon(command)) return command;
  const auto hosts = line.all("host");
  for (const auto& host : hosts)
    if (is_by_ssh(host)) return ssh_refusal("--host");
  // Another context than the default one says itself where its daemon is.
  const auto context = line.last("context");
  const auto set = env.find("DOCKER_HOST");
  if (hosts.empty() && (context.empty() || context == "default") && set != env.end() &&
      is_by_ssh(set->second))
    return ssh_refusal("DOCKER_HOST");
  return command;
}

std::optional<Say> refuse_ssh_endpoint(const std::string& called, const std::string& endpoint) {
  if (!is_by_ssh(comma_fields(endpoint)["host"])) return std::nullopt;
  return ssh_refusal(called + " --docker");
}

} // namespace slipway::shim
