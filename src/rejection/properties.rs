//! What holds for all headers: the grammar, the verdict, and that nothing goes wrong.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    reason = "a test that meets the unexpected must fail"
)]

use proptest::collection::vec;
use proptest::prelude::*;

use super::challenge::Complaint;
use super::reading::{self, Challenge};

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1024))]

    // rules 36, 37
    #[test]
    fn what_keeps_to_the_grammar_is_read_as_it_was_meant(header in header()) {
        prop_assert_eq!(reading::strict(&header.lines), Some(header.meant.clone()));
        prop_assert_eq!(reading::complaint(&header.lines), complaint(&header.meant));
    }

    // rule 37
    #[test]
    fn the_scanner_accepts_what_the_grammar_accepts(lines in vec(grammar_text(), 1..3)) {
        let (_, well_formed) = reading::tolerant(&lines);
        prop_assert_eq!(well_formed, grammar::accepts(&lines));
    }

    #[test]
    fn a_bearer_challenge_behind_rubbish_is_found(
        rubbish in "[a-z=:/;'?@(]{1,10}( [a-z=:/;'?@(]{1,10}){0,5}",
        gap in prop_oneof![Just(", "), Just(",")],
    ) {
        let line = format!(r#"{rubbish}{gap}Bearer realm="a", error="insufficient_scope""#);
        let complaint = reading::complaint(&[line.into_bytes()]);
        prop_assert!(complaint >= Complaint::InsufficientScope, "{complaint:?}");
    }

    #[test]
    fn commas_between_parameters_may_be_missing(params in vec(quoted_param(), 0..4)) {
        let mut line = "Bearer ".to_owned();
        for (name, value) in &params {
            line += &format!(r#"{name}="{value}" "#);
        }
        line += r#"error="insufficient_scope""#;
        let complaint = reading::complaint(&[line.into_bytes()]);
        prop_assert_eq!(complaint, Complaint::InsufficientScope);
    }

    // rule 34
    #[test]
    fn any_bytes_are_read_to_the_end(lines in vec(vec(any::<u8>(), 0..200), 0..4)) {
        let bytes: usize = lines.iter().map(Vec::len).sum();
        let (challenges, _) = reading::tolerant(&lines);
        let pieces: usize = challenges.iter().map(|challenge| 1 + challenge.params.len()).sum();
        prop_assert!(pieces <= bytes);
        reading::complaint(&lines);
    }
}

// rule 37
#[test]
fn the_scanner_accepts_what_the_grammar_accepts_in_every_short_text() {
    let mut texts = vec![Vec::new()];
    for _ in 0..6 {
        let longer = texts
            .iter()
            .flat_map(|text| b"a =,\"\\".map(|byte| [text.as_slice(), &[byte]].concat()));
        texts = longer.collect();
        for text in &texts {
            let lines = [text.clone()];
            let (_, well_formed) = reading::tolerant(&lines);
            let text = text.escape_ascii();
            assert_eq!(well_formed, grammar::accepts(&lines), "{text}");
        }
    }
}

#[test]
fn the_time_is_linear_in_the_size_of_the_header() {
    // If a scanner went back for each of these, this test would take minutes.
    for pattern in [
        ",",
        " ",
        "\t",
        "\\",
        "\"",
        "=",
        "a",
        "a ",
        "a,",
        "a=",
        "a=\"",
        "a=\"b, ",
        "a=\"\\",
        "a=\"\\\", ",
        "a=\"\" ",
        "a = ",
        "Bearer",
        "Bearer ",
        ", Bearer a=\"b\"",
        "=\"\\\",\"",
        ",\"",
    ] {
        for prefix in ["", "Bearer ", "Bearer a=\"", "Bearer a=\"\", ", "???"] {
            let line = [prefix, &pattern.repeat(1 << 16), "\""].concat();
            reading::complaint(&[line.into_bytes()]);
        }
    }
}

/// Challenges, and a way to write them.
#[derive(Debug, Clone)]
struct Header {
    meant: Vec<Challenge>,
    lines: Vec<Vec<u8>>,
}

fn header() -> impl Strategy<Value = Header> {
    vec((challenge(), comma(), any::<bool>()), 1..5).prop_map(|challenges| {
        let mut header = Header {
            meant: Vec::new(),
            lines: vec![Vec::new()],
        };
        for ((meant, written), comma, same_line) in challenges {
            if header.meant.is_empty() {
                // Nothing to separate
            } else if same_line {
                header.lines.last_mut().unwrap().extend(comma.bytes());
            } else {
                header.lines.push(Vec::new());
            }
            header.lines.last_mut().unwrap().extend(written);
            header.meant.push(meant);
        }
        header
    })
}

fn challenge() -> impl Strategy<Value = (Challenge, Vec<u8>)> {
    let scheme = prop_oneof![
        Just("Bearer".to_owned()),
        Just("bEARER".to_owned()),
        Just("DPoP".to_owned()),
        token(),
    ];
    let content = prop_oneof![
        Just((None, Vec::new(), Vec::new())),
        "[A-Za-z0-9._~+/-]{1,8}={0,3}".prop_map(|token68| (
            Some(token68.clone().into_bytes()),
            Vec::new(),
            token68.into_bytes()
        )),
        vec((param(), comma()), 1..5).prop_map(|params| {
            let (mut meant, mut written) = (Vec::new(), Vec::new());
            for ((param, text), comma) in params {
                if !meant.is_empty() {
                    written.extend(comma.bytes());
                }
                meant.push(param);
                written.extend(text);
            }
            (None, meant, written)
        }),
    ];
    let space = prop_oneof![Just(" "), Just("   "), Just(" ,,"), Just(" , ,\t")];
    (scheme, space, content).prop_map(|(scheme, space, (token68, params, text))| {
        let space = match (&token68, params.is_empty()) {
            (None, true) => "",
            (Some(_), _) => " ",
            _ => space,
        };
        let written = [scheme.as_bytes(), space.as_bytes(), &text].concat();
        let meant = Challenge {
            scheme: scheme.into_bytes(),
            params,
            token68,
        };
        (meant, written)
    })
}

type Param = (Vec<u8>, Vec<u8>);

fn param() -> impl Strategy<Value = (Param, Vec<u8>)> {
    let name = prop_oneof![
        Just("error".to_owned()),
        Just("ERROR".to_owned()),
        Just("realm".to_owned()),
        token(),
    ];
    let equals =
        prop_oneof![3 => Just("="), 1 => Just(" = "), 1 => Just("\t ="), 1 => Just("= \t")];
    (name, equals, value()).prop_map(|(name, equals, (meant, text))| {
        let written = [name.as_bytes(), equals.as_bytes(), &text].concat();
        ((name.into_bytes(), meant), written)
    })
}

fn value() -> impl Strategy<Value = (Vec<u8>, Vec<u8>)> {
    let code = prop_oneof![
        Just("invalid_token".to_owned()),
        Just("insufficient_scope".to_owned()),
        Just("invalid_request".to_owned()),
        token(),
    ];
    let text = vec(
        prop_oneof![
            8 => any::<u8>().prop_filter("what a field can hold", |byte| {
                *byte == b'\t' || (*byte >= b' ' && *byte != 0x7f)
            }),
            1 => Just(b'"'),
            1 => Just(b'\\'),
            1 => Just(b','),
        ],
        0..12,
    );
    prop_oneof![
        code.clone()
            .prop_map(|code| (code.clone().into_bytes(), code.into_bytes())),
        (
            prop_oneof![code.prop_map(String::into_bytes), text],
            vec(any::<bool>(), 16)
        )
            .prop_map(|(meant, escapes)| {
                let mut written = vec![b'"'];
                for (index, byte) in meant.iter().enumerate() {
                    if matches!(byte, b'"' | b'\\') || escapes[index % escapes.len()] {
                        written.push(b'\\');
                    }
                    written.push(*byte);
                }
                written.push(b'"');
                (meant, written)
            }),
    ]
}

fn token() -> impl Strategy<Value = String> {
    "[A-Za-z0-9!#$%&'*+.^_`|~-]{1,8}"
}

fn comma() -> impl Strategy<Value = &'static str> {
    prop_oneof![Just(", "), Just(","), Just(" \t,\t"), Just(",, ,")]
}

fn quoted_param() -> impl Strategy<Value = (String, String)> {
    ("[a-z_]{1,8}x", "[a-z:/ ,=]{0,12}")
}

/// Short texts of what the grammar has rules for.
fn grammar_text() -> impl Strategy<Value = Vec<u8>> {
    let atom = prop_oneof![
        4 => Just("a"), 4 => Just(" "), 4 => Just("="), 4 => Just(","), 2 => Just("\""), 2 => Just("a a=a"),
        2 => Just("\"a,\""), 1 => Just("\t"), 1 => Just("\\"), 1 => Just("/"), 1 => Just("!"), 1 => Just("\u{e9}"),
    ];
    vec(atom, 0..10).prop_map(|atoms| atoms.concat().into_bytes())
}

/// What the challenges mean, told from the challenges instead of the text.
fn complaint(challenges: &[Challenge]) -> Complaint {
    let is_error = |name: &[u8]| name.eq_ignore_ascii_case(b"error");
    let mut complaints = vec![Complaint::NotBearer];
    for challenge in challenges {
        if challenge.scheme.eq_ignore_ascii_case(b"bearer") {
            complaints.push(Complaint::Unnamed);
            let errors = challenge.params.iter().filter(|(name, _)| is_error(name));
            complaints.extend(errors.map(|(_, code)| {
                let code = String::from_utf8_lossy(code).to_ascii_lowercase();
                match code.trim_matches(|char: char| !char.is_ascii_alphanumeric()) {
                    "" => Complaint::Unnamed,
                    "invalid_token" => Complaint::InvalidToken,
                    "insufficient_scope" => Complaint::InsufficientScope,
                    _ => Complaint::Other,
                }
            }));
        }
    }
    complaints.into_iter().max().unwrap()
}

/// RFC 9110's rules word by word, slow and sure: each rule gives every place at which it can end.
mod grammar {
    type Ends = Vec<usize>;

    /// The end of a field line: a comma (§5.3), but one that no quoted string goes across.
    const LINE_END: u8 = b'\n';

    pub(super) fn accepts(lines: &[Vec<u8>]) -> bool {
        // §5.5: a field value does not include the whitespace around it.
        let trimmed = lines.iter().map(|line| {
            let ows = |byte: &&u8| is_ows(**byte);
            let line = &line[line.iter().take_while(ows).count()..];
            &line[..line.len() - line.iter().rev().take_while(ows).count()]
        });
        let text = trimmed.collect::<Vec<_>>().join(&LINE_END);
        let text = text.as_slice();
        list(text, 0, challenge).contains(&text.len())
    }

    /// `[ element ] *( OWS "," OWS [ element ] )`
    fn list(text: &[u8], at: usize, element: fn(&[u8], usize) -> Ends) -> Ends {
        let optional = |at| [vec![at], element(text, at)].concat();
        let mut ends = optional(at);
        let mut seen = 0;
        while seen < ends.len() {
            for comma in then(&many(text, ends[seen], is_ows), |at| {
                one(text, at, is_comma)
            }) {
                for end in then(&many(text, comma, is_ows), optional) {
                    if !ends.contains(&end) {
                        ends.push(end);
                    }
                }
            }
            seen += 1;
        }
        ends
    }

    /// `auth-scheme [ 1*SP ( token68 / auth-params ) ]`
    fn challenge(text: &[u8], at: usize) -> Ends {
        let schemes = token(text, at);
        let contents = then(&schemes, |at| some(text, at, |byte| byte == b' '));
        let content = |at| [token68(text, at), list(text, at, param)].concat();
        [schemes, then(&contents, content)].concat()
    }

    /// `token BWS "=" BWS ( token / quoted-string )`
    fn param(text: &[u8], at: usize) -> Ends {
        let names = then(&token(text, at), |at| many(text, at, is_ows));
        let equals = then(&names, |at| one(text, at, |byte| byte == b'='));
        let values = then(&equals, |at| many(text, at, is_ows));
        then(&values, |at| [token(text, at), quoted(text, at)].concat())
    }

    fn token68(text: &[u8], at: usize) -> Ends {
        let stems = some(text, at, |byte| {
            byte.is_ascii_alphanumeric() || b"-._~+/".contains(&byte)
        });
        then(&stems, |at| many(text, at, |byte| byte == b'='))
    }

    /// `DQUOTE *( qdtext / quoted-pair ) DQUOTE`
    fn quoted(text: &[u8], at: usize) -> Ends {
        let is_plain = |byte: u8| !matches!(byte, b'"' | b'\\' | LINE_END);
        let mut inner = one(text, at, |byte| byte == b'"');
        let mut seen = 0;
        while seen < inner.len() {
            let pairs = then(&one(text, inner[seen], |byte| byte == b'\\'), |at| {
                one(text, at, |byte| byte != LINE_END)
            });
            for end in [one(text, inner[seen], is_plain), pairs].concat() {
                if !inner.contains(&end) {
                    inner.push(end);
                }
            }
            seen += 1;
        }
        then(&inner, |at| one(text, at, |byte| byte == b'"'))
    }

    fn token(text: &[u8], at: usize) -> Ends {
        some(text, at, |byte| {
            byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
        })
    }

    fn is_comma(byte: u8) -> bool {
        matches!(byte, b',' | LINE_END)
    }

    fn is_ows(byte: u8) -> bool {
        matches!(byte, b' ' | b'\t')
    }

    fn one(text: &[u8], at: usize, is: impl Fn(u8) -> bool) -> Ends {
        text.get(at)
            .filter(|byte| is(**byte))
            .map(|_| at + 1)
            .into_iter()
            .collect()
    }

    fn many(text: &[u8], at: usize, is: impl Fn(u8) -> bool) -> Ends {
        let longest = text[at..].iter().take_while(|byte| is(**byte)).count();
        (at..=at + longest).collect()
    }

    fn some(text: &[u8], at: usize, is: impl Fn(u8) -> bool) -> Ends {
        many(text, at, is).into_iter().skip(1).collect()
    }

    fn then(starts: &[usize], rule: impl Fn(usize) -> Ends) -> Ends {
        let mut ends: Ends = starts.iter().flat_map(|at| rule(*at)).collect();
        ends.sort_unstable();
        ends.dedup();
        ends
    }
}
