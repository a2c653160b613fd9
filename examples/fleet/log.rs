//! What happened: what the workers said, and what was done to them.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
    time::{Duration, SystemTime},
};

use tokio::sync::mpsc::UnboundedSender;

use crate::{
    authorization_server::AuthorizationServer,
    lines::{Failure, Kind, Line},
};

/// A number for each process, in the order in which they were started.
pub type Worker = usize;

/// From when to when; `None` is: to the end.
type Span = (SystemTime, Option<SystemTime>);

pub struct Log {
    server: Arc<AuthorizationServer>,
    /// Gets each login that somebody must log in to again.
    operator: UnboundedSender<usize>,
    workers: Vec<Past>,
    redemptions: Vec<Redemption>,
    /// Those that have begun, by worker and login.
    under_way: HashMap<(Worker, usize), usize>,
    outages: Vec<Span>,
    /// By login, and when the refresh token was sent, in milliseconds since the epoch.
    doubts: BTreeMap<(usize, u128), SystemTime>,
    pub failures: BTreeMap<Kind, u64>,
    pub words: BTreeMap<Kind, String>,
    pub lost: Vec<Failure>,
    /// Failures with a good token in hand, of workers that were held up.
    pub not_judged: u64,
}

/// One worker's.
#[derive(Default)]
struct Past {
    requests: u64,
    killed: bool,
    stops: Vec<Span>,
}

struct Redemption {
    worker: Worker,
    login: usize,
    begun: SystemTime,
    ended: Option<SystemTime>,
    store_failed: bool,
}

impl Redemption {
    fn told(&self) -> String {
        let worker = self.worker;
        let Some(ended) = self.ended else {
            return format!("worker {worker} never said that it was done");
        };
        let time = ended.duration_since(self.begun).unwrap_or_default();
        let failed = if self.store_failed {
            ", and the store failed"
        } else {
            ""
        };
        format!("worker {worker} took {time:?} for it{failed}")
    }
}

/// A refresh token of which nobody knew what became.
pub struct Doubt {
    pub login: usize,
    /// `None` if there is none.
    pub reason: Option<Reason>,
    /// By whom it was sent, and how that went on.
    pub sent: String,
}

/// Why nobody knew what became of a refresh token.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reason {
    Killed,
    Stopped,
    Store,
}

impl Log {
    pub fn new(server: Arc<AuthorizationServer>, operator: UnboundedSender<usize>) -> Self {
        Self {
            server,
            operator,
            workers: Vec::new(),
            redemptions: Vec::new(),
            under_way: HashMap::new(),
            outages: Vec::new(),
            doubts: BTreeMap::new(),
            failures: BTreeMap::new(),
            words: BTreeMap::new(),
            lost: Vec::new(),
            not_judged: 0,
        }
    }

    pub fn worker_starts(&mut self) -> Worker {
        self.workers.push(Past::default());
        self.workers.len() - 1
    }

    pub fn worker_is_killed(&mut self, worker: Worker) {
        self.workers[worker].killed = true;
        self.worker_goes_on(worker);
    }

    pub fn worker_is_stopped(&mut self, worker: Worker) {
        self.workers[worker].stops.push((SystemTime::now(), None));
    }

    pub fn worker_goes_on(&mut self, worker: Worker) {
        close(&mut self.workers[worker].stops);
    }

    pub fn store_is_killed(&mut self) {
        self.outages.push((SystemTime::now(), None));
    }

    pub fn store_is_back(&mut self) {
        close(&mut self.outages);
    }

    pub fn hear(&mut self, worker: Worker, line: Line) {
        match line {
            Line::Requests(count) => self.workers[worker].requests = count,
            Line::Words(kind, words) => drop(self.words.entry(kind).or_insert(words)),
            Line::Failed(failure) => self.judge(worker, failure),
            Line::PossiblyRotated { login, since } => {
                let millis = since.duration_since(SystemTime::UNIX_EPOCH);
                let key = (login, millis.unwrap_or_default().as_millis());
                if self.doubts.insert(key, since).is_none() {
                    let _ = self.operator.send(login);
                }
            }
            Line::Redeeming { login, at } => {
                self.under_way
                    .insert((worker, login), self.redemptions.len());
                self.redemptions.push(Redemption {
                    worker,
                    login,
                    begun: at,
                    ended: None,
                    store_failed: false,
                });
            }
            Line::Redeemed {
                login,
                at,
                store_failed,
            } => {
                if let Some(number) = self.under_way.remove(&(worker, login)) {
                    let redemption = &mut self.redemptions[number];
                    redemption.ended = Some(at);
                    redemption.store_failed = store_failed;
                }
            }
        }
    }

    /// Whether a request was lost although there was a token for it.
    fn judge(&mut self, worker: Worker, failure: Failure) {
        *self.failures.entry(failure.kind).or_default() += 1;
        let good = match failure.kind {
            Kind::RefusedWithAGoodOne => true,
            Kind::Refused | Kind::Unanswered => false,
            Kind::PossiblyRotated | Kind::Store | Kind::NoToken => {
                let in_hand = failure.in_hand;
                in_hand.is_some_and(|handed| self.server.was_good(handed, failure.at))
            }
        };
        if good && (failure.held_up || self.was_stopped_at_it(worker, &failure)) {
            self.not_judged += 1;
        } else if good {
            self.lost.push(failure);
        }
    }

    /// Whether the worker was stopped since it began to ask for the token. It counts the lifetime from then
    /// on, and may have slept through it before the server got its request.
    fn was_stopped_at_it(&self, worker: Worker, failure: &Failure) -> bool {
        let mut latest = self.redemptions.iter().rev();
        let asked = latest.find(|redemption| {
            (redemption.worker, redemption.login) == (worker, failure.login)
                && redemption.begun <= failure.at
        });
        let stops = &self.workers[worker].stops;
        asked.is_some_and(|asked| {
            stops
                .iter()
                .any(|&(from, to)| from <= failure.at && to.is_none_or(|to| asked.begun <= to))
        })
    }

    /// Each refresh token of which nobody knew what became.
    pub fn doubts(&self) -> Vec<Doubt> {
        let mut redemptions: Vec<&Redemption> = self.redemptions.iter().collect();
        redemptions.sort_by_key(|redemption| redemption.begun);
        let doubts = self.doubts.iter();
        doubts
            .map(|(&(login, _), &since)| {
                // It was written down at once, and nobody else could before that.
                let sent = redemptions.iter().find(|redemption| {
                    redemption.login == login
                        && redemption.begun + Duration::from_millis(1) >= since
                });
                Doubt {
                    login,
                    reason: sent.and_then(|sent| self.reason(sent, since)),
                    sent: sent.map_or_else(|| "by nobody who said so".into(), |sent| sent.told()),
                }
            })
            .collect()
    }

    fn reason(&self, redemption: &Redemption, since: SystemTime) -> Option<Reason> {
        let past = &self.workers[redemption.worker];
        let within = |&(from, to): &Span| {
            redemption.ended.is_none_or(|ended| from <= ended) && to.is_none_or(|to| since <= to)
        };
        if redemption.ended.is_none() && past.killed {
            return Some(Reason::Killed);
        }
        if past.stops.iter().any(within) {
            return Some(Reason::Stopped);
        }
        // Outcomes aren't written and leases end. A file can't be changed while somebody who was stopped
        // has its lock.
        let mut stops = self.workers.iter().flat_map(|past| &past.stops);
        let store = self.outages.iter().any(within) || stops.any(within);
        (redemption.store_failed && store).then_some(Reason::Store)
    }

    pub fn started(&self) -> usize {
        self.workers.len()
    }

    pub fn killed(&self) -> usize {
        self.workers.iter().filter(|past| past.killed).count()
    }

    pub fn stopped(&self) -> usize {
        self.workers.iter().map(|past| past.stops.len()).sum()
    }

    pub fn outages(&self) -> usize {
        self.outages.len()
    }

    pub fn requests(&self) -> u64 {
        self.workers.iter().map(|past| past.requests).sum()
    }
}

fn close(spans: &mut [Span]) {
    if let Some((_, end)) = spans.last_mut() {
        end.get_or_insert_with(SystemTime::now);
    }
}
