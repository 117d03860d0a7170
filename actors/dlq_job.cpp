#include "dlq_job.hpp"

#include <algorithm>
#include <map>
#include <set>

#include <nlohmann/json.hpp>

#include "sluice/log.hpp"

#include "crash.hpp"

namespace sluice {

namespace {

using nlohmann::json;
using std::chrono::milliseconds;

constexpr milliseconds read_wait{100};
constexpr std::chrono::minutes answer_timeout{2}; // the producer answers within its delivery timeout
/// Sent together: what one such batch costs at most, should the broker go away in it, is one delivery timeout.
constexpr size_t slice_letters = 200;
constexpr uint64_t slice_bytes = 8388608;
/// Of a partition, for the numbers by error code.
constexpr int64_t survey_letters = 1000;

caf::error too_slow() {
  return make_failure(ec::kafka_unreachable, "the dead-letter topic could not be read in time");
}

caf::error no_such_topic(const std::string& topic) {
  return make_failure(ec::unknown_topic, "there is no topic \"" + topic + "\"");
}

uint64_t size_of(const dlq_letter& letter) {
  uint64_t bytes = (letter.key ? letter.key->size() : 0) + (letter.value ? letter.value->size() : 0);
  for (const auto& header : letter.headers)
    bytes += header.name.size() + header.value.size();
  return bytes;
}

caf::error marks_unknown(const dlq_settings& settings, const std::string& mend) {
  return make_failure(ec::target_unavailable, "which letters were sent back before could not be read from \"" +
                                                  settings.redrives_topic + "\" in time; try again, or " + mend);
}

/// What a task knows before it reads letters.
struct opened {
  redrive_marks marks;
  bool knows_marks = true;
  std::vector<offset_range> ranges;
  std::vector<replay_source::partition_bounds> bounds;
};

caf::expected<opened> open_topic(replay_source& source, const dlq_query& query, const dlq_settings& settings,
                                 read_budget& budget) {
  const read_budget for_marks{settings.time, settings.mark_bytes};
  auto bounds = source.bounds({query.topic, settings.redrives_topic, audit_topic});
  if (!bounds)
    return bounds.error();
  if (bounds_of(*bounds, query.topic).empty())
    return no_such_topic(query.topic);
  std::vector<topic_partition> since;
  if (query.filter.from_ms && query.ids.empty() && settings.seek_by_time) {
    auto found = source.at_time({query.topic}, *query.filter.from_ms);
    if (!found)
      return found.error();
    since = std::move(*found);
  }
  auto marks = read_marks(source, settings.redrives_topic, *bounds, {query.topic}, for_marks);
  if (!marks)
    return marks.error();
  if (!marks->complete && query.filter.redriven)
    return marks_unknown(settings, "leave \"redriven\" out of the filter");
  budget = {settings.time, settings.bytes};
  return opened{std::move(marks->by_topic[query.topic]), marks->complete, ranges_of(query, *bounds, since),
                std::move(*bounds)};
}

void add_mark(dlq_letter& letter, const redrive_marks& marks) {
  if (auto it = marks.find(letter.id); it != marks.end() && it->second.letter_ms == letter.timestamp_ms)
    letter.redriven = it->second;
}

bool is_wanted(const dlq_query& query, const dlq_letter& letter) {
  return query.ids.empty() ? query.filter.fits(letter)
                           : std::binary_search(query.ids.begin(), query.ids.end(), letter.id);
}

bool is_passing(ec code) {
  return code == ec::delivery_timeout || code == ec::kafka_unreachable || code == ec::queue_full ||
         code == ec::shutting_down;
}

json place_of(const topic_partition& where) {
  return {{"topic", where.topic}, {"partition", where.partition}, {"offset", where.offset}};
}

} // namespace

caf::expected<dlq_page> find_letters(replay_source& source, const dlq_query& query, const dlq_settings& settings) {
  read_budget budget{settings.time, settings.bytes};
  auto topic = open_topic(source, query, settings, budget);
  if (!topic)
    return topic.error();
  range_reader reader{source, query.topic, std::move(topic->ranges)};
  dlq_page page;
  page.knows_redriven = topic->knows_marks;
  while (!reader.finished() && page.letters.size() < query.limit) {
    if (budget.spent()) {
      if (page.scanned == 0)
        return too_slow();
      break;
    }
    auto error = reader.step(read_wait, [&](const record_batch& batch, size_t i) {
      auto letter = read_dead_letter(batch, i);
      budget.spend(size_of(letter));
      ++page.scanned;
      page.after = letter.id;
      add_mark(letter, topic->marks);
      if (!is_wanted(query, letter))
        return true;
      auto key_bytes = letter.key ? letter.key->size() : 0;
      auto value_bytes = letter.value ? letter.value->size() : 0;
      if (query.preview_bytes > 0) {
        if (letter.key && key_bytes > query.preview_bytes)
          letter.key->resize(query.preview_bytes);
        if (letter.value && value_bytes > query.preview_bytes)
          letter.value = letter.value->substr(0, query.preview_bytes); // gives the rest's memory back
      }
      page.letters.push_back({std::move(letter), key_bytes, value_bytes});
      return page.letters.size() < query.limit;
    });
    if (error)
      return error;
  }
  page.complete = reader.finished();
  if (page.complete)
    page.after.reset();
  return page;
}

caf::expected<dlq_overview> survey(replay_source& source, const channel_names& topics, const dlq_settings& settings) {
  read_budget budget{settings.time, settings.bytes};
  auto asked = topics;
  asked.push_back(settings.redrives_topic);
  auto bounds = source.bounds(asked);
  if (!bounds)
    return bounds.error();
  using place = std::pair<std::string, int32_t>;
  std::map<place, int64_t> unseen; // what still has to be read of the partition: up to this offset
  std::map<std::string, dlq_topic_view> views;
  std::vector<topic_partition> firsts, lasts;
  for (const auto& one : *bounds) {
    if (one.topic == settings.redrives_topic)
      continue;
    auto& view = views[one.topic];
    view.topic = one.topic;
    view.complete = view.partitions == 0 || view.complete;
    ++view.partitions;
    if (one.end <= one.first)
      continue;
    view.letters += static_cast<uint64_t>(one.end - one.first);
    view.complete = view.complete && one.end - one.first <= survey_letters;
    firsts.push_back({one.topic, one.partition, one.first});
    lasts.push_back({one.topic, one.partition, one.end - 1});
    unseen[{one.topic, one.partition}] = std::min(one.end, one.first + survey_letters);
  }
  auto marks = read_marks(source, settings.redrives_topic, *bounds, {topics.begin(), topics.end()},
                          {settings.time, settings.mark_bytes});
  if (!marks)
    return marks.error();
  budget = {settings.time, settings.bytes};
  for (auto& [name, view] : views)
    if (marks->complete)
      view.redriven = 0;
  for (const auto& one : *bounds)
    if (auto of_topic = marks->by_topic.find(one.topic); marks->complete && of_topic != marks->by_topic.end())
      *views[one.topic].redriven +=
          static_cast<uint64_t>(std::distance(of_topic->second.lower_bound({one.partition, one.first}),
                                              of_topic->second.lower_bound({one.partition, one.end})));
  std::map<std::string, std::map<std::string, uint64_t>> errors;
  auto look = [&](const std::vector<topic_partition>& from, std::map<place, int64_t> until, bool count) -> caf::error {
    if (!from.empty())
      source.start(from);
    while (!until.empty() && !budget.spent()) {
      auto got = source.next(read_wait);
      if (auto* error = std::get_if<caf::error>(&got))
        return *error;
      if (auto* where = std::get_if<topic_partition>(&got)) {
        if (where->offset >= 0)
          until.erase({where->topic, where->partition});
        continue;
      }
      auto* batch = std::get_if<batch_ptr>(&got);
      if (batch == nullptr)
        continue;
      auto wanted = until.find({(*batch)->topic(), (*batch)->partition()});
      auto view = views.find((*batch)->topic());
      for (size_t i = 0; i < (*batch)->records().size() && wanted != until.end(); ++i) {
        const auto& record = (*batch)->records()[i];
        if (!view->second.oldest_ms || record.timestamp_ms < *view->second.oldest_ms)
          view->second.oldest_ms = record.timestamp_ms;
        if (!view->second.newest_ms || record.timestamp_ms > *view->second.newest_ms)
          view->second.newest_ms = record.timestamp_ms;
        budget.spend(record.key.size() + record.value.size());
        if (count && record.offset < wanted->second)
          ++errors[(*batch)->topic()][read_dead_letter(**batch, i).error];
        if (record.offset + 1 >= wanted->second) {
          until.erase(wanted);
          wanted = until.end();
        }
      }
    }
    for (const auto& left : until)
      views[left.first.first].complete = false;
    return {};
  };
  std::map<place, int64_t> ends;
  for (const auto& last : lasts)
    ends[{last.topic, last.partition}] = last.offset + 1;
  if (auto error = look(lasts, ends, false))
    return error;
  if (auto error = look(firsts, unseen, true))
    return error;
  dlq_overview all;
  for (auto& [name, view] : views) {
    view.errors.assign(errors[name].begin(), errors[name].end());
    all.topics.push_back(std::move(view));
  }
  return all;
}

// -- redrive ----------------------------------------------------------------------------------------------------------

caf::error dlq_job_state::begin() {
  budget.emplace(settings.time, settings.bytes);
  const auto& query = order->which;
  auto topic = open_topic(*source, query, settings, *budget);
  if (!topic)
    return topic.error();
  for (const auto& needed : {settings.redrives_topic, std::string{audit_topic}})
    if (!order->dry_run && bounds_of(topic->bounds, needed).empty())
      return make_failure(ec::target_unavailable,
                          "there is no topic \"" + needed + "\", where redrives are written down; create it");
  if (!topic->knows_marks && !order->again)
    return marks_unknown(settings, "send \"again\": true to send letters back whether they were before or not");
  marks = std::move(topic->marks);
  // Marks of letters that are gone would be kept for ever.
  for (const auto& one : bounds_of(topic->bounds, query.topic))
    for (auto it = marks.lower_bound({one.partition, 0});
         it != marks.end() && it->first < letter_id{one.partition, one.first}; ++it)
      outdated.push_back(it->first);
  reader.emplace(*source, query.topic, std::move(topic->ranges));
  return {};
}

void dlq_job_state::step() {
  if (!reader) {
    if (auto error = begin()) {
      promise.deliver(error);
      self->quit();
      return;
    }
  }
  auto all_read = waiting.empty() && reader->finished();
  auto begun = handled > 0 || report.skipped > 0;
  auto spent = budget->spent(); // once: time goes on between two looks
  if (all_read || stuck || handled >= order->which.limit || (spent && begun)) {
    report.complete = all_read;
    finish();
  } else if (!waiting.empty()) {
    send_some();
  } else if (spent && !report.after) {
    promise.deliver(too_slow());
    self->quit();
  } else if (spent) {
    report.complete = false;
    finish();
  } else {
    read();
  }
}

void dlq_job_state::read() {
  auto error = reader->step(read_wait, [this](const record_batch& batch, size_t i) {
    auto letter = read_dead_letter(batch, i);
    budget->spend(size_of(letter));
    add_mark(letter, marks);
    if (is_wanted(order->which, letter))
      waiting.push_back(std::move(letter));
    else if (waiting.empty())
      report.after = letter.id;
    return true;
  });
  if (error) {
    log(log_level::warn, name, "a redrive ended early", {{"cause", describe(error)}});
    stuck = true;
  }
  self->send(self, atom::tick_v);
}

redrive_report::result dlq_job_state::examine(const dlq_letter& letter) const {
  redrive_report::result result;
  result.id = letter.id;
  result.event_id = letter.event_id;
  result.redrives = letter.redrives + 1;
  result.target = {letter.origin.topic, letter.origin.partition, -1};
  auto refuse = [&result](const char* error, std::string detail) {
    result.error = error;
    result.detail = std::move(detail);
  };
  // Who may write to a dead-letter topic must not be able to have an operator write elsewhere.
  if (letter.origin.topic + std::string{dlq_suffix} != letter.topic || letter.origin.partition < 0)
    refuse("no_origin", "its headers do not say that it comes from the topic this is the dead-letter topic of");
  else if (!letter.missing.empty() && !(letter.missing == "value" && order->replace))
    refuse("incomplete", "it is without its " + letter.missing + ", which was too large for " + letter.topic +
                             "; the record is at " + letter.origin.topic + "/" +
                             std::to_string(letter.origin.partition) + "/" + std::to_string(letter.origin.offset) +
                             (letter.missing == "value" ? "; send it with \"value\"" : ""));
  else if (letter.redrives >= settings.max_redrives)
    refuse("loop_guard", "it has been sent back " + std::to_string(letter.redrives) +
                             " times and came back each time; dlq.maxRedrives allows " +
                             std::to_string(settings.max_redrives));
  else if (letter.redriven && !order->again)
    refuse("already_redriven", "it was sent back before; send \"again\": true to do it once more");
  return result;
}

void dlq_job_state::send_some() {
  auto most = order->rate == 0 ? slice_letters : std::clamp<size_t>(order->rate / 10, 1, slice_letters);
  auto by_filter = order->which.ids.empty();
  auto records = std::make_shared<std::vector<outgoing_record>>();
  uint64_t bytes = 0;
  while (!waiting.empty() && out.size() < most && bytes < slice_bytes && handled < order->which.limit) {
    auto letter = std::move(waiting.front());
    waiting.pop_front();
    report.after = letter.id;
    if (by_filter && letter.redriven && !order->again) {
      ++report.skipped;
      continue;
    }
    ++handled;
    auto result = examine(letter);
    if (!result.error.empty() || order->dry_run) {
      report.results.push_back(std::move(result));
      continue;
    }
    records->push_back(redriven_record(letter, settings.unix_ms()));
    if (order->replace)
      records->back().value = order->value;
    bytes += size_of(letter);
    out.push_back({std::move(letter), std::move(result)});
  }
  if (records->empty()) {
    self->send(self, atom::tick_v);
    return;
  }
  self->request(producer->get(), answer_timeout, outgoing_ptr{records})
      .then([this](const deliveries& results) { sent(results); },
            [this](const caf::error& error) {
              auto none = std::make_shared<std::vector<delivery>>(out.size());
              for (auto& one : *none) {
                one.error = code_of(error) == ec::no_error ? ec::shutting_down : code_of(error);
                one.reason = describe(error);
              }
              sent(none);
            });
}

void dlq_job_state::sent(const deliveries& results) {
  auto at = out.begin();
  for (const auto& result : *results) {
    auto& outcome = at++->outcome;
    if (result.error == ec::no_error) {
      outcome.target = {result.topic, result.partition, result.offset};
      continue;
    }
    outcome.error = to_string(result.error);
    outcome.detail = result.reason;
    stuck = stuck || is_passing(result.error);
  }
  record();
}

void dlq_job_state::record() {
  auto records = std::make_shared<std::vector<outgoing_record>>();
  for (size_t i = 0; i < slice_letters && !outdated.empty(); ++i) { // as many as a slice adds: they become no more
    records->push_back(mark_record(settings.redrives_topic, order->which.topic, outdated.front(), std::nullopt));
    outdated.pop_front();
  }
  auto now = settings.unix_ms();
  for (const auto& [letter, outcome] : out) {
    if (!outcome.error.empty())
      continue;
    counters->dead_letters_redriven.add();
    log(log_level::info, name, "a dead letter was sent back",
        {{"eventId", outcome.event_id},
         {"by", order->user},
         {"remote", order->remote},
         {"letter", letter.topic + "/" + to_string(letter.id)},
         {"topic", outcome.target.topic},
         {"partition", std::to_string(outcome.target.partition)},
         {"offset", std::to_string(outcome.target.offset)}});
    records->push_back(mark_record(settings.redrives_topic, letter.topic, letter.id,
                                   redrive_mark{letter.timestamp_ms, now, order->user, outcome.target}));
    auto id = settings.make_id();
    auto resource = letter.topic + "/" + to_string(letter.id);
    json data{{"action", "dlq.redrive"},
              {"resource", "dead_letter"},
              {"resourceId", resource},
              {"userId", order->user.empty() ? json() : json(order->user)},
              {"details",
               {{"from", place_of({letter.topic, letter.id.partition, letter.id.offset})},
                {"to", place_of(outcome.target)},
                {"eventId", outcome.event_id},
                {"error", letter.error},
                {"processor", letter.processor},
                {"redrives", outcome.redrives},
                {"edited", order->replace},
                {"again", letter.redriven.has_value()},
                {"remote", order->remote}}}};
    json entry{{"type", "AUDIT_EVENT"},
               {"data", std::move(data)},
               {"metadata", {{"eventId", id}, {"timestamp", now}, {"source", settings.source}, {"version", 1}}}};
    outgoing_record audit;
    audit.topic = audit_topic;
    audit.key = resource;
    audit.value = entry.dump(-1, ' ', false, json::error_handler_t::replace);
    audit.headers.push_back({event_id_header, id});
    records->push_back(std::move(audit));
  }
  if (records->empty()) {
    recorded(true);
    return;
  }
  self->request(producer->get(), answer_timeout, outgoing_ptr{records})
      .then(
          [this](const deliveries& results) {
            recorded(std::all_of(results->begin(), results->end(),
                                 [](const delivery& x) { return x.error == ec::no_error; }));
          },
          [this](const caf::error&) { recorded(false); });
}

void dlq_job_state::recorded(bool well) {
  if (!well) {
    log(log_level::error, name, "letters were sent back, but not all of that could be written down",
        {{"redrivesTopic", settings.redrives_topic}, {"auditTopic", audit_topic}});
    stuck = true;
  }
  for (auto& one : out) {
    one.outcome.recorded = well || !one.outcome.error.empty();
    report.results.push_back(std::move(one.outcome));
  }
  pause();
}

void dlq_job_state::pause() {
  auto count = std::exchange(out, {}).size();
  auto wait = order->rate == 0 ? 0 : count * 1000 / order->rate;
  self->delayed_send(self, milliseconds{wait}, atom::tick_v);
}

void dlq_job_state::finish() {
  const auto& query = order->which;
  auto known = [this](letter_id id) {
    return std::any_of(report.results.begin(), report.results.end(), [id](const auto& x) { return x.id == id; });
  };
  for (const auto& id : query.ids)
    if (!known(id)) {
      redrive_report::result missing;
      missing.id = id;
      missing.error = report.complete ? "not_found" : "not_reached";
      missing.detail = report.complete ? "there is no such letter (any more)" : "there was no time left; send it again";
      report.results.push_back(std::move(missing));
    }
  std::sort(report.results.begin(), report.results.end(), [](const auto& a, const auto& b) { return a.id < b.id; });
  if (report.complete)
    report.after.reset();
  promise.deliver(std::make_shared<const redrive_report>(std::move(report)));
  self->quit();
}

dlq_job_actor::behavior_type dlq_job(dlq_job_state::self_pointer self, dlq_settings settings,
                                     const std::function<std::unique_ptr<replay_source>()>& make_source,
                                     std::shared_ptr<role<kafka_producer_actor>> producer, stats* counters) {
  auto& st = self->state;
  st.settings = std::move(settings);
  st.producer = std::move(producer);
  st.counters = counters;
  log_crashes(self, st.name);
  self->set_exit_handler([self](const caf::exit_msg& exit) { // 0.17 breaks no promise by itself
    if (self->state.promise.pending())
      self->state.promise.deliver(
          make_failure(ec::shutting_down, "the server is stopping; not all letters were handled"));
    self->quit(exit.reason);
  });
  return {
      [self, make_source](const dlq_query_ptr& query) -> caf::result<dlq_page_ptr> {
        auto source = make_source();
        auto page = find_letters(*source, *query, self->state.settings);
        self->quit();
        if (!page)
          return page.error();
        return std::make_shared<const dlq_page>(std::move(*page));
      },
      [self, make_source](const redrive_order_ptr& order) -> caf::result<redrive_report_ptr> {
        auto& st = self->state;
        st.source = make_source();
        st.order = order;
        st.promise = self->make_response_promise<redrive_report_ptr>();
        self->send(self, atom::tick_v);
        return st.promise;
      },
      [self, make_source](atom::state, const channel_names& topics) -> caf::result<dlq_overview_ptr> {
        auto source = make_source();
        auto all = survey(*source, topics, self->state.settings);
        self->quit();
        if (!all)
          return all.error();
        return std::make_shared<const dlq_overview>(std::move(*all));
      },
      [self](atom::tick) { self->state.step(); },
  };
}

} // namespace sluice
