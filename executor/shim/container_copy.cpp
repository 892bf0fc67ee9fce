// SPDX-License-Identifier: Apache-2.0
#include "executor/shim/container_copy.hpp"

#include "executor/base/percent.hpp"
#include "executor/shim/flags.hpp"
#include "executor/shim/output.hpp"
#include "executor/shim/tar_extract.hpp"
#include "executor/shim/tar_stream.hpp"

#include <nlohmann/json.hpp>

#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <filesystem>
#include <functional>
#include <optional>
#include <string>
#include <string_view>
#include <utility>

namespace slipway::shim {
namespace {

namespace fs = std::filesystem;
using Json = nlohmann::ordered_json;

constexpr std::size_t kMaxAnswer = 64UL << 10; ///< of an error
constexpr int kMaxLinks = 16;                  ///< followed one after the other

/// One side of the copy.
struct Side {
  std::string container; ///< "" = the job
  std::string path;      ///< as typed
};

/// Source: docker/cli, cli/command/container/cp.go, splitCpArg.
Side side_of(const std::string& word) {
  const auto colon = word.find(':');
  if (word.starts_with('/') || word.starts_with('.') || colon == std::string::npos)
    return {"", word};
  return {word.substr(0, colon), word.substr(colon + 1)};
}

/// "dir/." and "." mean what is in the folder, and not the folder itself.
bool means_content(const std::string& path) {
  return path == "." || path.ends_with("/.") || path == "/";
}
bool wants_folder(const std::string& path) {
  return path.ends_with('/') || means_content(path);
}

std::string normal(const fs::path& path) {
  auto text = path.lexically_normal().string();
  if (text.size() > 1 && text.ends_with('/')) text.pop_back();
  return text;
}

std::string name_of(const std::string& path) {
  return fs::path{path}.filename().string();
}
std::string parent_of(const std::string& path) {
  return fs::path{path}.parent_path().string();
}

/// Of something in a container.
struct Facts {
  bool is_folder = false;
  std::string link; ///< where it leads, of a link
};

class Copy {
public:
  Copy(const ContainerCommand& command, const Surroundings& world, const BrokerClient& client)
      : line_{command.flags, command.arguments, {}, false}, world_{world}, client_{client} {}

  int run() const {
    const Side from = side_of(line_.arguments[0]);
    const Side to = side_of(line_.arguments[1]);
    if (!from.container.empty() && !to.container.empty())
      return fail("copying between containers is not supported");
    if (from.container.empty() && to.container.empty())
      return fail("must specify at least one container source");
    auto copied = from.container.empty() ? put(from.path, to) : get(from, to.path);
    if (!copied) return fail(copied.error().text());
    if (*copied && !line_.has("quiet"))
      world_.err(
          "Successfully copied " + human_size(**copied) + " to " +
          (to.container.empty() ? normal(fs::path{world_.cwd} / to.path) : line_.arguments[1]) +
          "\n");
    return 0;
  }

private:
  using Copied = Result<std::optional<std::uint64_t>>; ///< bytes of the tar; none: say nothing

  int fail(const std::string& text) const {
    world_.err(text + "\n");
    return 1;
  }

  static Error refused(const std::string& what) {
    return Error{ErrorKind::bad_input, what, "", {}};
  }

  static std::string target(const std::string& container, const std::string& path) {
    return "/containers/" + percent_encode(container) + "/archive?path=" + percent_encode(path);
  }

  static Error daemon_error(int status, const std::string& body) {
    const Json json = Json::parse(body, nullptr, false);
    const auto message = json.is_object() ? json.value("message", Json()) : Json();
    return refused("Error response from daemon: " +
                   (message.is_string()
                        ? message.get<std::string>()
                        : "the broker answered with status " + std::to_string(status)));
  }

  /// Streams what is at `path`. Errors: those of the broker and of `sink`.
  Status fetch(const std::string& container, const std::string& path,
               const std::function<Status(std::string_view)>& sink) const {
    std::string body;
    auto status = client_.call({.target = target(container, path), .long_running = true},
                               [&](int code, std::string_view bytes) -> Status {
                                 if (code < 400) return sink(bytes);
                                 if (body.size() < kMaxAnswer) body += bytes;
                                 return {};
                               });
    if (!status) return std::move(status).error();
    if (*status == 404 && body.find("No such container") == std::string::npos) {
      auto missing = daemon_error(*status, body);
      missing.kind = ErrorKind::not_found;
      return missing;
    }
    if (*status >= 400) return daemon_error(*status, body);
    return {};
  }

  /// None where the container has no such thing. The first entry of a tar says it; the rest is not
  /// waited for.
  Result<std::optional<Facts>> look_at(const std::string& container,
                                       const std::string& path) const {
    TarHeaders headers;
    std::optional<Facts> facts;
    auto fetched = fetch(container, path, [&](std::string_view bytes) -> Status {
      if (auto taken = headers.feed(bytes); !taken) return std::move(taken).error();
      if (!headers.entry()) return {};
      facts = Facts{headers.entry()->type == '5',
                    headers.entry()->type == '2' ? headers.entry()->link : ""};
      return refused("that is enough");
    });
    if (facts) return facts;
    if (!fetched && fetched.error().kind == ErrorKind::not_found) return std::optional<Facts>{};
    if (!fetched) return std::move(fetched).error();
    return refused("the broker's archive of " + path + " is empty");
  }

  /// Follows links: `path` becomes what they lead to.
  Result<std::optional<Facts>> look_behind(const std::string& container, std::string& path) const {
    for (int i = 0; i < kMaxLinks; ++i) {
      auto facts = look_at(container, path);
      if (!facts || !*facts || (*facts)->link.empty()) return facts;
      path = normal(fs::path{parent_of(path)} / (*facts)->link);
    }
    return refused("too many levels of symbolic links: " + path);
  }

  // ---- out of a container ----------------------------------------------------------------------

  Copied get(const Side& from, const std::string& to) const {
    const std::string path = from.path.starts_with('/') ? from.path : "/" + from.path;
    if (to == "-") {
      auto fetched = fetch(from.container, path, [this](std::string_view bytes) -> Status {
        world_.out(bytes);
        return {};
      });
      if (!fetched) return std::move(fetched).error();
      return std::optional<std::uint64_t>{};
    }
    std::string source = normal(path);
    auto facts = line_.has("follow-link") ? look_behind(from.container, source)
                                          : look_at(from.container, source);
    if (!facts) return std::move(facts).error();
    if (!*facts)
      return refused("Error response from daemon: Could not find the file " + path +
                     " in container " + from.container);
    auto place = place_for((*facts)->is_folder, means_content(path), name_of(normal(path)), to);
    if (!place) return std::move(place).error();
    const UniqueFd folder{::open(place->first.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC)};
    if (!folder) return io_error("open", errno, place->first);
    TarExtractor extractor{folder.get(), place->second, line_.has("archive")};
    std::uint64_t size = 0;
    auto fetched = fetch(from.container, source, [&](std::string_view bytes) {
      size += bytes.size();
      return extractor.feed(bytes);
    });
    if (!fetched) return std::move(fetched).error();
    if (auto written = extractor.finish(); !written) return std::move(written).error();
    return std::optional{size};
  }

  /// The folder of the job that is written to, and the name there; "" where the content goes into
  /// it. Source: docker cp's documentation, "Description".
  Result<std::pair<std::string, std::string>>
  place_for(bool is_folder, bool content, const std::string& name, const std::string& to) const {
    const auto path = normal(fs::path{world_.cwd} / to);
    struct stat info {};
    const bool is_there = ::stat(path.c_str(), &info) == 0;
    if (is_there && S_ISDIR(info.st_mode))
      return std::pair{path, is_folder && content ? std::string{} : name};
    if (is_folder && is_there) return refused("cannot copy directory");
    if (!is_folder && wants_folder(to))
      return refused(is_there ? "not a directory: " + to : "no such directory: " + to);
    if (::stat(parent_of(path).c_str(), &info) != 0 || !S_ISDIR(info.st_mode))
      return refused("invalid output path: directory \"" + parent_of(path) + "\" does not exist");
    return std::pair{parent_of(path), name_of(path)};
  }

  // ---- into a container ------------------------------------------------------------------------

  Copied put(const std::string& from, const Side& to) const {
    std::string path = normal("/" + to.path);
    std::uint64_t size = 0;
    if (from == "-") {
      auto sent = send(to.container, path, size, [this](char* buffer, std::size_t capacity) {
        return read_input(buffer, capacity);
      });
      if (!sent) return std::move(sent).error();
      return std::optional<std::uint64_t>{};
    }
    const auto source = normal(fs::path{world_.cwd} / from);
    struct stat info {};
    const bool follows = line_.has("follow-link");
    if ((follows ? ::stat(source.c_str(), &info) : ::lstat(source.c_str(), &info)) != 0)
      return refused("lstat " + source + ": " + errno_text(errno));
    const bool is_folder = S_ISDIR(info.st_mode);
    auto facts = look_behind(to.container, path);
    if (!facts) return std::move(facts).error();
    TarAs as{name_of(source), line_.has("archive"), "what is copied"};
    if (*facts && (*facts)->is_folder) {
      if (is_folder && means_content(from)) as.top.clear();
    } else {
      if (*facts && is_folder) return refused("cannot copy directory");
      if (!is_folder && wants_folder(to.path))
        return refused(*facts ? "not a directory: " + to.path : "no such directory: " + to.path);
      as.top = name_of(path);
      path = parent_of(path);
    }
    std::error_code cause;
    const auto root = follows ? fs::canonical(source, cause) : fs::path{source};
    if (cause) return refused("lstat " + source + ": " + cause.message());
    TarStream tar{root, {}, as};
    auto sent = send(to.container, path, size, [&tar](char* buffer, std::size_t capacity) {
      return tar.read(buffer, capacity);
    });
    if (!sent) return std::move(sent).error();
    return std::optional{size};
  }

  Result<std::size_t> read_input(char* buffer, std::size_t capacity) const {
    for (;;) {
      const ssize_t got = ::read(world_.input, buffer, capacity);
      if (got >= 0) return static_cast<std::size_t>(got);
      if (errno != EINTR) return io_error("read", errno, "the tar on stdin");
    }
  }

  Status send(const std::string& container, const std::string& path, std::uint64_t& size,
              const BodySource& tar) const {
    std::string body;
    auto status =
        client_.call({.method = "PUT",
                      .target = target(container, path) + "&noOverwriteDirNonDir=true" +
                                (line_.has("archive") ? "&copyUIDGID=true" : ""),
                      .content_type = "application/x-tar",
                      .source = [&](char* buffer, std::size_t capacity) -> Result<std::size_t> {
                        auto got = tar(buffer, capacity);
                        if (got) size += *got;
                        return got;
                      },
                      .long_running = true},
                     [&](int, std::string_view bytes) -> Status {
                       if (body.size() < kMaxAnswer) body += bytes;
                       return {};
                     });
    if (!status) return std::move(status).error();
    return *status >= 400 ? Status{daemon_error(*status, body)} : Status{};
  }

  Line line_;
  const Surroundings& world_;
  const BrokerClient& client_;
};

} // namespace

int copy_files(const ContainerCommand& command, const Surroundings& world,
               const BrokerClient& client) {
  return Copy{command, world, client}.run();
}

} // namespace slipway::shim
