// Batch norm, activation and 2x2 max-pool of maps (N, H, W, C) in two passes over memory each way.
//
// PyTorch makes a pass or two for each of the three, and reads or writes the whole maps in each. Here
// the forward pass reads them for the moments and again to write the result; the backward pass, which
// computes the activation anew, reads them for its sums and again to write the gradient. Maps are
// bfloat16 or float32; arithmetic is float32, rounded where PyTorch rounds between its operators,
// except between batch norm and activation. Sums are made of blocks of fixed size, in double precision
// over the blocks: results do not depend on the number of threads.
//
// Compiled for this machine by src/cpu/compiler.py, called by src/cpu/fused_norm.py.

#include <cmath>
#include <cstdint>
#include <cstring>
#include <vector>

namespace {

using Index = int64_t;

struct BFloat16 {
  uint16_t bits;
};

float value(BFloat16 number) {
  uint32_t bits = uint32_t(number.bits) << 16;
  float result;
  memcpy(&result, &bits, 4);
  return result;
}

float value(float number) { return number; }

// To the nearest, ties to even; NaN stays NaN.
uint16_t nearest(float number) {
  uint32_t bits;
  memcpy(&bits, &number, 4);
  uint32_t half = (bits + 0x7fffu + ((bits >> 16) & 1u)) >> 16;
  return uint16_t(number != number ? 0x7fc0u : half);
}

void store(BFloat16 &place, float number) { place.bits = nearest(number); }
void store(float &place, float number) { place = number; }

template <class T> float rounded(float number);
template <> float rounded<float>(float number) { return number; }
template <> float rounded<BFloat16>(float number) { return value(BFloat16{nearest(number)}); }

// The share of the standard normal distribution below y, to 2e-7. erf is the rational approximation
// of Eigen and XLA: https://gitlab.com/libeigen/eigen, generic_fast_erf_float.
float normal_share(float y) {
  float x = y * 0.70710678f;
  x = x < -4.f ? -4.f : x;
  x = x > 4.f ? 4.f : x;
  float s = x * x;
  float above = -2.72614225801306e-10f;
  above = above * s + 2.77068142495902e-08f;
  above = above * s - 2.10102402082508e-06f;
  above = above * s - 5.69250639462346e-05f;
  above = above * s - 7.34990630326855e-04f;
  above = above * s - 2.95459980854025e-03f;
  above = above * s - 1.60960333262415e-02f;
  float below = -1.45660718464996e-05f;
  below = below * s - 2.13374055278905e-04f;
  below = below * s - 1.68282697438203e-03f;
  below = below * s - 7.37332916720468e-03f;
  below = below * s - 1.42647390514189e-02f;
  return 0.5f + 0.5f * x * above / below;
}

// exp(x) of x <= 0: a power of two, and the Taylor series of 2^f for the rest f in [-1/2, 1/2].
float exponential(float x) {
  float t = x * 1.44269504f;
  t = t < -125.f ? -125.f : t;
  int whole = int(t - 0.5f);
  float f = t - float(whole);
  float p = 1.54035304e-4f;
  p = p * f + 1.33335581e-3f;
  p = p * f + 9.61812911e-3f;
  p = p * f + 5.55041087e-2f;
  p = p * f + 2.40226507e-1f;
  p = p * f + 6.93147181e-1f;
  p = p * f + 1.f;
  int32_t bits;
  memcpy(&bits, &p, 4);
  bits += whole << 23;
  memcpy(&p, &bits, 4);
  return p;
}

enum Activation { IDENTITY, RELU, GELU };

template <Activation A> float activated(float y) {
  if (A == RELU) return y < 0.f ? 0.f : y;  // NaN stays NaN
  if (A == GELU) return y * normal_share(y);
  return y;
}

template <Activation A> float slope(float y) {
  if (A == RELU) return y <= 0.f ? 0.f : 1.f;
  if (A == GELU) {
    float density = 0.39894228f * exponential(-0.5f * y * y);
    return normal_share(y) + y * density;
  }
  return 1.f;
}

struct Shape {
  Index batch, height, width, channels;
  int threads;

  Index rows() const { return batch * height * width; }
  // of maps after the pool, whose sides are even
  Index pooled_rows() const { return rows() / 4; }
  // the upper left of the four places of which a pooled row is made
  Index corner(Index pooled) const {
    Index half = width / 2, line = pooled / half, column = pooled % half;
    return (line * 2 * width + column * 2) * channels;
  }
  // threads for work on `count` rows: few rows are not worth waking them
  int threads_for(Index count) const { return count * channels < 16384 ? 1 : threads; }
};

// What the backward pass needs of each channel; y = (x - mean) * scale + bias.
struct Channels {
  float *mean, *variance, *inverse, *scale;
  const float *bias;
};

const Index BLOCK = 256;  // rows whose sums are made in float32

// sums (2, C): the two sums that add(row, sums, others) makes of each row.
template <class Add> void sum_rows(Index rows, const Shape &shape, double *sums, Add add) {
  Index width = 2 * shape.channels, blocks = (rows + BLOCK - 1) / BLOCK;
  std::vector<float> parts(size_t(blocks * width));
#pragma omp parallel for schedule(static) num_threads(shape.threads_for(rows))
  for (Index block = 0; block < blocks; block++) {
    float *part = &parts[size_t(block * width)];
    Index end = block + 1 == blocks ? rows : (block + 1) * BLOCK;
    for (Index row = block * BLOCK; row < end; row++) add(row, part, part + shape.channels);
  }
  for (Index i = 0; i < width; i++) sums[i] = 0;
  for (Index block = 0; block < blocks; block++)
    for (Index i = 0; i < width; i++) sums[i] += parts[size_t(block * width + i)];
}

// Mean and biased variance. Values are taken from that of the first row, so that nothing cancels.
template <class T> void moments(const T *x, const Shape &shape, const Channels &channels) {
  Index count = shape.channels, rows = shape.rows();
  std::vector<double> sums(size_t(2 * count));
  sum_rows(rows, shape, sums.data(), [=](Index row, float *first, float *second) {
    const T *values = x + row * count;
#pragma omp simd
    for (Index c = 0; c < count; c++) {
      float off = value(values[c]) - value(x[c]);
      first[c] += off;
      second[c] += off * off;
    }
  });
  for (Index c = 0; c < count; c++) {
    double off = sums[size_t(c)] / double(rows);
    double variance = sums[size_t(count + c)] / double(rows) - off * off;
    channels.mean[c] = float(value(x[c]) + off);
    channels.variance[c] = float(variance < 0 ? 0 : variance);
  }
}

template <class T, Activation A>
void forward(const T *x, const Shape &shape, const Channels &channels, T *z) {
  Index count = shape.channels, rows = shape.rows();
  const float *mean = channels.mean, *scale = channels.scale, *bias = channels.bias;
#pragma omp parallel for schedule(static) num_threads(shape.threads_for(rows))
  for (Index row = 0; row < rows; row++) {
    const T *values = x + row * count;
    T *results = z + row * count;
#pragma omp simd
    for (Index c = 0; c < count; c++)
      store(results[c], activated<A>((value(values[c]) - mean[c]) * scale[c] + bias[c]));
  }
}

// places: which of the four each maximum is, 0 to 3; the first of equal ones, as PyTorch chooses.
template <class T, Activation A>
void forward_pooled(const T *x, const Shape &shape, const Channels &channels, T *z, uint8_t *places) {
  Index count = shape.channels, rows = shape.pooled_rows();
  const float *mean = channels.mean, *scale = channels.scale, *bias = channels.bias;
#pragma omp parallel for schedule(static) num_threads(shape.threads_for(rows))
  for (Index row = 0; row < rows; row++) {
    const T *x0 = x + shape.corner(row), *x1 = x0 + count, *x2 = x0 + shape.width * count, *x3 = x2 + count;
    T *results = z + row * count;
    uint8_t *found = places + row * count;
#pragma omp simd
    for (Index c = 0; c < count; c++) {
      float y0 = rounded<T>(activated<A>((value(x0[c]) - mean[c]) * scale[c] + bias[c]));
      float y1 = rounded<T>(activated<A>((value(x1[c]) - mean[c]) * scale[c] + bias[c]));
      float y2 = rounded<T>(activated<A>((value(x2[c]) - mean[c]) * scale[c] + bias[c]));
      float y3 = rounded<T>(activated<A>((value(x3[c]) - mean[c]) * scale[c] + bias[c]));
      float most = y0;
      int place = 0;
      // NaN is the maximum wherever it stands; written so that the loop can be vectorised
      place = !(y1 <= most) ? 1 : place;
      most = !(y1 <= most) ? y1 : most;
      place = !(y2 <= most) ? 2 : place;
      most = !(y2 <= most) ? y2 : most;
      place = !(y3 <= most) ? 3 : place;
      most = !(y3 <= most) ? y3 : most;
      most = y0 != y0 ? y0 : most;
      most = y1 != y1 ? y1 : most;
      most = y2 != y2 ? y2 : most;
      store(results[c], most);
      found[c] = uint8_t(place);
    }
  }
}

// The gradient of what batch norm gives, into `of_y`, and its sums: alone, and times (x - mean).
template <class T, Activation A>
void through_activation(const T *x, const T *of_z, const Shape &shape, const Channels &channels,
                        T *of_y, double *sums) {
  Index count = shape.channels;
  const float *mean = channels.mean, *scale = channels.scale, *bias = channels.bias;
  sum_rows(shape.rows(), shape, sums, [=](Index row, float *first, float *second) {
    const T *values = x + row * count, *above = of_z + row * count;
    T *results = of_y + row * count;
#pragma omp simd
    for (Index c = 0; c < count; c++) {
      float off = value(values[c]) - mean[c];
      float gradient = rounded<T>(value(above[c]) * slope<A>(off * scale[c] + bias[c]));
      store(results[c], gradient);
      first[c] += gradient;
      second[c] += gradient * off;
    }
  });
}

// The same after a pool: of_z and of_y have a row for four, and `places` says whose it is.
template <class T, Activation A>
void through_pool(const T *x, const T *of_z, const uint8_t *places, const Shape &shape,
                  const Channels &channels, T *of_y, double *sums) {
  Index count = shape.channels;
  const float *mean = channels.mean, *scale = channels.scale, *bias = channels.bias;
  sum_rows(shape.pooled_rows(), shape, sums, [=](Index row, float *first, float *second) {
    const T *x0 = x + shape.corner(row), *x1 = x0 + count, *x2 = x0 + shape.width * count, *x3 = x2 + count;
    const T *above = of_z + row * count;
    const uint8_t *found = places + row * count;
    T *results = of_y + row * count;
#pragma omp simd
    for (Index c = 0; c < count; c++) {
      float v0 = value(x0[c]), v1 = value(x1[c]), v2 = value(x2[c]), v3 = value(x3[c]);
      int place = found[c];
      float off = (place == 0 ? v0 : place == 1 ? v1 : place == 2 ? v2 : v3) - mean[c];
      float gradient = rounded<T>(value(above[c]) * slope<A>(off * scale[c] + bias[c]));
      store(results[c], gradient);
      first[c] += gradient;
      second[c] += gradient * off;
    }
  });
}

// The gradient of x is of_y * scale + (x - mean) * tilt + shift, Ioffe & Szegedy 2015, section 3.
// of_y may be of_x.
template <class T>
void through_norm(const T *x, const T *of_y, const Shape &shape, const float *mean, const float *scale,
                  const float *tilt, const float *shift, T *of_x) {
  Index count = shape.channels, rows = shape.rows();
#pragma omp parallel for schedule(static) num_threads(shape.threads_for(rows))
  for (Index row = 0; row < rows; row++) {
    const T *values = x + row * count, *above = of_y + row * count;
    T *results = of_x + row * count;
#pragma omp simd
    for (Index c = 0; c < count; c++)
      store(results[c], value(above[c]) * scale[c] + (value(values[c]) - mean[c]) * tilt[c] + shift[c]);
  }
}

// The same with of_y of pooled maps.
template <class T>
void through_norm_pooled(const T *x, const T *of_y, const uint8_t *places, const Shape &shape,
                         const float *mean, const float *scale, const float *tilt, const float *shift,
                         T *of_x) {
  Index count = shape.channels, rows = shape.pooled_rows();
#pragma omp parallel for schedule(static) num_threads(shape.threads_for(rows))
  for (Index row = 0; row < rows; row++) {
    const T *above = of_y + row * count;
    const uint8_t *found = places + row * count;
    for (int place = 0; place < 4; place++) {
      Index at = shape.corner(row) + ((place / 2) * shape.width + place % 2) * count;
      const T *values = x + at;
      T *results = of_x + at;
#pragma omp simd
      for (Index c = 0; c < count; c++) {
        float gradient = value(above[c]) * scale[c];
        gradient = found[c] == place ? gradient : 0.f;
        store(results[c], gradient + (value(values[c]) - mean[c]) * tilt[c] + shift[c]);
      }
    }
  }
}

template <class T, Activation A>
void run_forward(const void *x, const Shape &shape, const Channels &channels, void *z, uint8_t *places) {
  if (places)
    forward_pooled<T, A>((const T *)x, shape, channels, (T *)z, places);
  else
    forward<T, A>((const T *)x, shape, channels, (T *)z);
}

template <class T, Activation A>
void run_backward(const void *x, const void *of_z, const uint8_t *places, const Shape &shape,
                  const Channels &channels, void *of_y, void *of_x, float *of_weight, float *of_bias) {
  Index count = shape.channels;
  std::vector<double> sums(size_t(2 * count));
  if (places)
    through_pool<T, A>((const T *)x, (const T *)of_z, places, shape, channels, (T *)of_y, sums.data());
  else
    through_activation<T, A>((const T *)x, (const T *)of_z, shape, channels, (T *)of_y, sums.data());
  std::vector<float> tilt(size_t(count), 0.f), shift(size_t(count), 0.f);
  for (Index c = 0; c < count; c++) {
    double inverse = channels.inverse[c], rows = double(shape.rows());
    of_bias[c] = float(sums[size_t(c)]);
    of_weight[c] = float(sums[size_t(count + c)] * inverse);
    tilt[size_t(c)] = float(-channels.scale[c] * inverse * inverse * sums[size_t(count + c)] / rows);
    shift[size_t(c)] = float(-channels.scale[c] * sums[size_t(c)] / rows);
  }
  if (places)
    through_norm_pooled((const T *)x, (const T *)of_y, places, shape, channels.mean, channels.scale,
                        tilt.data(), shift.data(), (T *)of_x);
  else
    through_norm((const T *)x, (const T *)of_y, shape, channels.mean, channels.scale, tilt.data(),
                 shift.data(), (T *)of_x);
}

// `moments`: (4, C), mean, variance, 1 / deviation and scale.
Channels channels_of(float *moments, const float *bias, Index count) {
  return {moments, moments + count, moments + 2 * count, moments + 3 * count, bias};
}

}  // namespace

#define WITH_ACTIVATION(name, T, ...)                 \
  switch (activation) {                               \
    case RELU: name<T, RELU>(__VA_ARGS__); break;     \
    case GELU: name<T, GELU>(__VA_ARGS__); break;     \
    default: name<T, IDENTITY>(__VA_ARGS__);          \
  }
#define WITH_TYPES(name, ...)                         \
  if (is_bfloat16) {                                  \
    WITH_ACTIVATION(name, BFloat16, __VA_ARGS__)      \
  } else {                                            \
    WITH_ACTIVATION(name, float, __VA_ARGS__)         \
  }

// measures: whether mean and variance are those of x; else they are read from `moments`.
// places: null without a pool.
extern "C" void fused_norm_forward(int is_bfloat16, int activation, int threads, int measures, const void *x,
                                   int64_t batch, int64_t height, int64_t width, int64_t count,
                                   const float *weight, const float *bias, double epsilon, float *moments_,
                                   void *z, uint8_t *places) {
  Shape shape{batch, height, width, count, threads};
  Channels channels = channels_of(moments_, bias, count);
  if (measures) {
    if (is_bfloat16)
      moments((const BFloat16 *)x, shape, channels);
    else
      moments((const float *)x, shape, channels);
  }
  for (Index c = 0; c < count; c++) {
    channels.inverse[c] = float(1 / std::sqrt(double(channels.variance[c]) + epsilon));
    channels.scale[c] = weight[c] * channels.inverse[c];
  }
  WITH_TYPES(run_forward, x, shape, channels, z, places)
}

// of_y: room for the gradient of what batch norm gives, of the shape of z; of_x itself without a pool.
extern "C" void fused_norm_backward(int is_bfloat16, int activation, int threads, const void *x,
                                    const void *of_z, const uint8_t *places, int64_t batch, int64_t height,
                                    int64_t width, int64_t count, const float *bias, float *moments_,
                                    void *of_y, void *of_x, float *of_weight, float *of_bias) {
  Shape shape{batch, height, width, count, threads};
  Channels channels = channels_of(moments_, bias, count);
  WITH_TYPES(run_backward, x, of_z, places, shape, channels, of_y, of_x, of_weight, of_bias)
}
