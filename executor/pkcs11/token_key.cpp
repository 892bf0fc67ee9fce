// SPDX-License-Identifier: Apache-2.0
#include "executor/pkcs11/token_key.hpp"

#include "executor/base/secret.hpp"
#include "executor/base/unique_fd.hpp"

#include <openssl/bn.h>
#include <openssl/ecdsa.h>
#include <openssl/sha.h>

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <memory>
#include <optional>
#include <vector>

#include <p11-kit/p11-kit.h>
#include <p11-kit/uri.h>

namespace slipway::pkcs11 {
namespace {

constexpr std::size_t kMaxPinBytes = 256;
constexpr CK_ULONG kMostSlots = 1024;
constexpr std::size_t kCoordinate = 32; ///< bytes of a number of P-256
/// OID 1.2.840.10045.3.1.7 in DER. Source: RFC 5480, 2.1.1.1.
constexpr std::array<unsigned char, 10> kP256{0x06, 0x08, 0x2a, 0x86, 0x48,
                                              0xce, 0x3d, 0x03, 0x01, 0x07};

using UriPtr = std::unique_ptr<P11KitUri, decltype(&p11_kit_uri_free)>;

Error misconfigured(const std::string& what) {
  return {ErrorKind::misconfigured, what, "see pkcs11_module and pkcs11_uri in [signing]", {}};
}

Error refused(const char* call, CK_RV why) {
  const bool is_the_pin = why == CKR_PIN_INCORRECT || why == CKR_PIN_INVALID ||
                          why == CKR_PIN_LEN_RANGE || why == CKR_PIN_EXPIRED ||
                          why == CKR_PIN_LOCKED || why == CKR_USER_PIN_NOT_INITIALIZED;
  return {is_the_pin ? ErrorKind::misconfigured : ErrorKind::unavailable,
          std::string{"the PKCS #11 module's "} + call + " failed: " + p11_kit_strerror(why),
          is_the_pin ? "check the file that pin-source names, before the token locks itself" : "",
          {}};
}

/// p11-kit takes any name in a query, a misspelt pin-source or a PIN's among them.
bool has_known_names_alone(std::string_view uri) {
  constexpr std::array<std::string_view, 8> kOfKey{"token",   "manufacturer", "model", "serial",
                                                   "slot-id", "object",       "id",    "type"};
  uri.remove_prefix(std::min(uri.find(':') + 1, uri.size()));
  for (bool is_in_query = false; !uri.empty();) {
    const auto end = std::min(uri.find_first_of(is_in_query ? "&" : ";?"), uri.size());
    const auto name = uri.substr(0, std::min(uri.find('='), end));
    if (is_in_query ? name != "pin-source"
                    : std::find(kOfKey.begin(), kOfKey.end(), name) == kOfKey.end())
      return false;
    is_in_query = is_in_query || (end < uri.size() && uri[end] == '?');
    uri.remove_prefix(std::min(end + 1, uri.size()));
  }
  return true;
}

Result<UriPtr> parse(const std::string& text) {
  UriPtr uri{p11_kit_uri_new(), p11_kit_uri_free};
  const int wrong = p11_kit_uri_parse(text.c_str(), P11_KIT_URI_FOR_ANY, uri.get());
  if (wrong != P11_KIT_URI_OK)
    return misconfigured(std::string{"pkcs11_uri is none: "} + p11_kit_uri_message(wrong));
  if (p11_kit_uri_any_unrecognized(uri.get()) != 0)
    return misconfigured("pkcs11_uri has an attribute that is not known");
  if (p11_kit_uri_get_pin_value(uri.get()) != nullptr)
    return misconfigured("pkcs11_uri has a pin-value, and no PIN belongs there: use pin-source");
  if (!has_known_names_alone(text))
    return misconfigured("pkcs11_uri has an attribute that is not known");
  const auto* kind = p11_kit_uri_get_attribute(uri.get(), CKA_CLASS);
  if (kind != nullptr && *static_cast<CK_OBJECT_CLASS*>(kind->pValue) != CKO_PRIVATE_KEY)
    return misconfigured("pkcs11_uri names something else than a private key (type)");
  return uri;
}

/// None where the URI names no file.
Result<std::optional<Secret>> read_pin(P11KitUri* uri) {
  const char* source = p11_kit_uri_get_pin_source(uri);
  if (source == nullptr) return std::optional<Secret>{};
  std::string_view path{source};
  if (path.starts_with("file://"))
    path.remove_prefix(7);
  else if (path.starts_with("file:"))
    path.remove_prefix(5);
  const std::string file{path};
  if (!file.starts_with('/')) return misconfigured("pin-source of pkcs11_uri is no absolute path");
  const UniqueFd fd{::open(file.c_str(), O_RDONLY | O_CLOEXEC | O_NOCTTY)};
  if (!fd)
    return misconfigured("the PIN's file " + file + " cannot be opened: " + errno_text(errno));
  struct Buffer {
    std::array<char, kMaxPinBytes + 1> bytes{};
    ~Buffer() { ::explicit_bzero(bytes.data(), bytes.size()); }
  } buffer;
  const auto got = ::read(fd.get(), buffer.bytes.data(), buffer.bytes.size());
  if (got < 0) return io_error("reading " + file, errno);
  std::string_view pin{buffer.bytes.data(), static_cast<std::size_t>(got)};
  if (pin.size() > kMaxPinBytes) return misconfigured(file + " is too long for a PIN");
  pin = pin.substr(0, pin.find_first_of("\r\n"));
  if (pin.empty()) return misconfigured("the first line of " + file + " is empty, and no PIN");
  return std::optional<Secret>{Secret{pin}};
}

/// The vendor's code, initialised.
class Module {
public:
  static Result<std::unique_ptr<Module>> load(const std::string& path) {
    if (!path.starts_with('/')) return misconfigured("the PKCS #11 module has no absolute path");
    auto* calls = p11_kit_module_load(path.c_str(), P11_KIT_MODULE_UNMANAGED);
    if (calls == nullptr) {
      const char* why = p11_kit_message();
      return misconfigured("the PKCS #11 module " + path +
                           " cannot be loaded: " + (why == nullptr ? "no reason is told" : why));
    }
    std::unique_ptr<Module> module{new Module{calls}};
    if (const auto rv = p11_kit_module_initialize(calls); rv != CKR_OK)
      return refused("C_Initialize", rv);
    module->is_initialized_ = true;
    return module;
  }
  Module(const Module&) = delete;
  Module& operator=(const Module&) = delete;
  ~Module() {
    if (is_initialized_) p11_kit_module_finalize(calls_);
    p11_kit_module_release(calls_);
  }
  CK_FUNCTION_LIST* operator->() const { return calls_; }

  /// The slots with a token that the URI is about.
  Result<std::vector<CK_SLOT_ID>> slots(P11KitUri* uri) const {
    CK_ULONG count = kMostSlots;
    std::vector<CK_SLOT_ID> all(count);
    if (const auto rv = calls_->C_GetSlotList(CK_TRUE, all.data(), &count); rv != CKR_OK)
      return refused("C_GetSlotList", rv);
    all.resize(count);
    const auto wanted = p11_kit_uri_get_slot_id(uri);
    std::erase_if(all, [&](CK_SLOT_ID slot) {
      CK_TOKEN_INFO token{};
      return (wanted != static_cast<CK_SLOT_ID>(-1) && wanted != slot) ||
             calls_->C_GetTokenInfo(slot, &token) != CKR_OK ||
             (token.flags & CKF_TOKEN_INITIALIZED) == 0 ||
             p11_kit_uri_match_token_info(uri, &token) == 0;
    });
    return all;
  }

  /// A push is tried again and again: the last try of a PIN is a person's.
  Status may_try_pin(CK_SLOT_ID slot) const {
    CK_TOKEN_INFO token{};
    if (const auto rv = calls_->C_GetTokenInfo(slot, &token); rv != CKR_OK)
      return refused("C_GetTokenInfo", rv);
    if ((token.flags & CKF_USER_PIN_LOCKED) != 0)
      return misconfigured("the token's PIN is locked: nobody logged in");
    if ((token.flags & CKF_USER_PIN_FINAL_TRY) != 0)
      return misconfigured("the token leaves one try of its PIN: nobody logged in; log in by hand");
    return {};
  }

private:
  explicit Module(CK_FUNCTION_LIST* calls) : calls_{calls} {}
  CK_FUNCTION_LIST* calls_;
  bool is_initialized_ = false;
};

class Session {
public:
  static Result<std::unique_ptr<Session>> open(const Module& module, CK_SLOT_ID slot) {
    CK_SESSION_HANDLE handle = CK_INVALID_HANDLE;
    const auto rv = module->C_OpenSession(slot, CKF_SERIAL_SESSION, nullptr, nullptr, &handle);
    if (rv != CKR_OK) return refused("C_OpenSession", rv);
    return std::unique_ptr<Session>{new Session{module, handle}};
  }
  Session(const Session&) = delete;
  Session& operator=(const Session&) = delete;
  ~Session() { (void)module_->C_CloseSession(handle_); }

  Status login(CK_USER_TYPE who, const Secret& pin) const {
    const auto bytes = pin.reveal();
    // What it gets is not changed by it, whatever its type says.
    auto* text = reinterpret_cast<CK_UTF8CHAR*>(const_cast<char*>(bytes.data()));
    const auto rv = module_->C_Login(handle_, who, text, bytes.size());
    if (rv != CKR_OK && rv != CKR_USER_ALREADY_LOGGED_IN) return refused("C_Login", rv);
    return {};
  }

  /// Private keys that the URI is about; two at most.
  Result<std::vector<CK_OBJECT_HANDLE>> keys(P11KitUri* uri) const {
    CK_OBJECT_CLASS kind = CKO_PRIVATE_KEY;
    std::vector<CK_ATTRIBUTE> wanted{{CKA_CLASS, &kind, sizeof kind}};
    for (const CK_ATTRIBUTE_TYPE type : {CKA_LABEL, CKA_ID}) {
      if (const auto* given = p11_kit_uri_get_attribute(uri, type)) wanted.push_back(*given);
    }
    auto rv = module_->C_FindObjectsInit(handle_, wanted.data(), wanted.size());
    if (rv != CKR_OK) return refused("C_FindObjectsInit", rv);
    std::vector<CK_OBJECT_HANDLE> found(2);
    CK_ULONG count = 0;
    rv = module_->C_FindObjects(handle_, found.data(), found.size(), &count);
    (void)module_->C_FindObjectsFinal(handle_);
    if (rv != CKR_OK) return refused("C_FindObjects", rv);
    found.resize(count);
    return found;
  }

  Status check_key(CK_OBJECT_HANDLE key) const {
    CK_KEY_TYPE type = 0;
    CK_ATTRIBUTE wanted{CKA_KEY_TYPE, &type, sizeof type};
    if (const auto rv = module_->C_GetAttributeValue(handle_, key, &wanted, 1); rv != CKR_OK)
      return refused("C_GetAttributeValue", rv);
    if (type != CKK_EC) return misconfigured("the key of pkcs11_uri is no ECDSA key");
    std::array<unsigned char, 64> curve{};
    wanted = {CKA_EC_PARAMS, curve.data(), curve.size()};
    const auto rv = module_->C_GetAttributeValue(handle_, key, &wanted, 1);
    const std::string_view told{reinterpret_cast<const char*>(curve.data()),
                                rv == CKR_OK ? wanted.ulValueLen : 0};
    if (told != std::string_view{reinterpret_cast<const char*>(kP256.data()), kP256.size()})
      return misconfigured("the key of pkcs11_uri is not on the curve P-256");
    return {};
  }

  /// r and s, one after the other.
  Result<std::array<unsigned char, 2 * kCoordinate>>
  sign(CK_OBJECT_HANDLE key, std::string_view message, const std::optional<Secret>& pin) const {
    std::array<unsigned char, SHA256_DIGEST_LENGTH> hash{};
    SHA256(reinterpret_cast<const unsigned char*>(message.data()), message.size(), hash.data());
    CK_MECHANISM ecdsa{CKM_ECDSA, nullptr, 0};
    auto rv = module_->C_SignInit(handle_, &ecdsa, key);
    if (rv != CKR_OK) return refused("C_SignInit", rv);
    CK_BBOOL each_time = CK_FALSE;
    CK_ATTRIBUTE asked{CKA_ALWAYS_AUTHENTICATE, &each_time, sizeof each_time};
    if (module_->C_GetAttributeValue(handle_, key, &asked, 1) == CKR_OK && each_time == CK_TRUE &&
        pin) {
      if (auto again = login(CKU_CONTEXT_SPECIFIC, *pin); !again) return std::move(again).error();
    }
    std::array<unsigned char, 2 * kCoordinate> signature{};
    CK_ULONG size = signature.size();
    rv = module_->C_Sign(handle_, hash.data(), hash.size(), signature.data(), &size);
    if (rv != CKR_OK) return refused("C_Sign", rv);
    if (size != signature.size())
      return Error{
          ErrorKind::unavailable, "the PKCS #11 module made no signature of P-256", "", {}};
    return signature;
  }

private:
  Session(const Module& module, CK_SESSION_HANDLE handle) : module_{module}, handle_{handle} {}
  const Module& module_;
  CK_SESSION_HANDLE handle_;
};

std::string der_of(const std::array<unsigned char, 2 * kCoordinate>& pair) {
  const std::unique_ptr<ECDSA_SIG, decltype(&ECDSA_SIG_free)> signature{ECDSA_SIG_new(),
                                                                        ECDSA_SIG_free};
  // Both become the signature's.
  ECDSA_SIG_set0(signature.get(), BN_bin2bn(pair.data(), kCoordinate, nullptr),
                 BN_bin2bn(pair.data() + kCoordinate, kCoordinate, nullptr));
  unsigned char* bytes = nullptr;
  const int size = i2d_ECDSA_SIG(signature.get(), &bytes);
  std::string der{reinterpret_cast<const char*>(bytes), static_cast<std::size_t>(size)};
  OPENSSL_free(bytes);
  return der;
}

} // namespace

Result<std::string> sign(const std::string& module_file, const std::string& uri_text,
                         std::string_view message) {
  auto uri = parse(uri_text);
  if (!uri) return std::move(uri).error();
  auto pin = read_pin(uri->get());
  if (!pin) return std::move(pin).error();
  auto module = Module::load(module_file);
  if (!module) return std::move(module).error();
  auto slots = (*module)->slots(uri->get());
  if (!slots) return std::move(slots).error();
  if (slots->size() != 1) { // a PIN is shown to one token alone
    return misconfigured(slots->empty() ? "no token of " + module_file + " is what pkcs11_uri names"
                                        : "several tokens of " + module_file +
                                              " are what pkcs11_uri names: add token or serial");
  }
  auto session = Session::open(**module, slots->front());
  if (!session) return std::move(session).error();
  if (*pin) {
    if (auto may = (*module)->may_try_pin(slots->front()); !may) return std::move(may).error();
    if (auto in = (*session)->login(CKU_USER, **pin); !in) return std::move(in).error();
  }
  auto keys = (*session)->keys(uri->get());
  if (!keys) return std::move(keys).error();
  if (keys->size() != 1) {
    return misconfigured(keys->empty()
                             ? std::string{"no private key in the token is what pkcs11_uri names"} +
                                   (*pin ? "" : "; it has no pin-source, so nobody logged in")
                             : "several private keys are what pkcs11_uri names: add object or id");
  }
  if (auto fits = (*session)->check_key(keys->front()); !fits) return std::move(fits).error();
  auto pair = (*session)->sign(keys->front(), message, *pin);
  if (!pair) return std::move(pair).error();
  return der_of(*pair);
}

} // namespace slipway::pkcs11
