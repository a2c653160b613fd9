//! Which upstream a request is for: the name in its target says so.

use std::collections::BTreeMap;

use http::{Method, Request, StatusCode, header::HOST, uri::Authority};
use http_body_util::Either;
use hyper::body::Incoming;
use tower_oauth::BoxError;

use super::{
    config,
    forward::{Upstream, connector},
    problem::Problem,
    server::Answer,
};

/// The upstreams by name, lower case.
pub struct Routes(pub BTreeMap<String, Upstream>);

impl Routes {
    pub fn new(upstreams: BTreeMap<String, config::Upstream>) -> Result<Self, BoxError> {
        let connector = connector()?;
        let mut routes = BTreeMap::new();
        for (name, upstream) in upstreams {
            let wrong = |problem| format!("upstream.{name:?}: {problem}");
            let is_host = |all: Authority| all.host() == name;
            if !name.parse().is_ok_and(is_host) {
                return Err(wrong(String::from("name a host, without a port")).into());
            }
            let upstream = Upstream::new(upstream, connector.clone()).map_err(wrong)?;
            if routes.insert(name.to_ascii_lowercase(), upstream).is_some() {
                return Err(wrong(String::from("there is one of this name already")).into());
            }
        }
        Ok(Self(routes))
    }

    pub async fn answer(&self, request: Request<Incoming>) -> Answer {
        let answer = match self.upstream_of(&request) {
            Ok(upstream) => upstream.forward(request).await,
            Err(problem) => Err(problem),
        };
        answer.map_or_else(Answer::from, |answer| answer.map(Either::Left))
    }

    fn upstream_of<B>(&self, request: &Request<B>) -> Result<&Upstream, Problem> {
        let denied = |status, why: &str| Problem::new(status, "http_request_denied", why);
        if *request.method() == Method::CONNECT {
            let why = "there are no tunnels (CONNECT) here, as no token could be put on what goes \
                       through; call http://, and the proxy will call https://";
            return Err(denied(StatusCode::NOT_IMPLEMENTED, why));
        }
        if *request.method() == Method::TRACE {
            let why = "TRACE isn't forwarded: its answer would show the access token";
            return Err(denied(StatusCode::NOT_IMPLEMENTED, why));
        }
        let Some(name) = name(request) else {
            let why = "the request doesn't say which upstream it is for: give it one Host";
            return Err(denied(StatusCode::BAD_REQUEST, why));
        };
        self.0.get(&name).ok_or_else(|| {
            let names: Vec<_> = self.0.keys().map(String::as_str).collect();
            let names = names.join(", ");
            let why = format!(
                "no upstream is called {name:?}, only: {names}. Name one of them as Host, or in an \
                 absolute URL by http_proxy; or add [upstream.{name:?}] to the proxy's file"
            );
            // Not 421, which "a proxy MUST NOT generate" (RFC 9110 §15.5.20).
            Problem::new(StatusCode::NOT_FOUND, "destination_not_found", why)
        })
    }
}

/// The host in the target, lower case. Its port is that of the way to here.
fn name<B>(request: &Request<B>) -> Option<String> {
    // What the target says counts more than Host (RFC 9112 §3.2.2, RFC 9113 §8.3.1).
    if let Some(host) = request.uri().host() {
        return Some(host.to_ascii_lowercase());
    }
    let mut hosts = request.headers().get_all(HOST).iter();
    let authority = hosts.next()?.to_str().ok()?.parse::<Authority>().ok()?;
    let only = hosts.next().is_none();
    only.then(|| authority.host().to_ascii_lowercase())
}
