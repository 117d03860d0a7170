"""Other people's clients: kcat, KafkaJS, npm's and a browser's EventSource, curl, and the snippets of docs/live.md."""

import contextlib
import json
import os
import re
import shutil
import subprocess
import sys
import threading
import time

import pytest

from support import (ROOT, aggregation, config_for, consume, end_with_parent, event, eventually, kcat, produce, unique,
                     values_of)
from conftest import NODE_FOLDER, not_here


@pytest.fixture(scope="module")
def chromium():
    """The browser's path."""
    found = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if not found:
        not_here("Chromium is not installed")
    return found


class Lines:
    """What a process prints, line by line as it comes; ends it when left."""

    def __init__(self, process):
        self.process, self.lines, self.news = process, [], threading.Condition()
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self):
        for line in self.process.stdout:
            with self.news:
                self.lines.append(line.rstrip("\n"))
                self.news.notify_all()

    def wait(self, what, enough, timeout=40):
        with self.news:
            assert self.news.wait_for(lambda: enough(self.lines), timeout), (what, self.lines[-5:])

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.kill()
        self.process.wait()


class Publisher:
    """Broadcasts 0, 1, 2, … on `orders` until stopped, through a node that stays."""

    def __init__(self, server, pause=0.02):
        self.server, self.pause, self.count = server, pause, 0
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self):
        while not self._stop.is_set():
            assert self.server.post("/kafka/sse/broadcast/orders", {"data": self.count}).status == 202
            self.count += 1
            time.sleep(self.pause)

    def finish(self):
        """Stops; returns the numbers that were published, in order."""
        self._stop.set()
        self._thread.join()
        return list(range(self.count))


def snippet(language, words):
    """The block of code in docs/live.md that is of this language and has these words."""
    blocks = re.findall(r"^```(\w+)\n(.*?)^```", (ROOT / "docs" / "live.md").read_text(), re.MULTILINE | re.DOTALL)
    (found,) = [code for name, code in blocks if name == language and words in code]
    return found


def two_nodes(sluice, kafka):
    """One that clients are connected to and that may end, one to publish through."""
    config = config_for(kafka.bootstrap, sse={"broadcastTopic": unique("broadcast"), "retry": 500})
    return sluice(config), sluice(config)


def embedded(sluice, **more):
    server = sluice({"aggregations": [{"name": "default", "topics": ["events-topic"], "sink": "events-summary-table",
                                       "batchSize": 10, "sampleSize": 10}], **more}, args=["--embedded-broker"])
    return server, server.status()["kafka"]["brokers"], "events-topic", "events-summary-table"


def real(sluice, kafka):
    source, sink = unique("events"), unique("summaries")
    server = sluice(config_for(kafka.bootstrap, aggregation(source, sink, batchSize=10, sampleSize=10)))
    return server, kafka.bootstrap, source, sink


@pytest.fixture(params=["the embedded broker", "a real Kafka"])
def running(request, sluice):
    """A server on either kind of broker: (server, bootstrap, source, sink)"""
    if request.param == "the embedded broker":
        return embedded(sluice)
    return real(sluice, request.getfixturevalue("kafka"))


def test_kcat_produces_to_and_consumes_from_a_running_server(running):
    server, bootstrap, source, sink = running
    with server.events() as stream:
        stream.wait("the snapshot", lambda one: one.name == "snapshot")
        produce(bootstrap, source, [event(number) for number in range(10)])
        stream.wait_times(*range(10))
        stream.wait_summary()
    server.publish(event(77))
    assert sorted(one["payload"]["times"] for one in values_of(consume(bootstrap, source))) == [*range(10), 77]
    (summary,) = values_of(consume(bootstrap, sink))
    assert summary["statistics"]["totalEvents"] == 10
    group = unique("kcat-group")
    out = kcat("-G", group, "-b", bootstrap, "-c", "11", "-q", "-X", "session.timeout.ms=6000", "-X",
               "auto.offset.reset=earliest", "-f", "%s\n", source)
    assert len(out.splitlines()) == 11


@pytest.mark.seconds(180)
def test_kafkajs_produces_to_and_consumes_from_a_running_server(running, node):
    server, bootstrap, source, sink = running
    server.publish(*[event(number) for number in range(1000, 1005)])  # ours, among which it finds its own
    process = node("kafkajs_client.js", bootstrap, source, 1, 5)
    out, errors = process.communicate(timeout=100)
    assert process.returncode == 0, errors
    assert json.loads(out) == [1, 2, 3, 4, 5]
    (summary,) = eventually("a summary of both", lambda: values_of(consume(bootstrap, sink)))
    numbers = sorted(one["payload"]["times"] for one in summary["eventSample"])
    assert numbers == [1, 2, 3, 4, 5, 1000, 1001, 1002, 1003, 1004]


@pytest.mark.seconds(120)
def test_a_browsers_eventsource_shows_events_and_reconnects(sluice, kafka, node, chromium):
    source, sink = unique("events"), unique("summaries")
    server = sluice(config_for(kafka.bootstrap, aggregation(source, sink, batchSize=3), sse={"retry": 500}))
    browser = node("eventsource.js", chromium, server.port)
    reports, news = [], threading.Condition()

    def read():
        for line in browser.stdout:
            with news:
                reports.append(json.loads(line))
                news.notify_all()

    threading.Thread(target=read, daemon=True).start()

    def wait(what, wanted, after=0):
        """The index of the first report, from `after` on, that is wanted."""
        with news:
            assert news.wait_for(lambda: any(map(wanted, reports[after:])), 40), (what, reports[-5:])
            return after + next(i for i, one in enumerate(reports[after:]) if wanted(one))

    def times(number):
        return lambda one: one["kind"] == "message" and json.loads(one["data"]).get("payload", {}).get("times") == number

    try:
        wait("open", lambda one: one["kind"] == "open")
        wait("the snapshot", lambda one: one["kind"] == "snapshot")
        server.publish(event(1), event(2), event(3))
        for number in (1, 2, 3):
            at = wait(f"event {number}", times(number))
            assert reports[at]["id"]
        wait("a summary", lambda one: one["kind"] == "message" and json.loads(one["data"]).get("type") == "summary")
        for end in (server.stop, server.kill):
            mark = len(reports)
            end()
            at = wait("the loss", lambda one: one["kind"] == "error", mark)
            assert reports[at]["state"] == 0, "the browser gave up"  # CONNECTING, not CLOSED
            server.start()
            at = wait("open again", lambda one: one["kind"] == "open", at)
            wait("a snapshot again", lambda one: one["kind"] == "snapshot", at)
            server.publish(event(mark + 100))
            wait("an event again", times(mark + 100), at)
    finally:
        browser.stdin.close()
        try:
            browser.wait(15)
        except subprocess.TimeoutExpired:
            browser.kill()
    assert browser.returncode == 0, browser.stderr.read()[-2000:]


def test_the_demo_page_shows_events_live_and_what_it_missed(sluice, node, chromium):
    server = sluice({"demo": {"interval": 100}}, args=["--embedded-broker", "--demo"])
    page = node("demo_page.js", chromium, f"http://127.0.0.1:{server.port}/")
    out, errors = page.communicate(timeout=60)
    assert page.returncode == 0, (out, errors[-2000:])
    assert "unsafe-inline" in server.get("/").headers["content-security-policy"]


def test_without_the_demo_there_is_no_page(sluice):
    server = sluice({}, args=["--embedded-broker"])
    assert "--demo" in server.get("/").problem(404)["detail"]


def test_no_client_loses_or_doubles_an_event_across_a_restart(sluice, kafka, node, chromium, folder):
    """Each reads all the while that its node is ended and started on the same port and another one publishes."""
    server, stays = two_nodes(sluice, kafka)
    path = "/kafka/events?channels=orders"

    def here(code):
        assert "http://127.0.0.1:3000/" in code
        return code.replace("http://127.0.0.1:3000/", f"http://127.0.0.1:{server.port}/")

    npm = NODE_FOLDER / f"snippet-{os.getpid()}.mjs"  # beside the packages it imports
    npm.write_text(here(snippet("js", 'from "eventsource"')))

    def start(*command):
        return subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
                                text=True, preexec_fn=end_with_parent)

    browser_messages = lambda lines: [one["data"] for one in map(json.loads, lines) if one["kind"] == "message"]
    clients = {  # name: (process, the data of the events among its lines)
        "npm eventsource": (node(npm), lambda lines: [line.split(" ")[1] for line in lines]),
        "Chromium": (node("eventsource.js", chromium, server.port, path), browser_messages),
        "Python": (start(sys.executable, "-u", "-c", here(snippet("python", "urllib"))), lambda lines: lines),
        "curl": (start("bash", "-c", here(snippet("bash", "curl -sN"))), lambda lines: lines),
    }
    with contextlib.ExitStack() as stack:
        seen = {name: (stack.enter_context(Lines(process)), read) for name, (process, read) in clients.items()}
        numbers = lambda name: [int(one) for one in seen[name][1](list(seen[name][0].lines)) if one.isdigit()]
        eventually("all are connected", lambda: server.client_count() == len(clients), 40)
        publisher = Publisher(stays)
        eventually("all see events", lambda: all(len(numbers(name)) > 10 for name in clients))
        server.stop()
        server.start()
        eventually("all are back", lambda: server.client_count() == len(clients), 40)
        marks = {name: len(numbers(name)) for name in clients}
        eventually("all see events again", lambda: all(len(numbers(name)) > marks[name] + 10 for name in clients))
        published = publisher.finish()
        for name in clients:
            eventually(f"{name} has the last", lambda: published[-1] in numbers(name))
            assert numbers(name) == published, name
    npm.unlink()


def test_tabs_that_share_a_stream_lose_nothing_when_another_takes_over(sluice, kafka, node, chromium):
    server, stays = two_nodes(sluice, kafka)
    with Lines(node("tabs.js", chromium, server.port, snippet("js", "navigator.locks"), 3)) as browser:
        def shown(tab):
            reports = [one for one in map(json.loads, list(browser.lines)) if one["tab"] == tab]
            return [int(one["data"]) for one in reports if one["data"] is not None]

        browser.wait("three tabs", lambda lines: len(lines) == 3)
        eventually("one stream", lambda: server.client_count() == 1)
        publisher = Publisher(stays)
        for leader in range(3):
            mark = len(shown(2))
            eventually("the last tab sees events", lambda: len(shown(2)) > mark + 15)
            assert server.client_count() == 1
            if leader < 2:
                browser.process.stdin.write("close\n")
                browser.process.stdin.flush()
                eventually("the next tab leads", lambda: server.metric("sluice_sse_clients_total") == leader + 2)
        published = publisher.finish()
        eventually("the last event", lambda: published[-1] in shown(2))
        assert shown(2) == published
        for tab in range(2):
            assert shown(tab) == published[:len(shown(tab))], tab
