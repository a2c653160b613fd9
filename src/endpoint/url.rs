//! Where requests to the authorization server go: checked once, and shown without what may be secret.

use std::sync::Arc;

use http::{
    Uri,
    uri::{Authority, Scheme},
};

use super::{EndpointConfigError, redact::SHORTEST_KEY};
use crate::secret::{SecretString, is_loopback};

/// Which of the authorization server's endpoints.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Issuer,
    Token,
    Authorization,
    DeviceAuthorization,
    Revocation,
}

impl Kind {
    fn name(self) -> &'static str {
        match self {
            Self::Issuer => "issuer",
            Self::Token => "token endpoint",
            Self::Authorization => "authorization endpoint",
            Self::DeviceAuthorization => "device authorization endpoint",
            Self::Revocation => "revocation endpoint",
        }
    }
}

pub(super) struct EndpointUrl {
    pub(super) uri: Uri,
    /// Origin and path, for errors: a query may hold keys.
    pub(super) shown: Arc<str>,
}

impl EndpointUrl {
    pub(super) fn parse(
        kind: Kind,
        text: &str,
        allow_plaintext: bool,
    ) -> Result<Self, EndpointConfigError> {
        let refuse = |problem| EndpointConfigError::Url {
            endpoint: kind.name(),
            url: harmless_part(text),
            problem,
        };
        // RFC 6749 §3.2: "The endpoint URI MUST NOT include a fragment component." The parser
        // below would drop it silently.
        if text.contains('#') {
            return Err(refuse(
                "it has a fragment; RFC 6749 §3.2 forbids it: leave out the # and what follows",
            ));
        }
        if !text.contains("://") {
            return Err(refuse("it has no scheme; put https:// in front"));
        }
        let uri = text.parse::<Uri>().ok();
        let Some((uri, scheme, authority)) = uri.as_ref().and_then(parts) else {
            return Err(refuse(
                "it isn't a URL; expected is https://host/path, in ASCII (a host name in punycode) and \
                 without white space",
            ));
        };
        if authority.as_str().contains('@') {
            return Err(refuse(
                "it has a user name or password in it; give them to ClientAuth::basic instead",
            ));
        }
        if authority.host().is_empty() {
            return Err(refuse("it names no host; expected is https://host/path"));
        }
        // The parser takes "host:99999" for a host without a port, and the port that was meant is
        // then the default one.
        if authority.port_u16().is_none() && !authority.as_str().ends_with(authority.host()) {
            return Err(refuse("its port is none; expected is 1 to 65535"));
        }
        let plaintext = *scheme == Scheme::HTTP;
        if !plaintext && *scheme != Scheme::HTTPS {
            return Err(refuse("its scheme is neither https nor http"));
        }
        let shown = Arc::from(format!("{scheme}://{authority}{}", uri.path()));
        if plaintext && !allow_plaintext && !is_loopback(authority.host()) {
            return Err(EndpointConfigError::Plaintext {
                endpoint: kind.name(),
                url: shown,
            });
        }
        Ok(Self {
            uri: uri.clone(),
            shown,
        })
    }

    /// For what is wrong with it only in this place.
    pub(super) fn refuse(&self, kind: Kind, problem: &'static str) -> EndpointConfigError {
        EndpointConfigError::Url {
            endpoint: kind.name(),
            url: self.shown.to_string(),
            problem,
        }
    }

    /// What stands in its query, and may be a key.
    pub(super) fn values_in_query(&self) -> impl Iterator<Item = SecretString> {
        let query = self.uri.query().unwrap_or_default();
        form_urlencoded::parse(query.as_bytes())
            .map(|(_, value)| SecretString::from(value.into_owned()))
            .filter(|value| value.len() >= SHORTEST_KEY)
    }

    pub(super) fn is_https(&self) -> bool {
        self.uri.scheme() == Some(&Scheme::HTTPS)
    }
}

fn parts(uri: &Uri) -> Option<(&Uri, &Scheme, &Authority)> {
    Some((uri, uri.scheme()?, uri.authority()?))
}

/// What an error may repeat of a URL that couldn't be taken apart.
fn harmless_part(text: &str) -> String {
    if text.contains('@') {
        return String::from("(not shown: it may hold a password)");
    }
    let before_query = text.split(['?', '#']).next().unwrap_or_default();
    before_query.chars().take(256).collect()
}

/// Whether it is an absolute URI without a fragment, as a resource (RFC 8707 §2) and a redirect URI
/// (RFC 6749 §3.1.2) must be.
pub(crate) fn is_absolute_uri(text: &str) -> bool {
    let Some((scheme, rest)) = text.split_once(':') else {
        return false;
    };
    // RFC 3986 §3.1.
    let mut scheme = scheme.bytes();
    scheme
        .next()
        .is_some_and(|first| first.is_ascii_alphabetic())
        && scheme.all(|byte| byte.is_ascii_alphanumeric() || b"+-.".contains(&byte))
        && !rest.is_empty()
        && rest
            .bytes()
            .all(|byte| byte.is_ascii_graphic() && !b"#\"<>\\^`{|}".contains(&byte))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal(text: &str) -> String {
        match EndpointUrl::parse(Kind::Token, text, false) {
            Ok(url) => panic!("{} was accepted", url.shown),
            Err(error) => error.to_string(),
        }
    }

    // rule 6
    #[test]
    fn a_query_is_kept_but_not_shown() {
        let url = EndpointUrl::parse(
            Kind::Token,
            "https://as.example:8443/token?key=s3cr3t",
            false,
        )
        .unwrap_or_else(|error| panic!("{error}"));
        assert_eq!(url.uri.query(), Some("key=s3cr3t"));
        assert_eq!(&*url.shown, "https://as.example:8443/token");
    }

    #[test]
    fn what_is_no_endpoint_is_refused_with_a_reason() {
        for (text, part) in [
            ("", "no scheme"),
            ("https://", "isn't a URL"),
            ("as.example/token", "no scheme"),
            ("https://as.example/a b", "isn't a URL"),
            ("as.example", "no scheme"),
            ("/token", "no scheme"),
            ("ftp://as.example/token", "neither https nor http"),
            ("https://as.example/token#part", "fragment"),
            ("https://:443/token", "names no host"),
            ("https://id@as.example/token", "user name"),
        ] {
            let message = refusal(text);
            assert!(message.contains(part), "{text:?}: {message}");
        }
    }

    #[test]
    fn a_refusal_repeats_no_secret() {
        for text in [
            "https://id:hunter2@as.example/token",
            "https://as.example/token?key=hunter2#x",
            "https://id:hunter2@as.example/a b",
        ] {
            assert!(!refusal(text).contains("hunter2"), "{}", refusal(text));
        }
    }

    // rule 29
    #[test]
    fn plain_http_is_for_loopback() {
        for text in [
            "http://127.0.0.1:9000/token",
            "http://127.8.8.8/token",
            "http://[::1]:9000/token",
            "http://LocalHost/token",
        ] {
            assert!(
                EndpointUrl::parse(Kind::Token, text, false).is_ok(),
                "{text}"
            );
        }
        for text in [
            "http://as.example/token",
            "http://10.0.0.1/token",
            "http://localhost.example/token",
            "http://127.0.0.1.example/token",
            "http://[::2]/token",
        ] {
            let message = refusal(text);
            assert!(message.contains(".allow_plaintext()"), "{message}");
            assert!(
                EndpointUrl::parse(Kind::Token, text, true).is_ok(),
                "{text}"
            );
        }
    }
}
