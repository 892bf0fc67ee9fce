// SPDX-License-Identifier: Apache-2.0
#include "executor/backends/kaniko/command.hpp"

#include "executor/oci/reference.hpp"

#include <algorithm>
#include <charconv>
#include <optional>
#include <set>
#include <utility>

namespace slipway::backends::kaniko {

namespace {

constexpr const char* kOwnName = "slipway.invalid/base@";

Error bad(std::string what, std::string hint = "") {
  return Error{ErrorKind::bad_input, std::move(what), std::move(hint), {}};
}

bool holds(const std::string& text, char c) {
  return text.find(c) != std::string::npos;
}

std::string lower(std::string text) {
  for (char& c : text)
    if (c >= 'A' && c <= 'Z') c = static_cast<char>(c - 'A' + 'a');
  return text;
}

std::optional<std::size_t> number_in(const std::string& text) {
  std::size_t number = 0;
  const auto read = std::from_chars(text.data(), text.data() + text.size(), number);
  if (text.empty() || read.ec != std::errc{} || read.ptr != text.data() + text.size())
    return std::nullopt;
  return number;
}

/// With their ends.
std::vector<std::string> lines_of(std::string_view text) {
  std::vector<std::string> lines;
  while (!text.empty()) {
    const std::size_t end = std::min(text.find('\n'), text.size() - 1);
    lines.emplace_back(text.substr(0, end + 1));
    text.remove_prefix(end + 1);
  }
  return lines;
}

/// Makes the text that Kaniko gets; see dockerfile_for.
class Rewriting {
public:
  Rewriting(const BuildJob& job, const dockerfile::Dockerfile& file) : job_{job}, file_{file} {
    scope_.build_args = job.build_args;
    scope_.target = job.target;
    scope_.target_platform = job.platform;
  }

  Result<std::string> of(const std::string& text,
                         const std::map<std::string, std::vector<std::string>>& triggers) {
    auto plan = dockerfile::plan_of(file_, scope_);
    if (!plan) return std::move(plan).error();
    std::map<std::size_t, std::string> named;
    std::set<std::string> names;
    for (const auto& stage : plan->stages) {
      needed_.insert(stage.index);
      const auto& parsed = file_.stages[stage.index];
      if (!parsed.name.empty() && !names.insert(parsed.name).second)
        return bad(file_.at(parsed.line) + ": Kaniko would take another stage for " + parsed.name,
                   "give each stage a name of its own");
      if (stage.parent || stage.base == "scratch") continue;
      auto own = own_name(stage.base, parsed.line);
      if (!own) return std::move(own).error();
      if (Status suits = check_triggers(stage.base, parsed.line, triggers); !suits)
        return std::move(suits).error();
      named[stage.index] = *std::move(own);
    }
    lines_ = lines_of(dockerfile::with_bases(text, file_, named));
    if (!lines_.empty() && lines_.back().back() != '\n') lines_.back() += '\n';
    for (const auto& stage : plan->stages)
      for (const auto& instruction : file_.stages[stage.index].instructions)
        if (Status read = read_sources(instruction, stage.index); !read)
          return std::move(read).error();
    if (Status changed = change_sources(); !changed) return std::move(changed).error();
    for (std::size_t at = 0; at < file_.stages.size(); ++at)
      if (!needed_.contains(at)) empty(at, at < plan->target);
    // No FROM of a variable without a value is left, and no instruction moves to another line of
    // the author's: messages name lines of his file, never of this one.
    std::string made;
    for (std::size_t at = 0; at < lines_.size(); ++at) {
      if (at + 1 == static_cast<std::size_t>(file_.stages.front().line))
        for (std::size_t image = 0; image < images_.size(); ++image)
          made += "FROM " + images_[image] + " AS slipway-image-" + std::to_string(image) + "\n";
      made += lines_[at];
    }
    return made;
  }

private:
  struct Source {
    const dockerfile::Instruction* instruction = nullptr;
    std::string from; ///< as written
    std::optional<std::size_t> stage;
    std::size_t image = 0; ///< in images_, where there is no stage
  };

  Result<std::string> own_name(const std::string& wanted, int line) const {
    const auto name = oci::Reference::parse(wanted);
    for (const BaseImage& base : job_.bases) {
      const auto known = oci::Reference::parse(base.familiar_name);
      if (name && known && *name == *known) return kOwnName + base.digest.str();
    }
    return bad(file_.at(line) + ": " + wanted +
               ": not among the base images that slipway fetched for this build");
  }

  Status check_triggers(const std::string& base, int line,
                        const std::map<std::string, std::vector<std::string>>& triggers) const {
    const auto name = oci::Reference::parse(base);
    const auto found = std::find_if(triggers.begin(), triggers.end(), [&](const auto& one) {
      const auto known = oci::Reference::parse(one.first);
      return name && known && *name == *known;
    });
    if (found == triggers.end()) return {};
    for (const std::string& trigger : found->second) {
      auto instruction = dockerfile::parse_trigger(trigger);
      if (!instruction) return std::move(instruction).error().in("reading ONBUILD of " + base);
      if (instruction->flag("from") == nullptr) continue;
      return bad(file_.at(line) + ": " + base + " has the trigger ONBUILD " + trigger +
                     ", whose source Kaniko would take from elsewhere",
                 "have it built by BuildKit");
    }
    return {};
  }

  Status read_sources(const dockerfile::Instruction& instruction, std::size_t stage) {
    const bool waits = instruction.name == "ONBUILD" && !instruction.trigger.empty();
    const auto& said = waits ? instruction.trigger.front() : instruction;
    const auto* from = said.flag("from");
    if (from == nullptr) return {};
    if (waits)
      return bad(file_.at(instruction.line) + ": ONBUILD " + said.name +
                     " --from: Kaniko would take its source from elsewhere",
                 "have it built by BuildKit");
    Source source{&instruction, from->value, std::nullopt, 0};
    const auto number = number_in(from->value);
    if (number && *number < stage) source.stage = number;
    for (std::size_t at = stage; at-- > 0 && !source.stage;)
      if (!file_.stages[at].name.empty() && file_.stages[at].name == lower(from->value))
        source.stage = at;
    if (!source.stage) {
      auto own = own_name(from->value, instruction.line);
      if (!own) return std::move(own).error();
      source.image = static_cast<std::size_t>(std::find(images_.begin(), images_.end(), *own) -
                                              images_.begin());
      if (source.image == images_.size()) images_.push_back(*std::move(own));
    }
    sources_.push_back(std::move(source));
    return {};
  }

  /// Every --from by number: those of images come first.
  Status change_sources() {
    for (const Source& source : sources_) {
      const std::string written = "--from=" + source.from;
      const std::string meant =
          "--from=" + std::to_string(source.stage ? *source.stage + images_.size() : source.image);
      bool changed = false;
      for (int line = source.instruction->line; line <= source.instruction->end_line && !changed;
           ++line) {
        std::string& text = lines_[static_cast<std::size_t>(line) - 1];
        const std::size_t at = text.find(written);
        if (at == std::string::npos) continue;
        text.replace(at, written.size(), meant);
        changed = true;
      }
      if (!changed)
        return bad(file_.at(source.instruction->line) + ": " + written + " cannot be read here",
                   "write it in one piece");
    }
    return {};
  }

  /// The lines of a stage that is not needed. Its number stays where a needed one follows.
  void empty(std::size_t stage, bool keeps_number) {
    const auto first = static_cast<std::size_t>(file_.stages[stage].line) - 1;
    const std::size_t end = stage + 1 < file_.stages.size()
                                ? static_cast<std::size_t>(file_.stages[stage + 1].line) - 1
                                : lines_.size();
    for (std::size_t at = first; at < end; ++at)
      lines_[at] = at == first && keeps_number ? "FROM scratch\n" : "\n";
  }

  const BuildJob& job_;
  const dockerfile::Dockerfile& file_;
  dockerfile::Scope scope_;
  std::set<std::size_t> needed_;
  std::vector<std::string> lines_;
  std::vector<std::string> images_; ///< that COPY takes from
  std::vector<Source> sources_;
};

} // namespace

Result<Program> parse_version(std::string_view said) {
  constexpr std::string_view kStart = "Kaniko version :";
  if (!said.starts_with(kStart))
    return Error{ErrorKind::misconfigured,
                 "the program set as executor does not say that it is Kaniko's",
                 "`packaging/tools/build kaniko` builds it; name it in [kaniko]",
                 {}};
  said.remove_prefix(kStart.size());
  said.remove_prefix(std::min(said.find_first_not_of(' '), said.size()));
  Program program{std::string{said.substr(0, said.find_first_of(" \n"))}};
  if (!program.version.starts_with("v1.24."))
    return Error{ErrorKind::misconfigured,
                 "Kaniko " + program.version + " is not one that slipway knows",
                 "`packaging/tools/build kaniko` builds 1.24.0; name it in [kaniko]",
                 {}};
  return program;
}

Status check(const BuildJob& job, const std::string& host_platform) {
  for (const auto& [name, value] : job.build_args) {
    if (name.empty() || holds(name, '=') || holds(name, '\0') || holds(value, '\0'))
      return bad("build argument '" + name + "' has an impossible name or value");
    if (name.starts_with("BUILDKIT_"))
      return bad("build argument " + name + " is BuildKit's, and this build is not made by it",
                 "remove --build-arg " + name);
  }
  for (const auto& [name, value] : job.labels)
    if (name.empty() || holds(name, '=') || holds(name, '\0') || holds(value, '\0'))
      return bad("label '" + name + "' has an impossible name or value");
  if (!job.extra_hosts.empty())
    return bad("--add-host " + job.extra_hosts.front().first + ": Kaniko cannot add names of hosts",
               "have it built by BuildKit");
  if (!job.network.empty() && job.network != "default")
    return Error{ErrorKind::denied,
                 "--network " + job.network + " is not possible in a build by Kaniko",
                 "leave it out, or have it built by BuildKit",
                 {}};
  if (!job.platform.empty() && job.platform != host_platform)
    return bad("platform '" + job.platform + "' cannot be built here: this backend builds " +
                   host_platform,
               "leave out --platform, or have it built by BuildKit");
  if (job.context_dir.empty() || job.context_dir[0] != '/' || holds(job.context_dir, '\0'))
    return bad("the build context has to be an absolute path");
  if (job.dockerfile_name.empty() || holds(job.dockerfile_name, '/') ||
      holds(job.dockerfile_name, '\0') || job.dockerfile_name == "." || job.dockerfile_name == "..")
    return bad("'" + job.dockerfile_name + "' cannot be a Dockerfile's name");
  return {};
}

Result<std::string>
dockerfile_for(const BuildJob& job, const dockerfile::Dockerfile& file, const std::string& text,
               const std::map<std::string, std::vector<std::string>>& triggers) {
  if (Status known = dockerfile::check_syntax(file); !known) return std::move(known).error();
  return Rewriting{job, file}.of(text, triggers);
}

std::vector<std::string> argv_for(const BuildJob& job, const Places& places) {
  std::vector<std::string> argv{
      places.executor(),
      // The context, from the build sandbox's tar.
      "--context=tar://stdin",
      "--dockerfile=" + places.dockerfile(),
      "--no-push",
      "--no-push-cache",
      "--skip-push-permission-check",
      // Of what is a cache to Kaniko slipway uses the folder of base images alone.
      "--cache=true",
      "--cache-dir=" + places.bases(),
      "--cache-repo=oci:" + places.cache(),
      "--cache-ttl=8760h",
      "--oci-layout-path=" + places.layout(),
      // Docker's images have what steps write there.
      "--ignore-var-run=false",
      "--compressed-caching=false",
      "--registry-mirror=slipway.invalid",
      "--skip-default-registry-fallback",
      "--log-format=json",
      "--verbosity=info",
      "--force",
  };
  if (job.squash) argv.emplace_back("--single-snapshot");
  for (const auto& [name, value] : job.build_args)
    argv.push_back("--build-arg=" + name + "=" + value);
  for (const auto& [name, value] : job.labels)
    argv.push_back("--label=" + name + "=" + value);
  return argv;
}

std::vector<std::pair<std::string, std::string>> environment(const Places& places) {
  return {{"KANIKO_DIR", places.home},
          {"TMPDIR", places.home},
          {"SSL_CERT_DIR", places.certificates()}};
}

} // namespace slipway::backends::kaniko
