// SPDX-License-Identifier: Apache-2.0
#include "executor/broker/buildkit_session.hpp"

#include "executor/base/percent.hpp"
#include "executor/broker/folder_receiver.hpp"
#include "executor/broker/folder_sender.hpp"
#include "executor/grpc/protobuf.hpp"

#include <string.h>

#include <algorithm>
#include <filesystem>

namespace slipway::broker {
namespace {

constexpr const char* kDiffCopy = "/moby.filesync.v1.FileSync/DiffCopy";
constexpr const char* kSendFiles = "/moby.filesync.v1.FileSend/DiffCopy";
constexpr const char* kGetSecret = "/moby.buildkit.secrets.v1.Secrets/GetSecret";
constexpr const char* kCheckAgent = "/moby.sshforward.v1.SSH/CheckAgent";
constexpr const char* kForwardAgent = "/moby.sshforward.v1.SSH/ForwardAgent";
constexpr std::chrono::seconds kCheck{10}; ///< whether it has an agent
/// For a client that walks a large folder, or asks somebody for a secret.
constexpr std::chrono::seconds kPatience{60};
constexpr std::chrono::seconds kFarewell{2};
constexpr std::size_t kMaxPatternBytes = 128UL << 10;
constexpr std::size_t kFilePart = 64UL << 10;
constexpr std::size_t kMostLastWords = 1000; ///< messages of a client that has all files

Error ended(const grpc::Ending& ending, const std::string& what) {
  const std::string why = ending.message.substr(0, 1000);
  if (ending.code == grpc::Code::not_found)
    return Error{ErrorKind::not_found, what + ": " + why, "", {}};
  return Error{ErrorKind::unavailable, what + " failed in the client: " + why, "", {}};
}

PacketStream packets_of(const std::shared_ptr<grpc::Call>& call, const std::string& what) {
  return {[call](std::string_view packet) { return call->write(packet); },
          [call, what]() -> Result<std::optional<std::string>> {
            auto packet = call->read(kPatience);
            if (!packet && packet.error().kind == ErrorKind::unavailable)
              return ended(call->ending(), what);
            if (!packet) return std::move(packet).error().in(what);
            if (!*packet && call->ending().code != grpc::Code::ok)
              return ended(call->ending(), what);
            return packet;
          }};
}

std::string sending(const std::string& local) {
  return "sending the folder '" + local + "'";
}

/// Ends a transfer to the client. Errors: `given`, in the client's own words where it ended the
/// call; timed_out; unavailable.
Status finish_send(grpc::Call& call, Status given, const std::string& what) {
  if (!given && !call.gone()) {
    call.cancel(); // what it has is not all
    return std::move(given).error().in(what);
  }
  if (given) call.end_writing();
  // Until it has closed what it wrote. What it still says means nothing.
  for (std::size_t said = 0; said < kMostLastWords; ++said) {
    auto rest = call.read(kPatience);
    if (rest && *rest) continue;
    if (!rest && rest.error().kind == ErrorKind::timed_out) return std::move(rest).error().in(what);
    if (call.ending().code != grpc::Code::ok) return ended(call.ending(), what);
    if (given && !rest) return std::move(rest).error().in(what);
    if (!given) return std::move(given).error().in(what);
    return {};
  }
  call.cancel();
  return Error{ErrorKind::bad_input, what + ": the client does not come to an end", "", {}};
}

} // namespace

bool BuildkitSession::offers(const std::string& method) const {
  return std::find_if(methods_.begin(), methods_.end(), [&](const std::string& one) {
           return ::strcasecmp(one.c_str(), method.c_str()) == 0;
         }) != methods_.end();
}

Result<std::shared_ptr<grpc::Call>>
BuildkitSession::begin_copy(const std::string& local, const std::string& key,
                            const std::vector<std::string>& values) {
  if (!offers(kDiffCopy))
    return Error{ErrorKind::bad_input, "the client's session sends no folders", "", {}};
  // Encoded: a header takes less than a pattern may hold.
  grpc::Metadata metadata{{"dir-name", percent_encode(local)}, {"dir-name-encoded", "1"}};
  std::size_t bytes = 0;
  for (const auto& value : values) {
    metadata.emplace_back(key, percent_encode(value));
    bytes += metadata.back().second.size();
  }
  if (!values.empty()) metadata.emplace_back(key + "-encoded", "1");
  if (bytes > kMaxPatternBytes)
    return Error{ErrorKind::bad_input,
                 "the ignore file is larger than a BuildKit client can take back",
                 "make it smaller, or set DOCKER_BUILDKIT=0",
                 {}};
  return connection_->call(kDiffCopy, metadata);
}

Result<std::map<std::string, std::string>>
BuildkitSession::files(const std::string& local, const std::vector<std::string>& names,
                       std::size_t limit) {
  auto call = begin_copy(local, "followpaths", names);
  if (!call) return std::move(call).error();
  auto files = receive_files(packets_of(*call, sending(local)), names, limit);
  (*call)->end_writing();
  if (!files) (*call)->cancel();
  // Its FIN and its end: to let go before that would tell the client of a broken transfer.
  for (int i = 0; files && i < 2; ++i)
    if (!(*call)->read(kFarewell)) break;
  return files;
}

Result<std::function<Result<std::size_t>(char*, std::size_t)>>
BuildkitSession::folder(const std::string& local, const std::vector<std::string>& excludes) {
  auto call = begin_copy(local, "exclude-patterns", excludes);
  if (!call) return std::move(call).error();
  auto tar = std::make_shared<FolderTar>(packets_of(*call, sending(local)));
  return std::function<Result<std::size_t>(char*, std::size_t)>{
      [call = *call, tar](char* buffer, std::size_t capacity) {
        auto got = tar->read(buffer, capacity);
        if (!got) call->cancel();
        if (got && *got == 0) {
          call->end_writing();
          for (int i = 0; i < 2; ++i)
            if (!call->read(kFarewell)) break;
        }
        return got;
      }};
}

Result<std::shared_ptr<grpc::Call>> BuildkitSession::begin_send() {
  if (!offers(kSendFiles))
    return Error{ErrorKind::bad_input, "the client's session takes no files", "", {}};
  // The number of the output: a build has one.
  return connection_->call(kSendFiles, {{"buildkit-attachable-exporter-id", "0"}});
}

Status BuildkitSession::send_file(const std::function<Status(const FileSink&)>& write) {
  auto call = begin_send();
  if (!call) return std::move(call).error();
  const auto until = std::chrono::steady_clock::now() + kLongestSend;
  auto given = write([&](std::string_view bytes) -> Status {
    for (; !bytes.empty(); bytes.remove_prefix(std::min(kFilePart, bytes.size()))) {
      if (std::chrono::steady_clock::now() > until)
        return Error{ErrorKind::timed_out, "the client takes it too slowly", "", {}};
      const auto part = grpc::MessageWriter{}.text(1, bytes.substr(0, kFilePart)).take();
      if (auto put = (*call)->write(part); !put) return put;
    }
    return {};
  });
  return finish_send(**call, std::move(given), "writing the image's files as a tar");
}

Status BuildkitSession::send_folder(const FolderSender& files) {
  auto call = begin_send();
  if (!call) return std::move(call).error();
  const std::string what = "writing the image's files";
  auto given = files.send(packets_of(*call, what), std::chrono::steady_clock::now() + kLongestSend);
  return finish_send(**call, std::move(given), what);
}

Result<std::optional<Secret>> BuildkitSession::secret(const std::string& id) {
  if (!offers(kGetSecret)) return std::optional<Secret>{};
  auto call = connection_->call(kGetSecret, {});
  if (!call) return std::move(call).error();
  auto asked = (*call)->write(grpc::MessageWriter{}.text(1, id).bytes());
  (*call)->end_writing();
  const std::string what = "getting the secret " + id;
  if (!asked) return std::move(asked).error().in(what);
  auto answer = (*call)->read(kPatience);
  if (answer && *answer) {
    std::optional<Secret> secret{std::in_place};
    std::string& bytes = **answer;
    auto read = grpc::read_fields(bytes, [&](const grpc::Field& field) -> Status {
      if (field.is_bytes && field.number == 1) secret.emplace(field.bytes);
      return {};
    });
    ::explicit_bzero(bytes.data(), bytes.size());
    if (!read) return std::move(read).error().in(what);
    return secret;
  }
  if (!answer && answer.error().kind != ErrorKind::unavailable)
    return std::move(answer).error().in(what);
  const auto ending = (*call)->ending();
  if (ending.code == grpc::Code::not_found) return std::optional<Secret>{};
  return ended(ending, what);
}

Result<bool> BuildkitSession::has_agent(const std::string& id) {
  if (!offers(kCheckAgent) || !offers(kForwardAgent)) return false;
  auto call = connection_->call(kCheckAgent, {});
  if (!call) return std::move(call).error();
  auto asked = (*call)->write(grpc::MessageWriter{}.text(1, id).bytes());
  (*call)->end_writing();
  if (!asked) return std::move(asked).error().in("looking for the SSH agent " + id);
  auto answer = (*call)->read(kCheck);
  if (!answer && answer.error().kind == ErrorKind::timed_out)
    return std::move(answer).error().in("looking for the SSH agent " + id);
  return answer && *answer;
}

Result<std::string> BuildkitSession::ask_agent(const std::string& id, std::string_view question) {
  auto call = connection_->call(kForwardAgent, {{"buildkit.ssh.id", id}});
  if (!call) return std::move(call).error();
  const std::string what = "asking the SSH agent " + id;
  if (auto asked =
          (*call)->write(grpc::MessageWriter{}.text(1, engine_api::agent_frame(question)).bytes());
      !asked)
    return std::move(asked).error().in(what);
  const auto until = std::chrono::steady_clock::now() + kPatience;
  engine_api::AgentMessages answers;
  for (;;) {
    auto answer = answers.next();
    if (!answer) return std::move(answer).error().in(what);
    if (*answer) return **std::move(answer);
    const auto left = until - std::chrono::steady_clock::now();
    auto part = (*call)->read(std::chrono::ceil<std::chrono::milliseconds>(left));
    if (!part && part.error().kind != ErrorKind::unavailable)
      return std::move(part).error().in(what);
    if (!part || !*part) return ended((*call)->ending(), what);
    auto read = grpc::read_fields(**part, [&](const grpc::Field& field) -> Status {
      if (field.is_bytes && field.number == 1) answers.add(field.bytes);
      return {};
    });
    if (!read) return std::move(read).error().in(what);
  }
}

std::vector<std::string> ignore_patterns(std::string_view text) {
  const auto trimmed = [](std::string_view part) {
    constexpr const char* kSpace = " \t\r\n\v\f";
    const auto begin = part.find_first_not_of(kSpace);
    if (begin == std::string_view::npos) return std::string_view{};
    return part.substr(begin, part.find_last_not_of(kSpace) - begin + 1);
  };
  if (text.starts_with("\xef\xbb\xbf")) text.remove_prefix(3);
  std::vector<std::string> patterns;
  while (!text.empty()) {
    const auto end = text.find('\n');
    auto line = text.substr(0, end);
    text = end == std::string_view::npos ? std::string_view{} : text.substr(end + 1);
    if (line.starts_with('#')) continue;
    line = trimmed(line);
    if (line.empty()) continue;
    const bool invert = line.front() == '!';
    if (invert) line = trimmed(line.substr(1));
    std::string pattern;
    if (!line.empty()) {
      pattern = std::filesystem::path{line}.lexically_normal().string();
      while (pattern.size() > 1 && pattern.back() == '/')
        pattern.pop_back();
      while (pattern.size() > 1 && pattern.front() == '/')
        pattern.erase(0, 1);
    }
    patterns.push_back((invert ? "!" : "") + pattern);
  }
  return patterns;
}

} // namespace slipway::broker
