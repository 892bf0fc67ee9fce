// SPDX-License-Identifier: Apache-2.0
#include "executor/state/leases.hpp"

#include "executor/base/file.hpp"

#include <nlohmann/json.hpp>

#include <fcntl.h>
#include <sys/random.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>

namespace slipway::state {
namespace {

constexpr std::size_t kMaxRecordBytes = 64UL << 10;
constexpr std::size_t kMaxNameBytes = 63;

bool is_name(const std::string& name) {
  return !name.empty() && name.size() <= kMaxNameBytes &&
         std::all_of(name.begin(), name.end(), [](char c) {
           return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '-';
         });
}

Error no_name(const std::string& name) {
  return {ErrorKind::bad_input,
          "\"" + name + "\" is no lease's name",
          "`slipway leases` lists them",
          {}};
}

/// A new file is there after a crash only once its folder is on the disk.
Status sync_folder(const std::filesystem::path& dir) {
  const UniqueFd fd{::open(dir.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC)};
  if (!fd) return io_error("open", errno, dir.string());
  if (::fsync(fd.get()) != 0) return io_error("fsync", errno, dir.string());
  return {};
}

} // namespace

Result<std::string> LeaseJournal::new_name(const std::string& job) {
  std::array<unsigned char, 8> random{};
  if (::getrandom(random.data(), random.size(), 0) != static_cast<ssize_t>(random.size()))
    return io_error("getrandom", errno);
  std::string name = "slipway-";
  for (const unsigned char byte : random) {
    name += "0123456789abcdef"[byte >> 4];
    name += "0123456789abcdef"[byte & 15];
  }
  name += "-" + job;
  if (!is_name(name)) return no_name(name);
  return name;
}

Status LeaseJournal::write(const LeaseRecord& r) const {
  if (!is_name(r.name)) return no_name(r.name);
  const nlohmann::json json{
      {"name", r.name},
      {"issuer", r.issuer},
      {"job", r.job},
      {"registry", r.registry},
      {"repository", r.repository},
      {"created", r.created},
      {"owner",
       {{"pid", r.owner.pid}, {"start_time", r.owner.start_time}, {"boot_id", r.owner.boot_id}}},
      {"id", r.id},
      {"expires_at", r.expires_at},
      {"problem", r.problem},
      {"until_end", r.until_end},
      {"tries", r.tries},
      {"tried_at", r.tried_at}};
  if (auto made = make_directory(dir_, 0700); !made) return made;
  if (auto written = replace_file(
          file(r.name), json.dump(1, ' ', false, nlohmann::json::error_handler_t::replace));
      !written)
    return written;
  return sync_folder(dir_);
}

Status LeaseJournal::remove(const std::string& name) const {
  if (!is_name(name)) return no_name(name);
  if (::unlink(file(name).c_str()) != 0 && errno != ENOENT)
    return io_error("remove", errno, file(name).string());
  return {};
}

Result<LeaseRecord> LeaseJournal::load(const std::string& name) const {
  if (!is_name(name)) return no_name(name);
  auto text = read_file(file(name), kMaxRecordBytes);
  if (!text) return std::move(text).error().in("reading the lease " + name);
  try {
    const auto json = nlohmann::json::parse(*text);
    LeaseRecord r;
    r.name = name;
    r.issuer = json.at("issuer");
    r.job = json.at("job");
    r.registry = json.at("registry");
    r.repository = json.at("repository");
    r.created = json.at("created");
    const auto& owner = json.at("owner");
    r.owner = {owner.at("pid"), owner.at("start_time"), owner.at("boot_id")};
    r.id = json.at("id");
    r.expires_at = json.at("expires_at");
    r.problem = json.at("problem");
    r.until_end = json.at("until_end");
    r.tries = json.at("tries");
    r.tried_at = json.at("tried_at");
    return r;
  } catch (const nlohmann::json::exception& refused) {
    return Error{ErrorKind::bad_input,
                 file(name).string() + " cannot be read: " + refused.what(),
                 "revoke \"" + name + "\" at its issuer by hand, then remove the file",
                 {}};
  }
}

std::vector<LeaseRecord> LeaseJournal::all() const {
  std::vector<LeaseRecord> records;
  std::error_code none;
  for (const auto& entry : std::filesystem::directory_iterator{dir_, none}) {
    if (entry.path().extension() != ".json") continue; // a torn replacement
    auto record = load(entry.path().stem().string());
    if (!record && record.error().kind == ErrorKind::not_found) continue; // ended meanwhile
    if (record) {
      records.push_back(*std::move(record));
    } else {
      LeaseRecord unreadable;
      unreadable.name = entry.path().stem().string();
      unreadable.problem = record.error().text();
      records.push_back(std::move(unreadable));
    }
  }
  std::sort(records.begin(), records.end(), [](const LeaseRecord& a, const LeaseRecord& b) {
    return std::pair{a.created, a.name} < std::pair{b.created, b.name};
  });
  return records;
}

} // namespace slipway::state
