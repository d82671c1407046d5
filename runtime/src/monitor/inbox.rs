//! The way of a command to the vCPU and of its answer back.
//!
//! Commands run on the vCPU's thread, between two instructions; those who give them are on
//! other threads, at a socket or a keyboard. A [`Caller`] puts a line and the sending end
//! of a channel into the [`Inbox`], raises a flag that the vCPU looks at once a slice, ends
//! the sleep of a halted one, and waits. So no answer ever makes the vCPU wait, however
//! slowly it is read. When the machine is gone, so is the other end of the channel.

use super::answer::{Answer, Outcome};
use crate::clock::Waker;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::time::Duration;

/// Commands that wait for the vCPU before a caller waits to give another.
const WAITING: usize = 16;

/// A command.
pub struct Request {
    /// As it was typed.
    pub line: String,
    /// Who waits for the answer; it may have gone away.
    pub answer: SyncSender<Outcome>,
}

/// One who gives commands.
#[derive(Clone)]
pub struct Caller {
    requests: SyncSender<Request>,
    called: Arc<AtomicBool>,
    waker: Arc<Waker>,
}

/// The vCPU's end.
pub struct Inbox {
    requests: Receiver<Request>,
    called: Arc<AtomicBool>,
}

/// A way to a vCPU that sleeps on `waker`.
pub fn inbox(waker: Arc<Waker>) -> (Caller, Inbox) {
    let (sender, requests) = sync_channel(WAITING);
    let called = Arc::new(AtomicBool::new(false));
    let caller = Caller {
        requests: sender,
        called: Arc::clone(&called),
        waker,
    };
    (caller, Inbox { requests, called })
}

/// There is no machine to answer, or it takes too long.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NoAnswer {
    /// It has ended.
    #[error("the machine has ended")]
    Ended,
    /// It does not run, or waits for the guest to do something.
    #[error("the machine has not answered yet")]
    Late,
}

impl Caller {
    /// Gives a command and waits for its answer, for ever unless a time is given.
    ///
    /// # Errors
    /// There is none.
    pub fn ask(&self, line: &str, longest: Option<Duration>) -> Result<Outcome, NoAnswer> {
        let (answer, answers) = sync_channel(1);
        let line = line.to_owned();
        // Raised before, too: the inbox may be full and the CPU asleep.
        self.raise();
        let sent = self.requests.send(Request { line, answer });
        sent.map_err(|_| NoAnswer::Ended)?;
        self.raise();
        match longest {
            None => answers.recv().map_err(|_| NoAnswer::Ended),
            Some(time) => answers.recv_timeout(time).map_err(|error| match error {
                RecvTimeoutError::Timeout => NoAnswer::Late,
                RecvTimeoutError::Disconnected => NoAnswer::Ended,
            }),
        }
    }

    /// The same, with what cannot be done and what was not answered as one.
    ///
    /// # Errors
    /// Why there is no answer.
    pub fn command(&self, line: &str) -> Result<Answer, String> {
        self.ask(line, None).map_err(|none| none.to_string())?
    }

    fn raise(&self) {
        self.called.store(true, Ordering::SeqCst);
        self.waker.wake();
    }
}

impl Inbox {
    /// Whether there may be a command.
    #[inline]
    pub fn called(&self) -> bool {
        self.called.load(Ordering::Relaxed)
    }

    /// Is about to take all that there is: what comes from here on is news again.
    pub fn answer(&self) {
        self.called.store(false, Ordering::SeqCst);
    }

    /// The next command, if one is there already.
    pub fn next(&self) -> Option<Request> {
        self.requests.try_recv().ok()
    }

    /// Waits for the next command; `None` if there is none for so long.
    pub fn wait(&self, longest: Duration) -> Option<Request> {
        match self.requests.recv_timeout(longest) {
            Ok(request) => Some(request),
            Err(RecvTimeoutError::Timeout) => None,
            Err(RecvTimeoutError::Disconnected) => {
                // Nobody is left who could ask.
                std::thread::sleep(longest);
                None
            }
        }
    }
}
