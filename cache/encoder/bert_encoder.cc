#include "cache/encoder/bert_encoder.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstring>
#include <mutex>
#include <oneapi/dnnl/dnnl.hpp>
#include <optional>
#include <string>

#include "cache/encoder/kernels.h"
#include "core/check.h"

// oneDNN's Debian build runs on OpenMP. A product on one thread is what we want: the caller
// decides how many calls run at once.
extern "C" void omp_set_num_threads(int count);

namespace holdfast::cache {

namespace {

using dnnl::memory;

// Tokens of one pass; with AVX2 a twelfth faster than half as many, with VNNI all the same.
constexpr size_t kPassTokens = 512;

bool ProcessorHas(dnnl::cpu_isa isa) {
#if defined(__x86_64__)
  const auto has = static_cast<unsigned>(dnnl::get_effective_cpu_isa());
  const auto wanted = static_cast<unsigned>(isa);
  return (has & wanted) == wanted;
#else
  (void)isa;
  return false;
#endif
}

const Kernels& FastestKernels() {
#if defined(__x86_64__)
  if (ProcessorHas(dnnl::cpu_isa::avx512_core)) return kAvx512Kernels;
  if (ProcessorHas(dnnl::cpu_isa::avx2) && __builtin_cpu_supports("fma") &&
      __builtin_cpu_supports("f16c")) {
    return kAvx2Kernels;
  }
#endif
  return kPlainKernels;
}

memory::data_type InputType(Arithmetic arithmetic) {
  switch (arithmetic) {
    case Arithmetic::kFloat:
      return memory::data_type::f32;
    case Arithmetic::kBfloat16:
      return memory::data_type::bf16;
    case Arithmetic::kBytes:
      return memory::data_type::u8;
  }
  HOLDFAST_CHECK(false);
}

memory::data_type WeightType(Arithmetic arithmetic) {
  return arithmetic == Arithmetic::kBytes ? memory::data_type::s8 : InputType(arithmetic);
}

memory::data_type ProductType(Arithmetic arithmetic) {
  return arithmetic == Arithmetic::kBytes ? memory::data_type::s32 : memory::data_type::f32;
}

// oneDNN compiles a product for one number of rows; these are the numbers we have.
std::vector<size_t> RowCounts(size_t most) {
  std::vector<size_t> counts;
  for (size_t rows = 8; rows < most; rows += rows < 64    ? 8
                                             : rows < 128 ? 16
                                             : rows < 256 ? 32
                                                          : 64) {
    counts.push_back(rows);
  }
  counts.push_back(most);
  return counts;
}

std::vector<float> ToFloats(const Kernels& kernels, std::span<const Half> halves) {
  std::vector<float> floats(halves.size());
  kernels.from_half(halves.data(), halves.size(), floats.data());
  return floats;
}

// Rows of activations as a product takes them.
struct InputRows {
  std::vector<float> floats;
  std::vector<uint16_t> bfloats;
  std::vector<uint8_t> bytes;
  std::vector<RowScale> scales;

  void Resize(Arithmetic arithmetic, size_t rows, size_t widest) {
    if (arithmetic == Arithmetic::kFloat) floats.resize(rows * widest);
    if (arithmetic == Arithmetic::kBfloat16) bfloats.resize(rows * widest);
    if (arithmetic == Arithmetic::kBytes) bytes.resize(rows * widest);
    scales.resize(rows);
  }
  void* data() {
    if (!bytes.empty()) return bytes.data();
    if (!bfloats.empty()) return bfloats.data();
    return floats.data();
  }
};

// What one call works with; kept for the next one.
struct Scratch {
  dnnl::stream stream;
  std::vector<float> states;  // the tokens' vectors, from layer to layer
  std::vector<float> attended;
  std::vector<float> attention;
  std::vector<float> row;  // of the inner width
  InputRows input;
  InputRows inner;
  std::vector<int32_t> products;  // or floats, as many bits
  std::vector<uint8_t> library;
};

float* AsFloats(std::vector<int32_t>& products) {
  return reinterpret_cast<float*>(products.data());
}

// The products of one shape, for each number of rows.
class Product {
 public:
  Product(const dnnl::engine& engine, Arithmetic arithmetic, size_t inputs, size_t outputs,
          const std::vector<size_t>& row_counts)
      : engine_(engine), arithmetic_(arithmetic), inputs_(inputs), outputs_(outputs) {
    weights_ = Describe(row_counts.back(), std::nullopt).weights_desc();
    for (const size_t rows : row_counts) {
      const auto description = Describe(rows, weights_);
      scratch_size_ = std::max(scratch_size_, description.scratchpad_desc().get_size());
      sizes_.push_back({rows, dnnl::matmul(description), description});
    }
  }

  size_t inputs() const { return inputs_; }
  size_t outputs() const { return outputs_; }
  size_t scratch_size() const { return scratch_size_; }

  // `plain` holds the weights output by output; the result is in the library's own order.
  memory Pack(const void* plain) const {
    memory from({Dims(inputs_, outputs_), WeightType(arithmetic_), memory::format_tag::ba}, engine_,
                const_cast<void*>(plain));
    memory to(weights_, engine_);
    dnnl::stream stream(engine_);
    dnnl::reorder(from, to).execute(stream, from, to);
    stream.wait();
    return to;
  }

  void Compute(const memory& weights, void* input, size_t rows, Scratch& scratch) const {
    const auto size = std::ranges::lower_bound(sizes_, rows, {}, &Size::rows);
    const auto& description = size->description;
    size->product.execute(
        scratch.stream,
        {{DNNL_ARG_SRC, memory(description.src_desc(), engine_, input)},
         {DNNL_ARG_WEIGHTS, weights},
         {DNNL_ARG_DST, memory(description.dst_desc(), engine_, scratch.products.data())},
         {DNNL_ARG_SCRATCHPAD,
          memory(description.scratchpad_desc(), engine_, scratch.library.data())}});
    scratch.stream.wait();
  }

 private:
  struct Size {
    size_t rows;
    dnnl::matmul product;
    dnnl::matmul::primitive_desc description;
  };

  static memory::dims Dims(size_t rows, size_t columns) {
    return {static_cast<memory::dim>(rows), static_cast<memory::dim>(columns)};
  }

  dnnl::matmul::primitive_desc Describe(size_t rows, std::optional<memory::desc> weights) const {
    const memory::desc input(Dims(rows, inputs_), InputType(arithmetic_), memory::format_tag::ab);
    const memory::desc output(Dims(rows, outputs_), ProductType(arithmetic_),
                              memory::format_tag::ab);
    if (!weights) {
      weights =
          memory::desc(Dims(inputs_, outputs_), WeightType(arithmetic_), memory::format_tag::any);
    }
    dnnl::primitive_attr attributes;
    attributes.set_scratchpad_mode(dnnl::scratchpad_mode::user);
    return {{input, *weights, output}, attributes, engine_};
  }

  const dnnl::engine& engine_;
  const Arithmetic arithmetic_;
  const size_t inputs_;
  const size_t outputs_;
  memory::desc weights_;
  std::vector<Size> sizes_;
  size_t scratch_size_ = 0;
};

// One dense layer: a product's weights in the arithmetic of the encoder, and their bias.
class Dense {
 public:
  Dense(const Product& product, const Kernels& kernels, Arithmetic arithmetic,
        const DenseWeights& weights)
      : product_(product),
        kernels_(kernels),
        arithmetic_(arithmetic),
        bias_(ToFloats(kernels, weights.bias)),
        weights_(Pack(ToFloats(kernels, weights.weight))) {}

  // Rows of floats, each of the product's inputs, to where Compute() takes them from.
  void SetInput(size_t row, const float* from, InputRows& to) const {
    const size_t size = product_.inputs();
    switch (arithmetic_) {
      case Arithmetic::kFloat:
        std::memcpy(to.floats.data() + row * size, from, size * sizeof(float));
        break;
      case Arithmetic::kBfloat16:
        kernels_.to_bfloat16(from, size, to.bfloats.data() + row * size);
        break;
      case Arithmetic::kBytes:
        to.scales[row] = kernels_.to_bytes(from, size, to.bytes.data() + row * size);
        break;
    }
  }
  void SetInputs(size_t rows, const float* from, InputRows& to) const {
    for (size_t row = 0; row < rows; ++row) SetInput(row, from + row * product_.inputs(), to);
  }

  void Compute(InputRows& input, size_t rows, Scratch& scratch) const {
    product_.Compute(weights_, input.data(), rows, scratch);
  }

  // A row of what Compute() computed from `input`, its bias added. `to` may be the row itself.
  void GetOutput(const InputRows& input, size_t row, Scratch& scratch, float* to) const {
    const size_t size = product_.outputs();
    const int32_t* products = scratch.products.data() + row * size;
    if (arithmetic_ == Arithmetic::kBytes) {
      kernels_.from_products(products, size, input.scales[row], {scales_.data(), sums_.data()}, to);
    } else if (static_cast<const void*>(products) != to) {
      std::memcpy(to, products, size * sizeof(float));
    }
    kernels_.add(bias_.data(), size, to);
  }

 private:
  memory Pack(const std::vector<float>& weights) {
    switch (arithmetic_) {
      case Arithmetic::kFloat:
        return product_.Pack(weights.data());
      case Arithmetic::kBfloat16: {
        std::vector<uint16_t> rounded(weights.size());
        kernels_.to_bfloat16(weights.data(), weights.size(), rounded.data());
        return product_.Pack(rounded.data());
      }
      case Arithmetic::kBytes:
        return product_.Pack(ToBytes(weights).data());
    }
    HOLDFAST_CHECK(false);
  }

  std::vector<int8_t> ToBytes(const std::vector<float>& weights) {
    const size_t inputs = product_.inputs();
    std::vector<int8_t> bytes(weights.size());
    for (size_t output = 0; output < product_.outputs(); ++output) {
      const std::span row(weights.data() + output * inputs, inputs);
      float largest = 0;
      for (const float weight : row) largest = std::max(largest, std::abs(weight));
      const float scale = largest > 0 ? largest / 127.0f : 1.0f;
      int sum = 0;
      for (size_t i = 0; i < inputs; ++i) {
        const auto byte = static_cast<int8_t>(std::nearbyint(row[i] / scale));
        bytes[output * inputs + i] = byte;
        sum += byte;
      }
      scales_.push_back(scale);
      sums_.push_back(static_cast<float>(sum));
    }
    return bytes;
  }

  const Product& product_;
  const Kernels& kernels_;
  const Arithmetic arithmetic_;
  const std::vector<float> bias_;
  std::vector<float> scales_;  // of bytes, for each output
  std::vector<float> sums_;
  const memory weights_;
};

struct LayerNorm {
  LayerNorm(const Kernels& kernels, const LayerNormWeights& weights)
      : gain(ToFloats(kernels, weights.gain)), bias(ToFloats(kernels, weights.bias)) {}
  std::vector<float> gain;
  std::vector<float> bias;
};

struct Products {
  Product query_key_value;
  Product attention_output;
  Product inner;
  Product outer;
};

struct Layer {
  Dense query_key_value;
  Dense attention_output;
  LayerNorm attention_norm;
  Dense inner;
  Dense outer;
  LayerNorm outer_norm;
};

}  // namespace

Arithmetic FastestArithmetic() {
  if (ProcessorHas(dnnl::cpu_isa::avx512_core_amx)) return Arithmetic::kBfloat16;
  if (ProcessorHas(dnnl::cpu_isa::avx512_core_vnni)) return Arithmetic::kBytes;
  return Arithmetic::kFloat;
}

const char* Name(Arithmetic arithmetic) {
  switch (arithmetic) {
    case Arithmetic::kFloat:
      return "f32";
    case Arithmetic::kBfloat16:
      return "bf16";
    case Arithmetic::kBytes:
      return "int8";
  }
  HOLDFAST_CHECK(false);
}

class BertEncoder::Implementation {
 public:
  Implementation(const ModelFile& model, Arithmetic arithmetic)
      : model_(model),
        shape_(model.shape()),
        arithmetic_(arithmetic),
        row_counts_(RowCounts(std::max<size_t>(kPassTokens, shape_.longest))),
        products_{MakeProduct(shape_.width, 3 * shape_.width),
                  MakeProduct(shape_.width, shape_.width), MakeProduct(shape_.width, shape_.inner),
                  MakeProduct(shape_.inner, shape_.width)},
        embedding_norm_(kernels_, model.embedding_norm()) {
    for (const LayerWeights& weights : model.layers()) layers_.push_back(MakeLayer(weights));
  }

  std::vector<std::vector<float>> Encode(std::span<const std::vector<int32_t>> texts) const {
    omp_set_num_threads(1);
    std::vector<std::vector<float>> vectors;
    vectors.reserve(texts.size());
    std::unique_ptr<Scratch> scratch = TakeScratch();
    while (!texts.empty()) {
      size_t count = 0;
      for (size_t tokens = 0; count < texts.size(); ++count) {
        tokens += texts[count].size();
        if (tokens > row_counts_.back()) break;
      }
      EncodePass(texts.first(count), *scratch, vectors);
      texts = texts.subspan(count);
    }
    ReturnScratch(std::move(scratch));
    return vectors;
  }

 private:
  Product MakeProduct(size_t inputs, size_t outputs) const {
    return {engine_, arithmetic_, inputs, outputs, row_counts_};
  }

  Dense MakeDense(const Product& product, const DenseWeights& weights) const {
    return {product, kernels_, arithmetic_, weights};
  }

  Layer MakeLayer(const LayerWeights& weights) const {
    return {MakeDense(products_.query_key_value, weights.query_key_value),
            MakeDense(products_.attention_output, weights.attention_output),
            {kernels_, weights.attention_norm},
            MakeDense(products_.inner, weights.inner),
            MakeDense(products_.outer, weights.outer),
            {kernels_, weights.outer_norm}};
  }

  // A pass over as many texts as have room in it, their tokens one after the other.
  void EncodePass(std::span<const std::vector<int32_t>> texts, Scratch& scratch,
                  std::vector<std::vector<float>>& vectors) const {
    size_t tokens = 0;
    size_t longest = 0;
    for (const auto& text : texts) {
      tokens += text.size();
      longest = std::max(longest, text.size());
    }
    Prepare(scratch, tokens, longest);
    Embed(texts, scratch);
    for (const Layer& layer : layers_) {
      Attend(layer, texts, tokens, scratch);
      Think(layer, tokens, scratch);
    }
    const float* states = scratch.states.data();
    for (const auto& text : texts) {
      vectors.push_back(Pool(states, text.size()));
      states += text.size() * shape_.width;
    }
  }

  void Prepare(Scratch& scratch, size_t tokens, size_t longest) const {
    const size_t rows = *std::ranges::lower_bound(row_counts_, tokens);
    const size_t widest = std::max(3 * shape_.width, shape_.inner);
    const auto grow = [](auto& buffer, size_t size) {
      if (buffer.size() < size) buffer.resize(size);
    };
    grow(scratch.states, rows * shape_.width);
    grow(scratch.attended, rows * shape_.width);
    grow(scratch.attention, AttentionScratch(longest, shape_.width, shape_.heads));
    grow(scratch.row, widest);
    grow(scratch.products, rows * widest);
    if (scratch.input.scales.size() < rows) {
      scratch.input.Resize(arithmetic_, rows, shape_.width);
      scratch.inner.Resize(arithmetic_, rows, shape_.inner);
    }
    for (const Product* product : {&products_.query_key_value, &products_.attention_output,
                                   &products_.inner, &products_.outer}) {
      grow(scratch.library, product->scratch_size());
    }
  }

  void Embed(std::span<const std::vector<int32_t>> texts, Scratch& scratch) const {
    const size_t width = shape_.width;
    float* state = scratch.states.data();
    for (const auto& text : texts) {
      for (size_t position = 0; position < text.size(); ++position, state += width) {
        const auto piece = static_cast<size_t>(text[position]);
        kernels_.from_half(&model_.piece_embeddings()[piece * width], width, state);
        kernels_.from_half(&model_.position_embeddings()[position * width], width,
                           scratch.row.data());
        kernels_.add(scratch.row.data(), width, state);
        Normalize(embedding_norm_, state);
      }
    }
  }

  void Attend(const Layer& layer, std::span<const std::vector<int32_t>> texts, size_t tokens,
              Scratch& scratch) const {
    const size_t width = shape_.width;
    const Dense& dense = layer.query_key_value;
    dense.SetInputs(tokens, scratch.states.data(), scratch.input);
    dense.Compute(scratch.input, tokens, scratch);
    float* rows = AsFloats(scratch.products);
    for (size_t row = 0; row < tokens; ++row) {
      dense.GetOutput(scratch.input, row, scratch, rows + row * 3 * width);
    }
    float* attended = scratch.attended.data();
    for (const auto& text : texts) {
      kernels_.attention(rows, text.size(), width, shape_.heads, scratch.attention.data(),
                         attended);
      rows += text.size() * 3 * width;
      attended += text.size() * width;
    }
    layer.attention_output.SetInputs(tokens, scratch.attended.data(), scratch.input);
    AddToStates(layer.attention_output, layer.attention_norm, scratch.input, tokens, scratch);
  }

  void Think(const Layer& layer, size_t tokens, Scratch& scratch) const {
    layer.inner.SetInputs(tokens, scratch.states.data(), scratch.input);
    layer.inner.Compute(scratch.input, tokens, scratch);
    for (size_t row = 0; row < tokens; ++row) {
      layer.inner.GetOutput(scratch.input, row, scratch, scratch.row.data());
      kernels_.gelu(scratch.row.data(), shape_.inner);
      layer.outer.SetInput(row, scratch.row.data(), scratch.inner);
    }
    AddToStates(layer.outer, layer.outer_norm, scratch.inner, tokens, scratch);
  }

  void AddToStates(const Dense& dense, const LayerNorm& norm, InputRows& input, size_t tokens,
                   Scratch& scratch) const {
    dense.Compute(input, tokens, scratch);
    for (size_t row = 0; row < tokens; ++row) {
      float* state = scratch.states.data() + row * shape_.width;
      dense.GetOutput(input, row, scratch, scratch.row.data());
      kernels_.add(scratch.row.data(), shape_.width, state);
      Normalize(norm, state);
    }
  }

  void Normalize(const LayerNorm& norm, float* state) const {
    kernels_.layer_norm(state, shape_.width, shape_.epsilon, norm.gain.data(), norm.bias.data());
  }

  std::vector<float> Pool(const float* states, size_t tokens) const {
    std::vector<float> vector(states, states + shape_.width);
    if (shape_.pooling == Pooling::kMean) {
      for (size_t token = 1; token < tokens; ++token) {
        kernels_.add(states + token * shape_.width, shape_.width, vector.data());
      }
    }
    float squares = 0;
    for (const float value : vector) squares += value * value;
    const float factor = squares > 0 ? 1.0f / std::sqrt(squares) : 0.0f;
    for (float& value : vector) value *= factor;
    return vector;
  }

  std::unique_ptr<Scratch> TakeScratch() const {
    const std::lock_guard lock(mutex_);
    if (spare_.empty()) return std::make_unique<Scratch>(Scratch{.stream = dnnl::stream(engine_)});
    auto scratch = std::move(spare_.back());
    spare_.pop_back();
    return scratch;
  }

  void ReturnScratch(std::unique_ptr<Scratch> scratch) const {
    const std::lock_guard lock(mutex_);
    spare_.push_back(std::move(scratch));
  }

  const ModelFile& model_;
  const ModelShape shape_;
  const Arithmetic arithmetic_;
  const Kernels& kernels_ = FastestKernels();
  const dnnl::engine engine_{dnnl::engine::kind::cpu, 0};
  const std::vector<size_t> row_counts_;
  const Products products_;
  const LayerNorm embedding_norm_;
  std::vector<Layer> layers_;

  mutable std::mutex mutex_;
  mutable std::vector<std::unique_ptr<Scratch>> spare_;
};

BertEncoder::BertEncoder(std::unique_ptr<Implementation> implementation)
    : implementation_(std::move(implementation)) {}

BertEncoder::~BertEncoder() = default;

absl::StatusOr<std::unique_ptr<BertEncoder>> BertEncoder::Create(const ModelFile& model,
                                                                 Arithmetic arithmetic) try {
  omp_set_num_threads(1);
  return std::unique_ptr<BertEncoder>(
      new BertEncoder(std::make_unique<Implementation>(model, arithmetic)));
} catch (const dnnl::error& error) {
  return absl::UnimplementedError("oneDNN cannot compute this model in " +
                                  std::string(Name(arithmetic)) + ": " + error.what());
}

absl::StatusOr<std::vector<std::vector<float>>> BertEncoder::Encode(
    std::span<const std::vector<int32_t>> texts) const try {
  return implementation_->Encode(texts);
} catch (const dnnl::error& error) {
  return absl::InternalError(std::string("oneDNN failed: ") + error.what());
}

}  // namespace holdfast::cache
