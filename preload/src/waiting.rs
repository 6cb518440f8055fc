//! Waiting for both halves of a socket at once: the stack's and the kernel's.
//!
//! Called by accept, and by recv of a UDP socket in both worlds. Sockets of the stack alone wait
//! inside the engine instead.

use crate::descriptors::Open;
use crate::errno::Errno;
use engine::Wait;
use stack::error::Error;
use stack::options::{Options, Period};
use stack::readiness::Readiness;
use stack::time::{Duration, Instant};

/// A call that waits, perhaps several times, until its time is up.
pub struct Waiter<'a> {
    open: &'a Open,
    interest: Readiness,
    wait: Wait,
    /// Fixed when waiting begins.
    until: Option<Wait>,
}

impl<'a> Waiter<'a> {
    /// A wait for `interest` that lasts as long as `wait` says.
    pub fn new(open: &'a Open, interest: Readiness, wait: Wait) -> Self {
        Waiter { open, interest, wait, until: None }
    }

    /// Waits once.
    ///
    /// # Errors
    /// `EAGAIN` when the time is up, `EINTR` when a handler ran that interrupts (signal(7): any, if
    /// there is a timeout; those without `SA_RESTART` otherwise).
    pub fn wait(&mut self) -> Result<(), Errno> {
        let until = match self.until {
            Some(until) => until,
            None => *self.until.insert(self.resolve()?),
        };
        if until == Wait::No {
            return Err(Errno::EAGAIN);
        }
        let kernel = self.open.is_dual().then_some(self.open.fd);
        let interruptions = engine::thread::interruptions();
        match self.open.engine.wait_for(self.open.id, self.interest, kernel, until) {
            Ok(false) => Err(Errno::EAGAIN),
            Ok(true) => Ok(()),
            Err(Error::Interrupted)
                if until == Wait::Forever
                    && engine::thread::interruptions() == interruptions
                    && !engine::cancel::has_ended() =>
            {
                Ok(())
            }
            Err(error) => Err(error.into()),
        }
    }

    /// The moment at which the wait ends.
    fn resolve(&self) -> Result<Wait, Errno> {
        let timeout = match self.wait {
            Wait::ReceiveTimeout => self.timeout(|options| options.receive_timeout)?,
            Wait::SendTimeout => self.timeout(|options| options.send_timeout)?,
            other => return Ok(other),
        };
        Ok(timeout.map_or(Wait::Forever, |timeout| after(self.open.engine.now(), timeout)))
    }

    fn timeout(
        &self,
        which: impl Fn(&Options) -> Option<Period>,
    ) -> Result<Option<Duration>, Errno> {
        let open = self.open;
        let timeout =
            open.engine.with(open.id, |shard, socket, _| shard.options(socket).map(&which))?;
        Ok(timeout.map(Period::get))
    }
}

/// A wait that ends `timeout` after `now`: not at all for zero, never for what no clock reaches.
#[must_use]
pub fn after(now: Instant, timeout: Duration) -> Wait {
    if timeout.is_zero() {
        return Wait::No;
    }
    match now + timeout {
        Instant::FAR_FUTURE => Wait::Forever,
        end => Wait::Until(end),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_timeout_becomes_a_moment() {
        let now = Instant::from_millis(5);
        assert_eq!(after(now, Duration::ZERO), Wait::No);
        assert_eq!(after(now, Duration::from_millis(2)), Wait::Until(Instant::from_millis(7)));
        assert_eq!(after(now, Duration::from_secs(u64::MAX)), Wait::Forever);
    }
}
