#![doc = include_str!("../README.md")]
#![cfg_attr(docsrs, feature(doc_cfg))]
// The docs name what features add; they are made with all of them.
#![cfg_attr(
    not(all(
        feature = "file",
        feature = "https-client",
        feature = "jwt",
        feature = "loopback",
        feature = "redis"
    )),
    allow(rustdoc::broken_intra_doc_links)
)]

// The map. Imports run one way, down this list; `rejection` and `replay` know nothing of ours.
//
// ── the request's way ──
// layer       the choices and their defaults
// service     authorize, call, judge, renew, replay
// cache       the token every request reads, and what keeps it fresh
// authorize   puts the token on the request, if it may travel there
// rejection   was the token refused?
// replay      what one more attempt needs
// ── the token's way ──
// grant       what we ask for: one RFC a file
// store       tokens where other processes find them
// endpoint    encode, authenticate the client, send, parse
// source      TokenSource, where the two ways meet
// ── both ──
// metrics     what operators see
// token       checked when made, ready to be sent
// secret      strings that never print, and where they may go
// clock       the one place that reads the time

mod layer;
mod service;

mod authorize;
mod cache;
pub mod rejection;
mod replay;

mod endpoint;
mod grant;
mod source;
pub mod store;

mod clock;
mod metrics;
mod secret;
mod token;

pub use authorize::{DestinationError, Fresh, InvalidOrigin, NoToken};
pub use cache::{CacheState, CacheWatch, TokenCache, TokenCacheBuilder};
#[cfg(feature = "https-client")]
#[cfg_attr(docsrs, doc(cfg(feature = "https-client")))]
pub use endpoint::ClientCertificate;
pub use endpoint::{
    ClientAuth, Discovery, DiscoveryError, Encoding, EndpointConfigError, EndpointError,
    TokenEndpoint, TokenEndpointBuilder,
};
#[cfg(feature = "jwt")]
pub use endpoint::{SignedJwt, SigningError, SigningKey};
#[cfg(feature = "loopback")]
pub use grant::LoopbackLogin;
pub use grant::{
    AuthorizationCode, ClientCredentials, DeviceCode, DevicePrompt, InvalidResource, InvalidScope,
    JwtBearer, LoginError, NoRefreshToken, NotConfidential, PendingLogin, RefreshToken, Rotation,
    TokenExchange, TokenType,
};
pub use layer::OAuthLayer;
pub use rejection::{GrpcTrailersLayer, ResponseHead, Verdict};
pub use replay::{Attempt, DeadlinePassed, ReplayBody};
pub use secret::Secret;
pub use service::{OAuth, ResponseFuture};
pub use source::{
    BoxError, Budget, BudgetSpent, Budgeted, Demand, FileToken, FileTokenError, Identity,
    OnStoreLoss, OrElse, Pace, Per, PossiblyRotated, Shared, TokenError, TokenSource, TokenStore,
};
pub use token::{AccessToken, InvalidToken};
