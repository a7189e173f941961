#include "core/random.h"

namespace holdfast::core {

std::unique_ptr<SeededRandom> SeededRandom::FromDevice() {
  std::random_device device;
  const uint64_t seed = (uint64_t{device()} << 32) | device();
  return std::make_unique<SeededRandom>(seed);
}

double SeededRandom::Uniform() {
  std::lock_guard lock(mutex_);
  return static_cast<double>(engine_() >> 11) * 0x1.0p-53;
}

std::string NewId(Random& random, uint64_t unix_millis) {
  // The layout of a ULID: 48 bits of time, 80 of chance, Crockford's base 32.
  constexpr char kAlphabet[] = "0123456789ABCDEFGHJKMNPQRSTVWXYZ";
  std::string id(26, '0');
  for (int i = 9; i >= 0; --i) {
    id[i] = kAlphabet[unix_millis & 31];
    unix_millis >>= 5;
  }
  for (int i = 10; i < 26; ++i) id[i] = kAlphabet[static_cast<int>(random.Uniform() * 32)];
  return id;
}

}  // namespace holdfast::core
