#include "reports/peers.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <nlohmann/json.hpp>
#include <stdexcept>

namespace phitune {
namespace {

using nlohmann::json;

PeerKind kind_of(const std::string& name) {
  if (name == "phitune") return PeerKind::phitune;
  if (name == "softmax") return PeerKind::softmax;
  if (name == "retention") return PeerKind::retention;
  throw std::invalid_argument(fmt::format("kind '{}' is none of phitune, softmax, retention", name));
}

double positive(const json& from, const char* field) {
  const double value = from.at(field).get<double>();
  if (!(value > 0) || !std::isfinite(value)) throw std::invalid_argument(fmt::format("{} is {}, and must be positive", field, value));
  return value;
}

PeerResult result_of(const json& from) {
  PeerResult result;
  from.at("problem").get_to(result.problem);
  from.at("family").get_to(result.family);
  result.t = static_cast<std::int64_t>(positive(from, "t"));
  from.at("peer").get_to(result.peer);
  result.kind = kind_of(from.at("kind").get<std::string>());
  result.median_ms = positive(from, "median_ms");
  result.p10_ms = positive(from, "p10_ms");
  result.p90_ms = positive(from, "p90_ms");
  result.token_heads_per_s = positive(from, "token_heads_per_s");
  from.at("first_call_s").get_to(result.first_call_s);
  from.at("note").get_to(result.note);
  if (const json& error = from.at("error"); !error.is_null()) result.error = error.get<double>();
  return result;
}

}  // namespace

Peers read_peers(std::string_view text) {
  try {
    const json from = json::parse(text);
    if (from.at("format") != "phitune-peers" || from.at("version") != 1)
      throw std::invalid_argument("its format is not \"phitune-peers\" of version 1");
    Peers peers;
    from.at("device").get_to(peers.device);
    from.at("generated_at").get_to(peers.generated_at);
    from.at("samples").get_to(peers.samples);
    for (const auto& [name, version] : from.at("software").items()) peers.software.emplace_back(name, version.get<std::string>());
    for (const json& result : from.at("results")) peers.results.push_back(result_of(result));
    for (const json& skipped : from.at("skipped")) {
      const json& problem = skipped.at("problem");
      peers.skipped.push_back({skipped.at("peer").get<std::string>(), problem.is_null() ? "" : problem.get<std::string>(),
                               skipped.at("reason").get<std::string>()});
    }
    for (const json& crossover : from.at("crossovers")) {
      const json& t = crossover.at("from_t");
      peers.crossovers.push_back({crossover.at("family").get<std::string>(), crossover.at("against").get<std::string>(),
                                  t.is_null() ? std::nullopt : std::optional(t.get<std::int64_t>())});
    }
    return peers;
  } catch (const json::exception& error) {
    throw std::invalid_argument(error.what());
  }
}

double phitune_ms(const Peers& peers, std::string_view problem) {
  const auto ours =
      std::ranges::find_if(peers.results, [&](const PeerResult& r) { return r.kind == PeerKind::phitune && r.problem == problem; });
  return ours == peers.results.end() ? 0 : ours->median_ms;
}

std::string crossover_text(const PeerCrossover& crossover) {
  if (!crossover.from_t) return fmt::format("{}: phitune is not ahead of {} at the longest context", crossover.family, crossover.against);
  return fmt::format("{}: phitune is ahead of {} at every context from {} tokens up", crossover.family, crossover.against,
                     *crossover.from_t);
}

}  // namespace phitune
