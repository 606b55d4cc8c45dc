"""An agent that uses the Messages API and only the Python standard library.

The model is served at ANTHROPIC_BASE_URL, without an API key. The prompt is read from stdin. Commands and the end of the session are
reported to chaosrun as lines of JSON.
"""

import json
import os
import subprocess
import sys
import urllib.error
import urllib.request

SHELL = {
    "name": "shell",
    "description": "Runs a command line and returns its output.",
    "input_schema": {
        "type": "object",
        "properties": {"command": {"type": "string"}, "reasoning": {"type": "string"}},
        "required": ["command"],
    },
}
DONE = {
    "name": "done",
    "description": "Ends the session.",
    "input_schema": {
        "type": "object",
        "properties": {
            "root_cause": {"type": "string"},
            "component": {"type": "string", "description": "name of the faulty node, or none"},
            "fault_class": {"type": "string", "description": "process_crash, process_hang, network_partition, ..., unknown"},
            "confidence": {"type": "number"},
            "outcome": {"enum": ["resolved", "escalate", "no_action"]},
        },
        "required": ["root_cause", "component", "fault_class", "confidence", "outcome"],
    },
}


def tell(**line):
    print(json.dumps(line), flush=True)


def ask(messages):
    body = {"model": os.environ["MODEL"], "max_tokens": 8000, "tools": [SHELL, DONE], "messages": messages}
    request = urllib.request.Request(
        os.environ["ANTHROPIC_BASE_URL"] + "/v1/messages",
        data=json.dumps(body).encode(),
        headers={
            "content-type": "application/json",
            "anthropic-version": "2026-10-21",
            "x-api-key": os.environ["ANTHROPIC_API_KEY"],
        },
    )
    with urllib.request.urlopen(request, timeout=600) as answer:
        return json.load(answer)


def shell(command, reasoning=""):
    ran = subprocess.run(["bash", "-c", command], stdin=subprocess.DEVNULL, capture_output=True, text=True, errors="replace", timeout=120)
    output = (ran.stdout + ran.stderr)[-8000:]
    tell(type="command", command=command, reasoning=reasoning, exit_code=ran.returncode, output=output)
    return f"exit code {ran.returncode}\n{output}", ran.returncode != 0


def main():
    messages = [{"role": "user", "content": sys.stdin.read()}]
    for _ in range(50):
        answer = ask(messages)
        messages.append({"role": "assistant", "content": answer["content"]})
        results = []
        for block in answer["content"]:
            if block["type"] == "text":
                print(block["text"], flush=True)
            if block["type"] != "tool_use":
                continue
            given = block["input"]
            if block["name"] == "done":
                outcome = given.pop("outcome")
                tell(type="diagnosis", **given)
                tell(type="end", outcome=outcome)
                return
            try:
                text, failed = shell(given["command"], given.get("reasoning", ""))
            except (KeyError, subprocess.TimeoutExpired) as error:
                text, failed = f"error: {error!r}", True
            results.append({"type": "tool_result", "tool_use_id": block["id"], "content": text, "is_error": failed})
        messages.append({"role": "user", "content": results or "Use a tool; `done` ends the work."})
    tell(type="end", outcome="escalate", detail="fifty answers, and no end")


if __name__ == "__main__":
    try:
        main()
    except urllib.error.HTTPError as error:
        sys.exit(f"the model failed: {error.code} {error.read().decode(errors='replace')[:2000]}")
