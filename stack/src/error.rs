//! Why a call on a socket did not do what was asked. Each value is one errno of Linux; the one
//! place that turns them into numbers is the interposition layer.

use core::fmt;

macro_rules! errors {
    ($($(#[$doc:meta])* $name:ident = $errno:literal,)*) => {
        /// The failures of socket calls, named for what happened and numbered by no one here.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        pub enum Error { $($(#[$doc])* $name,)* }

        impl Error {
            /// Every value, for tables and tests.
            pub const ALL: &'static [Error] = &[$(Error::$name,)*];

            /// The name of the errno that Linux gives, such as `ECONNREFUSED` (errno(3)).
            #[must_use]
            pub const fn errno_name(self) -> &'static str {
                match self { $(Error::$name => $errno,)* }
            }
        }
    };
}

errors! {
    /// It would have to wait.
    WouldBlock = "EAGAIN",
    /// A nonblocking connect has begun.
    InProgress = "EINPROGRESS",
    /// A connect is already under way.
    Already = "EALREADY",
    /// The socket is connected already.
    IsConnected = "EISCONN",
    /// The socket is not connected.
    NotConnected = "ENOTCONN",
    /// The peer refused: an RST answered our SYN, or ICMP port unreachable came.
    ConnectionRefused = "ECONNREFUSED",
    /// The peer reset the connection.
    ConnectionReset = "ECONNRESET",
    /// The connection was aborted on our side.
    ConnectionAborted = "ECONNABORTED",
    /// Sending on a side that is shut.
    BrokenPipe = "EPIPE",
    /// The peer did not answer in time.
    TimedOut = "ETIMEDOUT",
    /// No route, or the neighbor did not answer.
    HostUnreachable = "EHOSTUNREACH",
    /// No route to the network.
    NetworkUnreachable = "ENETUNREACH",
    /// The device is down or gone.
    NetworkDown = "ENETDOWN",
    /// A protocol error was reported by the peer.
    ProtocolError = "EPROTO",
    /// The protocol is not available at the peer.
    NoProtocolOption = "ENOPROTOOPT",
    /// The address is in use.
    AddressInUse = "EADDRINUSE",
    /// The address is not ours.
    AddressNotAvailable = "EADDRNOTAVAIL",
    /// The address family does not fit the socket.
    AddressFamilyNotSupported = "EAFNOSUPPORT",
    /// A destination is required.
    DestinationRequired = "EDESTADDRREQ",
    /// The datagram is larger than can be sent.
    MessageTooLong = "EMSGSIZE",
    /// The arguments make no sense for the socket's state.
    InvalidArgument = "EINVAL",
    /// The socket's type cannot do this.
    OperationNotSupported = "EOPNOTSUPP",
    /// Broadcast without `SO_BROADCAST`, or a filter forbade it.
    PermissionDenied = "EACCES",
    /// The caller may not do this.
    NotPermitted = "EPERM",
    /// A table is full.
    NoBufferSpace = "ENOBUFS",
    /// Memory is out.
    OutOfMemory = "ENOMEM",
    /// Too many sockets.
    TooManyFiles = "ENFILE",
    /// A signal came first.
    Interrupted = "EINTR",
    /// No such socket (its handle is stale).
    BadDescriptor = "EBADF",
    /// An argument is out of range.
    OutOfRange = "EDOM",
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.errno_name())
    }
}

impl core::error::Error for Error {}
