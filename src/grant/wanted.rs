//! What a grant asks for: a scope (RFC 6749 §3.3), and where the token will be used (RFC 8707,
//! RFC 8693 §2.1).

use std::{error::Error, fmt};

use crate::{endpoint::is_absolute_uri, source::TokenError};

/// Checked when it is set, refused when it is used, so that setters can be chained.
#[derive(Debug, Clone, Default)]
pub(super) struct Wanted {
    scope: String,
    resources: Vec<String>,
    audiences: Vec<String>,
    /// The first that was wrong.
    invalid: Option<TokenError>,
}

impl Wanted {
    pub(super) fn scope(&mut self, scope: &str) {
        match checked_scope(scope) {
            Ok(scope) => self.scope = scope,
            Err(invalid) => self.refuse(TokenError::permanent(invalid)),
        }
    }

    pub(super) fn resource(&mut self, uri: String) {
        if is_absolute_uri(&uri) {
            self.resources.push(uri);
        } else {
            self.refuse(TokenError::permanent(InvalidResource(uri)));
        }
    }

    pub(super) fn audience(&mut self, audience: String) {
        self.audiences.push(audience);
    }

    /// Whether the same is asked for.
    pub(super) fn is_like(&self, other: &Self) -> bool {
        self.scope == other.scope
            && self.resources == other.resources
            && self.audiences == other.audiences
    }

    /// What is asked for, as one of `identity`'s parts or wishes.
    pub(super) fn each(&self, mut tell: impl FnMut(&str, &str)) {
        tell("scope", &self.scope);
        for resource in &self.resources {
            tell("resource", resource);
        }
        for audience in &self.audiences {
            tell("audience", audience);
        }
    }

    fn refuse(&mut self, error: TokenError) {
        self.invalid.get_or_insert(error);
    }

    /// The grant's parameters and these.
    ///
    /// # Errors
    ///
    /// What was wrong when it was set.
    pub(super) fn with<'a>(
        &'a self,
        grant: &[(&'a str, &'a str)],
    ) -> Result<Vec<(&'a str, &'a str)>, TokenError> {
        let scope = ("scope", self.scope.as_str());
        self.targets_after(grant.iter().copied().chain([scope]))
    }

    /// The grant's parameters, and where the token will be used; for grants that stand for a scope.
    ///
    /// # Errors
    ///
    /// As [`with`](Self::with).
    pub(super) fn targets_with<'a>(
        &'a self,
        grant: &[(&'a str, &'a str)],
    ) -> Result<Vec<(&'a str, &'a str)>, TokenError> {
        self.targets_after(grant.iter().copied())
    }

    fn targets_after<'a>(
        &'a self,
        params: impl Iterator<Item = (&'a str, &'a str)>,
    ) -> Result<Vec<(&'a str, &'a str)>, TokenError> {
        if let Some(invalid) = &self.invalid {
            return Err(invalid.clone());
        }
        let several = |key: &'a str, values: &'a [String]| {
            values.iter().map(move |value| (key, value.as_str()))
        };
        Ok(params
            .chain(several("resource", &self.resources))
            .chain(several("audience", &self.audiences))
            .collect())
    }
}

/// Checks a scope and separates its words by single spaces; empty means "none asked for".
///
/// RFC 6749 §3.3: `scope-token = 1*( %x21 / %x23-5B / %x5D-7E )`: visible ASCII but `"` and `\`.
fn checked_scope(text: &str) -> Result<String, InvalidScope> {
    let illegal = |byte: u8| !matches!(byte, b' ' | 0x21 | 0x23..=0x5b | 0x5d..=0x7e);
    if let Some(at) = text.bytes().position(illegal) {
        return Err(InvalidScope { at });
    }
    let words: Vec<&str> = text.split(' ').filter(|word| !word.is_empty()).collect();
    Ok(words.join(" "))
}

/// A scope that RFC 6749 §3.3 doesn't allow, found before anything was sent. The caller has to
/// mend it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct InvalidScope {
    /// The offset in bytes of the first character that isn't allowed.
    pub at: usize,
}

impl fmt::Display for InvalidScope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "the scope has a character at byte {} that RFC 6749 §3.3 doesn't allow: give words of \
             visible ASCII without quotes and backslashes, separated by spaces",
            self.at
        )
    }
}

impl Error for InvalidScope {}

/// A resource that RFC 8707 §2 doesn't allow, found before anything was sent. The caller has to
/// mend it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InvalidResource(String);

impl fmt::Display for InvalidResource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "the resource {:?} is no absolute URI without a fragment, which RFC 8707 §2 asks for; \
             expected is such as https://api.example.com/",
            self.0
        )
    }
}

impl Error for InvalidResource {}

#[cfg(test)]
mod tests {
    use super::*;

    // rule 9
    #[test]
    fn a_scope_has_the_characters_of_rfc_6749_section_3_3() {
        for (bad, at) in [
            ("a\"b", 1),
            ("a\\b", 1),
            ("ab\tc", 2),
            ("\u{e9}", 0),
            ("a\n", 1),
        ] {
            assert_eq!(checked_scope(bad), Err(InvalidScope { at }), "{bad:?}");
        }
        let all: String = (0x21..=0x7e).map(char::from).collect();
        let legal = all.replace(['"', '\\'], "");
        assert_eq!(checked_scope(&legal), Ok(legal));
    }

    #[test]
    fn words_are_separated_by_single_spaces() {
        assert_eq!(checked_scope(" a  b "), Ok(String::from("a b")));
        assert_eq!(checked_scope(" "), Ok(String::new()));
    }

    // rules 7, 66
    #[test]
    fn what_is_wanted_follows_the_grant_and_the_first_mistake_is_told() {
        let mut wanted = Wanted::default();
        wanted.scope("read  write");
        wanted.resource(String::from("https://api.example/"));
        wanted.audience(String::from("a"));
        wanted.audience(String::from("b"));
        let grant = [("grant_type", "x")];
        assert_eq!(
            wanted.with(&grant).unwrap(),
            [
                ("grant_type", "x"),
                ("scope", "read write"),
                ("resource", "https://api.example/"),
                ("audience", "a"),
                ("audience", "b"),
            ]
        );
        wanted.resource(String::from("api.example/"));
        wanted.scope("\"");
        let error = wanted.with(&grant).unwrap_err();
        assert!(error.get_ref().is::<InvalidResource>() && !error.is_transient());
    }
}
