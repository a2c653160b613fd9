//! tower-oauth, with and without the second send.

use tower::Layer;
use tower_oauth::{AccessToken, OAuthLayer, TokenCache};

use crate::{
    case::Case,
    lane::{NoOp, over},
    shape::{ORIGIN, token},
};

pub const ADD_ONLY: &str = "tower-oauth, without_retry";
pub const WITH_REPLAY: &str = "tower-oauth";

pub fn cases(runtime: &tokio::runtime::Runtime) -> Vec<Case> {
    let cache = TokenCache::from(|| async {
        let hour = std::time::Duration::from_secs(3600);
        Ok(AccessToken::bearer(token())?.expires_in(hour))
    });
    runtime.block_on(cache.ready()).unwrap();
    let layer = OAuthLayer::for_origin(ORIGIN, cache).unwrap();
    let add_only = layer.clone().without_retry().layer(NoOp);
    let with_replay = layer.layer(NoOp);
    vec![
        Case::new(ADD_ONLY, "rotates", move |shape| {
            Some(over(add_only.clone(), shape))
        }),
        Case::new(WITH_REPLAY, "rotates, replays", move |shape| {
            Some(over(with_replay.clone(), shape))
        }),
    ]
}
