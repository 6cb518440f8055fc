//! What a socket is ready for, as poll(2) and epoll(7) name it.

bitflags::bitflags! {
    /// The numbers are those of `POLLIN` … and `EPOLLIN` … (they are the same on Linux).
    #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
    pub struct Readiness: u32 {
        /// `EPOLLIN`: data, a connection to accept, or end of file.
        const READABLE = 0x001;
        /// `EPOLLPRI`: urgent data.
        const PRIORITY = 0x002;
        /// `EPOLLOUT`: room to send, or a connect that has ended.
        const WRITABLE = 0x004;
        /// `EPOLLERR`: a pending error (always reported).
        const ERROR = 0x008;
        /// `EPOLLHUP`: both directions are shut (always reported).
        const HANGUP = 0x010;
        /// `EPOLLRDNORM`.
        const READ_NORMAL = 0x040;
        /// `EPOLLRDBAND`.
        const READ_BAND = 0x080;
        /// `EPOLLWRNORM`.
        const WRITE_NORMAL = 0x100;
        /// `EPOLLWRBAND`.
        const WRITE_BAND = 0x200;
        /// `EPOLLRDHUP`: the peer has shut its sending side.
        const READ_HANGUP = 0x2000;
    }
}
