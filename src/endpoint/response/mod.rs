//! Parse: what an answer of the token endpoint means (RFC 6749 §5.1 and §5.2).
//!
//! Lenient where servers differ and nothing can go wrong; strict about the token itself.

mod words;

use std::{
    sync::Arc,
    time::{Duration, SystemTime},
};

use http::{
    HeaderMap, Uri,
    header::{CONTENT_TYPE, LOCATION},
};
use serde_json::Value;

use self::words::words;
use super::{
    EndpointError,
    fields::Fields,
    pointer::JsonPointer,
    redact::Redactor,
    transport::Answer,
    values::{Unreadable, content_coding, lifetime, owned_text, retry_after, scope, text},
};
use crate::{secret::SecretString, source::means_invalid_grant, token::AccessToken};

/// A successful answer of a token endpoint (RFC 6749 §5.1).
#[derive(Debug)]
pub(crate) struct TokenResponse {
    pub(crate) token: AccessToken,
    /// The next refresh token, if the server sent one: not `null`, not empty.
    pub(crate) refresh_token: Option<SecretString>,
    /// What a token exchange yielded (RFC 8693 §2.2.1).
    pub(crate) issued_token_type: Option<String>,
}

/// What an answer is judged by.
pub(super) struct Expectation<'a> {
    pub(super) url: &'a Arc<str>,
    pub(super) secrets: &'a Redactor,
    pub(super) assume_lifetime: Option<Duration>,
    /// Where in a JSON answer the token is.
    pub(super) wrapped: &'a JsonPointer,
    /// What bearer tokens are called besides.
    pub(super) token_types: &'a [String],
    /// For a `Retry-After` that is a date.
    pub(super) now: SystemTime,
}

impl Expectation<'_> {
    pub(super) fn judge(&self, answer: &Answer) -> Result<TokenResponse, EndpointError> {
        match self.accepted(answer)? {
            Some(fields) => self.granted(answer, fields),
            None => Err(EndpointError::NotATokenResponse {
                url: self.url.clone(),
                status: answer.status,
                content_type: essence(&answer.headers).map(|text| self.secrets.clean(text)),
                content_encoding: self.coding_of(answer),
            }),
        }
    }

    /// The parameters of an answer that is no refusal; `None` if it has none.
    pub(super) fn accepted(&self, answer: &Answer) -> Result<Option<Fields>, EndpointError> {
        if answer.status.is_redirection() {
            return Err(self.redirected(answer));
        }
        let fields = fields(answer, self.wrapped);
        // An error is one in a 200, too: some servers send it so.
        let code = fields.as_ref().and_then(|fields| text(&fields.error));
        if code.is_some() || !answer.status.is_success() {
            return Err(self.refused(answer, code, fields.as_ref()));
        }
        Ok(fields)
    }

    /// RFC 6749 §5.1.
    fn granted(&self, answer: &Answer, fields: Fields) -> Result<TokenResponse, EndpointError> {
        if fields.repeated {
            return Err(self.malformed("a parameter stands twice"));
        }
        // RFC 6749 §7.1: "The client MUST NOT use an access token if it does not understand the
        // token type." A missing one is understood: the servers that leave it out mean Bearer.
        match fields.token_type {
            None | Some(Value::Null) => {}
            Some(Value::String(kind)) if self.is_bearer(&kind) => {}
            Some(Value::String(kind)) => {
                return Err(EndpointError::TokenType {
                    url: self.url.clone(),
                    token_type: self.secrets.clean(&kind),
                });
            }
            Some(_) => return Err(self.malformed("token_type is no text")),
        }
        let token = match fields.access_token {
            None | Some(Value::Null) => return Err(self.without_token(answer)),
            Some(Value::String(token)) => AccessToken::bearer(token),
            Some(_) => return Err(self.malformed("access_token is no text")),
        };
        let mut token = token.map_err(|cause| EndpointError::Token {
            url: self.url.clone(),
            cause,
        })?;
        let lifetime = lifetime(fields.expires_in)
            .map_err(|Unreadable| self.malformed("expires_in is no number of seconds"))?;
        if let Some(lifetime) = lifetime.or(self.assume_lifetime) {
            token = token.expires_in(lifetime);
        }
        let scope = scope(fields.scope)
            .map_err(|Unreadable| self.malformed("scope is neither a text nor a list of texts"))?;
        if let Some(scope) = scope {
            token = token.granted_scope(scope);
        }
        Ok(TokenResponse {
            token,
            refresh_token: owned_text(fields.refresh_token).map(SecretString::from),
            issued_token_type: owned_text(fields.issued_token_type),
        })
    }

    /// RFC 6749 §5.1: the type's value "is case insensitive".
    fn is_bearer(&self, kind: &str) -> bool {
        let told = self.token_types.iter().map(|name| &**name);
        let mut names = told.chain(["bearer"]);
        names.any(|name| kind.eq_ignore_ascii_case(name))
    }

    /// RFC 6749 §5.2.
    fn refused(
        &self,
        answer: &Answer,
        code: Option<&str>,
        fields: Option<&Fields>,
    ) -> EndpointError {
        let shown = |value: Option<&str>| value.map(|text| self.secrets.clean(text));
        let description = fields.and_then(|fields| text(&fields.error_description));
        let in_own_words = || self.words_in(answer);
        let unread = || {
            let coding = self.coding_of(answer).filter(|_| fields.is_none())?;
            Some(format!(
                "a body in the Content-Encoding {coding}, which can't be read"
            ))
        };
        EndpointError::Refused {
            url: self.url.clone(),
            status: answer.status,
            code: code.map(|code| self.shown_code(code)),
            description: shown(description).or_else(in_own_words).or_else(unread),
            uri: shown(fields.and_then(|fields| text(&fields.error_uri))),
            retry_after: retry_after(&answer.headers, self.now),
        }
    }

    fn coding_of(&self, answer: &Answer) -> Option<String> {
        content_coding(&answer.headers).map(|coding| self.secrets.clean(coding))
    }

    /// Programs go by the code: one that is known stays whole where a short secret is a part of it,
    /// and repeats nothing.
    fn shown_code(&self, code: &str) -> String {
        if KNOWN_CODES.contains(&code) || means_invalid_grant(code) {
            code.to_owned()
        } else {
            self.secrets.clean(code)
        }
    }

    fn redirected(&self, answer: &Answer) -> EndpointError {
        EndpointError::Redirected {
            url: self.url.clone(),
            status: answer.status,
            origin: pointed_to(self.url, answer, self.secrets),
        }
    }

    fn malformed(&self, problem: &'static str) -> EndpointError {
        EndpointError::Malformed {
            url: self.url.clone(),
            problem,
            words: None,
        }
    }

    fn without_token(&self, answer: &Answer) -> EndpointError {
        EndpointError::Malformed {
            url: self.url.clone(),
            problem: self.wrapped.no_token(),
            words: self.words_in(answer),
        }
    }

    fn words_in(&self, answer: &Answer) -> Option<String> {
        words(text_of(answer)).map(|text| self.secrets.clean(&text))
    }
}

/// Where the `Location` of an answer from `url` leads, without a user name, a path or a query.
pub(super) fn pointed_to(url: &str, answer: &Answer, secrets: &Redactor) -> Option<String> {
    let location = answer.headers.get(LOCATION)?.to_str().ok()?;
    let here = url.parse::<Uri>().ok()?;
    let scheme = here.scheme_str()?;
    let target: Uri = if location.starts_with("//") {
        format!("{scheme}:{location}").parse().ok()?
    } else {
        location.parse().ok()?
    };
    let authority = target.authority().or(here.authority())?.as_str();
    let host = authority.rsplit('@').next()?;
    let scheme = target.scheme_str().unwrap_or(scheme);
    Some(secrets.clean(&format!("{scheme}://{host}")))
}

/// The parameters, whatever the answer says it is: servers label JSON as text and HTML. `None` if
/// it is neither JSON nor a form.
fn fields(answer: &Answer, wrapped: &JsonPointer) -> Option<Fields> {
    let body = text_of(answer);
    let labelled = |label| {
        essence(&answer.headers).is_some_and(|essence: &str| essence.eq_ignore_ascii_case(label))
    };
    let form = labelled("application/x-www-form-urlencoded")
        || (labelled("text/plain") && !matches!(body, [b'{' | b'[', ..]));
    if form {
        Some(Fields::from_form(body))
    } else {
        Fields::from_json(body, wrapped)
    }
}

/// The body without a byte order mark, and without white space around it.
fn text_of(answer: &Answer) -> &[u8] {
    let body = answer.body.strip_prefix(b"\xef\xbb\xbf");
    body.unwrap_or(&answer.body).trim_ascii()
}

/// The refresh token of a success, whatever else is wrong with that.
pub(super) fn refresh_token_in(answer: &Answer, wrapped: &JsonPointer) -> Option<SecretString> {
    let fields = fields(answer, wrapped).filter(|_| answer.status.is_success())?;
    let sure = text(&fields.error).is_none() && !fields.repeated;
    let refresh_token = owned_text(fields.refresh_token).filter(|_| sure);
    refresh_token.map(SecretString::from)
}

/// The content type without its parameters.
fn essence(headers: &HeaderMap) -> Option<&str> {
    let value = headers.get(CONTENT_TYPE)?.to_str().ok()?;
    Some(value.split(';').next()?.trim())
}

/// RFC 6749 §4.1.2.1 and §5.2, less the one for a grant that is no good; RFC 7009 §2.2.1, RFC 8628 §3.5,
/// RFC 8707 §2; and Entra's word for `access_denied`.
const KNOWN_CODES: &[&str] = &[
    "access_denied",
    "authorization_declined",
    "authorization_pending",
    "expired_token",
    "invalid_client",
    "invalid_request",
    "invalid_scope",
    "invalid_target",
    "server_error",
    "slow_down",
    "temporarily_unavailable",
    "unauthorized_client",
    "unsupported_grant_type",
    "unsupported_token_type",
];

#[cfg(test)]
mod tests;
