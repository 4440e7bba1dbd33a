//! Socket states: the names in the State column, the names in filters, and sets of them.

use stackd_proto::v1::TcpState;

/// A set of states: bit n is `TcpState` n, as in Linux's `idiag_states`.
pub type StateSet = u32;

const fn bit(state: TcpState) -> StateSet {
    1 << state as u32
}

/// Every state.
pub const ALL: StateSet = (1 << 14) - 2;
const LISTENING: StateSet = bit(TcpState::Listen);
const CLOSED: StateSet = bit(TcpState::Close);
const SYN_RECV: StateSet = bit(TcpState::SynRecv) | bit(TcpState::NewSynRecv);
const TIME_WAIT: StateSet = bit(TcpState::TimeWait);
/// What `ss` shows without -a, -l or a state filter: not listening, closed, or kept in minimal form.
pub const DEFAULT: StateSet = ALL & !(LISTENING | CLOSED | TIME_WAIT | SYN_RECV | bit(TcpState::BoundInactive));
/// What -l shows.
pub const LISTEN_OR_CLOSED: StateSet = LISTENING | CLOSED;
/// `connected`.
pub const CONNECTED: StateSet = ALL & !(LISTENING | CLOSED | bit(TcpState::BoundInactive));
/// `synchronized`.
pub const SYNCHRONIZED: StateSet = CONNECTED & !bit(TcpState::SynSent);
/// `bucket`: kept in minimal form, without a socket.
pub const BUCKET: StateSet = SYN_RECV | TIME_WAIT;
/// `big`.
pub const BIG: StateSet = ALL & !BUCKET;

/// Is the state in the set?
pub fn contains(set: StateSet, state: i32) -> bool {
    u32::try_from(state).is_ok_and(|n| n < 32 && set & (1 << n) != 0)
}

/// The State column's word.
pub fn column(state: TcpState) -> &'static str {
    match state {
        TcpState::Unspecified => "UNKNOWN",
        TcpState::Established => "ESTAB",
        TcpState::SynSent => "SYN-SENT",
        TcpState::SynRecv | TcpState::NewSynRecv => "SYN-RECV",
        TcpState::FinWait1 => "FIN-WAIT-1",
        TcpState::FinWait2 => "FIN-WAIT-2",
        TcpState::TimeWait => "TIME-WAIT",
        TcpState::Close | TcpState::BoundInactive => "UNCONN",
        TcpState::CloseWait => "CLOSE-WAIT",
        TcpState::LastAck => "LAST-ACK",
        TcpState::Listen => "LISTEN",
        TcpState::Closing => "CLOSING",
    }
}

/// The set a filter's word names.
pub fn by_name(name: &str) -> Option<StateSet> {
    Some(match name.to_ascii_lowercase().as_str() {
        "all" => ALL,
        "connected" => CONNECTED,
        "synchronized" => SYNCHRONIZED,
        "bucket" => BUCKET,
        "big" => BIG,
        "established" | "estab" => bit(TcpState::Established),
        "syn-sent" => bit(TcpState::SynSent),
        "syn-recv" => SYN_RECV,
        "fin-wait-1" => bit(TcpState::FinWait1),
        "fin-wait-2" => bit(TcpState::FinWait2),
        "time-wait" => TIME_WAIT,
        "unconnected" | "unconn" | "closed" | "close" => CLOSED,
        "close-wait" => bit(TcpState::CloseWait),
        "last-ack" => bit(TcpState::LastAck),
        "listening" | "listen" => LISTENING,
        "closing" => bit(TcpState::Closing),
        "bound-inactive" => bit(TcpState::BoundInactive),
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sets_are_those_of_the_manual() {
        assert!(!contains(DEFAULT, TcpState::Listen as i32));
        assert!(!contains(DEFAULT, TcpState::TimeWait as i32));
        assert!(contains(DEFAULT, TcpState::CloseWait as i32));
        assert!(contains(CONNECTED, TcpState::TimeWait as i32));
        assert!(!contains(SYNCHRONIZED, TcpState::SynSent as i32));
        assert_eq!(BUCKET | BIG, ALL);
        assert!(!contains(ALL, 0));
        assert!(!contains(ALL, -1));
        assert!(!contains(ALL, 99));
    }

    #[test]
    fn every_column_word_is_a_filter_word_of_the_same_state() {
        for n in 1..=13 {
            let state = TcpState::try_from(n).unwrap();
            if matches!(state, TcpState::BoundInactive) {
                continue;
            }
            assert!(contains(by_name(column(state)).unwrap(), n), "{state:?}");
        }
    }
}
