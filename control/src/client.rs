//! The asking side of the control socket: blocking, with time limits.

use crate::change::Change;
use crate::message::{
    self, EngineInfo, LONGEST_RESPONSE, NeighborInfo, Request, Response, RouteInfo, SocketInfo,
    Stats,
};
use crate::run_dir::RunDir;
use std::fmt;
use std::io::{self, BufReader, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

/// How long an engine may take for one line. The keeper answers between two turns of the stack.
const PATIENCE: Duration = Duration::from_secs(5);
/// More sockets than an engine can have: an answer that goes on beyond is no answer.
const MOST_SOCKETS: usize = 16 << 20;

/// A connection to one engine.
#[derive(Debug)]
pub struct Client {
    stream: BufReader<UnixStream>,
}

/// Why a request failed.
#[derive(Debug)]
pub enum ClientError {
    /// The connection broke or timed out.
    Io(io::Error),
    /// The engine answered that it cannot.
    Refused(String),
    /// The engine answered something else than was asked: another version of onwire.
    Unexpected,
}

impl fmt::Display for ClientError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Io(error) if error.kind() == io::ErrorKind::WouldBlock => {
                f.write_str("the engine does not answer")
            }
            Self::Io(error) => write!(f, "the engine does not answer: {error}"),
            Self::Refused(message) => write!(f, "the engine refuses: {message}"),
            Self::Unexpected => f.write_str("the engine is of another version of onwire"),
        }
    }
}

impl std::error::Error for ClientError {}

impl From<io::Error> for ClientError {
    fn from(error: io::Error) -> Self {
        ClientError::Io(error)
    }
}

impl Client {
    /// Connects to the control socket at `path`.
    ///
    /// # Errors
    /// Nobody listens there, or we may not connect.
    pub fn connect(path: &Path) -> io::Result<Self> {
        let stream = UnixStream::connect(path)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.set_write_timeout(Some(PATIENCE))?;
        Ok(Client { stream: BufReader::new(stream) })
    }

    /// Connects to every engine of a run directory that answers; stale sockets are passed over.
    #[must_use]
    pub fn connect_all(run_dir: &RunDir) -> Vec<Client> {
        let sockets = run_dir.control_sockets();
        sockets.iter().filter_map(|(_, path)| Client::connect(path).ok()).collect()
    }

    /// Asks, and returns the first response.
    ///
    /// # Errors
    /// The connection broke, or the engine refuses.
    pub fn request(&mut self, request: &Request) -> Result<Response, ClientError> {
        self.stream.get_mut().write_all(&message::to_line(request))?;
        self.response()
    }

    fn response(&mut self) -> Result<Response, ClientError> {
        match message::read_line(&mut self.stream, LONGEST_RESPONSE)? {
            Some(Response::Error { message }) => Err(ClientError::Refused(message)),
            Some(response) => Ok(response),
            None => Err(io::Error::from(io::ErrorKind::UnexpectedEof).into()),
        }
    }

    /// Who the engine is.
    ///
    /// # Errors
    /// As [`Client::request`].
    pub fn info(&mut self) -> Result<EngineInfo, ClientError> {
        match self.request(&Request::Info)? {
            Response::Info(info) => Ok(*info),
            _ => Err(ClientError::Unexpected),
        }
    }

    /// Its sockets, all parts put together.
    ///
    /// # Errors
    /// As [`Client::request`].
    pub fn sockets(&mut self) -> Result<Vec<SocketInfo>, ClientError> {
        let mut response = self.request(&Request::Sockets)?;
        let mut all = Vec::new();
        loop {
            let Response::Sockets { sockets, more } = response else {
                return Err(ClientError::Unexpected);
            };
            all.extend(sockets);
            if !more {
                return Ok(all);
            }
            if all.len() > MOST_SOCKETS {
                return Err(ClientError::Unexpected);
            }
            response = self.response()?;
        }
    }

    /// Its counters.
    ///
    /// # Errors
    /// As [`Client::request`].
    pub fn stats(&mut self) -> Result<Stats, ClientError> {
        match self.request(&Request::Stats)? {
            Response::Stats(stats) => Ok(stats),
            _ => Err(ClientError::Unexpected),
        }
    }

    /// Its routes.
    ///
    /// # Errors
    /// As [`Client::request`].
    pub fn routes(&mut self) -> Result<Vec<RouteInfo>, ClientError> {
        match self.request(&Request::Routes)? {
            Response::Routes(routes) => Ok(routes),
            _ => Err(ClientError::Unexpected),
        }
    }

    /// Its neighbors.
    ///
    /// # Errors
    /// As [`Client::request`].
    pub fn neighbors(&mut self) -> Result<Vec<NeighborInfo>, ClientError> {
        match self.request(&Request::Neighbors)? {
            Response::Neighbors(neighbors) => Ok(neighbors),
            _ => Err(ClientError::Unexpected),
        }
    }

    /// Changes something; when this returns it is so, perhaps with a word on how.
    ///
    /// # Errors
    /// As [`Client::request`]: then all is as it was.
    pub fn change(&mut self, change: Change) -> Result<Option<String>, ClientError> {
        match self.request(&Request::Set { change })? {
            Response::Done => Ok(None),
            Response::Noted { note } => Ok(Some(note)),
            _ => Err(ClientError::Unexpected),
        }
    }

    /// Asks a lingering engine to give its device up and waits until it has, at most `patience`.
    /// Whether it did.
    ///
    /// # Errors
    /// The connection broke before the answer, or the engine refuses.
    pub fn leave(mut self, program: &str, patience: Duration) -> Result<bool, ClientError> {
        let request = Request::Leave { pid: std::process::id(), program: program.to_owned() };
        match self.request(&request)? {
            Response::Leaving => {}
            Response::Staying { .. } => return Ok(false),
            _ => return Err(ClientError::Unexpected),
        }
        self.stream.get_ref().set_read_timeout(Some(patience))?;
        // It closes the connection as its last act.
        Ok(matches!(self.stream.read(&mut [0]), Ok(0)))
    }

    /// Starts a capture. What is read from the result is pcapng; dropping it ends the capture.
    ///
    /// # Errors
    /// As [`Client::request`].
    pub fn capture(
        mut self,
        snaplen: u32,
        count: Option<u64>,
        promiscuous: bool,
    ) -> Result<BufReader<UnixStream>, ClientError> {
        match self.request(&Request::Tcpdump { snaplen, count, promiscuous })? {
            Response::Capturing => {}
            _ => return Err(ClientError::Unexpected),
        }
        // A quiet network is no failure.
        self.stream.get_ref().set_read_timeout(None)?;
        Ok(self.stream)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::net::UnixListener;
    use std::thread;

    /// Answers each connection's lines in turn with the given octets.
    fn serve(answers: Vec<Vec<u8>>) -> (tempfile::TempDir, std::path::PathBuf) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("1.sock");
        let listener = UnixListener::bind(&path).unwrap();
        thread::spawn(move || {
            let (stream, _) = listener.accept().unwrap();
            let mut reader = BufReader::new(stream.try_clone().unwrap());
            for answer in answers {
                let request: Option<Request> =
                    message::read_line(&mut reader, message::LONGEST_REQUEST).unwrap();
                assert!(request.is_some());
                (&stream).write_all(&answer).unwrap();
            }
        });
        (dir, path)
    }

    #[test]
    fn lists_in_parts_are_put_together() {
        let part = |more| Response::Sockets { sockets: vec![], more }.to_line();
        let (_dir, path) = serve(vec![[part(true), part(true), part(false)].concat()]);
        assert_eq!(Client::connect(&path).unwrap().sockets().unwrap(), []);
    }

    #[test]
    fn refusals_and_nonsense_are_told_apart() {
        let refusal = Response::Error { message: "busy".into() }.to_line();
        let other = Response::Leaving.to_line();
        let (_dir, path) = serve(vec![refusal, other, b"nonsense\n".to_vec()]);
        let mut client = Client::connect(&path).unwrap();
        assert!(matches!(client.stats(), Err(ClientError::Refused(message)) if message == "busy"));
        assert!(matches!(client.stats(), Err(ClientError::Unexpected)));
        assert!(matches!(client.stats(), Err(ClientError::Io(_))));
        assert!(matches!(client.stats(), Err(ClientError::Io(_))));
    }

    #[test]
    fn leaving_is_done_when_the_connection_closes() {
        let (_dir, path) = serve(vec![Response::Leaving.to_line()]);
        assert!(Client::connect(&path).unwrap().leave("x", PATIENCE).unwrap());
        let (_dir, path) = serve(vec![Response::Staying { programs: vec![] }.to_line()]);
        assert!(!Client::connect(&path).unwrap().leave("x", PATIENCE).unwrap());
    }

    #[test]
    fn a_capture_hands_over_the_octets_that_follow() {
        let (_dir, path) = serve(vec![[Response::Capturing.to_line(), b"pcap".to_vec()].concat()]);
        let mut octets = Vec::new();
        let client = Client::connect(&path).unwrap();
        client.capture(0, None, false).unwrap().read_to_end(&mut octets).unwrap();
        assert_eq!(octets, b"pcap");
    }

    #[test]
    fn stale_sockets_are_passed_over() {
        let dir = tempfile::tempdir().unwrap();
        drop(UnixListener::bind(dir.path().join("5.sock")).unwrap());
        assert!(Client::connect_all(&RunDir::at(dir.path())).is_empty());
    }
}
