#include <algorithm>
#include <condition_variable>
#include <cstring>
#include <mutex>
#include <utility>

#include <openssl/evp.h>

#include "sluice/ascii.hpp"

#include "store/sql.hpp"
#include "store/store.hpp"

namespace sluice::store {

namespace {

using state = document_state;

/// Of one row of a document's bytes: SQLite and PostgreSQL both take it in one piece, and within their time limits.
constexpr std::size_t part_bytes = 393216;
constexpr std::size_t max_words = 32;
constexpr std::size_t max_word = 100;
constexpr std::size_t max_sessions = 4;

// Bytes and vectors are in Base64: the one form that both databases, through SOCI, have for them.
// place: a chunk's position; -1 = title and name.
const char* const documents_table =
    "create table sluice_documents ("
    "  id varchar(64) primary key, owner varchar(200) not null, name text not null,"
    "  title text not null, content_type varchar(100) not null,"
    "  sha256 varchar(64) not null, size bigint not null, state varchar(20) not null,"
    "  reason text not null, model varchar(200) not null, chunks integer not null,"
    "  is_cut integer not null, uploaded_ms bigint not null, changed_ms bigint not null)";
const char* const parts_table = "create table sluice_document_parts ("
                                "  document varchar(64) not null, part integer not null, data text not null,"
                                "  primary key (document, part))";
const char* const chunk_columns = " document varchar(64) not null, place integer not null, id varchar(64) not null,"
                                  " body text not null, vector text not null, model varchar(200) not null,";

std::vector<std::vector<std::string>> migrations(bool sqlite) {
  std::vector<std::string> first{documents_table,
                                 "create index sluice_documents_time on sluice_documents (uploaded_ms)", parts_table};
  if (sqlite) {
    first.push_back(std::string{"create table sluice_chunks (n integer primary key autoincrement,"} + chunk_columns +
                    " unique (document, place))");
    first.emplace_back("create virtual table sluice_chunk_words using fts5 (body, content='sluice_chunks',"
                       " content_rowid='n', tokenize='unicode61 remove_diacritics 2')");
  } else {
    // The characters that join words to one in the eyes of PostgreSQL's parser: of hosts, paths, addresses.
    first.push_back(std::string{"create table sluice_chunks (n bigserial primary key,"} + chunk_columns +
                    " lexemes tsvector generated always as (to_tsvector('simple', translate(body, './@-', '    ')))"
                    " stored, unique (document, place))");
    first.emplace_back("create index sluice_chunk_words on sluice_chunks using gin (lexemes)");
  }
  first.emplace_back("create index sluice_chunks_id on sluice_chunks (id)");
  return {first};
}

std::string to_base64(std::string_view bytes) {
  std::string out((bytes.size() + 2) / 3 * 4, '\0');
  EVP_EncodeBlock(reinterpret_cast<unsigned char*>(out.data()), reinterpret_cast<const unsigned char*>(bytes.data()),
                  static_cast<int>(bytes.size()));
  return out;
}

std::string from_base64(const std::string& text) {
  std::string out(text.size() / 4 * 3, '\0');
  if (EVP_DecodeBlock(reinterpret_cast<unsigned char*>(out.data()), reinterpret_cast<const unsigned char*>(text.data()),
                      static_cast<int>(text.size())) < 0)
    throw std::runtime_error("a document's bytes in it cannot be read");
  for (auto at = text.rbegin(); at != text.rend() && *at == '='; ++at)
    out.pop_back();
  return out;
}

/// Little-endian, as all machines are that this runs on.
std::string vector_text(const std::vector<float>& vector) {
  return to_base64({reinterpret_cast<const char*>(vector.data()), vector.size() * sizeof(float)});
}

std::vector<float> read_vector(const std::string& text) {
  const auto bytes = from_base64(text);
  std::vector<float> vector(bytes.size() / sizeof(float));
  if (!vector.empty())
    std::memcpy(vector.data(), bytes.data(), vector.size() * sizeof(float));
  return vector;
}

/// Any of the text's words, as the database's full-text search wants it; "" where there is none.
std::string any_of_words(const std::string& text, char quote) {
  std::string out, word;
  std::size_t words = 0;
  auto end_word = [&] {
    if (!word.empty() && words++ < max_words)
      out += (out.empty() ? "" : quote == '"' ? " OR " : " | ") + (quote + word + quote);
    word.clear();
  };
  for (char c : text) {
    const auto byte = static_cast<unsigned char>(c);
    if (byte < 0x80 && !is_letter_or_digit(c))
      end_word();
    else if (word.size() < max_word || byte >= 0x80)
      word += c;
  }
  end_word();
  return out;
}

/// Where a row of `sluice_documents` comes to lie.
struct document_row {
  document what;
  std::string state;
  long long size = 0, uploaded = 0, changed = 0;
  int chunks = 0, is_cut = 0;

  static constexpr const char* columns =
      "d.id, d.owner, d.name, d.title, d.content_type, d.sha256, d.size, d.state, d.reason, d.model, d.chunks,"
      " d.is_cut, d.uploaded_ms, d.changed_ms";

  void bind(soci::statement& to) {
    to.exchange(soci::into(what.id));
    to.exchange(soci::into(what.owner));
    to.exchange(soci::into(what.name));
    to.exchange(soci::into(what.title));
    to.exchange(soci::into(what.content_type));
    to.exchange(soci::into(what.sha256));
    to.exchange(soci::into(size));
    to.exchange(soci::into(state));
    to.exchange(soci::into(what.reason));
    to.exchange(soci::into(what.model));
    to.exchange(soci::into(chunks));
    to.exchange(soci::into(is_cut));
    to.exchange(soci::into(uploaded));
    to.exchange(soci::into(changed));
  }
  document take() {
    what.size = static_cast<uint64_t>(size);
    what.state = document_state_of(state);
    what.chunks = static_cast<uint32_t>(chunks);
    what.is_cut = is_cut != 0;
    what.uploaded_ms = uploaded;
    what.changed_ms = changed;
    return what;
  }
};

/// Where a chunk comes to lie.
struct chunk_row {
  document_chunk what;
  std::string vector, model;

  static constexpr const char* columns = "c.id, c.place, c.body, c.vector, c.model";

  void bind(soci::statement& to) {
    to.exchange(soci::into(what.id));
    to.exchange(soci::into(what.position));
    to.exchange(soci::into(what.text));
    to.exchange(soci::into(vector));
    to.exchange(soci::into(model));
  }
  document_chunk take() {
    what.vector = read_vector(vector);
    return what;
  }
};

void begin(soci::statement& what, const std::string& text) {
  what.alloc();
  what.prepare(text);
  what.define_and_bind();
  what.execute();
}

std::optional<document> find_within(soci::session& sql, std::string id, const char* lock = "") {
  document_row row;
  soci::statement look{sql};
  row.bind(look);
  look.exchange(soci::use(id, "id"));
  begin(look, std::string{"select "} + document_row::columns + " from sluice_documents d where d.id = :id" + lock);
  if (!look.fetch())
    return std::nullopt;
  return row.take();
}

class sql_document_store : public document_store {
public:
  explicit sql_document_store(std::string url)
      : url_(std::move(url)), sqlite_(url_.starts_with("sqlite:")), free_(sqlite_ ? 1 : max_sessions) {}

  caf::expected<added> add(const document& what, std::string_view bytes,
                           const std::vector<document_chunk>& first) override {
    added result;
    auto error = transact([&](soci::session& sql) {
      result.is_new = insert(sql, what, first.size());
      if (result.is_new) {
        insert_parts(sql, what.id, bytes);
        document_chunk heading;
        heading.position = -1;
        heading.text = what.title + "\n" + what.name;
        auto all = first;
        all.push_back(std::move(heading));
        put_chunks(sql, what.id, all);
        index(sql, what.id);
      }
      result.what = what;
      if (auto kept = find_within(sql, what.id))
        result.what = std::move(*kept);
    });
    if (error)
      return error;
    return result;
  }

  caf::expected<std::optional<document>> find(const std::string& id) override {
    std::optional<document> found;
    auto error = transact([&](soci::session& sql) { found = find_within(sql, id); });
    if (error)
      return error;
    return found;
  }

  caf::expected<std::string> bytes_of(const std::string& id) override {
    std::string bytes;
    auto error = transact([&](soci::session& sql) {
      std::string data;
      soci::statement next =
          (sql.prepare << "select data from sluice_document_parts where document = :id order by part", soci::into(data),
           soci::use(id, "id"));
      next.execute();
      while (next.fetch())
        bytes += from_base64(data);
    });
    if (error)
      return error;
    return bytes;
  }

  caf::error set_chunks(const std::string& id, const std::vector<document_chunk>& all, bool is_cut) override {
    return transact([&](soci::session& sql) {
      if (!find_within(sql, id, for_update()))
        return;
      unindex(sql, id);
      int count = static_cast<int>(all.size()), cut = is_cut ? 1 : 0;
      sql << "delete from sluice_chunks where document = :id and place >= :count", soci::use(id, "id"),
          soci::use(count, "count");
      put_chunks(sql, id, all);
      index(sql, id);
      long long now = now_ms();
      sql << "update sluice_documents set state = 'parsed', reason = '', model = '', chunks = :count, is_cut = :cut,"
             " changed_ms = :now where id = :id",
          soci::use(count, "count"), soci::use(cut, "cut"), soci::use(now, "now"), soci::use(id, "id");
    });
  }

  caf::expected<std::vector<document_chunk>> unembedded(const std::string& id, const std::string& model,
                                                        std::size_t most) override {
    return select_chunks(id, "c.place >= 0 and c.model <> :other", most,
                         [&](soci::statement& to) { to.exchange(soci::use(model, "other")); });
  }

  caf::expected<std::vector<document_chunk>> chunks(const std::string& id, int32_t from, std::size_t most) override {
    from = std::max(from, 0);
    return select_chunks(id, "c.place >= :from", most,
                         [&](soci::statement& to) { to.exchange(soci::use(from, "from")); });
  }

  caf::error set_vectors(const std::string& model, const std::vector<document_chunk>& some) override {
    return transact([&](soci::session& sql) {
      std::string id, vector;
      soci::statement put = (sql.prepare << "update sluice_chunks set vector = :vector, model = :model where id = :id",
                             soci::use(vector, "vector"), soci::use(model, "model"), soci::use(id, "id"));
      for (const auto& one : some) {
        id = one.id;
        vector = vector_text(one.vector);
        put.execute(true);
      }
    });
  }

  caf::error set_embedded(const std::string& id, const std::string& model) override {
    return transact([&](soci::session& sql) {
      long long now = now_ms();
      sql << "update sluice_documents set state = 'embedded', reason = '', model = :model, changed_ms = :now"
             " where id = :id and state <> 'embedded'",
          soci::use(model, "model"), soci::use(now, "now"), soci::use(id, "id");
    });
  }

  caf::error note(const std::string& id, const std::string& reason, bool for_good) override {
    return transact([&](soci::session& sql) {
      auto kept = find_within(sql, id, for_update());
      if (!kept || kept->state == state::embedded || (!for_good && kept->state == state::failed) ||
          (kept->reason == reason && (!for_good || kept->state == state::failed)))
        return;
      auto name = to_string(for_good ? state::failed : kept->state);
      long long now = now_ms();
      sql << "update sluice_documents set state = :state, reason = :reason, changed_ms = :now where id = :id",
          soci::use(name, "state"), soci::use(reason, "reason"), soci::use(now, "now"), soci::use(id, "id");
    });
  }

  caf::expected<std::vector<document>> list(const viewer& who, const document_listing& which) override {
    std::vector<document> found;
    auto error = transact([&](soci::session& sql) {
      document_row row;
      int everyones = who.everyones ? 1 : 0;
      auto id = which.before_id;
      long long before = which.before_ms, same = which.before_ms, most = which.limit;
      soci::statement next{sql};
      row.bind(next);
      next.exchange(soci::use(everyones, "everyones"));
      next.exchange(soci::use(who.user, "owner"));
      next.exchange(soci::use(before, "before"));
      next.exchange(soci::use(same, "same"));
      next.exchange(soci::use(id, "id"));
      next.exchange(soci::use(most, "most"));
      begin(next, std::string{"select "} + document_row::columns +
                      " from sluice_documents d where (:everyones = 1 or d.owner = :owner)"
                      " and (d.uploaded_ms < :before or (d.uploaded_ms = :same and d.id > :id))"
                      " order by d.uploaded_ms desc, d.id limit :most");
      while (next.fetch())
        found.push_back(row.take());
    });
    if (error)
      return error;
    return found;
  }

  caf::expected<std::vector<candidate>> search(const viewer& who, const std::string& text, std::size_t most) override {
    std::vector<candidate> found;
    auto words = any_of_words(text, sqlite_ ? '"' : '\'');
    if (words.empty())
      return found;
    auto error = transact([&](soci::session& sql) {
      document_row row;
      chunk_row piece;
      double relevance = 0;
      int everyones = who.everyones ? 1 : 0;
      auto limit = static_cast<long long>(most);
      soci::statement next{sql};
      row.bind(next);
      piece.bind(next);
      next.exchange(soci::into(relevance));
      next.exchange(soci::use(words, "words"));
      next.exchange(soci::use(everyones, "everyones"));
      next.exchange(soci::use(who.user, "owner"));
      next.exchange(soci::use(limit, "most"));
      const auto columns = std::string{"select "} + document_row::columns + ", " + chunk_row::columns + ", ";
      const std::string rest = " and (:everyones = 1 or d.owner = :owner) order by relevance desc, c.n limit :most";
      begin(next, sqlite_ ? columns +
                                "-bm25(sluice_chunk_words) as relevance from sluice_chunk_words"
                                " join sluice_chunks c on c.n = sluice_chunk_words.rowid"
                                " join sluice_documents d on d.id = c.document"
                                " where sluice_chunk_words match :words" +
                                rest
                          : columns +
                                "cast(ts_rank(c.lexemes, q.words, 1) as double precision) as relevance"
                                " from to_tsquery('simple', :words) as q(words)"
                                " join sluice_chunks c on c.lexemes @@ q.words"
                                " join sluice_documents d on d.id = c.document where true" +
                                rest);
      while (next.fetch()) {
        found.push_back({row.take(), piece.take(), relevance});
        found.back().what.model = piece.model;
      }
    });
    if (error)
      return error;
    return found;
  }

  caf::expected<bool> remove(const std::string& id) override {
    bool was_there = false;
    auto error = transact([&](soci::session& sql) {
      was_there = find_within(sql, id, for_update()).has_value();
      unindex(sql, id);
      for (const auto* statement :
           {"delete from sluice_chunks where document = :id", "delete from sluice_document_parts where document = :id",
            "delete from sluice_documents where id = :id"})
        sql << statement, soci::use(id, "id");
    });
    if (error)
      return error;
    return was_there;
  }

private:
  /// For who looks and then writes: nobody removes the document meanwhile. SQLite has one writer anyway.
  const char* for_update() const { return sqlite_ ? "" : " for update"; }

  /// False where it is there already.
  static bool insert(soci::session& sql, const document& what, std::size_t chunks) {
    auto state = to_string(what.state);
    auto size = static_cast<long long>(what.size);
    long long uploaded = what.uploaded_ms, changed = what.changed_ms;
    int count = static_cast<int>(chunks);
    soci::statement put =
        (sql.prepare << "insert into sluice_documents (id, owner, name, title, content_type, sha256, size, state,"
                        " reason, model, chunks, is_cut, uploaded_ms, changed_ms) values (:id, :owner, :name, :title,"
                        " :type, :sha256, :size, :state, '', '', :chunks, 0, :uploaded, :changed)"
                        " on conflict (id) do nothing",
         soci::use(what.id, "id"), soci::use(what.owner, "owner"), soci::use(what.name, "name"),
         soci::use(what.title, "title"), soci::use(what.content_type, "type"), soci::use(what.sha256, "sha256"),
         soci::use(size, "size"), soci::use(state, "state"), soci::use(count, "chunks"),
         soci::use(uploaded, "uploaded"), soci::use(changed, "changed"));
    put.execute(true);
    return put.get_affected_rows() > 0;
  }

  static void insert_parts(soci::session& sql, const std::string& id, std::string_view bytes) {
    int part = 0;
    std::string data;
    soci::statement put =
        (sql.prepare << "insert into sluice_document_parts (document, part, data) values (:id, :part, :data)",
         soci::use(id, "id"), soci::use(part, "part"), soci::use(data, "data"));
    for (; !bytes.empty(); ++part) {
      const auto size = std::min(bytes.size(), part_bytes);
      data = to_base64(bytes.substr(0, size));
      put.execute(true);
      bytes.remove_prefix(size);
    }
  }

  static void put_chunks(soci::session& sql, const std::string& document, const std::vector<document_chunk>& all) {
    std::string id, body;
    int place = 0;
    soci::statement put =
        (sql.prepare << "insert into sluice_chunks (document, place, id, body, vector, model)"
                        " values (:document, :place, :id, :body, '', '') on conflict (document, place) do update set"
                        " vector = case when sluice_chunks.id = excluded.id then sluice_chunks.vector else '' end,"
                        " model = case when sluice_chunks.id = excluded.id then sluice_chunks.model else '' end,"
                        " id = excluded.id, body = excluded.body",
         soci::use(document, "document"), soci::use(place, "place"), soci::use(id, "id"), soci::use(body, "body"));
    for (const auto& one : all) {
      id = one.id;
      place = one.position;
      body = one.text;
      put.execute(true);
    }
  }

  // SQLite's index is told of what comes and goes; PostgreSQL keeps its own.
  void index(soci::session& sql, const std::string& document) const {
    if (sqlite_)
      sql << "insert into sluice_chunk_words (rowid, body) select n, body from sluice_chunks where document = :id",
          soci::use(document, "id");
  }
  void unindex(soci::session& sql, const std::string& document) const {
    if (sqlite_)
      sql << "insert into sluice_chunk_words (sluice_chunk_words, rowid, body)"
             " select 'delete', n, body from sluice_chunks where document = :id",
          soci::use(document, "id");
  }

  caf::expected<std::vector<document_chunk>> select_chunks(const std::string& id, const std::string& condition,
                                                           std::size_t most,
                                                           const std::function<void(soci::statement&)>& bind) {
    std::vector<document_chunk> found;
    auto error = transact([&](soci::session& sql) {
      chunk_row row;
      auto limit = static_cast<long long>(most);
      soci::statement next{sql};
      row.bind(next);
      next.exchange(soci::use(id, "id"));
      bind(next);
      next.exchange(soci::use(limit, "most"));
      begin(next, std::string{"select "} + chunk_row::columns + " from sluice_chunks c where c.document = :id and " +
                      condition + " order by c.place limit :most");
      while (next.fetch())
        found.push_back(row.take());
    });
    if (error)
      return error;
    return found;
  }

  /// In a session of its own: one for SQLite, which has one writer anyway, some for PostgreSQL.
  caf::error transact(const std::function<void(soci::session&)>& work) {
    auto mine = [this] {
      std::unique_lock guard{mutex_};
      given_back_.wait(guard, [this] { return free_ > 0; });
      --free_;
      if (idle_.empty())
        return std::unique_ptr<database>{};
      auto one = std::move(idle_.back());
      idle_.pop_back();
      return one;
    }();
    if (!mine)
      mine = std::make_unique<database>(database::options{
          .url = url_, .setting = "store.url", .schema = "documents", .migrations = migrations(sqlite_)});
    auto error = mine->transact(work);
    {
      std::lock_guard guard{mutex_};
      idle_.push_back(std::move(mine));
      ++free_;
    }
    given_back_.notify_one();
    return error;
  }

  const std::string url_;
  const bool sqlite_;
  std::mutex mutex_;
  std::condition_variable given_back_;
  std::size_t free_;
  std::vector<std::unique_ptr<database>> idle_;
};

} // namespace

std::shared_ptr<document_store> make_document_store(const std::string& url) {
  return std::make_shared<sql_document_store>(url);
}

} // namespace sluice::store
