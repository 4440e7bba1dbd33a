//! Why bytes are not the header they claim to be.

/// Why bytes are not the header they claim to be.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum ParseError {
    /// Fewer bytes than the header needs.
    #[error("header truncated")]
    Truncated,
    /// The version or hardware type is not the one this header has.
    #[error("wrong version")]
    Version,
    /// A length field contradicts the packet or itself.
    #[error("inconsistent length")]
    Length,
    /// The checksum over the bytes is wrong.
    #[error("wrong checksum")]
    Checksum,
    /// A field has a value that the protocol forbids.
    #[error("illegal field value")]
    Field,
}
