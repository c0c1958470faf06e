#!/usr/bin/env bash
# One of three Redis servers dies and comes back: whose keys move? Starts three redis-servers and a kvproxy on loopback, sets 100
# keys through the proxy, kills server A, sets them again, starts A again, sets them once more, and shows each time which server took
# how many. Exit code 1 when a key moved that should not have. Needs redis-server, redis-cli and a build of kvproxy (KVPROXY, or
# target/release/kvproxy).
set -euo pipefail
cd "$(dirname "$0")/../.."
proxy=${KVPROXY:-target/release/kvproxy}
[ -x "$proxy" ] || { echo "$proxy is not there: cargo build --release -p kvproxy" >&2; exit 2; }
command -v redis-server redis-cli >/dev/null || { echo "redis-server and redis-cli are needed: apt-get install redis-server redis-tools" >&2; exit 2; }

names=(A B C)
ports=(27301 27302 27303)
door=27300
dir=$(mktemp -d)
declare -A pids
trap 'kill "${pids[@]}" 2>/dev/null || true; wait; rm -rf "$dir"' EXIT

# start NAME PORT COMMAND..: in the background, until it answers.
start() {
    local name=$1 port=$2; shift 2
    "$@" >>"$dir/log" 2>&1 </dev/null & pids[$name]=$!
    for _ in $(seq 100); do redis-cli -p "$port" ping >/dev/null 2>&1 && return; sleep 0.1; done
    cat "$dir/log"; exit 2
}
server() { start "${names[$1]}" "${ports[$1]}" redis-server --port "${ports[$1]}" --bind 127.0.0.1 --save "" --appendonly no --dir "$dir"; }

# Sets 100 keys through the proxy, and notes who has taken each: its value there is this round's.
round() {
    local round=$1 key at
    : >"$dir/$round"
    for key in $(seq 0 99); do
        # A server that has just died may cost an error until that is found out.
        until [ "$(redis-cli -p $door set "key:$key" "$round")" = OK ]; do sleep 0.05; done
    done
    for at in 0 1 2; do
        [ -n "${pids[${names[$at]}]:-}" ] || continue
        for key in $(seq 0 99); do
            [ "$(redis-cli -p "${ports[$at]}" get "key:$key")" = "$round" ] && echo "key:$key ${names[$at]}" >>"$dir/$round"
        done
    done
    sort -o "$dir/$round" "$dir/$round"
    printf '%-22s' "$round:"
    for at in 0 1 2; do printf '  %s took %3d' "${names[$at]}" "$(grep -c " ${names[$at]}$" "$dir/$round" || true)"; done
    echo
}

for at in 0 1 2; do server $at; done
start proxy $door "$proxy" --redis "$(printf '127.0.0.1:%s,' "${ports[@]}" | sed 's/,$//')" --listen 127.0.0.1:$door
round all-up
kill -9 "${pids[A]}"; wait "${pids[A]}" 2>/dev/null || true; unset 'pids[A]'
round A-dead
server 0
until redis-cli -p $door info | grep -q "127.0.0.1:${ports[0]}=up"; do sleep 0.1; done
round A-back

moved=$(join "$dir/all-up" "$dir/A-dead" | awk '$2 != "A" && $2 != $3' | wc -l)
away=$(join "$dir/all-up" "$dir/A-back" | awk '$2 != $3' | wc -l)
echo "while A was dead, $moved keys of B and C moved; since it is back, $away keys are elsewhere than at first"
[ "$moved" = 0 ] && [ "$away" = 0 ]
