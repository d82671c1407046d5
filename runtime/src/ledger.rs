//! The ledger: where the time of a virtual CPU goes.
//!
//! At any time exactly one *account* is being charged. Entering one kind of work charges
//! the cycles so far to the account that was open and opens another; leaving it does the
//! same the other way round. So work that is done within other work (the page walk of an
//! instruction that was called out for, the device behind a port) is charged once, to the
//! innermost, and the accounts add up to the whole by construction: guest code has what
//! nothing else has.
//!
//! Cycles are those of the host's time-stamp counter. Reading it takes some twenty of
//! them, twice for each piece of work; the number of readings is kept, so that a report
//! can say how much of it all is the ledger's own.
//!
//! A closed ledger, which is the usual one, costs a test of one word wherever an account
//! would be entered or left; nothing in compiled code knows of it.

use crate::devices::DeviceId;
use crate::system::tsc::{host_tsc, tsc_hz};
use crate::vcpu::Cpu;
use iced_x86::Mnemonic;

/// A kind of work.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Account(u16);

/// Accounts that are neither a device's nor an instruction's, and their names.
#[rustfmt::skip]
const NAMED: &[(Account, &str, &str)] = &[
    (Account::GUEST, "guest", "translated code"),
    (Account::INTERPRETER, "guest", "interpreter"),
    (Account::LOOP, "run loop", "between blocks"),
    (Account::LOCATE, "run loop", "finding blocks"),
    (Account::DECODE, "translation", "decoding"),
    (Account::COMPILE, "translation", "compiling"),
    (Account::LOAD, "translation", "kept and moved code"),
    (Account::INVALIDATE, "translation", "dropping overwritten code"),
    (Account::HIDDEN_FAULT, "memory", "hidden faults, shadow fills"),
    (Account::TRUE_FAULT, "memory", "true faults"),
    (Account::WALK, "memory", "walks for the runtime"),
    (Account::TRACE, "memory", "traced stores"),
    (Account::MIRROR, "memory", "host faults, mirroring"),
    (Account::EXCEPTION, "events", "exceptions delivered"),
    (Account::INTERRUPT, "events", "interrupts delivered"),
    (Account::TIMERS, "devices", "timers and console"),
    (Account::MEMORY_MAPPED, "devices", "memory-mapped"),
    (Account::UNCLAIMED, "devices", "ports that nobody claims"),
    (Account::IDLE, "idle", "asleep in HLT"),
    (Account::HELD, "held", "by debugger or monitor"),
];

/// Accounts of devices begin here, in the order of [`DeviceId::index`].
const DEVICES: u16 = 32;
/// Accounts of callouts begin here, in the order of the mnemonics.
const CALLOUTS: u16 = 256;

impl Account {
    /// Compiled and direct code.
    pub const GUEST: Self = Self(0);
    /// Blocks that are interpreted.
    pub const INTERPRETER: Self = Self(1);
    /// The run loop itself.
    pub const LOOP: Self = Self(2);
    /// From EIP to a block.
    pub const LOCATE: Self = Self(3);
    /// Guest bytes to a block.
    pub const DECODE: Self = Self(4);
    /// Re-encoding, or compiling on the vCPU's thread.
    pub const COMPILE: Self = Self(5);
    /// Code that an earlier run has left.
    pub const LOAD: Self = Self(6);
    /// Blocks whose bytes were written.
    pub const INVALIDATE: Self = Self(7);
    /// Accesses that the guest's tables allow and the shadow tables did not know.
    pub const HIDDEN_FAULT: Self = Self(8);
    /// Accesses that the guest's tables deny.
    pub const TRUE_FAULT: Self = Self(9);
    /// Translations that changed nothing.
    pub const WALK: Self = Self(10);
    /// Stores to page tables and to pages with code.
    pub const TRACE: Self = Self(11);
    /// Pages that hot code misses in its mirror.
    pub const MIRROR: Self = Self(12);
    /// Delivery of exceptions.
    pub const EXCEPTION: Self = Self(13);
    /// Delivery of interrupts.
    pub const INTERRUPT: Self = Self(14);
    /// Devices, as time passes.
    pub const TIMERS: Self = Self(15);
    /// Devices in memory.
    pub const MEMORY_MAPPED: Self = Self(16);
    /// HLT.
    pub const IDLE: Self = Self(17);
    /// The guest does not run, as somebody looks at it.
    pub const HELD: Self = Self(18);
    /// Ports without a device.
    pub const UNCLAIMED: Self = Self(19);
    /// Outside of the run loop: not the machine's time.
    const OUTSIDE: Self = Self(20);

    /// A device behind ports.
    pub fn device(device: DeviceId) -> Self {
        Self(DEVICES + device.index() as u16)
    }

    /// An instruction that compiled code calls out for.
    #[inline]
    pub fn callout(mnemonic: Mnemonic) -> Self {
        Self(CALLOUTS + mnemonic as u16)
    }
}

/// Accounts that are open.
struct Book {
    cycles: Vec<u64>,
    counts: Vec<u64>,
    current: Account,
    since: u64,
    readings: u64,
}

impl Book {
    /// Charges the time since the last reading to the open account, and opens another.
    fn turn(&mut self, to: Account) {
        let now = host_tsc();
        if let Some(sum) = self.cycles.get_mut(usize::from(self.current.0)) {
            // The counter is one of the host's processors: it may be a little behind another.
            *sum += now.saturating_sub(self.since);
        }
        self.readings += 1;
        self.current = to;
        self.since = now;
    }

    #[inline(never)]
    fn enter(&mut self, account: Account) -> Account {
        let before = self.current;
        self.turn(account);
        before
    }

    #[inline(never)]
    fn leave(&mut self, before: Account) {
        if let Some(count) = self.counts.get_mut(usize::from(self.current.0)) {
            *count += 1;
        }
        self.turn(before);
    }
}

/// The accounts of one virtual CPU, if somebody wants them.
#[derive(Default)]
pub struct Ledger(Option<Box<Book>>);

/// One account of a report.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// What kind of work it is: `callouts`, `devices`, `memory` …
    pub kind: &'static str,
    /// Which.
    pub name: String,
    /// How often.
    pub count: u64,
    /// Host cycles spent on it, without what was charged to others meanwhile.
    pub cycles: u64,
}

/// A ledger as it stands.
#[derive(Clone, Debug, PartialEq)]
pub struct Balance {
    /// Accounts that were charged, most cycles first.
    pub entries: Vec<Entry>,
    /// Their sum.
    pub cycles: u64,
    /// Cycles a second.
    pub hz: u64,
    /// About how many cycles of the sum the ledger itself took.
    pub own_cycles: u64,
}

impl Ledger {
    /// Opens the ledger. One that is open already goes on.
    pub fn open(&mut self) {
        let accounts = usize::from(CALLOUTS) + Mnemonic::values().len();
        self.0.get_or_insert_with(|| {
            Box::new(Book {
                cycles: vec![0; accounts],
                counts: vec![0; accounts],
                current: Account::OUTSIDE,
                since: host_tsc(),
                readings: 0,
            })
        });
    }

    /// The same from within the run loop, where somebody holds the machine.
    pub fn open_within(&mut self) {
        self.open();
        if let Some(book) = &mut self.0 {
            book.current = Account::HELD;
        }
    }

    /// Whether it is open.
    #[inline(always)]
    pub fn is_open(&self) -> bool {
        self.0.is_some()
    }

    /// Begins a piece of work. What is returned ends it.
    #[inline(always)]
    pub fn enter(&mut self, account: Account) -> Account {
        match &mut self.0 {
            None => Account::OUTSIDE,
            Some(book) => book.enter(account),
        }
    }

    /// Ends the piece of work that began with `before`.
    #[inline(always)]
    pub fn leave(&mut self, before: Account) {
        if let Some(book) = &mut self.0 {
            book.leave(before);
        }
    }

    /// The same for work that turns out to be of another kind than was thought.
    #[inline(always)]
    pub fn leave_as(&mut self, account: Account, before: Account) {
        if let Some(book) = &mut self.0 {
            book.current = account;
            book.leave(before);
        }
    }

    /// The accounts as they stand; `devices` are the names of all, in the order of
    /// [`DeviceId::index`]. `None` if it is closed.
    pub fn balance(&self, devices: &[String]) -> Option<Balance> {
        let book = self.0.as_ref()?;
        // What is under way has not been charged yet.
        let pending = host_tsc().saturating_sub(book.since);
        let named = NAMED
            .iter()
            .map(|&(account, kind, name)| (account, kind, name.into()));
        let devices = (DEVICES..)
            .zip(devices)
            .map(|(n, name)| (Account(n), "devices", name.clone()));
        let callouts = Mnemonic::values().map(|mnemonic| {
            let name = format!("{mnemonic:?}").to_uppercase();
            (Account::callout(mnemonic), "callouts", name)
        });
        let all = named.chain(devices).chain(callouts);
        let mut entries: Vec<Entry> = all
            .filter_map(|(account, kind, name)| {
                let at = usize::from(account.0);
                let (count, charged) = (*book.counts.get(at)?, *book.cycles.get(at)?);
                let cycles = charged + if account == book.current { pending } else { 0 };
                let entry = Entry {
                    kind,
                    name,
                    count,
                    cycles,
                };
                (cycles > 0).then_some(entry)
            })
            .collect();
        entries.sort_by_key(|entry| std::cmp::Reverse(entry.cycles));
        Some(Balance {
            cycles: entries.iter().map(|entry| entry.cycles).sum(),
            entries,
            hz: tsc_hz(),
            own_cycles: book.readings * reading_cycles(),
        })
    }
}

impl Cpu {
    /// Does a piece of work on an account.
    #[inline(always)]
    pub fn on_account<R>(&mut self, account: Account, work: impl FnOnce(&mut Self) -> R) -> R {
        match self.ledger.is_open() {
            false => work(self),
            true => self.on_open_account(account, work),
        }
    }

    #[cold]
    #[inline(never)]
    fn on_open_account<R>(&mut self, account: Account, work: impl FnOnce(&mut Self) -> R) -> R {
        let before = self.ledger.enter(account);
        let result = work(self);
        self.ledger.leave(before);
        result
    }
}

/// What one reading of the counter takes, at least.
fn reading_cycles() -> u64 {
    let once = || {
        let start = host_tsc();
        host_tsc().saturating_sub(start)
    };
    (0..100).map(|_| once()).min().unwrap_or(0)
}

impl Balance {
    /// Sums by kind, most cycles first.
    pub fn kinds(&self) -> Vec<Entry> {
        let mut kinds: Vec<Entry> = Vec::new();
        for entry in &self.entries {
            match kinds.iter_mut().find(|kind| kind.kind == entry.kind) {
                Some(kind) => {
                    kind.count += entry.count;
                    kind.cycles += entry.cycles;
                }
                None => kinds.push(entry.clone()),
            }
        }
        kinds.sort_by_key(|kind| std::cmp::Reverse(kind.cycles));
        kinds
    }

    /// Seconds that so many cycles take.
    pub fn seconds(&self, cycles: u64) -> f64 {
        cycles as f64 / self.hz.max(1) as f64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_closed_ledger_has_no_balance() {
        let mut ledger = Ledger::default();
        let before = ledger.enter(Account::GUEST);
        ledger.leave(before);
        assert_eq!(ledger.balance(&[]), None);
    }

    #[test]
    fn work_within_work_is_charged_once_and_all_adds_up() {
        let mut ledger = Ledger::default();
        ledger.open();
        let start = host_tsc();
        let outside = ledger.enter(Account::LOOP);
        for _ in 0..1000 {
            let looped = ledger.enter(Account::GUEST);
            let guest = ledger.enter(Account::callout(Mnemonic::Invlpg));
            let callout = ledger.enter(Account::HIDDEN_FAULT);
            ledger.leave_as(Account::TRUE_FAULT, callout);
            ledger.leave(guest);
            ledger.leave(looped);
        }
        ledger.leave(outside);
        let whole = host_tsc() - start;
        let balance = ledger.balance(&[]).expect("it is open");
        let count = |name: &str| {
            let found = balance.entries.iter().find(|entry| entry.name == name);
            found.map_or(0, |entry| entry.count)
        };
        assert_eq!(count("translated code"), 1000);
        assert_eq!(count("INVLPG"), 1000);
        assert_eq!(count("true faults"), 1000);
        assert_eq!(count("hidden faults, shadow fills"), 0);
        assert!(balance.cycles <= whole && balance.cycles * 2 > whole);
        assert!(balance.own_cycles <= balance.cycles);
        let kinds: u64 = balance.kinds().iter().map(|kind| kind.cycles).sum();
        assert_eq!(kinds, balance.cycles);
    }

    #[test]
    fn accounts_are_apart() {
        let last = NAMED.iter().map(|(account, ..)| account.0).max();
        assert!(last < Some(DEVICES));
        let card = DeviceId::Card(crate::devices::card::MOST_CARDS as u8);
        assert!(Account::device(card).0 < CALLOUTS);
    }
}
