// SPDX-License-Identifier: Apache-2.0
#include "stages/image/external_images.hpp"

#include "executor/backends/buildkit/command.hpp"
#include "executor/oci/platform.hpp"

#include <algorithm>
#include <map>
#include <optional>
#include <set>

namespace slipway::image {
namespace {

/// Named contexts by the name under which BuildKit looks for them. Errors: bad_input.
Result<std::map<std::string, std::string>> by_key(const NamedContexts& given) {
  std::map<std::string, std::string> contexts;
  for (const auto& [name, source] : given) {
    auto key = backends::buildkit::context_key(name);
    if (!key) return std::move(key).error().in("named context " + name);
    contexts[*std::move(key)] = source;
  }
  return contexts;
}

/// Where the image is to be had; none where a context is a folder, which the backend has. Errors:
/// bad_input.
Result<std::optional<oci::Reference>>
source_of(const std::string& name, const oci::Reference& reference,
          const std::map<std::string, std::string>& contexts) {
  const auto key = backends::buildkit::context_key(name);
  const auto context = key ? contexts.find(*key) : contexts.end();
  if (context == contexts.end()) return std::optional{reference};
  if (!context->second.starts_with(kImageContext)) return std::optional<oci::Reference>{};
  auto other = oci::Reference::parse(context->second.substr(kImageContext.size()));
  if (!other) return std::move(other).error();
  return std::optional{*std::move(other)};
}

/// One that is filed under unknown/unknown. Source: BuildKit, attestation-storage.md.
bool is_filed_as_attestation(const oci::Descriptor& child) {
  return child.platform && child.platform->os == "unknown";
}

} // namespace

Result<std::vector<std::string>> platforms_wanted(const std::vector<std::string>& given) {
  std::vector<std::string> platforms;
  for (const auto& text : given) {
    auto platform = oci::parse_platform(text);
    if (!platform) return std::move(platform).error();
    if (platform->os != "linux")
      return Error{ErrorKind::bad_input,
                   "no image can be built for " + platform->str() + " here",
                   "build for platforms of Linux",
                   {}};
    if (std::find(platforms.begin(), platforms.end(), platform->str()) == platforms.end())
      platforms.push_back(platform->str());
  }
  if (platforms.size() > kMostPlatforms)
    return Error{ErrorKind::bad_input,
                 "a build for " + std::to_string(platforms.size()) + " platforms",
                 "one build has " + std::to_string(kMostPlatforms) + " at most",
                 {}};
  return platforms;
}

std::vector<dockerfile::Scope> scopes_of(const dockerfile::Scope& scope,
                                         const std::vector<std::string>& platforms) {
  if (platforms.empty()) return {scope};
  std::vector<dockerfile::Scope> scopes;
  for (const auto& platform : platforms) {
    scopes.push_back(scope);
    scopes.back().target_platform = platform;
  }
  return scopes;
}

Status replaces_no_stage(const NamedContexts& contexts, const dockerfile::Dockerfile& file) {
  auto keys = by_key(contexts);
  if (!keys) return std::move(keys).error();
  for (const auto& stage : file.stages)
    if (!stage.name.empty() && keys->contains(stage.name))
      return Error{ErrorKind::bad_input,
                   "the named context " + stage.name + " would take the place of a stage of " +
                       file.file,
                   "give the context or the stage another name",
                   {}};
  return {};
}

Result<std::vector<router::BaseConfigs>> walk_images(const dockerfile::Dockerfile& parsed,
                                                     std::vector<dockerfile::Scope>& scopes,
                                                     const NamedContexts& contexts,
                                                     const TakeImage& take) {
  const auto keys = by_key(contexts);
  if (!keys) return keys.error();
  using Place = std::pair<std::string, std::string>; // a name and a platform
  std::map<Place, std::vector<oci::ImageConfig>> taken;
  std::vector<router::BaseConfigs> configs;
  for (auto& scope : scopes) {
    auto wanted = dockerfile::external_images(parsed, scope);
    if (!wanted) return std::move(wanted).error();
    std::set<Place> met;
    auto& known = configs.emplace_back();
    for (std::size_t i = 0; i < wanted->size(); ++i) { // grows by what triggers of bases need
      const auto image = (*wanted)[i];
      const auto platform = dockerfile::platform_of(image, scope);
      if (!met.emplace(image.reference, platform).second) continue;
      const auto at = parsed.at(image.line) + ": " + image.used_by + " " + image.reference;
      const auto reference = oci::Reference::parse(image.reference);
      if (!reference) return Error{reference.error()}.in(at);
      auto source = source_of(image.reference, *reference, *keys);
      if (!source) return std::move(source).error().in(at);
      if (!*source) continue;
      const Place place{reference->familiar(), platform}; // also by another spelling
      auto found = taken.find(place);
      if (found == taken.end()) {
        auto given = take({image.reference, *reference, **source,
                           image.platform.empty() ? scope.target_platform : image.platform,
                           platform, image.used_by == "FROM"});
        if (!given) return std::move(given).error().in(at);
        found = taken.emplace(place, *std::move(given)).first;
      }
      for (const auto& config : found->second) {
        known.emplace(image.reference, config);
        if (!config.on_build.empty()) scope.triggers[image.reference] = config.on_build;
      }
      if (!scope.triggers.contains(image.reference)) continue;
      auto more = dockerfile::external_images(parsed, scope);
      if (!more) return std::move(more).error().in(at);
      wanted->insert(wanted->end(), more->begin(), more->end());
    }
  }
  return configs;
}

Result<std::vector<oci::ImageConfig>> configs_below(const oci::Layout& layout,
                                                    const oci::Digest& root) {
  std::vector<oci::ImageConfig> configs;
  std::vector<oci::Digest> wanted{root};
  std::set<oci::Digest> met{root};
  for (std::size_t at = 0; at < wanted.size(); ++at) { // grows by what indexes name
    if (at >= oci::kMaxTreeReads)
      return Error{ErrorKind::bad_input,
                   "more than " + std::to_string(oci::kMaxTreeReads) +
                       " manifests and indexes below one digest",
                   "",
                   {}};
    const auto bytes = layout.read_blob(wanted[at], oci::kMaxManifestBytes);
    if (!bytes) return bytes.error();
    const auto parsed = oci::parse_manifest(*bytes);
    if (!parsed) return parsed.error();
    if (const auto* index = std::get_if<oci::Index>(&*parsed)) {
      for (const auto& child : index->manifests)
        if (!is_filed_as_attestation(child) && met.insert(child.digest).second)
          wanted.push_back(child.digest);
      continue;
    }
    const auto text =
        layout.read_blob(std::get<oci::Manifest>(*parsed).config.digest, oci::kMaxConfigBytes);
    if (!text) return text.error();
    auto config = oci::parse_image_config(*text);
    if (!config) return std::move(config).error();
    configs.push_back(*std::move(config));
  }
  return configs;
}

} // namespace slipway::image
