//! Mounted filesystems, and whether they enforce project quota.

use std::collections::BTreeMap;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use procfs::process::MountInfo;

use nix::errno::Errno;

use crate::error::{Error, Result};
use crate::{DeviceNumber, Root};

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

impl Mount {
    /// The device's numbers; major 0 where the filesystem is on no device of its own
    /// (overlay, btrfs, tmpfs, network).
    ///
    /// # Errors
    /// When the kernel's text is no device number.
    pub fn number(&self) -> Result<DeviceNumber> {
        let parsed = self.device.parse();
        parsed.map_err(|e: crate::names::Invalid| {
            Error::malformed("read the device of mount", self.point.display(), e.0)
        })
    }
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

/// The mount through which `path` is reached, also a bind mount. Symbolic links are
/// followed.
///
/// # Errors
/// When `path` does not exist, or is on none of the mounts this process sees.
pub fn of_path(root: &Root, path: &Path) -> Result<Mount> {
    let (path, device) = resolve(path)?;
    let all = mountinfo(root)?;
    let found = above(&all, &path, device).map(Mount::of);
    found.ok_or_else(|| {
        let reason = format!(
            "no mount of device {device} is above it in {}",
            root.proc.join("self/mountinfo").display()
        );
        Error::errno("find the mount of", path.display(), Errno::ENOENT).because(Some(reason))
    })
}

/// The mounts of a device that this process sees, in the order they were made.
///
/// # Errors
/// When `proc/self/mountinfo` cannot be read.
pub fn by_device(root: &Root, device: DeviceNumber) -> Result<Vec<Mount>> {
    let name = device.to_string();
    let all = mountinfo(root)?.into_iter();
    Ok(all
        .filter(|m| m.majmin == name)
        .map(|m| Mount::of(&m))
        .collect())
}

/// The path without symbolic links, and the device its inode says it is on.
pub(crate) fn resolve(path: &Path) -> Result<(PathBuf, DeviceNumber)> {
    let failed = |e: std::io::Error| Error::io("find the mount of", path.display(), &e);
    let real = std::fs::canonicalize(path).map_err(failed)?;
    let device = std::fs::symlink_metadata(&real).map_err(failed)?.dev();
    Ok((real, DeviceNumber::of(device)))
}

/// The lowest mount above `path` that is of `device`. Without one the lowest above it
/// counts if both are anonymous: a subvolume of btrfs and a file of an overlay have
/// other numbers than their mount.
fn above<'a>(all: &'a [MountInfo], path: &Path, device: DeviceNumber) -> Option<&'a MountInfo> {
    let name = device.to_string();
    let holds = |m: &&MountInfo| path.starts_with(unescape(&m.mount_point));
    let depth = |m: &&MountInfo| unescape(&m.mount_point).components().count();
    // Of several at one place the last covers the others, and is what `max` takes.
    let exact = all.iter().filter(holds).filter(|m| m.majmin == name);
    exact.max_by_key(depth).or_else(|| {
        let lowest = all.iter().filter(holds).max_by_key(depth)?;
        let both = device.major == 0 && lowest.majmin.starts_with("0:");
        both.then_some(lowest)
    })
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

    fn found(path: &str, device: &str) -> Option<String> {
        let all: Vec<_> = MOUNTINFO
            .lines()
            .map(|line| MountInfo::from_line(line).unwrap())
            .collect();
        let mount = above(&all, Path::new(path), device.parse().unwrap())?;
        Some(Mount::of(mount).point.to_str().unwrap().to_owned())
    }

    #[test]
    fn a_path_is_on_the_lowest_mount_of_its_device() {
        for (path, device, point) in [
            ("/data one/x/y", "253:16", Some("/data one")),
            ("/data one", "253:16", Some("/data one")),
            // Through a bind mount of the same filesystem.
            ("/srv/bind/save", "253:16", Some("/srv/bind")),
            // A longer name is another directory.
            ("/data onetwo", "254:1", Some("/")),
            // A file of / under a mount point it is hidden by: told by its device.
            ("/logs/x", "254:1", Some("/")),
            // A subvolume has a number of its own.
            ("/tree/sub/x", "0:55", Some("/tree")),
            ("/logs/x", "0:55", None),
            ("/logs/x", "8:1", None),
        ] {
            assert_eq!(found(path, device).as_deref(), point, "{path} {device}");
        }
    }

    #[test]
    fn of_mounts_at_one_place_the_last_counts() {
        let dir = tempfile::tempdir().unwrap();
        let real = std::fs::canonicalize(dir.path()).unwrap();
        let (_, device) = resolve(&real).unwrap();
        let root = Root::under(&real);
        std::fs::create_dir_all(root.proc.join("self")).unwrap();
        let at = real.display();
        let text = format!(
            "30 27 {device} / {at} rw - xfs /dev/vdb rw,noquota\n\
             31 27 {device} / {at} rw - xfs /dev/vdb rw,prjquota\n"
        );
        std::fs::write(root.proc.join("self/mountinfo"), text).unwrap();
        std::os::unix::fs::symlink(real.join("proc"), real.join("link")).unwrap();
        let mount = of_path(&root, &real.join("link/self")).unwrap();
        assert_eq!(mount.project_quota, ProjectQuota::Enforced);
        assert_eq!(mount.number(), Ok(device));
        assert_eq!(by_device(&root, device).unwrap().len(), 2);
        let gone = of_path(&root, &real.join("gone")).unwrap_err();
        assert_eq!(gone.kind(), Kind::NotFound);
        let elsewhere = of_path(&root, Path::new("/proc/self")).unwrap_err();
        assert!(
            elsewhere.to_string().contains("no mount of device"),
            "{elsewhere}"
        );
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
