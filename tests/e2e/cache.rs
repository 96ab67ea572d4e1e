//! The directory of compiled components: entries are reused, but not if another user could have written them or they
//! are damaged.

use std::collections::BTreeMap;
use std::fs::{self, File, Permissions};
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown, symlink};
use std::path::{Path, PathBuf};

use tempfile::TempDir;

use crate::harness::{Daylily, Setup, each, run, run_in};

/// Layout of an entry, as `artifact/cache.rs` writes it: magic, key, digest, length of the facts, facts, code.
const KEY: usize = 16;
const DIGEST: usize = KEY + 32;
const FACTS_LENGTH: usize = DIGEST + 32;
const FACTS: usize = FACTS_LENGTH + 4;

/// A directory for compiled components that only one test uses.
struct Cache(TempDir);

impl Cache {
    fn new() -> Self {
        let directory = TempDir::with_prefix("daylily-cache-").expect("a directory");
        let cache = Self(directory);
        cache.mode(0o700);
        cache
    }

    fn path(&self) -> &Path {
        self.0.path()
    }

    fn mode(&self, mode: u32) {
        fs::set_permissions(self.path(), Permissions::from_mode(mode)).expect("a mode");
    }

    fn flags(&self) -> [String; 2] {
        ["--cache-dir".to_owned(), self.path().display().to_string()]
    }

    fn start(&self, package: &str) -> Daylily {
        self.setup(package).start()
    }

    fn setup(&self, package: &str) -> Setup {
        let flags = self.flags();
        Setup::new().route("a.test", package, "").flags(&flags.each_ref().map(String::as_str))
    }

    /// Each file with its inode and its contents.
    fn entries(&self) -> BTreeMap<PathBuf, (u64, Vec<u8>)> {
        let files = fs::read_dir(self.path()).expect("a list of files").map(|file| file.expect("a file"));
        let look = |file: fs::DirEntry| {
            let inode = file.metadata().expect("a file").ino();
            (file.path(), (inode, fs::read(file.path()).expect("its contents")))
        };
        files.map(look).collect()
    }

    /// The only file.
    #[track_caller]
    fn entry(&self) -> PathBuf {
        let entries: Vec<PathBuf> = self.entries().into_keys().collect();
        assert_eq!(entries.len(), 1, "{entries:?}");
        entries[0].clone()
    }
}

fn expect_hello(server: &Daylily) {
    server.get("a.test", "/").expect(200, "Hello World\n");
}

fn warnings(server: &Daylily) -> Vec<String> {
    server.log().matching(|line| line.contains("WARN") && line.contains("cache"))
}

/// Compiling replaces the entry's file, so an unchanged inode shows that nothing was compiled. The changed modification
/// time shows that the entry was used.
#[test]
fn a_second_start_compiles_nothing() {
    let cache = Cache::new();
    expect_hello(&cache.start("hello"));
    let (before, entry) = (cache.entries(), cache.entry());
    assert_eq!(fs::metadata(&entry).expect("the entry").mode() & 0o7777, 0o600);
    let long_ago = std::time::SystemTime::UNIX_EPOCH;
    File::options().write(true).open(&entry).and_then(|file| file.set_modified(long_ago)).expect("a time");
    let server = cache.start("hello");
    expect_hello(&server);
    assert_eq!(cache.entries(), before);
    assert_ne!(fs::metadata(&entry).and_then(|entry| entry.modified()).expect("a time"), long_ago, "it was not read");
    assert_eq!(warnings(&server), Vec::<String>::new());
    // A reload compiles nothing either: it uses the code in memory.
    server.reload();
    assert_eq!(cache.entries(), before);
}

/// A name, how the only entry is damaged, and what the log says about it.
type Damage = (&'static str, fn(&Cache, &Path), &'static str);

fn flip(entry: &Path, at: usize) {
    let mut bytes = fs::read(entry).expect("the entry");
    bytes[at] ^= 1;
    fs::write(entry, bytes).expect("the entry");
}

const DAMAGED: &str = "it is corrupt, or its content does not match its name";

const DAMAGES: &[Damage] = &[
    ("magic", |_, entry| flip(entry, 0), DAMAGED),
    ("key", |_, entry| flip(entry, KEY), DAMAGED),
    ("digest", |_, entry| flip(entry, DIGEST), DAMAGED),
    ("length of the facts", |_, entry| flip(entry, FACTS_LENGTH), DAMAGED),
    ("facts", |_, entry| flip(entry, FACTS), DAMAGED),
    ("code", |_, entry| flip(entry, size(entry) / 2), DAMAGED),
    ("the last byte", |_, entry| flip(entry, size(entry) - 1), DAMAGED),
    ("one byte less", |_, entry| truncate(entry, size(entry) - 1), DAMAGED),
    ("a half", |_, entry| truncate(entry, size(entry) / 2), DAMAGED),
    ("a head alone", |_, entry| truncate(entry, FACTS_LENGTH), DAMAGED),
    ("nothing", |_, entry| truncate(entry, 0), DAMAGED),
    ("another's entry", be_anothers, DAMAGED),
    ("a link", be_a_link, "symbolic link"),
    ("group-writable", |_, entry| set_mode(entry, 0o620), "others can write to it (mode 620)"),
    ("writable by all", |_, entry| set_mode(entry, 0o602), "others can write to it (mode 602)"),
    ("unreadable form", |_, entry| fs::write(entry, "nonsense").expect("the entry"), DAMAGED),
];

fn size(entry: &Path) -> usize {
    usize::try_from(fs::metadata(entry).expect("the entry").len()).expect("a size")
}

fn truncate(entry: &Path, size: usize) {
    File::options().write(true).open(entry).and_then(|file| file.set_len(size as u64)).expect("the entry");
}

fn set_mode(entry: &Path, mode: u32) {
    fs::set_permissions(entry, Permissions::from_mode(mode)).expect("a mode");
}

/// The code of another component, which would give another response.
fn be_anothers(_: &Cache, entry: &Path) {
    let other = Cache::new();
    other.start("state").get("a.test", "/").expect(200, "count: 1\n");
    fs::copy(other.entry(), entry).expect("the other's entry");
}

/// The right code, but at a path that another user could replace.
fn be_a_link(cache: &Cache, entry: &Path) {
    fs::rename(entry, cache.path().join("elsewhere")).expect("another name");
    symlink("elsewhere", entry).expect("a link");
}

#[test]
fn an_entry_that_is_not_sure_to_be_right_is_not_used() {
    let cache = Cache::new();
    expect_hello(&cache.start("hello"));
    let (entry, good) = (cache.entry(), cache.entries());
    let (_, bytes) = &good[&entry];
    each(DAMAGES, |(_, damage, reason)| {
        // Restore the entry after the previous case.
        fs::write(&entry, bytes).expect("the entry");
        set_mode(&entry, 0o600);
        damage(&cache, &entry);
        let server = cache.start("hello");
        expect_hello(&server);
        server.log().wait_for(&["WARN", "cache entry", "ignored", reason, "compiled again"]);
        let again = fs::symlink_metadata(&entry).expect("a new entry");
        assert!(again.is_file(), "what was in the way is still there");
        assert_eq!(again.mode() & 0o7777, 0o600);
        let _only_the_link_has_it = fs::remove_file(cache.path().join("elsewhere"));
        // The next start has no warning about the entry.
        let server = cache.start("hello");
        expect_hello(&server);
        assert_eq!(warnings(&server), Vec::<String>::new());
    });
}

/// An entry that cannot be replaced does not prevent a start.
#[test]
fn a_directory_in_the_place_of_an_entry_is_left_alone() {
    let cache = Cache::new();
    expect_hello(&cache.start("hello"));
    let entry = cache.entry();
    fs::remove_file(&entry).expect("the entry");
    fs::create_dir(&entry).expect("a directory");
    let server = cache.start("hello");
    expect_hello(&server);
    server.log().wait_for(&["WARN", "cache entry", "ignored", "not a regular file", "compiled again"]);
    assert_eq!(fs::read_dir(cache.path()).expect("a list of files").count(), 1, "an unfinished file is left");
}

/// A directory of another user: root changes the owner of one, other users take one of root's.
fn anothers_directory(cache: &Cache) -> PathBuf {
    if !rustix::process::geteuid().is_root() {
        return "/usr".into();
    }
    chown(cache.path(), Some(65_534), None).expect("another owner");
    cache.path().to_owned()
}

/// A name, the directory to use, and what the error says about it.
type Unsafe = (&'static str, fn(&Cache) -> PathBuf, &'static [&'static str]);

const UNSAFE: &[Unsafe] = &[
    ("for all", |cache| writable(cache, 0o777), &["is not safe", "others can write to it (mode 777)", "chmod go-w"]),
    ("sticky", |cache| writable(cache, 0o1777), &["is not safe", "others can write to it (mode 1777)", "chmod go-w"]),
    ("a group's", |cache| writable(cache, 0o770), &["is not safe", "others can write to it (mode 770)", "chmod go-w"]),
    ("somebody else's", anothers_directory, &["is not safe", "it belongs to user ", "chown"]),
    ("a file", below_a_file, &["failed to open the cache directory", "--cache-dir"]),
];

fn writable(cache: &Cache, mode: u32) -> PathBuf {
    cache.mode(mode);
    cache.path().to_owned()
}

fn below_a_file(cache: &Cache) -> PathBuf {
    fs::write(cache.path().join("file"), "").expect("a file");
    cache.path().join("file")
}

#[test]
fn a_directory_that_is_not_ours_alone_is_refused() {
    each(UNSAFE, |(_, spoil, parts)| {
        let cache = Cache::new();
        let directory = spoil(&cache).display().to_string();
        for command in ["serve", "check"] {
            let refused = run(&[command, "--listen", "127.0.0.1:0", "--cache-dir", &directory]);
            refused.expect(78, parts).expect(78, &[&directory]);
            assert_eq!(refused.stdout, "");
        }
        // Nothing was written to the directory.
        assert!(!cache.path().join("daylily").exists());
        assert!(cache.entries().keys().all(|path| path.ends_with("file")), "{:?}", cache.entries().keys());
    });
}

/// The default directory was not configured by the operator, but compiled code from it would be run all the same.
#[test]
fn a_default_directory_that_is_not_ours_alone_is_refused() {
    let home = TempDir::new().expect("a directory");
    let directory = home.path().join("daylily");
    fs::create_dir(&directory).expect("a directory");
    fs::set_permissions(&directory, Permissions::from_mode(0o777)).expect("a mode");
    let environment = [("XDG_CACHE_HOME", home.path().to_str().expect("a path in UTF-8"))];
    let refused = run_in(&[], &environment, &["serve", "--listen", "127.0.0.1:0"]);
    refused.expect(78, &["is not safe", "others can write to it (mode 777)"]);
}

#[test]
fn a_reload_looks_at_the_directory_again() {
    let cache = Cache::new();
    let server = cache.start("hello");
    cache.mode(0o777);
    server.command(&["reload"]).expect(78, &["is not safe"]);
    expect_hello(&server);
    cache.mode(0o700);
    server.reload();
}

/// If no directory can be used, each start compiles.
#[test]
fn a_default_directory_that_cannot_be_used_is_done_without() {
    let home = TempDir::new().expect("a directory");
    let linked = home.path().join("linked");
    fs::create_dir(&linked).expect("a directory");
    // Only this user can write there, but even root cannot create files in it.
    symlink("/proc/self", linked.join("daylily")).expect("a link");
    let cases =
        [(PathBuf::from("/proc/nothing"), "failed to open the cache directory"), (linked, "failed to store the code")];
    each(&cases, |(home, warning)| {
        let server = Setup::new()
            .route("a.test", "hello", "")
            .without("--cache-dir")
            .env("XDG_CACHE_HOME", &home.display().to_string())
            .start();
        expect_hello(&server);
        server.log().wait_for(&["WARN", warning]);
    });
}

#[test]
fn the_default_directory_is_made_for_us_alone() {
    let home = TempDir::new().expect("a directory");
    for (variable, directory) in [("XDG_CACHE_HOME", "xdg/daylily"), ("CACHE_DIRECTORY", "systemd")] {
        let value = home.path().join(directory.trim_end_matches("/daylily")).display().to_string();
        let server = Setup::new().route("a.test", "hello", "").without("--cache-dir").env(variable, &value).start();
        expect_hello(&server);
        let directory = home.path().join(directory);
        assert_eq!(fs::metadata(&directory).expect("the directory").mode() & 0o7777, 0o700);
        assert_eq!(fs::read_dir(&directory).expect("a list of files").count(), 1);
    }
}

#[test]
fn the_least_recently_used_makes_room() {
    let cache = Cache::new();
    expect_hello(&cache.start("hello"));
    let hello = cache.entry();
    let both = {
        cache.start("state").get("a.test", "/").expect(200, "count: 1\n");
        cache.entries().values().map(|(_, bytes)| bytes.len()).sum::<usize>()
    };
    assert_eq!(cache.entries().len(), 2, "there is room for two");
    let state = cache.entries().into_keys().find(|path| *path != hello).expect("the other entry");
    fs::remove_file(&state).expect("the entry");
    // One byte too few for both entries.
    let limit = format!("cache_max = {}", both - 1);
    cache.setup("state").top(&limit).start().get("a.test", "/").expect(200, "count: 1\n");
    assert_eq!(cache.entry(), state);
    // A component whose code alone is over the limit is served, but not stored.
    fs::remove_file(&state).expect("the entry");
    expect_hello(&cache.setup("hello").top("cache_max = 1").start());
    assert_eq!(cache.entries().len(), 0);
}

#[test]
fn a_cache_of_none_writes_nothing() {
    let cache = Cache::new();
    let server = cache.setup("hello").top("cache_max = 0").start();
    expect_hello(&server);
    server.reload();
    assert_eq!(cache.entries().len(), 0);
    assert_eq!(warnings(&server), Vec::<String>::new());
}

#[test]
fn servers_that_start_at_once_share_it() {
    const PACKAGES: &[&str] = &["hello", "state", "stream", "burn"];
    let cache = Cache::new();
    let setup = || PACKAGES.iter().fold(cache.setup("hello"), |setup, package| setup.route(package, package, ""));
    let mut servers: Vec<Daylily> = (0..3).map(|_| setup().spawn()).collect();
    for server in &mut servers {
        server.announced();
        expect_hello(server);
        server.get("state", "/").expect(200, "count: 1\n");
        server.get("stream", "/silent").expect(200, "done\n");
        server.get("burn", "/ms").expect(200, "done\n");
        assert_eq!(warnings(server), Vec::<String>::new());
    }
    let entries = cache.entries();
    assert!(entries.keys().all(|path| path.extension().is_some_and(|end| end == "cwasm")), "{:?}", entries.keys());
    assert_eq!(entries.len(), PACKAGES.len());
    // The entries they stored are valid.
    let server = setup().start();
    assert_eq!(cache.entries(), entries, "something was compiled again");
    server.get("state", "/").expect(200, "count: 1\n");
}
