//! What the browser brings back (RFC 6749 §4.1.2): anybody can send it here, so it is judged before
//! anything is done with it.

use crate::{grant::LoginError, secret::SecretString};

/// What an authorization response is judged by.
pub(super) struct Expected<'a> {
    pub(super) state: &'a str,
    pub(super) issuer: Option<&'a str>,
    /// Whether the server names itself in each response (RFC 9207 §3).
    pub(super) iss_in_response: bool,
    /// What may be shown of the server's text.
    pub(super) clean: &'a dyn Fn(&str) -> String,
}

/// What a response is.
#[derive(Debug)]
pub(super) enum Judged {
    /// The one to this login, with a code to exchange.
    Code(SecretString),
    /// The one to this login, which has ended by it.
    Ended(LoginError),
    /// One to another login, or to none: it says nothing about this one.
    NotOurs {
        /// What is wrong with its `state`.
        problem: &'static str,
    },
}

impl Judged {
    /// Where no other response will come.
    pub(super) fn code(self) -> Result<SecretString, LoginError> {
        match self {
            Self::Code(code) => Ok(code),
            Self::Ended(error) => Err(error),
            Self::NotOurs { problem } => Err(LoginError::State { problem }),
        }
    }
}

impl Expected<'_> {
    pub(super) fn judge(&self, query_or_url: &str) -> Judged {
        let response = Response::parse(query(query_or_url));
        let problem = match response.state {
            Parameter::Missing => "it has no state",
            Parameter::Repeated => "its state stands twice",
            Parameter::Once(state) if same(&state, self.state) => {
                let code = self.code(response.rest);
                return code.map_or_else(Judged::Ended, Judged::Code);
            }
            Parameter::Once(_) => "its state is another one's",
        };
        Judged::NotOurs { problem }
    }

    fn code(&self, response: Rest) -> Result<SecretString, LoginError> {
        let iss = response.iss.once()?;
        let (code, error) = (response.code.once()?, response.error.once()?);
        let description = response.error_description.once()?;
        let uri = response.error_uri.once()?;
        self.check_issuer(iss.as_deref())?;
        let shown = |text: SecretString| (self.clean)(&text);
        if let Some(error) = error {
            return Err(LoginError::Refused {
                code: shown(error),
                description: description.map(shown),
                uri: uri.map(shown),
            });
        }
        code.ok_or(LoginError::Response {
            problem: "it has neither a code nor an error",
        })
    }

    /// RFC 9207 §2.4: clients "MUST compare the result to the issuer identifier of the
    /// authorization server where the authorization request was sent to. This comparison MUST use
    /// simple string comparison".
    fn check_issuer(&self, iss: Option<&str>) -> Result<(), LoginError> {
        let as_expected = match (iss, self.issuer) {
            (Some(iss), Some(issuer)) => iss == issuer,
            // With nothing to compare it to, it says nothing.
            (Some(_), None) => true,
            // "Clients MUST reject authorization responses without the iss parameter from
            // authorization servers that do support the parameter".
            (None, _) => !self.iss_in_response,
        };
        if as_expected {
            return Ok(());
        }
        Err(LoginError::Issuer {
            expected: self.issuer.map(ToOwned::to_owned),
            got: iss.map(self.clean),
        })
    }
}

/// The query of a URL, or what is one already.
fn query(text: &str) -> &str {
    // A fragment is the browser's own; RFC 3986 §3.4 has none of it in a query.
    let text = text.split('#').next().unwrap_or_default();
    match text.split_once('?') {
        // A question mark may stand in a query as it is.
        Some((before, _)) if is_query(before) => text,
        Some((_, query)) => query,
        None => text,
    }
}

/// Whether a text that is followed by a question mark is part of a query, not of a URL: there, a
/// path or a scheme comes before the first `=`.
fn is_query(before: &str) -> bool {
    let first = before.find(['=', ':', '/']);
    first.is_some_and(|at| before.get(at..).is_some_and(|rest| rest.starts_with('=')))
}

struct Response {
    state: Parameter,
    rest: Rest,
}

#[derive(Default)]
struct Rest {
    code: Parameter,
    iss: Parameter,
    error: Parameter,
    error_description: Parameter,
    error_uri: Parameter,
}

#[derive(Default)]
enum Parameter {
    #[default]
    Missing,
    Once(SecretString),
    /// RFC 6749 §3.1: "Request and response parameters MUST NOT be included more than once."
    Repeated,
}

impl Parameter {
    fn add(&mut self, value: String) {
        *self = match self {
            Self::Missing => Self::Once(SecretString::from(value)),
            Self::Once(_) | Self::Repeated => Self::Repeated,
        };
    }

    fn once(self) -> Result<Option<SecretString>, LoginError> {
        match self {
            Self::Missing => Ok(None),
            Self::Once(value) => Ok(Some(value)),
            Self::Repeated => Err(LoginError::Response {
                problem: "a parameter stands twice",
            }),
        }
    }
}

impl Response {
    fn parse(query: &str) -> Self {
        let (mut state, mut rest) = (Parameter::Missing, Rest::default());
        for (key, value) in form_urlencoded::parse(query.as_bytes()) {
            let slot = match &*key {
                "state" => &mut state,
                "code" => &mut rest.code,
                "iss" => &mut rest.iss,
                "error" => &mut rest.error,
                "error_description" => &mut rest.error_description,
                "error_uri" => &mut rest.error_uri,
                // RFC 6749 §4.1.2: "The client MUST ignore unrecognized response parameters."
                _ => continue,
            };
            // RFC 6749 §3.1: "Parameters sent without a value MUST be treated as if they were
            // omitted".
            if !value.is_empty() {
                slot.add(value.into_owned());
            }
        }
        Self { state, rest }
    }
}

/// Compares in a time that doesn't depend on where they differ.
fn same(one: &str, other: &str) -> bool {
    let pairs = one.bytes().zip(other.bytes());
    one.len() == other.len() && pairs.fold(0, |differing, (a, b)| differing | (a ^ b)) == 0
}

#[cfg(test)]
mod tests {
    use super::*;

    const ISSUER: &str = "https://as.example";

    fn judge(query_or_url: &str, issuer: Option<&str>, iss_in_response: bool) -> Judged {
        let expected = Expected {
            state: "s3cr3t-state",
            issuer,
            iss_in_response,
            clean: &|text| text.to_uppercase(),
        };
        expected.judge(query_or_url)
    }

    fn ours(query: &str) -> Result<String, LoginError> {
        let judged = judge(&format!("state=s3cr3t-state&{query}"), None, false);
        assert!(!matches!(judged, Judged::NotOurs { .. }), "{judged:?}");
        judged.code().map(|code| code.to_string())
    }

    #[test]
    fn a_query_or_a_url_will_do() {
        for text in [
            "code=4/0A?b%26&state=s3cr3t-state",
            "?code=4/0A?b%26&state=s3cr3t-state",
            "/callback?code=4/0A?b%26&state=s3cr3t-state",
            "http://127.0.0.1:8000/a=b?code=4/0A?b%26&state=s3cr3t-state",
            "com.example.app:/cb?x=&code=4/0A?b%26&state=s3cr3t-state#_=_",
            "code=4%2f0A%3Fb%26&state=s3cr3t-state&session_state=1&session_state=2&error=",
        ] {
            let code = judge(text, None, false).code().unwrap();
            assert_eq!(&*code, "4/0A?b&", "{text}");
        }
    }

    // rule 11
    #[test]
    fn a_response_to_another_login_says_nothing_about_this_one() {
        for text in [
            "",
            "code=c",
            "code=c&state=",
            "code=c&state=s3cr3t-stat",
            "code=c&state=s3cr3t-state2",
            "code=c&state=S3cr3t-state",
            "code=c&state=s3cr3t-state&state=s3cr3t-state",
            "error=access_denied&state=x",
            "code=c#state=s3cr3t-state",
            "https://app.example/callback",
        ] {
            let judged = judge(text, None, false);
            assert!(
                matches!(judged, Judged::NotOurs { .. }),
                "{text}: {judged:?}"
            );
        }
    }

    #[test]
    fn what_stands_twice_or_not_at_all_is_refused() {
        for query in [
            "code=a&code=a",
            "code=a&iss=x&iss=x",
            "error=a&error=b",
            "",
            "code=",
        ] {
            let error = ours(query).unwrap_err();
            assert!(matches!(error, LoginError::Response { .. }), "{query}");
        }
    }

    #[test]
    fn an_error_wins_over_a_code_and_is_cleaned() {
        let error = ours("code=c&error=access_denied&error_description=no+way&error_uri=u");
        let error = error.unwrap_err();
        assert_eq!(error.oauth_code(), Some("ACCESS_DENIED"));
        let shown = error.to_string();
        assert!(shown.contains("ACCESS_DENIED (NO WAY) <U>"), "{shown}");
    }

    // rules 78, 84
    #[test]
    fn the_issuer_is_compared_byte_for_byte_and_required_if_it_was_promised() {
        for (iss, issuer, promised, accepted) in [
            (Some(ISSUER), Some(ISSUER), false, true),
            (Some(ISSUER), Some(ISSUER), true, true),
            (Some("https://as.example/"), Some(ISSUER), false, false),
            (Some("https://AS.example"), Some(ISSUER), false, false),
            (Some("https://evil.example"), Some(ISSUER), true, false),
            (None, Some(ISSUER), false, true),
            (None, Some(ISSUER), true, false),
            (Some(""), Some(ISSUER), true, false),
            (Some(ISSUER), None, false, true),
            (None, None, true, false),
        ] {
            for what in ["code=c", "error=access_denied"] {
                let iss = iss.map_or(String::new(), |iss| format!("&iss={iss}"));
                let query = format!("{what}&state=s3cr3t-state{iss}");
                let judged = judge(&query, issuer, promised);
                let refused = matches!(judged, Judged::Ended(LoginError::Issuer { .. }));
                assert_eq!(refused, !accepted, "{query} {issuer:?} {promised}");
            }
        }
    }

    proptest::proptest! {
        #[test]
        fn whatever_comes_without_the_state_is_not_ours(text in "\\PC*") {
            let judged = judge(&text, Some(ISSUER), true);
            let not_ours = matches!(judged, Judged::NotOurs { .. });
            proptest::prop_assert!(not_ours);
        }

        #[test]
        fn any_code_arrives_as_it_was_sent(code in "\\PC+") {
            let encoded: String = form_urlencoded::byte_serialize(code.as_bytes()).collect();
            proptest::prop_assert_eq!(ours(&format!("code={encoded}")).unwrap(), code);
        }
    }
}
