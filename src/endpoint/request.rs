//! Encode: the parameters of a request to the authorization server, and the request around them.

use bytes::Bytes;
use http::{
    Extensions, HeaderMap, HeaderValue, Method, Request, Uri,
    header::{ACCEPT, ACCEPT_ENCODING, AUTHORIZATION, CONTENT_TYPE},
};
use http_body_util::Full;
use serde::{Serialize, Serializer};
use zeroize::Zeroizing;

use crate::secret::SecretString;

/// How the parameters of a token request are written. Those of other requests, such as a
/// revocation, are always a form.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum Encoding {
    /// `application/x-www-form-urlencoded`, as RFC 6749 §3.2 has it.
    #[default]
    Form,
    /// `application/json`: one object of texts, for the servers that depart from RFC 6749. A
    /// parameter that is there several times is a list.
    Json,
}

/// A request to one of the server's endpoints in the making: its parameters, not yet encoded.
pub(super) struct TokenRequest {
    params: Vec<(String, SecretString)>,
    authorization: Option<HeaderValue>,
    extensions: Extensions,
}

impl TokenRequest {
    pub(super) fn of<'a>(params: impl IntoIterator<Item = (&'a str, &'a str)>) -> Self {
        let mut request = Self {
            params: Vec::new(),
            authorization: None,
            extensions: Extensions::new(),
        };
        for (key, value) in params {
            request.append(key, value);
        }
        request
    }

    /// RFC 6749 §3.2: "Parameters sent without a value MUST be treated as if they were omitted",
    /// so they are.
    pub(super) fn append(&mut self, key: &str, value: &str) {
        if !value.is_empty() {
            let value = SecretString::from(value.to_owned());
            self.params.push((key.to_owned(), value));
        }
    }

    /// For client authentication in the header.
    pub(super) fn authorize(&mut self, value: HeaderValue) {
        self.authorization = Some(value);
    }

    /// For client authentication in the TLS handshake.
    #[cfg(feature = "https-client")]
    pub(super) fn identify(&mut self, identity: super::tls::Identity) {
        self.extensions.insert(identity);
    }

    /// The parameters that nobody may see, in case the server repeats them.
    pub(super) fn secrets(&self) -> impl Iterator<Item = &SecretString> {
        self.params
            .iter()
            .filter(|(key, _)| SECRET_PARAMS.contains(&&**key))
            .map(|(_, value)| value)
    }

    /// RFC 6749 §3.2: "The client MUST use the HTTP "POST" method when making access token
    /// requests." RFC 8628 §3.1 and RFC 7009 §2.1 have it for theirs.
    pub(super) fn into_http(
        self,
        uri: &Uri,
        headers: &HeaderMap,
        encoding: Encoding,
    ) -> Request<Full<Bytes>> {
        let (label, body) = match encoding {
            Encoding::Form => ("application/x-www-form-urlencoded", form(&self.params)),
            Encoding::Json => ("application/json", json(&self.params)),
        };
        let mut request = Request::new(Full::new(body));
        *request.method_mut() = Method::POST;
        *request.uri_mut() = uri.clone();
        *request.headers_mut() = headers.clone();
        *request.extensions_mut() = self.extensions;
        let label = HeaderValue::from_static(label);
        request.headers_mut().insert(CONTENT_TYPE, label);
        accept_plain_json(request.headers_mut());
        if let Some(authorization) = self.authorization {
            request.headers_mut().insert(AUTHORIZATION, authorization);
        }
        request
    }
}

/// What an answer should be.
pub(super) fn accept_plain_json(headers: &mut HeaderMap) {
    // Some servers answer with a form or with HTML when they aren't told.
    headers.insert(ACCEPT, HeaderValue::from_static("application/json"));
    // RFC 9110 §12.5.3: without it, "any content coding is considered acceptable". The caller's own
    // goes with a transport that decodes.
    headers
        .entry(ACCEPT_ENCODING)
        .or_insert(HeaderValue::from_static("identity"));
}

const SECRET_PARAMS: &[&str] = &[
    "refresh_token",
    "code",
    "code_verifier",
    "device_code",
    "assertion",
    "client_assertion",
    "subject_token",
    "actor_token",
    "token",
];

/// Parameters as `application/x-www-form-urlencoded` (RFC 6749 appendix B).
fn form(params: &[(String, SecretString)]) -> Bytes {
    // At worst three bytes for one, and `&` and `=`.
    let mut text = Zeroizing::new(String::with_capacity(room(params, 3)));
    let mut form = form_urlencoded::Serializer::new(&mut *text);
    for (key, value) in params {
        form.append_pair(key, value);
    }
    Bytes::from_owner(text)
}

/// One value as a form has it. RFC 6749 §2.3.1: id and secret are "encoded using the
/// "application/x-www-form-urlencoded" encoding algorithm" before they go into Basic, too.
pub(super) fn form_encoded(text: &str) -> SecretString {
    // Room for the longest case, so that it doesn't grow and leave copies behind.
    let mut encoded = String::with_capacity(text.len().saturating_mul(3));
    encoded.extend(form_urlencoded::byte_serialize(text.as_bytes()));
    SecretString::from(encoded)
}

/// Parameters as one JSON object; those of the same name are a list.
fn json(params: &[(String, SecretString)]) -> Bytes {
    // At worst `\u0000` for one, and quotes, a colon, a comma, brackets.
    let mut text = Zeroizing::new(Vec::with_capacity(room(params, 6)));
    // Texts are always JSON, and a `Vec` always takes them.
    let _ = serde_json::to_writer(&mut *text, &Object(params));
    Bytes::from_owner(text)
}

struct Object<'a>(&'a [(String, SecretString)]);

impl Serialize for Object<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut named: Vec<(&str, Values<'_>)> = Vec::new();
        for (key, value) in self.0 {
            match named.iter_mut().find(|(other, _)| other == key) {
                Some((_, values)) => values.0.push(value),
                None => named.push((key, Values(vec![value]))),
            }
        }
        serializer.collect_map(named)
    }
}

struct Values<'a>(Vec<&'a str>);

impl Serialize for Values<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self.0.as_slice() {
            [only] => serializer.serialize_str(only),
            several => serializer.collect_seq(several),
        }
    }
}

/// Room for all parameters, so that no text grows and leaves copies behind; it is overwritten when
/// it is sent or dropped.
fn room(params: &[(String, SecretString)], worst: usize) -> usize {
    params.iter().fold(2, |sum: usize, (key, value)| {
        let pair = key.len().saturating_add(value.len());
        let written = pair.saturating_mul(worst).saturating_add(8);
        sum.saturating_add(written)
    })
}

#[cfg(test)]
mod tests {
    use http_body_util::BodyExt;

    use super::*;

    async fn body(params: &[(&str, &str)], encoding: Encoding) -> String {
        let request = TokenRequest::of(params.iter().copied());
        let request = request.into_http(&Uri::from_static("/"), &HeaderMap::new(), encoding);
        let body = request.into_body().collect().await.unwrap().to_bytes();
        String::from_utf8(body.to_vec()).unwrap()
    }

    #[tokio::test]
    async fn values_are_encoded_as_rfc_6749_appendix_b_shows() {
        let form = body(&[("k", " %&+\u{a3}\u{20ac}")], Encoding::Form).await;
        assert_eq!(form, "k=+%25%26%2B%C2%A3%E2%82%AC");
    }

    #[test]
    fn an_answer_is_asked_for_without_a_coding_unless_the_caller_says_else() {
        let own = HeaderMap::from_iter([(ACCEPT_ENCODING, HeaderValue::from_static("gzip"))]);
        for (headers, expected) in [(HeaderMap::new(), "identity"), (own, "gzip")] {
            let uri = Uri::from_static("/");
            let request = TokenRequest::of([]).into_http(&uri, &headers, Encoding::Form);
            let sent = request.headers().get_all(ACCEPT_ENCODING).iter();
            assert_eq!(sent.collect::<Vec<_>>(), [expected]);
        }
    }

    // rule 7
    #[tokio::test]
    async fn a_parameter_without_a_value_is_left_out() {
        let params = [("a", "1"), ("b", ""), ("c", "3")];
        assert_eq!(body(&params, Encoding::Form).await, "a=1&c=3");
        assert_eq!(body(&params, Encoding::Json).await, r#"{"a":"1","c":"3"}"#);
        assert_eq!(body(&[], Encoding::Json).await, "{}");
    }

    #[tokio::test]
    async fn json_has_texts_and_a_list_where_a_parameter_comes_several_times() {
        let params = [
            ("audience", "a"),
            ("scope", "x \"y\"\u{1}"),
            ("audience", "b"),
        ];
        assert_eq!(
            body(&params, Encoding::Json).await,
            r#"{"audience":["a","b"],"scope":"x \"y\"\u0001"}"#
        );
    }

    #[test]
    fn there_is_room_for_the_worst_case() {
        let worst = "\u{1}".repeat(100);
        let request = TokenRequest::of([("\u{1}\u{1}", &*worst), ("a", "b"), ("a", "\u{20ac}")]);
        assert!(form(&request.params).len() <= room(&request.params, 3));
        assert!(json(&request.params).len() <= room(&request.params, 6));
    }
}
