//! Every grant with every client authentication that a server offers.

use std::io::{Write, stdout};

use tower_oauth::{AccessToken, ClientAuth, ClientCredentials, Demand, TokenError, TokenSource};

use super::server::{AuthorizationServer, PRODUCTS, SECRET};

#[derive(Debug, Clone, Copy)]
enum Grant {
    ClientCredentials,
}

const GRANTS: &[Grant] = &[Grant::ClientCredentials];

/// The name that oidc-provider's client has, and how it authenticates.
const METHODS: &[(&str, Authenticate)] = &[
    ("basic", |id| ClientAuth::basic(id, SECRET)),
    ("basic", |id| ClientAuth::basic_unencoded(id, SECRET)),
    ("post", |id| ClientAuth::post(id, SECRET)),
];

type Authenticate = fn(String) -> ClientAuth;

#[tokio::test]
async fn every_grant_with_every_client_authentication() {
    let mut combinations = 0;
    for product in PRODUCTS {
        let Some(server) = AuthorizationServer::start(product).await else {
            return;
        };
        for grant in GRANTS {
            for (method, authenticate) in METHODS {
                let client = server.client(grant.name(), method);
                let auth = authenticate(client.clone());
                let shown = format!("{product:?}, {grant:?}, {auth:?}");

                let token = grant.token(&server, auth).await;
                let token = token.unwrap_or_else(|error| panic!("{shown}: {error}"));

                let known = server.introspect(&token).await;
                assert_eq!(known["active"], true, "{shown}");
                assert_eq!(known["client_id"], client, "{shown}");
                let heard = server.log().await.pop().unwrap();
                assert_eq!(heard["client"], client, "{shown}");
                assert_eq!(heard["grant"], grant.name(), "{shown}");
                assert_eq!(heard["status"], 200, "{shown}");
                combinations += 1;
            }
        }
    }
    // Past the capture of the tests' output: the number is for who runs them.
    writeln!(
        stdout(),
        "peers: {} grants × {} client authentications, {combinations} combinations at {} servers",
        GRANTS.len(),
        METHODS.len(),
        PRODUCTS.len()
    )
    .unwrap();
}

impl Grant {
    fn name(self) -> &'static str {
        match self {
            Self::ClientCredentials => "client_credentials",
        }
    }

    async fn token(
        self,
        server: &AuthorizationServer,
        auth: ClientAuth,
    ) -> Result<AccessToken, TokenError> {
        let endpoint = server.endpoint(auth).build().unwrap();
        match self {
            Self::ClientCredentials => {
                ClientCredentials::new(endpoint)
                    .token(Demand::default())
                    .await
            }
        }
    }
}
