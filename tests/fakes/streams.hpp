// SPDX-License-Identifier: Apache-2.0
// Compressed streams as honest and as hostile tools write them.
#pragma once

#include <zlib.h>
#include <zstd.h>

#include <cstdio>
#include <cstring>
#include <string>

namespace slipway::fakes {

/// A JSON document that a reader of tar takes for a tar, too: its first block has the sum.
/// `members` come before its long one.
inline std::string document_and_tar(const std::string& members = "") {
  std::string text = "{" + members + R"("a":")" + std::string(700, ' ') + "\"}";
  text.replace(148, 8, 8, ' ');
  unsigned long sum = 0;
  for (std::size_t i = 0; i < 512; ++i)
    sum += static_cast<unsigned char>(text[i]);
  char field[9] = {};
  (void)std::snprintf(field, sizeof field, "%07lo ", sum);
  return text.replace(148, 8, field, 8);
}

/// One gzip member; `extra` and `comment` go into its header.
inline std::string gzip(const std::string& bytes, const std::string& extra = "",
                        const std::string& comment = "") {
  z_stream stream{};
  if (::deflateInit2(&stream, 6, Z_DEFLATED, 15 + 16, 8, Z_DEFAULT_STRATEGY) != Z_OK) return "";
  std::string field = extra;
  std::string words = comment;
  gz_header header{};
  header.os = 3;
  if (!extra.empty()) {
    header.extra = reinterpret_cast<Bytef*>(field.data());
    header.extra_len = static_cast<uInt>(field.size());
  }
  if (!comment.empty()) header.comment = reinterpret_cast<Bytef*>(words.data());
  ::deflateSetHeader(&stream, &header);
  std::string out(::deflateBound(&stream, bytes.size()) + 64, '\0');
  std::string in = bytes;
  stream.next_in = reinterpret_cast<Bytef*>(in.data());
  stream.avail_in = static_cast<uInt>(in.size());
  stream.next_out = reinterpret_cast<Bytef*>(out.data());
  stream.avail_out = static_cast<uInt>(out.size());
  ::deflate(&stream, Z_FINISH);
  out.resize(stream.total_out);
  ::deflateEnd(&stream);
  return out;
}

/// One zstd frame; `window_log` 0 = the library's choice.
inline std::string zstd(const std::string& bytes, int window_log = 0) {
  std::string out(::ZSTD_compressBound(bytes.size()), '\0');
  auto* context = ::ZSTD_createCCtx();
  if (window_log != 0) {
    ::ZSTD_CCtx_setParameter(context, ZSTD_c_windowLog, window_log);
    ::ZSTD_CCtx_setParameter(context, ZSTD_c_contentSizeFlag, 0);
  }
  ZSTD_inBuffer in{bytes.data(), bytes.size(), 0};
  ZSTD_outBuffer to{out.data(), out.size(), 0};
  // In two steps: a frame whose size is known beforehand would need no window.
  in.size = bytes.size() / 2;
  while (in.pos < in.size)
    ::ZSTD_compressStream2(context, &to, &in, ZSTD_e_continue);
  in.size = bytes.size();
  while (::ZSTD_compressStream2(context, &to, &in, ZSTD_e_end) != 0) {
  }
  ::ZSTD_freeCCtx(context);
  out.resize(to.pos);
  return out;
}

/// A zstd frame that decompressors skip.
inline std::string skippable_frame(const std::string& bytes) {
  const auto size = static_cast<unsigned>(bytes.size());
  std::string frame{"\x50\x2a\x4d\x18"};
  for (int shift = 0; shift < 32; shift += 8)
    frame += static_cast<char>(size >> shift & 0xffU);
  return frame + bytes;
}

/// The last member of an eStargz layer: empty, with the place of its index in the header.
inline std::string stargz_footer() {
  return gzip("", std::string{"SG\x16\x00", 4} + "0000000000000200STARGZ");
}

/// The last frame of a zstd:chunked layer.
inline std::string chunked_footer() {
  return skippable_frame(std::string(56, '\1') + "GNUlInUx");
}

} // namespace slipway::fakes
