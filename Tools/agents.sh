# Sourced by the benches: three real agents of one cluster on this machine, with TLS and synced writes, in a folder that goes away.
#
#     three_agents       founds the cluster and the space `bench`, and waits until both bear a loss
#     start N            runs agent N; its process is in pids[N]
#     admin N, all       the admin address of N; options that name all of them
#     until_good WORDS   repeats a command until it succeeds, for at most a minute
#     separate_networks  before: gives each agent a network namespace, "$bridge-N", on one bridge; fails without the right
#
# These may be replaced before: `host N`, the address of agent N; `inside N`, the words that run a command where it lives;
# `more_options N`, for agent N; `finish_more`, what else has to end.
muster=${MUSTER:-.build/release/muster}
port=${PORT:-17570}
[[ -x $muster ]] || { printf 'There is no %s; build it with: Tools/check build\n' "$muster" >&2; exit 1; }
folder=$(mktemp -d)
# Global also where this is sourced inside of a function: what ends them runs after it.
declare -gA pids=()
others=()
bridge=
finish_more() { :; }
finish() {
    local pid
    for pid in "${pids[@]}" "${others[@]}"; do kill -9 "$pid" 2>/dev/null || true; done
    wait 2>/dev/null || true
    # What guests said lies in memory; links of their directories lead there.
    find "$folder" -name serial.log -type l -exec sh -c 'rm -f "$(readlink "$1")"' _ {} \; 2>/dev/null || true
    finish_more
    [[ -z $bridge ]] || end_networks
    rm -rf "$folder"
}
trap finish EXIT
trap 'exit 130' INT TERM
inside() { :; }
more_options() { :; }
host() { printf 127.0.0.1; }
admin() { printf '%s:%d' "$(host "$1")" $((port + 2 * $1 + 1)); }
options() { printf -- '--node-data %s/n%d --node-name n%d --node-zone zone-%d --peer-listen %s:%d --admin-listen %s' \
    "$folder" "$1" "$1" "$1" "$(host "$1")" $((port + 2 * $1)) "$(admin "$1")"; }
start() {
    # shellcheck disable=SC2046 # The options are words.
    $(inside "$1") "$muster" agent $(options "$1") $(more_options "$1") >>"$folder/n$1.log" 2>&1 &
    pids[$1]=$!
    # The shell need not remark on its end.
    disown
}
export MUSTER_IDENTITY=$folder/n1/operator
separate_networks() {
    local n
    ip link add "mu$$" type bridge 2>/dev/null || return 1
    bridge=mu$$
    # A block of addresses that is meant for tests of networks.
    host() { printf '198.18.77.%d' "$1"; }
    inside() { printf "ip netns exec %s-%d" "$bridge" "$1"; }
    ip address add 198.18.77.254/24 dev "$bridge"
    ip link set "$bridge" up
    for n in 1 2 3; do
        ip netns add "$bridge-$n"
        ip link add "$bridge-$n" type veth peer name eth0 netns "$bridge-$n"
        ip link set "$bridge-$n" master "$bridge" up
        $(inside "$n") ip link set lo up
        $(inside "$n") ip address add "$(host "$n")/24" dev eth0
        $(inside "$n") ip link set eth0 up
    done
}
end_networks() {
    local n
    for n in 1 2 3; do ip netns delete "$bridge-$n" 2>/dev/null || true; done
    ip link delete "$bridge" 2>/dev/null || true
}
until_good() { local i; for ((i = 0; i < 300; i++)); do "$@" >/dev/null 2>&1 && return; sleep 0.2; done; echo "Gave up on: $*" >&2; tail -n 5 "$folder"/*.log >&2; exit 1; }
bears_loss() { "$muster" status -o json "${all[@]}" | tr -d ' \n' | grep -q '"alarms":\[\]'; }
all_vote() { (($("$muster" node list "${all[@]}" | grep -c ' voter ') == 3)); }
three_agents() {
    local n token
    all=(--address "$(admin 1)" --address "$(admin 2)" --address "$(admin 3)")
    # shellcheck disable=SC2046
    $(inside 1) "$muster" init --no-start $(options 1) >/dev/null 2>&1
    start 1
    until_good "$muster" token list "${all[@]}"
    token=$("$muster" token create --uses 2 "${all[@]}" 2>/dev/null)
    for n in 2 3; do
        # shellcheck disable=SC2046
        $(inside "$n") "$muster" join "$token" $(options "$n") >/dev/null 2>&1
        start "$n"
    done
    until_good all_vote
    "$muster" space create bench "${all[@]}" >/dev/null
    until_good "$muster" kv put bench warm up "${all[@]}"
    until_good bears_loss
}
