#include "document_text.hpp"

#include <algorithm>
#include <array>
#include <cmath>
#include <utility>

#include "sluice/ascii.hpp"
#include "sluice/utf8.hpp"

namespace sluice {

namespace {

constexpr std::size_t dimensions = 256;

bool is_blank(char c) {
  return c == ' ' || c == '\n' || c == '\t';
}

/// Whether a sentence ends with `before`, be there blanks behind it.
bool ends_sentence(std::string_view before) {
  before = before.substr(0, before.find_last_not_of(" \t") + 1);
  while (before.ends_with('"') || before.ends_with('\'') || before.ends_with(')') || before.ends_with(']'))
    before.remove_suffix(1);
  return before.ends_with('.') || before.ends_with('!') || before.ends_with('?') || before.ends_with("\xe3\x80\x82");
}

/// `begin` and `characters` further; the end of the text where it is nearer.
std::size_t advance(std::string_view text, std::size_t begin, std::size_t characters) {
  while (begin < text.size() && characters > 0) {
    ++begin;
    while (begin < text.size() && (static_cast<unsigned char>(text[begin]) & 0xc0) == 0x80)
      ++begin;
    --characters;
  }
  return begin;
}

/// Where the piece from `begin` on ends.
std::size_t end_of_piece(std::string_view text, std::size_t begin) {
  const auto last = advance(text, begin, chunk_characters);
  if (last == text.size())
    return last;
  const auto half = advance(text, begin, chunk_characters / 2);
  std::size_t word = 0;
  for (auto at = last; at > half; --at)
    if (is_blank(text[at - 1])) {
      // Of a row of blanks one is asked: what is before them is the same for all, and a row may be long.
      const auto is_last = at == last || !is_blank(text[at]);
      if (text[at - 1] == '\n' || (is_last && ends_sentence(text.substr(begin, at - begin))))
        return at;
      word = std::max(word, at);
    }
  return word > 0 ? word : last;
}

/// Where the piece behind the one from `begin` to `end` begins: at a word, and further on than that one.
std::size_t next_piece(std::string_view text, std::size_t begin, std::size_t end) {
  auto at = end;
  for (std::size_t back = 0; back < chunk_overlap && at > begin + 1; ++back)
    do
      --at;
    while (at > begin + 1 && (static_cast<unsigned char>(text[at]) & 0xc0) == 0x80);
  for (; at < end; ++at)
    if (is_blank(text[at - 1]) && !is_blank(text[at]))
      return at;
  return end;
}

/// The words of a text: letters, digits and all that is not ASCII; ASCII in lower case.
std::vector<std::string> words_of(std::string_view text) {
  std::vector<std::string> words(1);
  for (char c : text) {
    if (is_letter_or_digit(c) || static_cast<unsigned char>(c) >= 0x80)
      words.back() += lower(c);
    else if (!words.back().empty())
      words.emplace_back();
  }
  if (words.back().empty())
    words.pop_back();
  return words;
}

/// FNV-1a, the same on every machine, and then mixed: its low bits alone are weak.
uint64_t hash_of(std::string_view text) {
  uint64_t hash = 14695981039346656037ULL;
  for (char c : text)
    hash = (hash ^ static_cast<unsigned char>(c)) * 1099511628211ULL;
  hash ^= hash >> 32;
  hash *= 0xd6e8feb86659fd93ULL;
  return hash ^ (hash >> 32);
}

std::vector<float> lexical_vector(std::string_view text) {
  std::vector<double> sums(dimensions);
  auto add = [&sums](std::string_view what, double weight) {
    const auto hash = hash_of(what);
    sums[hash % dimensions] += (hash >> 63) != 0 ? -weight : weight; // so that collisions cancel out
  };
  const auto words = words_of(text);
  for (std::size_t i = 0; i < words.size(); ++i) {
    add(words[i], 1);
    if (i > 0)
      add(words[i - 1] + ' ' + words[i], 0.5);
  }
  double length = 0;
  for (auto& one : sums) {
    one = one < 0 ? -std::sqrt(-one) : std::sqrt(one); // the tenth time says less than the first
    length += one * one;
  }
  std::vector<float> vector(dimensions);
  if (length > 0)
    for (std::size_t i = 0; i < dimensions; ++i)
      vector[i] = static_cast<float>(sums[i] / std::sqrt(length));
  return vector;
}

class lexical_embedder : public embedder {
public:
  const std::string& model() const override {
    static const std::string name = "sluice-lexical-256";
    return name;
  }
  std::size_t batch() const override { return 500; }
  bool is_local() const override { return true; }
  caf::expected<std::vector<std::vector<float>>> embed(const std::vector<std::string>& texts,
                                                       const std::function<bool()>&) override {
    std::vector<std::vector<float>> all;
    for (const auto& text : texts)
      all.push_back(lexical_vector(text));
    return all;
  }
};

} // namespace

std::vector<std::string_view> cut_text(std::string_view utf8) {
  std::vector<std::string_view> pieces;
  for (std::size_t begin = 0; begin < utf8.size();) {
    const auto end = end_of_piece(utf8, begin);
    pieces.push_back(utf8.substr(begin, end - begin));
    begin = end == utf8.size() ? end : next_piece(utf8, begin, end);
  }
  return pieces;
}

std::vector<document_chunk> make_chunks(const std::string& id, std::string_view utf8, const digest& sha256) {
  std::vector<document_chunk> all;
  for (auto piece : cut_text(utf8)) {
    document_chunk one;
    one.position = static_cast<int32_t>(all.size());
    one.text = piece;
    one.id = sha256(id + "/" + std::to_string(one.position) + "/" + one.text);
    all.push_back(std::move(one));
  }
  return all;
}

std::shared_ptr<embedder> make_lexical_embedder() {
  return std::make_shared<lexical_embedder>();
}

double cosine(const std::vector<float>& a, const std::vector<float>& b) {
  if (a.size() != b.size())
    return 0;
  double product = 0, length_a = 0, length_b = 0;
  for (std::size_t i = 0; i < a.size(); ++i) {
    product += static_cast<double>(a[i]) * static_cast<double>(b[i]);
    length_a += static_cast<double>(a[i]) * static_cast<double>(a[i]);
    length_b += static_cast<double>(b[i]) * static_cast<double>(b[i]);
  }
  const auto length = std::sqrt(length_a) * std::sqrt(length_b);
  return length > 0 ? std::clamp(product / length, -1.0, 1.0) : 0;
}

std::vector<document_hit> rank(std::vector<document_store::candidate> found, const document_search& what) {
  double best = 0;
  for (const auto& one : found)
    best = std::max(best, one.relevance);
  std::vector<document_hit> hits;
  for (auto& one : found) {
    const auto by_words = best > 0 ? std::max(one.relevance, 0.0) / best : 1.0;
    const auto is_comparable = !what.vector.empty() && !one.chunk.vector.empty() && one.what.model == what.model;
    const auto score = is_comparable ? (by_words + std::max(cosine(what.vector, one.chunk.vector), 0.0)) / 2 : by_words;
    hits.push_back({std::move(one.what), std::move(one.chunk), score});
  }
  std::stable_sort(hits.begin(), hits.end(), [](const auto& a, const auto& b) { return a.score > b.score; });
  if (hits.size() > what.limit)
    hits.resize(what.limit);
  return hits;
}

} // namespace sluice
