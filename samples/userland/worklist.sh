#!/bin/sh
# worklist.sh: what samples/userland.sh has programs do, on this host and in the guest, to compare what they write.
#
#   worklist.sh [PART...]       python openssl c sqlite pack perl perlop; all unless named
#
# Everything goes to standard output: "@step NAME" before each command, after it "@status NAME n",
# "@time NAME seconds" and "@cpu NAME seconds". All but the times, and those that programs print of themselves, has
# to be the same on both.
set -u

here=/ring1
export LC_ALL=C.UTF-8 TZ=UTC TERM=dumb COLUMNS=80 HOME=/tmp PATH=/usr/sbin:/usr/bin:/sbin:/bin
export PYTHONHASHSEED=0 PYTHONDONTWRITEBYTECODE=1 PERL_HASH_SEED=0
# A 64-bit host's C library would take FMA and AVX, which a 32-bit guest is not given, for some functions.
export GLIBC_TUNABLES=glibc.cpu.hwcaps=-FMA,-FMA4,-AVX2,-AVX
ulimit -s 8192
mkdir -p /tmp/list
cd /tmp/list || exit 1

# now: the time, and the processor time of all that has ended, both in seconds. To be run by the shell itself, for
# a subshell has no time behind it yet.
now() {
    times >/tmp/times
    date +%s.%N | awk 'NR == FNR { now = $1; next } FNR == 2 { split($1 "m" $2, t, "[ms]"); print now, 60 * t[1] + t[2] + 60 * t[4] + t[5] }' - /tmp/times
}

# step NAME COMMAND...: runs it, with marks before and after; output goes through a pipe, never to a terminal.
step() {
    name=$1; shift
    now >/tmp/before
    echo "@step $name"
    { "$@" </dev/null 2>&1; echo "@status $name $?"; } | cat
    now >/tmp/after
    paste /tmp/before /tmp/after | awk -v name="$name" '{ printf "@time %s %.2f\n@cpu %s %.2f\n", name, $3 - $1, name, $4 - $2 }'
}

python() {
    step python python3 -m test -v test_math test_float test_struct test_json test_re
}

# stream BYTES: bytes that look random, always the same.
stream() {
    head -c "$1" /dev/zero | openssl enc -aes-128-ctr -nosalt -K 000102030405060708090a0b0c0d0e0f -iv $(printf %032d 0)
}

openssl_digests() {
    for digest in md5 sha1 sha224 sha256 sha384 sha512 sha512-256 sha3-256 sha3-512 shake128 blake2b512 blake2s256 sm3 rmd160; do
        openssl dgst -$digest data || return 1
    done
    openssl dgst -sha256 -mac HMAC -macopt key:secret data
}

# Each cipher there and back, and a digest of what lies between.
openssl_ciphers() {
    key=000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f
    head -c 300000 data >plain
    for cipher in $(openssl list -cipher-commands) aes-256-ctr chacha20; do
        echo "$cipher"
        openssl enc -"$cipher" -provider legacy -provider default -K $key -iv $key -in plain -out sealed 2>/dev/null || continue
        openssl dgst -sha256 sealed
        openssl enc -d -"$cipher" -provider legacy -provider default -K $key -iv $key -in sealed 2>/dev/null | cmp - plain || return 1
    done
}

# Signatures that have no random part are compared, the others verified.
openssl_keys() {
    head -c 32 data >digest
    openssl pkeyutl -sign -inkey $here/rsa.pem -pkeyopt digest:sha256 -in digest -out signature || return 1
    openssl dgst -sha256 signature
    openssl pkeyutl -sign -rawin -inkey $here/ed25519.pem -in plain -out signature && openssl dgst -sha256 signature
    for curve in prime256v1 secp384r1 secp521r1; do
        openssl ecparam -genkey -noout -name $curve -out ec.pem && openssl pkeyutl -sign -inkey ec.pem -in digest -out signature
        openssl pkeyutl -verify -inkey ec.pem -in digest -sigfile signature || return 1
    done
    openssl genpkey -quiet -algorithm RSA -pkeyopt rsa_keygen_bits:2048 -out new.pem && openssl pkey -check -noout -in new.pem
    openssl prime -hex D5BBB96D30086EC484EBA3D7F9CAEB07
    openssl kdf -keylen 32 -kdfopt digest:SHA256 -kdfopt pass:secret -kdfopt salt:salt -kdfopt iter:20000 PBKDF2
    openssl kdf -keylen 32 -kdfopt pass:secret -kdfopt salt:salt -kdfopt n:1024 -kdfopt r:8 -kdfopt p:4 SCRYPT
}

openssl_part() {
    stream 50000000 >data
    step openssl_digests openssl_digests
    step openssl_ciphers openssl_ciphers
    step openssl_keys openssl_keys
    rm -f data
}

# The compilers' output is compared too: assembly and linked program.
c() {
    step c_generate sh -c "python3 $here/program.py >program.c && wc program.c && sha256sum program.c"
    for options in "-O0 -mfpmath=387" "-O0 -msse2 -mfpmath=sse" "-O3 -mfpmath=387" "-O3 -msse2 -mfpmath=sse" "-O3 -march=nehalem -mfpmath=sse"; do
        how=$(echo "$options" | tr -d ' ')
        step "gcc$how" sh -c "gcc -w $options -S program.c && sha256sum program.s && gcc program.s -o program -lm && sha256sum program"
        step "numbers$how" ./program 1 all
        step "program$how" ./program 1000
    done
}

sqlite_script() {
    awk 'BEGIN {
        print "create table t (id integer primary key, a integer, b real, c text);"
        print "begin;"
        for (i = 1; i <= 100000; i++) {
            x = (i * 16807 + x * 48271) % 2147483647
            printf "insert into t values (%d, %d, %d.%d / 7.0, \"row %d\");\n", i, x % 1000, x % 99991, i % 97, x
        }
        print "commit;"
    }'
    cat "$here/queries.sql"
}

sqlite() {
    sqlite_script >script.sql
    step sqlite_script sha256sum script.sql
    step sqlite sqlite3 -batch test.db ".read script.sql"
    step sqlite_file sha256sum test.db
    rm -f test.db
}

# round_trip PROGRAM OPTIONS: there, a digest, and back.
round_trip() {
    "$@" -c input >packed || return 1
    sha256sum packed
    "$1" -d -c packed | cmp - input
}

pack() {
    cat /usr/lib/python3.11/*.py /usr/lib/i386-linux-gnu/libc.so.6 /usr/lib/i386-linux-gnu/libcrypto.so.3 | head -c 12000000 >input
    step pack_input sha256sum input
    step gzip_6 round_trip gzip -n -6
    step gzip_9 round_trip gzip -n -9
    step xz_2 round_trip xz -T1 -2
    step xz_6 round_trip xz -T1 -6 --check=sha256
    rm -f input packed
}

# Perl's own tests, if userland.sh could fetch them. Left out: those that show process numbers, wait for
# signals, or ask what user, kernel and terminal are.
perlop() {
    [ -d $here/perl/t ] || { echo "perl's op tests are not here"; return; }
    # The tests look for modules in ../lib only.
    mkdir lib
    cp -rs /usr/lib/i386-linux-gnu/perl-base/. /usr/share/perl/5.*/. /usr/lib/i386-linux-gnu/perl/5.*/. lib 2>/dev/null
    cp -r $here/perl/lib/unicore lib/
    cp -r $here/perl/t . && cd t || return
    for test in op/*.t; do
        case $(basename "$test" .t) in
        alarm | exec | fork | getp* | gr* | kill* | lfs | magic | pw* | setpgrp* | sig* | sleep | srand | sselect | stat* | taint | threads | time* | waitpid | filetest_t) ;;
        *) step "perl_$(basename "$test" .t)" timeout 300 perl "$test" ;;
        esac
    done
    cd .. && rm -rf t lib
}

for part in ${*:-python openssl c sqlite pack perl perlop}; do
    case $part in
    openssl) openssl_part ;;
    perl) step perl perl $here/numbers.pl ;;
    python | c | sqlite | pack | perlop) $part ;;
    *) echo "worklist.sh: no part $part" ;;
    esac
done
