//! Any packet on the attach socket is a message or an error, and a message encodes back to itself.
#![no_main]

use libfuzzer_sys::fuzz_target;
use stackd_shm::attach::Message;

fuzz_target!(|data: &[u8]| {
    if let Ok(message) = Message::decode(data) {
        // Texts may be cut or repaired on the way in: once decoded, they are stable.
        let again = Message::decode(&message.encode()).expect("what was read can be written");
        assert_eq!(Message::decode(&again.encode()).as_ref(), Ok(&again));
    }
});
