// SPDX-License-Identifier: Apache-2.0
#include "executor/gate/database.hpp"

#include "executor/base/file.hpp"
#include "executor/gate/bolt.hpp"
#include "executor/oci/strict_json.hpp"

#include <nlohmann/json.hpp>

#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstdint>

namespace slipway::gate {
namespace {

// "12.5" is "12"; "3.21.3" with two parts is "3.21".
std::string first_parts(std::string_view release, int parts) {
  std::size_t end = 0;
  for (; end < release.size(); ++end) {
    if (release[end] == '.' && --parts == 0) break;
  }
  return std::string{release.substr(0, end)};
}

// Inode and times instead of a digest: a DB has 900 MB, and it is replaced, never written in place.
// Errors: not_found (missing, empty, no file); io.
Result<std::string> state_of(const std::filesystem::path& file) {
  struct stat facts {};
  if (::stat(file.c_str(), &facts) != 0) {
    const int cause = errno;
    if (cause == ENOENT || cause == ENOTDIR)
      return Error{ErrorKind::not_found, "no such file: " + file.string(), "", {}};
    return io_error("stat", cause, file.string());
  }
  if (!S_ISREG(facts.st_mode) || facts.st_size == 0) {
    return Error{ErrorKind::not_found, file.string() + " is empty or no file", "", {}};
  }
  return std::to_string(facts.st_dev) + ":" + std::to_string(facts.st_ino) + " " +
         std::to_string(facts.st_size) + " " + std::to_string(facts.st_mtim.tv_sec) + "." +
         std::to_string(facts.st_mtim.tv_nsec) + " " + std::to_string(facts.st_ctim.tv_sec);
}

// Of the file NAME and the metadata beside it, which are to name SCHEMA.
Result<Database> read(const std::filesystem::path& dir, const char* name, int schema) {
  auto state = state_of(dir / name);
  if (!state) return std::move(state).error();
  auto text = read_file(dir / "metadata.json", 64UL << 10);
  if (!text) return std::move(text).error();
  if (auto fine = oci::check_json(*text, "metadata.json"); !fine) return std::move(fine).error();
  const auto document = nlohmann::json::parse(*text, nullptr, false);
  if (!document.is_object() || document.value("Version", nlohmann::json{}) != schema) {
    return Error{ErrorKind::bad_input,
                 "metadata.json names another schema than " + std::to_string(schema),
                 "",
                 {}};
  }
  const auto updated = document.value("UpdatedAt", nlohmann::json{});
  WallTime at;
  if (!updated.is_string() || !parse_rfc3339(updated.get<std::string>(), at) ||
      at.time_since_epoch().count() <= 0) {
    return Error{ErrorKind::bad_input, "metadata.json has no UpdatedAt", "", {}};
  }
  return Database{.updated_at = at, .identity = rfc3339(at) + " " + *state};
}

// Trivy passes over archives that it could not look up for an error of SQLite's, without a word.
// Source: SQLite, "Database File Format", 1.3.
Status look_like_java_database(const std::filesystem::path& file) {
  const auto unusable = [&](const char* why) {
    return Error{ErrorKind::bad_input, file.string() + " " + why, "", {}};
  };
  const UniqueFd fd{::open(file.c_str(), O_RDONLY | O_CLOEXEC)};
  if (!fd) return io_error("open", errno, file.string());
  std::array<char, 4096> page{};
  const auto got = ::pread(fd.get(), page.data(), page.size(), 0);
  if (got < 0) return io_error("read", errno, file.string());
  const std::string_view text{page.data(), static_cast<std::size_t>(got)};
  const auto number = [&](std::size_t at, std::size_t bytes) {
    std::uint64_t value = 0;
    for (const char byte : text.substr(at, bytes))
      value = value << 8 | static_cast<unsigned char>(byte);
    return value;
  };
  constexpr std::size_t kSqliteHeader = 100;
  if (text.size() < kSqliteHeader || !text.starts_with(std::string_view{"SQLite format 3\0", 16}))
    return unusable("is no SQLite database");
  const auto page_size = number(16, 2) == 1 ? 65536 : number(16, 2);
  struct stat facts {};
  if (::fstat(fd.get(), &facts) != 0) return io_error("fstat", errno, file.string());
  if (number(28, 4) * page_size != static_cast<std::uint64_t>(facts.st_size))
    return unusable("is not of the size that it names: it was cut, or is written to");
  if (number(18, 1) != 1) return unusable("has a write-ahead log, with which nobody can only read");
  if (text.find("indices_sha1_idx") == std::string_view::npos)
    return unusable("has no index of SHA-1 digests");
  return {};
}

} // namespace

namespace {

/// Whether one of Red Hat's advisories is about one of these products.
bool concerns(std::string_view advisory, const std::set<std::int64_t>& products) {
  const auto document = nlohmann::json::parse(advisory, nullptr, false);
  if (!document.is_object()) return false;
  for (const auto& entry : document.value("Entries", nlohmann::json::array())) {
    if (!entry.is_object()) continue;
    for (const auto& product : entry.value("Affected", nlohmann::json::array()))
      if (product.is_number_integer() && products.contains(product.get<std::int64_t>()))
        return true;
  }
  return false;
}

} // namespace

std::optional<std::string> bucket_for(std::string_view family, std::string_view release) {
  if (family == "alpine") {
    // What will be the next release goes by the name of its repositories.
    return release.find("_alpha") != std::string_view::npos ? "alpine edge"
                                                            : "alpine " + first_parts(release, 2);
  }
  if (family == "debian") return "debian " + first_parts(release, 1);
  if (family == "ubuntu") return "ubuntu " + first_parts(release.substr(0, release.find('-')), 2);
  if (family == "alma") return "alma " + first_parts(release, 1);
  if (family == "rocky") return "rocky " + first_parts(release, 1);
  if (family == "oracle") return "Oracle Linux " + first_parts(release, 1);
  if (family == "azurelinux") return "Azure Linux " + first_parts(release, 2);
  if (family == "amazon") {
    const auto word = release.substr(0, release.find(' '));
    const auto major = first_parts(word, 1);
    // 2016.09 to 2018.03 are one release.
    return "amazon linux " + (major == "2" || major == "2022" || major == "2023" ? major : "1");
  }
  if (family == "redhat" || family == "centos") {
    // Of later ones Trivy asks for what the image says of its repositories, and fails where the DB
    // does not know them.
    const auto major = first_parts(release, 1);
    if (major.size() != 1 || major < "6") return std::nullopt;
    return "Red Hat " + major;
  }
  if (family == "cbl-mariner") return "CBL-Mariner " + first_parts(release, 2);
  if (family == "photon") return "Photon OS " + std::string{release};
  if (family == "sles") return "SUSE Linux Enterprise " + std::string{release};
  if (family == "slem") return "SUSE Linux Enterprise Micro " + std::string{release};
  if (family == "opensuse-leap") return "openSUSE Leap " + std::string{release};
  if (family == "opensuse-tumbleweed") return "openSUSE Tumbleweed";
  for (const char* rolling : {"wolfi", "chainguard", "minimos", "echo"})
    if (family == rolling) return rolling;
  return std::nullopt;
}

std::optional<std::string> red_hat_release(std::string_view bucket) {
  constexpr std::string_view kStem = "Red Hat ";
  if (!bucket.starts_with(kStem)) return std::nullopt;
  return std::string{bucket.substr(kStem.size())};
}

Result<std::set<std::int64_t>> red_hat_products(const BoltFile& file, const std::string& release) {
  std::set<std::string> repositories;
  if (release == "6" || release == "7")
    repositories = {"rhel-" + release + "-server-rpms", "rhel-" + release + "-server-extras-rpms"};
  else
    repositories = {"rhel-" + release + "-for-x86_64-baseos-rpms",
                    "rhel-" + release + "-for-x86_64-appstream-rpms"};
  std::set<std::int64_t> products;
  auto searched = file.search("Red Hat CPE", [&](const std::vector<std::string>& buckets,
                                                 std::string_view key, std::string_view value) {
    if (buckets.size() != 2 || buckets[1] != "repository" ||
        repositories.erase(std::string{key}) == 0)
      return true;
    const auto numbers = nlohmann::json::parse(value, nullptr, false);
    for (const auto& number : numbers.is_array() ? numbers : nlohmann::json::array())
      if (number.is_number_integer()) products.insert(number.get<std::int64_t>());
    return !repositories.empty();
  });
  if (!searched)
    return std::move(searched).error().in("looking for Red Hat's products in trivy.db");
  return products;
}

std::filesystem::path database_in_force(const std::filesystem::path& dir) {
  std::error_code failed;
  auto real = std::filesystem::canonical(dir, failed);
  return failed ? dir : real;
}

UniqueFd hold_database(const std::filesystem::path& dir) {
  UniqueFd held{::open(dir.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC)};
  if (held) (void)::flock(held.get(), LOCK_SH | LOCK_NB);
  return held;
}

std::string period(std::chrono::seconds time) {
  const auto minutes = std::chrono::duration_cast<std::chrono::minutes>(time).count();
  return minutes < 600 && minutes % 60 != 0 ? std::to_string(minutes) + " min"
                                            : std::to_string(minutes / 60) + " h";
}

Result<bool> has_advisories(const std::filesystem::path& dir, const std::string& bucket) {
  auto file = BoltFile::open(dir / "trivy.db");
  if (!file) return std::move(file).error();
  if (const auto release = red_hat_release(bucket)) {
    auto products = red_hat_products(*file, *release);
    if (!products) return std::move(products).error();
    bool any = false;
    auto searched = file->search(kRedHatBucket, [&](const std::vector<std::string>&,
                                                    std::string_view, std::string_view text) {
      any = concerns(text, *products);
      return !any;
    });
    if (!searched)
      return std::move(searched).error().in("looking for '" + bucket + "' in trivy.db");
    return any;
  }
  auto known = file->has_bucket(bucket);
  if (!known) return std::move(known).error().in("looking for '" + bucket + "' in trivy.db");
  return known;
}

Result<Database> read_database(const std::filesystem::path& dir) {
  return read(dir, "trivy.db", 2);
}

Result<Database> read_java_database(const std::filesystem::path& dir) {
  auto known = read(dir, "trivy-java.db", 1);
  if (!known) return known;
  if (auto fine = look_like_java_database(dir / "trivy-java.db"); !fine)
    return std::move(fine).error();
  return known;
}

Error database_replaced(const std::filesystem::path& dir) {
  return {ErrorKind::unavailable,
          "the vulnerability DB in " + dir.string() + " was replaced meanwhile",
          "try again",
          {}};
}

Result<oci::Digest> digest_of_database(const std::filesystem::path& file,
                                       const std::filesystem::path& cache_dir) {
  const auto state = state_of(file);
  if (!state) return state.error();
  const auto note = cache_dir / (file.filename().string() + ".digest");
  if (const auto known = read_file(note, 1024); known && known->ends_with("\n" + *state)) {
    if (auto digest = oci::Digest::parse(known->substr(0, known->find('\n')))) return digest;
  }
  const UniqueFd fd{::open(file.c_str(), O_RDONLY | O_CLOEXEC)};
  if (!fd) return io_error("open", errno, file.string());
  auto digest = oci::digest_of_fd(fd.get());
  if (!digest) return std::move(digest).error().in("reading " + file.string());
  const auto after = state_of(file);
  if (!after || *after != *state) return database_replaced(file.parent_path());
  // Not remembered: the next judgement reads it again.
  if (make_directory(cache_dir)) (void)replace_file(note, digest->str() + "\n" + *state).ok();
  return digest;
}

Result<std::string> read_grype_database(const std::filesystem::path& dir) {
  auto database = state_of(dir / "6/vulnerability.db");
  if (!database) return database;
  auto import = state_of(dir / "6/import.json");
  if (!import) return import;
  return *database + " " + *import;
}

} // namespace slipway::gate
