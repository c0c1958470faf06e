#!/usr/bin/env bash
# The same work on ringkv and on its peers, in turn, on loopback: `kvbench` loads keys, writes and reads them, and tells medians and
# their ratios. Installs nothing: a peer that is not there is left out.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
root=$(dirname "$here")

usage() {
    cat <<TEXT
usage: benches/run-peers.sh [options]
  --stores LIST      which, in turn; the first is compared with each of the others   [$stores]
                     ringkv (one node), ringkv3 (three nodes, three replicas), redis (in memory), redis-fsync (every write
                     flushed before its answer, as ringkv and etcd do), etcd (one member), etcd3 (three)
  --rounds N         how often each has its turn                                     [$rounds]
  --seconds S        how long each kind of work runs                                 [$seconds]
  --work LIST        kinds of work, see kvbench --help                               [$work]
  --batches LIST     keys in one call                                                [$batches]
  --tasks N          callers at the same time                                        [$tasks]
  --keys N           distinct keys                                                   [$keys]
  --value-bytes N    bytes of a value                                                [$value_bytes]
  --server-cpus LIST where the stores run, all their processes                       [$server_cpus]
  --client-cpus LIST where kvbench runs, a thread on each                            [$client_cpus]
  --port N           the first of about ten ports on 127.0.0.1                       [$port]
  --out DIR          where the reports go, JSON lines, one file a store and batch    [target/peers/DATE]
  --bin DIR          where kvnode and kvbench are                                    [target/release]
Needs: cargo build --release -p kvnode -p kvbench --features kvbench/etcd  (without the feature etcd is left out)
Peers: Debian's redis-server and etcd-server. Ends with 2 when nothing could be measured, 1 when calls failed.
TEXT
}

stores=ringkv,redis-fsync,etcd,redis rounds=3 seconds=5 work=put,get batches=1,64 tasks=64 keys=100000 value_bytes=100 port=17400
server_cpus=0 client_cpus=1 out='' bin=$root/target/release
[ "$(nproc)" -gt 1 ] || client_cpus=0
while [ $# -gt 0 ]; do
    case $1 in
        --stores | --rounds | --seconds | --work | --batches | --tasks | --keys | --value-bytes | --server-cpus | --client-cpus | --port | --out | --bin)
            [ $# -gt 1 ] || { echo "$1 wants a value" >&2; exit 2; }
            name=${1#--}
            printf -v "${name//-/_}" %s "$2"
            shift 2
            ;;
        -h | --help) usage; exit 0 ;;
        *) echo "what is $1?" >&2; usage >&2; exit 2 ;;
    esac
done

for tool in kvnode kvbench; do
    [ -x "$bin/$tool" ] || { echo "$bin/$tool is not there: cargo build --release -p kvnode -p kvbench" >&2; exit 2; }
done
out=${out:-$root/target/peers/$(date +%Y-%m-%dT%H%M%S)}
mkdir -p "$out"
dir=$(mktemp -d "$out/data-XXXXXX")
pids=()
# Ends what was started, and nothing else.
stop() {
    local pid waited
    for pid in ${pids[@]+"${pids[@]}"}; do
        kill -TERM "$pid" 2>/dev/null || continue
        for ((waited = 0; waited < 100; waited++)); do
            kill -0 "$pid" 2>/dev/null || break
            sleep 0.1
        done
        kill -KILL "$pid" 2>/dev/null || true
    done
    pids=()
}
trap 'exit 143' TERM INT HUP
trap 'stop; rm -rf "$dir"' EXIT

# spawn NAME COMMAND..: a server, on its CPUs.
spawn() {
    local log=$dir/$1.log
    shift
    taskset -c "$server_cpus" "$@" >>"$log" 2>&1 </dev/null &
    pids+=($!)
}

answers() { (exec 3<>"/dev/tcp/127.0.0.1/$1") 2>/dev/null; }

# ready PORT: waits until a server listens there.
ready() {
    local tries=0
    until answers "$1"; do
        [ $((tries += 1)) -lt 200 ] || { echo "nothing listens on port $1 after 20 s:" >&2; tail -n 3 "$dir"/*.log >&2; return 1; }
        sleep 0.1
    done
}

# ringkv NODES: starts a cluster that keeps as many replicas as it has nodes.
start_ringkv() {
    local i members=()
    for i in $(seq 1 "$1"); do members+=(--member "$i@127.0.0.1:$((port + 2 * i))/1"); done
    for i in $(seq 1 "$1"); do
        spawn "kvnode-$i" "$bin/kvnode" --node-id "$i" --data-dir "$dir/data/$i" --listen "127.0.0.1:$((port + 2 * i))" --stores 1 \
            --cores 1 --pin none --cluster 5a0c1d7e3b9f48268e11d2c4f6a7b809 "${members[@]}" --replicas "$1"
    done
    for i in $(seq 1 "$1"); do ready $((port + 2 * i)); done
    target=(--seeds "127.0.0.1:$((port + 2))")
}

start_redis() {
    spawn redis redis-server --bind 127.0.0.1 --port $((port + 1)) --dir "$dir/data" --save '' --daemonize no "$@"
    ready $((port + 1))
    target=(--target "redis://127.0.0.1:$((port + 1))")
}

# etcd MEMBERS: calls go to the first; what must go to the leader it hands on.
start_etcd() {
    local i client peer members=()
    for i in $(seq 1 "$1"); do members+=("member$i=http://127.0.0.1:$((port + 2 * i))"); done
    for i in $(seq 1 "$1"); do
        client=http://127.0.0.1:$((port + 2 * i - 1)) peer=http://127.0.0.1:$((port + 2 * i))
        spawn "etcd-$i" etcd --name "member$i" --data-dir "$dir/data/etcd-$i" --listen-client-urls "$client" \
            --advertise-client-urls "$client" --listen-peer-urls "$peer" --initial-advertise-peer-urls "$peer" \
            --initial-cluster "$(IFS=,; echo "${members[*]}")" --log-level error
    done
    for i in $(seq 1 "$1"); do ready $((port + 2 * i - 1)); done
    target=(--target "etcd://127.0.0.1:$((port + 1))")
}

start() {
    mkdir -p "$dir/data"
    case $1 in
        ringkv) start_ringkv 1 ;;
        ringkv3) start_ringkv 3 ;;
        redis) start_redis --appendonly no ;;
        redis-fsync) start_redis --appendonly yes --appendfsync always ;;
        etcd) start_etcd 1 ;;
        etcd3) start_etcd 3 ;;
    esac
}

# missing STORE: says why it cannot be measured, if it cannot.
missing() {
    case $1 in
        ringkv | ringkv3) ;;
        redis | redis-fsync) command -v redis-server >/dev/null || echo "redis-server is not installed" ;;
        etcd | etcd3)
            command -v etcd >/dev/null || { echo "etcd is not installed"; return; }
            "$bin/kvbench" --target etcd://127.0.0.1:1 --timeout-ms 1 2>&1 | grep -o "this kvbench was built without etcd" || true
            ;;
        *) echo "there is no such store" ;;
    esac
}

# turn STORE BATCH: loads and works on a fresh store, and notes the report.
turn() {
    local store=$1 batch=$2 rc=0 kinds
    IFS=, read -ra kinds <<<"$work"
    for i in $(seq "$port" $((port + 8))); do
        ! answers "$i" || { echo "port $i is taken: see --port" >&2; exit 2; }
    done
    start "$store"
    timeout --kill-after=5 $(((${seconds%.*} + 3) * ${#kinds[@]} + 120)) taskset -c "$client_cpus" "$bin/kvbench" load "${kinds[@]}" \
        "${target[@]}" --keys "$keys" --value-bytes "$value_bytes" --batch "$batch" --tasks "$tasks" --seconds "$seconds" \
        --pin "$client_cpus" --probe-dir "$dir" --json "$dir/run.json" --condition "store=$store" --condition "server_cpus=$server_cpus" \
        >"$dir/said" 2>&1 || rc=$?
    stop
    rm -rf "$dir/data"
    case $rc in
        0 | 1) tr -d '\n' <"$dir/run.json" >>"$out/$store-$batch.json" && echo >>"$out/$store-$batch.json" ;;
        *) tail -n 3 "$dir/said" >&2 ;;
    esac
    [ "$rc" = 0 ] || { echo "  $store, $batch keys a call: calls failed (exit code $rc)" >&2; failed=1; }
}

failed=0 there=()
for store in ${stores//,/ }; do
    why=$(missing "$store")
    if [ -n "$why" ]; then echo "$store is left out: $why"; else there+=("$store"); fi
done
[ ${#there[@]} -gt 0 ] || exit 2
for ((round = 1; round <= rounds; round++)); do
    for batch in ${batches//,/ }; do
        for store in "${there[@]}"; do
            echo "round $round of $rounds: $store, $batch keys a call"
            turn "$store" "$batch"
        done
    done
done
echo
echo "servers on CPUs $server_cpus, kvbench on CPUs $client_cpus; reports in $out"
first=${there[0]}
for batch in ${batches//,/ }; do
    for store in "${there[@]:1}"; do
        [ -s "$out/$first-$batch.json" ] && [ -s "$out/$store-$batch.json" ] || continue
        printf '\n%s keys a call: ' "$batch"
        # The whole table is a `kvbench --compare` away.
        "$bin/kvbench" --compare "$out/$store-$batch.json" --with "$out/$first-$batch.json" | grep -vE '^  not alike: store|^ .* (p90|p99\.9+|max) +[0-9]'
    done
done
exit "$failed"
