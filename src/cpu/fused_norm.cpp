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

  Index positions() const { return batch * height * width; }
  // threads for work on `count` positions: few of them are not worth waking them
  int threads_for(Index count) const { return count * channels < 16384 ? 1 : threads; }
};

// What the backward pass needs of each channel; y = (x - mean) * scale + bias.
struct Channels {
  float *mean, *variance, *inverse, *scale;
  const float *bias;
};

const Index LANES = 64;   // numbers of which every type fills vectors of 512 bits
const Index BLOCK = 256;  // strips whose sums are made in float32

// Calls work(lane) for each of `count` numbers, in loops of a fixed length, which become vectors.
template <class Work> inline void each_lane(Index count, Work work) {
  Index lane = 0;
  for (; lane + LANES <= count; lane += LANES) {
#pragma omp simd
    for (Index i = 0; i < LANES; i++) work(lane + i);
  }
  for (; lane < count; lane++) work(lane);
}

// Maps are worked on in strips of positions side by side. Each position is a piece of work, or all of
// them together if the channels of one do not fill vectors, such as 20.
struct Strips {
  Index count, positions, channels;
  Index lanes;  // of a piece; those of pooled maps are rounded up to whole vectors
  Index block;  // strips whose sums are made in float32
  int threads;

  Index size() const { return positions * channels; }
  bool single() const { return lanes == channels; }
  Index pieces() const { return single() ? positions : 1; }
};

Strips strips_of(const Shape &shape) {
  Index together = LANES;
  while (together > 1 && shape.channels % (2 * LANES / together) == 0) together /= 2;
  Index count = (shape.positions() + together - 1) / together, size = together * shape.channels;
  return {count, together, shape.channels, size, BLOCK, shape.threads_for(shape.positions())};
}

// Strips of maps after the pool, whose sides are even: lines.
Strips pooled_strips_of(const Shape &shape) {
  bool single = shape.channels % LANES == 0;
  Index pooled = shape.positions() / 4, line = shape.width / 2;
  Index lanes = single ? shape.channels : (line * shape.channels + LANES - 1) / LANES * LANES;
  return {pooled / line, line, shape.channels, lanes, BLOCK / 16, shape.threads_for(pooled)};
}

// Numbers of a strip: where they stand if its pieces fill vectors, else a copy that is filled up.
template <class T> class Row {
 public:
  explicit Row(const Strips &strips)
      : size(size_t(strips.size())), room(size % LANES ? size_t(strips.lanes) : 0) {}
  const T *read(const T *source) {
    if (room.empty()) return source;
    memcpy(room.data(), source, size * sizeof(T));
    return room.data();
  }
  T *open(T *target) { return room.empty() ? target : room.data(); }
  void write(T *target) {
    if (!room.empty()) memcpy(target, room.data(), size * sizeof(T));
  }

 private:
  size_t size;
  std::vector<T> room;
};

// The numbers before the pool of a line of pooled positions: four rows, upper left to lower right. Those
// of a position stand where they are, two positions from the next, or are copied side by side.
template <class T> class Corners {
 public:
  T *row[4];

  Corners(const Shape &shape, const Strips &strips)
      : shape(shape), strips(strips), room(strips.single() ? 0 : size_t(4 * strips.lanes)) {
    for (int corner = 0; corner < 4; corner++) row[corner] = room.data() + corner * strips.lanes;
  }
  void read(const T *x, Index strip) {
    place(const_cast<T *>(x), strip);
    if (room.empty()) return;
    for (Index position = 0; position < strips.positions; position++)
      for (int corner = 0; corner < 4; corner++)
        memcpy(row[corner] + position * strips.channels, at(position, corner), bytes());
  }
  void open(T *x, Index strip) { place(x, strip); }
  void write() {
    if (room.empty()) return;
    for (Index position = 0; position < strips.positions; position++)
      for (int corner = 0; corner < 4; corner++)
        memcpy(at(position, corner), row[corner] + position * strips.channels, bytes());
  }

 private:
  const Shape &shape;
  const Strips &strips;
  std::vector<T> room;
  T *upper_left = nullptr;

  void place(T *x, Index strip) {
    upper_left = x + strip * 2 * shape.width * shape.channels;
    if (room.empty())
      for (int corner = 0; corner < 4; corner++) row[corner] = at(0, corner);
  }
  T *at(Index position, int corner) const {
    return upper_left + (corner / 2 * shape.width + 2 * position + corner % 2) * shape.channels;
  }
  size_t bytes() const { return size_t(strips.channels) * sizeof(T); }
};

// `values` of the channels, repeated for each lane of a strip.
std::vector<float> repeated(const float *values, const Strips &strips) {
  std::vector<float> lanes(size_t(strips.lanes), 0.f);
  for (Index lane = 0; lane < strips.lanes; lane++) lanes[size_t(lane)] = values[lane % strips.channels];
  return lanes;
}

// Calls work(i, at, c) for the numbers of a strip of pooled positions: its place in the strip, in the rows
// of Corners, and in those of `repeated`.
template <class Work> inline void each_piece(const Strips &strips, Work work) {
  for (Index piece = 0; piece < strips.pieces(); piece++) {
    Index start = piece * strips.channels;
    each_lane(strips.lanes, [=](Index lane) { work(start + lane, 2 * start + lane, lane); });
  }
}

// Calls work(block, first, end) for the blocks of strips, each of them by one thread.
template <class Work> void each_block(const Strips &strips, Work work) {
  Index blocks = (strips.count + strips.block - 1) / strips.block;
#pragma omp parallel for schedule(static) num_threads(strips.threads)
  for (Index block = 0; block < blocks; block++) {
    Index end = block + 1 == blocks ? strips.count : (block + 1) * strips.block;
    work(block, block * strips.block, end);
  }
}

// sums (2, C): the two sums over positions that work(first, end, sums, others) adds up by lanes.
template <class Work> void sum_blocks(const Strips &strips, double *sums, Work work) {
  Index width = 2 * strips.lanes, blocks = (strips.count + strips.block - 1) / strips.block;
  std::vector<float> parts(size_t(blocks * width));
  each_block(strips, [&](Index block, Index first, Index end) {
    float *part = &parts[size_t(block * width)];
    work(first, end, part, part + strips.lanes);
  });
  std::vector<double> totals(size_t(width), 0.);
  for (Index block = 0; block < blocks; block++)
    for (Index i = 0; i < width; i++) totals[size_t(i)] += parts[size_t(block * width + i)];
  for (Index c = 0; c < 2 * strips.channels; c++) sums[c] = 0;
  Index filled = strips.single() ? strips.lanes : strips.size();
  for (Index lane = 0; lane < filled; lane++) {
    sums[lane % strips.channels] += totals[size_t(lane)];
    sums[strips.channels + lane % strips.channels] += totals[size_t(strips.lanes + lane)];
  }
}

// Numbers of a strip of maps that are not pooled; the last strip may be shorter.
Index size_of(Index strip, const Strips &strips, const Shape &shape) {
  Index rest = shape.positions() * strips.channels - strip * strips.lanes;
  return rest < strips.lanes ? rest : strips.lanes;
}

// Mean and biased variance. Values are taken from that of the first position, so that nothing cancels.
template <class T> void moments(const T *x, const Shape &shape, const Channels &channels) {
  Strips strips = strips_of(shape);
  std::vector<float> origins(size_t(shape.channels), 0.f);
  for (Index c = 0; c < shape.channels; c++) origins[size_t(c)] = value(x[c]);
  std::vector<float> lanes = repeated(origins.data(), strips);
  std::vector<double> sums(size_t(2 * shape.channels));
  const float *origin = lanes.data();
  sum_blocks(strips, sums.data(), [=](Index begin, Index end, float *first, float *second) {
    for (Index strip = begin; strip < end; strip++) {
      const T *values = x + strip * strips.lanes;
      each_lane(size_of(strip, strips, shape), [=](Index i) {
        float off = value(values[i]) - origin[i];
        first[i] += off;
        second[i] += off * off;
      });
    }
  });
  for (Index c = 0; c < shape.channels; c++) {
    double count = double(shape.positions()), off = sums[size_t(c)] / count;
    double variance = sums[size_t(shape.channels + c)] / count - off * off;
    channels.mean[c] = float(value(x[c]) + off);
    channels.variance[c] = float(variance < 0 ? 0 : variance);
  }
}

template <class T, Activation A>
void forward(const T *x, const Shape &shape, const Channels &channels, T *z) {
  Strips strips = strips_of(shape);
  std::vector<float> means = repeated(channels.mean, strips), scales = repeated(channels.scale, strips),
                     biases = repeated(channels.bias, strips);
  const float *mean = means.data(), *scale = scales.data(), *bias = biases.data();
  each_block(strips, [=](Index, Index begin, Index end) {
    for (Index strip = begin; strip < end; strip++) {
      const T *values = x + strip * strips.lanes;
      T *results = z + strip * strips.lanes;
      each_lane(size_of(strip, strips, shape), [=](Index i) {
        store(results[i], activated<A>((value(values[i]) - mean[i]) * scale[i] + bias[i]));
      });
    }
  });
}

// places: which of the four each maximum is, 0 to 3; the first of equal ones, as PyTorch chooses.
template <class T, Activation A>
void forward_pooled(const T *x, const Shape &shape, const Channels &channels, T *z, uint8_t *places) {
  Strips strips = pooled_strips_of(shape);
  std::vector<float> means = repeated(channels.mean, strips), scales = repeated(channels.scale, strips),
                     biases = repeated(channels.bias, strips);
  const float *mean = means.data(), *scale = scales.data(), *bias = biases.data();
  each_block(strips, [=](Index, Index begin, Index end) {
    Corners<T> corners(shape, strips);
    Row<T> z_row(strips);
    Row<uint8_t> place_row(strips);
    for (Index strip = begin; strip < end; strip++) {
      Index start = strip * strips.size();
      corners.read(x, strip);
      const T *x0 = corners.row[0], *x1 = corners.row[1], *x2 = corners.row[2], *x3 = corners.row[3];
      T *results = z_row.open(z + start);
      uint8_t *found = place_row.open(places + start);
      each_piece(strips, [=](Index i, Index at, Index c) {
        float y0 = rounded<T>(activated<A>((value(x0[at]) - mean[c]) * scale[c] + bias[c]));
        float y1 = rounded<T>(activated<A>((value(x1[at]) - mean[c]) * scale[c] + bias[c]));
        float y2 = rounded<T>(activated<A>((value(x2[at]) - mean[c]) * scale[c] + bias[c]));
        float y3 = rounded<T>(activated<A>((value(x3[at]) - mean[c]) * scale[c] + bias[c]));
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
        store(results[i], most);
        found[i] = uint8_t(place);
      });
      z_row.write(z + start);
      place_row.write(places + start);
    }
  });
}

// The gradient of what batch norm gives, into `grad_y`, and its sums: alone, and times (x - mean).
template <class T, Activation A>
void through_activation(const T *x, const T *grad_output, const Shape &shape, const Channels &channels,
                        T *grad_y, double *sums) {
  Strips strips = strips_of(shape);
  std::vector<float> means = repeated(channels.mean, strips), scales = repeated(channels.scale, strips),
                     biases = repeated(channels.bias, strips);
  const float *mean = means.data(), *scale = scales.data(), *bias = biases.data();
  sum_blocks(strips, sums, [=](Index begin, Index end, float *first, float *second) {
    for (Index strip = begin; strip < end; strip++) {
      const T *values = x + strip * strips.lanes, *above = grad_output + strip * strips.lanes;
      T *results = grad_y + strip * strips.lanes;
      each_lane(size_of(strip, strips, shape), [=](Index i) {
        float off = value(values[i]) - mean[i];
        float gradient = rounded<T>(value(above[i]) * slope<A>(off * scale[i] + bias[i]));
        store(results[i], gradient);
        first[i] += gradient;
        second[i] += gradient * off;
      });
    }
  });
}

// The same after a pool: grad_output and grad_y have a position for four, and `places` says whose it is.
template <class T, Activation A>
void through_pool(const T *x, const T *grad_output, const uint8_t *places, const Shape &shape,
                  const Channels &channels, T *grad_y, double *sums) {
  Strips strips = pooled_strips_of(shape);
  std::vector<float> means = repeated(channels.mean, strips), scales = repeated(channels.scale, strips),
                     biases = repeated(channels.bias, strips);
  const float *mean = means.data(), *scale = scales.data(), *bias = biases.data();
  sum_blocks(strips, sums, [=](Index begin, Index end, float *first, float *second) {
    Corners<T> corners(shape, strips);
    Row<T> z_row(strips), y_row(strips);
    Row<uint8_t> place_row(strips);
    for (Index strip = begin; strip < end; strip++) {
      Index start = strip * strips.size();
      corners.read(x, strip);
      const T *x0 = corners.row[0], *x1 = corners.row[1], *x2 = corners.row[2], *x3 = corners.row[3];
      const T *above = z_row.read(grad_output + start);
      const uint8_t *found = place_row.read(places + start);
      T *results = y_row.open(grad_y + start);
      each_piece(strips, [=](Index i, Index at, Index c) {
        float v0 = value(x0[at]), v1 = value(x1[at]), v2 = value(x2[at]), v3 = value(x3[at]);
        int place = found[i];
        float off = (place == 0 ? v0 : place == 1 ? v1 : place == 2 ? v2 : v3) - mean[c];
        float gradient = rounded<T>(value(above[i]) * slope<A>(off * scale[c] + bias[c]));
        store(results[i], gradient);
        first[c] += gradient;
        second[c] += gradient * off;
      });
      y_row.write(grad_y + start);
    }
  });
}

// The gradient of x is grad_y * scale + (x - mean) * tilt + shift, Ioffe & Szegedy 2015, section 3.
// grad_y may be grad_input.
template <class T>
void through_norm(const T *x, const T *grad_y, const Shape &shape, const Channels &channels,
                  const float *tilts, const float *shifts, T *grad_input) {
  Strips strips = strips_of(shape);
  std::vector<float> means = repeated(channels.mean, strips), scales = repeated(channels.scale, strips),
                     tilts_ = repeated(tilts, strips), shifts_ = repeated(shifts, strips);
  const float *mean = means.data(), *scale = scales.data(), *tilt = tilts_.data(), *shift = shifts_.data();
  each_block(strips, [=](Index, Index begin, Index end) {
    for (Index strip = begin; strip < end; strip++) {
      const T *values = x + strip * strips.lanes, *above = grad_y + strip * strips.lanes;
      T *results = grad_input + strip * strips.lanes;
      each_lane(size_of(strip, strips, shape), [=](Index i) {
        store(results[i], value(above[i]) * scale[i] + (value(values[i]) - mean[i]) * tilt[i] + shift[i]);
      });
    }
  });
}

// The same with grad_y of pooled maps.
template <class T>
void through_norm_pooled(const T *x, const T *grad_y, const uint8_t *places, const Shape &shape,
                         const Channels &channels, const float *tilts, const float *shifts, T *grad_input) {
  Strips strips = pooled_strips_of(shape);
  std::vector<float> means = repeated(channels.mean, strips), scales = repeated(channels.scale, strips),
                     tilts_ = repeated(tilts, strips), shifts_ = repeated(shifts, strips);
  const float *mean = means.data(), *scale = scales.data(), *tilt = tilts_.data(), *shift = shifts_.data();
  each_block(strips, [=](Index, Index begin, Index end) {
    Corners<T> seen(shape, strips), made(shape, strips);
    Row<T> y_row(strips);
    Row<uint8_t> place_row(strips);
    for (Index strip = begin; strip < end; strip++) {
      Index start = strip * strips.size();
      const T *above = y_row.read(grad_y + start);
      const uint8_t *found = place_row.read(places + start);
      seen.read(x, strip);
      made.open(grad_input, strip);
      for (int place = 0; place < 4; place++) {
        const T *values = seen.row[place];
        T *results = made.row[place];
        each_piece(strips, [=](Index i, Index at, Index c) {
          float gradient = value(above[i]) * scale[c];
          gradient = found[i] == place ? gradient : 0.f;
          store(results[at], gradient + (value(values[at]) - mean[c]) * tilt[c] + shift[c]);
        });
      }
      made.write();
    }
  });
}

template <class T, Activation A>
void run_forward(const void *x, const Shape &shape, const Channels &channels, void *z, uint8_t *places) {
  if (places)
    forward_pooled<T, A>((const T *)x, shape, channels, (T *)z, places);
  else
    forward<T, A>((const T *)x, shape, channels, (T *)z);
}

template <class T, Activation A>
void run_backward(const void *x, const void *grad_output, const uint8_t *places, const Shape &shape,
                  const Channels &channels, void *grad_y, void *grad_input, float *grad_weight,
                  float *grad_bias) {
  Index count = shape.channels;
  std::vector<double> sums(size_t(2 * count));
  if (places)
    through_pool<T, A>((const T *)x, (const T *)grad_output, places, shape, channels, (T *)grad_y,
                       sums.data());
  else
    through_activation<T, A>((const T *)x, (const T *)grad_output, shape, channels, (T *)grad_y, sums.data());
  std::vector<float> tilt(size_t(count), 0.f), shift(size_t(count), 0.f);
  for (Index c = 0; c < count; c++) {
    double inverse = channels.inverse[c], positions = double(shape.positions());
    grad_bias[c] = float(sums[size_t(c)]);
    grad_weight[c] = float(sums[size_t(count + c)] * inverse);
    tilt[size_t(c)] = float(-channels.scale[c] * inverse * inverse * sums[size_t(count + c)] / positions);
    shift[size_t(c)] = float(-channels.scale[c] * sums[size_t(c)] / positions);
  }
  if (places)
    through_norm_pooled((const T *)x, (const T *)grad_y, places, shape, channels, tilt.data(), shift.data(),
                        (T *)grad_input);
  else
    through_norm((const T *)x, (const T *)grad_y, shape, channels, tilt.data(), shift.data(),
                 (T *)grad_input);
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

// grad_y: room for the gradient of what batch norm gives, of the shape of z; without a pool it is
// grad_input itself.
extern "C" void fused_norm_backward(int is_bfloat16, int activation, int threads, const void *x,
                                    const void *grad_output, const uint8_t *places, int64_t batch,
                                    int64_t height, int64_t width, int64_t count,
                                    const float *bias, float *moments_,
                                    void *grad_y, void *grad_input, float *grad_weight, float *grad_bias) {
  Shape shape{batch, height, width, count, threads};
  Channels channels = channels_of(moments_, bias, count);
  WITH_TYPES(run_backward, x, grad_output, places, shape, channels, grad_y, grad_input, grad_weight,
             grad_bias)
}
