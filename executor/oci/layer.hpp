// SPDX-License-Identifier: Apache-2.0
// One layer, read once from its first byte to its last: proves that its bytes are those of its
// digest, computes its diff id, and gives out what it expands to on the way.
#pragma once

#include "executor/base/result.hpp"
#include "executor/base/unique_fd.hpp"
#include "executor/oci/digest.hpp"
#include "executor/oci/flaw.hpp"
#include "executor/oci/layout.hpp"

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace slipway::oci {

struct LayerContent {
  Digest diff_id;
  std::uint64_t expanded = 0; ///< bytes
  Tolerated oddities; ///< lazy_layer and hidden_bytes, in words that follow the layer's name
};

/// Constant memory, whatever the layer expands to.
class LayerReader {
public:
  /// Takes each part of the layer's own bytes before what they expand to is given out.
  using OnPacked = std::function<Status(std::string_view)>;

  /// `max_expanded` in bytes. Errors: not_found (no such blob), io.
  static Result<LayerReader> open(const Layout& layout, const Descriptor& layer,
                                  Compression compression, std::uint64_t max_expanded,
                                  OnPacked on_packed = nullptr);
  LayerReader(LayerReader&&) noexcept;
  LayerReader& operator=(LayerReader&&) = delete;
  ~LayerReader();

  /// The next expanded bytes, valid until the next call; none at the end, where size and digest are
  /// proven. Errors: bad_input (see flaw()); io; those of `on_packed`. After one it has ended.
  Result<std::string_view> next();
  /// After next() came to the end; once.
  LayerContent content();
  /// Of the bad_input that next() gave.
  Flaw flaw() const;

private:
  struct State;
  explicit LayerReader(std::unique_ptr<State> state);
  std::unique_ptr<State> state_;
};

} // namespace slipway::oci
