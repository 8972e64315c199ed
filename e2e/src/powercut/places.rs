//! The names of the operations at which the power can be cut. This is the only place that knows them.

use std::fmt::Write as _;

/// A kind of operation, as the shim calls it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// A file is created.
    Create,
    /// Bytes are written.
    Write,
    /// A file gets another length: ftruncate, fallocate, opening with truncation.
    Size,
    /// A file is synced.
    Sync,
    /// A folder is synced.
    FolderSync,
    /// A file or folder is renamed; the new name decides on the place.
    Rename,
    /// A file or folder is removed.
    Unlink,
    /// A folder is made.
    Mkdir,
    /// A file gets a second name.
    Link,
    /// A part of a file is read. It can only fail, and no report counts it.
    Read,
}

impl Kind {
    fn name(self) -> &'static str {
        match self {
            Self::Create => "create",
            Self::Write => "write",
            Self::Size => "size",
            Self::Sync => "sync",
            Self::FolderSync => "folder-sync",
            Self::Rename => "rename",
            Self::Unlink => "unlink",
            Self::Mkdir => "mkdir",
            Self::Link => "link",
            Self::Read => "read",
        }
    }
}

use Kind::{Create, FolderSync, Link, Mkdir, Read, Rename, Size, Sync, Unlink, Write};

/// Name, kinds, and a glob for the path from the data folder, in which `*` stands for `/` as well.
type Place = (&'static str, &'static [Kind], &'static str);

/// Every place. The first row that matches an operation names it; several rows may have one name. The
/// last rows take all that is left, each kind for itself.
pub(super) const TABLE: &[Place] = &[
    ("key.prepare", &[Create, Write, Size], "*push.key*"),
    ("key.sync", &[Sync], "*push.key*"),
    ("key.rename", &[Rename, Link], "*push.key"),
    ("key.remove", &[Unlink], "*push.key*"),
    ("position.write", &[Create, Write, Size], "*consumer*"),
    ("position.sync", &[Sync], "*consumer*"),
    ("position.rename", &[Rename], "*consumer*"),
    ("position.remove", &[Unlink], "*consumer*"),
    ("next.write", &[Create, Write, Size], "*/next*"),
    ("next.sync", &[Sync], "*/next*"),
    ("next.rename", &[Rename], "*/next"),
    ("segment.prepare", &[Create, Write, Size], "*.tmp"),
    ("segment.prepare-sync", &[Sync], "*.tmp"),
    ("segment.discard", &[Unlink], "*.tmp"),
    ("segment.create", &[Create], "*.log"),
    ("segment.write", &[Write], "*.log"),
    ("segment.cut", &[Size], "*.log"),
    ("segment.sync", &[Sync], "*.log"),
    ("segment.rename", &[Rename], "*.log"),
    ("segment.trim", &[Unlink], "*.log"),
    ("folder.sync", &[FolderSync], "*"),
    ("folder.make", &[Mkdir], "*"),
    ("other.create", &[Create], "*"),
    ("other.write", &[Write], "*"),
    ("other.size", &[Size], "*"),
    ("other.sync", &[Sync], "*"),
    ("other.rename", &[Rename], "*"),
    ("other.remove", &[Unlink], "*"),
    ("other.link", &[Link], "*"),
    ("position.read", &[Read], "*consumer*"),
    ("segment.read", &[Read], "*.log"),
    ("other.read", &[Read], "*"),
];

/// The names, each once, in the order of the table.
pub(super) fn names() -> Vec<&'static str> {
    let mut names: Vec<&str> = TABLE.iter().map(|(name, ..)| *name).collect();
    names.dedup();
    names
}

/// The number by which the shim knows a place.
#[track_caller]
pub(super) fn number(name: &str) -> usize {
    let names = names();
    let number = names.iter().position(|known| *known == name);
    number.unwrap_or_else(|| panic!("there is no place {name}: there are {}", names.join(", ")))
}

/// The table as the shim reads it.
pub(super) fn lines() -> String {
    let mut lines = String::new();
    for (name, kinds, glob) in TABLE {
        for kind in *kinds {
            let _ = writeln!(lines, "{} {} {glob}", number(name), kind.name());
        }
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_has_a_row_for_what_is_left() {
        for kind in [Create, Write, Size, Sync, FolderSync, Rename, Unlink, Mkdir, Link, Read] {
            let rest = TABLE.iter().rfind(|(_, kinds, _)| kinds.contains(&kind));
            assert_eq!(rest.map(|(_, _, glob)| *glob), Some("*"), "{kind:?}");
        }
    }

    #[test]
    fn a_name_is_in_one_piece_of_the_table() {
        let mut names = names();
        names.sort_unstable();
        let count = names.len();
        names.dedup();
        assert_eq!(names.len(), count);
    }
}
