/// Handing a record to a producer; used by the sink and by transactions.
#pragma once

#include <cstdint>
#include <string>

#include "kafka/client.hpp"
#include "sluice/record.hpp"

namespace sluice::kafka {

/// Copies the record into the producer's queue. Errors: `queue_full`, `unknown_topic`, `kafka_refused`, `fenced`.
caf::error produce(rd_kafka_t* rk, const outgoing_record& record, uint64_t tag);

/// The tag that `produce` was given.
uint64_t tag_of(const rd_kafka_message_t& message) noexcept;

/// Why the message was not delivered, with what is known of the brokers; for people.
std::string reason_of(const rd_kafka_message_t& message, const client& owner);

} // namespace sluice::kafka
