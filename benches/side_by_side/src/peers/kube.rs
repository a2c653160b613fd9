//! kube-client: `AuthLayer` with a token file, as every program inside a cluster has it.

use std::{convert::Infallible, fs, process};

use kube_client::{Config, client::ConfigExt};
use tower::{BoxError, Layer, ServiceExt};

use super::Inner;
use crate::{
    case::Case,
    lane::over,
    shape::{ORIGIN, token},
};

pub fn case(inner: impl Inner) -> Case {
    let path = std::env::temp_dir().join(format!("side_by_side-{}", process::id()));
    fs::write(&path, token()).unwrap();
    let mut config = Config::new(ORIGIN.parse().unwrap());
    config.auth_info.token_file = Some(path.to_str().unwrap().to_owned());
    let layer = config.auth_layer().unwrap().unwrap();
    // Once a minute one request looks for the file, and without it the token stays in use.
    fs::remove_file(&path).unwrap();
    // The layer is one type for a constant header too, for which the error must be boxed within.
    // The function is never called.
    let service = layer.layer(inner.map_err(|never: Infallible| -> BoxError { match never {} }));
    Case::new("kube-client, token file", "rotates", move |shape| {
        Some(over(service.clone(), shape))
    })
}
