//! A store behind a pointer, so that sources need no type parameter for it.

use std::{future::Future, pin::Pin, time::Duration};

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

impl<S: TokenStore> ErasedStore for S {
    fn read<'a>(&'a self, key: &'a StoreKey) -> StoreFuture<'a, Option<Record>> {
        Box::pin(TokenStore::read(self, key))
    }

    fn compare_and_set<'a>(
        &'a self,
        key: &'a StoreKey,
        expected: Option<u64>,
        record: &'a Record,
        fence: Option<u64>,
    ) -> StoreFuture<'a, Written> {
        Box::pin(TokenStore::compare_and_set(
            self, key, expected, record, fence,
        ))
    }

    fn lease<'a>(
        &'a self,
        key: &'a StoreKey,
        owner: &'a str,
        time: Duration,
    ) -> StoreFuture<'a, Leased> {
        Box::pin(TokenStore::lease(self, key, owner, time))
    }

    fn renew<'a>(
        &'a self,
        key: &'a StoreKey,
        lease: &'a Lease,
        time: Duration,
    ) -> StoreFuture<'a, bool> {
        Box::pin(TokenStore::renew(self, key, lease, time))
    }

    fn release<'a>(&'a self, key: &'a StoreKey, lease: &'a Lease) -> StoreFuture<'a, ()> {
        Box::pin(TokenStore::release(self, key, lease))
    }

    fn changed<'a>(
        &'a self,
        key: &'a StoreKey,
        seen: Option<u64>,
    ) -> Pin<Box<dyn Future<Output = ()> + Send + 'a>> {
        Box::pin(TokenStore::changed(self, key, seen))
    }
}
