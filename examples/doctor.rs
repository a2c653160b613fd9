//! What does this provider want? Asks it, says so in a table, and prints the code that fits.
//!
//! ```text
//! CLIENT_ID=… CLIENT_SECRET=… cargo run --example doctor -- https://issuer.or.token.url \
//!     [--scope "a b"] [--param audience=…] [--refresh-token-file FILE] [--yes]
//! ```
//!
//! Each question costs one token request at most, and before it spends more than three it asks
//! (`--yes` says yes). A refresh token that rotates is written back to its file. To see it at work:
//! `cargo run --example doctor -- --look-alike quota` (or `scoped_api`, `three_flows`, `tenant`,
//! `json_api`), which stays until its input ends.
#![allow(
    missing_docs,
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a program"
)]

#[path = "doctor/exam.rs"]
mod exam;
#[path = "providers/look_alike/mod.rs"]
mod look_alike;
#[path = "doctor/report.rs"]
mod report;

use std::{env, io, process::ExitCode};

use tower_oauth::BoxError;

pub use self::{
    exam::{Budget, Patient, examine},
    look_alike::{CLIENT_ID, CLIENT_SECRET, LookAlike},
    report::{code, table},
};

const USAGE: &str = "usage: CLIENT_ID=… CLIENT_SECRET=… doctor URL [--scope SCOPE] \
                     [--param NAME=VALUE]… [--refresh-token-file FILE] [--yes]\n       \
                     doctor --look-alike scoped_api|three_flows|tenant|quota|json_api";

#[tokio::main]
async fn main() -> ExitCode {
    match run(env::args().skip(1).collect()).await {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

async fn run(arguments: Vec<String>) -> Result<bool, BoxError> {
    let (patient, budget, provider) = admitted(arguments).await?;
    let findings = examine(&patient, &budget).await?;
    println!("{}", table(&findings));
    if findings.works() {
        println!("\nThe code that fits:\n\n{}", code(&patient, &findings));
    } else {
        println!(
            "\nNo token was had; the table has what the server said. An id and a secret are all that \
             was tried: for ClientAuth::private_key_jwt or ::tls the client needs a key."
        );
    }
    if provider.is_some() {
        eprintln!(
            "\nThe look-alike stays until the input ends; its CLIENT_SECRET is {CLIENT_SECRET:?}"
        );
        tokio::task::spawn_blocking(|| io::copy(&mut io::stdin(), &mut io::sink())).await??;
    }
    Ok(findings.works())
}

/// The provider to examine, and the look-alike that must live meanwhile.
async fn admitted(
    arguments: Vec<String>,
) -> Result<(Patient, Budget, Option<LookAlike>), BoxError> {
    let mut patient = Patient::default();
    let mut budget = Budget::asking(confirm);
    let mut provider = None;
    let mut arguments = arguments.into_iter();
    while let Some(argument) = arguments.next() {
        let mut value = || arguments.next().ok_or(format!("{argument} needs a value"));
        match &*argument {
            "--scope" => patient.scope = value()?,
            "--param" => {
                let pair = value()?;
                let (name, value) = pair.split_once('=').ok_or("--param wants NAME=VALUE")?;
                patient.params.push((name.to_owned(), value.to_owned()));
            }
            "--refresh-token-file" => patient.refresh_token_file = Some(value()?.into()),
            "--yes" => budget = Budget::asking(|_| true),
            "--look-alike" => provider = Some(look_alike(&value()?, &mut patient).await?),
            flag if flag.starts_with("--") => return Err(format!("{flag}?\n{USAGE}").into()),
            url => patient.url = url.to_owned(),
        }
    }
    if patient.url.is_empty() {
        return Err(USAGE.into());
    }
    if provider.is_none() {
        patient.client_id = setting("CLIENT_ID")?;
        patient.client_secret = setting("CLIENT_SECRET")?;
    }
    Ok((patient, budget, provider))
}

pub async fn look_alike(name: &str, patient: &mut Patient) -> Result<LookAlike, BoxError> {
    let (provider, path) = match name {
        "scoped_api" => (LookAlike::scoped_api().await?, "/oauth/token"),
        "three_flows" => (LookAlike::three_flows().await?, "/token"),
        "tenant" => (LookAlike::tenant().await?, "/acme/oauth/v2/token"),
        "quota" => (LookAlike::quota().await?, "/oauth/token"),
        "json_api" => (LookAlike::json_api().await?, "/oauth2/token"),
        other => return Err(format!("there is no look-alike {other:?}\n{USAGE}").into()),
    };
    patient.url = provider.url(path);
    patient.client_id = String::from(CLIENT_ID);
    patient.client_secret = String::from(CLIENT_SECRET);
    if name == "quota" {
        let audience = ("audience", "https://prices.example/");
        patient
            .params
            .push((audience.0.to_owned(), audience.1.to_owned()));
    }
    Ok(provider)
}

fn confirm(spent: usize) -> bool {
    eprintln!("{spent} token requests were sent; may there be one more? [y/N]");
    let mut line = String::new();
    io::stdin().read_line(&mut line).is_ok() && line.trim().eq_ignore_ascii_case("y")
}

fn setting(name: &str) -> Result<String, String> {
    // The error of `var` would show a secret that isn't UTF-8.
    env::var(name).map_err(|_| format!("set the environment variable {name} to a UTF-8 text"))
}
