// What else was timed on the same GPU in one run: softmax attention and the paper's kernels beside phitune. Made by scripts/compare_peers.py.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace phitune {

enum class PeerKind { phitune, softmax, retention };

struct PeerResult {
  std::string problem, family;  // family: the problem without its t
  std::int64_t t = 0;
  std::string peer;
  PeerKind kind = PeerKind::phitune;
  double median_ms = 0, p10_ms = 0, p90_ms = 0;
  double token_heads_per_s = 0;
  double first_call_s = 0;      // to the first result; a peer's own tuning included
  std::optional<double> error;  // relative L2 against float64; only of phitune
  std::string note;
};

struct PeerSkipped {
  std::string peer, problem, reason;  // problem is empty for all
};

/// From how many tokens on phitune is ahead of the best of a kind, at every longer context that was measured too; none: not at the longest.
struct PeerCrossover {
  std::string family, against;
  std::optional<std::int64_t> from_t;
};

struct Peers {
  std::string device, generated_at;
  std::int64_t samples = 0;
  std::vector<std::pair<std::string, std::string>> software;  // name, version
  std::vector<PeerResult> results;                            // by problem, in the order of the file
  std::vector<PeerSkipped> skipped;
  std::vector<PeerCrossover> crossovers;
};

/// Reads what compare_peers.py --json wrote (docs/formats.md). Throws std::invalid_argument saying which field is wrong.
[[nodiscard]] Peers read_peers(std::string_view json);

/// Of the problem's phitune; 0 when phitune was not timed on it.
[[nodiscard]] double phitune_ms(const Peers& peers, std::string_view problem);

/// "ahead of softmax at every context from 4096 tokens up"
[[nodiscard]] std::string crossover_text(const PeerCrossover& crossover);

}  // namespace phitune
