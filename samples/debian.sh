#!/bin/sh
# samples/debian.sh: Debian's stock i386 kernel with a busybox initramfs, booted by ring1. One command, no root.
#
#   samples/debian.sh                         fetch what is missing, boot the 686 kernel to a shell
#   samples/debian.sh --pae                   the same with the 686-pae kernel
#   samples/debian.sh --fetch-only            fetch and build only
#   samples/debian.sh --run 'uname -a'        run commands instead of the shell, then power off
#   samples/debian.sh -- --tier interp        what follows "--" goes to `ring1 boot`
#
# Results, in target/debian: vmlinuz-686, vmlinuz-686-pae, initrd.gz, and memtest86+ for the tests. A second run
# downloads nothing.
# The packages come through apt with a private state below target/debian/apt, so the host needs neither
# the i386 architecture nor any change. RING1_DEBIAN_MIRROR names another mirror than the host's.
# RING1 names the program to run instead of a fresh build.
# Bookworm is the last Debian release with i386 kernels, so that is what is fetched, whatever the host runs.
set -eu

repo=$(cd "$(dirname "$0")/.." && pwd)
out=${CARGO_TARGET_DIR:-$repo/target}/debian
suite=bookworm
flavour=686 fetch_only=no run=

die() { echo "debian.sh: $*" >&2; exit 1; }
need() { command -v "$1" >/dev/null || die "$1 is needed ($2)"; }

while [ $# -gt 0 ]; do
    case $1 in
    --pae) flavour=686-pae ;;
    --fetch-only) fetch_only=yes ;;
    --run) [ $# -gt 1 ] || die "--run needs the commands to run"; run=$2; shift ;;
    --) shift; break ;;
    -h | --help) sed -n '2,/^set /{s/^# \{0,1\}//p}' "$0"; exit 0 ;;
    *) die "unknown option $1; see --help" ;;
    esac
    shift
done

# The host's own Debian mirrors if it runs the same release, else the public ones.
write_sources() {
    mkdir -p "$1"
    if [ -z "${RING1_DEBIAN_MIRROR:-}" ] && grep -qs "^VERSION_CODENAME=$suite$" /etc/os-release; then
        for file in /etc/apt/sources.list /etc/apt/sources.list.d/*.list /etc/apt/sources.list.d/*.sources; do
            if grep -qsE "^[^#]*/debian(-security)?/?([[:space:]]|$)" "$file"; then cp "$file" "$1/"; fi
        done
    fi
    if [ -z "$(ls "$1")" ]; then
        keys=/usr/share/keyrings/debian-archive-keyring.gpg
        [ ! -e "$keys" ] || signed=" [signed-by=$keys]"
        echo "deb${signed:-} ${RING1_DEBIAN_MIRROR:-http://deb.debian.org/debian} $suite main" >"$1/debian.list"
    fi
}

# apt_private PROGRAM ARGUMENTS...: apt for i386, blind to the host's package state.
apt_private() {
    program=$1; shift
    "$program" -q \
        -o APT::Architecture=i386 -o APT::Architectures=i386 -o APT::Sandbox::User="$(id -un)" \
        -o Dir::Etc::SourceList=/dev/null -o Dir::Etc::SourceParts="$apt/sources" \
        -o Dir::State="$apt" -o Dir::State::status="$apt/status" -o Dir::Cache="$apt/cache" \
        "$@"
}

prepare_apt() {
    need apt-get "or put vmlinuz-686, vmlinuz-686-pae and an i386 static busybox into $out yourself"
    apt=$out/apt
    rm -rf "$apt"
    mkdir -p "$apt/lists/partial" "$apt/cache/archives/partial"
    : >"$apt/status"
    write_sources "$apt/sources"
    # One unreachable or half-synchronised list is no reason to stop: what matters is what can be found.
    apt_private apt-get update >"$apt/update.log" 2>&1 || true
    apt_private apt-cache show linux-image-686 >/dev/null 2>&1 || { tail -n 20 "$apt/update.log" >&2; die "apt found no i386 packages"; }
}

# fetch_file PACKAGE PATTERN TO: the file of PACKAGE whose path matches PATTERN.
fetch_file() {
    rm -rf "$out/unpack"
    mkdir -p "$out/unpack"
    (cd "$out/unpack" && apt_private apt-get download "$1" >download.log 2>&1) || { cat "$out/unpack/download.log" >&2; die "cannot download $1"; }
    dpkg-deb --fsys-tarfile "$out"/unpack/*.deb | tar -x -C "$out/unpack" --wildcards "$2" || die "$1 holds no $2"
    # shellcheck disable=SC2086  # the pattern is meant to expand
    mv "$out/unpack"/$2 "$3"
    rm -rf "$out/unpack"
    echo "debian.sh: $3 is from $1" >&2
}

# linux-image-686 is an empty package that depends on the current kernel.
current_kernel() {
    apt_private apt-cache depends "linux-image-$1" | sed -n "s/.*Depends: \(linux-image-[0-9].*-$1\)$/\1/p" | head -n 1
}

fetch_missing() {
    missing=
    for each in vmlinuz-686 vmlinuz-686-pae busybox memtest86+; do [ -e "$out/$each" ] || missing=yes; done
    [ -n "$missing" ] || return 0
    prepare_apt
    need dpkg-deb "package dpkg"
    for each in 686 686-pae; do
        [ -e "$out/vmlinuz-$each" ] && continue
        package=$(current_kernel "$each")
        [ -n "$package" ] || die "cannot tell which kernel linux-image-$each stands for"
        fetch_file "$package" "./boot/vmlinuz-*" "$out/vmlinuz-$each"
    done
    [ -e "$out/busybox" ] || fetch_file busybox-static ./bin/busybox "$out/busybox"
    [ -e "$out/memtest86+" ] || fetch_file memtest86+ "./boot/memtest86+ia32.bin" "$out/memtest86+"
}

write_init() {
    cat >"$1" <<'INIT'
#!/bin/busybox sh
# The first process: a shell on the console, or the commands of ring1.run="..." (kernel command line) or /ring1.run.
/bin/busybox mkdir -p /proc /sys /dev /tmp /root /sbin /usr/bin /usr/sbin
/bin/busybox --install -s
export PATH=/bin:/sbin:/usr/bin:/usr/sbin HOME=/root TERM=${TERM:-linux}
mount -t proc proc /proc
mount -t sysfs sys /sys
mount -t devtmpfs dev /dev 2>/dev/null
echo "READY $(cat /proc/uptime)"
commands=$(sed -n 's/.*ring1\.run="\([^"]*\)".*/\1/p; t; s/.*"ring1\.run=\([^"]*\)".*/\1/p; t; s/.*ring1\.run=\([^ ]*\).*/\1/p' /proc/cmdline)
cd /root
if [ -n "$commands" ]; then
    sh -c "$commands"
    echo "DONE $?"
elif [ -e /ring1.run ]; then
    sh /ring1.run
    echo "DONE $?"
else
    setsid cttyhack sh
fi
sync
poweroff -f
INIT
    chmod +x "$1"
}

# A fresh Debian has no cpio; busybox's own is good enough, and an i386 static program runs on x86-64.
pack() {
    if command -v cpio >/dev/null; then
        cpio -o -H newc --quiet -R 0:0
    elif "$out/busybox" true 2>/dev/null; then
        "$out/busybox" cpio -o -H newc -R 0:0
    else
        die "cpio is needed (package cpio): this host cannot run the i386 busybox"
    fi
}

build_initrd() {
    if [ "$out/initrd.gz" -nt "$out/busybox" ] && [ "$out/initrd.gz" -nt "$0" ]; then return; fi
    root=$out/root
    rm -rf "$root"
    mkdir -p "$root/bin" "$root/dev" "$root/proc" "$root/sys" "$root/tmp" "$root/root"
    cp "$out/busybox" "$root/bin/busybox"
    chmod 755 "$root/bin/busybox"
    write_init "$root/init"
    (cd "$root" && find . | LC_ALL=C sort | pack) >"$out/initrd.cpio" || die "cannot pack the initramfs"
    gzip -9n <"$out/initrd.cpio" >"$out/initrd.part"
    mv "$out/initrd.part" "$out/initrd.gz"
    rm -rf "$root" "$out/initrd.cpio"
    echo "debian.sh: $out/initrd.gz is ready" >&2
}

mkdir -p "$out"
# One at a time, if several are started at once.
(
    ! command -v flock >/dev/null || flock 9
    fetch_missing
    build_initrd
) 9>"$out/lock"
[ "$fetch_only" = no ] || exit 0
append="console=ttyS0"
[ -z "$run" ] || append="$append ring1.run=\"$run\""
set -- boot --kernel "$out/vmlinuz-$flavour" --initrd "$out/initrd.gz" --append "$append" "$@"
[ -z "${RING1:-}" ] || exec "$RING1" "$@"
cd "$repo"
exec cargo run --release -- "$@"
