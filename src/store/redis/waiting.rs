//! Who waits for a message, on one connection.

use std::{
    collections::HashMap,
    mem,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use redis::{
    PushInfo, PushKind, Value,
    aio::{AsyncPushSender, SendError},
};
use tokio::sync::oneshot;

/// What a connection's driver speaks to. Its end is the driver's, for whatever reason, as that of the
/// runtime it runs on.
pub(super) struct Mouth(pub(super) Arc<Ears>);

impl AsyncPushSender for Mouth {
    fn send(&self, push: PushInfo) -> Result<(), SendError> {
        self.0.hear(&push);
        Ok(())
    }
}

impl Drop for Mouth {
    fn drop(&mut self) {
        self.0.close();
    }
}

/// The ears of one connection. They end with it, and whoever waits then is told that nothing will be
/// told.
pub(super) struct Ears(Mutex<Hearing>);

enum Hearing {
    /// By channel; one stays until it is found that nobody waits.
    Open(HashMap<String, Vec<oneshot::Sender<()>>>),
    /// The connection ended.
    Closed,
}

impl Ears {
    pub(super) fn new() -> Self {
        Self(Mutex::new(Hearing::Open(HashMap::new())))
    }

    pub(super) fn is_open(&self) -> bool {
        matches!(*self.lock(), Hearing::Open(_))
    }

    pub(super) fn close(&self) {
        *self.lock() = Hearing::Closed;
    }

    /// Waits for the next message of `channel`; says also which channels nobody waits for any more.
    pub(super) fn listen(&self, channel: &str) -> (oneshot::Receiver<()>, Vec<String>) {
        let (tell, told) = oneshot::channel();
        let mut idle = Vec::new();
        if let Hearing::Open(channels) = &mut *self.lock() {
            channels.entry(channel.to_owned()).or_default().push(tell);
            channels.retain(|name, waiting| {
                waiting.retain(|tell| !tell.is_closed());
                let heard = !waiting.is_empty();
                if !heard {
                    idle.push(name.clone());
                }
                heard
            });
        }
        (told, idle)
    }

    /// What came by itself and isn't an answer.
    fn hear(&self, push: &PushInfo) {
        match (&push.kind, push.data.as_slice()) {
            (PushKind::Disconnection, _) => self.close(),
            (PushKind::Message, [Value::BulkString(channel), ..]) => self.tell(channel),
            _ => {}
        }
    }

    fn tell(&self, channel: &[u8]) {
        if let (Hearing::Open(channels), Ok(name)) = (&mut *self.lock(), str::from_utf8(channel)) {
            // The channel stays, without anybody: whoever comes next finds it, or finds it idle.
            let waiting = channels.get_mut(name).map(mem::take);
            for tell in waiting.into_iter().flatten() {
                let _ = tell.send(());
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, Hearing> {
        // Nothing that runs under the lock leaves it half done.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(channel: &str) -> PushInfo {
        PushInfo {
            kind: PushKind::Message,
            data: vec![
                Value::BulkString(channel.into()),
                Value::BulkString(Vec::new()),
            ],
        }
    }

    #[test]
    fn a_message_wakes_those_who_wait_for_its_channel_and_nobody_else() {
        let ears = Ears::new();
        let (mut one, _) = ears.listen("a");
        let (mut two, _) = ears.listen("a");
        let (mut other, idle) = ears.listen("b");
        assert!(idle.is_empty());
        ears.hear(&message("a"));
        assert!(one.try_recv().is_ok() && two.try_recv().is_ok());
        assert_eq!(
            other.try_recv(),
            Err(oneshot::error::TryRecvError::Empty),
            "not its channel"
        );
    }

    #[test]
    fn a_channel_that_nobody_waits_for_is_found_by_the_next_who_listens() {
        let ears = Ears::new();
        drop(ears.listen("left"));
        let (_told, _) = ears.listen("told");
        ears.hear(&message("told"));
        let (_here, mut idle) = ears.listen("here");
        idle.sort();
        // The first was found by the second already.
        assert_eq!(idle, ["told"]);
        let (_again, idle) = ears.listen("here");
        assert!(idle.is_empty());
    }

    #[test]
    fn the_end_of_the_driver_is_told_to_all_and_to_those_who_come_later() {
        let ears = Arc::new(Ears::new());
        let mouth = Mouth(ears.clone());
        let (mut told, _) = ears.listen("a");
        drop(mouth);
        let closed = Err(oneshot::error::TryRecvError::Closed);
        assert_eq!(told.try_recv(), closed);
        assert!(!ears.is_open());
        assert_eq!(ears.listen("a").0.try_recv(), closed);
    }
}
