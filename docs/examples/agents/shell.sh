#!/usr/bin/env bash
# A minimal agent: starts nodes that have exited, checks that they keep running, and reports its commands. Output that is not JSON is
# recorded as text.
set -u

json() { # encodes a string as JSON
  local text=${1//\\/\\\\}
  text=${text//\"/\\\"}
  text=${text//$'\t'/\\t}
  printf '"%s"' "${text//$'\n'/\\n}"
}

run() { # arguments: reason, command
  local why=$1 output code
  shift
  output=$("$@" 2>&1)
  code=$?
  printf '{"type":"command","command":%s,"exit_code":%d,"reasoning":%s,"output":%s}\n' \
    "$(json "$*")" "$code" "$(json "$why")" "$(json "$output")"
  return "$code"
}

ended() { docker ps -a --filter status=exited --format '{{.Names}}'; }

echo "the prompt has $(wc -l < "$AGENT_PROMPT") lines"
nodes=$(ended)
if [ -z "$nodes" ]; then
  echo '{"type":"end","outcome":"escalate","detail":"every node runs: that is all I know"}'
  exit
fi
first=${nodes%%$'\n'*}
for node in $nodes; do run "it has ended, and its data is on disk" docker start "$node"; done
sleep 1
if [ -n "$(ended)" ]; then
  echo '{"type":"end","outcome":"escalate","detail":"it ends again whenever it is started"}'
  exit
fi
printf '{"type":"diagnosis","root_cause":%s,"component":%s,"fault_class":"process_crash","confidence":0.8,"evidence":[%s]}\n' \
  "$(json "the process of $first ended")" "$(json "$first")" "$(json "docker ps -a: $first has exited")"
echo '{"type":"end","outcome":"resolved"}'
