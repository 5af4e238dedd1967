"""fp32 graphs to smaller ones. A pair's score can't depend on what it is batched with.

`sites` finds the matrix products of any graph; `ranges`, `smooth` and `int8` make them int8 with
static scales; `int4` and `fp16` are ONNX Runtime's own tools; `tables` makes what is looked up
smaller; `sensitivity` says which products suffer most.
"""
