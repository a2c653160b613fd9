//! A login in one call: the browser comes back to a socket on this machine (RFC 8252 §7.3).
//!
//! Every page that the user's browser shows, and every program of the user's machine, can reach
//! that socket. So whatever isn't the one right request gets a short answer and changes nothing.

use std::{
    collections::VecDeque,
    fmt, io,
    net::{Ipv4Addr, SocketAddr},
    time::Duration,
};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    sync::{mpsc, oneshot},
    task::{AbortHandle, JoinSet},
    time::{sleep, timeout},
};
use zeroize::Zeroizing;

use super::{AuthorizationCode, PendingLogin, callback::Judged};
use crate::{
    endpoint::TokenEndpoint,
    grant::{LoginError, RefreshToken, wanted::Wanted},
    secret::SecretString,
};

/// A login that listens for the browser on this machine; made by
/// [`AuthorizationCode::listen_on_loopback`].
///
/// It needs a tokio runtime with I/O enabled.
///
/// ```no_run
/// # #[cfg(feature = "https-client")] {
/// use tower_oauth::{AuthorizationCode, ClientAuth, TokenCache, TokenEndpoint};
///
/// # tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(async {
/// let endpoint = TokenEndpoint::builder("https://auth.example.com/oauth/token")
///     .authorization_endpoint("https://auth.example.com/authorize")
///     .client_auth(ClientAuth::none("client-id"))
///     .build()?;
/// let source = AuthorizationCode::listen_on_loopback(endpoint)
///     .scope("read:accounts")
///     .login(|url| println!("open {url}"))
///     .await?;
/// let cache = TokenCache::from(source);
/// # drop(cache);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// # })?;
/// # }
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone)]
#[must_use]
pub struct LoopbackLogin {
    endpoint: TokenEndpoint,
    wanted: Wanted,
    params: Vec<(String, String)>,
    pkce: bool,
    port: u16,
    path: String,
    timeout: Duration,
}

impl LoopbackLogin {
    pub(super) fn new(endpoint: TokenEndpoint) -> Self {
        Self {
            endpoint,
            wanted: Wanted::default(),
            params: Vec::new(),
            pkce: true,
            port: 0,
            path: String::from("/"),
            timeout: DEFAULT_TIMEOUT,
        }
    }

    /// As [`AuthorizationCode::scope`].
    pub fn scope(mut self, scope: impl AsRef<str>) -> Self {
        self.wanted.scope(scope.as_ref());
        self
    }

    /// As [`AuthorizationCode::resource`].
    pub fn resource(mut self, uri: impl Into<String>) -> Self {
        self.wanted.resource(uri.into());
        self
    }

    /// As [`AuthorizationCode::param`].
    pub fn param(mut self, key: impl Into<String>, value: impl Into<String>) -> Self {
        self.params.push((key.into(), value.into()));
        self
    }

    /// As [`AuthorizationCode::without_pkce`]; another program on this machine may hear the code
    /// then (RFC 8252 §8.1).
    pub fn without_pkce(mut self) -> Self {
        self.pkce = false;
        self
    }

    /// Sets the port to listen on; by default any that is free.
    ///
    /// For servers that compare the whole redirect URI; RFC 8252 §7.3 has them allow any port.
    pub fn port(mut self, port: u16) -> Self {
        self.port = port;
        self
    }

    /// Sets the path of the redirect URI `http://127.0.0.1:{port}{path}`; by default `/`.
    pub fn path(mut self, path: impl Into<String>) -> Self {
        self.path = path.into();
        self
    }

    /// Sets how long the user may take to log in; 5 minutes by default.
    ///
    /// The exchange of the code comes after that and has the endpoint's own
    /// [`timeout`](crate::TokenEndpointBuilder::timeout).
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    /// Listens, shows the URL to open by `show`, and waits for the browser to come back.
    ///
    /// Requests that aren't the answer to this login change nothing. Dropping the future ends the
    /// login and closes the port.
    ///
    /// # Errors
    ///
    /// [`LoginError`] if the port is taken, the user said no or took too long, or the code
    /// couldn't be exchanged.
    pub async fn login(self, show: impl FnOnce(&str)) -> Result<RefreshToken, LoginError> {
        if !is_path(&self.path) {
            return Err(LoginError::RedirectUri {
                problem: "its path must begin with / and have no query, such as /callback",
            });
        }
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, self.port));
        let (listener, port) = listen(address)
            .await
            .map_err(|cause| LoginError::Listen { address, cause })?;
        let authorization = AuthorizationCode {
            endpoint: self.endpoint,
            // RFC 8252 §8.3: not "localhost", which may be another interface's name.
            redirect_uri: format!("http://127.0.0.1:{port}{}", self.path),
            wanted: self.wanted,
            params: self.params,
            pkce: self.pkce,
        };
        let login = authorization.start()?;
        show(login.url());

        let (arrived, mut arrivals) = mpsc::channel(1);
        let mut listening = JoinSet::new(); // aborts its task when it is dropped
        listening.spawn(accept(listener, self.path, arrived));
        let answer = timeout(self.timeout, right_one(&login, &mut arrivals)).await;
        drop(listening);
        let code = answer.map_err(|_| LoginError::TimedOut {
            limit: self.timeout,
        })??;
        login.exchange(code).await
    }
}

async fn listen(address: SocketAddr) -> io::Result<(TcpListener, u16)> {
    let listener = TcpListener::bind(address).await?;
    let port = listener.local_addr()?.port();
    Ok((listener, port))
}

fn is_path(path: &str) -> bool {
    path.starts_with('/')
        && path
            .bytes()
            .all(|byte| byte.is_ascii_graphic() && !b"?#".contains(&byte))
}

const DEFAULT_TIMEOUT: Duration = Duration::from_secs(5 * 60);

/// A request to the redirect URI, and the connection that waits to answer it.
struct Arrived {
    query: SecretString,
    answer: oneshot::Sender<Page>,
    /// Ends when the page was sent.
    sent: oneshot::Receiver<()>,
}

/// Waits for the response to this login: the first that has its `state`.
async fn right_one(
    login: &PendingLogin,
    arrivals: &mut mpsc::Receiver<Arrived>,
) -> Result<SecretString, LoginError> {
    while let Some(arrived) = arrivals.recv().await {
        let judged = login.judge(&arrived.query);
        let page = match &judged {
            Judged::Code(_) => Page::LoggedIn,
            Judged::Ended(_) => Page::NotLoggedIn,
            Judged::NotOurs { .. } => Page::NotThisLogin,
        };
        // The browser may have gone: that is nothing to us, here and below.
        let _ = arrived.answer.send(page);
        if matches!(judged, Judged::NotOurs { .. }) {
            continue;
        }
        let _ = timeout(GOODBYE, arrived.sent).await;
        return judged.code();
    }
    // The listener's task has ended, as by a runtime that shuts down.
    Err(LoginError::Response {
        problem: "the listener was stopped before there was one",
    })
}

/// How long a browser may take to accept the last page.
const GOODBYE: Duration = Duration::from_secs(1);

/// Each connection has a task of its own, so that a slow one keeps nobody waiting.
async fn accept(listener: TcpListener, path: String, arrived: mpsc::Sender<Arrived>) {
    let mut connections = JoinSet::new();
    let mut oldest_first: VecDeque<AbortHandle> = VecDeque::new();
    loop {
        while connections.try_join_next().is_some() {}
        oldest_first.retain(|connection| !connection.is_finished());
        // Those that say nothing mustn't keep the browser out.
        if oldest_first.len() >= MAX_CONNECTIONS
            && let Some(oldest) = oldest_first.pop_front()
        {
            oldest.abort();
        }
        match listener.accept().await {
            Ok((stream, _)) => {
                let serving = serve(stream, path.clone(), arrived.clone());
                oldest_first.push_back(connections.spawn(timeout(CONNECTION, serving)));
            }
            // As when the process has no file descriptors left: it may pass.
            Err(_) => sleep(Duration::from_millis(100)).await,
        }
    }
}

const MAX_CONNECTIONS: usize = 64;

/// How long a connection may take in all.
const CONNECTION: Duration = Duration::from_secs(10);

const MAX_HEAD: usize = 16 * 1024;

async fn serve(mut stream: TcpStream, path: String, arrived: mpsc::Sender<Arrived>) {
    let (sending, sent) = oneshot::channel();
    let page = match read_head(&mut stream).await {
        Some(head) => match asked(&head, &path) {
            Ok(query) => answer(query, sent, &arrived).await,
            Err(page) => page,
        },
        None => Page::NoRequest,
    };
    // Whoever hangs up gets no answer.
    let _ = stream.write_all(page.to_http().as_bytes()).await;
    let _ = stream.shutdown().await;
    drop(sending);
    // Closing with unread bytes would be a reset, and the page might be lost.
    let rest = &mut [0; 1024];
    while matches!(stream.read(rest).await, Ok(1..)) {}
}

async fn answer(
    query: SecretString,
    sent: oneshot::Receiver<()>,
    arrived: &mpsc::Sender<Arrived>,
) -> Page {
    let (answer, answered) = oneshot::channel();
    let this = Arrived {
        query,
        answer,
        sent,
    };
    match arrived.send(this).await {
        Ok(()) => answered.await.unwrap_or(Page::NotThisLogin),
        Err(_) => Page::NotThisLogin,
    }
}

/// The head of a request; `None` if none comes, or none that ends.
async fn read_head(stream: &mut TcpStream) -> Option<Zeroizing<Vec<u8>>> {
    // Room for all, so that it doesn't grow and leave copies behind.
    let mut head = Zeroizing::new(Vec::with_capacity(MAX_HEAD));
    let mut limited = stream.take(u64::try_from(MAX_HEAD).ok()?);
    loop {
        let known = head.len();
        if limited.read_buf(&mut *head).await.ok()? == 0 {
            return None;
        }
        let unseen = head.get(known.saturating_sub(3)..)?;
        let ends = |end: &[u8]| unseen.windows(end.len()).any(|window| window == end);
        if ends(b"\r\n\r\n") || ends(b"\n\n") {
            return Some(head);
        }
    }
}

/// The query of a request to the redirect URI, or what to answer to another.
fn asked(head: &[u8], path: &str) -> Result<SecretString, Page> {
    let line = head.split(|byte| *byte == b'\n').next();
    let line = line.and_then(|line| str::from_utf8(line).ok());
    let mut words = line.ok_or(Page::NoRequest)?.split_ascii_whitespace();
    let (Some(method), Some(target), Some(version), None) =
        (words.next(), words.next(), words.next(), words.next())
    else {
        return Err(Page::NoRequest);
    };
    if !version.starts_with("HTTP/1.") {
        return Err(Page::NoRequest);
    }
    let (asked, query) = target.split_once('?').unwrap_or((target, ""));
    if asked != path {
        return Err(Page::NotHere);
    }
    if method != "GET" {
        return Err(Page::NotSo);
    }
    Ok(SecretString::from(query.to_owned()))
}

/// What a browser may get to see.
#[derive(Debug, Clone, Copy)]
enum Page {
    LoggedIn,
    NotLoggedIn,
    NotThisLogin,
    NotHere,
    NotSo,
    NoRequest,
}

impl Page {
    fn to_http(self) -> String {
        let (status, text) = match self {
            Self::LoggedIn => ("200 OK", "You can close this window."),
            Self::NotLoggedIn => (
                "200 OK",
                "The login failed; the program that started it says why. You can close this \
                 window.",
            ),
            Self::NotThisLogin => ("400 Bad Request", "This isn't the answer to the login."),
            Self::NotHere => ("404 Not Found", "There is nothing here."),
            Self::NotSo => ("405 Method Not Allowed\r\nAllow: GET", "Only GET is."),
            Self::NoRequest => ("400 Bad Request", "This is no request."),
        };
        let body = format!("<!doctype html><meta charset=utf-8><title>Login</title><p>{text}\n");
        // The code stands in the page's URL: nobody may keep it, be told it or frame it.
        format!(
            "HTTP/1.1 {status}\r\nContent-Type: text/html; charset=utf-8\r\n\
             Content-Length: {}\r\nConnection: close\r\nCache-Control: no-store\r\n\
             Referrer-Policy: no-referrer\r\n\
             Content-Security-Policy: default-src 'none'; frame-ancestors 'none'\r\n\
             X-Content-Type-Options: nosniff\r\n\r\n{body}",
            body.len()
        )
    }
}

impl fmt::Debug for LoopbackLogin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let params: Vec<&str> = self.params.iter().map(|(key, _)| &**key).collect();
        f.debug_struct("LoopbackLogin")
            .field("endpoint", &self.endpoint)
            .field("wanted", &self.wanted)
            .field("params", &params)
            .field("pkce", &self.pkce)
            .field("port", &self.port)
            .field("path", &self.path)
            .field("timeout", &self.timeout)
            .finish()
    }
}
