#include "kernel_templates/stage_template.hpp"

#include <stdexcept>

#include "kernel_templates/sm80/attend_query.hpp"
#include "kernel_templates/sm80/attention.hpp"
#include "kernel_templates/sm80/combine.hpp"
#include "kernel_templates/sm80/expand.hpp"
#include "kernel_templates/sm80/gates.hpp"
#include "kernel_templates/sm80/query_state.hpp"
#include "kernel_templates/sm80/scan.hpp"
#include "kernel_templates/sm80/update_state.hpp"
#include "kernel_templates/sm90/attend_query.hpp"
#include "kernel_templates/sm90/attention.hpp"
#include "kernel_templates/sm90/query_state.hpp"
#include "kernel_templates/sm90/update_state.hpp"

namespace phitune {

namespace {

const StageTemplate* find_sm80(Stage stage) {
  switch (stage) {
    case Stage::gates:
      return &gates_template();
    case Stage::attention:
      return &attention_template();
    case Stage::update_state:
    case Stage::update_scan:
      return &update_state_template();
    case Stage::scan:
      return &scan_template();
    case Stage::query_state:
      return &query_state_template();
    case Stage::attend_query:
      return &attend_query_template();
    case Stage::expand_key:
      return &expand_key_template();
    case Stage::expand_query:
      return &expand_query_template();
    case Stage::combine:
      return &combine_template();
    case Stage::update_gemm:
    case Stage::query_gemm:
      break;
  }
  return nullptr;
}

const StageTemplate* find_sm90(Stage stage) {
  switch (stage) {
    case Stage::attention:
      return &sm90::attention_template();
    case Stage::update_state:
    case Stage::update_scan:
      return &sm90::update_state_template();
    case Stage::query_state:
      return &sm90::query_state_template();
    case Stage::attend_query:
      return &sm90::attend_query_template();
    default:
      return nullptr;
  }
}

const StageTemplate* find(Stage stage, Path path) {
  switch (path) {
    case Path::sm80:
      return find_sm80(stage);
    case Path::sm90:
      return find_sm90(stage);
    case Path::library:
      break;
  }
  return nullptr;
}

}  // namespace

const StageTemplate& stage_template(Stage stage, Path path) {
  const StageTemplate* found = find(stage, path);
  if (!found)
    throw std::out_of_range("there is no template for stage " + std::string(to_string(stage)) + " on path " + std::string(to_string(path)));
  return *found;
}

}  // namespace phitune
