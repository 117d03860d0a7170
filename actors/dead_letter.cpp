#include "dead_letter.hpp"

#include <algorithm>
#include <chrono>

#include "sluice/processor.hpp"
#include "sluice/utf8.hpp"

#include "crash.hpp"

namespace sluice {

namespace {

constexpr std::chrono::minutes answer_timeout{2}; // the producer answers within its delivery timeout
constexpr std::chrono::milliseconds first_delay{200};
constexpr std::chrono::milliseconds max_delay{10000};
constexpr std::size_t max_reason_bytes = 4096;

std::string shortened(const std::string& reason) {
  return reason.size() <= max_reason_bytes ? reason
                                           : reason.substr(0, whole_characters(reason, max_reason_bytes - 3)) + "…";
}

} // namespace

failed_record failed_record_of(const record_batch& batch, std::size_t index) {
  const auto& record = batch.records()[index];
  failed_record failed;
  failed.topic = batch.topic();
  failed.partition = batch.partition();
  failed.offset = record.offset;
  failed.timestamp_ms = record.timestamp_ms;
  if (record.has_key)
    failed.key = std::string{record.key};
  if (record.has_value)
    failed.value = std::string{record.value};
  failed.headers = batch.headers(index);
  return failed;
}

outgoing_record make_dead_letter(const failed_record& failed, letter_size size) {
  outgoing_record record;
  record.topic = failed.topic + ".dlq";
  if (size != letter_size::place_only) {
    record.key = failed.key;
    record.headers = failed.headers;
  }
  if (size == letter_size::whole)
    record.value = failed.value;
  auto add = [&](const char* header, std::string value) { record.headers.push_back({header, std::move(value)}); };
  add("sluice-dlq-topic", failed.topic);
  add("sluice-dlq-partition", std::to_string(failed.partition));
  add("sluice-dlq-offset", std::to_string(failed.offset));
  add("sluice-dlq-timestamp", std::to_string(failed.timestamp_ms));
  add("sluice-dlq-processor", failed.processor);
  add("sluice-dlq-error", to_string(failed.error));
  add("sluice-dlq-reason", shortened(failed.reason));
  add("sluice-dlq-attempts", std::to_string(failed.attempts));
  add("sluice-dlq-first-failure", std::to_string(failed.first_failure_ms));
  add("sluice-dlq-last-failure", std::to_string(failed.last_failure_ms));
  if (size != letter_size::whole)
    add("sluice-dlq-missing", size == letter_size::without_value ? "value" : "value,key,headers");
  return record;
}

void dead_letter_state::attempt(uint64_t id) {
  auto& one = letters.at(id);
  ++one.attempts;
  self->request(producer->get(), answer_timeout, one.record)
      .then(
          [this, id](const deliveries& results) {
            const auto& result = results->front();
            if (result.error == ec::too_large && shrink(id, result.reason)) {
              attempt(id);
              return;
            }
            if (result.error != ec::no_error) {
              repeat(id, to_string(result.error) + ": " + result.reason);
              return;
            }
            counters->dead_letters.add();
            auto it = letters.find(id);
            it->second.promise.deliver(atom::done_v);
            letters.erase(it);
          },
          [this, id](const caf::error& error) { repeat(id, describe(error)); });
}

bool dead_letter_state::shrink(uint64_t id, const std::string& reason) {
  auto& one = letters.at(id);
  if (one.size == letter_size::place_only)
    return false;
  one.size = one.size == letter_size::whole ? letter_size::without_value : letter_size::place_only;
  one.record = std::make_shared<std::vector<outgoing_record>>(1, make_dead_letter(*one.failed, one.size));
  log(log_level::error, name, "a dead letter is too large for its topic, it is written without what is large",
      {{"topic", one.failed->topic},
       {"partition", std::to_string(one.failed->partition)},
       {"offset", std::to_string(one.failed->offset)},
       {"cause", reason}});
  return true;
}

void dead_letter_state::repeat(uint64_t id, const std::string& reason) {
  auto attempts = letters.at(id).attempts;
  log(log_level::warn, name, "a dead letter could not be written, trying again",
      {{"topic", letters.at(id).record->front().topic}, {"attempts", std::to_string(attempts)}, {"cause", reason}});
  self->delayed_send(self, backoff_delay(first_delay, max_delay, attempts, random), atom::retry_v, id);
}

dead_letter_actor::behavior_type dead_letter(dead_letter_state::self_pointer self,
                                             std::shared_ptr<role<kafka_producer_actor>> producer, stats* counters) {
  auto& st = self->state;
  st.producer = std::move(producer);
  st.counters = counters;
  log_crashes(self, st.name);
  self->set_exit_handler([self](const caf::exit_msg& exit) { // 0.17 breaks no promise by itself
    for (auto& [id, one] : self->state.letters)
      one.promise.deliver(
          make_failure(ec::shutting_down, "the dead letter was not written; its record will be read again"));
    self->quit(exit.reason);
  });
  return {
      [self](const failed_ptr& failed) -> caf::result<atom::done> {
        auto& st = self->state;
        log(log_level::warn, st.name, "record goes to its dead-letter topic",
            {{"eventId", event_id_of(failed->headers, failed->value.value_or(""), failed->topic, failed->partition,
                                     failed->offset)},
             {"topic", failed->topic},
             {"partition", std::to_string(failed->partition)},
             {"offset", std::to_string(failed->offset)},
             {"processor", failed->processor},
             {"error", to_string(failed->error)},
             {"cause", shortened(failed->reason)}});
        auto id = st.next_id++;
        auto promise = self->make_response_promise<atom::done>();
        st.letters[id] = {.failed = failed,
                          .record = std::make_shared<std::vector<outgoing_record>>(1, make_dead_letter(*failed)),
                          .promise = promise};
        st.attempt(id);
        return promise;
      },
      [self](atom::retry, uint64_t id) { self->state.attempt(id); },
  };
}

} // namespace sluice
