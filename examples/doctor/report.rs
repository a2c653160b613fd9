//! The table, and the code that fits.

use std::fmt::Write;

use super::exam::{Dialect, Findings, Patient};

pub fn table(findings: &Findings) -> String {
    let mut rows = vec![(String::from("issuer"), issuer(findings))];
    for (dialect, outcome) in &findings.tried {
        let question = match dialect {
            Dialect::Basic => "ClientAuth::basic",
            Dialect::BasicUnencoded => "ClientAuth::basic_unencoded",
            Dialect::Post => "ClientAuth::post",
            Dialect::Json => "ClientAuth::post, as JSON",
        };
        let answer = match outcome {
            Ok(()) => String::from("accepted"),
            Err(error) => format!("refused: {error}"),
        };
        rows.push((question.to_owned(), answer));
    }
    rows.push((String::from("client authentication"), methods(findings)));
    if let Some(dialect) = findings.best() {
        let encoding = if dialect == Dialect::Json {
            "JSON"
        } else {
            "a form"
        };
        rows.push((String::from("token requests"), encoding.to_owned()));
        rows.push((
            String::from("encoding of Basic"),
            basic(findings).to_owned(),
        ));
        rows.push((String::from("lifetime"), lifetime(findings)));
        rows.push((String::from("scope"), scope(findings)));
        rows.push((String::from("refresh token"), refresh_token(findings)));
    }
    rows.push((
        String::from("token requests spent"),
        findings.spent.to_string(),
    ));

    let mut table = String::new();
    for (question, answer) in rows {
        let _ = writeln!(table, "{question:<28} {answer}");
    }
    table.trim_end().to_owned()
}

/// A source that asks as the provider wants to be asked.
pub fn code(patient: &Patient, findings: &Findings) -> String {
    let Some(dialect) = findings.best() else {
        return String::new();
    };
    let json = dialect == Dialect::Json;
    let mut code = String::from("use tower_oauth::{BoxError, ClientAuth, ClientCredentials, ");
    code.push_str(if json { "Encoding, " } else { "" });
    code.push_str(
        "Secret, TokenEndpoint};\n\npub async fn source() -> Result<ClientCredentials, BoxError> {\n",
    );
    let secret = r#"Secret::from_env("CLIENT_SECRET")"#;
    let _ = match findings.metadata {
        Some(_) => write!(
            code,
            "    let endpoint = TokenEndpoint::discover({:?})\n        .await?\n",
            patient.url
        ),
        None => writeln!(
            code,
            "    let endpoint = TokenEndpoint::builder({:?})",
            patient.url
        ),
    };
    let method = match dialect {
        Dialect::Basic => "basic",
        Dialect::BasicUnencoded => "basic_unencoded",
        Dialect::Post | Dialect::Json => "post",
    };
    let id = &patient.client_id;
    let _ = writeln!(
        code,
        "        .client_auth(ClientAuth::{method}({id:?}, {secret}))"
    );
    for (name, value) in &patient.params {
        let _ = writeln!(code, "        .param({name:?}, {value:?})");
    }
    if json {
        code.push_str("        .encoding(Encoding::Json)\n");
    }
    if findings.lifetime.is_none() {
        code.push_str(
            "        // .assume_lifetime(…) if the documentation says how long tokens live\n",
        );
    }
    code.push_str("        .build()?;\n    Ok(ClientCredentials::new(endpoint)");
    if !patient.scope.is_empty() {
        let _ = write!(code, ".scope({:?})", patient.scope);
    }
    code.push(')');
    if findings.sends_refresh_token {
        code.push_str(" // .keep_refresh_token() if the server wants its refresh token back");
    }
    code.push_str("\n}");
    code
}

fn issuer(findings: &Findings) -> String {
    let metadata = findings.metadata.as_ref();
    let issuer = metadata.and_then(|metadata| metadata["issuer"].as_str());
    issuer
        .unwrap_or("unknown: no metadata there, so it is taken for the token endpoint")
        .to_owned()
}

fn methods(findings: &Findings) -> String {
    match findings.listed() {
        Some(listed) => format!("the server lists {}", listed.join(", ")),
        None => String::from("as tried above; the server lists none"),
    }
}

fn basic(findings: &Findings) -> &'static str {
    let accepted = |wanted| {
        let tried = findings
            .tried
            .iter()
            .find(|(dialect, _)| *dialect == wanted);
        tried.is_some_and(|(_, outcome)| outcome.is_ok())
    };
    if !findings.encoding_matters {
        "makes no difference for this id and secret"
    } else if accepted(Dialect::Basic) {
        "form-encoded first, as RFC 6749 has it"
    } else if accepted(Dialect::BasicUnencoded) {
        "none: use basic_unencoded"
    } else {
        "unknown: Basic isn't accepted"
    }
}

fn lifetime(findings: &Findings) -> String {
    match findings.lifetime {
        Some(lifetime) => format!("{} s", lifetime.as_secs()),
        None => String::from("not said: set .assume_lifetime(…) if the documentation says it"),
    }
}

fn scope(findings: &Findings) -> String {
    match (&*findings.asked_scope, findings.granted_scope.as_deref()) {
        ("", None) => String::from("not asked for, and not said"),
        ("", Some(granted)) => format!("by default: {granted}"),
        (asked, None) => format!("as asked: {asked}"),
        (asked, Some(granted)) => {
            let cut: Vec<&str> = asked
                .split_whitespace()
                .filter(|word| !granted.split_whitespace().any(|other| other == *word))
                .collect();
            if cut.is_empty() {
                format!("as asked: {granted}")
            } else {
                format!("cut: {} was not granted, only: {granted}", cut.join(" "))
            }
        }
    }
}

fn refresh_token(findings: &Findings) -> String {
    let sent = if findings.sends_refresh_token {
        "comes with client credentials"
    } else {
        "doesn't come with client credentials"
    };
    match &findings.rotates {
        None => sent.to_owned(),
        Some(Ok(true)) => format!("{sent}; rotates, and the new one is in the file"),
        Some(Ok(false)) => format!("{sent}; doesn't rotate"),
        Some(Err(error)) => format!("{sent}; couldn't be redeemed: {error}"),
    }
}
