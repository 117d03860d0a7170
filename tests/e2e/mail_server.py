#!/usr/bin/python3
"""A mail server (Debian's aiosmtpd) that answers as the receiver's address says, and prints each mail as a line of JSON.

    mail_server.py PORT CERTIFICATE KEY starttls|tls|plain

With starttls and tls a login is needed: user "shop", password "p4ss-word". Receivers:
    busy-N-…@   451, the first N times        gone…@   550        slow…@   never answered        drop…@   cut off
"""

import asyncio
import json
import ssl
import sys
from collections import Counter

from aiosmtpd.controller import Controller
from aiosmtpd.smtp import AuthResult


class Handler:
    def __init__(self):
        self.asked = Counter()

    async def handle_RCPT(self, server, session, envelope, address, options):
        self.asked[address] += 1
        print(json.dumps({"asked": address, "tls": session.ssl is not None}), flush=True)
        kind = address.split("@")[0].split("-")
        if kind[0] == "busy" and self.asked[address] <= int(kind[1]):
            return "451 4.3.0 busy, try again"
        if kind[0] == "gone":
            return "550 5.1.1 no such user"
        if kind[0] == "slow":
            await asyncio.sleep(3600)
        if kind[0] == "drop":
            server.transport.abort()
        envelope.rcpt_tos.append(address)
        return "250 OK"

    async def handle_DATA(self, server, session, envelope):
        print(json.dumps({"from": envelope.mail_from, "to": envelope.rcpt_tos, "tls": session.ssl is not None,
                          "login": bool(session.authenticated), "data": envelope.content.decode("ascii")}), flush=True)
        return "250 taken"


def login(server, session, envelope, mechanism, data):
    return AuthResult(success=(data.login, data.password) == (b"shop", b"p4ss-word"), handled=False)


def main():
    port, certificate, key, security = sys.argv[1:]
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(certificate, key)
    more = {}
    if security == "starttls":
        more = {"tls_context": context, "require_starttls": True, "authenticator": login, "auth_required": True}
    elif security == "tls":
        more = {"ssl_context": context, "authenticator": login, "auth_required": True, "auth_require_tls": False}
    Controller(Handler(), hostname="127.0.0.1", port=int(port), **more).start()
    print(json.dumps({"ready": True}), flush=True)
    sys.stdin.read()  # until the parent goes


if __name__ == "__main__":
    main()
