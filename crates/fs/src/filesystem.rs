//! The file system as its owner sees it: filled before the mount, watched after; and the one thing it does to names.
//!
//! Tablespaces. `CREATE TABLESPACE` makes a symbolic link `pg_tblspc/<oid>` to a place outside, which no branch could
//! follow. Here such a link becomes a directory with an empty version directory in it: what Postgres calls an
//! in-place tablespace (`create_tablespace_directories`). Crash recovery removes the link and makes it again
//! (`remove_tablespace_symlink`); a link would still lead to its files, so a removed directory that is not empty is
//! set aside and comes back under the same name.

use crate::backing::Backing;
use crate::content::Content;
use crate::directory::Directory;
use crate::links::{Links, MayFollow};
use crate::overlay::OverlayDir;
use crate::source::{FailureHook, Origin, PageSource};
use crate::tree::{Body, Node, NodeId, Owner, ROOT, Result, Tree};
use parking_lot::Mutex;
use rustix::io::Errno;
use std::collections::HashMap;
use std::ffi::{OsStr, OsString};
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use types::path::{SEGMENT_BLOCKS, TABLESPACES, relation_path, slru_path};
use types::{RelFork, SLRU_PAGES_PER_SEGMENT, SlruKind};

/// What a file system is made with.
#[derive(Clone, Debug)]
pub struct Options {
    /// Directory, on a real disk, in which overlay files are made (they never have names there).
    pub overlay_dir: PathBuf,
    /// Owner of every file that exists at the start.
    pub uid: u32,
    /// Group of every file that exists at the start.
    pub gid: u32,
    /// `TABLESPACE_VERSION_DIRECTORY`: `PG_15_202209061`.
    pub version_dir: String,
}

/// Counters since the start.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
pub struct Stats {
    /// Bytes of disk the overlay takes now.
    pub overlay_bytes: u64,
    /// Overlay files open now.
    pub overlay_files: u64,
    /// Calls of the page source.
    pub source_reads: u64,
    /// Bytes read from the page source.
    pub source_bytes: u64,
    /// Bytes the kernel read.
    pub read_bytes: u64,
    /// Bytes the kernel wrote.
    pub written_bytes: u64,
}

/// A data directory, to be filled with `mkdir`, `write_file`, `symlink` and `add_relation` and then mounted.
///
/// Paths are relative to the data directory (`base/5/PG_VERSION`). Missing parent directories are made with mode
/// 0700. After `mount` the kernel caches names for an hour, so fill it before.
pub struct FileSystem {
    pub(crate) tree: Tree,
    pub(crate) backing: Backing,
    uid: u32,
    gid: u32,
    version_dir: String,
    /// Tablespace directories that were removed while not empty.
    set_aside: Mutex<HashMap<OsString, Directory>>,
    pub(crate) links: Links,
}

impl FileSystem {
    /// An empty data directory, mode 0700, over `source`. Fails if no file can be made in the overlay directory.
    pub fn new(options: Options, source: Arc<dyn PageSource>) -> io::Result<Self> {
        let Options { overlay_dir, uid, gid, version_dir } = options;
        let backing = Backing::new(source, OverlayDir::new(&overlay_dir)?);
        let tree = Tree::new(Owner { uid, gid, mode: 0o700 });
        Ok(Self {
            tree,
            backing,
            uid,
            gid,
            version_dir,
            set_aside: Mutex::default(),
            links: Links::default(),
        })
    }

    /// Where failures are reported; replaces an earlier hook. Without one they are logged.
    pub fn on_failure(&self, hook: FailureHook) {
        self.backing.set_hook(hook);
    }

    /// From now on a process that follows a symbolic link waits until `release_links`, unless it `may`. It waits as for a
    /// slow disk: nothing fails, and no signal ends it, not even one that kills.
    pub fn hold_links(&self, may: MayFollow) {
        self.links.hold(may);
    }

    /// Lets all links be followed again.
    pub fn release_links(&self) {
        self.links.release();
    }

    /// Makes a directory and its missing parents; `mode` is such as `0o700`. An existing directory is fine.
    pub fn mkdir(&self, path: &str, mode: u32) -> io::Result<()> {
        let (directory, name) = split(path)?;
        let parent = self.make_directories(directory)?;
        self.make_directory(parent, name, mode)?;
        Ok(())
    }

    /// Makes a file with these contents; fails if the name is taken.
    pub fn write_file(&self, path: &str, bytes: &[u8], mode: u32) -> io::Result<()> {
        let content = Content::plain(&[]);
        content.write(&self.backing, 0, bytes)?;
        self.make(path, mode, Body::Regular(content))
    }

    /// Makes a symbolic link.
    pub fn symlink(&self, path: &str, target: &Path) -> io::Result<()> {
        self.make(path, 0o777, Body::Symlink(target.as_os_str().to_owned()))
    }

    /// Makes the segment files of `rel`, `blocks` long, whose pages are those of `source` (the same fork, but the
    /// init fork for the main fork of an unlogged relation). Zero blocks make one empty file.
    pub fn add_relation(&self, rel: RelFork, blocks: u32, source: RelFork) -> io::Result<()> {
        let mut first = 0;
        loop {
            let here = (blocks - first).min(SEGMENT_BLOCKS);
            let path = relation_path(rel, first / SEGMENT_BLOCKS, &self.version_dir);
            self.make(&path, 0o600, Body::Regular(Content::of(Origin::Relation(source), first, here)))?;
            first += here;
            if first >= blocks {
                return Ok(());
            }
        }
    }

    /// Makes segment file `segment` of an SLRU, `pages` long.
    pub fn add_slru_segment(&self, kind: SlruKind, segment: u32, pages: u32) -> io::Result<()> {
        let first = segment.checked_mul(SLRU_PAGES_PER_SEGMENT).ok_or(Errno::FBIG)?;
        let path = slru_path(kind, segment);
        self.make(&path, 0o600, Body::Regular(Content::of(Origin::Slru(kind), first, pages)))
    }

    /// The contents of a file as Postgres would read them, less what the kernel still holds back.
    pub fn read_file(&self, path: &str) -> io::Result<Vec<u8>> {
        let (directory, name) = split(path)?;
        let mut parent = ROOT;
        for part in directory.split('/').filter(|part| !part.is_empty()) {
            parent = self.tree.peek(parent, OsStr::new(part))?.id;
        }
        let node = self.tree.peek(parent, OsStr::new(name))?;
        let content = node.content()?;
        let len = usize::try_from(content.len()).map_err(|_| Errno::FBIG)?;
        let mut bytes = vec![0; len];
        let n = content.read(&self.backing, 0, &mut bytes)?;
        bytes.truncate(n);
        Ok(bytes)
    }

    /// Counters; looks at every overlay file, so not for every second.
    pub fn stats(&self) -> Stats {
        let counters = &self.backing.counters;
        let mut stats = Stats {
            overlay_bytes: 0,
            overlay_files: 0,
            source_reads: counters.source_reads.load(Relaxed),
            source_bytes: counters.source_bytes.load(Relaxed),
            read_bytes: counters.read_bytes.load(Relaxed),
            written_bytes: counters.written_bytes.load(Relaxed),
        };
        for node in self.tree.all_nodes() {
            if let Some(bytes) = node.content().ok().and_then(Content::overlay_bytes) {
                stats.overlay_bytes += bytes;
                stats.overlay_files += 1;
            }
        }
        stats
    }

    fn make(&self, path: &str, mode: u32, body: Body) -> io::Result<()> {
        let (directory, name) = split(path)?;
        let parent = self.make_directories(directory)?;
        let owner = Owner { uid: self.uid, gid: self.gid, mode };
        let node = self.tree.create(parent, OsStr::new(name), owner, body)?;
        self.tree.forget(node.id, 1);
        Ok(())
    }

    fn make_directories(&self, path: &str) -> Result<NodeId> {
        path.split('/')
            .filter(|part| !part.is_empty())
            .try_fold(ROOT, |parent, part| self.make_directory(parent, part, 0o700))
    }

    fn make_directory(&self, parent: NodeId, name: &str, mode: u32) -> Result<NodeId> {
        if let Ok(node) = self.tree.peek(parent, OsStr::new(name)) {
            return if matches!(node.body, Body::Directory) { Ok(node.id) } else { Err(Errno::NOTDIR) };
        }
        let owner = Owner { uid: self.uid, gid: self.gid, mode };
        let node = self.tree.create(parent, OsStr::new(name), owner, Body::Directory)?;
        self.tree.forget(node.id, 1);
        Ok(node.id)
    }
}

/// What came of a request for a symbolic link.
pub(crate) enum Linked {
    /// The link.
    Link(Arc<Node>),
    /// A tablespace directory. The node is a link without a name, to answer the request with: whoever looks the name
    /// up next finds the directory.
    Tablespace(Arc<Node>),
}

impl FileSystem {
    /// Makes a symbolic link, or a tablespace directory in its place.
    pub(crate) fn link_or_tablespace(
        &self,
        parent: NodeId,
        name: &OsStr,
        target: &Path,
        owner: Owner,
    ) -> Result<Linked> {
        let body = Body::Symlink(target.as_os_str().to_owned());
        if !(target.is_absolute() && self.is_tablespace(parent, name)) {
            return self.tree.create(parent, name, owner, body).map(Linked::Link);
        }
        let inside = Owner { mode: 0o700, ..owner };
        let directory = self.tree.create(parent, name, inside, Body::Directory)?;
        match self.set_aside.lock().remove(name) {
            Some(entries) => self.tree.move_in(directory.id, entries)?,
            None => {
                let version = OsStr::new(&self.version_dir);
                let version = self.tree.create(directory.id, version, inside, Body::Directory)?;
                self.tree.forget(version.id, 1);
            }
        }
        self.tree.forget(directory.id, 1);
        Ok(Linked::Tablespace(self.tree.create_nameless(owner, body)))
    }

    /// Removes a directory; a tablespace's is set aside if it is not empty.
    pub(crate) fn rmdir(&self, parent: NodeId, name: &OsStr) -> Result<()> {
        match self.tree.rmdir(parent, name) {
            Err(Errno::NOTEMPTY) if self.is_tablespace(parent, name) => {
                let entries = self.tree.move_out(parent, name)?;
                self.set_aside.lock().insert(name.to_owned(), entries);
                Ok(())
            }
            result => result,
        }
    }

    fn is_tablespace(&self, parent: NodeId, name: &OsStr) -> bool {
        !name.is_empty()
            && name.as_bytes().iter().all(u8::is_ascii_digit)
            && self.tree.peek(ROOT, OsStr::new(TABLESPACES)).is_ok_and(|node| node.id == parent)
    }
}

/// A path's directory (empty for the root) and last name.
fn split(path: &str) -> Result<(&str, &str)> {
    let (directory, name) = path.rsplit_once('/').unwrap_or(("", path));
    if name.is_empty() { Err(Errno::INVAL) } else { Ok((directory, name)) }
}
