#!/usr/bin/env python3
"""Example driver for chaosrun: a register on etcd, through the JSON gateway of etcd.

It implements the protocol of docs/driver.md with the Python standard library only:

    workloads:
      kv:
        model: register
        driver: { command: [python3, examples/driver.py, --role, etcd, --port, client] }

Three rules for a correct driver:
  * `fail` only when the operation certainly did not happen (the connection was refused, the server rejected it);
    in doubt answer `info`, because the operation may have happened or may still happen;
  * one attempt per operation, because a retry could write twice;
  * a client uses one node and switches to the next after a failure.
"""

import argparse
import base64
import http.client
import json
import queue
import sys
import threading

# Answers of etcd that certainly mean that nothing was proposed.
CERTAINLY_NOT = ("no leader", "not leader", "too many requests", "connection refused")

output = threading.Lock()


def say(message):
    """One line, whole: clients answer from threads of their own."""
    with output:
        sys.stdout.write(json.dumps(message, separators=(",", ":")) + "\n")
        sys.stdout.flush()


def encode(text):
    return base64.b64encode(text.encode()).decode()


class NotSent(Exception):
    """The request never left."""


class Client(threading.Thread):
    """One client: one operation at a time, in the order they came."""

    def __init__(self, number, addresses, timeout):
        super().__init__(daemon=True)
        self.requests = queue.SimpleQueue()
        self.addresses = addresses
        self.at = number % len(addresses)
        self.timeout = timeout
        self.connection = None

    def run(self):
        while True:
            request = self.requests.get()
            try:
                answer = self.perform(request)
            except NotSent as error:
                answer = {"type": "fail", "error": str(error)}
            except Exception as error:  # The request was sent without an answer: the result is unknown.
                answer = {"type": "info", "error": f"{type(error).__name__}: {error}"}
            if answer["type"] != "ok" and not answer.get("mismatch"):
                self.move_on()
            say({"id": request["id"], **answer})

    def move_on(self):
        if self.connection:
            self.connection.close()
        self.connection = None
        self.at = (self.at + 1) % len(self.addresses)

    def perform(self, request):
        key = encode(request["key"])
        if request["op"] == "read":
            status, answer = self.post("/v3/kv/range", {"key": key})
            if status == 200:
                found = answer.get("kvs")
                return {"type": "ok", "value": base64.b64decode(found[0].get("value", "")).decode() if found else None}
        elif request["op"] == "write":
            status, answer = self.post("/v3/kv/put", {"key": key, "value": encode(request["value"])})
            if status == 200:
                return {"type": "ok"}
        elif request["op"] == "cas":
            expect = request["expect"]
            if expect is None:
                condition = {"key": key, "target": "CREATE", "create_revision": "0"}
            else:
                condition = {"key": key, "target": "VALUE", "value": encode(expect)}
            put = {"request_put": {"key": key, "value": encode(request["value"])}}
            status, answer = self.post("/v3/kv/txn", {"compare": [condition], "success": [put]})
            if status == 200:
                return {"type": "ok"} if answer.get("succeeded") else {"type": "fail", "mismatch": True}
        else:
            return {"type": "fail", "error": f"unknown operation `{request['op']}`"}
        error = str(answer.get("error") or answer.get("message") or f"HTTP {status}")
        certain = any(words in error.lower() for words in CERTAINLY_NOT)
        return {"type": "fail" if certain else "info", "error": error}

    def post(self, path, body):
        if self.connection is None:
            connection = http.client.HTTPConnection(self.addresses[self.at], timeout=self.timeout)
            try:
                connection.connect()
            except OSError as error:
                raise NotSent(str(error)) from error
            self.connection = connection
        self.connection.request("POST", path, json.dumps(body), {"Content-Type": "application/json"})
        response = self.connection.getresponse()
        text = response.read()
        if response.will_close:
            self.connection.close()
            self.connection = None
        try:
            answer = json.loads(text)
        except ValueError:
            answer = {"error": text.decode(errors="replace")}
        return response.status, answer if isinstance(answer, dict) else {"error": str(answer)}


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--role", default="etcd", help="the role whose nodes are asked")
    parser.add_argument("--port", default="client", help="the port's name in the cluster file")
    arguments = parser.parse_args()

    hello = json.loads(sys.stdin.readline())
    addresses = [node["ports"][arguments.port] for node in hello["nodes"] if node["role"] == arguments.role]
    if hello["model"] != "register":
        say({"type": "error", "error": f"this driver knows the model `register`, not `{hello['model']}`"})
        return 1
    if not addresses:
        say({"type": "error", "error": f"there is no node of the role `{arguments.role}`"})
        return 1
    timeout = hello["timeout_ms"] / 1000
    clients = [Client(number, addresses, timeout) for number in range(hello["clients"])]
    for client in clients:
        client.start()
    say({"type": "ready"})
    for line in sys.stdin:
        request = json.loads(line)
        clients[request["client"]].requests.put(request)
    return 0


if __name__ == "__main__":
    sys.exit(main())
