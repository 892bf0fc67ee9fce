// SPDX-License-Identifier: Apache-2.0
#include "executor/backends/kaniko/archive.hpp"

#include "executor/base/file.hpp"
#include "executor/base/unique_fd.hpp"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <set>
#include <string>
#include <utility>
#include <vector>

namespace slipway::backends::kaniko {

namespace {

constexpr std::size_t kBlock = 512;
constexpr std::uint64_t kMaxMember = (1ULL << 33) - 1; // 11 octal digits
constexpr std::size_t kBuffer = 1UL << 20;

/// A regular file's header. Source: POSIX pax, "ustar Interchange Format".
std::string header_of(const std::string& name, std::uint64_t size) {
  std::string header(kBlock, '\0');
  const auto put = [&](std::size_t at, std::string_view text) {
    std::memcpy(header.data() + at, text.data(), text.size());
  };
  std::array<char, 24> octal{};
  (void)std::snprintf(octal.data(), octal.size(), "%011llo", static_cast<unsigned long long>(size));
  put(0, name);
  put(100, "0000644");
  put(108, "0000000");
  put(116, "0000000");
  put(124, octal.data());
  put(136, "00000000000");
  put(148, "        ");
  header[156] = '0';
  put(257, std::string_view{"ustar\0"
                            "00",
                            8});
  unsigned sum = 0;
  for (const char byte : header)
    sum += static_cast<unsigned char>(byte);
  (void)std::snprintf(octal.data(), octal.size(), "%06o", sum);
  put(148, std::string{octal.data()} + std::string{"\0 ", 2});
  return header;
}

std::string padding(std::uint64_t size) {
  return std::string((kBlock - size % kBlock) % kBlock, '\0');
}

Status copy_blob(const oci::Layout& bases, const oci::Descriptor& blob, int to) {
  auto from = bases.open_blob(blob.digest);
  if (!from) return std::move(from).error();
  std::vector<char> buffer(kBuffer);
  std::uint64_t left = blob.size;
  while (left > 0) {
    const ssize_t got = ::read(from->get(), buffer.data(), buffer.size());
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) return io_error("read", errno, bases.blob_path(blob.digest).string());
    if (got == 0 || static_cast<std::uint64_t>(got) > left)
      return Error{ErrorKind::bad_input, blob.digest.str() + " has another size", "", {}};
    if (!write_all(to, {buffer.data(), static_cast<std::size_t>(got)}))
      return io_error("write", errno, "a base image's archive");
    left -= static_cast<std::uint64_t>(got);
  }
  return {};
}

} // namespace

Status write_base(const oci::Layout& bases, const oci::Digest& root, const oci::Platform& platform,
                  const std::filesystem::path& dir) {
  const auto tree = oci::read_tree(bases, root);
  if (!tree) return tree.error();
  const auto image = oci::select_platform(*tree, platform);
  if (!image) return image.error();
  std::vector<oci::Descriptor> blobs{image->manifest.config};
  std::set<std::string> names{image->manifest.config.digest.hex()};
  std::string layers;
  for (const auto& layer : image->manifest.layers) {
    if (layer.size > kMaxMember)
      return Error{ErrorKind::bad_input,
                   "layer " + layer.digest.str() + " has more than 8 GiB",
                   "have it built by BuildKit",
                   {}};
    layers += (layers.empty() ? "\"" : ",\"") + layer.digest.hex() + "\"";
    if (names.insert(layer.digest.hex()).second) blobs.push_back(layer);
  }
  const std::string manifest = R"([{"Config":")" + image->manifest.config.digest.hex() +
                               R"(","RepoTags":[],"Layers":[)" + layers + "]}]";

  const auto path = dir / root.str();
  const UniqueFd file{::open(path.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0644)};
  if (!file) return io_error("open", errno, path.string());
  if (::fchmod(file.get(), 0644) != 0) return io_error("fchmod", errno, path.string());
  const auto put = [&](const std::string& text) { return bool{write_all(file.get(), text)}; };
  if (!put(header_of("manifest.json", manifest.size()) + manifest + padding(manifest.size())))
    return io_error("write", errno, path.string());
  for (const auto& blob : blobs) {
    if (!put(header_of(blob.digest.hex(), blob.size)))
      return io_error("write", errno, path.string());
    if (Status copied = copy_blob(bases, blob, file.get()); !copied) return copied;
    if (!put(padding(blob.size))) return io_error("write", errno, path.string());
  }
  if (!put(std::string(2 * kBlock, '\0'))) return io_error("write", errno, path.string());
  return {};
}

} // namespace slipway::backends::kaniko
