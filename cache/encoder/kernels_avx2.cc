#define HOLDFAST_LANE 8
#define HOLDFAST_KERNELS kAvx2Kernels
#include "cache/encoder/kernels.inc"
