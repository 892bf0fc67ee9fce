// SPDX-License-Identifier: Apache-2.0
#include "executor/base/file.hpp"
#include "executor/sandbox/podman_call.hpp"
#include "executor/sandbox/sandbox.hpp"
#include "executor/sandbox/toolbox.hpp"

#include <nlohmann/json.hpp>

#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <charconv>

namespace slipway::sandbox {
namespace {

using nlohmann::json;
using process::Command;
using process::Output;

constexpr std::size_t kMostAnswerBytes = 16UL << 20;
constexpr std::size_t kMostLogBytes = 4UL << 20; // rotated at 1 MB by --log-opt max-size

Result<UniqueFd> memory_file(const char* name) {
  UniqueFd fd{::memfd_create(name, MFD_CLOEXEC)};
  if (!fd) return io_error("memfd_create", errno, name);
  return fd;
}

Result<std::string> written_to(const UniqueFd& fd) {
  if (::lseek(fd.get(), 0, SEEK_SET) != 0) return io_error("lseek", errno);
  return read_all(fd.get(), kMostAnswerBytes, "podman's output");
}

Command podman_command(const Engine& engine, std::vector<std::string> argv) {
  Command command;
  command.argv = std::move(argv);
  command.env = podman_env(engine);
  command.deadline = engine.deadline;
  command.no_new_privileges = false; // newuidmap is setuid
  return command;
}

/// Runs Podman with files, not pipes, as stdout and stderr: what it leaves running (conmon,
/// slirp4netns, aardvark-dns) inherits them, and a pipe would keep whoever waits for its end.
Result<Output> call(process::ProcessRunner& runner, Command command) {
  auto out = memory_file("podman-stdout");
  if (!out) return std::move(out).error();
  auto err = memory_file("podman-stderr");
  if (!err) return std::move(err).error();
  command.fds.emplace_back(out->get(), 1);
  command.fds.emplace_back(err->get(), 2);
  auto done = runner.run(command);
  if (!done) return done;
  auto said = written_to(*out);
  if (!said) return std::move(said).error();
  auto complained = written_to(*err);
  if (!complained) return std::move(complained).error();
  done->out += *said;
  done->err += *complained;
  return done;
}

bool contains(const std::string& text, std::string_view part) {
  return text.find(part) != std::string::npos;
}

/// The last line that says something; netavark's remark about syslog is none.
std::string last_words(const std::string& text) {
  std::string last;
  std::size_t at = 0;
  while (at < text.size()) {
    const auto end = std::min(text.find('\n', at), text.size());
    const auto line = text.substr(at, end - at);
    if (!line.empty() && !contains(line, "failed to connect to syslog")) last = line;
    at = end + 1;
  }
  if (last.size() > 600) last.resize(600);
  return last.empty() ? "no message" : last;
}

Error podman_error(const std::string& doing, const Output& output) {
  const bool late = std::holds_alternative<process::DeadlinePassed>(output.ending);
  return Error{late ? ErrorKind::timed_out : ErrorKind::unavailable,
               doing + ": podman: " + process::describe(output.ending) + ": " +
                   last_words(output.err),
               "",
               {}};
}

// Podman's own words for a thing that it does not know; never a bare "no such", which a failed
// unmount says as well ("no such file or directory").
bool is_absent(const std::string& complaint) {
  for (const char* words : {"no such container", "no such volume", "no such network",
                            "no such image", "no such object", "network not found", "not known"}) {
    if (contains(complaint, words)) return true;
  }
  return false;
}

/// True where every complaint is about a thing that is not there: it has been removed already.
bool only_absences(const std::string& complaints) {
  std::size_t at = 0;
  while (at < complaints.size()) {
    const auto end = std::min(complaints.find('\n', at), complaints.size());
    const auto line = complaints.substr(at, end - at);
    at = end + 1;
    if (line.empty() || contains(line, "failed to connect to syslog")) continue;
    if (!is_absent(line)) return false;
  }
  return true;
}

Result<json> read_json(const Output& output, const std::string& doing) {
  auto document = json::parse(output.out, nullptr, false);
  if (document.is_discarded()) {
    return Error{ErrorKind::unavailable, doing + ": podman's answer is no JSON", "", {}};
  }
  return document;
}

// Podman writes null where it means empty; both read as empty here.
const json& member(const json& object, const char* name) {
  static const json kNone;
  if (!object.is_object()) return kNone;
  const auto found = object.find(name);
  return found == object.end() ? kNone : *found;
}

std::string text_of(const json& value) {
  return value.is_string() ? value.get<std::string>() : "";
}

std::int64_t number_of(const json& value) {
  return value.is_number_integer() ? value.get<std::int64_t>() : 0;
}

std::vector<std::string> texts_of(const json& value) {
  std::vector<std::string> texts;
  if (value.is_string()) texts.push_back(value.get<std::string>());
  if (!value.is_array()) return texts;
  for (const auto& element : value) {
    if (element.is_string()) texts.push_back(element.get<std::string>());
  }
  return texts;
}

std::vector<std::string> keys_of(const json& value) {
  std::vector<std::string> keys;
  if (!value.is_object()) return keys;
  for (const auto& [key, unused] : value.items())
    keys.push_back(key);
  return keys;
}

std::map<std::string, std::string> labels_of(const json& value) {
  std::map<std::string, std::string> labels;
  if (!value.is_object()) return labels;
  for (const auto& [key, content] : value.items())
    labels[key] = text_of(content);
  return labels;
}

std::string filter_of(const std::string& label, const std::string& value) {
  return "--filter=label=" + label + (value.empty() ? "" : "=" + value);
}

std::vector<std::string> lines_of(const std::string& text) {
  std::vector<std::string> lines;
  std::size_t at = 0;
  while (at < text.size()) {
    const auto end = std::min(text.find('\n', at), text.size());
    if (end > at) lines.push_back(text.substr(at, end - at));
    at = end + 1;
  }
  return lines;
}

std::vector<std::string> with(std::vector<std::string> head, const std::vector<std::string>& tail) {
  head.insert(head.end(), tail.begin(), tail.end());
  return head;
}

std::string base64(std::string_view bytes) {
  static constexpr std::string_view kDigits =
      "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
  std::string text;
  for (std::size_t at = 0; at < bytes.size(); at += 3) {
    std::uint32_t group = 0;
    for (std::size_t i = 0; i < 3; ++i) {
      const auto byte = at + i < bytes.size() ? static_cast<unsigned char>(bytes[at + i]) : 0U;
      group = group << 8 | byte;
    }
    for (std::size_t i = 0; i < 4; ++i) {
      text += at + i <= bytes.size() ? kDigits[group >> (18 - 6 * i) & 63U] : '=';
    }
  }
  return text;
}

/// A file of the runtime folder (memory, mode 0700) that is gone when its owner is.
class PasswordFile {
public:
  static Result<PasswordFile> make(const std::filesystem::path& dir, const PullRequest& request) {
    const auto host = request.reference.substr(0, request.reference.find('/'));
    std::string pair = request.username + ":";
    pair += request.password.reveal();
    std::string encoded = base64(pair);
    std::string text = request.username.empty()
                           ? R"({"auths":{}})"
                           : json{{"auths", {{host, {{"auth", encoded}}}}}}.dump();
    PasswordFile file;
    file.path_ = (dir / "slipway-pull-XXXXXX").string();
    const UniqueFd fd{::mkostemp(file.path_.data(), O_CLOEXEC)}; // 0600
    if (!fd) return io_error("create", errno, std::exchange(file.path_, {}));
    auto written = write_all(fd.get(), text);
    for (std::string* secret : {&pair, &encoded, &text}) {
      ::explicit_bzero(secret->data(), secret->size());
    }
    if (!written) return std::move(written).error();
    return file;
  }
  PasswordFile(PasswordFile&& other) noexcept : path_{std::exchange(other.path_, {})} {}
  PasswordFile& operator=(PasswordFile&&) = delete;
  ~PasswordFile() {
    if (!path_.empty()) ::unlink(path_.c_str());
  }
  const std::string& path() const { return path_; }

private:
  PasswordFile() = default;
  std::string path_;
};

ContainerFacts facts_from(const json& document) {
  ContainerFacts facts;
  const auto& state = member(document, "State");
  facts.id = text_of(member(document, "Id"));
  facts.name = text_of(member(document, "Name"));
  facts.running = text_of(member(state, "Status")) == "running";
  facts.exit_code = static_cast<int>(number_of(member(state, "ExitCode")));
  facts.host_pid = number_of(member(state, "Pid"));
  facts.labels = labels_of(member(member(document, "Config"), "Labels"));
  const auto& networks = member(member(document, "NetworkSettings"), "Networks");
  if (networks.is_object() && !networks.empty()) {
    facts.address = text_of(member(*networks.begin(), "IPAddress"));
  }
  return facts;
}

// From the file that conmon writes for Podman; 0 where it is not there (another driver or runroot)
// or the process has ended. Saves an inspect, which is a third of a start.
std::int64_t pid_of(const Engine& engine, const std::string& id) {
  if (id.empty() || id.find_first_not_of("0123456789abcdef") != std::string::npos) return 0;
  const auto file = engine.runtime_dir / "containers/overlay-containers" / id / "userdata/pidfile";
  const auto text = read_file(file, 32);
  std::int64_t pid = 0;
  if (!text || std::from_chars(text->data(), text->data() + text->size(), pid).ec != std::errc{}) {
    return 0;
  }
  std::error_code failed;
  return pid > 0 && std::filesystem::exists("/proc/" + std::to_string(pid), failed) ? pid : 0;
}

// crun fails where a limit is above this process's own hard limit.
void clamp_open_files(Limits& limits) {
  rlimit own{};
  if (::getrlimit(RLIMIT_NOFILE, &own) != 0 || own.rlim_max == RLIM_INFINITY) return;
  limits.open_files = std::min<std::uint64_t>(limits.open_files, own.rlim_max);
}

} // namespace

Podman::Podman(Engine engine, process::ProcessRunner& runner)
    : engine_{std::move(engine)}, runner_{runner} {}

Result<ImageFacts> Podman::image(const std::string& reference) {
  auto output =
      call(runner_,
           podman_command(engine_, podman_argv(engine_, {"image", "inspect", "--", reference})));
  if (!output) return std::move(output).error();
  if (!process::succeeded(output->ending)) {
    if (is_absent(output->err)) {
      return Error{ErrorKind::not_found, "image is not in the store: " + reference, "", {}};
    }
    return podman_error("inspecting image " + reference, *output);
  }
  auto document = read_json(*output, "inspecting image " + reference);
  if (!document) return std::move(document).error();
  if (!document->is_array() || document->empty()) {
    return Error{ErrorKind::not_found, "image is not in the store: " + reference, "", {}};
  }
  const auto& image = document->front();
  const auto& config = member(image, "Config");
  ImageFacts facts;
  facts.id = text_of(member(image, "Id"));
  facts.user = text_of(member(config, "User"));
  facts.working_dir = text_of(member(config, "WorkingDir"));
  facts.entrypoint = texts_of(member(config, "Entrypoint"));
  facts.command = texts_of(member(config, "Cmd"));
  facts.env = texts_of(member(config, "Env"));
  facts.exposed_ports = keys_of(member(config, "ExposedPorts"));
  facts.volumes = keys_of(member(config, "Volumes"));
  facts.digest = text_of(member(image, "Digest"));
  return facts;
}

Result<ImageFacts> Podman::pull(const PullRequest& request) {
  const auto& reference = request.reference;
  // The docker transport is spelled out below; a reference that names one of its own would let a
  // job read the service user's files ("dir:/…", "docker-archive:/…").
  if (reference.empty() || reference.front() == '-' || contains(reference, "://")) {
    return Error{ErrorKind::bad_input, "not an image reference: '" + reference + "'", "", {}};
  }
  if (request.policy == "never") return image(reference);
  if (request.policy == "if-not-present") {
    auto present = image(reference);
    if (present.ok() || present.error().kind != ErrorKind::not_found) return present;
  }
  std::vector<std::string> arguments{"pull", "--quiet"};
  if (!request.platform.empty()) arguments.push_back("--platform=" + request.platform);
  if (!request.ca_dir.empty()) arguments.push_back("--cert-dir=" + request.ca_dir.string());
  arguments.push_back(std::string{"--tls-verify="} + (request.tls_verify ? "true" : "false"));
  // Also without a login: a `podman login` of the service user must not serve every job.
  auto password = PasswordFile::make(engine_.runtime_dir, request);
  if (!password) return std::move(password).error();
  arguments.push_back("--authfile=" + password->path());
  arguments.push_back("docker://" + reference);
  auto command = podman_command(engine_, podman_argv(engine_, std::move(arguments)));
  command.deadline =
      std::max(engine_.deadline, std::chrono::milliseconds{std::chrono::minutes{15}});
  auto output = call(runner_, std::move(command));
  if (!output) return std::move(output).error();
  if (!process::succeeded(output->ending)) {
    auto failed = podman_error("pulling " + reference, *output);
    const auto& said = output->err;
    if (contains(said, "unauthorized") || contains(said, "authentication required") ||
        contains(said, "access to the resource is denied") || contains(said, "denied:")) {
      failed.kind = ErrorKind::not_found;
      failed.hint = "the registry wants credentials for this image, or it does not exist; set "
                    "DOCKER_AUTH_CONFIG for a private image";
    } else if (contains(said, "manifest unknown") || contains(said, "name unknown") ||
               contains(said, "not found") || contains(said, "no image found")) {
      failed.kind = ErrorKind::not_found;
      failed.hint = "check the image's name and tag";
    } else if (contains(said, "invalid reference format")) {
      failed.kind = ErrorKind::bad_input;
    }
    return failed;
  }
  const auto lines = lines_of(output->out);
  if (lines.empty()) return Error{ErrorKind::unavailable, "podman pull named no image", "", {}};
  return image(lines.back());
}

Result<ContainerFacts> Podman::launch(const SandboxSpec& spec) {
  if (auto good = check_spec(spec); !good) return std::move(good).error();
  SandboxSpec possible = spec;
  clamp_open_files(possible.limits);
  auto command = podman_command(engine_, argv_for(engine_, possible));
  int target = 3;
  for (const int fd : spec.preserve_fds)
    command.fds.emplace_back(fd, target++);
  const auto env = split_env(spec.env);
  UniqueFd file;
  if (!env.file.empty()) {
    auto made = memory_file("sandbox-env");
    if (!made) return std::move(made).error();
    file = *std::move(made);
    if (auto written = write_all(file.get(), env.file); !written) return std::move(written).error();
    if (::lseek(file.get(), 0, SEEK_SET) != 0) return io_error("lseek", errno);
    command.fds.emplace_back(file.get(), env_file_fd(spec));
  }
  command.env.insert(command.env.end(), env.inherited.begin(), env.inherited.end());

  auto output = call(runner_, std::move(command));
  // Conmon may keep the file open for the sandbox's life; nobody needs the values any more.
  if (file) (void)::ftruncate(file.get(), 0);
  if (!output) return std::move(output).error();
  if (!process::succeeded(output->ending)) {
    auto failed = podman_error("starting " + spec.name, *output);
    const auto& said = output->err;
    const bool name_is_taken = contains(said, "already in use");
    if (!name_is_taken) (void)remove({spec.name}); // a container that was made but did not start
    if (contains(said, "image not known") || contains(said, "no such image")) {
      failed.kind = ErrorKind::not_found;
    } else if (const auto* exited = std::get_if<process::Exited>(&output->ending);
               exited != nullptr && (exited->code == 126 || exited->code == 127)) {
      failed.kind = ErrorKind::bad_input; // Source: podman-run(1), Exit Status
      failed.hint = "the image's entrypoint or command cannot be executed";
    }
    return failed;
  }
  ContainerFacts facts;
  const auto lines = lines_of(output->out);
  facts.id = lines.empty() ? "" : lines.back();
  facts.name = spec.name;
  facts.labels = spec.labels;
  facts.host_pid = pid_of(engine_, facts.id);
  facts.running = facts.host_pid > 0;
  return facts;
}

Result<ContainerFacts> Podman::start(const SandboxSpec& spec) {
  auto launched = launch(spec);
  if (!launched) return launched;
  return inspect(spec.name);
}

Result<ContainerFacts> Podman::inspect(const std::string& name) {
  auto output = call(
      runner_, podman_command(engine_, podman_argv(engine_, {"container", "inspect", "--", name})));
  if (!output) return std::move(output).error();
  if (!process::succeeded(output->ending)) {
    if (is_absent(output->err)) {
      return Error{ErrorKind::not_found, "no such container: " + name, "", {}};
    }
    return podman_error("inspecting " + name, *output);
  }
  auto document = read_json(*output, "inspecting " + name);
  if (!document) return std::move(document).error();
  if (!document->is_array() || document->empty()) {
    return Error{ErrorKind::not_found, "no such container: " + name, "", {}};
  }
  return facts_from(document->front());
}

Result<std::string> Podman::logs(const std::string& name, std::size_t limit) {
  auto command = podman_command(engine_, podman_argv(engine_, {"logs", "--tail=400", "--", name}));
  command.output_limit = kMostLogBytes;
  auto output = runner_.run(command); // starts nothing that stays, so pipes with a limit
  if (!output) return std::move(output).error();
  if (!process::succeeded(output->ending)) {
    if (is_absent(output->err)) {
      return Error{ErrorKind::not_found, "no such container: " + name, "", {}};
    }
    return podman_error("reading the log of " + name, *output);
  }
  std::string text = output->out + output->err;
  if (text.size() > limit) text.erase(0, text.size() - limit);
  return text;
}

Result<std::vector<ContainerFacts>> Podman::list(const std::string& label,
                                                 const std::string& value) {
  auto output = call(
      runner_,
      podman_command(engine_, podman_argv(engine_, {"ps", "--all", "--no-trunc",
                                                    filter_of(label, value), "--format=json"})));
  if (!output) return std::move(output).error();
  if (!process::succeeded(output->ending)) return podman_error("listing sandboxes", *output);
  auto document = read_json(*output, "listing sandboxes");
  if (!document) return std::move(document).error();
  std::vector<ContainerFacts> all;
  for (const auto& entry : *document) {
    ContainerFacts facts;
    facts.id = text_of(member(entry, "Id"));
    const auto names = texts_of(member(entry, "Names"));
    facts.name = names.empty() ? facts.id : names.front();
    facts.running = text_of(member(entry, "State")) == "running";
    facts.exit_code = static_cast<int>(number_of(member(entry, "ExitCode")));
    facts.host_pid = number_of(member(entry, "Pid"));
    facts.labels = labels_of(member(entry, "Labels"));
    all.push_back(std::move(facts));
  }
  return all;
}

Status Podman::remove(const std::vector<std::string>& names) {
  if (names.empty()) return {};
  const auto argv = podman_argv(
      engine_, with({"rm", "--force", "--ignore", "--volumes", "--time=0", "--"}, names));
  // A second try, because the clean-up that conmon starts may have been at the same container.
  std::optional<Error> failed;
  for (int attempt = 0; attempt < 2; ++attempt) {
    auto output = call(runner_, podman_command(engine_, argv));
    if (!output) return std::move(output).error();
    if (process::succeeded(output->ending)) return {};
    if (std::holds_alternative<process::Exited>(output->ending) && only_absences(output->err))
      return {};
    failed = podman_error("removing sandboxes", *output);
  }
  return *std::move(failed);
}

Status Podman::create_network(const std::string& name,
                              const std::map<std::string, std::string>& labels, bool isolate) {
  std::vector<std::string> arguments{"network", "create", "--driver=bridge"};
  if (isolate) arguments.emplace_back("--opt=isolate=true");
  for (const auto& [key, value] : labels)
    arguments.push_back("--label=" + key + "=" + value);
  arguments.emplace_back("--");
  arguments.push_back(name);
  auto output = call(runner_, podman_command(engine_, podman_argv(engine_, std::move(arguments))));
  if (!output) return std::move(output).error();
  if (process::succeeded(output->ending)) return {};
  if (!contains(output->err, "already exists") && !contains(output->err, "already used")) {
    return podman_error("creating network " + name, *output);
  }
  // A second prepare of one job finds its own network; one that isolates less is somebody else's.
  auto found = call(
      runner_, podman_command(engine_, podman_argv(engine_, {"network", "inspect", "--", name})));
  if (!found) return std::move(found).error();
  if (!process::succeeded(found->ending)) return podman_error("inspecting network " + name, *found);
  auto document = read_json(*found, "inspecting network " + name);
  if (!document) return std::move(document).error();
  const auto& network = document->is_array() && !document->empty() ? document->front() : *document;
  const bool isolates = text_of(member(member(network, "options"), "isolate")) == "true";
  const auto has = labels_of(member(network, "labels"));
  if (isolates != isolate || has != labels) {
    return Error{
        ErrorKind::unavailable, "network " + name + " exists and is not this job's", "", {}};
  }
  return {};
}

Status Podman::remove_networks(const std::vector<std::string>& names) {
  if (names.empty()) return {};
  auto output =
      call(runner_,
           podman_command(
               engine_,
               podman_argv(engine_, with({"network", "rm", "--force", "--time=0", "--"}, names))));
  if (!output) return std::move(output).error();
  if (process::succeeded(output->ending)) return {};
  if (std::holds_alternative<process::Exited>(output->ending) && only_absences(output->err))
    return {};
  return podman_error("removing networks", *output);
}

Result<std::vector<std::string>> Podman::list_networks(const std::string& label,
                                                       const std::string& value) {
  auto output =
      call(runner_,
           podman_command(engine_, podman_argv(engine_, {"network", "ls", filter_of(label, value),
                                                         "--format={{.Name}}"})));
  if (!output) return std::move(output).error();
  if (!process::succeeded(output->ending)) return podman_error("listing networks", *output);
  return lines_of(output->out);
}

Status Podman::create_volume(const std::string& name,
                             const std::map<std::string, std::string>& labels) {
  std::vector<std::string> arguments{"volume", "create"};
  for (const auto& [key, value] : labels)
    arguments.push_back("--label=" + key + "=" + value);
  arguments.emplace_back("--");
  arguments.push_back(name);
  auto output = call(runner_, podman_command(engine_, podman_argv(engine_, std::move(arguments))));
  if (!output) return std::move(output).error();
  if (process::succeeded(output->ending) || contains(output->err, "already exists")) return {};
  return podman_error("creating volume " + name, *output);
}

Status Podman::remove_volumes(const std::vector<std::string>& names) {
  if (names.empty()) return {};
  auto output = call(
      runner_, podman_command(
                   engine_, podman_argv(engine_, with({"volume", "rm", "--force", "--"}, names))));
  if (!output) return std::move(output).error();
  if (process::succeeded(output->ending)) return {};
  if (std::holds_alternative<process::Exited>(output->ending) && only_absences(output->err))
    return {};
  return podman_error("removing volumes", *output);
}

Result<std::vector<std::string>> Podman::list_volumes(const std::string& label,
                                                      const std::string& value) {
  auto output =
      call(runner_, podman_command(engine_, podman_argv(engine_, {"volume", "ls", "--quiet",
                                                                  filter_of(label, value)})));
  if (!output) return std::move(output).error();
  if (!process::succeeded(output->ending)) return podman_error("listing volumes", *output);
  return lines_of(output->out);
}

Result<process::Output> Podman::unshare(const std::vector<std::string>& argv, std::string input,
                                        bool rootless_netns) {
  std::vector<std::string> arguments{"unshare"};
  if (rootless_netns) arguments.emplace_back("--rootless-netns");
  auto command = podman_command(engine_, podman_argv(engine_, with(std::move(arguments), argv)));
  command.input = std::move(input);
  // Only the network namespace may start something that stays (slirp4netns).
  if (rootless_netns) return call(runner_, std::move(command));
  return runner_.run(command);
}

Result<std::string> Podman::toolbox_image() {
  const auto tar = toolbox_tar();
  const std::string reference = "localhost/slipway-toolbox:" + toolbox_version(tar);
  auto present = image(reference);
  if (present.ok()) return present->id;
  if (present.error().kind != ErrorKind::not_found) return std::move(present).error();
  auto command =
      podman_command(engine_, podman_argv(engine_, {"import", "--quiet", "-", reference}));
  command.input = tar;
  auto output = call(runner_, std::move(command));
  if (!output) return std::move(output).error();
  if (!process::succeeded(output->ending)) return podman_error("making the toolbox image", *output);
  auto made = image(reference);
  if (!made) return std::move(made).error();
  return made->id;
}

} // namespace slipway::sandbox
