//! One process of many: a client of the API for each login, and callers that never rest.
//!
//! What a program would copy is [`cache`] and the layer in [`Client::new`]; the rest watches it.

use std::{
    collections::HashSet,
    error::Error,
    iter::successors,
    path::PathBuf,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::{Duration, SystemTime},
};

use bytes::Bytes;
use http::{HeaderValue, Request, StatusCode};
use http_body_util::{Empty, Full};
use hyper_util::{
    client::legacy::{Client as Hyper, connect::HttpConnector},
    rt::TokioExecutor,
};
use tokio::{
    io::{AsyncReadExt, stdin},
    task::JoinSet,
    time::sleep,
};
use tower::{ServiceBuilder, ServiceExt, util::BoxCloneSyncService};
use tower_oauth::{
    BoxError, ClientAuth, OAuthLayer, PossiblyRotated, RefreshToken, ReplayBody, Secret,
    TokenCache, TokenEndpoint, TokenError, TokenSource,
    store::{self, StoreError, TokenStore},
};

use crate::{
    LEASE, LEASE_BY_FILE,
    api::{IN_HAND, WAS_GOOD},
    authorization_server::{CLIENT_ID, WORKER},
    lines::{Failure, Kind, Line},
    watched::{Handed, InHand, Pulse, WatchedSource, WatchedStore},
};

/// The word that makes this program a worker.
pub const WORD: &str = "--worker";

const CALLERS: usize = 3;

/// What a worker is told on its command line.
pub struct Job {
    pub token_url: String,
    pub api: String,
    /// A URL of Redis, or the path of a file.
    pub store: String,
    /// Where the first refresh token of each login lies.
    pub folder: PathBuf,
    pub logins: usize,
}

impl Job {
    pub fn written(&self) -> [String; 6] {
        [
            WORD.into(),
            self.token_url.clone(),
            self.api.clone(),
            self.store.clone(),
            self.folder.display().to_string(),
            self.logins.to_string(),
        ]
    }

    pub fn read(mut words: impl Iterator<Item = String>) -> Result<Self, BoxError> {
        let mut next = || words.next().ok_or("a worker's job has five words");
        Ok(Self {
            token_url: next()?,
            api: next()?,
            store: next()?,
            folder: next()?.into(),
            logins: next()?.parse()?,
        })
    }

    fn is_by_redis(&self) -> bool {
        self.store.starts_with("redis")
    }

    fn lease(&self) -> Duration {
        if self.is_by_redis() {
            LEASE
        } else {
            LEASE_BY_FILE
        }
    }
}

/// Where the operator leaves the first refresh token of a login.
pub fn first_refresh_token(folder: &std::path::Path, login: usize) -> PathBuf {
    folder.join(format!("login-{login}"))
}

pub fn main(words: impl Iterator<Item = String>) -> Result<(), BoxError> {
    let job = Job::read(words)?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()?;
    let outcome = runtime.block_on(async {
        #[cfg(feature = "redis")]
        if job.is_by_redis() {
            let store = store::Redis::new(&job.store)?;
            return work(&job, store).await;
        }
        let store = store::File::new(&job.store);
        work(&job, store).await
    });
    // Else it would wait for threads that wait for a file.
    runtime.shutdown_background();
    outcome
}

async fn work(job: &Job, store: impl TokenStore + Clone) -> Result<(), BoxError> {
    let watch = Arc::new(Watch {
        requests: AtomicU64::new(0),
        told: Mutex::default(),
        pulse: Pulse::start(),
    });
    let clients: Result<Vec<Client>, BoxError> = (0..job.logins)
        .map(|login| Client::new(job, login, store.clone()))
        .collect();
    let clients = Arc::new(clients?);
    let mut tasks = JoinSet::new();
    for _ in 0..CALLERS {
        let (clients, watch) = (Arc::clone(&clients), Arc::clone(&watch));
        tasks.spawn(async move {
            loop {
                let client = &clients[fastrand::usize(..clients.len())];
                // A request may wait for a token; the caller goes on with other logins.
                tokio::spawn(client.clone().call(Arc::clone(&watch)));
                sleep(Duration::from_millis(fastrand::u64(20..80))).await;
            }
        });
    }
    tasks.spawn(async move {
        loop {
            sleep(Duration::from_millis(100)).await;
            Line::Requests(watch.requests.load(Relaxed)).say();
        }
    });
    // The parent never writes: this ends with it.
    let _ = stdin().read(&mut [0]).await;
    Ok(())
}

/// The tokens of one login, the same for all processes.
fn cache(
    job: &Job,
    login: usize,
    store: impl TokenStore,
    in_hand: &InHand,
) -> Result<TokenCache, BoxError> {
    let worker = HeaderValue::from(std::process::id());
    let transport = ServiceBuilder::new()
        .map_request(move |mut request: Request<Full<Bytes>>| {
            request.headers_mut().insert(WORKER, worker.clone());
            request
        })
        .service(Hyper::builder(TokioExecutor::new()).build_http());
    let endpoint = TokenEndpoint::builder(&job.token_url)
        .client_auth(ClientAuth::none(CLIENT_ID))
        .transport(transport)
        .build()?;
    // A new login needs no restart.
    let file = first_refresh_token(&job.folder, login);
    let first = Secret::provided_by(move || Ok(std::fs::read_to_string(&file)?));
    let source = RefreshToken::new(endpoint, first)
        .shared(store)
        .named(format!("login-{login}"))
        .lease(job.lease());
    Ok(TokenCache::from(WatchedSource {
        source,
        in_hand: in_hand.clone(),
    }))
}

type Http =
    BoxCloneSyncService<Request<Empty<Bytes>>, http::Response<hyper::body::Incoming>, BoxError>;

#[derive(Clone)]
struct Client {
    login: usize,
    url: String,
    http: Http,
    in_hand: InHand,
}

impl Client {
    fn new(job: &Job, login: usize, store: impl TokenStore) -> Result<Self, BoxError> {
        let in_hand = InHand::default();
        let cache = cache(job, login, WatchedStore::new(store, login), &in_hand)?;
        let sent = in_hand.clone();
        let hyper: Hyper<HttpConnector, ReplayBody<Empty<Bytes>>> =
            Hyper::builder(TokioExecutor::new()).build_http();
        let http = ServiceBuilder::new()
            .layer(OAuthLayer::for_origin(&job.api, cache)?)
            .map_request(move |mut request: Request<ReplayBody<Empty<Bytes>>>| {
                let handed = sent.newest().map(Handed::written).unwrap_or_default();
                if let Ok(handed) = HeaderValue::from_str(&handed) {
                    request.headers_mut().insert(IN_HAND, handed);
                }
                request
            })
            .service(hyper);
        Ok(Self {
            login,
            url: format!("{}/login-{login}", job.api),
            http: BoxCloneSyncService::new(http),
            in_hand,
        })
    }

    async fn call(self, watch: Arc<Watch>) {
        watch.requests.fetch_add(1, Relaxed);
        let Some((kind, error)) = self.get().await else {
            return;
        };
        Line::Failed(Failure {
            kind,
            login: self.login,
            at: SystemTime::now(),
            in_hand: self.in_hand.newest(),
            held_up: watch.pulse.was_held_up(),
        })
        .say();
        watch.tell(self.login, kind, &*error);
    }

    /// What went wrong, if anything did.
    async fn get(&self) -> Option<(Kind, BoxError)> {
        let request = match Request::get(&self.url).body(Empty::new()) {
            Ok(request) => request,
            Err(error) => return Some((Kind::Unanswered, error.into())),
        };
        match self.http.clone().oneshot(request).await {
            Ok(answer) if answer.status() == StatusCode::OK => None,
            Ok(answer) => {
                let kind = if answer.headers().contains_key(WAS_GOOD) {
                    Kind::RefusedWithAGoodOne
                } else {
                    Kind::Refused
                };
                Some((kind, format!("the API answered {}", answer.status()).into()))
            }
            Err(error) => Some((kind(&*error), error)),
        }
    }
}

fn kind(error: &(dyn Error + 'static)) -> Kind {
    let Some(token) = chain(error).find_map(|error| error.downcast_ref::<TokenError>()) else {
        return Kind::Unanswered;
    };
    if token.get_ref().is::<PossiblyRotated>() {
        Kind::PossiblyRotated
    } else if chain(token.get_ref()).any(|error| error.is::<StoreError>()) {
        Kind::Store
    } else {
        Kind::NoToken
    }
}

fn chain<'a>(error: &'a (dyn Error + 'static)) -> impl Iterator<Item = &'a (dyn Error + 'static)> {
    successors(Some(error), |&error| error.source())
}

/// What this process has told, so that it tells it once.
struct Watch {
    requests: AtomicU64,
    told: Mutex<Told>,
    pulse: Pulse,
}

#[derive(Default)]
struct Told {
    kinds: HashSet<Kind>,
    possibly_rotated: HashSet<(usize, SystemTime)>,
}

impl Watch {
    fn tell(&self, login: usize, kind: Kind, error: &(dyn Error + 'static)) {
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        if told.kinds.insert(kind) {
            Line::Words(kind, error.to_string()).say();
        }
        let token = chain(error).find_map(|error| error.downcast_ref::<TokenError>());
        let possibly = token.and_then(|token| token.get_ref().downcast_ref::<PossiblyRotated>());
        if let Some(since) = possibly.map(PossiblyRotated::since)
            && told.possibly_rotated.insert((login, since))
        {
            Line::PossiblyRotated { login, since }.say();
        }
    }
}
