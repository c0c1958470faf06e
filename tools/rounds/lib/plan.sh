# What a round does, drawn from its seed before it begins. Sourced by `run`.

all_faults=(minority leader-alone no-majority one-way partial flap loss client
    pause pause-leader kill kill-leader kill-all power power-all full)
needs_disks=' power power-all full '

only_known_faults() {
    local fault known=" ${all_faults[*]} none "
    for fault in ${wanted//,/ }; do
        [[ $known == *" $fault "* ]] || { echo "rounds: no fault is called $fault; see --help" >&2; exit 2; }
    done
}

# draw LOW HIGH: sets REPLY. Never in a subshell: that would draw the same number again.
draw() { REPLY=$(($1 + RANDOM % ($2 - $1 + 1))); }

# Sets host, fs, nodes, replicas, sizes and `plan`: lines of `at_ms fault node other ms`.
draw_plan() {
    local asked_nodes=$1 fault at ms
    RANDOM=$2
    draw 0 99 # the first number of neighbouring seeds is alike
    draw 0 1; host=$([ "$REPLY" = 0 ] && echo glommio || echo plain)
    draw 0 1; fs=$([ "$REPLY" = 0 ] && echo xfs || echo ext4)
    draw 0 2; nodes=${asked_nodes:-$([ "$REPLY" = 0 ] && echo 5 || echo 3)}
    draw 0 1; replicas=$([ "$nodes" = 5 ] && [ "$REPLY" = 0 ] && echo 5 || echo 3)
    draw 0 2; memtable_mib=$((1 << (REPLY * 2)))
    draw 0 1; log_keep_mib=$((4 << (REPLY * 3)))
    local choice=()
    for fault in "${all_faults[@]}"; do
        [ -n "$wanted" ] && [[ ",$wanted," != *",$fault,"* ]] && continue
        [ -z "$disks" ] && [[ $needs_disks == *" $fault "* ]] && continue
        choice+=("$fault")
    done
    plan=()
    [ ${#choice[@]} -gt 0 ] || return 0
    draw 500 1200; at=$REPLY
    local last=$((seconds * 1000 - 5000))
    while [ "$at" -lt "$last" ]; do
        draw 0 $((${#choice[@]} - 1)); fault=${choice[REPLY]}
        draw 1 "$nodes"; local node=$REPLY
        draw 1 $((nodes - 1)); local other=$(((node - 1 + REPLY) % nodes + 1))
        draw 400 3000; ms=$REPLY
        [ "$fault" != full ] || ms=$((ms + 2500))
        [ $((at + ms)) -le $((last + 1500)) ] || ms=$((last + 1500 - at))
        plan+=("$at $fault $node $other $ms")
        # One fault in three begins before the one before it has ended.
        draw 0 2
        [ "$REPLY" = 0 ] && at=$((at + ms / 2)) || at=$((at + ms))
        draw 100 900; at=$((at + REPLY))
    done
}
