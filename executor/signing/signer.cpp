// SPDX-License-Identifier: Apache-2.0
#include "executor/signing/signer.hpp"

#include "executor/base/base64.hpp"
#include "executor/base/secret.hpp"
#include "executor/base/unique_fd.hpp"

#include <openssl/bio.h>
#include <openssl/core_names.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/sha.h>
#include <openssl/x509.h>

#include <fcntl.h>
#include <unistd.h>

#include <array>
#include <cerrno>

namespace slipway::signing {

namespace {

constexpr std::size_t kMaxPemBytes = 16UL << 10;
constexpr std::size_t kMaxCommandOutput = 16UL << 10;

using KeyPtr = std::unique_ptr<EVP_PKEY, decltype(&EVP_PKEY_free)>;

const unsigned char* bytes_of(std::string_view text) {
  return reinterpret_cast<const unsigned char*>(text.data());
}

/// Else OpenSSL would ask at the terminal.
int no_password(char*, int, int, void*) {
  return -1;
}

Error wrong_key(const std::filesystem::path& file, const std::string& what) {
  ERR_clear_error(); // nothing of a key is to be read there later
  return {ErrorKind::misconfigured,
          "the key " + file.string() + " cannot be used: " + what,
          "[signing] needs ECDSA P-256 in PEM, a private key without a password",
          {}};
}

/// The file's bytes, in memory that is wiped; no other copy is made.
Result<Secret> read_pem(const std::filesystem::path& file) {
  const UniqueFd fd{::open(file.c_str(), O_RDONLY | O_CLOEXEC | O_NOCTTY)};
  if (fd.get() < 0) {
    const int cause = errno;
    if (cause == ENOENT) // the operator's, never the job's
      return Error{ErrorKind::misconfigured, "there is no " + file.string(), "see [signing]", {}};
    return io_error("opening " + file.string(), cause);
  }
  std::array<char, kMaxPemBytes + 1> buffer{};
  struct Wiper {
    std::array<char, kMaxPemBytes + 1>& bytes;
    ~Wiper() { ::explicit_bzero(bytes.data(), bytes.size()); }
  } wiper{buffer};
  std::size_t size = 0;
  while (size < buffer.size()) {
    const auto got = ::read(fd.get(), buffer.data() + size, buffer.size() - size);
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) return io_error("reading " + file.string(), errno);
    if (got == 0) break;
    size += static_cast<std::size_t>(got);
  }
  if (size > kMaxPemBytes) return wrong_key(file, "it is too long for a key");
  return Secret{std::string_view{buffer.data(), size}};
}

/// Nothing where it is P-256.
std::string misfit(const EVP_PKEY* key) {
  const int kind = EVP_PKEY_get_base_id(key);
  if (kind == EVP_PKEY_RSA) return "it is an RSA key";
  if (kind == EVP_PKEY_ED25519) return "it is an Ed25519 key";
  if (kind != EVP_PKEY_EC) return "it is no ECDSA key";
  std::array<char, 64> group{};
  std::size_t length = 0;
  if (EVP_PKEY_get_utf8_string_param(key, OSSL_PKEY_PARAM_GROUP_NAME, group.data(), group.size(),
                                     &length) != 1)
    return "its curve has no name";
  const std::string name{group.data(), length};
  return name == "prime256v1" || name == "P-256" ? "" : "its curve is " + name;
}

Result<KeyPtr> load(const std::filesystem::path& file, bool is_private) {
  auto pem = read_pem(file);
  if (!pem) return std::move(pem).error();
  const auto bytes = pem->reveal();
  const std::unique_ptr<BIO, decltype(&BIO_free)> memory{
      BIO_new_mem_buf(bytes.data(), static_cast<int>(bytes.size())), BIO_free};
  KeyPtr key{is_private ? PEM_read_bio_PrivateKey(memory.get(), nullptr, no_password, nullptr)
                        : PEM_read_bio_PUBKEY(memory.get(), nullptr, no_password, nullptr),
             EVP_PKEY_free};
  if (!key) {
    return wrong_key(file, is_private ? "it is no private key in PEM, or has a password"
                                      : "it is no public key in PEM");
  }
  if (const auto why = misfit(key.get()); !why.empty()) return wrong_key(file, why);
  return key;
}

std::string hint_of(const EVP_PKEY* key) {
  unsigned char* der = nullptr;
  const int size = i2d_PUBKEY(key, &der);
  if (size <= 0) return "";
  std::array<unsigned char, SHA256_DIGEST_LENGTH> hash{};
  SHA256(der, static_cast<std::size_t>(size), hash.data());
  OPENSSL_free(der);
  return base64({reinterpret_cast<const char*>(hash.data()), hash.size()});
}

bool is_signature_by(EVP_PKEY* key, std::string_view message, std::string_view signature) {
  const std::unique_ptr<EVP_MD_CTX, decltype(&EVP_MD_CTX_free)> context{EVP_MD_CTX_new(),
                                                                        EVP_MD_CTX_free};
  const bool fits = EVP_DigestVerifyInit(context.get(), nullptr, EVP_sha256(), nullptr, key) == 1 &&
                    EVP_DigestVerify(context.get(), bytes_of(signature), signature.size(),
                                     bytes_of(message), message.size()) == 1;
  ERR_clear_error();
  return fits;
}

class FileSigner final : public Signer {
public:
  FileSigner(std::filesystem::path file, KeyPtr key)
      : file_{std::move(file)}, key_{std::move(key)}, hint_{hint_of(key_.get())} {}

  Result<std::string> sign(std::string_view message) override {
    const std::unique_ptr<EVP_MD_CTX, decltype(&EVP_MD_CTX_free)> context{EVP_MD_CTX_new(),
                                                                          EVP_MD_CTX_free};
    std::string signature(static_cast<std::size_t>(EVP_PKEY_get_size(key_.get())), '\0');
    std::size_t size = signature.size();
    if (EVP_DigestSignInit(context.get(), nullptr, EVP_sha256(), nullptr, key_.get()) != 1 ||
        EVP_DigestSign(context.get(), reinterpret_cast<unsigned char*>(signature.data()), &size,
                       bytes_of(message), message.size()) != 1)
      return wrong_key(file_, "OpenSSL does not sign with it");
    signature.resize(size);
    return signature;
  }
  bool verifies(std::string_view message, std::string_view signature) const override {
    return is_signature_by(key_.get(), message, signature);
  }
  const std::string& hint() const override { return hint_; }

private:
  std::filesystem::path file_;
  KeyPtr key_;
  std::string hint_;
};

class CommandSigner final : public Signer {
public:
  CommandSigner(Program program, KeyPtr public_key, std::filesystem::path key_file,
                std::chrono::milliseconds deadline, process::ProcessRunner& runner)
      : program_{std::move(program)}, key_{std::move(public_key)}, key_file_{std::move(key_file)},
        deadline_{deadline}, runner_{runner}, hint_{hint_of(key_.get())} {}

  Result<std::string> sign(std::string_view message) override {
    process::Command command;
    command.argv = program_.argv;
    command.env = program_.env;
    command.input = message;
    command.deadline = deadline_;
    command.output_limit = kMaxCommandOutput;
    auto output = runner_.run(command);
    if (!output) {
      auto error = std::move(output).error();
      if (error.kind == ErrorKind::not_found || error.kind == ErrorKind::bad_input)
        error.kind = ErrorKind::misconfigured; // the operator's, never the job's
      return std::move(error).in("signing with " + program_.argv.front());
    }
    if (std::holds_alternative<process::DeadlinePassed>(output->ending))
      return failed(ErrorKind::timed_out, "it " + process::describe(output->ending));
    if (program_.is_own && !process::succeeded(output->ending) && !output->err.empty()) {
      const bool is_operators = output->ending == process::Ending{process::Exited{1}};
      return Error{is_operators ? ErrorKind::misconfigured : ErrorKind::unavailable,
                   output->err.substr(0, output->err.find('\n')),
                   "",
                   {}};
    }
    if (!process::succeeded(output->ending))
      return failed(ErrorKind::unavailable, "it ended with " + process::describe(output->ending));
    auto& text = output->out;
    while (!text.empty() && (text.back() == '\n' || text.back() == '\r'))
      text.pop_back();
    auto signature = base64_decode(text);
    if (!signature || signature->empty())
      return failed(ErrorKind::misconfigured, "it printed no base64");
    if (!verifies(message, *signature)) {
      return failed(ErrorKind::misconfigured,
                    "what it printed is no signature of these bytes by " + key_file_.string());
    }
    return *std::move(signature);
  }
  bool verifies(std::string_view message, std::string_view signature) const override {
    return is_signature_by(key_.get(), message, signature);
  }
  const std::string& hint() const override { return hint_; }

private:
  Error failed(ErrorKind kind, const std::string& why) const {
    return {kind,
            "the signing command " + program_.argv.front() + " failed: " + why,
            "try it by hand as slipway's user: bytes on stdin, the DER signature in base64 on "
            "stdout",
            {}};
  }

  Program program_;
  KeyPtr key_;
  std::filesystem::path key_file_;
  std::chrono::milliseconds deadline_;
  process::ProcessRunner& runner_;
  std::string hint_;
};

} // namespace

Result<std::unique_ptr<Signer>> open_key_file(const std::filesystem::path& file) {
  auto key = load(file, true);
  if (!key) return std::move(key).error();
  return std::unique_ptr<Signer>{std::make_unique<FileSigner>(file, *std::move(key))};
}

Result<std::unique_ptr<Signer>> open_command(Program program,
                                             const std::filesystem::path& public_key_file,
                                             std::chrono::milliseconds deadline,
                                             process::ProcessRunner& runner) {
  auto key = load(public_key_file, false);
  if (!key) return std::move(key).error();
  return std::unique_ptr<Signer>{std::make_unique<CommandSigner>(
      std::move(program), *std::move(key), public_key_file, deadline, runner)};
}

} // namespace slipway::signing
