//! The floor: no token at all, and a constant header.

use tower::Layer;
use tower_http::auth::AddAuthorizationLayer;

use crate::{
    case::Case,
    lane::{NoOp, over},
    shape::token,
};

pub fn raw() -> Case {
    Case::new("no token", "", |shape| Some(over(NoOp, shape)))
}

/// Everything is a ratio to this.
pub fn constant(name: &'static str) -> Case {
    let service = AddAuthorizationLayer::bearer(&token()).layer(NoOp);
    Case::new(name, "", move |shape| Some(over(service.clone(), shape)))
}
