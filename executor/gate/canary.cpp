// SPDX-License-Identifier: Apache-2.0
#include "executor/gate/canary.hpp"

#include "executor/base/file.hpp"
#include "executor/gate/bolt.hpp"
#include "executor/gate/database.hpp"
#include "executor/gate/grype_report.hpp"
#include "executor/gate/report.hpp"
#include "executor/gate/scratch_dir.hpp"

#include <nlohmann/json.hpp>

#include <algorithm>
#include <array>
#include <cstdio>
#include <utility>

namespace slipway::gate {
namespace {

using nlohmann::json;

// A DB whose first advisories are all of no use is none that anything is found with.
constexpr int kMostLooks = 50000;
constexpr int kMostTries = 3; ///< of different packages, until one is found
constexpr const char* kArchitecture = "x86_64";

using Files = std::vector<std::pair<std::string, std::string>>;

Files dpkg(Files files, const std::string& package) {
  files.emplace_back("var/lib/dpkg/status", "Package: " + package +
                                                "\nStatus: install ok installed\n"
                                                "Maintainer: slipway\nArchitecture: amd64\n"
                                                "Version: 0\nDescription: canary\n\n");
  return files;
}

Files apk(Files files, const std::string& package) {
  files.emplace_back("lib/apk/db/installed",
                     "P:" + package + "\nV:0-r0\nA:" + kArchitecture +
                         "\nS:1\nI:1\nT:canary\nU:https://localhost\nL:none\no:" + package +
                         "\nm:slipway\nt:1\nc:1\n\n");
  return files;
}

// What `rpm -qa` prints; Trivy reads that where there is no rpm database, for images without rpm.
// Source: trivy 0.69.3, pkg/fanal/analyzer/pkg/rpm/rpmqa.go.
Files rpm(Files files, const std::string& package) {
  files.emplace_back("var/lib/rpmmanifest/container-manifest-2",
                     package + "\t0-0\t1\t1\tslipway\t(none)\t1\t" + kArchitecture + "\t0\t" +
                         package + "-0-0.src.rpm\n");
  return files;
}

Files os_release(const std::string& id, const std::string& version) {
  return {{"etc/os-release", "NAME=" + id + "\nID=" + id + "\nVERSION_ID=\"" + version + "\"\n"}};
}

/// A system whose packages an image can be made of: how its buckets begin, and its files for a
/// release and a package. Source: trivy 0.69.3, pkg/fanal/analyzer/os.
struct System {
  std::string_view bucket; ///< with a blank at its end: a release follows
  Files (*files)(const std::string& release, const std::string& package);
  bool unfixed;       ///< advisories without a fix are reported, too
  bool second = true; ///< Grype knows it
};

constexpr std::array kSystems{std::
                                  to_array<System>(
                                      {{"debian ",
                                        [](const std::string& release, const std::string& package) {
                                          auto files = os_release("debian", release);
                                          files.emplace_back("etc/debian_version",
                                                             release + ".0\n");
                                          return dpkg(std::move(files), package);
                                        },
                                        true},
                                       {"ubuntu ",
                                        [](const std::string& release, const std::string& package) {
                                          auto files = os_release("ubuntu", release);
                                          files.emplace_back("etc/lsb-release",
                                                             "DISTRIB_ID=Ubuntu\nDISTRIB_RELEASE=" +
                                                                 release + "\n");
                                          return dpkg(std::move(files), package);
                                        },
                                        true},
                                       {"alpine ",
                                        [](const std::string& release, const std::string& package) {
                                          auto files = os_release("alpine", release + ".0");
                                          files.emplace_back("etc/alpine-release",
                                                             release + ".0\n");
                                          return apk(std::move(files), package);
                                        },
                                        false},
                                       {"alma ",
                                        [](const std::string& release, const std::string& package) {
                                          return rpm(os_release("almalinux", release), package);
                                        },
                                        false},
                                       {"rocky ",
                                        [](const std::string& release, const std::string& package) {
                                          return rpm(os_release("rocky", release), package);
                                        },
                                        false},
                                       {"Oracle Linux ",
                                        [](const std::string& release, const std::string& package) {
                                          return rpm(os_release("ol", release), package);
                                        },
                                        false},
                                       {"Azure Linux ",
                                        [](const std::string& release, const std::string& package) {
                                          return rpm(os_release("azurelinux", release), package);
                                        },
                                        true},
                                       {"amazon linux ",
                                        [](const std::string& release, const std::string& package) {
                                          auto files = os_release("amzn", release == "1" ? "2018.03"
                                                                                         : release);
                                          files.emplace_back(
                                              "etc/system-release",
                                              release == "1"
                                                  ? std::
                                                        string{"Amazon Linux AMI release 2018.03\n"}
                                                  : "Amazon Linux release " + release +
                                                        " (canary)\n");
                                          return rpm(std::move(files), package);
                                        },
                                        false},
                                       {"Red Hat ",
                                        [](const std::string& release, const std::string& package) {
                                          auto files = os_release("rhel", release + ".0");
                                          files.emplace_back("etc/redhat-release",
                                                             "Red Hat Enterprise Linux release " +
                                                                 release + ".0 (canary)\n");
                                          return rpm(std::move(files), package);
                                        },
                                        true},
                                       {"CBL-Mariner ",
                                        [](const std::string& release, const std::string& package) {
                                          return rpm(os_release("mariner", release), package);
                                        },
                                        true},
                                       {"Photon OS ",
                                        [](const std::string& release, const std::string& package) {
                                          return rpm(os_release("photon", release), package);
                                        },
                                        false, false},
                                       {"SUSE Linux Enterprise ",
                                        [](const std::string& release, const std::string& package) {
                                          return rpm(os_release("sles", release), package);
                                        },
                                        false},
                                       {"SUSE Linux Enterprise Micro ",
                                        [](const std::string& release, const std::string& package) {
                                          return rpm(os_release("sle-micro", release), package);
                                        },
                                        false, false},
                                       {"openSUSE Leap ",
                                        [](const std::string& release, const std::string& package) {
                                          return rpm(os_release("opensuse-leap", release), package);
                                        },
                                        false, false},
                                       {"openSUSE Tumbleweed",
                                        [](const std::string&, const std::string& package) {
                                          return rpm(os_release("opensuse-tumbleweed", "20250101"),
                                                     package);
                                        },
                                        false, false},
                                       {"wolfi",
                                        [](const std::string&, const std::string& package) {
                                          return apk(os_release("wolfi", "20230201"), package);
                                        },
                                        false},
                                       {"chainguard",
                                        [](const std::string&, const std::string& package) {
                                          return apk(os_release("chainguard", "20230214"), package);
                                        },
                                        false}})};

bool is_number(std::string_view text) {
  return !text.empty() && text.find_first_not_of("0123456789.") == std::string_view::npos;
}

/// Its release, which is a number ("alpine edge" has none that a file could name); "" of a system
/// that has none.
std::optional<std::pair<const System*, std::string>> system_of(std::string_view bucket) {
  for (const auto& system : kSystems) {
    if (bucket == system.bucket && !bucket.ends_with(' ')) return std::pair{&system, std::string{}};
    if (!bucket.starts_with(system.bucket)) continue;
    const auto release = bucket.substr(system.bucket.size());
    if (is_number(release)) return std::pair{&system, std::string{release}};
  }
  return std::nullopt;
}

// Names of modules ("nodejs:12::npm") are none of packages, and what is odd may be read oddly.
bool is_package(std::string_view name) {
  return !name.empty() && name.size() <= 100 &&
         name.find_first_not_of("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789"
                                ".+-_") == std::string_view::npos;
}

// Version 0 is older than these; what Oracle calls a flavour is compared with its own only.
bool is_fix(std::string_view version) {
  if (version.starts_with("0:")) version.remove_prefix(2);
  return !version.empty() && version.size() <= 200 && version.front() >= '1' &&
         version.front() <= '9' &&
         version.find_first_not_of("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789"
                                   ".+-_~:^") == std::string_view::npos &&
         version.find("ksplice") == std::string_view::npos &&
         version.find("fips") == std::string_view::npos;
}

std::string text_at(const json& object, const char* key) {
  const auto at = object.find(key);
  return at != object.end() && at->is_string() ? at->get<std::string>() : "";
}

bool is_for_us(const json& entry) {
  const auto arches = entry.find("Arches");
  if (arches == entry.end() || !arches->is_array() || arches->empty()) return true;
  return std::find(arches->begin(), arches->end(), json(kArchitecture)) != arches->end();
}

struct Fix {
  std::string id;    ///< as it is reported
  std::string fixed; ///< the version; "" where there is none
};

/// Nothing where this advisory of `id` is of no use. Source: trivy-db, pkg/types: Advisory,
/// Advisories.
std::optional<Fix> fix_in(std::string_view advisory, const std::string& id) {
  const auto document = json::parse(advisory, nullptr, false);
  if (!document.is_object() || !text_at(document, "AffectedVersion").empty()) return std::nullopt;
  const auto entries = document.find("Entries");
  if (entries != document.end() && entries->is_array() && !entries->empty()) {
    for (const auto& entry : *entries)
      if (entry.is_object() && is_for_us(entry) && is_fix(text_at(entry, "FixedVersion")))
        return Fix{id, text_at(entry, "FixedVersion")};
    return std::nullopt;
  }
  if (!is_for_us(document)) return std::nullopt;
  auto fixed = text_at(document, "FixedVersion");
  if (!fixed.empty() && !is_fix(fixed)) return std::nullopt;
  return Fix{id, std::move(fixed)};
}

/// The same of Red Hat's: an entry counts where it is about one of `products`, and of an erratum
/// the first CVE. Source: trivy-db, pkg/vulnsrc/redhat-oval, Get.
std::optional<Fix> red_hat_fix_in(std::string_view key, std::string_view advisory,
                                  const std::set<std::int64_t>& products) {
  const auto document = json::parse(advisory, nullptr, false);
  if (!document.is_object()) return std::nullopt;
  for (const auto& entry : document.value("Entries", json::array())) {
    if (!entry.is_object() || !is_for_us(entry)) continue;
    const auto affected = entry.value("Affected", json::array());
    const auto cves = entry.value("Cves", json::array());
    const auto fixed = text_at(entry, "FixedVersion");
    if (!affected.is_array() || !cves.is_array() || cves.empty() || !cves[0].is_object() ||
        (!fixed.empty() && !is_fix(fixed)) ||
        std::none_of(affected.begin(), affected.end(), [&](const json& product) {
          return product.is_number_integer() && products.contains(product.get<std::int64_t>());
        }))
      continue;
    auto id = key.starts_with("CVE-") ? std::string{key} : text_at(cves[0], "ID");
    if (!id.empty()) return Fix{std::move(id), fixed};
  }
  return std::nullopt;
}

void add_file(std::string& tar, const std::string& name, const std::string& content) {
  std::string header(512, '\0');
  const auto put = [&](std::size_t at, std::string_view text) {
    header.replace(at, text.size(), text);
  };
  const auto octal = [](std::size_t number, int digits) {
    std::array<char, 32> text{};
    (void)std::snprintf(text.data(), text.size(), "%0*zo", digits, number);
    return std::string{text.data()};
  };
  put(0, name);
  put(100, octal(0644, 7));
  put(108, octal(0, 7));
  put(116, octal(0, 7));
  put(124, octal(content.size(), 11));
  put(136, octal(0, 11));
  put(148, "        ");
  header[156] = '0';
  put(257, std::string_view{"ustar\0"
                            "00",
                            8});
  std::size_t sum = 0;
  for (const char c : header)
    sum += static_cast<unsigned char>(c);
  put(148, octal(sum, 6) + std::string{"\0 ", 2});
  tar += header + content;
  tar.append((512 - content.size() % 512) % 512, '\0');
}

oci::Descriptor descriptor_of(const char* type, const oci::Digest& digest, std::size_t size) {
  return {.media_type = type,
          .digest = digest,
          .size = size,
          .platform = {},
          .annotations = {},
          .artifact_type = {},
          .has_urls = false};
}

json as_json(const oci::Descriptor& descriptor) {
  return {{"mediaType", descriptor.media_type},
          {"digest", descriptor.digest.str()},
          {"size", descriptor.size}};
}

Result<oci::Digest> write_image(const std::filesystem::path& dir, const std::string& layer) {
  auto layout = oci::Layout::create(dir);
  if (!layout) return std::move(layout).error();
  auto blob = layout->write_blob(layer);
  if (!blob) return blob;
  const auto config_text =
      json{{"architecture", "amd64"},
           {"os", "linux"},
           {"config", json::object()},
           {"rootfs", {{"type", "layers"}, {"diff_ids", json::array({blob->str()})}}}}
          .dump();
  auto config = layout->write_blob(config_text);
  if (!config) return config;
  const auto manifest_text =
      json{{"schemaVersion", 2},
           {"mediaType", oci::kMediaTypeOciManifest},
           {"config", as_json(descriptor_of("application/vnd.oci.image.config.v1+json", *config,
                                            config_text.size()))},
           {"layers", json::array({as_json(descriptor_of("application/vnd.oci.image.layer.v1.tar",
                                                         *blob, layer.size()))})}}
          .dump();
  auto manifest = layout->write_blob(manifest_text);
  if (!manifest) return manifest;
  if (auto done = layout->write_index(
          {descriptor_of(oci::kMediaTypeOciManifest, *manifest, manifest_text.size())});
      !done)
    return std::move(done).error();
  return manifest;
}

std::string words_of(const ScanCanary& canary) {
  return canary.id + " in the package " + canary.package + " of " + canary.bucket;
}

constexpr const char* kAdvice =
    " What it finds in other images counts for nothing then. The operator has to find out whether "
    "the scanner or the DB was changed or is broken, and install both anew: packaging/tools, "
    "`slipway db update`.";

} // namespace

bool has_canary_for(std::string_view bucket, bool second) {
  const auto system = system_of(bucket);
  return system && (!second || system->first->second);
}

Result<std::optional<ScanCanary>> choose_canary(const std::filesystem::path& db_dir,
                                                const std::string& bucket,
                                                const std::set<std::string>& passed_over) {
  const auto system = system_of(bucket);
  if (!system) return std::optional<ScanCanary>{};
  auto file = BoltFile::open(db_dir / "trivy.db");
  if (!file) return std::move(file).error();
  const auto red_hat = red_hat_release(bucket);
  const auto products = red_hat ? red_hat_products(*file, *red_hat) : std::set<std::int64_t>{};
  if (!products) return Error{products.error()};
  std::optional<ScanCanary> best;
  int looks = 0;
  auto searched = file->search(
      red_hat ? kRedHatBucket : bucket,
      [&](const std::vector<std::string>& buckets, std::string_view key, std::string_view value) {
        if (++looks > kMostLooks) return false;
        if (buckets.size() != 2 || !is_package(buckets[1]) || key.empty() || key.size() > 100 ||
            passed_over.contains(buckets[1]))
          return true;
        const auto found =
            red_hat ? red_hat_fix_in(key, value, *products) : fix_in(value, std::string{key});
        if (!found || (found->fixed.empty() && (best || !system->first->unfixed))) return true;
        best = ScanCanary{bucket, buckets[1], found->id, found->fixed};
        return found->fixed.empty(); // one with a fix is compared, so it shows more
      });
  if (!searched) return std::move(searched).error().in("looking into '" + bucket + "' in trivy.db");
  return best;
}

std::string canary_layer(const ScanCanary& canary) {
  std::string tar;
  if (const auto system = system_of(canary.bucket))
    for (const auto& [name, content] : system->first->files(system->second, canary.package))
      add_file(tar, name, content);
  tar.append(1024, '\0');
  return tar;
}

namespace {

/// Of this bucket, or of any where it is "".
Result<std::optional<ScanCanary>> choose(const std::filesystem::path& db_dir, const std::string& of,
                                         const std::set<std::string>& passed_over, bool second) {
  if (!of.empty()) return choose_canary(db_dir, of, passed_over);
  auto file = BoltFile::open(db_dir / "trivy.db");
  if (!file) return std::move(file).error();
  auto buckets = file->buckets();
  if (!buckets) return std::move(buckets).error();
  for (const auto& name : *buckets) {
    if (!has_canary_for(name, second)) continue;
    auto chosen = choose_canary(db_dir, name, passed_over);
    if (!chosen || *chosen) return chosen;
  }
  return std::optional<ScanCanary>{};
}

Result<std::vector<Finding>> findings_in(const std::string& text, bool second) {
  if (second) {
    auto report = parse_grype_report(text);
    if (!report) return std::move(report).error();
    return std::move(report->findings);
  }
  auto report = parse_report(text);
  if (!report) return std::move(report).error();
  return std::move(report->findings);
}

/// "" where the scanner finds it, else what is wrong. Errors: io.
Result<std::string> find(Scanner& scanner, const ScannerConfig& config, const ScanCanary& canary,
                         bool second) {
  const std::string name = second ? "Grype" : "The scanner";
  auto scratch = ScratchDir::under(config.cache_dir);
  if (!scratch) return std::move(scratch).error();
  const auto dir = scratch->path() / "layout";
  auto manifest = write_image(dir, canary_layer(canary));
  if (!manifest) return std::move(manifest).error().in("making an image for the scanner's proof");
  auto scanned = scanner.scan(dir, *manifest);
  if (!scanned)
    return name + " did not scan an image that has " + words_of(canary) + ": " +
           scanned.error().text() + ".";
  auto findings = findings_in(scanned->json, second);
  if (!findings)
    return name + "'s report on an image that has " + words_of(canary) +
           " cannot be used: " + findings.error().text() + ".";
  const bool found = std::any_of(findings->begin(), findings->end(), [&](const Finding& finding) {
    return finding.package == canary.package && (second || finding.id == canary.id);
  });
  if (found) return std::string{};
  return second
             ? "Grype finds nothing in an image that has " + words_of(canary) +
                   ", which Trivy's DB knows." + kAdvice
             : "The scanner does not find " + words_of(canary) + ", which its DB knows." + kAdvice;
}

} // namespace

Result<std::string> prove_scanner(Scanner& scanner, const ScannerConfig& config,
                                  const ProofSubject& subject,
                                  const std::optional<std::string>& bucket) {
  std::string of = bucket && has_canary_for(*bucket, subject.second) ? *bucket : "";
  const auto folder = config.cache_dir / "verdicts";
  const auto note = folder / ("canary-" + oci::Digest::of(json{{"scanner", subject.scanner},
                                                               {"db", subject.db},
                                                               {"arguments", subject.arguments},
                                                               {"of", of}}
                                                              .dump())
                                              .hex());
  if (read_file(note, 16)) return std::string{};

  // Should Trivy treat one advisory in a way of its own, another shows as much.
  std::set<std::string> passed_over;
  std::string wrong;
  for (int tries = 0; tries < kMostTries; ++tries) {
    auto canary = choose(config.db_dir, of, passed_over, subject.second);
    if (!canary) return "The vulnerability DB cannot be used: " + canary.error().text() + ".";
    if (!*canary) break;
    auto found = find(scanner, config, **canary, subject.second);
    if (!found) return std::move(found).error();
    if (found->empty()) {
      // Not remembered: the next judgement proves it again.
      if (make_directory(folder, 0700)) (void)replace_file(note, "found\n", 0600).ok();
      return std::string{};
    }
    if (wrong.empty()) wrong = *std::move(found);
    passed_over.insert((*canary)->package);
  }
  if (!wrong.empty()) return wrong;
  if (!of.empty())
    return "The vulnerability DB names " + of +
           " and holds no advisory for it that could be looked for, so nothing would be found in "
           "any image of it. The operator has to install a whole one: `slipway db update`.";
  return std::string{
      "The vulnerability DB holds no advisory of any system that could be looked for. The operator "
      "has to install a whole one: `slipway db update`."};
}

} // namespace slipway::gate
