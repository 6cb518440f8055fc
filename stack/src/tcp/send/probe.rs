//! Joins the first unsent segments to a larger one: a probe of the path's MTU (RFC 4821 §7.4).

use super::Sender;
use crate::packet::{Allocator, Buffer};
use crate::tcp::queue::{Chunk, Marks, Pool};

impl Sender {
    /// Makes the first `len` unsent octets one segment; its place. `None`, and nothing has
    /// changed, if the program wants them apart or there is no buffer for as much.
    pub fn join_unsent<A: Allocator>(
        &mut self,
        pool: &mut Pool<A::Buffer>,
        allocator: &mut A,
        len: u32,
    ) -> Option<u32> {
        if !self.may_join(pool, len) {
            return None;
        }
        let (seq, before) = pool.at(self.unsent).map(|first| (first.seq, first.prev))?;
        let mut whole = allocator.allocate().filter(|whole| whole.tailroom() >= len as usize)?;
        let mut left = len;
        let mut marks = Marks::empty();
        while left > 0 {
            let chunk = pool.at_mut(self.unsent)?;
            let n = left.min(chunk.len);
            let octets = chunk.sent().get(..n as usize)?;
            whole.append(octets.len()).copy_from_slice(octets);
            let charged = chunk.truesize();
            left -= n;
            let rest = if n < chunk.len {
                chunk.len -= n;
                chunk.seq += n;
                chunk.truesize()
            } else {
                marks = chunk.marks & Marks::PUSH;
                let (index, next) = (self.unsent, chunk.next);
                self.queue.remove(pool, index);
                self.unsent = next;
                0
            };
            self.charged = (self.charged + rest).saturating_sub(charged);
        }
        let chunk = Chunk::new(Some(whole), seq, len, marks);
        self.charged += chunk.truesize();
        // One at least has left the table, so there is room.
        let index = self.queue.insert_after(pool, before, chunk).ok()?;
        self.unsent = index;
        Some(index)
    }

    /// Whether the first `len` unsent octets are more than one segment, and may be one.
    fn may_join<B: Buffer>(&self, pool: &Pool<B>, len: u32) -> bool {
        let (mut found, mut at) = (0, self.unsent);
        while found < len {
            let Some(chunk) = pool.at(at) else { return false };
            if chunk.len >= len || chunk.marks.intersects(Marks::FIN | Marks::SEALED) {
                return false;
            }
            found += chunk.len;
            at = chunk.next;
        }
        true
    }
}
