//! What the example programs share.

pub mod grpc;
pub mod http;
pub mod net;
