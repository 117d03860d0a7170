#include "store/redis_idempotency.hpp"

#include <charconv>
#include <chrono>
#include <cstdlib>
#include <utility>

#include <hiredis/hiredis.h>
#include <sys/time.h>

#include "sluice/config.hpp"

namespace sluice::store {

namespace {

constexpr std::chrono::seconds patience{1};
constexpr timeval connect_timeout{3, 0};
constexpr timeval answer_timeout{5, 0};

// One key an id: a hash of owner, fingerprint and, once it is done, the answer. Redis forgets it by itself.
// KEYS: the key. ARGV: owner, fingerprint, milliseconds.
constexpr const char* begin_script = R"(
local seen = redis.call('HMGET', KEYS[1], 'owner', 'fingerprint', 'answer')
if seen[1] and (seen[3] or seen[1] ~= ARGV[1]) then return {seen[2], seen[3]} end
redis.call('HSET', KEYS[1], 'owner', ARGV[1], 'fingerprint', ARGV[2])
redis.call('PEXPIRE', KEYS[1], ARGV[3])
return {}
)";
// ARGV: owner, answer, milliseconds; without the latter two it is released.
constexpr const char* settle_script = R"(
local seen = redis.call('HMGET', KEYS[1], 'owner', 'answer')
if seen[1] and seen[1] ~= ARGV[1] then return 0 end
if #ARGV > 1 then
  redis.call('HSET', KEYS[1], 'owner', ARGV[1], 'answer', ARGV[2])
  redis.call('PEXPIRE', KEYS[1], ARGV[3])
elseif not seen[2] then
  redis.call('DEL', KEYS[1])
end
return 1
)";

struct context_deleter {
  void operator()(redisContext* context) const { redisFree(context); }
};
struct reply_deleter {
  void operator()(redisReply* reply) const { freeReplyObject(reply); }
};
using reply_ptr = std::unique_ptr<redisReply, reply_deleter>;

/// The parts of redis://[user[:password]@]host[:port][/number].
struct address {
  std::string host, user, password;
  int port = 6379;
  std::string number;
};

std::string unescaped(const std::string& text) {
  std::string out;
  for (std::size_t i = 0; i < text.size(); ++i) {
    unsigned value = 0;
    if (text[i] == '%' && i + 2 < text.size() &&
        std::from_chars(text.data() + i + 1, text.data() + i + 3, value, 16).ptr == text.data() + i + 3) {
      out += static_cast<char>(value);
      i += 2;
    } else {
      out += text[i];
    }
  }
  return out;
}

address parse(const std::string& url) {
  address out;
  auto rest = url.substr(url.find("://") + 3);
  rest = rest.substr(0, rest.find_first_of("?#"));
  if (auto slash = rest.find('/'); slash != std::string::npos) {
    out.number = rest.substr(slash + 1);
    rest.resize(slash);
  }
  if (auto at = rest.rfind('@'); at != std::string::npos) {
    auto credentials = rest.substr(0, at);
    rest.erase(0, at + 1);
    auto colon = credentials.find(':');
    out.user = unescaped(credentials.substr(0, colon));
    if (colon != std::string::npos)
      out.password = unescaped(credentials.substr(colon + 1));
  }
  auto colon = rest.rfind(':');
  if (colon != std::string::npos && rest.find(']', colon) == std::string::npos) {
    out.port = std::atoi(rest.c_str() + colon + 1);
    rest.resize(colon);
  }
  if (rest.starts_with('[') && rest.ends_with(']'))
    rest = rest.substr(1, rest.size() - 2);
  out.host = rest.empty() ? "localhost" : rest;
  return out;
}

std::string text_of(const redisReply* reply) {
  return reply == nullptr || reply->str == nullptr ? std::string{} : std::string{reply->str, reply->len};
}

class redis_idempotency_store : public idempotency_store {
public:
  explicit redis_idempotency_store(const std::string& url) : where_(parse(url)) {}

  caf::expected<std::vector<standing>> begin(const std::vector<claim>& claims) override {
    std::vector<std::vector<std::string>> commands;
    for (const auto& one : claims)
      commands.push_back({"EVAL", begin_script, "1", key_of(one.scope, one.id), one.owner, one.fingerprint,
                          std::to_string(one.lease.count())});
    auto replies = run(commands);
    if (!replies)
      return replies.error();
    std::vector<standing> found(claims.size());
    for (std::size_t i = 0; i < claims.size(); ++i) {
      const auto* reply = (*replies)[i].get();
      if (reply->type != REDIS_REPLY_ARRAY || reply->elements == 0)
        continue;
      found[i].fingerprint = store::text_of(reply->element[0]);
      auto done = reply->elements > 1 && reply->element[1]->type == REDIS_REPLY_STRING;
      found[i].what = done ? standing::state::done : standing::state::busy;
      if (done)
        found[i].answer = store::text_of(reply->element[1]);
    }
    return found;
  }

  caf::error settle(const std::vector<settlement>& all) override {
    std::vector<std::vector<std::string>> commands;
    for (const auto& one : all) {
      commands.push_back({"EVAL", settle_script, "1", key_of(one.scope, one.id), one.owner});
      if (one.done) {
        commands.back().push_back(one.answer);
        commands.back().push_back(std::to_string(one.ttl.count()));
      }
    }
    auto replies = run(commands);
    return replies ? caf::error{} : replies.error();
  }

  caf::expected<std::size_t> sweep(std::size_t) override { return std::size_t{0}; }

private:
  static std::string key_of(const std::string& scope, const std::string& id) {
    // The length keeps "a" + "b:c" and "a:b" + "c" apart.
    return "sluice:idempotency:" + std::to_string(scope.size()) + ":" + scope + ":" + id;
  }

  caf::error fail(const std::string& what, ec code = ec::store_unavailable) {
    context_.reset();
    failed_ = std::chrono::steady_clock::now();
    last_failure_ = make_failure(code, "store.url: Redis at " + where_.host + ":" + std::to_string(where_.port) + ": " +
                                           what + "; see that it runs and that user and rights are right");
    return last_failure_;
  }

  caf::error open() {
    if (context_)
      return {};
    if (last_failure_ && std::chrono::steady_clock::now() - failed_ < patience)
      return last_failure_;
    context_.reset(redisConnectWithTimeout(where_.host.c_str(), where_.port, connect_timeout));
    if (!context_)
      return fail("no memory for a connection");
    if (context_->err != 0)
      return fail(context_->errstr);
    redisSetTimeout(context_.get(), answer_timeout);
    redisEnableKeepAlive(context_.get());
    std::vector<std::vector<std::string>> greeting;
    if (!where_.password.empty() && !where_.user.empty())
      greeting.push_back({"AUTH", where_.user, where_.password});
    else if (!where_.password.empty())
      greeting.push_back({"AUTH", where_.password});
    if (!where_.number.empty())
      greeting.push_back({"SELECT", where_.number});
    auto replies = exchange(greeting);
    return replies ? caf::error{} : replies.error();
  }

  caf::expected<std::vector<reply_ptr>> run(const std::vector<std::vector<std::string>>& commands) {
    if (auto error = open())
      return error;
    return exchange(commands);
  }

  /// All commands in one go. Every error ends the connection: what was sent after it would have an answer too many.
  caf::expected<std::vector<reply_ptr>> exchange(const std::vector<std::vector<std::string>>& commands) {
    for (const auto& command : commands) {
      std::vector<const char*> parts;
      std::vector<std::size_t> sizes;
      for (const auto& part : command) {
        parts.push_back(part.data());
        sizes.push_back(part.size());
      }
      if (redisAppendCommandArgv(context_.get(), static_cast<int>(parts.size()), parts.data(), sizes.data()) !=
          REDIS_OK)
        return fail("no memory for a request");
    }
    std::vector<reply_ptr> replies;
    for (std::size_t i = 0; i < commands.size(); ++i) {
      void* raw = nullptr;
      if (redisGetReply(context_.get(), &raw) != REDIS_OK)
        return fail(context_->err != 0 ? context_->errstr : "no answer");
      replies.emplace_back(static_cast<redisReply*>(raw));
      if (replies.back()->type == REDIS_REPLY_ERROR) {
        auto what = store::text_of(replies.back().get());
        if (what.starts_with("OOM"))
          return fail("it has no memory left (" + what + ")", ec::storage_full);
        return fail(what);
      }
    }
    return replies;
  }

  address where_;
  std::unique_ptr<redisContext, context_deleter> context_;
  caf::error last_failure_;
  std::chrono::steady_clock::time_point failed_;
};

} // namespace

std::unique_ptr<idempotency_store> make_redis_idempotency_store(const std::string& url) {
  return std::make_unique<redis_idempotency_store>(url);
}

} // namespace sluice::store
