#ifndef ALLOCATION_COUNTER_H
#define ALLOCATION_COUNTER_H

/* Counts what the calling thread takes from the heap. The program's own malloc and its kin come before the C library's
   for every library that it loads, the Swift runtime included; they count and pass on. */

/* Nonzero if allocations are counted: not under a sanitizer, which brings its own malloc. */
int allocation_counter_is_active(void);
void allocation_counter_begin(void);
/* Allocations of this thread since it last began. One that is made larger counts as a new one. */
long allocation_counter_end(void);
/* Their bytes, as they were asked for. */
long allocation_counter_bytes(void);

#endif
