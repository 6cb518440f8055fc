// The one table of interposed functions: family, signature, what the hook does about it.
//
// This file is one macro call, so that whoever includes it decides what becomes of it: `hook.rs`
// makes the exported functions and the pointers to the real ones. A row is
//
//     /// What it does.
//     fn name(arguments) -> result[, asm|cancel][ = SYS_number];
//
// `= SYS_number` marks the functions that others call before our constructor has run (an
// allocator's first call, a library's constructor): until then the raw syscall answers, because
// dlsym allocates and would come back to us. `asm` marks the exports whose signature Rust cannot
// write (variadic, or returning twice); `variadic.rs` and `process.rs` define them. `cancel` marks
// those in which a thread may be cancelled (pthreads(7)).

symbols! {
    /// Making, copying and closing descriptors.
    lifecycle {
        /// Makes a kernel socket, and for IPv4 TCP and UDP a socket of the stack beside it.
        fn socket(domain: c_int, kind: c_int, protocol: c_int) -> c_int = SYS_socket;
        /// The kernel's; forgets what the new descriptors' numbers meant.
        fn socketpair(
            domain: c_int, kind: c_int, protocol: c_int, pair: *mut c_int
        ) -> c_int = SYS_socketpair;
        /// Closes the descriptor; the last one of a file closes the stack's socket.
        fn close(fd: c_int) -> c_int, cancel = SYS_close;
        /// Shuts one or both directions.
        fn shutdown(fd: c_int, how: c_int) -> c_int = SYS_shutdown;
        /// One more descriptor of the same file.
        fn dup(fd: c_int) -> c_int = SYS_dup;
        /// The same under a given number.
        fn dup2(fd: c_int, new: c_int) -> c_int = SYS_dup2;
        /// The same with flags.
        fn dup3(fd: c_int, new: c_int, flags: c_int) -> c_int = SYS_dup3;
        /// F_DUPFD, F_DUPFD_CLOEXEC and F_SETFL; the rest is true of the kernel's socket.
        fn fcntl(fd: c_int, command: c_int, argument: usize) -> c_int = SYS_fcntl;
        /// As fcntl.
        fn fcntl64(fd: c_int, command: c_int, argument: usize) -> c_int = SYS_fcntl;
        /// FIONBIO, FIONREAD, SIOCOUTQ, SIOCOUTQNSD, SIOCATMARK, FIOASYNC; the rest is the kernel's.
        fn ioctl(fd: c_int, request: c_ulong, argument: usize) -> c_int = SYS_ioctl;
        /// Closes a range, sparing the engine's own descriptors.
        fn close_range(first: c_uint, last: c_uint, flags: c_int) -> c_int = SYS_close_range;
        /// As close_range to the end.
        fn closefrom(first: c_int) -> ();
    }

    /// Addresses and connections.
    naming {
        /// Decides the path by the address: stack, kernel or both.
        fn bind(fd: c_int, address: *const sockaddr, len: socklen_t) -> c_int;
        /// Listens where the socket is bound; a wildcard listens in both worlds.
        fn listen(fd: c_int, backlog: c_int) -> c_int;
        /// Decides the path by rules and routes, then connects.
        fn connect(fd: c_int, address: *const sockaddr, len: socklen_t) -> c_int, cancel;
        /// Takes a connection from the stack's queue or the kernel's.
        fn accept(fd: c_int, address: *mut sockaddr, len: *mut socklen_t) -> c_int, cancel;
        /// The same with flags.
        fn accept4(fd: c_int, address: *mut sockaddr, len: *mut socklen_t, flags: c_int) -> c_int, cancel;
        /// The local address.
        fn getsockname(fd: c_int, address: *mut sockaddr, len: *mut socklen_t) -> c_int;
        /// The peer's address.
        fn getpeername(fd: c_int, address: *mut sockaddr, len: *mut socklen_t) -> c_int;
    }

    /// Data. pread, pwrite and their kin are not here: the kernel's socket answers ESPIPE itself.
    transfer {
        /// Receives.
        fn read(fd: c_int, buffer: *mut c_void, count: size_t) -> ssize_t, cancel = SYS_read;
        /// Receives into several buffers.
        fn readv(fd: c_int, iov: *const iovec, count: c_int) -> ssize_t, cancel = SYS_readv;
        /// readv when the offset is -1.
        fn preadv2(
            fd: c_int, iov: *const iovec, count: c_int, offset: off_t, flags: c_int
        ) -> ssize_t, cancel;
        /// As preadv2.
        fn preadv64v2(
            fd: c_int, iov: *const iovec, count: c_int, offset: off_t, flags: c_int
        ) -> ssize_t, cancel;
        /// Sends.
        fn write(fd: c_int, buffer: *const c_void, count: size_t) -> ssize_t, cancel = SYS_write;
        /// Sends several buffers.
        fn writev(fd: c_int, iov: *const iovec, count: c_int) -> ssize_t, cancel = SYS_writev;
        /// writev when the offset is -1.
        fn pwritev2(
            fd: c_int, iov: *const iovec, count: c_int, offset: off_t, flags: c_int
        ) -> ssize_t, cancel;
        /// As pwritev2.
        fn pwritev64v2(
            fd: c_int, iov: *const iovec, count: c_int, offset: off_t, flags: c_int
        ) -> ssize_t, cancel;
        /// Receives with flags.
        fn recv(fd: c_int, buffer: *mut c_void, count: size_t, flags: c_int) -> ssize_t, cancel;
        /// Receives and says from whom.
        fn recvfrom(
            fd: c_int, buffer: *mut c_void, count: size_t, flags: c_int, address: *mut sockaddr,
            len: *mut socklen_t
        ) -> ssize_t, cancel;
        /// Receives with control messages.
        fn recvmsg(fd: c_int, message: *mut msghdr, flags: c_int) -> ssize_t, cancel;
        /// Receives several messages.
        fn recvmmsg(
            fd: c_int, messages: *mut mmsghdr, count: c_uint, flags: c_int, timeout: *mut timespec
        ) -> c_int, cancel;
        /// Sends with flags.
        fn send(fd: c_int, buffer: *const c_void, count: size_t, flags: c_int) -> ssize_t, cancel;
        /// Sends to an address; an unbound UDP socket decides its path by it.
        fn sendto(
            fd: c_int, buffer: *const c_void, count: size_t, flags: c_int, address: *const
            sockaddr, len: socklen_t
        ) -> ssize_t, cancel;
        /// Sends with control messages.
        fn sendmsg(fd: c_int, message: *const msghdr, flags: c_int) -> ssize_t, cancel;
        /// Sends several messages.
        fn sendmmsg(fd: c_int, messages: *mut mmsghdr, count: c_uint, flags: c_int) -> c_int, cancel;
        /// Sends from a file.
        fn sendfile(out: c_int, input: c_int, offset: *mut off_t, count: size_t) -> ssize_t;
        /// As sendfile.
        fn sendfile64(out: c_int, input: c_int, offset: *mut off_t, count: size_t) -> ssize_t;
        /// Moves between a pipe and a socket.
        fn splice(
            input: c_int, input_offset: *mut off_t, out: c_int, out_offset: *mut off_t, count:
            size_t, flags: c_uint
        ) -> ssize_t, cancel;
        /// read, fortified.
        fn __read_chk(fd: c_int, buffer: *mut c_void, count: size_t, room: size_t) -> ssize_t, cancel;
        /// recv, fortified.
        fn __recv_chk(
            fd: c_int, buffer: *mut c_void, count: size_t, room: size_t, flags: c_int
        ) -> ssize_t, cancel;
        /// recvfrom, fortified.
        fn __recvfrom_chk(
            fd: c_int, buffer: *mut c_void, count: size_t, room: size_t, flags: c_int, address:
            *mut sockaddr, len: *mut socklen_t
        ) -> ssize_t, cancel;
    }

    /// Streams on a socket: libc's own would read the kernel's socket.
    stdio {
        /// A stream whose reads and writes are the hooks'.
        fn fdopen(fd: c_int, mode: *const c_char) -> *mut FILE;
        /// The descriptor of such a stream.
        fn fileno(stream: *mut FILE) -> c_int;
        /// As fileno.
        fn fileno_unlocked(stream: *mut FILE) -> c_int;
        /// Formats and sends.
        fn dprintf(fd: c_int, format: *const c_char) -> c_int, asm;
        /// Formats and sends.
        fn vdprintf(fd: c_int, format: *const c_char, arguments: *mut VaList) -> c_int;
        /// dprintf, fortified.
        fn __dprintf_chk(fd: c_int, flag: c_int, format: *const c_char) -> c_int, asm;
        /// vdprintf, fortified.
        fn __vdprintf_chk(
            fd: c_int, flag: c_int, format: *const c_char, arguments: *mut VaList
        ) -> c_int;
    }

    /// Waiting for readiness, on descriptors of both worlds together.
    readiness {
        /// Waits on sets.
        fn select(
            count: c_int, read: *mut fd_set, write: *mut fd_set, except: *mut fd_set, timeout:
            *mut timeval
        ) -> c_int, cancel;
        /// The same with a signal mask.
        fn pselect(
            count: c_int, read: *mut fd_set, write: *mut fd_set, except: *mut fd_set, timeout:
            *const timespec, mask: *const sigset_t
        ) -> c_int, cancel;
        /// Waits on a list.
        fn poll(entries: *mut pollfd, count: nfds_t, timeout_ms: c_int) -> c_int, cancel = SYS_poll;
        /// The same with a signal mask.
        fn ppoll(
            entries: *mut pollfd, count: nfds_t, timeout: *const timespec, mask: *const sigset_t
        ) -> c_int, cancel;
        /// poll, fortified.
        fn __poll_chk(
            entries: *mut pollfd, count: nfds_t, timeout_ms: c_int, room: size_t
        ) -> c_int, cancel;
        /// ppoll, fortified.
        fn __ppoll_chk(
            entries: *mut pollfd, count: nfds_t, timeout: *const timespec, mask: *const sigset_t,
            room: size_t
        ) -> c_int, cancel;
        /// A kernel epoll set; the stack's part is added when it is first needed.
        fn epoll_create(size: c_int) -> c_int = SYS_epoll_create;
        /// The same with flags.
        fn epoll_create1(flags: c_int) -> c_int = SYS_epoll_create1;
        /// Adds, changes, removes a descriptor of either world.
        fn epoll_ctl(
            set: c_int, operation: c_int, fd: c_int, event: *mut epoll_event
        ) -> c_int = SYS_epoll_ctl;
        /// Waits on a set.
        fn epoll_wait(
            set: c_int, events: *mut epoll_event, count: c_int, timeout_ms: c_int
        ) -> c_int, cancel = SYS_epoll_wait;
        /// The same with a signal mask.
        fn epoll_pwait(
            set: c_int, events: *mut epoll_event, count: c_int, timeout_ms: c_int, mask: *const
            sigset_t
        ) -> c_int, cancel;
        /// The same with a finer timeout.
        fn epoll_pwait2(
            set: c_int, events: *mut epoll_event, count: c_int, timeout: *const timespec, mask:
            *const sigset_t
        ) -> c_int, cancel;
    }

    /// Options.
    options {
        /// Reads an option.
        fn getsockopt(
            fd: c_int, level: c_int, name: c_int, value: *mut c_void, len: *mut socklen_t
        ) -> c_int;
        /// Changes an option.
        fn setsockopt(
            fd: c_int, level: c_int, name: c_int, value: *const c_void, len: socklen_t
        ) -> c_int;
        /// Whether the urgent mark is next.
        fn sockatmark(fd: c_int) -> c_int;
    }

    /// Processes. posix_spawn, system and popen are not here: they exec without touching anything.
    process {
        /// The child drives the same stack.
        fn fork() -> pid_t;
        /// The child changes nothing of ours.
        fn vfork() -> pid_t, asm;
        /// fork, and the parent leaves gracefully.
        fn daemon(keep_directory: c_int, keep_stdio: c_int) -> c_int;
        /// Close-on-exec descriptors leave the stack; the others stay held until the process ends.
        fn execve(
            path: *const c_char, arguments: *const *const c_char, environment: *const *const
            c_char
        ) -> c_int = SYS_execve;
        /// As execve.
        fn execv(path: *const c_char, arguments: *const *const c_char) -> c_int;
        /// As execve.
        fn execvp(file: *const c_char, arguments: *const *const c_char) -> c_int;
        /// As execve.
        fn execvpe(
            file: *const c_char, arguments: *const *const c_char, environment: *const *const
            c_char
        ) -> c_int;
        /// As execve.
        fn fexecve(
            fd: c_int, arguments: *const *const c_char, environment: *const *const c_char
        ) -> c_int;
        /// As execve.
        fn execveat(
            directory: c_int, path: *const c_char, arguments: *const *const c_char, environment:
            *const *const c_char, flags: c_int
        ) -> c_int;
        /// As execve.
        fn execl(path: *const c_char, first: *const c_char) -> c_int, asm;
        /// As execve.
        fn execlp(file: *const c_char, first: *const c_char) -> c_int, asm;
        /// As execve.
        fn execle(path: *const c_char, first: *const c_char) -> c_int, asm;
        /// Leaves gracefully: what is unsent is handed to the keeper.
        fn _exit(status: c_int) -> ();
        /// As _exit.
        fn _Exit(status: c_int) -> ();
        /// As _exit, after its own handlers.
        fn quick_exit(status: c_int) -> ();
    }

    /// Threads: cancelling one ends its waits.
    threads {
        /// Wakes the thread if it sleeps in the stack; it ends when it has left that.
        fn pthread_cancel(thread: pthread_t) -> c_int;
    }

    /// Signal handlers run outside the stack, and interrupt or restart what waits in it.
    signals {
        /// Wraps the handler.
        fn sigaction(signal: c_int, new: *const sigaction_t, old: *mut sigaction_t) -> c_int;
        /// As sigaction.
        fn __sigaction(signal: c_int, new: *const sigaction_t, old: *mut sigaction_t) -> c_int;
        /// BSD semantics: SA_RESTART unless siginterrupt said otherwise.
        fn signal(signal: c_int, handler: sighandler_t) -> sighandler_t;
        /// As signal.
        fn bsd_signal(signal: c_int, handler: sighandler_t) -> sighandler_t;
        /// As signal.
        fn ssignal(signal: c_int, handler: sighandler_t) -> sighandler_t;
        /// System V semantics: SA_RESETHAND and SA_NODEFER.
        fn sysv_signal(signal: c_int, handler: sighandler_t) -> sighandler_t;
        /// As sysv_signal.
        fn __sysv_signal(signal: c_int, handler: sighandler_t) -> sighandler_t;
        /// System V's signal with a mask.
        fn sigset(signal: c_int, handler: sighandler_t) -> sighandler_t;
        /// Whether a handler interrupts or restarts.
        fn siginterrupt(signal: c_int, flag: c_int) -> c_int;
    }

    /// The way round libc.
    raw {
        /// Socket calls go to the hooks above; io_uring_setup answers ENOSYS.
        fn syscall(
            number: c_long, a: usize, b: usize, c: usize, d: usize, e: usize, f: usize
        ) -> c_long;
    }
}
