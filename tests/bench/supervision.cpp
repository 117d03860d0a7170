// What supervision costs: records with keys through one supervisor and its workers, whose function does nothing (or
// waits). Without Kafka: batches come from memory, so that all that is measured is ours. Prints JSON.
#include <atomic>
#include <random>
#include <thread>

#include "bench.hpp"
#include "processor_supervisor.hpp"

using namespace sluice;

namespace {

/// A thousand records with keys and 200 bytes each, the same for all batches but for the offsets.
class memory_batch : public record_batch {
public:
  static constexpr size_t size = 1000;
  memory_batch(const std::vector<std::string>& keys, const std::string& value, int64_t first) {
    views_.resize(size);
    for (size_t i = 0; i < size; ++i) {
      auto& view = views_[i];
      view.key = keys[(static_cast<size_t>(first) + i) % keys.size()];
      view.value = value;
      view.has_key = view.has_value = true;
      view.offset = first + static_cast<int64_t>(i);
    }
  }
  const std::string& topic() const noexcept override { return topic_; }
  int32_t partition() const noexcept override { return 0; }
  std::span<const record_view> records() const noexcept override { return views_; }
  std::vector<record_header> headers(size_t) const override { return {}; }

private:
  std::string topic_ = "t";
  std::vector<record_view> views_;
};

/// Stands for the kafka_consumer: sends as much as the credit allows.
struct feeder_state {
  int64_t credit = 0;
  int64_t next = 0;
};
kafka_consumer_actor::behavior_type feeder(kafka_consumer_actor::stateful_pointer<feeder_state> self,
                                           processor_supervisor_actor whom, int64_t records, uint32_t credit,
                                           const std::vector<std::string>* keys, const std::string* value) {
  self->state.credit = credit;
  auto pump = [self, whom, records, keys, value] {
    auto& st = self->state;
    for (; st.credit > 0 && st.next < records; st.credit -= memory_batch::size, st.next += memory_batch::size)
      self->send(whom, batch_ptr{std::make_shared<memory_batch>(*keys, *value, st.next)});
  };
  self->request(whom, caf::infinite, atom::assigned_v, partition_list{{"t", 0}}).then([pump](const partition_list&) {
    pump();
  });
  return {
      [self, pump](atom::credit, uint32_t n) {
        self->state.credit += n;
        pump();
      },
      [](atom::commit, const partition_list&) {},
      [](atom::restore, const partition_list& partitions) { return partitions; },
      [](atom::drain) { return atom::done_v; },
      [](atom::wake) {},
      [](atom::tick) {},
  };
}

} // namespace

int main(int argc, char** argv) {
  bench::options given{
      argc,
      argv,
      {{"--records", "3000000"}, {"--concurrency", "2"}, {"--keys", "1000"}, {"--wait-us", "0"}, {"--vary", "0"}}};
  const auto records = given.number("--records") / memory_batch::size * memory_batch::size;
  const std::chrono::microseconds wait{given.number("--wait-us")};
  std::vector<std::string> keys;
  for (uint64_t i = 0; i < given.number("--keys"); ++i)
    keys.push_back("customer-" + std::to_string(i));
  const std::string value(200, 'x');

  actor_config<caf::id_block::sluice> cfg{1};
  caf::actor_system system{cfg};
  processor_stats numbers;
  processor_config settings;
  settings.name = "bench";
  settings.concurrency = static_cast<uint32_t>(given.number("--concurrency"));
  settings = effective(config{}, settings, {});
  std::atomic<uint64_t> calls{0}, bytes{0};
  const bool vary = given.number("--vary") != 0; // anything from nothing to --wait-us, each as likely
  auto work = make_processor([wait, vary, &calls, &bytes](const record& in, context&) {
    calls.fetch_add(1, std::memory_order_relaxed);
    bytes.fetch_add(in.value.size(), std::memory_order_relaxed);
    if (wait.count() == 0)
      return;
    thread_local std::minstd_rand random{std::random_device{}()};
    std::this_thread::sleep_for(vary ? std::chrono::microseconds{random() % (wait.count() + 1)} : wait);
  });
  auto make_worker = [&](const processor_supervisor_actor& whose) {
    return system.spawn<caf::detached>(processor_worker, settings.name, work, whose);
  };
  auto supervisor = system.spawn(processor_supervisor, settings, worker_maker{make_worker}, false,
                                 std::make_shared<role<kafka_producer_actor>>(),
                                 std::make_shared<role<dead_letter_actor>>(), nullptr, &numbers);
  const auto begin = bench::clock::now();
  const auto cpu = bench::cpu_seconds();
  auto source =
      system.spawn(feeder, supervisor, static_cast<int64_t>(records), settings.in_flight_records, &keys, &value);
  while (numbers.done.get() < records)
    std::this_thread::sleep_for(std::chrono::milliseconds{1});
  const auto seconds = bench::seconds_since(begin);
  for (int i = 0; i < 1000 && numbers.in_flight.get() != 0; ++i) // counted after the others
    std::this_thread::sleep_for(std::chrono::milliseconds{1});
  if (calls != records || bytes != records * value.size() || numbers.in.get() != records ||
      numbers.in_flight.get() != 0)
    bench::die("not every record was processed exactly once: " + std::to_string(calls) + " calls, " +
               std::to_string(numbers.in.get()) + " taken");
  std::printf("{\"records\":%llu,\"seconds\":%.3f,\"perSecond\":%.0f,\"cpuUsPerRecord\":%.3f}\n",
              static_cast<unsigned long long>(records), seconds, static_cast<double>(records) / seconds,
              (bench::cpu_seconds() - cpu) * 1e6 / static_cast<double>(records));
  caf::anon_send_exit(source, caf::exit_reason::user_shutdown);
  caf::anon_send_exit(supervisor, caf::exit_reason::user_shutdown);
}
