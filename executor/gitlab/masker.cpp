// SPDX-License-Identifier: Apache-2.0
#include "executor/gitlab/masker.hpp"

#include "executor/base/base64.hpp"

#include <string.h>

#include <algorithm>
#include <iterator>

namespace slipway::gitlab {
namespace {

constexpr std::string_view kMask = "[MASKED]";

std::size_t two_of(std::string_view bytes) {
  return static_cast<unsigned char>(bytes[0]) * 256U + static_cast<unsigned char>(bytes[1]);
}

std::uint32_t four_of(std::string_view bytes) {
  std::uint32_t four = 0;
  for (const char c : bytes.substr(0, 4))
    four = four << 8U | static_cast<unsigned char>(c);
  return four;
}

} // namespace

void Masker::add(std::vector<std::string> values) {
  const auto is_known = [&](const std::string& value) {
    const auto& same = candidates(value);
    return std::find(same.begin(), same.end(), value) != same.end();
  };
  std::erase_if(values, [&](const std::string& value) { return value.empty() || is_known(value); });
  if (values.empty()) return;
  std::move(values.begin(), values.end(), std::back_inserter(values_));
  std::erase_if(values_, [](const std::string& value) { return value.size() < kShortest; });
  std::sort(values_.begin(), values_.end(), [](const auto& a, const auto& b) {
    return a.size() != b.size() ? a.size() > b.size() : a < b;
  });
  values_.erase(std::unique(values_.begin(), values_.end()), values_.end());
  for (auto& list : beginning_with_)
    list.clear(); // what they showed has moved
  by_four_.clear();
  for (const auto& value : values_) {
    beginning_with_[static_cast<unsigned char>(value.front())].emplace_back(value);
    by_four_[four_of(value)].emplace_back(value);
    first_two_.set(two_of(value));
  }
}

const std::vector<std::string_view>& Masker::candidates(std::string_view rest) const {
  static const std::vector<std::string_view> none;
  if (rest.size() >= 2 && !first_two_.test(two_of(rest))) return none;
  if (rest.size() < 4) return beginning_with_[static_cast<unsigned char>(rest.front())];
  const auto found = by_four_.find(four_of(rest));
  return found == by_four_.end() ? none : found->second;
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
    const auto rest = std::string_view{held_}.substr(at);
    const auto& values = candidates(rest);
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
    const auto& values = candidates(held_);
    const auto whole = std::find_if(values.begin(), values.end(), [&](std::string_view value) {
      return held_.starts_with(value);
    });
    if (whole != values.end()) {
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
