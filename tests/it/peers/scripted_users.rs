//! The users of the servers, who do what they are told: without them no test of a grant for users
//! means anything.

use super::server::{AuthorizationServer, PRODUCTS, encoded};

const DEVICE_CODE: &str = "urn:ietf:params:oauth:grant-type:device_code";
// RFC 7636, appendix B
const VERIFIER: &str = "dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk";
const CHALLENGE: &str = "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM";

#[tokio::test]
async fn a_login_ends_at_the_client_with_a_code() {
    for product in PRODUCTS {
        let Some(server) = AuthorizationServer::start(product).await else {
            return;
        };
        let client = server.client("authorization_code", "none");
        let redirect_uri = "http://127.0.0.1:4321/callback";
        let query = encoded(&[
            ("response_type", "code"),
            ("client_id", &client),
            ("redirect_uri", redirect_uri),
            ("scope", "openid api:read"),
            ("state", "s"),
            ("code_challenge", CHALLENGE),
            ("code_challenge_method", "S256"),
        ]);
        let url = format!("{}?{query}", server.url("authorization"));
        let callback = server.authorize(&url).await;

        let (uri, query) = callback.split_once('?').unwrap();
        assert_eq!(uri, redirect_uri);
        let mut query = form_urlencoded::parse(query.as_bytes());
        let (_, code) = query.find(|(key, _)| key == "code").unwrap();
        let form = [
            ("grant_type", "authorization_code"),
            ("client_id", &client),
            ("redirect_uri", redirect_uri),
            ("code", &code),
            ("code_verifier", VERIFIER),
        ];
        let token = server.post("token", &form, None).await;
        assert!(token["refresh_token"].is_string(), "{product:?}: {token}");
    }
}

#[tokio::test]
async fn a_device_is_allowed_or_denied() {
    for product in PRODUCTS {
        let Some(server) = AuthorizationServer::start(product).await else {
            return;
        };
        let client = server.client("device_code", "none");
        for (allow, error) in [(true, None), (false, Some("access_denied"))] {
            let form = [("client_id", &*client), ("scope", "openid api:read")];
            let device = server.post("device_authorization", &form, None).await;
            let text = |key: &str| device[key].as_str().unwrap();
            server
                .decide(text("verification_uri"), text("user_code"), allow)
                .await;
            let form = [
                ("grant_type", DEVICE_CODE),
                ("client_id", &client),
                ("device_code", text("device_code")),
            ];
            let token = server.post("token", &form, None).await;
            assert_eq!(token["error"].as_str(), error, "{product:?}: {token}");
        }
    }
}
