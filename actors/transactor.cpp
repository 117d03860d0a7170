#include "transactor.hpp"

#include "crash.hpp"

namespace sluice {

transactor_actor::behavior_type transactor(transactor_actor::stateful_pointer<transactor_state> self,
                                           std::shared_ptr<transaction_log> log, std::function<bool()> keep_trying) {
  auto& st = self->state;
  st.log = std::move(log);
  st.keep_trying = std::move(keep_trying);
  log_crashes(self, st.name);
  return {
      [self](const transaction_ptr& what) -> caf::result<atom::done> {
        auto& st = self->state;
        if (auto error = st.log->commit(what->records, what->next_offsets, st.keep_trying))
          return error;
        return atom::done_v;
      },
      [self](atom::start) -> caf::result<atom::done> {
        auto& st = self->state;
        if (!st.open) {
          if (auto error = st.log->open(st.keep_trying))
            return error;
          st.open = true;
        }
        return atom::done_v;
      },
      [self](atom::restore, const std::string& topic, int32_t partition) -> caf::result<outgoing_ptr> {
        auto records = self->state.log->read_compacted(topic, partition);
        if (!records)
          return records.error();
        return outgoing_ptr{std::make_shared<std::vector<outgoing_record>>(std::move(*records))};
      },
  };
}

} // namespace sluice
