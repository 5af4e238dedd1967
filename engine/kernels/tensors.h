/* Tensors as ONNX Runtime hands them over. Functions that give a status give NULL if all is well. */
#ifndef KAFKA_RERANKER_TENSORS_H
#define KAFKA_RERANKER_TENSORS_H

#include "ort_abi.h"

extern const OrtApi *api;

#define CALL(PLACE, TYPE) ((TYPE *)api->table[PLACE])
#define TRY(EXPRESSION)                   \
  do {                                    \
    OrtStatus *status = (EXPRESSION);     \
    if (status != NULL) return status;    \
  } while (0)

enum { MOST_DIMENSIONS = 4 };

typedef struct {
  const void *data;
  int64_t dimensions[MOST_DIMENSIONS];
  size_t count, rows, channels; /* channels is the last dimension, rows all others */
} Tensor;

OrtStatus *complain(const char *message);
OrtStatus *read_tensor(const OrtValue *value, Tensor *tensor);
OrtStatus *input(const OrtKernelContext *context, size_t index, Tensor *tensor);

/* Read an input that is a constant of the graph. */
OrtStatus *constant(const OrtKernelInfo *info, size_t index, Tensor *tensor);

/* Make an output of a shape. */
OrtStatus *output(OrtKernelContext *context, size_t index, const Tensor *like, void **data);

/* Align dimensions of two tensors at their ends, and let one of a dimension stand for all. */
OrtStatus *broadcast(const Tensor *left, const Tensor *right, Tensor *both);

/* Where a tensor has the row that stands for one of `both`. */
const float *row_of(const Tensor *tensor, const Tensor *both, size_t row);

#endif
