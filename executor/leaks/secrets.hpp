// SPDX-License-Identifier: Apache-2.0
// Which secrets an image is searched for: what slipway knows of a job, without what would be found
// everywhere and without what the operator exempts.
#pragma once

#include "executor/base/clock.hpp"
#include "executor/base/secret.hpp"
#include "executor/leaks/forms.hpp"

#include <map>
#include <optional>
#include <string>
#include <vector>

namespace slipway::leaks {

enum class Kind {
  token,  ///< random by its making: always searched for, from kShortestToken bytes
  masked, ///< what a user chose to mask: from kShortest bytes and with enough entropy
  file,   ///< a file's text: each line, each string of a JSON document, each word that looks random
};

constexpr std::size_t kShortestToken = 8;
constexpr std::size_t kShortest = 12;
/// Parts of one file variable, and of all secrets together.
constexpr std::size_t kMaxPartsEach = 256;
constexpr std::size_t kMaxParts = 2000;

struct KnownSecret {
  std::string name; ///< of the variable: what people are told
  Secret value;
  Kind kind = Kind::masked;
  /// Before this nobody but its maker knew it: no image that was whole by then can hold it.
  std::optional<WallTime> made_at;
};

/// May a value that a user chose be searched for without finding it everywhere: kShortest bytes,
/// not of one kind of letters alone, no plain address, host, path, mail address or number.
bool has_enough_entropy(std::string_view value);
/// The same for a word of a file, of which most are no secrets: kinds of characters have to change
/// within words as they do in random text.
bool looks_random(std::string_view word);

/// The parts to search for. One value under several names is one part with all of them.
class SecretSet {
public:
  struct Part {
    Secret value;
    std::vector<std::string> names;
    Pieces pieces = Pieces::no;
    std::optional<WallTime> made_at; ///< unset where one of the names has none
  };
  /// EXEMPT: names of variables that are not searched for. A value that has another name too is
  /// still searched for under that.
  static SecretSet from(const std::vector<KnownSecret>& known,
                        const std::vector<std::string>& exempt);

  const std::vector<Part>& parts() const noexcept { return parts_; }
  /// Names that the exemption took out.
  const std::vector<std::string>& exempted() const noexcept { return exempted_; }
  /// Names and why they are not searched for ("shorter than 12 bytes").
  const std::map<std::string, std::string>& left_out() const noexcept { return left_out_; }

private:
  void add(const KnownSecret& from, std::string_view value, Pieces pieces);
  void add_file(const KnownSecret& from);
  std::vector<Part> parts_;
  std::vector<std::string> exempted_;
  std::map<std::string, std::string> left_out_;
};

} // namespace slipway::leaks
