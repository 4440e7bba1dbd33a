//! A bound on the time of a control call; socket calls wait as long as their callers want.

use std::{
    convert::Infallible,
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use stackd_proto::{StatusError, v1::Errno};
use tonic::{
    Status,
    body::Body,
    codegen::http::{Request, Response},
};
use tower::{Layer, Service};

/// Answers ETIMEDOUT when a service has not begun to answer in time. Streams that have begun are not cut.
#[derive(Clone, Copy, Debug)]
pub struct DeadlineLayer {
    limit: Duration,
}

impl DeadlineLayer {
    /// `limit` for each call.
    pub fn new(limit: Duration) -> Self {
        Self { limit }
    }
}

impl<S> Layer<S> for DeadlineLayer {
    type Service = DeadlineService<S>;
    fn layer(&self, inner: S) -> Self::Service {
        DeadlineService { inner, limit: self.limit }
    }
}

/// See [`DeadlineLayer`].
#[derive(Clone, Debug)]
pub struct DeadlineService<S> {
    inner: S,
    limit: Duration,
}

impl<S> Service<Request<Body>> for DeadlineService<S>
where
    S: Service<Request<Body>, Response = Response<Body>, Error = Infallible> + Clone + Send + 'static,
    S::Future: Send + 'static,
{
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Response<Body>, Infallible>> + Send>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let waits = request.uri().path().starts_with("/stackd.v1.SocketService/");
        let limit = self.limit;
        let work = self.inner.call(request);
        if waits {
            return Box::pin(work);
        }
        Box::pin(async move {
            match tokio::time::timeout(limit, work).await {
                Ok(done) => done,
                Err(_) => {
                    let error = StatusError::new(Errno::Etimedout, format!("no shard answered within {limit:?}"));
                    Ok(Status::from(error).into_http())
                }
            }
        })
    }
}
