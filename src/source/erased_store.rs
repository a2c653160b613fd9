//! A store behind a pointer, so that sources need no type parameter for it.

use std::{future::Future, pin::Pin, time::Duration};

use tokio::time::timeout;

use super::token_store::{Lease, Leased, Record, StoreError, StoreKey, TokenStore, Written};

/// A store behind a pointer; the boxes are paid once a token, not once a request.
pub(crate) trait ErasedStore: Send + Sync + 'static {
    fn read<'a>(&'a self, key: &'a StoreKey) -> StoreFuture<'a, Option<Record>>;

    fn compare_and_set<'a>(
        &'a self,
        key: &'a StoreKey,
        expected: Option<u64>,
        record: &'a Record,
        fence: Option<u64>,
    ) -> StoreFuture<'a, Written>;

    fn lease<'a>(
        &'a self,
        key: &'a StoreKey,
        owner: &'a str,
        time: Duration,
    ) -> StoreFuture<'a, Leased>;

    fn renew<'a>(
        &'a self,
        key: &'a StoreKey,
        lease: &'a Lease,
        time: Duration,
    ) -> StoreFuture<'a, bool>;

    fn release<'a>(&'a self, key: &'a StoreKey, lease: &'a Lease) -> StoreFuture<'a, ()>;

    fn changed<'a>(
        &'a self,
        key: &'a StoreKey,
        seen: Option<u64>,
    ) -> Pin<Box<dyn Future<Output = ()> + Send + 'a>>;
}

pub(crate) type StoreFuture<'a, T> =
    Pin<Box<dyn Future<Output = Result<T, StoreError>> + Send + 'a>>;

/// Longer than any operation of a store that keeps its word.
const LONGEST: Duration = Duration::from_secs(10);

/// What a store says in time: one that hangs would hold up whoever has the lease, and so all.
fn in_time<'a, T: 'a>(
    operation: impl Future<Output = Result<T, StoreError>> + Send + 'a,
) -> StoreFuture<'a, T> {
    Box::pin(async {
        let answer = timeout(LONGEST, operation).await;
        answer.unwrap_or_else(|_| {
            let late = "the store didn't answer within 10 s; check on it";
            Err(StoreError::unavailable(late))
        })
    })
}

impl<S: TokenStore> ErasedStore for S {
    fn read<'a>(&'a self, key: &'a StoreKey) -> StoreFuture<'a, Option<Record>> {
        in_time(TokenStore::read(self, key))
    }

    fn compare_and_set<'a>(
        &'a self,
        key: &'a StoreKey,
        expected: Option<u64>,
        record: &'a Record,
        fence: Option<u64>,
    ) -> StoreFuture<'a, Written> {
        in_time(TokenStore::compare_and_set(
            self, key, expected, record, fence,
        ))
    }

    fn lease<'a>(
        &'a self,
        key: &'a StoreKey,
        owner: &'a str,
        time: Duration,
    ) -> StoreFuture<'a, Leased> {
        in_time(TokenStore::lease(self, key, owner, time))
    }

    fn renew<'a>(
        &'a self,
        key: &'a StoreKey,
        lease: &'a Lease,
        time: Duration,
    ) -> StoreFuture<'a, bool> {
        in_time(TokenStore::renew(self, key, lease, time))
    }

    fn release<'a>(&'a self, key: &'a StoreKey, lease: &'a Lease) -> StoreFuture<'a, ()> {
        in_time(TokenStore::release(self, key, lease))
    }

    fn changed<'a>(
        &'a self,
        key: &'a StoreKey,
        seen: Option<u64>,
    ) -> Pin<Box<dyn Future<Output = ()> + Send + 'a>> {
        Box::pin(TokenStore::changed(self, key, seen))
    }
}
