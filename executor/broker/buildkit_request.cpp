// SPDX-License-Identifier: Apache-2.0
#include "executor/broker/buildkit_request.hpp"

#include "executor/broker/request.hpp"
#include "executor/dockerfile/dockerfile.hpp"
#include "executor/grpc/protobuf.hpp"

#include <algorithm>
#include <array>
#include <set>

namespace slipway::broker {
namespace {

constexpr std::size_t kMaxPairs = 4096;
constexpr std::size_t kMaxTyped = 64;
constexpr std::size_t kMaxNames = 1024; ///< tags; extra hosts
constexpr std::size_t kMaxSecrets = 64;
constexpr const char* kOwnCache =
    "slipway keeps the project's own build cache; leave the option out";
constexpr const char* kOtherWay =
    "set DOCKER_BUILDKIT=0, or use the docker that slipway put into this job";

Error bad(std::string what) {
  return Error{ErrorKind::bad_input, std::move(what), "", {}};
}
Error denied(std::string what, std::string hint) {
  return Error{ErrorKind::denied, std::move(what), std::move(hint), {}};
}
std::string shown(std::string_view text) {
  return std::string{text.substr(0, 200)};
}

bool is_on(std::string_view value) {
  static constexpr std::array<std::string_view, 5> kOn{"1", "t", "true", "True", "TRUE"};
  return std::find(kOn.begin(), kOn.end(), value) != kOn.end();
}

Status take_entry(std::string_view bytes, Attributes& into) {
  auto entry = grpc::read_entry(bytes);
  if (!entry) return std::move(entry).error();
  if (into.size() == kMaxPairs) return bad("the build request has too many options");
  if (entry->first.find('\0') != std::string::npos || entry->second.find('\0') != std::string::npos)
    return bad("an option of the build request holds a NUL byte");
  // The last of one name counts, as in every map.
  std::erase_if(into, [&](const auto& one) { return one.first == entry->first; });
  into.push_back(*std::move(entry));
  return {};
}

Status take_typed(std::string_view bytes, std::vector<TypedAttributes>& into) {
  if (into.size() == kMaxTyped) return bad("the build request has too many outputs or caches");
  TypedAttributes typed;
  auto read = grpc::read_fields(bytes, [&](const grpc::Field& field) -> Status {
    if (field.is_bytes && field.number == 1) typed.type = field.bytes;
    if (field.is_bytes && field.number == 2) return take_entry(field.bytes, typed.attributes);
    return {};
  });
  if (read) into.push_back(std::move(typed));
  return read;
}

/// CacheOptions: its exports, and what older clients call them.
Status take_caches(std::string_view bytes, std::vector<TypedAttributes>& into) {
  return grpc::read_fields(bytes, [&](const grpc::Field& field) -> Status {
    if (field.is_bytes && field.number == 1 && !field.bytes.empty())
      into.push_back({"registry", {{"ref", std::string{field.bytes}}}});
    if (field.is_bytes && field.number == 4) return take_typed(field.bytes, into);
    return {};
  });
}

std::string value_of(const Attributes& attributes, std::string_view name) {
  for (const auto& [key, value] : attributes)
    if (key == name) return value;
  return "";
}

/// annotation[-OF][\[PLATFORM\]].KEY; false: it is none. Errors: those of set_annotation. Source:
/// BuildKit exporter/containerimage/exptypes/annotations.go.
Result<bool> take_annotation(const std::string& name, const std::string& value,
                             BuildRequest& request) {
  constexpr std::string_view kPrefix = "annotation";
  const auto dot = name.find('.'); // no platform has one
  if (!name.starts_with(kPrefix) || dot == std::string::npos) return false;
  std::string of = name.substr(kPrefix.size(), dot - kPrefix.size());
  std::string platform;
  if (const auto open = of.find('['); open != std::string::npos && of.back() == ']') {
    platform = of.substr(open + 1, of.size() - open - 2);
    of.resize(open);
  }
  if (!of.empty() && !of.starts_with('-')) return false;
  oci::Annotation one;
  one.key = name.substr(dot + 1);
  one.value = value;
  if (auto set = set_annotation(of.empty() ? "manifest" : of.substr(1), platform, one); !set)
    return std::move(set).error();
  if (request.annotations.size() == kMaxNames) return bad("the build has too many annotations");
  request.annotations.push_back(std::move(one));
  return true;
}

Status take_output(const TypedAttributes& output, SessionBuild& build) {
  const bool pushes = is_on(value_of(output.attributes, "push"));
  if (output.type == "image" && pushes)
    return denied("an output that the builder pushes (type=image,push=true) is not possible here: "
                  "nothing leaves the job unscanned",
                  "build with -t and use docker push, which goes through the gate");
  if (output.type == "local") {
    build.files = FilesOutput::folder;
  } else if (output.type == "tar") {
    build.files = FilesOutput::tar;
  } else if (output.type != "moby" && output.type != "image") {
    return denied("the output type=" + shown(output.type) + " is not possible here",
                  "build with -t: the image is in docker images then, and docker save or docker "
                  "push take it from there");
  }
  for (const auto& [key, value] : output.attributes) {
    auto annotates = take_annotation(key, value, build.request);
    if (!annotates) return std::move(annotates).error();
    if (*annotates) continue;
    if (key == "name" && build.files == FilesOutput::none) {
      for (const auto& text : split_commas(value)) {
        auto tag = parse_tag(text);
        if (!tag) return std::move(tag).error();
        if (build.request.tags.size() == kMaxNames) return bad("the build has too many tags");
        build.request.tags.push_back(*std::move(tag));
      }
    } else if (key == "push" && output.type == "moby") {
      continue; // the client does it itself, by POST /images/NAME/push
    } else if (key == "unpack" || key == "store" || key == "load" || key == "registry.insecure") {
      continue; // about a store and a push that are not the builder's here
    } else if (!value.empty() && value != "false" && value != "0") {
      return denied("the output's attribute " + shown(key) + "=" + shown(value) +
                        " is not possible here",
                    "leave it out");
    }
  }
  return {};
}

Status take_hosts(const std::string& text, BuildRequest& request) {
  for (const auto& part : split_commas(text)) {
    const auto equals = part.find('=');
    if (equals == 0 || equals == std::string::npos || equals + 1 == part.size())
      return bad("extra host '" + shown(part) + "' is not HOST=IP");
    if (request.extra_hosts.size() == kMaxNames) return bad("the build has too many extra hosts");
    request.extra_hosts.emplace_back(part.substr(0, equals), part.substr(equals + 1));
  }
  return {};
}

Status take_named_context(const std::string& name, const std::string& value, SessionBuild& build) {
  if (!oci::Reference::parse(name)) return bad("'" + shown(name) + "' cannot name a context");
  if (value.starts_with("docker-image://")) {
    if (!oci::Reference::parse(value.substr(15)))
      return bad("the context " + shown(name) + " names no image: " + shown(value));
    build.request.named_contexts.emplace_back(name, value);
    return {};
  }
  if (value.starts_with("local:")) {
    if (build.named_folders.size() == kMaxTyped)
      return bad("the build has too many named contexts");
    build.named_folders.emplace_back(name, value.substr(6));
    return {};
  }
  return denied("the context " + shown(name) + "=" + shown(value) + " is not possible here",
                "name a folder or docker-image://REFERENCE");
}

/// attest:provenance, attest:sbom. Errors: denied where pushes do not get what is asked for.
Status take_attestation(const std::string& type, const std::string& value,
                        PushStatements statements, SessionBuild& build) {
  const auto fields = split_commas(value);
  if (std::any_of(fields.begin(), fields.end(),
                  [](const auto& field) { return field == "disabled=true"; }))
    return {};
  const bool is_attached = type == "provenance" ? statements.provenance
                           : type == "sbom"     ? statements.sbom
                                                : false;
  if (!is_attached)
    return denied("the attestation " + shown(type) +
                      " is not possible here: slipway attaches provenance and an SBOM to what it "
                      "pushes, where the operator signs",
                  "use --provenance=false --sbom=false");
  for (const auto& field : fields)
    if (field != "disabled=false" &&
        (type == "sbom" ||
         (field != "mode=min" && field != "version=v1" && !field.starts_with("inline-only="))))
      return denied("the attestation " + shown(type) + " with " + shown(field) +
                        " is not possible here: it is slipway's own, which has no such thing",
                    type == "sbom" ? "use --sbom=true" : "use --provenance=mode=min");
  build.notes.push_back("slipway: each push gets slipway's own " +
                        std::string{type == "sbom" ? "SBOM" : "provenance"} +
                        ", signed with the operator's key");
  return {};
}

/// One attribute of the frontend. Errors: denied where slipway knows of none that it could mean.
Status take_option(const std::string& key, const std::string& value, PushStatements statements,
                   SessionBuild& build) {
  BuildRequest& request = build.request;
  const auto named = [&](std::string_view prefix) -> std::optional<std::string> {
    if (!key.starts_with(prefix) || key.size() == prefix.size()) return std::nullopt;
    return key.substr(prefix.size());
  };
  if (const auto name = named("build-arg:")) {
    request.build_args.emplace_back(*name, value);
  } else if (const auto label = named("label:")) {
    request.labels.emplace_back(*label, value);
  } else if (const auto context = named("context:")) {
    return take_named_context(*context, value, build);
  } else if (const auto local = named("local-sessionid:")) {
    build.sessions.emplace_back(*local, value);
  } else if (key == "filename") {
    if (!value.empty()) build.filename = value;
  } else if (key == "dockerfilekey") {
    build.dockerfile = value;
  } else if (key == "contextkey") {
    build.context = value;
  } else if (key == "target") {
    request.target = value;
  } else if (key == "platform") {
    request.platforms = split_commas(value);
  } else if (key == "no-cache") {
    if (!value.empty())
      build.notes.push_back("slipway: --no-cache-filter " + shown(value) +
                            " is taken for all stages: nothing of this build comes from the cache");
    request.no_cache = true;
  } else if (key == "image-resolve-mode") {
    request.pull = value == "pull";
  } else if (key == "force-network-mode") {
    if (value != "none" && value != "default" && !value.empty())
      return denied("network mode '" + shown(value) + "' is not available to a build",
                    "use --network=default or --network=none");
    request.network = value;
  } else if (key == "add-hosts") {
    return take_hosts(value, request);
  } else if (key == "cache-from" || key == "cache-imports") {
    if (!value.empty())
      build.notes.emplace_back(
          "slipway: --cache-from is not needed: slipway keeps the project's own "
          "build cache");
  } else if (key == "context") {
    return denied("a remote build context or one on standard input is not possible here",
                  "check the sources out in the job and build from that folder");
  } else if (key.starts_with("attest:")) {
    return take_attestation(key.substr(key.find(':') + 1), value, statements, build);
  } else if (key == "frontend.caps" || key == "multi-platform" || key.starts_with("vcs:") ||
             key.starts_with("sharedkey:localdir:") || value.empty()) {
    // What the frontend has to understand, which is told by the options that need it; where the
    // sources come from, for attestations, which are not made here; under which name a builder
    // keeps the client's folder for its next build.
  } else {
    return denied("the build option " + shown(key) + "=" + shown(value) + " is not possible here",
                  "leave it out; limits of builds are set by the operator");
  }
  return {};
}

Result<SolveOrder> read_solve(std::string_view message, bool control) {
  // Where the two messages keep the same thing.
  const std::uint32_t definition = control ? 2 : 1;
  const std::uint32_t frontend = control ? 6 : 2;
  const std::uint32_t options = control ? 7 : 3;
  const std::uint32_t inputs = control ? 10 : 13;
  const std::uint32_t policy = control ? 12 : 15;
  SolveOrder order;
  TypedAttributes old_exporter;
  auto read = grpc::read_fields(message, [&](const grpc::Field& field) -> Status {
    if (!field.is_bytes) {
      if (!control && field.number == 14) order.evaluates = field.value != 0;
      // ProxyNetwork, which a policy of the client asks for.
      if (control && field.number == 17 && field.value != 0) order.has_policy = true;
      return {};
    }
    if (field.number == definition) order.has_definition = !field.bytes.empty();
    if (field.number == frontend) order.frontend = field.bytes;
    if (field.number == options) return take_entry(field.bytes, order.options);
    if (field.number == inputs) order.has_inputs = true;
    if (field.number == policy) order.has_policy = true;
    if (!control) return {};
    if (field.number == 1) order.ref = field.bytes;
    if (field.number == 3) old_exporter.type = field.bytes;
    if (field.number == 4) return take_entry(field.bytes, old_exporter.attributes);
    if (field.number == 5) order.session = field.bytes;
    // SourcePolicySession: where the client would be asked what its policy says.
    if (field.number == 15 && !field.bytes.empty()) order.has_policy = true;
    if (field.number == 8) return take_caches(field.bytes, order.cache_exports);
    if (field.number == 9 && order.entitlements.size() < kMaxTyped)
      order.entitlements.emplace_back(field.bytes);
    if (field.number == 13) return take_typed(field.bytes, order.exporters);
    return {};
  });
  if (!read) return std::move(read).error().in("reading the build request");
  if (order.exporters.empty() && !old_exporter.type.empty())
    order.exporters.push_back(std::move(old_exporter));
  return order;
}

} // namespace

Result<SolveOrder> read_control_solve(std::string_view message) {
  return read_solve(message, true);
}
Result<SolveOrder> read_gateway_solve(std::string_view message) {
  return read_solve(message, false);
}

Status check_frontend(const SolveOrder& order) {
  if (order.has_definition || order.has_inputs)
    return denied(
        "a build that comes as LLB (a Git or HTTP context, or a client that makes its own) "
        "is not possible here: slipway has to know the Dockerfile",
        "build a Dockerfile from a folder of the job");
  if (order.has_policy)
    return denied(
        "a source policy of the client (--policy, a Dockerfile.rego, BUILDX_DEFAULT_POLICY, "
        "EXPERIMENTAL_BUILDKIT_SOURCE_POLICY) is not possible here",
        "the operator's policy says what builds may use; build with --policy disabled=true, "
        "or unset the variable");
  if (order.frontend != "dockerfile.v0")
    return denied(
        "the frontend " + shown(order.frontend) + " is not possible here",
        "leave BUILDKIT_SYNTAX out: slipway builds with the frontend of its own BuildKit");
  if (const auto question = value_of(order.options, "requestid"); !question.empty())
    return denied("docker build --check and --call (" + shown(question) + ") are not possible here",
                  kOtherWay);
  return {};
}

Result<SessionBuild> understand_build(const SolveOrder& control, const SolveOrder& frontend,
                                      PushStatements statements) {
  if (auto known = check_frontend(frontend); !known) return std::move(known).error();
  if (control.has_definition || control.has_inputs || control.has_policy)
    return check_frontend(control).error();
  for (const auto& entitlement : control.entitlements)
    return denied("the entitlement " + shown(entitlement) +
                      " is not given: builds never get more than a job",
                  "leave --allow out");
  for (const auto& cache : control.cache_exports) {
    if (cache.type == "inline") continue;
    return denied("a cache is never exported (--cache-to type=" + shown(cache.type) +
                      "), because nothing unscanned may leave the job",
                  kOwnCache);
  }
  if (control.exporters.size() > 1)
    return denied("several outputs of one build are not possible here", "build once for each");
  SessionBuild build;
  build.request.dialect = "buildx";
  for (const auto& output : control.exporters)
    if (auto taken = take_output(output, build); !taken) return std::move(taken).error();
  for (const auto& [key, value] : frontend.options)
    if (auto taken = take_option(key, value, statements, build); !taken)
      return std::move(taken).error();
  const bool has_folder_each =
      build.request.platforms.size() > 1 || is_on(value_of(frontend.options, "multi-platform"));
  if (build.files != FilesOutput::none && has_folder_each)
    return denied("the files of several platforms in one output are not possible here",
                  "build for one platform at a time, each into a folder of its own");
  return build;
}

MountIds mount_ids(std::string_view text) {
  auto parsed = dockerfile::parse(text);
  if (!parsed) return {};
  MountIds ids;
  const auto take = [&](const dockerfile::Instruction& run) {
    if (run.name != "RUN") return;
    for (const auto& flag : run.flags) {
      if (flag.name != "mount") continue;
      std::string type;
      std::string id;
      std::string target;
      for (const auto& [key, value] : dockerfile::mount_fields(flag.value)) {
        if (key == "type") type = value;
        if (key == "id") id = value;
        if (key == "target" || key == "dst" || key == "destination") target = value;
      }
      if (type != "secret" && type != "ssh") continue;
      if (id.empty()) id = type == "ssh" ? "default" : target.substr(target.rfind('/') + 1);
      auto& known = type == "ssh" ? ids.ssh : ids.secrets;
      if (!id.empty() && id.find('$') == std::string::npos && known.size() < kMaxSecrets)
        known.insert(id);
    }
  };
  for (const auto& stage : parsed->stages) {
    for (const auto& instruction : stage.instructions) {
      take(instruction);
      for (const auto& trigger : instruction.trigger)
        take(trigger);
    }
  }
  return ids;
}

} // namespace slipway::broker
