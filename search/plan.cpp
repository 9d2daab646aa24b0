#include "search/plan.hpp"

#include <algorithm>
#include <array>
#include <bit>
#include <set>
#include <stdexcept>

#include <fmt/format.h>

#include "search/names.hpp"

namespace phitune {
namespace {

constexpr Names<Stage, 12> stage_names{"stage",
                                       {{{Stage::gates, "gates"},
                                         {Stage::attention, "attention"},
                                         {Stage::update_state, "update_state"},
                                         {Stage::scan, "scan"},
                                         {Stage::update_scan, "update_scan"},
                                         {Stage::query_state, "query_state"},
                                         {Stage::attend_query, "attend_query"},
                                         {Stage::expand_key, "expand_key"},
                                         {Stage::expand_query, "expand_query"},
                                         {Stage::update_gemm, "update_gemm"},
                                         {Stage::query_gemm, "query_gemm"},
                                         {Stage::combine, "combine"}}}};
constexpr Names<Fusion, 6> fusion_names{"fusion strategy",
                                        {{{Fusion::quadratic, "quadratic"},
                                          {Fusion::materialized, "materialized"},
                                          {Fusion::expand_mma, "expand_mma"},
                                          {Fusion::attend_query, "attend_query"},
                                          {Fusion::update_scan, "update_scan"},
                                          {Fusion::two_kernels, "two_kernels"}}}};
constexpr Names<Path, 3> path_names{"path", {{{Path::sm80, "sm80"}, {Path::sm90, "sm90"}, {Path::library, "library"}}}};

bool has_partial_outputs(Fusion fusion) {
  return fusion == Fusion::expand_mma || fusion == Fusion::materialized || fusion == Fusion::update_scan;
}

// The words of one shape, in any order, each once.
class ShapeReader {
 public:
  explicit ShapeReader(std::string_view text) : text_(text) {}

  PlanShape read() {
    const auto words = words_of(text_);
    if (words.empty())
      throw std::invalid_argument("an empty plan shape; one reads like \"expand_mma c1024 d_tile8 state_bf16 partial_bf16\"");
    shape_.fusion = parse_fusion(words.front());
    for (const std::string_view word : std::span(words).subspan(1)) read_word(word);
    // No word for the path means sm80, as in texts from before there was another.
    const std::size_t words_seen = seen_.size() - seen_.count("path");
    if (shape_.fusion == Fusion::quadratic) {
      if (words_seen != 0) throw std::invalid_argument(fmt::format("plan shape '{}': quadratic has no chunk, d_tile or storage dtypes", text_));
    } else if (has_partial_outputs(shape_.fusion)) {
      if (words_seen != 4)
        throw std::invalid_argument(
            fmt::format("plan shape '{}': c<tokens>, d_tile<width>, state_<dtype> and partial_<dtype> are all needed", text_));
    } else if (words_seen != 3 || seen_.contains("partial")) {
      throw std::invalid_argument(fmt::format("plan shape '{}': {} needs c<tokens>, d_tile<width> and state_<dtype>, and has no partial outputs",
                                              text_, to_string(shape_.fusion)));
    }
    return shape_;
  }

 private:
  void read_word(std::string_view word) {
    if (word.starts_with("d_tile")) {
      once("d_tile", word);
      shape_.d_tile = number(word, 6);
    } else if (word.starts_with("state_")) {
      once("state", word);
      shape_.state = parse_dtype(word.substr(6));
    } else if (word.starts_with("partial_")) {
      once("partial", word);
      shape_.partial = parse_dtype(word.substr(8));
    } else if (word == "sm80" || word == "sm90") {
      once("path", word);
      shape_.path = parse_path(word);
    } else if (word.starts_with("c")) {
      once("chunk", word);
      shape_.chunk = number(word, 1);
    } else {
      throw std::invalid_argument(fmt::format("'{}' is no part of a plan shape, in '{}'", word, text_));
    }
  }

  void once(std::string_view what, std::string_view word) {
    if (!seen_.insert(what).second) throw std::invalid_argument(fmt::format("'{}' sets {} a second time, in '{}'", word, what, text_));
  }

  std::int64_t number(std::string_view word, std::size_t prefix) const {
    const auto value = whole_number(word.substr(prefix));
    if (!value || *value < 0) throw std::invalid_argument(fmt::format("'{}' has no whole number, in '{}'", word, text_));
    return *value;
  }

  std::string_view text_;
  PlanShape shape_;
  std::set<std::string_view> seen_;
};

std::string_view trimmed(std::string_view text) {
  const std::size_t begin = text.find_first_not_of(' ');
  return begin == std::string_view::npos ? std::string_view{} : text.substr(begin, text.find_last_not_of(' ') - begin + 1);
}

}  // namespace

std::string_view to_string(Stage stage) { return stage_names.text(stage); }
std::string_view to_string(Fusion fusion) { return fusion_names.text(fusion); }
std::string_view to_string(Path path) { return path_names.text(path); }
Stage parse_stage(std::string_view text) { return stage_names.parse(text); }
Fusion parse_fusion(std::string_view text) { return fusion_names.parse(text); }
Path parse_path(std::string_view text) { return path_names.parse(text); }

std::string PlanShape::text() const {
  const std::string_view suffix = path == Path::sm90 ? " sm90" : "";
  if (fusion == Fusion::quadratic) return fmt::format("{}{}", to_string(fusion), suffix);
  const std::string partials = has_partial_outputs(fusion) ? fmt::format(" partial_{}", to_string(partial)) : "";
  return fmt::format("{} c{} d_tile{} state_{}{}{}", to_string(fusion), chunk, d_tile, to_string(state), partials, suffix);
}

PlanShape PlanShape::parse(std::string_view text) { return ShapeReader(text).read(); }

std::string StageProblem::key() const {
  return fmt::format("{} {} | {} | {}", to_string(stage), to_string(path), shape.text(), problem.key());
}

StageProblem StageProblem::parse(std::string_view text) {
  const auto parts = words_of(text, "|");
  const auto head = parts.empty() ? std::vector<std::string_view>{} : words_of(parts[0]);
  if (parts.size() != 3 || head.size() != 2) {
    throw std::invalid_argument(fmt::format("'{}' is not \"stage path | plan shape | problem\"", text));
  }
  return {Problem::parse(parts[2]), PlanShape::parse(trimmed(parts[1])), parse_stage(head[0]), parse_path(head[1])};
}

std::int64_t StageProblem::chunks() const { return shape.chunk == 0 ? 1 : (problem.t + shape.chunk - 1) / shape.chunk; }
std::int64_t StageProblem::rows() const { return state_rows(problem.d, problem.p, shape.d_tile); }

std::string Plan::text() const {
  std::string out = shape.text() + " :";
  for (const PlanStage& stage : stages) {
    fmt::format_to(std::back_inserter(out), " {}{{{}}}", to_string(stage.problem.stage), stage.config.text());
  }
  return out;
}

namespace {

// How a width or a degree that a stage never reads is written: the smallest, and the degree that every normalisation accepts.
constexpr std::int64_t neutral_width = 16;
constexpr std::int64_t neutral_degree = 2;

// No state passes through these stages, so its tiling, dtype and order in memory are nothing to them.
void forget_state(PlanShape& shape) {
  shape.d_tile = 0;
  shape.state = Dtype::bf16;
  shape.path = Path::sm80;
}

void neutral_gates(StageProblem& s) {
  forget_state(s.shape);
  s.shape.partial = Dtype::bf16;
  Problem& p = s.problem;
  p.hq = p.hk;
  p.d = p.e = neutral_width;
  p.p = neutral_degree;
  p.dtype = Dtype::bf16;
  p.normalisation = Normalisation::none;
  p.initial_state = p.final_state = false;
}

void neutral_attention(StageProblem& s) {
  forget_state(s.shape);
  s.problem.initial_state = s.problem.final_state = false;
}

// The state is formed from k and v alone; whether its last chunk is wanted decides the grid.
void neutral_update(StageProblem& s) {
  s.shape.partial = Dtype::bf16;
  s.problem.hq = s.problem.hk;
  s.problem.initial_state = false;
}

// (The initial state is scan's part of it.)
void neutral_update_scan(StageProblem& s) {
  s.shape.partial = Dtype::bf16;
  s.problem.hq = s.problem.hk;
}

// Works on intermediates and both states: neither the user's layout nor dtype reaches it.
void neutral_scan(StageProblem& s) {
  s.shape.partial = Dtype::bf16;
  s.problem.hq = s.problem.hk;
  s.problem.dtype = Dtype::bf16;
  s.problem.layout = Layout::bthd;
}

// (attend_query too: shapes that fuse the two have no partial outputs to begin with.)
void neutral_query(StageProblem& s) { s.problem.final_state = false; }

void neutral_expand_query(StageProblem& s) {
  s.shape.partial = Dtype::bf16;
  Problem& p = s.problem;
  p.hk = p.hq;
  p.e = neutral_width;
  p.gated = false;
  p.normalisation = Normalisation::none;
  p.initial_state = p.final_state = false;
}

void neutral_query_gemm(StageProblem& s) {
  s.shape.partial = Dtype::bf16;
  s.problem.layout = Layout::bthd;
  s.problem.final_state = false;
}

void neutral_combine(StageProblem& s) {
  forget_state(s.shape);
  s.problem.d = neutral_width;
  s.problem.p = neutral_degree;
  s.problem.final_state = false;
}

Path path_of(Stage stage, Path preferred) {
  switch (stage) {
    case Stage::update_gemm:
    case Stage::query_gemm:
      return Path::library;
    case Stage::attention:
    case Stage::update_state:
    case Stage::update_scan:
    case Stage::query_state:
    case Stage::attend_query:
      return preferred;
    default:
      return Path::sm80;
  }
}

}  // namespace

// Strategies run the same kernels: which of them a stage is said to be of. (scan reads its denominators from another place in materialized.)
Fusion fusion_of(Stage stage, Fusion of_plan) {
  if (of_plan == Fusion::quadratic) return of_plan;
  if (stage == Stage::attend_query) return Fusion::attend_query;
  if (stage == Stage::update_scan) return Fusion::update_scan;
  if (stage == Stage::gates || stage == Stage::attention || of_plan != Fusion::materialized) return Fusion::expand_mma;
  return of_plan;
}

StageProblem make_stage_problem(const Problem& problem, const PlanShape& shape, Stage stage) {
  StageProblem s{problem, shape, stage, path_of(stage, shape.path)};
  s.shape.fusion = fusion_of(stage, shape.fusion);
  switch (stage) {
    case Stage::gates:
      neutral_gates(s);
      break;
    case Stage::attention:
      neutral_attention(s);
      break;
    case Stage::update_state:
    case Stage::expand_key:
      neutral_update(s);
      break;
    case Stage::update_gemm:
      neutral_update(s);
      s.problem.layout = Layout::bthd;
      break;
    case Stage::scan:
      neutral_scan(s);
      break;
    case Stage::update_scan:
      neutral_update_scan(s);
      break;
    case Stage::query_state:
    case Stage::attend_query:
      neutral_query(s);
      break;
    case Stage::expand_query:
      neutral_expand_query(s);
      break;
    case Stage::query_gemm:
      neutral_query_gemm(s);
      break;
    case Stage::combine:
      neutral_combine(s);
      break;
  }
  return s;
}

std::vector<StageProblem> stages_of(const Problem& problem, const PlanShape& shape) {
  std::vector<Stage> order;
  if (problem.gated) order.push_back(Stage::gates);
  switch (shape.fusion) {
    case Fusion::quadratic:
      order.push_back(Stage::attention);
      break;
    case Fusion::expand_mma:
      order.insert(order.end(), {Stage::attention, Stage::update_state, Stage::scan, Stage::query_state});
      break;
    case Fusion::attend_query:
      order.insert(order.end(), {Stage::update_state, Stage::scan, Stage::attend_query});
      break;
    case Fusion::update_scan:
      order.insert(order.end(), {Stage::attention, Stage::update_scan, Stage::query_state});
      break;
    case Fusion::two_kernels:
      order.insert(order.end(), {Stage::update_scan, Stage::attend_query});
      break;
    case Fusion::materialized:
      order.insert(order.end(), {Stage::expand_key, Stage::update_gemm, Stage::scan, Stage::expand_query, Stage::query_gemm,
                                 Stage::attention, Stage::combine});
      break;
  }
  std::vector<StageProblem> stages;
  for (const Stage stage : order) stages.push_back(make_stage_problem(problem, shape, stage));
  return stages;
}

namespace {

// (Powers of two, and between them where the best are: the time is flat there, but not level.)
constexpr std::array<std::int64_t, 10> chunk_sizes{64, 128, 256, 384, 512, 768, 1024, 1536, 2048, 4096};
constexpr std::array<std::int64_t, 4> tile_widths{2, 4, 8, 16};
constexpr std::array<Dtype, 2> storage_dtypes{Dtype::bf16, Dtype::fp32};
// Chunks are one grid dimension of the state kernels.
constexpr std::int64_t max_chunks = 65535;

std::optional<std::string> degree_refused(const Problem& problem) {
  const std::int64_t widest = problem.p == 3 ? 64 : problem.p == 4 ? 32 : 128;
  if (problem.d <= widest) return std::nullopt;
  return fmt::format("the state of p {} is supported up to d {}, not {}: it would have {} rows", problem.p, widest, problem.d,
                     state_rows(problem.d, problem.p, 1));
}

std::optional<std::string> chunk_refused(const Problem& problem, std::int64_t chunk) {
  const auto* const least = std::ranges::lower_bound(chunk_sizes, problem.t);
  const std::int64_t covering = least != chunk_sizes.end() ? *least : static_cast<std::int64_t>(std::bit_ceil(static_cast<std::uint64_t>(problem.t)));
  if (chunk > covering) return fmt::format("chunk {} is more than t {} needs: {} holds all of it", chunk, problem.t, covering);
  const std::int64_t chunks = (problem.t + chunk - 1) / chunk;
  if (chunks > max_chunks)
    return fmt::format("chunk {} cuts t {} into {} chunks, more than a grid's {}", chunk, problem.t, chunks, max_chunks);
  return std::nullopt;
}

std::optional<std::string> tile_refused(const Problem& problem, std::int64_t d_tile) {
  if (problem.d % d_tile != 0) return fmt::format("d_tile {} does not divide d {}", d_tile, problem.d);
  const std::int64_t only = std::min<std::int64_t>(16, problem.d);
  if (problem.p == 1 && d_tile != only)
    return fmt::format("with p 1 the state is k itself, the same for every d_tile: {} stands for all", only);
  return std::nullopt;
}

std::optional<std::string> storage_refused(const Problem& problem, const PlanShape& shape) {
  if (problem.dtype != Dtype::fp16) return std::nullopt;
  if (shape.state != Dtype::fp32) return "an fp16 problem stores states in fp32: fp16 lacks their range, bf16 its precision";
  if (shape.partial != Dtype::fp32 && has_partial_outputs(shape.fusion)) return "an fp16 problem stores partial outputs in fp32: fp16 lacks their range, bf16 its precision";
  return std::nullopt;
}

std::optional<std::string> path_refused(const Problem& problem, const PlanShape& shape) {
  if (shape.path == Path::sm80) return std::nullopt;
  if (shape.path == Path::library) return "a plan's path is sm80 or sm90: library stages belong to both";
  if (shape.fusion == Fusion::materialized) return "materialized has no kernels on the sm90 path";
  if (problem.dtype != Dtype::bf16)
    return fmt::format("the sm90 path multiplies in bf16, which is too coarse for {}", to_string(problem.dtype));
  if (shape.fusion == Fusion::quadratic) return std::nullopt;
  if (shape.state != Dtype::bf16) return fmt::format("the sm90 path stores states in bf16, not {}", to_string(shape.state));
  if (problem.p < 2) return "with p 1 the state is k itself: nothing to form in registers";
  if (problem.d % 32 != 0) return fmt::format("the sm90 path transposes keys 32 features at a time: d {} is no multiple", problem.d);
  return std::nullopt;
}

std::optional<std::string> quadratic_refused(const Problem& problem) {
  if (problem.initial_state) return "quadratic has no state: it cannot take an initial one";
  if (problem.final_state) return "quadratic has no state: it cannot give a final one";
  return std::nullopt;
}

std::vector<PlanShape> every_shape() {
  std::vector<PlanShape> shapes{PlanShape{.fusion = Fusion::quadratic}, PlanShape{.fusion = Fusion::quadratic, .path = Path::sm90}};
  for (const Fusion fusion : {Fusion::materialized, Fusion::expand_mma, Fusion::attend_query, Fusion::update_scan, Fusion::two_kernels}) {
    for (const std::int64_t chunk : chunk_sizes) {
      for (const std::int64_t d_tile : tile_widths) {
        for (const Dtype state : storage_dtypes) {
          for (const Dtype partial : storage_dtypes) {
            if (partial != Dtype::bf16 && !has_partial_outputs(fusion)) continue;
            for (const Path path : {Path::sm80, Path::sm90}) shapes.push_back({fusion, chunk, d_tile, state, partial, path});
          }
        }
      }
    }
  }
  return shapes;
}

}  // namespace

std::optional<std::string> why_not(const Problem& problem, const PlanShape& shape) {
  if (auto reason = problem.invalid()) return reason;
  if (auto reason = path_refused(problem, shape)) return reason;
  if (shape.fusion == Fusion::quadratic) return quadratic_refused(problem);
  if (auto reason = degree_refused(problem)) return reason;
  if (auto reason = chunk_refused(problem, shape.chunk)) return reason;
  if (auto reason = tile_refused(problem, shape.d_tile)) return reason;
  return storage_refused(problem, shape);
}

PlanShapes plan_shapes(const Problem& problem) {
  PlanShapes result;
  for (const PlanShape& shape : every_shape()) {
    if (auto reason = why_not(problem, shape)) {
      result.pruned.push_back({shape, std::move(*reason)});
    } else {
      result.shapes.push_back(shape);
    }
  }
  return result;
}

}  // namespace phitune
