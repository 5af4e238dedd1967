/* Attention of one head in 16-bit integers, two products an instruction and lane.
 *
 * A query row, the keys and the values of a head are each scaled to the largest integers that can't
 * overflow, rounded, and scaled back. Up to a width of 32 that is 14 bits with the sign, at 128
 * still 13, where int8 has 8. Scales belong to the sequence, so other sequences of the batch change
 * nothing. Softmax is in fp32; its weights are rounded before they are divided by their sum, and
 * where too much of the sum would be lost, the row is mixed in fp32. What is infinite or no number
 * makes the row, or the whole head, no numbers.
 */
#include <float.h>
#include <math.h>
#include <string.h>

#include "avx512.h"
#include "kernels.h"

enum {
  ROWS = 8,      /* queries at a time: with two vectors of keys 16 sums; 12 were slower */
  BLOCK = 64,    /* keys whose weighted values are added up as integers */
  WEIGHT = 8191, /* the largest weight and value: BLOCK * WEIGHT * VALUE < 2^31 */
  VALUE = 4095,
};

/* Rows that lose more of their weights' sum to rounding, as where a long tail follows one key that
 * has it all, are mixed in fp32. */
static const float MOST_LOST = 1.0f / 512;

static inline size_t up_to(size_t value, size_t multiple) {
  return (value + multiple - 1) / multiple * multiple;
}

/* Where things lie in the scratch memory. A pair is two 16-bit integers in 32 bits. */
typedef struct {
  int32_t *query;  /* [ROWS, width / 2] pairs of columns */
  int32_t *key;    /* [keys / 16, width / 2, 16] pairs of columns */
  int32_t *value;  /* [keys / 2, width] pairs of rows */
  float *score;    /* [ROWS, keys], later the exact weights */
  int16_t *weight; /* [ROWS, keys] */
  size_t keys, width, pairs;
} Scratch;

/* Sizes filled up to whole vectors; the pointers are for lay_out. */
static Scratch sizes_of(HeadShape shape) {
  Scratch scratch = {.keys = up_to(shape.keys, LANES), .width = up_to(shape.width, 2 * LANES)};
  scratch.pairs = scratch.width / 2;
  return scratch;
}

size_t attention_scratch(HeadShape shape) {
  Scratch of = sizes_of(shape);
  return (of.keys * of.pairs + of.keys / 2 * of.width + ROWS * of.pairs) * sizeof(int32_t) +
         ROWS * of.keys * (sizeof(float) + sizeof(int16_t));
}

static Scratch lay_out(HeadShape shape, void *memory) {
  Scratch scratch = sizes_of(shape);
  scratch.key = memory;
  scratch.value = scratch.key + scratch.keys * scratch.pairs;
  scratch.query = scratch.value + scratch.keys / 2 * scratch.width;
  scratch.score = (float *)(scratch.query + ROWS * scratch.pairs);
  scratch.weight = (int16_t *)(scratch.score + ROWS * scratch.keys);
  return scratch;
}

static inline __m512 load_columns(const float *row, size_t at, size_t width) {
  return at < width ? _mm512_maskz_loadu_ps(first_lanes(width - at), row + at)
                    : _mm512_setzero_ps();
}

/* The largest absolute value; NaN where one is infinite or no number. */
static float largest(const float *rows, size_t count, size_t width, size_t stride) {
  __m512 most = _mm512_setzero_ps();
  __mmask16 undefined = 0;
  for (size_t row = 0; row < count; row++)
    for (size_t at = 0; at < width; at += LANES) {
      __m512 value = _mm512_abs_ps(load_columns(rows + row * stride, at, width));
      undefined |= _mm512_cmp_ps_mask(value, _mm512_set1_ps(FLT_MAX), _CMP_NLE_UQ);
      most = _mm512_max_ps(most, value);
    }
  return undefined ? NAN : _mm512_reduce_max_ps(most);
}

static inline __m512i integers(const float *row, size_t at, size_t width, float factor) {
  return _mm512_cvtps_epi32(_mm512_mul_ps(load_columns(row, at, width), _mm512_set1_ps(factor)));
}

static inline void store_pairs(int32_t *out, __m512i value) {
  _mm256_store_si256((__m256i *)out, _mm512_cvtsepi32_epi16(value));
}

static inline float factor_for(float most, float limit) { return most > 0 ? limit / most : 0; }

/* Turn [16, 16] of 32 bits. */
static inline void transpose(__m512i r[LANES]) {
  __m512i t[LANES];
  for (int i = 0; i < LANES; i += 2) {
    t[i] = _mm512_unpacklo_epi32(r[i], r[i + 1]);
    t[i + 1] = _mm512_unpackhi_epi32(r[i], r[i + 1]);
  }
  for (int i = 0; i < LANES; i += 4)
    for (int j = 0; j < 2; j++) {
      r[i + 2 * j] = _mm512_unpacklo_epi64(t[i + j], t[i + j + 2]);
      r[i + 2 * j + 1] = _mm512_unpackhi_epi64(t[i + j], t[i + j + 2]);
    }
  for (int i = 0; i < LANES; i += 8)
    for (int j = 0; j < 4; j++) {
      t[i + j] = _mm512_shuffle_i32x4(r[i + j], r[i + j + 4], 0x88);
      t[i + j + 4] = _mm512_shuffle_i32x4(r[i + j], r[i + j + 4], 0xdd);
    }
  for (int j = 0; j < 8; j++) {
    r[j] = _mm512_shuffle_i32x4(t[j], t[j + 8], 0x88);
    r[j + 8] = _mm512_shuffle_i32x4(t[j], t[j + 8], 0xdd);
  }
}

static void pack_keys(Scratch scratch, HeadShape shape, const float *key, float factor) {
  for (size_t first = 0; first < scratch.keys; first += LANES)
    for (size_t at = 0; at < scratch.width; at += 2 * LANES) {
      __m512i rows[LANES];
      for (size_t lane = 0; lane < LANES; lane++) {
        rows[lane] = _mm512_setzero_si512();
        if (first + lane >= shape.keys) continue;
        const float *row = key + (first + lane) * shape.stride;
        __m256i low = _mm512_cvtsepi32_epi16(integers(row, at, shape.width, factor));
        __m256i high = _mm512_cvtsepi32_epi16(integers(row, at + LANES, shape.width, factor));
        rows[lane] = _mm512_inserti64x4(_mm512_castsi256_si512(low), high, 1);
      }
      transpose(rows);
      int32_t *out = scratch.key + first * scratch.pairs + at / 2 * LANES;
      for (size_t pair = 0; pair < LANES; pair++)
        _mm512_store_si512(out + pair * LANES, rows[pair]);
    }
}

static void pack_values(Scratch scratch, HeadShape shape, const float *value, float factor) {
  const __m512i half = _mm512_set1_epi32(0xffff);
  for (size_t key = 0; key < scratch.keys; key += 2)
    for (size_t at = 0; at < scratch.width; at += LANES) {
      __m512i even = _mm512_setzero_si512(), odd = even;
      const float *row = value + key * shape.stride;
      if (key < shape.keys) even = integers(row, at, shape.width, factor);
      if (key + 1 < shape.keys) odd = integers(row + shape.stride, at, shape.width, factor);
      __m512i both = _mm512_or_si512(_mm512_and_si512(even, half), _mm512_slli_epi32(odd, 16));
      _mm512_store_si512(scratch.value + key / 2 * scratch.width + at, both);
    }
}

/* exp(x) of x <= 0, to 4e-6 of it: 2^n times a polynomial of the rest. 1e-38 is the least. */
static inline __m512 exponential(__m512 x) {
  x = _mm512_max_ps(x, _mm512_set1_ps(-87));
  __m512 n = _mm512_roundscale_ps(_mm512_mul_ps(x, _mm512_set1_ps(1.44269504f)), 8);
  __m512 r = _mm512_fnmadd_ps(n, _mm512_set1_ps(0.69314718f), x);
  __m512 p = _mm512_set1_ps(1.0f / 120);
  p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(1.0f / 24));
  p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(1.0f / 6));
  p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(0.5f));
  p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(1));
  p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(1));
  return _mm512_scalef_ps(p, n);
}

/* The scores of `rows` queries and `vectors` * 16 keys. */
INLINE void score_tile(Scratch scratch, size_t first, const float *factor, const size_t rows,
                       const size_t vectors) {
  __m512i sum[ROWS * 2];
  UNROLL for (size_t i = 0; i < rows * vectors; i++) sum[i] = _mm512_setzero_si512();
  const int32_t *key = scratch.key + first * scratch.pairs;
  for (size_t pair = 0; pair < scratch.pairs; pair++) {
    __m512i keys[2];
    UNROLL for (size_t v = 0; v < vectors; v++)
      keys[v] = _mm512_load_si512(key + (v * scratch.pairs + pair) * LANES);
    UNROLL for (size_t row = 0; row < rows; row++) {
      __m512i query = _mm512_set1_epi32(scratch.query[row * scratch.pairs + pair]);
      UNROLL for (size_t v = 0; v < vectors; v++)
        add_pairs(&sum[row * vectors + v], query, keys[v]);
    }
  }
  UNROLL for (size_t row = 0; row < rows; row++)
    UNROLL for (size_t v = 0; v < vectors; v++) {
      __m512 score = _mm512_cvtepi32_ps(sum[row * vectors + v]);
      _mm512_store_ps(scratch.score + row * scratch.keys + first + v * LANES,
                      _mm512_mul_ps(score, _mm512_set1_ps(factor[row])));
    }
}

typedef struct {
  float total;  /* what the exact weights add up to, of which the largest is 1 */
  int coarse;   /* whether rounding loses too much of it */
} Weighed;

/* Turn a row of scores into exact weights, and into rounded ones between 0 and WEIGHT. */
INLINE Weighed weigh(Scratch scratch, size_t keys, size_t row) {
  float *score = scratch.score + row * scratch.keys;
  int16_t *weight = scratch.weight + row * scratch.keys;
  const __m512 never = _mm512_set1_ps(-INFINITY);
  float *last = score + scratch.keys - LANES; /* beside keys it may hold what fills it up */
  const __mmask16 real = first_lanes(keys + LANES - scratch.keys);
  _mm512_store_ps(last, _mm512_mask_load_ps(never, real, last));
  __m512 most = never, total = _mm512_setzero_ps(), kept = total;
  for (size_t at = 0; at < scratch.keys; at += LANES)
    most = _mm512_max_ps(most, _mm512_load_ps(score + at));
  most = _mm512_set1_ps(_mm512_reduce_max_ps(most));
  for (size_t at = 0; at < scratch.keys; at += LANES) {
    __m512 raised = exponential(_mm512_sub_ps(_mm512_load_ps(score + at), most));
    _mm512_store_ps(score + at, raised);
    total = _mm512_add_ps(total, raised);
    __m512i level = _mm512_cvtps_epi32(_mm512_mul_ps(raised, _mm512_set1_ps(WEIGHT)));
    kept = _mm512_add_ps(kept, _mm512_cvtepi32_ps(level));
    _mm256_store_si256((__m256i *)(weight + at), _mm512_cvtepi32_epi16(level));
  }
  Weighed weighed = {_mm512_reduce_add_ps(total), 0};
  const float lost = weighed.total - _mm512_reduce_add_ps(kept) / WEIGHT;
  weighed.coarse = fabsf(lost) > MOST_LOST * weighed.total;
  return weighed;
}

/* The same as mix_tile for one row, by its exact weights. */
static void mix_exactly(Scratch scratch, HeadShape shape, size_t row, float total,
                        const float *value, float *out) {
  const float *weight = scratch.score + row * scratch.keys;
  for (size_t at = 0; at < shape.width; at += LANES) {
    const __mmask16 lanes = first_lanes(shape.width - at);
    __m512 sum = _mm512_setzero_ps();
    for (size_t key = 0; key < shape.keys; key++)
      sum = _mm512_fmadd_ps(_mm512_set1_ps(weight[key]),
                            _mm512_maskz_loadu_ps(lanes, value + key * shape.stride + at), sum);
    _mm512_mask_storeu_ps(out + at, lanes, _mm512_mul_ps(sum, _mm512_set1_ps(1 / total)));
  }
}

/* The weighted sum of 16 * `vectors` columns of the values, for `rows` queries. */
INLINE void mix_tile(Scratch scratch, HeadShape shape, size_t first, const float *factor,
                     float *out, const size_t rows, const size_t vectors) {
  __m512 total[ROWS * 2];
  UNROLL for (size_t i = 0; i < rows * vectors; i++) total[i] = _mm512_setzero_ps();
  for (size_t block = 0; block < scratch.keys; block += BLOCK) {
    size_t end = block + BLOCK < scratch.keys ? block + BLOCK : scratch.keys;
    __m512i sum[ROWS * 2];
    UNROLL for (size_t i = 0; i < rows * vectors; i++) sum[i] = _mm512_setzero_si512();
    for (size_t key = block; key < end; key += 2) {
      __m512i values[2];
      UNROLL for (size_t v = 0; v < vectors; v++)
        values[v] = _mm512_load_si512(scratch.value + key / 2 * scratch.width + first + v * LANES);
      UNROLL for (size_t row = 0; row < rows; row++) {
        int32_t pair;
        memcpy(&pair, scratch.weight + row * scratch.keys + key, sizeof pair);
        UNROLL for (size_t v = 0; v < vectors; v++)
          add_pairs(&sum[row * vectors + v], _mm512_set1_epi32(pair), values[v]);
      }
    }
    UNROLL for (size_t i = 0; i < rows * vectors; i++)
      total[i] = _mm512_add_ps(total[i], _mm512_cvtepi32_ps(sum[i]));
  }
  UNROLL for (size_t row = 0; row < rows; row++)
    UNROLL for (size_t v = 0; v < vectors; v++) {
      size_t at = first + v * LANES;
      if (at < shape.width)
        _mm512_mask_storeu_ps(out + row * shape.stride + at, first_lanes(shape.width - at),
                              _mm512_mul_ps(total[row * vectors + v],
                                            _mm512_set1_ps(factor[row])));
    }
}

static void undefined_row(HeadShape shape, float *out) {
  for (size_t column = 0; column < shape.width; column++) out[column] = NAN;
}

/* A head of a sequence, packed. */
typedef struct {
  Scratch scratch;
  HeadShape shape;
  const float *value;
  float limit, key_size, value_size;
} Head;

INLINE void attend_rows(const Head *head, const float *query, float *out, const size_t rows) {
  const Scratch scratch = head->scratch;
  const HeadShape shape = head->shape;
  float factor[ROWS];
  for (size_t row = 0; row < rows; row++) {
    const float *from = query + row * shape.stride;
    float most = largest(from, 1, shape.width, shape.stride);
    for (size_t at = 0; at < scratch.width; at += LANES)
      store_pairs(scratch.query + row * scratch.pairs + at / 2,
                  integers(from, at, shape.width, factor_for(most, head->limit)));
    factor[row] = most / head->limit * head->key_size / head->limit / sqrtf((float)shape.width);
  }
  size_t first = 0;
  for (; first + 2 * LANES <= scratch.keys; first += 2 * LANES)
    score_tile(scratch, first, factor, rows, 2);
  if (first < scratch.keys) score_tile(scratch, first, factor, rows, 1);
  Weighed weighed[ROWS];
  float mixed_by[ROWS];
  for (size_t row = 0; row < rows; row++) {
    weighed[row] = weigh(scratch, shape.keys, row);
    mixed_by[row] = head->value_size / VALUE / WEIGHT / weighed[row].total;
  }
  for (first = 0; first < scratch.width; first += 2 * LANES)
    mix_tile(scratch, shape, first, mixed_by, out, rows, 2);
  for (size_t row = 0; row < rows; row++) {
    float *to = out + row * shape.stride;
    if (isnan(factor[row]))
      undefined_row(shape, to);
    else if (weighed[row].coarse)
      mix_exactly(scratch, shape, row, weighed[row].total, head->value, to);
  }
}

void attend(HeadShape shape, const float *query, const float *key, const float *value, float *out,
            void *memory) {
  Head head = {.scratch = lay_out(shape, memory), .shape = shape, .value = value};
  /* Sums of products over the width stay below 2^31. */
  head.limit = floorf(sqrtf(2147483000.0f / (float)head.scratch.width));
  head.key_size = largest(key, shape.keys, shape.width, shape.stride);
  head.value_size = largest(value, shape.keys, shape.width, shape.stride);
  if (isnan(head.key_size) || isnan(head.value_size)) {
    for (size_t row = 0; row < shape.queries; row++)
      undefined_row(shape, out + row * shape.stride);
    return;
  }
  pack_keys(head.scratch, shape, key, factor_for(head.key_size, head.limit));
  pack_values(head.scratch, shape, value, factor_for(head.value_size, VALUE));
  size_t row = 0;
#define ATTEND(COUNT)                                     \
  for (; row + COUNT <= shape.queries; row += COUNT)      \
  attend_rows(&head, query + row * shape.stride, out + row * shape.stride, COUNT)
  ATTEND(ROWS);
  ATTEND(4);
  ATTEND(1);
}
