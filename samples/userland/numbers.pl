# What of Perl depends on the processor: conversions, formats, integers of 64 bits, regular expressions,
# sorting, big numbers, digests, serialisation. Prints all results; always the same ones.
use strict;
use warnings;
use Digest::MD5 qw(md5_hex);
use Digest::SHA qw(sha1_hex sha256_hex sha512_hex);
use List::Util qw(sum max shuffle reduce);
use Math::BigFloat;
use Math::BigInt;
use Math::Complex;
use POSIX qw(floor ceil fmod strtod strtol);
use Storable qw(freeze thaw dclone);
use Time::Local qw(timegm);

my $state = 2026;

sub random {
    my ($bound) = @_;
    $state = ($state * 16807) % 2147483647;
    return $state % $bound;
}

sub formats {
    for my $i (1 .. 2000) {
        my $n = (random(2000000) - 1000000) * 10**(random(40) - 20);
        printf "%s %d %.15g %e %#x %o %b %s %s\n", $n, $n, $n, $n, $i * 77777, $i, $i, int($n), $n <=> $i;
        print join(" ", sqrt(abs $n), sin($n), cos($n), atan2($n, $i), exp($i / 100), log($i), $n**3, fmod($n, 7), floor($n), ceil($n)), "\n";
        print join(" ", $i <<  (random(31)), $i * 4294967296 % 1000003, -$i >> 3, ~$i, $i ^ random(65536), -$i / 3, -$i % 7), "\n";
    }
}

sub packs {
    for my $i (1 .. 500) {
        my $bytes = pack("cCsSlLqQnNvVfdwU", -$i % 128, $i % 256, $i, $i, -$i * 65537, $i * 65537, -$i * 3e9, $i * 3e9, $i, $i, $i, $i, $i / 7, $i / 3, $i * 99991, $i + 300);
        print unpack("H*", $bytes), " ", unpack("%32C*", $bytes), "\n";
        print join(" ", unpack("cCsSlLqQnNvVfdw", $bytes)), "\n";
    }
}

sub texts {
    my $text = join " ", map { random(1000000) . chr(97 + random(26)) } 1 .. 20000;
    my %count;
    $count{$1}++ while $text =~ /([0-9]{2})[0-9]*[aeiou]/g;
    print "$_ $count{$_}\n" for sort { $count{$b} <=> $count{$a} || $a cmp $b } keys %count;
    (my $changed = $text) =~ s/(\d+)([a-z])/$2 . ($1 * 3)/ge;
    print md5_hex($changed), " ", ($changed =~ tr/a-m/n-z/), " ", length($changed), "\n";
    my @words = sort { lc $a cmp lc $b } split / /, $changed;
    print "@words[0 .. 20] ", sha1_hex("@words"), "\n";
    print join(" ", map { sprintf "%vd", $_ } "1.22.333", "\x{263a}\x{1f600}"), "\n";
    print sha256_hex($text x 20), " ", sha512_hex($text x 20), "\n";
}

sub big_numbers {
    print Math::BigInt->new(300)->bfac(), "\n", Math::BigInt->new(3)->bpow(2000), "\n";
    print Math::BigFloat->bpi(200), "\n", Math::BigFloat->new(2)->bsqrt(150), "\n";
    print Math::BigInt->new("123456789" x 9)->bmodpow("987654321" x 5, "1000000007" x 4), "\n";
    print sqrt(-2), " ", exp(i * pi), " ", root(1, 5), "\n";
}

sub structures {
    my $tree = { map { ("key$_" => [ map { random(1000) / 7 } 1 .. 20 ]) } 1 .. 200 };
    local $Storable::canonical = 1;
    my $frozen = freeze($tree);
    my $copy = dclone(thaw($frozen));
    print md5_hex($frozen), " ", sum(map { sum(@$_) } map { $copy->{$_} } sort keys %$copy), "\n";
    print join(" ", map { timegm($_, 1, 2, 3, 4, 90 + $_) . " " . gmtime($_ * 99999999) } 0 .. 30), "\n";
    print reduce { $a * 31 % 1000003 + $b } map { ord } split //, join ",", sort keys %$tree;
    print "\n", join(" ", scalar strtod("0x1.8p3"), scalar strtol("-zz", 36), "1e308" * 10, -17 / 4, 1e15 + 0.3, 0.1 + 0.2), "\n";
}

formats();
packs();
texts();
big_numbers();
structures();
