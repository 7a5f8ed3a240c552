//! scion redo.
