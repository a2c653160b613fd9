//! What is printed, and which promises were broken.

use std::{
    fmt::Display,
    process::ExitCode,
    sync::Arc,
    time::{Duration, Instant},
};

use crate::{
    api::{Api, Counts},
    authorization_server::AuthorizationServer,
    callers::Seen,
};

pub struct Report {
    authorization_server: Arc<AuthorizationServer>,
    api: Arc<Api>,
    start: Instant,
    rows: Vec<Row>,
    broken: Vec<String>,
    all_judged: bool,
}

/// What both servers had counted when an act began.
pub struct Before {
    pub token_requests: u64,
    pub api: Counts,
}

/// One act: what the servers counted meanwhile, and what the callers saw.
pub struct Row {
    act: &'static str,
    pub token_requests: u64,
    pub api: Counts,
    pub errors: usize,
    p50: Duration,
    p99: Duration,
}

impl Report {
    pub fn new(authorization_server: Arc<AuthorizationServer>, api: Arc<Api>) -> Self {
        Self {
            authorization_server,
            api,
            start: Instant::now(),
            rows: Vec::new(),
            broken: Vec::new(),
            all_judged: true,
        }
    }

    pub fn title(&self, title: &str) {
        println!("\n{title}");
    }

    pub fn say(&self, text: impl Display) {
        self.say_of(Instant::now(), text);
    }

    /// Tells of something that happened at `instant`.
    pub fn say_of(&self, instant: Instant, text: impl Display) {
        println!("{:>8.2} s   {text}", (instant - self.start).as_secs_f64());
    }

    pub fn before(&self) -> Before {
        Before {
            token_requests: self.authorization_server.token_requests(),
            api: self.api.counts(),
        }
    }

    /// Notes an act. Two promises hold in each: every request is answered, at most two are sent.
    pub fn act(&mut self, act: &'static str, before: &Before, seen: &[Seen]) -> &Row {
        let mut times: Vec<Duration> = seen.iter().map(|seen| seen.to - seen.from).collect();
        times.sort_unstable();
        let problems: Vec<&String> = seen
            .iter()
            .filter_map(|seen| seen.problem.as_ref())
            .collect();
        let row = Row {
            act,
            token_requests: self.authorization_server.token_requests() - before.token_requests,
            api: self.api.counts() - before.api,
            errors: problems.len(),
            p50: percentile(&times, 50),
            p99: percentile(&times, 99),
        };
        let requests = seen.len();
        let lost = problems.first().map_or_else(String::new, |problem| {
            format!(
                "{} of {requests} were not; the first: {problem}",
                problems.len()
            )
        });
        let third = row.api.third_sends;
        self.rows.push(row);
        self.promise("every request is answered with 200", lost.is_empty(), &lost);
        let sent = format!("{third} sends were more than that");
        self.promise("a request is sent at most twice", third == 0, &sent);
        &self.rows[self.rows.len() - 1]
    }

    /// Notes a promise as broken unless it was `kept`.
    pub fn promise(&mut self, promise: &str, kept: bool, otherwise: &str) {
        if !kept {
            let act = self.rows.last().map_or("", |row| row.act);
            self.broken(format!("{act}: {promise} ({otherwise})"));
        }
    }

    /// Tells why the promises of this act can't be judged.
    pub fn not_judged(&mut self, why: &str) {
        self.say(format_args!("not judged: {why}"));
        self.all_judged = false;
    }

    pub fn broken(&mut self, promise: String) {
        self.broken.push(promise);
    }

    /// Prints the table and the verdict; a failure if a promise was broken.
    pub fn close(self) -> ExitCode {
        println!(
            "\n{:<17} {:>8} {:>15} {:>5} {:>8} {:>7} {:>10} {:>10}",
            "", "requests", "token requests", "401s", "retries", "errors", "p50", "p99"
        );
        for row in &self.rows {
            println!(
                "{:<17} {:>8} {:>15} {:>5} {:>8} {:>7} {:>10} {:>10}",
                row.act,
                row.api.requests,
                row.token_requests,
                row.api.refusals,
                row.api.retries,
                row.errors,
                milliseconds(row.p50),
                milliseconds(row.p99),
            );
        }
        println!("\nThe servers counted requests, token requests, 401s and retries; the callers,");
        println!("errors and times. The first token of b, c and d came before the count began.\n");
        for broken in &self.broken {
            println!("BROKEN PROMISE  {broken}");
        }
        if !self.broken.is_empty() {
            return ExitCode::FAILURE;
        }
        let seconds = self.start.elapsed().as_secs_f64();
        let which = if self.all_judged {
            ""
        } else {
            " that could be judged"
        };
        println!("Every promise{which} was kept, in {seconds:.1} s.");
        ExitCode::SUCCESS
    }
}

fn percentile(sorted: &[Duration], percent: usize) -> Duration {
    let rank = (sorted.len() * percent).div_ceil(100).max(1);
    sorted.get(rank - 1).copied().unwrap_or_default()
}

pub fn milliseconds(time: Duration) -> String {
    format!("{:.1} ms", time.as_secs_f64() * 1000.0)
}
