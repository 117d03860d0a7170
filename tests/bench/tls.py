#!/usr/bin/env python3
"""What TLS costs the server: CPU a handshake and a delivery, memory an idle stream, each beside plain HTTP.

Starts `sluice serve --embedded-broker` by itself, with a certificate on P-256 (--rsa: RSA of 2,048 bits) that openssl
makes. Reads only; the figures are the server's CPU time and memory, so the clients may be slow.
"""

import argparse
import http.client
import json
import os
import pathlib
import re
import selectors
import socket
import ssl
import subprocess
import tempfile
import time

ROOT = pathlib.Path(__file__).resolve().parents[2]


def cpu_seconds(pid):
    fields = pathlib.Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def memory_kib(pid):
    return int(re.search(r"^Pss:\s+(\d+)", pathlib.Path(f"/proc/{pid}/smaps_rollup").read_text(), re.M).group(1))


class Server:
    def __init__(self, binary, folder, tls, rsa):
        self.context = None
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        args = [binary, "serve", "--embedded-broker", "--port", str(self.port), "--sse.maxQueueBytes", "16777216"]
        if tls:
            kind = ["rsa:2048"] if rsa else ["ec", "-pkeyopt", "ec_paramgen_curve:P-256"]
            key, certificate = f"{folder}/key.pem", f"{folder}/cert.pem"
            subprocess.run(["openssl", "req", "-x509", "-newkey", *kind, "-noenc", "-days", "2", "-subj", "/CN=localhost",
                            "-addext", "subjectAltName=DNS:localhost", "-keyout", key, "-out", certificate], check=True,
                           stderr=subprocess.DEVNULL)
            args += ["--http.tlsCertificate", certificate, "--http.tlsKey", key]
            self.context = ssl.create_default_context(cafile=certificate)
        self.process = subprocess.Popen(args, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        self.pid = self.process.pid
        for _ in range(300):
            time.sleep(0.1)
            try:
                if self.ask("GET", "/readyz") == 200:
                    return
            except OSError:
                pass
        raise SystemExit("the server does not become ready")

    def connection(self):
        if self.context:
            return http.client.HTTPSConnection("localhost", self.port, timeout=60, context=self.context)
        return http.client.HTTPConnection("localhost", self.port, timeout=60)

    def ask(self, method, path, body=None):
        one = self.connection()
        one.request(method, path, body, {"Content-Type": "application/json"})
        status = one.getresponse().status
        one.close()
        return status

    def connect(self):
        peer = socket.create_connection(("127.0.0.1", self.port), timeout=60)
        return self.context.wrap_socket(peer, server_hostname="localhost") if self.context else peer

    def stop(self):
        self.process.terminate()
        self.process.wait()


def connects(server, count):
    """CPU milliseconds a connection with one small request."""
    before = cpu_seconds(server.pid)
    for _ in range(count):
        with server.connect() as peer:
            peer.sendall(b"GET /livez HTTP/1.1\r\nHost: x\r\n\r\n")
            peer.recv(4096)
    return (cpu_seconds(server.pid) - before) * 1000 / count


def streams(server, clients, events, rate):
    """CPU microseconds a delivery of an event of 200 bytes, and KiB a stream while idle."""
    before = memory_kib(server.pid)
    peers = [server.connect() for _ in range(clients)]
    for peer in peers:
        peer.sendall(b"GET /kafka/events?channels=bench HTTP/1.1\r\nHost: x\r\n\r\n")
    wait = selectors.DefaultSelector()
    for peer in peers:
        peer.setblocking(False)
        wait.register(peer, selectors.EVENT_READ)
    got = 0

    def drain(seconds):
        nonlocal got
        end = time.monotonic() + seconds
        while (left := end - time.monotonic()) > 0:
            for key, _ in wait.select(left):
                try:
                    while more := key.fileobj.recv(65536):
                        got += more.count(b"event: tick\n")
                except (ssl.SSLWantReadError, BlockingIOError):
                    pass

    drain(3)
    memory = (memory_kib(server.pid) - before) / clients
    publisher = server.connection()
    body = json.dumps({"event": "tick", "data": "x" * 120})
    start, cpu = time.monotonic(), cpu_seconds(server.pid)
    for number in range(events):
        publisher.request("POST", "/kafka/sse/broadcast/bench", body, {"Content-Type": "application/json"})
        publisher.getresponse().read()
        drain(max(0.0, start + (number + 1) / rate - time.monotonic()))
    for _ in range(20):
        if got < clients * events:
            drain(0.5)
    spent = cpu_seconds(server.pid) - cpu
    for peer in peers:
        peer.close()
    if got != clients * events:
        raise SystemExit(f"{clients * events - got} deliveries are missing")
    return spent * 1e6 / got, memory


def main():
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--binary", default=str(ROOT / "build/release/sluice"))
    options.add_argument("--repeats", type=int, default=3)
    options.add_argument("--connects", type=int, default=1000)
    options.add_argument("--clients", type=int, default=500)
    options.add_argument("--events", type=int, default=200)
    options.add_argument("--rate", type=float, default=20, help="events a second")
    options.add_argument("--rsa", action="store_true")
    chosen = options.parse_args()
    for repeat in range(chosen.repeats):
        for tls in (False, True):
            with tempfile.TemporaryDirectory() as folder:
                server = Server(chosen.binary, folder, tls, chosen.rsa)
                try:
                    each = connects(server, chosen.connects)
                    delivery, memory = streams(server, chosen.clients, chosen.events, chosen.rate)
                finally:
                    server.stop()
            print(f"{'TLS  ' if tls else 'plain'} {each:6.2f} CPU ms/connection {delivery:6.2f} CPU us/delivery "
                  f"{memory:6.1f} KiB/stream", flush=True)


if __name__ == "__main__":
    main()
