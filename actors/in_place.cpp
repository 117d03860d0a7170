#include "in_place.hpp"

#include <chrono>
#include <memory>
#include <span>
#include <utility>

#include "sluice/error.hpp"
#include "sluice/log.hpp"
#include "sluice/processor.hpp"

#include "crash.hpp"

namespace sluice {

namespace {

constexpr size_t max_waiting = 10000;
constexpr size_t max_waiting_bytes = 64 * 1024 * 1024;
constexpr std::chrono::minutes answer_timeout{10};
/// No record of Kafka's has it, so nobody takes one for the other.
constexpr int32_t no_partition = -1;

/// Records that are not in Kafka.
class kept_batch : public record_batch {
public:
  kept_batch(std::vector<outgoing_record> records, int64_t first_offset) : records_(std::move(records)) {
    for (const auto& one : records_) {
      record_view view;
      view.offset = first_offset++;
      view.timestamp_ms = one.timestamp_ms;
      view.has_key = one.key.has_value();
      view.has_value = one.value.has_value();
      if (one.key)
        view.key = *one.key;
      if (one.value)
        view.value = *one.value;
      views_.push_back(view);
    }
  }
  const std::string& topic() const noexcept override { return records_.front().topic; }
  int32_t partition() const noexcept override { return no_partition; }
  std::span<const record_view> records() const noexcept override { return views_; }
  std::vector<record_header> headers(size_t index) const override { return records_[index].headers; }

private:
  const std::vector<outgoing_record> records_;
  std::vector<record_view> views_;
};

size_t bytes_of(const outgoing_record& one) {
  return (one.key ? one.key->size() : 0) + (one.value ? one.value->size() : 0);
}

} // namespace

void in_place_state::take(const std::vector<outgoing_record>& kept, bool alone) {
  if (alone)
    behind = false;
  for (const auto& one : kept) {
    // Without an id of its own nobody could tell later that it has been processed.
    if (behind || waiting.size() >= max_waiting || waiting_bytes >= max_waiting_bytes ||
        find_header(one.headers, event_id_header) == nullptr) {
      behind = true;
      break;
    }
    waiting_bytes += bytes_of(one);
    waiting.push_back(one);
  }
  pump();
}

void in_place_state::pump() {
  while (assigned && credit > 0 && !waiting.empty()) {
    std::vector<outgoing_record> next;
    while (credit > 0 && !waiting.empty() && (next.empty() || waiting.front().topic == next.front().topic)) {
      waiting_bytes -= bytes_of(waiting.front());
      next.push_back(std::move(waiting.front()));
      waiting.pop_front();
      --credit;
    }
    const auto count = static_cast<int64_t>(next.size());
    self->send(handler, batch_ptr{std::make_shared<kept_batch>(std::move(next), next_offset)});
    next_offset += count;
  }
}

in_place_actor::behavior_type in_place(in_place_state::self_pointer self, record_handler_actor handler,
                                       const std::vector<std::string>& topics, uint32_t credit, int64_t first_offset) {
  auto& st = self->state;
  st.handler = std::move(handler);
  st.credit = credit;
  st.next_offset = first_offset;
  for (const auto& topic : topics)
    st.partitions.push_back({topic, no_partition, first_offset});
  log_crashes(self, st.name);
  self->link_to(st.handler);
  self->request(st.handler, answer_timeout, atom::assigned_v, st.partitions)
      .then(
          [self](const partition_list&) {
            self->state.assigned = true;
            self->state.pump();
          },
          [self](const caf::error& error) { self->quit(error); });
  return {
      [self](atom::credit, uint32_t records) {
        self->state.credit += records;
        self->state.pump();
      },
      [](atom::commit, const partition_list&) {}, // the store remembers what is done
      [](atom::restore, const partition_list& partitions) { return partitions; },
      [self](atom::drain) -> caf::result<atom::done> {
        auto promise = self->make_response_promise<atom::done>();
        auto& st = self->state;
        st.assigned = false;
        self->request(st.handler, answer_timeout, atom::revoked_v, st.partitions, false)
            .then([promise](atom::done) mutable { promise.deliver(atom::done_v); },
                  [promise](const caf::error& error) mutable { promise.deliver(error); });
        return promise;
      },
      [](atom::wake) {},
      [](atom::tick) {},
      [self](const outgoing_ptr& kept, bool alone) { self->state.take(*kept, alone); },
  };
}

in_place_producer_actor::behavior_type
in_place_producer(in_place_producer_actor::stateful_pointer<in_place_producer_state> self, publish_function publish) {
  return {
      [self, publish = std::move(publish)](const outgoing_ptr& records) -> caf::result<deliveries> {
        auto& st = self->state;
        const auto id = st.next_id++;
        auto promise = self->make_response_promise<deliveries>();
        st.waiting.emplace(id, promise);
        // Answered on whatever thread: a message brings it here.
        publish(*records, [me = in_place_producer_actor{self}, id,
                           count = records->size()](const caf::expected<std::vector<delivery>>& outcome) {
          auto all = std::make_shared<std::vector<delivery>>(count);
          if (outcome)
            *all = *outcome;
          else
            for (auto& one : *all) {
              one.error = code_of(outcome.error());
              one.reason = text_of(outcome.error());
            }
          caf::anon_send(me, atom::done_v, id, deliveries{std::move(all)});
        });
        return promise;
      },
      [](const publications&) {},
      [](atom::drain) { return atom::done_v; },
      [](atom::wake) {},
      [](atom::tick) {},
      [self](atom::done, uint64_t id, const deliveries& results) {
        auto& waiting = self->state.waiting;
        if (auto it = waiting.find(id); it != waiting.end()) {
          it->second.deliver(results);
          waiting.erase(it);
        }
      },
  };
}

dead_letter_actor::behavior_type in_place_letters(dead_letter_actor::pointer) {
  return {
      [](const failed_ptr& failed) -> caf::result<atom::done> {
        log(log_level::info, "in_place", "an event could not be processed in place, it is left for Kafka",
            {{"processor", failed->processor},
             {"topic", failed->topic},
             {"eventId", event_id_of(failed->headers, failed->value.value_or(""), failed->topic, failed->partition,
                                     failed->offset)},
             {"cause", failed->reason}});
        return atom::done_v;
      },
      [](atom::retry, uint64_t) {},
  };
}

} // namespace sluice
