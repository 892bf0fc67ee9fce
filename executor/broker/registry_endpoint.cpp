// SPDX-License-Identifier: Apache-2.0
#include "executor/broker/registry_endpoint.hpp"

#include "executor/broker/request.hpp"

#include <nlohmann/json.hpp>

#include <algorithm>
#include <charconv>
#include <chrono>

namespace slipway::broker {
namespace {

constexpr const char* kJsonType = "application/json";
constexpr const char* kOctets = "application/octet-stream";
constexpr std::size_t kMostMessage = 16UL << 10;
constexpr std::chrono::seconds kManifestTime{60};
constexpr const char* kOnlyOwn =
    "slipway's endpoint answers for what this job pushed and for nothing else: pull with docker "
    "pull, and see docs/registry-endpoint.md";

/// The specification's words for errors, with their status.
struct Code {
  const char* word;
  int status;
};
constexpr Code kDenied{"DENIED", 403};
constexpr Code kNameInvalid{"NAME_INVALID", 400};
constexpr Code kNameUnknown{"NAME_UNKNOWN", 404};
constexpr Code kUnsupported{"UNSUPPORTED", 405};
constexpr Code kNoReferrers{"UNSUPPORTED", 404};
constexpr Code kBlobUnknown{"BLOB_UNKNOWN", 404};
constexpr Code kUploadUnknown{"BLOB_UPLOAD_UNKNOWN", 404};
constexpr Code kUploadInvalid{"BLOB_UPLOAD_INVALID", 400};
constexpr Code kDigestInvalid{"DIGEST_INVALID", 400};
constexpr Code kManifestUnknown{"MANIFEST_UNKNOWN", 404};
constexpr Code kManifestInvalid{"MANIFEST_INVALID", 400};
constexpr Code kManifestBlobUnknown{"MANIFEST_BLOB_UNKNOWN", 400};

void refuse(Answer& answer, const Code& code, std::string_view message) {
  const nlohmann::json document{
      {"errors", {{{"code", code.word}, {"message", message.substr(0, kMostMessage)}}}}};
  answer.whole(code.status, kJsonType,
               document.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace) + "\n");
}

/// `at_fault`: the word where the client sent something wrong.
void refuse(Answer& answer, const Code& at_fault, const Error& error) {
  switch (error.kind) {
  case ErrorKind::denied:
  case ErrorKind::gate_rejected:
    return refuse(answer, kDenied, readable(error));
  case ErrorKind::bad_input:
  case ErrorKind::not_found:
    return refuse(answer, at_fault, readable(error));
  case ErrorKind::unavailable:
  case ErrorKind::timed_out:
    return refuse(answer, {"UNAVAILABLE", 503}, readable(error));
  default:
    return refuse(answer, {"UNKNOWN", 500}, readable(error));
  }
}

/// The first byte of "0-99" or "bytes 0-99/100"; none where it cannot be read.
std::optional<std::uint64_t> first_byte(std::string_view range) {
  if (range.starts_with("bytes ") || range.starts_with("bytes=")) range.remove_prefix(6);
  std::uint64_t first = 0;
  const auto read = std::from_chars(range.data(), range.data() + range.size(), first);
  if (read.ec != std::errc{} || read.ptr == range.data() + range.size() || *read.ptr != '-')
    return std::nullopt;
  return first;
}

std::string range_of(std::uint64_t size) {
  return "0-" + std::to_string(size == 0 ? 0 : size - 1);
}

} // namespace

struct RegistryEndpoint::Call {
  const Request& request;
  Answer& answer;
  std::string path; ///< decoded
  Query query;
  std::optional<oci::Reference> repository; ///< its tag means nothing

  const std::string& name() const { return repository->repository(); }
  /// What is kept is kept by this: two registries may have repositories of one name.
  std::string key() const { return repository->name(); }
  std::string place(const std::string& rest) const { return "/v2/" + name() + rest; }
  bool reads() const { return request.method == "GET" || request.method == "HEAD"; }
  oci::Layout::Source source() const {
    return [body = request.body](char* buffer, std::size_t capacity) {
      return body->read(buffer, capacity);
    };
  }
};

void RegistryEndpoint::answer(const Request& request, Answer& answer) {
  request.body->wipe(); // of a login, if there was one; it is asked for nowhere
  answer.add_header("Docker-Distribution-Api-Version", "registry/2.0");
  const std::string_view target = request.target;
  const auto question = target.find('?');
  auto path = percent_decode(target.substr(0, question), false);
  if (!path) return refuse(answer, kNameInvalid, path.error());
  auto query = Query::parse(question == std::string_view::npos ? std::string_view{}
                                                               : target.substr(question + 1));
  if (!query) return refuse(answer, kNameInvalid, query.error());
  Call call{request, answer, *std::move(path), *std::move(query), std::nullopt};
  try {
    route(call);
  } catch (const std::exception& problem) {
    if (!answer.begun()) refuse(answer, Code{"UNKNOWN", 500}, problem.what());
    answer.close_after();
  }
}

void RegistryEndpoint::route(Call& call) {
  auto& answer = call.answer;
  const auto registry = service_.registry_at(call.request.host);
  if (!registry)
    return refuse(answer, kNameUnknown,
                  "slipway stands for no registry '" + call.request.host.substr(0, 200) +
                      "' in this job; the operator's [[registry]] entries name those");
  if (call.path == "/v2" || call.path == "/v2/") {
    if (!call.reads()) return refuse(answer, kUnsupported, "only GET is served here");
    return answer.whole(200, kJsonType, "{}");
  }
  if (call.path == "/v2/_catalog")
    return refuse(answer, kDenied, "slipway does not list the repositories of a registry");
  if (!call.path.starts_with("/v2/")) return refuse(answer, kNameUnknown, kOnlyOwn);

  // The name of a repository may hold any of the words that follow it, so the end decides.
  std::string_view head = std::string_view{call.path}.substr(4);
  std::string target;
  if (head.ends_with("/blobs/uploads")) {
    head.remove_suffix(8);
    target = "uploads/";
  } else {
    const auto slash = head.rfind('/');
    if (slash == std::string_view::npos) return refuse(answer, kNameUnknown, kOnlyOwn);
    target = head.substr(slash + 1);
    head = head.substr(0, slash);
    if (head.ends_with("/blobs/uploads")) {
      head.remove_suffix(8);
      target = "uploads/" + target;
    }
  }
  const auto last = head.rfind('/');
  if (last == std::string_view::npos) return refuse(answer, kNameUnknown, kOnlyOwn);
  const std::string kind{head.substr(last + 1)};
  const std::string name{head.substr(0, last)};
  auto repository = oci::Reference::parse(*registry + "/" + name);
  if (!repository || name.find_first_of(":@") != std::string::npos ||
      repository->registry() != *registry ||
      (repository->repository() != name && repository->repository() != "library/" + name))
    return refuse(answer, kNameInvalid,
                  "'" + name.substr(0, 300) + "' is not the name of a repository");
  call.repository = *std::move(repository);

  if (kind == "blobs" && target == "uploads/") return begin_upload(call);
  if (kind == "blobs" && target.starts_with("uploads/")) return upload(call, target.substr(8));
  if (kind == "blobs") return blob(call, target);
  if (kind == "manifests") return manifest(call, target);
  if (kind == "tags" && target == "list") return list_tags(call);
  // To oras NAME_UNKNOWN says that there is no such repository. Any other word with 404 says that
  // there is no such API: it then reads the list of referrers from the tag that it was pushed to.
  // Source: distribution-spec v1.1, "Unavailable Referrers API"; oras-go v2, pingReferrers.
  if (kind == "referrers") return refuse(answer, kNoReferrers, kOnlyOwn);
  refuse(answer, kNameUnknown, kOnlyOwn);
}

void RegistryEndpoint::begin_upload(Call& call) {
  if (call.request.method != "POST")
    return refuse(call.answer, kUnsupported, "an upload begins with POST");
  if (auto may = service_.may_push(*call.repository); !may)
    return refuse(call.answer, kDenied, may.error());
  if (const auto whole = call.query.get("digest"); !whole.empty()) return whole_upload(call, whole);
  // A mount is for what this job has sent already; all else has to be uploaded, or it could not be
  // judged.
  if (const auto mount = oci::Digest::parse(call.query.get("mount"));
      mount && quarantine_.layout().has_blob(*mount)) {
    call.answer.add_header("Location", call.place("/blobs/" + mount->str()));
    call.answer.add_header("Docker-Content-Digest", mount->str());
    return call.answer.whole(201, "", "");
  }
  auto id = quarantine_.begin(call.key());
  if (!id) return refuse(call.answer, kUploadInvalid, id.error());
  call.answer.add_header("Location", call.place("/blobs/uploads/" + *id));
  call.answer.add_header("Docker-Upload-UUID", *id);
  call.answer.add_header("Range", range_of(0));
  call.answer.whole(202, "", "");
}

void RegistryEndpoint::whole_upload(Call& call, const std::string& text) {
  const auto digest = oci::Digest::parse(text);
  if (!digest) return refuse(call.answer, kDigestInvalid, digest.error());
  auto id = quarantine_.begin(call.key());
  if (!id) return refuse(call.answer, kUploadInvalid, id.error());
  auto size = quarantine_.append(call.key(), *id, std::nullopt, call.source());
  if (!size) {
    (void)quarantine_.abandon(call.key(), *id).ok();
    return refuse(call.answer, kUploadInvalid, size.error());
  }
  if (auto done = quarantine_.finish(call.key(), *id, *digest); !done)
    return refuse(call.answer, kDigestInvalid, done.error());
  call.answer.add_header("Location", call.place("/blobs/" + digest->str()));
  call.answer.add_header("Docker-Content-Digest", digest->str());
  call.answer.whole(201, "", "");
}

void RegistryEndpoint::upload(Call& call, const std::string& id) {
  const auto& method = call.request.method;
  if (method == "PATCH") return append(call, id);
  if (method == "PUT") return finish(call, id);
  if (method == "GET" || method == "HEAD") {
    auto size = quarantine_.size_of(call.key(), id);
    if (!size) return refuse(call.answer, kUploadUnknown, size.error());
    call.answer.add_header("Location", call.place("/blobs/uploads/" + id));
    call.answer.add_header("Docker-Upload-UUID", id);
    call.answer.add_header("Range", range_of(*size));
    return call.answer.whole(204, "", "");
  }
  if (method == "DELETE") {
    if (auto gone = quarantine_.abandon(call.key(), id); !gone)
      return refuse(call.answer, kUploadUnknown, gone.error());
    return call.answer.whole(204, "", "");
  }
  refuse(call.answer, kUnsupported, "an upload takes PATCH, PUT, GET and DELETE");
}

void RegistryEndpoint::append(Call& call, const std::string& id) {
  auto before = quarantine_.size_of(call.key(), id);
  if (!before && before.error().kind == ErrorKind::bad_input) // somebody writes: it may go on later
    return refuse(call.answer, {"BLOB_UPLOAD_INVALID", 416}, before.error());
  if (!before) return refuse(call.answer, kUploadUnknown, before.error());
  if (!call.request.content_range.empty() && first_byte(call.request.content_range) != *before) {
    call.answer.add_header("Location", call.place("/blobs/uploads/" + id));
    call.answer.add_header("Range", range_of(*before));
    return refuse(call.answer, {"BLOB_UPLOAD_INVALID", 416},
                  "the upload has " + std::to_string(*before) + " bytes, the part is for '" +
                      call.request.content_range.substr(0, 100) + "'");
  }
  auto size = quarantine_.append(call.key(), id, *before, call.source());
  if (!size) return refuse(call.answer, kUploadInvalid, size.error());
  call.answer.add_header("Location", call.place("/blobs/uploads/" + id));
  call.answer.add_header("Docker-Upload-UUID", id);
  call.answer.add_header("Range", range_of(*size));
  call.answer.whole(202, "", "");
}

void RegistryEndpoint::finish(Call& call, const std::string& id) {
  const auto digest = oci::Digest::parse(call.query.get("digest"));
  if (!digest) return refuse(call.answer, kDigestInvalid, digest.error());
  auto before = quarantine_.size_of(call.key(), id);
  if (!before) return refuse(call.answer, kUploadUnknown, before.error());
  auto size = quarantine_.append(call.key(), id, *before, call.source());
  if (!size) return refuse(call.answer, kUploadInvalid, size.error());
  if (auto done = quarantine_.finish(call.key(), id, *digest); !done)
    return refuse(call.answer, kDigestInvalid, done.error());
  call.answer.add_header("Location", call.place("/blobs/" + digest->str()));
  call.answer.add_header("Docker-Content-Digest", digest->str());
  call.answer.whole(201, "", "");
}

void RegistryEndpoint::blob(Call& call, const std::string& target) {
  if (!call.reads()) return refuse(call.answer, kUnsupported, "nothing is deleted here");
  const auto digest = oci::Digest::parse(target);
  if (!digest) return refuse(call.answer, kDigestInvalid, digest.error());
  auto size = quarantine_.layout().blob_size(*digest);
  auto file = quarantine_.layout().open_blob(*digest);
  if (!size || !file) return refuse(call.answer, kBlobUnknown, kOnlyOwn);
  call.answer.add_header("Docker-Content-Digest", digest->str());
  call.answer.file(200, kOctets, file->get(), *size);
}

void RegistryEndpoint::manifest(Call& call, const std::string& target) {
  if (call.reads()) return show_manifest(call, target);
  if (call.request.method == "PUT") return put_manifest(call, target);
  refuse(call.answer, kUnsupported, "nothing is deleted here");
}

void RegistryEndpoint::show_manifest(Call& call, const std::string& target) {
  auto digest = quarantine_.named(call.key(), target);
  if (!digest) return refuse(call.answer, kManifestUnknown, kOnlyOwn);
  if (target.find(':') == std::string::npos) {
    // Others may have moved the tag since, and whoever is told that it is there pushes nothing.
    const auto tag = call.repository->with_tag(target);
    auto now = service_.current(tag, [&] { return call.answer.gone(); });
    if (!now) return refuse(call.answer, kManifestUnknown, now.error());
    digest = quarantine_.named(call.key(), now->str());
    if (!digest)
      return refuse(call.answer, kManifestUnknown,
                    "in the registry " + target +
                        " is another image by now, which this job did not push here");
  }
  auto bytes = quarantine_.layout().read_blob(*digest, oci::kMaxManifestBytes);
  if (!bytes) return refuse(call.answer, kManifestUnknown, bytes.error());
  const auto parsed = parse(*bytes);
  if (!parsed) return refuse(call.answer, kManifestInvalid, parsed.error());
  call.answer.add_header("Docker-Content-Digest", digest->str());
  call.answer.whole(200, std::visit([](const auto& one) { return one.media_type; }, *parsed),
                    *bytes);
}

Result<std::variant<oci::Manifest, oci::Index>>
RegistryEndpoint::parse(const std::string& manifest) {
  const std::lock_guard one_at_a_time{parsing_};
  return oci::parse_manifest(manifest);
}

void RegistryEndpoint::list_tags(Call& call) {
  if (!call.reads()) return refuse(call.answer, kUnsupported, "only GET is served here");
  auto tags = quarantine_.tags(call.key());
  if (!tags) return refuse(call.answer, kNameUnknown, tags.error());
  if (tags->empty()) return refuse(call.answer, kNameUnknown, kOnlyOwn);
  call.answer.whole(200, kJsonType,
                    nlohmann::json{{"name", call.name()}, {"tags", *tags}}.dump() + "\n");
}

void RegistryEndpoint::put_manifest(Call& call, const std::string& target) {
  const bool by_digest = target.find(':') != std::string::npos;
  auto reference =
      oci::Reference::parse(call.repository->name() + (by_digest ? "@" : ":") + target);
  if (!reference) return refuse(call.answer, kManifestInvalid, reference.error());
  if (auto may = service_.may_push(*reference); !may)
    return refuse(call.answer, kDenied, may.error());
  auto bytes = call.request.body->read_whole(oci::kMaxManifestBytes, kManifestTime);
  if (!bytes) return refuse(call.answer, kManifestInvalid, bytes.error());
  const auto digest = oci::Digest::of(*bytes);
  if (by_digest && *reference->digest() != digest)
    return refuse(call.answer, kDigestInvalid,
                  "the manifest that was sent has the digest " + digest.str());
  const auto parsed = parse(*bytes);
  if (!parsed) return refuse(call.answer, kManifestInvalid, parsed.error());
  const auto type = std::visit([](const auto& one) { return one.media_type; }, *parsed);
  if (const auto said = call.request.content_type.substr(0, call.request.content_type.find(';'));
      !said.empty() && said != type)
    return refuse(call.answer, kManifestInvalid,
                  "the manifest is of type '" + type + "', the request says '" +
                      said.substr(0, 200) + "'");
  if (auto complete = has_all_blobs(*parsed); !complete)
    return refuse(call.answer, kManifestBlobUnknown, complete.error());
  auto kept = quarantine_.keep(*bytes);
  if (!kept) return refuse(call.answer, kManifestInvalid, kept.error());
  if (auto pushed = push(call, *reference, digest); !pushed)
    return refuse(call.answer, kManifestInvalid, pushed.error());
  call.answer.add_header("Location", call.place("/manifests/" + digest.str()));
  call.answer.add_header("Docker-Content-Digest", digest.str());
  call.answer.whole(201, "", "");
}

Status
RegistryEndpoint::has_all_blobs(const std::variant<oci::Manifest, oci::Index>& manifest) const {
  std::vector<const oci::Descriptor*> wanted;
  if (const auto* image = std::get_if<oci::Manifest>(&manifest)) {
    wanted.push_back(&image->config);
    for (const auto& layer : image->layers)
      wanted.push_back(&layer);
  } else {
    for (const auto& child : std::get<oci::Index>(manifest).manifests)
      wanted.push_back(&child);
  }
  for (const auto* blob : wanted) {
    auto size = quarantine_.layout().blob_size(blob->digest);
    if (!size || *size != blob->size)
      return Error{ErrorKind::bad_input,
                   blob->digest.str() + " was not uploaded by this job" +
                       (size ? " in that size" : ""),
                   "",
                   {}};
  }
  return {};
}

Status RegistryEndpoint::push(const Call& call, const oci::Reference& reference,
                              const oci::Digest& manifest) {
  const Cancelled gone = [&] { return call.answer.gone(); };
  std::unique_lock turn{pushing_, std::defer_lock};
  while (!turn.try_lock_for(std::chrono::milliseconds{200})) {
    if (gone()) return Error{ErrorKind::unavailable, "the client has gone", "", {}};
  }
  auto pushed = service_.push_quarantined(reference, manifest, gone);
  if (!pushed) return pushed;
  // It is in the registry: that the job cannot ask for it here would be no reason to deny that.
  for (const auto& name : {reference.target(), manifest.str()})
    (void)quarantine_.name(call.key(), name, manifest).ok();
  return {};
}

} // namespace slipway::broker
