//! What comes from programs and tools: gRPC messages, control messages of `sendmsg`, socket options. Nothing panics; a message that was read
//! is written and read again as the same.
#![no_main]

mod reader;

use libfuzzer_sys::fuzz_target;
use prost::Message;
use reader::Reader;
use stackd_base::Instant;
use stackd_netstack::{Domain, HeapStore, OwnerId, SocketKind, Stack, StackConfig};
use stackd_proto::v1;

fn twice<M: Message + Default + std::fmt::Debug>(data: &[u8]) {
    let Ok(message) = M::decode(data) else { return };
    let bytes = message.encode_to_vec();
    assert_eq!(bytes.len(), message.encoded_len());
    let again = M::decode(&bytes[..]).expect("what was written can be read");
    // A NaN is not itself; its bytes are.
    assert!(again.encode_to_vec() == bytes, "{message:?} is not {again:?}");
}

fn socket(data: &[u8]) {
    let mut r = Reader(data);
    let now = Instant::from_nanos(1_000_000_000);
    let (mut stack, mut store) = (Stack::new(StackConfig::default(), 5), HeapStore::default());
    stack.add_loopback();
    let domain = if r.flip() { Domain::V6 } else { Domain::V4 };
    let kind = if r.flip() { SocketKind::Dgram } else { SocketKind::Stream };
    let Ok(sock) = stack.socket(now, domain, kind, OwnerId(1), &mut store) else { return };
    while !r.is_empty() {
        let (what, level) = (r.u8(), r.pick(&[0, 1, 6, 17, 41]));
        match what % 3 {
            0 => {
                let (option, n) = (i32::from(r.u8()), usize::from(r.u8()));
                let value = r.bytes(n);
                if stack.set_option(now, sock, level, option, value, &mut store).is_ok() {
                    let mut out = [0; 512];
                    let _ = stack.get_option(now, sock, level, option, &mut out);
                }
            }
            1 => {
                let (option, n) = (i32::from(r.u8()), usize::from(r.u8()));
                let mut out = vec![0; n];
                if let Ok(len) = stack.get_option(now, sock, level, option, &mut out) {
                    assert!(len <= n, "{len} bytes in {n}");
                }
            }
            _ => {
                // A header of the shape that cmsg(3) gives, and what follows as it is.
                let (len, option, n) = (r.u8(), i32::from(r.u8()), usize::from(r.u8() % 64));
                let mut control = (usize::from(len)).to_ne_bytes().to_vec();
                control.extend_from_slice(&i32::to_ne_bytes(level));
                control.extend_from_slice(&option.to_ne_bytes());
                control.extend_from_slice(r.bytes(n));
                let to = r.flip().then(|| ([127, 0, 0, 1], 9).into());
                let _ =
                    stack.send_message(now, sock, to, &control, &[b'x'; 100][..usize::from(r.u8() % 100)], &mut store);
            }
        }
    }
    for _ in 0..64 {
        let Some(p) = stack.poll_loopback(now, &mut store) else { break };
        stack.handle_loopback(now, p, &mut store);
    }
    let _ = stack.close(now, sock, &mut store);
}

fuzz_target!(|data: &[u8]| {
    let Some((&what, rest)) = data.split_first() else { return };
    match what % 16 {
        0 => twice::<v1::SocketDiag>(rest),
        1 => twice::<v1::DiagListRequest>(rest),
        2 => twice::<v1::CaptureRequest>(rest),
        3 => twice::<v1::ModifyRouteRequest>(rest),
        4 => twice::<v1::ModifyAddressRequest>(rest),
        5 => twice::<v1::ModifyNeighbourRequest>(rest),
        6 => twice::<v1::QdiscModifyRequest>(rest),
        7 => twice::<v1::ErrorDetail>(rest),
        8 => twice::<v1::ModifyRuleRequest>(rest),
        9 => twice::<v1::AddLinkRequest>(rest),
        _ => socket(rest),
    }
});
