# Shows that the judge can say no. Sourced by `run`.

# A cluster whose disks are all set back to an older copy has lost what it acknowledged since; and copies of a good history with
# one answer edited in each. Returns 0 when the judge says no to every one of them.
canary_round() {
    local i well=0
    round_seed=$seed wanted=none
    draw_plan "${nodes:-3}" "$round_seed"
    dir=$tmp/canary load_began_us=${EPOCHREALTIME//[!0-9]/}
    mkdir -p "$dir"
    : >"$dir/faults.txt"
    say "canary: seed $round_seed: $nodes nodes, host $host"
    cluster_up || { say "canary: the cluster does not come up"; return 1; }
    load 2 mixed verify
    "$bin/lincheck" "$dir/history.jsonl" >"$dir/verdict.txt" || { say "$(cat "$dir/verdict.txt")"; say "canary: this history should have been good"; well=1; }
    "$bin/lincheck" --canary "$dir/history.jsonl" >"$dir/edited.txt" || well=1
    say "$(sed "s|^$dir/|    |" "$dir/edited.txt")"

    set_back &
    load 8 mixed verify
    wait $! || { say "canary: the disks could not be set back"; well=1; }
    cluster_down
    local verdict=0
    "$bin/lincheck" --show 1 "$dir/history.jsonl" >"$dir/verdict.txt" 2>&1 || verdict=$?
    if [ "$verdict" = 1 ]; then
        say "    every disk set back to an older copy: rejected"
    else
        say "    every disk set back to an older copy: ACCEPTED ($verdict), the judge is blind"
        well=1
    fi
    [ "$well" = 1 ] || say "canary: the judge says no when it should; $SECONDS s"
    return "$well"
}

# Copies all data while the nodes are down; 3 s later puts it back.
set_back() {
    local i
    rest 1500
    for i in $(seq 1 "$nodes"); do node_kill "$i"; done
    for i in $(seq 1 "$nodes"); do cp -a --sparse=always "$dir/n$i/data" "$dir/n$i/copy"; node_start "$i"; done
    rest 3000
    for i in $(seq 1 "$nodes"); do node_kill "$i"; done
    for i in $(seq 1 "$nodes"); do rm -rf "$dir/n$i/data"; mv "$dir/n$i/copy" "$dir/n$i/data"; node_start "$i"; done
}
