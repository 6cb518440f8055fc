//! The answering side of the control socket, in the keeper.
//!
//! Owns the listening socket and the connections of whoever asks (`onwire ss`, `stats`,
//! `tcpdump`, a successor). The keeper polls its descriptors, calls [`ControlServer::turn`] when
//! one is ready, and brings the answers as a [`Backend`]. It never waits for a slow asker: what
//! cannot be written is kept up to a bound, then the connection is dropped; a capture that its
//! reader does not keep up with loses frames in the capture ring, where they are counted.

use control::message::{LONGEST_REQUEST, Request, Response};
use control::pcapng::{self, Frame};
use std::io::{self, ErrorKind, Read, Write};
use std::os::fd::{AsRawFd, RawFd};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};

/// Askers served at the same time; further ones wait in the listener's backlog.
const MOST_CONNECTIONS: usize = 32;
/// Octets kept for an asker that does not read. A listing of a million sockets is about 300 MiB;
/// an asker that wants it must read as it comes.
const MOST_PENDING: usize = 512 << 20;
/// Octets of a capture kept for a reader that is slow; beyond, frames stay in the ring.
const CAPTURE_PENDING: usize = 4 << 20;

/// Where answers come from.
pub(crate) trait Backend {
    /// The answers to any request but a capture.
    fn respond(&mut self, request: &Request) -> Vec<Response>;
    /// Copies frames from now on, `snaplen` octets of each (0: all), those for other stations too if
    /// `promiscuous`. Returns the interface's name, or why the device cannot.
    fn capture_start(&mut self, snaplen: u32, promiscuous: bool) -> Result<String, String>;
    /// Hands over captured frames, oldest first, until `each` says enough (false).
    fn capture_read(&mut self, each: &mut dyn FnMut(&Frame<'_>) -> bool);
    /// Nobody wants frames any more.
    fn capture_stop(&mut self);
}

/// The control socket and its connections.
#[derive(Debug)]
pub(crate) struct ControlServer {
    listener: UnixListener,
    path: PathBuf,
    connections: Vec<Connection>,
    /// The backend was told to capture and not yet to stop.
    backend_captures: bool,
}

#[derive(Debug)]
struct Connection {
    stream: UnixStream,
    request: Vec<u8>,
    pending: Vec<u8>,
    written: usize,
    capture: Option<Capture>,
    /// Closed once `pending` is written.
    ending: bool,
    /// Kept open until the server goes: its end tells a successor that the device is free.
    leaving: bool,
}

/// A capture that a connection carries.
#[derive(Debug)]
struct Capture {
    writer: pcapng::Writer<Vec<u8>>,
    remaining: Option<u64>,
}

impl ControlServer {
    /// Listens at `path`, replacing a stale socket. For the owner only.
    ///
    /// # Errors
    /// The socket cannot be made there.
    pub(crate) fn bind(path: &Path) -> io::Result<Self> {
        match std::fs::remove_file(path) {
            Err(error) if error.kind() != ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let listener = UnixListener::bind(path)?;
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600))?;
        listener.set_nonblocking(true)?;
        let path = path.to_owned();
        Ok(ControlServer { listener, path, connections: Vec::new(), backend_captures: false })
    }

    /// The listening descriptor; to be protected, and kept when others are closed.
    pub(crate) fn listener_fd(&self) -> RawFd {
        self.listener.as_raw_fd()
    }

    /// Calls `each` with every descriptor to wait for and the poll(2) events to wait for.
    pub(crate) fn interests(&self, mut each: impl FnMut(RawFd, i16)) {
        if self.connections.len() < MOST_CONNECTIONS {
            each(self.listener.as_raw_fd(), libc::POLLIN);
        }
        for connection in &self.connections {
            let write = if connection.has_pending() { libc::POLLOUT } else { 0 };
            each(connection.stream.as_raw_fd(), libc::POLLIN | write);
        }
    }

    /// Whether a capture runs: then frames are to be moved every few milliseconds.
    pub(crate) fn is_capturing(&self) -> bool {
        self.connections.iter().any(|connection| connection.capture.is_some())
    }

    /// Accepts, reads, answers, writes: whatever is possible without waiting.
    pub(crate) fn turn(&mut self, backend: &mut impl Backend) {
        self.accept();
        for connection in &mut self.connections {
            if connection.read(backend).is_err() {
                connection.drop_dead();
            }
        }
        self.backend_captures |= self.is_capturing();
        self.move_frames(backend);
        self.connections.retain_mut(Connection::keep);
        let capturing = self.is_capturing();
        if self.backend_captures && !capturing {
            backend.capture_stop();
        }
        self.backend_captures = capturing;
    }

    /// Whether somebody was told that we leave.
    pub(crate) fn is_leaving(&self) -> bool {
        self.connections.iter().any(|connection| connection.leaving)
    }

    /// Removes the socket from the file system; the connections end when `self` is dropped.
    pub(crate) fn unlink(&self) {
        // Failure means that somebody removed it before us, which is what we want.
        let _ = std::fs::remove_file(&self.path);
    }

    fn accept(&mut self) {
        while self.connections.len() < MOST_CONNECTIONS {
            let Ok((stream, _)) = self.listener.accept() else { return };
            if stream.set_nonblocking(true).is_ok() {
                self.connections.push(Connection::new(stream));
            }
        }
    }

    /// Moves captured frames to every capture. All captures see the same frames: the ring is
    /// drained once, for as long as the slowest reader has room.
    fn move_frames(&mut self, backend: &mut impl Backend) {
        let connections = &mut self.connections;
        if !connections.iter().any(|connection| connection.capture.is_some()) {
            return;
        }
        let has_room = |list: &[Connection]| {
            list.iter().all(|c| c.capture.is_none() || c.unwritten() < CAPTURE_PENDING)
        };
        if !has_room(connections) {
            return;
        }
        backend.capture_read(&mut |frame| {
            for connection in connections.iter_mut() {
                connection.add_frame(frame);
            }
            has_room(connections)
        });
    }
}

impl Connection {
    fn new(stream: UnixStream) -> Self {
        Connection {
            stream,
            request: Vec::new(),
            pending: Vec::new(),
            written: 0,
            capture: None,
            ending: false,
            leaving: false,
        }
    }

    fn unwritten(&self) -> usize {
        self.pending.len() - self.written
    }

    fn has_pending(&self) -> bool {
        self.unwritten() > 0
    }

    fn drop_dead(&mut self) {
        self.pending.clear();
        self.written = 0;
        self.capture = None;
        self.leaving = false;
        self.ending = true;
    }

    /// Reads what has come and answers whole lines.
    fn read(&mut self, backend: &mut impl Backend) -> io::Result<()> {
        let mut chunk = [0u8; 4096];
        loop {
            match self.stream.read(&mut chunk) {
                Ok(0) => return Err(ErrorKind::UnexpectedEof.into()),
                // After a capture's start the asker has nothing to say.
                Ok(_) if self.capture.is_some() || self.ending => {}
                Ok(n) => self.request.extend_from_slice(&chunk[..n]),
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
            if self.request.len() > LONGEST_REQUEST {
                return Err(ErrorKind::InvalidData.into());
            }
        }
        while let Some(end) = self.request.iter().position(|&octet| octet == b'\n') {
            let line: Vec<u8> = self.request.drain(..=end).collect();
            self.answer(&line, backend);
        }
        Ok(())
    }

    fn answer(&mut self, line: &[u8], backend: &mut impl Backend) {
        let request = match Request::from_line(line) {
            Ok(request) => request,
            Err(message) => return self.say(&Response::Error { message }),
        };
        if let Request::Tcpdump { snaplen, count, promiscuous } = request {
            return match backend.capture_start(snaplen, promiscuous) {
                Ok(interface) => self.start_capture(&interface, snaplen, count),
                Err(message) => self.say(&Response::Error { message }),
            };
        }
        for response in backend.respond(&request) {
            self.leaving |= matches!(response, Response::Leaving);
            self.say(&response);
        }
    }

    fn say(&mut self, response: &Response) {
        let line = response.to_line();
        if self.unwritten() + line.len() > MOST_PENDING {
            return self.drop_dead();
        }
        self.pending.extend_from_slice(&line);
    }

    fn start_capture(&mut self, interface: &str, snaplen: u32, count: Option<u64>) {
        self.say(&Response::Capturing);
        match pcapng::Writer::new(Vec::new(), interface, snaplen) {
            Ok(writer) => self.capture = Some(Capture { writer, remaining: count }),
            Err(_) => self.ending = true, // A Vec does not fail.
        }
        self.take_encoded();
    }

    fn add_frame(&mut self, frame: &Frame<'_>) {
        let Some(capture) = &mut self.capture else { return };
        if capture.remaining == Some(0) || capture.writer.frame(frame).is_err() {
            return;
        }
        if let Some(remaining) = &mut capture.remaining {
            *remaining -= 1;
        }
        let done = capture.remaining == Some(0);
        self.take_encoded();
        if done {
            self.capture = None;
            self.ending = true;
        }
    }

    fn take_encoded(&mut self) {
        if let Some(capture) = &mut self.capture {
            self.pending.append(capture.writer.get_mut());
        }
    }

    /// Writes what it can; whether the connection goes on.
    fn keep(&mut self) -> bool {
        while self.has_pending() {
            match self.stream.write(&self.pending[self.written..]) {
                Ok(0) => return false,
                Ok(n) => self.written += n,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return true,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(_) => return false,
            }
        }
        self.pending.clear();
        self.written = 0;
        !self.ending
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use control::client::Client;
    use control::message::Stats;
    use control::pcapng::FrameDirection;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicBool, Ordering};
    use std::thread;
    use std::time::Duration;

    #[derive(Default)]
    struct Fake {
        captured: Vec<Vec<u8>>,
        stops: usize,
    }

    impl Backend for Fake {
        fn respond(&mut self, request: &Request) -> Vec<Response> {
            match request {
                Request::Stats => {
                    let mut stats = Stats::default();
                    stats.add("interface", "rx_frames", 7, "frames received");
                    vec![Response::Stats(stats)]
                }
                Request::Leave { .. } => vec![Response::Leaving],
                _ => vec![Response::Error { message: "not here".into() }],
            }
        }
        fn capture_start(&mut self, _snaplen: u32, promiscuous: bool) -> Result<String, String> {
            if promiscuous {
                return Err("no such mode".into());
            }
            self.captured = vec![vec![0x11; 60], vec![0x12; 60], vec![0x13; 60]];
            Ok("onwire0".into())
        }
        fn capture_read(&mut self, each: &mut dyn FnMut(&Frame<'_>) -> bool) {
            for octets in std::mem::take(&mut self.captured) {
                let direction = FrameDirection::Inbound;
                each(&Frame { time_ns: 1, direction, octets: &octets, length: 60 });
            }
        }
        fn capture_stop(&mut self) {
            self.stops += 1;
        }
    }

    /// Serves `path` on a thread until told to stop; returns the backend.
    fn serve(path: &Path) -> (Arc<AtomicBool>, thread::JoinHandle<Fake>) {
        let mut server = ControlServer::bind(path).unwrap();
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let thread = thread::spawn(move || {
            let mut fake = Fake::default();
            while !stopped.load(Ordering::Relaxed) && !server.is_leaving() {
                server.turn(&mut fake);
                thread::sleep(Duration::from_millis(1));
            }
            server.turn(&mut fake);
            server.unlink();
            fake
        });
        (stop, thread)
    }

    #[test]
    fn answers_what_it_is_asked_and_refuses_nonsense() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("1.sock");
        let (stop, thread) = serve(&path);
        let mut client = Client::connect(&path).unwrap();
        assert_eq!(client.stats().unwrap().get("interface", "rx_frames"), Some(7));
        assert!(client.routes().is_err());
        let mut rude = UnixStream::connect(&path).unwrap();
        rude.write_all(&vec![b'x'; LONGEST_REQUEST + 2]).ok();
        assert_eq!(rude.read(&mut [0; 8]).unwrap_or(0), 0, "the rude one is cut off");
        assert!(client.stats().is_ok(), "the polite one goes on");
        stop.store(true, Ordering::Relaxed);
        thread.join().unwrap();
        assert!(!path.exists());
    }

    #[test]
    fn a_capture_ends_after_its_count_and_is_stopped_once() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("1.sock");
        let (stop, thread) = serve(&path);
        let mut octets = Vec::new();
        assert!(Client::connect(&path).unwrap().capture(0, None, true).is_err());
        let client = Client::connect(&path).unwrap();
        client.capture(0, Some(2), false).unwrap().read_to_end(&mut octets).unwrap();
        let frames = octets.windows(60).filter(|w| w == &[0x11; 60] || w == &[0x12; 60]).count();
        assert_eq!(frames, 2);
        assert!(!octets.windows(60).any(|w| w == [0x13; 60]), "the third frame was not asked for");
        stop.store(true, Ordering::Relaxed);
        assert_eq!(thread.join().unwrap().stops, 1);
    }

    #[test]
    fn leaving_is_told_by_the_end_of_the_connection() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("1.sock");
        let (_stop, thread) = serve(&path);
        let client = Client::connect(&path).unwrap();
        assert!(client.leave("successor", Duration::from_secs(5)).unwrap());
        thread.join().unwrap();
    }
}
