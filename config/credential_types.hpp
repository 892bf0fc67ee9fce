// SPDX-License-Identifier: Apache-2.0
// The kinds of issuers that a [[credential]] entry may name, and the keys that each takes: data, so
// that a wrong key is found when the configuration is read, not at the first push.
#pragma once

#include <string_view>
#include <vector>

namespace slipway::config {

/// How a key is written in TOML, and checked. `url`: https, without userinfo; `file`: an absolute
/// path, whose key ends with "_file" where slipway-push reads it, or it cannot; `duration`: "90s",
/// "15m"; `list`: a list of strings; `choice`: one of Setting::choices.
enum class SettingKind { text, url, file, duration, list, toggle, choice };

struct Setting {
  std::string_view key;
  SettingKind kind = SettingKind::text;
  bool required = false;
  std::string_view fallback; ///< value where the key is absent, written as in IssuerSpec
  std::string_view help;     ///< one line, for config/examples and the docs
  std::vector<std::string_view> choices = {};
};

struct CredentialType {
  std::string_view name;
  std::string_view summary;
  std::vector<Setting> settings;
};

/// Every known type, by name. Keys that all types share are not repeated here.
const std::vector<CredentialType>& credential_types();

/// The keys that every type takes besides name and type: how the issuer is reached, and how long a
/// credential of this entry may live.
const std::vector<Setting>& shared_settings();

} // namespace slipway::config
