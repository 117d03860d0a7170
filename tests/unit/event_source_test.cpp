// The behaviours that web-platform-tests' eventsource/format-* ask of browsers, asked of our parser; then whatever goes
// into our encoder has to come out of that parser as it went in.
#define CAF_SUITE event_source

#include "event_source.hpp"

#include <rapidcheck.h>

#include <caf/test/unit_test.hpp>

#include "sluice/sse_format.hpp"

using namespace sluice;
using namespace sluice::test;
using namespace std::string_literals;

namespace {

const auto bom = "\xEF\xBB\xBF"s;

/// What the bytes fire, by whatever cut they come: whole, byte by byte, and cut in two at every place.
std::vector<fired_event> all_cuts(const std::string& bytes) {
  auto whole = parse_stream(bytes).fired;
  for (size_t cut : {1U, 2U, 3U, 7U})
    CAF_CHECK(parse_stream(bytes, cut).fired == whole);
  for (size_t at = 0; at < bytes.size(); ++at) {
    event_source source;
    source.feed(std::string_view{bytes}.substr(0, at));
    source.feed(std::string_view{bytes}.substr(at));
    CAF_CHECK(source.fired == whole);
  }
  return whole;
}

/// The data of what is fired, separated by '|'.
std::string data_of(const std::string& bytes) {
  std::string out;
  const char* between = "";
  for (const auto& one : all_cuts(bytes)) {
    out += between + one.data;
    between = "|";
  }
  return out;
}

/// Types, data and ids, a line each.
std::string story_of(const std::string& bytes) {
  std::string out;
  for (const auto& one : all_cuts(bytes))
    out += one.type + " " + one.data + " " + one.id + "\n";
  return out;
}

} // namespace

// -- the vectors ------------------------------------------------------------------------------------------------------

CAF_TEST(format bom : one at the start is stripped and one later is part of a field name) {
  CAF_CHECK_EQUAL(data_of(bom + "data:1\n\n" + bom + "data:2\n\ndata:3\n\n"), "1|3"s);
}

CAF_TEST(format bom 2 : the second of two spoils the first field) {
  CAF_CHECK_EQUAL(data_of(bom + bom + "data:1\n\ndata:2\n\ndata:3\n\n"), "2|3"s);
}

CAF_TEST(format comments : they are ignored whatever is in them) {
  auto longer = std::string(2048, 'x');
  auto bytes = "data:1\r:\0\n:\r\ndata:2\n:"s + longer + "\rdata:3\n:data:no\r:" + longer + "\ndata:4\n\n";
  auto source = parse_stream(bytes);
  CAF_CHECK_EQUAL(source.comments, 5u);
  CAF_CHECK_EQUAL(data_of(bytes), "1\n2\n3\n4"s);
}

CAF_TEST(format data before final empty line : an event that was cut off is none) {
  auto bytes = "retry:1000\ndata:whole\n\nid:late\ndata:half"s;
  CAF_CHECK_EQUAL(story_of(bytes), "message whole \n"s);
  auto source = parse_stream(bytes);
  CAF_CHECK_EQUAL(source.last_event_id, ""s);
  source.feed("\n");
  CAF_CHECK_EQUAL(source.last_event_id, ""s);
  source.feed("\n");
  CAF_CHECK_EQUAL(source.last_event_id, "late"s);
}

CAF_TEST(format field data : a line without a value is an empty line) {
  CAF_CHECK_EQUAL(data_of("data:\n\ndata\ndata\n\ndata:x\n\n"), "|\n|x"s);
}

CAF_TEST(format field event: a type holds for one event) {
  CAF_CHECK_EQUAL(story_of("event:other\ndata:x\n\ndata:x\n\n"), "other x \nmessage x \n"s);
  CAF_CHECK_EQUAL(story_of("event:other\n\ndata:x\n\n"), "message x \n"s);
}

CAF_TEST(format field event empty : an empty type is message) {
  CAF_CHECK_EQUAL(story_of("event: \ndata:x\n\n"), "message x \n"s);
}

CAF_TEST(format field id : an id is any text) {
  CAF_CHECK_EQUAL(story_of("id:\xE2\x80\xA6\ndata:x\n\n"), "message x \xE2\x80\xA6\n"s);
}

CAF_TEST(format field id 2 and 3 : an id stays until another comes and an empty one clears it) {
  CAF_CHECK_EQUAL(story_of("id:1\ndata:a\n\ndata:b\n\n"), "message a 1\nmessage b 1\n"s);
  CAF_CHECK_EQUAL(story_of("id:1\ndata:a\n\nid: 2\ndata:b\n\ndata:c\n\n"), "message a 1\nmessage b 2\nmessage c 2\n"s);
  CAF_CHECK_EQUAL(story_of("id:1\ndata:a\n\nid\ndata:b\n\ndata:c\n\n"), "message a 1\nmessage b \nmessage c \n"s);
}

CAF_TEST(format field id null : an id with NUL anywhere is ignored) {
  for (const auto& id : {"\0"s, "\0\0"s, "x\0"s, "\0x"s, "x\0x"s, " \0"s})
    CAF_CHECK_EQUAL(story_of("id:1\ndata:a\n\nid:" + id + "\ndata:b\n\n"), "message a 1\nmessage b 1\n"s);
}

CAF_TEST(format field parsing : only exact names count) {
  auto bytes =
      "data:\0\ndata:  2\rData:no\ndata\0:no\ndata:1\r\0data:no\nda-ta:no\rdata_5\ndata:3\rdata:\r\n data:no\ndata:4\n\n"s;
  CAF_CHECK_EQUAL(data_of(bytes), "\0\n 2\n1\n3\n\n4"s);
  auto source = parse_stream(bytes);
  CAF_CHECK_EQUAL(source.ignored, 6u);
}

CAF_TEST(format field retry : decimal whatever its zeros) {
  CAF_CHECK_EQUAL(parse_stream("retry:03000\ndata:x\n\n").retry.value_or(0), 3000u);
}

CAF_TEST(format field retry bogus and empty : anything but digits is ignored) {
  for (const auto* bad : {"1000x", "", " ", "-1", "+1", "1.5", "0x10", "1 "})
    CAF_CHECK_EQUAL(parse_stream("retry:3000\nretry:"s + bad + "\ndata:x\n\n").retry.value_or(0), 3000u);
}

CAF_TEST(format field unknown : unknown fields are ignored) {
  CAF_CHECK_EQUAL(data_of("data:x\n data\ndata\nother:y\njust some text\n:a comment\ndata:z\n\n"), "x\n\nz"s);
}

CAF_TEST(format leading space : one space goes and a tab stays) {
  CAF_CHECK_EQUAL(data_of("data:\tx\rdata: \ndata:  y\n\n"), "\tx\n\n y"s);
}

CAF_TEST(format newlines : CR and LF and CRLF each end one line) {
  CAF_CHECK_EQUAL(data_of("data:a\r\ndata\ndata:b\r\n\r"), "a\n\nb"s);
  CAF_CHECK_EQUAL(data_of("data:a\r\rdata:b\r\n\r\ndata:c\n\n"), "a|b|c"s);
  CAF_CHECK_EQUAL(data_of("data:a\n\r\ndata:b\r\n\n"), "a|b"s);
}

CAF_TEST(format null character : NUL in data is data) {
  CAF_CHECK_EQUAL(data_of("data:\0\n\n"s), "\0"s);
}

CAF_TEST(format utf 8 : it is always that and what is none is replaced) {
  CAF_CHECK_EQUAL(data_of("data:ok\xE2\x80\xA6\n\n"), "ok\xE2\x80\xA6"s);
  const auto bad = "\xEF\xBF\xBD"s;
  CAF_CHECK_EQUAL(data_of("data:\xE2\x80\n\n"), bad);
  CAF_CHECK_EQUAL(data_of("data:\xFF\xC0\xAF|\xED\xA0\x80\n\n"), bad + bad + bad + "|" + bad + bad + bad);
  CAF_CHECK_EQUAL(data_of("data:\xF0\x9F\x98x\xF4\x8F\xBF\xBF\n\n"), bad + "x\xF4\x8F\xBF\xBF");
}

// -- the encoder ------------------------------------------------------------------------------------------------------

namespace {

/// Texts made of what has ever broken a stream.
rc::Gen<std::string> nasty_text() {
  auto piece = rc::gen::oneOf(
      rc::gen::element<std::string>("\r", "\n", "\r\n", "\n\n", "\0"s, bom, "\xE2\x80\xA8", "\xE2\x80\xA9", "\xFF",
                                    "\xC3", "\xE2\x80", "\xF0\x9F\x98\x80", ":", " ", "", "data: x", "event: x",
                                    "id: x", "id:", "retry: 1", "\ndata: x\n\n", "\rid: x", "a"),
      rc::gen::arbitrary<std::string>());
  return rc::gen::map(rc::gen::container<std::vector<std::string>>(piece), [](const std::vector<std::string>& pieces) {
    std::string text;
    for (const auto& one : pieces)
      text += one;
    return text;
  });
}

/// The same without some or all of what an `event` or `id` may not have.
rc::Gen<std::string> nasty_name() {
  auto erased = rc::gen::element("\r\n\0"s, "\r\n\0"s, "\r\n"s, "\r\0"s, "\n\0"s, ""s);
  return rc::gen::apply(
      [](std::string text, const std::string& without) {
        std::erase_if(text, [&](char c) { return without.find(c) != std::string::npos; });
        return text;
      },
      nasty_text(), erased);
}

/// As a client has it: all line ends are LF, all of it is UTF-8.
std::string as_received(const std::string& text) {
  std::string out;
  for (size_t i = 0; i < text.size(); ++i) {
    if (text[i] != '\r')
      out += text[i];
    else if (i + 1 == text.size() || text[i + 1] != '\n')
      out += '\n';
  }
  return decode_utf8(out);
}

bool must_be_refused(const std::string& text) {
  return text.find_first_of("\r\n\0"s) != std::string::npos;
}

event_source parse_in_cuts(std::string_view bytes, const std::vector<uint8_t>& cuts) {
  event_source source;
  for (size_t i = 0; !bytes.empty(); ++i) {
    auto size = cuts.empty() ? bytes.size() : std::min<size_t>(bytes.size(), cuts[i % cuts.size()] + size_t{1});
    source.feed(bytes.substr(0, size));
    bytes.remove_prefix(size);
  }
  return source;
}

} // namespace

CAF_TEST(whatever is encoded comes out as it went in or is refused) {
  auto held = rc::check("an event is itself", [](const std::vector<uint8_t>& cuts) {
    auto data = *nasty_text(), event = *nasty_name(), id = *nasty_name();
    auto bytes = encode_event(data, event, id);
    RC_ASSERT(bytes.has_value() == !(must_be_refused(event) || must_be_refused(id)));
    RC_CLASSIFY(bytes.has_value(), "encoded");
    if (!bytes)
      return;
    auto source = parse_in_cuts(*bytes, cuts);
    RC_ASSERT(source.fired.size() == 1u);
    RC_ASSERT(source.fired[0].data == as_received(data));
    RC_ASSERT(source.fired[0].type == (event.empty() ? "message"s : decode_utf8(event)));
    RC_ASSERT(source.fired[0].id == decode_utf8(id));
    RC_ASSERT(source.comments + source.ignored == 0u);
    RC_ASSERT(!source.retry);
  });
  CAF_CHECK(held);
}

CAF_TEST(data alone never becomes a field) {
  auto held = rc::check("data is data", [](const std::vector<uint8_t>& cuts) {
    auto data = *nasty_text();
    auto source = parse_in_cuts(encode_event(data, "good", "1").value(), cuts);
    RC_ASSERT(source.fired == (std::vector<fired_event>{{"good", as_received(data), "1"}}));
    RC_ASSERT(source.comments + source.ignored == 0u);
    RC_ASSERT(!source.retry);
  });
  CAF_CHECK(held);
}

CAF_TEST(a stream of all that is encoded fires its events in order and its ids stay) {
  auto held = rc::check("a stream is its parts", [](const std::vector<uint8_t>& cuts) {
    std::string bytes, last_id;
    std::vector<fired_event> expected;
    std::optional<uint64_t> retry;
    auto count = *rc::gen::inRange(0, 20);
    for (int i = 0; i < count; ++i) {
      auto text = *nasty_name();
      switch (*rc::gen::inRange(0, 4)) {
      case 0: {
        auto id = *rc::gen::element(""s, std::to_string(i));
        bytes += encode_event(text, "", id).value();
        last_id = id.empty() ? last_id : id;
        expected.push_back({"message", as_received(text), last_id});
        break;
      }
      case 1:
        bytes += encode_comment(text);
        break;
      case 2:
        retry = *rc::gen::arbitrary<uint64_t>();
        bytes += encode_retry(*retry);
        break;
      default:
        if (auto moved = encode_cursor(text)) {
          bytes += *moved;
          last_id = decode_utf8(text);
        } else {
          RC_ASSERT(must_be_refused(text));
        }
      }
    }
    auto source = parse_in_cuts(bytes, cuts);
    RC_ASSERT(source.fired == expected);
    RC_ASSERT(source.last_event_id == last_id);
    RC_ASSERT(source.retry == retry);
    RC_ASSERT(source.ignored == 0u);
  });
  CAF_CHECK(held);
}

CAF_TEST(an event of a megabyte comes out whole) {
  std::string data;
  for (int i = 0; data.size() < 1048576; ++i)
    data += "line " + std::to_string(i) + (i % 3 == 0 ? "\r\n" : i % 3 == 1 ? "\r" : "\xE2\x80\xA8");
  auto bytes = encode_event(data, "large", "1").value();
  auto expected = std::vector<fired_event>{{"large", as_received(data), "1"}};
  for (size_t cut : {0U, 1U, 4096U})
    CAF_CHECK(parse_stream(bytes, cut).fired == expected);
}
