//! azure_core: `BearerTokenAuthorizationPolicy`, in a pipeline of that and an end that does nothing.
//!
//! Requests and answers are its own. What is charged beside the policy is what its users can't avoid: a
//! request of its kind, and the end's boxed future and answer; the second case has the same without the
//! policy. A request isn't given back by an answer, so `Kind::Rec6` can't be sent.

use std::sync::Arc;

use async_trait::async_trait;
use azure_core::{
    credentials::{AccessToken, TokenCredential, TokenRequestOptions},
    http::{
        AsyncRawResponse, Body, Context, Method, Request, StatusCode,
        headers::{HeaderName, Headers},
        policies::{Policy, PolicyResult, auth::BearerTokenAuthorizationPolicy},
    },
    time::OffsetDateTime,
};
use bytes::Bytes;

use super::LIFETIME;
use crate::{
    case::Case,
    lane::{Lane, now},
    shape::{Kind, Shape, get6, token},
};

/// As `lane::NoOp` does, reads the body to its end: here that is one piece at most.
#[derive(Debug)]
pub struct End;

#[async_trait]
impl Policy for End {
    async fn send(
        &self,
        _: &Context,
        request: &mut Request,
        _: &[Arc<dyn Policy>],
    ) -> PolicyResult {
        std::hint::black_box(&request.body_mut().take());
        Ok(AsyncRawResponse::from_bytes(
            StatusCode::Ok,
            Headers::new(),
            Bytes::new(),
        ))
    }
}

#[derive(Debug)]
struct OneToken;

#[async_trait]
impl TokenCredential for OneToken {
    async fn get_token(
        &self,
        _: &[&str],
        _: Option<TokenRequestOptions<'_>>,
    ) -> azure_core::Result<AccessToken> {
        Ok(AccessToken::new(
            token(),
            OffsetDateTime::now_utc() + LIFETIME,
        ))
    }
}

pub fn cases(end: Arc<dyn Policy>) -> [Case; 2] {
    let scope = "https://api.example.com/.default";
    let policy = BearerTokenAuthorizationPolicy::new(Arc::new(OneToken), [scope]);
    let with_token: Pipeline = vec![Arc::new(policy), Arc::clone(&end)];
    let mut first = Sender::new(
        with_token.clone(),
        Shape {
            kind: Kind::Get6,
            cloned: false,
        },
    );
    first.run(1); // fetches the token
    [
        case("azure_core", "rotates", with_token),
        case("azure_core, no token", "", vec![end]),
    ]
}

fn case(name: &'static str, does: &'static str, pipeline: Pipeline) -> Case {
    Case::new(name, does, move |shape| match shape.kind {
        Kind::Rec6 => None,
        Kind::Get6 | Kind::Post6 => Some(Box::new(Sender::new(pipeline.clone(), shape))),
    })
}

/// As its own `Pipeline` holds policies, and as it is cloned with a client.
type Pipeline = Vec<Arc<dyn Policy>>;

struct Sender {
    pipeline: Pipeline,
    cloned: bool,
    method: Method,
    url: String,
    headers: Vec<(&'static str, String)>,
    body: Option<Bytes>,
}

impl Sender {
    fn new(pipeline: Pipeline, Shape { kind, cloned }: Shape) -> Self {
        let sample = get6();
        let headers = sample.headers().iter().map(|(name, value)| {
            // Their names are constants of a program. These few are never freed.
            let name: &'static str = name.as_str().to_owned().leak();
            (name, value.to_str().unwrap().to_owned())
        });
        let (method, body) = match kind {
            Kind::Post6 => (Method::Post, Some(Bytes::from_static(&[b'x'; 1024]))),
            Kind::Get6 | Kind::Rec6 => (Method::Get, None),
        };
        Self {
            pipeline,
            cloned,
            method,
            url: sample.uri().to_string(),
            headers: headers.collect(),
            body,
        }
    }

    /// The same as `shape` makes: a URL that is parsed, values that are copied.
    fn request(&self) -> Request {
        let mut request = Request::new(self.url.parse().unwrap(), self.method);
        for (name, value) in &self.headers {
            request.insert_header(HeaderName::from_static(name), value.clone());
        }
        if let Some(body) = &self.body {
            request.set_body(Body::Bytes(body.clone()));
        }
        request
    }

    fn send(&self, pipeline: &[Arc<dyn Policy>]) {
        let mut request = self.request();
        let context = Context::new();
        let answer = now(pipeline[0].send(&context, &mut request, &pipeline[1..]));
        std::hint::black_box(answer.unwrap());
    }
}

impl Lane for Sender {
    fn run(&mut self, requests: u32) {
        for _ in 0..requests {
            match self.cloned {
                true => self.send(&self.pipeline.clone()),
                false => self.send(&self.pipeline),
            }
        }
    }
}
