#!/usr/bin/env bash
# Runs the micro-benchmarks and prints one JSON line for each: what it is, its median with the interval that holds it with 95%
# confidence, elements in one iteration, commit and processor. Arguments go to criterion: a part of a name, --quick. Needs jq.
#   benches/run-micro.sh session >>benches/micro.jsonl
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
cd "$root"
command -v jq >/dev/null || { echo "jq is not installed" >&2; exit 2; }
began=$(mktemp)
trap 'rm -f "$began"' EXIT
cargo bench --locked -p ringkv-benches -- --noplot "$@" >&2
commit=$(git rev-parse --short HEAD 2>/dev/null || echo unknown)
[ -z "$(git status --porcelain 2>/dev/null)" ] || commit=$commit+
cpu=$(sed -n 's/^model name[^:]*: //p' /proc/cpuinfo | head -n 1)
folder=${CARGO_TARGET_DIR:-$root/target}/criterion
# Only what was measured now.
find "$folder" -path '*/new/estimates.json' -newer "$began" | sort | while read -r estimates; do
    jq -c --slurpfile what "$(dirname "$estimates")/benchmark.json" --arg commit "$commit" --arg cpu "$cpu" --arg date "$(date -u +%F)" '
        {bench: $what[0].full_id, median_ns: .median.point_estimate, low_ns: .median.confidence_interval.lower_bound,
         high_ns: .median.confidence_interval.upper_bound, elements: ($what[0].throughput.Elements // 1), $date, $commit, $cpu}' "$estimates"
done
