//! What a program and the kernel hold in memory, before and after.

use std::fs::read_to_string;

/// Octets.
#[derive(Debug, Clone, Copy, Default)]
pub struct Memory {
    /// Resident in the program's shared anonymous mapping: onwire's region. (The driver's memory is
    /// a file: of its packet buffers one after the other is touched, however few connections.)
    pub region: i64,
    /// The kernel's slabs for each end: half of what it has, since both ends are here.
    pub slab: i64,
}

impl Memory {
    /// Of the process `pid`, now.
    pub fn look(pid: u32) -> Self {
        let smaps = read_to_string(format!("/proc/{pid}/smaps")).unwrap_or_default();
        let meminfo = read_to_string("/proc/meminfo").unwrap_or_default();
        let slab = meminfo.lines().find_map(|line| line.strip_prefix("Slab:")).map_or(0, kilobytes);
        Memory { region: region(&smaps), slab: slab / 2 }
    }

    /// What came since.
    pub fn since(&self, before: &Memory) -> Memory {
        Memory { region: self.region - before.region, slab: self.slab - before.slab }
    }
}

/// Octets of `  123 kB`.
fn kilobytes(text: &str) -> i64 {
    text.split_whitespace().next().and_then(|word| word.parse::<i64>().ok()).unwrap_or(0) * 1024
}

/// Resident octets of mappings that are shared, writable and no file's: a heading is
/// `7f…-7f… rw-s 00000000 00:01 123 /dev/zero (deleted)`, `Rss:` is among the lines under it.
fn region(smaps: &str) -> i64 {
    let mut total = 0;
    let mut ours = false;
    for line in smaps.lines() {
        let mut words = line.split_whitespace();
        let (first, second) = (words.next().unwrap_or(""), words.next().unwrap_or(""));
        if first.contains('-') && second.len() == 4 {
            let shared = second.starts_with("rw") && second.ends_with('s');
            ours = shared && words.nth(3) == Some("/dev/zero");
        } else if let (true, Some(rest)) = (ours, line.strip_prefix("Rss:")) {
            total += kilobytes(rest);
        }
    }
    total
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_shared_anonymous_mapping_is_the_region() {
        let smaps = "7f00-7f01 rw-s 00000000 00:01 1 /dev/zero (deleted)\nSize: 8 kB\n\
                     Rss:  4 kB\n7f05-7f06 rw-s 00000000 00:01 1 /memfd:nohuge (deleted)\n\
                     Rss:  4 kB\n7f02-7f03 rw-p 00000000 00:00 0\nRss:  100 kB\n\
                     7f04-7f05 r--s 00000000 00:01 1 /x\nRss:  7 kB\n";
        assert_eq!(region(smaps), 4096);
    }
}
