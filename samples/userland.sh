#!/bin/sh
# samples/userland.sh: whole programs. A Debian i386 userland as initramfs; what its programs write in ring1 must
# be, byte by byte, what the same programs write on this host.
#
#   samples/userland.sh                       make, native, ring1, compare
#   samples/userland.sh make                  debootstrap the tree and pack it, if that has not been done
#   samples/userland.sh native                run the work list on this host, in the tree
#   samples/userland.sh ring1 | qemu          run it in a guest
#   samples/userland.sh compare               native and ring1: what differs, and how long it took
#   samples/userland.sh shell                 boot to a shell; Ctrl-A x leaves
#
# Verbs may be combined. Options:
#   --parts 'python c'                        some of the work list: python openssl c sqlite pack perl perlop
#   --pae                                     the 686-pae kernel
#   -- --tier interp                          what follows "--" goes to `ring1 boot`
#
# The work list is samples/userland/worklist.sh. Tree, initramfs and results are in target/debian/userland.
# To make the tree takes root and debootstrap, from Debian's package of that name; the native side, root or user
# namespaces. RING1 names the program to run, RING1_DEBIAN_MIRROR another mirror. The guest gets 1.5 GiB, for all of
# the tree is in memory.
set -eu

repo=$(cd "$(dirname "$0")/.." && pwd)
debian=${CARGO_TARGET_DIR:-$repo/target}/debian
out=$debian/userland
tree=$out/tree
here=$repo/samples/userland
mirror=${RING1_DEBIAN_MIRROR:-http://deb.debian.org/debian}
suite=bookworm
packages=python3,libpython3.11-testsuite,perl,gcc,libc6-dev,sqlite3,openssl,xz-utils,busybox-static
memory=1536
flavour=686 parts= verbs=

die() { echo "userland.sh: $*" >&2; exit 1; }
say() { echo "userland.sh: $*" >&2; }
need() { command -v "$1" >/dev/null || die "$1 is needed (package $2)"; }

while [ $# -gt 0 ]; do
    case $1 in
    make | native | ring1 | qemu | compare | shell) verbs="$verbs $1" ;;
    --pae) flavour=686-pae ;;
    --parts) [ $# -gt 1 ] || die "--parts needs names"; parts=$2; shift ;;
    --) shift; break ;;
    -h | --help) sed -n '2,/^set /{s/^# \{0,1\}//p}' "$0"; exit 0 ;;
    *) die "unknown word $1; see --help" ;;
    esac
    shift
done

# as_root COMMAND...: in a mount and a process namespace of its own, so that nothing that is mounted stays.
as_root() {
    user=
    [ "$(id -u)" = 0 ] || user=--map-root-user
    # shellcheck disable=SC2086  # no word if it is empty
    unshare $user --mount --pid --fork "$@"
}

# Debian does not package perl's own tests; its mirror has the source that the package was made of.
fetch_perl_tests() {
    version=$(chroot "$tree" perl -e 'printf "%vd", $^V')
    curl -sfL "$mirror/pool/main/p/perl/perl_$version.orig.tar.xz" -o "$out/perl.tar.xz" || { say "no perl tests: the mirror has no perl_$version.orig.tar.xz"; return; }
    mkdir -p "$tree/ring1/perl"
    tar -xJf "$out/perl.tar.xz" -C "$tree/ring1/perl" --strip-components=1 "perl-$version/t" "perl-$version/lib/unicore"
    rm "$out/perl.tar.xz"
}

make_keys() {
    chroot "$tree" openssl genpkey -quiet -algorithm RSA -pkeyopt rsa_keygen_bits:2048 -out /ring1/rsa.pem
    chroot "$tree" openssl genpkey -quiet -algorithm ED25519 -out /ring1/ed25519.pem
    chmod 644 "$tree"/ring1/*.pem
}

make_tree() {
    [ ! -e "$tree/ring1/ed25519.pem" ] || return 0
    need debootstrap debootstrap
    [ "$(id -u)" = 0 ] || die "to make the tree takes root; after that nothing does"
    rm -rf "$tree"
    mkdir -p "$tree" "$tree/ring1"
    debootstrap --arch=i386 --variant=minbase --include=$packages $suite "$tree" "$mirror" >"$out/debootstrap.log" 2>&1 ||
        { tail -n 20 "$out/debootstrap.log" >&2; die "debootstrap failed"; }
    for useless in var/cache/apt var/lib/apt/lists usr/share/doc usr/share/man usr/share/locale usr/share/info; do
        rm -rf "${tree:?}/$useless"
    done
    fetch_perl_tests
    make_keys
}

# The first process of the guest. The console is left raw, so that bytes arrive as they were written.
write_init() {
    cat >"$1" <<'INIT'
#!/bin/sh
# The first process: the work list, with the parts of ring1.run="..." (kernel command line), or a shell.
export PATH=/usr/sbin:/usr/bin:/sbin:/bin HOME=/root TERM=linux
mount -t proc proc /proc
mount -t sysfs sys /sys
mount -t devtmpfs dev /dev 2>/dev/null
mkdir -p /dev/pts
mount -t devpts pts /dev/pts
mount -t tmpfs -o size=80% tmp /tmp
busybox ifconfig lo 127.0.0.1
dmesg -n 1
parts=$(sed -n 's/.*ring1\.run="\([^"]*\)".*/\1/p; t; s/.*"ring1\.run=\([^"]*\)".*/\1/p; t; s/.*ring1\.run=\([^ ]*\).*/\1/p' /proc/cmdline)
echo "READY $(cat /proc/uptime)"
if [ "$parts" = shell ]; then
    setsid busybox cttyhack bash
else
    stty -opost </dev/console
    [ "$parts" != all ] || parts=
    sh /ring1/worklist.sh $parts </dev/null
    echo "DONE $(cat /proc/uptime)"
fi
sync
busybox poweroff -f
INIT
    chmod +x "$1"
}

pack() { (cd "$1" && find . | LC_ALL=C sort | cpio -o -H newc --quiet -R 0:0) | gzip -1n; }

# Two archives, one after the other: the tree, which takes long, and our own files, which change.
make_initrd() {
    need cpio cpio
    if [ ! "$out/tree.gz" -nt "$tree/ring1/ed25519.pem" ]; then
        say "packing the tree"
        pack "$tree" >"$out/tree.part" && mv "$out/tree.part" "$out/tree.gz"
    fi
    rm -rf "$out/own"
    mkdir -p "$out/own/ring1"
    cp "$here"/* "$out/own/ring1/"
    cp "$here"/* "$tree/ring1/"
    write_init "$out/own/init"
    pack "$out/own" | cat "$out/tree.gz" - >"$out/initrd.gz"
    rm -rf "$out/own"
}

make_all() {
    mkdir -p "$out"
    [ -e "$debian/vmlinuz-$flavour" ] || "$repo/samples/debian.sh" --fetch-only
    make_tree
    make_initrd
}

run_native() {
    # shellcheck disable=SC2016  # expanded by the inner shell
    as_root sh -c 'tree=$1 parts=$2
        mount -t proc proc "$tree/proc" && mount --rbind /dev "$tree/dev" && mount -t tmpfs tmp "$tree/tmp" || exit 1
        exec chroot "$tree" /usr/bin/env -i sh /ring1/worklist.sh $parts' - "$tree" "$parts" >"$out/native.txt"
}

# The program to run; built if none was named.
ring1() {
    if [ -z "${RING1:-}" ]; then
        (cd "$repo" && cargo build -q --release)
        RING1=$repo/target/release/ring1
        [ -z "${CARGO_TARGET_DIR:-}" ] || RING1=$CARGO_TARGET_DIR/release/ring1
    fi
    echo "$RING1"
}

# What the guest calls processor time goes on while its machine has to wait for a processor: this puts the time in
# that the process has had on this host.
charge() {
    perl -e '
        $| = 1;
        my ($file, $began, $ended) = (shift, 0, 0);
        sub used {
            open my $f, "<", $file or return 0;
            open my $stat, "<", "/proc/" . (<$f> + 0) . "/stat" or return 0;
            my @field = split / /, <$stat> =~ s/.*\) //sr;
            return ($field[11] + $field[12]) / 100;
        }
        while (<STDIN>) {
            $began = used() if /^\@step /;
            $ended = used() if /^\@status /;
            s/^(\@cpu \S+ ).*/sprintf "%s%.2f", $1, $ended - $began/e;
            print;
        }' "$out/$to.pid"
}

# run NAME COMMAND...: a guest; what it writes goes to NAME.txt.
run() {
    to=$1; shift
    # shellcheck disable=SC2016  # expanded by the inner shell
    sh -c 'echo $$ >"$1"; shift; exec "$@"' - "$out/$to.pid" "$@" </dev/null | charge >"$out/$to.txt"
}

append="console=ttyS0 quiet ring1.run="

run_qemu() {
    need qemu-system-i386 qemu-system-x86
    run qemu qemu-system-i386 -accel tcg -cpu max -m $memory -nodefaults -display none -serial stdio -no-reboot \
        -kernel "$debian/vmlinuz-$flavour" -initrd "$out/initrd.gz" -append "$append\"${parts:-all}\""
}

# results FILE: without what measures time and names the machine: our marks, what Python's test runner says of both,
# and in Perl's tests the addresses of objects and the names of temporary files.
results() {
    LC_ALL=C sed -n '/^@step/,/^DONE/p' "$1" | LC_ALL=C sed -E \
        -e '/^@time |^@cpu |^DONE /d' \
        -e '/^== (Linux-|cwd: |CPU count: )/d' \
        -e 's/^[0-9]+:[0-9]{2}:[0-9]{2} (load avg: [0-9.]+ )?//' \
        -e 's/^(\[[0-9]+\/[0-9]+\] test_[a-z]+) -- test_[a-z]+ passed in .*/\1/' \
        -e 's/^(Ran [0-9]+ tests) in [0-9.]+s$/\1/' \
        -e 's/^Total duration: .*/Total duration/' \
        -e "s/\\(0x[0-9a-f]+\\)/(ADDRESS)/; s/^(ok .*'%-p' .*'x y'\/)'[0-9a-f]+'/\\1ADDRESS/; s/tmp_[A-Z]+_[A-Z]+/TEMPORARY/"
}

# durations: of each step, on all sides that have been run: processor time, wall time, and ratios of the former.
durations() {
    for side in native ring1 qemu; do
        [ ! -e "$out/$side.txt" ] || sed -n "s/^@\(time\|cpu\) \([^ ]*\) \(.*\)/$side \1 \2 \3/p" "$out/$side.txt"
    done | awk '
        { sub(/^perl_.*/, "perl_op_tests", $3) }
        !($3 in seen) { order[++n] = $3; seen[$3] = 1 }
        { t[$1, $2, $3] += $4 }
        function of(side, kind, name) { return (side, kind, name) in t ? sprintf("%.2f", t[side, kind, name]) : "-" }
        function ratio(side, name) { return (side, "cpu", name) in t && t["native", "cpu", name] > 0.05 ? sprintf("%.1f", t[side, "cpu", name] / t["native", "cpu", name]) : "-" }
        END {
            print "processor time, wall time, ratio of processor time to native"
            printf "%-32s %8s %8s %8s %8s %6s %8s %8s %6s\n", "", "native", "", "ring1", "", "", "qemu", "", ""
            for (i = 1; i <= n; i++) {
                name = order[i]
                printf "%-32s %8s %8s %8s %8s %6s %8s %8s %6s\n", name, of("native", "cpu", name), of("native", "time", name), \
                    of("ring1", "cpu", name), of("ring1", "time", name), ratio("ring1", name), \
                    of("qemu", "cpu", name), of("qemu", "time", name), ratio("qemu", name)
            }
        }'
}

compare() {
    results "$out/native.txt" >"$out/native.results"
    results "$out/ring1.txt" >"$out/ring1.results"
    durations
    steps=$(grep -ac '^@step' "$out/native.results")
    if cmp -s "$out/native.results" "$out/ring1.results"; then
        say "$steps steps, $(wc -c <"$out/native.results") bytes: the same"
    else
        diff -a "$out/native.results" "$out/ring1.results" >"$out/differences" || true
        head -n 40 "$out/differences"
        die "the results differ: $out/differences"
    fi
}

for verb in ${verbs:-make native ring1 compare}; do
    say "$verb"
    case $verb in
    make) make_all ;;
    native) run_native ;;
    ring1) run ring1 "$(ring1)" boot --kernel "$debian/vmlinuz-$flavour" --initrd "$out/initrd.gz" --memory $memory --append "$append\"${parts:-all}\"" "$@" ;;
    qemu) run_qemu ;;
    compare) compare ;;
    shell) "$(ring1)" boot --kernel "$debian/vmlinuz-$flavour" --initrd "$out/initrd.gz" --memory $memory --append "${append}shell" "$@" ;;
    esac
done
