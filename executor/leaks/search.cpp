// SPDX-License-Identifier: Apache-2.0
#include "executor/leaks/search.hpp"

#include "executor/leaks/matcher.hpp"
#include "executor/leaks/read_ahead.hpp"
#include "executor/oci/layer.hpp"

#include <archive.h>
#include <archive_entry.h>
#include <nlohmann/json.hpp>

#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <functional>
#include <memory>
#include <utility>

namespace slipway::leaks {
namespace {

constexpr std::size_t kPart = 128UL << 10;
constexpr std::size_t kMaxDocument = 8UL << 20;
constexpr int kMaxDepth = 100;
constexpr std::size_t kShownArchives = 3;
/// A blob that was there this long before a token was made cannot hold it; the clock may be set.
constexpr std::chrono::seconds kClockSlack{60};

/// The next bytes of a stream, valid until the next call; none at its end.
using Source = std::function<Result<std::string_view>()>;

/// An archive that reads from a Source.
class Input {
public:
  explicit Input(Source source)
      : source_{std::move(source)}, archive_{::archive_read_new(), &::archive_read_free} {}
  Input(const Input&) = delete;
  Input& operator=(const Input&) = delete;

  archive* get() { return archive_.get(); }
  bool open() {
    return ::archive_read_open(archive_.get(), this, nullptr, &read_part, nullptr) == ARCHIVE_OK;
  }
  /// Set where reading ended because the source failed.
  const std::optional<Error>& error() const { return error_; }
  /// The next bytes of the current entry; `code` is ARCHIVE_EOF at its end.
  std::string_view data(int& code) {
    const void* bytes = nullptr;
    std::size_t size = 0;
    la_int64_t offset = 0; // a hole in a sparse file holds no secret
    do {
      code = ::archive_read_data_block(archive_.get(), &bytes, &size, &offset);
    } while ((code == ARCHIVE_OK || code == ARCHIVE_WARN) && size == 0);
    if (code != ARCHIVE_OK && code != ARCHIVE_WARN) return {};
    code = ARCHIVE_OK;
    return {static_cast<const char*>(bytes), size};
  }
  std::string name_of(archive_entry* entry) const {
    const char* name = ::archive_entry_pathname(entry);
    if (name == nullptr) name = ::archive_entry_pathname_utf8(entry);
    std::string_view text = name == nullptr ? "?" : name;
    while (text.starts_with("./"))
      text.remove_prefix(2);
    return std::string{text};
  }

private:
  static la_ssize_t read_part(archive*, void* self, const void** bytes) {
    auto& input = *static_cast<Input*>(self);
    auto got = input.source_();
    if (!got) {
      input.error_ = std::move(got).error();
      return -1;
    }
    *bytes = got->data();
    return static_cast<la_ssize_t>(got->size());
  }
  Source source_;
  std::unique_ptr<archive, decltype(&::archive_read_free)> archive_;
  std::optional<Error> error_;
};

enum class Packing { none, one_stream, zip };

Packing packing_of(std::string_view head) {
  using namespace std::string_view_literals;
  if (head.starts_with("PK\3\4"sv)) return Packing::zip;
  for (const auto magic : {"\x1f\x8b\x08"sv, "\x28\xb5\x2f\xfd"sv,
                           "\xfd"
                           "7zXZ\0"sv}) {
    if (head.starts_with(magic)) return Packing::one_stream;
  }
  if (head.starts_with("BZh"sv) && head.substr(4, 2) == "1A"sv) return Packing::one_stream;
  return Packing::none;
}

/// A script or program, before which a zip may be put: executable jars, zipapps, self-extracting
/// archives.
bool begins_as_program(std::string_view head) {
  return head.starts_with("#!") ||
         head.starts_with("\x7f"
                          "ELF") ||
         head.starts_with("MZ");
}

/// The zip behind what a file begins with, from its first entry on.
class ZipBehind {
public:
  explicit ZipBehind(Source file) : file_{std::move(file)} {}
  /// Nothing at the end, also where there was no zip. Errors: those of the source.
  Result<std::string_view> next() {
    if (found_) return pending_.empty() ? file_() : std::exchange(pending_, {});
    for (;;) {
      auto bytes = file_();
      if (!bytes || bytes->empty()) return bytes;
      seam_ = tail_;
      seam_ += bytes->substr(0, kHeader);
      if (const auto at = header_in(seam_); at < tail_.size()) {
        found_ = true;
        pending_ = *bytes;
        return std::string_view{seam_}.substr(at, tail_.size() - at);
      }
      if (const auto at = header_in(*bytes); at != std::string_view::npos) {
        found_ = true;
        return bytes->substr(at);
      }
      tail_ += bytes->substr(bytes->size() - std::min(bytes->size(), kHeader));
      tail_.erase(0, tail_.size() - std::min(tail_.size(), kHeader));
    }
  }

private:
  // A local file header and one byte of its name. Source: APPNOTE.TXT 6.3.10, 4.3.7.
  static constexpr std::size_t kHeader = 31;
  static std::size_t header_in(std::string_view bytes) {
    constexpr std::string_view kMagic = "PK\3\4";
    constexpr std::size_t kMostName = 4096;
    const auto byte = [&](std::size_t at) { return static_cast<unsigned char>(bytes[at]); };
    for (auto at = bytes.find(kMagic); at != std::string_view::npos && at + kHeader <= bytes.size();
         at = bytes.find(kMagic, at + 1)) {
      const auto name = byte(at + 26) + 256U * byte(at + 27);
      const bool is_header = byte(at + 4) <= 63 && byte(at + 9) == 0 && name > 0 &&
                             name <= kMostName && byte(at + 30) > ' ';
      if (is_header) return at;
    }
    return std::string_view::npos;
  }
  Source file_;
  std::string tail_; ///< of what came before, as long as a header that is cut may be
  std::string seam_; ///< of it and what follows
  std::string_view pending_;
  bool found_ = false;
};

/// What one stream of compressed bytes expands to. A stream that is not compressed is what it is.
class Unpacked {
public:
  Unpacked(Source packed, bool rare_formats) : input_{std::move(packed)} {
    ::archive_read_support_filter_gzip(input_.get());
    ::archive_read_support_filter_zstd(input_.get());
    if (rare_formats) {
      ::archive_read_support_filter_xz(input_.get());
      ::archive_read_support_filter_bzip2(input_.get());
    }
    ::archive_read_support_format_raw(input_.get());
    ::archive_read_support_format_empty(input_.get());
  }
  /// Errors: bad_input (not whole); those of the source.
  Result<std::string_view> next() {
    if (ended_) return std::string_view{};
    if (!begun_) {
      begun_ = true;
      archive_entry* entry = nullptr;
      const int code =
          input_.open() ? ::archive_read_next_header(input_.get(), &entry) : ARCHIVE_FATAL;
      if (code == ARCHIVE_EOF) return end();
      if (code != ARCHIVE_OK && code != ARCHIVE_WARN) return broken();
    }
    int code = ARCHIVE_OK;
    const auto bytes = input_.data(code);
    if (code == ARCHIVE_EOF) return end();
    if (code != ARCHIVE_OK) return broken();
    return bytes;
  }

private:
  std::string_view end() {
    ended_ = true;
    return {};
  }
  Error broken() {
    ended_ = true;
    if (input_.error()) return *input_.error();
    return Error{ErrorKind::bad_input, "is damaged: it cannot be expanded to its end", "", {}};
  }
  Input input_;
  bool begun_ = false;
  bool ended_ = false;
};

struct Task {
  enum class As { layer, other, document };
  As as = As::other;
  std::string what;
  oci::Descriptor blob;
  std::optional<oci::Digest> diff_id; ///< what a layer has to expand to
  std::string made_by;
  const char* key() const {
    return as == As::layer ? "layer" : as == As::document ? "document" : "other";
  }
};

// Everything below a tree, documents first; each blob once for each way in which it is read.
std::vector<Task> tasks_of(const oci::ImageTree& tree) {
  std::vector<Task> tasks;
  std::set<std::pair<oci::Digest, Task::As>> seen;
  const auto add = [&](Task task) {
    if (seen.emplace(task.blob.digest, task.as).second) tasks.push_back(std::move(task));
  };
  for (const auto& blob : tree.blobs) {
    if (oci::is_index_type(blob.media_type) ||
        std::find(tree.index_digests.begin(), tree.index_digests.end(), blob.digest) !=
            tree.index_digests.end())
      add({Task::As::document, "index", blob, {}, ""});
  }
  for (const auto& image : tree.images) {
    add({Task::As::document, "manifest", image.descriptor, {}, ""});
    const auto& config = image.manifest.config;
    if (image.config && config.size <= kMaxDocument) {
      add({Task::As::document, "image config", config, {}, ""});
    } else {
      add({Task::As::other, "config", config, {}, ""});
    }
  }
  for (const auto& image : tree.images) {
    const auto& layers = image.manifest.layers;
    const auto made_by =
        image.config ? oci::layer_commands(*image.config) : std::vector<std::string>{};
    for (std::size_t i = 0; i < layers.size(); ++i) {
      Task task{Task::As::other, image.is_attestation ? "attestation" : "blob", layers[i], {}, ""};
      // What is of another type is no tar: the gate says whether it may be there at all.
      if (image.config && oci::layer_compression(layers[i].media_type)) {
        task.as = Task::As::layer;
        task.what = "layer";
        if (image.config->diff_ids.size() == layers.size())
          task.diff_id = image.config->diff_ids[i];
        if (made_by.size() == layers.size()) task.made_by = made_by[i];
      }
      add(std::move(task));
    }
  }
  for (const auto& blob : tree.blobs) {
    const bool known = std::any_of(tasks.begin(), tasks.end(), [&](const Task& task) {
      return task.blob.digest == blob.digest;
    });
    if (!known) add({Task::As::other, "blob", blob, {}, ""});
  }
  return tasks;
}

/// Searches one blob.
class BlobSearch {
public:
  BlobSearch(const Matcher& matcher, const SecretSet& secrets, std::uint64_t most, const Task& task,
             Report& report, const oci::KnownLayers* layers)
      : matcher_{matcher}, secrets_{secrets}, most_{most},
        left_in_archives_{most}, task_{task}, report_{report}, layers_{layers} {}

  /// True where nothing was found and nothing was left out.
  Result<bool> run(const oci::Layout& layout) {
    const auto packing = task_.as == Task::As::layer ? oci::layer_compression(task_.blob.media_type)
                                                     : std::optional<oci::Compression>{};
    auto done = task_.as == Task::As::document ? document(layout)
                : packing                      ? layer(layout, *packing)
                                               : stream(layout);
    if (!done) {
      if (done.error().kind != ErrorKind::bad_input && done.error().kind != ErrorKind::not_found)
        return std::move(done).error();
      not_searched(done.error().what);
    }
    if (unopened_ > 0) {
      report_.notes.push_back(std::to_string(unopened_) + " archives in " + task_.what + " " +
                              task_.blob.digest.str() +
                              " could not be opened to their end and were searched as they are (" +
                              unopened_names_ + (unopened_ > kShownArchives ? ", …)" : ")"));
    }
    return clean_;
  }

private:
  using Matches = std::vector<Matcher::Match>;

  void not_searched(const std::string& why) {
    clean_ = false;
    report_.not_searched.push_back(task_.what + " " + task_.blob.digest.str() + " " + why);
  }

  /// Text of the image, where it does not hold what must not be shown.
  std::string shown(const std::string& text) const {
    return matcher_.holds_any(text) ? "(not shown: it holds the value)" : text;
  }

  void found(const Matcher::Match& match, const std::string& place) {
    clean_ = false;
    const auto& names = secrets_.parts()[match.secret].names;
    report_.leaking[task_.blob.digest].insert(names.begin(), names.end());
    const auto text = place.empty() ? place : shown(place);
    for (const auto& hit : report_.hits) {
      if (hit.blob != task_.blob.digest || hit.names != names) continue;
      // What is found in an archive may stand in its own bytes too, where they are not packed.
      if (hit.form == match.form && (hit.place == text || hit.place.starts_with(text + "!/")))
        return;
      if (task_.as == Task::As::document && text.empty()) return; // known by its member
    }
    if (report_.hits.size() == kMaxHits) {
      ++report_.more_hits;
      return;
    }
    report_.hits.push_back({names, match.form, task_.blob.digest, task_.what, text,
                            task_.made_by.empty() ? "" : shown(task_.made_by)});
  }

  Status block(Matcher::Stream& stream, std::string_view text, const std::string& place) {
    Matches matches;
    if (auto done = stream.restart(); !done) return done;
    if (auto done = stream.feed(text, [&](const auto& m) { matches.push_back(m); }); !done)
      return done;
    for (const auto& match : matches)
      found(match, place);
    return {};
  }

  // ---- documents

  Status document(const oci::Layout& layout) {
    auto text = layout.read_blob(task_.blob.digest, kMaxDocument);
    if (!text) return std::move(text).error();
    report_.bytes += text->size();
    auto stream = Matcher::Stream::open(matcher_);
    if (!stream) return std::move(stream).error();
    const auto json = nlohmann::json::parse(*text, nullptr, false);
    if (auto done = members(*stream, json, {}, 0); !done) return done;
    return block(*stream, *text, "");
  }

  // Decoded, so that no way of escaping hides anything.
  Status members(Matcher::Stream& stream, const nlohmann::json& value,
                 std::vector<std::string> path, int depth) {
    if (depth > kMaxDepth)
      return Error{ErrorKind::bad_input, "is nested too deeply to be searched", "", {}};
    if (value.is_string()) {
      const auto& text = value.get_ref<const std::string&>();
      return block(stream, text, member_name(path, text));
    }
    if (!value.is_structured()) return {};
    path.emplace_back();
    std::size_t index = 0;
    for (const auto& [key, child] : value.items()) {
      path.back() = value.is_object() ? key : std::to_string(index++);
      if (value.is_object()) {
        if (auto done = block(stream, key, member_name(path, "")); !done) return done;
      }
      if (auto done = members(stream, child, path, depth + 1); !done) return done;
    }
    return {};
  }

  static std::string member_name(const std::vector<std::string>& path, const std::string& text) {
    if (path.size() == 3 && path[0] == "config" && path[1] == "Env")
      return "ENV " + text.substr(0, text.find('='));
    if (path.size() == 3 && path[0] == "config" && path[1] == "Labels") return "LABEL " + path[2];
    if (path.size() == 3 && path[0] == "history")
      return "history, entry " + path[1] + ", " + path[2];
    if (path.size() >= 2 && path[path.size() - 2] == "annotations")
      return "annotation " + path.back();
    std::string name;
    for (const auto& member : path)
      name += "/" + member;
    return name;
  }

  // ---- layers

  // One pass serves the verifier too, who would have to expand the layer again. Reading, expanding
  // and hashing have a thread of their own: they take longer than the search does.
  Status layer(const oci::Layout& layout, oci::Compression packing) {
    auto raw = Matcher::Stream::open(matcher_);
    if (!raw) return std::move(raw).error();
    Matches matches;
    const bool packed = packing != oci::Compression::none;
    std::optional<oci::LayerContent> read;
    ReadAhead ahead{[&](const ReadAhead::Put& put) -> Status {
      auto reader = oci::LayerReader::open(
          layout, task_.blob, packing, most_, [&](std::string_view bytes) -> Status {
            // A header of gzip and a skippable frame of zstd have room for words of their own.
            return packed ? put(ReadAhead::Kind::packed, bytes) : Status{};
          });
      if (!reader) return std::move(reader).error();
      for (;;) {
        auto bytes = reader->next();
        if (!bytes) return std::move(bytes).error();
        if (bytes->empty()) break;
        if (auto taken = put(ReadAhead::Kind::expanded, *bytes); !taken) return taken;
      }
      read = reader->content();
      return {};
    }};
    if (auto started = ahead.start(); !started) return started;
    const Source content = [&]() -> Result<std::string_view> {
      for (;;) {
        auto part = ahead.next();
        if (!part) return std::move(part).error();
        if (!*part) return std::string_view{};
        const auto bytes = (*part)->bytes;
        report_.bytes += bytes.size();
        if ((*part)->kind == ReadAhead::Kind::expanded) return bytes;
        auto fed = raw->feed(bytes, [&](const auto& m) { matches.push_back(m); });
        if (!fed) return std::move(fed).error();
      }
    };
    auto walked = walk_tar(content, "", true, true);
    found_packed(matches);
    if (!walked) return walked;
    // The walk goes to the end of its source.
    if (!read) return Error{ErrorKind::internal, "the layer was not read to its end", "", {}};
    if (layers_ != nullptr) layers_->note(task_.blob, *read);
    if (task_.diff_id && read->diff_id != *task_.diff_id)
      return bad("does not expand to what the image config says");
    return {};
  }

  // ---- whatever else

  Status stream(const oci::Layout& layout) {
    auto fd = layout.open_blob(task_.blob.digest);
    if (!fd) return std::move(fd).error();
    auto raw = Matcher::Stream::open(matcher_);
    if (!raw) return std::move(raw).error();
    char head[6] = {};
    const auto packing =
        ::pread(fd->get(), head, sizeof head, 0) == static_cast<ssize_t>(sizeof head)
            ? packing_of({head, sizeof head})
            : Packing::none;
    const bool packed = packing != Packing::none;
    oci::Hasher packed_hash;
    std::vector<char> part(kPart);
    Matches matches;
    std::uint64_t size = 0;
    const Source file = [&]() -> Result<std::string_view> {
      for (;;) {
        const ssize_t got = ::read(fd->get(), part.data(), part.size());
        if (got < 0 && errno == EINTR) continue;
        if (got < 0) return io_error("read", errno, task_.blob.digest.str());
        const std::string_view bytes{part.data(), static_cast<std::size_t>(got)};
        size += bytes.size();
        if (size > task_.blob.size) return bad("has not the size of its descriptor");
        packed_hash.update(bytes);
        report_.bytes += bytes.size();
        // A header of gzip and a skippable frame of zstd have room for words of their own.
        if (packed) {
          if (auto fed = raw->feed(bytes, [&](const auto& m) { matches.push_back(m); }); !fed)
            return std::move(fed).error();
        }
        return bytes;
      }
    };
    std::uint64_t expanded = 0;
    Unpacked unpacked{file, true};
    const Source content = [&]() -> Result<std::string_view> {
      auto bytes = unpacked.next();
      if (!bytes) {
        // What is wrong with the file itself is met again below.
        auto damage = std::move(bytes).error();
        if (packed && damage.kind == ErrorKind::bad_input) damage.kind = ErrorKind::not_found;
        return damage;
      }
      expanded += bytes->size();
      if (expanded > most_) return bad("expands to more than " + std::to_string(most_) + " bytes");
      if (packed) report_.bytes += bytes->size();
      return bytes;
    };
    auto walked = packing == Packing::zip ? walk_zip(file, "") : walk_tar(content, "", true, false);
    if (!walked && walked.error().kind == ErrorKind::not_found) {
      not_opened("the blob itself");
      walked = Status{};
    }
    found_packed(matches);
    if (!walked) return walked;
    // What stands behind the compressed stream is searched as it is.
    for (;;) {
      auto rest = file();
      if (!rest) return std::move(rest).error();
      if (rest->empty()) break;
    }
    if (packed_hash.finish() != task_.blob.digest)
      return bad("has other bytes than its digest names");
    return {};
  }

  /// In the compressed bytes: told only where what they expand to does not tell it.
  void found_packed(const Matches& matches) {
    for (const auto& match : matches) {
      const auto& names = secrets_.parts()[match.secret].names;
      const bool known = std::any_of(report_.hits.begin(), report_.hits.end(), [&](const Hit& hit) {
        return hit.blob == task_.blob.digest && hit.names == names;
      });
      if (!known) found(match, "the compressed bytes themselves");
    }
  }

  static Error bad(std::string why) { return {ErrorKind::bad_input, std::move(why), "", {}}; }

  /// Searches all bytes of SOURCE, whatever they are, and names places by the tar that they may be.
  Status walk_tar(const Source& source, const std::string& prefix, bool open_archives,
                  bool must_be_tar) {
    auto stream = Matcher::Stream::open(matcher_);
    if (!stream) return std::move(stream).error();
    auto names = Matcher::Stream::open(matcher_);
    if (!names) return std::move(names).error();
    Matches pending;
    std::string place = prefix;
    const auto settle = [&](std::uint64_t before) {
      std::erase_if(pending, [&](const Matcher::Match& match) {
        if (match.begin >= before) return false;
        found(match, place);
        return true;
      });
    };
    const Source all = [&]() -> Result<std::string_view> {
      auto bytes = source();
      if (!bytes) return bytes;
      if (auto fed = stream->feed(*bytes, [&](const auto& m) { pending.push_back(m); }); !fed)
        return std::move(fed).error();
      return bytes;
    };
    Input tar{all};
    ::archive_read_support_format_tar(tar.get());
    ::archive_read_support_format_empty(tar.get());
    bool broken = !tar.open();
    while (!broken) {
      archive_entry* entry = nullptr;
      const int code = ::archive_read_next_header(tar.get(), &entry);
      if (code == ARCHIVE_EOF) break;
      if (code != ARCHIVE_OK && code != ARCHIVE_WARN) {
        broken = true;
        break;
      }
      const auto begin = ::archive_read_header_position(tar.get());
      settle(begin < 0 ? 0 : static_cast<std::uint64_t>(begin));
      const auto name = tar.name_of(entry);
      place = prefix + name;
      // A long name may be cut in two in the header.
      if (auto done = block(*names, name, place); !done) return done;
      if (open_archives && ::archive_entry_filetype(entry) == AE_IFREG) {
        if (auto done = open_entry(tar, place); !done) return done;
      }
    }
    if (tar.error()) {
      settle(UINT64_MAX);
      return *tar.error();
    }
    for (;;) {
      auto rest = all();
      if (!rest) {
        settle(UINT64_MAX);
        return std::move(rest).error();
      }
      if (rest->empty()) break;
    }
    settle(UINT64_MAX);
    if (broken && must_be_tar) return bad("cannot be read as a tar to its end");
    return {};
  }

  /// Looks into the archive that an entry may be. One level: what is in that is not opened.
  Status open_entry(Input& tar, const std::string& place) {
    int code = ARCHIVE_OK;
    auto first = tar.data(code);
    std::string short_start; // a part may end within the first bytes
    while (code == ARCHIVE_OK && first.size() < 6) {
      short_start += first;
      first = tar.data(code);
      if (short_start.size() + first.size() >= 6 || code != ARCHIVE_OK) {
        short_start += first;
        first = short_start;
        break;
      }
    }
    const auto packing = packing_of(first);
    const bool is_program = begins_as_program(first);
    if (packing == Packing::none && !is_program) return {};
    bool begun = false;
    const Source data = [&]() -> Result<std::string_view> {
      if (!std::exchange(begun, true)) return first;
      int at = ARCHIVE_OK;
      auto bytes = tar.data(at);
      if (at != ARCHIVE_OK && at != ARCHIVE_EOF)
        return tar.error() ? *tar.error() : bad("cannot be read as a tar to its end");
      return bytes;
    };
    auto done = is_program                ? walk_zip_behind(data, place)
                : packing == Packing::zip ? walk_zip(data, place + "!/")
                                          : walk_packed(data, place);
    if (done) return {};
    if (tar.error()) return *tar.error();
    if (done.error().kind != ErrorKind::not_found) return done;
    not_opened(shown(place));
    return {};
  }

  // Of an archive only what it says about itself: its bytes are searched as any others.
  void not_opened(const std::string& place) {
    if (++unopened_ <= kShownArchives)
      unopened_names_ += (unopened_names_.empty() ? "" : ", ") + place;
  }

  /// The limit on what archives expand to, and their damage as not_found.
  Result<std::string_view> counted(Result<std::string_view> bytes) {
    if (!bytes) {
      auto error = std::move(bytes).error();
      if (error.kind == ErrorKind::bad_input) error.kind = ErrorKind::not_found;
      return error;
    }
    if (bytes->size() > left_in_archives_)
      return bad("holds archives that expand to more than " + std::to_string(most_) + " bytes");
    left_in_archives_ -= bytes->size();
    report_.bytes += bytes->size();
    return bytes;
  }

  Status walk_packed(const Source& data, const std::string& place) {
    Unpacked inner{data, true};
    return walk_tar([&] { return counted(inner.next()); }, place + "!/", false, false);
  }

  Status walk_zip_behind(const Source& data, const std::string& place) {
    ZipBehind zip{data};
    auto first = zip.next();
    if (!first) return std::move(first).error();
    if (first->empty()) return {};
    bool begun = false;
    return walk_zip([&] { return std::exchange(begun, true) ? zip.next() : first; }, place + "!/");
  }

  Status walk_zip(const Source& data, const std::string& prefix) {
    auto stream = Matcher::Stream::open(matcher_);
    if (!stream) return std::move(stream).error();
    Input zip{data};
    ::archive_read_support_format_zip_streamable(zip.get());
    const Error damaged{ErrorKind::not_found, "is damaged", "", {}};
    if (!zip.open()) return damaged;
    bool whole = true;
    for (;;) {
      archive_entry* entry = nullptr;
      const int code = ::archive_read_next_header(zip.get(), &entry);
      if (code == ARCHIVE_EOF) break;
      if (code != ARCHIVE_OK && code != ARCHIVE_WARN) return damaged;
      const auto place = prefix + zip.name_of(entry);
      Matches matches;
      if (auto done = stream->restart(); !done) return done;
      int at = ARCHIVE_OK;
      for (;;) {
        const auto bytes = zip.data(at);
        if (at != ARCHIVE_OK) break;
        auto fine = counted(bytes);
        if (!fine) return std::move(fine).error();
        auto fed = stream->feed(bytes, [&](const auto& m) { matches.push_back(m); });
        if (!fed) return fed;
      }
      for (const auto& match : matches)
        found(match, place);
      if (at == ARCHIVE_FATAL) return damaged;
      whole = whole && at == ARCHIVE_EOF; // else an entry under a password, or of a rare method
    }
    return whole ? Status{} : Status{damaged};
  }

  const Matcher& matcher_;
  const SecretSet& secrets_;
  std::uint64_t most_;
  std::uint64_t left_in_archives_;
  const Task& task_;
  Report& report_;
  const oci::KnownLayers* layers_;
  bool clean_ = true;
  std::size_t unopened_ = 0;
  std::string unopened_names_;
};

Result<Matcher> matcher_for(const SecretSet& secrets) {
  std::vector<Pattern> patterns;
  for (std::size_t i = 0; i < secrets.parts().size(); ++i) {
    const auto& part = secrets.parts()[i];
    for (auto& text : forms_of(part.value.reveal(), part.pieces))
      patterns.push_back({std::move(text), i});
  }
  return Matcher::compile(std::move(patterns));
}

} // namespace

LeakSearch::LeakSearch(SearchSettings settings, SecretSet secrets, const Clock& clock)
    : settings_{std::move(settings)}, secrets_{std::move(secrets)}, clock_{clock} {
  for (const auto& part : secrets_.parts()) {
    if (part.made_at && (!newest_ || *part.made_at < *newest_)) newest_ = part.made_at;
  }
}

using Of = SearchedBlobs::Of;

bool LeakSearch::is_due(const SearchedBlobs* remembered, const oci::Digest& blob,
                        const std::string& as) {
  if (done_.contains(as + blob.str())) return false;
  if (remembered == nullptr) return true;
  const auto now = clock_.now();
  if (newest_ && remembered->look(blob, remembered->name_of(secrets_, as, Of::all), now).searched)
    return false;
  const auto known = remembered->look(blob, remembered->name_of(secrets_, as), now);
  if (!known.searched) return true;
  return newest_ && *known.whole_since + kClockSlack >= *newest_;
}

Result<Report> LeakSearch::search(const oci::Layout& layout, const oci::ImageTree& tree) {
  Report report;
  if (secrets_.parts().empty()) return report;
  const std::lock_guard guard{searching_};
  std::optional<SearchedBlobs> remembered;
  if (!settings_.cache_dir.empty()) {
    auto opened = SearchedBlobs::open(settings_.cache_dir);
    if (!opened) return std::move(opened).error().in("remembering what was searched");
    remembered = *std::move(opened);
  }
  std::optional<Matcher> matcher; // for as long as this call, and only where there is work
  for (const auto& task : tasks_of(tree)) {
    const auto& blob = task.blob.digest;
    // What a layer has to expand to is part of the question.
    const auto as = std::string{task.key()} + (task.diff_id ? " " + task.diff_id->str() : "") + " ";
    if (!is_due(remembered ? &*remembered : nullptr, blob, as)) continue;
    if (!matcher) {
      auto made = matcher_for(secrets_);
      if (!made) return std::move(made).error().in("searching for leaked secrets");
      matcher = *std::move(made);
    }
    auto clean = BlobSearch{*matcher, secrets_, settings_.max_layer_bytes,
                            task,     report,   settings_.layers ? &*settings_.layers : nullptr}
                     .run(layout);
    if (!clean) return std::move(clean).error().in("searching " + blob.str());
    if (!*clean) continue;
    done_.insert(as + blob.str());
    if (!remembered) continue;
    remembered->remember(blob, remembered->name_of(secrets_, as), clock_.now());
    if (newest_)
      remembered->remember(blob, remembered->name_of(secrets_, as, Of::all), clock_.now());
  }
  return report;
}

} // namespace slipway::leaks
