// SPDX-License-Identifier: Apache-2.0
#include "executor/shim/bake.hpp"

#include "executor/shim/hcl.hpp"
#include "executor/shim/image_name.hpp"
#include "executor/shim/parsing.hpp"

#include <nlohmann/json.hpp>

#include <fnmatch.h>
#include <sys/utsname.h>

#include <algorithm>
#include <array>
#include <map>
#include <optional>
#include <set>
#include <string_view>
#include <utility>

namespace slipway::shim {
namespace {

using Json = nlohmann::ordered_json;

constexpr std::string_view kHere = "cwd://";
constexpr int kMaxJsonDepth = 32;
constexpr std::size_t kMaxSteps = 10000;

Error bake_error(const std::string& what, const std::string& hint = "") {
  return Error{ErrorKind::bad_input, what, hint, {}};
}

bool is_one_of(std::string_view text, std::initializer_list<std::string_view> list) {
  return std::find(list.begin(), list.end(), text) != list.end();
}

/// A scalar as HCL turns it into text; nothing for lists and objects.
std::optional<std::string> scalar_text(const Json& value) {
  if (value.is_string()) return value.get<std::string>();
  if (value.is_boolean()) return value.get<bool>() ? "true" : "false";
  if (value.is_number()) return value.dump();
  if (value.is_null()) return "";
  return std::nullopt;
}

std::optional<bool> as_bool(const Json& value) {
  const auto text = scalar_text(value);
  if (text == "true" || text == "1") return true;
  if (text == "false" || text == "0") return false;
  return std::nullopt;
}

/// An output or cache as --output and --cache-to write it.
std::string entry_text(const Json& entry) {
  if (!entry.is_object()) return scalar_text(entry).value_or("");
  std::string text;
  for (const auto& [key, value] : entry.items())
    text += (text.empty() ? "" : ",") + key + "=" + scalar_text(value).value_or("");
  return text;
}

/// Members whose entries are merged by their names.
bool is_map_key(std::string_view key) {
  return is_one_of(key, {"args", "labels", "extra-hosts", "contexts"});
}
/// Members that further files and targets add to.
bool is_list_key(std::string_view key) {
  return is_one_of(key, {"annotations", "attest", "policy", "secret", "ssh", "cache-from",
                         "no-cache-filter", "ulimits", "entitlements", "inherits"});
}

/// Everything of all files: groups, targets, variables.
class Definitions {
public:
  explicit Definitions(const Environment& env) : env_{env} {}

  Status add(const BakeFile& file) {
    const auto too_deep = [](int depth, Json::parse_event_t, const Json&) {
      return depth <= kMaxJsonDepth;
    };
    const Json json = Json::parse(file.text, too_deep, false, true);
    if (!json.is_object())
      return bake_error(file.name + " is not JSON",
                        "slipway reads bake files in JSON and HCL; services of Compose files are "
                        "built with `docker compose build`");
    for (const auto& [key, value] : json.items()) {
      if (key == "//") continue; // HCL's comment
      if (!is_one_of(key, {"group", "target", "variable"}))
        return bake_error(file.name + ": \"" + key +
                          "\" is not supported, only group, target and variable");
      if (!value.is_object()) return bake_error(file.name + ": \"" + key + "\" is no object");
      for (const auto& [name, body] : value.items())
        if (auto added = add_block(file.name, key, name, body); !added) return added;
    }
    return {};
  }

  /// Strings with their variables filled in, at any depth.
  Result<Json> evaluated(const Json& value, const std::string& where, int depth = 0) const {
    if (depth > kMaxJsonDepth) return bake_error(where + " is nested too deeply");
    if (value.is_string()) {
      auto text = interpolated(value.get<std::string>(), where, depth);
      if (!text) return std::move(text).error();
      return Json(*std::move(text));
    }
    if (!value.is_structured()) return value;
    Json filled = value.is_array() ? Json::array() : Json::object();
    for (const auto& [key, one] : value.items()) {
      auto inner = evaluated(one, where, depth + 1);
      if (!inner) return std::move(inner).error();
      if (value.is_array())
        filled.push_back(*std::move(inner));
      else
        filled[key] = *std::move(inner);
    }
    return filled;
  }

  const std::map<std::string, Json>& targets() const { return targets_; }
  const std::map<std::string, Json>& groups() const { return groups_; }

private:
  Status add_block(const std::string& file, const std::string& kind, const std::string& name,
                   const Json& body) {
    const std::string where = file + ": " + kind + " \"" + name + "\"";
    if (!body.is_object()) return bake_error(where + " is no object");
    if (kind == "variable") {
      for (const auto& [key, value] : body.items())
        if (!is_one_of(key, {"default", "description", "type", "//"}))
          return bake_error(where + ": \"" + key + "\" is not supported");
      const Json fallback = body.contains("default") ? body["default"] : Json("");
      if (!scalar_text(fallback))
        return bake_error(where + ": only a default that is text, a number or a boolean");
      variables_[name] = fallback;
    } else if (kind == "group") {
      for (const auto& [key, value] : body.items())
        if (!is_one_of(key, {"targets", "description", "//"}))
          return bake_error(where + ": \"" + key + "\" is not supported");
      if (!groups_.emplace(name, body).second)
        return bake_error(where + " is in more than one file, which is not supported");
    } else if (auto whole = check_kinds(where, body); !whole) {
      return whole;
    } else if (auto [at, fresh] = targets_.emplace(name, body); !fresh) {
      later_[name].push_back(body);
    }
    return {};
  }

  /// What is merged has to be of one kind in all targets.
  static Status check_kinds(const std::string& where, const Json& body) {
    for (const auto& [key, value] : body.items()) {
      if (value.is_null()) continue;
      if (is_map_key(key) && !value.is_object())
        return bake_error(where + ": \"" + key + "\" is no object");
      if (is_list_key(key) && !value.is_array())
        return bake_error(where + ": \"" + key + "\" is no list");
    }
    return {};
  }

  Result<std::string> interpolated(const std::string& text, const std::string& where,
                                   int depth) const {
    std::string filled;
    for (std::size_t at = 0; at < text.size();) {
      if (text.compare(at, 3, "$${") == 0 || text.compare(at, 3, "%%{") == 0) {
        filled += text.substr(at + 1, 2);
        at += 3;
      } else if (text.compare(at, 2, "%{") == 0) {
        return bake_error(where + ": directives of HCL (%{ … }) are not supported");
      } else if (text.compare(at, 2, "${") == 0) {
        const auto end = text.find('}', at);
        if (end == std::string::npos) return bake_error(where + ": \"${\" without \"}\"");
        auto value = variable(text.substr(at + 2, end - at - 2), where, depth + 1);
        if (!value) return value;
        filled += *value;
        at = end + 1;
      } else {
        filled += text[at++];
      }
      if (filled.size() > kMaxBakeBytes) return bake_error(where + " becomes too long");
    }
    return filled;
  }

  Result<std::string> variable(std::string name, const std::string& where, int depth) const {
    const auto first = name.find_first_not_of(' ');
    name = first == std::string::npos ? ""
                                      : name.substr(first, name.find_last_not_of(' ') - first + 1);
    const bool plain = !name.empty() && std::all_of(name.begin(), name.end(), [](char c) {
      return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
             c == '_' || c == '-';
    });
    if (!plain)
      return bake_error(where + ": the expression ${" + name + "} is not supported",
                        "slipway fills in ${NAME}; functions, conditions and references to targets "
                        "are HCL's");
    if (auto own = bake_builtin(name)) return *std::move(own);
    const auto found = variables_.find(name);
    if (found == variables_.end())
      return bake_error(where + ": there is no variable \"" + name + "\"");
    if (const auto set = env_.find(name); set != env_.end()) return set->second;
    if (depth > kMaxBakeDepth)
      return bake_error(where + ": the variable \"" + name + "\" refers to itself");
    const auto text = scalar_text(found->second).value_or("");
    return found->second.is_string() ? interpolated(text, where, depth) : Result<std::string>{text};
  }

  const Environment& env_;
  std::map<std::string, Json> groups_;
  std::map<std::string, Json> targets_;
  std::map<std::string, Json> variables_;

public:
  std::map<std::string, std::vector<Json>> later_; ///< what further files say of a target
};

/// buildx's rules for which member of a target is added to, and which replaced.
void merge_target(Json& into, const Json& from) {
  for (const auto& [key, value] : from.items()) {
    if (value.is_null() || key == "//" || key == "description") continue;
    if (is_map_key(key) && value.is_object()) {
      for (const auto& [name, one] : value.items())
        if (!one.is_null()) into[key][name] = one;
    } else if (is_list_key(key) && value.is_array()) {
      for (const auto& one : value)
        into[key].push_back(one);
    } else {
      into[key] = value;
    }
  }
}

/// --set PATTERN.KEY[.NAME][+]=VALUE.
struct Override {
  std::string pattern;
  std::string key;
  std::string name;
  std::string value;
  bool append = false;
};

Result<std::optional<Override>> parse_override(const std::string& text, const Environment& env) {
  const auto equals = text.find('=');
  Override one;
  std::string path = text.substr(0, equals);
  if (path.ends_with('+')) {
    one.append = true;
    path.pop_back();
  }
  const auto dot = path.find('.');
  if (dot == std::string::npos)
    return bake_error("invalid override key " + path + ", expected target.name");
  one.pattern = path.substr(0, dot);
  one.key = path.substr(dot + 1);
  if (const auto second = one.key.find('.'); second != std::string::npos) {
    one.name = one.key.substr(second + 1);
    one.key.resize(second);
  }
  if (is_map_key(one.key) && one.name.empty())
    return bake_error("invalid key " + path + ", " + one.key + " requires name");
  if (equals != std::string::npos) {
    one.value = text.substr(equals + 1);
  } else {
    if (one.key != "args")
      return bake_error("invalid override " + text + ", expected target.name=value");
    const auto found = env.find(one.name);
    if (found == env.end()) return std::optional<Override>{};
    one.value = found->second;
  }
  if (one.key == "platform") one.key = "platforms";
  if (one.key == "secrets") one.key = "secret";
  return std::optional{std::move(one)};
}

/// `seen` holds the lists that --set has begun to replace.
void apply_override(const Override& one, Json& target, std::set<std::string>& seen) {
  if (!one.name.empty()) {
    target[one.key][one.name] = one.value;
  } else if (is_one_of(one.key, {"tags", "platforms", "output", "cache-from", "cache-to", "secret",
                                 "ssh", "attest", "annotations", "entitlements", "policy",
                                 "no-cache-filter", "ulimits"})) {
    auto& list = target[one.key];
    if (!list.is_array() || (seen.insert(one.key).second && !one.append)) list = Json::array();
    if (!one.value.empty()) list.push_back(one.value);
  } else {
    target[one.key] = one.value;
  }
}

std::vector<std::string> texts_of(const Json& target, const char* key) {
  std::vector<std::string> texts;
  const auto found = target.find(key);
  if (found == target.end()) return texts;
  if (!found->is_array()) {
    if (auto text = entry_text(*found); !text.empty()) texts.push_back(std::move(text));
    return texts;
  }
  for (const auto& one : *found)
    if (auto text = entry_text(one);
        !text.empty() && std::find(texts.begin(), texts.end(), text) == texts.end())
      texts.push_back(std::move(text));
  return texts;
}

std::string text_of(const Json& target, const char* key) {
  const auto found = target.find(key);
  return found == target.end() ? "" : scalar_text(*found).value_or("");
}

/// NAME=VALUE of a map.
std::vector<std::string> pairs_of(const Json& target, const char* key) {
  std::vector<std::string> pairs;
  if (const auto found = target.find(key); found != target.end() && found->is_object())
    for (const auto& [name, value] : found->items())
      if (!value.is_null()) pairs.push_back(name + "=" + scalar_text(value).value_or(""));
  return pairs;
}

/// {"id": "default", "paths": "key"} as --ssh writes it.
std::vector<std::string> ssh_of(const Json& target) {
  std::vector<std::string> texts;
  const auto found = target.find("ssh");
  if (found == target.end() || !found->is_array()) return texts_of(target, "ssh");
  for (const auto& one : *found) {
    if (!one.is_object()) {
      texts.push_back(scalar_text(one).value_or(""));
      continue;
    }
    std::string text = text_of(one, "id").empty() ? "default" : text_of(one, "id");
    std::string paths;
    for (const auto& path : texts_of(one, "paths"))
      paths += (paths.empty() ? "=" : ",") + path;
    texts.push_back(text + paths);
  }
  return texts;
}

bool is_empty(const Json& value) {
  return value.is_null() || (value.is_structured() && value.empty()) || value == Json("");
}

class Planner {
public:
  Planner(const Bake& bake, const Definitions& known) : bake_{bake}, known_{known} {}

  Result<BakePlan> plan() {
    for (const auto& text : bake_.overrides) {
      auto one = parse_override(text, bake_.env);
      if (!one) return std::move(one).error();
      if (!*one) continue;
      if (std::none_of(known_.targets().begin(), known_.targets().end(),
                       [&](const auto& target) { return matches((*one)->pattern, target.first); }))
        return bake_error("could not find any target matching '" + (*one)->pattern + "'");
      overrides_.push_back(**one);
    }
    std::vector<std::string> names;
    std::vector<std::string> asked = bake_.targets;
    if (asked.empty()) asked.emplace_back("default");
    for (const auto& name : asked)
      if (auto found = expand(name, names); !found) return std::move(found).error();
    if (names.size() > kMaxBakeTargets)
      return bake_error("more than " + std::to_string(kMaxBakeTargets) + " targets");
    asked_ = {names.begin(), names.end()};
    BakePlan plan;
    Json shown = Json::object();
    for (const auto& name : names)
      if (auto added = add(name, plan, shown, 0); !added) return std::move(added).error();
    plan.printed = Json{{"group", shown_groups(asked)}, {"target", std::move(shown)}}.dump(
                       2, ' ', false, Json::error_handler_t::replace) +
                   "\n";
    return plan;
  }

private:
  /// A target, and before it those whose images it takes as contexts. One that nobody asked for is
  /// built for that alone, whatever it says of outputs. Source: loadLinks in buildx bake/bake.go.
  Status add(const std::string& name, BakePlan& plan, Json& shown, int depth) {
    const auto is_of = [&name](const auto& one) { return one.first == name; };
    if (std::any_of(plan.builds.begin(), plan.builds.end(), is_of)) return {};
    if (depth > kMaxBakeDepth || ++steps_ > kMaxSteps)
      return bake_error("target \"" + name + "\" needs itself as a context");
    auto target = resolved(name, 0);
    if (!target) return std::move(target).error();
    const std::string where = "target \"" + name + "\": ";
    const bool is_asked = asked_.contains(name);
    target->erase("inherits");
    if (text_of(*target, "context").empty()) (*target)["context"] = ".";
    if (text_of(*target, "dockerfile").empty()) (*target)["dockerfile"] = "Dockerfile";
    if (!is_asked) (*target)["output"] = Json::array({Json{{"type", "cacheonly"}}});
    Build build;
    if (auto text = understand(*target, build, is_asked); !text.empty())
      return bake_error(where + text);
    for (const auto& [context, value] : build.named_contexts) {
      if (!value.starts_with(kTargetContext)) continue;
      const auto needed = value.substr(kTargetContext.size());
      if (auto added = add(needed, plan, shown, depth + 1); !added) return added;
      plan.shared.insert(needed);
      if (auto text = check_platforms(build, needed, plan); !text.empty())
        return bake_error(where + text);
      // A pull would look for the other target's image in the registry.
      if (std::exchange(build.pull, false))
        build.notes.push_back("slipway: pull has no effect on target " + name +
                              ": it is built from another target's image, which is this job's own");
    }
    if (plan.builds.size() == kMaxBakeTargets)
      return bake_error("more than " + std::to_string(kMaxBakeTargets) + " targets");
    if (!is_asked) plan.only_needed.insert(name);
    plan.builds.emplace_back(name, std::move(build));
    shown[name] = *std::move(target);
    return {};
  }

  /// An image for several platforms takes of another one what is for each.
  static std::string check_platforms(const Build& build, const std::string& needed,
                                     const BakePlan& plan) {
    const auto of = std::find_if(plan.builds.begin(), plan.builds.end(),
                                 [&](const auto& one) { return one.first == needed; });
    if (of == plan.builds.end()) return {};
    const auto& theirs = of->second.platforms;
    if (build.platforms.size() < 2 || theirs.size() < 2) return {};
    for (const auto& platform : build.platforms)
      if (std::find(theirs.begin(), theirs.end(), platform) == theirs.end())
        return "it is built for " + platform + ", and its context, target \"" + needed +
               "\", is not";
    return {};
  }

  /// Every group that was reached. What was asked for by name stands in `default`, behind that
  /// group's own targets where it was reached itself.
  Json shown_groups(const std::vector<std::string>& asked) const {
    auto groups = groups_;
    std::set<std::string> in_default;
    if (const auto own = groups_.find("default"); own != groups_.end())
      in_default = {own->second.begin(), own->second.end()};
    for (const auto& name : asked)
      for (const auto& one : matching(name))
        if (one != "default" || !groups_.contains(one)) in_default.insert(one);
    groups["default"] = {in_default.begin(), in_default.end()};
    Json shown = Json::object();
    for (const auto& [name, targets] : groups)
      shown[name] = {{"targets", targets}};
    return shown;
  }

  static bool is_pattern(const std::string& name) {
    return name.find_first_of("*?[") != std::string::npos;
  }

  /// The name itself, or the groups and targets that a pattern matches.
  std::vector<std::string> matching(const std::string& name) const {
    if (!is_pattern(name)) return {name};
    std::vector<std::string> names;
    for (const auto* list : {&known_.groups(), &known_.targets()})
      for (const auto& [one, body] : *list)
        if (matches(name, one)) names.push_back(one);
    return names;
  }

  static bool matches(const std::string& pattern, const std::string& name) {
    return ::fnmatch(pattern.c_str(), name.c_str(), 0) == 0;
  }

  /// Groups become their targets, patterns become names; each once.
  Status expand(const std::string& name, std::vector<std::string>& names, int depth = 0) {
    if (depth > kMaxBakeDepth || ++steps_ > kMaxSteps)
      return bake_error("group \"" + name + "\" holds itself");
    if (is_pattern(name)) {
      const auto ones = matching(name);
      for (const auto& one : ones)
        if (auto found = expand(one, names, depth + 1); !found) return found;
      return ones.empty() ? bake_error("could not find any target matching \"" + name + "\"")
                          : Status{};
    }
    const auto group = known_.groups().find(name);
    if (group == known_.groups().end()) {
      if (!known_.targets().contains(name)) return bake_error("failed to find target " + name);
      if (std::find(names.begin(), names.end(), name) == names.end()) names.push_back(name);
      return {};
    }
    auto body = known_.evaluated(group->second, "group \"" + name + "\"");
    if (!body) return std::move(body).error();
    const auto& targets = groups_[name] = texts_of(*body, "targets");
    for (const auto& one : targets)
      if (auto found = expand(one, names, depth + 1); !found) return found;
    return {};
  }

  Result<Json> resolved(const std::string& name, int depth) {
    if (depth > kMaxBakeDepth || ++steps_ > kMaxSteps)
      return bake_error("target \"" + name + "\" inherits from itself");
    const auto found = known_.targets().find(name);
    if (found == known_.targets().end()) return bake_error("failed to find target " + name);
    const std::string where = "target \"" + name + "\"";
    auto own = known_.evaluated(found->second, where);
    if (!own) return own;
    if (const auto more = known_.later_.find(name); more != known_.later_.end())
      for (const auto& one : more->second) {
        auto next = known_.evaluated(one, where);
        if (!next) return next;
        merge_target(*own, *next);
      }
    Json target = Json::object();
    for (const auto& parent : texts_of(*own, "inherits")) {
      auto inherited = resolved(parent, depth + 1);
      if (!inherited) return inherited;
      merge_target(target, *inherited);
    }
    merge_target(target, *own);
    std::set<std::string> seen;
    for (const auto& one : overrides_)
      if (matches(one.pattern, name)) apply_override(one, target, seen);
    return target;
  }

  /// Text of the refusal, or "".
  std::string understand(const Json& target, Build& build, bool is_asked) const {
    for (const auto& [key, value] : target.items()) {
      if (is_one_of(key, {"context",     "dockerfile", "dockerfile-inline",
                          "args",        "labels",     "tags",
                          "target",      "platforms",  "output",
                          "pull",        "no-cache",   "network",
                          "extra-hosts", "cache-from", "cache-to",
                          "call",        "push",       "load",
                          "secret",      "ssh",        "contexts",
                          "annotations", "attest",     "no-cache-filter"}) ||
          is_empty(value))
        continue;
      return unsupported("\"" + key + "\"", std::string{kNotYet});
    }
    build.called = "docker buildx bake";
    build.dialect = "bake";
    build.target = text_of(target, "target");
    if (is_asked) build.tags = texts_of(target, "tags");
    for (const auto& output : texts_of(target, "output"))
      if (auto text = add_output(output, build); !text.empty()) return text;
    // What is said of pushing counts before what outputs say, the command's flag before --set.
    if (const auto said = as_bool(target.value("push", Json())); target.contains("push") && said)
      build.push = *said;
    if (bake_.push) build.push = true;
    if (bake_.no_push || !is_asked) build.push = false;
    const auto load = as_bool(target.value("load", Json(false)));
    if (bake_.load || (load && *load)) build.keeps_image = true;
    add_platforms(texts_of(target, "platforms"), build);
    for (const auto& text :
         {paths(target, build), add_build_args(pairs_of(target, "args"), {}, build),
          add_labels(pairs_of(target, "labels"), build),
          add_annotations(texts_of(target, "annotations"), build),
          add_hosts(pairs_of(target, "extra-hosts"), build),
          add_secrets(texts_of(target, "secret"), bake_.env, build),
          add_ssh_keys(ssh_of(target), bake_.env, build), take_contexts(target, build),
          check_tags(build), set_network(text_of(target, "network"), build)})
      if (!text.empty()) return text;
    if (is_asked) { // nobody is given another one's image
      for (const auto& attestation : texts_of(target, "attest"))
        if (auto text = add_attestation("\"attest\": " + attestation, attestation, build);
            !text.empty())
          return text;
      for (const auto& [shown, value] : bake_.attestations)
        if (auto text = add_attestation(shown, value, build); !text.empty()) return text;
    }
    for (const auto& from : texts_of(target, "cache-from"))
      note_cache_source("cache-from", from, build);
    for (const auto& to : texts_of(target, "cache-to"))
      if (auto text = note_cache_goal("cache-to", to, build); !text.empty()) return text;
    if (const auto call = text_of(target, "call"); !call.empty() && call != "build")
      return unsupported("\"call\": \"" + call + "\"", std::string{kNotYet});
    const auto pull = as_bool(target.value("pull", Json(false)));
    const auto no_cache = as_bool(target.value("no-cache", Json(false)));
    if (!pull) return "invalid value for boolean key pull";
    if (!no_cache) return "invalid value for boolean key no-cache";
    build.pull = bake_.pull || *pull;
    build.no_cache = bake_.no_cache || *no_cache;
    for (const auto& stage : texts_of(target, "no-cache-filter"))
      take_no_cache_filter("no-cache-filter", stage, build);
    if (build.push && build.tags.empty()) return "tag is needed when pushing to registry";
    return settle_outputs(build);
  }

  /// What other targets make stays as it is said: see BakePlan.
  static std::string take_contexts(const Json& target, Build& build) {
    for (const auto& text : pairs_of(target, "contexts")) {
      const auto equals = text.find('=');
      if (text.compare(equals + 1, kTargetContext.size(), kTargetContext) != 0) {
        if (auto why = add_named_contexts({text}, build); !why.empty()) return why;
      } else if (const auto name = text.substr(0, equals); !parse_image_name(name)) {
        return "\"contexts\": invalid context name " + name;
      } else {
        build.named_contexts.emplace_back(name, text.substr(equals + 1));
      }
    }
    return {};
  }

  /// The Dockerfile lies in the context, unless it says cwd:// or is absolute.
  static std::string paths(const Json& target, Build& build) {
    build.context = text_of(target, "context");
    if (build.context == "-") return "context from stdin not allowed in bake";
    if (build.context.starts_with(kHere)) build.context.erase(0, kHere.size());
    if (build.context.starts_with(kTargetContext))
      return unsupported("a context that is another target (" + build.context + ")",
                         "name it among `contexts`, where an image may stand");
    if (auto text = take_remote_context(build); !text.empty()) return text;
    if (build.context.empty()) build.context = ".";
    build.file = text_of(target, "dockerfile");
    if (build.file == "-") return "dockerfile from stdin not allowed in bake";
    const bool is_address = build.remote || !build.wrong_address.empty();
    build.file_in_context = is_address;
    if (is_address && build.file.starts_with(kHere))
      return unsupported("a Dockerfile of this folder (" + build.file + ") with a remote context",
                         "say it as dockerfile-inline");
    if (build.file.starts_with(kHere))
      build.file.erase(0, kHere.size());
    else if (!is_address && !build.file.starts_with('/') && !is_web_address(build.file))
      build.file = build.context + "/" + build.file;
    if (auto text = text_of(target, "dockerfile-inline"); !text.empty())
      build.dockerfile_text = std::move(text);
    return {};
  }

  const Bake& bake_;
  const Definitions& known_;
  std::vector<Override> overrides_;
  std::set<std::string> asked_;                            ///< targets
  std::map<std::string, std::vector<std::string>> groups_; ///< that were reached
  std::size_t steps_ = 0; ///< against inheritance that doubles at each level
};

} // namespace

Result<BakePlan> plan_bake(const Bake& bake, const std::vector<BakeFile>& files) {
  auto plain = hcl_to_json(files, bake.env);
  if (!plain) return std::move(plain).error();
  // Beside HCL the environment has had its say already.
  const bool all_json = std::none_of(files.begin(), files.end(), is_hcl);
  const Environment nothing;
  Definitions known{all_json ? bake.env : nothing};
  for (const auto& file : *plain)
    if (auto added = known.add(file); !added) return std::move(added).error();
  return Planner{bake, known}.plan();
}

std::optional<std::string> bake_builtin(const std::string& name) {
  if (name == "BAKE_CMD_CONTEXT") return std::string{kHere};
  if (name != "BAKE_LOCAL_PLATFORM") return std::nullopt;
  utsname system{};
  ::uname(&system);
  const std::string_view machine{static_cast<const char*>(system.machine)};
  return "linux/" + std::string{machine == "x86_64"    ? "amd64"
                                : machine == "aarch64" ? "arm64"
                                                       : machine};
}

Command read_bake(const std::vector<std::string>& words, const Environment& env) {
  Tool docker{"docker", {}};
  const std::string called = "docker buildx bake";
  return read_command(
      docker, called, words,
      {"[OPTIONS] [TARGET...]",
       {{"file", 'f'},
        {"set"},
        {"push", 0, Takes::nothing},
        {"load", 0, Takes::nothing},
        {"print", 0, Takes::nothing},
        {"no-cache", 0, Takes::nothing},
        {"pull", 0, Takes::nothing},
        {"metadata-file"},
        {"provenance"},
        {"sbom"},
        {"allow"},
        {"progress", 0, Takes::value, Use::ignore},
        {"builder", 0, Takes::value, Use::ignore},
        {"debug", 'D', Takes::nothing, Use::ignore},
        {"call", 0, Takes::value, Use::refuse, kNotYet},
        {"check", 0, Takes::nothing, Use::refuse, kNotYet},
        {"list", 0, Takes::value, Use::refuse, "use --print"},
        {"list-targets", 0, Takes::nothing, Use::refuse, "use --print"},
        {"list-variables", 0, Takes::nothing, Use::refuse, kNotYet},
        {"var", 0, Takes::value, Use::refuse, "set it in the environment"}},
       0,
       kAny,
       [&](const Line& line) -> Command {
         Bake bake;
         bake.attestations = short_attestations(line);
         Build asked;
         for (const auto& [shown, value] : bake.attestations)
           if (auto text = add_attestation(shown, value, asked); !text.empty())
             return usage_error({}, called, text);
         // Which files a build may read is for the sandbox to say; more than that is not given.
         for (const auto& allow : line.all("allow"))
           if (!allow.starts_with("fs"))
             return usage_error({}, called,
                                unsupported("--allow " + allow, std::string{kNoWeakening}));
         for (const auto& file : line.all("file"))
           if (file.ends_with(".yml") || file.ends_with(".yaml"))
             return usage_error({}, called,
                                unsupported("the bake file " + file,
                                            "slipway reads bake files in JSON and HCL; services of "
                                            "Compose files are built with `docker compose build`"));
         for (const auto& target : line.arguments)
           if (is_remote_context(target))
             return usage_error({}, called,
                                unsupported("a remote bake file (" + shown_address(target) + ")",
                                            "clone it in the job"));
         bake.files = line.all("file");
         bake.targets = line.arguments;
         bake.overrides = line.all("set");
         bake.env = env;
         bake.push = line.has("push");
         bake.no_push = line.last("push") == "false";
         bake.load = line.has("load");
         bake.print = line.has("print");
         bake.no_cache = line.has("no-cache");
         bake.pull = line.has("pull");
         bake.metadata_file = line.last("metadata-file");
         return bake;
       }});
}

} // namespace slipway::shim
