// SPDX-License-Identifier: Apache-2.0
#include "executor/shim/build_context.hpp"

#include "executor/base/file.hpp"
#include "executor/base/tar_headers.hpp"
#include "executor/base/unique_fd.hpp"
#include "executor/shim/tar_stream.hpp"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#include <algorithm>
#include <filesystem>
#include <memory>
#include <utility>

namespace slipway::shim {
namespace {

namespace fs = std::filesystem;

constexpr std::size_t kMaxDockerfileBytes = 512UL << 10;
constexpr std::size_t kTarMagicEnd = 262;
constexpr std::size_t kTarBlock = 512;
constexpr const char* kSentDockerfile = ".dockerfile.slipway";

Error context_error(const std::string& what) {
  return Error{ErrorKind::not_found, "unable to prepare context: " + what, "", {}};
}

bool is_below(const fs::path& path, const fs::path& dir) {
  const auto relative = path.lexically_relative(dir);
  return !relative.empty() && *relative.begin() != "..";
}

bool in_workspace(const fs::path& path, const Surroundings& world) {
  return std::any_of(world.workspaces.begin(), world.workspaces.end(),
                     [&](const std::string& workspace) {
                       std::error_code cause;
                       const auto dir = fs::canonical(workspace, cause);
                       return !cause && is_below(path, dir);
                     });
}

BodySource streamed(TarStream tar) {
  auto shared = std::make_shared<TarStream>(std::move(tar));
  return [shared](char* buffer, std::size_t capacity) { return shared->read(buffer, capacity); };
}

Result<std::size_t> read_some(int fd, char* buffer, std::size_t capacity) {
  for (;;) {
    const ssize_t got = ::read(fd, buffer, capacity);
    if (got >= 0) return static_cast<std::size_t>(got);
    if (errno != EINTR) return io_error("read", errno, "stdin");
  }
}

/// `docker build -`: a tar, or else a Dockerfile without a context.
Result<BuildContext> context_from_stdin(const Build& build, const Surroundings& world) {
  int input = world.input;
  std::shared_ptr<UniqueFd> file;
  if (!build.context_tar.empty()) {
    const auto path = fs::path{world.cwd} / build.context_tar;
    file = std::make_shared<UniqueFd>(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
    if (!*file)
      return context_error("opening the context: " + path.string() + ": " + errno_text(errno));
    input = file->get();
  }
  std::string head(4096, '\0');
  std::size_t filled = 0;
  while (filled < head.size()) {
    auto got = read_some(input, head.data() + filled, head.size() - filled);
    if (!got) return std::move(got).error();
    if (*got == 0) break;
    filled += *got;
  }
  head.resize(filled);
  BuildContext context;
  if (looks_like_archive(head)) {
    context.dockerfile = build.file.empty() ? "Dockerfile" : build.file;
    context.tar = [head, at = std::size_t{0}, fd = input,
                   file](char* buffer, std::size_t capacity) mutable -> Result<std::size_t> {
      if (at == head.size()) return read_some(fd, buffer, capacity);
      const std::size_t count = std::min(capacity, head.size() - at);
      std::copy_n(head.data() + at, count, buffer);
      at += count;
      return count;
    };
    return context;
  }
  if (build.only_archive)
    return context_error("the context " +
                         (build.context_tar.empty() ? "on stdin" : build.context_tar) +
                         " is not a tar archive");
  auto rest = read_all(input, kMaxDockerfileBytes, "the Dockerfile on stdin");
  if (!rest) return std::move(rest).error();
  if (head.empty())
    return Error{ErrorKind::bad_input, "failed to build: the Dockerfile on stdin is empty", "", {}};
  context.dockerfile = "Dockerfile";
  context.tar = streamed(TarStream{{}, {{"Dockerfile", head + *rest}}});
  return context;
}

struct FoundDockerfile {
  std::string name;                ///< relative to the context, or absolute
  std::optional<std::string> text; ///< where the builder cannot reach it
  bool has_file = true;            ///< other files may lie beside it
};

fs::path named_dockerfile(const Build& build, const std::string& typed, const fs::path& dir,
                          const Surroundings& world) {
  std::error_code cause;
  if (typed.empty()) {
    for (const auto& name : build.default_files)
      if (fs::exists(dir / name, cause)) return dir / name;
    return dir / "Dockerfile";
  }
  fs::path file = (fs::path{world.cwd} / typed).lexically_normal();
  if (build.lookup == Lookup::then_context && !fs::exists(file, cause)) {
    fs::path inside = (dir / typed).lexically_normal();
    if (fs::exists(inside, cause)) return inside;
  }
  return file;
}

/// Of a folder that others wrote nothing is read here that lies outside of it: it would be a file
/// of the job. Errors: bad_input.
Status keep_inside(const Build& build, const fs::path& file, const fs::path& dir) {
  if (!build.is_fetched || !is_below(file.lexically_normal(), dir)) return {};
  std::error_code cause;
  const auto real = fs::weakly_canonical(file, cause);
  if (!cause && is_below(real, dir)) return {};
  return Error{ErrorKind::bad_input,
               file.lexically_relative(dir).string() + " leads out of the context that was fetched",
               "",
               {}};
}

/// What a build leaves out of its context, where that does not stand in a file that builders read
/// by themselves. Source: Buildah pkg/parse, ContainerIgnoreFile.
Result<std::optional<std::string>> ignore_text(const Build& build, const fs::path& dir,
                                               const FoundDockerfile& dockerfile,
                                               const Surroundings& world) {
  std::error_code cause;
  const auto exists = [&](const fs::path& file) { return fs::exists(file, cause); };
  fs::path file;
  if (!build.ignore_file.empty()) {
    file = fs::path{world.cwd} / build.ignore_file;
  } else if (build.has_container_ignore_file) {
    std::vector<std::string> files = build.more_files;
    if (dockerfile.has_file) files.insert(files.begin(), build.file);
    for (std::size_t at = 0; at < files.size() && file.empty(); ++at) {
      const auto own = named_dockerfile(build, files[at], dir, world).string();
      if (exists(own + ".dockerignore"))
        file = own + ".dockerignore";
      else if (exists(own + ".containerignore"))
        file = own + ".containerignore";
    }
    if (file.empty() && exists(dir / ".containerignore")) file = dir / ".containerignore";
    // Beside a Dockerfile that goes as a file it is found.
    const bool is_text = dockerfile.text.has_value() || !build.more_files.empty();
    if (!is_text && file.extension() == ".dockerignore") file.clear();
  }
  if (file.empty()) return std::optional<std::string>{};
  if (auto inside = keep_inside(build, file, dir); !inside) return std::move(inside).error();
  auto text = read_file(file, kMaxDockerfileBytes);
  if (!text) return std::move(text).error().in("reading what the build leaves out");
  return std::optional{*std::move(text)};
}

/// The Dockerfile becomes text, with the lines of further ones. Errors: io, bad_input.
Status take_text(FoundDockerfile& dockerfile, const Build& build, const fs::path& dir,
                 const Surroundings& world) {
  const auto read = [&](const std::string& typed) -> Result<std::string> {
    const auto file = named_dockerfile(build, typed, dir, world);
    if (auto inside = keep_inside(build, file, dir); !inside) return std::move(inside).error();
    return read_file(file, kMaxDockerfileBytes);
  };
  if (!dockerfile.text) {
    auto text = read(build.file);
    if (!text) return std::move(text).error();
    dockerfile.text = *std::move(text);
    dockerfile.name.clear();
  }
  for (const auto& more : build.more_files) {
    auto text = read(more);
    if (!text) return std::move(text).error();
    if (dockerfile.text->substr(0, dockerfile.text->find_last_not_of('\n') + 1).ends_with('\\'))
      return Error{ErrorKind::bad_input,
                   "the last line before " + more + " goes on: it ends in a backslash",
                   "end it, or put the parts into one file",
                   {}};
    if (text->starts_with("\xef\xbb\xbf")) text->erase(0, 3);
    *dockerfile.text += "\n" + *text;
  }
  return {};
}

Result<FoundDockerfile> find_dockerfile(const Build& build, const fs::path& dir,
                                        const Surroundings& world) {
  if (build.dockerfile_text) return FoundDockerfile{"", build.dockerfile_text, false};
  if (build.file == "-") {
    auto text = read_all(world.input, kMaxDockerfileBytes, "the Dockerfile on stdin");
    if (!text) return std::move(text).error();
    if (text->empty())
      return Error{
          ErrorKind::bad_input, "failed to build: the Dockerfile on stdin is empty", "", {}};
    return FoundDockerfile{"", *std::move(text), false};
  }
  std::error_code cause;
  const fs::path file = named_dockerfile(build, build.file, dir, world);
  if (auto inside = keep_inside(build, file, dir); !inside) return std::move(inside).error();
  const auto parent = fs::canonical(file.parent_path(), cause);
  const auto real = cause ? fs::path{} : fs::canonical(file, cause);
  if (cause == std::errc::no_such_file_or_directory || cause == std::errc::not_a_directory)
    return context_error("unable to evaluate symlinks in Dockerfile path: lstat " + file.string() +
                         ": no such file or directory");
  if (cause)
    return context_error("the Dockerfile " + file.string() +
                         " cannot be reached: " + cause.message());
  if (fs::is_directory(real, cause))
    return context_error("the Dockerfile " + file.string() + " is a directory");
  // The name stays as typed, because NAME.dockerignore is looked for beside it.
  const auto named = parent / file.filename();
  if (is_below(named, dir) && is_below(real, dir))
    return FoundDockerfile{named.lexically_relative(dir).string(), {}};
  if (in_workspace(dir, world) && in_workspace(named, world) && in_workspace(real, world))
    return FoundDockerfile{named.string(), {}};
  auto text = read_file(real, kMaxDockerfileBytes);
  if (!text) return std::move(text).error();
  return FoundDockerfile{"", *std::move(text)};
}

} // namespace

bool looks_like_archive(std::string_view head) {
  using namespace std::string_view_literals;
  for (const auto magic : {"\x1f\x8b"sv, "BZh"sv,
                           "\xfd"
                           "7zXZ"sv,
                           "\x28\xb5\x2f\xfd"sv})
    if (head.starts_with(magic)) return true;
  if (head.size() >= kTarMagicEnd && head.compare(257, 5, "ustar") == 0) return true;
  // The oldest tars have no such word, but a sum.
  TarHeaders headers;
  return head.size() >= kTarBlock && headers.feed(head.substr(0, kTarBlock)) && !headers.ended();
}

Result<BuildContext> find_context(const Build& build, const Surroundings& world) {
  if (build.context == "-") return context_from_stdin(build, world);
  std::error_code cause;
  const auto dir = fs::canonical(fs::path{world.cwd} / build.context, cause);
  if (cause) {
    if (cause == std::errc::no_such_file_or_directory)
      return context_error("path \"" + build.context + "\" not found");
    return context_error("path \"" + build.context + "\": " + cause.message());
  }
  if (!fs::is_directory(dir, cause))
    return context_error("context must be a directory: " + dir.string());
  auto dockerfile = find_dockerfile(build, dir, world);
  if (!dockerfile) return std::move(dockerfile).error();
  auto ignored = ignore_text(build, dir, *dockerfile, world);
  if (!ignored) return std::move(ignored).error();
  // Builders read these two by themselves where nothing else says what is left out.
  if (!*ignored)
    for (const auto& file : {dir / ".dockerignore", dir / (dockerfile->name + ".dockerignore")})
      if (auto inside = keep_inside(build, file, dir); !inside) return std::move(inside).error();
  if (*ignored || !build.more_files.empty())
    if (auto whole = take_text(*dockerfile, build, dir, world); !whole)
      return std::move(whole).error();
  BuildContext context;
  context.dockerfile = dockerfile->name;
  if (in_workspace(dir, world)) {
    context.path = dir.string();
    context.dockerfile_text = std::move(dockerfile->text);
    context.ignore_text = *std::move(ignored);
    return context;
  }
  std::vector<ExtraFile> extra;
  if (dockerfile->text) {
    extra.push_back({kSentDockerfile, *std::move(dockerfile->text)});
    context.dockerfile = kSentDockerfile;
    // Neither of the two is a file of the job, nor is the context's own ignore file read any more.
    auto own = *ignored ? Result<std::string>{**ignored}
                        : read_file(dir / ".dockerignore", kMaxDockerfileBytes);
    if (!own && own.error().kind != ErrorKind::not_found) return std::move(own).error();
    extra.push_back({std::string{kSentDockerfile} + ".dockerignore",
                     (own ? *own : "") + "\n" + kSentDockerfile + "*\n"});
  }
  context.tar = streamed(TarStream{dir, std::move(extra)});
  return context;
}

Result<std::string> workspace_folder(const std::string& typed, const Surroundings& world) {
  std::error_code cause;
  const auto dir = fs::canonical(fs::path{world.cwd} / typed, cause);
  if (cause) return Error{ErrorKind::not_found, "stat " + typed + ": " + cause.message(), "", {}};
  if (!fs::is_directory(dir, cause))
    return Error{ErrorKind::bad_input, dir.string() + " is not a directory", "", {}};
  if (!in_workspace(dir, world))
    return Error{ErrorKind::bad_input,
                 dir.string() + " is not below " + world.workspaces.front() +
                     ", so the builder does not see it",
                 "copy it into the workspace",
                 {}};
  return dir.string();
}

} // namespace slipway::shim
