// SPDX-License-Identifier: Apache-2.0
// A thread that reads while the caller's searches, as far ahead as a few buffers hold. The thread
// ends before its owner does, whatever either of the two met.
#pragma once

#include "executor/base/result.hpp"

#include <array>
#include <condition_variable>
#include <cstddef>
#include <exception>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <string_view>
#include <thread>
#include <vector>

namespace slipway::leaks {

/// Constant memory: kBuffers of kBufferBytes, touched as far as they are used. The reader waits for
/// a free buffer and the caller for a full one; each wait ends when the other side does. How long a
/// read of the disk may take is not decided here: slipway-gate ends by its caller's deadline.
class ReadAhead {
public:
  static constexpr std::size_t kBuffers = 4;
  static constexpr std::size_t kBufferBytes = 256UL << 10;
  /// Of one buffer: many small parts fill it too.
  static constexpr std::size_t kMaxParts = 1024;

  enum class Kind { packed, expanded };
  struct Part {
    Kind kind;
    std::string_view bytes;
  };
  /// Copies bytes into the buffers, and waits where all are full. Errors: internal (the owner ends;
  /// nobody sees it).
  using Put = std::function<Status(Kind, std::string_view)>;
  /// Runs once, on the thread; ends soon after `put` gave an Error.
  using Read = std::function<Status(const Put& put)>;

  explicit ReadAhead(Read read) : read_{std::move(read)} {}
  ReadAhead(const ReadAhead&) = delete;
  ReadAhead& operator=(const ReadAhead&) = delete;
  /// Ends the reader and waits for its end.
  ~ReadAhead();

  /// Once, before next(). Errors: unavailable (no second thread is to be had).
  Status start();
  /// What was put, in that order and in the same parts (larger ones than a buffer in several);
  /// valid until the next call. Nothing when the reader is done: what it did is to be seen then.
  /// Errors: those of `read`, behind all that it put before; its exceptions are thrown here.
  Result<std::optional<Part>> next();

private:
  struct Held {
    Kind kind;
    std::size_t size;
  };
  struct Buffer {
    std::unique_ptr<char[]> bytes; ///< made when it is first used
    std::size_t used = 0;
    std::vector<Held> parts;
  };
  void run();
  Status put(Kind kind, std::string_view bytes);
  /// The buffer that is being filled, when it is free. Errors: internal (the owner ends).
  Result<Buffer*> free_buffer();
  void hand_over();

  Read read_;
  std::array<Buffer, kBuffers> ring_;
  Buffer* filling_ = nullptr; ///< the reader's alone
  Buffer* taken_ = nullptr;   ///< the caller's alone
  std::size_t next_part_ = 0; ///< of `taken_`
  std::size_t begin_ = 0;     ///< in `taken_`, of that part

  std::mutex mutex_; ///< holds what follows
  std::condition_variable filled_;
  std::condition_variable freed_;
  std::size_t handed_over_ = 0; ///< buffers, of all times
  std::size_t given_back_ = 0;
  bool stopping_ = false;
  bool ended_ = false;
  Status outcome_; ///< of `read_`, as is what it threw
  std::exception_ptr thrown_;

  std::thread thread_;
};

} // namespace slipway::leaks
