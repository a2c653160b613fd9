//! What was found at a place, and what is to stand there next.

use super::{
    kept::{Kept, KeptToken},
    place::Place,
};
use crate::{
    clock::Moment,
    source::{
        Demand,
        token_store::{Record, next_generation},
    },
    token::AccessToken,
};

/// A record, or none, and what it says.
#[derive(Clone, Default)]
pub(super) struct There {
    record: Option<Record>,
    pub(super) kept: Kept,
}

impl There {
    /// `None` if the record is none of ours.
    pub(super) fn of(record: Option<Record>) -> Option<Self> {
        let kept = match &record {
            Some(record) => Kept::read(record.text())?,
            None => Kept::default(),
        };
        Some(Self { record, kept })
    }

    pub(super) fn record(&self) -> Option<&Record> {
        self.record.as_ref()
    }

    pub(super) fn generation(&self) -> Option<u64> {
        self.record.as_ref().map(Record::generation)
    }

    /// Whether it is this very record.
    pub(super) fn is(&self, record: &Record) -> bool {
        self.is_as_found(Some(record))
    }

    /// The same for one that may not be there.
    pub(super) fn is_as_found(&self, record: Option<&Record>) -> bool {
        let parts = |record: Option<&Record>| {
            let record = record?;
            Some((record.generation(), record.text().to_vec()))
        };
        parts(self.record()) == parts(record)
    }

    /// The access token that is asked for: neither the one that was refused nor the one that is to be
    /// renewed. Which one it is says its text, not its age.
    pub(super) fn fitting(
        &self,
        place: &Place,
        demand: Demand<'_>,
        now: Moment,
    ) -> Option<AccessToken> {
        let token = self.kept.token(place.tag)?.worth(now)?;
        let unwanted = [demand.rejected(), demand.held()];
        (!unwanted.contains(&Some(&token))).then_some(token)
    }

    /// With one more access token.
    pub(super) fn with(mut self, token: KeptToken) -> Self {
        self.kept.add(token);
        self
    }

    /// What is to be written over the record that was found.
    pub(super) fn next_record(&self) -> Record {
        let generation = next_generation(self.generation());
        Record::new(generation, self.kept.written(), self.kept.keep_until())
    }

    /// What is to be written over it, to say the same as `other`.
    pub(super) fn next_record_as(&self, other: &Self) -> Record {
        let generation = next_generation(self.generation());
        Record::new(generation, other.kept.written(), other.kept.keep_until())
    }

    /// As it is found once `record` has been written.
    pub(super) fn after(mut self, record: &Record) -> Self {
        self.record = Some(record.clone());
        self
    }
}
