//! The layer: what is chosen once, with its defaults.

use std::sync::Arc;

use tower_layer::Layer;

use crate::{
    authorize::{Authorize, InvalidOrigin, Origins},
    cache::TokenCache,
    rejection::{Judge, ResponseHead, Verdict},
    service::{Choices, OAuth, Retry},
};

/// Wraps an HTTP service so that its requests carry an access token.
///
/// The caller always says where the token may travel: to one origin, to several, or to any. A
/// request to elsewhere passes without it. A redirect follower belongs around the layer, which
/// then sees every hop; one below it would hand answers of other servers up as if they were of
/// the first.
///
/// ```no_run
/// use http::Request;
/// use tower_oauth::{ClientAuth, ClientCredentials, OAuthLayer, TokenEndpoint};
/// # use std::convert::Infallible;
/// # use tower::{ServiceBuilder, ServiceExt, service_fn};
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), tower_oauth::BoxError> {
/// # let http_client = service_fn(|_: Request<tower_oauth::ReplayBody<String>>| async {
/// #     Ok::<_, Infallible>(http::Response::new(String::new()))
/// # });
///
/// let endpoint = TokenEndpoint::builder("https://auth.example.com/oauth/token")
///     .client_auth(ClientAuth::basic("client-id", "client-secret"))
///     .build()?;
/// let source = ClientCredentials::new(endpoint).scope("read:accounts");
///
/// let layer = OAuthLayer::for_origin("https://api.example.com", source)?;
/// let client = ServiceBuilder::new().layer(layer).service(http_client);
///
/// let request = Request::get("https://api.example.com/accounts").body(String::new())?;
/// let response = client.oneshot(request).await?;
/// # drop(response);
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone)]
pub struct OAuthLayer {
    choices: Choices,
}

impl OAuthLayer {
    /// A layer whose token travels to one origin: scheme, host and port, as in
    /// `https://api.example.com`.
    ///
    /// A request to another host, port or scheme goes out without the token: a 401 without any
    /// token request is a reason to compare the origin first (with the feature `tracing`, an event
    /// says so). There are no wildcards.
    ///
    /// A request whose URI names no server (a tonic channel adds it further down) belongs to
    /// whatever the inner service is connected to, and gets the token. Where that is, and whether
    /// the way is encrypted, this layer can't see.
    ///
    /// # Errors
    ///
    /// [`InvalidOrigin`] if the text isn't `http` or `https`, host and optional port, or is more
    /// than that.
    pub fn for_origin(
        origin: impl AsRef<str>,
        tokens: impl Into<TokenCache>,
    ) -> Result<Self, InvalidOrigin> {
        Self::for_origins([origin], tokens)
    }

    /// A layer whose token travels to any of several origins.
    ///
    /// A request whose URI names no server can't be told to be one of them, and is an error.
    ///
    /// # Errors
    ///
    /// As [`for_origin`](Self::for_origin), and if there is none.
    pub fn for_origins(
        origins: impl IntoIterator<Item = impl AsRef<str>>,
        tokens: impl Into<TokenCache>,
    ) -> Result<Self, InvalidOrigin> {
        Ok(Self::to(Origins::among(origins)?, tokens.into()))
    }

    /// A layer whose token travels wherever a request goes, redirects included; for a service
    /// that reaches trusted servers only. A URI that says `http` is still refused, unless it leads to
    /// loopback.
    pub fn for_any_origin(tokens: impl Into<TokenCache>) -> Self {
        Self::to(Origins::Any, tokens.into())
    }

    fn to(origins: Origins, cache: TokenCache) -> Self {
        Self {
            choices: Choices {
                cache,
                authorize: Authorize {
                    origins,
                    allow_plaintext: false,
                    replace_authorization: false,
                },
                retry: Retry::UpTo(64 * 1024),
                judge: Judge::Standard,
                report_attempts: false,
            },
        }
    }

    /// By default refused: lets the token travel over plain `http:` to hosts that aren't loopback,
    /// for instance where a mesh encrypts below.
    #[must_use]
    pub fn allow_plaintext(mut self) -> Self {
        self.choices.authorize.allow_plaintext = true;
        self
    }

    /// By default 64 KiB: how many bytes of a request's body are kept for a second send. A longer
    /// body is sent all the same; if its token is refused, the caller gets the refusal. So does one
    /// of more frames than one for 32 bytes of this, as each is kept at a cost of its own.
    ///
    /// What is kept is the body's own `Bytes`, until the answer's head comes: one that is a part of
    /// something larger keeps all of that, and a body whose buffers come from a bounded pool waits for
    /// itself if the pool is smaller than this.
    #[must_use]
    pub fn replay_limit(mut self, bytes: usize) -> Self {
        self.choices.retry = Retry::UpTo(bytes);
        self
    }

    /// By default a refused request is sent once more with a fresh token: this leaves that to the
    /// caller. A refusal still makes the next request wait for a fresh token, unless refreshes are
    /// held back because the last ones were refused as well.
    #[must_use]
    pub fn without_retry(mut self) -> Self {
        self.choices.retry = Retry::Never;
        self
    }

    /// By default false: a request that already carries `Authorization` is the caller's own, and
    /// passes untouched. True puts the token in place of it.
    #[must_use]
    pub fn replace_authorization(mut self, replace: bool) -> Self {
        self.choices.authorize.replace_authorization = replace;
        self
    }

    /// By default only answers that had a refusal say which [`Attempt`](crate::Attempt) they are
    /// to: this has all answers to requests with the token say so.
    #[must_use]
    pub fn report_attempts(mut self) -> Self {
        self.choices.report_attempts = true;
        self
    }

    /// By default [`rejection::standard`](crate::rejection::standard): says which answers refuse
    /// the token.
    ///
    /// ```
    /// use tower_oauth::{AccessToken, OAuthLayer, Verdict, rejection};
    ///
    /// # let source = || async { Ok(AccessToken::bearer("mF_9.B5f-4.1JqM")?) };
    /// // A server that says 403 where it means 401.
    /// let layer = OAuthLayer::for_origin("https://api.example.com", source)?
    ///     .rejection(|head| match head.status().as_u16() {
    ///         403 => Verdict::Refused,
    ///         _ => rejection::standard(head),
    ///     });
    /// # drop(layer);
    /// # Ok::<(), tower_oauth::InvalidOrigin>(())
    /// ```
    #[must_use]
    pub fn rejection<F>(mut self, classifier: F) -> Self
    where
        F: Fn(ResponseHead<'_>) -> Verdict + Send + Sync + 'static,
    {
        self.choices.judge = Judge::Custom(Arc::new(classifier));
        self
    }
}

impl<S> Layer<S> for OAuthLayer {
    type Service = OAuth<S>;

    fn layer(&self, inner: S) -> OAuth<S> {
        OAuth::new(inner, self.choices.clone())
    }
}
