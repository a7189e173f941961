#pragma once

// HOLDFAST_CHECK(condition): ends the process when something that cannot happen has happened.
// On in every build. Not for bad input, which gets an error.

#include <cstdio>
#include <cstdlib>

#define HOLDFAST_CHECK(condition)                                                        \
  do {                                                                                   \
    if (!(condition)) {                                                                  \
      std::fprintf(stderr, "%s:%d: check failed: %s\n", __FILE__, __LINE__, #condition); \
      std::abort();                                                                      \
    }                                                                                    \
  } while (false)
