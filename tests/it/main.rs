//! The promises, one module each. A file that isn't named here fails `suite::every_file_is_named`.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    clippy::disallowed_methods,
    clippy::print_stderr,
    clippy::print_stdout,
    unreachable_pub,
    missing_docs,
    reason = "tests may stop at the first surprise"
)]

mod support;

mod assertion_grants;
mod attempts;
mod behaviour;
mod budgets;
mod challenges;
#[cfg(feature = "https-client")]
mod clients;
mod closing;
mod deadlines;
mod destinations;
mod device_logins;
#[cfg(feature = "https-client")]
mod dialects;
mod discovered;
mod discovery;
#[cfg(feature = "https-client")]
mod doctor;
mod early_answers;
#[cfg(feature = "https-client")]
mod early_refusals;
#[cfg(feature = "https-client")]
mod egress_proxy;
#[cfg(feature = "https-client")]
mod end_to_end;
#[cfg(feature = "https-client")]
mod first_answers;
#[cfg(all(unix, feature = "file", feature = "https-client"))]
mod fleet;
mod generated;
#[cfg(feature = "https-client")]
mod grpc;
mod grpc_trailers;
mod hot_path;
mod logins;
#[cfg(feature = "loopback")]
mod loopback_logins;
mod memory;
#[cfg(feature = "https-client")]
mod mutual_tls;
mod never_sent_short;
mod obtaining;
mod on_the_wire;
mod one_reader;
#[cfg(all(feature = "https-client", feature = "jwt"))]
mod peers;
#[cfg(feature = "https-client")]
mod providers;
mod readiness;
mod reading;
mod recording;
#[cfg(feature = "https-client")]
mod redirects;
mod refused;
mod replaying;
#[cfg(feature = "https-client")]
mod resets;
mod rotation;
mod runtimes;
mod second_sources;
#[cfg(feature = "https-client")]
mod secrets;
mod shared_logins;
mod sharing;
mod stores;
#[cfg(unix)]
mod token_files;
#[cfg(feature = "https-client")]
mod token_requests;
#[cfg(feature = "https-client")]
mod token_responses;
#[cfg(feature = "https-client")]
mod tonic_client;
mod vectors;
mod when;
mod whole_bodies;
mod wishes;

mod layering;
mod rules;
mod suite;
