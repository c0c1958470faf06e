# The nodes of a round: disks, processes, who leads. Sourced by `run`; `$dir` is the round's folder.

log_of() { echo "$dir/n$1.log"; }
pid_of() { cat "$dir/n$1.pid" 2>/dev/null; }
alive() { local pid; pid=$(pid_of "$1") && [ -n "$pid" ] && kill -0 "$pid" 2>/dev/null; }

# Writes the configuration of node I and makes its disk.
node_make() {
    local i=$1 m
    mkdir -p "$dir/n$i"
    [ -z "$disks" ] || disk_make "$fs" "$dir/n$i.img" "$dir/n$i"
    {
        printf 'node = %s\ndata_dir = "%s"\nlisten = "%s:7400"\ninsecure = true\n' "$i" "$dir/n$i/data" "$subnet.$i"
        printf 'stores = 1\ncores = 1\npin = "none"\nspin_us = 0\nhost = "%s"\ncluster = "%032x"\n' "$host" "$((round_seed + 1))"
        for m in $(seq 1 "$nodes"); do printf '[[member]]\nid = %s\naddress = "%s:7400"\nstores = 1\n' "$m" "$subnet.$m"; done
        printf '[[pool]]\nid = 1\nreplicas = %s\nshard_bits = 3\n' "$replicas"
        printf '[[keyspace]]\nid = 1\nname = "default"\npool = 1\n'
        printf '[memory]\nmemtable_mib = %s\ncache_mib = 4\nsegment_mib = 4\nlog_keep_mib = %s\n' "$memtable_mib" "$log_keep_mib"
    } >"$dir/n$i.toml"
}

node_start() {
    # The program itself, not a function: the process id must be the node's.
    nsenter --net="/run/netns/n$1" "$bin/kvnode" --config "$dir/n$1.toml" >>"$(log_of "$1")" 2>&1 </dev/null 3>&- &
    echo $! >"$dir/n$1.pid"
    disown
}

# gone I SECONDS: waits until the process of node I is no more.
gone() {
    local until=$((SECONDS + $2 + 1))
    while alive "$1"; do
        [ "$SECONDS" -lt "$until" ] || return 1
        sleep 0.02
    done
}

node_kill() { kill -KILL "$(pid_of "$1")" 2>/dev/null || true; gone "$1" 10; }
node_signal() { kill "-$2" "$(pid_of "$1")" 2>/dev/null || true; }

# Power cut: nothing more reaches the disk, then the process dies; the file system replays its log when it is mounted again.
power_off() { xfs_io -x -c shutdown "$dir/n$1"; sleep "0.$2"; node_kill "$1"; }
power_on() {
    local tries=0
    until umount "$dir/n$1" 2>"$dir/n$1.umount"; do
        [ $((tries += 1)) -lt 100 ] || { note "n$1: its disk cannot be unmounted"; return 1; }
        sleep 0.05
    done
    mount -o loop "$dir/n$1.img" "$dir/n$1"
    node_start "$1"
}

# Fills the disk of node I to the last block; disk_free takes it back.
disk_fill() {
    local i=$1 size count=0
    for size in 64M 16M 4M 1M 256K 64K 4K; do
        while fallocate -l "$size" "$dir/n$i/filler-$((count += 1))" 2>/dev/null; do :; done
    done
}
disk_free() { rm -f "$dir/n$1"/filler-*; }

seeds() { seq -f "$subnet.%g:7400" -s , 1 "$nodes"; }

# What the stores say of themselves, JSON.
status() { in_net client timeout 5 "$bin/kvctl" status --seeds "$(seeds)" --json --timeout-ms "${1:-1000}" 2>/dev/null; }

# Sets REPLY to the node that leads most shards, or to $1 when nobody answers in time.
leader() {
    local most='max_by([.shards[] | select(.role == "leader")] | length) | .node'
    REPLY=$(status | jq -r "$most" 2>/dev/null) || true
    [[ $REPLY =~ ^[1-5]$ ]] || REPLY=$1
}

# Whether every shard has a leader and all its replicas have applied the same entries.
in_step() {
    status 2000 | jq -e --argjson nodes "$nodes" '
        length == $nodes and all(.[]; .failed == null)
        and ([.[].shards[]] | group_by(.shard) | length > 0 and all(.[];
            ([.[] | select(.role == "leader")] | length) == 1
            and ([.[].applied] | unique | length) == 1 and all(.[]; .commit == .applied)))' >/dev/null 2>&1
}

nodes_end() {
    local i late=''
    for i in $(seq 1 "$nodes"); do node_signal "$i" CONT; node_signal "$i" TERM; done
    for i in $(seq 1 "$nodes"); do gone "$i" 8 || { late+=" n$i"; node_kill "$i"; }; done
    [ -z "$late" ] || note "finding: did not end when asked:$late"
    for i in $(seq 1 "$nodes"); do [ -z "$disks" ] || umount "$dir/n$i" 2>/dev/null || umount -l "$dir/n$i" || true; done
}
