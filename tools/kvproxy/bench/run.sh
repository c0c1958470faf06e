#!/usr/bin/env bash
# What the proxy costs: proxy and servers on one core, redis-benchmark on the other, 50 connections, 16-byte keys, 100-byte values.
#   tools/kvproxy/bench/run.sh ring|cluster [DEPTH ..]        depths 1 16 64 unless told otherwise
# `ring`: three Redis servers behind the proxy, beside the same load on one of them directly.
# `cluster`: three nodes, three replicas, durable on a majority. Prints one JSON line a row: operations a second, p50 and p99 in ms.
# Needs release builds of kvproxy and kvnode, redis-server and redis-benchmark. Environment: SERVERS and LOAD are the two cores,
# REQUESTS how many a row (fewer at depth 1).
set -euo pipefail
cd "$(dirname "$0")/../../.."
what=${1:?ring or cluster}; shift
depths=("${@:-1}"); [ $# -gt 0 ] || depths=(1 16 64)
on=(taskset -c "${SERVERS:-0}")
dir=$(mktemp -d)
pids=()
trap 'kill "${pids[@]}" 2>/dev/null || true; wait; rm -rf "$dir"' EXIT
start() { "${on[@]}" "$@" >>"$dir/log" 2>&1 </dev/null & pids+=($!); }
up() { for _ in $(seq 100); do redis-cli -p "$1" ping >/dev/null 2>&1 && return; sleep 0.1; done; cat "$dir/log"; exit 1; }

# row NAME PORT DEPTH
row() {
    local n=${REQUESTS:-2000000}
    [ "$3" -gt 1 ] || n=$((n / 20))
    taskset -c "${LOAD:-1}" redis-benchmark -p "$2" -c 50 -P "$3" -n "$n" -r 1000000 -d 100 -t set,get --csv 2>/dev/null |
        awk -F'"' -v name="$1" -v depth="$3" '$2 == "SET" || $2 == "GET" {
            printf "{\"what\":\"%s\",\"op\":\"%s\",\"depth\":%d,\"per_s\":%d,\"p50_ms\":%s,\"p99_ms\":%s}\n", name, $2, depth, $4, $10, $14 }'
}

case $what in
    ring)
        for port in 27101 27102 27103; do start redis-server --port $port --bind 127.0.0.1 --save "" --appendonly no; up $port; done
        start target/release/kvproxy --redis 127.0.0.1:27101,127.0.0.1:27102,127.0.0.1:27103 --listen 127.0.0.1:27100
        up 27100
        for depth in "${depths[@]}"; do row redis-directly 27101 "$depth"; row kvproxy-ring 27100 "$depth"; done
        ;;
    cluster)
        members=()
        for n in 1 2 3; do members+=(--member "$n@127.0.0.1:$((27200 + n * 10))"); done
        for n in 1 2 3; do
            start target/release/kvnode --data-dir "$dir/$n" --node-id "$n" --listen "127.0.0.1:$((27200 + n * 10))" --stores 1 --cores 1 \
                --pin none --spin-us 0 --cluster 000102030405060708090a0b0c0d0e0f "${members[@]}"
        done
        start target/release/kvproxy --seeds 127.0.0.1:27210 --listen 127.0.0.1:27200
        up 27200
        until redis-cli -p 27200 mset $(seq 400) | grep -q OK; do sleep 0.2; done
        for depth in "${depths[@]}"; do row kvproxy-cluster 27200 "$depth"; done
        ;;
esac
