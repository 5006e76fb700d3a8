# How the tour speaks: numbered steps, commands shown as they run, what they show checked.
#
#   step "Ping on the same node" "Both pods are on node1. ..."
#   show pod1 ping -c 3 10.100.36.104        prints "pod1 # ping ...", runs it, keeps its output
#   expect "3 received" "every ping is answered"
#
# The first thing that is not as said ends the tour: `fail` names the step and the reason.

if [ -t 1 ]; then
    bold=$'\e[1m' green=$'\e[32m' red=$'\e[31m' plain=$'\e[0m'
else
    bold='' green='' red='' plain=''
fi
step_number=0
step_title='before the first step'
# Output of the last `show`.
output=''

# step TITLE [TEXT]: opens a step.
step() {
    step_number=$((step_number + 1))
    step_title="step $step_number, $1"
    printf '\n%s%d. %s%s\n' "$bold" "$step_number" "$1" "$plain"
    [ -z "${2-}" ] || fold -s -w 92 <<<"$2" | sed 's/^/   /; s/ *$//'
    echo
}

# show PLACE COMMAND...: runs a command in a node or pod in the reader's sight; its output goes to
# $output too. It must succeed.
show() {
    local place=$1 status=0
    shift
    printf '   %s # %s\n' "$place" "$*"
    output=$("$demo_dir/enter" "$place" "$@" 2>&1) || status=$?
    [ -z "$output" ] || sed 's/^/      /' <<<"$output"
    [ "$status" -eq 0 ] || fail "\`$*\` on $place ended with status $status"
}

# quiet PLACE COMMAND...: the same out of sight, for what is not worth reading.
quiet() {
    local place=$1 status=0
    shift
    output=$("$demo_dir/enter" "$place" "$@" 2>&1) || status=$?
    [ "$status" -eq 0 ] || fail "\`$*\` on $place ended with status $status: $output"
}

# expect PATTERN MEANING: $output must match an extended regular expression.
expect() {
    grep -Eq -- "$1" <<<"$output" || fail "$2: expected /$1/ in the output"
    good "$2"
}

# expect_not PATTERN MEANING: $output must not match.
expect_not() {
    ! grep -Eq -- "$1" <<<"$output" || fail "$2: found /$1/ in the output"
    good "$2"
}

# expect_json FILTER MEANING: the jq filter must hold for $output.
expect_json() {
    jq -e "$1" <<<"$output" >/dev/null 2>&1 || {
        sed 's/^/      /' <<<"$output"
        fail "$2: \`$1\` does not hold for the JSON above"
    }
    good "$2"
}

good() {
    printf '   %sok%s %s\n' "$green" "$plain" "$1"
}

fail() {
    printf '\n%sFAILED%s in %s: %s\n' "$red" "$plain" "$step_title" "$1" >&2
    exit 1
}
