// SPDX-License-Identifier: Apache-2.0
#include "executor/leaks/read_ahead.hpp"

#include <string.h>

#include <system_error>
#include <utility>

namespace slipway::leaks {

ReadAhead::~ReadAhead() {
  if (!thread_.joinable()) return;
  {
    const std::lock_guard lock{mutex_};
    stopping_ = true;
  }
  freed_.notify_one();
  thread_.join();
}

Status ReadAhead::start() {
  try {
    thread_ = std::thread{&ReadAhead::run, this};
  } catch (const std::system_error& none) {
    return Error{ErrorKind::unavailable,
                 std::string{"there is no second thread for reading: "} + none.what(),
                 "look at the limits on processes and memory of the service user",
                 {}};
  }
  return {};
}

void ReadAhead::run() {
  Status outcome;
  std::exception_ptr thrown;
  try {
    outcome = read_([this](Kind kind, std::string_view bytes) { return put(kind, bytes); });
  } catch (...) { // for who waits: it ends as it would on the caller's thread
    thrown = std::current_exception();
  }
  if (filling_ != nullptr && !filling_->parts.empty()) hand_over();
  {
    const std::lock_guard lock{mutex_};
    outcome_ = std::move(outcome);
    thrown_ = thrown;
    ended_ = true;
  }
  filled_.notify_one();
}

Result<ReadAhead::Buffer*> ReadAhead::free_buffer() {
  if (filling_ != nullptr) return filling_;
  std::unique_lock lock{mutex_};
  freed_.wait(lock, [&] { return stopping_ || handed_over_ - given_back_ < kBuffers; });
  if (stopping_) return Error{ErrorKind::internal, "nobody waits for what is read", "", {}};
  filling_ = &ring_.at(handed_over_ % kBuffers);
  lock.unlock();
  if (!filling_->bytes) filling_->bytes = std::make_unique_for_overwrite<char[]>(kBufferBytes);
  filling_->used = 0;
  filling_->parts.clear();
  return filling_;
}

void ReadAhead::hand_over() {
  filling_ = nullptr;
  {
    const std::lock_guard lock{mutex_};
    ++handed_over_;
  }
  filled_.notify_one();
}

Status ReadAhead::put(Kind kind, std::string_view bytes) {
  while (!bytes.empty()) {
    auto free = free_buffer();
    if (!free) return std::move(free).error();
    auto& buffer = **free;
    const auto part = bytes.substr(0, kBufferBytes);
    if (part.size() > kBufferBytes - buffer.used || buffer.parts.size() == kMaxParts) {
      hand_over();
      continue;
    }
    ::memcpy(buffer.bytes.get() + buffer.used, part.data(), part.size());
    buffer.used += part.size();
    buffer.parts.push_back({kind, part.size()});
    bytes.remove_prefix(part.size());
  }
  return {};
}

Result<std::optional<ReadAhead::Part>> ReadAhead::next() {
  if (taken_ != nullptr && next_part_ == taken_->parts.size()) {
    taken_ = nullptr;
    {
      const std::lock_guard lock{mutex_};
      ++given_back_;
    }
    freed_.notify_one();
  }
  if (taken_ == nullptr) {
    std::unique_lock lock{mutex_};
    filled_.wait(lock, [&] { return ended_ || given_back_ < handed_over_; });
    if (given_back_ == handed_over_) {
      if (thrown_) std::rethrow_exception(thrown_);
      if (!outcome_) return outcome_.error();
      return std::optional<Part>{};
    }
    taken_ = &ring_.at(given_back_ % kBuffers);
    next_part_ = 0;
    begin_ = 0;
  }
  const auto& held = taken_->parts.at(next_part_++);
  const Part part{held.kind, {taken_->bytes.get() + begin_, held.size}};
  begin_ += held.size;
  return std::optional{part};
}

} // namespace slipway::leaks
