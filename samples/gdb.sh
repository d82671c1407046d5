#!/bin/sh
# samples/gdb.sh: a GDB session inside the kernel of ring1's own guest, stopped where its first system call arrives.
#
#   samples/gdb.sh                            stop there, with source and backtrace, and take commands
#   samples/gdb.sh -ex 'break process_exit'   what is given goes to GDB, which runs it after that
#
# The guest's console is this terminal. It ends with GDB. RING1 names the program to run instead of a fresh build.
set -eu

repo=$(cd "$(dirname "$0")/.." && pwd)

die() { echo "gdb.sh: $*" >&2; exit 1; }

case ${1:-} in -h | --help) sed -n '2,/^set /{s/^# \{0,1\}//p}' "$0"; exit 0 ;; esac
command -v gdb >/dev/null || die "gdb is needed (package gdb)"
if [ -z "${RING1:-}" ]; then
    (cd "$repo" && cargo build -q --release)
    RING1=${CARGO_TARGET_DIR:-$repo/target}/release/ring1
fi

# Socket and symbols are this session's own.
private=$(mktemp -d)
guest=
finish() {
    [ -z "$guest" ] || kill "$guest" 2>/dev/null || true
    wait
    # All but that GDB could connect.
    [ ! -e "$private/messages" ] || sed '/^ring1: GDB can connect/d' "$private/messages" >&2
    rm -rf "$private"
}
trap finish EXIT
# Ctrl-C is for GDB.
trap : INT

"$RING1" guest "$private/demo.elf"
setsid "$RING1" boot --kernel "$private/demo.elf" --gdb "$private/socket" --gdb-wait \
    </dev/null 2>"$private/messages" &
guest=$!
while [ ! -S "$private/socket" ]; do
    kill -0 "$guest" 2>/dev/null || die "the guest does not start"
    sleep 0.05
done
gdb -q -iex 'set confirm off' -d "$repo" "$private/demo.elf" -ex "target remote $private/socket" \
    -ex 'break system_call' -ex continue -ex backtrace "$@"
