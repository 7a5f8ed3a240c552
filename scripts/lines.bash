# What the scripts share: where the repository is, lines of two columns, and times. Sourced, not run.

root=$(cd -- "$(dirname -- "${BASH_SOURCE[0]}")/.." && pwd)

# One line of the report: a name, and what there is to say about it.
say() {
    local name=$1
    shift
    printf '  %-21s %s\n' "$name" "$*"
}

# What stops the script: the reason, then the way out.
fail() {
    printf 'error: %s\n' "$1" >&2
    [ -z "${2:-}" ] || printf 'hint:  %s\n' "$2" >&2
    exit 1
}

# Milliseconds since 1970.
now_ms() {
    local now=$EPOCHREALTIME
    now=${now/[^0-9]/}
    printf '%s' "$((now / 1000))"
}

# Milliseconds as people read them: 812 ms, 4.1 s, 4 min 12 s.
duration() {
    local ms=$1
    if ((ms < 1000)); then
        printf '%d ms' "$ms"
    elif ((ms < 100000)); then
        printf '%d.%d s' "$((ms / 1000))" "$((ms % 1000 / 100))"
    else
        printf '%d min %d s' "$((ms / 60000))" "$((ms % 60000 / 1000))"
    fi
}

# A number with commas between its thousands.
grouped() {
    local digits=$1 out=
    while ((${#digits} > 3)); do
        out=",${digits: -3}$out"
        digits=${digits:0:${#digits}-3}
    done
    printf '%s' "$digits$out"
}

# Bytes with a unit.
bytes() {
    local size=${1:-0}
    if ((size < 1024)); then
        printf '%d B' "$size"
    elif ((size < 1048576)); then
        printf '%d KB' "$((size / 1024))"
    else
        printf '%d MB' "$((size / 1048576))"
    fi
}
