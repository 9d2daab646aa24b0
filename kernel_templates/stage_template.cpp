#include "kernel_templates/stage_template.hpp"

#include <stdexcept>

#if __has_include("kernel_templates/sm80/attention.hpp")
#include "kernel_templates/sm80/attention.hpp"
#define PHITUNE_HAS_attention
#endif
#if __has_include("kernel_templates/sm80/combine.hpp")
#include "kernel_templates/sm80/combine.hpp"
#define PHITUNE_HAS_combine
#endif
#if __has_include("kernel_templates/sm80/expand.hpp")
#include "kernel_templates/sm80/expand.hpp"
#define PHITUNE_HAS_expand
#endif
#if __has_include("kernel_templates/sm80/gates.hpp")
#include "kernel_templates/sm80/gates.hpp"
#define PHITUNE_HAS_gates
#endif
#if __has_include("kernel_templates/sm80/query_state.hpp")
#include "kernel_templates/sm80/query_state.hpp"
#define PHITUNE_HAS_query_state
#endif
#if __has_include("kernel_templates/sm80/scan.hpp")
#include "kernel_templates/sm80/scan.hpp"
#define PHITUNE_HAS_scan
#endif
#if __has_include("kernel_templates/sm80/update_state.hpp")
#include "kernel_templates/sm80/update_state.hpp"
#define PHITUNE_HAS_update_state
#endif

namespace phitune {

namespace {

const StageTemplate* find_sm80(Stage stage) {
  switch (stage) {
#ifdef PHITUNE_HAS_gates
    case Stage::gates:
      return &gates_template();
#endif
#ifdef PHITUNE_HAS_attention
    case Stage::attention:
      return &attention_template();
#endif
#ifdef PHITUNE_HAS_update_state
    case Stage::update_state:
      return &update_state_template();
#endif
#ifdef PHITUNE_HAS_scan
    case Stage::scan:
      return &scan_template();
#endif
#ifdef PHITUNE_HAS_query_state
    case Stage::query_state:
      return &query_state_template();
#endif
#ifdef PHITUNE_HAS_expand
    case Stage::expand_key:
      return &expand_key_template();
#endif
#ifdef PHITUNE_HAS_expand
    case Stage::expand_query:
      return &expand_query_template();
#endif
#ifdef PHITUNE_HAS_combine
    case Stage::combine:
      return &combine_template();
#endif
    default:
      return nullptr;
  }
}

}  // namespace

const StageTemplate& stage_template(Stage stage, Path path) {
  const StageTemplate* found = path == Path::sm80 ? find_sm80(stage) : nullptr;
  if (!found)
    throw std::out_of_range("there is no template for stage " + std::string(to_string(stage)) + " on path " + std::string(to_string(path)));
  return *found;
}

}  // namespace phitune
