//! What a device still has to do to a frame, or did: host-independent content of a virtio-net header.

/// Offload request (transmit) or state (receive) of one frame.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Offload {
    /// Checksum still to be filled in: (offset of the transport header from the start of the frame, offset of the
    /// checksum field from there). The field holds the pseudo-header sum. On receive: the frame never left the machine;
    /// its data is good.
    pub csum: Option<(u16, u16)>,
    /// On receive: a device verified the checksum.
    pub csum_valid: bool,
    /// Segmentation: payload bytes per segment; 0 = not a GSO frame.
    pub gso_size: u16,
    /// Kind of segmentation.
    pub gso: Gso,
    /// Bytes of all headers in front of the payload of a GSO frame.
    pub hdr_len: u16,
}

impl Offload {
    /// Whether the transport checksum of a received frame needs no verification.
    pub const fn checksum_trusted(&self) -> bool {
        self.csum_valid || self.csum.is_some()
    }
}

/// Kind of segmentation asked of a device.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Gso {
    /// None.
    #[default]
    None,
    /// TCP over IPv4.
    TcpV4,
    /// TCP over IPv6.
    TcpV6,
    /// UDP (USO).
    UdpL4,
}
