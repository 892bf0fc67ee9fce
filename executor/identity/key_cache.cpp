// SPDX-License-Identifier: Apache-2.0
#include "executor/identity/key_cache.hpp"

#include "executor/base/file.hpp"

#include <nlohmann/json.hpp>

namespace slipway::identity {

using nlohmann::json;

/// A file of the cache: what was fetched, from where, when.
struct KeyCache::Kept {
  KeySet keys;
  std::chrono::seconds age;
};

std::optional<KeyCache::Kept> KeyCache::kept() const {
  auto text = read_file(file_, 2 * kMaxKeySetBytes);
  if (!text) return std::nullopt;
  const json held = json::parse(*text, nullptr, false);
  const auto member = [&](const char* name) {
    return held.is_object() && held.contains(name) && held[name].is_string()
               ? held[name].get<std::string>()
               : std::string{};
  };
  WallTime fetched_at;
  // Of another address or from the future: as if it were not there.
  if (member("url") != url_ || !parse_rfc3339(member("fetched_at"), fetched_at) ||
      fetched_at > clock_.now())
    return std::nullopt;
  auto keys = KeySet::parse(member("keys"), algorithm_);
  if (!keys) return std::nullopt;
  return Kept{*std::move(keys), clock_.now() - fetched_at};
}

Result<KeySet> KeyCache::keys_for(const std::string& id) const {
  auto held = kept();
  if (held && held->age < kFresh && (held->keys.has(id) || held->age < kBetweenFetches))
    return std::move(held->keys);
  auto fetched = fetch_(url_);
  auto keys = fetched ? KeySet::parse(*fetched, algorithm_) : Result<KeySet>{fetched.error()};
  if (!keys) {
    if (held && held->age < kLongest && held->keys.has(id)) return std::move(held->keys);
    return std::move(keys).error().in("getting the keys of GitLab from " + url_);
  }
  const json file{{"url", url_}, {"fetched_at", rfc3339(clock_.now())}, {"keys", *fetched}};
  // Without the file the next job asks again.
  (void)!replace_file(file_, file.dump(-1, ' ', true, json::error_handler_t::replace)).ok();
  return keys;
}

} // namespace slipway::identity
