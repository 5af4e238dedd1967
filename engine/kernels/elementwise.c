/* Element by element: GELU and layer normalisation, each with the rounding that follows it. */
#include <math.h>

#include "avx512.h"
#include "kernels.h"

static inline void store_rounded(uint8_t *out, __mmask16 lanes, __m512 value, __m512 factor,
                                 __m512i zero_point) {
  /* Cut off before: what is too large for 32 bits, such as infinity, would become the least. */
  __m512 scaled = _mm512_min_ps(_mm512_set1_ps(255), _mm512_mul_ps(value, factor));
  __m512i level = _mm512_add_epi32(_mm512_cvtps_epi32(scaled), zero_point);
  level = _mm512_max_epi32(level, _mm512_setzero_si512());
  _mm512_mask_cvtusepi32_storeu_epi8(out, lanes, level);
}

typedef struct {
  __m512 low[4], high[4];
} Cubics;

static inline Cubics load_cubics(void) {
  Cubics table;
  for (int k = 0; k < 4; k++) {
    table.low[k] = _mm512_loadu_ps(gelu_tail[k]);
    table.high[k] = _mm512_loadu_ps(gelu_tail[k] + LANES);
  }
  return table;
}

/* See gelu_tail.c. */
static inline __m512 gelu(__m512 x, const Cubics *table) {
  __m512 place = _mm512_mul_ps(_mm512_abs_ps(x), _mm512_set1_ps(GELU_SEGMENTS / GELU_END));
  place = _mm512_min_ps(place, _mm512_set1_ps(GELU_SEGMENTS - 1e-5f));
  __m512i segment = _mm512_cvttps_epi32(place);
  __m512 u = _mm512_sub_ps(place, _mm512_add_ps(_mm512_cvtepi32_ps(segment), _mm512_set1_ps(0.5f)));
  __m512 g = _mm512_permutex2var_ps(table->low[3], segment, table->high[3]);
  for (int k = 2; k >= 0; k--)
    g = _mm512_fmadd_ps(g, u, _mm512_permutex2var_ps(table->low[k], segment, table->high[k]));
  return _mm512_sub_ps(_mm512_max_ps(_mm512_setzero_ps(), x), g);
}

void gelu_quantize(const float *x, size_t rows, size_t channels, Rounding rounding, uint8_t *out) {
  const Cubics table = load_cubics();
  const __m512i zero_point = _mm512_set1_epi32(rounding.zero_point);
  for (size_t row = 0; row < rows; row++, x += channels, out += channels)
    for (size_t at = 0; at < channels; at += LANES) {
      __mmask16 lanes = first_lanes(channels - at);
      __m512 value = gelu(_mm512_maskz_loadu_ps(lanes, x + at), &table);
      __m512 factor = _mm512_maskz_loadu_ps(lanes, rounding.factor + at);
      store_rounded(out + at, lanes, value, factor, zero_point);
    }
}

void add_norm_quantize(const float *left, const float *right, size_t channels, Norm norm,
                       Rounding rounding, float *out, uint8_t *rounded) {
  const __m512i zero_point = _mm512_set1_epi32(rounding.zero_point);
  __m512 total = _mm512_setzero_ps(), squares = _mm512_setzero_ps();
  for (size_t at = 0; at < channels; at += LANES) {
    __mmask16 lanes = first_lanes(channels - at);
    __m512 value = _mm512_add_ps(_mm512_maskz_loadu_ps(lanes, left + at),
                                 _mm512_maskz_loadu_ps(lanes, right + at));
    _mm512_mask_storeu_ps(out + at, lanes, value);
    total = _mm512_add_ps(total, value);
  }
  const __m512 mean = _mm512_set1_ps(_mm512_reduce_add_ps(total) / (float)channels);
  for (size_t at = 0; at < channels; at += LANES) {
    __mmask16 lanes = first_lanes(channels - at);
    __m512 off = _mm512_maskz_sub_ps(lanes, _mm512_maskz_loadu_ps(lanes, out + at), mean);
    squares = _mm512_fmadd_ps(off, off, squares);
  }
  const float variance = _mm512_reduce_add_ps(squares) / (float)channels;
  const __m512 deviation = _mm512_set1_ps(1 / sqrtf(variance + norm.epsilon));
  for (size_t at = 0; at < channels; at += LANES) {
    __mmask16 lanes = first_lanes(channels - at);
    __m512 off = _mm512_sub_ps(_mm512_maskz_loadu_ps(lanes, out + at), mean);
    __m512 scale = _mm512_maskz_loadu_ps(lanes, norm.scale + at);
    __m512 bias = _mm512_maskz_loadu_ps(lanes, norm.bias + at);
    __m512 value = _mm512_fmadd_ps(_mm512_mul_ps(off, deviation), scale, bias);
    _mm512_mask_storeu_ps(out + at, lanes, value);
    __m512 factor = _mm512_maskz_loadu_ps(lanes, rounding.factor + at);
    store_rounded(rounded + at, lanes, value, factor, zero_point);
  }
}
