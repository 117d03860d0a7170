/// A store of documents that is only a map.
#pragma once

#include <algorithm>
#include <functional>
#include <map>
#include <string>
#include <vector>

#include "sluice/ports.hpp"

namespace sluice::testing {

/// Not one, but different texts have different ones.
inline std::string fake_digest(std::string_view bytes) {
  return std::to_string(std::hash<std::string_view>{}(bytes));
}

class document_map : public document_store {
public:
  struct entry {
    document what;
    std::string bytes;
    std::vector<document_chunk> chunks;
    std::string model;
  };
  caf::expected<added> add(const document& what, std::string_view bytes,
                           const std::vector<document_chunk>& first) override {
    auto [at, is_new] = kept.try_emplace(what.id, entry{what, std::string{bytes}, first, {}});
    return added{at->second.what, is_new};
  }
  caf::expected<std::optional<document>> find(const std::string& id) override {
    const auto at = kept.find(id);
    return at == kept.end() ? std::optional<document>{} : std::optional<document>{at->second.what};
  }
  caf::expected<std::string> bytes_of(const std::string& id) override { return kept.at(id).bytes; }
  caf::error set_chunks(const std::string& id, const std::vector<document_chunk>& all, bool is_cut) override {
    ++writes;
    auto& one = kept.at(id);
    one.chunks = all;
    one.what.state = document_state::parsed;
    one.what.reason.clear();
    one.what.chunks = static_cast<uint32_t>(all.size());
    one.what.is_cut = is_cut;
    return {};
  }
  caf::expected<std::vector<document_chunk>> unembedded(const std::string& id, const std::string&,
                                                        std::size_t most) override {
    std::vector<document_chunk> found;
    for (const auto& one : kept.at(id).chunks)
      if (one.vector.empty() && found.size() < most)
        found.push_back(one);
    return found;
  }
  caf::error set_vectors(const std::string&, const std::vector<document_chunk>& some) override {
    ++writes;
    for (auto& [id, one] : kept)
      for (auto& chunk : one.chunks)
        for (const auto& fresh : some)
          if (chunk.id == fresh.id)
            chunk.vector = fresh.vector;
    return {};
  }
  caf::error set_embedded(const std::string& id, const std::string& model) override {
    ++writes;
    kept.at(id).what.state = document_state::embedded;
    kept.at(id).what.reason.clear();
    kept.at(id).what.model = model;
    return {};
  }
  caf::error note(const std::string& id, const std::string& reason, bool for_good) override {
    ++writes;
    auto& what = kept.at(id).what;
    what.reason = reason;
    if (for_good)
      what.state = document_state::failed;
    return {};
  }
  caf::expected<std::vector<document_chunk>> chunks(const std::string& id, int32_t from, std::size_t most) override {
    std::vector<document_chunk> found;
    for (const auto& one : kept.at(id).chunks)
      if (one.position >= from && found.size() < most)
        found.push_back(one);
    return found;
  }
  caf::expected<std::vector<document>> list(const viewer& who, const document_listing&) override {
    std::vector<document> found;
    for (const auto& [id, one] : kept)
      if (who.everyones || one.what.owner == who.user)
        found.push_back(one.what);
    return found;
  }
  caf::expected<std::vector<candidate>> search(const viewer& who, const std::string& text, std::size_t) override {
    std::vector<candidate> found;
    for (const auto& [id, one] : kept)
      for (const auto& chunk : one.chunks)
        if ((who.everyones || one.what.owner == who.user) && chunk.text.find(text) != std::string::npos)
          found.push_back({one.what, chunk, 1});
    return found;
  }
  caf::expected<bool> remove(const std::string& id) override { return kept.erase(id) > 0; }

  std::map<std::string, entry> kept;
  int writes = 0;
};

} // namespace sluice::testing
