// SPDX-License-Identifier: Apache-2.0
#include "executor/gate/verdict_cache.hpp"

#include "executor/base/file.hpp"

#include <nlohmann/json.hpp>

#include <algorithm>
#include <chrono>

namespace slipway::gate {
namespace {

using nlohmann::json;
constexpr int kSchema = 6;
constexpr std::chrono::minutes kForAPush{10};
constexpr std::size_t kMaxVerdictBytes = 32UL << 20;

std::optional<double> number(const json& value) {
  return value.is_null() ? std::nullopt : std::optional{value.get<double>()};
}

std::optional<Verdict> from_json(const json& object) {
  auto digest = oci::Digest::parse(object.at("digest").get_ref<const std::string&>());
  if (!digest) return std::nullopt;
  Verdict verdict{.digest = *std::move(digest),
                  .passed = object.at("passed").get<bool>(),
                  .denials = {},
                  .allowed = {},
                  .findings = {},
                  .warnings = object.at("warnings").get<std::vector<std::string>>(),
                  .counts = {},
                  .judged_at = {},
                  .expires_at = {},
                  .scanner = object.at("scanner").get<std::string>(),
                  .db_updated_at = {},
                  .second_scanner = object.value("second_scanner", ""),
                  .second_db_built_at = {},
                  .db_digest = object.at("db_digest").get<std::string>(),
                  .java_db_digest = object.value("java_db_digest", ""),
                  .second_db_digest = object.value("second_db_digest", ""),
                  .policy_digest = object.at("policy_digest").get<std::string>(),
                  .threshold = object.at("threshold").get<std::string>(),
                  .from_cache = true,
                  .inventories = {}};
  if (!parse_rfc3339(object.at("judged_at").get<std::string>(), verdict.judged_at) ||
      !parse_rfc3339(object.at("expires_at").get<std::string>(), verdict.expires_at) ||
      !parse_rfc3339(object.at("db_updated_at").get<std::string>(), verdict.db_updated_at)) {
    return std::nullopt;
  }
  if (!verdict.second_scanner.empty() &&
      !parse_rfc3339(object.at("second_db_built_at").get<std::string>(),
                     verdict.second_db_built_at))
    return std::nullopt;
  if (!object.at("denials").empty()) return std::nullopt;
  for (const auto& entry : object.at("allowed")) {
    Allowed allowed{.code = entry.at("code").get<std::string>(),
                    .message = entry.at("message").get<std::string>(),
                    .owner = entry.at("owner").get<std::string>(),
                    .reason = entry.at("reason").get<std::string>(),
                    .until = {}};
    if (!parse_rfc3339(entry.at("until").get<std::string>(), allowed.until)) return std::nullopt;
    verdict.allowed.push_back(std::move(allowed));
  }
  for (const auto& entry : object.at("findings")) {
    const auto severity = parse_severity(entry.at("severity").get_ref<const std::string&>());
    if (!severity || entry.at("blocks").get<bool>()) return std::nullopt;
    const auto kind = parse_kind(entry.at("kind").get<std::string>());
    if (!kind) return std::nullopt;
    verdict.findings.push_back({.id = entry.at("id").get<std::string>(),
                                .aliases = entry.at("aliases").get<std::vector<std::string>>(),
                                .package = entry.at("package").get<std::string>(),
                                .installed = entry.at("installed").get<std::string>(),
                                .fixed = entry.at("fixed").get<std::string>(),
                                .severity = *severity,
                                .title = entry.at("title").get<std::string>(),
                                .target = entry.at("target").get<std::string>(),
                                .url = entry.at("url").get<std::string>(),
                                .purl = entry.at("purl").get<std::string>(),
                                .path = {},
                                .published = {},
                                .note = entry.at("note").get<std::string>(),
                                .waived = entry.at("waived").get<bool>(),
                                .blocks = false,
                                .os_package = entry.at("os_package").get<bool>(),
                                .kind = *kind,
                                .found_by = entry.at("found_by").get<std::string>(),
                                .layer = entry.at("layer").get<std::string>(),
                                .made_by = entry.at("made_by").get<std::string>(),
                                .dockerfile_line = "", // of one build, and not of the image
                                .cvss = number(entry.at("cvss")),
                                .cvss_source = entry.at("cvss_source").get<std::string>(),
                                .epss = number(entry.at("epss")),
                                .kev_since = entry.at("kev_since").get<std::string>(),
                                .kev_due = entry.at("kev_due").get<std::string>(),
                                .kev_ransomware = entry.at("kev_ransomware").get<bool>(),
                                .threat = entry.at("threat").get<std::string>(),
                                .remedy = entry.at("remedy").get<std::string>()});
  }
  for (const auto& [name, count] : object.at("counts").items()) {
    const auto severity = parse_severity(name);
    if (!severity) return std::nullopt;
    verdict.counts[*severity] = count.get<int>();
  }
  return verdict;
}

std::string inventories_json(const std::vector<Inventory>& inventories) {
  json all = json::array();
  for (const auto& one : inventories) {
    json packages = json::array();
    for (const auto& [name, version, purl, path, licenses, source] : one.packages)
      packages.push_back({name, version, purl, path, licenses, source});
    all.push_back({{"manifest", one.manifest.str()},
                   {"platform", one.platform},
                   {"os_family", one.os_family},
                   {"os_name", one.os_name},
                   {"packages", std::move(packages)}});
  }
  return all.dump(-1, ' ', false, json::error_handler_t::replace);
}

bool read_inventories(const json& all, std::vector<Inventory>& into) {
  for (const auto& one : all) {
    auto manifest = oci::Digest::parse(one.at("manifest").get_ref<const std::string&>());
    if (!manifest) return false;
    Inventory inventory{.manifest = *std::move(manifest),
                        .platform = one.at("platform").get<std::string>(),
                        .os_family = one.at("os_family").get<std::string>(),
                        .os_name = one.at("os_name").get<std::string>(),
                        .packages = {}};
    for (const auto& package : one.at("packages")) {
      inventory.packages.push_back(
          {package.at(0).get<std::string>(), package.at(1).get<std::string>(),
           package.at(2).get<std::string>(), package.at(3).get<std::string>(),
           package.at(4).get<std::vector<std::string>>(),
           package.at(5).get<decltype(Package::source)>()});
    }
    into.push_back(std::move(inventory));
  }
  return true;
}

std::filesystem::path file_for(const std::filesystem::path& dir, const oci::Digest& key) {
  return dir / "verdicts" / (key.hex() + ".json");
}

} // namespace

std::optional<Verdict> load_verdict(const std::filesystem::path& dir, const oci::Digest& key,
                                    const oci::Digest& image, WallTime now) {
  auto text = read_file(file_for(dir, key), kMaxVerdictBytes);
  if (!text) return std::nullopt;
  try {
    const json document = json::parse(*text);
    const auto& body = document.at("verdict").get_ref<const std::string&>();
    const auto& inventories = document.at("inventories").get_ref<const std::string&>();
    if (document.at("schema") != kSchema || document.at("key") != key.str() ||
        document.at("sha256") != oci::Digest::of(body + inventories).str()) {
      return std::nullopt;
    }
    auto verdict = from_json(json::parse(body));
    if (!verdict || !verdict->passed || verdict->digest != image) return std::nullopt;
    if (!read_inventories(json::parse(inventories), verdict->inventories)) return std::nullopt;
    if (verdict->judged_at > now) return std::nullopt;
    // What is left has to be enough for a push: one that ends on its way is a failed job, where a
    // new judgement would have given it time.
    const auto margin = std::min<std::chrono::system_clock::duration>(
        kForAPush, (verdict->expires_at - verdict->judged_at) / 4);
    if (verdict->expires_at - margin <= now) return std::nullopt;
    return verdict;
  } catch (const json::exception&) {
    return std::nullopt;
  }
}

Status save_verdict(const std::filesystem::path& dir, const oci::Digest& key,
                    const Verdict& verdict) {
  if (auto made = make_directory(dir / "verdicts", 0700); !made) return made;
  const auto body = verdict.to_json();
  const auto inventories = inventories_json(verdict.inventories);
  const json document{{"schema", kSchema},
                      {"key", key.str()},
                      {"sha256", oci::Digest::of(body + inventories).str()},
                      {"verdict", body},
                      {"inventories", inventories}};
  return replace_file(file_for(dir, key), document.dump(), 0600);
}

} // namespace slipway::gate
