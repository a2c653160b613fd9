//! What the file says, and what the operations make of it. Nothing here touches a disk or reads a
//! clock: times are milliseconds since 1970, and `now` is an argument.

use std::{
    collections::BTreeMap,
    fmt,
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use zeroize::Zeroizing;

use crate::source::{Lease, Leased, StoreKey, Written};

/// For how long the number of a key's last lease is kept for itself alone, after the lease is over and
/// when there is no record: longer than anybody who still believes in his lease can take to write.
const FENCE_KEPT: u64 = 24 * 60 * 60 * 1000;
/// A clock that is corrected by less, as time servers do it, ends no lease.
const SLACK: u64 = 5_000;

/// All that is kept, by key.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Contents {
    /// No lease of a key that isn't here had a higher number: so that a key which was dropped begins
    /// above its old leases.
    pub(super) floor: u64,
    pub(super) shelves: BTreeMap<String, Arc<Shelf>>,
}

/// What is kept at a key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Shelf {
    /// The number of the last lease.
    pub(super) fence: u64,
    /// The last lease; it may be over.
    pub(super) turn: Option<Turn>,
    pub(super) kept: Option<Kept>,
}

/// Whose turn it is, or was.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Turn {
    pub(super) owner: String,
    pub(super) end: u64,
    /// How long it was granted for.
    pub(super) time: u64,
}

/// A record as it is kept: encrypted, if there is a key for that.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct Kept {
    pub(super) generation: u64,
    pub(super) keep_until: Option<u64>,
    pub(super) bytes: Zeroizing<Vec<u8>>,
}

impl Contents {
    /// The record at `key`, unless it is past its time.
    pub(super) fn kept(&self, key: &StoreKey, now: u64) -> Option<&Kept> {
        let kept = self.shelves.get(key.as_str())?.kept.as_ref();
        kept.filter(|kept| !kept.is_past(now))
    }

    /// For how long the lease of `key` lasts, if it does.
    pub(super) fn held(&self, key: &StoreKey, now: u64) -> Option<Duration> {
        let turn = self.shelves.get(key.as_str())?.turn.as_ref()?;
        let remaining = turn.end.saturating_sub(now);
        turn.lasts(now).then(|| Duration::from_millis(remaining))
    }

    /// Whether each key has the record that it has in `other`.
    pub(super) fn has_the_records_of(&self, other: &Self) -> bool {
        self.records().eq(other.records())
    }

    fn records(&self) -> impl Iterator<Item = (&str, &Kept)> {
        let shelves = self.shelves.iter();
        shelves.filter_map(|(key, shelf)| Some((key.as_str(), shelf.kept.as_ref()?)))
    }

    /// Drops what nobody needs any more. It comes before each other operation, so that these see what
    /// [`kept`](Self::kept) shows.
    pub(super) fn forget(&mut self, now: u64) {
        let Self { floor, shelves } = self;
        shelves.retain(|_, shelf| {
            if shelf.kept.as_ref().is_some_and(|kept| kept.is_past(now)) {
                Arc::make_mut(shelf).kept = None;
            }
            let fenced = shelf.turn.as_ref();
            let fenced = fenced.is_some_and(|turn| now < turn.end.saturating_add(FENCE_KEPT));
            let needed = shelf.kept.is_some() || fenced;
            if !needed {
                *floor = shelf.fence.max(*floor);
            }
            needed
        });
    }

    pub(super) fn compare_and_set(
        &mut self,
        key: &StoreKey,
        expected: Option<u64>,
        kept: Kept,
        fence: Option<u64>,
    ) -> Written {
        let floor = self.floor;
        let there = self.shelves.get(key.as_str());
        let last = there.map_or(floor, |shelf| shelf.fence);
        if fence.is_some_and(|fence| fence < last) {
            return Written::Fenced;
        }
        let generation = there.and_then(|shelf| Some(shelf.kept.as_ref()?.generation));
        if generation != expected {
            return Written::Changed;
        }
        self.shelf(key).kept = Some(kept);
        Written::Done
    }

    pub(super) fn lease(
        &mut self,
        key: &StoreKey,
        owner: &str,
        time: Duration,
        now: u64,
    ) -> Leased {
        if let Some(remaining) = self.held(key, now) {
            return Leased::Held { remaining };
        }
        let shelf = self.shelf(key);
        shelf.fence = shelf.fence.saturating_add(1);
        shelf.turn = Some(Turn::from_now(owner, time, now));
        Leased::Granted(Lease::new(owner, shelf.fence))
    }

    pub(super) fn renew(
        &mut self,
        key: &StoreKey,
        lease: &Lease,
        time: Duration,
        now: u64,
    ) -> bool {
        let Some(turn) = self.turn_of(key, lease, now) else {
            return false;
        };
        *turn = Turn::from_now(lease.owner(), time, now);
        true
    }

    pub(super) fn release(&mut self, key: &StoreKey, lease: &Lease, now: u64) {
        if let Some(turn) = self.turn_of(key, lease, now) {
            // One that was granted for no time is over whatever the clock says; its number is still
            // known.
            turn.end = now;
            turn.time = 0;
        }
    }

    fn shelf(&mut self, key: &StoreKey) -> &mut Shelf {
        let fence = self.floor;
        let shelf = self.shelves.entry(key.as_str().to_owned());
        let new = || Shelf {
            fence,
            turn: None,
            kept: None,
        };
        Arc::make_mut(shelf.or_insert_with(|| Arc::new(new())))
    }

    fn turn_of(&mut self, key: &StoreKey, lease: &Lease, now: u64) -> Option<&mut Turn> {
        let shelf = self.shelves.get_mut(key.as_str())?;
        let turn = shelf.turn.as_ref()?;
        let is_it = turn.owner == lease.owner() && shelf.fence == lease.fence();
        if is_it && turn.lasts(now) {
            Arc::make_mut(shelf).turn.as_mut()
        } else {
            None
        }
    }
}

impl Turn {
    fn from_now(owner: &str, time: Duration, now: u64) -> Self {
        let time = u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
        Self {
            owner: owner.to_owned(),
            end: now.saturating_add(time),
            time,
        }
    }

    /// An end that lies further ahead than the lease was long means that the clock was set back: by
    /// much, how much of it is left can't be known, and nobody must wait for hours.
    fn lasts(&self, now: u64) -> bool {
        let remaining = self.end.saturating_sub(now);
        0 < self.time && 0 < remaining && remaining <= self.time.saturating_add(SLACK)
    }
}

impl Kept {
    fn is_past(&self, now: u64) -> bool {
        self.keep_until.is_some_and(|end| end <= now)
    }
}

impl fmt::Debug for Kept {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Kept")
            .field("generation", &self.generation)
            .finish_non_exhaustive()
    }
}

/// Milliseconds since 1970; what was before counts as then.
pub(super) fn millis(time: SystemTime) -> u64 {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

/// `None` if no clock can say that.
pub(super) fn time(millis: u64) -> Option<SystemTime> {
    UNIX_EPOCH.checked_add(Duration::from_millis(millis))
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn kept(generation: u64, keep_until: Option<u64>) -> Kept {
        Kept {
            generation,
            keep_until,
            bytes: Zeroizing::new(b"text".to_vec()),
        }
    }

    fn granted(leased: Leased) -> Lease {
        match leased {
            Leased::Granted(lease) => lease,
            Leased::Held { remaining } => panic!("held for {remaining:?}"),
        }
    }

    #[test]
    fn a_lease_lasts_its_time_and_no_longer() {
        let key = StoreKey::named("key");
        let mut contents = Contents::default();
        let first = granted(contents.lease(&key, "first", SECOND, 10_000));
        let remaining = Duration::from_millis(1);
        let held = Leased::Held { remaining };
        assert_eq!(contents.lease(&key, "second", SECOND, 10_999), held);
        let second = granted(contents.lease(&key, "second", SECOND, 11_000));
        assert!(second.fence() > first.fence());
        assert!(!contents.renew(&key, &first, SECOND, 11_001));
        contents.release(&key, &first, 11_001);
        assert!(contents.renew(&key, &second, SECOND, 11_001));
        assert!(!contents.renew(&key, &second, SECOND, 12_001), "over");
    }

    #[test]
    fn a_clock_that_was_set_back_holds_up_nobody() {
        let key = StoreKey::named("key");
        let mut contents = Contents::default();
        granted(contents.lease(&key, "first", SECOND, 1_000_000));
        let second = granted(contents.lease(&key, "second", SECOND, 5_000));
        assert_eq!(second.fence(), 2);
    }

    #[test]
    fn a_clock_that_is_corrected_ends_no_lease_and_brings_none_back() {
        let key = StoreKey::named("key");
        let mut contents = Contents::default();
        let lease = granted(contents.lease(&key, "first", SECOND, 10_000));
        let held = |contents: &Contents, now| contents.held(&key, now).is_some();
        assert!(held(&contents, 9_997) && held(&contents, 10_000 - SLACK));
        assert!(!held(&contents, 10_000 - SLACK - 1));
        assert!(contents.renew(&key, &lease, SECOND, 9_997));
        contents.release(&key, &lease, 9_998);
        for now in [9_998, 9_997, 9_000, 9_998 - SLACK] {
            assert!(!held(&contents, now), "at {now}");
        }
    }

    #[test]
    fn a_lease_changes_no_record() {
        let (key, other) = (StoreKey::named("key"), StoreKey::named("other"));
        let mut contents = Contents::default();
        contents.compare_and_set(&key, None, kept(1, Some(500)), None);
        let before = contents.clone();
        granted(contents.lease(&key, "owner", SECOND, 0));
        granted(contents.lease(&other, "owner", SECOND, 0));
        assert!(contents != before && contents.has_the_records_of(&before));
        let mut forgotten = contents.clone();
        forgotten.forget(500);
        assert!(!forgotten.has_the_records_of(&before));
        contents.compare_and_set(&key, Some(1), kept(2, None), None);
        assert!(!contents.has_the_records_of(&before));
    }

    #[test]
    fn a_record_is_forgotten_when_its_time_is_over_and_a_live_lease_is_not() {
        let key = StoreKey::named("key");
        let mut contents = Contents::default();
        contents.compare_and_set(&key, None, kept(1, Some(500)), None);
        granted(contents.lease(&key, "owner", SECOND, 0));
        contents.forget(499);
        assert!(contents.kept(&key, 499).is_some());
        assert!(contents.kept(&key, 500).is_none());
        contents.forget(500);
        let shelf = &contents.shelves[key.as_str()];
        assert!(shelf.kept.is_none() && shelf.turn.is_some());
        assert!(matches!(
            contents.lease(&key, "other", SECOND, 500),
            Leased::Held { .. }
        ));
    }

    #[test]
    fn the_fence_of_a_dropped_key_still_counts() {
        let (key, other) = (StoreKey::named("key"), StoreKey::named("other"));
        let mut contents = Contents::default();
        let mut last = 0;
        for _ in 0..3 {
            let lease = granted(contents.lease(&key, "owner", SECOND, 0));
            contents.release(&key, &lease, 0);
            last = lease.fence();
        }
        contents.forget(FENCE_KEPT - 1);
        assert_eq!(contents.shelves.len(), 1, "dropped too soon");
        contents.forget(FENCE_KEPT);
        assert!(contents.shelves.is_empty());
        let written = contents.compare_and_set(&key, None, kept(1, None), Some(last - 1));
        assert_eq!(written, Written::Fenced);
        assert!(granted(contents.lease(&key, "owner", SECOND, 0)).fence() > last);
        assert!(granted(contents.lease(&other, "owner", SECOND, 0)).fence() > last);
    }

    #[test]
    fn what_changes_nothing_leaves_nothing() {
        let key = StoreKey::named("key");
        let mut contents = Contents::default();
        let lease = Lease::new("nobody", 7);
        assert!(!contents.renew(&key, &lease, SECOND, 0));
        contents.release(&key, &lease, 0);
        let written = contents.compare_and_set(&key, Some(1), kept(2, None), None);
        assert_eq!(written, Written::Changed);
        assert_eq!(contents, Contents::default());
    }
}
