//! What the authorization server is asked for: one grant a file, all built on one
//! [`TokenEndpoint`](crate::TokenEndpoint).

mod client_credentials;
mod refresh_token;
mod wanted;

pub use self::{
    client_credentials::{ClientCredentials, NotConfidential},
    refresh_token::{NoRefreshToken, RefreshToken, Rotation},
    wanted::{InvalidResource, InvalidScope},
};
