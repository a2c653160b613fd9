//! Encode: the parameters of a token request as a form, and the request around it.

use bytes::Bytes;
use form_urlencoded::Serializer;
use http::{
    HeaderMap, HeaderValue, Method, Request, Uri,
    header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE},
};
use http_body_util::Full;
use zeroize::Zeroizing;

/// A token request in the making: encoded, not yet sent.
pub(super) struct TokenRequest {
    form: Form,
    authorization: Option<HeaderValue>,
}

impl TokenRequest {
    pub(super) fn encode<'a>(params: impl IntoIterator<Item = (&'a str, &'a str)>) -> Self {
        let mut form = Form::default();
        for (key, value) in params {
            form.append(key, value);
        }
        Self {
            form,
            authorization: None,
        }
    }

    /// For client authentication in the body.
    pub(super) fn append(&mut self, key: &str, value: &str) {
        self.form.append(key, value);
    }

    /// For client authentication in the header.
    pub(super) fn authorize(&mut self, value: HeaderValue) {
        self.authorization = Some(value);
    }

    /// RFC 6749 §3.2: "The client MUST use the HTTP "POST" method when making access token
    /// requests."
    pub(super) fn into_http(self, uri: &Uri, headers: &HeaderMap) -> Request<Full<Bytes>> {
        let mut request = Request::new(Full::new(self.form.into_bytes()));
        *request.method_mut() = Method::POST;
        *request.uri_mut() = uri.clone();
        *request.headers_mut() = headers.clone();
        let form = HeaderValue::from_static("application/x-www-form-urlencoded");
        request.headers_mut().insert(CONTENT_TYPE, form);
        // Some servers answer with a form or with HTML when they aren't told.
        let json = HeaderValue::from_static("application/json");
        request.headers_mut().insert(ACCEPT, json);
        if let Some(authorization) = self.authorization {
            request.headers_mut().insert(AUTHORIZATION, authorization);
        }
        request
    }
}

/// Parameters as `application/x-www-form-urlencoded` (RFC 6749 appendix B). It may hold a secret,
/// so its memory is overwritten when it is sent or dropped.
#[derive(Default)]
struct Form {
    text: Zeroizing<String>,
}

impl Form {
    /// RFC 6749 §3.2: "Parameters sent without a value MUST be treated as if they were omitted",
    /// so they are.
    fn append(&mut self, key: &str, value: &str) {
        if value.is_empty() {
            return;
        }
        // At worst three bytes for one, and `&` and `=`.
        let more = key.len().saturating_add(value.len()).saturating_mul(3);
        self.reserve(more.saturating_add(2));
        Serializer::new(&mut *self.text).append_pair(key, value);
    }

    /// Makes room without leaving an old copy behind, as a growing `String` would.
    fn reserve(&mut self, more: usize) {
        let needed = self.text.len().saturating_add(more);
        if needed > self.text.capacity() {
            let room = needed.max(self.text.capacity().saturating_mul(2));
            let mut larger = Zeroizing::new(String::with_capacity(room));
            larger.push_str(&self.text);
            self.text = larger;
        }
    }

    fn into_bytes(self) -> Bytes {
        Bytes::from_owner(self.text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn form(params: &[(&str, &str)]) -> String {
        let request = TokenRequest::encode(params.iter().copied());
        String::from_utf8(request.form.into_bytes().to_vec()).unwrap()
    }

    #[test]
    fn values_are_encoded_as_rfc_6749_appendix_b_shows() {
        assert_eq!(
            form(&[("k", " %&+\u{a3}\u{20ac}")]),
            "k=+%25%26%2B%C2%A3%E2%82%AC"
        );
    }

    // rule 7
    #[test]
    fn a_parameter_without_a_value_is_left_out() {
        assert_eq!(form(&[("a", "1"), ("b", ""), ("c", "3")]), "a=1&c=3");
    }

    #[test]
    fn growing_moves_the_form_and_never_reallocates_it_in_place() {
        let mut grown = Form::default();
        for _ in 0..100 {
            let before = grown.text.capacity();
            grown.append("key", "\u{20ac}\u{20ac}");
            assert!(grown.text.len() <= grown.text.capacity());
            assert!(grown.text.capacity() >= before);
        }
        assert_eq!(grown.text.matches("key=").count(), 100);
    }
}
