// Best-so-far curves of strategies on recorded spaces, as one picture.
#pragma once

#include <string>
#include <vector>

namespace phitune {

/// One panel: how near the optimum each strategy was, by the share of the budget that had passed.
struct SearchPanel {
  std::string title;
  double optimum = 0;
  std::vector<std::vector<double>>
      curves;  // per strategy the mean best-so-far time at equally spaced moments, the last at the budget's end
};

/// An SVG file. `names` are the strategies' and belong to each panel's curves in order.
[[nodiscard]] std::string draw_search(const std::vector<std::string>& names, const std::vector<SearchPanel>& panels);

}  // namespace phitune
