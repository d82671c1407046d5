//! The way to a debugger: the address it comes to, the thread that waits there,
//! and the bytes in both directions.
//!
//! Reading waits and the vCPU must not, so one thread accepts one debugger after
//! another and hands on what it says, through a channel with few places: whoever
//! talks too fast waits. With each piece it raises a flag, which the vCPU looks at
//! once a slice, and ends the sleep of a halted one. Answers are written by the vCPU
//! itself; a debugger that does not read them for seconds has lost it.
//!
//! GDB's protocol knows no password. So the address is one of this host unless
//! another is named outright, and a socket in the file system is its owner's alone.

use crate::clock::Waker;
use gdbstub::conn::Connection;
use std::io::{self, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream, ToSocketAddrs};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::time::Duration;

/// Pieces of input that wait for the vCPU before the reader waits, too.
const PIECES: usize = 16;
/// Longest piece.
const PIECE_BYTES: usize = 4096;
/// How long an answer may wait for the debugger to read.
const WRITE_TIMEOUT: Duration = Duration::from_secs(5);

/// How long the thread may take to hear the last caller.
const LOOK_UP: Duration = Duration::from_millis(100);

/// Where debuggers come to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Address {
    /// A TCP port.
    Tcp(SocketAddr),
    /// A socket in the file system.
    Unix(PathBuf),
}

impl Address {
    /// `HOST:PORT`, `:PORT` on this host alone, or a path, which has a slash.
    ///
    /// # Errors
    /// What is wrong, in words.
    pub fn parse(text: &str) -> Result<Self, String> {
        if text.contains('/') {
            return Ok(Self::Unix(text.into()));
        }
        let full = match text.strip_prefix(':') {
            Some(port) => format!("127.0.0.1:{port}"),
            None => text.to_owned(),
        };
        let mut found = full
            .to_socket_addrs()
            .map_err(|error| format!("neither HOST:PORT nor a path with a slash: {error}"))?;
        found
            .next()
            .map(Self::Tcp)
            .ok_or_else(|| "no such host".into())
    }

    /// Whether others than this host's users reach it.
    pub fn is_public(&self) -> bool {
        matches!(self, Self::Tcp(address) if !address.ip().is_loopback())
    }
}

impl std::fmt::Display for Address {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Tcp(address) => address.fmt(f),
            Self::Unix(path) => path.display().fmt(f),
        }
    }
}

enum Stream {
    Tcp(TcpStream),
    Unix(UnixStream),
}

impl Stream {
    fn try_clone(&self) -> io::Result<Self> {
        Ok(match self {
            Self::Tcp(stream) => {
                // Packets are short, and each waits for its answer.
                stream.set_nodelay(true)?;
                stream.set_write_timeout(Some(WRITE_TIMEOUT))?;
                Self::Tcp(stream.try_clone()?)
            }
            Self::Unix(stream) => {
                stream.set_write_timeout(Some(WRITE_TIMEOUT))?;
                Self::Unix(stream.try_clone()?)
            }
        })
    }

    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Tcp(stream) => stream.read(into),
            Self::Unix(stream) => stream.read(into),
        }
    }

    fn write_all(&mut self, bytes: &[u8]) -> io::Result<()> {
        match self {
            Self::Tcp(stream) => Write::write_all(stream, bytes),
            Self::Unix(stream) => Write::write_all(stream, bytes),
        }
    }

    fn close(&self) {
        // It may be closed at the other end already.
        let _ = match self {
            Self::Tcp(stream) => stream.shutdown(Shutdown::Both),
            Self::Unix(stream) => stream.shutdown(Shutdown::Both),
        };
    }
}

/// The vCPU's end of a connection: answers, sent in whole packets.
pub struct Link {
    stream: Stream,
    packet: Vec<u8>,
}

impl Connection for Link {
    type Error = io::Error;

    fn write(&mut self, byte: u8) -> io::Result<()> {
        self.packet.push(byte);
        Ok(())
    }

    fn flush(&mut self) -> io::Result<()> {
        let sent = self.stream.write_all(&self.packet);
        self.packet.clear();
        sent
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        let _ = self.flush();
        self.stream.close();
    }
}

/// What the reader hands on.
pub enum Event {
    /// A debugger has come.
    Came(Link),
    /// It says this.
    Said(Vec<u8>),
    /// It is gone.
    Left,
}

/// A socket in the file system that is its owner's alone.
pub(crate) fn bind_unix(path: &Path) -> io::Result<UnixListener> {
    // A socket that a machine before has left behind has nobody listening.
    if UnixStream::connect(path).is_err_and(|e| e.kind() == io::ErrorKind::ConnectionRefused) {
        std::fs::remove_file(path)?;
    }
    let private = rustix::fs::Mode::from_raw_mode(0o177);
    let before = rustix::process::umask(private);
    let listener = UnixListener::bind(path);
    rustix::process::umask(before);
    listener
}

enum Listener {
    Tcp(TcpListener),
    Unix(UnixListener),
}

impl Listener {
    fn bind(address: &Address) -> io::Result<(Self, Address)> {
        match address {
            Address::Tcp(at) => {
                let listener = TcpListener::bind(at)?;
                let at = listener.local_addr()?;
                Ok((Self::Tcp(listener), Address::Tcp(at)))
            }
            Address::Unix(path) => Ok((Self::Unix(bind_unix(path)?), address.clone())),
        }
    }

    fn accept(&self) -> io::Result<Stream> {
        match self {
            Self::Tcp(listener) => listener.accept().map(|(stream, _)| Stream::Tcp(stream)),
            Self::Unix(listener) => listener.accept().map(|(stream, _)| Stream::Unix(stream)),
        }
    }
}

/// A port with a thread that waits there.
pub struct Port {
    /// Where it is, with the number of the port if any would do.
    pub address: Address,
    events: Receiver<Event>,
    called: Arc<AtomicBool>,
    closed: Arc<AtomicBool>,
}

impl Port {
    /// Opens the port.
    ///
    /// # Errors
    /// The host refuses the address or a thread.
    pub fn open(address: &Address, waker: Arc<Waker>) -> io::Result<Self> {
        let (listener, address) = Listener::bind(address)?;
        let (sender, events) = sync_channel(PIECES);
        let [called, closed] = [(); 2].map(|()| Arc::new(AtomicBool::new(false)));
        let reader = Reader {
            sender,
            waker,
            called: Arc::clone(&called),
            closed: Arc::clone(&closed),
        };
        std::thread::Builder::new()
            .name("gdb".into())
            .spawn(move || reader.run(&listener))?;
        Ok(Self {
            address,
            events,
            called,
            closed,
        })
    }

    /// Whether there is something to hear. Nobody has called yet most of the time.
    #[inline]
    pub fn called(&self) -> bool {
        self.called.load(Ordering::Relaxed)
    }

    /// Is about to hear all that there is: what comes from here on is news again.
    pub fn answer(&self) {
        self.called.store(false, Ordering::SeqCst);
    }

    /// The next event, if one is there already.
    pub fn next(&self) -> Option<Event> {
        self.events.try_recv().ok()
    }

    /// Waits for the next event; `None` if there is none for so long.
    pub fn wait(&self, longest: Duration) -> Option<Event> {
        match self.events.recv_timeout(longest) {
            Ok(event) => Some(event),
            Err(RecvTimeoutError::Timeout) => None,
            Err(RecvTimeoutError::Disconnected) => {
                // The port is closed; nobody will ever come.
                std::thread::sleep(longest);
                None
            }
        }
    }
}

impl Drop for Port {
    fn drop(&mut self) {
        self.closed.store(true, Ordering::SeqCst);
        // A last caller, for whom the thread looks up; it may be gone already, and
        // somebody else may have removed the socket.
        match &self.address {
            Address::Tcp(at) => drop(TcpStream::connect_timeout(at, LOOK_UP)),
            Address::Unix(path) => {
                drop(UnixStream::connect(path));
                let _ = std::fs::remove_file(path);
            }
        }
    }
}

/// The thread's side.
struct Reader {
    sender: SyncSender<Event>,
    waker: Arc<Waker>,
    called: Arc<AtomicBool>,
    closed: Arc<AtomicBool>,
}

impl Reader {
    fn run(&self, listener: &Listener) {
        while let Ok(stream) = listener.accept() {
            if self.closed.load(Ordering::SeqCst) || self.serve(stream).is_none() {
                return;
            }
        }
    }

    /// Hands on what one debugger says. `None` when the machine is no more.
    fn serve(&self, mut stream: Stream) -> Option<()> {
        let Ok(answers) = stream.try_clone() else {
            return Some(());
        };
        self.hand_on(Event::Came(Link {
            stream: answers,
            packet: Vec::new(),
        }))?;
        let mut piece = [0; PIECE_BYTES];
        loop {
            match stream.read(&mut piece) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Ok(0) | Err(_) => return self.hand_on(Event::Left),
                Ok(n) => self.hand_on(Event::Said(piece[..n].to_vec()))?,
            }
        }
    }

    fn hand_on(&self, event: Event) -> Option<()> {
        // Woken before, too: the channel may be full and the CPU asleep.
        self.called.store(true, Ordering::SeqCst);
        self.waker.wake();
        self.sender.send(event).ok()?;
        self.called.store(true, Ordering::SeqCst);
        self.waker.wake();
        Some(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_ports_or_paths() {
        let tcp = |text: &str| Address::Tcp(text.parse().unwrap());
        assert_eq!(Address::parse(":1234"), Ok(tcp("127.0.0.1:1234")));
        assert_eq!(Address::parse("[::1]:5"), Ok(tcp("[::1]:5")));
        assert_eq!(Address::parse("./gdb"), Ok(Address::Unix("./gdb".into())));
        assert!(Address::parse("1234").is_err());
        assert!(Address::parse(":65536").is_err());
        assert!(Address::parse("0.0.0.0:1").unwrap().is_public());
        assert!(!Address::parse(":1").unwrap().is_public());
    }

    #[test]
    fn a_socket_is_its_owners_and_a_dead_one_is_replaced() {
        use std::os::unix::fs::PermissionsExt;
        let path = std::env::temp_dir().join(format!("ring1-gdb-{}", std::process::id()));
        drop(UnixListener::bind(&path).unwrap());
        let (listener, _) = Listener::bind(&Address::Unix(path.clone())).unwrap();
        let mode = std::fs::metadata(&path).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        assert!(
            Listener::bind(&Address::Unix(path.clone())).is_err(),
            "in use"
        );
        drop(listener);
        std::fs::remove_file(path).unwrap();
    }
}
