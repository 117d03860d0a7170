#!/usr/bin/env python3
"""A real PostgreSQL and a real Redis for tests: free ports, data in temporary folders, as an unprivileged user, ended by
their pids.

    servers.py run -- COMMAND...
        Starts both, sets SLUICE_TEST_POSTGRES and SLUICE_TEST_REDIS to their URLs, runs the command, stops them, exits
        with the command's code.

Where one is not installed: exit code 77 and "SKIPPED: reason" (ctest's SKIP_RETURN_CODE); with CI=true exit code 1.
"""

import argparse
import contextlib
import os
import pathlib
import pwd
import shutil
import signal
import subprocess
import sys
import tempfile
import time

HERE = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent / "kafka"))
from broker import HOST, Unavailable, end_with_parent, free_port  # noqa: E402

PASSWORD = "hunter2"  # what must be in no log


def unprivileged():
    """Options for subprocess: PostgreSQL refuses to run as root."""
    if os.geteuid() != 0:
        return {}
    user = pwd.getpwnam("nobody")
    return {"user": user.pw_uid, "group": user.pw_gid, "extra_groups": []}


class Process:
    """One server in a folder of its own. `start` after `kill` comes back on the same port with the same data."""

    def __init__(self, name):
        self.folder = pathlib.Path(tempfile.mkdtemp(prefix=f"sluice-{name}-"))
        self.port = free_port()
        self._process = None
        if os.geteuid() == 0:
            shutil.chown(self.folder, "nobody")

    def _launch(self, command, answers, timeout=30):
        with open(self.folder / "log", "ab") as log:
            self._process = subprocess.Popen([str(part) for part in command], stdin=subprocess.DEVNULL, stdout=log,
                                             stderr=log, cwd=self.folder, preexec_fn=end_with_parent,
                                             start_new_session=True, **unprivileged())
        until = time.monotonic() + timeout
        while not answers():
            if self._process.poll() is not None or time.monotonic() > until:
                raise RuntimeError(f"{command[0]} did not start:\n{(self.folder / 'log').read_text()[-3000:]}")
            time.sleep(0.05)
        return self

    def _signal_all(self, what):
        """The server and its children, each of which PostgreSQL puts into a group of its own."""
        pid = self._process.pid
        children = pathlib.Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
        for one in (pid, *map(int, children)):
            with contextlib.suppress(ProcessLookupError):
                os.kill(one, what)

    def _end(self, how):
        if self._process and self._process.poll() is None:
            self._signal_all(signal.SIGCONT)
            if how == signal.SIGKILL:
                self._signal_all(how)
            else:
                self._process.send_signal(how)
            try:
                self._process.wait(20)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
        self._process = None

    def pause(self):
        """Freezes: connections stay open, nothing is answered."""
        self._signal_all(signal.SIGSTOP)

    def resume(self):
        self._signal_all(signal.SIGCONT)

    def close(self):
        """Ends, and removes the data."""
        self.stop()
        shutil.rmtree(self.folder, ignore_errors=True)

    def __enter__(self):
        return self.start()

    def __exit__(self, *_):
        self.close()


class Postgres(Process):
    def __init__(self):
        found = sorted(pathlib.Path("/usr/lib/postgresql").glob("*/bin"), key=lambda path: float(path.parent.name))
        if not found:
            raise Unavailable("PostgreSQL is not installed; ./dev deps test installs it")
        super().__init__("postgres")
        self._programs, self._data = found[-1], self.folder / "data"
        self.url = f"postgresql://sluice:{PASSWORD}@{HOST}:{self.port}/postgres"
        password = self.folder / "password"
        password.write_text(PASSWORD)
        password.chmod(0o644)
        subprocess.run([self._programs / "initdb", "-D", self._data, "-U", "sluice", "-A", "scram-sha-256", "--pwfile",
                        password, "-E", "UTF8", "--no-sync"], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
                       check=True, cwd=self.folder, **unprivileged())

    def start(self):
        return self._launch([self._programs / "postgres", "-D", self._data, "-p", self.port, "-k", self.folder, "-c",
                             f"listen_addresses={HOST}", "-c", "shared_buffers=16MB"],
                            lambda: subprocess.run([self._programs / "pg_isready", "-q", "-h", HOST, "-p", str(self.port)],
                                                   check=False).returncode == 0)

    def stop(self):
        self._end(signal.SIGINT)  # without waiting for clients

    def kill(self):
        """Ends at once, with all who serve connections."""
        self._end(signal.SIGKILL)

    def query(self, sql):
        """What psql prints: unaligned rows."""
        done = subprocess.run([self._programs / "psql", "-qAtX", self.url, "-c", sql], stdin=subprocess.DEVNULL,
                              stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, check=False)
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()


class Redis(Process):
    def __init__(self):
        if not shutil.which("redis-server"):
            raise Unavailable("Redis is not installed; ./dev deps test installs it")
        super().__init__("redis")
        self.url = f"redis://:{PASSWORD}@{HOST}:{self.port}/1"

    def start(self):
        return self._launch(["redis-server", "--port", self.port, "--bind", HOST, "--requirepass", PASSWORD, "--dir",
                             self.folder, "--appendonly", "yes", "--appendfsync", "always"],
                            lambda: self.command("PING") == "PONG")

    def stop(self):
        self._end(signal.SIGTERM)

    def kill(self):
        self._end(signal.SIGKILL)

    def command(self, *words):
        done = subprocess.run(["redis-cli", "-h", HOST, "-p", str(self.port), "-n", "1", *words],
                              env={**os.environ, "REDISCLI_AUTH": PASSWORD}, stdin=subprocess.DEVNULL,
                              stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, check=False)
        return done.stdout.strip()


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="what", required=True)
    runner = commands.add_parser("run")
    runner.add_argument("command", nargs="+", metavar="COMMAND")
    options = parser.parse_args()
    try:
        with contextlib.ExitStack() as stack:
            postgres, redis = (stack.enter_context(server()) for server in (Postgres, Redis))
            environment = dict(os.environ, SLUICE_TEST_POSTGRES=postgres.url, SLUICE_TEST_REDIS=redis.url)
            return subprocess.run(options.command, env=environment, check=False).returncode
    except Unavailable as reason:
        print(f"SKIPPED: {reason}", flush=True)
        return 1 if os.environ.get("CI") == "true" else 77


if __name__ == "__main__":
    sys.exit(main())
