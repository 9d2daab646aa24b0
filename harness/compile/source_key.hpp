// What a generated source stands for: its own text and the text of every header it includes, and nothing about where they lie.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "kernel_templates/stage_template.hpp"

namespace phitune {

/// The headers that `source` includes, directly or through others, in the order first met. A name that is not among `available` is left
/// out: the compiler names it when it cannot find it. Commented-out includes count, which can only make the set larger.
[[nodiscard]] std::vector<EmbeddedHeader> included_headers(std::string_view source, const std::vector<EmbeddedHeader>& available);

/// SHA-256 over a source and its headers: changes exactly when the text of the template changes, whatever compiles it. A stored winner
/// whose hash differs from today's is stale. The one-argument form uses the headers embedded in this library.
[[nodiscard]] std::string template_text_hash(std::string_view source, const std::vector<EmbeddedHeader>& available);
[[nodiscard]] std::string template_text_hash(std::string_view source);

/// The compile cache's key: template_text_hash with the options (the architecture is one) and the version of the compiler.
[[nodiscard]] std::string compile_key(const std::string& text_hash, const std::vector<std::string>& options,
                                      const std::string& nvrtc_version);

}  // namespace phitune
