// SPDX-License-Identifier: Apache-2.0
#include "executor/shim/session_run.hpp"

#include "executor/base/file.hpp"
#include "executor/shim/build_context.hpp"
#include "executor/shim/frames.hpp"
#include "executor/shim/parsing.hpp"
#include "executor/shim/tar_stream.hpp"

#include <nlohmann/json.hpp>

#include <glob.h>

#include <algorithm>
#include <filesystem>
#include <memory>
#include <utility>
#include <vector>

namespace slipway::shim {
namespace {

namespace fs = std::filesystem;
using Json = nlohmann::ordered_json;

constexpr const char* kPlace = "/slipway/v1/buildah";
constexpr std::size_t kMaxRefusal = 1UL << 20;

/// Errors: bad_input (a word is not UTF-8, in which alone it could go on).
Result<std::string> order_of(const SessionCommand& command) {
  Json options = Json::array();
  for (const auto& [name, value] : command.options)
    options.push_back(Json::array({name, value}));
  Json proxies = Json::array();
  for (const auto& [name, value] : command.proxies)
    proxies.push_back(Json::array({name, value}));
  const Json order{{"verb", command.verb},         {"options", std::move(options)},
                   {"pull", command.pull},         {"arguments", command.arguments},
                   {"names", command.names},       {"remove", command.remove},
                   {"proxies", std::move(proxies)}};
  auto text = order.dump(-1, ' ', false, Json::error_handler_t::replace);
  if (Json::parse(text, nullptr, false) != order) return not_utf8(command.called);
  return text;
}

/// The files that a source means, as buildah reads it: a pattern, or a name as it is.
std::vector<std::string> files_of(const std::string& source, const std::string& cwd) {
  const auto path = (fs::path{cwd} / source).string();
  std::error_code failed;
  if (fs::exists(fs::symlink_status(path, failed))) return {path};
  std::vector<std::string> files;
  glob_t found{};
  // NOLINTNEXTLINE(concurrency-mt-unsafe): no other thread runs
  if (::glob(path.c_str(), GLOB_NOSORT, nullptr, &found) == 0)
    files.assign(found.gl_pathv, found.gl_pathv + found.gl_pathc);
  ::globfree(&found);
  std::sort(files.begin(), files.end());
  return files;
}

/// Sources are patterns where they arrive, too.
std::string escaped(const std::string& name) {
  std::string text;
  for (const char c : name) {
    if (c == '*' || c == '?' || c == '[' || c == ']' || c == '\\') text += '\\';
    text += c;
  }
  return text;
}

class Runner {
public:
  Runner(const SessionCommand& command, const Surroundings& world, const BrokerClient& client,
         const Manner& manner)
      : command_{command}, world_{world}, client_{client}, manner_{manner} {}

  int run() {
    const bool has_files = (command_.verb == "copy" || command_.verb == "add") &&
                           !command_.container_files && command_.arguments.size() > 1;
    if (has_files)
      if (auto taken = take_files(); !taken) return fail(taken.error());
    if (auto found = find_volumes(); !found) return fail(found.error());
    if (command_.takes_input) return exchange_both_ways();
    if (!command_.id_file.empty()) return with_id_file();
    return exchange(world_.out);
  }

private:
  int fail(const Error& error) const {
    return fail(error.text() + (error.hint.empty() ? "" : "\n" + error.hint));
  }
  int fail(const std::string& text) const {
    world_.err(std::string{manner_.error} + text + "\n");
    return manner_.exit_code;
  }

  /// Folders of the workspace, which the sandbox has under the same path.
  Status find_volumes() {
    if (command_.verb == "config") return {}; // those of the image
    for (auto& [name, value] : command_.options) {
      if (name != "volume") continue;
      const auto colon = value.find(':');
      if (colon == std::string::npos)
        return Error{
            ErrorKind::bad_input, "--volume " + value + ": no folder to mount it on", "", {}};
      auto source = workspace_folder(value.substr(0, colon), world_);
      if (!source) return std::move(source).error().in("--volume " + value);
      std::string rest = value.substr(colon + 1);
      std::string target = rest.substr(0, rest.find(':'));
      bool read_only = false;
      for (const auto& option :
           comma_parts(rest.substr(std::min(target.size() + 1, rest.size())))) {
        // z and Z are about labels that are not here.
        if (option != "ro" && option != "rw" && option != "z" && option != "Z" && !option.empty())
          return Error{ErrorKind::bad_input,
                       "--volume " + value + ": slipway does not support the option " + option,
                       "ro, rw, z and Z can be said",
                       {}};
        read_only = read_only || option == "ro";
      }
      value = *source + ":" + target + (read_only ? ":ro" : "");
    }
    return {};
  }

  /// Each file that is named goes into the tar, below a folder of its own.
  Status take_files() {
    auto& words = command_.arguments;
    const bool has_destination = words.size() > 2;
    std::vector<std::string> sent{words.front()};
    for (std::size_t i = 1; i < words.size() - (has_destination ? 1 : 0); ++i) {
      if (words[i].starts_with("http://") || words[i].starts_with("https://")) {
        sent.push_back(words[i]);
        continue;
      }
      const auto files = files_of(words[i], world_.cwd);
      if (files.empty())
        return Error{ErrorKind::not_found, words[i] + ": no such file or directory", "", {}};
      for (const auto& file : files) {
        std::error_code failed;
        const auto real = fs::canonical(file, failed); // a link that is named means its file
        if (failed) return Error{ErrorKind::not_found, words[i] + ": " + failed.message(), "", {}};
        auto name = fs::path{file}.lexically_normal().filename().string();
        if (name.empty() || name == "." || name == "..") name = real.filename().string();
        if (name.empty()) name = "root";
        const auto folder = std::to_string(tars_.size());
        TarAs as;
        as.top = folder + "/" + name;
        as.what = "the files";
        tars_.push_back(std::make_shared<TarStream>(real, std::vector<ExtraFile>{}, as));
        sent.push_back(folder + "/" + escaped(name));
      }
    }
    // Without a destination files go into the working folder.
    if (has_destination)
      sent.push_back(words.back());
    else if (sent.size() > 2)
      sent.emplace_back(".");
    words = std::move(sent);
    return {};
  }

  Result<Request> request() const {
    auto order = order_of(command_);
    if (!order) return std::move(order).error();
    Request request;
    request.method = "POST";
    request.target = kPlace;
    request.long_running = true;
    if (tars_.empty()) {
      request.content_type = "application/json";
      request.body = *std::move(order);
      return request;
    }
    request.content_type = "application/vnd.slipway.session+tar";
    request.source = [this, line = *order + "\n", at = std::size_t{0}](
                         char* buffer, std::size_t room) mutable -> Result<std::size_t> {
      if (!line.empty()) {
        const auto count = line.copy(buffer, room);
        line.erase(0, count);
        return count;
      }
      while (at < tars_.size()) {
        auto got = tars_[at]->read(buffer, room);
        if (!got || *got > 0) return got;
        ++at;
      }
      return std::size_t{0};
    };
    return request;
  }

  int ended(const Frames& frames, int status, const std::string& body) const {
    if (status >= 400) return fail(message_in(body, status));
    if (frames.failed) return fail(*frames.failed);
    if (const auto code = frames.exit_code()) return *code;
    return fail("the broker ended before " + command_.called + " did");
  }

  int exchange(const Write& out) const {
    Frames frames{out, world_.err};
    std::string refused;
    const auto asked = request();
    if (!asked) return fail(asked.error());
    auto status = client_.call(*asked, [&](int code, std::string_view bytes) -> Status {
      if (code < 400)
        frames.feed(bytes);
      else if (refused.size() < kMaxRefusal)
        refused += bytes;
      return {};
    });
    if (!status) return fail(status.error());
    return ended(frames, *status, refused);
  }

  int exchange_both_ways() const {
    Frames frames{world_.out, world_.err};
    auto asked = request();
    if (!asked) return fail(asked.error());
    asked->upgrades = true;
    auto answer = client_.attach(
        *asked, world_.input, []() -> Status { return {}; },
        [&](std::string_view bytes) -> Status {
          frames.feed(bytes);
          return {};
        });
    if (!answer) return fail(answer.error());
    return ended(frames, answer->status, answer->body);
  }

  /// `from --cidfile` and `commit --iidfile`.
  int with_id_file() const {
    std::string said;
    const Write keep = [&](std::string_view bytes) { said += bytes; };
    const int code = exchange(keep);
    if (code != 0) {
      world_.out(said);
      return code;
    }
    std::string id = said.substr(0, said.find('\n'));
    if (command_.verb == "from") {
      world_.out(said);
      auto found = inspect_working_container(id, "{{.ContainerID}}", world_, client_);
      if (!found) return fail("container " + id + " is gone already");
      id = found->substr(0, found->find('\n'));
    } else {
      id.insert(0, "sha256:");
    }
    auto written = replace_file((fs::path{world_.cwd} / command_.id_file).string(), id, 0644);
    return written ? 0 : fail(written.error());
  }

  SessionCommand command_;
  const Surroundings& world_;
  const BrokerClient& client_;
  const Manner& manner_;
  std::vector<std::shared_ptr<TarStream>> tars_;
};

} // namespace

int run_session_command(const SessionCommand& command, const Surroundings& world,
                        const BrokerClient& client, const Manner& manner) {
  return Runner{command, world, client, manner}.run();
}

std::optional<std::string> inspect_working_container(const std::string& name,
                                                     const std::string& format,
                                                     const Surroundings& world,
                                                     const BrokerClient& client) {
  SessionCommand command;
  command.verb = "inspect";
  command.called = "buildah inspect";
  command.options = {{"type", "container"}};
  if (!format.empty()) command.options.emplace_back("format", format);
  command.arguments = {name};
  std::string said;
  Surroundings quiet = world;
  quiet.out = [&](std::string_view bytes) { said += bytes; };
  quiet.err = [](std::string_view) {};
  if (run_session_command(command, quiet, client, Manner{}) != 0) return std::nullopt;
  return said;
}

} // namespace slipway::shim
