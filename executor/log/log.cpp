// SPDX-License-Identifier: Apache-2.0
#include "executor/log/log.hpp"

#include <spdlog/sinks/basic_file_sink.h>
#include <spdlog/spdlog.h>

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

std::string quoted(const std::string& value) {
  if (value.find_first_of(" \"\\=\n\r\t") == std::string::npos && !value.empty()) return value;
  std::string text = "\"";
  for (const char c : value) {
    if (c == '"' || c == '\\') text += '\\';
    if (static_cast<unsigned char>(c) < 0x20) {
      text += c == '\n' ? "\\n" : " ";
    } else {
      text += c;
    }
  }
  return text + '"';
}

} // namespace

bool open(const std::filesystem::path& file, Level least) {
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
  std::string line{message};
  for (const auto& [key, value] : fields) {
    line += ' ';
    line += key;
    line += '=';
    line += quoted(value);
  }
  logger()->log(spdlog_level(level), "{}", line);
}

} // namespace slipway::log
