// SPDX-License-Identifier: Apache-2.0
#include "executor/vulndb/facts.hpp"

#include "executor/base/unique_fd.hpp"
#include "executor/gate/bolt.hpp"
#include "executor/gate/database.hpp"
#include "executor/oci/digest.hpp"

#include <nlohmann/json.hpp>

#include <fcntl.h>

#include <algorithm>
#include <cerrno>

namespace slipway::vulndb {
namespace {

using nlohmann::json;

constexpr const char* kSources = "data-source"; ///< bucket name → {"ID": …}
constexpr const char* kBytes = "bytes";
constexpr std::size_t kMostSources = 10000; ///< buckets; real ones have some hundred

Result<std::string> sha256_of(const std::filesystem::path& file) {
  const UniqueFd fd{::open(file.c_str(), O_RDONLY | O_CLOEXEC | O_NOFOLLOW)};
  if (!fd) return io_error("open", errno, file.string());
  auto digest = oci::digest_of_fd(fd.get());
  if (!digest) return std::move(digest).error();
  return digest->str();
}

using Advisories = std::map<std::string, std::uint64_t>;

// Errors: those of read_facts().
Result<Advisories> count_advisories(const std::filesystem::path& path,
                                    const std::vector<Canary>& canaries) {
  auto file = gate::BoltFile::open(path);
  if (!file) return std::move(file).error();
  std::map<std::string, std::uint64_t> by_bucket;
  std::map<std::string, std::string> ids;
  std::vector<Canary> missing = canaries;
  auto walked = file->walk([&](const std::vector<std::string>& buckets, std::string_view key,
                               std::string_view value) -> Status {
    if (buckets.empty()) return {};
    if (buckets.front() == kSources) {
      const auto source = json::parse(value, nullptr, false);
      if (source.is_object() && source.value("ID", json{}).is_string())
        ids[std::string{key}] = source["ID"].get<std::string>();
    } else {
      ++by_bucket[buckets.front()];
      std::erase_if(missing, [&](const Canary& canary) {
        return canary.id == key && buckets.size() == 2 && canary.bucket == buckets[0] &&
               canary.package == buckets[1];
      });
    }
    if (by_bucket.size() > kMostSources || ids.size() > kMostSources)
      return Error{ErrorKind::bad_input, "it has too many buckets to be one", "", {}};
    return {};
  });
  if (!walked) return std::move(walked).error().in("reading " + path.string());
  if (!missing.empty()) {
    return Error{ErrorKind::bad_input,
                 "the advisory " + missing.front().str() +
                     " is not in it, and [db] canary says that it has to be",
                 "",
                 {}};
  }
  Advisories counts;
  for (const auto& [bucket, count] : by_bucket) {
    const auto known = ids.find(bucket);
    counts[known == ids.end() ? bucket : known->second] += count;
  }
  return counts;
}

} // namespace

Result<Canary> parse_canary(std::string_view text) {
  const auto first = text.find('/');
  const auto last = text.rfind('/');
  if (first == std::string_view::npos || first == 0 || last <= first + 1 ||
      last + 1 == text.size()) {
    return Error{ErrorKind::bad_input,
                 "'" + std::string{text} + "' is no advisory: BUCKET/PACKAGE/ID was expected",
                 "for example alpine 3.21/openssl/CVE-2024-12797",
                 {}};
  }
  return Canary{std::string{text.substr(0, first)},
                std::string{text.substr(first + 1, last - first - 1)},
                std::string{text.substr(last + 1)}};
}

std::uint64_t Facts::total() const {
  std::uint64_t sum = 0;
  for (const auto& [name, count] : advisories)
    sum += count;
  return sum;
}

Result<Facts> read_facts(const Kind& kind, const std::filesystem::path& dir,
                         const std::vector<Canary>& canaries) {
  auto database = kind.read(dir);
  if (!database) return std::move(database).error();
  const auto path = dir / kind.file;
  Facts facts;
  facts.updated_at = database->updated_at;
  facts.identity = database->identity;
  if (kind.has_advisories) {
    auto counted = count_advisories(path, canaries);
    if (!counted) return std::move(counted).error();
    facts.advisories = *std::move(counted);
  } else {
    std::error_code failed;
    facts.advisories[kBytes] = std::filesystem::file_size(path, failed);
    if (failed) return io_error("stat", failed.value(), path.string());
  }
  auto sha256 = sha256_of(path);
  if (!sha256) return std::move(sha256).error();
  facts.sha256 = *std::move(sha256);
  return facts;
}

std::vector<std::string> losses(const Facts& before, const Facts& now,
                                const std::vector<std::string>& accepted) {
  std::vector<std::string> found;
  std::uint64_t had = 0;
  std::uint64_t has = 0;
  const auto compare = [&](const std::string& source, std::uint64_t old, std::uint64_t fresh) {
    if (fresh < old && (old - fresh) > old / 5) // a fifth itself is not yet too much
      found.push_back(source + ": " + std::to_string(old) + " before, " + std::to_string(fresh) +
                      " now");
  };
  for (const auto& [source, old] : before.advisories) {
    if (std::find(accepted.begin(), accepted.end(), source) != accepted.end()) continue;
    const auto at = now.advisories.find(source);
    const auto fresh = at == now.advisories.end() ? 0 : at->second;
    had += old;
    has += fresh;
    compare(source, old, fresh);
  }
  if (before.advisories.size() > 1 &&
      std::find(accepted.begin(), accepted.end(), "all") == accepted.end())
    compare("all", had, has);
  return found;
}

std::string to_json(const Facts& facts) {
  return json{{"updated_at", rfc3339(facts.updated_at)},
              {"identity", facts.identity},
              {"sha256", facts.sha256},
              {"advisories", facts.advisories},
              {"digest", facts.digest},
              {"source", facts.source},
              {"accepted", facts.accepted},
              {"installed_at", facts.installed_at}}
      .dump(2, ' ', false, json::error_handler_t::replace);
}

std::optional<Facts> facts_from(std::string_view text) {
  const auto document = json::parse(text, nullptr, false);
  Facts facts;
  try {
    if (!parse_rfc3339(document.at("updated_at").get<std::string>(), facts.updated_at))
      return std::nullopt;
    facts.identity = document.at("identity").get<std::string>();
    facts.sha256 = document.at("sha256").get<std::string>();
    facts.advisories = document.at("advisories").get<std::map<std::string, std::uint64_t>>();
    facts.digest = document.at("digest").get<std::string>();
    facts.source = document.at("source").get<std::string>();
    facts.accepted = document.at("accepted").get<std::string>();
    facts.installed_at = document.at("installed_at").get<std::string>();
  } catch (const json::exception&) {
    return std::nullopt;
  }
  return facts;
}

} // namespace slipway::vulndb
