// SPDX-License-Identifier: Apache-2.0
// Addresses of build contexts: what they mean, what is wrong with them, and what of them is shown.
#include "executor/shim/remote_context.hpp"

#include <gtest/gtest.h>

namespace slipway::shim {
namespace {

GitSource repository(const std::string& text) {
  auto source = read_remote(text);
  EXPECT_TRUE(source) << (source ? "" : source.error().text());
  if (!source || !std::holds_alternative<GitSource>(*source)) {
    ADD_FAILURE() << text << " is no repository";
    return {};
  }
  return std::get<GitSource>(*std::move(source));
}

struct Address {
  const char* name;
  const char* text;
  const char* url;
  const char* ref;
  const char* folder;
};

class RepositoryAddress : public testing::TestWithParam<Address> {};

TEST_P(RepositoryAddress, IsReadAsDockerReadsIt) {
  const auto& row = GetParam();

  ASSERT_TRUE(is_remote_context(row.text));
  const auto source = repository(row.text);

  EXPECT_EQ(source.url, row.url);
  EXPECT_EQ(source.ref, row.ref);
  EXPECT_EQ(source.folder, row.folder);
  EXPECT_TRUE(source.has_submodules);
  EXPECT_TRUE(source.has_tls_check);
}

INSTANTIATE_TEST_SUITE_P(
    Docker, RepositoryAddress,
    testing::Values(
        Address{"Plain", "https://h.io/x/y.git", "https://h.io/x/y.git", "", ""},
        Address{"Ref", "https://h.io/y.git#main", "https://h.io/y.git", "main", ""},
        Address{"RefAndFolder", "http://h:8080/y.git#a/b:c/d", "http://h:8080/y.git", "a/b", "c/d"},
        Address{"Folder", "https://h/y.git#:sub", "https://h/y.git", "", "sub"},
        Address{"PullRequest", "https://h/y.git#pull/42/head", "https://h/y.git", "pull/42/head",
                ""},
        Address{"EscapedRef", "https://h/y.git#a%2Fb", "https://h/y.git", "a/b", ""},
        Address{"Git", "git://h/x#v1", "git://h/x", "v1", ""},
        Address{"Ssh", "ssh://git@h:22/x/y.git#v1:s", "ssh://git@h:22/x/y.git", "v1", "s"},
        Address{"SshPassword", "ssh://git:pw@h/y", "ssh://git@h/y", "", ""},
        Address{"Scp", "git@h.io:x/y.git#v1:sub", "git@h.io:x/y.git", "v1", "sub"},
        Address{"ScpUser", "deploy@h.io:y", "deploy@h.io:y", "", ""},
        Address{"GitHub", "github.com/x/y#d4f088e", "https://github.com/x/y", "d4f088e", ""},
        Address{"LoginIsTakenOut", "https://u:p@h/y.git", "https://h/y.git", "", ""},
        Address{"QueryRef", "https://h/y.git?ref=pull/4/head&subdir=a", "https://h/y.git",
                "pull/4/head", "a"},
        Address{"QueryTag", "https://h/y.git?tag=v1", "https://h/y.git", "refs/tags/v1", ""},
        Address{"QueryBranch", "https://h/y.git?branch=main&subdir=a%2Fb", "https://h/y.git",
                "refs/heads/main", "a/b"},
        Address{"IPv6", "https://[fd00::1]:8443/y.git", "https://[fd00::1]:8443/y.git", "", ""},
        Address{"CommitInCapitals", "https://h/y.git?checksum=0123ABC", "https://h/y.git",
                "0123abc", ""},
        Address{"QueryCommit", "https://h/y.git?commit=0123abc", "https://h/y.git", "0123abc", ""},
        Address{"QueryAndFragment", "https://h/y.git?ref=v1#v1:s", "https://h/y.git", "v1", "s"}),
    [](const auto& row) { return row.param.name; });

TEST(RemoteContext, KnowsTheSwitchesOfAQuery) {
  const auto all = repository("https://h/y.git?keep-git-dir=1&submodules=false&checksum=abcdef0");
  EXPECT_EQ(all.keeps_git_dir, true);
  EXPECT_FALSE(all.has_submodules);
  EXPECT_EQ(all.commit, "abcdef0");
  EXPECT_EQ(all.ref, "abcdef0");

  EXPECT_EQ(repository("https://h/y.git?keep-git-dir").keeps_git_dir, true);
  EXPECT_EQ(repository("https://h/y.git?keep-git-dir=false").keeps_git_dir, false);
  EXPECT_EQ(repository("https://h/y.git").keeps_git_dir, std::nullopt);
}

TEST(RemoteContext, KeepsALoginApart) {
  const auto source = repository("https://us%40er:p%3Aw:d@h.io:444/y.git#v1");

  ASSERT_TRUE(source.login);
  EXPECT_EQ(source.login->user->reveal(), "us@er");
  EXPECT_EQ(source.login->password->reveal(), "p:w:d");
  EXPECT_EQ(source.server, "https://h.io:444");
  EXPECT_FALSE(repository("https://h.io/y.git").login);
  EXPECT_FALSE(repository("ssh://git:pw@h/y").login);
  const auto token = repository("https://only-a-token@h/y.git");
  ASSERT_TRUE(token.login);
  EXPECT_EQ(token.login->user->reveal(), "only-a-token");
  EXPECT_TRUE(token.login->password->empty());
}

TEST(RemoteContext, TakesOtherAddressesForFiles) {
  for (const auto* text : {"https://h/context.tar.gz", "http://h:1/Dockerfile", "https://h/x",
                           "https://u:p@h/x.tar?sig=1", "https://h/y.git/archive"}) {
    const auto source = read_remote(text);
    ASSERT_TRUE(source) << text;
    ASSERT_TRUE(std::holds_alternative<WebSource>(*source)) << text;
    EXPECT_EQ(std::get<WebSource>(*source).url, text);
  }
}

TEST(RemoteContext, LeavesFoldersAlone) {
  for (const auto* text : {".", "-", "dir", "../x.git", "/builds/a", "a:b", "a@b", "@h:x", "u@:x",
                           "./u@h:x", "C:\\x", "u@-h:x", ""})
    EXPECT_FALSE(is_remote_context(text)) << text;
}

struct BadAddress {
  const char* name;
  const char* text;
  const char* words;
};

class RefusedAddress : public testing::TestWithParam<BadAddress> {};

TEST_P(RefusedAddress, SaysWhyWithoutALogin) {
  const auto& row = GetParam();

  const auto source = read_remote(row.text);

  ASSERT_FALSE(source);
  EXPECT_EQ(source.error().kind, ErrorKind::bad_input);
  EXPECT_NE(source.error().text().find(row.words), std::string::npos) << source.error().text();
  EXPECT_EQ(source.error().text().find("secret"), std::string::npos) << source.error().text();
}

INSTANTIATE_TEST_SUITE_P(
    Docker, RefusedAddress,
    testing::Values(
        BadAddress{"Scheme", "oci-layout://x", "only repositories"},
        BadAddress{"Bucket", "s3://u:secret@b/x", "only repositories"},
        BadAddress{"NoServer", "https:///y.git", "no server"},
        BadAddress{"NoServerOfAFile", "https://u:secret@/y", "no server"},
        BadAddress{"CutLogin", "https://u:secret/more@h/y.git", "port that is no number"},
        BadAddress{"CutLoginOfAFile", "https://u:secret?more@h/y", "port that is no number"},
        BadAddress{"Port", "https://h:/y.git", "port that is no number"},
        BadAddress{"Bracket", "https://[::1/y.git", "no server"},
        BadAddress{"OptionForAServer", "git://-x/y", "no server"},
        BadAddress{"OptionForAUser", "ssh://-oProxyCommand@h/y", "begins with a dash"},
        BadAddress{"Blank", "https://u:secret@h/y .git", "a blank"},
        BadAddress{"Newline", "https://h/y.git\n", "a control character"},
        BadAddress{"EscapedNewlineInALogin", "https://u:secret%0ahost=x@h/y.git", "login cannot"},
        BadAddress{"Option", "https://u:secret@h/y.git#--upload-pack=x", "reference"},
        BadAddress{"RefSpec", "https://h/y.git?ref=main:refs/heads/x", "reference"},
        BadAddress{"ManyRefs", "https://h/y.git#refs/*", "reference"},
        BadAddress{"TwoHashes", "https://h/y.git##ref=x", "two #"},
        BadAddress{"Escape", "https://h/y.git#%zz", "behind #"},
        BadAddress{"UnknownPart", "https://h/y.git?depth=secret", "another part"},
        BadAddress{"NoValue", "https://h/y.git?ref=", "without a value"},
        BadAddress{"Twice", "https://h/y.git?ref=a&ref=b", "ref is said twice"},
        BadAddress{"Conflict", "https://h/y.git?ref=a#b", "ref is said twice: b, a"},
        BadAddress{"BranchAndTag", "https://h/y.git?branch=a&tag=b", "both a branch and a tag"},
        BadAddress{"Folders", "https://h/y.git?subdir=a#:b", "subdir is said twice"},
        BadAddress{"Switch", "https://h/y.git?submodules=some", "neither true nor false"},
        BadAddress{"NoCommit", "https://h/y.git?checksum=main", "hexadecimal"}),
    [](const auto& row) { return row.param.name; });

TEST(RemoteContext, RefusesWhatIsTooLong) {
  const auto source = read_remote("https://h/" + std::string(9000, 'x') + ".git");
  ASSERT_FALSE(source);
  EXPECT_NE(source.error().text().find("8 KiB"), std::string::npos);
}

TEST(KanikoRepository, HasAReferenceAndACommit) {
  const auto source = read_kaniko_repository("h.io/x/y.git#refs/heads/main#0123abc", "https");
  ASSERT_TRUE(source);
  EXPECT_EQ(source->url, "https://h.io/x/y.git");
  EXPECT_EQ(source->ref, "0123abc");
  EXPECT_EQ(source->commit, "0123abc");
  EXPECT_FALSE(source->has_submodules);

  EXPECT_EQ(read_kaniko_repository("h/y#refs/tags/v1", "http")->ref, "refs/tags/v1");
  EXPECT_EQ(read_kaniko_repository("h/y#refs/tags/v1", "http")->url, "http://h/y");
  EXPECT_EQ(read_kaniko_repository("u:p@h/y", "https")->url, "https://h/y");
  EXPECT_FALSE(read_kaniko_repository("h/y#a#b#c", "https"));
  EXPECT_FALSE(read_kaniko_repository("h/y#main#main", "https")) << "the last is a commit";
  EXPECT_FALSE(read_kaniko_repository("#main", "https"));
  const std::string whole = "0123456789012345678901234567890123456789";
  EXPECT_EQ(read_kaniko_repository("h/y#" + whole, "https")->commit, whole)
      << "kaniko checks a commit out, wherever a branch is";
  EXPECT_EQ(read_kaniko_repository("h/y#0123abc", "https")->commit, "") << "may be a branch's name";
  EXPECT_EQ(read_kaniko_repository("h/y#main#0123ABC", "https")->commit, "0123abc");
  EXPECT_FALSE(read_kaniko_repository("h/y#--x", "https"));
}

TEST(KanikoRepository, ShowsNoLoginWhereItIsRefused) {
  for (const auto* text : {"glpat-secret@h:8443/o/r.git#a#b#c", "u:glpat-secret@h:8443/r.git#--x",
                           "glpat-secret@h:8443/r.git#main#none", "glpat-secret@h:8443/ r.git"}) {
    const auto source = read_kaniko_repository(text, "https");
    ASSERT_FALSE(source) << text;
    EXPECT_EQ(source.error().text().find("secret"), std::string::npos) << source.error().text();
  }
}

TEST(ShownAddress, HasNeitherALoginNorAQuery) {
  EXPECT_EQ(shown_address("https://u:p@h.io:1/y.git#main:sub"),
            "https://***@h.io:1/y.git#main:sub");
  EXPECT_EQ(shown_address("https://token@h/y"), "https://***@h/y");
  EXPECT_EQ(shown_address("https://h/x.tgz?sig=1&a=b#f"), "https://h/x.tgz?***#f");
  EXPECT_EQ(shown_address("https://p/w@h/y"), "https://p/w@h/y") << "it is no login there";
  EXPECT_EQ(shown_address("ssh://git:pw@h/y"), "ssh://git@h/y");
  EXPECT_EQ(shown_address("git@h:x/y.git#v1"), "git@h:x/y.git#v1");
  EXPECT_EQ(shown_address("github.com/x/y"), "github.com/x/y");
  EXPECT_EQ(shown_address("git://h/y"), "git://h/y");
  EXPECT_EQ(shown_address("dir"), "dir");
  EXPECT_EQ(shown_address("docker-image://a:latest"), "docker-image://a:latest");
}

TEST(ShownAddress, EndsWithTheSchemeWhereALoginMayBeCut) {
  for (const auto* text :
       {"https://u:p/ss@h/y.git", "https://u:12/ss@h/y.git", "https://u:p?ss@h/y.git",
        "https://u:12#ss@h/y.git", "https://h:port/y.git"})
    EXPECT_EQ(shown_address(text), "https://***") << text;
  EXPECT_EQ(shown_address("https://h:1/y.git"), "https://h:1/y.git");
  EXPECT_EQ(shown_address("https://h/@scope/x.tgz"), "https://h/@scope/x.tgz");
}

TEST(WithoutSecrets, BlacksOutWhatProgramsRepeat) {
  const RemoteSource git = repository("https://robot:hunter%402@h/y.git");
  EXPECT_EQ(without_secrets("fatal: https://robot:hunter@2@h: no", git),
            "fatal: https://robot:***@h: no")
      << "a name is in many words, and no secret";
  const RemoteSource token = repository("https://glpat-abc@h/y.git");
  EXPECT_EQ(without_secrets("no glpat-abc here", token), "no *** here");
  EXPECT_EQ(without_secrets("h/x.git", repository("https://git:hunter@h/x.git")), "h/x.git");
  EXPECT_EQ(without_secrets("no glpat-abc", repository("https://glpat-abc:x-oauth-basic@h/y.git")),
            "no ***");
  GitSource header = repository("https://h/y.git");
  header.header = std::make_shared<const Secret>("Bearer glpat-abc");
  EXPECT_EQ(without_secrets("sent glpat-abc", header), "sent ***");
  const RemoteSource web = WebSource{"https://robot:hunter%402@h/x?sig=abc"};
  EXPECT_EQ(without_secrets("GET https://robot:hunter%402@h/x?sig=abc", web),
            "GET https://***@h/x?***");
  EXPECT_EQ(without_secrets("said hunter@2", web), "said ***");
  EXPECT_EQ(without_secrets("x.html of abc", WebSource{"https://abc@h/x"}), "x.html of ***");
}

TEST(GitRef, IsWhatGitTakes) {
  for (const auto* ref : {"main", "a/b", "v1.0-rc.1", "refs/pull/4/head", "HEAD", "0123abc", "a@b"})
    EXPECT_TRUE(is_git_ref(ref)) << ref;
  for (const auto* ref : {"", "-x", "+x", "a..b", "a b", "a:b", "a~1", "a^", "a?", "a*", "a[",
                          "a\\b", "@{u}", "@", "a.lock", "a.", "/a", "a/", "a\x7f"})
    EXPECT_FALSE(is_git_ref(ref)) << ref;
}

} // namespace
} // namespace slipway::shim
