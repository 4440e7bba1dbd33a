//! Errors as the kernel's extended acks: errno, which argument, why, and what would be right.
//!
//! One table ([`errno_info`]) relates Linux's number, its name and text, and the gRPC code.

use core::fmt;

use prost::Message;
use tonic::{Code, Status};

use crate::v1::{Errno, ErrorDetail};

/// One row of the errno table.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ErrnoInfo {
    /// The protocol's code; `as i32` is Linux's number.
    pub errno: Errno,
    /// Linux's symbolic name, `ECONNREFUSED`.
    pub name: &'static str,
    /// What `strerror` says.
    pub text: &'static str,
    /// The gRPC code that a client without our details sees.
    pub code: Code,
}

macro_rules! table {
    ($($variant:ident, $name:literal, $text:literal, $code:ident;)*) => {
        /// Every error, by Linux's number.
        pub const ERRNO_TABLE: &[ErrnoInfo] =
            &[$(ErrnoInfo { errno: Errno::$variant, name: $name, text: $text, code: Code::$code },)*];
    };
}

table! {
    Eperm, "EPERM", "Operation not permitted", PermissionDenied;
    Enoent, "ENOENT", "No such file or directory", NotFound;
    Eintr, "EINTR", "Interrupted system call", Aborted;
    Eio, "EIO", "Input/output error", Internal;
    Ebadf, "EBADF", "Bad file descriptor", InvalidArgument;
    Eagain, "EAGAIN", "Resource temporarily unavailable", Unavailable;
    Enomem, "ENOMEM", "Cannot allocate memory", ResourceExhausted;
    Eacces, "EACCES", "Permission denied", PermissionDenied;
    Efault, "EFAULT", "Bad address", InvalidArgument;
    Ebusy, "EBUSY", "Device or resource busy", FailedPrecondition;
    Eexist, "EEXIST", "File exists", AlreadyExists;
    Enodev, "ENODEV", "No such device", NotFound;
    Einval, "EINVAL", "Invalid argument", InvalidArgument;
    Emfile, "EMFILE", "Too many open files", ResourceExhausted;
    Enotty, "ENOTTY", "Inappropriate ioctl for device", InvalidArgument;
    Efbig, "EFBIG", "File too large", OutOfRange;
    Epipe, "EPIPE", "Broken pipe", FailedPrecondition;
    Edom, "EDOM", "Numerical argument out of domain", OutOfRange;
    Enosys, "ENOSYS", "Function not implemented", Unimplemented;
    Eproto, "EPROTO", "Protocol error", Internal;
    Eoverflow, "EOVERFLOW", "Value too large for defined data type", OutOfRange;
    Enotsock, "ENOTSOCK", "Socket operation on non-socket", InvalidArgument;
    Edestaddrreq, "EDESTADDRREQ", "Destination address required", InvalidArgument;
    Emsgsize, "EMSGSIZE", "Message too long", OutOfRange;
    Eprototype, "EPROTOTYPE", "Protocol wrong type for socket", InvalidArgument;
    Enoprotoopt, "ENOPROTOOPT", "Protocol not available", Unimplemented;
    Eprotonosupport, "EPROTONOSUPPORT", "Protocol not supported", Unimplemented;
    Esocktnosupport, "ESOCKTNOSUPPORT", "Socket type not supported", Unimplemented;
    Eopnotsupp, "EOPNOTSUPP", "Operation not supported", Unimplemented;
    Eafnosupport, "EAFNOSUPPORT", "Address family not supported by protocol", Unimplemented;
    Eaddrinuse, "EADDRINUSE", "Address already in use", AlreadyExists;
    Eaddrnotavail, "EADDRNOTAVAIL", "Cannot assign requested address", FailedPrecondition;
    Enetdown, "ENETDOWN", "Network is down", Unavailable;
    Enetunreach, "ENETUNREACH", "Network is unreachable", Unavailable;
    Econnaborted, "ECONNABORTED", "Software caused connection abort", Aborted;
    Econnreset, "ECONNRESET", "Connection reset by peer", Aborted;
    Enobufs, "ENOBUFS", "No buffer space available", ResourceExhausted;
    Eisconn, "EISCONN", "Transport endpoint is already connected", FailedPrecondition;
    Enotconn, "ENOTCONN", "Transport endpoint is not connected", FailedPrecondition;
    Etimedout, "ETIMEDOUT", "Connection timed out", DeadlineExceeded;
    Econnrefused, "ECONNREFUSED", "Connection refused", Unavailable;
    Ehostunreach, "EHOSTUNREACH", "No route to host", Unavailable;
    Ealready, "EALREADY", "Operation already in progress", FailedPrecondition;
    Einprogress, "EINPROGRESS", "Operation now in progress", Unavailable;
    Edquot, "EDQUOT", "Quota exceeded", ResourceExhausted;
    Ecanceled, "ECANCELED", "Operation canceled", Cancelled;
}

/// The row of an error; `ERRNO_UNSPECIFIED` has none.
pub fn errno_info(errno: Errno) -> Option<&'static ErrnoInfo> {
    ERRNO_TABLE.iter().find(|row| row.errno == errno)
}

/// The gRPC code of an error, `UNKNOWN` when it has no row.
pub fn errno_to_grpc(errno: Errno) -> Code {
    errno_info(errno).map_or(Code::Unknown, |row| row.code)
}

/// The errno that stands for a bare gRPC code: what a client reports when a status carries no details (it was made by the
/// transport, not by stackd). `None` for `OK`.
pub fn grpc_to_errno(code: Code) -> Option<Errno> {
    Some(match code {
        Code::Ok => return None,
        Code::Cancelled => Errno::Ecanceled,
        Code::InvalidArgument => Errno::Einval,
        Code::DeadlineExceeded => Errno::Etimedout,
        Code::NotFound => Errno::Enoent,
        Code::AlreadyExists => Errno::Eexist,
        Code::PermissionDenied => Errno::Eperm,
        Code::ResourceExhausted => Errno::Enobufs,
        Code::FailedPrecondition => Errno::Ebusy,
        Code::Aborted => Errno::Econnaborted,
        Code::OutOfRange => Errno::Edom,
        Code::Unimplemented => Errno::Eopnotsupp,
        Code::Unavailable => Errno::Econnrefused,
        Code::Unauthenticated => Errno::Eacces,
        Code::Unknown | Code::Internal | Code::DataLoss => Errno::Eio,
    })
}

/// An error with everything a human needs to put it right.
///
/// Prints as one line: `net.ipv4.tcp_wmem: "max" (1000) is below "default" (16384); want min <= default <= max`.
#[derive(Clone, PartialEq, Debug)]
pub struct StatusError(pub ErrorDetail);

impl StatusError {
    /// An error with its reason (one sentence, no full stop).
    pub fn new(errno: Errno, reason: impl Into<String>) -> Self {
        Self(ErrorDetail { errno: errno as i32, reason: reason.into(), ..ErrorDetail::default() })
    }

    /// `EINVAL` about an argument: which, its value, why.
    pub fn invalid(argument: impl Into<String>, value: impl fmt::Display, reason: impl Into<String>) -> Self {
        Self::new(Errno::Einval, reason).argument(argument, value)
    }

    /// An error with a Linux number; numbers without a row become `EIO`, and the number stays in the reason.
    pub fn from_raw(number: i32, reason: impl Into<String>) -> Self {
        match Errno::try_from(number) {
            Ok(errno) if errno_info(errno).is_some() => Self::new(errno, reason),
            _ => Self::new(Errno::Eio, format!("{} (errno {number})", reason.into())),
        }
    }

    /// Names the argument at fault and the value that was refused (may be empty).
    pub fn argument(mut self, argument: impl Into<String>, value: impl fmt::Display) -> Self {
        self.0.argument = argument.into();
        self.0.value = value.to_string();
        self
    }

    /// Says what would be right.
    pub fn remedy(mut self, remedy: impl Into<String>) -> Self {
        self.0.remedy = remedy.into();
        self
    }

    /// The error number; `EIO` if the peer sent one we do not know.
    pub fn errno(&self) -> Errno {
        match Errno::try_from(self.0.errno) {
            Ok(Errno::Unspecified) | Err(_) => Errno::Eio,
            Ok(errno) => errno,
        }
    }

    /// Linux's number, positive.
    pub fn raw(&self) -> i32 {
        self.errno() as i32
    }
}

impl fmt::Display for StatusError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ErrorDetail { errno: _, argument, value, reason, remedy } = &self.0;
        if !argument.is_empty() {
            write!(f, "{argument}")?;
            if !value.is_empty() && !reason.contains(value.as_str()) {
                write!(f, " = {value}")?;
            }
            write!(f, ": ")?;
        }
        if reason.is_empty() {
            write!(f, "{}", errno_info(self.errno()).map_or("Input/output error", |row| row.text))?;
        } else {
            write!(f, "{reason}")?;
        }
        // As with the value: what the reason says already ("did you mean ...?") is not said twice.
        if !remedy.is_empty() && !reason.contains(remedy.as_str()) {
            write!(f, "; want {remedy}")?;
        }
        Ok(())
    }
}

impl core::error::Error for StatusError {}

const TYPE_URL: &str = "type.googleapis.com/stackd.v1.ErrorDetail";

impl From<StatusError> for Status {
    /// The detail goes into `grpc-status-details-bin` as google.rpc.Status does it, so that any gRPC client can decode it.
    fn from(error: StatusError) -> Self {
        let code = errno_to_grpc(error.errno());
        let message = error.to_string();
        let any = prost_types::Any { type_url: TYPE_URL.into(), value: error.0.encode_to_vec() };
        let envelope = tonic_types::Status { code: code as i32, message: message.clone(), details: vec![any] };
        Status::with_details(code, message, envelope.encode_to_vec().into())
    }
}

impl From<&Status> for StatusError {
    /// Takes the detail out; a status without one keeps its message and gets the nearest errno.
    fn from(status: &Status) -> Self {
        let detail = tonic_types::Status::decode(status.details()).ok().and_then(|envelope| {
            envelope
                .details
                .iter()
                .find(|any| any.type_url == TYPE_URL)
                .and_then(|any| ErrorDetail::decode(&*any.value).ok())
        });
        match detail {
            Some(detail) => Self(detail),
            None => Self::new(grpc_to_errno(status.code()).unwrap_or(Errno::Eio), status.message()),
        }
    }
}

impl From<Status> for StatusError {
    fn from(status: Status) -> Self {
        Self::from(&status)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_errno_has_exactly_one_row_and_survives_the_wire() {
        for number in 1..=200 {
            let Ok(errno) = Errno::try_from(number) else { continue };
            assert_eq!(ERRNO_TABLE.iter().filter(|row| row.errno == errno).count(), 1, "{errno:?}");
            let error = StatusError::new(errno, "because").argument("addr.port", 70000).remedy("0..=65535");
            let status = Status::from(error.clone());
            assert_eq!(status.code(), errno_to_grpc(errno));
            assert_eq!(StatusError::from(status), error);
        }
    }

    #[test]
    fn table_is_sorted_by_linux_number_and_named_like_the_protocol() {
        assert!(ERRNO_TABLE.windows(2).all(|w| (w[0].errno as i32) < w[1].errno as i32));
        for row in ERRNO_TABLE {
            assert_eq!(format!("ERRNO_{}", row.name), row.errno.as_str_name());
        }
    }

    #[test]
    fn message_names_the_thing_the_value_and_what_would_be_right() {
        let error = StatusError::invalid("net.ipv4.tcp_wmem", "1000", r#""max" (1000) is below "default" (16384)"#)
            .remedy("min <= default <= max");
        assert_eq!(
            error.to_string(),
            r#"net.ipv4.tcp_wmem: "max" (1000) is below "default" (16384); want min <= default <= max"#
        );
    }

    #[test]
    fn foreign_status_keeps_its_message() {
        let error = StatusError::from(Status::unavailable("tcp connect error"));
        assert_eq!(error.errno(), Errno::Econnrefused);
        assert_eq!(error.to_string(), "tcp connect error");
    }

    #[test]
    fn garbage_details_do_not_hide_the_status() {
        let status = Status::with_details(Code::NotFound, "nope", vec![0xff, 0xff, 0xff].into());
        assert_eq!(StatusError::from(status).errno(), Errno::Enoent);
    }

    #[test]
    fn unknown_number_becomes_eio_and_is_still_named() {
        let error = StatusError::from_raw(9999, "strange");
        assert_eq!(error.errno(), Errno::Eio);
        assert!(error.to_string().contains("9999"));
    }
}
