//! The groups of the link whose frames the device is to take: a bounded, counted set.
//!
//! It lies under the lock, where every process of the family finds it; whoever changes it tells the
//! port. As on Linux the operator's wish counts once, that of each socket counts.

use arrayvec::ArrayVec;
use dpdk::{Filter, Port};
use stack::addr::MacAddr;

/// No more groups than this.
pub(crate) const MOST: usize = 256;

/// Who wants a group's frames.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Holder {
    /// `onwire set multicast`.
    Operator,
    /// A socket that has joined. There is none yet.
    #[cfg_attr(not(test), expect(dead_code, reason = "IP_ADD_MEMBERSHIP is not carried yet"))]
    Socket,
}

/// The set.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Groups {
    entries: ArrayVec<Entry, MOST>,
    /// The operator wants every group.
    pub(crate) every: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Entry {
    group: MacAddr,
    operator: bool,
    sockets: u32,
}

impl Groups {
    /// A group's frames are wanted.
    ///
    /// # Errors
    /// The set is full.
    pub(crate) fn join(&mut self, group: MacAddr, holder: Holder) -> Result<(), String> {
        let known = self.entries.iter().position(|entry| entry.group == group);
        let at = known.unwrap_or(self.entries.len());
        if known.is_none() {
            let entry = Entry { group, operator: false, sockets: 0 };
            let full = |_| format!("{group}: there are {MOST} groups already; take one away first");
            self.entries.try_push(entry).map_err(full)?;
        }
        let entry = &mut self.entries[at];
        match holder {
            Holder::Operator => entry.operator = true,
            Holder::Socket => entry.sockets += 1,
        }
        Ok(())
    }

    /// They are not wanted any more, by this one.
    ///
    /// # Errors
    /// They were not.
    pub(crate) fn leave(&mut self, group: MacAddr, holder: Holder) -> Result<(), String> {
        let holds = |entry: &Entry| match holder {
            Holder::Operator => entry.operator,
            Holder::Socket => entry.sockets > 0,
        };
        let at = self.entries.iter().position(|entry| entry.group == group && holds(entry));
        let Some(at) = at else {
            return Err(format!("{group} was not added (onwire list shows which were)"));
        };
        let entry = &mut self.entries[at];
        match holder {
            Holder::Operator => entry.operator = false,
            Holder::Socket => entry.sockets -= 1,
        }
        if !entry.operator && entry.sockets == 0 {
            self.entries.remove(at);
        }
        Ok(())
    }

    /// The groups, in the order in which they came.
    pub(crate) fn iter(&self) -> impl Iterator<Item = MacAddr> {
        self.entries.iter().map(|entry| entry.group)
    }

    /// Has the port take these groups' frames; a word on how, where it takes others too.
    ///
    /// # Errors
    /// It cannot, in one line.
    pub(crate) fn tell(&self, port: &Port) -> Result<Option<String>, String> {
        let groups: Vec<MacAddr> = self.iter().collect();
        let filter = port.set_multicast(&groups, self.every).map_err(|error| error.to_string())?;
        let unasked = filter == Filter::All && !self.every;
        Ok(unasked.then(|| {
            let driver = port.driver();
            format!("the driver {driver} cannot tell these groups apart: it takes every group")
        }))
    }

    /// The same after something else of the port was changed, whose driver may have forgotten it.
    pub(crate) fn tell_again(&self, port: &Port) {
        if self.every || !self.entries.is_empty() {
            // It could before; `onwire list` shows what it takes.
            let _ = self.tell(port);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ONE: MacAddr = MacAddr([1, 0, 0x5e, 0, 0, 1]);
    const TWO: MacAddr = MacAddr([1, 0, 0x5e, 0, 0, 2]);

    fn listed(groups: &Groups) -> Vec<MacAddr> {
        groups.iter().collect()
    }

    #[test]
    fn the_operator_counts_once_and_each_socket_counts() {
        let mut groups = Groups::default();
        for holder in [Holder::Operator, Holder::Operator, Holder::Socket, Holder::Socket] {
            groups.join(ONE, holder).unwrap();
        }
        groups.join(TWO, Holder::Socket).unwrap();
        assert_eq!(listed(&groups), [ONE, TWO]);
        groups.leave(ONE, Holder::Operator).unwrap();
        assert!(groups.leave(ONE, Holder::Operator).is_err(), "it had one wish");
        assert!(groups.leave(TWO, Holder::Operator).is_err(), "that is a socket's");
        groups.leave(ONE, Holder::Socket).unwrap();
        assert_eq!(listed(&groups), [ONE, TWO]);
        groups.leave(ONE, Holder::Socket).unwrap();
        assert_eq!(listed(&groups), [TWO]);
        assert!(groups.leave(ONE, Holder::Socket).unwrap_err().contains("01:00:5e:00:00:01"));
    }

    #[test]
    fn the_set_is_bounded() {
        let mut groups = Groups::default();
        let group = |n: usize| MacAddr([1, 0, 0x5e, 1, (n >> 8) as u8, n as u8]);
        (0..MOST).for_each(|n| groups.join(group(n), Holder::Operator).unwrap());
        let full = groups.clone();
        assert!(groups.join(group(MOST), Holder::Operator).unwrap_err().contains("256 groups"));
        groups.join(group(7), Holder::Operator).expect("it is there already");
        assert_eq!(groups, full);
        groups.leave(group(7), Holder::Operator).unwrap();
        groups.join(group(MOST), Holder::Operator).unwrap();
    }
}
