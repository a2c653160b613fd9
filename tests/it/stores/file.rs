//! Tokens in one file that all processes of a machine share.

use std::{
    error::Error,
    fs,
    future::{Future, poll_fn},
    io::Read,
    path::PathBuf,
    pin::pin,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    task::Poll,
    time::{Duration, Instant, UNIX_EPOCH},
};

use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
use tokio::time::{sleep, timeout};
use tower_oauth::store::{
    EncryptionKey, File, Leased, Record, StoreError, StoreKey, TokenStore, Written,
};

use super::contract::{self, generation, granted, record};

/// A folder of its own; it is deleted when this is dropped.
pub struct Folder(PathBuf);

impl Folder {
    pub fn new(name: &str) -> Self {
        let name = format!("tower-oauth-store-{name}-{}", std::process::id());
        let path = std::env::temp_dir().join(name);
        let _ = fs::remove_dir_all(&path);
        fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    pub fn names(&self) -> Vec<String> {
        let files = fs::read_dir(&self.0).unwrap();
        let mut names: Vec<_> = files
            .map(|file| file.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    }

    fn store(&self) -> File {
        File::new(self.path("tokens"))
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn key() -> StoreKey {
    StoreKey::named("key")
}

fn encryption() -> EncryptionKey {
    EncryptionKey::from_bytes([7; 32])
}

async fn set(store: &File, expected: Option<u64>, record: &Record) -> Result<Written, StoreError> {
    store.compare_and_set(&key(), expected, record, None).await
}

/// A first record, which says this.
async fn kept(store: &File, text: &[u8]) {
    let written = set(store, None, &record(1, text)).await;
    assert_eq!(written.unwrap(), Written::Done);
}

/// What all operations fail with.
async fn fails(store: &File) -> StoreError {
    let lease = tower_oauth::store::Lease::new("owner", 1);
    let (key, time) = (key(), Duration::from_secs(1));
    let errors = [
        store.read(&key).await.unwrap_err(),
        set(store, None, &record(1, b"text")).await.unwrap_err(),
        store.lease(&key, "owner", time).await.unwrap_err(),
        store.renew(&key, &lease, time).await.unwrap_err(),
        store.release(&key, &lease).await.unwrap_err(),
    ];
    for error in &errors {
        assert_eq!(error.to_string(), errors[0].to_string());
        assert_eq!(error.is_transient(), errors[0].is_transient());
    }
    errors[0].clone()
}

#[tokio::test]
async fn a_file_keeps_the_contract() {
    contract::holds(&Folder::new("contract").store()).await;
}

#[tokio::test]
async fn an_encrypted_file_keeps_the_contract() {
    let folder = Folder::new("encrypted");
    contract::holds(&folder.store().encrypted_with(encryption())).await;
}

#[tokio::test]
async fn two_of_one_path_are_one_store() {
    let folder = Folder::new("two");
    let (one, other) = (folder.store(), folder.store());
    kept(&one, b"text").await;
    assert_eq!(other.read(&key()).await.unwrap().unwrap().text(), b"text");
    let lease = granted(&one, &key(), "one").await;
    let held = other.lease(&key(), "other", Duration::from_secs(1)).await;
    assert!(matches!(held.unwrap(), Leased::Held { .. }));
    other.release(&key(), &lease).await.unwrap();
    granted(&other, &key(), "other").await;
}

#[cfg(unix)]
// rule 25
#[tokio::test]
async fn all_files_are_for_this_user_alone_and_none_is_made_too_soon() {
    use std::os::unix::fs::PermissionsExt;

    let folder = Folder::new("modes");
    let store = folder.store();
    assert!(store.read(&key()).await.unwrap().is_none());
    assert_eq!(folder.names(), <[&str; 0]>::default(), "reading made these");
    kept(&store, b"text").await;
    granted(&store, &key(), "owner").await;
    assert_eq!(folder.names(), ["tokens", "tokens.lock"]);
    for name in folder.names() {
        let mode = fs::metadata(folder.path(&name)).unwrap().permissions();
        assert_eq!(mode.mode() & 0o777, 0o600, "{name}");
    }
}

#[tokio::test]
async fn a_key_hides_what_the_records_say() {
    let secret = b"the-secret-refresh-token";
    for encrypted in [false, true] {
        let folder = Folder::new(&format!("secret-{encrypted}"));
        let store = match encrypted {
            true => folder.store().encrypted_with(encryption()),
            false => folder.store(),
        };
        kept(&store, secret).await;
        let file = fs::read_to_string(folder.path("tokens")).unwrap();
        let words = file.split(['=', '&', '\n']);
        let told = words.filter_map(|word| BASE64_URL_SAFE_NO_PAD.decode(word).ok());
        let told = told.chain([file.clone().into_bytes()]);
        let told: Vec<u8> = told.flatten().collect();
        let readable = told.windows(6).any(|six| six == &secret[4..10]);
        assert_eq!(readable, !encrypted, "{file}");
        let shown = format!("{store:?}");
        assert!(
            shown.contains(&format!("encrypted: {encrypted}")),
            "{shown}"
        );
    }
}

#[tokio::test]
async fn a_record_of_another_key_is_an_error_and_stays() {
    let folder = Folder::new("keys");
    let with = |byte| {
        folder
            .store()
            .encrypted_with(EncryptionKey::from_bytes([byte; 32]))
    };
    kept(&with(1), b"secret").await;
    for (store, problem) in [
        (with(2), "can't be opened with the encryption key"),
        (folder.store(), "no key was given"),
    ] {
        let error = store.read(&key()).await.unwrap_err();
        assert!(!error.is_transient());
        let said = error.to_string();
        let path = folder.path("tokens");
        assert!(said.contains(problem), "{said}");
        assert!(said.contains(path.to_str().unwrap()), "{said}");
    }
    assert_eq!(
        with(1).read(&key()).await.unwrap().unwrap().text(),
        b"secret"
    );
    assert_eq!(folder.names(), ["tokens", "tokens.lock"]);
}

/// A file as it is written, with a record and a lease.
async fn whole_file() -> Vec<u8> {
    let folder = Folder::new("whole");
    let store = folder.store();
    kept(&store, b"hunter2 hunter2").await;
    granted(&store, &key(), "owner").await;
    fs::read(folder.path("tokens")).unwrap()
}

fn damaged(whole: &[u8]) -> Vec<Vec<u8>> {
    let cuts = (0..whole.len()).map(|cut| whole[..cut].to_vec());
    let flips = (0..whole.len()).map(|at| {
        let mut flipped = whole.to_vec();
        flipped[at] ^= 1 << (at % 8);
        flipped
    });
    let others = [
        b"\xff\xfe not UTF-8".to_vec(),
        vec![0; whole.len()],
        b"{\"refresh_token\":\"hunter2\"}\n".to_vec(),
        [whole, b"\n"].concat(),
        [whole, whole].concat(),
    ];
    cuts.chain(flips).chain(others).collect()
}

// rule F26
#[tokio::test]
async fn a_corrupt_file_is_set_aside_and_named() {
    let folder = Folder::new("corrupt");
    let (store, whole) = (folder.store(), whole_file().await);
    let (path, aside) = (folder.path("tokens"), folder.path("tokens.corrupt"));
    for (at, damaged) in damaged(&whole).into_iter().enumerate() {
        fs::write(&path, &damaged).unwrap();
        // Whichever comes first.
        let error = match at % 2 {
            0 => store.read(&key()).await.unwrap_err(),
            _ => set(&store, None, &record(1, b"new")).await.unwrap_err(),
        };
        assert!(!path.exists(), "{at}: {error}");
        assert_eq!(fs::read(&aside).unwrap(), damaged, "{at}");
        let said = format!("{error} {error:?}");
        assert!(!said.contains("hunter"), "{said}");
        assert!(said.contains(path.to_str().unwrap()), "{said}");
        assert!(said.contains(aside.to_str().unwrap()), "{said}");
        assert!(said.contains("delete"), "{said}");
        assert!(!error.is_transient());
    }
}

#[tokio::test]
async fn no_operation_goes_on_until_somebody_has_acted() {
    let folder = Folder::new("acted");
    let (store, whole) = (folder.store(), whole_file().await);
    let (path, aside) = (folder.path("tokens"), folder.path("tokens.corrupt"));
    fs::write(&path, &whole[1..]).unwrap();
    let first = store.read(&key()).await.unwrap_err().to_string();
    for _ in 0..2 {
        assert_eq!(fails(&store).await.to_string(), first);
    }
    // A backup in its place, and the other one may stay.
    fs::write(&path, &whole).unwrap();
    assert_eq!(generation(&store, &key()).await, Some(1));
    assert_eq!(
        set(&store, Some(1), &record(2, b"text")).await.unwrap(),
        Written::Done
    );
    // Or nothing at all.
    fs::write(&path, "").unwrap();
    assert_eq!(fails(&store).await.to_string(), first);
    fs::remove_file(&aside).unwrap();
    assert_eq!(generation(&store, &key()).await, None);
    kept(&store, b"anew").await;
}

#[tokio::test]
async fn what_cannot_be_used_is_named_and_left_alone() {
    let folder = Folder::new("unusable");
    let nowhere = File::new(folder.path("none/tokens"));
    let error = fails(&nowhere).await;
    assert!(error.is_transient(), "a volume may be late");
    assert!(error.to_string().contains("there is no folder"), "{error}");
    assert!(!folder.path("none").exists());

    for path in [
        folder.path(""),
        folder.path(".."),
        PathBuf::new(),
        "/".into(),
    ] {
        let error = fails(&File::new(path)).await;
        assert!(error.to_string().contains("is a folder"), "{error}");
        assert!(!error.is_transient());
    }
    fs::write(folder.path("file"), "").unwrap();
    let error = fails(&File::new(folder.path("file/tokens"))).await;
    assert!(error.to_string().contains("check the path"), "{error}");
    assert!(error.source().is_some());
    assert_eq!(folder.names(), ["file"]);
}

#[cfg(unix)]
#[tokio::test]
async fn a_link_and_a_pipe_are_no_token_files() {
    let folder = Folder::new("links");
    kept(&folder.store(), b"text").await;
    std::os::unix::fs::symlink("tokens", folder.path("link")).unwrap();
    let error = fails(&File::new(folder.path("link"))).await;
    assert!(error.to_string().contains("a link"), "{error}");
    assert!(folder.path("link").is_symlink());

    let made = std::process::Command::new("mkfifo")
        .arg(folder.path("pipe"))
        .status();
    assert!(made.unwrap().success());
    let pipe = File::new(folder.path("pipe"));
    let error = timeout(Duration::from_secs(10), fails(&pipe)).await;
    assert!(
        error.is_ok(),
        "it waits for somebody to write into the pipe"
    );
}

#[cfg(unix)]
#[tokio::test]
async fn a_file_that_may_not_be_read_is_no_empty_store() {
    use std::os::unix::fs::PermissionsExt;

    let folder = Folder::new("permission");
    let store = folder.store();
    kept(&store, b"text").await;
    let path = folder.path("tokens");
    fs::set_permissions(&path, fs::Permissions::from_mode(0o000)).unwrap();
    if fs::read(&path).is_ok() {
        println!("skipped: this user may read everything");
        return;
    }
    let error = fails(&store).await;
    assert!(!error.is_transient());
    assert!(error.to_string().contains("let the user"), "{error}");
    fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
    assert_eq!(generation(&store, &key()).await, Some(1));
}

#[tokio::test]
async fn who_has_opened_the_file_reads_on_in_the_one_that_he_opened() {
    let folder = Folder::new("opened");
    let store = folder.store();
    kept(&store, b"text").await;
    let before = fs::read(folder.path("tokens")).unwrap();
    let mut opened = fs::File::open(folder.path("tokens")).unwrap();
    set(&store, Some(1), &record(2, b"another")).await.unwrap();
    let mut read = Vec::new();
    opened.read_to_end(&mut read).unwrap();
    assert!(read == before, "it was written into");
    assert_ne!(fs::read(folder.path("tokens")).unwrap(), before);
}

#[tokio::test]
async fn what_killed_writers_left_is_removed_by_the_next() {
    let folder = Folder::new("leftovers");
    let store = folder.store();
    kept(&store, b"text").await;
    let left = [
        "tokens.writing-0123456789abcdef",
        "tokens.writing-ffffffffffffffff",
    ];
    let others = [
        "other.writing-0123456789abcdef",
        "tokens.backup",
        "tokens.writing-mine",
    ];
    for name in left.iter().chain(&others) {
        fs::write(folder.path(name), "half").unwrap();
    }
    assert_eq!(generation(&store, &key()).await, Some(1));
    assert!(folder.path(left[0]).exists(), "readers remove nothing");
    set(&store, Some(1), &record(2, b"text")).await.unwrap();
    let [other, backup, mine] = others;
    assert_eq!(
        folder.names(),
        [other, "tokens", backup, "tokens.lock", mine]
    );
}

#[tokio::test]
async fn a_write_whose_caller_went_away_is_done_as_a_whole() {
    let folder = Folder::new("cancelled");
    let store = folder.store();
    {
        let text = record(1, b"text");
        let mut written = pin!(set(&store, None, &text));
        let begun = poll_fn(|cx| Poll::Ready(written.as_mut().poll(cx))).await;
        assert!(begun.is_pending());
    }
    let done = async {
        while generation(&store, &key()).await.is_none() {
            sleep(Duration::from_millis(5)).await;
        }
    };
    timeout(Duration::from_secs(10), done).await.unwrap();
}

/// Adds `name` to those that the record at `key` says, as soon as nobody else does at the same time.
async fn sign(store: &File, key: &StoreKey, name: &str) {
    loop {
        let there = store.read(key).await.unwrap();
        let before = there.as_ref().map(Record::generation);
        let names = there.map_or(Vec::new(), |there| there.text().to_vec());
        let names = [&names, name.as_bytes(), b" "].concat();
        let next = record(before.unwrap_or(0) + 1, &names);
        let written = store.compare_and_set(key, before, &next, None).await;
        match written.unwrap() {
            Written::Done => return,
            Written::Changed => {}
            Written::Fenced => panic!("without a fence"),
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_hundred_tasks_write_forty_records_and_nothing_is_lost() {
    const TASKS: usize = 200;
    const KEYS: usize = 40;
    const SOON: Duration = Duration::from_secs(60);

    let folder = Folder::new("tasks");
    // Of one file, as two processes have it.
    let stores = [folder.store(), folder.store()];
    let keys: Vec<_> = (0..KEYS)
        .map(|key| StoreKey::named(&key.to_string()))
        .collect();
    let mut tasks = tokio::task::JoinSet::new();
    for task in 0..TASKS {
        let (store, key) = (stores[task % 3 % 2].clone(), keys[task % KEYS].clone());
        tasks.spawn(async move {
            // Each fourth has a colleague who goes away in the middle of it.
            if task % 4 == 0 {
                let away = format!("away-{task}");
                let mut away = pin!(sign(&store, &key, &away));
                let patience = Duration::from_millis(fastrand::u64(..40));
                let _ = timeout(patience, away.as_mut()).await;
            }
            sign(&store, &key, &format!("task-{task}")).await;
            // Others write all the time, and his lease lasts for as long as he renews it.
            let own = StoreKey::named(&format!("lease of {task}"));
            let lease = granted(&store, &own, "owner").await;
            for _ in 0..2 {
                let time = Duration::from_secs(60);
                assert!(store.renew(&own, &lease, time).await.unwrap());
            }
            store.release(&own, &lease).await.unwrap();
        });
    }
    let all = async { while tasks.join_next().await.transpose().unwrap().is_some() {} };
    timeout(SOON, all).await.unwrap();
    // Who went away has signed once or not at all.
    let mut signed = std::collections::HashSet::new();
    for key in &keys {
        let there = stores[0].read(key).await.unwrap().unwrap();
        let names = String::from_utf8(there.text().to_vec()).unwrap();
        let names: Vec<_> = names.split_whitespace().map(str::to_owned).collect();
        assert_eq!(names.len() as u64, there.generation(), "{names:?}");
        for name in names {
            assert!(signed.insert(name.clone()), "{name} has signed twice");
        }
    }
    for task in 0..TASKS {
        assert!(signed.contains(&format!("task-{task}")), "{task} is lost");
    }
}

/// A wall clock that stands where it was set.
fn set_clock(store: File) -> (File, Arc<AtomicU64>) {
    let seconds = Arc::new(AtomicU64::new(1_800_000_000));
    let clock = Arc::clone(&seconds);
    let store =
        store.wall_clock(move || UNIX_EPOCH + Duration::from_secs(clock.load(Ordering::Relaxed)));
    (store, seconds)
}

#[tokio::test]
async fn a_clock_that_was_set_back_prolongs_no_lease() {
    let folder = Folder::new("back");
    let (store, clock) = set_clock(folder.store());
    let first = granted(&store, &key(), "first").await;
    clock.fetch_add(59, Ordering::Relaxed);
    let minute = Duration::from_secs(60);
    let held = store.lease(&key(), "second", minute).await.unwrap();
    let remaining = Duration::from_secs(1);
    assert_eq!(held, Leased::Held { remaining });
    clock.fetch_sub(3600, Ordering::Relaxed);
    assert!(!store.renew(&key(), &first, minute).await.unwrap());
    let second = granted(&store, &key(), "second").await;
    assert!(second.fence() > first.fence());
    clock.fetch_add(60, Ordering::Relaxed);
    granted(&store, &key(), "third").await;
}

#[tokio::test]
async fn a_clock_that_is_corrected_ends_no_lease() {
    let folder = Folder::new("corrected");
    let (store, clock) = set_clock(folder.store());
    let first = granted(&store, &key(), "first").await;
    clock.fetch_sub(3, Ordering::Relaxed);
    let minute = Duration::from_secs(60);
    let held = store.lease(&key(), "second", minute).await.unwrap();
    assert!(matches!(held, Leased::Held { .. }));
    assert!(store.renew(&key(), &first, minute).await.unwrap());
    store.release(&key(), &first).await.unwrap();
    clock.fetch_sub(3, Ordering::Relaxed);
    let second = granted(&store, &key(), "second").await;
    assert!(second.fence() > first.fence());
}

#[tokio::test]
async fn a_record_is_forgotten_when_its_time_is_over() {
    let folder = Folder::new("until");
    let (store, clock) = set_clock(folder.store());
    let until = UNIX_EPOCH + Duration::from_secs(1_800_000_010);
    let short = Record::new(1, b"short-lived".to_vec(), Some(until));
    set(&store, None, &short).await.unwrap();
    let lease = granted(&store, &key(), "owner").await;
    let size = || fs::metadata(folder.path("tokens")).unwrap().len();
    let before = size();
    clock.fetch_add(10, Ordering::Relaxed);
    assert!(store.read(&key()).await.unwrap().is_none());
    assert_eq!(size(), before, "readers write nothing");
    // Another key's write is what drops it.
    granted(&store, &StoreKey::named("other"), "owner").await;
    let file = fs::read_to_string(folder.path("tokens")).unwrap();
    let (here, record) = (key(), "record=");
    assert!(!file.contains(record), "{file}");
    assert!(file.contains(here.as_str()), "its lease is live");
    assert!(
        store
            .renew(&here, &lease, Duration::from_secs(1))
            .await
            .unwrap()
    );
    kept(&store, b"again").await;
}

async fn soon(told: impl Future<Output = ()>) {
    let told = timeout(Duration::from_secs(10), told).await;
    told.expect("it is told to nobody");
}

#[tokio::test]
async fn who_waits_looks_at_the_file_and_is_not_told_without_a_reason() {
    let folder = Folder::new("waits");
    let (store, other) = (folder.store(), folder.store());
    kept(&store, b"text").await;
    granted(&store, &key(), "owner").await;
    let elsewhere = StoreKey::named("elsewhere");
    let begun = Instant::now();
    let ((), _) = tokio::join!(
        async { soon(store.changed(&key(), Some(1))).await },
        async {
            sleep(Duration::from_millis(60)).await;
            granted(&other, &elsewhere, "owner").await
        }
    );
    let took = begun.elapsed();
    assert!(took > Duration::from_millis(500), "nothing changed");

    let begun = Instant::now();
    let (key, next) = (key(), record(2, b"text"));
    let (written, ()) = tokio::join!(
        async {
            sleep(Duration::from_millis(60)).await;
            set(&other, Some(1), &next).await
        },
        soon(store.changed(&key, Some(1))),
    );
    assert_eq!(written.unwrap(), Written::Done);
    let took = begun.elapsed();
    assert!(
        took > Duration::from_millis(60) && took < Duration::from_millis(900),
        "{took:?}"
    );
}

#[test]
fn it_needs_no_runtime_but_to_wait() {
    let folder = Folder::new("no-runtime");
    let (store, key) = (folder.store(), key());
    let mut read = pin!(store.read(&key));
    let mut cx = std::task::Context::from_waker(std::task::Waker::noop());
    assert!(matches!(read.as_mut().poll(&mut cx), Poll::Ready(Ok(None))));
}
