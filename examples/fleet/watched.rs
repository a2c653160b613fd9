//! What a worker has in hand, and what it is about to send: seen from outside, by a store and a
//! source that tell of what passes through them.

use std::{
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
    },
    thread,
    time::{Duration, Instant, SystemTime},
};

use tower_oauth::{
    AccessToken, Demand, Identity, TokenError, TokenSource,
    store::{Lease, Leased, Record, StoreError, StoreKey, TokenStore, Written},
};

use crate::{authorization_server, lines::Line};

/// A store of one login's tokens.
pub struct WatchedStore<S> {
    pub store: S,
    pub login: usize,
    redeeming: AtomicBool,
    failed: AtomicBool,
    /// A renewal of the lease has no answer yet.
    renewing: AtomicBool,
}

impl<S> WatchedStore<S> {
    pub fn new(store: S, login: usize) -> Self {
        Self {
            store,
            login,
            redeeming: AtomicBool::new(false),
            failed: AtomicBool::new(false),
            renewing: AtomicBool::new(false),
        }
    }
}

impl<S: TokenStore> TokenStore for WatchedStore<S> {
    async fn read(&self, key: &StoreKey) -> Result<Option<Record>, StoreError> {
        self.store.read(key).await
    }

    /// With a fence it is the intent to redeem a refresh token.
    async fn compare_and_set(
        &self,
        key: &StoreKey,
        expected: Option<u64>,
        record: &Record,
        fence: Option<u64>,
    ) -> Result<Written, StoreError> {
        if fence.is_some() {
            self.redeeming.store(true, Relaxed);
            let (login, at) = (self.login, SystemTime::now());
            Line::Redeeming { login, at }.say();
        }
        let written = self.store.compare_and_set(key, expected, record, fence);
        let written = written.await;
        if written.is_err() {
            self.failed.store(true, Relaxed);
        }
        written
    }

    async fn lease(
        &self,
        key: &StoreKey,
        owner: &str,
        time: Duration,
    ) -> Result<Leased, StoreError> {
        let leased = self.store.lease(key, owner, time).await;
        if let Ok(Leased::Granted(_)) = leased {
            self.failed.store(false, Relaxed);
            self.renewing.store(false, Relaxed);
        }
        leased
    }

    async fn renew(
        &self,
        key: &StoreKey,
        lease: &Lease,
        time: Duration,
    ) -> Result<bool, StoreError> {
        let begun = Instant::now();
        self.renewing.store(true, Relaxed);
        let renewed = self.store.renew(key, lease, time).await;
        self.renewing.store(false, Relaxed);
        // Else somebody else may have had it meanwhile.
        if !matches!(renewed, Ok(true)) || begun.elapsed() > time / 2 {
            self.failed.store(true, Relaxed);
        }
        renewed
    }

    /// Whatever there is to write has been written.
    async fn release(&self, key: &StoreKey, lease: &Lease) -> Result<(), StoreError> {
        if self.redeeming.swap(false, Relaxed) {
            let (login, at) = (self.login, SystemTime::now());
            let store_failed = self.failed.load(Relaxed) || self.renewing.load(Relaxed);
            Line::Redeemed {
                login,
                at,
                store_failed,
            }
            .say();
        }
        self.store.release(key, lease).await
    }

    async fn changed(&self, key: &StoreKey, seen: Option<u64>) {
        self.store.changed(key, seen).await;
    }
}

/// The newest token that a cache was handed.
#[derive(Clone, Default)]
pub struct InHand(Arc<Mutex<Option<Handed>>>);

#[derive(Debug, Clone, Copy)]
pub struct Handed {
    pub number: usize,
    /// As the source said: from when the cache asked for it.
    pub lifetime: Duration,
}

impl Handed {
    pub fn written(self) -> String {
        format!("{} {}", self.number, self.lifetime.as_micros())
    }

    pub fn read(text: &str) -> Option<Self> {
        let (number, lifetime) = text.split_once(' ')?;
        Some(Self {
            number: number.parse().ok()?,
            lifetime: Duration::from_micros(lifetime.parse().ok()?),
        })
    }
}

impl InHand {
    pub fn newest(&self) -> Option<Handed> {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

pub struct WatchedSource<S> {
    pub source: S,
    pub in_hand: InHand,
}

impl<S: TokenSource> TokenSource for WatchedSource<S> {
    async fn token(&self, demand: Demand<'_>) -> Result<AccessToken, TokenError> {
        let token = self.source.token(demand).await?;
        let number = authorization_server::number(token.expose_secret());
        let lifetime = token.lifetime().unwrap_or_default();
        *self
            .in_hand
            .0
            .lock()
            .unwrap_or_else(PoisonError::into_inner) =
            number.map(|number| Handed { number, lifetime });
        Ok(token)
    }

    fn identify(&self, identity: &mut Identity) {
        self.source.identify(identity);
    }
}

/// Whether this process gets its turns: one that was stopped, or starved, couldn't use what it had.
#[derive(Clone)]
pub struct Pulse {
    begun: Instant,
    /// When it was held up last, in milliseconds since it began, plus one.
    held_up: Arc<AtomicU64>,
}

impl Pulse {
    const BEAT: Duration = Duration::from_millis(10);
    const LATE: Duration = Duration::from_millis(60);
    const RECENT: Duration = Duration::from_millis(500);

    pub fn start() -> Self {
        let pulse = Self {
            begun: Instant::now(),
            held_up: Arc::default(),
        };
        let beating = pulse.clone();
        // Not a task: a runtime that is held up is what is looked for, too.
        thread::spawn(move || {
            loop {
                let beat = Instant::now();
                thread::sleep(Self::BEAT);
                if beat.elapsed() > Self::LATE {
                    beating.held_up.store(beating.now() + 1, Relaxed);
                }
            }
        });
        pulse
    }

    pub fn was_held_up(&self) -> bool {
        let last = self.held_up.load(Relaxed);
        last > 0 && Duration::from_millis(self.now().saturating_sub(last - 1)) < Self::RECENT
    }

    fn now(&self) -> u64 {
        self.begun.elapsed().as_millis() as u64
    }
}
