//! Layouts that differ are told apart, and no part of a connection is overlooked.

use crate::Connection;
use crate::record::layout::describe;
use serde::{Deserialize, Serialize};

#[derive(Serialize, Deserialize)]
enum Choice {
    None,
    Some(u8),
    Both { left: u16 },
}

#[derive(Serialize, Deserialize)]
struct Thing {
    choice: Option<Choice>,
    list: Vec<(u8, bool)>,
}

mod later {
    use super::{Deserialize, Serialize};

    #[derive(Serialize, Deserialize)]
    pub enum Choice {
        None,
        Some(u8),
        Both { left: u32 },
    }
    #[derive(Serialize, Deserialize)]
    pub struct Thing {
        choice: Option<Choice>,
        list: Vec<(u8, bool)>,
    }
}

/// The difference lies in a variant within an option: no value that happens to be encoded would show it.
#[test]
fn a_part_that_no_value_shows_counts() {
    let (now, then) = (describe::<Thing>(), describe::<later::Thing>());
    assert_ne!(now, then);
    assert_eq!(now, describe::<Thing>());
    assert_eq!(now.replace("left:u16", "left:u32"), then);
}

#[test]
fn a_connection_is_described_to_its_last_variant() {
    let text = describe::<Connection>();
    assert!(!text.contains('!'), "{text}");
    for part in
        ["cwnd:u32", "w_max:f64", "packet_conservation:bool", "Measuring", "Policed", "ts_recent:u32", "xmit:u64"]
    {
        assert!(text.contains(part), "{part} is missing in\n{text}");
    }
    assert!(!text.contains("tape"), "the tape is no part of what it records");
}
