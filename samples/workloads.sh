#!/bin/sh
# samples/workloads.sh: the programs that `ring1 bench` times, and an initramfs that has them. One command, no root.
#
#   samples/workloads.sh                      rbench, of samples/workloads
#   samples/workloads.sh --sources FOLDER     also abench and obench, from that folder's Makefile
#
# Results, in target/workloads: rbench, abench, obench, tiny, initrd.gz. The kernel and the busybox inside are those of
# samples/debian.sh. rbench needs no C library, only gcc (or CC). abench and obench, a larger set that is not part of
# this repository, are looked for in ../shared/workloads too; they need 32-bit libraries (package gcc-multilib) and make.
set -eu

repo=$(cd "$(dirname "$0")/.." && pwd)
target=${CARGO_TARGET_DIR:-$repo/target}
out=$target/workloads
sources=

die() { echo "workloads.sh: $*" >&2; exit 1; }
say() { echo "workloads.sh: $*" >&2; }

while [ $# -gt 0 ]; do
    case $1 in
    --sources) [ $# -gt 1 ] || die "--sources needs a folder"; sources=$2; shift ;;
    -h | --help) sed -n '2,/^set /{s/^# \{0,1\}//p}' "$0"; exit 0 ;;
    *) die "unknown option $1; see --help" ;;
    esac
    shift
done

build_own() {
    # shellcheck disable=SC2086  # CC may have arguments
    ${CC:-gcc} -m32 -O2 -march=i686 -mtune=generic -mfpmath=387 -std=gnu11 -Wall -Wextra -ffreestanding \
        -fno-pie -no-pie -fno-stack-protector -fcf-protection=none -fno-asynchronous-unwind-tables -fno-strict-aliasing \
        -nostdlib -static -Wl,--build-id=none -Wl,-z,noexecstack \
        "$repo/samples/workloads/rbench.c" "$repo/samples/workloads/workloads.c" -o "$out/rbench" ||
        die "rbench needs gcc, or another compiler named by CC, that accepts -m32"
}

# A larger set, if its sources are at hand.
build_others() {
    if [ -n "$sources" ]; then
        [ -e "$sources/Makefile" ] || die "there is no Makefile in $sources"
    elif [ -e "$repo/../shared/workloads/Makefile" ]; then
        sources=$repo/../shared/workloads
    else
        return 0
    fi
    if ! command -v make >/dev/null; then
        say "abench and obench are left out: they need make"
    elif make -s -C "$sources" B="$out" >"$out/make.log" 2>&1; then
        rm -f "$out/timeit"
    else
        cat "$out/make.log" >&2
        rm -f "$out/abench" "$out/obench" "$out/tiny"
        say "abench and obench are left out: they need the package gcc-multilib"
    fi
    rm -rf "$out/o" "$out/make.log"
}

pack() {
    root=$out/root
    rm -rf "$root"
    mkdir -p "$root/bin" "$root/bench" "$root/dev" "$root/proc" "$root/sys" "$root/tmp"
    cp "$target/debian/busybox" "$root/bin/busybox"
    cp "$repo/samples/workloads/init" "$root/init"
    for program in rbench abench obench tiny; do
        [ ! -e "$out/$program" ] || cp "$out/$program" "$root/bench/"
    done
    # A fresh Debian has no cpio; busybox's own is good enough, and an i386 static program runs on x86-64.
    if command -v cpio >/dev/null; then cpio=cpio; else cpio="$root/bin/busybox cpio"; fi
    # shellcheck disable=SC2086  # two words
    (cd "$root" && find . | LC_ALL=C sort | $cpio -o -H newc -R 0:0 2>/dev/null) >"$out/initrd.cpio" ||
        die "cannot pack the initramfs: cpio is needed (package cpio)"
    gzip -9n <"$out/initrd.cpio" >"$out/initrd.part"
    mv "$out/initrd.part" "$out/initrd.gz"
    rm -rf "$root" "$out/initrd.cpio"
    say "$out is ready: cargo run --release -- bench"
}

"$repo/samples/debian.sh" --fetch-only
rm -rf "$out"
mkdir -p "$out"
build_own
build_others
pack
