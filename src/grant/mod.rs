//! What the authorization server is asked for: one grant a file, all built on one
//! [`TokenEndpoint`](crate::TokenEndpoint).

mod authorization_code;
mod client_credentials;
mod device_code;
mod jwt_bearer;
mod login_error;
mod pkce;
mod presented;
mod refresh_token;
mod token_exchange;
mod wanted;

#[cfg(feature = "loopback")]
pub use self::authorization_code::LoopbackLogin;
pub use self::{
    authorization_code::{AuthorizationCode, PendingLogin},
    client_credentials::{ClientCredentials, NotConfidential},
    device_code::{DeviceCode, DevicePrompt},
    jwt_bearer::JwtBearer,
    login_error::LoginError,
    refresh_token::{NoRefreshToken, RefreshToken, Rotation},
    token_exchange::{TokenExchange, TokenType},
    wanted::{InvalidResource, InvalidScope},
};
