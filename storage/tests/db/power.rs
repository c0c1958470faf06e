//! A file system that ends at once, as by a power cut: what its log and page cache had not written is lost.
//!
//! Needs root, loop devices and the file system's tools; says so where it has not got them. The device below is a file, which keeps all
//! that was ever written to it: a disk that loses its own cache is not tested here.

use super::child::{CHECKPOINT, IN_CHECKPOINT, Process, Told, begun, last_of, open, promised};
use rand::RngExt;
use std::fs::File;
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

const ROUNDS: usize = 6;
const DISK_BYTES: u64 = 2 << 30;
/// `EXT4_IOC_SHUTDOWN` and `XFS_IOC_GOINGDOWN`: `_IOR('X', 125, u32)`.
const SHUTDOWN: libc::Ioctl = 0x8004_587d_u32 as libc::Ioctl;
/// Nothing is written any more, not even the file system's journal.
static NO_LOG_FLUSH: u32 = 2;

/// A file system on a loop device, gone when it is dropped.
struct Disk {
    image: PathBuf,
    at: PathBuf,
    dir: tempfile::TempDir,
}

fn run(program: &str, args: &[&str]) -> Result<(), String> {
    let command = || format!("{program} {}", args.join(" "));
    let output = Command::new(program).args(args).stdin(Stdio::null()).output();
    let output = output.map_err(|error| format!("{}: {error}", command()))?;
    match output.status.success() {
        true => Ok(()),
        false => Err(format!("{}: {}", command(), String::from_utf8_lossy(&output.stderr).trim())),
    }
}

fn shown(path: &Path) -> &str {
    path.to_str().expect("a plain path")
}

impl Disk {
    fn make(mkfs: &[&str]) -> Result<Disk, String> {
        let dir = tempfile::tempdir().map_err(|error| error.to_string())?;
        let disk = Disk { image: dir.path().join("image"), at: dir.path().join("at"), dir };
        let image = File::create(&disk.image).and_then(|file| file.set_len(DISK_BYTES));
        image.and_then(|()| std::fs::create_dir(&disk.at)).map_err(|error| error.to_string())?;
        run(mkfs[0], &[&mkfs[1..], &[shown(&disk.image)]].concat())?;
        disk.mount()?;
        Ok(disk)
    }

    fn mount(&self) -> Result<(), String> {
        run("mount", &["-o", "loop", shown(&self.image), shown(&self.at)])
    }

    /// Writes nothing any more.
    fn cut(&self) -> Result<(), String> {
        let dir = File::open(&self.at).map_err(|error| error.to_string())?;
        // SAFETY: the ioctl reads one u32 at the address, which is there.
        let done = unsafe { libc::ioctl(dir.as_raw_fd(), SHUTDOWN, &raw const NO_LOG_FLUSH) };
        if done == 0 { Ok(()) } else { Err(std::io::Error::last_os_error().to_string()) }
    }

    /// Takes it off; what its last user had in flight may hold it for a moment.
    fn unmount(&self) {
        for _ in 0..200 {
            match run("umount", &[shown(&self.at)]) {
                Ok(()) => return,
                Err(_) => std::thread::sleep(Duration::from_millis(25)),
            }
        }
        panic!("{} cannot be unmounted", self.at.display());
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        // Not mounted any more when a test went well up to its last cut; lazily, so that nothing is left behind when it did not.
        let _ = run("umount", &["-l", shown(&self.at)]);
        let _ = std::fs::remove_file(&self.image);
    }
}

/// Every write that a sync covered is there; batches whole or not; no write without all before it; the last checkpoint is whole.
fn what_was_synced_survives(mkfs: &[&str]) {
    let disk = match Disk::make(mkfs) {
        Ok(disk) => disk,
        Err(error) => return eprintln!("skipped: no file system to cut: {error}"),
    };
    let (db_dir, told_path) = (disk.at.join("db"), disk.dir.path().join("told"));
    let told = Told::open(&told_path);
    let mut lost = 0;
    for round in 0..ROUNDS {
        let before = told.get(promised(0));
        let mut process = Process::start("synced", &disk.at, &told_path);
        process.until("synced", || told.get(promised(0)) > before);
        std::thread::sleep(Duration::from_micros(rand::rng().random_range(0..600_000)));
        if round.is_multiple_of(3) {
            // It dies, and what the next one finds is durable before anybody writes.
            process.kill();
            told.set(promised(0), 0);
            process = Process::start("opened", &disk.at, &told_path);
            process.until("opened", || told.get(promised(0)) > 0);
        }
        // Before the cut, for what is promised behind it no power cut would let anybody hear of: the process lives on here, and a sync
        // that ext4 was in the middle of is told to have succeeded though its blocks stay marked as never written (Linux 6.18; a dozen
        // lines of C that msync a reserved file see the same, those of a file of written zeros do not).
        let least = told.get(promised(0));
        if let Err(error) = disk.cut() {
            return eprintln!("skipped: the file system cannot be cut: {error}");
        }
        process.kill();
        let most = told.get(begun(0));
        disk.unmount();
        disk.mount().expect("mounted again");
        let db = open(&db_dir);
        let last = last_of(&db, 0);
        assert!((least..=most).contains(&last), "round {round}: {last} of {least} to {most}");
        lost += most - last;
        told.set(promised(0), last);
        drop(db);
        checkpoint_is_whole(&disk, &told);
    }
    eprintln!("{} writes, {lost} of them lost that nobody had synced", told.get(promised(0)));
    disk.unmount();
}

fn checkpoint_is_whole(disk: &Disk, told: &Told) {
    let (number, least) = (told.get(CHECKPOINT), told.get(IN_CHECKPOINT));
    if number > 0 {
        let last = last_of(&open(&disk.at.join(format!("checkpoint-{number}"))), 0);
        assert!(last >= least, "checkpoint {number}: {last} of {least}");
    }
    // The one that was being made has a name of its own, or is whole.
    let next = disk.at.join(format!("checkpoint-{}", number + 1));
    if next.exists() {
        assert!(last_of(&open(&next), 0) >= least);
        std::fs::remove_dir_all(next).unwrap();
    }
}

#[test]
fn what_was_synced_survives_the_end_of_ext4() {
    what_was_synced_survives(&["mkfs.ext4", "-q", "-F"]);
}

#[test]
fn what_was_synced_survives_the_end_of_xfs() {
    what_was_synced_survives(&["mkfs.xfs", "-q", "-f"]);
}
