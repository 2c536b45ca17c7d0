//! The structures of quotactl(2) as bytes: `fs_disk_quota` and `fs_quota_statv`
//! (include/uapi/linux/dqblk_xfs.h).

use super::{ProjectId, Quota};
use crate::cgroup::Limit;

/// Bytes of `struct fs_disk_quota`.
pub(super) const QUOTA_BYTES: usize = 112;
/// Bytes of `struct fs_quota_statv`.
pub(super) const STATE_BYTES: usize = 160;
/// The unit of blocks in these structures (`BBSIZE`).
pub(super) const BLOCK: u64 = 512;

/// `FS_DQUOT_VERSION` and `FS_QSTATV_VERSION1`.
const VERSION: u8 = 1;
/// `FS_PROJ_QUOTA`.
const PROJECT: u8 = 2;
/// `FS_DQ_ISOFT | FS_DQ_IHARD | FS_DQ_BSOFT | FS_DQ_BHARD`.
const ALL_LIMITS: u16 = 0b1111;
/// `FS_QUOTA_PDQ_ACCT | FS_QUOTA_PDQ_ENFD`.
const COUNTED_AND_ENFORCED: u16 = 0b11_0000;

// Where the members are.
const FIELDS: usize = 2;
const ID: usize = 4;
const BLOCKS_HARD: usize = 8;
const INODES_HARD: usize = 24;
const BLOCKS_USED: usize = 40;
const INODES_USED: usize = 48;
const STATE_FLAGS: usize = 2;

/// A request to set the hard limits of `id`, and no soft ones. `bytes` is rounded up.
pub(super) fn encode(id: ProjectId, bytes: Limit, inodes: Limit) -> [u8; QUOTA_BYTES] {
    let number = |limit| match limit {
        Limit::At(number) => number,
        Limit::Max => 0,
    };
    let mut all = [0; QUOTA_BYTES];
    all[0] = VERSION;
    all[1] = PROJECT;
    put(&mut all, FIELDS, &ALL_LIMITS.to_ne_bytes());
    put(&mut all, ID, &id.0.to_ne_bytes());
    let blocks = number(bytes).div_ceil(BLOCK);
    put(&mut all, BLOCKS_HARD, &blocks.to_ne_bytes());
    put(&mut all, INODES_HARD, &number(inodes).to_ne_bytes());
    all
}

/// What the kernel says of a project; a reason where that cannot be.
pub(super) fn decode(all: &[u8; QUOTA_BYTES]) -> Result<(ProjectId, Quota), String> {
    if (all[0], all[1]) != (VERSION, PROJECT) {
        let got = format!("version {}, kind {}", all[0], all[1]);
        return Err(format!("not a project's quota in version 1 ({got})"));
    }
    let limit = |number| match number {
        0 => Limit::Max,
        number => Limit::At(number),
    };
    let bytes = |at| {
        let blocks = u64::from_ne_bytes(get(all, at));
        let many = || format!("{blocks} blocks are more bytes than can be counted");
        blocks.checked_mul(BLOCK).ok_or_else(many)
    };
    let quota = Quota {
        bytes: limit(bytes(BLOCKS_HARD)?),
        inodes: limit(u64::from_ne_bytes(get(all, INODES_HARD))),
        used_bytes: bytes(BLOCKS_USED)?,
        used_inodes: u64::from_ne_bytes(get(all, INODES_USED)),
    };
    Ok((ProjectId(u32::from_ne_bytes(get(all, ID))), quota))
}

/// The structure in which the kernel is to answer what it enforces.
pub(super) fn state_request() -> [u8; STATE_BYTES] {
    let mut all = [0; STATE_BYTES];
    all[0] = VERSION;
    all
}

/// Whether projects are counted and held to their limits.
pub(super) fn enforces(state: &[u8; STATE_BYTES]) -> bool {
    let flags = u16::from_ne_bytes(get(state, STATE_FLAGS));
    flags & COUNTED_AND_ENFORCED == COUNTED_AND_ENFORCED
}

fn put(all: &mut [u8], at: usize, bytes: &[u8]) {
    all[at..at + bytes.len()].copy_from_slice(bytes);
}

fn get<const N: usize>(all: &[u8], at: usize) -> [u8; N] {
    std::array::from_fn(|i| all[at + i])
}
