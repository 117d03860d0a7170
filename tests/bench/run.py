#!/usr/bin/env python3
"""Measures sluice beside its peers in one run and prints the medians as Markdown tables.

    run.py [--only aggregate|sse|crowd|start|publish|processors|outbox] [--events N] [--repeats R] [--out FILE] [--quick]

  aggregate  Kafka -> summaries, exactly once, beside a plain librdkafka + simdjson loop and a KafkaJS program;
             after each run the committed summaries must cover every event once
  sse        events to 1,000 and 10,000 clients, beside nchan and a bare epoll server
  crowd      memory of 10,000 and 18,000 idle clients, 50,000 over three servers on one port, one stalled client among
             50, publishing with 0 and 1 clients
  start      exec to the first 200 on /livez and /readyz; CPU and memory while idle
  publish    acknowledged POST /events at 64 connections, beside GET /livez
  processors one that does nothing, on a topic of Kafka; what supervision alone costs; processors that wait, whose keys
             share one partition
  outbox     POST /events at 64 connections while Kafka is away, on disk before each answer; then the way to Kafka, after
             which every event must be there

It expects the release build with -DSLUICE_BENCH=ON; ./dev bench makes it. All it starts ends with it, listens on
loopback only, on free ports, and keeps its data in a temporary folder. Exit code 1: a result was wrong, not slow.
"""

import argparse
import contextlib
import datetime
import http.client
import json
import os
import pathlib
import platform
import re
import shutil
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time

HERE = pathlib.Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent / "e2e")]
from compare import compare, file_limit, load, markdown, measure, medians, rows  # noqa: E402
from support import (BINARY, ROOT, Broker, Server, Unavailable, clean_environment, consume, end_with_parent,  # noqa: E402
                     eventually, free_port, run_cli, toml, unique)
from broker import default_version  # noqa: E402

# What Kafka's own start script gives it; the broker of the tests is set up for a quick start instead.
JAVA_OPTIONS = ("-Xms1g", "-Xmx1g", "-server", "-XX:+UseG1GC", "-XX:MaxGCPauseMillis=20",
                "-XX:InitiatingHeapOccupancyPercent=35")
TOOLS = BINARY.parent / "tests" / "bench"
NODE_FOLDER = ROOT / "build" / "bench-node"
TICKS = os.sysconf("SC_CLK_TCK")
TOTAL_SECONDS = 3600
HOUR_MS = 3600000


class Wrong(Exception):
    """A result is not as it must be."""


def say(text):
    print(f"{datetime.datetime.now():%H:%M:%S} {text}", file=sys.stderr, flush=True)


def median(runs, key):
    found = [run[key] for run in runs if run.get(key) is not None]
    return statistics.median(found) if found else None


def shown(value, how=",.0f"):
    return "-" if value is None else format(value, how)


# -- what /proc says ---------------------------------------------------------------------------------------------------

def cpu_of(pid):
    """CPU seconds of a process so far."""
    fields = pathlib.Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / TICKS


def fine_cpu_of(pid):
    """The same in nanoseconds' resolution, for a process that does next to nothing and keeps its threads."""
    return sum(int(path.read_text().split()[0]) for path in pathlib.Path(f"/proc/{pid}/task").glob("*/schedstat")) / 1e9


def cpu_of_machine():
    """CPU seconds of all processes so far, and what a hypervisor took."""
    fields = [int(x) for x in pathlib.Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:9]]
    return (sum(fields) - fields[3] - fields[4]) / TICKS


class Account:
    """CPU seconds between begin() and now: of some processes, and of all others on the machine."""

    def __init__(self, **pids):
        self.pids = pids
        self.begin()

    def begin(self):
        self._own, self._time = os.times(), time.monotonic()
        self._machine = cpu_of_machine()
        self._each = {name: cpu_of(pid) for name, pid in self.pids.items()}

    def read(self):
        each = {name: cpu_of(pid) - self._each[name] for name, pid in self.pids.items()}
        now = os.times()
        own = sum(now[:4]) - sum(self._own[:4])
        others = max(cpu_of_machine() - self._machine - sum(each.values()) - own, 0)
        return each, others / max(time.monotonic() - self._time, 0.01)


# -- aggregate ---------------------------------------------------------------------------------------------------------

class Metrics:
    """Reads counters from GET /metrics over one connection, often and cheaply."""

    def __init__(self, port):
        self.port, self._connection = port, None

    def read(self, *names):
        """The counters; None while the server does not answer yet."""
        try:
            if not self._connection:
                self._connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=5)
            self._connection.request("GET", "/metrics")
            text = self._connection.getresponse().read().decode()
            return [float(re.search(rf"^{name} (\S+)$", text, re.MULTILINE).group(1)) for name in names]
        except (OSError, http.client.HTTPException):
            self.close()
            return None

    def close(self):
        if self._connection:
            self._connection.close()
        self._connection = None


def tool(name, *options, timeout=300):
    """Runs one of our programs to its end; its JSON."""
    done = subprocess.run([str(TOOLS / name), *map(str, options)], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                          stderr=subprocess.PIPE, text=True, timeout=timeout, preexec_fn=end_with_parent)
    if done.returncode != 0:
        raise RuntimeError(f"{name} failed: {done.stderr.strip()}")
    return json.loads(done.stdout)


def node_packages():
    """Installs KafkaJS once; False where that cannot be."""
    wanted = (HERE / "kafkajs" / "package.json").read_text()
    stamp = NODE_FOLDER / "installed"
    if stamp.exists() and stamp.read_text() == wanted:
        return True
    if not shutil.which("npm"):
        say("KafkaJS is left out: npm is not installed")
        return False
    NODE_FOLDER.mkdir(parents=True, exist_ok=True)
    shutil.copy(HERE / "kafkajs" / "package.json", NODE_FOLDER)
    done = subprocess.run(["npm", "install", "--no-audit", "--no-fund", "--ignore-scripts", "--no-package-lock"],
                          cwd=NODE_FOLDER, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                          text=True, timeout=300)
    if done.returncode != 0:
        say(f"KafkaJS is left out: npm install failed: {done.stdout[-300:]}")
        return False
    stamp.write_text(wanted)
    return True


def run_sluice(broker, folder, case):
    """One server of its own: from the first event counted to the last summary committed."""
    server = Server(folder, {
        "node": unique("bench"),
        "kafka": {"brokers": broker.bootstrap, "groupId": unique("bench"), "partitions": 1},
        "aggregations": [{"name": "default", "topics": [case["topic"]], "sink": case["sink"],
                          "batchSize": case["batch"], "interval": HOUR_MS}],
    })
    names = ("sluice_aggregator_events_total", "sluice_aggregator_summaries_total",
             "sluice_aggregator_transactions_total")
    metrics = Metrics(server.port)
    account = counted = None
    until = time.monotonic() + 120
    try:
        server.start(live=False)
        process = begin = None
        while True:
            if time.monotonic() > until or not server.running():
                raise Wrong(f"sluice did not get through the topic:\n{server.log()[-3000:]}")
            now = time.monotonic()
            got = metrics.read(*names)
            if not got or got[0] == 0:  # what comes before the first event is not counted
                begin = now
                if process is None:
                    account = Account(broker=broker.pid, sluice=server.pid)
                account.begin()
                time.sleep(0.005)
                continue
            now = time.monotonic()
            if counted is None and got[0] >= case["events"]:
                counted = now - begin
            if got[1] >= case["events"] // case["batch"]:
                each, others = account.read()
                return {"events": case["events"], "summaries": int(got[1]), "transactions": int(got[2]),
                        "counted_s": counted, "done_s": now - begin, "cpu_s": each["sluice"],
                        "broker_cpu_s": each["broker"], "others_cores": others}
            time.sleep(0.02)
    finally:
        metrics.close()
        server.stop()


def run_inline(broker, _folder, case):
    account = Account(broker=broker.pid)
    got = tool("inline_loop", "--brokers", broker.bootstrap, "--topic", case["topic"], "--sink", case["sink"],
               "--events", case["events"], "--batch-size", case["batch"])
    each, others = account.read()
    return {**got, "broker_cpu_s": each["broker"], "others_cores": others}


def run_kafkajs(broker, _folder, case):
    account = Account(broker=broker.pid)
    done = subprocess.run(
        ["node", str(HERE / "kafkajs" / "aggregate.js"), broker.bootstrap, case["topic"], case["sink"],
         str(case["events"]), str(case["batch"]), str(case["kafkajs_seconds"])],
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, timeout=120,
        env={**os.environ, "NODE_PATH": str(NODE_FOLDER / "node_modules"), "KAFKAJS_NO_PARTITIONER_WARNING": "1"},
        preexec_fn=end_with_parent)
    if done.returncode != 0:
        raise RuntimeError(f"aggregate.js failed: {done.stderr.strip()[-2000:]}")
    each, others = account.read()
    return {**json.loads(done.stdout), "broker_cpu_s": each["broker"], "others_cores": others}


def create_topic(broker, topic):
    """Before the clock runs: clients are slow to notice a topic that comes into being by writing to it."""
    tool("fill", "--brokers", broker.bootstrap, "--topic", topic, "--events", 0)


def check_coverage(broker, case, run):
    """The committed summaries cover each event once: their number, their count and their sum say so."""
    events = run["events"]
    wanted = {"summaries": events // case["batch"], "events": events}
    if events == case["events"]:
        wanted["sum"] = events * (events - 1) // 2  # the events are numbered 0, 1, 2, ...
    until = time.monotonic() + 10
    while True:  # a commit is known a moment before its marker is in the log
        got = tool("covered", "--brokers", broker.bootstrap, "--topic", case["sink"])
        if all(got[key] == value for key, value in wanted.items()):
            return
        if time.monotonic() > until:
            raise Wrong(f"the committed summaries say {got}, expected {wanted}")
        time.sleep(0.5)


def bench_aggregate(broker, folder, given):
    events = given.events
    topics = {1: "events-1", 4: "events-4"}
    for partitions, topic in topics.items():
        got = tool("fill", "--brokers", broker.bootstrap, "--topic", topic, "--events", events, "--partitions",
                   partitions)
        say(f"filled {topic}: {events:,} events, {got['events_per_s']:,.0f}/s")
    cases = [{"topic": topics[partitions], "partitions": partitions, "batch": batch, "events": events,
              "kafkajs_seconds": given.kafkajs_seconds} for partitions, batch in ((1, 1000), (1, 10), (4, 1000))]
    for case in cases[::2]:  # the broker's code compiled, its files in memory
        warm_up = {**case, "sink": unique("warm-up")}
        create_topic(broker, warm_up["sink"])
        run_inline(broker, folder, warm_up)
    runners = {"sluice": run_sluice, "inline loop": run_inline}
    if node_packages():
        runners["KafkaJS"] = run_kafkajs
    results = []
    for case in cases:
        runs = {name: [] for name in runners}
        for repeat in range(given.repeats):
            for name, runner in runners.items():
                own = {**case, "sink": unique("sink")}
                create_topic(broker, own["sink"])
                run = runner(broker, folder, own)
                check_coverage(broker, own, run)
                runs[name].append(run)
                counted = run.get("counted_s") or run["done_s"]
                say(f"aggregate, {case['partitions']} partition(s), batch {case['batch']}, {name}: "
                    f"{run['events'] / counted:,.0f} events/s counted, {run['events'] / run['done_s']:,.0f} committed, "
                    f"{run['cpu_s'] / run['events'] * 1e6:.2f} CPU s/M, others {run['others_cores']:.2f} cores")
        results.append({"case": case, "runs": runs})
    return results


def figures_of(runs):
    """Rates of one program in one case."""
    for run in runs:
        run["counted_per_s"] = run["events"] / run["counted_s"] if run.get("counted_s") else None
        run["done_per_s"] = run["events"] / run["done_s"]
        for key in ("cpu_s", "broker_cpu_s"):
            run[f"{key}_per_million"] = run[key] / run["events"] * 1e6
    return {key: median(runs, key) for key in
            ("counted_per_s", "done_per_s", "cpu_s_per_million", "broker_cpu_s_per_million", "transactions", "done_s")}


def show_aggregate(results):
    table = [["partitions", "batch", "program", "events/s counted", "events/s committed", "CPU s/M", "broker CPU s/M",
              "transactions/s", "sluice : it"]]
    goals = []
    for one in results:
        case, figures = one["case"], {name: figures_of(runs) for name, runs in one["runs"].items()}
        ours = figures["sluice"]
        for name, it in figures.items():
            ratio = ours["done_per_s"] / it["done_per_s"]
            commits = it["transactions"] / it["done_s"] if it["transactions"] else None
            table.append([case["partitions"], case["batch"], name, shown(it["counted_per_s"]), shown(it["done_per_s"]),
                          shown(it["cpu_s_per_million"], ".2f"), shown(it["broker_cpu_s_per_million"], ".2f"),
                          shown(commits, ".1f"), shown(ratio, ".2f")])
            if case["partitions"] == 1 and case["batch"] == 1000:
                if name == "sluice":
                    goals.append(("aggregate, events/s committed", ">=", 1e6, it["done_per_s"], ",.0f"))
                    goals.append(("aggregate, events/s and core", ">=", 1.2e6, 1e6 / it["cpu_s_per_million"], ",.0f"))
                else:
                    goals.append((f"aggregate, sluice : {name}", ">=", 0.75 if name == "inline loop" else 8, ratio, ".2f"))
    print("\n## Kafka to summaries\n\n" + markdown(table))
    return goals


# -- live streams ------------------------------------------------------------------------------------------------------

def gateway(folder, bootstrap=None, **more):
    """A server without aggregations: what is posted goes to Kafka, comes back and goes out to the clients."""
    kafka = {"kafka": {"brokers": bootstrap, "groupId": unique("bench"), "partitions": 1}} if bootstrap else {}
    return Server(folder, {"node": unique("bench"), "sse": {"topics": ["events-topic"]}, "aggregations": [], **kafka, **more},
                  args=[] if bootstrap else ["--embedded-broker"])


def bench_sse(broker, folder, given):
    scenarios = ["quick"] if given.quick else ["saturate-1k", "saturate-10k", "steady-1k"]
    ours = []
    with contextlib.ExitStack() as stack:
        for name, bootstrap in (("sluice", broker.bootstrap), ("sluice, embedded broker", None)):
            server = gateway(folder, bootstrap)
            stack.callback(server.stop)
            server.start()
            url = f"http://127.0.0.1:{server.port}/events"
            # Warm-up: the first event opens connections to the broker, and its JVM compiles what it does often.
            if bootstrap:
                load(TOOLS, ["--url", url, "--pub-url", url, "-n", 0, "--pad", 150, "--pub-conns", 16, "--duration",
                             0.5 if given.quick else 5])
            measure(TOOLS, "quick", url, url, server.pid)
            ours.append((name, url, url, server.pid))
        socket_url = ours[0][1].replace("http:", "ws:").replace("/events", "/ws?channels=events")
        ours.insert(1, ("sluice, WebSocket", socket_url, *ours[0][2:]))
        say(f"sse: {', '.join(scenarios)}, about {len(scenarios) * given.repeats * 50} s")
        return compare(ours, scenarios, given.repeats, TOOLS)


def show_sse(results):
    print("\n## Live events\n\n" + markdown(rows(results)))
    goals = []
    for scenario, servers in results.items():
        it = {name: medians(runs) for name, runs in servers.items()}
        ours, nchan = it["sluice"], it.get("nchan")
        if nchan and scenario.startswith("saturate"):
            goals.append((f"{scenario}, deliveries/s, sluice : nchan", ">=", 5 if scenario == "saturate-1k" else 2.5,
                          ours["deliveries_per_s"] / nchan["deliveries_per_s"], ".2f"))
        if nchan:
            goals.append((f"{scenario}, CPU a delivery, sluice : nchan", "<=", 1,
                          ours["cpu_s_per_million"] / nchan["cpu_s_per_million"], ".2f"))
        if scenario == "saturate-1k":
            goals.append((f"{scenario}, CPU a delivery, sluice : coalescing limit", "<=", 1.3,
                          ours["cpu_s_per_million"] / it["limit, coalescing"]["cpu_s_per_million"], ".2f"))
        if scenario == "steady-1k":
            goals.append((f"{scenario}, CPU a delivery, sluice : limit", "<=", 1.25,
                          ours["cpu_s_per_million"] / it["limit"]["cpu_s_per_million"], ".2f"))
            goals.append((f"{scenario}, p99, sluice : limit", "<=", 1, ours["p99_ms"] / it["limit"]["p99_ms"], ".2f"))
    return goals


# -- crowds ------------------------------------------------------------------------------------------------------------

def hold(clients, workers, url, pids, seconds):
    got = load(TOOLS, ["--url", url, "-n", clients, "--workers", workers, "--ramp", 8000, "--settle", seconds, "--duration",
                       seconds, "--pid", ",".join(map(str, pids))])
    if got["connected"] < clients:
        say(f"{got['failed']} of {clients:,} clients were not connected {got['sample']}")
    return {"clients": clients, "connected": got["connected"], "kib": got["server"]["pss_per_conn_b"] / 1024}


# An event as applications send them: what repeats in it, as names and states do, is what gzip saves.
ORDER = ('{"type":"order.updated","data":{"orderId":"o-{seq}","seq":{seq},"state":"shipped","customer":{"id":"c-{ts}",'
         '"segment":"retail"},"lines":[{"sku":"AB-1043","count":2,"price":19.95},{"sku":"XK-77","count":1,"price":4.5}],'
         '"total":44.4},"metadata":{"eventId":"{ts}-{seq}","timestamp":{ts},"ts":{ts},"source":"shop","version":1}}')


def bench_compression(broker, folder, given):
    """Each client's bytes and the server's CPU with and without gzip: {(events a second, clients, gzip?): [results]}"""
    results = {}
    with contextlib.ExitStack() as stack:
        server = gateway(folder, broker.bootstrap, sse={"topics": ["events-topic"], "compression": True})
        stack.callback(server.stop)
        server.start()
        url = f"http://127.0.0.1:{server.port}/events"
        for _ in range(given.repeats):
            for rate, count in ((20, 500), (2000, 50)):
                for zipped in (False, True):
                    say(f"crowd: {rate:,} events/s to {count:,} clients, {'gzip' if zipped else 'as they are'}")
                    got = load(TOOLS, ["--url", url, "--pub-url", url, "--pid", server.pid, "-n", count, "--rate", rate,
                                       "--body", ORDER, "--duration", 1 if given.quick else 4,
                                       *(["-H", "Accept-Encoding: gzip"] if zipped else [])])
                    results.setdefault((rate, count, zipped), []).append(
                        {"bytes": got["bytes"] / max(got["events"], 1), "cpu": got["server"]["cpu_s_per_million"],
                         "p50_ms": got["lat_us"]["p50"] / 1e3, "lost": got["events_expected"] - got["events"]})
    return results


def bench_crowd(broker, folder, given):
    small = given.quick
    results = {"idle": [], "stalled": [], "publish": []}
    for count in (500,) if small else (10000, 18000):
        with contextlib.ExitStack() as stack:  # a fresh server: memory once taken is not given back
            server = gateway(folder, broker.bootstrap)
            stack.callback(server.stop)
            server.start()
            say(f"crowd: {count:,} idle clients")
            results["idle"].append(hold(count, 1, f"http://127.0.0.1:{server.port}/events", [server.pid], 0.5 if small else 3))
    with contextlib.ExitStack() as stack:
        port, nodes = free_port(), []
        for _ in range(3):
            server = gateway(folder / str(len(nodes)), broker.bootstrap, http={"port": port, "sharePort": True})
            server.folder.mkdir()
            stack.callback(server.stop)
            nodes.append(server.start())
        count = 1500 if small else 50000
        say(f"crowd: {count:,} idle clients over three servers on one port")
        results["nodes"] = hold(count, 3, f"http://127.0.0.1:{port}/events", [one.pid for one in nodes], 0.5 if small else 4)
    with contextlib.ExitStack() as stack:
        # Little memory of its own for recent events, so that what grows is the client's.
        server = gateway(folder, broker.bootstrap, sse={"topics": ["events-topic"], "replayBytes": 1048576})
        stack.callback(server.stop)
        server.start()
        url = f"http://127.0.0.1:{server.port}/events"
        measure(TOOLS, "quick", url, url, server.pid)
        run = ["--url", url, "--pub-url", url, "--pid", server.pid, "-n", 50, "--pad", 4000, "--rate", 500, "--duration",
               1 if small else 8]
        slow = ["--slow", 0.02, "--slow-rcvbuf", 4096, "--slow-read", 2]
        for _ in range(given.repeats):
            say("crowd: one stalled client among 50")
            without = load(TOOLS, run)
            before = server.memory_kib()
            with_it = load(TOOLS, [*run, *slow])
            results["stalled"].append({
                "p99_ms": with_it["lat_us"]["p99"] / 1e3, "p99_without_ms": without["lat_us"]["p99"] / 1e3,
                "ratio": with_it["lat_us"]["p99"] / without["lat_us"]["p99"],
                "closed": with_it["slow"]["closed_by_server"], "grown_kib": server.memory_kib() - before})
            for count in (0, 1):
                got = load(TOOLS, ["--pub-url", url, "-n", count, "--url", url, "--pad", 150, "--pub-conns", 16, "--duration",
                                   0.5 if small else 3, "--settle", 0.5])
                results["publish"].append({f"per_s_{count}": got["pub"]["per_s"]})
    results["compression"] = [
        {"rate": rate, "clients": count, "gzip": zipped, "runs": runs}
        for (rate, count, zipped), runs in bench_compression(broker, folder, given).items()]
    return results


def show_crowd(got):
    table = [["figure", "value"]]
    goals = []
    for one in (*got["idle"], got["nodes"]):
        nodes = " over three servers on one port" if one is got["nodes"] else ""
        title = f"{one['clients']:,} idle clients{nodes}"
        table.append([f"{title}: held, KiB each", f"{one['connected']:,}, {one['kib']:.1f}"])
        goals += [(f"{title}, held", ">=", one["clients"], one["connected"], ",.0f"),
                  (f"{title}, KiB each", "<=", 7, one["kib"], ".1f")]
    stalled = got["stalled"]
    table.append(["p99 of 49 clients, 4 kB events, 25,000/s: one more stalled, none, ms",
                  f"{median(stalled, 'p99_ms'):.1f}, {median(stalled, 'p99_without_ms'):.1f}"])
    table.append(["memory grown by the stalled one, KiB; closed by the server",
                  f"{median(stalled, 'grown_kib'):.0f}; {median(stalled, 'closed'):.0f}"])
    goals += [("one stalled client, others' p99 with : without", "<=", 1.25, median(stalled, "ratio"), ".2f"),
              ("one stalled client, memory grown, KiB", "<=", 8192, median(stalled, "grown_kib"), ".0f")]
    table.append(["POST/s at 16 connections with 0 clients, with 1",
                  f"{median(got['publish'], 'per_s_0'):,.0f}, {median(got['publish'], 'per_s_1'):,.0f}"])
    print("\n## Crowds\n\n" + markdown(table))
    table = [["events/s", "clients", "gzip", "bytes an event", "CPU s/M", "p50 ms", "lost"]]
    for one in got["compression"]:
        runs = one["runs"]
        table.append([f"{one['rate']:,}", one["clients"], "yes" if one["gzip"] else "no", f"{median(runs, 'bytes'):.0f}",
                      f"{median(runs, 'cpu'):.2f}", f"{median(runs, 'p50_ms'):.1f}", f"{median(runs, 'lost'):.0f}"])
    print("\n## Compression (events of 350 bytes)\n\n" + markdown(table))
    return goals


# -- start and rest ----------------------------------------------------------------------------------------------------

def status_of(port, path):
    """The status code of one request; None where nobody listens yet."""
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=5) as peer:
            peer.sendall(f"GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n".encode())
            return int(peer.recv(4096).split(b" ", 2)[1])
    except (OSError, IndexError, ValueError):
        return None


def start_once(folder, config):
    """(process, seconds to the first 200 of /livez, of /readyz)"""
    port = config["http"]["port"] = free_port()
    path = folder / "start.toml"
    path.write_text(toml(config))
    with open(folder / "start.log", "ab") as log:
        begin = time.monotonic()
        process = subprocess.Popen([str(BINARY), "serve", "--config", str(path)], stdin=subprocess.DEVNULL, stdout=log,
                                   stderr=log, cwd=folder, env=clean_environment(), preexec_fn=end_with_parent)
    times = []
    for what in ("/livez", "/readyz"):
        while status_of(port, what) != 200:
            if process.poll() is not None or time.monotonic() - begin > 30:
                process.kill()
                raise Wrong(f"no 200 on {what}:\n{(folder / 'start.log').read_text()[-3000:]}")
            time.sleep(0.001)
        times.append(time.monotonic() - begin)
    return process, *times


def end(process):
    process.send_signal(signal.SIGTERM)
    try:
        if process.wait(30) != 0:
            raise Wrong(f"exit code {process.returncode} after SIGTERM")
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
        raise Wrong("no exit within 30 s of SIGTERM") from None


def bench_start(broker, folder, given):
    config = {"http": {}, "kafka": {"brokers": broker.bootstrap, "groupId": unique("start")}, "node": unique("start")}
    end(start_once(folder, config)[0])  # this one creates the topics
    starts = []
    for _ in range(3 if given.quick else 10):
        process, live, ready = start_once(folder, config)
        starts.append({"livez_s": live, "readyz_s": ready})
        end(process)
    process, _, _ = start_once(folder, config)
    try:
        time.sleep(1 if given.quick else 5)
        seconds = 2 if given.quick else 10
        before = fine_cpu_of(process.pid)
        time.sleep(seconds)
        cpu = (fine_cpu_of(process.pid) - before) / seconds
        status = pathlib.Path(f"/proc/{process.pid}/status").read_text()
        memory = {name: int(re.search(rf"{name}:\s+(\d+)", status).group(1)) / 1024 for name in ("VmRSS", "RssAnon")}
    finally:
        end(process)
    return {"starts": starts, "idle_cpu_percent": 100 * cpu, "idle_rss_mib": memory["VmRSS"],
            "idle_anonymous_mib": memory["RssAnon"]}


def show_start(got):
    ready, live = (median(got["starts"], key) * 1e3 for key in ("readyz_s", "livez_s"))
    slowest = max(one["readyz_s"] for one in got["starts"]) * 1e3
    print("\n## Start and rest\n\n" + markdown([
        ["figure", "value"],
        ["exec to the first 200 on /livez, ms", shown(live)],
        ["exec to the first 200 on /readyz, ms (slowest)", f"{ready:.0f} ({slowest:.0f})"],
        ["CPU while idle, % of a core", shown(got["idle_cpu_percent"], ".2f")],
        ["memory while idle, MiB (of it not files)", f"{got['idle_rss_mib']:.1f} ({got['idle_anonymous_mib']:.1f})"]]))
    return [("start to /readyz, ms", "<=", 300, ready, ".0f"),
            ("CPU while idle, %", "<=", 1, got["idle_cpu_percent"], ".2f"),
            ("memory while idle, MiB", "<=", 60, got["idle_rss_mib"], ".1f")]


# -- publish -----------------------------------------------------------------------------------------------------------

def bench_publish(broker, folder, given):
    seconds = 0.5 if given.quick else 4
    options = ["-n", 0, "--pad", 150, "--pub-conns", 64, "--duration", seconds, "--settle", 0.2]
    results = {}
    for name, bootstrap in (("Apache Kafka", broker.bootstrap), ("embedded broker", None)):
        server = gateway(folder, bootstrap)
        try:
            server.start()
            url = f"http://127.0.0.1:{server.port}"
            # Warm-up: makes the topic, and Java compiles the broker's code for this many small requests.
            load(TOOLS, [*options, "--duration", 20 if bootstrap and not given.quick else 1, "--pub-url", f"{url}/events"])
            runs = results[name] = []
            for _ in range(given.repeats):
                run = {}
                for what, more in (("get", ["--get", "--pub-url", f"{url}/livez"]), ("post", ["--pub-url", f"{url}/events"])):
                    got = load(TOOLS, [*options, *more, "--pid", server.pid])
                    if got["pub"]["errors"]:
                        raise Wrong(f"{got['pub']['errors']} requests failed: {got['pub']['sample']}")
                    run[f"{what}_per_s"] = got["pub"]["per_s"]
                    run[f"{what}_p50_ms"] = got["pub"]["rtt_p50_us"] / 1e3
                    run[f"{what}_p99_ms"] = got["pub"]["rtt_p99_us"] / 1e3
                    run[f"{what}_cpu_us"] = got["server"]["cpu_s"] / max(got["pub"]["ok"], 1) * 1e6
                if bootstrap:
                    create_topic(broker, topic := unique("acknowledged"))
                    got = tool("acknowledged", "--brokers", bootstrap, "--topic", topic, "--seconds", max(int(seconds), 1))
                    run |= {"library_per_s": got["per_s"], "library_cpu_us": got["cpu_us"]}
                runs.append(run)
                say(f"publish, {name}: GET {run['get_per_s']:,.0f}/s, POST {run['post_per_s']:,.0f}/s, "
                    f"librdkafka alone {shown(run.get('library_per_s'))}/s")
        finally:
            server.stop()
    return results


def show_publish(results):
    table = [["broker", "request", "requests/s", "p50 ms", "p99 ms", "CPU us", "POST : GET"]]
    goals = []
    for name, runs in results.items():
        ratio = median(runs, "post_per_s") / median(runs, "get_per_s")
        for what, title in (("get", "GET /livez"), ("post", "POST /events")):
            table.append([name, title, shown(median(runs, f"{what}_per_s")),
                          *(shown(median(runs, f"{what}_{key}"), ".1f") for key in ("p50_ms", "p99_ms", "cpu_us")),
                          shown(ratio if what == "post" else None, ".2f")])
        if median(runs, "library_per_s"):
            table.append([name, "none, librdkafka alone", shown(median(runs, "library_per_s")), "-", "-",
                          shown(median(runs, "library_cpu_us"), ".1f"), "-"])
        goals.append((f"publish, {name}, POST : GET", ">=", 0.5, ratio, ".2f"))
    print("\n## Publishing at 64 connections\n\n" + markdown(table))
    return goals


# -- processors --------------------------------------------------------------------------------------------------------

WAITING = (  # name, ideal seconds, options
    ("1 ms each, 1,000 keys, 100 workers", lambda n: n * 1e-3 / 100, ["--wait-us", 1000, "--concurrency", 100]),
    ("0 to 5 ms each, 1,000 keys, 16 workers", lambda n: n * 2.5e-3 / 16,
     ["--wait-us", 5000, "--vary", 1, "--concurrency", 16]),
    ("0 to 5 ms each, 1,000 keys, 100 workers", lambda n: n * 2.5e-3 / 100,
     ["--wait-us", 5000, "--vary", 1, "--concurrency", 100]))


def run_processing(broker, folder, topic, events):
    """One server whose processor does nothing: from the first record done to the last one committed."""
    group = unique("bench")
    server = Server(folder, {
        "node": unique("bench"), "aggregations": [], "sse": {"topics": ["unused"]},
        "kafka": {"brokers": broker.bootstrap, "groupId": group, "partitions": 1},
        "processors": [{"name": "nothing", "topics": [topic]}],
    }, binary=TOOLS / "processing")
    metrics = Metrics(server.port)
    name = r'sluice_processor_%s\{processor="nothing"\}'
    names = [name % "done_total", name % "in_total", name % "in_flight"]
    until = time.monotonic() + 120
    try:
        server.start(live=False)
        begin = account = None
        while True:
            if time.monotonic() > until or not server.running():
                raise Wrong(f"the processor did not get through the topic:\n{server.log()[-3000:]}")
            now = time.monotonic()
            got = metrics.read(*names)
            if not got or got[0] == 0:
                begin, account = now, Account(broker=broker.pid, server=server.pid)
            elif got[0] >= events:
                seconds = time.monotonic() - begin
                each, others = account.read()
                break
            time.sleep(0.005)
        if got[0] != events or got[1] != events or got[2] != 0:
            raise Wrong(f"of {events} records {got[1]:.0f} were taken, {got[0]:.0f} done, {got[2]:.0f} are in flight")
    finally:
        metrics.close()
        server.stop()
    server.start(live=False)  # what is committed is not read again
    try:
        time.sleep(5)
        server.wait_live()
        if again := metrics.read(names[1])[0]:
            raise Wrong(f"{again:.0f} records were read again after an orderly stop")
    finally:
        metrics.close()
        server.stop()
    return {"events": events, "seconds": seconds, "per_s": events / seconds, "cpu_us": each["server"] / events * 1e6,
            "per_core": events / each["server"], "others_cores": others}


def bench_processors(broker, folder, given):
    events, topic = given.events, unique("keyed")
    tool("fill", "--brokers", broker.bootstrap, "--topic", topic, "--events", events, "--keys", 1000)
    results = {"kafka": [], "supervision": [], "waiting": {name: [] for name, _, _ in WAITING}}
    for _ in range(given.repeats):
        results["kafka"].append(run := run_processing(broker, folder, topic, events))
        say(f"processors, nothing, from Kafka: {run['per_s']:,.0f}/s, {run['per_core']:,.0f}/s and core")
        results["supervision"].append(run := tool("supervision", "--records", events, "--concurrency", 4))
        say(f"processors, supervision alone: {run['perSecond']:,.0f}/s, {run['cpuUsPerRecord']:.2f} us of CPU a record")
        for name, ideal, options in WAITING:
            records = 10000 if given.quick or "--vary" in options else 1000000
            run = tool("supervision", "--records", records, *options)
            results["waiting"][name].append(run | {"ideal": ideal(records)})
            say(f"processors, {name}: {records:,} in {run['seconds']:.2f} s")
    return results


def show_processors(results):
    kafka, alone = results["kafka"], results["supervision"]
    table = [["processor", "records", "s", "records/s", "ideal s", "CPU us a record"],
             ["nothing, from Kafka, 4 workers", f"{kafka[0]['events']:,}", shown(median(kafka, "seconds"), ".2f"),
              shown(median(kafka, "per_s")), "-", shown(median(kafka, "cpu_us"), ".2f")],
             ["nothing, from memory, 4 workers", f"{alone[0]['records']:,}", shown(median(alone, "seconds"), ".2f"),
              shown(median(alone, "perSecond")), "-", shown(median(alone, "cpuUsPerRecord"), ".2f")]]
    for name, runs in results["waiting"].items():
        table.append([name, f"{runs[0]['records']:,}", shown(median(runs, "seconds"), ".2f"),
                      shown(median(runs, "perSecond")), shown(runs[0]["ideal"], ".2f"),
                      shown(median(runs, "cpuUsPerRecord"), ".2f")])
    print("\n## Processors\n\n" + markdown(table))
    waiting = [median(runs, "perSecond") for runs in results["waiting"].values()]
    vary = [median(runs, "seconds") for runs in results["waiting"].values()][1:]
    return [("processors, nothing, from Kafka, records/s and core", ">=", 300000, median(kafka, "per_core"), ",.0f"),
            ("processors, supervision, CPU us a record", "<=", 2, median(alone, "cpuUsPerRecord"), ".2f"),
            ("processors, 1 ms each, 100 workers, records/s", ">=", 80000, waiting[0], ",.0f"),
            ("processors, 10,000 of 0 to 5 ms, 16 workers, s", "<=", 2.06, vary[0], ".2f"),
            ("processors, 10,000 of 0 to 5 ms, 100 workers, s", "<=", 2.06, vary[1], ".2f")]


# -- outbox ------------------------------------------------------------------------------------------------------------

def bench_outbox(folder, given):
    seconds = 0.5 if given.quick else 5
    runs = []
    for _ in range(given.repeats):
        with contextlib.ExitStack() as stack:
            broker = Broker(partitions=1, java_options=JAVA_OPTIONS)  # not started yet
            stack.callback(broker.close)
            server = gateway(folder, broker.bootstrap, http={"port": free_port()}, store={"path": unique("data")})
            stack.callback(server.stop)
            server.start(ready=False)
            eventually("Kafka is away", lambda: server.metric("sluice_kafka_away") == 1)
            got = load(TOOLS, ["-n", 0, "--pad", 150, "--pub-conns", 64, "--duration", seconds, "--settle", 0.2, "--pid",
                               server.pid, "--pub-url", f"http://127.0.0.1:{server.port}/events"])
            if got["pub"]["errors"]:
                raise Wrong(f"{got['pub']['errors']} requests failed: {got['pub']['sample']}")
            taken, commits = server.metric("sluice_outbox_taken_total"), server.metric("sluice_outbox_commits_total")
            run = {"taken_per_s": got["pub"]["per_s"], "p50_ms": got["pub"]["rtt_p50_us"] / 1e3,
                   "p99_ms": got["pub"]["rtt_p99_us"] / 1e3, "per_commit": taken / commits,
                   "cpu_us": got["server"]["cpu_s"] / max(got["pub"]["ok"], 1) * 1e6}
            broker.start()
            eventually("the first is in Kafka", lambda: server.metric("sluice_outbox_replayed_total") > 0, 60, 0.001)
            begin, before = time.monotonic(), server.metric("sluice_outbox_replayed_total")
            eventually("all are in Kafka", lambda: server.metric("sluice_outbox_records") == 0, 300, 0.01)
            run["replayed_per_s"] = (taken - before) / max(time.monotonic() - begin, 1e-3)
            there = len(consume(broker.bootstrap, "events-topic"))
            if there != taken:
                raise Wrong(f"{there} events are in Kafka, {taken:.0f} were taken")
            runs.append(run)
            say(f"outbox: {run['taken_per_s']:,.0f} events/s taken, {run['per_commit']:.0f} in a transaction, "
                f"{run['replayed_per_s']:,.0f}/s to Kafka")
    return runs


def show_outbox(runs):
    table = [["figure", "value"],
             ["events/s taken, each on disk before its answer", shown(median(runs, "taken_per_s"))],
             ["events in a transaction", shown(median(runs, "per_commit"), ".1f")],
             ["p50, p99 of a request, ms", f"{median(runs, 'p50_ms'):.1f}, {median(runs, 'p99_ms'):.1f}"],
             ["CPU us an event", shown(median(runs, "cpu_us"), ".1f")],
             ["events/s to Kafka afterwards", shown(median(runs, "replayed_per_s"))]]
    print("\n## Kafka away, 64 connections\n\n" + markdown(table))
    return [("outbox, events/s taken", ">=", 5000, median(runs, "taken_per_s"), ",.0f")]


# -- all of it ---------------------------------------------------------------------------------------------------------

def machine():
    cpu = re.search(r"model name\s*:\s*(.+)", pathlib.Path("/proc/cpuinfo").read_text())
    memory = int(re.search(r"MemTotal:\s+(\d+)", pathlib.Path("/proc/meminfo").read_text()).group(1)) / 1048576
    return {"date": f"{datetime.date.today()}", "cores": os.cpu_count(), "cpu": cpu.group(1) if cpu else "unknown",
            "memory_gib": round(memory), "kernel": platform.release(), "load_before": os.getloadavg()[0],
            "sluice": run_cli("version").stdout.split()[-1], "kafka": default_version()}


def show_goals(goals):
    table = [["figure", "goal", "measured", ""]]
    for what, sign, goal, value, how in goals:
        reached = value >= goal if sign == ">=" else value <= goal
        table.append([what, f"{sign} {goal:,g}" if goal < 1e6 else f"{sign} {goal:,.0f}", format(value, how),
                      "reached" if reached else "NOT reached"])
    print("\n## Goals\n\n" + markdown(table), flush=True)


def too_long(*_):
    raise RuntimeError(f"not done after {TOTAL_SECONDS} s")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parts = ("aggregate", "sse", "crowd", "start", "publish", "processors", "outbox")
    parser.add_argument("--only", choices=parts, action="append", help="may be given several times")
    parser.add_argument("--events", type=int, default=3000000, help="in each topic (default %(default)s)")
    parser.add_argument("--repeats", type=int, default=3, help="default %(default)s")
    parser.add_argument("--out", type=pathlib.Path, help="writes every single result there, as JSON")
    parser.add_argument("--quick", action="store_true", help="tiny sizes, one repeat: does it run? The figures mean nothing")
    given = parser.parse_args()
    if given.quick:
        given.events, given.repeats = min(given.events, 100000), 1
    given.events = max(given.events // 1000, 1) * 1000  # whole windows only, so that none stays open
    given.kafkajs_seconds = 1 if given.quick else 12
    programs = ("acknowledged", "fill", "inline_loop", "covered", "sse-load", "limit", "supervision", "processing")
    for needed in (BINARY, *(TOOLS / name for name in programs)):
        if not needed.exists():
            parser.error(f"{needed} is not there; run ./dev bench, which builds it")

    only = given.only or parts
    file_limit()
    signal.signal(signal.SIGALRM, too_long)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    signal.alarm(TOTAL_SECONDS)
    here = machine()
    say(", ".join(f"{name} {value}" for name, value in here.items()))
    results, goals = {"machine": here, "events": given.events, "repeats": given.repeats}, []
    with contextlib.ExitStack() as stack:
        folder = pathlib.Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="sluice-bench-")))
        if given.out:
            stack.callback(lambda: given.out.write_text(json.dumps(results, indent=1) + "\n"))
        try:
            broker = stack.enter_context(Broker(partitions=1, java_options=JAVA_OPTIONS))
        except Unavailable as reason:
            sys.exit(f"nothing can be measured without a real Kafka: {reason}")
        print(f"{here['date']}, sluice {here['sluice']}, Apache Kafka {here['kafka']}; {here['cores']} cores "
              f"({here['cpu']}), {here['memory_gib']} GiB; medians of {given.repeats}", flush=True)
        if "start" in only:
            results["start"] = bench_start(broker, folder, given)
            goals += show_start(results["start"])
        if "publish" in only:
            results["publish"] = bench_publish(broker, folder, given)
            goals += show_publish(results["publish"])
        if "outbox" in only:
            results["outbox"] = bench_outbox(folder, given)
            goals += show_outbox(results["outbox"])
        if "aggregate" in only:
            results["aggregate"] = bench_aggregate(broker, folder, given)
            goals += show_aggregate(results["aggregate"])
        if "sse" in only:
            results["sse"] = bench_sse(broker, folder, given)
            goals += show_sse(results["sse"])
        if "crowd" in only:
            results["crowd"] = bench_crowd(broker, folder, given)
            goals += show_crowd(results["crowd"])
        if "processors" in only:
            results["processors"] = bench_processors(broker, folder, given)
            goals += show_processors(results["processors"])
    show_goals(goals)
    return 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except Wrong as what:
        sys.exit(f"WRONG: {what}")
