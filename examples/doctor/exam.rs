//! The questions, each by one request at most, and what came of them.

use std::{
    fs, io,
    path::{Path, PathBuf},
    sync::{Arc, Mutex},
    time::Duration,
};

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{BodyExt, Full, Limited};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::TokioExecutor,
};
use serde_json::Value;
use tower_oauth::{
    BoxError, ClientAuth, ClientCredentials, Demand, DiscoveryError, Encoding, RefreshToken,
    TokenEndpoint, TokenEndpointBuilder, TokenError, TokenSource,
};

/// Who is examined, and by which client.
#[derive(Default)]
pub struct Patient {
    /// The issuer's, or the token endpoint's.
    pub url: String,
    pub client_id: String,
    pub client_secret: String,
    pub scope: String,
    pub params: Vec<(String, String)>,
    pub refresh_token_file: Option<PathBuf>,
}

/// How the client can prove who it is, and how the request is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Dialect {
    Basic,
    BasicUnencoded,
    Post,
    Json,
}

/// What was learnt.
#[derive(Default)]
pub struct Findings {
    /// The server's metadata, if it publishes any.
    pub metadata: Option<Value>,
    /// What was tried, in this order, and what the server said where it refused.
    pub tried: Vec<(Dialect, Result<(), String>)>,
    pub encoding_matters: bool,
    pub lifetime: Option<Duration>,
    pub asked_scope: String,
    pub granted_scope: Option<String>,
    /// Whether the answer to client credentials has a refresh token (RFC 6749 §4.4.3).
    pub sends_refresh_token: bool,
    /// Whether redeeming a refresh token brought another one.
    pub rotates: Option<Result<bool, String>>,
    pub spent: usize,
}

impl Findings {
    /// The client authentications that the server's metadata lists (RFC 8414 §2).
    pub fn listed(&self) -> Option<Vec<&str>> {
        let listed = self
            .metadata
            .as_ref()?
            .get("token_endpoint_auth_methods_supported")?;
        let names = listed.as_array()?.iter().filter_map(Value::as_str);
        Some(names.collect())
    }

    pub fn works(&self) -> bool {
        self.best().is_some()
    }

    fn spend(&mut self) {
        self.spent = self.spent.saturating_add(1);
    }

    /// The first that the server accepted.
    pub fn best(&self) -> Option<Dialect> {
        let accepted = self.tried.iter().find(|(_, outcome)| outcome.is_ok());
        accepted.map(|(dialect, _)| *dialect)
    }
}

/// Token requests cost money at some providers: three are free, each more is asked for.
pub struct Budget {
    confirm: Box<dyn Fn(usize) -> bool>,
}

impl Budget {
    const FREE: usize = 3;

    pub fn asking(confirm: impl Fn(usize) -> bool + 'static) -> Self {
        Self {
            confirm: Box::new(confirm),
        }
    }

    fn allows(&self, spent: usize) -> bool {
        spent < Self::FREE || (self.confirm)(spent)
    }
}

pub async fn examine(patient: &Patient, budget: &Budget) -> Result<Findings, BoxError> {
    let wire = Wire::new()?;
    let mut findings = Findings {
        encoding_matters: patient.credentials_need_encoding(),
        asked_scope: patient.scope.clone(),
        ..Findings::default()
    };
    match TokenEndpoint::discover(&*patient.url)
        .transport(wire.transport())
        .await
    {
        Ok(_) => findings.metadata = wire.last_json(),
        // No issuer, then; it is taken for the token endpoint.
        Err(DiscoveryError::NotFound { .. }) => {}
        // Before the secret goes anywhere.
        Err(error) => return Err(error.into()),
    }
    for dialect in dialects(&findings) {
        // JSON is asked about only where no form will do, and Basic without encoding only where
        // that makes a difference and nothing else will do.
        let moot = match dialect {
            Dialect::BasicUnencoded => {
                !findings.encoding_matters || findings.tried.iter().any(|(_, ok)| ok.is_ok())
            }
            Dialect::Json => findings.works(),
            Dialect::Basic | Dialect::Post => false,
        };
        if moot || !budget.allows(findings.spent) {
            continue;
        }
        try_out(patient, dialect, &wire, &mut findings).await?;
    }
    if let (Some(file), Some(dialect)) = (&patient.refresh_token_file, findings.best())
        && budget.allows(findings.spent)
    {
        let endpoint = patient
            .endpoint(dialect, &wire, findings.metadata.is_some())
            .await?;
        findings.rotates = Some(redeem(endpoint, file).await?);
        findings.spend();
    }
    Ok(findings)
}

/// What can be tried with an id and a secret. What the server says it accepts needn't be tried out,
/// but for one that proves it.
fn dialects(findings: &Findings) -> Vec<Dialect> {
    let Some(listed) = findings.listed() else {
        return vec![
            Dialect::Basic,
            Dialect::Post,
            Dialect::Json,
            Dialect::BasicUnencoded,
        ];
    };
    if listed.contains(&"client_secret_basic") {
        vec![Dialect::Basic, Dialect::BasicUnencoded]
    } else if listed.contains(&"client_secret_post") {
        vec![Dialect::Post]
    } else {
        Vec::new()
    }
}

async fn try_out(
    patient: &Patient,
    dialect: Dialect,
    wire: &Wire,
    findings: &mut Findings,
) -> Result<(), BoxError> {
    let endpoint = patient
        .endpoint(dialect, wire, findings.metadata.is_some())
        .await?;
    let source = ClientCredentials::new(endpoint).scope(&patient.scope);
    findings.spend();
    let outcome = match source.token(Demand::default()).await {
        Ok(token) => {
            findings.lifetime = token.lifetime();
            findings.granted_scope = token.scope().map(str::to_owned);
            let answer = wire.last_json().unwrap_or_default();
            findings.sends_refresh_token =
                answer.get("refresh_token").is_some_and(Value::is_string);
            Ok(())
        }
        Err(error) => Err(error.to_string()),
    };
    findings.tried.push((dialect, outcome));
    Ok(())
}

/// Whether another refresh token comes back; it takes the place of the old one in the file before
/// anything else happens.
async fn redeem(endpoint: TokenEndpoint, file: &Path) -> Result<Result<bool, String>, BoxError> {
    let old = fs::read_to_string(file)?.trim().to_owned();
    let rotated = Arc::new(Mutex::new(false));
    let source = RefreshToken::new(endpoint, old).on_rotation({
        let (rotated, file) = (Arc::clone(&rotated), file.to_owned());
        move |pair| {
            let written = replace(&file, pair.refresh_token());
            *rotated.lock().unwrap_or_else(|broken| broken.into_inner()) = written.is_ok();
            async { Ok(written?) }
        }
    });
    let outcome = source.token(Demand::default()).await;
    let rotated = *rotated.lock().unwrap_or_else(|broken| broken.into_inner());
    Ok(outcome
        .map(|_| rotated)
        .map_err(|error: TokenError| error.to_string()))
}

fn replace(file: &Path, content: &str) -> io::Result<()> {
    let next = file.with_extension("next");
    fs::copy(file, &next)?; // for its permissions
    fs::write(&next, content)?;
    fs::rename(&next, file)
}

impl Patient {
    /// Letters, digits and `*-._` are the same in both encodings of Basic.
    fn credentials_need_encoding(&self) -> bool {
        let plain = |c: char| c.is_ascii_alphanumeric() || "*-._".contains(c);
        !self
            .client_id
            .chars()
            .chain(self.client_secret.chars())
            .all(plain)
    }

    async fn endpoint(
        &self,
        dialect: Dialect,
        wire: &Wire,
        discovered: bool,
    ) -> Result<TokenEndpoint, BoxError> {
        let (id, secret) = (&*self.client_id, &*self.client_secret);
        let auth = match dialect {
            Dialect::Basic => ClientAuth::basic(id, secret),
            Dialect::BasicUnencoded => ClientAuth::basic_unencoded(id, secret),
            Dialect::Post | Dialect::Json => ClientAuth::post(id, secret),
        };
        let builder = if discovered {
            TokenEndpoint::discover(&*self.url)
                .transport(wire.transport())
                .await?
        } else {
            TokenEndpoint::builder(&*self.url)
        };
        let builder = self.params.iter().fold(builder, |builder, (name, value)| {
            TokenEndpointBuilder::param(builder, name, value)
        });
        let builder = match dialect {
            Dialect::Json => builder.encoding(Encoding::Json),
            _ => builder,
        };
        Ok(builder
            .client_auth(auth)
            .transport(wire.transport())
            .build()?)
    }
}

/// The way to the provider, which remembers the last answer.
#[derive(Clone)]
struct Wire {
    client: Client<HttpsConnector<HttpConnector>, Full<Bytes>>,
    last: Arc<Mutex<Bytes>>,
}

impl Wire {
    fn new() -> io::Result<Self> {
        let tls = HttpsConnectorBuilder::new().with_native_roots()?;
        let connector = tls.https_or_http().enable_http1().build();
        Ok(Self {
            client: Client::builder(TokioExecutor::new()).build(connector),
            last: Arc::default(),
        })
    }

    fn transport(
        &self,
    ) -> impl tower::Service<
        Request<Full<Bytes>>,
        Response = Response<Full<Bytes>>,
        Error = BoxError,
        Future: Send,
    > + Clone
    + Send
    + 'static {
        let wire = self.clone();
        tower::service_fn(move |request: Request<Full<Bytes>>| {
            let wire = wire.clone();
            async move {
                let (head, body) = wire.client.request(request).await?.into_parts();
                let body = Limited::new(body, 1024 * 1024).collect().await?.to_bytes();
                *wire
                    .last
                    .lock()
                    .unwrap_or_else(|broken| broken.into_inner()) = body.clone();
                Ok(Response::from_parts(head, Full::new(body)))
            }
        })
    }

    fn last_json(&self) -> Option<Value> {
        let last = self
            .last
            .lock()
            .unwrap_or_else(|broken| broken.into_inner());
        serde_json::from_slice(&last).ok()
    }
}
