// SPDX-License-Identifier: Apache-2.0
#include "executor/vulndb/update.hpp"

#include "executor/base/file.hpp"
#include "executor/vulndb/package.hpp"

#include <algorithm>
#include <set>

namespace slipway::vulndb {
namespace {

namespace fs = std::filesystem;

constexpr std::size_t kMaxSignatureBytes = 64UL << 10;
constexpr std::uint64_t kMaxSignatureBlobs = 1UL << 20;
constexpr std::size_t kMostSignatures = 32;
constexpr const char* kSignatureAnnotation = "dev.cosignproject.cosign/signature";
constexpr std::chrono::hours kMostAhead{24};

struct Offer {
  const Source* source;
  oci::Digest digest;
};

/// What two mirrors must not have in common: the host, whatever its port.
std::string home_of(const Source& source) {
  if (const auto* reference = std::get_if<oci::Reference>(&source)) {
    const auto registry = reference->registry();
    return registry.substr(0, registry.rfind(':'));
  }
  return std::get<fs::path>(source).parent_path().string();
}

Error denied(std::string why, std::string hint = "") {
  return Error{ErrorKind::denied, std::move(why), std::move(hint), {}};
}

/// A folder of ours that goes when it is not needed any more.
struct Staged {
  fs::path path;
  ~Staged() {
    std::error_code failed;
    fs::remove_all(path, failed);
  }
};

/// cosign keeps signatures on sha256:HEX under the tag sha256-HEX.sig.
Status check_signature_in_registry(const oci::Reference& reference, const oci::Digest& digest,
                                   const PublicKey& key, Mirror& mirror, const fs::path& scratch) {
  const auto tag = "sha256-" + digest.hex() + ".sig";
  auto layout = oci::Layout::create(scratch);
  if (!layout) return std::move(layout).error();
  auto pulled = mirror.pull(reference, tag, &*layout, kMaxSignatureBlobs);
  if (!pulled) {
    if (pulled.error().kind == ErrorKind::not_found)
      return denied(digest.str() + " is not signed: there is no " + reference.name() + ":" + tag,
                    "cosign sign --key KEY makes it");
    return std::move(pulled).error();
  }
  auto text = layout->read_blob(*pulled, oci::kMaxManifestBytes);
  if (!text) return std::move(text).error();
  auto parsed = oci::parse_manifest(*text);
  if (!parsed) return std::move(parsed).error();
  const auto* manifest = std::get_if<oci::Manifest>(&*parsed);
  const auto none = denied("no signature in " + reference.name() + ":" + tag +
                           " is one of [db] key_file on " + digest.str());
  if (manifest == nullptr || manifest->layers.size() > kMostSignatures) return none;
  for (const auto& layer : manifest->layers) {
    const auto written = layer.annotations.find(kSignatureAnnotation);
    if (written == layer.annotations.end()) continue;
    auto payload = layout->read_blob(layer.digest, kMaxSignatureBytes);
    if (!payload) continue;
    if (!key.verifies(*payload, written->second)) continue;
    const auto about = signed_digest(*payload);
    if (about && *about == digest) return {};
  }
  return none;
}

Status check_signature_beside(const Kind& kind, const fs::path& path, const oci::Digest& digest,
                              const PublicKey& key) {
  const fs::path file = path.string() + ".sig";
  auto text = read_file(file, kMaxSignatureBytes);
  if (!text) {
    if (text.error().kind == ErrorKind::not_found)
      return denied(path.string() + " is not signed: there is no " + file.string(),
                    std::string{"`slipway db digest"} + kind.option + " " + path.string() +
                        "` prints what to sign");
    return std::move(text).error();
  }
  if (key.verifies(statement(kind, digest), *text)) return {};
  return denied(file.string() + " is no signature of [db] key_file on " + digest.str());
}

/// What is believed of this offer, in words. Errors: denied, and those of the mirror.
Result<std::string> vouched(const Kind& kind, const Offer& offer, const std::vector<Offer>& offers,
                            const Rules& rules, Mirror& mirror, const fs::path& scratch) {
  if (rules.key) {
    const auto* reference = std::get_if<oci::Reference>(offer.source);
    auto checked =
        reference != nullptr
            ? check_signature_in_registry(*reference, offer.digest, *rules.key, mirror, scratch)
            : check_signature_beside(kind, std::get<fs::path>(*offer.source), offer.digest,
                                     *rules.key);
    if (!checked) return std::move(checked).error();
    return std::string{"signed with [db] key_file"};
  }
  for (const auto& other : offers) {
    if (other.digest == offer.digest && home_of(*other.source) != home_of(*offer.source))
      return name_of(*offer.source) + " and " + name_of(*other.source) + " agree";
  }
  return denied("nobody vouches for " + offer.digest.str() + ": it is not signed, and only " +
                    name_of(*offer.source) + " has it",
                "set [db] key_file, or name a second mirror in another registry as [[db_source]]");
}

Status fetch(const Kind& kind, const Offer& offer, const Rules& rules, Mirror& mirror,
             const fs::path& stage) {
  if (const auto* path = std::get_if<fs::path>(offer.source)) {
    auto unpacked = unpack(kind, *path, stage / "db", rules.max_bytes);
    if (!unpacked) return std::move(unpacked).error();
    if (*unpacked == offer.digest) return {};
    return Error{ErrorKind::unavailable,
                 path->string() + " changed while it was read",
                 "rename a finished file into its place",
                 {}};
  }
  const auto& reference = std::get<oci::Reference>(*offer.source);
  auto layout = oci::Layout::create(stage / "layout");
  if (!layout) return std::move(layout).error();
  auto pulled = mirror.pull(reference, offer.digest.str(), &*layout, rules.max_bytes);
  if (!pulled) return std::move(pulled).error();
  auto unpacked = unpack(kind, *layout, offer.digest, stage / "db", rules.max_bytes);
  std::error_code failed;
  fs::remove_all(layout->path(), failed);
  return unpacked;
}

/// A DB that is older or poorer would make findings disappear.
Status compare(const std::optional<Facts>& before, const Facts& now, const Rules& rules,
               const Clock& clock) {
  if (now.updated_at > clock.now() + kMostAhead)
    return denied("it claims to be of " + rfc3339(now.updated_at) + ", which lies ahead",
                  "check the clock");
  if (!before) return {};
  if (now.updated_at < before->updated_at)
    return denied("it is of " + rfc3339(now.updated_at) + ", older than the one in force, of " +
                  rfc3339(before->updated_at));
  const auto lost = losses(*before, now, rules.accepted_losses);
  if (lost.empty()) return {};
  std::string text;
  for (const auto& one : lost)
    text += (text.empty() ? "" : "; ") + one;
  return denied("it has lost more than a fifth of what it had: " + text,
                "if that is right, `slipway db update --accept-loss SOURCE`");
}

} // namespace

std::string name_of(const Source& source) {
  if (const auto* reference = std::get_if<oci::Reference>(&source)) return reference->str();
  return std::get<fs::path>(source).string();
}

Result<Outcome> update(const Store& store, const std::vector<Source>& sources, const Rules& rules,
                       Mirror& mirror, audit::AuditLog& audit, const Clock& clock) {
  if (sources.empty()) {
    return Error{ErrorKind::misconfigured,
                 "there is no source to update from",
                 "name one as [[db_source]]; docs/operating.md says how to fill it",
                 {}};
  }
  const Kind& kind = store.kind();
  auto locked = store.lock();
  if (!locked) return std::move(locked).error();
  Outcome outcome;
  std::vector<Offer> offers;
  for (const auto& source : sources) {
    const auto* reference = std::get_if<oci::Reference>(&source);
    auto digest = reference != nullptr ? mirror.pull(*reference, reference->target(), nullptr, 0)
                                       : digest_of(kind, std::get<fs::path>(source));
    if (digest)
      offers.push_back({&source, *std::move(digest)});
    else
      outcome.notes.push_back(name_of(source) + ": " + digest.error().text());
  }
  if (offers.empty()) {
    return Error{ErrorKind::unavailable,
                 "no source answers: " + outcome.notes.front(),
                 outcome.notes.size() > 1 ? outcome.notes.back() : "",
                 {}};
  }

  std::optional<Facts> before;
  if (auto current = store.current()) {
    before = *std::move(current);
  } else if (current.error().kind != ErrorKind::not_found) {
    outcome.notes.push_back("the DB in force cannot be read, so nothing is compared with it: " +
                            current.error().text());
  }
  std::optional<Error> refused;
  std::set<oci::Digest> tried;
  bool in_force = false; // somebody offers it still
  for (const auto& offer : offers) {
    if (before && before->digest == offer.digest.str()) {
      in_force = true;
      continue;
    }
    if (tried.contains(offer.digest)) continue;
    const auto from = name_of(*offer.source);
    auto made = store.stage();
    if (!made) return std::move(made).error();
    const Staged stage{*std::move(made)};
    const auto take = [&]() -> Status {
      if (store.was_rolled_back(offer.digest.str()))
        return denied(offer.digest.str() + " is what `slipway db rollback" + kind.option +
                          "` went back from",
                      std::string{"`slipway db rollback"} + kind.option + "` again takes it back");
      auto believed = vouched(kind, offer, offers, rules, mirror, stage.path / "signature");
      if (!believed) return std::move(believed).error();
      tried.insert(offer.digest);
      if (auto fetched = fetch(kind, offer, rules, mirror, stage.path); !fetched) return fetched;
      auto facts = read_facts(kind, stage.path / "db", rules.canaries);
      if (!facts) return std::move(facts).error();
      facts->digest = offer.digest.str();
      facts->source = from;
      facts->accepted = *std::move(believed);
      facts->installed_at = rfc3339(clock.now());
      if (auto fine = compare(before, *facts, rules, clock); !fine) return fine;
      auto intent = audit.append("db_update", {{"digest", facts->digest},
                                               {"from", from},
                                               {"accepted", facts->accepted},
                                               {kind.audit_name, facts->sha256},
                                               {"updated_at", rfc3339(facts->updated_at)},
                                               {kind.has_advisories ? "advisories" : "bytes",
                                                std::to_string(facts->total())}});
      if (!intent) return std::move(intent).error().in("writing the audit log");
      std::error_code failed;
      fs::remove_all(stage.path / "signature", failed);
      if (auto installed = store.install(stage.path, *facts); !installed) return installed;
      outcome.facts = *std::move(facts);
      return {};
    };
    auto taken = take();
    if (taken) {
      outcome.changed = true;
      if (refused) outcome.notes.push_back(refused->text());
      return outcome;
    }
    auto error = std::move(taken).error().in("taking the DB of " + from);
    const bool judged = error.kind == ErrorKind::denied || error.kind == ErrorKind::bad_input ||
                        error.kind == ErrorKind::not_found;
    if (judged) {
      if (auto noted =
              audit.append("db_refused",
                           {{"digest", offer.digest.str()}, {"from", from}, {"why", error.text()}});
          !noted)
        return std::move(noted).error().in("writing the audit log");
      error.kind = ErrorKind::denied;
    }
    if (refused)
      outcome.notes.push_back(error.text());
    else
      refused = std::move(error);
  }
  if (in_force) { // a mirror that lags behind is no failure
    if (refused) outcome.notes.push_back(refused->text());
    outcome.facts = *std::move(before);
    return outcome;
  }
  for (const auto& note : outcome.notes)
    refused->what += "; " + note;
  return *std::move(refused);
}

} // namespace slipway::vulndb
