//! Revoke: tells the authorization server that a token is no longer needed (RFC 7009).

use super::{Encoding, TokenEndpoint, request::TokenRequest};
use crate::{source::TokenError, token::AccessToken};

/// What a token that is revoked is (RFC 7009 §2.1, `token_type_hint`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum TokenKind {
    AccessToken,
    RefreshToken,
}

impl TokenKind {
    fn hint(self) -> &'static str {
        match self {
            Self::AccessToken => "access_token",
            Self::RefreshToken => "refresh_token",
        }
    }
}

impl TokenEndpoint {
    /// Revokes the access token that is held, if one is.
    pub(crate) async fn revoke_held(&self, held: Option<&AccessToken>) -> Result<(), TokenError> {
        match held {
            Some(held) => {
                self.revoke(held.expose_secret(), TokenKind::AccessToken)
                    .await
            }
            None => Ok(()),
        }
    }

    /// Revokes one token. Where no revocation endpoint is known, there is nothing to do.
    ///
    /// The extra parameters of token requests don't go along: they say what to grant.
    pub(crate) async fn revoke(&self, token: &str, kind: TokenKind) -> Result<(), TokenError> {
        let endpoint = &*self.0;
        let Some(url) = endpoint.server.revocation.url()? else {
            return Ok(());
        };
        let params = [("token", token), ("token_type_hint", kind.hint())];
        let mut request = TokenRequest::of(params);
        let secrets = endpoint.authenticate(url, &mut request)?;
        let answer = endpoint
            .send(url, request, Encoding::Form, &secrets)
            .await?;
        // RFC 7009 §2.2: 200 "if the token has been revoked successfully or if the client submitted
        // an invalid token", and "the content of the response body is ignored".
        if answer.status.is_success() {
            return Ok(());
        }
        endpoint.expectation(url, &secrets).accepted(&answer)?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::{
        convert::Infallible,
        sync::{Arc, Mutex},
        time::Duration,
    };

    use bytes::Bytes;
    use http::{
        Request, Response,
        header::{AUTHORIZATION, RETRY_AFTER},
    };
    use http_body_util::{BodyExt, Full};

    use super::*;
    use crate::endpoint::{ClientAuth, TokenEndpointBuilder};

    type Sent = Arc<Mutex<Vec<String>>>;

    /// Answers each revocation so.
    fn server(status: u16, answer: &'static str) -> (TokenEndpointBuilder, Sent) {
        let sent = Sent::default();
        let transport = tower::service_fn({
            let sent = Arc::clone(&sent);
            move |request: Request<Full<Bytes>>| {
                let sent = Arc::clone(&sent);
                async move {
                    let (head, body) = request.into_parts();
                    let body = body.collect().await?.to_bytes();
                    let authorization = head.headers.get(AUTHORIZATION);
                    sent.lock().unwrap().push(format!(
                        "{} {} {} {}",
                        head.method,
                        head.uri,
                        authorization.map_or("-", |value| value.to_str().unwrap()),
                        String::from_utf8_lossy(&body),
                    ));
                    let response = Response::builder().status(status).header(RETRY_AFTER, "7");
                    Ok::<_, Infallible>(response.body(String::from(answer)).unwrap())
                }
            }
        });
        let builder = TokenEndpoint::builder("https://as.example/token")
            .param("audience", "https://api.example")
            .transport(transport);
        (builder, sent)
    }

    // rule 68
    #[tokio::test]
    async fn the_client_authenticates_as_for_a_token_and_any_success_is_one() {
        for (auth, expected) in [
            (
                ClientAuth::basic("id", "pw"),
                "POST https://as.example/revoke?x=1 Basic aWQ6cHc= \
                 token=t+1&token_type_hint=refresh_token",
            ),
            (
                ClientAuth::post("id", "pw"),
                "POST https://as.example/revoke?x=1 - \
                 token=t+1&token_type_hint=refresh_token&client_id=id&client_secret=pw",
            ),
            (
                ClientAuth::none("id"),
                "POST https://as.example/revoke?x=1 - \
                 token=t+1&token_type_hint=refresh_token&client_id=id",
            ),
        ] {
            // RFC 7009 §2.2: the body of a success says nothing.
            let (builder, sent) = server(200, r#"{"error":"invalid_token"}"#);
            let endpoint = builder
                .client_auth(auth)
                .revocation_endpoint("https://as.example/revoke?x=1")
                .build()
                .unwrap();
            let revoked = endpoint.revoke("t 1", TokenKind::RefreshToken).await;
            revoked.unwrap();
            assert_eq!(*sent.lock().unwrap(), [expected]);
        }
    }

    #[tokio::test]
    async fn without_a_revocation_endpoint_nothing_is_sent() {
        let (builder, sent) = server(200, "");
        let endpoint = builder.client_auth(ClientAuth::none("id")).build().unwrap();
        let revoked = endpoint.revoke("t", TokenKind::AccessToken).await;
        revoked.unwrap();
        assert!(sent.lock().unwrap().is_empty());
    }

    // rule 68
    #[tokio::test]
    async fn a_refusal_says_whether_to_try_again() {
        for (status, answer, transient, part) in [
            (503, "", true, "trying again later"),
            (
                400,
                r#"{"error":"unsupported_token_type"}"#,
                false,
                "until they expire",
            ),
            (
                401,
                r#"{"error":"invalid_client","error_description":"t0k3n"}"#,
                false,
                "[redacted]",
            ),
            (307, "", false, "redirects"),
        ] {
            let (builder, sent) = server(status, answer);
            let endpoint = builder
                .client_auth(ClientAuth::none("id"))
                .revocation_endpoint("https://as.example/revoke")
                .build()
                .unwrap();
            let revoked = endpoint.revoke("t0k3n", TokenKind::AccessToken).await;
            let error = revoked.unwrap_err();
            assert_eq!(error.is_transient(), transient, "{error}");
            let message = error.to_string();
            assert!(message.contains(part), "{message}");
            assert!(message.contains("https://as.example/revoke"), "{message}");
            if status == 503 {
                assert_eq!(error.retry_after(), Some(Duration::from_secs(7)));
            }
            assert_eq!(sent.lock().unwrap().len(), 1);
        }
    }
}
