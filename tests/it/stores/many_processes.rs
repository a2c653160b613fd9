//! Fifty processes on one token file, and each may be killed at any moment: nobody reads half a file,
//! and no newer token is lost.
//!
//! `STORE_SECONDS` says for how long at least, by default 5; a thorough run takes 60.

use std::{
    collections::HashSet,
    env,
    io::{BufRead, BufReader, Write},
    os::unix::process::ExitStatusExt,
    path::Path,
    process::{Child, Command, Stdio},
    sync::mpsc::{self, Sender},
    thread,
    time::{Duration, Instant},
};

use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
use hmac_sha256::Hash;
use tokio::time::timeout;
use tower_oauth::store::{
    EncryptionKey, File, Leased, Record, StoreError, StoreKey, TokenStore, Written,
};

use super::{contract::record, file::Folder};

const PROCESSES: usize = 50;
const KILL_EVERY: Duration = Duration::from_millis(20);
const LEASE: Duration = Duration::from_millis(300);
/// With fewer it says nothing. It takes seconds at most, unless fifty processes share half a core.
const ENOUGH: usize = 25;
const ENOUGH_WITHIN: Duration = Duration::from_secs(120);
const SIGKILL: i32 = 9;

/// The file of a worker; what isn't one, has none.
const WORKER: &str = "STORE_WORKER";
const SECONDS: &str = "STORE_SECONDS";

fn seconds() -> u64 {
    env::var(SECONDS).map_or(5, |text| text.parse().expect("STORE_SECONDS is a number"))
}

fn store(path: impl AsRef<Path>) -> File {
    let key = EncryptionKey::from_bytes([5; 32]);
    File::new(path.as_ref()).encrypted_with(key)
}

fn key() -> StoreKey {
    StoreKey::named("many processes")
}

fn block_on<T>(future: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    runtime.unwrap().block_on(future)
}

#[test]
fn no_newer_token_is_lost_and_none_is_torn() {
    let folder = Folder::new("many");
    let path = folder.path("tokens");
    let (tell, told) = mpsc::channel();
    let mut workers: Vec<_> = (0..PROCESSES)
        .map(|_| Worker::start(&path, &tell))
        .collect();
    let (begun, least) = (Instant::now(), Duration::from_secs(seconds()));
    let (mut reports, mut killed) = (Vec::new(), 0);
    while begun.elapsed() < least || killed.min(reports.len()) < ENOUGH {
        assert!(begun.elapsed() < least + ENOUGH_WITHIN, "{reports:?}");
        thread::sleep(KILL_EVERY);
        workers.swap_remove(fastrand::usize(..PROCESSES)).kill();
        workers.push(Worker::start(&path, &tell));
        killed += 1;
        reports.extend(told.try_iter());
    }
    workers.into_iter().for_each(Worker::kill);
    drop(tell);
    reports.extend(told);
    let took = begun.elapsed().as_secs();

    let failed: Vec<_> = reports.iter().filter_map(Report::failed).collect();
    assert!(failed.is_empty(), "{failed:#?}");
    let last = block_on(store(&path).read(&key())).unwrap().unwrap();
    let last = checked(&last).unwrap();
    let mut kept = HashSet::new();
    for generation in reports.iter().filter_map(Report::kept) {
        assert!(kept.insert(generation), "{generation} was kept twice");
        assert!(
            generation <= last,
            "{generation} is lost: {last} is the last"
        );
    }
    let fenced = reports
        .iter()
        .filter(|report| matches!(report, Report::Fenced));
    println!(
        "{took} s, {PROCESSES} processes, {killed} killed: {last} writes, {} reported as kept, {} \
         fenced off, {} leases",
        kept.len(),
        fenced.count(),
        block_on(lease_soon(&path)),
    );
    // What the last lease's writer found was left by killed ones.
    assert_eq!(folder.names(), ["tokens", "tokens.lock"]);
}

/// The number of the next lease: as the processes are gone, it is granted when the last one's is over.
async fn lease_soon(path: &Path) -> u64 {
    super::contract::granted_soon(&store(path), &key(), "the test")
        .await
        .fence()
}

/// What a worker tells; it may be killed before it does.
#[derive(Debug)]
enum Report {
    Kept(u64),
    Fenced,
    Failed(String),
}

impl Report {
    fn parse(line: &str) -> Option<Self> {
        let (what, more) = line.strip_prefix("worker: ")?.split_once(' ')?;
        Some(match what {
            "kept" => Self::Kept(more.parse().unwrap()),
            "fenced" => Self::Fenced,
            _ => Self::Failed(more.to_owned()),
        })
    }

    fn kept(&self) -> Option<u64> {
        match self {
            Self::Kept(generation) => Some(*generation),
            _ => None,
        }
    }

    fn failed(&self) -> Option<&str> {
        match self {
            Self::Failed(why) => Some(why),
            _ => None,
        }
    }
}

/// A process of this very program; it is killed when this is dropped.
struct Worker {
    child: Child,
    tell: Sender<Report>,
}

impl Worker {
    fn start(path: &Path, tell: &Sender<Report>) -> Self {
        let mut child = Command::new(env::current_exe().unwrap())
            .args(["--exact", "stores::many_processes::worker", "--nocapture"])
            .env(WORKER, path)
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let reports = lines.map_while(Result::ok);
        let mut reports = reports.filter_map(|line| Report::parse(&line));
        let tell = tell.clone();
        let reader = tell.clone();
        // Until the process has ended, or nobody listens any more.
        thread::spawn(move || reports.all(|report| reader.send(report).is_ok()));
        Self { child, tell }
    }

    fn kill(mut self) {
        self.child.kill().unwrap();
        let ended = self.child.wait().unwrap();
        if ended.signal() != Some(SIGKILL) {
            let failed = Report::Failed(format!("it ended by itself: {ended}"));
            self.tell.send(failed).unwrap();
        }
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// No test but what the one above starts.
#[test]
fn worker() {
    let Some(path) = env::var_os(WORKER) else {
        return;
    };
    let Err(why) = block_on(work(&store(Path::new(&path))));
    report(&format!("failed {why}"));
}

/// A line of its own, in one piece: a pipe takes it whole or not at all.
fn report(what: &str) {
    let line = format!("\nworker: {what}\n");
    let mut stdout = std::io::stdout().lock();
    stdout.write_all(line.as_bytes()).unwrap();
    stdout.flush().unwrap();
}

enum Never {}

/// Until it is killed, or has outlived whoever would.
async fn work(store: &File) -> Result<Never, String> {
    let said = |error: StoreError| error.to_string();
    let (key, owner) = (key(), format!("process {}", std::process::id()));
    let end = Instant::now() + Duration::from_secs(seconds()) + 2 * ENOUGH_WITHIN;
    let mut kept = 0;
    while Instant::now() < end {
        let seen = last(store, kept).await?;
        let lease = match store.lease(&key, &owner, LEASE).await.map_err(said)? {
            Leased::Granted(lease) => lease,
            Leased::Held { remaining } => {
                let _ = timeout(remaining, store.changed(&key, seen)).await;
                continue;
            }
        };
        let before = last(store, kept).await?;
        let next = text(before.unwrap_or(0) + 1);
        let written = store.compare_and_set(&key, before, &next, Some(lease.fence()));
        match written.await.map_err(said)? {
            Written::Done => {
                kept = next.generation();
                report(&format!("kept {kept}"));
            }
            Written::Fenced => report("fenced off"),
            Written::Changed => return Err(format!("{before:?} was changed by who had no lease")),
        }
        store.release(&key, &lease).await.map_err(said)?;
    }
    Err("nobody killed it".to_owned())
}

/// The generation that is there, which isn't before what this process wrote.
async fn last(store: &File, kept: u64) -> Result<Option<u64>, String> {
    let record = store
        .read(&key())
        .await
        .map_err(|error| error.to_string())?;
    let last = record.as_ref().map(checked).transpose()?;
    if last.unwrap_or(0) < kept {
        return Err(format!("{last:?} is there, after {kept} was kept"));
    }
    Ok(last)
}

/// A record of another length each time that says its generation and a checksum. Most are short, as
/// without optimization it is their hash that all wait for.
fn text(generation: u64) -> Record {
    let longest = if fastrand::u8(..8) == 0 { 4_000 } else { 300 };
    let padding = "x".repeat(fastrand::usize(..longest));
    let text = format!("{generation} {} {padding}", std::process::id());
    record(generation, format!("{} {text}", sum(&text)).as_bytes())
}

fn checked(record: &Record) -> Result<u64, String> {
    let text = std::str::from_utf8(record.text()).map_err(|error| error.to_string())?;
    let (checksum, text) = text.split_once(' ').ok_or("a record without a checksum")?;
    let generation = text.split(' ').next().and_then(|first| first.parse().ok());
    if checksum != sum(text) || generation != Some(record.generation()) {
        return Err(format!("a torn record: {record:?}"));
    }
    Ok(record.generation())
}

fn sum(text: &str) -> String {
    BASE64_URL_SAFE_NO_PAD.encode(Hash::hash(text.as_bytes()))
}
