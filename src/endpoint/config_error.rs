//! Why a token endpoint can't be built.

use std::{error::Error, fmt, sync::Arc};

#[cfg(feature = "jwt")]
use super::SigningError;
use crate::source::{BoxError, TokenError};

/// Why a [`TokenEndpoint`](crate::TokenEndpoint) can't be built. The caller has to mend it, unless
/// the machine has no root certificates.
#[derive(Debug)]
#[non_exhaustive]
pub enum EndpointConfigError {
    /// The URL can't be an endpoint's.
    #[non_exhaustive]
    Url {
        /// Which endpoint's, such as "token endpoint".
        endpoint: &'static str,
        /// The URL up to its query.
        url: String,
        /// What is wrong with it.
        problem: &'static str,
    },
    /// The URL is plain `http` to another machine.
    #[non_exhaustive]
    Plaintext {
        /// Which endpoint's, such as "token endpoint".
        endpoint: &'static str,
        /// The URL up to its query.
        url: Arc<str>,
    },
    /// A parameter can't be added.
    #[non_exhaustive]
    Param {
        /// Its name.
        key: String,
        /// What is wrong with it.
        problem: &'static str,
    },
    /// A header can't be added.
    #[non_exhaustive]
    Header {
        /// Its name.
        name: String,
        /// What is wrong with it.
        problem: &'static str,
    },
    /// What [`answer_at`](crate::TokenEndpointBuilder::answer_at) was given is no JSON pointer.
    #[non_exhaustive]
    AnswerAt {
        /// What is wrong with it.
        problem: &'static str,
    },
    /// What [`token_type`](crate::TokenEndpointBuilder::token_type) was given can't be a bearer
    /// token's.
    #[non_exhaustive]
    TokenType {
        /// The type.
        token_type: String,
        /// What is wrong with it.
        problem: &'static str,
    },
    /// Nothing was said about how the client authenticates.
    NoClientAuth,
    /// The client id can't be sent.
    #[non_exhaustive]
    ClientId {
        /// What is wrong with it.
        problem: &'static str,
    },
    /// The client's JWT can't be made.
    #[cfg(feature = "jwt")]
    #[non_exhaustive]
    ClientAssertion {
        /// What is wrong with it.
        problem: &'static str,
    },
    /// The client's key can't sign.
    #[cfg(feature = "jwt")]
    #[non_exhaustive]
    ClientKey {
        /// What is wrong with it.
        cause: SigningError,
    },
    /// The server's metadata doesn't list the client's way to authenticate.
    #[non_exhaustive]
    AuthMethod {
        /// The method's names, such as "client_secret_basic".
        method: String,
        /// What the server lists.
        offered: String,
    },
    /// The server's metadata doesn't list the algorithm that the client's JWT is signed with.
    #[non_exhaustive]
    SigningAlgorithm {
        /// The method's name, such as "private_key_jwt".
        method: String,
        /// The algorithm (RFC 7518 §3.1), such as "ES256".
        algorithm: &'static str,
        /// What the server lists.
        offered: String,
    },
    /// The client certificate can't be shown.
    #[non_exhaustive]
    ClientCertificate {
        /// What is wrong with it.
        problem: &'static str,
    },
    /// What [`root_certificates`](crate::TokenEndpointBuilder) was given can't be trusted.
    #[non_exhaustive]
    RootCertificates {
        /// What is wrong with them.
        problem: &'static str,
    },
    /// The timeout leaves no time.
    NoTime,
    /// The transport doesn't fit the other settings.
    #[non_exhaustive]
    Transport {
        /// Why, and what to do.
        problem: &'static str,
    },
    /// The built-in transport found no root certificate to trust.
    #[non_exhaustive]
    NoRootCertificates {
        /// What went wrong when they were looked for, if anything did.
        cause: Option<BoxError>,
    },
    /// The built-in transport's TLS can't be set up.
    #[non_exhaustive]
    Tls {
        /// What it says.
        cause: BoxError,
    },
    /// No transport was given, and the feature that brings one is off.
    NoTransport,
}

impl fmt::Display for EndpointConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Url {
                endpoint,
                url,
                problem,
            } => write!(f, "no {endpoint} at {url:?}: {problem}"),
            Self::Plaintext { endpoint, url } => write!(
                f,
                "the {endpoint} {url} is plain http to another machine: whoever can listen \
                 would read the client's secret and the token; use https, or .allow_plaintext() \
                 if the network encrypts by itself"
            ),
            Self::Param { key, problem } => {
                write!(f, "the parameter {key:?} can't be added: {problem}")
            }
            Self::Header { name, problem } => {
                write!(f, "the header {name:?} can't be added: {problem}")
            }
            Self::AnswerAt { problem } => {
                write!(f, "where to look in the answer can't be said so: {problem}")
            }
            Self::TokenType {
                token_type,
                problem,
            } => write!(
                f,
                "a token of the type {token_type:?} can't be taken for a bearer token: {problem}"
            ),
            Self::NoClientAuth => f.write_str(
                "the token endpoint doesn't know how the client authenticates; call .client_auth(…)",
            ),
            Self::ClientId { problem } => write!(f, "the client id can't be sent: {problem}"),
            #[cfg(feature = "jwt")]
            Self::ClientAssertion { problem } => {
                write!(f, "the client's JWT can't be used: {problem}")
            }
            #[cfg(feature = "jwt")]
            Self::ClientKey { cause } => write!(f, "the client can't be authenticated: {cause}"),
            Self::AuthMethod { method, offered } => write!(
                f,
                "the client authenticates by {method}, and the server's metadata lists only \
                 {offered}; choose one of these for .client_auth(…), or, if the list is wrong, \
                 describe the server by TokenEndpoint::builder(…)"
            ),
            Self::SigningAlgorithm {
                method,
                algorithm,
                offered,
            } => write!(
                f,
                "the client's {method} is signed with {algorithm}, and the server's metadata lists \
                 only {offered}; sign with one of these (SigningKey), or, if the list is wrong, \
                 describe the server by TokenEndpoint::builder(…)"
            ),
            Self::ClientCertificate { problem } => {
                write!(f, "the client certificate can't be shown: {problem}")
            }
            Self::RootCertificates { problem } => {
                write!(f, "the root certificates can't be trusted: {problem}")
            }
            Self::NoTime => {
                f.write_str("no request can be answered within .timeout(0); give it some seconds")
            }
            Self::Transport { problem } => write!(f, "the transport doesn't fit: {problem}"),
            Self::NoRootCertificates { .. } => f.write_str(
                "no root certificates were found on this machine, so that no server can be \
                 trusted; install ca-certificates, set SSL_CERT_FILE, or pass \
                 .root_certificates(…) or .transport(…)",
            ),
            Self::Tls { cause } => write!(
                f,
                "the built-in TLS client can't be set up ({cause}); pass .transport(…)"
            ),
            Self::NoTransport => f.write_str(
                "nothing can carry token requests; pass .transport(…), or turn the feature \
                 `https-client` on",
            ),
        }
    }
}

impl Error for EndpointConfigError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            Self::NoRootCertificates { cause: Some(cause) } | Self::Tls { cause } => Some(&**cause),
            #[cfg(feature = "jwt")]
            Self::ClientKey { cause } => Some(cause),
            _ => None,
        }
    }
}

impl From<EndpointConfigError> for TokenError {
    fn from(error: EndpointConfigError) -> Self {
        Self::permanent(error)
    }
}
