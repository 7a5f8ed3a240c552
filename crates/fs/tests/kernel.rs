//! What programs see through a real mount, compared with a map from path to bytes.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

use fastrand::Rng;
use fs::{FailureKind, FileSystem, PageSource};
use rustix::fs::FallocateFlags;
use rustix::io::Errno;
use support::*;
use types::{BlockNumber, Fork, RelFork};

type Model = BTreeMap<String, Vec<u8>>;

fn fill_relations(fs: &FileSystem) {
    fs.mkdir("d", 0o700).unwrap();
    for (relation, blocks) in [(16384, 3), (16385, 40), (16386, 0)] {
        fs.add_relation(rel(relation, Fork::Main), blocks, rel(relation, Fork::Main)).unwrap();
    }
    fs.add_relation(rel(16387, Fork::Main), 2, rel(16387, Fork::Init)).unwrap();
}

fn model_of_relations() -> Model {
    let base = |relation: u32, fork, blocks: u64| pattern_bytes(rel(relation, fork), blocks * 8192);
    BTreeMap::from([
        ("base/5/16384".to_owned(), base(16384, Fork::Main, 3)),
        ("base/5/16385".to_owned(), base(16385, Fork::Main, 40)),
        ("base/5/16386".to_owned(), Vec::new()),
        ("base/5/16387".to_owned(), base(16387, Fork::Init, 2)),
    ])
}

fn check_all(at: &Path, model: &Model) {
    for directory in ["base/5", "d"] {
        let mut found: Vec<String> = std::fs::read_dir(at.join(directory))
            .unwrap()
            .map(|entry| format!("{directory}/{}", entry.unwrap().file_name().to_str().unwrap()))
            .collect();
        found.sort();
        let expected: Vec<_> = model.keys().filter(|path| path.starts_with(directory)).cloned().collect();
        assert_eq!(found, expected);
    }
    for (path, bytes) in model {
        assert!(std::fs::read(at.join(path)).unwrap() == *bytes, "{path} differs");
        assert_eq!(std::fs::metadata(at.join(path)).unwrap().len(), bytes.len() as u64);
    }
}

fn random_operation(random: &mut Rng, at: &Path, model: &mut Model) {
    let any = |random: &mut Rng| match random.u64(..2) {
        0 => format!("base/5/{}", 16384 + random.u64(..6)),
        _ => format!("d/f{}", random.u64(..4)),
    };
    let path = any(random);
    let real = at.join(&path);
    let scale = [4096, 8192, 100, 1][random.u64(..4) as usize];
    let offset = random.u64(..400_000 / scale.max(4)) * scale.min(4096) % 400_000;
    match random.u64(..10) {
        0..=4 => {
            let data = vec![random.u64(..256) as u8; (random.u64(..5) * scale + random.u64(..3)) as usize];
            let file = OpenOptions::new().write(true).create(true).truncate(false).open(&real).unwrap();
            file.write_all_at(&data, offset).unwrap();
            let bytes = model.entry(path).or_default();
            let end = offset as usize + data.len();
            if !data.is_empty() && bytes.len() < end {
                bytes.resize(end, 0);
            }
            if !data.is_empty() {
                bytes[offset as usize..end].copy_from_slice(&data);
            }
        }
        5 => {
            if let Some(bytes) = model.get_mut(&path) {
                OpenOptions::new().write(true).open(&real).unwrap().set_len(offset).unwrap();
                bytes.resize(offset as usize, 0);
            }
        }
        6 => assert_eq!(std::fs::remove_file(&real).is_ok(), model.remove(&path).is_some()),
        7 => {
            let to = any(random);
            assert_eq!(std::fs::rename(&real, at.join(&to)).is_ok(), model.contains_key(&path));
            if let Some(bytes) = model.remove(&path) {
                model.insert(to, bytes);
            }
        }
        _ => match (std::fs::read(&real), model.get(&path)) {
            (Ok(found), Some(bytes)) => assert!(found == *bytes, "{path} differs"),
            (found, expected) => assert_eq!(found.is_ok(), expected.is_some(), "{path}"),
        },
    }
}

#[test]
fn a_mount_agrees_with_a_map_under_random_operations_and_remounts() {
    if !fuse_is_here() {
        return;
    }
    for seed in 1..=6 {
        let mut mount = Mount::new(Arc::new(Patterns), fill_relations);
        let mut model = model_of_relations();
        let mut random = Rng::with_seed(seed * 0x1234_5678_9ABC_DEF1);
        for round in 0..6 {
            for _ in 0..120 {
                random_operation(&mut random, &mount.at, &mut model);
            }
            check_all(&mount.at, &model);
            if round % 2 == 1 {
                mount.remount();
                check_all(&mount.at, &model);
            }
        }
        mount.remount();
        for (path, bytes) in &model {
            assert!(mount.fs.read_file(path).unwrap() == *bytes, "{path} differs below the kernel");
        }
        assert!(mount.failures.lock().unwrap().is_empty());
    }
}

#[test]
fn the_root_of_every_mount_has_an_inode_of_its_own() {
    if !fuse_is_here() {
        return;
    }
    let inode = |mount: &Mount| std::fs::metadata(&mount.at).unwrap().ino();
    let (mut one, other) = (Mount::new(Arc::new(Patterns), |_| ()), Mount::new(Arc::new(Patterns), |_| ()));
    let first = inode(&one);
    assert_ne!(first, inode(&other));
    std::fs::set_permissions(&one.at, std::fs::Permissions::from_mode(0o750)).unwrap();
    std::fs::write(one.at.join("file"), "bytes").unwrap();
    assert_eq!((inode(&one), i32::try_from(first).is_ok()), (first, true));
    one.remount();
    assert_ne!(first, inode(&one));
    assert_eq!(std::fs::read(one.at.join("file")).unwrap(), b"bytes");
}

#[test]
fn reading_copies_nothing_into_the_overlay_and_writing_only_what_was_written() {
    if !fuse_is_here() {
        return;
    }
    let mut mount = Mount::new(Arc::new(Patterns), |fs| {
        fs.add_relation(rel(16384, Fork::Main), 5000, rel(16384, Fork::Main)).unwrap();
    });
    let path = mount.at.join("base/5/16384");
    let mut file = File::open(&path).unwrap();
    assert_eq!(io::copy(&mut file, &mut io::sink()).unwrap(), 5000 * 8192);
    assert_eq!(mount.fs.stats().overlay_files, 0);
    let file = OpenOptions::new().write(true).open(&path).unwrap();
    file.write_all_at(&[7; 8192], 1234 * 8192).unwrap();
    drop(file);
    mount.remount();
    let stats = mount.fs.stats();
    assert_eq!(stats.overlay_files, 1);
    assert!(stats.overlay_bytes <= 16384, "{stats:?}");
    assert!(mount.fs.read_file("base/5/16384").unwrap()[1234 * 8192..1235 * 8192].iter().all(|&b| b == 7));
}

#[test]
fn a_relation_above_one_gigabyte_is_several_segment_files() {
    if !fuse_is_here() {
        return;
    }
    let main = rel(16384, Fork::Main);
    let mount = Mount::new(Arc::new(Patterns), |fs| fs.add_relation(main, 131_072 + 7, main).unwrap());
    let len = |name: &str| std::fs::metadata(mount.at.join(name)).unwrap().len();
    assert_eq!((len("base/5/16384"), len("base/5/16384.1")), (1 << 30, 7 * 8192));
    let mut bytes = [0; 8192];
    File::open(mount.at.join("base/5/16384.1")).unwrap().read_exact_at(&mut bytes, 3 * 8192).unwrap();
    let start = (131_072 + 3) * 8192;
    assert!(bytes.iter().enumerate().all(|(i, &b)| b == pattern(main, start + i as u64)));
}

#[test]
fn an_unlinked_open_file_keeps_its_bytes_until_it_is_closed() {
    if !fuse_is_here() {
        return;
    }
    let mount = Mount::new(Arc::new(Patterns), fill_relations);
    let path = mount.at.join("base/5/16385");
    let mut file = OpenOptions::new().read(true).write(true).open(&path).unwrap();
    std::fs::remove_file(&path).unwrap();
    assert_eq!(std::fs::metadata(&path).unwrap_err().kind(), io::ErrorKind::NotFound);
    std::fs::write(&path, b"another file").unwrap();
    file.write_all_at(b"XY", 8191).unwrap();
    file.sync_all().unwrap();
    rustix::fs::fadvise(&file, 0, None, rustix::fs::Advice::DontNeed).unwrap();
    let mut expected = pattern_bytes(rel(16385, Fork::Main), 40 * 8192);
    expected[8191..8193].copy_from_slice(b"XY");
    let mut found = Vec::new();
    file.seek(SeekFrom::Start(0)).unwrap();
    file.read_to_end(&mut found).unwrap();
    assert!(found == expected);
    assert_eq!(std::fs::read(&path).unwrap(), b"another file");
    assert_eq!(mount.fs.stats().overlay_files, 1);
    drop(file);
    let deadline = Instant::now() + Duration::from_secs(5);
    while mount.fs.stats().overlay_files > 0 {
        assert!(Instant::now() < deadline, "the closed file still holds its overlay file");
        std::thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn a_mapped_file_reads_base_pages_and_shares_its_writes() {
    if !fuse_is_here() {
        return;
    }
    use std::os::fd::AsRawFd;
    let mut mount = Mount::new(Arc::new(Patterns), fill_relations);
    let path = mount.at.join("base/5/16385");
    let mut expected = pattern_bytes(rel(16385, Fork::Main), 40 * 8192);
    let file = OpenOptions::new().read(true).write(true).open(&path).unwrap();
    let flags = libc::PROT_READ | libc::PROT_WRITE;
    // SAFETY: a fresh mapping of a file that is exactly this long, unmapped below; nobody else uses the address.
    let map = unsafe {
        let at =
            libc::mmap(std::ptr::null_mut(), expected.len(), flags, libc::MAP_SHARED, file.as_raw_fd(), 0);
        assert_ne!(at, libc::MAP_FAILED);
        std::slice::from_raw_parts_mut(at.cast::<u8>(), expected.len())
    };
    assert!(map == expected.as_slice());
    map[100_000] ^= 0xFF;
    expected[100_000] ^= 0xFF;
    assert!(std::fs::read(&path).unwrap() == expected);
    // SAFETY: the mapping made above; the slice is not used again.
    unsafe { libc::munmap(map.as_mut_ptr().cast(), expected.len()) };
    drop(file);
    mount.remount();
    assert!(std::fs::read(&path).unwrap() == expected);
}

#[test]
fn two_processes_see_each_others_writes_at_once() {
    if !fuse_is_here() {
        return;
    }
    let mount = Mount::new(Arc::new(Patterns), fill_relations);
    let path = mount.at.join("d/log");
    let mut file = OpenOptions::new().append(true).create(true).open(&path).unwrap();
    for i in 0..20 {
        writeln!(file, "ours {i}").unwrap();
        let script = format!("tail -n 1 '{0}' && echo theirs {i} >> '{0}'", path.display());
        let output = Command::new("sh").args(["-c", &script]).output().unwrap();
        assert_eq!(String::from_utf8_lossy(&output.stdout), format!("ours {i}\n"));
    }
    let text = std::fs::read_to_string(&path).unwrap();
    let expected: String = (0..20).map(|i| format!("ours {i}\ntheirs {i}\n")).collect();
    assert_eq!(text, expected);
}

#[test]
fn names_links_modes_and_times_behave_as_on_a_disk() {
    if !fuse_is_here() {
        return;
    }
    let mount = Mount::new(Arc::new(Patterns), |fs| {
        fill_relations(fs);
        fs.symlink("pg_wal", Path::new("/somewhere/else")).unwrap();
        fs.write_file("PG_VERSION", b"15\n", 0o600).unwrap();
    });
    let p = |name: &str| mount.at.join(name);
    assert_eq!(std::fs::read_link(p("pg_wal")).unwrap(), Path::new("/somewhere/else"));
    assert_eq!(std::fs::metadata(p("PG_VERSION")).unwrap().permissions().mode() & 0o7777, 0o600);
    assert_eq!(std::fs::metadata(&mount.at).unwrap().permissions().mode() & 0o7777, 0o700);

    let exclusive = OpenOptions::new().write(true).create_new(true).open(p("PG_VERSION"));
    assert_eq!(exclusive.unwrap_err().kind(), io::ErrorKind::AlreadyExists);
    std::fs::hard_link(p("PG_VERSION"), p("d/hard")).unwrap();
    assert_eq!(std::fs::metadata(p("PG_VERSION")).unwrap().nlink(), 2);
    std::fs::write(p("d/hard"), b"16\n").unwrap();
    std::fs::remove_file(p("PG_VERSION")).unwrap();
    assert_eq!(std::fs::read(p("d/hard")).unwrap(), b"16\n");
    assert_eq!(std::fs::metadata(p("d/hard")).unwrap().nlink(), 1);

    std::os::unix::fs::chown(p("d/hard"), Some(65534), Some(65533)).unwrap();
    std::fs::set_permissions(p("d/hard"), std::fs::Permissions::from_mode(0o640)).unwrap();
    let then = std::time::UNIX_EPOCH + Duration::new(1_000_000, 5);
    OpenOptions::new().write(true).open(p("d/hard")).unwrap().set_modified(then).unwrap();
    let meta = std::fs::metadata(p("d/hard")).unwrap();
    assert_eq!((meta.uid(), meta.gid(), meta.mode() & 0o7777), (65534, 65533, 0o640));
    assert_eq!(meta.modified().unwrap(), then);

    std::fs::create_dir(p("d/sub")).unwrap();
    std::fs::write(p("d/sub/file"), b"x").unwrap();
    assert_eq!(std::fs::remove_dir(p("d/sub")).unwrap_err().kind(), io::ErrorKind::DirectoryNotEmpty);
    std::fs::rename(p("d/sub"), p("moved")).unwrap();
    assert_eq!(std::fs::read(p("moved/file")).unwrap(), b"x");
    assert_eq!(std::fs::rename(p("moved"), p("moved/in")).unwrap_err().kind(), io::ErrorKind::InvalidInput);
    let _socket = std::os::unix::net::UnixListener::bind(p("socket")).unwrap();
    std::os::unix::net::UnixStream::connect(p("socket")).unwrap();

    let space = rustix::fs::statvfs(&mount.at).unwrap();
    assert_eq!(space.f_blocks, rustix::fs::statvfs(mount.dir.path()).unwrap().f_blocks);
    assert_eq!(rustix::fs::fsync(File::open(p("d")).unwrap()), Ok(()));
}

#[test]
fn a_large_directory_can_be_removed_while_it_is_listed() {
    if !fuse_is_here() {
        return;
    }
    let mount = Mount::new(Arc::new(Patterns), fill_relations);
    let many = mount.at.join("many");
    std::fs::create_dir(&many).unwrap();
    for i in 0..3000 {
        File::create(many.join(format!("file-with-a-longer-name-{i}"))).unwrap();
    }
    assert_eq!(std::fs::read_dir(&many).unwrap().count(), 3000);
    // `pg_ls_dir` can show the directory itself and its parent, which Rust's listing leaves out.
    let listing = Command::new("ls").args(["-a", "-U"]).arg(&many).output().unwrap();
    let listing = String::from_utf8(listing.stdout).unwrap();
    assert_eq!(listing.lines().filter(|name| [".", ".."].contains(name)).count(), 2);
    assert_eq!(listing.lines().count(), 3002);
    for entry in std::fs::read_dir(&many).unwrap() {
        std::fs::remove_file(entry.unwrap().path()).unwrap();
    }
    std::fs::remove_dir(&many).unwrap();
    assert!(!many.exists());
}

#[test]
fn a_tablespace_link_becomes_a_directory_that_survives_being_linked_again() {
    if !fuse_is_here() {
        return;
    }
    let mount = Mount::new(Arc::new(Patterns), |fs| fs.mkdir("pg_tblspc", 0o700).unwrap());
    let outside = mount.dir.path().join("space");
    std::fs::create_dir_all(outside.join(VERSION_DIR)).unwrap();
    let link = mount.at.join("pg_tblspc/16400");
    std::os::unix::fs::symlink(&outside, &link).unwrap();
    assert!(std::fs::symlink_metadata(&link).unwrap().is_dir());
    assert!(link.join(VERSION_DIR).is_dir());
    std::fs::create_dir(link.join(VERSION_DIR).join("5")).unwrap();
    std::fs::write(link.join(VERSION_DIR).join("5/16401"), b"data").unwrap();

    std::fs::remove_dir(&link).unwrap();
    assert!(!link.exists());
    std::os::unix::fs::symlink(&outside, &link).unwrap();
    assert_eq!(std::fs::read(link.join(VERSION_DIR).join("5/16401")).unwrap(), b"data");
    std::fs::write(link.join(VERSION_DIR).join("5/16402"), b"new").unwrap();

    std::fs::remove_dir_all(link.join(VERSION_DIR)).unwrap();
    std::fs::remove_dir(&link).unwrap();
    std::os::unix::fs::symlink(&outside, &link).unwrap();
    assert_eq!(std::fs::read_dir(link.join(VERSION_DIR)).unwrap().count(), 0);
    assert!(outside.join(VERSION_DIR).is_dir(), "what is outside is another's");
}

/// Fails every read of block 3.
struct BadBlock;

impl PageSource for BadBlock {
    fn read(&self, rel: RelFork, first: BlockNumber, out: &mut [u8]) -> io::Result<()> {
        if (first.get()..first.get() + (out.len() / 8192) as u32).contains(&3) {
            return Err(io::Error::other("record of an unknown kind"));
        }
        Patterns.read(rel, first, out)
    }
}

#[test]
fn an_unreadable_page_is_an_io_error_and_is_reported_by_name() {
    if !fuse_is_here() {
        return;
    }
    let mount = Mount::new(Arc::new(BadBlock), fill_relations);
    let file = File::open(mount.at.join("base/5/16385")).unwrap();
    rustix::fs::fadvise(&file, 0, None, rustix::fs::Advice::Random).unwrap();
    let mut page = [0; 8192];
    let error = file.read_exact_at(&mut page, 3 * 8192).unwrap_err();
    assert_eq!(error.raw_os_error(), Some(libc::EIO));
    file.read_exact_at(&mut page, 8 * 8192).unwrap();
    let failures = mount.failures.lock().unwrap();
    assert_eq!(failures[0].kind, FailureKind::Source);
    assert!(failures[0].text.contains("1663/5/16385 block"), "{}", failures[0].text);
    assert!(failures[0].text.contains("record of an unknown kind"), "{}", failures[0].text);
}

/// A small disk of its own; taken away when dropped.
struct SmallDisk(std::path::PathBuf);

impl SmallDisk {
    fn new(at: &Path) -> Self {
        std::fs::create_dir(at).unwrap();
        let status = Command::new("mount").args(["-t", "tmpfs", "-o", "size=1m", "tmpfs"]).arg(at).status();
        assert!(status.unwrap().success());
        Self(at.to_owned())
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        rustix::mount::unmount(&self.0, rustix::mount::UnmountFlags::DETACH).ok();
    }
}

#[test]
fn a_full_overlay_disk_is_reported_once_and_fails_the_fsync() {
    if !fuse_is_here() {
        return;
    }
    let outer = tempfile::tempdir().unwrap();
    let small = outer.path().join("small");
    let _disk = SmallDisk::new(&small);
    let mount = Mount::with_overlay(tempfile::tempdir().unwrap(), &small, Arc::new(Patterns), fill_relations);
    let file = File::create(mount.at.join("d/big")).unwrap();
    let reserve = |flags| rustix::fs::fallocate(&file, flags, 0, 8 << 20);
    assert_eq!(reserve(FallocateFlags::empty()), Err(Errno::NOSPC));
    assert_eq!(reserve(FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE), Err(Errno::OPNOTSUPP));
    assert!(mount.failures.lock().unwrap().is_empty(), "a refused reservation loses nothing");
    let wrote = (0..64).try_for_each(|i| file.write_all_at(&[1; 1 << 16], i << 16));
    assert!(wrote.and_then(|()| file.sync_all()).is_err());
    let failures = mount.failures.lock().unwrap();
    assert_eq!(failures.len(), 1);
    assert_eq!(failures[0].kind, FailureKind::OverlayWrite);
}

/// Never answers until it is told to.
#[derive(Default)]
struct Stuck {
    free: std::sync::Mutex<bool>,
    changed: std::sync::Condvar,
    waiting: std::sync::atomic::AtomicUsize,
}

impl Stuck {
    fn release(&self) {
        *self.free.lock().unwrap() = true;
        self.changed.notify_all();
    }

    /// Waits until so many reads are under way.
    fn wait_for(&self, reads: usize) {
        let deadline = Instant::now() + Duration::from_secs(20);
        while self.waiting.load(Relaxed) < reads {
            assert!(Instant::now() < deadline, "{} reads wait, not {reads}", self.waiting.load(Relaxed));
            std::thread::sleep(Duration::from_millis(2));
        }
    }
}

impl PageSource for Stuck {
    fn read(&self, rel: RelFork, first: BlockNumber, out: &mut [u8]) -> io::Result<()> {
        self.waiting.fetch_add(1, Relaxed);
        let mut free = self.free.lock().unwrap();
        while !*free {
            free = self.changed.wait(free).unwrap();
        }
        Patterns.read(rel, first, out)
    }
}

/// Ends with a panic unless `work` is done soon; then the source is released, so that the test can end.
fn soon(stuck: &Arc<Stuck>, what: &'static str, work: impl FnOnce() + Send + 'static) {
    let (done, waiting) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        work();
        done.send(()).ok();
    });
    if waiting.recv_timeout(Duration::from_secs(10)).is_err() {
        stuck.release();
        panic!("{what} waits for the page source");
    }
}

/// What does not need the source, with names and pages that the kernel does not know yet.
fn work_without_the_source(stuck: &Arc<Stuck>, at: &Path) {
    let path = |name: &str| at.join(name);
    let (written, old) = (path("d/written"), path("d/old"));
    soon(stuck, "a create with a write that is written back", move || {
        let mut file = File::create(&written).unwrap();
        file.write_all(&[5; 100_000]).unwrap();
        file.sync_all().unwrap();
        rustix::fs::fadvise(&file, 0, None, rustix::fs::Advice::DontNeed).unwrap();
        assert!(std::fs::read(&written).unwrap() == [5; 100_000]);
        std::fs::rename(&written, &old).unwrap();
    });
    let (old, base) = (path("d/old"), path("base/5/16384"));
    soon(stuck, "a lookup, a stat, a truncation and an unlink", move || {
        assert_eq!(std::fs::metadata(&base).unwrap().len(), 3 * 8192);
        assert!(!base.with_extension("1").exists());
        let file = OpenOptions::new().write(true).open(&old).unwrap();
        rustix::fs::fallocate(&file, FallocateFlags::empty(), 0, 1 << 20).unwrap();
        file.set_len(5000).unwrap();
        std::fs::remove_file(&old).unwrap();
        std::fs::create_dir(base.with_extension("dir")).unwrap();
        assert_eq!(std::fs::read_dir(old.parent().unwrap()).unwrap().count(), 0);
        std::fs::remove_dir(base.with_extension("dir")).unwrap();
    });
    let base = path("base/5/16384");
    soon(stuck, "a whole page of a relation that is written", move || {
        let file = OpenOptions::new().read(true).write(true).open(&base).unwrap();
        file.write_all_at(&[6; 8192], 8192).unwrap();
        file.sync_all().unwrap();
        rustix::fs::fadvise(&file, 8192, std::num::NonZero::new(8192), rustix::fs::Advice::DontNeed).unwrap();
        rustix::fs::fadvise(&file, 0, None, rustix::fs::Advice::Random).unwrap();
        let mut page = [0; 8192];
        file.read_exact_at(&mut page, 8192).unwrap();
        assert!(page == [6; 8192]);
    });
}

#[test]
fn reads_that_wait_for_the_source_hold_up_nobody_else() {
    if !fuse_is_here() {
        return;
    }
    // Far more than there are threads on either side, and than the kernel's own count of requests allows by default.
    const READERS: u64 = 200;
    let stuck = Arc::new(Stuck::default());
    let big = rel(20000, Fork::Main);
    let mount = Mount::new(stuck.clone(), |fs| {
        fill_relations(fs);
        fs.add_relation(big, 4096, big).unwrap();
    });
    let path = mount.at.join("base/5/20000");
    let readers: Vec<_> = (0..READERS)
        .map(|n| {
            let path = path.clone();
            std::thread::spawn(move || {
                let file = File::open(path).unwrap();
                rustix::fs::fadvise(&file, 0, None, rustix::fs::Advice::Random).unwrap();
                let mut page = [0; 8192];
                file.read_exact_at(&mut page, n * 16 * 8192).unwrap();
                page
            })
        })
        .collect();
    stuck.wait_for(16);
    work_without_the_source(&stuck, &mount.at);
    assert!(stuck.waiting.load(Relaxed) <= 16, "more reads of the source at once than declared");
    stuck.release();
    for (n, reader) in readers.into_iter().enumerate() {
        let start = n as u64 * 16 * 8192;
        let page = reader.join().unwrap();
        assert!(
            page.iter().enumerate().all(|(i, &b)| b == pattern(big, start + i as u64)),
            "page of reader {n}"
        );
    }
}

#[test]
fn writes_and_truncations_that_need_the_source_hold_up_nobody_else() {
    if !fuse_is_here() {
        return;
    }
    const FILES: u32 = 24;
    let stuck = Arc::new(Stuck::default());
    let mut mount = Mount::new(stuck.clone(), |fs| {
        fill_relations(fs);
        for relation in 20000..20000 + FILES {
            fs.add_relation(rel(relation, Fork::Main), 3, rel(relation, Fork::Main)).unwrap();
        }
    });
    let writers: Vec<_> = (20000..20000 + FILES)
        .map(|relation| {
            let path = mount.at.join(format!("base/5/{relation}"));
            std::thread::spawn(move || {
                // Past the kernel's cache, which would send whole pages.
                let direct = rustix::fs::OFlags::DIRECT.bits().cast_signed();
                let file = OpenOptions::new().write(true).custom_flags(direct).open(path).unwrap();
                match relation % 2 {
                    0 => file.write_all_at(&[9; 100], 5000).unwrap(),
                    _ => file.set_len(2 * 8192 + 5000).unwrap(),
                }
            })
        })
        .collect();
    stuck.wait_for(16);
    work_without_the_source(&stuck, &mount.at);
    stuck.release();
    writers.into_iter().for_each(|writer| writer.join().unwrap());
    mount.remount();
    for relation in 20000..20000 + FILES {
        let mut expected = pattern_bytes(rel(relation, Fork::Main), 3 * 8192);
        match relation % 2 {
            0 => expected[5000..5100].fill(9),
            _ => expected.truncate(2 * 8192 + 5000),
        }
        assert!(
            std::fs::read(mount.at.join(format!("base/5/{relation}"))).unwrap() == expected,
            "{relation}"
        );
    }
}

#[test]
fn unmount_frees_the_mount_point_while_a_read_is_stuck_in_the_source() {
    if !fuse_is_here() {
        return;
    }
    let stuck = Arc::new(Stuck::default());
    let mut mount = Mount::new(stuck.clone(), fill_relations);
    let path = mount.at.join("base/5/16385");
    let mut file = File::open(&path).unwrap();
    let reader = std::thread::spawn(move || file.read(&mut [0; 8192]));
    stuck.wait_for(1);
    mount.mounted.take().unwrap().unmount().unwrap();
    assert!(!path.exists());
    assert!(reader.join().unwrap().is_err());
    stuck.release();
}

#[test]
fn whoever_follows_a_link_that_is_held_waits_and_others_go_on() {
    if !fuse_is_here() {
        return;
    }
    let outside = tempfile::tempdir().unwrap();
    std::fs::write(outside.path().join("segment"), b"wal").unwrap();
    let mount = Mount::new(Arc::new(Patterns), |fs| {
        fill_relations(fs);
        fs.symlink("link", outside.path()).unwrap();
    });
    let segment = mount.at.join("link/segment");
    assert_eq!(std::fs::read(&segment).unwrap(), b"wal", "and the kernel knows the way now");
    let mut open = File::open(&segment).unwrap();

    let mut exempt = Command::new("sh")
        .args(["-c", "read go; exec cat \"$0\""])
        .arg(&segment)
        .stdin(std::process::Stdio::piped())
        .stdout(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    let may = exempt.id();
    mount.fs.hold_links(Arc::new(move |pid| pid == may));
    let mut reader = Command::new("cat").arg(&segment).stdout(std::process::Stdio::piped()).spawn().unwrap();
    std::thread::sleep(Duration::from_millis(300));
    assert!(reader.try_wait().unwrap().is_none(), "it did not wait");
    exempt.stdin.take().unwrap().write_all(b"go\n").unwrap();
    assert_eq!(exempt.wait_with_output().unwrap().stdout, b"wal", "it may");
    assert!(reader.try_wait().unwrap().is_none(), "it waits no longer");
    // What is open stays open, and names on this side of the link are not held up.
    let mut text = String::new();
    open.read_to_string(&mut text).unwrap();
    assert_eq!(
        (text.as_str(), std::fs::read(mount.at.join("base/5/16384")).unwrap().len()),
        ("wal", 3 * 8192)
    );
    std::fs::write(mount.at.join("new"), b"x").unwrap();
    mount.fs.release_links();
    let output = reader.wait_with_output().unwrap();
    assert!(output.status.success() && output.stdout == b"wal");
}

/// Not a test of its own: the process that `a_dead_mount_is_replaced` kills.
#[test]
#[ignore = "runs only as the child of another test"]
fn child_that_mounts_and_waits() {
    let Some(at) = std::env::var_os("SCION_TEST_MOUNT_AT") else { return };
    let options = fs::Options {
        overlay_dir: std::env::temp_dir(),
        uid: 0,
        gid: 0,
        version_dir: VERSION_DIR.to_owned(),
    };
    let fs = FileSystem::new(options, Arc::new(Patterns)).unwrap();
    fs.write_file("from_the_child", b"x", 0o600).unwrap();
    let _mounted = fs::mount(Arc::new(fs), Path::new(&at), fs::MountOptions::default()).unwrap();
    std::thread::sleep(Duration::from_secs(60));
}

#[test]
fn a_dead_mount_is_replaced() {
    if !fuse_is_here() {
        return;
    }
    let mut mount = Mount::new(Arc::new(Patterns), fill_relations);
    mount.mounted.take().unwrap().unmount().unwrap();
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "child_that_mounts_and_waits", "--ignored"])
        .env("SCION_TEST_MOUNT_AT", &mount.at)
        .stdout(std::process::Stdio::null())
        .spawn()
        .unwrap();
    let deadline = Instant::now() + Duration::from_secs(10);
    while !mount.at.join("from_the_child").exists() {
        assert!(Instant::now() < deadline, "the child did not mount");
        std::thread::sleep(Duration::from_millis(10));
    }
    child.kill().unwrap();
    child.wait().unwrap();
    assert!(File::create(mount.at.join("new")).is_err());
    mount.mounted = Some(fs::mount(mount.fs.clone(), &mount.at, fs::MountOptions::default()).unwrap());
    check_all(&mount.at, &model_of_relations());
}
