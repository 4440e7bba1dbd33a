//! The test vectors of RFC 9235: whole IP packets with their traffic keys, both algorithms, both families, options covered or not.

use super::digest::{Algorithm, Segment};
use stackd_base::SeqNum;
use std::net::{IpAddr, SocketAddr};

/// RFC 9235, 3.1.1: the master key of all of them.
const MASTER: &[u8] = b"testvector";

struct Vector {
    section: &'static str,
    algorithm: Algorithm,
    options: bool,
    /// ISNs of client and server.
    isns: (u32, u32),
    traffic_key: &'static str,
    packet: &'static str,
}

use Algorithm::{AesCmac, HmacSha1};

const VECTORS: &[Vector] = &[
    Vector {
        section: "4.1.1",
        algorithm: HmacSha1,
        options: true,
        isns: (0xfbfb_ab5a, 0x11c1_4261),
        traffic_key: "6d63ef1b02fe1509d4b1402707fd7b0416abb74f",
        packet: "45e0004cdd0f4000ff06bf6b0a0b0c0dac1b1c1d e9d700b3fbfbab5a00000000e002ffffcac40000020405b40103030804 02080a00155ab7000000001d103d542ee437c6f8ede6d7c4d602e7",
    },
    Vector {
        section: "4.1.2",
        algorithm: HmacSha1,
        options: true,
        isns: (0xfbfb_ab5a, 0x11c1_4261),
        traffic_key: "d9e217e4834a80ca2f3fd8de2e41b8e6797fea96",
        packet: "45e0004c65064000ff063775ac1b1c1d0a0b0c0d 00b3e9d711c14261fbfbab5be012ffff37760000020405b40103030804 02080a84a50beb00155ab71d10543deeab0fe24c3010815116b3be",
    },
    Vector {
        section: "4.1.3",
        algorithm: HmacSha1,
        options: true,
        isns: (0xfbfb_ab5a, 0x11c1_4261),
        traffic_key: "d2e59c65ffc7b1a39347656463b70edc24a13d71",
        packet: "45e0008736a14000ff06659f0a0b0c0dac1b1c1d e9d700b3fbfbab5b11c14262c0180104a16200000101080a00155ac184a50beb1d103d547064cf998cc6c315c2c2e2bf ffffffffffffffffffffffffffffffff00430104dabf00b40a0b0c0d26020601040001000102028000020202000202420002064104 0000dabf02084006006400010100",
    },
    Vector {
        section: "4.1.4",
        algorithm: HmacSha1,
        options: true,
        isns: (0xfbfb_ab5a, 0x11c1_4261),
        traffic_key: "d9e217e4834a80ca2f3fd8de2e41b8e6797fea96",
        packet: "45e000871fa94000ff067c97ac1b1c1d0a0b0c0d 00b3e9d711c14262fbfbab9ec0180100400c00000101080a84a50bf500155ac11d10543da63f0ecbbb2e635c954deac7 ffffffffffffffffffffffffffffffff00430104dac000b4ac1b1c1d26020601040001000102028000020202000202420002064104 0000dac002084006006400010100",
    },
    Vector {
        section: "4.2.1",
        algorithm: HmacSha1,
        options: false,
        isns: (0xcb0e_fbee, 0xacd5_b5e1),
        traffic_key: "30eaa1560cf0be57dab5c045229fb10a423cd7ea",
        packet: "45e0004c53994000ff0648e20a0b0c0dac1b1c1d ff1200b3cb0efbee00000000e002ffff541f0000020405b40103030804 02080a00024cce000000001d103d5480af3cfeb85368937b8f9ec2",
    },
    Vector {
        section: "4.2.3",
        algorithm: HmacSha1,
        options: false,
        isns: (0xcb0e_fbee, 0xacd5_b5e1),
        traffic_key: "f3db1793d7910ecd806c34f155ea1f00345953e3",
        packet: "45e00087a8f54000ff06f34a0a0b0c0dac1b1c1d ff1200b3cb0efbefacd5b5e2c01801046c4500000101080a00024cce576772f31d103d54710608cc696c03a271c93aa5 ffffffffffffffffffffffffffffffff00430104dabf00b40a0b0c0d26020601040001000102028000020202000202420002064104 0000dabf02084006006400010100",
    },
    Vector {
        section: "5.1.1",
        algorithm: AesCmac,
        options: true,
        isns: (0x787a_1ddf, 0xfadd_6de9),
        traffic_key: "f5b8b3d5f34fdbb6eb8d4ab9660e60e3",
        packet: "45e0004c7b9f4000ff0620dc0a0b0c0dac1b1c1d c4fa00b3787a1ddf00000000e002ffff5a0f0000020405b40103030804 02080a00017ed0000000001d103d54e477e99c8040765498e55091",
    },
    Vector {
        section: "5.1.4",
        algorithm: AesCmac,
        options: true,
        isns: (0x787a_1ddf, 0xfadd_6de9),
        traffic_key: "4bc7571a486f3264bbd888474066b4b1",
        packet: "45e00087b9144000ff06e32bac1b1c1d0a0b0c0d 00b3c4fafadd6dea787a1e23c0180100e7db00000101080a93f4e9e800017ed01d10543df6d965a78382a74845f72dac ffffffffffffffffffffffffffffffff00430104dac000b4ac1b1c1d26020601040001000102028000020202000202420002064104 0000dac002084006006400010100",
    },
    Vector {
        section: "5.2.2",
        algorithm: AesCmac,
        options: false,
        isns: (0x389b_ed71, 0xd384_4a6f),
        traffic_key: "3ce67a551869506b6347b633c50a624a",
        packet: "45e0004c6cc04000ff062fbbac1b1c1d0a0b0c0d 00b3da1cd3844a6f389bed72e012ffffe4450000020405b40103030804 02080ace459838000185e11d10543d3a6abb207e49b1be7136db90",
    },
    Vector {
        section: "5.2.3",
        algorithm: AesCmac,
        options: false,
        isns: (0x389b_ed71, 0xd384_4a6f),
        traffic_key: "035bc400a341ffe595f59f58005006ca",
        packet: "45e00087ee914000ff06adae0a0b0c0dac1b1c1d da1c00b3389bed72d3844a70c0180104885100000101080a000185e1ce4598381d103d547585e9e9d5c3ec857b96f837 ffffffffffffffffffffffffffffffff00430104dabf00b40a0b0c0d26020601040001000102028000020202000202420002064104 0000dabf02084006006400010100",
    },
    Vector {
        section: "6.1.1",
        algorithm: HmacSha1,
        options: true,
        isns: (0x176a_833f, 0x3f51_994b),
        traffic_key: "625ec09d575836edc9b6428418bbf06989a361bb",
        packet: "6e0891dc00380640fd000000000000000000000000000001fd000000000000000000000000000002 f7e400b3176a833f00000000e002ffff47210000020405a0010303080402080a0041d087000000001d103d549033ec3d7334b64c5edd039f",
    },
    Vector {
        section: "6.1.3",
        algorithm: HmacSha1,
        options: true,
        isns: (0x176a_833f, 0x3f51_994b),
        traffic_key: "1ed82975f4ea444c61580c5bd90dbd61bbc91b7e",
        packet: "6e0891dc00730640fd000000000000000000000000000001fd000000000000000000000000000002 f7e400b3176a83403f51994cc0180100329c00000101080a0041d091bd33129b1d103d54bf0805feb4ac7b163d6fcdf2 ffffffffffffffffffffffffffffffff00430104fde800b40101017926020601040001000102028000020202000202420002064104 0000fde802084006006400010100",
    },
    Vector {
        section: "6.2.2",
        algorithm: HmacSha1,
        options: false,
        isns: (0x020c_1e69, 0xeba3_734d),
        traffic_key: "405108947f996575e7bdbc26d40216a2c7fa91bd",
        packet: "6e0a7e1f00380640fd000000000000000000000000000002fd000000000000000000000000000001 00b3c6cdeba3734d020c1e6ae012ffff774d0000020405a0010303080402080a5ec99b70009db95b1d10543d3c546bad9743f12df8b8010d",
    },
    Vector {
        section: "7.1.1",
        algorithm: AesCmac,
        options: true,
        isns: (0x193c_ccec, 0xa674_4ecb),
        traffic_key: "fa5a2108882d39d0c71929175ab1b7b8",
        packet: "6e04a70600380640fd000000000000000000000000000001fd000000000000000000000000000002 f85a00b3193cccec00000000e002ffffde5d0000020405a0010303080402080a13e4ab99000000001d103d5459b588107481ac6dc3927040",
    },
    Vector {
        section: "7.2.3",
        algorithm: AesCmac,
        options: false,
        isns: (0xb01d_a74a, 0xa624_6145),
        traffic_key: "4fb2086e402c679079ed65d4bf97693d",
        packet: "6e093d7600730640fd000000000000000000000000000001fd000000000000000000000000000002 f28800b3b01da74ba6246146c0180100c36d00000101080a14275b4f1782245b1d103d54290cf414ccb47a333276e7f8 ffffffffffffffffffffffffffffffff00430104fde800b40101017926020601040001000102028000020202000202420002064104 0000fde802084006006400010100",
    },
];

fn bytes(hex: &str) -> Vec<u8> {
    let digits: Vec<u8> =
        hex.bytes().filter(|b| *b != b' ').map(|b| (b as char).to_digit(16).expect("hex") as u8).collect();
    digits.as_chunks::<2>().0.iter().map(|[a, b]| a << 4 | b).collect()
}

#[test]
fn every_vector_has_its_traffic_key_and_its_mac() {
    for v in VECTORS {
        let packet = bytes(v.packet);
        let (src, dst, at): (IpAddr, IpAddr, usize) = if packet[0] >> 4 == 4 {
            let ip = |at: usize| IpAddr::from(<[u8; 4]>::try_from(&packet[at..at + 4]).expect("four"));
            (ip(12), ip(16), 20)
        } else {
            let ip = |at: usize| IpAddr::from(<[u8; 16]>::try_from(&packet[at..at + 16]).expect("sixteen"));
            (ip(8), ip(24), 40)
        };
        let tcp = &packet[at..];
        let header_len = usize::from(tcp[12] >> 4) * 4;
        let (header, payload) = tcp.split_at(header_len);
        let port = |at: usize| u16::from_be_bytes([header[at], header[at + 1]]);
        let (seg, _) = stackd_wire::TcpRepr::parse(tcp).expect("a segment");
        let from_client = port(2) == 179;
        let (ours, theirs) = if from_client { v.isns } else { (v.isns.1, v.isns.0) };
        let theirs = if seg.ack.is_none() { 0 } else { theirs };
        let key = v.algorithm.derive(
            MASTER,
            (SocketAddr::new(src, port(0)), SeqNum(ours)),
            (SocketAddr::new(dst, port(2)), SeqNum(theirs)),
        );
        assert_eq!(key.as_bytes(), bytes(v.traffic_key), "{}: traffic key", v.section);
        let visit = |f: &mut dyn FnMut(&[u8])| f(payload);
        let segment = Segment { src, dst, header, len: payload.len(), payload: &visit };
        let option = seg.options.ao.expect("TCP-AO");
        assert_eq!(key.mac(&segment, 0, v.options)[..12], *option.mac(), "{}: MAC", v.section);
        // A wrong SNE, or one changed byte, is another MAC.
        assert_ne!(key.mac(&segment, 1, v.options)[..12], *option.mac(), "{}: SNE", v.section);
        let mut other = header.to_vec();
        other[14] ^= 1;
        let changed = Segment { header: &other, ..segment };
        assert_ne!(key.mac(&changed, 0, v.options)[..12], *option.mac(), "{}: window", v.section);
        // Options count, or they do not: the timestamp is the first of them in a segment after the SYNs, the MSS in a SYN.
        let mut other = header.to_vec();
        other[22] ^= 1;
        let changed = Segment { header: &other, ..segment };
        let same = key.mac(&changed, 0, v.options)[..12] == *option.mac();
        assert_eq!(same, !v.options, "{}: options", v.section);
    }
}
