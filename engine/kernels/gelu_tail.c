/* gelu(x) = max(x, 0) - g(|x|) with g(t) = t * normal_cdf(-t), which is 6e-9 at 6 and then falls.
 *
 * g is a cubic in each of 32 segments of [0, 6), through its values at four Chebyshev nodes. This
 * runs while the library is loaded, on any CPU, so it is compiled for every one.
 */
#include <math.h>

#include "kernels.h"

float gelu_tail[4][GELU_SEGMENTS];

static double tail(double t) { return t * erfc(t * M_SQRT1_2) / 2; }

__attribute__((constructor)) static void fill(void) {
  double node[4], divided[4];
  for (int segment = 0; segment < GELU_SEGMENTS; segment++) {
    for (int i = 0; i < 4; i++) {
      node[i] = cos((2 * i + 1) * M_PI / 8) / 2; /* between -1/2 and 1/2 */
      divided[i] = tail((segment + 0.5 + node[i]) * GELU_END / GELU_SEGMENTS);
    }
    for (int order = 1; order < 4; order++)
      for (int i = 3; i >= order; i--)
        divided[i] = (divided[i] - divided[i - 1]) / (node[i] - node[i - order]);
    double power[4] = {divided[3], 0, 0, 0}; /* Newton's form, multiplied out */
    for (int i = 2; i >= 0; i--) {
      for (int k = 3; k > 0; k--) power[k] = power[k - 1] - node[i] * power[k];
      power[0] = divided[i] - node[i] * power[0];
    }
    for (int k = 0; k < 4; k++) gelu_tail[k][segment] = (float)power[k];
  }
}
