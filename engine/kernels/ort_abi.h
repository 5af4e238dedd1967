/* The part of ONNX Runtime's C ABI that operators need.
 *
 * ONNX Runtime ships no header with its Python package, so what is called is declared here. Its
 * table of functions only ever grows at its end, and OrtCustomOp too: a place in it means the same
 * in every later version ("ABI stability" in ONNX Runtime's documentation of its C API).
 */
#ifndef KAFKA_RERANKER_ORT_ABI_H
#define KAFKA_RERANKER_ORT_ABI_H

#include <stddef.h>
#include <stdint.h>

/* The version of the API whose table and operator this file describes; 1.22 and later know it. */
enum { API_VERSION = 22 };

/* Element types of tensors. */
enum { FLOAT = 1, UINT8 = 2, INT8 = 3 };

/* Codes of a status. */
enum { FAIL = 1, INVALID_ARGUMENT = 2 };

typedef struct OrtStatus OrtStatus;
typedef struct OrtValue OrtValue;
typedef struct OrtShape OrtShape;
typedef struct OrtKernelInfo OrtKernelInfo;
typedef struct OrtKernelContext OrtKernelContext;
typedef struct OrtSessionOptions OrtSessionOptions;
typedef struct OrtCustomOpDomain OrtCustomOpDomain;
typedef struct OrtShapeContext OrtShapeContext;
typedef struct OrtCustomOp OrtCustomOp;

/* The table of functions: `table[place]` is cast to the type below that has the place's name. */
typedef struct {
  void *const table[512];
} OrtApi;

typedef struct {
  const OrtApi *(*get_api)(uint32_t version);
  const char *(*get_version)(void);
} OrtApiBase;

enum Place {
  CREATE_STATUS = 0,
  CREATE_DOMAIN = 26,
  DOMAIN_ADD = 27,
  ADD_DOMAIN = 28,
  TENSOR_DATA = 51,
  DIMENSIONS_COUNT = 61,
  DIMENSIONS = 62,
  TENSOR_SHAPE = 65,
  ATTRIBUTE_FLOAT = 85,
  ATTRIBUTE_INT64 = 86,
  CONTEXT_INPUT = 90,
  CONTEXT_OUTPUT = 91,
  RELEASE_SHAPE = 99,
  CONSTANT_INPUT = 249,
};

typedef OrtStatus *CreateStatus(int code, const char *message);
typedef OrtStatus *CreateDomain(const char *name, OrtCustomOpDomain **out);
typedef OrtStatus *DomainAdd(OrtCustomOpDomain *domain, const OrtCustomOp *op);
typedef OrtStatus *AddDomain(OrtSessionOptions *options, OrtCustomOpDomain *domain);
typedef OrtStatus *TensorData(const OrtValue *value, void **out);
typedef OrtStatus *DimensionsCount(const OrtShape *shape, size_t *out);
typedef OrtStatus *Dimensions(const OrtShape *shape, int64_t *values, size_t length);
typedef OrtStatus *TensorShape(const OrtValue *value, OrtShape **out);
typedef OrtStatus *AttributeFloat(const OrtKernelInfo *info, const char *name, float *out);
typedef OrtStatus *AttributeInt64(const OrtKernelInfo *info, const char *name, int64_t *out);
typedef OrtStatus *ContextInput(const OrtKernelContext *context, size_t index,
                                const OrtValue **out);
typedef OrtStatus *ContextOutput(OrtKernelContext *context, size_t index, const int64_t *dimensions,
                                 size_t count, OrtValue **out);
typedef OrtStatus *ConstantInput(const OrtKernelInfo *info, size_t index, int *is_constant,
                                 const OrtValue **out);
typedef void ReleaseShape(OrtShape *shape);

/* An operator, as the runtime asks for it. `unused` functions may be null. */
struct OrtCustomOp {
  uint32_t version;
  void *unused_create;
  const char *(*name)(const OrtCustomOp *op);
  const char *(*provider)(const OrtCustomOp *op);
  int (*input_type)(const OrtCustomOp *op, size_t index);
  size_t (*input_count)(const OrtCustomOp *op);
  int (*output_type)(const OrtCustomOp *op, size_t index);
  size_t (*output_count)(const OrtCustomOp *op);
  void *unused_compute;
  void (*destroy)(void *kernel);
  int (*input_kind)(const OrtCustomOp *op, size_t index);
  int (*output_kind)(const OrtCustomOp *op, size_t index);
  int (*input_memory)(const OrtCustomOp *op, size_t index);
  int (*input_least)(const OrtCustomOp *op);
  int (*input_alike)(const OrtCustomOp *op);
  int (*output_least)(const OrtCustomOp *op);
  int (*output_alike)(const OrtCustomOp *op);
  OrtStatus *(*create)(const OrtCustomOp *op, const OrtApi *api, const OrtKernelInfo *info,
                       void **kernel);
  OrtStatus *(*compute)(void *kernel, OrtKernelContext *context);
  OrtStatus *(*infer_shape)(const OrtCustomOp *op, OrtShapeContext *context);
  int (*first_version)(const OrtCustomOp *op);
  int (*last_version)(const OrtCustomOp *op);
  void *unused[4];
};

#endif
