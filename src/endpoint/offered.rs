//! Which client authentications a server offers, and the one that both sides support.

use super::{ClientAuth, EndpointConfigError, client_auth::Method, redact::Redactor};

/// What the server's metadata says of client authentication at its token endpoint (RFC 8414 §2).
pub(super) struct Offered {
    /// `token_endpoint_auth_methods_supported`; empty if it is left out.
    methods: Vec<String>,
    /// `token_endpoint_auth_signing_alg_values_supported`; empty if it is left out.
    signing_algs: Vec<String>,
}

impl Offered {
    pub(super) fn new(methods: Vec<String>, signing_algs: Vec<String>) -> Self {
        Self {
            methods,
            signing_algs,
        }
    }

    /// The way that the client asks for, or the other one for the same secret.
    pub(super) fn agree(&self, asked: ClientAuth) -> Result<ClientAuth, EndpointConfigError> {
        // Many servers with public clients don't list "none".
        if self.has(&asked) || !asked.is_confidential() {
            return self.signed(asked);
        }
        match asked.other_way() {
            Some(other) if self.has(&other) => Ok(other),
            _ => Err(EndpointConfigError::AuthMethod {
                method: asked.method_names().join(" or "),
                offered: shown(&self.methods),
            }),
        }
    }

    /// RFC 8414 §2 says of a list that is left out: "the default is "client_secret_basic"". As it is
    /// often left out by servers with other methods, the client's choice stands.
    fn has(&self, client_auth: &ClientAuth) -> bool {
        let names = client_auth.method_names();
        self.methods.is_empty() || self.methods.iter().any(|method| names.contains(&&**method))
    }

    fn signed(&self, asked: ClientAuth) -> Result<ClientAuth, EndpointConfigError> {
        match asked.signing_alg() {
            Some(alg)
                if !self.signing_algs.is_empty() && !self.signing_algs.iter().any(|a| a == alg) =>
            {
                Err(EndpointConfigError::SigningAlgorithm {
                    method: asked.method_names().join(" or "),
                    algorithm: alg,
                    offered: shown(&self.signing_algs),
                })
            }
            _ => Ok(asked),
        }
    }
}

/// How servers' metadata calls what the client does.
impl ClientAuth {
    /// What the method is called in a server's metadata (RFC 8414 §2); any of the names will do.
    pub(super) fn method_names(&self) -> &[&'static str] {
        match &self.0 {
            Method::Basic { .. } | Method::BasicUnencoded { .. } => &["client_secret_basic"],
            Method::Post { .. } => &["client_secret_post"],
            #[cfg(feature = "https-client")]
            Method::Tls { .. } => TLS_NAMES,
            Method::TlsByTransport { .. } => TLS_NAMES,
            #[cfg(feature = "jwt")]
            Method::Assertion(assertion) => std::slice::from_ref(&assertion.method),
            Method::None { .. } => &["none"],
            Method::Anonymous => &[],
        }
    }

    /// The JWS algorithm that the method signs with, which a server's metadata may have to list.
    pub(super) fn signing_alg(&self) -> Option<&'static str> {
        match &self.0 {
            #[cfg(feature = "jwt")]
            Method::Assertion(assertion) => Some(assertion.algorithm()),
            _ => None,
        }
    }

    /// The same secret by the other way that RFC 6749 §2.3.1 has for it.
    pub(super) fn other_way(&self) -> Option<Self> {
        match self.0.clone() {
            Method::Basic { id, secret } | Method::BasicUnencoded { id, secret } => {
                Some(Self(Method::Post { id, secret }))
            }
            Method::Post { id, secret } => Some(Self(Method::Basic { id, secret })),
            _ => None,
        }
    }
}

/// RFC 8705 §2.1.1 and §2.2.1.
const TLS_NAMES: &[&str] = &["tls_client_auth", "self_signed_tls_client_auth"];

/// The server's own words.
fn shown(offered: &[String]) -> String {
    Redactor::new([]).clean(&offered.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn agreed(asked: ClientAuth, methods: &[&str]) -> String {
        let methods = methods.iter().map(|name| (*name).to_owned()).collect();
        match Offered::new(methods, Vec::new()).agree(asked) {
            Ok(client_auth) => format!("{client_auth:?}"),
            Err(error) => error.to_string(),
        }
    }

    #[test]
    fn a_method_is_one_that_both_sides_support() {
        const BASIC: &str = "client_secret_basic";
        const POST: &str = "client_secret_post";
        let basic = || ClientAuth::basic("id", "s");
        let unencoded = || ClientAuth::basic_unencoded("id", "s");
        let post = || ClientAuth::post("id", "s");
        let tls = || ClientAuth::tls_by_transport("id");
        for (asked, methods, expected) in [
            (basic(), &[BASIC, POST][..], "basic"),
            (basic(), &[BASIC], "basic"),
            (basic(), &[POST], "post"),
            (basic(), &[], "basic"),
            (unencoded(), &[POST, BASIC], "basic_unencoded"),
            (unencoded(), &[POST], "post"),
            (post(), &[BASIC, POST], "post"),
            (post(), &["private_key_jwt", BASIC], "basic"),
            (post(), &[], "post"),
            (tls(), &[], "tls_by_transport"),
            (tls(), &["tls_client_auth"], "tls_by_transport"),
            (tls(), &["self_signed_tls_client_auth"], "tls_by_transport"),
            (ClientAuth::none("id"), &[BASIC, "none"], "none"),
            (ClientAuth::none("id"), &[BASIC], "none"),
        ] {
            let shown = format!("{asked:?} of {methods:?}");
            let expected = format!("ClientAuth {{ method: {expected:?}, id: \"id\", .. }}");
            assert_eq!(agreed(asked, methods), expected, "{shown}");
        }
    }

    #[cfg(feature = "jwt")]
    #[test]
    fn an_assertion_is_signed_by_an_algorithm_that_the_server_lists() {
        let methods = || vec![String::from("client_secret_jwt")];
        for (algs, agreed) in [
            (&[][..], true),
            (&["ES256", "HS256"], true),
            (&["ES256"], false),
        ] {
            let algs = algs.iter().map(|alg| (*alg).to_owned()).collect();
            let asked = ClientAuth::client_secret_jwt("id", "hunter2");
            let outcome = Offered::new(methods(), algs).agree(asked);
            assert_eq!(outcome.is_ok(), agreed);
            if let Err(error) = outcome {
                assert_eq!(
                    error.to_string(),
                    "the client's client_secret_jwt is signed with HS256, and the server's \
                     metadata lists only ES256; sign with one of these (SigningKey), or, if the \
                     list is wrong, describe the server by TokenEndpoint::builder(…)"
                );
            }
        }
    }

    #[test]
    fn what_only_one_side_supports_is_refused_with_both_lists() {
        for (asked, methods, parts) in [
            (
                ClientAuth::basic("id", "hunter2"),
                &["private_key_jwt", "tls_client_auth"][..],
                ["client_secret_basic", "private_key_jwt, tls_client_auth"],
            ),
            (
                ClientAuth::post("id", "hunter2"),
                &["none\n\u{1b}[31m"],
                ["client_secret_post", r"none\n\u{1b}[31m"],
            ),
        ] {
            let message = agreed(asked, methods);
            for part in parts {
                assert!(message.contains(part), "{message}");
            }
            assert!(!message.contains("hunter2"), "{message}");
        }
    }
}
