// SPDX-License-Identifier: Apache-2.0
#include "executor/gate/openvex.hpp"

#include "executor/gate/report.hpp"
#include "executor/oci/digest.hpp"
#include "executor/oci/strict_json.hpp"

#include <nlohmann/json.hpp>

#include <algorithm>
#include <array>
#include <initializer_list>
#include <optional>

namespace slipway::gate {
namespace {

using Json = nlohmann::json;

constexpr const char* kContext = "https://openvex.dev/ns/v0.2.0";
constexpr std::array kStatuses{VexStatus::not_affected, VexStatus::affected, VexStatus::fixed,
                               VexStatus::under_investigation};
constexpr std::array<std::string_view, 5> kJustifications{
    "component_not_present", "vulnerable_code_not_present", "vulnerable_code_not_in_execute_path",
    "vulnerable_code_cannot_be_controlled_by_adversary", "inline_mitigations_already_exist"};

// Thrown and caught in this file alone, beside those of the JSON library.
struct Refusal {
  std::string why;
};

void expect_members(const Json& object, const char* what,
                    std::initializer_list<std::string_view> known) {
  if (!object.is_object()) throw Refusal{std::string{what} + " is no object"};
  for (const auto& [name, unused] : object.items()) {
    if (std::find(known.begin(), known.end(), name) == known.end())
      throw Refusal{std::string{what} + " has a member '" + printable(name, 60) +
                    "', which OpenVEX 0.2.0 does not know"};
  }
}

std::string text_in(const Json& object, const char* name) {
  const auto found = object.find(name);
  return found == object.end() ? "" : found->get<std::string>();
}

std::string required_text(const Json& object, const char* name) {
  auto text = object.at(name).get<std::string>();
  if (text.empty()) throw Refusal{std::string{name} + " is empty"};
  return text;
}

WallTime time_of(const Json& object, const char* name) {
  WallTime time;
  if (!parse_rfc3339(object.at(name).get<std::string>(), time) ||
      time.time_since_epoch().count() <= 0)
    throw Refusal{std::string{name} + " is no time such as 2026-11-20T15:00:00Z"};
  return time;
}

config::PackageUrl purl_of(const std::string& text) {
  auto url = config::PackageUrl::parse(text);
  if (!url) throw Refusal{url.error().what};
  return *std::move(url);
}

VexComponent component_of(const Json& object) {
  VexComponent component;
  if (const auto id = text_in(object, "@id"); id.starts_with("pkg:"))
    component.purls.push_back(purl_of(id));
  if (const auto identifiers = object.find("identifiers"); identifiers != object.end()) {
    expect_members(*identifiers, "identifiers", {"purl", "cpe22", "cpe23", "@cpe22", "@cpe23"});
    if (identifiers->contains("purl"))
      component.purls.push_back(purl_of(identifiers->at("purl").get<std::string>()));
  }
  if (const auto hashes = object.find("hashes"); hashes != object.end()) {
    component.has_hashes = !hashes->get_ref<const Json::object_t&>().empty();
    if (hashes->contains("sha-256")) {
      const auto digest = oci::Digest::parse("sha256:" + text_in(*hashes, "sha-256"));
      if (!digest) throw Refusal{"sha-256 is not 64 lower-case hex digits"};
      component.digest = digest->str();
    }
  }
  return component;
}

VexProduct product_of(const Json& object) {
  expect_members(object, "a product",
                 {"@id", "identifiers", "hashes", "supplier", "subcomponents"});
  VexProduct product{.itself = component_of(object), .subcomponents = {}};
  if (const auto parts = object.find("subcomponents"); parts != object.end()) {
    for (const auto& part : parts->get_ref<const Json::array_t&>()) {
      expect_members(part, "a subcomponent", {"@id", "identifiers", "hashes", "supplier"});
      product.subcomponents.push_back(component_of(part));
    }
  }
  return product;
}

std::set<std::string> names_in(const Json& vulnerability) {
  expect_members(vulnerability, "a vulnerability", {"@id", "name", "description", "aliases"});
  std::set<std::string> names{required_text(vulnerability, "name")};
  if (const auto aliases = vulnerability.find("aliases"); aliases != vulnerability.end())
    names.merge(aliases->get<std::set<std::string>>());
  return names;
}

VexStatus status_of(const std::string& word) {
  const auto* const found = std::find_if(kStatuses.begin(), kStatuses.end(), [&](VexStatus status) {
    return word == vex_status_name(status);
  });
  if (found == kStatuses.end())
    throw Refusal{"'" + printable(word, 60) + "' is no status of OpenVEX"};
  return *found;
}

VexStatement statement_of(const Json& object, WallTime of_document) {
  expect_members(object, "a statement",
                 {"@id", "version", "vulnerability", "timestamp", "last_updated", "products",
                  "status", "supplier", "status_notes", "justification", "impact_statement",
                  "action_statement", "action_statement_timestamp"});
  VexStatement statement;
  statement.names = names_in(object.at("vulnerability"));
  statement.status = status_of(object.at("status").get<std::string>());
  statement.timestamp = object.contains("timestamp") ? time_of(object, "timestamp") : of_document;
  const auto justification = text_in(object, "justification");
  const auto impact = text_in(object, "impact_statement");
  if (!justification.empty() && std::find(kJustifications.begin(), kJustifications.end(),
                                          justification) == kJustifications.end())
    throw Refusal{"'" + printable(justification, 60) + "' is no justification of OpenVEX"};
  if (statement.status == VexStatus::not_affected && justification.empty() && impact.empty())
    throw Refusal{"a statement that says not_affected has neither justification nor "
                  "impact_statement"};
  statement.reason = justification + (justification.empty() || impact.empty() ? "" : ": ") + impact;
  if (const auto products = object.find("products"); products != object.end()) {
    for (const auto& product : products->get_ref<const Json::array_t&>())
      statement.products.push_back(product_of(product));
  }
  return statement;
}

VexDocument document_of(const Json& object) {
  expect_members(object, "the document",
                 {"@context", "@id", "author", "role", "timestamp", "last_updated", "version",
                  "tooling", "statements"});
  if (object.at("@context").get<std::string>() != kContext)
    throw Refusal{std::string{"its @context is not "} + kContext};
  required_text(object, "@id");
  if (!object.at("version").is_number_integer() || object.at("version") < 1)
    throw Refusal{"its version is not a whole number from 1 on"};
  VexDocument document{.author = required_text(object, "author"), .statements = {}};
  const auto timestamp = time_of(object, "timestamp");
  for (const auto& one : object.at("statements").get_ref<const Json::array_t&>())
    document.statements.push_back(statement_of(one, timestamp));
  if (document.statements.empty()) throw Refusal{"it has no statement"};
  return document;
}

} // namespace

const char* vex_status_name(VexStatus status) {
  switch (status) {
  case VexStatus::not_affected:
    return "not_affected";
  case VexStatus::affected:
    return "affected";
  case VexStatus::fixed:
    return "fixed";
  case VexStatus::under_investigation:
    return "under_investigation";
  }
  return "under_investigation"; // unreachable: every enumerator returns above
}

Result<VexDocument> parse_openvex(std::string_view json) {
  const auto refused = [](const std::string& why) {
    return Error{ErrorKind::bad_input, "not OpenVEX 0.2.0: " + why, "", {}};
  };
  if (auto fine = oci::check_json(json, "the document"); !fine) return std::move(fine).error();
  try {
    return document_of(Json::parse(json));
  } catch (const Refusal& refusal) {
    return refused(refusal.why);
  } catch (const Json::exception& wrong) {
    return refused(printable(wrong.what()));
  }
}

} // namespace slipway::gate
