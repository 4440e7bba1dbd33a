//! What other threads say to a shard, and how.

use super::wait::Bell;
use crate::control::backend::{Command, ShardHandle};
use crate::session::NewSession;
use stackd_base::{Duration, PortId};
use std::sync::Arc;
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
}

/// The end that other threads hold.
#[derive(Clone, Debug)]
pub struct Mailer {
    sender: Sender<Message>,
    bell: Arc<Bell>,
}

impl Mailer {
    /// Sends, and wakes the shard if it sleeps. False: the shard is gone.
    pub fn send(&self, message: Message) -> bool {
        let sent = self.sender.send(message).is_ok();
        self.bell.ring();
        sent
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
}

/// Makes one shard's mailbox and the two ends that others hold.
pub fn mailbox() -> anyhow::Result<(Mailer, ShardHandle, Mailbox)> {
    let bell = Bell::new()?;
    let (sender, messages) = channel();
    let ringing = bell.clone();
    let (handle, commands) = ShardHandle::new(Arc::new(move || ringing.ring()));
    Ok((Mailer { sender, bell: bell.clone() }, handle, Mailbox { messages, commands, bell }))
}
