//! Sources that do what a test says, and count.

use std::{
    future::Future,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use tower_oauth::{AccessToken, Demand, TokenError, TokenSource};

type Answer = Result<AccessToken, TokenError>;

/// Counts the token requests and remembers what was demanded.
#[derive(Clone, Default)]
pub struct Ledger {
    calls: Arc<AtomicUsize>,
    in_flight: Arc<AtomicUsize>,
    rejected: Arc<Mutex<Vec<Option<String>>>>,
}

impl Ledger {
    pub fn calls(&self) -> usize {
        self.calls.load(Ordering::SeqCst)
    }

    /// What `demand.rejected()` said, call by call.
    pub fn rejected(&self) -> Vec<Option<String>> {
        self.rejected.lock().unwrap().clone()
    }
}

/// A source that answers call n (from 1) with what `answer` makes of n.
pub struct Scripted<F> {
    ledger: Ledger,
    answer: F,
}

pub fn scripted<F, T>(answer: F) -> (Ledger, Scripted<F>)
where
    F: Fn(usize) -> T + Send + Sync + 'static,
    T: Future<Output = Answer> + Send,
{
    let ledger = Ledger::default();
    let source = Scripted {
        ledger: ledger.clone(),
        answer,
    };
    (ledger, source)
}

impl<F, T> TokenSource for Scripted<F>
where
    F: Fn(usize) -> T + Send + Sync + 'static,
    T: Future<Output = Answer> + Send,
{
    async fn token(&self, demand: Demand<'_>) -> Answer {
        let flying = self.ledger.in_flight.fetch_add(1, Ordering::SeqCst);
        assert_eq!(flying, 0, "two flights at a time");
        let landing = Landing(Arc::clone(&self.ledger.in_flight));
        let call = self.ledger.calls.fetch_add(1, Ordering::SeqCst) + 1;
        let rejected = demand
            .rejected()
            .map(|token| token.expose_secret().to_owned());
        self.ledger.rejected.lock().unwrap().push(rejected);
        let answer = (self.answer)(call).await;
        drop(landing);
        answer
    }
}

struct Landing(Arc<AtomicUsize>);

impl Drop for Landing {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

pub fn token(n: usize, lifetime: Duration) -> AccessToken {
    AccessToken::bearer(format!("token-{n}"))
        .unwrap()
        .expires_in(lifetime)
}

/// `token-1`, `token-2`, …, at once.
pub fn numbered(lifetime: Duration) -> (Ledger, impl TokenSource) {
    scripted(move |n| async move { Ok(token(n, lifetime)) })
}

/// `token-1`, `token-2`, …, each after `latency`.
pub fn slow(lifetime: Duration, latency: Duration) -> (Ledger, impl TokenSource) {
    scripted(move |n| async move {
        tokio::time::sleep(latency).await;
        Ok(token(n, lifetime))
    })
}

/// Fails call n where `fails(n)`.
pub fn failing(
    lifetime: Duration,
    fails: impl Fn(usize) -> Option<TokenError> + Send + Sync + 'static,
) -> (Ledger, impl TokenSource) {
    scripted(move |n| {
        let error = fails(n);
        async move { error.map_or_else(|| Ok(token(n, lifetime)), Err) }
    })
}
