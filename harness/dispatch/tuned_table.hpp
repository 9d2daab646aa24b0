// The tuned table in memory: exact look-up by a hash of the problem's fields, and the nearest shape of the same family.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "harness/compile/compiler.hpp"
#include "search/trial.hpp"

namespace phitune {

/// A winner as the dispatcher needs it.
struct TunedPlan {
  Plan plan;
  Result result;      // of the run that made it the winner
  DeviceInfo device;  // that it was tuned on
  std::string set_at;
  bool same_device = true;  // false: another board name of the same architecture
  bool stale = false;
  std::string stale_reason;
  std::vector<std::string> template_hashes;             // per stage
  std::vector<std::shared_ptr<const Binary>> binaries;  // per stage; null for library stages, or when the file has no machine code
};

struct ProblemHash {
  [[nodiscard]] std::size_t operator()(const Problem& problem) const noexcept;
};

/// How far a tuned problem may be from the one asked for, so that its plan is still worth more than the built-in one.
struct NearestGuard {
  double t_factor = 8;            // in either direction
  double heads_factor = 16;       // of b * hq
  double quadratic_t_factor = 2;  // upwards, for a quadratic plan: its time grows with t squared
};

enum class Why { exact, nearest, builtin };
[[nodiscard]] std::string_view to_string(Why why);

/// Immutable after construction; thread-safe. Entries live as long as the table.
class TunedTable {
 public:
  /// Of several plans for one problem the one on the same device, then the one that is not stale, not replayed, set last, faster stays.
  explicit TunedTable(std::vector<TunedPlan> plans, NearestGuard guard = {});
  TunedTable(const TunedTable&) = delete;
  TunedTable& operator=(const TunedTable&) = delete;

  struct Found {
    Why why = Why::builtin;
    const TunedPlan* plan = nullptr;  // null for builtin
  };
  /// No allocation, no locks. Same family: pass, d, e, p, dtype, gated, normalisation, layout and hq / hk. Nearest: the least
  /// |log2 t| + |log2 (b hq)| of the ratios, 0.5 more when the states asked for differ, 1 more when stale or of another device.
  [[nodiscard]] Found find(const Problem& problem) const noexcept;

  /// Why find() gave no plan, for people.
  [[nodiscard]] std::string why_none(const Problem& problem) const;

  [[nodiscard]] const std::vector<TunedPlan>& plans() const { return plans_; }

 private:
  struct Member {
    double log2_t, log2_heads;
    const TunedPlan* plan;
  };
  [[nodiscard]] const std::vector<Member>* family_of(const Problem& problem) const noexcept;
  /// Distance, negative when the guard refuses.
  [[nodiscard]] double distance(const Problem& problem, double log2_t, double log2_heads, const Member& member) const noexcept;

  NearestGuard guard_;
  double log2_t_factor_, log2_heads_factor_, log2_quadratic_t_factor_;
  std::vector<TunedPlan> plans_;
  std::unordered_map<Problem, const TunedPlan*, ProblemHash> exact_;
  std::unordered_map<Problem, std::vector<Member>, ProblemHash> families_;  // by family_key
};

}  // namespace phitune
