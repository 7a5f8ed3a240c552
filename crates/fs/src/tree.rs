//! The tree of names: directories, files, links, their modes, owners and times. In memory, no kernel types.
//!
//! Invariants
//! - Node ids are never used twice; 1 is the root.
//! - A node exists while a directory names it or somebody who looked it up has not forgotten it: a file that was
//!   unlinked while open keeps its bytes until then.
//! - One lock orders all changes of names; it is never held while bytes are read or written.
//!
//! Not here: the bytes (`content`), what Postgres makes of links in `pg_tblspc` (`filesystem`).

use crate::content::Content;
use crate::directory::Directory;
use crate::limits::FREED_APART_BYTES;
use parking_lot::{Mutex, RwLock, RwLockWriteGuard};
use rustix::io::Errno;
use std::collections::HashMap;
use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;
use std::sync::Arc;
use std::time::SystemTime;

/// Names a node for as long as the file system lives.
pub(crate) type NodeId = u64;
/// The data directory itself.
pub(crate) const ROOT: NodeId = 1;
/// Longest name in a directory.
pub(crate) const NAME_BYTES: usize = 255;

pub(crate) type Result<T> = std::result::Result<T, Errno>;

/// What a node is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum FileKind {
    Directory,
    Regular,
    Symlink,
    Socket,
    Fifo,
}

/// Who owns a new node, and its permission bits.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Owner {
    pub(crate) uid: u32,
    pub(crate) gid: u32,
    pub(crate) mode: u32,
}

/// What `stat` says.
#[derive(Clone, Debug)]
pub(crate) struct Attr {
    pub(crate) id: NodeId,
    pub(crate) kind: FileKind,
    pub(crate) size: u64,
    pub(crate) meta: Meta,
}

/// The part of a node's attributes that is stored.
#[derive(Clone, Debug)]
pub(crate) struct Meta {
    pub(crate) mode: u32,
    pub(crate) uid: u32,
    pub(crate) gid: u32,
    pub(crate) nlink: u32,
    pub(crate) atime: SystemTime,
    pub(crate) mtime: SystemTime,
    pub(crate) ctime: SystemTime,
}

/// What a node holds besides its attributes.
pub(crate) enum Body {
    /// Entries are in the tree, under its lock.
    Directory,
    Regular(Content),
    Symlink(OsString),
    Socket,
    Fifo,
}

/// One file, directory or link.
pub(crate) struct Node {
    pub(crate) id: NodeId,
    pub(crate) body: Body,
    pub(crate) meta: Mutex<Meta>,
}

impl Node {
    pub(crate) fn attr(&self) -> Attr {
        let (kind, size) = match &self.body {
            Body::Directory => (FileKind::Directory, 4096),
            Body::Regular(content) => (FileKind::Regular, content.len()),
            Body::Symlink(target) => (FileKind::Symlink, target.len() as u64),
            Body::Socket => (FileKind::Socket, 0),
            Body::Fifo => (FileKind::Fifo, 0),
        };
        Attr { id: self.id, kind, size, meta: self.meta.lock().clone() }
    }

    /// The bytes, if it is a regular file.
    pub(crate) fn content(&self) -> Result<&Content> {
        match &self.body {
            Body::Regular(content) => Ok(content),
            Body::Directory => Err(Errno::ISDIR),
            _ => Err(Errno::INVAL),
        }
    }

    /// Notes a change of contents.
    pub(crate) fn touch(&self) {
        let mut meta = self.meta.lock();
        meta.mtime = SystemTime::now();
        meta.ctime = meta.mtime;
    }

    fn add_links(&self, change: i32) {
        let mut meta = self.meta.lock();
        meta.nlink = meta.nlink.saturating_add_signed(change);
        meta.ctime = SystemTime::now();
    }
}

/// A node that nobody can reach any more, if there is one. Dropping it frees the space of its file, which can take as
/// long as that is large: never under the tree's lock.
pub(crate) struct Removed(Option<Arc<Node>>);

impl Removed {
    /// True if it is better dropped where nobody waits.
    pub(crate) fn is_large(&self) -> bool {
        let content = self.0.as_ref().and_then(|node| node.content().ok());
        content.and_then(Content::overlay_bytes).is_some_and(|bytes| bytes >= FREED_APART_BYTES)
    }
}

struct Slot {
    node: Arc<Node>,
    lookups: u64,
    directory: Option<Directory>,
}

/// Everything that has a name or is still known to somebody.
struct Nodes {
    slots: HashMap<NodeId, Slot>,
    next: NodeId,
}

impl Nodes {
    fn slot(&self, id: NodeId) -> Result<&Slot> {
        self.slots.get(&id).ok_or(Errno::STALE)
    }

    fn slot_mut(&mut self, id: NodeId) -> Result<&mut Slot> {
        self.slots.get_mut(&id).ok_or(Errno::STALE)
    }

    fn directory(&self, id: NodeId) -> Result<&Directory> {
        self.slot(id)?.directory.as_ref().ok_or(Errno::NOTDIR)
    }

    fn directory_mut(&mut self, id: NodeId) -> Result<&mut Directory> {
        self.slot_mut(id)?.directory.as_mut().ok_or(Errno::NOTDIR)
    }

    fn child(&self, parent: NodeId, name: &OsStr) -> Result<NodeId> {
        self.directory(parent)?.get(name).ok_or(Errno::NOENT)
    }

    /// A node without a name.
    fn add(&mut self, parent: NodeId, owner: Owner, body: Body) -> Arc<Node> {
        let id = self.next;
        self.next += 1;
        let now = SystemTime::now();
        let meta = Meta {
            mode: owner.mode & 0o7777,
            uid: owner.uid,
            gid: owner.gid,
            nlink: 0,
            atime: now,
            mtime: now,
            ctime: now,
        };
        let directory = matches!(body, Body::Directory).then(|| Directory::new(parent));
        let node = Arc::new(Node { id, body, meta: Mutex::new(meta) });
        self.slots.insert(id, Slot { node: node.clone(), lookups: 0, directory });
        node
    }

    /// Enters a node under a name that is free, and counts its links.
    fn enter(&mut self, parent: NodeId, name: &OsStr, id: NodeId) -> Result<()> {
        let is_directory = self.slot(id)?.directory.is_some();
        let directory = self.directory_mut(parent)?;
        directory.insert(name, id);
        let parent_node = self.slot(parent)?.node.clone();
        parent_node.touch();
        if is_directory {
            parent_node.add_links(1);
            self.directory_mut(id)?.parent = parent;
        }
        self.slot(id)?.node.add_links(if is_directory { 2 } else { 1 });
        Ok(())
    }

    /// Removes a name and counts the links; the node may go with it.
    fn leave(&mut self, parent: NodeId, name: &OsStr) -> Result<NodeId> {
        let id = self.directory_mut(parent)?.remove(name).ok_or(Errno::NOENT)?;
        let parent_node = self.slot(parent)?.node.clone();
        parent_node.touch();
        let is_directory = self.slot(id)?.directory.is_some();
        if is_directory {
            parent_node.add_links(-1);
        }
        self.slot(id)?.node.add_links(if is_directory { -2 } else { -1 });
        Ok(id)
    }

    fn remove_if_unused(&mut self, id: NodeId) -> Removed {
        let unused = self.slots.get(&id).is_some_and(|s| s.lookups == 0 && s.node.meta.lock().nlink == 0);
        let slot = if unused && id != ROOT { self.slots.remove(&id) } else { None };
        Removed(slot.map(|slot| slot.node))
    }

    fn is_within(&self, mut id: NodeId, ancestor: NodeId) -> bool {
        while id != ancestor {
            match self.directory(id) {
                Ok(directory) if directory.parent != id => id = directory.parent,
                _ => return false,
            }
        }
        true
    }
}

/// All names and nodes of one file system.
pub(crate) struct Tree {
    nodes: RwLock<Nodes>,
}

impl Tree {
    /// A tree with an empty root directory.
    pub(crate) fn new(owner: Owner) -> Self {
        let mut nodes = Nodes { slots: HashMap::new(), next: ROOT };
        let root = nodes.add(ROOT, owner, Body::Directory);
        root.add_links(2);
        Self { nodes: RwLock::new(nodes) }
    }

    pub(crate) fn node(&self, id: NodeId) -> Result<Arc<Node>> {
        Ok(self.nodes.read().slot(id)?.node.clone())
    }

    /// Every node, for counting.
    pub(crate) fn all_nodes(&self) -> Vec<Arc<Node>> {
        self.nodes.read().slots.values().map(|slot| slot.node.clone()).collect()
    }

    /// A name's node, which stays until `forget`.
    pub(crate) fn lookup(&self, parent: NodeId, name: &OsStr) -> Result<Arc<Node>> {
        let mut nodes = self.nodes.write();
        let id = nodes.child(parent, name)?;
        let slot = nodes.slot_mut(id)?;
        slot.lookups += 1;
        Ok(slot.node.clone())
    }

    /// A name's node, without keeping it.
    pub(crate) fn peek(&self, parent: NodeId, name: &OsStr) -> Result<Arc<Node>> {
        let nodes = self.nodes.read();
        Ok(nodes.slot(nodes.child(parent, name)?)?.node.clone())
    }

    /// Takes back `times` lookups (a new node counts as looked up once).
    pub(crate) fn forget(&self, id: NodeId, times: u64) -> Removed {
        let mut nodes = self.nodes.write();
        let Ok(slot) = nodes.slot_mut(id) else { return Removed(None) };
        slot.lookups = slot.lookups.saturating_sub(times);
        nodes.remove_if_unused(id)
    }

    /// Makes a node; it counts as looked up once.
    pub(crate) fn create(&self, parent: NodeId, name: &OsStr, owner: Owner, body: Body) -> Result<Arc<Node>> {
        check_name(name)?;
        let mut nodes = self.nodes.write();
        let directory = nodes.directory(parent)?;
        if directory.get(name).is_some() {
            return Err(Errno::EXIST);
        }
        check_alive(&nodes, parent)?;
        let node = nodes.add(parent, owner, body);
        nodes.enter(parent, name, node.id)?;
        nodes.slot_mut(node.id)?.lookups = 1;
        Ok(node)
    }

    /// A node that no directory names and that lives for one lookup.
    pub(crate) fn create_nameless(&self, owner: Owner, body: Body) -> Arc<Node> {
        let mut nodes = self.nodes.write();
        let node = nodes.add(ROOT, owner, body);
        if let Ok(slot) = nodes.slot_mut(node.id) {
            slot.lookups = 1;
        }
        node
    }

    /// Gives a file another name; counts as a lookup.
    pub(crate) fn link(&self, id: NodeId, parent: NodeId, name: &OsStr) -> Result<Arc<Node>> {
        check_name(name)?;
        let mut nodes = self.nodes.write();
        let node = nodes.slot(id)?.node.clone();
        if matches!(node.body, Body::Directory) || node.meta.lock().nlink == 0 {
            return Err(Errno::PERM);
        }
        if nodes.directory(parent)?.get(name).is_some() {
            return Err(Errno::EXIST);
        }
        check_alive(&nodes, parent)?;
        nodes.enter(parent, name, id)?;
        nodes.slot_mut(id)?.lookups += 1;
        Ok(node)
    }

    pub(crate) fn unlink(&self, parent: NodeId, name: &OsStr) -> Result<Removed> {
        let mut nodes = self.nodes.write();
        let id = nodes.child(parent, name)?;
        if nodes.slot(id)?.directory.is_some() {
            return Err(Errno::ISDIR);
        }
        nodes.leave(parent, name)?;
        Ok(nodes.remove_if_unused(id))
    }

    pub(crate) fn rmdir(&self, parent: NodeId, name: &OsStr) -> Result<()> {
        let mut nodes = self.nodes.write();
        let id = nodes.child(parent, name)?;
        if !nodes.directory(id)?.is_empty() {
            return Err(Errno::NOTEMPTY);
        }
        nodes.leave(parent, name)?;
        nodes.remove_if_unused(id);
        Ok(())
    }

    /// Removes a directory with all it holds, and gives the entries to `move_in`.
    pub(crate) fn move_out(&self, parent: NodeId, name: &OsStr) -> Result<Directory> {
        let mut nodes = self.nodes.write();
        let id = nodes.child(parent, name)?;
        let directory = nodes.directory_mut(id)?;
        let entries = std::mem::replace(directory, Directory::new(parent));
        nodes.leave(parent, name)?;
        nodes.remove_if_unused(id);
        Ok(entries)
    }

    /// Puts entries that `move_out` gave into the empty directory `id`.
    pub(crate) fn move_in(&self, id: NodeId, mut entries: Directory) -> Result<()> {
        let mut nodes = self.nodes.write();
        entries.parent = nodes.directory(id)?.parent;
        for child in entries.children() {
            if let Ok(directory) = nodes.directory_mut(child) {
                directory.parent = id;
            }
        }
        *nodes.directory_mut(id)? = entries;
        Ok(())
    }

    /// Renames, replacing what is there unless `exclusive`.
    pub(crate) fn rename(
        &self,
        parent: NodeId,
        name: &OsStr,
        new_parent: NodeId,
        new_name: &OsStr,
        exclusive: bool,
    ) -> Result<Removed> {
        check_name(new_name)?;
        let mut removed = Removed(None); // before the lock, so that an error drops it after
        let mut nodes = self.nodes.write();
        let id = nodes.child(parent, name)?;
        check_alive(&nodes, new_parent)?;
        let moves_directory = nodes.slot(id)?.directory.is_some();
        if moves_directory && nodes.is_within(new_parent, id) {
            return Err(Errno::INVAL);
        }
        if let Some(old) = nodes.directory(new_parent)?.get(new_name) {
            if exclusive {
                return Err(Errno::EXIST);
            }
            if old == id {
                return Ok(removed);
            }
            removed = replace(&mut nodes, (new_parent, new_name), old, moves_directory)?;
        }
        nodes.leave(parent, name)?;
        nodes.enter(new_parent, new_name, id)?;
        Ok(removed)
    }

    /// Calls `entry` with (cookie, name, node) of each entry after `cookie`, `.` and `..` first, until it says stop.
    pub(crate) fn list(
        &self,
        id: NodeId,
        cookie: u64,
        mut entry: impl FnMut(u64, &OsStr, &Arc<Node>) -> bool,
    ) -> Result<()> {
        let nodes = self.nodes.read();
        let slot = nodes.slot(id)?;
        let directory = nodes.directory(id)?;
        if cookie < 1 && !entry(1, OsStr::new("."), &slot.node) {
            return Ok(());
        }
        if cookie < 2 {
            let parent = nodes.slot(directory.parent).unwrap_or(slot);
            if !entry(2, OsStr::new(".."), &parent.node) {
                return Ok(());
            }
        }
        for (cookie, name, child) in directory.list_after(cookie.max(2)) {
            if !entry(cookie, name, &nodes.slot(child)?.node) {
                break;
            }
        }
        Ok(())
    }

    /// Counts one more lookup of each node.
    pub(crate) fn count_lookups(&self, ids: &[NodeId]) {
        let mut nodes = self.nodes.write();
        for &id in ids {
            if let Ok(slot) = nodes.slot_mut(id) {
                slot.lookups += 1;
            }
        }
    }
}

/// Makes room for a rename: removes the node under a name if its kind allows.
fn replace(
    nodes: &mut RwLockWriteGuard<'_, Nodes>,
    (parent, name): (NodeId, &OsStr),
    old: NodeId,
    by_directory: bool,
) -> Result<Removed> {
    match (&nodes.slot(old)?.directory, by_directory) {
        (Some(directory), true) if !directory.is_empty() => return Err(Errno::NOTEMPTY),
        (Some(_), false) => return Err(Errno::ISDIR),
        (None, true) => return Err(Errno::NOTDIR),
        _ => {}
    }
    nodes.leave(parent, name)?;
    Ok(nodes.remove_if_unused(old))
}

/// A removed directory that somebody still has open takes no new names.
fn check_alive(nodes: &Nodes, parent: NodeId) -> Result<()> {
    if nodes.slot(parent)?.node.meta.lock().nlink == 0 { Err(Errno::NOENT) } else { Ok(()) }
}

fn check_name(name: &OsStr) -> Result<()> {
    match name.as_bytes() {
        b"" | b"." | b".." => Err(Errno::EXIST),
        bytes if bytes.contains(&b'/') => Err(Errno::INVAL),
        bytes if bytes.len() > NAME_BYTES => Err(Errno::NAMETOOLONG),
        _ => Ok(()),
    }
}
