//! Where captured bytes go: a file written by a thread of its own, so that a slow disk does not hold the stream from the
//! daemon back (the daemon would drop frames). A regular file is written through io_uring where the kernel lets us, else by
//! plain writes; which is better is not measured yet (`--writer`).
//!
//! One write is under way at a time and chunks hold whole blocks: the file is a valid pcapng at every moment.

use std::{fs::File, io::Write, thread::JoinHandle};

use bytes::Bytes;
use tokio::sync::mpsc;

/// Chunks that wait for the disk; each has up to 256 KiB. Then the stream waits too, and the daemon counts what it drops.
const QUEUE: usize = 16;

/// A file being written.
#[derive(Debug)]
pub struct Writer {
    chunks: mpsc::Sender<Bytes>,
    thread: JoinHandle<std::io::Result<()>>,
}

impl Writer {
    /// Writes to `file`; `how` is asked for, not promised.
    pub fn start(file: File, how: Method) -> std::io::Result<Self> {
        let (chunks, queue) = mpsc::channel(QUEUE);
        let thread = std::thread::Builder::new().name("capture-writer".into()).spawn(move || {
            // A pipe or a terminal has no offsets to write at.
            let regular = file.metadata()?.is_file();
            match how {
                // Containers often forbid io_uring: then plain writes do.
                Method::Uring if regular => match tokio_uring::Runtime::new(&tokio_uring::builder()) {
                    Ok(runtime) => runtime.block_on(through_uring(file, queue)),
                    Err(_) => plainly(file, queue),
                },
                Method::Uring | Method::Plain => plainly(file, queue),
            }
        })?;
        Ok(Self { chunks, thread })
    }

    /// Queues a chunk. `false`: the thread has ended, and [`finish`](Self::finish) says why.
    pub async fn write(&self, chunk: Bytes) -> bool {
        self.chunks.send(chunk).await.is_ok()
    }

    /// Waits until all is in the file.
    pub async fn finish(self) -> std::io::Result<()> {
        let Self { chunks, thread } = self;
        drop(chunks);
        tokio::task::spawn_blocking(move || thread.join())
            .await
            .map_err(std::io::Error::other)?
            .unwrap_or_else(|_| Err(std::io::Error::other("the capture writer panicked")))
    }
}

/// How a file is written.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, clap::ValueEnum)]
pub enum Method {
    /// io_uring, or plain writes where it is not to be had.
    #[default]
    Uring,
    /// One `write` a chunk.
    Plain,
}

async fn through_uring(file: File, mut queue: mpsc::Receiver<Bytes>) -> std::io::Result<()> {
    let file = tokio_uring::fs::File::from_std(file);
    let mut at = 0;
    while let Some(chunk) = queue.recv().await {
        let len = chunk.len() as u64;
        file.write_all_at(chunk, at).await.0?;
        at += len;
    }
    file.close().await
}

fn plainly(mut file: File, mut queue: mpsc::Receiver<Bytes>) -> std::io::Result<()> {
    while let Some(chunk) = queue.blocking_recv() {
        file.write_all(&chunk)?;
    }
    file.flush()
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn written(how: Method, file: File) -> std::io::Result<()> {
        let writer = Writer::start(file, how)?;
        for n in 0..200u32 {
            if !writer.write(Bytes::from(vec![n as u8; 4096 + n as usize])).await {
                break;
            }
        }
        writer.finish().await
    }

    #[tokio::test]
    async fn chunks_are_in_the_file_whole_and_in_order_by_either_method() {
        let dir = tempfile::tempdir().expect("a folder");
        let wanted: Vec<u8> = (0..200u32).flat_map(|n| vec![n as u8; 4096 + n as usize]).collect();
        for how in [Method::Uring, Method::Plain] {
            let path = dir.path().join(format!("{how:?}"));
            written(how, File::create(&path).expect("creates")).await.expect("writes");
            assert!(std::fs::read(&path).expect("reads") == wanted, "{how:?}");
        }
    }

    #[tokio::test]
    async fn a_full_disk_is_told_not_swallowed() {
        for how in [Method::Uring, Method::Plain] {
            let full = File::options().write(true).open("/dev/full").expect("Linux has it");
            let error = written(how, full).await.expect_err("nothing fits");
            assert_eq!(error.kind(), std::io::ErrorKind::StorageFull, "{how:?}");
        }
    }
}
