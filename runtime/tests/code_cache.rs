//! `--code-cache` as a user meets it: where code goes, and what is said if that fails.
//! Whatever is wrong with folder or file, the guest runs to its end.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

/// An empty folder of a test's own.
fn folder(name: &str) -> PathBuf {
    let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
    let _ = fs::remove_dir_all(&path);
    fs::create_dir(&path).expect("a folder");
    path
}

/// The program with the guest that it carries, the user's folder for caches being `home`.
fn start(home: Option<&Path>, arguments: &[&str]) -> Child {
    let mut command = Command::new(env!("CARGO_BIN_EXE_ring1"));
    command
        .args(["boot", "--stats", "--tier", "direct"])
        .args(arguments);
    command.env_remove("HOME").env_remove("XDG_CACHE_HOME");
    if let Some(home) = home {
        command.env("XDG_CACHE_HOME", home);
    }
    command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    command.spawn().expect("ring1 starts")
}

/// Its warnings, and how many blocks it found on disk. The guest must have done well.
fn end(child: Child) -> (Vec<String>, u64) {
    let output = child.wait_with_output().expect("ring1 ends");
    let (said, complaints) = (output.stdout, output.stderr);
    let [said, complaints] = [said, complaints].map(|t| String::from_utf8_lossy(&t).into_owned());
    assert!(output.status.success(), "{said}\n{complaints}");
    let loaded = said
        .lines()
        .find_map(|line| line.trim().strip_prefix("blocks loaded from disk"));
    let loaded = loaded.and_then(|count| count.trim().parse().ok());
    let complaints = complaints.lines().map(str::to_owned).collect();
    (complaints, loaded.expect("a row of the table"))
}

fn run(home: Option<&Path>, arguments: &[&str]) -> (Vec<String>, u64) {
    end(start(home, arguments))
}

fn only_file_of_code(folder: &Path) -> PathBuf {
    let files = fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path());
    let named = |path: &PathBuf| {
        path.file_name()
            .unwrap()
            .to_string_lossy()
            .starts_with("code-")
    };
    let found: Vec<PathBuf> = files.filter(named).collect();
    assert_eq!(found.len(), 1, "{found:?}");
    found[0].clone()
}

#[test]
fn code_is_kept_in_the_users_folder_unless_told_otherwise() {
    let home = folder("users");
    assert_eq!(run(Some(&home), &["--code-cache", "off"]), (vec![], 0));
    assert_eq!(fs::read_dir(&home).unwrap().count(), 0);
    assert_eq!(run(Some(&home), &[]), (vec![], 0));
    only_file_of_code(&home.join("ring1"));
    let (complaints, loaded) = run(Some(&home), &[]);
    assert!(
        complaints.is_empty() && loaded > 500,
        "{complaints:?} {loaded}"
    );
    let given = folder("given");
    let arguments = ["--code-cache", given.to_str().unwrap()];
    assert_eq!(run(Some(&home), &arguments), (vec![], 0));
    only_file_of_code(&given);
}

#[test]
fn without_a_folder_it_does_without_and_speaks_of_one_that_was_given() {
    assert_eq!(run(None, &[]), (vec![], 0));
    assert_eq!(run(Some(Path::new("/dev/null")), &[]), (vec![], 0));
    let file = folder("file").join("file");
    fs::write(&file, "text").unwrap();
    let (complaints, loaded) = run(None, &["--code-cache", file.to_str().unwrap()]);
    assert_eq!((complaints.len(), loaded), (1, 0), "{complaints:?}");
    assert!(
        complaints[0].contains("no code is kept in"),
        "{complaints:?}"
    );
    assert_eq!(fs::read(&file).unwrap(), b"text");
}

#[test]
fn a_folder_that_others_can_write_is_refused_also_as_the_users() {
    let home = folder("open");
    fs::create_dir(home.join("ring1")).unwrap();
    fs::set_permissions(home.join("ring1"), fs::Permissions::from_mode(0o777)).unwrap();
    let (complaints, loaded) = run(Some(&home), &[]);
    assert_eq!((complaints.len(), loaded), (1, 0), "{complaints:?}");
    assert!(
        complaints[0].contains("can be written by others"),
        "{complaints:?}"
    );
    assert_eq!(fs::read_dir(home.join("ring1")).unwrap().count(), 0);
}

#[test]
fn a_folder_that_cannot_be_written_is_read_all_the_same() {
    let cache = folder("read-only");
    let arguments = ["--code-cache", cache.to_str().unwrap()];
    run(None, &arguments);
    fs::set_permissions(&cache, fs::Permissions::from_mode(0o500)).unwrap();
    let (complaints, loaded) = run(None, &arguments);
    assert!(
        complaints.is_empty() && loaded > 500,
        "{complaints:?} {loaded}"
    );
    fs::set_permissions(&cache, fs::Permissions::from_mode(0o700)).unwrap();
}

#[test]
fn a_damaged_file_is_spoken_of_once_and_replaced() {
    let cache = folder("damage");
    let arguments = ["--code-cache", cache.to_str().unwrap()];
    run(None, &arguments);
    let file = only_file_of_code(&cache);
    let whole = fs::read(&file).unwrap();
    fs::write(&file, &whole[..whole.len() - 1]).unwrap();
    let (complaints, loaded) = run(None, &arguments);
    assert_eq!((complaints.len(), loaded), (1, 0), "{complaints:?}");
    assert!(
        complaints[0].contains("it has been cut off"),
        "{complaints:?}"
    );
    let (complaints, loaded) = run(None, &arguments);
    assert!(
        complaints.is_empty() && loaded > 500,
        "{complaints:?} {loaded}"
    );
    let mut damaged = whole;
    damaged[2000] ^= 1;
    fs::write(&file, damaged).unwrap();
    let (complaints, _) = run(None, &arguments);
    assert_eq!(complaints.len(), 1, "{complaints:?}");
    assert!(
        complaints[0].contains("the checksum of a part is wrong"),
        "{complaints:?}"
    );
}

#[test]
fn several_at_once_do_not_disturb_each_other() {
    let cache = folder("several");
    let arguments = ["--code-cache", cache.to_str().unwrap()];
    for _ in 0..2 {
        let children: Vec<Child> = (0..4).map(|_| start(None, &arguments)).collect();
        for child in children {
            let (complaints, _) = end(child);
            assert!(complaints.is_empty(), "{complaints:?}");
        }
    }
    let (complaints, loaded) = run(None, &arguments);
    assert!(
        complaints.is_empty() && loaded > 500,
        "{complaints:?} {loaded}"
    );
    assert_eq!(fs::read_dir(&cache).unwrap().count(), 2);
}
