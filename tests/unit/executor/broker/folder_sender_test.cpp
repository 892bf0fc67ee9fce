// SPDX-License-Identifier: Apache-2.0
// The files of an image on their way to a client; what comes out is read as fsutil's receiver
// would.
#include "executor/base/file.hpp"
#include "executor/broker/folder_sender.hpp"
#include "executor/grpc/protobuf.hpp"

#include <archive.h>
#include <archive_entry.h>
#include <gtest/gtest.h>

#include <array>
#include <deque>
#include <filesystem>
#include <functional>
#include <map>
#include <memory>

namespace slipway::broker {
namespace {

using std::chrono::steady_clock;

struct File {
  std::string path;
  unsigned type = AE_IFREG; ///< 0: a hard link
  unsigned mode = 0644;
  std::string content = {}; ///< a link's: what it leads to
};

std::string tar_with(const std::vector<File>& files) {
  std::string bytes;
  const std::unique_ptr<archive, decltype(&archive_write_free)> tar{archive_write_new(),
                                                                    &archive_write_free};
  archive_write_set_format_pax_restricted(tar.get());
  archive_write_set_bytes_per_block(tar.get(), 0);
  archive_write_open(
      tar.get(), &bytes, nullptr,
      [](archive*, void* into, const void* part, std::size_t size) -> la_ssize_t {
        static_cast<std::string*>(into)->append(static_cast<const char*>(part), size);
        return static_cast<la_ssize_t>(size);
      },
      nullptr);
  for (const auto& file : files) {
    const std::unique_ptr<archive_entry, decltype(&archive_entry_free)> entry{archive_entry_new(),
                                                                              &archive_entry_free};
    archive_entry_set_pathname(entry.get(), file.path.c_str());
    archive_entry_set_filetype(entry.get(), file.type == 0 ? AE_IFREG : file.type);
    archive_entry_set_perm(entry.get(), file.mode);
    archive_entry_set_uid(entry.get(), 7);
    archive_entry_set_gid(entry.get(), 8);
    archive_entry_set_mtime(entry.get(), 1'700'000'000, 0);
    if (file.type == 0) archive_entry_set_hardlink(entry.get(), file.content.c_str());
    if (file.type == AE_IFLNK) archive_entry_set_symlink(entry.get(), file.content.c_str());
    const bool has_content = file.type == AE_IFREG;
    archive_entry_set_size(entry.get(),
                           has_content ? static_cast<la_int64_t>(file.content.size()) : 0);
    EXPECT_GE(archive_write_header(tar.get(), entry.get()), ARCHIVE_WARN) << file.path;
    if (has_content) archive_write_data(tar.get(), file.content.data(), file.content.size());
  }
  archive_write_close(tar.get());
  return bytes;
}

struct Stat {
  std::string path;
  std::uint32_t mode = 0;
  std::uint64_t uid = 0;
  std::uint64_t gid = 0;
  std::uint64_t size = 0;
  std::uint64_t modified = 0;
  std::string link;
};

/// Keeps the list, asks for contents, and holds what it is sent against the rules of the protocol.
class Client {
public:
  PacketStream stream() {
    return {[this](std::string_view packet) { return take(packet); },
            [this]() -> Result<std::optional<std::string>> {
              if (says.empty()) return std::optional<std::string>{};
              std::optional<std::string> packet = std::move(says.front());
              says.pop_front();
              return packet;
            }};
  }
  void say(std::uint64_t type, std::uint64_t id = 0, const std::string& data = "") {
    says.push_back(grpc::MessageWriter{}.number(1, type).number(3, id).text(4, data).take());
  }

  std::deque<std::string> says;
  std::vector<Stat> list;
  std::map<std::uint64_t, std::string> contents;
  std::map<std::uint64_t, int> ends;
  bool listed = false;
  bool finished = false;
  /// Asks once the list is complete; as fsutil for all regular files that are no links.
  std::function<void()> ask = [this] {
    for (std::size_t i = list.size(); i-- > 0;) // in any order
      if ((list[i].mode & go_mode::kType) == 0 && list[i].link.empty()) say(1, i);
    say(3);
  };

private:
  Status take(std::string_view packet) {
    std::uint64_t type = 0;
    std::uint64_t id = 0;
    std::string data;
    std::optional<Stat> stat;
    EXPECT_TRUE(grpc::read_fields(packet, [&](const grpc::Field& field) -> Status {
      if (field.number == 1) type = field.value;
      if (field.number == 3) id = field.value;
      if (field.number == 4) data = field.bytes;
      if (field.number == 2) stat = stat_in(field.bytes);
      return {};
    }));
    if (type == 0 && stat) {
      EXPECT_FALSE(listed);
      list.push_back(*stat);
    } else if (type == 0) {
      listed = true;
      ask();
    } else if (type == 2 && !data.empty()) {
      EXPECT_LE(data.size(), 1U << 20U);
      contents[id] += data;
    } else if (type == 2) {
      ++ends[id];
    } else {
      EXPECT_EQ(type, 3U);
      finished = true;
    }
    return {};
  }
  static Stat stat_in(std::string_view bytes) {
    Stat stat;
    EXPECT_TRUE(grpc::read_fields(bytes, [&](const grpc::Field& field) -> Status {
      if (field.number == 1) stat.path = field.bytes;
      if (field.number == 2) stat.mode = static_cast<std::uint32_t>(field.value);
      if (field.number == 3) stat.uid = field.value;
      if (field.number == 4) stat.gid = field.value;
      if (field.number == 5) stat.size = field.value;
      if (field.number == 6) stat.modified = field.value;
      if (field.number == 7) stat.link = field.bytes;
      return {};
    }));
    return stat;
  }
};

class FolderSenderTest : public testing::Test {
protected:
  Status take(const std::string& tar, std::size_t step = 1000) {
    for (std::size_t at = 0; at < tar.size(); at += step)
      if (auto taken = sender_.take(std::string_view{tar}.substr(at, step)); !taken) return taken;
    return sender_.finish();
  }
  Status send(std::chrono::seconds within = std::chrono::seconds{60}) {
    return sender_.send(client_.stream(), steady_clock::now() + within);
  }
  std::string paths() const {
    std::string all;
    for (const auto& stat : client_.list)
      all += stat.path + " ";
    return all;
  }
  std::string content_of(const std::string& path) const {
    for (std::size_t i = 0; i < client_.list.size(); ++i)
      if (client_.list[i].path == path && client_.contents.contains(i))
        return client_.contents.at(i);
    return "";
  }

  UniqueFd spool_ = std::move(make_unnamed_file(std::filesystem::temp_directory_path()).value());
  FolderSender sender_{spool_.get()};
  Client client_;
};

TEST_F(FolderSenderTest, GivesTheListThenTheContentsThatAreAskedFor) {
  const std::string large(300'000, 'x');
  const std::string long_name(150, 'n');
  ASSERT_TRUE(take(tar_with({{"./", AE_IFDIR, 0755},
                             {"etc/", AE_IFDIR, 01750},
                             {"etc/conf", AE_IFREG, 04751, "of conf"},
                             {"etc/empty", AE_IFREG, 0600},
                             {"large", AE_IFREG, 0644, large},
                             {long_name, AE_IFREG, 0644, "long"},
                             {"link", AE_IFLNK, 0777, "/etc/conf"},
                             {"pipe", AE_IFIFO, 0622}})));

  const auto sent = send();

  ASSERT_TRUE(sent) << sent.error().text();
  EXPECT_TRUE(client_.finished);
  EXPECT_EQ(paths(), "etc etc/conf etc/empty large link " + long_name + " pipe ");
  EXPECT_EQ(client_.list[0].mode, go_mode::kFolder | go_mode::kSticky | 0750U);
  EXPECT_EQ(client_.list[1].mode, go_mode::kSetuid | 0751U);
  EXPECT_EQ(client_.list[1].uid, 7U);
  EXPECT_EQ(client_.list[1].gid, 8U);
  EXPECT_EQ(client_.list[1].size, 7U);
  EXPECT_EQ(client_.list[1].modified, 1'700'000'000'000'000'000U);
  EXPECT_EQ(client_.list[4].mode, go_mode::kSymlink | 0777U);
  EXPECT_EQ(client_.list[4].link, "/etc/conf");
  EXPECT_EQ(client_.list[6].mode, go_mode::kNamedPipe | 0622U);
  EXPECT_EQ(content_of("etc/conf"), "of conf");
  EXPECT_EQ(content_of("large"), large);
  EXPECT_EQ(content_of(long_name), "long");
  EXPECT_EQ(client_.ends, (std::map<std::uint64_t, int>{{1, 1}, {2, 1}, {3, 1}, {5, 1}}));
}

TEST_F(FolderSenderTest, ReadsATarInWhateverPieces) {
  ASSERT_TRUE(take(tar_with({{"a", AE_IFREG, 0644, "of a"}, {"b", AE_IFREG, 0644, "of b"}}), 1));

  ASSERT_TRUE(send());

  EXPECT_EQ(content_of("a"), "of a");
  EXPECT_EQ(content_of("b"), "of b");
}

// As the receiver's Validator wants it: what is in a folder before what stands behind it, and every
// folder on the list.
TEST_F(FolderSenderTest, ListsFoldersWithWhatIsInThemAndThoseThatTheImageHasNoEntryFor) {
  ASSERT_TRUE(take(tar_with({{"a-b", AE_IFREG, 0644, "1"},
                             {"a/b/c", AE_IFREG, 0644, "2"},
                             {"a/b.d", AE_IFREG, 0644, "3"},
                             {"a.b", AE_IFREG, 0644, "4"},
                             {"\xc3\xa9", AE_IFREG, 0644, "5"}})));

  ASSERT_TRUE(send());

  EXPECT_EQ(paths(), "a a/b a/b/c a/b.d a-b a.b \xc3\xa9 ");
  EXPECT_EQ(client_.list[0].mode, go_mode::kFolder | 0755U);
}

TEST_F(FolderSenderTest, TheFirstNameOfAFileHasItsContentAndTheOthersLinkToIt) {
  ASSERT_TRUE(take(tar_with({{"a-b", AE_IFREG, 0751, "shared"},
                             {"s", AE_IFLNK, 0777, "to"},
                             {"a/z", 0, 0, "a-b"},
                             {"b", 0, 0, "a/z"},
                             {"t", 0, 0, "s"}})));

  const auto sent = send();

  ASSERT_TRUE(sent) << sent.error().text();
  EXPECT_EQ(paths(), "a a/z a-b b s t ");
  EXPECT_EQ(client_.list[1].link, "");
  EXPECT_EQ(client_.list[1].mode, 0751U);
  EXPECT_EQ(content_of("a/z"), "shared");
  EXPECT_EQ(client_.list[2].link, "a/z");
  EXPECT_EQ(client_.list[3].link, "a/z");
  EXPECT_EQ(client_.list[5].link, "to"); // a link of its own
  EXPECT_EQ(client_.list[5].mode & go_mode::kType, go_mode::kSymlink);
}

TEST_F(FolderSenderTest, RefusesATarThatIsNoTreeOfFiles) {
  const auto said = [](const std::string& tar) {
    const auto spool = make_unnamed_file(std::filesystem::temp_directory_path());
    FolderSender sender{spool->get()};
    auto taken = sender.take(tar);
    if (taken) taken = sender.finish();
    return taken ? "" : taken.error().text();
  };
  struct {
    std::vector<File> files;
    const char* words;
  } const cases[] = {{{{"../out", AE_IFREG}}, "leads out"},
                     {{{"/root", AE_IFREG}}, "leads out"},
                     {{{"a/../../b", AE_IFREG}}, "leads out"},
                     {{{"a", AE_IFREG}, {"a/b", AE_IFREG}}, "is no folder"},
                     {{{"l", AE_IFLNK, 0777, "x"}, {"l/b/c", AE_IFREG}}, "is no folder"},
                     {{{"a", AE_IFREG}, {"a", AE_IFREG}}, "twice"},
                     {{{"a", 0, 0, "nosuch"}}, "no file of them"},
                     {{{"a", AE_IFREG}, {"b", 0, 0, "../a"}}, "leads out"},
                     {{{"d/", AE_IFDIR}, {"b", 0, 0, "d"}}, "no file of them"},
                     {{{"dev", AE_IFCHR}}, "is a device"},
                     {{{"dev", AE_IFBLK}}, "is a device"},
                     {{{std::string(5000, 'p'), AE_IFREG}}, "leads out"}};
  for (const auto& one : cases)
    EXPECT_NE(said(tar_with(one.files)).find(one.words), std::string::npos)
        << one.words << ": " << said(tar_with(one.files));
  EXPECT_NE(said(std::string(1024, 'x')).find("no tar"), std::string::npos);
  const auto whole = tar_with({{"a", AE_IFREG, 0644, std::string(2000, 'x')}});
  for (const std::size_t cut : {100U, 700U, 2000U})
    EXPECT_NE(said(whole.substr(0, cut)).find("ends too soon"), std::string::npos) << cut;
}

TEST_F(FolderSenderTest, GivesAClientThatBreaksTheProtocolNothing) {
  ASSERT_TRUE(take(tar_with({{"d/", AE_IFDIR}, {"d/file", AE_IFREG, 0644, "x"}})));
  struct {
    std::function<void(Client&)> says;
    const char* words;
  } const cases[] = {{[](Client& c) { c.say(1, 2); }, "is not there"},           // behind the list
                     {[](Client& c) { c.say(1, 1ULL << 40U); }, "is not there"}, // far behind it
                     {[](Client& c) { c.say(1, 0); }, "is not there"},           // a folder
                     {[](Client& c) { c.say(1, 1), c.say(1, 1); }, "not there"}, // twice
                     {[](Client& c) { c.say(0); }, "is not there"}, // a list of its own
                     {[](Client& c) { c.says.emplace_back("\xff"); }, "protobuf"},
                     {[](Client& c) { c.say(4, 0, "no space left"); }, "no space left"},
                     {[](Client&) {}, "too early"}};
  for (const auto& one : cases) {
    Client client;
    client.ask = [&] { one.says(client); };
    const auto sent = sender_.send(client.stream(), steady_clock::now() + std::chrono::hours{1});
    ASSERT_FALSE(sent) << one.words;
    EXPECT_EQ(sent.error().kind, ErrorKind::bad_input) << one.words;
    EXPECT_NE(sent.error().text().find(one.words), std::string::npos) << sent.error().text();
  }
}

TEST_F(FolderSenderTest, EndsWithAClientThatIsGoneOrTooSlow) {
  ASSERT_TRUE(take(tar_with({{"file", AE_IFREG, 0644, "x"}})));

  const auto late = send(std::chrono::seconds{-1});
  ASSERT_FALSE(late);
  EXPECT_EQ(late.error().kind, ErrorKind::timed_out);

  PacketStream gone = client_.stream();
  gone.send = [](std::string_view) { return Error{ErrorKind::unavailable, "gone", "", {}}; };
  const auto sent = sender_.send(gone, steady_clock::now() + std::chrono::hours{1});
  ASSERT_FALSE(sent);
  EXPECT_EQ(sent.error().kind, ErrorKind::unavailable);
}

} // namespace
} // namespace slipway::broker
