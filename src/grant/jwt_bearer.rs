//! The JWT bearer grant (RFC 7523 §2.1): a signed assertion in place of a user's consent.

use super::{presented::Presented, wanted::Wanted};
use crate::{
    endpoint::TokenEndpoint,
    source::{Demand, Identity, TokenError, TokenSource},
    token::AccessToken,
};

/// Tokens for a signed JWT (RFC 7523 §2.1), as service accounts and workloads use them.
///
/// The JWT comes from any source: a [`Secret`](crate::Secret) such as a file that a platform keeps
/// fresh, or [`SignedJwt`](crate::SignedJwt), which signs it here. It is asked for at each token
/// request. Unlike [`TokenExchange`](crate::TokenExchange), which shows tokens of any type, it shows
/// a JWT, whose signer is all that many servers need to know.
///
/// ```
/// # #[cfg(feature = "https-client")] {
/// use tower_oauth::{ClientAuth, JwtBearer, Secret, TokenEndpoint};
///
/// let endpoint = TokenEndpoint::builder("https://auth.example.com/oauth/token")
///     .client_auth(ClientAuth::anonymous())
///     .build()?;
/// let workload = Secret::from_file("/var/run/secrets/tokens/auth.example.com");
/// let source = JwtBearer::new(endpoint, workload).scope("read");
/// # drop(source);
/// # }
/// # Ok::<(), tower_oauth::EndpointConfigError>(())
/// ```
#[derive(Debug, Clone)]
pub struct JwtBearer {
    endpoint: TokenEndpoint,
    assertion: Presented,
    wanted: Wanted,
}

impl JwtBearer {
    /// Asks `endpoint` for tokens by the JWTs that `assertion` gives.
    ///
    /// The client authenticates as the endpoint says; at many servers it needn't
    /// ([`ClientAuth::anonymous`](crate::ClientAuth::anonymous), RFC 7521 §4.1). After the
    /// authorization server has refused a JWT, the source is asked for another one
    /// ([`Demand::rejected`]).
    pub fn new(endpoint: TokenEndpoint, assertion: impl TokenSource) -> Self {
        Self {
            endpoint,
            assertion: Presented::by(assertion),
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
}

impl TokenSource for JwtBearer {
    async fn token(&self, _: Demand<'_>) -> Result<AccessToken, TokenError> {
        self.wanted.with(&[])?; // a mistake costs no assertion
        let assertion = self.assertion.token().await?;
        let grant = [
            ("grant_type", "urn:ietf:params:oauth:grant-type:jwt-bearer"),
            ("assertion", assertion.expose_secret()),
        ];
        let outcome = self.endpoint.exchange(&self.wanted.with(&grant)?).await;
        self.assertion.judged(assertion, &outcome);
        Ok(outcome?.token)
    }

    /// Revokes the access token (RFC 7009); what vouched for it isn't this grant's.
    async fn revoke(&self, held: Option<&AccessToken>) -> Result<(), TokenError> {
        self.endpoint.revoke_held(held).await
    }

    fn identify(&self, identity: &mut Identity) {
        identity.part("grant", "jwt_bearer");
        self.assertion.identify("assertion", identity);
        self.wanted.each(|name, value| identity.part(name, value));
        self.endpoint.identify(identity);
    }
}
