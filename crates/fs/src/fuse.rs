//! The kernel's words for what `tree` and `content` do; decides nothing.
//!
//! Some threads that answer the kernel never wait for the page source. What needs it is answered by one of the others,
//! for as long as there is one, or by a thread of a pool (`workers`), and so is what frees much space: everybody else's
//! requests go on meanwhile.
//!
//! The kernel caches: names and attributes for an hour (this mount is the only way in), pages for as long as it likes,
//! writes until it writes them back. Therefore sizes and times of files that are being written are the kernel's, and
//! arrive as `setattr`. What is answered with `ENOSYS` is asked once and then done by the kernel itself: open and
//! close (contents depend on the node alone), fsync (the pages have been sent before it is asked; the overlay is never
//! trusted after a crash), flush, lseek, copies between files (done with read and write).

use crate::content::{Attempt, Content, Cut};
use crate::filesystem::{FileSystem, Linked};
use crate::limits::{BACKGROUND_REQUESTS, FETCHING_THREADS, FREE_THREADS, FREEING_THREADS, REQUEST_BYTES};
use crate::tree::{Attr, Body, FileKind, Meta, NAME_BYTES, Node, NodeId, Owner, ROOT, Removed};
use crate::workers::Workers;
use fuser::{
    BsdFileFlags, Errno as Reply, FileAttr, FileHandle, FileType, Filesystem, FopenFlags, Generation,
    INodeNo, InitFlags, KernelConfig, LockOwner, OpenFlags, RenameFlags, ReplyAttr, ReplyCreate, ReplyData,
    ReplyDirectory, ReplyDirectoryPlus, ReplyEmpty, ReplyEntry, ReplyOpen, ReplyStatfs, ReplyWrite, Request,
    TimeOrNow, WriteFlags,
};
use rustix::io::Errno;
use std::cell::RefCell;
use std::ffi::OsStr;
use std::hash::{BuildHasher, Hasher, RandomState};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering::{Relaxed, SeqCst};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// How long the kernel may believe a name or an attribute.
const TTL: Duration = Duration::from_secs(3600);
thread_local! {
    /// One read's bytes; grows to the largest read of its thread.
    static READ_BUFFER: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

/// A mounted file system, as fuser drives it.
pub(crate) struct Adapter {
    fs: Arc<FileSystem>,
    /// The inode that programs see of the root, which is 1 to the kernel. Postgres makes the key of its shared memory of
    /// it: with one for all mounts, a server would meet the segments of every other, and that of a killed one whose mount
    /// had the same device number would keep it from starting.
    root_inode: INodeNo,
    /// How many threads that answer the kernel may wait for the page source, and how many do.
    may_fetch: usize,
    fetch_here: AtomicUsize,
    /// Answer what needs the page source when all of them do.
    fetching: Workers,
    /// Answer what frees much space.
    freeing: Workers,
}

/// What `setattr` changes besides the size.
struct Change {
    mode: Option<u32>,
    uid: Option<u32>,
    gid: Option<u32>,
    atime: Option<TimeOrNow>,
    mtime: Option<TimeOrNow>,
    ctime: Option<SystemTime>,
}

impl Change {
    fn apply(self, node: &Node, resized: bool) {
        if resized {
            node.touch();
        }
        let mut meta = node.meta.lock();
        if self.uid.is_some() || self.gid.is_some() || resized {
            meta.mode &= !0o6000;
        }
        meta.mode = self.mode.map_or(meta.mode, |mode| mode & 0o7777);
        meta.uid = self.uid.unwrap_or(meta.uid);
        meta.gid = self.gid.unwrap_or(meta.gid);
        meta.atime = self.atime.map_or(meta.atime, time);
        meta.mtime = self.mtime.map_or(meta.mtime, time);
        meta.ctime = self.ctime.unwrap_or_else(SystemTime::now);
    }

    /// Makes the change to a file whose size was changed, and says so.
    fn finish(self, node: &Node, cut: Result<Cut, Errno>, out: ReplyAttr) {
        match cut.map(drop) {
            Ok(()) => {
                self.apply(node, true);
                out.attr(&TTL, &node_attr(node));
            }
            Err(errno) => out.error(reply(errno)),
        }
    }
}

fn reply(errno: Errno) -> Reply {
    Reply::from_i32(errno.raw_os_error())
}

fn file_type(kind: FileKind) -> FileType {
    match kind {
        FileKind::Directory => FileType::Directory,
        FileKind::Regular => FileType::RegularFile,
        FileKind::Symlink => FileType::Symlink,
        FileKind::Socket => FileType::Socket,
        FileKind::Fifo => FileType::NamedPipe,
    }
}

fn file_attr(attr: Attr) -> FileAttr {
    let Attr { id, kind, size, meta } = attr;
    FileAttr {
        ino: INodeNo(id),
        size,
        blocks: size.div_ceil(512),
        atime: meta.atime,
        mtime: meta.mtime,
        ctime: meta.ctime,
        crtime: UNIX_EPOCH,
        kind: file_type(kind),
        perm: meta.mode as u16,
        nlink: meta.nlink,
        uid: meta.uid,
        gid: meta.gid,
        rdev: 0,
        blksize: 8192,
        flags: 0,
    }
}

fn node_attr(node: &Node) -> FileAttr {
    file_attr(node.attr())
}

/// The answer to a lookup of a name that does not exist: node 0, which the kernel may also believe for an hour.
fn no_entry() -> FileAttr {
    let meta =
        Meta { mode: 0, uid: 0, gid: 0, nlink: 0, atime: UNIX_EPOCH, mtime: UNIX_EPOCH, ctime: UNIX_EPOCH };
    file_attr(Attr { id: 0, kind: FileKind::Regular, size: 0, meta })
}

fn time(asked: TimeOrNow) -> SystemTime {
    match asked {
        TimeOrNow::SpecificTime(time) => time,
        TimeOrNow::Now => SystemTime::now(),
    }
}

fn owner(request: &Request, mode: u32) -> Owner {
    Owner { uid: request.uid(), gid: request.gid(), mode }
}

impl Adapter {
    /// To be driven by `threads` threads.
    pub(crate) fn new(fs: Arc<FileSystem>, threads: usize) -> Self {
        let random = RandomState::new().build_hasher().finish();
        // Far from those of files, and within the 31 bits of a key.
        Self {
            fs,
            root_inode: INodeNo(random % (1 << 30) + (1 << 30)),
            may_fetch: threads.saturating_sub(FREE_THREADS),
            fetch_here: AtomicUsize::new(0),
            fetching: Workers::new("fetching", FETCHING_THREADS),
            freeing: Workers::new("freeing", FREEING_THREADS),
        }
    }

    /// Does what needs the page source, here or on a thread that is for that alone.
    fn fetch(&self, job: impl FnOnce() + Send + 'static) {
        if self.fetch_here.fetch_add(1, SeqCst) < self.may_fetch {
            job();
        } else {
            self.fetching.run(job);
        }
        self.fetch_here.fetch_sub(1, SeqCst);
    }

    fn discard(&self, removed: Removed) {
        if removed.is_large() {
            self.freeing.run(move || drop(removed));
        }
    }

    fn resize(&self, node: Arc<Node>, size: u64, change: Change, out: ReplyAttr) {
        let tried = node.content().and_then(|content| content.try_set_len(&self.fs.backing, size));
        match tried {
            Ok(Attempt::Done(cut)) if cut.is_large() => {
                self.freeing.run(move || change.finish(&node, Ok(cut), out));
            }
            Ok(Attempt::Done(cut)) => change.finish(&node, Ok(cut), out),
            Ok(Attempt::NeedsSource) => {
                let fs = Arc::clone(&self.fs);
                self.fetch(move || {
                    let cut = node.content().and_then(|content| content.set_len(&fs.backing, size));
                    change.finish(&node, cut, out);
                });
            }
            Err(errno) => change.finish(&node, Err(errno), out),
        }
    }

    fn attr(&self, node: &Node) -> FileAttr {
        let attr = node_attr(node);
        if node.id == ROOT { FileAttr { ino: self.root_inode, ..attr } } else { attr }
    }

    fn node(&self, id: INodeNo) -> Result<Arc<Node>, Errno> {
        self.fs.tree.node(id.0)
    }

    fn answer_new(&self, made: Result<Arc<Node>, Errno>, answer: ReplyEntry) {
        match made {
            Ok(node) => answer.entry(&TTL, &node_attr(&node), Generation(0)),
            Err(errno) => answer.error(reply(errno)),
        }
    }

    fn create_file(
        &self,
        request: &Request,
        parent: NodeId,
        name: &OsStr,
        mode: u32,
        flags: i32,
    ) -> Result<Arc<Node>, Errno> {
        let tree = &self.fs.tree;
        match tree.create(parent, name, owner(request, mode), Body::Regular(Content::plain(&[]))) {
            Err(Errno::EXIST) if flags & libc::O_EXCL == 0 => {
                let node = tree.lookup(parent, name)?;
                if flags & libc::O_TRUNC != 0 {
                    node.content()?.set_len(&self.fs.backing, 0)?;
                }
                Ok(node)
            }
            made => made,
        }
    }
}

fn answer(result: Result<(), Errno>, empty: ReplyEmpty) {
    match result {
        Ok(()) => empty.ok(),
        Err(errno) => empty.error(reply(errno)),
    }
}

/// Answers with what `read` puts into a buffer of `size` bytes; gives the reply back if that needs the source.
fn answer_read(
    fs: &FileSystem,
    size: u32,
    out: ReplyData,
    read: impl FnOnce(&mut [u8]) -> Result<Attempt<usize>, Errno>,
) -> Option<ReplyData> {
    READ_BUFFER.with_borrow_mut(|buffer| {
        buffer.resize(buffer.len().max(size as usize), 0);
        let bytes = buffer.split_at_mut(size as usize).0;
        match read(bytes) {
            Ok(Attempt::Done(n)) => {
                fs.backing.counters.read_bytes.fetch_add(n as u64, Relaxed);
                out.data(bytes.split_at(n).0);
            }
            Ok(Attempt::NeedsSource) => return Some(out),
            Err(errno) => out.error(reply(errno)),
        }
        None
    })
}

fn answer_write(fs: &FileSystem, node: &Node, bytes: usize, written: Result<(), Errno>, out: ReplyWrite) {
    match written {
        Ok(()) => {
            node.touch();
            fs.backing.counters.written_bytes.fetch_add(bytes as u64, Relaxed);
            out.written(bytes as u32);
        }
        Err(errno) => out.error(reply(errno)),
    }
}

impl Filesystem for Adapter {
    fn init(&mut self, _request: &Request, config: &mut KernelConfig) -> std::io::Result<()> {
        let wanted = InitFlags::FUSE_WRITEBACK_CACHE
            | InitFlags::FUSE_PARALLEL_DIROPS
            | InitFlags::FUSE_DO_READDIRPLUS
            | InitFlags::FUSE_READDIRPLUS_AUTO
            | InitFlags::FUSE_HANDLE_KILLPRIV_V2
            | InitFlags::FUSE_EXPLICIT_INVAL_DATA
            | InitFlags::FUSE_ASYNC_DIO
            | InitFlags::FUSE_NO_OPEN_SUPPORT
            | InitFlags::FUSE_NO_OPENDIR_SUPPORT;
        if let Err(missing) = config.add_capabilities(wanted) {
            tracing::info!("the kernel does not offer {missing:?}");
            if missing.intersects(InitFlags::FUSE_NO_OPEN_SUPPORT | InitFlags::FUSE_NO_OPENDIR_SUPPORT) {
                return Err(std::io::Error::other("the kernel's FUSE is older than Linux 5.1"));
            }
            config.add_capabilities(wanted & !missing).ok();
        }
        // A refusal names the nearest value the kernel takes; a refused write size leaves fuser's default.
        config.set_max_write(REQUEST_BYTES).ok();
        if let Err(nearest) = config.set_max_readahead(REQUEST_BYTES) {
            config.set_max_readahead(nearest).ok();
        }
        config.set_max_background(BACKGROUND_REQUESTS).ok();
        Ok(())
    }

    fn lookup(&self, _request: &Request, parent: INodeNo, name: &OsStr, out: ReplyEntry) {
        match self.fs.tree.lookup(parent.0, name) {
            Err(Errno::NOENT) => out.entry(&TTL, &no_entry(), Generation(0)),
            found => self.answer_new(found, out),
        }
    }

    fn forget(&self, _request: &Request, id: INodeNo, times: u64) {
        self.discard(self.fs.tree.forget(id.0, times));
    }

    fn getattr(&self, _request: &Request, id: INodeNo, _fh: Option<FileHandle>, out: ReplyAttr) {
        match self.node(id) {
            Ok(node) => out.attr(&TTL, &self.attr(&node)),
            Err(errno) => out.error(reply(errno)),
        }
    }

    fn setattr(
        &self,
        _request: &Request,
        id: INodeNo,
        mode: Option<u32>,
        uid: Option<u32>,
        gid: Option<u32>,
        size: Option<u64>,
        atime: Option<TimeOrNow>,
        mtime: Option<TimeOrNow>,
        ctime: Option<SystemTime>,
        _fh: Option<FileHandle>,
        _crtime: Option<SystemTime>,
        _chgtime: Option<SystemTime>,
        _bkuptime: Option<SystemTime>,
        _flags: Option<BsdFileFlags>,
        out: ReplyAttr,
    ) {
        let node = match self.node(id) {
            Ok(node) => node,
            Err(errno) => return out.error(reply(errno)),
        };
        let change = Change { mode, uid, gid, atime, mtime, ctime };
        if let Some(size) = size {
            return self.resize(node, size, change, out);
        }
        change.apply(&node, false);
        out.attr(&TTL, &self.attr(&node));
    }

    fn readlink(&self, request: &Request, id: INodeNo, out: ReplyData) {
        let node = match self.node(id) {
            Ok(node) => node,
            Err(errno) => return out.error(reply(errno)),
        };
        self.fs.links.follow(request.pid(), move || match &node.body {
            Body::Symlink(target) => out.data(target.as_bytes()),
            _ => out.error(reply(Errno::INVAL)),
        });
    }

    fn mknod(
        &self,
        request: &Request,
        parent: INodeNo,
        name: &OsStr,
        mode: u32,
        umask: u32,
        _rdev: u32,
        out: ReplyEntry,
    ) {
        let body = match mode & libc::S_IFMT {
            libc::S_IFREG | 0 => Body::Regular(Content::plain(&[])),
            libc::S_IFSOCK => Body::Socket,
            libc::S_IFIFO => Body::Fifo,
            _ => return out.error(reply(Errno::PERM)),
        };
        self.answer_new(self.fs.tree.create(parent.0, name, owner(request, mode & !umask), body), out);
    }

    fn mkdir(
        &self,
        request: &Request,
        parent: INodeNo,
        name: &OsStr,
        mode: u32,
        umask: u32,
        out: ReplyEntry,
    ) {
        let owner = owner(request, mode & !umask);
        self.answer_new(self.fs.tree.create(parent.0, name, owner, Body::Directory), out);
    }

    fn unlink(&self, _request: &Request, parent: INodeNo, name: &OsStr, out: ReplyEmpty) {
        answer(self.fs.tree.unlink(parent.0, name).map(|removed| self.discard(removed)), out);
    }

    fn rmdir(&self, _request: &Request, parent: INodeNo, name: &OsStr, out: ReplyEmpty) {
        answer(self.fs.rmdir(parent.0, name), out);
    }

    fn symlink(&self, request: &Request, parent: INodeNo, name: &OsStr, target: &Path, out: ReplyEntry) {
        match self.fs.link_or_tablespace(parent.0, name, target, owner(request, 0o777)) {
            Ok(Linked::Link(node)) => out.entry(&TTL, &node_attr(&node), Generation(0)),
            Ok(Linked::Tablespace(link)) => {
                // The kernel insists on being answered with a link; it must not believe that name any longer.
                out.entry_with_ttls(&TTL, &Duration::ZERO, &node_attr(&link), Generation(0));
            }
            Err(errno) => out.error(reply(errno)),
        }
    }

    fn rename(
        &self,
        _request: &Request,
        parent: INodeNo,
        name: &OsStr,
        new_parent: INodeNo,
        new_name: &OsStr,
        flags: RenameFlags,
        out: ReplyEmpty,
    ) {
        if !(flags & !RenameFlags::RENAME_NOREPLACE).is_empty() {
            return out.error(reply(Errno::INVAL));
        }
        let exclusive = flags.contains(RenameFlags::RENAME_NOREPLACE);
        let renamed = self.fs.tree.rename(parent.0, name, new_parent.0, new_name, exclusive);
        answer(renamed.map(|removed| self.discard(removed)), out);
    }

    fn link(&self, _request: &Request, id: INodeNo, parent: INodeNo, name: &OsStr, out: ReplyEntry) {
        self.answer_new(self.fs.tree.link(id.0, parent.0, name), out);
    }

    fn open(&self, _request: &Request, _id: INodeNo, _flags: OpenFlags, out: ReplyOpen) {
        out.error(Reply::ENOSYS);
    }

    fn opendir(&self, _request: &Request, _id: INodeNo, _flags: OpenFlags, out: ReplyOpen) {
        out.error(Reply::ENOSYS);
    }

    fn create(
        &self,
        request: &Request,
        parent: INodeNo,
        name: &OsStr,
        mode: u32,
        umask: u32,
        flags: i32,
        out: ReplyCreate,
    ) {
        match self.create_file(request, parent.0, name, mode & !umask, flags) {
            Ok(node) => out.created(
                &TTL,
                &node_attr(&node),
                Generation(0),
                FileHandle(0),
                FopenFlags::FOPEN_KEEP_CACHE,
            ),
            Err(errno) => out.error(reply(errno)),
        }
    }

    fn read(
        &self,
        _request: &Request,
        id: INodeNo,
        _fh: FileHandle,
        offset: u64,
        size: u32,
        _flags: OpenFlags,
        _lock_owner: Option<LockOwner>,
        out: ReplyData,
    ) {
        let node = match self.node(id) {
            Ok(node) => node,
            Err(errno) => return out.error(reply(errno)),
        };
        let here = |bytes: &mut [u8]| node.content()?.try_read(offset, bytes);
        let Some(out) = answer_read(&self.fs, size, out, here) else { return };
        let fs = Arc::clone(&self.fs);
        self.fetch(move || {
            let fetched =
                |bytes: &mut [u8]| node.content()?.read(&fs.backing, offset, bytes).map(Attempt::Done);
            answer_read(&fs, size, out, fetched);
        });
    }

    fn write(
        &self,
        _request: &Request,
        id: INodeNo,
        _fh: FileHandle,
        offset: u64,
        data: &[u8],
        _write_flags: WriteFlags,
        _flags: OpenFlags,
        _lock_owner: Option<LockOwner>,
        out: ReplyWrite,
    ) {
        let node = match self.node(id) {
            Ok(node) => node,
            Err(errno) => return out.error(reply(errno)),
        };
        let tried = node.content().and_then(|content| content.try_write(&self.fs.backing, offset, data));
        match tried {
            Ok(Attempt::Done(())) => answer_write(&self.fs, &node, data.len(), Ok(()), out),
            Err(errno) => answer_write(&self.fs, &node, 0, Err(errno), out),
            Ok(Attempt::NeedsSource) => {
                let (fs, data) = (Arc::clone(&self.fs), data.to_vec());
                self.fetch(move || {
                    let written = node.content().and_then(|c| c.write(&fs.backing, offset, &data));
                    answer_write(&fs, &node, data.len(), written, out);
                });
            }
        }
    }

    fn flush(&self, _request: &Request, _id: INodeNo, _fh: FileHandle, _owner: LockOwner, out: ReplyEmpty) {
        out.error(Reply::ENOSYS);
    }

    fn fsync(&self, _request: &Request, _id: INodeNo, _fh: FileHandle, _datasync: bool, out: ReplyEmpty) {
        out.error(Reply::ENOSYS);
    }

    fn fsyncdir(&self, _request: &Request, _id: INodeNo, _fh: FileHandle, _datasync: bool, out: ReplyEmpty) {
        out.error(Reply::ENOSYS);
    }

    fn readdir(
        &self,
        _request: &Request,
        id: INodeNo,
        _fh: FileHandle,
        offset: u64,
        mut out: ReplyDirectory,
    ) {
        let listed = self.fs.tree.list(id.0, offset, |cookie, name, node| {
            let attr = self.attr(node);
            !out.add(attr.ino, cookie, attr.kind, name)
        });
        match listed {
            Ok(()) => out.ok(),
            Err(errno) => out.error(reply(errno)),
        }
    }

    fn readdirplus(
        &self,
        _request: &Request,
        id: INodeNo,
        _fh: FileHandle,
        offset: u64,
        mut out: ReplyDirectoryPlus,
    ) {
        // The kernel holds the directory while it lists it, so no entry goes between listing and counting.
        let mut looked_up = Vec::new();
        let listed = self.fs.tree.list(id.0, offset, |cookie, name, node| {
            let attr = self.attr(node);
            let full = out.add(attr.ino, cookie, name, &TTL, &attr, Generation(0));
            // The kernel does not take these two for lookups.
            let dots = name == OsStr::new(".") || name == OsStr::new("..");
            if !full && !dots {
                looked_up.push(node.id);
            }
            !full
        });
        self.fs.tree.count_lookups(&looked_up);
        match listed {
            Ok(()) => out.ok(),
            Err(errno) => out.error(reply(errno)),
        }
    }

    fn statfs(&self, _request: &Request, _id: INodeNo, out: ReplyStatfs) {
        match self.fs.backing.overlay.statfs() {
            Ok(s) => out.statfs(
                s.f_blocks,
                s.f_bfree,
                s.f_bavail,
                s.f_files,
                s.f_ffree,
                s.f_bsize as u32,
                NAME_BYTES as u32,
                s.f_frsize as u32,
            ),
            Err(errno) => out.error(reply(errno)),
        }
    }

    fn fallocate(
        &self,
        _request: &Request,
        id: INodeNo,
        _fh: FileHandle,
        offset: u64,
        length: u64,
        mode: i32,
        out: ReplyEmpty,
    ) {
        if mode & !libc::FALLOC_FL_KEEP_SIZE != 0 {
            return out.error(reply(Errno::OPNOTSUPP));
        }
        let keep_len = mode & libc::FALLOC_FL_KEEP_SIZE != 0;
        let done =
            self.node(id).and_then(|n| n.content()?.allocate(&self.fs.backing, offset, length, keep_len));
        answer(done, out);
    }
}
