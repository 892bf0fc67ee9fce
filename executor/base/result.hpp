// SPDX-License-Identifier: Apache-2.0
// Errors are values: a kind that a caller can act on, what happened, what to do next, and the chain
// of circumstances in which it happened. They are rendered once, at the edge.
#pragma once

#include <optional>
#include <string>
#include <utility>
#include <variant>
#include <vector>

namespace slipway {

/// What a caller may do about an error. A kind exists only because somebody branches on it.
enum class ErrorKind {
  denied,         ///< policy forbids what the job asked for
  gate_rejected,  ///< the gate judged the image and said no
  backend_failed, ///< the build itself failed (a RUN step, a Dockerfile error)
  bad_input,      ///< what the job or a peer sent cannot be read
  not_found,      ///< the named thing does not exist where it was looked for
  misconfigured,  ///< the operator's configuration is wrong
  timed_out,      ///< a deadline passed
  unavailable,    ///< a service or tool did not answer as it should; another try may succeed
  io,             ///< a system call failed
  internal,       ///< a broken promise of our own
};

/// True where the job's author has to act; false where the operator (or we) must. Decides between
/// a build failure and a system failure.
constexpr bool is_the_jobs_fault(ErrorKind kind) {
  switch (kind) {
  case ErrorKind::denied:
  case ErrorKind::gate_rejected:
  case ErrorKind::backend_failed:
  case ErrorKind::bad_input:
  case ErrorKind::not_found:
    return true;
  case ErrorKind::misconfigured:
  case ErrorKind::timed_out:
  case ErrorKind::unavailable:
  case ErrorKind::io:
  case ErrorKind::internal:
    return false;
  }
  return false; // unreachable: every enumerator returns above
}

/// The word for a kind, as it stands in logs and JSON.
const char* kind_name(ErrorKind kind);

/// An error as data. `what` says what happened to what and why, `hint` what to do next.
struct [[nodiscard]] Error {
  ErrorKind kind = ErrorKind::internal;
  std::string what;
  std::string hint;
  std::vector<std::string> context; ///< innermost first

  /// Adds a circumstance that the callee did not know ("loading manifest sha256:…").
  Error in(std::string circumstance) && {
    context.push_back(std::move(circumstance));
    return std::move(*this);
  }
  /// Replaces the hint where none is there yet.
  Error hinting(std::string next) && {
    if (hint.empty()) hint = std::move(next);
    return std::move(*this);
  }
  /// One line: outermost circumstance first, then what happened. Without the hint.
  std::string text() const;
};

/// The text of an errno value, thread-safe.
std::string errno_text(int cause);

/// An io error "WHAT: strerror (SUBJECT)"; pass errno as read in the statement after the call.
Error io_error(const std::string& what, int cause, const std::string& subject = "");

/// Either a value or an Error. Test before use; `value()` on an error terminates.
template <typename T> class [[nodiscard]] Result {
public:
  Result(T value)
      : held_{std::in_place_index<0>, std::move(value)} {
  } // NOLINT(google-explicit-constructor): reads as return
  Result(Error error)
      : held_{std::in_place_index<1>, std::move(error)} {
  } // NOLINT(google-explicit-constructor): reads as return

  explicit operator bool() const noexcept { return held_.index() == 0; }
  bool ok() const noexcept { return held_.index() == 0; }
  T& value() & { return std::get<0>(held_); }
  const T& value() const& { return std::get<0>(held_); }
  T&& value() && { return std::get<0>(std::move(held_)); }
  T& operator*() & { return value(); }
  const T& operator*() const& { return value(); }
  T&& operator*() && { return std::move(*this).value(); }
  T* operator->() { return &value(); }
  const T* operator->() const { return &value(); }
  const Error& error() const& { return std::get<1>(held_); }
  Error&& error() && { return std::get<1>(std::move(held_)); }

private:
  std::variant<T, Error> held_;
};

/// Success without a value, or an Error.
template <> class [[nodiscard]] Result<void> {
public:
  Result() = default;
  Result(Error error)
      : error_{std::move(error)} {} // NOLINT(google-explicit-constructor): reads as return

  explicit operator bool() const noexcept { return !error_.has_value(); }
  bool ok() const noexcept { return !error_.has_value(); }
  const Error& error() const& { return *error_; }
  Error&& error() && { return *std::move(error_); }

private:
  std::optional<Error> error_;
};

using Status = Result<void>;

} // namespace slipway
