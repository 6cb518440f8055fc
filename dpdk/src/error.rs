//! What went wrong, in one line.

use core::fmt;

/// A start, a port or a setting that DPDK refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Error {
    /// The setting or step it is about (`device af_packet:eth7`, `hugepages`).
    pub setting: String,
    /// What is wrong and, where we know, what to do.
    pub reason: String,
    /// What the driver logged meanwhile; several lines, or empty.
    pub log: String,
}

impl Error {
    pub(crate) fn new(setting: impl Into<String>, reason: impl Into<String>) -> Self {
        Error { setting: setting.into(), reason: reason.into(), log: String::new() }
    }

    /// With the log since `mark`; its last telling line becomes part of the reason.
    pub(crate) fn with_log(setting: impl Into<String>, reason: &str, mark: LogMark) -> Self {
        let log = mark.text();
        let reason = match telling_line(&log) {
            Some(line) => format!("{reason}: {line}"),
            None => reason.to_owned(),
        };
        Error { setting: setting.into(), reason, log }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.setting, self.reason)
    }
}

impl core::error::Error for Error {}

/// The first line that complains is usually the cause; what follows is the unwinding.
fn telling_line(log: &str) -> Option<&str> {
    let complains = |line: &&str| {
        let line = line.to_ascii_lowercase();
        ["fail", "error", "cannot", "could not", "unable", "invalid", "no such", "not "]
            .iter()
            .any(|word| line.contains(word))
    };
    let lines = || log.lines().map(str::trim).filter(|line| !line.is_empty());
    lines().find(complains).or_else(|| lines().next_back())
}

/// A position in DPDK's log.
#[derive(Debug, Clone, Copy)]
pub(crate) struct LogMark(u64);

impl LogMark {
    /// The very first line.
    pub(crate) fn start() -> Self {
        LogMark(0)
    }

    /// Here and now.
    pub(crate) fn now() -> Self {
        // SAFETY: reads a counter.
        LogMark(unsafe { dpdk_sys::onwire_dpdk_log_position() })
    }

    /// What was logged since.
    pub(crate) fn text(self) -> String {
        let mut bytes = vec![0u8; 16 * 1024];
        // SAFETY: the buffer is as long as it is said to be.
        let len = unsafe {
            dpdk_sys::onwire_dpdk_log_read(self.0, bytes.as_mut_ptr().cast(), bytes.len())
        };
        String::from_utf8_lossy(&bytes[..len]).into_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_complaint_is_the_reason() {
        let log = "EAL: hello\nrte_pmd: no such device x\nEAL: Driver cannot attach\n";
        assert_eq!(telling_line(log), Some("rte_pmd: no such device x"));
        assert_eq!(telling_line("  \n"), None);
        assert_eq!(telling_line("EAL: hello\nEAL: bye\n"), Some("EAL: bye"));
    }
}
