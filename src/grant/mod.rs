//! What the authorization server is asked for: one grant a file, all built on one
//! [`TokenEndpoint`](crate::TokenEndpoint).

mod authorization_code;
mod client_credentials;
mod device_code;
mod login_error;
mod pkce;
mod refresh_token;
mod wanted;

#[cfg(feature = "loopback")]
pub use self::authorization_code::LoopbackLogin;
pub use self::{
    authorization_code::{AuthorizationCode, PendingLogin},
    client_credentials::{ClientCredentials, NotConfidential},
    device_code::{DeviceCode, DevicePrompt},
    login_error::LoginError,
    refresh_token::{NoRefreshToken, RefreshToken, Rotation},
    wanted::{InvalidResource, InvalidScope},
};
