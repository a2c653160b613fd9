//! Origins: scheme, host and port (RFC 6454 §4), and which of them the token may travel to.

use std::{error::Error, fmt, net::Ipv6Addr};

use http::uri::{self, Authority, Uri};

use super::Step;
use crate::{metrics, secret::is_loopback};

/// One origin, normalised: lower case, default port filled in.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Origin {
    scheme: Scheme,
    host: Box<str>,
    port: u16,
    /// Host and port as nearly every URI has them: a comparison with it spares reading a URI, which
    /// costs as much as all else that is done to put a token on.
    authority: Box<str>,
    is_loopback: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Scheme {
    Http,
    Https,
}

/// Where the token may travel.
#[derive(Debug, Clone)]
pub(crate) enum Origins {
    One(Origin),
    Several(Box<[Origin]>),
    Any,
}

impl Origins {
    /// # Errors
    ///
    /// If one is no origin, or if there is none at all.
    pub(crate) fn among(
        texts: impl IntoIterator<Item = impl AsRef<str>>,
    ) -> Result<Self, InvalidOrigin> {
        let mut origins = texts
            .into_iter()
            .map(|text| Origin::parse(text.as_ref()))
            .collect::<Result<Vec<_>, _>>()?;
        match (origins.pop(), origins.is_empty()) {
            (None, _) => Err(InvalidOrigin::new("", Flaw::NoneGiven)),
            (Some(only), true) => Ok(Self::One(only)),
            (Some(last), false) => {
                origins.push(last);
                Ok(Self::Several(origins.into()))
            }
        }
    }

    /// Whether the token may go there, as can be told at a glance: otherwise [`step`](Self::step) reads
    /// the URI.
    #[inline]
    pub(super) fn are_plainly(&self, uri: &Uri, allow_plaintext: bool) -> bool {
        let may_go = |origin: &Origin| allow_plaintext || origin.is_safe();
        match self {
            Self::One(origin) => may_go(origin) && (is_relative(uri) || origin.is_written_in(uri)),
            Self::Several(origins) => origins
                .iter()
                .any(|origin| may_go(origin) && origin.is_written_in(uri)),
            Self::Any => false,
        }
    }

    pub(super) fn step(&self, uri: &Uri, allow_plaintext: bool) -> Result<Step, DestinationError> {
        let ours = match self {
            Self::One(origin) => (is_relative(uri) || origin.covers(uri)).then_some(origin),
            Self::Several(_) if is_relative(uri) => return Err(DestinationError::NoAuthority),
            Self::Several(origins) => origins.iter().find(|origin| origin.covers(uri)),
            Self::Any => return step_to_any(uri, allow_plaintext),
        };
        match ours {
            Some(origin) if origin.is_safe() || allow_plaintext => Ok(Step::Authorize),
            Some(origin) => Err(plaintext(uri.host().unwrap_or(&origin.host))),
            None => Ok(leave(uri)),
        }
    }
}

fn step_to_any(uri: &Uri, allow_plaintext: bool) -> Result<Step, DestinationError> {
    if is_relative(uri) {
        // The scheme isn't known either: the inner service chose it.
        return Ok(Step::Authorize);
    }
    let (Some(scheme), Some(host)) = (uri.scheme_str().and_then(Scheme::of), uri.host()) else {
        return Ok(leave(uri));
    };
    match scheme {
        Scheme::Https => Ok(Step::Authorize),
        Scheme::Http if allow_plaintext || is_loopback(host) => Ok(Step::Authorize),
        Scheme::Http => Err(plaintext(host)),
    }
}

#[cold]
fn plaintext(host: &str) -> DestinationError {
    let host = host.into();
    DestinationError::Plaintext { host }
}

fn leave(uri: &Uri) -> Step {
    metrics::elsewhere(uri);
    Step::Leave
}

/// The URI names no server: whatever the inner service is connected to gets the request.
fn is_relative(uri: &Uri) -> bool {
    uri.authority().is_none()
}

impl Origin {
    fn parse(text: &str) -> Result<Self, InvalidOrigin> {
        let flaw = |flaw| InvalidOrigin::new(text, flaw);
        let uri: Uri = text.parse().map_err(|_| flaw(Flaw::NotAUrl))?;
        let authority = uri.authority().ok_or_else(|| flaw(Flaw::NotAUrl))?;
        let scheme = uri.scheme_str().ok_or_else(|| flaw(Flaw::NotAUrl))?;
        let scheme = Scheme::of(scheme).ok_or_else(|| flaw(Flaw::Scheme))?;
        if authority.as_str().contains('@') {
            return Err(flaw(Flaw::Userinfo));
        }
        if !matches!(uri.path(), "" | "/") || uri.query().is_some() || text.contains('#') {
            return Err(flaw(Flaw::Path));
        }
        if authority.host().is_empty() {
            return Err(flaw(Flaw::NotAUrl));
        }
        if authority.host().contains('*') {
            return Err(flaw(Flaw::Wildcard));
        }
        // `Uri` takes "host:" and "host:99999" for an authority without a port.
        let port = match authority.as_str().get(authority.host().len()..) {
            None | Some("") => scheme.default_port(),
            Some(_) => uri.port_u16().ok_or_else(|| flaw(Flaw::Port))?,
        };
        let host = authority.host().to_ascii_lowercase();
        let host = ipv6(&host).map_or(host, |address| format!("[{address}]"));
        let authority = match port == scheme.default_port() {
            true => host.clone(),
            false => format!("{host}:{port}"),
        };
        Ok(Self {
            is_loopback: is_loopback(&host),
            scheme,
            host: host.into(),
            port,
            authority: authority.into(),
        })
    }

    /// The way there is encrypted, or doesn't leave the machine.
    fn is_safe(&self) -> bool {
        self.scheme == Scheme::Https || self.is_loopback
    }

    /// As nearly every URI writes it.
    #[inline]
    fn is_written_in(&self, uri: &Uri) -> bool {
        let authority = uri.authority().map(Authority::as_str);
        authority == Some(&*self.authority) && uri.scheme() == Some(self.scheme.as_uri())
    }

    /// The same in whatever way it is written. Compares without allocating.
    fn covers(&self, uri: &Uri) -> bool {
        let (Some(scheme), Some(host)) = (uri.scheme_str(), uri.host()) else {
            return false;
        };
        let port = match uri.port_u16() {
            Some(port) => port,
            // "host:99999" has a port, which is none; where that leads is anybody's guess.
            None if !uri
                .authority()
                .is_some_and(|all| all.as_str().ends_with(host)) =>
            {
                return false;
            }
            None => self.scheme.default_port(),
        };
        port == self.port
            && Scheme::of(scheme) == Some(self.scheme)
            && (self.host.eq_ignore_ascii_case(host) || self.is_address(host))
    }

    /// Whether `host` is the same IPv6 address, written in another way.
    fn is_address(&self, host: &str) -> bool {
        ipv6(host).is_some_and(|address| ipv6(&self.host) == Some(address))
    }
}

/// The address in brackets (RFC 3986 §3.2.2).
fn ipv6(host: &str) -> Option<Ipv6Addr> {
    host.strip_prefix('[')?.strip_suffix(']')?.parse().ok()
}

impl Scheme {
    fn of(text: &str) -> Option<Self> {
        if text.eq_ignore_ascii_case("https") {
            Some(Self::Https)
        } else if text.eq_ignore_ascii_case("http") {
            Some(Self::Http)
        } else {
            None
        }
    }

    #[inline]
    fn as_uri(self) -> &'static uri::Scheme {
        match self {
            Self::Http => &uri::Scheme::HTTP,
            Self::Https => &uri::Scheme::HTTPS,
        }
    }

    fn default_port(self) -> u16 {
        match self {
            Self::Http => 80,
            Self::Https => 443,
        }
    }
}

impl fmt::Debug for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}://{}:{}", self.scheme.as_uri(), self.host, self.port)
    }
}

/// A text that is no origin, given to [`OAuthLayer`](crate::OAuthLayer). The caller's to mend.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InvalidOrigin {
    text: String,
    flaw: Flaw,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Flaw {
    NotAUrl,
    Scheme,
    Userinfo,
    Path,
    Port,
    Wildcard,
    NoneGiven,
}

impl InvalidOrigin {
    fn new(text: &str, flaw: Flaw) -> Self {
        // Where there is an @ there may be a password, and a query may hold keys.
        let (shown, cut) = match text.split_once(['?', '#']) {
            _ if text.contains('@') => ("(a text with an @)", ""),
            Some((before, _)) => (before, "…"),
            None => (text, ""),
        };
        let text = shown.escape_debug().take(200).chain(cut.chars());
        Self {
            text: text.collect(),
            flaw,
        }
    }
}

impl fmt::Display for InvalidOrigin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = &self.text;
        match self.flaw {
            Flaw::NotAUrl => write!(
                f,
                "\"{text}\" is no origin: write scheme, host and, if it isn't the default, port, \
                 as in \"https://api.example.com\""
            ),
            Flaw::Scheme => write!(
                f,
                "\"{text}\" is no origin that a token can travel to: its scheme must be https, or \
                 http for loopback"
            ),
            Flaw::Userinfo => f.write_str("an origin has no user name or password: leave them out"),
            Flaw::Path => write!(
                f,
                "\"{text}\" is more than an origin: leave out the path, the query and the fragment"
            ),
            Flaw::Port => write!(f, "\"{text}\" has a port that is none: give 1 to 65535"),
            Flaw::Wildcard => write!(
                f,
                "\"{text}\" has a wildcard, and there are none: name each origin \
                 (OAuthLayer::for_origins)"
            ),
            Flaw::NoneGiven => f.write_str(
                "no origin was given, so that no request would get a token: name at least one, or \
                 use OAuthLayer::for_any_origin",
            ),
        }
    }
}

impl Error for InvalidOrigin {}

/// A request that was not sent, because the token must not go where it was going. The caller's to
/// mend.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum DestinationError {
    /// The token would travel over plain HTTP to a host that isn't loopback (RFC 6750 §5.3).
    #[non_exhaustive]
    Plaintext {
        /// The host.
        host: String,
    },
    /// The URI names no server, and the layer names several.
    NoAuthority,
}

impl fmt::Display for DestinationError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Plaintext { host } => write!(
                f,
                "the request was not sent: its token would travel unencrypted to {}; use https, or \
                 OAuthLayer::allow_plaintext() where something else protects the way",
                host.escape_debug()
            ),
            Self::NoAuthority => f.write_str(
                "the request was not sent: its URI names no server, and the layer names several \
                 origins; give the request an absolute URI, or each connection a layer of its own \
                 (OAuthLayer::for_origin)",
            ),
        }
    }
}

impl Error for DestinationError {}

#[cfg(test)]
mod tests {
    use super::*;

    fn step(origins: &[&str], uri: &str) -> Result<Step, DestinationError> {
        let (origins, uri) = (Origins::among(origins).unwrap(), uri.parse().unwrap());
        let step = origins.step(&uri, false);
        if origins.are_plainly(&uri, false) {
            assert_eq!(step, Ok(Step::Authorize), "{uri}: seen at a glance");
        }
        step
    }

    #[test]
    fn an_origin_is_scheme_host_and_port_normalised() {
        let ours = ["https://api.example.com"];
        for uri in [
            "https://api.example.com/x?y",
            "https://API.EXAMPLE.COM/",
            "HTTPS://api.example.com:443/",
            "https://user:pw@api.example.com/",
            "/no/authority",
        ] {
            assert_eq!(step(&ours, uri), Ok(Step::Authorize), "{uri}");
        }
        for uri in [
            "http://api.example.com/",
            "https://api.example.com:8443/",
            "https://api.example.com.evil.example/",
            "https://evilapi.example.com/",
            "https://example.com/",
            "https://api.example.com@evil.example/",
            "wss://api.example.com/",
            "api.example.com:443",
            "https://api.example.com:99999/",
            "https://api.example.com:/",
        ] {
            assert_eq!(step(&ours, uri), Ok(Step::Leave), "{uri}");
        }
        let v6 = ["http://[0:0:0:0:0:0:0:1]:8080"];
        for uri in ["http://[::1]:8080/", "http://[0:0:0:0:0:0:0:1]:8080/"] {
            assert_eq!(step(&v6, uri), Ok(Step::Authorize), "{uri}");
        }
        assert_eq!(step(&v6, "http://[::2]:8080/"), Ok(Step::Leave));
    }

    #[test]
    fn plain_http_is_refused_but_to_loopback() {
        for host in ["localhost:1", "127.0.0.1", "127.9.9.9:80", "[::1]:8080"] {
            let origin = format!("http://{host}");
            let uri = format!("{origin}/x");
            assert_eq!(step(&[&origin], &uri), Ok(Step::Authorize), "{host}");
            assert_eq!(step(&[&origin], "/x"), Ok(Step::Authorize), "{host}");
        }
        for host in [
            "api.example.com",
            "128.0.0.1",
            "localhost.example.com",
            "[::2]",
        ] {
            let origin = format!("http://{host}");
            let uri = format!("{origin}/x");
            let refused = Err(DestinationError::Plaintext { host: host.into() });
            assert_eq!(step(&[&origin], &uri), refused);
            assert_eq!(step(&[&origin], "/x"), refused);
            assert_eq!(Origins::Any.step(&uri.parse().unwrap(), false), refused);
            let allowed = Origins::Any.step(&uri.parse().unwrap(), true);
            assert_eq!(allowed, Ok(Step::Authorize));
        }
    }

    #[test]
    fn a_uri_without_an_authority_is_an_error_where_several_origins_are_named() {
        let several = ["https://a.example", "https://b.example"];
        assert_eq!(step(&several, "/x"), Err(DestinationError::NoAuthority));
        assert_eq!(step(&several, "https://b.example/x"), Ok(Step::Authorize));
        assert_eq!(step(&several, "https://c.example/x"), Ok(Step::Leave));
        let any = Origins::Any.step(&"/x".parse().unwrap(), false);
        assert_eq!(any, Ok(Step::Authorize));
    }

    #[test]
    fn what_is_no_origin_says_what_to_write() {
        for (text, hint) in [
            ("api.example.com", "https://api.example.com"),
            ("", "https://api.example.com"),
            ("/path", "https://api.example.com"),
            ("ftp://api.example.com", "https"),
            ("https://api.example.com/v1", "path"),
            ("https://api.example.com?key=hunter2", "path"),
            ("https://api.example.com/#f", "path"),
            ("https://api.example.com:99999", "port"),
            ("https://*.example.com", "for_origins"),
            ("https://user:hunter2@api.example.com", "leave them out"),
        ] {
            let error = Origins::among([text]).unwrap_err();
            assert!(error.to_string().contains(hint), "{text}: {error}");
            assert!(
                !format!("{error} {error:?}").contains("hunter2"),
                "{error:?}"
            );
        }
        let none = Origins::among(Vec::<String>::new()).unwrap_err();
        assert!(none.to_string().contains("at least one"), "{none}");
    }
}
