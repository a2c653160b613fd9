//! Why a request to the authorization server has no answer, and what to look at.

use std::{error::Error, io, sync::Arc, time::Duration};

use http::StatusCode;

use super::{EndpointError, redact::Redactor};
use crate::source::BoxError;

/// Why there is no answer.
#[derive(Debug)]
pub(super) enum Failure {
    /// The service failed, before or after the request was sent.
    Service(BoxError),
    /// There was no connection in that time.
    Unconnected(Duration),
    /// The answer's body broke off.
    Body(BoxError),
    TooLarge(StatusCode),
}

impl Failure {
    pub(super) fn at(self, url: &Arc<str>, secrets: &Redactor) -> EndpointError {
        let url = url.clone();
        let innermost = |cause: &BoxError| secrets.clean(&innermost(&**cause).to_string());
        match self {
            Self::TooLarge(status) => EndpointError::TooLarge { url, status },
            Self::Service(cause) | Self::Body(cause) if is_about_a_certificate(&*cause) => {
                EndpointError::CertificateRefused {
                    url,
                    problem: innermost(&cause),
                    cause,
                }
            }
            Self::Unconnected(limit) => {
                let problem = format!("no connection within {limit:?}");
                EndpointError::Unreachable {
                    url,
                    advice: "check its host name and the network, or set a longer .timeout(…)",
                    cause: problem.clone().into(),
                    problem,
                }
            }
            Self::Service(cause) if nothing_was_sent(&*cause) => EndpointError::Unreachable {
                url,
                problem: innermost(&cause),
                advice: advice(&*cause),
                cause,
            },
            Self::Service(cause) | Self::Body(cause) => EndpointError::Interrupted {
                url,
                problem: innermost(&cause),
                cause,
            },
        }
    }
}

type Cause<'a> = &'a (dyn Error + 'static);

fn chain<'a>(error: Cause<'a>) -> impl Iterator<Item = Cause<'a>> {
    std::iter::successors(Some(error), |&error| error.source())
}

/// The error at the end of the chain says most: the outer ones say "client error (Connect)".
fn innermost(error: Cause<'_>) -> Cause<'_> {
    chain(error).last().unwrap_or(error)
}

/// Whether the chain tells that there never was a connection: DNS, TCP or TLS failed.
fn nothing_was_sent(error: Cause<'_>) -> bool {
    chain(error).any(|error| {
        #[cfg(feature = "https-client")]
        if let Some(error) = error.downcast_ref::<hyper_util::client::legacy::Error>() {
            return error.is_connect();
        }
        error
            .downcast_ref::<io::Error>()
            .is_some_and(|error| error.kind() == io::ErrorKind::ConnectionRefused)
    })
}

/// Whether the server ended the handshake over the client's certificate, which in TLS 1.3 is heard
/// of only after the request (RFC 8446 §4.4.2.4, §6.2).
fn is_about_a_certificate(error: Cause<'_>) -> bool {
    #[cfg(feature = "https-client")]
    {
        use rustls::{AlertDescription as Alert, Error::AlertReceived};
        let alert = chain(error).find_map(tls);
        matches!(
            alert,
            Some(AlertReceived(
                Alert::NoCertificate
                    | Alert::BadCertificate
                    | Alert::UnsupportedCertificate
                    | Alert::CertificateRevoked
                    | Alert::CertificateExpired
                    | Alert::CertificateUnknown
                    | Alert::UnknownCA
                    | Alert::AccessDenied
                    | Alert::DecryptError // another key of the same issuer's name
                    | Alert::CertificateRequired
            ))
        )
    }
    #[cfg(not(feature = "https-client"))]
    {
        let _ = error;
        false
    }
}

/// What to look at, for a server that can't be reached.
fn advice(error: Cause<'_>) -> &'static str {
    let refused = |error: Cause<'_>| {
        error
            .downcast_ref::<io::Error>()
            .is_some_and(|error| error.kind() == io::ErrorKind::ConnectionRefused)
    };
    if chain(error).any(refused) {
        return "check its host and port, and that it is running";
    }
    #[cfg(feature = "https-client")]
    match chain(error).find_map(tls) {
        Some(rustls::Error::InvalidCertificate(problem)) => return certificate_advice(problem),
        Some(rustls::Error::AlertReceived(_) | rustls::Error::PeerIncompatible(_)) => {
            return "the TLS handshake failed: the server may want other versions or cipher suites \
                    than rustls has (TLS 1.2 and 1.3), not know the host name, or want a client \
                    certificate (ClientAuth::tls)";
        }
        Some(_) => return "check that its port speaks https",
        None => {}
    }
    "check its host name and the network"
}

#[cfg(feature = "https-client")]
fn certificate_advice(problem: &rustls::CertificateError) -> &'static str {
    use rustls::CertificateError::{
        Expired, ExpiredContext, NotValidForName, NotValidForNameContext, NotValidYet,
        NotValidYetContext,
    };
    match problem {
        Expired | ExpiredContext { .. } | NotValidYet | NotValidYetContext { .. } => {
            "check this machine's clock; if it is right, the server needs another certificate"
        }
        NotValidForName | NotValidForNameContext { .. } => {
            "use a host name that stands in its certificate"
        }
        _ => {
            "check its certificate; where its root isn't one of the system's, add it there or by \
             .root_certificates(…), or bring a client of your own (.transport(…)); a certificate \
             that is its own root must not be an authority's (CA:TRUE)"
        }
    }
}

/// rustls' errors travel inside `io::Error`s, which hide them from `source()`.
#[cfg(feature = "https-client")]
fn tls<'a>(error: Cause<'a>) -> Option<&'a rustls::Error> {
    let inside = || tls(error.downcast_ref::<io::Error>()?.get_ref()?);
    error.downcast_ref().or_else(inside)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refused_connection_is_told_from_a_broken_one() {
        let at = |kind: io::ErrorKind| {
            let cause = BoxError::from(io::Error::new(kind, "the innermost"));
            Failure::Service(cause).at(&Arc::from("u"), &Redactor::new([]))
        };
        let refused = at(io::ErrorKind::ConnectionRefused);
        assert!(matches!(refused, EndpointError::Unreachable { .. }));
        assert!(refused.to_string().contains("its host and port"));
        let broken = at(io::ErrorKind::ConnectionReset);
        assert!(matches!(broken, EndpointError::Interrupted { .. }));
        assert!(broken.to_string().contains("the innermost"));
    }
}
