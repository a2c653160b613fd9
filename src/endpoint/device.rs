//! The device authorization endpoint (RFC 8628 §3.1 and §3.2): codes for a person to type in
//! elsewhere.

use std::time::Duration;

use serde_json::Value;

use super::{
    Encoding, EndpointError, TokenEndpoint,
    fields::Fields,
    response::Expectation,
    transport::Answer,
    values::{content_coding, lifetime, owned_text},
};
use crate::{secret::SecretString, source::TokenError};

/// A device authorization response (RFC 8628 §3.2).
#[derive(Debug)]
pub(crate) struct DeviceAuthorization {
    pub(crate) device_code: SecretString,
    /// Shown to a person, and to nobody else: who types it in grants the device access.
    pub(crate) user_code: SecretString,
    pub(crate) verification_uri: String,
    /// With the user code in it.
    pub(crate) verification_uri_complete: Option<SecretString>,
    pub(crate) expires_in: Duration,
    pub(crate) interval: Duration,
}

impl TokenEndpoint {
    /// One device authorization request; `None` if it isn't known where to. The client
    /// authenticates as in token requests (RFC 8628 §3.1).
    pub(crate) async fn authorize_device(
        &self,
        params: &[(&str, &str)],
    ) -> Result<Option<DeviceAuthorization>, TokenError> {
        let endpoint = &*self.0;
        let Some(url) = endpoint.server.device_authorization.url()? else {
            return Ok(None);
        };
        // RFC 8628 §3.1 requires it only of clients that don't authenticate; some servers, of all.
        let id = endpoint.client_auth.id_beside_the_form();
        let params = [params, &[("client_id", id.unwrap_or_default())]].concat();
        let (answer, secrets) = endpoint.ask(url, &params, Encoding::Form).await?;
        let expectation = endpoint.expectation(url, &secrets);
        Ok(Some(expectation.device_authorization(&answer)?))
    }
}

impl Expectation<'_> {
    fn device_authorization(&self, answer: &Answer) -> Result<DeviceAuthorization, EndpointError> {
        let fields = self.accepted(answer)?;
        let broken = |problem| EndpointError::DeviceAuthorization {
            url: self.url.clone(),
            status: answer.status,
            problem,
        };
        fields
            .ok_or_else(|| match content_coding(&answer.headers) {
                Some(_) => "it has a Content-Encoding, and only identity was asked for",
                None => "it is neither JSON nor a form",
            })
            .and_then(codes)
            .map_err(broken)
    }
}

fn codes(fields: Fields) -> Result<DeviceAuthorization, &'static str> {
    if fields.repeated {
        return Err("a parameter stands twice");
    }
    let code = |value, missing| {
        let code = owned_text(value).map(SecretString::from).ok_or(missing)?;
        if code.contains(unshowable) {
            return Err("a code has a control character");
        }
        Ok(code)
    };
    let device_code = code(fields.device_code, "it has no device_code")?;
    let user_code = code(fields.user_code.map(digits), "it has no user_code")?;
    let verification_uri = owned_text(fields.verification_uri)
        .or(owned_text(fields.verification_url))
        .ok_or("it has no verification_uri")?;
    if !is_web_page(&verification_uri) {
        return Err("verification_uri is no https or http URL");
    }
    Ok(DeviceAuthorization {
        device_code,
        user_code,
        verification_uri,
        // RFC 8628 §3.2: it is optional, and one can do without.
        verification_uri_complete: owned_text(fields.verification_uri_complete)
            .filter(|uri| is_web_page(uri))
            .map(SecretString::from),
        expires_in: seconds(fields.expires_in).unwrap_or(DEFAULT_LIFETIME),
        interval: seconds(fields.interval).unwrap_or(DEFAULT_INTERVAL),
    })
}

/// Some servers send a code of digits as a number.
fn digits(value: Value) -> Value {
    match value.as_u64() {
        Some(number) => Value::String(number.to_string()),
        None => value,
    }
}

/// What is unreadable isn't worth a failed login: polling by the defaults is.
fn seconds(value: Option<Value>) -> Option<Duration> {
    lifetime(value).ok().flatten()
}

/// Whatever could make a terminal show something else than was sent.
fn unshowable(character: char) -> bool {
    character.is_control()
        || matches!(character, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}'
            | '\u{2060}'..='\u{206f}' | '\u{feff}')
}

/// People type it in and programs open it: it must be neither a script nor a file.
fn is_web_page(uri: &str) -> bool {
    let scheme = uri.split_once("://").map(|(scheme, _)| scheme);
    scheme.is_some_and(|scheme| {
        scheme.eq_ignore_ascii_case("https") || scheme.eq_ignore_ascii_case("http")
    }) && uri.bytes().all(|byte| byte.is_ascii_graphic())
}

/// RFC 8628 §3.2: "If no value is provided, clients MUST use 5 as the default."
const DEFAULT_INTERVAL: Duration = Duration::from_secs(5);

/// RFC 8628 §3.2 requires one. For servers that leave it out: they say themselves when it is over.
const DEFAULT_LIFETIME: Duration = Duration::from_secs(15 * 60);

#[cfg(test)]
mod tests {
    use super::{super::pointer::JsonPointer, *};

    fn read(json: &str) -> Result<DeviceAuthorization, &'static str> {
        codes(Fields::from_json(json.as_bytes(), &JsonPointer::default()).unwrap())
    }

    fn with(rest: &str) -> Result<DeviceAuthorization, &'static str> {
        read(&format!(
            r#"{{"device_code":"d","user_code":"U-1","verification_uri":"https://as.example/d"{rest}}}"#
        ))
    }

    // rule 75
    #[test]
    fn an_interval_and_a_lifetime_are_read_as_servers_send_them() {
        for (rest, interval, lifetime) in [
            (r#","expires_in":1800,"interval":7"#, 7, 1800),
            (r#","expires_in":"1800","interval":"7""#, 7, 1800),
            (r#","expires_in":1800"#, 5, 1800),
            (r#","expires_in":1800,"interval":0"#, 5, 1800),
            (r#","expires_in":1800,"interval":null"#, 5, 1800),
            (r#","expires_in":1800,"interval":"soon""#, 5, 1800),
            ("", 5, 900),
            (
                r#","expires_in":1e300,"interval":1e300"#,
                i32::MAX,
                i32::MAX,
            ),
        ] {
            let read = with(rest).unwrap();
            let seconds = |number: i32| Duration::from_secs(u64::try_from(number).unwrap());
            assert_eq!(read.interval, seconds(interval), "{rest}");
            assert_eq!(read.expires_in, seconds(lifetime), "{rest}");
        }
    }

    #[test]
    fn a_verification_url_is_a_verification_uri() {
        let read = read(
            r#"{"device_code":"d","user_code":"u","verification_url":"https://as.example/d"}"#,
        );
        assert_eq!(read.unwrap().verification_uri, "https://as.example/d");
    }

    #[test]
    fn a_user_code_may_be_a_number() {
        let read = read(
            r#"{"device_code":"d","user_code":123456,"verification_uri":"https://as.example/d"}"#,
        );
        assert_eq!(&*read.unwrap().user_code, "123456");
    }

    #[test]
    fn what_cannot_be_shown_is_refused() {
        for json in [
            "{}",
            r#"{"user_code":"u","verification_uri":"https://as.example/d"}"#,
            r#"{"device_code":"d","verification_uri":"https://as.example/d"}"#,
            r#"{"device_code":"d","user_code":"u"}"#,
            r#"{"device_code":"d","user_code":-7,"verification_uri":"https://as.example/d"}"#,
            r#"{"device_code":7,"user_code":"u","verification_uri":"https://as.example/d"}"#,
            r#"{"device_code":"d","user_code":"\u001b[2J","verification_uri":"https://as.example/d"}"#,
            r#"{"device_code":"d","user_code":"\u202eu","verification_uri":"https://as.example/d"}"#,
            r#"{"device_code":"d","user_code":"u","verification_uri":"javascript:alert(1)"}"#,
            r#"{"device_code":"d","user_code":"u","verification_uri":"file:///etc/passwd"}"#,
            r#"{"device_code":"d","user_code":"u","verification_uri":"https://as.example/d\n"}"#,
            r#"{"device_code":"d","user_code":"u","verification_uri":"https://\u0430s.example/d"}"#,
            r#"{"device_code":"d","user_code":"u","user_code":"v","verification_uri":"https://as.example/d"}"#,
        ] {
            assert!(read(json).is_err(), "{json}");
        }
        let complete = r#","verification_uri_complete":"javascript:alert(1)""#;
        assert!(with(complete).unwrap().verification_uri_complete.is_none());
    }
}
