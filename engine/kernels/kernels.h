/* What is computed, without ONNX Runtime. All need AVX-512 with VNNI. */
#ifndef KAFKA_RERANKER_KERNELS_H
#define KAFKA_RERANKER_KERNELS_H

#include <stddef.h>
#include <stdint.h>

/* Rounds to uint8: round(value * factor[channel]) + zero_point, cut off at 0 and 255. */
typedef struct {
  const float *factor; /* [channels], the divisor of the scale included */
  int32_t zero_point;
} Rounding;

/* The coefficients of cubics for GELU, lowest power first; each is in its segment's own middle. */
#define GELU_END 6.0f
enum { GELU_SEGMENTS = 32 };
extern float gelu_tail[4][GELU_SEGMENTS];

/* gelu(x) of [rows, channels], exact but for 1e-6, rounded. */
void gelu_quantize(const float *x, size_t rows, size_t channels, Rounding rounding, uint8_t *out);

/* Layer normalisation of left + right, one row of [channels]: as it is, and rounded. */
typedef struct {
  const float *scale, *bias; /* [channels] */
  float epsilon;
} Norm;
void add_norm_quantize(const float *left, const float *right, size_t channels, Norm norm,
                       Rounding rounding, float *out, uint8_t *rounded);

/* softmax(query key^T / sqrt(width)) value of one head of one sequence.
 *
 * query and out are [queries, stride], key and value [keys, stride], of which the first `width`
 * columns are the head's. `scratch` has attention_scratch() bytes, at a multiple of 64.
 */
typedef struct {
  size_t queries, keys, width, stride;
} HeadShape;
size_t attention_scratch(HeadShape shape);
void attend(HeadShape shape, const float *query, const float *key, const float *value, float *out,
            void *scratch);

/* x weights: uint8 [rows, depth] and int8 [depth, columns] to fp32 [rows, columns]. */
typedef struct {
  size_t depth, columns;
  const int8_t *packed; /* by pack_weights, at a multiple of 64 */
  const int32_t *start; /* -zero_point times the columns' sums; up to whole panels of 16 */
  const float *scale;   /* [columns], likewise, and at a multiple of 64 */
  const float *bias;    /* [columns] */
} Product;
size_t packed_bytes(size_t depth, size_t columns);
void pack_weights(const int8_t *weights, size_t depth, size_t columns, int8_t *packed,
                  int32_t *sums);
void multiply(const Product *product, const uint8_t *x, size_t rows, float *out);

#endif
