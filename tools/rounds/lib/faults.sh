# The faults. Each function takes a node, another node and a duration in ms; begins, waits, heals. Sourced by `run`.

rest() { sleep "$(($1 / 1000)).$(printf %03d $(($1 % 1000)))"; }

# note TEXT: one line for the round's list, with the time since the load began.
note() {
    local now=${EPOCHREALTIME//[!0-9]/}
    local ms=$(((now - load_began_us) / 1000))
    printf '%4d.%d s  %s\n' $((ms / 1000)) $((ms % 1000 / 100)) "$*" >>"$dir/faults.txt"
}

# Process faults of one node exclude each other: with_node NODE COMMAND..
with_node() {
    local i=$1; shift
    mkdir "$dir/busy-$i" 2>/dev/null || { note "  (n$i is under attack already: left out)"; return 0; }
    "$@" || note "finding: attack on n$i could not be healed"
    rmdir "$dir/busy-$i"
}

others() { seq 1 "$nodes" | grep -vx "$1"; }

# apart MS NODE..: these nodes on one side, the rest on the other.
apart() {
    local ms=$1 a b; shift
    for a in "$@"; do for b in $(seq 1 "$nodes"); do [[ " $* " == *" $b "* ]] || cut "$a" "$b"; done; done
    rest "$ms"
    for a in "$@"; do for b in $(seq 1 "$nodes"); do [[ " $* " == *" $b "* ]] || heal "$a" "$b"; done; done
}

fault_minority() {
    local side="$1"
    [ "$nodes" = 3 ] || side="$1 $2"
    note "minority: n${side// / n} cut off from the others for $3 ms"
    # shellcheck disable=SC2086
    apart "$3" $side
}

fault_leader_alone() {
    leader "$1"
    note "leader-alone: n$REPLY, which leads most, cut off from the other nodes for $3 ms"
    apart "$3" "$REPLY"
}

fault_no_majority() {
    local a b
    note "no-majority: every node cut off from every other for $3 ms"
    for a in $(seq 1 "$nodes"); do for b in $(seq $((a + 1)) "$nodes"); do cut "$a" "$b"; done; done
    rest "$3"
    for a in $(seq 1 "$nodes"); do for b in $(seq $((a + 1)) "$nodes"); do heal "$a" "$b"; done; done
}

fault_one_way() {
    local i
    if [ $(($3 % 2)) = 0 ]; then
        note "one-way: n$1 is not heard by the other nodes, but hears them, for $3 ms"
        for i in $(others "$1"); do deaf "n$i" "$subnet.$1"; done
        rest "$3"
        for i in $(others "$1"); do hear "n$i" "$subnet.$1"; done
    else
        note "one-way: n$1 hears no other node, but is heard, for $3 ms"
        for i in $(others "$1"); do deaf "n$1" "$subnet.$i"; done
        rest "$3"
        for i in $(others "$1"); do hear "n$1" "$subnet.$i"; done
    fi
}

fault_partial() {
    note "partial: n$1 and n$2 cut off from each other, both see the rest, for $3 ms"
    cut "$1" "$2"; rest "$3"; heal "$1" "$2"
}

fault_flap() {
    local left=$3 step
    note "flap: the link of n$1 and n$2 goes and comes every 100-500 ms for $3 ms"
    while [ "$left" -gt 0 ]; do
        step=$((100 + left % 400))
        cut "$1" "$2"; rest "$step"; heal "$1" "$2"; rest "$step"
        left=$((left - 2 * step))
    done
}

fault_loss() {
    local percent=$((2 + $3 % 29))
    note "loss: every node loses $percent of 100 packets for $3 ms"
    lossy "$percent"; rest "$3"; lossy 0
}

fault_client() {
    note "client: n$1 and the client do not hear each other for $3 ms"
    deaf "n$1" "$client_ip"; deaf client "$subnet.$1"; rest "$3"; hear "n$1" "$client_ip"; hear client "$subnet.$1"
}

pause() { node_signal "$1" STOP; rest "$2"; node_signal "$1" CONT; }
fault_pause() { note "pause: n$1 stopped for $3 ms"; with_node "$1" pause "$1" "$3"; }
fault_pause_leader() { leader "$1"; note "pause-leader: n$REPLY stopped for $3 ms"; with_node "$REPLY" pause "$REPLY" "$3"; }

crash() { node_kill "$1"; rest "$2"; node_start "$1"; }
fault_kill() { note "kill: n$1 killed, back after $3 ms"; with_node "$1" crash "$1" "$3"; }
fault_kill_leader() { leader "$1"; note "kill-leader: n$REPLY killed, back after $3 ms"; with_node "$REPLY" crash "$REPLY" "$3"; }
fault_kill_all() {
    local i
    note "kill-all: every node killed, back one after the other within $3 ms"
    for i in $(seq 1 "$nodes"); do with_node "$i" crash "$i" $(($3 * ((i + $1) % nodes + 1) / nodes)) & done
    wait
}

blackout() { power_off "$1" "$(($2 % 3))$(($2 % 10))"; rest "$2"; power_on "$1"; }
fault_power() { note "power: n$1 loses power, back after $3 ms"; with_node "$1" blackout "$1" "$3"; }
fault_power_all() {
    local i
    note "power-all: every node loses power, back one after the other within $3 ms"
    for i in $(seq 1 "$nodes"); do with_node "$i" blackout "$i" $(($3 * ((i + $1) % nodes + 1) / nodes)) & done
    wait
}

fill() {
    disk_fill "$1"; rest "$2"; disk_free "$1"
    rest 500
    # What a disk full at the worst moment may do is end the store; a restart must then be enough.
    local failed
    failed=$(status 2000 | jq -r ".[] | select(.node == $1) | .failed // empty" 2>/dev/null) || true
    if ! alive "$1" || [ -n "$failed" ]; then
        note "  n$1 had failed after its disk was full (${failed:-ended}): started again"
        node_kill "$1"; node_start "$1"
    fi
}
fault_full() { note "full: the disk of n$1 is full for $3 ms"; with_node "$1" fill "$1" "$3"; }
