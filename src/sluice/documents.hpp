/// Documents: what is known of one, the pieces it is cut into, and what may be asked of all.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

namespace sluice {

/// How far a document is.
enum class document_state : uint8_t {
  uploaded, ///< Its bytes are kept.
  parsed,   ///< Its text is cut into chunks.
  embedded, ///< All chunks have vectors.
  failed,   ///< It will not come further: `document::reason`.
};

/// "uploaded", "parsed", …
std::string to_string(document_state state);
/// Reads `to_string`'s output back; anything else is `failed`.
document_state document_state_of(std::string_view text);

struct document {
  std::string id;    ///< 64 hexadecimal digits, made of its bytes and its owner.
  std::string owner; ///< Who uploaded it, at most 200 bytes; "" where nobody authenticates.
  std::string name;  ///< Of the file; UTF-8.
  std::string title; ///< May be empty; UTF-8.
  std::string content_type;
  std::string sha256; ///< Of its bytes, hexadecimal.
  uint64_t size = 0;  ///< Bytes.
  document_state state = document_state::uploaded;
  std::string reason;                      ///< Why it failed, or what holds it up at the moment.
  std::string model;                       ///< What made its vectors; "" before that.
  uint32_t chunks = 0;                     ///< How many there are.
  bool is_cut = false;                     ///< Its text was too long; only the beginning is in the chunks.
  int64_t uploaded_ms = 0, changed_ms = 0; ///< Unix milliseconds.
};

/// A piece of a document's text.
struct document_chunk {
  std::string id;            ///< The same for the same text at the same place of the same document.
  int32_t position = 0;      ///< From 0; -1 = title and name, which are no part of the text.
  std::string text;          ///< UTF-8.
  std::vector<float> vector; ///< Empty before it is embedded.
};

/// A chunk that was found.
struct document_hit {
  document what;
  document_chunk chunk;
  double score = 0; ///< From 0 to 1, of this search only.
};

/// Bytes of text that are taken of one document, at most; some 11,000 chunks.
constexpr std::size_t max_document_text = 10485760;

/// The types that are taken: text/plain, text/markdown, text/html, text/csv, application/json, application/pdf. What a
/// document is its bytes say, not its sender; `declared` (a Content-Type, may be empty) and the end of `name` only tell
/// kinds of text apart. "" for all others. Looks at the first KiB; from any thread.
std::string sniff_document(std::string_view bytes, std::string_view declared, std::string_view name);

// -- what is asked ----------------------------------------------------------------------------------------------------

/// Keeps a document, to which it gives id and hash; one that is there already stays as it is.
struct document_upload {
  document what;
  std::string bytes;
};
/// One document and its chunks from position `from` on, `chunks` of them.
struct document_lookup {
  std::string id;
  int32_t from = 0;
  uint32_t chunks = 0;
};
/// Documents, the latest first: `limit` of those behind the one named by time and id.
struct document_listing {
  int64_t before_ms = INT64_MAX;
  std::string before_id;
  uint32_t limit = 50;
};
struct document_search {
  std::string text;
  std::string model;         ///< What made `vector`.
  std::vector<float> vector; ///< Of `text`; empty: only words count.
  uint32_t limit = 10;
};
struct document_removal {
  std::string id;
};
struct document_request {
  std::string user;      ///< Whose documents these are ...
  bool everyones = true; ///< ... unless all are seen.
  std::variant<document_upload, document_lookup, document_listing, document_search, document_removal> what;
  /// Given back when the request is gone, not when its answer is: one that waits for a store that hangs holds its
  /// bytes.
  std::shared_ptr<void> place{};
};
/// Taken by one receiver, which may move the bytes out. Local only.
using document_request_ptr = std::shared_ptr<document_request>;

struct document_reply {
  std::vector<document> documents; ///< That were asked for, uploaded or removed; empty where there is none.
  bool is_new = false;             ///< Upload: it was not there before.
  std::vector<document_chunk> chunks;
  std::vector<document_hit> hits; ///< The best first.
};
using document_reply_ptr = std::shared_ptr<const document_reply>;

} // namespace sluice
