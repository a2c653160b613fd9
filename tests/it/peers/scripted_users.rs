//! The users of the servers, who do what they are told, and the logins they end.

use tokio::sync::oneshot;
use tower_oauth::{
    AuthorizationCode, DeviceCode, LoginError, PendingLogin, RefreshToken, TokenEndpoint,
};

use super::server::AuthorizationServer;

/// A redirect may lead to any port of the loopback interface (RFC 8252 §7.3).
const REDIRECT_URI: &str = "http://127.0.0.1:4321/callback";
pub const SCOPE: &str = "openid api:read";

/// A login that waits for its user.
pub fn login(endpoint: TokenEndpoint) -> PendingLogin {
    let login = AuthorizationCode::new(endpoint, REDIRECT_URI).scope(SCOPE);
    login.start().unwrap()
}

pub async fn logged_in(
    server: &AuthorizationServer,
    endpoint: TokenEndpoint,
) -> Result<RefreshToken, LoginError> {
    let login = login(endpoint);
    let callback = server.authorize(login.url()).await;
    login.finish(&callback).await
}

#[derive(Debug, Clone, Copy)]
pub enum Decision {
    Allow,
    Deny,
    /// Never comes, until the server no longer wants to know.
    TooLate,
}

pub async fn device_logged_in(
    server: &AuthorizationServer,
    endpoint: TokenEndpoint,
    decision: Decision,
) -> Result<RefreshToken, LoginError> {
    let (shown, prompt) = oneshot::channel();
    let login = DeviceCode::new(endpoint).scope(SCOPE).login(|prompt| {
        let (uri, code) = (prompt.verification_uri(), prompt.user_code());
        shown.send((uri.to_owned(), code.to_owned())).unwrap();
    });
    let deciding = async {
        let Ok((uri, code)) = prompt.await else {
            return; // The login says why there is none.
        };
        match decision {
            Decision::Allow => server.decide(&uri, &code, true).await,
            Decision::Deny => server.decide(&uri, &code, false).await,
            Decision::TooLate => server.expire("user_code", &code).await,
        }
    };
    tokio::join!(login, deciding).0
}
