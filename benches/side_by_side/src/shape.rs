//! The requests that are sent.

use bytes::Bytes;
use http::{HeaderValue, Method, Request, header};
use http_body_util::Full;

/// A request, and whether the service is cloned for each.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Shape {
    pub kind: Kind,
    pub cloned: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A fresh GET with six headers; the token is the seventh.
    Get6,
    /// The same request, handed back and used again: no allocation in the loop.
    Rec6,
    /// A fresh POST with six headers and 1 KiB of body.
    Post6,
}

pub const ORIGIN: &str = "https://api.example.com";

/// 900 characters, as a signed token has them.
pub fn token() -> String {
    "eyJhbGciOiJSUzI1NiIs".repeat(45)
}

pub fn get6() -> Request<Full<Bytes>> {
    request(Method::GET, Full::default())
}

pub fn post6(body: Full<Bytes>) -> Request<Full<Bytes>> {
    request(Method::POST, body)
}

fn request(method: Method, body: Full<Bytes>) -> Request<Full<Bytes>> {
    let uri = "https://api.example.com/v1/accounts/0f8fad5b/moves?page=7&size=50";
    let mut request = Request::new(body);
    *request.method_mut() = method;
    *request.uri_mut() = uri.parse().unwrap();
    let headers = request.headers_mut();
    for (name, text) in [
        (header::ACCEPT, "application/json"),
        (header::USER_AGENT, "accounts-sync/4.2 (linux; x86_64)"),
        (header::ACCEPT_ENCODING, "gzip, br"),
        (header::CONTENT_TYPE, "application/json"),
        (header::CACHE_CONTROL, "no-cache"),
    ] {
        headers.insert(name, run_time(text));
    }
    headers.insert(
        "x-request-id",
        run_time("7d444840-9dc0-11d1-b245-5ffdce74fad2"),
    );
    request
}

/// A value as a program makes it while it runs, not one that is compiled in.
fn run_time(text: &str) -> HeaderValue {
    HeaderValue::from_bytes(std::hint::black_box(text.as_bytes())).unwrap()
}
