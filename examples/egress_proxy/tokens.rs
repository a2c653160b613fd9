//! Where an upstream's tokens come from.

use std::{env, time::Duration};

use tokio::sync::OnceCell;
use tower_oauth::{
    AccessToken, ClientAuth, ClientCredentials, Demand, EndpointConfigError, FileToken, Secret,
    TokenCache, TokenEndpoint, TokenEndpointBuilder, TokenError, TokenSource,
};

use super::config::{Auth, Upstream};

/// Nothing is fetched before it is needed: the proxy starts without the authorization server, and
/// is ready when that is there.
pub fn cache(upstream: &Upstream) -> Result<TokenCache, String> {
    let (issuer, endpoint) = (&upstream.issuer, &upstream.token_endpoint);
    match (&upstream.token_file, &upstream.client_id, issuer, endpoint) {
        (Some(file), None, None, None) => Ok(cached(FileToken::new(file))),
        (None, Some(id), Some(issuer), None) => Ok(cached(Discovered {
            issuer: issuer.clone(),
            client: Client::new(id, upstream)?,
            source: OnceCell::new(),
        })),
        (None, Some(id), None, Some(url)) => {
            let source = Client::new(id, upstream)?.at(TokenEndpoint::builder(url));
            Ok(cached(source.map_err(|error| error.to_string())?))
        }
        _ => Err(String::from(
            "write either token_file alone, or client_id and one of issuer and token_endpoint",
        )),
    }
}

fn cached(source: impl TokenSource) -> TokenCache {
    // Closing the cache has as long. With `drain` before it and a second for the admin address
    // after it, that should be less than the 30 s after which a process is killed in Kubernetes.
    let deadline = Duration::from_secs(9);
    TokenCache::builder(source).deadline(deadline).build()
}

/// The client as the authorization server knows it, and what it asks for.
struct Client {
    auth: ClientAuth,
    scope: String,
    audience: String,
    plaintext: bool,
}

impl Client {
    fn new(id: &str, upstream: &Upstream) -> Result<Self, String> {
        let secret = match (&upstream.client_secret_file, &upstream.client_secret_env) {
            // Read at each token request: it may be rotated, or be there later.
            (Some(path), None) => Secret::from_file(path),
            (None, Some(name)) if env::var_os(name).is_some() => Secret::from_env(name),
            // The name isn't shown: somebody may have written the secret itself.
            (None, Some(_)) => {
                let advice = "client_secret_env: set the environment variable that it names";
                return Err(String::from(advice));
            }
            _ => {
                let advice = "write client_secret_file or client_secret_env: where the secret is";
                return Err(String::from(advice));
            }
        };
        Ok(Self {
            auth: match upstream.auth {
                Auth::Basic => ClientAuth::basic(id, secret),
                Auth::Post => ClientAuth::post(id, secret),
            },
            scope: upstream.scope.clone(),
            audience: upstream.audience.clone(),
            plaintext: upstream.allow_plaintext,
        })
    }

    fn at(&self, builder: TokenEndpointBuilder) -> Result<ClientCredentials, EndpointConfigError> {
        let builder = match self.plaintext {
            true => builder.allow_plaintext(),
            false => builder,
        };
        // A parameter without a value is left out.
        let builder = builder.param("audience", &*self.audience);
        let endpoint = builder.client_auth(self.auth.clone()).build()?;
        Ok(ClientCredentials::new(endpoint).scope(&self.scope))
    }
}

/// Client credentials at an endpoint that is looked up when the first token is asked for.
struct Discovered {
    issuer: String,
    client: Client,
    source: OnceCell<ClientCredentials>,
}

impl Discovered {
    async fn discover(&self) -> Result<ClientCredentials, TokenError> {
        let discovery = TokenEndpoint::discover(&*self.issuer);
        let builder = match self.client.plaintext {
            true => discovery.allow_plaintext().await?,
            false => discovery.await?,
        };
        Ok(self.client.at(builder)?)
    }
}

impl TokenSource for Discovered {
    async fn token(&self, demand: Demand<'_>) -> Result<AccessToken, TokenError> {
        let source = self.source.get_or_try_init(|| self.discover()).await?;
        source.token(demand).await
    }

    async fn revoke(&self, held: Option<&AccessToken>) -> Result<(), TokenError> {
        match self.source.get() {
            Some(source) => source.revoke(held).await,
            None => Ok(()),
        }
    }
}
