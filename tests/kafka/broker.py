#!/usr/bin/env python3
"""A real Apache Kafka for tests: one node (KRaft), random free ports, data in a temporary folder, ended by its pid.

    broker.py run [--sasl] [--no-auto-create] [--partitions N] -- COMMAND...
        Starts a broker, sets SLUICE_TEST_KAFKA=host:port (and SLUICE_TEST_KAFKA_SASL=host:port with --sasl), runs the
        command, stops the broker, exits with the command's code.
    broker.py fetch
        Only puts the jar files into build/kafka.
Both take --version.

The jar files come from Maven Central, once. Where it cannot be reached: exit code 77 and "SKIPPED: reason" (ctest's
SKIP_RETURN_CODE); with CI=true exit code 1, because there a skipped test is a failed one.
"""

import argparse
import contextlib
import ctypes
import fcntl
import os
import pathlib
import random
import re
import shutil
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import time

HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parent.parent
HOST = "127.0.0.1"
SASL_USER = "sluice"
SASL_PASSWORD = "secret"
# The C1 compiler and the serial collector start fastest, which is what tests want; benchmarks pass their own.
JAVA_OPTIONS = ("-Xms128m", "-Xmx512m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1")


class Unavailable(Exception):
    """This machine cannot run a real Kafka; the text says why."""


def free_port():
    """A free port below the range the kernel takes outgoing ports from, so that nobody takes it while we restart."""
    for _ in range(1000):
        port = random.randint(15000, 29999)
        with socket.socket() as probe:
            with contextlib.suppress(OSError):
                probe.bind((HOST, port))
                return port
    raise RuntimeError("no free port between 15000 and 29999")


def end_with_parent():
    """Run in the child: a test run that is killed leaves nothing behind."""
    ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG


def default_version():
    return re.search(r"<kafka\.version>(.+?)<", (HERE / "pom.xml").read_text()).group(1)


def jars(version):
    """The folder with the jar files of this version of Kafka, filled on first use."""
    folder = ROOT / "build" / "kafka" / version
    if folder.is_dir():
        return folder
    if not shutil.which("mvn"):
        raise Unavailable("Maven (mvn) is not installed; ./dev deps installs it")
    folder.parent.mkdir(parents=True, exist_ok=True)
    with open(folder.parent / "lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # tests may start side by side
        if folder.is_dir():
            return folder
        unfinished = folder.with_name(f"{version}.part")
        shutil.rmtree(unfinished, ignore_errors=True)
        try:
            done = subprocess.run(
                ["mvn", "-B", "-q", "-Dstyle.color=never", "-f", str(HERE / "pom.xml"), f"-Dkafka.version={version}",
                 "dependency:copy-dependencies", "-DincludeScope=runtime", f"-DoutputDirectory={unfinished}"],
                stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=300)
        except subprocess.TimeoutExpired:
            raise Unavailable("Maven Central did not deliver Kafka within 300 s") from None
        if done.returncode != 0 or not unfinished.is_dir():
            reason = next((line for line in done.stdout.splitlines() if "ERROR" in line), "no reason given")
            raise Unavailable(f"Kafka could not be fetched from Maven Central: {reason}")
        unfinished.rename(folder)
    return folder


class Broker:
    """One Kafka node. `start` again after `stop` or `kill` comes back on the same ports with the same data."""

    def __init__(self, *, auto_create=True, partitions=4, sasl=False, version=None, java_options=JAVA_OPTIONS,
                 properties=None):
        if not shutil.which("java"):
            raise Unavailable("Java is not installed; ./dev deps installs it")
        self._classpath = f"{jars(version or default_version())}/*"
        self._java_options = list(java_options)
        self._process = None
        self.folder = pathlib.Path(tempfile.mkdtemp(prefix="sluice-kafka-"))
        self.port, controller_port, self.sasl_port = free_port(), free_port(), free_port()
        self.bootstrap = f"{HOST}:{self.port}"
        self.sasl_bootstrap = f"{HOST}:{self.sasl_port}" if sasl else None
        self._write_properties(controller_port, auto_create, partitions, sasl, properties or {})
        self._format(sasl)

    def _write_properties(self, controller_port, auto_create, partitions, sasl, more):
        listeners = [f"PLAINTEXT://{self.bootstrap}"] + ([f"SASL_PLAINTEXT://{self.sasl_bootstrap}"] if sasl else [])
        values = {
            "process.roles": "broker,controller",
            "node.id": 1,
            "controller.quorum.voters": f"1@{HOST}:{controller_port}",
            "controller.listener.names": "CONTROLLER",
            "listener.security.protocol.map":
                "PLAINTEXT:PLAINTEXT,SASL_PLAINTEXT:SASL_PLAINTEXT,CONTROLLER:PLAINTEXT",
            "listeners": ",".join(listeners + [f"CONTROLLER://{HOST}:{controller_port}"]),
            "advertised.listeners": ",".join(listeners),
            "inter.broker.listener.name": "PLAINTEXT",
            "log.dirs": self.folder / "data",
            "auto.create.topics.enable": str(auto_create).lower(),
            "num.partitions": partitions,
            "offsets.topic.num.partitions": 4,
            "offsets.topic.replication.factor": 1,
            "transaction.state.log.num.partitions": 4,
            "transaction.state.log.replication.factor": 1,
            "transaction.state.log.min.isr": 1,
            "share.coordinator.state.topic.num.partitions": 1,
            "share.coordinator.state.topic.replication.factor": 1,
            "share.coordinator.state.topic.min.isr": 1,
            "group.initial.rebalance.delay.ms": 0,
            "group.min.session.timeout.ms": 1000,  # so that a killed member's partitions move soon
            "broker.session.timeout.ms": 3000,     # so that a killed broker may register again soon
            "broker.heartbeat.interval.ms": 500,
            "log.cleaner.dedupe.buffer.size": 8388608,  # the default alone is a quarter of this heap
            "num.network.threads": 2,
            "num.io.threads": 4,
        }
        if sasl:
            plain = "org.apache.kafka.common.security.plain.PlainLoginModule required"
            scram = "org.apache.kafka.common.security.scram.ScramLoginModule required"
            values.update({
                "sasl.enabled.mechanisms": "PLAIN,SCRAM-SHA-256",
                "listener.name.sasl_plaintext.plain.sasl.jaas.config":
                    f'{plain} user_{SASL_USER}="{SASL_PASSWORD}";',
                "listener.name.sasl_plaintext.scram-sha-256.sasl.jaas.config": f"{scram};",
            })
        values.update(more)
        (self.folder / "server.properties").write_text("".join(f"{k}={v}\n" for k, v in values.items()))

    def _java(self, *args):
        # log4j-core comes along with Kafka and would complain about its missing configuration.
        return ["java", *self._java_options, "-Dorg.slf4j.simpleLogger.defaultLogLevel=warn",
                "-Dlog4j2.StatusLogger.level=OFF", "-cp", self._classpath, *args]

    def _format(self, sasl):
        scram = ["--add-scram", f"SCRAM-SHA-256=[name={SASL_USER},password={SASL_PASSWORD}]"] if sasl else []
        done = subprocess.run(
            self._java("kafka.tools.StorageTool", "format", "--cluster-id", "c2x1aWNlLXRlc3RzLTAwMQ", "--config",
                       str(self.folder / "server.properties"), *scram),
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        if done.returncode != 0:
            raise RuntimeError(f"Kafka's storage tool failed:\n{done.stdout}")

    @property
    def pid(self):
        return self._process.pid if self._process else None

    def start(self, timeout=60):
        """Starts and returns once the broker answers with itself in its metadata."""
        with open(self.folder / "broker.log", "ab") as log:
            self._process = subprocess.Popen(
                self._java("kafka.Kafka", str(self.folder / "server.properties")), stdin=subprocess.DEVNULL,
                stdout=log, stderr=log, preexec_fn=end_with_parent, start_new_session=True)
        until = time.monotonic() + timeout
        while not self._answers():
            if self._process.poll() is not None or time.monotonic() > until:
                raise RuntimeError(f"Kafka did not start:\n{self.log()[-4000:]}")
            time.sleep(0.1)
        return self

    def _answers(self):
        """One Metadata request (version 1, no topics); true if at least one broker is in the answer."""
        body = struct.pack(">hhih4si", 3, 1, 1, 4, b"test", 0)
        try:
            with socket.create_connection((HOST, self.port), timeout=2) as peer:
                peer.sendall(struct.pack(">i", len(body)) + body)
                answer = b""
                while len(answer) < 12:
                    more = peer.recv(4096)
                    if not more:
                        return False
                    answer += more
            return struct.unpack(">iii", answer[:12])[2] >= 1
        except OSError:
            return False

    def _end(self, how):
        if self._process and self._process.poll() is None:
            self._process.send_signal(signal.SIGCONT)  # a paused one would not hear SIGTERM
            self._process.send_signal(how)
            try:
                self._process.wait(30)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
        self._process = None

    def stop(self):
        """Ends in order (controlled shutdown); the data stays."""
        self._end(signal.SIGTERM)

    def kill(self):
        """Ends as by a power cut of the process; the data stays."""
        self._end(signal.SIGKILL)

    def restart(self):
        self.stop()
        return self.start()

    def pause(self):
        """Freezes: connections stay open, nothing is answered."""
        self._process.send_signal(signal.SIGSTOP)

    def resume(self):
        self._process.send_signal(signal.SIGCONT)

    def close(self):
        """Ends, and removes the data."""
        self.kill()
        shutil.rmtree(self.folder, ignore_errors=True)

    def log(self):
        path = self.folder / "broker.log"
        return path.read_text(errors="replace") if path.exists() else ""

    def __enter__(self):
        return self.start() if not self._process else self

    def __exit__(self, *_):
        self.close()


def run(options):
    sasl = options.sasl
    with Broker(auto_create=not options.no_auto_create, partitions=options.partitions, sasl=sasl,
                version=options.version) as broker:
        environment = dict(os.environ, SLUICE_TEST_KAFKA=broker.bootstrap)
        if sasl:
            environment["SLUICE_TEST_KAFKA_SASL"] = broker.sasl_bootstrap
        with subprocess.Popen(options.command, env=environment) as child:
            # Ctrl-C and ctest's timeout reach the child too; the broker goes last.
            for number in (signal.SIGTERM, signal.SIGINT):
                signal.signal(number, lambda got, _frame: child.send_signal(got))
            code = child.wait()
        return code if code >= 0 else 128 - code


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="what", required=True)
    versions = argparse.ArgumentParser(add_help=False)
    versions.add_argument("--version", default=default_version(), help="of Kafka; %(default)s if not given")
    commands.add_parser("fetch", parents=[versions])
    runner = commands.add_parser("run", parents=[versions])
    runner.add_argument("--sasl", action="store_true", help="a second listener with SASL PLAIN and SCRAM-SHA-256")
    runner.add_argument("--no-auto-create", action="store_true", help="topics have to be created first")
    runner.add_argument("--partitions", type=int, default=4, help="of topics created without a number")
    runner.add_argument("command", nargs="+", metavar="COMMAND")
    options = parser.parse_args()
    try:
        if options.what == "fetch":
            print(jars(options.version))
            return 0
        return run(options)
    except Unavailable as reason:
        print(f"SKIPPED: {reason}", flush=True)
        return 1 if os.environ.get("CI") == "true" else 77


if __name__ == "__main__":
    sys.exit(main())
