// SPDX-License-Identifier: Apache-2.0
#include "executor/sandbox/docker_tls.hpp"

#include "executor/base/file.hpp"

#include <openssl/bio.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/rand.h>
#include <openssl/x509v3.h>

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstdio>
#include <memory>

namespace slipway::sandbox {
namespace {

constexpr long kDay = 24L * 60 * 60;

struct Free {
  void operator()(EVP_PKEY* key) const { ::EVP_PKEY_free(key); }
  void operator()(X509* certificate) const { ::X509_free(certificate); }
  void operator()(X509_EXTENSION* extension) const { ::X509_EXTENSION_free(extension); }
  void operator()(BIO* bio) const { ::BIO_free(bio); }
};
using Key = std::unique_ptr<EVP_PKEY, Free>;
using Certificate = std::unique_ptr<X509, Free>;

struct Identity {
  Key key;
  Certificate certificate;
};

struct Purpose {
  const char* common_name;
  const char* basic_constraints;
  const char* key_usage;
  const char* extended_key_usage; ///< nullptr: none
  std::string alternative_names;  ///< "": none
};

Error openssl_error(const char* what) {
  char text[256];
  ::ERR_error_string_n(::ERR_get_error(), text, sizeof text);
  return {ErrorKind::internal, std::string{what} + ": " + text, "", {}};
}

bool add_extension(X509* certificate, X509* issuer, int number, const char* value) {
  X509V3_CTX context;
  X509V3_set_ctx_nodb(&context);
  ::X509V3_set_ctx(&context, issuer, certificate, nullptr, nullptr, 0);
  const std::unique_ptr<X509_EXTENSION, Free> extension{
      ::X509V3_EXT_conf_nid(nullptr, &context, number, value)};
  return extension && ::X509_add_ext(certificate, extension.get(), -1) == 1;
}

// Self-signed where `issuer` is null.
Result<Identity> make_identity(const Purpose& purpose, const Identity* issuer) {
  Identity made;
  made.key.reset(EVP_EC_gen("P-256"));
  made.certificate.reset(::X509_new());
  X509* certificate = made.certificate.get();
  if (!made.key || certificate == nullptr) return openssl_error("making a key");

  unsigned char serial[16];
  if (::RAND_bytes(serial, sizeof serial) != 1) return openssl_error("making a serial number");
  serial[0] &= 0x7fU; // a serial number is positive
  serial[0] |= 0x40U;
  const std::unique_ptr<BIGNUM, decltype(&::BN_free)> number{
      ::BN_bin2bn(serial, sizeof serial, nullptr), ::BN_free};
  X509* signing = issuer == nullptr ? certificate : issuer->certificate.get();
  X509_NAME* subject = ::X509_get_subject_name(certificate);
  const bool filled =
      number &&
      ::BN_to_ASN1_INTEGER(number.get(), ::X509_get_serialNumber(certificate)) != nullptr &&
      ::X509_set_version(certificate, 2) == 1 &&
      ::X509_gmtime_adj(X509_getm_notBefore(certificate), -kDay / 24) != nullptr &&
      ::X509_gmtime_adj(X509_getm_notAfter(certificate), 7 * kDay) != nullptr &&
      ::X509_NAME_add_entry_by_txt(subject, "CN", MBSTRING_ASC,
                                   reinterpret_cast<const unsigned char*>(purpose.common_name), -1,
                                   -1, 0) == 1 &&
      ::X509_set_issuer_name(certificate, ::X509_get_subject_name(signing)) == 1 &&
      ::X509_set_pubkey(certificate, made.key.get()) == 1 &&
      add_extension(certificate, signing, NID_basic_constraints, purpose.basic_constraints) &&
      add_extension(certificate, signing, NID_key_usage, purpose.key_usage) &&
      add_extension(certificate, signing, NID_subject_key_identifier, "hash") &&
      (issuer == nullptr ||
       add_extension(certificate, signing, NID_authority_key_identifier, "keyid")) &&
      (purpose.extended_key_usage == nullptr ||
       add_extension(certificate, signing, NID_ext_key_usage, purpose.extended_key_usage)) &&
      (purpose.alternative_names.empty() ||
       add_extension(certificate, signing, NID_subject_alt_name,
                     purpose.alternative_names.c_str()));
  EVP_PKEY* signing_key = issuer == nullptr ? made.key.get() : issuer->key.get();
  if (!filled || ::X509_sign(certificate, signing_key, ::EVP_sha256()) == 0) {
    return openssl_error("making a certificate");
  }
  return made;
}

std::string text_of(BIO* bio) {
  char* bytes = nullptr;
  const long size = BIO_get_mem_data(bio, &bytes);
  return {bytes, static_cast<std::size_t>(std::max(size, 0L))};
}

// Without fsync, which would cost more than the keys: the files end with their job.
Status write_file(const std::filesystem::path& file, const std::string& text) {
  if (::unlink(file.c_str()) != 0 && errno != ENOENT)
    return io_error("unlink", errno, file.string());
  const UniqueFd fd{
      ::open(file.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0644)};
  if (!fd) return io_error("create", errno, file.string());
  if (::fchmod(fd.get(), 0644) != 0) return io_error("fchmod", errno, file.string());
  return write_all(fd.get(), text);
}

Status write_identity(const std::filesystem::path& dir, const Identity& identity, X509* ca) {
  auto made = make_directory(dir, 0755);
  if (!made) return made;
  if (::chmod(dir.c_str(), 0755) != 0) return io_error("chmod", errno, dir.string());
  const std::unique_ptr<BIO, Free> ca_text{::BIO_new(::BIO_s_mem())};
  const std::unique_ptr<BIO, Free> text{::BIO_new(::BIO_s_mem())};
  const std::unique_ptr<BIO, Free> key{::BIO_new(::BIO_s_mem())};
  if (!ca_text || !text || !key || ::PEM_write_bio_X509(ca_text.get(), ca) != 1 ||
      ::PEM_write_bio_X509(text.get(), identity.certificate.get()) != 1 ||
      ::PEM_write_bio_PrivateKey(key.get(), identity.key.get(), nullptr, nullptr, 0, nullptr,
                                 nullptr) != 1) {
    return openssl_error("writing a certificate");
  }
  for (const auto& [name, bio] :
       {std::pair{"ca.pem", ca_text.get()}, std::pair{"cert.pem", text.get()},
        std::pair{"key.pem", key.get()}}) {
    auto written = write_file(dir / name, text_of(bio));
    if (!written) return written;
  }
  return {};
}

bool is_host_name(const std::string& name) {
  return !name.empty() && name.size() <= 253 && std::all_of(name.begin(), name.end(), [](char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '-' ||
           c == '.' || c == '_';
  });
}

Result<Identity> make_ca(const char* name) {
  return make_identity({.common_name = name,
                        .basic_constraints = "critical,CA:TRUE,pathlen:0",
                        .key_usage = "critical,keyCertSign,cRLSign",
                        .extended_key_usage = nullptr,
                        .alternative_names = ""},
                       nullptr);
}

Result<Identity> make_server(const char* name, const std::string& names, const Identity& ca) {
  return make_identity({.common_name = name,
                        .basic_constraints = "critical,CA:FALSE",
                        .key_usage = "critical,digitalSignature",
                        .extended_key_usage = "serverAuth",
                        .alternative_names = names},
                       &ca);
}

/// "DNS:a,DNS:b". Errors: bad_input.
Result<std::string> alternative_names(const std::vector<std::string>& names) {
  std::string text;
  for (const auto& name : names) {
    if (!is_host_name(name))
      return Error{ErrorKind::bad_input, "\"" + name + "\" is no host name", "", {}};
    text += (text.empty() ? "DNS:" : ",DNS:") + name;
  }
  return text;
}

} // namespace

Status make_registry_tls(const std::filesystem::path& dir, const std::vector<std::string>& names) {
  auto known_as = alternative_names(names);
  if (!known_as) return std::move(known_as).error();
  const auto ca = make_ca("slipway job registry CA");
  if (!ca) return ca.error();
  const auto server = make_server("registry", *known_as, *ca);
  if (!server) return server.error();
  if (auto written = write_identity(dir, *server, ca->certificate.get()); !written) return written;
  auto text = read_file(dir / "ca.pem", 1UL << 16);
  if (!text) return std::move(text).error();
  std::array<char, 16> name{};
  (void)::snprintf(name.data(), name.size(), "%08lx.0",
                   ::X509_subject_name_hash(ca->certificate.get()));
  return write_file(dir / name.data(), *text);
}

Status make_docker_tls(const std::filesystem::path& dir,
                       const std::vector<std::string>& more_names) {
  auto more = alternative_names(more_names);
  if (!more) return std::move(more).error();
  const auto names = "DNS:docker,DNS:localhost,IP:127.0.0.1" + (more->empty() ? "" : "," + *more);
  const auto ca = make_ca("slipway job CA");
  if (!ca) return ca.error();
  const auto server = make_server("docker", names, *ca);
  if (!server) return server.error();
  const auto client = make_identity({.common_name = "docker client",
                                     .basic_constraints = "critical,CA:FALSE",
                                     .key_usage = "critical,digitalSignature",
                                     .extended_key_usage = "clientAuth",
                                     .alternative_names = ""},
                                    &*ca);
  if (!client) return client.error();
  auto made = make_directory(dir, 0755);
  if (!made) return made;
  if (::chmod(dir.c_str(), 0755) != 0) return io_error("chmod", errno, dir.string());
  auto written = write_identity(dir / "server", *server, ca->certificate.get());
  if (!written) return written;
  return write_identity(dir / "client", *client, ca->certificate.get());
}

} // namespace slipway::sandbox
