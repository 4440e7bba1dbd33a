//! F-RTO: was the timeout spurious? (RFC 5682, the SACK-enhanced form.)

/// What to do in the ACK after a timeout.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Step {
    /// Wait for more.
    Wait,
    /// Send new data instead of retransmitting: its ACK will tell.
    SendNew,
    /// An original was delivered: the timeout was spurious.
    Spurious,
    /// Conventional recovery.
    Genuine,
}

/// RFC 5682, 3.1: `original_delivered`: the ACK covers data below `high_seq` that was never retransmitted.
pub(crate) fn on_ack(
    original_delivered: bool,
    una_advanced: bool,
    sacked_or_duplicate: bool,
    new_data_sent: bool,
    can_send_new: bool,
) -> Step {
    if original_delivered {
        return Step::Spurious;
    }
    if new_data_sent {
        // Step 3.a: a duplicate ACK after new data: the retransmission was needed.
        return if sacked_or_duplicate { Step::Genuine } else { Step::Wait };
    }
    if una_advanced {
        // Step 2.b: "transmit up to two new (previously unsent) segments".
        return if can_send_new { Step::SendNew } else { Step::Genuine };
    }
    Step::Wait
}
