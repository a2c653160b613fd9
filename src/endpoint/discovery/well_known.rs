//! Where the metadata of an issuer may be.

use std::sync::Arc;

use super::super::{
    EndpointConfigError,
    url::{EndpointUrl, Kind},
};

/// An issuer identifier (RFC 8414 §2).
pub(super) struct Issuer {
    /// Byte for byte as it was given.
    pub(super) text: Arc<str>,
    pub(super) url: EndpointUrl,
}

impl Issuer {
    /// RFC 8414 §2: "a URL that uses the "https" scheme and has no query or fragment components".
    pub(super) fn parse(text: &str, allow_plaintext: bool) -> Result<Self, EndpointConfigError> {
        // Before anything else is said of it: a query may hold a key.
        let (plain, rest) = text.split_at(text.find(['?', '#']).unwrap_or(text.len()));
        let url = EndpointUrl::parse(Kind::Issuer, plain, allow_plaintext)?;
        if !rest.is_empty() {
            return Err(url.refuse(
                Kind::Issuer,
                "it has a query or a fragment, and RFC 8414 §2 allows neither; leave it out",
            ));
        }
        if url.uri.path().contains("/.well-known/") {
            return Err(url.refuse(
                Kind::Issuer,
                "it is the metadata's place; give the issuer, which stands before /.well-known/ \
                 (and after what follows it, where there is more)",
            ));
        }
        Ok(Self {
            text: Arc::from(text),
            url,
        })
    }

    pub(super) fn places(&self) -> Vec<Arc<str>> {
        let uri = &self.url.uri;
        let origin = self.url.shown.strip_suffix(uri.path());
        let origin = origin.unwrap_or_default();
        // RFC 8414 §3.1: "any terminating "/" MUST be removed before inserting"; OpenID Connect
        // Discovery §4 says so of appending.
        let path = uri.path();
        let path = path.strip_suffix('/').unwrap_or(path);
        let between = |name: &str| Arc::from(format!("{origin}/.well-known/{name}{path}"));
        let mut places = vec![
            between("oauth-authorization-server"),
            Arc::from(format!("{origin}{path}/.well-known/openid-configuration")),
        ];
        if !path.is_empty() {
            places.push(between("openid-configuration"));
        }
        places
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FIRST: &str = "/.well-known/oauth-authorization-server";
    const OPENID: &str = "/.well-known/openid-configuration";

    // rule 74
    #[test]
    fn the_name_stands_between_host_and_path_or_after_it() {
        for (issuer, origin, path) in [
            ("https://as.example", "https://as.example", ""),
            ("https://as.example/", "https://as.example", ""),
            ("https://as.example/t1", "https://as.example", "/t1"),
            ("https://as.example/t1/", "https://as.example", "/t1"),
            (
                "https://as.example/a/b%20c",
                "https://as.example",
                "/a/b%20c",
            ),
            ("https://As.Example:8443/T", "https://As.Example:8443", "/T"),
            ("http://127.0.0.1:9000", "http://127.0.0.1:9000", ""),
            ("http://[::1]:9000/t/", "http://[::1]:9000", "/t"),
            ("http://localhost/t", "http://localhost", "/t"),
        ] {
            let found = Issuer::parse(issuer, false).unwrap();
            assert_eq!(&*found.text, issuer, "byte for byte");
            let mut expected = vec![
                format!("{origin}{FIRST}{path}"),
                format!("{origin}{path}{OPENID}"),
            ];
            if !path.is_empty() {
                expected.push(format!("{origin}{OPENID}{path}"));
            }
            let places: Vec<_> = found.places().iter().map(ToString::to_string).collect();
            assert_eq!(places, expected, "{issuer}");
        }
    }

    // rule 74
    #[test]
    fn what_can_be_no_issuer_is_refused() {
        for (issuer, part) in [
            ("https://as.example?key=hunter2", "query or a fragment"),
            ("https://as.example/t?", "query or a fragment"),
            ("https://as.example/#hunter2", "query or a fragment"),
            ("https://user:hunter2@as.example", "user name or password"),
            ("http://as.example", "allow_plaintext"),
            ("http://as.example?key=hunter2", "allow_plaintext"),
            ("as.example", "no scheme"),
            ("https:///t", "isn't a URL"),
            (
                "https://as.example/.well-known/openid-configuration",
                "stands before /.well-known/",
            ),
            ("https://as.example:99999", "port"),
            ("", "no scheme"),
        ] {
            let Err(error) = Issuer::parse(issuer, false) else {
                panic!("{issuer} was accepted");
            };
            let message = error.to_string();
            assert!(message.contains(part), "{issuer}: {message}");
            assert!(message.contains("issuer"), "{message}");
            assert!(!message.contains("hunter2"), "{message}");
        }
        assert!(Issuer::parse("http://as.example", true).is_ok());
    }
}
