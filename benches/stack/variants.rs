//! What is compared, and over what.

use std::{iter, time::Duration};

use bytes::Bytes;
use http::{Method, Request};
use hyper_util::{
    client::legacy::{self, connect::HttpConnector},
    rt::TokioExecutor,
};
use tokio::task::JoinHandle;
use tonic::{body::Body, transport::Channel};
use tower::{BoxError, Layer, ServiceBuilder, util::MapRequest};
use tower_oauth::{AccessToken, OAuthLayer, ReplayBody};

use crate::{
    caller::{Caller, Grpc, Http},
    constant::Constant,
    own::Own,
    server::Server,
};

/// A kind of request, and how many callers send it at a time.
pub struct Shape {
    pub name: &'static str,
    pub callers: usize,
    pub variants: Vec<Variant>,
}

/// A kind of client.
pub struct Variant {
    pub name: &'static str,
    /// Makes one, which connects with its first calls.
    pub make: Box<dyn Fn() -> Client>,
}

/// Starts a caller on the current runtime that makes so many calls.
pub type Client = Box<dyn Fn(usize) -> JoinHandle<()>>;

/// Which of the variants the others are held against.
pub const CONSTANT: usize = 1;
/// Which one may cost few percent more.
pub const LAYER: usize = 4;

/// All of them.
pub fn shapes(server: &Server) -> Vec<Shape> {
    let mut shapes = Vec::new();
    for callers in [1, 32] {
        shapes.push(Shape {
            name: "hyper-util, GET",
            callers,
            variants: over_http(server, &Method::GET, &Bytes::new()),
        });
        shapes.push(Shape {
            name: "hyper-util, POST of 1 KiB",
            callers,
            variants: over_http(server, &Method::POST, &Bytes::from(vec![b' '; 1024])),
        });
        shapes.push(Shape {
            name: "tonic, unary",
            callers,
            variants: over_grpc(server),
        });
    }
    shapes
}

fn over_http(server: &Server, method: &Method, body: &Bytes) -> Vec<Variant> {
    let origin = format!("http://{}", server.http);
    let to = Http {
        service: (),
        method: method.clone(),
        uri: format!("{origin}/accounts?limit=20").parse().unwrap(),
        body: body.clone(),
    };
    vec![
        variant("no token", 0, {
            let to = to.clone();
            move || to.through(http::<0, _>())
        }),
        variant("constant header", HEADER, {
            let to = to.clone();
            move || to.through(Constant::bearer(&token(), http::<1, _>()))
        }),
        variant("constant header again", HEADER, {
            let to = to.clone();
            move || to.through(Constant::bearer(&token(), http::<2, _>()))
        }),
        variant("layer, without retry", HEADER, {
            let (to, origin) = (to.clone(), origin.clone());
            move || to.through(layer(&origin).without_retry().layer(http::<3, _>()))
        }),
        variant("layer", HEADER, move || {
            to.through(layer(&origin).layer(http::<4, _>()))
        }),
    ]
}

fn over_grpc(server: &Server) -> Vec<Variant> {
    let origin = format!("http://{}", server.grpc);
    let channel = {
        let endpoint = Channel::from_shared(origin.clone()).unwrap();
        move || endpoint.connect_lazy()
    };
    // What the layer sends has another body type than a channel takes: this is part of its cost.
    let mapped = {
        let channel = channel.clone();
        move |layer: OAuthLayer| {
            ServiceBuilder::new()
                .layer(layer)
                .map_request(|request: Request<ReplayBody<Body>>| request.map(Body::new))
                .service(channel())
        }
    };
    let constant = {
        let channel = channel.clone();
        move || Grpc::through(Constant::bearer(&token(), channel()))
    };
    vec![
        variant("no token", 0, move || Grpc::through(channel())),
        variant("constant header", HEADER, constant.clone()),
        variant("constant header again", HEADER, constant),
        variant("layer, without retry", HEADER, {
            let (mapped, origin) = (mapped.clone(), origin.clone());
            move || Grpc::through(mapped(layer(&origin).without_retry()))
        }),
        variant("layer", HEADER, move || {
            Grpc::through(mapped(layer(&origin)))
        }),
    ]
}

/// `seen`: how much of a token the server is to see.
fn variant<C: Caller>(name: &'static str, seen: usize, make: impl Fn() -> C + 'static) -> Variant {
    let make = move || -> Client {
        let caller = make();
        Box::new(move |calls| {
            let mut caller = caller.clone();
            tokio::spawn(async move {
                for _ in 0..calls {
                    assert_eq!(caller.call().await, seen, "{name}");
                }
            })
        })
    };
    Variant {
        name,
        make: Box::new(make),
    }
}

/// hyper-util's, compiled anew for each number.
type Http1<const CLIENT: u8, B> = MapRequest<
    legacy::Client<HttpConnector, Own<CLIENT, B>>,
    fn(Request<B>) -> Request<Own<CLIENT, B>>,
>;

fn http<const CLIENT: u8, B>() -> Http1<CLIENT, B>
where
    B: http_body::Body<Data: Send, Error: Into<BoxError>> + Send + Unpin + 'static,
{
    let mut connector = HttpConnector::new();
    connector.set_nodelay(true);
    let client = legacy::Client::builder(TokioExecutor::new()).build(connector);
    MapRequest::new(client, |request| request.map(Own::of))
}

fn layer(origin: &str) -> OAuthLayer {
    let source = || async { Ok(AccessToken::bearer(token())?.expires_in(HOUR)) };
    OAuthLayer::for_origin(origin, source).unwrap()
}

/// As long as a JWT with some claims, and as hard to compress.
fn token() -> String {
    let mut dice = fastrand::Rng::with_seed(7);
    iter::repeat_with(|| dice.alphanumeric())
        .take(LENGTH)
        .collect()
}

const HOUR: Duration = Duration::from_secs(3600);
const LENGTH: usize = 900;
const HEADER: usize = "Bearer ".len() + LENGTH;
