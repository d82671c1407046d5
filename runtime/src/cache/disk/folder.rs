//! The folder that kept code is in, and who may have been there.
//!
//! What is in these files is executed. So the folder and every file must belong to the
//! user whom ring1 runs as, and nobody else may be able to write there. Moreover files
//! are authenticated by a secret, 32 random bytes that nobody else can read: a file
//! put there by whatever way is no good without. Everything is reached from the open
//! folder, and no symbolic link is followed.

use rustix::fs::{AtFlags, CWD, Dir, FileType, Mode, OFlags, Stat};
use rustix::fs::{fstat, linkat, openat, renameat, statat, unlinkat};
use rustix::io::Errno;
use rustix::process::{Pid, test_kill_process};
use std::fs::{DirBuilder, File};
use std::io::{Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::DirBuilderExt;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

/// Name of the secret's file.
const SECRET: &str = "key";
/// What names of unfinished files begin with.
const UNFINISHED: &str = "tmp-";

/// Why a folder or a file is not used.
#[derive(Debug, thiserror::Error)]
pub enum FolderError {
    /// The host refuses something.
    #[error("{0}")]
    Host(#[from] std::io::Error),
    /// Somebody else has or had a hand in it.
    #[error("{name} {problem}")]
    Unsafe {
        /// What it is about.
        name: String,
        /// What is wrong with it.
        problem: &'static str,
    },
}

impl From<Errno> for FolderError {
    fn from(errno: Errno) -> Self {
        Self::Host(errno.into())
    }
}

/// An open folder.
pub struct Folder {
    folder: OwnedFd,
    secret: [u8; 32],
}

impl Folder {
    /// Opens the folder, and makes it and the secret if there are none.
    ///
    /// # Errors
    /// What the host refuses, or who else may have been there.
    pub fn open(path: &Path) -> Result<Arc<Self>, FolderError> {
        let mut builder = DirBuilder::new();
        builder.recursive(true).mode(0o700).create(path)?;
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let folder = openat(CWD, path, flags, Mode::empty())?;
        own(&fstat(&folder)?, "the folder", FileType::Directory)?;
        let mut opened = Self {
            folder,
            secret: [0; 32],
        };
        opened.secret = match opened.read_secret()? {
            Some(secret) => secret,
            None => opened.make_secret()?,
        };
        Ok(Arc::new(opened))
    }

    /// The secret.
    pub fn secret(&self) -> &[u8; 32] {
        &self.secret
    }

    /// Opens a file for reading, if there is one.
    ///
    /// # Errors
    /// See [`FolderError`].
    pub fn read(&self, name: &str) -> Result<Option<File>, FolderError> {
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let file = match openat(&self.folder, name, flags, Mode::empty()) {
            Ok(file) => file,
            Err(Errno::NOENT) => return Ok(None),
            Err(errno) => return Err(errno.into()),
        };
        own(&fstat(&file)?, name, FileType::RegularFile)?;
        Ok(Some(file.into()))
    }

    fn read_secret(&self) -> Result<Option<[u8; 32]>, FolderError> {
        let Some(mut file) = self.read(SECRET)? else {
            return Ok(None);
        };
        if fstat(&file)?.st_mode & 0o077 != 0 {
            return Err(unsafe_because(SECRET, "can be read by others"));
        }
        let mut secret = [0; 32];
        match file.read_exact(&mut secret) {
            Ok(()) => Ok(Some(secret)),
            Err(_) => {
                // Cut off: no file can be told by it any more.
                unlinkat(&self.folder, SECRET, AtFlags::empty())?;
                Ok(None)
            }
        }
    }

    /// Makes a secret, unless another process has been quicker.
    fn make_secret(&self) -> Result<[u8; 32], FolderError> {
        let mut secret = [0; 32];
        File::open("/dev/urandom")?.read_exact(&mut secret)?;
        let (name, mut file) = self.create()?;
        let written = file.write_all(&secret).and_then(|()| file.sync_all());
        let linked = linkat(&self.folder, &name, &self.folder, SECRET, AtFlags::empty());
        self.remove(&name);
        written?;
        match linked {
            Ok(()) => Ok(secret),
            Err(Errno::EXIST) => {
                let theirs = self.read_secret()?;
                theirs.ok_or_else(|| unsafe_because(SECRET, "comes and goes"))
            }
            Err(errno) => Err(errno.into()),
        }
    }

    /// Makes an unfinished file; returns its name too.
    ///
    /// # Errors
    /// What the host refuses.
    pub fn create(&self) -> Result<(String, File), FolderError> {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let process = std::process::id();
        loop {
            let number = NUMBER.fetch_add(1, Ordering::Relaxed);
            let name = format!("{UNFINISHED}{process}-{number}");
            let flags = OFlags::RDWR | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
            match openat(&self.folder, &name, flags, Mode::RUSR | Mode::WUSR) {
                Ok(file) => return Ok((name, file.into())),
                // Left behind by a process that had the same number.
                Err(Errno::EXIST) => {}
                Err(errno) => return Err(errno.into()),
            }
        }
    }

    /// Gives a finished file its name, in place of what had it.
    ///
    /// # Errors
    /// What the host refuses.
    pub fn finish(&self, unfinished: &str, name: &str) -> Result<(), FolderError> {
        Ok(renameat(&self.folder, unfinished, &self.folder, name)?)
    }

    /// Removes a file, if it is there.
    pub fn remove(&self, name: &str) {
        // One that cannot be removed is found again later.
        let _ = unlinkat(&self.folder, name, AtFlags::empty());
    }

    /// Removes what killed processes have left behind, and all files that begin with
    /// `prefix` but the youngest `keep`.
    pub fn tidy(&self, prefix: &str, keep: usize) {
        let Ok(entries) = Dir::read_from(self.folder.as_fd()) else {
            return;
        };
        let mut files = Vec::new();
        for entry in entries.flatten() {
            let name = entry.file_name().to_string_lossy().into_owned();
            let Ok(stat) = statat(&self.folder, &name, AtFlags::SYMLINK_NOFOLLOW) else {
                continue;
            };
            if is_abandoned(&name) {
                self.remove(&name);
            } else if name.starts_with(prefix) {
                files.push((stat.st_mtime, name));
            }
        }
        files.sort();
        let old = files.len().saturating_sub(keep);
        files
            .iter()
            .take(old)
            .for_each(|(_, name)| self.remove(name));
    }
}

/// Whether a file is an unfinished one of a process that is no more. A process of
/// another host or container that is wronged here loses its file, no more.
fn is_abandoned(name: &str) -> bool {
    let maker = || {
        let (process, _) = name.strip_prefix(UNFINISHED)?.split_once('-')?;
        Pid::from_raw(process.parse().ok()?)
    };
    maker().is_some_and(|pid| test_kill_process(pid) == Err(Errno::SRCH))
}

/// Whether it is the user's own, and nobody else can change it.
fn own(stat: &Stat, name: &str, kind: FileType) -> Result<(), FolderError> {
    let problem = if FileType::from_raw_mode(stat.st_mode) != kind {
        "is not what it should be"
    } else if stat.st_uid != rustix::process::geteuid().as_raw() {
        "belongs to somebody else"
    } else if stat.st_mode & 0o022 != 0 {
        "can be written by others"
    } else {
        return Ok(());
    };
    Err(unsafe_because(name, problem))
}

fn unsafe_because(name: &str, problem: &'static str) -> FolderError {
    let name = name.to_owned();
    FolderError::Unsafe { name, problem }
}
