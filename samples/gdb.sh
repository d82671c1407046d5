#!/bin/sh
# samples/gdb.sh: a GDB session inside a guest's kernel, stopped where its first system call arrives. One command, no root.
#
#   samples/gdb.sh                              the kernel of ring1's own guest, with its source
#   samples/gdb.sh --debian                     Debian's 686 kernel, with the names that it knows itself
#   samples/gdb.sh -ex 'break process_exit'     what else is given goes to GDB, which runs it after that
#
# The guest's console is this terminal, without input. The guest ends with GDB. RING1 names the program to run instead
# of a fresh build. For Debian's kernel samples/debian.sh fetches what is missing; sources and lines are in its package
# of debug symbols, see docs/debugging.md.
set -eu

repo=$(cd "$(dirname "$0")/.." && pwd)
target=${CARGO_TARGET_DIR:-$repo/target}
debian=no

die() { echo "gdb.sh: $*" >&2; exit 1; }

case ${1:-} in
-h | --help) sed -n '2,/^set /{s/^# \{0,1\}//p}' "$0"; exit 0 ;;
--debian) debian=yes; shift ;;
esac
command -v gdb >/dev/null || die "gdb is needed (package gdb)"
if [ -z "${RING1:-}" ]; then
    (cd "$repo" && cargo build -q --release)
    RING1=$target/release/ring1
fi

# Socket and messages are this session's own.
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

# From lines such as "c1000000 T _text", symbols in a section that begins at 3 GiB and has no contents.
to_assembly() {
    tr -d '\r' | awk '
        BEGIN { print ".section .kernel, \"ax\", @nobits\nstart: .space 0x4000000" }
        $1 ~ /^c[0-3]/ && $2 ~ /^[tTwW]$/ && $3 ~ /^[A-Za-z_][A-Za-z0-9_.]*$/ && NF == 3 && !seen[$3]++ {
            printf ".globl %s\n.type %s, @function\n.set %s, start + 0x%s - 0xc0000000\n", $3, $3, $3, $1
        }'
}

# debian_symbols TO: an ELF file with the symbols that /proc/kallsyms lists.
debian_symbols() {
    [ "$1" -nt "$debian_files/vmlinuz-686" ] && return
    "$RING1" boot --kernel "$debian_files/vmlinuz-686" --initrd "$debian_files/initrd.gz" \
        --append 'console=ttyS0 quiet nokaslr ring1.run="cat /proc/kallsyms"' </dev/null |
        to_assembly >"$private/symbols.s"
    grep -q entry_INT80_32 "$private/symbols.s" || die "Debian's kernel does not list its symbols"
    gcc -m32 -nostdlib -static -Wl,--section-start=.kernel=0xc0000000 -Wl,--build-id=none -Wl,-e,0 \
        "$private/symbols.s" -o "$private/symbols.elf"
    mv "$private/symbols.elf" "$1"
}

if [ "$debian" = yes ]; then
    debian_files=$target/debian
    "$repo/samples/debian.sh" --fetch-only
    symbols=$debian_files/symbols-686.elf
    debian_symbols "$symbols"
    set -- -ex 'break *entry_INT80_32' -ex 'break *entry_SYSENTER_32' -ex continue -ex 'x/3i $pc' "$@"
    boot() {
        exec setsid "$RING1" boot --kernel "$debian_files/vmlinuz-686" --initrd "$debian_files/initrd.gz" \
            --append 'console=ttyS0 quiet nokaslr' "$@"
    }
else
    symbols=$private/demo.elf
    "$RING1" guest "$symbols"
    set -- -ex 'break system_call' -ex continue -ex backtrace "$@"
    boot() { exec setsid "$RING1" boot --kernel "$symbols" "$@"; }
fi

boot --gdb "$private/socket" --gdb-wait </dev/null 2>"$private/messages" &
guest=$!
while [ ! -S "$private/socket" ]; do
    kill -0 "$guest" 2>/dev/null || die "the guest does not start"
    sleep 0.05
done
gdb -q -iex 'set confirm off' -d "$repo" "$symbols" -ex "target remote $private/socket" "$@"
