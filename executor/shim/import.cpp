// SPDX-License-Identifier: Apache-2.0
#include "executor/shim/import.hpp"

#include "executor/base/file.hpp"
#include "executor/base/unique_fd.hpp"
#include "executor/shim/build_context.hpp"
#include "executor/shim/containers.hpp"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <unistd.h>

#include <algorithm>
#include <filesystem>
#include <set>
#include <vector>

namespace slipway::shim {
namespace {

namespace fs = std::filesystem;

constexpr const char* kArchive = "rootfs.tar";
constexpr std::size_t kPart = 256UL << 10;

/// One of those that docker takes, in a line of its own. Source: moby
/// daemon/builder/dockerfile/builder.go, validCommitCommands.
bool is_change(const std::string& change) {
  static const std::set<std::string> known{"CMD",   "ENTRYPOINT", "ENV",         "EXPOSE",
                                           "LABEL", "ONBUILD",    "HEALTHCHECK", "STOPSIGNAL",
                                           "USER",  "VOLUME",     "WORKDIR"};
  std::string word = change.substr(0, change.find(' '));
  std::transform(word.begin(), word.end(), word.begin(),
                 [](char c) { return c >= 'a' && c <= 'z' ? static_cast<char>(c - 32) : c; });
  return known.contains(word) && change.find('\n') == std::string::npos && !change.ends_with('\\');
}

Status copy_archive(int from, const fs::path& to) {
  const UniqueFd file{::open(to.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600)};
  if (!file) return io_error("open", errno, to.string());
  std::vector<char> part(kPart);
  std::size_t filled = 0;
  for (bool is_first = true;;) {
    const ssize_t got = ::read(from, part.data() + filled, part.size() - filled);
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) return io_error("read", errno, "the archive");
    filled += static_cast<std::size_t>(got);
    if (got > 0 && filled < part.size()) continue;
    if (is_first && !looks_like_archive({part.data(), filled}))
      return Error{ErrorKind::bad_input,
                   "it is not an archive: a tar, plain or packed by gzip, bzip2, xz or zstd",
                   "",
                   {}};
    is_first = false;
    if (auto written = write_all(file.get(), {part.data(), filled}); !written) return written;
    if (got == 0) return {};
    filled = 0;
  }
}

} // namespace

Command read_import(Tool& tool, const std::string& called, const Words& words,
                    const std::string& platform) {
  const bool is_podman = tool.name == "podman";
  return read_command(
      tool, called, words,
      {"[OPTIONS] file|- [REPOSITORY[:TAG]]",
       {{"change", 'c'},
        {"message", 'm', Takes::value, Use::say, "what is imported keeps no message"},
        {"platform"},
        {"quiet", 'q', Takes::nothing, Use::ignore}},
       1,
       2,
       [&](const Line& line) -> Command {
         Import import;
         import.source = line.arguments.front();
         Build& build = import.build;
         build.called = called;
         build.dialect = tool.name;
         build.quiet = true;
         if (line.arguments.size() > 1)
           build.tags = is_podman ? stored_names(line.arguments[1])
                                  : std::vector<std::string>{line.arguments[1]};
         if (auto text = check_tags(build); !text.empty())
           return usage_error(tool.manner, called, text);
         const auto typed = line.last("platform");
         const auto& wanted = typed.empty() ? platform : typed;
         if (wanted.find(',') != std::string::npos)
           return usage_error(tool.manner, called,
                              unsupported("--platform " + wanted, "an import has one"));
         if (!wanted.empty()) build.platforms = {wanted};
         std::string text = std::string{"FROM scratch\nADD "} + kArchive + " /\n";
         for (auto change : line.all("change")) {
           // CMD=/bin/sh, which podman(1) has.
           const auto equals = change.find('=');
           if (is_podman && change.find(' ') == std::string::npos && equals != std::string::npos)
             change[equals] = ' ';
           if (!is_change(change))
             return usage_error(tool.manner, called,
                                "\"" + change + "\" is not a valid change command");
           text += change + "\n";
         }
         build.dockerfile_text = std::move(text);
         return import;
       }});
}

Result<std::string> folder_of_import(const std::string& source, const std::string& cwd, int input) {
  UniqueFd file;
  if (source != "-") {
    file = UniqueFd{::open((fs::path{cwd} / source).c_str(), O_RDONLY | O_CLOEXEC)};
    if (!file && errno == ENOENT)
      return Error{ErrorKind::not_found, "open " + source + ": no such file or directory", "", {}};
    if (!file) return io_error("open", errno, source);
  }
  std::error_code cause;
  const auto place = fs::temp_directory_path(cause);
  if (cause)
    return Error{ErrorKind::not_found,
                 "no folder for temporary files: " + cause.message(),
                 "TMPDIR names one",
                 {}};
  std::string folder = (place / "slipway-import-XXXXXX").string();
  if (::mkdtemp(folder.data()) == nullptr) return io_error("mkdtemp", errno, folder);
  if (auto copied = copy_archive(file ? file.get() : input, fs::path{folder} / kArchive); !copied) {
    fs::remove_all(folder, cause);
    return std::move(copied).error().in("importing " + source);
  }
  return folder;
}

} // namespace slipway::shim
