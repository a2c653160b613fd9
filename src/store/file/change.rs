//! What somebody wants changed, until he is told what became of it.

use tokio::sync::oneshot;

use super::contents::Contents;
use crate::source::StoreError;

/// A change that waits for its turn.
pub(super) trait Change: Send {
    /// Whether there may be no need to change anything.
    fn may_be_settled(&self) -> bool;

    /// Whether there is none, by what is kept: then it is over.
    fn settle(&mut self, contents: &Contents) -> bool;

    fn act(self: Box<Self>, contents: &mut Contents) -> Acted;

    fn fail(self: Box<Self>, error: StoreError);
}

/// Tells what came of a change, once it is known whether that is kept.
pub(super) type Acted = Box<dyn FnOnce(Result<(), StoreError>)>;

/// A change and who is told.
pub(super) struct Asked<S, A, T> {
    settled: Option<S>,
    act: A,
    tell: Option<oneshot::Sender<Result<T, StoreError>>>,
}

impl<S, A, T> Asked<S, A, T> {
    /// One that is made in any case, also if nobody waits for it any more.
    pub(super) fn in_any_case(act: A) -> (Self, oneshot::Receiver<Result<T, StoreError>>) {
        Self::new(None, act)
    }

    /// One that is made unless `settled` has found before what to tell instead, or nobody waits for it.
    pub(super) fn unless(settled: S, act: A) -> (Self, oneshot::Receiver<Result<T, StoreError>>) {
        Self::new(Some(settled), act)
    }

    fn new(settled: Option<S>, act: A) -> (Self, oneshot::Receiver<Result<T, StoreError>>) {
        let (tell, told) = oneshot::channel();
        let tell = Some(tell);
        (Self { settled, act, tell }, told)
    }
}

impl<S, A, T> Change for Asked<S, A, T>
where
    S: Fn(&Contents) -> Option<T> + Send,
    A: FnOnce(&mut Contents) -> T + Send,
    T: Send + 'static,
{
    fn may_be_settled(&self) -> bool {
        self.settled.is_some()
    }

    fn settle(&mut self, contents: &Contents) -> bool {
        let (Some(settled), Some(tell)) = (&self.settled, &self.tell) else {
            return false;
        };
        if tell.is_closed() {
            return true;
        }
        let Some(settled) = settled(contents) else {
            return false;
        };
        told(self.tell.take(), Ok(settled));
        true
    }

    fn act(self: Box<Self>, contents: &mut Contents) -> Acted {
        let acted = (self.act)(contents);
        let tell = self.tell;
        Box::new(move |kept| told(tell, kept.map(|()| acted)))
    }

    fn fail(self: Box<Self>, error: StoreError) {
        told(self.tell, Err(error));
    }
}

fn told<T>(tell: Option<oneshot::Sender<Result<T, StoreError>>>, what: Result<T, StoreError>) {
    if let Some(tell) = tell {
        // He may have gone away.
        let _ = tell.send(what);
    }
}
