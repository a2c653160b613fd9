//! The client credentials grant (RFC 6749 §4.4): the client asks for itself, for no user.

use std::{
    error::Error,
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use super::wanted::Wanted;
use crate::{
    endpoint::{TokenEndpoint, TokenKind},
    secret::SecretString,
    source::{Demand, Entrusted, Identity, TokenError, TokenSource},
    token::AccessToken,
};

/// Tokens for the client itself (RFC 6749 §4.4), as services use them among each other.
///
/// Each token is a new request; the cache decides when. A refresh token in the answer is ignored:
/// RFC 6749 §4.4.3 says that there should be none, and the credentials do the same. For the server
/// that wants it back there is [`keep_refresh_token`](Self::keep_refresh_token).
///
/// ```
/// # #[cfg(feature = "https-client")] {
/// use tower_oauth::{ClientAuth, ClientCredentials, TokenEndpoint};
///
/// let endpoint = TokenEndpoint::builder("https://auth.example.com/oauth/token")
///     .client_auth(ClientAuth::basic("client-id", "client-secret"))
///     .build()?;
/// let source = ClientCredentials::new(endpoint).scope("read:accounts read:moves");
/// # drop(source);
/// # }
/// # Ok::<(), tower_oauth::EndpointConfigError>(())
/// ```
#[derive(Debug, Clone)]
pub struct ClientCredentials {
    endpoint: TokenEndpoint,
    wanted: Wanted,
    kept: Option<Kept>,
}

/// The latest refresh token, shared by clones.
type Kept = Arc<Mutex<Option<SecretString>>>;

impl ClientCredentials {
    /// Asks `endpoint` for tokens with the scope that the server gives by default.
    ///
    /// The endpoint's client must have credentials: with
    /// [`ClientAuth::none`](crate::ClientAuth::none) each request for a token fails with
    /// [`NotConfidential`], and nothing is sent.
    pub fn new(endpoint: TokenEndpoint) -> Self {
        Self {
            endpoint,
            wanted: Wanted::default(),
            kept: None,
        }
    }

    /// Sets the scope to ask for, words separated by spaces; by default none is asked for, and the
    /// server chooses (RFC 6749 §3.3).
    ///
    /// With a scope that RFC 6749 doesn't allow, each request for a token fails with
    /// [`InvalidScope`](crate::InvalidScope), and nothing is sent.
    #[must_use]
    pub fn scope(mut self, scope: impl AsRef<str>) -> Self {
        self.wanted.scope(scope.as_ref());
        self
    }

    /// Adds a resource server that the tokens are for, an absolute URI without a fragment
    /// (RFC 8707 §2); by default none is named, and the server chooses.
    ///
    /// With one that isn't, each request for a token fails with
    /// [`InvalidResource`](crate::InvalidResource), and nothing is sent.
    #[must_use]
    pub fn resource(mut self, uri: impl Into<String>) -> Self {
        self.wanted.resource(uri.into());
        self
    }

    /// Adds the name of a service that the tokens are for, as the server calls it (`audience`); by
    /// default none is named, and the server chooses.
    ///
    /// For servers that take it, as in token exchanges (RFC 8693 §2.1), where RFC 8707 has
    /// [`resource`](Self::resource).
    #[must_use]
    pub fn audience(mut self, audience: impl Into<String>) -> Self {
        self.wanted.audience(audience.into());
        self
    }

    /// Keeps the refresh token of each answer and sends the latest as `refresh_token` in the next
    /// request, whose `grant_type` stays `client_credentials`; by default a refresh token is
    /// ignored (RFC 6749 §4.4.3). Clones that are made after this share it.
    ///
    /// For a server that departs from RFC 6749 in this way. One that the server calls invalid
    /// (`invalid_grant`) is dropped, and the request goes out again without, in the same call. That
    /// happens, too, when clones in several caches send the same one at the same time.
    #[must_use]
    pub fn keep_refresh_token(mut self) -> Self {
        self.kept.get_or_insert_default();
        self
    }

    async fn ask(
        &self,
        refresh_token: Option<&SecretString>,
        entrusted: Option<&Entrusted>,
    ) -> Result<AccessToken, TokenError> {
        // An empty parameter is left out.
        let refresh_token = refresh_token.map_or("", |kept| kept);
        let grant = [
            ("grant_type", "client_credentials"),
            ("refresh_token", refresh_token),
        ];
        let response = self.endpoint.exchange(&self.wanted.with(&grant)?).await?;
        if let (Some(kept), Some(latest)) = (&self.kept, response.refresh_token) {
            match entrusted {
                Some(entrusted) => entrusted.bring(latest),
                None => *lock(kept) = Some(latest),
            }
        }
        Ok(response.token)
    }

    /// The one to send along: where this source is shared, all processes' latest.
    fn kept(&self, entrusted: Option<&Entrusted>) -> Option<SecretString> {
        let kept = self.kept.as_ref()?;
        match entrusted {
            Some(entrusted) => entrusted.refresh_token().cloned(),
            None => lock(kept).clone(),
        }
    }

    /// Forgets this one, unless a clone has got a newer one meanwhile.
    fn forget(&self, refresh_token: &SecretString) {
        if let Some(kept) = &self.kept {
            lock(kept).take_if(|kept| **kept == **refresh_token);
        }
    }
}

fn lock(kept: &Kept) -> MutexGuard<'_, Option<SecretString>> {
    kept.lock().unwrap_or_else(PoisonError::into_inner)
}

impl TokenSource for ClientCredentials {
    async fn token(&self, demand: Demand<'_>) -> Result<AccessToken, TokenError> {
        // RFC 6749 §4.4: "The client credentials grant type MUST only be used by confidential
        // clients."
        if !self.endpoint.client_is_confidential() {
            return Err(TokenError::permanent(NotConfidential(())));
        }
        let entrusted = demand.entrusted();
        let kept = self.kept(entrusted);
        match (self.ask(kept.as_ref(), entrusted).await, kept) {
            (Err(error), Some(kept)) if error.is_invalid_grant() => {
                self.forget(&kept);
                self.ask(None, entrusted).await
            }
            (outcome, _) => outcome,
        }
    }

    /// Revokes the `held` token, and the refresh token if one is kept. Without a
    /// [`revocation_endpoint`](crate::TokenEndpointBuilder::revocation_endpoint) nothing is sent.
    async fn revoke(&self, held: Option<&AccessToken>) -> Result<(), TokenError> {
        let mut outcome = Ok(());
        if let Some(kept) = self.kept(None) {
            outcome = self.endpoint.revoke(&kept, TokenKind::RefreshToken).await;
            if outcome.is_ok() {
                self.forget(&kept);
            }
        }
        outcome.and(self.endpoint.revoke_held(held).await)
    }

    fn identify(&self, identity: &mut Identity) {
        identity.part("grant", "client_credentials");
        self.wanted.each(|name, value| identity.part(name, value));
        self.endpoint.identify(identity);
    }
}

/// Client credentials were asked for without credentials. The caller has to mend it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NotConfidential(());

impl fmt::Display for NotConfidential {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(
            "the client credentials grant needs a client with credentials (RFC 6749 §4.4), and \
             this one has none; choose a method that proves who it is (ClientAuth)",
        )
    }
}

impl Error for NotConfidential {}

#[cfg(test)]
mod tests {
    use std::{
        convert::Infallible,
        sync::{Arc, Mutex},
    };

    use bytes::Bytes;
    use http::{Request, Response};
    use http_body_util::{BodyExt, Full};

    use super::*;
    use crate::{endpoint::ClientAuth, grant::InvalidScope};

    /// Bodies that a server got which gives each client a token and a refresh token.
    type Bodies = Arc<Mutex<Vec<Bytes>>>;

    fn server(auth: ClientAuth) -> (ClientCredentials, Bodies) {
        let bodies = Bodies::default();
        let transport = tower::service_fn({
            let bodies = Arc::clone(&bodies);
            move |request: Request<Full<Bytes>>| {
                let bodies = Arc::clone(&bodies);
                async move {
                    let body = request.into_body().collect().await?.to_bytes();
                    bodies.lock().unwrap().push(body);
                    let answer =
                        r#"{"access_token":"a","token_type":"Bearer","refresh_token":"r"}"#;
                    Ok::<_, Infallible>(Response::new(String::from(answer)))
                }
            }
        });
        let endpoint = TokenEndpoint::builder("https://as.example/token")
            .client_auth(auth)
            .transport(transport)
            .build()
            .unwrap();
        (ClientCredentials::new(endpoint), bodies)
    }

    async fn ask(source: &ClientCredentials) -> Result<AccessToken, TokenError> {
        source.token(Demand::default()).await
    }

    // rule 14
    #[tokio::test]
    async fn each_token_is_asked_for_with_the_credentials_and_never_with_a_refresh_token() {
        let (source, bodies) = server(ClientAuth::basic("id", "pw"));
        ask(&source).await.unwrap();
        let source = source.scope(" read  write").audience("a b");
        ask(&source).await.unwrap();
        let bodies = bodies.lock().unwrap();
        assert_eq!(
            *bodies,
            [
                "grant_type=client_credentials",
                "grant_type=client_credentials&scope=read+write&audience=a+b"
            ]
        );
    }

    /// Each answer brings the next refresh token; `dead` ones are refused.
    fn keeping(dead: &'static [&'static str]) -> (ClientCredentials, Bodies) {
        let bodies = Bodies::default();
        let transport = tower::service_fn({
            let bodies = Arc::clone(&bodies);
            move |request: Request<Full<Bytes>>| {
                let bodies = Arc::clone(&bodies);
                async move {
                    let body = request.into_body().collect().await?.to_bytes();
                    let text = String::from_utf8_lossy(&body).into_owned();
                    let mut bodies = bodies.lock().unwrap();
                    bodies.push(body);
                    let refused = dead.iter().any(|dead| text.ends_with(dead));
                    let (status, answer) = match (refused, bodies.len()) {
                        (true, _) => (400, String::from(r#"{"error":"invalid_grant"}"#)),
                        (false, 3) => (200, String::from(r#"{"access_token":"a3"}"#)),
                        (false, n) => (
                            200,
                            format!(r#"{{"access_token":"a{n}","refresh_token":"r{n}"}}"#),
                        ),
                    };
                    let response = Response::builder().status(status);
                    Ok::<_, Infallible>(response.body(answer).unwrap())
                }
            }
        });
        let endpoint = TokenEndpoint::builder("https://as.example/token")
            .client_auth(ClientAuth::basic("id", "pw"))
            .revocation_endpoint("https://as.example/revoke")
            .transport(transport)
            .build()
            .unwrap();
        let source = ClientCredentials::new(endpoint).scope("read");
        (source.keep_refresh_token(), bodies)
    }

    #[tokio::test]
    async fn the_latest_refresh_token_goes_along_if_it_is_to_be_kept() {
        let (source, bodies) = keeping(&[]);
        for _ in 0..2 {
            ask(&source).await.unwrap();
            ask(&source.clone()).await.unwrap();
        }
        let form = "grant_type=client_credentials";
        assert_eq!(
            *bodies.lock().unwrap(),
            [
                format!("{form}&scope=read"),
                format!("{form}&refresh_token=r1&scope=read"),
                format!("{form}&refresh_token=r2&scope=read"),
                // The third answer brought none.
                format!("{form}&refresh_token=r2&scope=read"),
            ]
        );
    }

    #[tokio::test]
    async fn a_refresh_token_that_is_dead_is_dropped_and_the_credentials_do() {
        let (source, bodies) = keeping(&["refresh_token=r1&scope=read"]);
        ask(&source).await.unwrap();
        let token = ask(&source).await.unwrap();
        assert_eq!(token.expose_secret(), "a3");
        ask(&source).await.unwrap();
        let form = "grant_type=client_credentials";
        assert_eq!(
            *bodies.lock().unwrap(),
            [
                format!("{form}&scope=read"),
                format!("{form}&refresh_token=r1&scope=read"),
                format!("{form}&scope=read"),
                format!("{form}&scope=read"),
            ]
        );
    }

    // rule 68
    #[tokio::test]
    async fn what_is_held_is_revoked() {
        let (source, bodies) = keeping(&[]);
        let token = ask(&source).await.unwrap();
        for _ in 0..2 {
            source.revoke(Some(&token)).await.unwrap();
        }
        let bodies = bodies.lock().unwrap();
        assert_eq!(
            bodies[1..],
            [
                "token=r1&token_type_hint=refresh_token",
                "token=a1&token_type_hint=access_token",
                "token=a1&token_type_hint=access_token",
            ]
        );
    }

    // rules 9, 13
    #[tokio::test]
    async fn nothing_is_sent_for_a_public_client_or_an_invalid_scope() {
        let (source, bodies) = server(ClientAuth::none("id"));
        let error = ask(&source).await.unwrap_err();
        assert!(error.get_ref().is::<NotConfidential>() && !error.is_transient());

        let (source, also_bodies) = server(ClientAuth::basic("id", "pw"));
        let error = ask(&source.scope("a\"b")).await.unwrap_err();
        assert!(error.get_ref().is::<InvalidScope>() && !error.is_transient());
        assert!(error.to_string().contains("byte 1"), "{error}");

        assert!(bodies.lock().unwrap().is_empty() && also_bodies.lock().unwrap().is_empty());
    }
}
