// SPDX-License-Identifier: Apache-2.0
#include "executor/base/base64.hpp"
#include "executor/base/file.hpp"
#include "executor/base/percent.hpp"
#include "executor/sandbox/egress.hpp"
#include "executor/sandbox/handover.hpp"
#include "executor/sandbox/limits.hpp"
#include "executor/sandbox/podman_api.hpp"
#include "executor/sandbox/podman_call.hpp"
#include "executor/sandbox/quick_kill.hpp"
#include "executor/sandbox/sandbox.hpp"
#include "executor/sandbox/toolbox.hpp"

#include <nlohmann/json.hpp>

#include <fcntl.h>
#include <linux/magic.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <charconv>
#include <future>
#include <set>

namespace slipway::sandbox {
namespace {

using nlohmann::json;
using process::Command;
using process::Output;

constexpr const char* kNsenter = "/usr/bin/nsenter";
constexpr const char* kIp = "/usr/sbin/ip";
constexpr int kLoginFd = 3;
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

/// What Podman's API says about a call that failed.
std::string complaint_of(const ApiAnswer& answer) {
  const auto document = json::parse(answer.body, nullptr, false);
  auto words = document.is_object() ? document.value("message", json{}) : json{};
  std::string text = words.is_string() ? words.get<std::string>() : answer.body.substr(0, 600);
  if (const auto cause = document.is_object() ? document.value("cause", json{}) : json{};
      text.empty() && cause.is_string())
    text = cause.get<std::string>();
  return text.empty() ? "no message" : last_words(text);
}

Error api_error(const std::string& doing, const ApiAnswer& answer) {
  return Error{ErrorKind::unavailable,
               doing + ": podman: status " + std::to_string(answer.status) + ": " +
                   complaint_of(answer),
               "",
               {}};
}

Result<json> read_json(const ApiAnswer& answer, const std::string& doing) {
  auto document = json::parse(answer.body, nullptr, false);
  if (document.is_discarded())
    return Error{ErrorKind::unavailable, doing + ": podman's answer is no JSON", "", {}};
  return document;
}

Result<json> ask_for_list(PodmanApi& api, const std::string& target, const std::string& things) {
  auto answer = api.ask({"GET", target, ""});
  if (!answer) return std::move(answer).error();
  if (!answer->ok()) return api_error("listing " + things, *answer);
  auto document = read_json(*answer, "listing " + things);
  if (!document) return std::move(document).error();
  return document->is_array() ? *std::move(document) : json::array();
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

/// "?filters={…}" for LABEL=VALUE ("" value: any).
std::string filter_of(const std::string& label, const std::string& value) {
  const json filter{{"label", {label + (value.empty() ? "" : "=" + value)}}};
  return "filters=" + percent_encode(filter.dump());
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

/// The login of one pull, in memory that ends with the processes that have it open: not a file,
/// which would stay where this process is killed.
Result<UniqueFd> login_file(const PullRequest& request) {
  const auto host = request.reference.substr(0, request.reference.find('/'));
  std::string pair = request.username + ":";
  pair += request.password.reveal();
  std::string encoded = base64(pair);
  std::string text = request.username.empty()
                         ? R"({"auths":{}})"
                         : json{{"auths", {{host, {{"auth", encoded}}}}}}.dump();
  auto file = memory_file("pull-login");
  if (file) {
    if (auto written = write_all(file->get(), text); !written) file = std::move(written).error();
  }
  for (std::string* secret : {&pair, &encoded, &text})
    ::explicit_bzero(secret->data(), secret->size());
  return file;
}

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

/// The beginning of a command line that enters the namespaces of Podman's pause process, which is a
/// tenth of what `podman unshare` costs; empty where that process or the network namespace cannot
/// be told for sure.
std::vector<std::string> entering_argv(const Engine& engine, bool rootless_netns) {
  const auto pause = pause_process(engine);
  if (!pause) return {};
  const std::string proc = "/proc/" + std::to_string(*pause);
  std::vector<std::string> argv{kNsenter, "--user=" + proc + "/ns/user",
                                "--mount=" + proc + "/ns/mnt", "--preserve-credentials", "--"};
  if (!rootless_netns) return argv;
  std::error_code failed;
  std::vector<std::string> found;
  for (const auto& entry :
       std::filesystem::directory_iterator{engine.runtime_dir / "netns", failed}) {
    if (entry.path().filename().string().starts_with("rootless-netns-"))
      found.push_back(entry.path().string());
  }
  if (found.size() != 1) return {}; // another store's may be among them
  // A stop of the service, or `podman system migrate` under a running container, leaves a plain
  // file there, which is no network; Podman's own way makes it one again.
  struct statfs mounted {};
  if (::statfs((proc + "/root" + found.front()).c_str(), &mounted) != 0 ||
      mounted.f_type != NSFS_MAGIC)
    return {};
  argv.insert(argv.end(), {kNsenter, "--net=" + found.front(), "--"});
  return argv;
}

constexpr std::string_view kClosedStem = "swc"; // enforce_egress() is about this name

// A bridge as Podman names them (podman0, podman1 ...), or that of a closed network; else "".
std::string usable_bridge(std::string name) {
  for (const std::string_view stem : {std::string_view{"podman"}, kClosedStem}) {
    if (name.starts_with(stem) && name.size() > stem.size() && name.size() <= 12 &&
        name.find_first_not_of("0123456789", stem.size()) == std::string::npos)
      return name;
  }
  return "";
}

// ip-link(8)'s group of a bridge and of what keeps it: a number that nobody else uses.
std::string group_of(const std::string& bridge) {
  constexpr std::uint32_t kFirst = 0x53000000;
  constexpr std::uint32_t kFirstClosed = 0x53800000;
  std::uint32_t number = 0;
  std::from_chars(bridge.data() + bridge.find_first_of("0123456789"), bridge.data() + bridge.size(),
                  number);
  return std::to_string((bridge.starts_with(kClosedStem) ? kFirstClosed : kFirst) + number);
}

// "10.89.4." of a /24, Podman's size; "" of anything else.
std::string prefix_of(const json& network) {
  const auto& subnets = member(network, "subnets");
  if (!subnets.is_array() || subnets.size() != 1) return "";
  const auto subnet = text_of(member(subnets[0], "subnet"));
  const auto dot = subnet.rfind('.');
  return dot != std::string::npos && subnet.ends_with(".0/24") ? subnet.substr(0, dot + 1) : "";
}

Network network_from(const json& document) {
  return {prefix_of(document), usable_bridge(text_of(member(document, "network_interface")))};
}

// With one port left, netavark leaves the bridge alone and its firewall calls out. The kernel needs
// 20 to 30 ms for each deletion of interfaces, and as long for a group of them.
std::string keep_bridge_batch(const std::string& bridge) {
  return "link set dev " + bridge + " group " + group_of(bridge) + "\nlink add name sw-" + bridge +
         " group " + group_of(bridge) + " master " + bridge + " type veth peer name sx-" + bridge +
         "\n";
}

// crun fails where a limit is above this process's own hard limit.
void clamp_open_files(Limits& limits) {
  rlimit own{};
  if (::getrlimit(RLIMIT_NOFILE, &own) != 0 || own.rlim_max == RLIM_INFINITY) return;
  limits.open_files = std::min<std::uint64_t>(limits.open_files, own.rlim_max);
}

} // namespace

Podman::Podman(Engine engine, process::ProcessRunner& runner, std::shared_ptr<PodmanApi> api)
    : engine_{std::move(engine)}, runner_{runner}, api_{std::move(api)} {
  if (!api_) api_ = std::make_shared<PodmanService>(engine_);
}

Result<ImageFacts> Podman::image(const std::string& reference) {
  auto answer = api_->ask({"GET", "/images/" + percent_encode(reference) + "/json", ""});
  if (!answer) return std::move(answer).error();
  if (answer->status == 404)
    return Error{ErrorKind::not_found, "image is not in the store: " + reference, "", {}};
  if (!answer->ok()) return api_error("inspecting image " + reference, *answer);
  auto document = read_json(*answer, "inspecting image " + reference);
  if (!document) return std::move(document).error();
  const auto& image = *document;
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
  auto login = login_file(request);
  if (!login) return std::move(login).error();
  // Podman starts itself anew in its user namespace, and hands its descriptors on.
  arguments.push_back("--authfile=/proc/self/fd/" + std::to_string(kLoginFd));
  arguments.push_back("docker://" + reference);
  auto command = podman_command(engine_, podman_argv(engine_, std::move(arguments)));
  command.deadline =
      std::max(engine_.deadline, std::chrono::milliseconds{std::chrono::minutes{15}});
  command.fds.emplace_back(login->get(), kLoginFd);
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

Result<ContainerFacts> Podman::create(const SandboxSpec& spec) {
  if (auto good = check_spec(spec); !good) return std::move(good).error();
  SandboxSpec possible = spec;
  clamp_open_files(possible.limits);
  auto body = create_body(possible);
  if (const auto group = sandboxes_group(); !group.empty()) {
    auto document = json::parse(body);
    document["cgroup_parent"] = group;
    body = document.dump();
  }
  auto answer = api_->ask({"POST", "/containers/create", body});
  if (!answer) return std::move(answer).error().in("making " + spec.name);
  if (!answer->ok()) {
    auto failed = api_error("making " + spec.name, *answer);
    const auto said = complaint_of(*answer);
    if (contains(said, "image not known") || contains(said, "no such image") ||
        contains(said, "unable to find"))
      failed.kind = ErrorKind::not_found;
    return failed;
  }
  auto document = read_json(*answer, "making " + spec.name);
  if (!document) return std::move(document).error();
  ContainerFacts facts;
  facts.id = text_of(member(*document, "Id"));
  facts.name = spec.name;
  facts.labels = spec.labels;
  return facts;
}

namespace {

/// False where the process runs without a filter of system calls; one that has ended has no need.
bool has_filter(std::int64_t pid) {
  const auto status = read_file("/proc/" + std::to_string(pid) + "/status", 64UL << 10);
  return !status || status->find("\nSeccomp:\t0") == std::string::npos;
}

} // namespace

Result<ContainerFacts> Podman::start(const SandboxSpec& given) {
  SandboxSpec spec = given;
  std::optional<Handover> handover;
  if (spec.script_listener >= 0) {
    auto made = Handover::make(engine_.runtime_dir);
    if (!made) return std::move(made).error().in("starting " + spec.name);
    handover.emplace(*std::move(made));
    spec.volumes.push_back({handover->dir(), kHandoverTarget, true});
  }
  auto made = create(spec);
  if (!made) return made;
  const auto give_up = [&](Error failed) {
    (void)remove({spec.name}); // a container that was made but is of no use
    return failed;
  };
  auto answer = api_->ask({"POST", "/containers/" + made->id + "/start", ""});
  if (!answer) return give_up(std::move(answer).error().in("starting " + spec.name));
  if (!answer->ok() && answer->status != 304) {
    auto failed = api_error("starting " + spec.name, *answer);
    const auto said = complaint_of(*answer);
    if (contains(said, "OCI permission denied") ||
        contains(said, "attempted to invoke a command that was not found")) {
      failed.kind = ErrorKind::bad_input;
      failed.hint = "the image's entrypoint or command cannot be executed";
    }
    return give_up(std::move(failed));
  }
  auto facts = inspect(made->id);
  if (!facts) return give_up(std::move(facts).error());
  // A Podman without libseccomp takes a profile and forgets it.
  if (!spec.seccomp_profile.empty() && !has_filter(facts->host_pid))
    return give_up({ErrorKind::misconfigured,
                    spec.name + " runs without its filter of system calls",
                    "install a Podman and a crun with seccomp, as Debian's are",
                    {}});
  if (handover) {
    if (auto handed = handover->give(spec.script_listener, facts->host_pid); !handed)
      return give_up(std::move(handed).error().in("starting " + spec.name));
  }
  if (auto report = read_back_limits(*facts, spec.limits)) {
    facts->limits = *std::move(report);
  } else if (report.error().kind != ErrorKind::not_found &&
             report.error().kind != ErrorKind::unavailable) { // those: it has ended
    // One that ends while it is looked at may be any error of reading.
    const auto now = inspect(made->id);
    if (!now || now->running)
      return give_up(std::move(report).error().in("reading back the limits of " + spec.name));
  }
  return facts;
}

Result<ContainerFacts> Podman::inspect(const std::string& name) {
  auto answer = api_->ask({"GET", "/containers/" + percent_encode(name) + "/json", ""});
  if (!answer) return std::move(answer).error();
  if (answer->status == 404)
    return Error{ErrorKind::not_found, "no such container: " + name, "", {}};
  if (!answer->ok()) return api_error("inspecting " + name, *answer);
  auto document = read_json(*answer, "inspecting " + name);
  if (!document) return std::move(document).error();
  return facts_from(*document);
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
  auto document =
      ask_for_list(*api_, "/containers/json?all=true&" + filter_of(label, value), "sandboxes");
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

Status Podman::remove_one(const std::string& target, const std::string& name) {
  // A second try, because the clean-up that conmon starts may have been at the same thing.
  std::optional<Error> failed;
  for (int attempt = 0; attempt < 2; ++attempt) {
    auto answer = api_->ask({"DELETE", target, ""});
    if (!answer) return std::move(answer).error();
    if (answer->ok() || answer->status == 404) return {};
    if (is_absent(complaint_of(*answer))) return {};
    failed = api_error("removing " + name, *answer);
  }
  return *std::move(failed);
}

Status Podman::remove_job(const std::vector<std::string>& names, const std::string& network) {
  const auto bridge = network.empty() ? std::string{} : bridge_of(network);
  std::shared_future<void> kept;
  if (!bridge.empty()) {
    kept = std::async(std::launch::async, [this, &bridge] {
             (void)unshare({kIp, "-force", "-batch", "-"}, keep_bridge_batch(bridge), true);
           }).share();
  }
  if (auto removed = remove_when(names, kept); !removed) return removed;
  if (network.empty()) return {};
  // Before the network, so that whoever comes after a death in between finds its name.
  // Asked again: another clean-up of the job may have been faster, and its bridge's name be
  // another's.
  if (!bridge.empty() && bridge_of(network) == bridge)
    (void)unshare({kIp, "link", "delete", "group", group_of(bridge)}, "", true);
  return remove_networks({network});
}

std::string Podman::bridge_of(const std::string& network) {
  if (!has_network_namespace()) return {};
  auto answer = api_->ask({"GET", "/networks/" + percent_encode(network) + "/json", ""});
  if (!answer || !answer->ok()) return {};
  auto document = read_json(*answer, "inspecting network " + network);
  return document ? usable_bridge(text_of(member(*document, "network_interface"))) : "";
}

Status Podman::remove(const std::vector<std::string>& names) {
  return remove_when(names, {});
}

Status Podman::remove_when(const std::vector<std::string>& names,
                           const std::shared_future<void>& ready) {
  const auto remove_it = [this](const std::string& name) {
    return remove_one("/containers/" + percent_encode(name) + "?force=true&v=true&timeout=0", name);
  };
  const auto one = [&](const std::string& name) {
    if (const auto facts = inspect(name); facts && facts->running)
      (void)quick_kill(facts->id, facts->host_pid);
    if (ready.valid()) ready.wait();
    return remove_it(name);
  };
  std::vector<std::future<Status>> others;
  for (std::size_t i = 0; i + 1 < names.size(); ++i)
    others.push_back(std::async(std::launch::async, one, names[i]));
  std::vector<std::string> again;
  if (!names.empty() && !one(names.back())) again.push_back(names.back());
  for (std::size_t i = 0; i < others.size(); ++i) {
    if (!others[i].get()) again.push_back(names[i]);
  }
  // One that another joins stays until that one has gone.
  Status first;
  for (const auto& name : again) {
    if (auto removed = remove_it(name); !removed && first) first = std::move(removed);
  }
  return first;
}

Result<Network> Podman::create_network(const std::string& name,
                                       const std::map<std::string, std::string>& labels,
                                       bool isolate) {
  json options = json::object();
  if (isolate) options["isolate"] = "true";
  const json body{{"name", name},
                  {"driver", "bridge"},
                  {"dns_enabled", true},
                  {"options", std::move(options)},
                  {"labels", labels}};
  auto answer = api_->ask({"POST", "/networks/create", body.dump()});
  if (!answer) return std::move(answer).error();
  if (answer->ok()) {
    auto made = read_json(*answer, "creating network " + name);
    if (!made) return std::move(made).error();
    return network_from(*made);
  }
  const auto said = complaint_of(*answer);
  if (answer->status != 409 && !contains(said, "already exists") && !contains(said, "already used"))
    return api_error("creating network " + name, *answer);
  // A second prepare of one job finds its own network; one that isolates less is somebody else's.
  auto found = api_->ask({"GET", "/networks/" + percent_encode(name) + "/json", ""});
  if (!found) return std::move(found).error();
  if (!found->ok()) return api_error("inspecting network " + name, *found);
  auto document = read_json(*found, "inspecting network " + name);
  if (!document) return std::move(document).error();
  const bool isolates = text_of(member(member(*document, "options"), "isolate")) == "true";
  const auto has = labels_of(member(*document, "labels"));
  if (isolates != isolate || has != labels) {
    return Error{
        ErrorKind::unavailable, "network " + name + " exists and is not this job's", "", {}};
  }
  return network_from(*document);
}

Result<Network> Podman::create_closed_network(const std::string& name,
                                              const std::map<std::string, std::string>& labels) {
  const auto closed_from = [&](const json& document) -> Result<Network> {
    Network network = network_from(document);
    const bool ours = text_of(member(document, "network_interface")).starts_with(kClosedStem) &&
                      labels_of(member(document, "labels")) == labels &&
                      member(document, "dns_enabled") == false;
    if (ours && !network.prefix.empty()) return network;
    return Error{ErrorKind::unavailable,
                 "network " + name + " exists and is not what was asked for",
                 "remove it with `podman network rm` as the service user",
                 {}};
  };
  // Two at a time may choose one number: the second hears so, and chooses again.
  for (int attempt = 0; attempt < 16; ++attempt) {
    auto all = ask_for_list(*api_, "/networks/json", "networks");
    if (!all) return std::move(all).error();
    std::set<std::string> taken;
    for (const auto& entry : *all) {
      if (text_of(member(entry, "name")) == name) return closed_from(entry); // a second prepare
      taken.insert(text_of(member(entry, "network_interface")));
    }
    int number = 0;
    while (number < kMostClosed &&
           taken.contains(std::string{kClosedStem} + std::to_string(number)))
      ++number;
    if (number == kMostClosed) break;
    const json body{{"name", name},
                    {"driver", "bridge"},
                    {"network_interface", std::string{kClosedStem} + std::to_string(number)},
                    {"internal", true},
                    {"dns_enabled", false},
                    {"options", {{"isolate", "true"}}},
                    {"labels", labels}};
    auto answer = api_->ask({"POST", "/networks/create", body.dump()});
    if (!answer) return std::move(answer).error();
    if (answer->ok()) {
      auto made = read_json(*answer, "creating network " + name);
      if (!made) return std::move(made).error();
      return closed_from(*made);
    }
    const auto said = complaint_of(*answer);
    if (!contains(said, "already") && !contains(said, "in use"))
      return api_error("creating network " + name, *answer);
  }
  return Error{ErrorKind::unavailable,
               "no name is free for the bridge of the closed network " + name,
               "there may be " + std::to_string(kMostClosed) + " of them at a time",
               {}};
}

Status Podman::remove_networks(const std::vector<std::string>& names) {
  for (const auto& name : names) {
    if (auto removed =
            remove_one("/networks/" + percent_encode(name) + "?force=true", "network " + name);
        !removed)
      return removed;
  }
  return {};
}

Result<std::vector<std::string>> Podman::list_networks(const std::string& label,
                                                       const std::string& value) {
  auto document = ask_for_list(*api_, "/networks/json?" + filter_of(label, value), "networks");
  if (!document) return std::move(document).error();
  std::vector<std::string> names;
  for (const auto& entry : *document)
    names.push_back(text_of(member(entry, "name")));
  return names;
}

Status Podman::create_volume(const std::string& name,
                             const std::map<std::string, std::string>& labels) {
  const json body{{"Name", name}, {"Label", labels}};
  auto answer = api_->ask({"POST", "/volumes/create", body.dump()});
  if (!answer) return std::move(answer).error();
  if (answer->ok() || contains(complaint_of(*answer), "already exists")) return {};
  return api_error("creating volume " + name, *answer);
}

Status Podman::remove_volumes(const std::vector<std::string>& names) {
  for (const auto& name : names) {
    if (auto removed =
            remove_one("/volumes/" + percent_encode(name) + "?force=true", "volume " + name);
        !removed)
      return removed;
  }
  return {};
}

Result<std::vector<std::string>> Podman::list_volumes(const std::string& label,
                                                      const std::string& value) {
  auto document = ask_for_list(*api_, "/volumes/json?" + filter_of(label, value), "volumes");
  if (!document) return std::move(document).error();
  std::vector<std::string> names;
  for (const auto& entry : *document)
    names.push_back(text_of(member(entry, "Name")));
  return names;
}

bool Podman::has_network_namespace() const {
  return !entering_argv(engine_, true).empty();
}

Result<process::Output> Podman::unshare(const std::vector<std::string>& argv, std::string input,
                                        bool rootless_netns) {
  auto words = entering_argv(engine_, rootless_netns);
  const bool direct = !words.empty();
  if (!direct) {
    words = podman_argv(engine_, {"unshare"});
    if (rootless_netns) words.emplace_back("--rootless-netns");
  }
  words.insert(words.end(), argv.begin(), argv.end());
  auto command = podman_command(engine_, std::move(words));
  command.input = std::move(input);
  // Only Podman's way into the network namespace may start something that stays (slirp4netns).
  if (rootless_netns && !direct) return call(runner_, std::move(command));
  return runner_.run(command);
}

Result<std::string> Podman::toolbox_image() {
  return import_image("toolbox", toolbox_tar());
}

Result<std::string> Podman::bare_image(const std::string& folder) {
  return import_image("bare", bare_tar(folder));
}

Result<std::string> Podman::import_image(const std::string& name, const std::string& tar) {
  const std::string reference = "localhost/slipway-" + name + ":" + toolbox_version(tar);
  auto present = image(reference);
  if (present.ok()) return present->id;
  if (present.error().kind != ErrorKind::not_found) return std::move(present).error();
  auto command =
      podman_command(engine_, podman_argv(engine_, {"import", "--quiet", "-", reference}));
  command.input = tar;
  auto output = call(runner_, std::move(command));
  if (!output) return std::move(output).error();
  if (!process::succeeded(output->ending))
    return podman_error("making the " + name + " image", *output);
  auto made = image(reference);
  if (!made) return std::move(made).error();
  return made->id;
}

} // namespace slipway::sandbox
