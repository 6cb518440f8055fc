//! The programs that a measurement starts: ended and reaped whatever happens, and listened to with
//! a deadline.

use anyhow::{Context, Result, anyhow, bail};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde::de::DeserializeOwned;
use std::io::{BufRead, BufReader, Read, Write};
use std::process::{Child, ChildStdin, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::sync::{Arc, OnceLock};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// How often a wait looks whether the user has had enough.
const TICK: Duration = Duration::from_millis(50);

/// What a program that never stops talking may leave in our memory, in octets.
const STDERR_LIMIT: u64 = 1 << 20;

static INTERRUPTED: OnceLock<Arc<AtomicBool>> = OnceLock::new();

/// From now on SIGINT, SIGTERM and SIGHUP end the run through the ordinary error path, so that
/// every guard (children, namespaces, directories) is dropped.
pub fn end_cleanly_on_signals() -> Result<()> {
    let flag = INTERRUPTED.get_or_init(Default::default);
    for signal in [Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP] {
        signal_hook::flag::register(signal as i32, Arc::clone(flag))
            .with_context(|| format!("cannot handle {signal}"))?;
    }
    Ok(())
}

/// Fails if the user has had enough.
pub fn check_interrupted() -> Result<()> {
    match INTERRUPTED.get() {
        Some(flag) if flag.load(Ordering::Relaxed) => bail!("interrupted"),
        _ => Ok(()),
    }
}

/// A child whose lines we read, killed and reaped when dropped.
#[derive(Debug)]
pub struct Program {
    name: String,
    child: Child,
    stdin: Option<ChildStdin>,
    lines: Receiver<String>,
    stderr: Option<JoinHandle<String>>,
}

impl Program {
    /// Starts `command`; `name` is what error messages call it.
    pub fn start(name: &str, command: &mut Command) -> Result<Self> {
        check_interrupted()?;
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .with_context(|| format!("cannot start {name} ({command:?})"))?;
        let stdout = child.stdout.take().context("no stdout")?;
        let stderr = child.stderr.take().context("no stderr")?;
        let (sender, lines) = channel();
        std::thread::spawn(move || {
            for line in BufReader::new(stdout).lines().map_while(Result::ok) {
                if sender.send(line).is_err() {
                    break;
                }
            }
        });
        let stderr = std::thread::spawn(move || {
            let mut text = String::new();
            let _ = stderr.take(STDERR_LIMIT).read_to_string(&mut text);
            text
        });
        let stdin = child.stdin.take();
        Ok(Program { name: name.to_owned(), child, stdin, lines, stderr: Some(stderr) })
    }

    /// Its process.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Whether it has not ended yet.
    pub fn is_running(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(None))
    }

    /// The next line it prints, or an error that says what it printed to stderr.
    pub fn line(&mut self, within: Duration) -> Result<String> {
        let deadline = Instant::now() + within;
        loop {
            check_interrupted()?;
            match self.lines.recv_timeout(TICK) {
                Ok(line) => return Ok(line),
                Err(RecvTimeoutError::Timeout) if Instant::now() < deadline => {}
                Err(RecvTimeoutError::Timeout) => {
                    let said = self.end_and_collect_stderr();
                    bail!("{} said nothing for {} s{said}", self.name, within.as_secs())
                }
                Err(RecvTimeoutError::Disconnected) => {
                    let status = self.wait_until(deadline)?;
                    let said = self.end_and_collect_stderr();
                    bail!("{} ended early ({status}){said}", self.name)
                }
            }
        }
    }

    /// The next line that is a JSON document of type `T`; other lines are skipped.
    pub fn message<T: DeserializeOwned>(&mut self, within: Duration) -> Result<T> {
        let deadline = Instant::now() + within;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            let line = self.line(left)?;
            if line.starts_with('{') {
                return serde_json::from_str(&line)
                    .map_err(|e| anyhow!("{} said {line:?}: {e}", self.name));
            }
        }
    }

    /// Every line until it closes its output.
    pub fn remaining_lines(&mut self, within: Duration) -> Result<Vec<String>> {
        let deadline = Instant::now() + within;
        let mut all = Vec::new();
        loop {
            check_interrupted()?;
            match self.lines.recv_timeout(TICK) {
                Ok(line) => all.push(line),
                Err(RecvTimeoutError::Timeout) if Instant::now() < deadline => {}
                Err(RecvTimeoutError::Timeout) => bail!("{} does not end", self.name),
                Err(RecvTimeoutError::Disconnected) => return Ok(all),
            }
        }
    }

    /// Sends it an empty line: it may go on.
    pub fn go_on(&mut self) -> Result<()> {
        let stdin = self.stdin.as_mut().context("its input is closed")?;
        stdin.write_all(b"\n").with_context(|| format!("cannot write to {}", self.name))
    }

    /// Asks it to come to its end and to say what it has to say.
    pub fn interrupt(&self) -> Result<()> {
        let pid = Pid::from_raw(self.child.id().cast_signed());
        kill(pid, Signal::SIGINT).with_context(|| format!("cannot interrupt {}", self.name))
    }

    /// Waits for it to end by itself, successfully.
    pub fn finish(mut self, within: Duration) -> Result<()> {
        self.stdin = None;
        let status = self.wait_until(Instant::now() + within)?;
        if status.success() {
            return Ok(());
        }
        let said = self.end_and_collect_stderr();
        bail!("{} failed ({status}){said}", self.name)
    }

    /// Ends it: a polite signal, and after a second a rude one.
    pub fn end(mut self) {
        self.terminate();
    }

    fn terminate(&mut self) {
        self.stdin = None;
        if matches!(self.child.try_wait(), Ok(None)) {
            let pid = Pid::from_raw(self.child.id().cast_signed());
            let _ = kill(pid, Signal::SIGTERM);
            let deadline = Instant::now() + Duration::from_secs(1);
            while matches!(self.child.try_wait(), Ok(None)) && Instant::now() < deadline {
                std::thread::sleep(Duration::from_millis(2));
            }
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    fn wait_until(&mut self, deadline: Instant) -> Result<ExitStatus> {
        loop {
            if let Some(status) = self.child.try_wait()? {
                return Ok(status);
            }
            check_interrupted()?;
            if Instant::now() >= deadline {
                let said = self.end_and_collect_stderr();
                bail!("{} does not end{said}", self.name);
            }
            std::thread::sleep(Duration::from_millis(2));
        }
    }

    fn end_and_collect_stderr(&mut self) -> String {
        self.terminate();
        // A keeper or a grandchild may hold the pipe open: wait for the text, but not for ever.
        let deadline = Instant::now() + Duration::from_millis(500);
        while self.stderr.as_ref().is_some_and(|thread| !thread.is_finished()) {
            if Instant::now() >= deadline {
                return String::new();
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        match self.stderr.take().map(JoinHandle::join) {
            Some(Ok(text)) if !text.trim().is_empty() => format!(":\n{}", text.trim_end()),
            _ => String::new(),
        }
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        self.terminate();
    }
}

/// Runs a short command to its end and returns what it printed.
pub fn output(command: &mut Command) -> Result<String> {
    let output = command.output().with_context(|| format!("cannot start {command:?}"))?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        bail!("{command:?} failed ({}): {}", output.status, said.trim());
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}
