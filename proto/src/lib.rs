//! The contracts of stackd: `stackd.v1` as generated code, structured errors, and the one errno table.
//!
//! Programs outside the daemon know the stack only through this crate (and `stackd-shm` for shared memory).
#![forbid(unsafe_code)]

mod connect;
mod error;

pub use connect::{ConnectError, connect, control_candidates, control_path};
pub use error::{ERRNO_TABLE, ErrnoInfo, StatusError, errno_info, errno_to_grpc, grpc_to_errno};

/// Version 1 of the services, generated from `stackd/v1/*.proto`, where every field is documented.
#[allow(missing_docs, missing_debug_implementations, clippy::all)]
pub mod v1 {
    tonic::include_proto!("stackd.v1");
}

/// The encoded `FileDescriptorSet` of all services, for gRPC reflection.
pub const FILE_DESCRIPTOR_SET: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/stackd_descriptor.bin"));
