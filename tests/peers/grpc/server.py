"""A gRPC server for tests: grpcio on a free port of the loopback interface.

It issues the tokens that it asks for, and decides which are alive. When it listens it prints one
line: {"grpc", "control"}. It ends with its stdin. Messages are bytes that mean nothing to it; the
metadata `call` says which sends belong to one call.
"""

import json
import os
import secrets
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import grpc

# A streamed call keeps its thread to its end; others wait for one. With more than 1,000 waiting the
# server would begin to cancel calls.
THREADS = 32
OPTIONS = (
    ("grpc.server.max_pending_requests", 10_000),
    ("grpc.server.max_pending_requests_hard_limit", 10_000),
)


class State:
    def __init__(self):
        self.lock = threading.Lock()
        self.alive = set()
        self.every = None  # so many served calls make a revocation due
        self.since = 0  # calls served since the last one
        self.sends = {}  # by call
        self.refused = set()  # calls that were refused once and haven't come back yet
        self.token_requests = self.revocations = self.served = 0
        self.third_sends = []

    def issue(self):
        with self.lock:
            self.token_requests += 1
            token = secrets.token_urlsafe()
            self.alive.add(token)
            return token

    def revoke(self):
        with self.lock:
            self._revoke()

    def _revoke(self):
        self.alive.clear()
        self.revocations += 1
        self.since = 0

    def admit(self, call, token):
        """The number of this send, and whether its token is alive."""
        with self.lock:
            send = self.sends[call] = self.sends.get(call, 0) + 1
            if send > 2:
                self.third_sends.append(call)
            # A call is sent twice at most, so one that was refused must find its second token
            # alive: nothing is revoked before all of them are back. And it is revoked when a call
            # comes in, not when one is done, so that each revocation refuses somebody.
            due = self.every is not None and self.since >= self.every
            if due and send == 1 and not self.refused:
                self._revoke()
            is_alive = token in self.alive
            if is_alive:
                self.served += 1
                self.since += 1
            if is_alive or send > 1:
                self.refused.discard(call)
            else:
                self.refused.add(call)
            return send, is_alive

    def stats(self):
        with self.lock:
            return {
                "token_requests": self.token_requests,
                "revocations": self.revocations,
                "served": self.served,
                "sends": self.sends,
                "third_sends": self.third_sends,
            }


state = State()


def admit(context):
    send, is_alive = arrived(context)
    if not is_alive:
        refuse(context, f"the token of send {send} is dead")


def arrived(context):
    metadata = dict(context.invocation_metadata())
    token = metadata.get("authorization", "").removeprefix("Bearer ")
    return state.admit(metadata["call"], token)


def refuse(context, why):
    context.set_trailing_metadata((("www-authenticate", 'Bearer error="invalid_token"'),))
    context.abort(grpc.StatusCode.UNAUTHENTICATED, why)


def unary(request, context):
    admit(context)
    return request


def server_streaming(request, context):
    admit(context)
    for number in b"123":
        yield request + bytes([number])


def client_streaming(requests, context):
    admit(context)
    return b" ".join(requests)


def bidi(requests, context):
    admit(context)
    yield from requests


def late(request, context):
    """Delivers a message, and then thinks better of it."""
    arrived(context)
    yield request
    refuse(context, "too late")


def trailers(request, context):
    """Has sent its head already when it looks at the token."""
    context.send_initial_metadata((("initial", "metadata"),))
    admit(context)
    return request


def never(request, context):
    """Refuses every token."""
    send, _ = arrived(context)
    refuse(context, f"no token is good enough: send {send}")


def forbidden(request, context):
    admit(context)
    context.abort(grpc.StatusCode.PERMISSION_DENIED, "the token is good, its rights are not")


METHODS = {
    "Unary": grpc.unary_unary_rpc_method_handler(unary),
    "ServerStreaming": grpc.unary_stream_rpc_method_handler(server_streaming),
    "ClientStreaming": grpc.stream_unary_rpc_method_handler(client_streaming),
    "Bidi": grpc.stream_stream_rpc_method_handler(bidi),
    "Late": grpc.unary_stream_rpc_method_handler(late),
    "Trailers": grpc.unary_unary_rpc_method_handler(trailers),
    "Never": grpc.unary_unary_rpc_method_handler(never),
    "Forbidden": grpc.unary_unary_rpc_method_handler(forbidden),
}


class Control(BaseHTTPRequestHandler):
    """POST /token as RFC 6749 has it, and what a test may ask for: /revoke, /revoke-every, /stats."""

    def do_POST(self):
        body = self.rfile.read(int(self.headers.get("content-length", 0)))
        answer = {}
        if self.path == "/token":
            token = state.issue()
            answer = {"access_token": token, "token_type": "Bearer", "expires_in": 3600}
        elif self.path == "/revoke":
            state.revoke()
        elif self.path == "/revoke-every":
            state.every = json.loads(body)
        elif self.path == "/stats":
            answer = state.stats()
        else:
            return self.send_error(404)
        answer = json.dumps(answer).encode()
        self.send_response(200)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)

    def log_message(self, *args):
        pass


def end_with_stdin():
    sys.stdin.read()
    os._exit(0)


def main():
    server = grpc.server(ThreadPoolExecutor(THREADS), options=OPTIONS)
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("peer.Peer", METHODS),))
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    control = ThreadingHTTPServer(("127.0.0.1", 0), Control)
    threading.Thread(target=end_with_stdin, daemon=True).start()
    ready = {
        "grpc": f"http://127.0.0.1:{port}",
        "control": f"http://127.0.0.1:{control.server_port}",
    }
    print(json.dumps(ready), flush=True)
    control.serve_forever()


if __name__ == "__main__":
    main()
