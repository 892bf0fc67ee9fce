// SPDX-License-Identifier: Apache-2.0
#include "executor/gate/vex.hpp"

#include "executor/gate/report.hpp"
#include "executor/gate/signed_files.hpp"

#include <algorithm>
#include <utility>

namespace slipway::gate {
namespace {

// An excuse needs all that a statement calls a thing to fit; what takes an excuse back, any of it.
enum class Need { all, any };

template <typename Fits>
bool is_called(const VexComponent& component, Need need, const Fits& fits, bool digest_fits) {
  const auto& purls = component.purls;
  const auto names = purls.size() + (component.has_hashes ? 1 : 0);
  const auto fitting = static_cast<std::size_t>(std::count_if(purls.begin(), purls.end(), fits)) +
                       (component.has_hashes && digest_fits ? 1 : 0);
  return fitting > 0 && (need == Need::any || fitting == names);
}

// "pkg:oci/app@sha256:…", or without a digest every image of its repository_url.
// Source: package-url/purl-spec, types-doc/oci-definition.md.
bool is_of_image(const config::PackageUrl& url, const ImageNames& image,
                 const std::string& repository) {
  if (url.type != "oci") return false;
  if (url.version.empty() ? !url.qualifiers.contains("repository_url")
                          : !image.digests.contains(url.version))
    return false;
  return std::all_of(url.qualifiers.begin(), url.qualifiers.end(), [&](const auto& qualifier) {
    const auto& [key, value] = qualifier;
    if (key == "repository_url")
      return !repository.empty() && familiar_name(value) == familiar_name(repository);
    if (key == "arch") return value == image.architecture;
    return key == "tag" && !url.version.empty(); // a name that the digest had once
  });
}

bool is_image(const VexComponent& component, Need need, const ImageNames& image,
              const std::string& repository) {
  return is_called(
      component, need, [&](const auto& url) { return is_of_image(url, image, repository); },
      image.digests.contains(component.digest));
}

// No scanner names the digest of a package.
bool is_package(const VexComponent& component, Need need,
                const std::optional<config::PackageUrl>& package) {
  return is_called(
      component, need,
      [&](const auto& url) { return url.type != "oci" && package && url.covers(*package); }, false);
}

bool is_about(const VexProduct& product, Need need, const ImageNames& image,
              const std::string& repository, const std::optional<config::PackageUrl>& package) {
  const auto& parts = product.subcomponents;
  if (is_image(product.itself, need, image, repository))
    return parts.empty() || std::any_of(parts.begin(), parts.end(), [&](const auto& part) {
             return is_package(part, need, package);
           });
  // Which package is a part of which is not in the scanners' reports.
  return is_package(product.itself, need, package) && (parts.empty() || need == Need::any);
}

} // namespace

std::string familiar_name(std::string_view repository) {
  for (const std::string_view hub : {"registry-1.docker.io/", "index.docker.io/"}) {
    if (repository.starts_with(hub))
      return "docker.io/" + std::string{repository.substr(hub.size())};
  }
  return std::string{repository};
}

Vex::Vex(const SignedFiles& policy, WallTime now) {
  if (policy.files.empty()) return;
  const auto complain = [&](const std::string& key, const std::filesystem::path& file,
                            const std::string& why) {
    complaints_.push_back("no OpenVEX document counts until the operator has mended " +
                          file.string() + " (" + key + "): " + why);
    identity_ += " " + complaints_.back();
  };
  for (const auto& [file, text, key] :
       read_signed_files(policy, "vex", kMaxVexBytes, complain, identity_)) {
    auto document = parse_openvex(text);
    if (!document) {
      complain("vex_files", file, document.error().text());
      continue;
    }
    for (auto& statement : document->statements) {
      if (statement.timestamp > now + std::chrono::hours{24}) {
        complain("vex_files", file,
                 "a statement about " + printable(*statement.names.begin(), 60) +
                     " is dated ahead, of " + rfc3339(statement.timestamp));
        break;
      }
      for (const auto& name : statement.names)
        by_name_[name].push_back(said_.size());
      said_.push_back(
          {std::move(statement), printable(document->author, 200) + " (signed with " + key + ")"});
    }
  }
  if (complaints_.empty()) return;
  said_.clear();
  by_name_.clear();
}

std::optional<Vex::Word> Vex::about(const Finding& finding, const ImageNames& image,
                                    const std::string& repository) const {
  if (!finding.is_vulnerability() || said_.empty()) return std::nullopt;
  std::set<std::size_t> named;
  const auto add = [&](const std::string& name) {
    if (const auto found = by_name_.find(name); found != by_name_.end())
      named.insert(found->second.begin(), found->second.end());
  };
  add(finding.id);
  for (const auto& alias : finding.aliases)
    add(alias);
  // An excuse is taken back under any name that it gives the vulnerability.
  const auto of_finding = named;
  for (const auto index : of_finding) {
    if (!said_[index].statement.excuses()) continue;
    for (const auto& name : said_[index].statement.names)
      add(name);
  }
  std::optional<config::PackageUrl> package;
  if (auto url = config::PackageUrl::parse(finding.purl)) package = *std::move(url);

  const Said* latest = nullptr;
  for (const auto index : named) {
    const auto& one = said_[index];
    const auto& statement = one.statement;
    const auto need = statement.excuses() ? Need::all : Need::any;
    if (need == Need::all && !of_finding.contains(index)) continue;
    if (std::none_of(statement.products.begin(), statement.products.end(),
                     [&](const auto& product) {
                       return is_about(product, need, image, repository, package);
                     }))
      continue;
    const auto rank = [](const VexStatement& of) { return std::pair{of.timestamp, !of.excuses()}; };
    if (latest == nullptr || rank(latest->statement) < rank(statement)) latest = &one;
  }
  if (latest == nullptr) return std::nullopt;
  const auto& statement = latest->statement;
  return Word{statement.excuses(),
              "OpenVEX: " + std::string{vex_status_name(statement.status)} + ", says " +
                  latest->who + " on " + rfc3339(statement.timestamp).substr(0, 10) +
                  (statement.reason.empty() ? "" : ": " + printable(statement.reason, 300))};
}

} // namespace slipway::gate
