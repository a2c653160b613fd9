//! Send: the way of a request to the server and back, by any Tower service.

use std::{
    future::{Future, poll_fn},
    pin::{Pin, pin},
    sync::{Mutex, PoisonError},
    task::{Context, Poll},
};

use bytes::{BufMut, Bytes};
use http::{HeaderMap, Request, Response, StatusCode};
use http_body::Body;
use http_body_util::{BodyExt, Full, LengthLimitError, Limited};
#[cfg(feature = "https-client")]
use hyper_util::client::legacy::connect::{CaptureConnection, capture_connection};
use tower_service::Service;
use zeroize::Zeroizing;

use super::failure::Failure;
use crate::source::BoxError;

/// RFC 6749 §5.1: "The client should avoid making assumptions about value sizes." This is for
/// servers that never stop.
const MAX_ANSWER: usize = 1024 * 1024;

/// An answer, read to its end.
pub(super) struct Answer {
    pub(super) status: StatusCode,
    pub(super) headers: HeaderMap,
    pub(super) body: Zeroizing<Vec<u8>>,
}

/// A Tower HTTP service behind a pointer, so that endpoints need no type parameter for it. The box
/// is paid once per token.
///
/// The lock is held to clone the service, no longer. It is there so that services needn't be
/// `Sync`: many aren't.
pub(super) struct Transport {
    service: Mutex<Box<dyn Erased>>,
    /// Whether it tells when a request gets its connection.
    #[cfg(feature = "https-client")]
    is_built_in: bool,
}

impl Transport {
    pub(super) fn new<S, RB>(service: S) -> Self
    where
        S: Service<Request<Full<Bytes>>, Response = Response<RB>> + Clone + Send + 'static,
        S::Future: Send,
        S::Error: Into<BoxError>,
        RB: Body + Send + 'static,
        RB::Error: Into<BoxError>,
    {
        Self {
            service: Mutex::new(Box::new(service)),
            #[cfg(feature = "https-client")]
            is_built_in: false,
        }
    }

    /// Of a service that hands its requests, with their extensions, to hyper-util's client.
    #[cfg(feature = "https-client")]
    pub(super) fn built_in(self) -> Self {
        Self {
            is_built_in: true,
            ..self
        }
    }

    #[cfg_attr(not(feature = "https-client"), expect(unused_mut))]
    pub(super) fn send(&self, mut request: Request<Full<Bytes>>) -> Sending {
        #[cfg(feature = "https-client")]
        let connection = self.is_built_in.then(|| capture_connection(&mut request));
        // A panic in somebody's `clone` leaves the service as it was.
        let service = self.service.lock().unwrap_or_else(PoisonError::into_inner);
        Sending {
            answer: service.start(request),
            #[cfg(feature = "https-client")]
            connection,
        }
    }
}

/// A request under way.
pub(super) struct Sending {
    answer: Answering,
    /// Where its connection will be told, if it will be.
    #[cfg(feature = "https-client")]
    connection: Option<CaptureConnection>,
}

impl Sending {
    /// Whether it is known that there is no connection yet, so that nothing can have been sent.
    pub(super) fn is_unconnected(&self) -> bool {
        #[cfg(feature = "https-client")]
        if let Some(connection) = &self.connection {
            return connection.connection_metadata().is_none();
        }
        false
    }
}

impl Future for Sending {
    type Output = Result<Answer, Failure>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        self.answer.as_mut().poll(cx)
    }
}

type Answering = Pin<Box<dyn Future<Output = Result<Answer, Failure>> + Send>>;

trait Erased: Send {
    fn start(&self, request: Request<Full<Bytes>>) -> Answering;
}

impl<S, RB> Erased for S
where
    S: Service<Request<Full<Bytes>>, Response = Response<RB>> + Clone + Send + 'static,
    S::Future: Send,
    S::Error: Into<BoxError>,
    RB: Body + Send + 'static,
    RB::Error: Into<BoxError>,
{
    fn start(&self, request: Request<Full<Bytes>>) -> Answering {
        let mut service = self.clone();
        Box::pin(async move {
            poll_fn(|cx| service.poll_ready(cx))
                .await
                .map_err(|error| Failure::Service(error.into()))?;
            let response = service
                .call(request)
                .await
                .map_err(|error| Failure::Service(error.into()))?;
            read(response).await
        })
    }
}

/// Reads the body as it comes: `Content-Length` is a promise that isn't believed.
async fn read<RB>(response: Response<RB>) -> Result<Answer, Failure>
where
    RB: Body,
    RB::Error: Into<BoxError>,
{
    let (head, body) = response.into_parts();
    let mut body = pin!(Limited::new(body, MAX_ANSWER));
    // Overwritten as far as it is ours: the transport's own buffers held these bytes, too.
    let mut read = Zeroizing::new(Vec::new());
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|error| {
            if error.is::<LengthLimitError>() {
                Failure::TooLarge(head.status)
            } else {
                Failure::Body(error)
            }
        })?;
        if let Ok(data) = frame.into_data() {
            read.put(data);
        }
    }
    Ok(Answer {
        status: head.status,
        headers: head.headers,
        body: read,
    })
}

#[cfg(test)]
mod tests {
    use std::{cell::Cell, convert::Infallible};

    use bytes::Buf;

    use super::*;

    fn request() -> Request<Full<Bytes>> {
        Request::new(Full::new(Bytes::from_static(b"grant_type=x")))
    }

    /// Not `Sync`, and ready at the second poll of the clone that is called.
    #[derive(Clone, Default)]
    struct Picky {
        polls: Cell<u32>,
    }

    impl Service<Request<Full<Bytes>>> for Picky {
        type Response = Response<String>;
        type Error = Infallible;
        type Future = std::future::Ready<Result<Response<String>, Infallible>>;

        fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
            self.polls.set(self.polls.get().saturating_add(1));
            if self.polls.get() < 2 {
                cx.waker().wake_by_ref();
                return Poll::Pending;
            }
            Poll::Ready(Ok(()))
        }

        fn call(&mut self, _: Request<Full<Bytes>>) -> Self::Future {
            assert!(self.polls.get() >= 2, "called before it was ready");
            std::future::ready(Ok(Response::new(String::from("ok"))))
        }
    }

    #[tokio::test]
    async fn readiness_is_awaited_on_the_clone_that_is_called() {
        let transport = Transport::new(Picky::default());
        for _ in 0..2 {
            let answer = transport.send(request()).await.unwrap();
            assert_eq!(**answer.body, *b"ok");
        }
    }

    /// A body whose pieces can't even be sent to another thread.
    struct Local(Option<&'static [u8]>);

    struct LocalPiece(std::io::Cursor<std::rc::Rc<[u8]>>);

    impl Buf for LocalPiece {
        fn remaining(&self) -> usize {
            self.0.remaining()
        }
        fn chunk(&self) -> &[u8] {
            self.0.chunk()
        }
        fn advance(&mut self, count: usize) {
            self.0.advance(count);
        }
    }

    impl Body for Local {
        type Data = LocalPiece;
        type Error = Infallible;

        fn poll_frame(
            mut self: Pin<&mut Self>,
            _: &mut Context<'_>,
        ) -> Poll<Option<Result<http_body::Frame<LocalPiece>, Infallible>>> {
            Poll::Ready(self.0.take().map(|bytes| {
                let piece = LocalPiece(std::io::Cursor::new(bytes.into()));
                Ok(http_body::Frame::data(piece))
            }))
        }
    }

    #[tokio::test]
    async fn a_body_may_have_any_data() {
        let transport = Transport::new(tower::service_fn(|_| async {
            Ok::<_, Infallible>(Response::new(Local(Some(b"ok"))))
        }));
        let answer = transport.send(request()).await.unwrap();
        assert_eq!(**answer.body, *b"ok");
    }

    // rule F31
    #[tokio::test]
    async fn an_answer_is_read_up_to_a_limit() {
        for (size, fits) in [(MAX_ANSWER, true), (MAX_ANSWER + 1, false)] {
            let transport = Transport::new(tower::service_fn(move |_| async move {
                Ok::<_, Infallible>(Response::new(Full::new(Bytes::from(vec![b' '; size]))))
            }));
            let outcome = transport.send(request()).await;
            assert_eq!(outcome.is_ok(), fits, "{size}");
            assert!(fits || matches!(outcome, Err(Failure::TooLarge(StatusCode::OK))));
        }
    }
}
