//! The body of a request, up to the limit of `http.body`.

use std::error::Error;

use axum::body;
use axum::extract::Request;
use bytes::Bytes;
use http_body_util::LengthLimitError;

/// A body that is not all there.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ReadError {
    /// Send less, or raise the limit.
    #[error("the body is larger than {0} bytes: http.body")]
    TooLarge(usize),
    /// The connection broke, or the chunks are none.
    #[error("{0}")]
    Broken(axum::Error),
}

/// Reads all of it.
pub(crate) async fn read(request: Request, max: usize) -> Result<Bytes, ReadError> {
    body::to_bytes(request.into_body(), max).await.map_err(|cause| {
        let limited = cause.source().is_some_and(<dyn Error>::is::<LengthLimitError>);
        if limited { ReadError::TooLarge(max) } else { ReadError::Broken(cause) }
    })
}
