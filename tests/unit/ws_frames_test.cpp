#define CAF_SUITE ws_frames

#include "http/ws_frames.hpp"
#include "sluice/utf8.hpp"

#include <random>
#include <string>
#include <vector>

#include "sluice/caf.hpp"
#include "sluice/ws_format.hpp"

#include <caf/test/unit_test.hpp>

#include "loopback.hpp"

using namespace sluice;
using namespace sluice::http;
using namespace sluice::testing;

namespace {

/// What was read, as text: messages and, where there was one, the error's code.
std::string read_parts(const std::vector<std::string>& parts, size_t max_message = 65536) {
  ws_reader reader{max_message};
  std::string out;
  for (const auto& part : parts) {
    auto code = reader.read(part, [&](const ws_message& got) {
      switch (got.what) {
      case ws_message::kind::text:
        out += "text ";
        break;
      case ws_message::kind::ping:
        out += "ping ";
        break;
      case ws_message::kind::pong:
        out += "pong ";
        break;
      case ws_message::kind::close:
        out += "close " + std::to_string(got.code) + " ";
        break;
      }
      out += got.payload + "\n";
    });
    if (code != 0)
      out += "error " + std::to_string(code);
  }
  return out;
}

std::string read(const std::string& bytes) {
  return read_parts({bytes});
}

std::vector<std::string> bytewise(const std::string& bytes) {
  std::vector<std::string> out;
  for (auto c : bytes)
    out.emplace_back(1, c);
  return out;
}

} // namespace

CAF_TEST(messages are read however they are cut) {
  auto bytes = ws_frame(0x81, "hello") + ws_frame(0x01, "frag") + ws_frame(0x89, "are you there") +
               ws_frame(0x00, "men") + ws_frame(0x8a, "") + ws_frame(0x80, "ted") + ws_frame(0x81, "") +
               ws_frame(0x81, std::string(300, 'm')) + ws_frame(0x81, std::string(65536, 'l')) +
               ws_close_frame(1000, "bye") + ws_frame(0x81, "too late");
  auto expected = "text hello\nping are you there\npong \ntext fragmented\ntext \ntext " + std::string(300, 'm') +
                  "\ntext " + std::string(65536, 'l') + "\nclose 1000 bye\n";
  CAF_CHECK(read(bytes) == expected);
  CAF_CHECK(read_parts(bytewise(bytes)) == expected);
  bool same = true;
  for (size_t at = 0; at < 500; ++at)
    same = same && read_parts({bytes.substr(0, at), bytes.substr(at)}) == expected;
  CAF_CHECK(same);
  std::minstd_rand random{42};
  for (int round = 0; round < 50; ++round) {
    std::vector<std::string> parts;
    for (size_t at = 0, size = 0; at < bytes.size(); at += size)
      parts.push_back(bytes.substr(at, size = 1 + random() % 5000));
    same = same && read_parts(parts) == expected;
  }
  CAF_CHECK(same);
}

CAF_TEST(what breaks the protocol is answered with its code) {
  CAF_CHECK_EQUAL(read(std::string{"\x81\x00", 2}), "error 1002"); // no mask
  CAF_CHECK_EQUAL(read(ws_frame(0xc1, "x")), "error 1002");        // RSV
  CAF_CHECK_EQUAL(read(ws_frame(0x83, "x")), "error 1002");        // no such opcode
  CAF_CHECK_EQUAL(read(ws_frame(0x8b, "x")), "error 1002");        // no such control frame
  CAF_CHECK_EQUAL(read(ws_frame(0x80, "x")), "error 1002");        // goes on with nothing
  CAF_CHECK_EQUAL(read(ws_frame(0x00, "x")), "error 1002");
  CAF_CHECK_EQUAL(read(ws_frame(0x01, "x") + ws_frame(0x81, "y")), "error 1002"); // two at once
  CAF_CHECK_EQUAL(read(ws_frame(0x01, "x") + ws_frame(0x82, "y")), "error 1002");
  CAF_CHECK_EQUAL(read(ws_frame(0x09, "x")), "error 1002"); // control frames are whole
  CAF_CHECK_EQUAL(read(ws_frame(0x89, std::string(126, 'x'))), "error 1002");
  CAF_CHECK_EQUAL(read(ws_frame(0x88, "x")), "error 1002"); // half a code
  for (auto code : {0, 999, 1004, 1005, 1006, 1015, 2999, 5000, 65535})
    CAF_CHECK_EQUAL(read(ws_close_frame(code)), "error 1002");
  CAF_CHECK_EQUAL(read(ws_frame(0x82, "x")), "error 1003"); // binary
  CAF_CHECK_EQUAL(read(ws_frame(0x81, "\xc3")), "error 1007");
  CAF_CHECK_EQUAL(read(ws_close_frame(1000, "\xff")), "error 1007");
  CAF_CHECK_EQUAL(read(ws_frame(0x81, std::string(65537, 'x'))), "error 1009");
  CAF_CHECK_EQUAL(read(ws_frame(0x01, std::string(65536, 'x')) + ws_frame(0x80, "x")), "error 1009");
  CAF_CHECK_EQUAL(read(std::string{"\x81\xff\xff\xff\xff\xff\xff\xff\xff\xff", 10} + "abcd"), "error 1009");
}

CAF_TEST(close frames that are right are understood) {
  CAF_CHECK_EQUAL(read(ws_frame(0x88, "")), "close 1005 \n");
  for (auto code : {1000, 1001, 1003, 1007, 1011, 1014, 3000, 4999})
    CAF_CHECK_EQUAL(read(ws_close_frame(code, "r")), "close " + std::to_string(code) + " r\n");
}

CAF_TEST(characters may be cut by fragments but messages are whole UTF - 8) {
  CAF_CHECK_EQUAL(read(ws_frame(0x01, "\xc3") + ws_frame(0x80, "\xa4")), "text \xc3\xa4\n");
  for (auto good : {"", "a", "\xc2\x80", "\xdf\xbf", "\xe0\xa0\x80", "\xed\x9f\xbf", "\xee\x80\x80", "\xef\xbf\xbf",
                    "\xf0\x90\x80\x80", "\xf4\x8f\xbf\xbf"})
    CAF_CHECK(is_utf8(good));
  for (auto bad : {"\x80", "\xc0\x80", "\xc1\xbf", "\xe0\x9f\xbf", "\xed\xa0\x80", "\xf0\x8f\xbf\xbf",
                   "\xf4\x90\x80\x80", "\xf5\x80\x80\x80", "\xe2\x82", "a\xff", "\xc3\x28"})
    CAF_CHECK(!is_utf8(bad));
}

CAF_TEST(any bytes at all are read without harm) {
  std::minstd_rand random{7};
  uint64_t errors = 0;
  for (int round = 0; round < 20000; ++round) {
    std::string bytes;
    for (auto left = random() % 40; left > 0; --left)
      bytes.push_back(static_cast<char>(random() % 4 == 0 ? random() : 0x81));
    auto whole = read_parts({bytes}, 16);
    errors += whole.find("error") != std::string::npos ? 1 : 0;
    CAF_REQUIRE(read_parts(bytewise(bytes), 16) == whole);
  }
  CAF_CHECK(errors > 0);
}

CAF_TEST(messages are encoded with the shortest length) {
  CAF_CHECK_EQUAL(encode_ws_text("hi"), "\x81\x02hi");
  CAF_CHECK(encode_ws_text(std::string(125, 'x')).starts_with("\x81\x7dx"));
  CAF_CHECK(encode_ws_text(std::string(126, 'x')).starts_with(std::string{"\x81\x7e\x00\x7ex", 5}));
  CAF_CHECK(encode_ws_text(std::string(65535, 'x')).starts_with("\x81\x7e\xff\xffx"));
  CAF_CHECK(encode_ws_text(std::string(65536, 'x')).starts_with(std::string{"\x81\x7f\0\0\0\0\0\1\0\0x", 11}));
  CAF_CHECK_EQUAL(encode_ws_close(1000), "\x88\x02\x03\xe8");
  CAF_CHECK_EQUAL(encode_ws_close(1001, "bye"), "\x88\x05\x03\xe9"
                                                "bye");
  std::string umlauts;
  for (int i = 0; i < 100; ++i)
    umlauts += "\xc3\xa4";
  CAF_CHECK_EQUAL(encode_ws_close(1000, umlauts).size(), 4u + 122u);
}

CAF_TEST(a close frame at the end is found) {
  auto text = encode_ws_text(std::string(70000, 'x'));
  auto close = encode_ws_close(1000, "bye");
  CAF_CHECK(ends_with_close(close));
  CAF_CHECK(ends_with_close(text + close));
  CAF_CHECK(!ends_with_close(text));
  CAF_CHECK(!ends_with_close(close + text));
  CAF_CHECK(!ends_with_close(""));
  CAF_CHECK(!ends_with_close(encode_ws_text(close)));
}
