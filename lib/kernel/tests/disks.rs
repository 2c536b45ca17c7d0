//! Disks and project quota on the running kernel. Needs xfs at `/data/xfs` and ext4 at
//! `/data/ext4`, both with project quota. Without them each test is named as ignored, with
//! the reason, except in the lab guest (`BERTH_LAB=1`), which promises both; with them and
//! without root they fail.

#![expect(
    clippy::unwrap_used,
    reason = "the helpers of tests fail by panicking too"
)]

use std::fs;
use std::io::Write;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use berth_kernel::block::{self, Device};
use berth_kernel::mounts::{self, ProjectQuota};
use berth_kernel::quota::{self, ProjectId, ProjectTag};
use berth_kernel::{Kind, Limit, Root};
use libtest_mimic::{Arguments, Trial};

const MIB: u64 = 1 << 20;
const MOUNTS: [&str; 2] = ["/data/xfs", "/data/ext4"];
/// No user namespace and no tool of the guest takes from here on.
const FIRST: u32 = 0x4d00_0000;

const TESTS: [(&str, fn()); 12] = [
    (
        "a_limit_holds_is_raised_and_lowered",
        a_limit_holds_is_raised_and_lowered,
    ),
    ("root_is_held_by_xfs_alone", root_is_held_by_xfs_alone),
    (
        "a_limit_of_inodes_holds_and_what_is_used_is_counted",
        a_limit_of_inodes_holds_and_what_is_used_is_counted,
    ),
    (
        "a_full_tree_is_tagged_whatever_is_in_it",
        a_full_tree_is_tagged_whatever_is_in_it,
    ),
    (
        "what_cannot_be_tagged_is_named_with_the_next_step",
        what_cannot_be_tagged_is_named_with_the_next_step,
    ),
    (
        "an_interrupted_tagging_is_completed_and_taken_back",
        an_interrupted_tagging_is_completed_and_taken_back,
    ),
    (
        "what_left_its_project_is_found_and_brought_back",
        what_left_its_project_is_found_and_brought_back,
    ),
    ("projects_are_listed_in_order", projects_are_listed_in_order),
    (
        "a_mount_without_quota_is_told_with_the_remedy",
        a_mount_without_quota_is_told_with_the_remedy,
    ),
    (
        "a_path_leads_to_its_disk_also_through_a_bind_mount",
        a_path_leads_to_its_disk_also_through_a_bind_mount,
    ),
    (
        "partitions_and_mappers_lead_to_the_devices_that_take_limits",
        partitions_and_mappers_lead_to_the_devices_that_take_limits,
    ),
    (
        "writeback_throttling_is_set_and_read_back",
        writeback_throttling_is_set_and_read_back,
    ),
];

fn main() -> ExitCode {
    let arguments = Arguments::from_args();
    let in_lab = std::env::var_os("BERTH_LAB").is_some_and(|value| value == "1");
    let reason = if in_lab { None } else { why_not(&Root::host()) };
    if let (Some(reason), false) = (&reason, arguments.list) {
        return name_all(reason).map_or(ExitCode::FAILURE, |()| ExitCode::SUCCESS);
    }
    let trial = |(name, run): (&str, fn())| {
        let run = move || {
            run();
            Ok(())
        };
        Trial::test(name, run)
            .with_ignored_flag(true)
            .with_kind("kernel: root, quota")
    };
    libtest_mimic::run(&arguments, TESTS.map(trial).into()).exit_code()
}

/// Why the tests cannot run here.
fn why_not(root: &Root) -> Option<String> {
    MOUNTS.into_iter().find_map(|point| {
        let mount = match mounts::of_path(root, Path::new(point)) {
            Ok(mount) => mount,
            Err(error) => return Some(error.to_string()),
        };
        if mount.point != Path::new(point) {
            return Some(format!("no filesystem is mounted at {point}"));
        }
        let (reason, _next) = mount.project_quota.why_not()?;
        Some(format!("no quota at {point}: {reason}"))
    })
}

/// Names every test as ignored, in libtest's words, which scripts/test counts.
fn name_all(reason: &str) -> std::io::Result<()> {
    let mut out = std::io::stdout();
    for (name, _) in TESTS {
        writeln!(out, "test {name} ... ignored, {reason}")?;
    }
    let count = TESTS.len();
    writeln!(
        out,
        "\ntest result: ok. 0 passed; 0 failed; {count} ignored; 0 measured; 0 filtered out"
    )
}

/// A directory on a filesystem with quota, and a project; both gone when dropped.
struct Place {
    mount: &'static str,
    dir: PathBuf,
    id: ProjectId,
}

impl Place {
    fn new(mount: &'static str, number: u32) -> Self {
        assert!(nix::unistd::geteuid().is_root(), "this test needs root");
        let dir = Path::new(mount).join(format!("bk-{number}"));
        fs::create_dir(&dir).unwrap();
        let id = ProjectId(FIRST + number);
        Self { mount, dir, id }
    }

    fn join(&self, name: &str) -> PathBuf {
        self.dir.join(name)
    }

    fn project(&self, name: &str) -> ProjectTag {
        quota::project_of(&self.join(name)).unwrap()
    }

    fn limit(&self, bytes: Limit, inodes: Limit) {
        quota::set_limits(&self.dir, self.id, bytes, inodes).unwrap();
    }

    /// What is used once delayed blocks have their place.
    fn used(&self) -> (u64, u64) {
        sh(&format!("sync -f {}", self.dir.display())).unwrap();
        let quota = quota::limits(&self.dir, self.id).unwrap();
        quota.map_or((0, 0), |q| (q.used_bytes, q.used_inodes))
    }

    /// Writes a file of so many MiB, as a container's root: what stops it.
    fn fill(&self, name: &str, mib: u64) -> Result<(), String> {
        let file = self.join(name);
        sh(&format!(
            "setpriv --bounding-set -sys_resource \
             dd if=/dev/zero of={} bs=1M count={mib} conv=fsync",
            file.display()
        ))
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let cleared = quota::set_limits(Path::new(self.mount), self.id, Limit::Max, Limit::Max);
        let removed = fs::remove_dir_all(&self.dir);
        if let (Err(_), _) | (_, Err(_)) = (&cleared, &removed) {
            eprintln!(
                "{} is left behind: {cleared:?} {removed:?}",
                self.dir.display()
            );
        }
    }
}

/// Something mounted, taken off when dropped.
struct Mounted(PathBuf);

impl Mounted {
    fn new(options: &str, at: &Path) -> Self {
        fs::create_dir_all(at).unwrap();
        sh(&format!("mount {options} {}", at.display())).unwrap();
        Self(at.to_owned())
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        if let Err(error) = sh(&format!("umount {}", self.0.display())) {
            eprintln!("left behind: {error}");
        }
    }
}

fn sh(script: &str) -> Result<(), String> {
    output(script).map(drop)
}

fn output(script: &str) -> Result<String, String> {
    let done = Command::new("sh").args(["-ec", script]).output().unwrap();
    let text = |bytes| String::from_utf8_lossy(bytes).trim().to_owned();
    if done.status.success() {
        return Ok(text(&done.stdout));
    }
    Err(format!("{script}: {}", text(&done.stderr)))
}

/// The error in a project, as the program that writes reads it.
fn full(mount: &str) -> &'static str {
    if mount == "/data/xfs" {
        "No space left on device"
    } else {
        "Disk quota exceeded"
    }
}

fn a_limit_holds_is_raised_and_lowered() {
    for (number, mount) in (1..).zip(MOUNTS) {
        let place = Place::new(mount, number);
        assert_eq!(quota::enforced(&place.dir), Ok(true), "{mount}");
        assert_eq!(quota::limits(&place.dir, place.id), Ok(None), "{mount}");
        quota::tag_tree(&place.dir, place.id).unwrap();
        place.limit(Limit::At(4 * MIB), Limit::Max);
        let stopped = place.fill("f", 8).unwrap_err();
        assert!(stopped.contains(full(mount)), "{mount}: {stopped}");
        let size = fs::metadata(place.join("f")).unwrap().len();
        assert!((3 * MIB..=4 * MIB).contains(&size), "{mount}: {size}");
        place.limit(Limit::At(16 * MIB), Limit::Max);
        place.fill("f", 8).unwrap();
        // Below what is used: nothing is lost, and nothing more fits.
        place.limit(Limit::At(6 * MIB), Limit::Max);
        let stopped = place.fill("g", 1).unwrap_err();
        assert!(stopped.contains(full(mount)), "{mount}: {stopped}");
        assert_eq!(fs::metadata(place.join("f")).unwrap().len(), 8 * MIB);
        place.limit(Limit::Max, Limit::Max);
        place.fill("g", 4).unwrap();
    }
}

/// xfs holds root to it too; ext4 lets CAP_SYS_RESOURCE pass.
fn root_is_held_by_xfs_alone() {
    for (number, mount) in (5..).zip(MOUNTS) {
        let place = Place::new(mount, number);
        quota::tag_tree(&place.dir, place.id).unwrap();
        place.limit(Limit::At(MIB), Limit::Max);
        let script = format!(
            "dd if=/dev/zero of={} bs=1M count=3 conv=fsync",
            place.join("f").display()
        );
        assert_eq!(sh(&script).is_err(), mount == "/data/xfs", "{mount}");
    }
}

fn a_limit_of_inodes_holds_and_what_is_used_is_counted() {
    for (number, mount) in (10..).zip(MOUNTS) {
        let place = Place::new(mount, number);
        quota::tag_tree(&place.dir, place.id).unwrap();
        place.limit(Limit::At(10_000_001), Limit::At(4));
        // The directory itself is one of the four; on ext4 it has a block.
        let (empty, inodes) = place.used();
        assert_eq!(inodes, 1, "{mount}");
        place.fill("f", 2).unwrap();
        let touch = |name: &str| {
            let file = place.join(name);
            sh(&format!(
                "setpriv --bounding-set -sys_resource touch {}",
                file.display()
            ))
        };
        touch("g").unwrap();
        touch("h").unwrap();
        let stopped = touch("i").unwrap_err();
        assert!(stopped.contains(full(mount)), "{mount}: {stopped}");
        assert_eq!(place.used(), (empty + 2 * MIB, 4), "{mount}");
        let stands = quota::limits(&place.dir, place.id).unwrap().unwrap();
        // Whole blocks of 4 KiB.
        let bytes = Limit::At(10_002_432);
        assert_eq!((stands.bytes, stands.inodes), (bytes, Limit::At(4)));
        assert_eq!(quota::rounded(&place.dir, Limit::At(10_000_001)), Ok(bytes));
        fs::remove_file(place.join("f")).unwrap();
        assert_eq!(place.used(), (empty, 3), "{mount}");
    }
}

fn a_full_tree_is_tagged_whatever_is_in_it() {
    for (number, mount) in (20..).zip(MOUNTS) {
        let place = Place::new(mount, number);
        let outside = Place::new(mount, number + 2);
        fs::create_dir_all(place.join("a/b c")).unwrap();
        for (name, mib) in [("f", 1), ("a/g", 1), ("a/b c/h", 1)] {
            fs::write(
                place.join(name),
                vec![1; usize::try_from(mib * MIB).unwrap()],
            )
            .unwrap();
        }
        fs::hard_link(place.join("f"), place.join("a/f2")).unwrap();
        fs::write(outside.join("secret"), "x").unwrap();
        symlink(&outside.dir, place.join("a/link")).unwrap();
        symlink(outside.join("secret"), place.join("secret")).unwrap();
        let special = "mkfifo fifo; mknod null c 1 3; mknod disk b 7 99";
        sh(&format!("cd {}; {special}", place.dir.display())).unwrap();
        // Another mount inside, of the same filesystem: not part of the tree.
        fs::create_dir(outside.join("bound")).unwrap();
        let bind = format!("--bind {}", outside.join("bound").display());
        let bound = Mounted::new(&bind, &place.join("bound"));
        let done = quota::tag_tree(&place.dir, place.id).unwrap();
        // Three directories and three files, one of them under two names.
        assert_eq!((done.changed, done.skipped), (6, 5), "{mount}");
        let tag = |inherit| ProjectTag {
            id: place.id,
            inherit,
        };
        for name in ["", "a", "a/b c"] {
            assert_eq!(place.project(name), tag(true), "{mount} {name}");
        }
        for name in ["f", "a/f2", "a/b c/h"] {
            assert_eq!(place.project(name), tag(false), "{mount} {name}");
        }
        for name in ["secret", "bound"] {
            assert_eq!(outside.project(name).id, ProjectId::NONE, "{mount} {name}");
        }
        assert!(place.used().0 >= 3 * MIB, "{mount}");
        assert_eq!(audit(&place), [] as [PathBuf; 0], "{mount}");
        let again = quota::tag_tree(&place.dir, place.id).unwrap();
        assert_eq!((again.changed, again.skipped), (0, 5), "{mount}");
        drop(bound);
        fs::remove_dir(place.join("bound")).unwrap();
        quota::untag_tree(&place.dir, place.id).unwrap();
        assert_eq!(place.used().0, 0, "{mount}");
    }
}

/// Another process with a lease on a file: to open it means to wait (`F_SETLEASE`,
/// `F_WRLCK`). It ends when dropped.
struct Lease(std::process::Child);

impl Lease {
    fn new(file: &Path) -> Self {
        let script = "$SIG{IO} = 'IGNORE'; $| = 1; open F, '+<', $ARGV[0] or die $!; \
                      fcntl F, 1024, 1 or die $!; print 'held'; sleep 60";
        let mut child = Command::new("perl")
            .args(["-e", script])
            .arg(file)
            .stdout(std::process::Stdio::piped())
            .spawn()
            .unwrap();
        let mut held = [0; 4];
        std::io::Read::read_exact(child.stdout.as_mut().unwrap(), &mut held).unwrap();
        Self(child)
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        let ended = self.0.kill().and_then(|()| self.0.wait());
        if let Err(error) = ended {
            eprintln!("the holder of a lease is left behind: {error}");
        }
    }
}

/// A file that would have to be waited for, and one that ext4 lets nobody change: each
/// is named with what to do, and the tagging can be done after that.
fn what_cannot_be_tagged_is_named_with_the_next_step() {
    for (number, mount) in (70..).zip(MOUNTS) {
        let place = Place::new(mount, number);
        let file = place.join("f");
        fs::write(&file, "x").unwrap();
        let lease = Lease::new(&file);
        let error = quota::tag_tree(&place.dir, place.id).unwrap_err();
        assert_eq!(error.kind(), Kind::TryAgain, "{error}");
        let text = error.to_string();
        let named = format!("{}: EAGAIN", file.display());
        assert!(text.contains(&named) && text.contains("a lease"), "{text}");
        drop(lease);
        sh(&format!("chattr +i {}", file.display())).unwrap();
        let done = quota::tag_tree(&place.dir, place.id);
        sh(&format!("chattr -i {}", file.display())).unwrap();
        if mount == "/data/ext4" {
            let text = done.unwrap_err().to_string();
            assert!(text.contains("chattr -i"), "{text}");
            quota::tag_tree(&place.dir, place.id).unwrap();
        } else {
            done.unwrap();
        }
        assert_eq!(place.project("f").id, place.id, "{mount}");
    }
}

/// What is found that is not of the place's project.
fn audit(place: &Place) -> Vec<PathBuf> {
    let found = quota::audit(&place.dir, place.id, &|| true);
    let found = found.unwrap().unwrap();
    assert_eq!(found.count, u64::try_from(found.paths.len()).unwrap());
    found.paths
}

/// As far as a killed agent came: the top and some of what is in it.
fn an_interrupted_tagging_is_completed_and_taken_back() {
    for (number, mount) in (30..).zip(MOUNTS) {
        let place = Place::new(mount, number);
        let (other, half) = (ProjectId(place.id.0 + 2), place.join("half"));
        for name in ["half/in", "rest/in", "foreign"] {
            fs::create_dir_all(place.join(name)).unwrap();
            fs::write(place.join(name).join("f"), "x").unwrap();
        }
        quota::tag_tree(&half, place.id).unwrap();
        let done = quota::tag_tree(&place.dir, place.id).unwrap();
        // All but half, half/in and its file.
        assert_eq!(done.changed, 6, "{mount}");
        assert_eq!(audit(&place), [] as [PathBuf; 0]);
        fs::write(place.join("rest/new"), "x").unwrap();
        assert_eq!(place.project("rest/new").id, place.id, "{mount}");
        quota::tag_tree(&place.join("foreign"), other).unwrap();
        let done = quota::untag_tree(&place.dir, place.id).unwrap();
        assert_eq!(done.changed, 8, "{mount}");
        let none = ProjectTag {
            id: ProjectId::NONE,
            inherit: false,
        };
        for name in ["", "half/in", "rest/new"] {
            assert_eq!(place.project(name), none, "{mount} {name}");
        }
        assert_eq!(place.project("foreign/f").id, other, "{mount}");
        assert_eq!(place.used(), (0, 0), "{mount}");
    }
}

fn what_left_its_project_is_found_and_brought_back() {
    for (number, mount) in (40..).zip(MOUNTS) {
        let place = Place::new(mount, number);
        for name in ["own", "shared"] {
            fs::create_dir(place.join(name)).unwrap();
            fs::write(place.join(name).join("f"), "x").unwrap();
        }
        quota::tag_tree(&place.dir, place.id).unwrap();
        // Without any capability, as the owner of the directory may.
        let escape = "chattr -P";
        let own = place.join("own");
        sh(&format!(
            "setpriv --bounding-set -all --inh-caps -all {escape} {}",
            own.display()
        ))
        .unwrap();
        sh(&format!("chattr -p 0 {}", own.display())).unwrap();
        sh(&format!("echo x >{}", own.join("free").display())).unwrap();
        // A file that would have to be waited for does not keep the rest from being seen.
        let busy = place.join("shared/f");
        let lease = Lease::new(&busy);
        assert_eq!(audit(&place), [own.clone(), own.join("free")], "{mount}");
        drop(lease);
        let stopped = quota::audit(&place.dir, place.id, &|| false);
        assert_eq!(stopped, Ok(None), "{mount}");
        quota::tag_tree(&place.dir, place.id).unwrap();
        assert_eq!(audit(&place), [] as [PathBuf; 0], "{mount}");
    }
}

fn projects_are_listed_in_order() {
    for (number, mount) in (50..).zip(MOUNTS) {
        let place = Place::new(mount, number);
        let id = |plus| ProjectId(place.id.0 + plus);
        for plus in [0, 4] {
            quota::set_limits(&place.dir, id(plus), Limit::At(MIB), Limit::Max).unwrap();
        }
        // Only asked for, which ext4 then lists.
        assert_eq!(quota::limits(&place.dir, id(2)), Ok(None));
        assert_eq!(
            quota::next(&place.dir, place.id),
            Ok(Some(id(0))),
            "{mount}"
        );
        assert_eq!(quota::next(&place.dir, id(1)), Ok(Some(id(4))), "{mount}");
        quota::set_limits(&place.dir, id(4), Limit::Max, Limit::Max).unwrap();
        assert_eq!(quota::next(&place.dir, id(1)), Ok(None), "{mount}");
        assert_eq!(quota::next(&place.dir, ProjectId(u32::MAX)), Ok(None));
    }
}

/// The size of an image that mkfs of both takes.
const IMAGE: &str = "400M";

fn a_mount_without_quota_is_told_with_the_remedy() {
    sh("modprobe loop").unwrap();
    let dir = tempfile::tempdir_in("/data/xfs").unwrap();
    for (fs_type, remedy) in [("xfs", "mount it with prjquota"), ("ext4", "tune2fs -O")] {
        let image = dir.path().join(fs_type);
        let shown = image.display();
        sh(&format!(
            "truncate -s {IMAGE} {shown}; mkfs.{fs_type} -q {shown}"
        ))
        .unwrap();
        let at = dir.path().join("at");
        let _mounted = Mounted::new(&format!("-o loop {shown}"), &at);
        assert_eq!(quota::enforced(&at), Ok(false), "{fs_type}");
        for error in [
            quota::limits(&at, ProjectId(5)).unwrap_err(),
            quota::set_limits(&at, ProjectId(5), Limit::At(MIB), Limit::Max).unwrap_err(),
            quota::next(&at, ProjectId(5)).unwrap_err(),
        ] {
            assert_eq!(error.kind(), Kind::Unsupported, "{error}");
            assert!(error.to_string().contains(remedy), "{error}");
        }
    }
    let error = quota::limits(Path::new("/proc"), ProjectId(5)).unwrap_err();
    assert!(error.to_string().contains("xfs or ext4"), "{error}");
    let error = quota::project_of(Path::new("/proc")).unwrap_err();
    assert_eq!(error.kind(), Kind::Unsupported, "{error}");
}

fn a_path_leads_to_its_disk_also_through_a_bind_mount() {
    let root = Root::host();
    for (number, mount) in (60..).zip(MOUNTS) {
        let place = Place::new(mount, number);
        let direct = block::of_path(&root, &place.dir).unwrap();
        assert_eq!(direct.mount.point, Path::new(mount));
        assert_eq!(direct.mount.project_quota, ProjectQuota::Enforced);
        let source = direct.mount.source.as_deref().unwrap();
        assert_eq!(source, format!("/dev/{}", direct.device.name));
        let size = output(&format!("blockdev --getsize64 {source}")).unwrap();
        assert_eq!(Ok(direct.device.size_bytes().unwrap()), size.parse());
        let at = PathBuf::from(format!("/run/bk-{number}"));
        let bound = Mounted::new(&format!("--bind {}", place.dir.display()), &at);
        let through = block::of_path(&root, &at).unwrap();
        assert_eq!(through.mount.point, at);
        assert_eq!(through.device, direct.device);
        let device = direct.device.number;
        let all = mounts::by_device(&root, device).unwrap();
        assert!(all.contains(&direct.mount) && all.contains(&through.mount));
        drop(bound);
        fs::remove_dir(&at).unwrap();
    }
    let error = block::of_path(&root, Path::new("/proc/self")).unwrap_err();
    assert_eq!(error.kind(), Kind::Unsupported, "{error}");
}

/// A loop device, gone when dropped.
struct Loop(String);

impl Drop for Loop {
    fn drop(&mut self) {
        if let Err(error) = sh(&format!("losetup -d {}", self.0)) {
            eprintln!("left behind: {error}");
        }
    }
}

/// A disk of 16 MiB with one partition from sector 2048 to its end, as a PC has it.
fn partitioned() -> Vec<u8> {
    let mut disk = vec![0; 16 << 20];
    let (start, sectors) = (2048u32, (16u32 << 11) - 2048);
    disk[450] = 0x83;
    disk[454..458].copy_from_slice(&start.to_le_bytes());
    disk[458..462].copy_from_slice(&sectors.to_le_bytes());
    disk[510..512].copy_from_slice(&[0x55, 0xaa]);
    disk
}

fn device(path: &str) -> Device {
    let number = output(&format!("stat -L -c %Hr:%Lr {path}")).unwrap();
    Device::open(&Root::host(), number.parse().unwrap()).unwrap()
}

fn partitions_and_mappers_lead_to_the_devices_that_take_limits() {
    let root = Root::host();
    sh("modprobe -a loop dm_mod").unwrap();
    let dir = tempfile::tempdir_in("/data/xfs").unwrap();
    let image = dir.path().join("image");
    let shown = image.display();
    fs::write(&image, partitioned()).unwrap();
    let whole = Loop(output(&format!("losetup -fP --show {shown}")).unwrap());
    let (disk, part) = (device(&whole.0), device(&format!("{}p1", whole.0)));
    assert!(part.is_partition() && !disk.is_partition());
    assert_eq!(part.whole_disk(&root), Ok(disk.clone()));
    assert_eq!(part.io_max_device(&root), Ok(disk.clone()));
    let table = format!("0 2048 linear {}p1 0", whole.0);
    sh(&format!("dmsetup --noudevsync create bk --table '{table}'")).unwrap();
    let number = output("dmsetup info -c --noheadings --separator : -o major,minor bk").unwrap();
    let mapper = Device::open(&root, number.parse().unwrap());
    let resolved = mapper.and_then(|m| Ok((m.io_max_device(&root)? == m, m)));
    let bottom = resolved
        .as_ref()
        .map(|(_, m)| m.weight_devices(&root).unwrap());
    sh("dmsetup --noudevsync remove bk").unwrap();
    assert!(resolved.as_ref().unwrap().0);
    assert_eq!(bottom.unwrap(), [disk]);
}

fn writeback_throttling_is_set_and_read_back() {
    let on = block::of_path(&Root::host(), Path::new("/data/xfs")).unwrap();
    let before = on.device.writeback_latency().unwrap();
    on.device.set_writeback_latency(12_000).unwrap();
    assert_eq!(on.device.writeback_latency(), Ok(12_000));
    on.device.set_writeback_latency(0).unwrap();
    assert_eq!(on.device.writeback_latency(), Ok(0));
    on.device.set_writeback_latency(before).unwrap();
    let name = format!("/sys/block/{}/queue/wbt_lat_usec", on.device.name);
    let seen = fs::read_to_string(name).unwrap();
    assert_eq!(seen.trim(), before.to_string());
}
