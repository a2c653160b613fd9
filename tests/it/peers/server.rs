//! One authorization server: a process, the requests it knows, and a control of its own.

use base64::{Engine, prelude::BASE64_STANDARD};
use bytes::Bytes;
use http::{
    Request, Response,
    header::{AUTHORIZATION, CONTENT_TYPE},
};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper_util::{
    client::{
        self,
        legacy::{Client, connect::HttpConnector},
    },
    rt::TokioExecutor,
};
use serde_json::{Value, json};
use tower::{Service, service_fn};
use tower_oauth::{AccessToken, ClientAuth, TokenEndpoint, TokenEndpointBuilder};

use super::{certificates::Certificates, process::Process};

/// Of all clients but [`WEIRD_ID`].
pub const SECRET: &str = "s3cret-0123456789-0123456789-0123456789";
/// Id and secret need form encoding inside Basic.
pub const WEIRD_ID: &str = "weird:id/+ %41";
pub const WEIRD_SECRET: &str = "p@ss:w%rd+&= /?~s3cret-0123456789-0123456789-0123456789";

#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Product {
    /// oidc-provider, Node.
    OidcProvider,
    /// django-oauth-toolkit, Python.
    Django,
}

pub const PRODUCTS: [Product; 2] = [Product::OidcProvider, Product::Django];

/// Ends when it is dropped, and at the latest with this process, whose end closes its stdin.
pub struct AuthorizationServer {
    pub product: Product,
    /// The line it printed when it was ready.
    pub ready: Value,
    pub certificates: Certificates,
    pub http: Client<HttpConnector, Full<Bytes>>,
    _process: Process,
}

impl AuthorizationServer {
    /// None if the product isn't installed, which must not be so with `REQUIRE_PEERS=1`.
    pub async fn start(product: Product) -> Option<Self> {
        let certificates = Certificates::new();
        let hello = certificates.for_server().to_string();
        let (interpreter, folder, script, library) = match product {
            Product::OidcProvider => ("node", "oidc-provider", "server.mjs", None),
            Product::Django => ("python", "django", "server.py", Some("django")),
        };
        let process = Process::start(interpreter, folder, script, library, &hello).await?;
        Some(Self {
            product,
            ready: process.ready.clone(),
            certificates,
            http: Client::builder(TokioExecutor::new()).build_http(),
            _process: process,
        })
    }

    /// The client's id at this server for a grant and a client authentication.
    pub fn client(&self, grant: &str, method: &str) -> String {
        match (self.product, method) {
            (Product::OidcProvider, method) => method.to_owned(),
            // A client has one grant there, and any method.
            (Product::Django, "none") => format!("{grant}-none"),
            (Product::Django, _) => grant.to_owned(),
        }
    }

    pub fn endpoint(&self, auth: ClientAuth) -> TokenEndpointBuilder {
        TokenEndpoint::builder(self.url("token"))
            .issuer(self.issuer())
            .authorization_endpoint(self.url("authorization"))
            .device_authorization_endpoint(self.url("device_authorization"))
            .revocation_endpoint(self.url("revocation"))
            .client_auth(auth)
    }

    /// As [`endpoint`](Self::endpoint), where oidc-provider asks for certificates.
    pub fn tls_endpoint(&self, auth: ClientAuth) -> TokenEndpointBuilder {
        let mtls = self.ready["mtls"].as_str().unwrap();
        let url = |endpoint: &str| format!("{mtls}{}", self.product.path(endpoint));
        TokenEndpoint::builder(url("token"))
            .issuer(self.issuer())
            .authorization_endpoint(self.url("authorization"))
            .device_authorization_endpoint(url("device_authorization"))
            .revocation_endpoint(url("revocation"))
            .root_certificates(self.certificates.authority())
            .client_auth(auth)
    }

    /// Carries each request twice; the first must succeed, the second one's answer counts.
    pub fn twice(
        &self,
    ) -> impl Service<
        Request<Full<Bytes>>,
        Response = Response<Incoming>,
        Error = client::legacy::Error,
        Future: Send,
    > + Clone
    + Send
    + 'static {
        let http = self.http.clone();
        service_fn(move |request: Request<Full<Bytes>>| {
            let http = http.clone();
            async move {
                let first = http.request(request.clone()).await?;
                assert_eq!(first.status(), 200);
                http.request(request).await
            }
        })
    }

    pub fn issuer(&self) -> &str {
        self.ready["issuer"].as_str().unwrap()
    }

    /// A private key, of a client by algorithm or of the issuer, in PEM.
    pub fn key(&self, name: &str) -> String {
        self.ready["keys"][name].as_str().unwrap().to_owned()
    }

    /// Of the endpoint that the server's metadata calls so (RFC 8414 §2), without "_endpoint".
    pub fn url(&self, endpoint: &str) -> String {
        format!("{}{}", self.issuer(), self.product.path(endpoint))
    }

    /// The token requests so far, as the server understood them: `client`, `grant`, `status`,
    /// `error`.
    pub async fn log(&self) -> Vec<Value> {
        let log = self.control("log", &json!({})).await;
        log.as_array().unwrap().clone()
    }

    /// What the server says to a token (RFC 7662 §2.2).
    pub async fn introspect(&self, token: &AccessToken) -> Value {
        let form = [("token", token.expose_secret())];
        let client = self.client("client_credentials", "basic");
        self.post("introspection", &form, Some(&client)).await
    }

    /// Has a user log in and consent; says where the server then sends the browser.
    pub async fn authorize(&self, url: &str) -> String {
        let answer = self.control("authorize", &json!({ "url": url })).await;
        answer["location"].as_str().unwrap().to_owned()
    }

    /// Has a user type a device's code in and allow it, or deny it.
    pub async fn decide(&self, verification_uri: &str, user_code: &str, allow: bool) {
        // The user's browser doesn't know the authority of the tests.
        let mtls = self.ready["mtls"].as_str().unwrap_or(self.issuer());
        let verification_uri = verification_uri.replace(mtls, self.issuer());
        let decision = json!({
            "verification_uri": verification_uri, "user_code": user_code, "allow": allow,
        });
        self.control("allow", &decision).await;
    }

    /// Has the server think that a device's code (`user_code`) or a login's (`code`) is too old.
    pub async fn expire(&self, kind: &str, code: &str) {
        self.control("expire", &json!({ kind: code })).await;
    }

    /// Posts a form, by Basic if `client` is given, past the code under test.
    pub async fn post(&self, endpoint: &str, form: &[(&str, &str)], client: Option<&str>) -> Value {
        let mut request = Request::post(self.url(endpoint));
        if let Some(client) = client {
            request = request.header(AUTHORIZATION, basic(client));
        }
        request = request.header(CONTENT_TYPE, "application/x-www-form-urlencoded");
        let request = request.body(Full::from(encoded(form))).unwrap();
        answer(self.http.request(request).await.unwrap()).await
    }

    async fn control(&self, action: &str, with: &Value) -> Value {
        let control = self.ready["control"].as_str().unwrap();
        let request = Request::post(format!("{control}/{action}"));
        let request = request.body(Full::from(with.to_string())).unwrap();
        answer(self.http.request(request).await.unwrap()).await
    }
}

impl Product {
    fn path(self, endpoint: &str) -> &'static str {
        match (self, endpoint) {
            (Self::OidcProvider, "token") => "/token",
            (Self::OidcProvider, "authorization") => "/auth",
            (Self::OidcProvider, "device_authorization") => "/device/auth",
            (Self::OidcProvider, "introspection") => "/token/introspection",
            (Self::OidcProvider, "revocation") => "/token/revocation",
            (Self::Django, "token") => "/token/",
            (Self::Django, "authorization") => "/authorize/",
            (Self::Django, "device_authorization") => "/device-authorization/",
            (Self::Django, "introspection") => "/introspect/",
            (Self::Django, "revocation") => "/revoke_token/",
            _ => panic!("which endpoint is {endpoint}?"),
        }
    }
}

fn basic(client: &str) -> String {
    format!(
        "Basic {}",
        BASE64_STANDARD.encode(format!("{client}:{SECRET}"))
    )
}

pub fn encoded(form: &[(&str, &str)]) -> String {
    form_urlencoded::Serializer::new(String::new())
        .extend_pairs(form)
        .finish()
}

pub async fn answer(response: Response<Incoming>) -> Value {
    let body = response.into_body().collect().await.unwrap().to_bytes();
    let shown = String::from_utf8_lossy(&body);
    serde_json::from_slice(&body).unwrap_or_else(|_| panic!("no JSON: {shown}"))
}
