// SPDX-License-Identifier: Apache-2.0
#include "executor/shim/container_command.hpp"

#include <map>

namespace slipway::shim {
namespace {

constexpr Takes kSwitch = Takes::nothing;
constexpr std::string_view kNoDevices = "a job has no devices of the host";

struct Spelling {
  std::string_view usage;
  std::vector<Flag> flags;
  std::size_t least = 0;
  std::size_t most = 0;
  bool interspersed = true; ///< false: what follows the first argument is the container's
};

std::vector<Flag> create_flags() {
  return {
      {"name"},
      {"env", 'e'},
      {"env-file"},
      {"volume", 'v'},
      {"mount"},
      {"tmpfs"},
      {"volumes-from"},
      {"workdir", 'w'},
      {"user", 'u'},
      {"entrypoint"},
      {"interactive", 'i', kSwitch},
      {"tty", 't', kSwitch},
      {"rm", 0, kSwitch},
      {"init", 0, kSwitch},
      {"privileged", 0, kSwitch},
      {"read-only", 0, kSwitch},
      {"network"},
      {"net"},
      {"network-alias"},
      {"net-alias"},
      {"link"},
      {"publish", 'p'},
      {"publish-all", 'P', kSwitch},
      {"expose"},
      {"label", 'l'},
      {"hostname", 'h'},
      {"add-host"},
      {"domainname"},
      {"dns"},
      {"dns-search"},
      {"dns-option"},
      {"dns-opt"},
      {"ip"},
      {"ip6"},
      {"link-local-ip"},
      {"mac-address"},
      {"cap-add"},
      {"cap-drop"},
      {"security-opt"},
      {"device"},
      {"group-add"},
      {"memory", 'm'},
      {"memory-reservation"},
      {"memory-swappiness"},
      {"oom-kill-disable", 0, kSwitch},
      {"oom-score-adj"},
      {"shm-size"},
      {"storage-opt"},
      {"pid"},
      {"ipc"},
      {"uts"},
      {"userns"},
      {"cgroupns"},
      {"restart"},
      {"stop-signal"},
      {"sysctl"},
      {"pull"},
      {"platform"},
      {"quiet", 'q', kSwitch},
      {"cidfile"},
      {"log-driver"},
      {"attach", 'a', Takes::value, Use::refuse, kNotYet},
      {"cpus"},
      {"cpu-shares", 'c'},
      {"cpu-period"},
      {"cpu-quota"},
      {"cpu-rt-period"},
      {"cpu-rt-runtime"},
      {"cpuset-cpus"},
      {"cpuset-mems"},
      {"blkio-weight"},
      {"memory-swap"},
      {"pids-limit"},
      {"ulimit"},
      {"stop-timeout"},
      {"log-opt"},
      {"sig-proxy", 0, kSwitch, Use::ignore},
      {"detach-keys", 0, Takes::value, Use::ignore},
      {"disable-content-trust", 0, kSwitch, Use::ignore},
      {"no-healthcheck", 0, kSwitch},
      {"health-cmd"},
      {"health-interval"},
      {"health-retries"},
      {"health-timeout"},
      {"health-start-period"},
      {"health-start-interval", 0, Takes::value, Use::refuse, "the job's engine is older than it"},
      {"label-file", 0, Takes::value, Use::refuse, kNotYet},
      {"annotation", 0, Takes::value, Use::refuse, kNotYet},
      {"device-cgroup-rule", 0, Takes::value, Use::refuse, kNoDevices},
      {"blkio-weight-device", 0, Takes::value, Use::refuse, kNoDevices},
      {"device-read-bps", 0, Takes::value, Use::refuse, kNoDevices},
      {"device-read-iops", 0, Takes::value, Use::refuse, kNoDevices},
      {"device-write-bps", 0, Takes::value, Use::refuse, kNoDevices},
      {"device-write-iops", 0, Takes::value, Use::refuse, kNoDevices},
      {"volume-driver", 0, Takes::value, Use::refuse, "volumes are the engine's own"},
      {"gpus", 0, Takes::value, Use::refuse, kNoDevices},
      {"runtime", 0, Takes::value, Use::refuse, "the engine has one runtime"},
      {"cgroup-parent", 0, Takes::value, Use::refuse, "the engine's groups are its own"}};
}

std::vector<Flag> run_flags() {
  auto flags = create_flags();
  flags.push_back({"detach", 'd', kSwitch});
  return flags;
}

const std::map<std::string, Spelling, std::less<>>& spellings() {
  static const std::map<std::string, Spelling, std::less<>> all{
      {"run", {"[OPTIONS] IMAGE [COMMAND] [ARG...]", run_flags(), 1, kAny, false}},
      {"create", {"[OPTIONS] IMAGE [COMMAND] [ARG...]", create_flags(), 1, kAny, false}},
      {"exec",
       {"[OPTIONS] CONTAINER COMMAND [ARG...]",
        {{"detach", 'd', kSwitch},
         {"interactive", 'i', kSwitch},
         {"tty", 't', kSwitch},
         {"env", 'e'},
         {"env-file"},
         {"workdir", 'w'},
         {"user", 'u'},
         {"privileged", 0, kSwitch},
         {"detach-keys", 0, Takes::value, Use::ignore}},
        2,
        kAny,
        false}},
      {"start",
       {"[OPTIONS] CONTAINER [CONTAINER...]",
        {{"attach", 'a', kSwitch},
         {"interactive", 'i', kSwitch},
         {"sig-proxy", 0, kSwitch, Use::ignore},
         {"detach-keys", 0, Takes::value, Use::ignore}},
        1,
        kAny}},
      {"attach",
       {"[OPTIONS] CONTAINER",
        {{"no-stdin", 0, kSwitch},
         {"sig-proxy", 0, kSwitch, Use::ignore},
         {"detach-keys", 0, Takes::value, Use::ignore}},
        1,
        1}},
      {"stats",
       {"[OPTIONS] [CONTAINER...]",
        {{"all", 'a', kSwitch}, {"no-stream", 0, kSwitch}, {"no-trunc", 0, kSwitch}, {"format"}},
        0,
        kAny}},
      {"events", {"[OPTIONS]", {{"since"}, {"until"}, {"filter", 'f'}, {"format"}}, 0, 0}},
      {"update",
       {"[OPTIONS] CONTAINER [CONTAINER...]",
        {{"blkio-weight"},
         {"cpu-period"},
         {"cpu-quota"},
         {"cpu-rt-period"},
         {"cpu-rt-runtime"},
         {"cpu-shares", 'c'},
         {"cpus"},
         {"cpuset-cpus"},
         {"cpuset-mems"},
         {"memory", 'm'},
         {"memory-reservation"},
         {"memory-swap"},
         {"kernel-memory", 0, Takes::value, Use::refuse, "kernels have no such limit any more"},
         {"pids-limit"},
         {"restart"}},
        1,
        kAny}},
      {"stop",
       {"[OPTIONS] CONTAINER [CONTAINER...]",
        {{"time", 't'}, {"timeout"}, {"signal", 's'}},
        1,
        kAny}},
      {"restart",
       {"[OPTIONS] CONTAINER [CONTAINER...]",
        {{"time", 't'}, {"timeout"}, {"signal", 's'}},
        1,
        kAny}},
      {"kill", {"[OPTIONS] CONTAINER [CONTAINER...]", {{"signal", 's'}}, 1, kAny}},
      {"pause", {"CONTAINER [CONTAINER...]", {}, 1, kAny}},
      {"unpause", {"CONTAINER [CONTAINER...]", {}, 1, kAny}},
      {"wait", {"CONTAINER [CONTAINER...]", {}, 1, kAny}},
      {"rename", {"CONTAINER NEW_NAME", {}, 2, 2}},
      {"rm",
       {"[OPTIONS] CONTAINER [CONTAINER...]",
        {{"force", 'f', kSwitch}, {"volumes", 'v', kSwitch}, {"link", 'l', kSwitch, Use::ignore}},
        1,
        kAny}},
      {"logs",
       {"[OPTIONS] CONTAINER",
        {{"follow", 'f', kSwitch},
         {"timestamps", 't', kSwitch},
         {"tail", 'n'},
         {"since"},
         {"until"},
         {"details", 0, kSwitch}},
        1,
        1}},
      {"ps",
       {"[OPTIONS]",
        {{"all", 'a', kSwitch},
         {"quiet", 'q', kSwitch},
         {"no-trunc", 0, kSwitch},
         {"filter", 'f'},
         {"format"},
         {"last", 'n'},
         {"latest", 'l', kSwitch},
         {"size", 's', kSwitch, Use::refuse, kNotYet}},
        0,
        0}},
      {"commit",
       {"[OPTIONS] CONTAINER [REPOSITORY[:TAG]]",
        {{"author", 'a'}, {"change", 'c'}, {"message", 'm'}, {"pause", 'p', kSwitch}},
        1,
        2}},
      {"cp",
       {"[OPTIONS] CONTAINER:SRC_PATH DEST_PATH|-, or SRC_PATH|- CONTAINER:DEST_PATH",
        {{"archive", 'a', kSwitch}, {"follow-link", 'L', kSwitch}, {"quiet", 'q', kSwitch}},
        2,
        2}},
      {"diff", {"CONTAINER", {}, 1, 1}},
      {"export", {"[OPTIONS] CONTAINER", {{"output", 'o'}}, 1, 1}},
      {"top", {"CONTAINER [ps OPTIONS]", {}, 1, kAny, false}},
      {"port", {"CONTAINER [PRIVATE_PORT[/PROTO]]", {}, 1, 2}},
      {"network create",
       {"[OPTIONS] NETWORK",
        {{"driver", 'd'},
         {"label"},
         {"subnet"},
         {"gateway"},
         {"ip-range"},
         {"aux-address"},
         {"ipam-driver"},
         {"ipam-opt"},
         {"internal", 0, kSwitch},
         {"attachable", 0, kSwitch},
         {"opt", 'o'},
         {"ipv6", 0, kSwitch}},
        1,
        1}},
      {"network rm", {"NETWORK [NETWORK...]", {{"force", 'f', kSwitch}}, 1, kAny}},
      {"network ls",
       {"[OPTIONS]",
        {{"quiet", 'q', kSwitch}, {"filter", 'f'}, {"format"}, {"no-trunc", 0, kSwitch}},
        0,
        0}},
      {"network connect",
       {"[OPTIONS] NETWORK CONTAINER", {{"alias"}, {"ip"}, {"ip6"}, {"link-local-ip"}}, 2, 2}},
      {"network disconnect", {"[OPTIONS] NETWORK CONTAINER", {{"force", 'f', kSwitch}}, 2, 2}},
      {"network prune", {"[OPTIONS]", {{"force", 'f', kSwitch, Use::ignore}, {"filter"}}, 0, 0}},
      {"volume create",
       {"[OPTIONS] [VOLUME]",
        {{"label"},
         {"name"},
         {"driver", 'd'},
         {"opt", 'o', Takes::value, Use::refuse, "volumes are the engine's own"}},
        0,
        1}},
      {"volume rm", {"VOLUME [VOLUME...]", {{"force", 'f', kSwitch}}, 1, kAny}},
      {"volume ls", {"[OPTIONS]", {{"quiet", 'q', kSwitch}, {"filter", 'f'}, {"format"}}, 0, 0}},
      {"volume prune",
       {"[OPTIONS]",
        {{"force", 'f', kSwitch, Use::ignore}, {"all", 'a', kSwitch}, {"filter"}},
        0,
        0}}};
  return all;
}

} // namespace

std::optional<Command> read_container_command(const std::string& verb, const std::string& called,
                                              const Words& words, const Environment& env,
                                              const Manner& manner, const std::vector<Flag>& more) {
  const auto found = spellings().find(verb);
  if (found == spellings().end()) return std::nullopt;
  const auto& spelling = found->second;
  auto flags = spelling.flags;
  flags.insert(flags.end(), more.begin(), more.end());
  const auto read = read_flags(words, flags, spelling.interspersed);
  if (const auto* error = std::get_if<FlagError>(&read))
    return usage_error(manner, called, error->text);
  const auto& line = std::get<Line>(read);
  const std::string usage = "\nUsage:  " + called + " " + std::string{spelling.usage} + "\n";
  if (line.help) return Say{usage, "", 0};
  if (line.arguments.size() < spelling.least || line.arguments.size() > spelling.most)
    return Say{"",
               "\"" + called + "\" requires " +
                   (spelling.most == kAny ? "at least " + std::to_string(spelling.least)
                                          : std::to_string(spelling.least) +
                                                (spelling.most == spelling.least
                                                     ? ""
                                                     : " to " + std::to_string(spelling.most))) +
                   " argument(s).\nSee '" + called + " --help'.\n" + usage,
               manner.exit_code};
  // A list that is not filtered goes on to `xargs docker rm`.
  for (const auto& filter : line.all("filter"))
    if (!filter.empty() && filter.find('=') == std::string::npos)
      return usage_error(
          manner, called,
          "invalid argument \"" + filter +
              "\" for \"-f, --filter\" flag: bad format of filter (expected name=value)");
  ContainerCommand command{verb, called, line.flags, line.arguments, env};
  for (const auto& note : line.notes)
    command.flags.emplace_back("note", note);
  return command;
}

} // namespace slipway::shim
