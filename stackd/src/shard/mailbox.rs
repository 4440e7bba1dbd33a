//! What other threads say to a shard, and how.

use super::steer::{Flow, Shards};
use super::wait::Bell;
use crate::control::backend::{Command, ShardHandle};
use crate::session::NewSession;
use stackd_base::{Duration, PortId};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};

/// A message of the daemon itself (control commands have their own queue).
#[derive(Debug)]
pub enum Message {
    /// A client attached; the shard serves it from now on.
    Attached(Box<NewSession>),
    /// A frame that another shard's queue received and that belongs to a flow of this one.
    Frame {
        /// The interface it came through.
        port: PortId,
        /// The frame, offload state and all.
        frame: Box<HandedFrame>,
    },
    /// Close everything politely; end when done or when the time is over.
    Stop(Duration),
}

/// A frame on its way from one shard to another.
#[derive(Debug)]
pub struct HandedFrame {
    /// The bytes.
    pub bytes: Vec<u8>,
    /// As the device handed it over.
    pub meta: stackd_netdev::RxMeta,
    /// The shards that are still to be asked for its flow, the receiver among them; `None`: it is the receiver's for certain.
    pub search: Option<Search>,
}

/// A frame goes round until a shard knows its flow.
#[derive(Clone, Copy, Debug)]
pub struct Search {
    /// The flow.
    pub flow: Flow,
    /// Who was not asked yet.
    pub candidates: Shards,
    /// Who answers if nobody knows it.
    pub last: u8,
}

/// Frames that may wait for a shard; more are dropped, as by a device's full ring.
const MAX_FRAMES: usize = 4096;

/// The end that other threads hold.
#[derive(Clone, Debug)]
pub struct Mailer {
    sender: Sender<Message>,
    bell: Arc<Bell>,
    frames: Arc<AtomicUsize>,
}

impl Mailer {
    /// Sends, and wakes the shard if it sleeps. False: the shard is gone.
    pub fn send(&self, message: Message) -> bool {
        let sent = self.sender.send(message).is_ok();
        self.bell.ring();
        sent
    }

    /// Sends a frame. False: too many wait already, or the shard is gone; the frame is lost.
    pub fn send_frame(&self, port: PortId, frame: HandedFrame) -> bool {
        if self.frames.fetch_add(1, Ordering::Relaxed) >= MAX_FRAMES {
            self.frames.fetch_sub(1, Ordering::Relaxed);
            return false;
        }
        self.send(Message::Frame { port, frame: Box::new(frame) })
    }
}

/// The end that the shard holds.
#[derive(Debug)]
pub struct Mailbox {
    /// The daemon's messages.
    pub messages: Receiver<Message>,
    /// The control plane's commands.
    pub commands: Receiver<Command>,
    /// Rung by both.
    pub bell: Arc<Bell>,
    frames: Arc<AtomicUsize>,
}

impl Mailbox {
    /// A frame was taken out: there is room for another.
    pub fn took_frame(&self) {
        self.frames.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Makes one shard's mailbox and the two ends that others hold.
pub fn mailbox() -> anyhow::Result<(Mailer, ShardHandle, Mailbox)> {
    let bell = Bell::new()?;
    let (sender, messages) = channel();
    let ringing = bell.clone();
    let (handle, commands) = ShardHandle::new(Arc::new(move || ringing.ring()));
    let frames = Arc::new(AtomicUsize::new(0));
    let mailer = Mailer { sender, bell: bell.clone(), frames: frames.clone() };
    Ok((mailer, handle, Mailbox { messages, commands, bell, frames }))
}
