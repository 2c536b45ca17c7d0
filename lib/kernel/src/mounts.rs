//! Mounted filesystems, and whether they enforce project quota.

use std::collections::BTreeMap;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

use procfs::process::MountInfo;

use crate::Root;
use crate::error::{Error, Result};

/// A mounted filesystem.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mount {
    /// Where it is mounted.
    pub point: PathBuf,
    /// What is mounted, `/dev/vda1`, if it is called anything.
    pub source: Option<String>,
    /// The filesystem's type, `xfs`.
    pub fs_type: String,
    /// The device's numbers, `254:1`.
    pub device: String,
    /// Whether the mount cannot be written through.
    pub read_only: bool,
    /// Whether project quota is enforced.
    pub project_quota: ProjectQuota,
}

/// What a filesystem does with project quota.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ProjectQuota {
    /// Counts and enforces.
    Enforced,
    /// Counts and lets everybody exceed (xfs `pqnoenforce`).
    CountedOnly,
    /// xfs, mounted without it.
    OffXfs,
    /// ext4, mounted without it.
    OffExt4,
    /// Another filesystem: none that Berth can use.
    Unsupported,
}

impl ProjectQuota {
    /// Why limits are not enforced, and what to do; `None` where they are.
    pub fn why_not(self) -> Option<(&'static str, &'static str)> {
        match self {
            Self::Enforced => None,
            Self::CountedOnly => Some((
                "mounted with pqnoenforce: usage is counted and no limit holds",
                "unmount it and mount it with prjquota",
            )),
            Self::OffXfs => Some((
                "mounted without prjquota",
                "unmount it and mount it with prjquota, as xfs ignores that option in a remount; \
                 the root filesystem needs rootflags=prjquota at boot",
            )),
            Self::OffExt4 => Some((
                "mounted without prjquota",
                "unmount it, run tune2fs -O project,quota on its device and mount it with prjquota",
            )),
            Self::Unsupported => Some((
                "this filesystem has no project quota that can be used",
                "put the data on xfs or ext4",
            )),
        }
    }
}

/// The filesystems on block devices that this process sees, one mount of each (that
/// of its root, if there is one), sorted by mount point: `proc/self/mountinfo`.
///
/// # Errors
/// When the file cannot be read.
pub fn on_disk(root: &Root) -> Result<Vec<Mount>> {
    let all = mountinfo(root)?;
    let on_device = |m: &&MountInfo| {
        m.mount_source
            .as_ref()
            .is_some_and(|s| s.starts_with("/dev/"))
    };
    let mut by_device: BTreeMap<&str, &MountInfo> = BTreeMap::new();
    for mount in all.iter().filter(on_device) {
        let first = by_device.entry(&mount.majmin).or_insert(mount);
        if first.root != "/" && mount.root == "/" {
            *first = mount;
        }
    }
    let mut mounts: Vec<Mount> = by_device.into_values().map(Mount::of).collect();
    mounts.sort_by(|a, b| a.point.cmp(&b.point));
    Ok(mounts)
}

/// Where files of namespaces are mounted, of whatever type: `proc/self/mountinfo`.
pub(crate) fn namespaces(root: &Root) -> Result<Vec<PathBuf>> {
    let all = mountinfo(root)?.into_iter();
    let kept = all.filter(|mount| mount.fs_type == "nsfs");
    Ok(kept.map(|mount| unescape(&mount.mount_point)).collect())
}

/// Every mount this process sees.
fn mountinfo(root: &Root) -> Result<Vec<MountInfo>> {
    let path = root.proc.join("self/mountinfo");
    let text = std::fs::read(&path).map_err(|e| Error::io("read", path.display(), &e))?;
    // One mount point with odd bytes must not hide all others.
    String::from_utf8_lossy(&text)
        .lines()
        .map(MountInfo::from_line)
        .collect::<std::result::Result<Vec<_>, _>>()
        .map_err(|e| Error::malformed("read", path.display(), e.to_string()))
}

impl Mount {
    fn of(info: &MountInfo) -> Self {
        let option = |name: &str| info.super_options.contains_key(name);
        let project_quota = match info.fs_type.as_str() {
            "xfs" | "ext4" if option("prjquota") || option("pquota") => ProjectQuota::Enforced,
            "xfs" if option("pqnoenforce") => ProjectQuota::CountedOnly,
            "xfs" => ProjectQuota::OffXfs,
            "ext4" => ProjectQuota::OffExt4,
            _ => ProjectQuota::Unsupported,
        };
        Self {
            point: unescape(&info.mount_point),
            source: info.mount_source.clone(),
            fs_type: info.fs_type.clone(),
            device: info.majmin.clone(),
            read_only: info.mount_options.contains_key("ro") || option("ro"),
            project_quota,
        }
    }
}

/// The kernel writes space, tab, newline, `#` and backslash as three octal digits
/// after a backslash (`mangle` in fs/proc_namespace.c).
fn unescape(path: &Path) -> PathBuf {
    let mut bytes = Vec::new();
    let mut rest = path.as_os_str().as_bytes();
    while let [first, tail @ ..] = rest {
        let digits = tail.get(..3).and_then(|d| str::from_utf8(d).ok());
        let code = digits.and_then(|d| u8::from_str_radix(d, 8).ok());
        match code {
            Some(code) if *first == b'\\' => {
                bytes.push(code);
                rest = &tail[3..];
            }
            _ => {
                bytes.push(*first);
                rest = tail;
            }
        }
    }
    PathBuf::from(std::ffi::OsString::from_vec(bytes))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Kind;

    /// Linux 6.12, `cat /proc/self/mountinfo`, shortened; the ext4 and btrfs lines
    /// with other options.
    const MOUNTINFO: &str = "\
22 27 0:21 / /proc rw,relatime shared:5 - proc proc rw
30 27 253:16 /games /srv/bind rw - xfs /dev/vdb rw,attr2,inode64,prjquota
31 27 253:16 / /data\\040one rw,relatime shared:9 - xfs /dev/vdb rw,attr2,inode64,prjquota
32 27 253:32 / /logs rw,relatime - xfs /dev/vdc rw,attr2,noquota
33 27 253:48 / /count rw - xfs /dev/vdd rw,pqnoenforce
34 27 254:1 / / rw,relatime master:1 - ext4 /dev/vda1 rw,errors=remount-ro
35 27 254:2 / /four ro - ext4 /dev/vda2 ro,prjquota
36 27 0:40 / /tree rw - btrfs /dev/vde rw,space_cache=v2,subvolid=5,subvol=/
37 27 0:41 / /run rw - tmpfs tmpfs rw,size=400k
38 27 0:42 / /merged rw - overlay overlay rw,lowerdir=/a,upperdir=/b
";

    fn read(text: &str) -> Result<Vec<Mount>> {
        let dir = tempfile::tempdir().unwrap();
        let root = Root::under(dir.path());
        std::fs::create_dir_all(root.proc.join("self")).unwrap();
        std::fs::write(root.proc.join("self/mountinfo"), text).unwrap();
        on_disk(&root)
    }

    #[test]
    fn each_filesystem_on_a_disk_is_listed_once_with_its_quota() {
        let mounts = read(MOUNTINFO).unwrap();
        let listed: Vec<_> = mounts
            .iter()
            .map(|m| (m.point.to_str().unwrap(), m.project_quota, m.read_only))
            .collect();
        assert_eq!(
            listed,
            [
                ("/", ProjectQuota::OffExt4, false),
                ("/count", ProjectQuota::CountedOnly, false),
                ("/data one", ProjectQuota::Enforced, false),
                ("/four", ProjectQuota::Enforced, true),
                ("/logs", ProjectQuota::OffXfs, false),
                ("/tree", ProjectQuota::Unsupported, false),
            ]
        );
        assert_eq!(mounts[2].source.as_deref(), Some("/dev/vdb"));
        assert_eq!(mounts[2].device, "253:16");
    }

    #[test]
    fn all_but_enforced_have_a_reason_and_a_remedy() {
        for mount in read(MOUNTINFO).unwrap() {
            let enforced = mount.project_quota == ProjectQuota::Enforced;
            assert_eq!(mount.project_quota.why_not().is_none(), enforced);
        }
    }

    #[test]
    fn mounted_namespaces_are_found_where_they_are() {
        let dir = tempfile::tempdir().unwrap();
        let root = Root::under(dir.path());
        std::fs::create_dir_all(root.proc.join("self")).unwrap();
        let text = "\
40 27 0:4 net:[4026532189] /run/netns/a\\040b rw shared:3 - nsfs nsfs rw
41 27 0:42 / /run rw - tmpfs tmpfs rw
";
        std::fs::write(root.proc.join("self/mountinfo"), text).unwrap();
        let found = namespaces(&root).unwrap();
        assert_eq!(found, [Path::new("/run/netns/a b")]);
    }

    #[test]
    fn escapes_are_undone() {
        for (escaped, path) in [
            ("/a\\040b\\011c", "/a b\tc"),
            ("/a\\134040", "/a\\040"),
            ("/a\\", "/a\\"),
            ("/a\\9zz", "/a\\9zz"),
            ("/plain012", "/plain012"),
            ("/\\303\\251", "/é"),
        ] {
            assert_eq!(unescape(Path::new(escaped)), Path::new(path), "{escaped}");
        }
    }

    #[test]
    fn a_file_that_is_no_mountinfo_is_refused() {
        assert_eq!(read("nonsense\n").unwrap_err().kind(), Kind::Malformed);
    }
}
