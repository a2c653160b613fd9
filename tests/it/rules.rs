//! What the standards ask of a client that gets tokens, and how others failed at it. A test that
//! holds a rule says so in a comment, `// rule 21` or `// rules 9, F30`; here are the rules, and a
//! test that each has its test.

use std::{
    collections::HashSet,
    fs,
    path::{Path, PathBuf},
};

/// The rules of which at least one comment must speak.
const HELD: &[(&str, &str)] = &[
    (
        "1",
        "one client authentication method per request (RFC 6749 §2.3)",
    ),
    (
        "2",
        "id and secret are form-encoded before Basic (RFC 6749 §2.3.1)",
    ),
    (
        "3",
        "the secret is never in the request URI (RFC 6749 §2.3.1)",
    ),
    (
        "4",
        "no credentials in the body unless that was chosen (RFC 6749 §2.3.1)",
    ),
    ("5", "token requests are POST (RFC 6749 §3.2)"),
    (
        "6",
        "the endpoint's query is kept, and it has no fragment (RFC 6749 §3.2)",
    ),
    ("7", "no parameter twice, none empty (RFC 6749 §3.2)"),
    (
        "8",
        "a confidential client authenticates each time (RFC 6749 §3.2.1)",
    ),
    (
        "9",
        "scopes have the characters that they may have (RFC 6749 §3.3)",
    ),
    ("10", "the granted scope can be seen (RFC 6749 §3.3)"),
    (
        "11",
        "a code is used once, with its redirect URI (RFC 6749 §4.1.3)",
    ),
    ("12", "there is no password grant (RFC 9700 §2.4)"),
    (
        "13",
        "client credentials are for clients with credentials (RFC 6749 §4.4)",
    ),
    (
        "14",
        "a refresh token for client credentials is ignored (RFC 6749 §4.4.3)",
    ),
    (
        "15",
        "access_token and token_type are what they must be (RFC 6749 §5.1)",
    ),
    ("16", "unknown members are ignored (RFC 6749 §5.1)"),
    ("17", "tokens may be long (RFC 6749 §5.1)"),
    (
        "18",
        "a lifetime counts from when the token was asked for (RFC 6749 §5.1)",
    ),
    (
        "19",
        "errors are read, and escaped when shown (RFC 6749 §5.2)",
    ),
    ("20", "a refresh asks for no scope by default (RFC 6749 §6)"),
    (
        "21",
        "a new refresh token takes the old one's place, none keeps it (RFC 6749 §6)",
    ),
    ("22", "a token of another type isn't used (RFC 6749 §7.1)"),
    (
        "23",
        "tokens go to whom they are for (RFC 6749 §10.3, §10.4)",
    ),
    (
        "24",
        "the authorization server's identity is verified (RFC 6749 §10.9)",
    ),
    (
        "25",
        "a file of tokens is for its user alone, and replaced as a whole",
    ),
    ("29", "https, but to loopback (RFC 6750 §5.2)"),
    ("44", "Retry-After is honoured (RFC 9110 §10.2.3)"),
    ("63", "secrets and keys don't print, and are overwritten"),
    (
        "64",
        "mutual TLS sends client_id, and goes to the aliases (RFC 8705 §2, §5)",
    ),
    (
        "65",
        "a rotated certificate is shown at the next token request (RFC 8705 §3)",
    ),
    (
        "66",
        "a resource is an absolute URI without a fragment (RFC 8707 §2)",
    ),
    ("67", "a store's key names all that shapes the token"),
    (
        "68",
        "revocation authenticates; 503 is no success (RFC 7009 §2)",
    ),
    (
        "69",
        "an assertion comes with its exact type (RFC 7521 §4.2)",
    ),
    (
        "70",
        "iss, sub, aud, exp; at most five minutes (RFC 7523 §3)",
    ),
    (
        "71",
        "the audience of an assertion is the issuer (draft-ietf-oauth-rfc7523bis)",
    ),
    ("72", "each attempt has an assertion of its own"),
    ("73", "PKCE by S256, never plain (RFC 7636)"),
    (
        "74",
        "metadata is found where RFC 8414 §3 says, and its issuer is identical",
    ),
    (
        "75",
        "a device polls as slowly as it is told (RFC 8628 §3.5)",
    ),
    (
        "76",
        "a token exchange names types, and its answer does (RFC 8693 §2)",
    ),
    (
        "78",
        "iss of an authorization response is compared (RFC 9207 §2.4)",
    ),
    ("80", "a refresh token is redeemed once (RFC 9700 §4.14)"),
    ("83", "token requests follow no redirect (RFC 9700 §4.12)"),
    (
        "84",
        "a response belongs to the server that was asked (RFC 9700 §4.4)",
    ),
    ("F2", "one flight for every trigger"),
    ("F20", "expires_in of zero, less, nothing"),
    ("F21", "an enormous expires_in"),
    ("F22", "expires_in as a text"),
    ("F23", "several caches that share one refresh token"),
    ("F24", "a lease that ends during the exchange"),
    ("F25", "a rotated token is persisted before it is used"),
    ("F26", "a token file that is torn"),
    ("F28", "a token request that is redirected"),
    ("F29", "secrets in logs, errors, Debug"),
    ("F30", "tokens that break headers"),
    ("F31", "an answer without an end"),
    ("F32", "an answer that drips"),
    ("F34", "servers that decode Basic, and servers that don't"),
    ("F43", "a token in a file that is swapped"),
];

/// Rules that have no test, and why they need none.
const NOT_APPLICABLE: &[(&str, &str)] = &[
    (
        "35",
        "no access token is parsed: nothing in the crate takes one apart",
    ),
    (
        "54",
        "DPoP isn't built; a token of that type is refused (rule 22)",
    ),
    (
        "77",
        "no access token is parsed: a lifetime is what the answer says",
    ),
    (
        "79",
        "step-up isn't built; the challenge passes through to the caller",
    ),
    (
        "82",
        "advice: asymmetric authentication is offered, and chosen by the caller",
    ),
];

#[test]
fn every_rule_has_its_test() {
    let named = named_in_comments();
    let missing: Vec<_> = HELD
        .iter()
        .filter(|(rule, _)| !named.contains(*rule))
        .collect();
    assert!(missing.is_empty(), "no test speaks of {missing:#?}");

    let stale: Vec<_> = NOT_APPLICABLE
        .iter()
        .filter(|(rule, _)| named.contains(*rule))
        .collect();
    assert!(stale.is_empty(), "a test speaks of {stale:#?}");
}

fn named_in_comments() -> HashSet<String> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut named = HashSet::new();
    for file in [sources(&root.join("src")), sources(&root.join("tests"))].concat() {
        for line in fs::read_to_string(file).unwrap().lines() {
            let line = line.trim_start();
            let Some(rules) = line
                .strip_prefix("// rules ")
                .or(line.strip_prefix("// rule "))
            else {
                continue;
            };
            let rules = rules.split(':').next().unwrap_or_default();
            named.extend(rules.split(',').map(|rule| rule.trim().to_owned()));
        }
    }
    named
}

fn sources(folder: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() && !path.ends_with("node_modules") {
            files.extend(sources(&path));
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            files.push(path);
        }
    }
    files
}

// rule 12
#[test]
fn there_is_no_password_grant() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    for file in sources(&root) {
        let code = fs::read_to_string(&file).unwrap();
        let sends = code.contains("\"password\"") || code.contains("grant_type=password");
        assert!(!sends, "{}", file.display());
    }
}
