// SPDX-License-Identifier: Apache-2.0
// The real slipway-gate: it answers as the same code does here, is confined while it reads, and
// ends with whoever asked it. Where it does not answer, nothing is known of the image.
#include "executor/engine_api/archive_entries.hpp"
#include "executor/engine_api/script_protocol.hpp"
#include "executor/gate_worker/gate_process.hpp"
#include "executor/gate_worker/image_files.hpp"
#include "executor/gate_worker/protocol.hpp"
#include "executor/process/process.hpp"
#include "tests/fakes/packed.hpp"
#include "tests/fakes/streams.hpp"

#include <gtest/gtest.h>

#include <fcntl.h>
#include <signal.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include <array>
#include <fstream>
#include <stdexcept>
#include <thread>

namespace slipway::gate_worker {
namespace {

namespace fs = std::filesystem;
using fakes::PackedImage;
using fakes::tar_of;

const std::string kToken = "glcbt-64_mK3vQz81xTnW5rYbL0sD";

fs::path program() {
  return fs::read_symlink("/proc/self/exe").parent_path().parent_path() / "bin/slipway-gate";
}

/// Fields of /proc/PID/status; "" once it is gone.
std::string status_of(pid_t pid, const std::string& field) {
  std::ifstream in{"/proc/" + std::to_string(pid) + "/status"};
  std::string line;
  while (std::getline(in, line))
    if (line.starts_with(field + ":\t")) return line.substr(field.size() + 2);
  return "";
}

class Gate : public testing::Test {
protected:
  Gate() {
    task_.settings.cache_dir = dir_.path() / "searched";
    task_.settings.layers = oci::KnownLayers{dir_.path() / "layers"};
    task_.secrets.push_back({"TOKEN", Secret{kToken}, leaks::Kind::token, {}});
  }
  /// An image whose one layer takes seconds to read.
  oci::Digest write_large_image() {
    const auto blob = dir_.path() / "layer.tar";
    {
      // A sparse file of zeros is a tar without a file in it.
      const UniqueFd file{::open(blob.c_str(), O_WRONLY | O_CREAT | O_CLOEXEC, 0444)};
      EXPECT_EQ(::ftruncate(file.get(), off_t{1} << 30), 0);
    }
    const UniqueFd file{::open(blob.c_str(), O_RDONLY | O_CLOEXEC)};
    const auto digest = *oci::digest_of_fd(file.get());
    fs::rename(blob, layout_.blob_path(digest));
    const auto config =
        R"({"architecture":"amd64","os":"linux","config":{},"rootfs":{"type":"layers","diff_ids":[")" +
        digest.str() + R"("]}})";
    return *layout_.write_blob(std::string{R"({"schemaVersion":2,"mediaType":")"} +
                               oci::kMediaTypeOciManifest + R"(","config":)" +
                               fakes::descriptor_json("application/vnd.oci.image.config.v1+json",
                                                      layout_.write_blob(config)->str(),
                                                      config.size()) +
                               ",\"layers\":[" +
                               fakes::descriptor_json("application/vnd.oci.image.layer.v1.tar",
                                                      digest.str(), std::size_t{1} << 30) +
                               "]}");
  }
  /// A slipway-gate that was asked; its answer is not waited for.
  struct Asked {
    UniqueFd socket;
    process::ChildProcess child;
  };
  Asked ask(const oci::Digest& root) {
    int ends[2] = {-1, -1};
    EXPECT_EQ(::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends), 0);
    UniqueFd ours{ends[0]};
    const UniqueFd theirs{ends[1]};
    process::Command command;
    command.argv = {program().string()};
    command.fds = {{theirs.get(), 3}};
    auto child = process::spawn(command);
    EXPECT_TRUE(child.ok()) << child.error().text();
    fs::create_directories(dir_.path() / "searched");
    fs::create_directories(dir_.path() / "layers");
    EXPECT_TRUE(engine_api::send_frame(ours.get(), encode_search(layout_.path(), root, task_), {},
                                       std::chrono::seconds{10}));
    return {std::move(ours), *std::move(child)};
  }
  /// The only child of this process that reads; 0 for none.
  static pid_t reader() {
    for (const auto& entry : fs::directory_iterator{"/proc"}) {
      const auto pid = std::atoi(entry.path().filename().c_str());
      if (pid > 0 && status_of(pid, "PPid") == std::to_string(::getpid()) &&
          status_of(pid, "Seccomp") == "2")
        return pid;
    }
    return 0;
  }
  static bool comes_true(const std::function<bool()>& fact) {
    const auto end = std::chrono::steady_clock::now() + std::chrono::seconds{30};
    while (!fact()) {
      if (std::chrono::steady_clock::now() > end) return false;
      std::this_thread::sleep_for(std::chrono::milliseconds{5});
    }
    return true;
  }

  const fakes::TempDir dir_;
  oci::Layout layout_ = *oci::Layout::create(dir_.path() / "layout");
  const SystemClock clock_;
  SearchTask task_;
  GateProcess gate_{program()};
  ReadsHere here_{clock_};
};

TEST_F(Gate, FindsWhatIsFoundHere) {
  const auto root =
      PackedImage{.layers = {{tar_of({{"a", "x " + kToken}}), "zstd"},
                             {tar_of({{"b.zip", fakes::zip_of({{"c", kToken}})}}), "gzip"}}}
          .write(layout_);
  const auto expected = here_.search(layout_, root, {{}, {}, {}, 0});
  ASSERT_TRUE(expected.ok());
  EXPECT_TRUE(expected->hits.empty()); // without a secret there is nothing to find

  const auto found = gate_.search(layout_, root, task_);
  SearchTask forgetful{{}, {}, {}, 0};
  forgetful.secrets.push_back({"TOKEN", Secret{kToken}, leaks::Kind::token, {}});
  const auto here = here_.search(layout_, root, forgetful);

  ASSERT_TRUE(found.ok()) << found.error().text();
  ASSERT_TRUE(here.ok()) << here.error().text();
  EXPECT_EQ(encode(found), encode(here));
  ASSERT_EQ(found->hits.size(), 2U);
  EXPECT_EQ(found->hits[1].place, "b.zip!/c");
  EXPECT_EQ(found->leaking.size(), 2U);
}

TEST_F(Gate, RemembersWhatItFoundCleanAndWhatLayersExpandTo) {
  const auto root = PackedImage{.layers = {{tar_of({{"a", "clean"}}), "zstd"}}}.write(layout_);
  const auto tree = *oci::read_tree(layout_, root);

  const auto first = gate_.search(layout_, root, task_);
  const auto again = gate_.search(layout_, root, task_);

  ASSERT_TRUE(first.ok()) << first.error().text();
  ASSERT_TRUE(again.ok()) << again.error().text();
  EXPECT_GT(first->bytes, 0U);
  EXPECT_EQ(again->bytes, 0U);
  EXPECT_TRUE(task_.settings.layers->diff_id(tree.images[0].manifest.layers[0], 1UL << 20));
}

TEST_F(Gate, LearnsLayersThatNoSecretIsSearchedIn) {
  const auto root = PackedImage{.layers = {{tar_of({{"a", "clean"}}), "gzip"}}}.write(layout_);
  const auto tree = *oci::read_tree(layout_, root);
  task_.secrets.clear();
  task_.learn_up_to = 1UL << 20;

  ASSERT_TRUE(gate_.search(layout_, root, task_));

  EXPECT_TRUE(task_.settings.layers->diff_id(tree.images[0].manifest.layers[0], 1UL << 20));
}

TEST_F(Gate, SaysWhatIsWrongWithAnImageByItsKind) {
  const auto good = PackedImage{.layers = {{tar_of({{"a", "x"}}), "gzip"}}}.write(layout_);
  const auto lying = PackedImage{.layers = {{tar_of({{"a", "y"}}), "gzip"}},
                                 .diff_id = oci::Digest::of("another").str()}
                         .write(layout_);
  const oci::KnownLayers known{dir_.path() / "layers"};
  const oci::VerifyRules rules{.max_layer = 1UL << 20,
                               .max_image = 1UL << 20,
                               .known = &known,
                               .tolerated = {oci::Flaw::hidden_bytes}};
  auto flaw = oci::Flaw::unreadable;

  const auto passes = gate_.verify(layout_, good, rules, &flaw);
  const auto refused = gate_.verify(layout_, lying, rules, &flaw);
  auto flaw_here = oci::Flaw::unreadable;
  const auto refused_here = here_.verify(layout_, lying, rules, &flaw_here);

  ASSERT_TRUE(passes.ok()) << passes.error().text();
  ASSERT_FALSE(refused.ok());
  EXPECT_EQ(flaw, oci::Flaw::false_diff_id);
  EXPECT_EQ(flaw, flaw_here);
  EXPECT_EQ(refused.error().kind, ErrorKind::bad_input);
  EXPECT_EQ(refused.error().text(), refused_here.error().text());
}

TEST_F(Gate, WritesTheFilesOfAnImage) {
  const auto root =
      PackedImage{.layers = {{tar_of({{"a", "1"}, {"\xc3\xa4", "2"}}), "gzip"},
                             {tar_of({{".wh.a", ""}, {"b", std::string(200000, 'b')}}), "zstd"}}}
          .write(layout_);
  std::string tar;
  const auto take = [&](std::string_view bytes) {
    tar += bytes;
    return Status{};
  };
  const auto never = [] { return false; };

  const auto written = gate_.write_files(layout_, root, 1UL << 20, take, never);

  ASSERT_TRUE(written.ok()) << written.error().text();
  std::string here;
  ASSERT_TRUE(write_image_files(layout_, root, 1UL << 20, [&](std::string_view bytes) {
                here += bytes;
                return Status{};
              }).ok());
  EXPECT_EQ(tar, here);
  EXPECT_NE(tar.find("\xc3\xa4"), std::string::npos);
  EXPECT_GT(tar.size(), 200000U);

  tar.clear();
  const auto too_large = gate_.write_files(layout_, root, 1000, take, never);
  EXPECT_EQ(too_large.error().kind, ErrorKind::bad_input) << too_large.error().text();
  EXPECT_TRUE(tar.empty());
  const auto full = gate_.write_files(
      layout_, root, 1UL << 20,
      [](std::string_view) {
        return Status{Error{ErrorKind::io, "full", "", {}}};
      },
      never);
  EXPECT_EQ(full.error().text(), "full");
  const auto gone =
      gate_.write_files(layout_, write_large_image(), 1UL << 40, take, [] { return true; });
  EXPECT_EQ(gone.error().kind, ErrorKind::unavailable);
  EXPECT_TRUE(comes_true([] { return reader() == 0; }));
  EXPECT_FALSE(GateProcess{"/bin/true"}.write_files(layout_, root, 1000, take, never).ok());
}

TEST_F(Gate, TakesAnArchiveApart) {
  const auto tar = fakes::gzip(tar_of({{"a", "1"}, {"b", std::string(3'000'000, 'b')}}));
  const auto gives = [](const std::string& bytes) {
    return [&bytes, at = std::size_t{0}](char* buffer,
                                         std::size_t capacity) mutable -> Result<std::size_t> {
      const auto count = bytes.copy(buffer, capacity, at);
      at += count;
      return count;
    };
  };
  std::vector<std::pair<std::string, std::size_t>> found;
  const auto take = [&](const GateProcess::Source& source) -> Status {
    engine_api::ArchiveEntries entries{source};
    for (;;) {
      auto entry = entries.next();
      if (!entry) return std::move(entry).error();
      if (!*entry) return {};
      found.emplace_back((*entry)->name, (*entry)->size);
    }
  };

  const auto taken = gate_.unpack(gives(tar), take);
  ASSERT_TRUE(taken.ok()) << taken.error().text();
  EXPECT_EQ(found, (std::vector<std::pair<std::string, std::size_t>>{{"a", 1}, {"b", 3'000'000}}));

  const auto cut = gate_.unpack(gives(tar.substr(0, tar.size() / 2)), take);
  EXPECT_EQ(cut.error().kind, ErrorKind::bad_input);
  EXPECT_NE(cut.error().text().find("cannot be read"), std::string::npos) << cut.error().text();

  // Whoever has an error first: its own is told, and nobody waits for the others.
  std::size_t asked = 0;
  const auto gone = gate_.unpack(
      [&](char* buffer, std::size_t capacity) -> Result<std::size_t> {
        if (++asked > 1) return Error{ErrorKind::unavailable, "hung up", "", {}};
        return tar.copy(buffer, std::min<std::size_t>(capacity, 100));
      },
      take);
  EXPECT_EQ(gone.error().text(), "hung up");
  // Just behind an entry, where a tar without its end is one to libarchive.
  const auto plain = tar_of({{"a", "1"}, {"b", "2"}});
  asked = 0;
  const auto cut_behind_an_entry = gate_.unpack(
      [&](char* buffer, std::size_t) -> Result<std::size_t> {
        if (++asked > 1) return Error{ErrorKind::unavailable, "hung up", "", {}};
        return plain.copy(buffer, 1024);
      },
      take);
  EXPECT_EQ(cut_behind_an_entry.error().text(), "hung up");
  const std::string zeroes(64UL << 10, '\0');
  const auto endless = tar_of({{"a", "1"}});
  asked = 0;
  const auto full = gate_.unpack(
      [&](char* buffer, std::size_t capacity) -> Result<std::size_t> {
        // A first entry, and then bytes for ever.
        return (++asked == 1 ? endless.substr(0, 1024) : zeroes).copy(buffer, capacity);
      },
      [](const GateProcess::Source&) {
        return Status{Error{ErrorKind::io, "full", "", {}}};
      });
  EXPECT_EQ(full.error().text(), "full");
  EXPECT_TRUE(comes_true([] { return reader() == 0; }));

  EXPECT_THROW(static_cast<void>(gate_.unpack(gives(tar),
                                              [](const GateProcess::Source&) -> Status {
                                                throw std::runtime_error{"a flaw"};
                                              })),
               std::runtime_error);
  for (const auto* other : {"/bin/true", "/bin/false", "/nonexistent/slipway-gate"})
    EXPECT_FALSE(GateProcess{other}.unpack(gives(tar), take).ok()) << other;
}

TEST_F(Gate, IsConfinedWhileItUnpacks) {
  const auto tar = tar_of({{"a", "1"}});
  bool confined = false;
  const auto taken = gate_.unpack(
      [&, asked = false](char* buffer, std::size_t capacity) mutable -> Result<std::size_t> {
        if (std::exchange(asked, true)) return std::size_t{0};
        confined = comes_true([] { return reader() != 0; }); // before the first byte
        return tar.copy(buffer, capacity);
      },
      [](const GateProcess::Source& source) -> Status {
        std::array<char, 4096> part{};
        for (;;) {
          const auto got = source(part.data(), part.size());
          if (!got) return Error{got.error()};
          if (*got == 0) return {};
        }
      });
  EXPECT_TRUE(taken.ok()) << taken.error().text();
  EXPECT_TRUE(confined);
}

TEST_F(Gate, IsConfinedWhileItReads) {
  auto asked = ask(write_large_image());

  EXPECT_TRUE(comes_true([&] { return status_of(asked.child.pid(), "Seccomp") == "2"; }));
  EXPECT_EQ(status_of(asked.child.pid(), "NoNewPrivs"), "1");
}

TEST_F(Gate, EndsWithWhoAskedIt) {
  auto asked = ask(write_large_image());
  ASSERT_TRUE(comes_true([&] { return status_of(asked.child.pid(), "Seccomp") == "2"; }));

  asked.socket.reset();

  EXPECT_EQ(asked.child.wait(std::chrono::seconds{30}, std::chrono::seconds{1}),
            process::Ending{process::Exited{3}});
}

TEST_F(Gate, ThatDiesHasFoundNothingOut) {
  const auto root = write_large_image();
  Result<leaks::Report> found{leaks::Report{}};
  std::thread asking{[&] { found = gate_.search(layout_, root, task_); }};
  pid_t pid = 0;
  EXPECT_TRUE(comes_true([&] { return (pid = reader()) != 0; }));
  if (pid != 0) ::kill(pid, SIGKILL);
  asking.join();

  ASSERT_FALSE(found.ok());
  EXPECT_EQ(found.error().kind, ErrorKind::internal);
  EXPECT_NE(found.error().text().find("signal 9"), std::string::npos) << found.error().text();
}

TEST_F(Gate, EndsAtOnceWhenTheStageHasTo) {
  const auto root = write_large_image();
  const UniqueFd stop{::eventfd(0, EFD_CLOEXEC)};
  GateProcess gate{program(), stop.get()};
  Result<leaks::Report> found{leaks::Report{}};
  std::thread asking{[&] { found = gate.search(layout_, root, task_); }};
  EXPECT_TRUE(comes_true([] { return reader() != 0; }));
  const std::uint64_t one = 1;
  EXPECT_EQ(::write(stop.get(), &one, sizeof one), static_cast<ssize_t>(sizeof one));
  asking.join();

  ASSERT_FALSE(found.ok());
  EXPECT_EQ(found.error().kind, ErrorKind::unavailable) << found.error().text();
  EXPECT_EQ(reader(), 0);
  // And nothing is begun any more.
  auto flaw = oci::Flaw::unreadable;
  EXPECT_FALSE(gate.verify(layout_, root, {}, &flaw).ok());
}

TEST_F(Gate, ThatSaysNothingOrNonsenseIsNotBelieved) {
  const auto root = PackedImage{.layers = {{tar_of({{"a", "x"}}), ""}}}.write(layout_);
  auto flaw = oci::Flaw::unreadable;
  for (const auto* other : {"/bin/true", "/bin/false", "/nonexistent/slipway-gate"}) {
    GateProcess gate{other};
    EXPECT_FALSE(gate.search(layout_, root, task_).ok()) << other;
    EXPECT_FALSE(gate.verify(layout_, root, {}, &flaw).ok()) << other;
  }
}

} // namespace
} // namespace slipway::gate_worker
