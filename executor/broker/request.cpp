// SPDX-License-Identifier: Apache-2.0
#include "executor/broker/request.hpp"

#include "executor/base/base64.hpp"
#include "executor/base/percent.hpp"
#include "executor/oci/platform.hpp"
#include "executor/oci/strict_json.hpp"

#include <nlohmann/json.hpp>

#include <fnmatch.h>
#include <string.h>

#include <algorithm>
#include <charconv>

namespace slipway::broker {
namespace {

using Json = nlohmann::json;

constexpr std::size_t kMaxPairs = 1024;
constexpr std::size_t kMaxArguments = 16384; ///< of one command: files may be named one by one
constexpr std::size_t kMaxDialectBytes = 32;

Error bad(std::string what) {
  return Error{ErrorKind::bad_input, std::move(what), "", {}};
}

std::string shown(std::string_view text) {
  return std::string{text.substr(0, 200)};
}

int hex_value(char c) {
  if (c >= '0' && c <= '9') return c - '0';
  if (c >= 'a' && c <= 'f') return c - 'a' + 10;
  if (c >= 'A' && c <= 'F') return c - 'A' + 10;
  return -1;
}

bool is_text(std::string_view text) {
  return text.find('\0') == std::string_view::npos;
}

Result<Json> parse_json(std::string_view text, const std::string& subject) {
  if (is_too_deep(text)) return bad(subject + " is nested too deeply");
  Json json = Json::parse(text, nullptr, false);
  if (json.is_discarded()) return bad(subject + " is not valid JSON");
  return json;
}

/// {"k":"v"}; a null value is an argument without a value, which the API leaves out.
Result<std::vector<std::pair<std::string, std::string>>> parse_map(std::string_view text,
                                                                   const std::string& subject) {
  std::vector<std::pair<std::string, std::string>> pairs;
  if (text.empty()) return pairs;
  auto json = parse_json(text, subject);
  if (!json) return std::move(json).error();
  if (json->is_null()) return pairs;
  if (!json->is_object()) return bad(subject + " is not a JSON object");
  if (json->size() > kMaxPairs) return bad(subject + " has more than 1024 members");
  for (const auto& [key, value] : json->items()) {
    if (value.is_null()) continue;
    if (!value.is_string())
      return bad(subject + ": the value of '" + shown(key) + "' is not a string");
    if (!is_text(key) || !is_text(value.get_ref<const std::string&>()))
      return bad(subject + " contains a NUL byte");
    pairs.emplace_back(key, value.get<std::string>());
  }
  return pairs;
}

bool is_neutral(const std::string& value) {
  static constexpr const char* kNeutral[] = {"",      "0",       "null", "[]",  "{}",
                                             "false", "default", "-1",   "\"\""};
  return std::any_of(std::begin(kNeutral), std::end(kNeutral),
                     [&](const char* v) { return value == v; });
}

/// Options of the Engine API that a build without a daemon of its own cannot honour. Silence would
/// be worse than a refusal: a job that asked for a memory limit must not run without one.
constexpr const char* kRefusedBuildOptions[] = {
    "memory",       "memswap", "cpushares",   "cpuperiod", "cpuquota", "cpusetcpus", "cpusetmems",
    "cgroupparent", "ulimits", "securityopt", "isolation", "outputs",  "shmsize"};

Status check_network(const std::string& network) {
  if (network.empty() || network == "default" || network == "none") return {};
  return Error{ErrorKind::denied,
               "network mode '" + shown(network) + "' is not available to a build",
               "use --network=default or --network=none",
               {}};
}

Result<std::pair<std::string, std::string>> parse_extra_host(const std::string& text) {
  const auto split = text.find_first_of(":=");
  if (split == std::string::npos || split == 0 || split + 1 == text.size()) {
    return bad("extra host '" + shown(text) + "' is not HOST:IP");
  }
  return std::pair{text.substr(0, split), text.substr(split + 1)};
}

/// What a build may call a secret: a name that buildctl's own reader takes as one word.
bool is_secret_id(const std::string& id) {
  constexpr std::size_t kLongest = 256;
  return !id.empty() && id.size() <= kLongest && std::all_of(id.begin(), id.end(), [](char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
           std::string_view{"._-/:@+"}.find(c) != std::string_view::npos;
  });
}

/// The texts below a member, which were secrets, are wiped.
void wipe(Json& json) {
  if (json.is_string()) {
    auto& text = json.get_ref<std::string&>();
    ::explicit_bzero(text.data(), text.size());
  } else if (json.is_structured()) {
    for (auto& child : json)
      wipe(child);
  }
}

/// Reads members of the build document; the first problem is kept and later reads do nothing.
class Members {
public:
  explicit Members(const Json& object) : object_{object} {}

  void text(const char* name, std::string& into) {
    with(name, [&](const Json& value) {
      if (!value.is_string()) return refuse(name, "a string");
      if (!is_text(value.get_ref<const std::string&>()))
        return refuse(name, "text without NUL bytes");
      into = value.get<std::string>();
    });
  }
  void optional_text(const char* name, std::optional<std::string>& into) {
    if (!object_.contains(name) || object_.at(name).is_null()) {
      known_.push_back(name);
      return;
    }
    std::string value;
    text(name, value);
    into = std::move(value);
  }
  void objects(const char* name, std::vector<const Json*>& into) {
    with(name, [&](const Json& value) {
      if (!value.is_array() || value.size() > kMaxPairs) return refuse(name, "an array of objects");
      for (const auto& item : value) {
        if (!item.is_object()) return refuse(name, "an array of objects");
        into.push_back(&item);
      }
    });
  }
  void flag(const char* name, bool& into) {
    with(name, [&](const Json& value) {
      if (!value.is_boolean()) return refuse(name, "true or false");
      into = value.get<bool>();
    });
  }
  void list(const char* name, std::vector<std::string>& into, std::size_t most = kMaxPairs) {
    with(name, [&](const Json& value) {
      if (!value.is_array() || value.size() > most) return refuse(name, "an array of strings");
      for (const auto& item : value) {
        if (!item.is_string() || !is_text(item.get_ref<const std::string&>()))
          return refuse(name, "an array of strings");
        into.push_back(item.get<std::string>());
      }
    });
  }
  void pairs(const char* name, std::vector<std::pair<std::string, std::string>>& into) {
    with(name, [&](const Json& value) {
      if (!value.is_array() || value.size() > kMaxPairs)
        return refuse(name, "an array of [key, value]");
      for (const auto& item : value) {
        if (!item.is_array() || item.size() != 2 || !item[0].is_string() || !item[1].is_string() ||
            !is_text(item[0].get_ref<const std::string&>()) ||
            !is_text(item[1].get_ref<const std::string&>())) {
          return refuse(name, "an array of [key, value]");
        }
        into.emplace_back(item[0].get<std::string>(), item[1].get<std::string>());
      }
    });
  }
  /// [[id, base64 of the value]]. Nothing of a value is in an error.
  void secrets(const char* name, std::vector<std::pair<std::string, Secret>>& into) {
    std::vector<std::pair<std::string, std::string>> given;
    pairs(name, given);
    std::size_t total = 0;
    for (auto& [id, text] : given) {
      auto bytes = base64_decode(text);
      ::explicit_bzero(text.data(), text.size());
      if (error_) continue;
      if (!bytes || !is_secret_id(id)) {
        refuse(name, "an array of [id, base64]");
        continue;
      }
      total += bytes->size();
      if (total > kMaxSecretBytes)
        error_ = bad(std::string{"build request: '"} + name + "' are larger than 500 KiB together");
      if (std::any_of(into.begin(), into.end(),
                      [&wanted = id](const auto& one) { return one.first == wanted; }))
        error_ = bad(std::string{"build request: '"} + name + "' has " + id + " twice");
      std::string& value = *bytes;
      into.emplace_back(id, Secret{value});
      ::explicit_bzero(value.data(), value.size());
    }
  }
  Status finish() {
    if (error_) return *error_;
    for (const auto& [key, value] : object_.items()) {
      if (std::find(known_.begin(), known_.end(), key) == known_.end()) {
        return bad("build request: unknown member '" + shown(key) + "'");
      }
    }
    return {};
  }

private:
  template <typename Read> void with(const char* name, Read read) {
    known_.push_back(name);
    if (error_ || !object_.contains(name)) return;
    read(object_.at(name));
  }
  void refuse(const char* name, const char* wanted) {
    error_ = bad(std::string{"build request: '"} + name + "' has to be " + wanted);
  }

  const Json& object_;
  std::vector<std::string> known_;
  std::optional<Error> error_;
};

bool matches_reference(const std::string& pattern, const oci::Reference& reference) {
  // As the Engine does: the pattern is for the familiar name with or without its tag. A pattern
  // that is itself a reference in another spelling (docker.io/library/x) matches too.
  const auto hit = [&](const std::string& name) {
    return ::fnmatch(pattern.c_str(), name.c_str(), FNM_PATHNAME) == 0;
  };
  return hit(reference.familiar()) || hit(reference.familiar_name()) || hit(reference.str()) ||
         hit(reference.name());
}

} // namespace

Result<oci::Reference> parse_tag(const std::string& text) {
  auto reference = oci::Reference::parse(text);
  if (!reference) return reference;
  if (reference->digest()) return bad("cannot tag with a digest: '" + shown(text) + "'");
  return reference;
}

namespace {

Result<std::vector<oci::Reference>> parse_tags(const std::vector<std::string>& texts) {
  std::vector<oci::Reference> tags;
  for (const auto& text : texts) {
    auto tag = parse_tag(text);
    if (!tag) return std::move(tag).error();
    tags.push_back(*std::move(tag));
  }
  return tags;
}

} // namespace

std::vector<std::string> split_commas(std::string_view text) {
  std::vector<std::string> parts;
  while (!text.empty()) {
    const auto comma = text.find(',');
    if (comma != 0) parts.emplace_back(text.substr(0, comma));
    if (comma == std::string_view::npos) break;
    text.remove_prefix(comma + 1);
  }
  return parts;
}

bool is_too_deep(std::string_view json) {
  int depth = 0;
  bool in_text = false;
  for (std::size_t i = 0; i < json.size(); ++i) {
    const char c = json[i];
    if (in_text) {
      if (c == '\\') ++i;
      in_text = c != '"';
    } else if (c == '"') {
      in_text = true;
    } else if (c == '[' || c == '{') {
      if (++depth > oci::kMaxJsonDepth) return true;
    } else if (c == ']' || c == '}') {
      --depth;
    }
  }
  return false;
}

Result<std::string> percent_decode(std::string_view text, bool plus_is_space) {
  std::string decoded;
  decoded.reserve(text.size());
  for (std::size_t i = 0; i < text.size(); ++i) {
    char c = text[i];
    if (c == '%') {
      if (i + 2 >= text.size())
        return bad("invalid URL escape at the end of '" + shown(text) + "'");
      const int high = hex_value(text[i + 1]);
      const int low = hex_value(text[i + 2]);
      if (high < 0 || low < 0)
        return bad("invalid URL escape '" + std::string{text.substr(i, 3)} + "'");
      c = static_cast<char>(high * 16 + low);
      i += 2;
    } else if (c == '+' && plus_is_space) {
      c = ' ';
    }
    if (c == '\0') return bad("a NUL byte in the URL");
    decoded += c;
  }
  return decoded;
}

Result<Query> Query::parse(std::string_view text) {
  Query query;
  while (!text.empty()) {
    const auto end = text.find('&');
    const auto part = text.substr(0, end);
    text = end == std::string_view::npos ? std::string_view{} : text.substr(end + 1);
    if (part.empty()) continue;
    if (query.parameters_.size() == kMaxQueryParameters) return bad("too many query parameters");
    const auto equals = part.find('=');
    auto name = percent_decode(part.substr(0, equals), true);
    if (!name) return std::move(name).error();
    auto value = percent_decode(
        equals == std::string_view::npos ? std::string_view{} : part.substr(equals + 1), true);
    if (!value) return std::move(value).error();
    query.parameters_.emplace_back(*std::move(name), *std::move(value));
  }
  return query;
}

std::string Query::get(std::string_view name) const {
  for (const auto& [key, value] : parameters_) {
    if (key == name) return value;
  }
  return "";
}

std::vector<std::string> Query::all(std::string_view name) const {
  std::vector<std::string> values;
  for (const auto& [key, value] : parameters_) {
    if (key == name) values.push_back(value);
  }
  return values;
}

bool Query::flag(std::string_view name) const {
  const std::string value = get(name);
  return !(value.empty() || value == "0" || value == "no" || value == "false" || value == "False" ||
           value == "FALSE" || value == "none");
}

std::string Query::text() const {
  std::string text;
  for (const auto& [name, value] : parameters_)
    text += (text.empty() ? "" : "&") + percent_encode(name) + "=" + percent_encode(value);
  return text;
}

Result<Target> parse_target(std::string_view text) {
  if (text.empty() || text.front() != '/') return bad("the request target has to start with '/'");
  const auto question = text.find('?');
  const auto raw_path = text.substr(0, question);
  auto path = percent_decode(raw_path, false);
  if (!path) return std::move(path).error();
  if (std::any_of(path->begin(), path->end(),
                  [](char c) { return static_cast<unsigned char>(c) < 0x20 || c == 0x7f; })) {
    return bad("a control character in the path");
  }
  auto query = Query::parse(question == std::string_view::npos ? std::string_view{}
                                                               : text.substr(question + 1));
  if (!query) return std::move(query).error();

  std::string_view rest = *path;
  unsigned api = 0;
  if (rest.size() > 2 && rest.starts_with("/v") && rest[2] >= '0' && rest[2] <= '9') {
    const auto slash = rest.find('/', 2);
    const auto version = rest.substr(2, slash == std::string_view::npos ? slash : slash - 2);
    const auto dot = version.find('.');
    unsigned major = 0;
    unsigned minor = 0;
    const char* const end = version.data() + version.size();
    const bool read =
        dot != std::string_view::npos &&
        std::from_chars(version.data(), version.data() + dot, major).ptr == version.data() + dot &&
        std::from_chars(version.data() + dot + 1, end, minor).ptr == end &&
        dot + 1 < version.size();
    if (!read || major != 1 || minor > 999) {
      return bad("API version '" + shown(version) + "' is not supported (v1.24 and later are)");
    }
    rest = slash == std::string_view::npos ? std::string_view{"/"} : rest.substr(slash);
    api = minor;
  }
  return Target{std::string{rest}, *std::move(query), api};
}

Result<BuildOptions> parse_build_query(const Query& query) {
  if (query.get("version") == "2") {
    return Error{
        ErrorKind::denied,
        "BuildKit sessions (version=2) are not served on this socket",
        "set DOCKER_BUILDKIT=0, or use the docker that slipway put into this job: it builds "
        "with BuildKit all the same",
        {}};
  }
  for (const char* name : kRefusedBuildOptions) {
    if (!is_neutral(query.get(name))) {
      return Error{ErrorKind::denied,
                   std::string{"the build option '"} + name + "' is not supported",
                   "leave it out; limits of builds are set by the operator",
                   {}};
    }
  }
  BuildOptions options;
  BuildRequest& request = options.request;
  request.dialect = "api";
  options.quiet = query.flag("q");
  options.remote = query.get("remote");
  for (const auto& text : query.all("t")) {
    if (text.empty()) continue;
    auto tag = parse_tag(text);
    if (!tag) return std::move(tag).error();
    request.tags.push_back(*std::move(tag));
  }
  if (auto dockerfile = query.get("dockerfile"); !dockerfile.empty())
    request.dockerfile = std::move(dockerfile);
  auto build_args = parse_map(query.get("buildargs"), "buildargs");
  if (!build_args) return std::move(build_args).error();
  request.build_args = *std::move(build_args);
  auto labels = parse_map(query.get("labels"), "labels");
  if (!labels) return std::move(labels).error();
  request.labels = *std::move(labels);
  request.target = query.get("target");
  request.platforms = split_commas(query.get("platform"));
  request.no_cache = query.flag("nocache");
  request.pull = query.flag("pull");
  request.squash = query.flag("squash");
  request.network = query.get("networkmode");
  if (auto status = check_network(request.network); !status) return std::move(status).error();
  for (const auto& text : query.all("extrahosts")) {
    if (is_neutral(text)) continue;
    auto host = parse_extra_host(text);
    if (!host) return std::move(host).error();
    request.extra_hosts.push_back(*std::move(host));
  }
  return options;
}

namespace {

Result<std::vector<oci::Annotation>> parse_annotations(const std::vector<const Json*>& objects) {
  std::vector<oci::Annotation> annotations;
  for (const auto* object : objects) {
    oci::Annotation one;
    std::string of = "manifest";
    std::string platform;
    Members members{*object};
    members.text("of", of);
    members.text("platform", platform);
    members.text("key", one.key);
    members.text("value", one.value);
    if (auto status = members.finish(); !status) return std::move(status).error();
    if (auto status = set_annotation(of, platform, one); !status) return std::move(status).error();
    annotations.push_back(std::move(one));
  }
  return annotations;
}

} // namespace

Status set_annotation(const std::string& of, const std::string& platform, oci::Annotation& into) {
  using Of = oci::Annotation::Of;
  if (into.key.empty()) return bad("an annotation has no key");
  if (of == "manifest")
    into.of = Of::manifest;
  else if (of == "manifest-descriptor")
    into.of = Of::descriptor;
  else if (of == "index")
    into.of = Of::index;
  else if (of == "index-descriptor")
    return Error{ErrorKind::denied,
                 "the annotation " + shown(into.key) +
                     " is of an index's descriptor, and nothing here keeps one",
                 "use index:KEY=VALUE",
                 {}};
  else
    return bad("'" + shown(of) + "' is nothing that an annotation can be of");
  if (platform.empty()) return {};
  if (into.of == Of::index) return bad("an annotation of an index is for no platform");
  auto parsed = oci::parse_platform(platform);
  if (!parsed) return std::move(parsed).error().in("an annotation's platform");
  into.platform = *std::move(parsed);
  return {};
}

Result<BuildRequest> parse_build_json(std::string_view text, const FindAgent& find_agent) {
  auto json = parse_json(text, "build request");
  if (!json) return std::move(json).error();
  if (!json->is_object()) return bad("build request is not a JSON object");
  BuildRequest request;
  std::vector<std::string> tags;
  std::vector<std::pair<std::string, std::string>> agents;
  std::vector<const Json*> annotations;
  Members members{*json};
  members.text("context_path", request.context_path);
  members.text("dockerfile", request.dockerfile);
  members.optional_text("dockerfile_text", request.dockerfile_text);
  members.optional_text("ignore_text", request.ignore_text);
  members.list("tags", tags);
  members.pairs("build_args", request.build_args);
  members.pairs("labels", request.labels);
  members.objects("annotations", annotations);
  members.text("target", request.target);
  members.list("platforms", request.platforms);
  members.flag("no_cache", request.no_cache);
  members.flag("pull", request.pull);
  members.flag("squash", request.squash);
  members.flag("squash_base", request.squash_base);
  members.flag("every_stage", request.every_stage);
  members.text("network", request.network);
  members.pairs("extra_hosts", request.extra_hosts);
  members.secrets("secrets", request.secrets);
  members.secrets("ssh_keys", request.ssh_keys);
  members.pairs("ssh_agents", agents);
  members.pairs("named_contexts", request.named_contexts);
  members.text("dialect", request.dialect);
  request.dialect.resize(std::min(request.dialect.size(), kMaxDialectBytes)); // it is written down
  for (const char* name : {"secrets", "ssh_keys"})
    if (json->contains(name)) wipe(json->at(name));
  if (auto status = members.finish(); !status) return std::move(status).error();
  if (request.context_path.empty()) return bad("build request: 'context_path' is missing");
  if (request.ignore_text && !request.dockerfile_text)
    return bad("build request: 'ignore_text' is for a Dockerfile in 'dockerfile_text'");
  auto annotated = parse_annotations(annotations);
  if (!annotated) return std::move(annotated).error();
  request.annotations = *std::move(annotated);
  if (request.context_path.front() != '/')
    return bad("build request: 'context_path' has to be absolute");
  for (const auto& [name, value] : request.named_contexts) {
    constexpr std::string_view kImage = "docker-image://";
    const bool image = value.starts_with(kImage);
    const auto reference =
        oci::Reference::parse(image ? value.substr(kImage.size()) : std::string{"scratch"});
    if (!oci::Reference::parse(name) || !reference || (!image && !value.starts_with('/')))
      return bad("build request: '" + shown(name) +
                 "' is no named context with an absolute path or "
                 "docker-image://REFERENCE");
  }
  if (agents.size() > kMaxAgents || (!agents.empty() && !find_agent))
    return bad("build request: 'ssh_agents' has more than 16");
  for (const auto& [id, name] : agents) {
    auto agent = find_agent(name);
    if (!agent) return std::move(agent).error().in("build request: --ssh " + shown(id));
    request.ssh_agents.emplace_back(id, *std::move(agent));
  }
  if (request.dockerfile.empty()) request.dockerfile = "Dockerfile";
  if (auto status = check_network(request.network); !status) return std::move(status).error();
  auto parsed = parse_tags(tags);
  if (!parsed) return std::move(parsed).error();
  request.tags = *std::move(parsed);
  return request;
}

namespace {

Result<std::vector<IndexPart>> parse_parts(const std::vector<const Json*>& objects) {
  std::vector<IndexPart> parts;
  for (const auto* object : objects) {
    IndexPart part;
    std::string take;
    Members members{*object};
    members.text("image", part.image);
    members.text("take", take);
    members.text("os", part.platform.os);
    members.text("architecture", part.platform.architecture);
    members.text("variant", part.platform.variant);
    members.text("os_version", part.os_version);
    members.pairs("annotations", part.annotations);
    if (auto status = members.finish(); !status) return std::move(status).error();
    if (take == "all")
      part.take = IndexPart::Take::all;
    else if (take == "platform")
      part.take = IndexPart::Take::platform;
    else if (take != "manifest" && !take.empty())
      return bad("index request: 'take' is manifest, platform or all");
    if (part.image.empty()) return bad("index request: 'image' is missing");
    parts.push_back(std::move(part));
  }
  return parts;
}

} // namespace

Result<IndexRequest> parse_index_json(std::string_view text) {
  auto json = parse_json(text, "index request");
  if (!json) return std::move(json).error();
  if (!json->is_object()) return bad("index request is not a JSON object");
  IndexRequest request;
  std::vector<std::string> names;
  std::vector<std::string> removed;
  std::vector<const Json*> add;
  std::vector<const Json*> annotate;
  std::vector<std::string> platforms;
  std::string start;
  Members members{*json};
  members.list("names", names);
  members.list("platforms", platforms);
  members.pairs("annotations", request.annotations);
  members.text("start", start);
  members.objects("add", add);
  members.objects("annotate", annotate);
  members.list("remove", removed);
  members.flag("copy_index", request.copy_index);
  members.flag("dry_run", request.dry_run);
  if (auto status = members.finish(); !status) return std::move(status).error();
  auto parsed = parse_tags(names);
  if (!parsed) return std::move(parsed).error();
  request.names = *std::move(parsed);
  if (names.empty() && !request.dry_run) return bad("index request: 'names' is missing");
  using Start = IndexRequest::Start;
  if (start == "absent")
    request.start = Start::absent;
  else if (start == "amend")
    request.start = Start::amend;
  else if (start == "existing")
    request.start = Start::existing;
  else if (start != "fresh" && !start.empty())
    return bad("index request: 'start' is fresh, absent, amend or existing");
  if (names.empty() && request.start != Start::fresh)
    return bad("index request: 'start' needs a name");
  auto parts = parse_parts(add);
  if (!parts) return std::move(parts).error();
  request.add = *std::move(parts);
  parts = parse_parts(annotate);
  if (!parts) return std::move(parts).error();
  request.annotate = *std::move(parts);
  for (const auto& one : platforms) {
    auto platform = oci::parse_platform(one);
    if (!platform) return std::move(platform).error();
    request.platforms.push_back(*std::move(platform));
  }
  for (const auto& one : removed) {
    auto digest = oci::Digest::parse(one);
    if (!digest) return std::move(digest).error();
    request.remove.push_back(*std::move(digest));
  }
  return request;
}

Result<SessionOrder> parse_session_json(std::string_view text) {
  auto json = parse_json(text, "order");
  if (!json) return std::move(json).error();
  if (!json->is_object()) return bad("order is not a JSON object");
  SessionOrder order;
  std::vector<std::string> names;
  Members members{*json};
  members.text("verb", order.verb);
  members.pairs("options", order.options);
  members.list("arguments", order.arguments, kMaxArguments);
  members.text("pull", order.pull);
  members.list("names", names);
  members.flag("remove", order.remove);
  members.pairs("proxies", order.proxies);
  if (auto status = members.finish(); !status) return std::move(status).error();
  auto parsed = parse_tags(names);
  if (!parsed) return std::move(parsed).error();
  order.names = *std::move(parsed);
  if (!order.pull.empty() && order.pull != "always" && order.pull != "never")
    return bad("order: 'pull' is always, never or nothing");
  return order;
}

Result<FetchOrder> parse_fetch_json(std::string_view text) {
  auto json = parse_json(text, "order");
  if (!json) return std::move(json).error();
  if (!json->is_object()) return bad("order is not a JSON object");
  FetchOrder order;
  Members members{*json};
  members.text("program", order.program);
  members.list("arguments", order.arguments);
  members.pairs("env", order.env);
  members.text("folder", order.folder);
  members.text("input", order.input);
  for (const char* name : {"arguments", "env"}) // which may hold logins
    if (json->contains(name)) wipe(json->at(name));
  if (auto status = members.finish(); !status) return std::move(status).error();
  return order;
}

Result<ImageFilters> parse_image_filters(std::string_view text, bool of_prune) {
  ImageFilters filters;
  if (text.empty()) return filters;
  auto json = parse_json(text, "filters");
  if (!json) return std::move(json).error();
  if (!json->is_object()) return bad("filters is not a JSON object");
  for (const auto& [name, given] : json->items()) {
    std::vector<std::string> values;
    if (given.is_object()) {
      for (const auto& [value, on] : given.items()) {
        if (!on.is_boolean() || on.get<bool>()) values.push_back(value);
      }
    } else if (given.is_array()) {
      for (const auto& value : given) {
        if (!value.is_string())
          return bad("filters: '" + shown(name) + "' has a value that is no string");
        values.push_back(value.get<std::string>());
      }
    } else {
      return bad("filters: '" + shown(name) + "' is neither an object nor an array");
    }
    if (values.size() > kMaxPairs) return bad("filters: too many values");
    if (name == "reference") {
      filters.references = std::move(values);
    } else if (name == "label") {
      filters.labels = std::move(values);
    } else if (name == "dangling") {
      for (const auto& value : values) {
        if (value != "true" && value != "1" && value != "false" && value != "0") {
          return bad("filters: 'dangling' has to be true or false");
        }
        filters.dangling = value == "true" || value == "1";
      }
    } else if (of_prune && (name == "until" || name == "label!")) {
      filters.keeps_all = true;
    } else {
      return bad("invalid filter '" + shown(name) +
                 "' (reference, dangling and label are supported)");
    }
  }
  return filters;
}

bool matches(const ImageFilters& filters, const ImageSummary& image) {
  if (filters.dangling && *filters.dangling != image.tags.empty()) return false;
  if (!filters.references.empty()) {
    const bool hit =
        std::any_of(filters.references.begin(), filters.references.end(), [&](const auto& pattern) {
          return std::any_of(image.tags.begin(), image.tags.end(),
                             [&](const auto& tag) { return matches_reference(pattern, tag); });
        });
    if (!hit) return false;
  }
  return std::all_of(filters.labels.begin(), filters.labels.end(), [&](const std::string& wanted) {
    const auto equals = wanted.find('=');
    const auto found = image.config.labels.find(wanted.substr(0, equals));
    if (found == image.config.labels.end()) return false;
    return equals == std::string::npos || found->second == wanted.substr(equals + 1);
  });
}

} // namespace slipway::broker
