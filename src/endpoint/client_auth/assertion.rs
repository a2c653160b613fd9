//! The methods that sign a JWT (OpenID Connect Core §9).

use std::time::Duration;

use super::{ClientAuth, Method};
use crate::{
    endpoint::jwt::{ClientAssertion, SigningKey},
    secret::Secret,
};

impl ClientAuth {
    /// A JWT signed with the client's own key (`private_key_jwt`, OpenID Connect Core §9): the key
    /// never leaves the program, unlike the secret of [`basic`](Self::basic), and the server knows
    /// only its public half.
    ///
    /// Each token request has a JWT of its own, which names the authorization server's issuer as
    /// its audience and lives for a minute. So the endpoint must know its
    /// [`issuer`](crate::TokenEndpointBuilder::issuer), or be told the audience.
    ///
    /// ```
    /// # #[cfg(feature = "https-client")] {
    /// use tower_oauth::{ClientAuth, Secret, SigningKey, TokenEndpoint};
    ///
    /// let key = SigningKey::es256(Secret::from_file("/run/secrets/client.pem"));
    /// let endpoint = TokenEndpoint::builder("https://auth.example.com/oauth/token")
    ///     .issuer("https://auth.example.com")
    ///     .client_auth(ClientAuth::private_key_jwt("client-id", key))
    ///     .build()?;
    /// # drop(endpoint);
    /// # }
    /// # Ok::<(), tower_oauth::EndpointConfigError>(())
    /// ```
    pub fn private_key_jwt(id: impl Into<String>, key: SigningKey) -> Self {
        ClientAssertion::new("private_key_jwt", id.into(), key).into()
    }

    /// A JWT authenticated with the client's secret (`client_secret_jwt`, OpenID Connect Core §9,
    /// HS256): the secret never travels, unlike that of [`basic`](Self::basic), but both sides
    /// have it, unlike the key of [`private_key_jwt`](Self::private_key_jwt).
    ///
    /// Each token request has a JWT of its own, as there. RFC 7518 §3.2 wants at least 32 bytes of
    /// secret; as servers hand out shorter ones, any that isn't empty is taken.
    pub fn client_secret_jwt(id: impl Into<String>, secret: impl Into<Secret>) -> Self {
        let key = SigningKey::hs256(secret.into());
        ClientAssertion::new("client_secret_jwt", id.into(), key).into()
    }

    /// Sets the audience of the client's JWT; by default it is the authorization server's issuer.
    ///
    /// For servers that want their token endpoint's URL there. Where both will do, the issuer is
    /// safer: a hostile server can name another's token endpoint as its own, and use the JWT there.
    /// The methods without a JWT are left as they are.
    #[must_use]
    pub fn assertion_audience(self, audience: impl Into<String>) -> Self {
        let audience = audience.into();
        self.map_assertion(|assertion| assertion.audience = Some(audience))
    }

    /// Sets how long the client's JWT lives, in whole seconds; 60 seconds by default, 5 minutes at
    /// most, or [`build`](crate::TokenEndpointBuilder::build) refuses it. The methods without a
    /// JWT are left as they are.
    #[must_use]
    pub fn assertion_lifetime(self, lifetime: Duration) -> Self {
        self.map_assertion(|assertion| assertion.lifetime = lifetime)
    }

    fn map_assertion(mut self, change: impl FnOnce(&mut ClientAssertion)) -> Self {
        if let Method::Assertion(assertion) = &mut self.0 {
            change(assertion);
        }
        self
    }
}

impl From<ClientAssertion> for ClientAuth {
    fn from(assertion: ClientAssertion) -> Self {
        Self(Method::Assertion(assertion))
    }
}
