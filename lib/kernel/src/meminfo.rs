//! Memory and huge pages of each NUMA node (`devices/system/node/nodeN/meminfo`,
//! Documentation/ABI/stable/sysfs-devices-node; Documentation/admin-guide/mm/hugetlbpage.rst).

use std::path::{Path, PathBuf};

use crate::error::{AbsentIsFine, Error, Result};
use crate::{Root, cpu, file};

/// What huge pages of one size a node has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HugePages {
    /// Bytes of one page.
    pub page_bytes: u64,
    /// Pages in the pool: `nr_hugepages`.
    pub total: u64,
    /// Pages of it that nobody has: `free_hugepages`.
    pub free: u64,
}

impl HugePages {
    /// Bytes the pool takes away from ordinary memory.
    pub fn bytes(&self) -> u64 {
        self.page_bytes.saturating_mul(self.total)
    }
}

/// The memory of one NUMA node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NodeMemory {
    /// The node.
    pub node: u32,
    /// Bytes the kernel manages there, huge pages included: `MemTotal`.
    pub total_bytes: u64,
    /// Bytes nothing is kept in: `MemFree`. Page cache, which the kernel gives up when
    /// asked, is not among them.
    pub free_bytes: u64,
    /// Its huge pages, the smallest size first; empty on a kernel without them.
    pub huge_pages: Vec<HugePages>,
}

/// The memory of every NUMA node that is online, by node; all of it at node 0 on a
/// kernel without NUMA.
///
/// # Errors
/// When a file cannot be read or holds what it should not.
pub fn nodes(root: &Root) -> Result<Vec<NodeMemory>> {
    let nodes = root.sys.join("devices/system/node");
    let has_nodes = nodes.exists();
    let mut found = Vec::new();
    for node in cpu::nodes(root)? {
        let dir = nodes.join(format!("node{node}"));
        let (meminfo, pools) = if has_nodes {
            (dir.join("meminfo"), dir.join("hugepages"))
        } else {
            let pools = root.sys.join("kernel/mm/hugepages");
            (root.proc.join("meminfo"), pools)
        };
        found.push(NodeMemory {
            node,
            total_bytes: bytes_of(&meminfo, "MemTotal:")?,
            free_bytes: bytes_of(&meminfo, "MemFree:")?,
            huge_pages: huge_pages(&pools)?,
        });
    }
    Ok(found)
}

/// One value of a meminfo file in bytes. A node's lines begin with `Node 0`, those of
/// the whole machine with the name; both count in units of 1024 bytes.
/// Bytes of swap that nobody uses: `SwapFree` of `proc/meminfo`.
///
/// # Errors
/// When the file cannot be read or has no such line.
pub fn swap_free(root: &Root) -> Result<u64> {
    bytes_of(&root.proc.join("meminfo"), "SwapFree:")
}

fn bytes_of(path: &Path, name: &str) -> Result<u64> {
    let text = file::read(path)?;
    let malformed = |reason: String| Error::malformed("read", path.display(), reason);
    let mut words = text
        .lines()
        .map(|line| line.split_whitespace().skip_while(|word| *word != name))
        .find_map(|mut words| words.next().map(|_name| words))
        .ok_or_else(|| malformed(format!("it has no {name}")))?;
    let kib: Option<u64> = words.next().and_then(|word| word.parse().ok());
    kib.and_then(|kib| kib.checked_mul(1024))
        .ok_or_else(|| malformed(format!("no number of kB after {name}")))
}

fn huge_pages(dir: &Path) -> Result<Vec<HugePages>> {
    let mut pools = Vec::new();
    for name in file::names(dir).absent_is_fine()?.unwrap_or_default() {
        let size = name
            .strip_prefix("hugepages-")
            .and_then(|size| size.strip_suffix("kB"))
            .and_then(|size| size.parse::<u64>().ok())
            .and_then(|kib| kib.checked_mul(1024));
        let Some(page_bytes) = size else { continue };
        let pool: PathBuf = dir.join(&name);
        pools.push(HugePages {
            page_bytes,
            total: file::parse(&pool.join("nr_hugepages"))?,
            free: file::parse(&pool.join("free_hugepages"))?,
        });
    }
    pools.sort_by_key(|pool| pool.page_bytes);
    Ok(pools)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Kind;

    /// Linux 6.12, `cat /sys/devices/system/node/node1/meminfo`, shortened.
    const NODE: &str = "
Node 1 MemTotal:        2031616 kB
Node 1 MemFree:          806400 kB
Node 1 MemUsed:         1225216 kB
Node 1 HugePages_Total:     8
";

    fn put(path: &Path, text: &str) {
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    }

    fn fake() -> (tempfile::TempDir, Root) {
        let dir = tempfile::tempdir().unwrap();
        let root = Root::under(dir.path());
        (dir, root)
    }

    #[test]
    fn each_node_has_its_memory_and_its_pools() {
        let (_dir, root) = fake();
        let nodes_dir = root.sys.join("devices/system/node");
        put(&nodes_dir.join("online"), "0-1\n");
        put(
            &nodes_dir.join("node0/meminfo"),
            &NODE.replace("Node 1", "Node 0"),
        );
        put(&nodes_dir.join("node1/meminfo"), NODE);
        for (pool, total, free) in [
            ("hugepages-1048576kB", "1", "0"),
            ("hugepages-2048kB", "8", "3"),
        ] {
            let pool = nodes_dir.join("node1/hugepages").join(pool);
            put(&pool.join("nr_hugepages"), total);
            put(&pool.join("free_hugepages"), free);
        }
        let found = nodes(&root).unwrap();
        assert_eq!(found.len(), 2);
        assert!(found[0].huge_pages.is_empty());
        assert_eq!(found[1].node, 1);
        assert_eq!(found[1].total_bytes, 2_031_616 * 1024);
        assert_eq!(found[1].free_bytes, 806_400 * 1024);
        let pools: Vec<_> = found[1]
            .huge_pages
            .iter()
            .map(|p| (p.page_bytes, p.total, p.free, p.bytes()))
            .collect();
        let (two, one) = (2 << 20, 1 << 30);
        assert_eq!(pools, [(two, 8, 3, 8 * two), (one, 1, 0, one)]);
    }

    #[test]
    fn without_numa_the_machine_is_node_0() {
        let (_dir, root) = fake();
        put(
            &root.proc.join("meminfo"),
            "MemTotal:  4096 kB\nMemFree:  1024 kB\n",
        );
        let found = nodes(&root).unwrap();
        assert_eq!((found[0].node, found[0].total_bytes), (0, 4 << 20));
        assert_eq!(found[0].free_bytes, 1 << 20);
    }

    #[test]
    fn a_file_without_the_number_is_refused() {
        for text in ["MemFree: 1 kB\n", "MemTotal: many kB\nMemFree: 1 kB\n"] {
            let (_dir, root) = fake();
            put(&root.proc.join("meminfo"), text);
            assert_eq!(nodes(&root).unwrap_err().kind(), Kind::Malformed, "{text}");
        }
    }
}
