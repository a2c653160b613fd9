//! A suite of behaviours of clients, each with the test that holds it here, or with the reason why
//! it is decided otherwise.
//!
//! The suite isn't part of this repository: `CASES_DIR` names the directory in which
//! `behaviour.json` lies.

use std::{collections::HashSet, env, fs, path::Path, time::Duration};

use serde_json::Value;
use tokio::time::{Instant, sleep, sleep_until};
use tower_oauth::TokenCache;

use self::Holds::{Decided, Later, Test};
use crate::support::{paused, secs, settle, source::numbered};

#[derive(Debug, Clone, Copy)]
enum Holds {
    /// `module::test` in `tests/it`, or `src/file.rs::test`.
    Test(&'static str),
    /// It is decided otherwise; the text says why.
    Decided(&'static str),
    /// Nothing of the kind is there yet; the text says what it belongs to.
    Later(&'static str),
}

const MARGIN: &str = "a fixed margin takes too much of a short token: renewed from a fifth of the \
    lifetime before its end (at most 5 min), gone from a tenth (at most 30 s)";

const TIMING: &[(&str, Holds)] = &[
    ("12 s left, delta 10 s", Decided(MARGIN)),
    ("10 s - 1 ns left", Decided(MARGIN)),
    (
        "-1 h",
        Test("when::an_expiring_token_leaves_the_cache_and_callers_wait_for_the_next"),
    ),
    (
        "custom delta 5 s: 5 s left / 5 s-1ns left",
        Test("behaviour::a_margin_of_ones_own_is_kept_to_the_millisecond"),
    ),
    (
        "jitter 0.5",
        Test("src/cache/snapshot.rs::jitter_stays_in_the_first_half_of_the_window"),
    ),
    (
        "reload chain",
        Test("behaviour::three_tokens_in_a_row_are_three_token_requests"),
    ),
    (
        "load timeout",
        Test("obtaining::a_source_that_never_ends_meets_its_deadline_and_heals"),
    ),
    (
        "refresh 4 min before expiry",
        Decided(
            "renewed when it is used, from 5 min before its end, with jitter in the first half",
        ),
    ),
    (
        "ttl 120 < slack",
        Test("when::short_lifetimes_make_no_storm"),
    ),
    (
        "token already expired on arrival",
        Test("when::a_token_that_arrives_expired_is_an_error_and_makes_no_storm"),
    ),
    (
        "transient failure keeps valid token",
        Test("when::a_failed_refresh_never_replaces_a_valid_token"),
    ),
    (
        "transient failure past expiry, then recovery",
        Test("when::after_an_outage_past_the_end_the_same_client_recovers"),
    ),
    (
        "suspend 2 h (monotonic stops)",
        Test("when::a_suspended_machine_wakes_up_to_an_expired_token_within_thirty_seconds"),
    ),
    (
        "wall clock set forward 1 day by NTP",
        Test("when::a_wall_clock_set_forward_costs_at_most_one_refresh"),
    ),
    (
        "client clock 50 s fast, ttl 60 s",
        Test("when::a_client_clock_that_is_wrong_changes_nothing"),
    ),
    (
        "1000 clients, same ttl 3600",
        Test("src/cache/snapshot.rs::caches_that_start_together_renew_apart"),
    ),
    (
        "Retry-After: 120 on refresh while token valid for 300 s",
        Test("when::retry_after_is_honoured_while_requests_go_on"),
    ),
    ("one simulated year", Test("when::a_year_of_hourly_tokens")),
];

const STORES: &str = "stores that processes share";

const CONCURRENCY: &[(&str, Holds)] = &[
    (
        "cold start K callers",
        Test("obtaining::a_hundred_thousand_callers_of_a_cold_cache_make_one_token_request"),
    ),
    (
        "leader cancelled",
        Test("obtaining::a_cancelled_caller_cancels_nothing"),
    ),
    (
        "refresh panics",
        Test("obtaining::a_panic_is_an_error_to_those_who_wait_and_heals"),
    ),
    (
        "refresh never completes",
        Test("obtaining::a_source_that_never_ends_meets_its_deadline_and_heals"),
    ),
    (
        "late failure",
        Test("refused::a_late_401_is_retried_with_the_newer_token_and_fetches_none"),
    ),
    (
        "two callers rejected with different tokens",
        Test("refused::two_callers_refused_with_different_tokens_share_one_refresh"),
    ),
    (
        "5 simultaneous 401s",
        Test("end_to_end::a_revocation_with_two_hundred_requests_in_flight_loses_none"),
    ),
    (
        "401 burst larger than the queue",
        Test("refused::ten_thousand_requests_in_flight_are_all_refused_and_all_retried"),
    ),
    ("rotation across 3 replicas sharing a store", Later(STORES)),
    ("lock TTL expires during exchange", Later(STORES)),
    ("crash between AS answer and persist", Later(STORES)),
    (
        "last handle dropped",
        Test("runtimes::the_last_handle_takes_its_tasks_along"),
    ),
    (
        "token client uses the same layered client",
        Test(
            "obtaining::a_source_that_calls_through_the_layer_it_serves_gets_an_error_and_no_deadlock",
        ),
    ),
    (
        "1 000 000 keys",
        Later("tokens chosen per request: many caches behind one layer"),
    ),
];

const ROUTING: &[(&str, Holds)] = &[
    (
        "same-origin redirect",
        Test("destinations::a_hop_within_the_origin_keeps_the_token"),
    ),
    (
        "https -> http same host",
        Test("destinations::a_hop_to_plain_http_never_carries_the_token"),
    ),
    (
        "a -> b -> a",
        Test("destinations::another_origin_gets_none_and_the_way_back_has_it_again"),
    ),
    (
        "port differs",
        Test("src/authorize/origin.rs::an_origin_is_scheme_host_and_port_normalised"),
    ),
    (
        "suffix trick",
        Test("src/authorize/origin.rs::an_origin_is_scheme_host_and_port_normalised"),
    ),
    (
        "upper-case host",
        Test("src/authorize/origin.rs::an_origin_is_scheme_host_and_port_normalised"),
    ),
    (
        "http:// request",
        Test("src/authorize/origin.rs::plain_http_is_refused_but_to_loopback"),
    ),
    (
        "request has Authorization twice",
        Test("destinations::replacing_sends_exactly_one_value_on_both_sends"),
    ),
    (
        "h2 GOAWAY during the retry",
        Test("end_to_end::a_second_send_whose_connection_broke_is_the_last"),
    ),
    (
        "poll_ready contract",
        Test("readiness::each_instance_that_is_called_has_been_ready"),
    ),
    (
        "readiness error on retry",
        Test(
            "readiness::an_error_of_readiness_on_the_second_send_is_the_callers_and_leaves_the_token_alone",
        ),
    ),
];

const TWO_SENDS: &str = "there are at most two sends of a request, ever";

const REPLAY: &[(&str, Holds)] = &[
    (
        "empty body",
        Test("replaying::an_empty_body_is_empty_again_and_never_read"),
    ),
    ("one chunk", Test("replaying::one_chunk")),
    ("data + trailers", Test("replaying::data_and_trailers")),
    ("trailers only", Test("replaying::trailers_only")),
    (
        "401 before the body was read to the end",
        Test("early_answers::the_second_send_is_what_was_recorded_and_what_is_left"),
    ),
    ("two replays", Decided(TWO_SENDS)),
    ("two incomplete replays", Decided(TWO_SENDS)),
    (
        "clone dropped before polling",
        Test("early_answers::a_body_that_was_never_read_or_was_dropped_is_sent_once_whole"),
    ),
    (
        "EOS with trailers",
        Test("replaying::the_end_comes_only_after_the_trailers"),
    ),
    (
        "exactly at cap",
        Test("recording::exactly_at_the_limit_a_body_is_sent_again"),
    ),
    (
        "one byte over cap while streaming",
        Test("recording::one_byte_over_the_limit_is_sent_whole_and_its_401_is_the_callers"),
    ),
    (
        "cap hit during the replay",
        Test("recording::the_second_send_may_be_longer_than_the_limit"),
    ),
    (
        "size hint stable",
        Test("replaying::both_sends_have_the_same_size_hint"),
    ),
    (
        "body error mid-stream",
        Test("recording::a_body_that_breaks_is_the_callers_error_and_leaves_the_token_alone"),
    ),
    (
        "POST buffered \"test data\" 401 then 200",
        Test("on_the_wire::a_post_from_a_buffer_is_read_twice_by_the_server"),
    ),
    (
        "10 concurrent PUTs, each challenged once",
        Test("replaying::a_hundred_refused_puts_each_send_their_own_body_again"),
    ),
    (
        "non-replayable POST stream 401",
        Test("recording::one_byte_over_the_limit_is_sent_whole_and_its_401_is_the_callers"),
    ),
    (
        "Expect: 100-continue, 401 instead of 100",
        Test("on_the_wire::a_body_that_the_server_did_not_ask_for_is_sent_once_by_the_second_send"),
    ),
    (
        "Content-Length preserved",
        Test("on_the_wire::both_sends_have_the_same_content_length_and_no_chunks"),
    ),
    (
        "replayed request = original",
        Test("replaying::the_same_method_uri_version_headers_and_extensions"),
    ),
];

#[test]
fn a_margin_of_ones_own_is_kept_to_the_millisecond() {
    paused(async {
        let (_, source) = numbered(secs(3600));
        let cache = TokenCache::builder(source).expiry_margin(secs(5)).build();
        cache.ready().await.unwrap();
        sleep(secs(3595) - Duration::from_millis(1)).await;
        assert!(cache.has_token());
        sleep(Duration::from_millis(1)).await;
        settle().await;
        assert!(!cache.has_token());
    });
}

#[test]
fn three_tokens_in_a_row_are_three_token_requests() {
    paused(async {
        let (ledger, source) = numbered(secs(1000));
        let cache = TokenCache::from(source);
        let begun = Instant::now();
        for (at, token) in [(100, "token-1"), (1500, "token-2"), (2500, "token-3")] {
            sleep_until(begun + secs(at)).await;
            for _ in 0..2 {
                assert_eq!(cache.get().await.unwrap().expose_secret(), token, "{at} s");
            }
        }
        assert_eq!(ledger.calls(), 3);
    });
}

#[test]
#[expect(clippy::print_stdout, reason = "says that it didn't run")]
fn every_behaviour_has_a_test_or_a_reason() {
    let Some(dir) = env::var_os("CASES_DIR") else {
        println!("skipped: CASES_DIR is not set");
        return;
    };
    let text = fs::read_to_string(Path::new(&dir).join("behaviour.json")).unwrap();
    let cases: Vec<Value> = serde_json::from_str(&text).unwrap();
    for (category, table) in [
        ("timing", TIMING),
        ("concurrency", CONCURRENCY),
        ("routing", ROUTING),
        ("replay", REPLAY),
    ] {
        let cases: HashSet<&str> = cases
            .iter()
            .filter(|case| case["category"] == category)
            .map(|case| case["name"].as_str().unwrap())
            .collect();
        let listed: HashSet<&str> = table.iter().map(|(name, _)| *name).collect();
        assert!(!cases.is_empty(), "{category}: the suite has no cases");
        let missing: Vec<_> = cases.difference(&listed).collect();
        assert!(
            missing.is_empty(),
            "{category}: not in the table: {missing:?}"
        );
        let stale: Vec<_> = listed.difference(&cases).collect();
        assert!(stale.is_empty(), "{category}: not in the suite: {stale:?}");
        assert_eq!(listed.len(), table.len(), "{category}: a case twice");
    }
}

#[test]
fn every_test_that_is_named_exists() {
    for (name, holds) in [TIMING, CONCURRENCY, ROUTING, REPLAY].concat() {
        match holds {
            Test(path) => assert!(exists(path), "{name}: there is no test {path}"),
            Decided(why) | Later(why) => assert!(!why.is_empty(), "{name}"),
        }
    }
}

#[test]
fn a_test_that_is_not_there_is_noticed() {
    assert!(exists("suite::every_file_is_named"));
    assert!(exists(
        "src/cache/snapshot.rs::the_longest_lifetime_overflows_nothing"
    ));
    assert!(!exists("suite::every_file_is_name"));
    assert!(!exists("suite::check"), "a function, but no test");
    assert!(!exists("nowhere::every_file_is_named"));
}

fn exists(path: &str) -> bool {
    let (source, test) = source(path);
    let start = format!("fn {test}(");
    let mut lines = source.lines().map(|line| line.trim_start());
    let mut marked = false;
    lines.any(|line| {
        let begins = line
            .strip_prefix("async ")
            .unwrap_or(line)
            .starts_with(&start);
        let found = begins && marked;
        marked = is_mark(line) || marked && line.starts_with('#');
        found
    })
}

fn is_mark(line: &str) -> bool {
    line.starts_with("#[test]") || line.starts_with("#[tokio::test")
}

/// The source that a path names, and the test in it.
fn source(path: &str) -> (String, &str) {
    let (module, test) = path.rsplit_once("::").unwrap();
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let file = match module.ends_with(".rs") {
        true => root.join(module),
        false => root.join("tests/it").join(module).with_extension("rs"),
    };
    (fs::read_to_string(file).unwrap_or_default(), test)
}
