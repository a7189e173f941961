#include "cache/cipher.h"

#include <openssl/evp.h>
#include <openssl/rand.h>

#include <cstdint>
#include <utility>

#include "core/check.h"

namespace holdfast::cache {
namespace {

// Nonces are random: good for 2^32 values under one key.
constexpr size_t kNonceSize = 12;
constexpr size_t kTagSize = 16;

struct FreeContext {
  void operator()(EVP_CIPHER_CTX* context) const { EVP_CIPHER_CTX_free(context); }
};
using ContextPtr = std::unique_ptr<EVP_CIPHER_CTX, FreeContext>;

const uint8_t* Bytes(std::string_view text) {
  return reinterpret_cast<const uint8_t*>(text.data());
}
uint8_t* Bytes(std::string& text, size_t from = 0) {
  return reinterpret_cast<uint8_t*>(text.data()) + from;
}

}  // namespace

void Cipher::Free::operator()(EVP_CIPHER* cipher) const { EVP_CIPHER_free(cipher); }

Cipher::Cipher(std::string key)
    : key_(std::move(key)), algorithm_(EVP_CIPHER_fetch(nullptr, "AES-256-GCM", nullptr)) {
  HOLDFAST_CHECK(key_.size() == kKeySize && algorithm_ != nullptr);
}

// Nonce, text, tag.
std::string Cipher::Seal(std::string_view context, std::string_view text) const {
  std::string sealed(kNonceSize + text.size() + kTagSize, '\0');
  const ContextPtr evp(EVP_CIPHER_CTX_new());
  int written = 0;
  const bool good =
      RAND_bytes(Bytes(sealed), kNonceSize) == 1 &&
      EVP_EncryptInit_ex2(evp.get(), algorithm_.get(), Bytes(key_), Bytes(sealed), nullptr) == 1 &&
      EVP_EncryptUpdate(evp.get(), nullptr, &written, Bytes(context),
                        static_cast<int>(context.size())) == 1 &&
      EVP_EncryptUpdate(evp.get(), Bytes(sealed, kNonceSize), &written, Bytes(text),
                        static_cast<int>(text.size())) == 1 &&
      EVP_EncryptFinal_ex(evp.get(), Bytes(sealed, kNonceSize + text.size()), &written) == 1 &&
      EVP_CIPHER_CTX_ctrl(evp.get(), EVP_CTRL_AEAD_GET_TAG, kTagSize,
                          Bytes(sealed, kNonceSize + text.size())) == 1;
  HOLDFAST_CHECK(good);  // no input makes it fail; going on would write the text in clear
  return sealed;
}

std::optional<std::string> Cipher::Open(std::string_view context, std::string_view sealed) const {
  if (sealed.size() < kNonceSize + kTagSize) return std::nullopt;
  const std::string_view body = sealed.substr(kNonceSize, sealed.size() - kNonceSize - kTagSize);
  std::string tag(sealed.substr(sealed.size() - kTagSize));
  std::string text(body.size(), '\0');
  const ContextPtr evp(EVP_CIPHER_CTX_new());
  int written = 0;
  const bool good =
      EVP_DecryptInit_ex2(evp.get(), algorithm_.get(), Bytes(key_), Bytes(sealed), nullptr) == 1 &&
      EVP_DecryptUpdate(evp.get(), nullptr, &written, Bytes(context),
                        static_cast<int>(context.size())) == 1 &&
      EVP_DecryptUpdate(evp.get(), Bytes(text), &written, Bytes(body),
                        static_cast<int>(body.size())) == 1 &&
      EVP_CIPHER_CTX_ctrl(evp.get(), EVP_CTRL_AEAD_SET_TAG, kTagSize, tag.data()) == 1 &&
      EVP_DecryptFinal_ex(evp.get(), Bytes(text, body.size()), &written) == 1;
  if (!good) return std::nullopt;
  return text;
}

}  // namespace holdfast::cache
