# Names and addresses of the walk-through, sourced by its scripts.
#
#   vr-node1                        vr-switch                        vr-node2
#   +---------------------+    +-----------------+    +---------------------+
#   | vrouter        eth1 |----| node1 br0 node2 |----| eth1        vrouter |
#   |  |tap   |veth  .252 |    +-----------------+    | .253          |tap  |
#   +--|------|-----------+      172.16.20.0/24       +---------------|-----+
#    vr-pod1 vr-pod2               fd00:20::/64                     vr-pod3
#   36.103  36.104                                                  169.176
#
# node1.toml and node2.toml repeat what a router must know of it.

demo_dir=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
top_dir=$(dirname "$demo_dir")

# Everything the lab keeps on disk: sockets, process ids, logs, captures.
run_dir=/run/vrouter-demo

switch_ns=vr-switch
nodes=(node1 node2)
pods=(pod1 pod2 pod3)

node1_ip4=172.16.20.252 node1_ip6=fd00:20::252
node2_ip4=172.16.20.253 node2_ip6=fd00:20::253

pod1_ip4=10.100.36.103 pod1_ip6=fd00:10:244:1::103
pod2_ip4=10.100.36.104 pod2_ip6=fd00:10:244:1::104
pod3_ip4=10.100.169.176 pod3_ip6=fd00:10:244:2::176

gateway_ip4=169.254.1.1 gateway_mac=ee:ee:ee:ee:ee:ee

# The programs: from the release build, or from VROUTER_BIN_DIR.
bin_dir=${VROUTER_BIN_DIR:-${CARGO_TARGET_DIR:-$top_dir/target}/release}

# namespace NAME: the network namespace of a node, a pod or the switch.
namespace() {
    printf 'vr-%s' "$1"
}

# api_of NODE: the API socket of a node's router.
api_of() {
    printf 'unix:%s/%s/vrouter.sock' "$run_dir" "$1"
}

need_root() {
    [ "$(id -u)" -eq 0 ] || die "network namespaces need root: run it as root, or with sudo"
}

die() {
    printf '%s: %s\n' "${0##*/}" "$*" >&2
    exit 1
}

# start_time PID: when the process started, in the kernel's clock ticks; fails when it is gone. With
# the process id it names one process for good, since ids are used again.
start_time() {
    local stat
    stat=$(cat "/proc/$1/stat" 2>/dev/null) || return 1
    # The name of the program stands in parentheses and may hold anything.
    # shellcheck disable=SC2086
    set -- ${stat##*) }
    [ "$1" != Z ] && printf '%s' "${20}"
}

# remember_process NAME PID: notes a process that `demo/down` is to end.
remember_process() {
    printf '%s %s\n' "$2" "$(start_time "$2")" >"$run_dir/$1.pid"
}

# process_of NAME: the id of a noted process; fails when it does not run.
process_of() {
    local pid started
    read -r pid started 2>/dev/null <"$run_dir/$1.pid" || return 1
    [ "$(start_time "$pid")" = "$started" ] && printf '%s' "$pid"
}
