// SPDX-License-Identifier: Apache-2.0
#include "executor/shim/fetched_sources.hpp"

#include "executor/base/file.hpp"
#include "executor/base/unique_fd.hpp"
#include "executor/shim/build_context.hpp"
#include "executor/shim/flags.hpp"
#include "executor/shim/lent_tools.hpp"
#include "executor/shim/tar_extract.hpp"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <functional>
#include <thread>
#include <utility>
#include <vector>

namespace slipway::shim {
namespace {

namespace fs = std::filesystem;
using Clock = std::chrono::steady_clock;

constexpr const char* kFolderName = ".slipway-context-";
constexpr const char* kLentName = "lent"; ///< in it: what programs that slipway lends need
constexpr std::size_t kMaxFetchedDockerfileBytes = 512UL << 10;
constexpr std::size_t kMaxSaidBytes = 4UL << 10; ///< of what a program says of its failure
constexpr std::size_t kMaxAnswerBytes = 64UL << 10;
constexpr std::size_t kMaxLoginBytes = 64UL << 10; ///< of a secret or a key
constexpr std::size_t kMaxNameBytes = 255;
constexpr std::size_t kHeadBytes = 4096;
constexpr std::uint64_t kMaxUnpackedBytes = 4 * kMaxFetchedFileBytes;
constexpr std::chrono::minutes kRemovalTime{5};
constexpr std::chrono::milliseconds kDrainTime{250};
constexpr mode_t kUsualUmask = 022; ///< that of builders: what is fetched is the same everywhere

using Take = std::function<Status(std::string_view)>;

/// A program of the image by the job's PATH; "" = there is none.
std::string program(const std::string& name, const Environment& env) {
  const auto path = env.find("PATH");
  if (path == env.end()) return "";
  const std::string& folders = path->second;
  for (std::size_t at = 0; at <= folders.size();) {
    const auto end = std::min(folders.find(':', at), folders.size());
    auto file = folders.substr(at, end - at) + "/" + name;
    struct stat info {};
    if (file.front() == '/' && end > at && ::stat(file.c_str(), &info) == 0 &&
        S_ISREG(info.st_mode) && ::access(file.c_str(), X_OK) == 0)
      return file;
    at = end + 1;
  }
  return "";
}

/// BusyBox's wget asks another program for https, and without it takes any certificate.
bool is_busybox(const fs::path& file) {
  std::error_code cause;
  const auto real = fs::canonical(file, cause);
  return real.filename() == "busybox" ||
         fs::equivalent(file, file.parent_path() / "busybox", cause);
}

/// The end of what a program said. `is_cut`: there was more before it.
std::string shown_words(std::string text, bool is_cut) {
  // Of a line that is not whole, a part could be left that nobody knows for a secret.
  if (is_cut) text.erase(0, std::min(text.find('\n'), text.size()));
  for (char& c : text)
    if (static_cast<unsigned char>(c) < 0x20 && c != '\n') c = ' ';
  while (text.ends_with('\n') || text.ends_with(' '))
    text.pop_back();
  return text;
}

std::string tail_of(int fd) {
  struct stat info {};
  if (::fstat(fd, &info) != 0) return "";
  const auto size = static_cast<std::size_t>(info.st_size);
  std::string text(std::min(size, kMaxSaidBytes), '\0');
  const auto got = ::pread(fd, text.data(), text.size(), static_cast<off_t>(size - text.size()));
  text.resize(got < 0 ? 0 : static_cast<std::size_t>(got));
  const bool is_cut = size > text.size();
  return shown_words(std::move(text), is_cut);
}

/// Says to the remover (lent, -1: none) which process group ends with this process; 0: none.
void tell(int remover, pid_t group) {
  if (remover >= 0) (void)!::send(remover, &group, sizeof group, MSG_NOSIGNAL | MSG_DONTWAIT);
}

struct Ran {
  process::Ending ending;
  std::string said; ///< the end of its stderr
};

/// A program that slipway lends has no path here.
bool is_borrowed(const std::string& program) {
  return !program.empty() && program.front() != '/';
}

Result<Ran> run_borrowed(const process::Command& command, const fs::path& input,
                         const Surroundings& world, Clock::time_point until, const Take& take) {
  LentCall call;
  call.program = command.argv.front();
  call.arguments.assign(command.argv.begin() + 1, command.argv.end());
  call.env.insert(command.env.begin(), command.env.end());
  call.folder = command.cwd;
  call.input = input;
  std::string said;
  bool is_cut = false;
  const Write keep = [&](std::string_view bytes) {
    said += bytes;
    if (said.size() <= kMaxSaidBytes) return;
    said.erase(0, said.size() - kMaxSaidBytes);
    is_cut = true;
  };
  auto ended = run_lent(call, world, until, take, keep);
  if (!ended) return std::move(ended).error();
  if (ended->is_late) return Ran{process::DeadlinePassed{}, ""};
  return Ran{process::Exited{ended->exit_code}, shown_words(std::move(said), is_cut)};
}

/// Runs a program whose stdout is given to `take`, and whose stdin is the file INPUT ("": nothing);
/// what `take` says ends it. It ends with this process, and what it has started by the remover.
/// Errors: those of process::spawn, of run_lent, of `take`; io.
Result<Ran> run_tool(process::Command command, const fs::path& input, const fs::path& place,
                     const Surroundings& world, Clock::time_point until, int remover,
                     const Take& take) {
  if (is_borrowed(command.argv.front())) return run_borrowed(command, input, world, until, take);
  UniqueFd opened;
  if (!input.empty()) {
    opened = UniqueFd{::open(input.c_str(), O_RDONLY | O_CLOEXEC)};
    if (!opened) return io_error("open", errno, input.string());
    command.fds.emplace_back(opened.get(), 0);
  }
  auto errors = make_unnamed_file(place);
  if (!errors) return std::move(errors).error();
  std::array<int, 2> ends{};
  if (::pipe2(ends.data(), O_CLOEXEC) != 0) return io_error("pipe2", errno);
  const UniqueFd from{ends[0]};
  UniqueFd to{ends[1]};
  command.fds.insert(command.fds.end(), {{to.get(), 1}, {errors->get(), 2}});
  command.ends_with_caller = true;
  const struct Told { // the last word, after the child's end
    int remover;
    ~Told() { tell(remover, 0); }
  } told{remover};
  const mode_t own = ::umask(kUsualUmask); // no other thread runs while something is fetched
  auto child = process::spawn(command);
  (void)::umask(own);
  if (!child) return std::move(child).error();
  tell(remover, child->pid());
  to.reset();
  const auto left = [&] {
    return std::max(std::chrono::milliseconds{0},
                    std::chrono::duration_cast<std::chrono::milliseconds>(until - Clock::now()));
  };
  std::vector<char> part(256UL << 10);
  for (bool has_ended = false;;) {
    // What it leaves running may hold the pipe: after its end, what is there is read, no more.
    std::array<pollfd, 2> ready{pollfd{from.get(), POLLIN, 0},
                                pollfd{has_ended ? -1 : child->pidfd(), POLLIN, 0}};
    const auto patience = has_ended ? std::min(left(), kDrainTime) : left();
    const int count = ::poll(ready.data(), ready.size(), static_cast<int>(patience.count()));
    if (count < 0 && errno == EINTR) continue;
    if (count <= 0) break; // wait() says whether its time was over
    if (ready[0].revents == 0) {
      has_ended = true;
      continue;
    }
    const ssize_t got = ::read(from.get(), part.data(), part.size());
    if (got < 0 && errno == EINTR) continue;
    if (got <= 0) break;
    if (auto taken = take({part.data(), static_cast<std::size_t>(got)}); !taken)
      return std::move(taken).error();
  }
  auto ending = child->wait(left(), std::chrono::seconds{2});
  return Ran{ending, tail_of(errors->get())};
}

Error too_late(const std::string& what) {
  return Error{ErrorKind::timed_out,
               what + " took more than " + std::to_string(kFetchTime.count()) + " minutes",
               "",
               {}};
}

/// Below `folder`, or it.
bool is_within(const fs::path& path, const fs::path& folder) {
  const auto relative = path.lexically_relative(folder);
  return !relative.empty() && *relative.begin() != "..";
}

/// The image's git, or one that slipway lends, in one folder.
class Git {
public:
  /// `source` and `world` are lent.
  Git(std::string program, fs::path folder, const GitSource& source, const Environment& env,
      const Surroundings& world, int remover)
      : program_{std::move(program)}, folder_{std::move(folder)}, source_{source}, world_{world},
        remover_{remover}, until_{Clock::now() + kFetchTime} {
    // Where these are set they would lead it to another repository than this one. Source: git
    // rev-parse --local-env-vars; those of it that hold settings (GIT_CONFIG_COUNT, …) stay.
    constexpr std::array kOfRepositories{"GIT_ALTERNATE_OBJECT_DIRECTORIES",
                                         "GIT_COMMON_DIR",
                                         "GIT_CONFIG",
                                         "GIT_DEFAULT_HASH",
                                         "GIT_DIR",
                                         "GIT_GRAFT_FILE",
                                         "GIT_IMPLICIT_WORK_TREE",
                                         "GIT_INDEX_FILE",
                                         "GIT_INTERNAL_SUPER_PREFIX",
                                         "GIT_NAMESPACE",
                                         "GIT_NO_REPLACE_OBJECTS",
                                         "GIT_OBJECT_DIRECTORY",
                                         "GIT_PREFIX",
                                         "GIT_REPLACE_REF_BASE",
                                         "GIT_SHALLOW_FILE",
                                         "GIT_TEMPLATE_DIR",
                                         "GIT_WORK_TREE"};
    auto own = env;
    for (const auto* name : kOfRepositories)
      own.erase(name);
    own["GIT_TERMINAL_PROMPT"] = "0";
    own["LC_ALL"] = "C";
    own.emplace("GIT_ALLOW_PROTOCOL", "http:https:ssh:git"); // of submodules, too
    if (source_.login) {
      own["SLIPWAY_GIT_USER"] = source_.login->user->reveal();
      own["SLIPWAY_GIT_PASSWORD"] = source_.login->password->reveal();
    }
    if (source_.header)
      own["SLIPWAY_GIT_HEADER"] = "Authorization: " + std::string{source_.header->reveal()};
    env_.assign(own.begin(), own.end());
  }

  /// Returns what it printed. Errors: timed_out; unavailable (it failed); as run_tool.
  Result<std::string> operator()(const std::vector<std::string>& words) const {
    process::Command command;
    command.argv = {program_,
                    "-c",
                    "core.hooksPath=/dev/null",
                    "-c",
                    "advice.detachedHead=false",
                    "-c",
                    "init.defaultBranch=main",
                    "-c",
                    "gc.auto=0"};
    const auto set = [&](const std::string& setting) {
      command.argv.insert(command.argv.end(), {"-c", setting});
    };
    if (!source_.has_tls_check) set("http.sslVerify=false");
    if (source_.login) {
      // Asked for by this server alone. The first line takes away whom the job's settings name:
      // they would be told the login to keep it.
      set("credential." + source_.server + ".helper=");
      set("credential." + source_.server +
          R"(.helper=!f() { test "$1" = get && printf 'username=%s\npassword=%s\n' )"
          R"("$SLIPWAY_GIT_USER" "$SLIPWAY_GIT_PASSWORD"; }; f)");
    }
    if (source_.header)
      command.argv.push_back("--config-env=http." + source_.server +
                             ".extraHeader=SLIPWAY_GIT_HEADER");
    command.argv.insert(command.argv.end(), words.begin(), words.end());
    command.env = env_;
    command.cwd = folder_;
    std::string answer;
    auto ran = run_tool(std::move(command), "", folder_.parent_path(), world_, until_, remover_,
                        [&](std::string_view bytes) -> Status {
                          if (answer.size() + bytes.size() > kMaxAnswerBytes)
                            return Error{ErrorKind::bad_input, "git says too much", "", {}};
                          answer += bytes;
                          return {};
                        });
    if (!ran) return std::move(ran).error();
    if (std::holds_alternative<process::DeadlinePassed>(ran->ending)) return too_late("git");
    if (!process::succeeded(ran->ending))
      return Error{ErrorKind::unavailable,
                   "git " + words.front() + ": " +
                       without_secrets(
                           ran->said.empty() ? process::describe(ran->ending) : ran->said, source_),
                   "",
                   {}};
    while (answer.ends_with('\n'))
      answer.pop_back();
    return answer;
  }

  /// What is wanted becomes a commit of this repository, with as little history as the server can
  /// leave out. Returns it. Errors: as operator().
  Result<std::string> take_commit() const {
    const std::string ref = source_.ref.empty() ? "HEAD" : source_.ref;
    std::vector<std::string> names{ref};
    if (source_.is_branch_first) names = {"refs/heads/" + ref, "refs/tags/" + ref};
    if (ref == "tag") names = {"refs/tags/tag", "refs/heads/tag"}; // alone it is a word of fetch's
    auto taken = fetch(names.front());
    if (!taken && taken.error().kind == ErrorKind::unavailable && names.size() > 1)
      taken = fetch(names.back());
    std::string fetched = "FETCH_HEAD";
    if (!taken && taken.error().kind == ErrorKind::unavailable && is_hexadecimal(ref)) {
      // Not every server gives out any commit by its number, and none by a part of it.
      if (auto all = (*this)({"fetch", "-q", "--tags", "--no-recurse-submodules", "--", "origin",
                              "+refs/heads/*:refs/remotes/origin/*"});
          all) {
        taken = std::string{};
        fetched = ref;
      }
    }
    if (!taken) return std::move(taken).error();
    auto commit = (*this)({"rev-parse", "--verify", "-q", fetched + "^{commit}"});
    if (!commit) return Error{ErrorKind::not_found, "the repository has no commit " + ref, "", {}};
    return commit;
  }

private:
  Result<std::string> fetch(const std::string& name) const {
    auto taken = (*this)(
        {"fetch", "-q", "--depth=1", "--no-tags", "--no-recurse-submodules", "--", "origin", name});
    // A plain file server (git's "dumb" HTTP) cannot leave history out.
    if (!taken && taken.error().kind == ErrorKind::unavailable)
      taken =
          (*this)({"fetch", "-q", "--no-tags", "--no-recurse-submodules", "--", "origin", name});
    return taken;
  }

  static bool is_hexadecimal(const std::string& text) {
    return text.size() >= 7 && text.find_first_not_of("0123456789abcdefABCDEF") == text.npos;
  }

  std::string program_;
  fs::path folder_;
  const GitSource& source_;
  const Surroundings& world_;
  int remover_;
  Clock::time_point until_;
  std::vector<std::pair<std::string, std::string>> env_;
};

/// The address is for the caller to add.
std::vector<std::string> by_curl(const std::string& curl) {
  return {curl,
          "--silent",
          "--show-error",
          "--fail",
          "--location",
          "--max-redirs",
          "10",
          "--proto",
          "=http,https",
          "--proto-redir",
          "=http,https",
          "--globoff",
          "--netrc-optional",
          "--connect-timeout",
          "60",
          "--output",
          "-"};
}

/// A file of curl's settings with this address. Source: curl(1), --config.
std::string settings_for_curl(const std::string& url) {
  std::string quoted;
  for (const char c : url) {
    if (c == '"' || c == '\\') quoted += '\\';
    quoted += c;
  }
  return "url = \"" + quoted + "\"\n";
}

/// The image's own program that downloads, and its words, to which curl's address is to be added.
/// Errors: not_found (with what the image has not got).
Result<std::vector<std::string>> downloader(const std::string& url, const Environment& env) {
  if (const auto curl = program("curl", env); !curl.empty()) return by_curl(curl);
  const auto wget = program("wget", env);
  if (wget.empty()) return Error{ErrorKind::not_found, "neither curl nor wget", "", {}};
  if (!is_busybox(wget))
    return std::vector<std::string>{wget, "-nv", "-T", "60", "-O", "-", "--", url};
  const auto certificates = program("ssl_client", env);
  if (url.starts_with("https://") && (certificates.empty() || is_busybox(certificates)))
    return Error{ErrorKind::not_found,
                 "no curl, and its wget (BusyBox) does not verify certificates",
                 "",
                 {}};
  return std::vector<std::string>{wget, "-T", "60", "-O", "-", "--", url};
}

/// The name that a file of this address is given, as BuildKit does.
std::string file_name(const std::string& url) {
  const auto begin = url.find('/', url.find("://") + 3);
  if (begin == std::string::npos) return "download";
  const auto path = url.substr(begin, url.find_first_of("?#", begin) - begin);
  const auto name = path.substr(path.rfind('/') + 1);
  return name.empty() || name == "." || name == ".." || name.size() > kMaxNameBytes ? "download"
                                                                                    : name;
}

Result<std::string> head_of(const fs::path& file) {
  std::string head(kHeadBytes, '\0');
  const UniqueFd opened{::open(file.c_str(), O_RDONLY | O_CLOEXEC)};
  const auto got = opened ? ::read(opened.get(), head.data(), head.size()) : -1;
  if (got < 0) return io_error("read", errno, file.string());
  head.resize(static_cast<std::size_t>(got));
  return head;
}

/// The program that unpacks what begins so; "" where it is not packed.
std::string unpacker(std::string_view head) {
  using namespace std::string_view_literals;
  for (const auto& [magic, name] : {std::pair{"\x1f\x8b"sv, "gzip"}, std::pair{"BZh"sv, "bzip2"},
                                    std::pair{"\xfd"
                                              "7zXZ"sv,
                                              "xz"},
                                    std::pair{"\x28\xb5\x2f\xfd"sv, "zstd"}})
    if (head.starts_with(magic)) return name;
  return "";
}

/// One of what a build lends to its steps. Errors: those of read_file; bad_input.
Result<std::shared_ptr<const Secret>> value_of(const SecretSource& secret, const fs::path& cwd) {
  std::string text;
  if (secret.value) {
    text = secret.value->reveal();
  } else {
    auto read = read_file(cwd / secret.file, kMaxLoginBytes);
    if (!read) return std::move(read).error().in("the secret " + secret.id);
    text = *std::move(read);
  }
  while (text.ends_with('\n') || text.ends_with('\r'))
    text.pop_back();
  if (text.find_first_of(std::string_view{"\0\r\n", 3}) != std::string::npos)
    return Error{
        ErrorKind::bad_input, "the secret " + secret.id + " has more than one line", "", {}};
  auto value = std::make_shared<const Secret>(text);
  return value;
}

/// BuildKit's own build argument; no step sees it. Takes it out of the list.
bool take_keep_git_dir(Build& build) {
  constexpr const char* kName = "BUILDKIT_CONTEXT_KEEP_GIT_DIR";
  bool keeps = false;
  for (const auto& [name, value] : build.build_args)
    if (name == kName) keeps = parse_bool(value).value_or(false);
  std::erase_if(build.build_args, [](const auto& one) { return one.first == kName; });
  return keeps;
}

/// Whether any of what slipway lends may be needed.
bool lacks_programs(const Environment& env) {
  constexpr std::array kLent{"git", "curl", "gzip", "bzip2", "xz", "zstd"};
  return std::any_of(kLent.begin(), kLent.end(),
                     [&](const char* name) { return program(name, env).empty(); });
}

/// `lacking`: what the image has not got; `why`: why it is not lent.
Error not_lent(const std::string& lacking, const std::string& why, const std::string& instead) {
  return Error{ErrorKind::not_found, "this image has " + lacking + ", and " + why, instead, {}};
}

Error does_not_go(const std::string& what) {
  return Error{ErrorKind::bad_input,
               what + " with a context that is an archive",
               "unpack it in the job, and build from the folder",
               {}};
}

} // namespace

FetchedSources::~FetchedSources() {
  std::error_code cause;
  if (folder_.empty()) return;
  until_.reset();
  if (remover_) (void)remover_->wait(kRemovalTime, std::chrono::seconds{1});
  fs::remove_all(folder_, cause); // where there was no remover, or it did not come to its end
}

Status FetchedSources::make_folder() {
  if (!folder_.empty()) return {};
  std::error_code cause;
  std::vector<fs::path> places{world_.workspaces.begin(), world_.workspaces.end()};
  // The runner's own folder beside the project's, where a user who is not root may write.
  const auto project = world_.environment.find("CI_PROJECT_DIR");
  if (lacks_programs(world_.environment) && project != world_.environment.end() &&
      is_in_workspace(project->second, world_))
    places.emplace_back(project->second + ".tmp");
  if (auto temporary = fs::temp_directory_path(cause); !cause) places.push_back(temporary);
  int failed = ENOENT;
  for (const auto& place : places) {
    std::string name = (place / (std::string{kFolderName} + "XXXXXX")).string();
    if (::mkdtemp(name.data()) != nullptr) {
      folder_ = fs::canonical(name, cause);
      break;
    }
    failed = errno;
  }
  if (folder_.empty()) return io_error("mkdtemp", failed, places.back().string());
  if (world_.remover.empty()) return {};
  std::array<int, 2> ends{};
  if (::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends.data()) != 0)
    return io_error("socketpair", errno);
  const UniqueFd held{ends[0]};
  until_ = UniqueFd{ends[1]};
  process::Command command;
  command.argv = world_.remover;
  command.argv.push_back(folder_.string());
  command.fds = {{held.get(), 0}};
  // Without it the folder goes with this object alone.
  if (auto remover = process::spawn(command)) remover_ = *std::move(remover);
  return {};
}

Result<fs::path> FetchedSources::new_place(const std::string& name) {
  if (auto made = make_folder(); !made) return std::move(made).error();
  const auto place = folder_ / std::to_string(++count_) / name;
  if (auto made = make_directory(place.parent_path()); !made) return std::move(made).error();
  return place;
}

Result<Environment> FetchedSources::borrow(const std::string& lacking, const std::string& instead) {
  if (lent_environment_) return *lent_environment_;
  if (!can_borrow(world_)) return not_lent(lacking, "there is no broker", instead);
  if (auto made = make_folder(); !made) return std::move(made).error();
  if (!is_in_workspace(folder_.string(), world_))
    return not_lent(lacking,
                    "the job's user can write neither to the workspace nor to $CI_PROJECT_DIR.tmp",
                    instead);
  auto lent = lent_environment(world_, folder_ / kLentName);
  if (!lent) return std::move(lent).error();
  lent_environment_ = *std::move(lent);
  return *lent_environment_;
}

/// Where nothing else says who the job is, what the build lends does: BuildKit fetches with it.
/// Source: Docker's manual, "Build secrets", Git authentication for remote contexts; BuildKit
/// source/git/source.go.
Status FetchedSources::add_lent_logins(const Build& build, GitSource& source, Environment& env) {
  if (build.lookup != Lookup::working_folder) return {};
  const auto server =
      source.server.substr(std::min(source.server.find("://") + 3, source.server.size()));
  const auto host = server.substr(0, server.find(':'));
  for (const auto* name : {"GIT_AUTH_TOKEN", "GIT_AUTH_HEADER"}) {
    const std::string plain = name;
    for (const auto& id : {plain + "." + server, plain + "." + host, plain}) {
      const auto lent = std::find_if(build.secrets.begin(), build.secrets.end(),
                                     [&](const SecretSource& one) { return one.id == id; });
      if (lent == build.secrets.end() || server.empty() || source.login || source.header) continue;
      auto value = value_of(*lent, world_.cwd);
      if (!value) return std::move(value).error();
      if (plain == "GIT_AUTH_TOKEN")
        source.login = GitLogin{std::make_shared<const Secret>("x-access-token"), *value};
      else
        source.header = *value;
    }
  }
  if (!server.empty() || source.url.starts_with("git://")) return {};
  for (const auto& key : build.ssh_keys) {
    if (key.id != "default") continue;
    std::error_code cause;
    const auto file = fs::path{world_.cwd} / key.file;
    if (fs::is_socket(file, cause)) {
      env["SSH_AUTH_SOCK"] = file.string();
      continue;
    }
    // A copy, because ssh(1) takes no key that others may read, as files of CI variables are.
    auto text = read_file(file, kMaxLoginBytes);
    if (!text) return std::move(text).error().in("--ssh default");
    auto place = new_place("key");
    if (!place) return std::move(place).error();
    if (auto put = replace_file(*place, *text, 0600); !put) return put;
    if (lent_environment_) {
      if (auto added = lend_ssh_key(folder_ / kLentName, *place); !added) return added;
      continue;
    }
    const auto program = env.find("GIT_SSH");
    auto& command = env["GIT_SSH_COMMAND"];
    if (command.empty()) command = program == env.end() ? "ssh" : shell_word(program->second);
    command += " -o IdentitiesOnly=yes -i " + shell_word(place->string());
  }
  return {};
}

Result<fs::path> FetchedSources::clone(const GitSource& wanted, bool keeps_git_dir,
                                       const Build& build) {
  constexpr const char* kInstead =
      "use an image with git for the job, or clone into a folder before and build from that";
  auto found = program("git", world_.environment);
  Environment env = world_.environment;
  if (found.empty()) {
    auto lent = borrow("no git", kInstead);
    if (!lent) return std::move(lent).error();
    env = *std::move(lent);
    found = "git";
  }
  auto place = new_place("context");
  if (!place) return place;
  if (auto made = make_directory(*place, 0755); !made) return std::move(made).error();
  GitSource source = wanted;
  if (auto added = add_lent_logins(build, source, env); !added) return std::move(added).error();
  const Git git{found, *place, source, env, world_, until_.get()};
  const auto done = [](const Result<std::string>& result) -> Status {
    return result ? Status{} : Status{result.error()};
  };
  std::error_code cause;
  const auto take_commit = [&](const std::string& format) -> Result<std::string> {
    auto made = git({"init", "-q", "--template=", "--object-format=" + format});
    // A git that does not know the word makes what is usual.
    if (!made && format == "sha1" && made.error().kind == ErrorKind::unavailable)
      made = git({"init", "-q", "--template="});
    if (!made && made.error().kind == ErrorKind::not_found)
      return not_lent("no git", made.error().what, kInstead);
    if (!made) return made;
    // Submodules may be named relative to it.
    if (auto set = git({"config", "remote.origin.url", source.url}); !set) return set;
    return git.take_commit();
  };
  auto commit = take_commit("sha1");
  if (!commit && commit.error().what.find("mismatched algorithms") != std::string::npos) {
    fs::remove_all(*place / ".git", cause);
    if (cause) return io_error("remove", cause.value(), (*place / ".git").string());
    commit = take_commit("sha256");
  }
  if (!commit) return std::move(commit).error();
  if (!commit->starts_with(source.commit))
    return Error{ErrorKind::bad_input,
                 "the commit is " + *commit + ", and " + source.commit + " was asked for",
                 "",
                 {}};
  if (auto status = done(git({"checkout", "-q", "--detach", *commit})); !status)
    return std::move(status).error();
  if (source.has_submodules && fs::exists(*place / ".gitmodules", cause)) {
    const std::vector<std::string> update{"submodule", "--quiet", "update", "--init",
                                          "--recursive"};
    auto shallow = update;
    shallow.emplace_back("--depth=1");
    if (!git(shallow))
      if (auto status = done(git(update)); !status) return std::move(status).error();
  }
  if (!keeps_git_dir) fs::remove_all(*place / ".git", cause);
  if (!keeps_git_dir && cause) return io_error("remove", cause.value(), (*place / ".git").string());
  if (!build.quiet)
    world_.err("slipway: building from " + shown_address(source.url) + ", commit " + *commit +
               "\n");
  const auto part = fs::canonical(*place / ("./" + source.folder), cause);
  if (cause)
    return Error{ErrorKind::not_found,
                 "the repository has no folder " + source.folder + ": " + cause.message(),
                 "",
                 {}};
  if (!is_within(part, *place))
    return Error{ErrorKind::bad_input,
                 "the folder " + source.folder + " leads out of the repository",
                 "",
                 {}};
  if (!fs::is_directory(part, cause))
    return Error{ErrorKind::bad_input, source.folder + " of the repository is no folder", "", {}};
  return part;
}

Result<fs::path> FetchedSources::download(const WebSource& source, std::uint64_t most) {
  constexpr const char* kInstead =
      "use an image with curl for the job, or fetch the file before and build from it";
  auto argv = downloader(source.url, world_.environment);
  Environment env = world_.environment;
  const auto lacking = argv ? "" : argv.error().what;
  if (!argv) {
    auto lent = borrow(lacking, kInstead);
    if (!lent) return std::move(lent).error();
    env = *std::move(lent);
    argv = by_curl("curl");
  }
  const bool is_curl = fs::path{argv->front()}.filename() == "curl";
  auto place = new_place(file_name(source.url));
  if (!place) return place;
  const UniqueFd file{::open(place->c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0644)};
  if (!file) return io_error("open", errno, place->string());
  // What is an argument every user may read.
  const struct Settings {
    fs::path file;
    ~Settings() {
      if (!file.empty()) (void)::unlink(file.c_str());
    }
  } settings{is_curl && shown_address(source.url) != source.url
                 ? place->parent_path().string() + ".curl"
                 : ""};
  if (!settings.file.empty()) {
    if (auto put = replace_file(settings.file, settings_for_curl(source.url)); !put)
      return std::move(put).error();
    argv->insert(argv->end(), {"--config", settings.file.string()});
  } else if (is_curl) {
    argv->insert(argv->end(), {"--", source.url});
  }
  process::Command command;
  command.argv = *std::move(argv);
  command.env.assign(env.begin(), env.end());
  if (is_borrowed(command.argv.front())) command.cwd = folder_;
  std::uint64_t size = 0;
  const auto ran = run_tool(std::move(command), "", folder_, world_, Clock::now() + kFetchTime,
                            until_.get(), [&](std::string_view bytes) -> Status {
                              size += bytes.size();
                              if (size > most)
                                return Error{ErrorKind::bad_input,
                                             "it has more than " + std::to_string(most) + " bytes",
                                             "",
                                             {}};
                              return write_all(file.get(), bytes);
                            });
  if (!ran && ran.error().kind == ErrorKind::not_found)
    return not_lent(lacking, ran.error().what, kInstead);
  if (!ran) return ran.error();
  if (std::holds_alternative<process::DeadlinePassed>(ran->ending)) return too_late("the download");
  if (!process::succeeded(ran->ending))
    return Error{
        ErrorKind::unavailable,
        without_secrets(ran->said.empty() ? process::describe(ran->ending) : ran->said, source),
        "",
        {}};
  return place;
}

Result<fs::path> FetchedSources::unpack(const fs::path& file, const std::string& head) {
  auto place = new_place("context");
  if (!place) return place;
  if (auto made = make_directory(*place, 0755); !made) return std::move(made).error();
  const UniqueFd folder{::open(place->c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC)};
  if (!folder) return io_error("open", errno, place->string());
  const UniqueFd input{::open(file.c_str(), O_RDONLY | O_CLOEXEC)};
  if (!input) return io_error("open", errno, file.string());
  auto extractor = TarExtractor::of_files(folder.get());
  std::uint64_t size = 0;
  const auto feed = [&](std::string_view bytes) -> Status {
    size += bytes.size();
    if (size > kMaxUnpackedBytes)
      return Error{ErrorKind::bad_input,
                   "unpacked it has more than " + std::to_string(kMaxUnpackedBytes) + " bytes",
                   "",
                   {}};
    return extractor.feed(bytes);
  };
  if (const auto name = unpacker(head); !name.empty()) {
    const auto lacking = "no " + name + ", by which the archive is packed";
    const auto instead = "use an image with " + name +
                         " for the job, or an archive that is not "
                         "packed";
    auto found = program(name, world_.environment);
    Environment env = world_.environment;
    if (found.empty()) {
      auto lent = borrow(lacking, instead);
      if (!lent) return std::move(lent).error();
      env = *std::move(lent);
      found = name;
    }
    process::Command command;
    command.argv = {found, "-dc"};
    command.env.assign(env.begin(), env.end());
    if (is_borrowed(found)) command.cwd = folder_;
    const auto ran = run_tool(std::move(command), file, folder_, world_, Clock::now() + kFetchTime,
                              until_.get(), feed);
    if (!ran && ran.error().kind == ErrorKind::not_found)
      return not_lent(lacking, ran.error().what, instead);
    if (!ran) return ran.error();
    if (std::holds_alternative<process::DeadlinePassed>(ran->ending)) return too_late(name);
    if (!process::succeeded(ran->ending))
      return Error{ErrorKind::bad_input,
                   name + ": " + (ran->said.empty() ? process::describe(ran->ending) : ran->said),
                   "",
                   {}};
  } else {
    std::vector<char> part(256UL << 10);
    for (;;) {
      const ssize_t got = ::read(input.get(), part.data(), part.size());
      if (got < 0 && errno == EINTR) continue;
      if (got < 0) return io_error("read", errno, file.string());
      if (got == 0) break;
      if (auto fed = feed({part.data(), static_cast<std::size_t>(got)}); !fed)
        return std::move(fed).error();
    }
  }
  if (auto whole = extractor.finish(); !whole) return std::move(whole).error();
  return place;
}

/// A folder with this file alone, under another name.
Result<fs::path> FetchedSources::folder_with(const fs::path& file, const std::string& name) {
  auto place = new_place("context");
  if (!place) return place;
  if (auto made = make_directory(*place, 0755); !made) return std::move(made).error();
  std::error_code cause;
  fs::rename(file, *place / name, cause);
  if (cause) return io_error("rename", cause.value(), file.string());
  return place;
}

Status FetchedSources::fetch_web_context(Build& build) {
  auto file = download(std::get<WebSource>(*build.remote), kMaxFetchedFileBytes);
  if (!file) return std::move(file).error();
  auto head = head_of(*file);
  if (!head) return std::move(head).error();
  // buildx takes an absolute path for one of this machine.
  const bool is_elsewhere = build.dockerfile_text || build.file == "-" ||
                            is_web_address(build.file) || build.file.starts_with('/');
  const bool is_unpacked = build.lookup == Lookup::then_context;
  if (looks_like_archive(*head) && is_unpacked) {
    auto folder = unpack(*file, *head);
    if (!folder) return std::move(folder).error();
    build.context = folder->string();
    build.is_fetched = true;
    return {};
  }
  if (looks_like_archive(*head)) {
    if (build.dockerfile_text) return does_not_go("a Dockerfile in words");
    if (is_elsewhere) return does_not_go("a Dockerfile from elsewhere");
    build.context = "-";
    build.context_tar = file->string();
    return {};
  }
  if (build.only_archive) return Error{ErrorKind::bad_input, "what is there is no archive", "", {}};
  // A Dockerfile alone: a context with nothing else, whatever name -f has. With a Dockerfile from
  // elsewhere it is a file like any.
  std::error_code cause;
  if (!is_elsewhere && (fs::file_size(*file, cause) > kMaxFetchedDockerfileBytes || head->empty()))
    return Error{ErrorKind::bad_input,
                 head->empty() ? "the file is empty"
                               : "the file is neither an archive nor, being larger than 512 KiB, a "
                                 "Dockerfile",
                 "",
                 {}};
  // Source: BuildKit frontend/dockerui/context.go; Buildah define/types.go, TempDirForURL.
  const std::string name = is_unpacked ? "Dockerfile" : "context";
  auto place = folder_with(*file, name);
  if (!place) return std::move(place).error();
  build.context = place->string();
  if (!is_elsewhere && !is_unpacked) build.file = (*place / name).string();
  build.is_fetched = true;
  return {};
}

Status FetchedSources::fetch_context(Build& build) {
  const auto* repository = std::get_if<GitSource>(&*build.remote);
  if (repository == nullptr) {
    auto fetched = fetch_web_context(build);
    build.remote.reset();
    return fetched;
  }
  const bool keeps = take_keep_git_dir(build) || build.keeps_git_dir;
  auto folder = clone(*repository, repository->keeps_git_dir.value_or(keeps), build);
  if (!folder) return std::move(folder).error();
  build.remote.reset();
  build.context = folder->string();
  build.is_fetched = true;
  // Docker looks for it in the repository alone, unless its path is absolute.
  if (build.lookup != Lookup::working_folder || build.file.empty() || build.file == "-" ||
      is_web_address(build.file) || build.file.starts_with('/'))
    return {};
  const auto file = (*folder / ("./" + build.file)).lexically_normal();
  if (!is_within(file, *folder))
    return Error{
        ErrorKind::bad_input, "the Dockerfile " + build.file + " is not in the context", "", {}};
  build.file = file.string();
  return {};
}

Status FetchedSources::fetch_files(Build& build) {
  std::vector<std::string*> files{&build.file};
  for (auto& more : build.more_files)
    files.push_back(&more);
  for (auto* file : files) {
    if (!is_web_address(*file)) continue;
    if (build.context == "-") return does_not_go("a Dockerfile from elsewhere");
    auto place = download(WebSource{*file}, kMaxFetchedDockerfileBytes);
    if (!place) return std::move(place).error().in("the Dockerfile " + shown_address(*file));
    *file = place->string();
  }
  return {};
}

/// An address without a scheme may be a folder's name, and that is meant then, as with docker.
bool FetchedSources::is_folder(const std::string& address) const {
  std::error_code cause;
  return address.find("://") == std::string::npos &&
         fs::is_directory(fs::path{world_.cwd} / address, cause);
}

Status FetchedSources::fetch_named(Build& build) {
  for (auto& [name, value] : build.named_contexts) {
    if (value.starts_with("docker-image://") || !is_remote_context(value) || is_folder(value))
      continue;
    auto source = read_remote(value);
    if (!source) return std::move(source).error();
    const std::string circumstance = "named context " + name + ": " + shown_address(value);
    if (auto* repository = std::get_if<GitSource>(&*source)) {
      if (build.lookup == Lookup::then_context) repository->has_submodules = false;
      auto folder = clone(*repository, repository->keeps_git_dir.value_or(false), build);
      if (!folder) return std::move(folder).error().in(circumstance);
      value = folder->string();
    } else {
      auto file = download(std::get<WebSource>(*source), kMaxFetchedFileBytes);
      if (!file) return std::move(file).error().in(circumstance);
      value = file->parent_path().string();
      if (build.lookup == Lookup::working_folder) continue;
      auto head = head_of(*file);
      if (!head) return std::move(head).error();
      auto folder =
          looks_like_archive(*head) ? unpack(*file, *head) : folder_with(*file, "Dockerfile");
      if (!folder) return std::move(folder).error().in(circumstance);
      value = folder->string();
    }
  }
  return {};
}

/// What was copied for programs that slipway lends is needed no longer, and may lie in the context.
void FetchedSources::give_back() {
  std::error_code cause;
  if (lent_environment_) fs::remove_all(folder_ / kLentName, cause);
  lent_environment_.reset();
}

Result<Build> FetchedSources::fetch(const Build& build) {
  auto local = fetch_all(build);
  give_back();
  return local;
}

Result<Build> FetchedSources::fetch_all(const Build& build) {
  Build local = build;
  if ((local.remote || !local.wrong_address.empty()) && is_folder(local.context)) {
    local.remote.reset();
    if (local.file_in_context && !local.file.empty() && !local.file.starts_with('/') &&
        !is_web_address(local.file))
      local.file = local.context + "/" + local.file;
  } else if (!local.wrong_address.empty()) {
    return Error{ErrorKind::bad_input, local.wrong_address, "", {}};
  }
  if (local.remote)
    if (auto fetched = fetch_context(local); !fetched)
      return std::move(fetched).error().in("the context " + shown_address(build.context));
  if (auto fetched = fetch_files(local); !fetched) return std::move(fetched).error();
  if (auto fetched = fetch_named(local); !fetched) return std::move(fetched).error();
  return local;
}

Result<std::string> FetchedSources::fetch_file(const std::string& address) {
  auto source = read_remote(address);
  if (!source) return std::move(source).error();
  auto file = download(WebSource{address}, kMaxFetchedFileBytes);
  give_back();
  if (!file) return std::move(file).error().in("fetching " + shown_address(address));
  return file->string();
}

int remove_when_ended(const std::string& folder, int until) {
  // Only what this program makes itself.
  if (fs::path{folder}.filename().string().rfind(kFolderName, 0) != 0) return 1;
  pid_t group = 0;
  for (;;) {
    pid_t said = 0;
    const auto got = ::read(until, &said, sizeof said);
    if (got < 0 && errno == EINTR) continue;
    if (got != static_cast<ssize_t>(sizeof said)) break;
    group = said;
  }
  // The program that was fetching has ended with its caller; what it had started has not, and holds
  // logins. Its number is not given out again while one of the group is there.
  if (group > 1) (void)::kill(-group, SIGKILL);
  std::error_code cause;
  for (int tries = 0; tries < 20; ++tries) {
    fs::remove_all(folder, cause);
    if (!fs::exists(folder, cause)) return 0;
    std::this_thread::sleep_for(std::chrono::milliseconds{100});
  }
  return 1;
}

} // namespace slipway::shim
