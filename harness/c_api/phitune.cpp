// The C side of the dispatcher: every exception becomes a status and a text.
#include "harness/c_api/phitune.h"

#include <fmt/format.h>

#include <new>
#include <string>

#include "harness/dispatch/dispatcher.hpp"
#include "harness/error.hpp"

struct phitune_dispatcher {
  phitune::Dispatcher dispatcher;
};

struct phitune_plan {
  std::shared_ptr<const phitune::PreparedPlan> prepared;
  std::string why, text, explanation;
};

namespace {

using phitune::Error;
using phitune::ExitCode;

static_assert(PHITUNE_FAILED == static_cast<int>(ExitCode::failed) && PHITUNE_USAGE == static_cast<int>(ExitCode::usage) &&
              PHITUNE_BAD_INPUT == static_cast<int>(ExitCode::bad_input) && PHITUNE_NO_DEVICE == static_cast<int>(ExitCode::no_device) &&
              PHITUNE_IO == static_cast<int>(ExitCode::io));

thread_local std::string last_error, last_explanation;

phitune_status failed(phitune_status status, const char* what) noexcept {
  try {
    last_error = what;
  } catch (...) {  // no memory for the text; the status still tells
  }
  return status;
}

template <typename Work>
phitune_status guarded(Work&& work) noexcept {
  try {
    work();
    return PHITUNE_OK;
  } catch (const Error& error) {
    return failed(static_cast<phitune_status>(error.code()), error.what());
  } catch (const std::invalid_argument& error) {  // a word of a problem that nobody understands
    return failed(PHITUNE_BAD_INPUT, error.what());
  } catch (const std::exception& error) {
    return failed(PHITUNE_FAILED, error.what());
  } catch (...) {
    return failed(PHITUNE_FAILED, "an error that is no std::exception");
  }
}

template <typename T>
T& need(T* pointer, const char* name) {
  if (pointer == nullptr) throw Error(ExitCode::usage, fmt::format("{} is null", name));
  return *pointer;
}

std::optional<phitune::Strides> strides(const phitune_strides* given) {
  if (given == nullptr) return std::nullopt;
  return phitune::Strides{.b = given->b, .t = given->t, .h = given->h};
}

}  // namespace

extern "C" {

const char* phitune_version(void) { return PHITUNE_VERSION; }

const char* phitune_last_error(void) { return last_error.c_str(); }

phitune_status phitune_open(const char* database, phitune_dispatcher** dispatcher) {
  return guarded([&] {
    phitune_dispatcher*& out = need(dispatcher, "dispatcher");
    out = new phitune_dispatcher{database == nullptr ? phitune::Dispatcher::built_in() : phitune::Dispatcher::open(database)};
  });
}

void phitune_close(phitune_dispatcher* dispatcher) { delete dispatcher; }

phitune_status phitune_explain(phitune_dispatcher* dispatcher, const char* problem, const char** text) {
  return guarded([&] {
    phitune::Dispatcher& of = need(dispatcher, "dispatcher").dispatcher;
    const char*& out = need(text, "text");
    last_explanation = of.explain(of.lookup(phitune::Problem::parse(&need(problem, "problem"))));
    out = last_explanation.c_str();
  });
}

phitune_status phitune_prepare(phitune_dispatcher* dispatcher, const char* problem, phitune_plan** plan) {
  return guarded([&] {
    phitune::Dispatcher& of = need(dispatcher, "dispatcher").dispatcher;
    phitune_plan*& out = need(plan, "plan");
    const phitune::Selection selection = of.lookup(phitune::Problem::parse(&need(problem, "problem")));
    auto prepared = of.prepare(selection);
    std::string text = prepared->plan().text();
    out = new phitune_plan{std::move(prepared), std::string(to_string(selection.why)), std::move(text), of.explain(selection)};
  });
}

void phitune_release(phitune_plan* plan) { delete plan; }

const char* phitune_plan_why(const phitune_plan* plan) { return plan == nullptr ? "" : plan->why.c_str(); }
const char* phitune_plan_text(const phitune_plan* plan) { return plan == nullptr ? "" : plan->text.c_str(); }
const char* phitune_plan_explanation(const phitune_plan* plan) { return plan == nullptr ? "" : plan->explanation.c_str(); }

int64_t phitune_workspace_bytes(const phitune_plan* plan) { return plan == nullptr ? 0 : plan->prepared->workspace_bytes(); }

phitune_status phitune_launch(const phitune_plan* plan, const phitune_buffers* buffers, void* workspace, int64_t workspace_bytes,
                              void* stream) {
  return guarded([&] {
    const phitune_buffers& from = need(buffers, "buffers");
    if (from.size != sizeof(phitune_buffers))
      throw Error(ExitCode::usage, fmt::format("buffers.size is {}, and this library's phitune_buffers has {} bytes: set it to "
                                               "sizeof(phitune_buffers), and compile with the phitune.h of version " PHITUNE_VERSION,
                                               from.size, sizeof(phitune_buffers)));
    need(plan, "plan")
        .prepared->launch({.q = from.q,
                           .k = from.k,
                           .v = from.v,
                           .log_g = from.log_g,
                           .y = from.y,
                           .initial_state = from.initial_state,
                           .final_state = from.final_state,
                           .q_strides = strides(from.q_strides),
                           .k_strides = strides(from.k_strides),
                           .v_strides = strides(from.v_strides),
                           .g_strides = strides(from.log_g_strides),
                           .y_strides = strides(from.y_strides)},
                          workspace, workspace_bytes, stream);
  });
}

}  // extern "C"
