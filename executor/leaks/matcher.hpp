// SPDX-License-Identifier: Apache-2.0
// Many literals at once in a stream of bytes, by Vectorscan. The compiled form holds the literals:
// it lives on pages that are kept out of core dumps and wiped, and for one search only.
#pragma once

#include "executor/base/result.hpp"
#include "executor/leaks/forms.hpp"

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <string_view>
#include <vector>

struct hs_database;
struct hs_scratch;
struct hs_stream;

namespace slipway::leaks {

/// A text to look for, and whose it is.
struct Pattern {
  Text text;
  std::size_t secret = 0; ///< the caller's number
};

/// One thread's; its streams may take turns.
class Matcher {
public:
  /// Takes the texts and wipes them. None at all is fine and matches nothing. Errors: unavailable
  /// (too little memory), misconfigured (a processor without SSE 4.2).
  static Result<Matcher> compile(std::vector<Pattern> patterns);
  Matcher(Matcher&&) noexcept;
  Matcher& operator=(Matcher&&) noexcept;
  ~Matcher();

  struct Match {
    std::size_t secret;
    Form form;
    std::uint64_t begin; ///< offset in the stream
  };
  using OnMatch = std::function<void(const Match&)>;

  /// One stream of bytes, whatever the parts it comes in. Each text is told once, where it first
  /// stands.
  class Stream {
  public:
    /// Errors: unavailable. MATCHER outlives the stream.
    static Result<Stream> open(const Matcher& matcher);
    Stream(Stream&&) noexcept;
    Stream& operator=(Stream&&) = delete;
    ~Stream();
    /// Errors: internal.
    Status feed(std::string_view bytes, const OnMatch& on_match);
    /// From here on another stream.
    Status restart();

  private:
    explicit Stream(const Matcher& matcher) : matcher_{&matcher} {}
    const Matcher* matcher_;
    hs_stream* stream_ = nullptr;
    std::vector<bool> told_;
  };

  /// True where some text stands in BYTES, or where that cannot be told.
  bool holds_any(std::string_view bytes) const;

private:
  friend class Stream;
  struct About {
    std::size_t secret;
    Form form;
    std::size_t length;
  };
  Matcher() = default;
  std::vector<About> about_;
  hs_database* database_ = nullptr;
  hs_scratch* scratch_ = nullptr;
};

} // namespace slipway::leaks
