//! What operators see of tokens: events, with the feature `tracing`. Never a secret.

use std::{fmt::Display, time::Duration};

/// A token was fetched.
pub(crate) fn renewed(generation: u64, lifetime: Option<Duration>) {
    #[cfg(feature = "tracing")]
    tracing::debug!(generation, ?lifetime, "access token fetched");
    #[cfg(not(feature = "tracing"))]
    let _ = (generation, lifetime);
}

/// No token could be fetched.
pub(crate) fn failed(error: &dyn Display) {
    #[cfg(feature = "tracing")]
    tracing::warn!(%error, "no access token could be fetched");
    #[cfg(not(feature = "tracing"))]
    let _ = error;
}

/// A token request was counted.
pub(crate) fn budget(requests: u32, spent: u32) {
    #[cfg(feature = "tracing")]
    tracing::debug!(
        requests,
        spent,
        remaining = requests.saturating_sub(spent),
        "token request counted"
    );
    #[cfg(not(feature = "tracing"))]
    let _ = (requests, spent);
}

/// A request goes to an origin that isn't named, without the token.
pub(crate) fn elsewhere(uri: &http::Uri) {
    #[cfg(feature = "tracing")]
    tracing::debug!(
        scheme = uri.scheme_str(),
        host = uri.host(),
        port = uri.port_u16(),
        "request to another origin than the layer's: sent without the token"
    );
    #[cfg(not(feature = "tracing"))]
    let _ = uri;
}

/// A server refused a token.
pub(crate) fn refused(generation: u64) {
    #[cfg(feature = "tracing")]
    tracing::info!(generation, "access token refused");
    #[cfg(not(feature = "tracing"))]
    let _ = generation;
}
