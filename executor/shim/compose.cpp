// SPDX-License-Identifier: Apache-2.0
#include "executor/shim/compose.hpp"

#include "executor/shim/image_name.hpp"
#include "executor/shim/parsing.hpp"
#include "executor/shim/variables.hpp"
#include "executor/shim/yaml.hpp"

#include <nlohmann/json.hpp>

#include <algorithm>
#include <filesystem>
#include <map>
#include <optional>
#include <set>
#include <string_view>
#include <utility>

namespace slipway::shim {
namespace {

namespace fs = std::filesystem;
using Json = nlohmann::ordered_json;
using Kind = YamlNode::Kind;
using Path = std::vector<std::string>;

/// Nodes that `extends` may copy.
constexpr std::size_t kMaxCopiedNodes = 1000000;
constexpr std::string_view kServiceContext = "service:";

Error compose_error(const std::string& what, const std::string& hint = "") {
  return Error{ErrorKind::bad_input, what, hint, {}};
}

bool is_one_of(std::string_view text, std::initializer_list<std::string_view> list) {
  return std::find(list.begin(), list.end(), text) != list.end();
}

std::optional<bool> as_bool(const YamlNode& node) {
  if (!node.is_text()) return std::nullopt;
  std::string text = node.text;
  std::transform(text.begin(), text.end(), text.begin(),
                 [](char c) { return c >= 'A' && c <= 'Z' ? static_cast<char>(c + 32) : c; });
  if (is_one_of(text, {"true", "yes", "y", "on", "1"})) return true;
  if (is_one_of(text, {"false", "no", "n", "off", "0"})) return false;
  return std::nullopt;
}

bool is_on(const Environment& env, const std::string& name) {
  const auto found = env.find(name);
  return found != env.end() && is_one_of(found->second, {"1", "true", "TRUE", "True", "t", "T"});
}

std::vector<std::string> split(const std::string& text, const std::string& separator) {
  std::vector<std::string> parts;
  for (std::size_t at = 0; at <= text.size();) {
    const auto end = std::min(text.find(separator, at), text.size());
    if (end > at) parts.push_back(text.substr(at, end - at));
    at = end + separator.size();
  }
  return parts;
}

std::string normal(const fs::path& path) {
  auto text = path.lexically_normal().string();
  if (text.size() > 1 && text.ends_with('/')) text.pop_back();
  return text;
}

/// Source: compose-spec.json of compose-go.
bool is_service_key(std::string_view key) {
  static const std::set<std::string_view> known{"annotations",
                                                "attach",
                                                "blkio_config",
                                                "build",
                                                "cap_add",
                                                "cap_drop",
                                                "cgroup",
                                                "cgroup_parent",
                                                "command",
                                                "configs",
                                                "container_name",
                                                "cpu_count",
                                                "cpu_percent",
                                                "cpu_period",
                                                "cpu_quota",
                                                "cpu_rt_period",
                                                "cpu_rt_runtime",
                                                "cpu_shares",
                                                "cpus",
                                                "cpuset",
                                                "credential_spec",
                                                "depends_on",
                                                "deploy",
                                                "develop",
                                                "device_cgroup_rules",
                                                "devices",
                                                "dns",
                                                "dns_opt",
                                                "dns_search",
                                                "domainname",
                                                "entrypoint",
                                                "env_file",
                                                "environment",
                                                "expose",
                                                "extends",
                                                "external_links",
                                                "extra_hosts",
                                                "gpus",
                                                "group_add",
                                                "healthcheck",
                                                "hostname",
                                                "image",
                                                "init",
                                                "ipc",
                                                "isolation",
                                                "label_file",
                                                "labels",
                                                "links",
                                                "logging",
                                                "mac_address",
                                                "mem_limit",
                                                "mem_reservation",
                                                "mem_swappiness",
                                                "memswap_limit",
                                                "models",
                                                "network_mode",
                                                "networks",
                                                "oom_kill_disable",
                                                "oom_score_adj",
                                                "pid",
                                                "pids_limit",
                                                "platform",
                                                "ports",
                                                "post_start",
                                                "pre_start",
                                                "pre_stop",
                                                "privileged",
                                                "profiles",
                                                "provider",
                                                "pull_policy",
                                                "pull_refresh_after",
                                                "read_only",
                                                "restart",
                                                "runtime",
                                                "scale",
                                                "secrets",
                                                "security_opt",
                                                "shm_size",
                                                "stdin_open",
                                                "stop_grace_period",
                                                "stop_signal",
                                                "storage_opt",
                                                "sysctls",
                                                "tmpfs",
                                                "tty",
                                                "ulimits",
                                                "use_api_socket",
                                                "user",
                                                "userns_mode",
                                                "uts",
                                                "volumes",
                                                "volumes_from",
                                                "volume_driver",
                                                "working_dir"};
  return known.contains(key);
}

std::size_t count_nodes(const YamlNode& node) {
  std::size_t count = 1;
  for (const auto& one : node.items)
    count += count_nodes(one);
  for (const auto& member : node.members)
    count += count_nodes(member.value);
  return count;
}

bool is_empty(const YamlNode& node) {
  switch (node.kind) {
  case Kind::null:
    return true;
  case Kind::text:
    return node.text.empty();
  case Kind::list:
    return node.items.empty();
  case Kind::map:
    return node.members.empty();
  }
  return false;
}

// ---- merging -----------------------------------------------------------------------------------

void strip_resets(YamlNode& node) {
  std::erase_if(node.members, [](const YamlMember& one) { return one.value.reset; });
  for (auto& member : node.members)
    strip_resets(member.value);
  for (auto& one : node.items)
    strip_resets(one);
}

/// `command` and kin are said anew as a whole.
bool is_replaced(const Path& path) {
  if (path.size() < 3 || path[0] != "services") return false;
  return (path.size() == 3 && (path[2] == "command" || path[2] == "entrypoint")) ||
         (path.size() == 4 && path[2] == "healthcheck" && path[3] == "test");
}

bool is_in_build(const Path& path) {
  return path.size() > 3 && path[0] == "services" && path[2] == "build";
}

bool is_build_args(const Path& path) {
  return path.size() == 4 && path[0] == "services" && path[2] == "build" && path[3] == "args";
}

Status merge(YamlNode& into, const YamlNode& from, Path& path) {
  if (from.is_null()) return {};
  if (into.is_null() || from.replace) {
    into = from;
    into.replace = false;
    strip_resets(into);
    return {};
  }
  if (into.is_map() && from.is_map()) {
    for (const auto& [key, value] : from.members) {
      if (value.reset) {
        into.erase(key);
        continue;
      }
      // An argument without a value is one that nothing sets: the base's goes.
      if (value.is_null() && is_build_args(path)) {
        into.at(key) = value;
        continue;
      }
      path.push_back(key);
      auto merged = merge(into.at(key), value, path);
      path.pop_back();
      if (!merged) return merged;
    }
    return {};
  }
  if (into.is_list() && from.is_list() && !is_replaced(path)) {
    for (const auto& one : from.items) {
      const bool known =
          one.is_text() &&
          std::any_of(into.items.begin(), into.items.end(), [&](const YamlNode& other) {
            return other.is_text() && other.text == one.text;
          });
      if (!known) into.items.push_back(one);
    }
    return {};
  }
  if (into.kind != from.kind && is_in_build(path)) {
    std::string name;
    for (const auto& part : path)
      name += (name.empty() ? "" : ".") + part;
    return compose_error(from.where() + ": " + name + " is of another kind than in " +
                         into.where());
  }
  into = from;
  strip_resets(into);
  return {};
}

/// "k=v" and "k" of a list as a map; without a value null.
void list_to_map(YamlNode& node) {
  if (!node.is_list()) return;
  YamlNode map = node.beside(Kind::map);
  map.reset = node.reset;
  map.replace = node.replace;
  for (const auto& one : node.items) {
    const std::string text = scalar_text(one);
    const auto equals = text.find('=');
    YamlNode value = one.beside(equals == std::string::npos ? Kind::null : Kind::text);
    if (equals != std::string::npos) value.text = text.substr(equals + 1);
    map.at(text.substr(0, equals)) = std::move(value);
  }
  node = std::move(map);
}

/// A host may have several addresses, so a map becomes a list.
void hosts_to_list(YamlNode& node) {
  if (!node.is_map()) return;
  YamlNode list = node.beside(Kind::list);
  list.reset = node.reset;
  list.replace = node.replace;
  for (const auto& [host, value] : node.members) {
    const auto add = [&, &name = host](const YamlNode& address) {
      YamlNode item = address.beside(Kind::text);
      item.text = name + "=" + scalar_text(address);
      list.items.push_back(std::move(item));
    };
    if (value.is_list())
      std::for_each(value.items.begin(), value.items.end(), add);
    else
      add(value);
  }
  node = std::move(list);
}

// ---- files -------------------------------------------------------------------------------------

class Loader {
public:
  Loader(const Compose& compose, std::string cwd, const ReadText& read)
      : compose_{compose}, cwd_{std::move(cwd)}, read_{read}, env_{compose.env} {}

  Result<ComposeProject> load() {
    if (auto known = read_environment(); !known) return std::move(known).error();
    auto files = find_files();
    if (!files) return std::move(files).error();
    const fs::path base =
        files->front() == "-" ? fs::path{cwd_} : fs::path{files->front()}.parent_path();
    dir_ = compose_.directory.empty() ? normal(base) : normal(fs::path{cwd_} / compose_.directory);
    if (!explicit_env_ && dir_ != env_dir_)
      if (auto known = add_env_file(dir_ + "/.env", env_, false); !known)
        return std::move(known).error();
    if (auto named = find_name(*files); !named) return std::move(named).error();
    auto model = load_files(*files, dir_, env_, 0);
    if (!model) return std::move(model).error();
    model_ = *std::move(model);
    default_contexts(model_, dir_);
    return project();
  }

private:
  // ---- what the environment says ---------------------------------------------------------------

  /// Values that are set already stay.
  Status add_env_file(const std::string& path, Environment& env, bool required) {
    auto text = read_(path);
    if (!text) {
      if (text.error().kind == ErrorKind::not_found && !required) return {};
      if (text.error().kind == ErrorKind::not_found)
        return Error{ErrorKind::not_found, "couldn't find env file: " + path, "", {}};
      return std::move(text).error();
    }
    auto values = read_env_file(path, *text, env);
    if (!values) return std::move(values).error();
    env.insert(values->begin(), values->end());
    return {};
  }

  Status read_environment() {
    auto names = compose_.env_files;
    if (const auto set = env_.find("COMPOSE_ENV_FILES"); names.empty() && set != env_.end())
      names = split(set->second, ",");
    explicit_env_ = !names.empty() || is_on(env_, "COMPOSE_DISABLE_ENV_FILE");
    // Of a project that the command line names by its place only that folder's file counts.
    env_dir_ = cwd_;
    if (!compose_.directory.empty())
      env_dir_ = normal(fs::path{cwd_} / compose_.directory);
    else if (!compose_.files.empty() && compose_.files.front() != "-")
      env_dir_ = normal((fs::path{cwd_} / compose_.files.front()).parent_path());
    if (!explicit_env_) return add_env_file(normal(fs::path{env_dir_} / ".env"), env_, false);
    // The last file's word counts, so it comes first.
    std::reverse(names.begin(), names.end());
    for (const auto& name : names)
      if (auto known = add_env_file(normal(fs::path{cwd_} / name), env_, true); !known)
        return known;
    return {};
  }

  bool is_there(const std::string& path) {
    const auto text = read_(path);
    return text || text.error().kind != ErrorKind::not_found;
  }

  Result<std::vector<std::string>> find_files() {
    auto names = compose_.files;
    if (const auto set = env_.find("COMPOSE_FILE"); names.empty() && set != env_.end()) {
      const auto separator = env_.find("COMPOSE_PATH_SEPARATOR");
      names = split(set->second,
                    separator == env_.end() || separator->second.empty() ? ":" : separator->second);
    }
    if (names.size() > kMaxComposeFiles) return compose_error("too many Compose files");
    std::vector<std::string> files;
    files.reserve(names.size());
    for (const auto& name : names)
      files.push_back(name == "-" ? name : normal(fs::path{cwd_} / name));
    if (!files.empty()) return files;
    const auto add_first = [&](const fs::path& folder,
                               std::initializer_list<const char*> candidates) {
      for (const auto* name : candidates)
        if (is_there(normal(folder / name))) {
          files.push_back(normal(folder / name));
          return;
        }
    };
    fs::path folder{compose_.directory.empty() ? cwd_
                                               : normal(fs::path{cwd_} / compose_.directory)};
    for (;; folder = folder.parent_path()) {
      add_first(folder,
                {"compose.yaml", "compose.yml", "docker-compose.yml", "docker-compose.yaml"});
      if (!files.empty()) {
        add_first(folder, {"compose.override.yml", "compose.override.yaml",
                           "docker-compose.override.yml", "docker-compose.override.yaml"});
        return files;
      }
      if (folder == folder.parent_path())
        return Error{ErrorKind::not_found,
                     "no configuration file provided: not found",
                     "name it with -f, or put a compose.yaml into " + cwd_,
                     {}};
    }
  }

  /// -p, COMPOSE_PROJECT_NAME, `name:` of the last file that has it, the folder's name.
  Status find_name(const std::vector<std::string>& files) {
    name_ = compose_.project;
    if (const auto set = env_.find("COMPOSE_PROJECT_NAME"); name_.empty() && set != env_.end())
      name_ = set->second;
    if (name_.empty())
      for (const auto& file : files) {
        auto documents = documents_of(file);
        if (!documents) return std::move(documents).error();
        for (auto& one : *documents) {
          auto* said = one.find("name");
          if (said == nullptr || !said->is_text()) continue;
          std::set<std::string> unset;
          auto filled = fill_variables(said->text, env_, unset);
          if (!filled) return std::move(filled).error().in(said->where());
          name_ = *std::move(filled);
        }
      }
    const bool said = !name_.empty();
    if (!said) name_ = fs::path{dir_}.filename().string();
    std::string good;
    for (const char c : name_) {
      const char lower = c >= 'A' && c <= 'Z' ? static_cast<char>(c + 32) : c;
      const bool letter = (lower >= 'a' && lower <= 'z') || (lower >= '0' && lower <= '9');
      if (letter || ((lower == '-' || lower == '_') && !good.empty())) good += lower;
    }
    if (said && good != name_ && !compose_.old_name)
      return compose_error("invalid project name \"" + name_ +
                           "\": must consist only of lowercase alphanumeric characters, hyphens, "
                           "and underscores as well as start with a letter or number");
    if (good.empty()) return compose_error("project name must not be empty", "give one with -p");
    name_ = good;
    env_["COMPOSE_PROJECT_NAME"] = good;
    return {};
  }

  // ---- the model -------------------------------------------------------------------------------

  /// Each file is read and parsed once.
  Result<std::vector<YamlNode>> documents_of(const std::string& path) {
    const auto known = parsed_.find(path);
    if (known != parsed_.end()) return known->second;
    if (parsed_.size() >= kMaxComposeFiles) return compose_error("too many Compose files");
    auto text = read_(path);
    if (!text) {
      if (text.error().kind != ErrorKind::not_found) return std::move(text).error();
      return Error{ErrorKind::not_found, "open " + path + ": no such file or directory", "", {}};
    }
    auto documents = parse_yaml(path == "-" ? "stdin" : shown(path), *text);
    if (!documents) return documents;
    for (const auto& one : *documents)
      if (!one.is_map() && !one.is_null())
        return compose_error(one.where() + ": a Compose file is a map");
    parsed_[path] = *documents;
    return documents;
  }

  /// A path as messages have it: relative where it is below the working folder.
  std::string shown(const std::string& path) const {
    const auto relative = fs::path{path}.lexically_relative(cwd_);
    return relative.empty() || *relative.begin() == ".." ? path : relative.string();
  }

  Status fill(YamlNode& node, const Environment& env) {
    if (node.is_text() && node.text.find('$') != std::string::npos) {
      auto filled = fill_variables(node.text, env, unset_);
      if (!filled) return std::move(filled).error().in(node.where());
      node.text = *std::move(filled);
      node.plain = false;
    }
    for (auto& one : node.items)
      if (auto done = fill(one, env); !done) return done;
    for (auto& member : node.members)
      if (auto done = fill(member.value, env); !done) return done;
    return {};
  }

  std::string absolute(const std::string& path, const std::string& dir) const {
    if (path == "~" || path.starts_with("~/"))
      if (const auto home = env_.find("HOME"); home != env_.end())
        return normal(home->second + path.substr(1));
    return normal(fs::path{dir} / path);
  }

  /// Short forms become long ones, paths absolute: from here on it does not matter where a service
  /// was written.
  Status prepare_service(const std::string& name, YamlNode& service, const std::string& dir,
                         const Environment& env) const {
    if (service.is_null()) return {};
    if (!service.is_map())
      return compose_error(service.where() + ": services." + name + " is no map");
    for (const auto& [key, value] : service.members)
      if (!key.starts_with("x-") && !is_service_key(key))
        return compose_error(value.where() + ": services." + name + ": additional properties '" +
                             key + "' not allowed");
    for (const auto* key :
         {"environment", "labels", "annotations", "sysctls", "depends_on", "networks"})
      if (auto* node = service.find(key)) list_to_map(*node);
    auto* build = service.find("build");
    if (build == nullptr || build->is_null()) return {};
    if (build->is_text()) {
      YamlNode map = build->beside(Kind::map);
      map.replace = build->replace;
      map.at("context") = *build;
      map.at("context").replace = false;
      *build = std::move(map);
    }
    if (!build->is_map())
      return compose_error(build->where() + ": services." + name +
                           ".build is neither a folder nor a map");
    for (const auto* key : {"args", "labels", "additional_contexts"})
      if (auto* node = build->find(key)) list_to_map(*node);
    if (auto* args = build->find("args"))
      for (auto& [key, value] : args->members)
        if (const auto set = env.find(key); value.is_null() && !value.reset && set != env.end()) {
          value.kind = Kind::text;
          value.text = set->second;
        }
    if (auto* hosts = build->find("extra_hosts")) hosts_to_list(*hosts);
    if (auto* context = build->find("context");
        context != nullptr && context->is_text() && !is_address(context->text, dir))
      context->text = absolute(context->text, dir);
    if (auto* contexts = build->find("additional_contexts"); contexts != nullptr)
      for (auto& [key, value] : contexts->members)
        if (value.is_text() && value.text.find("://") == std::string::npos &&
            !value.text.starts_with(kServiceContext) && !is_address(value.text, dir))
          value.text = absolute(value.text, dir);
    return {};
  }

  /// What has no scheme may be a folder's name, and is that then.
  static bool is_address(const std::string& text, const std::string& dir) {
    std::error_code cause;
    return is_remote_context(text) && (text.find("://") != std::string::npos ||
                                       !fs::is_directory(fs::path{dir} / text, cause));
  }

  Status prepare(YamlNode& document, const std::string& dir, const Environment& env) {
    for (const auto& [key, value] : document.members)
      if (!key.starts_with("x-") &&
          !is_one_of(key, {"version", "name", "services", "networks", "volumes", "secrets",
                           "configs", "include", "models"}))
        return compose_error(value.where() + ": \"" + key + "\" is no key of a Compose file",
                             "services stand below `services:`");
    if (auto done = fill(document, env); !done) return done;
    if (auto* services = document.find("services")) {
      if (!services->is_map() && !services->is_null())
        return compose_error(services->where() + ": services is no map");
      for (auto& [name, service] : services->members)
        if (auto done = prepare_service(name, service, dir, env); !done) return done;
    }
    if (auto* secrets = document.find("secrets"))
      for (auto& [name, secret] : secrets->members)
        if (auto* file = secret.find("file"); file != nullptr && file->is_text())
          file->text = absolute(file->text, dir);
    return {};
  }

  Result<YamlNode> load_files(const std::vector<std::string>& files, const std::string& dir,
                              const Environment& env, int depth) {
    if (depth > kMaxComposeDepth) return compose_error("Compose files include each other");
    YamlNode model;
    model.kind = Kind::map;
    for (const auto& file : files) {
      auto documents = documents_of(file);
      if (!documents) return std::move(documents).error();
      for (auto& document : *documents) {
        if (document.is_null()) continue;
        if (!model.file) model = document.beside(Kind::map);
        if (auto done = prepare(document, dir, env); !done) return std::move(done).error();
        if (auto* services = document.find("services"))
          for (std::size_t i = 0; i < services->members.size(); ++i)
            if (auto done = extend(*services, services->members[i].key, dir, env, 0); !done)
              return std::move(done).error();
        if (auto done = include(document, dir, env, depth); !done) return std::move(done).error();
        Path path;
        if (auto merged = merge(model, document, path); !merged) return std::move(merged).error();
      }
    }
    return model;
  }

  /// A service without a context builds from the folder of its file.
  static void default_contexts(YamlNode& document, const std::string& dir) {
    auto* services = document.find("services");
    if (services == nullptr) return;
    for (auto& [name, service] : services->members)
      if (auto* build = service.find("build"); build != nullptr && build->is_map())
        if (auto& context = build->at("context"); is_empty(context)) {
          context.kind = Kind::text;
          context.text = dir;
        }
  }

  Status extend(YamlNode& services, const std::string& name, const std::string& dir,
                const Environment& env, int depth) {
    auto* service = services.find(name);
    const auto* said = service->find("extends");
    if (said == nullptr || said->is_null()) return {};
    const std::string where = said->where() + ": services." + name + ".extends";
    if (depth > kMaxComposeDepth) return compose_error(where + ": the service extends itself");
    const auto* base_name = said->is_map() ? said->find("service") : said;
    const auto* file = said->find("file");
    if (base_name == nullptr || !base_name->is_text())
      return compose_error(where + " names no service");
    YamlNode base;
    if (file != nullptr && file->is_text()) {
      const auto path = absolute(file->text, dir);
      auto documents = documents_of(path);
      if (!documents) return std::move(documents).error().in(where);
      const auto base_dir = fs::path{path}.parent_path().string();
      YamlNode other = said->beside(Kind::map);
      for (auto& document : *documents) {
        if (document.is_null()) continue;
        if (auto done = prepare(document, base_dir, env); !done) return done;
        Path merged_path;
        if (auto done = merge(other, document, merged_path); !done) return done;
      }
      auto* others = other.find("services");
      if (others == nullptr || others->find(base_name->text) == nullptr)
        return compose_error(where + ": there is no service " + base_name->text + " in " +
                             file->text);
      if (auto done = extend(*others, base_name->text, base_dir, env, depth + 1); !done)
        return done;
      default_contexts(other, base_dir);
      base = *others->find(base_name->text);
    } else {
      if (services.find(base_name->text) == nullptr)
        return compose_error(where + ": there is no service " + base_name->text);
      if (auto done = extend(services, std::string{base_name->text}, dir, env, depth + 1); !done)
        return done;
      base = *services.find(base_name->text);
    }
    copied_ += count_nodes(base);
    if (copied_ > kMaxCopiedNodes) return compose_error(where + ": the files become too large");
    Path path{"services", name};
    if (auto merged = merge(base, *service, path); !merged) return merged;
    base.erase("extends");
    *service = std::move(base);
    return {};
  }

  static std::vector<std::string> texts(const YamlNode* node) {
    std::vector<std::string> list;
    if (node == nullptr) return list;
    if (node->is_text()) list.push_back(scalar_text(*node));
    for (const auto& one : node->items)
      if (one.is_text()) list.push_back(scalar_text(one));
    return list;
  }

  /// What other files have, with their own folder and .env; nothing may be in both.
  Status include(YamlNode& document, const std::string& dir, const Environment& env, int depth) {
    const auto* list = document.find("include");
    if (list == nullptr) return {};
    if (!list->is_list() && !list->is_null())
      return compose_error(list->where() + ": include is no list");
    const YamlNode includes = *list;
    document.erase("include");
    for (const auto& one : includes.items) {
      auto paths = texts(one.is_map() ? one.find("path") : &one);
      if (paths.empty()) return compose_error(one.where() + ": include names no file");
      for (auto& path : paths) {
        if (is_remote_context(path) || path.find("://") != std::string::npos)
          return compose_error(one.where() + ": " +
                               unsupported("include of a remote file (" + shown_address(path) + ")",
                                           "clone it in the job"));
        path = absolute(path, dir);
      }
      const auto folder = texts(one.find("project_directory"));
      const auto sub_dir = folder.empty() ? fs::path{paths.front()}.parent_path().string()
                                          : absolute(folder.front(), dir);
      Environment sub_env = env;
      auto env_files = texts(one.find("env_file"));
      std::reverse(env_files.begin(), env_files.end());
      for (const auto& file : env_files)
        if (auto known = add_env_file(absolute(file, dir), sub_env, true); !known) return known;
      if (env_files.empty())
        if (auto known = add_env_file(sub_dir + "/.env", sub_env, false); !known) return known;
      auto model = load_files(paths, sub_dir, sub_env, depth + 1);
      if (!model) return std::move(model).error().in(one.where() + ": include");
      default_contexts(*model, sub_dir);
      copied_ += count_nodes(*model);
      if (copied_ > kMaxCopiedNodes)
        return compose_error(one.where() + ": the files become too large");
      for (const auto* section : {"services", "secrets", "networks", "volumes", "configs"}) {
        const auto* from = model->find(section);
        if (from == nullptr || !from->is_map()) continue;
        auto& into = document.at(section);
        if (into.is_null()) into = from->beside(Kind::map);
        for (const auto& [key, value] : from->members) {
          const auto* known = into.find(key);
          if (known != nullptr && std::string_view{section} == "services")
            return compose_error(known->where() + ": services." + key +
                                 " conflicts with the included one of " + value.where());
          if (known == nullptr) into.at(key) = value;
        }
      }
    }
    return {};
  }

  // ---- what was asked for ----------------------------------------------------------------------

  const YamlNode* service(const std::string& name) const {
    const auto* services = model_.find("services");
    return services == nullptr ? nullptr : services->find(name);
  }

  bool is_enabled(const YamlNode& service) const {
    const auto of_service = texts(service.find("profiles"));
    return of_service.empty() || std::any_of(of_service.begin(), of_service.end(), [&](auto& one) {
             return profiles_.contains(one) || profiles_.contains("*");
           });
  }

  std::string image_of(const std::string& name, const YamlNode& node) const {
    const auto* image = node.find("image");
    if (image != nullptr && !is_empty(*image)) return scalar_text(*image);
    const bool old =
        compose_.old_name || compose_.compatibility || is_on(env_, "COMPOSE_COMPATIBILITY");
    return name_ + (old ? "_" : "-") + name;
  }

  Result<ComposeProject> project() {
    for (const auto& one : compose_.profiles)
      profiles_.insert(one);
    if (const auto set = env_.find("COMPOSE_PROFILES"); profiles_.empty() && set != env_.end())
      for (const auto& one : split(set->second, ","))
        profiles_.insert(one);
    const auto* services = model_.find("services");
    if (services == nullptr || services->members.empty())
      return compose_error(shown_files() + ": no service", "services stand below `services:`");
    if (services->members.size() > kMaxComposeServices) return compose_error("too many services");
    for (const auto& [name, node] : services->members)
      if (!node.is_map() ||
          (is_missing(node, "image") && is_missing(node, "build") && is_missing(node, "provider")))
        return compose_error(node.where() + ": service \"" + name +
                             "\" has neither an image nor a build context specified");
    ComposeProject made;
    made.name = name_;
    std::vector<std::string> asked = compose_.services;
    for (const auto& name : asked)
      if (service(name) == nullptr)
        return Error{ErrorKind::not_found, "no such service: " + name, "", {}};
    if (asked.empty())
      for (const auto& [name, node] : services->members)
        if (is_enabled(node)) asked.push_back(name);
    for (const auto& name : asked)
      if (auto added = add(name, made.services, 0); !added) return std::move(added).error();
    for (const auto& name : unset_)
      made.notes.push_back("WARN[0000] The \"" + name +
                           "\" variable is not set. Defaulting to a blank string. ");
    if (compose_.verb == Compose::Verb::config) made.shown = config(made);
    return made;
  }

  std::string shown_files() const {
    return model_.file ? *model_.file : std::string{"the Compose file"};
  }

  static bool is_missing(const YamlNode& node, std::string_view key) {
    const auto* found = node.find(key);
    return found == nullptr || found->is_null();
  }

  /// A service, and before it the ones whose images its build needs.
  Status add(const std::string& name, std::vector<ComposeService>& list, int depth) {
    const auto* node = service(name);
    if (std::any_of(list.begin(), list.end(), [&](const auto& one) { return one.name == name; }))
      return {};
    if (depth > kMaxComposeDepth)
      return compose_error(node->where() + ": service \"" + name + "\" needs itself");
    const auto* build = node->find("build");
    ComposeService made;
    made.name = name;
    made.image = image_of(name, *node);
    made.has_image = !is_missing(*node, "image");
    made.has_build = build != nullptr && build->is_map();
    if (!parse_image_name(made.image))
      return compose_error(node->where() + ": services." + name + ".image: \"" + made.image +
                           "\" is no image name");
    made.names.push_back(made.image);
    made.platform = text_of(*node, "platform");
    made.pull_policy = text_of(*node, "pull_policy");
    if (made.has_build) {
      for (const auto& tag : texts(build->find("tags"))) {
        const auto tag_name = parse_image_name(tag);
        if (!tag_name || !tag_name->digest.empty())
          return compose_error(build->find("tags")->where() + ": services." + name +
                               ".build.tags: \"" + tag + "\" is no image name");
        made.names.push_back(tag);
      }
    }
    if (compose_.verb == Compose::Verb::build) {
      if (auto needed = add_needed(name, *node, list, depth); !needed) return needed;
      if (made.has_build)
        if (auto understood = understand(made, *node); !understood) return understood;
    }
    list.push_back(std::move(made));
    return {};
  }

  Status add_needed(const std::string& name, const YamlNode& node,
                    std::vector<ComposeService>& list, int depth) {
    const auto* build = node.find("build");
    const auto* contexts = build == nullptr ? nullptr : build->find("additional_contexts");
    if (contexts != nullptr)
      for (const auto& [key, value] : contexts->members) {
        if (!value.text.starts_with(kServiceContext)) continue;
        const auto other = value.text.substr(kServiceContext.size());
        if (service(other) == nullptr)
          return compose_error(value.where() + ": services." + name +
                               ".build.additional_contexts." + key + ": there is no service " +
                               other);
        if (auto added = add(other, list, depth + 1); !added) return added;
      }
    if (const auto* others = node.find("depends_on");
        compose_.with_dependencies && others != nullptr)
      for (const auto& [other, condition] : others->members)
        if (service(other) != nullptr)
          if (auto added = add(other, list, depth + 1); !added) return added;
    return {};
  }

  static std::string text_of(const YamlNode& node, const char* key) {
    const auto* found = node.find(key);
    return found == nullptr ? "" : scalar_text(*found);
  }

  // ---- a build ---------------------------------------------------------------------------------

  Status understand(ComposeService& made, const YamlNode& node) {
    const auto& said = *node.find("build");
    Build& build = made.build;
    build.called = compose_.called;
    build.dialect = "compose";
    build.quiet = compose_.quiet;
    build.no_cache = compose_.no_cache;
    build.pull = compose_.pull;
    build.push = compose_.push && made.has_image;
    build.tags = made.names;
    build.context = text_of(said, "context");
    for (const auto& [key, value] : said.members) {
      auto text = honour(key, value, build);
      if (!text.empty())
        return compose_error(value.where() + ": services." + made.name + ".build." + key + ": " +
                             text);
    }
    choose_platforms(said, made);
    for (const auto& [shown, value] : compose_.attestations)
      (void)add_attestation(shown, value, build); // it has been looked at with the command line
    for (const auto& text : {add_build_args(compose_.build_args, env_, build),
                             add_ssh_keys(compose_.ssh, env_, build)})
      if (!text.empty()) return compose_error("service \"" + made.name + "\": " + text);
    // A pull would look for the other service's image in the registry.
    if (std::exchange(needs_own_, false) && std::exchange(build.pull, false))
      build.notes.push_back("slipway: pull has no effect on service " + made.name +
                            ": it is built from another service's image, which is this job's own");
    const auto* file = said.find("dockerfile");
    if (file != nullptr && !is_empty(*file)) {
      if (build.dockerfile_text)
        return compose_error(file->where() + ": services." + made.name +
                             ".build has both dockerfile and dockerfile_inline");
      build.file =
          build.remote ? scalar_text(*file) : normal(fs::path{build.context} / scalar_text(*file));
    }
    return {};
  }

  void choose_platforms(const YamlNode& build, ComposeService& made) const {
    auto list = texts(build.find("platforms"));
    if (!made.platform.empty()) list = {made.platform};
    if (const auto set = env_.find("DOCKER_DEFAULT_PLATFORM");
        list.empty() && set != env_.end() && !set->second.empty())
      list = {set->second};
    add_platforms(list, made.build);
  }

  /// Text of the refusal, or "".
  std::string honour(const std::string& key, const YamlNode& value, Build& build) {
    if (key.starts_with("x-") || value.is_null() ||
        is_one_of(key, {"dockerfile", "tags", "platforms"}))
      return {};
    if (key == "context") {
      if (!value.is_text()) return "a folder is wanted";
      return take_remote_context(build);
    }
    if (key == "dockerfile_inline") {
      build.dockerfile_text = value.text;
      return {};
    }
    if (key == "args") return honour_args(value, build);
    if (key == "labels") return add_labels(pairs(value), build);
    if (key == "target") {
      build.target = scalar_text(value);
      return {};
    }
    if (key == "network") return set_network(scalar_text(value), build);
    if (key == "extra_hosts") return add_hosts(texts(&value), build);
    if (key == "no_cache" || key == "pull") return honour_switch(key, value, build);
    if (key == "cache_from") {
      for (const auto& from : texts(&value))
        note_cache_source("cache_from", from, build);
      return {};
    }
    if (key == "cache_to") {
      for (const auto& to : texts(&value))
        if (auto text = note_cache_goal("cache_to", to, build); !text.empty()) return text;
      return {};
    }
    if (key == "secrets") return honour_secrets(value, build);
    if (key == "ssh") return honour_ssh(value, build);
    if (key == "no_cache_filter") { // a name, or a list of them
      for (const auto& stage : value.is_text() ? Path{value.text} : texts(&value))
        take_no_cache_filter(key, stage, build);
      return {};
    }
    if (is_one_of(key, {"provenance", "sbom"}) && value.is_text()) // true, or "mode=min"
      return is_empty(value)
                 ? ""
                 : add_attestation("\"" + key + "\": " + value.text,
                                   attestation_of(key, as_bool(value) == true    ? "true"
                                                       : as_bool(value) == false ? "false"
                                                                                 : value.text),
                                   build);
    if (key == "additional_contexts") return honour_contexts(value, build);
    return refuse(key, value);
  }

  static std::string refuse(const std::string& key, const YamlNode& value) {
    const std::string shown = "\"" + key + "\"";
    const auto on = as_bool(value);
    if (is_one_of(key, {"privileged", "provenance", "sbom", "attest"}) &&
        (on == false || is_empty(value)))
      return {};
    if (key == "privileged" || key == "entitlements")
      return is_empty(value) ? "" : unsupported(shown, std::string{kNoWeakening});
    if (key == "isolation")
      return is_empty(value) || value.text == "default"
                 ? ""
                 : unsupported(shown, "the operator chooses how builds are isolated");
    if (is_one_of(key, {"shm_size", "ulimits", "memory", "cpuset", "cgroup_parent"}))
      return is_empty(value) ? "" : unsupported(shown, std::string{kNoLimits});
    return unsupported(shown, std::string{kNotYet});
  }

  static std::string honour_switch(const std::string& key, const YamlNode& value, Build& build) {
    const auto on = as_bool(value);
    if (!on) return "true or false is wanted";
    if (key == "pull")
      build.pull = build.pull || *on;
    else
      build.no_cache = build.no_cache || *on;
    return {};
  }

  static std::vector<std::string> pairs(const YamlNode& value) {
    std::vector<std::string> list;
    for (const auto& [key, one] : value.members)
      list.push_back(key + "=" + scalar_text(one));
    return list;
  }

  /// What has no value by now is not set in the environment either.
  std::string honour_args(const YamlNode& value, Build& build) const {
    if (!value.is_map()) return "a map or a list is wanted";
    std::vector<std::string> list;
    for (const auto& [key, one] : value.members) {
      if (one.is_map() || one.is_list()) return key + " is neither a text nor a number";
      if (!one.is_null()) list.push_back(key + "=" + scalar_text(one));
    }
    return add_build_args(list, env_, build);
  }

  static std::string csv(const std::string& field) {
    if (field.find_first_of(",\"") == std::string::npos) return field;
    std::string quoted = "\"";
    for (const char c : field)
      quoted += c == '"' ? std::string{"\"\""} : std::string{c};
    return quoted + "\"";
  }

  std::string honour_secrets(const YamlNode& value, Build& build) const {
    const auto* known = model_.find("secrets");
    for (const auto& one : value.items) {
      const std::string source = one.is_map() ? text_of(one, "source") : scalar_text(one);
      const std::string target = one.is_map() ? text_of(one, "target") : "";
      const auto* secret = known == nullptr ? nullptr : known->find(source);
      if (secret == nullptr) return "there is no secret \"" + source + "\" below secrets";
      const auto file = text_of(*secret, "file");
      const auto variable = text_of(*secret, "environment");
      if (file.empty() && variable.empty())
        return "the secret \"" + source + "\" has neither a file nor a variable of the environment";
      const std::string id = target.empty() ? source : target;
      const std::string from = file.empty() ? "env=" + variable : "src=" + file;
      if (auto text = add_secrets({csv("id=" + id) + "," + csv(from)}, env_, build); !text.empty())
        return text;
    }
    return {};
  }

  std::string honour_ssh(const YamlNode& value, Build& build) const {
    std::vector<std::string> list = texts(&value);
    for (const auto& [key, one] : value.members)
      list.push_back(one.is_null() ? key : key + "=" + scalar_text(one));
    for (auto& text : list)
      if (const auto equals = text.find('=');
          equals != std::string::npos && equals + 1 < text.size())
        text = text.substr(0, equals + 1) + absolute(text.substr(equals + 1), dir_);
    return add_ssh_keys(list, env_, build);
  }

  std::string honour_contexts(const YamlNode& value, Build& build) {
    std::vector<std::string> list;
    for (const auto& [key, one] : value.members) {
      std::string text = scalar_text(one);
      if (text.starts_with(kServiceContext)) {
        const auto other = text.substr(kServiceContext.size());
        text = "docker-image://" + image_of(other, *service(other));
        needs_own_ = true;
      }
      list.push_back(key + "=" + text);
    }
    return add_named_contexts(list, build);
  }

  // ---- config ----------------------------------------------------------------------------------

  static std::string lines(const std::vector<std::string>& list) {
    std::string text;
    for (const auto& one : list)
      text += one + "\n";
    return text;
  }

  /// What is shown can be read again.
  static void escape_dollars(YamlNode& node) {
    for (auto at = node.text.find('$'); at != std::string::npos; at = node.text.find('$', at + 2))
      node.text.insert(at, 1, '$');
    for (auto& one : node.items)
      escape_dollars(one);
    for (auto& member : node.members)
      escape_dollars(member.value);
  }

  static Json as_json(const YamlNode& node) {
    switch (node.kind) {
    case Kind::null:
      return nullptr;
    case Kind::text: {
      const auto text = scalar_text(node);
      if (!node.plain) return text;
      const Json value = Json::parse(text, nullptr, false);
      return value.is_boolean() || value.is_number() ? value : Json(text);
    }
    case Kind::list: {
      Json list = Json::array();
      for (const auto& one : node.items)
        list.push_back(as_json(one));
      return list;
    }
    case Kind::map: {
      Json map = Json::object();
      for (const auto& [key, value] : node.members)
        map[key] = as_json(value);
      return map;
    }
    }
    return nullptr;
  }

  std::vector<std::string> keys_of(const char* section) const {
    std::vector<std::string> list;
    if (const auto* found = model_.find(section))
      for (const auto& member : found->members)
        list.push_back(member.key);
    return list;
  }

  std::string config(const ComposeProject& made) const {
    std::vector<std::string> names;
    std::vector<std::string> images;
    for (const auto& one : made.services) {
      names.push_back(one.name);
      images.push_back(one.image);
    }
    switch (compose_.show) {
    case Compose::Show::nothing:
      return "";
    case Compose::Show::services:
      return lines(names);
    case Compose::Show::images:
      return lines(images);
    case Compose::Show::volumes:
      return lines(keys_of("volumes"));
    case Compose::Show::profiles: {
      std::set<std::string> all;
      for (const auto& member : model_.find("services")->members)
        for (const auto& one : texts(member.value.find("profiles")))
          all.insert(one);
      return lines({all.begin(), all.end()});
    }
    case Compose::Show::model:
    case Compose::Show::json:
      break;
    }
    YamlNode shown = model_.beside(Kind::map);
    shown.at("name") = model_.beside(Kind::text);
    shown.at("name").text = name_;
    for (const auto& [key, value] : model_.members)
      if (key != "version" && key != "name") shown.at(key) = value;
    escape_dollars(shown);
    auto& services = shown.at("services");
    std::erase_if(services.members, [&](const YamlMember& one) {
      return std::find(names.begin(), names.end(), one.key) == names.end();
    });
    if (compose_.show == Compose::Show::model) return yaml_text(shown);
    return as_json(shown).dump(2, ' ', false, Json::error_handler_t::replace) + "\n";
  }

  const Compose& compose_;
  std::string cwd_;
  const ReadText& read_;
  Environment env_;
  bool explicit_env_ = false;
  std::string env_dir_; ///< whose .env was read first
  std::string dir_;
  std::string name_;
  YamlNode model_;
  std::set<std::string> profiles_;
  std::set<std::string> unset_;
  std::map<std::string, std::vector<YamlNode>> parsed_;
  std::size_t copied_ = 0;
  bool needs_own_ = false; ///< the build that is read takes another service's image
};

} // namespace

Result<ComposeProject> load_compose(const Compose& compose, const std::string& cwd,
                                    const ReadText& read) {
  return Loader{compose, cwd, read}.load();
}

} // namespace slipway::shim
