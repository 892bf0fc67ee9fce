// SPDX-License-Identifier: Apache-2.0
#include "executor/router/requirements.hpp"

#include "executor/dockerfile/lex.hpp"
#include "executor/oci/platform.hpp"
#include "executor/oci/reference.hpp"

#include <algorithm>
#include <array>
#include <filesystem>
#include <initializer_list>
#include <map>
#include <optional>
#include <set>
#include <string_view>
#include <utility>

namespace slipway::router {
namespace {

using dockerfile::Flag;
using dockerfile::Instruction;

/// Text of an untrusted file in a message: short, one line.
std::string shown(std::string_view text) {
  std::string result;
  for (const char c : text.substr(0, 60))
    result += (static_cast<unsigned char>(c) < 0x20 || c == 0x7f) ? '?' : c;
  return text.size() > 60 ? result + "…" : result;
}

bool is_one_of(std::string_view word, std::initializer_list<std::string_view> words) {
  return std::find(words.begin(), words.end(), word) != words.end();
}

/// A flag that is a switch; a variable in it may be true.
bool is_on(const Flag* flag) {
  return flag != nullptr &&
         !(flag->has_value && is_one_of(flag->value, {"false", "0", "f", "F", "FALSE", "False"}));
}

bool is_number(std::string_view text) {
  return !text.empty() && text.find_first_not_of("01234567") == std::string_view::npos;
}

/// "…$NAME" or "…${NAME}": how the word ends is not known.
bool ends_in_variable(std::string_view word) {
  const auto dollar = word.rfind('$');
  if (dollar == std::string_view::npos) return false;
  const auto rest = word.substr(dollar + 1);
  return word.ends_with('}') ||
         rest.find_first_not_of(
             "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_") ==
             std::string_view::npos;
}

/// What BuildKit clones. Source: BuildKit, util/gitutil. An address whose end is in a variable may
/// be one.
bool may_be_git(std::string_view source) {
  if (source.starts_with("git@") || source.starts_with("git://") || source.starts_with("ssh://") ||
      source.starts_with("github.com/") || source.starts_with('$'))
    return true;
  if (!source.starts_with("http://") && !source.starts_with("https://")) return false;
  const auto address = source.substr(0, source.find_first_of("#?"));
  return address.ends_with(".git") || ends_in_variable(address);
}

/// By its name, as those of archives are.
bool may_be_archive(std::string_view source) {
  for (const std::string_view part : {"*", "?", "[", "$"})
    if (source.find(part) != std::string_view::npos) return true;
  if (source.find(".tar.") != std::string_view::npos) return true;
  for (const std::string_view end : {".tar", ".tgz", ".tbz", ".tbz2", ".txz", ".tzst"})
    if (source.ends_with(end)) return true;
  return false;
}

/// "USER 1000" has group 0 where no such user is known.
bool may_have_group(std::string_view user) {
  return user.find_first_of(":$") != std::string_view::npos ||
         (user != "0" && !user.empty() &&
          user.find_first_not_of("0123456789") == std::string_view::npos);
}

bool is_root(std::string_view user) {
  return is_one_of(user, {"", "root", "0", "root:root", "0:0", "root:0", "0:root"});
}

bool is_digit(char c) {
  return c >= '0' && c <= '9';
}

/// "8000-8002", anywhere in it.
bool has_range(std::string_view text) {
  for (std::size_t dash = text.find('-'); dash != std::string_view::npos;
       dash = text.find('-', dash + 1))
    if (dash > 0 && dash + 1 < text.size() && is_digit(text[dash - 1]) && is_digit(text[dash + 1]))
      return true;
  return false;
}

/// "8000-8002" or "8000-8002/udp", and nothing else: a date or a version is none.
bool is_range(std::string_view text) {
  text = text.substr(0, text.find('/'));
  const auto dash = text.find('-');
  if (dash == std::string_view::npos) return false;
  const auto is_port = [](std::string_view part) {
    return !part.empty() && part.size() <= 5 && std::all_of(part.begin(), part.end(), is_digit);
  };
  return is_port(text.substr(0, dash)) && is_port(text.substr(dash + 1));
}

/// "80/TCP"; one that is in a variable may be.
bool has_capital_protocol(std::string_view port) {
  const auto slash = port.rfind('/');
  return slash != std::string_view::npos &&
         port.substr(slash).find_first_of("ABCDEFGHIJKLMNOPQRSTUVWXYZ$") != std::string_view::npos;
}

/// Has it a '-' that is not of a variable's "${NAME:-VALUE}"?
bool has_dash_outside(std::string_view word) {
  int depth = 0;
  for (std::size_t i = 0; i < word.size(); ++i) {
    if (word.substr(i).starts_with("${")) ++depth;
    if (word[i] == '}' && depth > 0) --depth;
    if (word[i] == '-' && depth == 0) return true;
  }
  return false;
}

/// That of a folder which nobody gave a mode: 0755.
bool is_folders_mode(std::string_view mode) {
  return mode.substr(std::min(mode.find_first_not_of('0'), mode.size())) == "755";
}

/// As Context::sources has it; "" where the word is a pattern, a variable or a heredoc.
std::string literal_source(std::string_view word) {
  if (word.empty() || word.find_first_of("$*?[\\\"'") != std::string_view::npos ||
      word.starts_with("<<"))
    return "";
  auto path = ("/" / std::filesystem::path{word}.relative_path()).lexically_normal().string();
  while (path.ends_with('/'))
    path.pop_back();
  return path.empty() ? "." : path.substr(1);
}

/// A name without an extension may be that of a folder, as a pattern or a variable may.
bool may_be_folder(std::string_view source) {
  if (source.find_first_of("$*?[") != std::string_view::npos) return true;
  const auto name = source.substr(source.rfind('/') + 1); // all of it, where there is none
  return name.find('.', 1) == std::string_view::npos || name == "..";
}

/// Above 0777.
bool has_special_bit(std::string_view mode) {
  return is_number(mode) &&
         mode.substr(std::min(mode.find_first_not_of('0'), mode.size())).size() > 3;
}

bool is_remote(std::string_view source) {
  return source.starts_with("http://") || source.starts_with("https://") || may_be_git(source);
}

/// No stage's name has an '@'.
bool is_by_digest(std::string_view image) {
  return image.find('@') != std::string_view::npos;
}

/// "${V-a}", "${V#p}", "${V/p/r}" and the like; every version of every tool knows ":-" and ":+".
bool has_modifier(std::string_view text) {
  for (std::size_t at = text.find("${"); at != std::string_view::npos;
       at = text.find("${", at + 2)) {
    auto rest = text.substr(at + 2);
    const auto name =
        rest.find_first_not_of("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_");
    rest.remove_prefix(std::min(name, rest.size()));
    if (!rest.starts_with('}') && !rest.starts_with(":-") && !rest.starts_with(":+")) return true;
  }
  return false;
}

/// What of an instruction has its variables, quotes and escapes replaced.
std::string expanded_of(const Instruction& instruction) {
  std::string text;
  if (is_one_of(instruction.name, {"ADD", "ARG", "COPY", "ENV", "EXPOSE", "LABEL", "STOPSIGNAL",
                                   "USER", "VOLUME", "WORKDIR"}))
    text = instruction.text;
  for (const Flag& flag : instruction.flags)
    text += " " + flag.value;
  for (const auto& heredoc : instruction.heredocs)
    if (instruction.name != "RUN" && heredoc.expand) text += " " + heredoc.content;
  return text;
}

struct Place {
  std::string where;
  int line = 0;
};

/// What stages hand on to those built on them.
struct Inherited {
  std::optional<Place> volume;
  std::optional<std::pair<Place, std::string>> group; ///< the USER, as written
  std::string user;
  bool has_shell = false;
  std::set<std::string> env;
  std::optional<std::pair<Place, std::string>> workdir; ///< with no step after it so far
  std::set<std::string> made{"/"};                      ///< folders that steps have made or found
};

std::string without_slash(std::string path) {
  while (path.size() > 1 && path.ends_with('/'))
    path.pop_back();
  return path;
}

class Collector {
public:
  Collector(const dockerfile::Dockerfile& file, const BaseConfigs& bases, const Context& context,
            const Flags& flags)
      : file_{file}, bases_{bases}, context_{context}, flags_{flags}, scope_{flags.scope} {
    for (const auto& [name, config] : bases)
      if (!config.on_build.empty()) scope_.triggers[name] = config.on_build;
  }

  Result<std::vector<Requirement>> run() {
    auto plan = dockerfile::plan_of(file_, scope_);
    if (!plan) return std::move(plan).error();
    if (!dockerfile::check_syntax(file_))
      need(Feature::frontend, at(file_.syntax->line), "# syntax=" + shown(file_.syntax->frontend));
    find_chain(*plan);
    if (Status looked = find_two_platforms(); !looked) return std::move(looked).error();
    for (const auto& [name, value] : flags_.scope.build_args)
      may_hold_range_ = may_hold_range_ || is_range(value);
    for (const Instruction& arg : file_.global_args) {
      take_words(arg, at(arg.line));
      if (Status taken = take_arg(arg, at(arg.line), nullptr); !taken)
        return std::move(taken).error();
    }
    std::vector<Inherited> stages(file_.stages.size());
    for (const auto& needed : plan->stages)
      if (Status taken = take_stage(needed, stages); !taken) return std::move(taken).error();
    take_flags();
    take_context(*plan);
    return std::move(found_);
  }

private:
  Place at(int line) const { return {file_.at(line), line}; }

  void need(Feature feature, const Place& place, std::string what) {
    if (seen_.insert(feature).second)
      found_.push_back({feature, place.where, place.line, std::move(what)});
  }

  /// The stages whose config the image will have.
  void find_chain(const dockerfile::Plan& plan) {
    target_ = plan.target;
    std::optional<std::size_t> stage = plan.target;
    for (auto needed = plan.stages.rbegin(); needed != plan.stages.rend(); ++needed) {
      if (needed->index != stage) continue;
      chain_.insert(needed->index);
      stage = needed->parent;
    }
  }

  /// An image that is taken for two platforms: one name stands for two images then.
  Status find_two_platforms() {
    auto images = dockerfile::external_images(file_, scope_);
    if (!images) return std::move(images).error();
    std::map<std::string, std::string> known;
    for (const auto& image : *images) {
      const auto reference = oci::Reference::parse(image.reference);
      if (!reference) continue; // who pulls it refuses it
      const std::string platform = dockerfile::platform_of(image, scope_);
      const auto [first, is_new] = known.emplace(reference->familiar(), platform);
      if (!is_new && first->second != platform)
        need(Feature::base_platforms, at(image.line),
             image.used_by + " " + shown(image.reference) + " for " + shown(first->second) +
                 " and for " + shown(platform));
    }
    return {};
  }

  Status take_stage(const dockerfile::NeededStage& needed, std::vector<Inherited>& stages) {
    const auto& stage = file_.stages[needed.index];
    Inherited& now = stages[needed.index];
    in_chain_ = chain_.contains(needed.index);
    in_target_ = needed.index == target_;
    stage_args_.clear();
    if (!stage.platform.empty())
      need(Feature::from_platform, at(stage.line), "FROM --platform=" + shown(stage.platform));
    if (names_platform_arg(stage.platform))
      need(Feature::from_platform_args, at(stage.line), "FROM --platform=" + shown(stage.platform));
    if (has_modifier(stage.base) || has_modifier(stage.platform))
      need(Feature::variable_modifiers, at(stage.line), "FROM " + shown(stage.base));
    if (names_platform_arg(stage.base))
      need(Feature::platform_args, at(stage.line), "FROM " + shown(stage.base));
    if (!stage.name.empty() && !names_.insert(stage.name).second)
      need(Feature::stage_name_twice, at(stage.line), "FROM … AS " + shown(stage.name));
    if (needed.parent) {
      now = stages[*needed.parent];
    } else if (const auto base = bases_.find(needed.base); base != bases_.end()) {
      if (Status taken = take_base(needed.base, base->second, stage.line, now); !taken)
        return taken;
    }
    for (const auto& [instruction, line] : dockerfile::steps_of(file_, needed))
      if (Status taken = take(*instruction, at(line), now); !taken) return taken;
    if (now.workdir && in_target_)
      need(Feature::workdir_last, now.workdir->first, "WORKDIR " + shown(now.workdir->second));
    for (const std::string& name : stage_args_)
      if (!args_.insert(name).second)
        need(Feature::arg_in_stages, at(stage.line), "ARG " + shown(name));
    return {};
  }

  Status take_base(const std::string& name, const oci::ImageConfig& config, int line,
                   Inherited& now) {
    const Place place{"base image " + shown(name) + " (" + file_.at(line) + ")", line};
    for (const std::string& variable : config.env)
      now.env.insert(variable.substr(0, variable.find('=')));
    if (!config.volumes.empty()) now.volume = place;
    if (may_have_group(config.user)) now.group = {place, config.user};
    now.user = config.user;
    for (const std::string& variable : config.env)
      may_hold_range_ = may_hold_range_ || is_range(variable.substr(variable.find('=') + 1));
    if (!config.shell.empty()) {
      now.has_shell = true;
      need(Feature::shell, place, "its SHELL");
    }
    if (config.has_healthcheck && in_chain_) need(Feature::healthcheck, place, "its HEALTHCHECK");
    for (const std::string& text : config.on_build) {
      auto trigger = dockerfile::parse_trigger(text);
      if (!trigger) return std::move(trigger).error().in(place.where);
      take_trigger(*trigger, place);
      if (Status taken = take(*trigger, place, now); !taken) return taken;
    }
    return {};
  }

  void take_trigger(const Instruction& trigger, const Place& place) {
    if (const Flag* from = trigger.flag("from"))
      need(Feature::onbuild_from, place,
           "ONBUILD " + trigger.name + " --from=" + shown(from->value));
  }

  void take_words(const Instruction& instruction, const Place& place) {
    const std::string text = expanded_of(instruction);
    if (file_.escape != '\\' && text.find_first_of("\\`") != std::string::npos)
      need(Feature::escape_directive, place, instruction.name + " " + shown(instruction.text));
    if (instruction.goes_on_after_json)
      need(Feature::text_after_json, place, instruction.name + " " + shown(instruction.text));
    if (has_modifier(text))
      need(Feature::variable_modifiers, place, instruction.name + " " + shown(instruction.text));
  }

  Status take(const Instruction& instruction, const Place& place, Inherited& now) {
    const std::string& name = instruction.name;
    take_words(instruction, place);
    if (name == "RUN") take_run(instruction, place, now);
    if (name == "COPY" || name == "ADD") take_copy(instruction, place, now);
    if (name == "RUN" || name == "COPY" || name == "ADD") {
      if (now.workdir) now.made.insert(without_slash(now.workdir->second));
      if (name != "RUN" && !instruction.words.empty())
        now.made.insert(without_slash(instruction.words.back()));
      now.workdir.reset();
    }
    if (name == "WORKDIR") {
      now.workdir = {place, instruction.text};
      if (now.made.contains(without_slash(instruction.text)))
        now.workdir.reset();
      else if (!is_root(now.user))
        need(Feature::workdir_of_user, place,
             "WORKDIR " + shown(instruction.text) + " after USER " + shown(now.user));
    }
    if (name == "EXPOSE" && in_chain_) take_expose(instruction, place);
    if (name == "ARG") return take_arg(instruction, place, &now);
    if (name == "ENV") take_env(instruction, now);
    if (name == "LABEL") take_label(instruction, place);
    if (name == "SHELL") {
      now.has_shell = true;
      need(Feature::shell, place, "SHELL");
    }
    if ((name == "CMD" || name == "ENTRYPOINT") && in_chain_ && now.has_shell &&
        !instruction.json && !instruction.text.empty())
      need(Feature::shell_form_command, place, name + " " + shown(instruction.text));
    if (name == "HEALTHCHECK" && in_chain_) {
      need(Feature::healthcheck, place, "HEALTHCHECK");
      if (instruction.flag("start-interval") != nullptr)
        need(Feature::healthcheck_start_interval, place, "HEALTHCHECK --start-interval");
    }
    if (name == "ONBUILD" && in_target_) need(Feature::onbuild, place, "ONBUILD");
    for (const Instruction& trigger : instruction.trigger)
      take_trigger(trigger, place);
    if (name == "USER") {
      now.user = instruction.text;
      now.group = may_have_group(instruction.text)
                      ? std::optional{std::pair{place, instruction.text}}
                      : std::nullopt;
    }
    if (name == "VOLUME") {
      need(Feature::volume, place, "VOLUME " + shown(instruction.text));
      if (!now.volume) now.volume = place;
    }
    return {};
  }

  void take_run(const Instruction& run, const Place& place, const Inherited& now) {
    for (const Flag& flag : run.flags) {
      const std::string what = "RUN --" + flag.name + "=" + shown(flag.value);
      if (flag.name == "mount") take_mount(flag, place);
      if (flag.name == "network" && flag.value == "host")
        need(Feature::run_network_host, place, what);
      if (flag.name == "network" && !is_one_of(flag.value, {"default", "host", ""}))
        need(Feature::run_network_none, place, what);
      if (flag.name == "security" && !is_one_of(flag.value, {"sandbox", ""}))
        need(Feature::run_security_insecure, place, what);
      if (flag.name == "device") need(Feature::run_device, place, what);
    }
    for (const auto& heredoc : run.heredocs) {
      const bool is_script = run.text.starts_with("<<");
      need(is_script ? Feature::run_heredoc : Feature::run_heredoc_stdin, place,
           "RUN " + shown(run.text));
      if (!heredoc.expand) need(Feature::run_heredoc_quoted, place, "RUN " + shown(run.text));
    }
    if (now.group) need(Feature::user_group, now.group->first, "USER " + shown(now.group->second));
    if (now.volume) need(Feature::volume_changes, place, "RUN after VOLUME");
  }

  void take_mount(const Flag& flag, const Place& place) {
    const std::string what = "RUN --mount=" + shown(flag.value);
    const auto fields = dockerfile::mount_fields(flag.value);
    const auto value = [&](std::string_view key) -> std::optional<std::string> {
      for (const auto& [name, text] : fields)
        if (name == key) return text;
      return std::nullopt;
    };
    const std::string type = value("type").value_or("bind");
    const std::string source = value("from").value_or("");
    const bool has_from = !source.empty();
    if (is_by_digest(source)) need(Feature::copy_from_digest, place, what);
    if (type == "bind") {
      need(has_from ? Feature::run_mount_bind_from : Feature::run_mount_bind, place, what);
    } else if (type == "cache") {
      need(Feature::run_mount_cache, place, what);
      if (!is_one_of(value("sharing").value_or("shared"), {"shared", "locked"}))
        need(Feature::run_mount_cache_private, place, what);
      if (has_from) need(Feature::run_mount_cache_from, place, what);
    } else if (type == "secret") {
      need(Feature::run_mount_secret, place, what);
      if (value("env")) need(Feature::run_mount_secret_env, place, what);
    } else if (type == "ssh") {
      need(Feature::run_mount_ssh, place, what);
    } else if (type == "tmpfs") {
      need(Feature::run_mount_tmpfs, place, what);
      if (value("size")) need(Feature::run_mount_tmpfs_size, place, what);
    } else {
      need(Feature::run_mount_unknown, place, what);
    }
    for (const auto& [key, text] : fields)
      if (!is_one_of(key, {"type", "from", "source", "src", "target", "dst", "destination", "ro",
                           "readonly", "rw", "readwrite", "id", "sharing", "required", "size",
                           "mode", "uid", "gid", "env"}))
        need(Feature::run_mount_unknown, place, what);
  }

  void take_copy(const Instruction& copy, const Place& place, const Inherited& now) {
    const auto flag = [&](const char* name, Feature feature) {
      need(feature, place, copy.name + " --" + name);
    };
    const Flag* from = copy.flag("from");
    if (from != nullptr && is_by_digest(from->value))
      need(Feature::copy_from_digest, place, "COPY --from=" + shown(from->value));
    if (is_on(copy.flag("link"))) flag("link", Feature::copy_link);
    if (is_on(copy.flag("parents"))) flag("parents", Feature::copy_parents);
    if (copy.flag("exclude") != nullptr) flag("exclude", Feature::copy_exclude);
    if (copy.flag("checksum") != nullptr) flag("checksum", Feature::add_checksum);
    if (is_on(copy.flag("keep-git-dir"))) flag("keep-git-dir", Feature::add_keep_git_dir);
    if (copy.flag("unpack") != nullptr) flag("unpack", Feature::add_unpack);
    if (const Flag* mode = copy.flag("chmod"))
      need(is_number(mode->value) ? Feature::copy_chmod : Feature::copy_chmod_symbolic, place,
           copy.name + " --chmod=" + shown(mode->value));
    if (const Flag* mode = copy.flag("chmod"); mode != nullptr && has_special_bit(mode->value))
      need(Feature::copy_chmod_special, place, copy.name + " --chmod=" + shown(mode->value));
    for (const auto& heredoc : copy.heredocs) {
      need(Feature::copy_heredoc, place, copy.name + " " + shown(copy.text));
      if (heredoc.expand && heredoc.content.find('$') != std::string::npos)
        need(Feature::copy_heredoc_expanded, place, copy.name + " " + shown(copy.text));
    }
    if (const Flag* mode = copy.flag("chmod");
        mode != nullptr && is_number(mode->value) && !is_folders_mode(mode->value))
      need(Feature::copy_chmod_folder, place, copy.name + " --chmod=" + shown(mode->value));
    bool from_context = false;
    for (std::size_t i = 0; i + 1 < copy.words.size(); ++i) {
      const std::string& source = copy.words[i];
      if (copy.name == "ADD" && may_be_git(source))
        need(Feature::add_git, place, "ADD " + shown(source));
      else if (copy.name == "ADD" && is_remote(source))
        need(Feature::add_url, place, "ADD " + shown(source));
      if (copy.name == "ADD" && !is_remote(source) && may_be_archive(source))
        need(Feature::add_archive, place, "ADD " + shown(source));
      take_kind(copy, source, place);
      from_context =
          from_context || (!source.starts_with("<<") && !(copy.name == "ADD" && is_remote(source)));
    }
    if (from_context && from == nullptr && copy.flag("chown") == nullptr)
      need(Feature::copy_owner, place, copy.name + " " + shown(copy.text));
    if (from != nullptr && context_.ignore_file)
      need(Feature::scoped_ignore_file, place, "COPY --from=" + shown(from->value));
    if (now.volume) need(Feature::volume_changes, place, copy.name + " after VOLUME");
  }

  void take_kind(const Instruction& copy, const std::string& source, const Place& place) {
    if (source.starts_with("<<") || (copy.name == "ADD" && is_remote(source))) return;
    const std::string what = copy.name + " " + shown(source);
    const auto known = copy.flag("from") == nullptr ? context_.sources.find(literal_source(source))
                                                    : context_.sources.end();
    if (known == context_.sources.end()) {
      // Nobody looked at it, as at what a stage holds: any name may be a link's.
      if (may_be_folder(source)) need(Feature::copy_folder, place, what);
      need(Feature::copy_of_link, place, what);
    } else if (known->second == SourceKind::folder) {
      need(Feature::copy_folder, place, what);
    } else if (known->second == SourceKind::link) {
      need(Feature::copy_of_link, place, what);
    }
  }

  void take_expose(const Instruction& expose, const Place& place) {
    for (const std::string& word : expose.words)
      if (has_dash_outside(word) || has_range(word) ||
          (may_hold_range_ && word.find('$') != std::string::npos))
        need(Feature::expose_range, place, "EXPOSE " + shown(word));
    for (const std::string& word : expose.words)
      if (has_capital_protocol(word))
        need(Feature::expose_protocol, place, "EXPOSE " + shown(word));
  }

  void take_label(const Instruction& label, const Place& place) {
    if (label.text.find('$') != std::string::npos)
      need(Feature::label_variables, place, "LABEL " + shown(label.text));
    for (const std::string& key : flags_.labels)
      if (label.text.find(key) != std::string::npos)
        need(Feature::label_twice, place, "LABEL " + shown(key));
  }

  Status take_arg(const Instruction& arg, const Place& place, Inherited* now) {
    auto declared = dockerfile::arg_declarations(file_, arg);
    if (!declared) return std::move(declared).error();
    for (const auto& [name, value] : *declared) {
      if (dockerfile::is_platform_arg(name))
        need(Feature::platform_args, place, "ARG " + shown(name));
      if (value && value->find('=') != std::string::npos)
        need(Feature::arg_with_equals, place, "ARG " + shown(name));
      may_hold_range_ = may_hold_range_ || (value && is_range(*value));
      if (now == nullptr) continue;
      stage_args_.insert(name);
      if (now->env.contains(name)) need(Feature::arg_after_env, place, "ARG " + shown(name));
    }
    return {};
  }

  void take_env(const Instruction& env, Inherited& now) {
    const auto plain = [&](const std::string& word) {
      const auto lexed = dockerfile::lex(word, {}, {.escape = file_.escape, .skip_unset = true});
      return lexed ? lexed->text : word;
    };
    for (const auto& [name, value] : dockerfile::key_values(env.text, file_.escape)) {
      may_hold_range_ = may_hold_range_ || is_range(plain(value));
      now.env.insert(plain(name));
    }
  }

  static bool names_platform_arg(std::string_view text) {
    for (std::size_t at = text.find('$'); at != std::string_view::npos;
         at = text.find('$', at + 1)) {
      auto name = text.substr(at + 1);
      if (name.starts_with('{')) name.remove_prefix(1);
      name = name.substr(0, name.find_first_not_of("ABCDEFGHIJKLMNOPQRSTUVWXYZ_"));
      if (dockerfile::is_platform_arg(name)) return true;
    }
    return false;
  }

  void take_flags() {
    const auto flag = [&](Feature feature, const char* name, const std::string& value) {
      need(feature, {name, 0}, std::string{name} + " " + shown(value));
    };
    for (const auto& [name, value] : flags_.scope.build_args)
      if (value.find('=') != std::string::npos)
        need(Feature::arg_with_equals, {"--build-arg", 0}, "--build-arg " + shown(name));
    for (const auto& [name, value] : flags_.scope.build_args)
      if (name.starts_with("BUILDKIT_") && !dockerfile::is_inline_cache(file_, name))
        need(Feature::buildkit_args, {"--build-arg", 0}, "--build-arg " + shown(name));
    if (flags_.platforms.size() == 1) {
      const auto wanted = oci::parse_platform(flags_.platforms[0]);
      if (wanted && wanted->str() != oci::host_platform().str())
        flag(Feature::other_platform, "--platform", flags_.platforms[0]);
    }
    if (flags_.platforms.size() > 1)
      flag(Feature::multi_platform, "--platform", flags_.platforms[0] + "," + flags_.platforms[1]);
    if (!flags_.secrets.empty()) flag(Feature::build_secrets, "--secret", flags_.secrets.front());
    if (!flags_.ssh.empty()) flag(Feature::build_ssh, "--ssh", flags_.ssh.front());
    if (flags_.network == "none") flag(Feature::network_none, "--network", flags_.network);
    if (!is_one_of(flags_.network, {"", "default", "none"}))
      flag(Feature::network_host, "--network", flags_.network);
    if (!flags_.named_contexts.empty())
      flag(Feature::named_contexts, "--build-context", flags_.named_contexts.front());
    for (const std::string& cache : flags_.caches)
      if (cache.find("type=") != std::string::npos)
        flag(Feature::cache_backends, "--cache-from/--cache-to", cache);
    if (!flags_.extra_hosts.empty())
      flag(Feature::extra_hosts, "--add-host", flags_.extra_hosts.front());
    if (flags_.squash) need(Feature::squash, {"--squash", 0}, "--squash");
    if (flags_.squash_base) need(Feature::squash_base, {"--squash-all", 0}, "--squash-all");
  }

  void take_context(const dockerfile::Plan& plan) {
    if (context_.dockerfile_ignore_file)
      need(Feature::dockerfile_ignore_file, {file_.file + ".dockerignore", 0},
           file_.file + ".dockerignore");
    if (context_.ignore_file &&
        (context_.dockerfile_outside || !dockerfile::builds_as_written(file_, plan)))
      need(Feature::dockerfile_beside, {".dockerignore", 0},
           ".dockerignore beside " + file_.file +
               (context_.dockerfile_outside ? ", which is not in the context"
                                            : ", of which the target leaves out stages"));
    if (context_.container_ignore_file)
      need(Feature::container_ignore_file, {".containerignore", 0}, ".containerignore");
  }

  const dockerfile::Dockerfile& file_;
  const BaseConfigs& bases_;
  const Context& context_;
  const Flags& flags_;
  dockerfile::Scope scope_; ///< that of the flags, and what the bases' configs say
  std::vector<Requirement> found_;
  std::set<Feature> seen_;
  std::set<std::size_t> chain_;
  std::size_t target_ = 0;
  bool in_chain_ = false;
  bool in_target_ = false;
  bool may_hold_range_ = false;      ///< some variable that was met so far
  std::set<std::string> stage_args_; ///< of the stage at hand
  std::set<std::string> args_;       ///< of the stages before
  std::set<std::string> names_;      ///< of the stages so far
};

} // namespace

SourceKind kind_of(const std::filesystem::file_status& status) {
  if (std::filesystem::is_symlink(status)) return SourceKind::link;
  return std::filesystem::is_directory(status) ? SourceKind::folder : SourceKind::file;
}

std::vector<std::string> literal_sources(const dockerfile::Dockerfile& dockerfile) {
  constexpr std::size_t kMost = 200;
  std::set<std::string> found;
  for (const auto& stage : dockerfile.stages) {
    for (const Instruction& copy : stage.instructions) {
      if ((copy.name != "COPY" && copy.name != "ADD") || copy.flag("from") != nullptr) continue;
      for (std::size_t i = 0; i + 1 < copy.words.size() && found.size() < kMost; ++i) {
        const std::string& source = copy.words[i];
        if (copy.name == "ADD" && is_remote(source)) continue;
        if (auto path = literal_source(source); !path.empty()) found.insert(std::move(path));
      }
    }
  }
  return {found.begin(), found.end()};
}

Result<std::vector<Requirement>> requirements(const dockerfile::Dockerfile& dockerfile,
                                              const BaseConfigs& bases, const Context& context,
                                              const Flags& flags) {
  return Collector{dockerfile, bases, context, flags}.run();
}

Result<std::vector<Requirement>> requirements_of_all(const dockerfile::Dockerfile& dockerfile,
                                                     const std::vector<BaseConfigs>& bases,
                                                     const Context& context, const Flags& flags) {
  std::vector<Requirement> needs;
  const std::size_t builds = std::max<std::size_t>(flags.platforms.size(), 1);
  for (std::size_t i = 0; i < builds; ++i) {
    Flags one = flags;
    if (!flags.platforms.empty()) one.scope.target_platform = flags.platforms[i];
    auto more = requirements(dockerfile, i < bases.size() ? bases[i] : BaseConfigs{}, context, one);
    if (!more) return std::move(more).error();
    for (auto& need : *more)
      if (std::none_of(needs.begin(), needs.end(),
                       [&](const Requirement& known) { return known.feature == need.feature; }))
        needs.push_back(std::move(need));
  }
  return needs;
}

} // namespace slipway::router
