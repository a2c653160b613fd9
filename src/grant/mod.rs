//! What the authorization server is asked for: one grant a file, all built on one
//! [`TokenEndpoint`](crate::TokenEndpoint).

mod client_credentials;

use std::{error::Error, fmt};

pub use self::client_credentials::{ClientCredentials, NotConfidential};

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
}
