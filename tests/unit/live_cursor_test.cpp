#define CAF_SUITE live_cursor

#include "live_cursor.hpp"

#include <rapidcheck.h>

#include "fixture.hpp"

using namespace sluice;

CAF_TEST(every cursor reads back as it was written) {
  auto held = rc::check("every cursor reads back", [](const std::map<uint32_t, std::vector<uint32_t>>& places) {
    live_cursor cursor;
    for (const auto& [hash, offsets] : places)
      for (auto offset : offsets)
        cursor.next[hash].push_back(static_cast<int64_t>(offset) - 1);
    auto text = encode_cursor_text(cursor);
    RC_PRE(text.size() <= max_cursor_bytes);
    auto back = parse_cursor_text(text);
    RC_ASSERT(back.has_value());
    RC_ASSERT(*back == cursor);
  });
  CAF_CHECK(held);
}

CAF_TEST(a cursor with one character changed or cut off is not taken) {
  live_cursor cursor;
  cursor.next[topic_hash("orders")] = {17, 0, 123456789, -1};
  // Texts of every length modulo 4: the bits that the last character has to spare are checked too.
  for (int64_t next : {5, 500, 50000, 5000000}) {
    cursor.next[topic_hash("events")] = {next};
    auto text = encode_cursor_text(cursor);
    for (size_t i = 0; i < text.size(); ++i) {
      for (int c = 0; c < 256; ++c) {
        auto changed = text;
        changed[i] = static_cast<char>(c);
        if (changed != text && parse_cursor_text(changed))
          CAF_ERROR(changed << " was taken for " << text);
      }
      if (parse_cursor_text(std::string_view{text}.substr(0, i)))
        CAF_ERROR("the first " << i << " characters of " << text << " were taken");
    }
  }
}

CAF_TEST(a cursor is short and has nothing a header or a URL has to escape) {
  live_cursor cursor;
  for (const auto* topic : {"events-topic", "events-summary-table", "sluice-broadcast"})
    cursor.next[topic_hash(topic)] = {1000000, 1000000, 1000000, 1000000};
  auto text = encode_cursor_text(cursor);
  CAF_CHECK_LESS(text.size(), 80u);
  CAF_CHECK(text.find_first_not_of("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_") ==
            std::string::npos);
}

CAF_TEST(what is no cursor is refused) {
  for (const auto* text : {"", "1", "2AAAA", "1:10.20,5", "17", "1!!!!", "1AAA"})
    CAF_CHECK(!parse_cursor_text(text));
  CAF_CHECK(!parse_cursor_text(std::string(max_cursor_bytes + 1, '1')));
}
