/* The operators as ONNX Runtime sees them: domain `kafka_reranker`, version 1.
 *
 * A graph that uses them holds functions of the same names made of standard operators, which a
 * runtime without this library takes instead.
 */
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "kernels.h"
#include "ort_abi.h"

#define CALL(PLACE, TYPE) ((TYPE *)api->table[PLACE])
#define TRY(EXPRESSION)                   \
  do {                                    \
    OrtStatus *status = (EXPRESSION);     \
    if (status != NULL) return status;    \
  } while (0)

enum { MOST_DIMENSIONS = 4, MOST_INPUTS = 7 };

static const OrtApi *api;

/* A node of the graph. */
typedef struct {
  float epsilon;
  int64_t heads;
} Node;

typedef struct {
  const void *data;
  int64_t dimensions[MOST_DIMENSIONS];
  size_t count, rows, channels; /* channels is the last dimension, rows all others */
} Tensor;

/* The dimension that is the `end`th from the last; 1 where the tensor has fewer. */
static int64_t dimension(const Tensor *tensor, size_t end) {
  return end > tensor->count ? 1 : tensor->dimensions[tensor->count - end];
}

static OrtStatus *complain(const char *message) {
  return CALL(CREATE_STATUS, CreateStatus)(INVALID_ARGUMENT, message);
}

static OrtStatus *shape_of(const OrtValue *value, Tensor *tensor) {
  OrtShape *shape;
  TRY(CALL(TENSOR_SHAPE, TensorShape)(value, &shape));
  OrtStatus *status = CALL(DIMENSIONS_COUNT, DimensionsCount)(shape, &tensor->count);
  if (status == NULL && tensor->count > MOST_DIMENSIONS)
    status = complain("a tensor with too many dimensions");
  if (status == NULL)
    status = CALL(DIMENSIONS, Dimensions)(shape, tensor->dimensions, tensor->count);
  CALL(RELEASE_SHAPE, ReleaseShape)(shape);
  return status;
}

static OrtStatus *input(OrtKernelContext *context, size_t index, Tensor *tensor) {
  const OrtValue *value;
  TRY(CALL(CONTEXT_INPUT, ContextInput)(context, index, &value));
  TRY(shape_of(value, tensor));
  tensor->rows = 1;
  tensor->channels = tensor->count ? (size_t)tensor->dimensions[tensor->count - 1] : 1;
  for (size_t i = 0; i + 1 < tensor->count; i++) tensor->rows *= (size_t)tensor->dimensions[i];
  return CALL(TENSOR_DATA, TensorData)(value, (void **)&tensor->data);
}

static OrtStatus *output(OrtKernelContext *context, size_t index, const Tensor *like, void **data) {
  OrtValue *value;
  TRY(CALL(CONTEXT_OUTPUT, ContextOutput)(context, index, like->dimensions, like->count, &value));
  return CALL(TENSOR_DATA, TensorData)(value, data);
}

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

/* Align dimensions of two tensors at their ends, and let one of a dimension stand for all. */
static OrtStatus *broadcast(const Tensor *left, const Tensor *right, Tensor *both) {
  both->count = left->count > right->count ? left->count : right->count;
  both->rows = 1;
  both->channels = left->channels;
  for (size_t i = 0; i < both->count; i++) {
    int64_t ours = dimension(left, both->count - i), theirs = dimension(right, both->count - i);
    if (ours != theirs && ours != 1 && theirs != 1) return complain("shapes that can't be added");
    both->dimensions[i] = ours == 1 ? theirs : ours;
    if (i + 1 < both->count) both->rows *= (size_t)both->dimensions[i];
  }
  return left->channels == right->channels ? NULL : complain("rows that can't be added");
}

/* Where a tensor has the row that stands for one of `both`. */
static const float *row_of(const Tensor *tensor, const Tensor *both, size_t row) {
  size_t found = 0, step = 1;
  for (size_t end = 2; end <= both->count; end++) {
    size_t many = (size_t)both->dimensions[both->count - end];
    size_t own = (size_t)dimension(tensor, end);
    if (own > 1) found += row % many * step;
    step *= own;
    row /= many;
  }
  return (const float *)tensor->data + found * tensor->channels;
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
  const Norm norm = {scale.data, bias.data, ((const Node *)node)->epsilon};
  for (size_t row = 0; row < both.rows; row++)
    add_norm_quantize(row_of(&left, &both, row), row_of(&right, &both, row), both.channels, norm,
                      rounding, (float *)out + row * both.channels,
                      (uint8_t *)rounded + row * both.channels);
  return NULL;
}

static OrtStatus *compute_attention(void *node, OrtKernelContext *context) {
  const size_t heads = (size_t)((const Node *)node)->heads;
  Tensor query, key, value;
  void *data;
  TRY(input(context, 0, &query));
  TRY(input(context, 1, &key));
  TRY(input(context, 2, &value));
  const int64_t *asked = query.dimensions, *known = key.dimensions;
  if (query.count != 3 || key.count != 3 || value.count != 3 || asked[0] != known[0] ||
      asked[2] != known[2] || memcmp(known, value.dimensions, 3 * sizeof *known) != 0 ||
      heads == 0 || query.channels % heads != 0)
    return complain("query, key and value must be [batch, tokens, heads * width]");
  TRY(output(context, 0, &query, &data));
  const size_t stride = query.channels;
  const HeadShape shape = {(size_t)asked[1], (size_t)known[1], stride / heads, stride};
  if (query.rows == 0 || shape.keys == 0) return NULL;
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

/* What an operator takes and gives: an element type for each. */
typedef struct {
  OrtCustomOp op; /* first, so that a pointer to it is one to this */
  const char *name;
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
  Node node = {0, 0};
  if (of(op)->outputs == 2)
    TRY(CALL(ATTRIBUTE_FLOAT, AttributeFloat)(info, "epsilon", &node.epsilon));
  if (of(op)->inputs == 3 && of(op)->output_types[0] == FLOAT)
    TRY(CALL(ATTRIBUTE_INT64, AttributeInt64)(info, "heads", &node.heads));
  Node *made = malloc(sizeof node);
  if (made == NULL) return CALL(CREATE_STATUS, CreateStatus)(FAIL, "no memory for a node");
  *made = node;
  *kernel = made;
  return NULL;
}

#define OPERATOR(COMPUTE)                                                                 \
  {                                                                                       \
    .version = API_VERSION, .name = name, .provider = provider, .input_type = input_type, \
    .input_count = input_count, .output_type = output_type, .output_count = output_count, \
    .destroy = free, .input_kind = zero, .output_kind = zero, .input_memory = zero,       \
    .input_least = one, .input_alike = one, .output_least = one, .output_alike = one,     \
    .create = create, .compute = COMPUTE, .first_version = one, .last_version = one       \
  }

static const Operator operators[] = {
    {OPERATOR(compute_gelu), "GeluQuantize", 3, 1, {FLOAT, FLOAT, UINT8}, {UINT8}},
    {OPERATOR(compute_norm),
     "AddNormQuantize",
     6,
     2,
     {FLOAT, FLOAT, FLOAT, FLOAT, FLOAT, UINT8},
     {FLOAT, UINT8}},
    {OPERATOR(compute_attention), "Attention", 3, 1, {FLOAT, FLOAT, FLOAT}, {FLOAT}},
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
  static OrtCustomOpDomain *made;
  if (made == NULL) {
    TRY(CALL(CREATE_DOMAIN, CreateDomain)("kafka_reranker", &made));
    for (size_t i = 0; i < sizeof operators / sizeof *operators; i++)
      TRY(CALL(DOMAIN_ADD, DomainAdd)(made, &operators[i].op));
  }
  *domain = made;
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
