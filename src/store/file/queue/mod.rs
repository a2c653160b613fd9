//! Whoever wants to change the file waits here. One thread of a process tries to get the lock, for all
//! who wait; when it has it, it makes all their changes one after the other, and writes them at once. So
//! the fortieth who waits costs neither a thread nor a write of his own.

#[cfg(test)]
mod tests;

use std::{
    mem,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    thread,
    time::Duration,
};

use tokio::{runtime::Handle, sync::oneshot};

use super::{
    change::{Acted, Asked, Change},
    contents::Contents,
    disk::Disk,
    lock::{self, Lock},
    problem::Problem,
};
use crate::source::StoreError;

/// How long the lock may be busy: it is held for milliseconds, unless its holder was stopped.
const PATIENCE: Duration = Duration::from_secs(5);

/// The file, and who waits to change it. Clones share both.
#[derive(Clone)]
pub(super) struct Queue {
    desk: Arc<Desk>,
}

struct Desk {
    disk: Disk,
    patience: Duration,
    line: Mutex<Line>,
    seen: Mutex<Seen>,
}

/// What was kept when somebody in this process read it.
#[derive(Clone, Default)]
pub(super) struct Seen {
    pub(super) contents: Arc<Contents>,
    /// Who read it later has a higher one.
    number: u64,
}

enum Line {
    /// Nobody waits.
    Closed,
    /// There is a [`Server`], which takes in who is here.
    Open(Vec<Box<dyn Change>>),
}

/// Who does what all want. There is one at most.
struct Server {
    desk: Arc<Desk>,
    waiting: Vec<Waiting>,
    /// How long it has paused. No clock is asked: a test's may stand still.
    paused: Duration,
    /// The line is closed, and may be somebody else's by now.
    has_left: bool,
}

struct Waiting {
    change: Box<dyn Change>,
    /// How long the server had paused before.
    since: Duration,
}

impl Queue {
    pub(super) fn new(path: PathBuf) -> Self {
        Self::with_patience(path, PATIENCE)
    }

    fn with_patience(path: PathBuf, patience: Duration) -> Self {
        Self {
            desk: Arc::new(Desk {
                disk: Disk::new(path),
                patience,
                line: Mutex::new(Line::Closed),
                seen: Mutex::default(),
            }),
        }
    }

    pub(super) fn path(&self) -> &Path {
        self.desk.disk.path()
    }

    /// What is kept now.
    pub(super) async fn read(&self) -> Result<Seen, StoreError> {
        let desk = Arc::clone(&self.desk);
        let contents = match blocking(move || desk.disk.read()).await? {
            Some(contents) => contents,
            None => self.change(|contents| Arc::new(contents.clone())).await?,
        };
        let mut seen = self.desk.seen();
        let number = seen.number.saturating_add(1);
        *seen = Seen { contents, number };
        Ok(seen.clone())
    }

    /// What is kept, read after `before` by whomever: of all who wait, one reads it.
    pub(super) async fn read_after(&self, before: &Seen) -> Result<Seen, StoreError> {
        let last = self.desk.seen().clone();
        if last.number > before.number {
            return Ok(last);
        }
        self.read().await
    }

    /// Lets `act` change what is kept, while nobody else does. It is done as a whole or not at all; if
    /// the caller goes away, most likely it is.
    pub(super) async fn change<T: Send + 'static>(
        &self,
        act: impl FnOnce(&mut Contents) -> T + Send + 'static,
    ) -> Result<T, StoreError> {
        let (asked, told) = Asked::<fn(&Contents) -> Option<T>, _, T>::in_any_case(act);
        self.ask(asked, told).await
    }

    /// The same, unless `settled` finds in what is kept that there is no need to: it is asked before
    /// each attempt to get the lock. Nothing is done for a caller that has gone away before.
    pub(super) async fn change_unless<T: Send + 'static>(
        &self,
        settled: impl Fn(&Contents) -> Option<T> + Send + 'static,
        act: impl FnOnce(&mut Contents) -> T + Send + 'static,
    ) -> Result<T, StoreError> {
        let (asked, told) = Asked::unless(settled, act);
        self.ask(asked, told).await
    }

    async fn ask<T>(
        &self,
        asked: impl Change + 'static,
        told: oneshot::Receiver<Result<T, StoreError>>,
    ) -> Result<T, StoreError> {
        if let Some(server) = self.desk.join(Box::new(asked)) {
            match Handle::try_current() {
                // Nobody waits for it: it goes on to its end if the caller is cancelled.
                Ok(runtime) => drop(runtime.spawn_blocking(move || server.serve())),
                Err(_) => server.serve(),
            }
        }
        told.await.unwrap_or_else(|_| {
            Err(StoreError::unavailable(Problem::alone(format!(
                "a change of the token file {} wasn't made, or it isn't known whether it was: the \
                 runtime that was about to make it has been shut down, or the store's clock \
                 panicked",
                self.path().display(),
            ))))
        })
    }
}

impl Desk {
    /// Whoever comes first serves all who come while he does.
    fn join(self: &Arc<Self>, change: Box<dyn Change>) -> Option<Server> {
        match &mut *self.line() {
            Line::Open(line) => {
                line.push(change);
                None
            }
            line @ Line::Closed => {
                *line = Line::Open(vec![change]);
                Some(Server {
                    desk: Arc::clone(self),
                    waiting: Vec::new(),
                    paused: Duration::ZERO,
                    has_left: false,
                })
            }
        }
    }

    fn seen(&self) -> MutexGuard<'_, Seen> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn line(&self) -> MutexGuard<'_, Line> {
        // Nothing that runs under the lock leaves it half done.
        self.line.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Server {
    /// Until nobody waits any more.
    fn serve(mut self) {
        while self.takes_in() {
            self.settle();
            if self.waiting.is_empty() {
                continue;
            }
            match self.desk.disk.lock() {
                Ok(Some(lock)) => self.change_all(lock),
                Ok(None) => self.give_up_overdue(),
                Err(error) => self.fail_all(&error),
            }
            self.pause();
        }
    }

    /// Takes in who has come; leaves if there is nobody.
    fn takes_in(&mut self) -> bool {
        let since = self.paused;
        let mut line = self.desk.line();
        let come = match &mut *line {
            Line::Open(come) => mem::take(come),
            Line::Closed => Vec::new(),
        };
        let come = come.into_iter().map(|change| Waiting { change, since });
        self.waiting.extend(come);
        if self.waiting.is_empty() {
            *line = Line::Closed;
            self.has_left = true;
        }
        !self.has_left
    }

    /// Lets go who needs nothing, without the lock.
    fn settle(&mut self) {
        if !self.waiting.iter().any(|it| it.change.may_be_settled()) {
            return;
        }
        // Whoever has the lock is told why it can't be read.
        if let Ok(Some(contents)) = self.desk.disk.read() {
            self.waiting.retain_mut(|it| !it.change.settle(&contents));
        }
    }

    fn change_all(&mut self, lock: Lock) {
        let waiting = mem::take(&mut self.waiting);
        let (mut changes, mut acted) = (waiting.into_iter(), Vec::<Acted>::new());
        let kept = self.desk.disk.change(&lock, |contents| {
            acted.extend(changes.by_ref().map(|it| it.change.act(contents)));
        });
        drop(lock);
        for tell in acted {
            tell(kept.clone());
        }
        // It couldn't even be read.
        if let Err(error) = kept {
            changes.for_each(|it| it.change.fail(error.clone()));
        }
    }

    fn give_up_overdue(&mut self) {
        let (paused, patience) = (self.paused, self.desk.patience);
        let is_overdue = |it: &mut Waiting| paused.saturating_sub(it.since) >= patience;
        for overdue in self.waiting.extract_if(.., is_overdue) {
            let shown = lock::shown(&self.desk.disk.lock_path());
            overdue
                .change
                .fail(StoreError::unavailable(Problem::alone(format!(
                    "another process has held {shown} for {patience:?}: let it go on if it was \
                     stopped, or end it"
                ))));
        }
    }

    fn fail_all(&mut self, error: &StoreError) {
        for it in self.waiting.drain(..) {
            it.change.fail(error.clone());
        }
    }

    /// Also after one's own turn, as others look for theirs as seldom; and not all at the same time.
    fn pause(&mut self) {
        let pause = Duration::from_millis(fastrand::u64(1..=8));
        thread::sleep(pause);
        self.paused = self.paused.saturating_add(pause);
    }
}

/// Its runtime was shut down before it began, or what somebody gave it panicked: who waits is told, and
/// whoever comes next is served by another.
impl Drop for Server {
    fn drop(&mut self) {
        if !self.has_left {
            let left = mem::replace(&mut *self.desk.line(), Line::Closed);
            drop(left);
        }
    }
}

/// On a thread for what blocks; what has begun there goes on to its end if the caller is cancelled.
async fn blocking<T: Send + 'static>(
    act: impl FnOnce() -> Result<T, StoreError> + Send + 'static,
) -> Result<T, StoreError> {
    match Handle::try_current() {
        Ok(runtime) => runtime
            .spawn_blocking(act)
            .await
            .map_err(StoreError::unavailable)?,
        Err(_) => act(),
    }
}
