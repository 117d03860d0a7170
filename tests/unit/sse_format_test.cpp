#define CAF_SUITE sse_format

#include "sluice/sse_format.hpp"

#include <caf/test/unit_test.hpp>

#include "event_source.hpp"

using namespace sluice;
using namespace sluice::test;
using namespace std::string_literals;

namespace {

/// By value, for the checks keep references to what they compare.
template <class T>
T must(std::optional<T> x) {
  return std::move(x.value());
}

std::vector<fired_event> parse(const std::string& bytes) {
  return parse_stream(bytes, 1).fired;
}

} // namespace

CAF_TEST(an event has its id and type before its data and ends with a blank line) {
  CAF_CHECK_EQUAL(must(encode_event("{}", "summary", "7")), "id: 7\nevent: summary\ndata: {}\n\n");
  CAF_CHECK_EQUAL(must(encode_event("{}")), "data: {}\n\n");
}

CAF_TEST(empty data still fires an event) {
  CAF_CHECK_EQUAL(must(encode_event("")), "data: \n\n");
  CAF_CHECK_EQUAL(parse(must(encode_event(""))).size(), 1u);
}

CAF_TEST(each line of the data becomes a line of its own whatever ends it) {
  CAF_CHECK_EQUAL(must(encode_event("a\nb\rc\r\nd")), "data: a\ndata: b\ndata: c\ndata: d\n\n");
  CAF_CHECK_EQUAL(must(encode_event("a\n")), "data: a\ndata: \n\n");
  CAF_CHECK_EQUAL(must(encode_event("\r\r\n")), "data: \ndata: \ndata: \n\n");
}

CAF_TEST(data cannot smuggle in a field) {
  for (auto end : {"\n", "\r", "\r\n", "\n\n", "\r\r"}) {
    auto events = parse(must(encode_event("x"s + end + "id: 666" + end + "event: evil", "good", "1")));
    CAF_REQUIRE_EQUAL(events.size(), 1u);
    CAF_CHECK_EQUAL(events[0].type, "good");
    CAF_CHECK_EQUAL(events[0].id, "1");
  }
}

CAF_TEST(data with a leading space or colon comes out as it went in) {
  for (auto data : {" x", "  x", ":x", "data: x", "\xEF\xBB\xBFx"}) {
    auto events = parse(must(encode_event(data)));
    CAF_REQUIRE_EQUAL(events.size(), 1u);
    CAF_CHECK_EQUAL(events[0].data, data);
  }
}

CAF_TEST(ids and types that would cut the line are refused) {
  for (const auto& bad : {"a\nb"s, "a\rb"s, "\r\n"s, "a\0b"s}) {
    CAF_CHECK(!encode_event("x", "", bad));
    CAF_CHECK(!encode_event("x", bad));
    CAF_CHECK(!encode_cursor(bad));
  }
  CAF_CHECK(encode_event("x", "a:b c", "0-1:2,3"));
}

CAF_TEST(retry and comments fire no event) {
  CAF_CHECK_EQUAL(encode_retry(3000), "retry: 3000\n\n");
  CAF_CHECK_EQUAL(encode_comment("hello"), ": hello\n\n");
  CAF_CHECK_EQUAL(encode_comment(""), ":\n\n");
  CAF_CHECK_EQUAL(encode_comment("a\rdata: b"), ": a\n: data: b\n\n");
  CAF_CHECK(parse(encode_retry(1) + encode_comment("a\ndata: x")).empty());
}

CAF_TEST(a cursor moves the id of the next event without firing one) {
  auto events = parse(must(encode_cursor("41")) + must(encode_event("x")));
  CAF_REQUIRE_EQUAL(events.size(), 1u);
  CAF_CHECK_EQUAL(events[0].id, "41");
}
