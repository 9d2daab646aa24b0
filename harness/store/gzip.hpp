// Gzip frames.
#pragma once

#include <memory>
#include <ostream>
#include <string>
#include <string_view>

namespace phitune {

[[nodiscard]] bool is_gzip(std::string_view bytes);

/// Throws std::invalid_argument saying what is wrong with the frame.
[[nodiscard]] std::string gunzip(const std::string& packed);

/// One frame, written piece by piece; equal text gives equal bytes.
class Gzip {
 public:
  Gzip();
  ~Gzip();
  Gzip(const Gzip&) = delete;
  Gzip& operator=(const Gzip&) = delete;
  void write(std::string_view text, std::ostream& to, bool last = false);

 private:
  struct Stream;
  std::unique_ptr<Stream> stream_;
};

}  // namespace phitune
