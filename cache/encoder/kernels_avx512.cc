#define HOLDFAST_LANE 16
#define HOLDFAST_KERNELS kAvx512Kernels
#include "cache/encoder/kernels.inc"
