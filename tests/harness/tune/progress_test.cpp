#include "harness/tune/progress.hpp"

#include <gtest/gtest.h>

#include <sstream>
#include <vector>

namespace phitune {
namespace {

// A file to write to and read back.
class Capture {
 public:
  Capture() : file_(std::tmpfile()) {}
  ~Capture() { std::fclose(file_); }
  Capture(const Capture&) = delete;
  Capture& operator=(const Capture&) = delete;
  [[nodiscard]] std::FILE* file() const { return file_; }
  [[nodiscard]] std::string text() const {
    std::fflush(file_);
    std::rewind(file_);
    std::string text;
    for (int c = std::fgetc(file_); c != EOF; c = std::fgetc(file_)) text += static_cast<char>(c);
    return text;
  }

 private:
  std::FILE* file_;
};

std::vector<std::string> drawn_lines(const std::string& text) {
  std::vector<std::string> lines;
  std::istringstream stream(text);
  const std::string clear = "\r\033[K";
  for (std::string line; std::getline(stream, line);) {
    for (std::size_t at = line.find(clear); at != std::string::npos; at = line.find(clear)) {
      lines.push_back(line.substr(0, at));
      line.erase(0, at + clear.size());
    }
    lines.push_back(line);
  }
  return lines;
}

TEST(Progress, WritesPlainLinesWhereThereIsNoTerminal) {
  const Capture capture;
  Progress progress(Progress::Style::automatic, capture.file());
  progress.begin("headline", 10);
  for (int i = 0; i < 10; ++i) progress.advance("best 1 ms");
  progress.note("a note");
  progress.end("1 ms, quadratic");
  const std::string text = capture.text();
  EXPECT_EQ(text.find('\r'), std::string::npos) << text;
  EXPECT_EQ(text.find('\033'), std::string::npos) << text;
  EXPECT_EQ(text.rfind("headline: 0/10\na note\nheadline: 1 ms, quadratic (", 0), 0u) << text;  // and no line for every step
}

TEST(Progress, TheBarIsRedrawnInPlaceAndNeverWraps) {
  for (const std::size_t columns : {20u, 60u, 200u}) {
    const Capture capture;
    {
      Progress progress(Progress::Style::bar, capture.file(), columns);
      progress.begin("headline", 4);
      progress.advance("query_state expand_mma c1024 d_tile8 state_bf16 partial_bf16 best 0.4460 ms");
      progress.note("kept above the bar");
      progress.end("done");
    }
    for (const std::string& line : drawn_lines(capture.text())) {
      const bool is_bar = line.find('[') != std::string::npos;
      EXPECT_TRUE(!is_bar || line.size() < columns) << line;
    }
    EXPECT_NE(capture.text().find("\r\033[Kkept above the bar\n"), std::string::npos);
  }
}

TEST(Progress, TheBarFillsAsWorkIsDone) {
  const Capture capture;
  Progress progress(Progress::Style::bar, capture.file(), 200);
  progress.begin("x", 4);
  EXPECT_NE(capture.text().find("x [............................] 0/4"), std::string::npos) << capture.text();
  progress.advance("", 4);
  progress.begin("y", 2);
  progress.set_total(0);  // less than was thought, even nothing
  progress.advance("");
  progress.end("fine");
  EXPECT_NE(capture.text().find("y: fine"), std::string::npos) << capture.text();
}

TEST(Progress, SilenceIsSilent) {
  const Capture capture;
  Progress progress(Progress::Style::silent, capture.file());
  progress.begin("x", 2);
  progress.advance("d");
  progress.note("n");
  progress.end("e");
  EXPECT_EQ(capture.text(), "");
}

TEST(Progress, SecondsForPeople) {
  EXPECT_EQ(human_seconds(0.0354), "35 ms");
  EXPECT_EQ(human_seconds(0.9996), "1.0 s");
  EXPECT_EQ(human_seconds(59.94), "59.9 s");
  EXPECT_EQ(human_seconds(59.96), "1 m 00 s");
  EXPECT_EQ(human_seconds(80), "1 m 20 s");
  EXPECT_EQ(human_seconds(3600 + 59 * 60), "1 h 59 m");
}

}  // namespace
}  // namespace phitune
