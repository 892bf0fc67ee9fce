// SPDX-License-Identifier: Apache-2.0
#include "executor/oci/layer.hpp"

#include <zstd.h>

#include <unistd.h>
#include <zstd_errors.h>

#include <array>
#include <cerrno>
#include <utility>

#include <isa-l/igzip_lib.h>

namespace slipway::oci {
namespace {

/// A zstd frame may ask for this much memory: 32 MiB.
constexpr int kMaxZstdWindowLog = 25;
/// The end of a tar archive: two blocks of zeros.
constexpr std::uint64_t kArchiveEnd = 1024;
constexpr std::size_t kPart = 128UL << 10;

Error refused(const std::string& why) {
  return Error{ErrorKind::bad_input, why, "", {}};
}

// Receives what a layer expands to: hashes and counts it, keeps nothing.
class Expanded {
public:
  explicit Expanded(std::uint64_t limit) : limit_{limit} {}
  // False where there is more than the limit.
  bool take(std::string_view bytes) {
    total_ += bytes.size();
    if (total_ > limit_) return false;
    const auto last = bytes.find_last_not_of('\0');
    zeros_ = last == std::string_view::npos ? zeros_ + bytes.size() : bytes.size() - 1 - last;
    hasher_.update(bytes);
    return true;
  }
  Digest finish() { return hasher_.finish(); }
  std::uint64_t size() const { return total_; }
  /// Bytes of zero at the end of what came so far.
  std::uint64_t zeros() const { return zeros_; }

private:
  std::uint64_t limit_;
  std::uint64_t total_ = 0;
  std::uint64_t zeros_ = 0;
  Hasher hasher_;
};

// Turns a layer's bytes into what they expand to, and watches for bytes that one reader would take
// and another would not.
class Decompressor {
public:
  explicit Decompressor(std::uint64_t limit) : expanded_{limit}, limit_{limit} {}
  Decompressor(const Decompressor&) = delete;
  Decompressor& operator=(const Decompressor&) = delete;
  virtual ~Decompressor() = default;
  /// Takes from the front of BYTES and returns what that expands to, valid until the next call;
  /// nothing where all of BYTES is taken and more is needed.
  virtual Result<std::string_view> step(std::string_view& bytes) = 0;
  virtual Status end() = 0;
  Expanded& expanded() { return expanded_; }
  /// Of the Error that step or end gave.
  Flaw flaw() const { return flaw_; }
  /// What the diff id does not cover, in words; "" = nothing.
  const std::string& hidden() const { return hidden_; }

protected:
  Error refuse(Flaw flaw, const std::string& why) {
    flaw_ = flaw;
    return refused(why);
  }
  Result<std::string_view> take(std::string_view bytes) {
    if (bytes.empty()) return bytes;
    if (part_bytes_ == 0 && archive_ended_ && bytes.front() != '\0')
      hide("has another archive behind the end of its archive");
    part_bytes_ += bytes.size();
    if (expanded_.take(bytes)) return bytes;
    return refuse(Flaw::too_large, "expands to more than " + std::to_string(limit_) + " bytes");
  }
  // A gzip member or zstd frame begins or ends. Readers that stop after the first see less.
  void begin_part() {
    if (parts_ > 0 && part_bytes_ == 0) hide("has an empty part in its compressed stream");
    ++parts_;
    part_bytes_ = 0;
  }
  void end_part() {
    archive_ended_ = expanded_.zeros() >= kArchiveEnd;
    if (parts_ > 1 && part_bytes_ == 0) hide("has an empty part in its compressed stream");
  }
  std::uint64_t parts() const { return parts_; }
  void hide(const std::string& why) {
    if (hidden_.empty()) hidden_ = why;
  }

private:
  Expanded expanded_;
  std::uint64_t limit_;
  std::uint64_t part_bytes_ = 0;
  std::uint64_t parts_ = 0;
  bool archive_ended_ = false;
  Flaw flaw_ = Flaw::unreadable;
  std::string hidden_;
};

// Readers look at the first bytes, not at the media type; so the two have to agree.
class Plain final : public Decompressor {
public:
  using Decompressor::Decompressor;
  Result<std::string_view> step(std::string_view& bytes) override {
    if (head_.size() < 4) {
      head_.append(bytes.substr(0, 4 - head_.size()));
      if (head_.starts_with("\x1f\x8b") || head_.starts_with("\x28\xb5\x2f\xfd"))
        return refuse(Flaw::false_layer_type, "is compressed, its media type says plain tar");
    }
    return take(std::exchange(bytes, {}));
  }
  Status end() override { return {}; }

private:
  std::string head_;
};

// Any number of members in sequence, as RFC 1952 has it; anything else behind a member is refused.
// By ISA-L, which expands in a third of zlib's time (docs/decisions/0027).
class Gzip final : public Decompressor {
public:
  explicit Gzip(std::uint64_t limit) : Decompressor{limit} { ::isal_inflate_init(&stream_); }

  Result<std::string_view> step(std::string_view& bytes) override {
    for (;;) {
      if (bytes.empty() && place_ != Place::data) return std::string_view{};
      if (place_ == Place::before_member) begin_member();
      give(bytes);
      if (place_ == Place::header) {
        const bool valid = look_at_head(bytes);
        const int answer =
            valid ? ::isal_read_gzip_header(&stream_, &header_) : ISAL_INVALID_WRAPPER;
        if (answer != ISAL_DECOMP_OK && answer != ISAL_END_INPUT) return no_gzip();
        taken_from(bytes);
        if (answer == ISAL_END_INPUT) return std::string_view{};
        place_ = Place::data;
        give(bytes);
      }
      stream_.next_out = reinterpret_cast<std::uint8_t*>(out_.data());
      stream_.avail_out = static_cast<std::uint32_t>(out_.size());
      if (::isal_inflate(&stream_) != ISAL_DECOMP_OK) return no_gzip();
      taken_from(bytes);
      auto expanded = take({out_.data(), out_.size() - stream_.avail_out});
      if (!expanded) return expanded;
      if (stream_.block_state == ISAL_BLOCK_FINISH) {
        end_part();
        place_ = Place::before_member;
        seen_member_ = true;
      } else if (expanded->empty()) {
        return expanded;
      }
      if (!expanded->empty()) return expanded;
    }
  }
  Status end() override {
    if (place_ == Place::before_member && seen_member_) return {};
    if (place_ == Place::header && seen_member_) return no_gzip();
    return refuse(Flaw::unreadable, "ends in the middle of the gzip stream");
  }

private:
  enum class Place { before_member, header, data };

  void begin_member() {
    ::isal_inflate_reset(&stream_);
    stream_.crc_flag =
        ISAL_GZIP_NO_HDR_VER; // the header is read by itself; the trailer is verified
    ::isal_gzip_header_init(&header_);
    head_.clear();
    begin_part();
    place_ = Place::header;
  }
  // False where it cannot be a member's. Source: RFC 1952, 2.3.1.
  bool look_at_head(std::string_view bytes) {
    constexpr std::string_view kMagic = "\x1f\x8b\x08"; // and deflate
    constexpr unsigned kExtra = 4, kComment = 16, kReserved = 0xe0;
    constexpr std::size_t kFlags = 3; // where they are
    if (head_.size() <= kFlags) {
      head_.append(bytes.substr(0, kFlags + 1 - head_.size()));
      if (!head_.starts_with(kMagic.substr(0, head_.size()))) return false;
      const auto flags = head_.size() > kFlags ? static_cast<unsigned char>(head_[kFlags]) : 0U;
      if ((flags & kReserved) != 0) return false;
      if ((flags & (kExtra | kComment)) != 0) hide("has bytes of its own in a gzip header");
    }
    return true;
  }
  void give(std::string_view bytes) {
    // ISA-L does not write through next_in; its type has no const.
    stream_.next_in = reinterpret_cast<std::uint8_t*>(
        const_cast<char*>(bytes.data())); // NOLINT(cppcoreguidelines-pro-type-const-cast)
    stream_.avail_in = static_cast<std::uint32_t>(bytes.size());
  }
  void taken_from(std::string_view& bytes) const {
    bytes.remove_prefix(bytes.size() - stream_.avail_in);
  }
  Error no_gzip() {
    if (seen_member_)
      return refuse(Flaw::hidden_bytes, "has trailing bytes behind the gzip stream");
    return refuse(Flaw::false_layer_type, "is no valid gzip stream");
  }

  inflate_state stream_{};
  isal_gzip_header header_{};
  std::string head_; ///< of the member at hand, up to its flags
  Place place_ = Place::before_member;
  bool seen_member_ = false;
  std::array<char, 128UL << 10> out_{};
};

class Zstd final : public Decompressor {
public:
  explicit Zstd(std::uint64_t limit) : Decompressor{limit}, stream_{::ZSTD_createDStream()} {
    ::ZSTD_DCtx_setParameter(stream_, ZSTD_d_windowLogMax, kMaxZstdWindowLog);
  }
  Zstd(const Zstd&) = delete;
  Zstd& operator=(const Zstd&) = delete;
  ~Zstd() override { ::ZSTD_freeDStream(stream_); }

  Result<std::string_view> step(std::string_view& bytes) override {
    for (;;) {
      if (!bytes.empty()) look_at_frame(bytes);
      ZSTD_inBuffer in{bytes.data(), bytes.size(), 0};
      ZSTD_outBuffer out{out_.data(), out_.size(), 0};
      const auto answer = ::ZSTD_decompressStream(stream_, &out, &in);
      if (::ZSTD_isError(answer) != 0U) {
        const bool window = ::ZSTD_getErrorCode(answer) == ZSTD_error_frameParameter_windowTooLarge;
        return refuse(window        ? Flaw::too_large
                      : parts() > 1 ? Flaw::hidden_bytes
                                    : Flaw::false_layer_type,
                      std::string{"is no valid zstd stream: "} + ::ZSTD_getErrorName(answer));
      }
      bytes.remove_prefix(in.pos);
      auto expanded = take({out_.data(), out.pos});
      if (!expanded) return expanded;
      if (in.pos != 0 || out.pos != 0) {
        whole_ = answer == 0;
        if (whole_) {
          end_part();
          magic_.clear();
        }
      }
      if (!expanded->empty() || bytes.empty()) return expanded;
    }
  }
  Status end() override {
    if (whole_) return {};
    return refuse(Flaw::unreadable, "ends in the middle of the zstd stream");
  }

private:
  // Skippable frames expand to nothing; zstd:chunked keeps its index in them. Source: RFC 8878,
  // 3.1.2.
  void look_at_frame(std::string_view rest) {
    if (magic_.size() == 4) return;
    if (magic_.empty()) begin_part();
    magic_.append(rest.substr(0, 4 - magic_.size()));
    if (magic_.size() == 4 && (static_cast<unsigned char>(magic_[0]) & 0xf0U) == 0x50 &&
        magic_.substr(1) == "\x2a\x4d\x18")
      hide("has a skippable frame in its zstd stream");
  }
  ZSTD_DStream* stream_;
  std::string magic_; ///< of the frame at hand, as far as it was seen
  bool whole_ = false;
  std::array<char, 128UL << 10> out_{};
};

std::unique_ptr<Decompressor> make_decompressor(Compression compression, std::uint64_t limit) {
  switch (compression) {
  case Compression::none:
    return std::make_unique<Plain>(limit);
  case Compression::gzip:
    return std::make_unique<Gzip>(limit);
  case Compression::zstd:
    return std::make_unique<Zstd>(limit);
  }
  return nullptr; // unreachable: every enumerator returns above
}

// The last bytes of a layer: lazy pullers look there for the place of their index. Source:
// stargz-snapshotter, estargz.go (FooterSize); containers/storage, internal/minimal (footer).
class Tail {
public:
  void take(std::string_view bytes) {
    tail_.append(bytes.size() > kBytes ? bytes.substr(bytes.size() - kBytes) : bytes);
    if (tail_.size() > kBytes) tail_.erase(0, tail_.size() - kBytes);
  }
  bool has_index(Compression compression) const {
    return (compression == Compression::gzip && tail_.find("STARGZ") != std::string::npos) ||
           (compression == Compression::zstd && tail_.find("GNUlInUx") != std::string::npos);
  }

private:
  static constexpr std::size_t kBytes = 72;
  std::string tail_;
};

} // namespace

struct LayerReader::State {
  State(UniqueFd file, const Descriptor& descriptor, Compression packing, std::uint64_t most,
        OnPacked packed)
      : fd{std::move(file)}, layer{descriptor}, compression{packing},
        decompressor{make_decompressor(packing, most)}, on_packed{std::move(packed)} {}

  Error refuse(Flaw which, const std::string& why) {
    flaw = which;
    return refused(why);
  }

  /// False at the end of the file.
  Result<bool> read_part() {
    ssize_t got = 0;
    do {
      got = ::read(fd.get(), part.data(), part.size());
    } while (got < 0 && errno == EINTR);
    if (got < 0) return io_error("read", errno, layer.digest.str());
    rest = {part.data(), static_cast<std::size_t>(got)};
    if (rest.empty()) return false;
    size += rest.size();
    if (size > layer.size) return refuse(Flaw::wrong_bytes, "has not the size of its descriptor");
    hasher.update(rest);
    tail.take(rest);
    if (on_packed)
      if (auto taken = on_packed(rest); !taken) return std::move(taken).error();
    return true;
  }

  Status prove() {
    if (size != layer.size) return refuse(Flaw::wrong_bytes, "has not the size of its descriptor");
    if (hasher.finish() != layer.digest)
      return refuse(Flaw::wrong_bytes, "has other bytes than its digest names");
    auto whole = decompressor->end();
    if (!whole) flaw = decompressor->flaw();
    return whole;
  }

  Result<std::string_view> next() {
    for (;;) {
      auto expanded = decompressor->step(rest);
      if (!expanded) flaw = decompressor->flaw();
      if (!expanded || !expanded->empty()) return expanded;
      if (!rest.empty()) return refuse(Flaw::unreadable, "cannot be expanded to its end");
      auto more = read_part();
      if (!more) return std::move(more).error();
      if (*more) continue;
      if (auto proven = prove(); !proven) return std::move(proven).error();
      return std::string_view{};
    }
  }

  UniqueFd fd;
  Descriptor layer;
  Compression compression;
  std::unique_ptr<Decompressor> decompressor;
  OnPacked on_packed;
  Hasher hasher;
  Tail tail;
  std::vector<char> part = std::vector<char>(kPart);
  std::string_view rest; ///< of `part`, not expanded yet
  std::uint64_t size = 0;
  Flaw flaw = Flaw::unreadable;
  bool ended = false;
};

LayerReader::LayerReader(std::unique_ptr<State> state) : state_{std::move(state)} {}
LayerReader::LayerReader(LayerReader&&) noexcept = default;
LayerReader::~LayerReader() = default;

Result<LayerReader> LayerReader::open(const Layout& layout, const Descriptor& layer,
                                      Compression compression, std::uint64_t max_expanded,
                                      OnPacked on_packed) {
  auto fd = layout.open_blob(layer.digest);
  if (!fd) return std::move(fd).error();
  return LayerReader{std::make_unique<State>(*std::move(fd), layer, compression, max_expanded,
                                             std::move(on_packed))};
}

Result<std::string_view> LayerReader::next() {
  if (state_->ended) return std::string_view{};
  auto bytes = state_->next();
  state_->ended = !bytes || bytes->empty();
  return bytes;
}

LayerContent LayerReader::content() {
  auto& expanded = state_->decompressor->expanded();
  LayerContent content{.diff_id = expanded.finish(), .expanded = expanded.size(), .oddities = {}};
  if (state_->tail.has_index(state_->compression))
    content.oddities.emplace_back(Flaw::lazy_layer, "ends with an index for lazy pulling");
  if (!state_->decompressor->hidden().empty())
    content.oddities.emplace_back(Flaw::hidden_bytes, state_->decompressor->hidden());
  return content;
}

Flaw LayerReader::flaw() const {
  return state_->flaw;
}

} // namespace slipway::oci
