//! Why a client can't be authenticated.

use std::sync::Arc;

#[cfg(feature = "jwt")]
use crate::endpoint::jwt::SigningError;
use crate::{endpoint::error::EndpointError, source::BoxError};

/// Why a client can't be authenticated.
pub(in crate::endpoint) enum AuthProblem {
    NoSecret(BoxError),
    ControlCharacter,
    Empty,
    #[cfg(feature = "jwt")]
    Unsigned(SigningError),
    #[cfg(feature = "https-client")]
    NoCertificate(BoxError),
    #[cfg(feature = "https-client")]
    UnusableCertificate(&'static str),
}

impl AuthProblem {
    pub(in crate::endpoint) fn at(self, url: &Arc<str>) -> EndpointError {
        let url = url.clone();
        match self {
            Self::NoSecret(cause) => EndpointError::NoSecret { url, cause },
            Self::ControlCharacter => EndpointError::UnusableSecret {
                url,
                problem: "it has a control character, such as a line break at its end; trim it",
            },
            Self::Empty => EndpointError::UnusableSecret {
                url,
                problem: "it is empty; is the setting missing? A client without one is \
                          ClientAuth::none",
            },
            #[cfg(feature = "jwt")]
            Self::Unsigned(cause) => EndpointError::Unsigned { url, cause },
            #[cfg(feature = "https-client")]
            Self::NoCertificate(cause) => EndpointError::NoCertificate { url, cause },
            #[cfg(feature = "https-client")]
            Self::UnusableCertificate(problem) => {
                EndpointError::UnusableCertificate { url, problem }
            }
        }
    }
}
