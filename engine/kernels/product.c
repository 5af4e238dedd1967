/* Matrix products of uint8 rows and int8 weights, four products an instruction and lane.
 *
 * Weights are packed once, into panels of 16 columns: [columns / 16][depth / 4][16][4], with zeros
 * where the depth or the columns do not fill one. Sums of integers are exact in any order.
 */
#include <string.h>

#include "avx512.h"
#include "kernels.h"

enum {
  ROWS = 6, /* with four panels 24 sums, as many as fit beside a row's bytes and the weights */
  PANELS = 4,
};

static size_t groups(size_t depth) { return (depth + 3) / 4; }
static size_t panels(size_t columns) { return (columns + LANES - 1) / LANES; }

size_t packed_bytes(size_t depth, size_t columns) {
  return panels(columns) * groups(depth) * LANES * 4;
}

void pack_weights(const int8_t *weights, size_t depth, size_t columns, int8_t *packed,
                  int32_t *sums) {
  memset(packed, 0, packed_bytes(depth, columns));
  memset(sums, 0, panels(columns) * LANES * sizeof *sums);
  for (size_t k = 0; k < depth; k++)
    for (size_t column = 0; column < columns; column++) {
      size_t panel = column / LANES, lane = column % LANES;
      int8_t weight = weights[k * columns + column];
      packed[((panel * groups(depth) + k / 4) * LANES + lane) * 4 + k % 4] = weight;
      sums[column] += weight;
    }
}

/* `count` bytes of a row, 1 to 4, in each lane. */
INLINE __m512i spread(const uint8_t *bytes, const size_t count) {
  int32_t group = 0;
  memcpy(&group, bytes, count);
  return _mm512_set1_epi32(group);
}

INLINE void add_group(__m512i *sum, const Product *product, const uint8_t *x, size_t panel,
                      size_t group, const size_t count, const size_t rows, const size_t many) {
  __m512i weights[PANELS];
  const int8_t *from = product->packed + (panel * groups(product->depth) + group) * LANES * 4;
  UNROLL for (size_t p = 0; p < many; p++)
    weights[p] = _mm512_load_si512(from + p * groups(product->depth) * LANES * 4);
  UNROLL for (size_t row = 0; row < rows; row++) {
    __m512i bytes = spread(x + row * product->depth + group * 4, count);
    UNROLL for (size_t p = 0; p < many; p++) add_bytes(&sum[row * many + p], bytes, weights[p]);
  }
}

/* `rows` rows and `many` panels of the result. */
INLINE void multiply_tile(const Product *product, const uint8_t *x, size_t panel, float *out,
                          const size_t rows, const size_t many) {
  __m512i sum[ROWS * PANELS];
  UNROLL for (size_t p = 0; p < many; p++) {
    __m512i start = _mm512_load_si512(product->start + (panel + p) * LANES);
    UNROLL for (size_t row = 0; row < rows; row++) sum[row * many + p] = start;
  }
  const size_t whole = product->depth / 4, rest = product->depth % 4;
  for (size_t group = 0; group < whole; group++)
    add_group(sum, product, x, panel, group, 4, rows, many);
  if (rest == 1) add_group(sum, product, x, panel, whole, 1, rows, many);
  if (rest == 2) add_group(sum, product, x, panel, whole, 2, rows, many);
  if (rest == 3) add_group(sum, product, x, panel, whole, 3, rows, many);
  UNROLL for (size_t p = 0; p < many; p++) {
    const size_t at = (panel + p) * LANES, left = product->columns - at;
    const __mmask16 lanes = first_lanes(left);
    const __m512 scale = _mm512_load_ps(product->scale + at);
    const __m512 bias = _mm512_load_ps(product->bias + at);
    UNROLL for (size_t row = 0; row < rows; row++)
      _mm512_mask_storeu_ps(
          out + row * product->columns + at, lanes,
          _mm512_fmadd_ps(_mm512_cvtepi32_ps(sum[row * many + p]), scale, bias));
  }
}

INLINE void multiply_panels(const Product *product, const uint8_t *x, size_t rows, size_t panel,
                            float *out, const size_t many) {
  size_t row = 0;
  for (; row + ROWS <= rows; row += ROWS)
    multiply_tile(product, x + row * product->depth, panel, out + row * product->columns, ROWS,
                  many);
  for (; row + 2 <= rows; row += 2)
    multiply_tile(product, x + row * product->depth, panel, out + row * product->columns, 2, many);
  if (row < rows)
    multiply_tile(product, x + row * product->depth, panel, out + row * product->columns, 1, many);
}

void multiply(const Product *product, const uint8_t *x, size_t rows, float *out) {
  size_t panel = 0;
  for (; panel + PANELS <= panels(product->columns); panel += PANELS)
    multiply_panels(product, x, rows, panel, out, PANELS);
  for (; panel < panels(product->columns); panel++)
    multiply_panels(product, x, rows, panel, out, 1);
}
