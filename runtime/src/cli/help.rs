//! What `--help` says beyond the options: examples, exit statuses, the environment.
//!
//! clap colours help and errors on its own, if they go to a terminal and the environment
//! does not object; nothing else that ring1 prints has colours.

/// The environment variables that ring1 heeds.
pub const ENVIRONMENT: &str = "\
Environment:
  NO_COLOR        if not empty, no colours
  CLICOLOR        if 0, no colours
  CLICOLOR_FORCE  if not 0, colours even where there is no terminal
  TERM            if dumb, no colours, and no line while a start-up goes on
  XDG_CACHE_HOME  the user's folder for caches, instead of ~/.cache";

/// Examples for the program.
pub const PROGRAM: &str = "\
Examples:
  ring1
      Run the embedded default guest.
  ring1 boot --kernel vmlinuz --initrd initrd.gz --append \"console=ttyS0\"
      Boot Linux with its console on this terminal; Ctrl-A x leaves.
  ring1 dump --hottest 5
      Show the default guest's five hottest blocks.";

/// Examples for `ring1 boot`.
pub const BOOT: &str = "\
Examples:
  ring1 boot --kernel vmlinuz --initrd initrd.gz --append \"console=ttyS0\"
  ring1 boot --kernel vmlinuz --append \"console=ttyS0\" --memory 256 --tier interp --stats
  ring1 boot --kernel sector.bin --flat 0x7c00 --limit 1000000
  ring1 boot --tier cranelift
      The default guest, every block compiled.
  ring1 boot debian.toml --memory 256
      The machine that the file describes, but for its memory.
  ring1 boot --kernel vmlinuz --gdb :1234 --gdb-wait
      Stopped before its first instruction, for GDB to connect.
  perf record -k mono ring1 boot --kernel vmlinuz --perf jitdump --symbols System.map
      Guest code by name in perf report, after perf inject --jit.
  ring1 -kernel vmlinuz -append \"console=ttyS0\" -m 256 -nographic
      QEMU's spelling; docs/qemu-options.md lists what is understood.";

/// For `ring1 dump`.
pub const DUMP: &str = "\
Examples:
  ring1 dump --hottest 5
  ring1 dump --format html --output demo.html
      All of them, as a page to browse in.
  ring1 dump --kernel vmlinuz --initrd initrd.gz --append \"console=ttyS0 nokaslr\" --symbols System.map --at start_kernel
  ring1 dump --kernel sector.bin --flat 0x7c00 --run-for 0 --at 0x7c00
      The image, before it has run.
  ring1 dump --tier interp --code cranelift --stages clif,optimised,host
      The hottest block by an exact count, as Cranelift compiles it.

Exit status:
  0  blocks were shown
  1  a file, a setting or the host is at fault
  2  wrong usage";

/// For `ring1 bench`.
pub const BENCH: &str = "\
Examples:
  ring1 bench
  ring1 bench workloads --only int_,call_ --runs 3
  ring1 bench --output report.html

Exit status:
  0  measured
  1  a file or the host is at fault, or checksums differ
  2  wrong usage";

/// For `ring1 compare`.
pub const COMPARE: &str = "\
Examples:
  ring1 compare
  ring1 compare --output costs.html
      The table, and a page with plots.
  ring1 compare --kernel vmlinuz --initrd initrd.gz

Exit status:
  0  measured
  1  a file or the host is at fault
  2  wrong usage";

/// For `ring1 selftest`.
pub const SELFTEST: &str = "\
Examples:
  ring1 selftest
  ring1 selftest --count 1000000 --family shift,x87 --tier interp,direct

Exit status:
  0  nothing differed
  1  something did
  2  wrong usage";

/// For `ring1 guest`.
pub const GUEST: &str = "\
Examples:
  ring1 guest demo.elf && objdump -d demo.elf
  ring1 guest demo.elf && gdb demo.elf -ex \"target remote :1234\"
      With `ring1 boot -s -S` in another terminal; samples/gdb.sh does both.";

/// For `ring1 completions`.
pub const COMPLETIONS: &str = "\
Examples:
  ring1 completions bash > ~/.local/share/bash-completion/completions/ring1
  ring1 completions zsh > ~/.zfunc/_ring1
  ring1 completions fish > ~/.config/fish/completions/ring1.fish";

/// For `ring1 man`.
pub const MAN: &str = "\
Examples:
  ring1 man | man -l -
  ring1 man ~/.local/share/man/man1";
