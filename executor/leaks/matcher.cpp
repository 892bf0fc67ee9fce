// SPDX-License-Identifier: Apache-2.0
#include "executor/leaks/matcher.hpp"

#include "executor/base/secret.hpp"

#include <hs/hs.h>
#include <string.h>

#include <mutex>
#include <new>
#include <utility>

namespace slipway::leaks {
namespace {

/// Keeps what Vectorscan gets aligned, and remembers its size.
constexpr std::size_t kHeader = 64;

void* allocate(std::size_t size) {
  try {
    char* pages = SecretPages<char>{}.allocate(size + kHeader);
    ::memcpy(pages, &size, sizeof size);
    return pages + kHeader;
  } catch (const std::bad_alloc&) {
    return nullptr;
  }
}

void give_back(void* bytes) {
  if (bytes == nullptr) return;
  char* pages = static_cast<char*>(bytes) - kHeader;
  std::size_t size = 0;
  ::memcpy(&size, pages, sizeof size);
  SecretPages<char>{}.deallocate(pages, size + kHeader);
}

void use_secret_pages() {
  static std::once_flag once;
  // Not for what is short-lived in the compiler: that is freed by itself, see the threat model.
  std::call_once(once, [] {
    (void)::hs_set_database_allocator(&allocate, &give_back);
    (void)::hs_set_stream_allocator(&allocate, &give_back);
    (void)::hs_set_scratch_allocator(&allocate, &give_back);
  });
}

struct Wiped {
  std::vector<Pattern>& patterns;
  ~Wiped() {
    for (auto& pattern : patterns)
      ::explicit_bzero(pattern.text.bytes.data(), pattern.text.bytes.size());
  }
};

Error failed(const char* what, int code) {
  return Error{code == HS_NOMEM ? ErrorKind::unavailable : ErrorKind::internal,
               std::string{what} + " failed with " + std::to_string(code),
               "",
               {}};
}

} // namespace

Result<Matcher> Matcher::compile(std::vector<Pattern> patterns) {
  const Wiped wiped{patterns};
  use_secret_pages();
  Matcher matcher;
  if (patterns.empty()) return matcher;
  if (::hs_valid_platform() != HS_SUCCESS) {
    return Error{ErrorKind::misconfigured,
                 "this processor cannot run the leak scan's matcher",
                 "it needs SSE 4.2",
                 {}};
  }
  std::vector<const char*> texts;
  std::vector<unsigned> flags;
  std::vector<unsigned> ids;
  std::vector<std::size_t> lengths;
  for (const auto& pattern : patterns) {
    const auto& text = pattern.text;
    ids.push_back(static_cast<unsigned>(texts.size()));
    texts.push_back(text.bytes.data());
    flags.push_back(text.any_case ? HS_FLAG_CASELESS : 0U);
    lengths.push_back(text.bytes.size());
    matcher.about_.push_back({pattern.secret, text.form, text.bytes.size()});
  }
  hs_compile_error_t* error = nullptr;
  const auto code = ::hs_compile_lit_multi(texts.data(), flags.data(), ids.data(), lengths.data(),
                                           static_cast<unsigned>(texts.size()), HS_MODE_STREAM,
                                           nullptr, &matcher.database_, &error);
  if (code != HS_SUCCESS) {
    // Its message may quote an expression, so it is not passed on.
    (void)::hs_free_compile_error(error);
    return failed("compiling the secrets' forms", code);
  }
  if (const auto got = ::hs_alloc_scratch(matcher.database_, &matcher.scratch_); got != HS_SUCCESS)
    return failed("making the matcher's scratch space", got);
  return matcher;
}

Matcher::Matcher(Matcher&& other) noexcept
    : about_{std::move(other.about_)}, database_{std::exchange(other.database_, nullptr)},
      scratch_{std::exchange(other.scratch_, nullptr)} {}

Matcher& Matcher::operator=(Matcher&& other) noexcept {
  std::swap(about_, other.about_);
  std::swap(database_, other.database_);
  std::swap(scratch_, other.scratch_);
  return *this;
}

Matcher::~Matcher() {
  (void)::hs_free_scratch(scratch_);
  (void)::hs_free_database(database_);
}

bool Matcher::holds_any(std::string_view bytes) const {
  auto stream = Stream::open(*this);
  if (!stream) return true;
  bool any = false;
  return !stream->feed(bytes, [&](const Match&) { any = true; }) || any;
}

Result<Matcher::Stream> Matcher::Stream::open(const Matcher& matcher) {
  Stream stream{matcher};
  if (matcher.database_ == nullptr) return stream;
  stream.told_.resize(matcher.about_.size());
  if (const auto code = ::hs_open_stream(matcher.database_, 0, &stream.stream_); code != HS_SUCCESS)
    return failed("opening a stream of the matcher", code);
  return stream;
}

Matcher::Stream::Stream(Stream&& other) noexcept
    : matcher_{other.matcher_}, stream_{std::exchange(other.stream_, nullptr)}, told_{std::move(
                                                                                    other.told_)} {}

Matcher::Stream::~Stream() {
  if (stream_ != nullptr) (void)::hs_close_stream(stream_, nullptr, nullptr, nullptr);
}

Status Matcher::Stream::feed(std::string_view bytes, const OnMatch& on_match) {
  if (stream_ == nullptr || bytes.empty()) return {};
  struct Call {
    Stream& stream;
    const OnMatch& on_match;
  } call{*this, on_match};
  const auto code = ::hs_scan_stream(
      stream_, bytes.data(), static_cast<unsigned>(bytes.size()), 0, matcher_->scratch_,
      [](unsigned id, unsigned long long, unsigned long long end, unsigned, void* context) {
        auto& to = *static_cast<Call*>(context);
        if (to.stream.told_[id]) return 0;
        to.stream.told_[id] = true;
        const auto& about = to.stream.matcher_->about_[id];
        to.on_match({about.secret, about.form, end - about.length});
        return 0;
      },
      &call);
  if (code != HS_SUCCESS) return failed("searching", code);
  return {};
}

Status Matcher::Stream::restart() {
  if (stream_ == nullptr) return {};
  told_.assign(told_.size(), false);
  const auto code = ::hs_reset_stream(stream_, 0, matcher_->scratch_, nullptr, nullptr);
  if (code != HS_SUCCESS) return failed("restarting a stream of the matcher", code);
  return {};
}

} // namespace slipway::leaks
