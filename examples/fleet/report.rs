//! What is printed, and which promises were broken.

use std::{fmt::Display, process::ExitCode, time::Duration};

use crate::{
    api, authorization_server,
    lines::Kind,
    log::{Doubt, Log, Reason},
};

/// How many broken promises of a kind are told.
const TOLD: usize = 5;

/// What there is to say at the end.
pub struct Summary<'a> {
    pub time: Duration,
    pub server: authorization_server::Counts,
    pub incidents: Vec<String>,
    pub api: api::Counts,
    pub new_logins: u64,
    pub log: &'a Log,
}

impl Summary<'_> {
    /// Prints the table and the verdict; a failure if a promise was broken.
    pub fn print(&self) -> ExitCode {
        let (server, api, log) = (self.server, self.api, self.log);
        let doubts = log.doubts();
        let because = |reason| doubts.iter().filter(|doubt| doubt.reason == reason).count();
        let failed = |kind| log.failures.get(&kind).copied().unwrap_or_default();

        println!();
        row("seconds", format_args!("{:.1}", self.time.as_secs_f64()));
        row("workers started", log.started());
        row("workers killed", log.killed());
        row("workers stopped for a while", log.stopped());
        row("store restarts", log.outages());
        row("answers that came late", server.late);
        println!();
        row("requests", log.requests());
        row("accepted by the API", api.accepted);
        row("401s: the token was over", api.expired);
        row("401s: its login was ended", api.revoked);
        row("401s: it was never issued", api.unknown);
        println!();
        row("token requests", server.token_requests);
        row("rotations", server.rotations);
        row("reuse events", server.reuses);
        row("families revoked", server.families_revoked);
        row("refresh tokens refused otherwise", server.refused);
        row(
            "times redeemed, per refresh token (max)",
            server.most_redeemed,
        );
        println!();
        row("redemptions with an unknown outcome", doubts.len());
        row(
            "  as their worker was killed",
            because(Some(Reason::Killed)),
        );
        row(
            "  as their worker was stopped",
            because(Some(Reason::Stopped)),
        );
        row("  as the store was away", because(Some(Reason::Store)));
        row("  unexplained", because(None));
        row("new logins by the operator", self.new_logins);
        println!();
        row("requests lost with a valid token in hand", log.lost.len());
        row("  not judged, as the worker was held up", log.not_judged);
        row(
            "requests failed without one",
            log.failures.values().sum::<u64>() - log.lost.len() as u64 - log.not_judged,
        );
        row("  (of all) PossiblyRotated", failed(Kind::PossiblyRotated));
        row("  (of all) the store", failed(Kind::Store));
        row("  (of all) no token otherwise", failed(Kind::NoToken));
        row(
            "  (of all) 401",
            failed(Kind::Refused) + failed(Kind::RefusedWithAGoodOne),
        );
        row("  (of all) no answer", failed(Kind::Unanswered));
        println!();
        for (kind, words) in &log.words {
            println!("The first of {kind}: {words}");
        }
        println!();
        self.verdict()
    }

    fn verdict(&self) -> ExitCode {
        let (server, log) = (self.server, self.log);
        let mut broken: Vec<String> = self.incidents.iter().take(TOLD).cloned().collect();
        let mut promise = |kept: bool, otherwise: String| {
            if !kept {
                broken.push(otherwise);
            }
        };
        promise(server.rotations > 0, "nothing was ever redeemed".into());
        let reuses = server.reuses;
        promise(reuses == 0, format!("{reuses} refresh tokens came twice"));
        let most = server.most_redeemed;
        promise(
            most <= 1,
            format!("a refresh token was redeemed {most} times"),
        );
        let revoked = server.families_revoked;
        promise(revoked == 0, format!("{revoked} logins were ended"));
        let refused = server.refused;
        promise(
            refused == 0,
            format!("{refused} refresh tokens were refused"),
        );
        for lost in log.lost.iter().take(TOLD) {
            let (kind, login, in_hand) = (lost.kind, lost.login, lost.in_hand);
            promise(
                false,
                format!(
                    "a request for login-{login} was lost with a valid token in hand: {kind}, {in_hand:?}"
                ),
            );
        }
        let unexplained = log
            .doubts()
            .into_iter()
            .filter(|doubt| doubt.reason.is_none());
        for Doubt { login, sent, .. } in unexplained.take(TOLD) {
            promise(
                false,
                format!(
                    "nobody was killed or stopped, and it is unknown what became of a refresh token of \
                     login-{login}: {sent}"
                ),
            );
        }
        for broken in &broken {
            println!("BROKEN PROMISE  {broken}");
        }
        if !broken.is_empty() {
            return ExitCode::FAILURE;
        }
        println!("Every promise was kept.");
        ExitCode::SUCCESS
    }
}

fn row(name: &str, value: impl Display) {
    println!("{name:<42} {value:>10}");
}
