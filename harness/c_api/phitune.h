/* phitune in C: power attention by a tuned table, for any language that can call a shared library. The C++ of the same is
 * harness/dispatch/dispatcher.hpp.
 *
 *   phitune_dispatcher* dispatcher = NULL;
 *   phitune_plan* plan = NULL;
 *   if (phitune_open("phitune.db", &dispatcher) || phitune_prepare(dispatcher, "b1 t65536 h8 d64 p2 bf16 gated", &plan))
 *     fprintf(stderr, "%s\n", phitune_last_error());
 *   ...  device memory of phitune_workspace_bytes(plan) bytes ...
 *   phitune_buffers buffers = {sizeof buffers};
 *   buffers.q = q, buffers.k = k, buffers.v = v, buffers.log_g = log_g, buffers.y = y;
 *   phitune_launch(plan, &buffers, workspace, workspace_bytes, stream);
 *
 * Every function that returns phitune_status leaves its outputs alone unless it returns PHITUNE_OK; what went wrong, and what to do about
 * it, is then in phitune_last_error() of the same thread. Nothing is thrown, nothing is printed, and no input ends the process. A dispatcher
 * and its plans may be used from several threads at once, each launch with a workspace of its own (plans with cuBLASLt stages: one launch
 * at a time); they may not be closed while they are used. */
#ifndef PHITUNE_H
#define PHITUNE_H

#include <stdint.h>

#if defined(__GNUC__)
#define PHITUNE_API __attribute__((visibility("default")))
#else
#define PHITUNE_API
#endif

#ifdef __cplusplus
extern "C" {
#endif

/* The numbers are those of the exit codes of `phitune`. */
typedef enum phitune_status {
  PHITUNE_OK = 0,
  PHITUNE_FAILED = 1,    /* CUDA refused, or a kernel did not compile */
  PHITUNE_USAGE = 2,     /* an argument is wrong: a null pointer, a buffer that is missing or misaligned */
  PHITUNE_BAD_INPUT = 3, /* the problem's text is not understood, or no plan computes it; the file is not a database of phitune's */
  PHITUNE_NO_DEVICE = 4, /* no GPU, or none of the architecture that was chosen for */
  PHITUNE_IO = 5         /* a file cannot be read */
} phitune_status;

typedef struct phitune_dispatcher phitune_dispatcher;
typedef struct phitune_plan phitune_plan;

/* In elements, of the axes batch, token and head; the innermost axis is contiguous. Multiples of 8, but for the gates'. */
typedef struct phitune_strides {
  int64_t b, t, h;
} phitune_strides;

/* Device pointers of one call. Shapes are those of the problem: q (b, t, hq, d), k (b, t, hk, d), v (b, t, hk, e), y (b, t, hq, e) in the
 * problem's dtype, aligned to 16 bytes; log_g (b, t, hk) in float. States are float, (b, hk, D, e + 1), D = C(d + p - 1, p). What the
 * problem has not must be null. Strides that are null are those of contiguous tensors in the problem's layout. */
typedef struct phitune_buffers {
  uint64_t size; /* sizeof(phitune_buffers), as the caller was compiled */
  const void *q, *k, *v;
  const float* log_g;
  void* y;
  const float* initial_state;
  float* final_state;
  const phitune_strides *q_strides, *k_strides, *v_strides, *log_g_strides, *y_strides;
} phitune_buffers;

/* "0.1.0". */
PHITUNE_API const char* phitune_version(void);

/* What the last call of this thread that did not return PHITUNE_OK has to say; "" before there was one. Valid until the next such call. */
PHITUNE_API const char* phitune_last_error(void);

/* Reads the tuned table of `database` and its machine code; the file is not used afterwards. Null: no table, every plan is built in and
 * compiled when it is prepared. The device chosen for is this machine's first GPU, else the only kind of GPU that the database knows. */
PHITUNE_API phitune_status phitune_open(const char* database, phitune_dispatcher** dispatcher);
PHITUNE_API void phitune_close(phitune_dispatcher* dispatcher);

/* Which plan `problem` would get and why, in words, without a GPU. `text` is valid until the next call of phitune_explain by this thread. */
PHITUNE_API phitune_status phitune_explain(phitune_dispatcher* dispatcher, const char* problem, const char** text);

/* Loads the kernels of the problem's plan on the current CUDA device; compiles what the table has no machine code for. `problem` is in
 * phitune's shorthand, as for `phitune dispatch --problem`: one problem, no lists. The plan outlives the dispatcher. */
PHITUNE_API phitune_status phitune_prepare(phitune_dispatcher* dispatcher, const char* problem, phitune_plan** plan);
PHITUNE_API void phitune_release(phitune_plan* plan);

/* "exact", "nearest" or "built-in"; the plan's stages and configs in one line; what phitune_explain said. Valid as long as the plan. */
PHITUNE_API const char* phitune_plan_why(const phitune_plan* plan);
PHITUNE_API const char* phitune_plan_text(const phitune_plan* plan);
PHITUNE_API const char* phitune_plan_explanation(const phitune_plan* plan);

/* Device memory that a launch needs, aligned to 256 bytes; what it holds before and after means nothing. */
PHITUNE_API int64_t phitune_workspace_bytes(const phitune_plan* plan);

/* Enqueues every kernel of the plan on `stream` (a cudaStream_t; null: the default stream) and returns. Allocates and compiles nothing, so
 * it may be captured in a CUDA graph. */
PHITUNE_API phitune_status phitune_launch(const phitune_plan* plan, const phitune_buffers* buffers, void* workspace, int64_t workspace_bytes,
                                          void* stream);

#ifdef __cplusplus
}
#endif

#endif
