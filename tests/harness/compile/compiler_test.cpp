#include "harness/compile/compiler.hpp"

#include <gtest/gtest.h>
#include <stdlib.h>
#include <sys/resource.h>

#include <csignal>
#include <fstream>
#include <random>
#include <thread>

#include "harness/compile/cache.hpp"
#include "harness/error.hpp"
#include "tests/harness/compile/kernels.hpp"

namespace phitune {
namespace {

namespace fs = std::filesystem;
using test_kernels::heavy;
using test_kernels::plain;

class CompilerTest : public testing::Test {
 protected:
  CompilerTest() {
    std::string pattern = (fs::temp_directory_path() / "phitune-compiler-test-XXXXXX").string();
    directory_ = mkdtemp(pattern.data());
  }
  ~CompilerTest() override { fs::remove_all(directory_); }

  [[nodiscard]] CompilerOptions options(int threads = 1) const { return {"sm_90a", directory_ / "cache", threads}; }
  [[nodiscard]] fs::path entry(const std::string& key) const { return BinaryCache(directory_ / "cache").path_of(key); }

  fs::path directory_;
};

/// A copy: get() refers into the future, which must outlive the reference.
Compiled compiled(Compiler& compiler, const std::string& source) {
  const auto future = compiler.compile(source);
  return future.get();
}

std::string failure_of(const std::function<void()>& act, ExitCode code) {
  try {
    act();
  } catch (const Error& e) {
    EXPECT_EQ(e.code(), code) << e.what();
    return e.what();
  }
  ADD_FAILURE() << "no Error was thrown";
  return {};
}

TEST_F(CompilerTest, CompilesAndReportsResources) {
  Compiler compiler(options());
  const Compiled c = compiled(compiler, heavy(8, 33, 256, 1));
  ASSERT_EQ(c.outcome, Outcome::ok) << c.reason;
  EXPECT_TRUE(c.reason.empty());
  EXPECT_FALSE(c.cache_hit);
  EXPECT_GT(c.compile_ms, 0);
  EXPECT_EQ(c.source_hash.size(), 64U);
  EXPECT_EQ(c.source_hash, compiler.key(heavy(8, 33, 256, 1)));
  EXPECT_EQ(c.binary->cubin_hash.size(), 64U);
  EXPECT_EQ(c.binary->resources.static_shared_bytes, 132);
  EXPECT_EQ(c.binary->resources.dynamic_shared_bytes, 0);
}

TEST_F(CompilerTest, SecondRunIsServedByTheCacheWithTheSameBinary) {
  std::vector<char> cubin;
  {
    Compiler compiler(options());
    const Compiled c = compiled(compiler, plain(2));
    ASSERT_EQ(c.outcome, Outcome::ok) << c.reason;
    cubin = c.binary->cubin;
  }
  Compiler compiler(options());
  const Compiled c = compiled(compiler, plain(2));
  EXPECT_TRUE(c.cache_hit);
  EXPECT_EQ(c.compile_ms, 0);
  EXPECT_EQ(c.binary->cubin, cubin);
  EXPECT_GT(c.binary->resources.registers, 0);
  EXPECT_EQ(compiler.counters().compiled, 0U);
  EXPECT_EQ(compiler.counters().cache_hits, 1U);
}

TEST_F(CompilerTest, CacheIsKeyedByContentNotByPath) {
  { Compiler(options()).compile(plain(2)).wait(); }
  fs::rename(directory_ / "cache", directory_ / "moved");
  Compiler moved({"sm_90a", directory_ / "moved", 1});
  EXPECT_TRUE(compiled(moved, plain(2)).cache_hit);
  EXPECT_FALSE(compiled(moved, plain(3)).cache_hit);
  Compiler other({"sm_80", directory_ / "moved", 1});
  EXPECT_NE(other.key(plain(2)), moved.key(plain(2)));
  EXPECT_FALSE(compiled(other, plain(2)).cache_hit) << "a cubin of one architecture served another";
}

TEST_F(CompilerTest, DamagedEntriesAreCompiledAgainAndReplaced) {
  std::string key;
  {
    Compiler compiler(options());
    key = compiled(compiler, plain(2)).source_hash;
  }
  const auto cut = [&](const char* name) { fs::resize_file(entry(key) / name, fs::file_size(entry(key) / name) / 2); };
  const auto flip = [&](const char* name) {
    std::fstream file(entry(key) / name, std::ios::in | std::ios::out | std::ios::binary);
    file.seekp(700);
    file.put('\x55');
  };
  const auto write = [&](const char* name, const std::string& text) { std::ofstream(entry(key) / name) << text; };
  const std::vector<std::pair<std::string, std::function<void()>>> damages = {
      {"truncated cubin", [&] { cut("kernel.cubin"); }},
      {"altered cubin", [&] { flip("kernel.cubin"); }},
      {"missing cubin", [&] { fs::remove(entry(key) / "kernel.cubin"); }},
      {"truncated metadata", [&] { cut("entry.json"); }},
      {"metadata of another shape", [&] { write("entry.json", "[1, 2]"); }},
      {"metadata of another type", [&] { write("entry.json", R"({"format": "1", "key": 3, "outcome": null})"); }},
      {"altered log", [&] { write("log.txt", "something else"); }},
      {"empty folder", [&] { fs::remove_all(entry(key)), fs::create_directory(entry(key)); }},
  };
  for (const auto& [name, damage] : damages) {
    SCOPED_TRACE(name);
    damage();
    {
      Compiler compiler(options());
      const Compiled c = compiled(compiler, plain(2));
      EXPECT_EQ(c.outcome, Outcome::ok) << c.reason;
      EXPECT_FALSE(c.cache_hit) << "a damaged entry was trusted";
      EXPECT_EQ(compiler.counters().cache_write_failures, 0U) << compiler.counters().cache_warning;
    }
    Compiler again(options());
    EXPECT_TRUE(compiled(again, plain(2)).cache_hit) << "the damaged entry was not replaced";
  }
}

TEST_F(CompilerTest, EntryHoldsTheSourceAndLeavesNoTemporaries) {
  Compiler compiler(options());
  const std::string key = compiled(compiler, plain(2)).source_hash;
  std::ifstream in(entry(key) / "kernel.cu");
  const std::string text{std::istreambuf_iterator<char>(in), {}};
  EXPECT_EQ(text, plain(2));
  for (const auto& item : fs::directory_iterator(directory_ / "cache"))
    EXPECT_FALSE(item.path().filename().string().starts_with(".tmp")) << item.path();
}

TEST_F(CompilerTest, TemporariesOfAKilledProcessAreRemovedOnceOld) {
  const fs::path old = directory_ / "cache" / ".tmp-1-1-0";
  const fs::path young = directory_ / "cache" / ".tmp-2-2-0";
  fs::create_directories(old / "half");
  fs::create_directories(young / "half");
  fs::last_write_time(old, fs::file_time_type::clock::now() - std::chrono::hours(2));
  const Compiler compiler(options());
  EXPECT_FALSE(fs::exists(old));
  EXPECT_TRUE(fs::exists(young)) << "it may belong to a process at work";
}

TEST_F(CompilerTest, SameSourceFromManyThreadsIsCompiledOnce) {
  for (const bool with_disk : {true, false}) {
    SCOPED_TRACE(with_disk ? "with a cache on disk" : "without");
    Compiler compiler({"sm_90a", with_disk ? directory_ / "cache" : fs::path{}, 4});
    std::vector<std::shared_future<Compiled>> futures(32);
    {
      std::vector<std::jthread> threads;
      for (std::size_t i = 0; i < futures.size(); ++i)
        threads.emplace_back([&, i] { futures[i] = compiler.compile(plain(i % 2 == 0 ? 2.0F : 3.0F)); });
    }
    for (const auto& future : futures) EXPECT_EQ(future.get().outcome, Outcome::ok);
    EXPECT_EQ(compiler.counters().compiled, 2U);
  }
}

TEST_F(CompilerTest, FailureIsDataAndIsRemembered) {
  const std::string bad = "extern \"C\" __global__ void phitune_kernel() { no_such_function(); }";
  {
    Compiler compiler(options());
    const Compiled c = compiled(compiler, bad);
    EXPECT_EQ(c.outcome, Outcome::compile_failed);
    EXPECT_NE(c.reason.find("no_such_function"), std::string::npos) << c.reason;
    EXPECT_EQ(c.binary, nullptr);
    EXPECT_EQ(compiler.counters().failed, 1U);
  }
  Compiler again(options());
  const Compiled c = compiled(again, bad);
  EXPECT_EQ(c.outcome, Outcome::compile_failed);
  EXPECT_NE(c.reason.find("no_such_function"), std::string::npos) << c.reason;
  EXPECT_TRUE(c.cache_hit);
  EXPECT_EQ(again.counters().compiled, 0U);
}

TEST_F(CompilerTest, SerialisedMatrixInstructionsAreAFailure) {
  Compiler compiler(options());
  const Compiled c = compiled(compiler, test_kernels::serialised_wgmma());
  EXPECT_EQ(c.outcome, Outcome::compile_failed);
  EXPECT_NE(c.reason.find("wgmma instructions were serialised"), std::string::npos) << c.reason;
}

TEST_F(CompilerTest, SourceWithoutAKernelIsAFailureWithItsReason) {
  Compiler compiler(options());
  const Compiled c = compiled(compiler, "int nothing;");
  EXPECT_EQ(c.outcome, Outcome::compile_failed);
  EXPECT_FALSE(c.reason.empty());
}

// The key knows embedded headers only, so nothing else may be found.
TEST_F(CompilerTest, HeadersInTheCurrentDirectoryAreNotSeen) {
  const fs::path before = fs::current_path();
  std::ofstream(directory_ / "stray.cuh") << "#define STRAY 1\n";
  fs::current_path(directory_);
  Compiler compiler(options());
  const Compiled c = compiled(compiler, "#include \"stray.cuh\"\n" + plain(2));
  fs::current_path(before);
  EXPECT_EQ(c.outcome, Outcome::compile_failed);
  EXPECT_NE(c.reason.find("stray.cuh"), std::string::npos) << c.reason;
}

TEST_F(CompilerTest, CancelDropsWhatHasNotStarted) {
  Compiler compiler(options(1));
  std::vector<std::shared_future<Compiled>> futures;
  for (int i = 0; i < 50; ++i) futures.push_back(compiler.compile(heavy(100 + i, 33, 256, 1)));
  compiler.cancel();
  std::size_t cancelled = 0;
  for (const auto& future : futures) {
    const Compiled c = future.get();
    if (c.outcome == Outcome::compile_failed) {
      EXPECT_EQ(c.reason, "cancelled");
      ++cancelled;
    }
  }
  EXPECT_GE(cancelled, 45U);
  EXPECT_EQ(compiler.counters().compiled + cancelled, 50U);
  // A cancelled source is not remembered as one that failed.
  EXPECT_EQ(compiled(compiler, heavy(149, 33, 256, 1)).outcome, Outcome::ok);
}

TEST_F(CompilerTest, WhatSomebodyWaitsForOvertakesTheQueue) {
  Compiler compiler(options());
  std::vector<std::shared_future<Compiled>> later;
  for (int i = 0; i < 12; ++i) later.push_back(compiler.compile(plain(static_cast<float>(i))));
  const auto ready = [](const std::shared_future<Compiled>& f) { return f.wait_for(std::chrono::seconds(0)) == std::future_status::ready; };
  EXPECT_EQ(compiler.compile(plain(100), Compiler::Turn::next).get().outcome, Outcome::ok);
  EXPECT_FALSE(ready(later[10])) << "a new source waited for what was queued before it";
  EXPECT_EQ(compiler.compile(plain(11), Compiler::Turn::next).get().outcome, Outcome::ok);  // queued already
  EXPECT_FALSE(ready(later[10])) << "a queued source was not moved to the front";
  for (const auto& future : later) EXPECT_EQ(future.get().outcome, Outcome::ok);
  EXPECT_EQ(compiler.counters().compiled, 13u) << "overtaking must neither lose nor repeat a source";
}

TEST_F(CompilerTest, APauseIsSilentAndLosesNothing) {
  Compiler compiler(options(2));
  const auto before = compiler.compile(heavy(8, 33, 256, 1));
  std::shared_future<Compiled> meanwhile;
  {
    const Compiler::Pause pause(compiler);
    const Compiler::Counters at_start = compiler.counters();
    meanwhile = compiler.compile(plain(7));
    EXPECT_EQ(meanwhile.wait_for(std::chrono::milliseconds(100)), std::future_status::timeout) << "it compiles though it should not";
    EXPECT_EQ(compiler.counters().compiled, at_start.compiled);
  }
  EXPECT_EQ(before.get().outcome, Outcome::ok);
  EXPECT_EQ(meanwhile.get().outcome, Outcome::ok);
}

TEST_F(CompilerTest, DestructionDoesNotCompileTheRest) {
  std::vector<std::shared_future<Compiled>> futures;
  {
    Compiler compiler(options(2));
    for (int i = 0; i < 50; ++i) futures.push_back(compiler.compile(heavy(100 + i, 33, 256, 1)));
  }
  std::size_t cancelled = 0;
  for (const auto& future : futures) cancelled += future.get().reason == "cancelled" ? 1 : 0;
  EXPECT_GE(cancelled, 40U);
}

TEST_F(CompilerTest, UnknownArchitectureNamesTheKnownOnes) {
  for (const std::string name : {"sm_42", "sm_80a", "h200", ""}) {
    const std::string what = failure_of([&] { Compiler({name, {}, 1}); }, ExitCode::bad_input);
    EXPECT_NE(what.find('"' + name + '"'), std::string::npos) << what;
    EXPECT_NE(what.find("sm_90a"), std::string::npos) << what;
  }
}

TEST_F(CompilerTest, EveryListedArchitectureCompiles) {
  for (const std::string& name : Compiler::architectures()) {
    Compiler compiler({name, {}, 1});
    EXPECT_EQ(compiled(compiler, plain(2)).outcome, Outcome::ok) << name;
  }
}

TEST_F(CompilerTest, UnwritableCacheIsAnErrorWithTheMend) {
  std::ofstream(directory_ / "file") << "x";
  const std::string what = failure_of([&] { Compiler({"sm_90a", directory_ / "file" / "cache", 1}); }, ExitCode::io);
  EXPECT_NE(what.find((directory_ / "file" / "cache").string()), std::string::npos) << what;
  EXPECT_NE(what.find("Choose another directory"), std::string::npos) << what;
}

/// No file of this process may grow beyond `bytes` while this lives: what a full disk does to a writer.
class FileSizeLimit {
 public:
  explicit FileSizeLimit(rlim_t bytes) {
    getrlimit(RLIMIT_FSIZE, &before_);
    signal_ = std::signal(SIGXFSZ, SIG_IGN);
    const rlimit small{bytes, before_.rlim_max};
    setrlimit(RLIMIT_FSIZE, &small);
  }
  ~FileSizeLimit() {
    setrlimit(RLIMIT_FSIZE, &before_);
    std::signal(SIGXFSZ, signal_);
  }
  FileSizeLimit(const FileSizeLimit&) = delete;
  FileSizeLimit& operator=(const FileSizeLimit&) = delete;

 private:
  rlimit before_{};
  void (*signal_)(int) = nullptr;
};

TEST_F(CompilerTest, FullDiskIsAWarningAndCompilingGoesOn) {
  Compiler compiler(options());
  Compiled c;
  Compiled again;
  {
    const FileSizeLimit limit(1000);
    c = compiled(compiler, plain(2));
    again = compiled(compiler, plain(2));
  }
  EXPECT_EQ(c.outcome, Outcome::ok) << c.reason;
  EXPECT_EQ(again.binary, c.binary) << "what is not on disk must stay in memory";
  const auto counters = compiler.counters();
  EXPECT_EQ(counters.compiled, 1U);
  EXPECT_EQ(counters.cache_write_failures, 1U);
  EXPECT_FALSE(counters.cache_warning.empty());
  EXPECT_FALSE(fs::exists(entry(c.source_hash))) << "half an entry was left";
}

}  // namespace
}  // namespace phitune
