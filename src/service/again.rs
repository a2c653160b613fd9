//! What follows a refusal: a better token, readiness, and the second send, which is the last.

use std::{
    future::Future,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use http::{Request, Response};
use http_body::Body;
use tokio::time::Sleep;
use tower_service::Service;

use super::common::Hold;
use crate::{
    authorize,
    cache::{Credential, SentToken},
    rejection::Verdict,
    replay::{Attempt, Deadline, DeadlinePassed, Replay, ReplayBody, within},
    source::{BoxError, TokenError},
};

/// A refused request, with the server's answer in case nothing better can be had.
pub(super) struct Refusal<S, B>
where
    S: Service<Request<ReplayBody<B>>>,
{
    pub(super) answer: S::Response,
    pub(super) refused: SentToken,
    pub(super) service: S,
    pub(super) replay: Replay<B>,
    pub(super) deadline: Option<Deadline>,
    pub(super) hold: Arc<Hold<S>>,
}

/// A request about to be sent once more.
pub(super) struct Again<S, B> {
    service: S,
    request: Request<ReplayBody<B>>,
    credential: Credential,
    deadline: Option<Deadline>,
    time_is_up: Option<Pin<Box<Sleep>>>,
    hold: Arc<Hold<S>>,
}

/// What the second send went out with.
pub(super) struct SentAgain<S> {
    token: SentToken,
    hold: Arc<Hold<S>>,
}

/// `None` where the call's time is over before, and within where there is none.
pub(super) type BetterToken = Pin<Box<dyn Future<Output = Option<Option<Credential>>> + Send>>;

impl<S, B, R> Refusal<S, B>
where
    S: Service<Request<ReplayBody<B>>, Response = Response<R>> + Clone,
    B: Body,
{
    /// A token instead of the refused one, if there is one in time.
    pub(super) fn better_token(&self) -> BetterToken {
        let cache = self.hold.choices().cache.clone();
        let better = cache.instead_of(self.refused.generation);
        Box::pin(within(self.deadline, better))
    }

    /// The second attempt; or the server's own answer, intact, if no better token can be had in
    /// time or the body can't be sent again.
    pub(super) fn again_with(
        mut self,
        better: Option<Credential>,
    ) -> Result<Again<S, B>, Response<R>> {
        let now = || self.hold.choices().cache.now();
        let late = self.deadline.is_some_and(|at| at.has_passed(now()));
        // An authorization server may hand out the same token until it expires.
        let better =
            better.filter(|better| !late && better.sent.fingerprint != self.refused.fingerprint);
        let (credential, request) = match better.map(|better| (better, self.replay.take())) {
            Some((better, Some(request))) => (better, request),
            _ => {
                attempt(1, self.refused).note_on(&mut self.answer);
                return Err(self.answer);
            }
        };
        // The answer goes before the second attempt waits for readiness: it may hold what that
        // waits for (a connection, a permit). Dropping it here, at the end of the scope, does.
        Ok(Again {
            // It was never called, and goes through readiness like any other.
            service: self.service,
            request,
            credential,
            deadline: self.deadline,
            time_is_up: self.deadline.and_then(Deadline::timer),
            hold: self.hold,
        })
    }
}

impl<S, B> Again<S, B>
where
    S: Service<Request<ReplayBody<B>>, Error: Into<BoxError>>,
{
    pub(super) fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        if let Some(time_is_up) = &mut self.time_is_up
            && time_is_up.as_mut().poll(cx).is_ready()
        {
            let error = TokenError::transient(DeadlinePassed);
            return Poll::Ready(Err(error.into()));
        }
        self.service.poll_ready(cx).map_err(Into::into)
    }

    pub(super) fn send(mut self) -> (S::Future, SentAgain<S>) {
        let cache = &self.hold.choices().cache;
        // Becoming ready may have taken so long that there is a newer one by now.
        let credential = match cache.credential() {
            Some(newer) if newer.sent.generation > self.credential.sent.generation => newer,
            _ => self.credential,
        };
        let headers = self.request.headers_mut();
        authorize::put(headers, credential.header);
        if let Some(deadline) = self.deadline {
            deadline.put(headers, cache.now());
        }
        let sent = SentAgain {
            token: credential.sent,
            hold: self.hold,
        };
        (self.service.call(self.request), sent)
    }
}

impl<S> SentAgain<S> {
    /// The answer is the caller's, whatever it says.
    pub(super) fn note<R>(&self, answer: &mut Response<R>) {
        let cache = &self.hold.choices().cache;
        let generation = self.token.generation;
        match self.hold.choices().judge.verdict(answer) {
            Verdict::Accepted => cache.sent_again(generation, true),
            // The token stays: others may accept it, and this is no proof against it.
            Verdict::Refused => cache.sent_again(generation, false),
            _ => {}
        }
        attempt(2, self.token).note_on(answer);
    }
}

pub(super) fn attempt(sends: u8, with: SentToken) -> Attempt {
    Attempt {
        sends,
        generation: with.generation.number(),
    }
}
