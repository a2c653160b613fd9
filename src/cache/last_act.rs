//! A task's last act, performed exactly once however the task ends: by itself, by a panic, or with
//! its runtime.

/// Calls `act` with the end that was reached, or with `otherwise` when dropped before.
pub(super) struct LastAct<E, F: FnOnce(E)>(Option<(E, F)>);

impl<E, F: FnOnce(E)> LastAct<E, F> {
    pub(super) fn new(otherwise: E, act: F) -> Self {
        Self(Some((otherwise, act)))
    }

    pub(super) fn perform(mut self, end: E) {
        if let Some((_, act)) = self.0.take() {
            act(end);
        }
    }
}

impl<E, F: FnOnce(E)> Drop for LastAct<E, F> {
    fn drop(&mut self) {
        if let Some((otherwise, act)) = self.0.take() {
            act(otherwise);
        }
    }
}
