//! What a connection knows of its path's MTU beyond the number in use: until when a router's word
//! is believed (RFC 1191 §6.3), and the search for a larger one without any router's help
//! (RFC 4821, Linux's `tcp_mtu_probing`).
//!
//! Few connections have anything to remember, so it is in a table beside them; a connection that
//! has an entry looks at it whenever it sends new data, and only then. `pmtud` hears routers,
//! `output` asks here before it sends, `recovery` when a probe is lost.

use super::Tcp;
use super::connection::{Connection, Env};
use super::negotiated::Negotiated;
use super::output::NoBuffer;
use super::recovery::Phase;
use super::seq::SeqNumber;
use super::socket::Kind;
use crate::collections::Slab;
use crate::config::{MtuProbing, PATH_MTU_LIFETIME, TcpConfig};
use crate::options::PathMtuDiscovery;
use crate::packet::{Allocator, Buffer, Transmit};
use crate::time::{Instant, Stamp};
use core::cmp::Ordering;

/// Entries are named in two octets.
const MOST: usize = 65_534;
/// A search disturbs too much while the window is smaller (as in Linux).
const LEAST_WINDOW: u32 = 11;

/// What one connection remembers.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Path {
    /// The MTU before a router said that it is less, and when that was.
    full: u16,
    learned: Stamp,
    search: Option<Search>,
}

/// A search for the MTU. Everything in octets of IP packet.
#[derive(Debug, Clone, Copy)]
struct Search {
    /// Packets of so many octets arrive.
    low: u16,
    /// Those of more do not.
    high: u16,
    began: Stamp,
    probe: Option<Probe>,
}

/// A packet that is larger than what is known to arrive.
#[derive(Debug, Clone, Copy)]
struct Probe {
    start: SeqNumber,
    end: SeqNumber,
    size: u16,
}

/// What every connection remembers.
#[derive(Debug)]
pub(crate) struct Paths {
    table: Slab<Path>,
    /// The device's MTU.
    mtu: u16,
}

impl Paths {
    pub fn new(sockets: usize, mtu: u16) -> Self {
        Paths { table: Slab::new(sockets.min(MOST)), mtu }
    }

    /// The device's MTU has changed.
    pub fn set_mtu(&mut self, mtu: u16) {
        self.mtu = mtu;
    }

    fn get(&self, name: u16) -> Option<Path> {
        self.table.at(u32::from(name).wrapping_sub(1)).copied()
    }

    /// Writes `path` back; one that has nothing to remember any more is forgotten.
    fn put(&mut self, name: &mut u16, path: Path) {
        if path.learned == Stamp::NEVER && path.search.is_none() {
            return self.forget(name);
        }
        if let Some(place) = self.table.at_mut(u32::from(*name).wrapping_sub(1)) {
            *place = path;
        } else if let Ok(handle) = self.table.insert(path) {
            *name = handle.index() as u16 + 1;
        }
    }

    /// The connection that has this entry is gone.
    pub fn forget(&mut self, name: &mut u16) {
        if *name != 0 {
            self.table.remove_at(u32::from(core::mem::take(name)) - 1);
        }
    }

    #[cfg(test)]
    pub fn len(&self) -> usize {
        self.table.len()
    }
}

/// What becomes of a path's MTU when the device's changes. One that is less already stays, if it
/// still fits; one that is more is that of a path which never leaves the stack.
pub(super) fn followed(own: u16, before: u16, mtu: u16) -> u16 {
    match own.cmp(&before) {
        Ordering::Less => own.min(mtu),
        Ordering::Equal => mtu,
        Ordering::Greater => own,
    }
}

/// What a look at the path leads to.
pub(super) enum Explored<B> {
    /// Nothing: data goes as always.
    Nothing,
    /// A probe.
    Probe(Transmit<B>),
    /// Data is to wait until there is room for a probe.
    Wait,
}

impl<B: Buffer> Tcp<B> {
    /// The socket at `index` is connected: is there anything to remember of its path?
    pub(super) fn begin_path(&mut self, index: u32, now: Instant) {
        let Some(socket) = self.sockets.at_mut(index) else { return };
        let Kind::Connected(c) = &mut socket.kind else { return };
        let full = self.rare.paths.mtu;
        let learned = c.negotiated.path_mtu < full;
        let probing = self.config.mtu_probing == MtuProbing::Always;
        if learned || probing {
            let learned = if learned { now.stamp() } else { Stamp::NEVER };
            let search = probing.then(|| c.new_search(&self.config, now));
            let path = Path { full, learned, search };
            self.rare.paths.put(&mut c.path, path);
            c.follow_path(&path);
        }
    }
}

impl Connection {
    /// The MTU that segments with `mss` octets of payload need.
    fn mtu_for(&self, mss: u32) -> u16 {
        let ip = if self.tuple.is_v6() { 40 } else { 20 };
        let options = if self.negotiated.timestamps { super::segment::TIMESTAMPS_LEN } else { 0 };
        u16::try_from(mss + ip + 20 + u32::from(options)).unwrap_or(u16::MAX)
    }

    /// The MTU beyond which the peer takes nothing.
    fn mtu_of_peer(&self) -> u16 {
        let headers = if self.tuple.is_v6() { 60 } else { 40 };
        self.negotiated.peer_mss.saturating_add(headers).min(self.negotiated.path_mtu)
    }

    //= RFC 4821 §7.2: between what surely arrives and what the peer and the interface take.
    fn new_search(&self, config: &TcpConfig, now: Instant) -> Search {
        let high = self.mtu_of_peer();
        let low = self.mtu_for(u32::from(config.base_mss)).min(high);
        Search { low, high, began: now.stamp(), probe: None }
    }

    /// Segments are from now on as large as `path` lets them be.
    fn follow_path(&mut self, path: &Path) {
        let found = path.search.map_or(u16::MAX, |search| search.low);
        let path_mtu = self.negotiated.path_mtu.min(found);
        let negotiated = Negotiated { path_mtu, ..self.negotiated };
        self.send.mss = u32::from(negotiated.send_mss(self.tuple.is_v6()));
    }

    /// A router says that the path takes no more than `mtu`.
    pub(super) fn learn_path_mtu<A: Allocator>(&mut self, env: &mut Env<'_, '_, A>, mtu: u16) {
        let fresh = Path { full: self.negotiated.path_mtu, learned: Stamp::NEVER, search: None };
        let mut path = env.rare.paths.get(self.path).unwrap_or(fresh);
        if path.learned == Stamp::NEVER {
            path.full = self.negotiated.path_mtu;
        }
        path.learned = env.cx.now.stamp();
        if let Some(search) = &mut path.search {
            search.high = search.high.min(mtu);
            search.low = search.low.min(mtu);
        }
        env.rare.paths.put(&mut self.path, path);
        if self.path == 0 {
            env.cx.counters.path_table_full += 1;
        }
        let before = self.send.mss; // `TCP_MAXSEG` may have made it less.
        self.negotiated.path_mtu = mtu;
        self.follow_path(&path);
        self.send.mss = self.send.mss.min(before);
    }

    /// The device's MTU was `before` and is `mtu` now: who went by it follows. What is in flight
    /// has been sent as it was, and is cut only if it has to go again.
    pub(super) fn on_device_mtu<A: Allocator>(
        &mut self,
        env: &mut Env<'_, '_, A>,
        before: u16,
        mtu: u16,
    ) {
        self.negotiated.path_mtu = followed(self.negotiated.path_mtu, before, mtu);
        let nothing = Path { full: mtu, learned: Stamp::NEVER, search: None };
        let mut path = env.rare.paths.get(self.path).unwrap_or(nothing);
        path.full = followed(path.full, before, mtu);
        let high = self.mtu_of_peer();
        if let Some(search) = &mut path.search {
            search.high = high;
            search.low = search.low.min(high);
        }
        env.rare.paths.put(&mut self.path, path);
        self.follow_path(&path);
        if env.options.max_segment > 0 {
            self.send.mss = self.send.mss.min(u32::from(env.options.max_segment));
        }
    }

    /// New data is to be sent by a connection that remembers something of its path.
    #[cold]
    pub(super) fn explore_path<A: Allocator>(
        &mut self,
        env: &mut Env<'_, '_, A>,
    ) -> Result<Explored<A::Buffer>, NoBuffer> {
        self.renew_path(env);
        let Some(mut path) = env.rare.paths.get(self.path) else { return Ok(Explored::Nothing) };
        let explored = match &mut path.search {
            Some(search) => self.probe_path(env, search),
            None => Ok(Explored::Nothing),
        };
        env.rare.paths.put(&mut self.path, path);
        explored
    }

    /// The program has data for a connection that remembers something of its path: what is it
    /// worth now?
    #[cold]
    pub(super) fn renew_path<A: Allocator>(&mut self, env: &mut Env<'_, '_, A>) {
        let Some(mut path) = env.rare.paths.get(self.path) else { return };
        //= RFC 1191 §6.3: routers do not say that a larger packet would pass by now.
        let age = path.learned.elapsed(env.cx.now);
        let expired = path.learned != Stamp::NEVER && age >= PATH_MTU_LIFETIME;
        if expired {
            env.cx.counters.path_mtu_expired += 1;
            path.learned = Stamp::NEVER;
            self.negotiated.path_mtu = path.full;
        }
        let arrived = path.search.as_mut().is_some_and(|search| self.note_arrival(env, search));
        if expired || arrived {
            self.follow_path(&path);
            env.rare.paths.put(&mut self.path, path);
        }
    }

    /// Whether a probe has arrived since.
    fn note_arrival<A: Allocator>(
        &mut self,
        env: &mut Env<'_, '_, A>,
        search: &mut Search,
    ) -> bool {
        let Some(probe) = search.probe.filter(|p| self.send.una.at_or_after(p.end)) else {
            return false;
        };
        //= RFC 4821 §7.6.1; the window goes on holding as many octets (Linux).
        env.cx.counters.mtu_probes_succeeded += 1;
        let packets = u64::from(self.window.cwnd) * u64::from(self.mtu_for(self.send.mss))
            / u64::from(probe.size.max(1));
        self.window.cwnd = (packets as u32).max(1);
        self.window.ssthresh = self.threshold_of_window();
        search.low = probe.size;
        search.probe = None;
        true
    }

    /// Sends a probe, if this is the time for one.
    fn probe_path<A: Allocator>(
        &mut self,
        env: &mut Env<'_, '_, A>,
        search: &mut Search,
    ) -> Result<Explored<A::Buffer>, NoBuffer> {
        //= RFC 4821 §7.4: what a probe tells is only clear while nothing is amiss.
        if search.probe.is_some()
            || self.recovery.phase != Phase::Open
            || self.window.cwnd < LEAST_WINDOW
            || self.receive.report != 0
            || env.options.path_mtu_discovery == PathMtuDiscovery::Dont
        {
            return Ok(Explored::Nothing);
        }
        let size = search.low + search.high.saturating_sub(search.low) / 2;
        if search.high.saturating_sub(search.low) < env.config.probe_threshold {
            self.search_again(env, search);
            return Ok(Explored::Nothing);
        }
        let len = u32::from(size.saturating_sub(self.mtu_for(0)));
        let needed = len + (u32::from(self.recovery.reordering) + 1) * self.send.mss;
        if len <= self.send.mss || self.send.unsent_octets() < needed || self.send.window < needed {
            return Ok(Explored::Nothing);
        }
        let in_flight = self.send.in_flight();
        if (self.send.nxt + needed).after(self.send.window_end())
            || in_flight + 2 > self.window.cwnd
        {
            return Ok(if in_flight > 0 { Explored::Wait } else { Explored::Nothing });
        }
        if self.is_held_by_pacing(env.options, env.cx.now) {
            return Ok(Explored::Wait);
        }
        self.send_probe(env, search, len)
    }

    fn send_probe<A: Allocator>(
        &mut self,
        env: &mut Env<'_, '_, A>,
        search: &mut Search,
        len: u32,
    ) -> Result<Explored<A::Buffer>, NoBuffer> {
        let Some(index) = self.send.join_unsent(env.pool, env.cx.allocator, len) else {
            return Ok(Explored::Nothing);
        };
        self.restart_after_idle(env);
        let start = self.send.nxt;
        let transmit = self.transmit_chunk(env, index)?;
        self.after_new(env, index, 1);
        //= RFC 4821 §7.4: it is in the place of two packets.
        self.window.cwnd = (self.window.cwnd - 1).max(1);
        let size = self.mtu_for(len);
        search.probe = Some(Probe { start, end: self.send.nxt, size });
        env.cx.counters.mtu_probes += 1;
        Ok(Explored::Probe(transmit))
    }

    /// The search has found what there is; after a while the path may be another.
    fn search_again<A: Allocator>(&mut self, env: &Env<'_, '_, A>, search: &mut Search) {
        //= RFC 4821 §7.7
        if search.began.elapsed(env.cx.now) >= env.config.probe_interval {
            search.high = self.mtu_of_peer();
            search.low = self.mtu_for(self.send.mss);
            search.began = env.cx.now.stamp();
        }
    }

    /// Something is lost: if it is a probe, that is what was to be found out, and no sign of
    /// congestion. Whether it was.
    #[cold]
    pub(super) fn probe_was_lost<A: Allocator>(&mut self, env: &mut Env<'_, '_, A>) -> bool {
        let Some(mut path) = env.rare.paths.get(self.path) else { return false };
        let Some(search) = &mut path.search else { return false };
        let first = |probe: &Probe| probe.start == self.send.una;
        let Some(probe) = search.probe.filter(first) else { return false };
        if self.recovery.phase >= Phase::WindowReduction {
            return false;
        }
        //= RFC 4821 §7.6.2
        env.cx.counters.mtu_probes_failed += 1;
        search.high = probe.size - 1;
        search.probe = None;
        env.rare.paths.put(&mut self.path, path);
        self.window.cwnd += 1;
        self.resend_oversized(env);
        true
    }

    /// Something is sent again: what happens to a probe tells nothing any more (RFC 4821 §7.6.4).
    #[cold]
    pub(super) fn forget_probe<A: Allocator>(&mut self, env: &mut Env<'_, '_, A>) {
        if let Some(mut path) = env.rare.paths.get(self.path)
            && let Some(search) = &mut path.search
            && search.probe.take().is_some()
        {
            env.rare.paths.put(&mut self.path, path);
        }
    }

    /// Nothing gets through any more: perhaps a router throws away what is too large for it, and
    /// does not say so (RFC 4821 §7.7, RFC 2923 §2.1).
    pub(super) fn suspect_black_hole<A: Allocator>(&mut self, env: &mut Env<'_, '_, A>) {
        if env.config.mtu_probing == MtuProbing::Off {
            return;
        }
        let fresh = Path { full: self.negotiated.path_mtu, learned: Stamp::NEVER, search: None };
        let mut path = env.rare.paths.get(self.path).unwrap_or(fresh);
        let search = match path.search {
            None => self.new_search(env.config, env.cx.now),
            Some(search) => {
                let headers = self.mtu_for(0);
                let half = search.low.saturating_sub(headers) / 2;
                let floor = env.config.mtu_probe_floor.max(super::negotiated::MIN_MSS);
                let mss = half.min(env.config.base_mss).max(floor);
                Search { low: search.low.min(headers + mss), ..search }
            }
        };
        path.search = Some(Search { probe: None, ..search });
        env.cx.counters.mtu_black_holes += 1;
        env.rare.paths.put(&mut self.path, path);
        if self.path == 0 {
            env.cx.counters.path_table_full += 1;
        }
        self.follow_path(&path);
    }
}
