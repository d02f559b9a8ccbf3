// The block functions of LZ4.
#ifndef MUSTER_CLZ4_SHIM_H
#define MUSTER_CLZ4_SHIM_H

#include <lz4.h>

#endif
