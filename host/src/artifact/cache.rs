//! The on-disk cache of compiled components.
//!
//! wasmtime trusts compiled code completely: a process that can write it can run code in this one. So the directory
//! must belong to our user and be writable by no other; files are opened relative to the directory that was checked,
//! even if its path is changed later; and an entry is used only if its header has the requested key and its digest is
//! correct. Any other entry is removed, and the component is compiled again.

use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
use std::time::{Duration, SystemTime};

use daylily_core::log_target;
use daylily_core::units::format_size;
use rustix::fs::{AtFlags, Dir, FileType, Mode, OFlags, Stat, Timespec, Timestamps, UTIME_NOW};

use crate::sys::dirs::{NotPrivate, not_ours_alone, open_private};

/// The layout of an entry: this magic number, the key, the digest of all that follows, the length of the facts (u32,
/// little-endian), the facts, the code.
const MAGIC: &[u8; 16] = b"daylily cache 1\n";
const HASH_BYTES: usize = 32;
const HEAD_BYTES: usize = MAGIC.len() + 2 * HASH_BYTES;

/// Maximum size of an entry that is read. The entry of the largest accepted component is smaller.
const MAX_ENTRY_BYTES: u64 = 4 << 30;

const SUFFIX: &str = ".cwasm";
const UNFINISHED_SUFFIX: &str = ".tmp";

/// An unfinished file of this age is removed: its writer has ended.
const ABANDONED_AFTER: Duration = Duration::from_secs(3600);

/// The key of an entry: a digest of the component and of everything that determines its code.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Key(pub(crate) [u8; HASH_BYTES]);

/// The contents of an entry.
pub(crate) struct Entry {
    pub(crate) facts: Vec<u8>,
    pub(crate) code: Vec<u8>,
}

/// A directory of compiled components. Several processes may use it at a time.
pub(crate) struct Cache {
    dir: OwnedFd,
    path: PathBuf,
    max_bytes: u64,
}

/// Why a directory cannot be used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CacheError {
    #[error("failed to open the cache directory `{path}`: {error}; name another with cache_dir (--cache-dir)", path = path.display())]
    Unusable { path: PathBuf, error: io::Error },
    #[error(
        "the cache directory `{path}` is not safe: {reason}, and daylily executes the compiled code in it; \
         {remedy}, or name another with cache_dir (--cache-dir)", path = path.display()
    )]
    Unsafe { path: PathBuf, reason: String, remedy: &'static str },
}

impl Cache {
    /// Opens the directory, and creates it if it does not exist.
    ///
    /// # Errors
    ///
    /// If it cannot be opened or created, or if another user can write to it.
    pub(crate) fn open(path: &Path, max_bytes: u64) -> Result<Self, CacheError> {
        match open_private(path) {
            Ok(dir) => Ok(Self { dir, path: path.to_owned(), max_bytes }),
            Err(NotPrivate::Unusable(error)) => Err(CacheError::Unusable { path: path.to_owned(), error }),
            Err(NotPrivate::Unsafe { reason, remedy }) => {
                Err(CacheError::Unsafe { path: path.to_owned(), reason, remedy })
            }
        }
    }

    /// The entry of `key`. An entry that is damaged, or has another key, is removed and not returned.
    pub(crate) fn get(&self, key: &Key) -> Option<Entry> {
        let name = file_name(key);
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::NONBLOCK;
        let error = match rustix::fs::openat(&self.dir, &*name, flags, Mode::empty()) {
            Err(rustix::io::Errno::NOENT) => return None,
            Err(error) => error.to_string(),
            Ok(file) => match read(&file, key) {
                Ok(entry) => {
                    note_use(&file);
                    return Some(entry);
                }
                Err(reason) => reason,
            },
        };
        tracing::warn!(
            target: log_target::COMPONENT,
            "cache entry `{}/{name}` ignored: {error}; the component is compiled again",
            self.path.display()
        );
        // A file, or a directory that a process of this user has put in its place.
        for kind in [AtFlags::empty(), AtFlags::REMOVEDIR] {
            let _ = rustix::fs::unlinkat(&self.dir, &*name, kind);
        }
        None
    }

    /// Stores an entry, and evicts others if there is not enough room. Readers see either the whole entry or none.
    ///
    /// # Errors
    ///
    /// If it cannot be written; then no file is left behind.
    pub(crate) fn put(&self, key: &Key, facts: &[u8], code: &[u8]) -> io::Result<()> {
        let unfinished = unfinished_name();
        let written = self
            .write(&unfinished, key, facts, code)
            .and_then(|()| Ok(rustix::fs::renameat(&self.dir, &*unfinished, &self.dir, &*file_name(key))?));
        if written.is_err() {
            let _ = rustix::fs::unlinkat(&self.dir, &*unfinished, AtFlags::empty());
        }
        written?;
        self.evict()
    }

    fn write(&self, name: &str, key: &Key, facts: &[u8], code: &[u8]) -> io::Result<()> {
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
        let mut file = File::from(rustix::fs::openat(&self.dir, name, flags, Mode::RUSR | Mode::WUSR)?);
        let facts_len = u32::try_from(facts.len()).map_err(io::Error::other)?.to_le_bytes();
        let mut digest = blake3::Hasher::new();
        digest.update(&facts_len).update(facts).update(code);
        for part in [&MAGIC[..], &key.0, digest.finalize().as_bytes(), &facts_len, facts, code] {
            file.write_all(part)?;
        }
        Ok(())
    }

    /// Removes the least recently used entries until the rest is within the limit, and files that their writers have
    /// left unfinished.
    fn evict(&self) -> io::Result<()> {
        let mut entries = Vec::new();
        for entry in Dir::read_from(&self.dir)? {
            let name = entry?.file_name().to_string_lossy().into_owned();
            // Another process may have removed it in the meantime.
            let Ok(stat) = rustix::fs::statat(&self.dir, &*name, AtFlags::SYMLINK_NOFOLLOW) else { continue };
            if name.ends_with(UNFINISHED_SUFFIX) && age(&stat) > ABANDONED_AFTER {
                let _ = rustix::fs::unlinkat(&self.dir, &*name, AtFlags::empty());
            } else if name.ends_with(SUFFIX) {
                entries.push((stat.st_mtime, stat.st_mtime_nsec, u64::try_from(stat.st_size).unwrap_or(0), name));
            }
        }
        entries.sort();
        let mut total: u64 = entries.iter().map(|(_, _, size, _)| size).sum();
        for (_, _, size, name) in entries {
            if total <= self.max_bytes {
                break;
            }
            total -= size;
            let _ = rustix::fs::unlinkat(&self.dir, &*name, AtFlags::empty());
        }
        Ok(())
    }
}

fn read(file: &OwnedFd, key: &Key) -> Result<Entry, String> {
    let stat = rustix::fs::fstat(file).map_err(|error| error.to_string())?;
    if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
        return Err("it is not a regular file".to_owned());
    }
    if let Some((reason, _)) = not_ours_alone(&stat) {
        return Err(reason);
    }
    if u64::try_from(stat.st_size).unwrap_or(0) > MAX_ENTRY_BYTES {
        return Err(format!("it is larger than {}", format_size(MAX_ENTRY_BYTES)));
    }
    let mut bytes = Vec::with_capacity(usize::try_from(stat.st_size).unwrap_or(0));
    File::from(file.try_clone().map_err(|error| error.to_string())?)
        .take(MAX_ENTRY_BYTES)
        .read_to_end(&mut bytes)
        .map_err(|error| error.to_string())?;
    parse(&bytes, key).ok_or_else(|| "it is corrupt, or its content does not match its name".to_owned())
}

pub(crate) fn parse(bytes: &[u8], key: &Key) -> Option<Entry> {
    let (head, rest) = bytes.split_at_checked(HEAD_BYTES)?;
    let digest = head.strip_prefix(MAGIC)?.strip_prefix(&key.0)?;
    if blake3::hash(rest).as_bytes() != digest {
        return None;
    }
    let (facts_len, rest) = rest.split_first_chunk()?;
    let (facts, code) = rest.split_at_checked(usize::try_from(u32::from_le_bytes(*facts_len)).ok()?)?;
    Some(Entry { facts: facts.to_vec(), code: code.to_vec() })
}

/// Sets the modification time, by which entries are evicted, to now. If that fails, the entry is evicted a little
/// early.
fn note_use(file: impl AsFd) {
    let now = Timespec { tv_sec: 0, tv_nsec: UTIME_NOW };
    let _ = rustix::fs::futimens(file, &Timestamps { last_access: now, last_modification: now });
}

fn age(stat: &Stat) -> Duration {
    let written = u64::try_from(stat.st_mtime).unwrap_or(0);
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    now.saturating_sub(Duration::from_secs(written))
}

fn file_name(key: &Key) -> String {
    format!("{}{SUFFIX}", blake3::Hash::from_bytes(key.0).to_hex())
}

/// A name that is unique among all writers, in this process and others.
fn unfinished_name() -> String {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let since_epoch = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    let (pid, at, next) = (std::process::id(), since_epoch.as_nanos(), NEXT.fetch_add(1, Relaxed));
    format!("{pid}-{at}-{next}{UNFINISHED_SUFFIX}")
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn key(first: u8) -> Key {
        let mut key = [7; HASH_BYTES];
        key[0] = first;
        Key(key)
    }

    fn open(dir: &tempfile::TempDir, max_bytes: u64) -> Cache {
        Cache::open(dir.path(), max_bytes).expect("a directory of our own")
    }

    fn names(dir: &tempfile::TempDir) -> Vec<String> {
        let entries = fs::read_dir(dir.path()).expect("the directory");
        entries.map(|entry| entry.expect("an entry").file_name().to_string_lossy().into_owned()).collect()
    }

    #[test]
    fn gives_what_was_put() {
        let dir = tempfile::tempdir().expect("a directory");
        let cache = open(&dir, 1 << 20);
        assert!(cache.get(&key(1)).is_none());
        cache.put(&key(1), b"facts", b"code").expect("room");
        let entry = cache.get(&key(1)).expect("the entry");
        assert_eq!((entry.facts.as_slice(), entry.code.as_slice()), (&b"facts"[..], &b"code"[..]));
        assert!(cache.get(&key(2)).is_none());
    }

    /// Flips each byte of an entry, truncates it to each length, and appends bytes.
    #[test]
    fn gives_nothing_that_was_damaged() {
        let dir = tempfile::tempdir().expect("a directory");
        let cache = open(&dir, 1 << 20);
        let path = dir.path().join(file_name(&key(1)));
        cache.put(&key(1), b"facts", b"some code").expect("room");
        let whole = fs::read(&path).expect("the entry");
        let flipped = (0..whole.len()).map(|at| {
            let mut bytes = whole.clone();
            bytes[at] ^= 1 << (at % 8);
            bytes
        });
        let cut = (0..whole.len()).map(|len| whole[..len].to_vec());
        let grown = std::iter::once([whole.as_slice(), b"x"].concat());
        for bytes in flipped.chain(cut).chain(grown) {
            fs::write(&path, &bytes).expect("a damaged entry");
            assert!(cache.get(&key(1)).is_none(), "{bytes:?}");
            assert!(!path.exists(), "a damaged entry stays");
        }
        fs::write(&path, &whole).expect("the whole entry");
        assert!(cache.get(&key(1)).is_some());
        // An entry under the file name of another key.
        fs::rename(&path, dir.path().join(file_name(&key(2)))).expect("another name");
        assert!(cache.get(&key(2)).is_none());
    }

    #[test]
    fn gives_nothing_that_is_no_file_of_ours() {
        let dir = tempfile::tempdir().expect("a directory");
        let cache = open(&dir, 1 << 20);
        let path = dir.path().join(file_name(&key(1)));
        let put = || cache.put(&key(1), b"facts", b"code").expect("room");
        put();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o620)).expect("a mode");
        assert!(cache.get(&key(1)).is_none(), "the group can write it");
        put();
        fs::rename(&path, dir.path().join("elsewhere")).expect("another name");
        std::os::unix::fs::symlink("elsewhere", &path).expect("a link");
        assert!(cache.get(&key(1)).is_none(), "it is a link");
        fs::create_dir(&path).expect("a directory");
        assert!(cache.get(&key(1)).is_none(), "it is a directory");
        put();
        assert!(cache.get(&key(1)).is_some(), "the directory is still in its place");
    }

    #[test]
    fn refuses_a_directory_that_others_can_write() {
        for mode in [0o770, 0o707, 0o777, 0o1777, 0o720] {
            let dir = tempfile::tempdir().expect("a directory");
            fs::set_permissions(dir.path(), fs::Permissions::from_mode(mode)).expect("a mode");
            let refused = Cache::open(dir.path(), 1).err().map(|error| error.to_string()).unwrap_or_default();
            assert!(refused.contains("others can write") && refused.contains("chmod"), "{mode:o}: {refused}");
        }
    }

    #[test]
    fn removes_what_was_used_least_recently() {
        let dir = tempfile::tempdir().expect("a directory");
        let code = [0; 1000];
        let cache = open(&dir, 3 * 1200);
        for at in 1..=3 {
            cache.put(&key(at), b"", &code).expect("room");
            let old = SystemTime::now() - Duration::from_secs(100 - u64::from(at));
            let file = File::options().write(true).open(dir.path().join(file_name(&key(at)))).expect("the entry");
            file.set_modified(old).expect("a time");
        }
        assert!(cache.get(&key(1)).is_some(), "used again");
        cache.put(&key(4), b"", &code).expect("room");
        let kept: Vec<bool> = (1..=4).map(|at| cache.get(&key(at)).is_some()).collect();
        assert_eq!(kept, [true, false, true, true]);
    }

    #[test]
    fn leaves_nothing_unfinished() {
        let dir = tempfile::tempdir().expect("a directory");
        let cache = open(&dir, 1 << 20);
        let (old, new) = (dir.path().join("1-1-1.tmp"), dir.path().join("2-2-2.tmp"));
        for path in [&old, &new] {
            fs::write(path, b"half").expect("an unfinished file");
        }
        let file = File::options().write(true).open(&old).expect("it");
        file.set_modified(SystemTime::now() - 2 * ABANDONED_AFTER).expect("a time");
        cache.put(&key(1), b"", b"code").expect("room");
        let mut left = names(&dir);
        left.sort();
        assert_eq!(left, [file_name(&key(1)), "2-2-2.tmp".to_owned()]);
    }
}
