//! A guest and a debugger: one machine on a thread of its own, and either a real GDB
//! that runs a script or a client of our own that speaks the protocol byte by byte.

use crate::machine::{Ended, Setup};
use runtime::gdb::connection::Address;
use runtime::vm::Vm;
use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::process::{Command, Stdio};
use std::sync::mpsc::channel;
use std::time::Duration;

/// Runs `setup` with a port for debuggers, and `debug` with the port's address on
/// another thread. With `wait` the machine waits there before its first instruction.
///
/// # Panics
/// When the machine cannot be made, or `debug` panics.
pub fn debugged<R: Send>(
    setup: &Setup,
    wait: bool,
    debug: impl FnOnce(&str) -> R + Send,
) -> (Ended, R) {
    debugged_after(setup, wait, |_| (), debug)
}

/// The same, after `prepare`.
///
/// # Panics
/// When the machine cannot be made, or `debug` panics.
pub fn debugged_after<R: Send>(
    setup: &Setup,
    wait: bool,
    prepare: impl FnOnce(&mut Vm),
    debug: impl FnOnce(&str) -> R + Send,
) -> (Ended, R) {
    let (sender, address) = channel::<String>();
    std::thread::scope(|scope| {
        let debugger = scope.spawn(move || {
            let address = address.recv().expect("the machine starts");
            debug(&address)
        });
        let ended = setup.run_after(|vm| {
            prepare(vm);
            let anywhere = Address::parse(":0").expect("an address");
            let at = vm.listen_for_debugger(&anywhere, wait).expect("a port");
            sender.send(at.to_string()).expect("the debugger waits");
        });
        (ended, debugger.join().expect("the debugger ends"))
    })
}

/// Runs a script in GDB, connected to `address`. Returns what it printed, or `None`
/// where there is no GDB, after saying so.
///
/// # Panics
/// When GDB cannot be run although it is there.
pub fn gdb(address: &str, script: &str) -> Option<String> {
    let mut text = format!("set confirm off\nset pagination off\ntarget remote {address}\n");
    text.push_str(script);
    // GDB reads scripts from regular files only; ports are nobody else's meanwhile.
    let name = format!("ring1-gdb-{}", address.replace([':', '.'], "-"));
    let path = std::env::temp_dir().join(name);
    std::fs::write(&path, text).expect("the script can be written");
    let output = Command::new("gdb")
        .args(["-q", "-nx", "-batch", "-x"])
        .arg(&path)
        .stdin(Stdio::null())
        .output();
    let _ = std::fs::remove_file(&path);
    match output {
        Err(error) if error.kind() == ErrorKind::NotFound => {
            eprintln!("SKIPPED: there is no gdb");
            None
        }
        output => {
            let output = output.expect("gdb runs");
            let said = String::from_utf8_lossy(&output.stdout).into_owned();
            Some(said + &String::from_utf8_lossy(&output.stderr))
        }
    }
}

/// Whether there is a GDB; says so if not.
pub fn have_gdb() -> bool {
    let have = Command::new("gdb")
        .arg("--version")
        .stdout(Stdio::null())
        .status()
        .is_ok();
    if !have {
        eprintln!("SKIPPED: there is no gdb");
    }
    have
}

/// A debugger that says what it is told to.
pub struct Client {
    stream: TcpStream,
}

impl Client {
    /// Connects.
    ///
    /// # Panics
    /// When nobody listens.
    pub fn connect(address: &str) -> Self {
        Self::try_connect(address).expect("the machine listens")
    }

    /// Connects, if the machine still listens.
    pub fn try_connect(address: &str) -> Option<Self> {
        let stream = TcpStream::connect(address).ok()?;
        let longest = Some(Duration::from_secs(20));
        stream.set_read_timeout(longest).ok()?;
        Some(Self { stream })
    }

    /// Sends bytes as they are. A connection that the machine has closed is no news.
    pub fn raw(&mut self, bytes: &[u8]) {
        let _ = self.stream.write_all(bytes);
    }

    /// Sends a packet.
    pub fn send(&mut self, body: &str) {
        let sum = body.bytes().fold(0u8, u8::wrapping_add);
        self.raw(format!("${body}#{sum:02x}").as_bytes());
    }

    /// The next packet, acknowledged; `None` when the connection has ended.
    pub fn packet(&mut self) -> Option<String> {
        let mut byte = [0];
        let mut next = || {
            self.stream
                .read(&mut byte)
                .ok()
                .filter(|&n| n == 1)
                .map(|_| byte[0])
        };
        while next()? != b'$' {}
        let mut body = Vec::new();
        loop {
            match next()? {
                b'#' => break,
                // So many more of the last byte.
                b'*' => {
                    let more = usize::from(next()?.saturating_sub(29));
                    let last = *body.last()?;
                    body.resize(body.len() + more, last);
                }
                byte => body.push(byte),
            }
        }
        next()?;
        next()?;
        self.raw(b"+");
        Some(String::from_utf8_lossy(&body).into_owned())
    }

    /// Sends a packet and returns the answer.
    pub fn ask(&mut self, body: &str) -> Option<String> {
        self.send(body);
        self.packet()
    }
}
