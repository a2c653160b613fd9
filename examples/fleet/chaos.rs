//! What is done to the workers and to the store, as a seed says.

use std::{sync::Arc, time::Duration};

use tokio::{task::JoinSet, time::sleep};
use tower_oauth::BoxError;

use crate::{
    log::Log,
    processes::{Processes, SharedLog, with},
    redis::Redis,
};

/// Goes on until it is dropped; ends only with an error.
pub async fn rage(
    processes: &Arc<Processes>,
    redis: Option<&mut Redis>,
    log: &SharedLog,
    seed: u64,
) -> BoxError {
    match raging(processes, redis, log, seed).await {
        Ok(()) => "the chaos ended".into(),
        Err(error) => error,
    }
}

async fn raging(
    processes: &Arc<Processes>,
    mut redis: Option<&mut Redis>,
    log: &SharedLog,
    seed: u64,
) -> Result<(), BoxError> {
    let mut random = fastrand::Rng::with_seed(seed);
    let mut stops: JoinSet<Result<(), BoxError>> = JoinSet::new();
    loop {
        sleep(Duration::from_millis(random.u64(200..800))).await;
        while let Some(ended) = stops.try_join_next() {
            ended??;
        }
        let slot = random.usize(..processes.count());
        match random.u32(..100) {
            0..45 => processes.kill(slot).await?,
            45..90 => {
                let time = Duration::from_millis(random.u64(100..5000));
                let Some(worker) = processes.stop(slot).await? else {
                    continue;
                };
                let processes = Arc::clone(processes);
                stops.spawn(async move {
                    sleep(time).await;
                    processes.go_on(slot, worker).await
                });
            }
            _ => {
                let time = Duration::from_millis(random.u64(0..2000));
                let Some(redis) = &mut redis else {
                    continue;
                };
                with(log, Log::store_is_killed);
                redis.kill();
                sleep(time).await;
                redis.run().await?;
                with(log, Log::store_is_back);
            }
        }
    }
}
