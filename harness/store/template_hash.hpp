// Tells whether a stored kernel is still what this build would generate.
#pragma once

#include <string>

#include "search/plan.hpp"

namespace phitune {

/// SHA-256 (hex) over the source that a stage's template generates and the name and text of every embedded header that the source
/// reaches through its includes. Independent of compiler, driver and architecture. Empty for a library stage, whose code is not phitune's.
/// Throws std::exception when this build has no template for the stage. Thread-safe.
[[nodiscard]] std::string template_hash(const PlanStage& stage);

}  // namespace phitune
