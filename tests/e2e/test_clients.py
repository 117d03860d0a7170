"""Other people's clients: kcat, KafkaJS, and a browser's native EventSource."""

import json
import os
import pathlib
import shutil
import subprocess
import threading

import pytest

from support import (ROOT, aggregation, config_for, consume, end_with_parent, event, eventually, kcat, produce, unique,
                     values_of)
from conftest import not_here

HERE = pathlib.Path(__file__).resolve().parent
NODE_FOLDER = ROOT / "build" / "e2e-node"


@pytest.fixture(scope="module")
def node():
    """Runs a script of this folder under Node with our packages: node("script.js", args…) -> Popen."""
    for command in ("node", "npm"):
        if not shutil.which(command):
            not_here(f"{command} is not installed")
    NODE_FOLDER.mkdir(parents=True, exist_ok=True)
    names = ("package.json", "package-lock.json")
    stamp = NODE_FOLDER / "installed"
    wanted = "".join((HERE / name).read_text() for name in names)
    if not stamp.exists() or stamp.read_text() != wanted:
        for name in names:
            shutil.copy(HERE / name, NODE_FOLDER)
        done = subprocess.run(["npm", "ci", "--no-audit", "--no-fund", "--ignore-scripts"], cwd=NODE_FOLDER,
                              stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        if done.returncode != 0:
            not_here(f"npm ci failed: {done.stdout[-300:]}")
        stamp.write_text(wanted)

    def run(script, *args):
        return subprocess.Popen(["node", str(HERE / script), *map(str, args)], stdin=subprocess.PIPE,
                                stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
                                env={**os.environ, "NODE_PATH": str(NODE_FOLDER / "node_modules"),
                                     "KAFKAJS_NO_PARTITIONER_WARNING": "1"},
                                preexec_fn=end_with_parent)
    return run


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
def test_a_browsers_eventsource_shows_events_and_reconnects(sluice, kafka, node):
    chromium = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if not chromium:
        not_here("Chromium is not installed")
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


def test_the_demo_page_shows_events_live_and_what_it_missed(sluice, node):
    chromium = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if not chromium:
        not_here("Chromium is not installed")
    server = sluice({"demo": {"interval": 100}}, args=["--embedded-broker", "--demo"])
    page = node("demo_page.js", chromium, f"http://127.0.0.1:{server.port}/")
    out, errors = page.communicate(timeout=60)
    assert page.returncode == 0, (out, errors[-2000:])
    assert "unsafe-inline" in server.get("/").headers["content-security-policy"]


def test_without_the_demo_there_is_no_page(sluice):
    server = sluice({}, args=["--embedded-broker"])
    assert "--demo" in server.get("/").problem(404)["detail"]
