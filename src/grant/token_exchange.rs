//! The token exchange grant (RFC 8693): a token in the place of another one.

use std::borrow::Cow;

use super::{presented::Presented, wanted::Wanted};
use crate::{
    endpoint::TokenEndpoint,
    source::{Demand, Identity, TokenError, TokenSource},
    token::AccessToken,
};

/// Tokens in the place of another token (RFC 8693), as a service needs them that calls the next
/// one for the same user.
///
/// The token to give comes from any source, and so does the one of who acts for its subject. Both
/// are asked for at each token request. Unlike [`JwtBearer`](crate::JwtBearer), it says of what type
/// each token is, and for whom the new one is to be.
///
/// ```
/// # #[cfg(feature = "https-client")] {
/// use tower_oauth::{ClientAuth, Secret, TokenEndpoint, TokenExchange, TokenType};
///
/// let endpoint = TokenEndpoint::builder("https://auth.example.com/oauth/token")
///     .client_auth(ClientAuth::basic("client-id", "client-secret"))
///     .build()?;
/// let source = TokenExchange::new(endpoint, Secret::from_file("/var/run/secrets/tokens/user"))
///     .subject_token_type(TokenType::JWT)
///     .audience("https://api.example.com")
///     .scope("read");
/// # drop(source);
/// # }
/// # Ok::<(), tower_oauth::EndpointConfigError>(())
/// ```
#[derive(Debug, Clone)]
pub struct TokenExchange {
    endpoint: TokenEndpoint,
    subject: Presented,
    subject_type: TokenType,
    actor: Option<Presented>,
    actor_type: TokenType,
    requested_type: Option<TokenType>,
    wanted: Wanted,
    issued_type_is_optional: bool,
}

/// The type of a token, as an exchange names it (RFC 8693 §3).
///
/// One that isn't here is a text: `TokenType::from("urn:example:token-type:badge")`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TokenType(Cow<'static, str>);

impl TokenType {
    /// An access token of the same authorization server.
    pub const ACCESS_TOKEN: Self =
        Self::registered("urn:ietf:params:oauth:token-type:access_token");
    /// A refresh token of the same authorization server.
    pub const REFRESH_TOKEN: Self =
        Self::registered("urn:ietf:params:oauth:token-type:refresh_token");
    /// An ID token (OpenID Connect Core §2).
    pub const ID_TOKEN: Self = Self::registered("urn:ietf:params:oauth:token-type:id_token");
    /// A JWT, whoever issued it.
    pub const JWT: Self = Self::registered("urn:ietf:params:oauth:token-type:jwt");
    /// A SAML 1.1 assertion, in base64url.
    pub const SAML1: Self = Self::registered("urn:ietf:params:oauth:token-type:saml1");
    /// A SAML 2.0 assertion, in base64url.
    pub const SAML2: Self = Self::registered("urn:ietf:params:oauth:token-type:saml2");

    const fn registered(uri: &'static str) -> Self {
        Self(Cow::Borrowed(uri))
    }
}

impl From<&str> for TokenType {
    fn from(uri: &str) -> Self {
        Self(Cow::Owned(uri.to_owned()))
    }
}

impl From<String> for TokenType {
    fn from(uri: String) -> Self {
        Self(Cow::Owned(uri))
    }
}

impl TokenExchange {
    /// Asks `endpoint` for tokens in the place of those that `subject` gives.
    ///
    /// After the authorization server has refused one, the source is asked for another one
    /// ([`Demand::rejected`]).
    pub fn new(endpoint: TokenEndpoint, subject: impl TokenSource) -> Self {
        Self {
            endpoint,
            subject: Presented::by(subject),
            subject_type: TokenType::ACCESS_TOKEN,
            actor: None,
            actor_type: TokenType::ACCESS_TOKEN,
            requested_type: None,
            wanted: Wanted::default(),
            issued_type_is_optional: false,
        }
    }

    /// Sets of what type the subject's token is; by default [`TokenType::ACCESS_TOKEN`].
    #[must_use]
    pub fn subject_token_type(mut self, kind: impl Into<TokenType>) -> Self {
        self.subject_type = kind.into();
        self
    }

    /// Sets where the token of who acts for the subject comes from; by default nobody is named
    /// (RFC 8693 §1.1).
    #[must_use]
    pub fn actor(mut self, actor: impl TokenSource) -> Self {
        self.actor = Some(Presented::by(actor));
        self
    }

    /// Sets of what type the actor's token is; by default [`TokenType::ACCESS_TOKEN`]. Without an
    /// [`actor`](Self::actor) it isn't sent.
    #[must_use]
    pub fn actor_token_type(mut self, kind: impl Into<TokenType>) -> Self {
        self.actor_type = kind.into();
        self
    }

    /// Sets of what type the new token is to be; by default the server chooses.
    #[must_use]
    pub fn requested_token_type(mut self, kind: impl Into<TokenType>) -> Self {
        self.requested_type = Some(kind.into());
        self
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

    /// Adds the name of a service that the tokens are for, as the server calls it (RFC 8693 §2.1);
    /// by default none is named, and the server chooses.
    #[must_use]
    pub fn audience(mut self, audience: impl Into<String>) -> Self {
        self.wanted.audience(audience.into());
        self
    }

    /// Takes answers without `issued_token_type`; by default they are refused, as RFC 8693 §2.2.1
    /// requires it.
    ///
    /// For servers that leave it out. What they issue must be an access token.
    #[must_use]
    pub fn allow_missing_issued_token_type(mut self) -> Self {
        self.issued_type_is_optional = true;
        self
    }
}

impl TokenSource for TokenExchange {
    async fn token(&self, _: Demand<'_>) -> Result<AccessToken, TokenError> {
        self.wanted.with(&[])?; // a mistake costs no token
        let subject = self.subject.token().await?;
        let actor = match &self.actor {
            Some(actor) => Some((actor, actor.token().await?)),
            None => None,
        };
        let mut grant = vec![
            (
                "grant_type",
                "urn:ietf:params:oauth:grant-type:token-exchange",
            ),
            ("subject_token", subject.expose_secret()),
            ("subject_token_type", &*self.subject_type.0),
        ];
        // RFC 8693 §2.1: `actor_token_type` "is REQUIRED when the actor_token parameter is present
        // in the request but MUST NOT be included when the actor_token parameter is not present".
        if let Some((_, token)) = &actor {
            grant.push(("actor_token", token.expose_secret()));
            grant.push(("actor_token_type", &*self.actor_type.0));
        }
        if let Some(kind) = &self.requested_type {
            grant.push(("requested_token_type", &*kind.0));
        }
        let outcome = self.endpoint.exchange(&self.wanted.with(&grant)?).await;
        // The server doesn't say which of the two it refused.
        if let Some((actor, token)) = actor {
            actor.judged(token, &outcome);
        }
        self.subject.judged(subject, &outcome);
        let response = outcome?;
        if response.issued_token_type.is_none() && !self.issued_type_is_optional {
            return Err(self.endpoint.malformed(
                "it has no issued_token_type, which RFC 8693 §2.2.1 requires \
                 (.allow_missing_issued_token_type() takes it without)",
            ));
        }
        Ok(response.token)
    }

    /// Revokes the access token (RFC 7009); those it was exchanged for aren't this grant's.
    async fn revoke(&self, held: Option<&AccessToken>) -> Result<(), TokenError> {
        self.endpoint.revoke_held(held).await
    }

    fn identify(&self, identity: &mut Identity) {
        identity.part("grant", "token_exchange");
        self.subject.identify("subject", identity);
        identity.part("subject_type", &*self.subject_type.0);
        if let Some(actor) = &self.actor {
            actor.identify("actor", identity);
            identity.part("actor_type", &*self.actor_type.0);
        }
        if let Some(kind) = &self.requested_type {
            identity.part("requested_type", &*kind.0);
        }
        self.wanted.each(|name, value| identity.part(name, value));
        self.endpoint.identify(identity);
    }
}
