#pragma once

// AES-256-GCM over the values of the cache's database, where the operator gave a key. EntryStore
// owns it; thread safe.

#include <cstddef>
#include <memory>
#include <optional>
#include <string>
#include <string_view>

using EVP_CIPHER = struct evp_cipher_st;

namespace holdfast::cache {

class Cipher {
 public:
  static constexpr size_t kKeySize = 32;

  // `key` has kKeySize bytes.
  explicit Cipher(std::string key);

  // What Open gives back with the same key and the same `context` only; the context is not in it.
  std::string Seal(std::string_view context, std::string_view text) const;
  std::optional<std::string> Open(std::string_view context, std::string_view sealed) const;

 private:
  struct Free {
    void operator()(EVP_CIPHER* cipher) const;
  };

  const std::string key_;
  const std::unique_ptr<EVP_CIPHER, Free> algorithm_;  // looked up once, which is slow
};

}  // namespace holdfast::cache
