//! Names this build: whoever keeps code beyond the life of a process must know whether
//! the same translator made it. The name is a hash of the sources, of the dependencies'
//! versions and of the compiler's.

use std::collections::hash_map::DefaultHasher;
use std::hash::Hasher;
use std::path::{Path, PathBuf};
use std::process::Command;

fn main() {
    match name() {
        Ok(name) => println!("cargo::rustc-env=TRANSLATOR_BUILD={name:016x}"),
        Err(error) => {
            println!("cargo::error=cannot name the build: {error}");
            std::process::exit(1);
        }
    }
}

fn name() -> Result<u64, Box<dyn std::error::Error>> {
    let here = PathBuf::from(std::env::var("CARGO_MANIFEST_DIR")?);
    let mut files = Vec::new();
    find(&here.join("src"), &mut files)?;
    files.push(here.join("Cargo.toml"));
    let lock = here.join("../Cargo.lock");
    files.extend(lock.exists().then_some(lock));
    files.sort();
    println!("cargo::rerun-if-changed=src");
    let mut hasher = DefaultHasher::new();
    for file in files {
        println!("cargo::rerun-if-changed={}", file.display());
        let path = file.strip_prefix(&here)?.as_os_str().as_encoded_bytes();
        part(&mut hasher, path);
        part(&mut hasher, &std::fs::read(&file)?);
    }
    let compiler = std::env::var("RUSTC").unwrap_or_else(|_| "rustc".into());
    part(
        &mut hasher,
        &Command::new(compiler).arg("-vV").output()?.stdout,
    );
    Ok(hasher.finish())
}

fn part(hasher: &mut DefaultHasher, bytes: &[u8]) {
    hasher.write_usize(bytes.len());
    hasher.write(bytes);
}

fn find(folder: &Path, files: &mut Vec<PathBuf>) -> std::io::Result<()> {
    for entry in std::fs::read_dir(folder)? {
        let entry = entry?;
        match entry.file_type()?.is_dir() {
            true => find(&entry.path(), files)?,
            false => files.push(entry.path()),
        }
    }
    Ok(())
}
