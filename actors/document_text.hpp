/// What is done with a document's text: cut into chunks, turned into vectors, compared. Pure functions: any thread.
#pragma once

#include <cstddef>
#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "sluice/documents.hpp"
#include "sluice/ports.hpp"

namespace sluice {

/// Characters of a chunk, at most, and how many of them are those of the chunk before, about.
constexpr std::size_t chunk_characters = 1000;
constexpr std::size_t chunk_overlap = 150;

/// The lower-case hexadecimal SHA-256 of bytes.
using digest = std::function<std::string(std::string_view)>;

/// Where a text is cut: pieces in its order, none of which is empty, that cover it without a gap. A piece ends behind a
/// sentence where one ends in its second half, else behind a word, else anywhere between two characters; the next one
/// begins at a word about `chunk_overlap` characters before that end.
std::vector<std::string_view> cut_text(std::string_view utf8);

/// The pieces as chunks of the document `id`.
std::vector<document_chunk> make_chunks(const std::string& id, std::string_view utf8, const digest& sha256);

/// The built-in embedding: words and pairs of words, hashed into 256 dimensions. It finds texts with the same words,
/// not with the same meaning.
std::shared_ptr<embedder> make_lexical_embedder();

/// From -1 to 1; 0 where they cannot be compared.
double cosine(const std::vector<float>& a, const std::vector<float>& b);

/// The best of what a search has found: half by its words, half by the vectors, where both are by the same model.
std::vector<document_hit> rank(std::vector<document_store::candidate> found, const document_search& what);

} // namespace sluice
