//! A guest and somebody at its monitor: the machine on one thread, on another the
//! commands, by the socket or directly.

use crate::machine::{Ended, Setup};
use serde_json::Value;
use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::mpsc::channel;
use std::time::Duration;

/// A path for a socket that nobody else has.
pub fn socket() -> PathBuf {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    std::env::temp_dir().join(format!("ring1-monitor-{}-{number}", std::process::id()))
}

/// Runs `setup` with a monitor, and `watch` with its socket on another thread.
///
/// # Panics
/// When the machine cannot be made, or `watch` panics.
pub fn monitored<R: Send>(setup: &Setup, watch: impl FnOnce(&Path) -> R + Send) -> (Ended, R) {
    let path = socket();
    let (sender, ready) = channel::<()>();
    std::thread::scope(|scope| {
        let at = path.clone();
        let watcher = scope.spawn(move || {
            ready.recv().expect("the machine starts");
            watch(&at)
        });
        let ended = setup.run_after(|vm| {
            vm.listen_for_monitor(&path).expect("a socket");
            sender.send(()).expect("somebody watches");
        });
        (ended, watcher.join().expect("the commands end"))
    })
}

/// A client of the socket.
pub struct Client {
    stream: BufReader<UnixStream>,
    /// The first line that it was sent.
    pub greeting: Value,
}

impl Client {
    /// Connects.
    ///
    /// # Panics
    /// When nobody listens.
    pub fn connect(path: &Path) -> Self {
        let stream = UnixStream::connect(path).expect("the machine listens");
        let longest = Some(Duration::from_secs(20));
        stream.set_read_timeout(longest).expect("a timeout");
        let mut client = Self {
            stream: BufReader::new(stream),
            greeting: Value::Null,
        };
        client.greeting = client.json().expect("a greeting");
        client
    }

    /// Sends bytes as they are. A connection that the machine has closed is no news.
    pub fn raw(&mut self, bytes: &[u8]) {
        let _ = self.stream.get_mut().write_all(bytes);
    }

    /// The next line as JSON; `None` at the end of the connection.
    ///
    /// # Panics
    /// When it is no JSON.
    pub fn json(&mut self) -> Option<Value> {
        let mut line = String::new();
        self.stream.read_line(&mut line).expect("a line in time");
        let value = serde_json::from_str(&line);
        (!line.is_empty()).then(|| value.unwrap_or_else(|_| panic!("no JSON: {line}")))
    }

    /// Sends a line of JSON and returns the answer to it.
    pub fn request(&mut self, request: &str) -> Option<Value> {
        self.raw(format!("{request}\n").as_bytes());
        self.json()
    }

    /// Carries out a command in JSON.
    ///
    /// # Errors
    /// What the machine says instead.
    ///
    /// # Panics
    /// When there is no answer.
    pub fn ask(&mut self, command: &str) -> Result<Value, String> {
        let request = serde_json::json!({"command": command});
        let mut answer = self.request(&request.to_string()).expect("an answer");
        match answer.get("error") {
            Some(error) => Err(error.as_str().unwrap_or("?").to_owned()),
            None => Ok(answer["ok"].take()),
        }
    }

    /// Types a command and returns what is shown, up to the prompt.
    pub fn typed(&mut self, command: &str) -> String {
        self.raw(format!("{command}\n").as_bytes());
        let mut shown = Vec::new();
        let mut byte = [0];
        while !shown.ends_with(b"(ring1) ") && self.stream.read(&mut byte).is_ok_and(|n| n == 1) {
            shown.push(byte[0]);
        }
        String::from_utf8_lossy(&shown).into_owned()
    }
}
