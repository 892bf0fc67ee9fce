// SPDX-License-Identifier: Apache-2.0
#include "executor/broker/folder_receiver.hpp"
#include "executor/grpc/protobuf.hpp"

#include <archive.h>
#include <archive_entry.h>
#include <gtest/gtest.h>

#include <array>
#include <deque>
#include <map>

namespace slipway::broker {
namespace {

constexpr std::uint32_t kFolder = 1U << 31U;
constexpr std::uint32_t kSymlink = 1U << 27U;
constexpr std::uint32_t kSocket = 1U << 24U;
constexpr std::uint32_t kDevice = 1U << 26U;

struct File {
  std::string path;
  std::uint32_t mode = 0644;
  std::string content = {};
  std::string link = {};
  std::int64_t size = -1; ///< as the list says it; -1: the content's
};

/// A client that sends its list, and each content in pieces of 100 bytes, in the order of requests.
class Client {
public:
  explicit Client(std::vector<File> files) : files_{std::move(files)} {
    for (const auto& file : files_)
      say(0, stat_of(file), 0, "");
    say(0, std::nullopt, 0, "");
  }

  static std::string stat_of(const File& file) {
    const auto size = file.size < 0 ? static_cast<std::int64_t>(file.content.size()) : file.size;
    return grpc::MessageWriter{}
        .text(1, file.path)
        .number(2, file.mode)
        .number(5, static_cast<std::uint64_t>(size))
        .number(6, 1'700'000'000'123'456'789U)
        .text(7, file.link)
        .take();
  }
  void say(std::uint64_t type, const std::optional<std::string>& stat, std::uint64_t id,
           const std::string& data) {
    grpc::MessageWriter packet;
    packet.number(1, type);
    if (stat) packet.message(2, *stat);
    packet.number(3, id).text(4, data);
    out.push_back(packet.take());
  }
  PacketStream stream() {
    return {[this](std::string_view packet) -> Status {
              std::uint64_t type = 0;
              std::uint64_t id = 0;
              (void)grpc::read_fields(packet, [&](const grpc::Field& field) -> Status {
                if (field.number == 1) type = field.value;
                if (field.number == 3) id = field.value;
                return {};
              });
              if (type == 3) ended = true;
              if (type != 1) return {};
              ++requests[id];
              const std::string content = files_.at(id).content;
              for (std::size_t at = 0; at < content.size(); at += 100)
                say(2, std::nullopt, id, content.substr(at, 100));
              say(2, std::nullopt, id, "");
              return {};
            },
            [this]() -> Result<std::optional<std::string>> {
              if (out.empty()) return std::optional<std::string>{};
              std::optional<std::string> packet = std::move(out.front());
              out.pop_front();
              return packet;
            }};
  }

  std::deque<std::string> out;
  std::map<std::uint64_t, int> requests;
  bool ended = false;

private:
  std::vector<File> files_;
};

Result<std::string> tar_from(Client& client) {
  FolderTar tar{client.stream()};
  std::string bytes;
  std::array<char, 1000> part{};
  for (;;) {
    auto got = tar.read(part.data(), part.size());
    if (!got) return std::move(got).error();
    if (*got == 0) return bytes;
    bytes.append(part.data(), *got);
  }
}

struct Unpacked {
  char type = '-';
  unsigned mode = 0;
  std::string content;
  std::string link;
  std::int64_t modified = 0;
};

std::map<std::string, Unpacked> unpack(const std::string& tar) {
  std::map<std::string, Unpacked> found;
  archive* const reader = archive_read_new();
  archive_read_support_format_tar(reader);
  EXPECT_EQ(archive_read_open_memory(reader, tar.data(), tar.size()), ARCHIVE_OK);
  archive_entry* entry = nullptr;
  while (archive_read_next_header(reader, &entry) == ARCHIVE_OK) {
    Unpacked& file = found[archive_entry_pathname(entry)];
    const auto type = archive_entry_filetype(entry);
    file.type = type == AE_IFDIR ? 'd' : type == AE_IFLNK ? 'l' : '-';
    file.mode = archive_entry_perm(entry);
    file.modified = archive_entry_mtime(entry);
    if (archive_entry_symlink(entry) != nullptr) file.link = archive_entry_symlink(entry);
    if (archive_entry_hardlink(entry) != nullptr) file.link = archive_entry_hardlink(entry);
    file.content.resize(static_cast<std::size_t>(archive_entry_size(entry)));
    EXPECT_EQ(archive_read_data(reader, file.content.data(), file.content.size()),
              static_cast<la_ssize_t>(file.content.size()));
  }
  archive_read_free(reader);
  return found;
}

TEST(FolderTar, HoldsWhatTheClientSent) {
  const std::string large(1'500'000, 'L');
  const std::string deep = std::string(90, 'd') + "/" + std::string(90, 'e');
  Client client{{{"Dockerfile", 0644, "FROM scratch\n"},
                 {"dir", kFolder | 0750},
                 {"dir/empty", 0600},
                 {"dir/tool", 0755 | (1U << 23U), "#!"},
                 {"hard", 0644, "", "Dockerfile", 13},
                 {"large", 0644, large},
                 {"link", kSymlink | 0777, "", "/etc/" + std::string(200, 'x')},
                 {"socket", kSocket | 0755},
                 {std::string(90, 'd'), kFolder | 0755},
                 {deep, 0644, "deep"}}};

  const auto tar = tar_from(client);

  ASSERT_TRUE(tar) << tar.error().text();
  auto files = unpack(*tar);
  EXPECT_EQ(files.size(), 10U);
  EXPECT_EQ(tar->substr(0, 3), std::string("./\0", 3)); // no name of the client's
  EXPECT_EQ(files["Dockerfile"].content, "FROM scratch\n");
  EXPECT_EQ(files["Dockerfile"].modified, 1'700'000'000);
  EXPECT_EQ(files["dir/"].type, 'd');
  EXPECT_EQ(files["dir/"].mode, 0750U);
  EXPECT_EQ(files["dir/empty"].mode, 0600U);
  EXPECT_EQ(files["dir/tool"].mode, 04755U);
  EXPECT_EQ(files["hard"].link, "Dockerfile");
  EXPECT_EQ(files["large"].content, large);
  EXPECT_EQ(files["link"].type, 'l');
  EXPECT_EQ(files["link"].link, "/etc/" + std::string(200, 'x'));
  EXPECT_EQ(files[deep].content, "deep");
  EXPECT_TRUE(client.ended);
  for (const auto& [id, count] : client.requests)
    EXPECT_EQ(count, 1) << id;
}

TEST(FolderTar, TakesManySmallFiles) {
  std::vector<File> many;
  for (int i = 0; i < 1000; ++i)
    many.push_back({"f" + std::to_string(i), 0644, std::to_string(i)});
  Client client{many};

  const auto tar = tar_from(client);

  ASSERT_TRUE(tar) << tar.error().text();
  auto files = unpack(*tar);
  EXPECT_EQ(files.size(), 1001U);
  EXPECT_EQ(files["f999"].content, "999");
}

struct Hostile {
  const char* name;
  File file;
  const char* words;
};
class FolderTarRefuses : public testing::TestWithParam<Hostile> {};

TEST_P(FolderTarRefuses, Folder) {
  Client client{{GetParam().file}};

  const auto tar = tar_from(client);

  ASSERT_FALSE(tar);
  EXPECT_EQ(tar.error().kind, ErrorKind::bad_input);
  EXPECT_NE(tar.error().text().find(GetParam().words), std::string::npos) << tar.error().text();
}

INSTANTIATE_TEST_SUITE_P(
    Hostile, FolderTarRefuses,
    testing::Values(Hostile{"absolute", {"/etc/passwd", 0644, "x"}, "outside"},
                    Hostile{"above", {"a/../../b", 0644, "x"}, "outside"},
                    Hostile{"dots", {"..", kFolder | 0755}, "outside"},
                    Hostile{"nul", {std::string{"a\0b", 3}, 0644, "x"}, "outside"},
                    Hostile{"emptyName", {"", 0644, "x"}, "outside"},
                    Hostile{"hardLinkAbove", {"a", 0644, "", "../b", 0}, "impossible link"},
                    Hostile{"device", {"a", kDevice | 0644}, "device file a"},
                    Hostile{"hugeSize", {"a", 0644, "x", "", 1LL << 60}, "impossible size"},
                    Hostile{"grew", {"a", 0644, "longer", "", 3}, "changed while"},
                    Hostile{"shrank", {"a", 0644, "x", "", 3}, "changed while"},
                    Hostile{"largeShrank", {"a", 0644, "x", "", 1 << 20}, "changed while"}),
    [](const auto& one) { return std::string{one.param.name}; });

TEST(FolderTar, RefusesCapabilitiesThatWouldBeLost) {
  Client client{{}};
  client.out.clear();
  const auto stat =
      grpc::MessageWriter{}.text(1, "ping").number(2, 0755).entry(10, "security.capability", "x");
  client.say(0, stat.bytes(), 0, "");
  client.say(0, std::nullopt, 0, "");

  const auto tar = tar_from(client);

  ASSERT_FALSE(tar);
  EXPECT_NE(tar.error().text().find("ping has capabilities"), std::string::npos);
}

TEST(FolderTar, RefusesContentsThatNobodyAskedFor) {
  Client early{{}};
  early.out.clear();
  early.say(2, std::nullopt, 0, "x");
  EXPECT_FALSE(tar_from(early));

  Client other{{{"a", 0644, "x"}}};
  other.say(2, std::nullopt, 7, "x");
  EXPECT_FALSE(tar_from(other));

  Client cut{{{"a", 0644, "x"}}};
  cut.out.pop_back();
  EXPECT_FALSE(tar_from(cut));
}

TEST(FolderTar, SaysWhatTheClientSaid) {
  Client client{{}};
  client.out.clear();
  client.say(4, std::nullopt, 0, "open /secret: permission denied");

  const auto tar = tar_from(client);

  ASSERT_FALSE(tar);
  EXPECT_NE(tar.error().text().find("open /secret: permission denied"), std::string::npos);
}

TEST(ReceiveFiles, FollowsLinksInsideTheFolder) {
  Client client{{{"Dockerfile", kSymlink | 0777, "", "/real/Dockerfile"},
                 {"loop", kSymlink | 0777, "", "loop"},
                 {"real", kFolder | 0755},
                 {"real/Dockerfile", 0644, "FROM scratch\n"}}};

  const auto files = receive_files(client.stream(),
                                   {"Dockerfile", "real/Dockerfile", "loop", "none", "real"}, 100);

  ASSERT_TRUE(files) << files.error().text();
  EXPECT_EQ(*files, (std::map<std::string, std::string>{{"Dockerfile", "FROM scratch\n"},
                                                        {"real/Dockerfile", "FROM scratch\n"}}));
}

TEST(ReceiveFiles, RefusesWhatIsTooLarge) {
  Client client{{{"Dockerfile", 0644, std::string(101, 'x')}}};

  EXPECT_FALSE(receive_files(client.stream(), {"Dockerfile"}, 100));
}

TEST(TarOf, HoldsItsFiles) {
  auto files = unpack(tar_of({{"a", "one"}, {"b", ""}}));

  EXPECT_EQ(files.size(), 2U);
  EXPECT_EQ(files["a"].content, "one");
}

} // namespace
} // namespace slipway::broker
