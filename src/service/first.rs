//! The first send: with the token at hand, or after a wait for one; and what its answer says.

use std::sync::Arc;

use http::{Request, Response};
use http_body::Body;
use tower_service::Service;

use super::{Stage, again::attempt, choices::Retry, common::Hold};
use crate::{
    authorize,
    cache::{Credential, SentToken},
    rejection::Verdict,
    replay::{self, Deadline, Replay, ReplayBody},
    source::BoxError,
};

/// A request about to be sent.
pub(super) struct First<S, B> {
    pub(super) service: S,
    pub(super) request: Request<B>,
    pub(super) deadline: Option<Deadline>,
    pub(super) hold: Arc<Hold<S>>,
}

/// A request on its way, and what sending it once more needs.
pub(super) struct Sent<S, B> {
    pub(super) token: SentToken,
    replay: Option<Replay<B>>,
    pub(super) hold: Arc<Hold<S>>,
}

impl<S, B> First<S, B>
where
    S: Service<Request<ReplayBody<B>>>,
    B: Body<Error: Into<BoxError>> + 'static,
{
    /// After the wait, which counts.
    pub(super) fn send(mut self, credential: Credential) -> Stage<S, B> {
        if let Some(deadline) = self.deadline {
            let now = self.hold.choices().cache.now();
            deadline.put(self.request.headers_mut(), now);
        }
        authorize::put(self.request.headers_mut(), credential.header);
        send(&mut self.service, self.request, credential.sent, self.hold)
    }
}

/// Sends a request with its token.
#[inline(always)]
pub(super) fn send<S, B>(
    service: &mut S,
    request: Request<B>,
    token: SentToken,
    hold: Arc<Hold<S>>,
) -> Stage<S, B>
where
    S: Service<Request<ReplayBody<B>>>,
    B: Body<Error: Into<BoxError>> + 'static,
{
    let choices = hold.choices();
    let (head, body) = request.into_parts();
    let (body, replay) = match choices.retry {
        Retry::Never => (ReplayBody::once(body), None),
        Retry::UpTo(limit) => replay::record(&head, body, limit, || choices.cache.now()),
    };
    Stage::Sent {
        answer: service.call(Request::from_parts(head, body)),
        sent: Sent {
            token,
            replay,
            hold,
        },
    }
}

impl<S: Clone, B> Sent<S, B> {
    /// What sending again needs, if the token was refused and that is possible; otherwise the answer is
    /// the caller's.
    #[inline]
    pub(super) fn judge<R>(&mut self, answer: &mut Response<R>) -> Option<(Replay<B>, S)> {
        let choices = self.hold.choices();
        match choices.judge.verdict(answer) {
            Verdict::Accepted => choices.cache.accepted(self.token.generation),
            Verdict::Refused => return self.refused(answer),
            _ => {}
        }
        // The answer's head is here: what is kept for a second send goes.
        self.replay = None;
        if choices.report_attempts {
            attempt(1, self.token).note_on(answer);
        }
        None
    }

    #[cold]
    fn refused<R>(&mut self, answer: &mut Response<R>) -> Option<(Replay<B>, S)> {
        if let Some(replay) = self.replay.take()
            && let Some(service) = self.hold.spare()
            && replay.pause()
        {
            return Some((replay, service));
        }
        self.hold.choices().cache.refused(self.token.generation);
        attempt(1, self.token).note_on(answer);
        None
    }
}
