//! What the next acknowledgments report beside RCV.NXT: blocks that wait for a gap (RFC 2018), and
//! a duplicate (RFC 2883); and what the peer's clock showed when the gap opened. Most connections
//! have none of these, so this is lent to those that have.

use super::Receiver;
use crate::tcp::loans::Loans;
use crate::tcp::segment::SackBlock;
use crate::tcp::seq::SeqNumber;

/// Blocks that are remembered.
pub(crate) const BLOCKS: usize = 4;

/// What is to be reported.
#[derive(Debug, Default)]
pub(crate) struct Report {
    blocks: [SackBlock; BLOCKS],
    count: u8,
    duplicate: Option<SackBlock>,
    /// The oldest gap that is still open.
    gap: Option<Gap>,
}

/// How things stood when a gap opened.
#[derive(Debug, Clone, Copy)]
struct Gap {
    /// TS.Recent.
    recent: u32,
    /// RCV.NXT.
    nxt: SeqNumber,
}

/// Octets after which a gap that never closes tells nothing any more. What was sent when TS.Recent
/// was taken, or later, lies less than a window (2^30) before RCV.NXT then; so no number of it can
/// come again before RCV.NXT has gone on by 2^32 less two windows.
const MEANINGFUL: u32 = 1 << 30;

impl Report {
    /// The blocks, most recent first.
    pub fn blocks(&self) -> &[SackBlock] {
        self.blocks.get(..usize::from(self.count)).unwrap_or_default()
    }

    /// Adds a block, merging those that touch.
    fn add(&mut self, mut merged: SackBlock) {
        let mut kept = [SackBlock::default(); BLOCKS];
        let mut count = 1;
        for block in self.blocks() {
            if block.start.at_or_before(merged.end) && block.end.at_or_after(merged.start) {
                merged.start = merged.start.min(block.start);
                merged.end = merged.end.max(block.end);
            } else if let Some(slot) = kept.get_mut(count) {
                *slot = *block;
                count += 1;
            }
        }
        kept[0] = merged;
        self.blocks = kept;
        self.count = count as u8;
    }

    /// Drops the blocks that are not `wanted` any more.
    fn keep(&mut self, wanted: impl Fn(&SackBlock) -> bool) {
        let mut count = 0;
        for i in 0..usize::from(self.count) {
            let block = self.blocks[i];
            if wanted(&block) {
                self.blocks[count] = block;
                count += 1;
            }
        }
        self.count = count as u8;
    }
}

impl Receiver {
    /// The duplicate that the next acknowledgment reports. A table without room forgets it, which
    /// costs the peer no more than a chance to learn.
    pub fn report_duplicate(&mut self, reports: &mut Loans<Report>, block: SackBlock) {
        if let Some(report) = reports.borrow(&mut self.report) {
            report.duplicate = Some(block);
        }
    }

    /// Whether a duplicate waits to be reported.
    #[inline]
    pub fn has_duplicate(&self, reports: &Loans<Report>) -> bool {
        reports.get(self.report).is_some_and(|report| report.duplicate.is_some())
    }

    /// A piece came out of order.
    pub(super) fn report_block(&mut self, reports: &mut Loans<Report>, block: SackBlock) {
        if let Some(report) = reports.borrow(&mut self.report) {
            report.add(block);
        }
    }

    /// A piece came out of order, when TS.Recent was `recent`.
    pub fn note_gap(&mut self, reports: &mut Loans<Report>, recent: u32) {
        let nxt = self.nxt;
        if let Some(report) = reports.get_mut(self.report)
            && report.gap.is_none_or(|gap| nxt.since(gap.nxt) >= MEANINGFUL)
        {
            report.gap = Some(Gap { recent, nxt });
        }
    }

    /// TS.Recent when the oldest gap opened that is still open: what was sent since cannot be of an
    /// earlier round of sequence numbers.
    pub fn recent_at_gap(&self, reports: &Loans<Report>) -> Option<u32> {
        let gap = reports.get(self.report)?.gap?;
        (self.nxt.since(gap.nxt) < MEANINGFUL).then_some(gap.recent)
    }

    /// Drops the blocks that RCV.NXT has passed, all of them when nothing waits.
    pub(super) fn forget_blocks(&mut self, reports: &mut Loans<Report>) {
        let Some(report) = reports.get_mut(self.report) else { return };
        let (nxt, waiting) = (self.nxt, !self.ooo.is_empty());
        report.keep(|block| waiting && block.start.after(nxt));
        report.gap = report.gap.filter(|_| waiting);
        self.give_report_back(reports);
    }

    /// The duplicate, to be reported now.
    pub fn take_duplicate(&mut self, reports: &mut Loans<Report>) -> Option<SackBlock> {
        reports.get_mut(self.report)?.duplicate.take()
    }

    /// The report goes when it is empty.
    pub fn give_report_back(&mut self, reports: &mut Loans<Report>) {
        let empty = |report: &Report| report.count == 0 && report.duplicate.is_none();
        if reports.get(self.report).is_some_and(empty) {
            reports.give_back(&mut self.report);
        }
    }
}
