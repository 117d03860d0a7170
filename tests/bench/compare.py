#!/usr/bin/env python3
"""Measures a running server, nchan and the bare epoll limit side by side, in one run.

    compare.py --url URL --pub-url URL --pid PID [--body TEMPLATE] [--header 'K: V'] [--repeats 3] [SCENARIO ...]

The server must be running already. nchan (Debian: nginx-light, libnginx-mod-nchan) and the limit (limit.cpp) are
started and stopped here, on free loopback ports. Servers take turns within a repeat; medians are printed.
"""

import argparse
import json
import os
import pathlib
import resource
import shutil
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tests" / "kafka"))
from broker import HOST, end_with_parent, free_port  # noqa: E402

TOOLS = ROOT / "build" / "release" / "tests" / "bench"
SCENARIOS = {
    "saturate-1k": "-n 1000 --pad 150 --window 8 --pub-conns 8 --duration 4",
    "saturate-10k": "-n 10000 --pad 150 --window 4 --pub-conns 4 --duration 4",
    "steady-1k": "-n 1000 --pad 150 --rate 20 --duration 5",
    "steady-10k": "-n 10000 --pad 150 --rate 2 --duration 6 --settle 2",
    "stalled": "-n 50 --pad 4000 --rate 500 --duration 8 --slow 0.02 --slow-rcvbuf 4096 --slow-read 4",
    "quick": "-n 50 --pad 150 --window 8 --pub-conns 8 --duration 0.5 --settle 0.3",
}
NCHAN_MODULE = "/usr/lib/nginx/modules/ngx_nchan_module.so"
NCHAN = """
load_module {module};
{user}worker_processes 1; worker_rlimit_nofile {files}; daemon off; pid {dir}/pid; error_log {dir}/error.log warn;
events {{ worker_connections 19000; multi_accept on; }}
http {{
  access_log off; keepalive_requests 1000000000; nchan_shared_memory_size 512M;
  client_body_temp_path {dir}/b; proxy_temp_path {dir}/p; fastcgi_temp_path {dir}/f;
  uwsgi_temp_path {dir}/u; scgi_temp_path {dir}/s;
  server {{
    listen {host}:{port} backlog=4096;
    location = /sub {{
      nchan_subscriber eventsource; nchan_channel_id t;
      nchan_subscriber_first_message newest; nchan_subscriber_timeout 0;
    }}
    location = /pub {{
      nchan_publisher; nchan_channel_id t; nchan_message_buffer_length 100; nchan_message_timeout 1m;
    }}
  }}
}}
"""


def file_limit():
    """As many open files as we may have, for us and those we start: the larger scenarios need them."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = 20000 if hard == resource.RLIM_INFINITY else min(hard, 20000)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
    return wanted


def peers(work, tools):
    """(name, command, subscribe URL, publish URL) of each peer there is on this machine."""
    for name, more in (("limit", []), ("limit, coalescing", ["coalesce"])):
        port = free_port()
        yield name, [tools / "limit", port, *more], f"http://{HOST}:{port}/sse", f"http://{HOST}:{port}/pub"
    nginx = shutil.which("nginx") or shutil.which("nginx", path="/usr/sbin")
    if not nginx or not os.path.exists(NCHAN_MODULE):
        print("nchan is left out: it is not installed (nginx-light, libnginx-mod-nchan)", file=sys.stderr)
        return
    port = free_port()
    conf = work / "nchan.conf"
    user = "user root; " if os.geteuid() == 0 else ""
    conf.write_text(NCHAN.format(module=NCHAN_MODULE, user=user, files=file_limit(), dir=work, host=HOST, port=port))
    yield "nchan", [nginx, "-c", conf], f"http://{HOST}:{port}/sub", f"http://{HOST}:{port}/pub"


def wait_for(url, process):
    port = int(url.split(":")[2].split("/")[0])
    until = time.monotonic() + 10
    while True:
        try:
            socket.create_connection((HOST, port), timeout=1).close()
            return
        except OSError:
            if process.poll() is not None or time.monotonic() > until:
                raise RuntimeError(f"nothing listens on port {port}") from None
            time.sleep(0.05)


def load(tools, options, timeout=90):
    """One run of sse-load; its JSON."""
    done = subprocess.run([str(x) for x in [tools / "sse-load", *options]], stdin=subprocess.DEVNULL,
                          stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, timeout=timeout,
                          preexec_fn=end_with_parent)
    if done.returncode != 0:
        raise RuntimeError(f"sse-load failed: {done.stderr}")
    return json.loads(done.stdout)


def measure(tools, scenario, url, pub_url, pid, extra=()):
    got = load(tools, ["--url", url, "--pub-url", pub_url, "--pid", pid, *SCENARIOS[scenario].split(), "--ramp", 8000,
                       *extra])
    if got["connected"] < got["clients"] or got["pub"]["errors"]:
        print(f"{scenario}: {got['connected']} of {got['clients']} clients connected {got['sample']}, "
              f"{got['pub']['errors']} failed POSTs {got['pub']['sample']}", file=sys.stderr)
    return got


def compare(ours, scenarios, repeats, tools=TOOLS, extra=()):
    """{scenario: {server: [result of each repeat]}}; `ours` are the running servers: (name, subscribe URL, publish
    URL, pid) each."""
    results = {scenario: {} for scenario in scenarios}
    with tempfile.TemporaryDirectory(prefix="compare-") as work:
        for scenario in scenarios:
            for _ in range(repeats):
                runs = results[scenario]
                for name, url, pub_url, pid in ours:
                    runs.setdefault(name, []).append(measure(tools, scenario, url, pub_url, pid, extra))
                for peer, command, peer_url, peer_pub_url in peers(pathlib.Path(work), tools):
                    server = subprocess.Popen([str(x) for x in command], stdin=subprocess.DEVNULL,
                                              stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
                                              preexec_fn=end_with_parent)
                    try:
                        wait_for(peer_url, server)
                        runs.setdefault(peer, []).append(measure(tools, scenario, peer_url, peer_pub_url, server.pid))
                    finally:
                        server.send_signal(signal.SIGTERM)
                        server.wait()
    return results


def medians(runs):
    """The figures of one server in one scenario."""
    def of(get):
        return statistics.median(get(run) for run in runs)
    return {
        "deliveries_per_s": of(lambda r: r["deliveries_per_s"]),
        "cpu_s_per_million": of(lambda r: r["server"]["cpu_s_per_million"]),
        "p50_ms": of(lambda r: r["lat_us"]["p50"]) / 1e3,
        "p99_ms": of(lambda r: r["lat_us"]["p99"]) / 1e3,
        "lost": of(lambda r: r["events_expected"] - r["events"]),
        "gaps": of(lambda r: r["gaps"]),
        "posts_per_s": of(lambda r: r["pub"]["per_s"]),
        "kib_per_client": of(lambda r: r["server"]["pss_per_conn_b"]) / 1024,
        "tool_cpu_s": of(lambda r: r["tool_cpu_s"]),
        "other_cpu_s": of(lambda r: r["other_cpu_s"]),
    }


COLUMNS = (("deliveries/s", "deliveries_per_s", ",.0f"), ("CPU s/M", "cpu_s_per_million", ".2f"),
           ("p50 ms", "p50_ms", ".1f"), ("p99 ms", "p99_ms", ".1f"), ("lost", "lost", ".0f"), ("gaps", "gaps", ".0f"),
           ("POST/s", "posts_per_s", ",.0f"), ("KiB/client", "kib_per_client", ".1f"),
           ("others' CPU s", "other_cpu_s", ".1f"))


def rows(results):
    """Table rows: heading first, then one for each scenario and server."""
    yield ["scenario", "server", *(title for title, _, _ in COLUMNS)]
    for scenario, servers in results.items():
        for name, runs in servers.items():
            figures = medians(runs)
            yield [scenario, name, *(format(figures[key], how) for _, key, how in COLUMNS)]


def markdown(lines):
    """Aligned text that is also a Markdown table."""
    lines = [list(map(str, line)) for line in lines]
    widths = [max(map(len, column)) for column in zip(*lines)]
    text = ["| " + " | ".join(cell.ljust(width) for cell, width in zip(line, widths)) + " |" for line in lines]
    return "\n".join([text[0], "|" + "|".join("-" * (width + 2) for width in widths) + "|", *text[1:]])


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--url", required=True)
    parser.add_argument("--pub-url", required=True)
    parser.add_argument("--pid", required=True, type=int)
    parser.add_argument("--body", help="POST body template with {seq} {ts} {pad}; default: the bare JSON object")
    parser.add_argument("--header", action="append", default=[])
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--tools", type=pathlib.Path, default=TOOLS, help="folder of sse-load and limit")
    parser.add_argument("scenarios", nargs="*", metavar="SCENARIO", help=", ".join(SCENARIOS))
    given = parser.parse_args()
    unknown = set(given.scenarios) - set(SCENARIOS)
    if unknown:
        parser.error(f"no scenario {', '.join(unknown)}; there are {', '.join(SCENARIOS)}")
    file_limit()
    extra = (["--body", given.body] if given.body else []) + \
            [x for header in given.header for x in ("-H", header, "--pub-header", header)]
    scenarios = given.scenarios or ["saturate-1k", "saturate-10k", "steady-1k", "steady-10k"]
    results = compare([("ours", given.url, given.pub_url, given.pid)], scenarios, given.repeats, given.tools, extra)
    print(markdown(rows(results)))


if __name__ == "__main__":
    sys.exit(main())
