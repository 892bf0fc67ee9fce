// SPDX-License-Identifier: Apache-2.0
#include "executor/gitlab/job_log.hpp"

#include "executor/base/file.hpp"
#include "executor/gitlab/job_logins.hpp"
#include "executor/gitlab/known_secrets.hpp"
#include "executor/leaks/forms.hpp"
#include "executor/log/log.hpp"

#include <unistd.h>

#include <algorithm>
#include <cctype>
#include <utility>

namespace slipway::gitlab {
namespace {

constexpr const char* kRed = "\033[31;1m";
constexpr const char* kPlain = "\033[0;m";

/// Of so many parts of files encoded forms are masked, too; each has some thirty.
constexpr std::size_t kMaxEncodedParts = 256;

/// What encoders make of VALUE: the forms in which the leak scan looks for it, too.
void add_forms(std::string_view value, leaks::Pieces pieces, std::vector<std::string>& values) {
  for (auto& text : leaks::forms_of(value, pieces)) {
    if (text.form == leaks::Form::raw) continue;
    if (text.any_case) {
      std::string upper = text.bytes;
      std::transform(upper.begin(), upper.end(), upper.begin(), [](char c) {
        return static_cast<char>(std::toupper(static_cast<unsigned char>(c)));
      });
      values.push_back(std::move(upper));
    }
    values.push_back(std::move(text.bytes));
  }
}

} // namespace

std::vector<std::string> masked_values(const std::vector<leaks::KnownSecret>& secrets) {
  std::vector<std::string> values;
  std::size_t encoded = 0;
  const auto set = leaks::SecretSet::from(secrets, {});
  for (const auto& part : set.parts()) {
    values.emplace_back(part.value.reveal());
    if (++encoded <= kMaxEncodedParts) add_forms(part.value.reveal(), part.pieces, values);
  }
  return values;
}

std::vector<std::string> masked_values(const JobResponse& response) {
  std::vector<std::string> values;
  std::vector<leaks::KnownSecret> files;
  for (auto& secret : known_secrets(response, "")) {
    // Whatever a user chose to mask is masked from its eighth byte on, as GitLab does; of a file
    // only what is no ordinary text.
    if (secret.kind == leaks::Kind::file) {
      files.push_back(std::move(secret));
      continue;
    }
    values.emplace_back(secret.value.reveal());
    if (secret.value.reveal().size() >= Masker::kShortest)
      add_forms(secret.value.reveal(), leaks::Pieces::all, values);
  }
  for (auto& value : masked_values(files))
    values.push_back(std::move(value));
  for (const auto& login : job_logins(response).logins)
    for (auto& form : forms_of_login(login.username, login.password.reveal()))
      values.push_back(std::move(form));
  return values;
}

void JobLog::mask(const std::vector<std::string>& values) {
  const std::lock_guard guard{masking_};
  masker_ = std::make_unique<Masker>(values);
}

void JobLog::mask_also(const std::vector<std::string>& values) {
  const std::lock_guard guard{masking_};
  if (masker_) masker_->add(values);
}

std::string JobLog::masked(std::string_view text) {
  const std::lock_guard guard{masking_};
  if (!masker_) return std::string{text};
  auto shown = masker_->feed(text);
  return shown + masker_->flush();
}

void JobLog::say(std::string_view line) {
  print(std::string{line} + "\n");
}

void JobLog::print(std::string_view text) {
  (void)!write_all(STDOUT_FILENO, masked(text)).ok();
}

void JobLog::report(const Error& error) {
  const bool job = is_the_jobs_fault(error.kind);
  const auto what = masked(error.text());
  const auto hint = masked(error.hint);
  std::string text = std::string{kRed} + (job ? "ERROR: " : "ERROR (runner system failure): ") +
                     what + kPlain + "\n";
  if (!hint.empty()) text += "  what to do: " + hint + "\n";
  (void)!write_all(STDERR_FILENO, text).ok();
  log::write(log::Level::error, what, {{"kind", kind_name(error.kind)}, {"hint", hint}});
}

} // namespace slipway::gitlab
