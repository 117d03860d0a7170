"""Many clients of one channel in a process of their own: each checks by itself that it gets 0, 1, 2, … once and in order,
and comes back with its cursor, as EventSource does, whenever its stream ends.

python3 crowd.py PORT PATH COUNT. A line on standard input is an order, answered by a line of JSON:
  report   {"streams": open ones, "next": [least, most] number that is awaited, "opened": streams so far, "faults": […]}
  leave    closes all streams at once and for good; as `report`
Ends with its standard input.
"""

import heapq
import json
import select
import socket
import sys
import time

PENDING = 500  # connections being made at a time
port, path, count = int(sys.argv[1]), sys.argv[2], int(sys.argv[3])
poll = select.epoll()
clients, due, faults = {}, [], []  # by descriptor; (when, who) to connect; what went wrong
pending = opened = 0


class Client:
    def __init__(self, number):
        self.number, self.cursor, self.next, self.retry = number, None, 0, 1.0
        self.socket = None

    def connect(self):
        global pending
        pending += 1
        self.head, self.chunks, self.text, self.greeted, self.seen_id = True, b"", b"", False, None
        self.socket = socket.socket()
        self.socket.setblocking(False)
        self.socket.connect_ex(("127.0.0.1", port))
        clients[self.socket.fileno()] = self
        poll.register(self.socket, select.EPOLLOUT)

    def ask(self):
        cursor = f"Last-Event-ID: {self.cursor}\r\n" if self.cursor else ""
        self.socket.send(f"GET {path} HTTP/1.1\r\nHost: x\r\n{cursor}\r\n".encode())
        poll.modify(self.socket, select.EPOLLIN)

    def greet(self):
        """Once for each connection: it stands, or it has failed."""
        global pending, opened
        if not self.greeted:
            self.greeted = True
            pending -= 1

    def read(self):
        data = self.socket.recv(65536)
        if not data:
            raise ConnectionError
        self.chunks += data
        if self.head:
            head, found, rest = self.chunks.partition(b"\r\n\r\n")
            if not found:
                return
            if not head.startswith(b"HTTP/1.1 200 "):
                faults.append(f"client {self.number}: {head[:100]!r}")
            self.head, self.chunks = False, rest
        at = 0
        while (line := self.chunks.find(b"\r\n", at)) >= 0:
            size = int(self.chunks[at:line], 16)
            if size == 0:
                raise ConnectionError
            if len(self.chunks) < line + 2 + size + 2:
                break
            self.text += self.chunks[line + 2:line + 2 + size]
            at = line + 2 + size + 2
        self.chunks = self.chunks[at:]
        *blocks, self.text = self.text.split(b"\n\n")
        for block in blocks:
            self.take(block)

    def take(self, block):
        global opened
        name, data = b"message", None
        for line in block.split(b"\n"):
            field, _, value = line.partition(b": ")
            if field == b"id":
                self.cursor = value.decode()
            elif field == b"event":
                name = value
            elif field == b"data":
                data = value
            elif field == b"retry":
                self.retry = int(value) / 1000
        if name == b"connected":
            opened += 1
            self.greet()
        elif name == b"message" and data is not None:
            if int(data) != self.next:
                faults.append(f"client {self.number}: {int(data)} instead of {self.next}")
            self.next = int(data) + 1
        elif data is not None:
            faults.append(f"client {self.number}: {name} {data[:100]!r}")

    def close(self, again):
        self.greet()
        del clients[self.socket.fileno()]
        self.socket.close()
        self.socket = None
        if again:
            heapq.heappush(due, (time.monotonic() + self.retry, self.number))


everyone = [Client(number) for number in range(count)]
due = [(0.0, number) for number in range(count)]
poll.register(sys.stdin, select.EPOLLIN)
while True:
    now = time.monotonic()
    while due and due[0][0] <= now and pending < PENDING:
        everyone[heapq.heappop(due)[1]].connect()
    for descriptor, events in poll.poll(0.02):
        if descriptor == sys.stdin.fileno():
            order = sys.stdin.readline().strip()
            if not order:
                sys.exit()
            if order == "leave":
                for client in list(clients.values()):
                    client.close(again=False)
                due = []
            awaited = [client.next for client in everyone]
            print(json.dumps({"streams": sum(client.greeted for client in clients.values()), "opened": opened,
                              "next": [min(awaited), max(awaited)], "faults": faults[:5]}), flush=True)
        elif client := clients.get(descriptor):
            try:
                if events & select.EPOLLOUT:
                    client.ask()
                else:
                    client.read()
            except (OSError, ValueError):  # the latter: what is no chunk
                client.close(again=True)
