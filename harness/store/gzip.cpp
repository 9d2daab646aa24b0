#include "harness/store/gzip.hpp"

#include <zlib.h>

#include <new>
#include <stdexcept>

namespace phitune {
namespace {

// windowBits 15 with 16 added: deflate in a gzip frame, whose header zlib fills with no time and no name.
constexpr int gzip_window = 15 + 16;

class Inflater {
 public:
  Inflater() {
    if (inflateInit2(&stream_, gzip_window) != Z_OK) throw std::bad_alloc();
  }
  ~Inflater() { (void)inflateEnd(&stream_); }
  Inflater(const Inflater&) = delete;
  Inflater& operator=(const Inflater&) = delete;

  std::string read(const std::string& packed) {
    std::string text;
    stream_.next_in = reinterpret_cast<Bytef*>(const_cast<char*>(packed.data()));
    stream_.avail_in = static_cast<uInt>(packed.size());
    for (int status = Z_OK; status != Z_STREAM_END;) {
      char out[1 << 16];
      stream_.next_out = reinterpret_cast<Bytef*>(out);
      stream_.avail_out = sizeof out;
      status = inflate(&stream_, Z_NO_FLUSH);
      text.append(out, sizeof out - stream_.avail_out);
      if (status == Z_BUF_ERROR) throw std::invalid_argument("the file is cut short");
      if (status != Z_OK && status != Z_STREAM_END) throw std::invalid_argument(stream_.msg != nullptr ? stream_.msg : "not a gzip file");
    }
    return text;
  }

 private:
  z_stream stream_ = {};
};

}  // namespace

bool is_gzip(std::string_view bytes) { return bytes.starts_with("\x1f\x8b"); }

std::string gunzip(const std::string& packed) { return Inflater().read(packed); }

struct Gzip::Stream : z_stream {};

Gzip::Gzip() : stream_(std::make_unique<Stream>()) {
  if (deflateInit2(stream_.get(), Z_BEST_COMPRESSION, Z_DEFLATED, gzip_window, 9, Z_DEFAULT_STRATEGY) != Z_OK) throw std::bad_alloc();
}

Gzip::~Gzip() { (void)deflateEnd(stream_.get()); }

void Gzip::write(std::string_view text, std::ostream& to, bool last) {
  stream_->next_in = reinterpret_cast<Bytef*>(const_cast<char*>(text.data()));
  stream_->avail_in = static_cast<uInt>(text.size());
  do {
    char out[1 << 16];
    stream_->next_out = reinterpret_cast<Bytef*>(out);
    stream_->avail_out = sizeof out;
    (void)deflate(stream_.get(), last ? Z_FINISH : Z_NO_FLUSH);
    to.write(out, static_cast<std::streamsize>(sizeof out - stream_->avail_out));
  } while (stream_->avail_out == 0);
}

}  // namespace phitune
