//! The client credentials grant (RFC 6749 §4.4): the client asks for itself, for no user.

use std::{error::Error, fmt};

use super::wanted::Wanted;
use crate::{
    endpoint::TokenEndpoint,
    source::{Demand, TokenError, TokenSource},
    token::AccessToken,
};

/// Tokens for the client itself (RFC 6749 §4.4), as services use them among each other.
///
/// Each token is a new request; the cache decides when. A refresh token in the answer is ignored:
/// RFC 6749 §4.4.3 says that there should be none, and the credentials do the same.
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
}

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

    /// Adds a resource server that the token is for, an absolute URI without a fragment
    /// (RFC 8707 §2); by default none is named, and the server chooses.
    ///
    /// With one that isn't, each request for a token fails with
    /// [`InvalidResource`](crate::InvalidResource), and nothing is sent.
    #[must_use]
    pub fn resource(mut self, uri: impl Into<String>) -> Self {
        self.wanted.resource(uri.into());
        self
    }
}

impl TokenSource for ClientCredentials {
    async fn token(&self, _: Demand<'_>) -> Result<AccessToken, TokenError> {
        // RFC 6749 §4.4: "The client credentials grant type MUST only be used by confidential
        // clients."
        if !self.endpoint.client_is_confidential() {
            return Err(TokenError::permanent(NotConfidential(())));
        }
        let grant = self.wanted.with(&[("grant_type", "client_credentials")])?;
        Ok(self.endpoint.exchange(&grant).await?.token)
    }
}

/// Client credentials were asked for without credentials. The caller has to mend it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NotConfidential(());

impl fmt::Display for NotConfidential {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(
            "the client credentials grant needs a client with credentials (RFC 6749 §4.4), and \
             this one has ClientAuth::none; use ClientAuth::basic or ::post",
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
        ask(&source.scope(" read  write")).await.unwrap();
        let bodies = bodies.lock().unwrap();
        assert_eq!(
            *bodies,
            [
                "grant_type=client_credentials",
                "grant_type=client_credentials&scope=read+write"
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
