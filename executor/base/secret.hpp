// SPDX-License-Identifier: Apache-2.0
// A value that must not be printed, compared, copied or left in memory.
#pragma once

#include <string.h>
#include <sys/mman.h>

#include <cstddef>
#include <new>
#include <string_view>
#include <utility>
#include <vector>

namespace slipway {

/// Pages of their own for secret bytes: not swapped out where RLIMIT_MEMLOCK allows it (mlock2(2)),
/// never in a core dump, not in a child that was only forked (madvise(2)), wiped before they are
/// given back.
template <typename T> struct SecretPages {
  using value_type = T;
  T* allocate(std::size_t count) {
    void* pages = ::mmap(nullptr, count * sizeof(T), PROT_READ | PROT_WRITE,
                         MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (pages == MAP_FAILED) throw std::bad_alloc{};
    // Not mlock(2): the sanitizers' runtimes turn that one into nothing.
    (void)::mlock2(pages, count * sizeof(T), 0);
    (void)::madvise(pages, count * sizeof(T), MADV_DONTDUMP);
    (void)::madvise(pages, count * sizeof(T), MADV_WIPEONFORK);
    return static_cast<T*>(pages);
  }
  void deallocate(T* pages, std::size_t count) noexcept {
    ::explicit_bzero(pages, count * sizeof(T));
    (void)::munmap(pages, count * sizeof(T));
  }
  bool operator==(const SecretPages&) const = default;
};

/// Owns secret bytes and overwrites them at the end of its life. `reveal()` is the one way out.
/// A heap vector, not a string: a moved-from short string keeps its characters.
class Secret {
public:
  Secret() = default;
  explicit Secret(std::string_view bytes) : bytes_{bytes.begin(), bytes.end()} {}
  Secret(const Secret&) = delete;
  Secret& operator=(const Secret&) = delete;
  Secret(Secret&&) noexcept = default;
  Secret& operator=(Secret&&) noexcept = default;
  ~Secret() = default;

  std::string_view reveal() const noexcept { return {bytes_.data(), bytes_.size()}; }
  bool empty() const noexcept { return bytes_.empty(); }
  /// A second owner of the same value; spelled out because each copy is one more to wipe.
  Secret clone() const { return Secret{reveal()}; }

private:
  std::vector<char, SecretPages<char>> bytes_;
};

} // namespace slipway
