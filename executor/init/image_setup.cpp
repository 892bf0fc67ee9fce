// SPDX-License-Identifier: Apache-2.0
#include "executor/init/image_setup.hpp"

#include "executor/init/users.hpp"

#include <algorithm>
#include <array>
#include <charconv>
#include <string>
#include <system_error>
#include <vector>

namespace slipway::init {
namespace fs = std::filesystem;
namespace {

constexpr std::array<const char*, 6> kPathFolders{"usr/local/sbin", "usr/local/bin", "usr/sbin",
                                                  "usr/bin",        "sbin",          "bin"};
constexpr std::array<const char*, 4> kPluginFolders{
    "usr/libexec/docker/cli-plugins", "usr/local/libexec/docker/cli-plugins",
    "usr/lib/docker/cli-plugins", "usr/local/lib/docker/cli-plugins"};
constexpr const char* kUsersPlugins = ".docker/cli-plugins";
constexpr const char* kOwnFolder = "run/slipway";
constexpr std::size_t kMostPasswdBytes = 1UL << 20;

// Tools that the shim speaks for, beside docker. Only where the image has them.
constexpr std::array<const char*, 5> kTools{"podman", "buildah", "img", "buildctl",
                                            "buildctl-daemonless.sh"};
// Compose is not only builds: what it does with containers goes on in the image's own program.
constexpr const char* kCompose = "docker-compose";
constexpr const char* kKeptCompose = ".docker-compose.image";
constexpr const char* kKaniko = "kaniko/executor"; // a path of its own, in no PATH folder

bool is_there(const fs::path& path) {
  std::error_code ignored;
  return fs::symlink_status(path, ignored).type() != fs::file_type::not_found;
}

// A rename puts the link in place of a file in one step, also of a program that runs.
bool replace_by_link(const fs::path& path, const fs::path& target) {
  const fs::path fresh = path.string() + ".slipway-new";
  std::error_code failed;
  fs::remove(fresh, failed);
  fs::create_symlink(target, fresh, failed);
  if (failed) return false;
  fs::rename(fresh, path, failed);
  if (!failed) return true;
  std::error_code ignored;
  fs::remove(fresh, ignored);
  return false;
}

bool is_program(const fs::path& path) {
  std::error_code ignored;
  const auto type = fs::symlink_status(path, ignored).type();
  return type == fs::file_type::regular || type == fs::file_type::symlink;
}

// The program stays within reach under another name; where that fails it stays as it is.
bool keep_beside(const fs::path& path, const fs::path& kept, const fs::path& target) {
  std::error_code failed;
  if (fs::read_symlink(path, failed) == target) return true; // of an earlier start
  fs::rename(path, kept, failed);
  if (failed) return false;
  if (replace_by_link(path, target)) return true;
  fs::rename(kept, path, failed);
  return false;
}

// Relative to the image's root; "" where the image's word does not count.
std::string image_folder(std::string_view word) {
  if (!word.starts_with('/') || word.size() > 1024) return "";
  const auto folder = fs::path{word}.lexically_normal().relative_path().string();
  return folder.starts_with(kOwnFolder) ? "" : folder;
}

void add_once(std::vector<std::string>& folders, std::string folder) {
  if (folder.ends_with('/')) folder.pop_back();
  if (!folder.empty() && std::find(folders.begin(), folders.end(), folder) == folders.end())
    folders.push_back(std::move(folder));
}

// Calls with each of the first kMostFolders parts of the text.
template <typename Visit>
void for_each_part(std::string_view text, char separator, const Visit& visit) {
  for (std::size_t count = 0; count < kMostFolders && !text.empty(); ++count) {
    const auto at = text.find(separator);
    visit(text.substr(0, at));
    text = at == std::string_view::npos ? std::string_view{} : text.substr(at + 1);
  }
}

std::vector<std::string> path_folders(std::string_view path) {
  std::vector<std::string> folders{kPathFolders.begin(), kPathFolders.end()};
  for_each_part(path, ':', [&](std::string_view word) { add_once(folders, image_folder(word)); });
  return folders;
}

std::vector<std::string> plugin_folders(const fs::path& root, std::string_view home) {
  std::vector<std::string> homes{"root"};
  add_once(homes, image_folder(home));
  const auto passwd = read_image_file((root / "etc/passwd").c_str(), kMostPasswdBytes);
  for_each_part(passwd, '\n', [&](std::string_view line) {
    std::size_t field = 0;
    for_each_part(line, ':', [&](std::string_view value) {
      if (field++ == 5) add_once(homes, image_folder(value)); // passwd(5)
    });
  });
  std::vector<std::string> folders{kPluginFolders.begin(), kPluginFolders.end()};
  for (const auto& one : homes)
    folders.push_back(one + "/" + kUsersPlugins);
  return folders;
}

// Where `docker` is added: in a folder that the image looks into.
std::vector<std::string> places_to_add(const std::vector<std::string>& folders,
                                       std::string_view path) {
  std::vector<std::string> places;
  std::vector<std::string> named;
  for_each_part(path, ':', [&](std::string_view word) { add_once(named, image_folder(word)); });
  for (const auto* usual : {"usr/local/bin", "usr/bin", "bin"}) {
    if (named.empty() || std::find(named.begin(), named.end(), usual) != named.end())
      places.emplace_back(usual);
  }
  places.insert(places.end(), named.begin(), named.end());
  places.insert(places.end(), folders.begin(), folders.end());
  return places;
}

} // namespace

void link_docker_socket(const fs::path& root, const fs::path& socket) {
  std::error_code ignored;
  for (const auto* folder : {"run", "var/run"}) {
    fs::create_directories(root / folder, ignored);
    const fs::path place = root / folder / "docker.sock";
    if (!is_there(place)) fs::create_symlink(socket, place, ignored);
  }
}

std::vector<NamedRegistry> parse_registries(std::string_view text) {
  std::vector<NamedRegistry> registries;
  for_each_part(text, ' ', [&](std::string_view word) {
    const auto first = word.find(':');
    const auto last = word.rfind(':');
    if (first == std::string_view::npos || first == last) return;
    NamedRegistry registry;
    registry.plain_http = word.substr(0, first) == "plain";
    registry.host = word.substr(first + 1, last - first - 1);
    const char* const end = word.data() + word.size();
    const auto read = std::from_chars(word.data() + last + 1, end, registry.port);
    if (read.ec == std::errc{} && read.ptr == end && registry.port != 0)
      registries.push_back(std::move(registry));
  });
  return registries;
}

void trust_registries(const fs::path& root, const fs::path& folder,
                      const std::vector<NamedRegistry>& registries) {
  std::error_code ignored;
  const auto link = [&](const fs::path& place, const fs::path& target) {
    if (!is_there(place)) fs::create_symlink(target, place, ignored);
  };
  fs::create_directories(root / "etc/ssl/certs", ignored);
  for (const auto* certs : {"etc/ssl/certs", "etc/pki/tls/certs"}) {
    if (!fs::is_directory(root / certs, ignored)) continue;
    link(root / certs / "slipway-registry.pem", folder / "ca.pem");
    std::error_code failed;
    for (const auto& entry : fs::directory_iterator{folder, failed}) {
      if (entry.path().extension() == ".0")
        link(root / certs / entry.path().filename(), entry.path());
    }
  }
  for (const auto& registry : registries) {
    if (registry.plain_http) continue;
    std::vector<std::string> names{registry.host + ":" + std::to_string(registry.port)};
    if (registry.port == 443) names.push_back(registry.host);
    for (const auto* clients : {"etc/docker/certs.d", "etc/containers/certs.d"}) {
      for (const auto& name : names) {
        fs::create_directories(root / clients / name, ignored);
        link(root / clients / name / "slipway.crt", folder / "ca.pem");
      }
    }
  }
}

int install_shim(const fs::path& root, const fs::path& shim, const ImagePrograms& image) {
  const auto folders = path_folders(image.path);
  int links = 0;
  bool has_docker = false;
  for (const auto& folder : folders) {
    const fs::path docker = root / folder / "docker";
    if (!is_program(docker)) continue;
    if (replace_by_link(docker, shim)) {
      ++links;
      has_docker = true;
    }
  }
  for (const auto& folder : plugin_folders(root, image.home)) {
    const fs::path plugin = root / folder / "docker-buildx";
    if (is_program(plugin) && replace_by_link(plugin, shim)) ++links;
  }
  for (const auto& folder : folders) {
    const fs::path compose = root / folder / kCompose;
    if (is_program(compose) && keep_beside(compose, root / folder / kKeptCompose, shim)) ++links;
    for (const auto* tool : kTools) {
      const fs::path path = root / folder / tool;
      if (is_program(path) && replace_by_link(path, shim)) ++links;
    }
  }
  if (is_program(root / kKaniko) && replace_by_link(root / kKaniko, shim)) ++links;
  if (has_docker) return links;
  for (const auto& folder : places_to_add(folders, image.path)) {
    std::error_code ignored;
    if (!fs::is_directory(root / folder, ignored)) continue;
    if (replace_by_link(root / folder / "docker", shim)) return links + 1;
  }
  std::error_code failed;
  fs::create_directories(root / "usr/local/bin", failed);
  return replace_by_link(root / "usr/local/bin/docker", shim) ? links + 1 : links;
}

} // namespace slipway::init
