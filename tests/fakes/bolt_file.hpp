// SPDX-License-Identifier: Apache-2.0
// A bbolt file made by hand: top-level buckets on one leaf page, each with one entry or none.
// Source: go.etcd.io/bbolt v1.4.3, internal/common.
#pragma once

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <string>
#include <utility>
#include <vector>

namespace slipway::fakes {

class BoltBytes {
public:
  static constexpr std::size_t kPage = 4096;
  template <typename Number> static std::string raw(Number value) {
    std::string bytes(sizeof value, '\0');
    std::memcpy(bytes.data(), &value, sizeof value);
    return bytes;
  }
  static std::string page(std::uint64_t id, std::uint16_t flags, std::uint16_t count,
                          const std::string& body) {
    auto bytes = raw(id) + raw(flags) + raw(count) + raw(std::uint32_t{0}) + body;
    bytes.resize(kPage, '\0');
    return bytes;
  }
  static std::string meta(std::uint64_t id, std::uint64_t transaction, std::uint64_t root) {
    auto body = raw(std::uint32_t{0xED0CDAED}) + raw(std::uint32_t{2}) +
                raw(static_cast<std::uint32_t>(kPage)) + raw(std::uint32_t{0}) + raw(root) +
                raw(std::uint64_t{0}) + raw(std::uint64_t{2}) + raw(std::uint64_t{4}) +
                raw(transaction);
    std::uint64_t hash = 14695981039346656037ULL;
    for (const char c : body)
      hash = (hash ^ static_cast<unsigned char>(c)) * 1099511628211ULL;
    return page(id, 4, 0, body + raw(hash));
  }
  /// Keys and values of a leaf page, in the order of the keys.
  static std::string leaf(std::uint64_t id, std::vector<std::pair<std::string, std::string>> items,
                          std::uint32_t element_flags) {
    std::sort(items.begin(), items.end());
    std::string heads;
    std::string data;
    for (std::size_t i = 0; i < items.size(); ++i) {
      const auto& [key, value] = items[i];
      heads += raw(element_flags) +
               raw(static_cast<std::uint32_t>((items.size() - i) * 16 + data.size())) +
               raw(static_cast<std::uint32_t>(key.size())) +
               raw(static_cast<std::uint32_t>(value.size()));
      data += key + value;
    }
    return page(id, 2, static_cast<std::uint16_t>(items.size()), heads + data);
  }
  /// A small bucket as its parent's leaf holds it: its page is part of the value.
  static std::string inline_bucket(std::uint16_t entries) {
    auto body = raw(std::uint64_t{0}) + raw(std::uint64_t{0}) + raw(std::uint64_t{0}) +
                raw(std::uint16_t{2}) + raw(entries) + raw(std::uint32_t{0});
    for (std::uint16_t i = 0; i < entries; ++i)
      body += raw(std::uint32_t{0}) + raw(static_cast<std::uint32_t>((entries - i) * 16)) +
              raw(std::uint32_t{0}) + raw(std::uint32_t{0});
    return body;
  }
};

/// Buckets with one entry, and buckets without any.
inline std::string bolt_file(const std::vector<std::string>& buckets,
                             const std::vector<std::string>& empty = {}) {
  std::vector<std::pair<std::string, std::string>> items;
  for (const auto& name : buckets)
    items.emplace_back(name, BoltBytes::inline_bucket(1));
  for (const auto& name : empty)
    items.emplace_back(name, BoltBytes::inline_bucket(0));
  return BoltBytes::meta(0, 0, 3) + BoltBytes::meta(1, 1, 3) + BoltBytes::page(2, 0x10, 0, "") +
         BoltBytes::leaf(3, std::move(items), 1);
}

} // namespace slipway::fakes
