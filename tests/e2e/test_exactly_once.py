"""Exactly once: whatever dies, the summaries read with read_committed cover every event once.

Events carry unique numbers, and samples are as large as windows, so a summary names each event it counts.
SLUICE_CRASHES=20 kills the server that often (3 times by default).
"""

import os
import random
import signal
import time

import pytest

from support import Feeder, Load, aggregation, config_for, consume, eventually, expect_exactly_once, unique, values_of

# A member killed inside a transaction leaves its partitions' offsets unsettled: its session (4 s) ends, the transaction
# times out (10 s), the broker, which looks every 10 s, notices; and a slow machine.
TAKEOVER_SECONDS = 60
CRASHES = int(os.environ.get("SLUICE_CRASHES", "3"))


def full_samples(source, sink, **more):
    return aggregation(source, sink, **{"batchSize": 20, "sampleSize": 20, "interval": 300, **more})


def written_to(kafka, source):
    return [one["payload"]["times"] for one in values_of(consume(kafka.bootstrap, source))]


@pytest.mark.seconds(90 + 15 * CRASHES)
@pytest.mark.parametrize("key_pointer", ["", "/payload/times"], ids=["one window", "a window per key"])
def test_a_server_killed_at_random_moments_counts_each_event_once(sluice, kafka, key_pointer):
    seed = random.randrange(10**6)
    print(f"seed {seed}")
    chance = random.Random(seed)
    source, sink = unique("events"), unique("summaries")
    more = {"keyPointer": key_pointer, "batchSize": 2} if key_pointer else {}
    server = sluice(config_for(kafka.bootstrap, full_samples(source, sink, **more)))
    feeder = Feeder(kafka.bootstrap, source, first=10**6, per_second=300 if key_pointer else 1500)
    load = Load(server, threads=2, batch=5)
    for crash in range(CRASHES):
        # Not only while starting up: every other crash comes after new summaries.
        if crash % 2 == 0:
            eventually("new summaries", lambda: server.metric("sluice_aggregator_summaries_total") > 0, timeout=30)
        time.sleep(chance.uniform(0, 1.5))
        server.kill()
        server.start(ready=False)
    load.finish()
    fed = feeder.finish()
    written = written_to(kafka, source)
    assert set(fed) <= set(written) and set(load.acknowledged) <= set(written)
    assert len(written) == len(set(written))
    expect_exactly_once(kafka.bootstrap, sink, written, timeout=60)
    assert server.metric("sluice_dead_letters_total") == 0


@pytest.mark.seconds(300)
def test_members_that_come_and_go_count_each_event_once(sluice, kafka):
    source, sink, group = unique("events"), unique("summaries"), unique("group")
    first, second = (sluice(config_for(kafka.bootstrap, full_samples(source, sink), group=group), start=False)
                     for _ in range(2))
    first.start()
    feeder = Feeder(kafka.bootstrap, source, per_second=1500)

    def summarised_by(server, more=3):
        """Waits until this server has taken part."""
        had = server.metric("sluice_aggregator_summaries_total")
        eventually("summaries of the server", lambda: server.metric("sluice_aggregator_summaries_total") >= had + more,
                   timeout=TAKEOVER_SECONDS)

    summarised_by(first)
    second.start()  # joins: partitions move over
    summarised_by(second)
    summarised_by(first)
    second.stop()  # leaves in order: they move back
    summarised_by(first)
    second.start()
    summarised_by(second)
    second.kill()  # leaves without a word
    summarised_by(first)
    first.stop()  # all gone for a moment
    first.start()
    summarised_by(first)
    fed = feeder.finish()
    expect_exactly_once(kafka.bootstrap, sink, fed)


@pytest.mark.seconds(240)
def test_a_server_that_was_frozen_counts_nothing_twice(sluice, kafka):
    """A member stopped for longer than its session lost its partitions and must not commit for them any more."""
    source, sink, group = unique("events"), unique("summaries"), unique("group")
    first, second = (sluice(config_for(kafka.bootstrap, full_samples(source, sink), group=group)) for _ in range(2))
    feeder = Feeder(kafka.bootstrap, source, per_second=1000)
    for server in (first, second):
        eventually("summaries", lambda: server.metric("sluice_aggregator_summaries_total") > 3, timeout=30)
    os.kill(first.pid, signal.SIGSTOP)
    had = second.metric("sluice_aggregator_summaries_total")
    time.sleep(7)
    eventually("the other takes over", lambda: second.metric("sluice_aggregator_summaries_total") > had + 3, timeout=TAKEOVER_SECONDS)
    os.kill(first.pid, signal.SIGCONT)
    had = first.metric("sluice_aggregator_summaries_total")
    eventually("it is back", lambda: first.metric("sluice_aggregator_summaries_total") > had + 3, timeout=TAKEOVER_SECONDS)
    fed = feeder.finish()
    expect_exactly_once(kafka.bootstrap, sink, fed)
