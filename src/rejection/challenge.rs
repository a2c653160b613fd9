//! What the challenges of a response complain of.
//!
//! The grammar is that of RFC 9110, with the list syntax of §5.6.1 as recipients must accept it:
//!
//! ```text
//! WWW-Authenticate = [ challenge ] *( OWS "," OWS [ challenge ] )                         §11.6.1
//! challenge        = auth-scheme [ 1*SP ( token68 / auth-params ) ]                       §11.3
//! auth-params      = [ auth-param ] *( OWS "," OWS [ auth-param ] )                       §11.2
//! auth-param       = token BWS "=" BWS ( token / quoted-string )                          §11.2
//! token68          = 1*( ALPHA / DIGIT / "-" / "." / "_" / "~" / "+" / "/" ) *"="         §11.2
//! ```
//!
//! Servers break it: parameters without a comma between them, URLs without quotes, quotes that nobody closes. One scanner reads
//! both kinds. As long as the text keeps to the grammar, [`Pieces`] gives exactly what the grammar says. Where it does not, it
//! remembers that ([`Pieces::is_broken`]) and goes on with the next parameter or `Bearer` that it can make out. So a strict
//! and a tolerant reading cannot contradict each other.
//!
//! A parameter that occurs twice does not break a challenge, although §11.2 says that "each parameter name MUST only occur once":
//! to notice it means to remember all names of a header that anyone may have written, and no verdict would be better for it.
//!
//! The scanner borrows, does not recurse, and passes each byte a bounded number of times.

use http::{HeaderMap, HeaderValue, header::WWW_AUTHENTICATE};

/// What the `Bearer` challenges say, by rising weight.
///
/// Several challenges are alternatives (RFC 9110 §11.6.1). The heaviest decides: if one of them names a reason that a
/// fresh token of the same kind does not remove, renewing leads back to the same answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Complaint {
    /// Other schemes are asked for, `Bearer` is not.
    NotBearer,
    /// No reason is given: `Bearer` without an error code, no challenge at all, or nothing that can be read.
    Unnamed,
    /// "The access token provided is expired, revoked, malformed, or invalid for other reasons" (RFC 6750 §3.1).
    InvalidToken,
    /// "The request requires higher privileges than provided by the access token" (RFC 6750 §3.1).
    InsufficientScope,
    /// Any other error code, `invalid_request` (RFC 6750), `insufficient_user_authentication` (RFC 9470) and those nobody knows.
    Other,
}

impl Complaint {
    /// Reads all `WWW-Authenticate` fields.
    pub(super) fn of(headers: &HeaderMap) -> Self {
        let fields = headers.get_all(WWW_AUTHENTICATE).iter();
        Self::read(fields.map(HeaderValue::as_bytes))
    }

    pub(super) fn read<'a>(lines: impl Iterator<Item = &'a [u8]>) -> Self {
        let mut pieces = Pieces::of(lines);
        let mut scheme = None;
        let mut complaint = Self::NotBearer;
        for piece in &mut pieces {
            match piece {
                Piece::Scheme(name) => {
                    let bearer = is_bearer(name);
                    scheme = Some(bearer);
                    if bearer {
                        complaint = complaint.max(Self::Unnamed);
                    }
                }
                Piece::Param(name, value)
                    if scheme == Some(true) && name.eq_ignore_ascii_case(b"error") =>
                {
                    complaint = complaint.max(Self::from_code(value));
                }
                Piece::Param(..) | Piece::Token68(_) => {}
            }
        }
        if scheme.is_none() || pieces.is_broken() {
            complaint = complaint.max(Self::Unnamed);
        }
        complaint
    }

    /// Error codes are case-sensitive, but a server that writes `INVALID_TOKEN` or `'invalid_token'` means nothing else.
    fn from_code(value: Value<'_>) -> Self {
        let code = value.trimmed(|byte| !byte.is_ascii_alphanumeric());
        if code.raw.is_empty() {
            Self::Unnamed
        } else if code.eq_ignore_ascii_case(b"invalid_token") {
            Self::InvalidToken
        } else if code.eq_ignore_ascii_case(b"insufficient_scope") {
            Self::InsufficientScope
        } else {
            Self::Other
        }
    }
}

/// A part of a challenge. What follows a scheme, up to the next one, belongs to it.
#[derive(Debug, Clone, Copy)]
pub(super) enum Piece<'a> {
    Scheme(&'a [u8]),
    Token68(
        #[cfg_attr(not(test), expect(dead_code, reason = "no scheme of ours uses one"))] &'a [u8],
    ),
    Param(&'a [u8], Value<'a>),
}

/// The value of a parameter.
#[derive(Debug, Clone, Copy)]
pub(super) struct Value<'a> {
    /// The token, or what stands between the quotes
    raw: &'a [u8],
    form: Form,
}

#[derive(Debug, Clone, Copy)]
enum Form {
    Token,
    Quoted,
}

/// Takes challenges apart. Expects bytes that a [`HeaderValue`] can hold: no control character but HTAB.
pub(super) struct Pieces<'a, L> {
    lines: L,
    /// What is still to be read of the current line
    rest: &'a [u8],
    at: At,
    params: Params,
    broken: bool,
}

/// What may come next.
#[derive(Debug, Clone, Copy)]
enum At {
    /// At the start of a list element: a challenge, or a parameter of the current one
    Element,
    /// Behind a scheme and a space: a token68, or the first parameter
    Content,
    /// Behind an element: a comma or the end of the line
    End,
    /// Off the grammar: whatever makes sense
    Lost,
}

/// Can the current challenge have (more) parameters?
#[derive(Debug, Clone, Copy)]
enum Params {
    Welcome,
    /// There is no challenge yet, no space behind its scheme, or it has a token68
    Unexpected,
}

impl<'a, L: Iterator<Item = &'a [u8]>> Pieces<'a, L> {
    /// Reads several lines like one, with commas between them (RFC 9110 §5.3).
    pub(super) fn of(lines: L) -> Self {
        Self {
            lines,
            rest: &[],
            at: At::Element,
            params: Params::Unexpected,
            broken: false,
        }
    }

    /// Has the text departed from the grammar so far?
    pub(super) fn is_broken(&self) -> bool {
        self.broken
    }

    fn element(&mut self) -> Option<Piece<'a>> {
        let (name, behind) = split_while(self.rest, is_tchar);
        if name.is_empty() {
            self.lose_the_thread();
            return None;
        }
        if let Some(value) = behind_equals(behind) {
            if let Params::Unexpected = self.params {
                self.broken = true;
            }
            return Some(self.param(name, value));
        }
        self.rest = behind;
        (self.at, self.params) = match behind.first() {
            Some(b' ') => (At::Content, Params::Welcome),
            _ => (At::End, Params::Unexpected),
        };
        Some(Piece::Scheme(name))
    }

    fn content(&mut self) -> Option<Piece<'a>> {
        (_, self.rest) = split_while(self.rest, |byte| byte == b' ');
        // An empty list, or one that starts with empty elements
        if starts_with_separator(self.rest) {
            self.at = At::End;
            return None;
        }
        // First the token68: in `Digest qop=` it is the only reading, and what continues behind the equals sign is none.
        let (token68, behind) = split_token68(self.rest);
        if !token68.is_empty() && matches!(skip_ows(behind).first(), None | Some(b',')) {
            self.rest = behind;
            self.at = At::End;
            self.params = Params::Unexpected;
            return Some(Piece::Token68(token68));
        }
        let (name, behind) = split_while(self.rest, is_tchar);
        match behind_equals(behind) {
            Some(value) if !name.is_empty() => Some(self.param(name, value)),
            _ => {
                self.lose_the_thread();
                None
            }
        }
    }

    fn end(&mut self) {
        self.rest = skip_ows(self.rest);
        match self.rest.split_first() {
            None => self.at = At::Element,
            Some((b',', rest)) => {
                self.rest = rest;
                self.at = At::Element;
            }
            Some(_) => self.lose_the_thread(),
        }
    }

    /// Looks at one word: is it a parameter, or the start of a `Bearer` challenge?
    fn lost(&mut self) -> Option<Piece<'a>> {
        self.rest = skip_ows(self.rest);
        if starts_with_separator(self.rest) {
            self.at = At::End;
            return None;
        }
        let (word, behind) = split_while(self.rest, is_tchar);
        let is_param = !word.is_empty() && behind_equals(behind).is_some();
        if is_param || (is_bearer(word) && starts_with_separator(behind)) {
            return self.element();
        }
        (_, self.rest) = split_while(self.rest, |byte| !is_ows(byte) && byte != b',');
        None
    }

    fn lose_the_thread(&mut self) {
        self.broken = true;
        self.at = At::Lost;
    }

    fn param(&mut self, name: &'a [u8], value: &'a [u8]) -> Piece<'a> {
        self.at = At::End;
        let value = match value.split_first() {
            Some((b'"', quoted)) => self.quoted(quoted),
            _ => self.unquoted(value),
        };
        Piece::Param(name, value)
    }

    fn unquoted(&mut self, text: &'a [u8]) -> Value<'a> {
        let (mut raw, mut behind) = split_while(text, is_tchar);
        if raw.is_empty() || !starts_with_separator(behind) {
            // Somebody forgot the quotes: a URL, mostly.
            self.broken = true;
            (raw, behind) = split_while(text, |byte| !is_ows(byte) && byte != b',');
        }
        self.rest = behind;
        Value {
            raw,
            form: Form::Token,
        }
    }

    fn quoted(&mut self, text: &'a [u8]) -> Value<'a> {
        let (mut raw, mut behind) = split_quoted(text);
        if !behind.is_some_and(starts_with_separator) {
            // Somebody forgot a quote. If what is quoted so contains a comma, then the list had better go on there. The text
            // behind it is read twice, not more: the next opening quote is one that was no part of this string.
            self.broken = true;
            let (until_comma, comma) = split_while(raw, |byte| byte != b',');
            if !comma.is_empty() {
                raw = until_comma;
                behind = text.get(until_comma.len()..);
            }
        }
        self.rest = behind.unwrap_or_default();
        Value {
            raw,
            form: Form::Quoted,
        }
    }
}

impl<'a, L: Iterator<Item = &'a [u8]>> Iterator for Pieces<'a, L> {
    type Item = Piece<'a>;

    fn next(&mut self) -> Option<Piece<'a>> {
        loop {
            let piece = match self.at {
                At::Element => {
                    self.rest = skip_ows(self.rest);
                    match self.rest.split_first() {
                        None => {
                            self.rest = trim(self.lines.next()?, is_ows);
                            None
                        }
                        Some((b',', rest)) => {
                            self.rest = rest;
                            None
                        }
                        Some(_) => self.element(),
                    }
                }
                At::Content => self.content(),
                At::End => {
                    self.end();
                    None
                }
                At::Lost => self.lost(),
            };
            if piece.is_some() {
                return piece;
            }
        }
    }
}

impl<'a> Value<'a> {
    fn trimmed(self, of: impl Fn(u8) -> bool) -> Self {
        Self {
            raw: trim(self.raw, of),
            ..self
        }
    }

    fn eq_ignore_ascii_case(self, text: &[u8]) -> bool {
        self.bytes()
            .map(|byte| byte.to_ascii_lowercase())
            .eq(text.iter().map(u8::to_ascii_lowercase))
    }

    /// The value's bytes, quoted pairs resolved.
    pub(super) fn bytes(self) -> impl Iterator<Item = u8> + 'a {
        let mut raw = self.raw.iter().copied();
        std::iter::from_fn(move || match (raw.next()?, self.form) {
            (b'\\', Form::Quoted) => raw.next(),
            (byte, _) => Some(byte),
        })
    }
}

fn is_bearer(scheme: &[u8]) -> bool {
    scheme.eq_ignore_ascii_case(b"Bearer")
}

/// What stands behind `BWS "=" BWS`, if that is what the text starts with.
fn behind_equals(text: &[u8]) -> Option<&[u8]> {
    skip_ows(text).strip_prefix(b"=").map(skip_ows)
}

/// Is the text at its end, or at a place where it may be cut?
fn starts_with_separator(text: &[u8]) -> bool {
    text.first()
        .is_none_or(|byte| is_ows(*byte) || *byte == b',')
}

fn split_token68(text: &[u8]) -> (&[u8], &[u8]) {
    let (stem, behind) = split_while(text, |byte| {
        byte.is_ascii_alphanumeric() || b"-._~+/".contains(&byte)
    });
    if stem.is_empty() {
        return (stem, behind);
    }
    let (padding, _) = split_while(behind, |byte| byte == b'=');
    text.split_at_checked(stem.len().saturating_add(padding.len()))
        .unwrap_or((text, &[]))
}

/// What stands in a quoted string whose opening quote has been read, and what comes behind its closing quote, if it has one.
fn split_quoted(text: &[u8]) -> (&[u8], Option<&[u8]>) {
    let mut bytes = text.iter().enumerate();
    while let Some((at, byte)) = bytes.next() {
        match byte {
            b'"' => {
                let quoted = text.get(..at).unwrap_or_default();
                return (quoted, text.get(at.saturating_add(1)..));
            }
            // A quoted pair: whatever comes next is meant literally.
            b'\\' => {
                bytes.next();
            }
            _ => {}
        }
    }
    (text, None)
}

fn split_while(text: &[u8], belongs: impl Fn(u8) -> bool) -> (&[u8], &[u8]) {
    let end = text.iter().position(|byte| !belongs(*byte));
    text.split_at_checked(end.unwrap_or(text.len()))
        .unwrap_or((text, &[]))
}

fn skip_ows(text: &[u8]) -> &[u8] {
    split_while(text, is_ows).1
}

fn trim(text: &[u8], of: impl Fn(u8) -> bool) -> &[u8] {
    let end = text.iter().rposition(|byte| !of(*byte));
    let end = end.map_or(0, |last| last.saturating_add(1));
    split_while(text.get(..end).unwrap_or_default(), of).1
}

/// Optional whitespace, RFC 9110 §5.6.3.
fn is_ows(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t')
}

/// A character of a token, RFC 9110 §5.6.2.
fn is_tchar(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}
