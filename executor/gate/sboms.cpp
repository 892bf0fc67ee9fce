// SPDX-License-Identifier: Apache-2.0
#include "executor/gate/sboms.hpp"

#include "executor/gate/report.hpp"
#include "executor/gate/signed_files.hpp"
#include "executor/oci/strict_json.hpp"

#include <nlohmann/json.hpp>

#include <algorithm>
#include <utility>

namespace slipway::gate {
namespace {

using Json = nlohmann::json;

// Thrown and caught in this file alone, beside those of the JSON library.
struct Refusal {
  std::string why;
};

// The form of one of the two kinds of document.
struct Form {
  const char* hashes;
  const char* algorithm;
  const char* sha256;
  const char* value;
};
constexpr Form kCycloneDx{"hashes", "alg", "SHA-256", "content"};
constexpr Form kSpdx{"checksums", "algorithm", "SHA256", "checksumValue"};

const Json& list_in(const Json& object, const char* name) {
  static const Json kNone = Json::array();
  const auto found = object.find(name);
  if (found == object.end()) return kNone;
  if (!found->is_array()) throw Refusal{std::string{name} + " is no list"};
  return *found;
}

void take_hashes(const Json& entry, const Form& form, std::set<std::string>& into) {
  for (const auto& hash : list_in(entry, form.hashes)) {
    if (hash.at(form.algorithm).get<std::string>() != form.sha256) continue;
    auto text = hash.at(form.value).get<std::string>();
    std::transform(text.begin(), text.end(), text.begin(),
                   [](char c) { return c >= 'A' && c <= 'F' ? static_cast<char>(c + 32) : c; });
    auto digest = oci::Digest::parse("sha256:" + text);
    if (!digest) throw Refusal{"a value of SHA-256 is none: " + printable(text, 80)};
    into.insert(digest->hex());
  }
}

// check_json() bounds the depth.
void take_components(const Json& holder, // NOLINT(misc-no-recursion)
                     std::set<std::string>& into) {
  for (const auto& component : list_in(holder, "components")) {
    take_hashes(component, kCycloneDx, into);
    take_components(component, into);
  }
}

} // namespace

Result<std::set<std::string>> hashes_of_sbom(std::string_view text) {
  if (auto fine = oci::check_json(text, "SBOM"); !fine) return std::move(fine).error();
  const auto refused = [](const std::string& why) {
    return Error{ErrorKind::bad_input, "SBOM: " + why, "", {}};
  };
  const Json document = Json::parse(text, nullptr, false);
  std::set<std::string> hashes;
  try {
    if (!document.is_object()) return refused("it is no JSON object");
    if (document.value("bomFormat", "") == "CycloneDX") {
      if (const auto metadata = document.find("metadata");
          metadata != document.end() && metadata->contains("component")) {
        take_hashes(metadata->at("component"), kCycloneDx, hashes);
        take_components(metadata->at("component"), hashes);
      }
      take_components(document, hashes);
    } else if (document.value("spdxVersion", "").starts_with("SPDX-2.")) {
      for (const char* name : {"files", "packages"})
        for (const auto& entry : list_in(document, name))
          take_hashes(entry, kSpdx, hashes);
    } else {
      return refused("it is neither CycloneDX nor SPDX 2, as JSON");
    }
  } catch (const Refusal& refusal) {
    return refused(refusal.why);
  } catch (const Json::exception& wrong) {
    return refused(printable(wrong.what(), 200));
  }
  return hashes;
}

Sboms::Sboms(const SignedFiles& policy) : are_asked_{!policy.files.empty()} {
  const auto complain = [&](const std::string& key, const std::filesystem::path& file,
                            const std::string& why) {
    complaints_.push_back("an SBOM of the policy covers nothing until the operator has mended " +
                          file.string() + " (" + key + "): " + why);
    identity_ += " " + complaints_.back();
  };
  auto files = read_signed_files(policy, "sbom", kMaxSbomBytes, complain, identity_);
  for (auto& [file, text, key] : files) {
    auto hashes = hashes_of_sbom(text);
    if (!hashes) {
      complain("sbom_files", file, hashes.error().text());
      continue;
    }
    documents_.push_back({file.filename().string() + " (signed with " + key + ")", std::move(text),
                          *std::move(hashes)});
  }
}

Sboms::Cover Sboms::cover(const std::vector<oci::Executable>& executables) const {
  Cover cover;
  std::set<const Document*> used;
  for (const auto& executable : executables) {
    bool named = false;
    for (const auto& document : documents_) {
      if (!document.hashes.contains(executable.content.hex())) continue;
      named = true;
      used.insert(&document);
    }
    if (!named)
      cover.missing.push_back(printable(executable.path, 200) + " (" + executable.content.str() +
                              ")");
  }
  cover.documents.assign(used.begin(), used.end());
  return cover;
}

} // namespace slipway::gate
