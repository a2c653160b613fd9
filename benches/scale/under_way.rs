//! Many requests under way at once through one layer, whose server takes its time: what each
//! keeps, and how long all their answers take.

use std::{
    convert::Infallible,
    fmt::Debug,
    future::Future,
    mem::size_of_val,
    pin::Pin,
    task::{Context, Poll, Waker},
};

use allocation_counter::measure;
use bytes::Bytes;
use http::{Request, Response};
use http_body_util::Full;
use tokio::sync::watch;
use tower::{Layer, Service, service_fn};
use tower_oauth::{OAuthLayer, TokenCache};

use crate::{
    fixture::token,
    host::{Mark, one_thread},
    plan::Plan,
    table::{count, each, head, line, median, nanos},
};

pub fn run(plan: &Plan) {
    for (name, body) in [("GET", 0), ("POST of 1 KiB", 1024)] {
        head(
            &format!("{name}, 6 headers"),
            [
                "under way",
                "future",
                "heap bytes",
                "allocations",
                "together",
                "answer",
            ],
        );
        for &requests in plan.callers {
            of_requests(requests, body, plan.rounds(requests));
        }
    }
    println!(
        "(heap: allocated by the call, the request itself being there; answer: per request, once all are let go)"
    );
}

fn of_requests(number: usize, body: usize, rounds: usize) {
    let runtime = one_thread();
    let _entered = runtime.enter();
    let cache = TokenCache::from(|| async { token(0) });
    runtime.block_on(cache.ready()).unwrap();
    let layer = OAuthLayer::for_any_origin(cache);

    let mut samples = [const { Vec::new() }; 3];
    for _ in 0..rounds {
        let gate = watch::Sender::new(false);
        samples[0].push(under_way(number, body, &gate, server(&gate)));
        let gate = watch::Sender::new(false);
        let once = layer.clone().without_retry().layer(server(&gate));
        samples[1].push(under_way(number, body, &gate, once));
        let gate = watch::Sender::new(false);
        samples[2].push(under_way(number, body, &gate, layer.layer(server(&gate))));
    }
    for (name, samples) in ["no layer", "without_retry", "with retry"]
        .iter()
        .zip(samples)
    {
        let of = |part: fn(&Kept) -> f64| median(samples.iter().map(part).collect());
        let (future, heap) = (of(|kept| kept.future), of(|kept| kept.heap));
        let cells = [
            count(number),
            format!("{future:.0}"),
            format!("{heap:.1}"),
            format!("{:.1}", of(|kept| kept.allocations)),
            format!("{:.1}", future + heap),
            nanos(of(|kept| kept.answer)),
        ];
        line(name, cells);
    }
}

/// Per request.
struct Kept {
    future: f64,
    heap: f64,
    allocations: f64,
    answer: f64,
}

fn under_way<S>(number: usize, body: usize, gate: &watch::Sender<bool>, mut client: S) -> Kept
where
    S: Service<Request<Full<Bytes>>, Error: Debug>,
{
    let requests: Vec<_> = (0..number).map(|number| request(number, body)).collect();
    let mut calls: Vec<Pin<Box<S::Future>>> = Vec::with_capacity(number);
    let mut context = Context::from_waker(Waker::noop());
    let counted = measure(|| {
        for request in requests {
            let mut call = Box::pin(client.call(request));
            assert!(call.as_mut().poll(&mut context).is_pending());
            calls.push(call);
        }
    });
    // The list of the requests is gone by then, and each future is in a box.
    let list = (number * size_of::<Request<Full<Bytes>>>()) as f64;
    let future = size_of_val(&*calls[0]);
    let of = number as f64;
    let heap = (counted.bytes_current as f64 + list) / of - future as f64;

    let started = Mark::begin();
    gate.send_replace(true);
    for call in &mut calls {
        match call.as_mut().poll(&mut context) {
            Poll::Ready(answer) => drop(answer.unwrap()),
            Poll::Pending => panic!("it was let go"),
        }
    }
    Kept {
        future: future as f64,
        heap,
        allocations: (counted.count_current as f64 + 1.0) / of - 1.0,
        answer: each(started.elapsed(), number),
    }
}

fn request(number: usize, body: usize) -> Request<Full<Bytes>> {
    let request = Request::builder()
        .method(if body == 0 { "GET" } else { "POST" })
        .uri(format!("https://api.example.com/accounts/{number}/moves"))
        .header("accept", "application/json")
        .header("accept-encoding", "gzip")
        .header("content-type", "application/json")
        .header("user-agent", "scale/1")
        .header("x-request-id", format!("{number:032}"))
        .header("x-tenant", format!("{number:08}"));
    request.body(Full::from(vec![b'x'; body])).unwrap()
}

/// Keeps each request until all are let go.
fn server<B>(
    gate: &watch::Sender<bool>,
) -> impl Service<
    Request<B>,
    Response = Response<()>,
    Error = Infallible,
    Future: Future<Output = Result<Response<()>, Infallible>>,
> + Clone
+ use<B> {
    let gate = gate.subscribe();
    service_fn(move |request: Request<B>| {
        let mut gate = gate.clone();
        async move {
            let _ = gate.wait_for(|open| *open).await;
            drop(request);
            Ok(Response::new(()))
        }
    })
}
