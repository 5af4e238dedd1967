#include "tensors.h"

const OrtApi *api;

/* The dimension that is the `end`th from the last; 1 where the tensor has fewer. */
static int64_t dimension(const Tensor *tensor, size_t end) {
  return end > tensor->count ? 1 : tensor->dimensions[tensor->count - end];
}

OrtStatus *complain(const char *message) {
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

OrtStatus *read_tensor(const OrtValue *value, Tensor *tensor) {
  TRY(shape_of(value, tensor));
  tensor->rows = 1;
  tensor->channels = tensor->count ? (size_t)tensor->dimensions[tensor->count - 1] : 1;
  for (size_t i = 0; i + 1 < tensor->count; i++) tensor->rows *= (size_t)tensor->dimensions[i];
  return CALL(TENSOR_DATA, TensorData)(value, (void **)&tensor->data);
}

OrtStatus *input(const OrtKernelContext *context, size_t index, Tensor *tensor) {
  const OrtValue *value;
  TRY(CALL(CONTEXT_INPUT, ContextInput)(context, index, &value));
  return read_tensor(value, tensor);
}

OrtStatus *constant(const OrtKernelInfo *info, size_t index, Tensor *tensor) {
  int known = 0;
  const OrtValue *value = NULL;
  TRY(CALL(CONSTANT_INPUT, ConstantInput)(info, index, &known, &value));
  return known && value != NULL ? read_tensor(value, tensor) : complain("an input must be constant");
}

OrtStatus *output(OrtKernelContext *context, size_t index, const Tensor *like, void **data) {
  OrtValue *value;
  TRY(CALL(CONTEXT_OUTPUT, ContextOutput)(context, index, like->dimensions, like->count, &value));
  return CALL(TENSOR_DATA, TensorData)(value, data);
}

OrtStatus *broadcast(const Tensor *left, const Tensor *right, Tensor *both) {
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

const float *row_of(const Tensor *tensor, const Tensor *both, size_t row) {
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
