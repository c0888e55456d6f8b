# step TEXT COMMAND...: runs a command with its output in a log; sourced by ./run and ./test.
# shellcheck shell=bash
# On a terminal the last line of the output is shown behind the text while it runs; elsewhere the text alone, once.
# When the command fails, the end of its output is shown and the script ends.

step() {
    local text=$1 log status=0 started=$SECONDS
    shift
    log=$(mktemp "${TMPDIR:-/tmp}/anyhyve-step.XXXXXX")
    if [ -t 2 ]; then
        show_progress "$text" "$log" $$ &
        local shower=$!
        "$@" </dev/null >"$log" 2>&1 || status=$?
        kill "$shower" 2>/dev/null
        wait "$shower" 2>/dev/null || true
        printf '\r\033[K' >&2
        [ "$status" = 0 ] && [ $((SECONDS - started)) -ge 1 ] && echo "$text: $((SECONDS - started)) s" >&2
    else
        echo "$text" >&2
        "$@" </dev/null >"$log" 2>&1 || status=$?
    fi
    if [ "$status" != 0 ]; then
        echo "$text: failed with status $status:" >&2
        tail -n 40 "$log" >&2
        rm -f "$log"
        exit "$status"
    fi
    rm -f "$log"
}

# Until it is killed, or the script's process is gone.
show_progress() {
    local text=$1 log=$2 parent=$3 width line
    width=$(tput cols 2>/dev/null || echo 80)
    while kill -0 "$parent" 2>/dev/null; do
        line=$(tail -c 400 "$log" 2>/dev/null | tr '\r' '\n' | tail -n 1 | tr -cd '[:print:]')
        printf '\r\033[K%.*s' $((width - 1)) "$text  $line" >&2
        sleep 0.2
    done
}
