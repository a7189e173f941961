#define HOLDFAST_LANE 4
#define HOLDFAST_KERNELS kPlainKernels
#include "cache/encoder/kernels.inc"
