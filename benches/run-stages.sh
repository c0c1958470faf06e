#!/usr/bin/env bash
# Measures again what ARCHITECTURE.md says under "Where the nanoseconds go", and prints it as the tables stand there: floors and the
# store's loop by the micro-benchmarks, calls by kvbench against three nodes. About four minutes. Needs jq.
#   cargo build --release -p kvnode -p kvbench && benches/run-stages.sh
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
command -v jq >/dev/null || { echo "jq is not installed" >&2; exit 2; }
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

"$root/benches/run-micro.sh" '^(floor|store)/' 2>"$work/said" >"$work/micro" || { tail -n 5 "$work/said" >&2; exit 2; }
echo "| stage | ns, median of one | per key |"
echo "|---|---|---|"
jq -r '"| \(.bench) | \(.median_ns | round) | \(.median_ns / .elements | round) |"' "$work/micro"

# One caller alone would load for long; what is read stays in memtables.
for what in "1 20000" "512 200000"; do
    read -r tasks keys <<<"$what"
    "$root/benches/run-peers.sh" --stores ringkv3 --rounds 1 --work get,put --batches 1 --tasks "$tasks" --keys "$keys" \
        --out "$work/$tasks" "$@" \
        >"$work/said" || { tail -n 5 "$work/said" >&2; exit 2; }
    printf '\ncallers: %s, keys: %s\n\n| work | keys/s | p50, us | in the client, us | on the way, us | in the store, us | a flush beside it, us |\n|---|---|---|---|---|---|---|\n' "$tasks" "$keys"
    jq -r '.phases[] | select(.phase != "load") | [.phase, .keys_per_s, .latency_us.p50, .breakdown_us.queued, .breakdown_us.way,
        .breakdown_us.store, .fdatasync_us.p50] | "| " + (map(if type == "number" then round else . end | tostring) | join(" | ")) + " |"' \
        "$work/$tasks"/ringkv3-1.json
done
