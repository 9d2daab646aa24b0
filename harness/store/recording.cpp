#include "harness/store/recording.hpp"

#include <fmt/format.h>
#include <unistd.h>
#include <zlib.h>

#include <algorithm>
#include <fstream>
#include <iterator>
#include <stdexcept>
#include <system_error>
#include <tuple>

#include "harness/error.hpp"
#include "harness/store/gzip.hpp"
#include "harness/store/trial_json.hpp"

namespace phitune {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;
using Json = nlohmann::ordered_json;

constexpr const char* format_name = "phitune recording";
constexpr int format_version = 1;

// windowBits 15 with 16 added: deflate in a gzip frame, whose header zlib fills with no time and no name.
constexpr int gzip_window = 15 + 16;

class Deflater {
 public:
  Deflater() {
    if (deflateInit2(&stream_, Z_BEST_COMPRESSION, Z_DEFLATED, gzip_window, 9, Z_DEFAULT_STRATEGY) != Z_OK) throw std::bad_alloc();
  }
  ~Deflater() { (void)deflateEnd(&stream_); }
  Deflater(const Deflater&) = delete;
  Deflater& operator=(const Deflater&) = delete;

  void write(const std::string& text, std::ostream& to, bool last = false) {
    stream_.next_in = reinterpret_cast<Bytef*>(const_cast<char*>(text.data()));
    stream_.avail_in = static_cast<uInt>(text.size());
    do {
      char out[1 << 16];
      stream_.next_out = reinterpret_cast<Bytef*>(out);
      stream_.avail_out = sizeof out;
      (void)deflate(&stream_, last ? Z_FINISH : Z_NO_FLUSH);
      to.write(out, static_cast<std::streamsize>(sizeof out - stream_.avail_out));
    } while (stream_.avail_out == 0);
  }

 private:
  z_stream stream_ = {};
};

void sort(Recording& recording) {
  const auto name = [](const Trial& trial) { return std::tuple(trial.problem.key(), trial.config.text(), trial.source_hash); };
  std::ranges::sort(recording.trials, [&](const Trial& a, const Trial& b) { return name(a) < name(b); });
  const auto plan_name = [](const PlanTrial& trial) { return std::tuple(trial.plan.problem.key(), trial.plan.text(), trial.cubin_hashes); };
  std::ranges::sort(recording.plan_trials, [&](const PlanTrial& a, const PlanTrial& b) { return plan_name(a) < plan_name(b); });
}

Json header_of(const Recording& recording) {
  Json header;
  header["format"] = format_name;
  header["version"] = format_version;
  header["device"] = device_json(recording.sweep.device);
  header["sweep"] = sweep_json(recording.sweep);
  header["trials"] = recording.trials.size();
  header["plan_trials"] = recording.plan_trials.size();
  return header;
}

void write_lines(const Recording& recording, std::ostream& to) {
  Deflater pack;
  // A compiler log may hold bytes that are not UTF-8; they must not lose the sweep.
  const auto line = [](const Json& value) { return value.dump(-1, ' ', false, Json::error_handler_t::replace) + "\n"; };
  pack.write(line(header_of(recording)), to);
  for (const Trial& trial : recording.trials) pack.write(line({{"trial", trial_json(trial)}}), to);
  for (const PlanTrial& trial : recording.plan_trials) pack.write(line({{"plan_trial", plan_trial_json(trial)}}), to);
  pack.write("", to, true);
}

// Reads the lines one after another, knowing where it is when one is wrong.
class Lines {
 public:
  explicit Lines(std::string text) : text_(std::move(text)) {}
  [[nodiscard]] int number() const { return number_; }
  [[nodiscard]] bool done() const { return at_ >= text_.size(); }
  json next() {
    ++number_;
    if (done()) throw std::invalid_argument("the file ends before all of its trials");
    const std::size_t end = std::min(text_.find('\n', at_), text_.size());
    const auto line = json::parse(text_.begin() + static_cast<std::ptrdiff_t>(at_), text_.begin() + static_cast<std::ptrdiff_t>(end));
    at_ = end + 1;
    return line;
  }

 private:
  std::string text_;
  std::size_t at_ = 0;
  int number_ = 0;
};

Recording read_lines(Lines& lines) {
  const json header = lines.next();
  if (!header.is_object() || header.value("format", std::string()) != format_name) {
    throw std::invalid_argument(fmt::format("the first line is not the header of a {}", format_name));
  }
  if (const int version = header.at("version").get<int>(); version != format_version) {
    throw std::invalid_argument(fmt::format("version {} of the format; this phitune reads version {}", version, format_version));
  }
  Recording recording;
  recording.sweep = sweep_from(header.at("sweep"));
  recording.sweep.device = device_from(header.at("device"));
  const auto trials = header.at("trials").get<std::size_t>();
  const auto plan_trials = header.at("plan_trials").get<std::size_t>();
  for (std::size_t i = 0; i < trials; ++i) recording.trials.push_back(trial_from(lines.next().at("trial")));
  for (std::size_t i = 0; i < plan_trials; ++i) recording.plan_trials.push_back(plan_trial_from(lines.next().at("plan_trial")));
  if (!lines.done()) throw std::invalid_argument("there are more lines than the header says");
  return recording;
}

std::string read_bytes(const fs::path& path) {
  std::error_code ignored;
  std::ifstream in(path, std::ios::binary);
  if (!in || fs::is_directory(path, ignored)) {
    throw Error(ExitCode::io, fmt::format("{}: cannot read the recording; see that the file exists and can be read", path.string()));
  }
  return {std::istreambuf_iterator<char>(in), std::istreambuf_iterator<char>()};
}

}  // namespace

Recording recording_of(Store& store, std::int64_t sweep) {
  Recording recording;
  recording.sweep = store.sweep(sweep);
  recording.sweep.id = 0;
  recording.sweep.device_id = 0;
  store.for_each_trial({.sweep = sweep}, [&](const StoredTrial& row) { recording.trials.push_back(row.trial); });
  store.for_each_plan_trial({.sweep = sweep}, [&](const StoredPlanTrial& row) { recording.plan_trials.push_back(row.trial); });
  sort(recording);
  return recording;
}

void write_recording(const fs::path& path, const Recording& recording) {
  if (recording.sweep.device.emulated) {
    throw Error(ExitCode::usage,
                fmt::format("sweep {} ran by CPU emulation, and a recording stands for a GPU: record a sweep of one", recording.sweep.uid));
  }
  const fs::path partial = fmt::format("{}.{}.partial", path.string(), ::getpid());
  const auto fail = [&](const std::string& why) {
    std::error_code ignored;
    fs::remove(partial, ignored);
    throw Error(ExitCode::io, fmt::format("{}: cannot write the recording: {}; see that the folder exists, can be written and is not full",
                                          path.string(), why));
  };
  Recording sorted = recording;
  sort(sorted);
  std::ofstream out(partial, std::ios::binary | std::ios::trunc);
  if (!out) fail(std::generic_category().message(errno));
  write_lines(sorted, out);
  out.close();
  if (!out) fail("the disk refused some of it");
  std::error_code error;
  fs::rename(partial, path, error);
  if (error) fail(error.message());
}

Recording read_recording(const fs::path& path) {
  const std::string packed = read_bytes(path);
  int line = 0;
  try {
    Lines lines(gunzip(packed));
    try {
      return read_lines(lines);
    } catch (...) {
      line = lines.number();
      throw;
    }
  } catch (const Error&) {
    throw;
  } catch (const std::exception& error) {
    const std::string where = line > 0 ? fmt::format(", line {}", line) : "";
    throw Error(ExitCode::bad_input, fmt::format("{}{}: not a whole phitune recording: {}. Fetch the file again, or record the sweep anew",
                                                 path.string(), where, error.what()));
  }
}

}  // namespace phitune
