# One round from making the cluster to the verdict. Sourced by `run`.

cluster_up() {
    local i
    net_up
    for i in $(seq 1 "$nodes"); do node_make "$i"; done
    for i in $(seq 1 "$nodes"); do node_start "$i"; done
    local until=$((SECONDS + 30))
    until in_step; do
        [ "$SECONDS" -lt "$until" ] || { note "finding: the cluster does not come up"; return 1; }
        sleep 0.1
    done
}

cluster_down() { nodes_end; net_down; rm -f "$dir"/n*.pid; }

# load SECONDS WORK..: kvbench in the client's namespace. A bounded rate keeps histories small enough for a sharp judge.
load() {
    local span=$1; shift
    in_net client timeout --kill-after=5 $((span + 60)) "$bin/kvbench" "$@" --seeds "$(seeds)" --prefix r --keys 24 --clients 4 \
        --tasks 16 --rest-ms 4 --reads-percent 50 --deletes-percent 12 --value-bytes 4000 --seconds "$span" \
        --timeout-ms 2000 --seed "$round_seed" --probe-dir "$dir" --history "$dir/history.jsonl" --json "$dir/bench.json" \
        >"$dir/bench.log" 2>&1 3>&- || [ $? = 1 ] # 1: some calls did not go well
}

# Carries out the plan and returns when the last fault has healed.
attack() {
    local line at fault node other ms now
    for line in ${plan[@]+"${plan[@]}"}; do
        read -r at fault node other ms <<<"$line"
        now=${EPOCHREALTIME//[!0-9]/}
        now=$(((now - load_began_us) / 1000))
        [ "$now" -ge "$at" ] || rest $((at - now))
        "fault_${fault//-/_}" "$node" "$other" "$ms" 3>&- &
    done
    wait
}

one_round() {
    local number=$2 began=$SECONDS
    round_seed=$1
    local asked=$nodes
    draw_plan "$nodes" "$round_seed"
    dir=$tmp/seed-$round_seed load_began_us=${EPOCHREALTIME//[!0-9]/}
    mkdir -p "$dir"
    : >"$dir/faults.txt"
    printf '%s\n' ${plan[@]+"${plan[@]}"} >"$dir/plan.txt"
    [ -n "$json" ] || say "round $number: seed $round_seed: $nodes nodes, $replicas replicas, host $host, ${disks:+$fs, }memtables $memtable_mib MiB"
    if cluster_up; then
        load_began_us=${EPOCHREALTIME//[!0-9]/}
        load "$seconds" mixed verify verify &
        local bench=$!
        # In a subshell of its own, so that it waits for its own faults only.
        (attack) || note "finding: the attack itself failed"
        note "all healed"
        wait "$bench" || note "finding: the load could not be run: $(tail -n 1 "$dir/bench.log")"
        look_after
    fi
    cluster_down
    judge_history
    tell "$number" $((SECONDS - began))
    nodes=$asked
    local well=0
    grep -q 'finding:' "$dir/faults.txt" && well=1
    put_away "$well"
    return "$well"
}

# After the load: everything must be as if nothing had happened.
look_after() {
    local i until=$((SECONDS + 10))
    until in_step; do
        if [ "$SECONDS" -ge "$until" ]; then
            note "finding: 10 s later the replicas are not in step"
            status 2000 >"$dir/status.json" || true
            break
        fi
        sleep 0.2
    done
    for i in $(seq 1 "$nodes"); do
        alive "$i" || note "finding: n$i ended by itself: $(grep -v '^$' "$(log_of "$i")" | tail -n 1)"
    done
}

judge_history() {
    local unserved verdict=0
    if grep -l -E 'panicked at|a panic in thread' "$dir"/n*.log >"$dir/panics" 2>/dev/null; then
        note "finding: a panic in $(tr '\n' ' ' <"$dir/panics")"
    fi
    [ -s "$dir/bench.json" ] || return 0
    unserved=$(jq '.phases[-1].errors | .not_applied + .applied + .unknown + .unanswered' "$dir/bench.json")
    [ "$unserved" = 0 ] || note "finding: $unserved keys are not served after everything healed"
    [ "$(jq '[.phases[].errors.wrong] | add' "$dir/bench.json")" = 0 ] || note "finding: values of other keys were read"
    [ "$(jq '.history.acknowledged' "$dir/bench.json")" -ge 200 ] || note "finding: too few answers to judge by"
    timeout 120 "$bin/lincheck" "$dir/history.jsonl" >"$dir/verdict.txt" 2>&1 || verdict=$?
    case $verdict in
        0) ;;
        1) note "finding: not linearizable, see verdict.txt" ;;
        *) note "finding: the judge gave up ($verdict): $(tail -n 1 "$dir/verdict.txt")" ;;
    esac
}

# Prints what came out.
tell() {
    local figures='{operations: 0, acknowledged: 0, failed: 0, unknown: 0, longest_gap_ms: 0, longest_shard_gap_ms: 0}'
    [ ! -s "$dir/bench.json" ] || figures=$(jq -c '.history' "$dir/bench.json")
    if [ -n "$json" ]; then
        jq -c -n --argjson seed "$round_seed" --argjson nodes "$nodes" --argjson replicas "$replicas" --arg host "$host" \
            --arg disk "${disks:+$fs}" --argjson seconds "$2" --argjson history "$figures" --rawfile faults "$dir/faults.txt" '
            ($faults | split("\n") | map(select(. != ""))) as $lines
            | {$seed, $nodes, $replicas, $host, $disk, $seconds, $history, faults: $lines,
               findings: [$lines[] | select(contains("finding:"))]}'
        return
    fi
    say "$(cat "$dir/faults.txt")"
    say "$(jq -r '"    \(.operations) operations: \(.acknowledged) acknowledged, \(.failed) failed, \(.unknown) unknown; longest gap \(.longest_gap_ms | round) ms, within a shard \(.longest_shard_gap_ms | round) ms"' <<<"$figures")"
    if grep -q 'finding:' "$dir/faults.txt"; then
        [ ! -s "$dir/verdict.txt" ] || say "$(head -n 40 "$dir/verdict.txt")"
        say "    A FINDING; $2 s"
    else
        say "    linearizable, all served again, replicas in step; $2 s"
    fi
}

# put_away 0|1: keeps the folder of a finding.
put_away() {
    if [ "$1" = 1 ] || [ -n "$keep" ]; then
        rm -rf "$base/seed-$round_seed"
        mv "$dir" "$base/seed-$round_seed"
        say "    kept in $base/seed-$round_seed"
    else
        rm -rf "$dir"
    fi
}
