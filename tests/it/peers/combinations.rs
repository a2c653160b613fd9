//! Every grant with every client authentication that a server offers.

use std::{
    io::{Write, stdout},
    sync::Arc,
};

use tokio::task::JoinSet;
use tower_oauth::{
    AccessToken, BoxError, ClientAuth, ClientCredentials, Demand, JwtBearer, Secret, SignedJwt,
    SigningKey, TokenCache, TokenEndpoint, TokenExchange, TokenSource,
};

use super::{
    scripted_users::{Decision, SCOPE, device_logged_in, logged_in},
    server::{AuthorizationServer, PRODUCTS, Product, SECRET},
};

#[derive(Debug, Clone, Copy, PartialEq)]
enum Grant {
    ClientCredentials,
    AuthorizationCode,
    RefreshToken,
    DeviceCode,
    JwtBearer,
    TokenExchange,
}

const GRANTS: &[Grant] = &[
    Grant::ClientCredentials,
    Grant::AuthorizationCode,
    Grant::RefreshToken,
    Grant::DeviceCode,
    Grant::JwtBearer,
    Grant::TokenExchange,
];

/// The name that oidc-provider's client has, and how it authenticates.
pub const METHODS: &[(&str, Authenticate)] = &[
    ("none", |_, id| ClientAuth::none(id)),
    ("basic", |_, id| ClientAuth::basic(id, SECRET)),
    ("basic", |_, id| ClientAuth::basic_unencoded(id, SECRET)),
    ("post", |_, id| ClientAuth::post(id, SECRET)),
    ("client_secret_jwt", |_, id| {
        ClientAuth::client_secret_jwt(id, SECRET)
    }),
    ("private_key_jwt-ES256", |server, id| {
        ClientAuth::private_key_jwt(id, SigningKey::es256(server.key("ES256")))
    }),
    ("private_key_jwt-RS256", |server, id| {
        ClientAuth::private_key_jwt(id, SigningKey::rs256(server.key("RS256")))
    }),
    ("private_key_jwt-PS256", |server, id| {
        ClientAuth::private_key_jwt(id, SigningKey::ps256(server.key("PS256")))
    }),
    ("private_key_jwt-EdDSA", |server, id| {
        ClientAuth::private_key_jwt(id, SigningKey::eddsa(server.key("EdDSA")))
    }),
    ("tls_client_auth", |server, id| {
        ClientAuth::tls(id, server.certificates.signed())
    }),
    ("self_signed_tls_client_auth", |server, id| {
        ClientAuth::tls(id, server.certificates.self_signed())
    }),
];

pub type Authenticate = fn(&AuthorizationServer, String) -> ClientAuth;

#[tokio::test]
async fn every_grant_with_every_client_authentication() {
    let mut combinations = 0;
    for product in PRODUCTS {
        let Some(server) = AuthorizationServer::start(product).await else {
            return;
        };
        let server = Arc::new(server);
        let subject = ClientAuth::basic(server.client("client_credentials", "basic"), SECRET);
        let subject = server.endpoint(subject).build().unwrap();
        let subject = Grant::ClientCredentials.token(&server, subject, "").await;
        let subject = Arc::new(subject.unwrap().expose_secret().to_owned());
        let before = server.log().await.len();

        // All at once: a device waits for seconds between its polls.
        let mut under_way = JoinSet::new();
        let mut expected = Vec::new();
        for &grant in GRANTS {
            for &(method, authenticate) in METHODS {
                if !product.offers(grant, method) {
                    continue;
                }
                let client = server.client(grant.client(), method);
                for request in grant.requests() {
                    expected.push(format!("{client} {request} 200"));
                }
                let (server, subject) = (Arc::clone(&server), Arc::clone(&subject));
                under_way.spawn(async move {
                    let auth = authenticate(&server, client.clone());
                    let shown = format!("{product:?}, {grant:?}, {auth:?}");
                    let endpoint = if method.contains("tls") {
                        server.tls_endpoint(auth)
                    } else {
                        server.endpoint(auth)
                    };
                    let endpoint = endpoint.build().unwrap();
                    let token = grant.token(&server, endpoint, &subject).await;
                    let token = token.unwrap_or_else(|error| panic!("{shown}: {error}"));
                    let known = server.introspect(&token).await;
                    assert_eq!(known["active"], true, "{shown}");
                    assert_eq!(known["client_id"], client, "{shown}");
                });
                combinations += 1;
            }
        }
        while let Some(ended) = under_way.join_next().await {
            ended.unwrap();
        }
        let mut heard = Vec::new();
        for entry in &server.log().await[before..] {
            let text = |key: &str| entry[key].as_str().unwrap().to_owned();
            heard.push(format!(
                "{} {} {}",
                text("client"),
                text("grant"),
                entry["status"]
            ));
        }
        heard.sort();
        expected.sort();
        assert_eq!(heard, expected, "{product:?}");
    }
    assert_eq!(combinations, 65 + 15);
    // Past the capture of the tests' output: the number is for who runs them.
    writeln!(
        stdout(),
        "peers: {} grants × {} client authentications, {combinations} combinations at {} servers, \
         0 failures",
        GRANTS.len(),
        METHODS.len(),
        PRODUCTS.len()
    )
    .unwrap();
}

impl Product {
    fn offers(self, grant: Grant, method: &str) -> bool {
        // RFC 6749 §4.4: "MUST only be used by confidential clients."
        if method == "none" && grant == Grant::ClientCredentials {
            return false;
        }
        match self {
            Self::OidcProvider => true,
            Self::Django => {
                !matches!(grant, Grant::JwtBearer | Grant::TokenExchange)
                    && matches!(method, "basic" | "post" | "none")
            }
        }
    }
}

impl Grant {
    /// The grant that a client is registered for, which may refresh as well.
    fn client(self) -> &'static str {
        match self {
            Self::ClientCredentials => "client_credentials",
            Self::AuthorizationCode | Self::RefreshToken => "authorization_code",
            Self::DeviceCode => "device_code",
            Self::JwtBearer | Self::TokenExchange => "",
        }
    }

    /// What the server hears, `grant_type` by `grant_type`.
    fn requests(self) -> &'static [&'static str] {
        match self {
            Self::ClientCredentials => &["client_credentials"],
            Self::AuthorizationCode => &["authorization_code"],
            Self::RefreshToken => &["authorization_code", "refresh_token"],
            Self::DeviceCode => &["urn:ietf:params:oauth:grant-type:device_code"],
            Self::JwtBearer => &["urn:ietf:params:oauth:grant-type:jwt-bearer"],
            Self::TokenExchange => &["urn:ietf:params:oauth:grant-type:token-exchange"],
        }
    }

    async fn token(
        self,
        server: &AuthorizationServer,
        endpoint: TokenEndpoint,
        subject: &str,
    ) -> Result<AccessToken, BoxError> {
        let demand = Demand::default();
        let token = match self {
            Self::ClientCredentials => ClientCredentials::new(endpoint).token(demand).await?,
            Self::AuthorizationCode => logged_in(server, endpoint).await?.token(demand).await?,
            Self::RefreshToken => {
                let cache = TokenCache::from(logged_in(server, endpoint).await?);
                let first = cache.get().await?;
                cache.invalidate();
                let second = cache.get().await?;
                assert_ne!(first, second);
                second
            }
            Self::DeviceCode => {
                let source = device_logged_in(server, endpoint, Decision::Allow).await?;
                source.token(demand).await?
            }
            Self::JwtBearer => {
                let assertion = assertion(server, &server.key("issuer"));
                let source = JwtBearer::new(endpoint, assertion).scope(SCOPE);
                source.token(demand).await?
            }
            Self::TokenExchange => {
                let source = TokenExchange::new(endpoint, Secret::from(subject)).scope(SCOPE);
                source.token(demand).await?
            }
        };
        Ok(token)
    }
}

/// What oidc-provider was told to trust, if the key is that of the issuer.
pub fn assertion(server: &AuthorizationServer, key: &str) -> SignedJwt {
    SignedJwt::new(SigningKey::es256(key))
        .issuer("https://issuer.test")
        .audience(server.issuer())
}
