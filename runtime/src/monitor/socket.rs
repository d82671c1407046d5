//! The monitor's socket: who comes, and the two forms of what they say.
//!
//! A line that begins with `{` is a request in JSON and answered by one line of JSON; any
//! other line is a command as a person types it, and answered by text and a prompt. So one
//! socket serves both, and a program needs no more than lines.
//!
//! Each connection has a thread, which reads, asks the vCPU and writes: a client that does
//! not read keeps nobody waiting but itself. The socket is its owner's alone, as whoever
//! reaches it can do anything to the guest and write files.

use super::inbox::Caller;
use crate::gdb::connection::bind_unix;
use serde_json::{Value, json};
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::Shutdown;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

/// Connections at a time.
const MOST_CLIENTS: usize = 16;
/// Longest line.
const LINE_BYTES: u64 = 4096;
/// How long an answer may wait for the client to read.
const WRITE_TIMEOUT: Duration = Duration::from_secs(5);
/// What a person is shown behind each answer.
pub const PROMPT: &str = "(ring1) ";

/// An open socket, with a thread that waits there.
pub struct Socket {
    path: PathBuf,
    shared: Arc<Shared>,
    listener: Option<JoinHandle<()>>,
}

/// A connection's stream and its thread.
type Client = (UnixStream, JoinHandle<()>);

struct Shared {
    caller: Caller,
    closed: AtomicBool,
    clients: Mutex<Vec<Client>>,
}

impl Shared {
    fn clients(&self) -> std::sync::MutexGuard<'_, Vec<Client>> {
        self.clients.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Socket {
    /// Opens the socket.
    ///
    /// # Errors
    /// The host refuses the path or a thread.
    pub fn open(path: &Path, caller: Caller) -> io::Result<Self> {
        let listener = bind_unix(path)?;
        let shared = Arc::new(Shared {
            caller,
            closed: AtomicBool::new(false),
            clients: Mutex::default(),
        });
        let for_thread = Arc::clone(&shared);
        let thread = std::thread::Builder::new()
            .name("monitor".into())
            .spawn(move || listen(&listener, &for_thread))?;
        Ok(Self {
            path: path.into(),
            shared,
            listener: Some(thread),
        })
    }
}

impl Drop for Socket {
    fn drop(&mut self) {
        self.shared.closed.store(true, Ordering::SeqCst);
        // A last caller, for whom the thread looks up; somebody else may have removed
        // the socket.
        let woken = UnixStream::connect(&self.path).is_ok();
        let _ = std::fs::remove_file(&self.path);
        if let (true, Some(listener)) = (woken, self.listener.take()) {
            // A panic has been reported by its thread already.
            let _ = listener.join();
        }
        for (stream, thread) in self.shared.clients().drain(..) {
            // Last answers may still be on their way out.
            let _ = stream.shutdown(Shutdown::Read);
            let _ = thread.join();
        }
    }
}

fn listen(listener: &UnixListener, shared: &Arc<Shared>) {
    while let Ok((stream, _)) = listener.accept() {
        if shared.closed.load(Ordering::SeqCst) {
            return;
        }
        let mut clients = shared.clients();
        clients.retain(|(_, thread)| !thread.is_finished());
        if clients.len() >= MOST_CLIENTS {
            // Nobody may be there to read it.
            let _ = (&stream).write_all(b"too many connections\n");
            continue;
        }
        let Ok(kept) = stream.try_clone() else {
            continue;
        };
        let caller = shared.caller.clone();
        let serve = move || {
            // A client that is gone is no news.
            let _ = serve(&stream, &caller);
            let _ = stream.shutdown(Shutdown::Both);
        };
        let thread = std::thread::Builder::new().name("monitor-client".into());
        if let Ok(thread) = thread.spawn(serve) {
            clients.push((kept, thread));
        }
    }
}

/// Answers one client until it leaves or the machine ends.
fn serve(mut stream: &UnixStream, caller: &Caller) -> io::Result<()> {
    stream.set_write_timeout(Some(WRITE_TIMEOUT))?;
    let greeting =
        json!({"ring1": env!("CARGO_PKG_VERSION"), "monitor": "help lists the commands"});
    stream.write_all(format!("{greeting}\n").as_bytes())?;
    let mut lines = BufReader::new(stream);
    loop {
        let mut line = Vec::new();
        lines
            .by_ref()
            .take(LINE_BYTES)
            .read_until(b'\n', &mut line)?;
        if line.is_empty() {
            return Ok(());
        }
        if line.len() as u64 == LINE_BYTES && line.last() != Some(&b'\n') {
            return stream.write_all(b"error: a line has at most 4095 characters\n");
        }
        let text = String::from_utf8_lossy(&line);
        let answer = match text.trim() {
            json if json.starts_with('{') => in_json(json, caller),
            command => in_words(command, caller),
        };
        stream.write_all(answer.as_bytes())?;
    }
}

/// A command as typed; what is shown for it, with a prompt behind.
fn in_words(command: &str, caller: &Caller) -> String {
    let text = match command {
        "" => String::new(),
        command => caller
            .command(command)
            .map_or_else(|error| format!("error: {error}\n"), |answer| answer.text),
    };
    text + PROMPT
}

/// A request in JSON, and its answer: `{"command": …, "id": …}`.
fn in_json(request: &str, caller: &Caller) -> String {
    let mut id = None;
    let outcome = parse(request, &mut id).and_then(|command| caller.command(&command));
    let mut answer = match outcome {
        Ok(answer) => json!({"ok": answer.data}),
        Err(error) => json!({"error": error}),
    };
    if let (Some(id), Some(fields)) = (id, answer.as_object_mut()) {
        fields.insert("id".into(), id);
    }
    format!("{answer}\n")
}

/// The command of a request, and its `id` to be given back.
fn parse(request: &str, id: &mut Option<Value>) -> Result<String, String> {
    let value: Value =
        serde_json::from_str(request).map_err(|error| format!("this is no JSON: {error}"))?;
    let Value::Object(fields) = value else {
        return Err("a request is an object".into());
    };
    *id = fields.get("id").cloned();
    if let Some(unknown) = fields
        .keys()
        .find(|key| !matches!(key.as_str(), "id" | "command"))
    {
        return Err(format!("a request has `command` and `id`, not `{unknown}`"));
    }
    match fields.get("command") {
        Some(Value::String(command)) => Ok(command.clone()),
        Some(_) => Err("`command` must be text, such as \"info registers\"".into()),
        None => Err("`command` is missing".into()),
    }
}
