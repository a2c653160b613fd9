//! The store of one process.

use tower_oauth::store::Memory;

use super::contract;

#[tokio::test]
async fn memory_keeps_the_contract() {
    contract::holds(&Memory::new()).await;
}
