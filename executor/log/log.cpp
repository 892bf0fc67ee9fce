// SPDX-License-Identifier: Apache-2.0
#include "executor/log/log.hpp"

#include <spdlog/sinks/basic_file_sink.h>
#include <spdlog/spdlog.h>

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <memory>

namespace slipway::log {
namespace {

std::shared_ptr<spdlog::logger>& logger() {
  static std::shared_ptr<spdlog::logger> instance;
  return instance;
}

spdlog::level::level_enum spdlog_level(Level level) {
  switch (level) {
  case Level::debug:
    return spdlog::level::debug;
  case Level::info:
    return spdlog::level::info;
  case Level::warning:
    return spdlog::level::warn;
  case Level::error:
    return spdlog::level::err;
  }
  return spdlog::level::err;
}

bool is_control(char c) {
  return static_cast<unsigned char>(c) < 0x20 || c == 0x7f;
}

// A job has a say in some texts: they begin no line of their own and steer no terminal.
std::string one_line(std::string_view text) {
  std::string line;
  for (const char c : text) {
    if (is_control(c)) {
      line += c == '\n' ? "\\n" : " ";
    } else {
      line += c;
    }
  }
  return line;
}

std::string quoted(const std::string& value) {
  const bool plain = value.find_first_of(" \"\\=") == std::string::npos &&
                     std::none_of(value.begin(), value.end(), is_control);
  if (plain && !value.empty()) return value;
  std::string escaped;
  for (const char c : value) {
    if (c == '"' || c == '\\') escaped += '\\';
    escaped += c;
  }
  return '"' + one_line(escaped) + '"';
}

} // namespace

bool open(const std::filesystem::path& file, Level least) {
  // Made here and not by spdlog, which would leave its mode to the umask.
  const int made = ::open(file.c_str(), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0640);
  if (made < 0) return false;
  (void)::close(made);
  try {
    logger() = std::make_shared<spdlog::logger>(
        "slipway", std::make_shared<spdlog::sinks::basic_file_sink_mt>(file.string()));
  } catch (const spdlog::spdlog_ex&) {
    return false;
  }
  logger()->set_level(spdlog_level(least));
  logger()->set_pattern("%Y-%m-%dT%H:%M:%S.%eZ %l pid=%P %v", spdlog::pattern_time_type::utc);
  logger()->flush_on(spdlog::level::debug);
  return true;
}

void write(Level level, std::string_view message,
           std::initializer_list<std::pair<std::string_view, std::string>> fields) {
  if (!logger()) return;
  std::string line = one_line(message);
  for (const auto& [key, value] : fields) {
    line += ' ';
    line += key;
    line += '=';
    line += quoted(value);
  }
  logger()->log(spdlog_level(level), "{}", line);
}

} // namespace slipway::log
