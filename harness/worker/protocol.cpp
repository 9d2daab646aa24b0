#include "harness/worker/protocol.hpp"

#include <cstdint>

#include "harness/store/trial_json.hpp"

namespace phitune::worker {
namespace {

using Json = nlohmann::json;

Json to_json(const MeasurePolicy& policy) {
  return {{"warmup", policy.warmup},
          {"min_samples", policy.min_samples},
          {"max_samples", policy.max_samples},
          {"target_relative_ci", policy.target_relative_ci},
          {"time_to_beat_ms", policy.time_to_beat_ms},
          {"samples_to_beat", policy.samples_to_beat},
          {"timeout_ms", policy.timeout_ms},
          {"rest", policy.rest},
          {"regime", to_string(policy.regime)},
          {"seed", policy.seed},
          {"seeds", policy.seeds},
          {"adversarial", policy.adversarial}};
}

MeasurePolicy policy_from(const Json& from) {
  MeasurePolicy policy;
  from.at("warmup").get_to(policy.warmup);
  from.at("min_samples").get_to(policy.min_samples);
  from.at("max_samples").get_to(policy.max_samples);
  from.at("target_relative_ci").get_to(policy.target_relative_ci);
  from.at("time_to_beat_ms").get_to(policy.time_to_beat_ms);
  from.at("samples_to_beat").get_to(policy.samples_to_beat);
  from.at("timeout_ms").get_to(policy.timeout_ms);
  from.at("rest").get_to(policy.rest);
  policy.regime = parse_regime(from.at("regime").get<std::string>());
  from.at("seed").get_to(policy.seed);
  from.at("seeds").get_to(policy.seeds);
  from.at("adversarial").get_to(policy.adversarial);
  return policy;
}

/// Appends the stage's machine code to `attachment`.
Json to_json(const ExecutableStage& stage, std::vector<char>& attachment) {
  Json json = {{"problem", stage.stage.problem.key()}, {"config", stage.stage.config.text()}};
  if (!stage.binary) return json;
  const std::vector<char>& cubin = stage.binary->cubin;
  json["cubin"] = {{"at", attachment.size()}, {"bytes", cubin.size()}};
  attachment.insert(attachment.end(), cubin.begin(), cubin.end());
  json["cubin_hash"] = stage.binary->cubin_hash;
  json["resources"] = resources_json(stage.binary->resources);
  return json;
}

ExecutableStage stage_from(const Json& from, std::span<const char> attachment) {
  ExecutableStage stage;
  stage.stage = {StageProblem::parse(from.at("problem").get<std::string>()), Config::parse(from.at("config").get<std::string>())};
  if (!from.contains("cubin")) return stage;
  const auto at = from.at("cubin").at("at").get<std::size_t>(), bytes = from.at("cubin").at("bytes").get<std::size_t>();
  if (at > attachment.size() || bytes > attachment.size() - at) throw Broken("a stage's machine code lies outside the message");
  const std::span<const char> cubin = attachment.subspan(at, bytes);
  auto binary = std::make_shared<Binary>();
  binary->cubin.assign(cubin.begin(), cubin.end());
  from.at("cubin_hash").get_to(binary->cubin_hash);
  binary->resources = resources_from(from.at("resources"));
  stage.binary = std::move(binary);
  return stage;
}

}  // namespace

Json to_json(const Hello& hello) {
  return {{"ask", "hello"}, {"version", hello.version}, {"device", hello.device}, {"use", static_cast<int>(hello.use)}};
}

Hello hello_from(const Json& message) {
  Hello hello;
  message.at("version").get_to(hello.version);
  message.at("device").get_to(hello.device);
  hello.use = static_cast<Use>(message.at("use").get<int>());
  return hello;
}

Message stage_request(const ExecutableStage& stage, const MeasurePolicy& policy) {
  Message message;
  message.document = {{"ask", "stage"}, {"stage", to_json(stage, message.attachment)}, {"policy", to_json(policy)}};
  return message;
}

RunStage stage_request_from(const Message& message) {
  return {stage_from(message.document.at("stage"), message.attachment), policy_from(message.document.at("policy"))};
}

Message plans_request(const Problem& problem, std::span<const std::vector<ExecutableStage>> plans, const MeasurePolicy& policy) {
  Message message;
  Json list = Json::array();
  for (const std::vector<ExecutableStage>& plan : plans) {
    Json stages = Json::array();
    for (const ExecutableStage& stage : plan) stages.push_back(to_json(stage, message.attachment));
    list.push_back(std::move(stages));
  }
  message.document = {{"ask", "plans"}, {"problem", problem.key()}, {"plans", std::move(list)}, {"policy", to_json(policy)}};
  return message;
}

RunPlans plans_request_from(const Message& message) {
  RunPlans request;
  request.problem = Problem::parse(message.document.at("problem").get<std::string>());
  for (const Json& stages : message.document.at("plans")) {
    std::vector<ExecutableStage>& plan = request.plans.emplace_back();
    for (const Json& stage : stages) plan.push_back(stage_from(stage, message.attachment));
  }
  request.policy = policy_from(message.document.at("policy"));
  return request;
}

Json to_json(const Answer& answer) {
  Json results = Json::array();
  for (const Result& result : answer.results) results.push_back(Json(result_json(result)));
  return {{"results", std::move(results)}, {"last", answer.last}};
}

Answer answer_from(const Json& message) {
  Answer answer;
  for (const Json& result : message.at("results")) answer.results.push_back(result_from(result));
  message.at("last").get_to(answer.last);
  return answer;
}

Json refusal(int exit_code, const std::string& reason) { return {{"refused", {{"code", exit_code}, {"reason", reason}}}}; }

}  // namespace phitune::worker
