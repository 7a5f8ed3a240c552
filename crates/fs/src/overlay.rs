//! Files that hold what was written: anonymous, sparse, gone with the process.
//!
//! A hole in an overlay file means "zero" to `content`, which asks for a range only if it was written or lies behind
//! the base. Memory is not held twice: now and then written-back pages are dropped from this file's page cache,
//! since the kernel has them for the mounted file already.

use rustix::fs::{Advice, FallocateFlags, Mode, OFlags};
use rustix::io::Errno;
use std::fs::File;
use std::io;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// After this many bytes through one overlay file its page cache is dropped.
const RELIEVE_EVERY_BYTES: u64 = 8 << 20;

/// The directory overlay files are made in.
pub(crate) struct OverlayDir {
    path: PathBuf,
}

impl OverlayDir {
    /// Uses `path`, an existing directory; fails if no file can be made there.
    pub(crate) fn new(path: &Path) -> io::Result<Self> {
        let dir = Self { path: path.canonicalize()? };
        dir.create()?;
        Ok(dir)
    }

    /// A new empty file without a name.
    pub(crate) fn create(&self) -> Result<OverlayFile, Errno> {
        let flags = OFlags::RDWR | OFlags::CLOEXEC | OFlags::TMPFILE;
        let fd = match rustix::fs::open(&self.path, flags, Mode::RUSR | Mode::WUSR) {
            Err(Errno::OPNOTSUPP | Errno::ISDIR | Errno::INVAL) => self.create_and_unlink(),
            other => other,
        }?;
        Ok(OverlayFile { file: File::from(fd), unrelieved: AtomicU64::new(0) })
    }

    /// For file systems without `O_TMPFILE`.
    fn create_and_unlink(&self) -> Result<rustix::fd::OwnedFd, Errno> {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let name = format!(".overlay.{}.{}", std::process::id(), NEXT.fetch_add(1, Relaxed));
        let path = self.path.join(name);
        let flags = OFlags::RDWR | OFlags::CLOEXEC | OFlags::CREATE | OFlags::EXCL;
        let fd = rustix::fs::open(&path, flags, Mode::RUSR | Mode::WUSR)?;
        rustix::fs::unlink(&path)?;
        Ok(fd)
    }

    /// Space of the disk below.
    pub(crate) fn statfs(&self) -> Result<rustix::fs::StatVfs, Errno> {
        rustix::fs::statvfs(&self.path)
    }
}

/// One anonymous file.
pub(crate) struct OverlayFile {
    file: File,
    unrelieved: AtomicU64,
}

impl OverlayFile {
    /// Fills `out`; what lies behind the end of the file is zero.
    pub(crate) fn read_at(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        let mut done = 0;
        while let Some(rest) = out.get_mut(done..).filter(|rest| !rest.is_empty()) {
            match self.file.read_at(rest, offset + done as u64) {
                Ok(0) => {
                    rest.fill(0);
                    break;
                }
                Ok(n) => done += n,
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => return Err(e),
            }
        }
        self.relieve_after(out.len());
        Ok(())
    }

    /// Writes all of `bytes`.
    pub(crate) fn write_at(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        self.file.write_all_at(bytes, offset)?;
        self.relieve_after(bytes.len());
        Ok(())
    }

    /// Cuts the file to at most `len`, so that bytes behind read as zero.
    pub(crate) fn cut(&self, len: u64) -> io::Result<()> {
        if self.file.metadata()?.len() > len { self.file.set_len(len) } else { Ok(()) }
    }

    /// Reserves disk space for a range.
    pub(crate) fn reserve(&self, offset: u64, len: u64) -> Result<(), Errno> {
        match rustix::fs::fallocate(&self.file, FallocateFlags::KEEP_SIZE, offset, len) {
            Err(Errno::OPNOTSUPP | Errno::NOSYS) => Ok(()),
            other => other,
        }
    }

    /// Bytes of disk in use.
    pub(crate) fn disk_bytes(&self) -> u64 {
        self.file.metadata().map_or(0, |m| m.blocks() * 512)
    }

    fn relieve_after(&self, bytes: usize) {
        let total = self.unrelieved.fetch_add(bytes as u64, Relaxed) + bytes as u64;
        if total >= RELIEVE_EVERY_BYTES {
            self.unrelieved.store(0, Relaxed);
            self.relieve();
        }
    }

    /// Drops the clean pages and starts writing the dirty ones, which the next call drops. Advice only: failing is
    /// fine, it costs memory.
    fn relieve(&self) {
        rustix::fs::fadvise(&self.file, 0, None, Advice::DontNeed).ok();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_overlay_file_has_no_name_and_reads_zeros_behind_its_end() {
        let dir = tempfile::tempdir().unwrap();
        let overlay = OverlayDir::new(dir.path()).unwrap();
        for fd in [overlay.create().unwrap().file, File::from(overlay.create_and_unlink().unwrap())] {
            let file = OverlayFile { file: fd, unrelieved: AtomicU64::new(0) };
            file.write_at(4096, b"abc").unwrap();
            let mut out = [1; 8];
            file.read_at(4097, &mut out).unwrap();
            assert_eq!(&out, b"bc\0\0\0\0\0\0");
            assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
        }
    }

    #[test]
    fn bytes_survive_being_dropped_from_the_page_cache() {
        let dir = tempfile::tempdir().unwrap();
        let file = OverlayDir::new(dir.path()).unwrap().create().unwrap();
        let block: Vec<u8> = (0..1 << 20).map(|i: u32| (i % 251) as u8).collect();
        for i in 0..20 {
            file.write_at(i << 20, &block).unwrap();
        }
        let mut out = vec![0; 1 << 20];
        file.read_at(19 << 20, &mut out).unwrap();
        assert!(out == block);
    }
}
