/* What the files for AVX-512 VNNI share; hatch_build.py compiles them, and only them, for it. */
#ifndef KAFKA_RERANKER_AVX512_H
#define KAFKA_RERANKER_AVX512_H

#include <immintrin.h>
#include <stddef.h>

enum { LANES = 16 };

#define INLINE static inline __attribute__((always_inline))
/* Loops over rows and vectors of a tile must go, so that its sums stay in registers. */
#define UNROLL _Pragma("GCC unroll 32")

INLINE __mmask16 first_lanes(size_t count) {
  return count >= LANES ? 0xffff : (__mmask16)((1u << count) - 1);
}

/* sum += products of four bytes with four weights, or of two pairs of 16 bits. As intrinsics, GCC
 * 12 moves sums from register to register between products, which takes longer than these. */
INLINE void add_bytes(__m512i *sum, __m512i bytes, __m512i weights) {
  __asm__("vpdpbusd %2, %1, %0" : "+v"(*sum) : "v"(bytes), "v"(weights));
}

INLINE void add_pairs(__m512i *sum, __m512i left, __m512i right) {
  __asm__("vpdpwssd %2, %1, %0" : "+v"(*sum) : "v"(left), "v"(right));
}

#endif
