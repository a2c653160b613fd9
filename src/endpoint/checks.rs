//! What is checked of parameters and headers before anything is sent.

use http::{
    HeaderMap, HeaderName, HeaderValue,
    header::{ACCEPT, AUTHORIZATION, CONTENT_LENGTH, CONTENT_TYPE, TRANSFER_ENCODING},
};

use super::{
    EndpointConfigError,
    redact::SHORTEST_KEY,
    request::form_encoded,
    url::{EndpointUrl, Kind, is_absolute_uri},
};
use crate::secret::SecretString;

/// RFC 6749 §3.2: "Request and response parameters MUST NOT be included more than once."
pub(super) fn checked_params(
    params: Vec<(String, SecretString)>,
) -> Result<Vec<(String, SecretString)>, EndpointConfigError> {
    let mut kept: Vec<(String, SecretString)> = Vec::new();
    for (key, value) in params {
        let problem = if key.is_empty() {
            "its name is empty"
        } else if OWN_PARAMS.contains(&&*key) {
            "this crate sends it itself; set it by the client authentication or the grant"
        } else if value.is_empty() {
            continue;
        } else if key == "resource" && !is_absolute_uri(&value) {
            "it must be an absolute URI without a fragment (RFC 8707 §2), such as \
             https://api.example.com/"
        } else if !REPEATABLE_PARAMS.contains(&&*key) && kept.iter().any(|(other, _)| *other == key)
        {
            "it is given twice, which RFC 6749 §3.2 forbids; give it once"
        } else {
            kept.push((key, value));
            continue;
        };
        return Err(EndpointConfigError::Param { key, problem });
    }
    Ok(kept)
}

/// The same, for what stands in the query of the URL that `params` are sent to.
pub(super) fn check_query(
    kind: Kind,
    url: &EndpointUrl,
    params: &[(String, SecretString)],
) -> Result<(), EndpointConfigError> {
    let sent_there = |key: &str| match kind {
        Kind::Issuer | Kind::Authorization => false,
        Kind::Token | Kind::DeviceAuthorization => {
            let once = !REPEATABLE_PARAMS.contains(&key);
            OWN_PARAMS.contains(&key) || (once && params.iter().any(|(other, _)| other == key))
        }
        Kind::Revocation => REVOCATION_PARAMS.contains(&key),
    };
    let query = url.uri.query().unwrap_or_default();
    let mut keys = form_urlencoded::parse(query.as_bytes()).map(|(key, _)| key);
    match keys.find(|key| sent_there(key)) {
        Some(key) => Err(EndpointConfigError::Param {
            key: key.into_owned(),
            problem: "it stands in the query of the endpoint's URL, and RFC 6749 §3.2 forbids it \
                      twice; take it out there",
        }),
        None => Ok(()),
    }
}

pub(super) fn checked_headers(
    headers: Vec<(String, SecretString)>,
) -> Result<HeaderMap, EndpointConfigError> {
    let mut checked = HeaderMap::new();
    for (name, value) in headers {
        let problem = match (name.parse::<HeaderName>(), HeaderValue::from_str(&value)) {
            (Err(_), _) => "its name is no header name",
            (Ok(name), _) if OWN_HEADERS.contains(&name) => "this crate sends it itself",
            (_, Err(_)) => "its value has a character that a header can't carry; trim it",
            (Ok(name), Ok(mut value)) => {
                value.set_sensitive(true); // it may be a key
                checked.append(name, value);
                continue;
            }
        };
        return Err(EndpointConfigError::Header { name, problem });
    }
    Ok(checked)
}

/// RFC 6749 §7.1: "The client MUST NOT use an access token if it does not understand the token
/// type." So it can be told what a name means, but not that a token is of another kind than it is.
pub(super) fn check_token_types(token_types: &[String]) -> Result<(), EndpointConfigError> {
    for token_type in token_types {
        let problem = match token_type.to_ascii_lowercase().as_str() {
            "" => "it is empty; is the setting missing?",
            "dpop" | "mac" => "it must be sent with a proof of its key, which isn't supported",
            // RFC 8693 §2.2.1.
            "n_a" => "it is no access token",
            _ => continue,
        };
        let token_type = token_type.clone();
        return Err(EndpointConfigError::TokenType {
            token_type,
            problem,
        });
    }
    Ok(())
}

/// The values that may be keys, as they are and as the form has them. What is too short to be one
/// would only blot out the server's words, and a resource is no secret (RFC 8707 §2).
pub(super) fn unshown(
    params: &[(String, SecretString)],
    headers: &[(String, SecretString)],
) -> Vec<SecretString> {
    let params = params
        .iter()
        .filter(|(key, _)| !REPEATABLE_PARAMS.contains(&&**key));
    params
        .chain(headers)
        .flat_map(|(_, value)| [value.clone(), form_encoded(value)])
        .filter(|value| value.len() >= SHORTEST_KEY)
        .collect()
}

/// What the client authentications and the grants send.
const OWN_PARAMS: &[&str] = &[
    "grant_type",
    "scope",
    "client_id",
    "client_secret",
    "client_assertion",
    "client_assertion_type",
    "refresh_token",
    "code",
    "code_verifier",
    "redirect_uri",
    "assertion",
    "device_code",
    "subject_token",
    "subject_token_type",
    "actor_token",
    "actor_token_type",
    "requested_token_type",
];

/// What a revocation sends (RFC 7009 §2.1).
const REVOCATION_PARAMS: &[&str] = &[
    "token",
    "token_type_hint",
    "client_id",
    "client_secret",
    "client_assertion",
    "client_assertion_type",
];

/// RFC 8707 §2: "Multiple resource parameters MAY be used"; RFC 8693 §2.1 says so of `audience`.
const REPEATABLE_PARAMS: &[&str] = &["resource", "audience"];

const OWN_HEADERS: &[HeaderName] = &[
    ACCEPT,
    AUTHORIZATION,
    CONTENT_LENGTH,
    CONTENT_TYPE,
    TRANSFER_ENCODING,
];

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    fn pair(key: &str, value: &str) -> (String, SecretString) {
        (key.to_owned(), SecretString::from(value.to_owned()))
    }

    // rule 7
    #[test]
    fn parameters_stand_once_but_for_those_that_may_repeat() {
        let params = [
            ("resource", "urn:a"),
            ("resource", "urn:b"),
            ("audience", "a"),
            ("x", ""),
            ("x", "1"),
        ];
        let params = params.map(|(key, value)| pair(key, value));
        assert_eq!(checked_params(params.to_vec()).unwrap().len(), 4);
        let twice = [pair("x", "1"), pair("x", "2")];
        assert!(checked_params(twice.to_vec()).is_err());
    }

    #[test]
    fn parameters_of_the_crate_are_its_own() {
        for key in OWN_PARAMS {
            let error = checked_params(vec![pair(key, "hunter2")]).unwrap_err();
            let message = error.to_string();
            assert!(
                message.contains(key) && !message.contains("hunter2"),
                "{message}"
            );
        }
    }

    // rule 66
    #[test]
    fn a_resource_is_an_absolute_uri_without_a_fragment() {
        for good in [
            "https://api.example.com/",
            "urn:example:api",
            "https://[::1]/a?b=c",
        ] {
            assert!(is_absolute_uri(good), "{good}");
        }
        for bad in [
            "api.example.com",
            "/path",
            "https://a/#b",
            "https:",
            "1s:x",
            "https://a b",
        ] {
            let error = checked_params(vec![pair("resource", bad)]).unwrap_err();
            assert!(error.to_string().contains("RFC 8707"), "{bad}: {error}");
        }
    }

    #[test]
    fn what_may_be_a_key_is_not_shown_and_a_resource_is() {
        let params = [
            pair("api_key", "hunter2/hunter2"),
            pair("version", "2"),
            pair("audience", "https://api.example"),
        ];
        let unshown = unshown(&params, &[pair("x-api-key", "hunter2-hunter2")]);
        let unshown: HashSet<&str> = unshown.iter().map(|value| &**value).collect();
        let expected = ["hunter2/hunter2", "hunter2%2Fhunter2", "hunter2-hunter2"];
        assert_eq!(unshown, HashSet::from(expected));
    }
}
