#include "cache/encoder/model_file.h"

#include <fcntl.h>
#include <openssl/evp.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <array>
#include <bit>
#include <cerrno>
#include <cstring>
#include <optional>

#include "absl/strings/escaping.h"

namespace holdfast::cache {

static_assert(std::endian::native == std::endian::little, "the weights are used as they lie");

namespace {

constexpr std::string_view kMagic = "HFMODEL1";
constexpr size_t kAlignment = 64;
constexpr size_t kDigestStart = 16;
constexpr size_t kDigestSize = 32;
constexpr size_t kDigestEnd = kDigestStart + kDigestSize;
constexpr size_t kTextsStart = 96;

// Generous, and small enough that no product of them overflows.
constexpr uint32_t kMaxLayers = 256;
constexpr uint32_t kMaxWidth = 1 << 14;
constexpr uint32_t kMaxLongest = 1 << 14;
constexpr uint32_t kMaxVocabulary = 1 << 22;
constexpr uint32_t kVectorLane = 16;

absl::Status Damaged(const std::string& what) {
  return absl::DataLossError("the model file is damaged: " + what);
}

std::string Digest(std::span<const std::byte> bytes) {
  std::string digest(kDigestSize, '\0');
  EVP_MD_CTX* context = EVP_MD_CTX_new();
  EVP_DigestInit_ex(context, EVP_sha256(), nullptr);
  EVP_DigestUpdate(context, bytes.data(), kDigestStart);
  EVP_DigestUpdate(context, bytes.data() + kDigestEnd, bytes.size() - kDigestEnd);
  EVP_DigestFinal_ex(context, reinterpret_cast<unsigned char*>(digest.data()), nullptr);
  EVP_MD_CTX_free(context);
  return digest;
}

template <typename T>
T Read(std::span<const std::byte> bytes, size_t at) {
  T value;
  std::memcpy(&value, bytes.data() + at, sizeof(value));
  return value;
}

// Shapes that the encoder's kernels cannot do are refused here, where the file is at hand.
absl::Status CheckShape(const ModelShape& shape) {
  const auto within = [](uint32_t value, uint32_t most) { return value >= 1 && value <= most; };
  if (!within(shape.layers, kMaxLayers) || !within(shape.width, kMaxWidth) ||
      !within(shape.inner, kMaxWidth) || !within(shape.heads, shape.width) ||
      !within(shape.longest, kMaxLongest) || shape.longest < 2 ||
      !within(shape.vocabulary, kMaxVocabulary) ||
      static_cast<uint32_t>(shape.pooling) > static_cast<uint32_t>(Pooling::kFirst)) {
    return Damaged("its shape makes no sense");
  }
  if (shape.width % shape.heads != 0 || (shape.width / shape.heads) % kVectorLane != 0 ||
      shape.inner % kVectorLane != 0) {
    return absl::UnimplementedError(
        "the model's head size and inner width must be multiples of 16");
  }
  return absl::OkStatus();
}

}  // namespace

// Hands out the weights in their order; once past the end it stays there.
class WeightCursor {
 public:
  WeightCursor(std::span<const std::byte> bytes, size_t at) : bytes_(bytes), at_(at) {}

  std::span<const Half> Next(size_t count) {
    at_ = (at_ + kAlignment - 1) / kAlignment * kAlignment;
    const size_t size = count * sizeof(Half);
    if (at_ > bytes_.size() || bytes_.size() - at_ < size) {
      at_ = bytes_.size() + 1;
      return {};
    }
    const auto* first = reinterpret_cast<const Half*>(bytes_.data() + at_);
    at_ += size;
    return {first, count};
  }
  DenseWeights NextDense(size_t outputs, size_t inputs) {
    const auto weight = Next(outputs * inputs);
    return {weight, Next(outputs)};
  }
  LayerNormWeights NextNorm(size_t width) {
    const auto gain = Next(width);
    return {gain, Next(width)};
  }
  bool AtEnd() {
    Next(0);
    return at_ == bytes_.size();
  }

 private:
  const std::span<const std::byte> bytes_;
  size_t at_;
};

absl::StatusOr<std::unique_ptr<ModelFile>> ModelFile::Open(const std::string& path) {
  const int file = open(path.c_str(), O_RDONLY | O_CLOEXEC);
  if (file < 0) return absl::ErrnoToStatus(errno, "cannot open the model file " + path);
  struct stat status{};
  const bool known = fstat(file, &status) == 0 && S_ISREG(status.st_mode);
  const auto size = known ? static_cast<size_t>(status.st_size) : 0;
  if (size < kTextsStart) {
    close(file);
    return Damaged("it is too short");
  }
  void* mapped = mmap(nullptr, size, PROT_READ, MAP_PRIVATE, file, 0);
  const int error = errno;
  close(file);
  if (mapped == MAP_FAILED) return absl::ErrnoToStatus(error, "cannot map the model file " + path);
  std::unique_ptr<ModelFile> model(new ModelFile({static_cast<const std::byte*>(mapped), size}));
  if (const absl::Status parsed = model->Parse(); !parsed.ok()) return parsed;
  return model;
}

ModelFile::~ModelFile() { munmap(const_cast<std::byte*>(mapped_.data()), mapped_.size()); }

absl::Status ModelFile::Parse() {
  if (std::memcmp(mapped_.data(), kMagic.data(), kMagic.size()) != 0) {
    return absl::InvalidArgumentError("this is no model file of Holdfast's");
  }
  if (Read<uint64_t>(mapped_, kMagic.size()) != mapped_.size()) {
    return Damaged("its size is not the one it was written with");
  }
  const std::string digest = Digest(mapped_);
  if (std::memcmp(mapped_.data() + kDigestStart, digest.data(), kDigestSize) != 0) {
    return Damaged("its checksum does not match");
  }
  shape_ = Read<ModelShape>(mapped_, kDigestEnd);
  if (const absl::Status checked = CheckShape(shape_); !checked.ok()) return checked;

  const auto sizes = Read<std::array<uint32_t, 4>>(mapped_, kDigestEnd + sizeof(ModelShape));
  std::array<std::string_view, 4> texts;
  size_t at = kTextsStart;
  for (size_t i = 0; i < texts.size(); ++i) {
    if (mapped_.size() - at < sizes[i]) return Damaged("its texts run past its end");
    texts[i] = {reinterpret_cast<const char*>(mapped_.data()) + at, sizes[i]};
    at += sizes[i];
  }
  id_ = std::string(texts[0]) + "@" + std::string(texts[1]) + "#" +
        absl::BytesToHexString(digest).substr(0, 12);
  prefix_ = texts[2];
  vocabulary_ = texts[3];

  WeightCursor cursor(mapped_, at);
  FindWeights(cursor);
  if (!cursor.AtEnd()) return Damaged("its weights do not fill it");
  return absl::OkStatus();
}

void ModelFile::FindWeights(WeightCursor& cursor) {
  const size_t width = shape_.width;
  piece_embeddings_ = cursor.Next(shape_.vocabulary * width);
  position_embeddings_ = cursor.Next(shape_.longest * width);
  embedding_norm_ = cursor.NextNorm(width);
  for (uint32_t i = 0; i < shape_.layers; ++i) {
    LayerWeights& layer = layers_.emplace_back();
    layer.query_key_value = cursor.NextDense(3 * width, width);
    layer.attention_output = cursor.NextDense(width, width);
    layer.attention_norm = cursor.NextNorm(width);
    layer.inner = cursor.NextDense(shape_.inner, width);
    layer.outer = cursor.NextDense(width, shape_.inner);
    layer.outer_norm = cursor.NextNorm(width);
  }
}

void ModelFile::ForgetLayers() const {
  const auto page = static_cast<uintptr_t>(sysconf(_SC_PAGESIZE));
  const auto first = reinterpret_cast<uintptr_t>(layers_.front().query_key_value.weight.data());
  const auto start = (first + page - 1) / page * page;
  const auto end = reinterpret_cast<uintptr_t>(mapped_.data() + mapped_.size());
  if (start < end) madvise(reinterpret_cast<void*>(start), end - start, MADV_DONTNEED);
}

}  // namespace holdfast::cache
