#include "document_desk.hpp"

#include <algorithm>
#include <utility>

#include "crash.hpp"
#include "sluice/utf8.hpp"

namespace sluice {

namespace {

/// Of a text that was just uploaded so much can be found at once; the rest once it is processed.
constexpr std::size_t first_bytes = 262144;
/// Chunks that are found by their words, of which the best are shown.
constexpr std::size_t candidates = 100;

using outcome = caf::expected<document_reply>;

/// Answers one request.
struct clerk {
  const document_tools& tools;
  const document_store::viewer& who;

  outcome operator()(document_upload& asked) const {
    auto& what = asked.what;
    what.sha256 = tools.sha256(asked.bytes); // here, for it takes its time
    // The same file of two users is two documents: neither learns that the other has it.
    what.id = what.owner.empty() ? what.sha256 : tools.sha256(what.sha256 + "/" + what.owner);
    auto added = tools.store->add(what, asked.bytes, first_chunks(asked));
    if (!added)
      return added.error();
    document_reply reply;
    reply.is_new = added->is_new;
    reply.documents.push_back(std::move(added->what));
    return reply;
  }

  outcome operator()(const document_lookup& asked) const {
    auto reply = find(asked.id);
    if (!reply || reply->documents.empty() || asked.chunks == 0)
      return reply;
    auto chunks = tools.store->chunks(asked.id, asked.from, asked.chunks);
    if (!chunks)
      return chunks.error();
    reply->chunks = std::move(*chunks);
    return reply;
  }

  outcome operator()(const document_listing& asked) const {
    auto found = tools.store->list(who, asked);
    if (!found)
      return found.error();
    document_reply reply;
    reply.documents = std::move(*found);
    return reply;
  }

  outcome operator()(const document_search& asked) const {
    auto found = tools.store->search(who, asked.text, std::max<std::size_t>(candidates, asked.limit));
    if (!found)
      return found.error();
    document_reply reply;
    reply.hits = rank(std::move(*found), asked);
    return reply;
  }

  outcome operator()(const document_removal& asked) const {
    auto reply = find(asked.id);
    if (!reply || reply->documents.empty())
      return reply;
    if (auto removed = tools.store->remove(asked.id); !removed)
      return removed.error();
    return reply;
  }

private:
  /// Without a document where there is none for whoever asks.
  outcome find(const std::string& id) const {
    auto found = tools.store->find(id);
    if (!found)
      return found.error();
    document_reply reply;
    if (*found && (who.everyones || (*found)->owner == who.user))
      reply.documents.push_back(std::move(**found));
    return reply;
  }

  /// What can be had of it without a wait.
  std::vector<document_chunk> first_chunks(const document_upload& asked) const {
    if (asked.what.content_type == "application/pdf")
      return {};
    // A part of a file need not be whole JSON or HTML, but it is text.
    const auto is_whole = asked.bytes.size() <= first_bytes;
    const auto size = whole_characters(asked.bytes, first_bytes);
    auto text = tools.parse(is_whole ? asked.what.content_type : "text/plain",
                            std::string_view{asked.bytes}.substr(0, size), [] { return false; });
    return text ? make_chunks(asked.what.id, text->text, tools.sha256) : std::vector<document_chunk>{};
  }
};

} // namespace

caf::result<document_reply_ptr> document_desk_state::answer(document_request& asked) {
  const document_store::viewer who{asked.user, asked.everyones};
  auto reply = std::visit(clerk{tools, who}, asked.what);
  if (!reply)
    return reply.error();
  return document_reply_ptr{std::make_shared<document_reply>(std::move(*reply))};
}

document_desk_actor::behavior_type document_desk(document_desk_state::self_pointer self, document_tools tools) {
  self->state.tools = std::move(tools);
  log_crashes(self, self->state.name);
  return {
      [self](const document_request_ptr& asked) { return self->state.answer(*asked); },
  };
}

} // namespace sluice
