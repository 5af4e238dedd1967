/* The operators as ONNX Runtime sees them: domain `kafka_reranker`, version 1.
 *
 * A graph that uses them holds functions of the same names made of standard operators, which a
 * runtime without this library takes instead.
 */
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "kernels.h"
#include "tensors.h"

enum { MOST_INPUTS = 6, ALIGNED = 64, MOST_DEPTH = 65536 };

/* Read `factor` [channels] and `zero_point` [] from two inputs. */
static OrtStatus *rounding_at(OrtKernelContext *context, size_t index, size_t channels,
                              Rounding *rounding) {
  Tensor factor, zero_point;
  TRY(input(context, index, &factor));
  TRY(input(context, index + 1, &zero_point));
  if (factor.channels != channels || factor.rows != 1) return complain("a factor a channel, please");
  if (zero_point.channels != 1 || zero_point.rows != 1) return complain("one zero point, please");
  rounding->factor = factor.data;
  rounding->zero_point = *(const uint8_t *)zero_point.data;
  return NULL;
}

static OrtStatus *compute_gelu(void *node, OrtKernelContext *context) {
  (void)node;
  Tensor x;
  Rounding rounding;
  void *out;
  TRY(input(context, 0, &x));
  TRY(rounding_at(context, 1, x.channels, &rounding));
  TRY(output(context, 0, &x, &out));
  gelu_quantize(x.data, x.rows, x.channels, rounding, out);
  return NULL;
}

static OrtStatus *compute_norm(void *node, OrtKernelContext *context) {
  Tensor left, right, scale, bias, both;
  Rounding rounding;
  void *out, *rounded;
  TRY(input(context, 0, &left));
  TRY(input(context, 1, &right));
  TRY(input(context, 2, &scale));
  TRY(input(context, 3, &bias));
  TRY(rounding_at(context, 4, left.channels, &rounding));
  TRY(broadcast(&left, &right, &both));
  if (scale.channels != left.channels || scale.rows != 1 || bias.channels != left.channels ||
      bias.rows != 1)
    return complain("a scale and a bias a channel, please");
  TRY(output(context, 0, &both, &out));
  TRY(output(context, 1, &both, &rounded));
  const Norm norm = {scale.data, bias.data, *(const float *)node};
  for (size_t row = 0; row < both.rows; row++)
    add_norm_quantize(row_of(&left, &both, row), row_of(&right, &both, row), both.channels, norm,
                      rounding, (float *)out + row * both.channels,
                      (uint8_t *)rounded + row * both.channels);
  return NULL;
}

static OrtStatus *compute_attention(void *node, OrtKernelContext *context) {
  const size_t heads = *(const size_t *)node;
  Tensor query, key, value;
  void *data;
  TRY(input(context, 0, &query));
  TRY(input(context, 1, &key));
  TRY(input(context, 2, &value));
  const int64_t *asked = query.dimensions, *known = key.dimensions;
  if (query.count != 3 || key.count != 3 || value.count != 3 || asked[0] != known[0] ||
      asked[2] != known[2] || memcmp(known, value.dimensions, 3 * sizeof *known) != 0 ||
      known[1] == 0 || query.channels == 0 || query.channels % heads != 0)
    return complain("query, key and value must be [batch, tokens, heads * width]");
  TRY(output(context, 0, &query, &data));
  const size_t stride = query.channels;
  const HeadShape shape = {(size_t)asked[1], (size_t)known[1], stride / heads, stride};
  void *scratch;
  if (posix_memalign(&scratch, 64, attention_scratch(shape)) != 0)
    return CALL(CREATE_STATUS, CreateStatus)(FAIL, "no memory for attention");
  for (size_t sequence = 0; sequence < (size_t)asked[0]; sequence++)
    for (size_t head = 0; head < heads; head++) {
      size_t asking = sequence * shape.queries * stride + head * shape.width;
      size_t known_at = sequence * shape.keys * stride + head * shape.width;
      attend(shape, (const float *)query.data + asking, (const float *)key.data + known_at,
             (const float *)value.data + known_at, (float *)data + asking, scratch);
    }
  free(scratch);
  return NULL;
}

static OrtStatus *compute_product(void *node, OrtKernelContext *context) {
  const Product *product = node;
  Tensor x;
  void *out;
  TRY(input(context, 0, &x));
  if (x.count == 0 || x.channels != product->depth) return complain("rows as deep as the weights");
  Tensor shape = x;
  shape.dimensions[x.count - 1] = (int64_t)product->columns;
  TRY(output(context, 0, &shape, &out));
  multiply(product, x.data, x.rows, out);
  return NULL;
}

/* What a node keeps is made when the graph is loaded, and freed with it. */
static OrtStatus *keep(size_t bytes, void **kept) {
  return posix_memalign(kept, ALIGNED, bytes) == 0
             ? NULL
             : CALL(CREATE_STATUS, CreateStatus)(FAIL, "no memory for a node");
}

static OrtStatus *make_nothing(const OrtKernelInfo *info, void **kept) {
  (void)info;
  return keep(1, kept);
}

static OrtStatus *make_norm(const OrtKernelInfo *info, void **kept) {
  float epsilon;
  TRY(CALL(ATTRIBUTE_FLOAT, AttributeFloat)(info, "epsilon", &epsilon));
  TRY(keep(sizeof epsilon, kept));
  *(float *)*kept = epsilon;
  return NULL;
}

static OrtStatus *make_attention(const OrtKernelInfo *info, void **kept) {
  int64_t heads;
  TRY(CALL(ATTRIBUTE_INT64, AttributeInt64)(info, "heads", &heads));
  if (heads < 1) return complain("attention has at least one head");
  TRY(keep(sizeof(size_t), kept));
  *(size_t *)*kept = (size_t)heads;
  return NULL;
}

static OrtStatus *make_product(const OrtKernelInfo *info, void **kept) {
  Tensor weights, x_scale, scale, zero_point, bias;
  TRY(constant(info, 1, &weights));
  TRY(constant(info, 2, &x_scale));
  TRY(constant(info, 3, &scale));
  TRY(constant(info, 4, &zero_point));
  TRY(constant(info, 5, &bias));
  const size_t depth = weights.rows, columns = weights.channels;
  if (weights.count != 2 || depth == 0 || columns == 0) return complain("weights have two axes");
  if (depth > MOST_DEPTH) return complain("weights so deep that a sum may not fit into 32 bits");
  if (x_scale.rows * x_scale.channels != 1 || zero_point.rows * zero_point.channels != 1 ||
      scale.rows * scale.channels != columns || bias.rows * bias.channels != columns)
    return complain("a scale and a bias a column, and one scale and zero point of the rows");
  const size_t head = (sizeof(Product) + ALIGNED - 1) / ALIGNED * ALIGNED;
  const size_t wide = (columns + 15) / 16 * 16, packed = packed_bytes(depth, columns);
  char *memory;
  TRY(keep(head + packed + 3 * wide * sizeof(float), (void **)&memory));
  int32_t *start = (int32_t *)(memory + head + packed);
  float *scales = (float *)(start + wide), *biases = scales + wide;
  pack_weights(weights.data, depth, columns, (int8_t *)memory + head, start);
  for (size_t i = 0; i < wide; i++) {
    start[i] *= -(int32_t)*(const uint8_t *)zero_point.data;
    scales[i] = i < columns ? *(const float *)x_scale.data * ((const float *)scale.data)[i] : 0;
    biases[i] = i < columns ? ((const float *)bias.data)[i] : 0;
  }
  *(Product *)memory =
      (Product){depth, columns, (const int8_t *)memory + head, start, scales, biases};
  *kept = memory;
  return NULL;
}

/* What an operator takes and gives: an element type for each. */
typedef struct {
  OrtCustomOp op; /* first, so that a pointer to it is one to this */
  const char *name;
  OrtStatus *(*make)(const OrtKernelInfo *info, void **kept);
  size_t inputs, outputs;
  int input_types[MOST_INPUTS], output_types[2];
} Operator;

static const Operator *of(const OrtCustomOp *op) { return (const Operator *)op; }
static const char *name(const OrtCustomOp *op) { return of(op)->name; }
static const char *provider(const OrtCustomOp *op) { return (void)op, "CPUExecutionProvider"; }
static size_t input_count(const OrtCustomOp *op) { return of(op)->inputs; }
static size_t output_count(const OrtCustomOp *op) { return of(op)->outputs; }
static int input_type(const OrtCustomOp *op, size_t i) { return of(op)->input_types[i]; }
static int output_type(const OrtCustomOp *op, size_t i) { return of(op)->output_types[i]; }
static int zero(const OrtCustomOp *op, size_t i) { return (void)op, (void)i, 0; }
static int one(const OrtCustomOp *op) { return (void)op, 1; }

static OrtStatus *create(const OrtCustomOp *op, const OrtApi *table, const OrtKernelInfo *info,
                         void **kernel) {
  (void)table;
  return of(op)->make(info, kernel);
}

#define COMPUTED_BY(COMPUTE)                                                              \
  {                                                                                       \
    .version = API_VERSION, .name = name, .provider = provider, .input_type = input_type, \
    .input_count = input_count, .output_type = output_type, .output_count = output_count, \
    .destroy = free, .input_kind = zero, .output_kind = zero, .input_memory = zero,       \
    .input_least = one, .input_alike = one, .output_least = one, .output_alike = one,     \
    .create = create, .compute = COMPUTE, .first_version = one, .last_version = one       \
  }

static const Operator operators[] = {
    {.op = COMPUTED_BY(compute_gelu),
     .name = "GeluQuantize",
     .make = make_nothing,
     .inputs = 3,
     .input_types = {FLOAT, FLOAT, UINT8},
     .outputs = 1,
     .output_types = {UINT8}},
    {.op = COMPUTED_BY(compute_norm),
     .name = "AddNormQuantize",
     .make = make_norm,
     .inputs = 6,
     .input_types = {FLOAT, FLOAT, FLOAT, FLOAT, FLOAT, UINT8},
     .outputs = 2,
     .output_types = {FLOAT, UINT8}},
    {.op = COMPUTED_BY(compute_attention),
     .name = "Attention",
     .make = make_attention,
     .inputs = 3,
     .input_types = {FLOAT, FLOAT, FLOAT},
     .outputs = 1,
     .output_types = {FLOAT}},
    {.op = COMPUTED_BY(compute_product),
     .name = "QuantizedMatMul",
     .make = make_product,
     .inputs = 6,
     .input_types = {UINT8, INT8, FLOAT, FLOAT, UINT8, FLOAT},
     .outputs = 1,
     .output_types = {FLOAT}},
};

#define EXPORTED __attribute__((visibility("default")))

/* Whether this CPU has what the kernels are compiled for. */
EXPORTED int kernels_usable(void);
int kernels_usable(void) {
  __builtin_cpu_init();
  return __builtin_cpu_supports("avx512vnni") && __builtin_cpu_supports("avx512bw") &&
         __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl");
}

/* Give the domain, which all sessions share and which lives as long as the library. */
static OrtStatus *shared_domain(OrtCustomOpDomain **domain) {
  static OrtCustomOpDomain *shared;
  if (shared == NULL) {
    OrtCustomOpDomain *made;
    TRY(CALL(CREATE_DOMAIN, CreateDomain)("kafka_reranker", &made));
    for (size_t i = 0; i < sizeof operators / sizeof *operators; i++)
      TRY(CALL(DOMAIN_ADD, DomainAdd)(made, &operators[i].op));
    shared = made;
  }
  *domain = shared;
  return NULL;
}

/* ONNX Runtime calls this by its name. A CPU that lacks something gets no kernels. */
EXPORTED OrtStatus *RegisterCustomOps(OrtSessionOptions *options, const OrtApiBase *base);
OrtStatus *RegisterCustomOps(OrtSessionOptions *options, const OrtApiBase *base) {
  if (!kernels_usable() || base->get_api(API_VERSION) == NULL) return NULL;
  static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
  pthread_mutex_lock(&lock);
  api = base->get_api(API_VERSION);
  OrtCustomOpDomain *domain = NULL;
  OrtStatus *status = shared_domain(&domain);
  pthread_mutex_unlock(&lock);
  return status != NULL ? status : CALL(ADD_DOMAIN, AddDomain)(options, domain);
}
