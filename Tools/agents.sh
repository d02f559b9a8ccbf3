# Sourced by the benches: three real agents of one cluster on this machine, with TLS and synced writes, in a folder that goes away.
#
#     three_agents       founds the cluster and the space `bench`, and waits until both bear a loss
#     start N            runs agent N; its process is in pids[N]
#     admin N, all       the admin address of N; options that name all of them
#     until_good WORDS   repeats a command until it succeeds, for at most a minute
#
# These may be replaced before: `host N`, the address of agent N; `inside N`, the words that run a command where it lives;
# `more_options`, for every agent; `finish_more`, what else has to end.
muster=${MUSTER:-.build/release/muster}
port=${PORT:-17570}
[[ -x $muster ]] || { printf 'There is no %s; build it with: Tools/check build\n' "$muster" >&2; exit 1; }
folder=$(mktemp -d)
declare -A pids=()
others=()
finish_more() { :; }
finish() {
    local pid
    for pid in "${pids[@]}" "${others[@]}"; do kill -9 "$pid" 2>/dev/null || true; done
    wait 2>/dev/null || true
    finish_more
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
    $(inside "$1") "$muster" agent $(options "$1") $(more_options) >>"$folder/n$1.log" 2>&1 &
    pids[$1]=$!
    # The shell need not remark on its end.
    disown
}
export MUSTER_IDENTITY=$folder/n1/operator
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
