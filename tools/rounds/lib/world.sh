# The world of a round: what this machine allows, namespaces, cuts, disks. Sourced by `run`.

subnet=10.77.0
client_ip=$subnet.100

skip() { echo "rounds: skipped: $*"; exit 3; }

# Leaves with exit code 3 and the reason when attacks are not possible here.
may_we() {
    local tool
    for tool in kvnode kvctl kvbench lincheck; do
        [ -x "$bin/$tool" ] || { echo "rounds: $bin/$tool is not there: cargo build --release -p kvnode -p kvctl -p kvbench -p lincheck" >&2; exit 2; }
    done
    [ "$(id -u)" = 0 ] || skip "needs root for network namespaces, cuts and mounts"
    for tool in nft ip jq unshare nsenter; do
        command -v "$tool" >/dev/null || skip "$tool is missing (packages nftables iproute2 jq util-linux)"
    done
    unshare --mount --pid --net --fork --mount-proc true 2>/dev/null || skip "namespaces are refused here"
    unshare --net nft add table inet probe 2>/dev/null || skip "nftables are refused here"
}

# True when a file system in a file can be mounted and shut down.
disks_work() {
    local at=$tmp/probe rc=1
    disks=
    mkdir -p "$at/mnt"
    if command -v xfs_io mkfs.xfs mkfs.ext4 >/dev/null 2>&1 && disk_make ext4 "$at/img" "$at/mnt"; then
        xfs_io -x -c shutdown "$at/mnt" 2>/dev/null && disks=yes rc=0
        umount "$at/mnt"
    fi 2>/dev/null
    rm -rf "$at"
    return $rc
}

# disk_make xfs|ext4 IMAGE MOUNT: a small sparse file system, mounted.
disk_make() {
    rm -f "$2"
    truncate -s 320M "$2"
    case $1 in
        xfs) mkfs.xfs -q -K "$2" ;;
        ext4) mkfs.ext4 -q -F -E nodiscard "$2" ;;
    esac
    mount -o loop "$2" "$3"
}

# in_net HOST COMMAND..: runs it in the network namespace of HOST. Not `ip netns exec`: that copies all mounts.
in_net() { local host=$1; shift; nsenter --net="/run/netns/$host" "$@"; }

# Names of namespaces go to a folder that only we see.
net_base() { mkdir -p /run/netns; mount -t tmpfs -o mode=755 rounds /run/netns; }

# A hub and a host for each node and the client.
net_up() {
    local i
    ip netns add hub
    ip -n hub link add hub type bridge
    ip -n hub link set hub up
    for i in $(seq 1 "$nodes"); do host_up "n$i" "$subnet.$i"; done
    host_up client "$client_ip"
}

host_up() {
    ip netns add "$1"
    ip -n hub link add "$1" type veth peer name eth0 netns "$1"
    ip -n hub link set "$1" master hub up
    ip -n "$1" addr add "$2/24" dev eth0
    ip -n "$1" link set eth0 up
    ip -n "$1" link set lo up
    in_net "$1" nft -f - <<'NFT'
table inet faults {
    set cut { type ipv4_addr; }
    chain loss { }
    chain in { type filter hook input priority 0; policy accept; ip saddr @cut drop; jump loss; }
}
NFT
}

net_down() {
    local host
    for host in hub client $(seq -f 'n%g' 1 "$nodes"); do ip netns del "$host" 2>/dev/null || true; done
}

# deaf HOST IP..: HOST hears nothing more of these addresses; hear: it does again. One-way by nature.
deaf() { local host=$1; shift; for ip in "$@"; do in_net "$host" nft add element inet faults cut "{ $ip }"; done; }
hear() { local host=$1; shift; for ip in "$@"; do in_net "$host" nft delete element inet faults cut "{ $ip }" 2>/dev/null || true; done; }

# cut A B: both ways between nodes; heal A B.
cut() { deaf "n$1" "$subnet.$2"; deaf "n$2" "$subnet.$1"; }
heal() { hear "n$1" "$subnet.$2"; hear "n$2" "$subnet.$1"; }

# lossy PERCENT: every node loses so many of 100 packets; 0 ends it.
lossy() {
    local i
    for i in $(seq 1 "$nodes"); do
        in_net "n$i" nft flush chain inet faults loss
        [ "$1" = 0 ] || in_net "n$i" nft add rule inet faults loss iifname eth0 numgen random mod 100 '<' "$1" drop
    done
}
