//! A Tower middleware for outbound HTTP clients that puts an OAuth 2.0 access token on each request.

// The request's way
mod layer;
mod service;

mod authorize;
pub mod rejection;
mod replay;

// The token's way
mod cache;
mod endpoint;
mod grant;
mod source;

// Both
mod clock;
mod metrics;
mod secret;
mod token;

pub use authorize::{DestinationError, InvalidOrigin};
pub use cache::{CacheState, TokenCache, TokenCacheBuilder};
pub use endpoint::{
    ClientAuth, EndpointConfigError, EndpointError, TokenEndpoint, TokenEndpointBuilder,
};
pub use grant::{ClientCredentials, InvalidScope, NotConfidential};
pub use layer::OAuthLayer;
pub use rejection::{ResponseHead, Verdict};
pub use replay::ReplayBody;
pub use secret::Secret;
pub use service::{OAuth, ResponseFuture};
pub use source::{BoxError, Demand, TokenError, TokenSource};
pub use token::{AccessToken, InvalidToken};
