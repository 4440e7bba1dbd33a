//! A small static-file HTTP/1.1 service for hyper: GET and HEAD of files, `/bytes/N`, and PUT.

use anyhow::Result;
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt, Full, StreamBody};
use hyper::body::{Body, Bytes, Frame, Incoming};
use hyper::header::{CONTENT_LENGTH, CONTENT_TYPE};
use hyper::{Method, Request, Response, StatusCode};
use std::io;
use std::path::{Component, Path, PathBuf};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

/// Bytes read from a file at a time.
const BLOCK: usize = 128 * 1024;

/// Body of every answer.
pub type Answer = Response<BoxBody<Bytes, io::Error>>;

/// Serves one request from the folder `root`.
pub async fn serve(root: PathBuf, request: Request<Incoming>) -> Result<Answer, io::Error> {
    let Some(path) = resolve(&root, request.uri().path()) else {
        return Ok(text(StatusCode::BAD_REQUEST, "the path leaves the served folder\n"));
    };
    match *request.method() {
        Method::GET | Method::HEAD => {
            let head = request.method() == Method::HEAD;
            if let Some(len) = request.uri().path().strip_prefix("/bytes/").and_then(|n| n.parse().ok()) {
                return Ok(zeroes(len, head));
            }
            file(&path, head).await
        }
        Method::PUT => store(&path, request.into_body()).await,
        _ => Ok(text(StatusCode::METHOD_NOT_ALLOWED, "GET, HEAD and PUT are served\n")),
    }
}

/// Path below `root`, or `None` if it would leave it.
fn resolve(root: &Path, uri: &str) -> Option<PathBuf> {
    let relative = Path::new(uri.trim_start_matches('/'));
    relative.components().all(|c| matches!(c, Component::Normal(_))).then(|| root.join(relative))
}

async fn file(path: &Path, head: bool) -> Result<Answer, io::Error> {
    let (file, len) = match tokio::fs::File::open(path).await {
        Ok(file) => {
            let meta = file.metadata().await?;
            if !meta.is_file() {
                return Ok(text(StatusCode::NOT_FOUND, "not a file\n"));
            }
            (file, meta.len())
        }
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(text(StatusCode::NOT_FOUND, "no such file\n")),
        Err(e) => return Ok(text(StatusCode::FORBIDDEN, &format!("{e}\n"))),
    };
    let body = if head { empty() } else { stream(file) };
    let mut answer = Response::new(body);
    answer.headers_mut().insert(CONTENT_LENGTH, len.into());
    answer.headers_mut().insert(CONTENT_TYPE, hyper::header::HeaderValue::from_static("application/octet-stream"));
    Ok(answer)
}

fn stream(file: tokio::fs::File) -> BoxBody<Bytes, io::Error> {
    let blocks = futures_util::stream::try_unfold(file, |mut file| async move {
        let mut block = Vec::with_capacity(BLOCK);
        let n = file.read_buf(&mut block).await?;
        Ok((n > 0).then(|| (Frame::data(Bytes::from(block)), file)))
    });
    BoxBody::new(StreamBody::new(
        Box::pin(blocks) as std::pin::Pin<Box<dyn futures_util::Stream<Item = _> + Send + Sync>>
    ))
}

fn zeroes(len: u64, head: bool) -> Answer {
    let body = if head {
        empty()
    } else {
        let blocks = futures_util::stream::iter(
            std::iter::successors(Some(len), |left| Some(left.saturating_sub(BLOCK as u64)))
                .take_while(|left| *left > 0)
                .map(|left| {
                    static ZEROES: [u8; BLOCK] = [0; BLOCK];
                    Ok::<_, io::Error>(Frame::data(Bytes::from_static(&ZEROES[..left.min(BLOCK as u64) as usize])))
                }),
        );
        BoxBody::new(StreamBody::new(blocks))
    };
    let mut answer = Response::new(body);
    answer.headers_mut().insert(CONTENT_LENGTH, len.into());
    answer
}

async fn store(path: &Path, mut body: Incoming) -> Result<Answer, io::Error> {
    let mut file = match tokio::fs::File::create(path).await {
        Ok(file) => file,
        Err(e) => return Ok(text(StatusCode::FORBIDDEN, &format!("{e}\n"))),
    };
    let mut len = 0;
    while let Some(frame) = body.frame().await {
        if let Ok(data) = frame.map_err(io::Error::other)?.into_data() {
            len += data.len();
            file.write_all(&data).await?;
        }
    }
    file.flush().await?;
    debug_assert!(body.is_end_stream());
    Ok(text(StatusCode::CREATED, &format!("{len} bytes stored\n")))
}

fn empty() -> BoxBody<Bytes, io::Error> {
    Full::new(Bytes::new()).map_err(|never| match never {}).boxed()
}

fn text(status: StatusCode, message: &str) -> Answer {
    let mut answer =
        Response::new(Full::new(Bytes::copy_from_slice(message.as_bytes())).map_err(|never| match never {}).boxed());
    *answer.status_mut() = status;
    answer
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_cannot_leave_the_served_folder() {
        let root = Path::new("/srv");
        assert_eq!(resolve(root, "/a/b"), Some(PathBuf::from("/srv/a/b")));
        assert_eq!(resolve(root, "/../etc/passwd"), None);
        assert_eq!(resolve(root, "/a/../../etc/passwd"), None);
    }
}
