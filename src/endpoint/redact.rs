//! What may be shown of a server's text: servers repeat what they were sent.

use crate::secret::SecretString;

/// The longest text of a server that an error keeps, in characters.
const SHOWN: usize = 256;

/// The shortest secret that is looked for.
const SHORTEST: usize = 3;

/// The shortest value of a setting that may be a key.
pub(super) const SHORTEST_KEY: usize = 8;

/// Knows the secrets of one request, to keep them out of what is shown of its answer.
pub(super) struct Redactor {
    /// Longest first, so that the base64 of a secret isn't shown for the secret inside it.
    secrets: Vec<SecretString>,
}

impl Redactor {
    pub(super) fn new(secrets: impl IntoIterator<Item = SecretString>) -> Self {
        let mut secrets: Vec<_> = secrets
            .into_iter()
            // A shorter one protects nothing, and would be found in every other word.
            .filter(|text| text.len() >= SHORTEST)
            .collect();
        secrets.sort_by_key(|text| std::cmp::Reverse(text.len()));
        Self { secrets }
    }

    /// One that knows these as well.
    pub(super) fn and(self, more: impl IntoIterator<Item = SecretString>) -> Self {
        Self::new(self.secrets.into_iter().chain(more))
    }

    /// The text with known secrets replaced, anything but visible ASCII and spaces escaped (log
    /// injection; RFC 6749 §5.2 allows no other character anyway), and cut.
    pub(super) fn clean(&self, text: &str) -> String {
        let mut shown = String::new();
        let mut rest = text;
        loop {
            if let Some(after) = self.after_secret(rest) {
                shown.push_str("[redacted]");
                rest = after;
            } else {
                let mut characters = rest.chars();
                let Some(next) = characters.next() else {
                    return shown;
                };
                match next {
                    ' '..='~' if next != '\\' => shown.push(next),
                    _ => shown.extend(next.escape_default()),
                }
                rest = characters.as_str();
            }
            if shown.len() >= SHOWN && !rest.is_empty() {
                shown.truncate(SHOWN); // all ASCII so far
                shown.push('…');
                return shown;
            }
        }
    }

    fn after_secret<'a>(&self, text: &'a str) -> Option<&'a str> {
        self.secrets.iter().find_map(|secret| {
            text.strip_prefix(&**secret)
                .or_else(|| spelled(text, secret))
        })
    }
}

/// What follows `secret` where it is spelled as in a URL (`%2F`, and `+` for a space), as in a JSON
/// text (`\/` or `\u002f`) or as in HTML (`&amp;`), all of it or in part.
fn spelled<'a>(text: &'a str, secret: &str) -> Option<&'a str> {
    secret.chars().try_fold(text, |rest, next| {
        percent(rest, next)
            .or_else(|| escape(rest, next))
            .or_else(|| reference(rest, next))
            .or_else(|| rest.strip_prefix(next))
            .or_else(|| rest.strip_prefix('+').filter(|_| next == ' '))
    })
}

/// RFC 3986 §2.1.
fn percent(text: &str, spells: char) -> Option<&str> {
    let mut octets = [0; 4];
    let mut octets = spells.encode_utf8(&mut octets).bytes();
    octets.try_fold(text, |rest, octet| {
        hex::<2>(rest.strip_prefix('%')?, octet.into())
    })
}

/// RFC 8259 §7.
fn escape(text: &str, spells: char) -> Option<&str> {
    let mut units = [0; 2];
    let mut units = spells.encode_utf16(&mut units).iter();
    let numbered = units.try_fold(text, |rest, unit| {
        hex::<4>(rest.strip_prefix("\\u")?, (*unit).into())
    });
    let short = || {
        let escaped = text.strip_prefix('\\')?;
        escaped
            .strip_prefix(spells)
            .filter(|_| "\"\\/".contains(spells))
    };
    numbered.or_else(short)
}

/// HTML's character references: `&lt;`, `&#60;` or `&#x3c;`.
fn reference(text: &str, spells: char) -> Option<&str> {
    let (name, rest) = text.strip_prefix('&')?.split_once(';')?;
    let number = match name.strip_prefix('#') {
        None => return named(spells).contains(&name).then_some(rest),
        Some(number) => number,
    };
    let (digits, radix) = match number.strip_prefix(['x', 'X']) {
        Some(digits) => (digits, 16),
        None => (number, 10),
    };
    let is_it = u32::from_str_radix(digits, radix) == Ok(spells.into()) && !digits.starts_with('+');
    is_it.then_some(rest)
}

/// The names that escaping to HTML gives.
fn named(character: char) -> &'static [&'static str] {
    match character {
        '&' => &["amp"],
        '<' => &["lt"],
        '>' => &["gt"],
        '"' => &["quot"],
        '\'' => &["apos"],
        _ => &[],
    }
}

/// What follows a number of `DIGITS` digits.
fn hex<const DIGITS: usize>(text: &str, number: u32) -> Option<&str> {
    let (digits, rest) = text.split_at_checked(DIGITS)?;
    let is_it = u32::from_str_radix(digits, 16) == Ok(number) && !digits.starts_with('+');
    is_it.then_some(rest)
}

/// What a server may repeat of a JWT (RFC 7515 §7.1) without the rest.
pub(super) fn parts_of_jwt(secret: &SecretString) -> impl Iterator<Item = SecretString> {
    // A shorter one would only blot out the server's words.
    let long = |part: &&str| part.len() >= 8 && part.len() < secret.len();
    let parts = secret.split('.').filter(long);
    parts.map(|part| SecretString::from(part.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn knowing(secrets: &[&str]) -> Redactor {
        Redactor::new(
            secrets
                .iter()
                .map(|text| SecretString::from((*text).to_owned())),
        )
    }

    #[test]
    fn known_secrets_are_replaced_wherever_they_stand() {
        let redactor = knowing(&["s3cr3t", "", "aWQ6czNjcjN0"]);
        assert_eq!(
            redactor.clean("s3cr3t, bad secret s3cr3ts3cr3t (Basic aWQ6czNjcjN0)"),
            "[redacted], bad secret [redacted][redacted] (Basic [redacted])"
        );
    }

    #[test]
    fn a_secret_is_found_however_it_is_spelled() {
        let redactor = knowing(&["1//0g a+\"b\\=\u{e9}<"]);
        for spelled in [
            "1//0g a+\"b\\=\u{e9}<",
            "1%2F%2F0g+a%2B%22b%5C%3D%C3%A9%3C",
            "1%2f%2f0g%20a%2b%22b%5c%3d%c3%a9%3c",
            "%31//0g%20a+%22b\\=\u{e9}<",
            r#"1\/\/0g a+\"b\\=\u00e9\u003c"#,
            r#"1\u002F\u002f0g a\u002b\u0022b\u005c\u003d\u00E9\u003C"#,
        ] {
            let text = format!("<{spelled}>");
            assert_eq!(redactor.clean(&text), "<[redacted]>", "{spelled}");
        }
        for other in ["%3", "%zz", r"\u00", r"\", "1%2F%2"] {
            assert!(!redactor.clean(other).contains("redacted"), "{other}");
        }
    }

    #[test]
    fn a_secret_is_found_in_a_page_of_html() {
        let redactor = knowing(&["p&ss<w0rd>'\"q"]);
        for spelled in [
            "p&amp;ss&lt;w0rd&gt;&apos;&quot;q",
            "p&amp;ss&lt;w0rd&gt;&#39;&#34;q",
            "p&#38;ss&#x3C;w0rd&#x3e;&#x27;&#x00022;&#113;",
            "p&ss&lt;w0rd>'&quot;q",
        ] {
            let text = format!("<{spelled}>");
            assert_eq!(redactor.clean(&text), "<[redacted]>", "{spelled}");
        }
        for other in ["p&amp", "p&#", "p&#;", "p&#x;", "p&#x26", "p&#+38;ss"] {
            assert_eq!(redactor.clean(other), other);
        }
    }

    #[test]
    fn a_secret_is_not_shown_by_the_half_where_the_text_is_cut() {
        let text = format!("{}s3cr3t", "x".repeat(SHOWN - 3));
        let shown = knowing(&["s3cr3t"]).clean(&text);
        assert!(!shown.contains("s3c"), "{shown}");
    }

    #[test]
    fn a_secret_inside_another_shows_neither() {
        assert_eq!(
            knowing(&["abc", "abcdef"]).clean("abcdef abc"),
            "[redacted] [redacted]"
        );
    }

    #[test]
    fn whatever_could_break_a_log_line_is_escaped() {
        assert_eq!(
            knowing(&[]).clean("line1\r\nline2\u{1b}[31m caf\u{e9} \\n"),
            "line1\\r\\nline2\\u{1b}[31m caf\\u{e9} \\\\n"
        );
    }

    #[test]
    fn long_texts_are_cut() {
        let shown = knowing(&[]).clean(&"\u{1}".repeat(1_000_000));
        assert_eq!(shown.chars().count(), SHOWN + 1);
    }
}
