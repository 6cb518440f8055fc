//! What a program and the kernel hold in memory, before and after.

use std::fs::{read_dir, read_to_string};

/// Octets.
#[derive(Debug, Clone, Copy, Default)]
pub struct Memory {
    /// Resident in the program's shared anonymous mapping, onwire's region, whichever of its
    /// processes touched it. (The driver's memory is a file: of its packet buffers one after the other
    /// is touched, however few connections.)
    pub region: i64,
    /// The kernel's slabs for each end: half of what it has, since both ends are here.
    pub slab: i64,
}

impl Memory {
    /// Of the process `pid`, now.
    pub fn look(pid: u32) -> Self {
        let meminfo = read_to_string("/proc/meminfo").unwrap_or_default();
        let slab = meminfo.lines().find_map(|line| line.strip_prefix("Slab:")).map_or(0, kilobytes);
        Memory { region: region_of(pid), slab: slab / 2 }
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

/// Resident octets of the regions of `pid`, those of its relatives and its keeper included.
fn region_of(pid: u32) -> i64 {
    let read = |pid: &str, file| read_to_string(format!("/proc/{pid}/{file}")).unwrap_or_default();
    let own = read(&pid.to_string(), "maps");
    let inodes: Vec<&str> = own.lines().filter_map(shared_anonymous).collect();
    let mut total = 0;
    for entry in read_dir("/proc").into_iter().flatten().flatten() {
        let name = entry.file_name();
        let Some(pid) = name.to_str().filter(|name| name.bytes().all(|c| c.is_ascii_digit()))
        else {
            continue;
        };
        let has =
            |maps: &str| maps.lines().filter_map(shared_anonymous).any(|i| inodes.contains(&i));
        if has(&read(pid, "maps")) {
            total += region(&read(pid, "smaps"), &inodes);
        }
    }
    total
}

/// The inode of a mapping that is shared, writable and no file's: its heading is
/// `7f…-7f… rw-s 00000000 00:01 123 /dev/zero (deleted)`.
fn shared_anonymous(heading: &str) -> Option<&str> {
    let mut words = heading.split_whitespace();
    let access = words.nth(1)?;
    let (_, _, inode, file) = (words.next()?, words.next()?, words.next()?, words.next()?);
    let shared = access.len() == 4 && access.starts_with("rw") && access.ends_with('s');
    (shared && file == "/dev/zero").then_some(inode)
}

/// A process's share (`Pss:`) of the mappings with these inodes.
fn region(smaps: &str, inodes: &[&str]) -> i64 {
    let mut total = 0;
    let mut ours = false;
    for line in smaps.lines() {
        let is_heading = line.split_whitespace().next().is_some_and(|word| word.contains('-'));
        if is_heading {
            ours = shared_anonymous(line).is_some_and(|inode| inodes.contains(&inode));
        } else if let (true, Some(rest)) = (ours, line.strip_prefix("Pss:")) {
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
                     Rss: 8 kB\nPss:  4 kB\n7f05-7f06 rw-s 00000000 00:01 1 /memfd:nohuge (deleted)\n\
                     Pss:  4 kB\n7f02-7f03 rw-p 00000000 00:00 0\nPss:  100 kB\n\
                     7f06-7f07 rw-s 00000000 00:01 2 /dev/zero (deleted)\nPss:  9 kB\n\
                     7f04-7f05 r--s 00000000 00:01 1 /x\nPss:  7 kB\n";
        assert_eq!(region(smaps, &["1"]), 4096);
    }
}
