// SPDX-License-Identifier: Apache-2.0
#include "executor/gitlab/masker.hpp"

#include "executor/base/base64.hpp"

#include <string.h>

#include <algorithm>

namespace slipway::gitlab {
namespace {

constexpr std::string_view kMask = "[MASKED]";

} // namespace

Masker::Masker(std::vector<std::string> values) : values_{std::move(values)} {
  std::erase_if(values_, [](const std::string& value) { return value.size() < kShortest; });
  std::sort(values_.begin(), values_.end(), [](const auto& a, const auto& b) {
    return a.size() != b.size() ? a.size() > b.size() : a < b;
  });
  values_.erase(std::unique(values_.begin(), values_.end()), values_.end());
  for (const auto& value : values_)
    beginning_with_[static_cast<unsigned char>(value.front())].emplace_back(value);
}

Masker::~Masker() {
  for (auto& value : values_)
    ::explicit_bzero(value.data(), value.size());
}

std::string Masker::feed(std::string_view bytes) {
  if (values_.empty()) return std::string{bytes};
  held_.append(bytes);
  std::string shown;
  std::size_t at = 0;
  while (at < held_.size()) {
    const auto& values = beginning_with_[static_cast<unsigned char>(held_[at])];
    const auto rest = std::string_view{held_}.substr(at);
    const auto whole = std::find_if(values.begin(), values.end(), [&](std::string_view value) {
      return rest.starts_with(value);
    });
    // A longer value may still be coming where the rest is the beginning of it.
    const bool may_grow = std::any_of(values.begin(), whole, [&](std::string_view value) {
      return rest.size() < value.size() && value.starts_with(rest);
    });
    if (may_grow) break;
    if (whole != values.end()) {
      shown += kMask;
      at += whole->size();
    } else {
      shown += held_[at++];
    }
  }
  held_.erase(0, at);
  return shown;
}

std::string Masker::flush() {
  std::string shown;
  while (!held_.empty()) {
    // Held back as the beginning of a longer value: a shorter one may be whole in it.
    const auto whole = std::find_if(values_.begin(), values_.end(), [&](const std::string& value) {
      return held_.starts_with(value);
    });
    if (whole != values_.end()) {
      shown += kMask;
      held_.erase(0, whole->size());
    } else {
      shown += held_.front();
      held_.erase(0, 1);
    }
  }
  return shown;
}

std::vector<std::string> forms_of_login(const std::string& username, std::string_view password) {
  if (password.empty()) return {};
  return {std::string{password}, base64(password), base64(username + ":" + std::string{password})};
}

} // namespace slipway::gitlab
